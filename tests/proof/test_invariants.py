"""
The invariants of the simulated world can be broken: each of them, by an account of a life that is not as it should be.

A life is lived that keeps every promise. Then its account is falsified in one point, as it would read had the engine
broken a promise, and the invariant has to say so.
"""

from __future__ import annotations

import pytest
from attrs import evolve

from partwise import (
    AccessDenied,
    CallbackError,
    CheckpointBusy,
    CheckpointUnwritable,
    SourceChanged,
    Throttled,
    UploadCancelled,
    UploadFailed,
)
from partwise.testing._proof.events import Deed, TrueUpload
from partwise.testing._proof.invariants import INVARIANTS, check
from partwise.testing._proof.scenario import Happening, Incident, Life, SimulatedFile, World
from partwise.testing._proof.simulation import Moment
from partwise.testing.fakes import pseudo_random_bytes
from partwise.testing.faults import Call, Fault, FaultKind

PART = 8
PARTS = 4


@pytest.fixture
def resumed(make_world, config):
    """A world and a life in it, which carried on after a death when two of four parts were there."""
    world: World = make_world(SimulatedFile(pseudo_random_bytes(3 * PART + 5)))
    dead = Fault("append_part", FaultKind.CRASH_AFTER, 2)
    world.live(Life((dead,), config=config(concurrency=2)))
    return world, world.live(Life(config=config(concurrency=2)))


def deed(lived, operation, number=0):
    return [deed for deed in lived.asked if deed.operation == operation][number]


def result(**changes):
    def falsify(world, lived):
        lived.result = evolve(
            lived.result, **{name: change(getattr(lived.result, name)) for name, change in changes.items()}
        )

    return falsify


def after(**changes):
    def falsify(world, lived):
        lived.after = evolve(lived.after, **changes)

    return falsify


def failed(error, *, struck=None):
    """It ended with this error; `struck` is a fault that its calls met."""

    def falsify(world, lived):
        lived.result, lived.error = None, error
        if struck is not None:
            lived.calls += (Call(struck.operation, world.key, faults=(struck,), outcome="an error"),)

    return falsify


def asked(*more):
    """It asked this of the storage, too."""

    def falsify(world, lived):
        for operation, number, error in more:
            upload_id = lived.before.record.upload_id
            lived.asked.append(Deed(operation, upload_id, number, began=99.0, ended=99.0, error=error))

    return falsify


def moments(*more):
    def falsify(world, lived):
        lived.transports[-1].moments += [Moment(what, 1, time, error) for what, time, error in more]

    return falsify


def reported(number, **changes):
    def falsify(world, lived):
        told = lived.reports[number]
        lived.reports[number] = evolve(told, progress=evolve(told.progress, **changes))

    return falsify


def completed_with(parts):
    def falsify(world, lived):
        sent = deed(lived, "complete_upload")
        lived.asked[lived.asked.index(sent)] = evolve(sent, parts=sent.parts[parts])

    return falsify


def other_bytes_in_a_part(world, lived):
    held = world.history.uploads[deed(lived, "complete_upload").upload_id].parts
    held[1] = evolve(held[1], data=b"x" * PART)


def source_changed_before_complete(world, lived):
    lived.changed_at = [2]


def source_changed_and_all_was_kept(world, lived):
    lived.result, lived.error = None, SourceChanged("it changed")
    lived.after = evolve(lived.after, record=lived.before.record)


def source_changed_and_the_upload_was_kept(world, lived):
    lived.result, lived.error = None, SourceChanged("it changed")
    lived.after = evolve(lived.after, pending=lived.before.pending)


def a_problem(text):
    def falsify(world, lived):
        world.history.problems.append(text)

    return falsify


def an_upload_that_nobody_knows(world, lived):
    world.history.uploads["stray"] = TrueUpload("stray", lived.process)
    lived.after = evolve(lived.after, pending={"stray": {}})


def answered_late(world, lived):
    """Its own upload answers that it is to be left alone, and it does not wait."""
    first = lived.asked[0]
    refused = evolve(first, error=Throttled("later", retry_after=1000.0), ended=first.began)
    lived.asked.insert(0, refused)


def workers_left(world, lived):
    lived.transports[-1]._attempts.append(object())


def not_recorded(world, lived):
    """It failed, and the record that is left lacks a part that arrived."""
    lived.result, lived.error = None, UploadFailed("later")
    record = evolve(lived.before.record, parts=lived.before.record.parts[:1])
    lived.after = evolve(lived.after, record=record)


