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

from attrs import evolve

from partwise import (
    Callback,
    CallbackError,
    ObjectOptions,
    SourceChanged,
    StreamSource,
    UploadCancelled,
    Uploader,
    UploadFailed,
)
from partwise.backends.memory import DEFAULT_CAPABILITIES, MemoryBackend
from partwise.model import PartLimits
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing._proof.events import CallbackBroke, Event, ProcessScript, ScheduledEvent
from partwise.testing._proof.sources import SimulatedFile, SimulatedStream
from partwise.testing.fakes import pseudo_random_bytes
from partwise.testing.faults import Fault, FaultKind, FaultPlan
from partwise.testing.faulty import FaultyBackend

PART = 8
CALLBACK = ObjectOptions(callback=Callback("http://127.0.0.1/told", "object=${object}"))


def sent(trace):
    return [call.part_number for call in trace.backend_calls if call.operation == "upload_part"]


# --- NO-MIX ----------------------------------------------------------------------------------------------------------


def test_receipts_never_follow_a_header_that_speaks_of_another_version(make_scenario, config):
    """
    A source changed, its matching parts were to be kept, and the record could not be renewed; then it was as before.

    The receipts of the new version stood under the old header, and were taken for the old version's: an object of both,
    whose checksum agreed.
    """
    scenario = make_scenario()
    scenario.run(ProcessScript((Fault("append_part", FaultKind.CRASH_AFTER),), config=config()))
    scenario.change(Event.REWRITE)
    failing = Fault("save", FaultKind.BEFORE)
    dying = Fault("append_part", FaultKind.CRASH_AFTER)
    scenario.run(ProcessScript((failing, dying), config=config(on_source_change="keep-matching")))
    scenario.change(Event.RESTORE)

    assert scenario.run(ProcessScript(config=config())).result is not None


def test_an_upload_that_is_gone_is_compared_by_content_if_that_was_asked_for(make_scenario, config):
    """The object of a lost answer is of the bytes that were sent, not of those that a forger put in their place."""
    scenario = make_scenario()
    scenario.run(ProcessScript((Fault("complete_upload", FaultKind.CRASH_AFTER),), config=config()))
    scenario.change(Event.FORGE)

    assert sent(scenario.run(ProcessScript(config=config(verify_source="content")))) == [1, 2, 3, 4]


# --- streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_that_is_empty_on_resuming_is_stored_empty(make_scenario, config):
    """It was completed with no part, which every storage refuses, and so on for ever."""
    scenario = make_scenario(SimulatedStream(pseudo_random_bytes(3 * PART)))
    scenario.run(ProcessScript((Fault("append_part", FaultKind.CRASH_AFTER),), config=config()))
    scenario.change(Event.EMPTY)

    assert scenario.run(ProcessScript(config=config())).result is not None


def test_a_stream_can_begin_anew_when_its_upload_is_lost(make_scenario, config):
    """A storage that can't list parts lets it be known only when the stream has gone by: it is opened again."""
    scenario = make_scenario(
        SimulatedStream(pseudo_random_bytes(3 * PART)), capabilities=evolve(DEFAULT_CAPABILITIES, lists_parts=False)
    )
    scenario.run(ProcessScript((Fault("append_part", FaultKind.CRASH_AFTER),), config=config()))
    scenario.expire()

    assert scenario.run(ProcessScript(config=config())).result is not None


class GoneByStream(SimulatedStream):
    """A stream that nobody can open again, such as standard input."""

    reopens = False

    def open(self):
        return StreamSource(io.BytesIO(self.version.data), name=self.name)


def test_a_stream_that_can_not_begin_anew_does_so_in_the_next_run(make_scenario, config):
    """The record of the lost upload stayed, and every later run failed by it."""
    scenario = make_scenario(
        GoneByStream(pseudo_random_bytes(3 * PART)), capabilities=evolve(DEFAULT_CAPABILITIES, lists_parts=False)
    )
    scenario.run(ProcessScript((Fault("append_part", FaultKind.CRASH_AFTER),), config=config()))
    scenario.expire()

    assert isinstance(scenario.run(ProcessScript(config=config())).error, UploadFailed)
    assert scenario.run(ProcessScript(config=config())).result is not None


