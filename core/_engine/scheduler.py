"""
Send parts: keep the workers busy, retry transient failures, stop on request.

The scheduler knows nothing of checkpoints. It is given the parts to send, and a callback for each part that the storage
has acknowledged. `run` returns or raises only when no worker is sending a part of this upload any more.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

from attrs import define, field

from partwise._engine.concurrency import CONCURRENCY_MIN, Concurrency
from partwise._engine.control import CallbackRaised, Control
from partwise._engine.low_speed import LowSpeed
from partwise._engine.patience import PROBE_INTERVAL, Patience
from partwise._engine.retry import add_hint
from partwise._engine.status import RunStatus
from partwise._engine.tail import LateParts
from partwise._engine.throttle import TransferState
from partwise._engine.workers import Outcome, PartJob, WorkerPool
from partwise._signals import raised_by_signal
from partwise.clock import Clock
from partwise.errors import BackendError, ConnectionFailed, PartwiseError, Throttled, UploadNotFound
from partwise.model import UploadedPart
from partwise.protocols import SourceBody

# An attempt that got further into its part than all earlier ones, by at least 1/8 of the part, moves the upload: a
# large part on an unreliable network is not given up while it makes progress.
_PROGRESS_SHARE = 8

# Seconds between two samples of the throughput, where the number of parts in flight is fixed.
_SAMPLE_INTERVAL = 0.25

# During an outage, seconds between two looks at the bytes in flight.
_LOOK_INTERVAL = 1.0

# Seconds between two looks at the speed of each part in flight.
_SPEED_INTERVAL = 1.0

# While an upload stops, its parts in flight are cut when none of them has finished for the first number of seconds, or
# when it has taken the second one in total. Those that the storage has received by then are found by the next run.
_STOP_GRACE, _STOP_SECONDS_MAX = 2.0, 10.0


@define
class _Attempts:
    """The failures of one part in a row, and the most bytes that an attempt sent."""

    body: SourceBody
    failures: int = 0
    retried: int = 0  # all attempts that have failed, also those that do not count above
    most_sent: int = 0
    started: float = 0.0  # when the last one was
    jobs: list[PartJob] = field(factory=list)  # in flight: the attempt, and perhaps the second copy
    copied: bool = False  # it was sent a second time
    copied_at: float = 0.0
    acknowledged: bool = False  # other copies, which are still in flight, do not count
    cut: bool = False  # the attempt in flight was too slow, and is sent again at once

    def note_progress(self, sent: int) -> bool:
        """
        Return whether the current attempt got further than before.

        If it did, the failures in a row have ended.
        """
        progressed = sent - self.most_sent >= max(1, len(self.body) // _PROGRESS_SHARE)
        if progressed:
            self.failures, self.most_sent = 0, sent
        return progressed

    def count_failure(self, sent: int) -> None:
        self.most_sent = max(self.most_sent, sent)
        self.failures += 1


@define(order=True)
class _Retry:
    due: float
    part_number: int
    attempts: _Attempts = field(order=False)


@define(kw_only=True, eq=False)
class PartScheduler:
    """Sends parts by a pool of workers. Made for one call of `run`."""

    _workers: WorkerPool
    _state: TransferState
    _patience: Patience
    _clock: Clock
    _control: Control
    _concurrency: Concurrency
    _tick_interval: float | None  # seconds after which `on_tick` is called while no part finishes; None: never
    _make_job: Callable[[int, SourceBody, bool], PartJob]
    # called with each part that the storage has acknowledged, the seconds that its attempt took, and whether that was
    # the second copy. What it raises ends the run.
    _on_part_uploaded: Callable[[UploadedPart, float, bool], None]
    # called when `tick_interval` has passed, or when a stop is requested. What it raises ends the run.
    _on_tick: Callable[[], None]
    # called for each failure that is retried: with the part number, the error, the delay in seconds, and which attempt
    # at the part it was
    _on_retry: Callable[[int, BaseException, float, int], None]
    _status: RunStatus = field(factory=RunStatus)
    # makes the body of a part again, to send it a second time; None: the source can be read only once
    _read_again: Callable[[int], SourceBody] | None = None
    _late_parts: LateParts = field(factory=LateParts)
    _reads_may_block: bool = False  # as those of a stream, until its producer has more
    _low_speed: LowSpeed = field(factory=LowSpeed)

    _polls: bool = field(default=False, init=False)  # the next outcome is not waited for
    _exhausted: bool = field(default=False, init=False)  # no new parts are left
    _in_flight: dict[int, _Attempts] = field(factory=dict, init=False)
    _copies: dict[int, _Attempts] = field(factory=dict, init=False)  # parts whose second copy is in flight
    _retries: list[_Retry] = field(factory=list, init=False)  # a heap
    _bytes_ended: int = field(default=0, init=False)  # sent by the attempts that have ended, however they did
    _sample_at: float = field(default=0.0, init=False)  # when the throughput is measured next
    _tick_at: float = field(default=0.0, init=False)  # when `on_tick` is due
    _hold_until: float = field(default=0.0, init=False)  # nothing is sent before this time, as the storage requested
    # During an outage one part at a time is sent, the probe. If it hangs, it holds the next one for a while only.
    _probe: int | None = field(default=None, init=False)
    _next_probe: float = field(default=0.0, init=False)
    _can_cut: bool | None = field(default=None, init=False)  # whether slow attempts can be cut; None: not known yet
    _shortest_interval: float | None = field(default=None, init=False)  # between two things to do regularly
    _speed_at: float = field(default=0.0, init=False)  # when the speed of the parts is looked at next
    _callback_raised: CallbackRaised | None = field(default=None, init=False)

    def run(self, parts: Iterator[tuple[int, SourceBody]]) -> None:
        """
        Send all parts. One is taken from `parts` only when it can be sent at once.

        Raises:
            StopRequested: a pause or a cancel was requested.
            BackendError: a part failed permanently, or too often.
            PartwiseError: what the source, `on_part_uploaded` or `on_tick` raised.
            CallbackRaised: a callback of the caller raised, perhaps while the last parts finished. It takes precedence
                over the errors above, even if it came later.
            BaseException: an interrupt, or an exception that is not a `PartwiseError`. It takes precedence over all
                others.
        """
        self._control.on_request(self._state.stop.set)
        self._control.on_request(self._workers.wake)
        try:
            self._send_all(parts)
        except BaseException as error:  # noqa: BLE001  # raised below, so that it is not the context of later errors
            ended_by = error
        else:
            return
        if isinstance(ended_by, CallbackRaised):
            self._callback_raised = ended_by
        # Whatever ended the run: wait for the last worker, and keep the parts that the storage acknowledges until then.
        self._stop_workers()
        if self._callback_raised is not None and isinstance(ended_by, PartwiseError):
            raise self._callback_raised
        try:
            raise self._with_callback_raised(ended_by)
        finally:
            del ended_by  # it refers to this frame

    def _send_all(self, parts: Iterator[tuple[int, SourceBody]]) -> None:
        now = self._clock.monotonic()
        while True:
            self._control.check()
            self._fill_workers(parts)
            if now >= self._sample_at:  # while the workers are full, so that what is measured is their number
                self._sample_throughput(now)
            if self._exhausted and not self._in_flight and not self._retries and not self._copies:
                self._workers.cancel_pending()  # nothing is pending, but idle threads exit and release their buffers
                return
            polls, self._polls = self._polls, False
            outcome = self._workers.next_outcome(0.0 if polls else self._timeout())
            now = self._clock.monotonic()
            if outcome is not None:
                self._handle_outcome(outcome, now)
            elif not polls and self._is_tick(now):
                self._on_tick()
            if outcome is None and self._is_outage():
                self._look_for_progress()
            if self._can_cut and now >= self._speed_at:
                self._cut_slow_parts(now)

    def _fill_workers(self, parts: Iterator[tuple[int, SourceBody]]) -> None:
        """Submit retries that are due and new parts, up to the target of `concurrency`."""
        while self._has_free_worker() and (now := self._clock.monotonic()) >= self._held_until():
            if self._retries and self._retries[0].due <= now:
                retry = heapq.heappop(self._retries)
                self._submit(retry.part_number, retry.attempts)
            elif not self._exhausted and (not self._retries or self._accepts_new_part()):
                part = next(parts, None)
                if part is None:
                    self._exhausted = True
                    break
                self._control.check()  # reading a stream may have taken long
                self._submit(part[0], _Attempts(part[1]))
                if self._reads_may_block and len(self._in_flight) >= CONCURRENCY_MIN:
                    self._polls = True  # first record the parts that are done
                    break
            elif (late := self._late_part()) is not None and late[1] <= now:
                self._send_again(late[0])
            else:
                break

    def _has_free_worker(self) -> bool:
        return len(self._in_flight) + len(self._copies) < self._concurrency.target

    def _accepts_new_part(self) -> bool:
        # Parts that wait for a retry count: while a storage fails, a stream must not be read into memory.
        busy = len(self._in_flight) + len(self._copies) + len(self._retries)
        return busy < self._concurrency.target

    def _is_outage(self) -> bool:
        # Nearly always nothing fails. Then this costs no call, and so on for each part.
        return self._patience.failing_since is not None and self._patience.outage

    def _held_until(self) -> float:
        """Return the time before which nothing may be sent."""
        return max(self._hold_until, self._next_probe) if self._is_outage() else self._hold_until

    def _submit(self, part_number: int, attempts: _Attempts) -> None:
        attempts.started = self._clock.monotonic()
        job = self._make_job(part_number, attempts.body, False)
        if self._is_outage():
            self._probe, self._next_probe = part_number, attempts.started + PROBE_INTERVAL
        self._start(job, attempts, self._in_flight)

    def _start(self, job: PartJob, attempts: _Attempts, in_flight: dict[int, _Attempts]) -> None:
        in_flight[job.part_number] = attempts  # before it is submitted: an interrupt must not lose a running worker
        attempts.jobs.append(job)
        try:
            self._workers.submit(job)
        except Exception as error:
            if raised_by_signal(error) is not None:
                raise
            del in_flight[job.part_number]
            raise BackendError(f"the executor rejected part {job.part_number}, which was not sent: {error}") from error
        if self._can_cut is None:
            self._can_cut = self._workers.can_cut(job)  # once there is a thread
            intervals = (self._tick_interval, self._concurrency.interval, _SPEED_INTERVAL if self._can_cut else None)
            self._shortest_interval = min((one for one in intervals if one is not None), default=None)
        self._status.set_in_flight(len(self._in_flight) + len(self._copies))

    def _is_tail(self) -> bool:
        """Return whether free workers can only send parts a second time."""
        return (
            self._exhausted
            and self._read_again is not None
            and bool(self._in_flight)
            and self._state.limit is None  # a copy would only take its bandwidth
            and not self._retries
            and self._has_free_worker()
        )

    def _late_part(self) -> tuple[int, float] | None:
        """Return the part to send a second time, and when; None if there is none."""
        if not self._is_tail() or self._is_line_busy():
            return None
        # Lists, since what a signal handler raises while an unused generator is closed would be lost.
        return self._late_parts.due(
            [
                (number, attempts.started)
                for number, attempts in self._in_flight.items()
                if not attempts.copied and not attempts.acknowledged and self._workers.can_cut(attempts.jobs[0])
            ]
        )

    def _is_line_busy(self) -> bool:
        return self._late_parts.is_busy(self._clock.monotonic())

    def _send_again(self, part_number: int) -> None:
        """Send a second copy of a part in flight."""
        attempts = self._in_flight[part_number]
        attempts.copied, attempts.copied_at = True, self._clock.monotonic()
        assert self._read_again is not None
        try:
            body = self._read_again(part_number)
        except PartwiseError:
            return  # of the source; the first attempt may still succeed
        self._late_parts.copied()
        self._start(self._make_job(part_number, body, True), attempts, self._copies)

    def _timeout(self) -> float | None:
        """Return the maximum seconds to wait for the next outcome; None: no limit."""
        limit = self._shortest_interval
        if not self._retries and not self._exhausted and self._patience.failing_since is None:
            return limit
        limits = [] if limit is None else [limit]
        if self._retries and self._has_free_worker():
            # Without retries and late parts there is nothing to send, so no hold either.
            limits.append(max(0.0, max(self._retries[0].due, self._held_until()) - self._clock.monotonic()))
        if self._in_flight and self._is_outage():
            limits.append(_LOOK_INTERVAL)
        elif (late := self._late_part()) is not None:
            limits.append(max(0.0, max(late[1], self._held_until()) - self._clock.monotonic()))
        elif self._is_tail() and self._is_line_busy():
            limits.append(_SAMPLE_INTERVAL)
        return min(limits, default=None)

    def _is_tick(self, now: float) -> bool:
        """
        Return whether `on_tick` is due, and not a sample.

        A sample is one of the throughput, or of the speed of the parts.
        """
        if self._concurrency.interval is None and not self._can_cut:
            return True
        if self._tick_interval is None or now < self._tick_at:
            return False
        self._tick_at = now + self._tick_interval
        return True

    def _sample_throughput(self, now: float) -> None:
        self._sample_at = now + (self._concurrency.interval or _SAMPLE_INTERVAL)
        moved = self._bytes_ended + self._state.bytes_on_the_line()
        self._late_parts.sample(now, moved, ending=self._exhausted)
        limit = self._state.limit
        saturated = self._workers.saturated or (limit is not None and limit.is_binding())
        self._concurrency.sample(now, moved, len(self._in_flight), saturated=saturated)

    def _cut_slow_parts(self, now: float) -> None:
        self._speed_at = now + _SPEED_INTERVAL
        parts = [
            (sign * number, started, sent, len(attempts.body))
            for sign, in_flight in ((1, self._in_flight), (-1, self._copies))
            for number, attempts in in_flight.items()
            for started in (attempts.started if sign > 0 else attempts.copied_at,)
            if not attempts.acknowledged and (sent := self._state.sent_if_started(sign * number)) is not None
        ]
        for number in self._low_speed.sample(now, parts):
            attempts = self._in_flight[number] if number > 0 else self._copies[-number]
            attempts.cut |= number > 0
            for job in attempts.jobs:
                if job.second == (number < 0):
                    self._workers.cut(job, "it was much slower than others")
        if not self._copies and self._read_again is not None:
            stalled = self._low_speed.part_to_copy(now)
            if stalled is not None and not self._in_flight[stalled].copied:
                self._send_again(stalled)

    def _handle_outcome(self, outcome: Outcome, now: float) -> None:
        attempts, sent = self._ended(outcome)
        if attempts is None:
            _raise_interrupt(outcome)
            return
        if outcome.part is not None:
            self._concurrency.acknowledged()
            self._late_parts.acknowledged(now - attempts.started)
            started = attempts.copied_at if outcome.second else attempts.started
            self._low_speed.acknowledged(_attempt_number(outcome), outcome.part.size, started, now)
            if self._patience.failing_since is None:
                self._patience.succeeded()
            else:
                self._note_moved()
            self._on_part_uploaded(outcome.part, now - started, outcome.second)
            return
        error = outcome.error
        assert error is not None
        attempts.retried += 1
        if attempts.cut and isinstance(error, ConnectionFailed):
            # No failure of the storage: it is sent again at once, and counts neither as an attempt nor as an outage.
            attempts.cut = False
            self._on_retry(outcome.part_number, error, 0.0, attempts.retried)
            heapq.heappush(self._retries, _Retry(now, outcome.part_number, attempts))
            drop_traceback(error)
            return
        attempts.cut = False
        if attempts.note_progress(sent):
            self._note_moved()
        attempts.count_failure(sent)
        self._look_for_progress()
        delay = None
        if not isinstance(error, UploadNotFound):
            delay = self._patience.next_delay(now, attempts.failures, error, now - attempts.started)
        if delay is None:
            error.add_note(f"Raised while part {outcome.part_number} was being sent.")
            add_hint(error, self._patience)
            raise error
        self._on_retry(outcome.part_number, error, delay, attempts.retried)
        due = now + delay
        if self._next_probe <= now:
            self._next_probe = due
        retry_after = getattr(error, "retry_after", None)
        if (isinstance(error, Throttled) or retry_after) and self._concurrency.throttled(now) and retry_after:
            # The storage asks all of this client's requests to wait, not just this one.
            self._hold_until = max(self._hold_until, due)
        heapq.heappush(self._retries, _Retry(due, outcome.part_number, attempts))
        drop_traceback(error)

    def _look_for_progress(self) -> None:
        """See whether a part in flight got further than in all its earlier attempts."""
        in_flight = self._in_flight.items()
        further = [attempts for number, attempts in in_flight if attempts.note_progress(self._state.sent(number))]
        if further:
            self._note_moved()

    def _note_moved(self) -> None:
        """
        Note that the upload moved.

        If that ends an outage, every part is sent as soon as possible.
        """
        now = self._clock.monotonic()
        if self._patience.moved(now):
            for retry in self._retries:
                retry.due = min(retry.due, now)
                if self._patience.max_attempts is None:
                    retry.attempts.failures = 0  # its backoff starts again
            heapq.heapify(self._retries)
        self._status.recovered(now)

    def _ended(self, outcome: Outcome) -> tuple[_Attempts | None, int]:
        """
        Note that an attempt is no longer in flight.

        Returns:
            the attempts at the part, and the bytes that this one has sent; None if this one does not count: it failed
            as a second copy, or the storage has acknowledged another copy before.
        """
        number = outcome.part_number
        if number == self._probe and not outcome.second:
            self._probe, self._next_probe = None, 0.0
        attempts = (self._copies if outcome.second else self._in_flight).pop(number, None)
        self._status.parts_in_flight = len(self._in_flight) + len(self._copies)
        sent = self._state.remove_part(_attempt_number(outcome))
        self._bytes_ended += sent if outcome.part is None else outcome.part.size
        if attempts is None or attempts.acknowledged:
            return None, sent
        if len(attempts.jobs) == 1:
            attempts.jobs.clear()
        else:
            attempts.jobs = [job for job in attempts.jobs if job.second != outcome.second]
        if outcome.part is None:
            return None if outcome.second else attempts, sent
        attempts.acknowledged = True
        for job in attempts.jobs:
            self._state.cut.add(_attempt_number(job))
            self._workers.cut(job, "another copy of the part was acknowledged")
        if self._retries:
            self._retries = [retry for retry in self._retries if retry.attempts is not attempts]
            heapq.heapify(self._retries)
        return attempts, sent

    def _stop_workers(self) -> None:
        """Stop the workers and wait for them; then raise an interrupt, if there was one."""
        if not self._in_flight and not self._copies:
            return
        self._state.stop.set()
        self._workers.cancel_pending()
        try:
            self._drain_workers()
        except BaseException as error:  # noqa: BLE001  # raised below
            interrupt = error
        else:
            return
        # The workers are stopping, so this takes only a moment. A second interrupt ends it.
        self._drain_workers()
        raise self._with_callback_raised(interrupt)

    def _drain_workers(self) -> None:
        """
        Wait for all parts in flight, and cut those that take too long.

        Parts that were acknowledged meanwhile are reported.
        """
        cut_at = self._clock.monotonic() + _STOP_GRACE
        latest = cut_at + _STOP_SECONDS_MAX - _STOP_GRACE
        while self._in_flight or self._copies:
            can_cut = any(self._workers.can_cut(job) for job in self._jobs_in_flight())
            outcome = self._workers.next_outcome(max(0.0, cut_at - self._clock.monotonic()) if can_cut else None)
            now = self._clock.monotonic()
            if outcome is None:
                if self._workers.idle:
                    return  # an interrupt may have lost an outcome between the workers and here
                if can_cut and now >= cut_at:
                    for job in self._jobs_in_flight():
                        self._workers.cut(job, "the upload stops")
                    cut_at = now + _STOP_GRACE
                continue
            cut_at = min(now + _STOP_GRACE, latest)
            attempts, _ = self._ended(outcome)
            if attempts is not None and outcome.part is not None:
                started = attempts.copied_at if outcome.second else attempts.started
                try:
                    self._on_part_uploaded(outcome.part, now - started, outcome.second)
                except CallbackRaised as error:
                    self._callback_raised = error
                except PartwiseError:
                    continue  # the run is ending because of an earlier error

    def _jobs_in_flight(self) -> list[PartJob]:
        return [job for attempts in (*self._in_flight.values(), *self._copies.values()) for job in attempts.jobs]

    def _with_callback_raised(self, error: BaseException) -> BaseException:
        """Attach the error of a callback to the one that takes precedence."""
        if self._callback_raised is not None:
            raised = self._callback_raised
            error.add_note(f"The {raised.callback} callback also raised {raised.__cause__!r}.")
            error.__context__ = self._callback_raised
        return error


def _raise_interrupt(outcome: Outcome) -> None:
    """Raise what ended an attempt, if it was neither the backend nor the source."""
    if outcome.error is not None and not isinstance(outcome.error, PartwiseError):
        raise outcome.error


def _attempt_number(attempt: PartJob | Outcome) -> int:
    """Return the number of a part, negative for its second copy."""
    return -attempt.part_number if attempt.second else attempt.part_number


def drop_traceback(error: BaseException | None) -> None:
    """
    Remove the tracebacks of an error that was handled, and of its causes.

    Its frames refer to the part that was being sent, and form a reference cycle with the error. The bytes of a part
    that was retried would stay in memory until the garbage collector runs.
    """
    while error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
