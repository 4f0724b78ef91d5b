"""The official SDK `alibabacloud-oss-v2`, unmodified, against the server."""

from __future__ import annotations

import random
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

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
    TruncateBody,
)

oss = lazy_package("alibabacloud_oss_v2")

_PART = 100 * 1024
_DATA = random.Random(2).randbytes(3 * _PART + 12_345)
_KEY = "dir/three parts+中.bin"


@pytest.fixture(params=["v1", "v4"])
def client_with(request: pytest.FixtureRequest, sdk_connections: None) -> Callable[..., Any]:
    """Makes a client for a server, for each signature version."""

    def make(server: OSSServer, **settings: Any) -> Any:
        config = oss.config.load_default()
        config.credentials_provider = oss.credentials.StaticCredentialsProvider(
            server.access_key_id, server.access_key_secret, server.security_token
        )
        config.region = server.region
        config.endpoint = server.endpoint
        config.signature_version = request.param
        for name, value in settings.items():
            setattr(config, name, value)
        return oss.Client(config)

    return make


@pytest.fixture
def sdk(served: OSSServer, client_with: Callable[..., Any]) -> Any:
    return client_with(served)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(_DATA)
    return path


def _upload(sdk: Any, source: Path, **settings: Any) -> Any:
    uploader = sdk.uploader(
        part_size=_PART, enable_checkpoint=True, checkpoint_dir=f"{source.parent}/", **{"parallel_num": 3, **settings}
    )
    return uploader.upload_file(oss.PutObjectRequest(bucket="examplebucket", key=_KEY), filepath=str(source))


def _read(sdk: Any, key: str = _KEY, **settings: Any) -> bytes:
    with sdk.get_object(oss.GetObjectRequest(bucket="examplebucket", key=key, **settings)).body as body:
        content = body.content
    assert isinstance(content, bytes)
    return content


def _service_error(caught: Any) -> Any:
    error = caught.value
    while not isinstance(error, oss.exceptions.ServiceError):
        error = error.unwrap()
    return error


def test_an_upload_arrives(served: OSSServer, sdk: Any, source: Path) -> None:
    result = _upload(sdk, source)
    assert result.status_code == 200
    assert int(result.hash_crc64) == crc64(_DATA)
    assert _read(sdk) == _DATA
    assert len(served.requests_of("UploadPart")) == 4


def test_an_upload_is_resumed(served: OSSServer, sdk: Any, source: Path) -> None:
    served.plan(ServerFault("UploadPart", Fail("AccessDenied"), part_number=3))
    with pytest.raises(oss.exceptions.BaseError):
        _upload(sdk, source, parallel_num=1)
    assert _upload(sdk, source, parallel_num=1).status_code == 200
    assert [request.part_number for request in served.requests_of("UploadPart")] == [1, 2, 3, 3, 4]
    assert len(served.requests_of("InitiateMultipartUpload")) == 1
    assert _read(sdk) == _DATA


def test_an_upload_that_no_longer_exists_is_started_again(served: OSSServer, sdk: Any, source: Path) -> None:
    served.plan(ServerFault("UploadPart", Fail("AccessDenied"), part_number=3))
    with pytest.raises(oss.exceptions.BaseError):
        _upload(sdk, source, parallel_num=1)
    served.plan(ServerFault("ListParts", ForgetUpload()))
    assert _upload(sdk, source, parallel_num=1).status_code == 200
    assert len(served.requests_of("InitiateMultipartUpload")) == 2


def test_a_part_with_a_transient_failure_is_retried(
    served: OSSServer, client_with: Callable[..., Any], source: Path
) -> None:
    at_once = oss.retry.StandardRetryer(backoff_delayer=oss.retry.FixedDelayBackoff(0.0))
    sdk = client_with(served, retryer=at_once)
    served.plan(
        ServerFault("UploadPart", Fail("InternalError"), part_number=1),
        ServerFault("UploadPart", CorruptBody(), part_number=2),
        ServerFault("UploadPart", LoseResponse(reset=True), part_number=3),
        ServerFault("CompleteMultipartUpload", Fail("ServiceUnavailable")),
    )
    assert _upload(sdk, source, parallel_num=1).status_code == 200
    assert [request.part_number for request in served.requests_of("UploadPart")] == [1, 1, 2, 2, 3, 3, 4]
    assert _read(sdk) == _DATA


