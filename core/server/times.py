"""The formats of times in requests and responses. Times are seconds since 1970."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache

_BASIC_FORMAT = "%Y%m%dT%H%M%SZ"
_LAST_SECOND = 253_402_300_799  # of the year 9999


def http_date(seconds: float) -> str:
    """Return the time in the format of HTTP headers."""
    return formatdate(_clamped(seconds), usegmt=True)


def xml_time(seconds: float) -> str:
    """
    Return the time in the format of XML documents.

    That has milliseconds, but whole seconds are written.
    """
    return f"{_utc(seconds):%Y-%m-%dT%H:%M:%S}.000Z"


def basic_time(seconds: float) -> str:
    """Return the time in the format of signature version 4, such as 20260102T030405Z."""
    return _utc(seconds).strftime(_BASIC_FORMAT)


# Many requests are signed in the same second.
@lru_cache(maxsize=16)
def parse_basic_time(text: str) -> float | None:
    """Return the seconds of what `basic_time` returned; None if it is invalid."""
    try:
        return datetime.strptime(text, _BASIC_FORMAT).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(_clamped(seconds), UTC)


def _clamped(seconds: float) -> float:
    # A client can send a time that is out of range on some platforms, and a file can have one.
    return min(max(seconds, 0), _LAST_SECOND)
