"""
The flags of the command line for S3.

They are plain data; `partwise.backends.oss.flags` describes them. Nothing of the backend is imported before a flag is
given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SCHEME = "s3"
HEADING = "Only S3"
PROBE: str | None = "partwise.backends.s3.probing"
CREDENTIALS = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or --profile"

CONNECTION_FLAGS: tuple[tuple[str, str, str, str], ...] = (
    (
        "--dialect NAME",
        "text",
        "Kind of storage: aws, r2, b2, gcs, ceph, minio or oss; default: by the endpoint, or aws ('partwise probe').",
        "dialect",
    ),
    ("--dual-stack", "flag", "Use the endpoint of AWS that has IPv6 addresses, too.", "dual_stack"),
    ("--accelerate", "flag", "Use transfer acceleration of AWS.", "accelerate"),
)

REQUEST_FLAGS: tuple[tuple[str, str, str, str], ...] = (
    (
        "--expected-bucket-owner ACCOUNT",
        "text",
        "The account that must own the bucket, 12 digits; otherwise S3 refuses the requests.",
        "expected_bucket_owner",
    ),
)

READING_FLAGS: tuple[tuple[str, str, str, str], ...] = (
    (
        "--sse-customer-key-file PATH",
        "path",
        "File with the key that the object is encrypted with (SSE-C): 32 bytes, or their base64.",
        "sse_customer_key_file",
    ),
)

OPTION_FLAGS: tuple[tuple[str, str, str, str], ...] = (
    ("--object-lock-mode MODE", "text", "GOVERNANCE or COMPLIANCE, with the next option.", "object_lock_mode"),
    (
        "--object-lock-retain-until TIME",
        "text",
        "Until when the object can't be deleted, such as 2030-12-31T00:00:00Z.",
        "object_lock_retain_until",
    ),
)

SUGGESTIONS: Mapping[str, tuple[str, ...]] = {
    "acl": ("bucket-owner-full-control",),
    "storage_class": (
        *("STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"),
    ),
    "encryption": ("aws:kms:dsse",),
    "addressing_style": ("auto", "virtual", "path"),
    "dialect": ("aws", "r2", "b2", "gcs", "ceph", "minio", "oss"),
    "object_lock_mode": ("GOVERNANCE", "COMPLIANCE"),
}

SETTINGS: Mapping[str, str] = {
    "accelerate": "--accelerate",
    "dialect": "--dialect",
    "dual_stack": "--dual-stack",
    "expected_bucket_owner": "--expected-bucket-owner",
    "object_lock_mode": "--object-lock-mode",
    "object_lock_retain_until": "--object-lock-retain-until",
    "sse_customer_key": "--sse-customer-key-file",
}

SECRETS: Mapping[str, str] = {"sse_customer_key": "--sse-customer-key-file"}

_KEY_BYTES = 32

#: Characters of the base64 of a key, with the end of a line.
_FILE_BYTES_MAX = 64


_ACCESS_POINT = re.compile(
    r"(?P<name>[a-z0-9-]+)-(?P<account>\d{12})(\.(?P<outpost>op-[a-z0-9]+))?"
    r"@(?P<service>s3|s3-outposts)\.(?P<region>[a-z0-9-]+)\..+"
)

#: The partitions of AWS, by the beginning of the names of their regions.
_PARTITIONS = (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov"), ("eusc-", "aws-eusc"), ("us-iso", "aws-iso"), ("", "aws"))


def bucket_in_url(location: str) -> str:
    """Return the bucket of a location, or the ARN of its access point."""
    found = _ACCESS_POINT.fullmatch(location)
    if found is None:
        return location.partition("@")[0]
    partition = next(name for start, name in _PARTITIONS if found["region"].startswith(start))
    outpost = f"outpost/{found['outpost']}/" if found["outpost"] else ""
    owner = f"arn:{partition}:{found['service']}:{found['region']}:{found['account']}"
    return f"{owner}:{outpost}accesspoint/{found['name']}"


def option_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the fields of `S3Options` that the flags set, by name.

    Args:
        given: the values of the flags that were given, by the name of the value.

    Raises:
        InvalidInput: the file with the customer's key can't be read, or does not contain a key.
    """
    values = dict(given)
    path = values.pop("sse_customer_key_file", None)
    if path is not None:
        values["sse_customer_key"] = _key_in(path)
    return values


def _key_in(path: str) -> str:
    """
    Return the key in a file, in base64.

    Neither an error nor its cause shows what is in the file.
    """
    import base64

    from partwise.errors import InvalidInput

    try:
        with open(path, "rb") as file:  # noqa: PTH123  # a Path refuses some names in another way
            data = file.read(_FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name is not valid"
        raise InvalidInput(f"--sse-customer-key-file: {path!r:.200} can't be read: {reason}") from None
    if len(data) == _KEY_BYTES:
        return base64.b64encode(data).decode()
    try:
        key = base64.b64decode(data.strip(), validate=True)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise InvalidInput(
            f"--sse-customer-key-file: {path!r:.200} does not contain a key: {_KEY_BYTES} bytes, or their base64",
            hint="Generate one: openssl rand 32",
        )
    return base64.b64encode(key).decode()
