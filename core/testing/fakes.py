"""
Bodies, sources and a store for tests.

`StrictBody` and `ChunkListBody` make misuse by a backend visible, and misbehave on demand. `ChangingSource` is a
simulated file that changes while it is read. The claims of a `LeasedCheckpointStore` can be lost while they are held.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache

from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.checksums import CRC64_XZ, Checksum
from partwise.errors import CheckpointBusy, ClaimLost, SourceChanged
from partwise.model import UploadedPart
from partwise.protocols import CheckpointStore
from partwise.stores.memory import MemoryCheckpointStore

__all__ = ["ChangingSource", "ChunkListBody", "LeasedCheckpointStore", "StrictBody", "pseudo_random_bytes"]


def pseudo_random_bytes(size: int, seed: object = "") -> bytes:
    """Return `size` bytes that look like noise, and depend only on the seed."""
    return _digest(repr(seed), size) if size <= _KEPT_MAX else hashlib.shake_128(repr(seed).encode()).digest(size)


#: Many tests use the same contents; those of at most 1 MiB are kept.
_KEPT_MAX = 1024 * 1024


@lru_cache(maxsize=32)
def _digest(seed: str, size: int) -> bytes:
    return hashlib.shake_128(seed.encode()).digest(size)


# --- bodies ----------------------------------------------------------------------------------------------------------


class StrictBody:
    """
    A body that does what the protocol demands and nothing more.

    All chunks share one buffer, which is overwritten before the next chunk: a backend that keeps a chunk ends up with
    rubbish. Other arguments make it break the protocol, as a source that shrinks, grows or fails does.

    Args:
        data: the bytes that it yields.
        declared: the length that it claims to have; None: the true one.
        chunk_size: the size of a chunk in bytes.
        error: raised once all bytes were yielded. With less data than declared this is a source that fails half-way.
        checksum: the algorithm of its checksum.
        offset: the place of its first byte in the object.
        is_last: whether these are the last bytes of the object.
    """

    def __init__(
        self,
        data: bytes,
        *,
        declared: int | None = None,
        chunk_size: int = 16 * 1024,
        error: BaseException | None = None,
        checksum: Checksum = CRC64_XZ,
        offset: int = 0,
        is_last: bool = True,
    ) -> None:
        self.offset = offset
        self.is_last = is_last
        self._algorithm = checksum
        self._data = data
        self._declared = len(data) if declared is None else declared
        self._chunk_size = chunk_size
        self._error = error
        self.checksum: int | None = None
        self.readings = 0
        """The number of times that reading it was started, to be sent."""
        self.bytes_read = 0
        """The number of bytes yielded, over all readings that were to be sent."""

    def __len__(self) -> int:
        return self._declared

    def __repr__(self) -> str:
        return f"<StrictBody of {self._declared} bytes>"

    def chunks(self, *, counted: bool = True) -> Iterator[memoryview]:
        self.readings += counted
        self.checksum = None
        data, checksum = memoryview(self._data), None
        buffer, rubbish = bytearray(self._chunk_size), _rubbish(self._chunk_size)
        for begin in range(0, len(data), self._chunk_size):
            chunk = data[begin : begin + self._chunk_size]
            buffer[: len(chunk)] = chunk
            self.bytes_read += len(chunk) * counted
            if begin + len(chunk) == len(data):
                self.checksum = checksum = self._algorithm.compute(self._data)
            yield memoryview(buffer)[: len(chunk)]
            buffer[:] = rubbish
        if self._error is not None:
            raise self._error
        self.checksum = self._algorithm.compute(self._data) if checksum is None else checksum


@lru_cache(maxsize=8)
def _rubbish(size: int) -> bytes:
    return b"\xaa" * size


class ChunkListBody:
    """
    A body that yields the given chunks, unchanged.

    Args:
        chunks: views of any buffers, none of them empty.
        checksum: the algorithm of its checksum.
    """

    offset = 0
    is_last = True

    def __init__(self, *chunks: memoryview, checksum: Checksum = CRC64_XZ) -> None:
        self._chunks = chunks
        self._algorithm = checksum
        self.checksum: int | None = None

    def __len__(self) -> int:
        return sum(map(len, self._chunks))

    def chunks(self, *, counted: bool = True) -> Iterator[memoryview]:  # noqa: ARG002  # nothing counts these
        self.checksum = None
        yield from self._chunks
        self.checksum = self._algorithm.compute(b"".join(self._chunks))


# --- a source --------------------------------------------------------------------------------------------------------


class ChangingSource:
    """
    A simulated file: bytes, mtime and identity change when a test says so.

    Its bodies read the bytes as they are at that time, a chunk at a time, as those of a real file do.

    Args:
        data: the bytes at first.
        name: the name of the source.
        chunk_size: the size of a chunk in bytes; 1 is the hardest case for a reader.
        changes: called with the source in the middle of a reading of a body, by the number of that reading, counting
            from 1.
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
        """The number of times that reading a body was started."""
        self._chunk_size = chunk_size
        self._changes = dict(changes or {})

    def __repr__(self) -> str:
        return f"<ChangingSource {self.name!r} of {len(self.data)} bytes>"

    # --- changes -----------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Write other bytes in place: the mtime changes, the identity does not."""
        self.data = data
        self.touch()

    def append(self, data: bytes) -> None:
        """Append bytes."""
        self.write(self.data + data)

    def truncate(self, size: int) -> None:
        """Keep the first `size` bytes."""
        self.write(self.data[:size])

    def touch(self) -> None:
        """Change the mtime and nothing else, by a nanosecond."""
        self.mtime_ns += 1

    def replace(self, data: bytes) -> None:
        """Replace it by a file with the same mtime: only the identity shows that."""
        self.data = data
        self.inode += 1

    def forge(self, data: bytes) -> None:
        """Write other bytes of the same length in place, and set the mtime back."""
        assert len(data) == len(self.data), "another length would show"
        self.data = data

    # --- the protocol ------------------------------------------------------------------------------------------------

    def fingerprint(self) -> Fingerprint:
        """Return the current size, mtime and identity."""
        return Fingerprint(len(self.data), self.mtime_ns, str(self.inode))

    def body(self, offset: int, size: int) -> _ChangingBody:
        """Return the body of a range; its bytes are looked up when it is read."""
        return _ChangingBody(self, offset, size)

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def _start_reading(self) -> Callable[[ChangingSource], None] | None:
        self.readings += 1
        return self._changes.get(self.readings)


