"""The SQLite store: the file, damage, files of other programs, and processes that share it."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import filelock
import forked
import pytest
from attrs import evolve

from partwise.backends.memory import MemoryBackend
from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.config import TransferConfig
from partwise.errors import CheckpointBusy, CheckpointDamaged, CheckpointError, CheckpointUnwritable, InvalidInput
from partwise.model import PartLimits, UploadedPart
from partwise.stores import _database
from partwise.stores.sqlite import SQLiteCheckpointStore, open_url
from partwise.uploader import Uploader

MakeCheckpoint = Callable[..., Checkpoint]
MakePart = Callable[..., UploadedPart]

_ANY_VERSION = Fingerprint()
ANY_PART = PartLimits(min_part_size=1)
IN_PARTS = TransferConfig(part_size=10, multipart_threshold=0, concurrency=1)

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
may_fork = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # about a fork while other threads run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "uploads.db"


def change(path: Path, statement: str, *values: object) -> None:
    """Change the database, not through the store."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


def ask(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


# --- the file --------------------------------------------------------------------------------------------------------


def test_the_file_is_created_when_it_is_needed(database, path: Path, checkpoint: MakeCheckpoint) -> None:
    name = checkpoint().name
    assert database.load(name) is None
    assert list(database.scan()) == []
    database.delete(name, "UPLOAD")
    with pytest.raises(CheckpointError, match="Save the checkpoint first"):
        database.append_part(name, "UPLOAD", UploadedPart(1, 1, "e"))
    assert not path.exists()
    with database.claim(name):
        assert path.exists()


def test_between_claims_there_is_one_file_and_an_empty_directory(database, tmp_path, checkpoint, part) -> None:
    saved = checkpoint()
    with database.claim(saved.name):
        database.save(saved)
        database.append_part(saved.name, "UPLOAD", part(1))
        assert {entry.name for entry in tmp_path.iterdir()} > {"uploads.db-wal"}
    assert {entry.name for entry in tmp_path.iterdir()} == {"uploads.db", "uploads.db.claims"}
    assert list((tmp_path / "uploads.db.claims").iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_all_files_are_private(database, tmp_path: Path, checkpoint, part) -> None:
    saved = checkpoint()
    old = os.umask(0)
    try:
        with database.claim(saved.name):
            database.save(saved)
            database.append_part(saved.name, "UPLOAD", part(1))
            modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in tmp_path.rglob("*")}
    finally:
        os.umask(old)
    assert modes == {
        "uploads.db": 0o600,
        "uploads.db-wal": 0o600,
        "uploads.db-shm": 0o600,
        "uploads.db.claims": 0o700,
        f"{saved.name}.lock": 0o600,
        f"{saved.name}.owner": 0o600,
    }


def test_a_save_is_on_the_medium_and_an_append_only_in_the_log(database, checkpoint, part) -> None:
    statements: list[str] = []
    name = checkpoint().name
    with database.claim(name):
        connection = database._database._connection
        connection.set_trace_callback(statements.append)
        database.save(checkpoint())
        begin = statements.index("BEGIN IMMEDIATE")
        assert statements[begin - 1] == "PRAGMA synchronous = EXTRA"
        assert statements[-2:] == ["COMMIT", "PRAGMA synchronous = NORMAL"]
        statements.clear()
        database.append_part(name, "UPLOAD", part(1))
        assert [statement.split()[0] for statement in statements] == ["INSERT"]
        connection.set_trace_callback(None)
        assert connection.execute("PRAGMA synchronous").fetchone() == (1,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == (b"wal",)


def test_rows_are_readable_text(database, path: Path, checkpoint, part) -> None:
    saved = checkpoint()
    database.save(saved)
    database.append_part(saved.name, "UPLOAD", part(7))
    [(name, header)] = ask(path, "SELECT name, header FROM checkpoints")
    assert name == saved.name
    assert '"upload_id":"UPLOAD"' in str(header)
    assert ask(path, "SELECT name, part_number, record FROM parts") == [
        (saved.name, 7, '[7,8388608,"ETAG-7-1","18446744073709551609"]')
    ]


def test_a_file_moved_away_during_a_claim_is_created_again(database, path: Path, checkpoint, part) -> None:
    saved = checkpoint()
    with database.claim(saved.name):
        database.save(saved)
        path.unlink()
        with pytest.raises(CheckpointError, match="Save the checkpoint first"):
            database.append_part(saved.name, "UPLOAD", part(1))
        assert database.load(saved.name) is None
        database.save(saved)
        database.append_part(saved.name, "UPLOAD", part(2))
    assert database.load(saved.name) == evolve(saved, parts=(part(2),))


def test_without_write_ahead_mode_it_is_only_slower(database, path: Path, checkpoint, part) -> None:
    saved = checkpoint()
    database.save(saved)
    change(path, "PRAGMA journal_mode = DELETE")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM checkpoints").fetchall()
        with _short_timeouts():
            assert database.load(saved.name) == saved
        other.execute("COMMIT")
    database.append_part(saved.name, "UPLOAD", part(1))
    assert database.load(saved.name).parts == (part(1),)


def test_without_write_ahead_mode_a_power_loss_neither_undoes_a_save_nor_damages_the_file(
    database, path: Path, checkpoint, part
) -> None:
    """Then a commit removes a journal, which only EXTRA syncs; and NORMAL does not order the writes for all disks."""
    saved = checkpoint()
    database.save(saved)
    change(path, "PRAGMA journal_mode = DELETE")
    statements: list[str] = []
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM checkpoints").fetchall()
        with _short_timeouts(), database.claim(saved.name):
            other.execute("COMMIT")
            database._database._connection.set_trace_callback(statements.append)
            database.save(saved)
            database._database._connection.set_trace_callback(None)
            assert ask_of(database, "PRAGMA journal_mode") == b"delete"
            assert ask_of(database, "PRAGMA synchronous") == 2
            database.append_part(saved.name, "UPLOAD", part(1))
    assert statements.index("PRAGMA synchronous = EXTRA") < statements.index("BEGIN IMMEDIATE")
    assert statements[-2:] == ["COMMIT", "PRAGMA synchronous = FULL"]
    assert database.load(saved.name).parts == (part(1),)


def test_a_file_that_stays_locked_is_waited_for_once_and_then_only_briefly(database, path, checkpoint, part):
    saved = checkpoint()

    def patience():
        return ask_of(database, "PRAGMA busy_timeout")

    with database.claim(saved.name), _short_timeouts(), closing(sqlite3.connect(path, isolation_level=None)) as other:
        database.save(saved)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(CheckpointUnwritable, match=r"kept it locked.*. Wait until that program has finished"):
            database.append_part(saved.name, "UPLOAD", part(1))
        assert patience() == 20
        with pytest.raises(CheckpointUnwritable, match="kept it locked"):
            database.append_part(saved.name, "UPLOAD", part(2))
        assert patience() == 1
        other.execute("ROLLBACK")
        for number in (3, 4):
            database.append_part(saved.name, "UPLOAD", part(number))
        assert patience() == 20
        assert database.load(saved.name).parts == (part(3), part(4))


def test_another_writer_is_waited_for_as_long_as_a_slow_one_may_need(database, checkpoint) -> None:
    """In milliseconds, with literal numbers."""
    with database.claim(checkpoint().name):
        assert ask_of(database, "PRAGMA busy_timeout") == 5_000
        with database._database.use(create=False, wait=False):
            assert ask_of(database, "PRAGMA busy_timeout") == 50


def ask_of(store: SQLiteCheckpointStore, statement: str) -> object:
    """Query through the connection that the store keeps open during a claim."""
    return store._database._connection.execute(statement).fetchone()[0]


def _short_timeouts():
    patch = pytest.MonkeyPatch()
    patch.setattr(_database, "_BUSY_SECONDS", 0.02)
    patch.setattr(_database, "_BUSY_AGAIN_SECONDS", 0.001)
    return closing(type("Undo", (), {"close": staticmethod(patch.undo)}))


# --- damaged rows ----------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(database, checkpoint: MakeCheckpoint, part: MakePart) -> Checkpoint:
    """A checkpoint in the database, which also has another one."""
    saved = checkpoint(parts=(part(1), part(2)))
    database.save(saved)
    database.append_part(saved.name, "UPLOAD", part(3))
    database.save(checkpoint("neighbour"))
    return evolve(saved, parts=(part(1), part(2), part(3)))


@pytest.mark.parametrize("table", ["checkpoints", "parts"])
def test_a_changed_byte_anywhere_in_a_row_is_damage(database, path, saved, checkpoint, table: str) -> None:
    texts = ("header", "checksum") if table == "checkpoints" else ("record", "checksum")
    number = ["part_number"] if table == "parts" else []
    where = "name = ? AND part_number = 2" if table == "parts" else "name = ?"
    with closing(sqlite3.connect(path, isolation_level=None)) as back_door:
        for column in texts:
            [(text,)] = back_door.execute(f"SELECT {column} FROM {table} WHERE {where}", (saved.name,)).fetchall()
            good = text.encode()
            for position in range(len(good)):
                bad = bytearray(good)
                bad[position] ^= 0x81
                back_door.execute(
                    f"UPDATE {table} SET {column} = CAST(? AS TEXT) WHERE {where}", (bytes(bad), saved.name)
                )
                with pytest.raises(CheckpointDamaged) as caught:
                    database.load(saved.name)
                assert caught.value.upload_id == ("UPLOAD" if table == "parts" else None)
            for other in (5, 2.5, b"blob", ""):
                back_door.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (other, saved.name))
                with pytest.raises(CheckpointDamaged):
                    database.load(saved.name)
            back_door.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (text, saved.name))
        for column in number:
            back_door.execute(f"UPDATE {table} SET {column} = 99 WHERE {where}", (saved.name,))
            with pytest.raises(CheckpointDamaged):
                database.load(saved.name)
    assert database.load(checkpoint("neighbour").name) == checkpoint("neighbour")


