"""
Fifty known defects of resumable uploads, with at least one test for each that can apply here.

The name of a test has the number of the defect and the behaviour that must hold instead. The defects were found in
uploaders that vendors of object storage ship; each docstring says what went wrong there.

Rows without a test:

    D46  a function that newer versions of its language have removed: does not apply. Its other half (reading the whole
         source again after each part) has a test.
    D50  memory that the example in the manual did not free, and a null pointer: does not apply to Python.

`test_every_instant` and `test_machine` cover all instants of a defect; the test here is an example.
"""

from __future__ import annotations

import io
import json
import os
import stat
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from partwise import (
    AccessDenied,
    BucketNotFound,
    BytesSource,
    CallbackError,
    CannotResume,
    Checkpoint,
    CheckpointBusy,
    CheckpointDamaged,
    CheckpointMismatch,
    FileSource,
    InvalidInput,
    ObjectOptions,
    OutcomeUnknown,
    SourceChanged,
    StreamSource,
    TransferConfig,
    UnsupportedOption,
    UploadCancelled,
    Uploader,
    UploadFailed,
    UploadPaused,
)
from partwise import server as oss_server
from partwise._engine.plan import plan_parts
from partwise.backends.memory import DEFAULT_CAPABILITIES, MemoryBackend
from partwise.backends.oss import Callback, Credentials, OSSBackend, OSSOptions
from partwise.errors import BackendError, Throttled
from partwise.events import RetryScheduled
from partwise.model import GIB, KIB, MIB, PartLimits
from partwise.stores.file import FileCheckpointStore
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing import strategies
from partwise.testing._proof.events import Event, ProcessScript, ScheduledEvent
from partwise.testing._proof.simulation import Simulation
from partwise.testing._proof.sources import SimulatedFile, SimulatedStream
from partwise.testing.fakes import ChangingSource, StrictBody, pseudo_random_bytes
from partwise.testing.faults import Fault, FaultKind, FaultPlan, SimulatedCrash
from partwise.testing.faulty import FaultyBackend, FaultyCheckpointStore

PART = 8
PARTS = 4
CALLBACK = OSSOptions(callback=Callback("http://127.0.0.1/callback", "object=${object}"))
LATE = OSSOptions(acl="private", traffic_limit=1_000_000, request_payer="requester", callback=CALLBACK.callback)
OTHER_LATE = OSSOptions(
    acl="public-read", traffic_limit=2_000_000, callback=Callback("http://127.0.0.1/other", "size=${size}")
)
SMALL = PartLimits(min_part_size=1, max_part_size=1024)
CHANGES = [Event.GROW, Event.SHRINK, Event.REWRITE, Event.REPLACE, Event.TOUCH]


def sent(trace):
    """Return the numbers of the parts that a process sent, in order."""
    return [call.part_number for call in trace.backend_calls if call.operation == "upload_part"]


def count_calls(trace, operation):
    return sum(call.operation == operation for call in trace.backend_calls)


def crash_after_part(number, **more):
    return ProcessScript((Fault("append_part", FaultKind.CRASH_AFTER, number),), **more)


@pytest.fixture
def backend():
    with MemoryBackend(limits=SMALL) as backend:
        yield backend


@pytest.fixture
def store():
    return MemoryCheckpointStore()


# --- a wrong object --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
def test_d01_a_source_that_changed_between_runs_is_sent_again(make_scenario, config, change):
    """The checkpoint did not describe the source: parts of two files were combined in one object."""
    scenario = make_scenario()
    scenario.run(crash_after_part(2, config=config()))
    scenario.change(change)

    trace = scenario.run(ProcessScript(config=config()))

    assert trace.after.stored == scenario.source.version.data
    assert trace.result.parts_resumed == 0


def test_d01_a_stream_that_changed_between_runs_is_sent_again(make_scenario, config):
    """A stream has neither mtime nor size: each stored part is compared with the bytes that are read."""
    scenario = make_scenario(SimulatedStream(pseudo_random_bytes(3 * PART + 5)))
    scenario.run(crash_after_part(2, config=config()))
    scenario.change(Event.REWRITE)

    trace = scenario.run(ProcessScript(config=config()))

    assert trace.after.stored == scenario.source.version.data
    assert trace.result.parts_resumed == 0


@pytest.mark.parametrize("part_checksums", [True, False])
def test_d01_a_part_replaced_by_another_program_is_not_accepted_as_recorded(store, part_checksums):
    backend = MemoryBackend(limits=SMALL, capabilities=evolve(DEFAULT_CAPABILITIES, part_checksums=part_checksums))
    crash = FaultPlan([Fault("append_part", FaultKind.CRASH_AFTER, 2)])
    with crash, pytest.raises(SimulatedCrash):
        simulated(backend.handle(), FaultyCheckpointStore(store, crash)).upload(
            BytesSource(pseudo_random_bytes(30)), "key"
        )
    [checkpoint] = store.scan()
    backend.upload_part("key", checkpoint.upload_id, 2, StrictBody(pseudo_random_bytes(PART, "other")))

    result = simulated(backend, store).upload(BytesSource(pseudo_random_bytes(30)), "key")

    assert (result.parts_resumed, backend.read("key")) == (1, pseudo_random_bytes(30))
    assert result.warnings == (), "it was detected before complete"


def test_d01_a_part_replaced_by_another_program_before_complete_is_sent_again(backend, store):
    class ReplacedPart(FaultyBackend):
        def complete_upload(self, key, upload_id, parts, options):
            if backend.calls["complete_upload"] == 0:
                self.inner.upload_part(key, upload_id, 2, StrictBody(pseudo_random_bytes(PART, "other")))
            return super().complete_upload(key, upload_id, parts, options)

    result = simulated(ReplacedPart(backend, FaultPlan()), store).upload(BytesSource(pseudo_random_bytes(30)), "key")

    assert (result.parts_sent, backend.read("key")) == (4, pseudo_random_bytes(30))


def test_d01_keep_matching_keeps_only_parts_that_still_match(make_scenario, config):
    keeping = config(on_source_change="keep-matching")
    for change, again in ((Event.GROW, [4, 5, 6]), (Event.TOUCH, [4]), (Event.REWRITE, [1, 2, 3, 4])):
        scenario = make_scenario()
        scenario.run(crash_after_part(3, config=config()))
        scenario.change(change)

        assert sent(scenario.run(ProcessScript(config=keeping))) == again


