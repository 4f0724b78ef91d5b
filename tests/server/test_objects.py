"""Objects: put, get, head, delete, and their options."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from email.utils import formatdate
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from attrs import evolve

from partwise.backends.local import LocalBackend
from partwise.backends.memory import MemoryBackend
from partwise.backends.oss import OSSOptions
from partwise.checksums import crc64
from partwise.model import Capabilities, ObjectOptions, PartLimits
from partwise.server import OSSServer, S3Server, ServerSettings

_PART = b"p" * 100 * 1024


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest().upper()}"'


# --- storing and reading ---------------------------------------------------------------------------------------------


def test_what_was_put_is_read_back(client: Any) -> None:
    stored = client("PUT", "dir/key", body=b"hello")
    assert (stored.status, stored.body) == (200, b"")
    assert stored.headers["ETag"] == _etag(b"hello")
    assert stored.headers["Content-MD5"] == base64.b64encode(hashlib.md5(b"hello").digest()).decode()
    assert stored.headers["x-oss-hash-crc64ecma"] == str(crc64(b"hello"))
    read = client("GET", "dir/key")
    assert (read.status, read.body, read.headers["Content-Length"]) == (200, b"hello", "5")
    assert read.headers["x-oss-object-type"] == "Normal"


def test_an_empty_object_can_be_stored(client: Any) -> None:
    assert client("PUT", "key", body=b"").headers["x-oss-hash-crc64ecma"] == "0"
    assert client("GET", "key").body == b""
    assert client("HEAD", "key").headers["Content-Length"] == "0"


def test_head_describes_an_object_stored_by_put(client: Any) -> None:
    client("PUT", "key", headers={"Content-Type": "text/plain"}, body=b"hello")
    reply = client("HEAD", "key")
    assert (reply.status, reply.body) == (200, b"")
    shown = {name: reply.headers[name] for name in ("Content-Length", "Content-Type", "ETag", "x-oss-object-type")}
    assert shown == {
        "Content-Length": "5",
        "Content-Type": "text/plain",
        "ETag": _etag(b"hello"),
        "x-oss-object-type": "Normal",
    }
    assert reply.headers["x-oss-hash-crc64ecma"] == str(crc64(b"hello"))
    assert reply.headers["Content-MD5"] == base64.b64encode(hashlib.md5(b"hello").digest()).decode()
    assert reply.headers["Last-Modified"].endswith(" GMT")


def test_head_of_a_multipart_object_has_no_md5(client: Any) -> None:
    client.upload("key", [_PART, b"end"])
    reply = client("HEAD", "key")
    assert reply.headers["x-oss-object-type"] == "Multipart"
    assert reply.headers["Content-MD5"] is None
    assert reply.headers["x-oss-hash-crc64ecma"] == str(crc64(_PART + b"end"))


def test_object_meta_is_the_short_form_of_head(client: Any) -> None:
    client("PUT", "key", headers={"x-oss-meta-a": "b"}, body=b"hello")
    reply = client("HEAD", "key", {"objectMeta": ""})
    assert (reply.headers["Content-Length"], reply.headers["ETag"]) == ("5", _etag(b"hello"))
    assert reply.headers["x-oss-meta-a"] is None


def test_a_missing_object_is_refused_with_a_document(client: Any) -> None:
    reply = client("GET", "missing")
    assert (reply.status, reply.code, reply.text("Key")) == (404, "NoSuchKey", "missing")
    assert reply.text("RequestId") == reply.headers["x-oss-request-id"]
    assert reply.text("HostId") == "127.0.0.1"
    assert reply.text("EC") == reply.headers["x-oss-ec"] == "0026-00000001"
    assert len(reply.headers["x-oss-request-id"]) == 24


@pytest.mark.parametrize(("bucket", "code"), [("examplebucket", "NoSuchKey"), ("other", "NoSuchBucket")])
def test_the_document_of_a_refused_head_is_in_a_header(client: Any, bucket: str, code: str) -> None:
    reply = client("HEAD", "missing", bucket=bucket)
    assert (reply.status, reply.body, reply.headers["Content-Length"]) == (404, b"", "0")
    document = ET.fromstring(base64.b64decode(reply.headers["x-oss-err"]))
    assert document.findtext("Code") == code
    assert document.findtext("EC") == reply.headers["x-oss-ec"]


def test_deleting_a_missing_object_succeeds(client: Any) -> None:
    client("PUT", "key", body=b"hello")
    assert [client("DELETE", "key").status for _ in range(2)] == [204, 204]
    assert client("HEAD", "key").status == 404


def test_overwriting_can_be_forbidden(client: Any) -> None:
    assert client("PUT", "key", headers={"x-oss-forbid-overwrite": "true"}, body=b"1").status == 200
    reply = client("PUT", "key", headers={"x-oss-forbid-overwrite": "true"}, body=b"2")
    assert (reply.status, reply.code) == (409, "FileAlreadyExists")
    assert client("GET", "key").body == b"1"


def test_a_condition_on_put_is_not_supported(client: Any) -> None:
    reply = client("PUT", "key", headers={"If-None-Match": "*"}, body=b"1")
    assert (reply.status, reply.code, reply.text("Header")) == (400, "NotImplemented", "if-none-match")


def test_a_wrong_md5_stores_no_object(client: Any) -> None:
    assert client("PUT", "key", headers={"Content-MD5": "not an md5"}, body=b"1").code == "InvalidDigest"
    assert client("HEAD", "key").status == 404


def test_an_object_too_large_for_put_is_refused(client_of: Callable[[OSSServer], Any]) -> None:
    with OSSServer({"examplebucket": MemoryBackend(limits=PartLimits(max_put_size=4))}) as server:
        assert client_of(server)("PUT", "key", body=b"12345").code == "InvalidArgument"


# --- ranges and conditions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "status", "body", "content_range"),
    [
        ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
        ("bytes=3-6", 206, b"3456", "bytes 3-6/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-4", 206, b"6789", "bytes 6-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=5-10", 200, b"0123456789", None),
        ("bytes=10-", 200, b"0123456789", None),
        ("bytes=6-3", 200, b"0123456789", None),
        ("bytes=-0", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        ("bytes=0-1,4-5", 200, b"0123456789", None),
        ("lines=0-1", 200, b"0123456789", None),
    ],
)
def test_a_range_outside_of_the_object_is_ignored(
    client: Any, header: str, status: int, body: bytes, content_range: str | None
) -> None:
    client("PUT", "key", body=b"0123456789")
    reply = client("GET", "key", headers={"Range": header})
    assert (reply.status, reply.body, reply.headers["Content-Range"]) == (status, body, content_range)
    assert reply.headers["x-oss-hash-crc64ecma"] == str(crc64(b"0123456789"))


@pytest.mark.parametrize(
    ("header", "status", "body"),
    [
        ("bytes=5-10", 206, b"56789"),
        ("bytes=10-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=6-3", 200, b"0123456789"),
    ],
)
def test_a_range_can_have_the_standard_behaviour_of_http(
    client: Any, header: str, status: int, body: bytes | None
) -> None:
    client("PUT", "key", body=b"0123456789")
    reply = client("GET", "key", headers={"Range": header, "x-oss-range-behavior": "standard"})
    assert reply.status == status
    assert body is None or reply.body == body
    assert status < 300 or (reply.code, reply.headers["Content-Range"]) == ("InvalidRange", "bytes */10")


_PAST, _FUTURE = formatdate(0, usegmt=True), formatdate(4_000_000_000, usegmt=True)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("If-Match", _etag(b"hello"), 200),
        ("If-Match", "*", 200),
        ("If-Match", '"other"', 412),
        ("If-None-Match", f'"other", {_etag(b"hello")}', 304),
        ("If-None-Match", '"other"', 200),
        ("If-Modified-Since", _PAST, 200),
        ("If-Modified-Since", _FUTURE, 304),
        ("If-Unmodified-Since", _FUTURE, 200),
        ("If-Unmodified-Since", _PAST, 412),
        ("If-Modified-Since", "today", 200),
        ("If-Unmodified-Since", "today", 200),
    ],
)
def test_conditions_decide_about_the_response(client: Any, method: str, name: str, value: str, status: int) -> None:
    client("PUT", "key", body=b"hello")
    reply = client(method, "key", headers={name: value})
    assert reply.status == status
    assert status != 304 or (reply.body, reply.headers["ETag"]) == (b"", _etag(b"hello"))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-Match": "*", "If-Unmodified-Since": _PAST}, 200),
        ({"If-Match": '"other"', "If-Unmodified-Since": _FUTURE}, 412),
        ({"If-None-Match": '"other"', "If-Modified-Since": _FUTURE}, 200),
        ({"If-None-Match": "*", "If-Modified-Since": _PAST}, 304),
    ],
)
def test_a_condition_on_the_etag_takes_precedence_over_one_on_the_time(
    client: Any, headers: dict[str, str], status: int
) -> None:
    client("PUT", "key", body=b"hello")
    assert client("GET", "key", headers=headers).status == status


@pytest.mark.parametrize("server_class", [OSSServer, S3Server])
def test_a_time_after_the_year_9999_is_its_last_second(
    client_of: Any, server_class: type[OSSServer | S3Server]
) -> None:
    settings = ServerSettings(allow_anonymous=True, clock=lambda: 1e15)
    with server_class(settings=settings) as server:
        client = client_of(server)
        assert client("PUT", "key", body=b"x", signed=False).status == 200
        headers = client("GET", "key", signed=False).headers
    assert headers["Last-Modified"] == headers["Date"] == "Fri, 31 Dec 9999 23:59:59 GMT"


def test_the_query_can_override_headers_of_the_response(client: Any) -> None:
    client("PUT", "key", headers={"Content-Type": "text/plain"}, body=b"x")
    query = {"response-content-type": "image/png", "response-cache-control": "no-store"}
    reply = client("GET", "key", query)
    assert (reply.headers["Content-Type"], reply.headers["Cache-Control"]) == ("image/png", "no-store")


# --- options ---------------------------------------------------------------------------------------------------------

_GIVEN = {
    "Content-Type": "text/x-test",
    "Cache-Control": "no-cache",
    "Content-Disposition": "attachment",
    "Content-Encoding": "identity",
    "Content-Language": "en",
    "Expires": "Thu, 01 Dec 2033 16:00:00 GMT",
    "x-oss-storage-class": "IA",
    "x-oss-server-side-encryption": "KMS",
    "x-oss-server-side-data-encryption": "SM4",
    "x-oss-server-side-encryption-key-id": "a-key",
    "x-oss-meta-author": "someone",
}
_ENCRYPTION = ("x-oss-server-side-encryption", "x-oss-server-side-data-encryption")


@pytest.fixture(params=["memory", "directory", "none honoured"])
def any_client(request: pytest.FixtureRequest, tmp_path: Path, client_of: Callable[[OSSServer], Any]) -> Iterable[Any]:
    """A client of a server whose backend supports all options, some, or none."""
    if request.param == "directory":
        backend: LocalBackend | MemoryBackend = LocalBackend(tmp_path)
    elif request.param == "memory":
        backend = MemoryBackend()
    else:
        backend = MemoryBackend(capabilities=Capabilities(object_checksums=True))
    with backend, OSSServer({"examplebucket": backend}) as server:
        yield client_of(server)


def test_head_shows_the_options_of_put(any_client: Any) -> None:
    reply = any_client("PUT", "key", headers={**_GIVEN, "x-oss-tagging": "a=1&b=%202"}, body=b"hello")
    assert {name: reply.headers[name] for name in _ENCRYPTION} == {name: _GIVEN[name] for name in _ENCRYPTION}
    head = any_client("HEAD", "key").headers
    assert {name: head[name] for name in _GIVEN} == _GIVEN
    assert head["x-oss-tagging-count"] == "2"


def test_the_options_of_an_upload_are_fixed_at_initiate(any_client: Any) -> None:
    reply = any_client("POST", "key", {"uploads": ""}, _GIVEN)
    assert reply.headers["x-oss-server-side-encryption"] == "KMS"
    upload_id = reply.text("UploadId")
    part = any_client.part("key", upload_id, 1, b"hello", {"Content-Type": "text/other"})
    assert part.headers["x-oss-server-side-encryption"] == "KMS"
    done = any_client.complete("key", upload_id, [(1, part.headers["ETag"])], {"Content-Type": "application/xml"})
    assert done.headers["x-oss-server-side-encryption"] == "KMS"
    head = any_client("HEAD", "key").headers
    assert {name: head[name] for name in _GIVEN} == _GIVEN


def test_the_backend_gets_the_options_that_it_supports(server: OSSServer, client: Any) -> None:
    client("PUT", "key", headers={**_GIVEN, "x-oss-tagging": "a=1", "x-oss-object-acl": "private"}, body=b"hello")
    backend = server.backend()
    assert isinstance(backend, MemoryBackend)
    assert backend.describe("key") == OSSOptions(
        content_type="text/x-test",
        cache_control="no-cache",
        content_disposition="attachment",
        content_encoding="identity",
        content_language="en",
        expires="Thu, 01 Dec 2033 16:00:00 GMT",
        storage_class="IA",
        encryption="KMS",
        data_encryption="SM4",
        kms_key_id="a-key",
        metadata={"author": "someone"},
        tags={"a": "1"},
        acl="private",
    )


def test_an_object_without_options_has_a_default_type_and_storage_class(client: Any) -> None:
    client("PUT", "key", body=b"hello")
    head = client("HEAD", "key").headers
    assert (head["Content-Type"], head["x-oss-storage-class"]) == ("application/octet-stream", "Standard")


def test_the_acl_of_an_object_is_set_at_complete(client: Any) -> None:
    upload_id = client.begin("key", {"x-oss-object-acl": "public-read"})
    etag = client.part("key", upload_id, 1, b"x").headers["ETag"]
    client.complete("key", upload_id, [(1, etag)], {"x-oss-object-acl": "private"})
    assert client("GET", "key", {"acl": ""}).text("AccessControlList/Grant") == "private"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-oss-storage-class": "Glacier"}, "InvalidArgument"),
        ({"x-oss-object-acl": "open"}, "InvalidArgument"),
        ({"x-oss-server-side-encryption": "ROT13"}, "InvalidEncryptionAlgorithmError"),
        ({"x-oss-server-side-encryption": "AES256", "x-oss-server-side-encryption-key-id": "k"}, "InvalidArgument"),
        ({"x-oss-server-side-data-encryption": "SM4"}, "InvalidArgument"),
        ({"x-oss-forbid-overwrite": "yes"}, "InvalidArgument"),
        ({"x-oss-request-payer": "me"}, "InvalidArgument"),
        ({"x-oss-tagging": "&".join(f"k{i}=v" for i in range(11))}, "InvalidArgument"),
        ({"x-oss-tagging": "a=1&a=2"}, "InvalidArgument"),
        ({"x-oss-meta-a": "x" * 5000, "x-oss-meta-b": "x" * 5000}, "InvalidArgument"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_invalid_option_is_refused_and_nothing_is_stored(client: Any, headers: dict[str, str], code: str) -> None:
    assert client("PUT", "key", headers=headers, body=b"x").code == code
    assert client("POST", "key", {"uploads": ""}, headers).code == code
    assert client("HEAD", "key").status == 404


# --- objects that were not stored through the server -----------------------------------------------------------------


class _Bytes:
    """A body of bytes in memory."""

    checksum = None

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def chunks(self, *, counted: bool = True) -> Iterable[memoryview]:
        yield memoryview(self._data)


def test_an_object_written_without_the_server_is_shown_as_the_backend_describes_it(
    server: OSSServer, client: Any
) -> None:
    client("PUT", "key", headers={"Content-Type": "text/old", "x-oss-meta-a": "old"}, body=b"old")
    options = ObjectOptions(content_type="text/new", metadata={"a": "new"})
    server.backend().put_object("key", _Bytes(b"new bytes"), options)  # type: ignore[arg-type]
    head = client("HEAD", "key").headers
    assert (head["Content-Type"], head["x-oss-meta-a"], head["Content-Length"]) == ("text/new", "new", "9")


def test_a_file_copied_into_a_bucket_is_an_object(tmp_path: Path, client_of: Callable[[OSSServer], Any]) -> None:
    (tmp_path / "examplebucket" / "dir").mkdir(parents=True)
    (tmp_path / "examplebucket" / "dir" / "file").write_bytes(b"by hand")
    with OSSServer(directory=tmp_path) as server:
        client = client_of(server)
        assert client("GET", "dir/file").body == b"by hand"
        assert client("HEAD", "dir/file").headers["x-oss-hash-crc64ecma"] == str(crc64(b"by hand"))
        assert client("DELETE", "dir/file").status == 204
    assert not (tmp_path / "examplebucket" / "dir" / "file").exists()


def test_a_file_deleted_before_it_is_opened_is_not_found(
    tmp_path: Path, client_of: Callable[[OSSServer], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "examplebucket").mkdir()
    with OSSServer(directory=tmp_path) as server:
        client = client_of(server)
        client("PUT", "key", body=b"data")
        stored = server.backend().head_object("key")
        assert stored is not None
        monkeypatch.setattr(LocalBackend, "head_object", lambda *_: stored)
        (tmp_path / "examplebucket" / "key").unlink()
        assert client("GET", "key").code == "NoSuchKey"
        monkeypatch.setattr(LocalBackend, "head_object", lambda *_: evolve(stored, etag="another"))
        assert client("HEAD", "key").status == 200
        assert client("GET", "key").code == "NoSuchKey"


@pytest.mark.parametrize("key", ["a/../b", "..", ".partwise/x", "dir/"])
def test_a_key_that_the_backend_does_not_support_is_refused(
    tmp_path: Path, client_of: Callable[[OSSServer], Any], key: str
) -> None:
    (tmp_path / "examplebucket").mkdir()
    with OSSServer(directory=tmp_path) as server:
        reply = client_of(server)("PUT", key, body=b"x")
    assert (reply.status, reply.code) == (400, "InvalidObjectName")


class _WriteOnly:
    """A backend that can store, but not read."""

    def __init__(self) -> None:
        self._backend = MemoryBackend()

    def __getattr__(self, name: str) -> Any:
        if name in ("open_object", "delete_object", "list_objects", "modified_at", "describe"):
            raise AttributeError(name)
        return getattr(self._backend, name)


@pytest.mark.parametrize(("method", "key"), [("GET", "key"), ("DELETE", "key"), ("GET", None)])
def test_reading_from_a_backend_that_can_not_read_objects_is_refused(
    client_of: Callable[[OSSServer], Any], method: str, key: str | None
) -> None:
    backend: Any = _WriteOnly()
    with OSSServer({"examplebucket": backend}) as server:
        client = client_of(server)
        backend.put_object("past", _Bytes(b"x"), ObjectOptions(metadata={"a": "b"}))
        client("PUT", "key", body=b"x")
        reply = client(method, key)
        assert client("HEAD", "key").status == 200
        assert client("HEAD", "past").headers["x-oss-meta-a"] == "b"
    assert (reply.status, reply.code) == (501, "NotImplemented")


class _Reader(_WriteOnly):
    """A backend with the optional methods of `ObjectAccess`."""

    def open_object(self, key: str) -> Any:
        return io.BytesIO(self._backend.read(key))

    def delete_object(self, key: str) -> None:
        raise NotImplementedError

    def list_objects(self, prefix: str = "") -> Sequence[str]:
        keys = self._backend.keys()
        return [key for key in keys if key.startswith(prefix)]

    def modified_at(self, key: str) -> float | None:
        return 0.0

    def describe(self, key: str) -> ObjectOptions | None:
        return self._backend.describe(key)


def test_a_backend_can_implement_object_access_itself(client_of: Callable[[OSSServer], Any]) -> None:
    backend: Any = _Reader()
    with OSSServer({"examplebucket": backend}) as server:
        backend.put_object("key", _Bytes(b"data"), ObjectOptions())
        client = client_of(server)
        assert client("GET", "key").body == b"data"
        assert client("GET").texts("Contents/Key") == ["key"]
        assert client("HEAD", "key").headers["Last-Modified"] == "Thu, 01 Jan 1970 00:00:00 GMT"
