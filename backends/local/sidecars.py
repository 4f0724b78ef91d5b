"""
What a plain file can't say of itself: the options of an object, and its checksum, in a small record beside the objects.

Only an object that was stored with options has a record. For any other the file says all there is: its checksum is had
by reading it, which only `LocalBackend.head_object` has to do. Nothing that stores asks for that, since it has computed
the checksum of the bytes it wrote; the engine does where the answer to *complete* was lost. To spare that one reading
is not worth a folder of bookkeeping beside every backup, kept for as long as the backup is.

A record is for one version of one file, and its name says which: inode, size and time of modification. So it is written
before the file gets the object's name, and the two need no common instant: until then the old record fits the old file,
from then on the new one fits the new file. A file that was edited or put there by hand fits no record.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re

from attrs import define

from partwise.backends.local.directories import Directory, walk_own, within
from partwise.backends.local.keys import BOOKKEEPING
from partwise.backends.local.records import (
    encode_record,
    options_from_data,
    options_to_data,
    read_record,
    write_record,
)
from partwise.model import ObjectOptions

_AREA = (BOOKKEEPING, "objects")
_NAME = re.compile(r"[0-9a-f]{1,16}-[0-9a-f]{1,16}-[0-9a-f]{1,16}\.json")
_CHECKSUM = re.compile(r"[0-9A-F]{16}")


@define(frozen=True)
class Description:
    """What is known of an object beside its bytes."""

    crc64: int
    options: ObjectOptions

    @property
    def needed(self) -> bool:
        """Whether it says more than the file itself."""
        return bool(self.options.explicitly_set() - {"forbid_overwrite"})


def check_options(key: str, options: ObjectOptions) -> None:
    """
    Refuse options that take more room than a record has.

    Raises:
        InvalidInput: they do.
    """
    encode_record(_fields(key, Description(0, options)))


class Sidecars:
    """
    The descriptions of all objects of a bucket: a folder for each key, in it a file for each version.

    Args:
        root: the bucket's directory, open.
    """

    def __init__(self, root: Directory) -> None:
        self._root = root

    def write(self, key: str, version: os.stat_result, description: Description) -> None:
        """Describe the file of this version, which is about to become the object `key`. Durable when it returns."""
        name = _name(version)

        def put(folder: Directory) -> None:
            # A name of the same inode, size and time can only be left from an attempt on this very file.
            with contextlib.suppress(FileNotFoundError):
                folder.unlink(name)
            write_record(folder, name, _fields(key, description))

        folder, _ = within(self._root, (*_AREA, _folder_of(key)), put)
        with folder:
            folder.sync()
        # Another process may have made these, and not have synced them yet.
        for way in (_AREA, _AREA[:1], ()):
            with walk_own(self._root, way) as directory:
                directory.sync()

    def read(self, key: str, version: os.stat_result) -> Description | None:
        """
        The description of this version of the object; None where there is none that can be trusted.

        Raises:
            AccessDenied: others may write where descriptions are kept.
        """
        try:
            folder = walk_own(self._root, (*_AREA, _folder_of(key)))
        except FileNotFoundError:
            return None
        with folder:
            record = read_record(folder, _name(version))
        if record is None or record.get("key") != key:
            return None
        try:
            checksum = record["crc64"]
            if not isinstance(checksum, str) or not _CHECKSUM.fullmatch(checksum):
                return None
            return Description(int(checksum, 16), options_from_data(record["options"]))
        except (KeyError, ValueError):
            return None

    def settle(self, key: str, current: os.stat_result | None, replaced: os.stat_result | None, horizon: float) -> None:
        """
        Remove the description of the version that was replaced, and what crashes left of others.

        Args:
            key: the object.
            current: the version that stands, if one does.
            replaced: the one that stood before.
            horizon: seconds since 1970. What is younger may describe a file that is about to become the object.
        """
        keep = None if current is None else _name(current)
        gone = None if replaced is None else _name(replaced)
        with contextlib.suppress(FileNotFoundError), walk_own(self._root, _AREA) as area:
            with area.enter_own(_folder_of(key)) as folder:
                for name in folder.names():
                    if name != keep and _NAME.fullmatch(name):
                        status = folder.status(name)
                        if status is not None and (name == gone or status.st_mtime < horizon):
                            folder.discard(name)
            area.remove_empty(_folder_of(key))


def _fields(key: str, description: Description) -> dict[str, object]:
    return {"key": key, "crc64": f"{description.crc64:016X}", "options": options_to_data(description.options)}


def _folder_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _name(version: os.stat_result) -> str:
    return f"{version.st_ino:x}-{version.st_size:x}-{version.st_mtime_ns:x}.json"
