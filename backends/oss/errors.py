"""
Translate a failed response of OSS to an error of `partwise.errors`. Pure.

One table maps the error codes of OSS; other failures are mapped by their HTTP status. The error keeps what OSS
reported, with secrets masked.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from partwise.backends._http.error_documents import ErrorDetails, failure_message, is_redirect, is_retryable
from partwise.backends._http.error_documents import parse_error as parse_error_document
from partwise.backends._http.http1 import Response
from partwise.backends._http.xml import BadDocument
from partwise.backends.oss.responses import READER
from partwise.errors import (
    AccessDenied,
    BackendError,
    BucketNotFound,
    CallbackError,
    ClockSkewed,
    ConnectionFailed,
    CredentialsExpired,
    IntegrityError,
    ObjectExists,
    PartRejected,
    ServerFailed,
    Throttled,
    UploadNotFound,
)
from partwise.http_errors import RETRY_AFTER_MAX, class_for_status, retry_after_seconds
from partwise.model import StoredObject

#: The error codes whose class does not follow from the HTTP status.
ERRORS: dict[str | int, type[BackendError]] = {
    # The upload and its parts
    "NoSuchUpload": UploadNotFound,
    **dict.fromkeys(("InvalidPart", "InvalidPartOrder", "EntityTooSmall"), PartRejected),
    # The bytes
    **dict.fromkeys(("InvalidDigest", "InvalidCRC64"), IntegrityError),
    # OSS saw the connection break or time out, even if this side did not.
    **dict.fromkeys(("IncompleteBody", "RequestTimeout"), ConnectionFailed),
    # The object
    "FileAlreadyExists": ObjectExists,
    "CallbackFailed": CallbackError,
    "NoSuchBucket": BucketNotFound,
    # The account and the clock
    **dict.fromkeys(("AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId"), AccessDenied),
    **dict.fromkeys(("UserDisable", "BucketDisable", "TransferAccelerationDisabled"), AccessDenied),
    **dict.fromkeys(("SecondLevelDomainForbidden", "NonStandardHostForbidden", "PermanentRedirect"), AccessDenied),
    **dict.fromkeys(("KmsServiceNotEnabled", "KmsInDebt"), AccessDenied),
    **dict.fromkeys(("SecurityTokenExpired", "InvalidSecurityToken"), CredentialsExpired),
    "AccessKeyIdAndSecurityTokenNotMatch": CredentialsExpired,
    "RequestTimeTooSkewed": ClockSkewed,
    # Internal failures and rate limits of OSS
    **dict.fromkeys(("BadRequest", "InternalError", "ServiceUnavailable"), ServerFailed),
    **dict.fromkeys(("TotalQpsLimitExceeded", "QpsLimitExceeded", "MetaOperationQpsLimitExceeded"), Throttled),
    **dict.fromkeys(("ActiveRequestLimitExceeded", "UploadTrafficRateLimitExceeded"), Throttled),
    "DownloadTrafficRateLimitExceeded": Throttled,
}

#: What to do next, where the error message of OSS does not say it.
_HINTS = {
    "InvalidAccessKeyId": "Check the access key id",
    "SecurityTokenExpired": (
        "Pass new {credentials}. A Python program can pass a function or a credentials client, which is called again "
        "before they expire"
    ),
    "SecondLevelDomainForbidden": "Pass {addressing_style=virtual}",
    "NonStandardHostForbidden": (
        "Pass the region's {endpoint}, or {addressing_style=cname} if the endpoint is a custom domain"
    ),
    "TransferAccelerationDisabled": "Enable transfer acceleration for the bucket, or pass the region's {endpoint}",
    "NoSuchBucket": "Check the bucket's name and its region",
}

#: What the error means for the upload, where the error message of OSS does not say it.
_CONSEQUENCES = {
    "NoSuchUpload": "the upload was completed or aborted, or never existed",
    **dict.fromkeys(("InvalidPart", "InvalidPartOrder", "EntityTooSmall"), "the upload and its parts are kept"),
    "FileAlreadyExists": "overwriting was forbidden",
    "CallbackFailed": "the object is stored",
}

#: The `ec` of a request with a V1 signature to a bucket that does not accept it.
_V1_REFUSED = "0002-00000080"

#: The `ec` of a request that was signed for another region.
_WRONG_REGION = "0002-00000226"


def is_wrong_region(details: ErrorDetails) -> bool:
    """Return whether the request was signed for a region that is not the bucket's."""
    return details.ec == _WRONG_REGION or "signing region" in details.message.lower()


