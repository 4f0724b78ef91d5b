"""The operations that S3 has, and the sub-resources that select them."""

from __future__ import annotations

from partwise.server.operations import OperationTable

_SUBRESOURCE_NAMES = """
    accelerate acl analytics attributes cors delete encryption intelligent-tiering inventory legal-hold lifecycle
    location logging metrics notification object-lock ownershipControls partNumber policy policyStatus
    publicAccessBlock renameObject replication requestPayment restore retention select session tagging torrent uploadId
    uploads versionId versioning versions website
"""
_SUBRESOURCES = frozenset(_SUBRESOURCE_NAMES.split())

_SERVICE = {("GET", ""): "ListBuckets"}

_BUCKET = {
    ("GET", ""): "ListObjects",
    ("HEAD", ""): "HeadBucket",
    ("PUT", ""): "CreateBucket",
    ("POST", "delete"): "DeleteObjects",
    ("GET", "uploads"): "ListMultipartUploads",
    ("GET", "location"): "GetBucketLocation",
    ("GET", "versioning"): "GetBucketVersioning",
    ("GET", "object-lock"): "GetObjectLockConfiguration",
}

_OBJECT = {
    ("POST", "uploads"): "CreateMultipartUpload",
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
    ("GET", "tagging"): "GetObjectTagging",
    ("HEAD", ""): "HeadObject",
    ("DELETE", ""): "DeleteObject",
}

OPERATIONS = OperationTable(_SUBRESOURCES, "x-amz-copy-source", _SERVICE, _BUCKET, _OBJECT)
