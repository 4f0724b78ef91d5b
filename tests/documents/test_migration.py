"""The tables of the migration note: what they name as new exists, and what they name as gone does not."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import attrs
import pytest

import partwise
import partwise.backends.oss
import partwise.bodies
import partwise.checksums
import partwise.http_errors
import partwise.paging
import partwise.testing

NOTE = "migrate-to-protocol-2"
MODULES = (
    *(partwise, partwise.bodies, partwise.checksums, partwise.http_errors, partwise.paging),
    *(partwise.backends.oss, partwise.testing),
)

#: These have no class attribute or field, but an attribute that their constructor sets.
SET_BY_CONSTRUCTOR = {"BackendError.details", "CheckpointError.retryable"}

Table = list[dict[str, str]]


def find(name: str) -> Any:
    """Return what a name like ``Class.attribute`` means; None if there is no such thing."""
    head, *rest = name.removeprefix("partwise.backends.oss.").removeprefix("partwise.").split(".")
    found = next((getattr(module, head) for module in MODULES if hasattr(module, head)), None)
    for part in rest:
        if found is not None and attrs.has(found):
            fields = {field.name for field in attrs.fields(found)}
            found = part if part in fields else getattr(found, part, None)
        elif found is not None:
            found = getattr(found, part, None)
    return found


def rows(page: str, tables: Callable[[str], list[Table]]) -> list[dict[str, str]]:
    return [row for table in tables(page) for row in table]


def classes(cell: str) -> list[str]:
    """Return the names of classes and of what they have, in a cell."""
    return re.findall(
        r"`((?:partwise\.[a-z.]+)?(?:[A-Z]\w+|error_for_status|list_pages|exact_chunks)(?:\.\w+)*)`", cell
    )


@pytest.fixture
def table(page: Callable[[str], str], tables: Callable[[str], list[Table]]) -> list[dict[str, str]]:
    return rows(page(NOTE), tables)


def test_what_the_note_names_as_new_exists(table: list[dict[str, str]]) -> None:
    named = [name for row in table for name in classes(row["protocol 2"])]
    assert len(named) > 30
    missing = [name for name in named if find(name) is None and name not in SET_BY_CONSTRUCTOR]
    assert missing == []
    assert hasattr(partwise.BackendError(), "details")
    assert partwise.CheckpointError("", retryable=True).retryable


def test_what_was_renamed_is_gone(table: list[dict[str, str]]) -> None:
    renamed = [row for row in table if row["what to do"].startswith("rename")]
    old = [name for row in renamed for name in classes(row["protocol 1"])]
    assert old == ["UploadedPart.crc64", "StoredObject.crc64", "Body.crc64", "UploadResult.crc64"]
    assert [name for name in old if find(name) is not None] == []
