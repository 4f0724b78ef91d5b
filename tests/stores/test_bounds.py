"""Reading is bounded: sizes, counts, nesting, and the work of SQLite."""

from __future__ import annotations

import json
import os
import sqlite3
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.errors import CheckpointDamaged, CheckpointError, CheckpointUnwritable
from partwise.model import MIB, UploadedPart
from partwise.stores import _database
from partwise.stores import _journal as journal
from partwise.stores import sqlite as sqlite_store
from partwise.stores.file import FileCheckpointStore
from partwise.stores.sqlite import SQLiteCheckpointStore

SAVED = Checkpoint("oss://bucket", "key", "/data/file", Fingerprint(100, 1), 10, upload_id="ID")


@contextmanager
def limited_memory(size: int) -> Iterator[None]:
    """Fail if the block allocates more memory than this at any time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


def sealed(*bodies: bytes) -> bytes:
    """A file with these lines and valid checksums."""
    digest = mark = journal._MARK
    lines = []
    for body in bodies:
        digest = journal.checksum(digest, body)
        lines.append(b"%b %b\n" % (body, digest.hex().encode()))
    return mark + b"".join(lines)


HEADER = journal.header_text(SAVED).encode()


# --- a file ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", [b"", journal.encode(SAVED)], ids=["only zeros", "zeros after a checkpoint"])
def test_reading_a_file_of_gibibytes_takes_bounded_memory(tmp_path: Path, begin: bytes) -> None:
    store = FileCheckpointStore(tmp_path)
    path = store.path_for(SAVED.name)
    path.write_bytes(begin)
    os.truncate(path, 3 * 1024 * MIB)  # sparse
    path.chmod(0o600)

    with limited_memory(2 * journal.BYTES_MAX + MIB):
        with store.claim(SAVED.name):
            with pytest.raises(CheckpointDamaged):
                store.append_part(SAVED.name, SAVED.upload_id, UploadedPart(1, 10, "e"))
            with pytest.raises(
                CheckpointDamaged, match=r"larger than the maximum of 64 MiB|first line is longer"
            ) as caught:
                store.load(SAVED.name)
            store.save(SAVED)
        assert caught.value.upload_id == ("ID" if begin else None)
        assert store.load(SAVED.name) == SAVED
    Path(str(caught.value.where)).unlink()


def test_naming_the_upload_of_a_file_of_gibibytes_reads_one_line(tmp_path: Path) -> None:
    store = FileCheckpointStore.for_file(tmp_path / "state.ucp")
    (tmp_path / "state.ucp").write_bytes(journal.encode(SAVED))
    (tmp_path / "state.ucp").chmod(0o600)
    os.truncate(tmp_path / "state.ucp", 3 * 1024 * MIB)

    with limited_memory(8 * MIB), store.claim(SAVED.name), pytest.raises(CheckpointError, match="'/data/file'"):
        FileCheckpointStore.for_file(tmp_path / "state.ucp").claim("another").__enter__()


@pytest.mark.parametrize("more", [0, 1])
def test_a_file_may_have_the_maximum_size_but_not_more(monkeypatch: pytest.MonkeyPatch, more: int) -> None:
    data = journal.encode(evolve(SAVED, parts=[UploadedPart(number, 10, "e") for number in range(1, 5)]))
    monkeypatch.setattr(journal, "BYTES_MAX", len(data) - more)

    with pytest.raises(journal.CorruptJournal, match="it is larger than") if more else nullcontext():
        assert len(journal.decode(data).checkpoint.parts) == 4


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("line", [1, 2])
def test_a_line_may_have_the_maximum_length_but_not_more(monkeypatch: pytest.MonkeyPatch, line: int, more: int) -> None:
    checkpoint = evolve(SAVED, parts=[UploadedPart(1, 10, "e" * 1000 if line == 2 else "e")])
    data = journal.encode(checkpoint)
    lengths = [len(text) for text in data.split(b"\n")]
    assert (lengths[0] < lengths[1]) == (line == 2)
    monkeypatch.setattr(journal, "LINE_MAX", lengths[line - 1] - more)

    with pytest.raises(journal.CorruptJournal, match=r"line.* is longer than") if more else nullcontext():
        assert journal.decode(data).checkpoint == checkpoint


def test_a_checkpoint_that_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    longest = journal.LINE_MAX - len(HEADER) - len(journal._MARK) - journal._END_CHARS
    for store in (FileCheckpointStore(tmp_path), SQLiteCheckpointStore(tmp_path / "uploads.db")):
        for more in (0, 1):
            saved = evolve(SAVED, upload_id="x" * (longest + len("ID") + more))
            if more:
                with pytest.raises(CheckpointUnwritable, match=r"its names and options have 1,048,\d+ bytes"):
                    store.save(saved)
            else:
                store.save(saved)
            assert store.load(SAVED.name) == evolve(SAVED, upload_id="x" * (longest + len("ID")))


@pytest.mark.parametrize("depth", [100, 900, 100_000])
@pytest.mark.parametrize("where", ["header", "field", "part"])
def test_deeply_nested_data_is_damage(tmp_path: Path, depth: int, where: str) -> None:
    nested = b"[" * depth + b"]" * depth
    bodies = {
        "header": [nested],
        "field": [HEADER.replace(b'"ID"', nested)],
        "part": [HEADER, nested],
    }[where]
    store = FileCheckpointStore(tmp_path)
    store.path_for(SAVED.name).write_bytes(sealed(*bodies))
    store.path_for(SAVED.name).chmod(0o600)

    assert list(store.scan()) == []
    with store.claim(SAVED.name), pytest.raises(CheckpointDamaged, match="set aside"):
        store.load(SAVED.name)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1e20", "-1", "9" * 30, "9" * 5000])
@pytest.mark.parametrize("field", ["created", "part_size", "size"])
def test_an_invalid_number_damages_only_its_file(tmp_path: Path, number: str, field: str) -> None:
    data = json.loads(HEADER)
    data["created"] = 1.5
    (data["fingerprint"] if field == "size" else data)[field] = "HERE"
    body = json.dumps(data).replace('"HERE"', number).encode()
    store = FileCheckpointStore(tmp_path)
    store.save(evolve(SAVED, key="other"))
    store.path_for(SAVED.name).write_bytes(sealed(body))
    store.path_for(SAVED.name).chmod(0o600)

    assert [one.key for one in store.scan()] == ["other"]
    with pytest.raises(CheckpointDamaged):
        store.load(SAVED.name)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([*json.loads(HEADER), "parts", "abandoned", "created", "options", "novelty"]), JSON)
def test_any_header_with_a_valid_checksum_is_a_checkpoint_or_damage(field: str, value: Any) -> None:
    data = sealed(json.dumps({**json.loads(HEADER), field: value}).encode())
    with suppress(journal.CorruptJournal):
        assert journal.decode(data).checkpoint.part_size >= 1


@settings(max_examples=50)
@given(st.lists(JSON | st.lists(JSON, min_size=4, max_size=4), max_size=3))
def test_any_record_with_a_valid_checksum_is_a_part_or_damage(records: list[Any]) -> None:
    data = sealed(HEADER, *(json.dumps(record).encode() for record in records))
    with suppress(journal.CorruptJournal):
        assert len(journal.decode(data).checkpoint.parts) <= len(records)


@given(st.binary(max_size=200), st.integers(0, 200), st.integers(1, 200))
def test_any_file_is_a_checkpoint_or_damage(noise: bytes, place: int, length: int) -> None:
    whole = journal.encode(evolve(SAVED, parts=(UploadedPart(1, 10, "e"),)))
    for data in (noise, whole[:place] + noise + whole[place + length :]):
        with suppress(journal.CorruptJournal):
            assert evolve(journal.decode(data).checkpoint, parts=()) == SAVED
        with suppress(journal.CorruptJournal):
            journal.verify(data)


# --- a database ------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "uploads.db"


def make(path: Path, *statements: str) -> None:
    """A database with the marks of partwise."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.execute("PRAGMA application_id = 0x70617274")
        connection.execute("PRAGMA user_version = 1")
    path.chmod(0o600)


