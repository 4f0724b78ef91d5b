"""A store for many hosts, with leases, passes the kit, and each way to break it is caught."""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from attrs import evolve

from partwise.checkpoint import Checkpoint
from partwise.errors import (
    CheckpointBusy,
    CheckpointError,
    CheckpointUnwritable,
    ClaimLost,
    PartwiseError,
    StoreClosed,
)
from partwise.model import UploadedPart
from partwise.protocols import CheckpointStore
from partwise.testing import STORE_CHECKS, NotApplicable, StoreHarness, run_machine, store_machine
from partwise.testing.conformance import store_claims, store_records

PASSWORD = "hunter2"  # of no account

TABLES = """
    CREATE TABLE IF NOT EXISTS records (name BLOB PRIMARY KEY, upload_id TEXT, header TEXT, saved REAL);
    CREATE TABLE IF NOT EXISTS parts (name BLOB, number INTEGER, part TEXT, PRIMARY KEY (name, number));
    CREATE TABLE IF NOT EXISTS leases (name BLOB PRIMARY KEY, token TEXT, until REAL);
    CREATE TABLE IF NOT EXISTS clock (ahead REAL);
"""

# --- a correct store, which subclasses break -------------------------------------------------------------------------


class Shared:
    """
    Checkpoints in a database that many hosts can reach, under leases.

    Each claim has a token. Every write checks in its transaction that the lease on the name has this token.
    """

    lease = 0.5  # seconds

    def __init__(self, path: str, password: str = "") -> None:
        self.path, self.password = path, password
        self.closed = False
        self.tokens: dict[str, str] = {}  # of the claims of this handle, by name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"

    def close(self) -> None:
        self.closed = True

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        if self.closed:
            raise StoreClosed("closed")
        with closing(sqlite3.connect(self.path, isolation_level=None, timeout=30)) as database:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")

    def now(self, database: sqlite3.Connection) -> float:
        [(ahead,)] = database.execute("SELECT total(ahead) FROM clock")
        return time.time() + float(ahead)

    @staticmethod
    def key(name: str) -> bytes:
        return name.encode("utf-8", "surrogatepass")

    # --- claims ------------------------------------------------------------------------------------------------------

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        token = secrets.token_hex(8)
        self.acquire(name, token)
        self.tokens[name] = token
        stop = threading.Event()
        renewing = threading.Thread(target=self.renew, args=(name, token, stop), daemon=True)
        renewing.start()
        try:
            yield
        finally:
            stop.set()
            renewing.join()
            self.tokens.pop(name, None)
            self.release(name, token)

    def acquire(self, name: str, token: str) -> None:
        with self.transaction() as database:
            now = self.now(database)
            if database.execute("SELECT 1 FROM leases WHERE name = ? AND until > ?", (self.key(name), now)).fetchone():
                raise CheckpointBusy("busy", name=name)
            database.execute(
                "INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", (self.key(name), token, now + self.lease)
            )

    def renew(self, name: str, token: str, stop: threading.Event) -> None:
        renewed = True
        while renewed and not stop.wait(self.lease / 5):
            with self.transaction() as database:
                now = self.now(database)
                renewed = bool(
                    database.execute(
                        "UPDATE leases SET until = ? WHERE name = ? AND token = ? AND until > ?",
                        (now + self.lease, self.key(name), token, now),
                    ).rowcount
                )

    def release(self, name: str, token: str) -> None:
        if not self.closed:
            with self.transaction() as database:
                database.execute("DELETE FROM leases WHERE name = ? AND token = ?", (self.key(name), token))

    def check_claim(self, name: str) -> None:
        with self.transaction() as database:
            self.fence(database, name)

    def fence(self, database: sqlite3.Connection, name: str) -> None:
        found = database.execute("SELECT token FROM leases WHERE name = ?", (self.key(name),)).fetchone()
        if found is None or found[0] != self.tokens.get(name):
            raise ClaimLost("the lease has expired", name=name)

    def is_claimed(self, name: str) -> bool:
        with self.transaction() as database:
            query = "SELECT 1 FROM leases WHERE name = ? AND until > ?"
            return database.execute(query, (self.key(name), self.now(database))).fetchone() is not None

    # --- records -----------------------------------------------------------------------------------------------------

    def load(self, name: str) -> Checkpoint | None:
        with self.transaction() as database:
            return self.read(database, self.key(name))

    def read(self, database: sqlite3.Connection, key: bytes) -> Checkpoint | None:
        row = database.execute("SELECT header FROM records WHERE name = ?", (key,)).fetchone()
        if row is None:
            return None
        parts = database.execute("SELECT part FROM parts WHERE name = ? ORDER BY number", (key,)).fetchall()
        return evolve(Checkpoint.from_data(json.loads(row[0])), parts=[self.decode(part) for (part,) in parts])

    def encode(self, part: UploadedPart) -> str:
        return json.dumps(part.to_data())

    def decode(self, text: str) -> UploadedPart:
        return UploadedPart.from_data(json.loads(text))

    def save(self, checkpoint: Checkpoint) -> None:
        with self.transaction() as database:
            self.fence(database, checkpoint.name)
            self.write_header(database, checkpoint)
            self.write_parts(database, checkpoint)

    def write_header(self, database: sqlite3.Connection, checkpoint: Checkpoint) -> None:
        header = json.dumps(evolve(checkpoint, parts=()).to_data())
        row = (self.key(checkpoint.name), checkpoint.upload_id, header, self.now(database))
        database.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", row)

    def write_parts(self, database: sqlite3.Connection, checkpoint: Checkpoint) -> None:
        key = self.key(checkpoint.name)
        database.execute("DELETE FROM parts WHERE name = ?", (key,))
        database.executemany(
            "INSERT INTO parts VALUES (?, ?, ?)",
            [(key, part.part_number, self.encode(part)) for part in checkpoint.parts],
        )

    def append_part(self, name: str, upload_id: str, part: UploadedPart) -> None:
        with self.transaction() as database:
            self.fence(database, name)
            self.compare(database, name, upload_id)
            database.execute(
                "INSERT OR REPLACE INTO parts VALUES (?, ?, ?)", (self.key(name), part.part_number, self.encode(part))
            )

    def compare(self, database: sqlite3.Connection, name: str, upload_id: str) -> None:
        found = database.execute("SELECT upload_id FROM records WHERE name = ?", (self.key(name),)).fetchone()
        if found is None:
            raise CheckpointError("there is none", name=name)
        if found[0] != upload_id:
            raise ClaimLost("of another upload", name=name)

    def delete(self, name: str, upload_id: str | None) -> None:
        with self.transaction() as database:
            self.fence(database, name)
            found = database.execute("SELECT upload_id FROM records WHERE name = ?", (self.key(name),)).fetchone()
            if found is not None and found[0] != upload_id:
                raise ClaimLost("of another upload", name=name)
            self.remove(database, self.key(name))

    def remove(self, database: sqlite3.Connection, key: bytes) -> None:
        database.execute("DELETE FROM records WHERE name = ?", (key,))
        database.execute("DELETE FROM parts WHERE name = ?", (key,))

    def scan(self) -> Iterable[Checkpoint]:
        with self.transaction() as database:
            names = database.execute("SELECT name FROM records").fetchall()
            return [found for (key,) in names if (found := self.read(database, key)) is not None]