def test_rows_of_another_checkpoint_are_damage(database, path: Path, saved, checkpoint) -> None:
    neighbour = checkpoint("neighbour").name
    change(path, "UPDATE parts SET name = ?", neighbour)
    with pytest.raises(CheckpointDamaged):
        database.load(neighbour)
    change(path, "DELETE FROM checkpoints WHERE name = ?", neighbour)
    change(path, "UPDATE checkpoints SET name = ?", neighbour)
    with pytest.raises(CheckpointDamaged):
        database.load(neighbour)


def test_a_header_of_another_checkpoint_with_a_valid_checksum_is_damage(
    database, path: Path, saved, checkpoint
) -> None:
    from partwise.stores import _journal as journal
    from partwise.stores import sqlite as module

    neighbour = checkpoint("neighbour").name
    header = journal.header_text(saved)
    change(
        path,
        "UPDATE checkpoints SET header = ?, checksum = ? WHERE name = ?",
        header,
        module._sum(header.encode(), neighbour),
        neighbour,
    )
    with pytest.raises(CheckpointDamaged, match="it is that of the upload"):
        database.load(neighbour)


def test_under_the_claim_damaged_rows_are_set_aside(database, path: Path, saved, checkpoint) -> None:
    change(path, "UPDATE parts SET record = '[]' WHERE part_number = 2")
    with pytest.raises(CheckpointDamaged, match="It was not changed"):
        database.load(saved.name)
    assert ask(path, "SELECT count(*) FROM damaged") == [(0,)]
    with database.claim(saved.name):
        with pytest.raises(CheckpointDamaged, match="set aside") as caught:
            database.load(saved.name)
        assert (caught.value.name, caught.value.where) == (saved.name, str(path))
        assert ask(path, "SELECT count(*) FROM damaged") == [(4,)]
        assert database.load(saved.name) is None
        database.save(saved)
        assert database.load(saved.name) == saved
        database.delete(saved.name, "UPLOAD")
    assert ask(path, "SELECT count(*) FROM damaged") == [(0,)]
    assert list(database.scan()) == [checkpoint("neighbour")]


