"""Every code block of the documentation runs, and what it is said to print is what it prints."""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import SkipTest

import click
import forked
import pytest
from markdown_it import MarkdownIt

from partwise.backends.memory import MemoryBackend
from partwise.cli.app import app
from partwise.testing import OSSServer, S3Server

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

# Blocks of these languages are not run: data, other languages.
SHOWN = {
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
    "sql",
}

# A block of text is what the block before it prints, and is compared with that. These are something else: a drawing, or
# an excerpt that another test compares. By document, how each begins.
NOT_OUTPUT = {
    "CONTRIBUTING.md": ["core/"],
    "docs/checkpoint-format.md": ["partwise-checkpoint/1 "],  # tests/documents/test_checkpoint_format.py
    "docs/errors.md": ["PartwiseError"],  # tests/documents/test_errors.py
    "docs/how-resuming-works.md": ["claim → load → reconcile → "],
    "docs/logging.md": ["2026-11-26 09:15:14,227 WARNING partwise: "],  # tests/core/engine/test_outages.py
    "docs/reference/command-line.md": ["retrying: no connection to ", '"waiting": {', "partwise "],  # tests/cli
    "docs/test-your-program.md": ["AssertionError: RETRY: "],  # tests/documents/test_machine_report.py
}

# What differs from run to run, as it is written in the documents, and what it stands for. Where a line has anything
# else, the documents have "…"; a line "..." stands for any number of lines.
VARYING = [
    (r"127\.0\.0\.1:\d+", r"127\.0\.0\.1:\d+"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"),
    (r"\d+(?:\.\d+)? m?s\b", r"\d+(?:\.\d+)? m?s"),
    (r"\d+(?:\.\d+)? [KMG]iB/s", r"\d+(?:\.\d+)? [KMG]?i?B/s"),
    (r"\b[0-9a-f]{4,}…", r"[0-9a-f]+"),
    (r"\b(?=\d*[a-f])[0-9a-f]{8}\b", r"[0-9a-f]+"),  # the name of a checkpoint
    (r"MiB in \d+ parts?", r"MiB in \d+ parts?"),  # the automatic part size depends on the response times
    (r"…", r".*?"),
    (r" +", r" +"),
]

# A block that begins with this line is the output of a command that has to be ended.
SERVE = "$ partwise serve"

# A block with this line is run as a program, because its worker processes import it.
PROGRAM = 'if __name__ == "__main__":\n'

# Directories of the examples that do not exist on the test machine: one to upload to, and that of the reader.
EXAMPLE_DIRECTORY = "/mnt/backups"
EXAMPLE_HOME = "/home/you"

# A block that begins with this line is that file, or continues it. All other blocks of a document with tests are one
# file.
FILE = re.compile(r"# (\w+\.py)\n")

# The conftest.py of the tests of the documents. Hypothesis searches all modules for constants, which takes seconds
# unless it finds those of an earlier run. The longest checks are not repeated as tests: the documents also show how all
# checks are run without pytest, and that they pass. What is there before the tests is never garbage.
FEW_EXAMPLES = f"""
import gc

gc.disable()

from hypothesis.configuration import set_hypothesis_home_dir
from partwise.testing.conformance.suite import Harness

Harness.examples = 6
set_hypothesis_home_dir({str(ROOT / ".hypothesis")!r})

LONG = ("bodies_are_not_held_in_memory", "more_parts_than_a_page", "more_uploads_than_a_page")

def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if item.name.removeprefix("test_") not in LONG]

def pytest_collection_finish():
    gc.freeze()
    gc.enable()
"""


@cache
def blocks(document: Path) -> list[tuple[str, str, int]]:
    """Return language, text and first line of each fenced block; several tests read them."""
    tokens = MarkdownIt().disable("inline").parse(document.read_text(encoding="utf-8"))
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


def pattern(shown: str) -> str:
    """Return the regular expression that output has to match, to be what a document shows."""
    varying = "|".join(f"({written})" for written, _ in VARYING)
    lines = []
    for line in shown.rstrip("\n").splitlines():
        if line == "...":
            lines.append(r"(?:.*\n)*?")
            continue
        place, expression = 0, ""
        for found in re.finditer(varying, line.rstrip()):
            expression += re.escape(line[place : found.start()]) + VARYING[(found.lastindex or 1) - 1][1]
            place = found.end()
        lines.append(expression + re.escape(line[place:].rstrip()) + r" *\n")
    return "".join(lines)


def commands(text: str) -> list[tuple[str, str]]:
    """Return the commands of a console block, each with the output that is shown for it."""
    found = re.findall(r"^\$ (.*(?:\\\n.*)*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE)
    assert "".join(f"$ {command}\n{output}" for command, output in found) == text, "a console block begins with '$ '"
    return found


def check_output(where: str, shown: str, printed: str, home: Path) -> None:
    """Fail if a document shows something else than was printed."""
    printed = printed.replace(str(home / "mnt"), EXAMPLE_DIRECTORY).replace(str(home), EXAMPLE_HOME)
    printed = printed.rstrip("\n") + "\n"
    assert re.fullmatch(pattern(shown), printed), f"{where} shows\n{shown}\nand this was printed:\n{printed}"


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
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    # Dask forks its workers from one process, which has imported Dask, in place of starting each.
    monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD", "forkserver")
    with OSSServer(buckets={"examplebucket": MemoryBackend()}) as server, S3Server() as s3:
        monkeypatch.setenv("OSS_ENDPOINT", server.endpoint)
        monkeypatch.setenv("OSS_REGION", server.region)
        monkeypatch.setenv("OSS_ACCESS_KEY_ID", server.access_key_id)
        monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", server.access_key_secret)
        for name, value in s3.environment().items():
            monkeypatch.setenv(name, value)
        yield tmp_path


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_every_block_of_a_document_runs_and_prints_what_is_shown(
    document: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """
    The Python blocks of a document are one module, as for a reader who types them in, except those that are programs.
    """
    runs = any(language in ("python", "console") for language, _, _ in blocks(document))
    workspace = request.getfixturevalue("workspace") if runs else tmp_path
    module = ModuleType("document")
    monkeypatch.setitem(sys.modules, "document", module)  # so that what it defines can be pickled
    logging.getLogger().handlers.clear()  # those of pytest, with which a document could not configure logging
    by_pytest = defines_tests(document)
    drawn = tuple(NOT_OUTPUT.get(document.relative_to(ROOT).as_posix(), ()))
    found: set[str] = set()
    printed: str | None = None  # by the block before
    for language, shown, line in blocks(document):
        where = f"{document.name}:{line}"
        text = shown.replace(EXAMPLE_DIRECTORY, str(workspace / "mnt"))  # as it can be run here
        before, printed = printed, None
        if language == "python" and by_pytest and not shows_output(document):
            continue  # in the test below
        if language == "python" and PROGRAM in text:
            (workspace / "program.py").write_text(text)
            printed = output_of(forked.start_script("program.py", cwd=workspace, **READ))
        elif language == "python":
            code = compile("\n" * line + text, str(document), "exec", dont_inherit=True)
            capsys.readouterr()
            try:
                exec(code, vars(module))
            except SkipTest as skipped:
                pytest.fail(f"{where}: would have been skipped: {skipped}")
            printed = "".join(capsys.readouterr())
        elif language == "console":
            for command, output in commands(text):
                printed = output_of(start(command, workspace))
                if output:
                    check_output(where, output.replace(str(workspace / "mnt"), EXAMPLE_DIRECTORY), printed, workspace)
        elif language == "text" and shown.startswith(drawn):
            found.update(begin for begin in drawn if shown.startswith(begin))
        elif language == "text" and shown.startswith(SERVE):
            pass  # in another test
        elif language == "text":
            assert before is not None, f"{where}: it shows the output of no block before it"
            check_output(where, shown, before, workspace)
        elif language == "sh":
            check_commands(where, shown)
        else:
            assert language in SHOWN or language.startswith("{"), (
                f"{where}: a block of language {language!r} would not be run"
            )
    assert found == {*drawn}, f"{document.name} has no such block any more"


def test_what_serve_prints_is_shown(workspace: Path) -> None:
    """It is ended as by Ctrl-C when it is ready."""
    (workspace / "buckets" / "examplebucket").mkdir(parents=True)
    shown = [
        (document.name, *text.split("\n", 1))
        for document in DOCUMENTS
        for language, text, _ in blocks(document)
        if language == "text" and text.startswith(SERVE)
    ]
    assert len(shown) == 2
    servers = [start(command.removeprefix("$ "), workspace) for _, command, _ in shown]
    try:
        printed = []
        for (_, _, output), server in zip(shown, servers, strict=True):
            assert server.stdout is not None
            printed.append("".join(server.stdout.readline() for _ in output.splitlines()))
    finally:
        for server in servers:
            server.send_signal(signal.SIGINT)
        for server in servers:
            server.communicate(timeout=20)
    for (name, _, output), text in zip(shown, printed, strict=True):
        check_output(name, output, text, workspace)


def shows_output(document: Path) -> bool:
    """Return whether the document shows what its Python blocks print."""
    languages = [language for language, _, _ in blocks(document)]
    return ("python", "text") in pairwise(languages)


#: How the output of a command is read.
READ: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}


def start(command: str, directory: Path) -> subprocess.Popen[str]:
    """
    Start a command.

    If partwise is all that is started, or the second of two in a pipeline, and the shell does nothing for it but to
    split the line, it is forked.
    """
    first, pipe, second = command.replace("\\\n", " ").partition(" | ")
    words = shlex.split(second if pipe else first)
    if words[0] != "partwise" or set("|&;<>()$`*?[]#~!\n'\"") & set("".join(words)) or not forked.can_start({}):
        return subprocess.Popen(command, shell=True, cwd=directory, **READ)
    program = str(Path(sys.executable).with_name("partwise"))
    if not pipe:
        return forked.ForkedCommand(words[1:], program=program, cwd=directory, **READ)
    with subprocess.Popen(first, shell=True, cwd=directory, stdout=subprocess.PIPE) as producer:
        return forked.ForkedCommand(words[1:], program=program, stdin=producer.stdout, cwd=directory, **READ)


def output_of(started: subprocess.Popen[str]) -> str:
    """Return what a command prints, which has to succeed."""
    with started as process:
        try:
            printed, _ = process.communicate(timeout=60)
        except BaseException:
            process.kill()
            raise
    assert process.returncode == 0, printed
    return printed


def check_commands(where: str, text: str) -> None:
    """
    Fail if commands that are shown and not run could not work.

    They need an account, a package index or a long time. The shell has to accept them, the command its options, and the
    files of this repository that they name have to exist.
    """
    ran = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, timeout=10, check=False)
    assert ran.returncode == 0, f"{where}: {ran.stderr}"
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;()")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if not re.fullmatch(r"[|&;()]+", word):
                words.append(word)
                continue
            check_command(f"{where}: {line.strip()}", words)
            words = []


def check_command(where: str, words: list[str]) -> None:
    """Fail if one command could not work; see above."""
    for number, word in enumerate(words):
        if re.match(r"tests/|docs/\w", word):
            assert (ROOT / word).exists(), f"{where}: no such file"
        if Path(word).name == "partwise" and "install" not in words[:number] and "wheel" not in words[:number]:
            name, *arguments = words[number + 1 :]
            if name.startswith("-"):
                return
            assert name in app.commands, f"{where}: no such command"
            command = app.commands[name]
            try:
                command.make_parser(click.Context(command)).parse_args([word.split(">")[0] for word in arguments])
            except click.UsageError as error:
                pytest.fail(f"{where}: {error.message}")


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("stored, 3 parts, 1.2 s\n", "stored, 3 parts, 17 s\n"),
        ("a\n...\nz\n", "a\nb\nc\nz\n"),
        ("as upload 9e34…\n", "as upload 00ff\n"),
        ("AGE    STATE\n", "AGE  STATE\n"),
        ("in …, 3 parts\n", "in oss://a, 3 parts\n"),
    ],
)
def test_what_varies_from_run_to_run_may_differ_from_what_is_shown(shown: str, printed: str, tmp_path: Path) -> None:
    check_output("here", shown, printed, tmp_path)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("DONE  SIZE  UPLOAD\n", "PROGRESS  SIZE  UPLOAD\n"),
        ("stored\n", "stored\nas before\n"),
        ("3 parts\n", "4 parts\n"),
        ("a.c\n", "abc\n"),
    ],
)
def test_anything_else_may_not(shown: str, printed: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="and this was printed"):
        check_output("here", shown, printed, tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("partwise upload --no-such-flag a b", "No such option"),
        ("partwise replicate a b", "no such command"),
        ("pytest tests/no_such_test.py", "no such file"),
        ("partwise upload 'a b", "EOF|unexpected"),
    ],
)
def test_a_command_that_is_shown_and_could_not_work_is_found(line: str, message: str) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception), match=message):
        check_commands("here", f"{line}\n")


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
    without = [f"-pno:{plugin}" for plugin in ("cacheprovider", "anyio", "timeout", "xdist")]  # imported for nothing
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", *without, "."],
        cwd=workspace,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert documents
    assert len(list(workspace.glob("test_*.py"))) >= len(documents)
    assert ran.returncode == 0, f"{ran.stdout}{ran.stderr}"


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
