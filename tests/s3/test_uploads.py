"""Whole uploads by the engine, to a server that emulates S3 and fails on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import evolve

from partwise import IntegrityError, ObjectExists, TransferConfig, Uploader, UploadFailed
from partwise.backends.memory import MemoryBackend
from partwise.backends.s3 import DIALECTS, Credentials, S3Backend, S3Options
from partwise.model import KIB
from partwise.server.faults import CorruptBody, Fail, LoseResponse, ServerFault, WrongChecksum
from partwise.server.s3.server import S3Server
from partwise.server.settings import AccessKey, ServerSettings
from partwise.sources import BytesSource
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing.fakes import pseudo_random_bytes

PART = 100 * KIB
DATA = pseudo_random_bytes(5 * PART + 7, "s3")
PAIR = AccessKey("partwise-test-id", "partwise-test-secret")


@pytest.fixture
def bucket() -> Iterator[MemoryBackend]:
    """What the server stores in."""
    with MemoryBackend("examplebucket") as stored:
        yield stored


@pytest.fixture
def s3_server(bucket: MemoryBackend, request: pytest.FixtureRequest) -> Iterator[S3Server]:
    """A server with small parts, and with the settings of a parameter."""
    more = getattr(request, "param", {})
    settings = ServerSettings(access_keys=(PAIR,), region="us-east-1", min_part_size=PART, **more)
    with S3Server({"examplebucket": bucket}, settings=settings) as server:
        yield server


@pytest.fixture
def upload(s3_server: S3Server) -> Iterator[Callable[..., Any]]:
    """A function that uploads, each time by a new backend and with the same checkpoints."""
    aws, store = DIALECTS["aws"], MemoryCheckpointStore()
    dialect = evolve(aws, limits=evolve(aws.limits, min_part_size=PART))

    def run(data: bytes = DATA, **options: Any) -> Any:
        with S3Backend(
            "examplebucket",
            endpoint=s3_server.endpoint,
            dialect=dialect,
            credentials=Credentials(PAIR.access_key_id, PAIR.access_key_secret),
        ) as backend:
            config = TransferConfig(part_size=PART, multipart_threshold=PART, concurrency=2, retry_base=0.0)
            uploader = Uploader(backend, store=store, config=config)
            return uploader.upload(BytesSource(data, name="source"), "k", options=S3Options(**options))

    return run


def count(server: S3Server, operation: str) -> int:
    return len(server.requests_of(operation))


def test_an_object_is_verified_by_the_storage(upload, bucket):
    result = upload(content_type="text/plain")

    assert result.verified
    assert result.checksum_algorithm == "crc64nvme"
    assert bucket.read("k") == DATA


def test_a_small_object_is_verified_too(upload, bucket):
    assert upload(b"small").verified
    assert bucket.read("k") == b"small"


def test_a_part_that_arrived_damaged_is_sent_again(upload, bucket, s3_server):
    s3_server.plan(ServerFault("UploadPart", CorruptBody(at=5), occurrence=3))

    assert upload().verified
    assert bucket.read("k") == DATA
    assert count(s3_server, "UploadPart") == 7


def test_an_object_that_is_not_what_was_sent_is_not_reported_as_stored(upload, s3_server):
    s3_server.plan(ServerFault("CompleteMultipartUpload", WrongChecksum()))

    with pytest.raises(UploadFailed) as caught:
        upload()
    assert isinstance(caught.value.__cause__, IntegrityError)


def test_a_lost_response_of_complete_is_settled_without_a_second_one(upload, bucket, s3_server):
    s3_server.plan(ServerFault("CompleteMultipartUpload", LoseResponse()))

    assert upload().verified
    assert bucket.read("k") == DATA
    assert count(s3_server, "CompleteMultipartUpload") == 1


def test_a_failed_upload_is_resumed_with_its_id(upload, bucket, s3_server):
    s3_server.plan(ServerFault("UploadPart", Fail("AccessDenied"), occurrence=4))

    with pytest.raises(UploadFailed) as caught:
        upload()
    assert caught.value.resumable
    sent = count(s3_server, "UploadPart")
    assert upload().verified

    assert bucket.read("k") == DATA
    assert count(s3_server, "CreateMultipartUpload") == 1
    assert count(s3_server, "UploadPart") - sent < 6


def test_an_upload_that_can_never_be_completed_is_begun_anew(upload, bucket, s3_server):
    s3_server.plan(ServerFault("CompleteMultipartUpload", Fail("ConditionalRequestConflict")))

    assert upload(forbid_overwrite=True).verified
    assert bucket.read("k") == DATA
    assert (count(s3_server, "CreateMultipartUpload"), count(s3_server, "AbortMultipartUpload")) == (2, 1)
    assert list(bucket.list_uploads()) == []


def test_an_object_that_exists_is_kept(upload, bucket, s3_server):
    upload(b"first")
    with pytest.raises(UploadFailed) as caught:
        upload(forbid_overwrite=True)

    assert isinstance(caught.value.__cause__, ObjectExists)
    assert bucket.read("k") == b"first"
    assert count(s3_server, "UploadPart") == 0


def test_a_lost_response_to_one_piece_is_not_an_object_of_another(upload, bucket, s3_server):
    s3_server.plan(ServerFault("PutObject", LoseResponse()))

    assert upload(b"small", forbid_overwrite=True).verified
    assert bucket.read("k") == b"small"


@pytest.mark.parametrize("s3_server", [{"require_digests": True}], indirect=True)
def test_a_bucket_that_demands_checksums_refuses_no_more_than_a_part_of_each_worker(upload, bucket, s3_server):
    assert upload().verified
    assert bucket.read("k") == DATA
    refused = [request for request in s3_server.requests_of("UploadPart") if request.status == 400]
    assert 1 <= len(refused) <= 2
    assert all("x-amz-checksum-crc64nvme" not in request.headers for request in refused)
