"""
Bodies for tests: well-behaved ones that make a backend's misuse visible, and ones that misbehave in every way there is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from partwise.checksums import crc64


class StrictBody:
    """
    A body that keeps to the letter of the protocol and to no more than that.

    Every piece lies in one buffer, which is overwritten before the next piece, so that whoever keeps a piece has
    rubbish. With other arguments it breaks the protocol, as a source that shrinks, grows or fails does.

    Args:
        data: the bytes that it gives.
        declared: the length that it claims to have; None: the true one.
        chunk_size: the length of a piece in bytes.
        error: raised once the bytes are used up. With less data than declared this is a source that fails half-way.
    """

    def __init__(
        self,
        data: bytes,
        *,
        declared: int | None = None,
        chunk_size: int = 16 * 1024,
        error: BaseException | None = None,
    ) -> None:
        self._data = data
        self._declared = len(data) if declared is None else declared
        self._chunk_size = chunk_size
        self._error = error
        self.crc64: int | None = None
        self.readings = 0
        """How often somebody began to read it."""
        self.bytes_read = 0
        """The bytes that were handed out, over all readings."""

    def __len__(self) -> int:
        return self._declared

    def __repr__(self) -> str:
        return f"<StrictBody of {self._declared} bytes>"

    def chunks(self) -> Iterator[memoryview]:
        self.readings += 1
        self.crc64 = None
        buffer = bytearray(self._chunk_size)
        for begin in range(0, len(self._data), self._chunk_size):
            piece = self._data[begin : begin + self._chunk_size]
            buffer[: len(piece)] = piece
            self.bytes_read += len(piece)
            if begin + len(piece) == len(self._data):
                self.crc64 = crc64(self._data)
            yield memoryview(buffer)[: len(piece)]
            buffer[:] = b"\xaa" * len(buffer)
        if self._error is not None:
            raise self._error
        self.crc64 = crc64(self._data)


class ChunkListBody:
    """
    A body that gives the pieces it was made of, as they are.

    Args:
        pieces: views of any buffer, none of them empty.
    """

    def __init__(self, *pieces: memoryview) -> None:
        self._pieces = pieces
        self.crc64: int | None = None

    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    def chunks(self) -> Iterator[memoryview]:
        self.crc64 = None
        yield from self._pieces
        self.crc64 = crc64(b"".join(self._pieces))


def pseudo_random_bytes(size: int, seed: object = "") -> bytes:
    """So many bytes that look like noise, the same for the same seed, with no two parts alike."""
    return hashlib.shake_128(repr(seed).encode()).digest(size)
