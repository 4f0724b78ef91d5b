"""Header values: which of them arrive unchanged."""

from __future__ import annotations

from partwise._validation import brief
from partwise.errors import InvalidInput


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
