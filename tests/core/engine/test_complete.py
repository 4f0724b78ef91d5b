"""Completing, whatever responses are lost during the upload."""

from __future__ import annotations

import io

import pytest
from attrs import evolve

from partwise._engine.reconcile import TOKEN_NAME
from partwise.bodies import bytes_body
from partwise.config import TransferConfig
from partwise.errors import (
    AccessDenied,
    ConnectionFailed,
    ObjectExists,
    OutcomeUnknown,
    PartRejected,
    ServerFailed,
    SourceChanged,
    Throttled,
    UploadFailed,
    UploadNotFound,
)
from partwise.model import ObjectOptions
from partwise.sources import StreamSource
from partwise.testing.fakes import ChangingSource, pseudo_random_bytes
from partwise.testing.faults import Fault, FaultKind
from partwise.uploader import Uploader

ONCE = ObjectOptions(forbid_overwrite=True)

COMPLETE_LOST = Fault("complete_upload", FaultKind.AFTER)


class Storage:
    """A bucket in which something happens before, or instead of, the first completions."""

    def __init__(self, inner, *effects):
        self._inner = inner
        self._effects = list(effects)

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def complete_upload(self, key, upload_id, parts, options):
        if self._effects:
            self._effects.pop(0)(self._inner, upload_id)
        return self._inner.complete_upload(key, upload_id, parts, options)


def loses(*numbers):
    """The storage loses these parts."""

    def happen(inner, upload_id):
        for number in numbers:
            del inner._storage.uploads[upload_id].parts[number]

    return happen


def rejects(inner, upload_id):
    raise PartRejected("one of them is not right")


def aborts(inner, upload_id):
    inner.abort_upload("key", upload_id)


def always(error):
    def fail(*arguments):
        raise error

    return fail


# --- lost responses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FaultKind.BEFORE, FaultKind.THROTTLED])
def test_a_request_that_never_arrived_is_retried(faulty, backend, source, left_behind, kind):
    result = faulty(Fault("complete_upload", kind, seconds=5.0)).upload(source, "key")

    assert backend.read("key") == source.data
    assert (result.verified, result.warnings) == (True, ())
    assert (backend.calls["complete_upload"], backend.calls["upload_part"]) == (1, 5)
    assert left_behind() == []


def test_a_request_that_never_arrived_is_retried_after_a_backoff(faulty, source, clock):
    faulty(*[Fault("complete_upload", FaultKind.BEFORE, occurrence=n) for n in (1, 2)]).upload(source, "key")

    assert clock.waits == [0.5, 1.0]


def test_completing_gives_up_when_the_patience_ends_though_questions_are_answered(
    uploader, backend, source, clock, monkeypatch
):
    """Each failure is followed by a look at the object, which succeeds, and does not move the upload."""
    monkeypatch.setattr(backend, "complete_upload", always(ConnectionFailed("lost")))
    with pytest.raises(UploadFailed, match="nothing has moved for 60 s"):
        uploader(give_up_after=60.0).upload(source, "key")

    assert clock.time == pytest.approx(1060.0, abs=0.01)
    assert len(backend.uploads) == 1


def test_an_outage_ends_when_the_upload_is_completed(faulty, source, caplog):
    caplog.set_level("INFO", "partwise")
    faulty(*[Fault("complete_upload", FaultKind.BEFORE, occurrence=n) for n in range(1, 6)]).upload(source, "key")

    assert "retrying: " in caplog.text
    assert "recovered after" in caplog.text


def test_a_lost_response_is_resolved_at_once(faulty, source, clock):
    faulty(COMPLETE_LOST).upload(source, "key")

    assert clock.waits == []


def test_a_pause_after_the_last_attempt_is_not_waited_for(faulty, source, clock):
    with pytest.raises(UploadFailed) as caught:
        faulty(Fault("complete_upload", FaultKind.THROTTLED, seconds=60.0), max_attempts=1).upload(source, "key")

    assert isinstance(caught.value.__cause__, Throttled)
    assert clock.waits == []


def test_a_lost_response_is_resolved_by_looking_at_the_object(faulty, backend, source, left_behind):
    """No part is sent again for it, and nothing is completed twice."""
    result = faulty(COMPLETE_LOST).upload(source, "key")

    assert backend.read("key") == source.data
    assert result.verified
    assert "the response to complete was lost" in result.warnings[0]
    assert (backend.calls["complete_upload"], backend.calls["upload_part"]) == (1, 5)
    assert left_behind() == []


