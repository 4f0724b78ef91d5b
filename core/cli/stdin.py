"""The source that a command line names: a file, or standard input."""

from __future__ import annotations

import os
import stat
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from partwise._engine.throttle import TransferStopped
from partwise.errors import SourceUnreadable
from partwise.sources import StreamSource, irregular_file_error

#: Standard input on the command line and, as the name of the source, in checkpoints.
STANDARD_INPUT = "-"

#: What to do with a directory, by the command.
_DIRECTORY_HINTS = {
    "upload": "Upload its files: partwise upload DIR/* URL/, or an archive: tar c DIR | partwise upload - URL",
    "verify": "Name a file in it",
}

# Seconds between two checks whether to stop, while no bytes arrive.
_POLL = 0.2


class _Pipe:
    """
    The bytes of a pipe.

    A read waits for bytes, but not any more once `stop` is set: a stopped upload would otherwise wait for a producer
    that writes nothing.
    """

    def __init__(self, stream: Any, stop: threading.Event) -> None:
        self._stream = stream
        self._stop = stop

    def read(self, size: int) -> bytes:
        descriptor = _descriptor(self._stream)
        if descriptor is None:
            return bytes(self._stream.read(size))
        while not _is_readable(descriptor):
            self._check_stop()
        data = os.read(descriptor, size)
        if not data:
            # Ctrl-C kills the producer, too, which looks like the end of its bytes.
            self._check_stop()
        return data

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise TransferStopped("the upload is ending")


def standard_input(stop: threading.Event) -> StreamSource:
    """
    Return standard input as a source; once `stop` is set, its reads fail.

    Raises:
        SourceUnreadable: this process has no standard input.
    """
    if sys.stdin is None:
        raise SourceUnreadable("standard input is closed", source=STANDARD_INPUT)
    return StreamSource(_Pipe(sys.stdin.buffer, stop), name=STANDARD_INPUT)


def source_of(file: str, stop: threading.Event, command: str) -> str | StreamSource:
    """
    Return standard input for ``-``, or the path of a file.

    Args:
        file: as it was written.
        stop: once it is set, reads of standard input fail.
        command: the name of the command, for the hint to use standard input.

    Raises:
        SourceUnreadable: it is a directory, or a pipe or a device, which can be read only as standard input, or there
            is none.
    """
    if file == STANDARD_INPUT:
        return standard_input(stop)
    with suppress(OSError, ValueError):  # the library refuses names that are invalid, and files that do not exist
        mode = Path(file).stat().st_mode
        if not stat.S_ISREG(mode):
            hint = f"Use standard input: partwise {command} - URL < FILE, or COMMAND | partwise {command} - URL"
            raise irregular_file_error(file, mode, hint, _DIRECTORY_HINTS.get(command, ""))
    return file


def _descriptor(stream: Any) -> int | None:
    # Windows can't wait for a pipe; a program that runs the command in its own process may have replaced the stream.
    if os.name == "nt":
        return None
    try:
        number = stream.fileno()
    except (AttributeError, OSError):
        return None
    return int(number)


def _is_readable(descriptor: int) -> bool:
    import select

    return bool(select.select([descriptor], [], [], _POLL)[0])
