"""What a run makes of what it finds: an upload is resumed, or started again, and never mixed."""

from __future__ import annotations

import io

import pytest
from attrs import evolve

from partwise._engine.resume import checksum_of
from partwise.backends.oss import Callback, OSSOptions
from partwise.bodies import bytes_body
from partwise.checkpoint import Fingerprint
from partwise.checksums import CRC64_XZ
from partwise.errors import (
    CannotResume,
    CheckpointError,
    CheckpointMismatch,
    CheckpointUnwritable,
    SourceChanged,
    SourceUnreadable,
    UploadCancelled,
    UploadFailed,
    UploadNotFound,
    UploadPaused,
)
from partwise.model import ObjectOptions, PartLimits, UploadedPart
from partwise.sources import BytesSource, StreamSource
from partwise.testing.fakes import ChangingSource, pseudo_random_bytes
from partwise.testing.faults import Fault, FaultKind, SimulatedCrash
from partwise.testing.faulty import FaultySource

OLD_AND_NEW = "started again: the source changed"


@pytest.fixture
def forget_parts(backend):
    """Makes the storage lose these parts of its only upload."""

    def forget(*numbers):
        [upload] = backend._storage.uploads.values()
        for number in numbers:
            del upload.parts[number]

    return forget


@pytest.fixture
def overwrite_part(backend):
    """Makes another client send other bytes as a part of the only upload."""

    def overwrite(number, data):
        [upload] = backend.uploads.values()
        backend.upload_part("key", upload.upload_id, number, bytes_body(data))

    return overwrite


# --- resuming --------------------------------------------------------------------------------------------------------


def test_a_second_run_sends_only_what_is_missing(uploader, backend, source, interrupted, left_behind):
    interrupted(source)
    result = uploader().upload(source, "key")

    assert backend.read("key") == source.data
    assert (result.parts_resumed, result.bytes_resumed, result.parts_sent, result.bytes_sent) == (2, 20, 3, 25)
    assert (result.verified, result.warnings) == (True, ())
    assert backend.calls["initiate_upload"] == 1
    assert left_behind() == []


def test_a_third_run_resumes_from_the_second(faulty, uploader, backend, source, interrupted):
    interrupted(source)
    with pytest.raises(UploadFailed):
        faulty(Fault("upload_part", FaultKind.PERMANENT, part_number=4)).upload(source, "key")
    result = uploader().upload(source, "key")

    assert (result.parts_resumed, result.parts_sent) == (3, 2)


def test_a_run_with_nothing_left_to_send_only_completes(faulty, uploader, backend, source):
    with pytest.raises(UploadFailed):
        faulty(Fault("complete_upload", FaultKind.PERMANENT)).upload(source, "key")
    result = uploader().upload(source, "key")

    assert (result.parts_resumed, result.parts_sent) == (5, 0)
    assert backend.calls["upload_part"] == 5


def test_gaps_are_filled(uploader, backend, source, interrupted, forget_parts):
    interrupted(source)
    forget_parts(1)
    result = uploader().upload(source, "key")

    assert backend.read("key") == source.data
    assert (result.parts_resumed, result.parts_sent) == (1, 4)


def test_a_part_that_another_client_overwrote_is_sent_again(uploader, backend, source, interrupted, overwrite_part):
    interrupted(source)
    overwrite_part(2, bytes(10))
    result = uploader().upload(source, "key")

    assert backend.read("key") == source.data
    assert (result.parts_resumed, result.parts_sent) == (1, 4)


def test_a_part_whose_record_was_lost_is_adopted(faulty, uploader, source):
    with pytest.raises(UploadFailed):
        faulty(
            Fault("append_part", FaultKind.LOST_WRITE, part_number=2),
            Fault("upload_part", FaultKind.PERMANENT, part_number=3),
        ).upload(source, "key")
    result = uploader().upload(source, "key")

    assert (result.parts_resumed, result.parts_sent) == (2, 3)


def test_what_was_adopted_is_recorded(faulty, uploader, store, source, interrupted):
    """Or else it would be read again by every run."""
    with pytest.raises(UploadFailed):
        faulty(
            Fault("append_part", FaultKind.LOST_WRITE, part_number=2),
            Fault("upload_part", FaultKind.PERMANENT, part_number=3),
        ).upload(source, "key")
    interrupted(source)
    [checkpoint] = store.scan()

    assert {part.part_number for part in checkpoint.parts} == {1, 2}


def test_what_was_adopted_and_can_not_be_recorded_is_a_warning(faulty, source, data, backend):
    with pytest.raises(UploadFailed):
        faulty(
            Fault("append_part", FaultKind.LOST_WRITE, part_number=2),
            Fault("upload_part", FaultKind.PERMANENT, part_number=3),
        ).upload(source, "key")
    result = faulty(Fault("save", FaultKind.BEFORE)).upload(source, "key")

    assert backend.read("key") == data
    assert len(result.warnings) == 1
    assert result.warnings[0].startswith("progress could not be recorded")


def test_a_part_on_the_storage_of_other_bytes_is_not_adopted(faulty, uploader, backend, source, overwrite_part):
    with pytest.raises(UploadFailed):
        faulty(Fault("upload_part", FaultKind.PERMANENT, part_number=2)).upload(source, "key")
    overwrite_part(2, bytes(10))
    result = uploader().upload(source, "key")

    assert backend.read("key") == source.data
    assert (result.parts_resumed, result.parts_sent) == (1, 4)