def test_without_checksums_a_lost_response_is_resolved_by_the_token(faulty, make_backend, source, left_behind):
    backend = make_backend(object_checksums=False)
    result = faulty(COMPLETE_LOST, backend=backend).upload(source, "key")

    assert (result.verified, result.parts_sent) == (False, 5)
    assert backend.calls["complete_upload"] == 1
    assert left_behind(backend) == []


def test_where_parts_can_not_be_listed_a_lost_response_is_resolved_too(faulty, make_backend, source, left_behind):
    """An abort makes sure that no upload lingers; it touches no object."""
    backend = make_backend(lists_parts=False)
    faulty(COMPLETE_LOST, backend=backend).upload(source, "key")

    assert backend.read("key") == source.data
    assert backend.calls["complete_upload"] == backend.calls["abort_upload"] == 1
    assert left_behind(backend) == []


def test_an_object_of_the_same_bytes_that_stood_there_before_does_not_count(faulty, backend, source):
    """The upload is still there, so the request never arrived."""
    faulty().upload(source.data, "key")
    before = backend.head_object("key").etag
    options = ObjectOptions(content_type="a/b")
    faulty(Fault("complete_upload", FaultKind.BEFORE)).upload(source, "key", options=options)

    assert backend.describe("key").content_type == "a/b"
    assert backend.head_object("key").etag == before
    assert backend.calls["complete_upload"] == 2


def test_another_clients_object_does_not_count(faulty, backend, source):
    faulty().upload(pseudo_random_bytes(45, "other"), "key")
    faulty(Fault("complete_upload", FaultKind.BEFORE)).upload(source, "key")

    assert backend.read("key") == source.data


@pytest.mark.parametrize("metadata", [{}, {TOKEN_NAME: "another"}])
def test_without_checksums_another_clients_object_does_not_count(faulty, make_backend, source, metadata):
    backend = make_backend(object_checksums=False)
    faulty(backend=backend, multipart_threshold=50).upload(
        pseudo_random_bytes(45, "other"), "key", options=ObjectOptions(metadata=metadata)
    )
    faulty(Fault("complete_upload", FaultKind.BEFORE), backend=backend).upload(source, "key")

    assert backend.read("key") == source.data


def test_a_second_attempt_that_finds_our_object_in_its_way_is_resolved(faulty, backend, source, clock):
    """The first request was slow: it took effect after we had looked, and before we asked again."""
    made = faulty(Fault("complete_upload", FaultKind.BEFORE))

    def arrive():
        if made.backend.plan.reached and backend.uploads:
            [upload] = backend.uploads.values()
            backend.complete_upload("key", upload.upload_id, list(upload.parts.values()), ONCE)
            with pytest.raises(ObjectExists):
                backend.initiate_upload("key", ONCE)

    clock.meanwhile = arrive
    result = made.upload(source, "key", options=ONCE)

    assert backend.read("key") == source.data
    assert result.verified


@pytest.mark.parametrize("lists_parts", [True, False])
def test_an_object_that_stood_in_the_way_from_the_start_is_not_ours(uploader, make_backend, source, lists_parts):
    """Even if it has the very same bytes."""
    backend = make_backend(lists_parts=lists_parts)

    storage = Storage(
        backend, lambda inner, upload_id: inner.put_object("key", bytes_body(source.data), ObjectOptions())
    )
    with pytest.raises(UploadFailed) as caught:
        uploader(backend=storage).upload(source, "key", options=ONCE)

    assert isinstance(caught.value.__cause__, ObjectExists)
    assert caught.value.resumable


def test_an_object_in_the_way_after_a_lost_response_may_be_ours(uploader, backend, source, clock):
    """A storage may well refuse before it looks for the upload."""

    class Refusing(Storage):
        calls = 0

        def complete_upload(self, key, upload_id, parts, options):
            self.calls += 1
            if self.calls == 1:
                raise ConnectionFailed("lost on the way out")
            self._inner.complete_upload(key, upload_id, parts, options)
            raise ObjectExists("there it is")

    assert uploader(backend=Refusing(backend)).upload(source, "key", options=ONCE).verified


