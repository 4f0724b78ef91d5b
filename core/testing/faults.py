"""
Faults as values, and the plan that injects them.

A `Fault` says which call fails and how. A `FaultPlan` is for one process: it has the faults to inject, the trace of the
calls, and whether the process has crashed. The wrappers of everything that the process calls share one plan (see
`partwise.testing.faulty`)::

    plan = FaultPlan([Fault("upload_part", FaultKind.AFTER, occurrence=2)])
    with plan:
        Uploader(FaultyBackend(backend, plan), FaultyCheckpointStore(store, plan)).upload(source, "key")

Leaving the block raises AssertionError if a planned fault was never reached: such a test has tested nothing.

A crash is a fault, too. It raises `SimulatedCrash`, which ``except Exception`` does not catch, and from then on no call
of this process has any effect. Calls that are in flight in other threads end before the exception is raised, so that
the storage does not change any more once the test sees it. The next process is a new plan around the same storage.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from enum import Enum
from typing import Any, NoReturn, Self

from attrs import define, field

from partwise._validation import integer
from partwise.errors import InvalidInput

__all__ = ["Call", "Fault", "FaultKind", "FaultPlan", "SimulatedCrash"]

BACKEND_OPERATIONS = (
    *("initiate_upload", "upload_part", "list_parts", "complete_upload", "abort_upload", "list_uploads"),
    *("put_object", "head_object"),
)
STORE_OPERATIONS = ("claim", "load", "save", "append_part", "delete", "scan", "check_claim")
SOURCE_OPERATIONS = ("fingerprint", "body", "read")
OPERATIONS = (*BACKEND_OPERATIONS, *STORE_OPERATIONS, *SOURCE_OPERATIONS)

#: The code of every injected error; the message of an error without a code starts with it.
INJECTED = "InjectedFault"

# A crash waits for the calls in flight in other threads. They stop at the next chunk of their bodies, so that this
# timeout, in seconds, matters only if a thread hangs.
_CRASH_TIMEOUT = 30.0


class SimulatedCrash(BaseException):
    """
    The process crashed here, as by ``kill -9``.

    Catch it only in the test that planned it. It is not an `Exception`, so that code under test does not handle it as a
    failure.
    """


class FaultKind(Enum):
    """What happens to the call that a fault is injected into."""

    BEFORE = "fails before it has any effect"
    AFTER = "takes effect, and its response is lost"
    HALFWAY = "fails when about half of the body was read"
    DELAY = "is delayed"
    CRASH_BEFORE = "the process crashes before it has any effect"
    CRASH_AFTER = "takes effect, and the process crashes before the response"

    THROTTLED = "is throttled, with a time to wait"
    PERMANENT = "is denied permanently"
    WRONG_CHECKSUM = "returns a wrong checksum"
    SHORT_LIST = "omits every other part"
    FORGOTTEN_UPLOAD = "finds that the storage has dropped the upload"
    UNUSABLE = "finds that the upload can never be completed, and so does every later call for it"

    UNREACHABLE = "can't be reached for a moment, before it has any effect"
    CLAIM_LOST = "finds the claim lost, and so does every later write"
    LOST_WRITE = "reports success without writing"
    DISK_FULL = "finds the disk full, and so does every later write"
    READ_ONLY = "finds the disk read-only, and so does every later write and claim"
    TORN_WRITE = "the process crashes while it writes its record"
    OLD_RECORD = "returns the checkpoint as it was one write earlier"
    DAMAGED = "finds the checkpoint damaged"

    CHANGED = "finds the source modified, and so does every later fingerprint"

    def applies_to(self, operation: str) -> bool:
        """Return whether a fault of this kind can be injected into this operation."""
        return operation in _APPLICABLE[self]


_WITH_BODY = frozenset({"upload_part", "put_object"})
_WRITES = frozenset({"save", "append_part", "delete"})
_APPLICABLE = {
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
    FaultKind.UNUSABLE: frozenset({"upload_part", "complete_upload"}),
    FaultKind.UNREACHABLE: frozenset(STORE_OPERATIONS),
    FaultKind.CLAIM_LOST: _WRITES | {"check_claim"},
    FaultKind.LOST_WRITE: _WRITES,
    FaultKind.DISK_FULL: frozenset({"save", "append_part"}),
    FaultKind.READ_ONLY: _WRITES | {"claim"},
    FaultKind.TORN_WRITE: frozenset({"append_part"}),
    FaultKind.OLD_RECORD: frozenset({"load"}),
    FaultKind.DAMAGED: frozenset({"load"}),
    FaultKind.CHANGED: frozenset({"fingerprint"}),
}


@define(frozen=True)
class Fault:
    """
    One fault: the call that it is injected into, and what happens to that call.

    Args:
        operation: the name of the method; ``"read"`` is the reading of a body of the source.
        kind: what happens.
        occurrence: which call of this operation fails, counting from 1.
        part_number: inject into, and count, only calls for this part; None: calls for any part.
        seconds: the length of a DELAY; for THROTTLED, the `retry_after` of the storage.

    Raises:
        InvalidInput: the operation does not exist, or the kind does not apply to it.
    """

    operation: str
    kind: FaultKind
    occurrence: int = field(default=1, validator=integer(1))
    part_number: int | None = field(default=None, validator=integer(1, None, None))
    seconds: float = 0.0

    def __attrs_post_init__(self) -> None:
        if self.operation not in OPERATIONS:
            raise InvalidInput(f"unknown operation {self.operation!r}; the operations are {', '.join(OPERATIONS)}")
        if not self.kind.applies_to(self.operation):
            raise InvalidInput(f"{self.kind.name} does not apply to {self.operation}")

    def __str__(self) -> str:
        part = "" if self.part_number is None else f" of part {self.part_number}"
        return f"{self.operation} no. {self.occurrence}{part} {self.kind.value}"


@define(frozen=True)
class Call:
    """
    One call in the trace of a plan.

    Args:
        operation: the name of the method.
        subject: the key, the name of the checkpoint, or the name of the source.
        upload_id: the multipart upload, if the call has one.
        part_number: the part, if the call has one.
        faults: the faults injected into it.
        outcome: ``"returned"``, the name of the error that it raised, or ``"in flight"``.
    """

    operation: str
    subject: str
    upload_id: str | None = None
    part_number: int | None = None
    faults: tuple[Fault, ...] = ()
    outcome: str = "in flight"

    def __str__(self) -> str:
        part = "" if self.part_number is None else f" part {self.part_number}"
        injected = "".join(f" [{fault.kind.name}]" for fault in self.faults)
        return f"{self.operation} {self.subject!r}{part}{injected}: {self.outcome}"


#: The fields of a `Call` while it is made: a list, since thousands of processes with hundreds of calls are simulated.
_Calling = list[Any]


class FaultPlan:
    """
    The faults to inject into one process, and the trace of its calls.

    Thread-safe. As a context manager it calls `assert_all_reached` when the block ends without an error.

    Args:
        faults: in any order; several may apply to the same call.
        sleep: called with the seconds of a DELAY.
    """

    def __init__(self, faults: Iterable[Fault] = (), *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.faults = tuple(faults)
        self._by_operation: dict[str, list[Fault]] = {}
        for fault in self.faults:
            self._by_operation.setdefault(fault.operation, []).append(fault)
        self._sleep = sleep
        self._state = threading.RLock()
        self._counts: dict[tuple[str, int | None], int] = {}
        self._reached: list[Fault] = []
        self._calls: list[_Calling] = []
        self._in_flight: dict[int, int] = {}  # by thread, without reads of the source: they have no effect
        self._crashed = False
        self._crashing: threading.Condition | None = None  # made when a crash waits for calls in flight

    def __repr__(self) -> str:
        return f"FaultPlan({list(self.faults)!r})"

    def __str__(self) -> str:
        """Return the trace, one line for each call."""
        return "\n".join(f"{number}. {call}" for number, call in enumerate(self.calls, start=1))

    # --- what happened -----------------------------------------------------------------------------------------------

    @property
    def calls(self) -> tuple[Call, ...]:
        """
        The trace: every call so far, in the order of their start.

        Calls after a crash are not in it.
        """
        with self._state:
            return tuple([Call(*calling) for calling in self._calls])

    @property
    def reached(self) -> tuple[Fault, ...]:
        """The faults injected so far, in order."""
        with self._state:
            return tuple(self._reached)

    @property
    def unreached(self) -> tuple[Fault, ...]:
        """The faults not injected so far."""
        with self._state:
            return tuple(fault for fault in self.faults if fault not in self._reached)

    @property
    def crashed(self) -> bool:
        """Whether the process has crashed."""
        return self._crashed

    def has_injected(self, kind: FaultKind) -> bool:
        """Return whether a fault of this kind was injected; some affect later calls."""
        with self._state:
            return kind in [fault.kind for fault in self._reached]

    def assert_all_reached(self) -> None:
        """
        Fail the test if a planned fault was never injected.

        Raises:
            AssertionError: lists those faults, and the trace.
        """
        if self.unreached:
            planned = "\n".join(f"- {fault}" for fault in self.unreached)
            raise AssertionError(f"planned and never reached:\n{planned}\nThe calls were:\n{self}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.assert_all_reached()

    # --- for wrappers ------------------------------------------------------------------------------------------------

    def call(
        self, operation: str, subject: str, *, upload_id: str | None = None, part_number: int | None = None
    ) -> AbstractContextManager[tuple[Fault, ...]]:
        """
        Run a block as one call: add it to the trace, and yield the faults to inject.

        DELAY and CRASH_BEFORE are injected here before the block, CRASH_AFTER after it. The wrapper injects all others.

        Raises:
            SimulatedCrash: the process has crashed, or crashes now.
        """
        return _PlannedCall(self, [operation, subject, upload_id, part_number, (), "in flight"])

    def on_call(self, operation: str) -> None:
        """
        Do nothing.

        Subclasses may override it, to do something in each call before it takes effect.
        """

    def check_alive(self) -> None:
        """Raise SimulatedCrash if the process has crashed, to stop its other threads."""
        if self._crashed:
            raise SimulatedCrash("the process has crashed: its calls have no effect")

    def crash(self, why: str) -> NoReturn:
        """
        Crash the process here, once the calls in flight in other threads have ended.

        Raises:
            SimulatedCrash: always.
        """
        me = threading.get_ident()
        with self._state:
            if not self._crashed:
                self._crashed = True
                self._crashing = threading.Condition(self._state)
                self._crashing.wait_for(lambda: not any(thread != me for thread in self._in_flight), _CRASH_TIMEOUT)
        raise SimulatedCrash(why)

    def _begin(self, calling: _Calling, thread: int | None) -> tuple[Fault, ...]:
        operation, part_number = calling[0], calling[3]
        with self._state:
            self.check_alive()
            faults: tuple[Fault, ...] = ()
            if planned := self._by_operation.get(operation):
                for number in {None, part_number}:
                    self._counts[operation, number] = self._counts.get((operation, number), 0) + 1
                faults = calling[4] = tuple([one for one in planned if self._applies(one, operation, part_number)])
            self._calls.append(calling)
            if thread is not None:
                self._in_flight[thread] = self._in_flight.get(thread, 0) + 1
            if faults:
                self._inject(faults)
            return faults

    def _applies(self, fault: Fault, operation: str, part_number: int | None) -> bool:
        of_this_part = fault.part_number is None or fault.part_number == part_number
        return of_this_part and fault.occurrence == self._counts[operation, fault.part_number]

    def _inject(self, faults: tuple[Fault, ...]) -> None:
        self._reached += faults

    def _end(self, calling: _Calling, outcome: str, thread: int | None) -> None:
        with self._state:
            calling[5] = outcome
            if thread is not None:
                left = self._in_flight.pop(thread) - 1
                if left:
                    self._in_flight[thread] = left
                if self._crashing is not None:
                    self._crashing.notify_all()

    def _delay_by(self, faults: tuple[Fault, ...]) -> None:
        for fault in faults:
            if fault.kind is FaultKind.DELAY:
                self._sleep(fault.seconds)

    def _crash_by(self, faults: tuple[Fault, ...], kind: FaultKind) -> None:
        for fault in faults:
            if fault.kind is kind:
                self.crash(str(fault))


class _PlannedCall:
    """One call of a plan, as a context manager."""

    # A class takes half the time of a generator.

    __slots__ = ("_calling", "_plan", "_thread")

    def __init__(self, plan: FaultPlan, calling: _Calling) -> None:
        self._plan = plan
        self._calling = calling
        self._thread = None if calling[0] in SOURCE_OPERATIONS else threading.get_ident()

    def __enter__(self) -> tuple[Fault, ...]:
        plan = self._plan
        faults = plan._begin(self._calling, self._thread)  # noqa: SLF001  # both are of this module
        try:
            if faults:
                plan._delay_by(faults)  # noqa: SLF001  # likewise
                plan._crash_by(faults, FaultKind.CRASH_BEFORE)  # noqa: SLF001  # likewise
            plan.on_call(self._calling[0])
        except BaseException as error:
            plan._end(self._calling, type(error).__name__, self._thread)  # noqa: SLF001  # likewise
            raise
        return faults

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        plan, outcome = self._plan, "returned" if kind is None else kind.__name__
        try:
            if kind is None:
                plan._crash_by(self._calling[4], FaultKind.CRASH_AFTER)  # noqa: SLF001  # likewise
                plan.check_alive()
        except BaseException as crash:
            outcome = type(crash).__name__
            raise
        finally:
            plan._end(self._calling, outcome, self._thread)  # noqa: SLF001  # likewise
