"""
Durable and safe file operations, for the stores and the local backend.

- Durable: a file is replaced atomically, and is on the medium when the call returns.
- Safe: a file or directory is used only if it has the expected type, belongs to this user (or root), and no other user
  may write to it. Symbolic links are not followed, and no open blocks on a FIFO.

Internal to partwise, of which it imports nothing. Features that some systems lack (syncing a directory, flags of
`os.open`, user ids) are looked up when needed, and skipped where missing; Windows has none of them.
"""

# Paths are strings here, since most are used for one system call each.
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
_ANY_DIRECTORY = 0o777

#: Write permission for the group and for others.
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH

#: Errors of syncing a directory that are ignored: it is not allowed (the directory may be written but not read), not
#: supported (by some network and FUSE file systems), or not needed. Nothing more can be done for its names.
_UNSYNCABLE = {errno.EACCES, errno.EPERM, errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.ENOTSUP, errno.EISDIR}


# --- trust -----------------------------------------------------------------------------------------------------------


class Untrusted(PermissionError):
    """A file or directory that another user may have changed; it was not used."""

    def __init__(self, reason: str, path: str) -> None:
        super().__init__(errno.EACCES, reason, path)


def untrusted(status: os.stat_result, *, directory: bool = False) -> str | None:
    """
    Return why a file or directory can't be trusted, or None if it can.

    It is trusted if it is a regular file (or a directory, if `directory`), belongs to this user or to root, and neither
    its group nor others may write to it. On systems without user ids (Windows) only the type is checked.

    Args:
        status: its status, from `os.fstat` or from `os.stat` without following symbolic links.
        directory: expect a directory instead of a file.

    Returns:
        A clause whose subject is the path: "belongs to another user (uid 1000)".
    """
    if (reason := _wrong_type(status, directory=directory)) is not None:
        return reason
    if not hasattr(os, "geteuid"):
        return None
    if status.st_uid not in (os.geteuid(), 0):
        return f"belongs to another user (uid {status.st_uid})"
    if status.st_mode & _WRITABLE_BY_OTHERS:
        return f"can be written by other users (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def _wrong_type(status: os.stat_result, *, directory: bool = False) -> str | None:
    if stat.S_ISLNK(status.st_mode):
        return "is a symbolic link"
    if directory:
        return None if stat.S_ISDIR(status.st_mode) else "is not a directory"
    return None if stat.S_ISREG(status.st_mode) else "is not a regular file"


def is_private_group(gid: int) -> bool:
    """
    Return whether this user is the only member of a group.

    The name of the group and its list of members decide. Many systems give each user a group of the same name, and
    create files that this group may write.
    """
    try:
        import grp
        import pwd

        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except (ImportError, KeyError):
        return False
    return (group.gr_gid, group.gr_name) == (user.pw_gid, user.pw_name) and set(group.gr_mem) <= {user.pw_name}


def check_trusted(path: str, *, directory: bool = False) -> os.stat_result:
    """Return the status of a path without opening it; raise Untrusted if refused."""
    status = os.lstat(path)
    _refuse(path, untrusted(status, directory=directory))
    return status


def is_trusted(path: str) -> bool:
    """Return whether a regular file exists and can be trusted; see `untrusted`."""
    try:
        check_trusted(path)
    except (Untrusted, FileNotFoundError):
        return False
    return True


def open_trusted(path: str, flags: int = os.O_RDONLY, *, directory: bool = False, dir_fd: int | None = None) -> int:
    """
    Open an existing file or directory that can be trusted; return its descriptor.

    A symbolic link as the last name of the path is not followed, and a FIFO does not block. The descriptor is not
    inherited by other programs.

    Args:
        path: what to open; relative to `dir_fd` if that is given.
        flags: flags of `os.open`, in addition to those for safety. Not O_CREAT: for a new file see `create_private`.
        directory: open a directory, and refuse a file.
        dir_fd: the descriptor of a directory.

    Raises:
        Untrusted: it can't be trusted; see `untrusted`.
        OSError: from the system.
    """
    return _open_checked(path, flags, untrusted, directory=directory, dir_fd=dir_fd)


def _open_checked(
    path: str, flags: int, refusal: Callable[..., str | None], *, directory: bool = False, dir_fd: int | None = None
) -> int:
    # First without opening: opening has effects on a device, and its error would not name another user's file.
    _refuse(path, refusal(os.stat(path, dir_fd=dir_fd, follow_symlinks=False), directory=directory))
    kind = getattr(os, "O_DIRECTORY", 0) if directory else 0
    file = os.open(path, flags | kind | _flags("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"), dir_fd=dir_fd)
    try:
        # It may have been replaced in between; without O_NOFOLLOW (Windows), even by a link.
        _refuse(path, refusal(os.fstat(file), directory=directory))
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
    """Return the absolute path, which no later change of directory affects."""
    return os.path.abspath(os.fspath(path))


