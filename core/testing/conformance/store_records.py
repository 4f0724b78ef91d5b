"""One record, many records, several handles (1 to 9, 13, 14, 17 to 19, 23 to 25)."""

from __future__ import annotations

import re
import time
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import pairwise

from attrs import evolve

from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.errors import (
    CheckpointBusy,
    CheckpointError,
    CheckpointMismatch,
    CheckpointUnwritable,
    ClaimLost,
    StoreClosed,
)
from partwise.model import UploadedPart
from partwise.protocols import CheckpointStore, SupportsClaimCheck
from partwise.testing._error_chains import error_chain
from partwise.testing.conformance.store_harness import (
    StoreHarness,
    append,
    close,
    delete,
    enter_claim,
    must_load,
    sample,
    sample_part,
    sample_parts,
    save,
    skip_unless_multiple,
    with_parts,
)
from partwise.testing.conformance.suite import NotApplicable, Suite, must_raise, must_return
from partwise.testing.oracles import in_order

CHECKS: Suite[StoreHarness] = Suite()


# --- one record ------------------------------------------------------------------------------------------------------


@CHECKS.covers(1)
def check_empty_store(harness: StoreHarness) -> None:
    """Load of an unknown name returns None; scan of an empty store yields nothing."""
    store = harness.open_for_test()
    assert isinstance(store, CheckpointStore), "a store has all methods of CheckpointStore"
    assert store.load(sample().name) is None, "load returns None if there is no checkpoint"
    assert list(store.scan()) == [], "scan yields nothing if there are no checkpoints"


_VARIETY = (
    sample(1),
    evolve(sample(1), upload_id=None, fingerprint=Fingerprint(), created=0.0),
    evolve(sample(1), parts_per_doubling=1000, token="a token", abandoned=("one", "two")),  # noqa: S106  # not a password
    sample(1, *range(1, 200)),
    sample(1, options={"content_type": "text/plain", "metadata": {"a": "b", "c": "\u00e4 \n"}, "tags": {"d": ""}}),
    evolve(sample(1), fingerprint=Fingerprint(2**62, 2**62, "id", 2**64 - 1)),
    evolve(sample(2), key="key/\u00e4\U0001f4e6 \n\t\"'\\", source="/a/\udcff/source"),
)


@CHECKS.covers(2)
def check_round_trip(harness: StoreHarness) -> None:
    """A saved checkpoint is loaded equal in every field."""
    store = harness.open_for_test()
    for checkpoint in _VARIETY:
        save(store, checkpoint)
        must_load(store, checkpoint, "load returns what was saved")
        if harness.holds_one:
            delete(store, checkpoint.name, checkpoint.upload_id)


@CHECKS.covers(3)
def check_saving_again(harness: StoreHarness) -> None:
    """A second save replaces the first one and the parts appended to it."""
    store = harness.open_for_test()
    first, second = sample(1, 1, 2), sample(1, 2, upload_id="another")
    save(store, first)
    append(store, first.name, sample_part(3))
    save(store, second)
    must_load(store, second, "the last save replaces the checkpoint with its parts")
    assert len(list(store.scan())) == 1, "a checkpoint that was saved twice is scanned once"


@CHECKS.covers(3)
def check_append(harness: StoreHarness) -> None:
    """Appended parts are loaded; of several with one number, the last one counts."""
    store = harness.open_for_test()
    checkpoint = sample(1, 1)
    save(store, checkpoint)
    append(store, checkpoint.name, sample_part(7))
    append(store, checkpoint.name, sample_part(3), sample_part(1, "again"), sample_part(7, "again"))
    expected = with_parts(checkpoint, sample_part(1, "again"), sample_part(3), sample_part(7, "again"))
    must_load(store, expected, "the last part of each number is loaded")


@CHECKS.covers(3)
def check_append_to_nothing(harness: StoreHarness) -> None:
    """Appending to a checkpoint that does not exist is a CheckpointError."""
    store = harness.open_for_test()
    name = sample().name
    must_raise(CheckpointError, "there is no checkpoint of this name", append, store, name, sample_part(1))
    assert store.load(name) is None, "append does not create a checkpoint"


@CHECKS.covers(4)
def check_delete(harness: StoreHarness) -> None:
    """A deleted checkpoint is removed with its parts for good; delete is idempotent."""
    store = harness.open_for_test()
    checkpoint = sample()
    must_return("deleting a checkpoint that does not exist is not an error", delete, store, checkpoint.name)
    save(store, checkpoint)
    append(store, checkpoint.name, sample_part(1))
    delete(store, checkpoint.name)
    must_return("deleting twice is not an error", delete, store, checkpoint.name)
    assert store.load(checkpoint.name) is None, "a deleted checkpoint is not loaded"
    assert list(store.scan()) == [], "a deleted checkpoint is not scanned"
    must_raise(CheckpointError, "the checkpoint was deleted", append, store, checkpoint.name, sample_part(2))
    save(store, checkpoint)
    must_load(store, checkpoint, "a checkpoint that is saved again has no old parts")


