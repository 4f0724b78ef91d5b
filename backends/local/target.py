"""Check that an object can be stored under a key, and publish it there."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from attrs import define

from partwise._durable import sync
from partwise._signals import ignored
from partwise.backends.local.directories import Directory, change_permissions
from partwise.backends.local.errors import translate_os_errors
from partwise.backends.local.files import rename_noreplace
from partwise.backends.local.lookup import find_object, open_lowest_parent, open_parent, segments_of
from partwise.backends.local.sidecars import ObjectMetadata, Sidecars
from partwise.errors import AccessDenied, BackendError, InvalidInput, ObjectExists

#: Read, write and execute for owner, group and others. The other bits (setuid, setgid, sticky) are never copied.
PERMISSIONS_MASK = 0o777

_OBJECT_STORED = "the object is stored, whole, but a power loss may still undo that: store it again"


@define(frozen=True)
class SourceFile:
    """The file that an object is made from."""

    device: int
    inode: int
    permissions: int

    def is_described_by(self, status: os.stat_result) -> bool:
        """Return whether `status` is the status of this file."""
        return bool(self.inode) and (self.device, self.inode) == (status.st_dev, status.st_ino)


@define(frozen=True)
class StagedFile:
    """A complete file that will become an object."""

    directory: Directory  # where it is
    name: str  # its path from there
    file: FileIO
    permissions: int  # the permissions of a new object

    def finish(self, permissions: int) -> os.stat_result:
        """
        Set the permissions, sync and close the file, and return its status.

        Raises:
            FileNotFoundError: the file was removed meanwhile, with the upload that it belongs to.
        """
        change_permissions(self.file, permissions)
        sync(self.file)
        self.file.close()
        version = self.directory.status(self.name)
        if version is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.directory.path_of(self.name))
        return version


@define(frozen=True)
class Target:
    """A key in an open bucket, under which an object will be stored."""

    root: Directory  # the bucket's directory, open
    key: str
    location: str  # the bucket, for messages
    forbid_overwrite: bool  # refuse to replace an object
    source: SourceFile | None  # the file that the object is made from, if it is made from one

    def check(self) -> None:
        """
        Check that an object can be stored here, before anything is written.

        Raises:
            ObjectExists: there is an object, and overwriting is forbidden.
            InvalidKey: a symbolic link leads out of the bucket.
            InvalidInput: the object would replace its own source.
            BackendError: there is an entry that is not a regular file, or an object in place of a directory; or the
                directory is on another file system than the bucket.
            OSError: the directory is not writable, or the path is too long.
        """
        # Through descriptors a path could become longer than other programs can open.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(os.path.join(self.root.path, *segments_of(self.key)))  # noqa: PTH118
        try:
            parent, name = open_parent(self.root, self.key)
        except FileNotFoundError:
            with open_lowest_parent(self.root, self.key) as parent:
                self._require_same_file_system(parent)
                parent.check_writable()
            return
        except NotADirectoryError as error:
            raise self._parent_is_an_object(error) from error
        with parent:
            exists, _ = self._existing(parent, name)
            if exists and self.forbid_overwrite:
                raise self._object_exists()
            self._require_same_file_system(parent)
            parent.check_writable(name)

    def publish(
        self,
        staged: StagedFile,
        metadata: ObjectMetadata,
        *,
        cutoff: float,
        mark_committing: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Turn a complete file into the object, durably.

        Args:
            staged: the file.
            metadata: the object's checksum and options.
            cutoff: seconds since 1970; older metadata of the key, which crashes left, is removed.
            mark_committing: called when everything is ready for the rename.

        Raises:
            FileNotFoundError: the staged file was removed meanwhile, with the upload that it belongs to.
            and the errors of `check`.
        """
        try:
            parent, name = open_parent(self.root, self.key, make=True)
        except NotADirectoryError as error:
            raise self._parent_is_an_object(error) from error
        with parent:
            _, replaced = self._existing(parent, name)
            permissions = staged.permissions if replaced is None else replaced.st_mode & PERMISSIONS_MASK
            version = staged.finish(permissions)
            if metadata.needs_record:
                Sidecars(self.root).write(self.key, version, metadata)
            mark_committing()
            self._rename(staged, parent, name)
            doing = f"syncing the directory of {self.key!r}"
            with translate_os_errors(doing, Path(self.root.path), kept=_OBJECT_STORED):
                parent.sync()
        with ignored(OSError, AccessDenied):
            Sidecars(self.root).clean_up(self.key, version, replaced, cutoff)

    def _rename(self, staged: StagedFile, parent: Directory, name: str) -> None:
        if not self.forbid_overwrite:
            staged.directory.replace(staged.name, parent, name)
            return
        try:
            rename_noreplace(staged.directory, staged.name, parent, name)
        except FileExistsError as error:
            raise self._object_exists() from error

    def _require_same_file_system(self, parent: Directory) -> None:
        # Otherwise the rename would fail, after all parts were sent.
        if not parent.shares_file_system(self.root):
            raise BackendError(
                f"{self.key!r} can't be stored in {self.root.path}: {parent.path} is on another file system. Nothing"
                " was changed",
                code="EXDEV",
                hint="Use the directory on that file system as the bucket, or choose another key",
            )

    def _existing(self, parent: Directory, name: str) -> tuple[bool, os.stat_result | None]:
        """
        Return whether there is an entry, and the status of its file.

        For a symbolic link that is the status of its target.

        Raises:
            InvalidKey: it is a symbolic link that leads out of the bucket.
            InvalidInput: it is the source of the upload.
            BackendError: it is not a regular file.
        """
        found = parent.status(name)
        if found is None:
            return False, None
        if stat.S_ISLNK(found.st_mode):
            # The link itself would be replaced, but its target decides whether that is allowed.
            try:
                directory, _, found = find_object(self.root, self.key)
                directory.close()
            except (FileNotFoundError, NotADirectoryError):
                found = None
            if found is None:
                return True, None
        if self.source is not None and self.source.is_described_by(found):
            raise InvalidInput(
                f"{self.key!r} in {self.root.path} is the source file of the upload, by this or another name. Nothing"
                " was changed",
                hint="Choose another key",
            )
        if not stat.S_ISREG(found.st_mode):
            raise self._not_replaceable(found)
        return True, found

    # --- errors ------------------------------------------------------------------------------------------------------

    def _object_exists(self) -> ObjectExists:
        return ObjectExists(f"{self.location} has an object {self.key!r} already, and overwriting is forbidden")

    def _not_replaceable(self, status: os.stat_result) -> BackendError:
        if stat.S_ISDIR(status.st_mode):
            return BackendError(
                f"{self.key!r} can't be stored in {self.root.path}: there is a directory of that name",
                code="EISDIR",
                hint="Choose another key",
            )
        return BackendError(
            f"{self.key!r} can't be stored in {self.root.path}: there is {_kind_of(status)} of that name, which is not"
            " replaced by an object. Nothing was changed",
            code="EEXIST",
            hint="Remove it, or choose another key",
        )

    def _parent_is_an_object(self, error: NotADirectoryError) -> BackendError:
        path = Path(os.path.relpath(str(error.filename), self.root.path)).as_posix()
        return BackendError(
            f"{self.key!r} can't be stored in {self.root.path}: {path!r} is an object, so it can't be a directory as"
            " well",
            code="ENOTDIR",
            hint="Choose another key",
        )


def _kind_of(status: os.stat_result) -> str:
    kinds = [
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    ]
    return next((words for is_kind, words in kinds if is_kind(status.st_mode)), "an entry that is not a file")
