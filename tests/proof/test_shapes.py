"""
Every promise on storages of other shapes than OSS: like S3, like block blobs in Azure, like resumable sessions.

The storages are the toys of `tests/toys`. As in `test_every_instant`, a process crashes at every instant, one after the
other; then the source or the options of the object change, and another process continues. After every process, every
promise of `partwise.testing._proof.invariants` is checked.
"""

from __future__ import annotations

from collections import Counter

import pytest
from attrs import evolve
from toys.harnesses import SHAPES

from partwise import ObjectOptions, TransferConfig
from partwise.testing._proof.events import Event, ProcessScript, ProcessTrace
from partwise.testing._proof.invariants import check
from partwise.testing._proof.scenario import MemoryStoreHarness, Scenario
from partwise.testing._proof.sources import ScenarioSource, SimulatedFile, SimulatedStream
from partwise.testing.fakes import pseudo_random_bytes
from partwise.testing.faults import Call, Fault, FaultKind

PART = 8

#: A test runs hundreds of scenarios, which takes long while branches are measured on a busy machine.
pytestmark = pytest.mark.timeout(600)

CRASHES = (FaultKind.CRASH_BEFORE, FaultKind.CRASH_AFTER)
SOURCES: dict[str, type[ScenarioSource]] = {"file": SimulatedFile, "stream": SimulatedStream}


def new_scenario(shape: str, source: type[ScenarioSource] = SimulatedFile, size: int = 3 * PART + 5) -> Scenario:
    return Scenario(SHAPES[shape](), MemoryStoreHarness(), source(pseudo_random_bytes(size)), check=check)


def script(*faults: Fault, options: ObjectOptions | None = None, **config: object) -> ProcessScript:
    settings = {"part_size": PART, "multipart_threshold": 0, "concurrency": 2, **config}
    return ProcessScript(faults, choices=(0, 1) * 40, config=TransferConfig(**settings), options=options or PLAIN)  # type: ignore[arg-type]  # as given


PLAIN = ObjectOptions()


def crashes_at(calls: tuple[Call, ...], *kinds: FaultKind) -> list[Fault]:
    """Return a fault of each kind at each of these calls that it applies to."""
    seen: Counter[str] = Counter()
    faults = []
    for call in calls:
        seen[call.operation] += 1
        faults += [
            Fault(call.operation, kind, seen[call.operation]) for kind in kinds if kind.applies_to(call.operation)
        ]
    return faults


def begun(shape: str, source: type[ScenarioSource], first: ProcessScript) -> list[Scenario]:
    """Return a scenario for each state in which a crash can leave this process."""
    undisturbed = new_scenario(shape, source).run(first)
    states: dict[str, Scenario] = {}
    for crash in crashes_at(undisturbed.calls, *CRASHES):
        scenario = new_scenario(shape, source)
        assert scenario.run(evolve(first, faults=(crash,))).crashed
        states.setdefault(scenario.state(), scenario)
    return list(states.values())


def assert_stored(scenario: Scenario, trace: ProcessTrace) -> None:
    """The process has stored the current version, and left no checkpoint."""
    assert trace.result is not None, trace
    assert scenario.snapshot().stored == scenario.source.version.data, trace
    assert scenario.history.checkpoint is None, trace


#: The sizes are of the source: with fewer whole parts, or more.
CHANGES = [
    (Event.EDIT, None),
    (Event.REWRITE, None),
    (Event.GROW, 5 * PART),
    (Event.SHRINK, 2 * PART),
    (Event.EMPTY, 0),
]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("shape", SHAPES)
def test_parts_that_still_match_never_mix_with_those_of_another_version(shape, source, figure):
    """A storage that never replaces a part would keep the old bytes of those that have changed."""
    states = begun(shape, SOURCES[source], script())
    for event, size in CHANGES:
        for state in states:
            scenario = state.fork()
            scenario.change(event, size)
            assert_stored(scenario, scenario.run(script(on_source_change="keep-matching")))
    figure(
        "instants of a crash, then a changed source, then parts that still match are kept", len(states) * len(CHANGES)
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_a_change_that_only_the_bytes_show_never_mixes_where_they_are_compared(shape, figure):
    """A session that reports no checksum kept the bytes of a part that was sent and not recorded."""
    states = begun(shape, SimulatedFile, script())
    for on_source_change in ("restart", "keep-matching"):
        for state in states:
            scenario = state.fork()
            scenario.change(Event.FORGE)
            comparing = script(on_source_change=on_source_change, verify_source="content")
            assert_stored(scenario, scenario.run(comparing))
    figure("instants of a crash, then other bytes with the same mtime", 2 * len(states))
