"""The tree of errors: its shape, its fields, its way home from a worker process."""

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
)
from partwise.model import StoredObject

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PartwiseError)]

#: A value other than the default for each field of any error.
VALUES = {
    "code": "SlowDown",
    "status": 503,
    "request_id": "5C3D9175B6FC201293AD",
    "host_id": "oss-example",
    "ec": "0002-00000040",
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
}


def fields_of(kind):
    parameters = inspect.signature(kind).parameters.values()
    return {p.name: VALUES[p.name] for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("kind", ALL)
def test_every_error_survives_pickling_with_all_its_fields(kind):
    fields = fields_of(kind)
    error = pickle.loads(pickle.dumps(kind("what happened", **fields)))

    assert type(error) is kind
    assert "what happened" == str(error) == error.message
    assert fields == {name: getattr(error, name) for name in fields}


@pytest.mark.parametrize("kind", ALL)
def test_every_error_can_be_made_of_nothing(kind):
    assert kind().message == ""


@pytest.mark.parametrize("kind", ALL)
def test_the_message_is_the_only_positional_argument(kind):
    positional = [p for p in inspect.signature(kind).parameters.values() if p.kind is not p.KEYWORD_ONLY]

    assert [p.name for p in positional] == ["message"]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_says_what_it_means(kind):
    assert kind.__doc__ is not None
    assert kind.__doc__ is not kind.__base__.__doc__


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_at_the_face(kind):
    assert getattr(partwise, kind.__name__) is kind
    assert kind.__name__ in partwise.__all__


def test_the_face_has_what_it_names_once_each():
    assert len(partwise.__all__) == len(set(partwise.__all__))
    assert all(hasattr(partwise, name) for name in partwise.__all__)


def test_the_tree():
    tree = {kind.__name__: kind.__base__.__name__ for kind in ALL}

    assert tree == {
        "PartwiseError": "Exception",
        "InvalidInput": "PartwiseError",
        "InvalidKey": "InvalidInput",
        "UnknownScheme": "InvalidInput",
        "UnsupportedOption": "InvalidInput",
        "BackendError": "PartwiseError",
        "ConnectionFailed": "BackendError",
        "ServerFailed": "BackendError",
        "Throttled": "BackendError",
        "CredentialsExpired": "BackendError",
        "ClockSkewed": "BackendError",
        "IntegrityError": "BackendError",
        "UploadNotFound": "BackendError",
        "PartRejected": "BackendError",
        "AccessDenied": "BackendError",
        "BucketNotFound": "BackendError",
        "ObjectExists": "BackendError",
        "CallbackError": "BackendError",
        "BackendClosed": "BackendError",
        "CheckpointError": "PartwiseError",
        "CheckpointDamaged": "CheckpointError",
        "CheckpointBusy": "CheckpointError",
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


def test_what_passes_by_itself_is_retryable():
    retryable = {kind.__name__ for kind in ALL if issubclass(kind, BackendError) and kind().retryable}

    assert retryable == {
        "ConnectionFailed",
        "ServerFailed",
        "Throttled",
        "CredentialsExpired",
        "ClockSkewed",
        "IntegrityError",
    }


@pytest.mark.parametrize("word", [True, False])
@pytest.mark.parametrize("kind", [BackendError, ConnectionFailed])
def test_a_backend_has_the_last_word_on_retrying(kind, word):
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
def test_a_failed_upload_is_worth_another_run_if_its_cause_is(kind):
    error = kind("x")
    assert not error.retryable

    error.__cause__ = ConnectionFailed("x")
    assert error.retryable

    error.__cause__ = BackendError("x")
    assert not error.retryable

    error.__cause__ = OSError("x")
    assert not error.retryable


def test_fields_default_to_nothing_known():
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


def test_damage_is_caught_as_trouble_with_the_checkpoint():
    with pytest.raises(CheckpointError) as caught:
        raise CheckpointDamaged("x", name="n", where="w", upload_id="i")

    assert (caught.value.name, caught.value.where, caught.value.upload_id) == ("n", "w", "i")
