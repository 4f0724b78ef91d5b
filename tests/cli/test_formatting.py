"""Values formatted for people."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise.cli import formatting


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
def test_a_size_has_the_largest_unit_that_fits(count: float, expected: str) -> None:
    assert formatting.format_size(count) == expected


def test_a_ratio_has_one_unit() -> None:
    assert formatting.format_ratio(1024, 256 * 1024**2) == "0.0 of 256.0 MiB"
    assert formatting.format_ratio(5, 10, separator="/") == "5/10 B"


def test_a_ratio_without_a_total_is_a_size() -> None:
    assert formatting.format_ratio(2048, None) == "2.0 KiB"


@pytest.mark.parametrize(
    ("done", "total", "expected"), [(0, 10, "0 %"), (999, 1000, "99 %"), (5, 5, "100 %"), (0, 0, "100 %")]
)
def test_a_hundred_percent_means_all(done: int, total: int, expected: str) -> None:
    assert formatting.format_percent(done, total) == expected


def test_a_percentage_without_a_total_is_a_question_mark() -> None:
    assert formatting.format_percent(5, None) == "?"


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
        (9.94, "9.9 s"),
        (10, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h"),
        (86_399, "23 h 59 min"),
        (86_400, "1 d"),
        (90_000, "1 d 1 h"),
    ],
)
def test_a_duration_has_at_most_two_units(seconds: float, expected: str) -> None:
    assert formatting.format_duration(seconds) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0:00"),
        (42, "0:42"),
        (3599, "59:59"),
        (3600, "1:00:00"),
        (7500, "2:05:00"),
        (359_999, "99:59:59"),
        (360_000, "-:--"),
        (None, "-:--"),
        (1e9, "-:--"),
        (float("nan"), "-:--"),
    ],
)
def test_a_timer_has_a_stable_width(seconds: float | None, expected: str) -> None:
    assert formatting.format_timer(seconds) == expected


def test_nouns_are_counted() -> None:
    assert [formatting.pluralize(n, "part") for n in (0, 1, 10_000)] == ["0 parts", "1 part", "10,000 parts"]


def test_a_range_is_shown_by_its_ends() -> None:
    assert (formatting.format_range(7, 7), formatting.format_range(1, 120)) == ("7", "1-120")


def test_collapsed_text_has_no_line_breaks() -> None:
    assert formatting.collapse_lines("a\n  b\r\nc\t") == "a b c"


def test_collapsed_text_keeps_spaces_within_names() -> None:
    assert formatting.collapse_lines("'a  b' is missing\n") == "'a  b' is missing"


@given(st.text(st.characters()))
def test_escaped_text_is_printable(text: str) -> None:
    assert formatting.escape_control(text).isprintable()
    assert formatting.escape_control(formatting.escape_control(text)) == formatting.escape_control(text)


@given(st.text(st.characters(categories=["L", "N", "P", "S"], include_characters=" ")))
def test_printable_text_is_not_changed(text: str) -> None:
    assert formatting.escape_control(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\x1b[2Jc", "a\\nb\\x1b[2Jc"),
        ("\r\t\0\x7f", "\\r\\t\\x00\\x7f"),
        ("\x80\x9b31m\x9f", "\\x80\\x9b31m\\x9f"),
        ("\u202a\u202b\u202c\u202d\u202e", "\\u202a\\u202b\\u202c\\u202d\\u202e"),
        ("\u2066\u2067\u2068\u2069\u200f", "\\u2066\\u2067\\u2068\\u2069\\u200f"),
        ("\u2028\u2029\x85\xa0\ufeff", "\\u2028\\u2029\\x85\\xa0\\ufeff"),
        ("\udc9b\ud83d", "\\udc9b\\ud83d"),
        ("\U000e0041", "\\U000e0041"),
        ("[red]ü 備份 é[/red]", "[red]ü 備份 é[/red]"),
    ],
    ids=ascii,
)
def test_unprintable_characters_are_escaped(text: str, expected: str) -> None:
    assert formatting.escape_control(text) == expected


def test_an_age_in_the_future_is_negative() -> None:
    assert [formatting.format_age(seconds) for seconds in (59, 0.4, -0.9, -7500)] == [
        "59 s",
        "0.4 s",
        "0.0 s",
        "-2 h 5 min",
    ]


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), float("-inf")])
def test_an_infinite_duration_is_a_question_mark(seconds: float) -> None:
    assert (formatting.format_duration(seconds), formatting.format_age(seconds)[-1]) == ("?", "?")


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 1e20, -1e20, 1e300])
def test_an_invalid_date_has_no_text(seconds: float) -> None:
    assert formatting.format_time(seconds) is None
    assert formatting.format_time(0) == "1970-01-01T00:00:00+00:00"


def test_cells_are_aligned() -> None:
    assert formatting.columns([["a", "1", "x"], ["bbb", "22", ""]], right={1}) == ["a     1  x", "bbb  22"]


@pytest.mark.skipif(os.name == "nt", reason="quoting is that of POSIX shells")
@given(st.lists(st.text(st.characters(categories=["L", "N", "P", "S"], include_characters=" "))))
def test_a_command_line_can_be_typed_again(arguments: list[str]) -> None:
    assert shlex.split(formatting.command_line(arguments)) == ["partwise", *arguments]


@pytest.mark.skipif(os.name == "nt", reason="quoting is that of POSIX shells")
@given(st.lists(st.text(st.characters(exclude_characters="\0"))))
def test_a_command_line_is_printable(arguments: list[str]) -> None:
    assert formatting.command_line(arguments).isprintable()


@pytest.mark.skipif(shutil.which("bash") is None or os.name == "nt", reason="bash is not installed")
def test_a_command_line_that_is_not_printable_can_be_pasted_too() -> None:
    arguments = ["\x1b[2J", "a'b\\\n7", "\u202ecod.exe", "\udcff\udc9b1", "ü\t備", "", "$HOME `x`", "\x011"]
    line = formatting.command_line(arguments)
    ran = subprocess.run(
        ["bash", "--norc", "-c", f"partwise() {{ printf '%s\\0' \"$@\"; }}; {line}"], capture_output=True, check=True
    )
    assert ran.stdout.split(b"\0")[:-1] == [os.fsencode(one) for one in arguments]


def test_a_sentence_is_folded_between_words_and_escaped() -> None:
    text = "dropped the upload of a\x1b[2J to s3://bucket/a-very-long/key-that-is/not-broken"
    escaped = text.replace("\x1b", "\\x1b")
    assert formatting.fold(text, None) == [escaped]
    assert formatting.fold(text, 200) == [escaped]
    assert formatting.fold(text, 30) == [
        "dropped the upload of a\\x1b[2J",
        "to",
        "s3://bucket/a-very-long/key-that-is/not-broken",
    ]
