"""The file store: paths, modes, crashes, full disks, and features that other systems lack."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve

from partwise import _durable as files
from partwise.checkpoint import Checkpoint
from partwise.errors import (
    CheckpointBusy,
    CheckpointDamaged,
    CheckpointError,
    CheckpointMismatch,
    CheckpointUnwritable,
    InvalidInput,
)
from partwise.model import UploadedPart
from partwise.stores import _journal as journal
from partwise.stores.file import FileCheckpointStore, open_url
from partwise.testing import crashes_at

MakeCheckpoint = Callable[..., Checkpoint]
MakePart = Callable[..., UploadedPart]

posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")


def refuse(error: int) -> Callable[..., object]:
    def call(*args: object, **kwargs: object) -> object:
        raise OSError(error, os.strerror(error))

    return call


# --- paths -----------------------------------------------------------------------------------------------------------


def test_the_default_directory_is_in_the_user_s_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint
):
    monkeypatch.setattr("platformdirs.user_state_path", lambda name, **_: tmp_path / name)
    store = FileCheckpointStore()
    assert not (tmp_path / "partwise").exists(), "nothing is made before it is needed"
    store.save(checkpoint())
    assert store.path_for(checkpoint().name) == tmp_path / "partwise" / "checkpoints" / f"{checkpoint().name}.ucp"
    assert store.path_for(checkpoint().name).is_file()


def test_without_a_home_directory_the_error_has_a_hint(monkeypatch, checkpoint) -> None:
    monkeypatch.setattr("platformdirs.user_state_path", lambda *_, **__: Path("~/.local/state/partwise"))
    store = FileCheckpointStore()
    with pytest.raises(CheckpointUnwritable, match="Name a directory"):
        store.claim(checkpoint().name).__enter__()
    assert "without a directory" in repr(store)


def test_a_relative_directory_does_not_follow_the_working_directory(tmp_path: Path, monkeypatch, checkpoint) -> None:
    monkeypatch.chdir(tmp_path)
    store = FileCheckpointStore("there")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    store.save(checkpoint())
    assert [path.name for path in (tmp_path / "there").iterdir()] == [f"{checkpoint().name}.ucp"]


@pytest.mark.parametrize("place", ["", "nul\0byte", b"nul\0byte", "\ud800", 5], ids=repr)
def test_an_invalid_path_is_refused(place: object) -> None:
    with pytest.raises(InvalidInput, match="must be a path"):
        FileCheckpointStore(place)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(InvalidInput, match="must be a path"):
        FileCheckpointStore.for_file(place)  # type: ignore[arg-type]  # on purpose


def test_any_name_has_a_file_with_a_plain_name(tmp_path: Path) -> None:
    store = FileCheckpointStore(tmp_path)
    names = ["a", "A", "a/b", "../a", "nul\0", "\ud800", "F" * 32, "f" * 31, "f" * 32 + "\n", "n" * 5000, "CON"]
    paths = {store.path_for(name) for name in names} | {store.path_for("f" * 32)}
    assert len({str(path).lower() for path in paths}) == len(names) + 1
    for path in paths:
        assert path.parent == tmp_path
        assert len(path.name) <= 68


@posix_only
def test_created_files_and_directories_are_private(tmp_path: Path, checkpoint, part) -> None:
    saved = checkpoint()
    old = os.umask(0)
    try:
        with FileCheckpointStore(tmp_path / "one" / "two") as store, store.claim(saved.name):
            store.save(saved)
            store.append_part(saved.name, "UPLOAD", part(1))
            modes = {path.relative_to(tmp_path): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    finally:
        os.umask(old)
    two = Path("one") / "two"
    assert modes == {
        Path("one"): 0o700,
        two: 0o700,
        two / f"{saved.name}.ucp": 0o600,
        two / f"{saved.name}.ucp.lock": 0o600,
        two / f"{saved.name}.ucp.owner": 0o600,
    }


@posix_only
def test_an_existing_directory_keeps_its_mode(tmp_path: Path, checkpoint) -> None:
    tmp_path.chmod(0o755)
    FileCheckpointStore(tmp_path).save(checkpoint())
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_only_the_checkpoint_is_left_and_nothing_after_delete(directory, tmp_path: Path, checkpoint, part):
    saved = checkpoint()
    with directory.claim(saved.name):
        directory.save(saved)
        directory.append_part(saved.name, "UPLOAD", part(1))
    assert [path.name for path in tmp_path.iterdir()] == [f"{saved.name}.ucp"]
    with directory.claim(saved.name):
        directory.delete(saved.name, "UPLOAD")
    assert list(tmp_path.iterdir()) == []


# --- one file --------------------------------------------------------------------------------------------------------


@pytest.fixture
def one_file(tmp_path: Path) -> FileCheckpointStore:
    return FileCheckpointStore.for_file(tmp_path / "state.ucp")


def test_another_upload_is_refused_by_name_and_neither_is_changed(one_file, tmp_path: Path, checkpoint, part) -> None:
    here, other = checkpoint(parts=(part(1),)), checkpoint("other.tar", "/data/other.tar")
    one_file.save(here)
    before = (tmp_path / "state.ucp").read_bytes()
    for call in (
        lambda: one_file.load(other.name),
        lambda: one_file.save(other),
        lambda: one_file.append_part(other.name, "UPLOAD", part(2)),
    ):
        with one_file.claim(other.name), pytest.raises(CheckpointMismatch) as caught:
            call()
        for word in (here.source, here.key, here.location, "state.ucp", "Finish or abort"):
            assert word in str(caught.value)
        assert caught.value.name == other.name
    with one_file.claim(other.name):
        one_file.delete(other.name, "UPLOAD")
    assert (tmp_path / "state.ucp").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["state.ucp"]


def test_another_upload_is_refused_while_the_first_one_appends(one_file, checkpoint, part) -> None:
    here, other = checkpoint(), checkpoint("other.tar")
    one_file.save(here)
    with one_file.claim(here.name):
        one_file.append_part(here.name, "UPLOAD", part(1))
        with pytest.raises(CheckpointMismatch):
            one_file.append_part(other.name, "UPLOAD", part(2))
        one_file.append_part(here.name, "UPLOAD", part(3))
    assert one_file.load(here.name).parts == (part(1), part(3))


def test_a_damaged_file_of_another_upload_still_belongs_to_it(one_file, tmp_path: Path, checkpoint, part) -> None:
    one_file.save(checkpoint(parts=(part(1), part(2))))
    path = tmp_path / "state.ucp"
    path.write_bytes(path.read_bytes().replace(b"ETAG-1", b"ETAG-X"))
    other = checkpoint("other.tar")
    with one_file.claim(other.name), pytest.raises(CheckpointMismatch):
        one_file.load(other.name)
    assert [path.name for path in tmp_path.iterdir()] == ["state.ucp"]


def test_all_names_of_one_file_share_one_claim(one_file, checkpoint) -> None:
    one_file.save(checkpoint())
    with one_file.claim(checkpoint().name), pytest.raises(CheckpointBusy, match=r"backup\.tar"):
        one_file.claim(checkpoint("other.tar").name).__enter__()


@posix_only
def test_two_paths_to_one_file_share_one_claim(one_file, tmp_path: Path, checkpoint) -> None:
    one_file.save(checkpoint())
    (tmp_path / "way").symlink_to(tmp_path)
    link = FileCheckpointStore.for_file(tmp_path / "way" / "state.ucp")
    with one_file.claim(checkpoint().name), pytest.raises(CheckpointBusy):
        link.claim(checkpoint().name).__enter__()
    link.save(checkpoint(upload_id="another"))
    assert one_file.load(checkpoint().name).upload_id == "another"


@pytest.mark.parametrize(
    "content",
    [b"precious bytes\n" * 10, bytes(4096) + b"a disk image"],
    ids=["text", "zeros first"],
)
def test_a_file_that_never_was_a_checkpoint_is_not_changed(
    tmp_path: Path, checkpoint, part, caplog, content: bytes
) -> None:
    precious = tmp_path / "backup.tar"
    precious.write_bytes(content)
    saved = checkpoint()
    store = FileCheckpointStore.for_file(precious)
    with pytest.raises(CheckpointUnwritable, match="Name another file"):
        store.claim(saved.name).__enter__()
    with pytest.raises(CheckpointUnwritable, match="Name another file"):
        store.save(saved)
    with pytest.raises(CheckpointDamaged, match="It was not changed"):
        store.load(saved.name)
    with pytest.raises(CheckpointError):
        store.append_part(saved.name, "UPLOAD", part(1))
    store.delete(saved.name, "UPLOAD")
    assert list(store.scan()) == []
    assert "does not start like a checkpoint" in caplog.text
    assert precious.read_bytes() == content
    assert list(tmp_path.iterdir()) == [precious]


def test_an_empty_file_can_be_used_for_a_checkpoint(tmp_path: Path, checkpoint) -> None:
    (tmp_path / "empty").touch()
    store = FileCheckpointStore.for_file(tmp_path / "empty")
    with store.claim(checkpoint().name):
        with pytest.raises(CheckpointDamaged, match="it is empty"):
            store.load(checkpoint().name)
        store.save(checkpoint())
        assert store.load(checkpoint().name) == checkpoint()


def test_the_directory_of_a_single_file_is_not_created(tmp_path: Path, checkpoint) -> None:
    store = FileCheckpointStore.for_file(tmp_path / "missing" / "state.ucp")
    with pytest.raises(CheckpointUnwritable, match="there is no directory"):
        store.claim(checkpoint().name).__enter__()
    assert store.load(checkpoint().name) is None
    assert list(store.scan()) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
def test_a_fifo_is_refused_without_blocking(tmp_path: Path, checkpoint) -> None:
    os.mkfifo(tmp_path / "pipe")
    store = FileCheckpointStore.for_file(tmp_path / "pipe")
    with pytest.raises(CheckpointUnwritable, match="not a regular file"):
        store.claim(checkpoint().name).__enter__()
    with pytest.raises(CheckpointError, match="not a regular file"):
        store.load(checkpoint().name)


# --- beside the source -----------------------------------------------------------------------------------------------


def test_the_checkpoint_of_a_source_is_beside_it(tmp_path: Path, checkpoint) -> None:
    source = tmp_path / "backup.tar"
    saved = checkpoint(source=str(source))
    beside = FileCheckpointStore.beside_source()
    beside(str(source)).save(saved)
    assert (tmp_path / "backup.tar.ucp").is_file()
    assert beside(str(source)).load(saved.name) == saved


@pytest.mark.parametrize("source", ["", "standard input", "memory:bytes"])
def test_a_source_that_is_not_a_file_has_no_checkpoint_beside_it(source: str) -> None:
    with pytest.raises(InvalidInput, match="Name a directory"):
        FileCheckpointStore.beside_source()(source)


# --- by URL ----------------------------------------------------------------------------------------------------------


def test_a_file_url_without_a_path_is_the_default_directory() -> None:
    assert repr(open_url("File:")) == repr(FileCheckpointStore())


@posix_only
@pytest.mark.parametrize(
    "url", ["file:///some/where%20else", "file://localhost/some/where%20else", "file:/some/where else"]
)
def test_a_file_url_names_a_directory(url: str) -> None:
    assert repr(open_url(url)) == "<FileCheckpointStore /some/where else>"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "file",
        "file://",
        "file:relative",
        "file://host/dir",
        "file:///a?b",
        "file:///a#b",
        "file://[x/a",
        "sqlite:///a",
        "/dir",
    ],
)
def test_any_other_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        open_url(url)


# --- damage ----------------------------------------------------------------------------------------------------------


def damage(store: FileCheckpointStore, saved: Checkpoint) -> bytes:
    path = store.path_for(saved.name)
    path.write_bytes(path.read_bytes().replace(b"ETAG-1", b"ETAG-X"))
    return path.read_bytes()


def test_under_the_claim_a_damaged_file_is_set_aside(directory, tmp_path: Path, checkpoint, part) -> None:
    saved = checkpoint(parts=(part(1), part(2)))
    directory.save(saved)
    bad = damage(directory, saved)
    aside = tmp_path / f"{saved.name}.ucp.damaged"
    with directory.claim(saved.name):
        with pytest.raises(CheckpointDamaged, match="set aside") as caught:
            directory.load(saved.name)
        assert (caught.value.where, caught.value.upload_id) == (str(aside), "UPLOAD")
        assert aside.read_bytes() == bad
        assert directory.load(saved.name) is None
        directory.save(saved)
        assert directory.load(saved.name) == saved
        directory.delete(saved.name, "UPLOAD")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_without_the_claim_does_not_move_a_damaged_file(directory, tmp_path: Path, checkpoint, part):
    saved = checkpoint(parts=(part(1), part(2)))
    directory.save(saved)
    bad = damage(directory, saved)
    with FileCheckpointStore(tmp_path) as reader, directory.claim(saved.name):
        with pytest.raises(CheckpointDamaged, match="It was not moved") as caught:
            reader.load(saved.name)
        assert caught.value.where == str(directory.path_for(saved.name))
    assert directory.path_for(saved.name).read_bytes() == bad


def test_a_damaged_file_that_can_t_be_set_aside_is_reported_and_replaced(directory, checkpoint, part, monkeypatch):
    saved = checkpoint(parts=(part(1), part(2)))
    directory.save(saved)
    damage(directory, saved)
    with directory.claim(saved.name):
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", refuse(errno.EACCES))
            with pytest.raises(CheckpointDamaged, match="can't be set aside"):
                directory.load(saved.name)
        directory.save(saved)
        assert directory.load(saved.name) == saved


def test_nothing_is_appended_to_a_damaged_file(directory, checkpoint, part) -> None:
    saved = checkpoint(parts=(part(1), part(2)))
    directory.save(saved)
    bad = damage(directory, saved)
    with pytest.raises(CheckpointDamaged, match="nothing can be appended"):
        directory.append_part(saved.name, "UPLOAD", part(3))
    assert directory.path_for(saved.name).read_bytes() == bad


@pytest.mark.parametrize("own", [True, False])
def test_the_upload_id_of_another_version_is_reported_only_under_its_own_name(directory, checkpoint, own: bool) -> None:
    """The checkpoint can't be read, and may be a copy of that of an upload in progress."""
    saved, other = checkpoint(), checkpoint("other.tar")
    body = json.dumps({**(saved if own else other).to_data(), "version": 3}).encode()
    directory.save(saved)
    line = journal._line(body, journal.checksum(journal._MARK, body))
    directory.path_for(saved.name).write_bytes(journal._MARK + line)
    with pytest.raises(CheckpointDamaged, match="version 3") as caught:
        directory.load(saved.name)
    assert caught.value.upload_id == (saved.upload_id if own else None)


