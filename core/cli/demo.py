"""
``partwise demo``: an upload over HTTP that is killed half way, carried on by the same line, and compared byte for byte.

Nothing is played: the server speaks the protocol of OSS on loopback, the uploads are processes of their own that run
the lines that are shown, and the kill is the system's.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define, field

from partwise.cli.formatting import amount, command_line, count, one_line
from partwise.cli.output import Output, show_cursor
from partwise.cli.serve import server_module
from partwise.cli.signals import Signals, Stopped
from partwise.cli.style import Painted
from partwise.config import TransferConfig
from partwise.errors import InvalidInput, PartwiseError, SourceUnreadable
from partwise.model import KIB, MIB
from partwise.sources import FileSource
from partwise.stores.file import FileCheckpointStore

if TYPE_CHECKING:
    from partwise.server import OSSServer

#: The smallest file that has a middle to be killed in, in parts of the least size that the protocol takes.
SIZE_MIN = MIB

_PARTS = 64
_PART_SIZE_MIN = 100 * KIB

# Seconds that a large file would take in one go: enough to see it, and for the kill to hit the middle. Small ones are
# sent at this rate, in bytes a second, and take less.
_SECONDS = 5
_RATE_MIN = 8 * MIB

_LOOK = 0.01
_BUCKET = "demo"
_CHECKPOINTS = "checkpoints"


def demo(file: str | None, size: int, output: Output) -> int:
    """
    Show it.

    Args:
        file: what to upload; None makes a file of random bytes.
        size: how large that one is to be, in bytes.
        output: where to.

    Raises:
        Stopped: a signal came. All is cleaned up.
        InvalidInput: the size is too small, or what the server needs is not installed.
        PartwiseError: it can't be shown here, or did not go as it should.
    """
    module = server_module()
    stops = _Stops()
    try:
        with Signals(stops.heard), _folder(stops) as folder:
            path = _made_up(folder, size) if file is None else _given(file, folder)
            buckets = folder / "buckets"
            (buckets / _BUCKET).mkdir(parents=True)
            with module.OSSServer(directory=buckets) as server:
                _Demo(folder, path, server, output, stops).run()
    except OSError as error:
        raise PartwiseError(f"the demo can't be shown here: {one_line(str(error))}") from error
    return 0


class _Stops:
    """A signal as an exception, but not while something is made, or removed, that must not be left behind."""

    def __init__(self) -> None:
        self._is_held = False
        self._number: int | None = None

    def heard(self, number: int) -> None:
        """Stop here, or as soon as that can be."""
        if not self._is_held:
            raise Stopped(number)
        self._number = number

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no signal in; one that comes is raised at the end."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
        if self._number is not None:
            number, self._number = self._number, None
            raise Stopped(number)


@contextmanager
def _folder(stops: _Stops) -> Iterator[Path]:
    folder = None
    try:
        with stops.held():
            folder = tempfile.mkdtemp(prefix="partwise-demo-")
        yield Path(folder)
    finally:
        if folder is not None:
            # Ends of processes that were killed may still be closing files on Windows, which keeps them from being
            # removed.
            with stops.held():
                shutil.rmtree(folder, ignore_errors=True)


def _made_up(folder: Path, size: int) -> Path:
    if size < SIZE_MIN:
        raise InvalidInput(f"--size: {amount(size)} are too few to be killed in the middle; give 1MiB or more")
    _check_room(folder, 3 * size)
    path = folder / "backup.tar"
    with path.open("wb") as file:
        for begin in range(0, size, MIB):
            file.write(os.urandom(min(MIB, size - begin)))
    return path


def _given(file: str, folder: Path) -> Path:
    size = FileSource(file).fingerprint().size or 0
    if size < SIZE_MIN:
        raise SourceUnreadable(f"{file} is too small to be killed in the middle; give a file of 1 MiB or more")
    _check_room(folder, 2 * size)
    return Path(file).absolute()


def _check_room(folder: Path, needed: int) -> None:
    # The parts, the object made of them, and perhaps the file itself.
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise PartwiseError(f"the demo needs {amount(needed)} in {folder.parent}, where {amount(free)} are free")


@define
class _Demo:
    folder: Path
    file: Path
    server: OSSServer
    output: Output
    stops: _Stops
    size: int = field(init=False)
    line: list[str] = field(init=False)
    processes: list[subprocess.Popen[bytes]] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        self.size = self.file.stat().st_size
        name = self.file.name if self.file.parent == self.folder else str(self.file)
        unit, suffix = (MIB, "MiB") if self.size >= _PARTS * MIB else (KIB, "KiB")
        part_size = max(-(-self.size // (_PARTS * unit)) * unit, _PART_SIZE_MIN)
        self.line = [
            *("upload", name, f"oss://{_BUCKET}/{self.file.name}"),
            *("--checkpoint-dir", _CHECKPOINTS, "--part-size", f"{part_size // unit}{suffix}"),
            *("--bandwidth-limit", f"{max(_RATE_MIN, self.size // _SECONDS) // MIB}MiB"),
        ]
        if self.size < TransferConfig().multipart_threshold:
            self.line += ["--multipart-threshold", "0"]

    def run(self) -> None:
        """Kill, carry on, compare."""
        try:
            kept, first = self._killed_half_way()
            second = self._carried_on()
        finally:
            with self.stops.held():
                for process in self.processes:
                    process.kill()
                    process.wait()
        self._compared(kept, first, second)

    # --- the acts ----------------------------------------------------------------------------------------------------

    def _killed_half_way(self) -> tuple[int, int]:
        """The bytes that were recorded, and those that the server received."""
        self._headline(f"An upload of {amount(self.size)} to an OSS server on loopback, {self.server.endpoint}")
        upload = self._begin(self.line)
        store = FileCheckpointStore(self.folder / _CHECKPOINTS)
        while 2 * _recorded(store) < self.size:
            if upload.poll() is not None:
                raise PartwiseError(f"the upload ended by itself, with exit code {upload.returncode}")
            time.sleep(_LOOK)
        upload.kill()
        upload.wait()
        if sys.stderr.isatty():
            # The bar died with its process, which had hidden the cursor.
            show_cursor()
        name = "SIGKILL" if hasattr(signal, "SIGKILL") else "TerminateProcess"
        self._headline(f"Killed half way, by {name}: no handler runs, nothing is flushed. What is left:")
        self._finish(self._begin(["status", "--checkpoint-dir", _CHECKPOINTS]))
        return _recorded(store), self._received()

    def _carried_on(self) -> int:
        """The bytes that the server received."""
        self._headline("The same line again")
        before = self._received()
        self._finish(self._begin(self.line))
        return self._received() - before

    def _compared(self, kept: int, first: int, second: int) -> None:
        stored = self.folder / "buckets" / _BUCKET / self.file.name
        pending = len(list(self.server.backend(_BUCKET).list_uploads()))
        checkpoints = len(list(FileCheckpointStore(self.folder / _CHECKPOINTS).scan()))
        if not filecmp.cmp(self.file, stored, shallow=False):
            raise PartwiseError("the object differs from the file")
        if pending or checkpoints:
            raise PartwiseError(f"left behind: {count(pending, 'upload')} and {count(checkpoints, 'checkpoint')}")
        self._headline("Compared: equal, byte for byte; no checkpoint and no upload is left behind")
        self.output.say(f"{amount(kept):>11} kept of the first run, from which the server had received {amount(first)}")
        self.output.say(f"{amount(second):>11} sent by the second run")

    # --- the means ---------------------------------------------------------------------------------------------------

    def _begin(self, arguments: list[str]) -> subprocess.Popen[bytes]:
        self.output.say(f"$ {command_line(arguments)}")
        with self.stops.held():
            process = subprocess.Popen(  # noqa: S603  # this program, with arguments of our own
                [sys.executable, "-m", "partwise", *arguments],
                cwd=self.folder,
                env={
                    **os.environ,
                    "OSS_ENDPOINT": self.server.endpoint,
                    "OSS_REGION": self.server.region,
                    "OSS_ACCESS_KEY_ID": self.server.access_key_id,
                    "OSS_ACCESS_KEY_SECRET": self.server.access_key_secret,
                    "OSS_SESSION_TOKEN": "",
                },
            )
            self.processes.append(process)
        return process

    def _finish(self, process: subprocess.Popen[bytes]) -> None:
        if process.wait():
            raise PartwiseError(f"that line ended with exit code {process.returncode}")

    def _received(self) -> int:
        return sum(request.body_length for request in self.server.requests_of("UploadPart"))

    def _headline(self, text: str) -> None:
        self.output.say("", Painted(text, "bold"))


def _recorded(store: FileCheckpointStore) -> int:
    return sum(checkpoint.bytes_done for checkpoint in store.scan())
