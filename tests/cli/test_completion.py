"""Shell completion, requested as the shells do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

posix = pytest.mark.skipif(os.name == "nt", reason="paths are those of POSIX")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with the program ``partwise``, and its script for bash in the variable SCRIPT."""
    folder = tmp_path_factory.mktemp("programs")
    script = folder / "partwise"
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom partwise.cli import main\nsys.exit(main())\n")
    script.chmod(0o755)
    shown = subprocess.run(
        [script, "--show-completion", "bash"], capture_output=True, text=True, timeout=60, check=True
    )
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "SCRIPT": shown.stdout}


def run(program: dict[str, str], shell: str, script: str) -> list[str]:
    ran = subprocess.run(
        [shell, *_QUIETLY[shell], script], env=program, capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stderr == ""
    return ran.stdout.split()


# Without start-up files.
_QUIETLY = {"bash": ["--norc", "-c"], "fish": ["--no-config", "-c"], "zsh": ["-f", "-c"]}


def bash(program: dict[str, str], *words: str) -> list[str]:
    """Return what bash suggests for the last of these words, which are split as bash splits them."""
    quoted = " ".join(f"'{word}'" for word in words)
    return run(
        program,
        "bash",
        f'eval "$SCRIPT"; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1};'
        " _partwise_completion partwise; echo ${COMPREPLY[@]}",
    )


needs_bash = pytest.mark.skipif(shutil.which("bash") is None or os.name == "nt", reason="bash is not installed")


@needs_bash
@pytest.mark.parametrize(
    ("words", "suggested"),
    [
        (["partwise", "st"], ["status"]),
        (["partwise", "ver"], ["verify"]),
        (["partwise", "upload", "--addr"], ["--addressing-style"]),
        (["partwise", "verify", "--addr"], ["--addressing-style"]),
        (["partwise", "verify", "f", "s3", ":", "//b/k", "--dialect", "c"], ["ceph"]),
        (["partwise", "upload", "--acl", "pub"], ["public-read", "public-read-write"]),
        (["partwise", "upload", "--acl", "=", "pr"], ["private"]),
        (
            ["partwise", "upload", "--acl", "="],
            ["default", "private", "public-read", "public-read-write", "bucket-owner-full-control"],
        ),
        (
            ["partwise", "upload", "f", "oss", ":", "//b/k", "--acl", ""],
            ["default", "private", "public-read", "public-read-write"],
        ),
        (
            ["partwise", "upload", "f", "s3", ":", "//b/k", "--acl", "="],
            ["private", "public-read", "public-read-write", "bucket-owner-full-control"],
        ),
        (["partwise", "upload", "f", "oss", ":", "//b/k", "--storage-class", "Arch"], ["Archive"]),
        (["partwise", "upload", "--addressing-style", ""], ["virtual", "path", "cname", "auto"]),
        (["partwise", "upload", "f", "s3", ":", "//b/k", "--addressing-style", ""], ["auto", "virtual", "path"]),
        (["partwise", "upload", "f", "oss", ":", "//b/k", "--addressing-style", ""], ["virtual", "path", "cname"]),
        (["partwise", "gc", "s3", ":", "//b", "--dialect", ""], ["aws", "r2", "b2", "gcs", "ceph", "minio", "oss"]),
        (["partwise", "upload", "f", "s3", ":", "//b/k", "--storage-class", "GLAC"], ["GLACIER_IR", "GLACIER"]),
        (["partwise", "upload", "--dual"], ["--dual-stack"]),
        (["partwise", "upload", "--progress", "j"], ["json"]),
        (["partwise", "upload", "--encryption", "K"], ["KMS"]),
        (["partwise", "upload", "backup"], []),  # bash completes file names itself
    ],
    ids=" ".join,
)
def test_bash_completes(program: dict[str, str], words: list[str], suggested: list[str]) -> None:
    assert sorted(bash(program, *words)) == sorted(suggested)


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes(program: dict[str, str]) -> None:
    script = "partwise --show-completion fish | source; complete -C 'partwise upload --acl pub'"
    assert run(program, "fish", script) == ["public-read", "public-read-write"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_reads_the_script(program: dict[str, str]) -> None:
    run(program, "zsh", 'autoload -Uz compinit && compinit -u; eval "$(partwise --show-completion zsh)"')


def test_zsh_gets_the_words_that_it_requests(program: dict[str, str]) -> None:
    environment = {
        **program,
        "_PARTWISE_COMPLETE": "zsh_complete",
        "COMP_WORDS": "partwise upload --encryption S",
        "COMP_CWORD": "3",
    }
    ran = subprocess.run(["partwise"], env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.split("\n")[:2] == ["plain", "SM4"]


def test_an_equals_sign_after_the_completed_word_changes_nothing(program: dict[str, str]) -> None:
    environment = {
        **program,
        "_PARTWISE_COMPLETE": "bash_complete",
        "COMP_WORDS": "partwise\nst\n--acl\n=\np",
        "COMP_CWORD": "1",
    }
    ran = subprocess.run(["partwise"], env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "plain,status\n"


@pytest.mark.parametrize(
    ("shell", "file", "startup"),
    [
        ("bash", ".local/share/partwise/completion.bash", ".bashrc"),
        ("zsh", ".local/share/partwise/completion.zsh", ".zshrc"),
        ("fish", ".config/fish/completions/partwise.fish", None),
    ],
)
def test_completion_is_installed_once(
    *, partwise: Run, place: Path, monkeypatch: pytest.MonkeyPatch, shell: str, file: str, startup: str | None
) -> None:
    home = place / "home"
    home.mkdir()
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    before = "alias x=y"
    if startup is not None:
        (home / startup).write_text(before)

    assert partwise("--install-completion").code == 0
    assert partwise("--install-completion", shell).code == 0

    assert (home / file).read_text().strip() == partwise("--show-completion", shell).out.strip()
    if startup is not None:
        first, added = (home / startup).read_text().splitlines()
        assert first == before
        assert str(home / file) in added


def test_an_unknown_shell_is_wrong_usage(partwise: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/csh")
    for line in (["--show-completion"], ["--install-completion"], ["--show-completion", "csh"]):
        ended = partwise(*line)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err == ("error: there is no completion for the shell 'csh'\nhint: Name one of bash, zsh, fish\n")


@posix
def test_a_home_that_is_read_only_fails_the_installation(
    partwise: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "file"))
    ended = partwise("--install-completion", "fish")
    assert ended.code == 1
    assert ended.err.startswith("error: completion could not be installed: ")


@pytest.mark.parametrize("line", [["--help"], ["upload", "--help"], ["uplaod"]], ids=" ".join)
def test_help_imports_only_what_it_needs(line: list[str], tmp_path: Path) -> None:
    """A delay of a tenth of a second is noticeable, and completion runs at every key press."""
    heavy = ("partwise._engine.upload", "cattrs", "urllib3", "pydantic", "rich.console", "importlib.metadata")
    code = (
        "import sys; from partwise.cli import main; main(sys.argv[1:]);"
        f" print('HEAVY', *({set(heavy)} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, *line], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=True
    )
    assert ran.stdout.splitlines()[-1].split() == ["HEAVY"]
