"""
Report how a command ended: as text, as a JSON object, and as an exit code.

    0    done
    1    failed: the cause has to be fixed first (a permission, a bucket, the file)
    2    wrong usage: the command line has to be changed
    3    busy: another process is running this upload
    75   failed, but retryable: the same command may succeed, and resumes
    130  stopped by Ctrl-C, 143 by SIGTERM, 129 by the end of the terminal (SIGHUP): the same command resumes
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from attrs import asdict, define, has

from partwise.checksums import CRC64_XZ
from partwise.cli.formatting import collapse_lines, escape_control, format_ratio, pluralize
from partwise.cli.signals import SignalReceived
from partwise.cli.vendors import SETTINGS, credentials_of
from partwise.errors import (
    KEPT_BY_EARLIER_RUN,
    NOTHING_CHANGED,
    BackendError,
    CallbackError,
    CannotResume,
    CheckpointBusy,
    CheckpointError,
    CheckpointUnwritable,
    InvalidInput,
    OutcomeUnknown,
    PartwiseError,
    SourceError,
    UploadFailed,
    UploadStopped,
    render_hint,
)

if TYPE_CHECKING:
    from partwise.model import StoredObject
    from partwise.results import UploadResult

DONE = 0
FAILED = 1
WRONG_USAGE = 2
BUSY = 3
TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h


def exit_code(error: BaseException) -> int:  # noqa: PLR0911  # a table
    """Return the exit code for an error; see the table above."""
    match error:
        case SignalReceived():
            return 128 + error.signal
        case KeyboardInterrupt():
            return 130
        case InvalidInput():
            return WRONG_USAGE
        case CheckpointBusy():
            return BUSY
        case OutcomeUnknown():
            return FAILED
        case UploadFailed() | BackendError() | CheckpointError() | SourceError() if error.retryable:
            return TRY_AGAIN
    return FAILED


#: From the worst exit code to the best.
_SEVERITY = (FAILED, TRY_AGAIN, BUSY, DONE)


def worst_exit_code(codes: Collection[int]) -> int:
    """
    Return the exit code of a command that works on several uploads.

    A permanent failure is worse than one that may pass, since it has to be fixed by someone. A file that is refused is
    such a failure, unless all are: then it is wrong usage, and nothing was sent.
    """
    if set(codes) == {WRONG_USAGE}:
        return WRONG_USAGE
    known = {code if code in _SEVERITY else FAILED for code in codes}
    return next(code for code in _SEVERITY if code in known)


@define(frozen=True)
class ErrorReport:
    """An error for people; each field is printed on a separate line."""

    message: str  # what happened, and to what
    cause: str = ""  # why, if the message does not say
    kept: str = ""  # what a later run can use
    hint: str = ""  # what to do next
    command: str = ""  # a command line to type next, printed exactly as it is

    def one_line(self) -> str:
        """Return all but the command in one line, escaped, for programs."""
        what_and_why = f"{self.message}: {self.cause}" if self.cause else self.message
        kept = f"kept: {self.kept}" if self.kept else ""
        hint = "" if self.command else self.hint  # it introduces the command
        return escape_control(collapse_lines(_sentences(what_and_why, kept, hint)))


def format_error(  # noqa: PLR0911  # a table
    error: BaseException, subject: str = "", scheme: str = "", *, again: bool = True
) -> ErrorReport:
    """
    Describe an error that a command raised.

    Args:
        error: the error.
        subject: what the command works on, such as "backup.tar to oss://bucket/backup.tar".
        scheme: that of its URL, on which depends where credentials come from.
        again: whether the hint says to run the same command again, where that helps.
    """
    match error:
        case SignalReceived():
            return ErrorReport(str(error) or "stopped", kept=error.kept, hint=error.hint, command=error.command)
        case KeyboardInterrupt():
            return ErrorReport("interrupted")
        case UploadFailed() if error.reason:
            return _upload_failed(error, subject, scheme, again=again)
        case CheckpointUnwritable() if error.where and f" {error.where}: " in error.message:
            what, place, why = error.message.partition(f" {error.where}: ")
            return ErrorReport(what + place.removesuffix(": "), why, hint=_hint(error, scheme))
        case CallbackError() if error.result is not None and error.message.startswith(stored := _stored(error)):
            return ErrorReport(
                stored.removesuffix(": "),
                _without_object(error.message.removeprefix(stored), error.result.key),
                hint=_hint(error, scheme),
            )
        case CannotResume():
            unchanged = error.message.endswith(NOTHING_CHANGED)
            kept = "nothing was changed" if unchanged else "no other upload was started"
            message = f"{subject or 'the upload'} can't be resumed; {kept}"
            return ErrorReport(message, error.reason, hint=_hint(error, scheme))
        case UploadStopped():
            return ErrorReport(error.message, error.reason, error.kept, _hint(error, scheme))
        case PartwiseError():
            return ErrorReport(_message(error), hint=_hint(error, scheme))
    return ErrorReport(
        f"{type(error).__name__}: {error}", hint="This is a defect of partwise; --verbose shows the traceback"
    )


def _upload_failed(error: UploadFailed, subject: str, scheme: str, *, again: bool) -> ErrorReport:
    aborting = error.message.endswith("could not be aborted")
    repeat = "run the same command again" + (" to resume" if error.resumable and not aborting else "")
    next_step = ""
    if again and error.retryable:
        next_step = repeat.capitalize()
    elif again and error.resumable:
        next_step = f"Then {repeat}" if error.hint else f"Fix the cause, then {repeat}"
    what = f"{subject or error.key} could not be uploaded"
    if aborting:
        what = f"the upload of {subject or error.key} could not be aborted"
    cause = _without_object(error.reason, error.key)
    return ErrorReport(what, cause, _kept(error), _sentences(_hint(error, scheme), next_step))


def _without_object(reason: str, key: str) -> str:
    """
    Return why a request failed, without the object, which the message names.

    Of the name of the request, only the verb is left, such as "completing", if it is not about bytes that are sent.
    """
    request = re.match(rf"(\w+)[^:]*? ?{re.escape(repr(key))} in \S+: (?=\S)", reason)
    if request is None:
        return reason
    verb = "" if request[1] in ("storing", "part") else f"{request[1]}: "
    return verb + reason[request.end() :]


def _stored(error: CallbackError) -> str:
    """Return how the message of a failed callback begins."""
    return "" if error.result is None else f"{error.result.key} is stored, but its callback failed: "


#: What is kept if the run ended before it had loaded the checkpoint, so that its progress is not known.
SENT_BY_EARLIER_RUN = "what an earlier run has sent"


def _kept(error: UploadFailed) -> str:
    """Return what is kept, if that is worth a line: not if nothing could have been."""
    if error.resumable:
        return progress_of(error) if error.bytes_done else ""
    if error.kept == KEPT_BY_EARLIER_RUN:
        return SENT_BY_EARLIER_RUN
    return "" if error.parts_total == 1 else "nothing"


def progress_of(error: UploadStopped) -> str:
    """Return the progress of a stopped upload: ``8.0 of 64.0 MiB (1 of 8 parts)``."""
    of = "" if error.parts_total is None else f"{error.parts_done:,} of "
    parts = pluralize(error.parts_done if error.parts_total is None else error.parts_total, "part")
    return f"{format_ratio(error.bytes_done, error.bytes_total)} ({of}{parts})"


# --- hints -----------------------------------------------------------------------------------------------------------

_SAME_NAME = (
    *("part_size", "multipart_threshold", "concurrency", "concurrency_max", "give_up_after", "max_attempts"),
    *("bandwidth_limit", "verify_source", "on_source_change", "checkpoint", "checkpoint_dir", "store", "content_type"),
    *("acl", "storage_class", "cache_control", "content_disposition", "content_encoding", "forbid_overwrite"),
    *("if_match", "encryption", "kms_key_id", "request_payer"),
    *("endpoint", "region", "profile", "addressing_style", "ca_bundle", "proxy"),
)

#: The flags for the settings that hints of the library name, ``setting`` or ``setting=value``.
FLAGS = {
    **{setting: f"--{setting.replace('_', '-')}" for setting in _SAME_NAME},
    "connect_timeout": "--timeout",
    "credentials": credentials_of("oss"),  # for URLs of another scheme, what its package says
    "expected_crc64": "--expect-crc64",
    "expected_size": "--expect-size",
    "metadata": "--meta",
    "read_timeout": "--timeout",
    "resume=auto": "omit --require-resume",
    "resume=never": "--no-resume",
    "resume=require": "--require-resume",
    "spool_above": "spool_above",  # only programs upload open files
    "tags": "--tag",
    "yes": "--yes",
    **SETTINGS,
}

#: What the hint of the library does not know, for a checkpoint that can't be written for good.
_ANOTHER_PLACE = "--checkpoint-dir names another place, --no-resume uses none"


def _message(error: PartwiseError) -> str:
    """
    Return the message of an error.

    If it begins with a setting, the settings in it are shown as flags.
    """
    setting, space, rest = error.message.partition(" ")
    if not isinstance(error, InvalidInput) or not _is_flag(FLAGS.get(setting, "")):
        return error.message
    return f"{FLAGS[setting]}{space}{_OTHER_SETTING.sub(_other_flag, rest)}"


# A word with an underscore, not quoted and not part of a path.
_OTHER_SETTING = re.compile(r"(?<![^\s(])[a-z0-9]+(?:_[a-z0-9]+)+(?![^\s,;.)])")


def _other_flag(match: re.Match[str]) -> str:
    flag = FLAGS.get(match[0], "")
    return flag if _is_flag(flag) else match[0]


def _is_flag(text: str) -> bool:
    return text.startswith("--") and " " not in text


def hint_as_flags(error: PartwiseError, scheme: str = "") -> str:
    """Return the hint of an error, with settings as flags."""
    return render_hint(error.hint_template, lambda setting, value: _flag(setting, value, scheme))


def with_hint_as_flags(error: PartwiseError, scheme: str = "") -> str:
    """Return the message of an error and its hint, with settings as flags."""
    return _sentences(_message(error), hint_as_flags(error, scheme))


def _hint(error: PartwiseError, scheme: str) -> str:
    further = _ANOTHER_PLACE if isinstance(error, CheckpointUnwritable) and not error.retryable else ""
    return _sentences(hint_as_flags(error, scheme), further)


def _sentences(*texts: str) -> str:
    return ". ".join(text.rstrip(".") for text in texts if text)


def _flag(setting: str, value: str | None, scheme: str) -> str:
    if setting == "credentials":
        return credentials_of(scheme)
    if value is None:
        return FLAGS.get(setting, setting)
    return FLAGS.get(f"{setting}={value}") or f"{FLAGS.get(setting, setting)} {value}"


# --- for programs ----------------------------------------------------------------------------------------------------


def success(result: UploadResult) -> dict[str, Any]:
    """Return a finished upload as an object."""
    return {"ok": True, **result_fields(result)}


def failure(error: BaseException, subject: str = "", scheme: str = "") -> dict[str, Any]:
    """Return an error as an object."""
    stop = (
        error.__cause__ if isinstance(error, SignalReceived) and isinstance(error.__cause__, UploadStopped) else error
    )
    payload = {
        "type": type(stop).__name__,
        "message": format_error(error, subject, scheme).one_line(),
        "retryable": exit_code(error) == TRY_AGAIN,
        "resumable": bool(getattr(stop, "resumable", False)),
        **_fields(stop),
    }
    cause = stop.__cause__
    if cause is not None and type(cause) is not type(stop):
        message = (
            format_error(cause, scheme=scheme).one_line()
            if isinstance(cause, PartwiseError)
            else collapse_lines(str(cause))
        )
        payload["cause"] = {"type": type(cause).__name__, "message": message, **_fields(cause)}
    return {"ok": False, "error": payload, "exit_code": exit_code(error)}


def result_fields(result: UploadResult | StoredObject) -> dict[str, Any]:
    """
    Return a stored object by field name.

    A checksum is a string, since some JSON parsers lose digits of 64 bits.
    """
    plain = {name: _plain(name, value) for name, value in asdict(result).items()}
    if plain.get("checksum_algorithm") == CRC64_XZ.name:
        plain["crc64"] = plain["checksum"]  # its name in the first versions
    return plain


# The message contains them already.
_IN_THE_MESSAGE = frozenset({"hint_template", "kept"})

#: Details of OSS that the JSON has beside `code` and `request_id`: names in it do not change.
_TOP_LEVEL_DETAILS = ("host_id", "ec")


def _fields(error: BaseException) -> dict[str, Any]:
    """
    Return the other public fields of an error by name, without notes.

    Empty ones are left out.
    """
    known = dict(vars(error)) if isinstance(error, PartwiseError) else {}
    if isinstance(error, BackendError):
        own = {name: error.details[name] for name in _TOP_LEVEL_DETAILS if name in error.details}
        known |= own | {"details": {name: value for name, value in error.details.items() if name not in own}}
    return {
        name: _plain(name, value)
        for name, value in known.items()
        if not name.startswith("_") and name not in _IN_THE_MESSAGE and value not in (None, "", (), {})
    }


def _plain(name: str, value: Any) -> Any:
    if has(type(value)):
        return result_fields(value)
    match value:
        case bytes():
            return value.decode(errors="backslashreplace")
        case int() if name == "checksum":
            return str(value)
        case tuple():
            return list(value)
        case Mapping():
            return dict(value)
    return value
