"""Checksums of an upload, on storages that report other ones than OSS does."""

from __future__ import annotations

import io

import pytest
from attrs import evolve

from partwise import (
    BytesSource,
    CheckpointUnwritable,
    ConnectionFailed,
    FileSource,
    IntegrityError,
    PartLimits,
    SourceChanged,
    SourceMismatch,
    StreamSource,
    TransferConfig,
    Uploader,
    UploadFailed,
)
from partwise.backends.memory import DEFAULT_CAPABILITIES, MemoryBackend
from partwise.checksums import CRC32, CRC32C, CRC64_NVME, CRC64_XZ, MD5, SHA256, crc64
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing.fakes import pseudo_random_bytes

PART, SIZE = 1000, 4500
DATA = pseudo_random_bytes(SIZE)
CONFIG = TransferConfig(part_size=PART, multipart_threshold=0, concurrency=1)

combinable = pytest.mark.parametrize(
    "backend", [CRC64_XZ, CRC64_NVME, CRC32C, CRC32], ids=lambda kind: kind.name, indirect=True
)
digest = pytest.mark.parametrize("backend", [MD5, SHA256], ids=lambda kind: kind.name, indirect=True)


@pytest.fixture
def backend(request):
    """A storage that reports checksums of this algorithm: of parts, and of objects if they can be combined."""
    kind = getattr(request, "param", CRC32C)
    return MemoryBackend(limits=PartLimits(), capabilities=capabilities(kind))


def capabilities(kind):
    return evolve(DEFAULT_CAPABILITIES, checksum=kind, part_checksums=True, object_checksums=kind.is_combinable)


@pytest.fixture
def store():
    return MemoryCheckpointStore()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


def pause_after(parts):
    def progress(seen):
        if seen.parts_done >= parts:
            raise Paused

    return progress


class Paused(Exception):
    pass


def upload_half(backend, store, source, parts=2):
    with pytest.raises(Paused):
        Uploader(backend, store=store, config=CONFIG).upload(source, "key", progress=pause_after(parts))


@combinable
@pytest.mark.parametrize("threshold", [0, 1 << 20], ids=["parts", "one request"])
def test_the_object_is_verified(backend, store, path, threshold):
    uploader = Uploader(backend, store=store, config=evolve(CONFIG, multipart_threshold=threshold))
    result = uploader.upload(path, "key")

    kind = backend.capabilities.checksum
    assert (result.verified, result.checksum, result.checksum_algorithm) == (True, kind.compute(DATA), kind.name)


@combinable
def test_a_resumed_object_is_verified(backend, store, path):
    upload_half(backend, store, path)
    [checkpoint] = store.scan()
    result = Uploader(backend, store=store, config=CONFIG).upload(path, "key")

    kind = backend.capabilities.checksum
    assert checkpoint.checksum == kind.name
    assert {part.checksum for part in checkpoint.parts} == {kind.compute(DATA[:PART]), kind.compute(DATA[PART:2000])}
    assert (result.parts_resumed, result.verified) == (2, True)


@digest
def test_parts_are_verified_by_digests_that_can_not_be_combined(backend, store, path, monkeypatch):
    result = Uploader(backend, store=store, config=CONFIG).upload(path, "key")
    assert (result.verified, result.checksum) == (False, None)

    described = backend.upload_part
    monkeypatch.setattr(backend, "upload_part", lambda *call: evolve(described(*call), checksum=1))
    with pytest.raises(UploadFailed) as caught:
        Uploader(backend, store=store, config=evolve(CONFIG, max_attempts=1)).upload(path, "other")
    assert isinstance(caught.value.__cause__, IntegrityError)


@combinable
def test_a_bit_that_flips_between_the_parts_and_the_object_is_noticed(backend, store, path, monkeypatch):
    complete = backend.complete_upload
    kind = backend.capabilities.checksum
    flipped = bytes([DATA[0] ^ 1]) + DATA[1:]
    monkeypatch.setattr(
        backend, "complete_upload", lambda *call: evolve(complete(*call), checksum=kind.compute(flipped))
    )
    with pytest.raises(UploadFailed, match=f"the {kind.name} ") as caught:
        Uploader(backend, store=store, config=CONFIG).upload(path, "key")

    assert isinstance(caught.value.__cause__, IntegrityError)
    assert not caught.value.resumable


@combinable
def test_a_part_that_is_not_recorded_is_adopted_by_its_checksum(backend, store, path):
    upload_half(backend, store, path)
    [checkpoint] = store.scan()
    store.save(evolve(checkpoint, parts=checkpoint.parts[:1]))
    result = Uploader(backend, store=store, config=CONFIG).upload(path, "key")

    assert (result.parts_resumed, result.verified) == (2, True)


