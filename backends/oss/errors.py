"""
What an answer means that is no success. Pure.

One table says for every code of the service which error of the tree it is; the rest goes by the HTTP status. What the
service said is kept in the error, less anything secret.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from attrs import define, field

from partwise.backends._http.http1 import LASTING_FAILURES, Answer
from partwise.backends.oss.redaction import redacted
from partwise.backends.oss.xml import BadDocument, parse_error
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
from partwise.model import StoredObject

#: Codes whose error is not what their HTTP status alone says.
ERRORS: dict[str, type[BackendError]] = {
    # The upload and its parts
    "NoSuchUpload": UploadNotFound,
    "InvalidPart": PartRejected,
    "InvalidPartOrder": PartRejected,
    "EntityTooSmall": PartRejected,
    # The bytes
    "InvalidDigest": IntegrityError,
    "InvalidCRC64": IntegrityError,
    # The service saw the connection break, or wait in vain, where we may have seen nothing.
    "IncompleteBody": ConnectionFailed,
    "RequestTimeout": ConnectionFailed,
    # The object
    "FileAlreadyExists": ObjectExists,
    "CallbackFailed": CallbackError,
    "NoSuchBucket": BucketNotFound,
    # Who asks, and when
    "AccessDenied": AccessDenied,
    "SignatureDoesNotMatch": AccessDenied,
    "InvalidAccessKeyId": AccessDenied,
    "UserDisable": AccessDenied,
    "BucketDisable": AccessDenied,
    "TransferAccelerationDisabled": AccessDenied,
    "SecondLevelDomainForbidden": AccessDenied,
    "NonStandardHostForbidden": AccessDenied,
    "PermanentRedirect": AccessDenied,
    "KmsServiceNotEnabled": AccessDenied,
    "KmsInDebt": AccessDenied,
    "SecurityTokenExpired": CredentialsExpired,
    "InvalidSecurityToken": CredentialsExpired,
    "AccessKeyIdAndSecurityTokenNotMatch": CredentialsExpired,
    "RequestTimeTooSkewed": ClockSkewed,
    # The service's own trouble
    "BadRequest": ServerFailed,
    "InternalError": ServerFailed,
    "ServiceUnavailable": ServerFailed,
    "TotalQpsLimitExceeded": Throttled,
    "QpsLimitExceeded": Throttled,
    "MetaOperationQpsLimitExceeded": Throttled,
    "ActiveRequestLimitExceeded": Throttled,
    "UploadTrafficRateLimitExceeded": Throttled,
    "DownloadTrafficRateLimitExceeded": Throttled,
}

#: What to do about it, where that is not plain from what the service says.
_ADVICE = {
    "InvalidAccessKeyId": "check the access key id",
    "SecurityTokenExpired": (
        "pass a function or a credentials client as credentials=, so that expired ones are replaced by themselves"
    ),
    "SecondLevelDomainForbidden": "use addressing_style='virtual'",
    "NonStandardHostForbidden": "use the region's endpoint, or addressing_style='cname' for a custom domain",
    "TransferAccelerationDisabled": "turn on transfer acceleration for the bucket, or use the region's endpoint",
    "NoSuchBucket": "check the bucket's name and its region",
    "NoSuchUpload": "it was completed or aborted, or never was",
    "InvalidPart": "the upload and its parts are kept",
    "InvalidPartOrder": "the upload and its parts are kept",
    "EntityTooSmall": "the upload and its parts are kept",
    "FileAlreadyExists": "overwriting was forbidden",
    "CallbackFailed": "the object is stored",
}
_V1_WITHDRAWN = "0002-00000080"

#: A wait that is longer than this is taken for a mistake, and cut to it.
_RETRY_AFTER_SECONDS_MAX = 3600.0

#: Elements of an error document that have a field of their own.
_FIELDS = frozenset({"Code", "Message", "RequestId", "HostId", "EC"})

#: Elements that repeat the request byte by byte, in a form that can't be searched for secrets.
_UNREADABLE = frozenset({"StringToSignBytes", "CanonicalRequestBytes"})

#: Bytes of an answer that is no error document in which to look for what it says.
_LOOKED_AT = 4096
_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9.]{1,64})\s*</Code>")

#: Characters of what the service says that are kept: of a code, and of each text.
_WORD_MAX = 100
_TEXT_MAX = 4000

#: Elements of an error document beyond those that have a field: the service sends ten at most.
_DETAILS_MAX = 50


@define(frozen=True)
class Said:
    """
    What the service said about a failure.

    Args:
        code: its word for it; None where the answer is not the service's.
        message: its message, or the first bytes of an answer that is no error document.
        request_id: its name for the request.
        host_id: the host that answered.
        ec: its finer code.
        details: everything else, by element name.
        location: where a redirect points.
    """

    code: str | None
    message: str
    request_id: str | None = None
    host_id: str | None = None
    ec: str | None = None
    details: dict[str, str] = field(factory=dict)
    location: str | None = None


def read(answer: Answer, secrets: Iterable[str] = ()) -> Said:
    """What a failed answer says, without `secrets`, wherever in the answer they are repeated."""
    hidden = tuple(secrets)

    def shown(text: str, longest: int = _TEXT_MAX) -> str:
        return redacted(text, hidden)[:longest]

    def word(*texts: str | None) -> str | None:
        return shown(_printable(next(filter(None, texts), "")), _WORD_MAX) or None

    request_id, ec = answer.headers.get("x-oss-request-id"), answer.headers.get("x-oss-ec")
    location = word(answer.headers.get("location"))
    try:
        document = parse_error(_document(answer))
    except BadDocument:
        # A gateway's page, or a document that was cut short: its code may still be there.
        start = answer.body[:_LOOKED_AT]
        code = _CODE.search(start)
        return Said(
            word(code[1].decode()) if code else None,
            shown(_printable(start.decode("utf-8", "replace")), 200).strip(),
            word(request_id),
            ec=word(ec),
            location=location,
        )
    details = [(name, text) for name, text in document.items() if name not in _FIELDS and name not in _UNREADABLE]
    return Said(
        word(document.get("Code")),
        shown(document.get("Message", "")),
        word(document.get("RequestId"), request_id),
        word(document.get("HostId")),
        word(document.get("EC"), ec),
        {shown(name, _WORD_MAX): shown(text) for name, text in details[:_DETAILS_MAX]},
        location,
    )


def failure(answer: Answer, what: str, said: Said) -> BackendError:
    """
    The error that a failed answer is.

    Args:
        answer: the answer.
        what: what was tried, such as ``"part 3 of 'a/b' in oss://bucket@host"``, to begin the message with.
        said: what `read` made of the answer.
    """
    kind = _kind(answer, said)
    # A 401 is not a code of the service's own: a gateway on the way asks to be asked again.
    retryable = kind.default_retryable or (kind is AccessDenied and answer.status == 401 and said.code is None)
    if answer.status == 407:
        kind, retryable = ConnectionFailed, False
    common: dict[str, Any] = {
        "code": said.code,
        "status": answer.status,
        "request_id": said.request_id,
        "host_id": said.host_id,
        "ec": said.ec,
        "details": said.details,
    }
    message = _message(answer, what, said)
    if kind is CallbackError:
        return CallbackError(message, **common)  # it is never retryable, so it can't be told to be
    return kind(message, retryable=retryable, retry_after=retry_after(answer) if retryable else None, **common)


def callback_failure(answer: Answer, what: str, said: Said, result: StoredObject) -> CallbackError:
    """The error that a callback's failure is: the object is stored, and `result` describes it."""
    return CallbackError(
        _message(answer, what, said),
        result=result,
        code=said.code,
        status=answer.status,
        request_id=said.request_id,
        host_id=said.host_id,
        ec=said.ec,
        details=said.details,
    )


