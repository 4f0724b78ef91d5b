"""
Sessions of a PostgreSQL server, for `PostgresCheckpointStore`.

Needs psycopg 3.3. No wait here is unlimited: neither for a connection, nor for a lock, nor for an answer.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import blake2b
from typing import Any, TypeVar
from weakref import WeakSet

import psycopg
from attrs import define
from psycopg import conninfo
from psycopg.abc import Buffer, PQGen
from psycopg.adapt import Loader

from partwise._units import format_seconds
from partwise._validation import printable
from partwise.errors import InvalidInput

if [int(number) for number in psycopg.__version__.split(".")[:2]] < [3, 3]:
    # Earlier versions do not interrupt a wait for the server: see `_bounded`.
    raise ImportError(f"psycopg 3.3 or later is needed, and {psycopg.__version__} is installed")

#: What a session raises if the server, or the connection to it, fails.
Error = psycopg.Error

#: The one table. It is in the current schema, or wherever the search path of the session finds it.
TABLE = "partwise_checkpoints"

_VERSION_TEXT = "Checkpoints of partwise, schema version "

#: The statements that make each version of the table out of the version before. Version 1 is made out of nothing.
_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # A row for each checkpoint (part_number 0), and one for each of its parts. A row with `damaged` was set aside.
        f"""
        CREATE TABLE {TABLE} (
            name text COLLATE "C" NOT NULL,
            damaged boolean NOT NULL DEFAULT false,
            part_number integer NOT NULL,
            owner text COLLATE "C",
            upload text COLLATE "C",
            record text COLLATE "C",
            checksum text COLLATE "C",
            PRIMARY KEY (name, damaged, part_number)
        )
        """,
    ),
)

#: Seconds: to connect, to execute a statement, to wait for a lock, and to wait for any byte of an answer.
_CONNECT_SECONDS = 10
_STATEMENT_SECONDS = 20
_LOCK_SECONDS = 5
_ANSWER_SECONDS = 25.0

#: The same for the last statements of a session, which nothing depends on: a pause or a cancel must not take long.
_LAST_ANSWER_SECONDS = 2.0

#: Detects a host that lost power, or is cut off: after 10 + 3 x 5 seconds without an answer to a probe, or 20 seconds
#: without the acknowledgement of data. By default systems take two hours, and the claim would be held as long.
_KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
_UNACKNOWLEDGED_MS = 20_000

_CONNECTION = {
    "connect_timeout": _CONNECT_SECONDS,
    "fallback_application_name": "partwise",
    "keepalives": 1,
    **_KEEPALIVE,
    "tcp_user_timeout": _UNACKNOWLEDGED_MS,
}

#: The settings of a session, by the server version that has them.
_SETTINGS = {
    "statement_timeout": f"{_STATEMENT_SECONDS}s",
    "lock_timeout": f"{_LOCK_SECONDS}s",
    "idle_in_transaction_session_timeout": f"{_STATEMENT_SECONDS}s",
    "default_transaction_isolation": "read committed",
    **{f"tcp_{name}": str(value) for name, value in _KEEPALIVE.items()},
    "tcp_user_timeout": str(_UNACKNOWLEDGED_MS),
}
_SETTINGS_14 = {"idle_session_timeout": "0"}  # between two parts the session is idle

_FIND_TABLE = f"""
SELECT current_schema(), namespace.nspname, obj_description(class.oid, 'pg_class')
FROM (SELECT to_regclass('{TABLE}') AS oid) AS wanted
LEFT JOIN pg_class AS class ON class.oid = wanted.oid
LEFT JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
"""  # noqa: S608  # constants

#: The lock of a name, as the server lists it while a session holds it.
_LOCK = (
    "FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND classid = %(high)s::bigint::oid AND objid = %(low)s::bigint::oid"
)

_OLDEST_SERVER = 12

_REASON_MAX = 300

_T = TypeVar("_T")


class UnusableTable(Exception):
    """
    This version of partwise can't use the table.

    The message says why; its subject is "it".
    """


class NoAnswer(psycopg.OperationalError):
    """The server was silent, and the effect of the statement is not known."""


# --- what an error means ---------------------------------------------------------------------------------------------

#: By SQLSTATE, or its class. A fail-over or a restart raises the first four.
_TRANSIENT = re.compile(
    "08...|57P0[1235]|25006|53300"  # connection, shutdown or start, a standby, too many connections
    "|57014|55P03|40...|53200"  # a timeout, a lock, a conflict, memory
)

#: A connection that fails has no SQLSTATE. These words in its message are those of an outage; others, such as a wrong
#: password, are permanent.
_OUTAGE = re.compile(
    "refused|timeout|timed out|expired|closed the connection|reset by peer|unreachable|no route|no such file"
    "|could not receive|could not send|starting up|shutting down|recovery|too many clients|connection slots",
    re.IGNORECASE,
)


def is_transient(error: Error, *, worked: bool) -> bool:
    """
    Return whether a repetition may succeed.

    `worked`: whether the same store has written before. Then the address, the password and the rights are correct, and
    a connection that fails is an outage.
    """
    state = error.sqlstate
    if state is not None:
        return bool(_TRANSIENT.fullmatch(state)) and (worked or state != "25006")
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    return worked or bool(_OUTAGE.search(str(error)))


def reason(error: Error) -> str:
    """Return what happened, in one line."""
    text = error.diag.message_primary or str(error) or type(error).__name__
    return printable(" ".join(text.split())[:_REASON_MAX])


# --- connections -----------------------------------------------------------------------------------------------------


def parse(target: str) -> dict[str, Any]:
    """
    Return the parameters of a connection string or URL.

    Raises:
        InvalidInput: it is not valid. The message does not contain it, since it may have a password.
    """
    try:
        found = conninfo.conninfo_to_dict(target)
    except (psycopg.Error, ValueError):
        # The error quotes parts of the string.
        found = None
    if found is None or _has_part_of_password(target, found):
        raise InvalidInput(
            "the URL of a PostgreSQL database is not valid",
            hint="Use postgresql://USER@HOST/DATABASE, and percent-encode special characters in each of them",
        )
    return {**_CONNECTION, **found, "client_encoding": "UTF8"}


def _has_part_of_password(target: str, found: Mapping[str, Any]) -> bool:
    """
    Return whether a host, port or database may have part of a password in it.

    libpq ends the password of a URL at the first @ or slash that is not percent-encoded.
    """
    host, port, database = (str(found.get(name) or "") for name in ("host", "port", "dbname"))
    # A string of parameters names each of them. So does a URL with nothing before its path name the host, which can be
    # the directory of a socket.
    is_url, has_host = "://" in target, re.search("://[^/?]", target) is not None
    return (
        (has_host and any("@" in one[1:] for one in host.split(",")))  # that of an abstract socket begins with it
        or not re.fullmatch("[0-9,]*", port)
        or (is_url and "@" in database and "%40" not in target)
    )


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for the server for a limited time."""

    is_ending = False

    def wait(self, gen: PQGen[_T], *args: Any, **more: Any) -> _T:
        return super().wait(_bounded(gen, _LAST_ANSWER_SECONDS if self.is_ending else _ANSWER_SECONDS), *args, **more)


