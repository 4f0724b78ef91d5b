"""
Keep secrets out of what servers send back: whatever an answer repeats ends up in errors, logs and results.

A secret is looked for as it is, as URLs, base64 and hexadecimal write it, in any case of letters, and in parts: an
answer may be cut, and half of a secret is worth most of it. One that is shorter than a recognisable part is looked for
as a whole, and as it is written. Pure.
"""

from __future__ import annotations

import base64
import html
import re
import string
from collections.abc import Iterable, Iterator
from functools import lru_cache
from urllib.parse import quote

MASK = "***"

#: A text that is shorter is not a secret of the service, and would be found in any message.
_SECRET_LENGTH_MIN = 4

#: Characters in a row that a text and a secret must have in common to be masked.
_RUN = 12

# Of ASCII alone, so that no text changes its length.
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)

_TOKEN_LINE = re.compile(r"(security-token[:=])[^\s&]*", re.IGNORECASE)


def redacted(text: str, secrets: Iterable[str]) -> str:
    """The text, with a mask in place of each secret and of each part of one that is recognisable."""
    spans = sorted(span for secret in secrets if len(secret) >= _SECRET_LENGTH_MIN for span in _spans(text, secret))
    kept, at = [], 0
    for begin, end in spans:
        if begin >= at:
            kept += [text[at:begin], MASK]
        at = max(at, end)
    return _TOKEN_LINE.sub(rf"\1{MASK}", "".join([*kept, text[at:]]))


def contains(data: bytes, secrets: Iterable[str]) -> bool:
    """Whether a whole secret is in what may be megabytes of text, in one of its forms."""
    return any(form in data for secret in secrets if len(secret) >= _SECRET_LENGTH_MIN for form in _whole_forms(secret))


def _spans(text: str, secret: str) -> Iterator[tuple[int, int]]:
    """Where a secret is found, or a part of it: begin and end."""
    short, runs = _sought(secret)
    lower = text.translate(_LOWER)
    begin = 0
    while begin <= len(lower) - _RUN:
        end = begin + _RUN
        if lower[begin:end] not in runs:
            begin += 1
            continue
        while lower[end - _RUN + 1 : end + 1] in runs:
            end += 1
        yield begin, end
        begin = end
    for form in short:
        begin = text.find(form)
        while begin >= 0:
            yield begin, begin + len(form)
            begin = text.find(form, begin + 1)


# Each failed request asks for its own signature, too, once; the others stay.
@lru_cache(maxsize=16)
def _sought(secret: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """What to look for: forms that are shorter than a run, and the runs of all others, in lower case."""
    forms = set(_forms(secret))
    lower = {form.translate(_LOWER) for form in forms}
    runs = {form[at : at + _RUN] for form in lower for at in range(len(form) - _RUN + 1)}
    return tuple(sorted(form for form in forms if _SECRET_LENGTH_MIN <= len(form) < _RUN)), frozenset(runs)


@lru_cache(maxsize=16)
def _whole_forms(secret: str) -> tuple[bytes, ...]:
    return tuple(
        {form.encode("utf-8", "surrogateescape") for form in _forms(secret) if len(form) >= _SECRET_LENGTH_MIN}
    )


def _forms(secret: str) -> Iterator[str]:
    """A secret in the ways in which servers and libraries write one."""
    quoted, in_path = quote(secret, safe=""), quote(secret, safe="/")
    yield from (secret, quoted, in_path, quote(quoted, safe=""), html.escape(secret), secret.replace("/", "\\/"))
    data = secret.encode("utf-8", "surrogateescape")
    yield from (data.hex(), data.hex(" "), data.hex(":"))
    for shift in range(3):
        # Somewhere in a longer text: the characters at its ends depend on what stands before and after it.
        encoded = base64.b64encode(bytes(shift) + data).decode()
        inner = encoded[(0, 2, 3)[shift] : len(encoded) - (0, 3, 2)[(len(data) + shift) % 3]]
        yield from (inner, inner.replace("+", "-").replace("/", "_"))
