"""
Does a checkpoint store keep the promises of `CheckpointStore`?

An author writes a harness of some ten lines and a test class of two:

    class MineHarness(StoreHarness):
        def __init__(self):
            self.path = tempfile.mkdtemp()

        def open(self):
            return MyStore(self.path)

        def elsewhere(self):
            return functools.partial(MyStore, self.path)

    class TestMyStore(CheckpointStoreConformance):
        harness = MineHarness

Every check is also a plain function, ``check_...(harness)``, and `STORE_CHECKS` has them all.

The behaviours, by number:

    1 nothing there    2 round trip    3 saving again    4 delete    5 scan    6 uploads of one source
    7 strange names    8 two handles    9 reopening    10 whole or not at all    11 damage    12 other versions
    13 vanishing under a scan    14 unwritable    15 at the same time    16 claims    17 no shared state
    18 no secret    19 close, repr    20 any sequence of calls: `partwise.testing.stateful.store_machine`, and
    `agreement_machine` for several stores side by side
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import ClassVar, cast

from attrs import evolve

from partwise.errors import (
    CheckpointBusy,
    CheckpointDamaged,
    CheckpointError,
    CheckpointMismatch,
    CheckpointUnwritable,
    StoreClosed,
)
from partwise.model import Checkpoint, Fingerprint, ObjectOptions, UploadedPart
from partwise.protocols import CheckpointStore
from partwise.testing.checks import Harness, NotApplicable, Suite, must_raise
from partwise.testing.deaths import dies_at
from partwise.testing.witnesses import in_order


class StoreHarness(Harness[CheckpointStore]):
    """What the suite has to know about a store. `open` must be given; the rest declares what is special."""

    holds_one: ClassVar[bool] = False
    """Whether there is room for one checkpoint only; that of another upload is a `CheckpointMismatch` then."""

    durable: ClassVar[bool] = True
    """Whether checkpoints are still there once every handle was closed."""

    def elsewhere(self) -> Callable[[], CheckpointStore] | None:
        """
        What opens the store in another process: a callable that pickle can take there. None where no other process can.
        """
        return None

    def read_record(self, name: str) -> bytes | None:  # noqa: ARG002  # for harnesses that do
        """The bytes of the record as they lie in the store, by a back door; None where there is no such thing."""
        return None

    def write_record(self, name: str, data: bytes) -> None:
        """Put other bytes in the place of the record, by a back door. Needed where `read_record` is given."""
        raise NotImplementedError(f"read_record gives bytes: write_record({name!r}, {data!r}) has to take them")

    def open_unwritable(self) -> CheckpointStore | None:
        """A handle on a place that can't be written to, such as a directory that is a file; None where there is none."""
        return None


#: Every check of a checkpoint store.
STORE_CHECKS: Suite[StoreHarness] = Suite(
    left_out={
        12: "the plain form of a checkpoint is the library's affair: Checkpoint.from_data refuses other versions",
        18: "a checkpoint has no field for a secret, and a store is given nothing else",
        20: "state machines, which need hypothesis: see partwise.testing.stateful.store_machine and agreement_machine",
    }
)
_covers = STORE_CHECKS.covers


# --- one record ------------------------------------------------------------------------------------------------------


@_covers(1)
def check_nothing_there(harness: StoreHarness) -> None:
    """Loading what was never saved gives None, and scanning gives nothing (1)."""
    store = harness.opened()
    assert isinstance(store, CheckpointStore), "a store has all methods of CheckpointStore"
    assert store.load(_sample(1).name) is None, "load gives None where there is no checkpoint"
    assert list(store.scan()) == [], "scan gives nothing where there is nothing"


@_covers(2)
def check_round_trip(harness: StoreHarness) -> None:
    """What was saved is loaded again, equal in every field (2)."""
    for checkpoint in _VARIETY:
        if not harness.holds_one:
            _check_loaded(harness, checkpoint)
        elif checkpoint.name == _VARIETY[0].name:
            _check_loaded(harness, checkpoint)


@_covers(3)
def check_saving_again(harness: StoreHarness) -> None:
    """A second save takes the place of the first, appended parts included; there is one record (3)."""
    store = harness.opened()
    first = _sample(1, parts=_parts(1, 2))
    _save(store, first)
    _append(store, first.name, _part(3))
    second = evolve(first, upload_id="another", parts=_parts(2))
    _save(store, second)
    _assert_same(store.load(first.name), second, "the last save stands, and the parts before it do not")
    assert len(list(store.scan())) == 1, "a checkpoint that was saved twice is there once"


