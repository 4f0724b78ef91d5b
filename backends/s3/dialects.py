"""
What storages that speak S3 do differently.

Each is a frozen value, chosen by name or by the host of the endpoint. A dialect says what may be requested, and what
the responses mean; what a storage does not honour is refused before anything is sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from attrs import define, field

from partwise._validation import brief, check_string
from partwise.checksums import CRC32C, CRC64_NVME, Checksum
from partwise.errors import InvalidInput
from partwise.model import GIB, KIB, MIB, TIB, PartLimits

#: The storage classes of S3.
_CLASSES = (
    *("STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER", "DEEP_ARCHIVE"),
    *("GLACIER_IR", "OUTPOSTS", "SNOW", "EXPRESS_ONEZONE", "FSX_OPENZFS", "FSX_ONTAP"),
)
_CLASS_WORDS: Mapping[str, str] = {
    "standard": "STANDARD",
    "infrequent-access": "STANDARD_IA",
    "archive": "GLACIER",
    "deep-archive": "DEEP_ARCHIVE",
}

_KMS = frozenset({"kms_key_id", "encryption_context", "bucket_key"})
_LOCK = frozenset({"object_lock_mode", "object_lock_retain_until", "object_lock_legal_hold"})
_ACCOUNT = frozenset({"request_payer", "expected_bucket_owner"})
_CONDITIONS = frozenset({"forbid_overwrite", "if_match"})

#: 10,000 parts of 5 GiB are a little less than the 50 TB that S3 allows.
_AWS_LIMITS = PartLimits(
    min_part_size=5 * MIB,
    max_part_size=5 * GIB,
    max_parts=10_000,
    max_object_size=10_000 * 5 * GIB,
    max_put_size=5 * GIB,
)


@define(frozen=True)
class Dialect:
    """
    A kind of storage that speaks S3.

    Args:
        name: the word for it, such as ``"r2"``.
        title: its name, for messages.
        hosts: what matches the hosts of its endpoints; a group ``region`` is the region.
        region: the region of its signatures, if it has only one.
        limits: what it accepts.
        checksums: the algorithms whose value for a whole object it computes and reports, the preferred one first.
        reads_checksums_of: the header of its responses with a checksum: ``"amz"`` for ``x-amz-checksum-NAME``,
            ``"goog"`` for ``x-goog-hash``. Requests have checksums only where it is ``"amz"``.
        parts_need_checksums: whether it refuses a part without a checksum.
        refused_options: options that it ignores or refuses.
        storage_classes: its words for them; None: any.
        class_words: its words for those that all storages share.
        equal_part_sizes: see `Capabilities`.
        lists_uploads: see `Capabilities`.
        plus_is_space: whether it encodes spaces in keys of lists as a plus.
        virtual_hosts_only: whether it refuses a bucket in the path.
    """

    name: str
    title: str
    hosts: str | None = None
    region: str | None = None
    limits: PartLimits = _AWS_LIMITS
    checksums: tuple[Checksum, ...] = ()
    reads_checksums_of: str = "amz"
    parts_need_checksums: bool = False
    refused_options: frozenset[str] = frozenset()
    storage_classes: tuple[str, ...] | None = None
    class_words: Mapping[str, str] = field(factory=lambda: dict(_CLASS_WORDS), hash=False)
    equal_part_sizes: bool = False
    lists_uploads: bool = True
    plus_is_space: bool = True
    virtual_hosts_only: bool = False

    @property
    def checksum(self) -> Checksum | None:
        """
        The algorithm to verify objects with, None if it reports none.

        CRC-64/NVME needs the package awscrt; without it, another algorithm of the storage is used, if there is one.
        """
        return next((algorithm for algorithm in self.checksums if algorithm.is_available), None)

    @property
    def sends_checksums(self) -> bool:
        """Whether requests carry checksums, for the storage to verify."""
        return self.checksum is not None and self.reads_checksums_of == "amz"


AWS = Dialect("aws", "Amazon S3", checksums=(CRC64_NVME, CRC32C), storage_classes=_CLASSES)

#: Parts of one size but the last one; no access rules, tags, locks or keys of a key management service.
R2 = Dialect(
    "r2",
    "Cloudflare R2",
    hosts=r".+\.r2\.cloudflarestorage\.com",
    region="auto",
    limits=PartLimits(
        min_part_size=5 * MIB,
        max_part_size=5 * GIB - 5 * MIB,
        max_parts=10_000,
        max_object_size=5 * TIB - 5 * GIB,
        max_put_size=5 * GIB - 5 * MIB,
    ),
    checksums=(CRC64_NVME,),
    # It documents conditions for PutObject, and not for CompleteMultipartUpload.
    refused_options=frozenset({"acl", "tags", "encryption", "website_redirect"})
    | _KMS
    | _LOCK
    | _ACCOUNT
    | _CONDITIONS,
    storage_classes=("STANDARD", "STANDARD_IA"),
    class_words={"standard": "STANDARD", "infrequent-access": "STANDARD_IA"},
    equal_part_sizes=True,
)

#: Access rules are those of the bucket.
B2 = Dialect(
    "b2",
    "Backblaze B2",
    hosts=r"s3\.(?P<region>[a-z0-9-]+)\.backblazeb2\.com",
    limits=PartLimits(
        min_part_size=5 * MIB,
        max_part_size=5 * GIB,
        max_parts=10_000,
        max_object_size=10 * 10**12,
        max_put_size=5 * GIB,
    ),
    refused_options=frozenset({"acl", "tags", "website_redirect"}) | _KMS | _ACCOUNT | _CONDITIONS,
    storage_classes=("STANDARD",),
    class_words={"standard": "STANDARD"},
)

#: The XML API with an HMAC key. Responses have a CRC-32C, as `x-goog-hash`; headers of Google and of Amazon can't be
#: mixed in a request, so no request carries one.
GCS = Dialect(
    "gcs",
    "Google Cloud Storage",
    hosts=r"(.+\.)?storage\.googleapis\.com",
    region="auto",
    limits=PartLimits(
        min_part_size=5 * MIB,
        max_part_size=5 * GIB,
        max_parts=10_000,
        max_object_size=5 * TIB,
        max_put_size=5 * GIB,
    ),
    checksums=(CRC32C,),
    reads_checksums_of="goog",
    refused_options=frozenset({"tags", "encryption", "sse_customer_key", "website_redirect"})
    | _KMS
    | _LOCK
    | _ACCOUNT
    | _CONDITIONS,
    storage_classes=("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"),
    class_words={
        "standard": "STANDARD",
        "infrequent-access": "NEARLINE",
        "archive": "COLDLINE",
        "deep-archive": "ARCHIVE",
    },
    plus_is_space=False,
)

#: Storage classes are what the administrator has named so. Checksums and conditions came with releases of the last
#: years, so they are not relied on.
CEPH = Dialect("ceph", "Ceph", refused_options=_ACCOUNT | _CONDITIONS)

#: And what was made of it. It refuses a part without the checksum that its upload announced, ignores access rules, and
#: lists uploads only for the whole key.
MINIO = Dialect(
    "minio",
    "MinIO",
    checksums=(CRC64_NVME, CRC32C),
    parts_need_checksums=True,
    refused_options=frozenset({"acl", "website_redirect"}) | _ACCOUNT,
    lists_uploads=False,
)

#: The compatible API of Alibaba Cloud OSS. Its own API, `partwise.backends.oss`, does more.
OSS = Dialect(
    "oss",
    "Alibaba Cloud OSS",
    hosts=r"(s3\.)?oss-(?P<region>[a-z]{2}-[a-z0-9-]+?)(-internal)?\.aliyuncs\.com",
    limits=PartLimits(
        min_part_size=100 * KIB,
        max_part_size=5 * GIB,
        max_parts=10_000,
        max_object_size=10_000 * 5 * GIB,
        max_put_size=5 * GIB,
    ),
    refused_options=frozenset({"sse_customer_key", "website_redirect", "encryption_context", "bucket_key"})
    | _LOCK
    | _ACCOUNT
    | _CONDITIONS,
    virtual_hosts_only=True,
)

DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in (AWS, R2, B2, GCS, CEPH, MINIO, OSS)}


def choose_dialect(dialect: Dialect | str | None, host: str | None) -> Dialect:
    """
    Return the dialect of a storage.

    Args:
        dialect: a dialect, the name of one, or None for that of the host.
        host: the host of the endpoint; None for AWS.

    Raises:
        InvalidInput: there is no dialect of this name.
    """
    if isinstance(dialect, Dialect):
        return dialect
    if dialect is None:
        known = (found for found in DIALECTS.values() if host is not None and _match(found, host) is not None)
        return next(known, AWS)
    check_string("dialect", dialect)
    if dialect not in DIALECTS:
        raise InvalidInput(f"the dialect must be one of {', '.join(DIALECTS)}, not {brief(dialect)}")
    return DIALECTS[dialect]


def region_of(dialect: Dialect, host: str | None) -> str | None:
    """Return the region that the dialect or the host of its endpoint implies."""
    if dialect.region is not None or host is None:
        return dialect.region
    found = _match(dialect, host)
    return None if found is None else found.groupdict().get("region")


def _match(dialect: Dialect, host: str) -> re.Match[str] | None:
    return None if dialect.hosts is None else re.fullmatch(dialect.hosts, host)
