"""The operations that OSS has, and the sub-resources that select them."""

from __future__ import annotations

from partwise.server.operations import OperationTable
from partwise.server.oss.signatures import SUBRESOURCES

# The sub-resources that accompany an operation. All others select one.
_ACCOMPANYING = frozenset({"callback", "callback-var", "cname", "continuation-token", "security-token", "sequential"})
_SELECTORS = frozenset(
    {name for name in SUBRESOURCES - _ACCOMPANYING if not name.startswith("response-")} | {"x-oss-process"}
)

_SERVICE = {("GET", ""): "ListBuckets"}

_BUCKET = {
    ("GET", ""): "ListObjects",
    ("GET", "uploads"): "ListMultipartUploads",
    ("GET", "bucketInfo"): "GetBucketInfo",
    ("GET", "location"): "GetBucketLocation",
    ("GET", "acl"): "GetBucketAcl",
    ("PUT", ""): "PutBucket",
}

_OBJECT = {
    ("POST", "uploads"): "InitiateMultipartUpload",
    ("PUT", "partNumber uploadId"): "UploadPart",
    # A request with one of the two is a wrong UploadPart request; that operation reports which one is missing.
    ("PUT", "uploadId"): "UploadPart",
    ("PUT", "partNumber"): "UploadPart",
    ("GET", "uploadId"): "ListParts",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("PUT", ""): "PutObject",
    ("GET", ""): "GetObject",
    ("GET", "acl"): "GetObjectAcl",
    ("HEAD", ""): "HeadObject",
    ("HEAD", "objectMeta"): "GetObjectMeta",
    ("DELETE", ""): "DeleteObject",
}

OPERATIONS = OperationTable(_SELECTORS, "x-oss-copy-source", _SERVICE, _BUCKET, _OBJECT)
