"""
Translate a failed response of S3 to an error of `partwise.errors`. Pure.

One table maps the error codes of S3 and of storages that speak it; other failures are mapped by their HTTP status. What
a failed condition means depends on the request. The error keeps what the storage reported, with secrets masked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from attrs import define, evolve

from partwise.backends._http.error_documents import ErrorDetails, failure_message, is_redirect, is_retryable
from partwise.backends._http.error_documents import parse_error as parse_error_document
from partwise.backends._http.http1 import Response
from partwise.backends.s3.responses import READER
from partwise.errors import (
    AccessDenied,
    BackendError,
    BucketNotFound,
    ClockSkewed,
    ConnectionFailed,
    CredentialsExpired,
    IntegrityError,
    ObjectExists,
    PartRejected,
    PreconditionFailed,
    ServerFailed,
    Throttled,
    UploadNotFound,
    UploadUnusable,
)
from partwise.http_errors import class_for_status, retry_after_seconds

#: The error codes whose class does not follow from the HTTP status.
ERRORS: dict[str | int, type[BackendError]] = {
    # The upload and its parts
    "NoSuchUpload": UploadNotFound,
    **dict.fromkeys(("InvalidPart", "InvalidPartOrder", "EntityTooSmall"), PartRejected),
    # The bytes
    **dict.fromkeys(("BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch"), IntegrityError),
    **dict.fromkeys(("XAmzContentChecksumMismatch", "ChecksumMismatch"), IntegrityError),
    # S3 saw the connection break or time out, even if this side did not.
    **dict.fromkeys(("IncompleteBody", "RequestTimeout"), ConnectionFailed),
    # The object
    "NoSuchBucket": BucketNotFound,
    # The account and the clock
    **dict.fromkeys(("AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId"), AccessDenied),
    **dict.fromkeys(("AllAccessDisabled", "AccountProblem", "NotSignedUp", "InvalidSecurity"), AccessDenied),
    **dict.fromkeys(("PermanentRedirect", "AuthorizationHeaderMalformed", "UnauthorizedAccess"), AccessDenied),
    **dict.fromkeys(("KMS.DisabledException", "KMS.NotFoundException", "KMS.InvalidStateException"), AccessDenied),
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "InvalidToken"), CredentialsExpired),
    "TokenRefreshRequired": CredentialsExpired,
    "RequestTimeTooSkewed": ClockSkewed,
    # Internal failures and rate limits
    **dict.fromkeys(("InternalError", "ServiceUnavailable", "OperationAborted"), ServerFailed),
    **dict.fromkeys(("SlowDown", "Throttling", "ThrottlingException", "TooManyRequests"), Throttled),
    **dict.fromkeys(("RequestLimitExceeded", "BandwidthLimitExceeded", "RequestThrottled"), Throttled),
    **dict.fromkeys(("SlowDownRead", "SlowDownWrite"), Throttled),  # MinIO
    "KMS.ThrottlingException": Throttled,
}

#: What to do next, where the error message of S3 does not say it.
_HINTS = {
    "InvalidAccessKeyId": "Check the access key id",
    **dict.fromkeys(
        ("ExpiredToken", "ExpiredTokenException"),
        "Pass new {credentials}. A Python program can pass a function, which is called again before they expire",
    ),
    "NoSuchBucket": "Check the bucket's name and its region",
    "NotImplemented": "Pass {dialect} with the kind of the storage, so that nothing is requested that it does not have",
}

#: What the error means for the upload, where the error message of S3 does not say it.
_CONSEQUENCES = {
    UploadNotFound: "the upload was completed or aborted, or never existed",
    PartRejected: "the upload and its parts are kept",
    UploadUnusable: "another request changed the object meanwhile, so this upload can't be completed any more",
    ObjectExists: "overwriting was forbidden",
    PreconditionFailed: "the object is not the one that if_match names",
}

#: S3 says this of a request without a checksum that has to have one: in a bucket with object lock, or for an upload
#: whose parts must have one.
_CHECKSUM_REQUIRED = re.compile(
    r"Content-MD5 OR x-amz-checksum-|Checksum Type mismatch|checksum missing", re.IGNORECASE
)
_WRONG_SIZE = re.compile(r"x-amz-mp-object-size", re.IGNORECASE)
_REGION = re.compile(r"[a-z0-9-]{1,40}")


@define(frozen=True)
class RequestFacts:
    """What the meaning of a failed response depends on."""

    is_head: bool = False  # whether the response has no body
    is_complete: bool = False  # whether it completes an upload
    if_match: bool = False  # whether it is for one version of the object only


def parse_error(response: Response, secrets: Iterable[str] = ()) -> ErrorDetails:
    """Return what a failed response says, with all of `secrets` masked."""
    details = parse_error_document(response, secrets, prefix=READER.prefix)
    region = response.headers.get("x-amz-bucket-region", "")
    if region and "Region" not in details.details and _REGION.fullmatch(region):
        details = evolve(details, details={**details.details, "Region": region})
    return details


#: Codes that say, of a request to complete, that the object has another checksum than expected. The others are about
#: the body of the request, which may have been damaged on its way.
_OF_THE_OBJECT = ("BadDigest", "ChecksumMismatch", "XAmzContentChecksumMismatch")


def error_for(response: Response, operation: str, details: ErrorDetails, request: RequestFacts) -> BackendError:
    """
    Return the error for a failed response, given the result of `parse_error`.

    Its message begins with the operation, such as ``"part 3 of 'a/b' in s3://bucket@host"``.
    """
    wait = retry_after_seconds(response.headers)
    kind = _class_of(response, details, request, asks_to_wait=wait is not None)
    retryable = is_retryable(kind, response, details)
    if kind is IntegrityError and request.is_complete and details.code in _OF_THE_OBJECT:
        retryable = False  # the storage would say the same again
    consequence = _CONSEQUENCES.get(kind, "")
    if kind is IntegrityError and request.is_complete:
        consequence = "no object was stored"
    if (region := _other_region(response, details)) is not None:
        consequence = f"the bucket is in the region {region}"
    host = {} if details.host_id is None else {"host_id": details.host_id}
    return kind(
        failure_message(response, operation, details, consequence),
        code=details.code,
        status=response.status,
        request_id=details.request_id,
        retryable=retryable,
        retry_after=wait if retryable else None,
        details=details.details | host,
        hint=_hint(response, details, region),
    )


def is_checksum_required(details: ErrorDetails) -> bool:
    """Return whether a request failed because it had no checksum."""
    return details.code in ("InvalidRequest", "InvalidArgument") and bool(_CHECKSUM_REQUIRED.search(details.message))


def _class_of(
    response: Response, details: ErrorDetails, request: RequestFacts, *, asks_to_wait: bool
) -> type[BackendError]:
    status, code = response.status, details.code
    special: type[BackendError] | None = None
    if status == 412 or code == "PreconditionFailed" or (request.if_match and code == "NoSuchKey"):
        special = PreconditionFailed if request.if_match else ObjectExists
    elif code == "ConditionalRequestConflict":
        special = UploadUnusable if request.is_complete else ServerFailed
    elif request.is_complete and code == "InvalidRequest" and _WRONG_SIZE.search(details.message):
        special = PartRejected
    elif request.is_head and status == 503:
        special = Throttled  # the usual reason, for which there is no body that could say it
    if special is not None:
        return special
    # An error in a response that began as a success is an internal one, unless its code says more.
    classes: dict[str | int, Any] = ERRORS
    return class_for_status(500 if status < 300 else status, code=code, classes=classes, asks_to_wait=asks_to_wait)


def _other_region(response: Response, details: ErrorDetails) -> str | None:
    """Return the region of the bucket, if the request was signed for another one."""
    wrong = details.code in ("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException")
    region = details.details.get("Region", "")
    known = (wrong or is_redirect(response) or response.status == 400) and _REGION.fullmatch(region)
    return region if known else None


#: What S3, and other storages, say of a request without the key of an object that is encrypted with one (SSE-C).
_CUSTOMER_KEY = re.compile("stored using a form of server side encryption|customer.key", re.IGNORECASE)


def _hint(response: Response, details: ErrorDetails, region: str | None) -> str:
    if region is not None:
        return f"Pass {{region={region}}}"
    if is_redirect(response) or "Endpoint" in details.details:
        return "Pass the bucket's own {region} or {endpoint}"
    if details.code == "SignatureDoesNotMatch":
        return "Check the secret access key and the {region}. No proxy or gateway may change the request"
    if details.code == "InvalidRequest" and _CUSTOMER_KEY.search(details.message):
        return "Pass the key that the object is encrypted with: {sse_customer_key}"
    return _HINTS.get(details.code or "", "")
