"""
Durable and safe operations on files: for the checkpoint stores and for the local backend.

- Durable: a file is replaced whole or not at all, and is on the medium when the call returns.
- Safe: a file or directory is used only if it is what was expected, belongs to this user (or root), and no other user
  may write to it; symbolic links are not followed, and no open waits for a FIFO.

Internal to partwise. It imports nothing of it. What an operating system lacks (directories that can be synced, flags of
`os.open`, user ids) is looked up when it is needed, and done without; Windows has none of these.
"""

# Paths are text in here, since most of them are made for one call of the system each.
# ruff: noqa: PTH100, PTH102, PTH105, PTH108, PTH110, PTH112, PTH120

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from io import FileIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # in place of the module

_PRIVATE_FILE = 0o600
_PRIVATE_DIRECTORY = 0o700

#: Write permission for the group and for others.
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH

#: What a directory answers that can't be synced: it is not allowed (as where it may be written but not read), not
#: supported (as by some network and FUSE file systems), or not needed. Its names are then as durable as they get.
_UNSYNCABLE = {errno.EACCES, errno.EPERM, errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.ENOTSUP, errno.EISDIR}


# --- what can be trusted ---------------------------------------------------------------------------------------------


class Untrusted(PermissionError):
    """
    A file or directory that another user may have planted or changed, so that it was not used.

    Args:
        reason: why, as `untrusted` says it.
        path: what was refused.
    """

    def __init__(self, reason: str, path: str) -> None:
        super().__init__(errno.EACCES, reason, path)


def untrusted(status: os.stat_result, *, directory: bool = False) -> str | None:
    """
    Say why a file or directory can't be trusted, or None if it can.

    It can if it is a regular file (a directory), belongs to this user or to root, and neither its group nor others may
    write to it. Systems without user ids (Windows) tell of the kind only.

    Args:
        status: of the thing itself: from `os.fstat`, or `os.stat` that does not follow symbolic links.
        directory: a directory is expected, and not a file.

    Returns:
        The reason, to follow on the path: "belongs to another user (uid 1000)".
    """
    if (reason := _wrong_kind(status, directory=directory)) is not None:
        return reason
    if not hasattr(os, "geteuid"):
        return None
    if status.st_uid not in (os.geteuid(), 0):
        return f"belongs to another user (uid {status.st_uid})"
    if status.st_mode & _WRITABLE_BY_OTHERS:
        return f"can be written by other users (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def _wrong_kind(status: os.stat_result, *, directory: bool = False) -> str | None:
    if stat.S_ISLNK(status.st_mode):
        return "is a symbolic link"
    if directory:
        return None if stat.S_ISDIR(status.st_mode) else "is not a directory"
    return None if stat.S_ISREG(status.st_mode) else "is not a regular file"


def is_private_group(gid: int) -> bool:
    """
    Whether this user is the only member of a group, judged by its name and its list of members.

    Many systems give each user a group of the same name, and make files that this group may write.
    """
    try:
        import grp
        import pwd

        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except (ImportError, KeyError):
        return False
    return (group.gr_gid, group.gr_name) == (user.pw_gid, user.pw_name) and set(group.gr_mem) <= {user.pw_name}


def check_trusted(path: str, *, directory: bool = False, dir_fd: int | None = None) -> os.stat_result:
    """
    Look at a file or directory without opening it, and return its status.

    Raises:
        Untrusted: it can't be trusted; see `untrusted`.
        OSError: as the system says.
    """
    status = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    _refuse(path, untrusted(status, directory=directory))
    return status


def is_trusted(path: str) -> bool:
    """
    Whether a regular file is there that can be trusted; see `untrusted`.

    Raises:
        OSError: as the system says, unless it says that nothing is there.
    """
    try:
        check_trusted(path)
    except (Untrusted, FileNotFoundError):
        return False
    return True


def open_trusted(path: str, flags: int = os.O_RDONLY, *, directory: bool = False, dir_fd: int | None = None) -> int:
    """
    Open a file or directory that is there and that can be trusted; return its descriptor.

    A symbolic link in the last place of the path is not followed, and a FIFO is not waited for. The descriptor is not
    inherited by other programs.

    Args:
        path: what to open; relative to `dir_fd` if that is given.
        flags: of `os.open`, beside those that make it safe. Not O_CREAT: for a new file see `create_private`.
        directory: open a directory, and refuse a file.
        dir_fd: the descriptor of a directory.

    Raises:
        Untrusted: it can't be trusted; see `untrusted`.
        OSError: as the system says.
    """
    return _open_checked(path, flags, untrusted, directory=directory, dir_fd=dir_fd)


