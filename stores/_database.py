"""
One SQLite file, opened when it is needed: its schema, its settings, and what its errors mean.

A connection is shared by the threads of one process, one at a time, and never by two processes: SQLite's locks do not
survive a fork. It is looked at before each use whether the file is still the one that was opened, since a person may
have moved it away.
"""

# Paths are text in here, since most of them are made for one call of the system each.
# ruff: noqa: PTH105, PTH110, PTH116, PTH120

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from partwise import _durable as files
from partwise.stores._checks import nearly

VERSION = 1

#: "part", which tells our files from those of other programs.
_APPLICATION_ID = 0x70617274

#: How long another writer is waited for. Each of ours holds the file for milliseconds.
_BUSY_SECONDS = 5.0

#: How long by those who have waited in vain just before.
_BUSY_BRIEF_SECONDS = 0.05

_SCHEMA = (
    "CREATE TABLE checkpoints (name TEXT PRIMARY KEY, header TEXT NOT NULL, checksum TEXT NOT NULL) WITHOUT ROWID",
    # With a position, for the order in which parts came is the order in which `load` gives them.
    """
    CREATE TABLE parts (
        position INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        part_number INTEGER NOT NULL,
        record TEXT NOT NULL,
        checksum TEXT NOT NULL,
        UNIQUE (name, part_number)
    )
    """,
    "CREATE TABLE damaged (name TEXT NOT NULL, record, checksum)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)

#: What SQLite reports that has its cause outside of the file's content.
_ENVIRONMENT = {
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}

#: Connections that a forked child got from its parent. Closing one there would disturb the parent's locks, so they are
#: kept out of the reach of the garbage collector.
_inherited: list[sqlite3.Connection] = []


class Foreign(Exception):
    """The file is a database that is not ours."""


class OtherVersion(Exception):
    """The file is a database of ours that another version of partwise made, and that only that one can use."""


#: What the use of a database may raise. Python can't decode SQLite's message where that quotes damaged text.
FAILURES = (sqlite3.Error, UnicodeDecodeError, Foreign, OtherVersion, OSError)


class Database:
    """
    The file at `path`.

    Args:
        path: where it is, from the root. Its directory must exist.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._lock = threading.RLock()  # for all below, and for the use of the connection
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._patience = 0.0  # seconds, of the connection
        self._keepers = 0

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """From entering to leaving, the connection stays open between uses."""
        self._check_process()
        process = self._process
        with self._lock:
            self._keepers += 1
        try:
            yield
        finally:
            if os.getpid() == process:
                with self._lock:
                    self._keepers -= 1
                    if not self._keepers:
                        self.close()

    @contextmanager
    def use(self, *, create: bool, patient: bool = True) -> Iterator[sqlite3.Connection | None]:
        """
        The connection, for one thread at a time; None where there is no database.

        What is under way when an error comes is rolled back.

        Args:
            create: make the database if there is none.
            patient: wait for another writer as long as one may need.

        Raises:
            FAILURES: as they say.
        """
        with self.kept_open(), self._lock:
            if self._connection is not None and self._identity != _identity(self.path):
                self.close()
            if self._connection is None:
                self._open(create=create)
            self._roll_back()  # what an interrupt kept the last use from rolling back
            self._wait_for_others(_BUSY_SECONDS if patient else _BUSY_BRIEF_SECONDS)
            try:
                yield self._connection
            finally:
                self._roll_back()

    def _roll_back(self) -> None:
        if self._connection is not None and self._connection.in_transaction:
            with suppress(sqlite3.Error):
                self._connection.rollback()

    def close(self) -> None:
        """Close the connection, if one is open. The next use opens another."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def set_aside(self) -> str:
        """
        Move the file away, with all that is in it, and return where to.

        Raises:
            OSError: as the system says.
        """
        with self._lock:
            self.close()
            aside = self.path + ".damaged"
            # The log first: SQLite would play it into a new database of the same name.
            for suffix in ("-wal", "-shm", ""):
                try:
                    os.replace(self.path + suffix, aside + suffix)
                except FileNotFoundError:
                    continue
            return aside

    def _wait_for_others(self, seconds: float) -> None:
        if self._connection is not None and self._patience != seconds:
            self._connection.execute(f"PRAGMA busy_timeout = {round(1000 * seconds)}")
            self._patience = seconds

    def _check_process(self) -> None:
        if self._process != os.getpid():
            if self._connection is not None:
                _inherited.append(self._connection)
            self._start()

    def _open(self, *, create: bool) -> None:
        if not os.path.exists(self.path):
            if not create:
                return
            self._make()
        self._identity = _identity(self.path)
        # By way of a URI, since only so SQLite can be kept from making the file itself, for everybody to read.
        connection = sqlite3.connect(
            f"{Path(self.path).as_uri()}?mode=rw",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            ready = _is_ready(connection)
            if not ready and create:
                _make_schema(connection)
                ready = True
            if ready:
                _configure(connection)
        except BaseException:
            connection.close()
            raise
        if ready:
            self._connection, self._patience = connection, _BUSY_SECONDS
        else:
            connection.close()

    def _make(self) -> None:
        # Only a file that is not there is opened by us: to close a descriptor of one that SQLite has open would lose
        # its locks.
        try:
            os.close(files.open_private(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        files.sync_directory(os.path.dirname(self.path))


def _identity(path: str) -> tuple[int, int] | None:
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _is_ready(connection: sqlite3.Connection) -> bool:
    application_id, version = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    if application_id == _APPLICATION_ID:
        if version != VERSION:
            raise OtherVersion(f"it is of version {version}, and this version of partwise reads version {VERSION}")
        return True
    if application_id or version or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise Foreign("it is the database of another program")
    return False


def _make_schema(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    # Another process may have been quicker.
    if not _is_ready(connection):
        for statement in _SCHEMA:
            connection.execute(statement)
    connection.execute("COMMIT")


def _configure(connection: sqlite3.Connection) -> None:
    # Damaged text need not be UTF-8, so it comes as bytes.
    connection.text_factory = bytes
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA fullfsync = ON")
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError:
        # Others are at work in the file, or it can't be written to. It stays as it is, which is slower, not worse.
        return


@contextmanager
def durable_transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """What is done in it is done as a whole, and is on the medium when it is left; or it is not done."""
    connection.execute("PRAGMA synchronous = FULL")
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    finally:
        # Nothing is under way after a commit. The setting can't be changed while something is.
        connection.rollback()
        connection.execute("PRAGMA synchronous = NORMAL")


def is_damage(error: Exception) -> bool:
    """Whether an error from the use of a database tells of what is in the file, and not of the way there."""
    # Our statements are right and their tables are there, so whatever SQLite has against them is the file's fault.
    code = _code(error)
    return isinstance(error, UnicodeDecodeError) or (code is not None and code not in _ENVIRONMENT)


def resembles(path: str) -> bool:
    """
    Whether a file that is no good database may have been one of ours once, or holds nothing.

    What does not is somebody's file, named by mistake, and is left alone.

    Raises:
        OSError: the file can't be read.
    """
    start = files.read(path, 72)
    if not start.strip(b"\0"):
        return True
    return nearly(start[:16], b"SQLite format 3\0") and nearly(start[68:], _APPLICATION_ID.to_bytes(4, "big"))


def as_os_error(error: Exception) -> OSError:
    """What an error from the use of a database is in the terms of the operating system."""
    if isinstance(error, OSError):
        return error
    match _code(error):
        case sqlite3.SQLITE_FULL:
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return OSError(errno.EBUSY, f"another program has kept it locked for {_BUSY_SECONDS:g} seconds")
    return OSError(errno.EIO, str(error))


def _code(error: Exception) -> int | None:
    extended: int | None = getattr(error, "sqlite_errorcode", None)
    return None if extended is None else extended & 0xFF
