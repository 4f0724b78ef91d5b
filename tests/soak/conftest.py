"""What the long runs have in common: they are asked for by name, and what they counted is printed at the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

_FIGURES = "soak: "


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A long run is for ``-m soak`` alone."""
    if "soak" in config.option.markexpr:
        return
    for item in items:
        if item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.skip(reason="long: ask for it with -m soak"))


@pytest.fixture
def tell(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Callable[[object], None]:
    """Notes figures in words, to be printed when all tests are done."""
    return lambda figures: record_property(f"{_FIGURES}{request.node.name}", str(figures))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was noted."""
    told = [
        (name.removeprefix(_FIGURES), figures)
        for report in terminalreporter.getreports("passed")
        for name, figures in report.user_properties
        if name.startswith(_FIGURES)
    ]
    if told:
        terminalreporter.section("real deaths, and the loss of power")
        for name, figures in told:
            terminalreporter.write_line(f"{name}: {figures}")
