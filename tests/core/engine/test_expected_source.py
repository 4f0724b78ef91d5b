"""What the caller expects of the source: no object is made of another."""

from __future__ import annotations

import io

import pytest

import partwise
from partwise import (
    FileSource,
    InvalidInput,
    PartLimits,
    SourceMismatch,
    StreamSource,
    TransferConfig,
    Uploader,
    UploadFailed,
)
from partwise.backends.memory import MemoryBackend
from partwise.checksums import crc64
from partwise.stores.memory import MemoryCheckpointStore

DATA = bytes(range(256)) * 40
SIZE, CHECKSUM = 10_240, crc64(DATA)


@pytest.fixture
def backend():
    return MemoryBackend(limits=PartLimits(min_part_size=1))


@pytest.fixture
def store():
    return MemoryCheckpointStore()


@pytest.fixture(params=[0, 1 << 20], ids=["parts", "one piece"])
def uploader(request, backend, store):
    return Uploader(backend, store=store, config=TransferConfig(part_size=1024, multipart_threshold=request.param))


@pytest.fixture(params=["file", "bytes", "stream", "named stream"])
def source_of(request, tmp_path):
    def make(data):
        match request.param:
            case "file":
                (tmp_path / "data").write_bytes(data)
                return FileSource(tmp_path / "data")
            case "bytes":
                return data
            case "stream":
                return io.BytesIO(data)
        return StreamSource(io.BytesIO(data), name="dump")

    return make


def test_a_source_that_is_as_expected_is_stored(uploader, backend, source_of):
    result = uploader.upload(source_of(DATA), "key", expected_size=SIZE, expected_crc64=CHECKSUM)

    assert (result.verified, backend.read("key")) == (True, DATA)


def test_an_empty_source_may_be_expected(uploader, backend, source_of):
    uploader.upload(source_of(b""), "key", expected_size=0, expected_crc64=0)

    assert backend.read("key") == b""


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"!", DATA[:4096], b""], ids=["-1", "+1", "whole parts", "empty"])
def test_a_source_of_another_size_is_not_stored(uploader, backend, source_of, data):
    with pytest.raises((SourceMismatch, UploadFailed)) as caught:
        uploader.upload(source_of(data), "key", expected_size=SIZE)
    error = caught.value if isinstance(caught.value, SourceMismatch) else caught.value.__cause__

    assert f"bytes where {SIZE} was expected" in str(error)
    assert isinstance(error, SourceMismatch)
    assert backend.head_object("key") is None


def test_a_source_of_another_checksum_is_not_stored(uploader, backend, source_of):
    with pytest.raises((SourceMismatch, UploadFailed)) as caught:
        uploader.upload(source_of(DATA[::-1]), "key", expected_size=SIZE, expected_crc64=CHECKSUM)
    error = caught.value if isinstance(caught.value, SourceMismatch) else caught.value.__cause__

    assert isinstance(error, SourceMismatch)
    assert str(CHECKSUM) in str(error)
    assert backend.head_object("key") is None


def test_what_a_file_shows_at_once_is_refused_before_anything_is_sent(backend, store, tmp_path):
    (tmp_path / "data").write_bytes(DATA)
    with pytest.raises(SourceMismatch, match="has 10240 bytes where 7 was expected"):
        Uploader(backend, store=store).upload(tmp_path / "data", "key", expected_size=7)

    assert (list(backend.list_uploads()), list(store.scan())) == ([], [])


def test_a_stream_that_was_cut_short_is_resumed_by_the_whole_one(backend, store):
    uploader = Uploader(backend, store=store, config=TransferConfig(part_size=1024, multipart_threshold=0))
    with pytest.raises(UploadFailed, match="the same call resumes") as caught:
        uploader.upload(StreamSource(io.BytesIO(DATA[:5000]), name="dump"), "key", expected_size=SIZE)
    assert (caught.value.resumable, caught.value.retryable) == (True, False)
    assert 1 <= caught.value.parts_done <= 4
    result = uploader.upload(StreamSource(io.BytesIO(DATA), name="dump"), "key", expected_size=SIZE)

    assert (result.parts_resumed, backend.read("key")) == (caught.value.parts_done, DATA)


def test_an_empty_stream_does_not_discard_what_an_earlier_run_sent(backend, store):
    uploader = Uploader(backend, store=store, config=TransferConfig(part_size=1024, multipart_threshold=0))
    for data in (DATA[:5000], b""):
        with pytest.raises(UploadFailed) as caught:
            uploader.upload(StreamSource(io.BytesIO(data), name="dump"), "key", expected_size=SIZE)
        assert caught.value.resumable

    assert len(list(backend.list_uploads())) == 1


def test_a_stream_that_is_too_long_is_not_read_to_its_end(backend, store):
    stream = io.BytesIO(DATA * 100)
    with pytest.raises(UploadFailed) as failed:
        Uploader(
            backend, store=store, config=TransferConfig(part_size=1024, multipart_threshold=0, concurrency=1)
        ).upload(stream, "key", expected_size=SIZE)

    assert f"has at least {SIZE + 1024 - SIZE % 1024} bytes where {SIZE} was expected" in str(failed.value.__cause__)
    assert stream.tell() <= SIZE + 1024
    assert list(backend.list_uploads()) == []


def test_a_plan_is_refused_too(backend, store):
    with pytest.raises(SourceMismatch):
        Uploader(backend, store=store).plan(DATA, "key", expected_crc64=CHECKSUM ^ 1)


def test_the_short_call_takes_what_is_expected():
    with pytest.raises(SourceMismatch):
        partwise.upload(DATA, "memory://expected/key", store=MemoryCheckpointStore(), expected_size=1)


@pytest.mark.parametrize("wrong", [-1, 1.5, float("nan"), True, "10", b"10"], ids=repr)
@pytest.mark.parametrize("name", ["expected_size", "expected_crc64"])
def test_an_expectation_that_can_not_be_is_refused(backend, store, name, wrong):
    with pytest.raises(InvalidInput, match=f"{name} must be an integer"):
        Uploader(backend, store=store).upload(DATA, "key", **{name: wrong})
