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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import NoReturn, Self

from attrs import define, evolve, field

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
        self._state = threading.Condition()
        self._counts: Counter[tuple[str, int | None]] = Counter()
        self._reached: list[Fault] = []
        self._calls: list[Call] = []
        self._in_flight: Counter[int] = Counter()  # by thread, without reads of the source: they have no effect
        self._crashed = False

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
            return tuple(self._calls)

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
            return any(fault.kind is kind for fault in self._reached)

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

    @contextmanager
    def call(
        self, operation: str, subject: str, *, upload_id: str | None = None, part_number: int | None = None
    ) -> Iterator[tuple[Fault, ...]]:
        """
        Run a block as one call: add it to the trace, and yield the faults to inject.

        DELAY and CRASH_BEFORE are injected here before the block, CRASH_AFTER after it. The wrapper injects all others.

        Raises:
            SimulatedCrash: the process has crashed, or crashes now.
        """
        thread = None if operation in SOURCE_OPERATIONS else threading.get_ident()
        index, faults = self._begin(Call(operation, subject, upload_id, part_number), thread)
        outcome = "returned"
        try:
            for fault in faults:
                if fault.kind is FaultKind.DELAY:
                    self._sleep(fault.seconds)
            self._crash_by(faults, FaultKind.CRASH_BEFORE)
            self.on_call(operation)
            yield faults
            self._crash_by(faults, FaultKind.CRASH_AFTER)
            self.check_alive()
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            self._end(index, outcome, thread)

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
                self._state.wait_for(lambda: not any(thread != me for thread in self._in_flight), _CRASH_TIMEOUT)
        raise SimulatedCrash(why)

    def _begin(self, call: Call, thread: int | None) -> tuple[int, tuple[Fault, ...]]:
        with self._state:
            self.check_alive()
            self._counts[call.operation, None] += 1
            if call.part_number is not None:
                self._counts[call.operation, call.part_number] += 1
            planned = self._by_operation.get(call.operation, ())
            faults = tuple([fault for fault in planned if self._applies(fault, call)])
            self._reached += faults
            self._calls.append(evolve(call, faults=faults) if faults else call)
            if thread is not None:
                self._in_flight[thread] += 1
            return len(self._calls) - 1, faults

    def _applies(self, fault: Fault, call: Call) -> bool:
        of_this_part = fault.part_number is None or fault.part_number == call.part_number
        return of_this_part and fault.occurrence == self._counts[call.operation, fault.part_number]

    def _end(self, index: int, outcome: str, thread: int | None) -> None:
        with self._state:
            call = self._calls[index]
            self._calls[index] = Call(
                call.operation, call.subject, call.upload_id, call.part_number, call.faults, outcome
            )
            if thread is not None:
                self._in_flight[thread] -= 1
                if not self._in_flight[thread]:
                    del self._in_flight[thread]
                self._state.notify_all()

    def _crash_by(self, faults: tuple[Fault, ...], kind: FaultKind) -> None:
        for fault in faults:
            if fault.kind is kind:
                self.crash(str(fault))
