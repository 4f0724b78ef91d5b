"""The exception hierarchy: its shape, its fields, its hints, and pickling."""

from __future__ import annotations

import inspect
import pickle

import pytest

import partwise
from partwise import errors
from partwise.errors import (
    BackendError,
    CallbackError,
    CannotResume,
    CheckpointBusy,
    CheckpointDamaged,
    CheckpointError,
    ConnectionFailed,
    InvalidInput,
    OutcomeUnknown,
    PartwiseError,
    SourceError,
    UploadFailed,
    UploadStopped,
    render_hint,
)
from partwise.model import StoredObject

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PartwiseError)]

#: For each field of any error a value that is not its default.
VALUES = {
    "code": "SlowDown",
    "status": 503,
    "request_id": "5C3D9175B6FC201293AD",
    "retryable": True,
    "retry_after": 2.5,
    "details": {"Resource": "a/key"},
    "result": StoredObject("a/key", 3, "ETAG", 7),
    "name": "f" * 32,
    "where": "/some/where",
    "upload_id": "ID",
    "source": "/a/file",
    "reason": "the source changed",
    "key": "a/key",
    "resumable": True,
    "bytes_done": 10,
    "bytes_total": 30,
    "parts_done": 1,
    "parts_total": 3,
    "warnings": ("something",),
    "kept": "2 of 3 parts are kept",
    "hint": "Pass {resume=never}",
}


def fields_of(kind):
    parameters = inspect.signature(kind).parameters.values()
    return {p.name: VALUES[p.name] for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def rendered(fields):
    return {**fields, "hint": "Pass resume='never'"}


@pytest.mark.parametrize("kind", ALL)
def test_every_error_survives_pickling_with_all_its_fields(kind):
    fields = fields_of(kind)
    original = kind("what happened", **fields)
    error = pickle.loads(pickle.dumps(original))

    assert type(error) is kind
    assert error.message == "what happened"
    assert str(error) == str(original)
    assert rendered(fields) == {name: getattr(error, name) for name in fields}
    assert error.hint_template == fields["hint"]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_can_be_created_without_arguments(kind):
    assert "" == kind().message == kind().hint == str(kind())


@pytest.mark.parametrize("kind", ALL)
def test_every_error_without_a_hint_is_shown_as_its_message(kind):
    assert str(kind("what happened")) == "what happened"


@pytest.mark.parametrize("kind", ALL)
def test_every_error_shows_its_hint_after_its_message(kind):
    assert str(kind("what happened", hint="Wait")) == "what happened. Wait"
    assert str(kind("what happened.", hint="Wait.")) == "what happened. Wait"
    assert str(kind(hint="Wait")) == "Wait"


@pytest.mark.parametrize(
    ("template", "hint"),
    [
        (
            "Pass {ca_bundle} with the file of its certificate authority",
            "Pass ca_bundle= with the file of its certificate authority",
        ),
        ("Pass {resume=never} or {store}", "Pass resume='never' or store="),
        ("Pass {name=}", "Pass name=''"),
        ("Remove {} or {two words} or { x }", "Remove {} or {two words} or { x }"),
        ("", ""),
    ],
)
def test_a_hint_shows_settings_as_python_arguments(template, hint):
    assert PartwiseError("x", hint=template).hint == hint


def test_a_hint_is_rendered_for_another_interface():
    def flag(setting, value):
        return f"--{setting.replace('_', '-')}" + ("" if value is None else f" {value}")

    assert render_hint("Pass {ca_bundle} or {resume=never}", flag) == "Pass --ca-bundle or --resume never"


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, "stopped"),
        ({"reason": "the disk is full"}, "stopped: the disk is full"),
        ({"kept": "2 of 3 parts are kept"}, "stopped. 2 of 3 parts are kept"),
        ({"hint": "Run it again"}, "stopped. Run it again"),
        (
            {"reason": "the disk is full.", "kept": "2 of 3 parts are kept.", "hint": "Pass {resume=never}"},
            "stopped: the disk is full. 2 of 3 parts are kept. Pass resume='never'",
        ),
    ],
)
def test_a_stopped_upload_shows_its_reason_and_what_is_kept(fields, shown):
    assert str(UploadStopped("stopped", **fields)) == shown


def test_the_reason_survives_pickling_without_the_cause():
    error = UploadFailed("failed", reason="the disk is full")
    error.__cause__ = BackendError("the disk is full")
    copied = pickle.loads(pickle.dumps(error))
    copied.__cause__ = None  # some libraries, if they are imported, make causes survive

    assert str(copied) == "failed: the disk is full"


@pytest.mark.parametrize("kind", [UploadFailed, OutcomeUnknown])
@pytest.mark.parametrize("cause", [ConnectionFailed("no route"), BackendError("refused"), None], ids=repr)
def test_a_pickled_failure_keeps_whether_the_same_call_may_succeed(kind, cause):
    """A process pool puts the text of the traceback in place of the cause."""
    error = kind("failed")
    error.__cause__ = cause
    copied = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(error))))
    copied.__cause__ = RuntimeError("a traceback")

    assert copied.retryable == error.retryable == isinstance(cause, ConnectionFailed)


