"""The guide for contributors names functions, classes and modules that exist, where it says they are."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FOLDERS = [ROOT / "core", ROOT / "backends", ROOT / "stores"]

#: What a variable in an example is.
VARIABLES = {
    "backend": "MultipartBackend",
    "body": "Body",
    "source": "Source",
    "store": "CheckpointStore",
}


@pytest.fixture(scope="module")
def text() -> str:
    """The walks through the code, and where to look."""
    whole = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return whole[whole.index("## Three walks") : whole.index("## Rules")]


class Code:
    """What is defined in which module, and the members of each class."""

    def __init__(self) -> None:
        self.defined: dict[str, set[Path]] = defaultdict(set)
        self.modules: dict[str, set[Path]] = defaultdict(set)
        self._members: dict[str, set[str]] = defaultdict(set)
        self._bases: dict[str, set[str]] = defaultdict(set)
        for path in (path for folder in FOLDERS for path in folder.rglob("*.py")):
            self.modules[path.parent.name if path.stem == "__init__" else path.stem].add(path)
            for statement in ast.parse(path.read_text(encoding="utf-8")).body:
                for name in names_of(statement):
                    self.defined[name].add(path)
                if isinstance(statement, ast.ClassDef):
                    self._members[statement.name].update(name for one in statement.body for name in names_of(one))
                    self._bases[statement.name].update(re.findall(r"\w+", " ".join(map(ast.unparse, statement.bases))))
                    for name in self._members[statement.name]:
                        self.defined[name].add(path)

    def members(self, name: str) -> set[str]:
        """Return the members of a class, with those that it inherits."""
        return self._members[name].union(*(self.members(base) for base in self._bases[name] - {name}))

    def has(self, name: str) -> bool:
        """Return whether a name, perhaps that of a member, exists."""
        owner, dot, member = name.rpartition(".")
        if not dot:
            return name in self.defined or name in self.modules
        owner = VARIABLES.get(owner, owner)
        if owner in self._members:
            return member in self.members(owner)
        return any(path in self.defined[member] for path in self.modules[owner])


def names_of(statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case ast.Assign(targets=targets):
            yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


@pytest.fixture(scope="module")
def code() -> Code:
    return Code()


def file_of(name: str) -> Path:
    """Return the file that a path stands for; `core/` is left out."""
    return next((path for path in (ROOT / name, ROOT / "core" / name) if path.exists()), ROOT / name)


def test_every_name_in_the_walks_exists(text: str, code: Code) -> None:
    marked = {name.partition("(")[0] for name in re.findall(r"`([^`]+)`", text)}
    names = {name for name in marked if re.fullmatch(r"[A-Za-z_][\w.]*", name) and not name.endswith(".py")}

    assert len(names) > 60
    assert {name for name in names if not code.has(name)} == set()


def test_every_file_in_the_walks_exists(text: str) -> None:
    files = set(re.findall(r"`([\w/.-]+(?:\.py|\.md|/))`", text))

    assert len(files) > 15
    assert {name for name in files if not file_of(name).exists()} == set()


def test_every_name_is_in_the_file_that_stands_beside_it(text: str, code: Code) -> None:
    """As in "`name` in `file.py`", or "`file.py`: `name`"."""
    after = re.findall(r"`([\w.]+)(?:\([^`]*\))?`\s(?:in\s|\()`([\w/]+\.py)`", text)
    before = re.findall(r"`([\w/]+\.py)`: [^`|.]*`([\w.]+)", text)
    found = [*after, *((name, file) for file, name in before)]
    pairs = {(name.rpartition(".")[2], file) for name, file in found}

    assert len(pairs) > 10
    assert {(name, file) for name, file in pairs if file_of(file) not in code.defined[name]} == set()
