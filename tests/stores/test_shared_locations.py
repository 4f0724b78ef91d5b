"""Entries planted by others where checkpoints are: not trusted, followed, waited for, or removed."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from partwise import TransferConfig, Uploader, _durable
from partwise.backends.memory import MemoryBackend
from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.errors import CheckpointDamaged, CheckpointError, CheckpointUnwritable
from partwise.model import PartLimits, UploadedPart
from partwise.sources import FileSource
from partwise.stores import _journal as journal
from partwise.stores import _locks
from partwise.stores.file import FileCheckpointStore
from partwise.stores.sqlite import SQLiteCheckpointStore

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="the system has no user ids")

VICTIM, ATTACKER = 12345, 54321
PART = 1000
DATA = bytes(range(250)) * 12  # three parts

_ANY = Fingerprint()
_PART = UploadedPart(1, 1, "etag")

Plant = Callable[[Path], Path]


# --- planted entries -------------------------------------------------------------------------------------------------


def link_to_a_file(path: Path) -> Path:
    """A link to a valuable file, which must not change."""
    precious = path.parent / "precious"
    precious.write_bytes(b"precious")
    path.symlink_to(precious)
    return path


def link_to_nothing(path: Path) -> Path:
    path.symlink_to(path.parent / "made by following")
    return path


def fifo(path: Path) -> Path:
    os.mkfifo(path, 0o600)
    return path


def directory(path: Path) -> Path:
    path.mkdir(0o700)
    (path / "inside").write_bytes(b"inside")
    return path


def directory_writable_by_all(path: Path) -> Path:
    path.mkdir()
    path.chmod(0o777)
    return path


def writable_by_all(path: Path) -> Path:
    path.touch()
    path.chmod(0o666)
    return path


def of_another_user(path: Path) -> Path:
    if os.geteuid() != 0:
        pytest.skip("needs root: only root can make a file of another user")
    path.touch()
    path.chmod(0o644)
    os.chown(path, ATTACKER, ATTACKER)
    return path


KINDS = [link_to_a_file, link_to_nothing, fifo, directory, writable_by_all, of_another_user]


def identity(path: Path) -> tuple[int, int, int, int]:
    status = path.lstat()
    return status.st_ino, status.st_mode, status.st_uid, status.st_size


def everything(place: Path) -> set[tuple[int, int, int, int]]:
    return {identity(path) for path in place.rglob("*")}


# --- an upload with each of them -------------------------------------------------------------------------------------


def new_bucket() -> MemoryBackend:
    """An empty bucket, always with the same name."""
    return MemoryBackend("bucket", limits=PartLimits())


def upload(store: Any, source: Path) -> tuple[MemoryBackend, Any]:
    backend = new_bucket()
    config = TransferConfig(part_size=PART, multipart_threshold=0, concurrency=1)
    return backend, Uploader(backend, store=store, config=config).upload(source, "key")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "place"
    path.mkdir()
    return path


@pytest.fixture
def name(source: Path) -> str:
    return Checkpoint(new_bucket().location, "key", str(source), _ANY, 1).name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", [".ucp", ".ucp.lock", ".ucp.owner", ".ucp.tmp", ".ucp.damaged"])
def test_no_planted_entry_of_a_directory_is_used_or_lost(
    place: Path, source: Path, name: str, kind: Plant, ending: str
) -> None:
    planted = kind(place / f"{name}{ending}")
    before = everything(place)

    if ending == ".ucp.lock":
        with pytest.raises(CheckpointUnwritable, match=f"{planted} .*. It was not changed. Move it away, or keep"):
            upload(FileCheckpointStore(place), source)
    else:
        backend, result = upload(FileCheckpointStore(place), source)
        assert result.bytes_sent == len(DATA)
        assert backend.read("key") == DATA

    assert everything(place) == before
    aside = [path.name for path in place.iterdir() if path.name not in {"precious", planted.name}]
    assert aside == ([f"{name}.ucp.damaged"] if ending == ".ucp" else [])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", ["", ".lock", ".owner", ".tmp", ".damaged"])
@pytest.mark.parametrize("beside", [False, True])
def test_no_planted_entry_in_place_of_a_single_file_is_used_or_lost(
    place: Path, source: Path, kind: Plant, ending: str, beside: bool
) -> None:
    source = source.rename(place / "source")
    planted = kind(place / f"source.ucp{ending}")
    before = everything(place)
    store = FileCheckpointStore.beside_source() if beside else FileCheckpointStore.for_file(place / "source.ucp")

    # An empty file may be a checkpoint after a power loss, so it is set aside. Any other file is not.
    goes_on = ending in {".owner", ".tmp", ".damaged"} or (not ending and kind in {writable_by_all, of_another_user})
    if goes_on:
        backend, result = upload(store, source)
        assert result.bytes_sent == len(DATA)
        assert backend.read("key") == DATA
    else:
        with pytest.raises(CheckpointUnwritable, match=r"It was not changed. Move it away, or keep"):
            upload(store, source)
        assert planted.lstat()

    assert everything(place) == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "ending", ["", "-wal", "-journal", "-shm", ".claims", ".claims/lock", ".claims/owner", ".damaged"]
)
def test_no_planted_entry_beside_a_database_is_used_or_lost(
    place: Path, source: Path, name: str, kind: Plant, ending: str
) -> None:
    if ending == ".claims" and kind is directory:
        kind = directory_writable_by_all
    store = SQLiteCheckpointStore(place / "uploads.db")
    if ending.startswith("-"):
        store.save(Checkpoint("oss://b", "other", "/other", _ANY, 1))
    if ending.startswith(".claims/"):
        (place / "uploads.db.claims").mkdir(0o700)
        ending = f".claims/{name}.{ending.removeprefix('.claims/')}"
    planted = kind(place / f"uploads.db{ending}")
    before = everything(place)

    if ending.endswith((".damaged", ".owner")):
        _, result = upload(store, source)
        assert result.bytes_sent == len(DATA)
        kept = {item for item in before if item[0] != planted.parent.lstat().st_ino}
        assert kept <= everything(place)
    else:
        with pytest.raises(CheckpointUnwritable) as caught:
            upload(store, source)
        assert str(planted) in caught.value.message
        assert "It was not changed" in caught.value.message
        assert {item for item in before if item[0] != (place / "uploads.db.claims").lstat().st_ino} <= everything(place)
    assert planted.lstat()
    assert not (place / "made by following").exists()
    if kind is link_to_a_file:
        assert (planted.parent / "precious").read_bytes() == b"precious"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("read", ["load", "scan"])
def test_a_reader_of_a_planted_database_gets_the_reason(place: Path, kind: Plant, read: str) -> None:
    kind(place / "uploads.db")
    before = everything(place)
    with SQLiteCheckpointStore(place / "uploads.db") as store:
        assert store.exists()
        with pytest.raises(
            CheckpointDamaged, match=r"can't be trusted: .*uploads\.db (is|can|belongs).*It was not changed"
        ):
            store.load("name") if read == "load" else list(store.scan())
    assert everything(place) == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_file_does_not_hide_others_from_a_scan(
    place: Path, kind: Plant, checkpoint: Callable[..., Checkpoint], caplog: pytest.LogCaptureFixture
) -> None:
    kind(place / "planted.ucp")
    store = FileCheckpointStore(place)
    store.save(checkpoint())

    assert list(store.scan()) == [checkpoint()]
    assert "planted.ucp is left out: it " in caplog.text


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_checkpoint_that_others_may_write_is_set_aside_and_its_upload_id_not_reported(
    place: Path, mode: int, checkpoint: Callable[..., Checkpoint]
) -> None:
    saved = checkpoint()
    store = FileCheckpointStore(place)
    store.save(saved)
    path = store.path_for(saved.name)
    path.chmod(mode)

    with pytest.raises(
        CheckpointDamaged, match=f"can be written by other users .mode 0{mode:o}.. It was not"
    ) as caught:
        store.load(saved.name)
    assert caught.value.upload_id is None
    with store.claim(saved.name):
        with pytest.raises(CheckpointUnwritable, match=r"can be written by other users .*It was not changed"):
            store.save(saved)
        with pytest.raises(CheckpointUnwritable, match="can be written by other users"):
            store.append_part(saved.name, "UPLOAD", _PART)
        with pytest.raises(CheckpointDamaged, match=r"set aside as .*\.damaged"):
            store.load(saved.name)
        store.save(saved)
        assert store.load(saved.name) == saved
        store.delete(saved.name, "UPLOAD")
    assert [path.name for path in place.iterdir()] == [f"{saved.name}.ucp.damaged"], "it is not ours to remove"


def test_setting_files_aside_repeatedly_replaces_no_file_of_others(
    place: Path, checkpoint: Callable[..., Checkpoint]
) -> None:
    saved = checkpoint()
    store = FileCheckpointStore(place)
    for _ in range(3):
        writable_by_all(store.path_for(saved.name))
        with store.claim(saved.name), pytest.raises(CheckpointDamaged, match="set aside"):
            store.load(saved.name)
    assert len(everything(place)) == 3
    assert all(path.name.endswith(".damaged") for path in place.iterdir())


def test_without_the_claim_a_planted_file_is_not_replaced_and_not_removed(
    place: Path, checkpoint: Callable[..., Checkpoint]
) -> None:
    store = FileCheckpointStore(place)
    writable_by_all(store.path_for(checkpoint().name))
    before = everything(place)

    with pytest.raises(CheckpointUnwritable, match="It was not changed"):
        store.save(checkpoint())
    store.delete(checkpoint().name, "UPLOAD")

    assert everything(place) == before


def test_a_file_that_is_swapped_for_a_link_during_a_claim_is_not_removed(
    place: Path, checkpoint: Callable[..., Checkpoint]
) -> None:
    store = FileCheckpointStore.for_file(place / "state.ucp")
    with store.claim(checkpoint().name):
        link_to_a_file(place / "state.ucp")
        store.delete(checkpoint().name, "UPLOAD")
    assert (place / "state.ucp").is_symlink()


@pytest.mark.parametrize("kind", [*KINDS, None])
def test_a_database_that_is_swapped_while_it_is_opened_is_not_used(
    place: Path, kind: Plant | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = Checkpoint("oss://b", "key", "/data", _ANY, 1)
    path = place / "uploads.db"
    other = SQLiteCheckpointStore(place / "other.db")
    other.save(saved)
    SQLiteCheckpointStore(path).save(saved)
    real = sqlite3.connect

    def swap_and_connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        path.rename(place / "moved away")
        if kind is None:
            shutil.copy(place / "other.db", path)
            path.chmod(0o600)
        else:
            kind(path)
        return real(*args, **kwargs)

    monkeypatch.setattr(sqlite3, "connect", swap_and_connect)
    with SQLiteCheckpointStore(path) as store, pytest.raises(CheckpointError):
        store.load(saved.name)


def test_a_lock_that_is_swapped_while_it_is_taken_is_not_held(
    place: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Callable[..., Checkpoint]
) -> None:
    store = FileCheckpointStore(place)
    lock = place / f"{checkpoint().name}.ucp.lock"
    real = _locks.FileLock.acquire

    def swap_after(self: Any, **kwargs: Any) -> Any:
        taken = real(self, **kwargs)
        lock.unlink()
        writable_by_all(lock)
        return taken

    monkeypatch.setattr(_locks.FileLock, "acquire", swap_after)
    with pytest.raises(CheckpointUnwritable, match=r"\.lock can be written by other users"):
        store.claim(checkpoint().name).__enter__()
    assert lock.exists()
    monkeypatch.undo()
    lock.unlink()
    with store.claim(checkpoint().name):
        pass


# --- file systems without owners or modes ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["directory", "one file", "sqlite"])
def test_nothing_is_sent_where_a_private_file_can_t_be_created(
    place: Path, source: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on FAT and some network file systems, where everyone may write to all files, whatever their mode."""
    real = os.open

    def without_modes(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        file = real(path, flags, mode, **more)
        if flags & os.O_CREAT:
            os.fchmod(file, 0o777)
        return file

    store = {
        "directory": lambda: FileCheckpointStore(place),
        "one file": lambda: FileCheckpointStore.for_file(place / "state.ucp"),
        "sqlite": lambda: SQLiteCheckpointStore(place / "uploads.db"),
    }[form]()
    monkeypatch.setattr(os, "open", without_modes)

    with pytest.raises(
        CheckpointUnwritable,
        match=r"can be written by other users .mode 0777.*(keep the checkpoint elsewhere|name another file)",
    ):
        upload(store, source)


def test_a_new_file_that_is_writable_by_all_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open
    monkeypatch.setattr(
        os, "open", lambda path, flags, mode=0o777: (file := real(path, flags, mode), os.fchmod(file, 0o666))[0]
    )

    with pytest.raises(PermissionError, match="the file system keeps no owner or mode") as caught:
        _durable.create_private(str(tmp_path / "new"))

    assert caught.value.errno == errno.EACCES
    assert list(tmp_path.iterdir()) == []


# --- two users -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[0o777, 0o1777], ids=["not sticky", "sticky"])
def shared(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory that everyone may write to."""
    if os.geteuid() != 0:
        pytest.skip("needs root: only root can act as two users")
    parent = Path(tempfile.mkdtemp())
    parent.chmod(0o755)
    place = parent / "shared"
    place.mkdir()
    place.chmod(request.param)
    yield place
    shutil.rmtree(parent)


def is_sticky(place: Path) -> bool:
    return bool(place.stat().st_mode & 0o1000)


@contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Change only the effective user, which the checks of the system use, and which can be changed back."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def forged(source: Path) -> bytes:
    """A checkpoint that claims that all parts were sent, to an upload of the attacker."""
    checkpoint = Checkpoint(
        new_bucket().location,
        "key",
        str(source),
        FileSource(source).fingerprint(),
        PART,
        upload_id="of the attacker",
        parts=tuple(UploadedPart(number, PART, "etag", 1) for number in (1, 2, 3)),
    )
    return journal.encode(checkpoint)


@pytest.fixture
def victims_source(shared: Path) -> Path:
    path = shared / "data"
    path.write_bytes(DATA)
    os.chown(path, VICTIM, VICTIM)
    return path


def open_form(form: str, shared: Path, source: Path) -> tuple[Any, Path]:
    name = Checkpoint(new_bucket().location, "key", str(source), _ANY, 1).name
    return {
        "directory": lambda: (FileCheckpointStore(shared), shared / f"{name}.ucp"),
        "one file": lambda: (FileCheckpointStore.for_file(shared / "state.ucp"), shared / "state.ucp"),
        "beside": lambda: (FileCheckpointStore.beside_source(), shared / "data.ucp"),
    }[form]()


@pytest.mark.parametrize("form", ["directory", "one file", "beside"])
def test_a_checkpoint_planted_by_another_user_is_never_trusted(shared: Path, victims_source: Path, form: str) -> None:
    store, path = open_form(form, shared, victims_source)
    with acting_as(ATTACKER):
        path.write_bytes(forged(victims_source))
    planted = path.read_bytes()
    before = identity(path)

    with acting_as(VICTIM):
        if is_sticky(shared):
            # It can't be replaced, and that is reported before anything is sent.
            with pytest.raises(
                CheckpointUnwritable, match=rf"belongs to another user \(uid {ATTACKER}\).*It was not changed"
            ):
                upload(store, victims_source)
            assert path.read_bytes() == planted
        else:
            backend, result = upload(store, victims_source)
            assert result.bytes_sent == len(DATA)
            assert backend.read("key") == DATA

    assert before in everything(shared), "it is nowhere lost"


@pytest.mark.parametrize("form", ["directory", "one file"])
def test_an_abort_does_not_report_a_checkpoint_of_another_user_as_dropped(
    shared: Path, victims_source: Path, form: str
) -> None:
    store, path = open_form(form, shared, victims_source)
    with acting_as(ATTACKER):
        path.write_bytes(forged(victims_source))
    before = identity(path)

    with acting_as(VICTIM):
        uploader = Uploader(new_bucket(), store=store)
        if is_sticky(shared):
            with pytest.raises(CheckpointDamaged, match="can't be set aside"):
                uploader.abort(victims_source, "key")
        else:
            assert uploader.abort(victims_source, "key"), "it was set aside"
            assert not uploader.abort(victims_source, "key")

    assert before in everything(shared), "it is nowhere lost"


@pytest.mark.parametrize("form", ["directory", "one file", "beside"])
def test_a_checkpoint_of_root_is_trusted(shared: Path, victims_source: Path, form: str) -> None:
    store, path = open_form(form, shared, victims_source)
    saved = Checkpoint(new_bucket().location, "key", str(victims_source), _ANY, PART, upload_id="ID")
    if form == "beside":
        store = store(str(victims_source))
    store.save(saved)
    path.chmod(0o644)

    with acting_as(VICTIM):
        assert store.load(saved.name) == saved


@pytest.mark.parametrize("ending", ["", "-wal", "-journal", ".claims"])
def test_a_database_planted_by_another_user_is_never_opened(shared: Path, victims_source: Path, ending: str) -> None:
    path = shared / "uploads.db"
    saved = Checkpoint(new_bucket().location, "key", str(victims_source), _ANY, PART, upload_id="ID")
    with acting_as(ATTACKER):
        if ending == ".claims":
            (shared / "uploads.db.claims").mkdir()
        elif ending:
            (shared / f"uploads.db{ending}").write_bytes(b"\x37\x7f\x06\x82" + bytes(1000))
        else:
            (shared / "his").mkdir(mode=0o700)
            with SQLiteCheckpointStore(shared / "his" / "uploads.db") as store:
                store.save(saved)
            (shared / "his" / "uploads.db").rename(path)
            path.chmod(0o666)
    before = everything(shared)

    with acting_as(VICTIM), SQLiteCheckpointStore(path) as store:
        # Without a database, the directory is refused before the planted entry is examined.
        why = "can be written by other users" if ending else rf"belongs to another user \(uid {ATTACKER}\)"
        with pytest.raises(CheckpointUnwritable, match=rf"{why}.*It was not changed"):
            upload(store, victims_source)
        if not ending:
            with pytest.raises(CheckpointDamaged, match="belongs to another user"):
                store.load(saved.name)
            with pytest.raises(CheckpointDamaged, match="belongs to another user"):
                list(store.scan())

    assert before <= everything(shared)


@pytest.mark.parametrize("call", ["load", "save", "scan", "claim"])
def test_a_database_in_a_directory_that_others_may_write_to_is_not_opened(shared: Path, call: str) -> None:
    """They could put a journal beside it at the moment in which SQLite looks for one and applies it."""
    saved = Checkpoint("oss://b", "key", "/data", _ANY, 1)
    mode = shared.stat().st_mode
    shared.chmod(0o755)
    path = shared / "uploads.db"
    with SQLiteCheckpointStore(path) as store:
        store.save(saved)
        shared.chmod(mode)
        with pytest.raises(CheckpointError, match=rf"{shared} can be written by other users \(mode \d+\), who could"):
            {
                "load": lambda: store.load(saved.name),
                "save": lambda: store.save(saved),
                "scan": lambda: list(store.scan()),
                "claim": lambda: store.claim(saved.name).__enter__(),
            }[call]()
        shared.chmod(0o755)
        assert store.load(saved.name) == saved


@pytest.mark.parametrize(
    ("mode", "private", "usable"),
    [(0o775, True, True), (0o775, False, False), (0o777, True, False), (0o1777, True, False), (0o755, False, True)],
)
def test_a_database_may_be_in_a_directory_that_only_a_private_group_may_write_to(
    place: Path, mode: int, private: bool, usable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_durable, "is_private_group", lambda gid: private and gid == place.stat().st_gid)
    place.chmod(mode)
    saved = Checkpoint("oss://b", "key", "/data", _ANY, 1)
    with SQLiteCheckpointStore(place / "uploads.db") as store:
        with nullcontext() if usable else pytest.raises(CheckpointUnwritable, match="use a private directory"):
            store.save(saved)
        refused = pytest.raises(CheckpointUnwritable, match="use a private directory")
        with nullcontext() if usable else refused, store.claim(saved.name):
            pass
        if usable:
            assert store.load(saved.name) == saved
        else:
            assert list(place.iterdir()) == [], "nothing is made where nothing can be kept"


def test_a_database_in_a_directory_of_another_user_is_not_opened(shared: Path) -> None:
    (shared / "his").mkdir(mode=0o755)
    os.chown(shared / "his", ATTACKER, ATTACKER)
    store = SQLiteCheckpointStore(shared / "his" / "uploads.db")
    with pytest.raises(CheckpointUnwritable, match="his belongs to another user"):
        store.save(Checkpoint("oss://b", "key", "/data", _ANY, 1))


def test_a_directory_of_another_user_can_be_used_if_it_is_writable(shared: Path, victims_source: Path) -> None:
    with acting_as(ATTACKER):
        (shared / "his").mkdir()
        (shared / "his").chmod(0o777)

    with acting_as(VICTIM):
        backend, _ = upload(FileCheckpointStore(shared / "his"), victims_source)

    assert backend.read("key") == DATA
    assert list((shared / "his").iterdir()) == []


def test_two_users_can_share_one_directory(shared: Path) -> None:
    for uid in (VICTIM, ATTACKER):
        with acting_as(uid):
            store = FileCheckpointStore(shared)
            saved = Checkpoint("oss://b", "key", f"/home/{uid}/data", _ANY, 1, upload_id=f"of {uid}")
            with store.claim(saved.name):
                store.save(saved)
    for uid in (VICTIM, ATTACKER):
        with acting_as(uid):
            assert [one.upload_id for one in FileCheckpointStore(shared).scan()] == [f"of {uid}"]
