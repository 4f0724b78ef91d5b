"""The operations on whole objects."""

from __future__ import annotations

from partwise.model import ObjectOptions, StoredObject
from partwise.server.body import BODY_BYTES_MAX
from partwise.server.buckets import ObjectInfo
from partwise.server.errors import ServiceError
from partwise.server.exchange import Exchange
from partwise.server.messages import ServerResponse
from partwise.server.objects import check_length, send_object
from partwise.server.oss.callbacks import CallbackFailed, CallbackRequest, callback_of
from partwise.server.oss.headers import checksum_headers
from partwise.server.oss.options import encryption_headers, for_backend, object_headers, options_of
from partwise.server.reading import CONDITIONS, existing_object, quoted, requested_range
from partwise.server.times import http_date
from partwise.server.xml import document


def put_object(exchange: Exchange) -> ServerResponse:
    request, body, bucket = exchange.request, exchange.body, exchange.bucket
    for name in CONDITIONS:
        if request.header(name) is not None:
            raise ServiceError("NotImplemented", status=400, elements={"Header": name})
    callback = callback_of(request)
    options = options_of(request)
    check_overwrite(exchange, options.forbid_overwrite)
    check_length(exchange)
    if len(body) > min(BODY_BYTES_MAX, bucket.backend.limits.max_put_size):
        raise ServiceError("InvalidArgument", "The object is too large for PutObject.")
    accepted = for_backend(options, bucket.backend.capabilities.options)
    stored = bucket.backend.put_object(exchange.key, body, accepted)
    info = object_info(exchange, stored, options, "Normal")
    bucket.remember_object(info)
    return stored_response(exchange, info, callback)


def get_object(exchange: Exchange) -> ServerResponse:
    info = existing_object(exchange)
    standard = exchange.request.header("x-oss-range-behavior") == "standard"
    requested = requested_range(exchange.request, info.stored.size, standard=standard)
    return send_object(exchange, info, _object_headers(exchange, info), requested)


def head_object(exchange: Exchange) -> ServerResponse:
    info = existing_object(exchange)
    return ServerResponse(200, _object_headers(exchange, info), length=info.stored.size)


def get_object_meta(exchange: Exchange) -> ServerResponse:
    info = existing_object(exchange)
    headers = (("ETag", quoted(info.etag)), ("Last-Modified", http_date(info.modified)))
    checksum = checksum_headers(exchange, info.stored.checksum)
    return ServerResponse(200, (*headers, *checksum), length=info.stored.size)


def get_object_acl(exchange: Exchange) -> ServerResponse:
    info = existing_object(exchange)
    body = document(
        "AccessControlPolicy",
        (
            ("Owner", (("ID", "0"), ("DisplayName", "0"))),
            ("AccessControlList", (("Grant", info.options.acl or "default"),)),
        ),
    )
    return ServerResponse(200, (("Content-Type", "application/xml"),), body)


# --- shared with multipart uploads -----------------------------------------------------------------------------------


def check_overwrite(exchange: Exchange, forbidden: bool) -> None:
    """Raise a FileAlreadyExists error if the request forbids overwriting an object."""
    if forbidden and exchange.bucket.backend.head_object(exchange.key) is not None:
        raise ServiceError("FileAlreadyExists", elements={"Key": exchange.key})


def object_info(exchange: Exchange, stored: StoredObject, options: ObjectOptions, object_type: str) -> ObjectInfo:
    """Return what the server remembers of the object that this request stored."""
    etag = stored.etag.strip('"')
    if object_type == "Normal":
        md5 = exchange.body.md5
        return ObjectInfo(stored, etag, options, object_type, exchange.now, md5)
    rename = exchange.settings.multipart_etag
    return ObjectInfo(stored, rename(etag) if rename else etag, options, object_type, exchange.now)


def stored_response(
    exchange: Exchange, info: ObjectInfo, callback: CallbackRequest | None, body: bytes = b""
) -> ServerResponse:
    """
    Deliver the callback, and return the response to a request that stored.

    Without a callback, `body` is its document.

    Raises:
        ServiceError: CallbackFailed. The object is stored.
    """
    crc64 = info.stored.checksum
    headers = [("ETag", quoted(info.etag)), *checksum_headers(exchange, crc64), *encryption_headers(info.options)]
    if info.content_md5 is not None:
        headers.append(("Content-MD5", info.content_md5))
    if callback is None:
        content_type = (("Content-Type", "application/xml"),) if body else ()
        return ServerResponse(200, (*content_type, *headers), body)
    values: dict[str, str | int] = {
        "bucket": exchange.bucket.name,
        "object": exchange.key,
        "etag": info.etag,
        "size": info.stored.size,
        "mimeType": info.options.content_type or "application/octet-stream",
        "crc64": "" if crc64 is None else str(crc64),
        "contentMd5": info.content_md5 or "",
        "reqId": exchange.request_id,
        "operation": exchange.operation,
    }
    try:
        content = callback.deliver(values)
    except CallbackFailed as error:
        raise ServiceError("CallbackFailed", f"Error status: {error}.", headers=tuple(headers)) from error
    return ServerResponse(200, (("Content-Type", "application/json"), *headers), content)


# --- reading ---------------------------------------------------------------------------------------------------------


def _object_headers(exchange: Exchange, info: ObjectInfo) -> tuple[tuple[str, str], ...]:
    md5 = () if info.content_md5 is None else (("Content-MD5", info.content_md5),)
    return (
        *object_headers(info.options),
        ("ETag", quoted(info.etag)),
        ("Last-Modified", http_date(info.modified)),
        ("Accept-Ranges", "bytes"),
        ("x-oss-object-type", info.object_type),
        *checksum_headers(exchange, info.stored.checksum),
        *md5,
    )