def test_a_copy_under_another_name_is_not_trusted_and_its_upload_id_not_reported(directory, checkpoint, part) -> None:
    saved, other = checkpoint(), checkpoint("other.tar")
    directory.save(saved)
    directory.path_for(other.name).write_bytes(directory.path_for(saved.name).read_bytes())
    with pytest.raises(CheckpointDamaged, match=r"it is that of the upload of '/data/backup\.tar'") as caught:
        directory.load(other.name)
    assert caught.value.upload_id is None
    assert directory.load(saved.name) == saved
    with directory.claim(other.name):
        with pytest.raises(CheckpointDamaged, match="nothing can be appended"):
            directory.append_part(other.name, "UPLOAD", part(1))
        with pytest.raises(CheckpointDamaged, match="set aside"):
            directory.load(other.name)


def test_an_incomplete_last_line_is_removed_before_the_next_one(directory, checkpoint, part) -> None:
    saved = checkpoint(parts=(part(1), part(2)))
    directory.save(saved)
    path = directory.path_for(saved.name)
    path.write_bytes(path.read_bytes()[:-5] + bytes(100))
    directory.append_part(saved.name, "UPLOAD", part(3))
    assert directory.load(saved.name).parts == (part(1), part(3))
    assert path.read_bytes().count(b"\n") == 3
    assert b"\0" not in path.read_bytes()


