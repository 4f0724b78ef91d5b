"""The checksum, and its combination."""

from __future__ import annotations

import pickle
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise import checksums
from partwise.checksums import (
    CRC32,
    CRC32C,
    CRC64_NVME,
    CRC64_XZ,
    MD5,
    SHA1,
    SHA256,
    Checksum,
    _shift_tables,
    crc64,
    crc64_combine,
    crc64_fold,
)
from partwise.errors import InvalidInput
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


# --- every algorithm -------------------------------------------------------------------------------------------------

COMBINABLE = (CRC64_XZ, CRC64_NVME, CRC32C, CRC32)
DIGESTS = (MD5, SHA1, SHA256)

#: Of the digits 1 to 9, as the catalogue of parametrised CRC algorithms and the standards of the digests give it.
CHECK_VALUES = {
    "crc64xz": "995dc9bbdf1939fa",
    "crc64nvme": "ae8b14860a799888",
    "crc32c": "e3069283",
    "crc32": "cbf43926",
    "md5": "25f9e794323b453885f5181f1b624d0b",
    "sha1": "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
    "sha256": "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
}


def name_of(checksum):
    return checksum.name


every_algorithm = pytest.mark.parametrize("checksum", COMBINABLE + DIGESTS, ids=name_of)
combinable = pytest.mark.parametrize("checksum", COMBINABLE, ids=name_of)
digest = pytest.mark.parametrize("checksum", DIGESTS, ids=name_of)


def slow_crc(polynomial: int, width: int, data: bytes) -> int:
    """Compute a reflected CRC bit by bit."""
    remainder = (1 << width) - 1
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = (remainder >> 1) ^ (polynomial if remainder & 1 else 0)
    return remainder ^ ((1 << width) - 1)


@every_algorithm
def test_each_algorithm_has_its_published_check_value(checksum):
    assert checksum.to_hex(checksum.compute(b"123456789")) == CHECK_VALUES[checksum.name]
    assert checksum.width == 4 * len(CHECK_VALUES[checksum.name])


@combinable
@given(data=st.binary(max_size=300))
def test_a_crc_is_what_its_polynomial_says(checksum, data):
    assert checksum.compute(data) == slow_crc(checksum.polynomial, checksum.width, data)


@every_algorithm
@given(pieces=st.lists(st.binary(max_size=60), max_size=8))
def test_a_running_checksum_is_that_of_all_bytes_so_far(checksum, pieces):
    running = checksum.start()
    for n, piece in enumerate(pieces):
        running.update(memoryview(piece))
        assert running.value == checksum.compute(b"".join(pieces[: n + 1]))


@combinable
@given(runs=st.lists(st.binary(max_size=60), max_size=12))
def test_the_checksum_of_the_whole_follows_from_those_of_its_runs(checksum, runs):
    whole = checksum.compute(b"".join(runs))

    assert checksum.fold((checksum.compute(run), len(run)) for run in runs) == whole


@digest
def test_a_digest_can_not_be_combined(checksum):
    one = checksum.compute(b"one")

    assert not checksum.is_combinable
    assert checksum.fold([(one, 3)]) == one
    assert checksum.fold([]) == checksum.compute(b"")
    assert checksum.fold([(one, 3), (one, 3)]) is None
    with pytest.raises(InvalidInput, match=f"{checksum.name} can't be combined"):
        checksum.combine(one, one, 3)


@every_algorithm
def test_a_checksum_can_be_written_and_read_in_each_form(checksum):
    value = checksum.compute(b"data")

    assert checksum.from_bytes(checksum.to_bytes(value)) == value
    assert checksum.from_base64(checksum.to_base64(value)) == value
    assert checksum.from_hex(checksum.to_hex(value).upper()) == value


def test_a_checksum_is_written_as_s3_writes_it():
    assert CRC64_NVME.to_base64(CRC64_NVME.compute(b"123456789")) == "rosUhgp5mIg="
    assert CRC32C.to_base64(CRC32C.compute(b"123456789")) == "4waSgw=="


@every_algorithm
@pytest.mark.parametrize("text", ["", "A", "AA==", "!!!!", "A" * 200, "\u00e4"])
def test_what_is_not_a_checksum_in_base64_is_refused(checksum, text):
    with pytest.raises(ValueError, match="not"):
        checksum.from_base64(text)


def test_what_is_not_a_checksum_in_hexadecimal_digits_is_refused():
    for text in ("", "0", "xy", "00" * 9):
        with pytest.raises(ValueError, match=r"hex|bytes"):
            CRC64_XZ.from_hex(text)


@every_algorithm
def test_an_algorithm_can_be_pickled(checksum):
    """A part is sent by another process together with the algorithm of its checksum."""
    copy = pickle.loads(pickle.dumps(checksum))

    assert copy == checksum
    assert copy.compute(b"data") == checksum.compute(b"data")


def test_algorithms_differ():
    assert len(set(COMBINABLE + DIGESTS)) == len(COMBINABLE + DIGESTS)
    assert "function" not in repr(CRC64_XZ)


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 63},
        {"width": 0},
        {"width": 128},
        {"width": 520, "polynomial": None},
        {"polynomial": 0},
        {"polynomial": 2**64},
        {"name": 5},
    ],
    ids=repr,
)
def test_an_algorithm_that_can_not_be_is_refused(wrong):
    with pytest.raises(InvalidInput):
        Checksum(**{"name": "crc", "width": 64, "start": CRC64_XZ.start, "polynomial": 1} | wrong)


def test_without_the_package_for_it_crc64_nvme_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "awscrt.checksums", None)
    checksums._nvme.cache_clear()
    with pytest.raises(InvalidInput, match="needs the package awscrt") as caught:
        CRC64_NVME.compute(b"data")
    checksums._nvme.cache_clear()

    assert "partwise[nvme]" in caught.value.hint
