"""What the caller's progress callback is called with, and when."""

from __future__ import annotations

from collections.abc import Callable

from partwise._engine.control import CallbackRaised
from partwise._engine.ledger import Ledger
from partwise._engine.status import RunStatus
from partwise._engine.throttle import TransferState
from partwise.checkpoint import Checkpoint, with_parts
from partwise.clock import Clock
from partwise.results import Progress


class ProgressReporter:
    """
    Call the progress callback with numbers that never go backwards.

    Args:
        callback: the caller's callback; None: nothing is reported.
        clock: for the elapsed time, which starts now.
        status: what the run is doing.
    """

    def __init__(self, callback: Callable[[Progress], object] | None, clock: Clock, status: RunStatus) -> None:
        self._callback = callback
        self._clock = clock
        self._status = status
        self._started = clock.monotonic()
        self._reported_bytes = 0
        #: What the callback raised; None if it did not raise.
        self.error: Exception | None = None

    @property
    def is_active(self) -> bool:
        """Whether there is a callback, which has not raised."""
        return self._callback is not None

    def emit(self, ledger: Ledger, transfer: TransferState, checkpoint: Checkpoint | None, *, completed: bool) -> None:
        """
        Call the callback, but not with 100 % before the object is stored.

        Args:
            ledger: the acknowledged parts.
            transfer: the bytes in flight.
            checkpoint: the upload as it would be resumed, without its parts; None if it can't be resumed.
            completed: the object is stored.

        Raises:
            CallbackRaised: the callback raised. It is not called again.
        """
        assert self._callback is not None, "is_active"
        now = self._clock.monotonic()
        waiting = None
        if self._status.failing_since is not None and not completed:
            self._status.announce(now)
            waiting = self._status.waiting(now)
        total, done = ledger.plan.size, ledger.bytes_done
        if not completed:
            sent = done + transfer.in_flight_bytes()
            if total is None or sent < total:
                done = sent  # else the last bytes are sent, but not acknowledged
            if total is not None and max(done, self._reported_bytes) >= total:
                if waiting is None:
                    return
                # Only an outage is reported between the last acknowledgement and the end. If all bytes of a stream
                # were reported before its end was read, its size stays unknown.
                if self._reported_bytes < total:
                    done = total - 1
                else:
                    total = None
        self._reported_bytes = max(self._reported_bytes, done)
        progress = Progress(
            bytes_done=self._reported_bytes,
            bytes_total=total,
            bytes_resumed=min(ledger.bytes_resumed, self._reported_bytes),
            bytes_acknowledged=min(ledger.bytes_done, self._reported_bytes),
            parts_done=ledger.parts_done,
            parts_total=None if total is None else ledger.plan.parts_total,
            elapsed=now - self._started,
            completed=completed,
            parts_in_flight=0 if completed else self._status.parts_in_flight,
            retries=self._status.retries,
            waiting=waiting,
            checkpoint=_no_checkpoint if checkpoint is None or completed else _checkpoint_now(checkpoint, ledger),
        )
        try:
            self._callback(progress)
        except Exception as error:
            self._callback, self.error = None, error
            raise CallbackRaised("progress") from error


def _no_checkpoint() -> None:
    return None


def _checkpoint_now(checkpoint: Checkpoint, ledger: Ledger) -> Callable[[], Checkpoint]:
    """
    Return a function that makes the checkpoint as it is now.

    It is made only if the callback asks for it.
    """
    version = ledger.version
    return lambda: with_parts(checkpoint, ledger.at_version(version))
