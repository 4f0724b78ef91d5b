"""
Checkpoints in one SQLite file, for many uploads and many processes.

How the guarantees are met:

- `save` is one transaction, on the medium when it returns (``synchronous=EXTRA``).
- `append_part` is one row in a transaction with ``synchronous=NORMAL`` in write-ahead mode: a killed process does not
  lose it; a power loss may, and then the storage's list has the part. The file is not damaged.
- Every row has a checksum over its text and its key, since SQLite itself does not detect a byte that changed on the
  medium.
- The file is private to its owner (mode 0600), and so are the files that SQLite creates beside it.

Claims are locks on small files in ``PATH.claims/``, which exist while their upload is in progress, each with a file
that names the process of the run. The connection is open while a claim is held; otherwise it is opened for each call.
The file must be on a local disk: write-ahead mode needs memory that all its processes share.
"""

# Paths are strings here, since most are used for one system call each.
# ruff: noqa: PTH118, PTH120

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Literal, TypeVar

from partwise import _durable as files
from partwise._closing import Closing
from partwise._validation import brief_url, printable
from partwise.checkpoint import Checkpoint
from partwise.errors import CheckpointDamaged, CheckpointError, CheckpointUnwritable, InvalidInput
from partwise.model import MIB, PART_NUMBER_MAX, ClaimOwner, UploadedPart
from partwise.stores import _journal as journal
from partwise.stores._arguments import (
    check_checkpoint,
    check_name,
    check_optional_upload_id,
    check_part,
    check_upload_id,
)
from partwise.stores._database import (
    DATABASE_ERRORS,
    Database,
    OtherSchemaVersion,
    UnrelatedDatabase,
    as_os_error,
    durable_transaction,
    is_damage,
    looks_like_database,
)
from partwise.stores._errors import (
    claim_lost_error,
    closed_error,
    describe_upload,
    not_found_error,
    reason,
    unreadable_error,
    unwritable_error,
)
from partwise.stores._locations import absolute_path, file_name, resolve_directory
from partwise.stores._locks import claim, owner_path
from partwise.stores._owners import read_record

_log = logging.getLogger(__name__)

#: Checkpoints that `scan` reads in one use of the database, and in total.
_PAGE = 500
_NAMES_MAX = 1_000_000

_T = TypeVar("_T")