CHECKPOINTS, PARTS, DAMAGED = _database._TABLES
ENDLESS = (
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "
    "SELECT x AS name, x AS header, x AS checksum FROM c"
)

#: Each is a database that looks like one of partwise, and would run other code when it is used.
TRAPS = {
    "an endless view": (f"CREATE VIEW checkpoints AS {ENDLESS}", PARTS, DAMAGED),
    "an endless view of parts": (CHECKPOINTS, f"CREATE VIEW parts AS {ENDLESS}", DAMAGED),
    "a trigger": (
        CHECKPOINTS,
        PARTS,
        DAMAGED,
        f"CREATE TRIGGER t AFTER INSERT ON parts BEGIN INSERT INTO damaged {ENDLESS}; END",
    ),
    "a virtual table": ("CREATE VIRTUAL TABLE checkpoints USING fts5(name, header, checksum)", PARTS, DAMAGED),
    "a generated column": (
        CHECKPOINTS.replace("header TEXT NOT NULL", "header TEXT AS (printf('%.*c', 1000000000, 'x'))"),
        PARTS,
        DAMAGED,
    ),
    "a check": (CHECKPOINTS.replace("checksum TEXT NOT NULL", "checksum TEXT CHECK (1)"), PARTS, DAMAGED),
    "an index": (CHECKPOINTS, PARTS, DAMAGED, "CREATE INDEX i ON parts (printf('%.*c', 1000000000, name))"),
    "a missing table": (CHECKPOINTS, PARTS),
    "another collation": (CHECKPOINTS.replace("TEXT PRIMARY KEY", "TEXT COLLATE NOCASE PRIMARY KEY"), PARTS, DAMAGED),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_database_with_any_other_schema_is_damaged(path: Path, trap: str) -> None:
    try:
        make(path, *TRAPS[trap])
    except sqlite3.OperationalError as error:
        if "no such module" in str(error):
            pytest.skip("this SQLite has no virtual tables of that kind")
        raise
    before = path.read_bytes()

    with SQLiteCheckpointStore(path) as store:
        with pytest.raises(CheckpointDamaged, match=r"not those that partwise creates\. It was not changed"):
            list(store.scan())
        with pytest.raises(CheckpointUnwritable, match="its tables are not those"):
            store.save(SAVED)
        assert path.read_bytes() == before
        with store.claim(SAVED.name):
            with pytest.raises(CheckpointDamaged, match=r"It was set aside as .*uploads\.db\.damaged"):
                store.load(SAVED.name)
            store.save(SAVED)
            assert store.load(SAVED.name) == SAVED
    assert path.with_name("uploads.db.damaged").read_bytes() == before


def test_a_database_that_was_analyzed_vacuumed_or_laid_out_otherwise_is_accepted(path: Path) -> None:
    with SQLiteCheckpointStore(path) as store:
        store.save(SAVED)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("ANALYZE")
            connection.execute("VACUUM")
        assert store.load(SAVED.name) == SAVED
    make(path.with_name("other.db"), *(statement.replace("\n", " ") for statement in _database._TABLES))
    with SQLiteCheckpointStore(path.with_name("other.db")) as store:
        store.save(SAVED)
        assert store.load(SAVED.name) == SAVED


def test_a_value_of_many_mebibytes_is_not_read(path: Path) -> None:
    with SQLiteCheckpointStore(path) as store:
        store.save(SAVED)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE checkpoints SET header = printf('%.*c', ?, 'x')", (10 * MIB,))
        with pytest.raises(CheckpointDamaged, match="too big"):
            store.load(SAVED.name)


def test_parts_of_more_than_the_maximum_total_size_are_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "BYTES_MAX", MIB)
    with SQLiteCheckpointStore(path) as store:
        store.save(SAVED)
        for number in range(1, 41):
            store.append_part(SAVED.name, SAVED.upload_id, UploadedPart(number, 10, "e" * (MIB // 4)))
        with limited_memory(5 * MIB), pytest.raises(CheckpointDamaged, match="more than 1 MiB") as caught:
            store.load(SAVED.name)
        with store.claim(SAVED.name), pytest.raises(CheckpointDamaged, match="set aside"):
            store.load(SAVED.name)

        assert caught.value.upload_id == SAVED.upload_id
        assert store.load(SAVED.name) is None


@pytest.mark.parametrize("ours", [True, False])
def test_a_schema_of_thousands_of_views_is_not_read_to_the_end(
    path: Path, monkeypatch: pytest.MonkeyPatch, ours: bool
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(f"PRAGMA application_id = {_database._APPLICATION_ID if ours else 0}")
        connection.execute(f"PRAGMA user_version = {_database.VERSION if ours else 0}")
        views = ((f"v{number}", f"v{number}", f"CREATE VIEW v{number} AS SELECT 1") for number in range(5000))
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO sqlite_master VALUES ('view', ?, ?, 0, ?)", views)
        connection.execute("COMMIT")
    monkeypatch.setattr(_database, "_OPERATIONS_OF_SCHEMA_MAX", 10_000)

    with SQLiteCheckpointStore(path) as store, pytest.raises(CheckpointDamaged, match="far more tables or views"):
        store.load(SAVED.name)


def test_more_parts_than_the_maximum_are_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SQLiteCheckpointStore(path) as store:
        store.save(evolve(SAVED, parts=[UploadedPart(number, 10, "e") for number in (1, 2, 3)]))
        monkeypatch.setattr(sqlite_store, "PART_NUMBER_MAX", 3)
        assert len(store.load(SAVED.name).parts) == 3
        monkeypatch.setattr(sqlite_store, "PART_NUMBER_MAX", 2)
        with pytest.raises(CheckpointDamaged, match="it has more than 2 parts") as caught:
            store.load(SAVED.name)
        assert caught.value.upload_id == "ID"


def test_endless_work_of_sqlite_is_stopped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound does not depend on the schema."""
    monkeypatch.setattr(_database, "_OPERATIONS_MAX", 10_000)
    monkeypatch.setattr(_database, "_OPERATIONS_STEP", 1_000)
    with SQLiteCheckpointStore(path) as store:
        store.save(SAVED)
        monkeypatch.setattr(sqlite_store, "_GET_HEADER", f"SELECT header, checksum FROM ({ENDLESS}) WHERE name = ?")
        for _ in range(2):
            with pytest.raises(CheckpointError, match="SQLite needs more than 10,000 operations"):
                store.load(SAVED.name)
            assert 10_000 < store._database._operations <= 11_000
        monkeypatch.undo()
        assert store.load(SAVED.name) == SAVED


def test_the_operations_of_each_use_are_counted_separately(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_database, "_OPERATIONS_MAX", 2_000)
    monkeypatch.setattr(_database, "_OPERATIONS_STEP", 10)
    with SQLiteCheckpointStore(path) as store, store.claim(SAVED.name):
        store.save(SAVED)
        for number in range(1, 200):
            store.append_part(SAVED.name, SAVED.upload_id, UploadedPart(number, 10, "e"))


def test_a_file_of_gibibytes_that_is_not_a_database_takes_no_memory(path: Path) -> None:
    path.touch(0o600)
    os.truncate(path, 3 * 1024 * MIB)
    with SQLiteCheckpointStore(path) as store, limited_memory(MIB), pytest.raises(CheckpointDamaged):
        store.load(SAVED.name)


ROW = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.binary(max_size=20) | st.text(max_size=20)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(column=st.sampled_from(["header", "record"]), value=ROW, seal=st.booleans())
def test_any_row_is_a_checkpoint_or_damage(path: Path, column: str, value: Any, seal: bool) -> None:
    table = {"header": "checkpoints", "record": "parts"}[column]
    whose = (SAVED.name,) if column == "header" else (SAVED.name, 1)
    text = value.encode() if isinstance(value, str) else value
    checksum = sqlite_store._sum(text, *whose) if seal and isinstance(text, bytes) else "x"
    with SQLiteCheckpointStore(path) as store, store._database.keep_open():
        store.save(evolve(SAVED, parts=(UploadedPart(1, 10, "e"),)))
        with store._database.use(create=False) as connection, suppress(sqlite3.IntegrityError):
            connection.execute(f"UPDATE {table} SET {column} = ?, checksum = ?", (value, checksum))
        with suppress(CheckpointDamaged):
            found = store.load(SAVED.name)
            assert found is None or evolve(found, parts=()) == SAVED
        assert len(list(store.scan())) <= 1
