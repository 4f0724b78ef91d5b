"""The backend passes the conformance suite, against a server that shares no code with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

from shared.served_bucket import ServedBucketHarness

from partwise.backends.oss import Callback, Credentials, OSSBackend, OSSOptions
from partwise.server.settings import AccessKey, ServerSettings
from partwise.testing import BackendConformance, OSSServer, shown_options


class OSSHarness(ServedBucketHarness[OSSBackend, OSSServer]):
    """
    A bucket on the test server, with V4 signatures.

    Listings of more than a page take hundreds of requests, and are the same for all variants: this one has them.
    """

    examples = 5
    own_options: ClassVar = {
        "data_encryption": OSSOptions(encryption="KMS", data_encryption="SM4"),
        "traffic_limit": OSSOptions(traffic_limit=838_860_800),
        "request_payer": OSSOptions(request_payer="requester"),
        "callback": OSSOptions(callback=Callback(url="http://127.0.0.1:9/", body="key=${object}")),
    }
    signature_version: ClassVar[str] = "v4"

    throttled = "QpsLimitExceeded"
    expired = "SecurityTokenExpired"

    def make_server(self) -> OSSServer:
        settings = ServerSettings(access_keys=(self.key_pair,), page_limit=100)
        return OSSServer({"examplebucket": self.bucket}, settings=settings)

    def connect(self, server: OSSServer, bucket: str, key: AccessKey, **settings: Any) -> Callable[[], OSSBackend]:
        return partial(
            OSSBackend,
            bucket,
            endpoint=server.endpoint,
            region=server.region,
            credentials=Credentials(key.access_key_id, key.access_key_secret, key.security_token),
            signature_version=self.signature_version,
            **settings,
        )

    def refuses(self, key: str) -> bool:
        return key.startswith(("/", "\\"))

    def options(self, key: str) -> Mapping[str, object]:
        shown = shown_options(self.bucket.describe(key))
        words = {"IA": "infrequent-access"}
        return {name: words.get(value, value) if name == "storage_class" else value for name, value in shown.items()}


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
