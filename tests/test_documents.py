"""Every code block of the documents runs."""

from __future__ import annotations

import os
import re
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
from partwise.testing import OSSServer

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

# Blocks of these languages are looked at, not run: output, data, other languages. The gate runs what sets up an
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

# What is run as a program of its own: its workers are processes, which import it.
PROGRAM = 'if __name__ == "__main__":\n'

# A directory that readers have and the machine that runs this has not.
MADE_UP = "/mnt/backups"


def blocks(document: Path) -> list[tuple[str, str, int]]:
    """Language, text and first line of each fenced block."""
    tokens = MarkdownIt().parse(document.read_text(encoding="utf-8"))
    return [(token.info.strip(), token.content, (token.map or [0])[0] + 1) for token in tokens if token.type == "fence"]


def defines_tests(document: Path) -> bool:
    """Whether it has a test function or a test class."""
    text = "".join(text for language, text, _ in blocks(document) if language == "python")
    return re.search(r"^(def test_|class Test|Test\w+ = )", text, re.MULTILINE) is not None


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where temporary files go: in memory if there is such a place, since the suites for plug-ins sync them a lot."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        dir=memory if os.access(memory, os.W_OK) else None, ignore_cleanup_errors=True
    ) as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        monkeypatch.setenv("TMPDIR", directory)  # of commands, likewise
        yield


@pytest.fixture
def place(tmp_path: Path, scratch: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place like a reader's: a file to upload, a state directory, and an OSS to upload to."""
    (tmp_path / "backup.tar").write_bytes(bytes(range(256)) * 4096 * 16 + b"end")
    (tmp_path / "mnt").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    with OSSServer(buckets={"examplebucket": MemoryBackend()}) as server:
        monkeypatch.setenv("OSS_ENDPOINT", server.endpoint)
        monkeypatch.setenv("OSS_REGION", server.region)
        monkeypatch.setenv("OSS_ACCESS_KEY_ID", server.access_key_id)
        monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", server.access_key_secret)
        yield tmp_path


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_every_block_of_a_document_runs(document: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The Python blocks of one document are one module, as they are for a reader who types them in; but for those that are
    whole programs.
    """
    module = ModuleType("document")
    monkeypatch.setitem(sys.modules, "document", module)  # so that what it defines can be pickled
    by_pytest = defines_tests(document)
    for language, text, line in blocks(document):
        text = text.replace(MADE_UP, str(place / "mnt"))  # noqa: PLW2901  # the block as it can be run here
        if language == "python" and by_pytest:
            continue  # see below
        if language == "python" and PROGRAM in text:
            (place / "program.py").write_text(text)
            subprocess.run([sys.executable, "program.py"], check=True, cwd=place, timeout=60)
        elif language == "python":
            code = compile("\n" * line + text, str(document), "exec", dont_inherit=True)
            try:
                exec(code, vars(module))
            except SkipTest as skipped:
                pytest.fail(f"{document.name}:{line}: would have been skipped: {skipped}")
        elif language == "console":
            for command in re.findall(r"^\$ (.*(?:\\\n.*)*)", text, re.MULTILINE):
                subprocess.run(command, shell=True, check=True, cwd=place, timeout=60)
        else:
            assert (
                language in SHOWN
                or language.startswith("{")
                or (language == "sh" and (SET_UP in text or document.name == "CONTRIBUTING.md"))
            ), f"{document.name}:{line}: a block of language {language!r} would not be run"


def test_the_tests_of_the_documents_pass(place: Path) -> None:
    """Where readers are shown how to test, pytest runs what they are shown: suites, state machines and fixtures."""
    documents = [path for path in DOCUMENTS if defines_tests(path)]
    for document in documents:  # in one process, whose start costs more than most of the tests
        lines: list[str] = []
        for language, text, line in blocks(document):
            if language == "python":
                lines += [""] * (line - len(lines)) + text.splitlines()  # so that a failure names the document's line
        name = f"test_{document.stem.replace('-', '_').lower()}.py"
        (place / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "."],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert documents
    assert len(list(place.glob("test_*.py"))) == len(documents)
    assert ran.returncode == 0, f"{ran.stdout}{ran.stderr}"


def test_links_between_documents_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}, which does not exist"


def test_the_list_of_defects_has_every_row_and_the_number_of_its_tests() -> None:
    """Each of the fifty is in the table of `docs/proof.md`; `tests/proof/test_defects.py` has the tests."""
    document = (ROOT / "docs" / "proof.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| D(\d+) \|.*\| (\d+|-) \|$", document)
    told = {int(number): int(count.replace("-", "0")) for number, count in rows}
    code = (ROOT / "tests" / "proof" / "test_defects.py").read_text(encoding="utf-8")
    tests = Counter(int(number) for number in re.findall(r"(?m)^def test_d(\d\d)_", code))

    assert told == {number: tests[number] for number in range(1, 51)}
    assert {number for number, count in told.items() if not count} == {50}
    assert f": {len(tests)} of the fifty rows have one or more" in document
