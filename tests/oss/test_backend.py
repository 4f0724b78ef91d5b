"""The nine operations of the backend, and their errors."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import itertools
import logging
import pickle
import re
import socket
import ssl
import threading
import traceback
from datetime import UTC, datetime
from urllib.parse import quote
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from partwise import TransferConfig, Uploader
from partwise.backends import _bucket_backend as backend_module
from partwise.backends.oss import Callback, Credentials, OSSBackend, OSSOptions
from partwise.checksums import crc64
from partwise.errors import (
    AccessDenied,
    BackendError,
    BucketNotFound,
    CallbackError,
    ClockSkewed,
    CredentialsExpired,
    IntegrityError,
    InvalidInput,
    InvalidKey,
    ObjectExists,
    PartRejected,
    PartwiseError,
    ServerFailed,
    Throttled,
    UploadNotFound,
)
from partwise.model import ObjectOptions, PendingUpload, StoredObject, UploadedPart
from partwise.paging import ResultPage, list_pages
from partwise.protocols import MultipartBackend, SupportsRequestOptions
from partwise.sources import BytesSource
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing.fakes import ChunkListBody

PLAIN = ObjectOptions()
NOW = 1741507626.0
PARTS = [UploadedPart(1, 102400, "AAA", 1), UploadedPart(3, 5, "BBB", 2)]
CALLBACK = OSSOptions(callback=Callback("http://cb/", "object=${object}"))


# --- properties and settings -----------------------------------------------------------------------------------------


def test_the_backend_implements_the_protocols(oss):
    assert isinstance(oss, MultipartBackend)
    assert isinstance(oss, SupportsRequestOptions)


def test_limits_and_capabilities(oss):
    limits = oss.limits
    assert (limits.min_part_size, limits.max_part_size, limits.max_parts) == (102_400, 5_368_709_120, 10_000)
    assert (limits.max_object_size, limits.max_put_size) == (53_687_091_200_000, 5_368_709_120)
    assert (oss.capabilities.part_checksums, oss.capabilities.object_checksums) == (True, True)


def test_a_repr_shows_the_endpoint_and_no_secret(server, oss):
    shown = repr(oss)
    assert "OSSBackend('examplebucket'" in shown
    assert (server.endpoint in shown, "cn-hangzhou" in shown, "secret" in shown, "testid" in shown) == (
        True,
        True,
        False,
        False,
    )
    oss.close()
    assert "closed" in repr(oss)


def test_the_location_identifies_the_bucket_without_credentials(server, oss):
    assert oss.location == f"oss://examplebucket@127.0.0.1:{server.port}"
    assert oss.with_request_options(PLAIN).location == oss.location


@pytest.mark.parametrize(
    "bad",
    [
        {"signature_version": "v2"},
        {"connect_timeout": 0},
        {"read_timeout": -1.0},
        {"read_timeout": float("inf")},
        {"connect_timeout": "10"},
        {"connect_timeout": True},
        {"max_connections": 0},
        {"page_size": 0},
        {"page_size": 1001},
        {"user_agent": "a\r\nb"},
        {"credentials": 5},
        {"proxy": "nonsense"},
        {"bucket": "Bad_Bucket"},
    ],
)
def test_an_invalid_setting_is_refused_at_once(connect, bad):
    with pytest.raises(InvalidInput):
        connect(**bad)


def test_the_default_scheme_is_https():
    with OSSBackend("examplebucket", region="cn-hangzhou", credentials=Credentials("i", "s")) as backend:
        assert backend.endpoint == "https://examplebucket.oss-cn-hangzhou.aliyuncs.com"


def test_the_user_agent_is_partwise_unless_it_is_set(server, connect):
    for agent in (None, "mine/1.0"):
        connect(user_agent=agent).head_object("key")
    assert server.requests[0].header("user-agent").startswith("partwise/")
    assert server.requests[1].header("user-agent") == "mine/1.0"


# --- initiate --------------------------------------------------------------------------------------------------------


def test_initiate_returns_the_upload_id_and_guesses_the_content_type(server, oss, kit):
    server.reply(kit.initiated("0004B9895DBBB6EC98E36A8D77C1"))
    assert oss.initiate_upload("dir/photo.jpg", PLAIN) == "0004B9895DBBB6EC98E36A8D77C1"
    request = server.requests[0]
    assert (request.method, request.query) == ("POST", {"uploads": "", "encoding-type": "url"})
    assert (request.header("content-type"), request.header("content-length")) == ("image/jpeg", "0")


@pytest.mark.parametrize("body", ["", "<html/>", "<!DOCTYPE x><InitiateMultipartUploadResult/>", "<Error></Error>"])
def test_a_response_without_an_upload_id_is_retryable(server, oss, kit, body):
    server.reply(kit.response(body=body))
    with pytest.raises(ServerFailed, match="invalid response") as raised:
        oss.initiate_upload("key", PLAIN)
    assert (raised.value.retryable, raised.value.request_id) == (True, "67CD4A3A0000000000000001")


def test_initiate_checks_options_of_complete_too(server, oss):
    with pytest.raises(InvalidInput, match="callback"):
        oss.initiate_upload("key", OSSOptions(callback=Callback("", "x")))
    assert server.requests == []


@pytest.mark.parametrize(
    "call",
    [
        lambda oss, body, options: oss.initiate_upload("key", options),
        lambda oss, body, options: oss.put_object("key", body(b"x"), options),
        lambda oss, body, options: oss.complete_upload("key", "ID", PARTS, options),
    ],
)
def test_an_invalid_option_is_refused_before_anything_is_sent(server, oss, body, call):
    with pytest.raises(InvalidInput):
        call(oss, body, ObjectOptions(metadata={"a": "b\r\nx-oss-object-acl: public-read"}))
    assert server.requests == []


@pytest.mark.parametrize("key", ["", "/a", "\\a", "a" * 1024])
def test_an_invalid_key_is_refused_before_anything_is_sent(server, oss, body, key):
    for call in (
        lambda: oss.initiate_upload(key, PLAIN),
        lambda: oss.upload_part(key, "ID", 1, body(b"x")),
        lambda: oss.list_parts(key, "ID"),
        lambda: oss.complete_upload(key, "ID", PARTS, PLAIN),
        lambda: oss.abort_upload(key, "ID"),
        lambda: oss.put_object(key, body(b"x"), PLAIN),
        lambda: oss.head_object(key),
    ):
        with pytest.raises(InvalidKey):
            call()
    assert server.requests == []


# --- parts -----------------------------------------------------------------------------------------------------------


def test_a_part_has_the_etag_and_the_checksum_of_oss(server, oss, body):
    data = b"some bytes"
    part = oss.upload_part("dir/key", "ID", 10_000, body(data))
    md5 = hashlib.md5(data).hexdigest().upper()
    assert part == UploadedPart(10_000, len(data), md5, crc64(data))
    assert server.requests[0].query == {"partNumber": "10000", "uploadId": "ID"}


def test_a_part_without_a_checksum_has_none(server, oss, body, kit):
    server.reply(kit.response(ETag='"E"'))
    assert oss.upload_part("key", "ID", 1, body(b"x")).checksum is None


def test_a_part_with_another_checksum_is_an_error_with_the_request_id(server, oss, body, kit):
    server.reply(kit.response(ETag='"E"', x_oss_hash_crc64ecma="5", x_oss_request_id="R1"))
    with pytest.raises(IntegrityError, match=r"^part 1 of 'key' in .* with the CRC-64 5, but \d+ was sent$") as raised:
        oss.upload_part("key", "ID", 1, body(b"x"))
    assert (raised.value.retryable, raised.value.status, raised.value.request_id) == (True, 200, "R1")


def test_the_engine_sends_a_part_again_if_oss_reports_another_checksum(server, oss, kit):
    data = bytes(range(256)) * 600
    server.reply(
        kit.initiated(),
        kit.response(ETag='"E"', x_oss_hash_crc64ecma="5"),
        kit.stored,
        kit.stored,
        kit.response(body=COMPLETED, ETag='"E-2"', x_oss_hash_crc64ecma=str(crc64(data))),
    )
    config = TransferConfig(part_size=102_400, multipart_threshold=0, concurrency=1, retry_base=0.001)
    result = Uploader(oss, store=MemoryCheckpointStore(), config=config).upload(BytesSource(data), "key")
    assert result.checksum == crc64(data)
    sent = [int(r.query["partNumber"]) for r in server.requests if "partNumber" in r.query]
    assert sorted(sent) == [1, 1, 2]


@pytest.mark.parametrize("headers", [{}, {"ETag": '""'}, {"ETag": "x", "x_oss_hash_crc64ecma": "many"}])
def test_an_invalid_response_to_a_part_is_retryable(server, oss, body, kit, headers):
    server.reply(kit.response(**headers))
    with pytest.raises(ServerFailed) as raised:
        oss.upload_part("key", "ID", 1, body(b"x"))
    assert raised.value.retryable


@pytest.mark.parametrize("number", [0, -1, 10_001])
def test_a_part_number_out_of_range_is_refused(server, oss, body, number):
    with pytest.raises(InvalidInput):
        oss.upload_part("key", "ID", number, body(b"x"))
    assert server.requests == []


def test_a_part_or_an_object_that_is_too_large_is_refused(server, oss, body):
    huge = body(b"", claimed=5 * 2**30 + 1)
    with pytest.raises(InvalidInput):
        oss.upload_part("key", "ID", 1, huge)
    with pytest.raises(InvalidInput):
        oss.put_object("key", huge, PLAIN)
    assert server.requests == []


def test_an_upload_id_is_sent_unchanged(server, oss, body):
    oss.upload_part("key", "a b/&=+%\r\n", 1, body(b"x"))
    assert server.requests[0].query["uploadId"] == "a b/&=+%\r\n"


def test_parts_can_be_sent_concurrently(server, oss, body):
    parts: dict[int, UploadedPart] = {}

    def send(number: int) -> None:
        parts[number] = oss.upload_part("key", "ID", number, body(bytes([number]) * 5000))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(1, 17)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert {n: part.checksum for n, part in parts.items()} == {n: crc64(bytes([n]) * 5000) for n in range(1, 17)}
    assert {int(r.query["partNumber"]): r.body for r in server.requests} == {n: bytes([n]) * 5000 for n in range(1, 17)}


# --- lists -----------------------------------------------------------------------------------------------------------


def parts_page(kit, numbers, following=None):
    listed = "".join(
        f'<Part><PartNumber>{n}</PartNumber><ETag>"E{n}"</ETag><HashCrc64ecma>{n}</HashCrc64ecma><Size>{n}</Size></Part>'
        for n in numbers
    )
    marker = "" if following is None else f"<NextPartNumberMarker>{following}</NextPartNumberMarker>"
    more = "false" if following is None else "true"
    return kit.response(body=f"<ListPartsResult>{marker}<IsTruncated>{more}</IsTruncated>{listed}</ListPartsResult>")


def uploads_page(kit, entries, following=None):
    listed = "".join(
        f"<Upload><Key>{key}</Key><UploadId>{upload_id}</UploadId><Initiated>2025-03-09T08:07:06.000Z</Initiated></Upload>"
        for key, upload_id in entries
    )
    markers = ""
    if following is not None:
        markers = (
            f"<NextKeyMarker>{following[0]}</NextKeyMarker><NextUploadIdMarker>{following[1]}</NextUploadIdMarker>"
        )
    more = "false" if following is None else "true"
    return kit.response(
        body=f"<ListMultipartUploadsResult><EncodingType>url</EncodingType>{markers}<IsTruncated>{more}</IsTruncated>"
        f"{listed}</ListMultipartUploadsResult>"
    )


def test_a_further_page_of_parts_is_fetched_when_it_is_needed(server, oss, kit):
    server.reply(parts_page(kit, [1, 2], 2), parts_page(kit, [5], 5), parts_page(kit, []))
    listing = iter(oss.list_parts("a b", "ID"))
    assert [next(listing), next(listing)] == [UploadedPart(1, 1, "E1", 1), UploadedPart(2, 2, "E2", 2)]
    assert len(server.requests) == 1
    assert list(listing) == [UploadedPart(5, 5, "E5", 5)]
    assert [request.query.get("part-number-marker") for request in server.requests] == [None, "2", "5"]
    assert {request.query["max-parts"] for request in server.requests} == {"1000"}


def test_uploads_are_listed_page_by_page(server, oss, kit):
    server.reply(
        uploads_page(kit, [("a%20b", "1"), ("a%2Bc", "2")], ("a%2Bc", "2")), uploads_page(kit, [("%E4%B8%AD", "3")])
    )
    when = datetime(2025, 3, 9, 8, 7, 6, tzinfo=UTC)
    assert list(oss.list_uploads("a/ü ")) == [
        PendingUpload("a b", "1", when),
        PendingUpload("a+c", "2", when),
        PendingUpload("中", "3", when),
    ]
    first, second = (request.query for request in server.requests)
    assert first == {"uploads": "", "max-uploads": "1000", "encoding-type": "url", "prefix": "a/ü "}
    assert second == first | {"key-marker": "a+c", "upload-id-marker": "2"}


def test_without_a_prefix_none_is_sent(server, oss, kit):
    server.reply(uploads_page(kit, []))
    assert list(oss.list_uploads()) == []
    assert "prefix" not in server.requests[0].query


def test_a_list_of_parts_that_does_not_advance_is_an_error(server, oss, kit):
    server.reply(parts_page(kit, [1], 1), parts_page(kit, [1], 1))
    with pytest.raises(BackendError, match="does not advance") as raised:
        list(oss.list_parts("key", "ID"))
    assert (len(server.requests), raised.value.retryable) == (2, False)


@pytest.mark.parametrize("following", [("a", "1"), ("a", "0"), ("", "")])
def test_a_list_of_uploads_that_does_not_advance_is_an_error(server, oss, kit, following):
    server.reply(uploads_page(kit, [("a", "1")], ("a", "1")), uploads_page(kit, [("a", "1")], following))
    with pytest.raises(BackendError, match="does not advance"):
        list(oss.list_uploads())
    assert len(server.requests) == 2


def test_list_parts_itself_raises_if_the_upload_does_not_exist(server, oss, kit):
    server.reply(kit.error(404, "NoSuchUpload"))
    with pytest.raises(UploadNotFound):
        oss.list_parts("key", "ID")


def test_a_failure_of_a_later_page_is_raised_when_it_is_reached(server, oss, kit):
    server.reply(parts_page(kit, [1], 1), kit.error(404, "NoSuchUpload"))
    listing = iter(oss.list_parts("key", "ID"))
    next(listing)
    with pytest.raises(UploadNotFound):
        next(listing)


def test_a_truncated_page_is_retryable(server, oss, kit):
    server.reply(kit.response(body="<ListPartsResult><IsTruncated>false</IsTruncated><Part>"))
    with pytest.raises(ServerFailed):
        oss.list_parts("key", "ID")


def test_an_invalid_prefix_is_refused(oss):
    with pytest.raises(InvalidKey):
        oss.list_uploads("\ud800")


# --- complete --------------------------------------------------------------------------------------------------------

COMPLETED = (
    "<CompleteMultipartUploadResult><Key>dir%2Fkey</Key><ETag>&quot;XML-2&quot;</ETag></CompleteMultipartUploadResult>"
)


def test_complete_returns_the_object_from_the_headers(server, oss, kit):
    server.reply(kit.response(body=COMPLETED, ETag='"HEAD-2"', x_oss_hash_crc64ecma="77", x_oss_version_id="V1"))
    stored = oss.complete_upload("dir/key", "ID", PARTS, PLAIN)
    assert stored == StoredObject("dir/key", 102405, "HEAD-2", 77, "V1", "67CD4A3A0000000000000001")
    request = server.requests[0]
    assert request.query == {"uploadId": "ID", "encoding-type": "url"}
    assert request.header("content-md5") == base64.b64encode(hashlib.md5(request.body).digest()).decode()
    named = [(part.findtext("PartNumber"), part.findtext("ETag")) for part in ET.fromstring(request.body)]
    assert named == [("1", '"AAA"'), ("3", '"BBB"')]


def test_without_an_etag_header_the_etag_is_taken_from_the_document(server, oss, kit):
    server.reply(kit.response(body=COMPLETED))
    stored = oss.complete_upload("key", "ID", PARTS, PLAIN)
    assert (stored.etag, stored.checksum) == ("XML-2", None)


@pytest.mark.parametrize("body", ["", "<html/>", COMPLETED.replace("&quot;XML-2&quot;", "")])
def test_a_response_to_complete_without_an_etag_is_retryable(server, oss, kit, body):
    server.reply(kit.response(body=body))
    with pytest.raises(ServerFailed) as raised:
        oss.complete_upload("key", "ID", PARTS, PLAIN)
    assert raised.value.retryable


def test_a_callback_response_is_returned_and_not_parsed(server, oss, kit):
    server.reply(kit.response(body=COMPLETED, ETag='"HEAD"'), kit.response(body=COMPLETED))
    stored = oss.complete_upload("key", "ID", PARTS, CALLBACK)
    assert (stored.etag, stored.callback_response) == ("HEAD", COMPLETED.encode())
    stored = oss.complete_upload("key", "ID", PARTS, CALLBACK)
    assert (stored.etag, stored.callback_response) == ("", COMPLETED.encode())


def test_a_203_without_a_callback_is_the_success_that_a_proxy_changed(server, oss, kit, body):
    headers = {"ETag": '"E"', "x_oss_hash_crc64ecma": str(crc64(b"x"))}
    server.reply(kit.response(203, "changed", **headers), kit.response(203, "changed", **headers))
    for stored in (
        oss.complete_upload("key", "ID", [UploadedPart(1, 1, "A")], PLAIN),
        oss.put_object("key", body(b"x"), PLAIN),
    ):
        assert (stored.etag, stored.checksum, stored.callback_response) == ("E", crc64(b"x"), None)


@pytest.mark.parametrize("case", [(CALLBACK, True), (CALLBACK, False), (PLAIN, True)])
def test_the_error_of_a_failed_callback_contains_the_stored_object(server, oss, kit, body, case):
    options, document = case
    headers = {"ETag": '"E"', "x-oss-hash-crc64ecma": str(crc64(b"x")), "x-oss-version-id": "V"}
    plain = {name.replace("-", "_"): value for name, value in headers.items()}
    reply = kit.error(203, "CallbackFailed", "502", headers=plain) if document else kit.response(203, "oops", **plain)
    server.reply(reply, reply)
    for call in (
        lambda: oss.complete_upload("key", "ID", [UploadedPart(1, 1, "A")], options),
        lambda: oss.put_object("key", body(b"x"), options),
    ):
        with pytest.raises(CallbackError) as raised:
            call()
        assert raised.value.message.endswith("the object is stored")
        result = raised.value.result
        assert result is not None
        assert (result.key, result.size, result.etag, result.checksum, result.version_id) == (
            "key",
            1,
            "E",
            crc64(b"x"),
            "V",
        )
        assert not raised.value.retryable
        copy = pickle.loads(pickle.dumps(raised.value))
        assert copy.result == result


@pytest.mark.parametrize(
    "refusal",
    [
        ("InvalidPart", 400, PartRejected),
        ("InvalidPartOrder", 400, PartRejected),
        ("EntityTooSmall", 400, PartRejected),
        ("FileAlreadyExists", 409, ObjectExists),
        ("NoSuchUpload", 404, UploadNotFound),
        ("AccessDenied", 403, AccessDenied),
        ("NoSuchBucket", 404, BucketNotFound),
        ("InternalError", 500, ServerFailed),
    ],
)
def test_a_rejected_complete_raises_the_error_of_its_code(server, oss, kit, refusal):
    code, status, kind = refusal
    server.reply(kit.error(status, code, ETag="E", PartNumber="1"))
    with pytest.raises(kind) as raised:
        oss.complete_upload("key", "ID", PARTS, PLAIN)
    assert type(raised.value) is kind
    assert (raised.value.code, raised.value.details["PartNumber"]) == (code, "1")


def test_complete_without_parts_is_refused_before_anything_is_sent(server, oss):
    with pytest.raises(PartRejected, match="no parts were given"):
        oss.complete_upload("key", "ID", [], PLAIN)
    assert server.requests == []


# --- abort -----------------------------------------------------------------------------------------------------------


def test_aborting_twice_is_not_an_error(server, oss, kit):
    server.reply(b"HTTP/1.1 204 No Content\r\n\r\n", kit.error(404, "NoSuchUpload"))
    oss.abort_upload("key", "ID")
    oss.abort_upload("key", "ID")
    assert [(r.method, r.query, r.header("content-length")) for r in server.requests] == [
        ("DELETE", {"uploadId": "ID"}, "0")
    ] * 2


@pytest.mark.parametrize(("code", "kind"), [("NoSuchBucket", BucketNotFound), ("Other", BackendError)])
def test_aborting_without_a_bucket_is_an_error(server, oss, kit, code, kind):
    server.reply(kit.error(404, code))
    with pytest.raises(kind):
        oss.abort_upload("key", "ID")


# --- objects ---------------------------------------------------------------------------------------------------------


def test_put_stores_an_object(server, oss, body):
    data = b"whole"
    stored = oss.put_object("dir/a.txt", body(data), ObjectOptions(metadata={"Author": "me"}))
    assert (stored.key, stored.size, stored.checksum) == ("dir/a.txt", 5, crc64(data))
    assert stored.etag == hashlib.md5(data).hexdigest().upper()
    assert stored.callback_response is None
    request = server.requests[0]
    assert (request.method, request.query, request.body) == ("PUT", {}, data)
    assert (request.header("content-type"), request.header("x-oss-meta-author")) == ("text/plain", "me")


def test_put_stores_an_empty_object(server, oss, body):
    assert oss.put_object("empty", body(b""), PLAIN).checksum == 0
    assert server.requests[0].header("content-length") == "0"


def test_put_returns_the_callback_response(server, oss, body, kit):
    server.reply(kit.response(body='{"ok":1}', ETag='"E"'))
    assert oss.put_object("key", body(b"x"), CALLBACK).callback_response == b'{"ok":1}'


@pytest.mark.parametrize("forbidden", [False, True])
def test_an_object_with_another_checksum_is_an_error(server, oss, body, kit, forbidden):
    server.reply(kit.response(ETag='"E"', x_oss_hash_crc64ecma="5"))
    with pytest.raises(IntegrityError) as raised:
        oss.put_object("key", body(b"x"), ObjectOptions(forbid_overwrite=forbidden))
    assert raised.value.retryable is not forbidden


def test_put_raises_if_overwriting_is_forbidden(server, oss, body, kit):
    server.reply(kit.error(409, "FileAlreadyExists"))
    with pytest.raises(ObjectExists):
        oss.put_object("key", body(b"x"), ObjectOptions(forbid_overwrite=True))
    assert server.requests[0].header("x-oss-forbid-overwrite") == "true"


def test_head_describes_an_object(server, oss):
    server.reply(
        b'HTTP/1.1 200 OK\r\nContent-Length: 123456\r\nETag: "E-3"\r\nx-oss-hash-crc64ecma: 18446744073709551615\r\n'
        b"x-oss-version-id: V\r\nx-oss-meta-author: me\r\nx-oss-meta-empty:\r\nx-oss-request-id: R\r\n\r\n"
    )
    found = oss.head_object("key")
    assert found == StoredObject("key", 123456, "E-3", 2**64 - 1, "V", "R", metadata={"author": "me", "empty": ""})
    assert oss.head_object("key") is not None  # the connection is in order


def head_error(kit, status: int, code: str) -> bytes:
    document = f"<Error><Code>{code}</Code><Message>m</Message></Error>"
    return kit.response(status, x_oss_err=base64.b64encode(document.encode()).decode())


def test_head_of_a_missing_object_is_none(server, oss, kit):
    server.reply(head_error(kit, 404, "NoSuchKey"), kit.response(404))
    assert oss.head_object("key") is None
    assert oss.head_object("key") is None


@pytest.mark.parametrize(
    "refusal",
    [(404, "NoSuchBucket", BucketNotFound), (403, "AccessDenied", AccessDenied), (500, "InternalError", ServerFailed)],
)
def test_any_other_failure_of_head_is_an_error(server, oss, kit, refusal):
    status, code, kind = refusal
    server.reply(head_error(kit, status, code))
    with pytest.raises(kind) as raised:
        oss.head_object("key")
    assert raised.value.code == code


def test_head_without_size_or_etag_is_an_error(server, oss, kit):
    server.reply(b"HTTP/1.1 200 OK\r\nETag: x\r\n\r\n", kit.response())
    for _ in range(2):
        with pytest.raises(ServerFailed):
            oss.head_object("key")


# --- keys ------------------------------------------------------------------------------------------------------------

ODD_KEYS = [
    "a/../b",
    "../../x",
    "./x",
    ".",
    "..",
    "a/./b/..",
    "a//b///c",
    "a/",
    "a b+c%20d",
    "%2e%2e/%2F",
    "?x=y&z#f",
    "中文/é/😀",
    "\x01\x7f\n\r\t",
    " lead and trail ",
    "a\\b",
    "!*'();:@&=+$,/?#[]",
    "~-._",
    "é" * 511,
]


@pytest.mark.parametrize("key", ODD_KEYS)
def test_an_unusual_key_arrives_unchanged(server, oss, body, kit, key):
    server.reply(kit.initiated())
    oss.initiate_upload(key, PLAIN)
    oss.upload_part(key, "ID", 1, body(b"x"))
    assert {request.path for request in server.requests} == {f"/examplebucket/{key}"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(
    st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=60).filter(lambda key: key[0] not in "/\\")
)
def test_any_key_arrives_unchanged(server, oss, key):
    oss.head_object(key)
    assert server.requests[-1].path == f"/examplebucket/{key}"


# --- request options -------------------------------------------------------------------------------------------------


def test_request_options_are_sent_with_their_requests(server, oss, body, kit):
    handle = oss.with_request_options(
        OSSOptions(traffic_limit=819200, request_payer="requester", acl="private", metadata={"a": "b"})
    )
    server.reply(kit.initiated())
    handle.initiate_upload("key", PLAIN)
    handle.upload_part("key", "ID", 1, body(b"x"))
    server.reply(parts_page(kit, []), uploads_page(kit, []), kit.response(body=COMPLETED))
    list(handle.list_parts("key", "ID"))
    list(handle.list_uploads())
    handle.complete_upload("key", "ID", PARTS, PLAIN)
    server.reply(kit.response(204))
    handle.abort_upload("key", "ID")
    handle.put_object("key", body(b"x"), PLAIN)
    handle.head_object("key")
    payer, limit = {"x-oss-request-payer": "requester"}, {"x-oss-traffic-limit": "819200"}
    both = payer | limit
    assert [r.service_headers("x-oss-") for r in server.requests] == [
        payer,
        both,
        payer,
        payer,
        payer,
        payer,
        both,
        payer,
    ]


def test_an_option_of_a_call_takes_precedence_over_that_of_the_handle(server, oss, body):
    handle = oss.with_request_options(OSSOptions(traffic_limit=819200))
    handle.put_object("key", body(b"x"), OSSOptions(traffic_limit=838860800))
    assert server.requests[0].header("x-oss-traffic-limit") == "838860800"


def test_request_options_are_checked(oss):
    with pytest.raises(InvalidInput):
        oss.with_request_options(OSSOptions(traffic_limit=1))


# --- signatures ------------------------------------------------------------------------------------------------------


def test_v4_is_the_default_and_v1_is_available(server, connect):
    connect().head_object("key")
    connect(signature_version="v1", region=None).head_object("key")
    v4, v1 = server.requests
    assert v4.header("authorization").startswith(
        "OSS4-HMAC-SHA256 Credential=testid0000EXAMPLE/20250309/cn-hangzhou/oss/"
    )
    assert (v4.header("x-oss-date"), v4.header("date")) == ("20250309T080706Z", None)
    assert v1.header("authorization").startswith("OSS testid0000EXAMPLE:")
    assert v1.header("date") == "Sun, 09 Mar 2025 08:07:06 GMT"


def test_each_request_is_signed_with_the_current_time(server, connect):
    now = [1741507626.0]
    backend = connect(clock=lambda: now[0])
    backend.head_object("key")
    now[0] += 3600
    backend.head_object("key")
    assert [request.header("x-oss-date") for request in server.requests] == ["20250309T080706Z", "20250309T090706Z"]


# --- the clock -------------------------------------------------------------------------------------------------------


def skewed(kit, **more: str) -> bytes:
    return kit.error(403, "RequestTimeTooSkewed", **more)


@pytest.mark.parametrize(
    "stated",
    [{"ServerTime": "2025-03-09T09:07:06.000Z"}, {"headers": {"Date": "Sun, 09 Mar 2025 09:07:06 GMT"}}],
)
def test_a_skewed_clock_is_corrected_from_the_response(server, oss, kit, stated):
    server.reply(skewed(kit, **stated))
    with pytest.raises(ClockSkewed) as raised:
        oss.abort_upload("key", "ID")
    assert raised.value.retryable
    oss.head_object("key")
    assert server.requests[1].header("x-oss-date") == "20250309T090706Z"


def test_the_clock_is_not_corrected_repeatedly(server, oss, kit):
    server.reply(
        skewed(kit), skewed(kit, ServerTime="2025-03-09T09:07:06.000Z"), skewed(kit, ServerTime="2025-03-09T12:00:00Z")
    )
    retryable = []
    for _ in range(3):
        with pytest.raises(ClockSkewed) as raised:
            oss.abort_upload("key", "ID")
        retryable.append(raised.value.retryable)
    assert retryable == [False, True, False]


def test_without_a_server_time_a_skewed_clock_is_not_retryable(server, oss, kit):
    server.reply(skewed(kit, headers={"Date": "today"}))
    with pytest.raises(ClockSkewed) as raised:
        oss.abort_upload("key", "ID")
    assert not raised.value.retryable


def test_a_handle_shares_the_corrected_clock(server, oss, kit):
    handle = oss.with_request_options(OSSOptions(request_payer="requester"))
    server.reply(skewed(kit, ServerTime="2025-03-09T09:07:06.000Z"))
    with pytest.raises(ClockSkewed):
        handle.abort_upload("key", "ID")
    oss.head_object("key")
    assert server.requests[1].header("x-oss-date") == "20250309T090706Z"


# --- credentials -----------------------------------------------------------------------------------------------------


class Rotating:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Credentials:
        self.calls += 1
        return Credentials("id", "secret", f"token{self.calls}")


EXPIRED = ["SecurityTokenExpired", "InvalidSecurityToken", "AccessKeyIdAndSecurityTokenNotMatch"]


@pytest.mark.parametrize("code", [*EXPIRED, "InvalidAccessKeyId"])
def test_after_expired_credentials_new_ones_are_fetched_for_the_next_attempt(server, connect, kit, code):
    rotating = Rotating()
    backend = connect(credentials=rotating)
    server.reply(kit.error(403, code))
    with pytest.raises(CredentialsExpired) as raised:
        backend.abort_upload("key", "ID")
    assert (raised.value.retryable, raised.value.code, raised.value.status) == (True, code, 403)
    backend.head_object("key")
    assert [r.header("x-oss-security-token") for r in server.requests] == ["token1", "token2"]
    assert rotating.calls == 2


@pytest.mark.parametrize("code", EXPIRED)
def test_expired_credentials_without_new_ones_are_not_retryable(server, connect, kit, code):
    for credentials in (Credentials("id", "secret", "token"), lambda: Credentials("id", "secret", "token")):
        server.reply(kit.error(403, code))
        with pytest.raises(CredentialsExpired) as raised:
            connect(credentials=credentials).abort_upload("key", "ID")
        assert not raised.value.retryable


def test_an_unknown_access_key_without_a_new_one_is_access_denied(server, connect, kit):
    for credentials in (Credentials("id", "secret"), lambda: Credentials("id", "secret")):
        server.reply(kit.error(403, "InvalidAccessKeyId"))
        with pytest.raises(AccessDenied, match="Check the access key id"):
            connect(credentials=credentials).abort_upload("key", "ID")


def test_an_unknown_access_key_says_to_check_it_also_if_there_is_a_new_one(server, connect, kit):
    server.reply(kit.error(403, "InvalidAccessKeyId"))
    with pytest.raises(CredentialsExpired, match="Check the access key id"):
        connect(credentials=Rotating()).abort_upload("key", "ID")


class Failing:
    """Credentials that can be fetched once."""

    def __init__(self, error: Exception) -> None:
        self.error, self.calls = error, 0

    def __call__(self) -> Credentials:
        self.calls += 1
        if self.calls > 1:
            raise self.error
        return Credentials("id", "secret", "token")


@pytest.mark.parametrize("code", [*EXPIRED, "InvalidAccessKeyId"])
def test_a_provider_that_fails_after_a_refusal_does_not_hide_what_oss_said(server, connect, kit, code):
    failed = OSError("no route")
    server.reply(kit.error(403, code, "refused"))
    with pytest.raises(CredentialsExpired, match="refused") as raised:
        connect(credentials=Failing(failed)).abort_upload("key", "ID")
    error = raised.value
    assert (error.code, error.status, error.request_id, error.retryable) == (code, 403, "REQ1", True)
    assert error.message.endswith("; no new credentials: the credentials provider raised OSError")
    assert error.__cause__ is not None
    assert error.__cause__.__cause__ is failed


@pytest.mark.parametrize(
    ("code", "kind"), [("SecurityTokenExpired", CredentialsExpired), ("InvalidAccessKeyId", AccessDenied)]
)
def test_a_provider_that_can_not_renew_says_what_to_do_next(server, connect, kit, code, kind):
    server.reply(kit.error(403, code, "refused"))
    with pytest.raises(kind, match="refused") as raised:
        connect(credentials=Failing(InvalidInput("the login has expired", hint="Log in"))).abort_upload("key", "ID")
    assert (raised.value.code, raised.value.retryable, raised.value.hint) == (code, False, "Log in")
    assert raised.value.message.endswith("; the login has expired")


def test_refused_workers_share_one_renewal(server, connect, kit, body):
    rotating = Rotating()
    backend = connect(credentials=rotating)
    meeting = threading.Barrier(6)

    def refuse(_, __):
        meeting.wait(10)
        return kit.error(403, "SecurityTokenExpired")

    server.reply(*[refuse] * 6)
    errors: list[CredentialsExpired] = []

    def work(number: int) -> None:
        with pytest.raises(CredentialsExpired) as raised:
            backend.upload_part("key", "ID", number, body(b"x"))
        errors.append(raised.value)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert ([error.retryable for error in errors], rotating.calls) == ([True] * 6, 2)


def test_without_credentials_nothing_is_sent(server, connect, monkeypatch):
    for name in ("OSS_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidInput, match="Set OSS_ACCESS_KEY_ID"):
        connect(credentials=None).head_object("key")
    assert server.requests == []


# --- throttling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        (429, "X", {"Retry_After": "3"}, 3.0),
        (503, "QpsLimitExceeded", {}, None),
        (503, "UploadTrafficRateLimitExceeded", {"x_oss_qos_delay_time": "250"}, 0.25),
        (503, "ServiceUnavailable", {"Retry_After": "1"}, 1.0),
    ],
)
def test_throttling_has_the_wait_of_the_response(server, oss, body, kit, reply):
    status, code, headers, wait = reply
    server.reply(kit.error(status, code, headers=headers))
    with pytest.raises(Throttled) as raised:
        oss.upload_part("key", "ID", 1, body(b"x"))
    assert (raised.value.retryable, raised.value.retry_after) == (True, wait)


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_an_error_its_traceback_and_the_log_contain_no_secret(server, connect, kit, body, caplog):
    token = "STS.testtoken/with+chars=and==padding"
    backend = connect(credentials=Credentials("testid", "hunter2secret", token))
    echoed = f"PUT\n\n\nx-oss-security-token:{token}\n/examplebucket/key"
    server.reply(
        kit.error(403, "SignatureDoesNotMatch", f"bad {token}", StringToSign=echoed, CanonicalRequest=echoed),
        kit.error(403, "SecurityTokenExpired", token),
        kit.response(502, f"<html>{token} hunter2secret</html>"),
        kit.hang_up,
        skewed(kit, StringToSign=echoed),
    )
    output = repr(backend)
    with caplog.at_level(logging.DEBUG):
        for _ in range(5):
            with pytest.raises(PartwiseError) as raised:
                backend.upload_part("key", "ID", 1, body(b"x"))
            error = raised.value
            output += (
                repr((error, vars(error))) + "".join(traceback.format_exception(error)) + repr(pickle.dumps(error))
            )
        backend.head_object("key")
    output += caplog.text + repr([vars(record) for record in caplog.records])
    for secret in ("hunter2", token, "STS.testtoken", "Signature="):
        assert secret not in output


def test_the_user_agent_without_a_known_version(server, connect, monkeypatch):
    def unknown(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", unknown)
    backend_module._default_user_agent.cache_clear()
    connect().head_object("key")
    backend_module._default_user_agent.cache_clear()
    assert server.requests[0].header("user-agent") == "partwise"


def test_requests_and_responses_are_logged(server, oss, kit, caplog):
    with caplog.at_level(logging.DEBUG, "partwise.backends.oss"):
        server.reply(kit.response(404))
        oss.head_object("dir/key")
    assert "looking up 'dir/key' in oss://examplebucket@127.0.0.1" in caplog.text
    assert "404 (request 67CD4A3A0000000000000001)" in caplog.text


def test_nothing_is_logged_above_debug(oss, caplog):
    with caplog.at_level(logging.INFO):
        oss.head_object("key")
    assert caplog.records == []


# --- limits of clock corrections -------------------------------------------------------------------------------------

HOUR_AHEAD = "2025-03-09T09:07:06.000Z"
YEAR_AHEAD = "2026-03-09T08:07:06.000Z"


@pytest.fixture
def remote(server, connect):
    """A backend whose responses could come from any machine in between: plain HTTP to another host."""
    return connect(endpoint="http://oss.example.com", proxy=f"http://127.0.0.1:{server.port}")


@pytest.fixture
def by_tls(kit, connect, certificate):
    """A backend over TLS, and its server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    scripted = kit.ScriptedServer(context)
    yield connect(endpoint=scripted.endpoint, ca_bundle=str(certificate[0])), scripted
    scripted.close()


