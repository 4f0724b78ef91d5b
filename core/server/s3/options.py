"""What the headers of a request say about its object."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any
from urllib.parse import parse_qsl, quote_plus

from attrs import evolve

from partwise.model import KIB, ObjectOptions
from partwise.server.errors import ServiceError, bad_argument
from partwise.server.messages import ServerRequest, to_bytes

#: The account that owns every bucket.
OWNER = "123456789012"

#: The limits of a page that a request may have. S3 returns at most 1000 entries, whatever the limit.
ACCEPTED_LIMITS = range(2**31)

_STORAGE_CLASSES = (
    *("STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER", "DEEP_ARCHIVE"),
    *("GLACIER_IR", "EXPRESS_ONEZONE"),
)
_ACLS = (
    *("private", "public-read", "public-read-write", "authenticated-read", "aws-exec-read"),
    *("bucket-owner-read", "bucket-owner-full-control"),
)
_ENCRYPTIONS = ("AES256", "aws:kms", "aws:kms:dsse")
_METADATA_BYTES_MAX = 2 * KIB
_TAGS_MAX = 10
_TAG_NAME_MAX, _TAG_VALUE_MAX = 128, 256
_METADATA = "x-amz-meta-"
_SSE = "x-amz-server-side-encryption"
_CUSTOMER = f"{_SSE}-customer-"
_RETAIN_UNTIL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")

_PLAIN_HEADERS = (
    ("content_type", "Content-Type"),
    ("cache_control", "Cache-Control"),
    ("content_disposition", "Content-Disposition"),
    ("content_encoding", "Content-Encoding"),
    ("content_language", "Content-Language"),
    ("expires", "Expires"),
)
_KEPT_HEADERS = (
    f"{_SSE}-bucket-key-enabled",
    "x-amz-website-redirect-location",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-object-lock-legal-hold",
)


def quote_key(key: str) -> str:
    """
    Return a key as lists with ``encoding-type=url`` have it.

    It is encoded like the value of a form, but for slashes.
    """
    return quote_plus(key, safe="/*").replace("~", "%7E")


def check_owner(request: ServerRequest) -> None:
    """Refuse a request that expects another owner or an unknown payer."""
    expected = request.header("x-amz-expected-bucket-owner")
    if expected is not None and expected != OWNER:
        raise ServiceError("AccessDenied")
    _one_of(request, "x-amz-request-payer", ("requester",), "InvalidArgument")


def options_of(request: ServerRequest) -> ObjectOptions:
    """
    Return the neutral object options of a request.

    Raises:
        ServiceError: a header has an invalid value.
    """
    texts: dict[str, Any] = {}
    for name, header in _PLAIN_HEADERS:
        value = request.header(header.lower())
        if value is not None:
            texts[name] = value
    encoding = _without_framing(texts.pop("content_encoding", None))
    encryption = _one_of(request, _SSE, _ENCRYPTIONS, "InvalidArgument")
    kms_key_id = request.header(f"{_SSE}-aws-kms-key-id")
    if kms_key_id is not None and encryption not in _ENCRYPTIONS[1:]:
        raise bad_argument(_SSE, encryption or "", "A KMS key requires the encryption aws:kms.")
    return ObjectOptions(
        **texts,
        content_encoding=encoding,
        encryption=encryption,
        kms_key_id=kms_key_id,
        acl=_one_of(request, "x-amz-acl", _ACLS, "InvalidArgument"),
        storage_class=_one_of(request, "x-amz-storage-class", _STORAGE_CLASSES, "InvalidStorageClass"),
        metadata=_metadata(request),
        tags=_tags(request),
        forbid_overwrite=_forbids_overwrite(request),
    )


def _without_framing(encoding: str | None) -> str | None:
    # aws-chunked is the framing of the request, and not a property of the object.
    if encoding is None:
        return None
    names = [name.strip() for name in encoding.split(",") if name.strip() != "aws-chunked"]
    return ",".join(names) or None


def _forbids_overwrite(request: ServerRequest) -> bool:
    condition = request.header("if-none-match")
    if condition not in (None, "*"):
        raise ServiceError("NotImplemented", elements={"Header": "If-None-Match"})
    return condition == "*"


def kept_headers(request: ServerRequest) -> tuple[tuple[str, str], ...]:
    """
    Return the headers that HEAD of the object shows as they were sent.

    Raises:
        ServiceError: a header has an invalid value.
    """
    _one_of(request, "x-amz-object-lock-mode", ("GOVERNANCE", "COMPLIANCE"), "InvalidArgument")
    _one_of(request, "x-amz-object-lock-legal-hold", ("ON", "OFF"), "InvalidArgument")
    until, mode = request.header("x-amz-object-lock-retain-until-date"), request.header("x-amz-object-lock-mode")
    if (until is None) != (mode is None):
        raise ServiceError(
            "InvalidArgument",
            "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied",
        )
    if until is not None and not _RETAIN_UNTIL.fullmatch(until):
        raise bad_argument("x-amz-object-lock-retain-until-date", until, "The retain until date is not valid.")
    return tuple((name, value) for name in _KEPT_HEADERS if (value := request.header(name)) is not None)


def customer_key_of(request: ServerRequest) -> str | None:
    """
    Return the MD5 of the customer's key in a request; None if it has none.

    Raises:
        ServiceError: the headers contradict each other.
    """
    algorithm, key, md5 = (request.header(f"{_CUSTOMER}{name}") for name in ("algorithm", "key", "key-md5"))
    if algorithm is None and key is None and md5 is None:
        return None
    if algorithm != "AES256" or key is None or md5 is None:
        raise ServiceError("InvalidArgument", "Requests with a customer key need its algorithm, key and MD5.")
    try:
        raw = base64.b64decode(key, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise ServiceError("InvalidArgument", "The secret key was invalid for the specified algorithm.")
    if md5 != base64.b64encode(hashlib.md5(raw, usedforsecurity=False).digest()).decode():
        raise ServiceError("InvalidArgument", "The calculated MD5 hash of the key did not match the hash provided.")
    return md5


def check_customer_key(request: ServerRequest, expected: str | None) -> None:
    """Refuse a request without the customer's key that its upload or object has."""
    if customer_key_of(request) != expected:
        raise ServiceError(
            "InvalidRequest",
            "The object or upload was stored with a customer key: requests must include the same one, and no other.",
        )


