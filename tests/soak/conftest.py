"""Shared by the long runs: they need ``-m soak``, and their counts are printed at the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

_FIGURES = "soak: "


@pytest.fixture
def tell(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Callable[[object], None]:
    """Report counts, to be printed at the end of the session."""
    return lambda figures: record_property(f"{_FIGURES}{request.node.name}", str(figures))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the reported counts."""
    reported = [
        (name.removeprefix(_FIGURES), figures)
        for report in terminalreporter.getreports("passed")
        for name, figures in report.user_properties
        if name.startswith(_FIGURES)
    ]
    if reported:
        terminalreporter.section("real crashes and power loss")
        for name, figures in reported:
            terminalreporter.write_line(f"{name}: {figures}")
