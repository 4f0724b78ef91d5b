"""
What a plain file can't say of itself: the checksum and the options of an object, in a small record beside the objects.

A record is for one version of one file, and its name says which: inode, size and time of modification. So it is written
before the file gets the object's name, and the two need no common instant: until then the old record fits the old file,
from then on the new one fits the new file. A file that was edited or put there by hand fits no record.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from attrs import define

from partwise._durable import sync_directory
from partwise.backends._local_files import make_directories
from partwise.backends._local_records import options_from_data, options_to_data, read_record, write_record
from partwise.model import ObjectOptions


@define(frozen=True)
class Description:
    """What is known of an object beside its bytes."""

    crc64: int
    options: ObjectOptions


class Sidecars:
    """
    The descriptions of all objects of a bucket.

    Args:
        folder: where they lie: a folder for each key, in it a file for each version.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, key: str, version: os.stat_result, description: Description) -> None:
        """Describe the file of this version, which is about to become the object `key`. Durable when it returns."""
        folder = self._of(key)
        make_directories(folder)
        path = folder / _name(version)
        # A name of the same inode, size and time can only be left from an attempt on this very file.
        path.unlink(missing_ok=True)
        write_record(
            path,
            {"key": key, "crc64": f"{description.crc64:016X}", "options": options_to_data(description.options)},
        )
        sync_directory(folder)

    def read(self, key: str, version: os.stat_result) -> Description | None:
        """The description of this version of the object; None where there is none that can be trusted."""
        record = read_record(self._of(key) / _name(version))
        if record is None or record.get("key") != key:
            return None
        try:
            return Description(int(record["crc64"], 16), options_from_data(record["options"]))
        except (KeyError, TypeError, ValueError):
            return None

    def drop(self, key: str, version: os.stat_result) -> None:
        """Forget the description of a version that is no more."""
        (self._of(key) / _name(version)).unlink(missing_ok=True)

    def sweep(self, key: str, current: os.stat_result, horizon: float) -> None:
        """
        Drop what crashes left of other versions than the current one.

        Args:
            key: the object.
            current: the version that stands.
            horizon: seconds since 1970. What is younger may describe a file that is about to become the object.
        """
        keep = _name(current)
        for path in self._of(key).iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.name != keep and path.stat().st_mtime < horizon:
                    path.unlink()

    def _of(self, key: str) -> Path:
        return self._folder / hashlib.sha256(key.encode()).hexdigest()[:32]


def _name(version: os.stat_result) -> str:
    return f"{version.st_ino:x}-{version.st_size:x}-{version.st_mtime_ns:x}.json"