def _one_of(request: ServerRequest, header: str, values: tuple[str, ...], code: str) -> str | None:
    value = request.header(header)
    if value is not None and value not in values:
        raise ServiceError(
            code,
            f"{header} must be one of {', '.join(values)}.",
            elements={"ArgumentName": header, "ArgumentValue": value},
        )
    return value


def _metadata(request: ServerRequest) -> dict[str, str]:
    metadata = request.headers_with(_METADATA)
    size = sum(len(to_bytes(name)) + len(to_bytes(value)) for name, value in metadata.items())
    if size > _METADATA_BYTES_MAX:
        elements = {"Size": str(size), "MaxSizeAllowed": str(_METADATA_BYTES_MAX)}
        raise ServiceError("MetadataTooLarge", elements=elements)
    return metadata


def _tags(request: ServerRequest) -> dict[str, str]:
    text = request.header("x-amz-tagging") or ""
    tags = parse_qsl(text, keep_blank_values=True)
    if len(tags) > _TAGS_MAX or len(dict(tags)) < len(tags):
        raise ServiceError("InvalidTag", f"At most {_TAGS_MAX} tags with different names are allowed.")
    if any(not 0 < len(name) <= _TAG_NAME_MAX or len(value) > _TAG_VALUE_MAX for name, value in tags):
        raise ServiceError("InvalidTag")
    return dict(tags)


def for_backend(options: ObjectOptions, supported: frozenset[str]) -> ObjectOptions:
    """Return the options that the backend supports; the server remembers the others."""
    unsupported = options.explicitly_set() - supported
    if not unsupported:
        return options
    default = ObjectOptions()
    return evolve(options, **{name: getattr(default, name) for name in unsupported})


def encryption_headers(options: ObjectOptions, customer_key: str | None) -> tuple[tuple[str, str], ...]:
    """Return the headers that describe the encryption of an object."""
    if customer_key is not None:
        return ((f"{_CUSTOMER}algorithm", "AES256"), (f"{_CUSTOMER}key-MD5", customer_key))
    headers = [(_SSE, options.encryption or "AES256")]
    if options.kms_key_id is not None:
        headers.append((f"{_SSE}-aws-kms-key-id", options.kms_key_id))
    return tuple(headers)


def object_headers(options: ObjectOptions) -> tuple[tuple[str, str], ...]:
    """Return the headers of HEAD and GET that the options of an object determine."""
    values = ((header, getattr(options, name)) for name, header in _PLAIN_HEADERS)
    headers = [(header, value) for header, value in values if value is not None]
    if options.content_type is None:
        headers.append(("Content-Type", "binary/octet-stream"))
    if options.storage_class not in (None, "STANDARD"):
        headers.append(("x-amz-storage-class", str(options.storage_class)))
    headers += [(_METADATA + name, value) for name, value in options.metadata.items()]
    if options.tags:
        headers.append(("x-amz-tagging-count", str(len(options.tags))))
    return tuple(headers)