def test_an_unreadable_file_is_neither_damaged_nor_missing(directory, checkpoint, monkeypatch) -> None:
    directory.save(checkpoint())
    monkeypatch.setattr(files, "read", refuse(errno.EACCES))
    with pytest.raises(CheckpointError, match="can't be read") as caught:
        directory.load(checkpoint().name)
    assert type(caught.value) is CheckpointError
    assert isinstance(caught.value.__cause__, OSError)


# --- scanning --------------------------------------------------------------------------------------------------------


def test_unreadable_checkpoints_are_logged_and_left_out_of_a_scan(
    directory, tmp_path, checkpoint, part, caplog
) -> None:
    good, bad = checkpoint("good"), checkpoint("bad", parts=(part(1), part(2)))
    for saved in (good, bad):
        directory.save(saved)
    damage(directory, bad)
    (tmp_path / "copy.ucp").write_bytes(directory.path_for(good.name).read_bytes())
    (tmp_path / "directory.ucp").mkdir()
    (tmp_path / "note.txt").touch()
    with caplog.at_level(logging.WARNING, "partwise.stores.file"):
        assert list(directory.scan()) == [good]
    assert [(record.name, record.levelname) for record in caplog.records] == [("partwise.stores.file", "WARNING")] * 3
    for path in (f"{bad.name}.ucp", "copy.ucp", "directory.ucp"):
        assert path in caplog.text
    assert directory.path_for(bad.name).exists()


