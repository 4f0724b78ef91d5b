"""
Faults as values, and the plan by which they strike.

A `Fault` says which call fails and how. A `FaultPlan` is the script of one process's life: the faults that shall strike
it, the trace of its calls, and whether it is dead. One plan is shared by the wrappers of everything that the process
talks to (see `partwise.testing.faulty`)::

    plan = FaultPlan([Fault("upload_part", FaultKind.AFTER, occurrence=2)])
    with plan:
        Uploader(FaultyBackend(backend, plan), FaultyCheckpointStore(store, plan)).upload(source, "key")

Leaving the block fails if a planned fault was never reached: such a test has shown nothing.

Death is a fault too. It raises `SimulatedCrash`, which nobody who catches `Exception` sees, and from then on no call of
this process has any effect. What was under way in other threads comes to its end before the death is told, so that
whoever looks at the storage afterwards sees it standing still. The next process is a new plan around the same storage.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from types import TracebackType
from typing import NoReturn, Self

from attrs import Attribute, define, evolve, field

from partwise.errors import InvalidInput

BACKEND_OPERATIONS = (
    "initiate_upload",
    "upload_part",
    "list_parts",
    "complete_upload",
    "abort_upload",
    "list_uploads",
    "put_object",
    "head_object",
)
STORE_OPERATIONS = ("claim", "load", "save", "append_part", "delete", "scan")
SOURCE_OPERATIONS = ("fingerprint", "body", "read")
OPERATIONS = (*BACKEND_OPERATIONS, *STORE_OPERATIONS, *SOURCE_OPERATIONS)

#: The code of every error that a fault raises; where an error has no code, its message begins with it.
INJECTED = "InjectedFault"

# A death waits for what other threads have under way. They stop at the next piece of their bodies, so this is only for
# a thread that hangs: better a test that fails than one that never ends.
_DEATH_SECONDS_MAX = 30.0


class SimulatedCrash(BaseException):
    """
    The process died here, as by a power cut or ``kill -9``. Catch it in the test that planned it, and nowhere else.

    It is no `Exception`, so that no code under test takes it for a failure that can be handled.
    """


class FaultKind(Enum):
    """What happens to the call that a fault strikes."""

    BEFORE = "fails before it has any effect"
    AFTER = "takes effect, and the answer is lost"
    HALFWAY = "fails when about half of the body was read"
    DELAY = "is late"
    CRASH_BEFORE = "the process dies before it has any effect"
    CRASH_AFTER = "takes effect, and the process dies before the answer"

    THROTTLED = "is refused for now, with a time to wait"
    PERMANENT = "is refused for good"
    WRONG_CHECKSUM = "answers with another checksum"
    SHORT_LIST = "leaves out every other part"
    FORGOTTEN_UPLOAD = "finds that the storage has dropped the upload"

    LOST_WRITE = "pretends to have written"
    DISK_FULL = "finds the disk full, and so does every later write"
    READ_ONLY = "finds the place read-only, and so does every later write and claim"
    TORN_WRITE = "the process dies while it writes its record"
    OLD_RECORD = "gives the record as it was one step earlier"
    DAMAGED = "finds the record damaged"

    CHANGED = "finds the source modified, and so does every later look"

    def applies_to(self, operation: str) -> bool:
        """Whether a fault of this kind can strike this operation."""
        return operation in _STRIKES[self]


_WITH_BODY = frozenset({"upload_part", "put_object"})
_WRITES = frozenset({"save", "append_part", "delete"})
_STRIKES = {
    FaultKind.BEFORE: frozenset(OPERATIONS),
    FaultKind.AFTER: frozenset(BACKEND_OPERATIONS) | _WRITES,
    FaultKind.HALFWAY: _WITH_BODY | {"read"},
    FaultKind.DELAY: frozenset(OPERATIONS),
    FaultKind.CRASH_BEFORE: frozenset(OPERATIONS),
    FaultKind.CRASH_AFTER: frozenset(OPERATIONS),
    FaultKind.THROTTLED: frozenset(BACKEND_OPERATIONS),
    FaultKind.PERMANENT: frozenset(BACKEND_OPERATIONS),
    FaultKind.WRONG_CHECKSUM: _WITH_BODY | {"complete_upload", "head_object"},
    FaultKind.SHORT_LIST: frozenset({"list_parts"}),
    FaultKind.FORGOTTEN_UPLOAD: frozenset({"upload_part", "list_parts", "complete_upload"}),
    FaultKind.LOST_WRITE: _WRITES,
    FaultKind.DISK_FULL: frozenset({"save", "append_part"}),
    FaultKind.READ_ONLY: _WRITES | {"claim"},
    FaultKind.TORN_WRITE: frozenset({"append_part"}),
    FaultKind.OLD_RECORD: frozenset({"load"}),
    FaultKind.DAMAGED: frozenset({"load"}),
    FaultKind.CHANGED: frozenset({"fingerprint"}),
}


def _positive(_instance: object, attribute: Attribute[int], value: int | None) -> None:
    if value is not None and value < 1:
        raise InvalidInput(f"{attribute.name} counts from 1, and can't be {value}")


@define(frozen=True)
class Fault:
    """
    One fault: which call it strikes, and what happens to that call.

    Args:
        operation: the name of the method; ``"read"`` is the reading of a source's body.
        kind: what happens.
        occurrence: strike the how-manieth call of this operation, counting from 1.
        part_number: strike, and count, only calls for this part; None: calls for any part.
        seconds: how long a DELAY is; for THROTTLED, the `retry_after` that the storage asks for.

    Raises:
        InvalidInput: there is no such operation, or the kind can't happen to it.
    """

    operation: str
    kind: FaultKind
    occurrence: int = field(default=1, validator=_positive)
    part_number: int | None = field(default=None, validator=_positive)
    seconds: float = 0.0

    def __attrs_post_init__(self) -> None:
        if self.operation not in OPERATIONS:
            raise InvalidInput(f"there is no operation {self.operation!r}; there are {', '.join(OPERATIONS)}")
        if not self.kind.applies_to(self.operation):
            raise InvalidInput(f"{self.kind.name} can't happen to {self.operation}")

    def __str__(self) -> str:
        part = "" if self.part_number is None else f" of part {self.part_number}"
        return f"{self.operation} no. {self.occurrence}{part} {self.kind.value}"


@define(frozen=True)
class Call:
    """
    One call in the trace of a plan.

    Args:
        operation: the name of the method.
        subject: the key, the checkpoint's name, or the source's name that it was about.
        upload_id: the multipart upload that it was about.
        part_number: the part that it was about.
        faults: the faults that struck it.
        outcome: ``"returned"``, the name of the error it raised, or ``"under way"``.
    """

    operation: str
    subject: str
    upload_id: str | None = None
    part_number: int | None = None
    faults: tuple[Fault, ...] = ()
    outcome: str = "under way"

    def __str__(self) -> str:
        part = "" if self.part_number is None else f" part {self.part_number}"
        struck = "".join(f" [{fault.kind.name}]" for fault in self.faults)
        return f"{self.operation} {self.subject!r}{part}{struck}: {self.outcome}"


class FaultPlan:
    """
    The faults that shall strike one process, and what became of it.

    It may be used by many threads. As a context manager it calls `assert_all_reached` when the block ends well.

    Args:
        faults: in any order; several may strike the same call.
        sleep: how a DELAY passes its seconds.
    """

    def __init__(self, faults: Iterable[Fault] = (), *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.faults = tuple(faults)
        self._sleep = sleep
        self._state = threading.Condition()
        self._counts: Counter[tuple[str, int | None]] = Counter()
        self._reached: list[Fault] = []
        self._calls: list[Call] = []
        self._under_way: Counter[int] = Counter()  # by thread; reading a source has no effect, and does not count
        self._crashed = False

    def __repr__(self) -> str:
        return f"FaultPlan({list(self.faults)!r})"

    def __str__(self) -> str:
        """The trace, a line for each call."""
        return "\n".join(f"{number}. {call}" for number, call in enumerate(self.calls, start=1))

    # --- what became of it -------------------------------------------------------------------------------------------

    @property
    def calls(self) -> tuple[Call, ...]:
        """The trace: every call so far, in the order in which they began. Calls after a death are none."""
        with self._state:
            return tuple(self._calls)

    @property
    def reached(self) -> tuple[Fault, ...]:
        """The faults that have struck, in the order in which they did."""
        with self._state:
            return tuple(self._reached)

    @property
    def unreached(self) -> tuple[Fault, ...]:
        """The faults that have not struck."""
        with self._state:
            return tuple(fault for fault in self.faults if fault not in self._reached)

    @property
    def crashed(self) -> bool:
        """Whether the process has died."""
        return self._crashed

    def has_injected(self, kind: FaultKind) -> bool:
        """Whether a fault of this kind has struck; some of them last."""
        return any(fault.kind is kind for fault in self.reached)

    def assert_all_reached(self) -> None:
        """
        Fail the test if a planned fault never struck.

        Raises:
            AssertionError: naming those faults, with the trace.
        """
        if self.unreached:
            planned = "\n".join(f"- {fault}" for fault in self.unreached)
            raise AssertionError(f"planned, and never reached:\n{planned}\nThe calls were:\n{self}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.assert_all_reached()

    # --- for wrappers ------------------------------------------------------------------------------------------------

    @contextmanager
    def call(
        self, operation: str, subject: str, *, upload_id: str | None = None, part_number: int | None = None
    ) -> Iterator[tuple[Fault, ...]]:
        """
        One call of a wrapped object: enter it in the trace, and give the faults that strike it.

        DELAY and CRASH_BEFORE are dealt with here, before the block; CRASH_AFTER after it. All others are the
        wrapper's.

        Raises:
            SimulatedCrash: the process is dead, or dies now.
        """
        thread = None if operation in SOURCE_OPERATIONS else threading.get_ident()
        index, faults = self._begin(Call(operation, subject, upload_id, part_number), thread)
        outcome = "returned"
        try:
            for fault in faults:
                if fault.kind is FaultKind.DELAY:
                    self._sleep(fault.seconds)
            self._crash_by(faults, FaultKind.CRASH_BEFORE)
            yield faults
            self._crash_by(faults, FaultKind.CRASH_AFTER)
            self.check_alive()
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            self._end(index, outcome, thread)

    def check_alive(self) -> None:
        """
        Do nothing, or stop a thread of a process that is dead.

        Raises:
            SimulatedCrash: it is.
        """
        if self._crashed:
            raise SimulatedCrash("the process is dead: nothing that it calls can have an effect")

    def crash(self, why: str) -> NoReturn:
        """
        The process dies here. What other threads have under way comes to its end first.

        Raises:
            SimulatedCrash: always.
        """
        me = threading.get_ident()
        with self._state:
            if not self._crashed:
                self._crashed = True
                self._state.wait_for(lambda: not any(thread != me for thread in self._under_way), _DEATH_SECONDS_MAX)
        raise SimulatedCrash(why)

    def _begin(self, call: Call, thread: int | None) -> tuple[int, tuple[Fault, ...]]:
        with self._state:
            self.check_alive()
            self._counts[call.operation, None] += 1
            if call.part_number is not None:
                self._counts[call.operation, call.part_number] += 1
            faults = tuple(fault for fault in self.faults if self._strikes(fault, call))
            self._reached.extend(faults)
            self._calls.append(evolve(call, faults=faults) if faults else call)
            if thread is not None:
                self._under_way[thread] += 1
            return len(self._calls) - 1, faults

    def _strikes(self, fault: Fault, call: Call) -> bool:
        return (
            fault.operation == call.operation
            and fault.part_number in (None, call.part_number)
            and fault.occurrence == self._counts[call.operation, fault.part_number]
        )

    def _end(self, index: int, outcome: str, thread: int | None) -> None:
        with self._state:
            self._calls[index] = evolve(self._calls[index], outcome=outcome)
            if thread is not None:
                self._under_way[thread] -= 1
                self._under_way = +self._under_way  # forgets the threads that have nothing under way
                self._state.notify_all()

    def _crash_by(self, faults: tuple[Fault, ...], kind: FaultKind) -> None:
        for fault in faults:
            if fault.kind is kind:
                self.crash(str(fault))
