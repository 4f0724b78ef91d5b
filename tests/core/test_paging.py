"""Lists in pages: complete, within limits, and never without an end."""

from __future__ import annotations

import pytest

from partwise import BackendError, UploadNotFound
from partwise.paging import ResultPage, list_pages


def pages(*each, following=None):
    """Return a `fetch` of these pages by their number from 0; the last one names `following`."""
    fetched = []

    def fetch(marker):
        fetched.append(marker)
        number = fetched.index(marker) if marker in fetched[:-1] else len(fetched) - 1
        return ResultPage(each[number], number + 1 if number + 1 < len(each) else following)

    fetch.fetched = fetched
    return fetch


def test_the_entries_of_all_pages_are_one_list():
    fetch = pages([1, 2], [3], [4, 5])

    assert list(list_pages(fetch, 0, "a list", 10)) == [1, 2, 3, 4, 5]
    assert fetch.fetched == [0, 1, 2]


def test_a_page_is_fetched_when_it_is_needed_and_the_first_one_at_once():
    fetch = pages([1], [2], [3])

    entries = list_pages(fetch, 0, "a list", 10)
    assert fetch.fetched == [0]
    assert [next(entries), next(entries)] == [1, 2]
    assert fetch.fetched == [0, 1]


def test_the_call_itself_raises_what_the_first_page_raises():
    def fetch(marker):
        raise UploadNotFound("gone")

    with pytest.raises(UploadNotFound):
        list_pages(fetch, 0, "a list", 10)


def test_what_a_later_page_raises_propagates():
    def fetch(marker):
        if marker:
            raise UploadNotFound("gone meanwhile")
        return ResultPage([1], 1)

    entries = list_pages(fetch, 0, "a list", 10)
    assert next(entries) == 1
    with pytest.raises(UploadNotFound, match="gone meanwhile"):
        next(entries)


@pytest.mark.parametrize("following", [2, 1, 0])
def test_a_list_that_does_not_advance_ends_with_an_error(following):
    entries = list_pages(pages([1], [2], [3], following=following), 0, "the parts of 'a'", 10)

    with pytest.raises(BackendError, match=r"the parts of 'a': the list does not advance beyond 2") as raised:
        list(entries)
    assert not raised.value.retryable


def test_markers_without_an_order_may_be_in_any_order():
    tokens = {None: "z", "z": "a", "a": "m", "m": None}
    fetch = lambda token: ResultPage([token], tokens[token])  # noqa: E731

    assert list(list_pages(fetch, None, "a list", 10, ordered=False)) == [None, "z", "a", "m"]


@pytest.mark.parametrize("repeated", ["z", "a", "m"])
def test_a_token_that_was_used_before_ends_the_list_with_an_error(repeated):
    tokens = {"": "z", "z": "a", "a": "m", "m": repeated}
    entries = list_pages(lambda token: ResultPage([token], tokens[token]), "", "a list", 100, ordered=False)

    assert [next(entries) for _ in tokens] == ["", "z", "a", "m"]
    with pytest.raises(BackendError, match="does not advance beyond 'm'"):
        next(entries)


@pytest.mark.parametrize("maximum", [10, 11])
def test_a_list_has_at_most_the_given_number_of_entries(maximum):
    fetch = pages([1] * 5, [2] * 5, [3])

    if maximum == 11:
        assert len(list(list_pages(fetch, 0, "a list", maximum))) == 11
        return
    with pytest.raises(BackendError, match=r"more than 10 entries\. Use a prefix"):
        list(list_pages(fetch, 0, "a list", maximum, hint="Use a prefix"))


@pytest.mark.parametrize("empty", [100, 101])
def test_a_list_has_at_most_a_hundred_empty_pages(empty):
    fetch = pages([1], *[[]] * empty)

    if empty == 100:
        assert list(list_pages(fetch, 0, "a list", 10)) == [1]
        return
    with pytest.raises(BackendError, match="more than 100 empty pages"):
        list(list_pages(fetch, 0, "a list", 10))


def length(last, **arguments):
    """Follow a list of `last` pages of one entry."""
    fetch = lambda n: ResultPage((n,), n + 1 if n < last else None)  # noqa: E731
    return sum(1 for _ in list_pages(fetch, 1, "a list", 100_000, **arguments))


@pytest.mark.parametrize(
    ("page_size", "message"),
    [(1000, "more than 10000 pages of fewer than 1000 entries"), (None, "more than 10000 pages")],
)
def test_a_list_has_at_most_ten_thousand_short_pages(page_size, message):
    assert length(10_000, page_size=page_size) == 10_000
    with pytest.raises(BackendError, match=rf"{message}\. Stop") as raised:
        length(10_001, page_size=page_size, hint="Stop")
    assert not raised.value.retryable


def test_full_pages_are_limited_by_their_entries_only():
    assert length(20_000, page_size=1) == 20_000


def test_a_marker_of_any_length_is_shortened_in_the_message():
    with pytest.raises(BackendError) as raised:
        list(list_pages(lambda marker: ResultPage([1], marker), "m" * 5000, "a list", 10))
    assert len(str(raised.value)) < 300
