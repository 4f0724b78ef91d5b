"""What the caller's progress callback is called with, and when."""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve

from partwise._engine.control import ProgressRaised
from partwise._engine.ledger import Ledger
from partwise._engine.throttle import TransferState
from partwise.checkpoint import Checkpoint
from partwise.clock import Clock
from partwise.results import Progress


class ProgressReporter:
    """
    Call the progress callback with numbers that never go backwards.

    Args:
        callback: the caller's callback; None: nothing is reported.
        clock: for the elapsed time, which starts now.
    """

    def __init__(self, callback: Callable[[Progress], object] | None, clock: Clock) -> None:
        self._callback = callback
        self._clock = clock
        self._started = clock.monotonic()
        self._reported_bytes = 0

    def emit(self, ledger: Ledger, transfer: TransferState, checkpoint: Checkpoint | None, *, completed: bool) -> None:
        """
        Call the callback, but not with 100 % before the object is stored.

        Args:
            ledger: the acknowledged parts.
            transfer: the bytes in flight.
            checkpoint: the upload as it would be resumed, without its parts; None if it can't be resumed.
            completed: the object is stored.

        Raises:
            ProgressRaised: the callback raised. It is not called again.
        """
        if self._callback is None:
            return
        total, done = ledger.plan.size, ledger.bytes_done
        if not completed:
            sent = done + transfer.in_flight_bytes()
            if total is None or sent < total:
                done = sent  # else the last bytes are sent, but not acknowledged
            # Bytes that were reported of a stream may turn out to have been all of it.
            if total is not None and max(done, self._reported_bytes) >= total:
                return
        self._reported_bytes = max(self._reported_bytes, done)
        progress = Progress(
            bytes_done=self._reported_bytes,
            bytes_total=total,
            bytes_resumed=ledger.bytes_resumed,
            bytes_acknowledged=ledger.bytes_done,
            parts_done=ledger.parts_done,
            parts_total=ledger.plan.parts_total,
            elapsed=self._clock.monotonic() - self._started,
            completed=completed,
            checkpoint=_no_checkpoint if checkpoint is None or completed else _checkpoint_now(checkpoint, ledger),
        )
        try:
            self._callback(progress)
        except Exception as error:
            self._callback = None
            raise ProgressRaised("the progress callback raised") from error


def _no_checkpoint() -> None:
    return None


def _checkpoint_now(checkpoint: Checkpoint, ledger: Ledger) -> Callable[[], Checkpoint]:
    """
    Return a function that makes the checkpoint as it is now.

    It is made only if the callback asks for it.
    """
    version = ledger.version
    return lambda: evolve(checkpoint, parts=ledger.at_version(version))
