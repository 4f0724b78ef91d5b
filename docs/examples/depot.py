"""
Depot, a small storage with an HTTP API, to write a backend for.

    python depot.py 8000

It serves one bucket from memory, to requests with the header ``Authorization: Bearer the-token``. Keys are
percent-encoded in the path. Parts and objects are described by ``etag``, ``size`` and ``crc32``, as JSON and as headers
``Depot-...``.

    POST   /bucket/KEY?uploads                       {"upload": ID}
    PUT    /bucket/KEY?upload=ID&part=N              a part
    GET    /bucket/KEY?upload=ID&after=N&limit=N     {"parts": [...], "next": N or null}
    POST   /bucket/KEY?upload=ID                     an object, from {"parts": [[N, ETAG], ...]}
    DELETE /bucket/KEY?upload=ID                     {}
    GET    /bucket/?uploads&prefix=P&after=TOKEN     {"uploads": [...], "next": TOKEN or null}
    PUT    /bucket/KEY                               an object
    HEAD   /bucket/KEY                               the headers of an object

An error is ``{"code": ..., "message": ...}``, and the header ``Depot-Error``. ``If-None-Match: *`` forbids to
overwrite. ``Content-Type`` and ``Depot-Metadata`` (as a query string) are those of the request that stored or initiated
an object.
"""

import json
import sys
import threading
import time
import uuid
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

KEPT_HEADERS = ("Content-Type", "Depot-Metadata")


class DepotError(Exception):
    """A request that fails: its status and code, and the seconds to wait before the next one."""

    def __init__(self, status, code, retry_after=None):
        super().__init__(code)
        self.status, self.code, self.retry_after = status, code, retry_after


class Stored:
    """The bytes of a part or of an object."""

    def __init__(self, data, headers=None):
        self.data, self.headers = data, headers or {}
        self.etag, self.crc32 = uuid.uuid4().hex, zlib.crc32(data)

    def describe(self, **more):
        return {"etag": self.etag, "size": len(self.data), "crc32": self.crc32, **more}


class Request:
    """A request to the bucket."""

    def __init__(self, path, headers, data):
        url = urlsplit(path)
        if not url.path.startswith("/bucket/"):
            raise DepotError(404, "NoSuchBucket")
        self.key = unquote(url.path.removeprefix("/bucket/"), errors="strict")
        self.query = {name: value for name, [value] in parse_qs(url.query, keep_blank_values=True).items()}
        self.headers, self.data = headers, data

    @property
    def kept_headers(self):
        return {name: self.headers[name] for name in KEPT_HEADERS if name in self.headers}


