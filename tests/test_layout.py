"""The house: which room may know which, and what ships."""

from __future__ import annotations

import ast
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

import partwise

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = {"partwise": "core", "partwise.backends": "backends", "partwise.stores": "stores"}

#: The rooms of the core, from the ground up: each may import those before it, and no other.
ROOMS = [
    "_durable",
    "_system_errors",
    "_signals",
    "errors",
    "_checking",
    "model",
    "structuring",
    "protocols",
    "checksums",
    "content_types",
    "config",
    "planning",
    "receipts",
    "ledger",
    "sources",
    "calling",
    "retrying",
    "pacing",
    "transport",
    "threads",
    "sending",
    "run",
    "endings",
    "deciding",
    "completing",
    "engine",
    "plugins",
    "progress",
    "uploader",
]

#: What stands on top and may use all.
ON_TOP = {"cli", "testing", "__main__"}

#: Internal modules that our own backends and stores share. `_durable` has the operations on files that both must get
#: right in the same way; `_system_errors` says which errors are transient, at the source and at the destination;
#: `_signals` tells what a signal handler raised; `_checking` refuses wrong arguments. They import nothing of partwise
#: but errors, and their names appear in no public signature.
SHARED = {"_durable", "_system_errors", "_signals", "_checking"}

#: What a room knows of one above it, without importing it when it is imported itself: a value of the model makes plain
#: data of itself, by a room that knows the value; and an error has fields whose types are values of the model.
LAZY = {("model", "structuring"), ("errors", "model")}


def modules(folder):
    return sorted((ROOT / folder).rglob("*.py"))


def rooms():
    return [path for path in modules("core") if Path(path.relative_to(ROOT / "core").parts[0]).stem not in ON_TOP]


def identifier(path):
    return path.relative_to(ROOT).as_posix()


def name_of(path):
    """The module's dotted name, as it is imported."""
    folder, *inner = path.relative_to(ROOT).with_suffix("").parts
    package = next(package for package, home in FOLDERS.items() if home == folder)
    return ".".join([package, *inner]).removesuffix(".__init__")


def imports(path):
    """(module, lazily) for each module of this project that a file imports; lazily: not when it is imported itself."""
    found = []

    def visit(node, *, lazily):
        match node:
            case ast.Import(names=names):
                found.extend((alias.name, lazily) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=0):
                # A name that is imported may be a module itself.
                found.extend((f"{module}.{alias.name}", lazily) for alias in names)
            case ast.ImportFrom():
                pytest.fail(f"{path}: imports are absolute, so that they can be read without knowing the place")
        typing_only = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        inner = lazily or typing_only or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, lazily=inner)

    visit(ast.parse(path.read_text()), lazily=False)
    return {(module, lazily) for module, lazily in found if module.split(".")[0] == "partwise"}


def room_of(module):
    """``partwise.model.Checkpoint`` is of the room "model", ``partwise.upload`` of the face, which is ""."""
    parts = module.split(".")
    inner = parts[1] if len(parts) > 1 else ""
    return inner if inner in {*ROOMS, *ON_TOP, "backends", "stores"} else ""


@pytest.mark.parametrize("path", rooms(), ids=identifier)
def test_a_room_imports_only_rooms_below_it(path):
    room = path.stem
    if room == "__init__":
        allowed = set(ROOMS)
    else:
        assert path.parent == ROOT / "core", "a room is one file"
        allowed = set(ROOMS[: ROOMS.index(room)])
    wrong = {
        module
        for module, lazily in imports(path)
        if room_of(module) not in allowed and not (lazily and (room, room_of(module)) in LAZY)
    }

    assert wrong == set()


def test_every_room_has_its_place():
    assert {path.stem for path in rooms()} == {"__init__", *ROOMS}


@pytest.mark.parametrize("path", modules("backends"), ids=identifier)
def test_a_backend_uses_what_a_strangers_backend_can_use(path):
    allowed = {"protocols", "model", "errors", "checksums", "content_types", "backends", *SHARED}

    assert {module for module, _ in imports(path) if room_of(module) not in allowed} == set()


@pytest.mark.parametrize("path", modules("stores"), ids=identifier)
def test_a_store_uses_what_a_strangers_store_can_use(path):
    allowed = {"protocols", "model", "errors", "checksums", "structuring", "stores", *SHARED}

    assert {module for module, _ in imports(path) if room_of(module) not in allowed} == set()


@pytest.mark.parametrize("path", modules("core/testing"), ids=identifier)
def test_the_test_kit_does_without_the_command_line(path):
    assert {module for module, _ in imports(path) if room_of(module) == "cli"} == set()


def test_the_packages_are_the_folders():
    """A folder that is not listed is missing in the wheel."""
    setuptools = PROJECT["tool"]["setuptools"]
    folders = {name_of(path) for folder in FOLDERS.values() for path in modules(folder) if path.name == "__init__.py"}

    assert setuptools["package-dir"] == FOLDERS
    assert set(setuptools["packages"]) == folders
    assert len(setuptools["packages"]) == len(folders)


@pytest.mark.parametrize("folder", FOLDERS.values())
def test_every_module_lies_in_a_package(folder):
    """A folder without an `__init__` is missing in the wheel, too."""
    assert [path for path in modules(folder) if not (path.parent / "__init__.py").exists()] == []


def test_the_types_ship():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["partwise"]

    assert (ROOT / "core" / "py.typed").exists()
    assert any(fnmatch("py.typed", pattern) for pattern in patterns)


def test_every_public_name_is_checked_as_a_user_would_write_it():
    """The gate runs mypy over that file, against what was installed."""
    used = ast.parse((ROOT / "tests" / "typing" / "api.py").read_text())
    names = {node.id for node in ast.walk(used) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(used) if isinstance(node, ast.Attribute)}

    assert set(partwise.__all__) - names == set()


def test_every_other_file_in_a_package_ships():
    """Such as a table, or a template."""
    data = PROJECT["tool"]["setuptools"]["package-data"]
    for folder in FOLDERS.values():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix not in {".py", ".pyc"}:
                packages = [package for package in data if _lies_in(path, package)]
                assert any(
                    fnmatch(path.relative_to(_home(package)).as_posix(), pattern)
                    for package in packages
                    for pattern in data[package]
                ), f"{path} does not ship"


def _home(package):
    known = max((name for name in FOLDERS if f"{package}.".startswith(f"{name}.")), key=len)
    return ROOT / FOLDERS[known] / package.removeprefix(known).lstrip(".").replace(".", "/")


def _lies_in(path, package):
    return path.is_relative_to(_home(package))
