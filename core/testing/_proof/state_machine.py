"""
A state machine that looks for a sequence of failures that breaks a promise of the engine.

Each step is the life of a process, or something that happens between two of them. Hypothesis draws what strikes the
process, in which order its parts finish, when it dies; and cuts a sequence that fails down to a short one, which can be
written down as a test, since every step is a call of `World` with a value.

The promises are those of `partwise.testing._proof.invariants`. To hold them against a backend or a store of
your own, name
the harness that its conformance suite uses:

    class MyMachine(ResumeMachine):
        backend = MyBackendHarness
        store = MyStoreHarness

    TestResume = MyMachine.TestCase
    TestResume.settings = settings(max_examples=100, stateful_step_count=8)

Needs hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

from attrs import define, evolve
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from partwise._engine.context import ResumeMode
from partwise._engine.reconcile import AlreadyStored, Resume
from partwise.config import TransferConfig
from partwise.errors import OutcomeUnknown, UploadNotFound
from partwise.model import Callback, ObjectOptions
from partwise.testing._proof.scenario import (
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
from partwise.testing.conformance_backend import BackendHarness
from partwise.testing.conformance_store import StoreHarness
from partwise.testing.fakes import pseudo_random_bytes
from partwise.testing.faults import OPERATIONS, Fault, FaultKind
from partwise.testing.strategies import faults

# What an upload calls.
_CALLED = tuple(operation for operation in OPERATIONS if operation not in {"list_uploads", "scan"})
_DEATHS = frozenset({FaultKind.CRASH_BEFORE, FaultKind.CRASH_AFTER})
_FAILURES = frozenset(FaultKind) - _DEATHS
_MEANWHILE = (
    Happening.PAUSE,
    Happening.CANCEL,
    Happening.INTERRUPT,
    Happening.EXIT,
    Happening.TIME_LIMIT,
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
    Happening.FORGE,
)
_CALLBACK = Callback("http://127.0.0.1/told", "object=${object}")
_OPTIONS = {
    "plain": ObjectOptions(),
    "metadata": ObjectOptions(metadata={"made": "otherwise"}),
    "acl": ObjectOptions(acl="private"),
    "forbid_overwrite": ObjectOptions(forbid_overwrite=True),
    "callback": ObjectOptions(callback=_CALLBACK),
}


@define(frozen=True)
class Manner:
    """
    How a process goes about its upload, whatever befalls it.

    Args:
        schedule: the decisions of its scheduler; see `partwise.testing._proof.simulation.Choices`.
        resume: its attitude to what it finds.
        concurrency: parts under way at once.
        max_attempts: see `TransferConfig`.
        more: bytes by which the part size that it asks for is larger than that of others.
        in_one_piece: whether sources of less than two parts go in one piece.
        keep_matching: whether matching parts of a source that changed are kept.
        options: what is asked of the object, by name.
        callback_works: whether the application server that is called back answers.
    """

    schedule: tuple[int, ...] = ()
    resume: ResumeMode = "auto"
    concurrency: int = 2
    max_attempts: int = 5
    more: int = 0
    in_one_piece: bool = False
    keep_matching: bool = False
    options: str = "plain"
    callback_works: bool = True


def manners() -> st.SearchStrategy[Manner]:
    """Ways to go about an upload, most of them much alike."""
    return st.builds(
        Manner,
        schedule=st.lists(st.integers(0, 5), max_size=30).map(tuple),
        resume=st.sampled_from(("auto",) * 8 + ("require", "never")),
        concurrency=st.sampled_from((2, 2, 1, 3)),
        max_attempts=st.sampled_from((5, 5, 2, 1)),
        more=st.sampled_from((0, 0, 0, 1, 3)),
        in_one_piece=st.sampled_from((False, False, False, True)),
        keep_matching=st.sampled_from((False, False, True)),
        options=st.sampled_from(("plain",) * 6 + tuple(_OPTIONS)),
        callback_works=st.booleans(),
    )


def incidents() -> st.SearchStrategy[tuple[Incident, ...]]:
    """What happens around one process."""
    moments = st.sampled_from((*_CALLED, "chunk", "progress"))
    meanwhile = st.builds(Incident, moments, st.sampled_from(_MEANWHILE), st.integers(1, 6))
    raising = st.builds(Incident, st.just("progress"), st.just(Happening.RAISE), st.integers(1, 5))
    return st.lists(st.one_of(meanwhile, meanwhile, meanwhile, raising), min_size=1, max_size=2).map(tuple)


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
        self.part_size = backend.part_size(backend.open_for_test())
        make = self.sources[source % len(self.sources)]
        place = make(pseudo_random_bytes(max(0, parts * self.part_size + rest), "first"))
        self._world = World(backend, store, place, torn_writes=self.torn_writes)
        self.verify = verify

    @rule(death=faults(_CALLED, _DEATHS, occurrence_max=10), manner=manners())
    def killed(self, death: Fault, manner: Manner) -> None:
        """A process is killed before it is done."""
        self._live(self._life(manner, faults=(death,)))

    @rule(
        struck=st.lists(faults(_CALLED, _FAILURES, occurrence_max=5), min_size=1, max_size=4).map(tuple),
        death=st.none() | faults(_CALLED, _DEATHS, occurrence_max=6),
        manner=manners(),
    )
    def struck(self, struck: tuple[Fault, ...], death: Fault | None, manner: Manner) -> None:
        """What a process calls fails, and perhaps it dies in the middle of that."""
        self._live(self._life(manner, faults=self._possible(*struck, death)))

    @rule(
        happening=incidents(),
        fault=st.none() | faults(_CALLED, _FAILURES, occurrence_max=5),
        manner=manners(),
    )
    def interrupted(self, happening: tuple[Incident, ...], fault: Fault | None, manner: Manner) -> None:
        """Something happens around a process: a pause, a change of the source, a second uploader."""
        self._live(self._life(manner, faults=self._possible(fault), incidents=happening))

    @rule(what=st.sampled_from(_BETWEEN), parts=st.integers(0, 4), rest=st.sampled_from((1, 0, -1)))
    def change(self, what: Happening, parts: int, rest: int) -> None:
        """The source changes while nobody looks."""
        # A change that leaves no trace but other bytes is only noticed by those who look at the bytes.
        if what is Happening.FORGE and self.verify != "content":
            what = Happening.REWRITE
        self.world.change(what, max(0, parts * self.part_size + rest))

    @rule(what=st.sampled_from(("expiry", "foreign", "same")))
    def elsewhere(self, what: str) -> None:
        """The storage drops the pending uploads, or somebody else stores an object: any, or one of the same bytes."""
        data = self.world.source.version.data
        if what == "expiry":
            self.world.expire()
        else:
            self.world.overwrite(data if what == "same" else pseudo_random_bytes(len(data), "foreign"))

    @rule(manner=manners())
    def explain(self, manner: Manner) -> None:
        """A dry run changes nothing, and what it says is what a process that nothing befalls then does."""
        life = self._life(evolve(manner, max_attempts=5, resume="auto", callback_works=True))
        decision, _ = self.world.explain(life)
        lived = self._live(life)
        sent = {deed.part_number for deed in lived.asked if deed.operation == "upload_part"}
        if isinstance(decision, Resume) and not self._lost_on_the_way(lived):
            planned = {verdict.part_number for verdict in decision.parts if verdict.action == "send"}
            assert sent == planned, f"PLAN: parts {planned} were to be sent, and {sent} were\n{lived}"
        elif isinstance(decision, AlreadyStored):
            assert not sent, f"PLAN: nothing was to be sent\n{lived}"

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
        peace = self._life(Manner())
        lived = self._live(peace)
        if isinstance(lived.error, OutcomeUnknown):
            assert not self.world.capabilities.object_checksums, f"EXACT: something tells, and nobody asked\n{lived}"
            lived = self._live(evolve(peace, resume="never"))
        assert lived.result is not None, f"RETRY: nothing befell it, and it failed\n{lived}"

    def _lost_on_the_way(self, lived: Lived) -> bool:
        """Whether the storage, which can't list parts, only then let it be known that it has none of them."""
        return not self.world.capabilities.lists_parts and any(
            isinstance(deed.error, UploadNotFound) for deed in lived.asked
        )

    def _possible(self, *drawn: Fault | None) -> tuple[Fault, ...]:
        """Those faults that were drawn and can happen to this store."""
        faults = (fault for fault in drawn if fault is not None)
        return tuple(fault for fault in faults if self.torn_writes or fault.kind is not FaultKind.TORN_WRITE)

    def _life(self, manner: Manner, *, faults: tuple[Fault, ...] = (), incidents: tuple[Incident, ...] = ()) -> Life:
        options = _OPTIONS[manner.options]
        if hasattr(self.world.backend, "callback_works"):
            self.world.backend.callback_works = manner.callback_works
        elif options.callback is not None:
            options = ObjectOptions()  # nobody plays the server that would be called
        return Life(
            faults,
            incidents,
            manner.schedule,
            TransferConfig(
                part_size=self.part_size + manner.more,
                multipart_threshold=2 * self.part_size if manner.in_one_piece else 0,
                concurrency=manner.concurrency,
                max_attempts=manner.max_attempts,
                verify_source=self.verify,
                on_source_change="keep-matching" if manner.keep_matching else "restart",
            ),
            options if options.explicitly_set() <= self.world.capabilities.options else ObjectOptions(),
            manner.resume,
        )

    def _live(self, life: Life) -> Lived:
        self._broken = True  # until it has ended, and broken no promise
        lived = self.world.live(life)
        self._broken = False
        return lived
