"""
The operation of a request.

A server that ignored unknown sub-resources would store a policy document as an object, so everything unknown is
refused.
"""

from __future__ import annotations

from partwise.server.errors import ServiceError
from partwise.server.messages import RequestTarget, ServerRequest

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

#: The names of all operations, for recorded requests and planned faults.
OPERATIONS = frozenset({*_SERVICE.values(), *_BUCKET.values(), *_OBJECT.values(), "ListObjectsV2"})


def operation_of(request: ServerRequest, target: RequestTarget) -> str:
    """
    Return the operation's name in the API reference.

    Raises ServiceError with the code NotImplemented if there is none.
    """
    selectors = " ".join(sorted({name for name, _ in request.query} & _SUBRESOURCES))
    if target.bucket is None:
        table = _SERVICE
    elif target.key is None:
        table = _BUCKET
    else:
        table = _OBJECT
    operation = table.get((request.method, selectors))
    copies = request.header("x-amz-copy-source") is not None
    if operation is None or copies:
        raise ServiceError("NotImplemented", f"This server has no operation {request.method} with ({selectors}).")
    if operation == "ListObjects" and request.param("list-type") == "2":
        return "ListObjectsV2"
    return operation