@combinable
def test_a_stream_is_resumed_by_the_checksums_of_its_parts(backend, store):
    upload_half(backend, store, StreamSource(io.BytesIO(DATA), name="dump"))
    result = Uploader(backend, store=store, config=CONFIG).upload(StreamSource(io.BytesIO(DATA), name="dump"), "key")

    assert (result.parts_resumed, result.verified) == (2, True)


def test_recorded_checksums_of_another_algorithm_are_not_compared(store, path):
    """The parts stay, with the checksums that the storage reports, and the checkpoint names their algorithm."""
    backend = MemoryBackend(limits=PartLimits(), capabilities=capabilities(CRC32C))
    upload_half(backend, store, path)
    [checkpoint] = store.scan()
    others = [evolve(checkpoint.parts[0], checksum=CRC32.compute(DATA[:PART])), checkpoint.parts[1]]
    store.save(evolve(checkpoint, checksum=CRC32.name, parts=others))  # both algorithms have 32 bits
    seen = []

    def progress(at):
        seen.extend((found.checksum, *(part.checksum for part in found.parts[:2])) for found in store.scan())

    result = Uploader(backend, store=store, config=CONFIG).upload(path, "key", progress=progress)

    assert (result.parts_resumed, result.parts_sent) == (2, 3)
    assert backend.read("key") == DATA
    assert set(seen) == {(CRC32C.name, CRC32C.compute(DATA[:PART]), CRC32C.compute(DATA[PART : 2 * PART]))}


@pytest.mark.parametrize("source_of", [FileSource, lambda _: StreamSource(io.BytesIO(DATA), name="dump")])
def test_a_checkpoint_names_the_algorithm_of_the_checksums_that_are_added_to_it(backend, store, path, source_of):
    upload_half(backend, store, source_of(path))
    [checkpoint] = store.scan()
    store.save(evolve(checkpoint, checksum="crc64xz"))  # as if the storage had had another one then
    upload_half(backend, store, source_of(path), parts=4)
    [checkpoint] = store.scan()

    assert checkpoint.checksum == "crc32c"
    assert len(checkpoint.parts) == 4


def test_checksums_of_two_algorithms_are_never_in_one_checkpoint(backend, path):
    """If its header can't be written, the upload ends."""

    class Full(MemoryCheckpointStore):
        is_full = False

        def save(self, checkpoint):
            if self.is_full:
                raise CheckpointUnwritable("disk full")
            super().save(checkpoint)

    store = Full()
    upload_half(backend, store, path)
    [checkpoint] = store.scan()
    store.save(evolve(checkpoint, checksum="crc64xz"))
    store.is_full = True
    with pytest.raises(CheckpointUnwritable):
        Uploader(backend, store=store, config=CONFIG).upload(path, "key")


def test_a_recorded_checksum_that_is_too_large_for_its_algorithm_is_not_used(store, path):
    backend = MemoryBackend(limits=PartLimits(), capabilities=evolve(capabilities(CRC64_XZ), lists_parts=False))
    upload_half(backend, store, path)
    [checkpoint] = store.scan()
    store.save(evolve(checkpoint, parts=[evolve(part, checksum=2**70 + 1) for part in checkpoint.parts]))
    result = Uploader(backend, store=store, config=CONFIG).upload(path, "key")

    assert (backend.read("key"), result.parts_resumed) == (DATA, 2)


# --- the checksum that the caller expects is always a CRC-64/XZ ------------------------------------------------------

SOURCES = {
    "file": FileSource,
    "bytes": lambda path: path.read_bytes(),
    "stream": lambda path: io.BytesIO(path.read_bytes()),
    "named stream": lambda path: StreamSource(io.BytesIO(path.read_bytes()), name="dump"),
}


@pytest.mark.parametrize("threshold", [0, 1 << 20], ids=["parts", "one request"])
@pytest.mark.parametrize("source_of", SOURCES.values(), ids=SOURCES)
def test_an_expected_crc64_is_compared_though_the_storage_has_another_checksum(
    backend, store, path, source_of, threshold
):
    uploader = Uploader(backend, store=store, config=evolve(CONFIG, multipart_threshold=threshold))
    assert uploader.upload(source_of(path), "key", expected_crc64=crc64(DATA)).verified

    with pytest.raises((SourceMismatch, UploadFailed)) as caught:
        uploader.upload(source_of(path), "other", expected_crc64=crc64(DATA) ^ 1)
    assert isinstance(caught.value.__cause__ or caught.value, SourceMismatch)
    assert backend.head_object("other") is None