def create_private(path: str) -> int:
    """
    Create a file private to its owner; return its descriptor, in binary mode.

    Raises:
        Untrusted: the file system ignores the owner or mode of new files, so that others may write to it. The file is
            removed.
        FileExistsError: the path exists; a symbolic link is not followed.
        OSError: from the system.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _flags("O_BINARY"), _PRIVATE_FILE)
    try:
        if (reason := untrusted(os.fstat(file))) is not None:
            os.unlink(path)
            _refuse(
                path, f"{reason}, although it was created as a private file: the file system keeps no owner or mode"
            )
    except BaseException:
        os.close(file)
        raise
    return file


def read(path: str, limit: int, *, trusted: bool = True) -> bytes:
    """
    Read a regular file, at most its first `limit` bytes.

    Args:
        path: the file.
        limit: the maximum number of bytes, since a file may be far larger than intended.
        trusted: refuse a file that another user may have created or changed. Otherwise everything but a regular file is
            refused.

    Raises:
        Untrusted: it is refused.
        OSError: from the system.
    """
    file = _open_checked(path, os.O_RDONLY, untrusted if trusted else _wrong_type)
    try:
        return read_open(file, limit)
    finally:
        os.close(file)


def is_all_zeros(path: str, limit: int) -> bool:
    """
    Return whether a regular file has zeros only, as a crash can leave it.

    A file of more than `limit` bytes has not: it is too large for one that was lost so.

    Raises:
        Untrusted: it is not a regular file.
        OSError: from the system.
    """
    file = _open_checked(path, os.O_RDONLY, _wrong_type)
    with open(file, "rb", buffering=0) as reader:  # noqa: PTH123  # a descriptor
        if os.fstat(file).st_size > limit:
            return False
        while piece := reader.read(1 << 20):
            if piece.strip(b"\0"):
                return False
    return True


def read_open(file: int, limit: int) -> bytes:
    """
    Read at most `limit` bytes of an open regular file, from its current position.

    Memory is allocated for the size of the file. A plain `os.read` allocates `limit` bytes, and so fails where
    little memory is available.
    """
    with open(file, "rb", closefd=False) as reader:
        return reader.read(min(limit, os.fstat(file).st_size))


def write(file: int, data: bytes | memoryview) -> None:
    """
    Write all of `data` to a file descriptor.

    Raises:
        OSError: from the system; part of the data may have been written.
    """
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[os.write(file, rest) :]


def replace(path: str, data: bytes, temporary: str) -> None:
    """
    Replace the content of a file atomically and durably.

    After any failure, the file has the old content or the new content, complete.

    Args:
        path: the file.
        data: its new content.
        temporary: an unused path in the same directory. It is unused afterwards, too, unless the process is killed.

    Raises:
        OSError: from the system. The file has the old content; or, if only the sync of the directory failed, the new
            content, which a power loss may undo.
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
    """Remove a file if it can be trusted. It is not an error if it does not exist."""
    if is_trusted(path):
        with suppress(FileNotFoundError):
            os.unlink(path)


def sync(file: int | FileIO) -> None:
    """Sync an open file to the medium, past the cache of the drive if possible."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        # On macOS fsync stops at the cache of the drive. Some file systems there do not support F_FULLFSYNC.
        with suppress(OSError):
            fcntl.fcntl(file, full)
            return
    os.fsync(file)


# --- directories -----------------------------------------------------------------------------------------------------


def sync_directory(directory: str | os.PathLike[str] | int) -> None:
    """
    Sync the names in a directory to the medium, where the system can do that.

    Args:
        directory: its path, or its descriptor.

    Raises:
        OSError: the sync failed; not where syncing a directory is not supported.
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


def make_directories(path: str, *, private: bool) -> None:
    """
    Create a directory and its missing parents; each new name is durable.

    Existing directories are not changed.

    Args:
        path: the directory.
        private: give each new directory mode 0700; otherwise the umask decides.

    Raises:
        OSError: as the system says; NotADirectoryError if there is something else than a directory.
    """
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent != path:
        make_directories(parent, private=private)
    try:
        os.mkdir(path, _PRIVATE_DIRECTORY if private else _ANY_DIRECTORY)
    except FileExistsError:
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, f"{path} is not a directory") from None
    # Also if another process has made it meanwhile: that one may not have synced it yet.
    sync_directory(parent)


def make_trusted_directory(path: str) -> None:
    """Create a private directory durably; raise Untrusted for one that is not."""
    with suppress(FileExistsError):
        os.mkdir(path, _PRIVATE_DIRECTORY)
        sync_directory(os.path.dirname(path))
    check_trusted(path, directory=True)


def check_directory(path: str) -> None:
    """
    Check that files can be created in a directory.

    Nothing is created, so the check is not exact.

    Raises:
        OSError: it is missing, is not a directory, or is not writable.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(errno.ENOENT, f"there is no directory {path}")
    if not os.path.isdir(path):
        raise NotADirectoryError(errno.ENOTDIR, f"{path} is not a directory")
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f"the directory {path} is not writable")