class _ChangingBody:
    def __init__(self, source: ChangingSource, offset: int, size: int) -> None:
        self._source = source
        self._offset = offset
        self._size = size

    def __len__(self) -> int:
        return self._size

    def chunks(self) -> Iterator[memoryview]:
        source = self._source
        change = source._start_reading()  # noqa: SLF001  # a body is a part of its source
        done = 0
        while done < self._size:
            if change is not None and done >= self._size // 2:
                change(source)
                change = None
            begin = self._offset + done
            chunk = source.data[begin : begin + min(source._chunk_size, self._size - done)]  # noqa: SLF001  # likewise
            if not chunk:
                raise SourceChanged(
                    f"{source.name} ends {self._size - done} bytes before byte {self._offset + self._size}",
                    source=source.name,
                )
            done += len(chunk)
            yield memoryview(chunk)


# --- a store ---------------------------------------------------------------------------------------------------------


class LeasedCheckpointStore:
    """
    Checkpoints in memory under leases, as in a store for many hosts.

    Each handle is what one process has. A lease ends only by `expire`: then another handle can claim the name, and the
    handle that held it finds out at its next write or check, by a ClaimLost.
    """

    def __init__(self, inner: CheckpointStore | None = None) -> None:
        #: Where the checkpoints are. What is saved there directly is not fenced.
        self.inner = MemoryCheckpointStore() if inner is None else inner
        self._holders: dict[str, object] = {}  # shared by all handles: the fencing token of each claim
        self._tokens: dict[str, object] = {}  # of the claims of this handle

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self.inner!r}>"

    def handle(self) -> LeasedCheckpointStore:
        """Return another handle on the same checkpoints and claims, as of a process."""
        handle = type(self)(self.inner)
        handle._holders = self._holders  # noqa: SLF001  # of the same class
        return handle

    def expire(self, name: str | None = None) -> None:
        """End the lease on this name, or all leases, as if they were not renewed."""
        if name is None:
            self._holders.clear()
        self._holders.pop(name or "", None)

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        if name in self._holders:
            raise CheckpointBusy(f"the checkpoint {name} is claimed", name=name)
        token = self._holders[name] = self._tokens[name] = object()
        try:
            yield
        finally:
            self._tokens.pop(name, None)
            if self._holders.get(name) is token:
                del self._holders[name]

    def check_claim(self, name: str) -> None:
        self._require_claim(name)

    def load(self, name: str) -> Checkpoint | None:
        return self.inner.load(name)

    def save(self, checkpoint: Checkpoint) -> None:
        self._require_claim(checkpoint.name)
        self.inner.save(checkpoint)

    def append_part(self, name: str, upload_id: str, part: UploadedPart) -> None:
        self._require_claim(name)
        self.inner.append_part(name, upload_id, part)

    def delete(self, name: str, upload_id: str | None) -> None:
        self._require_claim(name)
        self.inner.delete(name, upload_id)

    def scan(self) -> Iterable[Checkpoint]:
        return self.inner.scan()

    def _require_claim(self, name: str) -> None:
        token = self._tokens.get(name)
        if token is None or self._holders.get(name) is not token:
            raise ClaimLost(f"the lease on the checkpoint {name} has expired", name=name)
