"""
Each invariant can fail: it is given the trace of a process that broke the promise.

A process is run that keeps every promise. Then its trace is falsified in one point, as it would read had the engine
broken the promise, and the invariant has to report it.
"""

from __future__ import annotations

import pytest
from attrs import evolve

from partwise import (
    AccessDenied,
    CallbackError,
    CheckpointBusy,
    CheckpointUnwritable,
    ClaimLost,
    ObjectOptions,
    SourceChanged,
    Throttled,
    UploadCancelled,
    UploadFailed,
)
from partwise.events import (
    CompletionStarted,
    OutageEnded,
    PartDone,
    PartLost,
    RetryScheduled,
    RunEnded,
    RunStarted,
    UploadStarted,
)
from partwise.model import StoredObject
from partwise.testing._proof.events import ActualUpload, BackendCall, Event, ProcessScript, ScheduledEvent
from partwise.testing._proof.invariants import INVARIANTS, check
from partwise.testing._proof.scenario import Scenario
from partwise.testing._proof.simulation import WorkerEvent
from partwise.testing._proof.sources import SimulatedFile
from partwise.testing.fakes import pseudo_random_bytes
from partwise.testing.faults import Call, Fault, FaultKind

PART = 8
PARTS = 4


@pytest.fixture
def resumed(make_scenario, config):
    """Return a scenario and the trace of a process that resumed after a crash, when two of four parts were stored."""
    scenario: Scenario = make_scenario(SimulatedFile(pseudo_random_bytes(3 * PART + 5)))
    crash = Fault("append_part", FaultKind.CRASH_AFTER, 2)
    scenario.run(ProcessScript((crash,), config=config(concurrency=2)))
    return scenario, scenario.run(ProcessScript(config=config(concurrency=2)))


def call(trace, operation, number=0):
    return [call for call in trace.backend_calls if call.operation == operation][number]


def result(**changes):
    def falsify(scenario, trace):
        trace.result = evolve(
            trace.result, **{name: change(getattr(trace.result, name)) for name, change in changes.items()}
        )

    return falsify


def after(**changes):
    def falsify(scenario, trace):
        trace.after = evolve(trace.after, **changes)

    return falsify


def failed(error, *, fault=None):
    """It ended with this error; `fault` was injected into one of its calls."""

    def falsify(scenario, trace):
        trace.result, trace.error = None, error
        if fault is not None:
            trace.calls += (Call(fault.operation, scenario.key, faults=(fault,), outcome="an error"),)

    return falsify


def failed_instead_of_interrupted(scenario, trace):
    """It was interrupted during a call, and ended with another error."""
    trace.occurred += (ScheduledEvent("upload_part", Event.INTERRUPT),)
    failed(UploadFailed("no"))(scenario, trace)


def also_called(*more):
    """It made these calls of the storage, too."""

    def falsify(scenario, trace):
        for operation, number, error in more:
            upload_id = trace.before.checkpoint.upload_id
            trace.backend_calls.append(BackendCall(operation, upload_id, number, started=99.0, ended=99.0, error=error))

    return falsify


def worker_events(*more):
    def falsify(scenario, trace):
        trace.worker_pools[-1].events += [WorkerEvent(what, 1, time, error) for what, time, error in more]

    return falsify


def reported(number, **changes):
    def falsify(scenario, trace):
        report = trace.reports[number]
        trace.reports[number] = evolve(report, progress=evolve(report.progress, **changes))

    return falsify


def completed_with(parts):
    def falsify(scenario, trace):
        sent = call(trace, "complete_upload")
        trace.backend_calls[trace.backend_calls.index(sent)] = evolve(sent, parts=sent.parts[parts])

    return falsify


def other_bytes_in_a_part(scenario, trace):
    held = scenario.history.uploads[call(trace, "complete_upload").upload_id].parts
    held[1] = evolve(held[1], data=b"x" * PART)


def requested(**options):
    """It was asked for other options than those that it gave the object."""

    def falsify(scenario, trace):
        trace.script = evolve(trace.script, options=ObjectOptions(**options))

    return falsify


def source_changed_before_complete(scenario, trace):
    trace.changed_at = [2]


def source_changed_and_the_checkpoint_was_kept(scenario, trace):
    trace.result, trace.error = None, SourceChanged("it changed")
    trace.after = evolve(trace.after, checkpoint=trace.before.checkpoint)


