"""The list of mutations fits the code; `mutations.py` runs them, which takes longer."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import sys
from collections import Counter
from functools import lru_cache
from pathlib import Path

import pytest

_PATH = Path(__file__).with_name("mutations.py")


@pytest.fixture(scope="module")
def mutations():
    """Import the script as a module."""
    specification = importlib.util.spec_from_file_location("mutations", _PATH)
    module = importlib.util.module_from_spec(specification)
    sys.modules["mutations"] = module  # attrs resolves type names there
    specification.loader.exec_module(module)
    yield module
    del sys.modules["mutations"]


def test_the_code_that_a_mutation_replaces_is_in_the_source_once(mutations):
    counts = {m.name: (mutations.ROOT / m.file).read_text().count(m.before) for m in mutations.MUTATIONS}

    assert {name: count for name, count in counts.items() if count != 1} == {}


def test_a_mutation_changes_the_code_and_is_valid_python(mutations):
    for mutation in mutations.MUTATIONS:
        code = (mutations.ROOT / mutation.file).read_text()
        broken = code.replace(mutation.before, mutation.after)
        assert broken != code, mutation.name
        begin, end = _around(code, mutation.before)
        compile("if True:\n" * broken[begin].isspace() + broken[begin : len(broken) - end], mutation.name, "exec")


def _around(code, before):
    """
    Return where the functions or statements around a piece of code begin and end, counted from the end of the code.

    To compile those takes a tenth of the time that the modules would take, most of which have many mutations.
    """
    lines = code.splitlines(keepends=True)
    first = code[: code.index(before)].count("\n") + 1
    last = first + before.count("\n")
    begin, end = 1, len(lines) + 1
    members = _parsed(code).body
    while members:
        starts = [min(node.lineno for node in (member, *getattr(member, "decorator_list", ()))) for member in members]
        if starts[0] > first:
            break  # in the head of the class
        begin = max(start for start in starts if start <= first)
        end = min((start for start in starts if start > last), default=end)
        around = members[starts.index(begin)]
        members = around.body if isinstance(around, ast.ClassDef) and around.end_lineno >= last else ()
    return len("".join(lines[: begin - 1])), len("".join(lines[end - 1 :]))


_parsed = lru_cache(maxsize=8)(ast.parse)


def test_each_name_for_files_or_tests_is_assigned_once(mutations):
    """Otherwise one group of mutations would run the tests of another."""
    for area in mutations.AREAS:
        assigned = [
            name.id
            for node in ast.parse(Path(area.__file__).read_text()).body
            if isinstance(node, ast.Assign)
            for target in node.targets
            for name in ast.walk(target)
            if isinstance(name, ast.Name)
        ]

        assert [name for name, count in Counter(assigned).items() if count > 1] == [], area.__name__


def test_each_mutation_has_a_unique_name_and_existing_tests(mutations):
    names = [mutation.name for mutation in mutations.MUTATIONS]
    files = {tests.split()[0] for mutation in mutations.MUTATIONS for tests in mutation.tests}

    assert len(set(names)) == len(names)
    assert {name for name in files if not (mutations.ROOT / name).exists()} == set()


def test_each_word_that_selects_tests_of_a_mutation_selects_one(mutations):
    """A renamed test must not leave a mutation with no test, or with a slow one that was excluded."""
    for selection in {tests for mutation in mutations.MUTATIONS for tests in mutation.tests if " -k " in tests}:
        path, _, expression = shlex.split(selection)
        module = mutations.ROOT / path
        files = [file for file in (module, module.with_name("conftest.py")) if file.exists()]
        code = "".join(file.read_text() for file in files)  # the ids of parameters may be those of a fixture
        known = " ".join(map("".join, re.findall(r"def (test_\w+)|class (\w+)|\"([\w.]+)\"", code)))
        words = set(re.findall(r"\w+", expression)) - {"and", "or", "not"}

        assert {word for word in words if word not in known} == set(), selection


def test_the_documents_have_about_their_number(mutations):
    found = re.search(r"about ([\d,]+) mutations", (mutations.ROOT / "docs" / "proof.md").read_text(encoding="utf-8"))

    assert int(found[1].replace(",", "")) == pytest.approx(len(mutations.MUTATIONS), rel=0.1)
