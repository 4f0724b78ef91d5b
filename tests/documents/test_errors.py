"""All errors are documented, with what to do about each."""

from __future__ import annotations

import inspect
import re

import partwise
from partwise import BackendError, PartwiseError, errors

CLASSES = {
    name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, PartwiseError)
}


def test_the_class_hierarchy_is_complete(section) -> None:
    drawn: dict[str, str | None] = {}
    branch: list[str] = []
    for line in re.search(r"```text\n(.*?)```", section("errors", "Class hierarchy"), re.DOTALL)[1].splitlines():
        name = re.search(r"\w+", line)
        depth = name.start() // 4
        branch[depth:] = [name[0]]
        drawn[name[0]] = branch[depth - 1] if depth else None
    parents = {name: kind.__bases__[0].__name__ for name, kind in CLASSES.items()}
    assert drawn == {**parents, "PartwiseError": None}


def test_each_error_has_advice(page, tables, names) -> None:
    documented = {
        name: row["what to do if it is raised" if "retried" in row else "what to do"]
        for table in tables(page("errors"))
        for row in table
        for name in names(row["error"])
    }
    assert set(documented) == set(CLASSES)
    assert [name for name, advice in documented.items() if not advice] == ["UploadStopped", "PartwiseError"]


def test_each_error_of_the_storage_is_retried_as_documented(page, tables, names) -> None:
    (said,) = (table for table in tables(page("errors")) if "retried" in table[0])
    kinds = {names(row["error"])[0]: row["retried"] for row in said}
    below = {name for name, kind in CLASSES.items() if issubclass(kind, BackendError)}
    assert set(kinds) == below - {"BackendError", "CallbackError", "BackendClosed"}  # raised directly
    for name, retried in kinds.items():
        assert CLASSES[name]().retryable == retried.startswith("yes"), name


def test_the_fields_of_a_storage_error_are_documented(section, names) -> None:
    documented = names(section("errors", "Errors of the storage").split("\n\n")[0])
    assert set(documented) >= {*vars(BackendError()), "message"}


def test_every_error_is_a_name_of_the_package() -> None:
    assert {name for name in partwise.__all__ if name in CLASSES} == set(CLASSES)