def retry_after(answer: Answer) -> float | None:
    """Seconds that the service asks us to wait, where it does; an hour at most."""
    seconds: float | None = None
    asked = answer.headers.get("retry-after", "").strip()
    if asked.isascii() and asked.isdigit():
        seconds = float(asked[:12])
    elif (when := _http_time(asked)) is not None:
        now = date_of(answer)
        seconds = None if now is None else when - now
    delay = answer.headers.get("x-oss-qos-delay-time", "").strip()
    if delay.isascii() and delay.isdigit():
        seconds = max(seconds or 0.0, float(delay[:12]) / 1000)
    return None if seconds is None else min(max(seconds, 0.0), _RETRY_AFTER_SECONDS_MAX)


def date_of(answer: Answer) -> float | None:
    """The time at which an answer was given, by its Date header, in seconds since 1970."""
    return _http_time(answer.headers.get("date", ""))


def server_time(answer: Answer, said: Said) -> float | None:
    """
    The service's clock, in seconds since 1970.

    What it compared the request with, where it says that; otherwise the Date of its answer, which anything on the way
    may have set.
    """
    try:
        stated = datetime.fromisoformat(said.details.get("ServerTime", ""))
        return stated.replace(tzinfo=stated.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return date_of(answer)


def _document(answer: Answer) -> bytes:
    # The answer to a HEAD has no body, so the document is in a header. Elsewhere the header may be there too.
    if answer.body:
        return answer.body
    try:
        return base64.b64decode(answer.headers.get("x-oss-err", ""))
    except ValueError as error:  # which `binascii.Error` is; another where the text is not ASCII
        raise BadDocument("x-oss-err is not base64") from error


def _kind(answer: Answer, said: Said) -> type[BackendError]:
    status = answer.status
    waits = "retry-after" in answer.headers or "x-oss-qos-delay-time" in answer.headers
    if status == 429 or (status == 503 and waits):
        return Throttled
    if said.code in ERRORS:
        return ERRORS[said.code]
    if status >= 500 and status not in LASTING_FAILURES:
        return ServerFailed
    if status == 408:
        return ConnectionFailed
    if status in (401, 403):
        return AccessDenied
    return BackendError


def _message(answer: Answer, what: str, said: Said) -> str:
    status = f"HTTP {answer.status}" if said.request_id is None else f"HTTP {answer.status}, request {said.request_id}"
    if 300 <= answer.status < 400:
        where = said.details.get("Endpoint") or said.location or "it does not say where"
        return (
            f"{what}: the answer sends us elsewhere ({where:.200}), and a signed request is not sent on: give the "
            f"bucket's own endpoint ({status})"
        )
    words = ": ".join(filter(None, (said.code, said.message))) or "the answer says nothing more"
    if not words.endswith((".", "!", "?")):
        words += "."
    advice = _ADVICE.get(said.code or "")
    if answer.status == 203:
        advice = _ADVICE["CallbackFailed"]
    elif said.ec == _V1_WITHDRAWN:
        advice = "the V1 signature is not accepted any more: use signature_version='v4'"
    elif "Endpoint" in said.details:
        advice = f"the bucket is reached by the endpoint {said.details['Endpoint']:.200}"
    return f"{what}: {words} ({status}){f'; {advice}' if advice else ''}"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text).strip()


def _http_time(text: str) -> float | None:
    try:
        when = parsedate_to_datetime(text[:_WORD_MAX])
        # A zone of -0000 gives a time without a zone.
        return when.replace(tzinfo=when.tzinfo or UTC).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