@pytest.mark.parametrize("name", ["part_checksums", "object_checksums", "lists_parts"])
def test_storages_with_fewer_capabilities_resume_too(uploader, make_backend, faulty, source, name):
    backend = make_backend(**{name: False})
    with pytest.raises(UploadFailed):
        faulty(Fault("upload_part", FaultKind.PERMANENT, part_number=3), backend=backend).upload(source, "key")
    result = uploader(backend=backend).upload(source, "key")

    assert backend.read("key") == source.data
    assert (result.parts_resumed, result.parts_sent) == (2, 3)
    assert backend.uploads == {}


def test_where_parts_can_not_be_listed_the_checkpoint_decides(uploader, make_backend, faulty, source, data):
    backend = make_backend(lists_parts=False)
    with pytest.raises(UploadFailed):
        faulty(Fault("upload_part", FaultKind.PERMANENT, part_number=3), backend=backend).upload(source, "key")
    uploader(backend=backend).upload(source, "key")

    assert backend.calls["list_parts"] == 0


def test_the_recorded_part_size_is_kept(uploader, backend, source, data, interrupted):
    interrupted(source)
    result = uploader(part_size=7, concurrency=3).upload(source, "key")

    assert backend.read("key") == data
    assert (result.parts_resumed, result.parts_sent) == (2, 3)


# --- the storage's list ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FaultKind.BEFORE, FaultKind.AFTER, FaultKind.THROTTLED])
def test_a_list_that_fails_for_a_moment_is_retried(faulty, backend, source, interrupted, kind):
    interrupted(source)
    result = faulty(Fault("list_parts", kind)).upload(source, "key")

    assert result.parts_resumed == 2
    assert backend.calls["initiate_upload"] == 1


@pytest.mark.parametrize("kinds", [[FaultKind.BEFORE] * 2, [FaultKind.PERMANENT]])
def test_a_list_that_fails_never_leads_to_a_fresh_upload(faulty, source, interrupted, kinds, left_behind):
    upload_id = interrupted(source).upload_id
    before = left_behind()
    faults = [Fault("list_parts", kind, occurrence=n) for n, kind in enumerate(kinds, 1)]
    with pytest.raises(UploadFailed) as caught:
        faulty(*faults, max_attempts=2).upload(source, "key")

    assert (caught.value.resumable, caught.value.upload_id, caught.value.bytes_done) == (True, upload_id, 20)
    assert left_behind() == before


def test_a_list_that_leaves_parts_out_sends_only_those_again(faulty, backend, source, data, interrupted):
    interrupted(source)
    result = faulty(Fault("list_parts", FaultKind.SHORT_LIST)).upload(source, "key")

    assert backend.read("key") == data
    assert result.parts_resumed == 1


# --- an upload that is gone ------------------------------------------------------------------------------------------


def test_an_upload_that_expired_between_runs_starts_again(faulty, backend, source, interrupted, left_behind):
    old = interrupted(source).upload_id
    result = faulty(Fault("list_parts", FaultKind.FORGOTTEN_UPLOAD)).upload(source, "key")

    assert backend.read("key") == source.data
    assert (result.parts_resumed, result.parts_sent) == (0, 5)
    assert result.warnings == ("started again: the storage no longer knows the upload: it was aborted, or it expired",)
    assert old not in backend.uploads
    assert left_behind() == []


@pytest.mark.parametrize("operation", ["upload_part", "complete_upload"])
@pytest.mark.parametrize("lists_parts", [True, False])
def test_an_upload_that_is_lost_in_mid_run_starts_again_once(faulty, make_backend, source, operation, lists_parts):
    backend = make_backend(lists_parts=lists_parts)
    part_number = 3 if operation == "upload_part" else None
    result = faulty(Fault(operation, FaultKind.FORGOTTEN_UPLOAD, part_number=part_number), backend=backend).upload(
        source, "key"
    )

    assert backend.read("key") == source.data
    assert (result.parts_resumed, result.bytes_sent, result.parts_sent) == (0, 45, 5)
    assert backend.calls["initiate_upload"] == 2
    assert backend.uploads == {}


@pytest.mark.parametrize("operation", ["upload_part", "complete_upload"])
def test_an_upload_that_is_lost_twice_fails(faulty, source, operation, left_behind):
    """The second loss is another client's doing."""
    part_number = 3 if operation == "upload_part" else None
    faults = [Fault(operation, FaultKind.FORGOTTEN_UPLOAD, occurrence=n, part_number=part_number) for n in (1, 2)]
    with pytest.raises(UploadFailed, match=r"the storage lost the upload twice in a row.*Nothing is kept") as caught:
        faulty(*faults).upload(source, "key")

    assert isinstance(caught.value.__cause__, UploadNotFound)
    assert (caught.value.resumable, caught.value.upload_id, caught.value.bytes_done) == (False, None, 0)
    assert left_behind() == []


def test_failures_to_complete_a_lost_upload_do_not_count_against_the_next_one(faulty, backend, source, data):
    def complete(kind, *occurrences):
        return [Fault("complete_upload", kind, occurrence=n) for n in occurrences]

    faults = complete(FaultKind.BEFORE, 1, 2, 4, 5) + complete(FaultKind.FORGOTTEN_UPLOAD, 3)
    faulty(*faults, max_attempts=3).upload(source, "key")

    assert backend.read("key") == data


def test_progress_does_not_go_back_when_it_starts_again(faulty, source):
    seen = []
    faulty(Fault("upload_part", FaultKind.FORGOTTEN_UPLOAD, part_number=4)).upload(
        source, "key", progress=lambda at: seen.append(at.bytes_done)
    )

    assert seen == sorted(seen)