def test_d02_another_key_or_source_has_its_own_checkpoint(backend, store):
    """The checkpoint was resumed, whatever the caller passed."""
    first, second = pseudo_random_bytes(30, 1), pseudo_random_bytes(30, 2)
    crash = FaultPlan([Fault("upload_part", FaultKind.CRASH_BEFORE, 3)])
    with crash, pytest.raises(SimulatedCrash):
        simulated(FaultyBackend(backend.handle(), crash), store).upload(BytesSource(first, name="a"), "one")

    other_source = simulated(backend, store).upload(BytesSource(second, name="b"), "one")
    other_key = simulated(backend, store).upload(BytesSource(first, name="a"), "two")

    assert (other_source.parts_resumed, other_key.parts_resumed) == (0, 0)
    assert (backend.read("one"), backend.read("two")) == (second, first)


def test_d02_a_checkpoint_file_of_another_upload_is_refused_unchanged(backend, tmp_path):
    with FileCheckpointStore.for_file(tmp_path / "one.ucp") as store:
        crash = FaultPlan([Fault("upload_part", FaultKind.CRASH_BEFORE, 3)])
        with crash, pytest.raises(SimulatedCrash):
            simulated(FaultyBackend(backend.handle(), crash), store).upload(BytesSource(pseudo_random_bytes(30)), "one")
        before = (tmp_path / "one.ucp").read_bytes()

        with pytest.raises(CheckpointMismatch, match="'one'"):
            simulated(backend, store).upload(BytesSource(pseudo_random_bytes(30)), "two")

        assert (tmp_path / "one.ucp").read_bytes() == before


def test_d03_a_reader_that_returns_one_byte_at_a_time_is_read_to_its_end(make_scenario, config, backend, store):
    """A short read was padded with zeros, and the checksum matched."""
    scenario = make_scenario(SimulatedFile(pseudo_random_bytes(30), chunk_size=1))

    class Trickle(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 1))

    simulated(backend, store).upload(StreamSource(Trickle(pseudo_random_bytes(30))), "stream")

    assert scenario.run(ProcessScript(config=config())).after.stored == pseudo_random_bytes(30)
    assert backend.read("stream") == pseudo_random_bytes(30)


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="files are read in another way there")
def test_d03_a_file_system_that_returns_one_byte_at_a_time_is_read_to_the_end_of_each_part(
    tmp_path, monkeypatch, backend, store
):
    path = tmp_path / "source"
    path.write_bytes(pseudo_random_bytes(30))
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, buffers, offset: preadv(file, [buffers[0][:1]], offset))

    simulated(backend, store).upload(path, "key")

    assert backend.read("key") == pseudo_random_bytes(30)


@pytest.mark.parametrize("chunk", range(2, 12))
def test_d04_a_source_that_shrinks_during_a_part_is_an_error(make_scenario, config, chunk):
    """The shorter part was uploaded, and the upload succeeded."""
    scenario = make_scenario()

    trace = scenario.run(ProcessScript(events=(ScheduledEvent("chunk", Event.SHRINK, chunk),), config=config()))

    assert isinstance(trace.error, SourceChanged)
    assert trace.after.stored is None


def test_d04_a_source_that_yields_less_than_declared_is_an_error(backend, store):
    class Short(ChangingSource):
        def body(self, offset, size):
            return super().body(offset, size - 1)

    with pytest.raises(SourceChanged):
        simulated(backend, store).upload(Short(pseudo_random_bytes(30)), "key")
    assert backend.keys() == []


def test_d05_a_cancel_at_any_point_never_completes_with_a_gap(make_scenario, config):
    """A cancel between two parts was ignored, and the parts so far were completed."""
    calls = make_scenario().run(ProcessScript(config=config())).calls
    cancelled = 0
    for operation in {call.operation for call in calls}:
        for occurrence in range(1, 1 + sum(call.operation == operation for call in calls)):
            scenario = make_scenario()
            cancel = ScheduledEvent(operation, Event.CANCEL, occurrence)

            trace = scenario.run(ProcessScript(events=(cancel,), config=config()))

            cancelled += isinstance(trace.error, UploadCancelled)
            assert trace.after.stored == (None if trace.result is None else scenario.source.version.data)
    assert cancelled > 10


def test_d05_a_cancel_is_noticed_when_all_parts_are_sent(make_scenario, config):
    scenario = make_scenario()
    scenario.run(ProcessScript((Fault("complete_upload", FaultKind.CRASH_BEFORE),), config=config()))

    trace = scenario.run(ProcessScript(events=(ScheduledEvent("list_parts", Event.CANCEL),), config=config()))

    assert isinstance(trace.error, UploadCancelled)
    assert (trace.after.stored, trace.after.pending) == (None, {})


def test_d05_a_cancel_is_noticed_while_a_resumed_stream_is_read(make_scenario, config):
    scenario = make_scenario(SimulatedStream(pseudo_random_bytes(3 * PART + 5)))
    scenario.run(ProcessScript((Fault("complete_upload", FaultKind.CRASH_BEFORE),), config=config()))

    trace = scenario.run(ProcessScript(events=(ScheduledEvent("read", Event.CANCEL, PARTS),), config=config()))

    assert isinstance(trace.error, UploadCancelled)
    assert (trace.after.stored, trace.after.pending) == (None, {})


def test_d06_a_refused_part_is_never_omitted(backend, store):
    """Any 409 on a part was ignored, and the object was completed without it."""

    class Conflicting(FaultyBackend):
        def upload_part(self, key, upload_id, part_number, body):
            if part_number == 2:
                raise BackendError("conflict", code="FileImmutable", status=409)
            return super().upload_part(key, upload_id, part_number, body)

    with pytest.raises(UploadFailed) as failed:
        simulated(Conflicting(backend.handle(), FaultPlan()), store).upload(BytesSource(pseudo_random_bytes(30)), "key")

    assert failed.value.__cause__.status == 409
    assert backend.calls["complete_upload"] == 0


@pytest.mark.parametrize("change", CHANGES)
def test_d07_a_source_that_changes_at_any_point_is_never_mixed(make_scenario, config, change):
    """The object had old bytes at its start and new ones at its end, and the upload succeeded."""
    calls = make_scenario().run(ProcessScript(config=config())).calls
    noticed = 0
    for operation in ("chunk", *{call.operation for call in calls}):
        for occurrence in range(1, 12):
            scenario = make_scenario()

            trace = scenario.run(
                ProcessScript(events=(ScheduledEvent(operation, change, occurrence),), config=config())
            )

            noticed += isinstance(trace.error, SourceChanged)
            assert trace.after.stored in {None, *(version.data for version in scenario.source.versions)}
            scenario.close()
    assert noticed > 20


