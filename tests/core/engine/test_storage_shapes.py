"""
Uploads to storages that can do less: parts in order, no part replaced, one upload per key, no abort, no completion.

The bucket in memory refuses what such a storage refuses, so that a wrong request ends the upload.
"""

from __future__ import annotations

import io
import threading

import pytest
from attrs import evolve

from partwise._engine import upload as upload_module
from partwise._engine.scheduler import PartScheduler
from partwise.backends.memory import DEFAULT_CAPABILITIES, MemoryBackend
from partwise.bodies import bytes_body
from partwise.config import TransferConfig
from partwise.errors import (
    AccessDenied,
    CannotResume,
    ConnectionFailed,
    IntegrityError,
    ObjectExists,
    PartRejected,
    UploadCancelled,
    UploadFailed,
    UploadUnusable,
)
from partwise.model import ObjectOptions, PartLimits
from partwise.sources import StreamSource
from partwise.testing.fakes import ChangingSource, pseudo_random_bytes
from partwise.testing.faults import Fault, FaultKind
from partwise.uploader import Uploader


def consumed_stream(data):
    """A stream with a name, so that it is recorded, which can be read once."""
    return StreamSource(io.BytesIO(data), name="/a/stream")


def reopened_stream(data):
    """One that is opened again after it was closed."""
    return StreamSource(lambda: io.BytesIO(data), name="/a/stream")


class Recording(MemoryBackend):
    """A bucket that notes which parts were sent and which uploads were aborted, and fails as scripted."""

    def __init__(self, **capabilities):
        super().__init__("bucket", limits=PartLimits(), capabilities=evolve(DEFAULT_CAPABILITIES, **capabilities))
        self.sent, self.aborted, self.errors = [], [], {}

    def upload_part(self, key, upload_id, part_number, body):
        self.sent.append(part_number)
        self._fail("upload_part")
        return super().upload_part(key, upload_id, part_number, body)

    def complete_upload(self, key, upload_id, parts, options):
        self._fail("complete_upload")
        return super().complete_upload(key, upload_id, parts, options)

    def initiate_upload(self, key, options):
        self._fail("initiate_upload")
        return super().initiate_upload(key, options)

    def abort_upload(self, key, upload_id):
        self.aborted.append(upload_id)
        self._fail("abort_upload")
        super().abort_upload(key, upload_id)

    def _fail(self, operation):
        if self.errors.get(operation):
            raise self.errors[operation].pop(0)


# --- parts in order --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", ["auto", 8])
@pytest.mark.parametrize("make_source", [ChangingSource, consumed_stream])
def test_a_sequential_storage_gets_one_part_at_a_time(store, concurrency, make_source):
    backend, data = Recording(sequential=True), pseudo_random_bytes(4000)
    config = TransferConfig(part_size=10, multipart_threshold=0, concurrency=concurrency)

    result = Uploader(backend, store=store, config=config).upload(make_source(data), "key")

    assert backend.read("key") == data
    assert backend.sent == list(range(1, 401))
    assert result.concurrency_reached == 1


@pytest.mark.parametrize("kind", [FaultKind.BEFORE, FaultKind.AFTER, FaultKind.HALFWAY])
@pytest.mark.parametrize("make_source", [ChangingSource, consumed_stream])
def test_a_part_that_waits_for_another_attempt_keeps_its_place(faulty, data, kind, make_source):
    backend = Recording(sequential=True, replaces_parts=False)
    faults = [Fault("upload_part", kind, part_number=2), Fault("upload_part", kind, part_number=5)]

    faulty(*faults, backend=backend, concurrency=4).upload(make_source(data), "key")

    assert backend.read("key") == data
    assert sorted(backend.sent) == backend.sent


