"""
A state machine that searches for failures that break a promise.

Each step is one process, or an event between two of them. Hypothesis draws the faults of the process, the order in
which its parts finish, and when it crashes. A failing sequence is shrunk to a short one, which can be written down as a
test, since every step is a call of `Scenario` with a value.

The promises are those of `partwise.testing._proof.invariants`. To test the engine with another backend or store, name
the harness of its conformance suite:

    class MyMachine(ResumeMachine):
        backend = MyBackendHarness
        store = MyStoreHarness

    TestResume = MyMachine.TestCase
    TestResume.settings = settings(max_examples=100, stateful_step_count=8)

With large parts, shrinking takes minutes; ``run_machine(MyMachine, 100, steps=8)`` ends it within one.

Needs hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from functools import partial
from types import MappingProxyType
from typing import ClassVar, Literal

from attrs import define, evolve
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from partwise._engine.context import ResumeMode
from partwise._engine.reconcile import AlreadyStored, Resume
from partwise.backends.oss import Callback, OSSOptions
from partwise.config import TransferConfig
from partwise.errors import InvalidInput, OutcomeUnknown, UploadNotFound
from partwise.model import ObjectOptions
from partwise.testing._proof.events import Event, ProcessScript, ProcessTrace, ScheduledEvent
from partwise.testing._proof.invariants import INVARIANTS, check
from partwise.testing._proof.scenario import MemoryHarness, MemoryStoreHarness, Scenario
from partwise.testing._proof.sources import ScenarioSource, SimulatedBytes, SimulatedFile, SimulatedStream
from partwise.testing.conformance.machines import BoundedMachine
from partwise.testing.conformance_backend import BackendHarness
from partwise.testing.conformance_store import StoreHarness
from partwise.testing.fakes import pseudo_random_bytes
from partwise.testing.faults import OPERATIONS, Fault, FaultKind
from partwise.testing.strategies import faults

__all__ = ["ResumeMachine"]

# The operations that an upload calls: for each part, or once or twice.
_FOR_EACH_PART = ("fingerprint", "body", "read", "upload_part", "append_part", "check_claim")
_SELDOM = tuple(name for name in OPERATIONS if name not in {*_FOR_EACH_PART, "list_uploads", "scan"})
_CRASHES = frozenset({FaultKind.CRASH_BEFORE, FaultKind.CRASH_AFTER})
_FAILURES = frozenset(FaultKind) - _CRASHES
_STOPS = (Event.PAUSE, Event.CANCEL, Event.INTERRUPT, Event.EXIT, Event.TIME_LIMIT)
_CHANGES = (Event.GROW, Event.SHRINK, Event.EMPTY, Event.REWRITE, Event.EDIT, Event.REPLACE, Event.TOUCH)
_DURING_A_RUN = (*_STOPS, Event.SECOND_UPLOADER, Event.EXPIRY, *_CHANGES)
_BETWEEN_RUNS = (*_CHANGES, Event.RESTORE, Event.FORGE)
_CALLBACK = Callback("http://127.0.0.1/callback", "object=${object}")
# Those that the machine checks itself, besides the invariants.
_OWN_PROMISES = frozenset({"PLAN", "EXACT", "RETRY"})
_OPTIONS = {
    "plain": ObjectOptions(),
    "metadata": ObjectOptions(metadata={"made": "otherwise"}),
    "acl": ObjectOptions(acl="private"),
    "forbid_overwrite": ObjectOptions(forbid_overwrite=True),
    "callback": OSSOptions(callback=_CALLBACK),
}


@define(frozen=True)
class RunParameters:
    """How a process uploads, whatever happens to it."""

    schedule: tuple[int, ...] = ()  # the decisions of its scheduler; see `partwise.testing._proof.simulation.Choices`
    resume: ResumeMode = "auto"
    concurrency: int = 2
    max_attempts: int | None = None
    more: int = 0  # by how many bytes its part size exceeds that of the other processes
    in_one_piece: bool = False  # whether sources smaller than two parts are sent by a single put
    keep_matching: bool = False  # whether matching parts of a changed source are kept
    options: str = "plain"  # the object options, by name
    callback_works: bool = True  # whether the application server responds to the upload callback


def run_parameters() -> st.SearchStrategy[RunParameters]:
    """Return a strategy for run parameters, most of them the defaults."""
    return st.builds(
        RunParameters,
        schedule=st.binary(max_size=30).map(tuple),  # one draw, where a list of integers takes one for each
        resume=st.sampled_from(("auto",) * 8 + ("require", "never")),
        concurrency=st.sampled_from((2, 2, 1, 3)),
        max_attempts=st.sampled_from((None, None, 2, 1)),
        more=st.sampled_from((0, 0, 0, 1, 3)),
        in_one_piece=st.sampled_from((False, False, False, True)),
        keep_matching=st.sampled_from((False, False, True)),
        options=st.sampled_from(("plain",) * 6 + tuple(_OPTIONS)),
        callback_works=st.booleans(),
    )


def reached_faults(kinds: Collection[FaultKind], occurrence_max: int) -> st.SearchStrategy[Fault]:
    """Return a strategy for faults at calls that most processes make."""
    # A process makes most calls once: of their later occurrences, hardly any would be reached.
    return faults(_FOR_EACH_PART, kinds, occurrence_max=occurrence_max) | faults(_SELDOM, kinds, occurrence_max=2)


def scheduled_events() -> st.SearchStrategy[tuple[ScheduledEvent, ...]]:
    """Return a strategy for one or two events during a run."""
    events, points = st.sampled_from(_DURING_A_RUN), st.sampled_from((*_FOR_EACH_PART, "chunk", "progress", "event"))
    often = st.builds(ScheduledEvent, points, events, st.integers(1, 6))
    seldom = st.builds(ScheduledEvent, st.sampled_from(_SELDOM), events, st.integers(1, 2))
    callbacks = st.sampled_from(("progress", "event"))
    raising = st.builds(ScheduledEvent, callbacks, st.just(Event.RAISE), st.integers(1, 5))
    return st.lists(often | seldom | raising, min_size=1, max_size=2).map(tuple)


class ResumeMachine(BoundedMachine):
    """
    Any sequence of processes over one backend, one store and one source.

    Subclass it and set the harnesses. Each sequence creates its own.
    """

    backend: ClassVar[Callable[[], BackendHarness]] = MemoryHarness
    """Creates the harness of the backend, with an empty storage."""

    store: ClassVar[Callable[[], StoreHarness]] = MemoryStoreHarness
    """Creates the harness of the store, which is empty."""

    sources: ClassVar[tuple[Callable[[bytes], ScenarioSource], ...]] = (SimulatedFile, SimulatedStream, SimulatedBytes)
    """The kinds of source; one is drawn for each sequence."""

    deviations: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """
    Promises that this backend or store can't keep: the name, as messages begin with it (``"EXACT"``, ``"RETRY"``), and
    the reason. They are not checked.
    """

    torn_writes: ClassVar[bool] = False
    """Whether the store appends to its records, so that a crash can tear the last one."""

    def __init__(self) -> None:
        super().__init__()
        self._scenario: Scenario | None = None
        self._broken = False

    @property
    def scenario(self) -> Scenario:
        """The scenario of this sequence."""
        assert self._scenario is not None
        return self._scenario

    @initialize(
        source=st.sampled_from((0, 0, 0, 1, 2)),
        parts=st.sampled_from((3, 2, 1, 4, 0)),
        rest=st.sampled_from((1, 0, -1)),
        verify=st.sampled_from(("metadata", "metadata", "content")),
    )
    def begin(self, source: int, parts: int, rest: int, verify: Literal["metadata", "content"]) -> None:
        """Create a source; there is neither object nor upload."""
        if unknown := sorted(self.deviations.keys() - INVARIANTS.keys() - _OWN_PROMISES):
            raise InvalidInput(f"unknown promises in deviations: {', '.join(unknown)}")
        backend, store = type(self).backend(), type(self).store()
        opened = backend.open_for_test()
        self.limits = opened.limits
        self.part_size = backend.part_size(opened)
        make = self.sources[source % len(self.sources)]
        data = pseudo_random_bytes(self._size(parts, rest), "first")
        checked = partial(check, except_for=self.deviations.keys())
        self._scenario = Scenario(backend, store, make(data), torn_writes=self.torn_writes, check=checked)
        self.verify = verify

    @rule(crash=reached_faults(_CRASHES, 6), parameters=run_parameters())
    def killed(self, crash: Fault, parameters: RunParameters) -> None:
        """Run a process that crashes before it is done."""
        self._run(self._script(parameters, faults=(crash,)))

    @rule(
        failures=st.lists(reached_faults(_FAILURES, 5), min_size=1, max_size=4).map(tuple),
        crash=st.none() | reached_faults(_CRASHES, 6),
        parameters=run_parameters(),
    )
    def failing(self, failures: tuple[Fault, ...], crash: Fault | None, parameters: RunParameters) -> None:
        """Run a process whose calls fail, and that may crash as well."""
        self._run(self._script(parameters, faults=self._possible(*failures, crash)))

    @rule(
        events=scheduled_events(),
        fault=st.none() | reached_faults(_FAILURES, 5),
        parameters=run_parameters(),
    )
    def interrupted(self, events: tuple[ScheduledEvent, ...], fault: Fault | None, parameters: RunParameters) -> None:
        """Run a process with a pause, a changed source or a second uploader."""
        self._run(self._script(parameters, faults=self._possible(fault), events=events))

    @rule(event=st.sampled_from(_BETWEEN_RUNS), parts=st.integers(0, 4), rest=st.sampled_from((1, 0, -1)))
    def change(self, event: Event, parts: int, rest: int) -> None:
        """Change the source while no process runs."""
        # FORGE changes nothing but the bytes, which only a process that compares bytes can notice.
        if event is Event.FORGE and self.verify != "content":
            event = Event.REWRITE
        self.scenario.change(event, self._size(parts, rest))

    @rule(what=st.sampled_from(("expiry", "foreign", "same")))
    def elsewhere(self, what: str) -> None:
        """Drop the pending uploads, or store another object, or the same, at the key."""
        data = self.scenario.source.version.data
        if what == "expiry":
            self.scenario.expire()
        else:
            if what == "foreign" or len(data) > self.limits.max_put_size:
                data = pseudo_random_bytes(min(len(data), self.limits.max_put_size), "foreign")
            self.scenario.overwrite(data)

    @rule(parameters=run_parameters())
    def explain(self, parameters: RunParameters) -> None:
        """Compare a dry run with what an undisturbed process then does."""
        script = self._script(evolve(parameters, max_attempts=None, resume="auto", callback_works=True))
        decision, _ = self.scenario.explain(script)
        trace = self._run(script)
        sent = {call.part_number for call in trace.backend_calls if call.operation == "upload_part"}
        if "PLAN" in self.deviations:
            return
        if isinstance(decision, Resume) and not self._found_the_upload_lost(trace):
            planned = {part.part_number for part in decision.parts if part.action == "send"}
            assert sent == planned, f"PLAN: parts {planned} were to be sent, and {sent} were\n{trace}"
        elif isinstance(decision, AlreadyStored):
            assert not sent, f"PLAN: nothing was to be sent\n{trace}"

    def teardown(self) -> None:
        """Run an undisturbed process, which succeeds and leaves nothing behind."""
        if self._scenario is None:
            return
        with closing(self._scenario):
            if not self._broken:
                self._ends_well()

    def _ends_well(self) -> None:
        undisturbed = self._script(RunParameters())
        trace = self._run(undisturbed)
        if isinstance(trace.error, OutcomeUnknown):
            checksums = self.scenario.capabilities.object_checksums
            assert not checksums or "EXACT" in self.deviations, (
                f"EXACT: the checksum of the object decides, and it was not requested\n{trace}"
            )
            trace = self._run(evolve(undisturbed, resume="never"))
        assert trace.result is not None or "RETRY" in self.deviations, (
            f"RETRY: nothing disturbed it, and it failed\n{trace}"
        )

    def _found_the_upload_lost(self, trace: ProcessTrace) -> bool:
        """Return whether it could learn only during the run that the upload is lost."""
        return not self.scenario.capabilities.lists_parts and any(
            isinstance(call.error, UploadNotFound) for call in trace.backend_calls
        )

    def _possible(self, *drawn: Fault | None) -> tuple[Fault, ...]:
        """Return those faults that were drawn and that can be injected into this store."""
        faults = (fault for fault in drawn if fault is not None)
        return tuple(fault for fault in faults if self.torn_writes or fault.kind is not FaultKind.TORN_WRITE)

    def _script(
        self, parameters: RunParameters, *, faults: tuple[Fault, ...] = (), events: tuple[ScheduledEvent, ...] = ()
    ) -> ProcessScript:
        options = _OPTIONS[parameters.options]
        if hasattr(self.scenario.backend, "callback_works"):
            self.scenario.backend.callback_works = parameters.callback_works
        elif isinstance(options, OSSOptions):
            options = ObjectOptions()  # this harness has no application server to call back
        return ProcessScript(
            faults,
            events,
            parameters.schedule,
            TransferConfig(
                part_size=min(self.part_size + parameters.more, self.limits.max_part_size),
                multipart_threshold=min(2 * self.part_size, self.limits.max_put_size) if parameters.in_one_piece else 0,
                concurrency=parameters.concurrency,
                max_attempts=parameters.max_attempts,
                verify_source=self.verify,
                on_source_change="keep-matching" if parameters.keep_matching else "restart",
            ),
            options if options.explicitly_set() <= self.scenario.capabilities.options else ObjectOptions(),
            parameters.resume,
        )

    def _size(self, parts: int, rest: int) -> int:
        """Return the bytes of some parts and a rest, within the limits of the backend."""
        most = min(self.limits.max_object_size, self.limits.max_parts * self.part_size)
        return min(max(0, parts * self.part_size + rest), most)

    def _run(self, script: ProcessScript) -> ProcessTrace:
        self._broken = True  # until the process has ended without breaking a promise
        trace = self.scenario.run(script)
        self._broken = False
        return trace
