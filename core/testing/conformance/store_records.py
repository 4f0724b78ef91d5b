"""What is kept, and where: one record, many records, several handles (1 to 9, 13, 14, 17, 19)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import cast

from attrs import evolve

from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.errors import CheckpointError, CheckpointMismatch, CheckpointUnwritable, StoreClosed
from partwise.model import ObjectOptions
from partwise.protocols import CheckpointStore
from partwise.testing.conformance.store_harness import (
    StoreHarness,
    append,
    close,
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
from partwise.testing.oracles import in_order

CHECKS: Suite[StoreHarness] = Suite()


# --- one record ------------------------------------------------------------------------------------------------------


@CHECKS.covers(1)
def check_nothing_there(harness: StoreHarness) -> None:
    """Loading what was never saved gives None, and scanning gives nothing (1)."""
    store = harness.open_for_test()
    assert isinstance(store, CheckpointStore), "a store has all methods of CheckpointStore"
    assert store.load(sample().name) is None, "load gives None where there is no checkpoint"
    assert list(store.scan()) == [], "scan gives nothing where there is nothing"


_VARIETY = (
    sample(1),
    evolve(sample(1), upload_id=None, fingerprint=Fingerprint(), created=0.0),
    evolve(sample(1), parts_per_doubling=1000, token="a token", abandoned=("one", "two")),  # noqa: S106  # marks an object as ours
    sample(1, *range(1, 200)),
    sample(1, options=ObjectOptions(content_type="text/plain", metadata={"a": "b", "c": "\u00e4 \n"}, tags={"d": ""})),
    evolve(sample(1), fingerprint=Fingerprint(2**62, 2**62, "id", 2**64 - 1)),
    evolve(sample(2), key="key/\u00e4\U0001f4e6 \n\t\"'\\", source="/a/\udcff/source"),
)


@CHECKS.covers(2)
def check_round_trip(harness: StoreHarness) -> None:
    """What was saved is loaded again, equal in every field (2)."""
    store = harness.open_for_test()
    for checkpoint in _VARIETY:
        save(store, checkpoint)
        must_load(store, checkpoint, "what was saved is loaded again")
        if harness.holds_one:
            delete(store, checkpoint.name)


@CHECKS.covers(3)
def check_saving_again(harness: StoreHarness) -> None:
    """A second save takes the place of the first, appended parts included; there is one record (3)."""
    store = harness.open_for_test()
    first, second = sample(1, 1, 2), sample(1, 2, upload_id="another")
    save(store, first)
    append(store, first.name, receipt(3))
    save(store, second)
    must_load(store, second, "the last save stands, and the parts before it do not")
    assert len(list(store.scan())) == 1, "a checkpoint that was saved twice is there once"


@CHECKS.covers(3)
def check_append(harness: StoreHarness) -> None:
    """Appended parts are in what is loaded; of one number, the last one counts (3)."""
    store = harness.open_for_test()
    checkpoint = sample(1, 1)
    save(store, checkpoint)
    append(store, checkpoint.name, receipt(7))
    append(store, checkpoint.name, receipt(3), receipt(1, "again"), receipt(7, "again"))
    expected = with_parts(checkpoint, receipt(1, "again"), receipt(3), receipt(7, "again"))
    must_load(store, expected, "each part that was appended counts, as it was appended last")


@CHECKS.covers(3)
def check_append_to_nothing(harness: StoreHarness) -> None:
    """A part can't be appended to a checkpoint that is not there (3)."""
    store = harness.open_for_test()
    name = sample().name
    must_raise(CheckpointError, "there is no checkpoint of this name", append, store, name, receipt(1))
    assert store.load(name) is None, "nothing is made of a part alone"


@CHECKS.covers(4)
def check_delete(harness: StoreHarness) -> None:
    """A deleted checkpoint is gone with its parts and does not come back; deleting what is not there is fine (4)."""
    store = harness.open_for_test()
    checkpoint = sample()
    must_return("deleting what is not there is fine", delete, store, checkpoint.name)
    save(store, checkpoint)
    append(store, checkpoint.name, receipt(1))
    delete(store, checkpoint.name)
    must_return("deleting twice is fine", delete, store, checkpoint.name)
    assert store.load(checkpoint.name) is None, "a deleted checkpoint is gone"
    assert list(store.scan()) == [], "a deleted checkpoint is not scanned"
    must_raise(CheckpointError, "the checkpoint was deleted", append, store, checkpoint.name, receipt(2))
    save(store, checkpoint)
    must_load(store, checkpoint, "a checkpoint that is saved anew has no part of before")


