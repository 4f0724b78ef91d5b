"""
Which operation a request asks for.

A server that takes an unknown sub-resource for a plain request stores an ACL document as an object, so whatever is not
known here is refused.
"""

from __future__ import annotations

from partwise.server.messages import Request
from partwise.server.oss.addressing import Place
from partwise.server.oss.errors import OSSError
from partwise.server.oss.signatures import SUBRESOURCES

# Of the query keys that mean something to the service, those that go with operations rather than select one.
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
    # Half of a part's address is a mistake in a part's request: the operation itself names what is missing.
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

#: The names of all operations that the server knows, as its record of requests and its planned faults use them.
OPERATIONS = frozenset({*_SERVICE.values(), *_BUCKET.values(), *_OBJECT.values(), "ListObjectsV2"})


def operation_of(request: Request, place: Place) -> str:
    """
    The name of the operation, as the API reference has it.

    Raises:
        OSSError: NotImplemented.
    """
    selectors = " ".join(sorted({name for name, _ in request.query} & _SELECTORS))
    if place.bucket is None:
        table = _SERVICE
    elif place.key is None:
        table = _BUCKET
    else:
        table = _OBJECT
    operation = table.get((request.method, selectors))
    copies = any(name.startswith("x-oss-copy-source") for name, _ in request.headers)
    if operation is None or copies:
        raise OSSError("NotImplemented", f"This server has no operation {request.method} with ({selectors}).")
    if operation == "ListObjects" and request.param("list-type") == "2":
        return "ListObjectsV2"
    return operation