def test_a_stream_that_lost_its_upload_in_mid_run_can_not_start_again(faulty, left_behind):
    """What was read of it has been consumed. The next run starts again."""
    with pytest.raises(UploadFailed, match="the stream is at byte 30, and can't seek to 0") as caught:
        faulty(Fault("upload_part", FaultKind.FORGOTTEN_UPLOAD, part_number=3)).upload(
            StreamSource(io.BytesIO(pseudo_random_bytes(45)), name="dump"), "key"
        )

    assert not caught.value.resumable
    assert left_behind() == []


def test_a_stream_that_opens_itself_starts_again_too(faulty, backend, data, left_behind):
    source = StreamSource(lambda: io.BytesIO(data), name="dump")
    faulty(Fault("upload_part", FaultKind.FORGOTTEN_UPLOAD, part_number=3)).upload(source, "key")

    assert backend.read("key") == data
    assert left_behind() == []


def test_an_object_that_an_earlier_run_completed_is_found(faulty, backend, source, data, left_behind):
    """That run died before it heard the response."""
    with pytest.raises(UploadFailed):
        faulty(Fault("complete_upload", FaultKind.AFTER), Fault("head_object", FaultKind.PERMANENT)).upload(
            source, "key"
        )
    seen = []
    result = faulty().upload(source, "key", progress=seen.append)

    assert backend.read("key") == data
    assert (result.parts_resumed, result.bytes_resumed, result.parts_sent, result.verified) == (5, 45, 0, True)
    assert result.warnings == ("an earlier run completed the upload, but the response was lost",)
    assert backend.calls["upload_part"] == 5
    assert [(at.bytes_done, at.completed) for at in seen] == [(45, True)]
    assert left_behind() == []


def test_an_object_that_an_earlier_run_completed_is_known_by_its_token(faulty, make_backend, source, data, left_behind):
    backend = make_backend(object_checksums=False)
    with pytest.raises(UploadFailed):
        faulty(
            Fault("complete_upload", FaultKind.AFTER), Fault("head_object", FaultKind.PERMANENT), backend=backend
        ).upload(source, "key")
    result = faulty(backend=backend).upload(source, "key")

    assert (result.parts_resumed, result.parts_sent, result.verified) == (5, 0, False)
    assert left_behind(backend) == []


def test_a_part_that_was_not_recorded_is_known_by_reading(faulty, backend, source, interrupted):
    """Also to know our own object by its checksum."""
    with pytest.raises(UploadFailed):
        faulty(
            Fault("append_part", FaultKind.LOST_WRITE, part_number=2),
            Fault("complete_upload", FaultKind.AFTER),
            Fault("head_object", FaultKind.PERMANENT),
        ).upload(source, "key")
    readings = source.readings
    result = faulty().upload(source, "key")

    assert result.parts_resumed == 5
    assert source.readings == readings + 5


def test_another_clients_object_of_our_size_does_not_count_as_ours(faulty, backend, source, data, interrupted):
    interrupted(source)
    faulty().upload(BytesSource(pseudo_random_bytes(45, "other")), "key")
    result = faulty(Fault("list_parts", FaultKind.FORGOTTEN_UPLOAD)).upload(source, "key")

    assert backend.read("key") == data
    assert result.parts_sent == 5


# --- other options ---------------------------------------------------------------------------------------------------


def test_other_options_start_again_and_abort_the_old_upload(uploader, backend, source, interrupted, left_behind):
    interrupted(source)
    options = ObjectOptions(content_type="text/plain")
    result = uploader().upload(source, "key", options=options)

    assert result.parts_resumed == 0
    assert result.warnings == ("started again: other options were requested (content_type)",)
    assert backend.describe("key").content_type == "text/plain"
    assert left_behind() == []


def test_options_that_act_late_change_nothing_and_act(faulty, make_backend, source):
    backend = make_backend(callback=lambda stored: b"response")
    with pytest.raises(UploadFailed):
        faulty(Fault("upload_part", FaultKind.PERMANENT, part_number=3), backend=backend).upload(source, "key")
    late = OSSOptions(acl="private", callback=Callback("http://example.com", "a=b"), forbid_overwrite=True)
    result = faulty(backend=backend).upload(source, "key", options=late)

    assert (result.parts_resumed, result.callback_response) == (2, b"response")
    assert backend.describe("key").acl == "private"


# --- another source --------------------------------------------------------------------------------------------------


CHANGES = {
    "it had 45 bytes, and now has 49": lambda source: source.append(b"more"),
    "it had 45 bytes, and now has 30": lambda source: source.truncate(30),
    "it was modified": lambda source: source.touch(),
    "the bytes of part 1 are different": lambda source: source.replace(pseudo_random_bytes(45, "other")),
}


@pytest.mark.parametrize("why", CHANGES)
def test_a_source_that_changed_between_runs_is_sent_again(uploader, backend, source, interrupted, why):
    interrupted(source)
    CHANGES[why](source)
    result = uploader().upload(source, "key")

    assert backend.read("key") == source.data
    assert result.parts_resumed == 0
    assert result.warnings == (f"{OLD_AND_NEW}: {why}",)
    assert backend.uploads == {}


def test_other_bytes_under_the_same_name_are_sent_again(uploader, backend, interrupted, data):
    interrupted(BytesSource(data))
    other = pseudo_random_bytes(45, "other")
    result = uploader().upload(BytesSource(other), "key")

    assert backend.read("key") == other
    assert result.warnings == (f"{OLD_AND_NEW}: its checksum is different",)