# --- harnesses -------------------------------------------------------------------------------------------------------


class Bare(StoreHarness):
    """Opens the store, and gives no hook."""

    subject: ClassVar[type[Shared]] = Shared

    def __init__(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.path = str(Path(self.directory.name) / "shared.db")
        with closing(sqlite3.connect(self.path)) as database:
            database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;" + TABLES)

    def close(self) -> None:
        self.directory.cleanup()

    def open(self) -> Shared:
        return self.subject(self.path, PASSWORD)


class Full(Bare):
    claim_outlives_its_process = 0.6
    hooks_left_out = dict.fromkeys(("read_record", "open_unwritable"), "the rows of a database")
    secrets: ClassVar = (PASSWORD,)
    examples = 5

    def elsewhere(self) -> Callable[[], CheckpointStore]:
        # Another process does not find this module by name, and so has to be shown the folder.
        this = Path(__file__)
        opener = f"__import__({this.stem!r}).{self.subject.__name__}({self.path!r})"
        return partial(eval, f"__import__('sys').path.append({str(this.parent)!r}) or {opener}")

    def advance(self, seconds: float) -> bool:
        with closing(sqlite3.connect(self.path)) as database, database:
            database.execute("INSERT INTO clock VALUES (?)", (seconds,))
        return True

    def lose_claim(self, store: CheckpointStore, name: str) -> bool:
        with closing(sqlite3.connect(self.path)) as database, database:
            database.execute("UPDATE leases SET until = 0 WHERE name = ?", (Shared.key(name),))
        return True


#: What a hook consists of, where that is more than the method of its name.
HOOKS = {"elsewhere": ("elsewhere", "claim_outlives_its_process")}


def harness_of(subject: type[Shared], *hooks: str) -> type[Bare]:
    """Return a harness that gives these hooks and no others."""
    given = {name: vars(Full)[name] for hook in hooks for name in HOOKS.get(hook, (hook,))}
    return type("MutantHarness", (Bare,), {"subject": subject, **given})


# --- broken: records -------------------------------------------------------------------------------------------------


class SavesInTwoSteps(Shared):
    def save(self, checkpoint: Checkpoint) -> None:
        with self.transaction() as database:
            self.fence(database, checkpoint.name)
            self.write_header(database, checkpoint)
        time.sleep(0.002)
        with self.transaction() as database:
            self.write_parts(database, checkpoint)


class FirstPartCounts(Shared):
    def append_part(self, name: str, upload_id: str, part: UploadedPart) -> None:
        found = self.load(name)
        if found is None or part.part_number not in {held.part_number for held in found.parts}:
            super().append_part(name, upload_id, part)


class DeletesTheHeaderOnly(Shared):
    def remove(self, database: sqlite3.Connection, key: bytes) -> None:
        database.execute("DELETE FROM records WHERE name = ?", (key,))

    def write_parts(self, database: sqlite3.Connection, checkpoint: Checkpoint) -> None:
        for part in checkpoint.parts:
            row = (self.key(checkpoint.name), part.part_number, self.encode(part))
            database.execute("INSERT OR REPLACE INTO parts VALUES (?, ?, ?)", row)


class AppendsToNothing(Shared):
    def compare(self, database: sqlite3.Connection, name: str, upload_id: str) -> None:
        if database.execute("SELECT 1 FROM records WHERE name = ?", (self.key(name),)).fetchone():
            super().compare(database, name, upload_id)


class ChecksumsAreSigned(Shared):
    """In a column of 64 bits with a sign, as most databases have."""

    def encode(self, part: UploadedPart) -> str:
        signed = None if part.checksum is None else part.checksum.to_bytes(8, "big")
        number = None if signed is None else int.from_bytes(signed, "big", signed=True)
        return json.dumps([part.part_number, part.size, part.etag, None if number is None else str(number)])


class ForgetsChecksums(Shared):
    def encode(self, part: UploadedPart) -> str:
        return super().encode(evolve(part, checksum=None))


class FoldsNames(Shared):
    """As a database does whose collation ignores case."""

    @staticmethod
    def key(name: str) -> bytes:
        return Shared.key(name.lower())


class ScanRaises(Shared):
    def scan(self) -> Iterable[Checkpoint]:
        raise CheckpointError("not supported")


class AppendsLater(Shared):
    """Does not wait for the response of the server, which arrives after the next record was loaded."""

    def __init__(self, path: str, password: str = "") -> None:
        super().__init__(path, password)
        self.sent: list[tuple[str, str, UploadedPart]] = []

    def append_part(self, name: str, upload_id: str, part: UploadedPart) -> None:
        self.sent.append((name, upload_id, part))

    def load(self, name: str) -> Checkpoint | None:
        loaded = super().load(name)
        for sent in self.sent:
            with suppress(PartwiseError):
                super().append_part(*sent)
        self.sent.clear()
        return loaded


class LoadsFromItsCache(Shared):
    def __init__(self, path: str, password: str = "") -> None:
        super().__init__(path, password)
        self.cache: dict[str, Checkpoint | None] = {}

    def load(self, name: str) -> Checkpoint | None:
        if name not in self.cache:
            self.cache[name] = super().load(name)
        return self.cache[name]

    def save(self, checkpoint: Checkpoint) -> None:
        super().save(checkpoint)
        self.cache[checkpoint.name] = checkpoint

    def append_part(self, name: str, upload_id: str, part: UploadedPart) -> None:
        super().append_part(name, upload_id, part)
        self.cache.pop(name, None)

    def delete(self, name: str, upload_id: str | None) -> None:
        super().delete(name, upload_id)
        self.cache.pop(name, None)


class AppendsByRewriting(Shared):
    def append_part(self, name: str, upload_id: str, part: UploadedPart) -> None:
        with self.transaction() as database:
            self.fence(database, name)
            self.compare(database, name, upload_id)
            found = self.read(database, self.key(name))
            assert found is not None
            others = [held for held in found.parts if held.part_number != part.part_number]
            self.write_parts(database, evolve(found, parts=(*others, part)))


class AppendsByCopyingOnTheServer(Shared):
    """Nothing of it is seen in the memory of this process."""

    def append_part(self, name: str, upload_id: str, part: UploadedPart) -> None:
        super().append_part(name, upload_id, part)
        with self.transaction() as database:
            database.execute("CREATE TEMP TABLE copied AS SELECT * FROM parts WHERE name = ?", (self.key(name),))
            database.execute("DELETE FROM parts WHERE name = ?", (self.key(name),))
            database.execute("INSERT INTO parts SELECT * FROM copied ORDER BY number")


class CutsETags(Shared):
    """In a column of 40 characters."""

    def encode(self, part: UploadedPart) -> str:
        return super().encode(evolve(part, etag=part.etag[:40]))


class CutsUploadIds(Shared):
    """In a column of 128 characters, by which it also compares."""

    def write_header(self, database: sqlite3.Connection, checkpoint: Checkpoint) -> None:
        upload_id = checkpoint.upload_id
        super().write_header(database, evolve(checkpoint, upload_id=None if upload_id is None else upload_id[:128]))

    def append_part(self, name: str, upload_id: str, part: UploadedPart) -> None:
        super().append_part(name, upload_id[:128], part)

    def delete(self, name: str, upload_id: str | None) -> None:
        super().delete(name, None if upload_id is None else upload_id[:128])


class ComparesPartOfUploadIds(Shared):
    """Keeps them whole, and compares an index of 128 characters."""

    def compare(self, database: sqlite3.Connection, name: str, upload_id: str) -> None:
        [found] = database.execute("SELECT upload_id FROM records WHERE name = ?", (self.key(name),)).fetchone() or [""]
        same = found is not None and found[:128] == upload_id[:128]
        super().compare(database, name, found if same else upload_id)


class RecordsExpire(Shared):
    """After thirty days, as of a cache."""

    def read(self, database: sqlite3.Connection, key: bytes) -> Checkpoint | None:
        oldest = self.now(database) - 30 * 86_400
        fresh = database.execute("SELECT 1 FROM records WHERE name = ? AND saved > ?", (key, oldest)).fetchone()
        return super().read(database, key) if fresh else None


class ShowsItsURL(Shared):
    def __repr__(self) -> str:
        return f"<{type(self).__name__} shared://user:{self.password}@host{self.path}>"


class ShowsItsPassword(Shared):
    def __repr__(self) -> str:
        return f"<{type(self).__name__} path={self.path} password={self.password}>"


class ErrorsShowThePassword(Shared):
    def fence(self, database: sqlite3.Connection, name: str) -> None:
        try:
            super().fence(database, name)
        except ClaimLost as error:
            raise ClaimLost("the lease has expired", name=name) from ValueError(f"password={self.password}: {error}")

    def compare(self, database: sqlite3.Connection, name: str, upload_id: str) -> None:
        try:
            super().compare(database, name, upload_id)
        except CheckpointError as error:
            raise type(error)("no", name=name) from ValueError(f"the server of {self.password} refused it")


# --- broken: claims --------------------------------------------------------------------------------------------------

_claimed_here: set[str] = set()


class ClaimsWithinTheProcess(Shared):
    def acquire(self, name: str, token: str) -> None:
        key = f"{self.path} {name!r}"
        if key in _claimed_here:
            raise CheckpointBusy("busy", name=name)
        _claimed_here.add(key)
        with self.transaction() as database:
            database.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, 0)", (self.key(name), token))

    def release(self, name: str, token: str) -> None:
        _claimed_here.discard(f"{self.path} {name!r}")
        super().release(name, token)


