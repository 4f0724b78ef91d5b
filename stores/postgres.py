"""
Checkpoints in a PostgreSQL database, for uploads of many hosts.

Needs psycopg 3.3: ``pip install "partwise[postgres]"``, and PostgreSQL 12 or later.

How the guarantees are met:

- A claim is an advisory lock of a session of its own, which the server releases when the session ends: with its
  process, or within 25 seconds if its host loses power or is cut off.
- A session may end while its process is alive. Then another host can claim the name, so each claim writes a random
  *owner* into the row of the checkpoint, and each later write is one statement that changes nothing unless the owner is
  still the same. After a lost connection the store connects again and takes the lock again. If the owner is another one
  by then, the claim is lost: `ClaimLost`.
- `save` and `delete` are one statement, on the medium when they return. `append_part` is one row; it is not synced, so
  if the database server crashes, the parts of the last second may be lost. The storage's list has them.
- Every row has a checksum over its text and its key.

The owner is the random value, the process id and the name of the host, so that others can see who holds the claim.

Transient failures, such as a restart of the server, are retryable.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from weakref import WeakValueDictionary

from attrs import define, field

from partwise._closing import Closing
from partwise._extras import install_hint
from partwise._validation import check_type, printable
from partwise.checkpoint import Checkpoint
from partwise.errors import (
    CheckpointDamaged,
    CheckpointError,
    CheckpointUnwritable,
    ClaimLost,
    InvalidInput,
)
from partwise.model import MIB, PART_NUMBER_MAX, ClaimOwner, UploadedPart
from partwise.stores import _journal as journal
from partwise.stores._arguments import (
    check_checkpoint,
    check_name,
    check_optional_upload_id,
    check_part,
    check_upload_id,
)
from partwise.stores._errors import busy_error, claim_lost_error, closed_error, describe_upload, not_found_error
from partwise.stores._locations import file_name
from partwise.stores._owners import parse_record, record_text

if TYPE_CHECKING:
    from partwise.stores._postgres import Session

_log = logging.getLogger(__name__)

#: Checkpoints that `scan` finds in one statement.
_PAGE = 500

#: An attempt to reconnect for a part is not repeated before this multiple of its duration, so that the upload does not
#: spend its time waiting for a server that does not answer.
_PAUSE = 3

_T = TypeVar("_T")


@define(eq=False)
class _Claim:
    """
    A claim that is held, or was held and is lost.

    Weakly referenced by its store, so that it ends with the frame of an interrupted `claim`.

    Args:
        key: of the rows.
        owner: the value in the row of the checkpoint, which differs for each claim, and names this process.
        lock: for all below; held during each use of the session.
        session: None if it has ended.
        process: the process id of the last session on the server.
        is_lost: whether another run has claimed the name since.
        failure: why the last session has ended.
        pause_until: no part is appended before this time of the monotonic clock without a session.
        damage: what was found in rows that are being set aside, until it is reported.
    """

    name: str
    key: str
    owner: str = field(factory=lambda: f"{secrets.token_hex(16)} {record_text()}")
    lock: threading.Lock = field(factory=threading.Lock)
    session: Session | None = None
    process: int = 0
    is_lost: bool = False
    failure: str = ""
    pause_until: float = 0.0
    damage: journal.CorruptJournal | None = None

    def values(self, **more: object) -> dict[str, object]:
        """Return the values of a statement."""
        return {"name": self.key, "owner": self.owner, **more}

    def end_session_if_useless(self) -> None:
        """End a session that is broken, or whose claim is lost."""
        if self.session is not None and (self.is_lost or self.session.is_broken):
            self.end_session()

    def end_session(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            session.close()


class PostgresCheckpointStore(Closing):
    """
    Checkpoints in the table ``partwise_checkpoints`` of a PostgreSQL database.

    Safe to use from many threads, processes and hosts. The table is created by the first claim, in the first schema of
    the search path. Each claim has a connection while it is held; other calls connect for their duration. Connect to
    the server directly, or to a pooler that pools sessions: one that pools transactions or statements has no locks of
    sessions.

    It can't be pickled, as its URL may contain a password. A forked child can use it, but has no claims.

    Args:
        url: ``postgresql://USER@HOST:PORT/DATABASE?PARAMETERS``, or any other connection string of libpq. What it lacks
            comes from the environment, such as ``PGPASSWORD``, and from the user's password file.

    Raises:
        InvalidInput: the URL is not valid, or psycopg is not installed.
    """

    def __init__(self, url: str) -> None:
        check_type("the URL of a database", url, str, "a string such as postgresql://user@host/database")
        self._driver = _import_driver()
        self._parameters = self._driver.parse(url)
        self._where = _describe_database(self._parameters)
        self._closed = False
        self._worked = False
        self._reset()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._where}{' closed' if self._closed else ''}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a PostgresCheckpointStore can't be pickled, as its URL may contain a password: open another")

    def close(self) -> None:
        """
        Close the store.

        A claim that is held lasts until its context ends. Closing twice is fine.
        """
        self._closed = True

    def is_claimed(self, name: str) -> bool:
        """
        Return whether a run, on this or another host, holds the claim on this name.

        Unlike an attempt to claim it, this does not disturb a run that has lost its connection for a moment.

        Raises:
            CheckpointError: the server can't be asked. Retryable if that may pass by.
        """
        key = self._key_of(name)
        return self._read(name, lambda session: session.is_locked(key), default=False)

    @property
    def where(self) -> str:
        """The URL of the database, without user and password."""
        return self._where

    def claim_owner(self, name: str) -> ClaimOwner | None:
        """
        Return which process made the last claim on this name.

        None if that is not known, as if an earlier version of partwise made it. It decides nothing; only `is_claimed`
        tells whether the claim is held.

        Raises:
            CheckpointError: the server can't be asked. Retryable if that may pass by.
        """
        key = self._key_of(name)
        rows: list[tuple[Any, ...]] = self._read(
            name, lambda session: session.execute(_GET_OWNER, {"name": key}), default=[]
        )
        return next((parse_record(owner.partition(b" ")[2]) for (owner,) in rows if owner is not None), None)

    # --- the protocol ------------------------------------------------------------------------------------------------

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        """
        Hold the exclusive right to this name; see `CheckpointStore.claim`.

        Raises:
            CheckpointBusy: on entering: another run, on this or another host, holds it.
            CheckpointUnwritable: on entering: the server can't be reached, or the table can't be used. Retryable if
                that may pass by.
        """
        claim = _Claim(name, self._key_of(name))
        process = os.getpid()
        with self._lock:
            taken = self._claims.setdefault(claim.key, claim) is not claim
        if taken:
            raise busy_error(self._describe(name), by="another run in this process", name=name, where=self._where)
        try:
            with claim.lock:
                self._acquire(claim)
            yield
        finally:
            if os.getpid() == process:
                with claim.lock:
                    self._release(claim)
                with self._lock:
                    self._claims.pop(claim.key, None)

    def check_claim(self, name: str) -> None:
        """
        Check that the claim is still held; see `SupportsClaimCheck`.

        Raises:
            ClaimLost: it is not.
            CheckpointError: the server can't be asked. Retryable if that may pass by.
        """
        key = self._key_of(name)
        claim = self._claims.get(key)
        if claim is None:
            raise ClaimLost(
                f"this store does not hold the claim of the checkpoint {name}", name=name, where=self._where
            )
        self._use(claim, lambda session: self._check_owner(session, claim), writing=False)

    def load(self, name: str) -> Checkpoint | None:
        """
        Return the checkpoint with its parts; see `CheckpointStore.load`.

        While this store holds the claim, rows that can't be trusted are set aside: their column ``damaged`` is true.

        Raises:
            CheckpointDamaged: it can't be trusted.
            CheckpointError: the server can't be asked. Retryable if that may pass by.
        """
        key = self._key_of(name)
        claim = self._claims.get(key)
        if claim is not None and not claim.is_lost:
            return self._use(claim, lambda session: self._load_claimed(session, claim), writing=False)
        try:
            return self._read(name, lambda session: _read(session, key), default=None)
        except journal.CorruptJournal as damage:
            raise self._damaged(name, damage, kept="It was not changed") from damage

    def save(self, checkpoint: Checkpoint) -> None:
        """
        Keep the checkpoint, durably; see `CheckpointStore.save`.

        Without a claim it holds one for the duration of the call; so do the other methods that write.

        Raises:
            ClaimLost: another run has claimed the name since.
            CheckpointUnwritable: it can't be written; what was stored before is still there, complete. Retryable if
                that may pass by.
        """
        check_checkpoint(checkpoint)
        header = journal.header_text(checkpoint)
        upload = _upload_digest(checkpoint.upload_id)

        def save(session: Session, claim: _Claim) -> None:
            key = claim.key
            rows = [_part_row(key, upload, part) for part in checkpoint.parts]
            values = claim.values(
                upload=upload,
                record=header,
                checksum=_checksum(header.encode(), key, 0, upload),
                numbers=[row["number"] for row in rows],
                records=[row["record"] for row in rows],
                checksums=[row["checksum"] for row in rows],
            )
            if session.execute(_SAVE, values) != [(1,)]:
                raise self._lost(claim)

        self._write(checkpoint.name, save)

    def append_part(self, name: str, upload_id: str, part: UploadedPart) -> None:
        """
        Add one part; see `CheckpointStore.append_part`.

        While the server can't be reached, it connects again only now and then, and fails at once otherwise.

        Raises:
            CheckpointError: there is no checkpoint of this name.
            ClaimLost: the checkpoint is that of another upload, or another run has claimed the name since.
            CheckpointUnwritable: it can't be written. Retryable if that may pass by.
        """
        check_upload_id(upload_id)
        check_part(part)
        upload = _upload_digest(upload_id)

        def append(session: Session, claim: _Claim) -> None:
            values = claim.values(upload=upload, **_part_row(claim.key, upload, part))
            if session.execute(_APPEND, values):
                return
            self._check_owner(session, claim)
            row = _read_header_row(session, claim.key)
            if row is None:
                raise not_found_error(name, self._where)
            try:
                header = row.header(claim.key)
            except journal.CorruptJournal as damage:
                raise self._damaged(name, damage, kept="It was not changed") from damage
            raise claim_lost_error(upload_id, header.upload_id, name=name, where=self._where)

        self._write(name, append, pausing=True)

    def delete(self, name: str, upload_id: str | None) -> None:
        """
        Delete the checkpoint and its damaged rows; see `CheckpointStore.delete`.

        Raises:
            ClaimLost: the checkpoint is that of another upload, or another run has claimed the name since.
            CheckpointUnwritable: it can't be deleted. Retryable if that may pass by.
        """
        check_optional_upload_id(upload_id)
        upload = _upload_digest(upload_id)

        def delete(session: Session, claim: _Claim) -> None:
            if session.execute(_DELETE, claim.values(upload=upload, anyway=False)) == [(1,)]:
                return
            self._check_owner(session, claim)
            row = _read_header_row(session, claim.key)
            with suppress(journal.CorruptJournal):  # damaged, and so deleted whatever its upload is
                header = None if row is None else row.header(claim.key)
                if header is not None and header.upload_id != upload_id:
                    raise claim_lost_error(upload_id, header.upload_id, name=name, where=self._where)
            session.execute(_DELETE, claim.values(upload=upload, anyway=True))

        self._write(name, delete)

    def scan(self) -> Iterable[Checkpoint]:
        """
        Return every readable checkpoint; see `CheckpointStore.scan`.

        Damaged ones are not moved; the logger ``partwise.stores.postgres`` gets a warning for each.

        Raises:
            CheckpointError: while iterating: the server can't be asked. Retryable if that may pass by.
        """
        self._check_open()
        return self._scan()

    # --- inside: claims ----------------------------------------------------------------------------------------------

    def _acquire(self, claim: _Claim) -> None:
        with self._translating(claim.name, writing=True), self._new_session(create=True) as session:
            if not session.try_lock(claim.key):
                upload = _describe(session, claim.name, claim.key)
                raise busy_error(upload, by="another process", name=claim.name, where=self._where)
            session.execute(_TAKE, claim.values())
        claim.session, claim.process = session, session.process
        self._worked = True

    def _resume_or_pause(self, claim: _Claim) -> Session:
        start = time.monotonic()
        try:
            return self._resume(claim)
        except BaseException:
            now = time.monotonic()
            claim.pause_until = now + _PAUSE * (now - start)
            raise

    def _resume(self, claim: _Claim) -> Session:
        """Return a new session that holds the lock, after the previous one has ended."""
        with self._new_session(create=False) as session:
            if not session.has_table:
                raise self._lost(claim)
            locked = session.try_lock(claim.key)
            self._check_owner(session, claim)
            if not locked:
                # Most likely the server has not noticed yet that the previous session has lost its client.
                session.end_session(claim.process, holding=claim.key)
                claim.failure = "the previous session of this run has not ended yet"
                raise self._not_done(claim.failure, claim.name, writing=True, retryable=True)
        claim.process = session.process
        _log.info("%s: connected again, and the claim of the checkpoint %s is held", self._where, claim.name)
        return session

    @contextmanager
    def _new_session(self, *, create: bool) -> Iterator[Session]:
        """Connect; end the session if an error leaves the context."""
        session = self._driver.connect(self._parameters, create=create)
        try:
            yield session
        except BaseException:
            session.close()
            raise

    def _release(self, claim: _Claim) -> None:
        try:
            if claim.session is not None and not claim.is_lost:
                claim.session.prepare_to_end()
                claim.session.execute(_RELEASE, claim.values())
                # Not left to the end of the session, which the server notices only after this call has returned.
                claim.session.unlock(claim.key)
        except self._driver.Error as error:
            # The lock ends with the session. At most an empty row is left, which the next claim of this name uses.
            _log.debug("%s: the row of an ended claim is left: %s", self._where, self._reason(error))
        finally:
            claim.end_session()

    def _check_owner(self, session: Session, claim: _Claim) -> None:
        if session.execute(_OWNER, claim.values()) != [(True,)]:
            raise self._lost(claim)

    def _lost(self, claim: _Claim) -> ClaimLost:
        claim.is_lost = True
        return ClaimLost(
            f"another run has claimed the checkpoint {claim.name} in {self._where} while the connection to it was"
            " interrupted. This run has changed nothing since, and the upload belongs to the other one",
            name=claim.name,
            where=self._where,
            hint="Wait until that upload has finished, or stop it, and repeat the call",
        )

    # --- inside: sessions --------------------------------------------------------------------------------------------

    def _use(self, claim: _Claim, work: Callable[[Session], _T], *, writing: bool, pausing: bool = False) -> _T:
        """
        Call `work` with a session that holds the lock of the claim.

        It is a new one if the last one has ended. One that ended while it was not used is replaced at once. With
        `pausing`, no new one is tried for a while after one has failed.
        """
        with claim.lock:
            if claim.is_lost:
                raise self._lost(claim)
            if pausing and claim.session is None and time.monotonic() < claim.pause_until:
                raise self._not_done(claim.failure, claim.name, writing=writing, retryable=True)
            try:
                with self._translating(claim.name, writing=writing, claim=claim):
                    if claim.session is not None:
                        try:
                            return work(claim.session)
                        except self._driver.Error as error:
                            # That it has ended is noticed at its next use, which may be long after. Each statement has
                            # the same effect if it is executed twice.
                            if not claim.session.is_broken or isinstance(error, self._driver.NoAnswer):
                                raise
                            claim.end_session()
                    claim.session = self._resume_or_pause(claim)
                    return work(claim.session)
            finally:
                claim.end_session_if_useless()

    def _write(self, name: str, work: Callable[[Session, _Claim], None], *, pausing: bool = False) -> None:
        key = self._key_of(name)
        claim = self._claims.get(key)
        if claim is None:
            with self.claim(name):
                self._write(name, work)
            return
        self._use(claim, lambda session: work(session, claim), writing=True, pausing=pausing)

    def _read(self, name: str, work: Callable[[Session], _T], *, default: _T) -> _T:
        """Call `work` with a new session, or return `default` if there is no table."""
        with self._translating(name, writing=False):
            session = self._driver.connect(self._parameters, create=False)
            try:
                return work(session) if session.has_table else default
            finally:
                session.close()

    @contextmanager
    def _translating(self, name: str, *, writing: bool, claim: _Claim | None = None) -> Iterator[None]:
        try:
            yield
        except self._driver.UnusableTable as error:
            raise self._not_done(
                f"{error}. It was not changed",
                name,
                writing=writing,
                hint="Use the version of partwise that created it, or another schema",
            ) from error
        except self._driver.Error as error:
            reason = self._reason(error)
            if claim is not None:
                claim.failure = reason
            transient = self._driver.is_transient(error, worked=self._worked)
            raise self._not_done(reason, name, writing=writing, retryable=transient) from error

    def _not_done(
        self, reason: str, name: str, *, writing: bool, retryable: bool = False, hint: str = ""
    ) -> CheckpointError:
        if writing:
            message = f"the checkpoint can't be written to {self._where}: {reason}"
            return CheckpointUnwritable(message, name=name, where=self._where, retryable=retryable, hint=hint)
        message = f"the checkpoint in {self._where} can't be read: {reason}"
        return CheckpointError(message, name=name, where=self._where, retryable=retryable, hint=hint)

    def _reason(self, error: Exception) -> str:
        reason: str = self._driver.reason(error)
        password = self._parameters.get("password")
        return reason.replace(password, "***") if password else reason

    # --- inside: the rest --------------------------------------------------------------------------------------------

    def _reset(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._claims: WeakValueDictionary[str, _Claim] = WeakValueDictionary()  # by key, those of this store object

    def _check_open(self) -> None:
        if self._closed:
            raise closed_error(self)
        if self._process != os.getpid():
            self._reset()  # a forked child has none of its parent's claims

    def _key_of(self, name: str) -> str:
        self._check_open()
        return file_name(check_name(name))

    def _describe(self, name: str) -> str:
        try:
            return self._read(name, lambda session: _describe(session, name, file_name(name)), default="")
        except CheckpointError:
            return f"the upload {name}"

    def _load_claimed(self, session: Session, claim: _Claim) -> Checkpoint | None:
        try:
            checkpoint = _read(session, claim.key)
        except journal.CorruptJournal as damage:
            claim.damage = damage
            self._check_owner(session, claim)
            _set_aside(session, claim)
        else:
            if checkpoint is not None or claim.damage is None:
                return checkpoint
        # The rows may have been set aside by an earlier attempt, whose response was lost.
        found, claim.damage = claim.damage, None
        kept = "It was set aside in the same table, where its rows have the column damaged"
        raise self._damaged(claim.name, found, kept=kept) from found

    def _damaged(self, name: str, damage: journal.CorruptJournal, *, kept: str) -> CheckpointDamaged:
        return CheckpointDamaged(
            f"the checkpoint {name} in {self._where} can't be trusted: {damage.reason}. {kept}, and its upload can"
            " only start again",
            name=name,
            where=self._where,
            upload_id=damage.upload_id,
        )

    def _scan(self) -> Iterator[Checkpoint]:
        nothing: tuple[list[str], list[Checkpoint]] = ([], [])
        after = ""
        while True:
            names, checkpoints = self._read("", partial(self._page, after), default=nothing)
            yield from checkpoints
            if len(names) < _PAGE or names[-1] <= after:  # a name that is not one of partwise may not be decoded
                return
            after = names[-1]

    def _page(self, after: str, session: Session) -> tuple[list[str], list[Checkpoint]]:
        """Return the next names, at most `_PAGE`, and their readable checkpoints."""
        names = [
            name.decode("utf-8", "replace") for (name,) in session.execute(_NAMES, {"after": after, "limit": _PAGE})
        ]
        checkpoints = []
        for name in names:
            try:
                checkpoint = _read(session, name)
            except journal.CorruptJournal as damage:
                _log.warning(
                    "%s in %s is left out: it can't be trusted: %s", printable(name), self._where, damage.reason
                )
            else:
                if checkpoint is not None:
                    checkpoints.append(checkpoint)
        return names, checkpoints


# --- rows ------------------------------------------------------------------------------------------------------------
#
# The row with part number 0 is that of the checkpoint. While its `record` is null, nothing is saved: then it only holds
# the owner of the claim. All statements that write need the owner, so that they change nothing once another run has
# claimed the name.

_HEADER_ROW = "name = %(name)s AND NOT damaged AND part_number = 0"

_TAKE = (
    "INSERT INTO partwise_checkpoints (name, part_number, owner) VALUES (%(name)s, 0, %(owner)s)"
    " ON CONFLICT (name, damaged, part_number) DO UPDATE SET owner = excluded.owner"
)

_OWNER = f"SELECT owner = %(owner)s FROM partwise_checkpoints WHERE {_HEADER_ROW}"  # noqa: S608  # constants

_GET_OWNER = f"SELECT left(owner, 400) FROM partwise_checkpoints WHERE {_HEADER_ROW}"  # noqa: S608  # constants

_RELEASE = f"DELETE FROM partwise_checkpoints WHERE {_HEADER_ROW} AND owner = %(owner)s AND record IS NULL"  # noqa: S608

_SAVE = f"""
WITH parts AS (
    SELECT * FROM unnest(%(numbers)s::integer[], %(records)s::text[], %(checksums)s::text[])
        AS parts (part_number, record, checksum)
), header AS (
    UPDATE partwise_checkpoints SET upload = %(upload)s, record = %(record)s, checksum = %(checksum)s
    WHERE {_HEADER_ROW} AND owner = %(owner)s
    RETURNING name
), removed AS (
    DELETE FROM partwise_checkpoints AS old USING header
    WHERE old.name = header.name AND NOT old.damaged AND old.part_number <> 0
        AND NOT EXISTS (SELECT FROM parts WHERE parts.part_number = old.part_number)
), added AS (
    INSERT INTO partwise_checkpoints (name, part_number, record, checksum)
    SELECT header.name, parts.part_number, parts.record, parts.checksum FROM header, parts
    ON CONFLICT (name, damaged, part_number) DO UPDATE SET record = excluded.record, checksum = excluded.checksum
)
SELECT count(*)::integer FROM header
"""  # noqa: S608  # constants

#: The commit does not wait for the disk.
_APPEND = f"""
INSERT INTO partwise_checkpoints (name, part_number, record, checksum)
SELECT name, %(number)s, %(record)s, %(checksum)s FROM partwise_checkpoints
WHERE {_HEADER_ROW} AND owner = %(owner)s AND upload = %(upload)s AND record IS NOT NULL
    AND set_config('synchronous_commit', 'off', true) IS NOT NULL
