"""The body of a request, as a backend reads it: from the socket, once, checked on the way."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import math
import tempfile
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import BinaryIO, Self

from partwise.checksums import crc64
from partwise.model import GIB, KIB, MIB
from partwise.server.oss.errors import OSSError

_PIECE_BYTES = 256 * KIB

#: The largest body that the service takes: that of a part, or of an object stored at once.
BODY_BYTES_MAX = 5 * GIB

#: The most that a document in a body may be: 10,000 parts take some 1.2 MB.
DOCUMENT_BYTES_MAX = 4 * MIB


class RequestBody:
    """
    A `Body` whose bytes come from a connection.

    It is read once. When it ends, what it was is compared with what the request said of it, before the backend sees
    the end: a body that is not what it should be is never stored.

    Args:
        pieces: the bytes as they arrive; may raise `OSSError` where they stop too early.
        length: as announced; None where the body is chunked and its end will show.
        md5: the Content-MD5 header, None where none was sent.
        crc64: the x-oss-hash-crc64ecma header, None where none was sent.
        held_back: the client sends it only when it is asked for.
    """

    def __init__(
        self,
        pieces: Iterable[bytes | bytearray],
        *,
        length: int | None = 0,
        md5: str | None = None,
        crc64: str | None = None,
        held_back: bool = False,
    ) -> None:
        self._pieces = iter(pieces)
        self._length = length
        self._expected_md5 = md5
        self._expected_crc64 = crc64
        self._held_back = held_back
        self._spooled: BinaryIO | None = None
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._crc64 = 0
        self._ended = False
        self.corrupt_at: int | None = None
        """The offset of a byte that is changed on its way to the backend; None: none is."""
        self.received = 0
        """Bytes that came from the connection so far."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._spooled is not None:
            self._spooled.close()

    def __len__(self) -> int:
        """
        The length in bytes. Of a chunked body it is known only once all has come, so it is kept on disk.

        Raises:
            OSSError: a chunked body is too large, or stopped too early.
        """
        if self._length is None:
            self._length = self._spool()
        return self._length

    @property
    def crc64(self) -> int | None:
        """The CRC-64/XZ of what was handed on; None before the end."""
        return self._crc64 if self._ended else None

    @property
    def md5(self) -> bytes:
        """The MD5 of what was handed on so far."""
        return self._md5.digest()

    def chunks(self) -> Iterator[memoryview]:
        """
        The bytes, once.

        Raises:
            OSSError: they ended too early, or are not those that the request announced.
        """
        offset = 0
        for piece in self._source():
            if self.corrupt_at is not None and offset <= self.corrupt_at < offset + len(piece):
                piece = bytearray(piece)  # noqa: PLW2901 -- the changed copy takes the piece's place
                piece[self.corrupt_at - offset] ^= 1
            self._md5.update(piece)
            self._crc64 = crc64(piece, self._crc64)
            offset += len(piece)
            yield memoryview(piece)
        self._check()
        self._ended = True

    def document(self) -> bytes:
        """
        All of it, for a request whose body is a document.

        Raises:
            OSSError: it is longer than any document is, or not what the request announced.
        """
        data = bytearray()
        for chunk in self.chunks():
            data += chunk
            if len(data) > DOCUMENT_BYTES_MAX:
                raise OSSError("MalformedXML", f"A document of more than {DOCUMENT_BYTES_MAX} bytes is not read.")
        return bytes(data)

    def drain(self, limit: int | None = None, *, seconds: float = math.inf) -> None:
        """
        Read on and throw away, to the end or up to `limit` bytes in all, since clients look at no response before they
        have sent all. One who waits to be asked is not.

        Args:
            limit: bytes that are enough; None: all.
            seconds: how long to read on. A client that sends without end, having been refused, is cut off.
        """
        if self._held_back and not self.received:
            return
        end = time.monotonic() + seconds
        with contextlib.suppress(OSSError):
            for piece in self._pieces:
                self.received += len(piece)
                if (limit is not None and self.received >= limit) or time.monotonic() > end:
                    return

    def _arriving(self) -> Iterator[bytes | bytearray]:
        for piece in self._pieces:
            self.received += len(piece)
            yield piece

    def _source(self) -> Iterator[bytes | bytearray]:
        if self._spooled is None:
            yield from self._arriving()
            return
        self._spooled.seek(0)
        while piece := self._spooled.read(_PIECE_BYTES):
            yield piece

    def _spool(self) -> int:
        self._spooled = tempfile.TemporaryFile()  # noqa: SIM115 -- __exit__ closes it
        for piece in self._arriving():
            if self.received > BODY_BYTES_MAX:
                raise OSSError("EntityTooLarge")
            self._spooled.write(piece)
        return self.received

    def _check(self) -> None:
        if self._expected_md5 is not None and self._expected_md5 != base64.b64encode(self.md5).decode():
            raise OSSError("InvalidDigest")
        if self._expected_crc64 is not None and self._expected_crc64 != str(self._crc64):
            raise OSSError("InvalidCRC64")
