"""Every error as a line, an object and an exit code."""

from __future__ import annotations

import json
import signal

import pytest

import partwise
from partwise.cli.reporting import exit_code, failure, sentence, success
from partwise.cli.signals import Stopped
from partwise.errors import (
    AccessDenied,
    BackendError,
    CallbackError,
    CannotResume,
    CheckpointBusy,
    CheckpointDamaged,
    CheckpointMismatch,
    CheckpointUnwritable,
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
)
from partwise.results import UploadResult

UNTRUSTED = "it can't be trusted; if it is your own, name its authority by ca_bundle="


@pytest.mark.parametrize("error", [ConnectionFailed(UNTRUSTED), UploadFailed("no", resumable=False)])
def test_advice_is_given_in_flags(error: PartwiseError) -> None:
    if isinstance(error, UploadFailed):
        error.__cause__ = ConnectionFailed(UNTRUSTED)

    assert "name its authority by --ca-bundle" in sentence(error, "a to b")
    assert "ca_bundle" not in sentence(error, "a to b")


def failed(cause: Exception | None, *, resumable: bool = True) -> UploadFailed:
    error = UploadFailed(
        "it failed", key="k", resumable=resumable, bytes_done=2**20, bytes_total=2**22, parts_done=1, parts_total=4
    )
    error.__cause__ = cause
    return error


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
        (CheckpointUnwritable("x"), 1),
        (CheckpointMismatch("x"), 1),
        (CheckpointDamaged("x"), 1),
        (CallbackError("x"), 1),
        (ZeroDivisionError("x"), 1),
        (KeyboardInterrupt(), 130),
        (Stopped(signal.SIGINT), 130),
        (Stopped(signal.SIGTERM), 143),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_each_error_has_its_exit_code(error: BaseException, code: int) -> None:
    assert exit_code(error) == code


def test_an_unknown_outcome_is_not_tried_again_even_if_its_cause_would_pass() -> None:
    error = OutcomeUnknown("x")
    error.__cause__ = ConnectionFailed("x")
    assert exit_code(error) == 1


ALL = [
    kind
    for name in partwise.__all__
    if isinstance(kind := getattr(partwise, name), type) and issubclass(kind, PartwiseError)
]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_of_the_tree_is_one_line_and_one_object(kind: type[PartwiseError]) -> None:
    error = kind("first\nsecond")
    assert "\n" not in sentence(error, "a to b")
    told = json.loads(json.dumps(failure(error, "a to b")))
    assert told["ok"] is False
    assert told["exit_code"] == exit_code(error)
    assert told["error"]["type"] == kind.__name__
    assert told["error"]["message"]
    assert {"retryable", "resumable"} <= told["error"].keys()


def test_a_failure_that_will_pass_says_what_is_kept_and_what_to_do() -> None:
    assert sentence(failed(ConnectionFailed("the line is dead.")), "f to u") == (
        "f to u could not be uploaded: the line is dead. Kept: 1.0 of 4.0 MiB (1 of 4 parts);"
        " run the same line again to carry on"
    )


def test_a_failure_that_will_not_pass_says_that_something_has_to_change_first() -> None:
    assert "put that right and run the same line again to carry on" in sentence(failed(AccessDenied("no")), "f to u")


def test_a_failure_that_keeps_nothing_says_so() -> None:
    assert sentence(failed(AccessDenied("no"), resumable=False)).endswith("Nothing is kept")
    assert sentence(failed(Throttled("busy"), resumable=False)).endswith("Nothing is kept; run the same line again")


def test_a_wrong_object_is_told_by_the_failure_itself() -> None:
    error = failed(IntegrityError("differs", retryable=False), resumable=False)
    assert sentence(error, "f to u") == "it failed"


def test_a_defect_says_how_to_see_more() -> None:
    words = sentence(ZeroDivisionError("division by zero"))
    assert words == "ZeroDivisionError: division by zero. This is a defect; run with --verbose for the traceback"


def test_advice_is_in_terms_of_flags() -> None:
    assert "--require-resume" in sentence(CannotResume("x", reason="the source changed"), "f to u")
    assert "--no-resume" in sentence(OutcomeUnknown("x"))
    assert "--checkpoint-dir" in sentence(CheckpointUnwritable("x"))


def test_an_object_of_a_failure_holds_what_the_error_knows() -> None:
    cause = BackendError("no", code="AccessDenied", status=403, request_id="R1", details={"a": "b"})
    told = failure(failed(cause), "f to u")["error"]
    assert (told["key"], told["bytes_done"], told["parts_total"], told["resumable"]) == ("k", 2**20, 4, True)
    assert told["cause"] == {
        "type": "BackendError",
        "message": "no",
        "code": "AccessDenied",
        "status": 403,
        "request_id": "R1",
        "retryable": False,
        "details": {"a": "b"},
    }


def test_an_object_of_a_failed_callback_holds_the_result() -> None:
    error = CallbackError("x", result=UploadResult("k", 3, "etag", crc64=2**64 - 1, callback_response=b"\xff{}"))
    result = failure(error)["error"]["result"]
    assert (result["key"], result["crc64"], result["callback_response"]) == ("k", str(2**64 - 1), "\\xff{}")


def test_an_object_of_a_stop_tells_how_far_it_got() -> None:
    stopped = Stopped(signal.SIGTERM, "stopped")
    stopped.__cause__ = UploadPaused("x", key="k", resumable=True, bytes_done=5)
    told = failure(stopped)
    assert told["exit_code"] == 143
    assert (told["error"]["type"], told["error"]["resumable"], told["error"]["bytes_done"]) == ("UploadPaused", True, 5)


def test_an_object_of_a_success_is_the_result() -> None:
    told = success(UploadResult("k", 3, "etag", crc64=7, warnings=("w",)))
    assert (told["ok"], told["key"], told["size"], told["crc64"], told["warnings"]) == (True, "k", 3, "7", ["w"])
