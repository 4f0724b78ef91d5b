"""What the guide shows as the report of a state machine whose backend is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, ClassVar

import pytest
from attrs import evolve

from partwise import ObjectOptions, PartRejected, StoredObject
from partwise.backends.local import LocalBackend
from partwise.testing import BackendHarness, ResumeMachine
from partwise.testing.conformance.machines import run_machine


class Shelf(LocalBackend):
    """Compares all fields of a part when an upload is completed, although number and ETag identify it."""

    @property
    def location(self) -> str:
        return "shelf://mine"

    def complete_upload(self, key: str, upload_id: str, parts: Any, options: ObjectOptions) -> StoredObject:
        held = [evolve(part, checksum=None) for part in self.list_parts(key, upload_id)]
        if list(parts) != held:
            raise PartRejected(f"the parts of {key} are not those that are held")
        return super().complete_upload(key, upload_id, parts, options)


class ShelfHarness(BackendHarness):
    """A shelf in a directory of its own below `place`."""

    place: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self._directory = mkdtemp(dir=self.place)

    def open(self) -> Shelf:
        return Shelf(self._directory)

    def read(self, key: str) -> bytes | None:
        path = Path(self._directory, key)
        return path.read_bytes() if path.exists() else None


class ArchiveMachine(ResumeMachine):
    backend = ShelfHarness


def test_the_report_that_the_guide_shows_is_printed(section: Callable[[str, str], str], tmp_path: Path) -> None:
    ShelfHarness.place = tmp_path
    with pytest.raises(AssertionError) as caught:
        run_machine(ArchiveMachine, examples=5, steps=2)
    printed = "\n".join([f"AssertionError: {caught.value}", *caught.value.__notes__])

    text = section("test-your-program", "Any sequence of failures")
    (shown,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    first_lines, last_lines = shown.split("   ...\n")  # most of the calls are left out
    assert printed.startswith(first_lines)
    assert last_lines in f"{printed}\n"
