"""The operations on buckets and on the service that upload clients use."""

from __future__ import annotations

from partwise.server import listings
from partwise.server.buckets import Bucket, ObjectInfo
from partwise.server.exchange import Exchange
from partwise.server.messages import ServerResponse
from partwise.server.oss.options import ACCEPTED_LIMITS, quote_key
from partwise.server.times import xml_time
from partwise.server.xml import Node, document

_XML = (("Content-Type", "application/xml"),)
_OWNER: Node = ("Owner", (("ID", "0"), ("DisplayName", "0")))


def _describe(info: ObjectInfo) -> tuple[Node, ...]:
    return (
        ("Type", info.object_type),
        ("Size", str(info.stored.size)),
        ("StorageClass", info.options.storage_class or "Standard"),
        _OWNER,
    )


_LISTS = listings.ObjectLists(
    describe=_describe,
    quote=quote_key,
    page_size=100,
    accepted=ACCEPTED_LIMITS,
    marker_needs_delimiter=False,
    bad_continuation="The specified continuation-token is invalid.",
)


def list_objects(exchange: Exchange) -> ServerResponse:
    return listings.list_objects(exchange, _LISTS)


def list_objects_v2(exchange: Exchange) -> ServerResponse:
    return listings.list_objects_v2(exchange, _LISTS)


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
