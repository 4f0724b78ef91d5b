"""
Open directories, whose entries are reached through the directory's descriptor.

A directory is opened once. From then on its entries are reached through its descriptor, one name at a time, without
following a symbolic link. So if another program renames a directory, or puts a link in its place, the call still works
in the directory that was opened.

Where the system can't do that (Windows), entries are reached by path. Links are refused there too, but one that is
created between two steps of a call is followed: only trusted users may have permission to change the directory.
"""

# Most lines are one system call relative to a descriptor, which pathlib does not offer.
# ruff: noqa: PTH208

from __future__ import annotations

import contextlib
import errno
import os
import stat
from io import FileIO

from partwise._closing import Closing
from partwise._durable import Untrusted, open_trusted, sync_directory, untrusted
from partwise._signals import ignored
from partwise.errors import AccessDenied

#: Whether the system can reach entries through a directory's descriptor.
BY_DESCRIPTOR = (
    {os.open, os.mkdir, os.rename, os.unlink, os.rmdir, os.stat} <= os.supports_dir_fd
    and os.listdir in os.supports_fd
    and hasattr(os, "O_DIRECTORY")
    and hasattr(os, "O_NOFOLLOW")
)

_PRIVATE_FILE = 0o600
_PRIVATE_DIRECTORY = 0o700
_PERMISSIONS = 0o777

# Errors of `open`, depending on the system, for a symbolic link that must not be followed.
_LINK = {errno.ELOOP, errno.ENOTDIR, getattr(errno, "EMLINK", 0), getattr(errno, "EFTYPE", 0)}
# Errors of `open` for a socket, a device without a driver, and, on Windows, a directory.
_NOTHING_TO_READ = {errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP, errno.EISDIR}
# Errors of `chmod` on file systems that store no permissions.
_NO_PERMISSIONS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}


class SymbolicLink(OSError):
    """There is a symbolic link where a directory or a file is required."""


class NotARegularFile(OSError):
    """The entry is not a regular file."""


