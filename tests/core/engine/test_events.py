"""The event callback: what it is called with, in which order, and what its exceptions do."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import threading

import attrs
import pytest

import partwise
import partwise.events
from partwise.errors import (
    CallbackError,
    ConnectionFailed,
    InvalidInput,
    PartRejected,
    SourceUnreadable,
    UploadCancelled,
    UploadFailed,
    UploadPaused,
)
from partwise.events import (
    CompletionStarted,
    OutageEnded,
    OutageStarted,
    PartDone,
    PartLost,
    RetryScheduled,
    RunEnded,
    RunStarted,
    UploadEvent,
    UploadStarted,
)
from partwise.model import PartLimits
from partwise.results import Waiting
from partwise.sources import StreamSource
from partwise.testing import Fault, FaultKind, FaultPlan, FaultyBackend
from partwise.testing.fakes import ChangingSource
from partwise.testing.faults import SimulatedCrash


class Recorder(list):
    """An event callback that keeps the events."""

    def __call__(self, event):
        self.append(event)

    @property
    def kinds(self):
        return [type(event) for event in self]

    def of(self, kind):
        return [event for event in self if isinstance(event, kind)]

    def only(self, kind):
        [event] = self.of(kind)
        return event


@pytest.fixture
def events():
    return Recorder()


@pytest.fixture
def resumable_source(source, interrupted):
    """A source of which two parts are on the storage."""
    interrupted(source)
    return source


def fails(operation, *occurrences, kind=FaultKind.BEFORE):
    return [Fault(operation, kind, occurrence=occurrence) for occurrence in occurrences]


# --- what happens in a run -------------------------------------------------------------------------------------------


def test_a_new_upload_is_reported_from_its_start_to_its_end(uploader, backend, source, events):
    result = uploader().upload(source, "key", on_event=events)

    assert events.kinds == [RunStarted, UploadStarted, *[PartDone] * 5, CompletionStarted, RunEnded]
    started, upload, *parts, completion, end = events
    assert (started.source, started.location, started.elapsed) == (source.name, backend.location, 0.0)
    assert (upload.size, upload.part_size, upload.parts_total) == (45, 10, 5)
    assert (upload.resumed, upload.reason, upload.parts_resumed, upload.bytes_resumed) == (False, "", 0, 0)
    assert [(part.part_number, part.size) for part in parts] == [(1, 10), (2, 10), (3, 10), (4, 10), (5, 5)]
    assert not any(part.resumed or part.second_copy for part in parts)
    assert (completion.parts, completion.size) == (5, 45)
    assert (end.outcome, end.result, end.error) == ("completed", result, None)
    assert {event.key for event in events} == {"key"}


def test_a_resumed_upload_reports_the_parts_of_earlier_runs_as_such(uploader, source, interrupted, events):
    error = interrupted(source)
    uploader().upload(source, "key", on_event=events)

    upload = events.only(UploadStarted)
    assert (upload.upload_id, upload.resumed) == (error.upload_id, True)
    assert (upload.parts_resumed, upload.bytes_resumed) == (2, 20)
    assert [(part.part_number, part.resumed) for part in events.of(PartDone)] == [
        *((1, True), (2, True)),
        *((3, False), (4, False), (5, False)),
    ]


def test_the_parts_of_a_resumed_stream_are_reported_as_it_is_read(uploader, data, interrupted, events):
    interrupted(StreamSource(io.BytesIO(data), name="dump"))
    uploader().upload(StreamSource(io.BytesIO(data), name="dump"), "key", on_event=events)

    upload = events.only(UploadStarted)
    assert (upload.resumed, upload.size, upload.parts_total, upload.parts_resumed) == (True, None, None, 0)
    assert [part.resumed for part in events.of(PartDone)] == [True, True, False, False, False]


def test_an_object_that_is_sent_with_one_request_is_one_part(uploader, data, events, clock):
    def send(*arguments):
        clock.time += 3.0
        return put(*arguments)

    made = uploader(multipart_threshold=1000)
    put, made.backend.put_object = made.backend.put_object, send
    made.upload(ChangingSource(data), "key", on_event=events)

    assert events.kinds == [RunStarted, UploadStarted, PartDone, RunEnded]
    assert (events[1].upload_id, events[1].size, events[1].parts_total) == (None, 45, 1)
    assert (events[2].part_number, events[2].size, events[2].seconds) == (1, 45, 3.0)


def test_an_empty_object_has_no_part(uploader, events):
    uploader().upload(ChangingSource(b""), "key", on_event=events)

    assert events.kinds == [RunStarted, UploadStarted, RunEnded]


def test_a_part_says_how_long_its_last_attempt_took(faulty, source, events, clock):
    made = faulty(*fails("upload_part", 2))
    send = made.backend.upload_part

    def slow(*arguments):
        clock.time += 7.0
        return send(*arguments)

    made.backend.upload_part = slow
    made.upload(source, "key", on_event=events)

    assert [part.seconds for part in events.of(PartDone)] == [7.0] * 5


def test_a_second_copy_that_is_first_is_reported_as_such(uploader, source, events, monkeypatch):
    """The scheduler says so with the part: see `test_second_copies`."""
    from partwise._engine import upload

    class Twice(upload.PartScheduler):
        def __init__(self, on_part_uploaded, **rest):
            def report(part, seconds, _):
                on_part_uploaded(part, seconds, part.part_number == 5)

            super().__init__(on_part_uploaded=report, **rest)

    monkeypatch.setattr(upload, "PartScheduler", Twice)
    uploader().upload(source, "key", on_event=events)

    assert [part.part_number for part in events.of(PartDone) if part.second_copy] == [5]


# --- failures --------------------------------------------------------------------------------------------------------


def test_each_retry_is_reported_with_its_request_and_its_wait(faulty, source, events, clock):
    faults = [*fails("initiate_upload", 1), *fails("upload_part", 3, 4), *fails("complete_upload", 1)]
    result = faulty(*faults).upload(source, "key", on_event=events)

    retries = events.of(RetryScheduled)
    assert [(retry.operation, retry.part_number, retry.attempt) for retry in retries] == [
        ("initiate_upload", None, 1),
        ("upload_part", 3, 1),
        ("upload_part", 3, 2),
        ("complete_upload", None, 1),
    ]
    assert all(isinstance(retry.error, ConnectionFailed) for retry in retries)
    assert [retry.delay for retry in retries] == [0.5, 0.5, 1.0, 0.5]
    assert len(retries) == result.retries


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("claim", FaultKind.UNREACHABLE),
        ("load", FaultKind.UNREACHABLE),
        ("delete", FaultKind.UNREACHABLE),
        ("list_parts", FaultKind.BEFORE),
    ],
)
def test_a_retry_names_the_method_that_failed(faulty, resumable_source, events, operation, kind):
    faulty(*fails(operation, 1, kind=kind)).upload(resumable_source, "key", on_event=events)

    assert [retry.operation for retry in events.of(RetryScheduled)] == [operation]


def test_a_failure_that_is_final_is_no_retry(faulty, source, events):
    with pytest.raises(UploadFailed) as caught:
        faulty(*fails("upload_part", 2, kind=FaultKind.PERMANENT)).upload(source, "key", on_event=events)

    assert events.of(RetryScheduled) == []
    assert events.kinds == [RunStarted, UploadStarted, PartDone, RunEnded]
    assert (events[-1].outcome, events[-1].result, events[-1].error) == ("failed", None, caught.value)


def test_an_outage_is_reported_once_with_its_start_and_its_end(faulty, source, events):
    faulty(*fails("upload_part", *range(2, 12))).upload(source, "key", on_event=events)

    start, end = events.only(OutageStarted), events.only(OutageEnded)
    assert start.waiting == Waiting("no connection", start.waiting.seconds, 300.0 - start.waiting.seconds)
    assert 2.0 <= start.waiting.seconds < end.seconds
    assert events.index(start) < events.index(end) < events.index(events.of(PartDone)[1])


def test_a_part_that_the_storage_lost_is_reported_and_done_again(uploader, backend, source, events):
    """As the list shows when complete is refused."""
    complete = backend.complete_upload

    def lose(key, upload_id, parts, options):
        backend.complete_upload = complete
        del backend._storage.uploads[upload_id].parts[2]
        raise PartRejected("there is no part 2")

    backend.complete_upload = lose
    uploader().upload(source, "key", on_event=events)

    lost = events.only(PartLost)
    assert (lost.part_number, lost.size) == (2, 10)
    assert events.kinds[events.index(lost) :] == [PartLost, PartDone, CompletionStarted, RunEnded]


def test_an_upload_that_the_storage_lost_starts_again_with_a_reason(faulty, source, events):
    lost = Fault("upload_part", FaultKind.FORGOTTEN_UPLOAD, part_number=4)
    faulty(lost).upload(source, "key", on_event=events)

    first, second = events.of(UploadStarted)
    assert first.upload_id != second.upload_id
    assert (first.reason, bool(second.reason), second.resumed) == ("", True, False)
    done_again = [event for event in events[events.index(second) :] if isinstance(event, PartDone)]
    assert [part.part_number for part in done_again] == [1, 2, 3, 4, 5]


def test_an_object_that_an_earlier_run_has_made_needs_no_upload(uploader, faulty, source, events):
    crash = Fault("complete_upload", FaultKind.CRASH_AFTER)
    with pytest.raises(SimulatedCrash):
        faulty(crash).upload(source, "key")
    result = uploader().upload(source, "key", on_event=events)

    assert events.kinds == [RunStarted, RunEnded]
    assert events[-1].result == result
    assert result.bytes_resumed == 45


def test_a_source_that_is_missing_is_a_run_that_failed(uploader, tmp_path, events):
    with pytest.raises(SourceUnreadable) as caught:
        uploader().upload(tmp_path / "missing", "key", on_event=events)

    assert events.kinds == [RunStarted, RunEnded]
    assert (events[-1].outcome, events[-1].error) == ("failed", caught.value)


def test_what_is_refused_before_the_run_has_no_events(uploader, source, events):
    with pytest.raises(InvalidInput):
        uploader().upload(source, "", on_event=events)

    assert events == []


def test_a_failed_callback_to_the_server_completes_the_run_with_an_error(uploader, make_backend, source, events):
    from partwise.backends.oss import Callback, OSSOptions

    def refuse(stored):
        raise ConnectionError("no server listens")

    names = {"content_type", "metadata", "callback"}
    backend = make_backend(limits=PartLimits(), callback=refuse, options=frozenset(names), option_type=OSSOptions)
    options = OSSOptions(callback=Callback("http://127.0.0.1/", "x=1"))
    with pytest.raises(CallbackError) as caught:
        uploader(backend=backend).upload(source, "key", options=options, on_event=events)

    assert (events[-1].outcome, events[-1].error) == ("completed", caught.value)
    assert events[-1].result == caught.value.result


# --- how a run is stopped --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stop", "ending"), [("pause", (UploadPaused, "paused")), ("cancel", (UploadCancelled, "cancelled"))]
)
def test_a_task_that_is_stopped_says_how(uploader, source, events, stop, ending):
    error, outcome = ending
    stopped = threading.Event()

    def on_event(event):
        events(event)
        if isinstance(event, PartDone):
            stopped.wait(10)

    task = uploader().start(source, "key", on_event=on_event)
    getattr(task, stop)()
    stopped.set()
    with pytest.raises(error) as caught:
        task.result(10)

    assert (events[-1].outcome, events[-1].error) == (outcome, caught.value)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_a_pause(uploader, source, events, interrupt):
    def progress(report):
        if report.parts_done == 2:
            raise interrupt

    with pytest.raises(interrupt):
        uploader().upload(source, "key", progress=progress, on_event=events)

    assert (events[-1].outcome, type(events[-1].error)) == ("paused", interrupt)


def test_an_error_of_the_progress_callback_is_a_pause(uploader, source, events):
    def progress(report):
        if report.parts_done == 2:
            raise LookupError("enough")

    with pytest.raises(LookupError) as caught:
        uploader().upload(source, "key", progress=progress, on_event=events)

    assert (events[-1].outcome, events[-1].error) == ("paused", caught.value)


def test_an_error_of_the_progress_callback_at_the_end_does_not_undo_the_completion(uploader, source, events):
    def progress(report):
        if report.completed:
            raise LookupError("too late")

    with pytest.raises(LookupError) as caught:
        uploader().upload(source, "key", progress=progress, on_event=events)

    assert (events[-1].outcome, events[-1].error) == ("completed", caught.value)
    assert events[-1].result.size == 45


def test_the_upload_is_free_for_another_run_when_the_end_is_reported(uploader, source, events, interrupted):
    interrupted(source)
    aborted = []

    def on_event(event):
        if isinstance(event, RunEnded) and event.outcome == "paused":
            aborted.append(uploader().abort(source, "key"))

    def progress(report):
        raise LookupError("enough")

    with pytest.raises(LookupError):
        uploader().upload(source, "key", progress=progress, on_event=on_event)

    assert aborted == [True]


# --- an event callback that raises -----------------------------------------------------------------------------------


def raises_at(kind, events, error=None):
    def on_event(event):
        events(event)
        if isinstance(event, kind):
            raise error or LookupError("no such metric")

    return on_event


@pytest.mark.parametrize(
    "kind", [RunStarted, UploadStarted, PartDone, RetryScheduled, OutageStarted, CompletionStarted]
)
def test_its_exception_pauses_the_upload_and_propagates(uploader, backend, source, events, kind):
    faults = FaultPlan(fails("upload_part", *range(2, 10)))
    with pytest.raises(LookupError, match="no such metric"):
        uploader(backend=FaultyBackend(backend, faults)).upload(source, "key", on_event=raises_at(kind, events))

    assert isinstance(events[-1], kind), "it is not called again"
    assert backend.keys() == []
    result = uploader().upload(source, "key")
    sent_before = backend.calls["upload_part"] - result.parts_sent
    assert result.parts_resumed == len(events.of(PartDone)) <= sent_before


def test_its_exception_gets_a_note_that_says_what_is_kept(uploader, source, events):
    with pytest.raises(LookupError) as caught:
        uploader().upload(source, "key", on_event=raises_at(PartDone, events))

    [note] = caught.value.__notes__
    assert note.endswith("stopped with 10 of 45 bytes; the same call resumes.")


def test_its_exception_at_the_end_does_not_undo_the_completion(uploader, backend, source, events, left_behind):
    with pytest.raises(LookupError) as caught:
        uploader().upload(source, "key", on_event=raises_at(RunEnded, events))

    assert caught.value.__notes__ == ["key is stored, and need not be uploaded again."]
    assert backend.read("key") == source.data
    assert left_behind() == []


def test_its_exception_does_not_replace_the_error_that_ended_the_run(faulty, source, events):
    with pytest.raises(UploadFailed) as caught:
        faulty(*fails("upload_part", 2, kind=FaultKind.PERMANENT)).upload(
            source, "key", on_event=raises_at(RunEnded, events)
        )

    assert caught.value.__notes__[-1] == "The event callback also raised LookupError('no such metric')."


def test_its_exception_does_not_stop_the_clean_up(faulty, source, events, left_behind):
    """A retry of the abort is reported, and the abort is retried all the same."""

    on_event = raises_at(RetryScheduled, events)

    def progress(report):
        if report.parts_done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        faulty(*fails("abort_upload", 1)).upload(source, "key", resume="never", progress=progress, on_event=on_event)

    assert events.only(RetryScheduled).operation == "abort_upload"
    assert "The event callback also raised LookupError('no such metric')." in caught.value.__notes__
    assert left_behind() == []


def test_an_interrupt_in_it_propagates(uploader, source, events):
    with pytest.raises(KeyboardInterrupt):
        uploader().upload(source, "key", on_event=raises_at(PartDone, events, KeyboardInterrupt()))

    assert events[-1].outcome == "paused"
    assert uploader().upload(source, "key").parts_resumed == 1


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there is no such signal")
def test_a_time_limit_that_is_reached_in_it_propagates_at_once(uploader, source, events):
    class TimeLimit(Exception):
        pass

    def time_is_up(number, frame):
        raise TimeLimit

    def on_event(event):
        events(event)
        if isinstance(event, PartDone):
            signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, time_is_up)
    try:
        with pytest.raises(TimeLimit):
            uploader().upload(source, "key", on_event=on_event)
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert events.kinds[-2:] == [PartDone, RunEnded], "it did not raise that itself, and is called with the end"
    assert events[-1].outcome == "paused"


def test_an_exception_of_a_task_s_event_callback_is_raised_by_its_result(uploader, source, events):
    task = uploader().start(source, "key", on_event=raises_at(PartDone, events))
    with pytest.raises(LookupError):
        task.result(10)


# --- calls -----------------------------------------------------------------------------------------------------------


def test_it_is_called_in_the_thread_of_the_upload(uploader, source, events):
    def on_event(event):
        events(threading.current_thread().name)

    task = uploader().start(source, "key", on_event=on_event)
    task.result(10)
    assert set(events) == {"partwise upload of key"}

    events.clear()
    uploader().upload(source, "other", on_event=on_event)
    assert set(events) == {threading.current_thread().name}


def test_several_workers_are_reported_one_event_at_a_time(backend, store, data, events):
    calls = []

    def on_event(event):
        calls.append("in")
        events(event)
        calls.append("out")

    config = partwise.TransferConfig(part_size=10, multipart_threshold=0, concurrency=4)
    partwise.Uploader(backend, store=store, config=config).upload(ChangingSource(data), "key", on_event=on_event)

    assert calls == ["in", "out"] * len(events)
    assert {part.part_number for part in events.of(PartDone)} == {1, 2, 3, 4, 5}


def test_the_function_upload_passes_it_on(tmp_path, events):
    source = tmp_path / "file"
    source.write_bytes(b"bytes")
    partwise.upload(source, f"file://{tmp_path}/bucket/key", store=f"file://{tmp_path}/state", on_event=events)

    assert events.kinds == [RunStarted, UploadStarted, PartDone, RunEnded]


async def _coroutine(event):
    raise AssertionError("never called")


class _CallableWithCoroutine:
    async def __call__(self, event):
        raise AssertionError("never called")


@pytest.mark.parametrize("wrong", [_coroutine, _CallableWithCoroutine(), "print", 5])
@pytest.mark.parametrize("method", ["upload", "start"])
def test_what_can_not_be_called_in_a_thread_is_refused(uploader, source, method, wrong):
    with pytest.raises(InvalidInput, match="on_event"):
        getattr(uploader(), method)(source, "key", on_event=wrong)


def test_events_are_values_that_can_be_compared_and_not_changed(uploader, source, events):
    uploader().upload(source, "key", on_event=events)

    for event in events:
        assert isinstance(event, UploadEvent)
        assert attrs.evolve(event) == event
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            event.key = "other"


def test_without_it_nothing_of_it_is_imported():
    code = """
import sys, partwise
from partwise.backends.memory import MemoryBackend
from partwise.stores.memory import MemoryCheckpointStore
partwise.Uploader(MemoryBackend(), store=MemoryCheckpointStore()).upload(b"bytes", "key")
print([name for name in sys.modules if "event" in name and name.startswith("partwise")])
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
