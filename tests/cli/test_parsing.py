"""What people write, as values."""

from __future__ import annotations

import inspect
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise import sources
from partwise.backends.oss import backend, credentials, transport
from partwise.backends.oss import errors as oss_errors
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
def test_sizes_are_read_in_the_units_that_people_write(text: str, expected: int) -> None:
    assert parsing.size("--x", text) == expected


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
def test_each_unit_of_size_is_worth_what_it_says(units: str, expected: int) -> None:
    assert {parsing.size("--x", f"1{unit}") for unit in units.split()} == {expected}


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
def test_each_unit_of_time_is_worth_what_it_says(units: str, expected: float) -> None:
    assert {parsing.seconds("--x", f"1{unit}") for unit in units.split()} == {expected}


@pytest.mark.parametrize("text", ["", "MiB", "8MiBs", "-1", "1e6", "8 M i B", "٨", "1.", "0x10", "8,5M", "nan"])
def test_what_is_no_size_is_refused_by_the_name_of_its_flag(text: str) -> None:
    with pytest.raises(InvalidInput, match="--part-size"):
        parsing.size("--part-size", text)


@given(st.integers(1024, 2**60))
def test_a_number_of_bytes_can_be_written_plainly(number: int) -> None:
    assert parsing.size("--x", str(number)) == number


@given(st.integers(0, 2**63 - 1))
def test_any_number_of_bytes_can_be_written_with_its_unit(number: int) -> None:
    assert parsing.size("--x", f"{number}B") == number


@pytest.mark.parametrize("text", ["8", "1023", "20", "0.5"])
def test_a_small_size_without_a_unit_is_refused_since_it_may_be_meant_in_mebibytes(text: str) -> None:
    with pytest.raises(InvalidInput, match=rf"--bandwidth-limit: '{text}' has no unit: {text}MiB or {text}B\?"):
        parsing.size("--bandwidth-limit", text)


def test_a_rate_without_a_unit_is_refused_too() -> None:
    with pytest.raises(InvalidInput, match="has no unit"):
        parsing.rate("--bandwidth-limit", "20/s")


@pytest.mark.parametrize("text", ["9223372036854775808", "8EiB", "9" * 5000, "9" * 5000 + "TiB"], ids=len)
def test_a_size_beyond_all_storages_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="--part-size"):
        parsing.size("--part-size", text)


def test_a_part_size_may_be_automatic() -> None:
    assert parsing.size_or_auto("--part-size", "auto") == "auto"
    assert parsing.size_or_auto("--part-size", "8M") == 8 * 1024 * 1024


def test_a_rate_may_say_that_it_is_one() -> None:
    assert parsing.rate("--bandwidth-limit", "20MiB/s") == parsing.rate("--bandwidth-limit", "20MiB")


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
def test_spans_of_time_are_read(text: str, expected: float) -> None:
    assert parsing.seconds("--x", text) == expected


@pytest.mark.parametrize("text", ["7", "0", " 30 ", "0.5", "9" * 5000], ids=len)
def test_an_age_needs_a_unit(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"--older-than: .* has no unit: [0-9.]+d or [0-9.]+s\? Write it"):
        parsing.age("--older-than", text)


def test_an_age_with_a_unit_is_a_span_of_time() -> None:
    assert parsing.age("--older-than", "7d") == 7 * 86_400


def test_a_span_of_time_has_a_limit_that_clocks_and_sockets_can_bear() -> None:
    assert parsing.seconds("--x", "36500d") == 100 * 365 * 86_400
    for text in ("36500d 1s", "9" * 400 + "d", "9" * 5000):
        with pytest.raises(InvalidInput, match=r"--timeout: .* is too long"):
            parsing.seconds("--timeout", text)


@pytest.mark.parametrize("text", ["", "d", "-7d", "7y", "1h x", "7 8", "7d-1h", "infinity", "1e3s"])
def test_what_is_no_span_of_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="--older-than"):
        parsing.seconds("--older-than", text)


def test_pairs_keep_all_that_follows_the_first_equals_sign() -> None:
    assert parsing.pairs("--meta", ["a=1", "b=", "c=x=y"]) == {"a": "1", "b": "", "c": "x=y"}


@pytest.mark.parametrize("texts", [["a"], ["=1"], [""], ["a=1", "a=2"]])
def test_what_is_no_pair_or_comes_twice_is_refused(texts: list[str]) -> None:
    with pytest.raises(InvalidInput, match="--meta"):
        parsing.pairs("--meta", texts)


def test_flags_that_exclude_each_other_are_named() -> None:
    with pytest.raises(InvalidInput, match="--no-resume and --require-resume exclude"):
        parsing.at_most_one(no_resume=True, dry_run=False, require_resume=True)


def test_a_message_about_a_field_becomes_one_about_its_flag() -> None:
    assert parsing.as_flags("TransferConfig.part_size is 0") == "--part-size is 0"
    assert parsing.as_flags("signature_version is v4 or v1") == "--signature-version is v4 or v1"
    assert parsing.as_flags("x-oss-object-acl is one of a, b") == "--acl is one of a, b"
    assert parsing.as_flags("a size of the store") == "a size of the store"

    assert "credentials=" not in parsing.as_flags(credentials.HOW_TO_GIVE_CREDENTIALS)


def test_the_advice_of_the_library_is_given_in_flags() -> None:
    """Each of these words stands in the library as it does here, and none of them names what is no flag."""
    texts = map(inspect.getsource, (backend, oss_errors, transport, sources))
    library = "".join(re.sub(r'"\n +f?"', "", source) for source in texts)
    for words, flags in parsing.ADVICE.items():
        assert words in library, "the library says it in other words now"
        assert parsing.advice_as_flags(f"a/region=eu/b: {words}") == f"a/region=eu/b: {flags}"
        assert "=" not in flags


@pytest.mark.parametrize(("text", "expected"), [("1", 1), (" 17 ", 17), ("65535", 65535)])
def test_whole_numbers_are_read(text: str, expected: int) -> None:
    assert parsing.whole("--x", text, 1, 65535) == expected


@pytest.mark.parametrize("text", ["", "0", "65536", "-1", "1.5", "1e3", "many", "٣", "9" * 40])
def test_what_is_no_whole_number_within_bounds_is_refused_with_the_bounds(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"--port: .* is no whole number from 1 to 65535"):
        parsing.whole("--port", text, 1, 65535)


def test_one_of_some_words_is_taken_whatever_its_case() -> None:
    assert parsing.one_of("--x", "JSON", ("auto", "json")) == "json"
    with pytest.raises(InvalidInput, match="--x: 'jason' is none of auto, json"):
        parsing.one_of("--x", "jason", ("auto", "json"))
