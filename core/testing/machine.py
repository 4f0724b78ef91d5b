"""
A state machine that looks for a sequence of failures that breaks a promise of the engine.

Each step is the life of a process, or something that happens between two of them. Hypothesis draws what strikes the
process, in which order its parts finish, when it dies; and cuts a sequence that fails down to a short one, which can be
written down as a test, since every step is a call of `World` with a value.

The promises are those of `partwise.testing.invariants`. To hold them against a backend or a store of your own, name
the harness that its conformance suite uses:

    class MyMachine(ResumeMachine):
        backend = MyBackendHarness
        store = MyStoreHarness

    TestResume = MyMachine.TestCase

Needs hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from partwise.config import TransferConfig
from partwise.errors import OutcomeUnknown
from partwise.ledger import AlreadyStored, Resume
from partwise.model import Callback, ObjectOptions
from partwise.run import ResumeMode
from partwise.testing.bodies import filler
from partwise.testing.conformance_backend import BackendHarness
from partwise.testing.conformance_store import StoreHarness
from partwise.testing.faults import BACKEND_OPERATIONS, OPERATIONS, Fault, FaultKind
from partwise.testing.strategies import faults
from partwise.testing.worlds import (
    Happening,
    Incident,
    Life,
    Lived,
    MemoryHarness,
    MemoryStoreHarness,
    SimulatedBytes,
    SimulatedFile,
    SimulatedStream,
    SourcePlace,
    World,
)

# What an upload calls.
_CALLED = tuple(operation for operation in OPERATIONS if operation not in {"list_uploads", "scan"})
_KINDS = frozenset(FaultKind) - {FaultKind.TORN_WRITE}
_DEATHS = frozenset({FaultKind.DEATH_BEFORE, FaultKind.DEATH_AFTER})
_MEANWHILE = (
    Happening.PAUSE,
    Happening.CANCEL,
    Happening.SECOND_UPLOADER,
    Happening.EXPIRY,
    Happening.GROW,
    Happening.SHRINK,
    Happening.EMPTY,
    Happening.REWRITE,
    Happening.REPLACE,
    Happening.TOUCH,
)
_BETWEEN = (
    Happening.GROW,
    Happening.SHRINK,
    Happening.EMPTY,
    Happening.REWRITE,
    Happening.REPLACE,
    Happening.TOUCH,
    Happening.RESTORE,
)
_CALLBACK = Callback("http://127.0.0.1/told", "object=${object}")


def fault_tuples() -> st.SearchStrategy[tuple[Fault, ...]]:
    """What strikes one process: nothing, a lost answer, a few faults, its death, or both."""
    any_fault = faults(_CALLED, _KINDS - _DEATHS, occurrence_max=8)
    death = faults(_CALLED, _DEATHS, occurrence_max=10)
    return st.one_of(
        st.just(()),
        st.tuples(faults(BACKEND_OPERATIONS, {FaultKind.AFTER}, occurrence_max=6)),
        st.tuples(death),
        st.lists(any_fault, min_size=1, max_size=4).map(tuple),
        st.tuples(any_fault, death),
    )


def incident_tuples() -> st.SearchStrategy[tuple[Incident, ...]]:
    """What happens around one process: mostly nothing, since what is interrupted meets few faults."""
    moments = st.sampled_from((*_CALLED, "chunk", "progress"))
    meanwhile = st.builds(Incident, moments, st.sampled_from(_MEANWHILE), st.integers(1, 8))
    raising = st.builds(Incident, st.just("progress"), st.just(Happening.RAISE), st.integers(1, 6))
    return st.one_of(st.just(()), st.just(()), st.lists(meanwhile | raising, min_size=1, max_size=2).map(tuple))


def schedules() -> st.SearchStrategy[tuple[int, ...]]:
    """The decisions of one process's scheduler; see `partwise.testing.simulation.Choices`."""
    return st.lists(st.integers(0, 5), max_size=30).map(tuple)


