"""
Sequences that once broke a promise, reduced to what matters.

They were found by the state machine, by random draws over the same scenarios, or by review. `Scenario.run` checks every
promise after every process; what a test asserts beyond that is specific to the sequence.
"""

from __future__ import annotations

import gc
import io
import random
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from attrs import evolve

from partwise import (
    BytesSource,
    CallbackError,
    ClaimLost,
    ObjectOptions,
    SourceChanged,
    StreamSource,
    UploadCancelled,
    Uploader,
    UploadFailed,
    UploadPaused,
)
from partwise.backends.memory import DEFAULT_CAPABILITIES, MemoryBackend
from partwise.backends.oss import Callback, OSSOptions
from partwise.model import PartLimits
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing._proof.events import CallbackBroke, Event, ProcessScript, ScheduledEvent, TimeIsUp
from partwise.testing._proof.recording import CountingSource
from partwise.testing._proof.sources import SimulatedFile, SimulatedStream
from partwise.testing.fakes import pseudo_random_bytes
from partwise.testing.faults import Fault, FaultKind, FaultPlan
from partwise.testing.faulty import FaultyBackend

PART = 8
CALLBACK = OSSOptions(callback=Callback("http://127.0.0.1/callback", "object=${object}"))


def sent(trace):
    return [call.part_number for call in trace.backend_calls if call.operation == "upload_part"]


# --- NO-MIX ----------------------------------------------------------------------------------------------------------


def test_parts_are_never_recorded_in_the_checkpoint_of_another_version(make_scenario, config):
    """
    A source changed with keep-matching, the new checkpoint could not be saved, and then the source was restored.

    The parts of the new version were recorded in the checkpoint of the old one, and accepted as parts of the old
    version: the object was a mixture with a matching checksum.
    """
    scenario = make_scenario()
    scenario.run(ProcessScript((Fault("append_part", FaultKind.CRASH_AFTER),), config=config()))
    scenario.change(Event.REWRITE)
    failing = Fault("save", FaultKind.BEFORE)
    crash = Fault("append_part", FaultKind.CRASH_AFTER)
    scenario.run(ProcessScript((failing, crash), config=config(on_source_change="keep-matching")))
    scenario.change(Event.RESTORE)

    assert scenario.run(ProcessScript(config=config())).result is not None


def test_a_completed_upload_is_compared_by_content_with_verify_source(make_scenario, config):
    """The object has the bytes that were sent, not those that replaced them with the same mtime."""
    scenario = make_scenario()
    scenario.run(ProcessScript((Fault("complete_upload", FaultKind.CRASH_AFTER),), config=config()))
    scenario.change(Event.FORGE)

    assert sent(scenario.run(ProcessScript(config=config(verify_source="content")))) == [1, 2, 3, 4]


# --- streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_that_is_empty_on_resuming_is_stored_empty(make_scenario, config):
    """Every run completed it without parts, which storages refuse."""
    scenario = make_scenario(SimulatedStream(pseudo_random_bytes(3 * PART)))
    scenario.run(ProcessScript((Fault("append_part", FaultKind.CRASH_AFTER),), config=config()))
    scenario.change(Event.EMPTY)

    assert scenario.run(ProcessScript(config=config())).result is not None


def test_a_stream_is_opened_again_when_its_upload_is_lost(make_scenario, config):
    """A storage that can't list parts reports the loss only after the stream was read."""
    scenario = make_scenario(
        SimulatedStream(pseudo_random_bytes(3 * PART)), capabilities=evolve(DEFAULT_CAPABILITIES, lists_parts=False)
    )
    scenario.run(ProcessScript((Fault("append_part", FaultKind.CRASH_AFTER),), config=config()))
    scenario.expire()

    assert scenario.run(ProcessScript(config=config())).result is not None


class SingleUseStream(SimulatedStream):
    """A stream that can't be opened again, such as standard input."""

    reopens = False

    def open(self):
        return StreamSource(io.BytesIO(self.version.data), name=self.name)


def test_a_stream_that_can_not_be_opened_again_is_sent_by_the_next_run(make_scenario, config):
    """The checkpoint of the lost upload was kept, and every later run failed."""
    scenario = make_scenario(
        SingleUseStream(pseudo_random_bytes(3 * PART)), capabilities=evolve(DEFAULT_CAPABILITIES, lists_parts=False)
    )
    scenario.run(ProcessScript((Fault("append_part", FaultKind.CRASH_AFTER),), config=config()))
    scenario.expire()

    assert isinstance(scenario.run(ProcessScript(config=config())).error, UploadFailed)
    assert scenario.run(ProcessScript(config=config())).result is not None


