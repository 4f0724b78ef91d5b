"""Two runs of one upload, of which the first has lost its claim: it changes nothing more, and says so."""

from __future__ import annotations

import itertools
import queue
import threading
from contextlib import ExitStack, suppress

import pytest

from partwise import ObjectOptions, TransferConfig, Uploader
from partwise.backends.memory import MemoryBackend
from partwise.backends.oss import Callback, OSSOptions
from partwise.bodies import bytes_body
from partwise.checkpoint import Checkpoint, checkpoint_name
from partwise.checksums import CRC32C, crc64
from partwise.errors import AccessDenied, CallbackError, CheckpointError, ClaimLost, ConnectionFailed
from partwise.model import PartLimits
from partwise.testing.fakes import ChangingSource, LeasedCheckpointStore, pseudo_random_bytes

CHANGES = ("initiate_upload", "upload_part", "complete_upload", "put_object", "abort_upload")


def at(handle, method, action, *, number=1, after=False):
    """Let `handle` call `action` once, before or after the nth call of a method; return the handle."""
    original, calls = getattr(handle, method), itertools.count(1)

    def call(*args):
        due = next(calls) == number
        if due and not after:
            action()
        result = original(*args)
        if due and after:
            action()
        return result

    setattr(handle, method, call)
    return handle


class CountingBackend(MemoryBackend):
    """A bucket that counts the objects that were made, and not the requests that were refused."""

    made = 0

    def complete_upload(self, *args):
        stored = super().complete_upload(*args)
        self.made += 1
        return stored

    def put_object(self, *args):
        stored = super().put_object(*args)
        self.made += 1
        return stored


class Runs:
    """One upload, of which a first run is made, and taken over by another one."""

    def __init__(self, backend, uploader, source):
        self.backend, self.source, self._uploader = backend, source, uploader
        self.leased = LeasedCheckpointStore()
        self.store = self.leased.handle()  # that of the first run
        self.name = checkpoint_name(backend.location, "key", source.name)
        self.taken = []  # the checkpoints that other runs saved
        self.finished = []  # the results of other runs
        self.claims = ExitStack()

    def first(self, *, store=None, **more):
        return self._uploader(backend=self.backend, store=store or self.store, **more)

    def upload(self, **more):
        return self.first(**more).upload(self.source, "key")

    def take_over(self):
        """Let another run claim the upload, and save the checkpoint of an upload that it begins."""
        self.leased.expire()
        other = self.leased.handle()
        self.claims.enter_context(other.claim(self.name))
        upload_id = self.backend.initiate_upload("key", ObjectOptions())
        checkpoint = Checkpoint(
            self.backend.location, "key", self.source.name, self.source.fingerprint(), 10, upload_id=upload_id
        )
        other.save(checkpoint)
        self.taken.append(checkpoint)

    def finish(self, data=None):
        """Let another run take the upload over and finish it, with other bytes in its source if they are given."""
        self.leased.expire()
        source = ChangingSource(self.source.data if data is None else data)
        if data is not None:
            source.touch()
        self.finished.append(self.first(store=self.leased.handle()).upload(source, "key"))

    def assert_untouched(self):
        """Assert that the first run changed nothing that is the other run's, and aborted and completed nothing."""
        [checkpoint] = self.taken
        assert self.leased.inner.load(self.name) == checkpoint
        assert checkpoint.upload_id in self.backend.uploads
        assert self.backend.calls["abort_upload"] == self.backend.calls["complete_upload"] == 0


@pytest.fixture
def runs(uploader, source):
    made = Runs(CountingBackend("bucket", limits=PartLimits()), uploader, source)
    yield made
    made.claims.close()


def calls_since(backend, before):
    return {name: backend.calls[name] - before[name] for name in CHANGES if backend.calls[name] != before[name]}


# --- wherever the claim is lost --------------------------------------------------------------------------------------

#: Each write of the store, and each look at the claim: before the object is made, and before the checkpoint is deleted.
CALLS = [
    ("load", 1),
    *(("save", number) for number in (1, 2)),
    *(("append_part", number) for number in (1, 2, 3, 4, 5)),
    *(("check_claim", number) for number in (1, 2)),
    ("delete", 1),
]
INSTANTS = [
    pytest.param(*call, after, id=f"{'after' if after else 'before'} {call[0]} {call[1]}")
    for call in CALLS
    for after in (False, True)
    if (call[0], after) != ("delete", True)  # the first upload has ended then
]


@pytest.mark.parametrize(("method", "number", "after"), INSTANTS)
def test_one_object_is_made_whenever_another_run_takes_the_upload_over(runs, method, number, after):
    result = error = None
    at(runs.store, method, runs.finish, number=number, after=after)
    try:
        result = runs.upload()
    except ClaimLost as lost:
        error = lost

    assert runs.finished[0].verified
    assert (result is None) == (error is not None)
    assert runs.backend.made == 1
    assert runs.backend.read("key") == runs.source.data
    assert list(runs.leased.inner.scan()) == []


