"""
The errors that all stores raise, with the same message and hint.

Each function returns one.
"""

from __future__ import annotations

import errno

from partwise._durable import Untrusted
from partwise._validation import brief, printable
from partwise.checkpoint import Checkpoint
from partwise.errors import CheckpointBusy, CheckpointError, CheckpointUnwritable, ClaimLost, StoreClosed

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}


def describe_upload(checkpoint: Checkpoint) -> str:
    """Return the upload of a checkpoint as messages name it."""
    return f"the upload of {checkpoint.source!r} to {checkpoint.key!r} at {printable(checkpoint.location)}"


def closed_error(store: object) -> StoreClosed:
    """Return the error of a store that is used after `close`."""
    return StoreClosed(f"{store!r} was closed", hint="Open another one in its place")


def busy_error(upload: str, *, by: str, name: str, where: str | None = None) -> CheckpointBusy:
    """Return the error of a claim while `by`, such as "another process", holds it."""
    return CheckpointBusy(
        f"{upload} is in progress: {by} has claimed its checkpoint. Nothing was sent",
        name=name,
        where=where,
        hint="Wait until that upload has finished, or stop it, and repeat the call",
    )


def not_found_error(name: str, where: str | None = None) -> CheckpointError:
    """Return the error of a part for a checkpoint that does not exist."""
    return CheckpointError(
        f"a part can't be appended: there is no checkpoint {name}{f' in {where}' if where else ''}",
        name=name,
        where=where,
        hint="Save the checkpoint first",
    )


def claim_lost_error(upload_id: str | None, found: str | None, *, name: str, where: str | None = None) -> ClaimLost:
    """
    Return the error of a change for another upload than the recorded one.

    Args:
        upload_id: the upload that the change is meant for; None: one that was not initiated yet.
        found: the upload that is recorded.
        name: the name of the checkpoint.
        where: its path or URL.
    """
    return ClaimLost(
        f"the checkpoint {name}{f' in {where}' if where else ''} belongs to {_upload(found)} now, not to"
        f" {_upload(upload_id)}: another run has claimed it. It was not changed",
        name=name,
        where=where,
        hint="Wait until that run has finished, or stop it, and repeat the call",
    )


def _upload(upload_id: str | None) -> str:
    return "an upload without an id" if upload_id is None else f"upload {brief(upload_id)}"


def unwritable_error(error: OSError, where: str, *, name: str | None = None) -> CheckpointUnwritable:
    """Return the error of a failed write, to be raised ``from`` the OSError."""
    why = reason(error)
    if error.errno in _NO_SPACE:
        hint = "Free some space there"
    elif isinstance(error, Untrusted):
        why += ". It was not changed"
        hint = "Move it away, or keep the checkpoint elsewhere"
    elif _is_locked(error):
        hint = "Wait until that program has finished, or keep the checkpoint elsewhere"
    else:
        hint = "Make that path writable, or keep the checkpoint elsewhere"
    return CheckpointUnwritable(
        f"the checkpoint can't be written to {where}: {why}",
        name=name,
        where=where,
        retryable=_is_locked(error),
        hint=hint,
    )


def unreadable_error(error: OSError, where: str, *, name: str | None = None) -> CheckpointError:
    """Return the error of a failed read, to be raised ``from`` the OSError."""
    return CheckpointError(
        f"the checkpoint in {where} can't be read: {reason(error)}. It was not changed",
        name=name,
        where=where,
        retryable=_is_locked(error),
    )


def _is_locked(error: OSError) -> bool:
    """Return whether another program uses the file, so that waiting may help."""
    return error.errno == errno.EBUSY


def reason(error: OSError) -> str:
    """
    Return the operating system's reason, without the path.

    The message already names the path.
    """
    if isinstance(error, Untrusted):
        return f"{error.filename} {error.strerror}"  # the path may be that of a file beside the named one
    return error.strerror or str(error)
