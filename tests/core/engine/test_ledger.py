"""The account of the acknowledged parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise._engine.ledger import Ledger
from partwise._engine.plan import PartPlan
from partwise.checksums import CRC64_XZ, crc64
from partwise.model import UploadedPart

PLAN = PartPlan(10, 25)


def part_of(number, size=10, etag=None, crc=None):
    return UploadedPart(number, size, etag or f"E{number}", crc)


def ledger_of(*parts, plan=PLAN, resumed=False):
    ledger = Ledger(plan)
    for part in parts:
        ledger.add(part, resumed=resumed)
    return ledger


def test_a_new_ledger_lacks_every_part():
    ledger = Ledger(PLAN)

    assert (ledger.parts_done, ledger.bytes_done, ledger.bytes_resumed, ledger.parts_resumed) == (0, 0, 0, 0)
    assert list(ledger.missing()) == [1, 2, 3]
    assert not ledger.is_complete()


def test_an_added_part_is_no_longer_missing():
    ledger = ledger_of(part_of(2))

    assert ledger.has(2)
    assert not ledger.has(1)
    assert list(ledger.missing()) == [1, 3]
    assert (ledger.parts_done, ledger.bytes_done) == (1, 10)


def test_what_was_resumed_is_counted_apart():
    ledger = ledger_of(part_of(2), resumed=True)
    ledger.add(part_of(1))

    assert (ledger.bytes_done, ledger.bytes_resumed, ledger.parts_resumed) == (20, 10, 1)


@pytest.mark.parametrize("resumed", [True, False])
def test_a_replaced_part_still_counts_for_its_run(resumed):
    ledger = ledger_of(part_of(2), resumed=resumed)
    ledger.replace(part_of(2, etag="OTHER"))

    assert (ledger.parts_done, ledger.bytes_done, ledger.parts_resumed) == (1, 10, int(resumed))
    assert list(ledger.parts()) == [part_of(2, etag="OTHER")]


def test_the_parts_of_earlier_runs_are_known():
    ledger = ledger_of(part_of(3), part_of(1), resumed=True)
    ledger.add(part_of(2))
    ledger.remove(3)

    assert list(ledger.resumed_parts()) == [part_of(1)]


def test_a_second_part_of_a_number_replaces_the_first():
    ledger = ledger_of(part_of(3, 5, "old"), part_of(3, 4, "new"))

    assert ledger.parts() == (part_of(3, 4, "new"),)
    assert (ledger.parts_done, ledger.bytes_done) == (1, 4)


def test_a_resumed_part_that_is_recorded_twice_counts_once():
    ledger = ledger_of(part_of(3, 5), part_of(3, 5), resumed=True)

    assert (ledger.bytes_resumed, ledger.parts_resumed) == (5, 1)


def test_a_part_that_was_removed_is_missing_again():
    ledger = ledger_of(part_of(1), part_of(2))
    ledger.remove(1)

    assert list(ledger.missing()) == [1, 3]
    assert (ledger.parts_done, ledger.bytes_done) == (1, 10)


def test_removing_a_part_that_is_not_recorded_changes_nothing():
    ledger = ledger_of(part_of(2))
    ledger.remove(1)

    assert (ledger.parts_done, ledger.bytes_done, ledger.version) == (1, 10, 1)


def test_a_resumed_part_that_was_removed_and_sent_again_counts_as_sent():
    ledger = ledger_of(part_of(1), part_of(2), resumed=True)
    ledger.remove(1)
    ledger.add(part_of(1, etag="new"))

    assert (ledger.bytes_done, ledger.bytes_resumed, ledger.parts_resumed) == (20, 10, 1)


def test_a_resumed_part_that_is_removed_twice_is_subtracted_once():
    ledger = ledger_of(part_of(1), part_of(2), resumed=True)
    ledger.remove(1)
    ledger.add(part_of(1, etag="new"))
    ledger.remove(1)

    assert (ledger.bytes_resumed, ledger.parts_resumed) == (10, 1)


def test_a_resumed_part_that_was_sent_again_counts_as_sent():
    ledger = ledger_of(part_of(1), resumed=True)
    ledger.add(part_of(1, etag="new"))

    assert (ledger.bytes_done, ledger.bytes_resumed, ledger.parts_resumed) == (10, 0, 0)


def test_parts_ascend_whatever_order_they_were_recorded_in():
    assert [part.part_number for part in ledger_of(part_of(3, 5), part_of(1), part_of(2)).parts()] == [1, 2, 3]


def test_an_earlier_version_can_be_read():
    ledger = ledger_of(part_of(2), part_of(1))
    then = ledger.version
    ledger.add(part_of(3, 5))
    ledger.add(part_of(1, etag="new"))

    assert ledger.at_version(0) == ()
    assert set(ledger.at_version(then)) == {part_of(1), part_of(2)}
    assert set(ledger.at_version(ledger.version)) == {part_of(1, etag="new"), part_of(2), part_of(3, 5)}


def test_an_earlier_version_stays_as_it_was_when_a_part_is_removed():
    ledger = ledger_of(part_of(1), part_of(2))
    then = ledger.version
    ledger.remove(1)
    ledger.add(part_of(3, 5))

    assert ledger.at_version(then) == (part_of(1), part_of(2))
    assert ledger.at_version(ledger.version) == (part_of(2), part_of(3, 5))


def test_it_is_complete_with_every_part_of_its_planned_size():
    assert ledger_of(part_of(3, 5), part_of(1), part_of(2)).is_complete()


@pytest.mark.parametrize(
    ("parts", "plan"),
    [
        ([part_of(1), part_of(2)], PLAN),
        ([part_of(1), part_of(2), part_of(3, 4)], PLAN),
        ([part_of(1), part_of(2), part_of(3, 6)], PLAN),
        ([part_of(1), part_of(2), part_of(4, 5)], PLAN),
        ([part_of(1), part_of(2), part_of(3, 5), part_of(4, 0)], PLAN),
        ([part_of(1), part_of(2), part_of(3, 5)], PartPlan(10, None)),
        ([part_of(1, 9), part_of(2, 11), part_of(3, 5)], PLAN),
    ],
    ids=["missing", "short", "long", "foreign", "too many", "size not known", "sizes that only add up"],
)
def test_it_is_not_complete_otherwise(parts, plan):
    assert not ledger_of(*parts, plan=plan).is_complete()


def test_an_empty_source_is_complete_from_the_start():
    assert Ledger(PartPlan(10, 0)).is_complete()


@given(st.lists(st.binary(min_size=1, max_size=8), max_size=6), st.randoms(use_true_random=False))
def test_the_checksum_of_the_object_follows_from_those_of_the_parts(pieces, random):
    parts = [part_of(n, len(piece), crc=crc64(piece)) for n, piece in enumerate(pieces, 1)]
    random.shuffle(parts)

    assert ledger_of(*parts).checksum(CRC64_XZ) == crc64(b"".join(pieces))


def test_the_checksum_of_the_object_is_not_known_without_that_of_each_part():
    assert ledger_of(part_of(1, crc=1), part_of(2)).checksum(CRC64_XZ) is None
