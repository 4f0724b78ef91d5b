"""The error codes of S3, and the responses that refuse a request."""

from __future__ import annotations

from collections.abc import Mapping

from partwise.errors import (
    AccessDenied,
    BackendError,
    BucketNotFound,
    ConnectionFailed,
    IntegrityError,
    InvalidInput,
    InvalidKey,
    ObjectExists,
    PartRejected,
    PartwiseError,
    PreconditionFailed,
    Throttled,
    UnsupportedOption,
    UploadNotFound,
    UploadUnusable,
)
from partwise.server.errors import ServiceError
from partwise.server.messages import ServerResponse
from partwise.server.xml import Node, document

#: The status and the message of every error code that the server uses.
ERRORS: Mapping[str, tuple[int, str]] = {
    "AccessDenied": (403, "Access Denied"),
    "AuthorizationHeaderMalformed": (400, "The authorization header is malformed."),
    "AuthorizationQueryParametersError": (400, "Error parsing the X-Amz-Credential parameter."),
    "BadDigest": (400, "The Content-MD5 or checksum value that you specified did not match what the server received."),
    "BucketAlreadyExists": (409, "The requested bucket name is not available."),
    "BucketAlreadyOwnedByYou": (409, "The bucket that you tried to create already exists, and you own it."),
    "ConditionalRequestConflict": (409, "A conflicting operation occurred during the request to this resource."),
    "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed object size."),
    "EntityTooSmall": (400, "Your proposed upload is smaller than the minimum allowed object size."),
    "ExpiredToken": (400, "The provided token has expired."),
    "IncompleteBody": (400, "You did not provide the number of bytes specified by the Content-Length HTTP header."),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "InvalidAccessKeyId": (403, "The AWS access key ID that you provided does not exist in our records."),
    "InvalidArgument": (400, "Invalid Argument"),
    "InvalidBucketName": (400, "The specified bucket is not valid."),
    "InvalidDigest": (400, "The Content-MD5 or checksum value that you specified is not valid."),
    "InvalidPart": (
        400,
        "One or more of the specified parts could not be found, or the specified entity tag may not match.",
    ),
    "InvalidPartOrder": (400, "The list of parts was not in ascending order. Parts must be ordered by part number."),
    "InvalidRange": (416, "The requested range is not satisfiable"),
    "InvalidRequest": (400, "Invalid Request"),
    "InvalidStorageClass": (400, "The storage class you specified is not valid"),
    "InvalidTag": (400, "The tag provided was not a valid tag."),
    "InvalidToken": (400, "The provided token is malformed or otherwise invalid."),
    "InvalidURI": (400, "Couldn't parse the specified URI."),
    "KeyTooLongError": (400, "Your key is too long"),
    "MalformedXML": (400, "The XML you provided was not well-formed or did not validate against our published schema"),
    "MetadataTooLarge": (400, "Your metadata headers exceed the maximum allowed metadata size"),
    "MethodNotAllowed": (405, "The specified method is not allowed against this resource."),
    "MissingContentLength": (411, "You must provide the Content-Length HTTP header."),
    "MissingSecurityHeader": (400, "Your request was missing a required header"),
    "NoSuchBucket": (404, "The specified bucket does not exist"),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchUpload": (
        404,
        "The specified upload does not exist. It may be invalid, or may have been aborted or completed.",
    ),
    "NotImplemented": (501, "A header you provided implies functionality that is not implemented"),
    "NotModified": (304, "Not modified."),
    "ObjectLockConfigurationNotFoundError": (404, "Object Lock configuration does not exist for this bucket"),
    "PermanentRedirect": (
        301,
        "The bucket you are attempting to access must be addressed using the specified endpoint.",
    ),
    "PreconditionFailed": (412, "At least one of the pre-conditions you specified did not hold"),
    "RequestTimeTooSkewed": (403, "The difference between the request time and the current time is too large."),
    "RequestTimeout": (400, "Your socket connection to the server was not read from or written to in time."),
    "ServiceUnavailable": (503, "Service is unable to handle request."),
    "SignatureDoesNotMatch": (
        403,
        "The request signature we calculated does not match the signature you provided. Check your key.",
    ),
    "SlowDown": (503, "Please reduce your request rate."),
    "XAmzContentSHA256Mismatch": (400, "The provided 'x-amz-content-sha256' header does not match what was computed."),
}

# The first match decides, so a class comes before its base.
_CODE_BY_CLASS: tuple[tuple[type[PartwiseError], str], ...] = (
    (InvalidKey, "InvalidURI"),
    (UnsupportedOption, "NotImplemented"),
    (InvalidInput, "InvalidArgument"),
    (UploadNotFound, "NoSuchUpload"),
    (UploadUnusable, "ConditionalRequestConflict"),
    (PartRejected, "InvalidPart"),
    (ObjectExists, "PreconditionFailed"),
    (PreconditionFailed, "PreconditionFailed"),
    (BucketNotFound, "NoSuchBucket"),
    (AccessDenied, "AccessDenied"),
    (IntegrityError, "BadDigest"),
    (Throttled, "SlowDown"),
    (ConnectionFailed, "ServiceUnavailable"),
)


def error_for(error: PartwiseError) -> ServiceError:
    """Return the error of the service for an error of the backend behind it."""
    retryable = isinstance(error, BackendError) and error.retryable
    code = next((code for kind, code in _CODE_BY_CLASS if isinstance(error, kind)), None)
    if code is None:
        code = "InternalError" if retryable or not isinstance(error, BackendError) else "InvalidRequest"
    if isinstance(error, BackendError) and error.code is not None and error.code in ERRORS:
        code = error.code
    retry_after = error.retry_after if isinstance(error, BackendError) else None
    headers = () if retry_after is None else (("Retry-After", str(max(0, round(retry_after)))),)
    return ServiceError(code, error.message, headers=headers)


def message_of(error: ServiceError) -> str:
    """Return the message of an error; without one, the usual one of its code."""
    return ERRORS.get(error.code, (500, error.code))[1] if error.message is None else error.message


def error_response(error: ServiceError, request_id: str, resource: str, *, is_head: bool) -> ServerResponse:
    """Return the response that refuses a request; that to HEAD has no body."""
    status = ERRORS.get(error.code, (500, ""))[0] if error.status is None else error.status
    if is_head or status == 304:
        return ServerResponse(status, error.headers, length=None if status == 304 else 0, code=error.code)
    children: list[Node] = [
        ("Code", error.code),
        ("Message", message_of(error)),
        ("Resource", resource),
        *error.elements.items(),
        ("RequestId", request_id),
        ("HostId", host_id(request_id)),
    ]
    body = document("Error", children)
    return ServerResponse(status, (("Content-Type", "application/xml"), *error.headers), body, code=error.code)


def host_id(request_id: str) -> str:
    """Return the second id that S3 gives each request, for its support."""
    return f"partwise-test-server/{request_id}="
