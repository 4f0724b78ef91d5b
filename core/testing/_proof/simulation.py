"""
Deterministic runs: time passes only when the engine waits, without threads.

    simulation = Simulation(choices=[2, 0, 1, 3])
    simulation.uploader(backend, store).upload(source, "key")

Everything happens in the calling thread. A list of numbers takes the decisions that threads and timing take elsewhere:
which part makes its next step, which one finishes, how long a retry waits. The same numbers give the same run;
Hypothesis draws them, and shrinks them to the order that matters.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator
from copy import copy
from functools import partial
from traceback import clear_frames
from typing import Literal

from attrs import define

from partwise._engine.context import Runtime, UploadRequest
from partwise._engine.control import Control
from partwise._engine.throttle import TransferStopped
from partwise._engine.upload import UploadRun
from partwise._engine.workers import Outcome, PartJob
from partwise._signals import raised_by_signal
from partwise.bodies import BodyWrapper
from partwise.config import TransferConfig
from partwise.errors import ConnectionFailed, PartwiseError
from partwise.model import UploadedPart
from partwise.protocols import Body, CheckpointStore, MultipartBackend
from partwise.results import UploadResult
from partwise.testing.faults import SimulatedCrash
from partwise.uploader import Uploader

_NOON = 1_700_000_000.0


class SimulatedClock:
    """A clock that advances only when a wait is requested, and then immediately."""

    def __init__(self, now: float = _NOON) -> None:
        self._now = now

    def __repr__(self) -> str:
        return f"<SimulatedClock at {self._now - _NOON:.3f}>"

    def now(self) -> float:
        """Return the seconds since 1970."""
        return self._now

    monotonic = now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Advance by `seconds` unless the event is set, as no other thread can set it."""
        if not event.is_set():
            self.advance(seconds)
        return event.is_set()

    def advance(self, seconds: float) -> None:
        """Advance the clock."""
        self._now += max(0.0, seconds)


class Choices:
    """
    Decisions made in advance; after the last one, always the first possibility.

    Each is a number from 0, taken modulo the number of possibilities.
    """

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._numbers = iter(numbers)

    def below(self, bound: int) -> int:
        """Return the next decision: one of `bound` possibilities, counting from 0."""
        return next(self._numbers, 0) % bound if bound > 1 else 0