@_covers(3)
def check_append(harness: StoreHarness) -> None:
    """Appended parts are in what is loaded; of one number, the last one counts (3)."""
    store = harness.opened()
    checkpoint = _sample(1, parts=_parts(1))
    _save(store, checkpoint)
    for part in (_part(7), _part(3), _part(1, "again"), _part(7, "again")):
        _append(store, checkpoint.name, part)
    expected = evolve(checkpoint, parts=(_part(1, "again"), _part(3), _part(7, "again")))
    _assert_same(store.load(checkpoint.name), expected, "each part that was appended counts, as it was appended last")
    with store.claim(checkpoint.name):
        for number in range(10, 15):
            store.append_part(checkpoint.name, _part(number))
    expected = evolve(expected, parts=(*expected.parts, *_parts(*range(10, 15))))
    _assert_same(store.load(checkpoint.name), expected, "parts that are appended in one claim all count")


@_covers(3)
def check_append_to_nothing(harness: StoreHarness) -> None:
    """A part can't be appended to a checkpoint that is not there (3)."""
    store = harness.opened()
    name = _sample(1).name
    must_raise(CheckpointError, lambda: _append(store, name, _part(1)), "there is no checkpoint of this name")
    assert store.load(name) is None, "nothing was to be made of a part alone"


@_covers(4)
def check_delete(harness: StoreHarness) -> None:
    """A deleted checkpoint is gone with its parts and does not come back; deleting what is not there is fine (4)."""
    store = harness.opened()
    checkpoint = _sample(1)
    _delete(store, checkpoint.name)
    _save(store, checkpoint)
    _append(store, checkpoint.name, _part(1))
    _delete(store, checkpoint.name)
    _delete(store, checkpoint.name)
    assert store.load(checkpoint.name) is None, "a deleted checkpoint is gone"
    assert list(store.scan()) == [], "a deleted checkpoint is not scanned"
    must_raise(CheckpointError, lambda: _append(store, checkpoint.name, _part(2)), "the checkpoint was deleted")
    _save(store, checkpoint)
    _assert_same(store.load(checkpoint.name), checkpoint, "a checkpoint that is saved anew has no part of before")


@_covers(17)
def check_nothing_is_shared(harness: StoreHarness) -> None:
    """Neither what was saved nor what was loaded can be changed through the other (17)."""
    store = harness.opened()
    saved = _sample(1, options=ObjectOptions(metadata={"author": "somebody"}))
    expected = _sample(1, options=ObjectOptions(metadata={"author": "somebody"}))
    _save(store, saved)
    # The mappings are dicts, and frozen by custom only.
    cast("dict[str, str]", saved.options.metadata)["author"] = "changed after save"
    loaded = store.load(saved.name)
    _assert_same(loaded, expected, "what happens to a checkpoint after save does not change what is stored")
    assert loaded is not None, "there is a checkpoint"
    cast("dict[str, str]", loaded.options.metadata)["author"] = "changed after load"
    _assert_same(store.load(saved.name), expected, "what happens to what was loaded does not change what is stored")
    for scanned in store.scan():
        cast("dict[str, str]", scanned.options.metadata)["author"] = "changed after scan"
    _assert_same(store.load(saved.name), expected, "what happens to what was scanned does not change what is stored")


# --- many records ----------------------------------------------------------------------------------------------------


@_covers(5)
def check_scan(harness: StoreHarness) -> None:
    """Every checkpoint is scanned once, with its parts (5)."""
    store = harness.opened()
    checkpoints = [_sample(1)] if harness.holds_one else [_sample(number) for number in range(1, 5)]
    for checkpoint in checkpoints:
        _save(store, checkpoint)
        _append(store, checkpoint.name, _part(1))
    scanned = sorted((in_order(found) for found in store.scan()), key=lambda found: found.name)
    expected = sorted((evolve(one, parts=_parts(1)) for one in checkpoints), key=lambda one: one.name)
    assert scanned == expected, "scan gives every checkpoint, once, with its parts"