def test_no_head_is_sent_during_a_pause_that_the_storage_requests(faulty, source, clock):
    made = faulty(Fault("complete_upload", FaultKind.THROTTLED, seconds=60.0))
    made.upload(source, "key")
    operations = [call.operation for call in made.backend.plan.calls]

    assert operations[operations.index("complete_upload") :] == [
        "complete_upload",
        "head_object",
        "complete_upload",
        "delete",
    ]
    assert clock.waits[0] == 60.0


def test_a_lost_response_to_the_last_attempt_is_resolved_too(faulty, backend, source):
    made = faulty(
        Fault("complete_upload", FaultKind.BEFORE),
        Fault("complete_upload", FaultKind.AFTER, occurrence=2),
        max_attempts=2,
    )

    assert made.upload(source, "key").verified


def test_completing_fails_after_as_many_attempts_as_any_request(faulty, backend, source):
    faults = [Fault("complete_upload", FaultKind.BEFORE, occurrence=n) for n in (1, 2, 3)]
    with pytest.raises(UploadFailed, match="Kept: 45 of 45 bytes") as caught:
        faulty(*faults, max_attempts=3).upload(source, "key")

    assert (caught.value.resumable, caught.value.retryable) == (True, True)


def test_no_head_follows_a_permanent_refusal(faulty, backend, source):
    with pytest.raises(UploadFailed) as caught:
        faulty(Fault("complete_upload", FaultKind.PERMANENT)).upload(source, "key")

    assert isinstance(caught.value.__cause__, AccessDenied)
    assert backend.calls["head_object"] == 0


def test_a_failed_head_leaves_the_decision_to_the_next_run(faulty, source):
    with pytest.raises(UploadFailed) as caught:
        faulty(COMPLETE_LOST, Fault("head_object", FaultKind.PERMANENT)).upload(source, "key")

    assert caught.value.resumable
    assert faulty().upload(source, "key").parts_resumed == 5


# --- an outcome that no one knows ------------------------------------------------------------------------------------


@pytest.fixture
def mute(make_backend):
    """A storage that offers nothing to know an object by: no checksum, and no metadata for a token."""

    def make(**capabilities):
        return make_backend(object_checksums=False, options=frozenset(), **capabilities)

    return make


@pytest.mark.parametrize("lists_parts", [True, False])
def test_where_nothing_shows_the_outcome_nothing_is_guessed(faulty, mute, store, source, lists_parts):
    backend = mute(lists_parts=lists_parts)
    with pytest.raises(
        OutcomeUnknown, match=r"nothing shows whether this upload made it .* Look at the object"
    ) as caught:
        faulty(COMPLETE_LOST, backend=backend).upload(source, "key")

    assert (caught.value.resumable, caught.value.key, caught.value.bytes_total) == (False, "key", 45)
    assert backend.read("key") == source.data
    assert len(list(store.scan())) == 1


def test_the_next_run_does_not_guess_either(faulty, mute, source):
    backend = mute()
    with pytest.raises(OutcomeUnknown):
        faulty(COMPLETE_LOST, backend=backend).upload(source, "key")
    with pytest.raises(OutcomeUnknown):
        faulty(backend=backend).upload(source, "key")

    assert backend.calls["upload_part"] == 5


def test_an_unknown_outcome_ends_with_an_abort(faulty, mute, source, left_behind):
    """As the message says."""
    backend = mute()
    with pytest.raises(OutcomeUnknown):
        faulty(COMPLETE_LOST, backend=backend).upload(source, "key")
    assert faulty(backend=backend).abort(source, "key")

    assert left_behind(backend) == []
    assert faulty(backend=backend).upload(source, "key").parts_sent == 5


def test_an_unknown_outcome_is_raised_with_never_too(faulty, mute, source):
    backend = mute()
    with pytest.raises(OutcomeUnknown):
        faulty(COMPLETE_LOST, backend=backend).upload(source, "key")

    assert faulty(backend=backend).upload(source, "key", resume="never").parts_sent == 5


def test_an_upload_that_is_still_there_was_not_completed(faulty, mute, source):
    backend = mute()
    faulty(backend=backend, multipart_threshold=50).upload(pseudo_random_bytes(45, "other"), "key")
    faulty(Fault("complete_upload", FaultKind.BEFORE), backend=backend).upload(source, "key")

    assert backend.read("key") == source.data


def test_an_object_of_another_size_was_not_completed(faulty, mute, source):
    backend = mute(lists_parts=False)
    faulty(backend=backend, multipart_threshold=50).upload(pseudo_random_bytes(44), "key")
    faulty(Fault("complete_upload", FaultKind.BEFORE), backend=backend).upload(source, "key")

    assert backend.read("key") == source.data


