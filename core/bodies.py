"""
The bodies that backends get, and what helps to wrap and to send them.

A source provides bytes (`SourceBody`). The engine makes a `Body` of them: it computes the checksum that the backend's
storage reports, and knows where in the object the bytes are.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from partwise._units import format_count
from partwise.checksums import CRC64_XZ, Checksum
from partwise.errors import IntegrityError
from partwise.model import KIB
from partwise.sources import BytesBody

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from partwise.protocols import Body, SourceBody

__all__ = ["BodyFile", "BodyWrapper", "ChecksummedBody", "SourceBodyWrapper"]
__all__ += ["bytes_body", "exact_chunks"]


class ChecksummedBody:
    """
    A body of a source's bytes, with their checksum and their place in the object.

    Args:
        source_body: the bytes.
        checksum: the algorithm.
        offset: the place of the first byte in the object, from 0.
        is_last: whether these are known to be the last bytes of the object.
    """

    def __init__(
        self, source_body: SourceBody, checksum: Checksum = CRC64_XZ, *, offset: int = 0, is_last: bool = True
    ) -> None:
        self._source_body = source_body
        self._algorithm = checksum
        self._size = len(source_body)
        self.offset = offset
        self.is_last = is_last
        self.checksum: int | None = None

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._size} bytes from {self.offset}>"

    def chunks(self, *, counted: bool = True) -> Iterator[memoryview]:  # noqa: ARG002  # nothing counts these
        """Yield the chunks; once the last one is requested, `checksum` is known."""
        self.checksum = None
        running, left = self._algorithm.start(), self._size
        for chunk in self._source_body.chunks():
            running.update(chunk)
            left -= len(chunk)
            if left <= 0:
                self.checksum = running.value
            yield chunk
        self.checksum = running.value


def bytes_body(
    data: bytes | bytearray | memoryview, checksum: Checksum = CRC64_XZ, *, offset: int = 0, is_last: bool = True
) -> ChecksummedBody:
    """Return a body of bytes in memory; the arguments are those of `ChecksummedBody`."""
    return ChecksummedBody(BytesBody(data), checksum, offset=offset, is_last=is_last)


class SourceBodyWrapper:
    """
    A range of a source that has the length and the chunks of another one.

    Subclasses override `chunks` to see, delay, change or refuse what is read.

    Args:
        body: the range to wrap.
    """

    def __init__(self, body: SourceBody) -> None:
        self._body = body

    def __len__(self) -> int:
        return len(self._body)

    def chunks(self) -> Iterator[memoryview]:
        """Yield the chunks of the wrapped range."""
        return self._body.chunks()


class BodyWrapper:
    """
    A body with the length, the checksum, the place and the chunks of another.

    Subclasses override `chunks` to see, delay, change or refuse what is read.

    Args:
        body: the body to wrap.
    """

    def __init__(self, body: Body) -> None:
        self._body = body

    @property
    def checksum(self) -> int | None:
        """The checksum of the wrapped body; None until its `chunks` is exhausted."""
        return self._body.checksum

    @property
    def offset(self) -> int:
        """The place of the first byte in the object, from 0."""
        return self._body.offset

    @property
    def is_last(self) -> bool:
        """Whether these are known to be the last bytes of the object."""
        return self._body.is_last

    def __len__(self) -> int:
        return len(self._body)

    def chunks(self, *, counted: bool = True) -> Iterator[memoryview]:
        """Yield the chunks of the wrapped body."""
        return self._body.chunks(counted=counted)


def exact_chunks(body: Body, what: str, *, counted: bool = True) -> Generator[memoryview]:
    """
    Yield the chunks of a body, and check that it has exactly `len(body)` bytes.

    A surplus is noticed before its chunk is yielded. A chunk is valid until the next one is requested.

    Args:
        body: the body to read.
        what: what the body is of, for the message, such as ``"part 3 of 'a'"``.
        counted: see `Body.chunks`.

    Raises:
        IntegrityError: the body has fewer bytes, or more. Retryable, since the body can be read again.
        and what the body raises, unchanged.
    """
    expected = len(body)
    received = 0
    for chunk in body.chunks(counted=counted):
        received += len(chunk)
        if received > expected:
            break
        yield chunk
    if received != expected:
        count = format_count(received, "byte") if received < expected else f"more than {expected} bytes"
        raise IntegrityError(f"the body of {what} had {count} instead of {expected}; nothing was stored")


#: A read returns at least this many bytes, unless fewer are asked for or left: a small chunk would otherwise become a
#: packet or a chunk of an encoding, for which storages have a minimum. It returns no later than that, since a body
#: whose rate is limited may take long to fill a large buffer.
_GATHERED = 16 * KIB

_READ_ALL = 1024 * KIB


class BodyFile(io.RawIOBase):
    """
    A body as a seekable binary file, as HTTP libraries expect it.

    Use it in a ``with`` block around the request. What the body raises is raised again at the end of the block,
    unchanged, because a library replaces it by an error of the connection:

        try:
            with BodyFile(body) as file:
                response = session.put(url, data=file)
        except requests.RequestException as error:
            raise ConnectionFailed(...) from error

    Nothing is read before the first `read`. No more than a chunk is held in memory. Seeking back reads the body again
    from its start. A read may return fewer bytes than it is asked for, and returns none only at the end. Before the
    last bytes are returned, the body has been read to its end: its `checksum` is known then, and a body with more bytes
    than its length has failed.

    Args:
        body: the body to read. Its length is that of the file.
        counted: whether bytes are throttled, and count as sent. It applies to the readings that begin after it was set:
            set it to False for a digest before the request, and to True when the request begins.

    Attributes:
        error: what the body raised since the last `seek`, or None.
        counted: see above; it can be set.
    """

    def __init__(self, body: Body, *, counted: bool = True) -> None:
        super().__init__()
        self.counted = counted
        self.error: BaseException | None = None
        self._body = body
        self._size = len(body)
        self._position = 0
        # The current reading: its chunks, what is left of the last one, and how many bytes were taken in all.
        self._chunks: Generator[memoryview] | None = None
        self._rest = memoryview(b"")
        self._taken = 0
        self._is_finished = False  # the body was read to its end, and had its length

    def __len__(self) -> int:
        """Return the length of the body in bytes, wherever the position is."""
        return self._size

    def __bool__(self) -> bool:
        """Return True, also for an empty body, as for any other file."""
        return True

    def __repr__(self) -> str:
        return f"<BodyFile of {self._size} bytes, at {self._position}>"

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """
        Set the position and return it; nothing is read.

        It clears `error`.
        """
        self._check_open()
        if whence not in (io.SEEK_SET, io.SEEK_CUR, io.SEEK_END):
            raise ValueError(f"a position can't be counted from {whence!r}")
        position = offset + (0, self._position, self._size)[whence]
        if position < 0:
            raise ValueError(f"a position can't be negative, as {position} is")
        if position < self._taken or self.error is not None or self._size == 0:
            self._stop_reading()
        self._position, self.error = position, None
        return position

    def read(self, size: int | None = -1, /) -> bytes:
        """
        Read and return up to `size` bytes, or all that are left.

        Raises:
            IntegrityError: the body has fewer bytes than its length, or more.
            and what the body raises, unchanged.
        """
        if size is None or size < 0:
            return self.readall()
        buffer = bytearray(min(size, max(len(self._rest), _GATHERED)))
        count = self.readinto(buffer)
        return bytes(memoryview(buffer)[:count])

    def readall(self) -> bytes:
        """Read and return all bytes that are left; for small bodies only."""
        gathered = bytearray()
        while piece := self.read(_READ_ALL):
            gathered += piece
        return bytes(gathered)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """
        Read bytes into a buffer and return their number, 0 at the end.

        Raises what `read` raises.
        """
        self._check_open()
        if self.error is not None:
            raise self.error
        target, filled = memoryview(buffer).cast("B"), 0
        try:
            if self._position < self._size or not (self._size or self._is_finished):
                self._continue_reading()
                while filled < min(len(target), _GATHERED) and (piece := self._take(len(target) - filled)):
                    target[filled : filled + len(piece)] = piece
                    filled += len(piece)
                self._position += filled
                if self._position == self._size:
                    self._finish_reading()
        except BaseException as error:
            self.error = error
            self._stop_reading()
            raise
        return filled

    def close(self) -> None:
        """Stop reading the body. `error` is kept."""
        self._stop_reading()
        super().close()

    def __exit__(self, *_: object) -> None:
        self.close()
        error = self.error
        if error is None:
            return
        context = error.__context__
        try:
            raise error
        finally:
            error.__context__ = context  # and not the library's error, which contains this one

    def _continue_reading(self) -> None:
        if self._chunks is None:
            self._chunks = exact_chunks(self._body, "the request", counted=self.counted)
        while self._taken < self._position and self._take(self._position - self._taken):
            pass

    def _take(self, limit: int) -> memoryview:
        """Return bytes that come next, at least one unless the body ends."""
        while not self._rest and self._chunks is not None:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._rest = chunk
        piece, self._rest = self._rest[:limit], self._rest[limit:]
        self._taken += len(piece)
        return piece

    def _finish_reading(self) -> None:
        """Read on to the end of the body, after its last byte."""
        for _ in self._chunks or ():
            pass
        self._chunks, self._is_finished = None, True

    def _stop_reading(self) -> None:
        if self._chunks is not None:
            self._chunks.close()  # a suspended generator would keep a file open
        self._chunks, self._rest, self._taken, self._is_finished = None, memoryview(b""), 0, False

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the file of a body was used after close")