def test_nothing_is_appended_to_a_damaged_header(database, path: Path, saved, part) -> None:
    change(path, "UPDATE checkpoints SET header = '[]' WHERE name = ?", saved.name)
    before = ask(path, "SELECT * FROM parts")
    with pytest.raises(CheckpointDamaged, match=r"nothing can be appended to the checkpoint .* It was not changed"):
        database.append_part(saved.name, "UPLOAD", part(9))
    assert ask(path, "SELECT * FROM parts") == before


def test_damaged_rows_are_logged_and_left_out_of_a_scan(database, path: Path, saved, checkpoint, caplog) -> None:
    change(path, "UPDATE parts SET record = '[]' WHERE part_number = 2")
    change(path, "INSERT INTO checkpoints VALUES (CAST(? AS TEXT), '{}', '')", b"\xff\xfe")
    change(path, "INSERT INTO checkpoints VALUES ('\x1b[2J', '{}', '')")
    with caplog.at_level(logging.WARNING, "partwise.stores.sqlite"):
        assert list(database.scan()) == [checkpoint("neighbour")]
    assert {(record.name, record.levelname) for record in caplog.records} == {("partwise.stores.sqlite", "WARNING")}
    messages = sorted(record.getMessage() for record in caplog.records)
    assert len(messages) == 2
    assert repr("\x1b[2J") in messages[0]
    assert saved.name in messages[1]


