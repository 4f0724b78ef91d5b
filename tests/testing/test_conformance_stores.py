"""The checkpoint stores that ship keep the promises of `CheckpointStore`."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from partwise.protocols import CheckpointStore
from partwise.stores.file import FileCheckpointStore
from partwise.stores.memory import MemoryCheckpointStore
from partwise.stores.sqlite import SQLiteCheckpointStore
from partwise.testing import CheckpointStoreConformance, StoreHarness, agreement_machine, run_machine


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here can tell whether bytes outlive the loss of power, so that need not be waited for."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


class MemoryHarness(StoreHarness):
    """This process's memory."""

    durable = False

    def __init__(self) -> None:
        self.store = MemoryCheckpointStore()

    def open(self) -> MemoryCheckpointStore:
        return self.store.handle()


class DiskHarness(StoreHarness):
    """What lies in a directory of its own."""

    examples = 15

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp())

    def close(self) -> None:
        shutil.rmtree(self.directory)


class DirectoryHarness(DiskHarness):
    """A directory of checkpoints."""

    tears = True

    def open(self) -> FileCheckpointStore:
        return FileCheckpointStore(self.directory)

    def elsewhere(self) -> Callable[[], CheckpointStore]:
        return partial(FileCheckpointStore, self.directory)

    def path(self, name: str) -> Path:
        with self.open() as store:
            return store.path_for(name)

    def read_record(self, name: str) -> bytes:
        return self.path(name).read_bytes()

    def write_record(self, name: str, data: bytes) -> None:
        self.path(name).write_bytes(data)

    def open_unwritable(self) -> CheckpointStore:
        file = self.directory / "file"
        file.touch()
        return FileCheckpointStore(file / "checkpoints")


class OneFileHarness(DirectoryHarness):
    """One explicit file."""

    holds_one = True

    def open(self) -> FileCheckpointStore:
        return FileCheckpointStore.for_file(self.directory / "the checkpoint")

    def elsewhere(self) -> Callable[[], CheckpointStore]:
        return partial(FileCheckpointStore.for_file, self.directory / "the checkpoint")

    def open_unwritable(self) -> CheckpointStore:
        return FileCheckpointStore.for_file(self.directory / "missing" / "checkpoint")


class BesideSourceHarness(DirectoryHarness):
    """A file beside its source."""

    holds_one = True

    def open(self) -> FileCheckpointStore:
        return FileCheckpointStore.beside_source().for_source(str(self.directory / "source"))

    def elsewhere(self) -> Callable[[], CheckpointStore]:
        return partial(FileCheckpointStore.for_file, self.directory / "source.ucp")

    def open_unwritable(self) -> CheckpointStore:
        return FileCheckpointStore.beside_source().for_source(str(self.directory / "missing" / "source"))


class SQLiteHarness(DiskHarness):
    """A database file, whose library waits for the disk; a record is the header in its row."""

    examples = 8

    def open(self) -> SQLiteCheckpointStore:
        return SQLiteCheckpointStore(self.directory / "checkpoints.db")

    def elsewhere(self) -> Callable[[], CheckpointStore]:
        return partial(SQLiteCheckpointStore, self.directory / "checkpoints.db")

    def read_record(self, name: str) -> bytes:
        with closing(sqlite3.connect(self.directory / "checkpoints.db")) as database:
            (header,) = database.execute("SELECT header FROM checkpoints WHERE name = ?", (name,)).fetchone()
        return str(header).encode()

    def write_record(self, name: str, data: bytes) -> None:
        with closing(sqlite3.connect(self.directory / "checkpoints.db")) as database, database:
            database.execute("PRAGMA synchronous = OFF")
            database.execute("UPDATE checkpoints SET header = CAST(? AS TEXT) WHERE name = ?", (data, name))

    def open_unwritable(self) -> CheckpointStore:
        return SQLiteCheckpointStore(self.directory / "missing" / "checkpoints.db")


class TestMemoryStore(CheckpointStoreConformance):
    harness = MemoryHarness


class TestDirectoryOfFiles(CheckpointStoreConformance):
    harness = DirectoryHarness


class TestOneFile(CheckpointStoreConformance):
    harness = OneFileHarness


class TestBesideTheSource(CheckpointStoreConformance):
    harness = BesideSourceHarness


class TestSQLite(CheckpointStoreConformance):
    harness = SQLiteHarness


def test_all_stores_agree() -> None:
    """Whatever sequence of calls they get, the stores answer alike (20)."""
    run_machine(agreement_machine([MemoryHarness, DirectoryHarness, SQLiteHarness]), examples=10)


def test_stores_of_one_file_agree() -> None:
    """Likewise for those that have room for one checkpoint."""
    run_machine(agreement_machine([MemoryHarness, OneFileHarness, BesideSourceHarness]), examples=10)