def signed_at(request) -> str:
    return request.header("x-oss-date")


def test_a_response_by_plain_http_does_not_correct_the_clock_by_an_hour(server, remote, kit):
    server.reply(skewed(kit, ServerTime=HOUR_AHEAD, headers={"Date": "Sun, 09 Mar 2025 09:07:06 GMT"}))
    with pytest.raises(ClockSkewed, match=r"3600 seconds ahead of this machine's.*Set the clock") as raised:
        remote.abort_upload("key", "ID")
    assert not raised.value.retryable
    remote.head_object("key")
    assert signed_at(server.requests[1]) == "20250309T080706Z"


@pytest.mark.parametrize("stated", [HOUR_AHEAD, "2025-03-10T08:07:06Z", "2025-03-10T08:07:07Z"])
def test_the_hint_suggests_https_only_if_it_helps(server, remote, connect, kit, stated):
    """More than a day is always refused, and responses of this machine are trusted like those by TLS."""
    for backend in (remote, connect()):
        server.reply(skewed(kit, ServerTime=stated))
        with pytest.raises(ClockSkewed) as raised:
            backend.abort_upload("key", "ID")
        assert ("{endpoint} with https" in raised.value.hint_template) is (
            stated != "2025-03-10T08:07:07Z" and backend is remote
        )


