"""
The operation of a request.

A server that ignored unknown sub-resources would store an ACL document as an object, so everything unknown is refused.
"""

from __future__ import annotations

from partwise.server.errors import ServiceError
from partwise.server.messages import RequestTarget, ServerRequest
from partwise.server.oss.signatures import SUBRESOURCES

# The sub-resources that accompany an operation. All others select one.
_ACCOMPANYING = frozenset({"callback", "callback-var", "cname", "continuation-token", "security-token", "sequential"})
_SELECTORS = {name for name in SUBRESOURCES - _ACCOMPANYING if not name.startswith("response-")} | {"x-oss-process"}

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

#: The names of all operations, for recorded requests and planned faults.
OPERATIONS = frozenset({*_SERVICE.values(), *_BUCKET.values(), *_OBJECT.values(), "ListObjectsV2"})


def operation_of(request: ServerRequest, target: RequestTarget) -> str:
    """
    Return the operation's name in the API reference.

    Raises ServiceError with the code NotImplemented if there is none.
    """
    selectors = " ".join(sorted({name for name, _ in request.query} & _SELECTORS))
    if target.bucket is None:
        table = _SERVICE
    elif target.key is None:
        table = _BUCKET
    else:
        table = _OBJECT
    operation = table.get((request.method, selectors))
    copies = any(name.startswith("x-oss-copy-source") for name, _ in request.headers)
    if operation is None or copies:
        raise ServiceError("NotImplemented", f"This server has no operation {request.method} with ({selectors}).")
    if operation == "ListObjects" and request.param("list-type") == "2":
        return "ListObjectsV2"
    return operation