# --- an upload that is gone ------------------------------------------------------------------------------------------


def test_an_upload_that_is_gone_with_our_object_there_was_completed(uploader, make_backend, faulty, source):
    """By an earlier run whose answer was lost, on a storage that does not list parts."""
    backend = make_backend(lists_parts=False)
    with pytest.raises(UploadFailed):
        faulty(COMPLETE_LOST, Fault("head_object", FaultKind.PERMANENT), backend=backend).upload(source, "key")
    result = uploader(backend=backend).upload(source, "key")

    assert (result.parts_resumed, result.parts_sent) == (5, 0)
    assert backend.calls["upload_part"] == 5


def test_an_upload_that_is_gone_without_an_object_starts_again(uploader, backend, source, left_behind):
    result = uploader(backend=Storage(backend, aborts)).upload(source, "key")

    assert backend.read("key") == source.data
    assert result.parts_sent == 5
    assert backend.calls["upload_part"] == 10
    assert left_behind() == []


# --- parts that are refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [(1,), (2, 5), (1, 2, 3, 4, 5)])
def test_parts_that_the_storage_lost_are_sent_again(uploader, backend, source, left_behind, numbers):
    result = uploader(backend=Storage(backend, loses(*numbers))).upload(source, "key")

    assert backend.read("key") == source.data
    assert backend.calls["upload_part"] == 5 + len(numbers)
    assert result.warnings[0].startswith("parts were not on the storage as recorded, and are sent again")
    assert left_behind() == []


def test_parts_that_another_client_overwrote_are_sent_again(uploader, backend, source):
    def overwrite(inner, upload_id):
        inner.upload_part("key", upload_id, 2, bytes_body(source.data[20:30]))

    uploader(backend=Storage(backend, overwrite)).upload(source, "key")

    assert backend.read("key") == source.data


def test_a_resumed_part_that_had_to_be_sent_again_counts_as_sent(uploader, backend, source, interrupted):
    interrupted(source)
    result = uploader(backend=Storage(backend, loses(1))).upload(source, "key")

    assert (result.bytes_resumed, result.parts_resumed) == (10, 1)
    assert (result.bytes_sent, result.parts_sent) == (35, 4)


def test_parts_are_repaired_twice_and_no_more(uploader, backend, source):
    uploader(backend=Storage(backend, loses(1), loses(2))).upload(source, "key")
    assert backend.read("key") == source.data

    with pytest.raises(UploadFailed) as caught:
        uploader(backend=Storage(backend, loses(1), loses(2), loses(3))).upload(source, "key")
    assert isinstance(caught.value.__cause__, PartRejected)
    assert caught.value.resumable


def test_a_rejection_that_the_list_does_not_explain_fails(uploader, backend, source):
    with pytest.raises(UploadFailed, match="one of them is not right") as caught:
        uploader(backend=Storage(backend, rejects)).upload(source, "key")

    assert caught.value.resumable
    assert backend.calls["upload_part"] == 5


def test_where_parts_can_not_be_listed_a_rejection_fails(uploader, make_backend, source):
    backend = make_backend(lists_parts=False)
    with pytest.raises(UploadFailed):
        uploader(backend=Storage(backend, loses(1))).upload(source, "key")

    assert backend.calls["list_parts"] == 0


def test_a_stream_has_been_consumed_and_can_not_be_repaired(uploader, backend, data):
    """A later run of a named one can."""
    with pytest.raises(UploadFailed) as caught:
        uploader(backend=Storage(backend, loses(1))).upload(StreamSource(io.BytesIO(data), name="dump"), "key")
    assert caught.value.resumable
    assert backend.calls["complete_upload"] == 1

    result = uploader().upload(StreamSource(io.BytesIO(data), name="dump"), "key")
    assert (result.parts_sent, result.parts_resumed) == (1, 4)


def test_an_upload_that_is_gone_while_it_is_repaired_starts_again(uploader, backend, source):
    def vanish_and_reject(inner, upload_id):
        aborts(inner, upload_id)
        raise PartRejected("there is no part 1")

    uploader(backend=Storage(backend, vanish_and_reject)).upload(source, "key")

    assert backend.read("key") == source.data


# --- the whole -------------------------------------------------------------------------------------------------------