def a_claim_is_left(world, lived):
    world.history.claimed = True


def a_record_is_left(world, lived):
    lived.after = evolve(lived.after, record=lived.before.record)


def a_record_is_left_untold(world, lived):
    a_record_is_left(world, lived)
    disk = Fault("delete", FaultKind.BEFORE)
    lived.calls += (Call("delete", "name", faults=(disk,), outcome="an error"),)


def too_many(world, lived):
    lived.transports[-1].most_under_way = 3


def too_many_bodies(world, lived):
    lived.most_bodies = 50


def backwards(world, lived):
    lived.reports.insert(1, lived.reports[-2])
    lived.reports.insert(2, lived.reports[0])


def told_after_the_end(world, lived):
    lived.reports.append(lived.reports[-1])


def end_not_told(world, lived):
    lived.reports.pop()


def checkpoint_of_less(world, lived):
    kept = lived.reports[0].progress.checkpoint
    fewer = evolve(kept, parts=kept.parts[:1])
    lived.reports[0] = evolve(lived.reports[0], progress=evolve(lived.reports[0].progress, checkpoint=lambda: fewer))


def checkpoint_of_what_is_not_there(world, lived):
    lived.before = evolve(lived.before, pending={})


def other_error_than_the_callers(world, lived):
    lived.occurred = (Incident("progress", Happening.RAISE),)
    lived.result, lived.error = None, UploadFailed("something else")


def object_vanished(world, lived):
    world._storage._storage.objects.clear()


def saved_in_vain(world, lived):
    lived.calls += (
        Call("save", "name", outcome="CheckpointUnwritable"),
        Call("initiate_upload", world.key, outcome="returned"),
    )


def went_on_without_a_claim(world, lived):
    lived.calls += (Call("claim", "name", outcome="CheckpointUnwritable"),)


def lost_a_receipt(world, lived):
    lived.calls += (Call("append_part", "name", outcome="CheckpointUnwritable"),)


def told_a_secret(world, lived):
    world.backend.secrets = ("hunter2",)
    lived.log.append("signed with hunter2")


def told_a_secret_in_an_error(world, lived):
    world.backend.secrets = ("hunter2",)
    lived.error = UploadFailed("it failed")
    lived.error.__cause__ = AccessDenied("denied", details={"signed with": "hunter2"})


DENIED = AccessDenied("denied")