def test_a_checkpoint_deleted_during_a_scan_is_skipped(database, checkpoint, monkeypatch) -> None:
    monkeypatch.setattr("partwise.stores.sqlite._PAGE", 1)
    for number in range(3):
        database.save(checkpoint(str(number)))
    scan = iter(database.scan())
    first = next(scan)
    for number in range(3):
        database.delete(checkpoint(str(number)).name, "UPLOAD")
    assert first.key in {"0", "1", "2"}
    assert list(scan) == []


# --- a damaged file --------------------------------------------------------------------------------------------------


def test_a_changed_byte_anywhere_in_the_file_never_yields_a_wrong_checkpoint(tmp_path: Path, checkpoint, part) -> None:
    path = tmp_path / "small.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA page_size = 512")
        connection.execute("VACUUM")
    with SQLiteCheckpointStore(path) as store:
        whole = checkpoint(parts=(part(1), part(2)))
        store.save(whole)
        good = path.read_bytes()
        assert len(good) <= 10 * 512
        # Most of a page is unused zeros: every sixteenth of these is enough.
        for position in (position for position, byte in enumerate(good) if byte or not position % 16):
            path.write_bytes(good[:position] + bytes([good[position] ^ 0xFF]) + good[position + 1 :])
            try:
                found = store.load(whole.name)
            except CheckpointDamaged:
                continue
            # If a name was changed, there is no checkpoint, or a part is missing.
            if found is not None:
                assert evolve(found, parts=()) == evolve(whole, parts=()), f"byte {position}"
                assert set(found.parts) <= set(whole.parts), f"byte {position}"


@pytest.fixture
def cut(database, path: Path, saved: Checkpoint) -> bytes:
    """Truncate the file of the database."""
    data = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(data)
    return data


def test_under_the_claim_a_damaged_file_is_set_aside_unchanged(
    database, path: Path, cut: bytes, saved, tmp_path
) -> None:
    with pytest.raises(CheckpointDamaged, match="It was not changed"):
        database.load(saved.name)
    with pytest.raises(CheckpointDamaged):
        list(database.scan())
    with pytest.raises(CheckpointUnwritable):
        database.save(saved)
    assert path.read_bytes() == cut
    with database.claim(saved.name):
        with pytest.raises(CheckpointDamaged, match="set aside") as caught:
            database.load(saved.name)
        assert caught.value.upload_id is None
        assert (tmp_path / "uploads.db.damaged").read_bytes() == cut
        assert database.load(saved.name) is None
        database.save(saved)
        assert database.load(saved.name) == saved
    assert list((tmp_path / "uploads.db.claims").iterdir()) == []


def test_a_file_that_was_replaced_since_is_not_set_aside(database, path: Path, cut, saved, monkeypatch) -> None:
    real = SQLiteCheckpointStore._is_damaged

    def after_another_process(self: SQLiteCheckpointStore, name: str) -> bool:
        path.unlink()
        SQLiteCheckpointStore(path).save(saved)
        return real(self, name)

    monkeypatch.setattr(SQLiteCheckpointStore, "_is_damaged", after_another_process)
    with database.claim(saved.name):
        with pytest.raises(CheckpointDamaged, match="It was not changed"):
            database.load(saved.name)
        assert database.load(saved.name) == saved
    assert not path.with_name("uploads.db.damaged").exists()


def test_a_file_that_was_removed_since_is_not_set_aside(database, path: Path, cut, saved, monkeypatch) -> None:
    real = SQLiteCheckpointStore._is_damaged
    monkeypatch.setattr(SQLiteCheckpointStore, "_is_damaged", lambda self, name: path.unlink() or real(self, name))
    with database.claim(saved.name):
        with pytest.raises(CheckpointDamaged, match="It was not changed"):
            database.load(saved.name)
        assert database.load(saved.name) is None


