"""
Reading and deleting objects, which `MultipartBackend` leaves out since uploads need neither.

A backend that has the methods of `ObjectAccess` itself is used as it is. For the two first-party ones that keep the
bytes at hand there is an adapter. With any other backend GET, DELETE and the lists of objects answer NotImplemented.
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
    """Optional, beside `MultipartBackend`: what a server needs to give objects back."""

    def open_object(self, key: str) -> BinaryIO:
        """
        The bytes of an object, seekable; the caller closes it.

        Raises:
            KeyError: there is no such object.
        """

    def delete_object(self, key: str) -> None:
        """Delete an object; one that is not there is fine."""

    def list_objects(self, prefix: str = "") -> Iterable[str]:
        """The keys that start with `prefix`, in any order."""

    def modified_at(self, key: str) -> float | None:
        """When the object was last changed, in seconds since 1970; None where that is not known."""

    def describe(self, key: str) -> ObjectOptions | None:
        """The options that the object was stored with; None where there is no object."""


def access_to(backend: MultipartBackend) -> ObjectAccess | None:
    """A way to read what `backend` stores, if there is one."""
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
        storage = self._backend._storage  # noqa: SLF001 -- the fake has no back door that deletes
        with storage.lock:
            storage.objects.pop(key, None)

    def list_objects(self, prefix: str = "") -> Iterable[str]:
        keys = self._backend.keys()
        return [key for key in keys if key.startswith(prefix)]

    def modified_at(self, key: str) -> float | None:  # noqa: ARG002 -- the fake keeps no time of objects
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
        # The one that is not on Windows stays below the root, whatever is put in place of a folder meanwhile.
        for folder, folders, files, *_ in getattr(os, "fwalk", os.walk)(root):
            place = Path(folder).relative_to(root)
            # The folder of the books is no way to a key, nor is a link that leads out of the directory.
            folders[:] = [name for name in folders if self._is_key((place / name).as_posix())]
            keys = ((place / name).as_posix() for name in files)
            yield from (key for key in keys if self._is_key(key))

    def _is_key(self, key: str) -> bool:
        try:
            self._backend.path_of(key)
        except InvalidKey:
            return False
        return True
