"""
Claims: an operating system lock on a small file.

The system releases such a lock when the process ends, for whatever reason. Beyond `filelock` this module guarantees:

- The lock file is removed when the claim is released, while the lock is still held. A process that opened the file
  before then locks a file without a name; filelock checks for this and gives such a lock up.
- Claims of this process are checked first, in a table. On some network file systems a process can't lock itself out,
  and closing a second descriptor would even release the lock of the first one.
- A child forked while the claim was held does not own the claim: leaving the context in the child changes nothing.
  filelock closes the child's copy of the descriptor, which would keep the lock alive; versions before 3.30 do not.
- A lock that is only the existence of a file is refused: it would outlive a killed process.

Beside the lock ``PATH.lock``, the file ``PATH.owner`` records which process holds it: see `_owners`. The lock file
itself stays empty, since earlier versions refuse any other.
"""

# Paths are strings here, since most are used for one system call each.

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
from partwise.stores import _owners as owners
from partwise.stores._errors import busy_error, unwritable_error


class _Holder:
    """
    Weakly referenced by `_held`, so that it ends with its frame.

    This releases a claim that was interrupted before its cleanup.
    """


_held: WeakValueDictionary[str, _Holder] = WeakValueDictionary()
_held_lock = threading.Lock()


def _clear_after_fork() -> None:
    global _held_lock  # noqa: PLW0603  # another thread may have held it at the moment of the fork
    _held.clear()
    _held_lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    os.register_at_fork(after_in_child=_clear_after_fork)


@contextmanager
def claim(path: str, *, name: str, where: str, describe: Callable[[], str]) -> Iterator[None]:
    """
    Hold the lock on `path` while the context is open. Its directory must exist.

    The file is created, and removed where that is safe. The other arguments are for the error.

    Raises:
        CheckpointBusy: it is held, in this process or in another.
        CheckpointUnwritable: a lock is not available there.
    """
    process = os.getpid()
    key = os.path.realpath(path)
    holder = _Holder()
    with _held_lock:
        taken = _held.setdefault(key, holder) is not holder
    if taken:
        raise busy_error(describe(), by="another run in this process", name=name, where=where)
    try:
        try:
            lock = _acquire(path)
        except Timeout:
            # filelock's error would add only that the lock file is locked.
            raise busy_error(describe(), by="another process", name=name, where=where) from None
        except OSError as error:
            raise unwritable_error(error, where, name=name) from error
        try:
            owners.write_record(owner_path(path))
            yield
        finally:
            if os.getpid() == process:
                _release(lock, path)
    finally:
        if os.getpid() == process:
            with _held_lock:
                _held.pop(key, None)


def owner_path(path: str) -> str:
    """Return the file that records who holds the lock on `path`."""
    return f"{path.removesuffix('.lock')}.owner"


def _acquire(path: str) -> BaseFileLock:
    with suppress(FileNotFoundError):
        if files.check_trusted(path).st_size:
            raise FileExistsError(errno.EEXIST, f"{path} is not a lock file: it is not empty")
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
    # Another file may have been put there after the first check.
    with suppress(FileNotFoundError):
        files.check_trusted(path)


def _release(lock: BaseFileLock, path: str) -> None:
    # On Windows an open file can't be removed: filelock removes it there after closing.
    owners.remove_record(owner_path(path))
    with ignored(OSError):
        files.remove(path)
    lock.release()
