"""
The bodies that backends get, and a base class for those that wrap another one.

A source provides bytes (`SourceBody`). The engine makes a `Body` of them: it computes the checksum that the backend's
storage reports, and knows where in the object the bytes are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from partwise.checksums import CRC64_XZ, Checksum
from partwise.sources import BytesBody

if TYPE_CHECKING:
    from partwise.protocols import Body, SourceBody

__all__ = ["BodyWrapper", "ChecksummedBody", "SourceBodyWrapper", "bytes_body"]


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
    A body that has the length, the checksum, the place and the chunks of another one.

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
