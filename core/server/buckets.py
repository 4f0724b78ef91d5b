"""
Buckets by name, with what the server keeps about their objects and uploads.

The backend stores the bytes. `ObjectInfo` and `UploadInfo` hold what `MultipartBackend` does not return: content type
and cache headers, storage class, times, the options of an upload. They are valid for one version of an object: if an
object was written without the server, the server has no information about it.
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
from partwise.checksums import Checksum
from partwise.model import MIB, ObjectOptions, StoredObject, UploadedPart
from partwise.protocols import MultipartBackend
from partwise.server.access import ObjectAccess, access_to
from partwise.server.errors import ServiceError
from partwise.server.recent import Recent

# Limits of what the server remembers; the oldest entries are dropped. The number of parts is that of ten uploads of the
# maximum size.
_INFOS_MAX = 20_000
_INFO_BYTES_MAX = 16 * MIB
_PART_TIMES_MAX = 100_000

#: The mode of new folders: only their owner has access.
_PRIVATE = 0o700

_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


@define(frozen=True)
class ObjectInfo:
    """What HEAD shows of one version of an object."""

    stored: StoredObject  # the description by the backend
    etag: str  # as clients see it, without quotes
    options: ObjectOptions  # the options that it was stored with
    object_type: str  # ``"Normal"`` or ``"Multipart"``
    modified: float  # when it was stored, in seconds since 1970
    content_md5: str | None = None  # the value of the Content-MD5 header; None for an object that is made of parts
    headers: tuple[tuple[str, str], ...] = ()  # further headers that HEAD shows
    checksums: tuple[tuple[str, str], ...] = ()  # headers that HEAD shows if it asks for checksums
    customer_key: str | None = None  # the MD5 of the customer's key that encrypts it


@define(frozen=True)
class UploadInfo:
    """What the server knows of a pending upload."""

    options: ObjectOptions = field(factory=ObjectOptions)  # the options that it was initiated with
    sequential: bool = False  # its parts must be uploaded in order
    headers: tuple[tuple[str, str], ...] = ()  # further headers that HEAD of its object shows
    checksum: Checksum | None = None  # the algorithm of its parts' checksums, where clients choose one
    composite: bool = False  # the checksum of its object is that of the checksums of its parts
    customer_key: str | None = None  # the MD5 of the customer's key that encrypts it
    names_checksum: bool = False  # the client has chosen `checksum`, so its parts must have no other one


class Bucket:
    """One bucket. `created` is in seconds since 1970."""

    def __init__(self, name: str, backend: MultipartBackend, created: float) -> None:
        self.name = name
        self.backend = backend
        self.created = created
        self._access = access_to(backend)
        self.objects: Recent[str, ObjectInfo] = Recent(_INFOS_MAX, _INFO_BYTES_MAX)  # by key
        self.uploads: Recent[str, UploadInfo] = Recent(_INFOS_MAX, _INFO_BYTES_MAX)  # the pending ones, by id
        self.part_times: Recent[tuple[str, int], float] = Recent(_PART_TIMES_MAX, _PART_TIMES_MAX)
        #: The ETag of a part, and the checksum that the server computed of it, by upload id and number.
        self.part_checksums: Recent[tuple[str, int], tuple[str, int]] = Recent(_PART_TIMES_MAX, _PART_TIMES_MAX)

    @property
    def access(self) -> ObjectAccess:
        """The access to its objects; raises ServiceError if the backend can't read them."""
        if self._access is None:
            raise ServiceError("NotImplemented", f"{type(self.backend).__name__} can't read, list and delete objects.")
        return self._access

    def object(self, key: str) -> ObjectInfo | None:
        """Return what is known of the object under `key`; None if it does not exist."""
        stored = self.backend.head_object(key)
        if stored is None:
            self.objects.drop(key)
            return None
        known = self.objects.get(key)
        if known is not None and (known.stored.etag, known.stored.size) == (stored.etag, stored.size):
            return known
        options, modified = None, None
        if self._access is not None:
            options, modified = self._access.describe(key), self._access.modified_at(key)
        return ObjectInfo(
            stored,
            stored.etag.strip('"'),
            ObjectOptions(metadata=stored.metadata) if options is None else options,
            "Normal",
            self.created if modified is None else modified,
        )

    def remember_object(self, info: ObjectInfo) -> None:
        """Remember an object that was stored."""
        self.objects.put(info.stored.key, info, len(repr(info)))

    def upload(self, upload_id: str) -> UploadInfo:
        """Return what is known of an upload; nothing if another server initiated it."""
        return self.uploads.get(upload_id) or UploadInfo()

    def part_time(self, upload_id: str, part: UploadedPart) -> float:
        """Return when a part was stored; if that is unknown, when the bucket was created."""
        time = self.part_times.get((upload_id, part.part_number))
        return self.created if time is None else time


