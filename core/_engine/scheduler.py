"""
The loop that gets parts sent: it keeps the transport busy, retries what failed, and stops when it must.

It knows nothing of checkpoints or of what an upload is; it is given parts to send and a place to report receipts to.
It returns, or raises, only when no worker of its own is running any more.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

from attrs import define, field

from partwise._engine.control import Control, ProgressRaised
from partwise._engine.retry import RetryPolicy
from partwise._engine.throttle import TransferState
from partwise._engine.workers import Outcome, PartJob, WorkerPool
from partwise._signals import raised_by_signal
from partwise.clock import Clock
from partwise.errors import BackendError, PartwiseError, UploadNotFound
from partwise.model import UploadedPart
from partwise.protocols import Body

# An attempt that got further into its part than every attempt before, by at least this share of it, is not held against
# the part: a large part on a poor line makes headway, and is not given up while it does.
_HEADWAY = 8


@define
class _Attempts:
    """What a part has been through: failures in a row without headway, and how far it ever got."""

    body: Body
    failures: int = 0
    furthest: int = 0

    def count_failure(self, moved: int) -> None:
        if moved - self.furthest >= max(1, len(self.body) // _HEADWAY):
            self.failures = 0
        self.furthest = max(self.furthest, moved)
        self.failures += 1


@define(order=True)
class _Retry:
    ready: float
    part_number: int
    attempts: _Attempts = field(order=False)


class PartScheduler:
    """
    One run over the parts that are to be sent.

    Args:
        transport: what sends them.
        flow: shared with the workers.
        policy: which failures are tried again.
        clock: what time is.
        control: how others ask for an end.
        concurrency: parts under way at once.
        interval: seconds after which `on_tick` is called while nothing else happens; None: never.
        make_job: gives the attempt at a part.
        accept: is told of each receipt. What it raises ends the loop.
        on_tick: is called now and then. What it raises ends the loop.
        on_retry: is told of each failure that another attempt follows, and in how many seconds it does.
    """

    def __init__(
        self,
        *,
        transport: WorkerPool,
        flow: TransferState,
        policy: RetryPolicy,
        clock: Clock,
        control: Control,
        concurrency: int,
        interval: float | None,
        make_job: Callable[[int, Body], PartJob],
        accept: Callable[[UploadedPart], None],
        on_tick: Callable[[], None],
        on_retry: Callable[[int, BaseException, float], None],
    ) -> None:
        self._transport = transport
        self._flow = flow
        self._policy = policy
        self._clock = clock
        self._control = control
        self._concurrency = concurrency
        self._interval = interval
        self._make_job = make_job
        self._accept = accept
        self._on_tick = on_tick
        self._on_retry = on_retry
        self._in_flight: dict[int, _Attempts] = {}
        self._retries: list[_Retry] = []
        self._hold_until = 0.0
        self._raised: ProgressRaised | None = None

    def run(self, work: Iterator[tuple[int, Body]]) -> None:
        """
        Send every part that `work` gives, which is asked for the next one only when there is room for it.

        Raises:
            StopRequested: a pause or a cancel was asked for.
            BackendError: a part failed for good, or once too often.
            PartwiseError: whatever the source, `accept` or `on_tick` raised.
            ProgressRaised: the caller's callback did, perhaps only while the last parts were awaited. It outranks the
                errors above, which it follows.
            BaseException: an interrupt, or a foreign exception. It outranks all others.
        """
        self._control.on_request(self._flow.stop.set)
        self._control.on_request(self._transport.wake)
        try:
            self._send_all(work)
        except BaseException as error:  # noqa: BLE001  # raised below, where it is not the context of what follows
            ended_by = error
        else:
            return
        if isinstance(ended_by, ProgressRaised):
            self._raised = ended_by
        # Whatever ends the loop, the last worker ends first, and what the storage acknowledged is not forgotten.
        self._drain()
        if self._raised is not None and isinstance(ended_by, PartwiseError):
            raise self._raised
        try:
            raise self._with_what_followed(ended_by)
        finally:
            del ended_by  # it refers to this frame

    def _send_all(self, work: Iterator[tuple[int, Body]]) -> None:
        exhausted = False
        while True:
            self._control.check()
            exhausted = self._submit_what_fits(work, exhausted=exhausted)
            if exhausted and not self._in_flight and not self._retries:
                self._transport.cancel_pending()  # no more parts come, so its own workers release what they hold
                return
            outcome = self._transport.next_outcome(self._patience())
            if outcome is None:
                self._on_tick()
            else:
                self._settle(outcome)

    def _submit_what_fits(self, work: Iterator[tuple[int, Body]], *, exhausted: bool) -> bool:
        while len(self._in_flight) < self._concurrency and (now := self._clock.monotonic()) >= self._hold_until:
            if self._retries and self._retries[0].ready <= now:
                retry = heapq.heappop(self._retries)
                self._submit(retry.part_number, retry.attempts)
            elif not exhausted and len(self._in_flight) + len(self._retries) < self._concurrency:
                # A part that waits for another attempt keeps its place: while a storage fails, a stream is not read on
                # and on into memory.
                part = next(work, None)
                if part is None:
                    return True
                self._control.check()  # a stream may have kept us waiting
                self._submit(part[0], _Attempts(part[1]))
            else:
                break
        return exhausted

    def _submit(self, part_number: int, attempts: _Attempts) -> None:
        job = self._make_job(part_number, self._flow.throttled(part_number, attempts.body))
        self._in_flight[part_number] = attempts  # before it is: an interrupt must not make us forget a worker
        try:
            self._transport.submit(job)
        except Exception as error:
            if raised_by_signal(error) is not None:
                raise
            del self._in_flight[part_number]
            raise BackendError(
                f"the executor takes no more work, so part {part_number} was not sent: {error}"
            ) from error

    def _patience(self) -> float | None:
        """Seconds to wait for the next outcome; None: as long as it takes."""
        if not self._retries:
            return self._interval
        # Whoever made the storage ask to be left alone is among them, so there is no hold without a retry; and each of
        # them has kept its place, so there is room for it.
        wait = max(0.0, max(self._retries[0].ready, self._hold_until) - self._clock.monotonic())
        return wait if self._interval is None else min(wait, self._interval)

    def _settle(self, outcome: Outcome) -> None:
        attempts = self._in_flight.pop(outcome.part_number)
        moved = self._flow.remove_part(outcome.part_number)
        if outcome.part is not None:
            self._accept(outcome.part)
            return
        error = outcome.error
        assert error is not None
        attempts.count_failure(moved)
        delay = None if isinstance(error, UploadNotFound) else self._policy.delay(attempts.failures, error)
        if delay is None:
            error.add_note(f"Met while part {outcome.part_number} was being sent.")
            raise error
        self._on_retry(outcome.part_number, error, delay)
        ready = self._clock.monotonic() + delay
        if getattr(error, "retry_after", None):
            # The storage asked to be left alone, not just by this part.
            self._hold_until = max(self._hold_until, ready)
        heapq.heappush(self._retries, _Retry(ready, outcome.part_number, attempts))
        _let_go_of_frames(error)

    def _drain(self) -> None:
        if not self._in_flight:
            return
        self._flow.stop.set()
        self._transport.cancel_pending()
        try:
            self._wait_for_the_last()
        except BaseException as error:  # noqa: BLE001  # likewise
            interrupt = error
        else:
            return
        # The workers were asked to stop, so this is short. Another Ctrl-C ends it.
        self._wait_for_the_last()
        raise self._with_what_followed(interrupt)

    def _wait_for_the_last(self) -> None:
        while self._in_flight:
            outcome = self._transport.next_outcome(None)
            if outcome is None:
                if self._transport.idle:
                    return  # an interrupt of the program can swallow an outcome on the way from there to here
                continue
            self._in_flight.pop(outcome.part_number, None)
            self._flow.remove_part(outcome.part_number)
            if outcome.part is not None:
                try:
                    self._accept(outcome.part)
                except ProgressRaised as error:
                    self._raised = error
                except PartwiseError:
                    continue  # the loop is ending already, and for an earlier reason

    def _with_what_followed(self, error: BaseException) -> BaseException:
        """The error, from which what the progress callback raised can be found."""
        if self._raised is not None:
            error.add_note(f"The progress callback raised, too: {self._raised.__cause__!r}.")
            error.__context__ = self._raised
        return error


def _let_go_of_frames(error: BaseException | None) -> None:
    """
    Forget where an error came from that is dealt with.

    Its frames refer to the part that was being sent, and it to them in a circle: the bytes of a part that failed once,
    and was sent since, would stay in memory until the garbage collector comes by.
    """
    while error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
