"""The operations of whole objects."""

from __future__ import annotations

import base64
import re
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime

from partwise.model import ObjectOptions, StoredObject
from partwise.server.body import BODY_BYTES_MAX
from partwise.server.exchange import Exchange
from partwise.server.messages import FileSlice, ServerResponse
from partwise.server.oss.buckets import ObjectRecord
from partwise.server.oss.callbacks import CallbackFailed, CallbackRequest, callback_of
from partwise.server.oss.errors import OSSError, bad_argument
from partwise.server.oss.options import encryption_headers, for_backend, object_headers, options_of
from partwise.server.oss.xml import document

_CONDITIONS = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
_OVERRIDES = (
    ("response-content-type", "Content-Type"),
    ("response-content-language", "Content-Language"),
    ("response-expires", "Expires"),
    ("response-cache-control", "Cache-Control"),
    ("response-content-disposition", "Content-Disposition"),
    ("response-content-encoding", "Content-Encoding"),
)
_NOT_A_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|^\s|\s$")
_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")


def put_object(exchange: Exchange) -> ServerResponse:
    """PutObject."""
    request, body, bucket = exchange.request, exchange.body, exchange.bucket
    for name in _CONDITIONS:
        if request.header(name) is not None:
            raise OSSError("NotImplemented", status=400, elements={"Header": name})
    callback = callback_of(request)
    options = options_of(request)
    check_overwrite(exchange, options.forbid_overwrite)
    check_length(exchange)
    if len(body) > min(BODY_BYTES_MAX, bucket.backend.limits.max_put_size):
        raise OSSError("InvalidArgument", "The object is too large to be stored at once.")
    asked = for_backend(options, bucket.backend.capabilities.options)
    stored = bucket.backend.put_object(exchange.key, body, asked)
    record = record_of(exchange, stored, options, "Normal")
    bucket.remember_object(record)
    return stored_response(exchange, record, callback)


def get_object(exchange: Exchange) -> ServerResponse:
    """GetObject."""
    record = _standing(exchange)
    headers = dict(_described(exchange, record))
    for name, header in _OVERRIDES:
        override = exchange.request.param(name)
        if override is not None:
            if _NOT_A_HEADER.search(override):
                raise bad_argument(name, override, "It can't stand in a header.")
            headers[header] = override
    size = record.stored.size
    chosen = _chosen_range(exchange, size)
    try:
        file = exchange.bucket.access.open_object(exchange.key)
    except KeyError:
        raise OSSError("NoSuchKey", elements={"Key": exchange.key}) from None
    if chosen is None:
        return ServerResponse(200, tuple(headers.items()), FileSlice(file, 0, size))
    headers["Content-Range"] = f"bytes {chosen.start}-{chosen.stop - 1}/{size}"
    return ServerResponse(206, tuple(headers.items()), FileSlice(file, chosen.start, len(chosen)))


def head_object(exchange: Exchange) -> ServerResponse:
    """HeadObject."""
    record = _standing(exchange)
    return ServerResponse(200, _described(exchange, record), length=record.stored.size)


def get_object_meta(exchange: Exchange) -> ServerResponse:
    """GetObjectMeta."""
    record = _standing(exchange)
    headers = (("ETag", quoted(record.etag)), ("Last-Modified", http_date(record.modified)))
    checksum = exchange.checksum_headers(record.stored.crc64)
    return ServerResponse(200, (*headers, *checksum), length=record.stored.size)


def delete_object(exchange: Exchange) -> ServerResponse:
    """DeleteObject."""
    exchange.body.document()
    exchange.bucket.access.delete_object(exchange.key)
    exchange.bucket.forget_object(exchange.key)
    return ServerResponse(204)


def get_object_acl(exchange: Exchange) -> ServerResponse:
    """GetObjectAcl."""
    record = _standing(exchange)
    body = document(
        "AccessControlPolicy",
        (
            ("Owner", (("ID", "0"), ("DisplayName", "0"))),
            ("AccessControlList", (("Grant", record.options.acl or "default"),)),
        ),
    )
    return ServerResponse(200, (("Content-Type", "application/xml"),), body)


# --- shared with multipart uploads -----------------------------------------------------------------------------------


def quoted(etag: str) -> str:
    """An ETag as headers and documents have it, whether or not the backend quotes its own."""
    return '"' + etag.strip('"') + '"'


def http_date(seconds: float) -> str:
    """Seconds since 1970 as headers have them."""
    return formatdate(seconds, usegmt=True)


def check_overwrite(exchange: Exchange, forbidden: bool) -> None:
    """
    Refuse to write where an object stands, if that was asked for.

    Raises:
        OSSError: FileAlreadyExists.
    """
    if forbidden and exchange.bucket.backend.head_object(exchange.key) is not None:
        raise OSSError("FileAlreadyExists", elements={"Key": exchange.key})


