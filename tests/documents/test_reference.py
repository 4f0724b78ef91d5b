"""Whatever is public is in the reference, and says what its arguments mean."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import attrs
import pytest

import partwise
import partwise.backends.oss
import partwise.backends.s3
import partwise.events
import partwise.fsspec
import partwise.progress
import partwise.testing
from partwise import protocols, registry
from partwise.backends.local import LocalBackend
from partwise.backends.memory import MemoryBackend
from partwise.stores.file import FileCheckpointStore
from partwise.stores.memory import MemoryCheckpointStore
from partwise.stores.postgres import PostgresCheckpointStore
from partwise.stores.sqlite import SQLiteCheckpointStore

REFERENCE = Path(__file__).parent.parent.parent / "docs" / "reference"

FACE = {name: getattr(partwise, name) for name in partwise.__all__}
SHIPPED = {
    kind.__name__: kind
    for kind in (
        *(LocalBackend, MemoryBackend),
        *(FileCheckpointStore, SQLiteCheckpointStore, PostgresCheckpointStore, MemoryCheckpointStore),
    )
}
for package in (partwise.backends.oss, partwise.backends.s3):
    SHIPPED |= {name: getattr(package, name) for name in package.__all__ if name not in {"open_url", "DIALECTS"}}
SHIPPED |= {name: getattr(partwise.fsspec, name) for name in partwise.fsspec.__all__ if name != "UploadFile"}
EVENTS = {name: getattr(partwise.events, name) for name in partwise.events.__all__ if name != "EventCallback"}
PROGRESS = {name: value for name, value in vars(partwise.progress).items() if name.startswith("for_")}


@pytest.fixture(scope="module")
def referenced() -> set[str]:
    """The dotted names that the reference pages document; those of a module that is documented whole among them."""
    found = set()
    for page in REFERENCE.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        found |= set(re.findall(r"^\.\. auto(?:class|function|data|exception):: (\S+)$", text, re.MULTILINE))
        for module in re.findall(r"^\.\. automodule:: (\S+)\n(?!   :no-members:)", text, re.MULTILINE):
            names = vars(__import__(module, fromlist=["_"]))
            found |= {f"{module}.{name}" for name, value in names.items() if getattr(value, "__module__", "") == module}
    return found


def homes(name: str, value: object) -> set[str]:
    """The names under which something may be documented: that of its own module, and those it is imported by."""
    module = str(getattr(value, "__module__", ""))
    packages = (
        module,
        module.rpartition(".")[0],
        "partwise",
        "partwise.testing",
        "partwise.backends.oss",
        "partwise.backends.s3",
    )
    return {f"{package}.{name}" for package in packages}


@pytest.mark.parametrize(("name", "value"), [*FACE.items(), *SHIPPED.items(), *PROGRESS.items(), *EVENTS.items()])
def test_every_public_name_is_in_the_reference(referenced: set[str], name: str, value: object) -> None:
    assert homes(name, value) & referenced


def test_every_name_of_the_test_kit_is_in_the_reference(referenced: set[str]) -> None:
    text = (REFERENCE / "testing.md").read_text(encoding="utf-8")
    missing = [
        name
        for name in partwise.testing.__all__
        if not homes(name, getattr(partwise.testing, name)) & referenced and f"partwise.testing.{name}\n" not in text
    ]
    assert missing == []


def arguments(value: object) -> list[str]:
    """What something public is called or made with."""
    if attrs.has(value):  # type: ignore[arg-type]  # anything may be asked
        return [field.name for field in attrs.fields(value) if not field.name.startswith("_")]
    if inspect.isclass(value) and (issubclass(value, BaseException) or getattr(value, "_is_protocol", False)):
        return [] if "__init__" not in vars(value) else named(value.__init__)
    return named(value)


def named(function: object) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    except ValueError:
        return []
    return [p.name for p in parameters if p.name != "self" and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, value in {**FACE, **SHIPPED, **EVENTS}.items() if name != "UploadTask"]
)
def test_every_argument_is_documented(name: str, value: object) -> None:
    text = inspect.getdoc(value) or ""
    documented = set(re.findall(r"^    (\w+): ", text, re.MULTILINE)) | set(re.findall(r"`(\w+)`", text))
    inherited = set()
    if inspect.isclass(value) and (issubclass(value, BaseException) or attrs.has(value)):
        for base in value.__mro__[1:]:
            inherited |= set(re.findall(r"^    (\w+): ", inspect.getdoc(base) or "", re.MULTILINE))
    assert set(arguments(value)) - documented - inherited - {"message"} == set()


def test_the_groups_of_entry_points_are_those_that_are_looked_up(page) -> None:
    [sentence] = re.findall(r"groups of entry points (.*?)\.$", page("compatibility"), re.MULTILINE | re.DOTALL)
    guides = page("write-a-backend") + page("write-a-store")

    groups = {registry.BACKENDS, registry.CHECKPOINT_STORES}
    assert set(re.findall(r"`(.*?)`", sentence)) == groups
    assert set(re.findall(r'^\[project\.entry-points\."(.*?)"\]$', guides, re.MULTILINE)) == groups


def test_the_guide_for_backends_has_every_optional_method(section, tables, names) -> None:
    kinds = {name: kind for name, kind in vars(protocols).items() if name.startswith("Supports")}
    del kinds["SupportsClaimCheck"]  # of stores
    methods = {name for kind in kinds.values() for name in vars(kind) if inspect.isfunction(getattr(kind, name))}
    [table] = tables(section("write-a-backend", "Optional methods"))

    assert {name for name in methods if not name.startswith("_")} - {names(row["method"])[0] for row in table} == set()


def test_every_environment_variable_of_a_storage_is_in_the_reference(section) -> None:
    variable = re.compile(r"[\"`]((?:ALIBABA_CLOUD|AWS|OSS|PARTWISE)_[A-Z0-9_]+)[\"`]")
    folders = [REFERENCE.parent.parent / name for name in ("core", "backends", "stores")]
    code = "".join(path.read_text(encoding="utf-8") for folder in folders for path in folder.rglob("*.py"))
    shown = section("reference/command-line", "Environment variables")

    assert set(variable.findall(shown)) == set(variable.findall(code))