def test_a_source_that_changed_after_its_last_part_is_never_completed(uploader, backend, source, left_behind):
    """Nor is one that changes between two attempts."""

    def fail_and_touch(inner, upload_id):
        source.touch()
        raise ServerFailed("try again")

    with pytest.raises(SourceChanged):
        uploader(backend=Storage(backend, fail_and_touch)).upload(source, "key")

    assert backend.keys() == []
    assert left_behind() == []


def test_parts_that_do_not_make_up_the_source_are_never_completed(uploader, backend):
    """As when a source says that it is longer than what it gives."""

    class Short(ChangingSource):
        def body(self, offset, size):
            return super().body(offset, size - 1)

    with pytest.raises(SourceChanged, match=r"/a/file to key .* has 45 bytes, and its parts that were sent have 40"):
        uploader().upload(Short(pseudo_random_bytes(45)), "key")

    assert backend.calls["complete_upload"] == 0


# --- ETags that are altered by a proxy -------------------------------------------------------------------------------


class Middlebox:
    """A proxy during the upload to a bucket, which alters the ETags of responses to parts."""

    def __init__(self, inner, alter):
        self._inner = inner
        self._alter = alter

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def upload_part(self, *arguments):
        part = self._inner.upload_part(*arguments)
        return evolve(part, etag=self._alter(part.etag))


ALTERED = {
    "weak": lambda etag: f'W/"{etag}"',
    "in quotes": lambda etag: f'"{etag}"',
    "in the other case": str.swapcase,
    "with an addition": lambda etag: f"{etag}-gzip",
}


@pytest.fixture(params=ALTERED)
def middlebox(request):
    return lambda backend: Middlebox(backend, ALTERED[request.param])


def test_an_etag_that_was_altered_sends_no_part_again(uploader, backend, source, middlebox, left_behind):
    result = uploader(backend=middlebox(backend)).upload(source, "key")

    assert backend.read("key") == source.data
    assert backend.calls["upload_part"] == 5
    assert (result.parts_sent, result.verified) == (5, True)
    assert result.warnings[0].startswith("parts had altered ETags")
    assert left_behind() == []


def test_an_etag_that_was_altered_sends_no_part_again_by_threads(backend, store, source, middlebox):
    """The threads have ended after the last part, and there is none to send before the second completion."""
    config = TransferConfig(part_size=10, multipart_threshold=0, concurrency=2)
    result = Uploader(middlebox(backend), store=store, config=config).upload(source, "key")

    assert backend.read("key") == source.data
    assert (backend.calls["upload_part"], result.parts_sent) == (5, 5)


def test_an_etag_that_was_altered_sends_no_part_again_of_a_stream(uploader, backend, data, middlebox):
    result = uploader(backend=middlebox(backend)).upload(io.BytesIO(data), "key")

    assert backend.read("key") == data
    assert (backend.calls["upload_part"], result.parts_sent) == (5, 5)


@pytest.mark.parametrize("named", [False, True], ids=["a file", "a stream"])
def test_an_etag_that_was_altered_sends_no_part_again_of_a_resume(
    faulty, uploader, backend, *, source, middlebox, named
):
    def open_source():
        return StreamSource(io.BytesIO(source.data), name="dump") if named else source

    with pytest.raises(UploadFailed):
        faulty(Fault("upload_part", FaultKind.PERMANENT, part_number=3), backend=middlebox(backend)).upload(
            open_source(), "key"
        )
    result = uploader(backend=middlebox(backend)).upload(open_source(), "key")

    assert backend.read("key") == source.data
    assert (result.parts_resumed, result.parts_sent, backend.calls["upload_part"]) == (2, 3, 5)


def test_etags_that_were_taken_from_the_list_are_recorded(faulty, uploader, backend, store, source):
    """So that the run after one that died while it completed has them."""
    made = faulty(
        Fault("complete_upload", FaultKind.PERMANENT, occurrence=2), backend=Middlebox(backend, ALTERED["weak"])
    )
    with pytest.raises(UploadFailed):
        made.upload(source, "key")
    [checkpoint] = store.scan()
    listed = backend.list_parts("key", checkpoint.upload_id)

    assert [part.etag for part in checkpoint.parts] == [part.etag for part in listed]


def test_without_checksums_of_parts_an_etag_that_is_another_is_another_part(uploader, make_backend, source):
    backend = make_backend(part_checksums=False)
    with pytest.raises(UploadFailed):
        uploader(backend=Middlebox(backend, ALTERED["with an addition"])).upload(source, "key")

    assert backend.keys() == []


