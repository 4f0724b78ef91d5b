"""
One SQLite file, opened when it is needed: its schema, its settings, and what its errors mean.

A connection is shared by the threads of one process, one at a time, and never by two processes: SQLite's locks do not
survive a fork. It is looked at before each use whether the file is still the one that was opened, since a person may
have moved it away.

A database is code as much as data: a view or a trigger in it runs when it is used. So a file is used only if it can be
trusted, as `_durable.untrusted` has it, and if what SQLite reads beside it can be, too; only if its schema is ours to
the letter; and within limits of SQLite, which bound the size of a value and the work of one use.
"""

# Paths are text in here, since most of them are made for one call of the system each.
# ruff: noqa: PTH105, PTH116, PTH120

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from partwise import _durable as files
from partwise.stores import _journal as journal
from partwise.stores._checks import nearly
from partwise.stores._locations import name_aside

VERSION = 1

#: "part", which tells our files from those of other programs.
_APPLICATION_ID = 0x70617274

#: How long another writer is waited for. Each of ours holds the file for milliseconds.
_BUSY_SECONDS = 5.0

#: How long by those who have waited in vain just before.
_BUSY_BRIEF_SECONDS = 0.05

#: What SQLite puts beside a database, and plays into it when it opens it.
_BESIDE = ("-journal", "-wal", "-shm")

#: The most bytes in a value or row. A header is a line of a checkpoint file, and a row has little beside it.
_LENGTH_MAX = 2 * journal.LINE_MAX

#: The most bytes in a statement, those of the schema included.
_STATEMENT_MAX = 4096

#: The most operations of SQLite's machine in one use of the connection. The largest page of a scan takes a tenth of it.
_OPERATIONS_MAX = 1_000_000_000

#: After how many of them they are counted.
_OPERATIONS_STEP = 1_000_000

#: The most operations before the schema is known to be ours. SQLite reads all of it first, and takes a minute for
#: 200,000 views.
_OPERATIONS_OF_SCHEMA_MAX = 100_000
_OPERATIONS_OF_SCHEMA_STEP = 1_000

_TABLES = (
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
)

_SCHEMA = (*_TABLES, f"PRAGMA application_id = {_APPLICATION_ID}", f"PRAGMA user_version = {VERSION}")

#: Tables that SQLite makes by itself, when a person has it analyze the database.
_OF_SQLITE = ("CREATE TABLE sqlite_stat1(tbl,idx,stat)", "CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)")

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
        self._operations = 0  # of SQLite's machine, in this use
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
            self._operations = 0
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
            aside = name_aside(self.path)
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
        if not os.path.lexists(self.path):
            if not create:
                return
            self._make()
        self._identity = self._check_files()
        # By way of a URI, since only so SQLite can be kept from making the file itself, for everybody to read.
        connection = sqlite3.connect(
            f"{Path(self.path).as_uri()}?mode=rw",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            self._restrict(connection)
            ready = _is_ready(connection)
            self._check_opened()
            connection.set_progress_handler(self._count_operations, _OPERATIONS_STEP)
            if not ready and create:
                _make_schema(connection)
                ready = True
            if ready:
                _configure(connection)
                self._check_opened()
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
        self.check_place()
        try:
            os.close(files.create_private(self.path))
        except FileExistsError:
            return
        files.sync_directory(os.path.dirname(self.path))

    def check_place(self) -> None:
        """
        Make sure that the directory is one for a database, before anything is made in it.

        Raises:
            OSError: it is not, or it can't be looked at.
        """
        _check_directory(str(Path(self.path).parent))

    def _check_files(self) -> tuple[int, int]:
        """
        Look at the file and at what is beside it, and return which file it is.

        By name, and not by descriptor: to close one of a file that SQLite has open would lose its locks.
        """
        for suffix in _BESIDE:
            with suppress(FileNotFoundError):
                files.check_trusted(self.path + suffix)
        status = files.check_trusted(self.path)
        _check_directory(os.path.dirname(self.path))
        return status.st_dev, status.st_ino

    def _check_opened(self) -> None:
        """
        Look again once SQLite has opened them, which it does by name.

        Since no other user may write to the directory, only a program of this user can have replaced something.
        """
        if self._check_files() != self._identity:
            raise OSError(errno.EAGAIN, f"another program replaced {self.path} while it was opened")

    def _restrict(self, connection: sqlite3.Connection) -> None:
        # Damaged text need not be UTF-8, so it comes as bytes.
        connection.text_factory = bytes
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LENGTH_MAX)
        connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, _STATEMENT_MAX)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        connection.set_progress_handler(_schema_counter(), _OPERATIONS_OF_SCHEMA_STEP)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")

    def _count_operations(self) -> bool:
        """Called by SQLite while it works; true makes it stop."""
        self._operations += _OPERATIONS_STEP
        return self._operations > _OPERATIONS_MAX


