"""Shell completion, requested as the shells do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.cli.completion import VARIABLE
from partwise.stores.file import FileCheckpointStore

Run = Callable[..., Any]

posix = pytest.mark.skipif(os.name == "nt", reason="paths are those of POSIX")


#: The checkpoints that the environment has, by the key of their upload.
NAMES: dict[str, str] = {}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with the program ``partwise``, its script for bash in SCRIPT, files, and checkpoints."""
    folder = tmp_path_factory.mktemp("programs")
    files = folder / "files"
    for name in ("backup.tar", "my file.bin", "checkpoints/one", "home/state/x"):
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).touch()
    for key, place in {"first": "home/state/partwise/checkpoints", "second": "checkpoints"}.items():
        checkpoint = Checkpoint("oss://bucket@r", key, "/srv/a, b:c", Fingerprint(size=1), 1)
        NAMES[key] = checkpoint.name
        FileCheckpointStore(files / place).save(checkpoint)
    script = folder / "partwise"
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom partwise.cli import main\nsys.exit(main())\n")
    script.chmod(0o755)
    shown = subprocess.run(
        [script, "--show-completion", "bash"], capture_output=True, text=True, timeout=60, check=True
    )
    return {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "SCRIPT": shown.stdout,
        "FILES": str(files),
        "HOME": str(files / "home"),
        "XDG_STATE_HOME": str(files / "home/state"),
        "TERM": "dumb",
        "PS1": "$ ",
    }


def run(program: dict[str, str], shell: str, script: str) -> list[str]:
    ran = subprocess.run(
        [shell, *_QUIETLY[shell], script],
        env=program,
        cwd=program["FILES"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stderr == ""
    return ran.stdout.splitlines()


# Without start-up files.
_QUIETLY = {"bash": ["--norc", "-c"], "fish": ["--no-config", "-c"], "zsh": ["-f", "-c"]}


def bash(program: dict[str, str], *words: str, env: str = 'command env "$@"') -> list[str]:
    """
    Return what bash suggests for the last of these words, which are split as bash splits them.

    A request to bash to suggest paths is <default> or <dirnames>. `env` is run in place of the command of this name, by
    which bash starts the program with its request.
    """
    quoted = " ".join(f"'{word}'" for word in words)
    (line,) = run(
        program,
        "bash",
        f'eval "$SCRIPT"; env() {{ {env}; }}; compopt() {{ COMPREPLY=("<$2>"); }};'
        f" COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1};"
        " _partwise_completion partwise; echo ${COMPREPLY[@]}",
    )
    return line.split()


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
        (["partwise", "upload", "backup"], ["<default>"]),
        (["partwise", "gc", "--checkpoint-dir", "=", "ch"], ["<dirnames>"]),
        (["partwise", "abort", ""], ["FIRST"]),
    ],
    ids=" ".join,
)
def test_bash_completes(
    *,
    program: dict[str, str],
    partwise: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: list[str],
    suggested: list[str],
) -> None:
    """The request of bash is answered here, since to start the program takes most of the time."""
    asked = tmp_path / "asked"
    bash(program, *words, env=f"printf '%s\\0' \"$@\" > '{asked}'")
    *request, name, _ = asked.read_text().split("\0")
    for variable in request:
        monkeypatch.setenv(*variable.split("=", 1))
    for variable in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(variable, program[variable])
    monkeypatch.chdir(program["FILES"])
    answer = partwise()
    assert (name, answer.code, answer.err) == ("partwise", 0, "")

    shown = {"FIRST": NAMES["first"][:8]}
    found = bash({**program, "ANSWER": answer.out}, *words, env='printf %s "$ANSWER"')
    assert sorted(found) == sorted(shown.get(word, word) for word in suggested)