@pytest.mark.parametrize(("stated", "accepted"), [("2025-03-09T08:22:06Z", True), ("2025-03-09T08:22:07Z", False)])
def test_a_response_by_plain_http_corrects_the_clock_by_up_to_15_minutes(server, remote, kit, stated, accepted):
    server.reply(skewed(kit, ServerTime=stated))
    with pytest.raises(ClockSkewed) as raised:
        remote.abort_upload("key", "ID")
    assert raised.value.retryable is accepted
    remote.head_object("key")
    assert signed_at(server.requests[1]) == ("20250309T082206Z" if accepted else "20250309T080706Z")


@pytest.mark.parametrize(
    ("stated", "becomes"),
    [
        (HOUR_AHEAD, "20250309T090706Z"),
        ("2025-03-10T08:07:06Z", "20250310T080706Z"),
        ("2025-03-10T08:07:07Z", None),
        ("2025-03-08T08:07:05Z", None),
        (YEAR_AHEAD, None),
        ("9999-12-31T23:59:59Z", None),
        ("0001-01-01T00:00:00+23:59", None),
    ],
)
@pytest.mark.parametrize("channel", ["tls", "loopback"])
def test_an_authenticated_response_corrects_the_clock_by_up_to_a_day(request, kit, channel, stated, becomes):
    fixtures = ["by_tls"] if channel == "tls" else ["oss", "server"]
    found = [request.getfixturevalue(name) for name in fixtures]
    backend, peer = found[0] if channel == "tls" else found
    peer.reply(skewed(kit, ServerTime=stated))
    with pytest.raises(ClockSkewed) as raised:
        backend.abort_upload("key", "ID")
    assert raised.value.retryable is (becomes is not None)
    backend.head_object("key")
    assert signed_at(peer.requests[1]) == (becomes or "20250309T080706Z")


