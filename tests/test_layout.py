"""The layout: which module may import which, and what ships."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

import partwise

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = {"partwise": "core", "partwise.backends": "backends", "partwise.stores": "stores"}

#: Private modules that partwise's own backends and stores share with the core. They import nothing of partwise but
#: errors, and their names appear in no public signature.
SHARED = ["_closing", "_durable", "_extras", "_os_errors", "_signals", "_units", "_validation"]

#: The public modules, from the bottom up, with the engine in its place. Each may import those before it, and no other.
CORE = [
    "_closing",
    "_durable",
    "_extras",
    "_os_errors",
    "_signals",
    "_units",
    # values and contracts: plug-ins import these
    "errors",
    "_validation",
    "checksums",
    "clock",
    "content_types",
    "http_errors",
    "paging",
    "model",
    "checkpoint",
    "results",
    "events",
    "protocols",
    "_supports",
    "config",
    "registry",
    "sources",
    "bodies",
    # one upload
    "_engine",
    # what people call
    "progress",
    "explain",
    "task",
    "uploader",
]

#: The modules of the engine, from the bottom up: first what sends parts, then the stages of an upload.
ENGINE = [
    "control",
    "plan",
    "plugin_calls",
    "status",
    "concurrency",
    "patience",
    "retry",
    "tail",
    "low_speed",
    "throttle",
    "workers",
    "pipelining",
    "thread_workers",
    "scheduler",
    "async_callbacks",
    "ledger",
    "reconcile",
    "reporter",
    "event_reporter",
    "record",
    "context",
    "resume",
    "stream",
    "single_put",
    "finish",
    "claim",
    "complete",
    "abort",
    "compare",
    "verify",
    "stages",
    "upload",
]

#: These may import everything below them.
ON_TOP = {"cli", "fsspec", "server", "testing", "__main__"}

#: Imports that exist for type checkers only, against the order: an error has fields whose types are values, and a
#: private module names the type of a public callback.
TYPE_ONLY = {
    ("errors", "model"),
    ("errors", "results"),
    ("_engine.async_callbacks", "progress"),
}

#: What third-party backends and stores can import. Ours import no more, apart from `SHARED`.
CONTRACTS = {
    "bodies",
    "checkpoint",
    "checksums",
    "content_types",
    "errors",
    "http_errors",
    "model",
    "paging",
    "protocols",
}


def modules(folder):
    return sorted((ROOT / folder).rglob("*.py"))


def identifier(path):
    return path.relative_to(ROOT).as_posix()


def name_of(path):
    """Return the module's dotted name, as it is imported."""
    folder, *inner = path.relative_to(ROOT).with_suffix("").parts
    package = next(package for package, home in FOLDERS.items() if home == folder)
    return ".".join([package, *inner]).removesuffix(".__init__")


MODULES = {name_of(path) for folder in FOLDERS.values() for path in modules(folder)}


@cache
def statements_of(path: Path) -> list[tuple[ast.AST, bool]]:
    """
    Return a module and all statements in it, each with whether it runs at the import of the module.

    Expressions, which are most of a tree, are left out: they contain no statements. Several tests read these.
    """
    found: list[tuple[ast.AST, bool]] = []

    def visit(node: ast.AST, *, at_once: bool) -> None:
        found.append((node, at_once))
        typing_only = isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING"
        inner = at_once and not typing_only and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.expr):
                visit(child, at_once=inner)

    visit(ast.parse(path.read_text()), at_once=True)
    return found


def imports(path):
    """Return (module, lazily) for each module of this project that a file imports; lazily: not at its own import."""
    found = set()

    def add(name, *, lazily):
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        if name:
            found.add((name, lazily))

    for node, at_once in statements_of(path):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    add(alias.name, lazily=not at_once)
            case ast.ImportFrom(module=module, names=names, level=0):
                for alias in names:  # a name that is imported may be a module
                    add(f"{module}.{alias.name}", lazily=not at_once)
            case ast.ImportFrom():
                pytest.fail(f"{path}: imports are absolute")
    return {(module, lazily) for module, lazily in found if module != name_of(path)}