class ScriptedRandom:
    """Random numbers that the choices decide: the minimum, the middle or the maximum."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices

    def uniform(self, a: float, b: float, /) -> float:
        """Return `a`, `b`, or the middle between them."""
        return a + (b - a) * self._choices.below(3) / 2


@define(frozen=True)
class WorkerEvent:
    """What simulated workers observed."""

    # the scheduler submitted the part, a worker started it, or its outcome was delivered to the scheduler
    what: Literal["submitted", "started", "delivered"]
    part_number: int
    time: float  # when, on the clock of the simulation
    error: BaseException | None = None  # the error in the outcome, if there is one


def run_upload(request: UploadRequest, runtime: Runtime, control: Control) -> UploadResult:
    """
    Run an upload, and free what it leaves in reference cycles.

    Thousands of uploads are simulated. The context of each is a part of many cycles: what it holds would stay in memory
    until the garbage collector has searched all of it.

    Raises what `UploadRun` and its `run` raise.
    """
    run = UploadRun(request, runtime, control)
    try:
        return run.run()
    finally:
        vars(run._context).clear()  # noqa: SLF001  # nothing uses it any more


def drop_frames(error: BaseException) -> None:
    """
    Remove the frames of an error, its causes and its contexts.

    They keep all that they used in memory.
    """
    found: list[BaseException | None] = [error]
    while found:
        one = found.pop()
        if one is not None and one.__traceback__ is not None:
            clear_frames(one.__traceback__)  # a frame may keep another error, which keeps the frame
            one.__traceback__ = None
            found += (one.__cause__, one.__context__)


def without_frames(error: BaseException) -> BaseException:
    """Return a copy of the error without frames, which would keep bodies alive."""
    copied = copy(error)
    # copy() drops these, unless a library has changed how exceptions are copied: importing Dask does (by tblib).
    copied.__traceback__ = copied.__cause__ = copied.__context__ = None
    return copied


class SimulatedWorkers:
    """
    A worker pool without threads: the choices say which part makes a step.

    A part goes through these steps, and those of other parts may come between any two of them: it is started, half of
    it is read, all of it is read, the storage accepts it, its response arrives. A step takes a millisecond.
    """

    saturated = False

    def can_cut(self, _: PartJob) -> bool:
        """Return True: an attempt that is cut notices it at its next step."""
        return True

    def cut(self, job: PartJob, reason: str) -> None:
        """Make an attempt fail at its next step, unless the part is stored already."""
        for attempt in self._attempts:
            if attempt.job is job:
                attempt.cut(reason)

    def __init__(self, choices: Choices, clock: SimulatedClock) -> None:
        self._choices = choices
        self._clock = clock
        self._attempts: list[_Attempt] = []
        self._woken = False
        self._crash: SimulatedCrash | None = None
        self.events: list[WorkerEvent] = []  # what happened, in order
        self.sent_twice: set[int] = set()  # the parts that were sent a second time while they were in flight
        self.most_in_flight = 0  # the maximum number of parts that were in flight at the same time

    @property
    def in_flight(self) -> int:
        """The number of parts whose outcome was not delivered yet."""
        return len(self._attempts)

    def submit(self, job: PartJob) -> None:
        """Accept one attempt. Nothing happens before the scheduler asks for an outcome."""
        self._attempts.append(_Attempt(job))
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self._record("submitted", job.part_number)

    def next_outcome(self, timeout: float | None) -> Outcome | None:
        """
        Let parts make steps until one is done, or the timeout is chosen to expire.

        Raises:
            AssertionError: the scheduler would wait forever.
            SimulatedCrash: the process crashed in a step.
        """
        if self._crash is not None:
            raise self._crash
        while not self._woken:
            possibilities = self.in_flight + (timeout is not None)
            assert possibilities, "PROGRESS: the scheduler waits forever, since no part is in flight"
            index = self._choices.below(possibilities)
            if index == self.in_flight:
                self._clock.advance(timeout or 0.0)
                return None
            outcome = self._step(self._attempts[index])
            if outcome is not None:
                return outcome
        self._woken = False
        return None

    def cancel_pending(self) -> None:
        """Cancel the attempts that were not started."""
        for attempt in self._attempts:
            attempt.cancel_pending()

    @property
    def idle(self) -> bool:
        """Whether no part is in flight."""
        return not self._attempts

    def wake(self) -> None:
        """Make the current or the next `next_outcome` return."""
        self._woken = True

    def _step(self, attempt: _Attempt) -> Outcome | None:
        if not attempt.started:
            self._record("started", attempt.part_number)
            if attempt.second:
                self.sent_twice.add(attempt.part_number)
        self._clock.advance(0.001)
        try:
            outcome = attempt.step()
        except SimulatedCrash as crash:
            self._crash = crash
            raise
        if outcome is not None:
            self._attempts.remove(attempt)
            self._record("delivered", outcome.part_number, outcome.error)
        return outcome

    def _record(
        self, what: Literal["submitted", "started", "delivered"], part_number: int, error: BaseException | None = None
    ) -> None:
        copied = None if error is None else without_frames(error)
        self.events.append(WorkerEvent(what, part_number, self._clock.monotonic(), copied))


class _Attempt:
    """One attempt to send a part, made step by step."""

    def __init__(self, job: PartJob) -> None:
        self.job = job
        self.part_number = job.part_number
        self.second = job.second
        self._outcome = partial(Outcome, job.part_number, second=job.second)
        self.started = False
        self._cancelled = False
        self._cut: str | None = None
        self._steps = _steps_of(job)
        self._steps_left = _STEPS_BEFORE_ACCEPTED

    def cancel_pending(self) -> None:
        if not self.started:
            self.started = self._cancelled = True

    def cut(self, reason: str) -> None:
        self._cut = reason

    def step(self) -> Outcome | None:
        self.started = True
        if self._cancelled:
            return self._outcome(error=TransferStopped("cancelled before it was started"))
        if self._cut is not None and self._steps_left:
            return self._outcome(error=ConnectionFailed(f"the connection was cut: {self._cut}"))
        self._steps_left = max(0, self._steps_left - 1)
        try:
            next(self._steps)
        except StopIteration as done:
            return self._outcome(part=done.value)
        except PartwiseError as error:
            return self._outcome(error=error)
        return None


# Its first steps: it is started, half of it is read, all of it is read; with the next one the storage accepts it.
_STEPS_BEFORE_ACCEPTED = 4


def _steps_of(job: PartJob) -> Generator[None, None, UploadedPart]:
    body = _SteppedBody(job.body)
    for until in (len(body) // 2, len(body)):
        yield
        body.read(until)
        if body.interrupted:
            break  # the backend gets it now, and not a few steps later
    else:
        yield
    part = PartJob(job.backend, job.key, job.upload_id, job.part_number, body, job.second).run()
    yield
    return part


class _SteppedBody(BodyWrapper):
    """
    A body that is read when the simulation says so, and given to the backend.

    The backend sees an error of the source at the chunk at which it was raised.
    """

    def __init__(self, body: Body) -> None:
        super().__init__(body)
        self._chunks = body.chunks()
        self._read: list[bytes] = []
        self._length = 0
        self._error: Exception | None = None

    def read(self, until: int) -> None:
        """Read up to `until` bytes in all; the length of the body: until its end."""
        while self._error is None and (self._length < until or until == len(self)):
            try:
                chunk = next(self._chunks, None)
            except Exception as error:  # noqa: BLE001  # raised again in chunks()
                self._error = error
                return
            if chunk is None:
                return
            self._read.append(bytes(chunk))
            self._length += len(chunk)

    @property
    def interrupted(self) -> bool:
        """Whether a signal handler raised, in the call that it interrupted."""
        return self._error is not None and raised_by_signal(self._error) is not None

    def chunks(self, *, counted: bool = True) -> Iterator[memoryview]:  # noqa: ARG002  # they were read before
        for chunk in self._read:
            yield memoryview(chunk)
        if self._error is not None:
            raise self._error


class Simulation:
    """
    One simulated process, with a name that no other process of its scenario has.

    The processes of a scenario share one clock.
    """

    def __init__(self, choices: Iterable[int] = (), clock: SimulatedClock | None = None, name: str = "") -> None:
        self.name = name
        self.choices = Choices(choices)
        self.clock = clock or SimulatedClock()
        self.random = ScriptedRandom(self.choices)
        self.worker_pools: list[SimulatedWorkers] = []
        """Every worker pool that was created, one for each time that parts were sent."""
        self._tokens = 0

    def workers(self) -> SimulatedWorkers:
        """Create a worker pool."""
        self.worker_pools.append(SimulatedWorkers(self.choices, self.clock))
        return self.worker_pools[-1]

    def runtime(self) -> Runtime:
        """Return the simulated environment of the engine."""
        return Runtime(self.workers, self.clock, self.random, self._new_token)

    def uploader(
        self, backend: MultipartBackend, store: CheckpointStore | None = None, config: TransferConfig | None = None
    ) -> Uploader:
        """Return an uploader that runs in this simulation."""
        return Uploader._with_runtime(self.runtime(), backend, store=store, config=config)  # noqa: SLF001  # for simulations

    def _new_token(self) -> str:
        self._tokens += 1
        return f"token {self._tokens} of process {self.name}"