@pytest.mark.parametrize("change", CHANGES)
def test_d07_a_source_that_changes_during_a_single_put_is_never_mixed(make_scenario, config, change):
    noticed = 0
    for chunk in range(1, 13):
        scenario = make_scenario()
        scheduled = ScheduledEvent("chunk", change, chunk)

        trace = scenario.run(ProcessScript(events=(scheduled,), config=config(multipart_threshold=100)))

        noticed += isinstance(trace.error, SourceChanged)
        assert trace.after.stored in {None, *(version.data for version in scenario.source.versions)}
    assert noticed > 6 or change is Event.REPLACE, "a replacing file is read from its beginning instead"


def test_d07_bytes_in_memory_that_change_during_the_upload_are_never_mixed(backend, store):
    """They have no mtime: only their checksum shows the change."""
    data = bytearray(pseudo_random_bytes(30))

    def change(progress):
        data[-1] = pseudo_random_bytes(30)[-1] ^ 1

    with pytest.raises(SourceChanged):
        simulated(backend, store).upload(BytesSource(data), "key", progress=change)
    assert backend.keys() == []


def test_d07_a_part_of_another_version_is_never_recorded(make_scenario, config):
    """The source changes, the process crashes before complete, and then the source is restored."""
    scenario = make_scenario()
    changed = ScheduledEvent("read", Event.REWRITE, occurrence=2)
    crash = Fault("upload_part", FaultKind.CRASH_BEFORE, 3)
    scenario.run(ProcessScript((crash,), (changed,), config=config()))
    scenario.change(Event.RESTORE)

    assert scenario.run(ProcessScript(config=config())).after.stored == scenario.source.version.data


def test_d08_a_nanosecond_is_a_change(make_scenario, config):
    """Times were compared in seconds."""
    scenario = make_scenario()
    scenario.run(crash_after_part(2, config=config()))
    scenario.change(Event.TOUCH)

    assert sent(scenario.run(ProcessScript(config=config()))) == [1, 2, 3, 4]


def test_d08_a_microsecond_is_a_change_of_a_file(tmp_path, backend, store):
    path = tmp_path / "source"
    path.write_bytes(pseudo_random_bytes(30))
    time_ns = path.stat().st_mtime_ns // 10**9 * 10**9
    os.utime(path, ns=(time_ns, time_ns))
    crash = FaultPlan([Fault("append_part", FaultKind.CRASH_AFTER, 2)])
    with crash, pytest.raises(SimulatedCrash):
        simulated(backend.handle(), FaultyCheckpointStore(store, crash)).upload(path, "key")
    path.write_bytes(pseudo_random_bytes(30, "other"))
    os.utime(path, ns=(time_ns, time_ns + 1_000))

    result = simulated(backend, store).upload(path, "key")

    assert (result.parts_resumed, backend.read("key")) == (0, pseudo_random_bytes(30, "other"))


def test_d08_a_forged_mtime_is_detected_by_verifying_the_content(make_scenario, config):
    """Same size and mtime, other bytes. `FileSource` documents that the default does not detect this."""
    scenario = make_scenario()
    scenario.run(crash_after_part(2, config=config()))
    scenario.change(Event.FORGE)

    trace = scenario.run(ProcessScript(config=config(verify_source="content")))

    assert trace.after.stored == scenario.source.version.data
    assert "verify_source" in FileSource.__doc__


def test_d47_sizes_and_offsets_beyond_two_gigabytes_do_not_overflow():
    """A part of 2 GiB overflowed."""
    plan = plan_parts(40_000 * GIB, PartLimits(min_part_size=100 * KIB), 5 * GIB)

    assert plan.parts_total == 8_000
    assert plan.part(8_000).offset == 39_995 * GIB
    assert plan.part(8_000).size == 5 * GIB


# --- stuck: every run fails ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "forgotten"),
    [("list_parts", "between runs"), ("upload_part", "meanwhile"), ("complete_upload", "meanwhile")],
)
def test_d10_a_lost_upload_is_restarted_once(make_scenario, config, operation, forgotten):
    """Every run tried the same lost id again."""
    scenario = make_scenario()
    if forgotten == "between runs":
        scenario.run(crash_after_part(2, config=config()))
        scenario.expire()
        trace = scenario.run(ProcessScript(config=config()))
    else:
        trace = scenario.run(ProcessScript((Fault(operation, FaultKind.FORGOTTEN_UPLOAD),), config=config()))

    assert trace.result is not None
    assert count_calls(trace, "initiate_upload") == (1 if forgotten == "between runs" else 2)


def test_d11_a_failed_callback_leaves_the_object_and_no_checkpoint(make_scenario, config):
    """The checkpoint was kept, and every run tried to complete the finished upload."""
    scenario = make_scenario()
    scenario.backend.callback_works = False
    trace = scenario.run(ProcessScript(config=config(), options=CALLBACK))
    scenario.backend.callback_works = True

    again = scenario.run(ProcessScript(config=config(), options=CALLBACK))

    assert isinstance(trace.error, CallbackError)
    assert trace.error.result.size == 3 * PART + 5
    assert (trace.after.stored, trace.after.checkpoint) == (scenario.source.version.data, None)
    assert again.result.callback_response == b"heard"


def test_d12_a_lost_response_to_complete_is_a_success(make_scenario, config):
    """Everything was sent again, or every run failed."""
    trace = make_scenario().run(ProcessScript((Fault("complete_upload", FaultKind.AFTER),), config=config()))

    assert trace.result is not None
    assert len(sent(trace)) == PARTS


def test_d12_a_lost_response_to_the_only_attempt_is_a_success(make_scenario, config):
    trace = make_scenario().run(
        ProcessScript((Fault("complete_upload", FaultKind.AFTER),), config=config(max_attempts=1))
    )

    assert trace.result is not None


def test_d12_a_complete_that_a_proxy_repeats_is_a_success(backend, store):
    """The client received the second response, which was NoSuchUpload."""

    class RepeatedComplete(FaultyBackend):
        def complete_upload(self, key, upload_id, parts, options):
            super().complete_upload(key, upload_id, parts, options)
            return super().complete_upload(key, upload_id, parts, options)

    result = simulated(RepeatedComplete(backend, FaultPlan()), store).upload(
        BytesSource(pseudo_random_bytes(30)), "key"
    )

    assert (result.parts_sent, backend.calls["upload_part"]) == (4, 4)


def test_d12_after_a_crash_before_the_response_to_complete_nothing_is_sent_again(make_scenario, config):
    scenario = make_scenario()
    scenario.run(ProcessScript((Fault("complete_upload", FaultKind.CRASH_AFTER),), config=config()))

    trace = scenario.run(ProcessScript(config=config()))

    assert trace.result.bytes_resumed == len(scenario.source.version.data)
    assert sent(trace) == []


