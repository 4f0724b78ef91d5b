"""What the service answers when it refuses: a code, its HTTP status, its words, and facts by name."""

from __future__ import annotations

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


@define(frozen=True)
class Refusal:
    """How one code is answered: HTTP status, message, and EC code where it is published."""

    status: int
    message: str
    ec: str = ""


#: Every code that the server uses, with what goes with it unless the place that refuses knows better.
REFUSALS: Mapping[str, Refusal] = {
    "AccessDenied": Refusal(403, "AccessDenied", "0003-00000001"),
    "AccessKeyIdAndSecurityTokenNotMatch": Refusal(
        403, "The access key id and the security token are not of the same credentials."
    ),
    "BadRequest": Refusal(400, "The request could not be understood."),
    "BucketAlreadyExists": Refusal(409, "The requested bucket name is not available."),
    "CallbackFailed": Refusal(203, "The callback failed.", "0007-00000203"),
    "EntityTooLarge": Refusal(400, "Your proposed upload exceeds the maximum allowed size."),
    "EntityTooSmall": Refusal(400, "Your proposed upload is smaller than the minimum allowed size.", "0042-00000213"),
    "FileAlreadyExists": Refusal(
        409, "The object you specified already exists and can not be overwritten.", "0042-00000214"
    ),
    "IncompleteBody": Refusal(400, "You did not provide the number of bytes that Content-Length says."),
    "InternalError": Refusal(500, "Please contact the server administrator."),
    "InvalidAccessKeyId": Refusal(
        403, "The OSS Access Key Id you provided does not exist in our records.", "0002-00000902"
    ),
    "InvalidArgument": Refusal(400, "The argument is invalid."),
    "InvalidBucketName": Refusal(400, "The specified bucket is not valid."),
    "InvalidCRC64": Refusal(400, "The CRC64 you specified did not match what was received."),
    "InvalidDigest": Refusal(400, "The Content-MD5 you specified did not match what was received."),
    "InvalidEncryptionAlgorithmError": Refusal(400, "The Encryption request you specified is not valid."),
    "InvalidObjectName": Refusal(400, "The specified object is not valid."),
    "InvalidPart": Refusal(400, "One or more of the specified parts could not be found or is not of that ETag."),
    "InvalidPartOrder": Refusal(400, "The list of parts was not in ascending order.", "0042-00000209"),
    "InvalidRange": Refusal(416, "The requested range cannot be satisfied."),
    "InvalidRequest": Refusal(400, "The request is invalid."),
    "InvalidSecurityToken": Refusal(403, "The security token you provided is invalid."),
    "InvalidURI": Refusal(400, "Couldn't parse the specified URI."),
    "MalformedXML": Refusal(400, "The XML you provided was not well-formed.", "0042-00000205"),
    "MissingContentLength": Refusal(411, "You must provide the Content-Length HTTP header."),
    "NoSuchBucket": Refusal(404, "The specified bucket does not exist.", "0015-00000101"),
    "NoSuchKey": Refusal(404, "The specified key does not exist.", "0026-00000001"),
    "NoSuchUpload": Refusal(
        404,
        "The specified upload does not exist. It may be invalid, or may have been aborted or completed.",
        "0017-00000244",
    ),
    "NotImplemented": Refusal(501, "This server does not do what was asked for."),
    "NotModified": Refusal(304, "Not modified."),
    "PartAlreadyExist": Refusal(409, "A part of a sequential upload can not be overwritten."),
    "PartNotSequential": Refusal(400, "The parts of a sequential upload must be sent in order."),
    "PreconditionFailed": Refusal(412, "At least one of the pre-conditions you specified did not hold."),
    "QpsLimitExceeded": Refusal(503, "Please reduce your request rate."),
    "RequestTimeTooSkewed": Refusal(
        403, "The difference between the request time and the current time is too large.", "0002-00000504"
    ),
    "RequestTimeout": Refusal(400, "Your connection was silent for too long."),
    "SecondLevelDomainForbidden": Refusal(
        403, "Please use the virtual hosted style to access the bucket.", "0003-00001403"
    ),
    "SecurityTokenExpired": Refusal(403, "The security token you provided has expired."),
    "ServiceUnavailable": Refusal(503, "Busy, please try again later."),
    "SignatureDoesNotMatch": Refusal(
        403,
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method.",
        "0002-00000040",
    ),
}


class OSSError(Exception):
    """
    The response to a request is a refusal.

    Args:
        code: the service's word, one of `REFUSALS` or another together with a status.
        message: in place of the usual one.
        status: in place of the usual one; 500 for a code that is not in `REFUSALS`.
        ec: in place of the usual one.
        elements: further children of the error document, such as ``{"UploadId": "..."}``.
        headers: further headers of the response.
    """

    def __init__(
        self,
        code: str,
        message: str | None = None,
        *,
        status: int | None = None,
        ec: str | None = None,
        elements: Mapping[str, str] | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        usual = REFUSALS.get(code, Refusal(500, code))
        self.code = code
        self.message = usual.message if message is None else message
        self.status = usual.status if status is None else status
        self.ec = usual.ec if ec is None else ec
        self.elements = dict(elements or {})
        self.headers = headers
        super().__init__(f"{self.code}: {self.message}")


def bad_argument(name: str, value: str, message: str) -> OSSError:
    """InvalidArgument, which names the argument and its value."""
    return OSSError("InvalidArgument", message, elements={"ArgumentName": name, "ArgumentValue": value})


# The first that fits decides, so a class stands before its base.
_BY_CLASS: tuple[tuple[type[PartwiseError], str], ...] = (
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


def refusal_of(error: PartwiseError) -> OSSError:
    """What the service answers where the backend behind it raised `error`."""
    if not isinstance(error, BackendError):
        return OSSError(_code_of(error, "InternalError"), error.message)
    code = _code_of(error, "InternalError" if error.retryable else "InvalidRequest")
    headers = () if error.retry_after is None else (("Retry-After", str(max(0, round(error.retry_after)))),)
    own = error.code if error.code is not None and error.code in REFUSALS else code
    return OSSError(own, error.message, headers=headers)


def _code_of(error: PartwiseError, otherwise: str) -> str:
    return next((code for kind, code in _BY_CLASS if isinstance(error, kind)), otherwise)
