"""The backend passes the conformance suite, against a server that shares no code with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

from partwise.backends.memory import MemoryBackend
from partwise.backends.oss import Callback, Credentials, OSSBackend, OSSOptions
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
from partwise.server.faults import CorruptBody, Effect, Fail, LoseResponse, ReplaceResponse, ServerFault
from partwise.server.settings import AccessKey, ServerSettings
from partwise.testing import BackendConformance, BackendHarness, OSSServer, shown_options


class OSSHarness(BackendHarness):
    """
    A bucket on the test server, with V4 signatures.

    Listings of more than a page take thousands of requests, and are the same for all variants: this one has them.
    """

    examples = 5
    secrets = ("partwise-test-secret",)
    own_options: ClassVar = {
        "data_encryption": OSSOptions(encryption="KMS", data_encryption="SM4"),
        "traffic_limit": OSSOptions(traffic_limit=838_860_800),
        "request_payer": OSSOptions(request_payer="requester"),
        "callback": OSSOptions(callback=Callback(url="http://127.0.0.1:9/", body="key=${object}")),
    }
    signature_version: ClassVar[str] = "v4"

    def __init__(self) -> None:
        self.bucket = MemoryBackend("examplebucket")
        self.servers: list[OSSServer] = []
        self.server = self.serve()

    @property
    def key_pair(self) -> AccessKey:
        return AccessKey("partwise-test-id", "partwise-test-secret")

    def serve(self, *faults: Effect, operation: str | None = None) -> OSSServer:
        """Start a server of the bucket to whose every request these faults apply."""
        server = OSSServer({"examplebucket": self.bucket}, settings=ServerSettings(access_keys=(self.key_pair,)))
        server.start()
        server.plan(*(ServerFault(operation, effect, times=None) for effect in faults))
        self.servers.append(server)
        return server

    def opener(
        self, server: OSSServer, bucket: str = "examplebucket", secret: str | None = None, **settings: object
    ) -> Callable[[], OSSBackend]:
        pair = self.key_pair
        return partial(
            OSSBackend,
            bucket,
            endpoint=server.endpoint,
            region=server.region,
            credentials=Credentials(pair.access_key_id, secret or pair.access_key_secret, pair.security_token),
            signature_version=self.signature_version,
            **settings,
        )

    def open(self) -> OSSBackend:
        return self.opener(self.server)()

    def elsewhere(self) -> Callable[[], OSSBackend]:
        return self.opener(self.server)

    def read(self, key: str) -> bytes | None:
        try:
            return self.bucket.read(key)
        except KeyError:
            return None

    def refuses(self, key: str) -> bool:
        return key.startswith(("/", "\\"))

    def options(self, key: str) -> Mapping[str, object]:
        shown = shown_options(self.bucket.describe(key))
        words = {"IA": "infrequent-access"}
        return {name: words.get(value, value) if name == "storage_class" else value for name, value in shown.items()}

    def open_with_page_size(self, page_size: int) -> OSSBackend:
        return self.opener(self.server, page_size=page_size)()

    def open_failing(self, error: type[BackendError], *, retry_after: int | None = None) -> OSSBackend | None:
        codes = {
            ServerFailed: "InternalError",
            Throttled: "QpsLimitExceeded",
            CredentialsExpired: "SecurityTokenExpired",
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

    def open_damaging(self) -> OSSBackend:
        return self.opener(self.serve(CorruptBody()))()

    def open_failing_in_body(self) -> OSSBackend:
        document = b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"
        response = ReplaceResponse(document, status=200, content_type="application/xml", before_effect=True)
        return self.opener(self.serve(response))()

    def requests(self) -> int:
        return sum(server.requests[-1].number for server in self.servers if server.requests)

    def close(self) -> None:
        for server in self.servers:
            server.stop()
        self.bucket.close()


class TemporaryKeyByV1(OSSHarness):
    """V1 signatures with temporary credentials."""

    page_size = None  # see `OSSHarness`
    signature_version = "v1"
    secrets = ("partwise-test-secret", "STS.token")

    @property
    def key_pair(self) -> AccessKey:
        return AccessKey("partwise-test-id", "partwise-test-secret", "STS.token")


class TestOSSBackend(BackendConformance):
    harness = OSSHarness


class TestOSSBackendByV1WithATemporaryKey(BackendConformance):
    harness = TemporaryKeyByV1
