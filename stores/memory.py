"""
Checkpoints in this process's memory.

For tests, and for programs that keep checkpoints themselves: save the kept one with
``store.save(Checkpoint.from_data(row))``, upload, and keep what `load` returns. The content is lost with the process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn
from urllib.parse import unquote

from attrs import define, evolve, field

from partwise._closing import Closing
from partwise._validation import brief_url
from partwise.checkpoint import Checkpoint
from partwise.errors import InvalidInput
from partwise.model import UploadedPart
from partwise.stores._arguments import (
    check_checkpoint,
    check_name,
    check_optional_upload_id,
    check_part,
    check_upload_id,
)
from partwise.stores._errors import busy_error, claim_lost_error, closed_error, describe_upload, not_found_error


@define
class _Entry:
    header: Checkpoint
    parts: dict[int, UploadedPart]

    def copy(self) -> _Entry:
        return _Entry(self.header, dict(self.parts))

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> _Entry:
        return cls(_detached(checkpoint, ()), {part.part_number: part for part in checkpoint.parts})

    def checkpoint(self) -> Checkpoint:
        return _detached(self.header, tuple(self.parts.values()))


def _detached(checkpoint: Checkpoint, parts: tuple[UploadedPart, ...]) -> Checkpoint:
    """
    Copy a checkpoint when it is stored or returned.

    Its options, which can be changed, are copied, too.
    """
    return evolve(checkpoint, parts=parts)


@define
class _Memory:
    """The content that all handles share; read and changed only while holding `lock`."""

    lock: threading.Lock = field(factory=threading.Lock)
    entries: dict[str, _Entry] = field(factory=dict)
    claimed: set[str] = field(factory=set)


class MemoryCheckpointStore(Closing):
    """
    Checkpoints that exist as long as the process.

    Safe to use from many threads. Claims hold within the process: a second claim of a name is refused in every thread
    and through every handle.
    """

    def __init__(self) -> None:
        self._memory = _Memory()
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"of {len(self._memory.entries)}"
        return f"<{type(self).__name__} {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a MemoryCheckpointStore can't be pickled: its content exists only in this process")

    def close(self) -> None:
        """Close this handle; others on the same memory stay open. Closing twice is fine."""
        self._closed = True

    # --- the protocol ------------------------------------------------------------------------------------------------

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        """Hold the exclusive right to this name; see `CheckpointStore.claim`."""
        self._check_usable(name)
        memory = self._memory
        with memory.lock:
            if name in memory.claimed:
                entry = memory.entries.get(name)
                upload = f"the upload {name}" if entry is None else describe_upload(entry.header)
                raise busy_error(upload, by="another run in this process", name=name)
            memory.claimed.add(name)
        try:
            yield
        finally:
            with memory.lock:
                memory.claimed.discard(name)

    def load(self, name: str) -> Checkpoint | None:
        """Return the checkpoint with its parts; see `CheckpointStore.load`."""
        self._check_usable(name)
        with self._memory.lock:
            entry = self._memory.entries.get(name)
            return None if entry is None else entry.checkpoint()

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep the checkpoint until the process ends; see `CheckpointStore.save`."""
        check_checkpoint(checkpoint)
        self._check_usable(checkpoint.name)
        entry = _Entry.of(checkpoint)
        with self._memory.lock:
            self._memory.entries[checkpoint.name] = entry

    def append_part(self, name: str, upload_id: str, part: UploadedPart) -> None:
        """Add one part; see `CheckpointStore.append_part`."""
        self._check_usable(name)
        check_upload_id(upload_id)
        check_part(part)
        with self._memory.lock:
            entry = self._memory.entries.get(name)
            if entry is None:
                raise not_found_error(name)
            if entry.header.upload_id != upload_id:
                raise claim_lost_error(upload_id, entry.header.upload_id, name=name)
            entry.parts[part.part_number] = part

    def delete(self, name: str, upload_id: str | None) -> None:
        """Delete the checkpoint; see `CheckpointStore.delete`."""
        self._check_usable(name)
        check_optional_upload_id(upload_id)
        with self._memory.lock:
            entry = self._memory.entries.get(name)
            if entry is None:
                return
            if entry.header.upload_id != upload_id:
                raise claim_lost_error(upload_id, entry.header.upload_id, name=name)
            del self._memory.entries[name]

    def scan(self) -> Iterable[Checkpoint]:
        """Return every checkpoint, as it is at the time of the call."""
        self._check_open()
        with self._memory.lock:
            return [entry.checkpoint() for entry in self._memory.entries.values()]

    # --- for tests ---------------------------------------------------------------------------------------------------

    def handle(self) -> MemoryCheckpointStore:
        """
        Return another handle on the same memory.

        It is like that of another process on a directory.
        """
        self._check_open()
        handle = type(self)()
        handle._memory = self._memory  # noqa: SLF001  # of the same class
        return handle

    def snapshot(self) -> MemoryCheckpointStore:
        """
        Return a copy of the memory at this instant.

        It is what the next process finds if this one is killed now. No claim is held in it, since a killed process
        holds none.
        """
        self._check_open()
        copy = type(self)()
        with self._memory.lock:
            copy._memory.entries = {name: entry.copy() for name, entry in self._memory.entries.items()}  # noqa: SLF001  # of the same class
        return copy

    # --- inside ------------------------------------------------------------------------------------------------------

    def _check_usable(self, name: str) -> None:
        self._check_open()
        check_name(name)

    def _check_open(self) -> None:
        if self._closed:
            raise closed_error(self)


_opened: dict[str, MemoryCheckpointStore] = {}
_opened_lock = threading.Lock()


def open_url(url: str) -> MemoryCheckpointStore:
    """
    Open ``memory:`` or ``memory://NAME``.

    Within one process each name, and having no name, refers to one memory; each call returns a new handle on it.

    Raises:
        InvalidInput: the URL has more than a name.
    """
    scheme, _, rest = url.partition(":")
    name = unquote(rest.removeprefix("//"))
    if scheme.lower() != "memory" or (rest and not rest.startswith("//")) or set("/?#") & set(rest.removeprefix("//")):
        raise InvalidInput(
            f"{brief_url(url)} is not the URL of a checkpoint store in memory", hint="Use memory: or memory://NAME"
        )
    with _opened_lock:
        first = _opened.setdefault(name, MemoryCheckpointStore())
    return first.handle()
