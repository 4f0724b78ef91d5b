"""The official SDK `oss2`, unmodified, against the server."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from shared.lazy import lazy_package

from partwise.checksums import crc64
from partwise.server import (
    AccessKey,
    CorruptBody,
    Fail,
    ForgetUpload,
    LoseResponse,
    OSSServer,
    ServerFault,
    ServerSettings,
)

oss2 = lazy_package("oss2")

pytestmark = pytest.mark.filterwarnings(
    "ignore:The 'warn' method is deprecated:DeprecationWarning:oss2.resumable",
    "ignore:datetime.datetime.utcnow:DeprecationWarning:oss2.auth",
)

_PART = 100 * 1024
_DATA = random.Random(1).randbytes(3 * _PART + 12_345)


@pytest.fixture(params=["v1", "v4"])
def bucket_of(request: pytest.FixtureRequest, sdk_connections: None) -> Callable[..., Any]:
    """Makes the bucket of a client for a server, for each signature version."""

    def make(server: OSSServer, name: str = "examplebucket") -> Any:
        key = (server.access_key_id, server.access_key_secret)
        if server.security_token is not None:
            provider = oss2.credentials.StaticCredentialsProvider(*key, server.security_token)
            auth = (oss2.ProviderAuth if request.param == "v1" else oss2.ProviderAuthV4)(provider)
        else:
            auth = (oss2.Auth if request.param == "v1" else oss2.AuthV4)(*key)
        session = oss2.Session()
        region = None if request.param == "v1" else server.region
        return oss2.Bucket(auth, server.endpoint, name, session=session, region=region, connect_timeout=20)

    return make


@pytest.fixture
def bucket(served: OSSServer, bucket_of: Callable[..., Any]) -> Any:
    return bucket_of(served)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(_DATA)
    return path


def _upload(bucket: Any, source: Path, key: str = "dir/three parts+中.bin", **settings: Any) -> Any:
    store = oss2.ResumableStore(str(source.parent))
    return oss2.resumable_upload(
        bucket, key, str(source), store=store, part_size=_PART, multipart_threshold=_PART, **settings
    )


def test_a_resumable_upload_arrives(served: OSSServer, bucket: Any, source: Path) -> None:
    result = _upload(bucket, source, num_threads=3)
    assert result.status == 200
    assert bucket.get_object("dir/three parts+中.bin").read() == _DATA
    assert Counter(request.operation for request in served.requests)["UploadPart"] == 4


def test_a_resumable_upload_is_resumed(served: OSSServer, bucket: Any, source: Path) -> None:
    served.plan(ServerFault("UploadPart", Fail("InternalError"), part_number=3))
    with pytest.raises(oss2.exceptions.ServerError):
        _upload(bucket, source, num_threads=1)
    assert _upload(bucket, source, num_threads=1).status == 200
    sent = [request.part_number for request in served.requests_of("UploadPart")]
    assert sent == [1, 2, 3, 3, 4]
    assert bucket.get_object("dir/three parts+中.bin").read() == _DATA


def test_an_upload_that_no_longer_exists_is_started_again(served: OSSServer, bucket: Any, source: Path) -> None:
    served.plan(ServerFault("UploadPart", Fail("InternalError"), part_number=3))
    with pytest.raises(oss2.exceptions.ServerError):
        _upload(bucket, source, num_threads=1)
    served.plan(ServerFault("ListParts", ForgetUpload()))
    assert _upload(bucket, source, num_threads=1).status == 200
    assert len(served.requests_of("InitiateMultipartUpload")) == 2
    assert bucket.get_object("dir/three parts+中.bin").read() == _DATA


def test_the_client_detects_a_corrupted_part(served: OSSServer, bucket: Any, source: Path) -> None:
    served.plan(ServerFault("UploadPart", CorruptBody(at=5), part_number=2))
    with pytest.raises(oss2.exceptions.InconsistentError):
        _upload(bucket, source, num_threads=1)


def test_the_client_reports_a_lost_response(served: OSSServer, bucket: Any, source: Path) -> None:
    served.plan(ServerFault("CompleteMultipartUpload", LoseResponse()))
    with pytest.raises(oss2.exceptions.RequestError):
        _upload(bucket, source, num_threads=1)
    assert bucket.get_object("dir/three parts+中.bin").read() == _DATA


def test_a_multipart_upload_request_by_request(bucket: Any) -> None:
    key = "by hand"
    upload_id = bucket.init_multipart_upload(key, headers={"x-oss-meta-a": "b"}).upload_id
    parts = []
    for number, data in ((1, _DATA[:_PART]), (2, _DATA[_PART : 2 * _PART])):
        result = bucket.upload_part(key, upload_id, number, data)
        assert result.crc == crc64(data)
        parts.append(oss2.models.PartInfo(number, result.etag, size=len(data), part_crc=result.crc))
    listed = list(oss2.PartIterator(bucket, key, upload_id, max_parts=1))
    assert [(part.part_number, part.size, part.etag) for part in listed] == [
        (part.part_number, part.size, part.etag) for part in parts
    ]
    assert [upload.key for upload in oss2.MultipartUploadIterator(bucket, max_uploads=1)] == [key]
    assert bucket.complete_multipart_upload(key, upload_id, parts).crc == crc64(_DATA[: 2 * _PART])
    assert bucket.head_object(key).headers["x-oss-meta-a"] == "b"
    assert list(oss2.MultipartUploadIterator(bucket)) == []


def test_an_upload_is_aborted(bucket: Any) -> None:
    upload_id = bucket.init_multipart_upload("key").upload_id
    assert bucket.abort_multipart_upload("key", upload_id).status == 204
    with pytest.raises(oss2.exceptions.NoSuchUpload):
        bucket.abort_multipart_upload("key", upload_id)


def test_complete_all(bucket: Any) -> None:
    upload_id = bucket.init_multipart_upload("key").upload_id
    bucket.upload_part("key", upload_id, 1, b"data")
    bucket.complete_multipart_upload("key", upload_id, None, headers={"x-oss-complete-all": "yes"})
    assert bucket.get_object("key").read() == b"data"


@pytest.mark.parametrize("key", ["plain", "a b+c%25", "中文/é😀", "x?y&z=#", "~._-!*'()"])
def test_objects_of_any_name(bucket: Any, key: str) -> None:
    assert bucket.put_object(key, b"data").crc == crc64(b"data")
    assert bucket.get_object(key).read() == b"data"
    assert bucket.get_object(key, byte_range=(1, 2)).read() == b"at"
    assert [found.key for found in oss2.ObjectIterator(bucket)] == [key]
    assert [found.key for found in oss2.ObjectIteratorV2(bucket)] == [key]
    head = bucket.head_object(key)
    assert (head.content_length, head.server_crc) == (4, crc64(b"data"))
    assert bucket.get_object_meta(key).content_length == 4
    assert bucket.object_exists(key)
    assert bucket.delete_object(key).status == 204
    assert not bucket.object_exists(key)


def test_presigned_urls(served: OSSServer, bucket: Any) -> None:
    url = bucket.sign_url("PUT", "dir/a b", 60, headers={"Content-Type": "text/plain"})
    bucket.put_object_with_url(url, b"data", headers={"Content-Type": "text/plain"})
    assert bucket.get_object_with_url(bucket.sign_url("GET", "dir/a b", 60)).read() == b"data"
    assert bucket.get_object_with_url(bucket.sign_url("GET", "dir/a b", 60, slash_safe=True)).read() == b"data"
    url = bucket.sign_url("GET", "dir/a b", 1)
    served.settings = evolve(served.settings, clock_offset=60)
    with pytest.raises(oss2.exceptions.AccessDenied, match="Request has expired"):
        bucket.get_object_with_url(url)


def test_errors_are_those_of_the_service(served: OSSServer, bucket_of: Callable[..., Any]) -> None:
    bucket = bucket_of(served)
    with pytest.raises(oss2.exceptions.NoSuchKey) as missing:
        bucket.get_object("missing")
    assert (missing.value.status, missing.value.details["EC"]) == (404, "0026-00000001")
    with pytest.raises(oss2.exceptions.NotFound):
        bucket.head_object("missing")
    with pytest.raises(oss2.exceptions.NoSuchBucket):
        bucket_of(served, "nothing-here").get_bucket_info()
    served.settings = evolve(served.settings, access_keys=(AccessKey(served.access_key_id, "another"),))
    with pytest.raises(oss2.exceptions.SignatureDoesNotMatch) as wrong:
        bucket.put_object("key", b"data")
    assert "StringToSign" in wrong.value.details
    served.settings = evolve(served.settings, access_keys=(AccessKey("another", "another"),))
    with pytest.raises(oss2.exceptions.ServerError, match="InvalidAccessKeyId"):
        bucket.put_object("key", b"data")


def test_a_wrong_clock_is_reported(served: OSSServer, bucket: Any) -> None:
    served.settings = evolve(served.settings, clock_offset=1000)
    with pytest.raises(oss2.exceptions.ServerError, match="RequestTimeTooSkewed"):
        bucket.put_object("key", b"data")


def test_overwriting_is_refused(bucket: Any) -> None:
    bucket.put_object("key", b"1", headers={"x-oss-forbid-overwrite": "true"})
    with pytest.raises(oss2.exceptions.ServerError, match="FileAlreadyExists"):
        bucket.put_object("key", b"2", headers={"x-oss-forbid-overwrite": "true"})


def test_temporary_credentials(bucket_of: Callable[..., Any], source: Path) -> None:
    key = AccessKey("STS.testid", "secret", "a token/with+chars==")
    with OSSServer(settings=ServerSettings(access_keys=[key])) as server:
        bucket = bucket_of(server)
        assert _upload(bucket, source).status == 200
        assert bucket.get_object_with_url(bucket.sign_url("GET", "dir/three parts+中.bin", 60)).read() == _DATA
        server.plan(ServerFault("PutObject", Fail("SecurityTokenExpired")))
        with pytest.raises(oss2.exceptions.ServerError, match="SecurityTokenExpired"):
            bucket.put_object("key", b"data")


def test_a_generator_is_sent_in_chunks(bucket: Any) -> None:
    bucket.put_object("key", iter([b"one", b"two"]))
    assert bucket.get_object("key").read() == b"onetwo"


def test_buckets(served: OSSServer, bucket_of: Callable[..., Any]) -> None:
    bucket = bucket_of(served, "another-one")
    bucket.create_bucket()
    assert bucket.get_bucket_info().name == "another-one"
    assert bucket.get_bucket_location().location == "oss-cn-hangzhou"
    assert bucket.get_bucket_acl().acl == "private"
    service = oss2.Service(bucket.auth, served.endpoint, session=bucket.session, region=bucket.region)
    assert [found.name for found in service.list_buckets().buckets] == ["another-one", "examplebucket"]