def test_a_sequential_storage_gets_the_rest_when_an_upload_is_resumed(interrupted, uploader, source, data):
    backend = Recording(sequential=True, replaces_parts=False)
    interrupted(source, backend=backend, concurrency=4)
    backend.sent.clear()

    result = uploader(backend=backend, concurrency=4).upload(source, "key")

    assert (backend.sent, result.parts_resumed, backend.read("key")) == ([3, 4, 5], 2, data)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({}, True), ({"sequential": True}, False), ({"replaces_parts": False}, False)],
)
def test_second_copies_are_sent_where_their_order_and_their_bytes_do_not_matter(
    uploader, source, monkeypatch, capabilities, expected
):
    made = []
    monkeypatch.setattr(
        upload_module, "PartScheduler", lambda **given: made.append(given["read_again"]) or PartScheduler(**given)
    )

    uploader(backend=Recording(**capabilities)).upload(source, "key")

    assert [read_again is not None for read_again in made] == [expected]


# --- no part is replaced ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capabilities", [{"replaces_parts": False}, {"replaces_parts": False, "sequential": True}])
@pytest.mark.parametrize("seen", [{}, {"part_checksums": False}, {"part_checksums": False, "lists_parts": False}])
def test_keep_matching_never_makes_a_mixture(interrupted, uploader, left_behind, capabilities, seen):
    backend, source = Recording(**capabilities, **seen), ChangingSource(pseudo_random_bytes(45))
    interrupted(source, backend=backend)
    changed = bytearray(source.data)
    changed[15] ^= 1
    source.write(bytes(changed))

    result = uploader(backend=backend, on_source_change="keep-matching").upload(source, "key")

    assert backend.read("key") == changed
    assert result.parts_resumed == 0
    assert left_behind(backend) == []


def test_keep_matching_resumes_if_only_the_rest_changed(interrupted, uploader):
    backend, source = Recording(replaces_parts=False), ChangingSource(pseudo_random_bytes(45))
    interrupted(source, backend=backend)
    source.write(source.data[:20] + b"other bytes from here on.")

    result = uploader(backend=backend, on_source_change="keep-matching").upload(source, "key")

    assert (result.parts_resumed, backend.read("key")) == (2, source.data)


def test_a_part_that_arrived_with_other_bytes_starts_again(faulty, source, data, left_behind):
    backend = Recording(replaces_parts=False)

    result = faulty(Fault("upload_part", FaultKind.WRONG_CHECKSUM, part_number=2), backend=backend).upload(
        source, "key"
    )

    assert backend.read("key") == data
    assert len(backend.aborted) == 1
    assert "started again: part 2 of key does not match what was sent" in result.warnings[0]
    assert left_behind(backend) == []


@pytest.mark.parametrize("capabilities", [{"replaces_parts": False}, {"sequential": True}])
def test_a_part_that_the_storage_has_lost_starts_again_if_it_can_not_be_sent(
    uploader, source, data, left_behind, capabilities
):
    class Forgetful(Recording):
        def complete_upload(self, key, upload_id, parts, options):
            stored = self._storage.uploads[upload_id].parts
            if not self.aborted:
                stored[2] = evolve(stored[2], part=evolve(stored[2].part, etag="OTHER", size=9))
                raise PartRejected("part 2 is another one")
            return super().complete_upload(key, upload_id, parts, options)

    backend = Forgetful(**capabilities)
    result = uploader(backend=backend).upload(source, "key")

    assert backend.read("key") == data
    assert backend.sent == [1, 2, 3, 4, 5] * 2
    assert "started again: the storage" in result.warnings[0]
    assert left_behind(backend) == []


def test_a_stream_that_differs_starts_again_if_it_can_be_read_again(interrupted, uploader, data, left_behind):
    backend = Recording(replaces_parts=False)
    interrupted(consumed_stream(data), backend=backend)
    other = data[:15] + b"!" + data[16:]

    backend.sent.clear()
    result = uploader(backend=backend).upload(reopened_stream(other), "key")

    assert (backend.read("key"), result.parts_resumed) == (other, 0)
    assert backend.sent == [1, 2, 3, 4, 5], "the part that differs was not sent to the first upload"
    assert "is not what was sent before: the storage has part 2" in result.warnings[0]
    assert left_behind(backend) == []