@_covers(6, 7)
def check_uploads_are_kept_apart(harness: StoreHarness) -> None:
    """One source on its way to several targets has several checkpoints, however alike the targets are (6, 7)."""
    _need_room(harness)
    store = harness.opened()
    places = [("mem://a", "b/c"), ("mem://a", "b"), ("mem://a/b", "c"), ("mem://a", "B"), ("mem://A", "b")]
    checkpoints = [evolve(_sample(n), location=loc, key=key) for n, (loc, key) in enumerate(places)]
    for checkpoint in checkpoints:
        _save(store, checkpoint)
    for number, checkpoint in enumerate(checkpoints, start=1):
        _append(store, checkpoint.name, _part(number))
    _delete(store, checkpoints[0].name)
    for number, checkpoint in enumerate(checkpoints[1:], start=2):
        expected = evolve(checkpoint, parts=_parts(number))
        _assert_same(store.load(checkpoint.name), expected, "each upload has a checkpoint of its own")


@_covers(7)
def check_strange_names(harness: StoreHarness) -> None:
    """Any non-empty name is taken, and kept apart from every other, whatever characters it is of (7)."""
    store = harness.opened()
    for name in _STRANGE_NAMES:
        assert store.load(name) is None, f"load takes the name {name!r}"
        _delete(store, name)
        must_raise(CheckpointError, lambda name=name: _append(store, name, _part(1)), f"nothing is saved as {name!r}")  # type: ignore[misc]  # mypy can't infer a lambda with a default
    if harness.holds_one:
        return
    for name, other in zip(_STRANGE_NAMES, _STRANGE_NAMES[1:], strict=False):
        with store.claim(name), store.claim(other):
            pass


@_covers(13)
def check_vanishing_under_a_scan(harness: StoreHarness) -> None:
    """Checkpoints that vanish while they are scanned disturb no other (13)."""
    _need_room(harness)
    store, other = harness.opened(), harness.opened()
    checkpoints = {checkpoint.name: checkpoint for checkpoint in map(_sample, range(1, 6))}
    for checkpoint in checkpoints.values():
        _save(store, checkpoint)
    scanning = iter(store.scan())
    scanned = [next(scanning).name]
    kept, *vanishing = sorted(checkpoints.keys() - scanned)
    for name in vanishing:
        _delete(other, name)
    scanned += [found.name for found in scanning]
    assert len(scanned) == len(set(scanned)), "each checkpoint is scanned once"
    assert kept in scanned, "a checkpoint that is there all the time is scanned"


@_covers(5, 16)
def check_room_for_one(harness: StoreHarness) -> None:
    """Where there is room for one checkpoint, that of another upload is refused, and neither is touched (5, 16)."""
    if not harness.holds_one:
        raise NotApplicable("the store has room for many checkpoints")
    store = harness.opened()
    here, other = _sample(1, parts=_parts(1)), _sample(2)
    _save(store, here)
    for call in (
        lambda: store.load(other.name),
        lambda: _save(store, other),
        lambda: _append(store, other.name, _part(2)),
    ):
        must_raise(CheckpointMismatch, call, "the one place holds the checkpoint of another upload")
        _assert_same(store.load(here.name), here, "the checkpoint that is there is not touched")
    _delete(store, other.name)
    _assert_same(store.load(here.name), here, "deleting another upload's checkpoint does not touch this one")
    _delete(store, here.name)
    _save(store, other)
    _assert_same(store.load(other.name), other, "once the place is free, another upload can have it")


# --- handles and processes -------------------------------------------------------------------------------------------


@_covers(8)
def check_handles_see_each_other(harness: StoreHarness) -> None:
    """What is done by one handle is there for another at once (8)."""
    one, other = harness.opened(), harness.opened()
    checkpoint = _sample(1)
    _save(one, checkpoint)
    _assert_same(other.load(checkpoint.name), checkpoint, "what one handle saved, another loads")
    with one.claim(checkpoint.name):
        one.append_part(checkpoint.name, _part(1))
        seen = other.load(checkpoint.name)
        _assert_same(seen, evolve(checkpoint, parts=_parts(1)), "what one handle appended, another loads at once")
    _append(other, checkpoint.name, _part(2))
    _append(one, checkpoint.name, _part(3))
    expected = evolve(checkpoint, parts=_parts(1, 2, 3))
    _assert_same(one.load(checkpoint.name), expected, "parts that were appended by two handles in turn all count")
    _delete(other, checkpoint.name)
    assert one.load(checkpoint.name) is None, "what one handle deleted is gone for another"


