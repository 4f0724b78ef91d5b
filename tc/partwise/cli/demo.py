"""
``partwise demo``: kill an upload over HTTP half way, resume it, and compare.

The same command resumes it; source and object are compared byte for byte. Nothing is simulated: the server implements
the protocol of OSS on loopback, the commands that are shown run as separate processes, and the first one is killed by
SIGKILL.
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

from partwise.cli.formatting import collapse_lines, command_line, format_size, pluralize
from partwise.cli.output import Output, show_cursor
from partwise.cli.serve import server_module
from partwise.cli.signals import SignalReceived, Signals
from partwise.cli.style import Styled
from partwise.config import TransferConfig
from partwise.errors import InvalidInput, PartwiseError, SourceUnreadable
from partwise.model import KIB, MIB
from partwise.sources import FileSource
from partwise.stores.file import FileCheckpointStore

if TYPE_CHECKING:
    from partwise.server import OSSServer

#: The minimum size of a file that can be killed half way, given the minimum part size of the protocol.
SIZE_MIN = MIB

_PARTS = 64
_PART_SIZE_MIN = 100 * KIB

# Seconds that a large file would take without the kill: long enough to watch, and to hit the middle. Small files are
# sent at the minimum rate, in bytes per second, and take less.
_SECONDS = 5
_RATE_MIN = 8 * MIB

_POLL = 0.01
_BUCKET = "demo"
_CHECKPOINTS = "checkpoints"


def demo(file: str | None, size: int, output: Output) -> int:
    """
    Run the demo with a file, or with `size` random bytes.

    Raises:
        SignalReceived: a signal arrived. Everything is cleaned up.
        InvalidInput: the size is too small, or a package is not installed.
        PartwiseError: the demo can't run here, or did not succeed.
    """
    module = server_module()
    signals = _DeferrableSignals()
    try:
        with Signals(signals.handle), _temporary_directory(signals) as folder:
            path = _generate(folder, size) if file is None else _check_given(file, folder)
            buckets = folder / "buckets"
            (buckets / _BUCKET).mkdir(parents=True)
            with module.OSSServer(directory=buckets) as server:
                _Demo(folder, path, server, output, signals).run()
    except OSError as error:
        raise PartwiseError(f"the demo can't run here: {collapse_lines(str(error))}") from error
    return 0


class _DeferrableSignals:
    """
    Raises an exception for a signal, at once or at the end of a `deferred` block.

    Such a block creates or deletes something that must not be left behind.
    """

    def __init__(self) -> None:
        self._is_deferred = False
        self._number: int | None = None

    def handle(self, number: int) -> None:
        """Raise now, or at the end of the current `deferred` block."""
        if not self._is_deferred:
            raise SignalReceived(number)
        self._number = number

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer signals to the end of the block."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False
        if self._number is not None:
            number, self._number = self._number, None
            raise SignalReceived(number)


@contextmanager
def _temporary_directory(signals: _DeferrableSignals) -> Iterator[Path]:
    folder = None
    try:
        with signals.deferred():
            folder = tempfile.mkdtemp(prefix="partwise-demo-")
        yield Path(folder)
    finally:
        if folder is not None:
            # On Windows, files that a killed process is still closing can't be deleted.
            with signals.deferred():
                shutil.rmtree(folder, ignore_errors=True)


def _generate(folder: Path, size: int) -> Path:
    if size < SIZE_MIN:
        raise InvalidInput(f"--size: {format_size(size)} is too small", hint="Use 1MiB or more")
    _check_free_space(folder, 3 * size)
    path = folder / "backup.tar"
    with path.open("wb") as file:
        for begin in range(0, size, MIB):
            file.write(os.urandom(min(MIB, size - begin)))
    return path


def _check_given(file: str, folder: Path) -> Path:
    size = FileSource(file).fingerprint().size or 0
    if size < SIZE_MIN:
        raise SourceUnreadable(f"{file} is too small for the demo", hint="Use a file of 1 MiB or more")
    _check_free_space(folder, 2 * size)
    return Path(file).absolute()


def _check_free_space(folder: Path, needed: int) -> None:
    # For the parts, for the object, and perhaps for the file.
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise PartwiseError(
            f"the demo needs {format_size(needed)} in {folder.parent}, but {format_size(free)} are free"
        )


@define
class _Demo:
    folder: Path
    file: Path
    server: OSSServer
    output: Output
    signals: _DeferrableSignals
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
        """Kill, resume, compare."""
        try:
            kept, first = self._kill_half_way()
            second = self._resume()
        finally:
            with self.signals.deferred():
                for process in self.processes:
                    process.kill()
                    process.wait()
        self._compare(kept, first, second)

    # --- steps -------------------------------------------------------------------------------------------------------

    def _kill_half_way(self) -> tuple[int, int]:
        """Return the bytes in the checkpoint, and the bytes that the server received."""
        self._headline(f"An upload of {format_size(self.size)} to an OSS server on loopback, {self.server.endpoint}")
        upload = self._start(self.line)
        store = FileCheckpointStore(self.folder / _CHECKPOINTS)
        while 2 * _recorded(store) < self.size:
            if upload.poll() is not None:
                raise PartwiseError(f"the upload ended before it was killed, with exit code {upload.returncode}")
            time.sleep(_POLL)
        upload.kill()
        upload.wait()
        if sys.stderr.isatty():
            # The killed process had hidden it.
            show_cursor()
        name = "SIGKILL" if hasattr(signal, "SIGKILL") else "TerminateProcess"
        self._headline(f"Killed half way by {name}: no handler runs, nothing is flushed. The checkpoint:")
        self._wait_for(self._start(["status", "--checkpoint-dir", _CHECKPOINTS]))
        return _recorded(store), self._received()

    def _resume(self) -> int:
        """Return the bytes that the server received."""
        self._headline("The same command again")
        before = self._received()
        self._wait_for(self._start(self.line))
        return self._received() - before

    def _compare(self, kept: int, first: int, second: int) -> None:
        stored = self.folder / "buckets" / _BUCKET / self.file.name
        pending = len(list(self.server.backend(_BUCKET).list_uploads()))
        checkpoints = len(list(FileCheckpointStore(self.folder / _CHECKPOINTS).scan()))
        if not filecmp.cmp(self.file, stored, shallow=False):
            raise PartwiseError("the object differs from the file")
        if pending or checkpoints:
            raise PartwiseError(f"left over: {pluralize(pending, 'upload')} and {pluralize(checkpoints, 'checkpoint')}")
        self._headline("The object equals the file byte for byte; no checkpoint and no upload is left")
        self.output.say(
            f"{format_size(kept):>11} kept from the first run (the server had received {format_size(first)})"
        )
        self.output.say(f"{format_size(second):>11} sent by the second run")

    # --- processes ---------------------------------------------------------------------------------------------------

    def _start(self, arguments: list[str]) -> subprocess.Popen[bytes]:
        self.output.say(f"$ {command_line(arguments)}")
        with self.signals.deferred():
            process = subprocess.Popen(  # noqa: S603  # this program, with fixed arguments
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

    def _wait_for(self, process: subprocess.Popen[bytes]) -> None:
        if process.wait():
            raise PartwiseError(f"the command ended with exit code {process.returncode}")

    def _received(self) -> int:
        return sum(request.body_length for request in self.server.requests_of("UploadPart"))

    def _headline(self, text: str) -> None:
        self.output.say("", Styled(text, "bold"))


def _recorded(store: FileCheckpointStore) -> int:
    return sum(checkpoint.bytes_done for checkpoint in store.scan())
