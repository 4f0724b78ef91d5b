"""
The metadata directory ``.partwise``.

Create and end uploads in it, remove what crashes left, and remove it when it is empty.

Only what partwise created is ever removed: entries with names that it generates, in directories that no other user can
write to, reached through descriptors. Every other entry is kept, and so is the target of any link.

A directory in it is created by the call that needs it, and removed by any write that finds it empty. `rmdir` fails on a
directory that is not empty, so one in use is never removed. If one is removed between its creation and its first entry,
the call creates it again (`make_and_use`).
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator

from partwise._signals import ignored
from partwise.backends.local.directories import Directory
from partwise.backends.local.files import UNIQUE_NAME, unique_name
from partwise.backends.local.keys import META_DIR
from partwise.backends.local.upload_folder import UploadFolder, UploadRecord, remove_upload_folder
from partwise.backends.local.walk import make_and_use, walk_trusted
from partwise.errors import AccessDenied

TEMP = (META_DIR, "temp")
_UPLOADS = (META_DIR, "uploads")
_TRASH = (META_DIR, "trash")
_NAMES = ("objects", "temp", "trash", "uploads")

UPLOAD_ID = re.compile(r"[0-9A-Za-z_-]{1,128}")
_UNIQUE_NAME = re.compile(UNIQUE_NAME)


def check_metadata_dir(root: Directory) -> None:
    """Raise AccessDenied unless every directory in the metadata directory is trusted."""
    with contextlib.suppress(FileNotFoundError), root.enter_trusted(META_DIR) as folder:
        for name in _NAMES:
            status = folder.status(name)
            if status is not None:
                folder.require_trusted(name, status)


def remove_empty_directories(root: Directory) -> None:
    """Remove the metadata directory and its directories if empty, ignoring errors."""
    with _ignoring_errors():
        with root.enter_trusted(META_DIR) as folder:
            for name in _NAMES:
                folder.remove_empty(name)
        root.remove_empty(META_DIR)


# --- uploads ---------------------------------------------------------------------------------------------------------


def create_upload(root: Directory, upload_id: str, record: UploadRecord) -> None:
    """Create an upload, atomically and durably."""
    temp, name = make_and_use(root, TEMP, lambda temp: UploadFolder.create(temp, record))
    with temp:
        try:
            uploads, _ = make_and_use(root, _UPLOADS, lambda uploads: temp.move(name, uploads, upload_id))
        except BaseException:
            remove_upload_folder(temp, name)
            raise
    with uploads:
        uploads.sync()
    # Another process may have created the directories above, and not have synced them yet.
    for path in (_UPLOADS[:1], ()):
        with walk_trusted(root, path) as directory:
            directory.sync()


def open_upload(root: Directory, upload_id: str) -> UploadFolder:
    """
    Open the folder of an upload.

    Raises:
        FileNotFoundError: there is no such upload.
        AccessDenied: its folder is not trusted; see `Directory.require_trusted`.
    """
    uploads = walk_trusted(root, _UPLOADS)
    try:
        return UploadFolder(uploads, upload_id)
    except BaseException:
        uploads.close()
        raise


def open_uploads(root: Directory) -> Iterator[UploadFolder]:
    """
    Open the folder of each upload in turn, also of those that have ended.

    It is closed when the next one is opened.

    Raises:
        AccessDenied: a folder is not trusted; see `Directory.require_trusted`.
    """
    for name, status in _entries(root, _UPLOADS):
        if UPLOAD_ID.fullmatch(name) and (stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode)):
            with contextlib.suppress(FileNotFoundError), open_upload(root, name) as folder:
                yield folder


def drop_upload(root: Directory, upload_id: str) -> None:
    """End an upload atomically, if it exists, then remove its files."""
    name = unique_name()
    with contextlib.suppress(FileNotFoundError), walk_trusted(root, _UPLOADS) as uploads:

        def move(trash: Directory) -> bool:
            exists = uploads.status(upload_id) is not None
            if exists:
                uploads.move(upload_id, trash, name)
            return exists

        try:
            trash, moved = make_and_use(root, _TRASH, move)
        except PermissionError:
            # Windows does not rename a folder that contains an open file. Deleting the record ends the upload as well.
            with open_upload(root, upload_id) as folder:
                folder.delete_record()
            remove_upload_folder(uploads, upload_id)
            return
        with trash:
            if moved:
                remove_upload_folder(trash, name)


# --- what crashes leave ----------------------------------------------------------------------------------------------


def empty_trash(root: Directory) -> None:
    """Finish removals of dropped uploads that crashes interrupted, ignoring errors."""
    with _ignoring_errors(), walk_trusted(root, _TRASH) as trash:
        for name in trash.names():
            if _UNIQUE_NAME.fullmatch(name):
                remove_upload_folder(trash, name)


def sweep(root: Directory, cutoff: float) -> None:
    """
    Remove what crashed processes left behind, ignoring errors.

    What was changed after `cutoff`, in seconds since 1970, may be in use and is kept.
    """
    empty_trash(root)
    with _ignoring_errors(), walk_trusted(root, TEMP) as temp:
        for name in temp.names():
            status = temp.status(name) if _UNIQUE_NAME.fullmatch(name) else None
            if status is not None and status.st_mtime < cutoff:
                if stat.S_ISDIR(status.st_mode):
                    remove_upload_folder(temp, name)
                elif stat.S_ISREG(status.st_mode):
                    temp.discard(name)
    with _ignoring_errors(), walk_trusted(root, _UPLOADS) as uploads:
        for name in filter(UPLOAD_ID.fullmatch, uploads.names()):
            with _ignoring_errors(), open_upload(root, name) as folder:
                if folder.record() is not None:
                    folder.sweep(cutoff)
                elif folder.is_committed() or folder.modified() < cutoff:
                    remove_upload_folder(uploads, name)


def _ignoring_errors() -> ignored:
    return ignored(OSError, AccessDenied)


def _entries(root: Directory, path: tuple[str, ...]) -> list[tuple[str, os.stat_result]]:
    try:
        with walk_trusted(root, path) as directory:
            found = ((name, directory.status(name)) for name in directory.names())
            return [(name, status) for name, status in found if status is not None]
    except FileNotFoundError:
        return []
