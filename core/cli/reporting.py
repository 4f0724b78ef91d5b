"""
How a command ended: an error as one line for people, as one object for programs, and as one exit code.

    0    done
    1    failed for good: something has to change first (a right, a bucket, the file)
    2    wrong usage: the line itself has to change
    3    busy: another process has this upload
    75   failed for now: the same line run again may do, and carries on
    130  interrupted by Ctrl-C, 143 by SIGTERM, 129 by the end of its terminal: the same line carries on
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import asdict

from partwise.cli.formatting import count, one_line, share, shown
from partwise.cli.parsing import advice_as_flags, as_flags
from partwise.cli.signals import Stopped
from partwise.errors import (
    BackendError,
    CannotResume,
    CheckpointBusy,
    CheckpointUnwritable,
    IntegrityError,
    InvalidInput,
    OutcomeUnknown,
    PartwiseError,
    SourceError,
    UploadFailed,
    UploadStopped,
)
from partwise.model import StoredObject
from partwise.results import UploadResult

DONE = 0
FAILED = 1
WRONG_USAGE = 2
BUSY = 3
TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h


def exit_code(error: BaseException) -> int:  # noqa: PLR0911  # a table
    """What the process exits with after this error; see the table of this module."""
    match error:
        case Stopped():
            return 128 + error.signal
        case KeyboardInterrupt():
            return 130
        case InvalidInput():
            return WRONG_USAGE
        case CheckpointBusy():
            return BUSY
        case OutcomeUnknown():
            return FAILED
        case UploadFailed() | BackendError() | SourceError() if error.retryable:
            return TRY_AGAIN
    return FAILED


def sentence(error: BaseException, subject: str = "") -> str:
    """
    What happened, what is kept, and what to do, in one line.

    Args:
        error: what a command raised.
        subject: what it was about, such as "backup.tar to oss://bucket/backup.tar".
    """
    return shown(one_line(_sentence(error, shown(subject))))


def _sentence(error: BaseException, subject: str) -> str:  # noqa: PLR0911  # a table
    match error:
        case OutcomeUnknown():
            return f"{error} (here: 'partwise abort', or --no-resume)"
        case UploadFailed() if _says_less_than_its_cause(error):
            return f"{subject or error.key} could not be uploaded: {_reason(error.__cause__)}. {_kept(error)}"
        case CannotResume():
            return (
                f"{subject or 'the upload'} can't be resumed: {error.reason}. Nothing was changed; leave out"
                " --require-resume to send all parts"
            )
        case CheckpointUnwritable():
            return f"{error} (--checkpoint, --checkpoint-dir or --store; --no-resume does without)"
        case InvalidInput():
            return as_flags(str(error))
        case PartwiseError():
            return advice_as_flags(str(error))
        case Stopped():
            return str(error) or "stopped"
        case KeyboardInterrupt():
            return "interrupted"
    return f"{type(error).__name__}: {error}. This is a defect; run with --verbose for the traceback"


def _says_less_than_its_cause(error: UploadFailed) -> bool:
    # An object that is not what was sent is told by the failure itself; so is what has no cause.
    cause = error.__cause__
    return cause is not None and not (isinstance(cause, IntegrityError) and not cause.retryable)


def _reason(cause: BaseException | None) -> str:
    said = advice_as_flags(str(cause)) if isinstance(cause, PartwiseError) else f"{type(cause).__name__}: {cause}"
    return said.rstrip(".")


def _kept(error: UploadStopped) -> str:
    retryable = isinstance(error, UploadFailed) and error.retryable
    if not error.resumable:
        return "Nothing is kept; run the same line again" if retryable else "Nothing is kept"
    again = "run the same line again" if retryable else "put that right and run the same line again"
    return f"Kept: {progress_of(error)}; {again} to carry on"


def progress_of(error: UploadStopped) -> str:
    """How far a stopped upload got: ``8.0 of 64.0 MiB (1 of 8 parts)``."""
    of = "" if error.parts_total is None else f"{error.parts_done:,} of "
    parts = count(error.parts_done if error.parts_total is None else error.parts_total, "part")
    return f"{share(error.bytes_done, error.bytes_total)} ({of}{parts})"


# --- for programs ----------------------------------------------------------------------------------------------------


def success(result: UploadResult) -> dict[str, Any]:
    """A finished upload as one object."""
    return {"ok": True, **result_fields(result)}


def failure(error: BaseException, subject: str = "") -> dict[str, Any]:
    """An error as one object."""
    stop = error.__cause__ if isinstance(error, Stopped) and isinstance(error.__cause__, UploadStopped) else error
    told = {
        "type": type(stop).__name__,
        "message": sentence(error, subject),
        "retryable": exit_code(error) == TRY_AGAIN,
        "resumable": bool(getattr(stop, "resumable", False)),
        **_fields(stop),
    }
    cause = stop.__cause__
    if cause is not None and type(cause) is not type(stop):
        told["cause"] = {"type": type(cause).__name__, "message": one_line(str(cause)), **_fields(cause)}
    return {"ok": False, "error": told, "exit_code": exit_code(error)}


def result_fields(result: UploadResult | StoredObject) -> dict[str, Any]:
    """
    A stored object by the names of its fields. A checksum is a string, since not every reader of JSON keeps 64 bits.
    """
    return {name: _plain(name, value) for name, value in asdict(result).items()}


def _fields(error: BaseException) -> dict[str, Any]:
    """What an error knows beside its message, by name; what it does not know is left out."""
    known = vars(error) if isinstance(error, PartwiseError) else {}
    return {
        name: _plain(name, value)
        for name, value in known.items()
        if not name.startswith("_") and value not in (None, "", (), {})
    }


def _plain(name: str, value: object) -> Any:
    match value:
        case UploadResult() | StoredObject():
            return result_fields(value)
        case bytes():
            return value.decode(errors="backslashreplace")
        case int() if name == "crc64":
            return str(value)
        case tuple():
            return list(value)
        case Mapping():
            return dict(value)
    return value