def test_d12_an_older_object_of_the_same_bytes_is_not_accepted_as_a_success(make_scenario, config):
    scenario = make_scenario()
    scenario.overwrite(scenario.source.version.data)

    trace = scenario.run(ProcessScript((Fault("complete_upload", FaultKind.BEFORE),), config=config()))

    assert count_calls(trace, "complete_upload") == 2


def test_d12_an_object_without_the_token_is_not_accepted_if_only_the_token_identifies_it(make_scenario, config):
    """It has the same size, and the upload is lost."""
    scenario = make_scenario(capabilities=evolve(DEFAULT_CAPABILITIES, object_checksums=False))
    scenario.overwrite(pseudo_random_bytes(3 * PART + 5, "foreign"))

    trace = scenario.run(ProcessScript((Fault("complete_upload", FaultKind.FORGOTTEN_UPLOAD),), config=config()))

    assert trace.after.stored == scenario.source.version.data


def test_d12_an_object_without_the_token_is_not_accepted_as_that_of_an_earlier_run(make_scenario, config):
    scenario = make_scenario(capabilities=evolve(DEFAULT_CAPABILITIES, object_checksums=False))
    scenario.run(ProcessScript((Fault("complete_upload", FaultKind.CRASH_BEFORE),), config=config()))
    scenario.expire()
    scenario.overwrite(pseudo_random_bytes(3 * PART + 5, "foreign"))

    assert scenario.run(ProcessScript(config=config())).after.stored == scenario.source.version.data


def test_d12_the_outcome_is_unknown_if_nothing_identifies_the_object(make_scenario, config):
    """There is an object of that size, and neither checksum nor token identifies it."""
    undecidable = evolve(
        DEFAULT_CAPABILITIES,
        part_checksums=False,
        object_checksums=False,
        options=DEFAULT_CAPABILITIES.options - {"metadata"},
    )
    scenario = make_scenario(capabilities=undecidable)
    scenario.run(ProcessScript((Fault("complete_upload", FaultKind.CRASH_AFTER),), config=config()))

    assert isinstance(scenario.run(ProcessScript(config=config())).error, OutcomeUnknown)


def errors_that_stop(make_scenario, config) -> Iterator[BaseException]:
    """Yield one error of each class that stops an upload."""
    scenario = make_scenario()
    yield scenario.run(ProcessScript(config=config(), resume="require")).error
    undecidable = evolve(
        DEFAULT_CAPABILITIES, object_checksums=False, options=DEFAULT_CAPABILITIES.options - {"metadata"}
    )
    scenario = make_scenario(capabilities=undecidable)
    yield scenario.run(ProcessScript((Fault("complete_upload", FaultKind.AFTER),), config=config())).error
    scenario = make_scenario()
    yield scenario.run(ProcessScript((Fault("upload_part", FaultKind.PERMANENT, 2),), config=config())).error
    yield scenario.run(ProcessScript(events=(ScheduledEvent("append_part", Event.PAUSE),), config=config())).error
    yield scenario.run(ProcessScript(events=(ScheduledEvent("append_part", Event.TOUCH),), config=config())).error


def test_d13_every_error_that_stops_an_upload_says_what_to_do(make_scenario, config):
    """Every run failed with 'The file is inconsistent with before', without saying what to do."""
    advice = {
        CannotResume: "resume='auto'",
        OutcomeUnknown: "resume='never'",
        UploadFailed: "the same call resumes",
        UploadPaused: "same call",
        SourceChanged: "the next run sends every part",
    }
    found = {type(error): str(error) for error in errors_that_stop(make_scenario, config)}

    assert found.keys() == advice.keys()
    assert [kind for kind, message in found.items() if advice[kind] not in message] == []


def test_d13_a_busy_upload_says_what_to_do(backend, store):
    uploader = simulated(backend, store)
    source = BytesSource(pseudo_random_bytes(30))
    messages = []

    def meanwhile(progress):
        with pytest.raises(CheckpointBusy) as busy:
            simulated(backend.handle(), store.handle()).upload(source, "key")
        messages.append(str(busy.value))

    uploader.upload(source, "key", progress=meanwhile)

    assert "Wait until it has finished, or stop it first" in messages[0]


def test_d14_one_source_is_uploaded_to_two_keys_concurrently(backend, tmp_path):
    """The checkpoint was next to the source, and the second upload resumed the id of the first one."""
    path = tmp_path / "source"
    path.write_bytes(pseudo_random_bytes(30))
    store = FileCheckpointStore(tmp_path / "checkpoints")
    second = []

    def meanwhile(progress):
        if not second:
            with FileCheckpointStore(tmp_path / "checkpoints") as own:
                second.append(simulated(backend.handle(), own).upload(path, "two"))

    with store:
        first = simulated(backend, store).upload(path, "one", progress=meanwhile)

    assert (first.parts_sent, second[0].parts_sent) == (4, 4)
    assert backend.read("one") == backend.read("two") == pseudo_random_bytes(30)


# --- lost progress ---------------------------------------------------------------------------------------------------


def test_d15_the_default_configuration_resumes(backend, tmp_path, monkeypatch):
    """The example in the manual had checkpoints disabled."""
    monkeypatch.setattr("platformdirs.user_state_path", lambda *_, **__: tmp_path)
    path = tmp_path / "source"
    path.write_bytes(pseudo_random_bytes(30))
    failing = FaultyBackend(backend.handle(), FaultPlan([Fault("upload_part", FaultKind.PERMANENT, 3)]))
    with pytest.raises(UploadFailed):
        simulated(failing).upload(path, "key")

    assert simulated(backend).upload(path, "key").parts_resumed >= 1


def test_d16_an_error_keeps_the_upload_and_a_cancel_discards_it(make_scenario, config):
    """Any network error aborted the upload and deleted the checkpoint."""
    scenario = make_scenario()
    outage = tuple(Fault("upload_part", FaultKind.BEFORE, n) for n in range(3, 8))

    failed = scenario.run(ProcessScript(outage, config=config(max_attempts=5)))
    assert failed.error.resumable
    assert next(iter(failed.after.pending.values())).keys() == {1, 2}

    cancelled = scenario.run(ProcessScript(events=(ScheduledEvent("upload_part", Event.CANCEL),), config=config()))
    assert (cancelled.after.checkpoint, cancelled.after.pending) == (None, {})


