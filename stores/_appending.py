"""Appending to files without reading again what they contain."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress

from attrs import define

from partwise import _durable as files
from partwise._signals import ignored
from partwise.checkpoint import Checkpoint
from partwise.model import UploadedPart
from partwise.stores import _journal as journal
from partwise.stores._errors import claim_lost_error


@define
class _Tail:
    """
    An open file, and the end of its last valid line.

    The next line is written there and chained to it.
    """

    file: int
    name: str
    upload_id: str | None
    length: int
    digest: bytes


class Appender:
    """
    The files that are open for appending.

    A file is read once, before its first line is appended. From then on an append costs one `fstat` and one write,
    however many lines there are. If the size of the file is not what the last append left, another process has written
    to it, and the file is read again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # for all below
        self._tails: dict[str, _Tail] = {}

    def append(
        self,
        path: str,
        name: str,
        upload_id: str,
        part: UploadedPart,
        *,
        validate: Callable[[Checkpoint], None],
        keep_open: bool,
    ) -> None:
        """
        Append the line of a part to the file of this checkpoint of this upload.

        An incomplete last line is removed first. When the file is read, `validate` is called with the checkpoint in it,
        and raises if it is the wrong one.

        Raises:
            OSError: from the system. No byte of the line is left, or they are removed before the next append.
            ClaimLost: the file is that of another upload. It was not changed.
            CorruptJournal: the content does not verify.
        """
        with self._lock:
            tail = self._tail(path, name, validate)
            try:
                if tail.upload_id != upload_id:
                    raise claim_lost_error(upload_id, tail.upload_id, name=name, where=path)
                _write_line(tail, part)
            except OSError:
                # If this fails too, the size differs from the expected one, and the next append reads the file again.
                with suppress(OSError):
                    os.ftruncate(tail.file, tail.length)
                raise
            finally:
                if not keep_open:
                    self._close(path)

    def close_file(self, path: str) -> None:
        """Close a file, if it is open; ignore an error of that."""
        with self._lock:
            self._close_ignoring_errors(path)

    def close(self) -> None:
        """Close all files; ignore errors of that."""
        with self._lock:
            for path in list(self._tails):
                self._close_ignoring_errors(path)

    def close_after_fork(self) -> None:
        """
        Close all files in a forked child.

        Its copy of the lock may be held by a thread that the child lacks.
        """
        self._lock = threading.Lock()
        self.close()

    def _tail(self, path: str, name: str, validate: Callable[[Checkpoint], None]) -> _Tail:
        tail = self._tails.get(path)
        if tail is not None:
            if tail.name == name and _is_unchanged(tail):
                return tail
            self._close_ignoring_errors(path)
        file = files.open_trusted(path, os.O_RDWR | os.O_APPEND)
        try:
            data = files.read_open(file, journal.BYTES_MAX + 1)
            found = journal.verify(data)
            validate(found.checkpoint)
            if len(data) > found.length:
                os.ftruncate(file, found.length)
        except BaseException:
            os.close(file)
            raise
        tail = self._tails[path] = _Tail(file, name, found.checkpoint.upload_id, found.length, found.digest)
        return tail

    def _close(self, path: str) -> None:
        tail = self._tails.pop(path, None)
        if tail is not None:
            os.close(tail.file)

    def _close_ignoring_errors(self, path: str) -> None:
        # Network file systems report here that an earlier line could not be stored. The file is closed nevertheless,
        # and the storage's list has the part.
        with ignored(OSError):
            self._close(path)


def _is_unchanged(tail: _Tail) -> bool:
    """Return whether the file is as the last append left it."""
    with ignored(OSError):  # of a network file system, such as after its server was replaced
        status = os.fstat(tail.file)
        return status.st_size == tail.length and status.st_nlink > 0
    return False


def _write_line(tail: _Tail, part: UploadedPart) -> None:
    line, digest = journal.encode_part(tail.digest, part)
    written = os.write(tail.file, line)
    if written < len(line):
        raise OSError(errno.ENOSPC, f"only {written} of {len(line)} bytes could be written")
    tail.length += written
    tail.digest = digest
