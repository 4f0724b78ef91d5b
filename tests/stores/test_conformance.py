"""Every kind of store passes the public suite, and all of them agree."""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import forked
import pytest

from partwise.protocols import CheckpointStore
from partwise.stores.file import FileCheckpointStore
from partwise.stores.memory import MemoryCheckpointStore
from partwise.stores.sqlite import SQLiteCheckpointStore
from partwise.testing import CheckpointStoreConformance, StoreHarness, agreement_machine, run_machine
from partwise.testing.conformance import store_claims


@pytest.fixture(autouse=True)
def _claims_are_held_for_a_moment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No claim in these stores ends by itself: they have locks, and no leases."""
    monkeypatch.setattr(store_claims, "_HELD_FOR", 0.2)
    if request.cls is not TestDirectory:
        monkeypatch.setattr(store_claims, "_start_python", forked.start_claimant)  # to save time


NO_SECRETS = {
    "secrets": "it is opened without a password",
    "advance": "nothing in it depends on the time",
}


#: Sequences of calls of a store alone. The machine of all stores, which does the same, draws far more of them at once.
ALONE = 5


class MemoryHarness(StoreHarness):
    durable = False
    hooks_left_out = NO_SECRETS | dict.fromkeys(
        ("elsewhere", "read_record", "open_unwritable"), "it is in the memory of one process"
    )
    examples = ALONE

    def __init__(self) -> None:
        self.first = MemoryCheckpointStore()

    def open(self) -> CheckpointStore:
        return self.first.handle()


class PlaceHarness(StoreHarness):
    """A harness with a private directory."""

    hooks_left_out = NO_SECRETS

    def __init__(self) -> None:
        self.temporary = tempfile.TemporaryDirectory()
        self.root = Path(self.temporary.name)

    def close(self) -> None:
        self.temporary.cleanup()

    def elsewhere(self) -> Callable[[], CheckpointStore]:
        return functools.partial(copy.copy, self.open_for_test())


class DirectoryHarness(PlaceHarness):
    tears = True
    examples = ALONE

    def open(self) -> FileCheckpointStore:
        return FileCheckpointStore(self.root / "made" / "when needed")

    def open_unwritable(self) -> CheckpointStore:
        (self.root / "a file").touch()
        return FileCheckpointStore(self.root / "a file")

    def read_record(self, name: str) -> bytes:
        return self.open().path_for(name).read_bytes()

    def write_record(self, name: str, data: bytes) -> None:
        self.open().path_for(name).write_bytes(data)


class DefaultDirectoryHarness(PlaceHarness):
    examples = ALONE  # the code is the same as for any directory
    hooks_left_out = NO_SECRETS | dict.fromkeys(("read_record", "open_unwritable"), "see DirectoryHarness")

    def __init__(self) -> None:
        super().__init__()
        state = self.root / "state" / "partwise"
        self.patch = mock.patch("platformdirs.user_state_path", mock.Mock(return_value=state))
        self.patch.start()

    def open(self) -> FileCheckpointStore:
        return FileCheckpointStore()

    def elsewhere(self) -> Callable[[], CheckpointStore]:
        return functools.partial(FileCheckpointStore, self.root / "state" / "partwise" / "checkpoints")

    def close(self) -> None:
        self.patch.stop()
        super().close()


class ExplicitFileHarness(DirectoryHarness):
    holds_one = True
    examples = 15

    def open(self) -> FileCheckpointStore:
        return FileCheckpointStore.for_file(self.root / "state.ucp")

    def open_unwritable(self) -> CheckpointStore:
        return FileCheckpointStore.for_file(self.root / "missing" / "state.ucp")


class BesideSourceHarness(ExplicitFileHarness):
    examples = ALONE  # the code is the same as for any single file

    def open(self) -> FileCheckpointStore:
        return FileCheckpointStore.beside_source()(str(self.root / "backup.tar"))


class SQLiteHarness(PlaceHarness):
    """Its handles but the first keep the database open, as a claim does: most reads take less time then."""

    examples = ALONE
    hooks_left_out = NO_SECRETS | {"read_record": "damaged rows and files are tested in test_sqlite"}

    def __init__(self) -> None:
        super().__init__()
        self.kept_open = ExitStack()
        self.handles = 0

    def open(self) -> SQLiteCheckpointStore:
        store = SQLiteCheckpointStore(self.root / "uploads.db")
        self.handles += 1
        if self.handles > 1:
            self.kept_open.enter_context(store._database.keep_open())
        return store

    def close(self) -> None:
        self.kept_open.close()
        super().close()

    def open_unwritable(self) -> CheckpointStore:
        return SQLiteCheckpointStore(self.root / "missing" / "uploads.db")


class TestMemory(CheckpointStoreConformance):
    harness = MemoryHarness


class TestDirectory(CheckpointStoreConformance):
    harness = DirectoryHarness


class TestDefaultDirectory(CheckpointStoreConformance):
    harness = DefaultDirectoryHarness


class TestExplicitFile(CheckpointStoreConformance):
    harness = ExplicitFileHarness


class TestBesideSource(CheckpointStoreConformance):
    harness = BesideSourceHarness


class TestSQLite(CheckpointStoreConformance):
    harness = SQLiteHarness


@pytest.mark.parametrize(
    ("harnesses", "examples"),
    [
        ([MemoryHarness, DirectoryHarness, SQLiteHarness], 22),
        ([MemoryHarness, DirectoryHarness, SQLiteHarness, ExplicitFileHarness], 12),
    ],
    ids=["many checkpoints", "one checkpoint"],
)
def test_all_stores_agree(harnesses: list[Callable[[], StoreHarness]], examples: int) -> None:
    run_machine(agreement_machine(harnesses), examples)
