"""Errors as text, as objects and as exit codes."""

from __future__ import annotations

import ast
import json
import re
import signal
from collections.abc import Iterator
from inspect import signature
from pathlib import Path

import pytest

import partwise
import partwise.backends
import partwise.stores
from partwise import errors
from partwise.cli.app import app
from partwise.cli.common_options import request_options
from partwise.cli.object_options import shared_options
from partwise.cli.reporting import FLAGS, ErrorReport, exit_code, failure, format_error, success
from partwise.cli.signals import SignalReceived
from partwise.cli.vendors import VENDORS
from partwise.errors import (
    KEPT_BY_EARLIER_RUN,
    NOTHING_CHANGED,
    AccessDenied,
    BackendError,
    CallbackError,
    CannotResume,
    CheckpointBusy,
    CheckpointDamaged,
    CheckpointMismatch,
    CheckpointUnwritable,
    ClaimLost,
    ConnectionFailed,
    IntegrityError,
    InvalidInput,
    InvalidKey,
    OutcomeUnknown,
    PartwiseError,
    SourceChanged,
    SourceError,
    SourceUnreadable,
    Throttled,
    UnknownScheme,
    UnsupportedOption,
    UploadFailed,
    UploadPaused,
    UploadStopped,
)
from partwise.results import UploadResult


def failed(cause: Exception | None, *, resumable: bool = True, hint: str = "") -> UploadFailed:
    error = UploadFailed(
        "it failed",
        reason=str(cause or ""),
        key="k",
        resumable=resumable,
        bytes_done=2**20,
        bytes_total=2**22,
        parts_done=1,
        parts_total=4,
        hint=hint,
    )
    error.__cause__ = cause
    return error


# --- exit codes ---


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidInput("x"), 2),
        (InvalidKey("x"), 2),
        (UnknownScheme("x"), 2),
        (UnsupportedOption("x"), 2),
        (CheckpointBusy("x"), 3),
        (failed(ConnectionFailed("x")), 75),
        (failed(Throttled("x")), 75),
        (ConnectionFailed("x"), 75),
        (failed(AccessDenied("x")), 1),
        (failed(SourceError("x")), 1),
        (failed(ZeroDivisionError("x")), 1),
        (failed(None), 1),
        (AccessDenied("x"), 1),
        (OutcomeUnknown("x"), 1),
        (SourceUnreadable("x"), 1),
        (SourceChanged("x"), 1),
        (CannotResume("x"), 1),
        (ClaimLost("x"), 3),
        (CheckpointUnwritable("x"), 1),
        (CheckpointUnwritable("x", retryable=True), 75),
        (CheckpointMismatch("x"), 1),
        (CheckpointDamaged("x"), 1),
        (CallbackError("x"), 1),
        (ZeroDivisionError("x"), 1),
        (KeyboardInterrupt(), 130),
        (SignalReceived(signal.SIGINT), 130),
        (SignalReceived(signal.SIGTERM), 143),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_each_error_has_its_exit_code(error: BaseException, code: int) -> None:
    assert exit_code(error) == code


