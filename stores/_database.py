"""
One SQLite file, opened when needed: schema, settings, classes of errors.

A connection is shared by the threads of one process, one at a time, and never by two processes: SQLite's locks do not
survive a fork. Before each use it is checked that the file is still the one that was opened, since it may have been
moved away.

A database is code as well as data: a view or a trigger in it runs when it is used. So a file is used only if it and the
files that SQLite reads beside it can be trusted (see `_durable.untrusted`), only if its schema is exactly that of
partwise, and only within limits of SQLite on the size of a value and the work of one use.
"""

# Paths are strings here, since most are used for one system call each.
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
from partwise._units import format_seconds
from partwise.stores import _journal as journal
from partwise.stores._locations import path_aside

#: The version of the schema. The fields of a checkpoint have a version, too: see `partwise.checkpoint`.
VERSION = 1

#: "part", which marks a database as one of partwise.
_APPLICATION_ID = 0x70617274

#: How long to wait for another writer. One of partwise holds the file for milliseconds.
_BUSY_SECONDS = 5.0

#: How long to wait after a wait that just timed out.
_BUSY_AGAIN_SECONDS = 0.05

#: Suffixes of the files that SQLite creates beside a database, and applies to it when it opens it.
_SIDE_FILES = ("-journal", "-wal", "-shm")

#: The maximum size of a value or row in bytes. A header is at most a line of a checkpoint file; a row has little more.
_LENGTH_MAX = 2 * journal.LINE_MAX

#: The maximum length of a statement in bytes, those of the schema included.
_STATEMENT_MAX = 4096

#: The maximum number of operations of SQLite's virtual machine in one use. The largest page of a scan needs a tenth.
_OPERATIONS_MAX = 1_000_000_000

#: How many operations there are between two counts.
_OPERATIONS_STEP = 1_000_000

#: The maximum number of operations until the schema is verified. SQLite reads all of it first, and needs a minute for
#: 200,000 views.
_OPERATIONS_OF_SCHEMA_MAX = 100_000
_OPERATIONS_OF_SCHEMA_STEP = 1_000

_TABLES = (
    "CREATE TABLE checkpoints (name TEXT PRIMARY KEY, header TEXT NOT NULL, checksum TEXT NOT NULL) WITHOUT ROWID",
    # The position keeps the order in which parts were appended, in which `load` returns them.
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

#: Tables that SQLite creates when a user runs ANALYZE.
_ANALYZE_TABLES = ("CREATE TABLE sqlite_stat1(tbl,idx,stat)", "CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)")

#: SQLite's error codes whose cause is not the content of the file.
_ENVIRONMENT = (
    *(sqlite3.SQLITE_AUTH, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_INTERRUPT),
    *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOLFS, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM),
    *(sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_READONLY),
)

#: Connections that a forked child inherited from its parent. Closing one in the child would release the parent's locks,
#: so they are kept from the garbage collector.
_inherited: list[sqlite3.Connection] = []


class UnrelatedDatabase(Exception):
    """The file is a database that partwise did not create."""


class OtherSchemaVersion(Exception):
    """The file is a database of partwise whose schema this version does not know."""


#: The errors of a database. UnicodeDecodeError is that of a message of SQLite that quotes damaged text.
DATABASE_ERRORS = (sqlite3.Error, UnicodeDecodeError, UnrelatedDatabase, OtherSchemaVersion, OSError)


