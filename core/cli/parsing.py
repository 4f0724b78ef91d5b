"""
Parse command line values, such as sizes, durations and NAME=VALUE pairs.

Every function takes the text and raises `InvalidInput` with a message that quotes it. None of them does I/O.
The functions without further arguments are the types of `partwise.cli.param_types`.
"""

from __future__ import annotations

import re
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Literal

from partwise._validation import brief_url
from partwise.config import CONCURRENCY_LIMIT, SECONDS_MAX
from partwise.errors import InvalidInput
from partwise.model import GIB, KIB, MIB, TIB

_UNITS = {
    "": 1,
    "b": 1,
    **dict.fromkeys(("k", "ki", "kib"), KIB),
    **dict.fromkeys(("m", "mi", "mib"), MIB),
    **dict.fromkeys(("g", "gi", "gib"), GIB),
    **dict.fromkeys(("t", "ti", "tib"), TIB),
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_SECONDS: dict[str, Decimal] = {
    "ms": Decimal("0.001"),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), Decimal(1)),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), Decimal(60)),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), Decimal(3_600)),
    **dict.fromkeys(("d", "day", "days"), Decimal(86_400)),
    **dict.fromkeys(("w", "week", "weeks"), Decimal(604_800)),
}

# Larger values are typing errors, and overflow clocks and socket timeouts.
_SIZE_MAX = 2**63 - 1
_SECONDS_MAX = 100 * 365 * 86_400

# A smaller number of bytes without a unit was probably meant in MiB.
_PLAIN_BYTES_MIN = KIB

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_DIGITS_MAX = 18
_DIGITS = f"[0-9]{{1,{_DIGITS_MAX}}}"
_SIZE = re.compile(rf"({_NUMBER})\s*([a-z]*)", re.ASCII)
_DURATION = re.compile(rf"(?:{_NUMBER}\s*[a-z]+\s*)+", re.ASCII)
_DURATION_ITEM = re.compile(rf"({_NUMBER})\s*([a-z]+)", re.ASCII)


def size(text: str) -> int:
    """
    Parse a number of bytes, such as ``8MiB``.

    ``8MiB`` and ``8M`` are 8 x 1024 x 1024, ``8MB`` is 8,000,000, ``8388608`` is 8,388,608. Case does not matter;
    fractions such as ``1.5G`` are rounded down to whole bytes.

    Raises:
        InvalidInput: it is not a size, is too large, or is a small number without a unit, which is ambiguous.
    """
    match = _SIZE.fullmatch(text.strip().lower())
    unit = None if match is None else _UNITS.get(match[2])
    if match is None or unit is None:
        raise InvalidInput(
            f"{text!r:.60} is not a valid size", hint="Write a number of bytes, or a unit as in 8MiB, 1.5G or 100kB"
        )
    number = Decimal(match[1])
    if number * unit > _SIZE_MAX:
        raise InvalidInput(f"{text!r:.60} is too large; the maximum is 8 EiB")
    if not match[2] and 0 < number < _PLAIN_BYTES_MIN:
        raise InvalidInput(f"{text!r:.60} has no unit", hint=f"Write {match[1]}MiB or {match[1]}B")
    return int(number * unit)


def positive_size(text: str) -> int:
    """Parse a size above 0; see `size`."""
    number = size(text)
    if number < 1:
        raise InvalidInput(f"must be at least 1 byte, not {text!r:.60}")
    return number


def exact_size(text: str) -> int:
    """Parse the size of a source; without a unit it is in bytes (see `size`)."""
    number = text.strip()
    return int(number) if re.fullmatch(_DIGITS, number) else size(text)


def crc64(text: str) -> int:
    """
    Parse a CRC-64: decimal, as in results, or ``0x`` and up to 16 hex digits.

    Raises:
        InvalidInput: it is neither.
    """
    match = re.fullmatch(r"(?:0x([0-9a-f]{1,16})|([0-9]{1,20}))", text.strip().lower(), re.ASCII)
    number = -1 if match is None else int(match[1], 16) if match[1] else int(match[2])
    if not 0 <= number < 1 << 64:
        raise InvalidInput(
            f"{text!r:.60} is not a CRC-64", hint="Write it in decimal, or as 0x and up to 16 hexadecimal digits"
        )
    return number


def part_size(text: str) -> int | Literal["auto"]:
    """Parse a size above 0, or the word ``auto``; see `size`."""
    return "auto" if text.strip().lower() == "auto" else positive_size(text)


def rate(text: str) -> int:
    """Parse bytes per second: a size, with or without ``/s`` after it; see `size`."""
    return positive_size(text.strip().removesuffix("/s"))


def duration(text: str) -> float:
    """
    Parse a duration in seconds, such as ``1h30m`` or ``90``.

    Other examples: ``7d``, ``12h``, ``30m``, ``90s``, ``500ms``, ``2 weeks``.

    Raises:
        InvalidInput: it is not a duration, or is above a hundred years.
    """
    return _bounded_duration(text, _SECONDS_MAX, "a hundred years")