class SQLiteCheckpointStore(Closing):
    """
    Checkpoints in one SQLite file.

    Safe to use from many threads and processes. It can be pickled: the copy has the same path and no claims.

    Args:
        path: the file; created when first needed. Its directory must exist.

    Raises:
        InvalidInput: `path` is not a path.
    """

    _wait = True  # until a wait for another writer times out

    def __init__(self, path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> None:
        if path == ":memory:":
            raise InvalidInput(
                ":memory: is not the path of a file", hint="For checkpoints in memory use a MemoryCheckpointStore"
            )
        self._path = resolve_directory(absolute_path(path))
        self._closed = False
        self._reset()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._path}{' closed' if self._closed else ''}>"

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_closed": self._closed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def close(self) -> None:
        """
        Close the file.

        A claim that is held lasts until its context ends. Closing twice is fine.
        """
        self._closed = True
        self._database.close()

    def exists(self) -> bool:
        """Return whether the file exists. It need not before something is saved."""
        return os.path.lexists(self._path)

    @property
    def where(self) -> str:
        """The file."""
        return self._path

    def claim_owner(self, name: str) -> ClaimOwner | None:
        """
        Return which process recorded that it holds the claim on this name.

        None if that is not known. It decides nothing; only `claim` tells whether the claim is held.
        """
        return read_record(owner_path(self._lock_of(self._key_of(name))))

    # --- the protocol ------------------------------------------------------------------------------------------------

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        """
        Hold the exclusive right to this name; see `CheckpointStore.claim`.

        Raises:
            CheckpointBusy: on entering: another run, in this or another process, holds it.
            CheckpointUnwritable: on entering: the file can't be created or written to, or it is that of another
                program.
        """
        key = self._key_of(name)
        self._prepare(name)
        with (
            claim(self._lock_of(key), name=name, where=self._path, describe=lambda: self._describe(name)),
            self._database.keep_open(),
        ):
            self._check_writable(name)
            process = os.getpid()
            self._claimed.add(name)
            try:
                yield
            finally:
                if os.getpid() == process:
                    self._claimed.discard(name)
                    self._verified.pop(key, None)

    def load(self, name: str) -> Checkpoint | None:
        """
        Return the checkpoint with its parts; see `CheckpointStore.load`.

        While this store holds the claim, rows that can't be trusted are moved to the table ``damaged``, and a file that
        SQLite finds damaged is moved to ``PATH.damaged``: then every upload in it can only start again.

        Raises:
            CheckpointDamaged: it can't be trusted.
            CheckpointError: the file can't be read at all.
        """
        key = self._key_of(name)
        try:
            with self._database.use(create=False) as connection:
                if connection is None:
                    return None
                try:
                    return _read(connection, key)
                except journal.CorruptJournal as damage:
                    kept = "It was not changed"
                    if name in self._claimed:
                        _set_aside(connection, key)
                        kept = "It was set aside in the table damaged"
                    raise CheckpointDamaged(
                        f"the checkpoint {name} in {self._path} can't be trusted: {damage.reason}. {kept}, and"
                        " its upload can only start again",
                        name=name,
                        where=self._path,
                        upload_id=damage.upload_id,
                    ) from damage
        except DATABASE_ERRORS as error:
            raise self._unreadable(error, name) from error

    def save(self, checkpoint: Checkpoint) -> None:
        """
        Keep the checkpoint, durably; see `CheckpointStore.save`.

        Raises:
            CheckpointUnwritable: the file can't be written; its previous content is still there, complete.
        """
        check_checkpoint(checkpoint)
        name = checkpoint.name
        self._key_of(name)
        header = journal.header_text(checkpoint)
        checksum = _sum(header.encode(), name)
        with self._writing(name, create=True) as connection:
            assert connection is not None
            with durable_transaction(connection):
                connection.execute("DELETE FROM parts WHERE name = ?", (name,))
                connection.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?)", (name, header, checksum))
                connection.executemany(_ADD_PART, (_part_row(name, part, checksum) for part in checkpoint.parts))
        if name in self._claimed:
            self._verified[name] = (checkpoint.upload_id, checksum)

    def append_part(self, name: str, upload_id: str, part: UploadedPart) -> None:
        """
        Add one part; see `CheckpointStore.append_part`.

        Raises:
            CheckpointError: there is no checkpoint of this name.
            ClaimLost: the checkpoint is that of another upload id. It was not changed.
            CheckpointDamaged: the checkpoint's header can't be trusted.
            CheckpointUnwritable: the file can't be written. Its content is kept, and later parts can be appended.
        """
        key = self._key_of(name)
        check_upload_id(upload_id)
        check_part(part)
        try:
            with self._writing(name, create=False, wait=self._wait) as connection:
                if connection is None:
                    raise not_found_error(name, self._path)
                # The header is read before the first part, and again only if its checksum is another by then.
                verified = self._verified.get(key)
                if verified is None or verified[0] != upload_id or not _add_part(connection, key, part, verified[1]):
                    self._verify_and_add_part(connection, name, upload_id, part)
        except CheckpointUnwritable:
            # The upload continues without recording its parts, and must not wait for each of them while another program
            # keeps the file locked.
            self._wait = False
            raise
        self._wait = True

    def delete(self, name: str, upload_id: str | None) -> None:
        """
        Delete the checkpoint and its damaged rows; see `CheckpointStore.delete`.

        Raises:
            ClaimLost: the checkpoint is that of another upload id. It was not changed.
            CheckpointUnwritable: the file can't be written.
        """
        key = self._key_of(name)
        check_optional_upload_id(upload_id)
        with self._writing(name, create=False) as connection:
            if connection is None:
                return
            connection.execute("BEGIN IMMEDIATE")
            with suppress(journal.CorruptJournal):
                header = _read_header(connection, key)
                if header is not None and header.upload_id != upload_id:
                    raise claim_lost_error(upload_id, header.upload_id, name=name, where=self._path)
            for table in ("checkpoints", "parts", "damaged"):
                connection.execute(f"DELETE FROM {table} WHERE name = ?", (key,))  # noqa: S608  # constants
            connection.execute("COMMIT")

    def scan(self) -> Iterable[Checkpoint]:
        """
        Return every readable checkpoint; see `CheckpointStore.scan`.

        Damaged ones are not moved; the logger ``partwise.stores.sqlite`` gets a warning for each.

        Raises:
            CheckpointDamaged: while iterating: SQLite finds the file damaged.
            CheckpointError: while iterating: the file can't be read at all.
        """
        self._check_open()
        return self._scan()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _reset(self) -> None:
        self._process = os.getpid()
        self._claimed: set[str] = set()  # those of this store object
        self._verified: dict[str, tuple[str | None, str]] = {}  # by key: the upload id of the header, and its checksum
        self._database = Database(self._path)

    def _check_open(self) -> None:
        if self._closed:
            raise closed_error(self)
        if self._process != os.getpid():
            # A forked child has none of its parent's claims. The database handles its inherited connection itself.
            self._process = os.getpid()
            self._claimed = set()
            self._verified = {}

    def _lock_of(self, key: str) -> str:
        return os.path.join(f"{self._path}.claims", f"{key}.lock")

    def _key_of(self, name: str) -> str:
        self._check_open()
        return file_name(check_name(name))

    def _prepare(self, name: str) -> None:
        try:
            files.check_directory(os.path.dirname(self._path))
            if not self.exists():
                self._database.check_directory()
            files.make_trusted_directory(f"{self._path}.claims")
            files.check_directory(f"{self._path}.claims")
        except OSError as error:
            raise unwritable_error(error, self._path, name=name) from error

    def _check_writable(self, name: str) -> None:
        try:
            with self._database.use(create=True) as connection:
                assert connection is not None
                connection.execute("BEGIN IMMEDIATE")
        except DATABASE_ERRORS as error:
            # A damaged file is reported and set aside by `load`.
            if self._state(error) != "damaged":
                raise self._unwritable(error, name) from error

    @contextmanager
    def _writing(self, name: str, *, create: bool, wait: bool = True) -> Iterator[sqlite3.Connection | None]:
        try:
            with self._database.use(create=create, wait=wait) as connection:
                yield connection
        except DATABASE_ERRORS as error:
            raise self._unwritable(error, name) from error

    def _verify_and_add_part(
        self, connection: sqlite3.Connection, name: str, upload_id: str, part: UploadedPart
    ) -> None:
        """
        Add a part after reading the header of its checkpoint.

        Raises:
            CheckpointError, ClaimLost, CheckpointDamaged: nothing can be appended to it.
        """
        key = file_name(name)
        connection.execute("BEGIN IMMEDIATE")
        row = connection.execute(_GET_HEADER, (key,)).fetchone()
        if row is None:
            raise not_found_error(name, self._path)
        try:
            header = _header(key, *row)
        except journal.CorruptJournal as damage:
            raise CheckpointDamaged(
                f"nothing can be appended to the checkpoint {name} in {self._path}: {damage.reason}. It was not"
                " changed",
                name=name,
                where=self._path,
                upload_id=damage.upload_id,
            ) from damage
        if header.upload_id != upload_id:
            raise claim_lost_error(upload_id, header.upload_id, name=name, where=self._path)
        checksum = _text(row[1]).decode()
        _add_part(connection, key, part, checksum)
        connection.execute("COMMIT")
        if name in self._claimed:
            self._verified[key] = (upload_id, checksum)

    def _state(self, error: Exception) -> Literal["intact", "damaged", "unusable"]:
        """Return what an error says about the file; unusable: it must not be changed."""
        if isinstance(error, OtherSchemaVersion | files.Untrusted):
            return "unusable"
        if not isinstance(error, UnrelatedDatabase) and not is_damage(error):
            return "intact"
        try:
            return "damaged" if looks_like_database(self._path) else "unusable"
        except OSError:
            return "unusable"

    def _unwritable(self, error: Exception, name: str) -> CheckpointUnwritable:
        if self._state(error) == "intact":
            return unwritable_error(as_os_error(error), self._path, name=name)
        return CheckpointUnwritable(
            f"{self._path} can't hold checkpoints: {_reason(error)}. It was not changed",
            name=name,
            where=self._path,
            hint="Move it away, or name another file",
        )

    def _unreadable(self, error: Exception, name: str) -> CheckpointError:
        state = self._state(error)
        if state == "intact":
            return unreadable_error(as_os_error(error), self._path, name=name)
        kept = "It was not changed"
        if state == "damaged" and name in self._claimed and (aside := self._move_away(name)) is not None:
            kept = f"It was set aside as {aside}, and every upload in it can only start again"
        return CheckpointDamaged(
            f"{self._path} can't be trusted: {_reason(error)}. {kept}", name=name, where=self._path
        )

    def _move_away(self, name: str) -> str | None:
        # One process at a time, and each checks again: otherwise it might move away the new file of another process.
        lock = os.path.join(f"{self._path}.claims", "damaged.lock")
        try:
            with claim(lock, name=name, where=self._path, describe=lambda: "the damaged file"):
                return self._database.set_aside() if self._is_damaged(name) else None
        except (CheckpointError, OSError):
            return None

    def _is_damaged(self, name: str) -> bool:
        try:
            # A damaged row is not a damaged file.
            with self._database.use(create=False) as connection, suppress(journal.CorruptJournal):
                if connection is not None:
                    _read(connection, file_name(name))
        except DATABASE_ERRORS as error:
            return self._state(error) == "damaged"
        return False

    def _describe(self, name: str) -> str:
        try:
            with self._database.use(create=False) as connection:
                header = None if connection is None else _read_header(connection, file_name(name))
        except (*DATABASE_ERRORS, journal.CorruptJournal):
            header = None
        return f"the upload {name}" if header is None else describe_upload(header)

    def _scan(self) -> Iterator[Checkpoint]:
        names = self._page(_names)
        for start in range(0, len(names), _PAGE):
            page = names[start : start + _PAGE]
            yield from self._page(partial(self._readable, page))

    def _page(self, read: Callable[[sqlite3.Connection], list[_T]]) -> list[_T]:
        try:
            with self._database.use(create=False) as connection:
                return [] if connection is None else read(connection)
        except DATABASE_ERRORS as error:
            raise self._unreadable(error, "") from error

    def _readable(self, names: list[str], connection: sqlite3.Connection) -> list[Checkpoint]:
        checkpoints = []
        for name in names:
            try:
                checkpoint = _read(connection, name)
            except journal.CorruptJournal as damage:
                _log.warning(
                    "%s in %s is left out: it can't be trusted: %s", printable(name), self._path, damage.reason
                )
            else:
                if checkpoint is not None:
                    checkpoints.append(checkpoint)
        return checkpoints