def test_a_stream_is_not_read_further_while_the_storage_fails(make_scenario, config):
    """Parts that waited for a retry were not counted, and the whole stream was read into memory."""
    generator = random.Random(0)
    order = tuple(generator.randrange(6) for _ in range(600))
    outage = tuple(Fault("upload_part", FaultKind.BEFORE, occurrence) for occurrence in range(1, 40))
    scenario = make_scenario(SimulatedStream(pseudo_random_bytes(50 * PART)))

    trace = scenario.run(ProcessScript(outage, choices=order, config=config(concurrency=2, progress_interval=0.001)))

    assert trace.most_bodies <= 2 + 2


class CountingStream(StreamSource):
    """A stream that counts its bodies in memory."""

    def __init__(self, data):
        super().__init__(io.BytesIO(data))
        self.bodies = weakref.WeakSet()

    def body(self, offset, size):
        body = super().body(offset, size)
        self.bodies.add(body)
        return body


def test_a_part_that_failed_once_does_not_stay_in_memory(config):
    """The error of the first attempt kept the part in a reference cycle until the next garbage collection."""
    once = FaultPlan([Fault("upload_part", FaultKind.BEFORE, part_number=number) for number in range(1, 31)])
    backend = FaultyBackend(MemoryBackend(limits=PartLimits(min_part_size=1)), once)
    source = CountingStream(pseudo_random_bytes(30 * PART))
    counted = []

    gc.collect()
    gc.disable()
    try:
        with ThreadPoolExecutor(2) as executor:
            uploader = Uploader(
                backend, store=MemoryCheckpointStore(), config=config(concurrency=2, retry_base=0.0), executor=executor
            )
            uploader.upload(source, "key", progress=lambda _: counted.append(len(source.bodies)))
    finally:
        gc.enable()

    assert 1 <= max(counted) <= 2 + 2


# --- PROGRESS --------------------------------------------------------------------------------------------------------


def test_the_last_bytes_of_a_stream_in_flight_are_not_reported_as_complete(make_scenario, config):
    """They were reported before the end was known, failed, and were the last bytes."""
    scenario = make_scenario(SimulatedStream(pseudo_random_bytes(PART)))
    failing = Fault("upload_part", FaultKind.BEFORE)

    assert (
        scenario.run(ProcessScript((failing,), choices=(0, 0, 0, 1, 0, 1), config=config()))
        .reports[-1]
        .progress.completed
    )


def test_the_last_bytes_of_a_stream_that_failed_are_not_reported_as_complete(make_scenario, config):
    """They were reported in flight; one of two parts failed, and then the stream ended."""
    scenario = make_scenario(SimulatedStream(pseudo_random_bytes(2 * PART)))
    failing = Fault("upload_part", FaultKind.BEFORE, occurrence=2)
    ticking = config(concurrency=2, progress_interval=0.001)

    trace = scenario.run(ProcessScript((failing,), choices=(1, 0, 1, 1, 0, 0, 0, 0, 1), config=ticking))

    assert [report.progress.completed for report in trace.reports if report.progress.fraction == 1.0] == [True]


def test_the_bytes_of_a_single_put_are_counted_once(make_scenario, config):
    """They were counted as acknowledged and as in flight."""
    scenario = make_scenario()

    progress = scenario.run(ProcessScript(config=config(multipart_threshold=100))).reports[-1].progress

    assert (progress.bytes_done, progress.bytes_total) == (3 * PART + 5, 3 * PART + 5)


def test_an_error_of_the_progress_callback_at_the_end_is_raised_unchanged(make_scenario, config):
    """Even if the upload callback has failed, too."""
    scenario = make_scenario()
    scenario.backend.callback_works = False
    raising = ScheduledEvent("progress", Event.RAISE, occurrence=5)

    trace = scenario.run(ProcessScript(events=(raising,), config=config(), options=CALLBACK))

    assert isinstance(trace.error, CallbackBroke)
    assert isinstance(trace.error.__context__, Exception)


# --- interrupted endings ---------------------------------------------------------------------------------------------


