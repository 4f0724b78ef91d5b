"""The backend passes the conformance suite, against a server that shares no code with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from partwise.backends.memory import MemoryBackend
from partwise.backends.oss import Credentials, OSSBackend
from partwise.errors import AccessDenied, BackendError, BucketNotFound, ConnectionFailed
from partwise.server.settings import AccessKey, ServerSettings
from partwise.testing import BackendConformance, BackendHarness, OSSServer, shown_options


class OSSHarness(BackendHarness):
    """A bucket on the test server, with V4 signatures."""

    examples = 5
    secrets = ("partwise-test-secret",)
    signature_version: ClassVar[str] = "v4"

    def __init__(self) -> None:
        self.bucket = MemoryBackend("examplebucket")
        self.server = OSSServer({"examplebucket": self.bucket}, settings=ServerSettings(access_keys=(self.key_pair,)))
        self.server.start()

    @property
    def key_pair(self) -> AccessKey:
        return AccessKey("partwise-test-id", "partwise-test-secret")

    def connect(self, bucket: str = "examplebucket", secret: str | None = None, **settings: object) -> OSSBackend:
        pair = self.key_pair
        return OSSBackend(
            bucket,
            endpoint=self.server.endpoint,
            region=self.server.region,
            credentials=Credentials(pair.access_key_id, secret or pair.access_key_secret, pair.security_token),
            signature_version=self.signature_version,
            **settings,
        )

    def open(self) -> OSSBackend:
        return self.connect()

    def read(self, key: str) -> bytes | None:
        try:
            return self.bucket.read(key)
        except KeyError:
            return None

    def refuses(self, key: str) -> bool:
        return key.startswith(("/", "\\"))

    def options(self, key: str) -> Mapping[str, object]:
        return shown_options(self.bucket.describe(key))

    def open_with_page_size(self, page_size: int) -> OSSBackend:
        return self.connect(page_size=page_size)

    def open_failing(self, error: type[BackendError]) -> OSSBackend | None:
        if error is BucketNotFound:
            return self.connect("nosuchbucket")
        if error is AccessDenied:
            return self.connect(secret="wrong")
        if error is ConnectionFailed:
            return OSSBackend(
                "examplebucket", endpoint="http://127.0.0.1:1", region="cn-hangzhou", credentials=Credentials("i", "s")
            )
        return None

    def close(self) -> None:
        self.server.stop()
        self.bucket.close()


class TemporaryKeyByV1(OSSHarness):
    """V1 signatures with temporary credentials."""

    signature_version = "v1"
    secrets = ("partwise-test-secret", "STS.token")

    @property
    def key_pair(self) -> AccessKey:
        return AccessKey("partwise-test-id", "partwise-test-secret", "STS.token")


class TestOSSBackend(BackendConformance):
    harness = OSSHarness


class TestOSSBackendByV1WithATemporaryKey(BackendConformance):
    harness = TemporaryKeyByV1
