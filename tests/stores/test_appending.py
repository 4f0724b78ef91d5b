"""Appending to files: which file is written to, and which files stay open."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import evolve

from partwise.checkpoint import Checkpoint
from partwise.model import UploadedPart
from partwise.stores import _journal as journal
from partwise.stores._appending import Appender

MakeCheckpoint = Callable[..., Checkpoint]
MakePart = Callable[..., UploadedPart]
Append = Callable[..., None]


@pytest.fixture
def path(tmp_path: Path, checkpoint: MakeCheckpoint) -> Path:
    """A file with a checkpoint without parts."""
    path = tmp_path / "checkpoint"
    path.write_bytes(journal.encode(checkpoint()))
    path.chmod(0o600)
    return path


@pytest.fixture
def appender() -> Iterator[Appender]:
    appender = Appender()
    yield appender
    appender.close()


@pytest.fixture
def append(appender: Appender, path: Path, checkpoint: MakeCheckpoint, part: MakePart) -> Append:
    """A function that appends the part of this number."""

    def add(number: int, *, keep_open: bool = True, validate: Callable[[Checkpoint], None] = lambda _: None) -> None:
        appender.append(str(path), checkpoint().name, "UPLOAD", part(number), validate=validate, keep_open=keep_open)

    return add


def numbers(path: Path) -> list[int]:
    return [part.part_number for part in journal.decode(path.read_bytes()).checkpoint.parts]


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))  # noqa: PTH208  # only names are needed


counts_descriptors = pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="the number of open files is not known")  # noqa: PTH112


def test_nothing_is_appended_to_a_file_that_was_removed(path: Path, append: Append) -> None:
    """The line would be acknowledged, and then be lost with the file."""
    append(1)
    path.unlink()

    with pytest.raises(FileNotFoundError):
        append(2)


def test_a_file_that_replaced_the_open_one_is_appended_to(
    path: Path, append: Append, checkpoint: MakeCheckpoint
) -> None:
    append(1)
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.chmod(0o600)
    other.replace(path)
    append(2)

    assert numbers(path) == [1, 2]


def test_a_line_appended_by_another_process_is_kept(
    path: Path, append: Append, checkpoint: MakeCheckpoint, part: MakePart
) -> None:
    append(1)
    data = path.read_bytes()
    line, _ = journal.encode_part(journal.decode(data).digest, part(7))
    path.write_bytes(data + line)
    append(2)

    assert numbers(path) == [1, 7, 2]


def test_an_incomplete_line_is_removed_before_the_next_append(path: Path, append: Append) -> None:
    append(1, keep_open=False)
    with path.open("ab") as file:
        file.write(b'[2,8388608,"ETAG')
    append(3)

    assert numbers(path) == [1, 3]


@counts_descriptors
@pytest.mark.parametrize("keep_open", [True, False])
def test_a_file_stays_open_only_with_keep_open(path: Path, append: Append, keep_open: bool) -> None:
    before = open_descriptors()
    for number in (1, 2, 3):
        append(number, keep_open=keep_open)

    assert open_descriptors() == before + keep_open


@counts_descriptors
def test_closing_leaves_no_file_open(path: Path, append: Append, appender: Appender) -> None:
    before = open_descriptors()
    append(1)
    appender.close_file(str(path))
    appender.close_file(str(path))
    assert open_descriptors() == before

    append(2)
    appender.close()
    assert open_descriptors() == before
    assert numbers(path) == [1, 2]


@counts_descriptors
def test_a_damaged_or_invalid_file_is_closed(path: Path, append: Append) -> None:
    class NotValid(Exception):
        pass

    def refuse(_: Checkpoint) -> None:
        raise NotValid

    before = open_descriptors()
    with pytest.raises(NotValid):
        append(1, validate=refuse)
    path.write_bytes(b"x" + path.read_bytes()[1:])
    with pytest.raises(journal.CorruptJournal):
        append(1)

    assert open_descriptors() == before


def test_a_partially_written_line_is_removed(path: Path, append: Append, monkeypatch: pytest.MonkeyPatch) -> None:
    append(1)
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:9]))
    with pytest.raises(OSError, match="only 9 of"):
        append(2)
    assert numbers(path) == [1]

    monkeypatch.undo()
    append(3)
    assert numbers(path) == [1, 3]


def test_a_file_whose_descriptor_is_stale_is_opened_again(
    path: Path, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS, once the server has lost the handle of an open file."""
    append(1)
    real, stale = os.fstat, []

    def fstat(file: int) -> os.stat_result:
        if not stale:
            stale.append(file)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(file)

    monkeypatch.setattr(os, "fstat", fstat)
    append(2)
    append(3)

    assert len(stale) == 1
    assert numbers(path) == [1, 2, 3]


@pytest.fixture
def closing_fails(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let `os.close` close and then fail, as on NFS for lines over a quota; the descriptors."""
    closed, real = [], os.close

    def close(file: int) -> None:
        real(file)
        closed.append(file)
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "close", close)
    return closed


def test_an_error_of_closing_a_kept_file_is_ignored(
    path: Path, append: Append, appender: Appender, closing_fails: list[int], checkpoint: MakeCheckpoint
) -> None:
    append(1)
    appender.close_file(str(path))
    assert len(closing_fails) == 1
    append(2)
    path.write_bytes(journal.encode(checkpoint()))  # so it is closed and read again
    append(3)
    assert len(closing_fails) == 2
    assert numbers(path) == [3]


def test_all_files_are_closed_although_each_fails(  # noqa: PLR0917  # fixtures
    path: Path, append: Append, appender: Appender, closing_fails: list[int], checkpoint: MakeCheckpoint, part: MakePart
) -> None:
    append(1)
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.chmod(0o600)
    appender.append(str(other), checkpoint().name, "UPLOAD", part(2), validate=lambda _: None, keep_open=True)
    appender.close()
    assert len(closing_fails) == 2


def test_an_error_of_closing_after_a_single_append_is_reported(append: Append, closing_fails: list[int]) -> None:
    """The line may not be stored."""
    with pytest.raises(OSError, match=os.strerror(errno.EDQUOT)):
        append(1, keep_open=False)
    assert len(closing_fails) == 1


def test_two_threads_do_not_append_at_the_same_time(path: Path, append: Append, appender: Appender) -> None:
    """The test holds the lock that each append takes, and the append waits for it."""
    append(1)
    adding = threading.Thread(target=append, args=(2,), daemon=True)
    with appender._lock:
        adding.start()
        adding.join(0.02)
        assert (adding.is_alive(), numbers(path)) == (True, [1])
    adding.join(30)

    assert numbers(path) == [1, 2]


def test_a_forked_child_does_not_wait_for_a_lock_of_a_parent_s_thread(path: Path, appender: Appender) -> None:
    """Simulated: the child finds the lock as it was at the moment of the fork, held."""
    with appender._lock:
        inheriting = threading.Thread(target=appender.close_after_fork, daemon=True)
        inherited_lock = appender._lock
        inheriting.start()
        inheriting.join(5)
        assert not inheriting.is_alive()
        assert appender._lock is not inherited_lock


def test_all_appended_parts_are_in_the_checkpoint(path: Path, append: Append, checkpoint: MakeCheckpoint, part) -> None:
    for number in (3, 1, 2, 1):
        append(number)

    assert journal.decode(path.read_bytes()).checkpoint == evolve(checkpoint(), parts=(part(3), part(1), part(2)))