def parse_error(response: Response, secrets: Iterable[str] = ()) -> ErrorDetails:
    """Return what a failed response says, with all of `secrets` masked."""
    return parse_error_document(response, secrets, prefix=READER.prefix, document=_error_document)


def error_for(response: Response, operation: str, details: ErrorDetails) -> BackendError:
    """
    Return the error for a failed response, given the result of `parse_error`.

    Its message begins with the operation, such as ``"part 3 of 'a/b' in oss://bucket@host"``.
    """
    wait = retry_after(response)
    kind = class_for_status(response.status, code=details.code, classes=ERRORS, asks_to_wait=wait is not None)
    if kind is CallbackError:
        return callback_error_for(response, operation, details)
    retryable = is_retryable(kind, response, details)
    return kind(
        _message(response, operation, details),
        retryable=retryable,
        retry_after=wait if retryable else None,
        **_fields(response, details),
    )


def callback_error_for(
    response: Response, operation: str, details: ErrorDetails, result: StoredObject | None = None
) -> CallbackError:
    """
    Return the error for a failed callback.

    `result` describes the object, which is stored.
    """
    return CallbackError(_message(response, operation, details), result=result, **_fields(response, details))


def _fields(response: Response, details: ErrorDetails) -> dict[str, Any]:
    own = {"host_id": details.host_id, "ec": details.ec}
    return {
        "code": details.code,
        "status": response.status,
        "request_id": details.request_id,
        "details": details.details | {name: value for name, value in own.items() if value is not None},
        "hint": _hint(response, details),
    }


def retry_after(response: Response) -> float | None:
    """
    Return the seconds that a response asks to wait, an hour at most.

    It is None if the response does not ask.
    """
    seconds = retry_after_seconds(response.headers)
    delay = response.headers.get("x-oss-qos-delay-time", "").strip()  # in milliseconds
    if delay.isascii() and delay.isdigit():
        seconds = min(max(seconds or 0.0, float(delay[:12]) / 1000), RETRY_AFTER_MAX)
    return seconds


def _error_document(response: Response) -> bytes:
    # The response to a HEAD has no body, so OSS puts the document into a header, there and sometimes elsewhere.
    if response.body:
        return response.body
    try:
        return base64.b64decode(response.headers.get("x-oss-err", ""))
    except ValueError as error:  # `binascii.Error`, or a plain ValueError if the text is not ASCII
        raise BadDocument("x-oss-err is not base64") from error


def _message(response: Response, operation: str, details: ErrorDetails) -> str:
    if response.status == 203:
        consequence = _CONSEQUENCES["CallbackFailed"]
    elif details.ec == _V1_REFUSED:
        consequence = "the V1 signature is not accepted"
    elif "Endpoint" in details.details:
        consequence = f"the endpoint of the bucket is {details.details['Endpoint']:.200}"
    else:
        consequence = _CONSEQUENCES.get(details.code or "", "")
    return failure_message(response, operation, details, consequence)


def _hint(response: Response, details: ErrorDetails) -> str:
    if is_redirect(response) or "Endpoint" in details.details:
        return "Pass the bucket's own {endpoint}"
    if details.ec == _V1_REFUSED:
        return "Pass {signature_version=v4}"
    return _HINTS.get(details.code or "", "")
