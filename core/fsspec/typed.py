"""
What is used of fsspec, with types.

fsspec has no type annotations, so this module declares those that the other ones rely on. At run time, the names are
those of fsspec.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, ClassVar

import fsspec
from fsspec.callbacks import NoOpCallback
from fsspec.compression import compr
from fsspec.core import get_compression
from fsspec.implementations.local import LocalFileSystem

__all__ = ["FileSystem", "Transaction", "compressor", "filesystem", "local_filesystem", "local_path", "reports_nothing"]

if TYPE_CHECKING:

    class Transaction:
        """The base class of transactions."""

        fs: Any
        files: deque[Any]

        def __init__(self, fs: FileSystem) -> None: ...
        def complete(self, commit: bool = True) -> None: ...

    class FileSystem:
        """The base class of filesystems."""

        transaction_type: ClassVar[type[Transaction]]
        cachable: ClassVar[bool]
        protocol: ClassVar[str | tuple[str, ...]]
        root_marker: ClassVar[str]
        storage_options: dict[str, Any]
        transaction: Transaction
        _intrans: bool

        def __init__(self, **storage_options: Any) -> None: ...
        @classmethod
        def _strip_protocol(cls, path: Any) -> Any: ...
        def unstrip_protocol(self, name: str) -> str: ...
        def invalidate_cache(self, path: str | None = None) -> None: ...
        def ls(self, path: Any, detail: bool = True, **kwargs: Any) -> Any: ...
        def info(self, path: Any, **kwargs: Any) -> Any: ...
        def exists(self, path: Any, **kwargs: Any) -> bool: ...
        def isdir(self, path: Any) -> bool: ...
        def isfile(self, path: Any) -> bool: ...
        def created(self, path: Any) -> Any: ...
        def modified(self, path: Any) -> Any: ...
        def sign(self, path: Any, expiration: int = 100, **kwargs: Any) -> Any: ...
        def mkdir(self, path: Any, create_parents: bool = True, **kwargs: Any) -> Any: ...
        def makedirs(self, path: Any, exist_ok: bool = False) -> Any: ...
        def rmdir(self, path: Any) -> Any: ...
        def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> Any: ...
        def rm_file(self, path: Any) -> Any: ...
        def cp_file(self, path1: Any, path2: Any, **kwargs: Any) -> Any: ...
        def get_file(self, rpath: Any, lpath: Any, **kwargs: Any) -> Any: ...
        def open(
            self,
            path: Any,
            mode: str = "rb",
            block_size: int | None = None,
            cache_options: Any = None,
            compression: str | None = None,
            **kwargs: Any,
        ) -> Any: ...

else:
    from fsspec import AbstractFileSystem as FileSystem
    from fsspec.transaction import Transaction


def filesystem(protocol: str) -> FileSystem:
    """Return the filesystem of a protocol, with its default options."""
    found: FileSystem = fsspec.filesystem(protocol)
    return found


def local_filesystem() -> FileSystem:
    """Return the filesystem of local files."""
    found: FileSystem = LocalFileSystem()
    return found


def local_path(path: str) -> str:
    """Return the path of a local file as its filesystem writes it."""
    found: str = LocalFileSystem._strip_protocol(path)  # noqa: SLF001  # fsspec has no other name for it
    return found


def compressor(path: str, compression: str | None) -> Callable[..., IO[bytes]] | None:
    """
    Return what compresses into a file; None for no compression.

    Args:
        path: the path of the file, for the compression ``"infer"``.
        compression: its name, as for `fsspec.open`.

    Raises:
        ValueError: there is no such compression.
    """
    name = get_compression(path, compression)
    return None if name is None else compr[name]


def reports_nothing(callback: object) -> bool:
    """Return whether this is what fsspec passes for no callback."""
    return isinstance(callback, NoOpCallback)