def inner(module):
    """Return ``model`` for ``partwise.model``, ``backends`` for ``partwise.backends.oss``, "" for ``partwise``."""
    return module.removeprefix("partwise").lstrip(".").partition(".")[0]


def core_modules():
    return [path for path in modules("core") if inner(name_of(path)) not in ON_TOP]


@pytest.mark.parametrize("path", core_modules(), ids=identifier)
def test_a_module_imports_only_modules_below_it(path):
    name = name_of(path).removeprefix("partwise").lstrip(".")
    if name in {"", "_engine"}:
        return  # the package itself
    top, _, part = name.partition(".")
    below = set(CORE[: CORE.index(top)])
    if part:
        below |= {f"_engine.{module}" for module in ENGINE[: ENGINE.index(part)]} | {"_engine"}
    wrong = set()
    for module, lazily in imports(path):
        target = module.removeprefix("partwise").lstrip(".")
        allowed = target in below or (inner(module) in below and not part)
        if not allowed and not (lazily and (name, target) in TYPE_ONLY):
            wrong.add(target)

    assert wrong == set()


def test_every_module_has_its_place():
    names = [name_of(path).removeprefix("partwise").lstrip(".") for path in core_modules()]

    assert {name for name in names if name and "." not in name} == set(CORE)
    assert {name.partition(".")[2] for name in names if "." in name} == set(ENGINE)


@pytest.mark.parametrize("path", modules("backends"), ids=identifier)
def test_a_backend_imports_what_a_third_party_backend_can_import(path):
    allowed = {*CONTRACTS, *SHARED, "backends"}

    assert {module for module, _ in imports(path) if inner(module) not in allowed} == set()


@pytest.mark.parametrize("path", modules("stores"), ids=identifier)
def test_a_store_imports_what_a_third_party_store_can_import(path):
    allowed = {*CONTRACTS, *SHARED, "stores"}

    assert {module for module, _ in imports(path) if inner(module) not in allowed} == set()


@pytest.mark.parametrize("path", modules("backends/_http"), ids=identifier)
def test_http_imports_no_storage_service(path):
    backends = {module for module, _ in imports(path) if inner(module) == "backends"}

    assert {module for module in backends if not module.startswith("partwise.backends._http")} == set()


@pytest.mark.parametrize("path", modules("core/testing"), ids=identifier)
def test_the_test_kit_imports_public_modules_only(path):
    private = {"_engine", "cli"}
    if "_proof" in path.parts:
        private = {"cli"}

    assert {module for module, _ in imports(path) if inner(module) in private} == set()


@pytest.mark.parametrize("path", modules("core/server"), ids=identifier)
def test_the_server_imports_neither_the_test_kit_nor_the_engine(path):
    assert {module for module, _ in imports(path) if inner(module) in {"_engine", "cli", "testing"}} == set()


def test_no_two_classes_have_the_same_name():
    names = Counter(
        node.name
        for folder in FOLDERS.values()
        for path in modules(folder)
        for node, _ in statements_of(path)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )

    assert {name: count for name, count in names.items() if count > 1} == {}


DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@pytest.mark.parametrize("folder", FOLDERS.values())
def test_the_first_line_of_a_docstring_is_one_sentence_of_at_most_79_characters(folder):
    wrong = []
    for path in modules(folder):
        for node, _ in statements_of(path):
            if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)) is not None:
                first, _, rest = text.partition("\n")
                if len(first) > 79 or not first.endswith(".") or (rest and not rest.startswith("\n")):
                    wrong.append(f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'the module')}: {first}")

    assert wrong == []


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


@pytest.mark.parametrize("folder", ["core", "core/_engine", "backends", "stores"])
def test_the_map_of_the_code_names_every_module(folder):
    """Private modules of backends and stores are known where those are."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    words = set(re.findall(r"\w+", text[text.index("## A map of the code") : text.index("## Glossary")]))
    found = {path.stem for path in (ROOT / folder).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    unnamed = found - words - {"__init__", "__main__"}

    assert {name for name in unnamed if folder.startswith("core") or not name.startswith("_")} == set()
