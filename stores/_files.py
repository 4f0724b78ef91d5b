"""
Files that survive: replaced whole or not at all, on the medium when the call returns, and for their owner alone.

What an operating system lacks (directories that can be synced, flags of `os.open`) is looked up when it is needed, and
done without.
"""

# Paths are text in here, since most of them are made for one call of the system each.
# ruff: noqa: PTH100, PTH102, PTH105, PTH108, PTH110, PTH112, PTH116, PTH120, PTH123

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # what a module is replaced by when there is none

_PRIVATE_FILE = 0o600
_PRIVATE_DIRECTORY = 0o700

#: What a directory answers that can't be synced: it is not allowed, not supported, or not needed.
_UNSYNCABLE = {errno.EACCES, errno.EPERM, errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.ENOTSUP, errno.EISDIR}


def absolute(path: str | os.PathLike[str]) -> str:
    """The path from the root, so that a later change of the working directory changes nothing."""
    return os.path.abspath(os.fspath(path))


def open_private(path: str, flags: int) -> int:
    """Open a file for bytes as they are; where it is made, it is for its owner alone."""
    return os.open(path, flags | getattr(os, "O_BINARY", 0), _PRIVATE_FILE)


def read(path: str, most: int = -1) -> bytes:
    """
    The bytes of a regular file: all, or the first `most`.

    Raises:
        OSError: as the system says, or it is something else, such as a pipe, which might never end.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, f"{path} is not a regular file")
    with open(path, "rb") as file:
        return file.read(most)


def write(file: int, data: bytes) -> None:
    """
    Write all of `data`.

    Raises:
        OSError: as the system says; some of it may have been written.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def replace(path: str, data: bytes, temporary: str) -> None:
    """
    Make `data` the content of `path`, durably: whatever fails or dies, the file is the old one or the new one, whole.

    Args:
        path: the file.
        data: its new content.
        temporary: a path in the same directory where nothing is. Nothing is there afterwards either, unless the process
            dies.

    Raises:
        OSError: as the system says. The old content stands, unless only the sync of the directory failed: then the new
            one stands, but may not outlive the loss of power.
    """
    file = open_private(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        try:
            write(file, data)
            sync(file)
        finally:
            os.close(file)
        os.replace(temporary, path)
    except BaseException:
        remove(temporary, quietly=True)
        raise
    sync_directory(os.path.dirname(path))


def remove(path: str, *, quietly: bool = False) -> None:
    """
    Remove a file. One that is not there is fine.

    Raises:
        OSError: as the system says, unless `quietly`.
    """
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError:
        if not quietly:
            raise


def sync(file: int) -> None:
    """Have the bytes of an open file on the medium, past the cache of the drive where the system offers that."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        # On macOS fsync stops at the drive's own cache. Some file systems there know nothing better.
        with suppress(OSError):
            fcntl.fcntl(file, full)
            return
    os.fsync(file)


def sync_directory(path: str) -> None:
    """
    Have the names in a directory on the medium, where the system can do that.

    Raises:
        OSError: it can, and failed.
    """
    try:
        directory = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        if error.errno not in _UNSYNCABLE:
            raise


def make_private_directory(path: str) -> None:
    """
    Make a directory and those above it that are missing, each for its owner alone. One that is there is left as it is.

    Raises:
        OSError: as the system says, or something else than a directory is there.
    """
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent != path:
        make_private_directory(parent)
    try:
        os.mkdir(path, _PRIVATE_DIRECTORY)
    except FileExistsError:
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, f"{path} is not a directory") from None
    else:
        sync_directory(parent)


def check_directory(path: str) -> None:
    """
    Make sure that files can be made in a directory, as far as can be told without making one.

    Raises:
        OSError: it is missing, is no directory, or may not be written to.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(errno.ENOENT, f"there is no directory {path}")
    if not os.path.isdir(path):
        raise NotADirectoryError(errno.ENOTDIR, f"{path} is not a directory")
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f"the directory {path} is not writable")
