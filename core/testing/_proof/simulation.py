"""
A world in which nothing is left to chance: time passes only when somebody waits, and workers are none.

    simulation = Simulation(choices=[2, 0, 1, 3])
    simulation.uploader(backend, store).upload(source, "key")

Everything happens in the calling thread. A list of numbers decides what a scheduler decides elsewhere: which part moves
next, which one finishes, how long a retry waits. The same numbers give the same run; Hypothesis draws them, and shrinks
them to the order that matters.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator
from copy import copy
from typing import Literal

from attrs import define, evolve

from partwise._engine.context import Runtime
from partwise._engine.throttle import TransferStopped
from partwise._engine.workers import Outcome, PartJob
from partwise.config import TransferConfig
from partwise.errors import PartwiseError
from partwise.model import UploadedPart
from partwise.protocols import Body, CheckpointStore, MultipartBackend
from partwise.testing.faults import SimulatedCrash
from partwise.uploader import Uploader

_NOON = 1_700_000_000.0


class SimulatedClock:
    """
    Time that passes only when somebody waits, and then at once.

    Args:
        now: seconds since 1970, at first.
    """

    def __init__(self, now: float = _NOON) -> None:
        self._now = now

    def __repr__(self) -> str:
        return f"<SimulatedClock at {self._now - _NOON:.3f}>"

    def monotonic(self) -> float:
        """Seconds, as `now`."""
        return self._now

    def now(self) -> float:
        """Seconds since 1970."""
        return self._now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Let the seconds pass, unless the event is set; nobody else is there to set it meanwhile."""
        if not event.is_set():
            self.advance(seconds)
        return event.is_set()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += max(0.0, seconds)


class Choices:
    """
    Decisions that were made beforehand; after the last one, it is always the first possibility.

    Args:
        numbers: any numbers from 0; each is taken modulo the number of possibilities at hand.
    """

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._numbers = iter(numbers)

    def below(self, bound: int) -> int:
        """The next decision: one of so many possibilities, counting from 0."""
        return next(self._numbers, 0) % bound if bound > 1 else 0


