"""
The sole right to a checkpoint, by a lock of the operating system on a small file.

The system lets go of such a lock when its process dies, by whatever death. Four things are decided beyond what
`filelock` does:

- The lock file goes when the claim goes, while the lock is still held. Whoever opened the file before it went then
  locks a file without a name; filelock looks, and gives such a lock up.
- A table of the claims of this process is asked first. On some network file systems a process can't lock itself out,
  and closing a second descriptor would even lose the first one's lock.
- A child that was forked while the claim was held has neither the claim nor a say in its end: leaving the context there
  touches nothing. filelock closes the child's copy of the descriptor, which would keep the lock alive. Versions before
  3.30 do not, and so do not serve.
- A lock that is only a file that says so is never taken, since a dead process would hold it for ever.
"""

# Paths are text in here, since most of them are made for one call of the system each.

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from weakref import WeakValueDictionary

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from partwise import _durable as files
from partwise._signals import ignored
from partwise.stores._checks import busy, unwritable


class _Hold:
    """Lives as long as its claim does: a claim that an interrupt kept from being let go of goes with its frame."""


_held: WeakValueDictionary[str, _Hold] = WeakValueDictionary()
_held_lock = threading.Lock()


def _forget_all() -> None:
    global _held_lock  # noqa: PLW0603  # another thread may have held it at the moment of the fork
    _held.clear()
    _held_lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    os.register_at_fork(after_in_child=_forget_all)


@contextmanager
def claim(path: str, *, name: str, where: str, upload: Callable[[], str]) -> Iterator[None]:
    """
    Hold the lock on `path` from entering to leaving; its directory must exist.

    Args:
        path: the lock file, which is made, and removed where that is safe.
        name: the checkpoint's name, for the error.
        where: the checkpoint's place, for the error.
        upload: asked which upload it is, for the error.

    Raises:
        CheckpointBusy: it is held, in this process or in another.
        CheckpointUnwritable: the lock can't be had there at all.
    """
    process = os.getpid()
    place = os.path.realpath(path)
    hold = _Hold()
    with _held_lock:
        taken = _held.setdefault(place, hold) is not hold
    if taken:
        raise busy(upload(), by="another uploader in this process", name=name, where=where)
    try:
        try:
            lock = _acquired(path)
        except Timeout:
            # filelock's error would only repeat that the lock file is locked.
            raise busy(upload(), by="another process", name=name, where=where) from None
        except OSError as error:
            raise unwritable(error, where, name=name) from error
        try:
            yield
        finally:
            if os.getpid() == process:
                _let_go(lock, path)
    finally:
        if os.getpid() == process:
            with _held_lock:
                _held.pop(place, None)


def _acquired(path: str) -> BaseFileLock:
    with suppress(FileNotFoundError):
        if files.check_trusted(path).st_size:
            raise FileExistsError(errno.EEXIST, f"{path} is in the way: it has content, which no lock of ours has")
    lock: BaseFileLock = FileLock(path, mode=0o600, thread_local=False, fallback_to_soft=False)
    lock.acquire(blocking=False)
    try:
        _check_lock(lock, path)
    except BaseException:
        lock.release()
        raise
    return lock


def _check_lock(lock: BaseFileLock, path: str) -> None:
    if isinstance(lock, SoftFileLock):
        raise OSError(errno.ENOSYS, "the file system has no locks that end with their process")
    # Another file may have been put there after the first look.
    with suppress(FileNotFoundError):
        files.check_trusted(path)


def _let_go(lock: BaseFileLock, path: str) -> None:
    # Not on Windows, where an open file can't be removed: filelock does it there after closing.
    with ignored(OSError):
        files.remove(path)
    lock.release()