#: The exit code of each class, and that of an instance that is retryable: a class that is new has to be decided.
CODES: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("InvalidInput", "InvalidKey", "UnknownScheme", "UnsupportedOption"), (2, 2)),
    # Permanent, unless the storage says otherwise.
    **dict.fromkeys(("BackendError", "UploadNotFound", "UploadUnusable", "PartRejected", "AccessDenied"), (1, 75)),
    **dict.fromkeys(("BucketNotFound", "ObjectExists", "PreconditionFailed", "BackendClosed"), (1, 75)),
    "CallbackError": (1, 1),  # the object is stored: never again
    # Transient, unless it is certain that they happen again.
    **dict.fromkeys(("ConnectionFailed", "HostNotFound", "ServerFailed", "Throttled"), (75, 75)),
    **dict.fromkeys(("CredentialsExpired", "ClockSkewed", "IntegrityError"), (75, 75)),
    **dict.fromkeys(("CheckpointError", "CheckpointDamaged", "CheckpointUnwritable"), (1, 75)),
    **dict.fromkeys(("CheckpointMismatch", "StoreClosed"), (1, 75)),
    **dict.fromkeys(("CheckpointBusy", "ClaimLost"), (3, 3)),
    **dict.fromkeys(("SourceError", "SourceUnreadable", "SourceMismatch", "SourceChanged"), (1, 75)),
    # What an upload ends with depends on its cause.
    "UploadFailed": (1, 75),
    **dict.fromkeys(("PartwiseError", "CannotResume", "UploadStopped", "UploadPaused", "UploadCancelled"), (1, 1)),
    "OutcomeUnknown": (1, 1),  # someone has to look at the object first
}


def retryable(kind: type[PartwiseError], value: bool) -> PartwiseError:
    """An instance that is retryable or not, as far as the class can be."""
    if issubclass(kind, UploadStopped):
        error = kind("x")
        error.__cause__ = BackendError("y", retryable=value)
        return error
    return kind("x", retryable=value) if "retryable" in signature(kind).parameters else kind("x")


def test_the_exit_code_of_every_class_is_decided() -> None:
    kinds = {name: kind for name in errors.__all__ if isinstance(kind := getattr(errors, name), type)}
    assert CODES.keys() == kinds.keys()
    found = {name: (exit_code(kind("x")), exit_code(retryable(kind, True))) for name, kind in kinds.items()}
    assert found == CODES


@pytest.mark.parametrize("name", CODES)
def test_a_permanent_error_never_has_the_exit_code_to_try_again(name: str) -> None:
    kind = getattr(errors, name)
    assert exit_code(retryable(kind, False)) == (CODES[name][0] if CODES[name][0] in (2, 3) else 1)
    if not issubclass(kind, UploadStopped | CheckpointBusy):
        assert exit_code(failed(retryable(kind, False))) == 1


def test_an_unknown_outcome_is_not_retryable_even_if_its_cause_is() -> None:
    error = OutcomeUnknown("x")
    error.__cause__ = ConnectionFailed("x")
    assert exit_code(error) == 1


# --- text ---

ALL = [
    kind
    for name in partwise.__all__
    if isinstance(kind := getattr(partwise, name), type) and issubclass(kind, PartwiseError)
]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_one_line_and_one_object(kind: type[PartwiseError]) -> None:
    error = kind("first\nsecond", hint="third\nfourth")
    assert "\n" not in format_error(error, "a to b").one_line()
    payload = json.loads(json.dumps(failure(error, "a to b")))
    assert payload["ok"] is False
    assert payload["exit_code"] == exit_code(error)
    assert payload["error"]["type"] == kind.__name__
    assert payload["error"]["message"]
    assert {"retryable", "resumable"} <= payload["error"].keys()


def test_a_retryable_failure_says_what_is_kept_and_to_run_it_again() -> None:
    assert format_error(failed(ConnectionFailed("connection reset")), "f to u") == ErrorReport(
        "f to u could not be uploaded",
        cause="connection reset",
        kept="1.0 of 4.0 MiB (1 of 4 parts)",
        hint="Run the same command again to resume",
    )


def test_a_permanent_failure_says_to_fix_the_cause_first() -> None:
    error = failed(AccessDenied("no"))
    assert format_error(error, "f to u").hint == "Fix the cause, then run the same command again to resume"