def source_changed_and_the_upload_was_kept(scenario, trace):
    trace.result, trace.error = None, SourceChanged("it changed")
    trace.after = evolve(trace.after, pending=trace.before.pending)


def a_problem(text):
    def falsify(scenario, trace):
        scenario.history.problems.append(text)

    return falsify


def an_orphan(scenario, trace):
    scenario.history.uploads["stray"] = ActualUpload("stray", trace.process)
    trace.after = evolve(trace.after, pending={"stray": {}})


def ignored_retry_after(scenario, trace):
    """The storage throttles it, and it does not wait."""
    first = trace.backend_calls[0]
    refused = evolve(first, error=Throttled("later", retry_after=1000.0), ended=first.started)
    trace.backend_calls.insert(0, refused)


def parts_left_in_flight(scenario, trace):
    trace.worker_pools[-1]._attempts.append(object())


def not_recorded(scenario, trace):
    """It failed, and the checkpoint lacks a part that was acknowledged."""
    trace.result, trace.error = None, UploadFailed("later")
    checkpoint = evolve(trace.before.checkpoint, parts=trace.before.checkpoint.parts[:1])
    trace.after = evolve(trace.after, checkpoint=checkpoint)


def claim_left_behind(scenario, trace):
    scenario.history.claimed = True


def checkpoint_left_behind(scenario, trace):
    trace.after = evolve(trace.after, checkpoint=trace.before.checkpoint)


def checkpoint_left_behind_unreported(scenario, trace):
    checkpoint_left_behind(scenario, trace)
    failing = Fault("delete", FaultKind.BEFORE)
    trace.calls += (Call("delete", "name", faults=(failing,), outcome="an error"),)


def too_many(scenario, trace):
    trace.worker_pools[-1].most_in_flight = 3


def too_many_bodies(scenario, trace):
    trace.most_bodies = 50


def backwards(scenario, trace):
    trace.reports.insert(1, trace.reports[-2])
    trace.reports.insert(2, trace.reports[0])


def reported_after_the_end(scenario, trace):
    trace.reports.append(trace.reports[-1])


def end_not_reported(scenario, trace):
    trace.reports.pop()


def checkpoint_of_fewer_parts(scenario, trace):
    kept = trace.reports[0].progress.checkpoint
    fewer = evolve(kept, parts=kept.parts[:1])
    trace.reports[0] = evolve(trace.reports[0], progress=evolve(trace.reports[0].progress, checkpoint=lambda: fewer))


def checkpoint_of_parts_not_stored(scenario, trace):
    trace.before = evolve(trace.before, pending={})


def other_error_than_the_callbacks(scenario, trace):
    trace.occurred = (ScheduledEvent("progress", Event.RAISE),)
    trace.result, trace.error = None, UploadFailed("something else")


def interrupt_in_a_chain_without_an_end(scenario, trace):
    other_error_than_the_callbacks(scenario, trace)
    trace.error = KeyboardInterrupt()
    trace.error.__context__ = UploadFailed("something else")
    trace.error.__context__.__cause__ = trace.error


def object_vanished(scenario, trace):
    scenario._storage._storage.objects.clear()


def initiated_without_a_checkpoint(scenario, trace):
    trace.calls += (
        Call("save", "name", outcome="CheckpointUnwritable"),
        Call("initiate_upload", scenario.key, outcome="returned"),
    )


def went_on_without_a_claim(scenario, trace):
    trace.calls += (Call("claim", "name", outcome="CheckpointUnwritable"),)


def part_not_recorded_unreported(scenario, trace):
    trace.calls += (Call("append_part", "name", outcome="CheckpointUnwritable"),)


def exposed_a_secret(scenario, trace):
    scenario.backend.secrets = ("hunter2",)
    trace.log.append("signed with hunter2")


def exposed_a_secret_in_an_error(scenario, trace):
    scenario.backend.secrets = ("hunter2",)
    trace.error = UploadFailed("it failed")
    trace.error.__cause__ = AccessDenied("denied", details={"signed with": "hunter2"})


def exposed_a_secret_in_a_context(scenario, trace):
    scenario.backend.secrets = ("hunter2",)
    trace.error = UploadFailed("it failed")
    trace.error.__context__ = OSError("GET http://id:hunter2@localhost")


def exposed_a_secret_in_a_chain_without_an_end(scenario, trace):
    exposed_a_secret_in_a_context(scenario, trace)
    trace.error.__context__.__cause__ = trace.error


