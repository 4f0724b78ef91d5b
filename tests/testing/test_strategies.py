"""The strategies generate what the protocols allow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise.backends.oss import Callback
from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.errors import InvalidInput, PartwiseError
from partwise.model import ObjectOptions, PartLimits, StoredObject, UploadedPart
from partwise.testing import (
    ChangingSource,
    ChunkListBody,
    Fault,
    FaultKind,
    FaultPlan,
    StrictBody,
    slow_crc64,
    strategies,
)
from partwise.testing.faults import BACKEND_OPERATIONS, STORE_OPERATIONS


@given(key=strategies.keys())
def test_keys_are_accepted_everywhere(key: str) -> None:
    assert 1 <= len(key.encode()) <= 1023


@given(limits=strategies.part_limits(), data=st.data())
def test_part_sizes_are_within_the_limits(limits: PartLimits, data: st.DataObject) -> None:
    size = data.draw(strategies.part_sizes(limits))
    assert limits.min_part_size <= size <= limits.max_part_size


@given(part_size=st.integers(1, 1000), parts_max=st.integers(1, 4), data=st.data())
def test_sizes_have_at_most_parts_max_parts(part_size: int, parts_max: int, data: st.DataObject) -> None:
    assert 0 <= data.draw(strategies.sizes(part_size, parts_max=parts_max)) <= part_size * parts_max


@given(data=strategies.contents(st.integers(5, 7)))
def test_contents_have_the_size_that_was_drawn(data: bytes) -> None:
    assert 5 <= len(data) <= 7


@given(drawn=strategies.bodies())
def test_bodies_keep_the_protocol(drawn: tuple[StrictBody | ChunkListBody, bytes]) -> None:
    body, data = drawn
    pieces = [bytes(chunk) for chunk in body.chunks()]
    assert b"".join(pieces) == data
    assert len(body) == len(data)
    assert all(pieces)
    assert body.checksum == slow_crc64(data)


@given(source=strategies.changing_sources(strategies.contents(st.just(20))))
def test_changing_sources_change_at_most_once(source: ChangingSource) -> None:
    seen = {source.fingerprint()}
    for _ in range(5):
        try:
            list(source.body(0, 20).chunks())
        except PartwiseError:
            assert len(source.data) < 20
        seen.add(source.fingerprint())
    assert len(seen) <= 2


@given(options=strategies.object_options({"metadata", "acl"}))
def test_options_are_allowed_ones(options: ObjectOptions) -> None:
    assert options.explicitly_set() <= {"metadata", "acl"}


@given(options=strategies.object_options(()))
def test_without_allowed_options_none_is_set(options: ObjectOptions) -> None:
    assert options == ObjectOptions()


@given(checkpoint=strategies.checkpoints())
def test_checkpoints_are_read_back_from_their_plain_form(checkpoint: Checkpoint) -> None:
    assert Checkpoint.from_data(checkpoint.to_data()) == checkpoint


@pytest.mark.parametrize(
    ("strategy", "kind"),
    [
        (strategies.callbacks(), Callback),
        (strategies.fingerprints(), Fingerprint),
        (strategies.stored_objects(), StoredObject),
        (strategies.uploaded_parts(), UploadedPart),
        (strategies.uploaded_parts(st.just(3)), UploadedPart),
    ],
)
def test_values_can_be_drawn(strategy: st.SearchStrategy[object], kind: type) -> None:
    @given(value=strategy)
    def drawn(value: object) -> None:
        assert isinstance(value, kind)

    drawn()


@given(fault=strategies.faults(STORE_OPERATIONS))
def test_faults_are_for_the_given_operations_without_torn_writes(fault: Fault) -> None:
    assert fault.operation in STORE_OPERATIONS
    assert fault.kind is not FaultKind.TORN_WRITE


@given(fault=strategies.faults(kinds=[FaultKind.DELAY, FaultKind.AFTER]))
def test_only_timed_faults_have_seconds(fault: Fault) -> None:
    assert fault.operation in BACKEND_OPERATIONS
    assert fault.kind is FaultKind.DELAY or not fault.seconds


@given(plan=strategies.fault_plans(faults_max=3, occurrence_max=2))
def test_plans_have_no_two_faults_for_one_call(plan: FaultPlan) -> None:
    assert len({(fault.operation, fault.occurrence) for fault in plan.faults}) == len(plan.faults) <= 3


@given(plan=strategies.fault_plans(("head_object",), [FaultKind.DELAY]))
def test_delays_of_drawn_plans_take_no_time(plan: FaultPlan) -> None:
    for _ in range(5):
        with plan.call("head_object", "key"):
            pass
    assert plan.unreached == ()


def test_faults_that_do_not_apply_can_not_be_drawn() -> None:
    with pytest.raises(InvalidInput, match="applies to"):
        strategies.faults(("save",), [FaultKind.SHORT_LIST])