def test_d17_a_complete_that_fails_keeps_the_parts(make_scenario, config):
    """The checkpoint was deleted after a failed complete, and everything was sent again."""
    scenario = make_scenario()
    outage = tuple(Fault("complete_upload", FaultKind.BEFORE, n) for n in range(1, 6))
    failed = scenario.run(ProcessScript(outage, config=config(max_attempts=5)))

    trace = scenario.run(ProcessScript(config=config()))

    assert failed.error.resumable
    assert (sent(trace), trace.result.parts_resumed) == ([], PARTS)


def test_d18_any_subset_of_parts_is_kept(make_scenario, config):
    """Only the parts before the first gap counted."""
    scenario = make_scenario(SimulatedFile(pseudo_random_bytes(6 * PART)))
    # Part 3 makes no step while others can, and the process crashes when five others are recorded.
    lagging = (2,) * 9 + (1,) * 60
    crash = Fault("append_part", FaultKind.CRASH_AFTER, 5)
    dead = scenario.run(ProcessScript((crash,), choices=lagging, config=config(concurrency=3)))
    held = {part.part_number for part in dead.after.checkpoint.parts}

    trace = scenario.run(ProcessScript(config=config()))

    assert held != set(range(1, 6)), "the schedule leaves a gap"
    assert set(sent(trace)) == {1, 2, 3, 4, 5, 6} - held


def test_d18_the_parts_of_a_stream_are_kept_as_well(make_scenario, config):
    scenario = make_scenario(SimulatedStream(pseudo_random_bytes(3 * PART + 5)))
    scenario.run(crash_after_part(2, config=config()))

    assert sent(scenario.run(ProcessScript(config=config()))) == [3, 4]


@pytest.mark.parametrize("parts", [0, 2])
@pytest.mark.parametrize("kind", [FaultKind.BEFORE, FaultKind.AFTER, FaultKind.THROTTLED, FaultKind.PERMANENT])
def test_d19_a_failure_to_list_parts_never_restarts_an_upload(make_scenario, config, kind, parts):
    """Any error of the list was treated as a lost upload; so was an empty list."""
    scenario = make_scenario()
    crash = Fault("upload_part", FaultKind.CRASH_BEFORE, parts + 1)
    scenario.run(ProcessScript((crash,), config=config()))

    trace = scenario.run(ProcessScript((Fault("list_parts", kind),), config=config()))

    assert count_calls(trace, "initiate_upload") == 0
    assert isinstance(getattr(trace.error, "__cause__", None), AccessDenied) == (kind is FaultKind.PERMANENT)


def test_d20_each_part_has_its_own_attempts(make_scenario, config):
    """Eight parts that failed once each used up the three attempts that all of them shared."""
    scenario = make_scenario(SimulatedFile(pseudo_random_bytes(8 * PART)))
    each = tuple(
        Fault("upload_part", FaultKind.BEFORE, occurrence, part_number=part)
        for part in range(1, 9)
        for occurrence in (1, 2)
    )

    assert scenario.run(ProcessScript(each, config=config(max_attempts=3, concurrency=3))).result is not None


@given(
    parts=st.integers(1, 10_000),
    off=st.sampled_from((-1, 0, 1)),
    least=st.sampled_from((1, 100 * KIB, 8 * 1024 * KIB)),
)
def test_d22_no_size_results_in_more_parts_than_the_storage_accepts(parts, off, least):
    """The part size was rounded down, and the last of 10,001 parts was refused after 100 GB."""
    limits = PartLimits(min_part_size=least)
    size = max(1, min(parts * max(least, 8 * 1024 * KIB) + off, limits.max_object_size))

    plan = plan_parts(size, limits)

    last = plan.part(plan.parts_total)
    assert plan.parts_total <= 10_000
    assert last.offset + last.size == size
    assert least <= plan.part_size <= limits.max_part_size


@pytest.mark.parametrize("size", [10_000 * 5 * GIB, 10_000 * 5 * GIB - 1, 10_000 * 8 * 1024 * KIB + 1])
def test_d22_the_largest_object_has_a_plan(size):
    """Exactly 10,000 full parts were refused."""
    assert plan_parts(size, PartLimits(min_part_size=100 * KIB)).parts_total <= 10_000


@pytest.mark.parametrize(("before", "now"), [(None, LATE), (LATE, LATE), (LATE, OTHER_LATE), (LATE, None)])
def test_d25_options_that_change_no_byte_change_nothing(make_scenario, config, before, now):
    """The comparison was inverted: the same callback made every checkpoint invalid."""
    scenario = make_scenario()
    scenario.run(crash_after_part(2, config=config(), options=before or ObjectOptions()))

    trace = scenario.run(ProcessScript(config=config(), options=now or ObjectOptions()))

    assert trace.result.parts_resumed == 2


@pytest.mark.parametrize("size", [PARTS * PART, PARTS * PART - 3])
def test_d26_a_run_with_nothing_left_to_send_completes(make_scenario, config, size):
    """The checksum of no bytes was compared with that of the complete object."""
    scenario = make_scenario(SimulatedFile(pseudo_random_bytes(size)))
    scenario.run(ProcessScript((Fault("complete_upload", FaultKind.CRASH_BEFORE),), config=config()))

    trace = scenario.run(ProcessScript(config=config()))

    assert (sent(trace), trace.result.verified) == ([], True)


@given(strategies.checkpoints())
def test_d27_every_checkpoint_that_is_written_can_be_read(checkpoint):
    """The encrypting client wrote checkpoints that it could not read."""
    assert Checkpoint.from_data(json.loads(json.dumps(checkpoint.to_data()))) == checkpoint


def test_d44_the_shorter_last_part_is_recognised(make_scenario, config):
    """A part counted as done only if it had the full size."""
    scenario = make_scenario()
    scenario.run(crash_after_part(PARTS, config=config()))

    assert sent(scenario.run(ProcessScript(config=config()))) == []


def test_d44_a_part_of_another_size_than_planned_is_sent_again(backend, store):
    """Checkpoint and storage agree on it, but it can't be completed."""
    crash = FaultPlan([Fault("append_part", FaultKind.CRASH_AFTER, 2)])
    with crash, pytest.raises(SimulatedCrash):
        simulated(backend.handle(), FaultyCheckpointStore(store, crash)).upload(
            BytesSource(pseudo_random_bytes(30)), "key"
        )
    [checkpoint] = store.scan()
    store.append_part(
        checkpoint.name, checkpoint.upload_id, backend.upload_part("key", checkpoint.upload_id, 2, StrictBody(b"short"))
    )

    result = simulated(backend, store).upload(BytesSource(pseudo_random_bytes(30)), "key")

    assert (result.parts_resumed, backend.read("key")) == (1, pseudo_random_bytes(30))