@_covers(9)
def check_reopening(harness: StoreHarness) -> None:
    """Checkpoints are still there once every handle was closed (9)."""
    if not harness.durable:
        raise NotApplicable("the store is not durable, as declared")
    checkpoint = _sample(1, parts=_parts(1))
    store = harness.opened()
    _save(store, checkpoint)
    _append(store, checkpoint.name, _part(2))
    _close(store)
    expected = evolve(checkpoint, parts=_parts(1, 2))
    _assert_same(harness.opened().load(checkpoint.name), expected, "what was saved and appended survives reopening")


@_covers(19)
def check_close_and_repr(harness: StoreHarness) -> None:
    """The repr names the class; where a store can be closed, closing twice is fine and later use is StoreClosed (19)."""
    store = harness.opened()
    assert type(store).__name__ in repr(store), f"repr names the class {type(store).__name__}: {store!r}"
    if not hasattr(store, "close"):
        raise NotApplicable("the store needs no closing")
    checkpoint = _sample(1)
    _close(store)
    _close(store)
    calls: dict[str, Callable[[], object]] = {
        "claim": lambda: store.claim(checkpoint.name).__enter__(),
        "load": lambda: store.load(checkpoint.name),
        "save": lambda: store.save(checkpoint),
        "append_part": lambda: store.append_part(checkpoint.name, _part(1)),
        "delete": lambda: store.delete(checkpoint.name),
        "scan": lambda: list(store.scan()),
    }
    for operation, call in calls.items():
        must_raise(StoreClosed, call, f"{operation} after close")


@_covers(16)
def check_claim_is_exclusive(harness: StoreHarness) -> None:
    """A claim is refused at once while another is held, by any handle, and is free when that one is left (16)."""
    one, other = harness.opened(), harness.opened()
    name, another = _sample(1).name, _sample(2).name
    with one.claim(name):
        for store in (one, other):
            must_raise(CheckpointBusy, lambda store=store: store.claim(name).__enter__(), "the claim is held")  # type: ignore[misc]  # mypy can't infer a lambda with a default
        with ThreadPoolExecutor(max_workers=1) as pool:
            elsewhere = pool.submit(lambda: other.claim(name).__enter__())
            must_raise(CheckpointBusy, elsewhere.result, "the claim is held by another thread")
        with nullcontext() if harness.holds_one else other.claim(another):
            pass
    must_raise(_Interrupted, lambda: _interrupted_claim(one, name), "an error in the block comes out")
    entered_by_nobody = one.claim(name)
    with other.claim(name):
        must_raise(CheckpointBusy, entered_by_nobody.__enter__, "a claim is held from entering to leaving")


@_covers(16)
def check_claim_race(harness: StoreHarness) -> None:
    """Of many threads that claim at the same time, never two hold the claim (16)."""
    name = _sample(1).name
    stores = [harness.opened() for _ in range(4)]
    holders: list[int] = []
    most: list[int] = []
    start = threading.Barrier(len(stores))

    def claim_again_and_again(store: CheckpointStore) -> int:
        start.wait()
        held = 0
        for _ in range(25):
            try:
                with store.claim(name):
                    holders.append(1)
                    time.sleep(0.001)  # gives the others a chance to be there too
                    most.append(len(holders))
                    held += 1
                    holders.pop()
            except CheckpointBusy:
                pass
        return held

    with ThreadPoolExecutor(max_workers=len(stores)) as pool:
        held = sum(pool.map(claim_again_and_again, stores))
    assert held >= 1, "somebody gets the claim"
    assert max(most) == 1, "no two hold the claim at the same time"


@_covers(16)
def check_claim_ends_with_its_process(harness: StoreHarness) -> None:
    """Another process's claim is respected, and is free as soon as that process is killed (16)."""
    opener = harness.elsewhere()
    if opener is None:
        raise NotApplicable("no other process can open the store: see StoreHarness.elsewhere")
    store = harness.opened()
    name = _sample(1).name
    with _claimed_elsewhere(opener, name):
        must_raise(CheckpointBusy, lambda: store.claim(name).__enter__(), "another process holds the claim")
    with store.claim(name):
        pass


