"""`Uploader.verify`: a source is compared with what the storage has under a key."""

from __future__ import annotations

import io
import os

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from partwise._engine.compare import compare, needs_reading
from partwise.backends.local import LocalBackend
from partwise.checkpoint import Fingerprint
from partwise.checksums import CRC32C, CRC64_XZ
from partwise.errors import (
    AccessDenied,
    BackendError,
    ConnectionFailed,
    SourceChanged,
    SourceError,
    SourceUnreadable,
)
from partwise.model import MIB, StoredObject
from partwise.sources import StreamSource
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing.fakes import ChangingSource, pseudo_random_bytes
from partwise.uploader import Uploader

KEY = "key"


class Asked:
    """A bucket that counts the requests for each method, and whose first requests fail with these errors."""

    def __init__(self, inner, *errors):
        self._inner = inner
        self._errors = list(errors)
        self.requests = []

    def __getattr__(self, name):
        method = getattr(self._inner, name)
        if not callable(method):
            return method

        def call(*args):
            self.requests.append(name)
            if self._errors:
                raise self._errors.pop(0)
            return method(*args)

        return call


@pytest.fixture
def stored(uploader, source):
    """The source is stored under the key."""
    uploader().upload(source, KEY)
    source.readings = 0


# --- the decision ---


def an_object(size=10, checksum=7):
    return StoredObject(KEY, size, "etag", checksum)


@pytest.mark.parametrize(
    ("size", "checksum", "stored", "equal", "reason"),
    [
        (10, 7, an_object(), True, "both have 10 bytes and the crc64xz 7"),
        (10, 8, an_object(), False, "the source has the crc64xz 8, the object 7"),
        (11, None, an_object(), False, "the source has 11 bytes, the object 10"),
        (9, 7, an_object(), False, "the source has 9 bytes, the object 10"),
        (None, None, an_object(), False, "the source has more than the 10 bytes of the object"),
        (10, None, None, False, "no object is stored under the key"),
        (None, None, None, False, "no object is stored under the key"),
        (0, 0, an_object(0, 0), True, "both have 0 bytes and the crc64xz 0"),
        (0, None, an_object(1), False, "the source has 0 bytes, the object 1"),
        (11, None, an_object(checksum=None), False, "the source has 11 bytes, the object 10"),
    ],
)
def test_the_sizes_and_the_checksums_decide(size, checksum, stored, equal, reason):
    verification = compare(KEY, size, checksum, stored, CRC64_XZ)
    assert (verification.equal, verification.reason) == (equal, reason)
    assert (verification.size, verification.checksum, verification.stored) == (size, checksum, stored)


@pytest.mark.parametrize("checksum", [None, 7])
def test_without_a_checksum_of_the_object_equal_sizes_tell_nothing(checksum):
    verification = compare(KEY, 10, checksum, an_object(checksum=None), CRC64_XZ)
    assert verification.equal is None
    assert verification.reason == "both have 10 bytes, and the storage reports no checksum of the object to compare"


sizes = st.none() | st.integers(0, 3)
checksums = st.none() | st.integers(0, 2)
objects = st.none() | st.builds(an_object, st.integers(0, 3), checksums)


@given(sizes, checksums, objects)
def test_equal_is_said_only_of_equal_sizes_and_checksums(size, checksum, stored):
    verification = compare(KEY, size, checksum, stored, CRC64_XZ)
    proven = stored is not None and checksum is not None and (size, checksum) == (stored.size, stored.checksum)
    assert (verification.equal is True) == proven


@given(st.integers(0, 3), objects)
def test_a_source_of_known_size_is_read_only_if_its_checksum_decides(size, stored):
    verdicts = {compare(KEY, size, checksum, stored, CRC64_XZ).equal for checksum in range(3)}
    assert needs_reading(size, stored) == (verdicts == {True, False} or (None not in verdicts and len(verdicts) > 1))


# --- the comparison ---


