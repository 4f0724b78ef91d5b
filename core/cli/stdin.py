"""Standard input as a source that can be told to stop, though nothing comes from it."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from partwise._engine.throttle import TransferStopped
from partwise.errors import SourceUnreadable
from partwise.sources import StreamSource

#: What stands for standard input on the command line and, as the source's name, in checkpoints.
STANDARD_INPUT = "-"

# How long a stop may go unnoticed while a producer is silent, in seconds.
_PATIENCE = 0.2


class _Pipe:
    """
    The bytes of a descriptor, as they come.

    A read waits for bytes, however long, but not once `stop` is set: an upload that is to stop would otherwise wait for
    a producer that has nothing to say.
    """

    def __init__(self, stream: Any, stop: threading.Event) -> None:
        self._stream = stream
        self._stop = stop

    def read(self, size: int) -> bytes:
        descriptor = _descriptor(self._stream)
        if descriptor is None:
            return bytes(self._stream.read(size))
        while not _has_news(descriptor):
            self._go_on()
        data = os.read(descriptor, size)
        if not data:
            # The Ctrl-C that stops us stops the producer, too, and its death looks like the end of the bytes.
            self._go_on()
        return data

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise TransferStopped("the upload is ending")


def standard_input(stop: threading.Event) -> StreamSource:
    """
    Standard input, from where it stands to its end.

    Args:
        stop: when it is set, reading waits no longer.

    Raises:
        SourceUnreadable: this process has no standard input.
    """
    if sys.stdin is None:
        raise SourceUnreadable("standard input is closed, so there is nothing to read", source=STANDARD_INPUT)
    return StreamSource(_Pipe(sys.stdin.buffer, stop), name=STANDARD_INPUT)


def _descriptor(stream: Any) -> int | None:
    # Windows can't wait for a pipe, and a program that runs the command in its own process may have no descriptor.
    if os.name == "nt":
        return None
    try:
        number = stream.fileno()
    except (AttributeError, OSError):
        return None
    return int(number)


def _has_news(descriptor: int) -> bool:
    import select

    return bool(select.select([descriptor], [], [], _PATIENCE)[0])
