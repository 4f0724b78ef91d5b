"""Durable and safe file operations."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from partwise._durable import Untrusted, is_private_group, open_trusted, read, sync_directory, untrusted

OTHER = 12345

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="the system has no user ids")


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that other users can access, unlike those of pytest."""
    if os.geteuid() != 0:
        pytest.skip("needs root: only root can act as another user")
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Change only the effective user, which the checks of the system use, and which can be changed back."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def open_files() -> int:
    """The number of open files of this process, where the system shows it."""
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0


def make_file(path: Path, mode: int = 0o600, content: bytes = b"content") -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def make_fifo(path: Path) -> Path:
    os.mkfifo(path, 0o600)
    return path


def make_socket(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as listener, _working_in(path.parent):
        listener.bind(path.name)  # the whole path may be too long for a socket
    path.chmod(0o600)
    return path


@contextmanager
def _working_in(path: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


def make_link(path: Path) -> Path:
    path.symlink_to(make_file(path.with_name("target")))
    return path


def make_dangling_link(path: Path) -> Path:
    path.symlink_to(path.with_name("nothing"))
    return path


def make_directory(path: Path) -> Path:
    path.mkdir(0o700)
    return path


# --- trust -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o400, 0o755, 0o000])
def test_a_file_that_only_this_user_may_write_is_trusted(tmp_path: Path, mode: int) -> None:
    assert untrusted(make_file(tmp_path / "file", mode).stat()) is None


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o664, 0o622])
def test_a_file_that_others_may_write_is_not_trusted(tmp_path: Path, mode: int) -> None:
    path = make_file(tmp_path / "file", mode)

    assert untrusted(path.stat()) == f"can be written by other users (mode {mode:04o})"
    with pytest.raises(Untrusted, match="can be written by other users"):
        open_trusted(str(path))


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777, 0o2770])
def test_a_directory_that_others_may_write_is_not_trusted(tmp_path: Path, mode: int) -> None:
    path = make_directory(tmp_path / "directory")
    path.chmod(mode)

    assert untrusted(path.stat(), directory=True) == f"can be written by other users (mode {mode:04o})"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_fifo, "is not a regular file"),
        (make_socket, "is not a regular file"),
        (make_link, "is a symbolic link"),
        (make_dangling_link, "is a symbolic link"),
        (make_directory, "is not a regular file"),
    ],
)
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR])
def test_anything_but_a_regular_file_is_refused_without_blocking(
    tmp_path: Path, make: Callable[[Path], Path], reason: str, flags: int
) -> None:
    path = make(tmp_path / "thing")

    with pytest.raises(Untrusted) as caught:
        open_trusted(str(path), flags)

    assert caught.value.strerror == reason
    assert caught.value.filename == str(path)
    assert caught.value.errno == errno.EACCES


@pytest.mark.parametrize(
    ("make", "reason"),
    [(make_file, "is not a directory"), (make_fifo, "is not a directory"), (make_link, "is a symbolic link")],
)
def test_anything_but_a_directory_is_refused_as_one(tmp_path: Path, make: Callable[[Path], Path], reason: str) -> None:
    with pytest.raises(Untrusted, match=reason):
        open_trusted(str(make(tmp_path / "thing")), directory=True)


def test_a_link_to_a_directory_is_refused_as_one(tmp_path: Path) -> None:
    make_directory(tmp_path / "directory")
    (tmp_path / "link").symlink_to("directory")

    with pytest.raises(Untrusted, match="is a symbolic link"):
        open_trusted(str(tmp_path / "link"), directory=True)


def test_a_trusted_file_is_opened_relative_to_a_directory(tmp_path: Path) -> None:
    make_file(make_directory(tmp_path / "directory") / "file")

    directory = open_trusted(str(tmp_path / "directory"), directory=True)
    file = open_trusted("file", dir_fd=directory)

    assert os.read(file, 100) == b"content"
    assert not os.get_inheritable(file)
    assert not os.get_inheritable(directory)
    os.close(file)
    os.close(directory)


