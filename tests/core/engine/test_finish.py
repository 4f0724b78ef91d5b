"""How an upload ends: what is dropped, what is kept, and what the caller is reported."""

from __future__ import annotations

import io

import pytest

from partwise._engine.workers import InlineWorkers
from partwise.backends.memory import MemoryBackend
from partwise.backends.oss import Callback, OSSOptions
from partwise.bodies import BodyWrapper, ChecksummedBody
from partwise.errors import (
    CallbackError,
    ServerFailed,
    SourceChanged,
    UploadCancelled,
    UploadFailed,
    UploadPaused,
)
from partwise.model import PartLimits, StoredObject
from partwise.results import Progress, UploadResult
from partwise.testing.fakes import ChangingSource
from partwise.testing.faults import Fault, FaultKind

TELL = OSSOptions(callback=Callback("http://example.com", "a=b"))


@pytest.fixture
def deaf(make_backend):
    """A bucket whose callbacks fail."""

    def refuse(stored):
        raise OSError("connection refused")

    return make_backend(callback=refuse)


def asked(uploader, mode, *, after=2):
    """Make a progress callback that pauses or cancels the upload after `after` parts."""
    controls = []
    ready = uploader._prepare

    def noting(order, control):
        controls.append(control)
        return ready(order, control)

    uploader._prepare = noting

    def progress(at):
        if at.parts_done >= after:
            getattr(controls[-1], mode)()

    return progress


# --- well ------------------------------------------------------------------------------------------------------------


def test_the_result_has_the_callbacks_response(uploader, make_backend, source):
    backend = make_backend(callback=lambda stored: stored.key.encode())

    assert uploader(backend=backend).upload(source, "key", options=TELL).callback_response == b"key"


@pytest.mark.parametrize("threshold", [0, 50])
def test_a_failed_callback_means_that_the_object_is_stored(uploader, deaf, source, left_behind, threshold):
    seen = []
    with pytest.raises(
        CallbackError, match=r"key is stored, but its callback failed: .* Don't upload it again"
    ) as caught:
        uploader(backend=deaf, multipart_threshold=threshold).upload(source, "key", options=TELL, progress=seen.append)
    result = caught.value.result

    assert deaf.read("key") == source.data
    assert type(result) is UploadResult
    assert (result.key, result.size, result.bytes_sent, result.verified) == ("key", 45, 45, True)
    assert caught.value.code == "CallbackFailed"
    assert isinstance(caught.value.__cause__, CallbackError)
    assert seen[-1].completed
    assert left_behind(deaf) == []


def test_after_a_failed_callback_the_next_run_is_sane(uploader, deaf, source):
    for _ in range(2):
        with pytest.raises(CallbackError):
            uploader(backend=deaf).upload(source, "key", options=TELL)

    assert uploader(backend=deaf).upload(source, "key").parts_sent == 5


def test_an_empty_object_whose_callback_failed_is_stored(uploader, deaf):
    with pytest.raises(CallbackError) as caught:
        uploader(backend=deaf).upload(b"", "key", options=TELL)

    assert caught.value.result.size == 0


@pytest.mark.parametrize("threshold", [0, 50])
def test_a_callback_that_fails_without_a_description_of_the_object_has_a_result(
    uploader, deaf, source, monkeypatch, threshold
):
    for name in ("put_object", "complete_upload"):
        original = getattr(deaf, name)

        def terse(*arguments, original=original):
            try:
                original(*arguments)
            except CallbackError:
                raise CallbackError("it failed", status=203) from None

        monkeypatch.setattr(deaf, name, terse)
    with pytest.raises(CallbackError) as caught:
        uploader(backend=deaf, multipart_threshold=threshold).upload(source, "key", options=TELL)

    result = caught.value.result
    assert caught.value.status == 203
    assert (result.size, result.etag, result.verified) == (45, deaf.head_object("key").etag, True)
    assert result.warnings == ()


class Replaced(MemoryBackend):
    """A bucket whose callbacks fail, perhaps with an ETag of the object, which is replaced or deleted meanwhile."""

    def __init__(self, etag, head):
        super().__init__(limits=PartLimits())
        self.etag, self.head = etag, head

    def complete_upload(self, *arguments):
        raise CallbackError("it failed", result=StoredObject("key", 45, self.etag) if self.etag else None)

    def head_object(self, key):
        return self.head


