"""
Open directories: what is done below one stays below it, whatever its path leads to by then.

A directory is opened once, and from then on its entries are reached through its descriptor, one name at a time, without
following a symbolic link. Another program that renames a directory, or puts a link in its place, can't lead a call
elsewhere.

Where the system can't do that (Windows), entries are reached by path. Links are refused there too, but one that is put
in place between two steps of a call is followed: only users who are trusted may have the right to change the directory.
"""

# One call of the system each, relative to a descriptor, which a Path can't do.
# ruff: noqa: PTH102, PTH208

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable
from io import FileIO
from types import TracebackType
from typing import Self, TypeVar

from partwise._durable import Untrusted, open_trusted, sync_directory, untrusted
from partwise._signals import ignored
from partwise.errors import AccessDenied

_T = TypeVar("_T")

#: Whether the system reaches entries through a directory's descriptor.
BY_DESCRIPTOR = (
    {os.open, os.mkdir, os.rename, os.unlink, os.rmdir, os.stat} <= os.supports_dir_fd
    and os.listdir in os.supports_fd
    and hasattr(os, "O_DIRECTORY")
    and hasattr(os, "O_NOFOLLOW")
)

_PRIVATE_FILE = 0o600
_PRIVATE_DIRECTORY = 0o700
_PERMISSIONS = 0o777

# What `open` answers, by system, where a link stands and none may be followed.
_LINK = {errno.ELOOP, errno.ENOTDIR, getattr(errno, "EMLINK", 0), getattr(errno, "EFTYPE", 0)}
# What `open` answers to a socket, a device without a driver, and, on Windows, a directory.
_NOTHING_TO_READ = {errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP, errno.EISDIR}
# What `chmod` answers on file systems that keep no permissions.
_NO_PERMISSIONS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
# How often a folder is made again that other processes remove, since it is empty, before it is used.
_TRIES_MAX = 100


class LinkInTheWay(OSError):
    """A symbolic link stands where a directory or a file was asked for."""


class NotAFile(OSError):
    """What stands there is not a regular file."""


