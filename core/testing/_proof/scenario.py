"""
A scenario: a storage, a store, a source, and the processes that use them.

    scenario = Scenario(MemoryHarness(), MemoryStoreHarness(), SimulatedFile(b"..."), check=invariants.check)
    scenario.run(ProcessScript(faults=(Fault("complete_upload", FaultKind.CRASH_AFTER),)))
    scenario.run()

Each `run` is one process, from its first call to its end or its crash. A `ProcessScript` is a value: the faults, the
events, the decisions of the scheduler. The scenario outlives its processes, records what really happened
(`partwise.testing._proof.recording`), and after each process calls `check`, such as `invariants.check`.
"""

from __future__ import annotations

import inspect
import logging
import signal
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from functools import lru_cache
from types import FrameType
from typing import Self

from attrs import evolve

from partwise._engine.context import UploadRequest
from partwise._engine.control import Control
from partwise._engine.plan import PartPlan
from partwise._engine.reconcile import Decision
from partwise._engine.upload import UploadRun
from partwise.backends.memory import DEFAULT_CAPABILITIES, MemoryBackend
from partwise.backends.oss import OSSOptions
from partwise.checkpoint import checkpoint_name
from partwise.errors import CheckpointBusy
from partwise.events import UploadEvent
from partwise.model import Capabilities, ObjectOptions, PartLimits, StoredObject
from partwise.protocols import CheckpointStore, MultipartBackend, Source
from partwise.results import Progress
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing._proof.events import (
    BackendCall,
    CallbackBroke,
    Event,
    EventRecord,
    ProcessScript,
    ProcessTrace,
    ProgressRecord,
    ScheduledEvent,
    Snapshot,
    TimeIsUp,
)
from partwise.testing._proof.recording import CountingSource, History, RecordingBackend, RecordingStore
from partwise.testing._proof.simulation import SimulatedClock, Simulation, drop_frames, run_upload
from partwise.testing._proof.sources import ScenarioSource
from partwise.testing.conformance_backend import BackendHarness, shown_options
from partwise.testing.conformance_store import StoreHarness
from partwise.testing.fakes import StrictBody
from partwise.testing.faults import FaultPlan, SimulatedCrash
from partwise.testing.faulty import FaultyBackend, FaultyCheckpointStore, FaultySource

# --- storage and store in memory -------------------------------------------------------------------------------------


@lru_cache(maxsize=32)
def _with_callbacks(capabilities: Capabilities) -> Capabilities:
    return evolve(
        capabilities,
        options=capabilities.options | {"callback"},
        late_options=capabilities.late_options | {"callback"},
        option_type=OSSOptions,
    )


class InMemoryHarness(BackendHarness):
    """A storage in memory, which can be copied, and compared with another one."""

    picklable = False

    def part_size(self, backend: MultipartBackend) -> int:  # noqa: ARG002  # the same for any limits
        """Return a few bytes, so that bodies of several chunks cost little."""
        return 8

    @abstractmethod
    def fork(self) -> Self:
        """
        Return a harness of a copy of the storage.

        Changes to one do not affect the other.
        """

    @abstractmethod
    def state(self, key: str) -> str:
        """
        Return everything that the next process depends on, as a text to compare.

        `key` is the only object.
        """


class MemoryHarness(InMemoryHarness):
    """
    A bucket in memory that emulates callbacks.

    By default it accepts parts of a few bytes.
    """

    def __init__(self, limits: PartLimits | None = None, capabilities: Capabilities | None = None) -> None:
        super().__init__()
        capabilities = capabilities or DEFAULT_CAPABILITIES
        self.callback_works = True
        self._storage = MemoryBackend(
            "world",
            limits=limits or PartLimits(min_part_size=4, max_part_size=1024),
            capabilities=_with_callbacks(capabilities),
            clock=lambda: 0.0,
            callback=self._callback,
        )

    def open(self) -> MemoryBackend:
        return self._storage.handle()

    def read(self, key: str) -> bytes | None:
        return self._storage.read(key) if key in self._storage.keys() else None  # noqa: SIM118  # not a mapping

    def options(self, key: str) -> Mapping[str, object]:
        return shown_options(self._storage.describe(key))

    def drop_upload(self, key: str, upload_id: str) -> bool:
        self._storage.drop_upload(key, upload_id)
        return True

    def fork(self) -> MemoryHarness:
        forked = MemoryHarness()
        forked.callback_works = self.callback_works
        forked._storage = self._storage.snapshot()  # of the same class
        return forked

    def state(self, key: str) -> str:
        assert set(self._storage.keys()) <= {key}
        return f"{self._storage.uploads} {self.read(key)!r} {self._storage.describe(key)} {self.callback_works}"

    def _callback(self, stored: StoredObject) -> bytes:
        if not self.callback_works:
            raise ConnectionError(f"no server listens for the callback of {stored.key}")
        return b"heard"


