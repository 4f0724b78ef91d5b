"""
Access to stored objects, which `MultipartBackend` does not have.

Uploads do not need it. A backend that has the methods of `ObjectAccess` is used directly. `MemoryBackend` and
`LocalBackend` have an adapter here. With any other backend, GET, DELETE and lists of objects fail with NotImplemented.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

from attrs import define

from partwise.backends.local import LocalBackend
from partwise.backends.memory import MemoryBackend
from partwise.errors import InvalidKey
from partwise.model import ObjectOptions
from partwise.protocols import MultipartBackend


@runtime_checkable
class ObjectAccess(Protocol):
    """Optional methods of a backend that a server needs: read, list, delete objects."""

    def open_object(self, key: str) -> BinaryIO:
        """
        Open an object for reading. The file is seekable; the caller closes it.

        Raises:
            KeyError: the object does not exist.
        """

    def delete_object(self, key: str) -> None:
        """Delete an object; do nothing if it does not exist."""

    def list_objects(self, prefix: str = "") -> Iterable[str]:
        """Return the keys that start with `prefix`, in any order."""

    def modified_at(self, key: str) -> float | None:
        """Return when the object last changed, in seconds since 1970; None if unknown."""

    def describe(self, key: str) -> ObjectOptions | None:
        """Return the options that the object was stored with; None if it does not exist."""


def access_to(backend: MultipartBackend) -> ObjectAccess | None:
    """Return the access to the objects of a backend, or None if it has none."""
    if isinstance(backend, ObjectAccess):
        return backend
    if isinstance(backend, MemoryBackend):
        return _MemoryAccess(backend)
    if isinstance(backend, LocalBackend):
        return _LocalAccess(backend)
    return None


@define(frozen=True)
class _MemoryAccess:
    _backend: MemoryBackend

    def open_object(self, key: str) -> BinaryIO:
        return BytesIO(self._backend.read(key))

    def delete_object(self, key: str) -> None:
        storage = self._backend._storage  # noqa: SLF001 -- MemoryBackend has no public delete
        with storage.lock:
            storage.objects.pop(key, None)

    def list_objects(self, prefix: str = "") -> Iterable[str]:
        keys = self._backend.keys()
        return [key for key in keys if key.startswith(prefix)]

    def modified_at(self, key: str) -> float | None:  # noqa: ARG002 -- MemoryBackend keeps no times
        return None

    def describe(self, key: str) -> ObjectOptions | None:
        return self._backend.describe(key)


@define(frozen=True)
class _LocalAccess:
    _backend: LocalBackend

    def open_object(self, key: str) -> BinaryIO:
        return self._backend.open_object(key)

    def delete_object(self, key: str) -> None:
        self._backend.delete_object(key)

    def list_objects(self, prefix: str = "") -> Iterable[str]:
        return [key for key in self._keys() if key.startswith(prefix)]

    def modified_at(self, key: str) -> float | None:
        try:
            return self._backend.path_of(key).stat().st_mtime
        except (FileNotFoundError, NotADirectoryError):
            return None

    def describe(self, key: str) -> ObjectOptions | None:
        return self._backend.describe(key)

    def _keys(self) -> Iterator[str]:
        root = self._backend.directory
        # `fwalk` does not exist on Windows. It stays below the root even if a folder is replaced by a link meanwhile.
        for folder, folders, files, *_ in getattr(os, "fwalk", os.walk)(root):
            parent = Path(folder).relative_to(root)
            # Neither the metadata folder of the backend nor a link out of the directory is a valid key.
            folders[:] = [name for name in folders if self._is_key((parent / name).as_posix())]
            keys = ((parent / name).as_posix() for name in files)
            yield from (key for key in keys if self._is_key(key))

    def _is_key(self, key: str) -> bool:
        try:
            self._backend.path_of(key)
        except InvalidKey:
            return False
        return True