ON CONFLICT (name, damaged, part_number) DO UPDATE SET record = excluded.record, checksum = excluded.checksum
RETURNING part_number
"""  # noqa: S608  # constants

_DELETE = f"""
WITH header AS (
    UPDATE partwise_checkpoints SET upload = NULL, record = NULL, checksum = NULL
    WHERE {_HEADER_ROW} AND owner = %(owner)s AND (record IS NULL OR upload = %(upload)s OR %(anyway)s)
    RETURNING name
), removed AS (
    DELETE FROM partwise_checkpoints AS old USING header
    WHERE old.name = header.name AND (old.damaged OR old.part_number <> 0)
)
SELECT count(*)::integer FROM header
"""  # noqa: S608  # constants

#: The row of the checkpoint, and after it those of its parts unless they are too large.
_LOAD = f"""
WITH total AS MATERIALIZED (
    SELECT count(*) AS row_count, coalesce(sum(octet_length(record)), 0)::bigint AS byte_count
    FROM partwise_checkpoints WHERE name = %(name)s AND NOT damaged AND part_number <> 0
)
SELECT part_number, left(upload, 100), left(checksum, 100),
    CASE WHEN octet_length(record) <= {journal.LINE_MAX} THEN record END, octet_length(record),
    total.row_count, total.byte_count
