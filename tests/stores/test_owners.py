"""Who holds a claim, as others can see it."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import pytest

from partwise.checkpoint import Checkpoint
from partwise.errors import CheckpointBusy
from partwise.model import ClaimOwner
from partwise.stores import _owners
from partwise.stores.file import FileCheckpointStore
from partwise.stores.postgres import PostgresCheckpointStore
from partwise.stores.sqlite import SQLiteCheckpointStore

MakeCheckpoint = Callable[..., Checkpoint]
HOST = os.uname().nodename if os.name != "nt" else os.environ["COMPUTERNAME"]
#: More than the largest process id of Linux.
NO_PROCESS = 4_999_999


@pytest.fixture(params=["directory", "explicit file", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    match request.param:
        case "directory":
            return FileCheckpointStore(tmp_path)
        case "explicit file":
            return FileCheckpointStore.for_file(tmp_path / "one.ucp")
    return SQLiteCheckpointStore(tmp_path / "uploads.db")


def record_of(tmp_path: Path) -> Path:
    (found,) = tmp_path.rglob("*.owner")
    return found


def test_a_claim_names_its_process(store: Any, checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    name = checkpoint().name
    assert store.claim_owner(name) is None
    with store.claim(name):
        assert store.claim_owner(name) == ClaimOwner(HOST, os.getpid())
    assert store.claim_owner(name) is None
    assert list(tmp_path.rglob("*.owner")) == []


def test_another_process_sees_the_owner(store: Any, checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    name = checkpoint().name
    code = "import sys; from partwise.stores._owners import read_record; print(read_record(sys.argv[1]))"
    with store.claim(name):
        with forked.start_code(code, record_of(tmp_path), stdout=subprocess.PIPE, text=True) as process:
            output, _ = process.communicate()
        assert output.strip() == str(ClaimOwner(HOST, os.getpid()))


@pytest.mark.skipif(os.name == "nt", reason="processes are not looked up there")
def test_the_record_of_a_killed_process_is_not_shown(store: Any, checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    name = checkpoint().name
    with store.claim(name):
        record_of(tmp_path).write_text(f"partwise claim {NO_PROCESS} {HOST}\n")
        assert store.claim_owner(name) is None


def test_the_record_of_a_process_of_another_user_is_shown(
    store: Any, checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs, and this user may not send it a signal."""

    def denied(process: int, signal: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    name = checkpoint().name
    with store.claim(name):
        monkeypatch.setattr("os.kill", denied)
        assert store.claim_owner(name).process == os.getpid()


def test_a_process_of_another_host_is_not_looked_up(
    store: Any, checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "kill", lambda *arguments: pytest.fail("a process was looked up"))
    name = checkpoint().name
    with store.claim(name):
        record_of(tmp_path).write_text(f"partwise claim {NO_PROCESS} elsewhere.example.com\n")
        assert store.claim_owner(name) == ClaimOwner("elsewhere.example.com", NO_PROCESS)


BEGIN = "partwise claim "


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "\n",
            "12 host\n",
            f"{BEGIN}12",
            f"{BEGIN}12 \n",
            f"{BEGIN}12 host",
            f"{BEGIN}x host\n",
            f"{BEGIN}-1 host\n",
        ),
        *(
            f"{BEGIN}0 host\n",
            f"{BEGIN}12 host\nmore\n",
            f"{BEGIN}12  host\n",
            f"{BEGIN}12 h\x1b[2J\n",
            f"{BEGIN}1 h\u202e\n",
        ),
        *(f"{BEGIN}12 two words\n", f"{BEGIN}{10**10} host\n", f"{BEGIN}12 {'h' * 256}\n", f"{BEGIN}{'9' * 10**6}"),
    ],
    ids=lambda text: repr(text[:30]),
)
def test_any_other_record_is_ignored(store: Any, checkpoint: MakeCheckpoint, tmp_path: Path, text: str) -> None:
    name = checkpoint().name
    with store.claim(name):
        record_of(tmp_path).write_text(text)
        assert store.claim_owner(name) is None


@pytest.mark.parametrize("text", ["precious", "12 host\n", "partwise claims\n", f"{BEGIN}{'x' * 1000}", "\0x"])
def test_another_file_of_the_name_is_kept(tmp_path: Path, checkpoint: MakeCheckpoint, text: str) -> None:
    """The name of a single file is chosen by the user, and so is that of the record beside it."""
    (tmp_path / "one.owner").write_text(text)
    (tmp_path / "one.owner").chmod(0o600)
    store = FileCheckpointStore.for_file(tmp_path / "one")
    with store.claim(checkpoint().name):
        assert store.claim_owner(checkpoint().name) is None
    assert (tmp_path / "one.owner").read_text() == text


@pytest.mark.parametrize(
    "text", ["", "part", f"{BEGIN}47", "par\0\0", "\0\0rtwise claim 4711 here\n", f"{BEGIN}{NO_PROCESS} {HOST}\n"]
)
def test_the_record_of_an_earlier_process_is_replaced(tmp_path: Path, checkpoint: MakeCheckpoint, text: str) -> None:
    (tmp_path / "one.owner").write_text(text)
    (tmp_path / "one.owner").chmod(0o600)
    store = FileCheckpointStore.for_file(tmp_path / "one")
    with store.claim(checkpoint().name):
        assert store.claim_owner(checkpoint().name) == ClaimOwner(HOST, os.getpid())
    assert not (tmp_path / "one.owner").exists()


def test_the_lock_file_stays_empty(store: Any, checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    """Earlier versions refuse another one."""
    with store.claim(checkpoint().name):
        assert [path.stat().st_size for path in tmp_path.rglob("*.lock")] == [0]


def test_a_record_that_can_not_be_written_does_not_matter(
    store: Any, checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> int:
        raise OSError(28, "No space left on device")

    name = checkpoint().name
    store.save(checkpoint())
    monkeypatch.setattr(_owners.files, "create_private", fail)
    with store.claim(name):
        assert store.claim_owner(name) is None
        with pytest.raises(CheckpointBusy), store.claim(name):
            pass


def test_the_name_of_this_host_can_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, recorded in {"": "unknown", "a b\n\x1bü": "a-b---", "h" * 300: "h" * 255}.items():
        if os.name == "nt":
            monkeypatch.setenv("COMPUTERNAME", name)
        else:
            monkeypatch.setattr(os, "uname", lambda name=name: type("uname", (), {"nodename": name}))
        assert _owners.parse_record(_owners.record_text().encode()) == ClaimOwner(recorded, os.getpid())


def test_postgres_names_the_process_of_the_last_claim(postgres: Any, checkpoint: MakeCheckpoint) -> None:
    saved = checkpoint()
    with postgres.new_schema() as schema, PostgresCheckpointStore(postgres.url(schema=schema)) as store:
        assert store.claim_owner(saved.name) is None
        with store.claim(saved.name):
            assert store.claim_owner(saved.name) == ClaimOwner(HOST, os.getpid())
            store.save(saved)
        for written, owner in {
            "0" * 32: None,  # as earlier versions write it
            f"{'0' * 32} 12 elsewhere": ClaimOwner("elsewhere", 12),
            f"{'0' * 32} 12 two words": None,
            "x" * 1000: None,
        }.items():
            postgres.ask("UPDATE partwise_checkpoints SET owner = %s", written, schema=schema)
            assert store.claim_owner(saved.name) == owner