def test_the_hint_of_a_permanent_failure_comes_first() -> None:
    error = failed(AccessDenied("no"), hint="Check {credentials}.")
    assert format_error(error, "f to u").hint == (
        "Check OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and OSS_SESSION_TOKEN."
        " Then run the same command again to resume"
    )


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("storing 'k' in s3://b@h: NoSuchBucket: no. (HTTP 404)", "NoSuchBucket: no. (HTTP 404)"),
        ("part 12 of 'k' in oss://b@h:1: AccessDenied: no: really", "AccessDenied: no: really"),
        ("initiating an upload of 'k' in s3://b: no", "initiating: no"),
        ("completing upload A1 of 'k' in s3://b: no", "completing: no"),
        ("listing the parts of upload A1 of 'k' in s3://b: no", "listing: no"),
        ("storing 'other' in s3://b: no", "storing 'other' in s3://b: no"),
        ("no connection to https://h: refused", "no connection to https://h: refused"),
        ("storing 'k' in s3://b: ", "storing 'k' in s3://b: "),
    ],
)
def test_the_cause_does_not_repeat_the_object(reason: str, cause: str) -> None:
    error = failed(AccessDenied(reason))
    assert format_error(error, "f to u").cause == cause
    assert failure(error, "f to u")["error"]["cause"]["message"] == reason.strip()


def test_what_is_kept_is_said_only_if_it_says_something() -> None:
    error = failed(Throttled("busy"))
    error.bytes_done = 0
    assert format_error(error, "f to u").kept == "", "there was nothing to keep"
    error = failed(Throttled("busy"), resumable=False)
    error.parts_total = 1
    assert format_error(error, "f to u").kept == "", "a single request can't be resumed"


def test_an_upload_that_can_not_be_resumed_after_all_does_not_say_that_nothing_was_changed() -> None:
    before, later = (
        CannotResume(f"f can't be resumed: gone. {kept}", reason="gone")
        for kept in (NOTHING_CHANGED, "No other upload was started")
    )

    assert format_error(before, "f to u").message == "f to u can't be resumed; nothing was changed"
    assert format_error(later, "f to u").message == "f to u can't be resumed; no other upload was started"


def test_a_failure_of_one_of_several_files_does_not_say_to_run_the_command_again() -> None:
    for cause in (Throttled("busy"), AccessDenied("no")):
        assert format_error(failed(cause), "f to u", again=False).hint == ""
    assert format_error(failed(Throttled("busy"), hint="Wait."), "f to u", again=False).hint == "Wait"


def test_why_a_callback_failed_is_a_part_of_its_own() -> None:
    begin = "a: b is stored, but its callback failed: "
    error = CallbackError(f"{begin}storing 'a: b' in oss://b@h: no", result=UploadResult("a: b", 3, "etag"))
    assert format_error(error, "f to u") == ErrorReport("a: b is stored, but its callback failed", cause="no")
    assert format_error(CallbackError(f"{begin}no")) == ErrorReport(f"{begin}no")
    assert format_error(CallbackError("no", result=error.result)) == ErrorReport("no")


def test_why_a_checkpoint_can_not_be_written_is_a_part_of_its_own() -> None:
    error = CheckpointUnwritable("it can't be written to /c/x.ucp: no: really", where="/c/x.ucp", hint="Move it")
    assert format_error(error) == ErrorReport(
        "it can't be written to /c/x.ucp",
        cause="no: really",
        hint="Move it. --checkpoint-dir names another place, --no-resume uses none",
    )
    assert format_error(CheckpointUnwritable("no server", where="/c", retryable=True, hint="Wait")) == ErrorReport(
        "no server", hint="Wait"
    )


def test_a_failure_that_keeps_nothing_says_so() -> None:
    permanent = format_error(failed(AccessDenied("no"), resumable=False), "f to u")
    assert (permanent.kept, permanent.hint) == ("nothing", "")
    retryable = format_error(failed(Throttled("busy"), resumable=False), "f to u")
    assert (retryable.kept, retryable.hint) == ("nothing", "Run the same command again")


def test_a_failure_before_the_checkpoint_was_loaded_does_not_say_that_nothing_is_kept() -> None:
    error = failed(Throttled("busy"), resumable=False)
    error.kept = KEPT_BY_EARLIER_RUN
    assert format_error(error, "f to u").kept == "what an earlier run has sent"


