"""What the guides say about the hooks of a harness."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from partwise.testing import BACKEND_CHECKS, STORE_CHECKS, BackendHarness

Table = list[dict[str, str]]


@pytest.fixture
def hooks(
    section: Callable[[str, str], str], tables: Callable[[str], list[Table]], names: Callable[[str], list[str]]
) -> Callable[[str], list[str]]:
    """The hooks that the table of a guide explains."""

    def find(guide: str) -> list[str]:
        return [name for table in tables(section(guide, "Test it")) for row in table for name in names(row["hook"])]

    return find


def test_the_guide_for_backends_explains_every_hook(hooks: Callable[[str], list[str]]) -> None:
    assert sorted(hooks("write-a-backend")) == sorted(BackendHarness.hooks)


def test_the_number_of_checks_is_that_of_the_suites(page: Callable[[str], str]) -> None:
    backend, store = (len(list(checks)) for checks in (BACKEND_CHECKS, STORE_CHECKS))

    assert f"| {backend} checks of a backend and {store} of a store," in page("proof")
