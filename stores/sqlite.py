"""
Checkpoints in one SQLite file, for many uploads and many processes.

What is promised, and by what means:

- `save` is one transaction, on the medium when it returns (``synchronous=FULL`` in write-ahead mode).
- `append_part` is one row in a transaction of its own with ``synchronous=NORMAL``: the death of the process does not
  take it back; the loss of power may, for then the storage's own list has the part. It does not harm the file.
- Every row carries a checksum over its text and what it belongs to, since SQLite itself does not notice a byte that
  changed on the medium.
- The file is for its owner alone (mode 0600), and so is what SQLite puts beside it.

Claims are locks on small files in ``PATH.claims/``, each of which is there while its upload is under way. The
connection is open while a claim is held; otherwise it is opened for each call. The file must be on a local disk:
write-ahead mode needs memory that all its processes share.
"""

# Paths are text in here, since most of them are made for one call of the system each.
# ruff: noqa: PTH118, PTH120

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from partwise import _durable as files
from partwise.checkpoint import Checkpoint
from partwise.errors import CheckpointDamaged, CheckpointError, CheckpointUnwritable, InvalidInput
from partwise.model import MIB, PART_NUMBER_MAX, UploadedPart
from partwise.stores import _journal as journal
from partwise.stores._checks import (
    absent,
    check_checkpoint,
    check_name,
    check_receipt,
    closed,
    plain_name,
    reason,
    unreadable,
    unwritable,
    upload_of,
)
from partwise.stores._database import (
    FAILURES,
    Database,
    Foreign,
    OtherVersion,
    as_os_error,
    durable_transaction,
    is_damage,
    resembles,
)
from partwise.stores._locations import checked_path, resolved_directory
from partwise.stores._locks import claim

_log = logging.getLogger(__name__)

_PAGE = 500  # checkpoints that `scan` takes at a time
_NAMES_MAX = 1_000_000  # that it takes at all

_T = TypeVar("_T")