def _bounded(generator: PQGen[_T], seconds: float) -> PQGen[_T]:
    """
    Raise NoAnswer once the server has been silent for this time.

    It neither sends nor takes any byte. The timeouts of the server do not help if it is stopped or cut off. psycopg
    reports every tenth of a second that nothing was ready.
    """
    moved = time.monotonic()
    try:
        wanted = next(generator)
        while True:
            ready = yield wanted
            if ready:
                moved = time.monotonic()
            elif time.monotonic() - moved > seconds:
                raise NoAnswer(f"the server has not answered for {format_seconds(seconds)}")
            wanted = generator.send(ready)
    except StopIteration as done:
        value: _T = done.value
        return value


class _BytesLoader(Loader):
    """Returns text as bytes: that of a damaged row can be in any encoding."""

    def load(self, data: Buffer) -> bytes:
        return bytes(data)


@define(frozen=True)
class _Table:
    """
    The table as a session finds it.

    Args:
        schema: where it is, or would be created; None if there is no schema for it.
        version: 0 if there is no table.
    """

    schema: str | None
    version: int


class Session:
    """
    A connection with its settings. `connect` returns one.

    Not for several threads at the same time.
    """

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._table = _Table(None, 0)
        _sessions.add(self)

    # --- use ---------------------------------------------------------------------------------------------------------

    @property
    def has_table(self) -> bool:
        """Whether the table exists."""
        return self._table.version > 0

    @property
    def is_broken(self) -> bool:
        """Whether the session has ended, and its locks with it."""
        # After an answer that was given up, the connection still waits for it.
        return self._connection.broken or self._connection.closed or not self._is_idle()

    @property
    def process(self) -> int:
        """The process id of the session's process on the server."""
        return self._connection.info.backend_pid

    def execute(self, statement: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """Execute a statement, and return its rows."""
        cursor = self._connection.execute(statement, values)
        return cursor.fetchall() if cursor.description else []

    def transaction(self) -> Any:
        """Return a context manager for a transaction, which an error rolls back."""
        return self._connection.transaction()

    def try_lock(self, name: str) -> bool:
        """Acquire the lock of this name for the rest of the session; never wait."""
        [(locked,)] = self.execute("SELECT pg_try_advisory_lock(%(key)s)", {"key": self._lock_key(name)})
        return bool(locked)

    def prepare_to_end(self) -> None:
        """Wait less for the statements that follow, the last ones."""
        self._connection.is_ending = True

    def unlock(self, name: str) -> None:
        """Release the lock of this name."""
        self.execute("SELECT pg_advisory_unlock(%(key)s)", {"key": self._lock_key(name)})

    def is_locked(self, name: str) -> bool:
        """Return whether any session has the lock of this name."""
        return bool(self.execute(f"SELECT pid {_LOCK}", self._lock_values(name)))

    def end_session(self, process: int, *, holding: str) -> None:
        """End the session of a process on the server, if it holds the lock of this name."""
        values = {**self._lock_values(holding), "pid": process}
        self.execute(f"SELECT pg_terminate_backend(pid) {_LOCK} AND pid = %(pid)s", values)

    def close(self) -> None:
        """End the session, and release its locks."""
        _sessions.discard(self)
        with suppress(psycopg.Error):
            self._connection.close()

    def abandon(self) -> None:
        """
        Drop the connection in a forked child, where it is that of the parent.

        Closing it would end the session of the parent; keeping it open would keep the session alive when the parent
        dies.
        """
        with suppress(psycopg.Error, OSError):
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, self._connection.pgconn.socket, inheritable=False)
            os.close(null)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _is_idle(self) -> bool:
        return self._connection.info.transaction_status in (
            psycopg.pq.TransactionStatus.IDLE,
            psycopg.pq.TransactionStatus.INTRANS,
            psycopg.pq.TransactionStatus.INERROR,
        )

    def _lock_values(self, name: str) -> dict[str, object]:
        key = self._lock_key(name) % 2**64
        return {"high": key >> 32, "low": key % 2**32}

    def _lock_key(self, name: str) -> int:
        digest = blake2b(f"partwise\0{self._table.schema}\0{name}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big", signed=True)

    def _set_up(self) -> None:
        version = self._connection.info.server_version // 10_000
        if version < _OLDEST_SERVER:
            raise UnusableTable(f"it is on PostgreSQL {version}, and partwise needs version {_OLDEST_SERVER} or later")
        settings = {**_SETTINGS, **(_SETTINGS_14 if version >= 14 else {})}
        calls = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())
        # Durability is what the administrator chose for it, but not less than the disk of the server.
        durable = (
            "set_config('synchronous_commit',"
            " CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'"
            " ELSE current_setting('synchronous_commit') END, false)"
        )
        self.execute(f"SELECT {calls}, {durable}", {})
        self._find_table()

    def _find_table(self) -> None:
        [(current, schema, comment)] = self.execute(_FIND_TABLE, {})
        self._table = _Table(current, 0) if schema is None else _Table(schema, _version_of(comment))

    def _migrate(self, *, create: bool) -> None:
        """Bring the table to the current version, or create it."""
        if self._table.version == len(_MIGRATIONS) or not (create or self.has_table):
            return
        with self.transaction():
            # Another host may do it at the same time.
            self.execute("SELECT pg_advisory_xact_lock(%(key)s)", {"key": self._lock_key("")})
            self._find_table()
            for statement in _statements_from(self._table.version):
                self.execute(statement, {})
        self._find_table()


