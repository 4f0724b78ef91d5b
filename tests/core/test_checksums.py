"""The checksum, and its combination."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise.checksums import _shift_tables, crc64, crc64_combine, crc64_fold
from partwise.model import GIB, MIB
from partwise.testing.oracles import slow_crc64

CHECKSUMS = st.integers(0, 2**64 - 1)


def test_the_catalogues_check_value():
    assert crc64(b"123456789") == 0x995DC9BBDF1939FA


def test_no_bytes_have_the_checksum_zero():
    assert crc64(b"") == 0


@given(st.binary(max_size=300))
def test_it_is_what_the_definition_says(data):
    assert slow_crc64(data) == crc64(data)


@given(st.binary(max_size=300))
def test_any_kind_of_buffer_will_do(data):
    assert crc64(data) == crc64(bytearray(data)) == crc64(memoryview(data))


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_a_checksum_can_be_continued(first, second):
    assert crc64(first + second) == crc64(second, crc64(first))


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_two_runs_combine(first, second):
    assert crc64(first + second) == crc64_combine(crc64(first), crc64(second), len(second))


@given(st.lists(st.binary(max_size=60), max_size=12))
def test_many_runs_fold(runs):
    assert crc64(b"".join(runs)) == crc64_fold((crc64(run), len(run)) for run in runs)


@given(CHECKSUMS, CHECKSUMS)
def test_an_empty_second_run_changes_nothing(first, second):
    assert first ^ second == crc64_combine(first, second, 0)


@given(CHECKSUMS, CHECKSUMS, CHECKSUMS, st.integers(0, 10**15), st.integers(0, 10**15))
def test_runs_combine_in_any_grouping(a, b, c, length_b, length_c):
    """Also for lengths that no test could read: the third run alone is as good as the second and third together."""
    left = crc64_combine(crc64_combine(a, b, length_b), c, length_c)
    right = crc64_combine(a, crc64_combine(b, c, length_c), length_b + length_c)

    assert left == right


def test_zeros_of_many_gibibytes_are_as_good_as_their_halves():
    """Doubling a run of zeros 30 times by combination agrees with one shift over all of it."""
    checksum, length = crc64(bytes(MIB)), MIB
    while length < GIB:
        checksum, length = crc64_combine(checksum, checksum, length), 2 * length

    assert crc64_fold([(crc64(bytes(MIB)), MIB)] * 1024) == checksum


def test_a_length_below_zero_is_refused():
    with pytest.raises(ValueError, match="negative"):
        crc64_combine(1, 2, -1)


def test_ten_thousand_parts_fold_by_one_table():
    """The tables depend on the length alone, so that folding a plan costs next to nothing a part."""
    before = _shift_tables.cache_info().misses
    crc64_fold([(n, 5 * GIB + 1) for n in range(10_000)])

    assert _shift_tables.cache_info().misses - before == 1
