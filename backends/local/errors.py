"""What the operating system's errors mean to an upload."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from partwise._os_errors import IN_USE_WINDOWS, is_transient
from partwise.errors import AccessDenied, BackendError, BucketNotFound, InvalidKey, ServerFailed


def _numbers(*names: str) -> frozenset[int]:
    # Not every system knows each of them.
    return frozenset(getattr(errno, name) for name in names if hasattr(errno, name))


_FULL = _numbers("ENOSPC", "EDQUOT")
_DENIED = _numbers("EACCES", "EPERM", "EROFS")
_NO_DIRECTORY = _numbers("ENOTDIR", "EEXIST", "ELOOP")
_TOO_LONG = _numbers("ENAMETOOLONG")

#: What is said of the object by default: nothing that fails before it gets its name has changed one.
NO_OBJECT_CHANGED = "no object was changed"


class Translating:
    """
    A context in which an error of the operating system becomes one of the tree; it can be entered many times.

    Args:
        doing: what is being done, to which object, for the message.
        root: the bucket's directory.
        kept: what is sure about the object, for the message.
        missing: asked when a file is not there: what that means, or None if it has no meaning but that another program
            removed it, which is an error that passes.
    """

    def __init__(
        self,
        doing: str,
        root: Path,
        *,
        kept: str = NO_OBJECT_CHANGED,
        missing: Callable[[], BackendError | None] = lambda: None,
    ) -> None:
        self._doing = doing
        self._root = root
        self._kept = kept
        self._missing = missing

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            meaning = self._missing() if isinstance(error, FileNotFoundError) else None
            raise (meaning or translated(error, self._doing, self._root, self._kept)) from error


def translated(error: OSError, doing: str, root: Path, kept: str = NO_OBJECT_CHANGED) -> BackendError | InvalidKey:
    """
    The error of the tree for one of the operating system.

    Args:
        error: what the operating system said.
        doing: what was being done, for the message.
        root: the bucket's directory, by which the disk is named when it is full.
        kept: what is sure about the object.
    """
    code = errno.errorcode.get(error.errno or 0)
    if error.errno in _NO_DIRECTORY and (root.is_symlink() or (root.exists() and not root.is_dir())):
        return BucketNotFound(f"{doing} failed: {root} is not a directory; {kept}", code=code)
    if error.errno in _FULL:
        return ServerFailed(
            f"{doing} failed: the disk at {_mount_point(root)}, which holds {root}, is full or its quota is used up; "
            f"{kept}, and the parts stored so far are kept: make room and run the same call again",
            code=code,
            retryable=False,
        )
    kind, advice = _meaning(error)
    place = f" ({error.filename})" if error.filename is not None else ""
    return kind(f"{doing} in {root} failed: {error.strerror or error}{place}; {kept}{advice}", code=code)


def _meaning(error: OSError) -> tuple[Callable[..., BackendError | InvalidKey], str]:
    if getattr(error, "winerror", None) in IN_USE_WINDOWS:
        return ServerFailed, ". Another program has the file open"
    # A file or folder that another program removed in between is there again at the next attempt, or known to be gone.
    if is_transient(error) or error.errno == errno.ENOENT:
        return ServerFailed, ""
    if error.errno in _DENIED:
        return AccessDenied, ". This user must be able to read, write and enter the directory"
    if error.errno in _TOO_LONG:
        return _key_too_long, ". Choose a shorter key"
    return BackendError, ""


def _key_too_long(message: str, *, code: str | None) -> InvalidKey:  # noqa: ARG001  # an InvalidKey has no code
    return InvalidKey(message)


def _mount_point(path: Path) -> Path:
    while not os.path.ismount(path) and path != path.parent:
        path = path.parent
    return path
