"""What is synced to the medium, and in which order, so that a power loss breaks no guarantee."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from partwise import _durable
from partwise.checkpoint import Checkpoint
from partwise.model import UploadedPart
from partwise.stores.file import FileCheckpointStore
from partwise.stores.sqlite import SQLiteCheckpointStore

MakeCheckpoint = Callable[..., Checkpoint]


class Calls:
    """Records the system calls that change the medium, each with its names below `root`."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._root = root
        self.made: list[tuple[str, ...]] = []
        real = {name: getattr(os, name) for name in ("open", "write", "fsync", "replace", "mkdir")}

        def open_(path: Any, flags: int, *more: Any, **named: Any) -> int:
            file: int = real["open"](path, flags, *more, **named)
            if flags & os.O_CREAT:
                self._note("make", path)
            return file

        def write(file: int, data: Any) -> int:
            self._note("write", file)
            return int(real["write"](file, data))

        def fsync(file: int) -> None:
            self._note("sync", file)

        def replace(old: Any, new: Any) -> None:
            self._note("rename", old, new)
            real["replace"](old, new)

        def mkdir(path: Any, *more: Any) -> None:
            real["mkdir"](path, *more)
            self._note("mkdir", path)

        for name, call in {"open": open_, "write": write, "fsync": fsync, "replace": replace, "mkdir": mkdir}.items():
            monkeypatch.setattr(os, name, call)
        monkeypatch.setattr(_durable, "fcntl", None)  # the plain sync, on macOS too

    def _note(self, call: str, *places: Any) -> None:
        names = [self._name(place) for place in places]
        if not names[0].endswith((".lock", ".owner")):
            self.made.append((call, *names))

    def _name(self, place: Any) -> str:
        if isinstance(place, int):
            status = os.fstat(place)
            place = next(path for path in (self._root, *self._root.rglob("*")) if os.path.samestat(path.stat(), status))
        return Path(place).relative_to(self._root).as_posix()


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(tmp_path, monkeypatch)


def test_a_save_syncs_the_data_then_renames_then_syncs_the_directory(
    tmp_path: Path, calls: Calls, checkpoint: MakeCheckpoint
) -> None:
    store = FileCheckpointStore(tmp_path)
    file = f"{checkpoint().name}.ucp"
    with store.claim(checkpoint().name):
        for _ in range(2):
            calls.made.clear()
            store.save(checkpoint())
            assert calls.made == [
                ("make", f"{file}.tmp"),
                ("write", f"{file}.tmp"),
                ("sync", f"{file}.tmp"),
                ("rename", f"{file}.tmp", file),
                ("sync", "."),
            ]


def test_a_part_is_written_and_not_synced(tmp_path: Path, calls: Calls, checkpoint: MakeCheckpoint) -> None:
    store = FileCheckpointStore(tmp_path)
    store.save(checkpoint())
    with store.claim(checkpoint().name):
        calls.made.clear()
        store.append_part(checkpoint().name, "UPLOAD", UploadedPart(1, 1, "e"))
    assert calls.made == [("write", f"{checkpoint().name}.ucp")]


def test_each_created_directory_is_synced_into_its_parent(
    tmp_path: Path, calls: Calls, checkpoint: MakeCheckpoint
) -> None:
    FileCheckpointStore(tmp_path / "one" / "two").save(checkpoint())
    assert calls.made[:4] == [("mkdir", "one"), ("sync", "."), ("mkdir", "one/two"), ("sync", "one")]


def test_a_new_database_is_synced_into_its_directory_before_it_is_used(
    tmp_path: Path, calls: Calls, checkpoint: MakeCheckpoint
) -> None:
    with SQLiteCheckpointStore(tmp_path / "uploads.db") as store:
        store.save(checkpoint())
        assert calls.made == [("make", "uploads.db"), ("sync", ".")]
        calls.made.clear()
        store.save(checkpoint())
        store.load(checkpoint().name)
        assert calls.made == [], "an existing directory is synced already"


def test_the_directory_of_claims_is_synced_into_its_parent(
    tmp_path: Path, calls: Calls, checkpoint: MakeCheckpoint
) -> None:
    with SQLiteCheckpointStore(tmp_path / "uploads.db") as store, store.claim(checkpoint().name):
        assert calls.made == [
            ("mkdir", "uploads.db.claims"),
            ("sync", "."),
            ("make", "uploads.db"),
            ("sync", "."),
        ]


def test_sqlite_syncs_past_the_cache_of_the_drive_where_the_system_can(
    tmp_path: Path, checkpoint: MakeCheckpoint
) -> None:
    with SQLiteCheckpointStore(tmp_path / "uploads.db") as store, store.claim(checkpoint().name):
        connection = store._database._connection
        assert connection is not None
        found = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("fullfsync", "synchronous", "journal_mode")
        }
        assert found == {"fullfsync": 1, "synchronous": 1, "journal_mode": b"wal"}


def test_a_file_is_closed_before_it_is_replaced(
    tmp_path: Path, checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows can't replace an open file."""
    store = FileCheckpointStore(tmp_path)
    open_files = []
    real = os.replace

    def replace(old: str, new: str) -> None:
        open_files.append(list(store._appender._tails))
        real(old, new)

    with store.claim(checkpoint().name):
        store.save(checkpoint())
        store.append_part(checkpoint().name, "UPLOAD", UploadedPart(1, 1, "e"))
        assert list(store._appender._tails) != []
        monkeypatch.setattr(os, "replace", replace)
        store.save(checkpoint())
    assert open_files == [[]]
