"""
A world of one storage, one store and one source, in which processes upload, fail, die, and are followed by others.

    world = World(MemoryHarness(), MemoryStoreHarness(), SimulatedFile(b"..."))
    world.live(Life(faults=(Fault("complete_upload", FaultKind.CRASH_AFTER),)))
    world.live(Life())

Each `live` is the life of one process, from its first call to its end or its death. A `Life` is a value: what strikes
the process, what happens around it, how its scheduler decides. The world outlives its processes, writes down what
really happened (`partwise.testing._proof.events`), and after each life looks whether every promise was kept
(`partwise.testing._proof.invariants`).
"""

from __future__ import annotations

import inspect
import io
import logging
import os
import signal
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import ClassVar

from attrs import Attribute, define, evolve, field

from partwise._engine.context import ResumeMode, UploadRequest
from partwise._engine.control import Control
from partwise._engine.plan import PartPlan
from partwise._engine.reconcile import Decision
from partwise._engine.upload import UploadRun
from partwise.backends.memory import DEFAULT_CAPABILITIES, MemoryBackend
from partwise.checkpoint import checkpoint_name
from partwise.config import TransferConfig
from partwise.errors import CheckpointBusy, InvalidInput
from partwise.model import Capabilities, ObjectOptions, PartLimits, StoredObject
from partwise.protocols import CheckpointStore, MultipartBackend, Source
from partwise.results import Progress, UploadResult
from partwise.sources import BytesSource, FileSource, StreamSource
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing._proof.events import Deed, History, NotingBackend, NotingStore, Situation, WatchedSource
from partwise.testing._proof.simulation import SimulatedClock, SimulatedTransport, Simulation
from partwise.testing._proof.sources import ChangingSource
from partwise.testing.conformance_backend import BackendHarness
from partwise.testing.conformance_store import StoreHarness
from partwise.testing.fakes import StrictBody, pseudo_random_bytes
from partwise.testing.faults import OPERATIONS, Call, Fault, FaultPlan, SimulatedCrash
from partwise.testing.faulty import FaultyBackend, FaultyCheckpointStore, FaultySource

# --- what happens ----------------------------------------------------------------------------------------------------


class Happening(Enum):
    """What can happen around a process, beside faults of what it calls."""

    PAUSE = "somebody asks for a pause"
    CANCEL = "somebody asks for a cancel"
    INTERRUPT = "somebody presses Ctrl-C"
    EXIT = "a signal handler exits"
    TIME_LIMIT = "a signal handler raises, since the time is up"
    RAISE = "the progress callback raises"
    SECOND_UPLOADER = "another process begins the same upload"
    EXPIRY = "the storage drops every pending upload"

    GROW = "the source grows"
    SHRINK = "the source shrinks"
    EMPTY = "the source is emptied"
    REWRITE = "other bytes are written into the source"
    REPLACE = "another file takes the place of the source, with its time"
    TOUCH = "the source's time changes, and nothing else"
    FORGE = "other bytes are written into the source, and its time is set back"
    RESTORE = "the source is what it was at first, its time and its identity too"

    @property
    def changes_source(self) -> bool:
        """Whether it is the source that it happens to."""
        return self in _CHANGES


_CHANGES = frozenset(
    {
        Happening.GROW,
        Happening.SHRINK,
        Happening.EMPTY,
        Happening.REWRITE,
        Happening.REPLACE,
        Happening.TOUCH,
        Happening.FORGE,
        Happening.RESTORE,
    }
)

#: Where something can happen: as any call of the process begins, before a chunk of the source is read, and when
#: progress is told.
MOMENTS = (*OPERATIONS, "chunk", "progress")


def _a_moment(_instance: object, attribute: Attribute[str], value: str) -> None:
    if value not in MOMENTS:
        raise InvalidInput(f"{attribute.name} is one of {', '.join(MOMENTS)}, not {value!r}")


