"""
The values of a scenario: the plan of a process, and what was observed.

A `ProcessScript` is the plan: faults, events, scheduler choices, configuration. A `ProcessTrace` is the account: the
calls, what they returned, the progress reports, and a `Snapshot` of storage and store before and after.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal

from attrs import define, field

from partwise._engine.context import ResumeMode
from partwise._validation import choice
from partwise.checkpoint import Checkpoint
from partwise.config import TransferConfig
from partwise.errors import InvalidInput
from partwise.events import UploadEvent
from partwise.model import ObjectOptions, UploadedPart
from partwise.results import Progress, UploadResult
from partwise.testing._proof.simulation import SimulatedWorkers
from partwise.testing.faults import OPERATIONS, Call, Fault

# --- the plan --------------------------------------------------------------------------------------------------------


class Event(Enum):
    """What can happen around a process, in addition to faults of its calls."""

    PAUSE = "a pause is requested"
    CANCEL = "a cancel is requested"
    INTERRUPT = "Ctrl-C is pressed"
    EXIT = "a signal handler exits"
    TIME_LIMIT = "a signal handler raises because the time limit is reached"
    RAISE = "a callback raises"
    SECOND_UPLOADER = "another process starts the same upload"
    EXPIRY = "the storage drops every pending upload"

    GROW = "the source grows"
    SHRINK = "the source shrinks"
    EMPTY = "the source is emptied"
    REWRITE = "other bytes are written into the source"
    EDIT = "one byte of the source is changed"
    REPLACE = "another file with the same mtime replaces the source"
    TOUCH = "the mtime of the source changes, and nothing else"
    FORGE = "other bytes are written into the source, and its mtime is set back"
    RESTORE = "the source is as it was at first, mtime and identity included"

    @property
    def changes_source(self) -> bool:
        """Whether the event changes the source."""
        return self in _SOURCE_CHANGES


_SOURCE_CHANGES = frozenset(
    {
        *(Event.GROW, Event.SHRINK, Event.EMPTY, Event.REWRITE, Event.EDIT),
        *(Event.REPLACE, Event.TOUCH, Event.FORGE, Event.RESTORE),
    }
)

#: Where an event can be scheduled: at the start of any call, before a chunk of the source is read, and in a call of the
#: progress callback or of the event callback.
HOOK_POINTS = (*OPERATIONS, "chunk", "progress", "event")


@define(frozen=True)
class ScheduledEvent:
    """An event at a hook point of a process."""

    operation: str = field(validator=choice(*HOOK_POINTS))  # one of `HOOK_POINTS`
    event: Event
    occurrence: int = 1  # the occurrence of the hook point at which it happens, counting from 1

    def __attrs_post_init__(self) -> None:
        if self.event is Event.RAISE and self.operation not in ("progress", "event"):
            raise InvalidInput("a callback can raise at the hook points 'progress' and 'event' only")


@define(frozen=True)
class ProcessScript:
    """The plan for one process that uploads."""

    faults: tuple[Fault, ...] = ()  # the faults injected into its calls
    events: tuple[ScheduledEvent, ...] = ()  # what happens around it
    choices: tuple[int, ...] = ()  # the decisions of its scheduler; see `Choices`
    config: TransferConfig = field(factory=TransferConfig)
    options: ObjectOptions = field(factory=ObjectOptions)
    resume: ResumeMode = "auto"

    @property
    def concurrency(self) -> int:
        """The most parts that may be in flight."""
        return self.config.concurrency_max if self.config.concurrency == "auto" else self.config.concurrency

    @property
    def bodies_allowed(self) -> int:
        """
        The most bodies that an upload may hold.

        One is prepared while the others are in flight, and one may turn out not to be needed.
        """
        return self.concurrency + 2


class CallbackBroke(Exception):
    """Raised by a callback, as a program's own error would be."""


class TimeIsUp(Exception):
    """Raised by a signal handler, as the time limit of a task queue is."""


#: The upload re-raises these unchanged, whatever else is raised.
INTERRUPTS = (KeyboardInterrupt, SystemExit, TimeIsUp)


# --- the account -----------------------------------------------------------------------------------------------------