def _open_checked(
    path: str,
    flags: int,
    judge: Callable[..., str | None],
    *,
    directory: bool = False,
    dir_fd: int | None = None,
) -> int:
    # First without opening: that would have effects on a device, and would not say that a file is another user's.
    _refuse(path, judge(os.stat(path, dir_fd=dir_fd, follow_symlinks=False), directory=directory))
    kind = getattr(os, "O_DIRECTORY", 0) if directory else 0
    file = os.open(path, flags | kind | _flags("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"), dir_fd=dir_fd)
    try:
        # It may have been replaced in between. Where there is no O_NOFOLLOW (Windows), by a link, too.
        _refuse(path, judge(os.fstat(file), directory=directory))
    except BaseException:
        os.close(file)
        raise
    return file


def _refuse(path: str, reason: str | None) -> None:
    if reason is not None:
        raise Untrusted(reason, path)


def _flags(*names: str) -> int:
    flags = 0
    for name in names:
        flags |= getattr(os, name, 0)
    return flags


# --- files -----------------------------------------------------------------------------------------------------------


def absolute(path: str | os.PathLike[str]) -> str:
    """The path from the root, so that a later change of the working directory changes nothing."""
    return os.path.abspath(os.fspath(path))


def create_private(path: str) -> int:
    """
    Make a file that is for its owner alone, open it for bytes as they are, and return its descriptor.

    Raises:
        Untrusted: the file system gives new files to another user, or lets others write to them, whatever is asked of
            it. Nothing is left.
        FileExistsError: something is there; a symbolic link is not followed.
        OSError: as the system says.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _flags("O_BINARY"), _PRIVATE_FILE)
    try:
        if (reason := untrusted(os.fstat(file))) is not None:
            os.unlink(path)
            _refuse(path, f"{reason}, although it was made for this user alone: the file system keeps no owner or mode")
    except BaseException:
        os.close(file)
        raise
    return file


def read(path: str, most: int, *, trusted: bool = True) -> bytes:
    """
    Read the first `most` bytes of a regular file, or all if there are fewer.

    Args:
        path: the file.
        most: a bound, since a file may be far larger than what it was made for.
        trusted: refuse a file that another user may have planted or changed. Otherwise only what is not a regular file
            is refused.

    Raises:
        Untrusted: it is refused.
        OSError: as the system says.
    """
    file = _open_checked(path, os.O_RDONLY, untrusted if trusted else _wrong_kind)
    try:
        return read_open(file, most)
    finally:
        os.close(file)


def read_open(file: int, most: int) -> bytes:
    """
    Read the first `most` bytes of an open regular file, from where it stands, or all if there are fewer.

    It takes memory for what there is. A plain read takes it for all that is asked for, and fails where a process has a
    small address space.
    """
    with open(file, "rb", closefd=False) as reader:
        return reader.read(min(most, os.fstat(file).st_size))


def write(file: int, data: bytes | memoryview) -> None:
    """
    Write all of `data`.

    Raises:
        OSError: as the system says; some of it may have been written.
    """
    rest = memoryview(data).cast("B")
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
    file = create_private(temporary)
    try:
        try:
            write(file, data)
            sync(file)
        finally:
            os.close(file)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            remove(temporary)
        raise
    sync_directory(os.path.dirname(path))


def remove(path: str) -> None:
    """
    Remove a file, unless it can't be trusted: then it is not ours to remove. One that is not there is fine.

    Raises:
        OSError: as the system says.
    """
    if is_trusted(path):
        with suppress(FileNotFoundError):
            os.unlink(path)


def sync(file: int | FileIO) -> None:
    """Bring the bytes of an open file to the medium, past the cache of the drive where the system offers that."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        # On macOS fsync stops at the drive's own cache. Some file systems there know nothing better.
        with suppress(OSError):
            fcntl.fcntl(file, full)
            return
    os.fsync(file)


# --- directories -----------------------------------------------------------------------------------------------------


def sync_directory(directory: str | os.PathLike[str] | int) -> None:
    """
    Bring the names in a directory to the medium, where the system can do that.

    Args:
        directory: its path, or its descriptor.

    Raises:
        OSError: it can, and failed.
    """
    try:
        if isinstance(directory, int):
            os.fsync(directory)
            return
        descriptor = os.open(directory, os.O_RDONLY | _flags("O_DIRECTORY"))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
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


def make_trusted_directory(path: str) -> None:
    """
    Make a directory for this user alone, durably. One that is there is used only if it can be trusted.

    Raises:
        Untrusted: it can't be trusted; see `untrusted`.
        OSError: as the system says.
    """
    try:
        os.mkdir(path, _PRIVATE_DIRECTORY)
    except FileExistsError:
        pass
    else:
        sync_directory(os.path.dirname(path))
    check_trusted(path, directory=True)


def check_directory(path: str) -> None:
    """
    Make sure that files can be made in a directory, as far as that shows without making one.

    Raises:
        OSError: it is missing, is not a directory, or may not be written to.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(errno.ENOENT, f"there is no directory {path}")
    if not os.path.isdir(path):
        raise NotADirectoryError(errno.ENOTDIR, f"{path} is not a directory")
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f"the directory {path} is not writable")
