"""Which errors of a source are transient, and what is read again after them."""

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
PERMANENT = [errno.EACCES, errno.ENOENT, errno.EISDIR, errno.EPERM, errno.ELOOP]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def backend():
    return MemoryBackend(limits=PartLimits(min_part_size=1))


class Failing:
    """Wraps a function so that its calls numbered `at` fail; only calls that concern a file are counted."""

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
    return Uploader(backend, store=MemoryCheckpointStore(), config=config).upload(source, "key")


@pytest.mark.parametrize("number", TRANSIENT, ids=errno.errorcode.get)
@pytest.mark.parametrize("at", [1, 2, 7, 10])
def test_a_transient_read_error_is_retried(backend, path, monkeypatch, number, at):
    reading = Failing(os.preadv, number, [at])
    monkeypatch.setattr(os, "preadv", reading)
    result = upload(backend, path)

    assert backend.read("key") == DATA
    assert (result.verified, reading.calls) == (True, 11)


@pytest.mark.parametrize("number", PERMANENT, ids=errno.errorcode.get)
def test_a_permanent_read_error_is_not_retried(backend, path, monkeypatch, number):
    reading = Failing(os.preadv, number, [3])
    monkeypatch.setattr(os, "preadv", reading)
    with pytest.raises(UploadFailed, match="can't be read") as caught:
        upload(backend, path)

    assert (caught.value.retryable, caught.value.resumable, reading.calls) == (False, True, 3)


def test_after_the_last_attempt_the_upload_can_be_resumed(backend, path, monkeypatch):
    with monkeypatch.context() as patched:
        reading = Failing(os.preadv, errno.EIO, range(3, 100))
        patched.setattr(os, "preadv", reading)
        with pytest.raises(UploadFailed, match="Input/output error") as caught:
            upload(backend, path, max_attempts=4)

    assert (caught.value.retryable, caught.value.resumable, reading.calls) == (True, True, 6)


def test_a_single_put_is_read_again(backend, path, monkeypatch):
    monkeypatch.setattr(os, "preadv", Failing(os.preadv, errno.ESTALE, [1]))
    config = TransferConfig(retry_base=0.0)
    Uploader(backend, store=MemoryCheckpointStore(), config=config).upload(path, "key")

    assert backend.read("key") == DATA


@pytest.mark.parametrize("at", [1, 2, 5, 12])
def test_a_transient_error_of_stat_is_retried(backend, path, monkeypatch, at):
    failing = Failing(os.stat, errno.ESTALE, [at], lambda which, *_: which == str(path))
    monkeypatch.setattr(os, "stat", failing)
    upload(backend, path)

    assert backend.read("key") == DATA
    assert failing.calls > at


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ESTALE], ids=errno.errorcode.get)
def test_a_transient_error_of_open_is_retried(backend, path, monkeypatch, number):
    from partwise import sources

    opening = Failing(sources.FileIO, number, [1, 2])
    monkeypatch.setattr(sources, "FileIO", opening)
    upload(backend, path)

    assert backend.read("key") == DATA


def test_a_file_is_opened_again_after_a_failed_read(path, monkeypatch):
    """On a network file system, a stale descriptor stays stale."""
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


def test_a_file_that_was_replaced_is_not_read_after_a_failed_read(path, tmp_path, monkeypatch):
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


def test_a_transient_error_while_sent_parts_are_compared_is_retried(backend, path, monkeypatch):
    store = MemoryCheckpointStore()
    config = TransferConfig(part_size=1024, multipart_threshold=0, retry_base=0.0, concurrency=1)

    def stop_half_way(progress):
        if progress.parts_done == 5:
            raise StopIteration

    with pytest.raises(StopIteration):
        Uploader(backend, store=store, config=config).upload(path, "key", progress=stop_half_way)
    config = TransferConfig(multipart_threshold=0, retry_base=0.0, verify_source="content")
    monkeypatch.setattr(os, "preadv", Failing(os.preadv, errno.EIO, [1, 3]))
    result = Uploader(backend, store=store, config=config).upload(path, "key")

    assert result.parts_resumed >= 5
    assert backend.read("key") == DATA


def test_the_error_of_a_stream_that_can_not_be_opened_includes_the_cause():
    def opened():
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "gone")

    with pytest.raises(SourceError, match=r"the stream can't be opened: .*gone"):
        StreamSource(opened).body(0, 10)


class Full(io.BytesIO):
    """A temporary file on a full disk."""

    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_the_error_of_a_full_disk_names_the_temporary_directory(monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    monkeypatch.setattr(tempfile, "tempdir", "/the/temporary/directory")

    with pytest.raises(SourceError, match=r"can't be kept in /the/temporary/directory: No space left.*spool_above"):
        StreamSource(io.BytesIO(DATA), spool_above=0).body(0, 1024)


def test_a_spooled_part_is_read_again_after_a_transient_error(monkeypatch):
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
    ("number", "expected"), [*((number, True) for number in TRANSIENT), *((number, False) for number in PERMANENT)]
)
def test_error_numbers_are_classified_as_transient_or_permanent(number, expected):
    assert is_transient(OSError(number, "why")) is expected


def test_a_sharing_violation_on_windows_is_transient():
    error = OSError("in use")
    error.winerror = 32

    assert is_transient(error)
    error.winerror = 5  # access is denied
    assert not is_transient(error)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EIO])
@pytest.mark.parametrize("at", [1, 3])
def test_creating_a_temporary_file_is_retried(backend, monkeypatch, number, at):
    failing = Failing(tempfile.TemporaryFile, number, {at})
    monkeypatch.setattr(tempfile, "TemporaryFile", failing)
    result = upload(backend, StreamSource(io.BytesIO(DATA), spool_above=0))

    assert backend.read("key") == DATA
    assert (result.verified, failing.calls) == (True, 11 + 1), "ten parts, the end of the stream, and one retry"


def test_a_part_that_was_partly_read_from_a_stream_is_not_retried(backend, monkeypatch):
    """The bytes are gone from the stream."""

    class Broken(io.BytesIO):
        def write(self, _):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(tempfile, "TemporaryFile", Broken)
    with pytest.raises(UploadFailed) as failed:
        upload(backend, StreamSource(io.BytesIO(DATA), spool_above=0))

    assert not failed.value.retryable
    assert "can't be kept" in str(failed.value)
