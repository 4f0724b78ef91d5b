"""Header values: which of them arrive unchanged, and dates."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

from partwise._validation import brief
from partwise.errors import InvalidInput

_DATE_CHARACTERS_MAX = 100


def check_header_value(name: str, value: object) -> str:
    """
    Return the value if it arrives exactly as it is sent.

    Args:
        name: what the value is, for the message.
        value: the value.

    Raises:
        InvalidInput: it is not a str, is empty, has white space around it, or contains a character outside printable
            ASCII.
    """
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"{name} must be a non-empty text, not {brief(value)}")
    if not (value.isascii() and value.isprintable()):
        raise InvalidInput(
            f"{name} is sent as a header and may contain printable ASCII only, not {value!r:.60}",
            hint="Percent-encode it",
        )
    if value != value.strip():
        raise InvalidInput(f"{name} would lose the white space around {value!r:.60} in transit")
    return value


def parse_date(text: str) -> float | None:
    """Return an HTTP date in seconds since 1970, None if it is invalid."""
    try:
        date = parsedate_to_datetime(text[:_DATE_CHARACTERS_MAX])
        # The zone -0000 yields a naive datetime.
        return date.replace(tzinfo=date.tzinfo or UTC).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