def test_a_failure_without_a_reason_is_described_by_its_message() -> None:
    """As for an object that is stored, but differs from what was sent."""
    error = failed(IntegrityError("differs", retryable=False), resumable=False)
    error.reason = ""
    assert format_error(error, "f to u") == ErrorReport("it failed")


def test_an_abort_that_fails_is_not_reported_as_a_failed_upload() -> None:
    error = failed(ConnectionFailed("connection reset"))
    error.args = ("the upload of /f to k at oss://b could not be aborted",)
    assert format_error(error, "f to u") == ErrorReport(
        "the upload of f to u could not be aborted",
        cause="connection reset",
        kept="1.0 of 4.0 MiB (1 of 4 parts)",
        hint="Run the same command again",
    )


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("connect_timeout must be above 0", "--timeout must be above 0"),
        ("metadata has 9000 bytes", "--meta has 9000 bytes"),
        ("part_size and read_timeout exclude each other (acl)", "--part-size and --timeout exclude each other (acl)"),
        ("part_size is not 'part_size' in /part_size.", "--part-size is not 'part_size' in /part_size."),
        ("credentials must be Credentials", "credentials must be Credentials"),
        ("the proxy is invalid", "the proxy is invalid"),
        ("", ""),
    ],
)
def test_a_setting_at_the_start_of_a_message_is_a_flag(message: str, shown: str) -> None:
    assert format_error(InvalidInput(message)).message == shown
    assert format_error(AccessDenied(message)).message == message


def test_one_line_has_neither_a_command_nor_its_introduction() -> None:
    report = ErrorReport("stopped", kept="1 part", hint="To resume:", command="partwise upload f u")
    assert report.one_line() == "stopped. kept: 1 part"


def test_an_unexpected_error_is_reported_as_a_defect() -> None:
    report = format_error(ZeroDivisionError("division by zero"))
    assert report.message == "ZeroDivisionError: division by zero"
    assert report.hint == "This is a defect of partwise; --verbose shows the traceback"


def test_one_line_joins_the_parts_of_an_error() -> None:
    report = ErrorReport("f could not be uploaded", "denied.", "1 part", "Ask for permission.")
    assert report.one_line() == "f could not be uploaded: denied. kept: 1 part. Ask for permission"


# --- hints ---


def test_a_hint_names_flags() -> None:
    assert (
        format_error(ConnectionFailed("x", hint="Pass {ca_bundle} with a file")).hint == "Pass --ca-bundle with a file"
    )
    assert (
        format_error(AccessDenied("x", hint="Pass {addressing_style=virtual}")).hint
        == "Pass --addressing-style virtual"
    )
    assert format_error(OutcomeUnknown("x", hint="Pass {resume=never}")).hint == "Pass --no-resume"
    assert "--checkpoint-dir" in format_error(CheckpointUnwritable("x")).hint


SETTING = re.compile(r"\{+(\w+)(?:=([^{}]*))?\}+")


def hints_of_the_library() -> Iterator[tuple[str, str]]:
    """The text of every ``hint=`` in the library, with its file; braces of f-strings are doubled in settings."""
    package = Path(partwise.__file__).parent
    roots = [package, *(Path(module.__file__).parent for module in (partwise.backends, partwise.stores))]
    for path in {path for root in roots for path in root.rglob("*.py") if path.parent.name != "cli"}:
        text = path.read_text(encoding="utf-8")
        if "hint" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.keyword) and node.arg == "hint":
                for part in ast.walk(node.value):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield path.name, part.value


def test_every_setting_in_a_hint_of_the_library_has_a_flag() -> None:
    hints = list(hints_of_the_library())
    assert len(hints) >= 20
    unknown = [
        (name, match[0])
        for name, hint in hints
        for match in SETTING.finditer(hint)
        if match[1] not in FLAGS and f"{match[1]}={match[2]}" not in FLAGS
    ]
    assert unknown == []