@pytest.mark.skipif(os.name == "nt", reason="names of files have no control characters there")
def test_what_others_have_written_does_not_change_what_a_terminal_shows(
    directory, tmp_path, checkpoint, caplog
) -> None:
    foreign = evolve(checkpoint("good"), location="memory://\x1b[2J\r\nother", key="\x1b[2Jk", source="\x1b[2Js")
    directory.save(foreign)
    content = directory.path_for(foreign.name).read_bytes()
    directory.path_for(checkpoint("good").name).write_bytes(content)
    directory.path_for(checkpoint("good").name).chmod(0o600)
    (tmp_path / "\x1b[2J.ucp").write_bytes(content)
    (tmp_path / "\x1b[2J\r\n.ucp").mkdir()
    with caplog.at_level(logging.WARNING, "partwise.stores.file"):
        assert list(directory.scan()) == [foreign]
    with pytest.raises(CheckpointDamaged, match="that of the upload of") as damaged:
        directory.load(checkpoint("good").name)
    with directory.claim(foreign.name), pytest.raises(CheckpointBusy) as busy:
        directory.claim(foreign.name).__enter__()

    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 3
    assert all(text.isprintable() for text in (*messages, str(damaged.value), str(busy.value)))


def test_a_checkpoint_deleted_during_a_scan_is_skipped(directory, checkpoint, caplog) -> None:
    saved = [checkpoint(str(number)) for number in range(3)]
    for one in saved:
        directory.save(one)
    scan = iter(directory.scan())
    first = next(scan)
    for one in saved:
        directory.delete(one.name, "UPLOAD")
    assert list(scan) == []
    assert first in saved
    assert caplog.records == []


