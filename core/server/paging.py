"""Pages of a sorted list: prefix, delimiter, marker and limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from attrs import define

from partwise.server.errors import bad_argument
from partwise.server.messages import ServerRequest

_Entry = TypeVar("_Entry")


@define(frozen=True)
class ListPage(Generic[_Entry]):
    """One page."""

    entries: tuple[_Entry, ...]  # the entries on it
    prefixes: tuple[str, ...]  # the common prefixes on it, each of which counts as one entry
    truncated: bool  # whether more entries follow
    # the last entry or common prefix, after which the next page starts; None on an empty page
    last: _Entry | str | None


def page_of(
    entries: Iterable[_Entry],
    key: Callable[[_Entry], str],
    *,
    prefix: str = "",
    delimiter: str = "",
    marker: str = "",
    limit: int = 1000,
) -> ListPage[_Entry]:
    """
    Return the first page of `entries`.

    Args:
        entries: sorted by key, without those up to the marker.
        key: returns the key of an entry.
        prefix: the prefix of the list; all entries have it already.
        delimiter: keys that contain it after the prefix are grouped under the common prefix that ends with it.
        marker: where this page starts. A common prefix of the previous page is not repeated.
        limit: the maximum number of entries and common prefixes. A page of none is not truncated, so that a client that
            requests page after page comes to an end.
    """
    if not limit:
        return ListPage((), (), False, None)
    listed: list[_Entry] = []
    prefixes: list[str] = []
    last: _Entry | str | None = None
    for entry in entries:
        common = _common_prefix(key(entry), prefix, delimiter)
        if common is not None and (common <= marker or (prefixes and common == prefixes[-1])):
            continue
        if len(listed) + len(prefixes) == limit:
            return ListPage(tuple(listed), tuple(prefixes), True, last)
        if common is None:
            listed.append(entry)
            last = entry
        else:
            prefixes.append(common)
            last = common
    return ListPage(tuple(listed), tuple(prefixes), False, last)


def _common_prefix(key: str, prefix: str, delimiter: str) -> str | None:
    if not delimiter:
        return None
    head, found, _ = key[len(prefix) :].partition(delimiter)
    return prefix + head + found if found else None


def limit_of(request: ServerRequest, name: str, default: int, page_limit: int, accepted: range) -> int:
    """
    Return the limit of a page: that of the request, but no more than `page_limit`.

    Raises:
        ServiceError: InvalidArgument: the request's limit is not an integer in `accepted`.
    """
    text = request.param(name)
    if not text:
        return min(default, page_limit)
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(accepted[-1]))
    if not (is_number and int(text) in accepted):
        raise bad_argument(name, text, f"Argument {name} must be an integer between {accepted[0]} and {accepted[-1]}.")
    return min(int(text), page_limit)
