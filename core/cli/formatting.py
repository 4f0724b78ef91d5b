"""Values in the words of people. Pure."""

from __future__ import annotations

import math
import os
import re
import textwrap
from collections.abc import Collection, Sequence

from partwise.model import GIB, KIB, MIB, TIB, utc

_BINARY = ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"))


def amount(count: float) -> str:
    """A number of bytes: ``17 B``, ``1.5 KiB``, ``256.0 MiB``."""
    unit, name = _unit(count)
    return f"{count / unit:.1f} {name}" if unit > 1 else f"{int(count)} B"


def share(done: int, total: int | None, *, between: str = " of ") -> str:
    """Some of all bytes, in one unit: ``128.0 of 256.0 MiB``; only the first where the whole is not known."""
    if total is None:
        return amount(done)
    unit, name = _unit(total)
    return f"{done / unit:.1f}{between}{total / unit:.1f} {name}" if unit > 1 else f"{done}{between}{total} {name}"


def percent(done: int, total: int | None) -> str:
    """``61 %``, rounded down, so that it is 100 only when all is there; a question mark where nothing tells."""
    if total is None:
        return "?"
    return f"{100 * done // total} %" if total else "100 %"


def count(number: int, noun: str) -> str:
    """``1 part``, ``32 parts``, ``10,000 parts``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def span(seconds: float) -> str:
    """
    A span of time in its two largest units: ``0.8 s``, ``42 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``; a question
    mark where it is not finite.
    """
    if not math.isfinite(seconds):
        return "?"
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return _two(minutes, "min", rest, "s")
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return _two(hours, "h", minutes, "min")
    days, hours = divmod(hours, 24)
    return _two(days, "d", hours, "h")


def _two(large: int, unit: str, small: int, smaller: str) -> str:
    return f"{large} {unit} {small} {smaller}" if small else f"{large} {unit}"


def age(seconds: float) -> str:
    """How old something is: a span, negative where it is dated in the future by a wrong clock: ``-2 h 5 min``."""
    return f"-{span(-seconds)}" if seconds <= -1 else span(seconds)


def moment(seconds: float) -> str | None:
    """Seconds since 1970 as a date with its time; None where they are not a date."""
    try:
        return utc(seconds).isoformat()
    except (ValueError, OverflowError, OSError):
        return None


def timer(seconds: float | None) -> str:
    """A span of time at a fixed place on the screen: ``0:42``, ``2:05:00``; dashes where it can't be said."""
    if seconds is None or not seconds < 100 * 3600:
        return "-:--"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def numbers(first: int, last: int) -> str:
    """A run of part numbers: ``7``, ``1-120``."""
    return f"{first}" if first == last else f"{first}-{last}"


def one_line(text: str) -> str:
    """The text without line breaks and the like; spaces in a row, which may be part of a name, stay."""
    return re.sub(r"\s*[\t\n\v\f\r]\s*", " ", text.strip())


def shown(text: str) -> str:
    """
    The text with every character escaped that is not printable, as in ``a\\nb``.

    These are control characters, marks of direction, separators other than the space, and halves of surrogates, by
    which Python keeps bytes that are not text. `output` applies it to all that is printed; it changes nothing when it
    is applied again.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(sign: str) -> str:
    return sign if sign.isprintable() else sign.encode("unicode_escape").decode()


def columns(rows: Sequence[Sequence[str]], *, right: Collection[int] = (), width: int | None = None) -> list[str]:
    """
    Rows as lines, with the cells of a column one under the other, and two spaces between columns.

    Args:
        rows: of equal length, `shown`. The last column is not padded.
        right: the columns that are set to the right, by number.
        width: fold the last column, between words, so that lines have no more columns than this; None: never.
    """
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)][:-1]
    room = None if width is None else max(20, width - sum(widths) - 2 * len(widths))
    lines = []
    for *cells, last in rows:
        padded = [
            cell.rjust(wide) if number in right else cell.ljust(wide)
            for number, (cell, wide) in enumerate(zip(cells, widths, strict=True))
        ]
        first, *more = [last] if room is None else textwrap.wrap(last, room, break_long_words=False) or [""]
        lines.append("  ".join([*padded, first]).rstrip())
        lines += [" " * (sum(widths) + 2 * len(widths)) + line for line in more]
    return lines


def shortened(text: str, width: int) -> str:
    """The text in at most so many columns: beginning and end of it, with ``..`` between."""
    if len(text) <= width:
        return text
    tail = max(1, (width - 2) * 2 // 3)
    return f"{text[: max(0, width - 2 - tail)]}..{text[-tail:]}"


def command_line(arguments: Sequence[str]) -> str:
    """
    What to type to run this command again. All of it is printable: what is not is written as a shell reads it (``$'…'``
    of POSIX, which bash, zsh and ksh have).
    """
    if os.name == "nt":
        import subprocess

        return subprocess.list2cmdline(["partwise", *arguments])
    return " ".join(map(_quoted, ["partwise", *arguments]))


def _quoted(argument: str) -> str:
    import shlex

    if argument.isprintable():
        return shlex.quote(argument)
    # Byte by byte and in octal: it depends on no encoding, and no digit that follows is taken for a part of it.
    escaped = "".join(
        f"\\{sign}" if sign in "\\'" else sign if sign.isprintable() else _octal(sign) for sign in argument
    )
    return f"$'{escaped}'"


def _octal(sign: str) -> str:
    # Half a surrogate stands for a byte that is not text.
    errors = "surrogateescape" if "\udc80" <= sign <= "\udcff" else "surrogatepass"
    return "".join(f"\\{byte:03o}" for byte in sign.encode(errors=errors))


def _unit(count: float) -> tuple[int, str]:
    return next(((unit, name) for unit, name in _BINARY if count >= unit), (1, "B"))
