"""The error codes of OSS, and the responses that refuse a request."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from attrs import define

from partwise.errors import (
    AccessDenied,
    BackendClosed,
    BackendError,
    BucketNotFound,
    ConnectionFailed,
    IntegrityError,
    InvalidInput,
    InvalidKey,
    ObjectExists,
    PartRejected,
    PartwiseError,
    Throttled,
    UnsupportedOption,
    UploadNotFound,
)
from partwise.server.errors import ServiceError
from partwise.server.messages import ServerResponse
from partwise.server.xml import Node, document


@define(frozen=True)
class ErrorKind:
    """The HTTP status and message of an error code, and its EC code if documented."""

    status: int
    message: str
    ec: str = ""


#: Every error code that the server uses, with its defaults.
ERRORS: Mapping[str, ErrorKind] = {
    "AccessDenied": ErrorKind(403, "AccessDenied", "0003-00000001"),
    "AccessKeyIdAndSecurityTokenNotMatch": ErrorKind(
        403, "The access key id and the security token do not belong to the same credentials."
    ),
    "BadRequest": ErrorKind(400, "The request could not be understood."),
    "BucketAlreadyExists": ErrorKind(409, "The requested bucket name is not available."),
    "CallbackFailed": ErrorKind(203, "The callback failed.", "0007-00000203"),
    "EntityTooLarge": ErrorKind(400, "Your proposed upload exceeds the maximum allowed size."),
    "EntityTooSmall": ErrorKind(400, "Your proposed upload is smaller than the minimum allowed size.", "0042-00000213"),
    "FileAlreadyExists": ErrorKind(
        409, "The object you specified already exists and can not be overwritten.", "0042-00000214"
    ),
    "IncompleteBody": ErrorKind(400, "The body has fewer bytes than the Content-Length header says."),
    "InternalError": ErrorKind(500, "Please contact the server administrator."),
    "InvalidAccessKeyId": ErrorKind(
        403, "The OSS Access Key Id you provided does not exist in our records.", "0002-00000902"
    ),
    "InvalidArgument": ErrorKind(400, "The argument is invalid."),
    "InvalidBucketName": ErrorKind(400, "The specified bucket is not valid."),
    "InvalidCRC64": ErrorKind(400, "The CRC64 you specified did not match what was received."),
    "InvalidDigest": ErrorKind(400, "The Content-MD5 you specified did not match what was received."),
    "InvalidEncryptionAlgorithmError": ErrorKind(400, "The Encryption request you specified is not valid."),
    "InvalidObjectName": ErrorKind(400, "The specified object is not valid."),
    "InvalidPart": ErrorKind(400, "One or more of the specified parts could not be found, or the ETag does not match."),
    "InvalidPartOrder": ErrorKind(400, "The list of parts was not in ascending order.", "0042-00000209"),
    "InvalidRange": ErrorKind(416, "The requested range cannot be satisfied."),
    "InvalidRequest": ErrorKind(400, "The request is invalid."),
    "InvalidSecurityToken": ErrorKind(403, "The security token you provided is invalid."),
    "InvalidURI": ErrorKind(400, "Couldn't parse the specified URI."),
    "MalformedXML": ErrorKind(400, "The XML you provided was not well-formed.", "0042-00000205"),
    "MissingContentLength": ErrorKind(411, "You must provide the Content-Length HTTP header."),
    "NoSuchBucket": ErrorKind(404, "The specified bucket does not exist.", "0015-00000101"),
    "NoSuchKey": ErrorKind(404, "The specified key does not exist.", "0026-00000001"),
    "NoSuchUpload": ErrorKind(
        404,
        "The specified upload does not exist. It may be invalid, or may have been aborted or completed.",
        "0017-00000244",
    ),
    "NotImplemented": ErrorKind(501, "This server does not implement the request."),
    "NotModified": ErrorKind(304, "Not modified."),
    "PartAlreadyExist": ErrorKind(409, "A part of a sequential upload can not be overwritten."),
    "PartNotSequential": ErrorKind(400, "The parts of a sequential upload must be sent in order."),
    "PreconditionFailed": ErrorKind(412, "At least one of the pre-conditions you specified did not hold."),
    "QpsLimitExceeded": ErrorKind(503, "Please reduce your request rate."),
    "RequestTimeTooSkewed": ErrorKind(
        403, "The difference between the request time and the current time is too large.", "0002-00000504"
    ),
    "RequestTimeout": ErrorKind(400, "No data was received within the timeout period."),
    "SecondLevelDomainForbidden": ErrorKind(
        403, "Please use the virtual hosted style to access the bucket.", "0003-00001403"
    ),
    "SecurityTokenExpired": ErrorKind(403, "The security token you provided has expired."),
    "ServiceUnavailable": ErrorKind(503, "Busy, please try again later."),
    "SignatureDoesNotMatch": ErrorKind(
        403,
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method.",
        "0002-00000040",
    ),
}


# The first match decides, so a class comes before its base.
_CODE_BY_CLASS: tuple[tuple[type[PartwiseError], str], ...] = (
    (InvalidKey, "InvalidObjectName"),
    (UnsupportedOption, "NotImplemented"),
    (InvalidInput, "InvalidArgument"),
    (UploadNotFound, "NoSuchUpload"),
    (PartRejected, "InvalidPart"),
    (ObjectExists, "FileAlreadyExists"),
    (BucketNotFound, "NoSuchBucket"),
    (AccessDenied, "AccessDenied"),
    (IntegrityError, "InvalidCRC64"),
    (Throttled, "ServiceUnavailable"),
    (ConnectionFailed, "ServiceUnavailable"),
    (BackendClosed, "InternalError"),
)


def error_for(error: PartwiseError) -> ServiceError:
    """Return the error of the service for an error of the backend behind it."""
    if not isinstance(error, BackendError):
        return ServiceError(_code_for(error, "InternalError"), error.message)
    code = _code_for(error, "InternalError" if error.retryable else "InvalidRequest")
    if error.code is not None and error.code in ERRORS:
        code = error.code
    headers = () if error.retry_after is None else (("Retry-After", str(max(0, round(error.retry_after)))),)
    return ServiceError(code, error.message, headers=headers)


def _code_for(error: PartwiseError, default: str) -> str:
    return next((code for kind, code in _CODE_BY_CLASS if isinstance(error, kind)), default)


def error_response(error: ServiceError, request_id: str, host: str, *, is_head: bool) -> ServerResponse:
    """
    Return the response that refuses a request.

    An element ``EC`` of the error overrides the EC code of its error code. The response to HEAD can't have a body.
    """
    kind = ERRORS.get(error.code, ErrorKind(500, error.code))
    status = kind.status if error.status is None else error.status
    ec = error.elements.get("EC", kind.ec)
    headers = (*error.headers, ("x-oss-ec", ec)) if ec else error.headers
    if status == 304:
        return ServerResponse(304, headers, code=error.code)
    children: list[Node] = [
        ("Code", error.code),
        ("Message", kind.message if error.message is None else error.message),
        ("RequestId", request_id),
        ("HostId", host),
        *(element for element in error.elements.items() if element[0] != "EC"),
    ]
    if ec:
        children += [("EC", ec), ("RecommendDoc", f"https://api.aliyun.com/troubleshoot?q={ec}")]
    body = document("Error", children)
    if is_head:
        encoded = base64.b64encode(body).decode()
        return ServerResponse(status, (*headers, ("x-oss-err", encoded)), length=0, code=error.code)
    return ServerResponse(status, (("Content-Type", "application/xml"), *headers), body, code=error.code)