class Buckets(Protocol):
    """The buckets of a server."""

    def find(self, name: str) -> Bucket | None:
        """Return the bucket of this name, or None."""

    def create(self, name: str) -> Bucket:
        """Create a bucket, or return the existing one unchanged."""

    def names(self) -> list[str]:
        """Return the names of all buckets, sorted."""

    def close(self) -> None:
        """Close the backends that were created here."""


class GivenBuckets:
    """
    Buckets over given backends, which the caller closes.

    Buckets that clients create are in memory.
    """

    def __init__(self, backends: Mapping[str, MultipartBackend], now: float) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._own_backends: list[MultipartBackend] = []
        self._buckets = {name: Bucket(name, backend, now) for name, backend in backends.items()}

    def find(self, name: str) -> Bucket | None:
        with self._lock:
            return self._buckets.get(name)

    def create(self, name: str) -> Bucket:
        check_name(name)
        with self._lock:
            if name not in self._buckets:
                backend = MemoryBackend()
                self._own_backends.append(backend)
                self._buckets[name] = Bucket(name, backend, self._now)
            return self._buckets[name]

    def names(self) -> list[str]:
        with self._lock:
            return sorted(self._buckets)

    def close(self) -> None:
        """Close the backends of the buckets that clients created."""
        for backend in self._own_backends:
            backend.close()


class DirectoryBuckets:
    """
    The folders of a directory as buckets.

    Args:
        directory: created if it does not exist, with access for this user only. Folders that are added or removed while
            the server runs are noticed. A symbolic link is not a bucket, because it can point anywhere.
    """

    def __init__(self, directory: Path) -> None:
        self._lock = threading.Lock()
        self._opened: dict[str, Bucket] = {}
        directory.mkdir(_PRIVATE, parents=True, exist_ok=True)
        self._directory = Path(os.path.realpath(directory))

    def find(self, name: str) -> Bucket | None:
        folder = self._directory / name
        # The name may come from a Host header. An absolute path, or one with slashes, would replace or leave the
        # directory.
        if not _BUCKET_NAME.fullmatch(name) or not _is_bucket(folder):
            return None
        with self._lock:
            if name not in self._opened:
                backend = LocalBackend(folder)
                if backend.directory != folder:  # it was replaced by a link meanwhile
                    return None
                self._opened[name] = Bucket(name, backend, folder.stat().st_mtime)
            return self._opened[name]

    def create(self, name: str) -> Bucket:
        check_name(name)
        with suppress(FileExistsError):
            (self._directory / name).mkdir(_PRIVATE)
        found = self.find(name)
        if found is None:
            raise ServiceError("BucketAlreadyExists", "A file or a link has this name.")
        return found

    def names(self) -> list[str]:
        return sorted(path.name for path in self._directory.iterdir() if _is_bucket(path))

    def close(self) -> None:
        """Close the backends of all opened folders."""
        with self._lock:
            for bucket in self._opened.values():
                bucket.backend.close()


def _is_bucket(folder: Path) -> bool:
    return bool(_BUCKET_NAME.fullmatch(folder.name)) and folder.is_dir() and not folder.is_symlink()


def check_name(name: str) -> None:
    """Raise an InvalidBucketName error if a bucket name is invalid."""
    if not _BUCKET_NAME.fullmatch(name):
        raise ServiceError("InvalidBucketName", elements={"BucketName": name})