@pytest.mark.parametrize(
    ("etag", "head", "problem"),
    [
        ("E", None, "no object is stored under the key any more"),
        ("E", StoredObject("key", 45, "OTHER", 1), "another object is stored under the key by now"),
        ("", None, "no object is stored under the key any more"),
        (
            "",
            StoredObject("key", 45, "E", 1),
            "another object is stored under the key, or this one did not arrive as it was sent",
        ),
    ],
)
def test_what_is_not_the_object_that_was_stored_does_not_verify_it(uploader, source, etag, head, problem):
    """Neither what another client stored meanwhile, nor what may be another one's."""
    with pytest.raises(CallbackError) as caught:
        uploader(backend=Replaced(etag, head)).upload(source, "key")

    result = caught.value.result
    assert (result.etag, result.verified) == (etag, False)
    assert result.warnings == (f"the object's checksum could not be compared: {problem}",)


def test_a_failed_callback_does_not_hide_what_the_callers_own_raised(uploader, deaf, source, left_behind):
    """The object is stored either way, and the caller's own error tells him where he stands."""

    def refuse(at):
        if at.completed:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        uploader(backend=deaf).upload(source, "key", options=TELL, progress=refuse)

    assert deaf.read("key") == source.data
    assert left_behind(deaf) == []


# --- by the caller's stop request ------------------------------------------------------------------------------------


def test_a_pause_keeps_the_upload_and_its_checkpoint(uploader, backend, store, source):
    made = uploader()
    with pytest.raises(UploadPaused, match=r"was paused with 20 of 45 bytes. The same call resumes") as caught:
        made.upload(source, "key", progress=asked(made, "pause"))

    assert (caught.value.resumable, caught.value.bytes_done, caught.value.parts_done) == (True, 20, 2)
    assert [checkpoint.upload_id for checkpoint in store.scan()] == list(backend.uploads) == [caught.value.upload_id]
    assert uploader().upload(source, "key").parts_resumed == 2


def test_a_pause_of_a_stream_says_how_far_it_is(uploader, backend, data):
    made = uploader()
    with pytest.raises(
        UploadPaused, match=r"was paused with 20 bytes. It can't be resumed, so nothing is kept"
    ) as caught:
        made.upload(io.BytesIO(data), "key", progress=asked(made, "pause"))

    assert (caught.value.resumable, caught.value.upload_id, caught.value.bytes_total) == (False, None, None)
    assert backend.uploads == {}


def test_a_cancel_discards_the_upload_and_its_checkpoint(uploader, source, left_behind):
    made = uploader()
    with pytest.raises(UploadCancelled, match=r"was cancelled$") as caught:
        made.upload(source, "key", progress=asked(made, "cancel"))

    assert (caught.value.resumable, caught.value.upload_id, caught.value.bytes_done) == (False, None, 0)
    assert left_behind() == []


def test_a_cancel_that_can_not_abort_keeps_the_checkpoint(faulty, backend, store, source, left_behind):
    """So that no upload is orphaned."""
    made = faulty(Fault("abort_upload", FaultKind.PERMANENT))
    with pytest.raises(
        UploadCancelled, match=r"could not be aborted, so its checkpoint is kept. Cancel it again"
    ) as caught:
        made.upload(source, "key", progress=asked(made, "cancel"))

    assert caught.value.upload_id in backend.uploads
    assert "could not be aborted" in caught.value.warnings[0]
    assert len(list(store.scan())) == 1
    assert faulty().abort(source, "key")
    assert left_behind() == []


@pytest.mark.parametrize("lists_uploads", [True, False])
def test_a_cancel_that_can_not_abort_names_no_checkpoint_if_there_is_none(faulty, make_backend, source, lists_uploads):
    backend = make_backend(lists_uploads=lists_uploads)
    made = faulty(Fault("abort_upload", FaultKind.PERMANENT), backend=backend)
    with pytest.raises(UploadCancelled) as caught:
        made.upload(source, "key", progress=asked(made, "cancel"), resume="never")

    assert caught.value.upload_id in backend.uploads
    assert caught.value.kept == "It could not be aborted" + "; 'partwise gc' aborts it" * lists_uploads
    assert caught.value.hint == ""


