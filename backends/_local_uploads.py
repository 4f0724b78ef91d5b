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

The staged file becomes the object by a rename or a link *out of this folder*. That makes the upload's death and the
object's birth exclude each other without a lock: dropping the upload moves the folder away, and then there is nothing
to rename any more. A process that dies after that rename and before it dropped the upload leaves a `commit` without its
staged file (or with one that has a second name by now): such an upload is dead, for it would make a second object.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from attrs import define

from partwise._durable import sync_directory
from partwise.backends._local_files import etag_of, fresh_name, remove, write_all
from partwise.backends._local_records import options_from_data, options_to_data, read_record, write_record
from partwise.model import ObjectOptions, UploadedPart

_SEAL = struct.Struct(">8sQQ")
_SEAL_MARK = b"partwise"


@define(frozen=True)
class UploadRecord:
    """What an upload is for."""

    key: str
    initiated: float
    options: ObjectOptions

    def to_data(self) -> dict[str, Any]:
        """As plain data."""
        return {"key": self.key, "initiated": self.initiated, "options": options_to_data(self.options)}


class UploadFolder:
    """
    One upload. Nothing is looked at before it is asked for, and there need not be a folder.

    Args:
        path: the folder; its name is the upload id.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, temporary: Path, record: UploadRecord) -> None:
        """
        Begin an upload: durable, and all at once.

        Args:
            path: its folder.
            temporary: where the folder is made first.
            record: what it is for.
        """
        (temporary / "parts").mkdir(parents=True)
        write_record(temporary / "upload.json", record.to_data())
        sync_directory(temporary)
        temporary.rename(path)
        sync_directory(path.parent)

    @property
    def upload_id(self) -> str:
        """The id."""
        return self.path.name

    def record(self) -> UploadRecord | None:
        """What the upload is for; None where there is no upload, or a dead one."""
        data = read_record(self.path / "upload.json")
        try:
            if data is None or self.committed():
                return None
            return UploadRecord(str(data["key"]), float(data["initiated"]), options_from_data(data["options"]))
        except (FileNotFoundError, KeyError, TypeError, ValueError):
            return None

    # --- parts -------------------------------------------------------------------------------------------------------

    def new_part(self, part_number: int) -> Path:
        """A file of its own to write a part to."""
        return self.path / "parts" / f"{part_number:05}.{fresh_name()}.new"

    def place_part(self, part_number: int, path: Path) -> None:
        """Let a written and sealed file be the part of this number, in place of any other."""
        path.replace(self.part(part_number))

    def part(self, part_number: int) -> Path:
        """Where the part of this number is."""
        return self.path / "parts" / f"{part_number:05}"

    def receipts(self) -> dict[int, UploadedPart]:
        """The receipts of the parts that are here, by ascending number."""
        receipts = {}
        with os.scandir(self.path / "parts") as entries:
            names = sorted(entry.name for entry in entries if entry.name.isdecimal())
        for name in names:
            receipt = receipt_of(self.part(int(name)))
            if receipt is not None:
                receipts[receipt.part_number] = receipt
        return receipts

    # --- becoming an object ------------------------------------------------------------------------------------------

    def new_staged(self) -> Path:
        """A file of its own to put the object together in."""
        return self.path / f"staged-{fresh_name()}"

    def announce(self, staged: Path) -> None:
        """Say that the staged file, which is whole, may become the object from now on."""
        _marker(staged).touch(exist_ok=False)
        sync_directory(self.path)

    def unstage(self, staged: Path) -> None:
        """Remove a staged file and its announcement, unless it has become the object."""
        if not _became_object(staged):
            # In this order: an announcement without its file would say that the upload is dead.
            _marker(staged).unlink(missing_ok=True)
            staged.unlink(missing_ok=True)

    def committed(self) -> bool:
        """Whether an object was made of this upload, so that it is dead."""
        return any(_became_object(staged) for staged in self._announced())

    # --- what crashes leave ------------------------------------------------------------------------------------------

    def sweep(self, horizon: float) -> None:
        """Remove what was left half written before `horizon`, in seconds since 1970. No part is touched."""
        for staged in self.path.glob("staged-*"):
            if staged.stat().st_mtime < horizon:
                self.unstage(staged)
        for part in (self.path / "parts").glob("*.new"):
            if part.stat().st_mtime < horizon:
                remove(part)

    def _announced(self) -> Iterator[Path]:
        with os.scandir(self.path) as entries:
            names = [entry.name for entry in entries if entry.name.startswith("commit-")]
        for name in names:
            yield self.path / name.replace("commit-", "staged-", 1)


def _marker(staged: Path) -> Path:
    return staged.with_name(staged.name.replace("staged-", "commit-", 1))


def _became_object(staged: Path) -> bool:
    try:
        return staged.stat().st_nlink > 1
    except FileNotFoundError:
        # Renamed, or never there: only an announced one is asked about, and that one was.
        return _marker(staged).exists()


def seal(file: FileIO, size: int, checksum: int) -> None:
    """Write after the bytes of a part what they are."""
    write_all(file, _SEAL.pack(_SEAL_MARK, size, checksum))


def receipt_of(path: Path) -> UploadedPart | None:
    """The receipt of the part in this file; None where there is none, or no whole one."""
    try:
        with path.open("rb", buffering=0) as file:
            size = max(0, file.seek(0, os.SEEK_END) - _SEAL.size)
            file.seek(size)
            tail = file.read()
    except FileNotFoundError:
        return None
    if len(tail) != _SEAL.size:
        return None
    mark, sealed_size, checksum = _SEAL.unpack(tail)
    if mark != _SEAL_MARK or sealed_size != size:
        return None
    return UploadedPart(int(path.name), size, etag_of(checksum), checksum)
