"""A harness for the conformance suite: a bucket in memory, behind one of the test servers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

from partwise.backends.memory import MemoryBackend
from partwise.errors import (
    AccessDenied,
    BackendError,
    BucketNotFound,
    ClockSkewed,
    ConnectionFailed,
    CredentialsExpired,
    ServerFailed,
    Throttled,
)
from partwise.protocols import MultipartBackend
from partwise.server.faults import CorruptBody, Effect, Fail, LoseResponse, ReplaceResponse, ServerFault
from partwise.server.server import StorageServer
from partwise.server.settings import AccessKey
from partwise.testing import BackendHarness

_Backend = TypeVar("_Backend", bound=MultipartBackend)
_Server = TypeVar("_Server", bound=StorageServer)


class ServedBucketHarness(BackendHarness, Generic[_Backend, _Server]):
    """
    A bucket on a test server. Every other server of it that fails in some way has the same bucket.

    The pages of listings are smaller than those of the services, so that one more entry than a page takes a hundred
    requests, and not a thousand. tests/oss/test_xml.py has pages of a thousand.
    """

    page_size = 100
    secrets = ("partwise-test-secret",)
    throttled: ClassVar[str]
    """The error code of a request that is one too many."""
    expired: ClassVar[str]
    """The error code of a temporary key that has expired."""

    def __init__(self) -> None:
        self.bucket = self.make_bucket()
        self.servers: list[_Server] = []
        self.server = self.serve()

    def make_bucket(self) -> MemoryBackend:
        """Return an empty bucket."""
        return MemoryBackend("examplebucket")

    @abstractmethod
    def make_server(self) -> _Server:
        """Return a server of the bucket that is not started yet."""

    @abstractmethod
    def connect(self, server: _Server, bucket: str, key: AccessKey, **settings: Any) -> Callable[[], _Backend]:
        """Return a function that opens a backend, with the signatures of a key."""

    @property
    def key_pair(self) -> AccessKey:
        return AccessKey("partwise-test-id", "partwise-test-secret")

    def serve(self, *faults: Effect, operation: str | None = None) -> _Server:
        """Start a server of the bucket to whose every request these faults apply."""
        server = self.make_server()
        server.start()
        server.plan(*(ServerFault(operation, effect, times=None) for effect in faults))
        self.servers.append(server)
        return server

    def opener(
        self, server: _Server, bucket: str = "examplebucket", secret: str | None = None, **settings: Any
    ) -> Callable[[], _Backend]:
        pair = self.key_pair
        key = AccessKey(pair.access_key_id, secret or pair.access_key_secret, pair.security_token)
        return self.connect(server, bucket, key, **settings)

    def open(self) -> _Backend:
        return self.opener(self.server)()

    def elsewhere(self) -> Callable[[], _Backend]:
        return self.opener(self.server)

    def read(self, key: str) -> bytes | None:
        try:
            return self.bucket.read(key)
        except KeyError:
            return None

    def open_with_page_size(self, page_size: int) -> _Backend:
        return self.opener(self.server, page_size=page_size)()

    def open_failing(self, error: type[BackendError], *, retry_after: int | None = None) -> _Backend | None:
        codes = {
            ServerFailed: "InternalError",
            Throttled: self.throttled,
            CredentialsExpired: self.expired,
            ClockSkewed: "RequestTimeTooSkewed",
        }
        if error in codes:
            return self.opener(self.serve(Fail(codes[error], retry_after=retry_after)))()
        if error is BucketNotFound:
            return self.opener(self.server, "nosuchbucket")()
        if error is AccessDenied:
            return self.opener(self.server, secret="wrong")()
        assert error is ConnectionFailed
        return self.opener(self.serve(LoseResponse()))()

    def open_damaging(self) -> _Backend:
        return self.opener(self.serve(CorruptBody()))()

    def open_failing_in_body(self) -> _Backend:
        document = b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"
        response = ReplaceResponse(document, status=200, content_type="application/xml", before_effect=True)
        return self.opener(self.serve(response))()

    def requests(self) -> int:
        return sum(server.requests[-1].number for server in self.servers if server.requests)

    def close(self) -> None:
        for server in self.servers:
            server.stop()
        self.bucket.close()
