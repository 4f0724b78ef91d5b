"""Sources of a scenario, which change while and between processes run."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from copy import copy
from pathlib import Path
from typing import ClassVar, Self

from attrs import define

from partwise.errors import InvalidInput
from partwise.protocols import Source
from partwise.sources import BytesSource, FileSource, StreamSource
from partwise.testing._proof.events import Event
from partwise.testing.fakes import ChangingSource, pseudo_random_bytes


@define(frozen=True)
class Version:
    """One version of a source."""

    number: int  # from 0
    data: bytes


class ScenarioSource(ABC):
    """A source that processes open, with the versions that it has had."""

    sized: ClassVar[bool] = True  # whether its size is known before it is read

    seen_changing: ClassVar[bool] = True  # whether a process that has opened it sees later changes

    reopens: ClassVar[bool] = True  # whether a process can read it again from the beginning

    name: str

    def __init__(self, data: bytes) -> None:
        self.versions = [Version(0, data)]

    @property
    def version(self) -> Version:
        """The current version."""
        return self.versions[-1]

    @abstractmethod
    def open(self) -> Source:
        """Open the source for one process."""

    def change(self, event: Event, size: int | None = None) -> None:
        """
        Change the source.

        GROW and SHRINK change its size to `size` bytes; None: about half as much again, or about two thirds.
        """
        data, number = self.version.data, len(self.versions)
        match event:
            case Event.GROW:
                new_size = len(data) * 3 // 2 if size is None else size
                data += pseudo_random_bytes(max(1, new_size - len(data)), number)
            case Event.SHRINK:
                data = data[: min(max(0, len(data) - 1), len(data) * 2 // 3 if size is None else size)]
            case Event.EMPTY:
                data = b""
            case Event.REWRITE | Event.REPLACE | Event.FORGE:
                data = pseudo_random_bytes(len(data), number)
            case Event.EDIT:
                at = len(data) // 3
                data = data[:at] + bytes(byte ^ 1 for byte in data[at : at + 1]) + data[at + 1 :]
            case Event.RESTORE:
                data = self.versions[0].data
        self._apply(event, data)
        self.versions.append(Version(number, data))

    def fork(self) -> Self:
        """
        Return a copy: later changes of one do not affect the other.

        A source outside of memory can't be copied.
        """
        forked = copy(self)
        forked.versions = list(self.versions)
        return forked

    def close(self) -> None:  # noqa: B027  # most have nothing to remove
        """Remove the source. The default does nothing."""

    def _apply(self, event: Event, data: bytes) -> None:  # noqa: B027  # as its docstring says
        """
        Apply a change to the opened source.

        The default does nothing: processes open the current version.
        """


class SimulatedFile(ScenarioSource):
    """
    A simulated file; see `ChangingSource`.

    By default a chunk is a tenth of the data.
    """

    def __init__(self, data: bytes, chunk_size: int | None = None) -> None:
        super().__init__(data)
        self._source = ChangingSource(data, chunk_size=chunk_size or max(3, len(data) // 10))
        self._origin = (self._source.mtime_ns, self._source.inode)
        self.name = self._source.name

    def open(self) -> Source:
        return self._source

    def fork(self) -> Self:
        """Return a copy of the file."""
        forked = super().fork()
        forked._source = copy(self._source)  # noqa: SLF001  # of the same class
        return forked

    def _apply(self, event: Event, data: bytes) -> None:
        match event:
            case Event.REPLACE:
                self._source.data = data
                self._source.inode = self._origin[1] + len(self.versions)
            case Event.FORGE:
                self._source.forge(data)
            case Event.RESTORE:
                self._source.data = data
                self._source.mtime_ns, self._source.inode = self._origin
            case _:
                self._source.data = data
                # Neither this mtime nor the inode above has been used before.
                self._source.mtime_ns = self._origin[0] + len(self.versions)


class RealFile(ScenarioSource):
    """A file on the disk."""

    def __init__(self, path: Path, data: bytes) -> None:
        super().__init__(data)
        self._path, self.name = path, str(path)
        path.write_bytes(data)
        self._set_mtime(1_700_000_000_000_000_000)

    def open(self) -> Source:
        return FileSource(self._path)

    def _apply(self, event: Event, data: bytes) -> None:
        mtime_ns = self._path.stat().st_mtime_ns
        if event is Event.REPLACE:
            other = self._path.with_suffix(".other")
            other.write_bytes(data)
            other.replace(self._path)
            self._set_mtime(mtime_ns)
        elif event is Event.RESTORE:
            raise InvalidInput("a file can't get back the inode that it lost")
        else:
            self._path.write_bytes(data)
            self._set_mtime(mtime_ns if event is Event.FORGE else mtime_ns + 1_000_000_000)

    def _set_mtime(self, mtime_ns: int) -> None:
        os.utime(self._path, ns=(mtime_ns, mtime_ns))


class SimulatedStream(ScenarioSource):
    """
    A stream that each process opens at its beginning.

    Without a name it can't be identified in a later run.
    """

    sized = False
    seen_changing = False

    def __init__(self, data: bytes, name: str = "a stream", spool_above: int = 1024) -> None:
        super().__init__(data)
        self.name = name
        self._spool_above = spool_above

    def open(self) -> Source:
        data = self.version.data
        return StreamSource(lambda: io.BytesIO(data), name=self.name, spool_above=self._spool_above)


class SimulatedBytes(ScenarioSource):
    """Bytes in memory, which a later run recognises by their checksum."""

    seen_changing = False
    name = "bytes"  # the default of `BytesSource`

    def open(self) -> Source:
        return BytesSource(self.version.data)
