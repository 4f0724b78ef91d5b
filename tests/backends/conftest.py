"""Fixtures of the tests of the backends: bodies, and a backend of each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from partwise.backends.local import LocalBackend
from partwise.backends.local import directories as _local_directories
from partwise.backends.memory import MemoryBackend
from partwise.model import PartLimits
from partwise.protocols import MultipartBackend

Made = Callable[..., "BytesBody"]


class BytesBody:
    """
    Bytes as a body, in chunks that share one buffer, so that keeping a chunk is detected.

    Args:
        data: the bytes.
        promised: the length that the body claims; by default that of `data`.
        chunk: the size of the chunks.
        before: called before each chunk with the number of bytes yielded so far.
    """

    def __init__(
        self,
        data: bytes,
        *,
        promised: int | None = None,
        chunk: int = 1000,
        before: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._data = data
        self._promised = len(data) if promised is None else promised
        self._chunk = chunk
        self._before = before
        self.checksum = None
        self.offset = 0
        self.is_last = True

    def __len__(self) -> int:
        return self._promised

    def chunks(self, *, counted: bool = True) -> Iterator[memoryview]:
        buffer = bytearray(self._chunk)
        for start in range(0, len(self._data), self._chunk):
            self._before(start)
            piece = self._data[start : start + self._chunk]
            buffer[: len(piece)] = piece
            yield memoryview(buffer)[: len(piece)]


@pytest.fixture
def body() -> Made:
    return BytesBody


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A bucket's directory, which does not exist yet."""
    return tmp_path / "bucket"


@pytest.fixture(params=["memory", "local", "local by path"])
def backend(request: pytest.FixtureRequest, directory: Path, monkeypatch: pytest.MonkeyPatch) -> MultipartBackend:
    """A backend of each kind with parts of any size; the local one also without descriptors, as on Windows."""
    if request.param == "memory":
        return MemoryBackend(limits=PartLimits())
    if request.param == "local by path":
        monkeypatch.setattr(_local_directories, "BY_DESCRIPTOR", False)
    return LocalBackend(directory)


@pytest.fixture
def read(backend: MultipartBackend, directory: Path) -> Callable[[str], bytes]:
    """Reads an object without the backend."""
    if isinstance(backend, MemoryBackend):
        return backend.read
    return lambda key: (directory / key).read_bytes()
