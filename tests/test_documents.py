"""Every code block of the documentation runs."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from unittest import SkipTest

import pytest
from markdown_it import MarkdownIt

from partwise.backends.memory import MemoryBackend
from partwise.testing import OSSServer, S3Server

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

# Blocks of these languages are not run: output, data, other languages. `.ci/run` runs the commands that set up an
# environment.
SHOWN = {
    "text",
    "json",
    "xml",
    "toml",
    "ini",
    "yaml",
    "java",
    "javascript",
    "py",
    "csharp",
    "go",
    "objectivec",
    "cpp",
    "c",
    "ruby",
}
SET_UP = "python3 -m venv"

# A block with this line is run as a program, because its worker processes import it.
PROGRAM = 'if __name__ == "__main__":\n'

# A directory of the examples that does not exist on the test machine.
EXAMPLE_DIRECTORY = "/mnt/backups"

# A block that begins with this line is that file, or continues it. All other blocks of a document with tests are one
# file.
FILE = re.compile(r"# (\w+\.py)\n")

# The conftest.py of the tests of the documents.
FEW_EXAMPLES = """
from partwise.testing.conformance.suite import Harness

Harness.examples = 6
"""


def blocks(document: Path) -> list[tuple[str, str, int]]:
    """Return language, text and first line of each fenced block."""
    tokens = MarkdownIt().parse(document.read_text(encoding="utf-8"))
    return [(token.info.strip(), token.content, (token.map or [0])[0] + 1) for token in tokens if token.type == "fence"]


def defines_tests(document: Path) -> bool:
    """Return whether the document defines a test function or a test class."""
    text = "".join(text for language, text, _ in blocks(document) if language == "python")
    return re.search(r"^(def test_|class Test|Test\w+ = )", text, re.MULTILINE) is not None


def python_files(document: Path) -> dict[str, str]:
    """Return the Python files that a document with tests consists of, by name."""
    files: dict[str, list[str]] = {}
    for language, text, line in blocks(document):
        if language == "python":
            named = FILE.match(text)
            name = named[1] if named else f"test_{document.stem.replace('-', '_').lower()}.py"
            lines = files.setdefault(name, [])
            lines += [""] * (line - len(lines)) + text.splitlines()  # so that a failure shows the line of the document
    return {name: "\n".join(lines) + "\n" for name, lines in files.items()}


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put temporary files in memory, if possible, because the conformance suites sync many of them."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        dir=memory if os.access(memory, os.W_OK) else None, ignore_cleanup_errors=True
    ) as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        monkeypatch.setenv("TMPDIR", directory)  # for commands
        yield


@pytest.fixture
def configured_logging() -> Iterator[None]:
    """Undo what a document configures: the levels and the handlers of the loggers."""
    loggers = [logging.getLogger(), logging.getLogger("partwise")]
    before = [(logger.level, logger.handlers[:]) for logger in loggers]
    yield
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture
def workspace(
    tmp_path: Path, scratch: None, configured_logging: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A directory like that of a reader: a file to upload, a state directory, and servers of OSS and of S3."""
    (tmp_path / "backup.tar").write_bytes(bytes(range(256)) * 4096 * 16 + b"end")
    (tmp_path / "mnt").mkdir()
    for program in (ROOT / "docs" / "examples").glob("*.py"):
        shutil.copy(program, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    with OSSServer(buckets={"examplebucket": MemoryBackend()}) as server, S3Server() as s3:
        monkeypatch.setenv("OSS_ENDPOINT", server.endpoint)
        monkeypatch.setenv("OSS_REGION", server.region)
        monkeypatch.setenv("OSS_ACCESS_KEY_ID", server.access_key_id)
        monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", server.access_key_secret)
        for name, value in s3.environment().items():
            monkeypatch.setenv(name, value)
        yield tmp_path


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_every_block_of_a_document_runs(document: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The Python blocks of a document are one module, as for a reader who types them in, except those that are programs.
    """
    module = ModuleType("document")
    monkeypatch.setitem(sys.modules, "document", module)  # so that what it defines can be pickled
    by_pytest = defines_tests(document)
    for language, text, line in blocks(document):
        text = text.replace(EXAMPLE_DIRECTORY, str(workspace / "mnt"))  # noqa: PLW2901  # as it can be run here
        if language == "python" and by_pytest:
            continue  # in the test below
        if language == "python" and PROGRAM in text:
            (workspace / "program.py").write_text(text)
            subprocess.run([sys.executable, "program.py"], check=True, cwd=workspace, timeout=60)
        elif language == "python":
            code = compile("\n" * line + text, str(document), "exec", dont_inherit=True)
            try:
                exec(code, vars(module))
            except SkipTest as skipped:
                pytest.fail(f"{document.name}:{line}: would have been skipped: {skipped}")
        elif language == "console":
            for command in re.findall(r"^\$ (.*(?:\\\n.*)*)", text, re.MULTILINE):
                subprocess.run(command, shell=True, check=True, cwd=workspace, timeout=60)
        else:
            assert (
                language in SHOWN
                or language.startswith("{")
                or (language == "sh" and (SET_UP in text or document.name == "CONTRIBUTING.md"))
            ), f"{document.name}:{line}: a block of language {language!r} would not be run"


def test_the_tests_of_the_documents_pass(workspace: Path) -> None:
    """
    Pytest passes with the tests that the documents show: conformance suites, state machines and fixtures.

    The state machines of the suites run few examples here. `tests/testing` tests what they detect with all of them.
    """
    documents = [path for path in DOCUMENTS if defines_tests(path)]
    for document in documents:  # all in one process, because it starts slowly
        for name, text in python_files(document).items():
            assert not (workspace / name).exists()
            (workspace / name).write_text(text, encoding="utf-8")
    (workspace / "conftest.py").write_text(FEW_EXAMPLES)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "."],
        cwd=workspace,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert documents
    assert len(list(workspace.glob("test_*.py"))) >= len(documents)
    assert ran.returncode == 0, f"{ran.stdout}{ran.stderr}"


def test_links_between_documents_have_a_target() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}, which does not exist"


def test_the_list_of_defects_has_every_row_and_the_number_of_its_tests() -> None:
    """Each of the fifty is in the table of `docs/proof.md`; `tests/proof/test_defects.py` has the tests."""
    document = (ROOT / "docs" / "proof.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| D(\d+) \|.*\| (\d+|-) \|$", document)
    documented = {int(number): int(count.replace("-", "0")) for number, count in rows}
    code = (ROOT / "tests" / "proof" / "test_defects.py").read_text(encoding="utf-8")
    tests = Counter(int(number) for number in re.findall(r"(?m)^def test_d(\d\d)_", code))

    assert documented == {number: tests[number] for number in range(1, 51)}
    assert {number for number, count in documented.items() if not count} == {50}
    assert f": {len(tests)} of the fifty rows have one or more" in document
