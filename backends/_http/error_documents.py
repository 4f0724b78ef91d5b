"""
Read what a failed response says, if its error document is like that of S3.

This module does no I/O. The service's own table says which code is which error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from attrs import define, field

from partwise.backends._http.http1 import Response
from partwise.backends._http.redaction import redact
from partwise.backends._http.xml import BadDocument, parse_error_document
from partwise.errors import AccessDenied, BackendError
from partwise.http_errors import parse_http_date

#: Elements of an error document that have a field of their own in `ErrorDetails`.
_FIELDS = frozenset({"Code", "Message", "RequestId", "HostId", "EC"})

#: Elements that repeat the request as a list of byte values, which can't be searched for secrets.
_BYTE_LISTS = frozenset({"StringToSignBytes", "CanonicalRequestBytes"})

#: How many bytes of a response without an error document are searched for an error code.
_SEARCHED_BYTES = 4096
_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9.]{1,64})\s*</Code>")

#: How many characters are kept of a code or an id, and of a message.
WORD_MAX = 100
_TEXT_MAX = 4000

#: How many further elements of an error document are kept; services send ten at most.
_DETAILS_MAX = 50


@define(frozen=True)
class ErrorDetails:
    """What a failed response says."""

    code: str | None  # the error code of the service; None if the response is not from the service
    message: str  # its message, or the first characters of a response without an error document
    request_id: str | None = None
    host_id: str | None = None  # the host that responded
    ec: str | None = None  # the finer error code, of a service that has one
    details: dict[str, str] = field(factory=dict)  # the other elements of the error document, by name
    location: str | None = None  # the target of a redirect


def parse_error(
    response: Response,
    secrets: Iterable[str],
    *,
    prefix: str,
    document: Callable[[Response], bytes] = lambda response: response.body,
) -> ErrorDetails:
    """
    Return what a failed response says, with all of `secrets` masked.

    Args:
        response: the response.
        secrets: what must not be shown.
        prefix: that of the service's headers, such as ``"x-oss-"``.
        document: returns the error document of a response; raises BadDocument if there is none.
    """
    hidden = tuple(secrets)

    def text(value: str, size_max: int = _TEXT_MAX) -> str:
        # Cut first, since a text of megabytes takes seconds to search. A mask is shorter than a secret, hence the rest.
        return redact(value[: 2 * size_max], hidden)[:size_max]

    def word(*values: str | None) -> str | None:
        return text(without_controls(next(filter(None, values), "")[: 4 * WORD_MAX]), WORD_MAX) or None

    request_id, ec = response.headers.get(f"{prefix}request-id"), response.headers.get(f"{prefix}ec")
    location = word(response.headers.get("location"))
    try:
        elements = parse_error_document(document(response))
    except BadDocument:
        # From a gateway, or truncated, in which case it may still contain the code.
        start = response.body[:_SEARCHED_BYTES]
        return ErrorDetails(
            word(code_in(response)),
            text(without_controls(start.decode("utf-8", "replace")), 200).strip(),
            word(request_id),
            ec=word(ec),
            location=location,
        )
    others = [(name, value) for name, value in elements.items() if name not in _FIELDS and name not in _BYTE_LISTS]
    return ErrorDetails(
        word(elements.get("Code")),
        text(elements.get("Message", "")),
        word(elements.get("RequestId"), request_id),
        word(elements.get("HostId")),
        word(elements.get("EC"), ec),
        {text(name, WORD_MAX): text(value) for name, value in others[:_DETAILS_MAX]},
        location,
    )


def code_in(response: Response) -> str | None:
    """Return the error code at the beginning of a body that need not be a document."""
    found = _CODE.search(response.body[:_SEARCHED_BYTES])
    return None if found is None else found[1].decode()


def failure_message(response: Response, operation: str, details: ErrorDetails, consequence: str = "") -> str:
    """
    Return the message of the error for a failed response.

    It begins with the operation, and ends with what the failure means for the upload, if that is given.
    """
    status = f"HTTP {response.status}"
    if details.request_id is not None:
        status += f", request {details.request_id}"
    if is_redirect(response):
        target = details.details.get("Endpoint") or details.location or "no target given"
        return f"{operation}: redirected ({target:.200}), and a signed request is not sent to another host ({status})"
    text = ": ".join(filter(None, (details.code, details.message))) or "no error message"
    if not text.endswith((".", "!", "?")):
        text += "."
    return f"{operation}: {text} ({status}){consequence and '; '}{consequence}"


def is_retryable(kind: type[BackendError], response: Response, details: ErrorDetails) -> bool:
    """
    Return whether a retry may help after a failed response.

    That is what the class of its error says, but for two statuses that no service responds. After a 401, a gateway in
    between wants the request again; after a 407, a proxy wants other credentials.
    """
    repeat_401 = response.status == 401 and kind is AccessDenied and details.code is None
    return response.status != 407 and (kind.default_retryable or repeat_401)


def server_time(response: Response, details: ErrorDetails) -> float | None:
    """
    Return the clock of the service, in seconds since 1970.

    This is the time that the request was compared with, if the error says it; otherwise the Date of the response, which
    a proxy or gateway may have set.
    """
    try:
        stated = datetime.fromisoformat(details.details.get("ServerTime", ""))
        return stated.replace(tzinfo=stated.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return response_date(response)


def response_date(response: Response) -> float | None:
    """Return the Date header of a response, in seconds since 1970."""
    return parse_http_date(response.headers.get("date", ""))


def is_redirect(response: Response) -> bool:
    """Return whether a response sends the client elsewhere."""
    return 300 <= response.status < 400


def without_controls(text: str) -> str:
    """Return a text with a space for each character that can't be shown."""
    if not text.isprintable():  # that of each part is, as a rule
        text = "".join(character if character.isprintable() else " " for character in text)
    return text.strip()
