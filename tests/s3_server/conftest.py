"""Requests to the S3 server, signed by botocore, so that its signatures are judged by another implementation."""

from __future__ import annotations

import base64
import hashlib
import http.client
from collections.abc import Iterator, Mapping
from urllib.parse import quote, urlencode, urlsplit

import pytest
from attrs import define, evolve
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from shared.replies import Reply

from partwise.model import KIB
from partwise.server import S3Server

SMALL = 100 * KIB


@define
class Client:
    """Sends requests to one bucket."""

    server: S3Server
    secret: str | None = None
    region: str | None = None
    token: str | None = None
    bucket: str = "examplebucket"

    def __call__(
        self,
        method: str,
        key: str = "",
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        signed_body: bool = False,
    ) -> Reply:
        request = self.signed(method, key, query or {}, body, dict(headers or {}), signed_body=signed_body)
        return self.send(request, body)

    def signed(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        body: bytes,
        headers: dict[str, str],
        *,
        signed_body: bool,
    ) -> AWSRequest:
        server = self.server
        url = f"{server.endpoint}/{self.bucket}/{quote(key, safe='/-_.~')}".removesuffix("/" * (not key))
        if query:
            url += "?" + urlencode(query, quote_via=quote)
        digest = hashlib.sha256(body).hexdigest() if signed_body else "UNSIGNED-PAYLOAD"
        kind = headers.setdefault("X-Amz-Content-SHA256", digest)
        request = AWSRequest(method=method, url=url, headers=headers, data=body)
        credentials = Credentials(server.access_key_id, self.secret or server.access_key_secret, self.token)
        auth = S3SigV4Auth(credentials, "s3", self.region or server.region)
        auth.payload = lambda _: kind
        auth.add_auth(request)
        return request

    def send(self, request: AWSRequest, body: bytes) -> Reply:
        parts = urlsplit(request.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
        try:
            target = parts.path + ("?" + parts.query if parts.query else "")
            headers = {name: str(value) for name, value in request.headers.items()}
            connection.request(request.method, target, body or None, headers | {"Content-Length": str(len(body))})
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    # --- multipart uploads -------------------------------------------------------------------------------------------

    def create(self, key: str = "key", **headers: str) -> str:
        """Create an upload, with these headers (underscores are hyphens), and return its id."""
        reply = self("POST", key, {"uploads": ""}, headers=named(headers))
        assert reply.status == 200, reply.body
        upload_id = reply.text("UploadId")
        assert upload_id
        return upload_id

    def part(self, upload_id: str, number: int, body: bytes, key: str = "key", **headers: str) -> Reply:
        query = {"partNumber": str(number), "uploadId": upload_id}
        return self("PUT", key, query, body, named(headers))

    def complete(self, upload_id: str, parts: list[tuple[int, str]], key: str = "key", **headers: str) -> Reply:
        return self("POST", key, {"uploadId": upload_id}, document(parts), named(headers))


def named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def document(parts: list[tuple[int, str]], extra: str = "") -> bytes:
    listed = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>{extra}</Part>" for number, etag in parts
    )
    return f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


@pytest.fixture
def server() -> Iterator[S3Server]:
    """A server with small parts, so that tests are fast."""
    with S3Server() as server:
        server.settings = evolve(server.settings, min_part_size=SMALL)
        yield server
        assert server.unreached_faults == ()


@pytest.fixture
def client(server: S3Server) -> Client:
    return Client(server)


@pytest.fixture
def client_of() -> type[Client]:
    """The class of clients."""
    return Client