class Directory:
    """
    An open directory. Every name is that of an entry directly in it; no method follows a link.

    Args:
        path: what it is called in messages, and, without a descriptor, where it is.
        descriptor: it is closed with this.
    """

    def __init__(self, path: str, descriptor: int | None) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def open(cls, path: str) -> Directory:
        """
        Open a directory by its path; only the last name must not be a link.

        Raises:
            OSError: there is none.
        """
        if not BY_DESCRIPTOR:
            _refuse_what_is_no_directory(path, os.lstat(path))
            return cls(path, None)
        return cls(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW))

    def __repr__(self) -> str:
        return f"<Directory {self.path}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it. Closing twice is fine."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    # Whatever interrupts a call between opening and its `with`, no descriptor is left open.
    __del__ = close

    # --- directories below -------------------------------------------------------------------------------------------

    def again(self) -> Directory:
        """The same directory, open a second time."""
        return Directory(self.path, None if self._descriptor is None else os.dup(self._descriptor))

    def enter(self, name: str) -> Directory:
        """
        Open a directory in it.

        Raises:
            FileNotFoundError: there is no such entry.
            LinkInTheWay: it is a symbolic link.
            NotADirectoryError: it is something else.
        """
        path = self.path_of(name)
        if self._descriptor is None:
            _refuse_what_is_no_directory(path, os.lstat(path))
            return Directory(path, None)
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self._descriptor)
        except OSError as error:
            if error.errno in _LINK:
                found = self.status(name)
                if found is not None:
                    _refuse_what_is_no_directory(path, found)
                    # It is a directory by now, so that the next attempt finds it.
                    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path) from error
            raise OSError(error.errno, error.strerror, path) from error
        return Directory(path, descriptor)

    def enter_own(self, name: str) -> Directory:
        """
        Open a directory that is this user's alone, such as those of the bookkeeping.

        Raises:
            FileNotFoundError: there is no such entry.
            AccessDenied: it is a link, or not a directory, or others may write to it. Nothing in it was touched.
        """
        path = self.path_of(name)
        if self._descriptor is None:
            self.refuse_foreign(name, os.lstat(path))
            return Directory(path, None)
        try:
            return Directory(path, open_trusted(name, directory=True, dir_fd=self._descriptor))
        except Untrusted as error:
            raise _not_ours(path, str(error.strerror)) from error
        except OSError as error:
            status = self.status(name) if error.errno == errno.EACCES else None
            if status is not None and status.st_uid != os.geteuid():  # root's
                raise _not_ours(
                    path, f"belongs to another user (uid {status.st_uid}), who alone may enter it"
                ) from error
            raise OSError(error.errno, error.strerror, path) from error

    def refuse_foreign(self, name: str, status: os.stat_result) -> None:
        """
        Make sure that an entry is a directory of this user (or of root) that others can't write to.

        Raises:
            AccessDenied: it is not.
        """
        reason = "is a junction" if _is_junction(status) else untrusted(status, directory=True)
        if reason is not None:
            raise _not_ours(self.path_of(name), reason)

    def make(self, name: str, *, private: bool = False) -> bool:
        """Make a directory in it, for this user alone if `private`; False if there is an entry of that name."""
        try:
            os.mkdir(self._place(name), _PRIVATE_DIRECTORY if private else _PERMISSIONS, dir_fd=self._descriptor)
        except FileExistsError:
            return False
        return True

    def make_private(self) -> None:
        """Take from others what an earlier version let them see."""
        if self._descriptor is not None and self._status().st_mode & (_PERMISSIONS & ~_PRIVATE_DIRECTORY):
            with _where_permissions_are_kept():
                os.fchmod(self._descriptor, _PRIVATE_DIRECTORY)

    def sync(self) -> None:
        """Bring the names in it to the disk, where the system can: Windows has no such thing."""
        sync_directory(self.path if self._descriptor is None else self._descriptor)

    # --- entries -----------------------------------------------------------------------------------------------------

    def path_of(self, name: str) -> str:
        """What an entry is called in messages."""
        return os.path.join(self.path, name)  # noqa: PTH118

    def status(self, name: str) -> os.stat_result | None:
        """What an entry is, a link as such; None without one."""
        try:
            return os.stat(self._place(name), dir_fd=self._descriptor, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def check_writable(self, name: str | None = None) -> None:
        """
        Make sure that entries can be made in it, as far as that shows without making one.

        Args:
            name: an entry that is to be replaced, if there is one.

        Raises:
            PermissionError: they can't.
        """
        if self._descriptor is None or os.access not in os.supports_dir_fd:
            return  # then the write itself fails
        effective = os.access in os.supports_effective_ids
        if not os.access(os.curdir, os.W_OK | os.X_OK, dir_fd=self._descriptor, effective_ids=effective):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), self.path)
        own = self._status()
        if name is not None and own.st_mode & stat.S_ISVTX and os.geteuid() not in (0, own.st_uid):
            found = self.status(name)
            if found is not None and found.st_uid != os.geteuid():
                reason = "the directory is sticky, so that only the owner of a file may replace it"
                raise PermissionError(errno.EPERM, reason, self.path_of(name))

    def names(self) -> list[str]:
        """The names of all entries, sorted."""
        return sorted(os.listdir(self.path if self._descriptor is None else self._descriptor))

    def create(self, name: str, permissions: int = _PRIVATE_FILE) -> tuple[FileIO, int]:
        """
        Make a file, open for reading and writing, which is for this user alone.

        Args:
            name: there must be no such entry.
            permissions: what it shall have in the end.

        Returns:
            The file, and those of the permissions that this process's umask grants.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        file = FileIO(os.open(self._place(name), flags, permissions, dir_fd=self._descriptor), "r+")
        if self._descriptor is None:
            return file, permissions
        try:
            granted = os.fstat(file.fileno()).st_mode & _PERMISSIONS
            if granted != _PRIVATE_FILE:
                change_permissions(file, _PRIVATE_FILE)
        except BaseException:
            file.close()
            self.discard(name)
            raise
        return file, granted

    def open_file(self, name: str) -> FileIO:
        """
        Open a regular file for reading. Nothing else is opened: a named pipe would be waited for without end.

        Raises:
            FileNotFoundError: there is no such entry.
            LinkInTheWay: it is a symbolic link.
            NotAFile: it is something else.
        """
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
        path = self.path_of(name)
        try:
            descriptor = os.open(self._place(name), flags, dir_fd=self._descriptor)
        except OSError as error:
            kind: type[OSError] = OSError
            if error.errno in _LINK:
                kind = LinkInTheWay
            elif error.errno in _NOTHING_TO_READ:
                kind = NotAFile
            raise kind(error.errno, error.strerror, path) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise NotAFile(errno.EINVAL, "not a regular file", path)
        return FileIO(descriptor, "r")

    def open_own_file(self, name: str) -> FileIO:
        """
        Open a regular file of this user (or of root) that others can't write to, for reading.

        Raises:
            FileNotFoundError: there is no such entry.
            Untrusted: it is something else, or of another user, or others may write to it.
        """
        return FileIO(open_trusted(self._place(name), dir_fd=self._descriptor), "r")

    def unlink(self, name: str) -> None:
        """Remove a file."""
        os.unlink(self._place(name), dir_fd=self._descriptor)

    def discard(self, name: str) -> None:
        """Remove a file, if that can be done."""
        with ignored(OSError):
            self.unlink(name)

    def remove_empty(self, name: str) -> None:
        """Remove a directory, if nothing is in it."""
        with ignored(OSError):
            os.rmdir(self._place(name), dir_fd=self._descriptor)

    def move(self, name: str, directory: Directory, new: str) -> None:
        """Move an entry to a directory, under a name that nothing has, or only a file where a file is moved."""
        os.rename(
            self._place(name), directory._place(new), src_dir_fd=self._descriptor, dst_dir_fd=directory._descriptor
        )

    def replace(self, name: str, directory: Directory, new: str) -> None:
        """Move a file to a directory, in place of the one that has that name there."""
        os.replace(
            self._place(name), directory._place(new), src_dir_fd=self._descriptor, dst_dir_fd=directory._descriptor
        )

    def link(self, name: str, directory: Directory, new: str) -> None:
        """
        Give a file a second name.

        Raises:
            OSError: the name is taken, or this can't be done here.
        """
        link = getattr(os, "link", None)
        if link is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        if self._descriptor is None:
            link(self._place(name), directory._place(new))
        else:
            link(name, new, src_dir_fd=self._descriptor, dst_dir_fd=directory._descriptor)

    # --- itself ------------------------------------------------------------------------------------------------------

    def is_same(self, status: os.stat_result) -> bool:
        """Whether this is the directory that an entry was found to be."""
        own = self._status()
        return (own.st_dev, own.st_ino) == (status.st_dev, status.st_ino)

    def modified(self) -> float:
        """When an entry was last made or removed, in seconds since 1970."""
        return self._status().st_mtime

    # --- inside ------------------------------------------------------------------------------------------------------

    def _place(self, name: str) -> str:
        return self.path_of(name) if self._descriptor is None else name

    def _status(self) -> os.stat_result:
        return os.lstat(self.path) if self._descriptor is None else os.fstat(self._descriptor)


def make_directories(path: str) -> None:
    """Make a directory, and those above it, where they are missing; each new name is durable."""
    if os.path.isdir(path):  # noqa: PTH112
        return
    parent = os.path.dirname(path)  # noqa: PTH120
    make_directories(parent)
    try:
        os.mkdir(path)
    except FileExistsError:
        if not os.path.isdir(path):  # noqa: PTH112
            raise
    else:
        sync_directory(parent)


def change_permissions(file: FileIO, permissions: int) -> None:
    """Give an open file these permissions, where the file system keeps them."""
    if BY_DESCRIPTOR:
        with _where_permissions_are_kept():
            os.fchmod(file.fileno(), permissions)


def walk(root: Directory, names: Iterable[str], *, make: bool = False) -> Directory:
    """
    Open the directory at the end of a path.

    Args:
        root: where the path begins.
        names: those on the way.
        make: make what is missing, each new name durable.

    Raises:
        FileNotFoundError: one is missing.
        LinkInTheWay: one is a symbolic link.
        NotADirectoryError: one is something else.
    """

    def step(here: Directory, name: str) -> Directory:
        try:
            return here.enter(name)
        except FileNotFoundError:
            if not make:
                raise
        if here.make(name):
            here.sync()
        return here.enter(name)

    return _steps(root, names, step)


def walk_own(root: Directory, names: Iterable[str], *, make: bool = False) -> Directory:
    """
    Open a directory of the bookkeeping.

    Args:
        root: the bucket's directory.
        names: those on the way; each must be a directory of this user alone.
        make: make what is missing. That is not durable yet.

    Raises:
        FileNotFoundError: one is missing; with `make`, another process removed one meanwhile.
        AccessDenied: one is a link, or others may write to it.
    """

    def step(here: Directory, name: str) -> Directory:
        try:
            found = here.enter_own(name)
        except FileNotFoundError:
            if not make:
                raise
            here.make(name, private=True)
            return here.enter_own(name)
        if make:
            found.make_private()
        return found

    return _steps(root, names, step)


def within(root: Directory, names: Iterable[str], action: Callable[[Directory], _T]) -> tuple[Directory, _T]:
    """
    Do something in a directory of the bookkeeping, which is made where it is missing.

    Every write removes empty ones, in other processes too, so that this may have to be done again: `action` must have
    no effect where it raises FileNotFoundError.

    Returns:
        The directory, which the caller closes, and what the action returned.
    """
    names = tuple(names)
    tries = 0
    while True:
        tries += 1
        try:
            directory = walk_own(root, names, make=True)
            try:
                return directory, action(directory)
            except BaseException:
                directory.close()
                raise
        except FileNotFoundError:
            if tries == _TRIES_MAX:
                raise


def _steps(root: Directory, names: Iterable[str], step: Callable[[Directory, str], Directory]) -> Directory:
    here = root.again()
    for name in names:
        with here:
            here = step(here, name)
    return here


def _refuse_what_is_no_directory(path: str, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode) or _is_junction(status):
        raise LinkInTheWay(errno.ELOOP, "a symbolic link", path)
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)


def _is_junction(status: os.stat_result) -> bool:
    """Whether this is what Windows has beside symbolic links."""
    tag = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", None)
    return tag is not None and getattr(status, "st_reparse_tag", 0) == tag


def _not_ours(path: str, reason: str) -> AccessDenied:
    advice = "Find out what it is, and have it removed"
    # Only for a directory of this user: of a link `chmod` would change what it leads to.
    if reason.startswith("can be written"):
        advice = f"If all in it is yours, run: chmod go-w {path}"
    elif reason.startswith("belongs to another user"):
        advice = (
            "While that user has unfinished uploads here, or objects that were stored with options, it is in use;"
            " otherwise have it removed"
        )
    return AccessDenied(
        f"{path} {reason}. partwise keeps its own files there, and uses it only if it is a real directory of this user"
        f" (or root) that no other user may write to. Nothing was changed. {advice}; or store into a directory of your"
        " own",
        code="UntrustedDirectory",
    )


def _where_permissions_are_kept() -> contextlib.AbstractContextManager[None]:
    return _Tolerating(_NO_PERMISSIONS)


class _Tolerating(contextlib.AbstractContextManager[None]):
    def __init__(self, numbers: set[int]) -> None:
        self._numbers = numbers

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return isinstance(error, OSError) and error.errno in self._numbers