def test_the_source_of_an_upload_is_equal_to_its_object(uploader, source, data, stored):
    verification = uploader().verify(source, KEY)
    assert verification.equal is True
    assert verification.size == len(data)
    assert verification.checksum == verification.stored.checksum == CRC64_XZ.compute(data)
    assert verification.checksum_algorithm == "crc64xz"


def test_nothing_is_asked_or_changed_but_one_request_for_the_object(uploader, backend, store, source, stored):
    asked, records = Asked(backend), list(store.scan())
    uploader(backend=asked).verify(source, KEY)
    assert asked.requests == ["head_object"]
    assert (list(store.scan()), backend.uploads) == (records, {})


def test_a_byte_that_differs_is_found(uploader, source, data, stored):
    source.data = data[:-1] + bytes([data[-1] ^ 1])
    verification = uploader().verify(source, KEY)
    assert verification.equal is False
    assert "the source has the crc64xz" in verification.reason


def test_another_size_is_found_without_reading(uploader, source, data, stored):
    source.data = data + b"x"
    verification = uploader().verify(source, KEY)
    assert (verification.equal, verification.reason) == (False, "the source has 46 bytes, the object 45")
    assert source.readings == 0


def test_a_missing_object_is_found_without_reading(uploader, source):
    verification = uploader().verify(source, KEY)
    assert (verification.equal, verification.stored) == (False, None)
    assert source.readings == 0


def test_an_object_without_a_checksum_is_compared_by_size_without_reading(uploader, make_backend, source, data):
    backend = make_backend(object_checksums=False)
    uploader(backend=backend).upload(source, KEY)
    source.readings = 0
    assert uploader(backend=backend).verify(source, KEY).equal is None
    assert source.readings == 0
    source.data = data[:-1]
    assert uploader(backend=backend).verify(source, KEY).equal is False


def test_the_algorithm_is_that_of_the_backend(uploader, make_backend, source, data):
    backend = make_backend(checksum=CRC32C)
    uploader(backend=backend).upload(source, KEY)
    verification = uploader(backend=backend).verify(source, KEY)
    assert verification.equal is True
    assert (verification.checksum_algorithm, verification.checksum) == ("crc32c", CRC32C.compute(data))


@pytest.mark.parametrize("size", [0, 1, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 12 * MIB])
def test_sources_of_every_kind_and_size_are_compared(tmp_path, size):
    data = pseudo_random_bytes(size)
    file = tmp_path / "file"
    file.write_bytes(data)
    uploader = Uploader(LocalBackend(tmp_path / "bucket"), store=MemoryCheckpointStore())
    uploader.upload(data, KEY)
    other = data[:-1] + b"?" if size else b"?"
    other = other if other != data else data[:-1] + b"!"
    for make in (bytes, io.BytesIO, lambda content: StreamSource(io.BytesIO(content), name="n", spool_above=-1)):
        assert uploader.verify(make(data), KEY).equal is True
        assert uploader.verify(make(data + b"x"), KEY).equal is False
        assert uploader.verify(make(other), KEY).equal is False
    assert uploader.verify(file, KEY).equal is True


def test_a_stream_is_read_to_its_end(uploader, data, stored):
    verification = uploader().verify(io.BytesIO(data[:-1]), KEY)
    assert (verification.equal, verification.reason) == (False, "the source has 44 bytes, the object 45")


def test_a_stream_that_does_not_end_is_read_to_the_first_byte_too_many(uploader, backend, stored):
    class Endless:
        given = 0

        def read(self, size):
            self.given += size
            return b"\0" * size

    stream = Endless()
    verification = uploader().verify(stream, KEY)
    assert (verification.equal, verification.size, verification.checksum) == (False, None, None)
    assert verification.reason == "the source has more than the 45 bytes of the object"
    assert stream.given == 46