@pytest.mark.parametrize("make", [make_fifo, make_link, make_directory])
def test_a_file_replaced_after_the_first_check_is_refused(
    tmp_path: Path, make: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_file(tmp_path / "file")
    real = os.open

    def swap_and_open(*args: Any, **kwargs: Any) -> int:
        monkeypatch.undo()
        path.unlink()
        make(path)
        return real(*args, **kwargs)

    monkeypatch.setattr(os, "open", swap_and_open)
    before = open_files()

    with pytest.raises(OSError, match=r"symbolic link|not a regular file|is a directory") as caught:
        open_trusted(str(path))

    assert caught.value.filename == str(path)
    assert open_files() == before


def test_a_missing_file_raises_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_trusted(str(tmp_path / "nothing"))


def test_a_file_of_another_user_is_not_trusted_and_one_of_root_is(open_place: Path) -> None:
    file = make_file(open_place / "file", 0o644)
    file_of_root = make_file(open_place / "of root", 0o644)
    os.chown(file, OTHER, OTHER)

    with pytest.raises(Untrusted, match=rf"belongs to another user \(uid {OTHER}\)"):
        open_trusted(str(file))
    with acting_as(OTHER):
        os.close(open_trusted(str(file)))
        os.close(open_trusted(str(file_of_root)))
    with acting_as(OTHER + 1), pytest.raises(Untrusted, match=rf"belongs to another user \(uid {OTHER}\)"):
        open_trusted(str(file))


def test_an_unreadable_file_of_another_user_is_refused_by_its_owner(open_place: Path) -> None:
    file = make_file(open_place / "file", 0o600)
    os.chown(file, OTHER + 1, OTHER + 1)

    with acting_as(OTHER), pytest.raises(Untrusted, match="belongs to another user"):
        open_trusted(str(file))


def test_a_directory_of_another_user_is_not_trusted(open_place: Path) -> None:
    directory = make_directory(open_place / "directory")
    directory.chmod(0o755)
    os.chown(directory, OTHER, OTHER)

    with pytest.raises(Untrusted, match="belongs to another user"):
        open_trusted(str(directory), directory=True)
    with acting_as(OTHER):
        os.close(open_trusted(str(directory), directory=True))


def test_without_user_ids_only_the_type_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "geteuid")

    assert untrusted(make_file(tmp_path / "file", 0o666).stat()) is None
    assert untrusted(make_fifo(tmp_path / "fifo").stat()) == "is not a regular file"


@pytest.mark.parametrize(
    ("name", "members", "gid", "private"),
    [
        ("me", [], 1000, True),
        ("me", ["me"], 1000, True),
        ("me", ["me", "other"], 1000, False),
        ("staff", [], 1000, False),
        ("me", [], 1001, False),
    ],
)
def test_a_group_is_private_if_it_has_the_name_of_its_user_and_no_other_member(
    monkeypatch: pytest.MonkeyPatch, name: str, members: list[str], gid: int, private: bool
) -> None:
    grp, pwd = pytest.importorskip("grp"), pytest.importorskip("pwd")
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_name="me", pw_gid=1000))
    monkeypatch.setattr(grp, "getgrgid", lambda gid: SimpleNamespace(gr_name=name, gr_gid=gid, gr_mem=members))

    assert is_private_group(gid) is private


@pytest.mark.parametrize("module", ["grp", "pwd"])
def test_an_unknown_group_is_not_private(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, module, None)
        assert not is_private_group(os.getgid())
    unknown = pytest.importorskip("grp")
    monkeypatch.setattr(unknown, "getgrgid", {}.__getitem__)
    assert not is_private_group(os.getgid())


# --- durable ---------------------------------------------------------------------------------------------------------


def test_syncing_a_directory_that_can_not_be_read_is_not_an_error(open_place: Path) -> None:
    box = open_place / "box"
    box.mkdir()
    box.chmod(0o333)

    with acting_as(OTHER):
        sync_directory(box)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.ENOTSUP])
@pytest.mark.parametrize("call", ["open", "fsync"])
@pytest.mark.parametrize("form", [str, Path])
def test_a_directory_that_does_not_support_sync_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, call: str, form: Callable[[Path], str | Path]
) -> None:
    monkeypatch.setattr(os, call, _failing(code))

    sync_directory(form(tmp_path))


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.ENOENT])
def test_a_directory_whose_sync_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(os, "fsync", _failing(code))

    with pytest.raises(OSError, match=os.strerror(code)):
        sync_directory(tmp_path)


def test_a_directory_can_be_synced_by_its_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    directory = os.open(tmp_path, os.O_RDONLY)
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file)))

    sync_directory(directory)

    assert [stat.S_ISDIR(status.st_mode) for status in synced] == [True]
    assert synced[0].st_ino == tmp_path.stat().st_ino
    os.close(directory)


def _failing(code: int) -> Callable[..., int]:
    def fail(*args: object, **kwargs: object) -> int:
        raise OSError(code, os.strerror(code))

    return fail


def test_reading_a_file_allocates_its_size_and_not_the_limit(tmp_path):
    """Even with a large limit, since little memory may be available."""
    path = tmp_path / "small"
    path.write_bytes(b"ten bytes.")
    tracemalloc.start()
    try:
        data = read(str(path), 64 * 1024 * 1024, trusted=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert data == b"ten bytes."
    assert read(str(path), 3, trusted=False) == b"ten"
    assert peak < 1024 * 1024
