"""The function of each operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from partwise.server.exchange import Exchange
from partwise.server.messages import ServerResponse
from partwise.server.oss import listings, multipart, objects

HANDLERS: Mapping[str, Callable[[Exchange], ServerResponse]] = {
    "AbortMultipartUpload": multipart.abort_multipart_upload,
    "CompleteMultipartUpload": multipart.complete_multipart_upload,
    "DeleteObject": objects.delete_object,
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