@needs_bash
def test_bash_starts_the_program(program: dict[str, str]) -> None:
    assert bash(program, "partwise", "abort", "") == [NAMES["first"][:8]]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("verify ''", "file,"),
        ("demo ''", "file,"),
        ("serve ''", "dir,"),
        ("upload f oss://b/k", ""),
        ("status --checkpoint ''", "file,"),
        ("upload f s3://b/k --ca-bundle ''", "file,"),
        ("verify f s3://b/k --sse-customer-key-file k", "file,k"),
        ("abort ''", "plain,{first:.8}"),
        ("abort {first:.8}", "plain,{first:.8}"),
        ("abort {first:.12}", "plain,{first}"),
        ("abort --checkpoint-dir checkpoints ''", "plain,{second:.8}"),
        ("abort --store sqlite:///nowhere.db ''", "file,"),
        ("abort --checkpoint-dir backup.tar ''", "file,"),
        ("abort --store postgresql://nowhere.invalid/x ''", "file,"),
        ("abort x", "file,x"),
        ("abort f oss://b/k", ""),
        ("abort oss://b/k", ""),
    ],
)
def test_a_shell_gets_names_or_is_asked_to_suggest_paths(
    program: dict[str, str], partwise: Run, monkeypatch: pytest.MonkeyPatch, line: str, answer: str
) -> None:
    line = f"partwise {line.format(**NAMES)}"
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, program[name])
    monkeypatch.setenv("_PARTWISE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    monkeypatch.chdir(program["FILES"])
    ended = partwise()
    assert (ended.code, ended.out.strip(), ended.err) == (0, answer.format(**NAMES), "")
    assert not Path("nowhere.db").exists()


#: What is typed, and what it becomes. A shell is asked once, since it takes long to start.
TYPED = {
    "partwise stat": "partwise status",
    "partwise verify my": r"partwise verify my\ file.bin",
    "partwise upload f oss://b/k --acl=priv": "partwise upload f oss://b/k --acl=private",
    "partwise status --checkpoint-dir=che": "partwise status --checkpoint-dir=checkpoints",
    "partwise status --checkpoint-dir ~/st": "partwise status --checkpoint-dir ~/state",
    "partwise abort {first:.3}": "partwise abort {first:.8}",
}


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes(program: dict[str, str]) -> None:
    asked = [line.format(**NAMES) for line in TYPED]
    script = "partwise --show-completion fish | source"
    for line in asked:
        script += f"; echo '<{line}>'; complete -C '{line}'"
    found = "\n".join(run(program, "fish", script))
    for line, (_, whole) in zip(asked, TYPED.items(), strict=True):
        word = whole.format(**NAMES).partition(line.rpartition(" ")[0])[2].strip().replace("\\ ", " ")
        answer = found.partition(f"<{line}>\n")[2].partition("\n<")[0]
        assert [one.partition("\t")[0].rstrip("/") for one in answer.split("\n")] == [word]
    described = f"{NAMES['first'][:8]}\t/srv/a, b:c -> oss://bucket/first"
    assert described in found


@posix
@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_completes(program: dict[str, str]) -> None:
    """On a terminal of its own: the completion of zsh works only while a line is edited."""
    import pty

    process, terminal = pty.fork()
    if process == 0:
        os.chdir(program["FILES"])
        os.execvpe("zsh", ["zsh", "-f", "-i"], program)
    try:
        written = b""

        def type_in(keys: str, until: str) -> str:
            """Press keys, and return what is written until then."""
            nonlocal written
            written = b""
            os.write(terminal, keys.encode())
            while until.encode() not in written:
                written += os.read(terminal, 65536)
            return written.decode().partition(until)[0]

        script = 'autoload -Uz compinit && compinit -u -D; eval "$(partwise --show-completion zsh)"; print -r READ"Y"\n'
        type_in(script, "READY")
        # Ctrl-X b prints the line that is being edited.
        type_in(r"""print-line() { print -r -- "<$BUFFER>END" }; zle -N print-line; """, "END")
        type_in("bindkey '^Xb' print-line; setopt no_list_beep no_auto_remove_slash; print -r DO\"NE\"\n", "DONE")
        for line, whole in TYPED.items():
            shown = type_in(f"\x15{line.format(**NAMES)}\t\x18b", ">END").rpartition("<")[2]
            assert shown.rstrip(" /") == whole.format(**NAMES)
        # If there is only one, it is inserted, and not described.
        two = type_in("\x15partwise status --checkpoint\t\t\x18b", ">END")
        assert "--checkpoint-dir" in two
        assert "-- Use this directory of checkpoints" in two
    finally:
        os.close(terminal)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


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


@pytest.mark.parametrize("value", ["", "tcsh_complete", "bash", "bash_", "bash_complete", "fish_complete", "_source"])
def test_a_variable_that_no_script_of_a_shell_sets_asks_for_no_completion(
    partwise: Run, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(VARIABLE, value)
    for name in ("COMP_WORDS", "COMP_CWORD"):
        monkeypatch.delenv(name, raising=False)
    ended = partwise("--version")
    assert (ended.code, ended.out.split()[0], ended.err) == (0, "partwise", "")


@pytest.mark.parametrize(("shell", "cursor"), [("bash", "x"), ("bash", "9" * 5000), ("fish", " "), ("zsh", "")])
def test_a_shell_that_asks_for_a_word_that_there_is_not_gets_no_error(
    partwise: Run, monkeypatch: pytest.MonkeyPatch, shell: str, cursor: str
) -> None:
    monkeypatch.setenv(VARIABLE, f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", "partwise upl")
    monkeypatch.setenv("COMP_CWORD", cursor)
    ended = partwise()
    assert (ended.code, ended.out.strip(), ended.err) == (0, "", "")


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


def test_help_imports_only_what_it_needs(tmp_path: Path) -> None:
    """A delay of a tenth of a second is noticeable, and completion runs at every key press."""
    heavy = ("partwise._engine.upload", "cattrs", "urllib3", "pydantic", "rich.console", "importlib.metadata")
    code = (
        "import sys; from partwise.cli import main\n"
        "for line in (['--help'], ['upload', '--help'], ['uplaod']):\n"
        f"    main(line); print('HEAVY', *({set(heavy)} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=True
    )
    assert [line for line in ran.stdout.splitlines() if line.startswith("HEAVY")] == ["HEAVY"] * 3
