"""A bounded buffer between what a program writes and the upload that reads it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from partwise._engine.throttle import TransferStopped
from partwise.model import MIB

#: Bytes that are buffered at most. A smaller object is complete before its upload starts.
BUFFER_SIZE = 4 * MIB

# Seconds between two checks, while the buffer is full, whether the upload has ended.
_POLL = 0.1


class Pipe:
    """
    The bytes that were written and not yet read.

    One thread writes, another one reads. `end` lets the reader see the end; `stop` makes it fail. Once the end is
    known, the thread that wrote can read, too.

    Args:
        owner: kept as long as the pipe, because the reader needs it.
    """

    def __init__(self, owner: object = None) -> None:
        self._owner = owner
        self._buffer = bytearray()
        self._changed = threading.Condition()
        self._wanted = 0
        self._writer = 0
        self._ended = False
        self._stopped = False

    def has_room(self, size: int) -> bool:
        """Return whether this number of bytes fits without a reader."""
        return len(self._buffer) + size <= BUFFER_SIZE

    def claim_writing(self) -> None:
        """Note that this thread writes, before another one is started that reads."""
        self._writer = threading.get_ident()

    def write(self, data: memoryview, is_read: Callable[[], bool]) -> bool:
        """
        Add bytes, and wait for room for them.

        Args:
            data: the bytes; they are copied.
            is_read: whether there is still a reader.

        Returns:
            whether all of them are in the buffer; False: nothing will read them.
        """
        while len(data):
            with self._changed:
                while is_read() and not self._stopped and len(self._buffer) >= BUFFER_SIZE:
                    self._changed.wait(_POLL)
                if self._stopped or not is_read():
                    return False
                piece = data[: BUFFER_SIZE - len(self._buffer)]
                self._buffer += piece
                if len(self._buffer) >= self._wanted:  # or a reader would wake up for every line of a text
                    self._changed.notify_all()
            data = data[len(piece) :]
        return True

    def end(self) -> None:
        """End the bytes."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Discard the bytes, and let the reader fail."""
        with self._changed:
            self._stopped = True
            self._buffer.clear()
            self._changed.notify_all()

    def read(self, size: int) -> bytes:
        """
        Return `size` bytes, or fewer at the end. Waits for them.

        Raises:
            TransferStopped: `stop` was called.
            OSError: the thread that writes would wait for itself, because no other one could be started.
        """
        with self._changed:
            if not self._ended and self._writer == threading.get_ident():
                raise OSError("no thread can be started that uploads what this one writes")
            self._wanted = min(size, BUFFER_SIZE)
            while len(self._buffer) < self._wanted and not (self._ended or self._stopped):
                self._changed.wait()
            self._wanted = 0
            if self._stopped:
                raise TransferStopped("the file was discarded")
            with memoryview(self._buffer) as buffered:
                data = bytes(buffered[:size])
            del self._buffer[:size]
            self._changed.notify_all()
            return data