@CHECKS.covers(17)
def check_nothing_is_shared(harness: StoreHarness) -> None:
    """Changing a checkpoint after save, load or scan does not change the stored one."""
    store = harness.open_for_test()
    saved, expected = (sample(options={"metadata": {"author": "one"}}) for _ in range(2))

    def change(checkpoint: Checkpoint | None) -> None:
        assert checkpoint is not None, "the checkpoint exists"
        # The mappings are dicts, which only the types make read-only.
        checkpoint.options["metadata"]["author"] = "another"

    save(store, saved)
    change(saved)
    must_load(store, expected, "changing a checkpoint after save does not change the stored one")
    change(store.load(expected.name))
    must_load(store, expected, "changing a loaded checkpoint does not change the stored one")
    for scanned in store.scan():
        change(scanned)
    must_load(store, expected, "changing a scanned checkpoint does not change the stored one")


_LONG = 1024


@CHECKS.covers(24)
def check_long_values(harness: StoreHarness) -> None:
    """No text is cut: an upload id or a key may have 1,024 characters."""
    store = harness.open_for_test()
    ids = tuple(f"{number}{'u' * (_LONG - 2)}{number}" for number in range(9))
    checkpoint = evolve(
        sample(1, 1, upload_id=ids[0], options={"metadata": {"m" * 100: "v" * 2048}}),
        location="memory://" + "b" * 255,
        key="k" * (_LONG - 1) + "1",
        source="/" + "s" * 4095,
        token="t" * 64,
        abandoned=ids[1:],
    )
    part = UploadedPart(2, 10, f'"{"e" * 509}2"', 2**64 - 1)
    save(store, evolve(checkpoint, parts=(*checkpoint.parts, evolve(part, part_number=3))))
    append(store, checkpoint.name, part, upload_id=ids[0])
    expected = with_parts(checkpoint, *checkpoint.parts, evolve(part, part_number=3), part)
    must_load(store, expected, "long texts are loaded as they were saved and appended")
    assert [in_order(found) for found in store.scan()] == [in_order(expected)], "long texts are scanned as saved"


@CHECKS.covers(25)
def check_records_do_not_expire(harness: StoreHarness) -> None:
    """A checkpoint is kept until it is deleted, however long that takes."""
    store = harness.open_for_test()
    checkpoint = sample(1, 1)
    save(store, checkpoint)
    append(store, checkpoint.name, sample_part(2))
    if not harness.advance(_TEN_YEARS):
        raise harness.without("advance")
    must_load(harness.open_for_test(), sample(1, 1, 2), "a checkpoint does not expire")
    assert [found.name for found in store.scan()] == [checkpoint.name], "a checkpoint does not expire"


_TEN_YEARS = 10 * 365 * 86_400.0


# --- the cost of an append -------------------------------------------------------------------------------------------

#: Numbers of parts of two checkpoints, to which parts are appended.
_FEW, _MANY = 10, 4000

#: Rewriting a record takes at least this many bytes for each part that it has, and about a microsecond.
_BYTES_A_PART = 16

_TIMED, _TRACED = 15, 3


@CHECKS.covers(23)
def check_append_cost(harness: StoreHarness) -> None:
    """An append does not read or write the other parts: there may be thousands."""
    store = harness.open_for_test()
    duty = "an append costs the same for any number of parts"
    few, many = (_least_cost(store, parts, _memory_of_append, _TRACED) for parts in (_FEW, _MANY))
    assert many <= few + _BYTES_A_PART * _MANY, (
        f"{duty}: with {_FEW} parts it takes {few:.0f} bytes of memory, with {_MANY} parts {many:.0f}"
    )
    for _ in range(3):  # on a busy machine one measurement of time may be wrong
        few, many = (_least_cost(store, parts, _seconds_of_append, _TIMED) for parts in (_FEW, _MANY))
        if many <= 3 * few + 0.001:
            return
    raise AssertionError(
        f"{duty}: with {_FEW} parts it takes {1000 * few:.2f} ms, with {_MANY} parts {1000 * many:.2f} ms"
    )


def _least_cost(
    store: CheckpointStore, parts: int, cost: Callable[[CheckpointStore, str, int], float], appends: int
) -> float:
    """Return the least cost of some appends to a checkpoint of `parts` parts."""
    checkpoint = sample(1, *range(1, parts + 1))
    with store.claim(checkpoint.name):
        store.save(checkpoint)
        store.append_part(checkpoint.name, "upload", sample_part(parts + 1))  # may read the record
        return min(cost(store, checkpoint.name, parts + 2 + number) for number in range(appends))