def test_an_altered_etag_of_the_object_does_not_hide_its_checksum(uploader, backend, source, monkeypatch):
    complete, head = backend.complete_upload, backend.head_object
    monkeypatch.setattr(backend, "complete_upload", lambda *args: evolve(complete(*args), checksum=None))
    monkeypatch.setattr(backend, "head_object", lambda key: evolve(head(key), etag=f'W/"{head(key).etag}"'))

    assert uploader().upload(source, "key").verified


# --- asked to leave the storage alone --------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2])
def test_the_time_that_a_storage_asks_for_at_complete_is_waited_for_once(faulty, source, clock, times):
    began = clock.time
    faults = [Fault("complete_upload", FaultKind.THROTTLED, occurrence=n, seconds=7.0) for n in range(1, times + 1)]
    faulty(*faults).upload(source, "key")

    assert clock.time - began == 7.0 * times


# --- an upload that was completed before -----------------------------------------------------------------------------


def test_parts_of_a_stream_that_were_compared_are_not_read_again(faulty, make_backend, data):
    backend = make_backend(lists_parts=False)

    def stream():
        return StreamSource(io.BytesIO(data), name="dump")

    with pytest.raises(UploadFailed):
        faulty(COMPLETE_LOST, Fault("head_object", FaultKind.PERMANENT), backend=backend).upload(stream(), "key")
    result = faulty(backend=backend).upload(stream(), "key")

    assert (result.parts_resumed, result.parts_sent) == (5, 0)


def test_where_parts_can_not_be_listed_an_object_that_an_earlier_run_completed_is_a_warning(
    faulty, make_backend, source
):
    """It has the options of that run."""
    backend = make_backend(lists_parts=False, late_options={"acl"})
    with pytest.raises(UploadFailed):
        faulty(COMPLETE_LOST, Fault("head_object", FaultKind.PERMANENT), backend=backend).upload(source, "key")
    result = faulty(backend=backend).upload(source, "key", options=ObjectOptions(acl="private"))

    assert (result.parts_resumed, result.parts_sent) == (5, 0)
    assert backend.describe("key").acl is None
    assert result.warnings == (
        "an earlier run completed the upload, but the response was lost",
        "the object has the options of that run: acl of this one had no effect",
    )


@pytest.mark.parametrize("kind", [FaultKind.BEFORE, FaultKind.AFTER])
def test_where_parts_can_not_be_listed_it_is_unknown_whose_options_an_object_has_after_a_lost_response(
    faulty, make_backend, source, kind
):
    """An earlier run may have made it, or the attempt whose response was lost."""
    backend = make_backend(lists_parts=False, late_options={"acl"})
    first = Fault("complete_upload", kind), Fault("head_object", FaultKind.PERMANENT)
    with pytest.raises(UploadFailed):
        faulty(*first, backend=backend).upload(source, "key")
    second = Fault("complete_upload", FaultKind.BEFORE if kind is FaultKind.AFTER else FaultKind.AFTER)
    result = faulty(second, backend=backend).upload(source, "key", options=ObjectOptions(acl="private"))

    assert (result.parts_resumed, result.parts_sent) == (5, 0)
    assert backend.describe("key").acl == (None if kind is FaultKind.AFTER else "private")
    assert "the response to complete was lost" in result.warnings[0]
    assert result.warnings[1:] == (
        "the object may have the options of an earlier run: acl of this one may have had no effect",
    )


def test_parts_that_the_storage_listed_are_not_read_for_a_lost_response(faulty, uploader, source, interrupted):
    interrupted(source)
    readings = source.readings
    result = faulty(COMPLETE_LOST).upload(source, "key")

    assert result.parts_resumed == 2
    assert source.readings == readings + 3, "the parts that were missing"


def test_parts_of_an_upload_that_another_run_completed_are_read(uploader, backend, source, interrupted, monkeypatch):
    """No request of this run can have made the object, so only the checkpoint says which parts it kept."""
    interrupted(source)
    readings, complete = source.readings, backend.complete_upload

    def completed_before(*arguments):
        complete(*arguments)
        raise UploadNotFound("it was completed before")

    monkeypatch.setattr(backend, "complete_upload", completed_before)
    result = uploader().upload(source, "key")

    assert (result.parts_resumed, backend.read("key")) == (2, source.data)
    assert source.readings == readings + 5, "the parts that were missing, and those that were kept"