def test_a_small_file_is_stored_by_one_request(served: OSSServer, sdk: Any, tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"small")
    sdk.uploader().upload_file(oss.PutObjectRequest(bucket="examplebucket", key="small"), str(tmp_path / "small"))
    assert [request.operation for request in served.requests] == ["PutObject"]
    assert _read(sdk, "small") == b"small"


def test_a_multipart_upload_request_by_request(sdk: Any) -> None:
    names = {"bucket": "examplebucket", "key": _KEY}
    initiated = sdk.initiate_multipart_upload(
        oss.InitiateMultipartUploadRequest(**names, metadata={"author": "someone"}, content_type="text/x")
    )
    assert initiated.key == _KEY
    ids = {**names, "upload_id": initiated.upload_id}
    parts = []
    for number, data in ((1, _DATA[:_PART]), (2, b"end")):
        result = sdk.upload_part(oss.UploadPartRequest(**ids, part_number=number, body=data))
        assert int(result.hash_crc64) == crc64(data)
        parts.append(oss.UploadPart(part_number=number, etag=result.etag))
    pages = sdk.list_parts_paginator(limit=1).iter_page(oss.ListPartsRequest(**ids))
    listed = [part for page in pages for part in page.parts]
    assert [(part.part_number, part.etag) for part in listed] == [(part.part_number, part.etag) for part in parts]
    assert [int(part.hash_crc64) for part in listed] == [crc64(_DATA[:_PART]), crc64(b"end")]
    request = oss.ListMultipartUploadsRequest(bucket="examplebucket")
    uploads = [
        found for page in sdk.list_multipart_uploads_paginator(limit=1).iter_page(request) for found in page.uploads
    ]
    assert [(found.key, found.upload_id) for found in uploads] == [(_KEY, initiated.upload_id)]
    done = sdk.complete_multipart_upload(
        oss.CompleteMultipartUploadRequest(
            **ids, complete_multipart_upload=oss.CompleteMultipartUpload(parts=parts), acl="private"
        )
    )
    assert (done.key, int(done.hash_crc64)) == (_KEY, crc64(_DATA[:_PART] + b"end"))
    head = sdk.head_object(oss.HeadObjectRequest(**names))
    assert (head.content_type, head.metadata["author"], head.object_type) == ("text/x", "someone", "Multipart")
    assert sdk.get_object_acl(oss.GetObjectAclRequest(**names)).acl == "private"


def test_complete_all(sdk: Any) -> None:
    names = {"bucket": "examplebucket", "key": "key"}
    upload_id = sdk.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(**names)).upload_id
    sdk.upload_part(oss.UploadPartRequest(**names, upload_id=upload_id, part_number=1, body=b"data"))
    sdk.complete_multipart_upload(oss.CompleteMultipartUploadRequest(**names, upload_id=upload_id, complete_all="yes"))
    assert _read(sdk, "key") == b"data"


def test_an_upload_is_aborted(sdk: Any) -> None:
    names = {"bucket": "examplebucket", "key": "key"}
    upload_id = sdk.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(**names)).upload_id
    request = oss.AbortMultipartUploadRequest(**names, upload_id=upload_id)
    assert sdk.abort_multipart_upload(request).status_code == 204
    with pytest.raises(oss.exceptions.OperationError) as caught:
        sdk.abort_multipart_upload(request)
    assert (_service_error(caught).code, _service_error(caught).ec) == ("NoSuchUpload", "0017-00000244")


@pytest.mark.parametrize("key", ["plain", "a b+c%25", "中文/é😀", "x?y&z=#", "~._-!*'()"])
def test_objects_of_any_name(sdk: Any, key: str) -> None:
    names = {"bucket": "examplebucket", "key": key}
    stored = sdk.put_object(oss.PutObjectRequest(**names, body=b"data", tagging="a=1&b=2"))
    assert int(stored.hash_crc64) == crc64(b"data")
    assert _read(sdk, key) == b"data"
    assert _read(sdk, key, range_header="bytes=1-99", range_behavior="standard") == b"ata"
    listing = sdk.list_objects_v2_paginator(limit=1).iter_page(oss.ListObjectsV2Request(bucket="examplebucket"))
    assert [found.key for page in listing for found in page.contents] == [key]
    first = sdk.list_objects(oss.ListObjectsRequest(bucket="examplebucket"))
    assert [(found.key, found.size) for found in first.contents] == [(key, 4)]
    head = sdk.head_object(oss.HeadObjectRequest(**names))
    assert (head.content_length, head.tagging_count, head.object_type) == (4, 2, "Normal")
    assert sdk.get_object_meta(oss.GetObjectMetaRequest(**names)).content_length == 4
    assert sdk.is_object_exist("examplebucket", key)
    assert sdk.delete_object(oss.DeleteObjectRequest(**names)).status_code == 204
    assert not sdk.is_object_exist("examplebucket", key)