def test_a_cancel_after_the_object_is_stored_has_no_effect(make_scenario, config):
    """Aborting an old upload was retried, and the cancel was accepted during the backoff."""
    scenario = make_scenario()
    scenario.run(ProcessScript((Fault("append_part", FaultKind.CRASH_AFTER),), config=config()))
    scenario.change(Event.TOUCH)
    scenario.run(
        ProcessScript(
            (Fault("abort_upload", FaultKind.PERMANENT), Fault("append_part", FaultKind.CRASH_AFTER)), config=config()
        )
    )
    late = ScheduledEvent("abort_upload", Event.CANCEL)

    trace = scenario.run(ProcessScript((Fault("abort_upload", FaultKind.BEFORE),), (late,), config=config()))

    assert trace.result is not None


def test_a_pause_does_not_interrupt_the_abort_of_a_useless_upload(make_scenario, config):
    """The internal stop request was raised to the caller."""
    scenario = make_scenario()
    pause = ScheduledEvent("abort_upload", Event.PAUSE)
    changed = ScheduledEvent("append_part", Event.TOUCH)

    trace = scenario.run(ProcessScript((Fault("abort_upload", FaultKind.BEFORE),), (changed, pause), config=config()))

    assert isinstance(trace.error, SourceChanged)


def test_a_ctrl_c_while_waiting_for_the_last_parts_leaves_none_in_flight(make_scenario, config):
    """The callback raised; the wait for the part in flight was interrupted and not resumed."""
    scenario = make_scenario(SimulatedStream(pseudo_random_bytes(3 * PART)))
    raising = ScheduledEvent("progress", Event.RAISE, occurrence=3)
    pressed = ScheduledEvent("read", Event.INTERRUPT)

    trace = scenario.run(ProcessScript(events=(raising, pressed), choices=(5, 2, 3), config=config()))

    assert isinstance(trace.error, KeyboardInterrupt)
    assert isinstance(trace.error.__context__.__cause__, CallbackBroke)
    assert trace.worker_pools[-1].in_flight == 0


def test_an_error_of_the_callback_after_a_ctrl_c_is_not_swallowed(make_scenario, config):
    """Ctrl-C was pressed while one part was sent; the other one was acknowledged, and the callback raised."""
    scenario = make_scenario(SimulatedFile(pseudo_random_bytes(3 * PART + 1)))
    raising = ScheduledEvent("progress", Event.RAISE, occurrence=2)
    pressed = ScheduledEvent("upload_part", Event.INTERRUPT)

    trace = scenario.run(ProcessScript(events=(raising, pressed), choices=(1, 1, 1), config=config(concurrency=2)))

    assert isinstance(trace.error, KeyboardInterrupt)
    assert isinstance(trace.error.__context__.__cause__, CallbackBroke)


def test_an_error_of_the_callback_after_a_pause_is_not_swallowed(make_scenario, config):
    scenario = make_scenario(SimulatedFile(pseudo_random_bytes(3 * PART + 1)))
    raising = ScheduledEvent("progress", Event.RAISE, occurrence=2)
    paused = ScheduledEvent("upload_part", Event.PAUSE, occurrence=2)

    trace = scenario.run(ProcessScript(events=(raising, paused), choices=(1, 1, 1), config=config(concurrency=2)))

    assert isinstance(trace.error, CallbackBroke)


@pytest.mark.parametrize(
    ("event", "error"), [(Event.PAUSE, UploadPaused), (Event.CANCEL, UploadCancelled), (Event.RAISE, CallbackBroke)]
)
def test_a_claim_that_is_retried_can_be_stopped(make_scenario, config, event, error):
    """The invariant wanted the error of the store, though the wait for the next attempt had been stopped."""
    unreachable = Fault("claim", FaultKind.UNREACHABLE)
    stop = ScheduledEvent("event", event, occurrence=1)

    trace = make_scenario().run(ProcessScript((unreachable,), (stop,), config=config()))

    assert isinstance(trace.error, error)
    assert trace.backend_calls == []


@pytest.mark.parametrize("event", [Event.INTERRUPT, Event.TIME_LIMIT])
def test_an_interrupt_stops_a_claim_that_is_retried(make_scenario, config, event):
    unreachable = Fault("claim", FaultKind.BEFORE)

    trace = make_scenario().run(ProcessScript((unreachable,), (ScheduledEvent("event", event, 2),), config=config()))

    assert isinstance(trace.error, KeyboardInterrupt | TimeIsUp)