def test_a_stream_that_was_opened_is_closed(uploader, data, stored):
    opened = []

    def open_stream():
        opened.append(io.BytesIO(data))
        return opened[-1]

    assert uploader().verify(StreamSource(open_stream, name="n"), KEY).equal is True
    assert [stream.closed for stream in opened] == [True]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files can be listed on Linux only")  # noqa: PTH112
def test_no_file_stays_open(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(pseudo_random_bytes(9 * MIB))
    uploader = Uploader(LocalBackend(tmp_path / "bucket"), store=MemoryCheckpointStore())
    uploader.upload(file, KEY)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # a number is needed
    uploader.verify(file, KEY)
    with pytest.raises(ZeroDivisionError):
        uploader.verify(file, KEY, progress=lambda progress: 1 / 0)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_no_checkpoint_store_is_opened(backend, source, tmp_path, monkeypatch):
    for name in ("HOME", "XDG_STATE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    Uploader(backend).verify(source, KEY)
    assert not (tmp_path / "home").exists()


# --- changes while it is read ---


def halfway(change):
    """Return the changes of a source in the middle of its first reading."""
    return {1: change}


@pytest.mark.parametrize(
    "change",
    [
        lambda source: source.write(bytes(reversed(source.data))),
        lambda source: source.touch(),
        lambda source: source.write(source.data[:20]),
        lambda source: source.write(source.data + b"x"),
    ],
    ids=["other bytes", "another time", "truncated", "longer"],
)
def test_a_source_that_changes_while_it_is_read_is_an_error(uploader, data, stored, change):
    source = ChangingSource(data, chunk_size=7, changes=halfway(change))
    with pytest.raises(SourceChanged, match="/a/file changed while it was read, and was not compared with key"):
        uploader().verify(source, KEY)


def test_a_file_whose_inode_alone_changed_is_read_again(uploader, data, stored):
    source = ChangingSource(data, chunk_size=7, changes=halfway(lambda source: source.replace(data)))
    assert uploader().verify(source, KEY).equal is True
    assert source.readings == 2


def test_a_file_that_was_replaced_by_one_of_the_same_size_and_time_is_an_error(uploader, source, data, stored):
    def replace_at_the_end(progress):
        if progress.completed:
            source.replace(bytes(reversed(data)))

    with pytest.raises(SourceChanged):
        uploader().verify(source, KEY, progress=replace_at_the_end)


def test_a_file_that_is_truncated_while_it_is_read_is_an_error(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(pseudo_random_bytes(9 * MIB))
    uploader = Uploader(LocalBackend(tmp_path / "bucket"), store=MemoryCheckpointStore())
    uploader.upload(file, KEY)
    seen = []

    def truncate(progress):
        seen.append(progress)
        os.truncate(file, 5 * MIB)

    with pytest.raises(SourceChanged, match="changed while it was read"):
        uploader.verify(file, KEY, progress=truncate)
    assert len(seen) == 1


class Lying(ChangingSource):
    """A source whose bodies are shorter than they say, or than was asked for."""

    def __init__(self, data, *, said, given):
        super().__init__(data)
        self._said, self._given = said, given

    def body(self, offset, size):
        said, given = self._said, self._given

        class Body:
            def __len__(self):
                return said

            def chunks(self):
                yield memoryview(b"\0" * given)

        return Body()


@pytest.mark.parametrize(("said", "given"), [(44, 44), (45, 44), (45, 46), (46, 46), (0, 0)])
def test_a_body_of_another_length_is_a_change(uploader, data, stored, said, given):
    with pytest.raises(SourceChanged):
        uploader().verify(Lying(data, said=said, given=given), KEY)


@pytest.mark.parametrize("given", [47, 60])
def test_a_body_of_a_stream_that_is_longer_than_was_asked_for_is_a_change(uploader, data, stored, given):
    """One byte more than the object has is asked for."""
    stream = Lying(data, said=given, given=given)
    stream.fingerprint = Fingerprint
    with pytest.raises(SourceChanged):
        uploader().verify(stream, KEY)


# --- failures ---


def test_a_source_that_is_missing_is_an_error(uploader, backend, tmp_path):
    asked = Asked(backend)
    with pytest.raises(SourceUnreadable):
        uploader(backend=asked).verify(tmp_path / "missing", KEY)
    assert asked.requests == []


def test_requests_are_retried(uploader, backend, source, clock, stored):
    asked = Asked(backend, ConnectionFailed("reset"), ConnectionFailed("reset"))
    assert uploader(backend=asked).verify(source, KEY).equal is True
    assert asked.requests == ["head_object"] * 3
    assert len(clock.waits) == 2


def test_a_permanent_failure_is_the_error(uploader, backend, source):
    with pytest.raises(AccessDenied):
        uploader(backend=Asked(backend, AccessDenied("no"))).verify(source, KEY)


def test_a_lasting_failure_is_the_error(uploader, backend, source, clock):
    failing = Asked(backend, *[ConnectionFailed("reset")] * 100)
    with pytest.raises(ConnectionFailed) as raised:
        uploader(backend=failing, give_up_after=60).verify(source, KEY)
    assert isinstance(raised.value, BackendError)
    assert raised.value.retryable
    assert sum(clock.waits) <= 60


def test_a_defect_of_a_backend_propagates(uploader, backend, source):
    with pytest.raises(ZeroDivisionError):
        uploader(backend=Asked(backend, ZeroDivisionError())).verify(source, KEY)


def test_a_read_that_fails_for_a_moment_continues_where_it_was(uploader, data, stored):
    failures = iter([SourceUnreadable("EIO", retryable=True)])

    def fail(source):
        raise next(failures)

    source = ChangingSource(data, chunk_size=7, changes={1: fail})
    verification = uploader().verify(source, KEY)
    assert verification.equal is True
    assert source.readings == 2


def test_a_stream_that_fails_is_an_error(uploader, stored):
    class Failing:
        def read(self, size):
            raise OSError("the disk is gone")

    with pytest.raises(SourceError, match="the disk is gone"):
        uploader().verify(Failing(), KEY)


# --- progress ---


def reports_of(uploader, source, **config):
    seen = []
    uploader(**config).verify(source, KEY, progress=seen.append)
    return seen


def test_progress_begins_at_zero_and_ends_with_everything(uploader, source, stored):
    reports = reports_of(uploader, source)
    assert [(one.bytes_done, one.bytes_total, one.completed) for one in reports] == [(0, 45, False), (45, 45, True)]


@pytest.mark.parametrize("as_stream", [False, True])
def test_progress_is_monotonic_and_all_is_reported_once_only(tmp_path, backend, as_stream):
    data = pseudo_random_bytes(13 * MIB)
    uploader = Uploader(backend, store=MemoryCheckpointStore())
    uploader.upload(data, KEY)
    seen = []
    uploader = Uploader(backend, config=evolve(uploader.config, progress_interval=0.0))
    uploader.verify(io.BytesIO(data) if as_stream else data, KEY, progress=seen.append)
    assert [one.bytes_done // MIB for one in seen] == [0, 4, 8, 12, 13]
    assert [one.completed for one in seen] == [False] * 4 + [True]
    assert {one.bytes_total for one in seen[:-1]} == ({None} if as_stream else {13 * MIB})


def test_nothing_is_reported_where_nothing_is_read(uploader, source):
    assert reports_of(uploader, source) == []


class Stop(BaseException):
    """What a signal handler raises."""


@pytest.mark.parametrize("error", [ZeroDivisionError, ConnectionFailed, Stop])
def test_what_progress_raises_propagates_as_it_is(uploader, source, stored, error):
    calls = []

    def fail(progress):
        calls.append(progress)
        raise error("x")

    with pytest.raises(error):
        uploader().verify(source, KEY, progress=fail)
    assert len(calls) == 1