def test_repeated_corrections_do_not_exceed_a_day(server, connect, kit):
    now = [NOW]
    backend = connect(clock=lambda: now[0])
    for step in range(1, 6):
        server.reply(skewed(kit, ServerTime=datetime.fromtimestamp(NOW + step * 50_000, UTC).isoformat()))
        with pytest.raises(ClockSkewed):
            backend.abort_upload("key", "ID")
        now[0] += 61
    backend.head_object("key")
    assert signed_at(server.requests[-1]) < "20250310T0900"


def test_requests_signed_before_a_correction_are_retryable(server, oss, body, kit):
    """The second response is read after the first one has corrected the clock."""
    server.reply(skewed(kit, ServerTime=HOUR_AHEAD), skewed(kit, ServerTime=HOUR_AHEAD))
    waits = [oss.begin_part("key", "ID", number, body(b"x")) for number in (1, 2)]
    retryable = []
    for wait in waits:
        with pytest.raises(ClockSkewed) as raised:
            wait()
        retryable.append(raised.value.retryable)
    assert retryable == [True, True]


def test_a_request_in_flight_during_a_correction_is_retryable(server, oss, kit):
    """The offset with which it was signed counts."""

    def corrected_meanwhile(_, __):
        assert oss._client._clock.correct(NOW + 3600, 0.0)
        return skewed(kit, ServerTime=HOUR_AHEAD)

    server.reply(corrected_meanwhile)
    with pytest.raises(ClockSkewed) as raised:
        oss.abort_upload("key", "ID")
    assert raised.value.retryable