@pytest.mark.parametrize(("method", "number", "after"), INSTANTS)
def test_a_run_with_another_version_of_the_source_is_not_disturbed(runs, method, number, after):
    newer = pseudo_random_bytes(45, "newer")
    at(runs.store, method, lambda: runs.finish(newer), number=number, after=after)
    with suppress(ClaimLost):
        runs.upload()

    assert runs.finished[0].parts_sent == 5
    assert runs.backend.read("key") == newer
    assert list(runs.leased.inner.scan()) == []
    assert runs.backend.calls["abort_upload"] <= 1, "the second run aborted the upload of the first one"


@pytest.mark.parametrize("method", ["initiate_upload", "upload_part", "complete_upload"])
def test_one_object_is_made_if_the_upload_is_taken_over_during_a_request(runs, method):
    result = error = None
    at(runs.backend, method, runs.finish)
    try:
        result = runs.upload()
    except ClaimLost as lost:
        error = lost

    assert runs.finished[0].verified
    assert (result is None) == (error is not None)
    assert runs.backend.made == 1
    assert runs.backend.read("key") == runs.source.data
    assert list(runs.leased.inner.scan()) == []


def test_the_checkpoint_of_the_other_run_is_neither_overwritten_nor_deleted(runs):
    at(runs.store, "append_part", runs.take_over, number=3)
    with pytest.raises(ClaimLost) as caught:
        runs.upload()

    runs.assert_untouched()
    assert len(runs.backend.uploads) == 2, "that of the first run is not aborted, either"
    assert str(caught.value).startswith(
        f"this run has lost its claim on /a/file to key in {runs.backend.location}, and stopped: the lease"
    )
    assert "Kept: 30 of 45 bytes, for the run that holds the claim" in str(caught.value)
    assert "Repeat the call" in caught.value.hint
    assert caught.value.name == runs.name


def test_after_the_lost_claim_nothing_is_sent(runs):
    before = []
    at(runs.store, "append_part", lambda: (runs.take_over(), before.append(runs.backend.calls.copy())), number=2)
    with pytest.raises(ClaimLost):
        runs.upload()

    assert calls_since(runs.backend, before[0]) == {}


def test_the_claim_is_checked_right_before_the_object_is_made(runs):
    """The last write before it, which would have noticed, succeeded."""
    at(runs.store, "append_part", runs.take_over, number=5, after=True)
    with pytest.raises(ClaimLost, match="Kept: 45 of 45 bytes"):
        runs.upload()

    runs.assert_untouched()


def test_the_claim_is_checked_before_each_attempt_to_complete(runs, clock):
    def failing(*args):
        attempts.append(args)
        raise ConnectionFailed("no response")

    attempts = []
    runs.backend.complete_upload = failing
    clock.meanwhile = lambda: runs.taken or runs.take_over()
    with pytest.raises(ClaimLost):
        runs.upload()

    assert len(attempts) == 1
    runs.assert_untouched()


def test_the_claim_is_checked_again_after_a_moved_source_was_read(runs):
    """Comparing all bytes takes long."""
    at(runs.store, "append_part", lambda: runs.source.replace(runs.source.data), number=5, after=True)
    at(runs.store, "check_claim", runs.take_over, after=True)
    with pytest.raises(ClaimLost):
        runs.upload()

    runs.assert_untouched()


def test_the_claim_is_checked_after_the_source_was_read_for_the_expected_checksum(make_backend, uploader, source):
    """Where the storage has another one, all bytes are read again, which takes long."""
    runs = Runs(make_backend(checksum=CRC32C), uploader, source)
    at(runs.source, "body", runs.take_over, number=11, after=True)
    with pytest.raises(ClaimLost):
        runs.first().upload(source, "key", expected_crc64=crc64(source.data))

    runs.assert_untouched()
    runs.claims.close()


def test_the_claim_is_checked_before_a_small_object_is_put(runs):
    at(runs.store, "delete", runs.take_over, after=True)
    with pytest.raises(ClaimLost, match="Nothing was sent"):
        runs.upload(multipart_threshold=100)

    assert runs.backend.calls["put_object"] == 0
    runs.assert_untouched()


def test_the_claim_is_checked_before_the_upload_is_aborted_to_see_whether_it_is_gone(make_backend, uploader, source):
    """A storage without lists of parts is asked that way after a lost response."""
    runs = Runs(make_backend(lists_parts=False), uploader, source)

    def lose_response(*args):
        raise ConnectionFailed("no response")

    runs.backend.complete_upload = lose_response
    runs.backend.put_object("key", bytes_body(source.data), ObjectOptions())
    at(runs.backend, "head_object", runs.take_over, after=True)
    with pytest.raises(ClaimLost):
        runs.upload()

    assert runs.backend.calls["abort_upload"] == 0
    runs.claims.close()


