"""
The folder ``.partwise`` of a bucket's directory: where uploads are, what is removed from it, and when it goes itself.

Only what partwise makes is ever removed: entries of the names that it gives, in directories that are this user's alone,
reached through descriptors. Whatever else is found there stays, and what a link leads to is not touched.

A directory of the bookkeeping is made by the call that needs it, and removed by any write that finds it empty. `rmdir`
fails where something is in it, so a directory that is needed never goes. A call that has just made one, and finds it
removed before something is in it, makes it again (`within`).
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator

from partwise._signals import ignored
from partwise.backends.local.directories import Directory, walk_own, within
from partwise.backends.local.files import FRESH_NAME, fresh_name
from partwise.backends.local.keys import BOOKKEEPING
from partwise.backends.local.upload_folder import UploadFolder, UploadRecord, remove_upload
from partwise.errors import AccessDenied

TEMP = (BOOKKEEPING, "temp")
_UPLOADS = (BOOKKEEPING, "uploads")
_TRASH = (BOOKKEEPING, "trash")
_NAMES = ("objects", "temp", "trash", "uploads")

UPLOAD_ID = re.compile(r"[0-9A-Za-z_-]{1,128}")
_FRESH = re.compile(FRESH_NAME)


def check_bookkeeping(root: Directory) -> None:
    """
    Make sure that all of the bookkeeping may be used, before any of it is.

    Raises:
        AccessDenied: a directory of it is a link, or something else, or others may write to it.
    """
    with contextlib.suppress(FileNotFoundError), root.enter_own(BOOKKEEPING) as folder:
        for name in _NAMES:
            status = folder.status(name)
            if status is not None:
                folder.refuse_foreign(name, status)


def remove_unneeded(root: Directory) -> None:
    """Remove what is empty of the bookkeeping, as far as that goes."""
    with ignored(OSError, AccessDenied):
        with root.enter_own(BOOKKEEPING) as folder:
            for name in _NAMES:
                folder.remove_empty(name)
        root.remove_empty(BOOKKEEPING)


# --- uploads ---------------------------------------------------------------------------------------------------------


def begin_upload(root: Directory, upload_id: str, record: UploadRecord) -> None:
    """Begin an upload: durable, and all at once."""
    temp, name = within(root, TEMP, lambda temp: UploadFolder.create(temp, record))
    with temp:
        try:
            uploads, _ = within(root, _UPLOADS, lambda uploads: temp.move(name, uploads, upload_id))
        except BaseException:
            remove_upload(temp, name)
            raise
    with uploads:
        uploads.sync()
    # Another process may have made these, and not have synced them yet.
    for way in (_UPLOADS[:1], ()):
        with walk_own(root, way) as directory:
            directory.sync()


def open_upload(root: Directory, upload_id: str) -> UploadFolder:
    """
    The folder of an upload, open.

    Raises:
        FileNotFoundError: there is none.
        AccessDenied: it is a link, or others may write to it.
    """
    uploads = walk_own(root, _UPLOADS)
    try:
        return UploadFolder(uploads, upload_id)
    except BaseException:
        uploads.close()
        raise


def uploads_in(root: Directory) -> Iterator[UploadFolder]:
    """
    The folder of each upload, pending or dead, open while it is looked at.

    Raises:
        AccessDenied: one is a link, or others may write to it.
    """
    for name, status in _entries(root, _UPLOADS):
        if UPLOAD_ID.fullmatch(name) and (stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode)):
            with contextlib.suppress(FileNotFoundError), open_upload(root, name) as folder:
                yield folder


def discard_upload(root: Directory, upload_id: str) -> None:
    """Make an upload dead at once, then remove what it had. One that is not there is fine."""
    name = fresh_name()
    with contextlib.suppress(FileNotFoundError), walk_own(root, _UPLOADS) as uploads:

        def move(trash: Directory) -> bool:
            there = uploads.status(upload_id) is not None
            if there:
                uploads.move(upload_id, trash, name)
            return there

        try:
            trash, moved = within(root, _TRASH, move)
        except PermissionError:
            # Windows moves no folder in which a file is open. Without its record it is dead all the same.
            with open_upload(root, upload_id) as folder:
                folder.kill()
            remove_upload(uploads, upload_id)
            return
        with trash:
            if moved:
                remove_upload(trash, name)


# --- what crashes leave ----------------------------------------------------------------------------------------------


def empty_trash(root: Directory) -> None:
    """Remove what is being removed, perhaps by a process that died."""
    with _as_far_as_that_goes(), walk_own(root, _TRASH) as trash:
        for name in trash.names():
            if _FRESH.fullmatch(name):
                remove_upload(trash, name)


def sweep(root: Directory, horizon: float) -> None:
    """
    Remove what no living process can be using.

    Args:
        root: the bucket's directory.
        horizon: seconds since 1970; what was touched since then is not removed.
    """
    empty_trash(root)
    with _as_far_as_that_goes(), walk_own(root, TEMP) as temp:
        for name in temp.names():
            status = temp.status(name) if _FRESH.fullmatch(name) else None
            if status is not None and status.st_mtime < horizon:
                if stat.S_ISDIR(status.st_mode):
                    remove_upload(temp, name)
                elif stat.S_ISREG(status.st_mode):
                    temp.discard(name)
    with _as_far_as_that_goes(), walk_own(root, _UPLOADS) as uploads:
        for name in filter(UPLOAD_ID.fullmatch, uploads.names()):
            with _as_far_as_that_goes(), open_upload(root, name) as folder:
                if folder.record() is not None:
                    folder.sweep(horizon)
                elif folder.committed() or folder.modified() < horizon:
                    remove_upload(uploads, name)


def _as_far_as_that_goes() -> ignored:
    return ignored(OSError, AccessDenied)


def _entries(root: Directory, way: tuple[str, ...]) -> list[tuple[str, os.stat_result]]:
    try:
        with walk_own(root, way) as directory:
            found = ((name, directory.status(name)) for name in directory.names())
            return [(name, status) for name, status in found if status is not None]
    except FileNotFoundError:
        return []