@pytest.mark.parametrize("later", [1, 60, 901, 86_400])
def test_a_part_is_signed_with_the_current_time(server, connect, body, later):
    now = [NOW]
    backend = connect(clock=lambda: now[0])
    backend.upload_part("key", "ID", 1, body(b"x"))
    now[0] += later
    backend.upload_part("key", "ID", 1, body(b"x"))
    sent = [datetime.strptime(signed_at(r), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp() for r in server.requests]
    assert sent == [NOW, NOW + later]
    assert len({request.header("authorization") for request in server.requests}) == 2


# --- signed headers --------------------------------------------------------------------------------------------------


def test_a_captured_request_is_refused_by_another_host(oss_server, body):
    credentials = Credentials(oss_server.access_key_id, oss_server.access_key_secret)
    with OSSBackend(
        "examplebucket", endpoint=oss_server.endpoint, region=oss_server.region, credentials=credentials
    ) as backend:
        heads = []
        start = backend._client._http.start
        backend._client._http.start = lambda method, head, *a, **k: heads.append(head) or start(method, head, *a, **k)
        upload_id = backend.initiate_upload("key", PLAIN)
        backend.upload_part("key", upload_id, 1, body(b"x"))
    host = oss_server.endpoint.removeprefix("http://")

    def status(head: bytes, sent: bytes = b"") -> int:
        with socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2])), 5) as sock:
            sock.sendall(head + sent)
            return int(sock.recv(65536).split(b" ")[1])

    for head, sent in zip(heads, (b"", b"x"), strict=True):
        assert b"AdditionalHeaders=host," in head
        elsewhere = head.replace(f"Host: {host}".encode(), b"Host: localhost:1")
        assert (status(head, sent), status(elsewhere, sent)) == (200, 403)