def test_what_may_be_stored_although_the_claim_was_lost_is_not_called_unsent(runs):
    def store_and_lose_response(*args):
        CountingBackend.put_object(runs.backend, *args)
        runs.take_over()
        raise ConnectionFailed("no response")

    runs.backend.put_object = store_and_lose_response
    with pytest.raises(ClaimLost, match="The object may be stored"):
        runs.upload(multipart_threshold=100)

    assert runs.backend.read("key") == runs.source.data


def test_a_claim_that_is_lost_after_a_small_object_was_put_is_a_warning(make_backend, uploader, source, interrupted):
    """The upload before it could not be aborted; storing the object has ended it, and its checkpoint is deleted."""
    runs = Runs(make_backend(one_upload_per_key=True), uploader, source)
    interrupted(source, backend=runs.backend, store=runs.store)
    source.write(pseudo_random_bytes(5, "newer"))
    at(runs.backend, "put_object", runs.take_over, after=True)

    def refuse(*args):
        raise AccessDenied("not allowed")

    runs.backend.abort_upload = refuse
    result = runs.upload(multipart_threshold=20)

    assert runs.backend.read("key") == source.data
    assert any("the checkpoint was kept" in warning for warning in result.warnings)
    [checkpoint] = runs.taken
    assert runs.leased.inner.load(runs.name) == checkpoint
    runs.claims.close()


def test_a_claim_that_can_t_be_checked_completes_nothing(runs):
    """The store answers again for the next run."""

    def fail():
        raise CheckpointError("no answer")

    at(runs.store, "check_claim", fail)
    with pytest.raises(CheckpointError, match="no answer") as caught:
        runs.upload()
    assert runs.backend.calls["complete_upload"] == 0
    assert any("stopped with 45 of 45 bytes; the same call resumes" in note for note in caught.value.__notes__)

    assert runs.upload().parts_resumed == 5


def test_a_store_without_leases_is_fenced_by_the_upload_id(runs, store):
    other = Checkpoint(runs.backend.location, "key", "/a/file", runs.source.fingerprint(), 10, upload_id="another")
    at(store, "append_part", lambda: store.save(other), number=2)
    with pytest.raises(ClaimLost, match="belongs to upload 'another' now"):
        runs.upload(store=store)

    assert store.load(runs.name) == other
    assert runs.backend.calls["complete_upload"] == runs.backend.calls["abort_upload"] == 0


# --- however the run ends --------------------------------------------------------------------------------------------


def test_a_changed_source_is_not_aborted_after_the_claim_was_lost(runs):
    at(runs.backend, "upload_part", lambda: (runs.take_over(), runs.source.write(bytes(45))), number=3)
    with pytest.raises(ClaimLost):
        runs.upload()

    assert runs.backend.calls["abort_upload"] == 0


def test_a_run_that_begins_anew_does_not_abort_the_upload_of_the_other_run(runs, interrupted):
    interrupted(runs.source, backend=runs.backend, store=runs.store)
    runs.source.write(pseudo_random_bytes(45, "newer"))
    at(runs.store, "load", runs.take_over, after=True)
    with pytest.raises(ClaimLost):
        runs.upload()

    runs.assert_untouched()


def test_a_cancel_after_the_claim_was_lost_aborts_nothing(runs):
    tasks = queue.SimpleQueue()
    at(runs.store, "append_part", lambda: (tasks.get(timeout=30).cancel(), runs.take_over()), number=2, after=True)
    tasks.put(task := runs.first().start(runs.source, "key"))
    with pytest.raises(ClaimLost):
        task.result(30)

    runs.assert_untouched()


def test_a_pause_says_that_the_claim_was_lost_if_the_last_part_could_not_be_recorded(runs):
    """The storage acknowledges it while the run stops."""
    sent, paused = threading.Event(), threading.Event()

    class Slow(CountingBackend):
        def upload_part(self, key, upload_id, part_number, body):
            part = super().upload_part(key, upload_id, part_number, body)
            if part_number == 2:
                sent.set()
                assert paused.wait(30)
            return part

    def pause(progress):
        if progress.parts_done == 1 and not runs.taken:
            assert sent.wait(30)
            runs.take_over()
            tasks.get(timeout=30).pause()
            paused.set()

    tasks = queue.SimpleQueue()
    runs.backend = Slow("bucket", limits=PartLimits())
    config = TransferConfig(part_size=10, multipart_threshold=0, concurrency=2)
    uploader = Uploader(runs.backend, store=runs.store, config=config)
    tasks.put(task := uploader.start(runs.source, "key", progress=pause))
    with pytest.raises(ClaimLost):
        task.result(30)

    runs.assert_untouched()


