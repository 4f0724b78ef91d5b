"""
Checkpoints in one SQLite file, for many uploads and many processes.

What is promised, and by what means:

- `save` is one transaction, on the medium when it returns (``synchronous=FULL`` in write-ahead mode).
- `append_part` is one row in a transaction of its own with ``synchronous=NORMAL``: the death of the process does not take
  it back; the loss of power may, for then the storage's own list has the part. It does not harm the file.
- Every row carries a checksum over its text and what it belongs to, since SQLite itself does not notice a byte that
  changed on the medium.
- The file is for its owner alone (mode 0600), and so is what SQLite puts beside it.

Claims are locks on small files in ``PATH.claims/``, each of which is there while its upload is under way. The
connection is open while a claim is held; otherwise it is opened for each call. The file must be on a local disk:
write-ahead mode needs memory that all its processes share.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from partwise.errors import CheckpointDamaged, CheckpointError, CheckpointUnwritable, InvalidInput
from partwise.model import Checkpoint, UploadedPart
from partwise.stores import _files as files
from partwise.stores import _journal as journal
from partwise.stores._checks import (
    absent,
    check_name,
    closed,
    plain_name,
    reason,
    unreadable,
    unwritable,
    upload_of,
)
from partwise.stores._claims import claim
from partwise.stores._database import Database, Foreign, as_os_error, is_corrupt, is_no_database
from partwise.stores._places import checked_path

_log = logging.getLogger(__name__)

_PAGE = 500  # names that `scan` takes at a time


class SQLiteCheckpointStore:
    """
    Checkpoints in one SQLite file.

    Safe to use from many threads and processes. It can be pickled: the copy has the same place, and no claim.

    Args:
        path: the file; it is made when first needed. Its directory must exist.

    Raises:
        InvalidInput: `path` is no path.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if path == ":memory:":
            raise InvalidInput("checkpoints in memory are kept by a MemoryCheckpointStore; give the path of a file")
        self._path = os.path.realpath(checked_path(path))
        self._closed = False
        self._start()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._path}{' closed' if self._closed else ''}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_closed": self._closed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def close(self) -> None:
        """Let go of the file. A claim that is held lasts until its context is left. Closing twice is fine."""
        self._closed = True
        if self._process == os.getpid():
            self._database.close()

    # --- the protocol ------------------------------------------------------------------------------------------------

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        """
        The sole right to this name; see `CheckpointStore.claim`.

        Raises:
            CheckpointBusy: on entering: an uploader, here or in another process, holds it.
            CheckpointUnwritable: on entering: the file can't be made or written to, or it is not ours.
        """
        key = self._begin(name)
        self._prepare(name)
        lock = os.path.join(f"{self._path}.claims", f"{key}.lock")
        with (
            claim(lock, name=name, where=self._path, upload=lambda: self._upload(name)),
            self._database.kept_open(),
        ):
            process = os.getpid()
            self._claimed.add(name)
            try:
                yield
            finally:
                if os.getpid() == process:
                    self._claimed.discard(name)

    def load(self, name: str) -> Checkpoint | None:
        """
        The checkpoint with every part appended since; see `CheckpointStore.load`.

        While this store holds the claim, rows that can't be trusted are moved to a table of their own, and a file that
        SQLite finds damaged is moved away whole, as ``PATH.damaged``: then every upload in it can only start again.

        Raises:
            CheckpointDamaged: it can't be trusted.
            CheckpointError: the file can't be read at all.
        """
        key = self._begin(name)
        try:
            with self._database.use(create=False) as connection:
                if connection is None:
                    return None
                try:
                    return _read(connection, key)
                except journal.Damage as damage:
                    kept = "it was left as it is"
                    if name in self._claimed:
                        _set_aside(connection, key)
                        kept = "it was set aside in the table of damaged ones"
                    raise CheckpointDamaged(
                        f"the checkpoint {name} in {self._path} can't be trusted: {damage.reason}; {kept}. Its upload "
                        "can only start again",
                        name=name,
                        where=self._path,
                        upload_id=damage.upload_id,
                    ) from damage
        except (sqlite3.Error, Foreign, OSError) as error:
            raise self._unreadable(error, name) from error

    def save(self, checkpoint: Checkpoint) -> None:
        """
        Keep the checkpoint, durably; see `CheckpointStore.save`.

        Raises:
            CheckpointUnwritable: the file can't be written; what was there is still there, whole.
        """
        name = checkpoint.name
        self._begin(name)
        header = journal.header_text(checkpoint)
        parts = [_row(name, part) for part in checkpoint.parts]
        with self._writing(name, create=True) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("DELETE FROM parts WHERE name = ?", (name,))
                connection.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?)", (name, header, _sum(header, name)))
                connection.executemany(_ADD_PART, parts)
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.rollback()
                connection.execute("PRAGMA synchronous = NORMAL")