class ClaimsWithoutExpiry(Shared):
    lease = 1e9


class NeverRenews(Shared):
    def renew(self, name: str, token: str, stop: threading.Event) -> None:
        """Do nothing."""


class RenewsAnyClaim(Shared):
    """Renews the lease on the name, even if another process has it by then."""

    def renew(self, name: str, token: str, stop: threading.Event) -> None:
        while not stop.wait(self.lease / 5):
            with self.transaction() as database:
                now = self.now(database)
                database.execute(
                    "UPDATE leases SET until = ? WHERE name = ? AND until > ?",
                    (now + self.lease, self.key(name), now),
                )


class KnowsItsClaimsOnly(Shared):
    def is_claimed(self, name: str) -> bool:
        return name in self.tokens


class ClaimsWait(Shared):
    """For some time, as a lock does by default."""

    def acquire(self, name: str, token: str) -> None:
        deadline = time.monotonic() + 0.4
        while True:
            try:
                super().acquire(name, token)
            except CheckpointBusy:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return


class ClaimsWaitForEver(Shared):
    def acquire(self, name: str, token: str) -> None:
        while True:
            try:
                return super().acquire(name, token)
            except CheckpointBusy:
                time.sleep(0.02)


class AppendsToAnyUpload(Shared):
    def compare(self, database: sqlite3.Connection, name: str, upload_id: str) -> None:
        if not database.execute("SELECT 1 FROM records WHERE name = ?", (self.key(name),)).fetchone():
            raise CheckpointError("there is none", name=name)


