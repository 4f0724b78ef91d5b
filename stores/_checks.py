"""What every store has to check and to say, in one place, so that they refuse alike."""

from __future__ import annotations

import errno
import hashlib
import re

from partwise._durable import Untrusted
from partwise._validation import brief, check_type
from partwise.checkpoint import Checkpoint
from partwise.errors import (
    CheckpointBusy,
    CheckpointError,
    CheckpointUnwritable,
    InvalidInput,
    StoreClosed,
)
from partwise.model import UploadedPart

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}


def check_name(name: object) -> str:
    """
    The name, if it can be one.

    Raises:
        InvalidInput: it is empty, or no text.
    """
    if not isinstance(name, str) or not name:
        raise InvalidInput(f"the name of a checkpoint is a text that is not empty, not {brief(name)}")
    return name


def check_checkpoint(checkpoint: object) -> None:
    """
    Refuse what is not a checkpoint.

    Raises:
        InvalidInput: it is of another type.
    """
    check_type("what a store saves", checkpoint, Checkpoint, "a Checkpoint")


def check_receipt(part: object) -> None:
    """
    Refuse what is not the receipt of a part.

    Raises:
        InvalidInput: it is of another type.
    """
    check_type("the receipt of a part", part, UploadedPart, "an UploadedPart")


def plain_name(name: str) -> str:
    """
    The name in characters that every file system and database keeps apart: hexadecimal digits.

    The engine's names stand for themselves. Any other is told by its digest, which is longer than those.
    """
    if re.fullmatch("[0-9a-f]{32}", name):
        return name
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def nearly(found: bytes, expected: bytes) -> bool:
    """Whether three of four bytes are as expected: then it is the same thing with an edit or two."""
    return 4 * sum(left == right for left, right in zip(found, expected, strict=False)) >= 3 * len(found)


def upload_of(checkpoint: Checkpoint) -> str:
    """The upload that a checkpoint is of, as messages name it."""
    return f"the upload of {checkpoint.source!r} to {checkpoint.key!r} at {checkpoint.location}"


def closed(store: object) -> StoreClosed:
    """The error of a store that is used after `close`."""
    return StoreClosed(f"{store!r} was closed; open another on the same place")


def busy(upload: str, *, by: str, name: str, where: str | None = None) -> CheckpointBusy:
    """
    The error of a second claim.

    Args:
        upload: which upload is claimed, as `upload_of` names it.
        by: who holds the claim, such as "another process".
        name: the checkpoint's name.
        where: its place.
    """
    return CheckpointBusy(
        f"{upload} is under way already: {by} holds its checkpoint. Nothing was sent. Wait until that one is done, or "
        "stop it, and run the same call again",
        name=name,
        where=where,
    )


def absent(name: str, where: str | None = None) -> CheckpointError:
    """The error of a receipt that has no checkpoint to be added to."""
    return CheckpointError(
        f"there is no checkpoint {name}{f' in {where}' if where else ''} to add a part to: save it first",
        name=name,
        where=where,
    )


def unwritable(error: OSError, where: str, *, name: str | None = None) -> CheckpointUnwritable:
    """What an error of the operating system on writing means to a person; raise it ``from`` that error."""
    if error.errno in _NO_SPACE:
        advice = "free some space there"
    elif isinstance(error, Untrusted):
        advice = "it was left as it is: move it away, or name another place for the checkpoint"
    elif error.errno == errno.EBUSY:
        advice = "wait until that one is done, or name another place for the checkpoint"
    else:
        advice = "make the place writable, or name another one for the checkpoint"
    return CheckpointUnwritable(
        f"the checkpoint can't be written to {where}: {reason(error)}; {advice}", name=name, where=where
    )


def unreadable(error: OSError, where: str, *, name: str | None = None) -> CheckpointError:
    """What an error of the operating system on reading means to a person; raise it ``from`` that error."""
    return CheckpointError(
        f"the checkpoint in {where} can't be read: {reason(error)}; it was left as it is", name=name, where=where
    )


def reason(error: OSError) -> str:
    """Why, in the operating system's words, without the path that the message has already."""
    if isinstance(error, Untrusted):
        return f"{error.filename} {error.strerror}"  # it may be a file beside the one that the message names
    return error.strerror or str(error)