def test_a_directory_that_can_t_be_listed_is_an_error_and_not_an_empty_scan(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="can't be read"):
        FileCheckpointStore(tmp_path / "file").scan()
    assert list(FileCheckpointStore(tmp_path / "missing").scan()) == []


def test_only_scan_lists_the_directory(directory, checkpoint, part, monkeypatch) -> None:
    monkeypatch.setattr(os, "scandir", refuse(errno.EIO))
    monkeypatch.setattr(os, "listdir", refuse(errno.EIO))
    saved = checkpoint()
    with directory.claim(saved.name):
        directory.save(saved)
        directory.append_part(saved.name, "UPLOAD", part(1))
        assert directory.load(saved.name).parts == (part(1),)
        directory.delete(saved.name, "UPLOAD")
    with pytest.raises(CheckpointError):
        directory.scan()


# --- crashes and full disks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [True, False], ids=["first save", "later save"])
def test_a_save_killed_at_any_step_leaves_the_old_or_the_new_one_complete(tmp_path: Path, checkpoint, part, first):
    old, new = checkpoint(parts=(part(1),)), checkpoint(upload_id="another", parts=(part(2), part(3)))
    found = []
    step = 0
    died = True
    while died:
        step += 1
        store = FileCheckpointStore(tmp_path / str(step))
        if not first:
            store.save(old)
        with store.claim(old.name):
            died = crashes_at(step, lambda store=store: store.save(new))
        with FileCheckpointStore(tmp_path / str(step)) as after, after.claim(old.name):
            found.append(after.load(old.name))
            after.append_part(old.name, found[-1].upload_id, part(9)) if found[-1] else after.save(new)
            after.save(new)
            assert after.load(old.name) == new
        assert [path.name for path in (tmp_path / str(step)).iterdir()] == [f"{old.name}.ucp"]
    before = None if first else old
    turn = found.index(new)
    assert found == [before] * turn + [new] * (len(found) - turn)
    assert turn >= 4, "opening, writing, syncing and renaming were all tried"
    assert len(found) - turn >= 2, "so was what comes after renaming: syncing the directory"


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_save_that_fails_leaves_the_old_one_and_nothing_else(directory, tmp_path, checkpoint, monkeypatch, call):
    saved = checkpoint()
    directory.save(saved)
    for claimed in (True, False):
        claim = directory.claim(saved.name)
        if claimed:
            claim.__enter__()
        with monkeypatch.context() as patch:
            patch.setattr(os, call, refuse(errno.ENOSPC))
            with pytest.raises(CheckpointUnwritable, match="Free some space") as caught:
                directory.save(checkpoint(upload_id="another"))
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.where == str(directory.path_for(saved.name))
        if claimed:
            claim.__exit__(None, None, None)
        assert directory.load(saved.name) == saved
        assert [path.name for path in tmp_path.iterdir()] == [f"{saved.name}.ucp"]


def test_a_save_is_synced_before_it_is_renamed_and_its_directory_after(directory, checkpoint, monkeypatch) -> None:
    calls = []
    for name in ("write", "fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: calls.append(name) or real(*args))
    directory.save(checkpoint())
    assert calls == ["write", "fsync", "replace", "fsync"]


def test_a_large_save_with_short_writes_is_complete(directory, checkpoint, part, monkeypatch) -> None:
    saved = checkpoint(parts=tuple(part(number) for number in range(1, 50)))
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:100]))
    directory.save(saved)
    assert directory.load(saved.name) == saved


def test_an_append_killed_at_any_step_does_not_prevent_later_ones(tmp_path, checkpoint, part):
    old = checkpoint(parts=(part(1),))
    new = evolve(old, parts=(part(1), part(2)))
    found = []
    died = True
    while died:
        store = FileCheckpointStore(tmp_path / str(len(found)))
        store.save(old)
        died = crashes_at(len(found) + 1, lambda store=store: store.append_part(old.name, "UPLOAD", part(2)))
        found.append(store.load(old.name))
        store.append_part(old.name, "UPLOAD", part(3))
        assert store.load(old.name) == evolve(old, parts=(*found[-1].parts, part(3)))
    assert found == [old] * (len(found) - 1) + [new]


