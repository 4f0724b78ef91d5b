"""
Standard output and standard error whose writes never fail.

They may be closed (``>&-``), the reader may exit (``| head``), the terminal may be closed, the disk may be full. None
of this may stop an upload, or turn a finished one into a failure.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

# The reader has exited or the terminal was closed: no one waits for the output.
_GONE = frozenset({errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO, errno.ECONNRESET})

# Characters, of up to four bytes, that fit into the buffer of a stream. Of a longer text, a non-blocking stream would
# lose what does not fit into the pipe.
_CHUNK = 2000


class SteadyStream(io.TextIOBase):
    """
    A stream that drops what it can't write, and remembers why.

    Without a stream behind it, it drops everything. It has no `buffer`, so that no library bypasses it.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        #: The error for which text was dropped; None if there was none, or if the stream was closed from the start.
        self.failure: Exception | None = None

    @property
    def is_cut_short(self) -> bool:
        """Whether text was lost that a reader still expects, as on a full disk."""
        return self.failure is not None and getattr(self.failure, "errno", None) not in _GONE

    def write(self, text: str, /) -> int:
        """Write, or drop."""
        if not isinstance(text, str):
            raise TypeError("expected text, not bytes")
        if len(text) <= _CHUNK or self._stream is None or _blocks(self._stream):
            self._write(text)
        else:
            for begin in range(0, len(text), _CHUNK):
                self._write(text[begin : begin + _CHUNK])
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
            pass  # a signal handler writes during another write to the same stream
        except (OSError, ValueError) as error:  # ValueError: it was closed
            self._discard(stream, error)

    def flush(self) -> None:
        """Flush, or drop."""
        stream = self._stream
        while stream is not None:
            try:
                return stream.flush()
            except BlockingIOError:
                # Another process has made the pipe non-blocking, and the reader is slow.
                try:
                    _wait_until_writable(stream)
                except (OSError, ValueError) as error:
                    return self._discard(stream, error)
            except RuntimeError:
                return None  # see _write
            except (OSError, ValueError) as error:
                return self._discard(stream, error)
        return None

    def fileno(self) -> int:
        """Return the descriptor, or raise OSError if there is none."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Return whether it is a terminal that is still open."""
        with suppress(OSError, ValueError):
            return self._stream is not None and self._stream.isatty()
        return False

    @property
    def encoding(self) -> str:  # type: ignore[override]  # read-only here
        """The encoding of the stream behind this one."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def _discard(self, stream: TextIO, error: Exception) -> None:
        self.failure, self._stream = error, None
        with suppress(OSError, ValueError):
            # Discard its buffer, so that the flush at exit does not fail again. Only if the descriptor is that of this
            # process: a calling program may have replaced the stream by a file that must stay open.
            if stream.fileno() in (1, 2):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)


def _blocks(stream: TextIO) -> bool:
    try:
        return os.get_blocking(stream.fileno())
    except (AttributeError, OSError, ValueError):  # AttributeError: on Windows, before Python 3.12
        return True


def _wait_until_writable(stream: TextIO) -> None:
    import select

    select.select([], [stream.fileno()], [])


@contextmanager
def steady_streams() -> Iterator[SteadyStream]:
    """Replace standard output and standard error, and restore them at the end."""
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
    Open the null device for standard streams that are closed.

    Otherwise the next file to be opened, perhaps a checkpoint, gets descriptor 1 or 2, and whatever a library or a
    child process writes to standard output or standard error goes into it.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    with suppress(OSError):
        while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(opened)
