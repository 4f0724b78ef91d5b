"""Claims, writers at the same time, deaths and damage (10, 11, 15, 16)."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from attrs import evolve

from partwise.checkpoint import Checkpoint
from partwise.errors import CheckpointBusy, CheckpointDamaged
from partwise.protocols import CheckpointStore
from partwise.testing.conformance.store_harness import (
    StoreHarness,
    append,
    delete,
    enter_claim,
    must_load,
    receipt,
    receipts,
    sample,
    save,
    skip_unless_multiple,
    with_parts,
)
from partwise.testing.conformance.suite import NotApplicable, Suite, must_raise, must_return
from partwise.testing.durability.crash_points import crashes_at
from partwise.testing.oracles import in_order

CHECKS: Suite[StoreHarness] = Suite()


# --- claims ----------------------------------------------------------------------------------------------------------


class _Interrupted(Exception):
    """What happens in the middle of a claim."""


@CHECKS.covers(16)
def check_claim_is_exclusive(harness: StoreHarness) -> None:
    """A claim is refused at once while it is held, by any handle or thread, and free when it is left (16)."""
    one, other = harness.open_for_test(), harness.open_for_test()
    name = sample().name
    with one.claim(name), ThreadPoolExecutor(max_workers=1) as pool:
        must_raise(CheckpointBusy, "this handle holds the claim", enter_claim, one, name)
        must_raise(CheckpointBusy, "another handle holds the claim", enter_claim, other, name)
        must_raise(CheckpointBusy, "another thread holds the claim", pool.submit(enter_claim, other, name).result)
        if not harness.holds_one:
            enter_claim(other, sample(2).name)

    def interrupted() -> None:
        with one.claim(name):
            raise _Interrupted

    must_raise(_Interrupted, "what is raised under a claim comes out", interrupted)
    entered_by_nobody = one.claim(name)
    must_return("a claim that was left by an error is free", enter_claim, other, name)
    with other.claim(name):
        must_raise(CheckpointBusy, "a claim is held from entering to leaving", entered_by_nobody.__enter__)
    must_return("a claim that was left is free", enter_claim, one, name)


@CHECKS.covers(16)
def check_claim_race(harness: StoreHarness) -> None:
    """Of many threads that claim at the same time, never two hold the claim (16)."""
    name = sample().name
    stores = [harness.open_for_test() for _ in range(4)]
    start = threading.Barrier(len(stores))
    holders: list[int] = []
    most: list[int] = []

    def claim_again_and_again(store: CheckpointStore) -> None:
        start.wait()
        for _ in range(25):
            try:
                with store.claim(name):
                    holders.append(1)
                    time.sleep(0.001)  # gives the others a chance to be there too
                    most.append(len(holders))
                    holders.pop()
            except CheckpointBusy:
                pass

    with ThreadPoolExecutor(max_workers=len(stores)) as pool:
        list(pool.map(claim_again_and_again, stores))
    assert most, "somebody gets the claim"
    assert max(most) == 1, "no two hold the claim at the same time"


@CHECKS.covers(16)
def check_claim_ends_with_its_process(harness: StoreHarness) -> None:
    """Another process's claim is respected, and is free as soon as that process is killed (16)."""
    opener = harness.elsewhere()
    if opener is None:
        raise NotApplicable("no other process can open the store: see StoreHarness.elsewhere")
    store = harness.open_for_test()
    name = sample().name
    with _claimed_elsewhere(opener, name):
        must_raise(CheckpointBusy, "another process holds the claim", enter_claim, store, name)
    must_return("the claim of a process that was killed is free", enter_claim, store, name)


_CLAIM = """
import pickle, sys
opener, name = pickle.loads(bytes.fromhex(sys.argv[1]))
with opener().claim(name):
    print("claimed", flush=True)
    sys.stdin.read()
"""