def _seconds_of_append(store: CheckpointStore, name: str, number: int) -> float:
    part, started = sample_part(number), time.perf_counter()
    store.append_part(name, "upload", part)
    return time.perf_counter() - started


def _memory_of_append(store: CheckpointStore, name: str, number: int) -> int:
    part, tracing = sample_part(number), tracemalloc.is_tracing()
    if not tracing:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        store.append_part(name, "upload", part)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        if not tracing:
            tracemalloc.stop()


# --- many records ----------------------------------------------------------------------------------------------------


@CHECKS.covers(5)
def check_scan(harness: StoreHarness) -> None:
    """Every checkpoint is scanned once, with its parts."""
    store = harness.open_for_test()
    checkpoints = [sample(number) for number in range(1, 2 if harness.holds_one else 5)]
    for checkpoint in checkpoints:
        save(store, checkpoint)
        append(store, checkpoint.name, sample_part(1))
    duty = "scan yields every checkpoint once, with its parts"
    scanned = sorted(map(in_order, must_return(duty, lambda: list(store.scan()))), key=lambda found: found.key)
    expected = [with_parts(checkpoint, sample_part(1)) for checkpoint in checkpoints]
    assert scanned == expected, duty


@CHECKS.covers(6, 7)
def check_uploads_are_kept_apart(harness: StoreHarness) -> None:
    """One source that is uploaded to several targets has a checkpoint for each."""
    skip_unless_multiple(harness)
    store = harness.open_for_test()
    targets = [("mem://a", "b/c"), ("mem://a", "b"), ("mem://a/b", "c"), ("mem://a", "B"), ("mem://A", "b")]
    checkpoints = [evolve(sample(), location=location, key=key) for location, key in targets]
    for checkpoint in checkpoints:
        save(store, checkpoint)
    for number, checkpoint in enumerate(checkpoints, start=1):
        append(store, checkpoint.name, sample_part(number))
    delete(store, checkpoints[0].name)
    assert store.load(checkpoints[0].name) is None, "a deleted checkpoint is not loaded"
    for number, checkpoint in enumerate(checkpoints[1:], start=2):
        must_load(store, with_parts(checkpoint, sample_part(number)), "each upload has its own checkpoint")


_STRANGE_NAMES = (
    *("plain", "Plain", "a/b", "a%2Fb", "../up", ".", "..", " ", "con", "with\nnewline", "with\0nul"),
    *("\u00e4", "a\u0308", "\udcff", "n" * 300, "n" * 301),
)


@CHECKS.covers(7)
def check_strange_names(harness: StoreHarness) -> None:
    """Any non-empty name is accepted, and claimed independently of others."""
    store = harness.open_for_test()
    for name in _STRANGE_NAMES:
        duty = f"load accepts the name {name!r:.30}"
        assert must_return(duty, store.load, name) is None, duty
        must_return(f"delete accepts the name {name!r:.30}", delete, store, name)
        must_raise(CheckpointError, f"there is no checkpoint {name!r:.30}", append, store, name, sample_part(1))
    if not harness.holds_one:
        for name, other in pairwise(_STRANGE_NAMES):
            with store.claim(name):
                must_return(f"{name!r:.30} and {other!r:.30} are two names", enter_claim, store, other)


@CHECKS.covers(13)
def check_deleting_during_a_scan(harness: StoreHarness) -> None:
    """Deleting checkpoints during a scan does not affect the others."""
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
    scanned += [found.name for found in must_return("a scan goes on while checkpoints are deleted", list, scanning)]
    assert len(scanned) == len(set(scanned)), "each checkpoint is scanned once"
    assert kept in scanned, "a checkpoint that is not deleted is scanned"


@CHECKS.covers(5, 16)
def check_single_checkpoint(harness: StoreHarness) -> None:
    """A store of a single checkpoint refuses that of another upload."""
    if not harness.holds_one:
        raise NotApplicable("the store holds many checkpoints")
    store = harness.open_for_test()
    here, other = sample(1, 1), sample(2)
    save(store, here)
    duty = "the store holds the checkpoint of another upload"
    must_raise(CheckpointMismatch, duty, store.load, other.name)
    must_raise(CheckpointMismatch, duty, save, store, other)
    must_raise(CheckpointMismatch, duty, append, store, other.name, sample_part(2))
    delete(store, other.name)
    must_load(store, here, f"{duty}, which is unchanged")
    delete(store, here.name)
    save(store, other)
    must_load(store, other, "once it is deleted, another checkpoint can be saved")


# --- handles ---------------------------------------------------------------------------------------------------------


