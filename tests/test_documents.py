"""Every code block of the documents runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
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

# A directory that readers have and the machine that runs this has not.
MADE_UP = "/mnt/backups"


def blocks(document: Path) -> list[tuple[str, str, int]]:
    """Language, text and first line of each fenced block."""
    tokens = MarkdownIt().parse(document.read_text(encoding="utf-8"))
    return [(token.info.strip(), token.content, (token.map or [0])[0] + 1) for token in tokens if token.type == "fence"]


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
    """The Python blocks of one document are one module, as they are for a reader who types them in."""
    module = ModuleType("document")
    monkeypatch.setitem(sys.modules, "document", module)  # so that what it defines can be pickled
    for language, text, line in blocks(document):
        text = text.replace(MADE_UP, str(place / "mnt"))  # noqa: PLW2901  # the block as it can be run here
        if language == "python":
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


def test_links_between_documents_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}, which does not exist"