class DeletesAnyUpload(Shared):
    def delete(self, name: str, upload_id: str | None) -> None:
        with self.transaction() as database:
            self.fence(database, name)
            self.remove(database, self.key(name))


class ComparesWhatItSaved(Shared):
    """Does not look at what is stored."""

    def __init__(self, path: str, password: str = "") -> None:
        super().__init__(path, password)
        self.saved: dict[str, str | None] = {}

    def save(self, checkpoint: Checkpoint) -> None:
        super().save(checkpoint)
        self.saved[checkpoint.name] = checkpoint.upload_id

    def compare(self, database: sqlite3.Connection, name: str, upload_id: str) -> None:
        if self.saved.get(name) != upload_id:
            super().compare(database, name, upload_id)


class FencesByTheUploadIdOnly(Shared):
    """A run that has lost its claim writes on in the same upload."""

    def fence(self, database: sqlite3.Connection, name: str) -> None:
        """Do nothing."""

    def check_claim(self, name: str) -> None:
        with self.transaction() as database:
            super().fence(database, name)


class ChecksItsTokenOnly(Shared):
    """Does not ask the database."""

    def check_claim(self, name: str) -> None:
        if name not in self.tokens:
            raise ClaimLost("not claimed", name=name)


class ChecksNothing(Shared):
    def check_claim(self, name: str) -> None:
        """Do nothing."""