def _bounded_duration(text: str, maximum: int, shown: str) -> float:
    lowered = text.strip().lower()
    if re.fullmatch(_NUMBER, lowered):
        lowered += "s"
    found = _DURATION_ITEM.findall(lowered) if _DURATION.fullmatch(lowered) else []
    if not found or any(unit not in _SECONDS for _, unit in found):
        raise InvalidInput(f"{text!r:.60} is not a duration", hint="Write it as in 7d, 12h, 30m, 90s or 1h30m")
    total = sum(Decimal(number) * _SECONDS[unit] for number, unit in found)
    if total > maximum:
        raise InvalidInput(f"{text!r:.60} is too long; the maximum is {shown}")
    return float(total)


def positive_duration(text: str) -> float:
    """Parse a duration above 0; see `duration`."""
    seconds = duration(text)
    if not seconds > 0:
        raise InvalidInput(f"must be above 0 seconds, not {text!r:.60}")
    return seconds


def patience(text: str) -> float:
    """Parse a duration of up to 30 days, 0 included; see `duration`."""
    return _bounded_duration(text, SECONDS_MAX, "30 days")


def age(text: str) -> float:
    """Parse a minimum age, a duration with a unit; raise InvalidInput for other text."""
    number = text.strip()
    if re.fullmatch(_NUMBER, number):
        raise InvalidInput(f"{text!r:.60} has no unit", hint=f"Write {number:.20}d or {number:.20}s")
    return duration(text)


def integer(text: str, minimum: int, maximum: int | None = None) -> int:
    """Parse an integer; raise InvalidInput for any other text, or if out of bounds."""
    number = int(text) if re.fullmatch(rf"-?{_DIGITS}", text.strip()) else None
    if maximum is None and number is None and re.fullmatch(r"[0-9]+", text.strip()):
        raise InvalidInput(f"must be at most {10**_DIGITS_MAX - 1}, not {text!r:.60}")
    if number is None or number < minimum or (maximum is not None and number > maximum):
        if maximum is not None:
            bounds = f"an integer from {minimum} to {maximum}"
        else:
            bounds = "a positive integer" if minimum == 1 else f"an integer of at least {minimum}"
        raise InvalidInput(f"must be {bounds}, not {text!r:.60}")
    return number


def positive_integer(text: str) -> int:
    """Parse an integer of at least 1; see `integer`."""
    return integer(text, 1)


def concurrency(text: str) -> int | Literal["auto"]:
    """Parse ``auto`` or a number of parts in flight; see `integer`."""
    return "auto" if text.strip().lower() == "auto" else concurrency_max(text)


def concurrency_max(text: str) -> int:
    """Parse the maximum number of parts in flight; see `integer`."""
    return integer(text, 1, CONCURRENCY_LIMIT)


def port(text: str) -> int:
    """Parse a TCP port, 0 included; see `integer`."""
    return integer(text, 0, 65535)


def pair(text: str) -> tuple[str, str]:
    """
    Parse ``NAME=VALUE``; the value may be empty, and may contain ``=``.

    Raises:
        InvalidInput: there is no ``=`` or no name.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidInput(f"{text!r:.60} does not have the form NAME=VALUE")
    return name, value


def url(text: str) -> str:
    """Return a URL; raise InvalidInput for a path or the memory of this process."""
    if ":" not in text.replace("\\", "/").partition("/")[0] or re.match(r"[A-Za-z]:[\\/]", text):
        example = "oss://bucket/key or s3://bucket/key"
        with suppress(OSError, ValueError):  # the working directory was removed, or this can't be a path
            if text:
                # Such a URL is percent-encoded, so that it has no braces, which mean a setting in a hint.
                as_uri = Path(text).absolute().as_uri()
                slash = "/" * text.endswith("/")
                example = f"oss://bucket/key, s3://bucket/key, or {as_uri}{slash} for a directory of this machine"
        raise InvalidInput(f"{text!r:.200} is not a URL", hint=f"Write {example}")
    return _not_memory(text, "Write oss://bucket/key, s3://bucket/key or file:///directory/key")


def store_url(text: str) -> str:
    """Return a checkpoint store's URL; raise InvalidInput for this process's memory."""
    return _not_memory(text, "Write sqlite:///uploads.db")


def _not_memory(text: str, hint: str) -> str:
    if text.partition(":")[0].lower() == "memory":
        raise InvalidInput(
            f"{brief_url(text)} is the memory of this process, which ends with the command: nothing would be kept",
            hint=hint,
        )
    return text


def require_at_most_one(**given: object) -> None:
    """
    Refuse flags that exclude each other, by name, with ``_`` for ``-``.

    None and False mean that a flag was not given.

    Raises:
        InvalidInput: more than one was given.
    """
    flags = [f"--{name.replace('_', '-')}" for name, value in given.items() if value not in (None, False)]
    if len(flags) > 1:
        raise InvalidInput(f"{' and '.join(flags)} exclude each other", hint="Give only one of them")