@pytest.mark.parametrize("cutting_back_fails", [False, True])
def test_an_append_to_a_full_disk_fails_and_does_not_prevent_later_ones(
    directory, checkpoint, part, monkeypatch, cutting_back_fails: bool
) -> None:
    saved = checkpoint()
    real = os.write
    with directory.claim(saved.name):
        directory.save(saved)
        directory.append_part(saved.name, "UPLOAD", part(1))
        before = directory.path_for(saved.name).read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda file, data: real(file, data[: len(data) // 2]))
            if cutting_back_fails:
                patch.setattr(os, "ftruncate", refuse(errno.EIO))
            with pytest.raises(CheckpointUnwritable, match="Free some space") as caught:
                directory.append_part(saved.name, "UPLOAD", part(2))
            assert isinstance(caught.value.__cause__, OSError)
            assert cutting_back_fails or directory.path_for(saved.name).read_bytes() == before
            patch.setattr(os, "write", refuse(errno.ENOSPC))
            with pytest.raises(CheckpointUnwritable):
                directory.append_part(saved.name, "UPLOAD", part(2))
        assert directory.load(saved.name).parts == (part(1),)
        directory.append_part(saved.name, "UPLOAD", part(3))
        assert directory.load(saved.name).parts == (part(1), part(3))


def test_a_temporary_file_that_can_t_be_removed_does_not_prevent_a_save(
    directory, tmp_path: Path, checkpoint, monkeypatch
):
    saved = checkpoint()
    (tmp_path / f"{saved.name}.ucp.tmp").write_bytes(b"half")
    with directory.claim(saved.name), monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse(errno.EACCES))
        directory.save(saved)
    assert directory.load(saved.name) == saved
    assert (tmp_path / f"{saved.name}.ucp.tmp").read_bytes() == b"half"


def test_an_entry_with_the_name_of_the_temporary_file_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "temporary").write_bytes(b"of another program")
    with pytest.raises(FileExistsError):
        files.replace(str(tmp_path / "new"), b"data", str(tmp_path / "temporary"))
    assert (tmp_path / "temporary").read_bytes() == b"of another program"
    assert not (tmp_path / "new").exists()


def test_a_failed_delete_is_reported(directory, checkpoint, monkeypatch) -> None:
    directory.save(checkpoint())
    monkeypatch.setattr(os, "unlink", refuse(errno.EACCES))
    with pytest.raises(CheckpointUnwritable, match="Make that path writable"):
        directory.delete(checkpoint().name, "UPLOAD")


@pytest.mark.parametrize("upload_id", ["UPLOAD", "another"])
def test_a_checkpoint_that_can_t_be_read_is_not_deleted(directory, checkpoint, monkeypatch, upload_id: str) -> None:
    """It may be that of another upload: whether the process has too many open files, or the medium fails."""
    saved = checkpoint()
    directory.save(saved)
    for error in (errno.EMFILE, errno.EIO):
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", refuse(error))
            with pytest.raises(CheckpointUnwritable, match=os.strerror(error)):
                directory.delete(saved.name, upload_id)
    assert directory.load(saved.name) == saved


def test_a_single_file_that_can_t_be_read_is_not_replaced(tmp_path: Path, checkpoint, monkeypatch) -> None:
    """Not even if it could be read a moment before."""
    store = FileCheckpointStore.for_file(tmp_path / "state.ucp")
    saved = checkpoint()
    store.save(saved)
    monkeypatch.setattr(type(store._location), "is_unrelated", lambda location, path: False)
    real = os.open

    def failing(path: str, flags: int, *more: int, **named: int) -> int:
        if str(path).endswith("state.ucp"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, flags, *more, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing)
        with pytest.raises(CheckpointUnwritable, match=os.strerror(errno.EIO)):
            store.save(checkpoint("another key"))
    assert store.load(saved.name) == saved


def test_the_temporary_file_of_a_killed_process_is_removed(directory, tmp_path: Path, checkpoint) -> None:
    saved = checkpoint()
    (tmp_path / f"{saved.name}.ucp.tmp").write_bytes(b"half")
    with directory.claim(saved.name):
        directory.save(saved)
    assert [path.name for path in tmp_path.iterdir()] == [f"{saved.name}.ucp"]
    (tmp_path / f"{saved.name}.ucp.tmp").write_bytes(b"half")
    with directory.claim(saved.name):
        directory.delete(saved.name, "UPLOAD")
    assert list(tmp_path.iterdir()) == []


def test_a_forked_child_shares_no_open_file_with_its_parent(directory, checkpoint, part, monkeypatch) -> None:
    # Simulated by another process id: the test can't observe a real child.
    closed = []
    real = os.close
    saved = checkpoint()
    with directory.claim(saved.name):
        directory.save(saved)
        directory.append_part(saved.name, "UPLOAD", part(1))
        [tail] = directory._appender._tails.values()
        with monkeypatch.context() as patch:
            patch.setattr(os, "close", lambda file: closed.append(file) or real(file))
            patch.setattr(os, "getpid", lambda: 1)
            directory.append_part(saved.name, "UPLOAD", part(2))
            assert closed[0] == tail.file
            assert directory._claimed == {}
            assert directory._appender._tails == {}
    assert directory.load(saved.name).parts == (part(1), part(2))