def test_d43_a_resumed_upload_is_verified(make_scenario, config):
    """After a crash the checksum of the object was silently not compared."""
    scenario = make_scenario()
    scenario.run(crash_after_part(2, config=config()))

    assert scenario.run(ProcessScript(config=config())).result.verified


def test_d43_an_upload_that_can_not_be_verified_is_not_reported_as_verified(make_scenario, config):
    scenario = make_scenario(capabilities=evolve(DEFAULT_CAPABILITIES, object_checksums=False))

    assert not scenario.run(ProcessScript(config=config())).result.verified


# --- uploads that are left behind ------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", ["changed", "damaged", "options"])
def test_d28_an_upload_that_is_given_up_is_aborted(make_scenario, config, why):
    """Its parts were billed forever."""
    scenario = make_scenario()
    scenario.run(crash_after_part(2, config=config()))
    faults: tuple[Fault, ...] = ()
    options = ObjectOptions()
    match why:
        case "changed":
            scenario.change(Event.TOUCH)
        case "damaged":
            faults = (Fault("load", FaultKind.DAMAGED),)
        case "options":
            options = ObjectOptions(metadata={"made": "otherwise"})

    trace = scenario.run(ProcessScript(faults, config=config(), options=options))

    assert trace.result.parts_resumed == 0
    assert trace.after.pending == {}


def test_d28_another_part_size_does_not_restart_an_upload(make_scenario, config):
    scenario = make_scenario()
    scenario.run(crash_after_part(2, config=config()))

    assert scenario.run(ProcessScript(config=config(part_size=2 * PART))).result.parts_resumed == 2


def test_d28_an_upload_whose_id_was_lost_in_a_crash_is_listed(make_scenario, config, backend, store):
    """A crash between initiate and the first save loses one id; `list_uploads` has it."""
    plan = FaultPlan([Fault("initiate_upload", FaultKind.CRASH_AFTER)])
    with plan, pytest.raises(SimulatedCrash):
        simulated(FaultyBackend(backend.handle(), plan), store).upload(BytesSource(pseudo_random_bytes(30)), "key")
    simulated(backend, store).upload(BytesSource(pseudo_random_bytes(30)), "key")

    assert [pending.key for pending in backend.list_uploads()] == ["key"]


@pytest.mark.parametrize("operation", ["upload_part", "complete_upload"])
def test_d29_a_failed_upload_without_a_checkpoint_is_aborted(make_scenario, config, operation):
    """A failure left its parts behind."""
    trace = make_scenario().run(
        ProcessScript((Fault(operation, FaultKind.PERMANENT),), config=config(), resume="never")
    )

    assert isinstance(trace.error, UploadFailed)
    assert trace.after.pending == {}


def test_d30_a_checkpoint_is_kept_if_its_abort_fails(backend, store):
    """The checkpoint was deleted first, or looked up under another name, and nothing was aborted."""
    crash = FaultPlan([Fault("upload_part", FaultKind.CRASH_BEFORE, 3)])
    source = BytesSource(pseudo_random_bytes(30))
    with crash, pytest.raises(SimulatedCrash):
        simulated(FaultyBackend(backend.handle(), crash), store).upload(source, "key")
    refusing = FaultyBackend(backend.handle(), FaultPlan([Fault("abort_upload", FaultKind.PERMANENT)]))
    with pytest.raises(UploadFailed):
        simulated(refusing, store).abort(source, "key")
    assert len(list(store.scan())) == 1

    other_part_size = simulated(backend, store, part_size=20)

    assert other_part_size.abort(source, "key")
    assert (list(store.scan()), backend.uploads) == ([], {})


# --- hanging and crashing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize(("kind", "at_most"), [(FaultKind.PERMANENT, 1), (FaultKind.FORGOTTEN_UPLOAD, 2 * PARTS + 3)])
def test_d09_a_permanent_error_is_not_retried(make_scenario, config, kind, at_most, concurrency):
    """After a 403 on one part, all other parts were tried three times."""
    trace = make_scenario().run(ProcessScript((Fault("upload_part", kind),), config=config(concurrency=concurrency)))

    assert len(sent(trace)) <= at_most - 1 + concurrency


def mutated(data: bytes, draw) -> bytes:
    begin = draw(st.integers(0, len(data)))
    end = draw(st.integers(begin, min(len(data), begin + 20)))
    return data[:begin] + draw(st.binary(max_size=12)) + data[end:]


@given(data=st.data())
def test_d23_no_edit_of_a_checkpoint_crashes_an_upload_or_is_trusted(tmp_path_factory, data):
    """Checkpoints were trusted: a division by zero, an index out of bounds, a lost id that was kept."""
    directory = tmp_path_factory.mktemp("checkpoints")
    source, backend = BytesSource(pseudo_random_bytes(30)), MemoryBackend(limits=SMALL)
    crash = FaultPlan([Fault("append_part", FaultKind.CRASH_AFTER, 2)])
    with FileCheckpointStore(directory) as store, crash, pytest.raises(SimulatedCrash):
        simulated(backend.handle(), FaultyCheckpointStore(store, crash)).upload(source, "key")
    [path] = directory.glob("*.ucp")
    path.write_bytes(mutated(path.read_bytes(), data.draw))

    with FileCheckpointStore(directory) as store:
        result = simulated(backend.handle(), store).upload(source, "key")

    assert backend.read("key") == pseudo_random_bytes(30)
    assert result.verified


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(checkpoint=strategies.checkpoints(), field=st.integers(0), value=_json)
def test_d23_invalid_checkpoint_data_is_refused_by_one_error(checkpoint, field, value):
    data = checkpoint.to_data()
    data[sorted(data)[field % len(data)]] = value
    try:
        read = Checkpoint.from_data(data)
    except CheckpointDamaged:
        return
    assert isinstance(read, Checkpoint)


@given(_json)
def test_d23_any_other_data_is_refused_by_the_same_error(data):
    with pytest.raises(CheckpointDamaged):
        Checkpoint.from_data(data)


def test_d31_a_cancel_while_no_part_is_in_flight_is_noticed(backend, store):
    """It did not wake the waiting thread, and the upload hung."""

    class Throttling(FaultyBackend):
        def upload_part(self, key, upload_id, part_number, body):
            raise Throttled("slow down", retry_after=20)

    waiting = threading.Event()
    # Neither a report of progress nor a measurement of the throughput, which would wake the thread, too.
    config = TransferConfig(part_size=PART, multipart_threshold=0, concurrency=1, progress_interval=60)

    task = Uploader(Throttling(backend, FaultPlan()), store=store, config=config).start(
        BytesSource(pseudo_random_bytes(30)),
        "key",
        on_event=lambda event: waiting.set() if isinstance(event, RetryScheduled) else None,
    )
    assert waiting.wait(60)
    time.sleep(0.1)  # a cancel before the wait begins has no thread to wake
    task.cancel()

    with pytest.raises(UploadCancelled):
        task.result(timeout=10)