def test_a_cancel_whose_checkpoint_can_not_be_deleted_says_so(faulty, backend, source):
    made = faulty(Fault("delete", FaultKind.BEFORE))
    with pytest.raises(UploadCancelled) as caught:
        made.upload(source, "key", progress=asked(made, "cancel"))

    assert backend.uploads == {}
    assert caught.value.warnings[0].startswith("the checkpoint could not be deleted")


def test_a_cancel_is_carried_out_though_it_is_requested_repeatedly(faulty, source, left_behind, clock):
    """The wait before the second attempt to abort is not cut short by the stop request that is being granted."""
    made = faulty(Fault("abort_upload", FaultKind.BEFORE))
    progress = asked(made, "cancel")
    clock.meanwhile = lambda: progress(progress_of(9))
    with pytest.raises(UploadCancelled):
        made.upload(source, "key", progress=progress)

    assert left_behind() == []


@pytest.fixture
def no_abort(backend, monkeypatch):
    """The storage fails at every request to abort."""

    def fail(*arguments):
        raise ServerFailed("503")

    monkeypatch.setattr(backend, "abort_upload", fail)


@pytest.mark.usefixtures("no_abort")
@pytest.mark.parametrize(("give_up_after", "seconds"), [(300.0, 10.0), (4.0, 4.0), (0.0, 0.0)])
def test_a_cancel_does_not_wait_for_a_storage_for_long(uploader, source, clock, give_up_after, seconds):
    made = uploader(give_up_after=give_up_after)
    with pytest.raises(UploadCancelled, match="could not be aborted"):
        made.upload(source, "key", progress=asked(made, "cancel"))

    assert clock.time == pytest.approx(1000.0 + seconds, abs=0.01)


@pytest.mark.usefixtures("no_abort")
def test_an_abort_that_was_called_for_is_retried_as_long_as_an_upload(uploader, interrupted, source, clock):
    interrupted(source)
    began = clock.time
    with pytest.raises(UploadFailed):
        uploader(give_up_after=60.0).abort(source, "key")

    assert clock.time - began == pytest.approx(60.0, abs=0.01)


def progress_of(parts):
    return Progress(0, None, parts_done=parts)


@pytest.mark.parametrize("mode", ["pause", "cancel"])
def test_a_stop_request_between_two_attempts_cuts_the_wait_short(faulty, backend, source, clock, mode):
    made = faulty(Fault("complete_upload", FaultKind.BEFORE))
    progress = asked(made, mode)
    clock.meanwhile = lambda: progress(progress_of(9))
    with pytest.raises(UploadPaused if mode == "pause" else UploadCancelled):
        made.upload(source, "key")

    assert backend.keys() == []


def test_a_stop_request_ends_comparing_with_what_is_there(uploader, interrupted, data):
    interrupted(ChangingSource(data))
    made = uploader(verify_source="content")
    progress = asked(made, "pause")
    source = ChangingSource(data, chunk_size=3, changes={1: lambda source: progress(progress_of(9))})
    with pytest.raises(UploadPaused):
        made.upload(source, "key")

    assert source.readings == 1


def test_a_stop_request_that_comes_when_the_object_is_there_changes_nothing(uploader, backend, source, left_behind):
    made = uploader()
    result = made.upload(source, "key", progress=asked(made, "cancel", after=5))

    assert result.verified
    assert backend.read("key") == source.data
    assert left_behind() == []


def test_a_stop_request_does_not_keep_the_rest_from_being_cleaned_up(faulty, source, interrupted, clock, left_behind):
    """The object is there; an older upload takes a second attempt to abort."""
    interrupted(source)
    source.touch()
    made = faulty(Fault("abort_upload", FaultKind.PERMANENT), Fault("abort_upload", FaultKind.BEFORE, occurrence=2))
    progress = asked(made, "cancel")
    clock.meanwhile = lambda: progress(progress_of(9))
    made.upload(source, "key")

    assert left_behind() == []