@pytest.mark.parametrize("capabilities", [{"replaces_parts": False}, {"sequential": True}])
@pytest.mark.parametrize("other", [b"!" * 45, b"short"])
def test_a_stream_that_differs_and_is_consumed_ends_the_upload(interrupted, uploader, left_behind, other, capabilities):
    backend = Recording(**capabilities)
    interrupted(consumed_stream(pseudo_random_bytes(45)), backend=backend)

    with pytest.raises(UploadFailed, match="can't be read again now; the next run sends every part") as caught:
        uploader(backend=backend).upload(consumed_stream(other), "key")

    assert isinstance(caught.value.__cause__, UploadUnusable)
    assert not caught.value.resumable
    assert (backend.keys(), left_behind(backend)) == ([], [])
    uploader(backend=backend).upload(consumed_stream(other), "key")
    assert backend.read("key") == other


def test_a_sequential_storage_never_gets_a_shorter_stream_behind_parts_that_it_has(interrupted, uploader, data):
    """The parts of it are those that were sent before, so only its end shows that it is another one."""
    backend = Recording(sequential=True)
    interrupted(consumed_stream(data), backend=backend)

    uploader(backend=backend).upload(reopened_stream(data[:10]), "key")

    assert (backend.read("key"), len(backend.aborted)) == (data[:10], 1)


# --- an upload that can never be completed ---------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["upload_part", "complete_upload"])
@pytest.mark.parametrize("make_source", [ChangingSource, reopened_stream])
def test_an_upload_that_can_never_be_completed_starts_again(uploader, data, left_behind, operation, make_source):
    backend = Recording()
    backend.errors[operation] = [UploadUnusable("a conflict")]

    result = uploader(backend=backend).upload(make_source(data), "key")

    assert backend.read("key") == data
    assert len(backend.aborted) == 1
    assert result.warnings == ("started again: a conflict",)
    assert left_behind(backend) == []


def test_twice_in_one_run_it_ends_the_upload(uploader, source, left_behind):
    backend = Recording()
    backend.errors["complete_upload"] = [UploadUnusable("a conflict"), UploadUnusable("another one")]

    with pytest.raises(UploadFailed, match="another one"):
        uploader(backend=backend).upload(source, "key")

    assert len(backend.aborted) == 2
    assert left_behind(backend) == []


def refused_object():
    return IntegrityError("the checksums differ", retryable=False)


def test_an_object_that_the_storage_refuses_as_damaged_is_sent_again_once(uploader, data, source, left_behind):
    """Its parts are not what was sent, and would be refused again by every later run."""
    backend = Recording()
    backend.errors["complete_upload"] = [refused_object()]

    result = uploader(backend=backend).upload(source, "key")

    assert (backend.read("key"), len(backend.aborted)) == (data, 1)
    assert result.warnings == ("started again: the storage refused to make the object: the checksums differ",)
    assert left_behind(backend) == []


def test_only_the_part_that_is_damaged_is_sent_again_if_the_list_shows_which_one_it_is(
    uploader, data, source, left_behind
):
    class Damaging(Recording):
        """A bucket that stores another byte of part 2, once, and reports no checksum of it."""

        def upload_part(self, key, upload_id, part_number, body):
            if part_number == 2 and self.sent.count(2) == 0:
                changed = bytes_body(b"?" + b"".join(map(bytes, body.chunks()))[1:])
                part = super().upload_part(key, upload_id, part_number, changed)
                return evolve(part, checksum=None)
            return super().upload_part(key, upload_id, part_number, body)

        def complete_upload(self, key, upload_id, parts, options):
            if [part.checksum for part in self.list_parts(key, upload_id)] != [part.checksum for part in parts]:
                raise refused_object()
            return super().complete_upload(key, upload_id, parts, options)

    backend = Damaging()
    result = uploader(backend=backend).upload(source, "key")

    assert (backend.read("key"), backend.sent, backend.aborted) == (data, [*range(1, result.parts_sent + 1), 2], [])
    assert (result.verified, left_behind(backend)) == (True, [])


def test_an_object_that_the_storage_refuses_twice_as_damaged_is_an_integrity_error(uploader, source, left_behind):
    backend = Recording()
    backend.errors["complete_upload"] = [refused_object(), refused_object()]

    with pytest.raises(UploadFailed, match="the checksums differ") as caught:
        uploader(backend=backend).upload(source, "key")

    assert isinstance(caught.value.__cause__, IntegrityError)
    assert (len(backend.aborted), backend.keys(), left_behind(backend)) == (2, [], [])