FALSIFIED = [
    ("EXACT", "of no version of the source", after(stored=b"other bytes")),
    ("EXACT", "of no version that was there in its time", after(stored=None)),
    ("EXACT", "the result tells of", result(size=lambda size: size + 1)),
    ("EXACT", "the result tells of", result(crc64=lambda crc64: crc64 ^ 1)),
    ("EXACT", "says neither yes nor why not", result(verified=lambda verified: False)),
    ("EXACT", "make no whole", result(bytes_resumed=lambda count: count + 1)),
    ("EXACT", "and says", result(bytes_sent=lambda count: count + 1, bytes_resumed=lambda count: count - 1)),
    ("NO-MIX", "are not of one version", other_bytes_in_a_part),
    ("NO-MIX", "the object was made all the same", source_changed_before_complete),
    ("NO-MIX", "the checkpoint was kept", source_changed_and_all_was_kept),
    ("NO-MIX", "were kept", source_changed_and_the_upload_was_kept),
    ("WHOLE", r"with the parts \[2, 3, 4\]", completed_with(slice(1, None))),
    ("WHOLE", r"with the parts \[\]", completed_with(slice(0, 0))),
    ("WHOLE", "with parts of 24 bytes", completed_with(slice(0, 3))),
    ("BOUNDED", "another one was begun", asked(("initiate_upload", None, None))),
    ("BOUNDED", "part 1 was on the storage, and was sent again", asked(("upload_part", 1, None))),
    ("BOUNDED", "though its receipt had arrived", asked(("upload_part", 4, None))),
    ("INTENT", "no checkpoint was durable", a_problem("INTENT: an upload was begun, and no checkpoint was durable")),
    ("INTENT", "nobody knows of it any more", an_upload_that_nobody_knows),
    (
        "LOST-REPLY",
        "the upload failed",
        failed(UploadFailed("no"), struck=Fault("complete_upload", FaultKind.AFTER)),
    ),
    ("RETRY", "the upload failed", failed(UploadFailed("no"))),
    ("RETRY", "was to wait until", answered_late),
    (
        "RETRY",
        "while the storage was to be left alone",
        moments(("delivered", 10.0, Throttled("later", retry_after=5.0)), ("submitted", 11.0, None)),
    ),
    ("ONE-OWNER", "was not refused at once", a_problem("ONE-OWNER: a second uploader was not refused at once")),
    ("ONE-OWNER", "the claim was not free", failed(CheckpointBusy("busy", name="name"))),
    ("ONE-OWNER", "the claim outlived its holder", a_claim_is_left),
    ("CLEAN", "though nothing stood in the way", a_record_is_left),
    ("CLEAN", "and nobody was told", a_record_is_left_untold),
    ("CLEAN", "was left behind, and nobody was told", an_upload_that_nobody_knows),
    ("FAST-FAIL", "and tried again", asked(("upload_part", 9, DENIED), ("upload_part", 9, DENIED))),
    ("FAST-FAIL", "and that was a success", asked(("upload_part", 9, DENIED))),
    ("FAST-FAIL", "part 1 was begun after a refusal", moments(("delivered", 1.0, DENIED), ("begun", 2.0, None))),
    ("FAST-FAIL", "still under way at the end", workers_left),
    ("FAST-FAIL", "arrived, and was not recorded", not_recorded),
    ("CALLBACK", "has no result that fits", failed(CallbackError("no answer"))),
    ("BOUNDED-MEMORY", "3 parts were under way at once, of 2", too_many),
    ("BOUNDED-MEMORY", "50 parts of the source were held, of 2", too_many_bodies),
    ("PROGRESS", "it went back", backwards),
    ("PROGRESS", "something was told after the end", told_after_the_end),
    ("PROGRESS", "its end was not told", end_not_told),
    ("PROGRESS", "bytes were acknowledged", reported(0, bytes_done=0)),
    ("PROGRESS", "of 29 bytes were done", reported(-1, bytes_done=30)),
    ("PROGRESS", "the object was not said to be there", reported(-1, completed=False)),
    ("PROGRESS", "no object is there", object_vanished),
    ("PROGRESS", "would be resumed", checkpoint_of_less),
    ("PROGRESS", "was told to be on the storage, and was not", checkpoint_of_what_is_not_there),
    ("PROGRESS", "what the progress callback raised came out as", other_error_than_the_callers),
    ("UNWRITABLE", "the checkpoint could not be saved", saved_in_vain),
    ("UNWRITABLE", "there was no claim, and the upload went on", went_on_without_a_claim),
    ("UNWRITABLE", "the result does not say so", lost_a_receipt),
    ("SECRET", "a credential came out", told_a_secret),
    ("SECRET", "a credential came out", told_a_secret_in_an_error),
]


def test_the_account_as_it_is_keeps_every_promise(resumed):
    check(*resumed)


@pytest.mark.parametrize(
    ("name", "message", "falsify"), [pytest.param(*row, id=f"{row[0]}: {row[1]}") for row in FALSIFIED]
)
def test_a_promise_that_was_broken_is_told_by_its_name(resumed, name, message, falsify):
    world, lived = resumed
    falsify(world, lived)

    with pytest.raises(AssertionError, match=rf"(?s)^{name}: [^\n]*{message}"):
        INVARIANTS[name](world, lived)


def test_a_callback_that_failed_though_nothing_is_stored_is_told(resumed):
    world, lived = resumed
    failed(CallbackError("no answer"))(world, lived)
    lived.after = evolve(lived.after, stored=None)

    with pytest.raises(AssertionError, match=r"CALLBACK: .* the object is not stored"):
        INVARIANTS["CALLBACK"](world, lived)


def test_a_cancel_that_leaves_its_upload_is_told(resumed):
    world, lived = resumed
    failed(UploadCancelled("cancelled"))(world, lived)
    a_record_is_left(world, lived)

    with pytest.raises(AssertionError, match="CLEAN"):
        INVARIANTS["CLEAN"](world, lived)


def test_a_claim_that_failed_may_end_in_nothing_but_an_error_of_the_store(resumed):
    world, lived = resumed
    went_on_without_a_claim(world, lived)
    failed(CheckpointUnwritable("full", name="name"))(world, lived)
    lived.asked.clear()

    INVARIANTS["UNWRITABLE"](world, lived)


def test_every_promise_was_seen_broken():
    assert {name for name, _, _ in FALSIFIED} == INVARIANTS.keys()