@pytest.mark.parametrize("mode", ["pause", "cancel"])
def test_a_stop_request_ends_what_is_a_single_put(uploader, backend, data, left_behind, mode):
    made = uploader(multipart_threshold=50)
    progress = asked(made, mode)
    source = ChangingSource(data, chunk_size=5, changes={1: lambda source: progress(progress_of(9))})
    with pytest.raises(UploadPaused if mode == "pause" else UploadCancelled) as caught:
        made.upload(source, "key")

    assert not caught.value.resumable
    assert "could not be aborted" not in str(caught.value)
    assert backend.keys() == []
    assert left_behind() == []


def test_a_stop_request_does_not_leave_a_failed_upload_behind(faulty, source, left_behind, clock):
    """Nothing could resume it, so it is aborted, even if that takes two attempts and a pause is requested."""
    made = faulty(Fault("upload_part", FaultKind.PERMANENT, part_number=3), Fault("abort_upload", FaultKind.BEFORE))
    progress = asked(made, "pause")
    clock.meanwhile = lambda: progress(progress_of(9))
    with pytest.raises(UploadFailed):
        made.upload(source, "key", resume="never")

    assert left_behind() == []


# --- by an error of the caller's own ---------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [LookupError("enough"), KeyboardInterrupt(), SystemExit(3)])
def test_what_a_progress_callback_raises_propagates_and_all_is_kept(uploader, backend, source, error):
    def refuse(at):
        if at.parts_done == 2:
            raise error

    with pytest.raises(type(error)) as caught:
        uploader().upload(source, "key", progress=refuse)

    assert caught.value is error
    assert len(backend.uploads) == 1
    assert uploader().upload(source, "key").parts_resumed == 2


def test_what_a_progress_callback_raises_leaves_nothing_that_can_not_be_resumed(uploader, source, left_behind):
    def refuse(at):
        if at.parts_done == 2:
            raise LookupError("enough")

    with pytest.raises(LookupError):
        uploader().upload(source, "key", progress=refuse, resume="never")

    assert left_behind() == []


def test_what_a_progress_callback_raises_at_the_end_leaves_the_object(uploader, backend, source, left_behind):
    def refuse(at):
        if at.completed:
            raise LookupError("enough")

    with pytest.raises(LookupError) as caught:
        uploader().upload(source, "key", progress=refuse)

    assert backend.read("key") == source.data
    assert left_behind() == []
    assert backend.calls["abort_upload"] == 0
    assert caught.value.__notes__ == ["key is stored, and need not be uploaded again."]


def test_a_progress_callback_that_raised_is_not_called_again(uploader, unpaced, store, source, clock):
    """Other parts are in flight when it does, and are recorded when they have arrived."""
    calls = []

    def refuse(at):
        calls.append(at.parts_done)
        if at.parts_done == 2:
            raise LookupError("enough")

    with pytest.raises(LookupError):
        uploader(concurrency=3, new_workers=lambda: Eager(clock)).upload(source, "key", progress=refuse)
    [checkpoint] = store.scan()

    assert calls == [0, 1, 2]
    assert len(checkpoint.parts) == 4


class Eager(InlineWorkers):
    """One whose workers have begun all that they were given."""

    def cancel_pending(self):
        pass


class Unthrottled(BodyWrapper):
    def chunks(self, *, counted=True):
        return ChecksummedBody.chunks(self._body)


@pytest.fixture
def unpaced(backend, monkeypatch):
    """A bucket that takes parts though the upload is ending."""
    upload_part = backend.upload_part
    monkeypatch.setattr(
        backend,
        "upload_part",
        lambda key, upload_id, number, body: upload_part(key, upload_id, number, Unthrottled(body)),
    )
    return backend


@pytest.mark.parametrize("mode", ["pause", "cancel"])
def test_what_a_progress_callback_raises_after_a_stop_request_propagates_and_the_request_is_carried_out(
    uploader, unpaced, *, source, clock, left_behind, mode
):
    """Other parts are in flight when the pause is requested, and one of them makes the callback raise."""
    made = uploader(concurrency=3, new_workers=lambda: Eager(clock))
    ask = asked(made, mode, after=2)

    def report(at):
        ask(at)
        if at.parts_done == 3:
            raise LookupError("enough")

    with pytest.raises(LookupError) as caught:
        made.upload(source, "key", progress=report)

    if mode == "cancel":
        assert left_behind() == []
    else:
        assert caught.value.__notes__[-1].endswith("stopped with 40 of 45 bytes; the same call resumes.")
        assert uploader().upload(source, "key").parts_resumed == 4


