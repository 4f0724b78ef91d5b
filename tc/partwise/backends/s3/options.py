"""
The options of S3, and the headers that carry them.

The headers are one table per dialect, by option and kind of request. This module does no I/O.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from attrs import define, field

from partwise._validation import boolean, optional_string, string_mapping
from partwise.backends._http.headers import check_header_value
from partwise.backends._http.option_headers import (
    APPEARANCE,
    CONTENT_RULES,
    CREATION,
    EVERY,
    OptionRule,
    OptionTable,
    RequestKind,
    accept,
    base64_json,
    check_metadata,
    check_tags,
    check_text,
    one_of,
    write_metadata,
    write_tags,
    write_true,
    write_word,
)
from partwise.backends.s3.dialects import Dialect
from partwise.checksums import CRC64_XZ
from partwise.errors import InvalidInput
from partwise.model import KIB, Capabilities, ObjectOptions

METADATA_PREFIX = "x-amz-meta-"

#: Bytes of all names and values together.
METADATA_BYTES_MAX = 2 * KIB

_SSE = "x-amz-server-side-encryption"
_KEY_BYTES = 32

_ACLS = (
    *("private", "public-read", "public-read-write", "authenticated-read", "aws-exec-read"),
    *("bucket-owner-read", "bucket-owner-full-control"),
)
_ENCRYPTION_WORDS = {"AES256": "AES256", "KMS": "aws:kms"}
_ENCRYPTIONS = ("AES256", "KMS", "aws:kms", "aws:kms:dsse")
_RETAIN_UNTIL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
_ACCOUNT = re.compile(r"\d{12}")

#: Options that act per request, or when the object is created, so that a resumed run may change them.
_LATE = frozenset({"forbid_overwrite", "if_match", "request_payer", "expected_bucket_owner", "sse_customer_key"})


@define(frozen=True)
class S3Options(ObjectOptions):
    """
    The properties of an object in S3: those of all storages, and more.

    `acl` can also be another canned one, such as ``"bucket-owner-full-control"``; `storage_class` a word of the
    storage, such as ``"GLACIER_IR"``; `encryption` ``"aws:kms:dsse"``. Unlike other options, an access rule is fixed
    when an upload is initiated.

    Args:
        encryption_context: further data that a KMS key is used with, by name.
        bucket_key: use the bucket's key with KMS, which costs fewer requests.
        sse_customer_key: the key of 256 bits to encrypt the object with, in base64 (SSE-C). S3 does not keep it; it is
            required to read the object. It is secret, is sent with every request for the object, and is recorded
            nowhere: a resumed run must get the same key.
        object_lock_mode: ``"GOVERNANCE"`` or ``"COMPLIANCE"``, with `object_lock_retain_until`.
        object_lock_retain_until: until when the object can't be deleted, such as ``"2030-12-31T00:00:00Z"``.
        object_lock_legal_hold: the object can't be deleted until the hold is removed.
        website_redirect: where a bucket that is a website redirects requests for the object: a path or a URL.
        request_payer: ``"requester"`` if the requester pays.
        expected_bucket_owner: the account that must own the bucket, 12 digits; otherwise requests are refused.
    """

    encryption_context: Mapping[str, str] = field(factory=dict, converter=string_mapping)
    bucket_key: bool = field(default=False, validator=boolean)
    sse_customer_key: str | None = field(default=None, validator=optional_string, repr=False)
    object_lock_mode: str | None = field(default=None, validator=optional_string)
    object_lock_retain_until: str | None = field(default=None, validator=optional_string)
    object_lock_legal_hold: bool = field(default=False, validator=boolean)
    website_redirect: str | None = field(default=None, validator=optional_string)
    request_payer: str | None = field(default=None, validator=optional_string)
    expected_bucket_owner: str | None = field(default=None, validator=optional_string)


# --- the check of a value, and its headers ---------------------------------------------------------------------------


def _check_context(option: str, value: Any) -> None:
    for name, text in value.items():
        check_text(f"a name in {option}", name)
        check_text(f"a value in {option}", text)


def _write_context(header: str, value: Any) -> dict[str, str]:
    return {header: base64_json(value)}


def _check_customer_key(option: str, value: Any) -> None:
    # The value is neither shown nor part of the error's context.
    try:
        size = len(base64.b64decode(value, validate=True))
    except (ValueError, TypeError):
        size = 0
    if size != _KEY_BYTES:
        raise InvalidInput(f"{option} must be the base64 of {_KEY_BYTES} bytes")


def _write_customer_key(header: str, value: Any) -> dict[str, str]:
    md5 = hashlib.md5(base64.b64decode(value), usedforsecurity=False).digest()
    return {
        f"{header}-algorithm": "AES256",
        f"{header}-key": value,
        f"{header}-key-md5": base64.b64encode(md5).decode(),
    }


def _check_retain_until(option: str, value: Any) -> None:
    if not isinstance(value, str) or not _RETAIN_UNTIL.fullmatch(value):
        raise InvalidInput(f"{option} must be a time in UTC such as 2030-12-31T00:00:00Z, not {value!r:.60}")


def _check_account(option: str, value: Any) -> None:
    if not isinstance(value, str) or not _ACCOUNT.fullmatch(value):
        raise InvalidInput(f"{option} must be the 12 digits of an account, not {value!r:.60}")


def _write_on(header: str, _: Any) -> dict[str, str]:
    return {header: "ON"}


def _write_any(header: str, _: Any) -> dict[str, str]:
    return {header: "*"}


def _write_etag(header: str, value: Any) -> dict[str, str]:
    return {header: f'"{value.strip(chr(34))}"'}


def _check_together(options: ObjectOptions) -> None:
    present = options.explicitly_set()
    if {"forbid_overwrite", "if_match"} <= present:
        raise InvalidInput("forbid_overwrite and if_match exclude each other")
    if options.encryption in (None, "AES256") and not present.isdisjoint(("kms_key_id", "encryption_context")):
        raise InvalidInput(
            "kms_key_id and encryption_context require the encryption KMS", hint="Pass {encryption=KMS} with them"
        )
    if "bucket_key" in present and options.encryption not in ("KMS", "aws:kms"):
        raise InvalidInput("bucket_key requires the encryption KMS", hint="Pass {encryption=KMS} with it")
    if {"sse_customer_key", "encryption"} <= present:
        raise InvalidInput("sse_customer_key and encryption exclude each other: an object is encrypted with one key")
    if len({"object_lock_mode", "object_lock_retain_until"} & present) == 1:
        raise InvalidInput("object_lock_mode and object_lock_retain_until require each other")


# --- the table -------------------------------------------------------------------------------------------------------

# Options that describe the object are sent with the request that creates it or initiates its upload, conditions with
# the request that makes it appear. The customer's key goes with every request that touches the bytes, and with HEAD.
_WITH_KEY = CREATION | APPEARANCE | RequestKind.PART | RequestKind.READ

_RULES = (
    *CONTENT_RULES,
    OptionRule("metadata", METADATA_PREFIX, CREATION, check_metadata(METADATA_BYTES_MAX), write_metadata),
    OptionRule("tags", "x-amz-tagging", CREATION, check_tags, write_tags),
    OptionRule("acl", "x-amz-acl", CREATION, one_of(*_ACLS)),
    OptionRule("encryption", _SSE, CREATION, one_of(*_ENCRYPTIONS), write_word(_ENCRYPTION_WORDS)),
    OptionRule("kms_key_id", f"{_SSE}-aws-kms-key-id", CREATION),
    OptionRule("encryption_context", f"{_SSE}-context", CREATION, _check_context, _write_context),
    OptionRule("bucket_key", f"{_SSE}-bucket-key-enabled", CREATION, accept, write_true),
    OptionRule("sse_customer_key", f"{_SSE}-customer", _WITH_KEY, _check_customer_key, _write_customer_key),
    OptionRule("object_lock_mode", "x-amz-object-lock-mode", CREATION, one_of("GOVERNANCE", "COMPLIANCE")),
    OptionRule("object_lock_retain_until", "x-amz-object-lock-retain-until-date", CREATION, _check_retain_until),
    OptionRule("object_lock_legal_hold", "x-amz-object-lock-legal-hold", CREATION, accept, _write_on),
    OptionRule("website_redirect", "x-amz-website-redirect-location", CREATION),
    OptionRule("forbid_overwrite", "If-None-Match", APPEARANCE, accept, _write_any),
    OptionRule("if_match", "If-Match", APPEARANCE, check_header_value, _write_etag),
    OptionRule("request_payer", "x-amz-request-payer", EVERY, one_of("requester")),
    OptionRule("expected_bucket_owner", "x-amz-expected-bucket-owner", EVERY, _check_account),
)


@lru_cache(maxsize=16)
def option_table(dialect: Dialect) -> OptionTable:
    """Return the rules for the options that a dialect honours."""
    if dialect.storage_classes is None:
        check = check_header_value
    else:
        check = one_of(*dialect.class_words, *dialect.storage_classes)  # type: ignore[assignment]
    storage_class = OptionRule("storage_class", "x-amz-storage-class", CREATION, check, write_word(dialect.class_words))
    rules = tuple(rule for rule in (*_RULES, storage_class) if rule.option not in dialect.refused_options)
    return OptionTable(S3Options, rules, _check_together)


@lru_cache(maxsize=16)
def capabilities(dialect: Dialect) -> Capabilities:
    """Return what a backend for this dialect supports."""
    options, checksum = option_table(dialect).options, dialect.checksum
    return Capabilities(
        options=options,
        late_options=_LATE & options,
        option_type=S3Options,
        lists_parts=True,
        checksum=CRC64_XZ if checksum is None else checksum,  # without one, its value is not used
        part_checksums=checksum is not None,
        object_checksums=checksum is not None,
        equal_part_sizes=dialect.equal_part_sizes,
        lists_uploads=dialect.lists_uploads,
    )
