"""Simulated power loss: what survives it, and what does not."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from partwise.testing import RecordedDisk, Survival

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no way to sync the names in a directory")

Found = dict[str, bytes | None]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "place"
    place.mkdir()
    return place


@pytest.fixture(autouse=True)
def _no_waiting_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)


def found(place: Path) -> Found:
    """Return the contents of a directory: files by their bytes, directories as None."""
    return {
        path.relative_to(place).as_posix(): path.read_bytes() if path.is_file() else None for path in place.rglob("*")
    }


def at_the_end(disk: RecordedDisk, place: Path) -> dict[Survival, Found]:
    """Return the states after a loss following all changes; equal ones under the first."""
    ends = {}
    for loss in disk.losses():
        if loss.instant == disk.instants - 1:
            loss.apply()
            ends[loss.survival] = found(place)
    return ends


def write(path: Path, data: bytes, *, sync: bool = False, flags: int = os.O_CREAT) -> None:
    file = os.open(path, os.O_WRONLY | flags)
    try:
        os.write(file, data)
        if sync:
            os.fsync(file)
    finally:
        os.close(file)


def sync_names(directory: Path) -> None:
    file = os.open(directory, os.O_RDONLY)
    os.fsync(file)
    os.close(file)


# --- what survives ---------------------------------------------------------------------------------------------------


def test_unsynced_changes_survive_in_every_possible_way(place: Path) -> None:
    disk = RecordedDisk(place)
    with disk.recording():
        write(place / "file", b"abcdef")
        disk.note("the end")
    assert at_the_end(disk, place) == {
        Survival.NOTHING: {},
        Survival.CUT: {"file": b""},
        Survival.TORN: {"file": b"abc"},
        Survival.HOLE: {"file": b"\0\0\0def"},
        Survival.ZEROS: {"file": b"\0\0\0\0\0\0"},
        Survival.EVERYTHING: {"file": b"abcdef"},
    }


def test_synced_changes_always_survive(place: Path) -> None:
    disk = RecordedDisk(place)
    with disk.recording():
        write(place / "file", b"abcdef", sync=True)
        sync_names(place)
        disk.note("the end")
    assert at_the_end(disk, place) == {Survival.NOTHING: {"file": b"abcdef"}}


def test_a_name_may_be_lost_though_the_bytes_were_synced(place: Path) -> None:
    disk = RecordedDisk(place)
    with disk.recording():
        write(place / "file", b"abcdef", sync=True)
        disk.note("the end")
    assert at_the_end(disk, place) == {Survival.NOTHING: {}, Survival.CUT: {"file": b"abcdef"}}


def test_bytes_may_be_lost_though_the_name_was_synced(place: Path) -> None:
    disk = RecordedDisk(place)
    with disk.recording():
        write(place / "file", b"ab")
        sync_names(place)
        disk.note("the end")
    ends = at_the_end(disk, place)
    assert ends[Survival.NOTHING] == {"file": b""}
    assert ends[Survival.DATA] == {"file": b"ab"}


def test_files_from_before_the_recording_are_durable(place: Path) -> None:
    (place / "inner").mkdir()
    (place / "inner" / "file").write_bytes(b"old")
    os.link(place / "inner" / "file", place / "second name")
    disk = RecordedDisk(place)
    with disk.recording():
        write(place / "inner" / "file", b"er", flags=os.O_APPEND)
        disk.note("the end")
    ends = at_the_end(disk, place)
    assert ends[Survival.NOTHING] == {"inner": None, "inner/file": b"old", "second name": b"old"}
    assert ends[Survival.TORN] == {"inner": None, "inner/file": b"olde", "second name": b"olde"}
    assert ends[Survival.ZEROS] == {"inner": None, "inner/file": b"old\0\0", "second name": b"old\0\0"}


def test_every_instant_is_yielded_and_equal_states_only_once(place: Path) -> None:
    disk = RecordedDisk(place)
    with disk.recording():
        write(place / "new", b"ab", sync=True)
        (place / "new").replace(place / "file")
        sync_names(place)
    seen = []
    for loss in disk.losses():
        loss.apply()
        seen.append((loss.call, found(place)))
    assert disk.instants == 6
    assert seen == [
        ("nothing", {}),
        ("making new", {"new": b""}),
        ("writing 2 bytes", {"new": b"a"}),
        ("writing 2 bytes", {"new": b"\0b"}),
        ("writing 2 bytes", {"new": b"\0\0"}),
        ("writing 2 bytes", {"new": b"ab"}),
        ("renaming new to file", {"file": b"ab"}),
    ]


def test_states_with_different_notes_are_different(place: Path) -> None:
    disk = RecordedDisk(place)
    with disk.recording():
        disk.note("before")
        write(place / "file", b"", sync=True)
        sync_names(place)
        disk.note("after")
    for loss in disk.losses():
        loss.apply()
        assert ("after" not in loss.notes) or (place / "file").exists()
    assert {loss.notes for loss in disk.losses()} == {(), ("before",), ("before", "after")}
    assert "no change survives" in str(next(disk.losses()))


# --- calls -----------------------------------------------------------------------------------------------------------


def make_and_remove(place: Path) -> None:
    (place / "a" / "b").mkdir(parents=True)
    (place / "a" / "b").rmdir()
    (place / "file").touch(exist_ok=False)
    (place / "file").unlink()
    (place / "other").touch()
    os.remove(place / "other")  # noqa: PTH107  # another call than unlink


def write_in_many_ways(place: Path) -> None:
    with (place / "file").open("x+b", buffering=0) as file:
        file.write(b"0123456789")
        file.seek(2)
        file.write(memoryview(b"ab"))
        file.truncate(8)
        file.seek(6)
        file.truncate()
        os.pwrite(file.fileno(), b"zz", 8)
        os.ftruncate(file.fileno(), 9)
        os.fdatasync(file.fileno())
    os.truncate(place / "file", 20)
    write(place / "file", b"end", flags=os.O_APPEND)
    (place / "emptied").touch()
    write(place / "emptied", b"abc")
    with (place / "emptied").open("wb", buffering=0) as file:
        file.write(b"d")
    write(place / "emptied", b"", flags=os.O_TRUNC)


def copy_within_the_kernel(place: Path) -> None:
    (place / "source").open("xb", buffering=0).close()
    write(place / "source", b"0123456789")
    with (place / "source").open("rb") as source, (place / "target").open("xb", buffering=0) as target:
        os.copy_file_range(source.fileno(), target.fileno(), 5, 2, 0)


def move(place: Path) -> None:
    (place / "a").mkdir()
    (place / "b").mkdir()
    write(place / "a" / "file", b"abc")
    os.link(place / "a" / "file", place / "b" / "link")
    (place / "a" / "file").rename(place / "b" / "file")
    write(place / "b" / "link", b"x")
    (place / "b").rename(place / "a" / "b")
    write(place / "new", b"new")
    (place / "new").replace(place / "a" / "b" / "file")


def remove_by_descriptors(place: Path) -> None:
    (place / "a" / "b").mkdir(parents=True)
    write(place / "a" / "b" / "file", b"abc")
    shutil.rmtree(place / "a")


def use_an_inode_again(place: Path) -> None:
    for number in range(20):
        write(place / "file", b"%d" % number)
        (place / "file").unlink()
        (place / "directory").mkdir()
        (place / "directory").rmdir()
    write(place / "file", b"last")


@pytest.mark.parametrize(
    "action",
    [make_and_remove, write_in_many_ways, copy_within_the_kernel, move, remove_by_descriptors, use_an_inode_again],
)
def test_the_record_equals_the_directory(place: Path, action: Callable[[Path], None]) -> None:
    """They are compared when the recording ends."""
    if action is copy_within_the_kernel and not hasattr(os, "copy_file_range"):
        pytest.skip("this system has no copy_file_range")
    disk = RecordedDisk(place)
    with disk.recording():
        action(place)
        done = found(place)
        disk.note("the end")
    ends = at_the_end(disk, place)
    assert done in ends.values()
    assert disk.instants > 5


@pytest.mark.parametrize("synced", ["source", "target"])
def test_a_rename_between_directories_is_atomic(place: Path, synced: str) -> None:
    for name in ("source", "target"):
        (place / name).mkdir()
    (place / "source" / "file").write_bytes(b"abc")
    disk = RecordedDisk(place)
    with disk.recording():
        (place / "source" / "file").rename(place / "target" / "file")
        before = disk.instants
        sync_names(place / synced)
        disk.note("the end")
    assert at_the_end(disk, place) == {Survival.NOTHING: {"source": None, "target": None, "target/file": b"abc"}}
    losses = [loss for loss in disk.losses() if loss.instant < before]
    losses[0].apply()
    assert found(place) == {"source": None, "source/file": b"abc", "target": None}


def test_hard_links_survive_a_loss_with_one_new_inode(place: Path) -> None:
    disk = RecordedDisk(place)
    with disk.recording():
        write(place / "one", b"abc", sync=True)
        os.link(place / "one", place / "two")
        sync_names(place)
        before = (place / "one").stat().st_ino
        disk.note("the end")
    *_, loss = disk.losses()
    inodes = loss.apply()
    assert (place / "one").samefile(place / "two")
    assert inodes == {before: (place / "one").stat().st_ino}


def test_mtimes_are_restored(place: Path) -> None:
    disk = RecordedDisk(place)
    with disk.recording():
        write(place / "file", b"abc", sync=True)
        sync_names(place)
    before = (place / "file").stat().st_mtime_ns
    *_, loss = disk.losses()
    loss.apply()
    assert (place / "file").stat().st_mtime_ns == before


def test_changes_in_other_directories_are_not_recorded(place: Path, tmp_path: Path) -> None:
    disk = RecordedDisk(place)
    with disk.recording():
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        move(elsewhere)
        (elsewhere / "text").write_text("buffered")
        (elsewhere / "link").symlink_to("text")
        os.truncate(elsewhere / "text", 1)
        sync_names(elsewhere)
        with pytest.raises(FileNotFoundError):
            (elsewhere / "missing" / "file").unlink()
    assert disk.instants == 1


def test_a_call_that_fails_changes_nothing(place: Path) -> None:
    disk = RecordedDisk(place)
    with disk.recording():
        with pytest.raises(FileNotFoundError):
            (place / "missing").unlink()
        with pytest.raises(FileNotFoundError):
            (place / "missing").rename(place / "other")
        with pytest.raises(FileNotFoundError):
            os.open(place / "missing", os.O_RDONLY)
    assert disk.instants == 1


def test_changes_of_many_threads_are_recorded(place: Path) -> None:
    disk = RecordedDisk(place)
    with disk.recording():
        threads = [threading.Thread(target=write, args=(place / f"{n}", b"%d" % n)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert disk.instants == 17


def test_the_original_calls_are_restored(place: Path) -> None:
    before = (os.open, os.rename, open)
    with RecordedDisk(place).recording():
        assert os.open is not before[0]
    assert (os.open, os.rename, open) == before


def test_f_fullfsync_is_a_sync(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    disk = RecordedDisk(place)
    with disk.recording():
        with (place / "file").open("xb", buffering=0) as file:
            file.write(b"abc")
            assert fcntl.fcntl(file, 51) == 0
            assert fcntl.fcntl(file, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        sync_names(place)
        disk.note("the end")
    assert at_the_end(disk, place) == {Survival.NOTHING: {"file": b"abc"}}


# --- what can't be recorded ------------------------------------------------------------------------------------------


def buffered(place: Path) -> None:
    (place / "file").write_text("text")


def linked(place: Path) -> None:
    (place / "link").symlink_to("target")


def moved_in(place: Path) -> None:
    (place.parent / "outside").touch()
    (place.parent / "outside").rename(place / "inside")


def copied_without_offsets(place: Path) -> None:
    os.copy_file_range(0, 1, 5)


@pytest.mark.parametrize("action", [buffered, linked, moved_in, copied_without_offsets])
def test_calls_that_can_not_be_recorded_are_refused(place: Path, action: Callable[[Path], None]) -> None:
    if action is copied_without_offsets and not hasattr(os, "copy_file_range"):
        pytest.skip("this system has no copy_file_range")
    with RecordedDisk(place).recording(), pytest.raises(NotImplementedError):
        action(place)
    assert list(place.iterdir()) == []


def test_a_change_that_was_not_recorded_is_reported_at_the_end(place: Path) -> None:
    unseen = os.mkdir
    recording = RecordedDisk(place).recording()
    recording.__enter__()
    unseen(place / "made")
    with pytest.raises(AssertionError, match="not recorded: made"):
        recording.__exit__(None, None, None)


def test_a_system_that_lacks_a_call_is_recorded_without_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "copy_file_range", raising=False)
    disk = RecordedDisk(place)
    with disk.recording():
        assert not hasattr(os, "copy_file_range")
        write(place / "file", b"abc")
    assert disk.instants == 3


def test_a_write_to_a_full_disk_is_not_recorded(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    disk = RecordedDisk(place)
    with disk.recording(), pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write(place / "file", b"abc")
    assert disk.instants == 2
