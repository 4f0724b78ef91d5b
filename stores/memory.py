"""
Checkpoints in this process's memory.

For tests, and for programs that carry checkpoints themselves: put in what you kept with
``store.save(Checkpoint.from_data(row))``, upload, and take out what `load` gives. What is not taken out goes with the
process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from types import TracebackType
from typing import NoReturn, Self
from urllib.parse import unquote

from attrs import define, evolve, field

from partwise.checkpoint import Checkpoint
from partwise.errors import InvalidInput
from partwise.model import UploadedPart
from partwise.stores._checks import absent, busy, check_checkpoint, check_name, check_receipt, closed, upload_of


@define
class _Entry:
    header: Checkpoint
    parts: dict[int, UploadedPart]

    def copy(self) -> _Entry:
        return _Entry(self.header, dict(self.parts))

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> _Entry:
        return cls(deepcopy(evolve(checkpoint, parts=())), {part.part_number: part for part in checkpoint.parts})

    def checkpoint(self) -> Checkpoint:
        # Copied on the way in and on the way out: the mappings among the options are frozen by custom only.
        return evolve(deepcopy(self.header), parts=tuple(self.parts.values()))


@define
class _Memory:
    """What all handles on one memory share. Whoever reads or changes it holds `lock`."""

    lock: threading.Lock = field(factory=threading.Lock)
    entries: dict[str, _Entry] = field(factory=dict)
    claimed: set[str] = field(factory=set)


class MemoryCheckpointStore:
    """
    Checkpoints that last as long as the process.

    Safe to use from many threads. Claims hold within the process: any second claim of a name is refused, whichever
    thread asks and through whichever handle.
    """

    def __init__(self) -> None:
        self._memory = _Memory()
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"of {len(self._memory.entries)}"
        return f"<{type(self).__name__} {state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a MemoryCheckpointStore can't be pickled: what it holds is in this process alone")

    def close(self) -> None:
        """Close this handle; others on the same memory go on. Closing twice is fine."""
        self._closed = True

    # --- the protocol ------------------------------------------------------------------------------------------------

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        """The sole right to this name; see `CheckpointStore.claim`."""
        self._begin(name)
        memory = self._memory
        with memory.lock:
            if name in memory.claimed:
                entry = memory.entries.get(name)
                upload = f"the upload {name}" if entry is None else upload_of(entry.header)
                raise busy(upload, by="another uploader in this process", name=name)
            memory.claimed.add(name)
        try:
            yield
        finally:
            with memory.lock:
                memory.claimed.discard(name)

    def load(self, name: str) -> Checkpoint | None:
        """The checkpoint with every part appended since; see `CheckpointStore.load`."""
        self._begin(name)
        with self._memory.lock:
            entry = self._memory.entries.get(name)
            return None if entry is None else entry.checkpoint()

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep the checkpoint until the process ends; see `CheckpointStore.save`."""
        check_checkpoint(checkpoint)
        self._begin(checkpoint.name)
        entry = _Entry.of(checkpoint)
        with self._memory.lock:
            self._memory.entries[checkpoint.name] = entry

    def append_part(self, name: str, part: UploadedPart) -> None:
        """Add one receipt; see `CheckpointStore.append_part`."""
        self._begin(name)
        check_receipt(part)
        with self._memory.lock:
            entry = self._memory.entries.get(name)
            if entry is None:
                raise absent(name)
            entry.parts[part.part_number] = part

    def delete(self, name: str) -> None:
        """Forget the checkpoint; see `CheckpointStore.delete`."""
        self._begin(name)
        with self._memory.lock:
            self._memory.entries.pop(name, None)

    def scan(self) -> Iterable[Checkpoint]:
        """Every checkpoint, as it is at the time of the call."""
        self._check_open()
        with self._memory.lock:
            return [entry.checkpoint() for entry in self._memory.entries.values()]

    # --- for tests ---------------------------------------------------------------------------------------------------

    def handle(self) -> MemoryCheckpointStore:
        """Another handle on the same memory, as another process would have on a directory."""
        self._check_open()
        handle = type(self)()
        handle._memory = self._memory  # noqa: SLF001  # of the same class
        return handle

    def snapshot(self) -> MemoryCheckpointStore:
        """
        A copy of the memory at this instant: what the next process finds if this one dies now.

        Nobody holds a claim in it, since a dead process holds none.
        """
        self._check_open()
        copy = type(self)()
        with self._memory.lock:
            copy._memory.entries = {name: entry.copy() for name, entry in self._memory.entries.items()}  # noqa: SLF001  # of the same class
        return copy

    # --- inside ------------------------------------------------------------------------------------------------------

    def _begin(self, name: str) -> None:
        self._check_open()
        check_name(name)

    def _check_open(self) -> None:
        if self._closed:
            raise closed(self)


_opened: dict[str, MemoryCheckpointStore] = {}
_opened_lock = threading.Lock()


def open_url(url: str) -> MemoryCheckpointStore:
    """
    Open ``memory:`` or ``memory://NAME``.

    Within one process a name stands for one memory, no name for one too; each call gives a handle of its own on it.

    Raises:
        InvalidInput: the URL says more than a name.
    """
    scheme, _, rest = url.partition(":")
    name = unquote(rest.removeprefix("//"))
    if scheme.lower() != "memory" or (rest and not rest.startswith("//")) or set("/?#") & set(rest.removeprefix("//")):
        raise InvalidInput(f"{url!r} names no checkpoint store in memory: write memory: or memory://NAME")
    with _opened_lock:
        first = _opened.setdefault(name, MemoryCheckpointStore())
    return first.handle()
