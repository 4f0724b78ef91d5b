"""
What contradicts the events that a run has reported.

They are compared with each other, with the calls of the backend, and with what the caller gets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from partwise.errors import CallbackError, UploadCancelled, UploadPaused
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
from partwise.results import UploadResult
from partwise.testing._proof.events import INTERRUPTS, CallbackBroke, Event, EventRecord, ProcessTrace
from partwise.testing._proof.expectations import had_event, raised_the_callback_error, text_for_caller
from partwise.testing.faults import OPERATIONS

#: Events that an event callback can raise.
_RAISING = (Event.RAISE, Event.INTERRUPT, Event.EXIT, Event.TIME_LIMIT)

#: Operations that are retried only if their call has failed: a part may be cut, or refused after the call.
_PLAIN = frozenset(OPERATIONS) - {"upload_part", "put_object", "body", "read"}


def contradictions(trace: ProcessTrace) -> Iterator[str]:
    """Iterate over what the events of the process contradict."""
    events = [record.event for record in trace.reported_events]
    raised = any(scheduled.operation == "event" and scheduled.event in _RAISING for scheduled in trace.occurred)
    yield from _order(trace, events)
    if raised and not trace.crashed:
        yield from _error_of_the_callback(trace)
    elif events and not trace.crashed:
        yield from _end(trace, events)
    parts = _Parts(trace)
    yield from parts.contradictions()
    yield from _outages(events)
    yield from _retries(trace, events)
    if trace.result is not None and not raised:
        yield from parts.compared_with(trace.result)
        retries = sum(isinstance(event, RetryScheduled) for event in events)
        if retries != trace.result.retries:
            yield f"{retries} of {trace.result.retries} retries were reported"


def _order(trace: ProcessTrace, events: list[UploadEvent]) -> Iterator[str]:
    starts = [number for number, event in enumerate(events) if isinstance(event, RunStarted)]
    if starts != [0] and (events or trace.result is not None):
        yield "the start of the run is not the first one"
    if any(isinstance(event, RunEnded) for event in events[:-1]):
        yield "there was one after the end"
    if any(after.elapsed < before.elapsed for before, after in pairwise(events)):
        yield "their times decrease"


def _error_of_the_callback(trace: ProcessTrace) -> Iterator[str]:
    if had_event(trace, Event.RAISE) and not isinstance(trace.error, INTERRUPTS):
        noted = "event callback also raised" in text_for_caller(trace)
        if not raised_the_callback_error(trace) and not noted:
            yield f"the error of the event callback was raised as {trace.error!r}"


def _end(trace: ProcessTrace, events: list[UploadEvent]) -> Iterator[str]:
    """Compare the end with what the caller gets."""
    end = events[-1]
    if not isinstance(end, RunEnded):
        yield "the end was not reported"
        return
    if end.error is not trace.error or (trace.result is not None and end.result != trace.result):
        yield f"the end was reported with {end.result!r} and {end.error!r}"
    # The object may be stored before something else is raised.
    stored = isinstance(trace.error, (*INTERRUPTS, CallbackBroke)) and trace.after.stored is not None
    if end.outcome not in _outcomes(trace) and not (stored and end.outcome == "completed"):
        yield f"the outcome was reported as {end.outcome}"


def _outcomes(trace: ProcessTrace) -> tuple[str, ...]:
    """
    Return what the outcome may be.

    A cancel may have come too late to have an effect.
    """
    match trace.error:
        case None | CallbackError():
            return ("completed",)
        case UploadPaused():
            return ("paused",)
        case UploadCancelled():
            return ("cancelled",)
    if isinstance(trace.error, (*INTERRUPTS, CallbackBroke)):
        return ("paused", "cancelled") if had_event(trace, Event.CANCEL) else ("paused",)
    return ("failed",)


class _Parts:
    """Follows the parts: each is done once, after the storage has acknowledged it."""

    def __init__(self, trace: ProcessTrace) -> None:
        self._trace = trace
        self._upload: UploadStarted | None = None
        self._done: dict[int, PartDone] = {}

    def contradictions(self) -> Iterator[str]:
        for record in self._trace.reported_events:
            match record.event:
                case UploadStarted() as started:
                    self._upload, self._done = started, {}
                case PartDone() as part:
                    yield from self._part_done(record, part)
                case PartLost(part_number=number):
                    if self._done.pop(number, None) is None:
                        yield f"part {number} was lost before it was done"
                case CompletionStarted() as completion:
                    size = sum(part.size for part in self._done.values())
                    if (completion.parts, completion.size) != (len(self._done), size):
                        yield f"parts of {size} bytes were done, and {completion.size} bytes are completed"

    def _part_done(self, record: EventRecord, part: PartDone) -> Iterator[str]:
        number = part.part_number
        if self._upload is None:
            yield f"part {number} was done before an upload started"
        elif number in self._done:
            yield f"part {number} was done twice"
        elif not part.resumed and not self._was_acknowledged(record, self._upload.upload_id, number):
            yield f"part {number} was reported as done, and was not"
        if part.second_copy and not any(number in workers.sent_twice for workers in self._trace.worker_pools):
            yield f"part {number} was not sent a second time"
        self._done[number] = part

    def _was_acknowledged(self, record: EventRecord, upload_id: str | None, number: int) -> bool:
        """Return whether the storage had acknowledged the part by then."""
        calls = self._trace.backend_calls[: record.backend_calls]
        if upload_id is None:  # in one request, whose response may have been lost
            return any(call.operation == "put_object" for call in calls)
        sent = ("upload_part", upload_id, number)
        return any((call.operation, call.upload_id, call.part_number) == sent and call.error is None for call in calls)

    def compared_with(self, result: UploadResult) -> Iterator[str]:
        """Compare the parts that are done in the end with the result."""
        if any("an earlier run completed the upload" in warning for warning in result.warnings):
            return  # what this run sent before it found that out does not count
        sent = [part.size for part in self._done.values() if not part.resumed]
        size = sum(part.size for part in self._done.values())
        if (size, sum(sent), len(sent)) != (result.size, result.bytes_sent, result.parts_sent):
            yield f"parts of {size} bytes were reported as done, {sum(sent)} of them sent"


def _outages(events: list[UploadEvent]) -> Iterator[str]:
    changes = [isinstance(event, OutageStarted) for event in events if isinstance(event, OutageStarted | OutageEnded)]
    if changes[:1] == [False] or any(before == after for before, after in pairwise(changes)):
        yield "an outage started twice, or ended before it started"


def _retries(trace: ProcessTrace, events: list[UploadEvent]) -> Iterator[str]:
    retries = Counter(event.operation for event in events if isinstance(event, RetryScheduled))
    if not retries:
        return
    failed = Counter(call.operation for call in trace.calls if call.outcome != "returned")
    for operation, count in retries.items():
        if operation not in OPERATIONS or (operation in _PLAIN and count > failed[operation]):
            yield f"{count} retries of {operation} were reported, and {failed[operation]} calls failed"