def lost_its_claim(*later, error=None):
    """Its claim was lost while it recorded a part; then it made these calls, and ended with this error, or well."""

    def falsify(scenario, trace):
        if error is not None:
            trace.result, trace.error = None, error
        lost = Fault("append_part", FaultKind.CLAIM_LOST)
        trace.calls += (Call("append_part", "name", faults=(lost,), outcome="ClaimLost"),)
        trace.calls += tuple(Call(operation, scenario.key, outcome="returned") for operation in later)

    return falsify


def lost_a_claim_that_nobody_took(scenario, trace):
    trace.backend_calls.append(BackendCall("head_object", returned=StoredObject("key", 1, "etag")))
    failed(ClaimLost("lost"))(scenario, trace)
    trace.after = evolve(trace.after, checkpoint=trace.before.checkpoint)


def events(change):
    """It reported other events."""

    def falsify(scenario, trace):
        records = trace.reported_events
        trace.reported_events = change(records)

    return falsify


def of_kind(records, kind):
    """Return the index of the last event of this kind."""
    return max(index for index, record in enumerate(records) if isinstance(record.event, kind))


def event(kind, **changes):
    """Its last event of this kind said something else."""

    def change(records):
        at = of_kind(records, kind)
        return [*records[:at], evolve(records[at], event=evolve(records[at].event, **changes)), *records[at + 1 :]]

    return events(change)


def without(kind):
    return events(lambda records: [record for record in records if not isinstance(record.event, kind)])


def also_before(kind, added):
    """Before its last event of this kind there was another one."""

    def change(records):
        at = of_kind(records, kind)
        made = added(records[at].event)
        return [*records[:at], evolve(records[at], event=made), *records[at:]]

    return events(change)


def new(kind, **fields):
    return lambda next_one: kind(key=next_one.key, elapsed=next_one.elapsed, **fields)


START = new(RunStarted, source="", location="")
LOST = new(PartLost, part_number=9, size=8)
RETRY = new(RetryScheduled, operation="complete_upload", attempt=1, error=Throttled("later"), delay=1.0)
RETRY_OF_A_PART = new(RetryScheduled, operation="upload_part", attempt=1, error=Throttled("later"), delay=1.0)
RECOVERY = new(OutageEnded, seconds=3.0)


def error_of_the_event_callback_was_lost(scenario, trace):
    trace.occurred = (ScheduledEvent("event", Event.RAISE),)
    trace.result, trace.error = None, UploadFailed("something else")


DENIED = AccessDenied("denied")

