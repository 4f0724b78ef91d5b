"""
A small storage that speaks HTTP in this process, and a correct backend of it.

They are here, and not in the file of tests that breaks the backend, so that another process can import them.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import inspect
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from attrs import define, field

from partwise.errors import (
    BackendClosed,
    BackendError,
    BucketNotFound,
    ClockSkewed,
    ConnectionFailed,
    CredentialsExpired,
    IntegrityError,
    ObjectExists,
    PartRejected,
    Throttled,
    UploadNotFound,
)
from partwise.http_errors import error_for_status
from partwise.model import MIB, Capabilities, ObjectOptions, PartLimits, PendingUpload, StoredObject, UploadedPart, utc
from partwise.paging import ResultPage, list_pages
from partwise.protocols import Body

SECRET = "not-to-be-exposed"

# --- a storage -------------------------------------------------------------------------------------------------------

PAGE_MAX = 20
_MIN_PART_SIZE = 5


@define
class Pending:
    key: str
    options: dict[str, Any]
    parts: dict[int, bytes] = field(factory=dict)
    initiated: float = field(factory=time.time)


class Refused(Exception):
    """A response with an error."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


def etag_of(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


class Storage:
    """Objects and uploads in dicts; `fails`, `damages` and `fails_in_body` are the faults of its server."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.objects: dict[str, tuple[bytes, dict[str, Any]]] = {}
        self.uploads: dict[str, Pending] = {}
        self.begun = 0
        self.requests = 0
        self.fails: tuple[int, str, float | None] | None = None
        self.damages = False
        self.fails_in_body = False

    def begin(self, key: str, options: dict[str, Any]) -> str:
        self.check_overwrite(key, options)
        self.begun += 1
        # Random order, as ids of a real storage have.
        upload_id = hashlib.sha256(b"%d" % self.begun).hexdigest()[:16]
        self.uploads[upload_id] = Pending(key, options)
        return upload_id

    def find(self, key: str, upload_id: str) -> Pending:
        upload = self.uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise Refused(404, "NoSuchUpload")
        return upload

    def check_overwrite(self, key: str, options: dict[str, Any]) -> None:
        if options.get("forbid_overwrite") and key in self.objects:
            raise Refused(409, "ObjectExists")

    def complete(self, key: str, upload_id: str, given: list[list[Any]], options: dict[str, Any]) -> dict[str, Any]:
        upload = self.find(key, upload_id)
        self.check_overwrite(key, options)
        numbers = [number for number, _ in given]
        if not numbers or numbers != sorted(set(numbers)):
            raise Refused(400, "InvalidPartOrder")
        if any(number not in upload.parts or etag_of(upload.parts[number]) != etag for number, etag in given):
            raise Refused(400, "InvalidPart")
        if any(len(upload.parts[number]) < _MIN_PART_SIZE for number in numbers[:-1]):
            raise Refused(400, "EntityTooSmall")
        if self.fails_in_body:
            return {"code": "InternalError"}
        data = b"".join(upload.parts[number] for number in numbers)
        del self.uploads[upload_id]
        self.objects[key] = (data, upload.options)
        return {"size": len(data), "etag": etag_of(data)}


class Handler(BaseHTTPRequestHandler):
    """Serves a storage. Lists are in pages of at most 20, as the storage decides."""

    protocol_version = "HTTP/1.1"
    storage: ClassVar[Storage]

    def log_message(self, *_: object) -> None:
        pass

    def handle_one_request(self) -> None:
        with contextlib.suppress(OSError):
            super().handle_one_request()

    def respond(self, status: int, document: object = None, **headers: str) -> None:
        data = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        self.close_connection = True

    def serve(self) -> None:
        storage = self.storage
        with storage.lock:
            storage.requests += 1
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if len(body) < int(self.headers.get("Content-Length", 0)):
            self.close_connection = True
            return
        try:
            if storage.fails is not None:
                status, code, retry_after = storage.fails
                headers = {} if retry_after is None else {"Retry_After": f"{retry_after:.0f}"}
                self.respond(status, {"code": code}, **headers)
                return
            if storage.damages and self.command == "PUT":
                body = bytes([body[0] ^ 1]) + body[1:]
            with storage.lock:
                self.answer(body)
        except Refused as refused:
            self.respond(refused.status, {"code": refused.code})

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = serve  # noqa: N815  # names of the base class

    def answer(self, body: bytes) -> None:
        storage = self.storage
        place = urlsplit(self.path)
        query = dict(parse_qsl(place.query, keep_blank_values=True))
        _, bucket, key = place.path.split("/", 2)
        key = unquote(key)
        options = json.loads(self.headers.get("X-Options", "{}"))
        if self.headers.get("X-Secret") != SECRET:
            raise Refused(403, "AccessDenied")
        if bucket != "bucket":
            raise Refused(404, "NoSuchBucket")
        if self.command == "PUT" and self.headers.get("X-Digest", etag_of(body)) != etag_of(body):
            raise Refused(400, "BadDigest")
        match self.command, query:
            case "POST", {"begin": _}:
                self.respond(200, {"id": storage.begin(key, options)})
            case "PUT", {"id": upload_id, "part": number}:
                storage.find(key, upload_id).parts[int(number)] = body
                self.respond(200, {"etag": etag_of(body), "size": len(body)})
            case "GET", {"prefix": prefix, "after": after, "id": last, "max": most}:
                pending = sorted((upload.key, id_, upload.initiated) for id_, upload in storage.uploads.items())
                later = [each for each in pending if each[:2] > (after, last) and each[0].startswith(prefix)]
                page = later[: min(int(most), PAGE_MAX)]
                self.respond(200, {"entries": page, "more": len(later) > len(page)})
            case "GET", {"id": upload_id, "after": after, "max": most}:
                parts = storage.find(key, upload_id).parts
                later = [number for number in sorted(parts) if number > int(after)]
                page = later[: min(int(most), PAGE_MAX)]
                entries = [[number, len(parts[number]), etag_of(parts[number])] for number in page]
                self.respond(200, {"entries": entries, "more": len(later) > len(page)})
            case "POST", {"id": upload_id}:
                self.respond(200, storage.complete(key, upload_id, json.loads(body), options))
            case "DELETE", {"id": upload_id}:
                storage.find(key, upload_id)
                del storage.uploads[upload_id]
                self.respond(204)
            case "PUT", _:
                storage.check_overwrite(key, options)
                storage.objects[key] = (body, options)
                self.respond(200, {"etag": etag_of(body), "size": len(body)})
            case "HEAD", _:
                data, options = storage.objects.get(key, (None, {}))
                if data is None:
                    raise Refused(404, "NoSuchKey")
                self.respond(200, X_Size=str(len(data)), ETag=etag_of(data), X_Options=json.dumps(options))


class Server:
    """Serves a storage on the loopback."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        handler = type("StorageHandler", (Handler,), {"storage": storage})
        # Many connections at a time, each for one request.
        listener = type("Listener", (ThreadingHTTPServer,), {"request_queue_size": 128, "daemon_threads": True})
        self.http = listener(("127.0.0.1", 0), handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.002}, daemon=True)
        self.thread.start()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.http.server_address[1]}"

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