class ReleasesAnyClaim(Shared):
    def release(self, name: str, token: str) -> None:
        with self.transaction() as database:
            database.execute("DELETE FROM leases WHERE name = ?", (self.key(name),))


class LeavingALostClaimFails(Shared):
    def release(self, name: str, token: str) -> None:
        with self.transaction() as database:
            if not database.execute(
                "DELETE FROM leases WHERE name = ? AND token = ?", (self.key(name), token)
            ).rowcount:
                raise ClaimLost("it was lost", name=name)


class SavesWithoutAClaim(Shared):
    """Fences appends and deletes only."""

    def save(self, checkpoint: Checkpoint) -> None:
        with self.transaction() as database:
            self.write_header(database, checkpoint)
            self.write_parts(database, checkpoint)


#: Each broken store, the check that detects it, the hooks that the check needs for that, and what its message says.
BROKEN: list[tuple[type[Shared], str, tuple[str, ...], str]] = [
    (
        SavesInTwoSteps,
        "readers_see_whole_records",
        (),
        "loading during a save returns the old checkpoint or the new one",
    ),
    (FirstPartCounts, "append", (), "the last part of each number is loaded: expected"),
    (DeletesTheHeaderOnly, "delete", (), "a checkpoint that is saved again has no old parts"),
    (
        AppendsToNothing,
        "append_to_nothing",
        (),
        "there is no checkpoint of this name: expected CheckpointError, and the call returned",
    ),
    (ChecksumsAreSigned, "append", (), "the last part of each number is loaded, and CheckpointDamaged was raised"),
    (ForgetsChecksums, "append", (), "the last part of each number is loaded: expected"),
    (FoldsNames, "strange_names", (), "'plain' and 'Plain' are two names"),
    (ScanRaises, "scan", (), "scan yields every checkpoint once, with its parts, and CheckpointError was raised"),
    (AppendsLater, "append", (), "the last part of each number is loaded: expected"),
    (
        LoadsFromItsCache,
        "handles_see_each_other",
        (),
        "a part appended through one handle is loaded through another at once",
    ),
    (AppendsByRewriting, "append_cost", (), "an append costs the same for any number of parts: with 10 parts it takes"),
    (AppendsByCopyingOnTheServer, "append_cost", (), " ms, with 4000 parts "),
    (CutsETags, "long_values", (), "long texts are loaded as they were saved and appended"),
    (CutsUploadIds, "long_values", (), "long texts are loaded as they were saved and appended"),
    (CutsUploadIds, "fencing", (), "not of an upload id of 1024 characters: expected ClaimLost"),
    (ComparesPartOfUploadIds, "fencing", (), "not of an upload id of 1024 characters: expected ClaimLost"),
    (ClaimsWait, "claim_never_waits", (), "a claim is refused at once, and not after"),
    (ClaimsWaitForEver, "claim_never_waits", (), "a claim is refused at once, and does not wait for"),
    (NeverRenews, "claim_is_kept", (), "a claim is kept until its context ends: expected CheckpointBusy"),
    (
        NeverRenews,
        "claim_ends_with_its_process",
        ("elsewhere",),
        "a claim is kept while its process lives: expected CheckpointBusy",
    ),
    (ShowsItsURL, "secrets_stay_secret", (), "no password is shown: <ShowsItsURL"),
    (ShowsItsPassword, "secrets_stay_secret", ("secrets",), "the secret no. 1 of the harness is not shown"),
    (ErrorsShowThePassword, "secrets_stay_secret", ("secrets",), "the secret no. 1 of the harness is not shown"),
    (RecordsExpire, "records_do_not_expire", ("advance",), "a checkpoint does not expire: load returned None"),
    (
        ClaimsWithinTheProcess,
        "claim_ends_with_its_process",
        ("elsewhere",),
        "another process holds the claim: expected CheckpointBusy",
    ),
    (ClaimsWithoutExpiry, "claim_ends_with_its_process", ("elsewhere",), "the claim of a killed process is released"),
    (AppendsToAnyUpload, "fencing", (), "not of upload 'first': expected ClaimLost"),
    (
        AppendsToAnyUpload,
        "fencing_of_a_handle",
        (),
        "another handle has saved the checkpoint of another upload: expected ClaimLost",
    ),
    (DeletesAnyUpload, "fencing", (), "not of upload 'first': expected ClaimLost"),
    (
        ComparesWhatItSaved,
        "fencing_of_a_handle",
        (),
        "another handle has saved the checkpoint of another upload: expected ClaimLost",
    ),
    (ChecksNothing, "claim_check", (), "the claim is not held: expected ClaimLost"),
    (
        ChecksItsTokenOnly,
        "lost_claim",
        ("lose_claim",),
        "another handle holds the claim: check_claim: expected ClaimLost",
    ),
    (
        FencesByTheUploadIdOnly,
        "lost_claim",
        ("lose_claim",),
        "another handle holds the claim: save: expected ClaimLost",
    ),
    (SavesWithoutAClaim, "lost_claim", ("lose_claim",), "another handle holds the claim: save: expected ClaimLost"),
    (KnowsItsClaimsOnly, "is_claimed", (), "is_claimed is True: another handle holds the claim"),
    (
        RenewsAnyClaim,
        "renewal_of_a_lost_claim",
        ("elsewhere", "lose_claim"),
        "also while a handle runs that has lost its claim before",
    ),
    (
        ReleasesAnyClaim,
        "leaving_a_lost_claim",
        ("lose_claim",),
        "leaving it does not release another claim: expected CheckpointBusy",
    ),
    (
        LeavingALostClaimFails,
        "leaving_a_lost_claim",
        ("lose_claim",),
        "leaving the context of a lost claim raises nothing",
    ),
]