def test_a_request_to_complete_that_was_damaged_on_its_way_is_sent_again(uploader, data, source):
    backend = Recording()
    backend.errors["complete_upload"] = [IntegrityError("the body of the request was damaged")]

    uploader(backend=backend).upload(source, "key")

    assert (backend.read("key"), backend.aborted) == (data, [])


def test_it_does_not_start_again_where_a_resume_is_required(interrupted, uploader, source, store):
    backend = Recording()
    interrupted(source, backend=backend)
    backend.errors["complete_upload"] = [UploadUnusable("a conflict")]

    with pytest.raises(CannotResume, match="a conflict"):
        uploader(backend=backend).upload(source, "key", resume="require")

    assert (backend.aborted, len(list(store.scan()))) == ([], 1)


def test_an_upload_that_can_not_be_aborted_either_is_aborted_by_a_later_run(uploader, source, data, left_behind):
    backend = Recording()
    backend.errors["complete_upload"] = [UploadUnusable("a conflict")]
    backend.errors["abort_upload"] = [ObjectExists("not now")]

    uploader(backend=backend).upload(source, "key")

    assert backend.read("key") == data
    assert len(set(backend.aborted)) == 1
    assert left_behind(backend) == []


def test_a_conflict_with_an_earlier_attempt_of_this_run_is_no_conflict(uploader, source, data, left_behind):
    """The first request takes effect only after its connection broke, just before the second one."""

    class Slow(Recording):
        def complete_upload(self, key, upload_id, parts, options):
            self._fail("complete_upload")
            super().complete_upload(key, upload_id, parts, options)
            raise UploadUnusable("a conflict")

    backend = Slow()
    backend.errors["complete_upload"] = [ConnectionFailed("lost")]
    result = uploader(backend=backend).upload(source, "key", options=ObjectOptions(forbid_overwrite=True))

    assert backend.read("key") == data
    assert result.warnings == ("the response to complete was lost (a conflict), but the object is stored",)
    assert left_behind(backend) == []


# --- one upload per key ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [45, 5])
def test_uploads_that_the_storage_has_ended_are_not_aborted_later(interrupted, uploader, store, left_behind, size):
    """Neither while the new one is sent, nor after its object is stored."""
    backend, source = Recording(one_upload_per_key=True), ChangingSource(pseudo_random_bytes(45))
    interrupted(source, backend=backend)
    (old,) = backend.uploads
    source.write(pseudo_random_bytes(size, "changed"))
    backend.errors["abort_upload"] = [AccessDenied("not allowed")]
    recorded = []
    result = uploader(backend=backend, multipart_threshold=10).upload(
        source, "key", progress=lambda _: recorded.extend(one.abandoned for one in store.scan())
    )

    assert backend.read("key") == source.data
    assert backend.aborted == [old]
    assert "orphans" not in " ".join(result.warnings)
    assert {*recorded[1:]} <= {()}
    assert left_behind(backend) == []


def test_an_upload_that_could_not_be_aborted_is_remembered_until_the_next_one_is_initiated(
    interrupted, uploader, source, store
):
    backend = Recording(one_upload_per_key=True)
    interrupted(source, backend=backend)
    (old,) = backend.uploads
    source.touch()
    backend.errors["abort_upload"] = [AccessDenied("not allowed"), AccessDenied("not allowed")]
    backend.errors["initiate_upload"] = [AccessDenied("not allowed")]

    with pytest.raises(UploadFailed):
        uploader(backend=backend).upload(source, "key")

    assert [one.abandoned for one in store.scan()] == [(old,)]


def test_an_upload_that_another_one_of_the_key_has_ended_starts_again(interrupted, uploader, source, data):
    backend = Recording(one_upload_per_key=True)
    interrupted(source, backend=backend)
    backend.initiate_upload("key", ObjectOptions())

    assert "another one of this key has ended it" in uploader(backend=backend).plan(source, "key").reason
    assert uploader(backend=backend).upload(source, "key").parts_resumed == 0
    assert (backend.read("key"), backend.uploads, backend.aborted) == (data, {}, [])