@define(frozen=True)
class BackendCall:
    """One call of a backend and its outcome."""

    operation: str
    upload_id: str | None = None  # the multipart upload that it was for, if the id was an argument
    part_number: int | None = None  # the part that it was for
    data: bytes = b""  # the bytes that were read from the body
    parts: tuple[UploadedPart, ...] = ()  # the parts to complete
    options: ObjectOptions | None = None
    started: float = 0.0  # when it started, on the clock of the scenario
    ended: float = 0.0  # when it ended, on the same clock
    returned: object = None
    error: BaseException | None = None


@define(frozen=True)
class HeldPart:
    """A part as the storage has it."""

    data: bytes
    etag: str
    process: int  # the number of the process that sent it


@define
class ActualUpload:
    """A multipart upload as the storage has it."""

    upload_id: str
    process: int  # the number of the process that initiated it
    state: Literal["pending", "completed", "aborted"] = "pending"  # pending, completed or aborted
    orphan_reason: str = ""  # why no checkpoint has to know it, such as a lost response; "" if one has to
    parts: dict[int, HeldPart] = field(factory=dict)  # the parts that the storage has, by number


@define(frozen=True)
class Snapshot:
    """The state of a scenario at one instant, as it was recorded below every fault."""

    checkpoint: Checkpoint | None  # what the store would return to the next process
    pending: dict[str, dict[int, HeldPart]]  # the parts that the storage has, by number, for each pending upload
    stored: bytes | None  # the bytes of the object; None if there is none
    version: int  # the number of the current version of the source


@define(frozen=True)
class ProgressRecord:
    """One progress report."""

    progress: Progress
    effects: int  # the number of calls that had taken effect on the storage by then
    backend_calls: int  # the number of backend calls of the process that had ended by then


@define(frozen=True)
class EventRecord:
    """One call of the event callback."""

    event: UploadEvent
    backend_calls: int  # the number of backend calls of the process that had ended by then


@define(eq=False)
class ProcessTrace:
    """A process that has ended, and everything that was observed of it."""

    script: ProcessScript
    process: int
    before: Snapshot  # the state when it started
    effects: int  # where in the history of the scenario its effects start
    effects_end: int = 0  # where they end
    after: Snapshot = field(init=False)  # the state when it had ended
    replaceable: bool = True  # whether the object at its start was the one that it may replace, by `if_match`
    versions: set[int] = field(factory=set)  # the numbers of the versions that the source had while it ran
    # for each change of the source that it could see, how many calls it had started by then
    changed_at: list[int] = field(factory=list)
    calls: tuple[Call, ...] = ()  # every call that it made, in order, with the faults injected into it
    occurred: tuple[ScheduledEvent, ...] = ()
    backend_calls: list[BackendCall] = field(factory=list)  # its calls of the backend, as it saw their outcomes
    reports: list[ProgressRecord] = field(factory=list)  # what its progress callback received
    reported_events: list[EventRecord] = field(factory=list)  # what its event callback received
    worker_pools: list[SimulatedWorkers] = field(factory=list)  # the simulated workers that sent its parts
    most_bodies: int = 0  # the maximum number of bodies of the source that it held at the same time
    log: list[str] = field(factory=list)
    result: UploadResult | None = None  # what the upload returned, if it succeeded
    error: BaseException | None = None
    crashed: bool = False
    # the faults, with the calls that they were collected from: the invariants ask for them ten times
    _faults_of: tuple[tuple[Call, ...], tuple[tuple[Call, Fault], ...]] = field(
        default=((), ()), init=False, repr=False
    )

    @property
    def faults(self) -> tuple[tuple[Call, Fault], ...]:
        """The injected faults, each with the call that it was injected into."""
        calls, faults = self._faults_of
        if calls is not self.calls:
            faults = tuple((call, fault) for call in self.calls if call.faults for fault in call.faults)
            self._faults_of = self.calls, faults
        return faults

    def __str__(self) -> str:
        """Return the calls line by line, then the events, then the outcome."""
        outcome = "it crashed" if self.crashed else f"{self.result or self.error!r}"
        events = [f"   ({scheduled.event.value}, at {scheduled.operation})" for scheduled in self.occurred]
        return "\n".join([f"process {self.process}:", *(f"   {call}" for call in self.calls), *events, outcome])
