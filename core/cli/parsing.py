"""What people write on a command line, as values. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Literal

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

# Beyond these no machine has a use for a number, and clocks and sockets have no room for it.
_SIZE_MAX = 2**63 - 1
_SECONDS_MAX = 100 * 365 * 86_400

# A number of bytes without a unit that is smaller than this is more likely a number of mebibytes.
_PLAIN_BYTES_MIN = KIB

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_SIZE = re.compile(rf"({_NUMBER})\s*([a-z]*)", re.ASCII)
_SPAN = re.compile(rf"(?:{_NUMBER}\s*[a-z]+\s*)+", re.ASCII)
_SPANS = re.compile(rf"({_NUMBER})\s*([a-z]+)", re.ASCII)

#: What messages of the library speak of, as a flag, where the two differ by more than dashes.
_FLAGS = {
    "connect_timeout": "--timeout",
    "read_timeout": "--timeout",
    "x-oss-object-acl": "--acl",
    "x-oss-server-side-encryption": "--encryption",
    "x-oss-storage-class": "--storage-class",
    "encryption='KMS'": "--encryption KMS",
    "give credentials=Credentials(...), set": "set",
    "region=": "--region",
    "endpoint=": "--endpoint",
    "proxy=": "--proxy",
    "urllib.parse.quote": "percent-encoding",
}
#: The same in the advice that comes with an error of the storage. Such messages name keys and files, too, so that only
#: what nobody would call one is replaced.
ADVICE = {
    "give it as an open file, or as StreamSource(open(path, 'rb'), name=path), which can be resumed": (
        "give it as standard input, partwise upload - URL < FILE or COMMAND | partwise upload - URL"
    ),
    "name its authority by ca_bundle=": "name its authority by --ca-bundle",
    "give the bucket's own by region= or OSS_REGION": "give the bucket's own by --region or OSS_REGION",
    "give proxy=http://user:password@host:port": "give --proxy http://user:password@host:port",
    "use addressing_style='virtual'": "use --addressing-style virtual",
    "or addressing_style='cname' for": "or --addressing-style cname for",
    "pass a function or a credentials client as credentials=, so that expired ones are replaced by themselves": (
        "set OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and OSS_SESSION_TOKEN to new ones"
    ),
}
_SETTING = re.compile(
    "|".join(map(re.escape, _FLAGS))
    + r"|(?:\bTransferConfig\.(?=\w))(\w+)"
    + r"|\b(?:signature_version|addressing_style|ca_bundle|traffic_limit|kms_key_id|callback_\w+|forbid_overwrite)\b"
)


def size(flag: str, text: str) -> int:
    """
    A number of bytes: ``8MiB`` and ``8M`` are 8 x 1024 x 1024, ``8MB`` is 8,000,000, ``8388608`` is 8,388,608.

    Case does not matter; fractions such as ``1.5G`` are rounded down to whole bytes.

    Raises:
        InvalidInput: it is not a size, or a small number without a unit, which may be meant in either; the message
            names the flag.
    """
    match = _SIZE.fullmatch(text.strip().lower())
    unit = None if match is None else _UNITS.get(match[2])
    if match is None or unit is None:
        raise InvalidInput(f"{flag}: {text!r:.60} is no size; write bytes, or a unit as in 8MiB, 1.5G, 100kB")
    number = Decimal(match[1])
    if number * unit > _SIZE_MAX:
        raise InvalidInput(f"{flag}: {text!r:.60} is too large; there are no sizes above 8 EiB")
    if not match[2] and 0 < number < _PLAIN_BYTES_MIN:
        raise InvalidInput(f"{flag}: {text!r:.60} has no unit: {match[1]}MiB or {match[1]}B? Write it with its unit")
    return int(number * unit)


def exact_size(flag: str, text: str) -> int:
    """A number of bytes that something has: without a unit bytes, however few; see `size`."""
    return whole(flag, text, 0) if text.strip().isdecimal() else size(flag, text)


def crc64(flag: str, text: str) -> int:
    """
    A CRC-64, in decimal as the results have it, or as ``0x`` and up to 16 hexadecimal digits.

    Raises:
        InvalidInput: it is neither; the message names the flag.
    """
    match = re.fullmatch(r"(?:0x([0-9a-f]{1,16})|([0-9]{1,20}))", text.strip().lower(), re.ASCII)
    number = -1 if match is None else int(match[1], 16) if match[1] else int(match[2])
    if not 0 <= number < 1 << 64:
        raise InvalidInput(
            f"{flag}: {text!r:.60} is not a CRC-64; write it in decimal, or as 0x and up to 16 hexadecimal digits"
        )
    return number


def size_or_auto(flag: str, text: str) -> int | Literal["auto"]:
    """A size, or the word ``auto``; see `size`."""
    return "auto" if text.strip().lower() == "auto" else size(flag, text)


def rate(flag: str, text: str) -> int:
    """Bytes a second: a size, with or without ``/s`` after it; see `size`."""
    return size(flag, text.strip().removesuffix("/s"))


def seconds(flag: str, text: str) -> float:
    """
    A span of time: ``7d``, ``12h``, ``30m``, ``90s``, ``500ms``, ``2 weeks``, several in a row as in ``1h30m``, or
    seconds without a unit.

    Raises:
        InvalidInput: it is not a span of time, or above a hundred years; the message names the flag.
    """
    lowered = text.strip().lower()
    if re.fullmatch(_NUMBER, lowered):
        lowered += "s"
    found = _SPANS.findall(lowered) if _SPAN.fullmatch(lowered) else []
    if not found or any(unit not in _SECONDS for _, unit in found):
        raise InvalidInput(f"{flag}: {text!r:.60} is no span of time; write it as in 7d, 12h, 30m, 90s, 1h30m")
    total = sum(Decimal(number) * _SECONDS[unit] for number, unit in found)
    if total > _SECONDS_MAX:
        raise InvalidInput(f"{flag}: {text!r:.60} is too long; give a hundred years or less")
    return float(total)


def age(flag: str, text: str) -> float:
    """
    A span of time that says how old something has to be to be dropped; see `seconds`. It has to have a unit.

    Raises:
        InvalidInput: it is not a span of time, or has no unit; the message names the flag.
    """
    number = text.strip()
    if re.fullmatch(_NUMBER, number):
        raise InvalidInput(f"{flag}: {text!r:.60} has no unit: {number:.20}d or {number:.20}s? Write it with its unit")
    return seconds(flag, text)


def whole(flag: str, text: str, least: int, most: int | None = None) -> int:
    """
    A whole number.

    Raises:
        InvalidInput: it is none, or out of bounds; the message names the flag.
    """
    number = int(text) if re.fullmatch(r"-?[0-9]{1,18}", text.strip(), re.ASCII) else None
    if number is None or number < least or (most is not None and number > most):
        bounds = f"from {least} on" if most is None else f"from {least} to {most}"
        raise InvalidInput(f"{flag}: {text!r:.60} is no whole number {bounds}")
    return number


def one_of(flag: str, text: str, choices: Sequence[str]) -> str:
    """
    One of some words; case does not matter.

    Raises:
        InvalidInput: it is none of them; the message names the flag, and all of them.
    """
    for choice in choices:
        if choice.lower() == text.strip().lower():
            return choice
    raise InvalidInput(f"{flag}: {text!r:.60} is none of {', '.join(choices)}")


def pairs(flag: str, texts: Iterable[str]) -> dict[str, str]:
    """
    Names and values from ``NAME=VALUE``; the value may hold further ``=``, and may be empty.

    Raises:
        InvalidInput: there is no ``=``, no name, or a name comes twice; the message names the flag.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InvalidInput(f"{flag}: {text!r:.60} is not of the form NAME=VALUE")
        if name in found:
            raise InvalidInput(f"{flag}: {name!r:.60} is given twice")
        found[name] = value
    return found


def as_flags(message: str) -> str:
    """A message about settings and options of the library in terms of the flags that they come from."""
    return _SETTING.sub(lambda match: _FLAGS.get(match[0]) or f"--{(match[1] or match[0]).replace('_', '-')}", message)


def advice_as_flags(message: str) -> str:
    """A message that came from the storage, with its advice in terms of flags; see `ADVICE`."""
    for words, flags in ADVICE.items():
        message = message.replace(words, flags)
    return message


def at_most_one(**given: object) -> None:
    """
    Flags of which only one can be meant, by name with ``_`` for ``-``.

    Raises:
        InvalidInput: more than one is there (neither None nor False).
    """
    there = [f"--{name.replace('_', '-')}" for name, value in given.items() if value not in (None, False)]
    if len(there) > 1:
        raise InvalidInput(f"{' and '.join(there)} exclude each other: give one of them")
