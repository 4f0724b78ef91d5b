"""Concurrent writers, crashes and damage (10, 11, 15)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

from attrs import evolve

from partwise.checkpoint import Checkpoint
from partwise.errors import CheckpointDamaged
from partwise.protocols import CheckpointStore
from partwise.testing.conformance.store_harness import (
    StoreHarness,
    append,
    delete,
    must_load,
    sample,
    sample_part,
    sample_parts,
    save,
    skip_unless_multiple,
    with_parts,
)
from partwise.testing.conformance.suite import NotApplicable, Suite, must_raise, must_return
from partwise.testing.durability.crash_points import crashes_at
from partwise.testing.oracles import in_order

CHECKS: Suite[StoreHarness] = Suite()


# --- concurrency -----------------------------------------------------------------------------------------------------


@CHECKS.covers(15)
def check_many_threads(harness: StoreHarness) -> None:
    """Checkpoints written concurrently, each under its claim, are all complete."""
    skip_unless_multiple(harness)
    store = harness.open_for_test()
    numbers = range(1, 9)

    def write(number: int) -> None:
        save(store, sample(number))
        append(store, sample(number).name, *sample_parts(1, 2, 3, 4, 5))

    with ThreadPoolExecutor(max_workers=4) as pool:
        must_return(_WRITES, lambda: list(pool.map(write, numbers)))
    for number in numbers:
        must_load(store, sample(number, 1, 2, 3, 4, 5), _WRITES)


_WRITES = "concurrent writes do not affect each other"


#: The number of loads during saves. Any of them may find a record that is half written.
_LOADS = 10

#: Seconds after which fewer loads are enough, since the store is slow.
_LOADS_WITHIN = 30.0


@CHECKS.covers(10, 15)
def check_readers_see_whole_records(harness: StoreHarness) -> None:
    """Loading during saves returns one of the saved versions."""
    writer, reader = harness.open_for_test(), harness.open_for_test()
    versions = [sample(1, *range(1, n + 2), upload_id=f"upload-{n}") for n in range(20)]
    save(writer, versions[0])
    seen: list[Checkpoint | None] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(must_return("loading during a save returns a checkpoint", reader.load, versions[0].name))

    with ThreadPoolExecutor(max_workers=1) as pool:
        watching = pool.submit(watch)
        deadline = time.monotonic() + _LOADS_WITHIN
        try:
            for number, version in enumerate(cycle(versions), start=1):
                save(writer, version)
                enough = len(seen) >= _LOADS or watching.done() or time.monotonic() > deadline
                if number >= len(versions) and enough:
                    break
        finally:
            done.set()
        watching.result()
    assert seen, "a load returns while another handle saves"
    for found in seen:
        assert found is not None, "loading during a save never returns None"
        assert in_order(found) in versions, "loading during a save returns the old checkpoint or the new one"


# --- crashes ---------------------------------------------------------------------------------------------------------

_STEPS_MAX = 200


@CHECKS.covers(10)
def check_crash_while_saving(harness: StoreHarness) -> None:
    """After a crash in a save, the old checkpoint or the new one is loaded."""
    old, new = sample(1, 1, 2), sample(1, 3, upload_id="another")
    _check_crashes(harness, lambda store: store.save(new), old, new)


@CHECKS.covers(10)
def check_crash_while_saving_first(harness: StoreHarness) -> None:
    """After a crash at any step of the first save, the checkpoint or None is loaded."""
    new = sample(1, 1, 2)
    _check_crashes(harness, lambda store: store.save(new), None, new)


@CHECKS.covers(10)
def check_crash_while_appending(harness: StoreHarness) -> None:
    """After a crash in an append, the part is stored or not; others can be appended."""
    old, new = sample(1, 1), sample(1, 1, 2)
    _check_crashes(harness, lambda store: store.append_part(old.name, "upload", sample_part(2)), old, new)


@CHECKS.covers(10)
def check_crash_while_deleting(harness: StoreHarness) -> None:
    """After a crash at any step of a delete, the checkpoint or None is loaded."""
    old = sample(1, 1)
    _check_crashes(harness, lambda store: store.delete(old.name, "upload"), old, None)


def _check_crashes(
    harness: StoreHarness, action: Callable[[CheckpointStore], None], old: Checkpoint | None, new: Checkpoint | None
) -> None:
    """
    Crash at each step of an action, and continue in the old or the new state.

    Raises NotApplicable if there is no step: a database library, or another process, writes the files.
    """
    name = sample().name
    survivor = harness.open_for_test()
    for step in range(1, _STEPS_MAX):
        found = survivor.load(name)
        delete(survivor, name, None if found is None else found.upload_id)
        if old is not None:
            save(survivor, old)
        crashing = harness.open_for_test()
        with crashing.claim(name):
            crashed = crashes_at(step, action, crashing)
        duty = f"a crash at step {step} leaves the old state or the new one"
        found = must_return(duty, survivor.load, name)
        state = None if found is None else in_order(found)
        assert state in (old, new), f"{duty}, and not {state}"
        if not crashed:
            assert state == new, "an action without a crash takes effect"
            if step == 1:
                raise NotApplicable("the store changes no file through the module os, so no crash can be simulated")
            return
        if state is not None:
            append(survivor, name, sample_part(9), upload_id=str(state.upload_id))
            duty = f"after a crash at step {step} parts can be appended"
            must_load(survivor, with_parts(state, *state.parts, sample_part(9)), duty)
    raise AssertionError(f"not finished after {_STEPS_MAX} calls that change files")


# --- damage ----------------------------------------------------------------------------------------------------------


@CHECKS.covers(11)
def check_torn_end(harness: StoreHarness) -> None:
    """A record whose end is cut off loses its last parts, or is damaged."""
    if not harness.tears:
        raise NotApplicable("records of the store can't be torn, as declared")
    whole = sample(1, 1, 2, 3)
    record = _record_of(harness, whole)
    prefixes = [with_parts(whole, *whole.parts[:count]) for count in range(4)]
    store = harness.open_for_test()
    for length in _positions(len(record)):
        harness.write_record(whole.name, record[:length])
        cut = f"a record that was cut off at {length} of {len(record)} bytes"
        found = must_return(f"{cut} is loaded, or damaged", _load, store, whole.name)
        if isinstance(found, CheckpointDamaged):
            assert length < len(record) - 1, "a record that lost only its last byte is torn, which is not damage"
            continue
        assert found is not None or not length, f"load does not return None for a record of {length} bytes"
        assert found is None or in_order(found) in prefixes, f"{cut} was loaded as another: {found}"


@CHECKS.covers(11)
def check_damage(harness: StoreHarness) -> None:
    """An edited or foreign record is damaged, and never loaded as another checkpoint."""
    whole = sample(1, 1, 2, 3)
    record = _record_of(harness, whole)
    # An edit of the last entry can't be distinguished from a torn write.
    harmless = [whole, with_parts(whole, *whole.parts[:-1])] if harness.tears else [whole]
    store = harness.open_for_test()
    for position in _positions(len(record)):
        edited = bytearray(record)
        edited[position] ^= 1
        harness.write_record(whole.name, bytes(edited))
        found = must_return(f"a record with byte {position} edited is damaged", _load, store, whole.name)
        if isinstance(found, CheckpointDamaged):
            continue
        assert found is not None, f"load does not return None for a record with byte {position} edited"
        assert in_order(found) in harmless, f"byte {position} was edited, and the record was loaded as another: {found}"
    harness.write_record(whole.name, record[::-1])
    error = must_raise(CheckpointDamaged, "the record has foreign bytes", store.load, whole.name)
    assert error.name == whole.name, "CheckpointDamaged has the name of the checkpoint"


@CHECKS.covers(11)
def check_saving_after_damage(harness: StoreHarness) -> None:
    """A damaged checkpoint can be replaced by save."""
    checkpoint = sample(1, 1, 2, 3)
    edited = bytearray(_record_of(harness, checkpoint))
    edited[len(edited) // 3] ^= 1
    harness.write_record(checkpoint.name, bytes(edited))
    store = harness.open_for_test()
    duty = "save replaces a damaged checkpoint"
    with store.claim(checkpoint.name):
        must_raise(CheckpointDamaged, "the record was edited in its middle", store.load, checkpoint.name)
        must_return(duty, store.save, checkpoint)
        store.append_part(checkpoint.name, "upload", sample_part(4))
    must_load(store, sample(1, 1, 2, 3, 4), duty)


@CHECKS.covers(4, 11)
def check_deleting_damage(harness: StoreHarness) -> None:
    """A damaged checkpoint is deleted by the upload id of its error."""
    checkpoint = sample(1, 1, 2, 3)
    record = _record_of(harness, checkpoint)
    middle = len(record) // 3
    for position in (middle, len(record) - len(record) // 8):
        edited = bytearray(record)
        edited[position] ^= 1
        save(harness.open_for_test(), checkpoint)
        harness.write_record(checkpoint.name, bytes(edited))
        found = _load(harness.open_for_test(), checkpoint.name)  # without a claim, so it is not set aside
        if not isinstance(found, CheckpointDamaged):
            # The last entry may be taken for a torn one.
            assert position != middle, f"the record was edited in its middle: expected CheckpointDamaged, not {found}"
            continue
        store = harness.open_for_test()
        must_return("a damaged record is deleted", delete, store, checkpoint.name, found.upload_id)
        duty = "a damaged checkpoint that was deleted is not loaded"
        assert must_return(duty, store.load, checkpoint.name) is None, duty


@CHECKS.covers(11)
def check_damage_is_not_scanned(harness: StoreHarness) -> None:
    """A scan omits a damaged record and yields all others."""
    skip_unless_multiple(harness)
    damaged, good = sample(1), sample(2)
    record = _record_of(harness, damaged)
    store = harness.open_for_test()
    save(store, good)
    harness.write_record(damaged.name, record[::-1])
    duty = "scan yields the checkpoints that can be read"
    assert [found.name for found in must_return(duty, lambda: list(store.scan()))] == [good.name], duty


def _load(store: CheckpointStore, name: str) -> Checkpoint | CheckpointDamaged | None:
    """Load a checkpoint; return the error if it is damaged."""
    try:
        return store.load(name)
    except CheckpointDamaged as error:
        return error


def _record_of(harness: StoreHarness, checkpoint: Checkpoint) -> bytes:
    """Return the record of this checkpoint, with its parts appended one by one."""
    store = harness.open_for_test()
    save(store, evolve(checkpoint, parts=()))
    append(store, checkpoint.name, *checkpoint.parts)
    record = harness.read_record(checkpoint.name)
    if record is None:
        raise harness.without("read_record")
    return record


def _positions(length: int) -> list[int]:
    """Return positions in a record: of a long one about two hundred, and its end."""
    return sorted({*range(0, length, max(1, length // 200)), *range(max(0, length - 100), length)})
