"""Backends for three shapes of storages keep the contract; what their services store is verified."""

from __future__ import annotations

import pytest

from partwise import IntegrityError, ObjectOptions, TransferConfig, Uploader, UploadFailed
from partwise.errors import UploadUnusable
from partwise.sources import BytesSource
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing import BackendConformance
from partwise.testing.fakes import pseudo_random_bytes
from toys.harnesses import (
    SHAPES,
    AzureHarness,
    AzureWithoutChecksumsHarness,
    EqualPartsHarness,
    S3Harness,
    SessionHarness,
    SessionWithoutChecksumsHarness,
)


class TestS3(BackendConformance):
    harness = S3Harness


class TestS3WithEqualParts(BackendConformance):
    harness = EqualPartsHarness


class TestAzure(BackendConformance):
    harness = AzureHarness


class TestAzureWithoutChecksums(BackendConformance):
    harness = AzureWithoutChecksumsHarness
    test_any_sequence_of_calls = None  # which does not look at the checksums of objects


class TestSessions(BackendConformance):
    harness = SessionHarness


class TestSessionsWithoutChecksums(BackendConformance):
    harness = SessionWithoutChecksumsHarness
    test_any_sequence_of_calls = None  # likewise, and parts that are sent again have the same bytes


PART = 8
DATA = pseudo_random_bytes(3 * PART + 5)
REPORTED = [name for name, harness in SHAPES.items() if harness.checksums]


@pytest.fixture(params=SHAPES)
def toy(request):
    """Create the harness of each shape."""
    with SHAPES[request.param]() as harness:
        yield harness


def upload(toy, *, options=None, threshold=0, store=None):
    config = TransferConfig(part_size=PART, multipart_threshold=threshold, concurrency=3)
    uploader = Uploader(toy.open_for_test(), store=store or MemoryCheckpointStore(), config=config)
    return uploader.upload(BytesSource(DATA), "key", options=options or ObjectOptions())


def test_an_object_is_verified_where_the_storage_reports_a_checksum(toy):
    result = upload(toy)

    assert toy.read("key") == DATA
    assert (result.verified, result.parts_sent) == (toy.checksums, 4)


@pytest.mark.parametrize("name", REPORTED)
def test_a_bit_that_flips_between_the_parts_and_the_object_is_noticed(name):
    with SHAPES[name]() as toy:
        toy.service.flips = True

        with pytest.raises(UploadFailed) as failed:
            upload(toy)

    assert isinstance(failed.value.__cause__, IntegrityError)


@pytest.fixture
def s3():
    with S3Harness() as toy:
        yield toy


def test_an_upload_that_meets_a_conflict_is_aborted_and_sent_again(s3):
    s3.service.conflicts = 1

    result = upload(s3)

    assert s3.read("key") == DATA
    assert result.verified
    assert len(result.warnings) == 1
    assert "ConditionalRequestConflict" in result.warnings[0]
    assert s3.service.uploads == {}


def test_an_upload_that_meets_a_conflict_twice_fails(s3):
    s3.service.conflicts = 2

    with pytest.raises(UploadFailed) as failed:
        upload(s3)

    assert isinstance(failed.value.__cause__, UploadUnusable)
    assert s3.read("key") is None
    assert s3.service.uploads == {}