class Directory(Closing):
    """
    An open directory. Each `name` is an entry directly in it.

    No method follows a symbolic link.

    Args:
        path: its path, for messages, and for system calls if there is no descriptor.
        descriptor: its descriptor, which is closed with this object.
    """

    def __init__(self, path: str, descriptor: int | None) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def open(cls, path: str) -> Directory:
        """
        Open a directory by its path.

        The last segment must not be a symbolic link; the others may be.

        Raises:
            OSError: there is no such directory.
        """
        if not BY_DESCRIPTOR:
            _require_directory(path, os.lstat(path))
            return cls(path, None)
        return cls(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW))

    def __repr__(self) -> str:
        return f"<Directory {self.path}>"

    def close(self) -> None:
        """Close the descriptor. Closing twice is fine."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    # An interrupt between opening and entering `with` must not leak the descriptor.
    __del__ = close

    # --- subdirectories ----------------------------------------------------------------------------------------------

    def duplicate(self) -> Directory:
        """Return the same directory with a descriptor that is closed separately."""
        return Directory(self.path, None if self._descriptor is None else os.dup(self._descriptor))

    def enter(self, name: str) -> Directory:
        """
        Open a subdirectory.

        Raises:
            FileNotFoundError: there is no such entry.
            SymbolicLink: it is a symbolic link.
            NotADirectoryError: it is not a directory.
        """
        path = self.path_of(name)
        if self._descriptor is None:
            _require_directory(path, os.lstat(path))
            return Directory(path, None)
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self._descriptor)
        except OSError as error:
            if error.errno in _LINK:
                found = self.status(name)
                if found is not None:
                    _require_directory(path, found)
                    # It has become a directory since, so the next attempt can open it.
                    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path) from error
            raise OSError(error.errno, error.strerror, path) from error
        return Directory(path, descriptor)

    def enter_trusted(self, name: str) -> Directory:
        """
        Open a subdirectory that no other user can have changed.

        Raises:
            FileNotFoundError: there is no such entry.
            AccessDenied: it is not trusted; see `require_trusted`. Nothing in it was changed.
        """
        path = self.path_of(name)
        if self._descriptor is None:
            self.require_trusted(name, os.lstat(path))
            return Directory(path, None)
        try:
            return Directory(path, open_trusted(name, directory=True, dir_fd=self._descriptor))
        except Untrusted as error:
            raise _untrusted_error(path, str(error.strerror)) from error
        except OSError as error:
            status = self.status(name) if error.errno == errno.EACCES else None
            if status is not None and status.st_uid != os.geteuid():  # root's
                raise _untrusted_error(
                    path, f"belongs to another user (uid {status.st_uid}), and no other user may enter it"
                ) from error
            raise OSError(error.errno, error.strerror, path) from error

    def require_trusted(self, name: str, status: os.stat_result) -> None:
        """
        Check that an entry is a directory that no other user can have changed.

        It must belong to this user or to root, and other users must not be able to write to it.

        Raises:
            AccessDenied: it is a symbolic link, not a directory, of another user, or writable by others.
        """
        reason = "is a junction" if _is_junction(status) else untrusted(status, directory=True)
        if reason is not None:
            raise _untrusted_error(self.path_of(name), reason)

    def make(self, name: str, *, private: bool = False) -> None:
        """Create a subdirectory, with mode 0700 if `private`, unless the name exists."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._operand(name), _PRIVATE_DIRECTORY if private else _PERMISSIONS, dir_fd=self._descriptor)

    def make_private(self) -> None:
        """Remove the permissions of other users, which earlier versions granted."""
        if self._descriptor is not None and self._status().st_mode & (_PERMISSIONS & ~_PRIVATE_DIRECTORY):
            with _ignoring_unsupported_chmod():
                os.fchmod(self._descriptor, _PRIVATE_DIRECTORY)

    def sync(self) -> None:
        """Make the names in it durable, where the system can do that: Windows can't."""
        sync_directory(self.path if self._descriptor is None else self._descriptor)

    # --- entries -----------------------------------------------------------------------------------------------------

    def path_of(self, name: str) -> str:
        """Return the path of an entry, for messages."""
        return os.path.join(self.path, name)  # noqa: PTH118

    def status(self, name: str) -> os.stat_result | None:
        """Return the status of an entry (of a link itself); None if there is none."""
        try:
            return os.stat(self._operand(name), dir_fd=self._descriptor, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def check_writable(self, name: str | None = None) -> None:
        """
        Check that entries can be created in it, and that `name` can be replaced.

        Raises:
            PermissionError: entries can't be created, or this one can't be replaced.
        """
        if self._descriptor is None or os.access not in os.supports_dir_fd:
            return  # the write itself will fail
        effective = os.access in os.supports_effective_ids
        if not os.access(os.curdir, os.W_OK | os.X_OK, dir_fd=self._descriptor, effective_ids=effective):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), self.path)
        own = self._status()
        if name is not None and own.st_mode & stat.S_ISVTX and os.geteuid() not in (0, own.st_uid):
            found = self.status(name)
            if found is not None and found.st_uid != os.geteuid():
                reason = "the directory is sticky, so only the owner of a file may replace it"
                raise PermissionError(errno.EPERM, reason, self.path_of(name))

    def names(self) -> list[str]:
        """Return the names of all entries, sorted."""
        return sorted(os.listdir(self.path if self._descriptor is None else self._descriptor))

    def create(self, name: str, permissions: int = _PRIVATE_FILE) -> tuple[FileIO, int]:
        """
        Create a file with mode 0600, open for reading and writing.

        Args:
            name: its name. There must be no such entry.
            permissions: the permissions that the file should have when it is finished.

        Returns:
            The file, and `permissions` reduced by the umask of this process.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        file = FileIO(os.open(self._operand(name), flags, permissions, dir_fd=self._descriptor), "r+")
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
        Open a regular file for reading.

        The call never blocks, as opening a named pipe would.

        Raises:
            FileNotFoundError: there is no such entry.
            SymbolicLink: it is a symbolic link.
            NotARegularFile: it is not a regular file.
        """
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
        path = self.path_of(name)
        try:
            descriptor = os.open(self._operand(name), flags, dir_fd=self._descriptor)
        except OSError as error:
            kind: type[OSError] = OSError
            if error.errno in _LINK:
                kind = SymbolicLink
            elif error.errno in _NOTHING_TO_READ:
                kind = NotARegularFile
            raise kind(error.errno, error.strerror, path) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise NotARegularFile(errno.EINVAL, "it is not a regular file", path)
        return FileIO(descriptor, "r")

    def open_trusted_file(self, name: str) -> FileIO:
        """
        Open a regular file for reading that no other user can have changed.

        Raises:
            FileNotFoundError: there is no such entry.
            Untrusted: it is not a regular file, belongs to another user, or is writable by others.
        """
        return FileIO(open_trusted(self._operand(name), dir_fd=self._descriptor), "r")

    def unlink(self, name: str) -> None:
        """Remove a file."""
        os.unlink(self._operand(name), dir_fd=self._descriptor)

    def discard(self, name: str, file: FileIO | None = None) -> None:
        """Remove a file, ignoring errors; close it first if it is given."""
        if file is not None:
            with ignored(OSError):  # NFS reports failures of earlier writes here
                file.close()
        with ignored(OSError):
            self.unlink(name)

    def remove_empty(self, name: str) -> None:
        """Remove a subdirectory if it is empty, ignoring errors."""
        with ignored(OSError):
            os.rmdir(self._operand(name), dir_fd=self._descriptor)

    def move(self, name: str, directory: Directory, new: str) -> None:
        """Rename an entry to an unused name in a directory; a file may replace a file."""
        os.rename(
            self._operand(name), directory._operand(new), src_dir_fd=self._descriptor, dst_dir_fd=directory._descriptor
        )

    def replace(self, name: str, directory: Directory, new: str) -> None:
        """Rename a file into a directory, replacing any file of the new name."""
        os.replace(
            self._operand(name), directory._operand(new), src_dir_fd=self._descriptor, dst_dir_fd=directory._descriptor
        )

    def link(self, name: str, directory: Directory, new: str) -> None:
        """Create a hard link; raise OSError if it exists or hard links are missing."""
        link = getattr(os, "link", None)
        if link is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        if self._descriptor is None:
            link(self._operand(name), directory._operand(new))
        else:
            link(name, new, src_dir_fd=self._descriptor, dst_dir_fd=directory._descriptor)

    # --- itself ------------------------------------------------------------------------------------------------------

    def is_same(self, status: os.stat_result) -> bool:
        """Return whether this is the directory that `status` describes."""
        own = self._status()
        return (own.st_dev, own.st_ino) == (status.st_dev, status.st_ino)

    def shares_file_system(self, other: Directory) -> bool:
        """Return whether entries can be renamed between both directories."""
        return self._status().st_dev == other._status().st_dev

    def modified(self) -> float:
        """Return when an entry was last created or removed, in seconds since 1970."""
        return self._status().st_mtime

    # --- inside ------------------------------------------------------------------------------------------------------

    def _operand(self, name: str) -> str:
        """Return the path of an entry for a system call that also gets `dir_fd`."""
        return self.path_of(name) if self._descriptor is None else name

    def _status(self) -> os.stat_result:
        return os.lstat(self.path) if self._descriptor is None else os.fstat(self._descriptor)