class Database:
    """
    The file at `path`.

    Args:
        path: its absolute path. Its directory must exist.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._lock = threading.RLock()  # for all below, and for using the connection
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._busy_seconds = 0.0  # set on the connection
        self._operations = 0  # of SQLite's virtual machine, in this use
        self._open_count = 0  # contexts that keep the connection open

    @contextmanager
    def keep_open(self) -> Iterator[None]:
        """Keep the connection open between uses while the context is open."""
        self._check_process()
        process = self._process
        with self._lock:
            self._open_count += 1
        try:
            yield
        finally:
            if os.getpid() == process:
                with self._lock:
                    self._open_count -= 1
                    if not self._open_count:
                        self.close()

    @contextmanager
    def use(self, *, create: bool, wait: bool = True) -> Iterator[sqlite3.Connection | None]:
        """
        Enter with the connection, one thread at a time.

        If there is no database, enter with None. A transaction that is open on exit is rolled back.

        Args:
            create: create the database if there is none.
            wait: wait for another writer as long as it may need; otherwise only briefly.

        Raises:
            DATABASE_ERRORS: the database can't be opened or used.
        """
        with self.keep_open(), self._lock:
            if self._connection is not None and self._identity != _identity(self.path):
                self.close()
            if self._connection is None:
                self._open(create=create)
            self._operations = 0
            self._roll_back()  # the last use, if an interrupt prevented that
            self._set_busy_timeout(_BUSY_SECONDS if wait else _BUSY_AGAIN_SECONDS)
            try:
                yield self._connection
            finally:
                self._roll_back()

    def _roll_back(self) -> None:
        if self._connection is not None and self._connection.in_transaction:
            with suppress(sqlite3.Error):
                self._connection.rollback()

    def close(self) -> None:
        """
        Close the connection, if one is open. The next use opens another.

        In a forked child, that of the parent is kept.
        """
        self._check_process()
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def set_aside(self) -> str:
        """Move the file away with everything in it, and return its new path."""
        with self._lock:
            self.close()
            aside = path_aside(self.path)
            for suffix in _SIDE_FILES:
                files.remove(aside + suffix)  # of an earlier file: SQLite would apply it to this one
            # The log first: SQLite would apply it to a new database of the same name.
            for suffix in (*_SIDE_FILES, ""):
                with suppress(FileNotFoundError):
                    os.replace(self.path + suffix, aside + suffix)
            return aside

    def _set_busy_timeout(self, seconds: float) -> None:
        if self._connection is not None and self._busy_seconds != seconds:
            self._connection.execute(f"PRAGMA busy_timeout = {round(1000 * seconds)}")
            self._busy_seconds = seconds

    def _check_process(self) -> None:
        if self._process != os.getpid():
            if self._connection is not None:
                _inherited.append(self._connection)
            self._reset()

    def _open(self, *, create: bool) -> None:
        if not os.path.lexists(self.path):
            if not create:
                return
            self._create()
        self._identity = self._check_files()
        # By a URI, the only way to keep SQLite from creating the file itself, which everyone could read.
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
                _create_schema(connection)
                ready = True
            if ready:
                _configure(connection)
                self._check_opened()
        except BaseException:
            connection.close()
            raise
        if ready:
            self._connection, self._busy_seconds = connection, _BUSY_SECONDS
        else:
            connection.close()

    def _create(self) -> None:
        # Only a new file is opened here: closing a descriptor of a file that SQLite has open would release its locks.
        self.check_directory()
        try:
            os.close(files.create_private(self.path))
        except FileExistsError:
            return
        files.sync_directory(os.path.dirname(self.path))

    def check_directory(self) -> None:
        """Raise OSError unless the directory can hold a database. Nothing is created."""
        _check_directory(str(Path(self.path).parent))

    def _check_files(self) -> tuple[int, int]:
        """
        Check the file and those beside it, and return the file's device and inode.

        By path and not by descriptor: closing a descriptor of a file that SQLite has open would release its locks.
        """
        for suffix in _SIDE_FILES:
            with suppress(FileNotFoundError):
                files.check_trusted(self.path + suffix)
        status = files.check_trusted(self.path)
        _check_directory(os.path.dirname(self.path))
        return status.st_dev, status.st_ino

    def _check_opened(self) -> None:
        """
        Check the files again after SQLite has opened them, which it does by path.

        Since no other user may write to the directory, only a program of this user can have replaced one.
        """
        if self._check_files() != self._identity:
            raise OSError(errno.EAGAIN, f"another program replaced {self.path} while it was being opened")

    def _restrict(self, connection: sqlite3.Connection) -> None:
        # Damaged text may not be UTF-8, so text is returned as bytes.
        connection.text_factory = bytes
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LENGTH_MAX)
        connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, _STATEMENT_MAX)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        connection.set_progress_handler(_schema_counter(), _OPERATIONS_OF_SCHEMA_STEP)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")

    def _count_operations(self) -> bool:
        """
        Count operations of SQLite, and stop it by returning true.

        SQLite calls this while it works.
        """
        self._operations += _OPERATIONS_STEP
        return self._operations > _OPERATIONS_MAX


def _schema_counter() -> Callable[[], bool]:
    """
    Return a function that stops SQLite in a long schema by returning true.

    SQLite calls it while it reads the schema.
    """
    calls = count(1)
    return lambda: next(calls) * _OPERATIONS_OF_SCHEMA_STEP > _OPERATIONS_OF_SCHEMA_MAX


def _check_directory(path: str) -> None:
    """
    Refuse a directory that other users may write to.

    They could put a journal beside the database at the moment in which SQLite opens it, and SQLite would apply it; or
    they could swap the database. Checks before and after do not detect that.

    Raises:
        OSError: it is refused, or can't be examined.
    """
    status = os.stat(path)
    reason = files.untrusted(status, directory=True)
    if reason is None:
        return
    only_the_group = status.st_mode & stat.S_IWGRP and not status.st_mode & stat.S_IWOTH
    if status.st_uid in (os.geteuid(), 0) and only_the_group and files.is_private_group(status.st_gid):
        return
    raise files.Untrusted(f"{reason}, who could change a database in it: use a private directory", path)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _is_ready(connection: sqlite3.Connection) -> bool:
    """
    Return whether the database has its tables; false if it is empty.

    Raises:
        DATABASE_ERRORS: it was not created by partwise, or is not a database.
    """
    try:
        return _has_our_schema(connection)
    except sqlite3.OperationalError as error:
        if _code(error) != sqlite3.SQLITE_INTERRUPT:
            raise
        raise UnrelatedDatabase("it has far more tables or views than partwise creates") from error


def _has_our_schema(connection: sqlite3.Connection) -> bool:
    application_id, version = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    if application_id == _APPLICATION_ID:
        if version != VERSION:
            raise OtherSchemaVersion(f"it has schema version {version}, and this version of partwise reads {VERSION}")
        _check_schema(connection)
        return True
    if application_id or version or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise UnrelatedDatabase("it is the database of another program")
    return False


def _check_schema(connection: sqlite3.Connection) -> None:
    """
    Check that the tables are exactly those of partwise.

    So nothing else, such as a trigger, runs when they are used. The indexes that SQLite creates by itself have no text.
    """
    rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL LIMIT 10").fetchall()
    found = {_normal(sql) for (sql,) in rows}
    ours = {_normal(sql.encode()) for sql in _TABLES}
    if not ours <= found <= ours | {_normal(sql.encode()) for sql in _ANALYZE_TABLES}:
        raise UnrelatedDatabase("its tables are not those that partwise creates")


def _normal(sql: object) -> bytes:
    return b" ".join(sql.split()) if isinstance(sql, bytes) else b""


def _create_schema(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    # Another process may have created it in the meantime.
    if not _is_ready(connection):
        for statement in _SCHEMA:
            connection.execute(statement)
    connection.execute("COMMIT")


def _configure(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA fullfsync = ON")
    # Another program uses the file, or it can't be written to. Without this mode writes are slower, but as durable.
    with suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {_synchronous_of_parts(connection)}")


def _synchronous_of_parts(connection: sqlite3.Connection) -> str:
    """Return the least setting with which a power loss does not damage the file."""
    [(mode,)] = connection.execute("PRAGMA journal_mode").fetchall()
    return "NORMAL" if mode == b"wal" else "FULL"


@contextmanager
def durable_transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """
    Enter a transaction that is synced to the medium on exit.

    If an error leaves it, it is rolled back.
    """
    usual = _synchronous_of_parts(connection)
    # Without write-ahead mode a commit removes a journal, and FULL does not sync that: a power loss would undo it.
    connection.execute("PRAGMA synchronous = EXTRA")
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    finally:
        # After a commit this does nothing. The setting can't be changed inside a transaction.
        connection.rollback()
        connection.execute(f"PRAGMA synchronous = {usual}")


def is_damage(error: Exception) -> bool:
    """
    Return whether the content of the file causes an error.

    Otherwise its environment does.
    """
    # The statements are correct and their tables exist, so if SQLite rejects one, the file is damaged.
    code = _code(error)
    return isinstance(error, UnicodeDecodeError) or (code is not None and code not in _ENVIRONMENT)


def looks_like_database(path: str) -> bool:
    """
    Return whether an invalid database may once have been one of partwise.

    A file that is empty or has zeros only may, too. Any other file was probably named by mistake, and must not be
    changed.

    Raises:
        OSError: the file can't be read.
    """
    start = files.read(path, 72, trusted=False)
    if not start.strip(b"\0"):
        return files.is_all_zeros(path, journal.BYTES_MAX)
    mark = _APPLICATION_ID.to_bytes(4, "big")
    return journal.mostly_equal(start[:16], b"SQLite format 3\0") and journal.mostly_equal(start[68:], mark)


def as_os_error(error: Exception) -> OSError:
    """Translate an error of a database to one of the operating system."""
    if isinstance(error, OSError):
        return error
    match _code(error):
        case sqlite3.SQLITE_FULL:
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return OSError(errno.EBUSY, f"another program has kept it locked for {format_seconds(_BUSY_SECONDS)}")
        case sqlite3.SQLITE_INTERRUPT:
            return OSError(errno.ETIMEDOUT, f"SQLite needs more than {_OPERATIONS_MAX:,} operations")
    return OSError(errno.EIO, str(error))


def _code(error: Exception) -> int | None:
    extended: int | None = getattr(error, "sqlite_errorcode", None)
    return None if extended is None else extended & 0xFF
