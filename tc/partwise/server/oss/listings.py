"""The operations on buckets and on the service that upload clients use."""

from __future__ import annotations

import base64

from attrs import define

from partwise.server.buckets import Bucket
from partwise.server.errors import bad_argument
from partwise.server.exchange import Exchange
from partwise.server.messages import ServerResponse
from partwise.server.paging import limit_of, page_of
from partwise.server.reading import quoted
from partwise.server.xml import Node, boolean, document, encoding_node, key_encoder, xml_time

_XML = (("Content-Type", "application/xml"),)
_OWNER: Node = ("Owner", (("ID", "0"), ("DisplayName", "0")))


@define(frozen=True)
class _Listing:
    """A page of objects, with the elements that both versions of the operation have."""

    truncated: bool
    last: str
    count: int
    common: tuple[Node, ...]
    entries: tuple[Node, ...]


def list_objects(exchange: Exchange) -> ServerResponse:
    marker = exchange.request.param("marker") or ""
    encode = key_encoder(exchange.request)
    listing = _listing(exchange, marker)
    following = (("NextMarker", encode(listing.last)),) if listing.truncated else ()
    body = document("ListBucketResult", (*listing.common, ("Marker", encode(marker)), *following, *listing.entries))
    return ServerResponse(200, _XML, body)


def list_objects_v2(exchange: Exchange) -> ServerResponse:
    request = exchange.request
    start_after, token = request.param("start-after") or "", request.param("continuation-token") or ""
    encode = key_encoder(exchange.request)
    listing = _listing(exchange, _key_of_token(token) or start_after)
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


def get_bucket_info(exchange: Exchange) -> ServerResponse:
    bucket = exchange.bucket
    children = (*_bucket_nodes(exchange, bucket), ("AccessControlList", (("Grant", "private"),)), _OWNER)
    return ServerResponse(200, _XML, document("BucketInfo", (("Bucket", children),)))


def get_bucket_location(exchange: Exchange) -> ServerResponse:
    exchange.bucket  # noqa: B018 -- raises if it does not exist
    return ServerResponse(200, _XML, document("LocationConstraint", f"oss-{exchange.settings.region}"))


def get_bucket_acl(exchange: Exchange) -> ServerResponse:
    exchange.bucket  # noqa: B018 -- raises if it does not exist
    children = (_OWNER, ("AccessControlList", (("Grant", "private"),)))
    return ServerResponse(200, _XML, document("AccessControlPolicy", children))


def put_bucket(exchange: Exchange) -> ServerResponse:
    exchange.body.document()
    bucket = exchange.buckets.create(exchange.target.bucket or "")
    return ServerResponse(200, (("Location", f"/{bucket.name}"),))


def list_buckets(exchange: Exchange) -> ServerResponse:
    found = (exchange.buckets.find(name) for name in exchange.buckets.names())
    nodes = tuple(("Bucket", _bucket_nodes(exchange, bucket)) for bucket in found if bucket is not None)
    return ServerResponse(200, _XML, document("ListAllMyBucketsResult", (_OWNER, ("Buckets", nodes))))


def _bucket_nodes(exchange: Exchange, bucket: Bucket) -> tuple[Node, ...]:
    host, region = exchange.request.header("host") or "", exchange.settings.region
    return (
        ("CreationDate", xml_time(bucket.created)),
        ("ExtranetEndpoint", host),
        ("IntranetEndpoint", host),
        ("Location", f"oss-{region}"),
        ("Name", bucket.name),
        ("Region", region),
        ("StorageClass", "Standard"),
    )


def _listing(exchange: Exchange, marker: str) -> _Listing:
    request, bucket = exchange.request, exchange.bucket
    prefix, delimiter = request.param("prefix") or "", request.param("delimiter") or ""
    limit = limit_of(request, "max-keys", 100, exchange.settings.page_limit)
    encode = key_encoder(exchange.request)
    keys = sorted(key for key in bucket.access.list_objects(prefix) if key > marker)
    page = page_of(keys, str, prefix=prefix, delimiter=delimiter, marker=marker, limit=limit)
    # An object may have been deleted since the keys were listed.
    objects = tuple(info for info in map(bucket.object, page.entries) if info is not None)
    common = (
        ("Name", bucket.name),
        ("Prefix", encode(prefix)),
        ("MaxKeys", str(limit)),
        ("Delimiter", encode(delimiter)),
        *encoding_node(exchange.request),
        ("IsTruncated", boolean(value=page.truncated)),
    )
    entries: tuple[Node, ...] = (
        *(
            (
                "Contents",
                (
                    ("Key", encode(info.stored.key)),
                    ("LastModified", xml_time(info.modified)),
                    ("ETag", quoted(info.etag)),
                    ("Type", info.object_type),
                    ("Size", str(info.stored.size)),
                    ("StorageClass", info.options.storage_class or "Standard"),
                    _OWNER,
                ),
            )
            for info in objects
        ),
        *(("CommonPrefixes", (("Prefix", encode(prefix)),)) for prefix in page.prefixes),
    )
    return _Listing(page.truncated, page.last or "", len(objects) + len(page.prefixes), common, entries)


def _token_of_key(key: str) -> str:
    # Encoded, so that a client fails if it uses a token as a key.
    return base64.urlsafe_b64encode(key.encode()).decode()


def _key_of_token(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except ValueError:
        raise bad_argument("continuation-token", token, "The specified continuation-token is invalid.") from None
