"""Values in the words of people."""

from __future__ import annotations

import os
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise.cli import wording


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (256 * 1024**2, "256.0 MiB"),
        (3e12, "2.7 TiB"),
    ],
)
def test_amounts_have_the_largest_unit_that_fits(count: float, expected: str) -> None:
    assert wording.amount(count) == expected


def test_a_share_has_one_unit() -> None:
    assert wording.share(1024, 256 * 1024**2) == "0.0 of 256.0 MiB"
    assert wording.share(5, 10, between="/") == "5/10 B"


def test_a_share_of_what_is_not_known_is_an_amount() -> None:
    assert wording.share(2048, None) == "2.0 KiB"


@pytest.mark.parametrize(
    ("done", "total", "expected"), [(0, 10, "0 %"), (999, 1000, "99 %"), (5, 5, "100 %"), (0, 0, "100 %")]
)
def test_a_hundred_per_cent_is_said_only_when_all_is_there(done: int, total: int, expected: str) -> None:
    assert wording.percent(done, total) == expected


def test_a_percentage_of_what_is_not_known_is_a_question_mark() -> None:
    assert wording.percent(5, None) == "?"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.81, "0.8 s"),
        (42.4, "42 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (273_600, "3 d 4 h"),
        (604_800, "7 d"),
        (-1, "0.0 s"),
    ],
)
def test_spans_of_time_have_two_units(seconds: float, expected: str) -> None:
    assert wording.span(seconds) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "0:00"), (42, "0:42"), (7500, "2:05:00"), (None, "-:--"), (1e9, "-:--")]
)
def test_timers_keep_their_form(seconds: float | None, expected: str) -> None:
    assert wording.timer(seconds) == expected


def test_nouns_are_counted() -> None:
    assert [wording.count(n, "part") for n in (0, 1, 10_000)] == ["0 parts", "1 part", "10,000 parts"]


def test_runs_of_numbers_are_told_by_their_ends() -> None:
    assert (wording.numbers(7, 7), wording.numbers(1, 120)) == ("7", "1-120")


@given(st.text(min_size=1, max_size=80), st.integers(4, 60))
def test_a_shortened_text_fits_and_keeps_both_ends(text: str, width: int) -> None:
    short = wording.shortened(text, width)
    assert len(short) <= max(width, min(len(text), width))
    assert short[-1] == text[-1]


def test_one_line_has_no_breaks() -> None:
    assert wording.one_line("a\n  b\r\nc\t") == "a b c"


def test_one_line_leaves_spaces_that_may_be_part_of_a_name() -> None:
    assert wording.one_line("'a  b' is missing\n") == "'a  b' is missing"


@given(st.text())
def test_what_is_shown_neither_breaks_a_line_nor_gives_orders(text: str) -> None:
    assert all(sign.isprintable() or "\ud800" <= sign <= "\udfff" for sign in wording.shown(text))


@given(st.text(st.characters(categories=["L", "N", "P", "S"], include_characters=" ")))
def test_letters_and_signs_are_shown_as_they_are(text: str) -> None:
    assert wording.shown(text) == text


def test_control_characters_are_spelled_out() -> None:
    assert wording.shown("a\nb\x1b[2Jc\u202e") == "a\\nb\\x1b[2Jc\\u202e"


def test_cells_stand_one_under_the_other() -> None:
    assert wording.columns([["a", "1", "x"], ["bbb", "22", ""]], right={1}) == ["a     1  x", "bbb  22"]


@pytest.mark.skipif(os.name == "nt", reason="quoting is that of POSIX shells")
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_a_command_line_can_be_typed_again(arguments: list[str]) -> None:
    assert shlex.split(wording.command_line(arguments)) == ["partwise", *arguments]