def _version_of(comment: bytes | None) -> int:
    text = (comment or b"")[:100].decode("ascii", "replace")
    found = re.fullmatch(re.escape(_VERSION_TEXT) + "([1-9][0-9]{0,5})", text)
    if found is None:
        raise UnusableTable(f"its table {TABLE} was not created by partwise")
    version = int(found[1])
    if version > len(_MIGRATIONS):
        raise UnusableTable(
            f"its table {TABLE} has schema version {version}, and this version of partwise reads {len(_MIGRATIONS)}"
        )
    return version


def _statements_from(version: int) -> Iterator[str]:
    if version == len(_MIGRATIONS):
        return
    for statements in _MIGRATIONS[version:]:
        yield from statements
    yield f"COMMENT ON TABLE {TABLE} IS '{_VERSION_TEXT}{len(_MIGRATIONS)}'"


def connect(parameters: Mapping[str, Any], *, create: bool) -> Session:
    """
    Connect, and find the table.

    Args:
        parameters: what `parse` returned.
        create: create the table if there is none. One of an earlier version is brought to the current one anyway.

    Raises:
        Error: the connection fails, or a statement.
        UnusableTable: the table can't be used.
    """
    connection = _Connection.connect("", autocommit=True, **parameters)
    session = Session(connection)
    try:
        connection.adapters.register_loader("text", _BytesLoader)
        session._set_up()  # noqa: SLF001  # of this module
        session._migrate(create=create)  # noqa: SLF001
    except BaseException:
        session.close()
        raise
    return session


# --- forks -----------------------------------------------------------------------------------------------------------

_sessions: WeakSet[Session] = WeakSet()

#: In a forked child: the sessions of its parent. They are never closed, not even by the garbage collector.
_inherited: list[Session] = []


def _abandon_after_fork() -> None:
    for session in list(_sessions):
        session.abandon()
        _inherited.append(session)
    _sessions.clear()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    os.register_at_fork(after_in_child=_abandon_after_fork)