def test_the_same_bytes_under_the_same_name_are_resumed(uploader, interrupted, data):
    interrupted(BytesSource(data))

    assert uploader().upload(BytesSource(data), "key").parts_resumed == 2


def test_a_forged_source_is_found_out_by_its_content(uploader, backend, source, interrupted, left_behind):
    interrupted(source)
    source.forge(pseudo_random_bytes(45, "other"))
    result = uploader(verify_source="content").upload(source, "key")

    assert backend.read("key") == source.data
    assert result.warnings == (f"{OLD_AND_NEW}: the bytes of part 1 are different",)
    assert left_behind() == []


def test_a_forged_source_is_found_out_even_after_a_lost_response(faulty, backend, source):
    """The object is there, and is that of the bytes as they were."""
    with pytest.raises(UploadFailed):
        faulty(Fault("complete_upload", FaultKind.AFTER), Fault("head_object", FaultKind.PERMANENT)).upload(
            source, "key"
        )
    source.forge(pseudo_random_bytes(45, "other"))
    faulty(verify_source="content").upload(source, "key")

    assert backend.read("key") == source.data


def test_content_that_matches_is_resumed(uploader, source, interrupted):
    interrupted(source)

    assert uploader(verify_source="content").upload(source, "key").parts_resumed == 2


def test_with_keep_matching_the_parts_that_still_match_are_kept(uploader, backend, source, interrupted, left_behind):
    interrupted(source)
    source.write(source.data[:10] + pseudo_random_bytes(35, "other"))
    result = uploader(on_source_change="keep-matching").upload(source, "key")

    assert backend.read("key") == source.data
    assert (result.parts_resumed, result.parts_sent) == (1, 4)
    assert left_behind() == []


def test_with_keep_matching_a_source_that_was_only_touched_keeps_all(uploader, backend, source, interrupted):
    interrupted(source)
    source.touch()

    assert uploader(on_source_change="keep-matching").upload(source, "key").parts_resumed == 2


def test_what_was_kept_of_a_changed_source_is_of_the_new_version_from_then_on(faulty, uploader, source, interrupted):
    interrupted(source)
    source.touch()
    with pytest.raises(UploadFailed):
        faulty(Fault("upload_part", FaultKind.PERMANENT, part_number=4), on_source_change="keep-matching").upload(
            source, "key"
        )

    assert uploader().upload(source, "key").parts_resumed == 3


def test_what_was_kept_of_a_changed_source_must_be_recorded_as_such(faulty, backend, store, source, interrupted):
    """Parts of this version must never follow the header of another."""
    interrupted(source)
    before = list(store.scan())
    source.touch()
    with pytest.raises(CheckpointUnwritable):
        faulty(Fault("save", FaultKind.BEFORE), on_source_change="keep-matching").upload(source, "key")

    assert list(store.scan()) == before
    assert backend.calls["upload_part"] == 2


def test_with_keep_matching_a_source_that_grew_keeps_its_whole_parts(uploader, backend, source, interrupted):
    interrupted(source)
    source.append(pseudo_random_bytes(30, "more"))
    result = uploader(on_source_change="keep-matching").upload(source, "key")

    assert backend.read("key") == source.data
    assert result.parts_resumed == 2


def test_a_source_that_became_empty_is_an_empty_object(uploader, backend, source, interrupted, left_behind):
    interrupted(source)
    source.truncate(0)
    result = uploader(on_source_change="keep-matching").upload(source, "key")

    assert backend.read("key") == b""
    assert result.warnings == ("started again: the source is empty now",)
    assert left_behind() == []


def test_a_source_that_outgrew_its_parts_starts_again(uploader, make_backend, faulty, source):
    backend = make_backend(limits=PartLimits(max_parts=5))
    with pytest.raises(UploadFailed):
        faulty(Fault("upload_part", FaultKind.PERMANENT, part_number=3), backend=backend).upload(source, "key")
    source.append(pseudo_random_bytes(10, "more"))
    result = uploader(backend=backend, part_size="auto", on_source_change="keep-matching").upload(source, "key")

    assert backend.read("key") == source.data
    assert "more than 5 parts of 10 bytes" in result.warnings[0]


def test_a_source_that_changes_while_it_is_compared_is_never_mixed(faulty, backend, source, interrupted, left_behind):
    interrupted(source)
    made = faulty(Fault("fingerprint", FaultKind.CHANGED, occurrence=2), verify_source="content")
    with pytest.raises(SourceChanged):
        made.upload(FaultySource(source, made.store.plan), "key")

    assert backend.calls["upload_part"] == 2, "no part was sent after those of the first run"
    assert left_behind() == []


def test_a_source_that_can_not_be_read_for_comparing_keeps_what_is_there(faulty, backend, source, interrupted):
    interrupted(source)
    made = faulty(Fault("read", FaultKind.BEFORE), verify_source="content")
    with pytest.raises(UploadFailed) as caught:
        made.upload(FaultySource(source, made.store.plan), "key")

    assert isinstance(caught.value.__cause__, SourceUnreadable)
    assert caught.value.resumable


# --- the checkpoint itself -------------------------------------------------------------------------------------------


def test_a_damaged_checkpoint_is_reported_and_all_parts_are_sent(faulty, backend, source, interrupted, left_behind):
    interrupted(source)
    result = faulty(Fault("load", FaultKind.DAMAGED)).upload(source, "key")

    assert backend.read("key") == source.data
    assert result.parts_resumed == 0
    assert len(result.warnings) == 1
    assert result.warnings[0].startswith("started again: the checkpoint is damaged: ")
    assert left_behind() == []


