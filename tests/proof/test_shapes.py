"""
Every promise on storages of other shapes than OSS: like S3, like block blobs in Azure, like resumable sessions.

The storages are the toys of `tests/toys`. As in `test_every_instant`, a process crashes at every instant, one after the
other; then the source or the options of the object change, and another process continues. After every process, every
promise of `partwise.testing._proof.invariants` is checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache

import pytest
from attrs import evolve
from toys.harnesses import SHAPES

from partwise import ObjectOptions, TransferConfig
from partwise._engine.reconcile import TOKEN_NAME
from partwise.errors import PreconditionFailed
from partwise.testing._proof.events import Event, ProcessScript, ProcessTrace
from partwise.testing._proof.invariants import check
from partwise.testing._proof.scenario import MemoryStoreHarness, Scenario
from partwise.testing._proof.sources import ScenarioSource, SimulatedFile, SimulatedStream
from partwise.testing.fakes import pseudo_random_bytes
from partwise.testing.faults import Call, Fault, FaultKind

PART = 8

#: A test runs hundreds of scenarios, which takes long while branches are measured on a busy machine.
pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("level_of_scenarios")]

SOURCES: dict[str, type[ScenarioSource]] = {"file": SimulatedFile, "stream": SimulatedStream}


def new_scenario(shape: str, source: type[ScenarioSource] = SimulatedFile, size: int = 3 * PART + 5) -> Scenario:
    return Scenario(SHAPES[shape](), MemoryStoreHarness(), source(pseudo_random_bytes(size)), check=check)


def script(*faults: Fault, options: ObjectOptions | None = None, **config: object) -> ProcessScript:
    settings = {"part_size": PART, "multipart_threshold": 0, "concurrency": 2, **config}
    return ProcessScript(faults, choices=(0, 1) * 40, config=TransferConfig(**settings), options=options or PLAIN)  # type: ignore[arg-type]  # as given


PLAIN = ObjectOptions()
ASKED = {
    "nothing": PLAIN,
    "metadata": ObjectOptions(metadata={"made": "so"}),
    "acl": ObjectOptions(acl="public-read"),
}


def crashes_after(calls: tuple[Call, ...]) -> list[Fault]:
    """Return a crash just after each of these calls, which is just before the next one."""
    seen: Counter[str] = Counter()
    faults = []
    for call in calls:
        seen[call.operation] += 1
        faults.append(Fault(call.operation, FaultKind.CRASH_AFTER, seen[call.operation]))
    return faults


@cache
def begun(shape: str, source: type[ScenarioSource], asked: str = "nothing") -> list[Scenario]:
    """Return a scenario for each state in which a crash can leave a process that was asked for these options."""
    first = script(options=ASKED[asked])
    undisturbed = new_scenario(shape, source).run(first)
    states: dict[str, Scenario] = {}
    for crash in crashes_after(undisturbed.calls):
        scenario = new_scenario(shape, source)
        assert scenario.run(evolve(first, faults=(crash,))).crashed
        states.setdefault(scenario.state(), scenario)
    return list(states.values())


def assert_stored(scenario: Scenario, trace: ProcessTrace) -> None:
    """The process has stored the current version, and left no checkpoint."""
    assert trace.result is not None, trace
    assert scenario.snapshot().stored == scenario.source.version.data, trace
    assert scenario.history.checkpoint is None, trace


def without_token(metadata: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in metadata.items() if name != TOKEN_NAME}


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
    states = begun(shape, SOURCES[source])
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
    states = begun(shape, SimulatedFile)
    for on_source_change in ("restart", "keep-matching"):
        for state in states:
            scenario = state.fork()
            scenario.change(Event.FORGE)
            comparing = script(on_source_change=on_source_change, verify_source="content")
            assert_stored(scenario, scenario.run(comparing))
    figure("instants of a crash, then other bytes with the same mtime", 2 * len(states))


#: What a first run is asked for, and what the second one is asked for in its place.
OPTIONS = {
    "metadata": ("metadata", ObjectOptions(metadata={"made": "otherwise"})),
    "no metadata": ("metadata", PLAIN),
    "acl": ("acl", ObjectOptions(acl="private")),
}


@pytest.mark.parametrize("changed", OPTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_object_has_the_options_of_the_run_that_made_it(shape, changed, figure):
    """An ACL that the storage fixes when an upload is initiated was silently kept. The response to complete is lost."""
    asked, after = OPTIONS[changed]
    if asked not in new_scenario(shape).capabilities.options:
        pytest.skip(f"a storage {shape} has no {changed}")
    states = begun(shape, SimulatedFile, asked)
    lost = Fault("complete_upload", FaultKind.AFTER)
    for state in states:
        scenario = state.fork()
        trace = scenario.run(script(lost, options=after))
        assert_stored(scenario, trace)
        shown = scenario.backend.options(scenario.key)
        if trace.faults:  # it has made the object
            assert (shown.get("acl"), without_token(shown["metadata"])) == (after.acl, dict(after.metadata))
        elif after.explicitly_set():  # the first run has, and died before it knew
            assert any(f"{changed} of this one had no effect" in warning for warning in trace.result.warnings)
    figure("instants of a crash, then other options are requested", len(states))


@pytest.mark.parametrize("shape", SHAPES)
def test_options_that_act_late_do_not_start_an_upload_again(shape):
    """Like Azure, where all of them come with the request that makes the object."""
    scenario = new_scenario(shape)
    recorded = Fault("append_part", FaultKind.CRASH_AFTER, 2)
    scenario.run(script(recorded, options=ObjectOptions(metadata={"made": "so"})))

    trace = scenario.run(script(options=ObjectOptions(metadata={"made": "otherwise"})))

    assert trace.result.parts_resumed == (2 if "metadata" in scenario.capabilities.late_options else 0)


@pytest.mark.parametrize("threshold", [0, 1000], ids=["by parts", "in one piece"])
@pytest.mark.parametrize("shape", SHAPES)
def test_an_object_that_must_be_new_is_known_as_ours_when_its_response_is_lost(shape, threshold):
    scenario = new_scenario(shape)
    once = ObjectOptions(forbid_overwrite=True)
    operation = "put_object" if threshold else "complete_upload"

    trace = scenario.run(script(Fault(operation, FaultKind.AFTER), options=once, multipart_threshold=threshold))

    assert trace.faults
    assert_stored(scenario, trace)


@pytest.mark.parametrize("threshold", [0, 1000], ids=["by parts", "in one piece"])
@pytest.mark.parametrize("shape", SHAPES)
def test_an_object_that_replaces_a_known_one_is_known_as_ours_when_its_response_is_lost(shape, threshold):
    """The second request finds another ETag: that of the object that the first one has made."""
    scenario = new_scenario(shape)
    scenario.overwrite(b"the one to replace")
    known = ObjectOptions(if_match=scenario.backend.open_for_test().head_object(scenario.key).etag)
    operation = "put_object" if threshold else "complete_upload"

    trace = scenario.run(script(Fault(operation, FaultKind.AFTER), options=known, multipart_threshold=threshold))

    assert trace.faults
    assert_stored(scenario, trace)


@pytest.mark.parametrize("threshold", [0, 1000], ids=["by parts", "in one piece"])
@pytest.mark.parametrize("shape", SHAPES)
def test_an_object_that_is_not_the_known_one_is_not_replaced(shape, threshold):
    scenario = new_scenario(shape)
    scenario.overwrite(b"of another program")
    other = ObjectOptions(if_match='"the tag of another one"')

    trace = scenario.run(script(options=other, multipart_threshold=threshold))

    assert isinstance(trace.error.__cause__, PreconditionFailed)
    assert scenario.snapshot().stored == b"of another program"
