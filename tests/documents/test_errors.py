"""The tree of errors is documented whole, with what to do about each."""

from __future__ import annotations

import inspect
import re

import partwise
from partwise import BackendError, PartwiseError, errors

CLASSES = {
    name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, PartwiseError)
}


def test_the_tree_that_is_drawn_is_the_tree_that_there_is(section) -> None:
    drawn: dict[str, str | None] = {}
    branch: list[str] = []
    for line in re.search(r"```text\n(.*?)```", section("errors", "The tree"), re.DOTALL)[1].splitlines():
        name = re.search(r"\w+", line)
        depth = name.start() // 4
        branch[depth:] = [name[0]]
        drawn[name[0]] = branch[depth - 1] if depth else None
    parents = {name: kind.__bases__[0].__name__ for name, kind in CLASSES.items()}
    assert drawn == {**parents, "PartwiseError": None}


def test_for_each_error_it_is_said_what_to_do(page, tables, names) -> None:
    told = {
        name: row["what to do, if it comes out" if "tried again" in row else "what to do"]
        for table in tables(page("errors"))
        for row in table
        for name in names(row["error"])
    }
    assert set(told) == set(CLASSES)
    assert [name for name, advice in told.items() if not advice] == ["UploadStopped", "PartwiseError"]


def test_each_error_of_the_storage_is_tried_again_as_it_is_said(page, tables, names) -> None:
    (said,) = (table for table in tables(page("errors")) if "tried again" in table[0])
    kinds = {names(row["error"])[0]: row["tried again"] for row in said}
    below = {name for name, kind in CLASSES.items() if issubclass(kind, BackendError)}
    assert set(kinds) == below - {"BackendError", "CallbackError", "BackendClosed"}  # which come out by themselves
    for name, tried_again in kinds.items():
        assert CLASSES[name]().retryable == tried_again.startswith("yes"), name


def test_the_fields_of_a_storage_s_error_are_those_that_are_told(section, names) -> None:
    told = names(section("errors", "What the storage says").split("\n\n")[0])
    assert set(told) >= {*vars(BackendError()), "message"}


def test_every_error_is_a_name_of_the_package() -> None:
    assert {name for name in partwise.__all__ if name in CLASSES} == set(CLASSES)