@pytest.mark.parametrize("operation", ["claim", "load"])
def test_an_upload_that_is_cancelled_before_its_checkpoint_was_read_says_that_it_is_kept(
    make_scenario, config, operation
):
    """It was reported as cancelled, and the checkpoint of an earlier run was still there."""
    scenario = make_scenario()
    scenario.run(ProcessScript((Fault("append_part", FaultKind.CRASH_AFTER),), config=config()))
    cancel = ScheduledEvent(operation, Event.CANCEL)

    trace = scenario.run(ProcessScript((Fault(operation, FaultKind.UNREACHABLE),), (cancel,), config=config()))

    assert isinstance(trace.error, UploadCancelled)
    assert "What an earlier run has sent is kept" in str(trace.error)
    assert trace.after.checkpoint is not None


def test_a_cancel_in_the_last_event_does_not_change_the_outcome(make_scenario, config):
    raising, cancel = ScheduledEvent("progress", Event.RAISE), ScheduledEvent("event", Event.CANCEL, 3)

    trace = make_scenario().run(ProcessScript(events=(raising, cancel), config=config()))

    assert trace.reported_events[-1].event.outcome == "paused"
    assert trace.after.checkpoint is not None


def test_an_error_of_the_event_callback_does_not_replace_a_time_limit(make_scenario, config):
    """It was raised while the time limit was handled, and so was taken for one itself."""
    limit, raising = ScheduledEvent("initiate_upload", Event.TIME_LIMIT), ScheduledEvent("event", Event.RAISE, 2)

    trace = make_scenario().run(ProcessScript(events=(limit, raising), config=config()))

    assert isinstance(trace.error, TimeIsUp)
    assert any("event callback also raised" in note for note in trace.error.__notes__)


@pytest.mark.parametrize("event", [Event.INTERRUPT, Event.TIME_LIMIT])
def test_an_interrupt_in_the_last_event_says_what_the_upload_had_ended_with(make_scenario, config, event):
    """The claim was lost, and the caller learned of the interrupt only."""
    lost = Fault("save", FaultKind.CLAIM_LOST)

    trace = make_scenario().run(ProcessScript((lost,), (ScheduledEvent("event", event, 2),), config=config()))

    assert isinstance(trace.error, KeyboardInterrupt | TimeIsUp)
    assert any("has lost its claim" in note for note in trace.error.__notes__)


def test_a_cancel_that_fails_to_abort_keeps_the_checkpoint_for_the_next_one(make_scenario, config):
    scenario = make_scenario()
    cancel = ScheduledEvent("append_part", Event.CANCEL)
    refused = Fault("abort_upload", FaultKind.PERMANENT)

    first = scenario.run(ProcessScript((refused,), (cancel,), config=config()))
    again = scenario.run(ProcessScript(events=(ScheduledEvent("list_parts", Event.CANCEL),), config=config()))

    assert isinstance(first.error, UploadCancelled)
    assert isinstance(again.error, UploadCancelled)
    assert not scenario.history.pending()


def test_a_checkpoint_is_not_deleted_by_another_id_when_the_claim_is_lost(make_scenario, config):
    """After a save that failed, either of two ids may be recorded; a lost claim was taken for the wrong one."""
    faults = (Fault("save", FaultKind.BEFORE, 2), Fault("delete", FaultKind.CLAIM_LOST))

    trace = make_scenario().run(ProcessScript(faults, config=config()))

    assert [call.operation for call in trace.calls].count("delete") == 1
    assert isinstance(trace.error, ClaimLost)


# --- CLEAN: what can't be cleaned up is reported ---------------------------------------------------------------------


def test_an_upload_left_behind_is_reported_with_the_error_of_the_callback(make_scenario, config):
    scenario = make_scenario()
    raising = ScheduledEvent("progress", Event.RAISE, occurrence=2)
    refused = Fault("abort_upload", FaultKind.PERMANENT)

    trace = scenario.run(ProcessScript((refused,), (raising,), config=config(), resume="never"))

    [left] = scenario.history.pending()
    assert isinstance(trace.error, CallbackBroke)
    assert left in "".join(trace.error.__notes__)


