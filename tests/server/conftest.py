"""A small client with its own signer, so that the tests of the server do not depend on another implementation."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from attrs import define
from shared.replies import Reply
from urllib3.connection import HTTPConnection

from partwise.server import OSSServer

DATA = Path(__file__).parent.parent / "data" / "oss"


@define
class Client:
    """Signs by V4 in the header, unless `signed` is false."""

    endpoint: str
    access_key_id: str
    access_key_secret: str
    region: str
    security_token: str | None = None
    clock: Callable[[], float] = time.time

    def sign(
        self, method: str, bucket: str | None, key: str | None, query: Mapping[str, str], headers: dict[str, Any]
    ) -> None:
        """Add the signature to `headers`."""
        date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self.clock()))
        headers["x-oss-date"] = date
        headers["x-oss-content-sha256"] = "UNSIGNED-PAYLOAD"
        if self.security_token is not None:
            headers["x-oss-security-token"] = self.security_token
        texts = {name: value.decode() if isinstance(value, bytes) else value for name, value in headers.items()}
        signed = sorted(
            (name.lower(), value.strip())
            for name, value in texts.items()
            if name.lower().startswith("x-oss-") or name.lower() in ("content-type", "content-md5")
        )
        resource = "/" if bucket is None else f"/{bucket}/{key or ''}"
        fields = sorted((quote(name, safe=""), quote(value, safe="")) for name, value in query.items())
        canonical = "\n".join(
            [
                method,
                quote(resource),
                "&".join(f"{name}={value}" if value else name for name, value in fields),
                "".join(f"{name}:{value}\n" for name, value in signed),
                "",
                "UNSIGNED-PAYLOAD",
            ]
        )
        scope = [date[:8], self.region, "oss", "aliyun_v4_request"]
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        string_to_sign = "\n".join(["OSS4-HMAC-SHA256", date, "/".join(scope), digest])
        signing_key = ("aliyun_v4" + self.access_key_secret).encode()
        for step in scope:
            signing_key = hmac.new(signing_key, step.encode(), hashlib.sha256).digest()
        signature = hmac.new(signing_key, string_to_sign.encode(), hashlib.sha256).hexdigest()
        credential = "/".join([self.access_key_id, *scope])
        headers["Authorization"] = f"OSS4-HMAC-SHA256 Credential={credential},Signature={signature}"

    def __call__(
        self,
        method: str,
        key: str | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, Any] | None = None,
        body: Any = None,
        *,
        bucket: str | None = "examplebucket",
        host: str | None = None,
        target: str | None = None,
        signed: bool = True,
        encode_chunked: bool = False,
    ) -> Reply:
        query = dict(query or {})
        sent: dict[str, Any] = dict(headers or {})
        if signed:
            self.sign(method, bucket, key, query, sent)
        if host is not None:
            sent["Host"] = host
        if target is None:
            path = "/".join(["", *(quote(name, safe="/") for name in (bucket, key) if name is not None)])
            fields = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query.items())
            target = f"{path or '/'}?{fields}" if fields else path or "/"
        connection = http.client.HTTPConnection(urlsplit(self.endpoint).netloc, timeout=20)
        try:
            connection.request(method, target, body, sent, encode_chunked=encode_chunked)
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def begin(self, key: str, headers: Mapping[str, str] | None = None, query: Mapping[str, str] | None = None) -> str:
        """Initiate an upload and return its id."""
        upload_id = self("POST", key, {"uploads": "", **(query or {})}, headers).text("UploadId")
        assert upload_id
        return upload_id

    def part(
        self, key: str, upload_id: str, number: int, body: bytes, headers: Mapping[str, str] | None = None
    ) -> Reply:
        return self("PUT", key, {"partNumber": str(number), "uploadId": upload_id}, headers, body)

    def complete(
        self,
        key: str,
        upload_id: str,
        parts: list[tuple[int, str]],
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        lines = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>" for n, etag in parts)
        body = f"<CompleteMultipartUpload>{lines}</CompleteMultipartUpload>".encode()
        return self("POST", key, {"uploadId": upload_id}, headers, body)

    def upload(self, key: str, parts: list[bytes], headers: Mapping[str, str] | None = None) -> Reply:
        """Run a complete multipart upload."""
        upload_id = self.begin(key, headers)
        parts_done = [
            (number, self.part(key, upload_id, number, body).headers["ETag"]) for number, body in enumerate(parts, 1)
        ]
        return self.complete(key, upload_id, parts_done)


@pytest.fixture
def server() -> Iterator[OSSServer]:
    with OSSServer() as running:
        yield running
        assert running.unreached_faults == ()


@pytest.fixture
def client(server: OSSServer, client_of: Callable[[OSSServer], Client]) -> Client:
    """A client of the `server`."""
    return client_of(server)


@pytest.fixture
def client_of() -> Callable[[OSSServer], Client]:
    """Makes a client of a server."""
    return lambda server: Client(
        server.endpoint, server.access_key_id, server.access_key_secret, server.region, server.security_token
    )


@pytest.fixture(scope="session")
def signing_vectors() -> dict[str, Any]:
    content = json.loads((DATA / "signing.json").read_text("utf-8"))
    assert isinstance(content, dict)
    return content


@pytest.fixture
def sdk_connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """
    Closes the connections of an SDK when the test ends.

    The SDKs leave some open, and the garbage collector may finalize a socket before the object that would close it.
    """
    opened: list[HTTPConnection] = []
    connect = HTTPConnection.connect

    def connecting(self: HTTPConnection) -> None:
        connect(self)
        opened.append(self)

    monkeypatch.setattr(HTTPConnection, "connect", connecting)
    yield
    for connection in opened:
        connection.close()


@pytest.fixture(params=["memory", "directory"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OSSServer]:
    """A server with ``examplebucket``, in memory and in a directory."""
    directory = None
    if request.param == "directory":
        directory = tmp_path / "served"
        (directory / "examplebucket").mkdir(parents=True)
    with OSSServer(directory=directory) as running:
        yield running
        assert running.unreached_faults == ()