def test_an_exit_after_a_cancel_discards_the_upload(uploader, source, left_behind):
    made = uploader()
    ask = asked(made, "cancel", after=2)

    def report(at):
        ask(at)
        if at.parts_done == 2:
            raise SystemExit(0)

    with pytest.raises(SystemExit):
        made.upload(source, "key", progress=report)

    assert left_behind() == []


def test_an_interrupt_of_the_program_is_a_pause(uploader, backend, source, monkeypatch):
    upload_part = backend.upload_part

    def interrupt(key, upload_id, part_number, body):
        if part_number == 3:
            raise KeyboardInterrupt
        return upload_part(key, upload_id, part_number, body)

    monkeypatch.setattr(backend, "upload_part", interrupt)
    with pytest.raises(KeyboardInterrupt):
        uploader(concurrency=2).upload(source, "key")
    monkeypatch.undo()

    assert uploader().upload(source, "key").parts_resumed == 2


def test_an_interrupt_leaves_nothing_that_can_not_be_resumed(uploader, backend, data, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(backend, "upload_part", interrupt)
    with pytest.raises(KeyboardInterrupt):
        uploader().upload(io.BytesIO(data), "key")

    assert backend.uploads == {}


# --- with a note of what else went wrong -----------------------------------------------------------------------------


def test_an_error_without_a_warnings_field_gets_them_as_notes(faulty, data):
    source = ChangingSource(data, changes={3: ChangingSource.touch}, chunk_size=3)
    with pytest.raises(SourceChanged) as caught:
        faulty(Fault("append_part", FaultKind.BEFORE)).upload(source, "key")

    assert [note.split(":")[0] for note in caught.value.__notes__] == ["progress could not be recorded"]


def test_an_error_with_a_warnings_field_gets_no_notes(faulty, source):
    with pytest.raises(UploadFailed) as caught:
        faulty(Fault("append_part", FaultKind.BEFORE), Fault("complete_upload", FaultKind.PERMANENT)).upload(
            source, "key"
        )

    assert len(caught.value.warnings) == 1
    assert not hasattr(caught.value, "__notes__")


# --- otherwise -------------------------------------------------------------------------------------------------------


def test_a_failure_tells_what_else_went_wrong(faulty, source):
    with pytest.raises(UploadFailed) as caught:
        faulty(Fault("append_part", FaultKind.BEFORE), Fault("upload_part", FaultKind.PERMANENT, part_number=3)).upload(
            source, "key"
        )

    assert caught.value.warnings[0].startswith("progress could not be recorded")


def test_an_upload_that_can_not_be_discarded_is_reported(faulty, backend, source):
    with pytest.raises(UploadFailed) as caught:
        faulty(
            Fault("upload_part", FaultKind.PERMANENT, part_number=3), Fault("abort_upload", FaultKind.PERMANENT)
        ).upload(source, "key", resume="never")

    assert "could not be aborted" in caught.value.warnings[0]
    assert list(backend.uploads) == [caught.value.upload_id]


def test_a_changed_source_is_reported_by_the_name_that_the_caller_gave(uploader, data):
    source = ChangingSource(data, name="/home/me/film", changes={2: ChangingSource.touch}, chunk_size=3)
    with pytest.raises(
        SourceChanged, match=r"^/home/me/film to key in memory://bucket changed during the upload\. Nothing was"
    ):
        uploader().upload(source, "key")


def test_a_failure_that_ends_in_a_full_stop_has_no_second_one(uploader, backend, source, monkeypatch):
    def fail(*_):
        raise OSError("It broke.")

    monkeypatch.setattr(backend, "initiate_upload", fail)

    with pytest.raises(UploadFailed, match=r"OSError: It broke\. Nothing is kept$"):
        uploader().upload(source, "key")


def test_stored_objects_of_a_failed_callback_pass_through(uploader, deaf, source):
    with pytest.raises(CallbackError) as caught:
        uploader(backend=deaf).upload(source, "key", options=TELL)

    assert isinstance(caught.value.__cause__.result, StoredObject)
    assert caught.value.result.etag == caught.value.__cause__.result.etag