def _schema_counter() -> Callable[[], bool]:
    """What SQLite is to call while it reads a schema; true makes it stop."""
    calls = count(1)
    return lambda: next(calls) * _OPERATIONS_OF_SCHEMA_STEP > _OPERATIONS_OF_SCHEMA_MAX


def _check_directory(path: str) -> None:
    """
    Refuse a directory to which others may write.

    They could put a journal beside the database for the moment in which SQLite opens it, which then plays the journal
    into the database; or swap the database. To look before and after does not tell.

    Raises:
        OSError: it is refused, or can't be looked at.
    """
    status = os.stat(path)
    reason = files.untrusted(status, directory=True)
    if reason is None:
        return
    only_the_group = status.st_mode & stat.S_IWGRP and not status.st_mode & stat.S_IWOTH
    if status.st_uid in (os.geteuid(), 0) and only_the_group and files.is_private_group(status.st_gid):
        return
    raise files.Untrusted(f"{reason}, who could change a database in it: use a directory of your own", path)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _is_ready(connection: sqlite3.Connection) -> bool:
    """
    Whether the tables are there.

    Raises:
        FAILURES: it is not a database of ours, or not one at all.
    """
    try:
        return _is_ours(connection)
    except sqlite3.OperationalError as error:
        if _code(error) != sqlite3.SQLITE_INTERRUPT:
            raise
        raise Foreign("it has far more tables or views than partwise makes") from error


def _is_ours(connection: sqlite3.Connection) -> bool:
    application_id, version = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    if application_id == _APPLICATION_ID:
        if version != VERSION:
            raise OtherVersion(f"it is of version {version}, and this version of partwise reads version {VERSION}")
        _check_schema(connection)
        return True
    if application_id or version or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise Foreign("it is the database of another program")
    return False


def _check_schema(connection: sqlite3.Connection) -> None:
    """
    Make sure that our names stand for the tables that we made, and that nothing else will run when they are used.

    Indexes that SQLite makes for itself have no text.
    """
    rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL LIMIT 10").fetchall()
    found = {_normal(sql) for (sql,) in rows}
    ours = {_normal(sql.encode()) for sql in _TABLES}
    if not ours <= found <= ours | {_normal(sql.encode()) for sql in _OF_SQLITE}:
        raise Foreign("its tables are not those that partwise makes")


def _normal(sql: object) -> bytes:
    return b" ".join(sql.split()) if isinstance(sql, bytes) else b""


def _make_schema(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    # Another process may have been quicker.
    if not _is_ready(connection):
        for statement in _SCHEMA:
            connection.execute(statement)
    connection.execute("COMMIT")


def _configure(connection: sqlite3.Connection) -> None:
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
    start = files.read(path, 72, trusted=False)
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
        case sqlite3.SQLITE_INTERRUPT:
            return OSError(errno.ETIMEDOUT, f"it takes SQLite more than {_OPERATIONS_MAX:,} operations")
    return OSError(errno.EIO, str(error))


def _code(error: Exception) -> int | None:
    extended: int | None = getattr(error, "sqlite_errorcode", None)
    return None if extended is None else extended & 0xFF