@CHECKS.covers(8)
def check_handles_see_each_other(harness: StoreHarness) -> None:
    """Changes through one handle are visible through another one at once."""
    one, other = harness.open_for_test(), harness.open_for_test()
    checkpoint = sample()
    save(one, checkpoint)
    must_load(other, checkpoint, "a checkpoint saved through one handle is loaded through another")
    with one.claim(checkpoint.name):
        one.append_part(checkpoint.name, "upload", sample_part(1))
        must_load(
            other,
            with_parts(checkpoint, sample_part(1)),
            "a part appended through one handle is loaded through another at once",
        )
    append(other, checkpoint.name, sample_part(2))
    append(one, checkpoint.name, sample_part(3))
    must_load(
        one, with_parts(checkpoint, *sample_parts(1, 2, 3)), "parts appended through two handles in turn are all loaded"
    )
    delete(other, checkpoint.name)
    assert one.load(checkpoint.name) is None, "a checkpoint deleted through one handle is not loaded through another"


@CHECKS.covers(9)
def check_reopening(harness: StoreHarness) -> None:
    """Checkpoints survive closing all handles."""
    if not harness.durable:
        raise NotApplicable("the store is not durable, as declared")
    store = harness.open_for_test()
    save(store, sample(1, 1))
    append(store, sample().name, sample_part(2))
    close(store)
    must_load(harness.open_for_test(), sample(1, 1, 2), "saved and appended parts are loaded after reopening")


@CHECKS.covers(14)
def check_unwritable_place(harness: StoreHarness) -> None:
    """A store that can't be written to raises CheckpointUnwritable with a cause."""
    store = harness.open_unwritable()
    if store is None:
        raise harness.without("open_unwritable")
    try:
        duty = "the store can't be written to"
        errors: list[CheckpointError] = [must_raise(CheckpointUnwritable, duty, enter_claim, store, sample().name)]
        # There is no claim: a store whose claims can be lost may look at that first.
        refused = (CheckpointUnwritable, ClaimLost) if isinstance(store, SupportsClaimCheck) else CheckpointUnwritable
        errors.append(must_raise(refused, f"{duty}: save", store.save, sample()))
        unwritable = [error for error in errors if isinstance(error, CheckpointUnwritable)]
        assert all(error.__cause__ is not None for error in unwritable), "CheckpointUnwritable has its cause"
    finally:
        close(store)


@CHECKS.covers(19)
def check_close_and_repr(harness: StoreHarness) -> None:
    """The repr names the class; close is idempotent; later calls raise StoreClosed."""
    store = harness.open_for_test()
    assert type(store).__name__ in repr(store), f"repr names the class {type(store).__name__}: {store!r}"
    if not hasattr(store, "close"):
        return
    close(store)
    must_return("closing twice is not an error", close, store)
    name = sample().name
    calls: dict[str, Callable[[], object]] = {
        "claim": lambda: enter_claim(store, name),
        "load": lambda: store.load(name),
        "save": lambda: store.save(sample()),
        "append_part": lambda: store.append_part(name, "upload", sample_part(1)),
        "delete": lambda: store.delete(name, "upload"),
        "scan": lambda: list(store.scan()),
    }
    for operation, call in calls.items():
        must_raise(StoreClosed, f"{operation} after close", call)


#: A URL with a password, as a database is named.
_PASSWORD_IN_URL = re.compile(r"://[^/@\s]*:[^/@\s]+@")


@CHECKS.covers(18)
def check_secrets_stay_secret(harness: StoreHarness) -> None:
    """No password is in a repr or an error."""
    store = harness.open_for_test()
    texts = [repr(store), *_texts_of_errors(harness, store)]
    close(store)
    texts.append(repr(store))
    for text in texts:
        assert not _PASSWORD_IN_URL.search(text), f"no password is shown: {_PASSWORD_IN_URL.sub('://...@', text)}"
    if not harness.secrets:
        raise harness.without("secrets")
    for number, secret in enumerate(harness.secrets, start=1):
        assert not any(secret in text for text in texts), f"the secret no. {number} of the harness is not shown"


def _texts_of_errors(harness: StoreHarness, store: CheckpointStore) -> Iterator[str]:
    name, other = sample().name, harness.open_for_test()
    save(store, sample(upload_id="another"))
    with store.claim(name):
        errors: list[BaseException | None] = [must_raise(CheckpointBusy, "it is claimed", enter_claim, other, name)]
        errors += [must_raise(ClaimLost, "of another upload", store.append_part, name, "upload", sample_part(1))]
        store.delete(name, "another")
        errors += [must_raise(CheckpointError, "there is none", store.append_part, name, "upload", sample_part(1))]
    unwritable = harness.open_unwritable()
    if unwritable is not None:
        yield repr(unwritable)
        errors += [must_raise(CheckpointUnwritable, "it can't be written to", enter_claim, unwritable, name)]
        close(unwritable)
    for error in errors:
        for one in error_chain(error):
            yield f"{one} {one!r}"
