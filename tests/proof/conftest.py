"""Fixtures of these tests: scenarios in memory, and the counts that are printed at the end."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from partwise import TransferConfig
from partwise._engine.control import Control
from partwise.testing._proof.events import Event
from partwise.testing._proof.invariants import check
from partwise.testing._proof.scenario import MemoryHarness, MemoryStoreHarness, Scenario
from partwise.testing._proof.sources import ScenarioSource, SimulatedFile
from partwise.testing.fakes import pseudo_random_bytes
from partwise.testing.faults import Fault, FaultPlan

_FIGURE = "figure: "
_REACHED = "reached: "

PART = 8
"""The size of a part in bytes."""


@pytest.fixture
def config() -> Callable[..., TransferConfig]:
    """Create configurations: parts of `PART` bytes, one at a time, for sources of any size, unless overridden."""

    def make(**changes: object) -> TransferConfig:
        return TransferConfig(**{"part_size": PART, "multipart_threshold": 0, "concurrency": 1, **changes})  # type: ignore[arg-type]  # as given

    return make


@pytest.fixture
def make_scenario() -> Iterator[Callable[..., Scenario]]:
    """Create scenarios that check every promise; the default source is a simulated file of 3 parts and 5 bytes."""
    made: list[Scenario] = []

    def make(source: ScenarioSource | None = None, **capabilities: object) -> Scenario:
        scenario = Scenario(
            MemoryHarness(**capabilities),  # type: ignore[arg-type]  # as given
            MemoryStoreHarness(),
            source or SimulatedFile(pseudo_random_bytes(3 * PART + 5)),
            check=check,
        )
        made.append(scenario)
        return scenario

    yield make
    for scenario in made:
        scenario.close()


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str, int], None]:
    """Report a count; counts of one name are added up and printed at the end of the session."""
    return lambda name, count: record_property(_FIGURE + name, count)


@pytest.fixture(scope="module")
def level_of_scenarios() -> Iterator[None]:
    """
    Set up the logging that scenarios need, once for the thousands of processes of a module.

    They use the messages alone. What else a record can contain is not collected, which takes as long as the rest.
    """
    logger = logging.getLogger("partwise")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(logging, "_srcfile", None)
        for collected in ("logThreads", "logProcesses", "logMultiprocessing"):
            patched.setattr(logging, collected, False)
        yield
    logger.setLevel(level)


@pytest.fixture(autouse=True)
def _count_what_is_reached(
    monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> Iterator[None]:
    """Count the injected faults and the events of all processes, by kind."""
    reached: Counter[str] = Counter()
    original_inject, original_fire = FaultPlan._inject, Scenario._fire

    def inject(plan: FaultPlan, faults: tuple[Fault, ...]) -> None:
        reached.update(f"{fault.kind.name}: {fault.kind.value}" for fault in faults)
        original_inject(plan, faults)

    def fire(scenario: Scenario, event: Event, control: Control) -> None:
        reached[f"{event.name}: {event.value}"] += 1
        original_fire(scenario, event, control)

    monkeypatch.setattr(FaultPlan, "_inject", inject)
    monkeypatch.setattr(Scenario, "_fire", fire)
    yield
    for kind, count in reached.items():
        record_property(_REACHED + kind, count)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the counts."""
    # Properties that are recorded at the end of a fixture are complete in the report of the teardown.
    for title, prefix, when in (
        ("tested sequences and instants", _FIGURE, "call"),
        ("faults and events in them, by kind", _REACHED, "teardown"),
    ):
        figures: Counter[str] = Counter()
        for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("")):
            for name, count in report.user_properties:
                if report.when == when and name.startswith(prefix) and isinstance(count, int):
                    figures[name.removeprefix(prefix)] += count
        if figures:
            terminalreporter.section(title)
            for name, count in figures.most_common():
                terminalreporter.write_line(f"{count:>9,} {name}")