# --- the cost of a part ----------------------------------------------------------------------------------------------


def test_appending_a_part_is_one_write_of_one_line_after_any_number_of_parts(
    directory, checkpoint, part, monkeypatch
) -> None:
    calls: list[tuple[str, int]] = []
    saved = checkpoint()
    with directory.claim(saved.name):
        directory.save(saved)
        directory.append_part(saved.name, "UPLOAD", part(1))
        for name in ("write", "fstat", "open", "fsync", "ftruncate", "read", "replace", "stat", "close"):
            real = getattr(os, name)

            def counted(*args: object, name: str = name, real: Callable[..., object] = real) -> object:
                calls.append((name, len(args[1]) if name == "write" else 0))
                return real(*args)

            monkeypatch.setattr(os, name, counted)
        for number in range(2, 10_001):
            directory.append_part(saved.name, "UPLOAD", part(number % 10 + 1))
        monkeypatch.undo()
    assert [name for name, _ in calls] == ["fstat", "write"] * 9_999
    assert max(size for _, size in calls) < 100


def test_no_file_is_open_after_the_claim(directory, checkpoint, part, monkeypatch) -> None:
    opened, closed = [], []
    real_close = os.close
    for name in ("create_private", "open_trusted"):
        real = getattr(files, name)
        monkeypatch.setattr(files, name, lambda *args, real=real: opened.append(real(*args)) or opened[-1])
    monkeypatch.setattr(os, "close", lambda file: closed.append(file) or real_close(file))
    saved = checkpoint()
    with directory.claim(saved.name):
        assert set(opened) <= set(closed), "the record of the owner is closed"
        opened.clear()
        directory.save(saved)
        directory.append_part(saved.name, "UPLOAD", part(1))
        assert len(opened) == 2
        assert len([file for file in closed if file in opened]) >= 1
        appending = opened[-1]
        closed.clear()
        directory.append_part(saved.name, "UPLOAD", part(2))
        assert appending not in closed
    assert appending in closed
    closed.clear()
    directory.append_part(saved.name, "UPLOAD", part(3))
    assert opened[-1] in closed


# --- unusable paths --------------------------------------------------------------------------------------------------


def test_a_file_in_place_of_the_directory_is_reported_at_the_claim(tmp_path: Path, checkpoint) -> None:
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CheckpointUnwritable, match=r"(?i)not a directory") as caught:
            FileCheckpointStore(directory).claim(checkpoint().name).__enter__()
        assert isinstance(caught.value.__cause__, OSError)
        assert "keep the checkpoint elsewhere" in caught.value.hint


def test_a_directory_in_place_of_the_file_is_reported(tmp_path: Path, checkpoint) -> None:
    (tmp_path / "state.ucp").mkdir()
    store = FileCheckpointStore.for_file(tmp_path / "state.ucp")
    with pytest.raises(CheckpointUnwritable, match="not a regular file"):
        store.claim(checkpoint().name).__enter__()


def as_nobody(action: Callable[[], None]) -> int:
    """Call it in an unprivileged child, since permissions do not bind root; return the exit status."""
    pid = os.fork()
    if not pid:
        try:
            if not os.geteuid():
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            action()
        except BaseException as error:  # noqa: BLE001  # the child must not return into pytest
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # about a fork while other threads run
@pytest.mark.parametrize("leftover_lock", [False, True])
def test_a_read_only_directory_is_reported_at_the_claim(tmp_path: Path, checkpoint, part, leftover_lock: bool) -> None:
    saved = checkpoint()
    place = tmp_path / "place"
    store = FileCheckpointStore(place)
    store.save(saved)
    if leftover_lock:
        (place / f"{saved.name}.ucp.lock").touch()
        (place / f"{saved.name}.ucp.lock").chmod(0o666)
    store.path_for(saved.name).chmod(0o444)
    place.chmod(0o555)
    for above in (tmp_path, *tmp_path.parents):
        if above.owner() == place.owner() and above != Path("/"):
            above.chmod(above.stat().st_mode | 0o011)

    def check() -> None:
        with pytest.raises(CheckpointUnwritable, match="keep the checkpoint elsewhere"):
            store.claim(saved.name).__enter__()
        with pytest.raises(CheckpointUnwritable):
            store.save(saved)
        with pytest.raises(CheckpointUnwritable):
            store.append_part(saved.name, "UPLOAD", part(1))
        assert store.load(saved.name) == saved

    try:
        assert as_nobody(check) == 0
    finally:
        place.chmod(0o755)