@pytest.mark.parametrize("kind", ALL)
def test_the_message_is_the_only_positional_argument(kind):
    positional = [p for p in inspect.signature(kind).parameters.values() if p.kind is not p.KEYWORD_ONLY]

    assert [p.name for p in positional] == ["message"]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_has_a_docstring_of_its_class(kind):
    assert kind.__doc__ is not None
    assert kind.__doc__ is not kind.__base__.__doc__


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_exported_by_the_package(kind):
    assert getattr(partwise, kind.__name__) is kind
    assert kind.__name__ in partwise.__all__


def test_the_package_has_each_exported_name_once():
    assert len(partwise.__all__) == len(set(partwise.__all__))
    assert all(hasattr(partwise, name) for name in partwise.__all__)


def test_the_class_hierarchy():
    tree = {kind.__name__: kind.__base__.__name__ for kind in ALL}

    assert tree == {
        "PartwiseError": "Exception",
        "InvalidInput": "PartwiseError",
        "InvalidKey": "InvalidInput",
        "UnknownScheme": "InvalidInput",
        "UnsupportedOption": "InvalidInput",
        "BackendError": "PartwiseError",
        "ConnectionFailed": "BackendError",
        "HostNotFound": "ConnectionFailed",
        "ServerFailed": "BackendError",
        "Throttled": "BackendError",
        "CredentialsExpired": "BackendError",
        "ClockSkewed": "BackendError",
        "IntegrityError": "BackendError",
        "UploadNotFound": "BackendError",
        "UploadUnusable": "BackendError",
        "PartRejected": "BackendError",
        "AccessDenied": "BackendError",
        "BucketNotFound": "BackendError",
        "ObjectExists": "BackendError",
        "PreconditionFailed": "BackendError",
        "CallbackError": "BackendError",
        "BackendClosed": "BackendError",
        "CheckpointError": "PartwiseError",
        "CheckpointDamaged": "CheckpointError",
        "CheckpointBusy": "CheckpointError",
        "ClaimLost": "CheckpointBusy",
        "CheckpointUnwritable": "CheckpointError",
        "CheckpointMismatch": "CheckpointError",
        "StoreClosed": "CheckpointError",
        "SourceError": "PartwiseError",
        "SourceUnreadable": "SourceError",
        "SourceMismatch": "SourceError",
        "SourceChanged": "SourceError",
        "CannotResume": "PartwiseError",
        "UploadStopped": "PartwiseError",
        "UploadPaused": "UploadStopped",
        "UploadCancelled": "UploadStopped",
        "UploadFailed": "UploadStopped",
        "OutcomeUnknown": "UploadFailed",
    }


def test_wrong_input_is_a_value_error_too():
    assert issubclass(InvalidInput, ValueError)


def test_transient_errors_are_retryable_by_default():
    retryable = {kind.__name__ for kind in ALL if issubclass(kind, BackendError) and kind().retryable}

    assert retryable == {
        "ConnectionFailed",
        "HostNotFound",
        "ServerFailed",
        "Throttled",
        "CredentialsExpired",
        "ClockSkewed",
        "IntegrityError",
    }


@pytest.mark.parametrize("word", [True, False])
@pytest.mark.parametrize("kind", [BackendError, ConnectionFailed])
def test_a_backend_can_override_whether_an_error_is_retryable(kind, word):
    assert word is kind("x", retryable=word).retryable


def test_the_details_are_a_copy():
    details = {"a": "b"}
    error = BackendError("x", details=details)
    details.clear()

    assert error.details == {"a": "b"}


def test_a_failed_callback_is_never_retried():
    assert not CallbackError("x").retryable
    assert "retryable" not in inspect.signature(CallbackError).parameters


@pytest.mark.parametrize("kind", [UploadFailed, OutcomeUnknown])
def test_a_failed_upload_is_retryable_if_its_cause_is(kind):
    error = kind("x")
    assert not error.retryable

    error.__cause__ = ConnectionFailed("x")
    assert error.retryable

    error.__cause__ = BackendError("x")
    assert not error.retryable

    error.__cause__ = OSError("x")
    assert not error.retryable


def test_fields_have_defaults_that_mean_unknown():
    assert (CheckpointBusy("x").name, CheckpointBusy("x").where) == (None, None)
    assert CheckpointDamaged("x").upload_id is None
    assert SourceError("x").source is None
    assert CannotResume("x").reason == ""
    assert (
        (stopped := UploadStopped("x")).upload_id,
        stopped.resumable,
        stopped.bytes_done,
        stopped.bytes_total,
        stopped.warnings,
    ) == (None, False, 0, None, ())


def test_a_damaged_checkpoint_is_a_checkpoint_error():
    with pytest.raises(CheckpointError) as caught:
        raise CheckpointDamaged("x", name="n", where="w", upload_id="i")

    assert (caught.value.name, caught.value.where, caught.value.upload_id) == ("n", "w", "i")
