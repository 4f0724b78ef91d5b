"""The two operations that list objects, whatever the dialect."""

from __future__ import annotations

import base64
from collections.abc import Callable

from attrs import define

from partwise.server.buckets import ObjectInfo
from partwise.server.errors import bad_argument
from partwise.server.exchange import Exchange
from partwise.server.messages import ServerResponse
from partwise.server.paging import limit_of, page_of
from partwise.server.reading import quoted
from partwise.server.times import xml_time
from partwise.server.xml import Node, boolean, document, encoding_node, key_encoder

_XML = (("Content-Type", "application/xml"),)


@define(frozen=True)
class ObjectLists:
    """What a dialect has to say about lists of objects."""

    describe: Callable[[ObjectInfo], tuple[Node, ...]]  # the elements of an object after its key, time and ETag
    quote: Callable[[str], str]  # encodes a key as in a URL
    page_size: int  # the objects on a page, unless the request says it
    accepted: range  # the numbers of objects that a request may ask for; a page has at most 1000
    marker_needs_delimiter: bool  # whether version 1 names the next marker in lists with a delimiter only
    bad_continuation: str  # the message that refuses a continuation token


@define(frozen=True)
class _Listing:
    """A page of objects, with the elements that both versions of the operation have."""

    truncated: bool
    last: str
    count: int
    common: tuple[Node, ...]
    entries: tuple[Node, ...]


def list_objects(exchange: Exchange, lists: ObjectLists) -> ServerResponse:
    """Return a page of objects, by version 1 of the operation."""
    request = exchange.request
    marker = request.param("marker") or ""
    encode = key_encoder(request, lists.quote)
    listing = _listing(exchange, lists, marker)
    named = listing.truncated and (bool(request.param("delimiter")) or not lists.marker_needs_delimiter)
    following = (("NextMarker", encode(listing.last)),) if named else ()
    body = document("ListBucketResult", (*listing.common, ("Marker", encode(marker)), *following, *listing.entries))
    return ServerResponse(200, _XML, body)


def list_objects_v2(exchange: Exchange, lists: ObjectLists) -> ServerResponse:
    """Return a page of objects, by version 2 of the operation."""
    request = exchange.request
    start_after, token = request.param("start-after") or "", request.param("continuation-token") or ""
    encode = key_encoder(request, lists.quote)
    listing = _listing(exchange, lists, _key_of_token(token, lists) or start_after)
    following = (("NextContinuationToken", _token_of_key(listing.last)),) if listing.truncated else ()
    body = document(
        "ListBucketResult",
        (
            *listing.common,
            ("StartAfter", encode(start_after)),
            ("ContinuationToken", token),
            *following,
            ("KeyCount", str(listing.count)),
            *listing.entries,
        ),
    )
    return ServerResponse(200, _XML, body)


def _listing(exchange: Exchange, lists: ObjectLists, marker: str) -> _Listing:
    request, bucket = exchange.request, exchange.bucket
    prefix, delimiter = request.param("prefix") or "", request.param("delimiter") or ""
    limit = limit_of(request, "max-keys", lists.page_size, exchange.settings.page_limit, lists.accepted)
    encode = key_encoder(request, lists.quote)
    keys = sorted(key for key in bucket.access.list_objects(prefix) if key > marker)
    page = page_of(keys, str, prefix=prefix, delimiter=delimiter, marker=marker, limit=limit)
    # An object may have been deleted since the keys were listed.
    objects = tuple(info for info in map(bucket.object, page.entries) if info is not None)
    common = (
        ("Name", bucket.name),
        ("Prefix", encode(prefix)),
        ("MaxKeys", str(limit)),
        ("Delimiter", encode(delimiter)),
        *encoding_node(request),
        ("IsTruncated", boolean(value=page.truncated)),
    )
    entries: tuple[Node, ...] = (
        *(("Contents", _object_node(info, encode(info.stored.key), lists)) for info in objects),
        *(("CommonPrefixes", (("Prefix", encode(common_prefix)),)) for common_prefix in page.prefixes),
    )
    return _Listing(page.truncated, page.last or "", len(objects) + len(page.prefixes), common, entries)


def _object_node(info: ObjectInfo, key: str, lists: ObjectLists) -> tuple[Node, ...]:
    return (
        ("Key", key),
        ("LastModified", xml_time(info.modified)),
        ("ETag", quoted(info.etag)),
        *lists.describe(info),
    )


def _token_of_key(key: str) -> str:
    # Encoded, so that a client fails if it uses a token as a key.
    return base64.urlsafe_b64encode(key.encode()).decode()


def _key_of_token(token: str, lists: ObjectLists) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except ValueError:
        raise bad_argument("continuation-token", token, lists.bad_continuation) from None
