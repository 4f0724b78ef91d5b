"""Fixtures of the command line: a working directory, and the command in this process and in others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import forked
import pytest
from attrs import define, field

from partwise.cli import main
from partwise.stores.file import FileCheckpointStore

#: Long enough for a loaded machine; nothing waits for it to pass.
PATIENCE = 60.0

#: The command line as a module.
MODULE = ("-m", "partwise")


@define(frozen=True)
class Ended:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> dict[str, Any]:
        """The object on the last line of standard output."""
        return dict(json.loads(self.out.splitlines()[-1]))

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The object on each line of standard output."""
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, which is also the home directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "XDG_STATE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in list(os.environ):
        if name.startswith("OSS_") or name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def partwise(place: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run commands in this process."""

    def run(*arguments: str) -> Ended:
        capfd.readouterr()
        code = main(arguments)
        written = capfd.readouterr()
        return Ended(code, written.out, written.err)

    return run


@define
class Child:
    """A command in a process of its own."""

    process: subprocess.Popen[bytes]
    ended: Ended | None = field(default=None, init=False)

    def end(self, standard_input: bytes | None = None) -> Ended:
        """Wait for it."""
        if self.ended is None:
            out, err = self.process.communicate(standard_input, timeout=PATIENCE)
            self.ended = Ended(self.process.returncode, *((one or b"").decode() for one in (out, err)))
        return self.ended

    def read_until(self, words: str, *, on: str = "stdout") -> None:
        """Read line by line, until one has these words in it."""
        for line in getattr(self.process, on):
            if words in line.decode():
                return
        raise AssertionError(f"it ended without printing {words!r}")

    def send(self, signal: int) -> Ended:
        """Send a signal, and wait for its end."""
        self.process.send_signal(signal)
        return self.end()


@pytest.fixture
def child(place: Path) -> Iterator[Callable[..., Child]]:
    """Start commands in processes of their own, which are killed at the end of the test."""
    children: list[Child] = []

    def start(*arguments: str, program: tuple[str, ...] = MODULE, **options: Any) -> Child:
        piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        options = {"cwd": place, **piped, **options}
        if program == MODULE and forked.can_start(options):
            process = forked.ForkedCommand([*arguments], **options)
        elif len(program) == 1:
            process = forked.start_script(*program, *arguments, **options)
        else:
            process = subprocess.Popen([sys.executable, *program, *arguments], **options)
        children.append(Child(process))
        return children[-1]

    yield start
    for one in children:
        if one.process.poll() is None:
            one.process.kill()
        for stream in (one.process.stdin, one.process.stdout, one.process.stderr):
            if stream is not None and not stream.closed:
                stream.close()
        one.process.wait()


@pytest.fixture
def recorded(place: Path) -> Callable[..., int]:
    """Wait until the directory ``checkpoints`` records a minimum of bytes, and return their number."""

    def wait(minimum: int = 1) -> int:
        store = FileCheckpointStore(place / "checkpoints")
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit:
            done = sum(checkpoint.bytes_done for checkpoint in store.scan())
            if done >= minimum:
                return done
            time.sleep(0.01)
        raise AssertionError(f"{minimum} bytes were not recorded within {PATIENCE} seconds")

    return wait


def some_bytes(size: int, seed: int = 1) -> bytes:
    """Bytes without a pattern, the same for the same seed."""
    return Random(seed).randbytes(size)


@pytest.fixture
def small(place: Path) -> Path:
    """A file of 300,000 bytes."""
    path = place / "small.bin"
    path.write_bytes(some_bytes(300_000))
    return path


@pytest.fixture
def large(place: Path) -> Path:
    """A file of 4 MiB and a bit."""
    path = place / "large.bin"
    path.write_bytes(some_bytes(4 * 1024 * 1024 + 5))
    return path


@pytest.fixture
def bucket(place: Path) -> Path:
    """The directory that uploads go to; it is made by the first."""
    return place / "bucket"


@pytest.fixture
def url(bucket: Path) -> str:
    """Where uploads go."""
    return f"{bucket.as_uri()}/copy"
