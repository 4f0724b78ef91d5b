"""
What a plain file can't store about its object: options and checksum.

They are in a small record in the metadata directory.

Only an object that was stored with options has a record. Without one the checksum is computed from the file, which only
`LocalBackend.head_object` needs: an upload has already computed the checksum of the bytes that it wrote, and the engine
calls `head_object` only if the response to *complete* was lost. Avoiding this one read is not worth keeping a metadata
directory beside every backup for as long as the backup exists.

A record describes one version of one file, and its name is made of that version's inode, size and modification time.
So the record is written before the file gets the object's name, and the two steps need not be atomic: before the rename
the old record matches the old file, after it the new record matches the new file. A file that was edited or created by
hand matches no record.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re

from attrs import define

from partwise.backends.local.directories import Directory
from partwise.backends.local.keys import META_DIR
from partwise.backends.local.records import encode_record, options_from_data, options_to_data, read_record, write_record
from partwise.backends.local.walk import make_and_use, walk_trusted
from partwise.model import ObjectOptions

_OBJECTS = (META_DIR, "objects")
_NAME = re.compile(r"[0-9a-f]{1,16}-[0-9a-f]{1,16}-[0-9a-f]{1,16}\.json")
_CHECKSUM = re.compile(r"[0-9A-F]{16}")


@define(frozen=True)
class ObjectMetadata:
    """What is known about an object besides its bytes."""

    crc64: int
    options: ObjectOptions

    @property
    def needs_record(self) -> bool:
        """Whether it contains more than the file itself shows."""
        return bool(self.options.explicitly_set() - {"forbid_overwrite"})


def check_options(key: str, options: ObjectOptions) -> None:
    """Raise InvalidInput if these options are too large for a record, or not UTF-8."""
    encode_record(_fields(key, ObjectMetadata(0, options)))


class Sidecars:
    """The metadata of a bucket's objects: a directory per key, a record per version."""

    def __init__(self, root: Directory) -> None:
        self._root = root

    def write(self, key: str, version: os.stat_result, metadata: ObjectMetadata) -> None:
        """Write, durably, the metadata of a file that is about to become object `key`."""
        name = _name(version)

        def put(folder: Directory) -> None:
            # A record of the same inode, size and time can only be left from an earlier attempt with this very file.
            with contextlib.suppress(FileNotFoundError):
                folder.unlink(name)
            write_record(folder, name, _fields(key, metadata))

        folder, _ = make_and_use(self._root, (*_OBJECTS, _folder_of(key)), put)
        with folder:
            folder.sync()
        # Another process may have created the directories above, and not have synced them yet.
        for path in (_OBJECTS, _OBJECTS[:1], ()):
            with walk_trusted(self._root, path) as directory:
                directory.sync()

    def read(self, key: str, version: os.stat_result) -> ObjectMetadata | None:
        """
        Return the metadata of this version of an object.

        None if there is no record that can be trusted.

        Raises:
            AccessDenied: other users may write to the directories of the records.
        """
        try:
            folder = walk_trusted(self._root, (*_OBJECTS, _folder_of(key)))
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
            return ObjectMetadata(int(checksum, 16), options_from_data(record["options"]))
        except (KeyError, ValueError):
            return None

    def clean_up(
        self, key: str, current: os.stat_result | None, replaced: os.stat_result | None, cutoff: float
    ) -> None:
        """
        Remove the metadata of the version that was replaced, and what crashes left.

        A record that is younger than `cutoff`, in seconds since 1970, may describe a file that is about to become the
        object, and is kept, as that of the current version.
        """
        keep = None if current is None else _name(current)
        outdated = None if replaced is None else _name(replaced)
        with contextlib.suppress(FileNotFoundError), walk_trusted(self._root, _OBJECTS) as objects:
            with objects.enter_trusted(_folder_of(key)) as folder:
                for name in folder.names():
                    if name != keep and _NAME.fullmatch(name):
                        status = folder.status(name)
                        if status is not None and (name == outdated or status.st_mtime < cutoff):
                            folder.discard(name)
            objects.remove_empty(_folder_of(key))


def _fields(key: str, metadata: ObjectMetadata) -> dict[str, object]:
    return {"key": key, "crc64": f"{metadata.crc64:016X}", "options": options_to_data(metadata.options)}


def _folder_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _name(version: os.stat_result) -> str:
    return f"{version.st_ino:x}-{version.st_size:x}-{version.st_mtime_ns:x}.json"
