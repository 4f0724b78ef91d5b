"""Pages of a sorted list: prefix, delimiter, marker, limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from attrs import define

from partwise.server.messages import Request
from partwise.server.oss.errors import bad_argument

_Entry = TypeVar("_Entry")


@define(frozen=True)
class Page(Generic[_Entry]):
    """
    One page.

    Args:
        entries: what is on it.
        prefixes: what was rolled up into one line each; a line counts as an entry.
        truncated: whether more follows.
        last: the entry or the prefix that stands last, from which the next page starts; None on an empty page.
    """

    entries: tuple[_Entry, ...]
    prefixes: tuple[str, ...]
    truncated: bool
    last: _Entry | str | None


def page_of(
    entries: Iterable[_Entry],
    key: Callable[[_Entry], str],
    *,
    prefix: str = "",
    delimiter: str = "",
    marker: str = "",
    limit: int = 1000,
) -> Page[_Entry]:
    """
    The first page of `entries`.

    Args:
        entries: sorted, and only those that stand after the marker.
        key: the key of an entry.
        prefix: which keys to list; all entries have it already.
        delimiter: keys that have it after the prefix are rolled up into what stands before it, itself included.
        marker: where this page starts; a prefix that was rolled up on the page before is not repeated.
        limit: the most lines on a page.
    """
    listed: list[_Entry] = []
    prefixes: list[str] = []
    last: _Entry | str | None = None
    for entry in entries:
        rolled = _rolled_up(key(entry), prefix, delimiter)
        if rolled is not None and (rolled <= marker or (prefixes and rolled == prefixes[-1])):
            continue
        if len(listed) + len(prefixes) == limit:
            return Page(tuple(listed), tuple(prefixes), True, last)
        if rolled is None:
            listed.append(entry)
            last = entry
        else:
            prefixes.append(rolled)
            last = rolled
    return Page(tuple(listed), tuple(prefixes), False, last)


def _rolled_up(key: str, prefix: str, delimiter: str) -> str | None:
    if not delimiter:
        return None
    head, found, _ = key[len(prefix) :].partition(delimiter)
    return prefix + head + found if found else None


def limit_of(request: Request, name: str, default: int, page_limit: int) -> int:
    """
    How many entries a page may have: what the request asks for, and no more than the server gives.

    Raises:
        OSSError: InvalidArgument: it asks for none, for more than 1000, or for no number.
    """
    text = request.param(name)
    if not text:
        return min(default, page_limit)
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= 1000):
        raise bad_argument(name, text, f"Argument {name} must be an integer between 1 and 1000.")
    return min(int(text), page_limit)