def test_a_store_that_can_t_check_its_claim_is_asked_nothing_after_it_said_that_it_is_lost(runs, store):
    def lose():
        calls.clear()
        raise ClaimLost("taken")

    calls = []
    at(store, "save", lose, number=2)
    at(store, "delete", lambda: calls.append("delete"))
    with pytest.raises(ClaimLost, match="taken"):
        runs.upload(store=store)

    assert calls == []
    assert runs.backend.calls["abort_upload"] == 0


def test_an_interrupt_propagates_with_a_note(runs):
    def interrupt():
        runs.take_over()
        raise KeyboardInterrupt

    at(runs.store, "save", interrupt, number=2)
    with pytest.raises(KeyboardInterrupt) as caught:
        runs.upload()

    assert "has lost its claim" in "".join(caught.value.__notes__)
    runs.assert_untouched()


def test_the_error_of_a_callback_propagates_with_a_note(runs):
    """After a cancel, which aborts nothing."""

    class CallbackBroke(Exception):
        pass

    def report(progress):
        if progress.parts_done == 2 and not runs.taken:
            runs.take_over()
            tasks.get(timeout=30).cancel()
            raise CallbackBroke

    tasks = queue.SimpleQueue()
    tasks.put(task := runs.first().start(runs.source, "key", progress=report))
    with pytest.raises(CallbackBroke) as caught:
        task.result(30)

    assert "has lost its claim" in "".join(caught.value.__notes__)
    runs.assert_untouched()


def test_a_failed_callback_is_reported_even_if_the_claim_was_lost_meanwhile(uploader, source):
    """The object is stored, and the claim matters only for the clean-up."""

    def refuse(stored):
        raise OSError("connection refused")

    runs = Runs(MemoryBackend("bucket", limits=PartLimits(), callback=refuse), uploader, source)
    at(runs.store, "delete", runs.take_over)
    with runs.claims, pytest.raises(CallbackError) as caught:
        runs.first().upload(source, "key", options=OSSOptions(callback=Callback("http://example.com", "a=b")))

    assert any("the checkpoint was kept" in warning for warning in caught.value.result.warnings)
    assert runs.leased.inner.load(runs.name) == runs.taken[0]


def test_an_object_that_is_stored_is_a_success_even_if_the_claim_was_lost_meanwhile(runs):
    at(runs.backend, "complete_upload", runs.take_over, after=True)
    result = runs.upload()

    assert result.verified
    assert result.warnings == (f"the checkpoint was kept: the lease on the checkpoint {runs.name} has expired",)
    assert runs.backend.read("key") == runs.source.data
    assert runs.leased.inner.load(runs.name) == runs.taken[0]
    assert runs.backend.calls["abort_upload"] == 0


def test_an_abort_that_loses_its_claim_aborts_nothing(runs, interrupted):
    interrupted(runs.source, backend=runs.backend, store=runs.store)
    at(runs.store, "load", runs.take_over, after=True)
    with pytest.raises(ClaimLost, match="has lost its claim"):
        runs.first().abort(runs.source, "key")

    runs.assert_untouched()


def test_an_upload_that_was_initiated_and_not_recorded_is_named(runs):
    at(runs.store, "save", runs.take_over, number=2)
    with pytest.raises(ClaimLost) as caught:
        runs.upload()

    own = next(iter(runs.backend.uploads))
    assert f"The upload {own} was not aborted, and may be in no checkpoint" in str(caught.value)
    runs.assert_untouched()


def test_parts_in_flight_are_stopped():
    """A part of many chunks is being sent when the recording of another one finds the claim lost."""
    started, lost, chunks = threading.Event(), threading.Event(), []

    class Slow(MemoryBackend):
        def upload_part(self, key, upload_id, part_number, body):
            if part_number == 2:
                for chunk in body.chunks():
                    chunks.append(len(chunk))
                    started.set()
                    lost.wait(10)
            return super().upload_part(key, upload_id, part_number, body)

    class Losing(LeasedCheckpointStore):
        def append_part(self, name, upload_id, part):
            assert started.wait(10)
            self.expire()
            try:
                super().append_part(name, upload_id, part)
            finally:
                release.start()

    release = threading.Timer(0.2, lost.set)  # when the parts have been asked to stop
    config = TransferConfig(part_size=1 << 20, multipart_threshold=0, concurrency=2)
    slow = Slow("slow", limits=PartLimits())
    with pytest.raises(ClaimLost):
        Uploader(slow, store=Losing(), config=config).upload(ChangingSource(bytes(2 << 20), chunk_size=1024), "key")
    release.join()

    assert 1 <= len(chunks) < 1024, "it was stopped before its end"
    assert slow.calls["complete_upload"] == 0