FROM partwise_checkpoints, total
WHERE name = %(name)s AND NOT damaged AND (
    part_number = 0 OR (total.row_count <= {PART_NUMBER_MAX} AND total.byte_count <= {journal.BYTES_MAX})
)
ORDER BY part_number <> 0, part_number
"""  # noqa: S608  # constants

_LOAD_HEADER = f"""
SELECT left(upload, 100), left(checksum, 100),
    CASE WHEN octet_length(record) <= {journal.LINE_MAX} THEN record END, octet_length(record)
FROM partwise_checkpoints WHERE {_HEADER_ROW}
"""  # noqa: S608  # constants

_NAMES = """
SELECT name FROM partwise_checkpoints
WHERE name > %(after)s AND NOT damaged AND part_number = 0 AND record IS NOT NULL
ORDER BY name LIMIT %(limit)s
"""  # constants

#: In one transaction. A null owner: nothing else than the row of a claim has one.
_SET_ASIDE = (
    f"SELECT name FROM partwise_checkpoints WHERE {_HEADER_ROW} AND owner = %(owner)s FOR UPDATE",  # noqa: S608
    "DELETE FROM partwise_checkpoints WHERE name = %(name)s AND damaged",
    "UPDATE partwise_checkpoints SET damaged = true, owner = NULL WHERE name = %(name)s AND NOT damaged",
    "INSERT INTO partwise_checkpoints (name, part_number, owner) VALUES (%(name)s, 0, %(owner)s)",
)


@define(frozen=True)
class _HeaderRow:
    """The row of a checkpoint, not verified. `record` is None if it is too large."""

    upload: bytes | None
    checksum: bytes | None
    record: bytes | None

    def header(self, key: str) -> Checkpoint:
        """Return the checkpoint without its parts; raise CorruptJournal."""
        if self.record is None:
            raise journal.CorruptJournal(f"its header is longer than {journal.LINE_MAX:,} bytes")
        upload = (self.upload or b"").decode("ascii", "replace")
        if _checksum(self.record, key, 0, upload).encode() != self.checksum:
            raise journal.CorruptJournal("its header does not match its checksum")
        header = journal.header_from_text(self.record)
        if file_name(header.name) != key:
            raise journal.CorruptJournal(f"it is that of {describe_upload(header)}")
        if _upload_digest(header.upload_id) != upload:
            raise journal.CorruptJournal("its row is that of another upload", header=header)
        return header


def _read_header_row(session: Session, key: str) -> _HeaderRow | None:
    """Return the row of a checkpoint, or None if nothing is saved."""
    for upload, checksum, record, length in session.execute(_LOAD_HEADER, {"name": key}):
        if length is not None:
            return _HeaderRow(upload, checksum, record)
    return None


def _read(session: Session, key: str) -> Checkpoint | None:
    """Read a checkpoint from its rows; raises CorruptJournal."""
    rows = session.execute(_LOAD, {"name": key})
    if not rows:
        return None
    number, upload, checksum, record, length, row_count, byte_count = rows.pop(0)
    if number != 0 or length is None:
        return None  # no row of a checkpoint, or nothing is saved in it
    header = _HeaderRow(upload, checksum, record).header(key)
    if row_count > PART_NUMBER_MAX:
        raise journal.CorruptJournal(f"it has more than {PART_NUMBER_MAX:,} parts", header=header)
    if byte_count > journal.BYTES_MAX:
        raise journal.CorruptJournal(f"its parts have more than {journal.BYTES_MAX // MIB} MiB", header=header)
    digest = _upload_digest(header.upload_id)
    records = []
    for number, _, checksum, record, *_ in rows:
        if record is None or _checksum(record, key, number, digest).encode() != checksum:
            raise journal.CorruptJournal(f"part {number} does not match its checksum", header=header)
        records.append(record)
    return journal.with_parts(header, records)


def _set_aside(session: Session, claim: _Claim) -> None:
    with session.transaction():
        first, *rest = _SET_ASIDE
        if session.execute(first, claim.values()):
            for statement in rest:
                session.execute(statement, claim.values())


def _describe(session: Session, name: str, key: str) -> str:
    try:
        row = _read_header_row(session, key)
        return f"the upload {name}" if row is None else describe_upload(row.header(key))
    except journal.CorruptJournal:
        return f"the upload {name}"


def _part_row(key: str, upload: str, part: UploadedPart) -> dict[str, Any]:
    record = journal.part_text(part)
    return {
        "number": part.part_number,
        "record": record,
        "checksum": _checksum(record.encode(), key, part.part_number, upload),
    }


def _checksum(record: bytes, key: str, number: int, upload: str) -> str:
    """Return the checksum of a row's text, its key, and the upload that it is of."""
    return journal.checksum(f"{key}\0{number}\0{upload}\0".encode(), record).hex()


