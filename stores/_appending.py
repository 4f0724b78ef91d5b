"""Adding to the ends of files, without reading again what is there."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress

from attrs import define

from partwise import _durable as files
from partwise.checkpoint import Checkpoint
from partwise.model import UploadedPart
from partwise.stores import _journal as journal


@define
class _Tail:
    """An open file, and where its last good line ends: the next one goes there, and is chained to it."""

    file: int
    name: str
    length: int
    digest: bytes


class Appender:
    """
    The files that are open for lines to be added to them.

    A file is read once, when its first line is added. From then on an addition costs one look at the file's size and
    one write, however many there were. If that size is not what it was left at, somebody else has been there, and the
    file is read again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # for all below
        self._tails: dict[str, _Tail] = {}

    def append(
        self, path: str, name: str, part: UploadedPart, *, admit: Callable[[Checkpoint], None], keep: bool
    ) -> None:
        """
        Add the line of one part to the end of a file. What is torn there is cut off first.

        Args:
            path: the file.
            name: the checkpoint that it is to be of.
            part: the receipt.
            admit: is called with the checkpoint that is found when the file is read; it raises if that is a wrong one.
            keep: leave the file open for the next time.

        Raises:
            OSError: as the system says. No part of the line is left, or it will be cut off before the next one.
            CorruptJournal: what is there does not verify.
        """
        with self._lock:
            tail = self._tail(path, name, admit)
            try:
                _write_line(tail, part)
            except OSError:
                # Where this fails, too, the size is not what it was left at, and the file is read again next time.
                with suppress(OSError):
                    os.ftruncate(tail.file, tail.length)
                raise
            finally:
                if not keep:
                    self._close(path)

    def let_go(self, path: str) -> None:
        """Close a file, if it is open."""
        with self._lock:
            self._close(path)

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            for path in list(self._tails):
                self._close(path)

    def inherited(self) -> None:
        """Close all files in a forked child, whose copy of the lock may be held by a thread that it has not."""
        self._lock = threading.Lock()
        self.close()

    def _tail(self, path: str, name: str, admit: Callable[[Checkpoint], None]) -> _Tail:
        tail = self._tails.get(path)
        if tail is not None:
            state = os.fstat(tail.file)
            if tail.name == name and state.st_size == tail.length and state.st_nlink:
                return tail
            self._close(path)
        file = files.open_trusted(path, os.O_RDWR | os.O_APPEND)
        try:
            data = files.read_open(file, journal.BYTES_MAX + 1)
            found = journal.decode_end(data)
            admit(found.checkpoint)
            if len(data) > found.length:
                os.ftruncate(file, found.length)
        except BaseException:
            os.close(file)
            raise
        tail = self._tails[path] = _Tail(file, name, found.length, found.digest)
        return tail

    def _close(self, path: str) -> None:
        tail = self._tails.pop(path, None)
        if tail is not None:
            os.close(tail.file)


def _write_line(tail: _Tail, part: UploadedPart) -> None:
    line, digest = journal.encode_part(tail.digest, part)
    written = os.write(tail.file, line)
    if written < len(line):
        raise OSError(errno.ENOSPC, f"only {written} of {len(line)} bytes could be written")
    tail.length += written
    tail.digest = digest
