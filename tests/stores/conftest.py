"""Fixtures of the tests of the stores: a checkpoint, its parts, and a store of each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.model import MIB, UploadedPart
from partwise.stores.file import FileCheckpointStore
from partwise.stores.memory import MemoryCheckpointStore
from partwise.stores.sqlite import SQLiteCheckpointStore

SOURCE = "backup.tar"


def part_of(number: int, version: int = 1) -> UploadedPart:
    return UploadedPart(number, 8 * MIB, f"ETAG-{number}-{version}", 2**64 - number if number % 2 else None)


def checkpoint_of(key: str = "exampledir/backup.tar", source: str = "/data/backup.tar", **more: object) -> Checkpoint:
    values: dict[str, object] = {"upload_id": "UPLOAD", "created": 1700000000.25, **more}
    return Checkpoint("oss://examplebucket", key, source, Fingerprint(100 * MIB, 1), 8 * MIB, **values)  # type: ignore[arg-type]  # a helper for tests


@define
class Form:
    """
    A kind of store.

    Args:
        name: shown in the test's name.
        open: returns another handle on the same checkpoints.
    """

    name: str
    open: Callable[[], Any]


FORMS = ("memory", "default directory", "directory", "explicit file", "beside source", "sqlite")


def make_form(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Form:
    match name:
        case "memory":
            return Form(name, MemoryCheckpointStore().handle)
        case "default directory":
            monkeypatch.setattr("platformdirs.user_state_path", lambda *_, **__: tmp_path / "state" / "partwise")
            return Form(name, FileCheckpointStore)
        case "directory":
            return Form(name, lambda: FileCheckpointStore(tmp_path / "made" / "when needed"))
        case "explicit file":
            return Form(name, lambda: FileCheckpointStore.for_file(tmp_path / "state.ucp"))
        case "beside source":
            source = str(tmp_path / SOURCE)
            return Form(name, lambda: FileCheckpointStore.beside_source()(source))
        case "sqlite":
            return Form(name, lambda: SQLiteCheckpointStore(tmp_path / "uploads.db"))
    raise AssertionError(name)


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Form:
    return make_form(request.param, tmp_path, monkeypatch)


@pytest.fixture(params=[name for name in FORMS if name not in ("explicit file", "beside source")])
def roomy(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Form:
    """A kind of store that can hold many checkpoints."""
    return make_form(request.param, tmp_path, monkeypatch)


@pytest.fixture
def part() -> Callable[..., UploadedPart]:
    return part_of


@pytest.fixture
def checkpoint() -> Callable[..., Checkpoint]:
    return checkpoint_of


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[FileCheckpointStore]:
    with FileCheckpointStore(tmp_path) as store:
        yield store


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SQLiteCheckpointStore]:
    with SQLiteCheckpointStore(tmp_path / "uploads.db") as store:
        yield store