class ResumeMachine(RuleBasedStateMachine):
    """
    Any sequence of lives, over one backend, one store and one source.

    Subclass it, and name the harnesses. Each sequence has its own.
    """

    backend: ClassVar[Callable[[], BackendHarness]] = MemoryHarness
    """Makes the harness of the backend, whose storage is empty at first."""

    store: ClassVar[Callable[[], StoreHarness]] = MemoryStoreHarness
    """Makes the harness of the store, which is empty at first."""

    sources: ClassVar[tuple[Callable[[bytes], SourcePlace], ...]] = (SimulatedFile, SimulatedStream, SimulatedBytes)
    """Where the source may lie; one of them is drawn for each sequence."""

    torn_writes: ClassVar[bool] = False
    """Whether the store writes one record after the other, so that a death can tear the last one."""

    def __init__(self) -> None:
        super().__init__()
        self._world: World | None = None
        self._broken = False

    @property
    def world(self) -> World:
        """The world of this sequence."""
        assert self._world is not None
        return self._world

    @initialize(
        source=st.sampled_from((0, 0, 0, 1, 2)),
        parts=st.sampled_from((3, 2, 1, 4, 0)),
        rest=st.sampled_from((1, 0, -1)),
        verify=st.sampled_from(("metadata", "metadata", "content")),
    )
    def begin(self, source: int, parts: int, rest: int, verify: Literal["metadata", "content"]) -> None:
        """A source lies somewhere; there is neither object nor upload."""
        backend, store = type(self).backend(), type(self).store()
        self.part_size = backend.part_size(backend.opened())
        make = self.sources[source % len(self.sources)]
        place = make(filler(max(0, parts * self.part_size + rest), "first"))
        self._world = World(backend, store, place, torn_writes=self.torn_writes)
        self.verify = verify

    @rule(
        faults=fault_tuples(),
        incidents=incident_tuples(),
        schedule=schedules(),
        resume=st.sampled_from(("auto", "auto", "auto", "require", "never")),
        more=st.sampled_from((0, 0, 0, 1, 3)),
        in_one_piece=st.sampled_from((False, False, False, True)),
        concurrency=st.sampled_from((2, 1, 3)),
        max_attempts=st.sampled_from((5, 2, 1)),
        keep_matching=st.sampled_from((False, False, True)),
        options=st.sampled_from(("plain", "plain", "plain", "metadata", "acl", "forbid_overwrite", "callback")),
        callback_works=st.booleans(),
    )
    def live(
        self,
        *,
        faults: tuple[Fault, ...],
        incidents: tuple[Incident, ...],
        schedule: tuple[int, ...],
        resume: ResumeMode,
        more: int,
        in_one_piece: bool,
        concurrency: int,
        max_attempts: int,
        keep_matching: bool,
        options: str,
        callback_works: bool,
    ) -> None:
        """A process uploads, and something befalls it."""
        self.world.backend.__dict__["callback_works"] = callback_works
        config = TransferConfig(
            part_size=self.part_size + more,
            multipart_threshold=2 * self.part_size if in_one_piece else 0,
            concurrency=concurrency,
            max_attempts=max_attempts,
            verify_source=self.verify,
            on_source_change="keep-matching" if keep_matching else "restart",
        )
        self._live(Life(faults, incidents, schedule, config, self._options(options), resume))

    @rule(what=st.sampled_from(_BETWEEN), parts=st.integers(0, 4), rest=st.sampled_from((1, 0, -1)))
    def change(self, what: Happening, parts: int, rest: int) -> None:
        """The source changes while nobody looks."""
        self.world.change(what, max(0, parts * self.part_size + rest))

    @precondition(lambda self: self.verify == "content")
    @rule()
    def forge(self) -> None:
        """The source changes so that only its bytes tell, and they are looked at."""
        self.world.change(Happening.FORGE)

    @rule()
    def expire(self) -> None:
        """The storage drops every pending upload."""
        self.world.expire()

    @rule(same=st.booleans())
    def overwrite(self, same: bool) -> None:
        """Somebody else stores an object of the same size, or even of the same bytes."""
        data = self.world.source.version.data
        self.world.overwrite(data if same else filler(len(data), "foreign"))

    @rule(more=st.sampled_from((0, 1)))
    def explain(self, more: int) -> None:
        """A dry run changes nothing, and what it says is what the next process does."""
        life = self._peaceful(more)
        decision, _ = self.world.explain(life)
        if isinstance(decision, Resume):
            lived = self._live(life)
            planned = {verdict.part_number for verdict in decision.verdicts if verdict.action == "send"}
            sent = {deed.part_number for deed in lived.asked if deed.operation == "upload_part"}
            assert sent == planned, f"PLAN: parts {planned} were to be sent, and {sent} were\n{lived}"
        elif isinstance(decision, AlreadyStored):
            lived = self._live(life)
            assert not [d for d in lived.asked if d.data], f"PLAN: nothing was to be sent\n{lived}"

    def teardown(self) -> None:
        """Whatever happened: a process that nothing befalls gets the upload done, and leaves nothing behind."""
        if self._world is None:
            return
        try:
            if not self._broken:
                self._ends_well()
        finally:
            self._world.close()

    def _ends_well(self) -> None:
        lived = self._live(self._peaceful())
        if isinstance(lived.error, OutcomeUnknown):
            assert not self.world.capabilities.object_checksums, f"EXACT: something tells, and nobody asked\n{lived}"
            lived = self._live(Life(config=self._peaceful().config, resume="never"))
        assert lived.result is not None, f"RETRY: nothing befell it, and it failed\n{lived}"

    def _peaceful(self, more: int = 0) -> Life:
        self.world.backend.__dict__["callback_works"] = True
        return Life(
            config=TransferConfig(
                part_size=self.part_size + more, multipart_threshold=0, concurrency=2, verify_source=self.verify
            )
        )

    def _live(self, life: Life) -> Lived:
        self._broken = True
        lived = self.world.live(life)
        self._broken = False
        return lived

    def _options(self, kind: str) -> ObjectOptions:
        options = {
            "metadata": ObjectOptions(metadata={"made": "otherwise"}),
            "acl": ObjectOptions(acl="private"),
            "forbid_overwrite": ObjectOptions(forbid_overwrite=True),
            "callback": ObjectOptions(callback=_CALLBACK),
        }.get(kind, ObjectOptions())
        return options if options.given() <= self.world.capabilities.options else ObjectOptions()