@_covers(15)
def check_many_threads(harness: StoreHarness) -> None:
    """Checkpoints that are written at the same time, each under its claim, are all kept whole (15)."""
    _need_room(harness)
    store = harness.opened()
    checkpoints = [_sample(number) for number in range(1, 9)]

    def write(checkpoint: Checkpoint) -> None:
        with store.claim(checkpoint.name):
            store.save(checkpoint)
            for number in range(1, 6):
                store.append_part(checkpoint.name, _part(number))

    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(write, checkpoints))
    for checkpoint in checkpoints:
        expected = evolve(checkpoint, parts=_parts(1, 2, 3, 4, 5))
        _assert_same(store.load(checkpoint.name), expected, "what is written at the same time is kept apart")


# --- whole or not at all ---------------------------------------------------------------------------------------------


@_covers(10, 15)
def check_readers_see_whole_records(harness: StoreHarness) -> None:
    """Whoever loads while a checkpoint is saved again and again sees one of the saved ones, whole (10, 15)."""
    writer, reader = harness.opened(), harness.opened()
    versions = [_sample(1, upload_id=f"upload-{n}", parts=_parts(*range(1, n + 2))) for n in range(20)]
    _save(writer, versions[0])
    seen: list[Checkpoint | None] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(reader.load(versions[0].name))

    with ThreadPoolExecutor(max_workers=1) as pool:
        watching = pool.submit(watch)
        try:
            for version in versions:
                _save(writer, version)
        finally:
            done.set()
        watching.result()
    for found in seen:
        assert found is not None, "a checkpoint that is saved again is there all the time"
        assert in_order(found) in versions, "a checkpoint that is saved again is seen whole: an old one or a new one"


@_covers(10)
def check_death_while_saving(harness: StoreHarness) -> None:
    """Wherever the process dies while it saves, the old checkpoint or the new one is there, whole (10)."""
    old, new = _sample(1, parts=_parts(1, 2)), _sample(1, upload_id="another", parts=_parts(3))
    _check_deaths(harness, old, lambda store: store.save(new), [old, new])


@_covers(10)
def check_death_while_saving_first(harness: StoreHarness) -> None:
    """Wherever the process dies while it saves for the first time, nothing or the whole checkpoint is there (10)."""
    new = _sample(1, parts=_parts(1, 2))
    _check_deaths(harness, None, lambda store: store.save(new), [None, new])


@_covers(10)
def check_death_while_appending(harness: StoreHarness) -> None:
    """Wherever the process dies while it appends, the part is there or it is not, and others can be appended (10)."""
    old = _sample(1, parts=_parts(1))
    new = evolve(old, parts=_parts(1, 2))
    _check_deaths(harness, old, lambda store: store.append_part(old.name, _part(2)), [old, new])


@_covers(10)
def check_death_while_deleting(harness: StoreHarness) -> None:
    """Wherever the process dies while it deletes, the whole checkpoint is there, or none (10)."""
    old = _sample(1, parts=_parts(1))
    _check_deaths(harness, old, lambda store: store.delete(old.name), [old, None])


@_covers(11)
def check_torn_end(harness: StoreHarness) -> None:
    """A record whose end is cut off loses parts from its end at most; cut further, it is damaged (11)."""
    whole = _sample(1, parts=_parts(1, 2, 3))
    record = _record_of(harness, whole)
    prefixes = [evolve(whole, parts=whole.parts[:count]) for count in range(4)]
    store = harness.opened()
    for length in _cuts(len(record)):
        harness.write_record(whole.name, record[:length])
        try:
            found = store.load(whole.name)
        except CheckpointDamaged:
            assert length < len(record) - 1, "a record that lost its last byte is torn, which is not damage"
            continue
        if found is None:
            assert length == 0, f"a record of {length} bytes is not nothing"
            continue
        assert in_order(found) in prefixes, (
            f"a record cut off at {length} of {len(record)} bytes has parts it never had"
        )


@_covers(11)
def check_damage(harness: StoreHarness) -> None:
    """A record that was edited or is foreign is CheckpointDamaged, never another checkpoint; save starts afresh (11)."""
    whole = _sample(1, parts=_parts(1, 2, 3))
    record = _record_of(harness, whole)
    # An edit of what stands last can't be told from a torn end.
    harmless = [whole, evolve(whole, parts=whole.parts[:-1])]
    store = harness.opened()
    for position in _cuts(len(record) - 1):
        edited = bytearray(record)
        edited[position] ^= 1
        harness.write_record(whole.name, bytes(edited))
        try:
            found = store.load(whole.name)
        except CheckpointDamaged:
            continue
        assert found is not None, f"a record with byte {position} edited is not nothing"
        assert in_order(found) in harmless, f"byte {position} was edited, and a checkpoint came that was never saved"
    harness.write_record(whole.name, bytes(reversed(record)))
    error = must_raise(CheckpointDamaged, lambda: store.load(whole.name), "the record is foreign bytes")
    assert error.name == whole.name, "CheckpointDamaged names the checkpoint"
    with store.claim(whole.name):
        must_raise(CheckpointDamaged, lambda: store.load(whole.name), "the record is foreign bytes")
        store.save(whole)
    _assert_same(store.load(whole.name), whole, "after damage, save starts afresh")


