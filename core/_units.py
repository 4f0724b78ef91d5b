"""
Numbers with their units, as messages name them.

Private to partwise. It imports no other module of partwise.
"""

from __future__ import annotations

__all__ = ["format_bytes", "format_count", "format_seconds"]

_UNITS = tuple((1024**power, f"{prefix}iB") for power, prefix in ((4, "T"), (3, "G"), (2, "M"), (1, "K")))


def format_count(number: int, noun: str) -> str:
    """Return a number of things: ``1 byte``, ``2 parts``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def format_seconds(seconds: float) -> str:
    """Return a time in seconds: ``1 second``, ``0.5 seconds``, ``60 seconds``."""
    number = f"{seconds:.0f}" if float(seconds).is_integer() else f"{seconds:g}"
    return f"{number} second{'' if number == '1' else 's'}"


def format_bytes(size: int) -> str:
    """
    Return a size in a readable unit, and exactly.

    That is ``8 MiB``, or with the number of bytes where the unit rounds: ``8.3 MiB (8,700,000 bytes)``.
    """
    exact = f"{size:,} byte{'' if size == 1 else 's'}"
    unit, name = next(((unit, name) for unit, name in _UNITS if size >= unit), (1, ""))
    if unit == 1:
        return exact
    if size % unit == 0:
        return f"{size // unit:,} {name}"
    return f"{size / unit:.1f} {name} ({exact})"