class SQLiteCheckpointStore:
    """
    Checkpoints in one SQLite file.

    Safe to use from many threads and processes. It can be pickled: the copy has the same place, and no claim.

    Args:
        path: the file; it is made when first needed. Its directory must exist.

    Raises:
        InvalidInput: `path` is no path.
    """

    _patient = True  # as long as nobody was waited for in vain

    def __init__(self, path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> None:
        if path == ":memory:":
            raise InvalidInput("checkpoints in memory are kept by a MemoryCheckpointStore; give the path of a file")
        self._path = resolved_directory(checked_path(path))
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

    def exists(self) -> bool:
        """Whether the file is there; it need not be before something is saved."""
        return os.path.lexists(self._path)

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
            self._check_writable(name)
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
                except journal.CorruptJournal as damage:
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
        except FAILURES as error:
            raise self._unreadable(error, name) from error

    def save(self, checkpoint: Checkpoint) -> None:
        """
        Keep the checkpoint, durably; see `CheckpointStore.save`.

        Raises:
            CheckpointUnwritable: the file can't be written; what was there is still there, whole.
        """
        check_checkpoint(checkpoint)
        name = checkpoint.name
        self._begin(name)
        header = journal.header_text(checkpoint)
        checksum = _sum(header.encode(), name)
        with self._writing(name, create=True) as connection:
            assert connection is not None
            with durable_transaction(connection):
                connection.execute("DELETE FROM parts WHERE name = ?", (name,))
                connection.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?)", (name, header, checksum))
                connection.executemany(_ADD_PART, (_part_row(name, part) for part in checkpoint.parts))

    def append_part(self, name: str, part: UploadedPart) -> None:
        """
        Add one receipt; see `CheckpointStore.append_part`.

        Raises:
            CheckpointError: there is no checkpoint of this name.
            CheckpointUnwritable: the file can't be written. What it held it holds, and later receipts can follow.
        """
        key = self._begin(name)
        check_receipt(part)
        try:
            with self._writing(name, create=False, patient=self._patient) as connection:
                if connection is None or not connection.execute(_ADD_PART, _part_row(key, part)).rowcount:
                    raise absent(name, self._path)
        except CheckpointUnwritable:
            # An upload goes on without its receipts, and must not wait for each of them anew while somebody keeps the
            # file locked.
            self._patient = False
            raise
        self._patient = True

    def delete(self, name: str) -> None:
        """
        Forget the checkpoint and what was set aside of it; see `CheckpointStore.delete`.

        Raises:
            CheckpointUnwritable: the file can't be written.
        """
        key = self._begin(name)
        with self._writing(name, create=False) as connection:
            if connection is None:
                return
            connection.execute("BEGIN IMMEDIATE")
            for table in ("checkpoints", "parts", "damaged"):
                connection.execute(f"DELETE FROM {table} WHERE name = ?", (key,))  # noqa: S608  # ours
            connection.execute("COMMIT")

    def scan(self) -> Iterable[Checkpoint]:
        """
        Every checkpoint that can be read; see `CheckpointStore.scan`.

        Damaged ones stay where they are; the logger ``partwise.stores.sqlite`` gets a warning for each.

        Raises:
            CheckpointDamaged: while iterating: SQLite finds the file damaged.
            CheckpointError: while iterating: the file can't be read at all.
        """
        self._check_open()
        return self._scanned()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._process = os.getpid()
        self._claimed: set[str] = set()  # those of this store object
        self._database = Database(self._path)

    def _check_open(self) -> None:
        if self._closed:
            raise closed(self)
        if self._process != os.getpid():
            # A forked child has none of its parent's claims; what it has of the database, the database knows.
            self._process = os.getpid()
            self._claimed = set()

    def _begin(self, name: str) -> str:
        self._check_open()
        return plain_name(check_name(name))

    def _prepare(self, name: str) -> None:
        try:
            files.check_directory(os.path.dirname(self._path))
            if not self.exists():
                self._database.check_place()
            files.make_trusted_directory(f"{self._path}.claims")
            files.check_directory(f"{self._path}.claims")
        except OSError as error:
            raise unwritable(error, self._path, name=name) from error

    def _check_writable(self, name: str) -> None:
        try:
            with self._database.use(create=True) as connection:
                assert connection is not None
                connection.execute("BEGIN IMMEDIATE")
        except FAILURES as error:
            # What is damaged, `load` will tell of and set aside.
            if self._state(error) != "damaged":
                raise self._unwritable(error, name) from error

    @contextmanager
    def _writing(self, name: str, *, create: bool, patient: bool = True) -> Iterator[sqlite3.Connection | None]:
        try:
            with self._database.use(create=create, patient=patient) as connection:
                yield connection
        except FAILURES as error:
            raise self._unwritable(error, name) from error

    def _state(self, error: Exception) -> Literal["sound", "damaged", "not ours"]:
        """What a failure says of the file."""
        if isinstance(error, OtherVersion | files.Untrusted):
            return "not ours"
        if not isinstance(error, Foreign) and not is_damage(error):
            return "sound"
        try:
            return "damaged" if resembles(self._path) else "not ours"
        except OSError:
            return "not ours"

    def _unwritable(self, error: Exception, name: str) -> CheckpointUnwritable:
        if self._state(error) == "sound":
            return unwritable(as_os_error(error), self._path, name=name)
        return CheckpointUnwritable(
            f"{self._path} can't hold checkpoints: {_why(error)}; it was left as it is. Move it away, or name another "
            "file",
            name=name,
            where=self._path,
        )

    def _unreadable(self, error: Exception, name: str) -> CheckpointError:
        state = self._state(error)
        if state == "sound":
            return unreadable(as_os_error(error), self._path, name=name)
        kept = "it was left as it is"
        if state == "damaged" and name in self._claimed and (aside := self._move_away(name)) is not None:
            kept = f"it was set aside as {aside}, and every upload in it can only start again"
        return CheckpointDamaged(f"{self._path} can't be trusted: {_why(error)}; {kept}", name=name, where=self._path)

    def _move_away(self, name: str) -> str | None:
        # One process at a time, and each looks once more: it would else move away the new file that another has begun.
        lock = os.path.join(f"{self._path}.claims", "damaged.lock")
        try:
            with claim(lock, name=name, where=self._path, upload=lambda: "the damaged file"):
                return self._database.set_aside() if self._is_damaged(name) else None
        except (CheckpointError, OSError):
            return None

    def _is_damaged(self, name: str) -> bool:
        try:
            # A damaged row is not a damaged file.
            with self._database.use(create=False) as connection, suppress(journal.CorruptJournal):
                if connection is not None:
                    _read(connection, plain_name(name))
        except FAILURES as error:
            return self._state(error) == "damaged"
        return False

    def _upload(self, name: str) -> str:
        try:
            with self._database.use(create=False) as connection:
                header = None if connection is None else _read_header(connection, plain_name(name))
        except (*FAILURES, journal.CorruptJournal):
            header = None
        return f"the upload {name}" if header is None else upload_of(header)

    def _scanned(self) -> Iterator[Checkpoint]:
        names = self._page(_names)
        for start in range(0, len(names), _PAGE):
            page = names[start : start + _PAGE]
            yield from self._page(partial(self._readable, page))

    def _page(self, read: Callable[[sqlite3.Connection], list[_T]]) -> list[_T]:
        try:
            with self._database.use(create=False) as connection:
                return [] if connection is None else read(connection)
        except FAILURES as error:
            raise self._unreadable(error, "") from error

    def _readable(self, names: list[str], connection: sqlite3.Connection) -> list[Checkpoint]:
        checkpoints = []
        for name in names:
            try:
                checkpoint = _read(connection, name)
            except journal.CorruptJournal as damage:
                _log.warning("%s in %s is left out: it can't be trusted: %s", name, self._path, damage.reason)
            else:
                if checkpoint is not None:
                    checkpoints.append(checkpoint)
        return checkpoints