# --- endless lists ---------------------------------------------------------------------------------------------------


def growing(kit, page):
    """A server with a further page for each request."""
    count = itertools.count(1)
    return lambda _, __: page(kit, next(count))


def test_a_list_of_parts_ends_at_part_number_10000(server, oss, kit):
    def page(kit, n):
        return parts_page(kit, range((n - 1) * 1000 + 1, n * 1000 + 1), n * 1000)

    server.reply(*[growing(kit, page)] * 20)
    seen: list[UploadedPart] = []
    with pytest.raises(BackendError, match="invalid response: its PartNumber is not a number up to 10000"):
        seen.extend(oss.list_parts("key", "ID"))
    assert len(seen) == 10_000
    assert len(server.requests) == 11


def test_a_list_of_repeated_parts_is_an_error(server, oss, kit):
    def page(kit, n):
        return parts_page(kit, range(1, 1001), n)

    server.reply(*[growing(kit, page)] * 20)
    with pytest.raises(BackendError, match="more than 10000 entries") as raised:
        list(oss.list_parts("key", "ID"))
    assert not raised.value.retryable
    assert len(server.requests) == 11


@pytest.mark.parametrize("kind", ["parts", "uploads"])
def test_a_list_with_many_empty_pages_is_an_error(server, oss, kit, kind):
    def page(kit, n):
        return parts_page(kit, [], n) if kind == "parts" else uploads_page(kit, [], (f"{n:09}", "ID"))

    server.reply(*[growing(kit, page)] * 200)
    with pytest.raises(BackendError, match="more than 100 empty pages"):
        list(oss.list_parts("key", "ID") if kind == "parts" else oss.list_uploads())
    assert len(server.requests) == 101


