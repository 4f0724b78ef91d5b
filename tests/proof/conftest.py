"""What the proof has in common: a world in memory, and the figures that are printed at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from partwise import TransferConfig
from partwise._engine.control import Control
from partwise.testing._proof.scenario import (
    Happening,
    MemoryHarness,
    MemoryStoreHarness,
    SimulatedFile,
    SourcePlace,
    World,
)
from partwise.testing.fakes import pseudo_random_bytes
from partwise.testing.faults import Call, Fault, FaultPlan

_FIGURE = "figure: "
_REACHED = "reached: "

PART = 8
"""The size of a part in bytes."""


@pytest.fixture
def config() -> Callable[..., TransferConfig]:
    """Ways to transfer: parts of `PART` bytes, one at a time, no source too small for them, unless said otherwise."""

    def make(**changes: object) -> TransferConfig:
        return TransferConfig(**{"part_size": PART, "multipart_threshold": 0, "concurrency": 1, **changes})  # type: ignore[arg-type]  # as given

    return make


@pytest.fixture
def make_world() -> Iterator[Callable[..., World]]:
    """Makes worlds: of a source of 3 parts and a bit in a simulated file, unless said otherwise."""
    made: list[World] = []

    def make(source: SourcePlace | None = None, **capabilities: object) -> World:
        world = World(
            MemoryHarness(**capabilities),  # type: ignore[arg-type]  # as given
            MemoryStoreHarness(),
            source or SimulatedFile(pseudo_random_bytes(3 * PART + 5)),
        )
        made.append(world)
        return world

    yield make
    for world in made:
        world.close()


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str, int], None]:
    """Notes a figure; those of one name are summed up, and printed when all tests are done."""
    return lambda name, count: record_property(_FIGURE + name, count)


@pytest.fixture(autouse=True)
def _count_what_is_reached(
    monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> Iterator[None]:
    """Notes how many faults have struck, and what else happened to a process, by kind."""
    reached: Counter[str] = Counter()
    begin, occur = FaultPlan._begin, World._occur

    def beginning(plan: FaultPlan, call: Call, thread: int | None) -> tuple[int, tuple[Fault, ...]]:
        index, faults = begin(plan, call, thread)
        if faults:
            reached.update(f"{fault.kind.name}: {fault.kind.value}" for fault in faults)
        return index, faults

    def occurring(world: World, what: Happening, control: Control) -> None:
        reached[f"{what.name}: {what.value}"] += 1
        occur(world, what, control)

    monkeypatch.setattr(FaultPlan, "_begin", beginning)
    monkeypatch.setattr(World, "_occur", occurring)
    yield
    for kind, count in reached.items():
        record_property(_REACHED + kind, count)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was noted."""
    # What is counted all through a test is complete when the test is torn down.
    for title, prefix, when in (
        ("the proof", _FIGURE, "call"),
        ("faults reached in the proof, by kind", _REACHED, "teardown"),
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
