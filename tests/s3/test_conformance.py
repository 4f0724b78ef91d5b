"""The backend passes the conformance suite, against a server that shares no code with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

from attrs import evolve
from hypothesis import settings
from shared.served_bucket import ServedBucketHarness

from partwise.backends.memory import MemoryBackend
from partwise.backends.s3 import DIALECTS, Credentials, Dialect, S3Backend, S3Options
from partwise.checksums import CRC32C
from partwise.model import KIB, PartLimits
from partwise.server.s3.server import S3Server
from partwise.server.settings import AccessKey, ServerSettings
from partwise.testing import (
    BACKEND_CHECKS,
    BackendConformance,
    ResumeMachine,
    backend_machine,
    run_machine,
    shown_options,
)

_CUSTOMER_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


class S3Harness(ServedBucketHarness[S3Backend, S3Server]):
    """
    A bucket on the test server, with small parts so that a check takes milliseconds.

    Listings of more than a page take hundreds of requests, and are the same for all variants: this one has them.
    """

    examples = 2  # below are more of them, with tiny parts
    secrets = ("partwise-test-secret", _CUSTOMER_KEY)
    min_part_size: ClassVar[int] = 20 * KIB  # more than a chunk of a body
    demands: ClassVar[dict[str, Any]] = {}
    """Settings of the server."""
    own_options: ClassVar = {
        "encryption_context": S3Options(encryption="KMS", encryption_context={"a": "b"}),
        "bucket_key": S3Options(encryption="KMS", bucket_key=True),
        "sse_customer_key": S3Options(sse_customer_key=_CUSTOMER_KEY),
        "object_lock_mode": S3Options(object_lock_mode="GOVERNANCE", object_lock_retain_until="2030-12-31T00:00:00Z"),
        "object_lock_retain_until": S3Options(
            object_lock_mode="COMPLIANCE", object_lock_retain_until="2030-12-31T00:00:00Z"
        ),
        "object_lock_legal_hold": S3Options(object_lock_legal_hold=True),
        "website_redirect": S3Options(website_redirect="/other"),
        "request_payer": S3Options(request_payer="requester"),
        "expected_bucket_owner": S3Options(expected_bucket_owner="123456789012"),
    }

    hooks_left_out: ClassVar[dict[str, str]] = {"options: encryption_context": "the server does not keep it"}

    throttled = "SlowDown"
    expired = "ExpiredToken"

    @property
    def dialect(self) -> Dialect:
        aws = DIALECTS["aws"]
        return evolve(aws, limits=evolve(aws.limits, min_part_size=self.min_part_size))

    def make_bucket(self) -> MemoryBackend:
        return MemoryBackend("examplebucket", limits=PartLimits(min_part_size=self.min_part_size))

    def make_server(self) -> S3Server:
        given = {"min_part_size": self.min_part_size, **self.demands}
        settings = ServerSettings(access_keys=(self.key_pair,), region="us-east-1", page_limit=100, **given)
        return S3Server({"examplebucket": self.bucket}, settings=settings)

    def connect(self, server: S3Server, bucket: str, key: AccessKey, **settings: Any) -> Callable[[], S3Backend]:
        return partial(
            S3Backend,
            bucket,
            endpoint=server.endpoint,
            region=server.region,
            credentials=Credentials(key.access_key_id, key.access_key_secret, key.security_token),
            dialect=self.dialect,
            **settings,
        )

    def options(self, key: str) -> Mapping[str, object]:
        shown = dict(shown_options(self.bucket.describe(key)))
        words = {"STANDARD_IA": "infrequent-access", "aws:kms": "KMS"}
        shown = {name: words.get(value, value) if isinstance(value, str) else value for name, value in shown.items()}
        return shown | self._options_of_s3(key)

    def _options_of_s3(self, key: str) -> dict[str, object]:
        """Return the options that only the server keeps: the bucket knows none of them."""
        bucket = self.server._service.buckets.find("examplebucket")
        info = bucket and bucket.object(key)
        assert info is not None
        headers = dict(info.headers)
        return {
            "bucket_key": headers.get("x-amz-server-side-encryption-bucket-key-enabled") == "true",
            "object_lock_mode": headers.get("x-amz-object-lock-mode"),
            "object_lock_retain_until": headers.get("x-amz-object-lock-retain-until-date"),
            "object_lock_legal_hold": headers.get("x-amz-object-lock-legal-hold") == "ON",
            "website_redirect": headers.get("x-amz-website-redirect-location"),
        }


class SignedByATemporaryKey(S3Harness):
    """A storage that computes no checksums: bodies are signed, and read twice. The key is temporary."""

    page_size = None  # see `S3Harness`
    secrets = ("partwise-test-secret", "session/token+=", _CUSTOMER_KEY)
    demands: ClassVar = {"checksums": False}

    @property
    def dialect(self) -> Dialect:
        return evolve(super().dialect, checksums=())

    @property
    def key_pair(self) -> AccessKey:
        return AccessKey("partwise-test-id", "partwise-test-secret", "session/token+=")

    def opener(self, *args: Any, **settings: Any) -> Callable[[], S3Backend]:
        return super().opener(*args, **{"sign_payload": True, **settings})


class LockedBucket(S3Harness):
    """The service refuses a part without a checksum."""

    demands: ClassVar = {"require_digests": True}

    @property
    def dialect(self) -> Dialect:
        return evolve(super().dialect, parts_need_checksums=True)


class WithoutNVMe(S3Harness):
    """The other algorithm of S3, for installations without awscrt."""

    hooks_left_out: ClassVar = {
        **S3Harness.hooks_left_out,
        "open_damaging": "the damaging server does not know the algorithm of the upload",
    }

    def open_damaging(self) -> None:
        return None

    @property
    def dialect(self) -> Dialect:
        return evolve(super().dialect, checksums=(CRC32C,))


class TestS3Backend(BackendConformance):
    harness = S3Harness
    test_any_sequence_of_calls = None  # the one with tiny parts, below, has more examples of the same


class TestS3BackendSignedByATemporaryKey(BackendConformance):
    harness = SignedByATemporaryKey


class ChecksumConformance(BackendConformance):
    """The checks for a storage that differs in nothing but the checksums of bodies."""

    test_any_sequence_of_calls = None


#: What does not depend on the checksum of a body: `TestS3Backend` has these checks, and so has the one with signed
#: bodies, whose parts have headers of their own, too.
_WITHOUT_CHECKSUMS = {
    *("listing_is_as_declared", "list_uploads", "pages_of_uploads", "more_uploads_than_a_page"),
    *("more_parts_than_a_page", "strange_keys", "unknown_ids", "abort", "abort_again", "close", "another_process"),
    *("failures_of_the_storage", "retry_after", "failures_are_not_retried", "bodies_are_not_held_in_memory"),
    *("other_options_are_refused", "options_are_kept", "forbid_overwrite_at_once", "replaced_atomically"),
    "delays_change_nothing",
}

for _check in BACKEND_CHECKS:
    if _check.name in _WITHOUT_CHECKSUMS:
        setattr(ChecksumConformance, f"test_{_check.name}", None)


class TestS3BackendOfALockedBucket(ChecksumConformance):
    harness = LockedBucket


class TestS3BackendWithoutNVMe(ChecksumConformance):
    harness = WithoutNVMe


class RealLimits(S3Harness):
    """The limits of S3: parts of at least 5 MiB."""

    min_part_size = DIALECTS["aws"].limits.min_part_size
    page_size = None  # small parts cover listings of more than a page

    @property
    def dialect(self) -> Dialect:
        return DIALECTS["aws"]


#: What depends on the size of a part, or on the limits. The other checks are the same for any: TestS3Backend has them.
_OF_SIZES = {
    *("protocol", "complete", "put_object", "head_object", "sizes_at_the_edges", "last_part_that_is_not_known"),
    *("part_too_small", "limits_are_accepted"),
}


class TestS3BackendWithTheLimitsOfS3(BackendConformance):
    harness = RealLimits
    test_any_sequence_of_calls = None


for _check in BACKEND_CHECKS:
    if _check.name not in _OF_SIZES:
        setattr(TestS3BackendWithTheLimitsOfS3, f"test_{_check.name}", None)


class TinyParts(S3Harness):
    """Parts of any size, so that many sequences of calls take a second."""

    min_part_size = 1


def test_no_sequence_of_calls_with_tiny_parts_differs_from_the_model() -> None:
    run_machine(backend_machine(TinyParts), examples=settings().max_examples // 8)


def test_no_sequence_of_processes_with_tiny_parts_breaks_a_promise() -> None:
    class OnS3(ResumeMachine):
        backend = TinyParts

    run_machine(OnS3, examples=settings().max_examples // 5, steps=8)


def test_no_sequence_of_processes_with_the_limits_of_s3_breaks_a_promise() -> None:
    class OnS3(ResumeMachine):
        backend = RealLimits

    run_machine(OnS3, examples=2, steps=5)
