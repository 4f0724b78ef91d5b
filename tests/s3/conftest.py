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


class ScriptedServer(scripted.ScriptedServer):
    """Stores everything once the replies are used up."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(stored, context)


REPLIES = scripted.Replies(
    "AmazonS3", {"x-amz-request-id": "67CD4A3A00000001", "x-amz-id-2": "host+id="}, host_id="HOST1"
)


def stored(received: Any, _: socket.socket | None = None) -> bytes:
    """The response of S3 to a part or an object that it stored."""
    checksum = CRC64_NVME.to_base64(CRC64_NVME.compute(received.body))
    return REPLIES.response(ETag=f'"{hashlib.md5(received.body).hexdigest()}"', x_amz_checksum_crc64nvme=checksum)


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
    credentials = Credentials("AKIDTEST0000EXAMPLE", "testsecret0000EXAMPLE")
    with scripted.opened(S3Backend, server, region="eu-west-1", credentials=credentials) as make:
        yield make


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

    NOW = scripted.NOW
    ScriptedServer = ScriptedServer
    response = staticmethod(REPLIES.response)
    error = staticmethod(REPLIES.error)
    error_document = staticmethod(REPLIES.error_document)
    stored = staticmethod(stored)
    initiated = staticmethod(REPLIES.initiated)
    completed = staticmethod(completed)
    hang_up = staticmethod(scripted.hang_up)
    make_certificate = staticmethod(scripted.make_certificate)


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    """The helpers of this file."""
    return Kit
