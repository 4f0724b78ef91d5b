"""The operations on buckets and on the service that upload clients use."""

from __future__ import annotations

import base64
from xml.etree import ElementTree as ET

from attrs import define

from partwise.server.errors import ServiceError, bad_argument
from partwise.server.exchange import Exchange
from partwise.server.messages import ServerResponse
from partwise.server.paging import limit_of, page_of
from partwise.server.reading import quoted
from partwise.server.s3.options import OWNER
from partwise.server.xml import Node, boolean, document, encoding_node, key_encoder, xml_time

_XML = (("Content-Type", "application/xml"),)
_OWNER: Node = ("Owner", (("ID", OWNER),))
_DELETED_MAX = 1000


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
    # As on S3, only with a delimiter: other clients continue after the last key.
    named = listing.truncated and bool(exchange.request.param("delimiter"))
    following = (("NextMarker", encode(listing.last)),) if named else ()
    body = document("ListBucketResult", (*listing.common, ("Marker", encode(marker)), *following, *listing.entries))
    return ServerResponse(200, _XML, body)


def list_objects_v2(exchange: Exchange) -> ServerResponse:
    request = exchange.request
    start_after, token = request.param("start-after") or "", request.param("continuation-token") or ""
    encode = key_encoder(request)
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


def head_bucket(exchange: Exchange) -> ServerResponse:
    exchange.bucket  # noqa: B018 -- raises if it does not exist
    return ServerResponse(200, (("x-amz-bucket-region", exchange.settings.region),), length=0)


def get_bucket_location(exchange: Exchange) -> ServerResponse:
    exchange.bucket  # noqa: B018 -- raises if it does not exist
    region = exchange.settings.region
    return ServerResponse(200, _XML, document("LocationConstraint", "" if region == "us-east-1" else region))


def get_bucket_versioning(exchange: Exchange) -> ServerResponse:
    exchange.bucket  # noqa: B018 -- raises if it does not exist
    return ServerResponse(200, _XML, document("VersioningConfiguration", ()))


def get_object_lock_configuration(exchange: Exchange) -> ServerResponse:
    exchange.bucket  # noqa: B018 -- raises if it does not exist
    if not exchange.settings.require_digests:
        raise ServiceError("ObjectLockConfigurationNotFoundError")
    return ServerResponse(200, _XML, document("ObjectLockConfiguration", (("ObjectLockEnabled", "Enabled"),)))


def create_bucket(exchange: Exchange) -> ServerResponse:
    exchange.body.document()
    name = exchange.target.bucket or ""
    if exchange.buckets.find(name) is not None:
        raise ServiceError("BucketAlreadyOwnedByYou", elements={"BucketName": name})
    return ServerResponse(200, (("Location", f"/{exchange.buckets.create(name).name}"),))


def list_buckets(exchange: Exchange) -> ServerResponse:
    found = (exchange.buckets.find(name) for name in exchange.buckets.names())
    nodes = tuple(
        ("Bucket", (("Name", bucket.name), ("CreationDate", xml_time(bucket.created))))
        for bucket in found
        if bucket is not None
    )
    return ServerResponse(200, _XML, document("ListAllMyBucketsResult", (_OWNER, ("Buckets", nodes))))


def delete_objects(exchange: Exchange) -> ServerResponse:
    keys = _keys_to_delete(exchange.body.document())
    bucket = exchange.bucket
    for key in keys:
        bucket.access.delete_object(key)
        bucket.objects.drop(key)
    return ServerResponse(200, _XML, document("DeleteResult", tuple(("Deleted", (("Key", key),)) for key in keys)))


def _keys_to_delete(body: bytes) -> list[str]:
    if b"<!DOCTYPE" in body.upper():  # nested entities can expand until memory is exhausted
        raise ServiceError("MalformedXML", "A document type declaration is not allowed.")
    try:
        root = ET.fromstring(body)  # noqa: S314 -- it declares no entities, and its size is bounded
    except (ET.ParseError, ValueError, LookupError):
        raise ServiceError("MalformedXML") from None
    keys = [element.text or "" for element in root.iter() if element.tag.rpartition("}")[2] == "Key"]
    if not 0 < len(keys) <= _DELETED_MAX:
        raise ServiceError("MalformedXML")
    return keys


def _listing(exchange: Exchange, marker: str) -> _Listing:
    request, bucket = exchange.request, exchange.bucket
    prefix, delimiter = request.param("prefix") or "", request.param("delimiter") or ""
    limit = limit_of(request, "max-keys", 1000, exchange.settings.page_limit)
    encode = key_encoder(request)
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
        *(
            (
                "Contents",
                (
                    ("Key", encode(info.stored.key)),
                    ("LastModified", xml_time(info.modified)),
                    ("ETag", quoted(info.etag)),
                    ("Size", str(info.stored.size)),
                    ("StorageClass", info.options.storage_class or "STANDARD"),
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
        raise bad_argument("continuation-token", token, "The continuation token provided is incorrect") from None
