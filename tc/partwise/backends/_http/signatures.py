"""
What the signatures of several services have in common. Pure.

A signature is a function of the credentials, the request and the time. Times are in seconds since 1970.
"""

from __future__ import annotations

import hmac
import time as _time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import quote

from attrs import define

#: (name, value) pairs, not encoded; with a value of None or "" only the name is sent.
Query: TypeAlias = Sequence[tuple[str, str | None]]

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"


@define(frozen=True)
class PreparedSignature:
    """Everything for a signature but the signature itself."""

    headers: dict[str, str]  # the headers to add to the request, except Authorization
    authorization: str  # the Authorization header up to the signature, which is its end
    text: str
    sign: Callable[[str], str]  # returns the signature of a text

    def signed(self) -> dict[str, str]:
        """Return the headers to add to the request, Authorization included."""
        return {**self.headers, "Authorization": self.authorization + self.sign(self.text)}


# --- encoding --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def encoded_key(key: str) -> str:
    """Return a key as in a path: percent-encoded UTF-8, with unencoded slashes."""
    return quote(key, safe="/")


def encoded_query(query: Query) -> str:
    """
    Return a query as it is sent, and as signatures need it.

    It is percent-encoded and sorted, without "=" where there is no value.
    """
    return _joined(tuple(query))


# Each query is encoded twice in a row: to be signed, and to be sent.
@lru_cache(maxsize=64)
def _joined(query: tuple[tuple[str, str | None], ...]) -> str:
    pairs = sorted([(_encoded(name), _encoded(value or "")) for name, value in query])
    return "&".join([f"{name}={value}" if value else name for name, value in pairs])


def _encoded(text: str) -> str:
    # A shortcut for nearly all values: names, numbers, ids.
    return text if text.isalnum() and text.isascii() else quote(text, safe="")


@lru_cache(maxsize=8)
def basic_time(seconds: int) -> str:
    """Return a time in the format of signatures: ``20250309T080706Z``."""
    return _time.strftime("%Y%m%dT%H%M%SZ", _time.gmtime(seconds))


# A derived key is valid for a day, and deriving it takes several times as long as a signature. Few keys are in use at a
# time: more than one for programs that write to several regions, and at midnight.
@lru_cache(maxsize=32)
def keyed_hmac(secret: str, *links: str) -> hmac.HMAC:
    """
    Return the HMAC of an empty text under a derived key, to be copied.

    Initialising it with the key takes as long as signing. The key is derived from the secret by a chain of HMACs, of a
    day, a region, a product and so on.
    """
    key = secret.encode()
    for link in links:
        key = hmac.digest(key, link.encode(), "sha256")
    return hmac.new(key, digestmod="sha256")