def test_an_upload_left_behind_by_a_stream_without_a_name_is_reported(make_scenario, config):
    """The message said that the next run would abort it, which could not know it."""
    scenario = make_scenario(SimulatedStream(pseudo_random_bytes(3 * PART), name=""))
    refused = Fault("abort_upload", FaultKind.PERMANENT)

    trace = scenario.run(ProcessScript((Fault("read", FaultKind.HALFWAY), refused), config=config()))

    [left] = scenario.history.pending()
    assert "the next run will do it" not in str(trace.error)
    assert left in "".join(trace.error.__notes__)


def test_a_part_acknowledged_in_a_lost_upload_does_not_count_in_the_next_one(make_scenario, config):
    """The invariant used the outcome in the first upload for the second, where the part had a wrong checksum."""
    scenario = make_scenario()
    lost = Fault("upload_part", FaultKind.FORGOTTEN_UPLOAD, occurrence=2)
    wrong = Fault("upload_part", FaultKind.WRONG_CHECKSUM, occurrence=3)

    trace = scenario.run(ProcessScript((lost, wrong), config=config(max_attempts=1)))

    assert sent(trace) == [1, 2, 1]
    assert isinstance(trace.error, UploadFailed)


# --- requests --------------------------------------------------------------------------------------------------------


def test_retry_after_of_complete_is_respected(make_scenario, config):
    """The object was looked up at once."""
    scenario = make_scenario()

    trace = scenario.run(ProcessScript((Fault("complete_upload", FaultKind.THROTTLED, seconds=7.0),), config=config()))

    first, look = [call for call in trace.backend_calls if call.operation in {"complete_upload", "head_object"}][:2]
    assert look.started >= first.ended + 7.0


def test_an_object_with_forbid_overwrite_is_recognised_after_a_wrong_checksum(make_scenario, config):
    scenario = make_scenario(SimulatedFile(pseudo_random_bytes(PART)))
    once = ObjectOptions(forbid_overwrite=True)

    trace = scenario.run(
        ProcessScript(
            (Fault("put_object", FaultKind.WRONG_CHECKSUM),), config=config(multipart_threshold=100), options=once
        )
    )

    assert trace.result is not None


def test_an_object_of_another_program_with_the_same_size_is_not_that_of_the_upload(make_scenario, config):
    """A checkpoint that lacks a part can't tell by its checksums that the object has other bytes."""
    scenario = make_scenario()
    not_recorded = Fault("append_part", FaultKind.BEFORE, 2)
    killed = Fault("complete_upload", FaultKind.CRASH_AFTER)
    scenario.run(ProcessScript((not_recorded, killed), config=config()))
    scenario.overwrite(pseudo_random_bytes(3 * PART + 5, seed=2))

    trace = scenario.run(ProcessScript(config=config()))

    assert sent(trace) == [1, 2, 3, 4]
    assert trace.result is not None


def test_a_failed_callback_is_reported_after_a_failed_first_attempt_too(make_scenario, config):
    scenario = make_scenario()
    scenario.backend.callback_works = False

    trace = scenario.run(
        ProcessScript((Fault("complete_upload", FaultKind.BEFORE),), config=config(), options=CALLBACK)
    )

    assert isinstance(trace.error, CallbackError)


def test_retry_after_of_one_part_is_respected_by_all_others(make_scenario, config):
    scenario = make_scenario(SimulatedFile(pseudo_random_bytes(12 * PART)))
    throttled = Fault("upload_part", FaultKind.THROTTLED, 2, seconds=100.0)

    trace = scenario.run(ProcessScript((throttled,), choices=(0, 1) * 10, config=config(concurrency=4)))

    [refused] = [call for call in trace.backend_calls if call.error is not None]
    starts = [call.started for call in trace.backend_calls[trace.backend_calls.index(refused) + 4 :]]
    assert min(starts) >= refused.ended + 100.0


def test_a_part_with_a_wrong_checksum_is_sent_again(make_scenario, config):
    trace = make_scenario().run(ProcessScript((Fault("upload_part", FaultKind.WRONG_CHECKSUM, 2),), config=config()))

    assert [call.part_number for call in trace.backend_calls if call.operation == "upload_part"] == [1, 2, 2, 3, 4]


def test_a_replacing_file_may_be_uploaded_if_a_planned_change_never_happened(make_scenario, config):
    """An event at a hook point that was not reached does not count as a change of the source."""
    replaced = ScheduledEvent("initiate_upload", Event.REPLACE)
    never = ScheduledEvent("list_parts", Event.GROW)

    trace = make_scenario(SimulatedFile(pseudo_random_bytes(3 * PART))).run(
        ProcessScript(events=(replaced, never), config=config())
    )

    assert trace.occurred == (replaced,)
    assert trace.result is not None


