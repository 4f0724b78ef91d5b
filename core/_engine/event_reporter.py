"""
What the caller's event callback is called with.

Imported only for an upload that has an event callback.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Literal

from partwise._engine.control import CallbackRaised
from partwise._engine.ledger import Ledger
from partwise._signals import raised_by_signal
from partwise.clock import Clock
from partwise.events import (
    CompletionStarted,
    EventCallback,
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
from partwise.model import UploadedPart
from partwise.results import UploadResult, Waiting


class EventReporter:
    """
    Call the event callback. None of its methods raises what the callback raises.

    Some events happen where the upload can't stop: between two steps, or during the clean-up. So an exception is kept,
    and `on_error` requests the stop. An interrupt propagates at once.

    Args:
        callback: the caller's callback.
        clock: for the elapsed time, which starts now.
        key: the object's key.
        on_error: called once, with the exception of the callback. It is not called again after that.

    Attributes:
        error: raised by the callback, as the `__cause__`; None if it did not raise.
    """

    def __init__(
        self, callback: EventCallback, clock: Clock, key: str, on_error: Callable[[CallbackRaised], object]
    ) -> None:
        self._callback: EventCallback | None = callback
        self._clock = clock
        self._key = key
        self._on_error = on_error
        self._started = clock.monotonic()
        self.error: CallbackRaised | None = None

    def run_started(self, source: str, location: str) -> None:
        """Report the start of the run."""
        self._emit(RunStarted, source=source, location=location)

    def upload_started(
        self, ledger: Ledger, upload_id: str | None, size: int | None, *, resumed: bool = False, reason: str = ""
    ) -> None:
        """Report an upload whose parts are sent now, and the parts that it has."""
        self._emit(
            UploadStarted,
            upload_id=upload_id,
            resumed=resumed,
            reason=reason,
            size=size,
            part_size=ledger.plan.part_size,
            parts_total=ledger.plan.parts_total,
            parts_resumed=ledger.parts_resumed,
            bytes_resumed=ledger.bytes_resumed,
        )
        for part in ledger.resumed_parts():
            self.part_done(part, 0.0, resumed=True)

    def part_done(
        self, part: UploadedPart, seconds: float, *, second_copy: bool = False, resumed: bool = False
    ) -> None:
        """Report an acknowledged part."""
        self._emit(
            PartDone,
            part_number=part.part_number,
            size=part.size,
            seconds=seconds,
            second_copy=second_copy,
            resumed=resumed,
        )

    def part_lost(self, part: UploadedPart) -> None:
        """Report a part that has to be sent again, although it was acknowledged."""
        self._emit(PartLost, part_number=part.part_number, size=part.size)

    def retry_scheduled(
        self, operation: str, attempt: int, error: BaseException, delay: float, part_number: int | None
    ) -> None:
        """Report an attempt that failed, and that another one follows."""
        self._emit(
            RetryScheduled, operation=operation, attempt=attempt, error=error, delay=delay, part_number=part_number
        )

    def outage_started(self, waiting: Waiting) -> None:
        """Report that nothing moves."""
        self._emit(OutageStarted, waiting=waiting)

    def outage_ended(self, seconds: float) -> None:
        """Report that something moves again."""
        self._emit(OutageEnded, seconds=seconds)

    def completion_started(self, ledger: Ledger) -> None:
        """Report that all parts are there."""
        self._emit(CompletionStarted, parts=ledger.parts_done, size=ledger.bytes_done)

    def run_ended(
        self,
        outcome: Literal["completed", "paused", "cancelled", "failed"],
        result: UploadResult | None,
        error: BaseException | None,
    ) -> None:
        """Report the end of the run."""
        self._emit(RunEnded, outcome=outcome, result=result, error=error)

    def _emit(self, kind: Callable[..., UploadEvent], **fields: Any) -> None:
        if self._callback is None:
            return
        event = kind(key=self._key, elapsed=self._clock.monotonic() - self._started, **fields)
        handled = sys.exception()  # at the end of a run: what ends it is in the context of what is raised here
        try:
            self._callback(event)
        except Exception as error:
            if raised_by_signal(error, handled) is not None:
                raise
            self._callback = None
            self.error = CallbackRaised("event")
            self.error.__cause__ = error
            self._on_error(self.error)
