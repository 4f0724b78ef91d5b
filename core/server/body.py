"""
The body of a request, as a backend reads it.

It is read once, from the socket, and verified before its end.
"""

from __future__ import annotations

import contextlib
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Self

from partwise.checksums import MD5, Checksum, RunningChecksum, crc64
from partwise.model import GIB, KIB, MIB
from partwise.server.errors import ServiceError

_CHUNK_BYTES = 256 * KIB

#: The largest body that the service accepts: that of a part, or of an object stored by one request.
BODY_BYTES_MAX = 5 * GIB

#: The largest document in a body. A list of 10,000 parts takes about 1.2 MB.
DOCUMENT_BYTES_MAX = 4 * MIB


class RequestBody:
    """
    A `Body` whose bytes arrive from a connection.

    It can be read once. All of it is verified before the backend sees its end, so that a body that does not match its
    request is never stored.

    Args:
        chunks: the bytes as they arrive; may raise `ServiceError` if they end too early.
        length: the announced length; None if the body is chunked and has no announced length.
        awaits_continue: the client sends the body only after a 100 response.
    """

    def __init__(
        self, chunks: Iterable[bytes | bytearray], *, length: int | None = 0, awaits_continue: bool = False
    ) -> None:
        self._arriving = self._count(chunks)
        self._incoming: Iterator[bytes | bytearray] = self._arriving  # decoded
        self._length = length
        self._awaits_continue = awaits_continue
        self._spooled: BinaryIO | None = None
        self._crc64 = 0
        self._ended = False
        self._tracked: dict[Checksum, RunningChecksum] = {}
        self.verify: Callable[[], None] | None = None
        """Called at the end of the body, before the reader sees the end; raises if the body is not as announced."""
        self.corrupt_at: int | None = None
        """The offset of a byte to change before the backend sees it; None: no byte is changed."""
        self.received = 0
        """Bytes received so far, before they are decoded."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._spooled is not None:
            self._spooled.close()

    def __len__(self) -> int:
        """
        Return the length in bytes.

        To know that of a chunked body, all of it is received into a temporary file first.

        Raises:
            ServiceError: the body is far too large, or a chunked body is too large or ended too early.
        """
        if self._length is None:
            self._length = self._spool()
        if self._length > sys.maxsize:  # which `len` can't return: HTTP allows 20 digits
            raise ServiceError("EntityTooLarge")
        return self._length

    #: The service knows the place in the object by the number of the part only.
    offset = 0
    is_last = False

    @property
    def checksum(self) -> int | None:
        """The CRC-64/XZ of the bytes that the reader got; None before the end."""
        return self._crc64 if self._ended else None

    @property
    def md5(self) -> str:
        """
        The MD5 of the bytes that the reader got so far, in base64.

        It has to be tracked.
        """
        return MD5.to_base64(self.tracked(MD5))

    def track(self, algorithm: Checksum) -> None:
        """Compute this checksum, too, of the bytes that the reader gets."""
        self._tracked.setdefault(algorithm, algorithm.start())

    def tracked(self, algorithm: Checksum) -> int:
        """Return a checksum that is tracked, of the bytes that the reader got so far."""
        return self._tracked[algorithm].value

    def decode(self, decoder: Callable[[Iterator[bytes | bytearray]], Iterator[bytes]], length: int) -> None:
        """
        Replace the bytes that arrive by what `decoder` makes of them.

        Args:
            decoder: yields the decoded bytes; may raise `ServiceError`.
            length: how many bytes that are.
        """
        self._incoming = decoder(self._arriving)
        self._length = length

    def chunks(self, *, counted: bool = True) -> Iterator[memoryview]:  # noqa: ARG002  # it is read once
        """Yield the bytes, once; raise ServiceError if they are not as announced."""
        offset = 0
        for chunk in self._source():
            if self.corrupt_at is not None and offset <= self.corrupt_at < offset + len(chunk):
                chunk = bytearray(chunk)  # noqa: PLW2901 -- the changed copy replaces the chunk
                chunk[self.corrupt_at - offset] ^= 1
            self._crc64 = crc64(chunk, self._crc64)
            for running in self._tracked.values():
                running.update(chunk)
            offset += len(chunk)
            yield memoryview(chunk)
        self._ended = True
        if self.verify is not None:
            self.verify()

    def document(self) -> bytes:
        """
        Read the whole body into memory, for a request whose body is a document.

        Raises:
            ServiceError: it is larger than any valid document, ended too early, or does not match its request.
        """
        data = bytearray()
        for chunk in self.chunks():
            data += chunk
            if len(data) > DOCUMENT_BYTES_MAX:
                raise ServiceError("MalformedXML", f"The document has more than {DOCUMENT_BYTES_MAX} bytes.")
        return bytes(data)

    def drain(self, limit: int | None = None, *, seconds: float = math.inf) -> None:
        """
        Receive and discard the rest of the body.

        Many clients read no response before they have sent the whole body, which may be more than its decoder wants. A
        client that awaits a 100 response sends no body, and is not waited for.

        Args:
            limit: stop after this many received bytes in all; None: at the end of the body.
            seconds: stop after this time, so that a refused client can't send without end.
        """
        if self._awaits_continue and not self.received:
            return
        end = time.monotonic() + seconds
        with contextlib.suppress(ServiceError):
            for _ in self._arriving:
                if (limit is not None and self.received >= limit) or time.monotonic() > end:
                    return

    def _count(self, chunks: Iterable[bytes | bytearray]) -> Iterator[bytes | bytearray]:
        for chunk in chunks:
            self.received += len(chunk)
            yield chunk

    def _source(self) -> Iterator[bytes | bytearray]:
        if self._spooled is None:
            yield from self._incoming
            return
        self._spooled.seek(0)
        while chunk := self._spooled.read(_CHUNK_BYTES):
            yield chunk

    def _spool(self) -> int:
        self._spooled = tempfile.TemporaryFile()  # noqa: SIM115 -- __exit__ closes it
        for chunk in self._incoming:
            if self.received > BODY_BYTES_MAX:
                raise ServiceError("EntityTooLarge")
            self._spooled.write(chunk)
        return self.received
