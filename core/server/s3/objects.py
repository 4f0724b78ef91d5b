"""The operations on whole objects."""

from __future__ import annotations

from attrs import evolve

from partwise.checksums import Checksum
from partwise.model import ObjectOptions, StoredObject
from partwise.server.body import BODY_BYTES_MAX
from partwise.server.buckets import ObjectInfo
from partwise.server.errors import ServiceError
from partwise.server.exchange import Exchange
from partwise.server.messages import ServerResponse
from partwise.server.objects import check_length, send_object
from partwise.server.reading import existing_object, lists_etag, quoted, requested_range
from partwise.server.s3.options import (
    OWNER,
    check_customer_key,
    customer_key_of,
    encryption_headers,
    for_backend,
    kept_headers,
    object_headers,
    options_of,
)
from partwise.server.s3.payload import announced_algorithm, default_checksum, header_of
from partwise.server.times import http_date
from partwise.server.xml import document

_XML = (("Content-Type", "application/xml"),)
_FULL, _COMPOSITE = "FULL_OBJECT", "COMPOSITE"


def put_object(exchange: Exchange) -> ServerResponse:
    request, body, bucket = exchange.request, exchange.body, exchange.bucket
    options, headers, customer_key = options_of(request), kept_headers(request), customer_key_of(request)
    check_length(exchange)
    check_digest(exchange)
    if len(body) > min(BODY_BYTES_MAX, bucket.backend.limits.max_put_size):
        raise ServiceError("EntityTooLarge", elements={"ProposedSize": str(len(body))})
    check_conditions(exchange)
    stored = bucket.backend.put_object(exchange.key, body, for_backend(options, bucket.backend.capabilities.options))
    algorithm = announced_algorithm(request) or default_checksum()
    checksums = checksum_headers(algorithm, algorithm.to_base64(body.tracked(algorithm)), composite=False)
    info = ObjectInfo(
        stored, stored.etag.strip('"'), options, "Normal", exchange.now, None, headers, checksums, customer_key
    )
    bucket.remember_object(info)
    return ServerResponse(200, stored_headers(exchange, info))


def get_object(exchange: Exchange) -> ServerResponse:
    info = _readable_object(exchange)
    requested = requested_range(exchange.request, info.stored.size, standard=True)
    # As on S3: the checksum of the object says nothing of a range of it, and clients would compare it with the range.
    return send_object(exchange, info, _headers(exchange, info, with_checksum=requested is None), requested)


def head_object(exchange: Exchange) -> ServerResponse:
    info = _readable_object(exchange)
    return ServerResponse(200, _headers(exchange, info, with_checksum=True), length=info.stored.size)


def get_object_acl(exchange: Exchange) -> ServerResponse:
    info = existing_object(exchange)
    granted = (("Grantee", (("ID", OWNER),)), ("Permission", "FULL_CONTROL"))
    canned = info.options.acl or "private"
    body = document(
        "AccessControlPolicy",
        (("Owner", (("ID", OWNER),)), ("AccessControlList", (("Grant", granted), ("Canned", canned)))),
    )
    return ServerResponse(200, _XML, body)


def get_object_tagging(exchange: Exchange) -> ServerResponse:
    info = existing_object(exchange)
    tags = tuple(("Tag", (("Key", name), ("Value", value))) for name, value in info.options.tags.items())
    return ServerResponse(200, _XML, document("Tagging", (("TagSet", tags),)))


# --- shared with multipart uploads -----------------------------------------------------------------------------------


def check_digest(exchange: Exchange) -> None:
    """Refuse a request without a digest, if the settings demand one."""
    request = exchange.request
    has_digest = request.header("content-md5") is not None or announced_algorithm(request) is not None
    if exchange.settings.require_digests and not has_digest:
        raise ServiceError(
            "InvalidRequest",
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Part requests with Object Lock parameters",
        )


def check_conditions(exchange: Exchange) -> None:
    """
    Check the conditions under which a request may store its object.

    Raises:
        ServiceError: PreconditionFailed, or NoSuchKey if another version is required and there is no object.
    """
    match, none_match = exchange.request.header("if-match"), exchange.request.header("if-none-match")
    if match is None and none_match is None:
        return
    info = exchange.bucket.object(exchange.key)
    if none_match is not None and info is not None:
        raise ServiceError("PreconditionFailed", elements={"Condition": "If-None-Match"})
    if match is None:
        return
    if info is None:
        raise ServiceError("NoSuchKey", elements={"Key": exchange.key})
    if not lists_etag(match, info.etag):
        raise ServiceError("PreconditionFailed", elements={"Condition": "If-Match"})


def checksum_headers(algorithm: Checksum, value: str, *, composite: bool) -> tuple[tuple[str, str], ...]:
    """Return the headers that report the checksum of an object."""
    return ((header_of(algorithm), value), ("x-amz-checksum-type", _COMPOSITE if composite else _FULL))


def reported(exchange: Exchange, headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return checksum headers as the settings and the planned faults want them."""
    if not exchange.checksums:
        return ()
    if not exchange.corrupt_checksum:
        return headers
    return tuple((name, _other(value) if name != "x-amz-checksum-type" else value) for name, value in headers)


def _other(value: str) -> str:
    return ("B" if value.startswith("A") else "A") + value[1:]


def stored_headers(exchange: Exchange, info: ObjectInfo) -> tuple[tuple[str, str], ...]:
    """Return the headers of the response to a request that stored an object."""
    return (
        ("ETag", quoted(info.etag)),
        *reported(exchange, info.checksums),
        *encryption_headers(info.options, info.customer_key),
    )


def object_info(
    exchange: Exchange, stored: StoredObject, options: ObjectOptions, checksums: tuple[tuple[str, str], ...]
) -> ObjectInfo:
    """Return what the server remembers of an object that is made of parts."""
    etag, rename = stored.etag.strip('"'), exchange.settings.multipart_etag
    info = ObjectInfo(stored, rename(etag) if rename else etag, options, "Multipart", exchange.now)
    return evolve(info, checksums=checksums)


# --- reading ---------------------------------------------------------------------------------------------------------


def _readable_object(exchange: Exchange) -> ObjectInfo:
    info = existing_object(exchange)
    check_customer_key(exchange.request, info.customer_key)
    return info


def _headers(exchange: Exchange, info: ObjectInfo, *, with_checksum: bool) -> tuple[tuple[str, str], ...]:
    wanted = with_checksum and (exchange.request.header("x-amz-checksum-mode") or "").upper() == "ENABLED"
    return (
        *object_headers(info.options),
        ("ETag", quoted(info.etag)),
        ("Last-Modified", http_date(info.modified)),
        ("Accept-Ranges", "bytes"),
        *info.headers,
        *encryption_headers(info.options, info.customer_key),
        *(reported(exchange, info.checksums) if wanted else ()),
    )