def _upload_digest(upload_id: str | None) -> str:
    """Return what a row has of an upload id, which can be any text; "" for none."""
    if upload_id is None:
        return ""
    return blake2b(upload_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


# --- by URL ----------------------------------------------------------------------------------------------------------


def open_url(url: str) -> PostgresCheckpointStore:
    """
    Open ``postgresql://USER@HOST:PORT/DATABASE?PARAMETERS``, or ``postgres://``.

    All of it can be left out, and then comes from the environment of libpq, as ``PGHOST`` and ``PGPASSWORD``. A
    password in a URL can be seen by others in the list of processes: use the environment or ``~/.pgpass``.

    Raises:
        InvalidInput: the URL is not valid, or psycopg is not installed.
    """
    scheme, colon, rest = url.partition(":")
    return PostgresCheckpointStore(scheme.lower() + colon + rest)


def _describe_database(parameters: dict[str, Any]) -> str:
    """Return the URL of a database without what may be secret."""
    host, port, database = (str(parameters.get(name) or "") for name in ("host", "port", "dbname"))
    if host.startswith("/"):
        return f"postgresql:///{database}?host={host}" + (f"&port={port}" if port else "")
    hosts, ports = host.split(","), port.split(",")
    if len(ports) != len(hosts):
        ports = ports[:1] * len(hosts)  # one for all of them
    places = (f"{one}:{its_port}" if its_port else one for one, its_port in zip(hosts, ports, strict=True))
    return f"postgresql://{','.join(places)}/{database}"


def _import_driver() -> Any:
    try:
        from partwise.stores import _postgres
    except ImportError as error:
        raise InvalidInput(
            f"a PostgresCheckpointStore needs psycopg, which can't be imported: {error}",
            hint=install_hint("postgres"),
        ) from error
    return _postgres
