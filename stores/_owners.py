"""
Which process holds a claim, for people.

It is recorded beside the lock, or in the row of the checkpoint, and decides nothing: a claim is a lock of the system or
of the database. A record may be missing, since earlier versions write none, and may be anything, since others may have
written it.
"""

from __future__ import annotations

import os
import re

from partwise import _durable as files
from partwise._signals import ignored
from partwise.model import ClaimOwner

#: A host name has up to 255 characters, a process id up to 10 digits.
_RECORD = re.compile(rb"([1-9][0-9]{0,9}) ([A-Za-z0-9._-]{1,255})")

#: A file begins with this, so that it is not mistaken for another one of the same name.
_BEGIN = b"partwise claim "
_FILE_BYTES_MAX = 300


def record_text() -> str:
    """Return the record of this process: its id, and the name of its host."""
    host = os.environ.get("COMPUTERNAME", "") if os.name == "nt" else os.uname().nodename
    return f"{os.getpid()} {re.sub('[^A-Za-z0-9._-]', '-', host)[:255] or 'unknown'}"


def parse_record(text: bytes) -> ClaimOwner | None:
    """Return the process that a record names; None for anything else."""
    found = _RECORD.fullmatch(text)
    return None if found is None else ClaimOwner(found[2].decode(), int(found[1]))


def write_record(path: str) -> None:
    """
    Record this process in a file, which replaces the record of an earlier process.

    Any other file is kept, and nothing is recorded then. A failure is ignored: the record is only for people.
    """
    remove_record(path)
    with ignored(OSError):
        file = files.create_private(path)
        try:
            files.write(file, _BEGIN + f"{record_text()}\n".encode())
        finally:
            os.close(file)


def remove_record(path: str) -> None:
    """
    Remove a file that is a record; ignore a failure.

    After a power loss, it may be only the beginning of one, and bytes of it may be zeros.
    """
    with ignored(OSError):
        text = files.read(path, _FILE_BYTES_MAX + 1)
        if len(text) <= _FILE_BYTES_MAX and all(one in (0, own) for one, own in zip(text, _BEGIN, strict=False)):
            files.remove(path)


def read_record(path: str) -> ClaimOwner | None:
    """
    Return the process that a file records.

    None if there is no record, or one of a process of this host that has ended: a process that is killed leaves its
    record, and a claim of an earlier version does not replace it.
    """
    try:
        text = files.read(path, _FILE_BYTES_MAX)
    except OSError:
        return None
    is_whole = text.startswith(_BEGIN) and text.endswith(b"\n")
    owner = parse_record(text[len(_BEGIN) : -1]) if is_whole else None
    return None if owner is None or _has_ended(owner) else owner


def _has_ended(owner: ClaimOwner) -> bool:
    """Return whether it is a process of this host, and has ended."""
    this = parse_record(record_text().encode())
    if os.name == "nt" or this is None or owner.host != this.host:  # on Windows, os.kill would end the process
        return False
    try:
        os.kill(owner.process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # of another user
        return False
    return False