class ScriptedRandom:
    """Randomness that is not: the least, the middle or the most, as the choices say."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices

    def uniform(self, a: float, b: float, /) -> float:
        """`a`, `b`, or what is half-way between them."""
        return a + (b - a) * self._choices.below(3) / 2


@define(frozen=True)
class Moment:
    """
    What a transport saw.

    Args:
        what: the loop submitted the part, a worker began it, or its outcome was handed to the loop.
        part_number: which part.
        time: when, by the simulation's clock.
        error: the error in the outcome, if it was one.
    """

    what: Literal["submitted", "begun", "delivered"]
    part_number: int
    time: float
    error: BaseException | None = None


def told(error: BaseException | None) -> BaseException | None:
    """What an error says, without the frames that it came through, which would keep every body in them alive."""
    if error is None:
        return None
    said = copy(error)
    # A copy has none of these, unless somebody has taught copies to keep them, as importing Dask does (by tblib).
    said.__traceback__ = said.__cause__ = said.__context__ = None
    return said


class SimulatedTransport:
    """
    Workers that are none: each time the loop asks for an outcome, the choices say which part makes its next step.

    A part goes through these steps, and those of other parts may come between any two of them: it is begun, half of it
    is read, all of it is read, the storage takes it, its answer arrives.

    Args:
        choices: what decides.
        clock: the simulation's time; a step takes a millisecond.
    """

    def __init__(self, choices: Choices, clock: SimulatedClock) -> None:
        self._choices = choices
        self._clock = clock
        self._attempts: list[_Attempt] = []
        self._woken = False
        self._dead: SimulatedCrash | None = None
        self.moments: list[Moment] = []
        """What happened, in order."""
        self.most_under_way = 0
        """The most parts that were under way at one time."""

    @property
    def under_way(self) -> int:
        """Parts whose outcome was not handed out yet."""
        return len(self._attempts)

    def submit(self, job: PartJob) -> None:
        """Take on one attempt. Nothing of it happens before the loop asks for an outcome."""
        self._attempts.append(_Attempt(job))
        self.most_under_way = max(self.most_under_way, self.under_way)
        self._note("submitted", job.part_number)

    def next_outcome(self, timeout: float | None) -> Outcome | None:
        """
        Let parts make steps until one of them is done, or the choices say that none is within the time.

        Raises:
            AssertionError: the loop would wait for ever.
            SimulatedCrash: the process died in a step.
        """
        if self._dead is not None:
            raise self._dead
        while not self._woken:
            possibilities = self.under_way + (timeout is not None)
            assert possibilities, "PROGRESS: the loop waits for ever, since no part is under way"
            index = self._choices.below(possibilities)
            if index == self.under_way:
                self._clock.advance(timeout or 0.0)
                return None
            outcome = self._step(self._attempts[index])
            if outcome is not None:
                return outcome
        self._woken = False
        return None

    def cancel_pending(self) -> None:
        """Take back the attempts that were not begun."""
        for attempt in self._attempts:
            attempt.cancel_pending()

    @property
    def idle(self) -> bool:
        """Whether no part is under way."""
        return not self._attempts

    def wake(self) -> None:
        """Make the present or the next `next_outcome` return."""
        self._woken = True

    def _step(self, attempt: _Attempt) -> Outcome | None:
        if not attempt.begun:
            self._note("begun", attempt.part_number)
        self._clock.advance(0.001)
        try:
            outcome = attempt.step()
        except SimulatedCrash as death:
            self._dead = death
            raise
        if outcome is not None:
            self._attempts.remove(attempt)
            self._note("delivered", outcome.part_number, outcome.error)
        return outcome

    def _note(
        self, what: Literal["submitted", "begun", "delivered"], part_number: int, error: BaseException | None = None
    ) -> None:
        self.moments.append(Moment(what, part_number, self._clock.monotonic(), told(error)))


class _Attempt:
    """One attempt at a part, made step by step."""

    def __init__(self, job: PartJob) -> None:
        self.part_number = job.part_number
        self.begun = False
        self._steps: Iterator[None] = _steps_of(job)

    def cancel_pending(self) -> None:
        if not self.begun:
            self.begun = True
            self._steps = _taken_back()

    def step(self) -> Outcome | None:
        self.begun = True
        try:
            next(self._steps)
        except StopIteration as done:
            return Outcome(self.part_number, part=done.value)
        except PartwiseError as error:
            return Outcome(self.part_number, error=error)
        return None


def _steps_of(job: PartJob) -> Generator[None, None, UploadedPart]:
    body = _SteppedBody(job.body)
    yield
    body.read(len(body) // 2)
    yield
    body.read(len(body))
    yield
    receipt = evolve(job, body=body).run()
    yield
    return receipt


def _taken_back() -> Iterator[None]:
    return map(_raise_stopped, [None])


def _raise_stopped(_: None) -> None:
    raise TransferStopped("taken back before it was begun")


class _SteppedBody:
    """
    A body that is read when the simulation says so, and given to the backend afterwards, as a network does.

    What reading it raised, the backend sees at the place where it was raised.
    """

    def __init__(self, body: Body) -> None:
        self._body = body
        self._chunks = body.chunks()
        self._taken: list[bytes] = []
        self._length = 0
        self._error: Exception | None = None

    @property
    def crc64(self) -> int | None:
        return self._body.crc64

    def __len__(self) -> int:
        return len(self._body)

    def read(self, until: int) -> None:
        """Read on until so many bytes were read; with all of them, read to the end of what is there."""
        while self._error is None and (self._length < until or until == len(self)):
            try:
                chunk = next(self._chunks, None)
            except Exception as error:  # noqa: BLE001  # it is the backend's to meet
                self._error = error
                return
            if chunk is None:
                return
            self._taken.append(bytes(chunk))
            self._length += len(chunk)

    def chunks(self) -> Iterator[memoryview]:
        for chunk in self._taken:
            yield memoryview(chunk)
        if self._error is not None:
            raise self._error


class Simulation:
    """
    One process in a simulated world.

    Args:
        choices: the decisions of this process's scheduler; see `Choices`.
        clock: time, which the processes of one world share; None: a clock of its own.
        name: tells this process from others of its world.
    """

    def __init__(self, choices: Iterable[int] = (), clock: SimulatedClock | None = None, name: str = "") -> None:
        self.name = name
        self.choices = Choices(choices)
        self.clock = clock or SimulatedClock()
        self.chance = ScriptedRandom(self.choices)
        self.transports: list[SimulatedTransport] = []
        """Every transport that was made, one for each time that parts were sent."""
        self._tokens = 0

    def transport(self) -> SimulatedTransport:
        """A new transport."""
        self.transports.append(SimulatedTransport(self.choices, self.clock))
        return self.transports[-1]

    def tools(self) -> Runtime:
        """What the engine has from outside."""
        return Runtime(self.transport, self.clock, self.chance, self._new_token)

    def uploader(
        self, backend: MultipartBackend, store: CheckpointStore | None = None, config: TransferConfig | None = None
    ) -> Uploader:
        """An uploader in this world."""
        return Uploader(backend, store, config, clock=self.clock, chance=self.chance, transport=self.transport)

    def _new_token(self) -> str:
        self._tokens += 1
        return f"token {self._tokens} of process {self.name}"