def test_a_stream_is_not_read_on_and_on_while_the_storage_fails(make_scenario, config):
    """Parts that waited for another attempt were no longer counted, and the whole stream ended up in memory."""
    chance = random.Random(0)
    order = tuple(chance.randrange(6) for _ in range(600))
    outage = tuple(Fault("upload_part", FaultKind.BEFORE, occurrence) for occurrence in range(1, 40))
    scenario = make_scenario(SimulatedStream(pseudo_random_bytes(50 * PART)))

    trace = scenario.run(ProcessScript(outage, choices=order, config=config(concurrency=2, progress_interval=0.001)))

    assert trace.most_bodies <= 2 + 2


class CountingStream(StreamSource):
    """A stream that knows how many of the bodies that it gave are still in memory."""

    def __init__(self, data):
        super().__init__(io.BytesIO(data))
        self.bodies = weakref.WeakSet()

    def body(self, offset, size):
        body = super().body(offset, size)
        self.bodies.add(body)
        return body


def test_a_part_that_failed_once_does_not_stay_in_memory(config):
    """The error of the first attempt referred to the part, and to itself, until the garbage collector came by."""
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


def test_the_last_bytes_of_a_stream_are_not_told_as_all_while_they_are_in_flight(make_scenario, config):
    """It was told of while its end was not known, failed, and turned out to have been all of it."""
    scenario = make_scenario(SimulatedStream(pseudo_random_bytes(PART)))
    failing = Fault("upload_part", FaultKind.BEFORE)

    assert (
        scenario.run(ProcessScript((failing,), choices=(0, 0, 0, 1, 0, 1), config=config()))
        .reports[-1]
        .progress.completed
    )


def test_the_last_bytes_of_a_stream_that_failed_are_not_told_as_all_once_its_end_is_known(make_scenario, config):
    """They had been told while they were under way; one of two parts failed, and then the stream ended."""
    scenario = make_scenario(SimulatedStream(pseudo_random_bytes(2 * PART)))
    failing = Fault("upload_part", FaultKind.BEFORE, occurrence=2)
    ticking = config(concurrency=2, progress_interval=0.001)

    trace = scenario.run(ProcessScript((failing,), choices=(1, 0, 1, 1, 0, 0, 0, 0, 1), config=ticking))

    assert [told.progress.completed for told in trace.reports if told.progress.fraction == 1.0] == [True]


def test_an_object_in_one_piece_is_told_once(make_scenario, config):
    """Its bytes were counted as acknowledged and as still moving."""
    scenario = make_scenario()

    told = scenario.run(ProcessScript(config=config(multipart_threshold=100))).reports[-1].progress

    assert (told.bytes_done, told.bytes_total) == (3 * PART + 5, 3 * PART + 5)


def test_a_callback_that_raises_at_the_very_end_comes_out_as_it_is(make_scenario, config):
    """Even when the upload callback has failed, too."""
    scenario = make_scenario()
    scenario.backend.callback_works = False
    raising = ScheduledEvent("progress", Event.RAISE, occurrence=5)

    trace = scenario.run(ProcessScript(events=(raising,), config=config(), options=CALLBACK))

    assert isinstance(trace.error, CallbackBroke)
    assert isinstance(trace.error.__context__, Exception)


# --- endings that are disturbed --------------------------------------------------------------------------------------


def test_a_cancel_that_comes_when_the_object_is_stored_comes_too_late(make_scenario, config):
    """An old upload could not be aborted at once, and the wait for the next attempt was taken for a place to stop."""
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


def test_a_pause_does_not_disturb_the_dropping_of_what_is_useless(make_scenario, config):
    """What is for nobody to see came out: the wish itself."""
    scenario = make_scenario()
    pause = ScheduledEvent("abort_upload", Event.PAUSE)
    changed = ScheduledEvent("append_part", Event.TOUCH)

    trace = scenario.run(ProcessScript((Fault("abort_upload", FaultKind.BEFORE),), (changed, pause), config=config()))

    assert isinstance(trace.error, SourceChanged)