def test_a_file_that_can_t_be_examined_is_not_changed(database, path: Path, cut, saved, monkeypatch) -> None:
    def refused(path: str) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("partwise.stores.sqlite.looks_like_database", refused)
    with pytest.raises(CheckpointUnwritable, match="can't hold checkpoints"):
        database.claim(saved.name).__enter__()
    assert path.read_bytes() == cut


def test_a_damaged_file_that_can_t_be_set_aside_is_reported(database, path: Path, cut, saved, monkeypatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refused)
    with database.claim(saved.name), pytest.raises(CheckpointDamaged, match="It was not changed"):
        database.load(saved.name)
    assert path.read_bytes() == cut


@pytest.mark.parametrize("beside", [("-journal",), ("-wal", "-shm"), ("-wal",), ()])
def test_the_log_of_a_damaged_file_is_moved_before_it(path: Path, beside, monkeypatch) -> None:
    for suffix in (*beside, ""):
        path.with_name(path.name + suffix).write_text(suffix)
    moved = []
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (real(old, new), moved.append((old, new))))
    _database.Database(str(path)).set_aside()
    assert moved == [(f"{path}{suffix}", f"{path}.damaged{suffix}") for suffix in (*beside, "")]


def test_the_log_of_an_earlier_damaged_file_is_not_left_beside_the_next_one(path: Path) -> None:
    """SQLite would apply it to that one, when it is examined."""
    for suffix in ("-journal", "-wal", "-shm", ""):
        path.with_name(f"{path.name}{suffix}").write_text("first")
        path.with_name(f"{path.name}{suffix}").chmod(0o600)
    _database.Database(str(path)).set_aside()
    path.write_text("second")
    path.chmod(0o600)
    assert _database.Database(str(path)).set_aside() == f"{path}.damaged"
    assert {entry.name: entry.read_text() for entry in path.parent.iterdir()} == {f"{path.name}.damaged": "second"}


def test_sqlite_does_not_create_the_file(database, path: Path, checkpoint, monkeypatch) -> None:
    monkeypatch.setattr(_database.Database, "_create", lambda self: None)
    with pytest.raises(CheckpointUnwritable):
        database.save(checkpoint())
    assert not path.exists()


def test_a_file_of_zeros_as_after_a_power_loss_is_set_aside(database, path: Path, checkpoint) -> None:
    path.write_bytes(bytes(8192))
    name = checkpoint().name
    with database.claim(name):
        with pytest.raises(CheckpointDamaged, match="set aside"):
            database.load(name)
        database.save(checkpoint())
        assert database.load(name) == checkpoint()


def test_a_file_that_another_process_sets_aside_is_not_moved(database, path, cut, saved, tmp_path) -> None:
    with (
        database.claim(saved.name),
        filelock.FileLock(tmp_path / "uploads.db.claims" / "damaged.lock"),
        pytest.raises(CheckpointDamaged, match="It was not changed"),
    ):
        database.load(saved.name)
    assert path.read_bytes() == cut


def test_a_second_claim_in_a_damaged_database_is_refused_by_its_name(database, path: Path, cut, saved) -> None:
    with database.claim(saved.name), pytest.raises(CheckpointBusy, match=saved.name):
        database.claim(saved.name).__enter__()


# --- files of other programs -----------------------------------------------------------------------------------------


def assert_not_changed(path: Path, saved: Checkpoint, part: UploadedPart, why: str) -> None:
    before = path.read_bytes()
    with SQLiteCheckpointStore(path) as store:
        with pytest.raises(CheckpointUnwritable, match=why):
            store.claim(saved.name).__enter__()
        with pytest.raises(CheckpointUnwritable, match="name another file"):
            store.save(saved)
        with pytest.raises(CheckpointUnwritable, match="name another file"):
            store.append_part(saved.name, "UPLOAD", part)
        with pytest.raises(CheckpointUnwritable, match="name another file"):
            store.delete(saved.name, "UPLOAD")
        with pytest.raises(CheckpointDamaged, match="It was not changed"):
            store.load(saved.name)
        with pytest.raises(CheckpointDamaged, match="It was not changed"):
            list(store.scan())
    assert path.read_bytes() == before
    assert {entry.name for entry in path.parent.iterdir()} <= {path.name, f"{path.name}.claims"}


def test_a_file_that_begins_with_zeros_is_not_changed(path: Path, checkpoint, part) -> None:
    path.write_bytes(bytes(4096) + b"a disk image")
    assert_not_changed(path, checkpoint(), part(1), "it")