def test_the_hint_for_too_many_uploads_suggests_a_prefix(server, oss, kit, monkeypatch):
    monkeypatch.setattr(backend_module, "_UPLOADS_MAX", 2500)

    def page(kit, n):
        return uploads_page(kit, [(f"{n:05}{m:04}", "ID") for m in range(1000)], (f"{n:05}9999", "ID"))

    server.reply(*[growing(kit, page)] * 20)
    seen: list[PendingUpload] = []
    with pytest.raises(BackendError, match=r"more than 2500 entries\. List them by a prefix"):
        seen.extend(oss.list_uploads())
    assert (len(seen), len(server.requests)) == (2000, 3)


def test_a_list_may_have_a_hundred_thousand_uploads(oss):
    def fetch(n):
        return ResultPage(tuple(range(1000)), n + 1 if n < 99 else None)

    assert sum(1 for _ in list_pages(fetch, 0, "a list", backend_module._UPLOADS_MAX, page_size=1000)) == 100_000


@pytest.mark.parametrize("etag", ["E" * 1025, "E" * 60_000])
def test_the_length_of_an_etag_is_limited(server, oss, body, kit, etag):
    """It is kept and recorded for each part, and sent again by complete."""
    server.reply(kit.response(ETag=f'"{etag[:1024]}"'), kit.response(ETag=f'"{etag}"'), kit.response(ETag=etag))
    assert oss.upload_part("key", "ID", 1, body(b"")).etag == etag[:1024]
    for call in (lambda: oss.upload_part("key", "ID", 1, body(b"")), lambda: oss.head_object("key")):
        with pytest.raises(ServerFailed, match="its ETag has more than 1024 characters"):
            call()