def change_permissions(file: FileIO, permissions: int) -> None:
    """Set the permissions of an open file, where the file system stores permissions."""
    if BY_DESCRIPTOR:
        with _ignoring_unsupported_chmod():
            os.fchmod(file.fileno(), permissions)


# --- checks ----------------------------------------------------------------------------------------------------------


def _require_directory(path: str, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode) or _is_junction(status):
        raise SymbolicLink(errno.ELOOP, "it is a symbolic link", path)
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)


def _is_junction(status: os.stat_result) -> bool:
    """Return whether this is a junction: a link to a directory on Windows."""
    tag = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", None)
    return tag is not None and getattr(status, "st_reparse_tag", 0) == tag


def _untrusted_error(path: str, reason: str) -> AccessDenied:
    hint = "Find out what it is and have it removed"
    # Only for a directory of this user: `chmod` of a symbolic link would change the target of the link.
    if reason.startswith("can be written"):
        hint = "If everything in it is yours, run chmod go-w on it"
    elif reason.startswith("belongs to another user"):
        hint = (
            "It is in use while that user has unfinished uploads here, or objects that were stored with options;"
            " otherwise have it removed"
        )
    return AccessDenied(
        f"{path} {reason}. partwise stores its own files there, and uses it only if it is a real directory of this user"
        " or root that no other user may write to. Nothing was changed",
        code="UntrustedDirectory",
        hint=f"{hint}; or store objects in a directory that only you use",
    )


class _ignoring_unsupported_chmod(contextlib.AbstractContextManager[None]):  # noqa: N801
    """Ignore errors of `chmod` on file systems that store no permissions."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, OSError) and error.errno in _NO_PERMISSIONS