def test_an_object_of_an_earlier_run_is_found_and_nothing_of_the_key_is_aborted(faulty, uploader, source, data):
    backend = Recording(one_upload_per_key=True)
    with pytest.raises(UploadFailed):
        faulty(
            Fault("complete_upload", FaultKind.AFTER), Fault("head_object", FaultKind.PERMANENT), backend=backend
        ).upload(source, "key")

    uploader(backend=backend).upload(source, "key")

    assert (backend.read("key"), backend.aborted) == (data, [])


# --- a storage that aborts nothing -----------------------------------------------------------------------------------

EXPIRES = "the storage can't abort an upload: its parts expire by themselves"


def test_a_storage_that_aborts_nothing_is_not_asked_to(interrupted, uploader, source, store):
    backend = Recording(aborts=False)
    interrupted(source, backend=backend)
    source.touch()

    result = uploader(backend=backend).upload(source, "key")

    assert backend.aborted == []
    assert result.warnings == ("started again: the source changed: it was modified", EXPIRES)
    assert list(store.scan()) == []


def test_a_cancelled_upload_says_that_its_parts_expire(uploader, source, store):
    backend, started, tasks = Recording(aborts=False), threading.Event(), []

    def cancel(progress):
        assert started.wait(10)
        tasks[0].cancel()

    tasks.append(uploader(backend=backend).start(source, "key", progress=cancel))
    started.set()
    with pytest.raises(UploadCancelled) as caught:
        tasks[0].result()

    assert caught.value.warnings == (EXPIRES,)
    assert (backend.aborted, list(store.scan())) == ([], [])


def test_an_upload_that_is_aborted_is_forgotten(interrupted, uploader, source, store):
    backend = Recording(aborts=False)
    interrupted(source, backend=backend)

    assert uploader(backend=backend).abort(source, "key")
    assert (backend.aborted, list(store.scan())) == ([], [])


def test_an_upload_never_counts_as_gone_because_of_an_abort(faulty, source, data):
    """The parts are not listed: completing again shows what the first request did."""
    backend = Recording(aborts=False, lists_parts=False)

    result = faulty(Fault("complete_upload", FaultKind.AFTER), backend=backend).upload(source, "key")

    assert (backend.read("key"), backend.aborted, backend.calls["complete_upload"]) == (data, [], 2)
    assert result.verified


def test_an_object_of_the_same_bytes_does_not_count_as_this_upload_while_that_may_be_there(faulty, uploader, source):
    backend = Recording(aborts=False, lists_parts=False)
    uploader(backend=backend, multipart_threshold=100).upload(source, "key")

    faulty(Fault("complete_upload", FaultKind.BEFORE), backend=backend).upload(source, "key")

    assert (backend.uploads, backend.calls["complete_upload"]) == ({}, 1)


def test_an_object_that_an_earlier_run_completed_leaves_no_parts_that_expire(
    make_backend, uploader, interrupted, source
):
    """Where the storage can't abort uploads, there is nothing to say of one that was completed."""
    backend = make_backend(aborts=False)
    interrupted(source, backend=backend)
    uploader_of_then = uploader(backend=backend, max_attempts=1)
    complete = backend.complete_upload

    def lose_response(*args):
        complete(*args)
        backend.head_object = fail
        raise ConnectionFailed("no response")

    def fail(*args):
        raise ConnectionFailed("no connection")

    backend.complete_upload = lose_response
    with pytest.raises(UploadFailed):
        uploader_of_then.upload(source, "key")
    del backend.head_object
    result = uploader(backend=backend).upload(source, "key")

    assert result.warnings == ("an earlier run completed the upload, but the response was lost",)


# --- errors that no method but two may raise -------------------------------------------------------------------------


@pytest.mark.parametrize(("operation", "threshold"), [("initiate_upload", 0), ("put_object", 100)])
def test_an_unusable_upload_is_a_failure_where_there_is_none(make_backend, uploader, source, operation, threshold):
    backend = make_backend()

    def refuse(*args):
        raise UploadUnusable("a conflict")

    setattr(backend, operation, refuse)
    with pytest.raises(UploadFailed, match="a conflict"):
        uploader(backend=backend, multipart_threshold=threshold).upload(source, "key")
