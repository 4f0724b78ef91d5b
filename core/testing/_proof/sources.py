"""A source that changes under the reader's hands, as files do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from partwise.checkpoint import Fingerprint
from partwise.checksums import crc64
from partwise.errors import SourceChanged


class ChangingSource:
    """
    A file that is none: its bytes, its time and its identity change when a test says so.

    Bodies read the bytes as they are when they are read, a piece at a time, as those of a file do.

    Args:
        data: the bytes at first.
        name: the source's name.
        chunk_size: the length of a piece in bytes; 1 gives the most awkward reader there is.
        changes: what befalls the source in the middle of the how-manieth reading of a body, counting from 1.
    """

    def __init__(
        self,
        data: bytes,
        *,
        name: str = "/a/file",
        chunk_size: int = 64 * 1024,
        changes: Mapping[int, Callable[[ChangingSource], None]] | None = None,
    ) -> None:
        self.data = data
        self.name = name
        self.mtime_ns = 1_700_000_000_000_000_000
        self.inode = 1
        self.readings = 0
        """How often somebody began to read a body."""
        self._chunk_size = chunk_size
        self._changes = dict(changes or {})

    def __repr__(self) -> str:
        return f"<ChangingSource {self.name!r} of {len(self.data)} bytes>"

    # --- what befalls it ---------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Other bytes, in place: the time changes, the identity does not."""
        self.data = data
        self.touch()

    def append(self, data: bytes) -> None:
        """It grows."""
        self.write(self.data + data)

    def truncate(self, size: int) -> None:
        """It shrinks to `size` bytes."""
        self.write(self.data[:size])

    def touch(self) -> None:
        """The time changes, and nothing else."""
        self.mtime_ns += 1

    def replace(self, data: bytes) -> None:
        """Another file takes its place, with its time copied: only the identity tells."""
        self.data = data
        self.inode += 1

    def forge(self, data: bytes) -> None:
        """Other bytes of the same length, in place, and the time set back: only the content tells."""
        assert len(data) == len(self.data), "a change of length would tell"
        self.data = data

    # --- the protocol ------------------------------------------------------------------------------------------------

    def fingerprint(self) -> Fingerprint:
        """Size, time and identity as they are now."""
        return Fingerprint(len(self.data), self.mtime_ns, str(self.inode))

    def body(self, offset: int, size: int) -> _ChangingBody:
        """A range; the bytes are looked at when it is read."""
        return _ChangingBody(self, offset, size)

    def close(self) -> None:
        """Nothing is open."""

    def _begin_reading(self) -> Callable[[ChangingSource], None] | None:
        self.readings += 1
        return self._changes.get(self.readings)


class _ChangingBody:
    def __init__(self, source: ChangingSource, offset: int, size: int) -> None:
        self._source = source
        self._offset = offset
        self._size = size
        self.crc64: int | None = None

    def __len__(self) -> int:
        return self._size

    def chunks(self) -> Iterator[memoryview]:
        self.crc64 = None
        change = self._source._begin_reading()  # noqa: SLF001  # a body is part of its source
        checksum = done = 0
        while done < self._size:
            if change is not None and done >= self._size // 2:
                change(self._source)
                change = None
            begin = self._offset + done
            piece = self._source.data[begin : begin + min(self._source._chunk_size, self._size - done)]  # noqa: SLF001  # likewise
            if not piece:
                raise SourceChanged(
                    f"{self._source.name} ends {self._size - done} bytes before byte {self._offset + self._size}",
                    source=self._source.name,
                )
            checksum = crc64(piece, checksum)
            done += len(piece)
            if done == self._size:
                self.crc64 = checksum
            yield memoryview(piece)
        self.crc64 = checksum
