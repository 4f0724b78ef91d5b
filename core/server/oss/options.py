"""Convert request headers to `OSSOptions`, and these to response headers."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, quote

from attrs import evolve

from partwise.backends.oss import OSSOptions
from partwise.model import KIB, ObjectOptions
from partwise.server.errors import ServiceError, bad_argument
from partwise.server.messages import ServerRequest, to_bytes
from partwise.server.settings import PAGE_LIMIT_MAX

_STORAGE_CLASSES = ("Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive")
_ACLS = ("default", "private", "public-read", "public-read-write")
_ENCRYPTIONS = ("AES256", "KMS", "SM4")
_TRAFFIC_LIMITS = range(819_200, 838_860_800 + 1)
_METADATA_BYTES_MAX = 8 * KIB
_TAGS_MAX = 10
_METADATA = "x-oss-meta-"

_ENCRYPTION_HEADERS = (
    ("encryption", "x-oss-server-side-encryption"),
    ("data_encryption", "x-oss-server-side-data-encryption"),
    ("kms_key_id", "x-oss-server-side-encryption-key-id"),
)
_PLAIN_HEADERS = (
    ("content_type", "Content-Type"),
    ("cache_control", "Cache-Control"),
    ("content_disposition", "Content-Disposition"),
    ("content_encoding", "Content-Encoding"),
    ("content_language", "Content-Language"),
    ("expires", "Expires"),
)

#: The limits of a page that a request may have.
ACCEPTED_LIMITS = range(1, PAGE_LIMIT_MAX + 1)

#: Options that the server implements itself, or that are not about the object.
_NOT_FOR_BACKENDS = frozenset({"callback", "traffic_limit", "request_payer"})


def quote_key(key: str) -> str:
    """Return a key as lists with ``encoding-type=url`` have it."""
    return quote(key, safe="")


def options_of(request: ServerRequest) -> OSSOptions:
    """
    Return the object options of a request, without its callback.

    Raises:
        ServiceError: a header has an invalid value.
    """
    texts: dict[str, Any] = {}
    for name, header in (*_PLAIN_HEADERS, *_ENCRYPTION_HEADERS):
        value = request.header(header.lower())
        if value is not None:
            texts[name] = value
    if texts.get("encryption", "AES256") not in _ENCRYPTIONS:
        raise ServiceError("InvalidEncryptionAlgorithmError")
    if not {"data_encryption", "kms_key_id"}.isdisjoint(texts) and texts.get("encryption") != "KMS":
        raise bad_argument(
            "x-oss-server-side-encryption", texts.get("encryption", ""), "It requires the encryption KMS."
        )
    return OSSOptions(
        **texts,
        acl=_one_of(request, "x-oss-object-acl", _ACLS),
        storage_class=_one_of(request, "x-oss-storage-class", _STORAGE_CLASSES),
        metadata=_metadata(request),
        tags=_tags(request),
        forbid_overwrite=_one_of(request, "x-oss-forbid-overwrite", ("true", "false")) == "true",
        traffic_limit=traffic_limit_of(request),
        request_payer=_one_of(request, "x-oss-request-payer", ("requester",)),
    )


def traffic_limit_of(request: ServerRequest) -> int | None:
    """
    Return the traffic limit of a request in bits per second.

    It is validated, but not enforced.

    Raises:
        ServiceError: InvalidArgument: it is out of range, or given twice.
    """
    in_header, in_query = request.header("x-oss-traffic-limit"), request.param("x-oss-traffic-limit")
    if in_header is not None and in_query is not None:
        raise bad_argument("x-oss-traffic-limit", in_header, "It must not be both in the header and in the query.")
    text = in_header if in_header is not None else in_query
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) in _TRAFFIC_LIMITS):
        raise bad_argument("x-oss-traffic-limit", text, "It must be from 819200 to 838860800 bits per second.")
    return int(text)


def _one_of(request: ServerRequest, header: str, values: tuple[str, ...]) -> str | None:
    value = request.header(header)
    if value is not None and value not in values:
        raise bad_argument(header, value, f"{header} must be one of {', '.join(values)}.")
    return value


def _metadata(request: ServerRequest) -> dict[str, str]:
    metadata = request.headers_with(_METADATA)
    size = sum(len(to_bytes(name)) + len(to_bytes(value)) for name, value in metadata.items())
    if size > _METADATA_BYTES_MAX:
        raise ServiceError("InvalidArgument", f"The metadata has {size} bytes; the maximum is {_METADATA_BYTES_MAX}.")
    return metadata


def _tags(request: ServerRequest) -> dict[str, str]:
    text = request.header("x-oss-tagging") or ""
    tags = parse_qsl(text, keep_blank_values=True)
    if len(tags) > _TAGS_MAX or len(dict(tags)) < len(tags):
        raise bad_argument("x-oss-tagging", text, f"At most {_TAGS_MAX} tags with different names are allowed.")
    return dict(tags)


def for_backend(options: ObjectOptions, supported: frozenset[str]) -> ObjectOptions:
    """Return the options that the backend supports; the server remembers the others."""
    unsupported = options.explicitly_set() - (supported - _NOT_FOR_BACKENDS)
    if not unsupported:
        return options
    default = type(options)()
    return evolve(options, **{name: getattr(default, name) for name in unsupported})


def encryption_headers(options: ObjectOptions) -> tuple[tuple[str, str], ...]:
    """Return the headers that describe the encryption of an object."""
    return _present(options, _ENCRYPTION_HEADERS)


def object_headers(options: ObjectOptions) -> tuple[tuple[str, str], ...]:
    """Return the headers of HEAD and GET that the options of an object determine."""
    headers = [*_present(options, _PLAIN_HEADERS), *encryption_headers(options)]
    if options.content_type is None:
        headers.append(("Content-Type", "application/octet-stream"))
    headers.append(("x-oss-storage-class", options.storage_class or "Standard"))
    headers += [(_METADATA + name, value) for name, value in options.metadata.items()]
    if options.tags:
        headers.append(("x-oss-tagging-count", str(len(options.tags))))
    return tuple(headers)


def _present(options: ObjectOptions, table: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    # A backend may describe an object by options of another class.
    values = ((header, getattr(options, name, None)) for name, header in table)
    return tuple((header, value) for header, value in values if value is not None)
