"""Conditions and ranges of requests that read an object, by RFC 9110."""

from __future__ import annotations

import re

from partwise.http_errors import parse_http_date
from partwise.server.buckets import ObjectInfo
from partwise.server.errors import ServiceError
from partwise.server.exchange import Exchange
from partwise.server.messages import ServerRequest

#: The headers with conditions, in the order of `existing_object`.
CONDITIONS = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")

_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")


def quoted(etag: str) -> str:
    """Return an ETag in quotes, whether or not the backend quotes its ETags."""
    return '"' + etag.strip('"') + '"'


def existing_object(exchange: Exchange) -> ObjectInfo:
    """
    Return the object, if it meets the conditions of the request.

    Raises:
        ServiceError: NoSuchKey, PreconditionFailed or NotModified.
    """
    info = exchange.bucket.object(exchange.key)
    if info is None:
        raise ServiceError("NoSuchKey", elements={"Key": exchange.key})
    match, none_match, modified_since, unmodified_since = map(exchange.request.header, CONDITIONS)
    if match is not None and not lists_etag(match, info.etag):
        raise ServiceError("PreconditionFailed", elements={"Condition": "If-Match"})
    # Of a condition on the ETag and one on the time, the one on the ETag decides alone. A time that is not a date is
    # ignored.
    latest = None if unmodified_since is None else parse_http_date(unmodified_since)
    if match is None and latest is not None and int(info.modified) > latest:
        raise ServiceError("PreconditionFailed", elements={"Condition": "If-Unmodified-Since"})
    known = None if modified_since is None else parse_http_date(modified_since)
    unchanged = known is not None and int(info.modified) <= known
    if (none_match is not None and lists_etag(none_match, info.etag)) or (none_match is None and unchanged):
        raise ServiceError("NotModified", headers=(("ETag", quoted(info.etag)),))
    return info


def lists_etag(condition: str, etag: str) -> bool:
    """Return whether a list of ETags has this one, or stands for any."""
    return condition.strip() == "*" or etag in (text.strip().strip('"') for text in condition.split(","))


def requested_range(request: ServerRequest, size: int, *, standard: bool) -> range | None:
    """
    Return the requested range of an object; None for the whole object.

    Args:
        request: the request.
        size: the size of the object in bytes.
        standard: refuse a range that begins after the object, and cut one that ends after it, as HTTP says; otherwise
            such a range is ignored.

    Raises:
        ServiceError: InvalidRange.
    """
    header = request.header("range")
    if header is None:
        return None
    match = _RANGE.fullmatch(header)
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if first and last and int(last) < int(first):
        return None  # not a range, and thus ignored
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), int(last) + 1 if last else size
    if standard:
        stop = min(stop, size)
    if start < stop <= size:
        return range(start, stop)
    if standard:
        raise ServiceError("InvalidRange", headers=(("Content-Range", f"bytes */{size}"),))
    return None
