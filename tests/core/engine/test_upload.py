"""One upload's life, end to end over a bucket and a store in memory: how it begins, and what it sends."""

from __future__ import annotations

import gc
import io
import logging

import pytest
from attrs import evolve

from partwise._engine import upload as upload_module
from partwise._engine.concurrency import FixedConcurrency
from partwise._engine.context import Runtime
from partwise._engine.reconcile import TOKEN_NAME
from partwise._engine.workers import InlineWorkers
from partwise.backends.local import LocalBackend
from partwise.backends.memory import MemoryBackend
from partwise.backends.oss import Callback, OSSOptions
from partwise.bodies import bytes_body
from partwise.checkpoint import checkpoint_name
from partwise.checksums import crc64
from partwise.clock import SystemClock, default_random
from partwise.config import TransferConfig
from partwise.errors import (
    AccessDenied,
    CallbackError,
    CheckpointBusy,
    CheckpointUnwritable,
    ConnectionFailed,
    IntegrityError,
    InvalidInput,
    InvalidKey,
    ObjectExists,
    SourceChanged,
    SourceError,
    SourceMismatch,
    SourceUnreadable,
    UnsupportedOption,
    UploadFailed,
)
from partwise.model import ObjectOptions, PartLimits, UploadedPart
from partwise.results import UploadResult
from partwise.sources import BytesSource, StreamSource
from partwise.stores.file import FileCheckpointStore
from partwise.testing.fakes import ChangingSource, pseudo_random_bytes
from partwise.testing.faults import Fault, FaultKind
from partwise.testing.faulty import FaultySource
from partwise.uploader import Uploader

NAME = checkpoint_name("memory://bucket", "key", "/a/file")
ONCE = ObjectOptions(forbid_overwrite=True)


def stream(data, **settings):
    return StreamSource(io.BytesIO(data), **settings)


# --- the common case -------------------------------------------------------------------------------------------------


def test_an_object_is_made_of_parts(uploader, backend, source, data, left_behind):
    result = uploader().upload(source, "key")

    assert backend.read("key") == data
    assert result == UploadResult(
        "key",
        45,
        backend.head_object("key").etag,
        crc64(data),
        bytes_sent=45,
        parts_sent=5,
        verified=True,
        concurrency_reached=1,
    )
    assert left_behind() == []


