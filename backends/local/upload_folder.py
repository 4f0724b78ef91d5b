"""
A pending multipart upload as a folder.

    uploads/<id>/upload.json         what it is for; without it there is no upload
    uploads/<id>/parts/00001         a part: its bytes, and a seal of 24 bytes after them
    uploads/<id>/parts/00001.*.new   a part that is being written
    uploads/<id>/staged-<name>       the object that is being put together
    uploads/<id>/commit-<name>       from now on the staged file may become the object at any instant

Each change is one rename or one new name, so that the death of a process at any point leaves the upload as it was
before or after.

A part and its seal get their name at once, so that a receipt is always that of the bytes beside it. A part without a
whole seal, as the loss of power can leave it, is no part.

The staged file becomes the object by a rename or a link *out of this folder*, by way of the folder's own name. That
makes the upload's death and the object's birth exclude each other without a lock: dropping the upload moves the folder
away, and then there is nothing to rename any more. A process that dies after that rename and before it dropped the
upload leaves a `commit` without its staged file (or with one that has a second name by now): such an upload is dead,
for it would make a second object.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import struct
from collections.abc import Iterator
from io import FileIO
from types import TracebackType
from typing import Any, Self

from attrs import define

from partwise._durable import Untrusted
from partwise._signals import ignored
from partwise.backends.local.directories import Directory
from partwise.backends.local.files import FRESH_NAME, etag_of, fresh_name, write_all
from partwise.backends.local.records import options_from_data, options_to_data, read_record, write_record
from partwise.errors import AccessDenied
from partwise.model import ObjectOptions, UploadedPart

_SEAL = struct.Struct(">8sQQ")
_SEAL_MARK = b"partwise"

#: The number of parts is that of the object storages: a plan that fits here then fits there, and a folder of that
#: number of files is still quick to list.
PARTS_MAX = 10_000

_RECORD = "upload.json"
_PARTS = "parts"
_PART = re.compile("[0-9]{5}")
_NEW_PART = re.compile(rf"[0-9]{{5}}\.{FRESH_NAME}\.new")
_STAGED = re.compile(f"staged-{FRESH_NAME}")
_COMMIT = re.compile(f"commit-{FRESH_NAME}")

# The year 9999, after which Python has no time.
_INITIATED_MAX = 253_402_300_799
_PERMISSIONS_MAX = 0o777


@define(frozen=True)
class UploadRecord:
    """
    What an upload is for.

    Args:
        key: the object.
        initiated: when it began, in seconds since 1970.
        options: what the object shall be like.
        permissions: those of the file that the object is made of; None where it is made of something else.
    """

    key: str
    initiated: float
    options: ObjectOptions
    permissions: int | None = None

    def to_data(self) -> dict[str, Any]:
        """As plain data."""
        data = {"key": self.key, "initiated": self.initiated, "options": options_to_data(self.options)}
        return data if self.permissions is None else {**data, "permissions": self.permissions}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> UploadRecord:
        """
        What `to_data` made plain.

        Raises:
            KeyError: something is missing.
            ValueError: something is not what it should be.
        """
        key, initiated, permissions = data["key"], data["initiated"], data.get("permissions")
        if not isinstance(key, str) or isinstance(initiated, bool) or not isinstance(initiated, int | float):
            raise ValueError("its key or its time is of another type")  # noqa: TRY004  # as all else
        if not math.isfinite(initiated) or not 0 <= initiated <= _INITIATED_MAX:
            raise ValueError("there is no such time")
        if permissions is not None and (type(permissions) is not int or not 0 <= permissions <= _PERMISSIONS_MAX):
            raise ValueError("there are no such permissions")
        return cls(key, float(initiated), options_from_data(data["options"]), permissions)


class UploadFolder:
    """
    The folder of one upload, open.

    Args:
        uploads: the folder of all uploads. It is closed with this.
        upload_id: the upload's id.

    Raises:
        FileNotFoundError: there is no such upload.
        AccessDenied: its folder is a link, or others may write to it.
    """

    def __init__(self, uploads: Directory, upload_id: str) -> None:
        self.upload_id = upload_id
        self._uploads = uploads
        self._folder = uploads.enter_own(upload_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.close()
        self._uploads.close()

    @staticmethod
    def create(temp: Directory, record: UploadRecord) -> str:
        """Make an upload in `temp`, durable but for its name, and return that."""
        name = fresh_name()
        try:
            temp.make(name, private=True)
            with temp.enter_own(name) as folder:
                folder.make(_PARTS, private=True)
                write_record(folder, _RECORD, record.to_data())
                folder.sync()
        except BaseException:
            remove_upload(temp, name)
            raise
        return name

    def record(self) -> UploadRecord | None:
        """What the upload is for; None where there is no upload any more, or a dead one."""
        if not self.stands():
            return None
        data = read_record(self._folder, _RECORD)
        try:
            if data is None or self.committed():
                return None
            return UploadRecord.from_data(data)
        except (FileNotFoundError, KeyError, ValueError, OverflowError):
            return None

    def stands(self) -> bool:
        """Whether the folder is still where it was opened, so that the upload was not dropped."""
        found = self._uploads.status(self.upload_id)
        # Without descriptors the second look is by name, too.
        with contextlib.suppress(FileNotFoundError):
            return found is not None and self._folder.is_same(found)
        return False

    def modified(self) -> float:
        """When something was last added to the folder or removed from it, in seconds since 1970."""
        return self._folder.modified()

    def kill(self) -> None:
        """Make the upload dead without moving its folder."""
        with contextlib.suppress(FileNotFoundError):
            self._folder.unlink(_RECORD)

    # --- parts -------------------------------------------------------------------------------------------------------

    def parts(self) -> Directory:
        """The folder of the parts, open."""
        return self._folder.enter_own(_PARTS)

    def place_part(self, parts: Directory, name: str, part_number: int) -> None:
        """
        Let a written and sealed file be the part of this number, in place of any other.

        Raises:
            FileNotFoundError: the upload was dropped meanwhile.
        """
        parts.replace(name, parts, part_name(part_number))
        # By its descriptor the folder takes the file even when it was moved away.
        if not self.stands():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), parts.path)

    def receipts(self) -> dict[int, UploadedPart]:
        """The receipts of the parts that are here, by ascending number."""
        receipts = {}
        with self.parts() as parts:
            for name in parts.names():
                if _PART.fullmatch(name):
                    receipt = receipt_of(parts, name)
                    if receipt is not None:
                        receipts[receipt.part_number] = receipt
        return receipts

    # --- becoming an object ------------------------------------------------------------------------------------------

    def new_staged(self, permissions: int) -> tuple[str, FileIO, int]:
        """
        A file of its own to put the object together in.

        Returns:
            Its name, the file, and those of the permissions that the umask grants.
        """
        name = f"staged-{fresh_name()}"
        return name, *self._folder.create(name, permissions)

    def way_to(self, staged: str) -> tuple[Directory, str]:
        """
        Where a staged file is to be moved from: a name that leads by way of the folder's own, and so nowhere once the
        upload was dropped.
        """
        return self._uploads, f"{self.upload_id}/{staged}"

    def announce(self, staged: str) -> None:
        """Say that the staged file, which is whole, may become the object from now on."""
        self._folder.create(_marker(staged))[0].close()
        self._folder.sync()

    def unstage(self, staged: str) -> None:
        """Remove a staged file and its announcement, unless it has become the object."""
        if not self._became_object(staged):
            # In this order: an announcement without its file would say that the upload is dead.
            for name in (_marker(staged), staged):
                with contextlib.suppress(FileNotFoundError):
                    self._folder.unlink(name)

    def committed(self) -> bool:
        """Whether an object was made of this upload, so that it is dead."""
        return any(self._became_object(staged) for staged in self._announced())

    def _became_object(self, staged: str) -> bool:
        status = self._folder.status(staged)
        if status is not None:
            return status.st_nlink > 1
        # Renamed, or never there: only an announced one is asked about, and that one was.
        return self._folder.status(_marker(staged)) is not None

    def _announced(self) -> Iterator[str]:
        for name in self._folder.names():
            if _COMMIT.fullmatch(name):
                yield name.replace("commit-", "staged-", 1)

    # --- what crashes leave ------------------------------------------------------------------------------------------

    def sweep(self, horizon: float) -> None:
        """Remove what was left half written before `horizon`, in seconds since 1970. No part is touched."""
        for name in self._folder.names():
            if _STAGED.fullmatch(name) and _is_older(self._folder, name, horizon):
                self.unstage(name)
        with self.parts() as parts:
            for name in parts.names():
                if _NEW_PART.fullmatch(name) and _is_older(parts, name, horizon):
                    parts.discard(name)


def remove_upload(directory: Directory, name: str) -> None:
    """
    Remove the folder of an upload from a directory, as far as that goes.

    What is in it under names that no upload has is not touched, and neither is what a link leads to.
    """
    with ignored(OSError, AccessDenied):
        with directory.enter_own(name) as folder:
            # First of all, so that who has the folder open finds no upload from now on.
            folder.discard(_RECORD)
            for entry in folder.names():
                if _STAGED.fullmatch(entry) or _COMMIT.fullmatch(entry):
                    folder.discard(entry)
            with ignored(OSError, AccessDenied):
                with folder.enter_own(_PARTS) as parts:
                    for entry in parts.names():
                        if _PART.fullmatch(entry) or _NEW_PART.fullmatch(entry):
                            parts.discard(entry)
                folder.remove_empty(_PARTS)
        directory.remove_empty(name)


def _is_older(directory: Directory, name: str, horizon: float) -> bool:
    status = directory.status(name)
    return status is not None and status.st_mtime < horizon


def _marker(staged: str) -> str:
    return staged.replace("staged-", "commit-", 1)


def part_name(part_number: int) -> str:
    """What the file of a part is called."""
    return f"{part_number:05}"


def new_part_name(part_number: int) -> str:
    """A name of its own for a part that is being written."""
    return f"{part_name(part_number)}.{fresh_name()}.new"


def seal(file: FileIO, size: int, checksum: int) -> None:
    """Write after the bytes of a part what they are."""
    write_all(file, _SEAL.pack(_SEAL_MARK, size, checksum))


def receipt_of(parts: Directory, name: str) -> UploadedPart | None:
    """The receipt of the part in this file; None where there is none, or no whole one."""
    part_number = int(name)
    try:
        with parts.open_own_file(name) as file:
            size = max(0, file.seek(0, os.SEEK_END) - _SEAL.size)
            file.seek(size)
            tail = file.read(_SEAL.size + 1)
    except (FileNotFoundError, Untrusted):
        return None
    if len(tail) != _SEAL.size or not 1 <= part_number <= PARTS_MAX:
        return None
    mark, sealed_size, checksum = _SEAL.unpack(tail)
    if mark != _SEAL_MARK or sealed_size != size:
        return None
    return UploadedPart(part_number, size, etag_of(checksum), checksum)
