"""The S3 protocol, as `Service` uses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from partwise.server.body import RequestBody
from partwise.server.errors import ServiceError
from partwise.server.exchange import Exchange
from partwise.server.messages import RequestTarget, ServerRequest, ServerResponse
from partwise.server.objects import delete_object
from partwise.server.s3 import errors, listings, multipart, objects
from partwise.server.s3.addressing import parse_target
from partwise.server.s3.options import check_owner
from partwise.server.s3.payload import default_checksum, prepare_body
from partwise.server.s3.routing import OPERATIONS
from partwise.server.s3.signatures import authenticate
from partwise.server.times import http_date

#: The function of each operation.
_HANDLERS: Mapping[str, Callable[[Exchange], ServerResponse]] = {
    "AbortMultipartUpload": multipart.abort_multipart_upload,
    "CompleteMultipartUpload": multipart.complete_multipart_upload,
    "CreateBucket": listings.create_bucket,
    "CreateMultipartUpload": multipart.create_multipart_upload,
    "DeleteObject": delete_object,
    "DeleteObjects": listings.delete_objects,
    "GetBucketLocation": listings.get_bucket_location,
    "GetBucketVersioning": listings.get_bucket_versioning,
    "GetObject": objects.get_object,
    "GetObjectAcl": objects.get_object_acl,
    "GetObjectLockConfiguration": listings.get_object_lock_configuration,
    "GetObjectTagging": objects.get_object_tagging,
    "HeadBucket": listings.head_bucket,
    "HeadObject": objects.head_object,
    "ListBuckets": listings.list_buckets,
    "ListMultipartUploads": multipart.list_multipart_uploads,
    "ListObjects": listings.list_objects,
    "ListObjectsV2": listings.list_objects_v2,
    "ListParts": multipart.list_parts,
    "PutObject": objects.put_object,
    "UploadPart": multipart.upload_part,
}


class S3Dialect:
    """Implements `ServerDialect` for Amazon S3."""

    operations = OPERATIONS.names
    secrets = frozenset(
        {
            *("authorization", "x-amz-security-token", "X-Amz-Security-Token", "X-Amz-Signature"),
            "x-amz-server-side-encryption-customer-key",
        }
    )

    parse_target = staticmethod(parse_target)
    operation_of = staticmethod(OPERATIONS.find)
    error_for = staticmethod(errors.error_for)

    def authenticate(self, exchange: Exchange) -> None:
        """Check the signature, and arrange that the body is decoded and verified."""
        request, body = exchange.request, exchange.body
        signed = authenticate(request, exchange.settings, exchange.now)
        key, seed = (None, "") if signed is None else (signed[1], signed[0].signature)
        stores = exchange.operation in ("PutObject", "UploadPart")
        # The checksum in a request that completes an upload is that of the object, and not of the request's body.
        payload = prepare_body(
            request,
            body,
            key,
            seed,
            default=default_checksum() if stores else None,
            of_body=exchange.operation != "CompleteMultipartUpload",
        )
        body.verify = partial(payload.verify, body)

    def perform(self, exchange: Exchange) -> ServerResponse:
        check_owner(exchange.request)
        return _HANDLERS[exchange.operation](exchange)

    def verify_body(self, request: ServerRequest, body: RequestBody) -> None:
        """Do nothing: `authenticate` arranges that the body is verified."""

    def error_response(
        self, error: ServiceError, request_id: str, target: RequestTarget, method: str
    ) -> ServerResponse:
        resource = "/".join(("", *(part for part in (target.bucket, target.key) if part)))
        return errors.error_response(error, request_id, resource or "/", is_head=method == "HEAD")

    def common_headers(self, request_id: str, now: float, seconds: float) -> tuple[tuple[str, str], ...]:  # noqa: ARG002  # of the protocol
        """Return the headers that every response has."""
        return (
            ("Server", "AmazonS3"),
            ("Date", http_date(now)),
            ("x-amz-request-id", request_id),
            ("x-amz-id-2", errors.host_id(request_id)),
        )
