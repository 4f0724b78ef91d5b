"""Multipart uploads: the operations, and the rules of each."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from partwise.backends.memory import MemoryBackend
from partwise.checksums import crc64
from partwise.errors import (
    AccessDenied,
    BackendError,
    ConnectionFailed,
    PartRejected,
    ServerFailed,
    Throttled,
)
from partwise.model import Capabilities, PartLimits
from partwise.server import OSSServer, ServerSettings

PART = 100 * 1024
FIRST, SECOND, LAST = b"1" * PART, b"2" * PART, b"3" * 100


def etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest().upper()}"'


# --- complete uploads ------------------------------------------------------------------------------------------------


def test_parts_become_an_object(server: OSSServer, client: Any) -> None:
    reply = client.upload("dir/a b+中.bin", [FIRST, SECOND, LAST])
    assert reply.status == 200
    assert reply.text("Key") == "dir/a b+中.bin"
    assert reply.text("Bucket") == "examplebucket"
    assert reply.text("ETag") == reply.headers["ETag"]
    assert reply.headers["x-oss-hash-crc64ecma"] == str(crc64(FIRST + SECOND + LAST))
    backend = server.backend()
    assert isinstance(backend, MemoryBackend)
    assert backend.read("dir/a b+中.bin") == FIRST + SECOND + LAST
    assert backend.uploads == {}


def test_the_response_to_a_part_describes_what_was_stored(client: Any) -> None:
    upload_id = client.begin("key")
    reply = client.part("key", upload_id, 1, LAST)
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["ETag"] == etag(LAST)
    assert reply.headers["Content-MD5"] == base64.b64encode(hashlib.md5(LAST).digest()).decode()
    assert reply.headers["x-oss-hash-crc64ecma"] == str(crc64(LAST))


def test_a_part_is_replaced_by_a_later_one_with_its_number(client: Any) -> None:
    upload_id = client.begin("key")
    stale = client.part("key", upload_id, 1, FIRST).headers["ETag"]
    fresh = client.part("key", upload_id, 1, LAST).headers["ETag"]
    assert client.complete("key", upload_id, [(1, stale)]).code == "InvalidPart"
    assert client.complete("key", upload_id, [(1, fresh)]).status == 200
    assert client("GET", "key").body == LAST


def test_parts_that_complete_does_not_list_are_dropped(client: Any) -> None:
    upload_id = client.begin("key")
    etags = [client.part("key", upload_id, number, FIRST).headers["ETag"] for number in (1, 5, 8)]
    assert client.complete("key", upload_id, [(1, etags[0]), (8, etags[2])]).status == 200
    assert client("HEAD", "key").headers["Content-Length"] == str(2 * PART)


def test_quotes_around_etags_are_optional(client: Any) -> None:
    upload_id = client.begin("key")
    bare = client.part("key", upload_id, 1, LAST).headers["ETag"].strip('"')
    assert client.complete("key", upload_id, [(1, bare)]).status == 200


def test_complete_all_uses_every_part(client: Any) -> None:
    upload_id = client.begin("key")
    client.part("key", upload_id, 2, LAST)
    client.part("key", upload_id, 1, FIRST)
    reply = client("POST", "key", {"uploadId": upload_id}, {"x-oss-complete-all": "yes"}, b"")
    assert reply.status == 200
    assert client("GET", "key").body == FIRST + LAST


def test_two_uploads_of_one_key_are_independent(client: Any) -> None:
    one, other = client.begin("key"), client.begin("key")
    assert one != other
    etag = client.part("key", one, 1, LAST).headers["ETag"]
    assert client.complete("key", other, [(1, etag)]).code == "InvalidPart"
    assert client.complete("key", one, [(1, etag)]).status == 200


def test_the_key_is_encoded_on_request(client: Any) -> None:
    reply = client("POST", "a/b+c", {"uploads": "", "encoding-type": "url"})
    assert (reply.text("Key"), reply.text("EncodingType")) == ("a%2Fb%2Bc", "url")
    assert client("POST", "a/b", {"uploads": "", "encoding-type": "base64"}).code == "InvalidArgument"


def test_the_etag_of_a_multipart_object_can_be_changed(server: OSSServer, client: Any) -> None:
    server.settings = evolve(server.settings, multipart_etag=lambda etag: "F" * 32 + "-1")
    reply = client.upload("key", [LAST])
    assert reply.headers["ETag"] == '"FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF-1"' == client("HEAD", "key").headers["ETag"]


# --- limits of a part ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["0", "10001", "-1", "one", "100000"])
def test_a_part_number_outside_1_to_10000_is_refused(client: Any, number: str) -> None:
    reply = client("PUT", "key", {"partNumber": number, "uploadId": client.begin("key")}, body=b"x")
    assert (reply.status, reply.code) == (400, "InvalidArgument")
    assert (reply.text("ArgumentName"), reply.text("ArgumentValue")) == ("PartNumber", number)


@pytest.mark.parametrize("left_out", ["partNumber", "uploadId"])
def test_a_part_without_number_or_upload_id_is_refused(client: Any, left_out: str) -> None:
    query = {"partNumber": "1", "uploadId": client.begin("key")}
    del query[left_out]
    reply = client("PUT", "key", query, body=b"x")
    assert (reply.code, reply.text("ArgumentName")) == ("InvalidArgument", "ResourceType")
    assert client("HEAD", "key").status == 404


def test_the_refusal_of_a_part_names_the_unknown_upload(client: Any) -> None:
    reply = client.part("key", "F" * 32, 1, LAST)
    assert (reply.status, reply.code, reply.text("UploadId")) == (404, "NoSuchUpload", "F" * 32)
    assert reply.headers["x-oss-ec"] == "0017-00000244"


def test_an_upload_id_is_valid_for_its_key_only(client: Any) -> None:
    assert client.part("other", client.begin("key"), 1, LAST).code == "NoSuchUpload"


def test_a_wrong_md5_stores_nothing(client: Any) -> None:
    upload_id = client.begin("key")
    md5 = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    reply = client.part("key", upload_id, 1, LAST, {"Content-MD5": md5})
    assert (reply.status, reply.code) == (400, "InvalidDigest")
    assert client("GET", "key", {"uploadId": upload_id}).texts("Part") == []


def test_a_correct_md5_is_accepted(client: Any) -> None:
    md5 = base64.b64encode(hashlib.md5(LAST).digest()).decode()
    assert client.part("key", client.begin("key"), 1, LAST, {"Content-MD5": md5}).status == 200


@pytest.mark.parametrize(("checksum", "status"), [(str(crc64(LAST)), 200), ("1", 400)])
def test_a_crc64_in_the_request_is_checked(client: Any, checksum: str, status: int) -> None:
    reply = client.part("key", client.begin("key"), 1, LAST, {"x-oss-hash-crc64ecma": checksum})
    assert reply.status == status
    assert status == 200 or reply.code == "InvalidCRC64"


def test_encryption_is_refused_on_a_part(client: Any) -> None:
    reply = client.part("key", client.begin("key"), 1, LAST, {"x-oss-server-side-encryption": "AES256"})
    assert (reply.status, reply.code) == (400, "InvalidArgument")


def test_a_part_above_the_maximum_size_is_refused(client_of: Callable[[OSSServer], Any]) -> None:
    backend = MemoryBackend(limits=PartLimits(max_part_size=99))
    with OSSServer({"examplebucket": backend}) as server:
        client = client_of(server)
        assert client.part("key", client.begin("key"), 1, LAST).code == "EntityTooLarge"


@pytest.mark.parametrize(
    ("header", "query", "accepted"),
    [("819200", None, True), (None, "838860800", True), ("819199", None, False), ("819200", "819200", False)],
)
def test_a_traffic_limit_out_of_range_or_given_twice_is_refused(
    client: Any, header: str | None, query: str | None, accepted: bool
) -> None:
    fields = {"partNumber": "1", "uploadId": client.begin("key")} | ({"x-oss-traffic-limit": query} if query else {})
    headers = {"x-oss-traffic-limit": header} if header else {}
    assert (client("PUT", "key", fields, headers, LAST).status == 200) is accepted


def test_a_sequential_upload_accepts_each_part_once_and_in_order(client: Any) -> None:
    upload_id = client.begin("key", query={"sequential": ""})
    assert client.part("key", upload_id, 2, LAST).code == "PartNotSequential"
    assert client.part("key", upload_id, 1, FIRST).status == 200
    again = client.part("key", upload_id, 1, FIRST)
    assert (again.status, again.code) == (409, "PartAlreadyExist")
    assert client.part("key", upload_id, 2, LAST).status == 200


# --- completing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(2, 1), (1, 1)])
def test_the_parts_of_complete_must_be_in_ascending_order(client: Any, order: tuple[int, int]) -> None:
    upload_id = client.begin("key")
    etags = {number: client.part("key", upload_id, number, FIRST).headers["ETag"] for number in (1, 2)}
    reply = client.complete("key", upload_id, [(number, etags[number]) for number in order])
    assert (reply.status, reply.code, reply.text("EC")) == (400, "InvalidPartOrder", "0042-00000209")


@pytest.mark.parametrize("named", [(2, etag(FIRST)), (1, etag(b"other")), (1, etag(FIRST).lower())])
def test_the_refusal_names_a_part_that_does_not_exist(client: Any, named: tuple[int, str]) -> None:
    upload_id = client.begin("key")
    client.part("key", upload_id, 1, FIRST)
    reply = client.complete("key", upload_id, [named])
    assert (reply.status, reply.code) == (400, "InvalidPart")
    assert reply.text("PartNumber") == str(named[0])
    assert reply.text("ETag") == named[1].strip('"')
    assert reply.text("UploadId") == upload_id
    assert client.complete("key", upload_id, [(1, etag(FIRST))]).status == 200


def test_all_parts_but_the_last_listed_have_the_minimum_size(client: Any) -> None:
    upload_id = client.begin("key")
    small = b"x" * (PART - 1)
    for number, data in enumerate((small, FIRST, LAST), 1):
        client.part("key", upload_id, number, data)
    reply = client.complete("key", upload_id, [(1, etag(small)), (2, etag(FIRST))])
    assert (reply.status, reply.code, reply.headers["x-oss-ec"]) == (400, "EntityTooSmall", "0042-00000213")
    assert (reply.text("PartNumber"), reply.text("ProposedSize")) == ("1", str(PART - 1))
    assert reply.text("MinSizeAllowed") == str(PART)
    assert client.complete("key", upload_id, [(2, etag(FIRST)), (3, etag(LAST))]).status == 200


def test_the_minimum_part_size_can_be_set(client_of: Callable[[OSSServer], Any]) -> None:
    backend = MemoryBackend(limits=PartLimits(min_part_size=1))
    with OSSServer({"examplebucket": backend}, settings=ServerSettings(min_part_size=1)) as server:
        assert client_of(server).upload("key", [b"a", b"b", b"c"]).status == 200
        assert backend.read("key") == b"abc"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not xml",
        b"<CompleteMultipartUpload>",
        b"<CompleteMultipartUpload></CompleteMultipartUpload>",
        b"<Other><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part></Other>",
        b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>",
        b"<CompleteMultipartUpload><Part><PartNumber>x</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>",
        b'<!DOCTYPE x [<!ENTITY e "1">]><CompleteMultipartUpload/>',
        b" " * (4 * 1024 * 1024 + 1),
    ],
)
def test_an_invalid_document_is_refused(client: Any, body: bytes) -> None:
    upload_id = client.begin("key")
    client.part("key", upload_id, 1, LAST)
    reply = client("POST", "key", {"uploadId": upload_id}, body=body)
    assert (reply.status, reply.code) == (400, "MalformedXML")


def test_a_document_may_have_a_namespace(client: Any) -> None:
    upload_id = client.begin("key")
    client.part("key", upload_id, 1, LAST)
    body = (
        '<?xml version="1.0"?><CompleteMultipartUpload xmlns="http://doc.oss-cn-hangzhou.aliyuncs.com">'
        f"<Part><ETag> {etag(LAST)} </ETag><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>"
    )
    assert client("POST", "key", {"uploadId": upload_id}, body=body.encode()).status == 200


def test_complete_all_and_a_document_exclude_each_other(client: Any) -> None:
    upload_id = client.begin("key")
    client.part("key", upload_id, 1, LAST)
    reply = client.complete("key", upload_id, [(1, etag(LAST))], {"x-oss-complete-all": "yes"})
    assert (reply.status, reply.code) == (400, "InvalidArgument")


def test_complete_all_without_parts_is_refused(client: Any) -> None:
    query = {"uploadId": client.begin("key")}
    assert client("POST", "key", query, {"x-oss-complete-all": "yes"}, b"").code == "InvalidPart"


def test_a_completed_upload_can_not_be_completed_again(client: Any) -> None:
    upload_id = client.begin("key")
    client.part("key", upload_id, 1, LAST)
    assert client.complete("key", upload_id, [(1, etag(LAST))]).status == 200
    again = client.complete("key", upload_id, [(1, etag(LAST))])
    assert (again.status, again.code) == (404, "NoSuchUpload")


def test_overwriting_can_be_forbidden_at_initiate_and_at_complete(client: Any) -> None:
    upload_id = client.begin("key", {"x-oss-forbid-overwrite": "true"})
    client.part("key", upload_id, 1, LAST)
    client("PUT", "key", body=b"there")
    refused = client.complete("key", upload_id, [(1, etag(LAST))], {"x-oss-forbid-overwrite": "true"})
    assert (refused.status, refused.code, refused.text("EC")) == (409, "FileAlreadyExists", "0042-00000214")
    initiated = client("POST", "key", {"uploads": ""}, {"x-oss-forbid-overwrite": "true"})
    assert initiated.code == "FileAlreadyExists"
    assert client("GET", "key").body == b"there"
    # If only initiate forbids it, complete may overwrite.
    assert client.complete("key", upload_id, [(1, etag(LAST))]).status == 200


def test_an_object_above_the_maximum_size_is_refused(client_of: Callable[[OSSServer], Any]) -> None:
    with OSSServer({"examplebucket": MemoryBackend(limits=PartLimits(max_object_size=150))}) as server:
        client = client_of(server)
        upload_id = client.begin("key")
        client.part("key", upload_id, 1, LAST)
        client.part("key", upload_id, 2, LAST)
        server.settings = evolve(server.settings, min_part_size=1)
        assert client.complete("key", upload_id, [(1, etag(LAST)), (2, etag(LAST))]).code == "EntityTooLarge"


@pytest.mark.parametrize("part_checksums", [True, False])
def test_the_checksum_of_the_object_is_computed_from_those_of_the_parts(
    client_of: Callable[[OSSServer], Any], part_checksums: bool
) -> None:
    """If the backend reports none of the object; without those of the parts it stays unknown."""
    backend = MemoryBackend(capabilities=Capabilities(part_checksums=part_checksums, object_checksums=False))
    with OSSServer({"examplebucket": backend}) as server:
        reply = client_of(server).upload("key", [FIRST, LAST])
    expected = str(crc64(FIRST + LAST)) if part_checksums else None
    assert reply.headers["x-oss-hash-crc64ecma"] == expected


# --- aborting --------------------------------------------------------------------------------------------------------


def test_an_aborted_upload_no_longer_exists(client: Any) -> None:
    upload_id = client.begin("key")
    client.part("key", upload_id, 1, LAST)
    assert client("DELETE", "key", {"uploadId": upload_id}).status == 204
    assert client("DELETE", "key", {"uploadId": upload_id}).code == "NoSuchUpload"
    assert client("GET", "key", {"uploadId": upload_id}).code == "NoSuchUpload"
    assert client.part("key", upload_id, 2, LAST).code == "NoSuchUpload"


def test_aborting_under_another_key_is_refused(client: Any) -> None:
    upload_id = client.begin("key")
    assert client("DELETE", "ke", {"uploadId": upload_id}).code == "NoSuchUpload"
    assert client("GET", "key", {"uploadId": upload_id}).status == 200


# --- the list of parts -----------------------------------------------------------------------------------------------


def test_parts_are_listed_by_number(client: Any) -> None:
    upload_id = client.begin("key", {"x-oss-storage-class": "IA"})
    for number in (3, 1, 2):
        client.part("key", upload_id, number, str(number).encode())
    reply = client("GET", "key", {"uploadId": upload_id})
    assert reply.texts("Part/PartNumber") == ["1", "2", "3"]
    assert reply.texts("Part/Size") == ["1", "1", "1"]
    assert reply.texts("Part/ETag") == [etag(b"1"), etag(b"2"), etag(b"3")]
    assert reply.texts("Part/HashCrc64ecma") == [str(crc64(data)) for data in (b"1", b"2", b"3")]
    assert reply.text("StorageClass") == "IA"
    assert (reply.text("IsTruncated"), reply.text("NextPartNumberMarker")) == ("false", "3")
    assert (reply.text("MaxParts"), reply.text("PartNumberMarker")) == ("1000", "0")


def test_an_upload_without_parts_has_an_empty_list(client: Any) -> None:
    reply = client("GET", "key", {"uploadId": client.begin("key")})
    assert (reply.texts("Part"), reply.text("NextPartNumberMarker")) == ([], "0")


def test_parts_are_listed_in_pages(client: Any) -> None:
    upload_id = client.begin("key")
    for number in range(1, 6):
        client.part("key", upload_id, number, b"x")
    seen, marker, pages = [], "0", 0
    while True:
        reply = client("GET", "key", {"uploadId": upload_id, "max-parts": "2", "part-number-marker": marker})
        seen += reply.texts("Part/PartNumber")
        marker, pages = reply.text("NextPartNumberMarker"), pages + 1
        if reply.text("IsTruncated") == "false":
            break
    assert (seen, pages, marker) == (["1", "2", "3", "4", "5"], 3, "5")


def test_a_page_can_be_limited_to_one_part(server: OSSServer, client: Any) -> None:
    server.settings = evolve(server.settings, page_limit=1)
    upload_id = client.begin("key")
    for number in (1, 2):
        client.part("key", upload_id, number, b"x")
    reply = client("GET", "key", {"uploadId": upload_id, "max-parts": "1000"})
    assert (reply.texts("Part/PartNumber"), reply.text("IsTruncated")) == (["1"], "true")


@pytest.mark.parametrize("query", [{"max-parts": "0"}, {"max-parts": "1001"}, {"part-number-marker": "x"}])
def test_invalid_limits_and_markers_are_refused(client: Any, query: dict[str, str]) -> None:
    reply = client("GET", "key", {"uploadId": client.begin("key"), **query})
    assert (reply.status, reply.code) == (400, "InvalidArgument")
    assert reply.text("ArgumentName") == next(iter(query))


@pytest.mark.parametrize("name", ["list_checksums", "checksums"])
def test_the_settings_can_suppress_checksums(server: OSSServer, client: Any, name: str) -> None:
    changes: dict[str, Any] = {name: False}
    server.settings = evolve(server.settings, **changes)
    upload_id = client.begin("key")
    reply = client.part("key", upload_id, 1, LAST)
    assert ("x-oss-hash-crc64ecma" in reply.headers) is (name == "list_checksums")
    assert client("GET", "key", {"uploadId": upload_id}).texts("Part/HashCrc64ecma") == []


# --- a backend that fails --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ServerFailed("disk"), 500, "InternalError"),
        (Throttled("slow", retry_after=2.4), 503, "ServiceUnavailable"),
        (ConnectionFailed("gone"), 503, "ServiceUnavailable"),
        (AccessDenied("no"), 403, "AccessDenied"),
        (PartRejected("why"), 400, "InvalidPart"),
        (PartRejected("why", code="EntityTooSmall"), 400, "EntityTooSmall"),
        (BackendError("in the way"), 400, "InvalidRequest"),
        (BackendError("odd", code="QpsLimitExceeded", retryable=True), 503, "QpsLimitExceeded"),
    ],
    ids=repr,
)
def test_a_failure_of_the_backend_is_answered_as_the_service_would(  # noqa: PLR0917 -- fixtures and a table's columns
    server: OSSServer, client: Any, monkeypatch: pytest.MonkeyPatch, error: BackendError, status: int, code: str
) -> None:
    def fail(*_: object) -> str:
        raise error

    monkeypatch.setattr(server.backend(), "initiate_upload", fail)
    reply = client("POST", "key", {"uploads": ""})
    assert (reply.status, reply.code, reply.text("Message")) == (status, code, error.message)
    assert reply.headers["Retry-After"] == (None if error.retry_after is None else "2")


def test_a_defect_of_the_backend_is_an_internal_error_and_is_logged(
    server: OSSServer, client: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> str:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(server.backend(), "initiate_upload", fail)
    reply = client("POST", "key", {"uploads": ""})
    assert (reply.status, reply.code) == (500, "InternalError")
    assert "ZeroDivisionError" in caplog.text