def test_a_damaged_checkpoint_is_logged_once(faulty, source, interrupted, caplog):
    interrupted(source)
    result = faulty(Fault("load", FaultKind.DAMAGED)).upload(source, "key")

    logged = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert logged == [f"key: {result.warnings[0]}"]


def test_a_damaged_checkpoint_of_a_plan_is_logged(faulty, source, interrupted, caplog):
    """A plan gives no warnings, and a person may want to look at what was set aside."""
    interrupted(source)
    faulty(Fault("load", FaultKind.DAMAGED)).plan(source, "key")

    assert "key: the checkpoint is damaged: InjectedFault" in caplog.text


def test_a_damaged_checkpoint_that_is_discarded_is_logged(faulty, source, interrupted, caplog):
    interrupted(source)
    assert faulty(Fault("load", FaultKind.DAMAGED)).abort(source, "key")

    assert "key: the checkpoint is damaged: InjectedFault" in caplog.text


def test_a_checkpoint_that_is_one_part_old_loses_nothing(faulty, source, interrupted):
    interrupted(source)

    assert faulty(Fault("load", FaultKind.OLD_RECORD)).upload(source, "key").parts_resumed == 2


def test_a_checkpoint_that_can_not_be_read_is_not_changed(faulty, backend, store, source, interrupted):
    interrupted(source)
    with pytest.raises(CheckpointError):
        faulty(Fault("load", FaultKind.BEFORE)).upload(source, "key")
    assert len(backend.uploads) == len(list(store.scan())) == 1


def test_a_store_that_gives_another_uploads_checkpoint_is_refused(uploader, backend, store, source, interrupted):
    """As the one file does that was named for both."""
    interrupted(source)
    [other] = store.scan()
    store.load = lambda name: other
    with pytest.raises(
        CheckpointMismatch, match="the checkpoint is that of /a/file to key in memory://bucket, not of bytes to else"
    ) as caught:
        uploader().upload(b"0123456789" * 3, "else")

    assert caught.value.name == other.name
    assert len(backend.uploads) == 1
    assert list(store.scan()) == [other]


def test_an_upload_that_was_never_initiated_starts(faulty, uploader, store, source, left_behind):
    """The process died between the intent and the upload's id."""
    with pytest.raises(SimulatedCrash):
        faulty(Fault("initiate_upload", FaultKind.CRASH_BEFORE)).upload(source, "key")
    [intent] = store.scan()
    result = uploader().upload(source, "key")

    assert intent.upload_id is None
    assert (result.parts_sent, result.warnings) == (5, ())
    assert left_behind() == []


# --- what could not be aborted ---------------------------------------------------------------------------------------


def test_an_old_upload_that_could_not_be_aborted_is_aborted_at_the_end(faulty, source, interrupted, left_behind):
    interrupted(source)
    source.touch()
    result = faulty(Fault("abort_upload", FaultKind.PERMANENT)).upload(source, "key")

    assert any("could not be aborted" in warning for warning in result.warnings)
    assert left_behind() == []


def test_an_old_upload_that_could_not_be_aborted_is_recorded_by_every_run(
    faulty, store, source, interrupted, left_behind
):
    old = interrupted(source).upload_id
    source.touch()
    with pytest.raises(UploadFailed):
        faulty(
            Fault("abort_upload", FaultKind.PERMANENT), Fault("upload_part", FaultKind.PERMANENT, part_number=2)
        ).upload(source, "key")
    [checkpoint] = store.scan()
    assert checkpoint.abandoned == (old,)

    faulty().upload(source, "key")
    assert left_behind() == []


def test_an_old_upload_that_can_not_be_aborted_at_all_is_named(faulty, backend, store, source, interrupted):
    old = interrupted(source).upload_id
    source.touch()
    faults = [Fault("abort_upload", FaultKind.PERMANENT, occurrence=n) for n in (1, 2)]
    result = faulty(*faults).upload(source, "key")

    assert result.warnings[-1] == f"orphans on the storage, which 'partwise gc' can abort: {old}"
    assert list(backend.uploads) == [old]


def test_an_old_upload_that_no_longer_exists_is_not_an_error(uploader, backend, source, interrupted, monkeypatch):
    interrupted(source)
    source.touch()

    def gone(key, upload_id):
        raise UploadNotFound("never heard of it")

    monkeypatch.setattr(backend, "abort_upload", gone)
    result = uploader().upload(source, "key")

    assert result.warnings == (f"{OLD_AND_NEW}: it was modified",)


def test_a_lost_response_to_abort_is_survived(faulty, source, interrupted, left_behind):
    interrupted(source)
    source.touch()
    result = faulty(Fault("abort_upload", FaultKind.AFTER)).upload(source, "key")

    assert result.warnings == (f"{OLD_AND_NEW}: it was modified",)
    assert left_behind() == []


# --- by the caller's stop request ------------------------------------------------------------------------------------


def test_require_refuses_to_start_again(uploader, source, interrupted, left_behind):
    interrupted(source)
    source.touch()
    before = left_behind()
    with pytest.raises(
        CannotResume,
        match=r"^/a/file to key in memory://bucket can't be resumed: the source changed: it was modified\. "
        r"Nothing was changed\. To start again from the first byte: resume='auto'$",
    ) as caught:
        uploader().upload(source, "key", resume="require")

    assert caught.value.reason == "the source changed: it was modified"
    assert left_behind() == before


