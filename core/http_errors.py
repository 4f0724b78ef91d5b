"""
Translate HTTP statuses to errors, by one table for all backends.

Pure: nothing here sends a request, and any HTTP library fits. A status says whether the same request may succeed later;
a storage's own error codes say more, and take precedence:

    classes = {"NoSuchUpload": UploadNotFound, "NoSuchBucket": BucketNotFound}
    if response.status >= 300:
        raise error_for_status(response.status, response.headers, "part 3 of 'a'", code=code, classes=classes)

The table is in `docs/reference/protocols.md`. What a 404, a 409 or a 412 means depends on the request: pass it in
`classes`, by status or by code.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

from partwise.errors import AccessDenied, BackendError, ConnectionFailed, ServerFailed, Throttled

__all__ = ["RETRY_AFTER_MAX", "class_for_status", "error_for_status"]
__all__ += ["is_transient_status", "parse_http_date", "retry_after_seconds"]

#: Seconds. A storage that asks for a longer wait is taken to be mistaken, and the wait is shortened to this.
RETRY_AFTER_MAX = 3600.0

#: The 5xx statuses that a retry does not change: method not implemented, HTTP version not supported.
_PERMANENT_5XX = frozenset({501, 505})

_DATE_CHARACTERS_MAX = 100
_SECONDS_DIGITS_MAX = 12


class _Headers(Protocol):
    # All that the header classes of http.client, urllib3, requests, httpx and botocore have in common, and a dict.
    def items(self) -> Iterable[tuple[str, str]]: ...


def error_for_status(
    status: int,
    headers: _Headers,
    message: str,
    *,
    code: str | None = None,
    classes: Mapping[str | int, type[BackendError]] | None = None,
    retryable: bool | None = None,
    retry_after: float | None = None,
    request_id: str | None = None,
    details: Mapping[str, str] | None = None,
    hint: str = "",
) -> BackendError:
    """
    Return the error for a failed response, to be raised by the caller.

    The response is untrusted: mask secrets in what is taken from it, and limit its length.

    Args:
        status: the HTTP status.
        headers: the response headers, of any HTTP library or a dict; their names may have any case. Only Retry-After
            and Date are read.
        message: what failed, with the object's key and what the storage said.
        code: the storage's own error code.
        classes: the classes of the storage's codes, and of statuses where they differ from the table of this module. A
            code takes precedence over a status. They must take the arguments of `BackendError`.
        retryable: None means that of the table, or the default of a class from `classes`.
        retry_after: seconds that the storage asks to wait by other means than Retry-After; the longer one counts. NaN
            counts as None.
        request_id: the storage's id of the request.
        details: further facts from the response, without secrets.
        hint: what to do next; see `PartwiseError`.
    """
    stated = retry_after_seconds(headers)
    if retry_after is not None and not math.isnan(retry_after):
        stated = min(max(retry_after, stated or 0.0), RETRY_AFTER_MAX)
    asks_to_wait = stated is not None or _value(headers, "retry-after") is not None
    kind = class_for_status(status, code=code, classes=classes, asks_to_wait=asks_to_wait)
    if retryable is None:
        retryable = status != 407 and kind.default_retryable
    arguments: dict[str, Any] = {"code": code, "status": status, "request_id": request_id, "hint": hint}
    if retryable != kind.default_retryable:  # CallbackError has neither of the two arguments
        arguments["retryable"] = retryable
    if retryable and stated is not None:
        arguments["retry_after"] = stated
    return kind(message, details=dict(details or {}), **arguments)


def class_for_status(
    status: int,
    *,
    code: str | None = None,
    classes: Mapping[str | int, type[BackendError]] | None = None,
    asks_to_wait: bool = False,
) -> type[BackendError]:
    """
    Return the class of the error for a failed response.

    Throttling takes precedence over `classes`, since storages send it with the codes of other errors. So does a 407,
    which comes from a proxy.

    Args:
        status: the HTTP status.
        code: the storage's own error code.
        classes: see `error_for_status`.
        asks_to_wait: whether the response says when to try again, as by Retry-After.
    """
    known = classes or {}
    if status == 429 or (status == 503 and asks_to_wait):
        return Throttled
    if status == 407:
        return ConnectionFailed
    if code is not None and code in known:
        return known[code]
    if status in known:
        return known[status]
    if is_transient_status(status):
        return ServerFailed if status >= 500 else ConnectionFailed
    return AccessDenied if status in (401, 403) else BackendError


def is_transient_status(status: int) -> bool:
    """Return whether a retry may help: after 408, 429, and 5xx but 501 and 505."""
    return status in (408, 429) or (500 <= status <= 599 and status not in _PERMANENT_5XX)


def retry_after_seconds(headers: _Headers) -> float | None:
    """
    Return the seconds that a Retry-After header asks to wait.

    They are from 0 to `RETRY_AFTER_MAX`. The header has whole seconds or a date. A date counts from the Date of the
    same response, because the local clock may be off. None if there is no such header, or it is invalid.
    """
    value = (_value(headers, "retry-after") or "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:_SECONDS_DIGITS_MAX]), RETRY_AFTER_MAX)
    date, now = parse_http_date(value), parse_http_date(_value(headers, "date") or "")
    return None if date is None or now is None else min(max(date - now, 0.0), RETRY_AFTER_MAX)


def parse_http_date(text: str) -> float | None:
    """Return the date of an HTTP header in seconds since 1970, None if it is invalid."""
    try:
        date = parsedate_to_datetime(text[:_DATE_CHARACTERS_MAX])
        # The zone -0000 yields a naive datetime.
        return date.replace(tzinfo=date.tzinfo or UTC).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _value(headers: _Headers, name: str) -> str | None:
    return next((value for key, value in headers.items() if key.lower() == name), None)