def _why(error: Exception) -> str:
    return reason(error) if isinstance(error, OSError) else str(error)


# --- rows ------------------------------------------------------------------------------------------------------------

#: Only where there is a checkpoint. A part that is there already keeps its place among the others.
_ADD_PART = (
    "INSERT INTO parts (name, part_number, record, checksum)"
    " SELECT :name, :number, :record, :checksum WHERE EXISTS (SELECT 1 FROM checkpoints WHERE name = :name)"
    " ON CONFLICT (name, part_number) DO UPDATE SET record = excluded.record, checksum = excluded.checksum"
)


def _part_row(name: str, part: UploadedPart) -> dict[str, object]:
    record = journal.part_text(part)
    return {
        "name": name,
        "number": part.part_number,
        "record": record,
        "checksum": _sum(record.encode(), name, part.part_number),
    }


def _sum(text: bytes, *whose: object) -> str:
    """The checksum of a row's text, which holds for the row that it is in and no other."""
    return journal.checksum("".join(f"{item}\0" for item in whose).encode(), text).hex()


def _names(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("SELECT name FROM checkpoints LIMIT ?", (_NAMES_MAX,))
    return [_text(name).decode("ascii", "replace") for (name,) in rows]


def _read(connection: sqlite3.Connection, name: str) -> Checkpoint | None:
    """The checkpoint in its rows; raises CorruptJournal."""
    connection.execute("BEGIN")  # the two are read as they were at one instant
    header_rows = connection.execute(_GET_HEADER, (name,)).fetchall()
    part_rows, size = [], 0
    for row in connection.execute(_GET_PARTS, (name, PART_NUMBER_MAX + 1)):
        part_rows.append(row)
        size += sum(len(_text(value)) for value in row)
        if size > journal.BYTES_MAX:
            break
    connection.execute("COMMIT")
    if not header_rows:
        return None
    header = _header(name, *header_rows[0])
    if len(part_rows) > PART_NUMBER_MAX:
        raise journal.CorruptJournal(f"it has more than {PART_NUMBER_MAX:,} parts", header=header)
    if size > journal.BYTES_MAX:
        raise journal.CorruptJournal(f"its parts have more than {journal.BYTES_MAX // MIB} MiB", header=header)
    records = []
    for number, record, checksum in part_rows:
        if _sum(_text(record), name, number).encode() != checksum:
            raise journal.CorruptJournal(f"part {number} does not match its checksum", header=header)
        records.append(record)
    return journal.with_parts(header, records)


def _read_header(connection: sqlite3.Connection, name: str) -> Checkpoint | None:
    """The checkpoint without its parts; raises CorruptJournal."""
    row = connection.execute(_GET_HEADER, (name,)).fetchone()
    return None if row is None else _header(name, *row)


_GET_PARTS = "SELECT part_number, record, checksum FROM parts WHERE name = ? ORDER BY position LIMIT ?"

_GET_HEADER = "SELECT header, checksum FROM checkpoints WHERE name = ?"


def _header(name: str, text: object, checksum: object) -> Checkpoint:
    body = _text(text)
    if _sum(body, name).encode() != checksum:
        raise journal.CorruptJournal("its header does not match its checksum")
    header = journal.header_from_text(body)
    if header.name != name:
        raise journal.CorruptJournal(f"it is of {upload_of(header)}")
    return header


def _text(value: object) -> bytes:
    # A damaged column may hold anything at all.
    return value if isinstance(value, bytes) else b""


def _set_aside(connection: sqlite3.Connection, name: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for table, column in (("checkpoints", "header"), ("parts", "record")):
        connection.execute(
            f"INSERT INTO damaged SELECT name, {column}, checksum FROM {table} WHERE name = ?",  # noqa: S608  # ours
            (name,),
        )
        connection.execute(f"DELETE FROM {table} WHERE name = ?", (name,))  # noqa: S608  # ours
    connection.execute("COMMIT")


# --- by URL ----------------------------------------------------------------------------------------------------------


def open_url(url: str) -> SQLiteCheckpointStore:
    """
    Open ``sqlite:///PATH``.

    What follows the third slash is the path as one would write it anywhere, as SQLAlchemy has it, too: ``sqlite:///u.db``
    is a file in the working directory, and ``sqlite:////var/lib/u.db``, with a fourth slash, one from the root. No
    character in it means anything else.

    Raises:
        InvalidInput: the URL names no file.
    """
    scheme, _, rest = url.partition(":")
    path = rest.removeprefix("///")
    if scheme.lower() != "sqlite" or not path or path == rest:
        raise InvalidInput(
            f"{url!r} names no file for checkpoints: write sqlite:///PATH, which makes four slashes before a path from "
            "the root"
        )
    return SQLiteCheckpointStore(path)