@pytest.mark.parametrize("kind", [CRC64_XZ, CRC32C], ids=lambda kind: kind.name)
def test_an_expected_crc64_is_compared_though_no_checksum_of_a_resumed_part_is_known(store, path, kind):
    """As after the storage had another algorithm, and where it lists no checksums."""
    backend = MemoryBackend(limits=PartLimits(), capabilities=evolve(capabilities(kind), part_checksums=False))
    upload_half(backend, store, path)
    [checkpoint] = store.scan()
    store.save(evolve(checkpoint, checksum=CRC32.name))
    uploader = Uploader(backend, store=store, config=CONFIG)
    with pytest.raises(UploadFailed) as caught:
        uploader.upload(path, "key", expected_crc64=crc64(DATA) ^ 1)
    assert isinstance(caught.value.__cause__, SourceMismatch)
    assert backend.head_object("key") is None

    result = uploader.upload(path, "key", expected_crc64=crc64(DATA))
    assert (backend.read("key"), result.parts_resumed) == (DATA, 5)


def test_an_expected_crc64_is_read_once_though_completing_is_repeated(backend, store):
    class Counting(BytesSource):
        read = 0

        def body(self, offset, size):
            self.read += size
            return super().body(offset, size)

    source, original, failures = Counting(DATA), backend.complete_upload, [ConnectionFailed(), ConnectionFailed()]

    def fail_first(*args):
        if failures:
            raise failures.pop()
        return original(*args)

    backend.complete_upload = fail_first
    config = evolve(CONFIG, retry_base=0.001)
    Uploader(backend, store=store, config=config).upload(source, "key", expected_crc64=crc64(DATA))

    assert source.read == 3 * SIZE  # to send it, to compare what was sent, and for its CRC-64


def test_an_expected_crc64_is_compared_with_a_resumed_stream(backend, store):
    upload_half(backend, store, StreamSource(io.BytesIO(DATA), name="dump"))
    uploader = Uploader(backend, store=store, config=CONFIG)
    result = uploader.upload(StreamSource(io.BytesIO(DATA), name="dump"), "key", expected_crc64=crc64(DATA))

    assert result.parts_resumed == 2


def test_an_expected_crc64_of_a_stream_is_not_forgotten_when_completing_is_repeated_with_other_etags(backend, store):
    def alter(*args):
        return evolve(upload_part(*args), etag="altered")

    upload_part, backend.upload_part = backend.upload_part, alter
    uploader = Uploader(backend, store=store, config=CONFIG)
    result = uploader.upload(io.BytesIO(DATA), "key", expected_crc64=crc64(DATA))

    assert result.verified
    assert result.warnings[0].startswith("parts had altered ETags")


def test_an_expected_crc64_is_compared_with_an_object_that_an_earlier_run_completed(backend, store, path, monkeypatch):
    class Died(BaseException):
        pass

    def complete_and_die(*call):
        complete(*call)
        raise Died

    complete = backend.complete_upload
    monkeypatch.setattr(backend, "complete_upload", complete_and_die)
    uploader = Uploader(backend, store=store, config=CONFIG)
    with pytest.raises(Died):
        uploader.upload(path, "key")
    with pytest.raises(UploadFailed) as caught:
        uploader.upload(path, "key", expected_crc64=crc64(DATA) ^ 1)
    assert isinstance(caught.value.__cause__, SourceMismatch)
    assert uploader.upload(path, "key", expected_crc64=crc64(DATA)).parts_sent == 0


def test_bytes_that_change_during_the_upload_are_noticed(backend, store):
    data = bytearray(DATA)

    def change(at):
        data[100] ^= at.parts_done == 2

    with pytest.raises(SourceChanged):
        Uploader(backend, store=store, config=CONFIG).upload(memoryview(data), "key", progress=change)
    assert backend.head_object("key") is None


def test_bytes_that_change_while_a_part_is_sent_and_change_back_are_noticed(backend, store):
    """They are as they were before the upload, and not as they were sent."""
    data = bytearray(DATA)

    def change(at):
        data[2500] = DATA[2500] ^ (at.parts_done == 2)

    with pytest.raises(SourceChanged):
        Uploader(backend, store=store, config=CONFIG).upload(memoryview(data), "key", progress=change)
    assert (bytes(data), backend.head_object("key")) == (DATA, None)
