"""Transient failures of a file at any system call: the upload succeeds, or keeps what was sent."""

from __future__ import annotations

import errno
import os

import pytest

from partwise import sources
from partwise.cli.reporting import FAILED, TRY_AGAIN, exit_code
from partwise.errors import CheckpointUnwritable, SourceUnreadable, UploadCancelled, UploadFailed, UploadPaused
from partwise.sources import StreamSource
from partwise.stores.memory import MemoryCheckpointStore

CALLS = ["stat", "open", "read"]


class PatchedOS:
    """The `os` module with some functions replaced."""

    def __init__(self, **replaced):
        vars(self).update(replaced)

    def __getattr__(self, name):
        return getattr(os, name)


@pytest.fixture
def path(tmp_path, data):
    path = tmp_path / "file"
    path.write_bytes(data)
    return path


@pytest.fixture
def failing(monkeypatch):
    """Makes `times` calls of this kind fail, from the one numbered `first`; returns the list of all calls."""

    def arrange(kind, first, name="ESTALE", times=1):
        calls = []

        def counted(real):
            def call(*arguments):
                calls.append(arguments)
                if first <= len(calls) < first + times:
                    number = getattr(errno, name)
                    raise OSError(number, os.strerror(number))
                return real(*arguments)

            return call

        if kind == "open":
            monkeypatch.setattr(sources, "FileIO", counted(sources.FileIO))
        elif kind == "stat":
            monkeypatch.setattr(sources, "os", PatchedOS(stat=counted(os.stat)))
        elif hasattr(os, "preadv"):
            monkeypatch.setattr(sources, "os", PatchedOS(preadv=counted(os.preadv)))
        else:
            pytest.skip("this platform has no positioned reads")
        return calls

    return arrange


@pytest.mark.parametrize("name", ["ESTALE", "EIO", "EAGAIN", "ETIMEDOUT", "EMFILE", "ENFILE"])
@pytest.mark.parametrize("threshold", [0, 1000], ids=["multipart", "single put"])
@pytest.mark.parametrize("kind", CALLS)
def test_a_source_that_fails_once_is_read_again(*, uploader, backend, path, data, failing, kind, threshold, name):
    calls = failing(kind, 1, name)
    result = uploader(multipart_threshold=threshold).upload(path, "key")

    assert len(calls) > 1
    assert backend.read("key") == data
    assert (result.verified, result.warnings) == (True, ())


@pytest.mark.parametrize("call", range(1, 9))
@pytest.mark.parametrize("kind", CALLS)
def test_the_upload_succeeds_at_whichever_call_the_source_fails(*, uploader, backend, path, data, failing, kind, call):
    failing(kind, call)
    uploader().upload(path, "key")

    assert backend.read("key") == data


def test_after_the_last_attempt_the_upload_fails_and_keeps_what_is_stored(uploader, path, failing, clock):
    calls = failing("read", 3, times=1000)
    with pytest.raises(UploadFailed, match=r"can't be read: Stale file handle. Kept: 20 of 45 bytes") as caught:
        uploader(max_attempts=4).upload(path, "key")

    assert (caught.value.retryable, caught.value.resumable) == (True, True)
    assert exit_code(caught.value) == TRY_AGAIN
    assert (len(calls), clock.waits) == (2 + 4, [0.5, 1.0, 2.0])


def test_the_first_fingerprint_is_retried_as_often(uploader, path, failing, clock):
    failing("stat", 1, times=1000)
    with pytest.raises(SourceUnreadable, match="Stale file handle") as caught:
        uploader(max_attempts=3).upload(path, "key")

    assert exit_code(caught.value) == TRY_AGAIN
    assert clock.waits == [0.5, 1.0]


@pytest.mark.parametrize(("mode", "ended"), [("pause", UploadPaused), ("cancel", UploadCancelled)])
def test_a_stop_request_ends_the_attempts_at_the_first_fingerprint(*, uploader, path, failing, clock, mode, ended):
    calls = failing("stat", 1, times=1000)
    task = uploader()._task(path, "key")
    clock.meanwhile = getattr(task, mode)
    task._start()
    with pytest.raises(ended, match="What an earlier run has sent is kept"):
        task.result(30)

    assert len(calls) == 1


def test_an_error_of_the_event_callback_ends_the_attempts_at_the_first_fingerprint(uploader, path, failing):
    calls = failing("stat", 1, times=1000)

    def refuse(event):
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        uploader().upload(path, "key", on_event=refuse)
    assert len(calls) == 1


def test_a_pause_before_the_checkpoint_is_loaded_says_what_the_source_has(uploader, path, clock):
    class Down(MemoryCheckpointStore):
        def load(self, name):
            raise CheckpointUnwritable("no connection", retryable=True)

    task = uploader(store=Down())._task(path, "key")
    clock.meanwhile = task.pause
    task._start()
    with pytest.raises(UploadPaused, match="with 0 of 45 bytes") as caught:
        task.result(30)

    assert (caught.value.bytes_total, caught.value.parts_total) == (45, 5)


def test_a_missing_source_is_not_retried(uploader, path, clock):
    with pytest.raises(SourceUnreadable, match="No such file") as caught:
        uploader().upload(path.with_name("other"), "key")

    assert exit_code(caught.value) == FAILED
    assert clock.waits == []


def test_a_comparison_by_content_is_retried(*, uploader, interrupted, backend, path, data, failing):
    interrupted(path)
    failing("read", 1)
    result = uploader(verify_source="content").upload(path, "key")

    assert (result.parts_resumed, result.parts_sent) == (2, 3)
    assert backend.read("key") == data


def test_opening_a_stream_is_retried(uploader, backend, path, data):
    attempts = []

    def opened():
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return path.open("rb")

    uploader().upload(StreamSource(opened), "key")

    assert backend.read("key") == data
