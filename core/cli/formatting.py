"""Format values for people. No function here does I/O."""

from __future__ import annotations

import math
import os
import re
import textwrap
from collections.abc import Collection, Sequence

from partwise._validation import without_password
from partwise.model import GIB, KIB, MIB, TIB, utc

_BINARY = ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"))


def format_size(count: float) -> str:
    """Format a number of bytes: ``17 B``, ``1.5 KiB``, ``256.0 MiB``."""
    unit, name = _unit(count)
    return f"{count / unit:.1f} {name}" if unit > 1 else f"{int(count)} B"


def format_ratio(done: int, total: int | None, *, separator: str = " of ") -> str:
    """
    Format done and total bytes in one unit: ``128.0 of 256.0 MiB``.

    If the total is not known, only the bytes done are shown.
    """
    if total is None:
        return format_size(done)
    unit, name = _unit(total)
    return f"{done / unit:.1f}{separator}{total / unit:.1f} {name}" if unit > 1 else f"{done}{separator}{total} {name}"


def format_percent(done: int, total: int | None) -> str:
    """
    Format a percentage, rounded down, so that 100 % means all: ``61 %``.

    If the total is not known, it is ``?``.
    """
    if total is None:
        return "?"
    return f"{100 * done // total} %" if total else "100 %"


def pluralize(number: int, noun: str) -> str:
    """Format a number with its noun: ``1 part``, ``32 parts``, ``10,000 parts``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_duration(seconds: float) -> str:
    """
    Format a duration in its two largest units, such as ``3 min 20 s``.

    Other examples: ``0.8 s``, ``42 s``, ``2 h 5 min``, ``3 d 4 h``. A number that is not finite is a question mark.
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


def format_age(seconds: float) -> str:
    """
    Format an age; one in the future, by a wrong clock, is negative.

    Such an age is, for example, ``-2 h 5 min``.
    """
    return f"-{format_duration(-seconds)}" if seconds <= -1 else format_duration(seconds)


def format_time(seconds: float) -> str | None:
    """Format seconds since 1970 in ISO 8601; None if they are not a valid date."""
    try:
        return utc(seconds).isoformat()
    except (ValueError, OverflowError, OSError):
        return None


def format_timer(seconds: float | None) -> str:
    """
    Format a duration with a stable width: ``0:42``, ``2:05:00``, or dashes.

    Dashes mean that it is not known.
    """
    if seconds is None or not seconds < 100 * 3600:
        return "-:--"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_range(first: int, last: int) -> str:
    """Format a range of part numbers: ``7``, ``1-120``."""
    return f"{first}" if first == last else f"{first}-{last}"


def collapse_lines(text: str) -> str:
    """
    Replace line breaks and tabs by a space.

    Consecutive spaces, which may be part of a name, stay.
    """
    return re.sub(r"\s*[\t\n\v\f\r]\s*", " ", text.strip())


def escape_control(text: str) -> str:
    """
    Escape every character that is not printable, as in ``a\\nb``.

    These are control characters, bidirectional marks, separators other than the space, and lone surrogates, by which
    Python keeps bytes that are not text. `output` applies it to everything that is printed. It is idempotent.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def columns(rows: Sequence[Sequence[str]], *, right: Collection[int] = (), width: int | None = None) -> list[str]:
    """
    Align the cells of rows in columns, with two spaces between columns.

    Args:
        rows: of equal length, escaped. The last column is not padded.
        right: indices of the columns that are right-aligned.
        width: maximum width of a line, for which the last column is folded between words; None: fold nothing.
    """
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)][:-1]
    last_width = None if width is None else max(20, width - sum(widths) - 2 * len(widths))
    lines = []
    for *cells, last in rows:
        padded = [
            cell.rjust(wide) if number in right else cell.ljust(wide)
            for number, (cell, wide) in enumerate(zip(cells, widths, strict=True))
        ]
        first, *more = [last] if last_width is None else textwrap.wrap(last, last_width, break_long_words=False) or [""]
        lines.append("  ".join([*padded, first]).rstrip())
        lines += [" " * (sum(widths) + 2 * len(widths)) + line for line in more]
    return lines


#: Flags whose value may contain a password.
_WITH_PASSWORD = ("--proxy", "--store")


def without_passwords(arguments: Sequence[str]) -> list[str]:
    """
    Return a command line for messages.

    Passwords in the URLs of a proxy and a store are replaced by ``***``.
    """

    shown = []
    previous = ""
    for word in arguments:
        flag, equals, value = word.partition("=")
        if previous in _WITH_PASSWORD:
            shown.append(without_password(word))
        elif flag in _WITH_PASSWORD and equals:
            shown.append(f"{flag}={without_password(value)}")
        else:
            shown.append(word)
        previous = word
    return shown


def without_words(arguments: Sequence[str], done: Collection[str], with_value: Collection[str]) -> list[str]:
    """
    Return a command line without some of its arguments.

    Args:
        arguments: the name of the command, then its words.
        done: the arguments to leave out. Values of options are kept, even if they are equal.
        with_value: the flags that have a value in the next word.
    """
    left = list(arguments[:1])
    words = iter(arguments[1:])
    has_options = True
    for word in words:
        if has_options and word.startswith("-") and word != "-":
            left.append(word)
            has_options = word != "--"
            if word in with_value:
                left.append(next(words, ""))
        elif word not in done:
            left.append(word)
    return left


def fold(text: str, width: int | None) -> list[str]:
    """
    Fold a sentence between words, after escaping it.

    Paths and URLs are not broken, so that they can be copied.

    Args:
        text: the sentence.
        width: maximum width of a line, unless a word is longer; None: fold nothing.
    """
    escaped = escape_control(text)
    if width is None:
        return [escaped]
    return textwrap.wrap(escaped, max(20, width), break_long_words=False, break_on_hyphens=False) or [""]


def command_line(arguments: Sequence[str]) -> str:
    """
    Return the command line to run this command again, quoted for a shell.

    It is printable: other characters are written as ``$'…'`` of POSIX, which bash, zsh and ksh support.
    """
    if os.name == "nt":
        import subprocess

        return subprocess.list2cmdline(["partwise", *arguments])
    return " ".join(map(_quoted, ["partwise", *arguments]))


def _quoted(argument: str) -> str:
    import shlex

    if argument.isprintable():
        return shlex.quote(argument)
    # Byte by byte, so that no encoding matters, and in octal with three digits, so that digits may follow.
    escaped = "".join(_escape_for_shell(character) for character in argument)
    return f"$'{escaped}'"


def _escape_for_shell(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    # A lone surrogate of this range stands for a byte that is not text.
    errors = "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass"
    return "".join(f"\\{byte:03o}" for byte in character.encode(errors=errors))


def _unit(count: float) -> tuple[int, str]:
    return next(((unit, name) for unit, name in _BINARY if count >= unit), (1, "B"))