def test_the_database_of_another_program_is_not_changed(path: Path, checkpoint, part) -> None:
    change(path, "CREATE TABLE users (name TEXT)")
    assert_not_changed(path, checkpoint(), part(1), "another program")
    change(path, "PRAGMA application_id = 5")
    assert_not_changed(path, checkpoint(), part(1), "another program")


def test_a_database_of_another_schema_version_is_not_changed(database, path: Path, saved, part) -> None:
    change(path, "PRAGMA user_version = 7")
    assert_not_changed(path, saved, part(1), "version 7")


def test_a_file_that_is_not_a_database_is_not_changed(path: Path, checkpoint, part) -> None:
    path.write_bytes(b"precious bytes\n" * 1000)
    assert_not_changed(path, checkpoint(), part(1), "not a database")


def test_a_directory_in_place_of_the_database_is_reported(path: Path, checkpoint) -> None:
    path.mkdir()
    with SQLiteCheckpointStore(path) as store:
        with pytest.raises(CheckpointUnwritable):
            store.claim(checkpoint().name).__enter__()
        with pytest.raises(CheckpointError):
            store.load(checkpoint().name)


def test_two_processes_that_create_the_database_at_once_create_one(
    database, path: Path, checkpoint, monkeypatch
) -> None:
    real = _database._is_ready
    asked = []

    def quicker(connection: sqlite3.Connection) -> bool:
        asked.append(real(connection))
        if len(asked) == 1:
            with SQLiteCheckpointStore(path) as other:
                other.save(checkpoint("other"))
        return asked[-1]

    path.touch()
    monkeypatch.setattr(_database, "_is_ready", quicker)
    database.save(checkpoint())
    assert len(list(database.scan())) == 2
    assert asked[0] is False


def test_a_file_that_another_process_creates_at_the_same_time_is_used(
    database, path: Path, checkpoint, monkeypatch
) -> None:
    with SQLiteCheckpointStore(path) as other:
        other.save(checkpoint("other"))
    with monkeypatch.context() as patch:
        patch.setattr(os.path, "lexists", lambda _: False)
        database.save(checkpoint())
    assert len(list(database.scan())) == 2


def test_an_empty_file_can_be_used_for_a_database(database, path: Path, checkpoint) -> None:
    path.touch()
    assert database.load(checkpoint().name) is None
    database.save(checkpoint())
    assert database.load(checkpoint().name) == checkpoint()


# --- unusable paths --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["", "nul\0byte", b"nul\0byte", "\ud800", 5, ":memory:"], ids=repr)
def test_an_invalid_path_is_refused(place: object) -> None:
    with pytest.raises(InvalidInput):
        SQLiteCheckpointStore(place)  # type: ignore[arg-type]  # on purpose


def test_a_missing_directory_is_not_created(tmp_path: Path, checkpoint) -> None:
    with (
        SQLiteCheckpointStore(tmp_path / "missing" / "uploads.db") as store,
        pytest.raises(CheckpointUnwritable, match="there is no directory") as caught,
    ):
        store.claim(checkpoint().name).__enter__()
    assert isinstance(caught.value.__cause__, OSError)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_reported_and_nothing_is_lost(database, saved, checkpoint, part, monkeypatch) -> None:
    real = _database._configure

    def on_a_full_disk(connection: sqlite3.Connection) -> None:
        real(connection)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    def append_all(numbers: range) -> None:
        for number in numbers:
            database.append_part(saved.name, "UPLOAD", part(number))

    large = checkpoint(parts=tuple(part(number) for number in range(1, 2000)))
    with database.claim(saved.name):
        with monkeypatch.context() as patch:
            patch.setattr(_database, "_configure", on_a_full_disk)
            database._database.close()
            with pytest.raises(CheckpointUnwritable, match="Free some space") as caught:
                database.save(large)
            assert isinstance(caught.value.__cause__, sqlite3.Error)
            with pytest.raises(CheckpointUnwritable, match="Free some space"):
                append_all(range(4, 2000))
            found = database.load(saved.name)
            assert found.parts == tuple(part(number) for number in range(1, len(found.parts) + 1))
            assert len(found.parts) >= 3
        database._database.close()
        database.save(large)
        assert database.load(saved.name) == large


