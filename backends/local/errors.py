"""Translate errors of the operating system to errors of partwise."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from partwise._os_errors import IN_USE_WINDOWS, is_transient
from partwise.errors import AccessDenied, BackendError, BucketNotFound, InvalidKey, ServerFailed


def _numbers(*names: str) -> frozenset[int]:
    # Not every system defines each of them.
    return frozenset(getattr(errno, name) for name in names if hasattr(errno, name))


_FULL = _numbers("ENOSPC", "EDQUOT")
_DENIED = _numbers("EACCES", "EPERM", "EROFS")
_NO_DIRECTORY = _numbers("ENOTDIR", "EEXIST", "ELOOP")
_TOO_LONG = _numbers("ENAMETOOLONG")

#: What messages say about the object by default: a failure before the object gets its name has not changed any object.
NO_OBJECT_CHANGED = "no object was changed"


class translate_os_errors:  # noqa: N801  # it is used as contextlib.suppress is
    """
    Translate an OSError that leaves the context to an error of partwise.

    The context can be entered repeatedly.

    Args:
        doing: the operation and its object, for the message, as in "storing 'key'".
        bucket: the bucket's directory.
        kept: what is certain about the object, for the message.
        missing: called when a file is missing; returns the error that this means, if it means one. If it returns None,
            another program removed the file, and the error is transient.
    """

    def __init__(
        self,
        doing: str,
        bucket: Path,
        *,
        kept: str = NO_OBJECT_CHANGED,
        missing: Callable[[], BackendError | None] = lambda: None,
    ) -> None:
        self._doing = doing
        self._bucket = bucket
        self._kept = kept
        self._missing = missing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            meaning = self._missing() if isinstance(error, FileNotFoundError) else None
            raise (meaning or translated(error, self._doing, self._bucket, self._kept)) from error


def translated(error: OSError, doing: str, bucket: Path, kept: str = NO_OBJECT_CHANGED) -> BackendError | InvalidKey:
    """
    Return the error of partwise for an error of the operating system.

    The arguments are those of `translate_os_errors`. If the disk is full, the message names the disk of `bucket`.
    """
    code = errno.errorcode.get(error.errno or 0)
    if error.errno in _NO_DIRECTORY and _is_not_a_directory(str(bucket)):
        return BucketNotFound(f"{doing} failed: {bucket} is not a directory; {kept}", code=code)
    if error.errno in _FULL:
        mount = _mount_point(bucket)
        disk = f"{mount}" if mount == bucket else f"{mount}, which holds {bucket},"
        return ServerFailed(
            f"{doing} failed: the disk at {disk} is full or its quota is used up; {kept}, and the parts stored so far"
            " are kept",
            code=code,
            retryable=False,
            hint="Free some space",
        )
    place = f" ({error.filename})" if error.filename is not None else ""
    message = f"{doing} in {bucket} failed: {error.strerror or error}{place}; {kept}"
    if error.errno in _TOO_LONG:
        return InvalidKey(message, hint="Choose a shorter key")
    kind, hint = _kind_and_hint(error)
    return kind(message, code=code, hint=hint)


def _kind_and_hint(error: OSError) -> tuple[type[BackendError], str]:
    if getattr(error, "winerror", None) in IN_USE_WINDOWS:
        return ServerFailed, "Close the file in the other program that has it open"
    # If another program removed a file or directory, the next attempt creates it again, or reports it missing.
    if is_transient(error) or error.errno == errno.ENOENT:
        return ServerFailed, ""
    if error.errno in _DENIED:
        return AccessDenied, "Give this user permission to read, write and enter the directory"
    return BackendError, ""


def _is_not_a_directory(path: str) -> bool:
    # Not by methods of Path, which raise most errors: this is called while another one is handled.
    is_something_else = os.path.exists(path) and not os.path.isdir(path)  # noqa: PTH110, PTH112
    return os.path.islink(path) or is_something_else  # noqa: PTH114


def _mount_point(path: Path) -> Path:
    while not os.path.ismount(path) and path != path.parent:
        path = path.parent
    return path
