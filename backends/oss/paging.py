"""Lists that OSS returns in pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from partwise.backends.oss.xml import Entry, Marker, ResultPage
from partwise.errors import BackendError

#: Pages without entries in one list, although OSS announces more.
_EMPTY_PAGES_MAX = 100

#: Pages of one list with fewer entries than requested. Otherwise a server could cause one request per entry. As many as
#: an upload can have parts, for servers that return them one by one.
_SHORT_PAGES_MAX = 10_000


def list_pages(
    fetch: Callable[[Marker], ResultPage[Entry, Marker]],
    start: Marker,
    operation: str,
    maximum: int,
    *,
    page_size: int,
    hint: str = "",
) -> Iterator[Entry]:
    """
    Return an iterator over all entries, which fetches each page when it needs it.

    The first page is fetched now. The operation and the hint are for messages.

    Raises:
        BackendError: there are more than `maximum` entries, or too many pages, or the list does not advance; also while
            iterating.
    """
    first = fetch(start)

    def entries(page: ResultPage[Entry, Marker], marker: Marker) -> Iterator[Entry]:
        count = empty = short = 0
        while True:
            count += len(page.entries)
            empty += not page.entries
            short += len(page.entries) < page_size
            if count > maximum:
                raise BackendError(f"{operation}: the list has more than {maximum} entries", hint=hint)
            if empty > _EMPTY_PAGES_MAX:
                raise BackendError(f"{operation}: the list has more than {_EMPTY_PAGES_MAX} empty pages", hint=hint)
            if short > _SHORT_PAGES_MAX:
                raise BackendError(
                    f"{operation}: the list has more than {_SHORT_PAGES_MAX} pages of fewer than {page_size} entries",
                    hint=hint,
                )
            yield from page.entries
            if page.next_marker is None:
                return
            if page.next_marker <= marker:
                raise BackendError(f"{operation}: the list does not advance beyond {marker!r:.200}")
            marker = page.next_marker
            page = fetch(marker)

    return entries(first, start)