@define(frozen=True)
class Incident:
    """
    Something that happens at a moment of a process's life.

    Args:
        operation: one of `MOMENTS`.
        what: what happens.
        occurrence: at the how-manieth such moment, counting from 1.
    """

    operation: str = field(validator=_a_moment)
    what: Happening
    occurrence: int = 1

    def __attrs_post_init__(self) -> None:
        if self.what is Happening.RAISE and self.operation != "progress":
            raise InvalidInput("the progress callback raises when progress is told, and at no other moment")


@define(frozen=True)
class Life:
    """
    The life of one process that uploads.

    Args:
        faults: what strikes its calls.
        incidents: what happens around it.
        choices: what its scheduler decides; see `Choices`.
        config: how it transfers.
        options: what it asks of the object.
        resume: its attitude to what it finds.
    """

    faults: tuple[Fault, ...] = ()
    incidents: tuple[Incident, ...] = ()
    choices: tuple[int, ...] = ()
    config: TransferConfig = field(factory=TransferConfig)
    options: ObjectOptions = field(factory=ObjectOptions)
    resume: ResumeMode = "auto"


class CallbackBroke(Exception):
    """What the progress callback raises, as a user's own would."""


class TimeIsUp(Exception):
    """What a signal handler raises, as a task queue's would."""


def _time_is_up(_number: int, _frame: FrameType | None) -> None:
    """What is called like this is a signal handler."""
    raise TimeIsUp


#: What comes out of an upload as it was, whatever else is raised.
INTERRUPTS = (KeyboardInterrupt, SystemExit, TimeIsUp)


# --- where the source lies -------------------------------------------------------------------------------------------


@define(frozen=True)
class Version:
    """
    One version of the source.

    Args:
        number: from 0.
        data: all bytes.
    """

    number: int
    data: bytes


