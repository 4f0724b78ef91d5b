"""
Colours on a terminal, and nowhere else.

``NO_COLOR`` forbids them everywhere, ``FORCE_COLOR`` wants them everywhere, and ``TERM=dumb`` has none; the first two
count if they are there and not empty. No library is imported for it: help is to come at once.
"""

from __future__ import annotations

import os
from typing import Literal, Self, TextIO

Colour = Literal["bold", "red", "green", "yellow", "cyan", "grey"]


class Painted(str):
    """
    Text that has a colour where it goes to a terminal.

    Args:
        text: the text.
        colour: the colour.
    """

    __slots__ = ("colour",)

    colour: Colour

    def __new__(cls, text: str, colour: Colour) -> Self:
        made = super().__new__(cls, text)
        made.colour = colour
        return made


#: A line to be printed: a text, or its pieces.
Line = str | tuple[str, ...]


# The numbers of ISO 6429, in the order in which they are nested.
_CODES: dict[Colour, int] = {"bold": 1, "red": 31, "green": 32, "yellow": 33, "cyan": 36, "grey": 90}


def can_move_the_cursor(stream: TextIO) -> bool:
    """Whether it is a terminal on which a line can be drawn anew."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def wanted(stream: TextIO) -> bool:
    """Whether what goes there shall have colours."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    # A console of Windows has to be asked first; words without colours are as true.
    return os.name != "nt" and can_move_the_cursor(stream)


def painted(text: str, colour: Colour, stream: TextIO) -> str:
    """The text in a colour, where that stream shall have colours."""
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if text and wanted(stream) else text