def test_require_refuses_to_start_again_where_the_upload_is_gone(uploader, backend, source, interrupted, left_behind):
    backend.abort_upload("key", interrupted(source).upload_id)
    before = left_behind()
    with pytest.raises(CannotResume, match="no longer knows the upload"):
        uploader().upload(source, "key", resume="require")

    assert left_behind() == before


def test_require_refuses_to_start(uploader, backend, source):
    with pytest.raises(CannotResume) as caught:
        uploader().upload(source, "key", resume="require")

    assert caught.value.reason == "there is no checkpoint of it"
    assert backend.calls == {}


def test_require_resumes(uploader, source, interrupted):
    interrupted(source)

    assert uploader().upload(source, "key", resume="require").parts_resumed == 2


def test_require_refuses_to_start_again_in_mid_run(faulty, source, interrupted):
    interrupted(source)
    with pytest.raises(CannotResume, match="No other upload was started"):
        faulty(Fault("upload_part", FaultKind.FORGOTTEN_UPLOAD, part_number=4)).upload(source, "key", resume="require")


def test_never_does_not_touch_an_earlier_upload(uploader, backend, store, source, interrupted):
    interrupted(source)
    before = list(store.scan())
    result = uploader().upload(source, "key", resume="never")

    assert backend.read("key") == source.data
    assert result.parts_resumed == 0
    assert list(store.scan()) == before
    assert len(backend.uploads) == 1


def test_never_aborts_on_failure(faulty, source, left_behind):
    with pytest.raises(UploadFailed, match="Nothing is kept") as caught:
        faulty(Fault("upload_part", FaultKind.PERMANENT, part_number=3)).upload(source, "key", resume="never")

    assert not caught.value.resumable
    assert left_behind() == []


def test_never_starts_again_too_if_the_upload_is_lost(faulty, backend, source, data):
    faulty(Fault("upload_part", FaultKind.FORGOTTEN_UPLOAD, part_number=3)).upload(source, "key", resume="never")

    assert backend.read("key") == data


# --- streams ---------------------------------------------------------------------------------------------------------


def dump(data):
    return StreamSource(io.BytesIO(data), name="dump")


def test_a_named_stream_is_compared_while_it_is_read(uploader, backend, data, interrupted, left_behind):
    interrupted(dump(data))
    result = uploader().upload(dump(data), "key")

    assert backend.read("key") == data
    assert (result.parts_resumed, result.parts_sent, result.verified) == (2, 3, True)
    assert backend.calls["upload_part"] == 2 + 3
    assert left_behind() == []


def test_a_named_stream_of_other_bytes_is_sent_again_part_by_part(uploader, backend, data, interrupted):
    interrupted(dump(data))
    other = data[:10] + pseudo_random_bytes(35, "other")
    result = uploader().upload(dump(other), "key")

    assert backend.read("key") == other
    assert (result.parts_resumed, result.parts_sent) == (1, 4)


def test_a_named_stream_that_is_shorter_now_is_stored_as_it_is(uploader, backend, data, interrupted):
    interrupted(dump(data))
    result = uploader().upload(dump(data[:15]), "key")

    assert backend.read("key") == data[:15]
    assert (result.parts_resumed, result.parts_sent) == (1, 1)


def test_a_named_stream_that_is_empty_this_time_is_an_empty_object(uploader, backend, data, interrupted, left_behind):
    """No object can be made of zero parts."""
    interrupted(dump(data))
    result = uploader().upload(dump(b""), "key")

    assert backend.read("key") == b""
    assert result.warnings == ("started again: the stream is empty now",)
    assert left_behind() == []


def test_a_named_stream_that_is_empty_this_time_is_not_what_was_required(uploader, data, interrupted):
    interrupted(dump(data))

    with pytest.raises(CannotResume, match=r"the stream is empty now\. No other upload was started"):
        uploader().upload(dump(b""), "key", resume="require")


@pytest.mark.parametrize(("mode", "ended"), [("pause", UploadPaused), ("cancel", UploadCancelled)])
def test_a_named_stream_is_read_no_further_after_a_stop_request(uploader, data, interrupted, mode, ended):
    interrupted(StreamSource(io.BytesIO(data), name="dump"))
    stream, made = io.BytesIO(data), uploader()

    def stop(progress):
        if progress.parts_done == 1:
            getattr(task, mode)()

    task = made._task(StreamSource(stream, name="dump"), "key", progress=stop)
    task._start()
    with pytest.raises(ended):
        task.result(30)

    assert stream.tell() == 10, "the other part that the storage has is not compared any more"


def test_a_part_of_a_named_stream_that_was_not_recorded_is_adopted_and_recorded(faulty, store, data, interrupted):
    with pytest.raises(UploadFailed):
        faulty(
            Fault("append_part", FaultKind.LOST_WRITE, part_number=2),
            Fault("upload_part", FaultKind.PERMANENT, part_number=3),
        ).upload(dump(data), "key")
    interrupted(dump(data))
    [checkpoint] = store.scan()

    assert {part.part_number for part in checkpoint.parts} == {1, 2}


def test_a_named_stream_keeps_its_recorded_parts_to_itself_until_they_are_compared(uploader, data, interrupted):
    interrupted(dump(data))
    seen = []
    uploader().upload(dump(data), "key", progress=lambda at: seen.append((at.bytes_done, at.bytes_resumed)))

    assert seen[:3] == [(0, 0), (10, 10), (20, 20)]
    assert seen[-1] == (45, 20)