FALSIFIED = [
    ("EXACT", "is not a version of the source", after(stored=b"other bytes")),
    ("EXACT", r"it has 1000000 bytes, .* of \d+ bytes, from byte 0 on: b'x{16}', not ", after(stored=b"x" * 10**6)),
    ("EXACT", "is not a version that the source had during it", after(stored=None)),
    ("EXACT", "the result reports", result(size=lambda size: size + 1)),
    ("EXACT", "the result reports", result(checksum=lambda crc64: crc64 ^ 1)),
    ("EXACT", "has neither verified nor a warning", result(verified=lambda verified: False)),
    ("EXACT", "the object has acl None, not 'private'", requested(acl="private")),
    ("EXACT", "the object has metadata {}, not {'a': 'b'}", requested(metadata={"a": "b"})),
    ("EXACT", "do not add up", result(bytes_resumed=lambda count: count + 1)),
    ("EXACT", "and reports", result(bytes_sent=lambda count: count + 1, bytes_resumed=lambda count: count - 1)),
    ("NO-MIX", "parts of more than one version", other_bytes_in_a_part),
    ("NO-MIX", "the object was stored anyway", source_changed_before_complete),
    ("NO-MIX", "the checkpoint was kept", source_changed_and_the_checkpoint_was_kept),
    ("NO-MIX", "were kept", source_changed_and_the_upload_was_kept),
    ("WHOLE", r"with the parts \[2, 3, 4\]", completed_with(slice(1, None))),
    ("WHOLE", r"with the parts \[\]", completed_with(slice(0, 0))),
    ("WHOLE", "with parts of 24 bytes", completed_with(slice(0, 3))),
    ("BOUNDED", "another one was initiated", also_called(("initiate_upload", None, None))),
    ("BOUNDED", "part 1 was on the storage, and was sent again", also_called(("upload_part", 1, None))),
    ("BOUNDED", "was acknowledged, and was sent again", also_called(("upload_part", 4, None))),
    (
        "INTENT",
        "no checkpoint was durable",
        a_problem("INTENT: an upload was initiated, and no checkpoint was durable"),
    ),
    ("INTENT", "no checkpoint knows it", an_orphan),
    (
        "LOST-REPLY",
        "the upload failed",
        failed(UploadFailed("no"), fault=Fault("complete_upload", FaultKind.AFTER)),
    ),
    ("RETRY", "the upload failed", failed(UploadFailed("no"))),
    ("RETRY", "was to wait until", ignored_retry_after),
    (
        "RETRY",
        "before retry_after had elapsed",
        worker_events(("delivered", 10.0, Throttled("later", retry_after=5.0)), ("submitted", 11.0, None)),
    ),
    ("ONE-OWNER", "was not refused at once", a_problem("ONE-OWNER: a second uploader was not refused at once")),
    ("ONE-OWNER", "the claim was held", failed(CheckpointBusy("busy", name="name"))),
    ("ONE-OWNER", "the claim was not released", claim_left_behind),
    ("ONE-OWNER", "the claim counted as lost", lost_a_claim_that_nobody_took),
    ("FENCED", "and then came .*abort_upload", lost_its_claim("abort_upload", error=ClaimLost("lost"))),
    ("FENCED", "and then came .*complete_upload", lost_its_claim("complete_upload")),
    ("FENCED", "and then came .*delete", lost_its_claim("delete", error=ClaimLost("lost"))),
    ("FENCED", "the process ended with UploadFailed", lost_its_claim(error=UploadFailed("no"))),
    ("FENCED", "the result has no warning", lost_its_claim()),
    ("CLEAN", "though nothing kept it from being deleted", checkpoint_left_behind),
    ("CLEAN", "a checkpoint was left behind, and that was not reported", checkpoint_left_behind_unreported),
    ("CLEAN", "the upload stray was left behind, and that was not reported", an_orphan),
    ("FAST-FAIL", "and was tried again", also_called(("upload_part", 9, DENIED), ("upload_part", 9, DENIED))),
    ("FAST-FAIL", "and the upload succeeded", also_called(("upload_part", 9, DENIED))),
    (
        "FAST-FAIL",
        "part 1 was started after a permanent error",
        worker_events(("delivered", 1.0, DENIED), ("started", 2.0, None)),
    ),
    ("FAST-FAIL", "still in flight at the end", parts_left_in_flight),
    ("FAST-FAIL", "an interrupt was raised as UploadFailed", failed_instead_of_interrupted),
    ("FAST-FAIL", "was acknowledged, and not recorded", not_recorded),
    ("CALLBACK", "does not have the result of the upload", failed(CallbackError("no response"))),
    ("BOUNDED-MEMORY", "3 parts were in flight, with concurrency 2", too_many),
    ("BOUNDED-MEMORY", "50 bodies were held, with concurrency 2", too_many_bodies),
    ("PROGRESS", "it decreased", backwards),
    ("PROGRESS", "there was a report after the end", reported_after_the_end),
    ("PROGRESS", "its end was not reported", end_not_reported),
    ("PROGRESS", "bytes were acknowledged", reported(0, bytes_done=0)),
    ("PROGRESS", "of 29 bytes were done", reported(-1, bytes_done=30)),
    ("PROGRESS", "completed was False", reported(-1, completed=False)),
    ("PROGRESS", "there is no object", object_vanished),
    ("PROGRESS", "would be resumed", checkpoint_of_fewer_parts),
    ("PROGRESS", "was reported as stored, and was not", checkpoint_of_parts_not_stored),
    ("PROGRESS", "the error of the progress callback was raised as", other_error_than_the_callbacks),
    ("PROGRESS", "the error of the progress callback was raised as", interrupt_in_a_chain_without_an_end),
    ("EVENTS", "the start of the run is not the first one", without(RunStarted)),
    (
        "EVENTS",
        "the start of the run is not the first one",
        also_before(RunEnded, START),
    ),
    ("EVENTS", "the start of the run is not the first one", events(lambda records: [])),
    ("EVENTS", "the end was not reported", without(RunEnded)),
    ("EVENTS", "there was one after the end", events(lambda records: [*records, records[-1]])),
    ("EVENTS", "their times decrease", event(PartDone, elapsed=-1.0)),
    ("EVENTS", "the end was reported with", event(RunEnded, result=None)),
    ("EVENTS", "the end was reported with", event(RunEnded, error=UploadFailed("no"))),
    ("EVENTS", "the outcome was reported as failed", event(RunEnded, outcome="failed")),
    ("EVENTS", "the error of the event callback was raised as", error_of_the_event_callback_was_lost),
    ("EVENTS", "was done before an upload started", without(UploadStarted)),
    ("EVENTS", "was done twice", also_before(PartDone, lambda part: part)),
    ("EVENTS", "was reported as done, and was not", event(PartDone, part_number=9)),
    ("EVENTS", "was not sent a second time", event(PartDone, second_copy=True)),
    ("EVENTS", "part 9 was lost before it was done", also_before(CompletionStarted, LOST)),
    ("EVENTS", "and 28 bytes are completed", event(CompletionStarted, size=28)),
    ("EVENTS", "bytes were reported as done", event(PartDone, resumed=True)),
    ("EVENTS", "started twice, or ended before it started", also_before(RunEnded, RECOVERY)),
    ("EVENTS", "1 retries of complete_upload were reported, and 0 calls failed", also_before(RunEnded, RETRY)),
    ("EVENTS", "1 of 0 retries were reported", also_before(RunEnded, RETRY_OF_A_PART)),
    ("UNWRITABLE", "the checkpoint could not be saved", initiated_without_a_checkpoint),
    ("UNWRITABLE", "the claim failed, and the upload went on", went_on_without_a_claim),
    ("UNWRITABLE", "the result has no warning", part_not_recorded_unreported),
    ("SECRET", "a credential was exposed", exposed_a_secret),
    ("SECRET", "a credential was exposed", exposed_a_secret_in_an_error),
    ("SECRET", "a credential was exposed", exposed_a_secret_in_a_context),
    ("SECRET", "a credential was exposed", exposed_a_secret_in_a_chain_without_an_end),
]


