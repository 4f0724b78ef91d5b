"""What the proof has in common: a world in memory, and the figures that are printed at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from partwise import TransferConfig
from partwise.testing.bodies import filler
from partwise.testing.worlds import MemoryHarness, MemoryStoreHarness, SimulatedFile, SourcePlace, World

_FIGURE = "figure: "

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
            source or SimulatedFile(filler(3 * PART + 5)),
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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    figures: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed"):
        for name, count in report.user_properties:
            if name.startswith(_FIGURE) and isinstance(count, int):
                figures[name.removeprefix(_FIGURE)] += count
    if figures:
        terminalreporter.section("the proof")
        for name, count in figures.items():
            terminalreporter.write_line(f"{count:>9,} {name}")
