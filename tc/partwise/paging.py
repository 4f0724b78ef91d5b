"""
Follow the pages of a list to its end, within limits.

A storage that never ends a list, repeats a page or returns only empty pages must not keep a program busy for ever, nor
fill its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from attrs import define

from partwise.errors import BackendError

__all__ = ["ResultPage", "list_pages"]

#: Pages without entries in one list, although the storage announces more.
_EMPTY_PAGES_MAX = 100

#: Pages of one list with fewer entries than requested. Otherwise a server could cause one request per entry. As many as
#: an upload can have parts, for servers that return them one by one.
_SHORT_PAGES_MAX = 10_000

Entry = TypeVar("Entry")
Marker = TypeVar("Marker")


@define(frozen=True)
class ResultPage(Generic[Entry, Marker]):
    """
    One page of a list.

    Args:
        entries: what is on this page.
        next_marker: where the next page starts, None on the last page. A number, a key or a token, as the storage has
            it; it must be hashable.
    """

    entries: Sequence[Entry]
    next_marker: Marker | None


def list_pages(
    fetch: Callable[[Marker], ResultPage[Entry, Marker]],
    start: Marker,
    operation: str,
    maximum: int,
    *,
    page_size: int | None = None,
    ordered: bool = True,
    hint: str = "",
) -> Iterator[Entry]:
    """
    Return an iterator over all entries, which fetches each page when it needs it.

    The first page is fetched now, so that the call itself raises what is wrong with it, such as UploadNotFound. What
    `fetch` raises propagates, also while iterating. There are at most 100 pages without entries, and 10,000 with fewer
    than `page_size`.

    Args:
        fetch: makes the request for the page at a marker, once; never retry in it.
        start: the marker of the first page.
        operation: what is listed, for messages, such as ``"the parts of 'a'"``.
        maximum: how many entries there can be. The caller may keep them all.
        page_size: how many entries each page but the last was asked for; None counts every page as a short one.
        ordered: whether markers only grow, as part numbers and keys do. Without an order, as for opaque tokens, a
            marker that was used before is refused, so they are all kept until the end of the list.
        hint: what to do about too many entries or pages.

    Raises:
        BackendError: there are more than `maximum` entries, or too many pages, or the list does not advance; also while
            iterating. Not retryable.
    """
    first = fetch(start)

    def entries(page: ResultPage[Entry, Marker], marker: Marker) -> Iterator[Entry]:
        count = empty = short = 0
        used: set[Any] = set()
        while True:
            count += len(page.entries)
            empty += not page.entries
            short += page_size is None or len(page.entries) < page_size
            if count > maximum:
                raise BackendError(f"{operation}: the list has more than {maximum} entries", hint=hint)
            if empty > _EMPTY_PAGES_MAX:
                raise BackendError(f"{operation}: the list has more than {_EMPTY_PAGES_MAX} empty pages", hint=hint)
            if short > _SHORT_PAGES_MAX:
                few = "" if page_size is None else f" of fewer than {page_size} entries"
                raise BackendError(f"{operation}: the list has more than {_SHORT_PAGES_MAX} pages{few}", hint=hint)
            yield from page.entries
            if page.next_marker is None:
                return
            if not ordered:
                used.add(marker)
            if page.next_marker in used if not ordered else _is_at_or_before(page.next_marker, marker):
                raise BackendError(f"{operation}: the list does not advance beyond {marker!r:.200}")
            marker = page.next_marker
            page = fetch(marker)

    return entries(first, start)


def _is_at_or_before(marker: Any, previous: Any) -> bool:
    return bool(marker <= previous)