# --- invalid numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "length", ["1" * 4400, "1" * 19, "-1", "+1", "1_0", "1.0", "0x1", "nan", "\xb2", "1, 1", " ", "9" * 60_000]
)
def test_head_with_an_invalid_length_is_retryable(server, oss, length):
    server.reply(b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: " + length.encode("latin-1") + b"\r\n\r\n")
    with pytest.raises(ServerFailed, match="does not contain the size of the object") as raised:
        oss.head_object("key")
    assert raised.value.retryable


@pytest.mark.parametrize("checksum", ["1" * 4400, "-1", "1_0", "\xb2", "1, 1", "18446744073709551616"])
def test_an_invalid_checksum_is_an_error(server, oss, body, kit, checksum):
    server.reply(kit.response(ETag='"E"', x_oss_hash_crc64ecma=checksum).decode().encode("latin-1"))
    with pytest.raises(ServerFailed):
        oss.upload_part("key", "ID", 1, body(b"x"))


def test_the_largest_object_has_a_size(server, oss):
    server.reply(b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 999999999999999999\r\n\r\n')
    assert oss.head_object("key").size == 999_999_999_999_999_999


@pytest.mark.parametrize(
    "bad",
    [
        {"connect_timeout": float("nan")},
        {"read_timeout": 86_401},
        {"read_timeout": 10**400},
        {"read_timeout": 1e300},
        {"max_connections": float("nan")},
        {"max_connections": True},
        {"max_connections": "8"},
        {"max_connections": 10**9},
        {"page_size": True},
        {"page_size": 1.5},
        {"page_size": "100"},
        {"proxy": 3128},
        {"proxy": b"http://h:1"},
    ],
)
def test_a_setting_out_of_range_is_refused_at_once(connect, bad):
    with pytest.raises(InvalidInput):
        connect(**bad)


def test_the_longest_timeout_can_be_set(server, connect):
    connect(connect_timeout=86_400, read_timeout=86_400).head_object("key")
    assert len(server.requests) == 1


# --- weak ETags ------------------------------------------------------------------------------------------------------


def test_the_mark_of_a_weak_etag_is_removed_in_every_operation(server, oss, body, kit):
    weak = 'W/"0123456789ABCDEF0123456789ABCDEF"'
    bare = "0123456789ABCDEF0123456789ABCDEF"
    server.reply(
        kit.response(ETag=weak),
        kit.response(ETag=weak),
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nETag: " + weak.encode() + b"\r\n\r\n",
        kit.response(body=COMPLETED, ETag=weak),
        kit.response(body=COMPLETED.replace("&quot;XML-2&quot;", weak.replace('"', "&quot;"))),
    )
    assert oss.upload_part("key", "ID", 1, body(b"x")).etag == bare
    assert oss.put_object("key", body(b"x"), PLAIN).etag == bare
    assert oss.head_object("key").etag == bare
    assert oss.complete_upload("key", "ID", PARTS, PLAIN).etag == bare
    assert oss.complete_upload("key", "ID", PARTS, PLAIN).etag == bare


# --- regions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal",
    [
        {"EC": "0002-00000226"},
        {"message": "Invalid signing region in Authorization header."},
    ],
)
@pytest.mark.parametrize("status", [400, 403])
def test_the_error_for_a_wrong_region_contains_the_region_and_a_hint(server, oss, kit, refusal, status):
    server.reply(kit.error(status, "InvalidArgument", **refusal))
    with pytest.raises(BackendError, match=r"signed for the region cn-hangzhou.*region=, or set OSS_REGION") as raised:
        oss.abort_upload("key", "ID")
    assert not raised.value.retryable


def test_the_test_server_reports_a_wrong_region(oss_server):
    credentials = Credentials(oss_server.access_key_id, oss_server.access_key_secret)
    with (
        OSSBackend(
            "examplebucket", endpoint=oss_server.endpoint, region="cn-beijing", credentials=credentials
        ) as backend,
        pytest.raises(BackendError, match="signed for the region cn-beijing"),
    ):
        backend.initiate_upload("key", PLAIN)


def test_the_hint_for_a_wrong_signature(server, connect, oss, kit):
    server.reply(kit.error(403, "SignatureDoesNotMatch"))
    with pytest.raises(AccessDenied, match=r"region cn-hangzhou.*Check the access key secret.*Host header"):
        oss.abort_upload("key", "ID")
    server.reply(kit.error(403, "SignatureDoesNotMatch"))
    with pytest.raises(AccessDenied) as raised:
        connect(signature_version="v1").abort_upload("key", "ID")
    assert "region" not in str(raised.value)


# --- secrets that a server repeats -----------------------------------------------------------------------------------

ECHO_TOKEN = "STS.testtoken/with+chars=and==padding"
ECHO_SECRET = "hunter2SecretKeyOfThirtyLetter"


def echoes(received) -> dict[str, str]:
    """The secrets of a request in the forms that a server may repeat, and the secret key itself."""
    authorization = received.header("authorization")
    return {
        "token": received.header("x-oss-security-token"),
        "quoted token": quote(ECHO_TOKEN, safe="/"),
        "secret": ECHO_SECRET,
        "half of the secret": ECHO_SECRET[:15],
        "encoded secret": base64.b64encode(f"x:{ECHO_SECRET}".encode()).decode(),
        "signature": re.split("Signature=|:", authorization)[-1],
    }


def leaks(text: str, received) -> list[str]:
    """The names of those that can be recognised in a text."""
    return [
        name
        for name, secret in echoes(received).items()
        if any(secret[at : at + 14] in text for at in range(max(1, len(secret) - 13)))
    ]


def all_of(error: BaseException) -> str:
    current, texts = error, []
    while current is not None:
        texts += [repr((current.args, vars(current))), repr(pickle.dumps(current))]
        current = current.__cause__ or current.__context__
    return "".join(texts) + "".join(traceback.format_exception(error))


ECHOES = ["token", "quoted token", "secret", "half of the secret", "encoded secret", "signature"]
FIELDS = ["Code", "Message", "RequestId", "HostId", "EC", "Endpoint", "StringToSign", "SignatureProvided", "Other"]
HEADERS = ["x-oss-request-id", "x-oss-ec", "Location", "x-oss-server-time", "Server"]


@pytest.mark.parametrize("name", ECHOES)
@pytest.mark.parametrize("case", [(307, "v4"), (403, "v4"), (500, "v4"), (403, "v1")])
def test_no_field_of_an_error_response_reveals_a_secret(server, connect, caplog, name, case):
    status, version = case
    backend = connect(credentials=Credentials("testid", ECHO_SECRET, ECHO_TOKEN), signature_version=version)

    def reply(received, _):
        secret = echoes(received)[name]
        fields = "".join(f"<{field}>{secret}</{field}>" for field in FIELDS)
        headers = "".join(f"{header}: {secret}\r\n" for header in HEADERS)
        document = f"<Error>{fields}</Error>"
        return f"HTTP/1.1 {status} {secret}\r\n{headers}Content-Length: {len(document)}\r\n\r\n{document}".encode()

    server.reply(*[reply] * 2)
    output = ""
    with caplog.at_level(logging.DEBUG):
        for call in (
            lambda: backend.upload_part("key", "ID", 1, ChunkListBody(memoryview(b"x"))),
            lambda: backend.abort_upload("key", "ID"),
        ):
            with pytest.raises(PartwiseError) as raised:
                call()
            output += all_of(raised.value)
    output += caplog.text + repr([vars(record) for record in caplog.records])
    assert [leaks(output, request) for request in server.requests] == [[], []]


@pytest.mark.parametrize("name", ECHOES)
def test_a_failed_callback_or_head_reveals_no_secret(server, connect, body, name):
    backend = connect(credentials=Credentials("testid", ECHO_SECRET, ECHO_TOKEN))

    def reply(received, _):
        secret = echoes(received)[name]
        fields = "".join(f"<{field}>{secret}</{field}>" for field in FIELDS if field != "Code")
        document = f"<Error><Code>CallbackFailed</Code>{fields}{'<More>x</More>' * 500}</Error>"
        headers = f'ETag: "{secret}"\r\n' + "".join(f"{header}: {secret}\r\n" for header in HEADERS)
        if received.method == "HEAD":
            encoded = base64.b64encode(f"<Error><Code>NoSuchBucket</Code>{fields}</Error>".encode()).decode()
            return f"HTTP/1.1 404 No\r\n{headers}x-oss-err: {encoded}\r\n\r\n".encode()
        return f"HTTP/1.1 203 No\r\n{headers}Content-Length: {len(document)}\r\n\r\n{document}".encode()

    server.reply(*[reply] * 3)
    output = ""
    for kind, call in (
        (CallbackError, lambda: backend.put_object("key", body(b"x"), CALLBACK)),
        (CallbackError, lambda: backend.complete_upload("key", "ID", PARTS, CALLBACK)),
        (BucketNotFound, lambda: backend.head_object("key")),
    ):
        with pytest.raises(kind) as raised:
            call()
        output += all_of(raised.value)
    assert [leaks(output, request) for request in server.requests] == [[]] * 3


@pytest.mark.parametrize("name", ECHOES)
def test_no_field_of_a_successful_response_reveals_a_secret(server, connect, body, caplog, name):
    backend = connect(credentials=Credentials("testid", ECHO_SECRET, ECHO_TOKEN))

    def reply(received, _):
        secret = echoes(received)[name]
        lines = f'ETag: "{secret}"\r\nx-oss-request-id: {secret}\r\nx-oss-version-id: {secret}\r\n'
        lines += f"x-oss-meta-a: {secret}\r\nx-oss-meta-{secret}: a\r\n"
        if received.method == "HEAD":
            return f"HTTP/1.1 200 OK\r\n{lines}Content-Length: 1\r\n\r\n".encode()
        document = f"<InitiateMultipartUploadResult><UploadId>{secret}</UploadId></InitiateMultipartUploadResult>"
        return f"HTTP/1.1 200 OK\r\n{lines}Content-Length: {len(document)}\r\n\r\n{document}".encode()

    server.reply(*[reply] * 5)
    with caplog.at_level(logging.DEBUG):
        output = repr(
            (
                backend.upload_part("key", "ID", 1, body(b"x")),
                backend.put_object("key", body(b"x"), CALLBACK),
                backend.head_object("key"),
                backend.complete_upload("key", "ID", PARTS, CALLBACK),
                backend.initiate_upload("key", PLAIN),
            )
        )
    output += caplog.text + repr([vars(record) for record in caplog.records])
    assert [leaks(output, request) for request in server.requests] == [[]] * 5


@pytest.mark.parametrize(
    "form",
    [
        "HTTP/1.1 200 OK\r\nETag: x\r\nx-oss-hash-crc64ecma: {}\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-oss-request-id: {}\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nETag: x\r\nx-oss-request-id: {}\r\nx-oss-hash-crc64ecma: 1\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
        "HTTP/1.1 200 OK\r\n{}\r\n\r\n",
        "HTTP/1.1 {}\r\n\r\n",
        "{}\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}\r\n",
        "HTTP/1.1 502 Bad\r\nConnection: close\r\n\r\n<html>{}</html>",
        "HTTP/1.1 502 Bad\r\nConnection: close\r\n\r\n<{}>",
    ],
)
def test_an_invalid_response_reveals_no_secret(server, connect, body, form):
    backend = connect(credentials=Credentials("testid", ECHO_SECRET, ECHO_TOKEN))
    for name in ECHOES:
        server.reply(lambda received, _, name=name: form.format(echoes(received)[name]).encode())
        with pytest.raises(PartwiseError) as raised:
            # put, since it compares the checksums; for a part, the engine does.
            backend.put_object("key", body(b"x"), PLAIN)
        assert leaks(all_of(raised.value), server.requests[-1]) == []
        server.drop_connections()


def test_a_request_id_without_a_secret_is_kept(server, oss, kit):
    server.reply(kit.error(404, "NoSuchUpload"))
    with pytest.raises(UploadNotFound) as raised:
        oss.list_parts("key", "ID")
    assert (raised.value.request_id, raised.value.details["host_id"]) == ("REQ1", "examplebucket.example.com")


def test_a_part_with_an_etag_that_no_list_of_parts_can_contain_is_sent_again(server, oss, kit, body):
    server.reply(kit.response(ETag='"a\x01b"'))

    with pytest.raises(ServerFailed, match="its ETag contains a control character") as raised:
        oss.upload_part("k", "u", 1, body(b"x"))
    assert raised.value.retryable


def test_a_request_id_is_shown_without_control_characters(server, oss, kit, caplog):
    caplog.set_level(logging.DEBUG)
    server.reply(kit.response(ETag='"E"', Content_Length="0", x_oss_request_id="R\x1b[2J" + "x" * 200))

    assert oss.head_object("k").request_id == "R [2J" + "x" * 95
    assert "\x1b" not in caplog.text
