"""Errors of the source that are transient: what is read again, and what is not."""

from __future__ import annotations

import errno
import io
import os
import tempfile

import pytest

from partwise import (
    FileSource,
    PartLimits,
    SourceChanged,
    SourceError,
    SourceUnreadable,
    StreamSource,
    TransferConfig,
    Uploader,
    UploadFailed,
)
from partwise._os_errors import is_transient
from partwise.backends.memory import MemoryBackend
from partwise.stores.memory import MemoryCheckpointStore

DATA = bytes(range(256)) * 40
TRANSIENT = [errno.EIO, errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.EHOSTDOWN]
FINAL = [errno.EACCES, errno.ENOENT, errno.EISDIR, errno.EPERM, errno.ELOOP]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def backend():
    return MemoryBackend(limits=PartLimits(min_part_size=1))


class Failing:
    """A function of `os` that fails at some of its calls on one file."""

    def __init__(self, real, number, at, concerns=lambda *arguments: True):
        self.real, self.number, self.at, self.concerns = real, number, set(at), concerns
        self.calls = 0

    def __call__(self, *arguments, **keywords):
        if self.concerns(*arguments):
            self.calls += 1
            if self.calls in self.at:
                raise OSError(self.number, os.strerror(self.number))
        return self.real(*arguments, **keywords)


def upload(backend, source, **settings):
    config = TransferConfig(part_size=1024, multipart_threshold=0, retry_base=0.0, concurrency=1, **settings)
    return Uploader(backend, MemoryCheckpointStore(), config).upload(source, "key")


@pytest.mark.parametrize("number", TRANSIENT, ids=errno.errorcode.get)
@pytest.mark.parametrize("at", [1, 2, 7, 10])
def test_a_read_that_fails_for_the_moment_is_retried(backend, path, monkeypatch, number, at):
    reading = Failing(os.preadv, number, [at])
    monkeypatch.setattr(os, "preadv", reading)
    result = upload(backend, path)

    assert backend.read("key") == DATA
    assert (result.verified, reading.calls) == (True, 11)


@pytest.mark.parametrize("number", FINAL, ids=errno.errorcode.get)
def test_a_read_that_fails_for_good_is_not_retried(backend, path, monkeypatch, number):
    reading = Failing(os.preadv, number, [3])
    monkeypatch.setattr(os, "preadv", reading)
    with pytest.raises(UploadFailed, match="can't be read") as caught:
        upload(backend, path)

    assert (caught.value.retryable, caught.value.resumable, reading.calls) == (False, True, 3)


def test_a_read_that_goes_on_failing_is_given_up_and_can_be_resumed(backend, path, monkeypatch):
    with monkeypatch.context() as patched:
        reading = Failing(os.preadv, errno.EIO, range(3, 100))
        patched.setattr(os, "preadv", reading)
        with pytest.raises(UploadFailed, match="Input/output error") as caught:
            upload(backend, path, max_attempts=4)

    assert (caught.value.retryable, caught.value.resumable, reading.calls) == (True, True, 6)


def test_an_object_in_one_piece_is_read_again(backend, path, monkeypatch):
    monkeypatch.setattr(os, "preadv", Failing(os.preadv, errno.ESTALE, [1]))
    config = TransferConfig(retry_base=0.0)
    Uploader(backend, MemoryCheckpointStore(), config).upload(path, "key")

    assert backend.read("key") == DATA


@pytest.mark.parametrize("at", [1, 2, 5, 12])
def test_a_look_at_the_file_that_fails_for_the_moment_is_retried(backend, path, monkeypatch, at):
    looking = Failing(os.stat, errno.ESTALE, [at], lambda which, *_: which == str(path))
    monkeypatch.setattr(os, "stat", looking)
    upload(backend, path)

    assert backend.read("key") == DATA
    assert looking.calls > at


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ESTALE], ids=errno.errorcode.get)
def test_a_file_that_can_not_be_opened_for_the_moment_is_opened_again(backend, path, monkeypatch, number):
    from partwise import sources

    opening = Failing(sources.FileIO, number, [1, 2])
    monkeypatch.setattr(sources, "FileIO", opening)
    upload(backend, path)

    assert backend.read("key") == DATA


def test_a_file_is_opened_anew_after_a_failed_read(path, monkeypatch):
    """The descriptor of a file on a network file system stays stale for ever."""
    source = FileSource(path)
    source.fingerprint()
    bodies = [source.body(0, 100).chunks() for _ in range(3)]
    for chunks in bodies:  # three descriptors
        next(chunks)
    for chunks in bodies:
        list(chunks)
    stale = {file.fileno() for file in source._files._idle}
    assert len(stale) == 3
    reading = Failing(os.preadv, errno.ESTALE, [1])
    monkeypatch.setattr(os, "preadv", reading)
    with pytest.raises(SourceUnreadable) as caught:
        list(source.body(0, 100).chunks())

    assert caught.value.retryable
    assert source._files._idle == []
    assert b"".join(bytes(chunk) for chunk in source.body(0, 100).chunks()) == DATA[:100]
    source.close()