def _reason(error: Exception) -> str:
    return reason(error) if isinstance(error, OSError) else str(error)


# --- rows ------------------------------------------------------------------------------------------------------------

#: Inserts only if the checkpoint has this header. A part that is appended again keeps its position.
_ADD_PART = (
    "INSERT INTO parts (name, part_number, record, checksum)"
    " SELECT :name, :number, :record, :checksum"
    " WHERE EXISTS (SELECT 1 FROM checkpoints WHERE name = :name AND checksum = :header)"
    " ON CONFLICT (name, part_number) DO UPDATE SET record = excluded.record, checksum = excluded.checksum"
)


def _add_part(connection: sqlite3.Connection, name: str, part: UploadedPart, header: str) -> bool:
    """Add a part if the header has this checksum; return whether it has."""
    return connection.execute(_ADD_PART, _part_row(name, part, header)).rowcount > 0


def _part_row(name: str, part: UploadedPart, header: str) -> dict[str, object]:
    record = journal.part_text(part)
    return {
        "name": name,
        "number": part.part_number,
        "record": record,
        "checksum": _sum(record.encode(), name, part.part_number),
        "header": header,
    }


def _sum(text: bytes, *key: object) -> str:
    """Return the checksum of a row's text, which includes the key of the row."""
    return journal.checksum("".join(f"{item}\0" for item in key).encode(), text).hex()


