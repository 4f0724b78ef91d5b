"""
Standard output and standard error to which writing never fails.

A command may be started without them (``>&-``), its reader may leave (``| head``), its terminal may go away, the disk
behind them may be full. None of this must end an upload, or make a failure of one that has succeeded.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

# The reader or the terminal is gone, so output has no recipient.
_GONE = frozenset({errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO, errno.ECONNRESET})

# What fits into the buffer of a stream, in characters of up to four bytes. Of more than that, a stream that does not
# block would lose what the pipe has no room for.
_PIECE = 2000


class SteadyStream(io.TextIOBase):
    """
    A stream that drops what can't be written, and remembers why.

    It has no `buffer`, so that no library writes past it.

    Args:
        stream: where the text goes; None drops all of it.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        #: Why text was dropped: the first error; None where none was, or where the stream was closed from the start.
        self.failure: Exception | None = None

    @property
    def is_cut_short(self) -> bool:
        """Whether text is missing that a reader still waits for, as on a full disk."""
        return self.failure is not None and getattr(self.failure, "errno", None) not in _GONE

    def write(self, text: str, /) -> int:
        """Write, or drop."""
        if not isinstance(text, str):
            raise TypeError("text is written here, not bytes")
        if len(text) <= _PIECE or self._stream is None or _blocks(self._stream):
            self._write(text)
        else:
            for begin in range(0, len(text), _PIECE):
                self._write(text[begin : begin + _PIECE])
                self.flush()
        return len(text)

    def _write(self, text: str) -> None:
        stream = self._stream
        if stream is None:
            return
        try:
            try:
                stream.write(text)
            except UnicodeEncodeError:
                encoding = stream.encoding or "ascii"
                stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except BlockingIOError:
            self.flush()
        except RuntimeError:
            pass  # the handler of a signal writes in the middle of another write to the same stream
        except (OSError, ValueError) as error:  # ValueError: it was closed
            self._give_up(stream, error)

    def flush(self) -> None:
        """Flush, or drop."""
        stream = self._stream
        while stream is not None:
            try:
                return stream.flush()
            except BlockingIOError:
                # Another process made the pipe non-blocking, and its reader is slow.
                try:
                    _wait_for_room(stream)
                except (OSError, ValueError) as error:
                    return self._give_up(stream, error)
            except RuntimeError:
                return None  # as above
            except (OSError, ValueError) as error:
                return self._give_up(stream, error)
        return None

    def fileno(self) -> int:
        """The descriptor; raises OSError where there is none."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Whether it is a terminal, and still there."""
        with suppress(OSError, ValueError):
            return self._stream is not None and self._stream.isatty()
        return False

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a property does
        """The encoding of the stream behind this one."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def _give_up(self, stream: TextIO, error: Exception) -> None:
        self.failure, self._stream = error, None
        with suppress(OSError, ValueError):
            # What is still in its buffer must not fail once more at exit. Only where it is this process's own: the file
            # that a calling program put in its place is not ours to close.
            if stream.fileno() in (1, 2):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)


def _blocks(stream: TextIO) -> bool:
    try:
        return os.get_blocking(stream.fileno())
    except (AttributeError, OSError, ValueError):  # AttributeError: on Windows, before Python 3.12
        return True


def _wait_for_room(stream: TextIO) -> None:
    import select

    select.select([], [stream.fileno()], [])


@contextmanager
def steady_streams() -> Iterator[SteadyStream]:
    """Replace standard output and standard error of this process for a while; yields standard output."""
    _occupy_closed_descriptors()
    before = sys.stdout, sys.stderr
    out, err = SteadyStream(sys.stdout), SteadyStream(sys.stderr)
    sys.stdout, sys.stderr = out, err
    try:
        yield out
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before


def _occupy_closed_descriptors() -> None:
    """
    Open the null device in the place of standard streams that are closed.

    Otherwise the next file that is opened, a checkpoint or an object, gets the number 1 or 2, and with it whatever a
    library or a child process writes to its standard output or error.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    with suppress(OSError):
        while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(opened)