class SourcePlace(ABC):
    """
    Where the source lies: each process opens it, and it changes meanwhile.

    Args:
        data: the bytes at first.
    """

    sized: ClassVar[bool] = True
    """Whether its size is known before it was read."""

    seen_changing: ClassVar[bool] = True
    """Whether a process that has opened it sees its changes."""

    reopens: ClassVar[bool] = True
    """Whether a process can read it again from its beginning."""

    def __init__(self, data: bytes) -> None:
        self.versions = [Version(0, data)]

    @property
    def version(self) -> Version:
        """The present version."""
        return self.versions[-1]

    @property
    @abstractmethod
    def name(self) -> str:
        """The source's name."""

    @abstractmethod
    def open(self) -> Source:
        """The source, for one process."""

    def change(self, what: Happening, size: int | None = None) -> None:
        """
        Let it change.

        Args:
            what: how.
            size: the size in bytes that it is to have, where the change leaves that open; None: about half as much
                again, or about two thirds.
        """
        data, number = self.version.data, len(self.versions)
        match what:
            case Happening.GROW:
                data += pseudo_random_bytes(max(1, (len(data) * 3 // 2 if size is None else size) - len(data)), number)
            case Happening.SHRINK:
                data = data[: min(max(0, len(data) - 1), len(data) * 2 // 3 if size is None else size)]
            case Happening.EMPTY:
                data = b""
            case Happening.REWRITE | Happening.REPLACE | Happening.FORGE:
                data = pseudo_random_bytes(len(data), number)
            case Happening.RESTORE:
                data = self.versions[0].data
        self._become(what, data)
        self.versions.append(Version(number, data))

    def close(self) -> None:  # noqa: B027  # most have nothing to remove
        """Remove it. The default leaves it."""

    def _become(self, what: Happening, data: bytes) -> None:  # noqa: B027  # as its docstring says
        """Make the change where the source lies. By default processes open the present version, and that is all."""


class SimulatedFile(SourcePlace):
    """
    A file that is none; see `ChangingSource`.

    Args:
        data: the bytes at first.
        chunk_size: how many bytes a reader gets at a time; None: a tenth of them.
    """

    def __init__(self, data: bytes, chunk_size: int | None = None) -> None:
        super().__init__(data)
        self._source = ChangingSource(data, chunk_size=chunk_size or max(3, len(data) // 10))
        self._origin = (self._source.mtime_ns, self._source.inode)

    @property
    def name(self) -> str:
        """The path."""
        return self._source.name

    def open(self) -> Source:
        """The file as it is, and as it will be."""
        return self._source

    def _become(self, what: Happening, data: bytes) -> None:
        match what:
            case Happening.REPLACE:
                self._source.data = data
                self._source.inode = self._origin[1] + len(self.versions)
            case Happening.FORGE:
                self._source.forge(data)
            case Happening.RESTORE:
                self._source.data = data
                self._source.mtime_ns, self._source.inode = self._origin
            case _:
                self._source.data = data
                # Never a time (or, above, an identity) that was there before.
                self._source.mtime_ns = self._origin[0] + len(self.versions)


class RealFile(SourcePlace):
    """
    A file on the disk.

    Args:
        path: where; it is made.
        data: the bytes at first.
    """

    def __init__(self, path: Path, data: bytes) -> None:
        super().__init__(data)
        self._path = path
        path.write_bytes(data)
        self._set_time(1_700_000_000_000_000_000)

    @property
    def name(self) -> str:
        """The path."""
        return str(self._path)

    def open(self) -> Source:
        """The file."""
        return FileSource(self._path)

    def _become(self, what: Happening, data: bytes) -> None:
        time = self._path.stat().st_mtime_ns
        if what is Happening.REPLACE:
            other = self._path.with_suffix(".other")
            other.write_bytes(data)
            other.replace(self._path)
            self._set_time(time)
        elif what is Happening.RESTORE:
            raise InvalidInput("a file can't get back the identity that it lost")
        else:
            self._path.write_bytes(data)
            self._set_time(time if what is Happening.FORGE else time + 1_000_000_000)

    def _set_time(self, mtime_ns: int) -> None:
        os.utime(self._path, ns=(mtime_ns, mtime_ns))


class SimulatedStream(SourcePlace):
    """
    A stream that each process opens at its beginning.

    Args:
        data: the bytes at first.
        name: "" for a stream that can't be had again.
        spool_above: see `StreamSource`.
    """

    sized = False
    seen_changing = False

    def __init__(self, data: bytes, name: str = "a stream", spool_above: int = 1024) -> None:
        super().__init__(data)
        self._name = name
        self._spool_above = spool_above

    @property
    def name(self) -> str:
        """As it was given."""
        return self._name

    def open(self) -> Source:
        """A stream of the present version."""
        data = self.version.data
        return StreamSource(lambda: io.BytesIO(data), name=self._name, spool_above=self._spool_above)


class SimulatedBytes(SourcePlace):
    """Bytes in memory, which are known again by their checksum."""

    seen_changing = False

    @property
    def name(self) -> str:
        """As `BytesSource` has it."""
        return "bytes"

    def open(self) -> Source:
        """The bytes of the present version."""
        return BytesSource(self.version.data)


# --- storage and store in memory -------------------------------------------------------------------------------------


class MemoryHarness(BackendHarness):
    """
    A bucket in memory.

    Args:
        limits: what it accepts; by default parts from a few bytes on.
        capabilities: what it can do; callbacks are added.
    """

    picklable = False

    def part_size(self, backend: MultipartBackend) -> int:  # noqa: ARG002  # the same whatever the limits
        """A few bytes, so that bodies of several chunks cost little."""
        return 8

    def __init__(self, limits: PartLimits | None = None, capabilities: Capabilities | None = None) -> None:
        super().__init__()
        capabilities = capabilities or DEFAULT_CAPABILITIES
        self.callback_works = True
        self._storage = MemoryBackend(
            "world",
            limits=limits or PartLimits(min_part_size=4, max_part_size=1024),
            capabilities=evolve(capabilities, options=capabilities.options | {"callback"}),
            clock=lambda: 0.0,
            callback=self._callback,
        )

    def open(self) -> MemoryBackend:
        """A handle on the bucket."""
        return self._storage.handle()

    def read(self, key: str) -> bytes | None:
        """The bytes of an object."""
        return self._storage.read(key) if key in self._storage.keys() else None  # noqa: SIM118  # not a mapping

    def _callback(self, stored: StoredObject) -> bytes:
        if not self.callback_works:
            raise ConnectionError(f"nobody listens for {stored.key}")
        return b"heard"


class MemoryStoreHarness(StoreHarness):
    """Checkpoints in memory."""

    durable = False

    def __init__(self) -> None:
        super().__init__()
        self._store = MemoryCheckpointStore()

    def open(self) -> MemoryCheckpointStore:
        """A handle on the memory."""
        return self._store.handle()


# --- a life ----------------------------------------------------------------------------------------------------------


class _Script(FaultPlan):
    """The faults and the incidents of one life."""

    def __init__(self, life: Life, clock: SimulatedClock, occur: Callable[[Happening], None]) -> None:
        super().__init__(life.faults, sleep=clock.advance)
        self._incidents = life.incidents
        self._occur = occur
        self._moments: Counter[str] = Counter()
        self.occurred: list[Incident] = []

    @contextmanager
    def call(
        self, operation: str, subject: str, *, upload_id: str | None = None, part_number: int | None = None
    ) -> Iterator[tuple[Fault, ...]]:
        with super().call(operation, subject, upload_id=upload_id, part_number=part_number) as faults:
            self.moment(operation)
            yield faults

    def moment(self, operation: str) -> None:
        """Let happen what is to happen now."""
        self._moments[operation] += 1
        for incident in self._incidents:
            if (incident.operation, incident.occurrence) == (operation, self._moments[operation]):
                self.occurred.append(incident)
                self._occur(incident.what)


@define(frozen=True)
class Told:
    """
    One report of progress.

    Args:
        progress: the report.
        effects: how much had taken effect on the storage by then.
        asked: how much had been asked of the storage by then.
    """

    progress: Progress
    effects: int
    asked: int


@define(eq=False)
class Lived:
    """
    A life that has ended, and all that is known of it.

    Args:
        life: what was planned.
        process: its number.
        before: how things stood.
        after: how things stand.
        versions: the numbers of the versions of the source that were there in its time.
        changed_at: for each change of the source that it could see, how many calls it had begun by then.
        calls: every call it made, in order, with the faults that struck it.
        occurred: the incidents that happened.
        asked: what it asked of the storage, and what it was told.
        effects: where in the world's history its effects begin.
        effects_end: and where they end.
        reports: what its progress callback was told.
        transports: what sent its parts.
        most_bodies: the most bodies of the source that it held at one time.
        log: what it logged.
        result: what came of it, if it ended well.
        error: what it raised.
        died: whether it died.
    """

    life: Life
    process: int
    before: Situation
    effects: int
    effects_end: int = 0
    after: Situation = field(init=False)
    versions: set[int] = field(factory=set)
    changed_at: list[int] = field(factory=list)
    calls: tuple[Call, ...] = ()
    occurred: tuple[Incident, ...] = ()
    asked: list[Deed] = field(factory=list)
    reports: list[Told] = field(factory=list)
    transports: list[SimulatedTransport] = field(factory=list)
    most_bodies: int = 0
    log: list[str] = field(factory=list)
    result: UploadResult | None = None
    error: BaseException | None = None
    died: bool = False

    @property
    def faults(self) -> tuple[tuple[Call, Fault], ...]:
        """The faults that struck, each with the call that it struck."""
        return tuple((call, fault) for call in self.calls for fault in call.faults)

    def __str__(self) -> str:
        """The life, told line by line."""
        ending = "it died" if self.died else f"{self.result or self.error!r}"
        happened = [f"   ({incident.what.value}, at {incident.operation})" for incident in self.occurred]
        return "\n".join([f"process {self.process}:", *(f"   {call}" for call in self.calls), *happened, ending])


class World:
    """
    One storage, one store, one source, and the processes that come and go.

    Args:
        backend: where the storage is; it is closed with the world.
        store: where checkpoints are kept; likewise.
        source: where the source lies.
        key: the object that is uploaded.
        torn_writes: whether a death in the middle of a write can be planned; the store must write one record after the
            other, and its harness must give the bytes of a record and take others.
        check: is told of each life that has ended, and raises AssertionError if a promise was broken; by default
            `partwise.testing._proof.invariants.check`.
    """

    def __init__(
        self,
        backend: BackendHarness,
        store: StoreHarness,
        source: SourcePlace,
        *,
        key: str = "exampledir/object",
        torn_writes: bool = False,
        check: Callable[[World, Lived], None] | None = None,
    ) -> None:
        self.backend = backend
        self.store = store
        self.source = source
        self.key = backend.prefix + key
        self.clock = SimulatedClock()
        self.history = History()
        self.lives: list[Lived] = []
        self._tear = self._torn if torn_writes else None
        self._check = check or _every_promise
        self._storage = backend.open_for_test()
        self._present: Lived | None = None

    @property
    def limits(self) -> PartLimits:
        """What the storage accepts."""
        return self._storage.limits

    @property
    def capabilities(self) -> Capabilities:
        """What the storage can do."""
        return self._storage.capabilities

    @property
    def name(self) -> str:
        """The name of the one checkpoint."""
        return checkpoint_name(self._storage.location, self.key, self.source.name)

    def records(self, life: Life) -> bool:
        """Whether a process of such a life keeps a checkpoint."""
        return life.resume != "never" and bool(self.source.name)

    def situation(self) -> Situation:
        """How things stand."""
        return Situation(
            self.history.record, self.history.pending(), self.backend.read(self.key), self.source.version.number
        )

    def close(self) -> None:
        """Remove the storage, the store, and the source."""
        self.source.close()
        self.backend.__exit__(None, None, None)
        self.store.__exit__(None, None, None)

    # --- what happens between lives, or in them ----------------------------------------------------------------------

    def change(self, what: Happening, size: int | None = None) -> None:
        """The source changes; see `SourcePlace.change`."""
        self.source.change(what, size)
        if self._present is not None and self.source.seen_changing:
            self._present.versions.add(self.source.version.number)

    def expire(self) -> None:
        """The storage drops every pending upload, as a lifecycle rule does."""
        witness = self._witnessed(self._storage)
        for upload_id in self.history.pending():
            witness.abort_upload(self.key, upload_id)

    def overwrite(self, data: bytes) -> None:
        """Somebody else stores an object under the key."""
        self.history.foreign.append(data)
        self._storage.put_object(self.key, StrictBody(data), ObjectOptions())

    # --- lives -------------------------------------------------------------------------------------------------------

    def live(self, life: Life | None = None) -> Lived:
        """
        Let a process live.

        Raises:
            AssertionError: it broke a promise, whose name the message begins with.
        """
        life = life or Life()
        self.history.begin(recording=self.records(life))
        lived = Lived(life, self.history.process, self.situation(), len(self.history.effects))
        lived.versions.add(self.source.version.number)
        self._present = lived
        try:
            with _logging_to(lived.log):
                self._run(life, lived)
        finally:
            self._present = None
        lived.after = self.situation()
        lived.effects_end = len(self.history.effects)
        self.lives.append(lived)
        self._check(self, lived)
        return lived

    def explain(self, life: Life | None = None) -> tuple[Decision, PartPlan]:
        """What a process of such a life would do. No promise but that nothing is changed."""
        life = life or Life()
        before = self.situation()
        simulation = Simulation(life.choices, self.clock, name="which looks on")
        with self._handles() as (backend, store):
            order = self._order(life, self._witnessed(backend), NotingStore(store, self.history), self.source.open())
            explained = UploadRun(order, simulation.tools(), Control()).explain()
        assert self.situation() == before, "PLAN: a dry run changed something"
        return explained

    def _run(self, life: Life, lived: Lived) -> None:
        control = Control()
        simulation = Simulation(life.choices, self.clock, name=str(lived.process))

        def occur(what: Happening) -> None:
            if what.changes_source and self.source.seen_changing:
                lived.changed_at.append(len(script.calls))
            self._occur(what, control)

        script = _Script(life, self.clock, occur)
        watched = WatchedSource(self.source.open(), lambda: script.moment("chunk"))

        def on_progress(progress: Progress) -> None:
            lived.reports.append(Told(progress, len(self.history.effects), len(lived.asked)))
            script.moment("progress")

        with self._handles() as (backend, store):
            faulty = FaultyBackend(self._witnessed(backend), script)
            asking = NotingBackend(faulty, lived.asked.append, self.clock.monotonic)
            faulty_store = FaultyCheckpointStore(NotingStore(store, self.history), script, tear=self._tear)
            order = evolve(
                self._order(life, asking, faulty_store, FaultySource(watched, script)), on_progress=on_progress
            )
            try:
                lived.result = UploadRun(order, simulation.tools(), control).run()
            except SimulatedCrash:
                lived.died = True
            except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001  # whatever it is, the invariants judge it
                lived.error = error
        lived.calls = script.calls
        lived.occurred = tuple(script.occurred)
        lived.transports = simulation.transports
        lived.most_bodies = watched.most_bodies

    def _order(self, life: Life, backend: MultipartBackend, store: CheckpointStore, source: Source) -> UploadRequest:
        remembering = None if life.resume == "never" else store
        return UploadRequest(backend, remembering, source, self.key, life.options, life.config, life.resume)

    @contextmanager
    def _handles(self) -> Iterator[tuple[MultipartBackend, CheckpointStore]]:
        """A handle on the storage and one on the store, of a process of its own."""
        backend, store = self.backend.open(), self.store.open()
        try:
            yield backend, store
        finally:
            backend.close()
            if callable(close := getattr(store, "close", None)):
                close()

    def _torn(self, name: str) -> None:
        """The end of the last record is lost, as in a death in the middle of writing it."""
        data = self.store.read_record(name)
        assert data is not None, "torn writes need a harness that gives the bytes of a record"
        self.store.write_record(name, data[:-2])
        self.history.tear()

    def _witnessed(self, backend: MultipartBackend) -> NotingBackend:
        return NotingBackend(backend, self.history.took_effect, self.clock.monotonic)

    def _occur(self, what: Happening, control: Control) -> None:
        if what.changes_source:
            self.change(what)
            return
        match what:
            case Happening.PAUSE:
                control.pause()
            case Happening.CANCEL:
                control.cancel()
            case Happening.INTERRUPT:
                raise KeyboardInterrupt
            case Happening.EXIT:
                raise SystemExit(0)
            case Happening.TIME_LIMIT:
                _time_is_up(signal.SIGTERM, inspect.currentframe())
            case Happening.RAISE:
                raise CallbackBroke("the user's own")
            case Happening.EXPIRY:
                self.expire()
            case Happening.SECOND_UPLOADER:
                self._second_uploader()

    def _second_uploader(self) -> None:
        """Another process tries the same upload; while somebody holds the claim it must be refused, and do nothing."""
        if not self.history.claimed:
            return
        before = self.situation()
        simulation = Simulation(clock=self.clock, name="which comes second")
        asked: list[Deed] = []
        with self._handles() as (backend, store):
            asking = NotingBackend(backend, asked.append, self.clock.monotonic)
            order = self._order(Life(), asking, store, self.source.open())
            try:
                outcome: object = UploadRun(order, simulation.tools(), Control()).run()
            except CheckpointBusy:
                outcome = None
            except Exception as error:  # noqa: BLE001  # whatever it is, it is not what it should be
                outcome = error
        if outcome is not None or asked or self.situation() != before:
            self.history.problems.append(
                f"ONE-OWNER: a second uploader was not refused at once, but ended with {outcome!r} and asked {asked}"
            )


def _every_promise(world: World, lived: Lived) -> None:
    from partwise.testing._proof.invariants import check  # which is about worlds, and imports this module

    check(world, lived)


@contextmanager
def _logging_to(lines: list[str]) -> Iterator[None]:
    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.getMessage()} {record.__dict__.get('key')} {record.__dict__.get('upload_id')}")

    logger, handler = logging.getLogger("partwise"), Lines()
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        logger.setLevel(level)
