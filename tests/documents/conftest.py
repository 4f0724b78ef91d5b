"""What the documents say, in pieces, for those who compare it with what is so."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent.parent / "docs"

Table = list[dict[str, str]]


@pytest.fixture
def page() -> Callable[[str], str]:
    """The text of a document, by its name."""
    return lambda name: (DOCS / f"{name}.md").read_text(encoding="utf-8")


@pytest.fixture
def section(page: Callable[[str], str]) -> Callable[[str, str], str]:
    """What stands in a document under a heading, up to the next one that is not below it."""

    def find(name: str, heading: str) -> str:
        found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,2}} |\Z)", page(name), re.MULTILINE | re.DOTALL)
        assert found, f"{name} has no section {heading}"
        return found[2]

    return find


@pytest.fixture
def tables() -> Callable[[str], list[Table]]:
    """The tables in a text, each row by the names of its columns."""

    def parse(text: str) -> list[Table]:
        found = []
        for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            head, _, *rows = [
                [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
                for line in block.splitlines()
            ]
            assert all(len(row) == len(head) for row in rows), f"a row of another length under {head}"
            found.append([dict(zip(head, row, strict=True)) for row in rows])
        return found

    return parse


@pytest.fixture
def names() -> Callable[[str], list[str]]:
    """What is marked as a name in a text."""
    return lambda text: re.findall(r"`([^`]+)`", text)