def test_d32_no_thread_outlives_a_call_in_which_every_part_fails(backend, store):
    """The second failing worker waited forever to report its error."""
    before = set(threading.enumerate())
    refusing = FaultyBackend(backend, FaultPlan(Fault("upload_part", FaultKind.PERMANENT, n) for n in range(1, 9)))
    config = TransferConfig(part_size=PART, multipart_threshold=0, concurrency=4)

    with pytest.raises(UploadFailed):
        Uploader(refusing, store=store, config=config).upload(BytesSource(pseudo_random_bytes(8 * PART)), "key")

    assert set(threading.enumerate()) == before


def test_d33_parts_acknowledged_while_an_upload_ends_are_recorded(make_scenario, config):
    """It returned with parts in flight, which were stored later and sent again by the next run."""
    scenario = make_scenario()
    # Two parts are on the storage when the first response arrives, and a pause is requested.
    both = (0, 0, 0, 0, 1, 1, 1, 1, 0)
    pause = ScheduledEvent("append_part", Event.PAUSE)

    trace = scenario.run(ProcessScript(events=(pause,), choices=both, config=config(concurrency=2)))

    assert isinstance(trace.error, UploadPaused)
    assert {part.part_number for part in trace.after.checkpoint.parts} == {1, 2}


def test_d34_cancelling_one_upload_does_not_affect_others(backend, store):
    """The flag belonged to the client, and so did its reset."""
    slow = threading.Event()

    class Waiting(io.BytesIO):
        def read(self, size=-1):
            slow.wait(60)
            return super().read(size)

    uploader = Uploader(backend, store=store, config=TransferConfig(part_size=PART, multipart_threshold=0))
    one = uploader.start(StreamSource(Waiting(pseudo_random_bytes(30)), name="one"), "one")
    two = uploader.start(StreamSource(Waiting(pseudo_random_bytes(30)), name="two"), "two")
    one.cancel()
    three = uploader.start(BytesSource(pseudo_random_bytes(30)), "three")
    assert three.result(timeout=60).size == 30
    slow.set()

    with pytest.raises(UploadCancelled):
        one.result(timeout=60)
    assert two.result(timeout=60).size == 30
    assert backend.keys() == ["three", "two"]


def test_d40_bounds_are_checked_before_any_request(backend, store):
    """More than 64 workers crashed the upload."""
    for impossible in ({"concurrency": 0}, {"part_size": 0}, {"max_attempts": 0}, {"bandwidth_limit": 0}):
        with pytest.raises(InvalidInput):
            TransferConfig(**impossible)
    with pytest.raises(InvalidInput, match="out of bounds"):
        simulated(backend, store, part_size=5000).upload(BytesSource(pseudo_random_bytes(9000)), "key")
    assert not backend.calls

    many = TransferConfig(part_size=1, multipart_threshold=0, concurrency=100)
    assert (
        Uploader(backend, store=store, config=many).upload(BytesSource(pseudo_random_bytes(200)), "key").parts_sent
        == 200
    )


def test_d41_a_directory_without_a_trailing_slash_is_that_directory(tmp_path, backend):
    """Checkpoints were written to the parent directory, readable by all users."""
    directory = tmp_path / "cp"
    seen = set()

    def look(progress):
        seen.update((path.name, stat.S_IMODE(path.stat().st_mode)) for path in directory.glob("*.ucp"))

    with FileCheckpointStore(str(directory)) as store:
        simulated(backend, store).upload(BytesSource(pseudo_random_bytes(30)), "key", progress=look)

    assert [path.name for path in tmp_path.iterdir()] == ["cp"]
    assert {mode for _, mode in seen} == ({0o600} if os.name == "posix" else {mode for _, mode in seen})
    assert len(seen) == 1


@pytest.mark.parametrize("concurrency", [1, 2, 4])
def test_d42_a_stream_is_read_only_as_it_is_sent(make_scenario, config, concurrency):
    """All fifty parts were in memory while the first one was in flight."""
    scenario = make_scenario(SimulatedStream(pseudo_random_bytes(50 * PART)))

    trace = scenario.run(ProcessScript(config=config(concurrency=concurrency)))

    assert trace.most_bodies <= concurrency + 2


def test_d46_a_resume_reads_only_what_it_sends(make_scenario, config):
    """The whole file was read again after every part."""
    scenario = make_scenario()
    scenario.run(crash_after_part(3, config=config()))

    trace = scenario.run(ProcessScript(config=config()))

    assert sum(call.operation == "read" for call in trace.calls) == 1


def test_d48_recording_a_part_costs_the_same_for_any_number_of_parts(tmp_path, monkeypatch):
    """The whole checkpoint was rewritten after each part, and lost by a crash during the write."""
    write = os.write
    written, totals = [], []

    def counting_write(file, data):
        count = write(file, data)
        written.append(count)
        return count

    monkeypatch.setattr(os, "write", counting_write)
    with FileCheckpointStore(tmp_path) as store, MemoryBackend(limits=SMALL) as backend:
        simulated(backend, store).upload(
            BytesSource(pseudo_random_bytes(200 * PART)), "key", progress=lambda _: totals.append(sum(written))
        )
    # Not the first report, which is of no part, and not the last one, when the checkpoint is deleted.
    costs = [after - before for before, after in pairwise(totals[:-1])]

    assert len(costs) >= 198
    assert min(costs) > 0
    assert max(costs[-50:]) <= max(costs[:50]) + 4


def test_d49_a_part_is_never_completely_in_memory(tmp_path):
    """Each worker held a whole part in memory, and thousands of closures waited."""
    path = tmp_path / "source"
    with path.open("wb") as file:
        file.truncate(64 * MIB)

    pieces = [(len(chunk), id(chunk.obj)) for chunk in FileSource(path).body(0, 64 * MIB).chunks()]

    assert max(size for size, _ in pieces) <= MIB
    assert len({buffer for _, buffer in pieces}) == 1


# --- telling what is not so ------------------------------------------------------------------------------------------