class Depot(ThreadingHTTPServer):
    """
    The server. Use it as a context manager in tests.

    Args:
        port: the port on this machine; 0 chooses a free one.

    Attributes:
        tokens: which tokens are accepted, and what goes wrong with requests that have them: None, a `DepotError`,
            ``"disconnect"``, ``"damage"`` (a bit of each body) or ``"error in body"`` (of completing, with status 200).
        requests: how many requests were received.
    """

    daemon_threads = True

    def __init__(self, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/bucket"
        self.tokens, self.requests, self.lock = {"the-token": None}, 0, threading.Lock()
        self.objects, self.uploads = {}, {}

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.shutdown()
        self.server_close()

    # --- the operations: each returns a document ---------------------------------------------------------------------

    def initiate(self, request):
        self.check_overwrite(request)
        upload_id = uuid.uuid4().hex
        upload = {"key": request.key, "headers": request.kept_headers, "parts": {}, "initiated": time.time()}
        self.uploads[upload_id] = upload
        return {"upload": upload_id}

    def put_part(self, request):
        stored = self.upload_of(request)["parts"][int(request.query["part"])] = Stored(request.data)
        return stored.describe()

    def list_parts(self, request):
        parts = self.upload_of(request)["parts"]
        after, limit = int(request.query["after"]), int(request.query["limit"])
        numbers = sorted(number for number in parts if number > after)
        page = [parts[number].describe(number=number) for number in numbers[:limit]]
        return {"parts": page, "next": numbers[limit - 1] if len(numbers) > limit else None}

    def complete(self, request):
        upload = self.upload_of(request)
        self.check_overwrite(request)
        named = [(number, etag) for number, etag in json.loads(request.data)["parts"]]
        if not named or [number for number, _ in named] != sorted({number for number, _ in named}):
            raise DepotError(400, "PartsNotInOrder")
        stored = {(number, part.etag): part.data for number, part in upload["parts"].items()}
        if any(part not in stored for part in named):
            raise DepotError(400, "NoSuchPart")
        del self.uploads[request.query["upload"]]
        return self.store(request.key, b"".join(stored[part] for part in named), upload["headers"])

    def abort(self, request):
        self.upload_of(request)
        del self.uploads[request.query["upload"]]
        return {}

    def list_uploads(self, request):
        query = request.query
        after, limit = tuple(json.loads(query["after"] or '["", ""]')), int(query["limit"])
        found = sorted(
            (upload["key"], upload_id, upload["initiated"])
            for upload_id, upload in self.uploads.items()
            if upload["key"].startswith(query["prefix"]) and (upload["key"], upload_id) > after
        )
        return {"uploads": found[:limit], "next": json.dumps(found[limit - 1][:2]) if len(found) > limit else None}

    def put(self, request):
        self.check_overwrite(request)
        return self.store(request.key, request.data, request.kept_headers)

    def head(self, request):
        if request.key not in self.objects:
            raise DepotError(404, "NoSuchObject")
        return self.objects[request.key].describe()

    def upload_of(self, request):
        upload = self.uploads.get(request.query["upload"])
        if upload is None or upload["key"] != request.key:
            raise DepotError(404, "NoSuchUpload")
        return upload

    def check_overwrite(self, request):
        if request.headers.get("If-None-Match") == "*" and request.key in self.objects:
            raise DepotError(412, "ObjectExists")

    def store(self, key, data, headers):
        self.objects[key] = stored = Stored(data, headers)
        return stored.describe()


OPERATIONS = {
    ("POST", "uploads"): Depot.initiate,
    ("PUT", "part"): Depot.put_part,
    ("GET", "upload"): Depot.list_parts,
    ("POST", "upload"): Depot.complete,
    ("DELETE", "upload"): Depot.abort,
    ("GET", "uploads"): Depot.list_uploads,
    ("PUT", "object"): Depot.put,
    ("HEAD", "object"): Depot.head,
}


class Handler(BaseHTTPRequestHandler):
    """Reads a request, calls the operation with the server's lock held, and sends its result."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def handle_request(self):
        depot, length = self.server, int(self.headers.get("Content-Length", 0))
        data = self.rfile.read(length)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        fault = depot.tokens.get(token, DepotError(403, "WrongToken"))
        if len(data) < length or fault == "disconnect":
            depot.requests += 1
            self.close_connection = True
            return
        try:
            with depot.lock:
                depot.requests += 1
                document, headers = self.operate(depot, fault, data)
                status = 200
        except DepotError as error:
            status, document = error.status, {"code": error.code, "message": "see the code"}
            headers = {"Depot-Error": error.code}
            if error.retry_after is not None:
                headers["Retry-After"] = error.retry_after
        headers = headers | {
            f"Depot-{name}": str(document[name]) for name in ("etag", "size", "crc32") if name in document
        }
        body = b"" if self.command == "HEAD" else json.dumps(document).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def operate(self, depot, fault, data):
        if isinstance(fault, DepotError):
            raise fault
        if fault == "damage" and data:
            data = bytes([data[0] ^ 1]) + data[1:]
        request = Request(self.path, self.headers, data)
        subject = next((name for name in ("uploads", "part", "upload") if name in request.query), "object")
        operation = OPERATIONS.get((self.command, subject))
        if operation is None:
            raise DepotError(400, "NoSuchOperation")
        if fault == "error in body" and operation == Depot.complete:
            return {"code": "InternalError", "message": "the parts could not be joined"}, {}
        document = operation(depot, request)
        return document, depot.objects[request.key].headers if operation == Depot.head else {}

    do_DELETE = do_GET = do_HEAD = do_POST = do_PUT = handle_request  # noqa: N815  # names of the standard library

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    depot = Depot(int(sys.argv[1]))
    print("listening on", depot.url)  # noqa: T201
    depot.serve_forever()