def test_a_named_stream_whose_parts_have_no_checksum_uses_the_checkpoint(faulty, make_backend, data):
    backend = make_backend(part_checksums=False)
    with pytest.raises(UploadFailed):
        faulty(Fault("upload_part", FaultKind.PERMANENT, part_number=3), backend=backend).upload(dump(data), "key")

    assert faulty(backend=backend).upload(dump(data), "key").parts_resumed == 2


def test_a_file_that_is_a_stream_this_time_starts_again(uploader, backend, data, interrupted, left_behind):
    interrupted(ChangingSource(data, name="dump"))
    result = uploader().upload(dump(data), "key")

    assert backend.read("key") == data
    assert "is a stream now" in result.warnings[0]
    assert left_behind() == []


def test_a_stream_that_is_a_file_this_time_starts_again(uploader, backend, data, interrupted, left_behind):
    interrupted(dump(data))
    result = uploader().upload(ChangingSource(data, name="dump"), "key")

    assert backend.read("key") == data
    assert result.parts_resumed == 0
    assert result.warnings == ("started again: the source changed: it was a stream, and has a known size now",)
    assert left_behind() == []


def test_the_fingerprint_of_a_checkpoint_is_the_sources(store, source, interrupted):
    interrupted(source)
    [checkpoint] = store.scan()

    assert checkpoint.fingerprint == source.fingerprint() == Fingerprint(45, source.mtime_ns, "1")
    assert evolve(checkpoint, parts=()).bytes_done == 0


# --- a checkpoint that was planted -----------------------------------------------------------------------------------


@pytest.fixture
def plant(uploader, backend, store, source, interrupted):
    """Puts these bytes in the place of the object, and parts that add up to them in the checkpoint of its upload."""

    def forge(data, **changes):
        interrupted(source)
        [checkpoint] = store.scan()
        backend.abort_upload("key", checkpoint.upload_id)
        uploader().upload(BytesSource(data), "key")
        body = BytesSource(data)
        parts = tuple(
            UploadedPart(number, len(piece), f"E{number}", checksum_of(piece, CRC64_XZ))
            for number in range(1, 6)
            for piece in [body.body((number - 1) * 10, min(10, 45 - (number - 1) * 10))]
        )
        store.save(evolve(checkpoint, parts=parts, **changes))
        return checkpoint

    return forge


def test_a_planted_checkpoint_does_not_make_an_attackers_object_ours(uploader, backend, source, data, plant):
    """Its parts add up to the stored object, which has the size of our source."""
    plant(pseudo_random_bytes(45, "attack"))
    result = uploader().upload(source, "key")

    assert backend.read("key") == data
    assert (result.parts_sent, result.verified) == (5, True)


@pytest.mark.parametrize("faults", [(), (Fault("complete_upload", FaultKind.BEFORE),)], ids=["gone", "lost, then gone"])
def test_a_planted_checkpoint_does_not_make_it_ours_though_parts_can_not_be_listed(
    uploader, faulty, make_backend, store, *, source, data, faults
):
    """There the storage is not asked about the upload before it is to be completed."""
    backend, attack = make_backend(lists_parts=False), BytesSource(pseudo_random_bytes(45, "attack"))
    with pytest.raises(UploadPaused):
        uploader(backend=backend).upload(source, "key", progress=lambda at: _pause_at(at, 2))
    [checkpoint] = store.scan()
    uploader(backend=backend).upload(attack, "key")
    pieces = [attack.body(offset, min(10, 45 - offset)) for offset in range(0, 45, 10)]
    parts = tuple(
        UploadedPart(n, len(piece), f"E{n}", checksum_of(piece, CRC64_XZ)) for n, piece in enumerate(pieces, 1)
    )
    store.save(evolve(checkpoint, upload_id="0123", parts=parts))
    result = faulty(*faults, backend=backend).upload(source, "key")

    assert backend.read("key") == data
    assert (result.parts_sent, result.verified) == (5, True)


def _pause_at(progress, parts):
    if progress.parts_done == parts:
        raise UploadPaused("enough")


def test_a_planted_token_does_not_make_an_attackers_object_ours(uploader, make_backend, store, source, data):
    """Where objects have no checksum, their metadata has a token, which any reader of it can plant."""
    backend = make_backend(object_checksums=False)
    with pytest.raises(UploadPaused):
        uploader(backend=backend).upload(source, "key", progress=lambda at: _pause_at(at, 2))
    [checkpoint] = store.scan()
    backend.abort_upload("key", checkpoint.upload_id)
    attack = pseudo_random_bytes(45, "attack")
    backend.put_object("key", bytes_body(attack), ObjectOptions(metadata={"partwise-upload": checkpoint.token}))
    result = uploader(backend=backend).upload(source, "key")

    assert backend.read("key") == data
    assert result.parts_sent == 5


def test_an_object_of_an_earlier_run_is_read_before_it_counts_as_ours(faulty, source):
    with pytest.raises(UploadFailed):
        faulty(Fault("complete_upload", FaultKind.AFTER), Fault("head_object", FaultKind.PERMANENT)).upload(
            source, "key"
        )
    readings = source.readings
    result = faulty().upload(source, "key")

    assert (result.parts_sent, result.verified) == (0, True)
    assert source.readings == readings + 5