def test_a_database_that_stays_locked_is_reported(database, path: Path, saved, part) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other, _short_timeouts():
        other.execute("BEGIN IMMEDIATE")
        for call in (
            lambda: database.save(saved),
            lambda: database.append_part(saved.name, "UPLOAD", part(9)),
            lambda: database.delete(saved.name, "UPLOAD"),
            lambda: database.claim(saved.name).__enter__(),
        ):
            with pytest.raises(CheckpointUnwritable, match="kept it locked") as caught:
                call()
            assert caught.value.retryable
        assert database.load(saved.name) == saved
        other.execute("COMMIT")
    with database.claim(saved.name):
        database.append_part(saved.name, "UPLOAD", part(9))


def test_a_file_that_can_t_be_written_for_another_reason_is_not_retried(database, saved, tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnwritable) as caught:
        SQLiteCheckpointStore(tmp_path).save(saved)
    assert not caught.value.retryable


LOCKS_FOR_A_SECOND = """
import sqlite3, sys, time
with sqlite3.connect(sys.argv[1], isolation_level=None) as other:
    other.execute("BEGIN EXCLUSIVE")
    print("locked", flush=True)
    time.sleep(1)
    other.execute("ROLLBACK")
"""


def test_an_upload_waits_for_another_process_that_has_locked_the_database(database, path: Path, saved) -> None:
    backend = MemoryBackend(limits=ANY_PART)
    with forked.start_code(LOCKS_FOR_A_SECOND, path, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"locked\n"
        with _short_timeouts():
            result = Uploader(backend, store=database, config=IN_PARTS).upload(b"0123456789" * 5, "key")
    assert (backend.read("key"), result.warnings) == (b"0123456789" * 5, ())
    assert result.retries > 0


def test_parts_are_recorded_once_another_thread_has_unlocked_the_database(database, path: Path, saved) -> None:
    recorded = []

    class Locking(MemoryBackend):
        def upload_part(self, key, upload_id, part_number, body):
            if part_number == 2:
                other.execute("BEGIN EXCLUSIVE")
            if part_number == 4:
                other.execute("ROLLBACK")
            return super().upload_part(key, upload_id, part_number, body)

        def complete_upload(self, key, upload_id, parts, options):
            recorded.extend(checkpoint.parts for checkpoint in database.scan() if checkpoint.key == key)
            return super().complete_upload(key, upload_id, parts, options)

    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other, _short_timeouts():
        uploader = Uploader(Locking(limits=ANY_PART), store=database, config=IN_PARTS)
        result = uploader.start(b"0123456789" * 5, "key").result()
    assert [part.part_number for part in recorded[0]] == [1, 2, 3, 4, 5]
    assert result.warnings == ()


def test_a_database_that_can_t_be_read_is_neither_damaged_nor_missing(database, path: Path, saved) -> None:
    change(path, "PRAGMA journal_mode = DELETE")
    with closing(sqlite3.connect(path, isolation_level=None)) as other, _short_timeouts():
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(CheckpointError, match="can't be read") as caught:
            database.load(saved.name)
        assert (type(caught.value), caught.value.retryable) == (CheckpointError, True)
        other.execute("COMMIT")
    assert database.load(saved.name) == saved


@forks
@may_fork
def test_a_read_only_directory_is_reported_at_the_claim(database, path: Path, tmp_path: Path, saved, part) -> None:
    tmp_path.chmod(0o555)
    path.chmod(0o444)
    for above in tmp_path.parents:
        if above != Path("/") and above.owner() == tmp_path.owner():
            above.chmod(above.stat().st_mode | 0o011)
    child = os.fork()
    if not child:
        status = 1
        try:
            if not os.geteuid():
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            for call in (
                lambda: database.claim(saved.name).__enter__(),
                lambda: database.save(saved),
                lambda: database.append_part(saved.name, "UPLOAD", part(9)),
            ):
                with pytest.raises(CheckpointUnwritable):
                    call()
            status = 0
        finally:
            os._exit(status)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        tmp_path.chmod(0o755)


def test_a_directory_that_does_not_support_sync_is_accepted(database, checkpoint, monkeypatch) -> None:
    def refused(file: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refused)
    database.save(checkpoint())
    assert database.load(checkpoint().name) == checkpoint()


# --- processes -------------------------------------------------------------------------------------------------------


@forks
@may_fork
def test_a_forked_child_opens_a_new_connection(database, saved, checkpoint, part) -> None:
    with database.claim(saved.name):
        database.append_part(saved.name, "UPLOAD", part(4))
        connection = database._database._connection
        child = os.fork()
        if not child:
            status = 1
            try:
                neighbour = checkpoint("neighbour").name
                with database.claim(neighbour):
                    database.append_part(neighbour, "UPLOAD", part(1))
                    assert database._database._connection is not connection
                    assert _database._inherited == [connection]
                assert database.load(saved.name).parts[-1] == part(4)
                database.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        database.append_part(saved.name, "UPLOAD", part(5))
        assert database._database._connection is connection
    assert database.load(saved.name).parts == (*saved.parts, part(4), part(5))
    assert database.load(checkpoint("neighbour").name).parts == (part(1),)


@forks
@may_fork
def test_a_forked_child_closes_a_store_that_another_thread_of_its_parent_uses(database, saved) -> None:
    used, done = threading.Event(), threading.Event()

    def use() -> None:
        with database._database.use(create=False):
            used.set()
            assert done.wait(30)

    with database.claim(saved.name), ThreadPoolExecutor(1) as pool:
        connection = database._database._connection
        using = pool.submit(use)
        try:
            assert used.wait(30)
            child = os.fork()
            if not child:
                status = 1
                try:
                    signal.alarm(10)  # ends a child that hangs
                    database.claim_owner(saved.name)
                    database.close()
                    assert _database._inherited == [connection]
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        finally:
            done.set()
        using.result(30)


WRITER = """
import sys
from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.model import UploadedPart
from partwise.stores.sqlite import SQLiteCheckpointStore
store = SQLiteCheckpointStore(sys.argv[1])
saved = Checkpoint("oss://b", sys.argv[2], "/data/a", Fingerprint(), 1, upload_id="u")
with store.claim(saved.name):
    store.save(saved)
    print("saved", flush=True)
    for number in range(1, int(sys.argv[3]) + 1):
        store.append_part(saved.name, saved.upload_id, UploadedPart(number, 1, "e"))
        print(number, flush=True)
"""


def writer(path: Path, key: str, parts: int) -> subprocess.Popen[str]:
    modules = ("partwise.stores.sqlite",)
    return forked.start_code(WRITER, path, key, str(parts), modules=modules, stdout=subprocess.PIPE, text=True)


def test_processes_that_write_at_the_same_time_lose_nothing(path: Path) -> None:
    processes = [writer(path, f"key {number}", 100) for number in range(4)]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    with SQLiteCheckpointStore(path) as store:
        found = {one.key: [part.part_number for part in one.parts] for one in store.scan()}
    assert found == {f"key {number}": list(range(1, 101)) for number in range(4)}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
@pytest.mark.parametrize("acknowledged", [0, 1, 50])
def test_parts_acknowledged_before_a_process_is_killed_are_kept(path: Path, acknowledged: int) -> None:
    with writer(path, "key", 10_000) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(acknowledged + 1)]
        process.kill()
    assert lines[0] == "saved\n"
    name = Checkpoint("oss://b", "key", "/data/a", _ANY_VERSION, 1).name
    with SQLiteCheckpointStore(path) as store, store.claim(name):
        numbers = [part.part_number for part in store.load(name).parts]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= acknowledged


# --- by URL ----------------------------------------------------------------------------------------------------------


def test_the_path_follows_the_third_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = Path(os.path.realpath(tmp_path))
    assert repr(open_url("sqlite:///uploads.db")) == f"<SQLiteCheckpointStore {here / 'uploads.db'}>"
    assert repr(open_url("SQLite:///uploads.db")) == repr(open_url("sqlite:///uploads.db"))
    assert repr(open_url("sqlite:///a/b%20?c#d.db")) == f"<SQLiteCheckpointStore {here / 'a/b%20?c#d.db'}>"
    assert repr(open_url(f"sqlite:///{here}/uploads.db")) == f"<SQLiteCheckpointStore {here / 'uploads.db'}>"


@pytest.mark.parametrize("url", ["", "sqlite:", "sqlite://", "sqlite:///", "sqlite://host/x", "sqlite:x", "file:///x"])
def test_a_url_without_a_file_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="four slashes"):
        open_url(url)


def test_characters_of_a_path_are_not_special_in_a_url(tmp_path: Path, checkpoint) -> None:
    path = tmp_path / "b%20?c#d e.db"
    with SQLiteCheckpointStore(path) as store:
        store.save(checkpoint())
    assert path.is_file()