@CHECKS.covers(17)
def check_nothing_is_shared(harness: StoreHarness) -> None:
    """Neither what was saved nor what was loaded or scanned is the store's own state (17)."""
    store = harness.open_for_test()
    saved, expected = (sample(options=ObjectOptions(metadata={"author": "somebody"})) for _ in range(2))

    def change(checkpoint: Checkpoint | None) -> None:
        assert checkpoint is not None, "there is a checkpoint"
        # The mappings are dicts, frozen by custom only.
        cast("dict[str, str]", checkpoint.options.metadata)["author"] = "somebody else"

    save(store, saved)
    change(saved)
    must_load(store, expected, "what happens to a checkpoint after save does not change what is stored")
    change(store.load(expected.name))
    must_load(store, expected, "what happens to what was loaded does not change what is stored")
    for scanned in store.scan():
        change(scanned)
    must_load(store, expected, "what happens to what was scanned does not change what is stored")


# --- many records ----------------------------------------------------------------------------------------------------


@CHECKS.covers(5)
def check_scan(harness: StoreHarness) -> None:
    """Every checkpoint is scanned once, with its parts (5)."""
    store = harness.open_for_test()
    checkpoints = [sample(number) for number in range(1, 2 if harness.holds_one else 5)]
    for checkpoint in checkpoints:
        save(store, checkpoint)
        append(store, checkpoint.name, receipt(1))
    scanned = sorted((in_order(found) for found in store.scan()), key=lambda found: found.key)
    expected = [with_parts(checkpoint, receipt(1)) for checkpoint in checkpoints]
    assert scanned == expected, "scan gives every checkpoint, once, with its parts"


@CHECKS.covers(6, 7)
def check_uploads_are_kept_apart(harness: StoreHarness) -> None:
    """One source on its way to several targets has several checkpoints, however alike the targets are (6, 7)."""
    skip_unless_multiple(harness)
    store = harness.open_for_test()
    targets = [("mem://a", "b/c"), ("mem://a", "b"), ("mem://a/b", "c"), ("mem://a", "B"), ("mem://A", "b")]
    checkpoints = [evolve(sample(), location=location, key=key) for location, key in targets]
    for checkpoint in checkpoints:
        save(store, checkpoint)
    for number, checkpoint in enumerate(checkpoints, start=1):
        append(store, checkpoint.name, receipt(number))
    delete(store, checkpoints[0].name)
    assert store.load(checkpoints[0].name) is None, "what was deleted is gone"
    for number, checkpoint in enumerate(checkpoints[1:], start=2):
        must_load(store, with_parts(checkpoint, receipt(number)), "each upload has a checkpoint of its own")


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


@CHECKS.covers(7)
def check_strange_names(harness: StoreHarness) -> None:
    """Any non-empty name is taken, whatever characters it is of, and claimed apart from every other (7)."""
    store = harness.open_for_test()
    for name in _STRANGE_NAMES:
        assert store.load(name) is None, f"load takes the name {name!r:.30}"
        delete(store, name)
        must_raise(CheckpointError, f"nothing is saved as {name!r:.30}", append, store, name, receipt(1))
    if not harness.holds_one:
        for name, other in pairwise(_STRANGE_NAMES):
            with store.claim(name):
                must_return(f"{name!r:.30} and {other!r:.30} are two names", enter_claim, store, other)


@CHECKS.covers(13)
def check_vanishing_under_a_scan(harness: StoreHarness) -> None:
    """Checkpoints that vanish while they are scanned disturb no other (13)."""
    skip_unless_multiple(harness)
    store, other = harness.open_for_test(), harness.open_for_test()
    checkpoints = [sample(number) for number in range(1, 6)]
    for checkpoint in checkpoints:
        save(store, checkpoint)
    scanning = iter(store.scan())
    scanned = [next(scanning).name]
    kept, *vanishing = (checkpoint.name for checkpoint in checkpoints if checkpoint.name not in scanned)
    for name in vanishing:
        delete(other, name)
    scanned += [found.name for found in scanning]
    assert len(scanned) == len(set(scanned)), "each checkpoint is scanned once"
    assert kept in scanned, "a checkpoint that is there all the time is scanned"


