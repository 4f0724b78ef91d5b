"""Sources that fail for a moment: what is tried again, how often, and what becomes of an upload."""

from __future__ import annotations

import errno
import os

import pytest

from partwise import sources
from partwise.cli.reporting import FAILED, TRY_AGAIN, exit_code
from partwise.errors import SourceUnreadable, UploadFailed
from partwise.sources import StreamSource

CALLS = ["stat", "open", "read"]


class System:
    """The system as one module sees it: with some calls replaced."""

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
    """Makes the n-th call of this kind, and as many after it, fail with this error; gives the number of all calls."""

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
            monkeypatch.setattr(sources, "os", System(stat=counted(os.stat)))
        elif hasattr(os, "preadv"):
            monkeypatch.setattr(sources, "os", System(preadv=counted(os.preadv)))
        else:
            pytest.skip("this platform has no positioned reads")
        return calls

    return arrange


@pytest.mark.parametrize("name", ["ESTALE", "EIO", "EAGAIN", "ETIMEDOUT", "EMFILE", "ENFILE"])
@pytest.mark.parametrize("threshold", [0, 1000], ids=["parts", "one piece"])
@pytest.mark.parametrize("kind", CALLS)
def test_a_source_that_fails_once_is_read_again(*, uploader, backend, path, data, failing, kind, threshold, name):
    calls = failing(kind, 1, name)
    result = uploader(multipart_threshold=threshold).upload(path, "key")

    assert len(calls) > 1
    assert backend.read("key") == data
    assert (result.verified, result.warnings) == (True, ())


@pytest.mark.parametrize("instant", range(1, 9))
@pytest.mark.parametrize("kind", CALLS)
def test_at_whatever_instant_a_source_fails_the_upload_goes_on(
    *, uploader, backend, path, data, failing, kind, instant
):
    failing(kind, instant)
    uploader().upload(path, "key")

    assert backend.read("key") == data


def test_a_source_that_goes_on_failing_is_given_up_and_what_is_stored_is_kept(uploader, path, failing, clock):
    calls = failing("read", 3, times=1000)
    with pytest.raises(UploadFailed, match=r"can't be read: Stale file handle. Kept: 20 of 45 bytes") as caught:
        uploader(max_attempts=4).upload(path, "key")

    assert (caught.value.retryable, caught.value.resumable) == (True, True)
    assert exit_code(caught.value) == TRY_AGAIN
    assert (len(calls), clock.waits) == (2 + 4, [0.5, 1.0, 2.0])


def test_a_source_that_fails_at_the_first_look_is_tried_again_as_often(uploader, path, failing, clock):
    failing("stat", 1, times=1000)
    with pytest.raises(SourceUnreadable, match="Stale file handle") as caught:
        uploader(max_attempts=3).upload(path, "key")

    assert exit_code(caught.value) == TRY_AGAIN
    assert clock.waits == [0.5, 1.0]


def test_a_source_that_is_not_there_is_not_tried_again(uploader, path, clock):
    with pytest.raises(SourceUnreadable, match="No such file") as caught:
        uploader().upload(path.with_name("other"), "key")

    assert exit_code(caught.value) == FAILED
    assert clock.waits == []


def test_a_comparison_by_content_goes_on_after_a_failure(*, uploader, interrupted, backend, path, data, failing):
    interrupted(path)
    failing("read", 1)
    result = uploader(verify_source="content").upload(path, "key")

    assert (result.parts_resumed, result.parts_sent) == (2, 3)
    assert backend.read("key") == data


def test_a_stream_that_can_not_be_opened_for_a_moment_is_opened_again(uploader, backend, path, data):
    attempts = []

    def opened():
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return path.open("rb")

    uploader().upload(StreamSource(opened), "key")

    assert backend.read("key") == data
