"""The OSS protocol, as `Service` uses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from partwise.checksums import MD5
from partwise.server.body import RequestBody
from partwise.server.errors import ServiceError
from partwise.server.exchange import Exchange
from partwise.server.messages import RequestTarget, ServerRequest, ServerResponse
from partwise.server.objects import delete_object
from partwise.server.oss import errors, listings, multipart, objects
from partwise.server.oss.addressing import parse_target
from partwise.server.oss.headers import CHECKSUM
from partwise.server.oss.routing import OPERATIONS
from partwise.server.oss.signatures import authenticate
from partwise.server.times import http_date

#: The function of each operation.
_HANDLERS: Mapping[str, Callable[[Exchange], ServerResponse]] = {
    "AbortMultipartUpload": multipart.abort_multipart_upload,
    "CompleteMultipartUpload": multipart.complete_multipart_upload,
    "DeleteObject": delete_object,
    "GetBucketAcl": listings.get_bucket_acl,
    "GetBucketInfo": listings.get_bucket_info,
    "GetBucketLocation": listings.get_bucket_location,
    "GetObject": objects.get_object,
    "GetObjectAcl": objects.get_object_acl,
    "GetObjectMeta": objects.get_object_meta,
    "HeadObject": objects.head_object,
    "InitiateMultipartUpload": multipart.initiate_multipart_upload,
    "ListBuckets": listings.list_buckets,
    "ListMultipartUploads": multipart.list_multipart_uploads,
    "ListObjects": listings.list_objects,
    "ListObjectsV2": listings.list_objects_v2,
    "ListParts": multipart.list_parts,
    "PutBucket": listings.put_bucket,
    "PutObject": objects.put_object,
    "UploadPart": multipart.upload_part,
}


class OSSDialect:
    """Implements `ServerDialect` for Alibaba Cloud OSS."""

    operations = OPERATIONS.names
    secrets = frozenset({"authorization", "Signature", "security-token", "x-oss-security-token", "x-oss-signature"})

    parse_target = staticmethod(parse_target)
    operation_of = staticmethod(OPERATIONS.find)
    error_for = staticmethod(errors.error_for)

    def authenticate(self, exchange: Exchange) -> None:
        """
        Check the signature, and arrange that the MD5 of the body is computed.

        Responses report it.
        """
        exchange.body.track(MD5)
        authenticate(exchange.request, exchange.target, exchange.settings, exchange.now)

    def perform(self, exchange: Exchange) -> ServerResponse:
        return _HANDLERS[exchange.operation](exchange)

    def verify_body(self, request: ServerRequest, body: RequestBody) -> None:
        """Compare the body with the Content-MD5 and the CRC-64 in the headers."""
        md5, crc64 = request.header("content-md5"), request.header(CHECKSUM)
        if md5 is not None and md5 != body.md5:
            raise ServiceError("InvalidDigest")
        if crc64 is not None and crc64 != str(body.checksum):
            raise ServiceError("InvalidCRC64")

    def error_response(
        self, error: ServiceError, request_id: str, target: RequestTarget, method: str
    ) -> ServerResponse:
        return errors.error_response(error, request_id, target.host, is_head=method == "HEAD")

    def common_headers(self, request_id: str, now: float, seconds: float) -> tuple[tuple[str, str], ...]:
        """Return the headers that every response has."""
        return (
            ("Server", "AliyunOSS"),
            ("Date", http_date(now)),
            ("x-oss-request-id", request_id),
            ("x-oss-server-time", str(round(seconds * 1000))),
        )