def check_length(exchange: Exchange) -> None:
    """
    Refuse a body whose end nothing tells.

    Raises:
        OSSError: MissingContentLength.
    """
    request = exchange.request
    if request.header("content-length") is None and request.header("transfer-encoding") is None:
        raise OSSError("MissingContentLength")


def record_of(exchange: Exchange, stored: StoredObject, options: ObjectOptions, object_type: str) -> ObjectRecord:
    """What is kept of an object that was stored by this request."""
    etag = stored.etag.strip('"')
    if object_type == "Normal":
        md5 = base64.b64encode(exchange.body.md5).decode()
        return ObjectRecord(stored, etag, options, object_type, exchange.now, md5)
    rename = exchange.settings.multipart_etag
    return ObjectRecord(stored, rename(etag) if rename else etag, options, object_type, exchange.now)


def stored_response(
    exchange: Exchange, record: ObjectRecord, callback: CallbackRequest | None, body: bytes = b""
) -> ServerResponse:
    """
    The response to a request that made an object.

    Args:
        exchange: the request.
        record: what was made.
        callback: whom to tell first, if anybody.
        body: the document to answer with where nobody is told.

    Raises:
        OSSError: CallbackFailed. The object is stored.
    """
    crc64 = record.stored.crc64
    headers = [("ETag", quoted(record.etag)), *exchange.checksum_headers(crc64), *encryption_headers(record.options)]
    if record.content_md5 is not None:
        headers.append(("Content-MD5", record.content_md5))
    if callback is None:
        content_type = (("Content-Type", "application/xml"),) if body else ()
        return ServerResponse(200, (*content_type, *headers), body)
    values: dict[str, str | int] = {
        "bucket": exchange.bucket.name,
        "object": exchange.key,
        "etag": record.etag,
        "size": record.stored.size,
        "mimeType": record.options.content_type or "application/octet-stream",
        "crc64": "" if crc64 is None else str(crc64),
        "contentMd5": record.content_md5 or "",
        "reqId": exchange.request_id,
        "operation": exchange.operation,
    }
    try:
        content = callback.deliver(values)
    except CallbackFailed as error:
        raise OSSError("CallbackFailed", f"Error status: {error}.", headers=tuple(headers)) from error
    return ServerResponse(200, (("Content-Type", "application/json"), *headers), content)


# --- reading ---------------------------------------------------------------------------------------------------------


def _standing(exchange: Exchange) -> ObjectRecord:
    """The object, if the conditions of the request hold for it."""
    record = exchange.bucket.object(exchange.key)
    if record is None:
        raise OSSError("NoSuchKey", elements={"Key": exchange.key})
    match, none_match, since, unless_since = map(exchange.request.header, _CONDITIONS)
    if match is not None and not _names(match, record.etag):
        raise OSSError("PreconditionFailed", elements={"Condition": "If-Match"})
    if unless_since is not None and int(record.modified) > _seconds(unless_since):
        raise OSSError("PreconditionFailed", elements={"Condition": "If-Unmodified-Since"})
    unchanged = since is not None and int(record.modified) <= _seconds(since)
    if (none_match is not None and _names(none_match, record.etag)) or (none_match is None and unchanged):
        raise OSSError("NotModified", headers=(("ETag", quoted(record.etag)),))
    return record


def _names(condition: str, etag: str) -> bool:
    return condition.strip() == "*" or etag in (text.strip().strip('"') for text in condition.split(","))


def _seconds(date: str) -> float:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        raise OSSError("InvalidArgument", f"{date!r} is no date.") from None
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def _described(exchange: Exchange, record: ObjectRecord) -> tuple[tuple[str, str], ...]:
    md5 = () if record.content_md5 is None else (("Content-MD5", record.content_md5),)
    return (
        *object_headers(record.options),
        ("ETag", quoted(record.etag)),
        ("Last-Modified", http_date(record.modified)),
        ("Accept-Ranges", "bytes"),
        ("x-oss-object-type", record.object_type),
        *exchange.checksum_headers(record.stored.crc64),
        *md5,
    )


def _chosen_range(exchange: Exchange, size: int) -> range | None:
    """
    The bytes that the request wants; None for all of them.

    A range that does not lie within the object is taken for none, unless the request asks for what HTTP says of it.
    """
    header = exchange.request.header("range")
    if header is None:
        return None
    standard = exchange.request.header("x-oss-range-behavior") == "standard"
    match = _RANGE.fullmatch(header)
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), int(last) + 1 if last else size
    if standard:
        stop = min(stop, size)
    if start < stop <= size:
        return range(start, stop)
    if standard:
        raise OSSError("InvalidRange", headers=(("Content-Range", f"bytes */{size}"),))
    return None