def _names(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("SELECT name FROM checkpoints LIMIT ?", (_NAMES_MAX,))
    return [_text(name).decode("ascii", "replace") for (name,) in rows]


def _read(connection: sqlite3.Connection, name: str) -> Checkpoint | None:
    """Read a checkpoint from its rows; raises CorruptJournal."""
    connection.execute("BEGIN")  # one transaction, so that both tables are read as of one instant
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
    """Read a checkpoint without its parts; raises CorruptJournal."""
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
        raise journal.CorruptJournal(f"it is that of {describe_upload(header)}")
    return header


def _text(value: object) -> bytes:
    # A damaged column may have a value of any type.
    return value if isinstance(value, bytes) else b""


def _set_aside(connection: sqlite3.Connection, name: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for table, column in (("checkpoints", "header"), ("parts", "record")):
        connection.execute(
            f"INSERT INTO damaged SELECT name, {column}, checksum FROM {table} WHERE name = ?",  # noqa: S608  # constants
            (name,),
        )
        connection.execute(f"DELETE FROM {table} WHERE name = ?", (name,))  # noqa: S608  # constants
    connection.execute("COMMIT")


# --- by URL ----------------------------------------------------------------------------------------------------------


def open_url(url: str) -> SQLiteCheckpointStore:
    """
    Open ``sqlite:///PATH``.

    The text after the third slash is the path, as in SQLAlchemy: ``sqlite:///u.db`` is a file in the working directory,
    and ``sqlite:////var/lib/u.db``, with a fourth slash, is an absolute path. No character in it is special.

    Raises:
        InvalidInput: the URL does not name a file.
    """
    scheme, _, rest = url.partition(":")
    path = rest.removeprefix("///")
    if scheme.lower() != "sqlite" or not path or path == rest:
        raise InvalidInput(
            f"{brief_url(url)} does not name a file for checkpoints",
            hint="Use sqlite:///PATH, which has four slashes before an absolute path",
        )
    return SQLiteCheckpointStore(path)