def test_d35_an_error_keeps_the_details_of_the_response(backend, store):
    """A missing bucket was reported as 'abort', without code or request id."""

    class NoBucket(FaultyBackend):
        def upload_part(self, key, upload_id, part_number, body):
            raise BucketNotFound(
                "no bucket", code="NoSuchBucket", status=404, request_id="5C3D", details={"ec": "0015-00000101"}
            )

    with pytest.raises(UploadFailed) as failed:
        simulated(NoBucket(backend, FaultPlan()), store).upload(BytesSource(pseudo_random_bytes(30)), "key")

    cause = failed.value.__cause__
    assert isinstance(cause, BucketNotFound)
    assert (cause.code, cause.status, cause.request_id, cause.details["ec"]) == (
        "NoSuchBucket",
        404,
        "5C3D",
        "0015-00000101",
    )
    assert "part 1" in "".join(cause.__notes__)


def test_d36_completion_is_reported_when_the_object_is_stored(backend, store):
    """100 % was reported before complete was sent."""
    reports = []
    source = BytesSource(pseudo_random_bytes(30))

    simulated(backend, store).upload(source, "key", progress=lambda p: reports.append((p, backend.keys())))

    assert [(p.fraction == 1.0, p.completed, keys) for p, keys in reports[:-1]] == [(False, False, [])] * (
        len(reports) - 1
    )
    assert (reports[-1][0].fraction, reports[-1][1]) == (1.0, ["key"])


def test_d37_progress_never_decreases_for_any_order_of_parts(make_scenario, config):
    """It was 50 %, then 42 %, and then more than 100 %."""
    retried = Fault("upload_part", FaultKind.HALFWAY, 2)

    trace = make_scenario().run(
        ProcessScript(
            (retried,), choices=(1, 2, 0, 1, 1, 2, 0, 2, 1) * 9, config=config(concurrency=3, progress_interval=0.001)
        )
    )

    done = [report.progress.bytes_done for report in trace.reports]
    assert done == sorted(done)
    assert done[-1] == 3 * PART + 5
    assert len(done) > PARTS


def test_d38_a_missing_checkpoint_at_the_end_is_not_an_error(backend, tmp_path):
    """The object was complete, and the call failed because the checkpoint was missing."""

    def vanish(progress):
        for path in tmp_path.glob("*.ucp"):
            path.unlink()

    with FileCheckpointStore(tmp_path) as store:
        result = simulated(backend, store).upload(BytesSource(pseudo_random_bytes(30)), "key", progress=vanish)

    assert backend.read("key") == pseudo_random_bytes(30)
    assert result.warnings


def test_d39_an_unwritable_checkpoint_does_not_hide_the_error_of_the_upload(make_scenario, config):
    faults = (Fault("append_part", FaultKind.DISK_FULL), Fault("upload_part", FaultKind.PERMANENT, 2))

    trace = make_scenario().run(ProcessScript(faults, config=config()))

    assert isinstance(trace.error, UploadFailed)
    assert isinstance(trace.error.__cause__, AccessDenied)
    assert any("could not be recorded" in warning for warning in trace.error.warnings)


def test_d45_an_unsupported_option_is_refused_before_anything_is_sent(store):
    backend = MemoryBackend(limits=SMALL, capabilities=evolve(DEFAULT_CAPABILITIES, options=(), late_options=()))

    with pytest.raises(UnsupportedOption, match="traffic_limit"):
        simulated(backend, store).upload(
            BytesSource(pseudo_random_bytes(30)), "key", options=OSSOptions(traffic_limit=1_000_000)
        )

    assert not backend.calls


# --- over the wire ---------------------------------------------------------------------------------------------------

OSS_PART = 100 * KIB


def oss(server, credentials=None):
    return OSSBackend(
        "examplebucket",
        endpoint=server.endpoint,
        region=server.region,
        addressing_style="path",
        credentials=credentials or Credentials(server.access_key_id, server.access_key_secret),
    )


def test_d21_expired_credentials_are_refreshed_once_for_all_workers(store):
    """The refresh was recorded before the new token was available, and requests used the old one."""
    first, second = (oss_server.AccessKey(f"partwise-{n}", f"secret-of-{n}", f"token-of-{n}") for n in ("one", "two"))
    issued = []

    def provider():
        issued.append(first if not issued else second)
        return Credentials(issued[-1].access_key_id, issued[-1].access_key_secret, issued[-1].security_token)

    settings = oss_server.ServerSettings(access_keys=(first, second))
    with oss_server.OSSServer(settings=settings) as server, oss(server, provider) as backend:

        def run_out(progress):
            server.settings = evolve(settings, access_keys=(evolve(first, expiration=1.0), second))

        config = TransferConfig(part_size=OSS_PART, multipart_threshold=0, concurrency=4, retry_base=0.0)
        result = Uploader(backend, store=store, config=config).upload(
            BytesSource(pseudo_random_bytes(8 * OSS_PART)), "key", progress=run_out
        )

    assert result.verified
    assert issued == [first, second]


def test_d45_a_traffic_limit_is_sent_with_every_part(store):
    """It was accepted, and not applied."""
    config = TransferConfig(part_size=OSS_PART, multipart_threshold=0)
    with oss_server.OSSServer() as server, oss(server) as backend:
        Uploader(backend, store=store, config=config).upload(
            BytesSource(pseudo_random_bytes(3 * OSS_PART)), "key", options=OSSOptions(traffic_limit=1_000_000)
        )
        parts = [request for request in server.requests if request.operation == "UploadPart"]

    assert [part.headers.get("x-oss-traffic-limit") for part in parts] == ["1000000"] * 3


def test_d24_a_203_is_a_failed_callback_and_not_a_success(store):
    """It was treated as a success, since it starts with a 2."""
    options = OSSOptions(callback=Callback("http://127.0.0.1:1/not-listening", "object=${object}"))
    with oss_server.OSSServer() as server, oss(server) as backend:
        for key, threshold in (("parts", 0), ("piece", 10 * OSS_PART)):
            config = TransferConfig(part_size=OSS_PART, multipart_threshold=threshold)
            with pytest.raises(CallbackError) as failed:
                Uploader(backend, store=store, config=config).upload(
                    BytesSource(pseudo_random_bytes(3 * OSS_PART)), key, options=options
                )

            assert failed.value.result.size == 3 * OSS_PART
            assert backend.head_object(key).size == 3 * OSS_PART
        assert list(backend.list_uploads()) == []
    assert list(store.scan()) == []


def simulated(backend, store=None, **changes):
    """Return an uploader in a new simulation, with small parts."""
    config = TransferConfig(**{"part_size": PART, "multipart_threshold": 0, "concurrency": 1, **changes})
    return Simulation().uploader(backend, store, config)