def test_every_option_of_an_object_that_has_a_flag_is_named_by_it() -> None:
    """The refusal of an option that the storage does not support names it so."""
    given = {name for group in (shared_options, request_options) for name in group.usages}
    for vendor in VENDORS:
        given |= {name for _, kind, _, name in (*vendor.REQUEST_FLAGS, *vendor.OPTION_FLAGS) if name and kind != "flag"}
    made_of_several = {name for name in given if name.startswith("callback_")}
    assert {name for name in given - made_of_several if not FLAGS.get(name, "").startswith("--")} == set()


def test_every_flag_that_a_hint_may_name_exists() -> None:
    known = {flag for command in app.commands.values() for parameter in command.params for flag in parameter.opts}
    named = {flag for text in FLAGS.values() for flag in re.findall(r"--[\w-]+", text)}
    assert named - known == set()


# --- objects ---


def test_the_object_of_a_failure_has_the_fields_of_the_error() -> None:
    cause = BackendError("no", code="AccessDenied", status=403, request_id="R1", details={"a": "b"})
    payload = failure(failed(cause), "f to u")["error"]
    assert (payload["key"], payload["bytes_done"], payload["parts_total"], payload["resumable"]) == (
        "k",
        2**20,
        4,
        True,
    )
    assert payload["cause"] == {
        "type": "BackendError",
        "message": "no",
        "code": "AccessDenied",
        "status": 403,
        "request_id": "R1",
        "retryable": False,
        "details": {"a": "b"},
    }


def test_the_object_of_a_failure_of_oss_names_the_host_and_the_finer_code_as_it_always_did() -> None:
    cause = BackendError("no", details={"ec": "0003-00000001", "host_id": "HOST", "Bucket": "b"})
    payload = failure(failed(cause), "f to u")["error"]["cause"]
    assert (payload["host_id"], payload["ec"], payload["details"]) == ("HOST", "0003-00000001", {"Bucket": "b"})


def test_the_object_of_an_error_has_no_field_for_its_hint() -> None:
    payload = failure(ConnectionFailed("x", hint="Pass {ca_bundle}"))["error"]
    assert payload == {
        "type": "ConnectionFailed",
        "message": "x. Pass --ca-bundle",
        "retryable": True,
        "resumable": False,
    }


def test_the_object_of_an_error_has_neither_notes_nor_private_fields() -> None:
    cause = ConnectionFailed("x")
    cause.add_note("while part 1 was being sent")
    vars(cause)["_session"] = "of a plug-in"
    error = failed(cause)
    error.add_note("a warning")
    payload = failure(error)["error"]
    assert [name for name in (*payload, *payload["cause"]) if name.startswith("_")] == []


def test_the_object_of_a_failed_callback_has_the_result() -> None:
    error = CallbackError("x", result=UploadResult("k", 3, "etag", checksum=2**64 - 1, callback_response=b"\xff{}"))
    result = failure(error)["error"]["result"]
    assert (result["key"], result["crc64"], result["callback_response"]) == ("k", str(2**64 - 1), "\\xff{}")


def test_the_object_of_a_stopped_upload_has_its_progress() -> None:
    received = SignalReceived(signal.SIGTERM, "stopped")
    received.__cause__ = UploadPaused("x", key="k", resumable=True, bytes_done=5)
    payload = failure(received)
    error = payload["error"]
    assert payload["exit_code"] == 143
    assert (error["type"], error["resumable"], error["bytes_done"]) == ("UploadPaused", True, 5)


def test_the_object_of_a_success_is_the_result() -> None:
    payload = success(UploadResult("k", 3, "etag", checksum=7, warnings=("w",)))
    fields = (payload["ok"], payload["key"], payload["size"], payload["crc64"], payload["warnings"])
    assert fields == (True, "k", 3, "7", ["w"])