# --- a correct backend, which subclasses break -----------------------------------------------------------------------

_ERRORS: Mapping[str | int, type[BackendError]] = {
    "NoSuchUpload": UploadNotFound,
    "NoSuchBucket": BucketNotFound,
    "ObjectExists": ObjectExists,
    "InvalidPart": PartRejected,
    "InvalidPartOrder": PartRejected,
    "EntityTooSmall": PartRejected,
    "BadDigest": IntegrityError,
    "SlowDown": Throttled,
    "ExpiredToken": CredentialsExpired,
    "RequestTimeTooSkewed": ClockSkewed,
}


@define
class Response:
    status: int
    headers: http.client.HTTPMessage
    data: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.data) if self.data else {}


def class_text(kind: type[HTTPBackend]) -> str:
    """Return an expression for a class that any process can evaluate."""
    if kind.__module__ == __name__:
        return f"__import__('importlib').import_module({__name__!r}).{kind.__name__}"
    # By the file, since a module of tests can't be imported by name in any process.
    return f"__import__('runpy').run_path({inspect.getfile(kind)!r})[{kind.__name__!r}]"


class HTTPBackend:
    """A correct backend of the storage: about as many lines as a real one takes."""

    limits = PartLimits(min_part_size=_MIN_PART_SIZE, max_part_size=64 * MIB, max_parts=1000, max_put_size=64 * MIB)
    capabilities = Capabilities(
        {"metadata", "content_type", "cache_control", "forbid_overwrite"}, late_options={"forbid_overwrite"}
    )

    def __init__(self, endpoint: str, secret: str = SECRET, bucket: str = "bucket", page_size: int = 1000) -> None:
        self.endpoint = endpoint
        self.secret = secret
        self.bucket = bucket
        self.page_size = page_size
        self.closed = False

    @property
    def location(self) -> str:
        return f"tiny://{self.endpoint}/{self.bucket}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.location}>"

    def __reduce__(self) -> Any:
        opened = f"({self.endpoint!r}, {self.secret!r}, {self.bucket!r}, {self.page_size!r})"
        return eval, (class_text(type(self)) + opened,)

    def close(self) -> None:
        self.closed = True

    # --- operations --------------------------------------------------------------------------------------------------

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        options.require_supported_by(self.capabilities, self.location)
        return self.call("POST", key, {"begin": "1"}, options=options).document["id"]

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        found = self.call("PUT", key, {"id": upload_id, "part": str(part_number)}, body=body).document
        return UploadedPart(part_number, found["size"], found["etag"])

    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        def fetch(after: int) -> ResultPage[UploadedPart, int]:
            query = {"id": upload_id, "after": str(after), "max": str(self.page_size)}
            found = self.call("GET", key, query).document
            parts = [UploadedPart(*entry) for entry in found["entries"]]
            return ResultPage(parts, parts[-1].part_number if found["more"] else None)

        return list_pages(fetch, 0, f"the parts of {key!r}", self.limits.max_parts)

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        options.require_supported_by(self.capabilities, self.location)
        named = json.dumps([[part.part_number, part.etag] for part in parts]).encode()
        response = self.call("POST", key, {"id": upload_id}, options=options, document=named)
        self.check_document(response, f"complete {key!r}")
        return StoredObject(key, response.document["size"], response.document["etag"])

    def abort_upload(self, key: str, upload_id: str) -> None:
        with contextlib.suppress(UploadNotFound):
            self.call("DELETE", key, {"id": upload_id})

    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        def fetch(after: tuple[str, str]) -> ResultPage[PendingUpload, tuple[str, str]]:
            query = {"prefix": prefix, "after": after[0], "id": after[1], "max": str(self.page_size)}
            found = self.call("GET", "", query).document
            uploads = [PendingUpload(key, upload_id, utc(when)) for key, upload_id, when in found["entries"]]
            return ResultPage(uploads, (uploads[-1].key, uploads[-1].upload_id) if found["more"] else None)

        return list_pages(fetch, ("", ""), "uploads", 1_000_000)

    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        options.require_supported_by(self.capabilities, self.location)
        found = self.call("PUT", key, {}, options=options, body=body).document
        return StoredObject(key, found["size"], found["etag"])

    def head_object(self, key: str) -> StoredObject | None:
        response = self.request("HEAD", key, {})
        if response.status == 404:
            return None
        self.check(response, f"head {key!r}")
        stored = json.loads(response.headers["X-Options"])
        return StoredObject(
            key, int(response.headers["X-Size"]), response.headers["ETag"], metadata=stored.get("metadata", {})
        )

    # --- requests ----------------------------------------------------------------------------------------------------

    def call(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        *,
        options: ObjectOptions | None = None,
        body: Body | None = None,
        document: bytes = b"",
    ) -> Response:
        """Make a request, and raise the error of its response."""
        response = self.request(method, key, query, options=options, body=body, document=document)
        self.check(response, f"{method} {key!r}")
        return response

    def check(self, response: Response, what: str) -> None:
        if response.status >= 300:
            raise self.error(response, response.document.get("code"), what)

    def check_document(self, response: Response, what: str) -> None:
        """Raise an error that is in the body of a successful response."""
        if (code := response.document.get("code")) is not None:
            raise error_for_status(500, response.headers, f"{what} failed", code=code, classes=_ERRORS)

    def error(self, response: Response, code: str | None, what: str) -> BackendError:
        return error_for_status(response.status, response.headers, f"{what} failed", code=code, classes=_ERRORS)

    def request(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        *,
        options: ObjectOptions | None = None,
        body: Body | None = None,
        document: bytes = b"",
    ) -> Response:
        """Make one request, and return its response, whatever the status is."""
        if self.closed:
            raise BackendClosed(f"{self.location} was closed")
        target = f"/{self.bucket}/{quote(key, safe='')}" + (f"?{urlencode(query)}" if query else "")
        headers = {"X-Secret": self.secret, "X-Options": json.dumps(self.plain(options))}
        connection = http.client.HTTPConnection(self.endpoint, timeout=30)
        try:
            if body is None:
                headers["Content-Length"] = str(len(document))
                self.send_head(connection, method, target, headers)
                self.io(connection.send, document)
            else:
                headers["Content-Length"] = str(self.length(body))
                headers["X-Digest"] = self.digest(body)
                self.send_head(connection, method, target, headers)
                self.send_body(connection, body)
            response = self.io(connection.getresponse)
            return Response(response.status, response.headers, self.io(response.read))
        finally:
            connection.close()

    def send_head(
        self, connection: http.client.HTTPConnection, method: str, target: str, headers: Mapping[str, str]
    ) -> None:
        connection.putrequest(method, target)
        for name, value in headers.items():
            connection.putheader(name, value)
        self.io(connection.endheaders)

    def send_body(self, connection: http.client.HTTPConnection, body: Body) -> None:
        for chunk in self.exactly(body):
            self.io(connection.send, chunk)

    def exactly(self, body: Body) -> Iterator[memoryview]:
        """Yield the chunks of a body, which has to have its length."""
        left = len(body)
        for chunk in body.chunks():
            left -= len(chunk)
            if left < 0:
                break
            yield chunk
        if left:
            raise IntegrityError("the body has another length than it claims")

    def digest(self, body: Body) -> str:
        """Read the body before it is sent."""
        digest = hashlib.md5()
        for chunk in body.chunks(counted=False):
            digest.update(chunk)
        return digest.hexdigest()

    def length(self, body: Body) -> int:
        return len(body)

    def plain(self, options: ObjectOptions | None) -> dict[str, Any]:
        if options is None:
            return {}
        return {name: getattr(options, name) for name in sorted(options.explicitly_set())}

    def io(self, call: Callable[..., Any], *given: Any) -> Any:
        try:
            return call(*given)
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionFailed(f"{self.location}: {error}") from error


class Opener:
    """Opens a handle, in any process."""

    def __init__(self, kind: type[HTTPBackend], endpoint: str) -> None:
        self.kind = kind
        self.endpoint = endpoint

    def __reduce__(self) -> Any:
        return eval, (f"lambda: {class_text(self.kind)}({self.endpoint!r})",)

    def __call__(self) -> HTTPBackend:
        return self.kind(self.endpoint)


# --- mistakes that show in another process ---------------------------------------------------------------------------


class KeepsPartsInTheProcess(HTTPBackend):
    """Only the process that began an upload sends its parts."""

    begun: ClassVar[set[str]] = set()

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        upload_id = super().initiate_upload(key, options)
        self.begun.add(upload_id)
        return upload_id

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        if upload_id not in self.begun:
            raise UploadNotFound("this process has not begun it")
        return super().upload_part(key, upload_id, part_number, body)


class ProcessInLocation(HTTPBackend):
    @property
    def location(self) -> str:
        return f"tiny://{self.endpoint}/{self.bucket}?client={os.getpid()}"
