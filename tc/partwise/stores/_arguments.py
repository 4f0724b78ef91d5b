"""Checks of arguments: all stores refuse the same values."""

from __future__ import annotations

from partwise._validation import brief, check_type
from partwise.checkpoint import Checkpoint
from partwise.errors import InvalidInput
from partwise.model import UploadedPart


def check_name(name: object) -> str:
    """Return the name of a checkpoint; raise InvalidInput if it is empty or no text."""
    if not isinstance(name, str) or not name:
        raise InvalidInput(f"the name of a checkpoint must be a text that is not empty, not {brief(name)}")
    return name


def check_checkpoint(checkpoint: object) -> None:
    """Raise InvalidInput if the value is not a checkpoint."""
    check_type("the checkpoint to save", checkpoint, Checkpoint, "a Checkpoint")


def check_upload_id(upload_id: object) -> None:
    """Raise InvalidInput if the value is not the id of an upload."""
    check_type("the upload id", upload_id, str, "a string")


def check_optional_upload_id(upload_id: object) -> None:
    """Raise InvalidInput if the value is neither the id of an upload nor None."""
    check_type("the upload id", upload_id, (str, type(None)), "a string or None")


def check_part(part: object) -> None:
    """Raise InvalidInput if the value is not an uploaded part."""
    check_type("the part to append", part, UploadedPart, "an UploadedPart")