@_covers(11)
def check_damage_is_not_scanned(harness: StoreHarness) -> None:
    """A damaged record is left out of a scan and disturbs no other (11)."""
    _need_room(harness)
    damaged, good = _sample(1), _sample(2)
    record = _record_of(harness, damaged)
    store = harness.opened()
    _save(store, good)
    harness.write_record(damaged.name, bytes(reversed(record)))
    assert [found.name for found in store.scan()] == [good.name], "scan gives what can be read, and nothing else"


@_covers(14)
def check_unwritable_place(harness: StoreHarness) -> None:
    """A place that can't be written to is CheckpointUnwritable, with its cause, before anything else happens (14)."""
    store = harness.open_unwritable()
    if store is None:
        raise NotApplicable("the harness has no place that can't be written to: see StoreHarness.open_unwritable")
    checkpoint = _sample(1)
    try:
        for operation, call in (
            ("claim", lambda: store.claim(checkpoint.name).__enter__()),
            ("save", lambda: store.save(checkpoint)),
        ):
            error = must_raise(CheckpointUnwritable, call, f"{operation} where nothing can be written")
            assert error.__cause__ is not None, f"the error of {operation} has its cause"
    finally:
        _close(store)


# --- the suite as a test class ---------------------------------------------------------------------------------------


class CheckpointStoreConformance:
    """
    The suite for pytest: subclass it under a name that begins with ``Test``, and set `harness`.

    There is a test method for each check, and one for the state machine, which needs hypothesis.
    """

    harness: ClassVar[Callable[[], StoreHarness]]
    """What makes a harness with an empty store: the harness class itself, or any function."""

    def test_any_sequence_of_calls(self) -> None:
        """Hypothesis looks for a sequence of calls after which the store and a model of it differ (20)."""
        from partwise.testing.stateful import run_machine, store_machine

        make = type(self).harness
        with make() as harness:
            examples = harness.examples
        run_machine(store_machine(make), examples)

    def test_declared_deviations_are_of_checks(self) -> None:
        """Each declared deviation is of a check that there is."""
        with type(self).harness() as harness:
            STORE_CHECKS.check_declarations(harness)


STORE_CHECKS.add_tests(CheckpointStoreConformance)


# --- inside ----------------------------------------------------------------------------------------------------------

_STEPS_MAX = 200
_STRANGE_NAMES = (
    "plain",
    "Plain",
    "a/b",
    "a%2Fb",
    "../up",
    ".",
    "..",
    " ",
    "con",
    "with\nnewline",
    "with\0nul",
    "\u00e4",
    "a\u0308",
    "\udcff",
    "n" * 300,
    "n" * 301,
)


class _Interrupted(Exception):
    """What happens in the middle of a claim."""


def _part(number: int, version: str = "first") -> UploadedPart:
    return UploadedPart(number, 1000 + number, f'"etag {number} {version}"', 2**64 - number if number % 2 else None)


def _parts(*numbers: int) -> tuple[UploadedPart, ...]:
    return tuple(_part(number) for number in numbers)


def _sample(
    number: int,
    *,
    upload_id: str = "upload",
    parts: tuple[UploadedPart, ...] = (),
    options: ObjectOptions | None = None,
) -> Checkpoint:
    """The checkpoint of upload no. `number`."""
    return Checkpoint(
        location="memory://bucket",
        key=f"key-{number}",
        source="/a/source",
        fingerprint=Fingerprint(10_000_000, 1_700_000_000_000_000_001, "12345"),
        part_size=1_000_000,
        options=options or ObjectOptions(),
        upload_id=upload_id,
        parts=parts,
        created=1_700_000_000.25,
    )