def test_a_source_that_was_forged_since_is_found_out_without_verify_source(faulty, backend, source):
    with pytest.raises(UploadFailed):
        faulty(Fault("complete_upload", FaultKind.AFTER), Fault("head_object", FaultKind.PERMANENT)).upload(
            source, "key"
        )
    source.forge(pseudo_random_bytes(45, "other"))
    faulty().upload(source, "key")

    assert backend.read("key") == source.data


# --- a part size that is not granted ---------------------------------------------------------------------------------


def test_a_part_size_that_is_not_used_is_a_warning(uploader, source, interrupted, caplog):
    interrupted(source)
    result = uploader(part_size=7).upload(source, "key")

    [warning] = result.warnings
    assert warning.startswith("parts of 7 bytes were requested, but the resumed upload has parts of 10 bytes")
    assert warning in caplog.text


@pytest.mark.parametrize("part_size", ["auto", 10])
def test_a_part_size_that_is_used_or_was_not_requested_causes_no_warning(uploader, source, interrupted, part_size):
    interrupted(source)

    assert uploader(part_size=part_size).upload(source, "key").warnings == ()


def test_a_dry_run_reports_a_part_size_that_is_not_used(uploader, source, interrupted, data):
    interrupted(source)
    interrupted(StreamSource(io.BytesIO(data), name="dump"))
    words = "the part size of the upload, 10 bytes, is kept instead of 7 bytes"

    assert uploader(part_size=7).plan(source, "key").reason == words
    assert uploader(part_size=7).plan(StreamSource(io.BytesIO(data), name="dump"), "key").reason.endswith(words)
    assert uploader().plan(source, "key").reason == ""


def test_a_part_size_that_a_stream_does_not_use_is_a_warning(uploader, interrupted, data):
    interrupted(StreamSource(io.BytesIO(data), name="dump"))
    result = uploader(part_size=7).upload(StreamSource(io.BytesIO(data), name="dump"), "key")

    assert result.parts_resumed == 2
    assert result.warnings[0].startswith("parts of 7 bytes were requested")


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_the_last_and_the_largest_part_that_a_storage_accepts_are_resumed(faulty, make_backend, source):
    """Part number 5 of at most 5, and parts of 10 bytes of at most 10."""
    backend = make_backend(limits=PartLimits(max_parts=5, max_part_size=10))
    with pytest.raises(UploadFailed):
        faulty(Fault("complete_upload", FaultKind.PERMANENT), backend=backend).upload(source, "key")
    with pytest.raises(UploadFailed) as caught:
        faulty(Fault("list_parts", FaultKind.PERMANENT), backend=backend).upload(source, "key")
    result = faulty(backend=backend).upload(source, "key")

    assert (caught.value.parts_done, caught.value.bytes_done) == (5, 45)
    assert (result.parts_resumed, result.parts_sent) == (5, 0)


@pytest.mark.parametrize("beyond", [{"part_number": 6}, {"size": 11}])
def test_an_impossible_recorded_part_does_not_count(faulty, make_backend, store, source, beyond):
    backend = make_backend(limits=PartLimits(max_parts=5, max_part_size=10))
    with pytest.raises(UploadFailed):
        faulty(Fault("complete_upload", FaultKind.PERMANENT), backend=backend).upload(source, "key")
    [checkpoint] = store.scan()
    store.save(evolve(checkpoint, parts=(*checkpoint.parts[:4], evolve(checkpoint.parts[4], **beyond))))
    with pytest.raises(UploadFailed) as caught:
        faulty(Fault("list_parts", FaultKind.PERMANENT), backend=backend).upload(source, "key")

    assert (caught.value.parts_done, caught.value.bytes_done) == (4, 40)


@pytest.mark.parametrize(("parts_per_doubling", "fits"), [(2, True), (1, False)])
def test_an_upload_of_a_stream_whose_parts_grow_too_large_starts_again(
    *, make_backend, faulty, store, data, parts_per_doubling, fits
):
    """Each of them is in memory while it is sent."""
    backend = make_backend(limits=PartLimits(max_part_size=20, max_parts=4))
    with pytest.raises(UploadFailed):
        faulty(Fault("upload_part", FaultKind.PERMANENT, part_number=2), backend=backend).upload(dump(data), "key")
    [checkpoint] = store.scan()
    store.save(evolve(checkpoint, parts_per_doubling=parts_per_doubling))
    result = faulty(backend=backend).upload(dump(data), "key")

    assert backend.read("key") == data
    assert result.parts_resumed == (1 if fits else 0)


@pytest.mark.parametrize("kind", ["file", "stream"])
@pytest.mark.parametrize(("part_size", "fits"), [(7, False), (8, True), (12, True), (13, False), (2**63, False)])
def test_an_upload_whose_part_size_no_storage_accepts_starts_again(  # noqa: PLR0917  # fixtures
    make_backend, faulty, store, source, data, kind, part_size, fits
):
    """As a checkpoint has them that came from elsewhere, or when the storage's limits have changed since."""

    def again():
        return source if kind == "file" else StreamSource(io.BytesIO(data), name="dump")

    backend = make_backend(limits=PartLimits(min_part_size=8, max_part_size=12))
    with pytest.raises(UploadFailed):
        faulty(Fault("complete_upload", FaultKind.PERMANENT), backend=backend).upload(again(), "key")
    [checkpoint] = store.scan()
    store.save(evolve(checkpoint, part_size=part_size, parts_per_doubling=None))

    result = faulty(backend=backend).upload(again(), "key")

    started_again = any("does not accept parts of the recorded size" in warning for warning in result.warnings)
    assert started_again != fits
    assert backend.read("key") == data
    assert list(backend.list_uploads()) == []
