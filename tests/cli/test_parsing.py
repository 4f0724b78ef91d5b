"""Values of the command line: sizes, rates, durations, integers, pairs, URLs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise.cli import parsing
from partwise.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1024", 1024),
        ("512B", 512),
        ("8MiB", 8 * 1024 * 1024),
        ("8M", 8 * 1024 * 1024),
        ("8Mi", 8 * 1024 * 1024),
        ("8MB", 8_000_000),
        ("1.5GiB", 1536 * 1024 * 1024),
        ("100kB", 100_000),
        ("100K", 102_400),
        ("1.5G", 1536 * 1024 * 1024),
        ("2 GiB", 2 * 1024**3),
        ("1TB", 10**12),
        ("1TiB", 1024**4),
        ("0.3B", 0),
        (" 8mib ", 8 * 1024 * 1024),
    ],
)
def test_a_size_is_parsed(text: str, expected: int) -> None:
    assert parsing.size(text) == expected


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ("b", 1),
        ("k ki kib", 1024),
        ("m mi mib", 1_048_576),
        ("g gi gib", 1_073_741_824),
        ("t ti tib", 1_099_511_627_776),
        ("kb", 1000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("tb", 1_000_000_000_000),
    ],
)
def test_each_unit_of_size_has_its_value(units: str, expected: int) -> None:
    assert {parsing.size(f"1{unit}") for unit in units.split()} == {expected}


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ("ms", 0.001),
        ("s sec secs second seconds", 1),
        ("m min mins minute minutes", 60),
        ("h hr hrs hour hours", 3600),
        ("d day days", 86_400),
        ("w week weeks", 604_800),
    ],
)
def test_each_unit_of_time_has_its_value(units: str, expected: float) -> None:
    assert {parsing.duration(f"1{unit}") for unit in units.split()} == {expected}


@pytest.mark.parametrize("text", ["", "MiB", "8MiBs", "-1", "1e6", "8 M i B", "٨", "1.", "0x10", "8,5M", "nan"])
def test_an_invalid_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a valid size"):
        parsing.size(text)


@given(st.integers(1024, 2**60))
def test_a_number_of_bytes_needs_no_unit(number: int) -> None:
    assert parsing.size(str(number)) == number


@given(st.integers(0, 2**63 - 1))
def test_any_number_of_bytes_can_have_a_unit(number: int) -> None:
    assert parsing.size(f"{number}B") == number


@pytest.mark.parametrize("text", ["8", "1023", "20", "0.5"])
def test_a_small_size_without_a_unit_is_refused_since_it_may_be_meant_in_mib(text: str) -> None:
    with pytest.raises(InvalidInput, match=rf"'{text}' has no unit. Write {text}MiB or {text}B$"):
        parsing.size(text)


def test_a_small_rate_without_a_unit_is_refused() -> None:
    with pytest.raises(InvalidInput, match="has no unit"):
        parsing.rate("20/s")


@pytest.mark.parametrize("text", ["9223372036854775808", "8EiB", "9" * 5000, "9" * 5000 + "TiB"], ids=len)
def test_a_size_above_the_maximum_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"is too large|is not a valid size"):
        parsing.size(text)


def test_a_part_size_may_be_auto() -> None:
    assert parsing.part_size("auto") == "auto"
    assert parsing.part_size("8M") == 8 * 1024 * 1024


def test_a_rate_may_end_in_per_second() -> None:
    assert parsing.rate("20MiB/s") == parsing.rate("20MiB")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("45s", 45),
        ("30m", 1800),
        ("12h", 43_200),
        ("7d", 604_800),
        ("1h30m", 5400),
        ("90", 90),
        ("0.5", 0.5),
        ("0s", 0),
        ("90s", 90),
        ("500ms", 0.5),
        ("1.5h", 5400),
        ("7 days", 604_800),
        ("2w", 1_209_600),
        ("1h 30m", 5400),
        ("5 min", 300),
        ("1 Hour", 3600),
    ],
)
def test_a_duration_is_parsed(text: str, expected: float) -> None:
    assert parsing.duration(text) == expected


@pytest.mark.parametrize("text", ["7", "0", " 30 ", "0.5", "9" * 5000], ids=len)
def test_an_age_needs_a_unit(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"has no unit. Write [0-9.]+d or [0-9.]+s$"):
        parsing.age(text)


def test_an_age_with_a_unit_is_a_duration() -> None:
    assert parsing.age("7d") == 7 * 86_400


def test_a_duration_has_a_maximum_that_clocks_and_sockets_can_handle() -> None:
    assert parsing.duration("36500d") == 100 * 365 * 86_400
    for text in ("36500d 1s", "9" * 400 + "d", "9" * 5000):
        with pytest.raises(InvalidInput, match="is too long"):
            parsing.duration(text)
    assert (parsing.patience("30d"), parsing.patience("0")) == (30 * 86_400, 0)
    for text in ("30d 1s", "36501d", "9" * 30):
        with pytest.raises(InvalidInput, match=f"'{text}' is too long; the maximum is 30 days"):
            parsing.patience(text)


@pytest.mark.parametrize("text", ["", "d", "-7d", "7y", "1h x", "7 8", "7d-1h", "infinity", "1e3s"])
def test_an_invalid_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a duration"):
        parsing.duration(text)


@pytest.mark.parametrize("parse", [parsing.positive_size, parsing.part_size, parsing.rate, parsing.positive_duration])
def test_zero_is_refused_where_it_makes_no_sense(parse: Callable[[str], object]) -> None:
    with pytest.raises(InvalidInput, match="must be"):
        parse("0")


@pytest.mark.parametrize(
    ("text", "expected"), [("a=1", ("a", "1")), ("b=", ("b", "")), ("c=x=y", ("c", "x=y"))], ids=repr
)
def test_a_pair_is_split_at_the_first_equals_sign(text: str, expected: tuple[str, str]) -> None:
    assert parsing.pair(text) == expected


@pytest.mark.parametrize("text", ["a", "=1", ""])
def test_a_pair_without_a_name_or_an_equals_sign_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="NAME=VALUE"):
        parsing.pair(text)


def test_flags_that_exclude_each_other_are_named() -> None:
    with pytest.raises(InvalidInput, match="--no-resume and --require-resume exclude"):
        parsing.require_at_most_one(no_resume=True, dry_run=False, require_resume=True)


@pytest.mark.parametrize(("text", "expected"), [("1", 1), (" 17 ", 17), ("65535", 65535)])
def test_an_integer_is_parsed(text: str, expected: int) -> None:
    assert parsing.integer(text, 1, 65535) == expected


@pytest.mark.parametrize("text", ["", "0", "65536", "-1", "1.5", "1e3", "many", "٣", "9" * 40])
def test_an_integer_out_of_bounds_is_refused_with_the_bounds(text: str) -> None:
    with pytest.raises(InvalidInput, match="must be an integer from 1 to 65535, not "):
        parsing.integer(text, 1, 65535)


def test_an_integer_with_too_many_digits_is_refused_as_too_large() -> None:
    assert parsing.integer("9" * 18, 1) == 10**18 - 1
    for text in ("9" * 19, "9" * 5000):
        with pytest.raises(InvalidInput, match=f"must be at most {10**18 - 1}, not '999"):
            parsing.integer(text, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), (" 5 ", 5), ("0" * 10 + "5", 5), ("9223372036854775807", 2**63 - 1), ("8MiB", 8 << 20)],
)
def test_the_size_of_a_source_is_in_bytes_without_a_unit(text: str, expected: int) -> None:
    assert parsing.exact_size(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [("9223372036854775808", "too large"), ("9" * 5000, "too large"), ("-1", "not a valid size"), ("٣", "not a valid")],
    ids=["above", "digits", "negative", "arabic"],
)
def test_what_can_not_be_the_size_of_a_source_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        parsing.exact_size(text)


@pytest.mark.parametrize("text", ["auto", "AUTO", " Auto "])
def test_auto_may_have_any_case(text: str) -> None:
    assert parsing.concurrency(text) == parsing.part_size(text) == "auto"


@pytest.mark.parametrize(("minimum", "words"), [(1, "a positive integer"), (0, "an integer of at least 0")])
def test_an_integer_without_a_maximum_is_refused_with_its_minimum(minimum: int, words: str) -> None:
    with pytest.raises(InvalidInput, match=f"must be {words}, not '-1'"):
        parsing.integer("-1", minimum)
