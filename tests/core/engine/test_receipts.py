"""Receipts in little room: packed, looked at again, and never changed by what comes after."""

from __future__ import annotations

import gc
import pickle
import tracemalloc
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise._engine.receipts import ReceiptLog, Receipts
from partwise.model import UploadedPart

ETAGS = st.text(st.characters(), max_size=40)  # lone surrogates, too
PARTS = st.builds(
    UploadedPart,
    st.integers(1, 10_000),
    st.integers(0, 5 * 2**40),
    ETAGS,
    st.none() | st.integers(0, 2**64 - 1),
)


def packed(*parts):
    log = ReceiptLog()
    return log, Receipts(log, array("I", map(log.add, parts)))


def receipt(number, etag="E"):
    return UploadedPart(number, 10 * number, etag, number)


@given(st.lists(PARTS, max_size=20))
def test_what_was_packed_comes_out_as_it_went_in(parts):
    log, receipts = packed(*parts)

    assert list(receipts) == parts
    assert [log.size(entry) for entry in range(len(log))] == [part.size for part in parts]
    assert [log.crc64(entry) for entry in range(len(log))] == [part.crc64 for part in parts]


def test_they_are_a_sequence():
    parts = (receipt(1), receipt(2), receipt(3))
    receipts = packed(*parts)[1]

    assert len(receipts) == 3
    assert receipts[0] == receipt(1)
    assert receipts[-1] == receipt(3)
    assert receipts[1:] == parts[1:]
    assert isinstance(receipts[1:], Receipts)
    assert receipt(2) in receipts
    assert list(reversed(receipts)) == [receipt(3), receipt(2), receipt(1)]
    assert not packed()[1]
    with pytest.raises(IndexError):
        receipts[3]


def test_they_equal_the_same_receipts_in_the_same_order_and_nothing_else():
    parts = (receipt(1), receipt(2))
    receipts = packed(*parts)[1]

    assert receipts == parts
    assert parts == receipts
    assert receipts == list(parts)
    assert receipts == packed(*parts)[1]
    for other in (parts[:1], parts[::-1], (*parts, receipt(3)), (receipt(1, "other"), receipt(2)), set(parts), None):
        assert receipts != other


def test_they_may_go_to_another_process():
    receipts = packed(receipt(1), receipt(2))[1]

    assert pickle.loads(pickle.dumps(receipts)) == receipts


def test_they_say_what_they_are():
    assert repr(packed(receipt(1), receipt(2))[1]) == "<Receipts of 2 parts>"


def test_they_stay_as_they_are_when_the_log_grows():
    log, receipts = packed(receipt(1), receipt(2))
    begun = iter(receipts)
    next(begun)
    log.add(receipt(1, "new"))
    log.strike(2)

    assert receipts == (receipt(1), receipt(2))
    assert list(begun) == [receipt(2)]


def test_the_last_entry_that_counts_can_be_told_for_any_instant():
    log, _ = packed(receipt(1), receipt(2), receipt(1, "new"))
    log.strike(2)
    log.add(receipt(3))

    assert [log.last(entries) for entries in range(6)] == [
        {}, {1: 0}, {1: 0, 2: 1}, {1: 2, 2: 1}, {1: 2}, {1: 2, 3: 4},
    ]  # fmt: skip


def test_ten_thousand_receipts_take_less_than_a_mebibyte():
    log = ReceiptLog()
    tracemalloc.start()
    try:
        for number in range(1, 10_001):
            log.add(UploadedPart(number, 100 * 1024, f"{number:032X}", 2**63 + number))
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert held < 2**20