class MemoryStoreHarness(StoreHarness):
    """Checkpoints in memory."""

    durable = False

    def __init__(self) -> None:
        super().__init__()
        self._store = MemoryCheckpointStore()

    def open(self) -> MemoryCheckpointStore:
        return self._store.handle()

    def fork(self) -> MemoryStoreHarness:
        """Return a harness of a copy of the checkpoints, in which no claim is held."""
        forked = MemoryStoreHarness()
        forked._store = self._store.snapshot()  # of the same class
        return forked


# --- processes -------------------------------------------------------------------------------------------------------


class _ScheduledFaults(FaultPlan):
    """The faults and the events of one process."""

    def __init__(self, script: ProcessScript, clock: SimulatedClock, fire: Callable[[Event, int], None]) -> None:
        super().__init__(script.faults, sleep=clock.advance)
        self._events = script.events
        self._fire = fire  # called with an event, and the number of calls that were started
        self._reached_points: Counter[str] = Counter()
        self.occurred: list[ScheduledEvent] = []

    def on_call(self, operation: str) -> None:
        self.reach(operation)

    def reach(self, hook_point: str) -> None:
        """Fire the events that are scheduled for this occurrence of the hook point."""
        if not self._events:
            return
        self._reached_points[hook_point] += 1
        for scheduled in self._events:
            if (scheduled.operation, scheduled.occurrence) == (hook_point, self._reached_points[hook_point]):
                self.occurred.append(scheduled)
                self._fire(scheduled.event, len(self._calls))


