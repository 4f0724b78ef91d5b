"""The face: every name is there when it is asked for, and nothing is imported before."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import partwise


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_it_imports_no_room() -> None:
    rooms = "[name for name in sys.modules if name.startswith('partwise.') or name in ('attrs', 'cattrs', 'urllib3')]"
    assert run(f"import sys, partwise; print({rooms})") == "[]"


def test_what_checkers_see_is_what_there_is() -> None:
    tree = ast.parse(Path(partwise.__file__).read_text(encoding="utf-8"))
    seen = {
        alias.name: f"{node.module}"
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {name: f"partwise.{home}" for name, home in partwise._HOMES.items()}
    assert set(seen) == set(partwise.__all__)


def test_its_rooms_can_be_reached_by_it() -> None:
    assert run("import partwise; print(partwise.errors.PartwiseError.__name__)") == "PartwiseError"


def test_it_lists_its_names() -> None:
    assert set(partwise.__all__) <= set(dir(partwise))


def test_a_name_is_the_same_thing_each_time() -> None:
    assert partwise.Uploader is partwise.Uploader


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = partwise.nothing  # type: ignore[attr-defined]  # that is the point


def test_all_of_it_can_be_imported_at_once() -> None:
    assert run("from partwise import *; print(Uploader.__name__, upload.__name__)") == "Uploader upload"