#: The checks that are not tested in `test_the_kit_catches_stores`.
CHECKS = {
    *("claim_never_waits", "claim_is_kept", "fencing", "fencing_of_a_handle", "claim_check", "lost_claim"),
    *(
        "is_claimed",
        "leaving_a_lost_claim",
        "renewal_of_a_lost_claim",
        "long_values",
        "records_do_not_expire",
        "append_cost",
        "secrets_stay_secret",
    ),
}


# --- the tests -------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _claimants_are_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new interpreter would import this module, and with it all of pytest and hypothesis."""
    import forked  # the other process runs this file, too, and does not find it

    modules = ("filelock", "hypothesis.stateful", "partwise.testing", "pytest")
    monkeypatch.setattr(store_claims, "_start_python", partial(forked.start_claimant, modules=modules))


def test_each_check_of_claims_and_servers_has_a_broken_store() -> None:
    assert {check for _, check, *_ in BROKEN} >= CHECKS


@pytest.mark.parametrize("name", [check.name for check in STORE_CHECKS])
def test_the_correct_store_passes(name: str) -> None:
    if name in {"damage", "torn_end", "saving_after_damage", "damage_is_not_scanned", "deleting_damage"}:
        pytest.skip("its rows are those of a database")
    if name in {"unwritable_place", "single_checkpoint"}:
        pytest.skip("its place can always be written to, and holds many")
    STORE_CHECKS[name](Full())


