"""
Colors on a terminal.

``NO_COLOR`` turns them off, ``FORCE_COLOR`` turns them on everywhere, if set and not empty; ``TERM=dumb`` has none. No
library is imported for them, so that help pages are fast.
"""

from __future__ import annotations

import os
from typing import Literal, Self, TextIO

Color = Literal["bold", "red", "green", "yellow", "cyan", "grey"]


class Styled(str):
    """Text that is printed in a color on a terminal."""

    __slots__ = ("color",)

    color: Color

    def __new__(cls, text: str, color: Color) -> Self:
        made = super().__new__(cls, text)
        made.color = color
        return made


#: A line to print: text, or pieces of text.
Line = str | tuple[str, ...]


# The codes of ISO 6429 (ANSI).
_CODES: dict[Color, int] = {"bold": 1, "red": 31, "green": 32, "yellow": 33, "cyan": 36, "grey": 90}


def can_move_the_cursor(stream: TextIO) -> bool:
    """Return whether it is a terminal on which a line can be overwritten."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def use_color(stream: TextIO) -> bool:
    """Return whether to print colors there."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    # A console of Windows does not support them without being switched.
    return os.name != "nt" and can_move_the_cursor(stream)


def styled(text: str, color: Color, stream: TextIO) -> str:
    """Return the text in a color, if that stream shows colors."""
    return f"\x1b[{_CODES[color]}m{text}\x1b[0m" if text and use_color(stream) else text
