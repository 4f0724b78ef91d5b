"""
Depot, a small storage with an HTTP API, to write a backend for.

    python depot.py 8000

It serves one bucket from memory, to requests with the header ``Authorization: Bearer secret``. Keys are percent-encoded
in the path. Parts and objects are described by ``etag``, ``size`` and ``crc32``, as JSON and as headers ``Depot-...``.

    POST   /bucket/KEY?uploads                       {"upload": ID}
    PUT    /bucket/KEY?upload=ID&part=N              a part
    GET    /bucket/KEY?upload=ID&after=N&limit=N     {"parts": [...], "next": N or null}
    POST   /bucket/KEY?upload=ID                     an object, from {"parts": [[N, ETAG], ...]}
    DELETE /bucket/KEY?upload=ID                     {}
    GET    /bucket/?uploads&prefix=P&after=TOKEN     {"uploads": [...], "next": TOKEN or null}
    PUT    /bucket/KEY                               an object
    HEAD   /bucket/KEY                               the headers of an object

An error is ``{"code": ..., "message": ...}``, and the header ``Depot-Error``. ``If-None-Match: *`` forbids to overwrite.
``Content-Type`` and ``Depot-Metadata`` (as a query string) are those of the request that stored or initiated an object.
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
        self.tokens, self.requests, self.lock = {"secret": None}, 0, threading.Lock()
        self.objects, self.uploads = {}, {}

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.shutdown()
        self.server_close()

    # --- the operations: each returns a document, and for HEAD the headers -------------------------------------------

    def initiate(self, key, headers):
        self.check_overwrite(key, headers)
        upload_id = uuid.uuid4().hex
        self.uploads[upload_id] = {"key": key, "headers": kept(headers), "parts": {}, "initiated": time.time()}
        return {"upload": upload_id}

    def put_part(self, key, query, data):
        stored = self.upload(key, query)["parts"][int(query["part"])] = Stored(data)
        return stored.describe()

    def list_parts(self, key, query):
        parts, after, limit = self.upload(key, query)["parts"], int(query["after"]), int(query["limit"])
        numbers = sorted(number for number in parts if number > after)
        page = [parts[number].describe(number=number) for number in numbers[:limit]]
        return {"parts": page, "next": numbers[limit - 1] if len(numbers) > limit else None}

    def complete(self, key, query, headers, data):
        upload = self.upload(key, query)
        self.check_overwrite(key, headers)
        named = [(number, etag) for number, etag in json.loads(data)["parts"]]
        if not named or [number for number, _ in named] != sorted({number for number, _ in named}):
            raise DepotError(400, "PartsNotInOrder")
        stored = {(number, part.etag): part.data for number, part in upload["parts"].items()}
        if any(part not in stored for part in named):
            raise DepotError(400, "NoSuchPart")
        del self.uploads[query["upload"]]
        return self.store(key, b"".join(stored[part] for part in named), upload["headers"])

    def abort(self, key, query):
        self.upload(key, query)
        del self.uploads[query["upload"]]
        return {}

    def list_uploads(self, query):
        after, limit = tuple(json.loads(query.get("after") or '["", ""]')), int(query["limit"])
        found = sorted(
            (upload["key"], upload_id, upload["initiated"])
            for upload_id, upload in self.uploads.items()
            if upload["key"].startswith(query.get("prefix", "")) and (upload["key"], upload_id) > after
        )
        return {"uploads": found[:limit], "next": json.dumps(found[limit - 1][:2]) if len(found) > limit else None}

    def put(self, key, headers, data):
        self.check_overwrite(key, headers)
        return self.store(key, data, kept(headers))

    def head(self, key):
        if key not in self.objects:
            raise DepotError(404, "NoSuchObject")
        return self.objects[key].describe()

    def upload(self, key, query):
        upload = self.uploads.get(query["upload"])
        if upload is None or upload["key"] != key:
            raise DepotError(404, "NoSuchUpload")
        return upload

    def check_overwrite(self, key, headers):
        if headers.get("If-None-Match") == "*" and key in self.objects:
            raise DepotError(412, "ObjectExists")

    def store(self, key, data, headers):
        self.objects[key] = stored = Stored(data, headers)
        return stored.describe()


def kept(headers):
    return {name: headers[name] for name in KEPT_HEADERS if name in headers}


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
        headers, retry_after = {}, None
        try:
            with depot.lock:
                depot.requests += 1
                if isinstance(fault, DepotError):
                    raise fault
                status, document = 200, self.operate(depot, fault, data)
                if self.command == "HEAD":
                    headers = dict(depot.objects[self.key()].headers)
        except DepotError as error:
            status, document, retry_after = error.status, {"code": error.code, "message": "see the code"}, error.retry_after
            headers["Depot-Error"] = error.code
        headers |= {f"Depot-{name}": str(document[name]) for name in ("etag", "size", "crc32") if name in document}
        if retry_after is not None:
            headers["Retry-After"] = str(retry_after)
        body = b"" if self.command == "HEAD" else json.dumps(document).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def key(self):
        return unquote(urlsplit(self.path).path.removeprefix("/bucket/"), errors="strict")

    def operate(self, depot, fault, data):
        if not self.path.startswith("/bucket/"):
            raise DepotError(404, "NoSuchBucket")
        query = {name: value for name, [value] in parse_qs(urlsplit(self.path).query, keep_blank_values=True).items()}
        key = self.key()
        if fault == "damage" and data:
            data = bytes([data[0] ^ 1]) + data[1:]
        match self.command, "uploads" in query, "upload" in query, "part" in query:
            case "POST", True, False, False:
                return depot.initiate(key, self.headers)
            case "PUT", False, True, True:
                return depot.put_part(key, query, data)
            case "GET", False, True, False:
                return depot.list_parts(key, query)
            case "POST", False, True, False:
                if fault == "error in body":
                    return {"code": "InternalError", "message": "the parts could not be joined"}
                return depot.complete(key, query, self.headers, data)
            case "DELETE", False, True, False:
                return depot.abort(key, query)
            case "GET", True, False, False:
                return depot.list_uploads(query)
            case "PUT", False, False, False:
                return depot.put(key, self.headers, data)
            case "HEAD", False, False, False:
                return depot.head(key)
        raise DepotError(400, "NoSuchOperation")

    do_DELETE = do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    depot = Depot(int(sys.argv[1]))
    print("listening on", depot.url)
    depot.serve_forever()