class Scenario:
    """
    One storage, one store, one source, and the processes that use them in turn.

    The harnesses of storage and store are closed with it.

    Args:
        torn_writes: whether scripts may have TORN_WRITE faults; the store has to append to its records, and its harness
            has to implement `read_record` and `write_record`.
        check: called with each process that has ended; raises AssertionError if a promise was broken. None: no check.
    """

    def __init__(
        self,
        backend: BackendHarness,
        store: StoreHarness,
        source: ScenarioSource,
        *,
        key: str = "exampledir/object",
        torn_writes: bool = False,
        check: Callable[[Scenario, ProcessTrace], None] | None = None,
    ) -> None:
        self.backend = backend
        self.store = store
        self.source = source
        self.key = backend.prefix + key
        self.clock = SimulatedClock()
        self.traces: list[ProcessTrace] = []
        self._tear = self._torn if torn_writes else None
        self._check = check
        self._storage = backend.open_for_test()
        self.limits = self._storage.limits
        self.capabilities = self._storage.capabilities
        self.history = History(self.capabilities)
        self._current: ProcessTrace | None = None

    @property
    def name(self) -> str:
        return checkpoint_name(self._storage.location, self.key, self.source.name)

    def keeps_checkpoint(self, script: ProcessScript) -> bool:
        """Return whether a process of this script keeps a checkpoint."""
        return script.resume != "never" and bool(self.source.name)

    def snapshot(self) -> Snapshot:
        """Return the current state."""
        return Snapshot(
            self.history.checkpoint, self.history.pending(), self.backend.read(self.key), self.source.version.number
        )

    def fork(self) -> Scenario:
        """
        Return a copy of this scenario, for another continuation.

        It is a copy of what there is between two processes.

        Storage and store have to be in memory, and the callback has to work the same in both.
        """
        backend, store = self._in_memory()
        forked = copy(self)
        forked.backend, forked.store, forked.source = backend.fork(), store.fork(), self.source.fork()
        forked.clock, forked.history = copy(self.clock), self.history.fork()
        forked.traces = list(self.traces)
        forked._storage = forked.backend.open_for_test()  # noqa: SLF001  # of the same class
        return forked

    def state(self) -> str:
        """
        Return all that the next process and its checks depend on, as a text.

        From equal states, processes of equal scripts do the same. All ids are included, and not the current time: the
        engine measures how much time passes, and only records what time it is. Storage and store have to be in memory.
        """
        backend, store = self._in_memory()
        # The capabilities are always the same, and each process is checked against its own effects.
        recorded = {**vars(self.history), "capabilities": None, "effects": None}
        return "\n".join(
            [
                *(f"{name}: {sorted(value) if isinstance(value, set) else value}" for name, value in recorded.items()),
                backend.state(self.key),
                repr(store.open().load(self.name)),
                f"{self.source.version} {vars(self.source)} {self.source.open().fingerprint()}",
            ]
        )

    def _in_memory(self) -> tuple[InMemoryHarness, MemoryStoreHarness]:
        assert isinstance(self.backend, InMemoryHarness)
        assert isinstance(self.store, MemoryStoreHarness)
        return self.backend, self.store

    def close(self) -> None:
        """Remove the storage, the store, and the source."""
        self.source.close()
        self.backend.__exit__(None, None, None)
        self.store.__exit__(None, None, None)

    # --- events between or during processes --------------------------------------------------------------------------

    def change(self, event: Event, size: int | None = None) -> None:
        """
        Change the source; see `ScenarioSource.change`.

        It does not grow beyond what the storage accepts. A source of that size is rewritten instead.
        """
        if event is Event.GROW:
            held, most = len(self.source.version.data), self.limits.max_object_size
            event = event if held < most else Event.REWRITE
            size = min(held * 3 // 2 if size is None else size, most)
        self.source.change(event, size)
        if self._current is not None and self.source.seen_changing:
            self._current.versions.add(self.source.version.number)

    def expire(self) -> None:
        """Drop every pending upload from the storage, as a lifecycle rule does."""
        for upload_id in self.history.pending():
            self._drop_upload(self.key, upload_id)

    def _drop_upload(self, key: str, upload_id: str) -> None:
        if self.backend.drop_upload(key, upload_id):
            self.history.upload_ended(upload_id)

    def overwrite(self, data: bytes) -> None:
        """Store an object under the key, as another program would."""
        self.history.foreign.append(data)
        body = StrictBody(data, checksum=self._storage.capabilities.checksum)
        self._storage.put_object(self.key, body, ObjectOptions())
        self.history.object_stored()

    # --- processes ---------------------------------------------------------------------------------------------------

    def run(self, script: ProcessScript | None = None) -> ProcessTrace:
        """
        Run one process to its end or its crash.

        Raises:
            AssertionError: it broke a promise; the message starts with the name of the promise.
        """
        script = script or ProcessScript()
        self.history.start_process(keeps_checkpoint=self.keeps_checkpoint(script))
        trace = ProcessTrace(script, self.history.process, self.snapshot(), len(self.history.effects))
        trace.versions.add(self.source.version.number)
        if script.options.if_match is not None:
            head = self._storage.head_object(self.key)
            trace.replaceable = head is not None and head.etag == script.options.if_match
        self._current = trace
        try:
            with _logging_to(trace.log):
                self._upload(script, trace)
        finally:
            self._current = None
        trace.after = self.snapshot()
        trace.effects_end = len(self.history.effects)
        self.traces.append(trace)
        if self._check is not None:
            self._check(self, trace)
        return trace

    def explain(self, script: ProcessScript | None = None) -> tuple[Decision, PartPlan]:
        """Return what a process would do, and check that asking changes nothing."""
        script = script or ProcessScript()
        before = self.snapshot()
        simulation = Simulation(script.choices, self.clock, name="dry run")
        with self._handles() as (backend, store):
            request = self._upload_request(
                script, self._recorded(backend), RecordingStore(store, self.history), self.source.open()
            )
            explained = UploadRun(request, simulation.runtime(), Control()).explain()
        assert self.snapshot() == before, "PLAN: a dry run changed something"
        return explained

    def _upload(self, script: ProcessScript, trace: ProcessTrace) -> None:
        control = Control()
        simulation = Simulation(script.choices, self.clock, name=str(trace.process))

        def fire(event: Event, calls: int) -> None:
            if event.changes_source and self.source.seen_changing:
                trace.changed_at.append(calls)
            self._fire(event, control)

        plan = _ScheduledFaults(script, self.clock, fire)
        source = CountingSource(self.source.open(), lambda: plan.reach("chunk"), script.bodies_allowed)

        def on_progress(progress: Progress) -> None:
            trace.reports.append(ProgressRecord(progress, len(self.history.effects), len(trace.backend_calls)))
            plan.reach("progress")

        def on_event(event: UploadEvent) -> None:
            if plan.crashed:
                return  # it is not there any more; the exception that simulates that passes through it
            trace.reported_events.append(EventRecord(event, len(trace.backend_calls)))
            plan.reach("event")

        with self._handles() as (backend, store):
            faulty = FaultyBackend(self._recorded(backend), plan, forget=self._drop_upload)
            observed = RecordingBackend(faulty, trace.backend_calls.append, self.clock.monotonic)
            faulty_store = FaultyCheckpointStore(RecordingStore(store, self.history), plan, tear=self._tear)
            request = self._upload_request(
                script, observed, faulty_store, FaultySource(source, plan), on_progress=on_progress, on_event=on_event
            )
            try:
                trace.result = run_upload(request, simulation.runtime(), control)
            except SimulatedCrash as crash:
                trace.crashed = True
                drop_frames(crash)
            except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001  # the check judges it
                trace.error = error
                drop_frames(error)
        trace.calls = plan.calls
        trace.occurred = tuple(plan.occurred)
        trace.worker_pools = simulation.worker_pools
        trace.most_bodies = source.most_bodies

    def _upload_request(
        self,
        script: ProcessScript,
        backend: MultipartBackend,
        store: CheckpointStore,
        source: Source,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        on_event: Callable[[UploadEvent], None] | None = None,
    ) -> UploadRequest:
        used_store = None if script.resume == "never" else store
        return UploadRequest(
            *(backend, used_store, source, self.key, script.options, script.config, script.resume),
            on_progress=on_progress,
            on_event=on_event,
        )

    @contextmanager
    def _handles(self) -> Iterator[tuple[MultipartBackend, CheckpointStore]]:
        """Open handles on the storage and the store, as each process does."""
        backend, store = self.backend.open(), self.store.open()
        try:
            yield backend, store
        finally:
            backend.close()
            if callable(close := getattr(store, "close", None)):
                close()

    def _torn(self, name: str) -> None:
        """Cut off the end of the last record, as a crash while it is written does."""
        data = self.store.read_record(name)
        assert data is not None, "torn writes need a harness that implements read_record"
        self.store.write_record(name, data[:-2])
        self.history.part_torn()

    def _recorded(self, backend: MultipartBackend) -> RecordingBackend:
        return RecordingBackend(backend, self.history.call_ended, self.clock.monotonic)

    def _fire(self, event: Event, control: Control) -> None:
        if event.changes_source:
            self.change(event)
            return
        match event:
            case Event.PAUSE:
                control.pause()
            case Event.CANCEL:
                control.cancel()
            case Event.INTERRUPT:
                raise KeyboardInterrupt
            case Event.EXIT:
                raise SystemExit(0)
            case Event.TIME_LIMIT:
                _time_is_up(signal.SIGTERM, inspect.currentframe())
            case Event.RAISE:
                raise CallbackBroke("raised by a callback")
            case Event.EXPIRY:
                self.expire()
            case Event.SECOND_UPLOADER:
                self._start_second_uploader()

    def _start_second_uploader(self) -> None:
        """Start the same upload again: while it is claimed, this must have no effect."""
        if not self.history.claimed:
            return
        before = self.snapshot()
        simulation = Simulation(clock=self.clock, name="second uploader")
        calls: list[BackendCall] = []
        with self._handles() as (backend, store):
            observed = RecordingBackend(backend, calls.append, self.clock.monotonic)
            request = self._upload_request(ProcessScript(), observed, store, self.source.open())
            try:
                outcome: object = run_upload(request, simulation.runtime(), Control())
            except CheckpointBusy:
                outcome = None
            except Exception as error:  # noqa: BLE001  # any other error is reported below
                outcome = error
        if outcome is not None or calls or self.snapshot() != before:
            self.history.problems.append(
                f"ONE-OWNER: a second uploader was not refused at once, but ended with {outcome!r} and called {calls}"
            )


def _time_is_up(_number: int, _frame: FrameType | None) -> None:
    """Raise, with the signature by which the engine recognises a signal handler."""
    raise TimeIsUp


class _LineHandler(logging.Handler):
    """Appends a line for each record to the list of the process that runs."""

    lines: list[str]

    def handle(self, record: logging.LogRecord) -> bool:
        self.lines.append(f"{record.getMessage()} {record.__dict__.get('key')} {record.__dict__.get('upload_id')}")
        return True


#: One for all processes: to make a handler takes as long as some records.
_line_handler = _LineHandler()


@contextmanager
def _logging_to(lines: list[str]) -> Iterator[None]:
    logger, handler = logging.getLogger("partwise"), _line_handler
    handler.lines = lines
    level, propagate = logger.level, logger.propagate
    if level != logging.DEBUG:  # to set a level forgets what is known about every other logger
        logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        if level != logging.DEBUG:
            logger.setLevel(level)
