"""
Mask secrets in what a server sends back.

Parts of a response end up in errors, logs and results. A secret is recognised as it is, in the forms in which URLs,
base64 and hexadecimal write it, in any letter case, and in part: a response may be truncated, and half of a secret is
worth most of it. A secret that is shorter than the shortest recognisable part is masked only as a whole, in the given
letter case. Pure.
"""

from __future__ import annotations

import base64
import html
import re
import string
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

MASK = "***"

#: No service has shorter secrets, and a shorter text would occur in any message.
_SECRET_LENGTH_MIN = 4

#: How many consecutive characters a text and a secret must have in common to be masked.
_RUN = 12

#: Most texts contain no secret, which pieces of this length show. Every run of a form contains one of its pieces that
#: begin at multiples of the step.
_PIECE = 6
_STEP = _RUN - _PIECE + 1

#: Characters of a text whose pieces are kept at once. Those of a text of megabytes take a hundred times its memory.
_INDEXED_MAX = 64 * 1024

# ASCII only, so that the length of a text never changes.
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)

_TOKEN_LINE = re.compile(r"(security-token[:=])[^\s&]*", re.IGNORECASE)


def redact(text: str, secrets: Iterable[str]) -> str:
    """Replace each secret, and each recognisable part of one, by a mask."""
    lower = text.translate(_LOWER)
    pieces = _pieces_of(lower) if len(lower) <= _INDEXED_MAX else None
    spans = sorted(
        span
        for secret in secrets
        if len(secret) >= _SECRET_LENGTH_MIN
        for span in (*_runs_in(lower, pieces, secret), *_short_forms_in(text, secret))
    )
    if spans:
        kept, position = [], 0
        for start, end in spans:
            if start >= position:
                kept += [text[position:start], MASK]
            position = max(position, end)
        text = "".join([*kept, text[position:]])
    return _TOKEN_LINE.sub(rf"\1{MASK}", text) if "ty-to" in lower else text


def contains(data: bytes, secrets: Iterable[str]) -> bool:
    """
    Return whether `data` contains a whole secret in one of its forms.

    The data may be megabytes.
    """
    return any(form in data for secret in secrets if len(secret) >= _SECRET_LENGTH_MIN for form in _whole_forms(secret))


def _pieces_of(lower: str) -> set[str]:
    return {lower[at : at + _PIECE] for at in range(len(lower) - _PIECE + 1)}


def _runs_in(lower: str, pieces: set[str] | None, secret: str) -> Iterator[tuple[int, int]]:
    """
    Yield the start and the end of each occurrence of a part of a secret.

    Args:
        lower: the text, in lower case.
        pieces: those of the text; None: the text is searched for each piece of the secret instead.
        secret: what to look for.
    """
    wanted = _patterns(secret).pieces
    if not any(piece in lower for piece in wanted) if pieces is None else wanted.isdisjoint(pieces):
        return
    runs = _runs(secret)
    start = 0
    while start <= len(lower) - _RUN:
        end = start + _RUN
        if lower[start:end] not in runs:
            start += 1
            continue
        while lower[end - _RUN + 1 : end + 1] in runs:
            end += 1
        yield start, end
        start = end


def _short_forms_in(text: str, secret: str) -> Iterator[tuple[int, int]]:
    """Yield the places of the forms that are shorter than a run."""
    for form in _patterns(secret).short:
        start = text.find(form)
        while start >= 0:
            yield start, start + len(form)
            start = text.find(form, start + 1)


class _Patterns(NamedTuple):
    """
    What to look for.

    Args:
        short: the forms shorter than a run.
        pieces: of all longer forms, in lower case: a text with none of them contains no run.
    """

    short: tuple[str, ...]
    pieces: frozenset[str]


# Each failed request adds its own signature, which is looked up once; the other secrets stay in the cache.
@lru_cache(maxsize=16)
def _patterns(secret: str) -> _Patterns:
    forms = set(_forms(secret))
    short = tuple(sorted(form for form in forms if _SECRET_LENGTH_MIN <= len(form) < _RUN))
    long = {form.translate(_LOWER) for form in forms if len(form) >= _RUN}
    return _Patterns(
        short,
        frozenset(form[at : at + _PIECE] for form in long for at in range(0, len(form) - _PIECE + 1, _STEP)),
    )


@lru_cache(maxsize=16)
def _runs(secret: str) -> frozenset[str]:
    """Return the runs of all forms, in lower case."""
    lower = {form.translate(_LOWER) for form in _forms(secret)}
    return frozenset(form[at : at + _RUN] for form in lower for at in range(len(form) - _RUN + 1))


@lru_cache(maxsize=16)
def _whole_forms(secret: str) -> tuple[bytes, ...]:
    return tuple(
        {form.encode("utf-8", "surrogateescape") for form in _forms(secret) if len(form) >= _SECRET_LENGTH_MIN}
    )


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret in the forms in which servers and libraries write one."""
    quoted, in_path = quote(secret, safe=""), quote(secret, safe="/")
    yield from (secret, quoted, in_path, quote(quoted, safe=""), html.escape(secret), secret.replace("/", "\\/"))
    data = secret.encode("utf-8", "surrogateescape")
    yield from (data.hex(), data.hex(" "), data.hex(":"))
    for shift in range(3):
        # Inside a longer text, the characters at both ends depend on what precedes and follows the secret.
        encoded = base64.b64encode(bytes(shift) + data).decode()
        inner = encoded[(0, 2, 3)[shift] : len(encoded) - (0, 3, 2)[(len(data) + shift) % 3]]
        yield from (inner, inner.replace("+", "-").replace("/", "_"))