@CHECKS.covers(5, 16)
def check_room_for_one(harness: StoreHarness) -> None:
    """Where there is room for one checkpoint, that of another upload is refused, and neither is touched (5, 16)."""
    if not harness.holds_one:
        raise NotApplicable("the store has room for many checkpoints")
    store = harness.open_for_test()
    here, other = sample(1, 1), sample(2)
    save(store, here)
    duty = "the one place holds the checkpoint of another upload"
    must_raise(CheckpointMismatch, duty, store.load, other.name)
    must_raise(CheckpointMismatch, duty, save, store, other)
    must_raise(CheckpointMismatch, duty, append, store, other.name, receipt(2))
    delete(store, other.name)
    must_load(store, here, f"{duty}, which is not touched")
    delete(store, here.name)
    save(store, other)
    must_load(store, other, "once the place is free, another upload can have it")


# --- handles ---------------------------------------------------------------------------------------------------------


@CHECKS.covers(8)
def check_handles_see_each_other(harness: StoreHarness) -> None:
    """What is done by one handle is there for another at once (8)."""
    one, other = harness.open_for_test(), harness.open_for_test()
    checkpoint = sample()
    save(one, checkpoint)
    must_load(other, checkpoint, "what one handle saved, another loads")
    with one.claim(checkpoint.name):
        one.append_part(checkpoint.name, receipt(1))
        must_load(other, with_parts(checkpoint, receipt(1)), "what one handle appended, another loads at once")
    append(other, checkpoint.name, receipt(2))
    append(one, checkpoint.name, receipt(3))
    must_load(one, with_parts(checkpoint, *receipts(1, 2, 3)), "parts appended by two handles in turn all count")
    delete(other, checkpoint.name)
    assert one.load(checkpoint.name) is None, "what one handle deleted is gone for another"


@CHECKS.covers(9)
def check_reopening(harness: StoreHarness) -> None:
    """Checkpoints are still there once every handle was closed (9)."""
    if not harness.durable:
        raise NotApplicable("the store is not durable, as declared")
    store = harness.open_for_test()
    save(store, sample(1, 1))
    append(store, sample().name, receipt(2))
    close(store)
    must_load(harness.open_for_test(), sample(1, 1, 2), "what was saved and appended survives reopening")


@CHECKS.covers(14)
def check_unwritable_place(harness: StoreHarness) -> None:
    """A place that can't be written to is CheckpointUnwritable, with its cause, for a claim and for a save (14)."""
    store = harness.open_unwritable()
    if store is None:
        raise NotApplicable("the harness has no place that can't be written to: see StoreHarness.open_unwritable")
    try:
        duty = "nothing can be written there"
        errors = [
            must_raise(CheckpointUnwritable, duty, enter_claim, store, sample().name),
            must_raise(CheckpointUnwritable, duty, store.save, sample()),
        ]
        assert all(error.__cause__ is not None for error in errors), "CheckpointUnwritable has its cause"
    finally:
        close(store)


@CHECKS.covers(19)
def check_close_and_repr(harness: StoreHarness) -> None:
    """The repr names the class; a store that can be closed can be twice, and later use is StoreClosed (19)."""
    store = harness.open_for_test()
    assert type(store).__name__ in repr(store), f"repr names the class {type(store).__name__}: {store!r}"
    if not hasattr(store, "close"):
        return
    close(store)
    must_return("closing twice is fine", close, store)
    name = sample().name
    calls: dict[str, Callable[[], object]] = {
        "claim": lambda: enter_claim(store, name),
        "load": lambda: store.load(name),
        "save": lambda: store.save(sample()),
        "append_part": lambda: store.append_part(name, receipt(1)),
        "delete": lambda: store.delete(name),
        "scan": lambda: list(store.scan()),
    }
    for operation, call in calls.items():
        must_raise(StoreClosed, f"{operation} after close", call)
