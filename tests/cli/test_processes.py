"""Commands in processes of their own, which end, are stopped, or are killed."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.stores.file import FileCheckpointStore

Start = Callable[..., Any]
Recorded = Callable[..., int]

posix = pytest.mark.skipif(os.name == "nt", reason="there are no such signals, and no terminals of this kind")

KEPT = ("--checkpoint-dir", "checkpoints")
SMALL_PARTS = ("--part-size", "128K", "--multipart-threshold", "0")

#: The large file takes some ten seconds with these flags: long enough to be stopped at any point.
SLOWLY = (*KEPT, *SMALL_PARTS, "--bandwidth-limit", "400K")


#: An endpoint that refuses connections.
REFUSED = ("--endpoint", "http://127.0.0.1:9", "--region", "cn-hangzhou")

# --- exit codes ---


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (["upload", "small.bin", "URL"], 0),
        (["upload", "missing.bin", "URL"], 1),
        (["upload", ".", "URL"], 1),
        (["upload", "small.bin", "URL", "--nonsense"], 2),
        (["upload", "small.bin", "file:///tmp/x/%2e%2e"], 2),
        (["upload", "small.bin", "oss://bucket/key", *REFUSED, "--max-attempts", "1"], 75),
        (["uploads", "oss://bucket", *REFUSED, "--max-attempts", "1"], 75),
    ],
    ids=lambda value: value if isinstance(value, int) else " ".join(value),
)
def test_the_exit_code_is_that_of_the_process(child: Start, small: Path, url: str, line: list[str], code: int) -> None:
    keys = {"OSS_ACCESS_KEY_ID": "x", "OSS_ACCESS_KEY_SECRET": "y"}
    ended = child(*(url if word == "URL" else word for word in line), env={**os.environ, **keys}).end()
    assert ended.code == code
    assert "Traceback" not in ended.err
    if code:
        lines = ended.err.splitlines()
        assert lines[0].startswith("error: ")
        assert {line.partition(": ")[0] for line in lines[1:]} <= {"cause", "kept", "hint"}


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may read everything")
def test_an_unreadable_file_fails(child: Start, small: Path, url: str) -> None:
    small.chmod(0)
    assert child("upload", "small.bin", url, *SMALL_PARTS).end().code == 1


def test_the_module_can_be_run(child: Start) -> None:
    """By an interpreter that is started for it, unlike the other commands here."""
    ended = child("--version", program=("-W", "error", "-m", "partwise")).end()
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("partwise ")


def test_a_name_that_standard_output_can_not_show_is_escaped(child: Start, place: Path, url: str) -> None:
    (place / "naïve.bin").write_bytes(b"x")
    ended = child("upload", "naïve.bin", url, env={**os.environ, "PYTHONIOENCODING": "ascii"}).end()
    assert (ended.code, ended.out.split(" as ")[0]) == (0, "stored na\\xefve.bin")


@posix
def test_a_closed_pipe_does_not_fail_an_upload(child: Start, small: Path, bucket: Path, url: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    line = child("upload", "small.bin", url, *SMALL_PARTS, stdout=writing, stderr=writing)
    os.close(writing)
    assert line.process.wait() == 0
    assert (bucket / "copy").read_bytes() == small.read_bytes()


@posix
@pytest.mark.parametrize("line", [("status", *KEPT), ("status", *KEPT, "--json"), ("upload", "--help")], ids=" ".join)
def test_a_reader_may_exit_after_the_first_line(child: Start, place: Path, line: tuple[str, ...]) -> None:
    """As ``| head -1`` does."""
    store = FileCheckpointStore(place / "checkpoints")
    for number in range(3):
        store.save(Checkpoint("oss://b@r", "k" * 1000, f"/{number}", Fingerprint(size=2), 1, upload_id="U"))
    reading, writing = os.pipe()
    listing = child(*line, stdout=writing)
    os.close(writing)
    assert os.read(reading, 1)
    os.close(reading)
    ended = listing.end()
    assert ended.code == 0
    assert "Traceback" not in ended.err


# --- names ---


def as_a_shell_reads_it(line: str) -> list[str]:
    """Split a command line as a shell does. It may contain octal escapes, which not every shell has."""
    if "$'" not in line:
        return shlex.split(line)
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    script = f"partwise() {{ printf '%s\\0' partwise \"$@\"; }}; {line}"
    ran = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, check=True)
    return [os.fsdecode(word) for word in ran.stdout.split(b"\0")[:-1]]


@posix
@pytest.mark.parametrize("name", ["a  b", "-x'\"$HOME", "ü 备份\n\x1b[2J"], ids=ascii)
def test_a_file_may_have_any_name(child: Start, recorded: Recorded, large: Path, bucket: Path, name: str) -> None:
    """The command line that is shown to resume the upload is quoted for a shell."""
    large.rename(large.parent / name)
    slow = child("upload", f"./{name}", f"{bucket.as_uri()}/", *SLOWLY)
    recorded()
    ended = slow.send(signal.SIGINT)
    assert ended.code == 130
    again = ended.err.rpartition("hint: To resume:\n  ")[2].removesuffix("\n")
    assert again.isprintable()
    assert as_a_shell_reads_it(again)[:3] == ["partwise", "upload", f"./{name}"]
    ended = child("upload", *KEPT, "--json", "--", name, f"{bucket.as_uri()}/").end()
    assert (ended.code, ended.last["key"]) == (0, name)
    assert ended.last["bytes_resumed"] > 0
    assert (bucket / name).stat().st_size == 4 * 1024 * 1024 + 5


# --- stopped ---


@posix
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_stopped_upload_is_resumed_by_the_same_command(
    *, child: Start, recorded: Recorded, large: Path, bucket: Path, url: str, name: str, code: int
) -> None:
    number = getattr(signal, name)
    slow = child("upload", "large.bin", url, *SLOWLY, "--json")
    recorded()
    ended = slow.send(number)
    kept = recorded()
    assert ended.code == code
    assert ended.last["exit_code"] == code
    assert (ended.last["error"]["resumable"], ended.last["error"]["bytes_done"]) == (True, kept)
    assert re.fullmatch(r"stopped\. kept: \S+ of 4\.0 MiB \(\d+ of 33 parts\)", ended.last["error"]["message"])
    assert f"hint: To resume:\n  partwise upload large.bin {url} --checkpoint-dir checkpoints" in ended.err
    assert "Traceback" not in ended.err

    ended = child("upload", "large.bin", url, *KEPT, "--json").end()
    assert ended.code == 0
    assert (ended.last["bytes_resumed"], ended.last["bytes_sent"]) == (kept, large.stat().st_size - kept)
    assert (bucket / "copy").read_bytes() == large.read_bytes()


@posix
def test_a_stopped_upload_is_kept_without_threads(
    *, child: Start, recorded: Recorded, large: Path, url: str, place: Path
) -> None:
    """Without threads, the upload runs in the main thread, inside the call that starts it."""
    (place / "threadless.py").write_text(
        "import sys, threading\n"
        "from partwise.cli import main\n"
        "def refuse(thread):\n"
        '    raise RuntimeError("can\'t start new thread")\n'
        "threading.Thread.start = refuse\n"
        "sys.exit(main())\n"
    )
    slow = child("upload", "large.bin", url, *SLOWLY, "--json", program=("threadless.py",))
    recorded()
    ended = slow.send(signal.SIGINT)
    kept = recorded()
    assert ended.code == 130
    assert (ended.last["error"]["resumable"], ended.last["error"]["bytes_done"]) == (True, kept)
    assert f"hint: To resume:\n  partwise upload large.bin {url}" in ended.err


@posix
def test_a_second_signal_ends_the_process_at_once(
    child: Start, recorded: Recorded, large: Path, url: str, place: Path
) -> None:
    """The storage hangs, so that the first signal waits for it."""
    (place / "hanging.py").write_text(
        "import sys, time, partwise\n"
        "from partwise.backends.memory import MemoryBackend\n"
        "from partwise.cli import main\n"
        "class Hanging(MemoryBackend):\n"
        "    def upload_part(self, *arguments):\n"
        "        print('hangs', file=sys.stderr, flush=True)\n"
        "        time.sleep(600)\n"
        "partwise.register_backend('hanging', lambda url, **settings: (Hanging(), 'k'))\n"
        "sys.exit(main())\n"
    )
    line = child("upload", "large.bin", "hanging:k", *KEPT, *SMALL_PARTS, program=("hanging.py",))
    line.read_until("hangs", on="stderr")
    line.process.send_signal(signal.SIGINT)
    line.read_until("press Ctrl-C again", on="stderr")
    line.process.send_signal(signal.SIGINT)
    assert line.process.wait() == 130


@posix
def test_an_ignored_signal_stays_ignored(child: Start, recorded: Recorded, small: Path, bucket: Path, url: str) -> None:
    """A shell ignores SIGINT for the background jobs of a script."""
    ignoring = child(
        "upload",
        "small.bin",
        url,
        *KEPT,
        *("--part-size", "50K", "--multipart-threshold", "0", "--bandwidth-limit", "150K"),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    recorded()
    assert ignoring.send(signal.SIGINT).code == 0
    assert (bucket / "copy").read_bytes() == small.read_bytes()


@posix
def test_a_stop_with_no_resume_keeps_nothing(child: Start, large: Path, bucket: Path, url: str) -> None:
    slow = child("upload", "large.bin", url, "--no-resume", *SMALL_PARTS, "--bandwidth-limit", "400K")
    # The directory of the upload alone does not do: the engine may not have its id yet, and nothing was sent.
    uploads = bucket / ".partwise" / "uploads"
    wait_for(lambda: any(uploads.glob("*/parts/*")))
    ended = slow.send(signal.SIGINT)
    assert ended.code == 130
    assert "kept: nothing\nhint: To start again:\n  partwise upload large.bin" in ended.err
    assert child("uploads", f"{bucket.as_uri()}/", "--json").end().out == ""


# --- killed ---


def test_a_killed_upload_is_resumed(child: Start, recorded: Recorded, large: Path, bucket: Path, url: str) -> None:
    slow = child("upload", "large.bin", url, *SLOWLY)
    recorded()
    slow.process.kill()
    slow.end()
    kept = recorded()

    ended = child("upload", "large.bin", url, *KEPT, "--json").end()
    assert ended.code == 0
    # A part that the checkpoint lacks, since the process was killed, is adopted from the storage.
    assert ended.last["bytes_resumed"] >= kept
    assert ended.last["bytes_sent"] + ended.last["bytes_resumed"] == large.stat().st_size
    assert (bucket / "copy").read_bytes() == large.read_bytes()
    assert list((bucket.parent / "checkpoints").iterdir()) == []


def test_a_second_process_is_refused_while_the_first_runs(
    child: Start, recorded: Recorded, large: Path, bucket: Path, url: str
) -> None:
    first = child("upload", "large.bin", url, *SLOWLY)
    recorded()
    second = child("upload", "large.bin", url, *KEPT, "--json").end()
    assert second.code == 3
    assert second.last["error"]["type"] == "CheckpointBusy"
    assert first.process.poll() is None
    assert child("status", *KEPT, "--json").end().last["running"] is True

    first.process.kill()
    first.end()
    assert child("upload", "large.bin", url, *KEPT).end().code == 0
    assert (bucket / "copy").read_bytes() == large.read_bytes()


def test_a_source_that_changes_during_the_upload_is_not_mixed(
    child: Start, recorded: Recorded, large: Path, bucket: Path, url: str
) -> None:
    slow = child("upload", "large.bin", url, *SLOWLY, "--json")
    recorded()
    large.write_bytes(b"x" * large.stat().st_size)
    ended = slow.end()
    assert (ended.code, ended.last["error"]["type"]) == (1, "SourceChanged")
    assert "the next run sends every part" in ended.err
    assert not (bucket / "copy").exists()


# --- piped ---


def test_standard_input_is_stored(child: Start, large: Path, bucket: Path, url: str) -> None:
    ended = child("upload", "-", url, *SMALL_PARTS, "--json").end(large.read_bytes())
    assert (ended.code, ended.last["size"]) == (0, large.stat().st_size)
    assert (bucket / "copy").read_bytes() == large.read_bytes()


def test_standard_input_may_be_a_file(child: Start, large: Path, bucket: Path, url: str) -> None:
    with large.open("rb") as file:
        assert child("upload", "-", url, *SMALL_PARTS, stdin=file).end().code == 0
    assert (bucket / "copy").read_bytes() == large.read_bytes()


def test_piping_in_the_same_bytes_again_resumes(
    child: Start, recorded: Recorded, large: Path, bucket: Path, url: str
) -> None:
    first = child("upload", "-", url, *KEPT, *SMALL_PARTS)
    half = large.read_bytes()[: 2 * 1024 * 1024]
    first.process.stdin.write(half)
    first.process.stdin.flush()
    kept = recorded(1024 * 1024)
    first.process.kill()
    first.process.wait()
    with contextlib.suppress(BrokenPipeError):
        first.process.stdin.close()

    ended = child("upload", "-", url, *KEPT, *SMALL_PARTS, "--json").end(large.read_bytes())
    assert ended.code == 0
    assert ended.last["bytes_resumed"] >= kept
    assert ended.last["bytes_resumed"] + ended.last["bytes_sent"] == large.stat().st_size
    assert (bucket / "copy").read_bytes() == large.read_bytes()


@posix
def test_a_silent_producer_does_not_delay_a_stop(
    child: Start, recorded: Recorded, large: Path, bucket: Path, url: str
) -> None:
    line = child("upload", "-", url, *KEPT, *SMALL_PARTS)
    line.process.stdin.write(large.read_bytes()[: 1024 * 1024])
    line.process.stdin.flush()
    recorded(512 * 1024)
    line.process.send_signal(signal.SIGINT)
    assert line.process.wait() == 130
    text = line.process.stderr.read().decode()
    assert "hint: To resume, pipe in the same bytes from the start:\n  partwise upload -" in text
    assert not (bucket / "copy").exists()


# --- on a terminal ---


def wait_for(condition: Callable[[], object], patience: float = 60.0) -> None:
    limit = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


class Screen:
    """A terminal, and what was written to it."""

    def __init__(self, columns: int) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self.ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.written = b""

    def read_until(self, pattern: str) -> str:
        """Read until the text matches, and return all of it."""
        while not re.search(pattern, self.written.decode(errors="replace")):
            self.written += os.read(self.ours, 65536)
        return self.written.decode(errors="replace")

    def close(self) -> None:
        os.close(self.ours)
        os.close(self.theirs)


@posix
def test_a_terminal_shows_a_bar_with_what_was_resumed(
    child: Start, recorded: Recorded, large: Path, place: Path, url: str
) -> None:
    columns = 80
    first = child("upload", "large.bin", url, *KEPT, *SMALL_PARTS, "--bandwidth-limit", "2M")
    recorded(1024 * 1024)
    first.process.kill()
    first.end()
    screen = Screen(columns)
    environment = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    line = child("upload", "large.bin", url, *SLOWLY, stderr=screen.theirs, env=environment)
    screen_text = screen.read_until(r"[4-9]\d%.* left")
    line.process.send_signal(signal.SIGINT)
    screen_text = screen.read_until("To resume")
    line.process.wait()
    screen.close()
    assert f"resuming large.bin to {url} at " in screen_text, "a path is not folded"
    assert re.search("\x1b\\[36m━+\x1b\\[0m\x1b\\[32m━+", screen_text), "resumed and sent differ in color"
    assert "KiB/s" in screen_text
    assert screen_text.rindex("\x1b[?25h") > screen_text.rindex("\x1b[?25l"), "the cursor is shown again"
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen_text)
    bars = [one for one in re.split(r"[\r\n]", drawn) if one.startswith("large.bin ")]
    assert bars
    assert max(map(len, bars)) < columns


@posix
def test_an_upload_survives_its_terminal(child: Start, small: Path, bucket: Path, url: str) -> None:
    """Not every terminal sends SIGHUP when it is closed, but writing to it fails."""
    screen = Screen(80)
    environment = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    slow = (*SMALL_PARTS, "--bandwidth-limit", "600K")
    line = child("upload", "small.bin", url, *slow, stdout=screen.theirs, stderr=screen.theirs, env=environment)
    screen.read_until("uploading small.bin")
    screen.close()
    assert line.process.wait() == 0
    assert (bucket / "copy").read_bytes() == small.read_bytes()


@posix
def test_no_color_turns_colors_off(child: Start, large: Path, url: str) -> None:
    screen = Screen(80)
    environment = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", "NO_COLOR": "1"}
    line = child("upload", "large.bin", url, *SLOWLY, stderr=screen.theirs, env=environment)
    screen_text = screen.read_until(r"[1-9]\d?%.* left")
    line.process.kill()
    line.process.wait()
    screen.close()
    assert not re.search("\x1b\\[[0-9;]*3[0-9]m", screen_text)


@posix
def test_help_in_a_file_has_no_colors(child: Start) -> None:
    assert "\x1b" not in child("upload", "--help").end().out