def test_a_ctrl_c_while_the_last_parts_are_waited_for_leaves_none_of_them_running(make_scenario, config):
    """The callback raised, the part under way was being waited for, and the wait was given up."""
    scenario = make_scenario(SimulatedStream(pseudo_random_bytes(3 * PART)))
    raising = ScheduledEvent("progress", Event.RAISE, occurrence=3)
    pressed = ScheduledEvent("read", Event.INTERRUPT)

    trace = scenario.run(ProcessScript(events=(raising, pressed), choices=(5, 2, 3), config=config()))

    assert isinstance(trace.error, KeyboardInterrupt)
    assert isinstance(trace.error.__context__.__cause__, CallbackBroke)
    assert trace.worker_pools[-1].in_flight == 0


def test_what_the_callback_raises_after_a_ctrl_c_is_not_swallowed(make_scenario, config):
    """Ctrl-C was pressed while one part was sent; the other one arrived, and the callback raised when it did."""
    scenario = make_scenario(SimulatedFile(pseudo_random_bytes(3 * PART + 1)))
    raising = ScheduledEvent("progress", Event.RAISE, occurrence=2)
    pressed = ScheduledEvent("upload_part", Event.INTERRUPT)

    trace = scenario.run(ProcessScript(events=(raising, pressed), choices=(1, 1, 1), config=config(concurrency=2)))

    assert isinstance(trace.error, KeyboardInterrupt)
    assert isinstance(trace.error.__context__.__cause__, CallbackBroke)


def test_what_the_callback_raises_after_a_pause_is_not_swallowed(make_scenario, config):
    scenario = make_scenario(SimulatedFile(pseudo_random_bytes(3 * PART + 1)))
    raising = ScheduledEvent("progress", Event.RAISE, occurrence=2)
    paused = ScheduledEvent("upload_part", Event.PAUSE, occurrence=2)

    trace = scenario.run(ProcessScript(events=(raising, paused), choices=(1, 1, 1), config=config(concurrency=2)))

    assert isinstance(trace.error, CallbackBroke)


def test_a_cancel_that_fails_to_abort_keeps_the_record_for_the_next_one(make_scenario, config):
    scenario = make_scenario()
    cancel = ScheduledEvent("append_part", Event.CANCEL)
    refused = Fault("abort_upload", FaultKind.PERMANENT)

    first = scenario.run(ProcessScript((refused,), (cancel,), config=config()))
    again = scenario.run(ProcessScript(events=(ScheduledEvent("list_parts", Event.CANCEL),), config=config()))

    assert isinstance(first.error, UploadCancelled)
    assert isinstance(again.error, UploadCancelled)
    assert not scenario.history.pending()


# --- CLEAN: what can't be cleaned up is told -------------------------------------------------------------------------


def test_an_upload_left_behind_is_told_with_the_callers_own_error(make_scenario, config):
    scenario = make_scenario()
    raising = ScheduledEvent("progress", Event.RAISE, occurrence=2)
    refused = Fault("abort_upload", FaultKind.PERMANENT)

    trace = scenario.run(ProcessScript((refused,), (raising,), config=config(), resume="never"))

    [left] = scenario.history.pending()
    assert isinstance(trace.error, CallbackBroke)
    assert left in "".join(trace.error.__notes__)


def test_an_upload_left_behind_by_a_stream_without_a_name_is_told(make_scenario, config):
    """The message promised that the next run would abort it, which could not know of it."""
    scenario = make_scenario(SimulatedStream(pseudo_random_bytes(3 * PART), name=""))
    refused = Fault("abort_upload", FaultKind.PERMANENT)

    trace = scenario.run(ProcessScript((Fault("read", FaultKind.HALFWAY), refused), config=config()))

    [left] = scenario.history.pending()
    assert "the next run will do it" not in str(trace.error)
    assert left in "".join(trace.error.__notes__)