def test_a_run_may_fail_when_the_upload_is_lost_twice(make_scenario, config):
    """One restart is allowed, and no second one."""
    dropped = tuple(ScheduledEvent("upload_part", Event.EXPIRY, occurrence) for occurrence in (1, 2))

    trace = make_scenario().run(ProcessScript(events=dropped, config=config(concurrency=2)))

    assert trace.occurred == dropped
    assert isinstance(trace.error, UploadFailed)
    assert "the storage lost the upload twice in a row" in str(trace.error)


def test_an_upload_without_checkpoint_whose_abort_is_interrupted_is_named(make_scenario, config):
    """The callback raised, Ctrl-C interrupted the abort, and nothing said that an upload was left behind."""
    events = (ScheduledEvent("abort_upload", Event.INTERRUPT), ScheduledEvent("progress", Event.RAISE))

    trace = make_scenario().run(ProcessScript(events=events, config=config(), resume="never"))

    assert isinstance(trace.error, KeyboardInterrupt)
    (upload_id,) = trace.after.pending
    assert any(upload_id in note for note in trace.error.__notes__)


def test_a_time_limit_while_a_part_is_read_is_raised_then_and_not_after_a_failing_callback(make_scenario, config):
    """
    The simulation kept what the signal handler had raised in the part, until the part was to be sent.

    In between the progress callback raised, and the part was stopped before it raised the time limit.
    """
    events = (ScheduledEvent("read", Event.TIME_LIMIT), ScheduledEvent("progress", Event.RAISE, 2))

    trace = make_scenario(SimulatedFile(pseudo_random_bytes(PART))).run(
        ProcessScript(events=events, choices=(0, 0, 1, 1), config=config())
    )

    assert trace.occurred == events[:1]
    assert isinstance(trace.error, TimeIsUp)


@pytest.mark.parametrize("again", [1, 3])
def test_a_source_does_not_grow_beyond_what_the_storage_accepts(make_scenario, config, again):
    """A source that grew during a run could not be uploaded by the next one."""
    limits = PartLimits(min_part_size=PART, max_part_size=PART, max_parts=6, max_object_size=40, max_put_size=12)
    scenario = make_scenario(SimulatedFile(pseudo_random_bytes(4 * PART + 1)), limits=limits)
    grown = tuple(ScheduledEvent("initiate_upload", Event.GROW) for _ in range(again))
    scenario.run(ProcessScript(events=grown, config=config()))

    assert len(scenario.source.version.data) == 40
    assert scenario.run(ProcessScript(config=config())).result is not None


def test_bodies_in_reference_cycles_are_not_counted_as_held():
    """When the garbage collector runs by itself depends on all that the process did before."""
    source = CountingSource(BytesSource(b"12345678"), lambda: None, allowed=1)
    gc.disable()
    try:
        for _ in range(3):
            cycle: list[object] = [source.body(0, 8)]
            cycle.append(cycle)
            del cycle
    finally:
        gc.enable()

    assert source.most_bodies == 1


def test_a_record_that_is_not_of_the_new_upload_is_not_a_lost_claim(make_scenario, config):
    """
    The upload id could not be saved, so the record was deleted by that id, and then, the claim being lost, without one.

    The check of FENCED took the refusal of the first deletion for the loss of the claim.
    """
    faults = (Fault("save", FaultKind.DISK_FULL, 2), Fault("delete", FaultKind.CLAIM_LOST, 2))

    trace = make_scenario().run(ProcessScript(faults, config=config()))

    deleted = [(call.outcome, call.faults) for call in trace.calls if call.operation == "delete"]
    assert deleted == [("ClaimLost", ()), ("ClaimLost", faults[1:])]


def test_a_wrong_object_is_reported_with_the_checkpoint_that_a_lost_claim_has_kept(make_scenario, config):
    """The error has that among its warnings; FENCED did not know this ending."""
    faults = (
        Fault("complete_upload", FaultKind.WRONG_CHECKSUM),
        Fault("check_claim", FaultKind.CLAIM_LOST, 2),
    )

    trace = make_scenario().run(ProcessScript(faults, config=config()))

    assert isinstance(trace.error, UploadFailed)
    assert [warning for warning in trace.error.warnings if warning.startswith("the checkpoint was kept: ")]
