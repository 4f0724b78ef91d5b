"""
Buckets by name, and what the server remembers about their objects and uploads.

The backend has the bytes. A record here holds what `MultipartBackend` does not give back: type and cache headers,
storage class, times, what an upload was begun with. It counts for the very version that it was made for: an object that
was written past the server has no record.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from attrs import define, field

from partwise.backends.local import LocalBackend
from partwise.backends.memory import MemoryBackend
from partwise.model import MIB, ObjectOptions, StoredObject, UploadedPart
from partwise.protocols import MultipartBackend
from partwise.server.oss.access import ObjectAccess, access_to
from partwise.server.oss.errors import OSSError
from partwise.server.recent import Recent

# What is known of objects and uploads beside what the backend keeps is dropped, the oldest first, where it would grow
# without end. The number of parts is that of ten of the largest uploads.
_RECORDS_MAX = 20_000
_RECORD_BYTES_MAX = 16 * MIB
_PART_TIMES_MAX = 100_000

#: The mode of folders that are made: what is in them is their owner's alone.
_PRIVATE = 0o700

_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


@define(frozen=True)
class ObjectRecord:
    """
    One version of an object, as HEAD shows it.

    Args:
        stored: what the backend says of it.
        etag: as clients see it, without quotes.
        options: what it was stored with.
        object_type: ``"Normal"`` or ``"Multipart"``.
        modified: when it was stored, in seconds since 1970.
        content_md5: as a header has it; None for an object made of parts.
    """

    stored: StoredObject
    etag: str
    options: ObjectOptions
    object_type: str
    modified: float
    content_md5: str | None = None


@define(frozen=True)
class UploadRecord:
    """
    A pending upload.

    Args:
        options: what it was begun with.
        sequential: its parts must come in order.
    """

    options: ObjectOptions = field(factory=ObjectOptions)
    sequential: bool = False


class Bucket:
    """
    One bucket.

    Args:
        name: as requests name it.
        backend: where the bytes go.
        created: when it came to be, in seconds since 1970.
    """

    def __init__(self, name: str, backend: MultipartBackend, created: float) -> None:
        self.name = name
        self.backend = backend
        self.created = created
        self._access = access_to(backend)
        self._lock = threading.Lock()
        self._objects: Recent[str, ObjectRecord] = Recent(_RECORDS_MAX, _RECORD_BYTES_MAX)
        self._uploads: Recent[str, UploadRecord] = Recent(_RECORDS_MAX, _RECORD_BYTES_MAX)
        self._part_times: Recent[tuple[str, int], float] = Recent(_PART_TIMES_MAX, _PART_TIMES_MAX)

    @property
    def access(self) -> ObjectAccess:
        """
        How to read objects.

        Raises:
            OSSError: NotImplemented: the backend gives nothing back.
        """
        if self._access is None:
            raise OSSError("NotImplemented", f"A {type(self.backend).__name__} does not give objects back.")
        return self._access

    def object(self, key: str) -> ObjectRecord | None:
        """The object that stands under `key`, or None."""
        stored = self.backend.head_object(key)
        with self._lock:
            record = self._objects.get(key)
            if stored is None:
                self._objects.drop(key)
                return None
        if record is not None and (record.stored.etag, record.stored.size) == (stored.etag, stored.size):
            return record
        options, modified = None, None
        if self._access is not None:
            options, modified = self._access.describe(key), self._access.modified_at(key)
        return ObjectRecord(
            stored,
            stored.etag.strip('"'),
            ObjectOptions(metadata=stored.metadata) if options is None else options,
            "Normal",
            self.created if modified is None else modified,
        )

    def remember_object(self, record: ObjectRecord) -> None:
        """Keep what was learned when the object was stored."""
        with self._lock:
            self._objects.put(record.stored.key, record, len(repr(record)))

    def forget_object(self, key: str) -> None:
        """The object is gone."""
        with self._lock:
            self._objects.drop(key)

    def upload(self, upload_id: str) -> UploadRecord:
        """What an upload was begun with; of one that was begun before this server, or past it, nothing is known."""
        with self._lock:
            return self._uploads.get(upload_id) or UploadRecord()

    def remember_upload(self, upload_id: str, record: UploadRecord) -> None:
        """Keep what the upload was begun with."""
        with self._lock:
            self._uploads.put(upload_id, record, len(repr(record)))

    def forget_upload(self, upload_id: str) -> None:
        """The upload is completed or aborted."""
        with self._lock:
            self._uploads.drop(upload_id)

    def remember_part(self, upload_id: str, part_number: int, time: float) -> None:
        """Keep when a part was stored."""
        with self._lock:
            self._part_times.put((upload_id, part_number), time, 1)

    def part_time(self, upload_id: str, part: UploadedPart) -> float:
        """When the part was stored; of one that came past this server, when the bucket came to be."""
        with self._lock:
            time = self._part_times.get((upload_id, part.part_number))
        return self.created if time is None else time


class Buckets(Protocol):
    """The buckets of a server."""

    def find(self, name: str) -> Bucket | None:
        """The bucket of this name, or None."""

    def create(self, name: str) -> Bucket:
        """Make a bucket; one that is there already stays as it is."""

    def names(self) -> list[str]:
        """The names of all buckets, sorted."""

    def close(self) -> None:
        """Close the backends that were made here."""


class GivenBuckets:
    """
    Buckets whose backends were handed in; those that clients create are in memory.

    Args:
        backends: the backends by name. They stay their owner's to close.
        now: seconds since 1970.
    """

    def __init__(self, backends: Mapping[str, MultipartBackend], now: float) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._made: list[MultipartBackend] = []
        self._buckets = {name: Bucket(name, backend, now) for name, backend in backends.items()}

    def find(self, name: str) -> Bucket | None:
        """The bucket of this name, or None."""
        with self._lock:
            return self._buckets.get(name)

    def create(self, name: str) -> Bucket:
        """Make a bucket in memory."""
        check_name(name)
        with self._lock:
            if name not in self._buckets:
                backend = MemoryBackend()
                self._made.append(backend)
                self._buckets[name] = Bucket(name, backend, self._now)
            return self._buckets[name]

    def names(self) -> list[str]:
        """The names of all buckets, sorted."""
        with self._lock:
            return sorted(self._buckets)

    def close(self) -> None:
        """Close the backends of the buckets that clients created."""
        for backend in self._made:
            backend.close()


class DirectoryBuckets:
    """
    Every folder of a directory is a bucket.

    Args:
        directory: it is made if it is missing, for this user alone. Folders that come or go while the server runs are
            seen. A symbolic link is not a bucket, since it may lead anywhere.
    """

    def __init__(self, directory: Path) -> None:
        self._lock = threading.Lock()
        self._opened: dict[str, Bucket] = {}
        directory.mkdir(_PRIVATE, parents=True, exist_ok=True)
        self._directory = Path(os.path.realpath(directory))

    def find(self, name: str) -> Bucket | None:
        """The bucket that this folder is, or None."""
        folder = self._directory / name
        if not _is_bucket(folder):
            return None
        with self._lock:
            if name not in self._opened:
                backend = LocalBackend(folder)
                if backend.directory != folder:  # a link has taken its place meanwhile
                    return None
                self._opened[name] = Bucket(name, backend, folder.stat().st_mtime)
            return self._opened[name]

    def create(self, name: str) -> Bucket:
        """Make a folder."""
        check_name(name)
        with suppress(FileExistsError):
            (self._directory / name).mkdir(_PRIVATE)
        found = self.find(name)
        if found is None:
            raise OSSError("BucketAlreadyExists", "A file or a link of that name stands there.")
        return found

    def names(self) -> list[str]:
        """The names of all folders that can be buckets, sorted."""
        return sorted(path.name for path in self._directory.iterdir() if _is_bucket(path))

    def close(self) -> None:
        """Close the backends of all folders that were used."""
        with self._lock:
            for bucket in self._opened.values():
                bucket.backend.close()


def _is_bucket(folder: Path) -> bool:
    return bool(_BUCKET_NAME.fullmatch(folder.name)) and folder.is_dir() and not folder.is_symlink()


def check_name(name: str) -> None:
    """
    Refuse what can't be the name of a bucket.

    Raises:
        OSSError: InvalidBucketName.
    """
    if not _BUCKET_NAME.fullmatch(name):
        raise OSSError("InvalidBucketName", elements={"BucketName": name})