@contextmanager
def _claimed_elsewhere(opener: Callable[[], CheckpointStore], name: str) -> Iterator[None]:
    """Another process holds the claim, until it is killed at the end of the block."""
    process = subprocess.Popen(  # noqa: S603  # our own interpreter, and our own text
        [sys.executable, "-c", _CLAIM, pickle.dumps((opener, name)).hex()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        try:
            assert process.stdout is not None, "it is a pipe"
            assert process.stdout.readline().strip() == b"claimed", "another process can claim a name in the store"
            yield
        finally:
            process.kill()


# --- at the same time ------------------------------------------------------------------------------------------------


@CHECKS.covers(15)
def check_many_threads(harness: StoreHarness) -> None:
    """Checkpoints that are written at the same time, each under its claim, are all kept whole (15)."""
    skip_unless_multiple(harness)
    store = harness.open_for_test()
    numbers = range(1, 9)

    def write(number: int) -> None:
        save(store, sample(number))
        append(store, sample(number).name, *receipts(1, 2, 3, 4, 5))

    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(write, numbers))
    for number in numbers:
        must_load(store, sample(number, 1, 2, 3, 4, 5), "what is written at the same time is kept apart")


@CHECKS.covers(10, 15)
def check_readers_see_whole_records(harness: StoreHarness) -> None:
    """Whoever loads while a checkpoint is saved again and again sees one of the saved ones, whole (10, 15)."""
    writer, reader = harness.open_for_test(), harness.open_for_test()
    versions = [sample(1, *range(1, n + 2), upload_id=f"upload-{n}") for n in range(20)]
    save(writer, versions[0])
    seen: list[Checkpoint | None] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(must_return("a checkpoint that is saved again is seen whole", reader.load, versions[0].name))

    with ThreadPoolExecutor(max_workers=1) as pool:
        watching = pool.submit(watch)
        try:
            for version in versions:
                save(writer, version)
        finally:
            done.set()
        watching.result()
    for found in seen:
        assert found is not None, "a checkpoint that is saved again is there all the time"
        assert in_order(found) in versions, "a checkpoint that is saved again is seen whole: an old one or a new one"


# --- deaths ----------------------------------------------------------------------------------------------------------

_STEPS_MAX = 200


@CHECKS.covers(10)
def check_death_while_saving(harness: StoreHarness) -> None:
    """Wherever the process dies while it saves, the old checkpoint or the new one is there, whole (10)."""
    old, new = sample(1, 1, 2), sample(1, 3, upload_id="another")
    _check_deaths(harness, lambda store: store.save(new), old, new)


@CHECKS.covers(10)
def check_death_while_saving_first(harness: StoreHarness) -> None:
    """Wherever the process dies while it saves for the first time, nothing or the whole checkpoint is there (10)."""
    new = sample(1, 1, 2)
    _check_deaths(harness, lambda store: store.save(new), None, new)


@CHECKS.covers(10)
def check_death_while_appending(harness: StoreHarness) -> None:
    """Wherever the process dies while it appends, the part is there or it is not, and others can be appended (10)."""
    old, new = sample(1, 1), sample(1, 1, 2)
    _check_deaths(harness, lambda store: store.append_part(old.name, receipt(2)), old, new)


@CHECKS.covers(10)
def check_death_while_deleting(harness: StoreHarness) -> None:
    """Wherever the process dies while it deletes, the whole checkpoint is there, or none (10)."""
    old = sample(1, 1)
    _check_deaths(harness, lambda store: store.delete(old.name), old, None)


def _check_deaths(
    harness: StoreHarness, action: Callable[[CheckpointStore], None], old: Checkpoint | None, new: Checkpoint | None
) -> None:
    """Die at each step of an action in turn: a new process finds the old state or the new one, and can go on."""
    name = sample().name
    survivor = harness.open_for_test()
    for step in range(1, _STEPS_MAX):
        delete(survivor, name)
        if old is not None:
            save(survivor, old)
        dying = harness.open_for_test()
        with dying.claim(name):
            died = crashes_at(step, action, dying)
        duty = f"a death at step {step} leaves the old state or the new one"
        found = must_return(duty, survivor.load, name)
        state = None if found is None else in_order(found)
        assert state in (old, new), f"{duty}, and not {state}"
        if not died:
            assert state == new, "what was not interrupted is done"
            return
        if state is not None:
            append(survivor, name, receipt(9))
            duty = f"after a death at step {step} parts can be appended"
            must_load(survivor, with_parts(state, *state.parts, receipt(9)), duty)
    raise AssertionError(f"still not done after {_STEPS_MAX} calls that change files")


# --- damage ----------------------------------------------------------------------------------------------------------


@CHECKS.covers(11)
def check_torn_end(harness: StoreHarness) -> None:
    """A record whose end is cut off loses parts from its end at most; cut further, it is damaged (11)."""
    if not harness.tears:
        raise NotApplicable("no record of the store can be torn, as declared")
    whole = sample(1, 1, 2, 3)
    record = _record_of(harness, whole)
    prefixes = [with_parts(whole, *whole.parts[:count]) for count in range(4)]
    store = harness.open_for_test()
    for length in _positions(len(record)):
        harness.write_record(whole.name, record[:length])
        try:
            found = store.load(whole.name)
        except CheckpointDamaged:
            assert length < len(record) - 1, "a record that lost its last byte is torn, which is not damage"
        else:
            assert found is not None or not length, f"a record of {length} bytes is not nothing"
            assert found is None or in_order(found) in prefixes, (
                f"a record that was cut off at {length} of {len(record)} bytes became another: {found}"
            )


@CHECKS.covers(11)
def check_damage(harness: StoreHarness) -> None:
    """A record that was edited, or is foreign, is CheckpointDamaged, and never another checkpoint (11)."""
    whole = sample(1, 1, 2, 3)
    record = _record_of(harness, whole)
    # An edit of what stands last can't be told from a torn end.
    harmless = [whole, with_parts(whole, *whole.parts[:-1])] if harness.tears else [whole]
    store = harness.open_for_test()
    for position in _positions(len(record)):
        edited = bytearray(record)
        edited[position] ^= 1
        harness.write_record(whole.name, bytes(edited))
        try:
            found = store.load(whole.name)
        except CheckpointDamaged:
            continue
        assert found is not None, f"a record with byte {position} edited is not nothing"
        assert in_order(found) in harmless, f"byte {position} was edited, and the record became another: {found}"
    harness.write_record(whole.name, record[::-1])
    error = must_raise(CheckpointDamaged, "the record is foreign bytes", store.load, whole.name)
    assert error.name == whole.name, "CheckpointDamaged names the checkpoint"


@CHECKS.covers(11)
def check_saving_after_damage(harness: StoreHarness) -> None:
    """After damage was told, save starts afresh (11)."""
    checkpoint = sample(1, 1, 2, 3)
    edited = bytearray(_record_of(harness, checkpoint))
    edited[len(edited) // 3] ^= 1
    harness.write_record(checkpoint.name, bytes(edited))
    store = harness.open_for_test()
    with store.claim(checkpoint.name):
        must_raise(CheckpointDamaged, "the record was edited in its middle", store.load, checkpoint.name)
        store.save(checkpoint)
        store.append_part(checkpoint.name, receipt(4))
    must_load(store, sample(1, 1, 2, 3, 4), "after damage, save starts afresh")


@CHECKS.covers(11)
def check_damage_is_not_scanned(harness: StoreHarness) -> None:
    """A damaged record is left out of a scan and disturbs no other (11)."""
    skip_unless_multiple(harness)
    damaged, good = sample(1), sample(2)
    record = _record_of(harness, damaged)
    store = harness.open_for_test()
    save(store, good)
    harness.write_record(damaged.name, record[::-1])
    assert [found.name for found in store.scan()] == [good.name], "scan gives what can be read, and nothing else"


def _record_of(harness: StoreHarness, checkpoint: Checkpoint) -> bytes:
    """The bytes of this checkpoint's record, its parts appended one by one."""
    store = harness.open_for_test()
    save(store, evolve(checkpoint, parts=()))
    append(store, checkpoint.name, *checkpoint.parts)
    record = harness.read_record(checkpoint.name)
    if record is None:
        raise NotApplicable("the harness has no back door to the bytes of a record: see StoreHarness.read_record")
    return record


def _positions(length: int) -> list[int]:
    """Positions all over a record: all of a short one, some two hundred of a long one, and the last hundred."""
    return sorted({*range(0, length, max(1, length // 200)), *range(max(0, length - 100), length)})
