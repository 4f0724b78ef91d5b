"""The operations on buckets and on the service that upload clients use."""

from __future__ import annotations

from partwise.errors import PartwiseError
from partwise.server import listings
from partwise.server.buckets import ObjectInfo
from partwise.server.errors import ServiceError
from partwise.server.exchange import Exchange
from partwise.server.messages import ServerResponse
from partwise.server.s3.errors import error_for, message_of
from partwise.server.s3.options import ACCEPTED_LIMITS, OWNER, quote_key
from partwise.server.times import xml_time
from partwise.server.xml import Node, document, parse_deletion

_XML = (("Content-Type", "application/xml"),)
_OWNER: Node = ("Owner", (("ID", OWNER),))
_DELETED_MAX = 1000


def _describe(info: ObjectInfo) -> tuple[Node, ...]:
    return (
        ("Size", str(info.stored.size)),
        ("StorageClass", info.options.storage_class or "STANDARD"),
    )


_LISTS = listings.ObjectLists(
    describe=_describe,
    quote=quote_key,
    page_size=1000,
    accepted=ACCEPTED_LIMITS,
    marker_needs_delimiter=True,  # other clients continue after the last key
    bad_continuation="The continuation token provided is incorrect",
)


def list_objects(exchange: Exchange) -> ServerResponse:
    return listings.list_objects(exchange, _LISTS)


def list_objects_v2(exchange: Exchange) -> ServerResponse:
    return listings.list_objects_v2(exchange, _LISTS)


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
    """
    Delete the objects that a document lists.

    One that can't be deleted is reported in the response, and does not keep the others.
    """
    keys, quiet = parse_deletion(exchange.body.document())
    if len(keys) > _DELETED_MAX:
        raise ServiceError("MalformedXML")
    bucket = exchange.bucket
    nodes: list[Node] = []
    for key in keys:
        try:
            bucket.access.delete_object(key)
        except PartwiseError as error:
            nodes.append(_failed_deletion(key, error_for(error)))
        except PermissionError:
            nodes.append(_failed_deletion(key, ServiceError("AccessDenied")))
        else:
            bucket.objects.drop(key)
            if not quiet:
                nodes.append(("Deleted", (("Key", key),)))
    return ServerResponse(200, _XML, document("DeleteResult", nodes))


def _failed_deletion(key: str, error: ServiceError) -> Node:
    return ("Error", (("Key", key), ("Code", error.code), ("Message", message_of(error))))
