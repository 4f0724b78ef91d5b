"""
A pending multipart upload as a folder.

    uploads/<id>/upload.json         its record; without it there is no upload
    uploads/<id>/parts/00001         a part: its bytes, followed by a trailer of 24 bytes
    uploads/<id>/parts/00001.*.new   a part that is being written
    uploads/<id>/staged-<name>       the object that is being assembled
    uploads/<id>/commit-<name>       a marker: from now on the staged file may become the object at any instant

Each change is one rename or one new name, so a crash at any point leaves the upload either as it was before or as it is
after the change.

A part and its trailer get their name in one step, so the trailer always describes the bytes before it. A file without
a complete trailer, which a power loss can leave, is not a part.

The staged file becomes the object by a rename or a link *out of this folder*, by a path that contains the folder's
name. So without any lock an upload can't be dropped and become an object at the same time: dropping it moves the folder
away, and then the path of the staged file no longer exists. A process that crashes after the rename and before it
removed the upload leaves a `commit` marker without its staged file (or with one that has a second name by now). Such an
upload has ended, since completing it again would make a second object.
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
from typing import Any

from attrs import define

from partwise import _durable
from partwise._closing import Closing
from partwise._durable import Untrusted
from partwise._signals import ignored
from partwise.backends.local.directories import Directory
from partwise.backends.local.files import UNIQUE_NAME, etag_of, unique_name
from partwise.backends.local.records import options_from_data, options_to_data, read_record, write_record
from partwise.errors import AccessDenied
from partwise.model import ObjectOptions, UploadedPart

_TRAILER = struct.Struct(">8sQQ")
_TRAILER_MAGIC = b"partwise"

#: The limit of object storages, so a plan that fits here fits there. A folder of 10,000 files is still listed quickly.
PARTS_MAX = 10_000

_RECORD = "upload.json"
_PARTS = "parts"
_PART = re.compile("[0-9]{5}")
_NEW_PART = re.compile(rf"[0-9]{{5}}\.{UNIQUE_NAME}\.new")
_STAGED = re.compile(f"staged-{UNIQUE_NAME}")
_COMMIT = re.compile(f"commit-{UNIQUE_NAME}")

# The end of the year 9999, the last time that Python can represent.
_INITIATED_MAX = 253_402_300_799
_PERMISSIONS_MAX = 0o777


@define(frozen=True)
class UploadRecord:
    """What was requested when an upload was initiated."""

    key: str
    initiated: float  # the time, in seconds since 1970
    options: ObjectOptions
    permissions: int | None = None  # those of the source file; None if the source is not a file

    def to_data(self) -> dict[str, Any]:
        """Convert to plain data."""
        data = {"key": self.key, "initiated": self.initiated, "options": options_to_data(self.options)}
        return data if self.permissions is None else {**data, "permissions": self.permissions}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> UploadRecord:
        """Convert the result of `to_data` back; raise KeyError or ValueError if invalid."""
        key, initiated, permissions = data["key"], data["initiated"], data.get("permissions")
        if not isinstance(key, str) or isinstance(initiated, bool) or not isinstance(initiated, int | float):
            raise ValueError("the key or the time is of another type")  # noqa: TRY004  # as below
        if not math.isfinite(initiated) or not 0 <= initiated <= _INITIATED_MAX:
            raise ValueError("the time is out of range")
        if permissions is not None and (type(permissions) is not int or not 0 <= permissions <= _PERMISSIONS_MAX):
            raise ValueError("the permissions are out of range")
        return cls(key, float(initiated), options_from_data(data["options"]), permissions)


class UploadFolder(Closing):
    """
    The folder of one upload, open. The directory of all uploads is closed with it.

    Raises:
        FileNotFoundError: there is no such upload.
        AccessDenied: its folder is not trusted; see `Directory.require_trusted`.
    """

    def __init__(self, uploads: Directory, upload_id: str) -> None:
        self.upload_id = upload_id
        self._uploads = uploads
        self._folder = uploads.enter_trusted(upload_id)

    def close(self) -> None:
        """Close the directories. Closing twice is fine."""
        self._folder.close()
        self._uploads.close()

    @staticmethod
    def create(temp: Directory, record: UploadRecord) -> str:
        """Create an upload in `temp`, durable but for its name, which is returned."""
        name = unique_name()
        try:
            temp.make(name, private=True)
            with temp.enter_trusted(name) as folder:
                folder.make(_PARTS, private=True)
                write_record(folder, _RECORD, record.to_data())
                folder.sync()
        except BaseException:
            remove_upload_folder(temp, name)
            raise
        return name

    def record(self) -> UploadRecord | None:
        """Read the record of the upload; None if the upload was completed or dropped."""
        if not self.is_in_place():
            return None
        data = read_record(self._folder, _RECORD)
        try:
            if data is None or self.is_committed():
                return None
            return UploadRecord.from_data(data)
        except (FileNotFoundError, KeyError, ValueError, OverflowError):
            return None

    def is_in_place(self) -> bool:
        """Return whether the folder still has its name; dropping an upload moves it away."""
        found = self._uploads.status(self.upload_id)
        # Without descriptors the second lookup is by name, too, and may fail.
        with contextlib.suppress(FileNotFoundError):
            return found is not None and self._folder.is_same(found)
        return False

    def modified(self) -> float:
        """Return when an entry was last added or removed, in seconds since 1970."""
        return self._folder.modified()

    def delete_record(self) -> None:
        """End the upload without moving its folder."""
        with contextlib.suppress(FileNotFoundError):
            self._folder.unlink(_RECORD)

    # --- parts -------------------------------------------------------------------------------------------------------

    def open_parts(self) -> Directory:
        """Open the directory of the parts."""
        return self._folder.enter_trusted(_PARTS)

    def place_part(self, parts: Directory, name: str, part_number: int) -> None:
        """
        Turn a file with a trailer into a part, replacing any earlier one.

        Raises:
            FileNotFoundError: the upload was dropped meanwhile.
        """
        parts.replace(name, parts, part_name(part_number))
        # The rename uses the folder's descriptor, so it succeeds even after the folder was moved away.
        if not self.is_in_place():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), parts.path)

    def parts(self) -> dict[int, UploadedPart]:
        """Return the stored parts by number, ascending."""
        found = {}
        with self.open_parts() as parts:
            for name in parts.names():
                if _PART.fullmatch(name):
                    part = read_part(parts, name)
                    if part is not None:
                        found[part.part_number] = part
        return found

    # --- becoming an object ------------------------------------------------------------------------------------------

    def create_staged(self, permissions: int) -> tuple[str, FileIO, int]:
        """
        Create a file in which the object is assembled.

        Returns:
            Its name, the open file, and `permissions` reduced by the umask.
        """
        name = f"staged-{unique_name()}"
        return name, *self._folder.create(name, permissions)

    def staged_path(self, staged: str) -> tuple[Directory, str]:
        """
        Return where to rename a staged file from, as a directory and a path in it.

        The path contains the folder's name, so it no longer exists once the upload was dropped.
        """
        return self._uploads, f"{self.upload_id}/{staged}"

    def mark_committing(self, staged: str) -> None:
        """Record durably that the staged file, now complete, may become the object."""
        self._folder.create(_marker(staged))[0].close()
        self._folder.sync()

    def unstage(self, staged: str) -> None:
        """Remove a staged file and its marker, unless it has become the object."""
        if not self._became_object(staged):
            # The marker first: a marker without its file would mean that the upload has ended.
            for name in (_marker(staged), staged):
                with contextlib.suppress(FileNotFoundError):
                    self._folder.unlink(name)

    def is_committed(self) -> bool:
        """Return whether an object was made of this upload, which has thereby ended."""
        return any(self._became_object(staged) for staged in self._marked())

    def _became_object(self, staged: str) -> bool:
        status = self._folder.status(staged)
        if status is not None:
            return status.st_nlink > 1
        # Without its file, a marker shows that the file was renamed; without a marker it never existed.
        return self._folder.status(_marker(staged)) is not None

    def _marked(self) -> Iterator[str]:
        for name in self._folder.names():
            if _COMMIT.fullmatch(name):
                yield name.replace("commit-", "staged-", 1)

    # --- what crashes leave ------------------------------------------------------------------------------------------

    def sweep(self, cutoff: float) -> None:
        """Remove incomplete files, but no parts, that were last changed before `cutoff`."""
        for name in self._folder.names():
            if _STAGED.fullmatch(name) and _is_older(self._folder, name, cutoff):
                self.unstage(name)
        with self.open_parts() as parts:
            for name in parts.names():
                if _NEW_PART.fullmatch(name) and _is_older(parts, name, cutoff):
                    parts.discard(name)


def remove_upload_folder(directory: Directory, name: str) -> None:
    """
    Remove the folder of an upload from a directory, ignoring errors.

    Entries whose names partwise does not use are kept, and so is the target of any link.
    """
    with ignored(OSError, AccessDenied):
        with directory.enter_trusted(name) as folder:
            # The record first, so that a process that has the folder open finds no upload from now on.
            folder.discard(_RECORD)
            for entry in folder.names():
                if _STAGED.fullmatch(entry) or _COMMIT.fullmatch(entry):
                    folder.discard(entry)
            with ignored(OSError, AccessDenied):
                with folder.enter_trusted(_PARTS) as parts:
                    for entry in parts.names():
                        if _PART.fullmatch(entry) or _NEW_PART.fullmatch(entry):
                            parts.discard(entry)
                folder.remove_empty(_PARTS)
        directory.remove_empty(name)


def _is_older(directory: Directory, name: str, cutoff: float) -> bool:
    status = directory.status(name)
    return status is not None and status.st_mtime < cutoff


def _marker(staged: str) -> str:
    return staged.replace("staged-", "commit-", 1)


def part_name(part_number: int) -> str:
    """Return the file name of a part."""
    return f"{part_number:05}"


def new_part_name(part_number: int) -> str:
    """Return a unique file name for a part that is being written."""
    return f"{part_name(part_number)}.{unique_name()}.new"


def write_trailer(file: FileIO, size: int, checksum: int) -> None:
    """Append the size and the checksum of a part to its bytes."""
    _durable.write(file.fileno(), _TRAILER.pack(_TRAILER_MAGIC, size, checksum))


def read_part(parts: Directory, name: str) -> UploadedPart | None:
    """Return the part in this file; None without a complete trailer."""
    part_number = int(name)
    try:
        with parts.open_trusted_file(name) as file:
            size = max(0, file.seek(0, os.SEEK_END) - _TRAILER.size)
            file.seek(size)
            tail = file.read(_TRAILER.size + 1)
    except (FileNotFoundError, Untrusted):
        return None
    if len(tail) != _TRAILER.size or not 1 <= part_number <= PARTS_MAX:
        return None
    magic, recorded_size, checksum = _TRAILER.unpack(tail)
    if magic != _TRAILER_MAGIC or recorded_size != size:
        return None
    return UploadedPart(part_number, size, etag_of(checksum), checksum)
