"""The page for when something is wrong has every exit code and every error, with what to do."""

from __future__ import annotations

import inspect
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from partwise import PartwiseError, errors
from partwise.cli import reporting, verify
from partwise.cli.reporting import exit_code

Table = list[dict[str, str]]

CLASSES = {
    name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, PartwiseError)
}

#: Those that the command ends with.
CODES = {
    *(reporting.DONE, reporting.FAILED, reporting.WRONG_USAGE, reporting.BUSY, verify.UNDECIDED, reporting.TRY_AGAIN),
    *(128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)),
}


@pytest.fixture
def rows(section: Callable[[str, str], str], tables: Callable[[str], list[Table]]) -> Callable[[str], Table]:
    """The rows of the table under a heading of the page."""
    return lambda heading: tables(section("troubleshooting", heading))[0]


def test_every_exit_code_is_there(rows: Callable[[str], Table]) -> None:
    shown = rows("Exit codes")

    assert {int(row["code"]) for row in shown} == CODES | {128 + signal.SIGKILL}
    assert all(row["what happened"] and row["what to do"] for row in shown)


def test_the_reference_has_the_same_exit_codes(
    section: Callable[[str, str], str], tables: Callable[[str], list[Table]]
) -> None:
    assert {int(row["code"]) for row in tables(section("reference/command-line", "Exit codes"))[0]} == CODES


def test_every_error_is_there_in_order(rows: Callable[[str], Table], names: Callable[[str], list[str]]) -> None:
    shown = [names(row["error"])[0] for row in rows("Errors by name")]

    assert shown == sorted(CLASSES)
    assert all(row["what to do"] for row in rows("Errors by name"))


def test_every_error_has_the_exit_code_of_the_command(
    rows: Callable[[str], Table], names: Callable[[str], list[str]]
) -> None:
    shown = {names(row["error"])[0]: int(row["code"]) for row in rows("Errors by name")}

    assert shown == {name: exit_code(kind()) for name, kind in CLASSES.items()}


@pytest.mark.parametrize(
    ("variable", "path"), [("XDG_STATE_HOME", "partwise/checkpoints"), ("HOME", ".local/state/partwise/checkpoints")]
)
def test_the_checkpoint_is_where_the_page_says(
    section: Callable[[str, str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, path: str
) -> None:
    from partwise.stores.file import FileCheckpointStore

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))

    assert f"/{path}`" in section("troubleshooting", "Where is my checkpoint?")
    assert str(tmp_path / path) in str(FileCheckpointStore())
