"""
Every instant at which a process can crash or a call can fail, one after the other, for small uploads.

An upload is a few dozen calls of its storage, its store and its source. For each call, the process crashes just before
it takes effect or just after; or the call fails without effect, or takes effect and its response is lost. Then another
process runs undisturbed. After every process, every promise of `partwise.testing._proof.invariants` is checked; these
tests also count how many parts were sent again, and check that nothing is left behind.

Simulated processes are deterministic. So where several instants leave an equal state (`Scenario.state`), one
process continues from it, and each instant is judged with what that process did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache

import pytest
from attrs import define, evolve
from toys.harnesses import SHAPES

from partwise import PartwiseError, SourceChanged, TransferConfig
from partwise.testing._proof.events import CallbackBroke, Event, ProcessScript, ProcessTrace, ScheduledEvent
from partwise.testing._proof.invariants import check
from partwise.testing._proof.scenario import MemoryHarness, MemoryStoreHarness, Scenario
from partwise.testing._proof.sources import ScenarioSource, SimulatedFile, SimulatedStream
from partwise.testing.fakes import pseudo_random_bytes
from partwise.testing.faults import (
    BACKEND_OPERATIONS,
    OPERATIONS,
    SOURCE_OPERATIONS,
    STORE_OPERATIONS,
    Call,
    Fault,
    FaultKind,
)

PART = 8

#: A test runs up to thousands of scenarios, which takes long while branches are measured on a busy machine.
pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("level_of_scenarios")]

CRASHES = (FaultKind.CRASH_BEFORE, FaultKind.CRASH_AFTER)
FAILURES = (FaultKind.BEFORE, FaultKind.AFTER)
#: Every other kind. A store in memory can't tear its records: see `test_machine` and `test_every_system_call`.
OTHERS = tuple(kind for kind in FaultKind if kind not in {*CRASHES, *FAILURES, FaultKind.TORN_WRITE})

#: Orders in which parts make their steps: one after the other, in turns, the last one first.
ORDERS = {"in order": (), "in turns": (0, 1) * 40, "backwards": (1,) * 80}


@define(frozen=True)
class UploadCase:
    """
    One small upload.

    Args:
        source: the kind of source.
        parts: its number of parts, the last one shorter; 0: a single put.
        concurrency: the maximum number of parts in flight.
        order: the order in which parts make their steps.
        shape: the kind of storage, one of `SHAPES`; "": a bucket in memory that can do everything.
    """

    source: type[ScenarioSource]
    parts: int
    concurrency: int = 1
    order: str = "in order"
    shape: str = ""

    def __str__(self) -> str:
        where = {SimulatedFile: "file", SimulatedStream: "stream"}[self.source]
        how = "in one piece" if not self.parts else f"{self.parts} parts, {self.concurrency} at once, {self.order}"
        return f"{where}, {how}{self.shape and ', on a storage '}{self.shape}"

    def scenario(self) -> Scenario:
        size = PART * (self.parts - 1) + 5 if self.parts else 5
        storage = SHAPES[self.shape]() if self.shape else MemoryHarness()
        return Scenario(storage, MemoryStoreHarness(), self.source(pseudo_random_bytes(size)), check=check)

    def script(self, *faults: Fault) -> ProcessScript:
        threshold = 0 if self.parts else PART
        config = TransferConfig(part_size=PART, multipart_threshold=threshold, concurrency=self.concurrency)
        return ProcessScript(faults=faults, choices=ORDERS[self.order], config=config)


CASES = [
    *(UploadCase(SimulatedFile, parts) for parts in (0, 1, 2, 3, 4)),
    *(UploadCase(SimulatedFile, parts, 2, order) for parts in (2, 3, 4) for order in ORDERS),
    *(UploadCase(SimulatedStream, parts) for parts in (0, 1, 2, 3)),
    *(UploadCase(SimulatedStream, 3, 2, order) for order in ORDERS),
]
#: The same on storages of other shapes; those without checksums have the fewest ways to find out what happened.
ON_SHAPES = [
    *(UploadCase(SimulatedFile, 3, 2, "in turns", shape) for shape in SHAPES),
    *(UploadCase(SimulatedFile, 0, shape=shape) for shape in SHAPES if "no checksums" in shape),
    *(UploadCase(SimulatedStream, 2, shape=shape) for shape in SHAPES if "no checksums" in shape),
]
#: The number of pairs of crashes grows with the square of the number of calls.
PAIRS = [
    UploadCase(SimulatedFile, 0),
    UploadCase(SimulatedFile, 2),
    UploadCase(SimulatedFile, 2, 2, "in turns"),
    UploadCase(SimulatedStream, 2),
]
#: Those that differ most from a bucket in memory.
PAIRS_ON_SHAPES = [
    UploadCase(SimulatedFile, 2, shape="like Azure, with no checksums of blobs"),
    UploadCase(SimulatedFile, 2, shape="like a session, with no checksums"),
]


def faults_at(
    calls: tuple[Call, ...], kinds: tuple[FaultKind, ...], operations: tuple[str, ...] = OPERATIONS
) -> list[Fault]:
    """Return a fault of each kind for each of these calls, if it is of one of the operations."""
    seen: Counter[str] = Counter()
    planned: list[Fault] = []
    for call in calls:
        seen[call.operation] += 1
        if call.operation in operations:
            # A call that failed had no effect that a crash could follow.
            possible = (k for k in kinds if k is not FaultKind.CRASH_AFTER or call.outcome == "returned")
            planned += [
                Fault(call.operation, k, seen[call.operation]) for k in possible if k.applies_to(call.operation)
            ]
    return planned


@cache
def undisturbed_calls(case: UploadCase) -> tuple[Call, ...]:
    scenario = case.scenario()
    try:
        return scenario.run(case.script()).calls
    finally:
        scenario.close()


_continued: dict[UploadCase, dict[str, tuple[Scenario, ProcessTrace]]] = {}


def run_next(case: UploadCase, scenario: Scenario) -> tuple[Scenario, ProcessTrace]:
    """
    Run an undisturbed process; from a state that another scenario of the case was in, return what it did there.

    Returns:
        The scenario after the process, and the process.
    """
    if case not in _continued:
        _continued.clear()  # keeps what is in memory small; most tests of one case run one after the other
        _continued[case] = {}
    known, state = _continued[case], scenario.state()
    if state not in known:
        known[state] = scenario, scenario.run(case.script())
    return known[state]


def assert_done(case: UploadCase, scenario: Scenario, *traces: ProcessTrace, again: int) -> None:
    """The last process stored the object, nothing is left behind, and at most `again` parts were sent twice."""
    last = traces[-1]
    assert last.result is not None, f"PROGRESS: nothing disturbed it, and it failed\n{last}"
    assert scenario.snapshot().stored == scenario.source.version.data, f"EXACT\n{last}"
    assert scenario.history.checkpoint is None, f"CLEAN: a checkpoint was left behind\n{last}"
    left = [
        upload_id for upload_id in scenario.history.pending() if not scenario.history.uploads[upload_id].orphan_reason
    ]
    assert not left, f"CLEAN: uploads were left behind\n{last}"
    sent = 0
    for trace in traces:
        sent += sum(call.operation == "upload_part" for call in trace.backend_calls)
        sent -= sum(len(workers.sent_twice) for workers in trace.worker_pools)  # late parts, each once more
        if trace is not last and trace.after.stored is not None and trace.after.checkpoint is None:
            sent = 0  # that upload was finished; what follows is another one of the same bytes
    # A stream that a crashed process has completed is sent again: it can't be recognised before it was read.
    if case.source is SimulatedFile:
        assert sent <= case.parts + again, f"BOUNDED: {sent} parts were sent\n" + "\n".join(map(str, traces))


@pytest.mark.parametrize("case", [*CASES, *ON_SHAPES], ids=str)
def test_after_a_crash_at_any_instant_only_parts_in_flight_are_sent_again(case, figure):
    crashes = faults_at(undisturbed_calls(case), CRASHES)
    for crash in crashes:
        scenario = case.scenario()
        crashed = scenario.run(case.script(crash))
        assert crashed.crashed, f"planned and never reached: {crash}"
        ended, last = run_next(case, scenario)
        assert_done(case, ended, crashed, last, again=case.concurrency)
    figure("instants of a crash, each followed by a successful run", len(crashes))


@pytest.mark.parametrize("case", [*PAIRS, *PAIRS_ON_SHAPES], ids=str)
def test_after_a_second_crash_during_the_recovery_only_parts_in_flight_are_sent_again(case, figure):
    count = 0
    continued: dict[str, list[tuple[ProcessTrace, Scenario, ProcessTrace]]] = {}
    for first in faults_at(undisturbed_calls(case), CRASHES):
        scenario = case.scenario()
        crashed = scenario.run(case.script(first))
        state = scenario.state()
        if state not in continued:
            recovery = scenario.fork().run(case.script())
            forks = [(scenario.fork(), case.script(second)) for second in faults_at(recovery.calls, CRASHES)]
            continued[state] = [(fork.run(script), *run_next(case, fork)) for fork, script in forks]
        for crashed_again, ended, last in continued[state]:
            assert crashed.crashed
            assert crashed_again.crashed
            assert_done(case, ended, crashed, crashed_again, last, again=2 * case.concurrency)
            count += 1
    figure("pairs of crashes, the second one during the recovery from the first", count)


@pytest.mark.parametrize("case", [*CASES, *ON_SHAPES], ids=str)
def test_a_run_survives_a_failure_of_the_storage_at_any_call(case, figure):
    """With or without effect: the run itself succeeds, and at most the part that failed is sent again."""
    failures = faults_at(undisturbed_calls(case), FAILURES, BACKEND_OPERATIONS)
    for failure in failures:
        scenario = case.scenario()
        trace = scenario.run(case.script(failure))
        assert trace.faults, f"planned and never reached: {failure}"
        assert_done(case, scenario, trace, again=int(failure.operation == "upload_part"))
        scenario.close()
    figure("failures of the storage, with or without effect, each survived by the run itself", len(failures))


@pytest.mark.parametrize("case", [*PAIRS, UploadCase(SimulatedFile, 4, 2, "in turns")], ids=str)
def test_a_run_survives_an_outage_that_starts_at_any_call(case, figure):
    """From there on the next thirty requests of each kind fail, which is more than any number of attempts allowed."""
    calls = undisturbed_calls(case)
    starts = faults_at(calls, FAILURES, BACKEND_OPERATIONS)
    for first in starts:
        scenario = case.scenario()
        trace = scenario.run(case.script(*outage(calls, first, 30)))
        assert len(trace.faults) >= 30
        attempts = sum(call.operation == "upload_part" for call, _ in trace.faults)
        assert_done(case, scenario, trace, again=attempts)
        scenario.close()
    figure("outages of the storage, with or without effect of the first request, each survived by the run", len(starts))


def outage(calls: tuple[Call, ...], first: Fault, length: int) -> list[Fault]:
    """Return failures of all requests from this one on, `length` of each kind."""
    seen: Counter[str] = Counter()
    for call in calls:
        if (call.operation, seen[call.operation] + 1) == (first.operation, first.occurrence):
            break
        seen[call.operation] += 1
    later = [
        Fault(operation, FaultKind.BEFORE, seen[operation] + number)
        for operation in BACKEND_OPERATIONS
        for number in range(1, length + 1)
    ]
    return [
        first,
        *(fault for fault in later if (fault.operation, fault.occurrence) != (first.operation, first.occurrence)),
    ]


@pytest.mark.parametrize("case", PAIRS, ids=str)
def test_a_run_survives_two_failures_of_the_storage(case, figure):
    """The second one may hit a request that is only made because of the first, such as head after a lost response."""
    count = 0
    for first in faults_at(undisturbed_calls(case), FAILURES, BACKEND_OPERATIONS):
        scenario = case.scenario()
        disturbed = scenario.run(case.script(first))
        scenario.close()
        for second in faults_at(disturbed.calls, FAILURES, BACKEND_OPERATIONS):
            if (second.operation, second.occurrence) <= (first.operation, first.occurrence):
                continue
            scenario = case.scenario()
            trace = scenario.run(case.script(first, second))
            again = sum(fault.operation == "upload_part" for fault in (first, second))
            assert_done(case, scenario, trace, again=again)
            scenario.close()
            count += 1
    figure("pairs of failures of the storage in one run, each survived by the run itself", count)


@pytest.mark.parametrize("case", PAIRS, ids=str)
def test_after_a_failure_of_the_storage_and_a_crash_only_parts_in_flight_are_sent_again(case, figure):
    count = 0
    for failure in faults_at(undisturbed_calls(case), FAILURES, BACKEND_OPERATIONS):
        scenario = case.scenario()
        disturbed = scenario.run(case.script(failure))
        scenario.close()
        # A crash before the failure is one of the crashes at any instant.
        begin = next(number for number, call in enumerate(disturbed.calls) if call.faults)
        earlier = len(faults_at(disturbed.calls[:begin], CRASHES))
        for crash in faults_at(disturbed.calls, CRASHES)[earlier:]:
            if (crash.operation, crash.occurrence) == (failure.operation, failure.occurrence):
                continue
            scenario = case.scenario()
            crashed = scenario.run(case.script(failure, crash))
            assert crashed.crashed
            assert len(crashed.faults) == 2
            again = case.concurrency + (failure.operation == "upload_part")
            ended, last = run_next(case, scenario)
            assert_done(case, ended, crashed, last, again=again)
            count += 1
    figure("failures of the storage with a crash in the same run, each followed by a successful run", count)


@pytest.mark.parametrize("case", [*CASES, *ON_SHAPES], ids=str)
def test_after_a_failure_of_store_or_source_at_any_call_the_next_run_succeeds(case, figure):
    """The run raises a PartwiseError, or succeeds with a warning for what it could not write; the next run succeeds."""
    failures = faults_at(undisturbed_calls(case), FAILURES, (*STORE_OPERATIONS, *SOURCE_OPERATIONS))
    for failure in failures:
        scenario = case.scenario()
        trace = scenario.run(case.script(failure))
        assert trace.faults, f"planned and never reached: {failure}"
        assert trace.result is not None or isinstance(trace.error, PartwiseError), trace
        lost_all = isinstance(trace.error, SourceChanged) or trace.result is not None
        again = case.parts if lost_all else case.concurrency
        ended, last = run_next(case, scenario)
        assert_done(case, ended, trace, last, again=again)
    figure("failures of store and source, each followed by a successful run", len(failures))


def with_two_parts_recorded(case: UploadCase) -> Scenario:
    """Create a scenario in which a process crashed when it had recorded two parts."""
    scenario = case.scenario()
    scenario.run(case.script(Fault("append_part", FaultKind.CRASH_AFTER, 2)))
    return scenario


def other_faults(case: UploadCase, begin: Callable[[UploadCase], Scenario]) -> list[Fault]:
    scenario = begin(case)
    calls = scenario.run(case.script()).calls
    scenario.close()
    return [evolve(fault, seconds=2.0) for fault in faults_at(calls, OTHERS)]


#: Where the other kinds are injected: a single put, an upload by parts, and one that is resumed.
FAULT_CASES = [
    *(
        (case, UploadCase.scenario)
        for case in (UploadCase(SimulatedFile, 0), UploadCase(SimulatedFile, 3), UploadCase(SimulatedStream, 2))
    ),
    (UploadCase(SimulatedFile, 4), with_two_parts_recorded),
    (UploadCase(SimulatedFile, 4, 2, "in turns"), with_two_parts_recorded),
    (UploadCase(SimulatedStream, 4), with_two_parts_recorded),
    *((UploadCase(SimulatedFile, 4, 2, "in turns", shape), with_two_parts_recorded) for shape in SHAPES),
]


@pytest.mark.parametrize(
    ("case", "begin"),
    FAULT_CASES,
    ids=[f"{case}{', resumed' * (begin is with_two_parts_recorded)}" for case, begin in FAULT_CASES],
)
def test_a_fault_of_any_other_kind_at_any_call_breaks_no_promise(case, begin, figure):
    """Throttled, denied, damaged, lost: whatever the outcome of the run, the next one succeeds."""
    faults = other_faults(case, begin)
    begun = begin(case)
    for fault in faults:
        scenario = begun.fork()
        trace = scenario.run(case.script(fault))
        assert trace.faults, f"planned and never reached: {fault}"
        ended, last = run_next(case, scenario)
        assert_done(case, ended, trace, last, again=case.parts)
    figure("faults of every other kind, each followed by a successful run", len(faults))


def test_every_kind_of_fault_is_injected_somewhere():
    injected = {fault.kind for case, begin in FAULT_CASES for fault in other_faults(case, begin)}

    assert injected == set(OTHERS)


STOP_EVENTS = [Event.INTERRUPT, Event.EXIT, Event.TIME_LIMIT, Event.PAUSE, Event.CANCEL]


@pytest.mark.parametrize("what", STOP_EVENTS, ids=lambda what: what.name)
@pytest.mark.parametrize("case", [*CASES, *PAIRS_ON_SHAPES], ids=str)
def test_after_a_stop_request_at_any_call_only_parts_in_flight_are_sent_again(case, what, figure):
    """By Ctrl-C, a signal handler that raises, a pause or a cancel."""
    calls = undisturbed_calls(case)
    seen: Counter[str] = Counter()
    for call in calls:
        seen[call.operation] += 1
        scenario = case.scenario()
        stopping = evolve(case.script(), events=(ScheduledEvent(call.operation, what, seen[call.operation]),))
        stopped = scenario.run(stopping)
        dropped = what is Event.CANCEL or stopped.result is not None
        ended, last = run_next(case, scenario)
        assert_done(case, ended, stopped, last, again=case.parts if dropped else case.concurrency)
    figure("instants of an interrupt, a pause or a cancel, each followed by a successful run", len(calls))


#: Where an event callback stops the upload: with retries, and with parts that are resumed.
EVENT_CASES = [
    *(
        (case, UploadCase.scenario)
        for case in (UploadCase(SimulatedFile, 0), UploadCase(SimulatedFile, 3), UploadCase(SimulatedStream, 2))
    ),
    (UploadCase(SimulatedFile, 4, 2, "in turns"), with_two_parts_recorded),
    (UploadCase(SimulatedStream, 4), with_two_parts_recorded),
]
#: Two failures, so that there are events of retries and of a request that is made because of them.
_RETRIED = (
    *(Fault("put_object", FaultKind.BEFORE), Fault("upload_part", FaultKind.BEFORE)),
    *(Fault("complete_upload", FaultKind.BEFORE), Fault("delete", FaultKind.UNREACHABLE)),
)


@pytest.mark.parametrize("what", [Event.RAISE, *STOP_EVENTS], ids=lambda what: what.name)
@pytest.mark.parametrize(
    ("case", "begin"),
    EVENT_CASES,
    ids=[f"{case}{', resumed' * (begin is with_two_parts_recorded)}" for case, begin in EVENT_CASES],
)
def test_after_an_event_callback_stops_the_upload_at_any_event_the_next_run_succeeds(case, begin, what, figure):
    """By an exception of its own, by an interrupt that hits it, or by a request."""
    begun = begin(case)
    script = case.script(*_RETRIED)
    count = len(begun.fork().run(script).reported_events)
    for number in range(1, count + 1):
        scenario = begun.fork()
        stopped = scenario.run(evolve(script, events=(ScheduledEvent("event", what, number),)))
        assert stopped.occurred, f"planned and never reached: event {number}"
        if what is Event.RAISE:
            assert isinstance(stopped.error, CallbackBroke), stopped
            assert len(stopped.reported_events) == number, "it is not called again"
        ended, last = run_next(case, scenario)
        dropped = what is Event.CANCEL or stopped.after.stored is not None
        assert_done(case, ended, stopped, last, again=1 + (case.parts if dropped else case.concurrency))
    figure("events at which the event callback stops the upload, each followed by a successful run", count)
