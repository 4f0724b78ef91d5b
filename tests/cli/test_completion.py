"""What shells complete, asked as they ask."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from partwise.cli.completion import rejoin


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which ``partwise`` is a program."""
    folder = tmp_path_factory.mktemp("programs")
    script = folder / "partwise"
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom partwise.cli import main\nsys.exit(main())\n")
    script.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def asked(program: dict[str, str], shell: str, script: str) -> list[str]:
    ran = subprocess.run(
        [shell, *_QUIETLY[shell], script], env=program, capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stderr == ""
    return ran.stdout.split()


# Without anybody's start-up files.
_QUIETLY = {"bash": ["--norc", "-c"], "fish": ["--no-config", "-c"]}


def bash(program: dict[str, str], *words: str) -> list[str]:
    """What bash would offer for the last of these words, which are split as bash splits them."""
    quoted = " ".join(f"'{word}'" for word in words)
    return asked(
        program,
        "bash",
        f'eval "$(partwise --show-completion bash)"; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1};'
        " _partwise_completion partwise; echo ${COMPREPLY[@]}",
    )


needs_bash = pytest.mark.skipif(shutil.which("bash") is None or os.name == "nt", reason="there is no bash")


@needs_bash
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["partwise", "st"], ["status"]),
        (["partwise", "upload", "--addr"], ["--addressing-style"]),
        (["partwise", "upload", "--acl", "pub"], ["public-read", "public-read-write"]),
        (["partwise", "upload", "--acl", "=", "pr"], ["private"]),
        (["partwise", "upload", "--acl", "="], ["default", "private", "public-read", "public-read-write"]),
        (["partwise", "upload", "f", "oss", ":", "//b/k", "--storage-class", "Arch"], ["Archive"]),
        (["partwise", "upload", "--addressing-style", ""], ["virtual", "path", "cname"]),
        (["partwise", "upload", "--progress", "j"], ["json"]),
        (["partwise", "upload", "--encryption", "K"], ["KMS"]),
        (["partwise", "upload", "backup"], []),  # files are bash's own affair
    ],
    ids=" ".join,
)
def test_bash_completes(program: dict[str, str], words: list[str], offered: list[str]) -> None:
    assert sorted(bash(program, *words)) == sorted(offered)


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish")
def test_fish_completes(program: dict[str, str]) -> None:
    script = "partwise --show-completion fish | source; complete -C 'partwise upload --acl pub'"
    assert asked(program, "fish", script) == ["public-read", "public-read-write"]


def test_only_bash_is_helped_with_equals_signs() -> None:
    given = {"_PARTWISE_COMPLETE": "complete_zsh", "COMP_WORDS": "partwise\n--acl\n=\np", "COMP_CWORD": "3"}
    environment = dict(given)
    rejoin(environment)
    assert environment == given


def test_an_equals_sign_after_the_word_that_is_completed_moves_nothing() -> None:
    environment = {
        "_PARTWISE_COMPLETE": "complete_bash",
        "COMP_WORDS": "partwise\nst\n--acl\n=\np",
        "COMP_CWORD": "1",
    }
    rejoin(environment)
    assert (environment["COMP_WORDS"], environment["COMP_CWORD"]) == ("partwise\nst\n--acl\np", "1")


@pytest.mark.parametrize("line", [["--help"], ["upload", "--help"], ["uplaod"]], ids=" ".join)
def test_help_imports_nothing_that_it_does_not_need(line: list[str], tmp_path: Path) -> None:
    """A tenth of a second is what a person notices, and completion asks at every key."""
    heavy = ("partwise._engine.upload", "cattrs", "urllib3", "pydantic", "rich.console", "importlib.metadata")
    code = (
        "import sys; from partwise.cli import main; main(sys.argv[1:]);"
        f" print('HEAVY', *({set(heavy)} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, *line], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=True
    )
    assert ran.stdout.splitlines()[-1].split() == ["HEAVY"]