def test_the_machine_passes_on_the_correct_store() -> None:
    run_machine(store_machine(Full), examples=5)


@pytest.mark.parametrize(
    ("broken", "name", "hooks", "reason"), [pytest.param(*row, id=f"{row[0].__name__}-{row[1]}") for row in BROKEN]
)
def test_it_is_caught(
    broken: type[Shared], name: str, hooks: tuple[str, ...], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For this reason, and with no other hooks than those."""
    for module, constant, value in (
        (store_claims, "_REFUSED_WITHIN", 0.3),
        (store_claims, "_WAITS_MAX", 1.0),
        (store_records, "_TIMED", 5),
    ):
        monkeypatch.setattr(module, constant, value)  # to save time
    with pytest.raises(AssertionError, match=re.escape(reason)):
        STORE_CHECKS[name](harness_of(broken, *hooks)())


@pytest.mark.parametrize(
    ("name", "hook"),
    [
        ("claim_ends_with_its_process", "elsewhere"),
        ("records_do_not_expire", "advance"),
        ("secrets_stay_secret", "secrets"),
        ("lost_claim", "lose_claim"),
        ("leaving_a_lost_claim", "lose_claim"),
    ],
)
def test_without_its_hook_a_check_says_so(name: str, hook: str) -> None:
    with pytest.raises(NotApplicable, match=hook):
        STORE_CHECKS[name](Bare())


def test_a_run_says_which_hooks_are_not_given() -> None:
    with Bare() as bare, Full() as full:
        assert bare.missing_hooks().keys() == StoreHarness.hooks.keys()
        assert full.missing_hooks() == {}


class ReadOnly(Shared):
    """Its database takes no claims and no writes; it finds out first that there is no claim."""

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        raise CheckpointUnwritable("the database is read-only", name=name) from sqlite3.OperationalError("read-only")
        yield


class ReadOnlyAndSilent(ReadOnly):
    def save(self, checkpoint: Checkpoint) -> None:
        pass


@pytest.mark.parametrize(("broken", "is_caught"), [(ReadOnly, False), (ReadOnlyAndSilent, True)])
def test_a_fenced_store_that_can_t_be_written_to_may_miss_its_claim_first(
    broken: type[Shared], is_caught: bool
) -> None:
    class Unwritable(Full):
        hooks_left_out: ClassVar = {}

        def open_unwritable(self) -> CheckpointStore:
            return broken(self.path)

    with pytest.raises(AssertionError, match="save") if is_caught else nullcontext():
        STORE_CHECKS["unwritable_place"](Unwritable())


def test_the_renewal_of_a_lost_claim_is_checked_only_with_the_hooks_for_it() -> None:
    class LosesNone(Full):
        lose_claim = StoreHarness.lose_claim

    class IsNowhereElse(Full):
        elsewhere = StoreHarness.elsewhere

    for harness, hook in ((LosesNone, "lose_claim"), (IsNowhereElse, "elsewhere")):
        with pytest.raises(NotApplicable, match=f"does not give {hook}"):
            STORE_CHECKS["renewal_of_a_lost_claim"](harness())


def test_a_claim_that_is_never_refused_is_no_claim_that_is_refused_at_once() -> None:
    class Open(Shared):
        @contextmanager
        def claim(self, name: str) -> Iterator[None]:
            yield

    with pytest.raises(AssertionError, match="a claim that is held is refused: None"):
        STORE_CHECKS["claim_never_waits"](harness_of(Open)())


def test_a_store_whose_claims_can_t_be_lost_need_not_lose_them() -> None:
    class Locked(Shared):
        check_claim = None  # type: ignore[assignment]  # as if there were none

        def __getattribute__(self, name: str) -> Any:
            if name == "check_claim":
                raise AttributeError(name)
            return super().__getattribute__(name)

    with harness_of(Locked)() as harness:
        assert "lose_claim" not in harness.missing_hooks()
    for name in ("claim_check", "lost_claim", "leaving_a_lost_claim"):
        with pytest.raises(NotApplicable, match="can't be lost"):
            STORE_CHECKS[name](harness_of(Locked)())