def test_a_path_that_is_not_a_directory_is_refused_as_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="is not a directory"):
        files.check_directory(str(tmp_path / "file"))


def test_a_missing_root_directory_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    # Like a drive on Windows.
    monkeypatch.setattr(os.path, "isdir", lambda _: False)
    with pytest.raises(OSError, match="is not a directory"):
        files.make_directories(str(Path(os.sep).resolve()), private=True)


# --- features that other systems lack --------------------------------------------------------------------------------


def test_a_directory_that_does_not_support_sync_is_accepted(directory, checkpoint, monkeypatch) -> None:
    monkeypatch.delattr(os, "O_DIRECTORY", raising=False)
    real = os.open

    def without_directories(path: str, flags: int, *args: int, **kwargs: int) -> int:
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", without_directories)
    directory.save(checkpoint())
    assert directory.load(checkpoint().name) == checkpoint()


def test_a_directory_whose_sync_fails_is_reported(directory, checkpoint, monkeypatch) -> None:
    real = os.fsync

    def failing(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(file)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(CheckpointUnwritable, match=os.strerror(errno.EIO)):
        directory.save(checkpoint())


def test_the_most_complete_sync_of_the_system_is_used(directory, checkpoint, monkeypatch) -> None:
    synced = []

    class Fcntl:
        F_FULLFSYNC = 51

        @staticmethod
        def fcntl(file: int, command: int) -> int:
            synced.append(command)
            return 0

    monkeypatch.setattr(files, "fcntl", Fcntl)
    monkeypatch.setattr(os, "fsync", lambda file: synced.append("plain"))
    directory.save(checkpoint())
    assert synced == [51, "plain"], "the file by the fullest, its directory by the plain one"
    synced.clear()
    monkeypatch.setattr(Fcntl, "fcntl", staticmethod(refuse(errno.ENOTSUP)))
    directory.save(checkpoint())
    assert synced == ["plain", "plain"]


def test_without_fcntl_files_are_synced_by_fsync(directory, checkpoint, monkeypatch) -> None:
    monkeypatch.setattr(files, "fcntl", None)
    directory.save(checkpoint())
    assert directory.load(checkpoint().name) == checkpoint()


def test_files_are_opened_in_binary_mode_where_it_exists(directory, checkpoint, monkeypatch) -> None:
    monkeypatch.setattr(os, "O_BINARY", 1 << 30, raising=False)
    real = os.open
    seen = []

    def spy(path: str, flags: int, mode: int = 0o777) -> int:
        seen.append(bool(flags & os.O_BINARY))
        return real(path, flags & ~os.O_BINARY, mode)

    monkeypatch.setattr(os, "open", spy)
    directory.save(checkpoint())
    assert seen[0]


def test_a_directory_created_by_another_process_at_the_same_time_is_accepted(tmp_path: Path, monkeypatch) -> None:
    real = os.mkdir
    monkeypatch.setattr(os, "mkdir", lambda path, mode: (real(path, mode), real(path, mode)))
    files.make_directories(str(tmp_path / "one" / "two"), private=True)
    assert (tmp_path / "one" / "two").is_dir()


def test_a_directory_removed_at_the_same_time_is_reported(tmp_path: Path, checkpoint, monkeypatch) -> None:
    store = FileCheckpointStore(tmp_path / "one")
    monkeypatch.setattr(os, "mkdir", lambda path, mode: None)
    with pytest.raises(CheckpointUnwritable, match="there is no directory"):
        store.claim(checkpoint().name).__enter__()


def test_a_file_in_place_of_the_directory_of_a_single_file_is_reported(tmp_path: Path, checkpoint) -> None:
    (tmp_path / "file").touch()
    store = FileCheckpointStore.for_file(tmp_path / "file" / "state.ucp")
    with pytest.raises(CheckpointUnwritable, match="is not a directory"):
        store.claim(checkpoint().name).__enter__()


def test_a_file_created_in_place_of_the_directory_at_the_same_time_is_reported(tmp_path: Path, monkeypatch) -> None:
    def taken(path: str, mode: int) -> None:
        Path(path).touch()
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "mkdir", taken)
    with pytest.raises(NotADirectoryError):
        files.make_directories(str(tmp_path / "one"), private=True)


def test_opening_the_store_imports_no_more_than_it_needs() -> None:
    # In a new process, since this one has imported everything already. Versions of filelock import SQLite themselves.
    code = "import sys, filelock; old = set(sys.modules); import partwise.stores.file; print(*set(sys.modules) - old)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    brought = set(done.stdout.split())
    assert "partwise.stores.file" in brought
    assert not brought & {"platformdirs", "urllib.request", "sqlite3", "partwise.stores._database"}