_VARIETY = (
    _sample(1),
    evolve(_sample(1), upload_id=None, fingerprint=Fingerprint(), created=0.0),
    evolve(_sample(1), doubling_every=1000, token="a token", abandoned=("one", "two")),  # noqa: S106  # no password: it marks an object as ours
    _sample(1, parts=_parts(*range(1, 200))),
    _sample(
        1, options=ObjectOptions(content_type="text/plain", metadata={"a": "b", "c": "\u00e4 \n"}, tagging={"d": ""})
    ),
    evolve(_sample(1), fingerprint=Fingerprint(2**62, 2**62, "id", 2**64 - 1)),
    evolve(_sample(2), key="key/\u00e4\U0001f4e6 \n\t\"'\\", source="/a/\udcff/source"),
)


def _save(store: CheckpointStore, checkpoint: Checkpoint) -> None:
    with store.claim(checkpoint.name):
        store.save(checkpoint)


def _append(store: CheckpointStore, name: str, part: UploadedPart) -> None:
    with store.claim(name):
        store.append_part(name, part)


def _delete(store: CheckpointStore, name: str) -> None:
    with store.claim(name):
        store.delete(name)


def _close(store: CheckpointStore) -> None:
    if callable(close := getattr(store, "close", None)):
        close()


def _assert_same(found: Checkpoint | None, expected: Checkpoint, duty: str) -> None:
    assert found is not None, f"{duty}: there is none"
    assert in_order(found) == in_order(expected), f"{duty}: expected\n{expected}\nand found\n{found}"


def _check_loaded(harness: StoreHarness, checkpoint: Checkpoint) -> None:
    store = harness.opened()
    _save(store, checkpoint)
    _assert_same(store.load(checkpoint.name), checkpoint, "what was saved is loaded again")


def _need_room(harness: StoreHarness) -> None:
    if harness.holds_one:
        raise NotApplicable("the store has room for one checkpoint only, as declared")


def _interrupted_claim(store: CheckpointStore, name: str) -> None:
    with store.claim(name):
        raise _Interrupted


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
            told = process.stdout.readline().strip()
            assert told == b"claimed", "another process can open the store and claim the name"
            yield
        finally:
            process.kill()
            process.wait()


_CLAIM = """
import pickle, sys
opener, name = pickle.loads(bytes.fromhex(sys.argv[1]))
with opener().claim(name):
    print("claimed", flush=True)
    sys.stdin.read()
"""


def _check_deaths(
    harness: StoreHarness,
    before: Checkpoint | None,
    action: Callable[[CheckpointStore], None],
    allowed: list[Checkpoint | None],
) -> None:
    """Die at each step of an action in turn; a new process then finds one of the states that are allowed."""
    name = _sample(1).name
    survivor = harness.opened()
    for step in range(1, _STEPS_MAX):
        _delete(survivor, name)
        if before is not None:
            _save(survivor, before)
        dying = harness.opened()
        with dying.claim(name):
            died = dies_at(step, lambda dying=dying: action(dying))  # type: ignore[misc]  # mypy can't infer a lambda with a default
        found = survivor.load(name)
        state = None if found is None else in_order(found)
        assert state in allowed, f"a death at step {step} left neither the old state nor the new one, but {state}"
        if not died:
            assert state == allowed[-1], "what was not interrupted is done"
            return
        if state is not None:
            _append(survivor, name, _part(9))
            grown = evolve(state, parts=(*state.parts, _part(9)))
            _assert_same(survivor.load(name), grown, f"after a death at step {step}, parts can be appended")
    raise AssertionError(f"still not done after {_STEPS_MAX} calls of the operating system")


def _record_of(harness: StoreHarness, checkpoint: Checkpoint) -> bytes:
    """The bytes of this checkpoint's record, its parts appended one by one."""
    store = harness.opened()
    with store.claim(checkpoint.name):
        store.save(evolve(checkpoint, parts=()))
        for part in checkpoint.parts:
            store.append_part(checkpoint.name, part)
    record = harness.read_record(checkpoint.name)
    if record is None:
        raise NotApplicable("the harness has no back door to the bytes of a record: see StoreHarness.read_record")
    return record


def _cuts(length: int) -> list[int]:
    """Positions all over a record: all of a short one, and some two hundred of a long one, its end among them."""
    step = max(1, length // 200)
    return sorted({*range(0, length, step), *range(max(0, length - 100), length + 1)} - {-1})