def test_another_file_that_is_found_after_a_failed_read_is_not_read(path, tmp_path, monkeypatch):
    source = FileSource(path)
    source.fingerprint()
    (tmp_path / "other").write_bytes(DATA[::-1])
    monkeypatch.setattr(os, "preadv", Failing(os.preadv, errno.ESTALE, [1]))
    body = source.body(0, 100)
    with pytest.raises(SourceUnreadable):
        list(body.chunks())
    (tmp_path / "other").replace(path)

    with pytest.raises(SourceChanged):
        list(body.chunks())


def test_what_was_sent_is_read_again_after_a_transient_error_when_it_is_compared(backend, path, monkeypatch):
    store = MemoryCheckpointStore()
    config = TransferConfig(part_size=1024, multipart_threshold=0, retry_base=0.0, concurrency=1)

    def stop_half_way(progress):
        if progress.parts_done == 5:
            raise StopIteration

    with pytest.raises(StopIteration):
        Uploader(backend, store, config).upload(path, "key", progress=stop_half_way)
    config = TransferConfig(multipart_threshold=0, retry_base=0.0, verify_source="content")
    monkeypatch.setattr(os, "preadv", Failing(os.preadv, errno.EIO, [1, 3]))
    result = Uploader(backend, store, config).upload(path, "key")

    assert result.parts_resumed >= 5
    assert backend.read("key") == DATA


def test_a_stream_that_can_not_be_opened_says_why():
    def opened():
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "gone")

    with pytest.raises(SourceError, match=r"the stream can't be opened: .*gone"):
        StreamSource(opened).body(0, 10)


class Full(io.BytesIO):
    """A temporary file on a full disk."""

    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_part_that_finds_no_room_in_a_temporary_file_says_where_to_make_some(monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    monkeypatch.setattr(tempfile, "tempdir", "/the/temporary/directory")

    with pytest.raises(SourceError, match=r"can't be kept in /the/temporary/directory: No space left.*spool_above"):
        StreamSource(io.BytesIO(DATA), spool_above=0).body(0, 1024)


def test_a_part_in_a_temporary_file_is_read_again_after_a_transient_error(monkeypatch):
    body = StreamSource(io.BytesIO(DATA), spool_above=0).body(0, 1024)
    monkeypatch.setattr(body, "_file", FailingFile(body._file))
    with pytest.raises(SourceUnreadable) as caught:
        list(body.chunks())

    assert caught.value.retryable
    assert b"".join(bytes(chunk) for chunk in body.chunks()) == DATA[:1024]


class FailingFile:
    """A file whose first read fails."""

    def __init__(self, file):
        self.file, self.failed = file, False

    def seek(self, offset):
        return self.file.seek(offset)

    def readinto(self, buffer):
        if not self.failed:
            self.failed = True
            raise OSError(errno.EIO, "Input/output error")
        return self.file.readinto(buffer)


@pytest.mark.parametrize(
    ("number", "expected"), [*((number, True) for number in TRANSIENT), *((number, False) for number in FINAL)]
)
def test_the_class_of_an_error_number(number, expected):
    assert is_transient(OSError(number, "why")) is expected


def test_a_file_that_another_program_has_locked_on_windows_is_transient():
    error = OSError("in use")
    error.winerror = 32

    assert is_transient(error)
    error.winerror = 5  # access is denied
    assert not is_transient(error)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EIO])
@pytest.mark.parametrize("at", [1, 3])
def test_a_part_of_a_stream_is_spooled_once_a_file_can_be_made_again(backend, monkeypatch, number, at):
    failing = Failing(tempfile.TemporaryFile, number, {at})
    monkeypatch.setattr(tempfile, "TemporaryFile", failing)
    result = upload(backend, StreamSource(io.BytesIO(DATA), spool_above=0))

    assert backend.read("key") == DATA
    assert (result.verified, failing.calls) == (True, 11 + 1), "the parts and the end of the stream, and one more try"


def test_a_part_of_a_stream_of_which_bytes_were_read_is_not_asked_for_again(backend, monkeypatch):
    """They are gone from the stream."""

    class Broken(io.BytesIO):
        def write(self, _):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(tempfile, "TemporaryFile", Broken)
    with pytest.raises(UploadFailed) as failed:
        upload(backend, StreamSource(io.BytesIO(DATA), spool_above=0))

    assert not failed.value.retryable
    assert "can't be kept" in str(failed.value)