def test_the_unchanged_trace_keeps_every_promise(resumed):
    check(*resumed)


@pytest.mark.parametrize(
    ("name", "message", "falsify"), [pytest.param(*row, id=f"{row[0]}: {row[1]}") for row in FALSIFIED]
)
def test_a_broken_promise_is_reported_by_its_name(resumed, name, message, falsify):
    scenario, trace = resumed
    falsify(scenario, trace)

    with pytest.raises(AssertionError, match=rf"(?s)^{name}: [^\n]*{message}"):
        INVARIANTS[name](scenario, trace)


def test_a_large_object_that_is_wrong_is_not_shown_as_a_whole(resumed):
    scenario, trace = resumed
    after(stored=b"x" * 10**6)(scenario, trace)

    with pytest.raises(AssertionError) as caught:
        INVARIANTS["EXACT"](scenario, trace)
    assert len(str(caught.value)) < 10_000


def test_a_failed_callback_without_an_object_is_reported(resumed):
    scenario, trace = resumed
    failed(CallbackError("no response"))(scenario, trace)
    trace.after = evolve(trace.after, stored=None)

    with pytest.raises(AssertionError, match=r"CALLBACK: .* the object is not stored"):
        INVARIANTS["CALLBACK"](scenario, trace)


def test_a_cancel_that_leaves_its_checkpoint_is_reported(resumed):
    scenario, trace = resumed
    failed(UploadCancelled("cancelled"))(scenario, trace)
    checkpoint_left_behind(scenario, trace)

    with pytest.raises(AssertionError, match="CLEAN"):
        INVARIANTS["CLEAN"](scenario, trace)


def test_a_cancel_before_the_checkpoint_was_read_says_that_it_is_kept(resumed):
    scenario, trace = resumed
    trace.calls = tuple(call for call in trace.calls if call.operation != "load")
    failed(UploadCancelled("cancelled; the checkpoint is kept"))(scenario, trace)
    INVARIANTS["CLEAN"](scenario, trace)

    failed(UploadCancelled("cancelled"))(scenario, trace)
    with pytest.raises(AssertionError, match="CLEAN: the checkpoint was not read yet, and that was not reported"):
        INVARIANTS["CLEAN"](scenario, trace)


def test_a_failed_claim_may_end_in_an_error_of_the_store_only(resumed):
    scenario, trace = resumed
    went_on_without_a_claim(scenario, trace)
    failed(CheckpointUnwritable("full", name="name"))(scenario, trace)
    trace.backend_calls.clear()

    INVARIANTS["UNWRITABLE"](scenario, trace)


def test_every_invariant_is_tested_to_fail():
    assert {name for name, _, _ in FALSIFIED} == INVARIANTS.keys()