@pytest.mark.parametrize("size", [1, 9, 10, 11, 19, 20, 21, 100])
@pytest.mark.parametrize("concurrency", [1, 3])
def test_any_size_arrives_as_it_is(uploader, backend, size, concurrency):
    data = pseudo_random_bytes(size)
    result = uploader(concurrency=concurrency).upload(data, "key")

    assert backend.read("key") == data
    assert result.parts_sent == -(-size // 10)


def test_the_bandwidth_limit_holds_after_a_wait(faulty, backend, source, clock):
    """Ten bytes a second, in parts of ten; the storage asks for a pause of a minute after two of them."""
    began = []
    upload_part = backend.upload_part

    def noting(key, upload_id, number, body):
        part = upload_part(key, upload_id, number, body)
        began.append(clock.time - 1000.0)
        return part

    backend.upload_part = noting
    faulty(
        Fault("upload_part", FaultKind.THROTTLED, part_number=3, seconds=60.0), bandwidth_limit=10, concurrency=2
    ).upload(source, "key")

    assert began == [0.0, 1.0, 2.0, 61.0, 62.0]


def test_threads_send_parts(uploader, backend, source, data):
    made = uploader(concurrency=3)
    result = Uploader(backend, store=made.store, config=made.config).upload(source, "key")

    assert backend.read("key") == data
    assert result.verified


def test_a_long_line_gets_smaller_parts(uploader, backend, store, clock):
    source, sizes = BytesSource(bytes(9 * 2**20), name="/a/file"), {}
    initiate, upload_part = backend.initiate_upload, backend.upload_part

    def initiate_slowly(key, options):
        clock.time += seconds
        return initiate(key, options)

    def noting(key, upload_id, number, body):
        sizes.setdefault(seconds, []).append(len(body))
        return upload_part(key, upload_id, number, body)

    backend.initiate_upload, backend.upload_part = initiate_slowly, noting
    for seconds in (0.001, 0.2):  # noqa: B007  # the functions above use it
        uploader(part_size="auto").upload(source, "key")

    assert sizes == {0.001: [8 * 2**20, 2**20], 0.2: [2**20] * 9}


@pytest.mark.parametrize(
    ("opened", "part_size", "maximum"),
    [
        (stream, 8 * 2**20, 6),
        (stream, 2**20, 48),
        (stream, 100, 128),
        (stream, 2**30, 2),
        (lambda data: BytesSource(data, name="/a/file"), 2**30, 128),
    ],
)
def test_the_parts_in_flight_of_a_stream_take_at_most_48_mebibytes(
    uploader, data, monkeypatch, *, opened, part_size, maximum
):
    made = []
    monkeypatch.setattr(
        upload_module, "AutoConcurrency", lambda most, latency, size: made.append(most) or FixedConcurrency(1)
    )
    uploader(concurrency="auto", part_size=part_size).upload(opened(data), "key")

    assert made == [maximum]


class ConnectingAhead(MemoryBackend):
    """Keeps what it was asked to prepare for."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def connect_ahead(self, count_for):
        self.asked.append([count_for(seconds) for seconds in (0.001, 0.02, 0.25)])


@pytest.mark.parametrize(
    ("size", "settings", "counts"),
    [
        (100 * 2**20, {}, [0, 16, 64]),
        (100 * 2**20, {"concurrency_max": 20}, [0, 16, 20]),
        (100 * 2**20, {"concurrency": 3}, [0, 3, 3]),
        (12 * 2**20, {}, [0, 12, 12]),
        (40 * 2**20, {"part_size": 8 * 2**20}, [0, 5, 5]),
    ],
)
def test_the_first_parts_of_a_long_line_are_connected_ahead(size, settings, counts):
    backend = ConnectingAhead()
    Uploader(backend, config=TransferConfig(**settings)).upload(bytes(size), "key", resume="never")

    assert backend.asked == [counts]


def test_nothing_is_connected_ahead_for_a_single_request_or_a_stream():
    backend = ConnectingAhead()
    uploader = Uploader(backend)
    uploader.upload(bytes(100), "small", resume="never")
    uploader.upload(io.BytesIO(bytes(9 * 2**20)), "streamed", resume="never")

    assert backend.asked == [[0, 0, 0]]


def test_a_resumed_upload_keeps_its_part_size_on_a_long_line(uploader, faulty, backend, store, clock):
    source = BytesSource(bytes(9 * 2**20), name="/a/file")
    with pytest.raises(UploadFailed):
        faulty(Fault("upload_part", FaultKind.PERMANENT, part_number=2), part_size="auto").upload(source, "key")
    list_parts = backend.list_parts

    def list_slowly(key, upload_id):
        clock.time += 0.2
        return list_parts(key, upload_id)

    backend.list_parts = list_slowly

    assert uploader(part_size="auto").upload(source, "key").bytes_resumed == 8 * 2**20


def test_a_second_upload_replaces_the_object(uploader, backend):
    uploader().upload(b"before" * 5, "key")
    uploader().upload(b"after" * 5, "key")

    assert backend.read("key") == b"after" * 5


def test_no_unnecessary_request_is_sent(uploader, backend, source):
    """What each request costs adds up over a million objects."""
    uploader().upload(source, "key")

    assert backend.calls == {"initiate_upload": 1, "upload_part": 5, "complete_upload": 1}


def test_what_completes_an_upload_is_its_parts_in_order(uploader, backend, source):
    handed = []
    complete = backend.complete_upload
    backend.complete_upload = lambda key, upload_id, parts, options: (
        handed.extend(parts) or complete(key, upload_id, parts, options)
    )
    uploader(concurrency=3).upload(source, "key")

    assert [part.part_number for part in handed] == [1, 2, 3, 4, 5]
    assert all(isinstance(part, UploadedPart) for part in handed)


# --- what is refused before anything happens -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        ({"key": ""}, {}, InvalidInput, "the key of an object can't be empty"),
        ({"resume": "maybe"}, {}, InvalidInput, "resume must be 'auto', 'require' or 'never', not 'maybe'"),
        (
            {"options": OSSOptions(callback=Callback("http://a/", "b"), content_type="a/b")},
            {},
            UnsupportedOption,
            "memory://bucket does not support callback. Nothing was sent",
        ),
        ({}, {"part_size": 2**40}, InvalidInput, "the part size of 1 TiB is out of bounds"),
        ({"source": 7}, {}, InvalidInput, "a source must be a path, bytes"),
        ({"source": "/no/such/file"}, {}, SourceUnreadable, "file can't be read"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_happens(uploader, backend, store, source, wrong):
    arguments, config, kind, message = wrong
    with pytest.raises(kind, match=message):
        uploader(**config).upload(**{"source": source, "key": "key", **arguments})

    assert backend.calls == {}
    assert list(store.scan()) == []


def test_a_key_that_the_backend_can_not_hold_is_reported_unchanged(uploader, source, left_behind):
    with pytest.raises(InvalidKey):
        uploader().upload(source, "k" * 2000)

    assert left_behind() == []


# --- with a single put -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "operation"), [(0, "put_object"), (19, "put_object"), (20, "upload_part")])
def test_below_the_threshold_an_object_is_a_single_put(uploader, backend, size, operation, left_behind):
    data = pseudo_random_bytes(size)
    result = uploader(multipart_threshold=20).upload(ChangingSource(data), "key")

    assert backend.read("key") == data
    assert operation in backend.calls
    assert (result.size, result.checksum, result.verified) == (size, crc64(data), True)
    assert (result.bytes_sent, result.parts_sent) == (size, 0 if size == 0 else -(-size // (10 if size == 20 else 20)))
    assert left_behind() == []


def test_an_empty_source_is_a_single_put_whatever_the_threshold(uploader, backend):
    result = uploader().upload(b"", "key")

    assert backend.calls == {"put_object": 1}
    assert (result.size, result.checksum, result.verified) == (0, 0, True)


@pytest.mark.parametrize(("size", "operation"), [(12, "put_object"), (13, "upload_part")])
def test_what_is_too_large_for_a_single_put_is_sent_in_parts(uploader, make_backend, size, operation):
    backend = make_backend(limits=PartLimits(max_put_size=12))
    uploader(backend=backend, multipart_threshold=20).upload(pseudo_random_bytes(size), "key")

    assert operation in backend.calls


def test_what_is_a_single_put_is_claimed_but_never_recorded(faulty, source):
    made = faulty(multipart_threshold=50)
    made.upload(source, "key")

    assert [call.operation for call in made.store.plan.calls] == ["claim", "load", "delete", "put_object"]


def test_a_single_put_is_retried(faulty, backend, source, data, clock):
    result = faulty(
        Fault("put_object", FaultKind.BEFORE),
        Fault("put_object", FaultKind.HALFWAY, occurrence=2),
        Fault("put_object", FaultKind.AFTER, occurrence=3),
        multipart_threshold=50,
    ).upload(source, "key")

    assert backend.read("key") == data
    assert result.verified
    assert clock.waits == [0.5, 1.0, 2.0]


def test_a_single_put_that_arrived_damaged_is_sent_again(faulty, backend, source):
    result = faulty(Fault("put_object", FaultKind.WRONG_CHECKSUM), multipart_threshold=50).upload(source, "key")

    assert result.verified
    assert backend.calls["put_object"] == 2


def test_a_single_put_that_always_arrives_damaged_fails(faulty, source):
    faults = [Fault("put_object", FaultKind.WRONG_CHECKSUM, occurrence=n) for n in (1, 2)]
    with pytest.raises(UploadFailed, match="key did not arrive as it was sent") as caught:
        faulty(*faults, multipart_threshold=50, max_attempts=2).upload(source, "key")

    assert isinstance(caught.value.__cause__, IntegrityError)


@pytest.mark.parametrize("condition", ["forbid_overwrite", "if_match"])
def test_a_single_put_that_arrived_damaged_and_can_not_be_replaced_says_so(uploader, backend, source, condition):
    """Not that an object exists: it is the one that this run has stored."""
    options = ONCE
    if condition == "if_match":
        options = ObjectOptions(if_match=backend.put_object("key", bytes_body(b"old"), ObjectOptions()).etag)
    put = backend.put_object

    def damage(key, body, options):
        list(body.chunks())
        return put(key, bytes_body(bytes(len(body))), options)

    backend.put_object = damage
    with pytest.raises(UploadFailed, match="key was stored with 45 bytes and the crc64xz") as caught:
        uploader(multipart_threshold=50).upload(source, "key", options=options)

    assert isinstance(caught.value.__cause__, IntegrityError)
    assert caught.value.hint.startswith("Delete or replace that object")


def test_a_single_put_that_is_refused_is_not_retried(faulty, source, left_behind):
    with pytest.raises(UploadFailed) as caught:
        faulty(Fault("put_object", FaultKind.PERMANENT), multipart_threshold=50).upload(source, "key")

    assert isinstance(caught.value.__cause__, AccessDenied)
    assert (caught.value.resumable, caught.value.retryable, caught.value.upload_id) == (False, False, None)
    assert left_behind() == []


def test_a_source_that_changes_while_it_is_a_single_put_is_never_stored(uploader, backend):
    """The last bytes are held back until the source was looked at once more."""
    source = ChangingSource(pseudo_random_bytes(45), chunk_size=5, changes={1: lambda source: source.append(b"more")})
    with pytest.raises(SourceChanged, match=r"changed during the upload.*Nothing was completed"):
        uploader(multipart_threshold=50).upload(source, "key")

    assert backend.keys() == []


def test_a_source_that_changes_after_a_lost_response_may_be_stored_as_it_was(faulty, backend, source, data, clock):
    made = faulty(Fault("put_object", FaultKind.AFTER), multipart_threshold=50)
    clock.meanwhile = source.touch
    with pytest.raises(
        SourceChanged, match=r"An earlier request of this run may have stored an object, and the next run"
    ):
        made.upload(source, "key")

    assert backend.read("key") == data


def test_a_source_that_changed_before_its_last_bytes_left_is_never_stored(faulty, backend, source):
    made = faulty(Fault("fingerprint", FaultKind.CHANGED, occurrence=2), multipart_threshold=50)
    with pytest.raises(SourceChanged):
        made.upload(FaultySource(source, made.store.plan), "key")

    assert backend.keys() == []


def test_a_source_that_shrinks_while_it_is_a_single_put_is_never_stored(uploader, backend):
    source = ChangingSource(pseudo_random_bytes(45), chunk_size=5, changes={1: lambda source: source.truncate(30)})
    with pytest.raises(SourceChanged):
        uploader(multipart_threshold=50).upload(source, "key")

    assert backend.keys() == []


def test_a_source_that_shrank_below_the_threshold_leaves_no_old_upload(uploader, backend, interrupted, left_behind):
    source = ChangingSource(pseudo_random_bytes(45))
    interrupted(source)
    source.truncate(15)
    result = uploader(multipart_threshold=20).upload(source, "key")

    assert backend.read("key") == source.data
    assert result.warnings == ("started again: the source changed: it had 45 bytes, and now has 15",)
    assert left_behind() == []


def test_an_old_upload_that_could_not_be_aborted_is_remembered_by_its_old_checkpoint(
    faulty, store, interrupted, left_behind
):
    source = ChangingSource(pseudo_random_bytes(45))
    old = interrupted(source)
    source.truncate(15)
    result = faulty(Fault("abort_upload", FaultKind.PERMANENT), multipart_threshold=20).upload(source, "key")

    assert any("could not be aborted" in warning for warning in result.warnings)
    assert [checkpoint.upload_id for checkpoint in store.scan()] == [old.upload_id]
    faulty(multipart_threshold=20).upload(source, "key")
    assert left_behind() == []


# --- forbidden to overwrite ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0, 50])
def test_an_object_that_must_not_be_overwritten_stays(uploader, backend, source, threshold, left_behind):
    uploader().upload(b"before", "key")
    with pytest.raises(UploadFailed) as caught:
        uploader(multipart_threshold=threshold).upload(source, "key", options=ONCE)

    assert isinstance(caught.value.__cause__, ObjectExists)
    assert not caught.value.retryable
    assert backend.read("key") == b"before"
    assert left_behind() == []


def test_an_object_of_the_same_bytes_is_in_the_way_like_any_other(uploader, source):
    uploader().upload(source.data, "key")
    with pytest.raises(UploadFailed) as caught:
        uploader(multipart_threshold=50).upload(source, "key", options=ONCE)

    assert isinstance(caught.value.__cause__, ObjectExists)


def test_our_own_object_after_a_lost_response_is_not_in_the_way(faulty, backend, source, data):
    """The second attempt finds an object that must not be overwritten: the one that the first has made."""
    result = faulty(Fault("put_object", FaultKind.AFTER), multipart_threshold=50).upload(source, "key", options=ONCE)

    assert backend.read("key") == data
    assert result.verified
    assert len(result.warnings) == 1
    assert "if it is older than this run, the options of this run had no effect" in result.warnings[0]


def test_another_clients_object_after_a_failed_attempt_is_in_the_way(faulty, backend, source, clock):
    made = faulty(Fault("put_object", FaultKind.BEFORE), multipart_threshold=50)
    clock.meanwhile = lambda: faulty().upload(b"another client's", "key")
    with pytest.raises(UploadFailed) as caught:
        made.upload(source, "key", options=ONCE)

    assert isinstance(caught.value.__cause__, ObjectExists)
    assert backend.read("key") == b"another client's"


@pytest.mark.parametrize("lost", ["put_object", "head_object"])
def test_without_checksums_an_object_in_the_way_is_known_to_be_ours_by_its_token(lost, faulty, make_backend, source):
    backend = make_backend(object_checksums=False)
    plan = [Fault("put_object", FaultKind.AFTER)]
    plan += [Fault("head_object", FaultKind.BEFORE)] if lost == "head_object" else []
    options = ObjectOptions(forbid_overwrite=True, metadata={"who": "me"})
    result = faulty(*plan, backend=backend, multipart_threshold=50).upload(source, "key", options=options)

    assert (result.size, result.verified) == (45, False)
    assert backend.describe("key").metadata.keys() == {"who", TOKEN_NAME}


def test_without_checksums_an_equal_object_of_another_client_is_not_ours(make_backend, uploader, source):
    backend = make_backend(object_checksums=False)

    class Raced(MemoryBackend):
        """Loses the request, and another client stores the same bytes meanwhile."""

        def put_object(self, key, body, options):
            if self.calls["put_object"] == 0:
                super().put_object(key, body, ObjectOptions(metadata={TOKEN_NAME: "theirs"}))
                raise ConnectionFailed("the request was lost")
            return super().put_object(key, body, options)

    raced = Raced("bucket", limits=backend.limits, capabilities=backend.capabilities)
    with pytest.raises(UploadFailed) as caught:
        uploader(backend=raced, multipart_threshold=50).upload(source, "key", options=ONCE)

    assert isinstance(caught.value.__cause__, ObjectExists)
    assert raced.describe("key").metadata == {TOKEN_NAME: "theirs"}


def test_an_object_that_may_be_replaced_has_no_token(make_backend, uploader, source):
    backend = make_backend(object_checksums=False)
    uploader(backend=backend, multipart_threshold=50).upload(source, "key")

    assert backend.describe("key").metadata == {}


def test_without_checksums_and_metadata_an_object_in_the_way_is_never_guessed_to_be_ours(faulty, make_backend, source):
    backend = make_backend(object_checksums=False, options={"forbid_overwrite"})
    with pytest.raises(UploadFailed) as caught:
        faulty(Fault("put_object", FaultKind.AFTER), backend=backend, multipart_threshold=50).upload(
            source, "key", options=ONCE
        )

    assert isinstance(caught.value.__cause__, ObjectExists)


# --- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 9, 10, 11, 20, 45])
def test_a_stream_of_any_length_arrives_as_it_is(uploader, backend, size, left_behind):
    data = pseudo_random_bytes(size)
    result = uploader().upload(stream(data), "key")

    assert backend.read("key") == data
    assert (result.size, result.parts_sent, result.verified) == (size, -(-size // 10), True)
    assert left_behind() == []


def test_an_open_file_can_be_uploaded(uploader, backend, tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    with (tmp_path / "file").open("rb") as file:
        uploader().upload(file, "key")

    assert backend.read("key") == data


def test_an_empty_stream_is_an_empty_object(uploader, backend):
    assert uploader().upload(stream(b""), "key").size == 0
    assert backend.calls == {"put_object": 1}


def test_the_end_of_an_empty_stream_is_read_once(uploader):
    """On a terminal, a second read would wait until the user ends the input once more."""

    class Terminal(io.BytesIO):
        reads = 0

        def read(self, size=-1, /):
            self.reads += 1
            return super().read(size)

    terminal = Terminal()
    uploader().upload(terminal, "key")

    assert terminal.reads == 1


def test_a_callback_error_before_the_object_is_stored_is_a_failure(uploader, backend, store, source, monkeypatch):
    """A backend must not raise it for a part; then nothing is stored, and what was sent is kept."""

    def defective(*_):
        raise CallbackError("the callback failed")

    monkeypatch.setattr(backend, "upload_part", defective)
    with pytest.raises(UploadFailed) as caught:
        uploader().upload(source, "key")

    assert caught.value.resumable
    assert store.load(NAME) is not None


@pytest.mark.parametrize(("size", "operation"), [(7, "put_object"), (8, "upload_part"), (9, "upload_part")])
def test_a_stream_that_ends_within_its_first_part_follows_the_threshold(uploader, backend, size, operation):
    result = uploader(multipart_threshold=8).upload(stream(pseudo_random_bytes(size)), "key")

    assert operation in backend.calls
    assert (result.size, result.parts_sent) == (size, 1)


def test_a_stream_that_fills_its_first_part_is_sent_in_parts(uploader, backend):
    """Whether there is more is not known before that part was sent."""
    result = uploader(multipart_threshold=2000).upload(stream(pseudo_random_bytes(10)), "key")

    assert backend.calls["upload_part"] == 1
    assert result.parts_sent == 1


def test_a_streams_parts_grow(uploader, make_backend):
    backend = make_backend(limits=PartLimits(max_parts=20, max_part_size=10 << 9))
    sizes = []
    uploader(backend=backend).upload(
        stream(pseudo_random_bytes(100)), "key", progress=lambda at: sizes.append(at.bytes_acknowledged)
    )

    assert sorted(set(sizes)) == [0, 10, 20, 40, 60, 100]


def test_where_parts_must_be_equal_a_streams_do_not_grow(uploader, make_backend):
    backend = make_backend(equal_part_sizes=True, limits=PartLimits(max_parts=20, max_part_size=10 << 9))

    assert uploader(backend=backend).upload(stream(pseudo_random_bytes(105)), "key").parts_sent == 11


def test_a_stream_that_ends_with_the_last_part_there_can_be_fits(uploader, make_backend):
    backend = make_backend(limits=PartLimits(max_parts=3, max_part_size=10))
    uploader(backend=backend).upload(stream(pseudo_random_bytes(30)), "key")

    assert len(backend.read("key")) == 30


def test_a_stream_that_is_too_long_fails(uploader, make_backend, left_behind):
    backend = make_backend(limits=PartLimits(max_parts=3, max_part_size=10))
    with pytest.raises(
        UploadFailed, match=r"longer than the 30 bytes that 3 parts hold.*Start again with a larger part_size="
    ) as caught:
        uploader(backend=backend).upload(stream(pseudo_random_bytes(31)), "key")

    assert isinstance(caught.value.__cause__, SourceError)
    assert left_behind(backend) == []


def test_an_unnamed_stream_keeps_no_checkpoint(faulty):
    made = faulty()
    made.upload(stream(pseudo_random_bytes(45)), "key")

    assert not any(call.operation in {"claim", "save", "append_part"} for call in made.store.plan.calls)


def test_an_unnamed_stream_that_fails_leaves_no_orphan(faulty, left_behind):
    with pytest.raises(
        UploadFailed, match=r"the stream to key in memory://bucket could not .*Nothing is kept"
    ) as caught:
        faulty(Fault("upload_part", FaultKind.PERMANENT, part_number=3)).upload(stream(pseudo_random_bytes(45)), "key")

    assert (caught.value.resumable, caught.value.upload_id, caught.value.bytes_done) == (False, None, 0)
    assert left_behind() == []


def test_a_stream_that_breaks_is_reported_and_its_upload_aborted(uploader, backend):
    class Breaking(io.BytesIO):
        def read(self, size=-1, /):
            if self.tell() >= 20:
                raise OSError(5, "unplugged")
            return super().read(size)

    with pytest.raises(UploadFailed, match=r"the stream failed at byte 20: .*unplugged") as caught:
        uploader().upload(Breaking(pseudo_random_bytes(45)), "key")

    assert isinstance(caught.value.__cause__, SourceError)
    assert backend.uploads == {}


def test_a_stream_that_opens_itself_is_closed(uploader):
    opened = []
    source = StreamSource(lambda: opened.append(io.BytesIO(pseudo_random_bytes(45))) or opened[-1])
    uploader().upload(source, "key")

    assert [each.closed for each in opened] == [True]


@pytest.mark.parametrize("concurrency", [1, 2, 4])
def test_a_stream_is_read_no_further_than_there_are_workers(uploader, concurrency):
    """What is read is held in memory."""
    file = io.BytesIO(pseudo_random_bytes(200))
    ahead = []
    uploader(concurrency=concurrency).upload(
        file, "key", progress=lambda at: ahead.append(file.tell() - at.bytes_acknowledged)
    )

    assert max(ahead) <= 10 * concurrency


# --- what is sent again ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FaultKind.BEFORE, FaultKind.HALFWAY, FaultKind.AFTER, FaultKind.WRONG_CHECKSUM])
def test_a_part_that_failed_is_sent_again(faulty, backend, source, kind, left_behind):
    result = faulty(Fault("upload_part", kind, part_number=2)).upload(source, "key")

    assert backend.read("key") == source.data
    assert (result.verified, result.bytes_sent, result.parts_sent) == (True, 45, 5)
    assert left_behind() == []


def test_a_part_that_fails_for_good_stops_the_upload_and_keeps_it(faulty, backend, store, source):
    with pytest.raises(
        UploadFailed, match=r"could not be uploaded: not allowed.*Kept: 20 of 45 bytes; the same call"
    ) as e:
        faulty(Fault("upload_part", FaultKind.PERMANENT, part_number=3)).upload(source, "key")
    [checkpoint] = store.scan()

    assert (e.value.resumable, e.value.retryable) == (True, False)
    assert (e.value.key, e.value.bytes_done, e.value.bytes_total) == ("key", 20, 45)
    assert (e.value.parts_done, e.value.parts_total) == (2, 5)
    assert [e.value.upload_id] == list(backend.uploads) == [checkpoint.upload_id]
    assert [part.part_number for part in checkpoint.parts] == [1, 2]


def test_a_part_that_fails_too_often_says_that_another_run_may_succeed(faulty, source):
    faults = [Fault("upload_part", FaultKind.BEFORE, part_number=1, occurrence=n) for n in (1, 2)]
    with pytest.raises(UploadFailed) as caught:
        faulty(*faults, max_attempts=2).upload(source, "key")

    assert caught.value.retryable
    assert isinstance(caught.value.__cause__, ConnectionFailed)


def test_a_throttling_storage_gets_the_pause_that_it_asks_for(faulty, source, clock):
    faulty(Fault("upload_part", FaultKind.THROTTLED, part_number=2, seconds=60.0)).upload(source, "key")

    assert clock.time == 1060.0


def test_a_defect_of_a_plug_in_is_reported_with_what_is_kept(uploader, backend, source, monkeypatch):
    upload_part = backend.upload_part

    def defective(key, upload_id, part_number, body):
        if part_number == 3:
            raise ZeroDivisionError("oh")
        return upload_part(key, upload_id, part_number, body)

    monkeypatch.setattr(backend, "upload_part", defective)
    with pytest.raises(
        UploadFailed, match=r"part 3 of key failed because of a defect .* ZeroDivisionError: oh"
    ) as caught:
        uploader().upload(source, "key")

    assert caught.value.resumable


def test_a_defect_outside_of_the_parts_is_reported_with_what_is_kept(uploader, backend, source, monkeypatch):
    def defective(*_):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(backend, "complete_upload", defective)
    with pytest.raises(UploadFailed, match=r"ZeroDivisionError: oh. Kept: 45 of 45 bytes") as caught:
        uploader().upload(source, "key")

    assert isinstance(caught.value.__cause__, ZeroDivisionError)


# --- beginning -------------------------------------------------------------------------------------------------------


def test_the_intent_is_saved_before_any_request_to_the_storage(faulty, source):
    """And the upload's id before its first part is sent."""
    made = faulty()
    made.upload(source, "key")
    operations = [call.operation for call in made.store.plan.calls]
    order = [operations.index("claim"), operations.index("load"), operations.index("save")]

    assert operations[:6] == ["claim", "load", "save", "initiate_upload", "save", "upload_part"]
    assert order == sorted(order)


def test_each_part_is_recorded_before_the_next_one_is_sent(faulty, source):
    made = faulty()
    made.upload(source, "key")
    operations = [call.operation for call in made.store.plan.calls]

    assert operations[5:] == ["upload_part", "append_part"] * 5 + ["complete_upload", "delete"]


def test_a_lost_response_to_initiate_leaves_one_upload_that_no_checkpoint_knows(faulty, backend, store, source, data):
    """A list of uploads finds it; no one else can."""
    result = faulty(Fault("initiate_upload", FaultKind.AFTER)).upload(source, "key")

    assert backend.read("key") == data
    assert result.verified
    assert [upload.parts for upload in backend.uploads.values()] == [{}]
    assert list(store.scan()) == []


def test_an_upload_that_can_not_be_initiated_keeps_nothing(faulty, source, left_behind):
    with pytest.raises(UploadFailed, match="Nothing is kept") as caught:
        faulty(Fault("initiate_upload", FaultKind.PERMANENT)).upload(source, "key")

    assert not caught.value.resumable
    assert left_behind() == []


def test_a_checkpoint_that_can_not_be_written_fails_before_anything_is_sent(faulty, backend, source):
    with pytest.raises(CheckpointUnwritable):
        faulty(Fault("save", FaultKind.BEFORE)).upload(source, "key")

    assert backend.calls == {}


def test_an_upload_that_could_be_neither_recorded_nor_aborted_is_aborted_by_the_next_run(
    faulty, backend, store, source, left_behind
):
    """Its id is saved as that of an abandoned upload, since that write may succeed."""
    faults = Fault("save", FaultKind.BEFORE, occurrence=2), Fault("abort_upload", FaultKind.PERMANENT)
    with pytest.raises(CheckpointUnwritable):
        faulty(*faults).upload(source, "key")
    [orphan] = backend.uploads
    [checkpoint] = store.scan()
    assert (checkpoint.upload_id, checkpoint.abandoned) == (None, (orphan,))

    assert faulty().upload(source, "key").verified
    assert left_behind() == []


def test_an_upload_that_can_be_neither_recorded_nor_aborted_is_named(faulty, backend, source):
    faults = Fault("save", FaultKind.DISK_FULL, occurrence=2), Fault("abort_upload", FaultKind.PERMANENT)
    with pytest.raises(CheckpointUnwritable) as caught:
        faulty(*faults).upload(source, "key")
    [orphan] = backend.uploads

    notes = " ".join(caught.value.__notes__)
    assert f"the upload {orphan} could not be aborted" in notes
    assert f"the upload {orphan} could not be recorded, either" in notes


def test_a_place_that_can_not_be_claimed_fails_before_anything_is_sent(faulty, backend, source):
    with pytest.raises(CheckpointUnwritable):
        faulty(Fault("claim", FaultKind.READ_ONLY)).upload(source, "key")

    assert backend.calls == {}


def test_an_upload_whose_id_can_not_be_recorded_is_aborted(faulty, source, left_behind):
    with pytest.raises(CheckpointUnwritable):
        faulty(Fault("save", FaultKind.BEFORE, occurrence=2)).upload(source, "key")

    assert left_behind() == []


def test_an_interrupt_before_the_id_is_recorded_leaves_no_upload(uploader, backend, store, source, monkeypatch):
    """No checkpoint would ever contain its id."""
    save = store.save

    def interrupt(checkpoint):
        if checkpoint.upload_id is not None:
            raise KeyboardInterrupt
        save(checkpoint)

    monkeypatch.setattr(store, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        uploader().upload(source, "key")

    assert backend.uploads == {}


def test_progress_that_can_not_be_recorded_is_reported_once(faulty, backend, source, data):
    """The storage's own list has the parts, too, so the upload can still finish."""
    result = faulty(Fault("append_part", FaultKind.DISK_FULL)).upload(source, "key")

    assert backend.read("key") == data
    assert [warning.split(":")[0] for warning in result.warnings] == ["progress could not be recorded"]


def test_parts_that_were_not_recorded_are_adopted(faulty, backend, source):
    with pytest.raises(UploadFailed):
        faulty(
            Fault("append_part", FaultKind.DISK_FULL), Fault("upload_part", FaultKind.PERMANENT, part_number=3)
        ).upload(source, "key")
    result = faulty().upload(source, "key")

    assert (result.parts_resumed, result.parts_sent) == (2, 3)


def test_a_second_uploader_is_refused_at_once(uploader, backend, store, source):
    with (
        store.claim(NAME),
        pytest.raises(CheckpointBusy, match="/a/file to key in memory://bucket is being uploaded by another"),
    ):
        uploader().upload(source, "key")

    assert backend.calls == {}


def test_the_claim_is_released_however_the_upload_ends(uploader, store, source, interrupted):
    interrupted(source)
    with store.claim(NAME):
        pass
    uploader().upload(source, "key")

    with store.claim(NAME):
        pass


def test_a_claim_is_exited_as_it_was_entered(uploader, store, source):
    """By its own exit, with what ended the upload; not whenever it is collected."""
    left = []

    class Claim:
        def __enter__(self):
            pass

        def __exit__(self, kind, error, trace):
            left.append(kind)

    store.claim = lambda name: Claim()
    uploader().upload(source, "key")
    with pytest.raises(UploadFailed):
        uploader().upload(source, "key", options=ONCE)

    assert left == [None, UploadFailed]


def test_two_keys_for_one_source_stay_apart(uploader, backend, source, interrupted):
    interrupted(source)
    result = uploader().upload(source, "other")

    assert result.parts_sent == 5
    assert len(backend.uploads) == 1


# --- what the object is like -----------------------------------------------------------------------------------------


def test_options_go_with_the_object(uploader, backend, source):
    options = ObjectOptions(content_type="a/b", metadata={"c": "d"}, acl="private", storage_class="IA")
    uploader().upload(source, "key", options=options)

    assert backend.describe("key") == options


@pytest.mark.parametrize(
    "guess",
    [
        ("a/report.pdf", "/a/file", "application/pdf"),
        ("a/report", "/a/report.html", "text/html"),
        ("a/report", "/a/report", None),
        ("a/report.pdf", "/a/report.html", "application/pdf"),
    ],
)
@pytest.mark.parametrize("threshold", [0, 50])
def test_the_type_is_guessed_by_the_key_or_else_by_the_source(uploader, backend, data, guess, threshold):
    key, name, kind = guess
    uploader(multipart_threshold=threshold).upload(ChangingSource(data, name=name), key)

    assert backend.describe(key).content_type == kind


def test_a_content_type_that_was_given_is_kept(uploader, backend, source):
    uploader().upload(source, "report.pdf", options=ObjectOptions(content_type="text/plain"))

    assert backend.describe("report.pdf").content_type == "text/plain"


def test_no_type_is_guessed_where_the_backend_keeps_none(uploader, make_backend, source):
    backend = make_backend(options=frozenset())
    uploader(backend=backend).upload(source, "report.pdf")

    assert backend.describe("report.pdf").content_type is None


def test_no_type_is_guessed_where_the_name_of_the_object_says_it(uploader, make_backend, source):
    backend = make_backend(types_by_name=True)
    uploader(backend=backend).upload(source, "report.pdf")
    guessed = backend.describe("report.pdf").content_type
    uploader(backend=backend).upload(source, "report.pdf", options=ObjectOptions(content_type="text/plain"))

    assert guessed is None
    assert backend.describe("report.pdf").content_type == "text/plain"


class KnowsItsSource(MemoryBackend):
    """A storage that asks for the file that an object is made of."""

    path = None

    def with_source_file(self, path):
        self.path = path
        return self


@pytest.mark.parametrize("kind", ["file", "bytes"])
def test_a_storage_of_files_is_given_the_file_that_an_object_is_made_of(tmp_path, kind):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    backend = KnowsItsSource()

    Uploader(backend).upload(path if kind == "file" else b"x", "key", resume="never")

    assert backend.path == (str(path) if kind == "file" else None)


def test_a_wrapper_is_not_left_behind_for_the_storage_that_it_wraps(tmp_path):
    class Wrapper:
        def __init__(self, inner):
            self.inner, self.puts = inner, 0

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def put_object(self, *args):
            self.puts += 1
            return self.inner.put_object(*args)

    path = tmp_path / "file"
    path.write_bytes(b"x")
    wrapper = Wrapper(KnowsItsSource())

    Uploader(wrapper).upload(path, "key", resume="never")

    assert wrapper.puts == 1


@pytest.mark.parametrize(
    "damage", [UploadedPart(100_000, 10, "E"), UploadedPart(2, 2**64 - 1, "E")], ids=["number", "size"]
)
def test_a_record_of_an_impossible_recorded_part_does_not_count(uploader, interrupted, store, source, damage):
    """A store of one's own need not verify what it holds, and a digit is soon damaged."""
    interrupted(source)
    [recorded] = store.scan()
    store.save(evolve(recorded, parts=(recorded.parts[0], damage)))
    result = uploader().upload(source, "key")

    assert (result.verified, result.checksum) == (True, crc64(source.data))
    assert result.parts_sent + result.parts_resumed == 5


def test_each_part_is_in_memory_once_while_parts_are_sent(tmp_path):
    """A resume has each part several times: recorded, listed, kept. Once parts are sent, it has each of them once."""
    store, config = FileCheckpointStore(tmp_path / "state"), TransferConfig(10, multipart_threshold=0, max_attempts=1)
    seen = []

    class Bucket(LocalBackend):
        def upload_part(self, key, upload_id, part_number, body):
            if part_number == 50:
                gc.collect()  # of what the run that failed leaves in reference cycles
                seen.append(sum(isinstance(thing, UploadedPart) for thing in gc.get_objects()))
                if len(seen) == 1:
                    raise ConnectionFailed("not this time")
            return super().upload_part(key, upload_id, part_number, body)

    gc.collect()
    before = sum(isinstance(thing, UploadedPart) for thing in gc.get_objects())
    uploader = Uploader._with_runtime(
        Runtime(lambda: InlineWorkers(SystemClock()), SystemClock(), default_random()),
        Bucket(tmp_path / "bucket"),
        store=store,
        config=config,
    )
    with pytest.raises(UploadFailed):
        uploader.upload(BytesSource(pseudo_random_bytes(500)), "key")
    result = uploader.upload(BytesSource(pseudo_random_bytes(500)), "key")

    assert (result.parts_resumed, result.parts_sent) == (49, 1)
    assert max(seen) - before < 49 + 10


def test_a_guess_does_not_stand_in_the_way_of_resuming(uploader, interrupted, source):
    """What the next version of Python guesses may be another type."""
    interrupted(source)

    assert uploader().upload(source, "key").parts_resumed == 2


def test_where_the_backend_has_no_checksum_the_object_has_a_token(uploader, make_backend, source):
    backend = make_backend(object_checksums=False)
    options = ObjectOptions(metadata={"c": "d"})
    result = uploader(backend=backend).upload(source, "key", options=options)
    metadata = backend.describe("key").metadata

    assert metadata.pop(TOKEN_NAME)
    assert metadata == {"c": "d"}
    assert (result.verified, result.checksum) == (False, crc64(source.data))


def test_where_the_backend_has_checksums_there_is_no_token(uploader, backend, source):
    uploader().upload(source, "key")

    assert backend.describe("key").metadata == {}


def test_options_reach_the_backend_once_so_that_late_ones_can_be_refused_first(uploader, backend, source):
    class Binding:
        def __init__(self):
            self.asked = []

        def __getattr__(self, name):
            return getattr(backend, name)

        def with_request_options(self, options):
            self.asked.append(options)
            return backend

    binding = Binding()
    uploader(backend=binding).upload(source, "key", options=OSSOptions(traffic_limit=819_200))
    uploader(backend=binding).upload(source, "key", options=OSSOptions(request_payer="requester"))
    uploader(backend=binding).upload(source, "key", options=ObjectOptions(acl="private"))
    uploader(backend=binding).upload(source, "key")

    assert [options.explicitly_set() for options in binding.asked] == [{"traffic_limit"}, {"request_payer"}, {"acl"}]


# --- the source, while it is being uploaded --------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["append", "truncate", "touch", "replace", "write"])
def test_a_source_that_changes_during_the_upload_is_never_mixed(uploader, backend, data, change):
    """Neither its parts nor its checkpoint are of any use: the next run sends every part."""
    other = pseudo_random_bytes(45, "other")
    changes = {
        "append": lambda source: source.append(b"more"),
        "truncate": lambda source: source.truncate(30),
        "touch": lambda source: source.touch(),
        "replace": lambda source: source.replace(other),
        "write": lambda source: source.write(other),
    }
    source = ChangingSource(data, changes={3: changes[change]}, chunk_size=3)
    with pytest.raises(SourceChanged, match="Nothing was completed, and the next run sends every part") as caught:
        uploader().upload(source, "key")

    assert caught.value.source == "/a/file"
    assert (backend.keys(), backend.uploads) == ([], {})
    assert backend.calls["upload_part"] == 3, "no part is sent after the change"
    assert uploader().upload(source, "key").parts_sent == -(-len(source.data) // 10)


def test_a_source_that_changes_after_its_last_part_is_never_completed(uploader, backend, source):
    def change(at):
        if at.parts_done == 4:
            backend_upload = backend.upload_part

            def then_touch(*arguments):
                part = backend_upload(*arguments)
                source.touch()
                return part

            backend.upload_part = then_touch

    with pytest.raises(SourceChanged):
        uploader().upload(source, "key", progress=change)
    assert backend.calls["complete_upload"] == 0


def test_a_changed_source_whose_upload_can_not_be_aborted_keeps_the_checkpoint(
    faulty, backend, store, data, left_behind
):
    """So that no upload is orphaned."""
    source = ChangingSource(data, changes={3: ChangingSource.touch}, chunk_size=3)
    with pytest.raises(SourceChanged, match="could not be aborted now; the next run aborts it"):
        faulty(Fault("abort_upload", FaultKind.PERMANENT)).upload(source, "key")

    assert [checkpoint.upload_id for checkpoint in store.scan()] == list(backend.uploads)
    faulty().upload(source, "key")
    assert left_behind() == []


def test_bytes_that_were_written_to_during_the_upload_are_never_completed(uploader, backend, data):
    """Each part may be right by itself: their checksums do not add up to that of the bytes at the start."""
    buffer = bytearray(data)

    def write(at):
        buffer[44] ^= 1

    with pytest.raises(SourceChanged, match="its checksum is different"):
        uploader().upload(BytesSource(buffer), "key", progress=write)
    assert backend.keys() == []


def test_a_source_that_vanishes_during_the_upload_fails_and_keeps_what_is_there(uploader, tmp_path, data):
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(UploadFailed, match="can't be read") as caught:
        uploader().upload(path, "key", progress=lambda at: path.unlink(missing_ok=True))

    assert isinstance(caught.value.__cause__, SourceUnreadable)
    assert caught.value.resumable


def test_a_source_that_can_not_be_read_for_a_moment_fails_and_keeps_what_is_there(faulty, source):
    made = faulty(Fault("read", FaultKind.BEFORE, occurrence=3))
    with pytest.raises(UploadFailed) as caught:
        made.upload(FaultySource(source, made.store.plan), "key")

    assert (caught.value.resumable, caught.value.bytes_done) == (True, 20)


def test_the_source_is_closed_however_the_upload_ends(uploader, interrupted, data):
    closed = []

    class Closing(ChangingSource):
        def close(self):
            closed.append(self)

    source = Closing(data)
    interrupted(source)
    assert closed == [source]

    uploader().upload(source, "key")
    assert closed == [source, source]

    with pytest.raises(SourceMismatch):
        uploader().upload(source, "key", expected_size=7)
    assert closed == [source, source, source]


# --- the object, once it is there ------------------------------------------------------------------------------------


def test_an_object_of_another_checksum_fails_and_can_not_be_resumed(faulty, source, left_behind):
    with pytest.raises(UploadFailed, match=r"stored with 45 bytes and the crc64xz .* Delete or replace") as caught:
        faulty(Fault("complete_upload", FaultKind.WRONG_CHECKSUM)).upload(source, "key")

    assert (caught.value.resumable, caught.value.retryable, caught.value.upload_id) == (False, False, None)
    assert isinstance(caught.value.__cause__, IntegrityError)
    assert left_behind() == []


def test_an_object_of_another_size_fails(uploader, backend, source, monkeypatch):
    complete = backend.complete_upload
    monkeypatch.setattr(backend, "complete_upload", lambda *arguments: evolve(complete(*arguments), size=44))

    with pytest.raises(UploadFailed, match="was stored with 44 bytes"):
        uploader().upload(source, "key")


def forgetful(backend, monkeypatch, **changes):
    """A storage that does not tell its checksum at once."""
    complete = backend.complete_upload
    monkeypatch.setattr(
        backend, "complete_upload", lambda *arguments: evolve(complete(*arguments), checksum=None, **changes)
    )


def test_a_checksum_that_is_not_reported_at_once_is_requested(uploader, backend, source, monkeypatch):
    forgetful(backend, monkeypatch)

    assert uploader().upload(source, "key").verified
    assert backend.calls["head_object"] == 1


def test_a_checksum_that_can_not_be_requested_is_a_warning(faulty, backend, source, monkeypatch):
    forgetful(backend, monkeypatch)
    result = faulty(Fault("head_object", FaultKind.PERMANENT)).upload(source, "key")

    assert not result.verified
    assert result.checksum == crc64(source.data)
    assert result.warnings[0].startswith("the object's checksum could not be read")


def test_the_checksum_of_another_object_does_not_count(uploader, backend, source, monkeypatch):
    """another client may have replaced it meanwhile."""
    forgetful(backend, monkeypatch, etag="OURS")
    result = uploader().upload(source, "key")

    assert (result.verified, result.etag) == (False, "OURS")


def test_the_checksum_of_an_object_that_is_gone_does_not_count(uploader, backend, source, monkeypatch):
    forgetful(backend, monkeypatch)
    monkeypatch.setattr(backend, "head_object", lambda key: None)

    assert not uploader().upload(source, "key").verified


def test_without_checksums_none_is_requested(uploader, make_backend, source):
    backend = make_backend(object_checksums=False)
    uploader(backend=backend).upload(source, "key")

    assert backend.calls["head_object"] == 0


def test_a_checkpoint_that_can_not_be_deleted_is_a_warning(faulty, backend, source, data):
    result = faulty(Fault("delete", FaultKind.BEFORE)).upload(source, "key")

    assert backend.read("key") == data
    assert result.warnings[0].startswith("the checkpoint could not be deleted: ")


# --- the log ---------------------------------------------------------------------------------------------------------


def test_the_log_names_the_object_and_the_upload(uploader, source, caplog):
    with caplog.at_level(logging.INFO, "partwise"):
        uploader().upload(source, "key")

    assert {record.key for record in caplog.records} == {"key"}
    assert all(record.upload_id for record in caplog.records)
    assert "started, as upload" in caplog.text


def test_a_warning_is_logged(faulty, source, caplog):
    faulty(Fault("append_part", FaultKind.BEFORE)).upload(source, "key")

    assert "key: progress could not be recorded" in caplog.text
