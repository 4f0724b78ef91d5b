"""Backends of S3 that connect to a scripted HTTP server on the loopback, and botocore as a judge of requests."""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from shared import scripted

from partwise.backends.s3 import Credentials, S3Backend
from partwise.checksums import CRC64_NVME

#: 2025-03-09T08:07:06Z
NOW = 1741507626.0


class ScriptedServer(scripted.ScriptedServer):
    """Stores everything once the replies are used up."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(stored, context)


def make_response(status: int = 200, body: bytes | str = b"", **headers: str) -> bytes:
    """A response as bytes; header names are written with underscores."""
    data = body.encode() if isinstance(body, str) else body
    lines = {"Server": "AmazonS3", "Date": "Sun, 09 Mar 2025 08:07:06 GMT", "Content-Length": str(len(data))}
    lines |= {"x-amz-request-id": "67CD4A3A00000001", "x-amz-id-2": "host+id="}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode() + data


def error_document(code: str, message: str = "Something.", **more: str) -> str:
    """An error document of S3."""
    elements = {"Code": code, "Message": message, "RequestId": "REQ1", "HostId": "HOST1", **more}
    document = "".join(f"<{name}>{value}</{name}>" for name, value in elements.items())
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{document}</Error>'


def error(
    status: int, code: str, message: str = "Something.", headers: dict[str, str] | None = None, **more: str
) -> bytes:
    """An error response of S3."""
    body = error_document(code, message, **more)
    return make_response(status, body, Content_Type="application/xml", **(headers or {}))


def stored(received: Any, _: socket.socket | None = None) -> bytes:
    """The response of S3 to a part or an object that it stored."""
    checksum = CRC64_NVME.to_base64(CRC64_NVME.compute(received.body))
    return make_response(ETag=f'"{hashlib.md5(received.body).hexdigest()}"', x_amz_checksum_crc64nvme=checksum)


def initiated(upload_id: str = "UPLOADID") -> bytes:
    """The response to initiate."""
    return make_response(
        body=f"<InitiateMultipartUploadResult><UploadId>{upload_id}</UploadId></InitiateMultipartUploadResult>"
    )


def completed(etag: str = "abc-1", **more: str) -> str:
    """The document about a completed object."""
    elements = {"Location": "https://x", "Key": "k", "ETag": f"&quot;{etag}&quot;", **more}
    texts = "".join(f"<{name}>{value}</{name}>" for name, value in elements.items())
    namespace = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    return f"<CompleteMultipartUploadResult {namespace}>{texts}</CompleteMultipartUploadResult>"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server on plain HTTP."""
    scripted_server = ScriptedServer()
    yield scripted_server
    scripted_server.close()


@pytest.fixture
def connect(server: ScriptedServer) -> Iterator[Callable[..., S3Backend]]:
    """A function that opens backends on the server; they are closed at the end."""
    opened: list[S3Backend] = []

    def make(**settings: Any) -> S3Backend:
        settings = {
            "endpoint": server.endpoint,
            "region": "eu-west-1",
            "credentials": Credentials("AKIDTEST0000EXAMPLE", "testsecret0000EXAMPLE"),
            "read_timeout": 5.0,
            "clock": lambda: NOW,
            **settings,
        }
        backend = S3Backend(settings.pop("bucket", "examplebucket"), **settings)
        opened.append(backend)
        return backend

    yield make
    for backend in opened:
        backend.close()


@pytest.fixture
def s3(connect: Callable[..., S3Backend]) -> S3Backend:
    """A backend on the server."""
    return connect()


@pytest.fixture
def body() -> Callable[..., Any]:
    """A function that makes bodies."""

    def make(data: bytes, **settings: Any) -> Any:
        return scripted.Bytes(data, algorithm=settings.pop("algorithm", CRC64_NVME), **settings)

    return make


class Judge:
    """What botocore sends."""

    def __init__(self) -> None:
        from botocore.session import Session

        self._session = Session()  # one for all clients: it reads the descriptions of S3 and of its endpoints once
        self._clients: dict[tuple[Any, ...], Any] = {}

    def client(self, *, region: str = "eu-west-1", endpoint: str | None = None, **s3: Any) -> Any:
        """A client of botocore; `s3` are its settings for S3."""
        from botocore.config import Config

        known = (region, endpoint, tuple(sorted(s3.items())))
        if known not in self._clients:
            config = Config(s3=s3, request_checksum_calculation="when_required", parameter_validation=False)
            self._clients[known] = self._session.create_client(
                "s3",
                region_name=region,
                endpoint_url=endpoint,
                aws_access_key_id="id",
                aws_secret_access_key="secret",
                config=config,
            )
        return self._clients[known]

    def sent(self, operation: str, *, client: dict[str, Any] | None = None, **arguments: Any) -> Any:
        """The request that botocore would send."""
        sent = []

        def stop(request: Any, **_: Any) -> None:
            sent.append(request)
            raise InterruptedError

        used = self.client(**(client or {}))
        used.meta.events.register("before-send.s3", stop)
        try:
            with pytest.raises(InterruptedError):
                getattr(used, operation)(**arguments)
        finally:
            used.meta.events.unregister("before-send.s3", stop)
        return sent[0]


@pytest.fixture(scope="session")
def judge() -> Judge:
    """What botocore sends."""
    return Judge()


class Kit:
    """The helpers of this file, which test modules can't import."""

    NOW = NOW
    ScriptedServer = ScriptedServer
    response = staticmethod(make_response)
    error = staticmethod(error)
    error_document = staticmethod(error_document)
    stored = staticmethod(stored)
    initiated = staticmethod(initiated)
    completed = staticmethod(completed)
    hang_up = staticmethod(scripted.hang_up)
    make_certificate = staticmethod(scripted.make_certificate)


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    """The helpers of this file."""
    return Kit