def test_presigned_urls(served: OSSServer, sdk: Any) -> None:
    names = {"bucket": "examplebucket", "key": "dir/a b"}
    put = sdk.presign(oss.PutObjectRequest(**names, content_type="text/x"))
    with urllib.request.urlopen(
        urllib.request.Request(put.url, b"data", dict(put.signed_headers), method="PUT")
    ) as answer:
        assert answer.status == 200
    get = sdk.presign(oss.GetObjectRequest(**names))
    with urllib.request.urlopen(get.url) as answer:
        assert (answer.read(), answer.headers["Content-Type"]) == (b"data", "text/x")
    served.settings = evolve(served.settings, clock_offset=3600)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(get.url)
    with caught.value as answer:
        assert b"Request has expired" in answer.read()


def test_errors_are_those_of_the_service(served: OSSServer, client_with: Callable[..., Any]) -> None:
    sdk = client_with(served)
    head = oss.HeadObjectRequest(bucket="examplebucket", key="missing")
    with pytest.raises(oss.exceptions.OperationError) as caught:
        sdk.head_object(head)
    error = _service_error(caught)
    assert (error.status_code, error.code, error.ec) == (404, "NoSuchKey", "0026-00000001")
    assert not sdk.is_bucket_exist("nothing-here")
    assert sdk.is_bucket_exist("examplebucket")
    served.settings = evolve(served.settings, access_keys=(AccessKey(served.access_key_id, "another"),))
    with pytest.raises(oss.exceptions.OperationError) as caught:
        sdk.head_object(head)
    assert _service_error(caught).code == "SignatureDoesNotMatch"
    served.settings = evolve(served.settings, access_keys=(AccessKey("another", "another"),))
    with pytest.raises(oss.exceptions.OperationError) as caught:
        sdk.head_object(head)
    assert _service_error(caught).code == "InvalidAccessKeyId"


def test_a_truncated_document_is_an_error(served: OSSServer, sdk: Any) -> None:
    served.plan(ServerFault("InitiateMultipartUpload", TruncateBody(60)))
    with pytest.raises(ET.ParseError):
        sdk.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(bucket="examplebucket", key="key"))


def test_temporary_credentials(client_with: Callable[..., Any], source: Path, request: pytest.FixtureRequest) -> None:
    key = AccessKey("STS.testid", "secret", "a token/with+chars==")
    with OSSServer(settings=ServerSettings(access_keys=[key])) as server:
        sdk = client_with(server)
        if "v1" in request.node.name:
            # With V1 this client puts the token where the specification does not allow it.
            with pytest.raises(oss.exceptions.BaseError):
                _upload(sdk, source)
        else:
            assert _upload(sdk, source).status_code == 200
            assert _read(sdk) == _DATA


def test_additional_headers(served: OSSServer, client_with: Callable[..., Any]) -> None:
    sdk = client_with(served, additional_headers=["host", "content-length", "user-agent"])
    sdk.put_object(oss.PutObjectRequest(bucket="examplebucket", key="key", body=b"data"))
    assert _read(sdk, "key") == b"data"


def test_buckets(sdk: Any) -> None:
    sdk.put_bucket(oss.PutBucketRequest(bucket="another-one"))
    info = sdk.get_bucket_info(oss.GetBucketInfoRequest(bucket="another-one"))
    assert info.bucket_info.name == "another-one"
    location = sdk.get_bucket_location(oss.GetBucketLocationRequest(bucket="another-one"))
    assert location.location == "oss-cn-hangzhou"
    assert [found.name for found in sdk.list_buckets(oss.ListBucketsRequest()).buckets] == [
        "another-one",
        "examplebucket",
    ]