def test_a_part_of_an_upload_that_was_begun_anew_has_not_arrived_because_the_lost_one_had_it(make_scenario, config):
    """The witness took the answer of the first upload for one of the second, whose own was refused by its checksum."""
    scenario = make_scenario()
    lost = Fault("upload_part", FaultKind.FORGOTTEN_UPLOAD, occurrence=2)
    wrong = Fault("upload_part", FaultKind.WRONG_CHECKSUM, occurrence=3)

    trace = scenario.run(ProcessScript((lost, wrong), config=config(max_attempts=1)))

    assert sent(trace) == [1, 2, 1]
    assert isinstance(trace.error, UploadFailed)


# --- requests --------------------------------------------------------------------------------------------------------


def test_a_storage_that_throttles_complete_is_left_alone(make_scenario, config):
    """It was asked at once what had become of the object."""
    scenario = make_scenario()

    trace = scenario.run(ProcessScript((Fault("complete_upload", FaultKind.THROTTLED, seconds=7.0),), config=config()))

    first, look = [call for call in trace.backend_calls if call.operation in {"complete_upload", "head_object"}][:2]
    assert look.started >= first.ended + 7.0


def test_an_object_that_must_not_be_overwritten_is_known_again_after_a_wrong_answer(make_scenario, config):
    scenario = make_scenario(SimulatedFile(pseudo_random_bytes(PART)))
    once = ObjectOptions(forbid_overwrite=True)

    trace = scenario.run(
        ProcessScript(
            (Fault("put_object", FaultKind.WRONG_CHECKSUM),), config=config(multipart_threshold=100), options=once
        )
    )

    assert trace.result is not None


def test_a_failed_callback_is_told_after_a_lost_first_answer_too(make_scenario, config):
    scenario = make_scenario()
    scenario.backend.callback_works = False

    trace = scenario.run(
        ProcessScript((Fault("complete_upload", FaultKind.BEFORE),), config=config(), options=CALLBACK)
    )

    assert isinstance(trace.error, CallbackError)


def test_a_storage_that_throttles_one_part_is_left_alone_by_all_others(make_scenario, config):
    scenario = make_scenario(SimulatedFile(pseudo_random_bytes(6 * PART)))
    throttled = Fault("upload_part", FaultKind.THROTTLED, 2, seconds=100.0)

    trace = scenario.run(ProcessScript((throttled,), choices=(0, 1) * 10, config=config(concurrency=2)))

    [refused] = [call for call in trace.backend_calls if call.error is not None]
    begun = [call.started for call in trace.backend_calls[trace.backend_calls.index(refused) + 2 :]]
    assert min(begun) >= refused.ended + 100.0


def test_a_part_that_did_not_arrive_as_it_was_sent_is_sent_again(make_scenario, config):
    trace = make_scenario().run(ProcessScript((Fault("upload_part", FaultKind.WRONG_CHECKSUM, 2),), config=config()))

    assert [call.part_number for call in trace.backend_calls if call.operation == "upload_part"] == [1, 2, 2, 3, 4]


def test_a_file_that_was_replaced_may_become_the_object_though_more_was_planned_for_it(make_scenario, config):
    """What did not happen to the source, since nothing asked for a list, does not count as a change of it."""
    replaced = ScheduledEvent("initiate_upload", Event.REPLACE)
    never = ScheduledEvent("list_parts", Event.GROW)

    trace = make_scenario(SimulatedFile(pseudo_random_bytes(3 * PART))).run(
        ProcessScript(events=(replaced, never), config=config())
    )

    assert trace.occurred == (replaced,)
    assert trace.result is not None


def test_a_storage_that_drops_every_upload_twice_may_fail_the_run(make_scenario, config):
    """One clean new start is granted, and no second one."""
    dropped = tuple(ScheduledEvent("upload_part", Event.EXPIRY, occurrence) for occurrence in (1, 2))

    trace = make_scenario().run(ProcessScript(events=dropped, config=config(concurrency=2)))

    assert trace.occurred == dropped
    assert isinstance(trace.error, UploadFailed)
    assert "the storage lost the upload twice in a row" in str(trace.error)
