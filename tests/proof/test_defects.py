"""
Fifty ways in which resumable uploads are known to fail, and one test or more for each that can apply here.

A test is named by the number of the defect and the behaviour that must hold instead. The defects were found in the
uploaders that vendors of object storage ship; each row below says in a few words what went wrong there.

The rows that have no test of their own:

    D46  a function that newer versions of its language have dropped: no such thing here. What else it did (reading the
         whole source again after each part) is what `test_d46_...` is about.
    D50  memory that the example in the manual did not free, and a null pointer: Python has neither.

Where a row is about many instants, `test_every_instant` and `test_machine` look at all of them; the test here is then
the one that tells the story.
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
    Callback,
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
from partwise.backends.oss import Credentials, OSSBackend
from partwise.errors import BackendError
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
CALLBACK = ObjectOptions(callback=Callback("http://127.0.0.1/told", "object=${object}"))
SMALL = PartLimits(min_part_size=1, max_part_size=1024)
CHANGES = [Event.GROW, Event.SHRINK, Event.REWRITE, Event.REPLACE, Event.TOUCH]


def sent(trace):
    """The numbers of the parts that a script sent, in order."""
    return [call.part_number for call in trace.backend_calls if call.operation == "upload_part"]


def asked(trace, operation):
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


# --- a wrong object that nobody notices ------------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
def test_d01_a_source_that_changed_between_runs_is_sent_anew(make_scenario, config, change):
    """The checkpoint knew nothing of the source: parts of one file and of another made one object."""
    scenario = make_scenario()
    scenario.run(crash_after_part(2, config=config()))
    scenario.change(change)

    trace = scenario.run(ProcessScript(config=config()))

    assert trace.after.stored == scenario.source.version.data
    assert trace.result.parts_resumed == 0


def test_d01_a_stream_that_changed_between_runs_is_sent_anew(make_scenario, config):
    """It has neither time nor size: each part that is there is compared with the bytes that go by."""
    scenario = make_scenario(SimulatedStream(pseudo_random_bytes(3 * PART + 5)))
    scenario.run(crash_after_part(2, config=config()))
    scenario.change(Event.REWRITE)

    trace = scenario.run(ProcessScript(config=config()))

    assert trace.after.stored == scenario.source.version.data
    assert trace.result.parts_resumed == 0


@pytest.mark.parametrize("part_checksums", [True, False])
def test_d01_a_part_that_somebody_sent_again_is_not_the_one_that_was_recorded(store, part_checksums):
    backend = MemoryBackend(limits=SMALL, capabilities=evolve(DEFAULT_CAPABILITIES, part_checksums=part_checksums))
    dying = FaultPlan([Fault("append_part", FaultKind.CRASH_AFTER, 2)])
    with dying, pytest.raises(SimulatedCrash):
        simulated(backend.handle(), FaultyCheckpointStore(store, dying)).upload(
            BytesSource(pseudo_random_bytes(30)), "key"
        )
    [begun] = store.scan()
    backend.upload_part("key", begun.upload_id, 2, StrictBody(pseudo_random_bytes(PART, "other")))

    result = simulated(backend, store).upload(BytesSource(pseudo_random_bytes(30)), "key")

    assert (result.parts_resumed, backend.read("key")) == (1, pseudo_random_bytes(30))
    assert result.warnings == (), "it was known before the storage refused to make an object of it"


def test_d01_a_part_that_somebody_sends_again_before_complete_is_sent_again(backend, store):
    class Meddled(FaultyBackend):
        def complete_upload(self, key, upload_id, parts, options):
            if backend.calls["complete_upload"] == 0:
                self.inner.upload_part(key, upload_id, 2, StrictBody(pseudo_random_bytes(PART, "other")))
            return super().complete_upload(key, upload_id, parts, options)

    result = simulated(Meddled(backend, FaultPlan()), store).upload(BytesSource(pseudo_random_bytes(30)), "key")

    assert (result.parts_sent, backend.read("key")) == (4, pseudo_random_bytes(30))


def test_d01_only_parts_that_still_match_are_kept_by_choice(make_scenario, config):
    keeping = config(on_source_change="keep-matching")
    for change, anew in ((Event.GROW, [4, 5, 6]), (Event.TOUCH, [4]), (Event.REWRITE, [1, 2, 3, 4])):
        scenario = make_scenario()
        scenario.run(crash_after_part(3, config=config()))
        scenario.change(change)

        assert sent(scenario.run(ProcessScript(config=keeping))) == anew


def test_d02_another_key_or_another_source_has_a_checkpoint_of_its_own(backend, store):
    """What was resumed was what the checkpoint said, whatever the caller asked for."""
    first, second = pseudo_random_bytes(30, 1), pseudo_random_bytes(30, 2)
    dying = FaultPlan([Fault("upload_part", FaultKind.CRASH_BEFORE, 3)])
    with dying, pytest.raises(SimulatedCrash):
        simulated(FaultyBackend(backend.handle(), dying), store).upload(BytesSource(first, name="a"), "one")

    other_source = simulated(backend, store).upload(BytesSource(second, name="b"), "one")
    other_key = simulated(backend, store).upload(BytesSource(first, name="a"), "two")

    assert (other_source.parts_resumed, other_key.parts_resumed) == (0, 0)
    assert (backend.read("one"), backend.read("two")) == (second, first)


def test_d02_the_one_file_of_another_upload_is_refused_and_left_alone(backend, tmp_path):
    with FileCheckpointStore.for_file(tmp_path / "one.ucp") as store:
        dying = FaultPlan([Fault("upload_part", FaultKind.CRASH_BEFORE, 3)])
        with dying, pytest.raises(SimulatedCrash):
            simulated(FaultyBackend(backend.handle(), dying), store).upload(BytesSource(pseudo_random_bytes(30)), "one")
        before = (tmp_path / "one.ucp").read_bytes()

        with pytest.raises(CheckpointMismatch, match="'one'"):
            simulated(backend, store).upload(BytesSource(pseudo_random_bytes(30)), "two")

        assert (tmp_path / "one.ucp").read_bytes() == before


def test_d03_a_reader_that_gives_one_byte_at_a_time_is_read_to_its_end(make_scenario, config, backend, store):
    """What a short read left open was filled with zeros, and their checksum agreed."""
    scenario = make_scenario(SimulatedFile(pseudo_random_bytes(30), chunk_size=1))

    class Trickle(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 1))

    simulated(backend, store).upload(StreamSource(Trickle(pseudo_random_bytes(30))), "stream")

    assert scenario.run(ProcessScript(config=config())).after.stored == pseudo_random_bytes(30)
    assert backend.read("stream") == pseudo_random_bytes(30)


@pytest.mark.parametrize("chunk", range(2, 12))
def test_d04_a_source_that_shrinks_in_a_part_makes_no_short_part(make_scenario, config, chunk):
    """The shorter part was uploaded, and was a success."""
    scenario = make_scenario()

    trace = scenario.run(ProcessScript(events=(ScheduledEvent("chunk", Event.SHRINK, chunk),), config=config()))

    assert isinstance(trace.error, SourceChanged)
    assert trace.after.stored is None


def test_d04_a_source_that_gives_less_than_it_said_makes_no_object(backend, store):
    class Short(ChangingSource):
        def body(self, offset, size):
            return super().body(offset, size - 1)

    with pytest.raises(SourceChanged):
        simulated(backend, store).upload(Short(pseudo_random_bytes(30)), "key")
    assert backend.keys() == []


def test_d05_a_cancel_at_any_point_never_completes_with_a_gap(make_scenario, config):
    """A cancel between two parts was not seen, and what was there so far was completed."""
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


def test_d05_a_cancel_is_heard_when_there_is_nothing_left_to_send(make_scenario, config):
    scenario = make_scenario()
    scenario.run(ProcessScript((Fault("complete_upload", FaultKind.CRASH_BEFORE),), config=config()))

    trace = scenario.run(ProcessScript(events=(ScheduledEvent("list_parts", Event.CANCEL),), config=config()))

    assert isinstance(trace.error, UploadCancelled)
    assert (trace.after.stored, trace.after.pending) == (None, {})


def test_d05_a_cancel_is_heard_while_a_stream_goes_by_that_is_there_already(make_scenario, config):
    scenario = make_scenario(SimulatedStream(pseudo_random_bytes(3 * PART + 5)))
    scenario.run(ProcessScript((Fault("complete_upload", FaultKind.CRASH_BEFORE),), config=config()))

    trace = scenario.run(ProcessScript(events=(ScheduledEvent("read", Event.CANCEL, PARTS),), config=config()))

    assert isinstance(trace.error, UploadCancelled)
    assert (trace.after.stored, trace.after.pending) == (None, {})


def test_d06_a_part_that_is_refused_is_never_left_out(backend, store):
    """Any 409 on a part was swallowed, and the object was completed without it."""

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
def test_d07_a_source_that_changes_at_any_point_of_the_upload_makes_no_mixture(make_scenario, config, change):
    """Old bytes at the beginning, new ones at the end, and a success."""
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
def test_d07_a_source_that_changes_while_it_is_sent_in_one_piece_makes_no_mixture(make_scenario, config, change):
    noticed = 0
    for chunk in range(1, 13):
        scenario = make_scenario()
        scheduled = ScheduledEvent("chunk", change, chunk)

        trace = scenario.run(ProcessScript(events=(scheduled,), config=config(multipart_threshold=100)))

        noticed += isinstance(trace.error, SourceChanged)
        assert trace.after.stored in {None, *(version.data for version in scenario.source.versions)}
    assert noticed > 6 or change is Event.REPLACE, "another file is read from its beginning instead"


def test_d07_bytes_in_memory_that_change_under_way_make_no_mixture(backend, store):
    """They have no time of modification: it is their checksum that tells."""
    data = bytearray(pseudo_random_bytes(30))

    def change(progress):
        data[-1] = pseudo_random_bytes(30)[-1] ^ 1

    with pytest.raises(SourceChanged):
        simulated(backend, store).upload(BytesSource(data), "key", progress=change)
    assert backend.keys() == []


def test_d07_a_part_of_another_version_is_never_recorded(make_scenario, config):
    """The source changes, the process dies before it completes, and then the source is as before."""
    scenario = make_scenario()
    changed = ScheduledEvent("read", Event.REWRITE, occurrence=2)
    dying = Fault("upload_part", FaultKind.CRASH_BEFORE, 3)
    scenario.run(ProcessScript((dying,), (changed,), config=config()))
    scenario.change(Event.RESTORE)

    assert scenario.run(ProcessScript(config=config())).after.stored == scenario.source.version.data


def test_d08_a_nanosecond_is_a_change(make_scenario, config):
    """Times were compared by the second."""
    scenario = make_scenario()
    scenario.run(crash_after_part(2, config=config()))
    scenario.change(Event.TOUCH)

    assert sent(scenario.run(ProcessScript(config=config()))) == [1, 2, 3, 4]


def test_d08_a_forged_time_is_noticed_by_those_who_look_at_the_content(make_scenario, config):
    """Same size, same time, other bytes. Without that look it is not noticed, and `FileSource` says so."""
    scenario = make_scenario()
    scenario.run(crash_after_part(2, config=config()))
    scenario.change(Event.FORGE)

    trace = scenario.run(ProcessScript(config=config(verify_source="content")))

    assert trace.after.stored == scenario.source.version.data
    assert "verify_source" in FileSource.__doc__


def test_d47_sizes_and_offsets_are_not_cut_off_at_two_gigabytes():
    """A part of 2 GiB overflowed. (What a body can't give is caught as in D4.)"""
    plan = plan_parts(40_000 * GIB, PartLimits(min_part_size=100 * KIB), 5 * GIB)

    assert plan.parts_total == 8_000
    assert plan.part(8_000).offset == 39_995 * GIB
    assert plan.part(8_000).size == 5 * GIB


# --- wedged: every further run fails ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "forgotten"),
    [("list_parts", "between runs"), ("upload_part", "meanwhile"), ("complete_upload", "meanwhile")],
)
def test_d10_an_upload_that_is_gone_is_begun_anew_once(make_scenario, config, operation, forgotten):
    """The same dead id was tried by every run, for ever."""
    scenario = make_scenario()
    if forgotten == "between runs":
        scenario.run(crash_after_part(2, config=config()))
        scenario.expire()
        trace = scenario.run(ProcessScript(config=config()))
    else:
        trace = scenario.run(ProcessScript((Fault(operation, FaultKind.FORGOTTEN_UPLOAD),), config=config()))

    assert trace.result is not None
    assert asked(trace, "initiate_upload") == (1 if forgotten == "between runs" else 2)


def test_d11_a_failed_callback_leaves_the_object_and_no_checkpoint_and_the_next_run_is_sane(make_scenario, config):
    """The checkpoint stayed, and the next run completed a dead id, for ever."""
    scenario = make_scenario()
    scenario.backend.callback_works = False
    trace = scenario.run(ProcessScript(config=config(), options=CALLBACK))
    scenario.backend.callback_works = True

    again = scenario.run(ProcessScript(config=config(), options=CALLBACK))

    assert isinstance(trace.error, CallbackError)
    assert trace.error.result.size == 3 * PART + 5
    assert (trace.after.stored, trace.after.checkpoint) == (scenario.source.version.data, None)
    assert again.result.callback_response == b"heard"


def test_d12_a_lost_answer_to_complete_is_a_success(make_scenario, config):
    """All was sent again, or every further run failed."""
    trace = make_scenario().run(ProcessScript((Fault("complete_upload", FaultKind.AFTER),), config=config()))

    assert trace.result is not None
    assert len(sent(trace)) == PARTS


def test_d12_a_lost_answer_to_the_only_attempt_is_a_success(make_scenario, config):
    trace = make_scenario().run(
        ProcessScript((Fault("complete_upload", FaultKind.AFTER),), config=config(max_attempts=1))
    )

    assert trace.result is not None


def test_d12_a_proxy_that_asks_twice_makes_no_failure_of_a_success(backend, store):
    """What came back was the second answer: there is no such upload."""

    class Insistent(FaultyBackend):
        def complete_upload(self, key, upload_id, parts, options):
            super().complete_upload(key, upload_id, parts, options)
            return super().complete_upload(key, upload_id, parts, options)

    result = simulated(Insistent(backend, FaultPlan()), store).upload(BytesSource(pseudo_random_bytes(30)), "key")

    assert (result.parts_sent, backend.calls["upload_part"]) == (4, 4)


def test_d12_a_death_before_the_answer_to_complete_costs_the_next_run_nothing(make_scenario, config):
    scenario = make_scenario()
    scenario.run(ProcessScript((Fault("complete_upload", FaultKind.CRASH_AFTER),), config=config()))

    trace = scenario.run(ProcessScript(config=config()))

    assert trace.result.bytes_resumed == len(scenario.source.version.data)
    assert sent(trace) == []


def test_d12_an_object_of_the_same_bytes_that_stood_there_before_is_not_taken_for_a_success(make_scenario, config):
    scenario = make_scenario()
    scenario.overwrite(scenario.source.version.data)

    trace = scenario.run(ProcessScript((Fault("complete_upload", FaultKind.BEFORE),), config=config()))

    assert asked(trace, "complete_upload") == 2


def test_d12_somebody_elses_object_is_not_taken_for_ours_where_only_a_token_tells(make_scenario, config):
    """It stands there, of the same size, when the upload is found to be gone."""
    scenario = make_scenario(capabilities=evolve(DEFAULT_CAPABILITIES, object_checksums=False))
    scenario.overwrite(pseudo_random_bytes(3 * PART + 5, "foreign"))

    trace = scenario.run(ProcessScript((Fault("complete_upload", FaultKind.FORGOTTEN_UPLOAD),), config=config()))

    assert trace.after.stored == scenario.source.version.data


def test_d12_nor_is_it_taken_for_that_of_an_earlier_run(make_scenario, config):
    scenario = make_scenario(capabilities=evolve(DEFAULT_CAPABILITIES, object_checksums=False))
    scenario.run(ProcessScript((Fault("complete_upload", FaultKind.CRASH_BEFORE),), config=config()))
    scenario.expire()
    scenario.overwrite(pseudo_random_bytes(3 * PART + 5, "foreign"))

    assert scenario.run(ProcessScript(config=config())).after.stored == scenario.source.version.data


def test_d12_where_nothing_tells_nothing_is_guessed(make_scenario, config):
    """An object of that size stands there, and neither checksum nor token says whose it is."""
    mute = evolve(
        DEFAULT_CAPABILITIES,
        part_checksums=False,
        object_checksums=False,
        options=DEFAULT_CAPABILITIES.options - {"metadata"},
    )
    scenario = make_scenario(capabilities=mute)
    scenario.run(ProcessScript((Fault("complete_upload", FaultKind.CRASH_AFTER),), config=config()))

    assert isinstance(scenario.run(ProcessScript(config=config())).error, OutcomeUnknown)


def refusals(make_scenario, config) -> Iterator[BaseException]:
    """One error of each kind that refuses to go on."""
    scenario = make_scenario()
    yield scenario.run(ProcessScript(config=config(), resume="require")).error
    unsure = evolve(DEFAULT_CAPABILITIES, object_checksums=False, options=DEFAULT_CAPABILITIES.options - {"metadata"})
    scenario = make_scenario(capabilities=unsure)
    yield scenario.run(ProcessScript((Fault("complete_upload", FaultKind.AFTER),), config=config())).error
    scenario = make_scenario()
    yield scenario.run(ProcessScript((Fault("upload_part", FaultKind.PERMANENT, 2),), config=config())).error
    yield scenario.run(ProcessScript(events=(ScheduledEvent("append_part", Event.PAUSE),), config=config())).error
    yield scenario.run(ProcessScript(events=(ScheduledEvent("append_part", Event.TOUCH),), config=config())).error


def test_d13_every_refusal_names_the_way_out(make_scenario, config):
    """'The file is inconsistent with before', for ever, and no word about what to do."""
    ways_out = {
        CannotResume: "resume='auto'",
        OutcomeUnknown: "resume='never'",
        UploadFailed: "the same call resumes",
        UploadPaused: "the same call resumes",
        SourceChanged: "the next run sends every part",
    }
    found = {type(error): str(error) for error in refusals(make_scenario, config)}

    assert found.keys() == ways_out.keys()
    assert [kind for kind, message in found.items() if ways_out[kind] not in message] == []


def test_d13_a_busy_upload_says_what_to_do(backend, store):
    uploader = simulated(backend, store)
    source = BytesSource(pseudo_random_bytes(30))
    said = []

    def meanwhile(progress):
        with pytest.raises(CheckpointBusy) as busy:
            simulated(backend.handle(), store.handle()).upload(source, "key")
        said.append(str(busy.value))

    uploader.upload(source, "key", progress=meanwhile)

    assert "wait until that has finished, or stop it first" in said[0]


def test_d14_one_source_goes_to_two_keys_at_the_same_time(backend, tmp_path):
    """The checkpoint lay beside the source, and the second upload carried on the first one's id."""
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


# --- progress that is lost -------------------------------------------------------------------------------------------


def test_d15_the_default_resumes_without_being_told_anything(backend, tmp_path, monkeypatch):
    """The manual's own example had the checkpoint switched off."""
    monkeypatch.setattr("platformdirs.user_state_path", lambda *_, **__: tmp_path)
    path = tmp_path / "source"
    path.write_bytes(pseudo_random_bytes(30))
    failing = FaultyBackend(backend.handle(), FaultPlan([Fault("upload_part", FaultKind.PERMANENT, 3)]))
    with pytest.raises(UploadFailed):
        simulated(failing).upload(path, "key")

    assert simulated(backend).upload(path, "key").parts_resumed >= 1


def test_d16_an_error_keeps_what_there_is_and_a_cancel_drops_it(make_scenario, config):
    """Any error of the network aborted the upload and deleted the record."""
    scenario = make_scenario()
    outage = tuple(Fault("upload_part", FaultKind.BEFORE, n) for n in range(3, 8))

    failed = scenario.run(ProcessScript(outage, config=config()))
    assert failed.error.resumable
    assert next(iter(failed.after.pending.values())).keys() == {1, 2}

    cancelled = scenario.run(ProcessScript(events=(ScheduledEvent("upload_part", Event.CANCEL),), config=config()))
    assert (cancelled.after.checkpoint, cancelled.after.pending) == (None, {})


def test_d17_a_complete_that_fails_keeps_the_parts(make_scenario, config):
    """The checkpoint was deleted after a failed complete, and all was sent again."""
    scenario = make_scenario()
    outage = tuple(Fault("complete_upload", FaultKind.BEFORE, n) for n in range(1, 6))
    failed = scenario.run(ProcessScript(outage, config=config()))

    trace = scenario.run(ProcessScript(config=config()))

    assert failed.error.resumable
    assert (sent(trace), trace.result.parts_resumed) == ([], PARTS)


def test_d18_any_subset_of_parts_is_kept(make_scenario, config):
    """Only the parts before the first gap counted."""
    scenario = make_scenario(SimulatedFile(pseudo_random_bytes(6 * PART)))
    # Part 3 makes no step while others can, and the process dies when five others are recorded.
    lagging = (2,) * 9 + (1,) * 60
    dying = Fault("append_part", FaultKind.CRASH_AFTER, 5)
    dead = scenario.run(ProcessScript((dying,), choices=lagging, config=config(concurrency=3)))
    held = {part.part_number for part in dead.after.checkpoint.parts}

    trace = scenario.run(ProcessScript(config=config()))

    assert held != set(range(1, 6)), "the schedule leaves no gap any more"
    assert set(sent(trace)) == {1, 2, 3, 4, 5, 6} - held


def test_d18_the_parts_of_a_stream_are_kept_as_well(make_scenario, config):
    scenario = make_scenario(SimulatedStream(pseudo_random_bytes(3 * PART + 5)))
    scenario.run(crash_after_part(2, config=config()))

    assert sent(scenario.run(ProcessScript(config=config()))) == [3, 4]


@pytest.mark.parametrize("parts", [0, 2])
@pytest.mark.parametrize("kind", [FaultKind.BEFORE, FaultKind.AFTER, FaultKind.THROTTLED, FaultKind.PERMANENT])
def test_d19_a_list_that_can_not_be_had_never_begins_an_upload_anew(make_scenario, config, kind, parts):
    """Any error of the list was taken for 'there is no such upload'; so was an empty list."""
    scenario = make_scenario()
    dying = Fault("upload_part", FaultKind.CRASH_BEFORE, parts + 1)
    scenario.run(ProcessScript((dying,), config=config()))

    trace = scenario.run(ProcessScript((Fault("list_parts", kind),), config=config()))

    assert asked(trace, "initiate_upload") == 0
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
def test_d22_no_size_makes_more_parts_than_the_storage_takes(parts, off, least):
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


def test_d25_options_that_change_no_byte_change_nothing(make_scenario, config):
    """The comparison was the wrong way round: the same callback made every checkpoint invalid."""
    late = ObjectOptions(acl="private", traffic_limit=1_000_000, request_payer="requester", callback=CALLBACK.callback)
    scenario = make_scenario()
    scenario.run(crash_after_part(2, config=config()))

    trace = scenario.run(ProcessScript(config=config(), options=late))

    assert trace.result.parts_resumed == 2


@pytest.mark.parametrize("size", [PARTS * PART, PARTS * PART - 3])
def test_d26_a_run_with_nothing_left_to_send_completes(make_scenario, config, size):
    """The checksum of nothing at all was compared with the object's, after the object was complete."""
    scenario = make_scenario(SimulatedFile(pseudo_random_bytes(size)))
    scenario.run(ProcessScript((Fault("complete_upload", FaultKind.CRASH_BEFORE),), config=config()))

    trace = scenario.run(ProcessScript(config=config()))

    assert (sent(trace), trace.result.verified) == ([], True)


@given(strategies.checkpoints())
def test_d27_whatever_is_written_can_be_read_back(checkpoint):
    """What the encrypting client wrote, its reader did not allow."""
    assert Checkpoint.from_data(json.loads(json.dumps(checkpoint.to_data()))) == checkpoint


def test_d44_the_shorter_last_part_is_known_again(make_scenario, config):
    """A part counted as done only if it was of the full size."""
    scenario = make_scenario()
    scenario.run(crash_after_part(PARTS, config=config()))

    assert sent(scenario.run(ProcessScript(config=config()))) == []


def test_d44_a_part_of_another_size_than_planned_is_sent_again(backend, store):
    """Though the record and the storage agree on it, no whole could ever be made of it."""
    dying = FaultPlan([Fault("append_part", FaultKind.CRASH_AFTER, 2)])
    with dying, pytest.raises(SimulatedCrash):
        simulated(backend.handle(), FaultyCheckpointStore(store, dying)).upload(
            BytesSource(pseudo_random_bytes(30)), "key"
        )
    [begun] = store.scan()
    store.append_part(begun.name, backend.upload_part("key", begun.upload_id, 2, StrictBody(b"short")))

    result = simulated(backend, store).upload(BytesSource(pseudo_random_bytes(30)), "key")

    assert (result.parts_resumed, backend.read("key")) == (1, pseudo_random_bytes(30))


def test_d43_what_was_resumed_is_verified_like_all_else(make_scenario, config):
    """After a crash the checksum of the object was not compared, without a word."""
    scenario = make_scenario()
    scenario.run(crash_after_part(2, config=config()))

    assert scenario.run(ProcessScript(config=config())).result.verified


def test_d43_what_can_not_be_verified_is_not_said_to_be(make_scenario, config):
    scenario = make_scenario(capabilities=evolve(DEFAULT_CAPABILITIES, object_checksums=False))

    assert not scenario.run(ProcessScript(config=config())).result.verified


# --- uploads that are left behind ------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", ["changed", "damaged", "options"])
def test_d28_an_upload_that_is_given_up_is_aborted(make_scenario, config, why):
    """Its parts were billed for ever."""
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


def test_d28_another_part_size_gives_nothing_up(make_scenario, config):
    scenario = make_scenario()
    scenario.run(crash_after_part(2, config=config()))

    assert scenario.run(ProcessScript(config=config(part_size=2 * PART))).result.parts_resumed == 2


def test_d28_an_upload_that_died_with_its_id_is_listed(make_scenario, config, backend, store):
    """A death between the birth of an upload and its first record loses one id, and no more; `list_uploads` has it."""
    plan = FaultPlan([Fault("initiate_upload", FaultKind.CRASH_AFTER)])
    with plan, pytest.raises(SimulatedCrash):
        simulated(FaultyBackend(backend.handle(), plan), store).upload(BytesSource(pseudo_random_bytes(30)), "key")
    simulated(backend, store).upload(BytesSource(pseudo_random_bytes(30)), "key")

    assert [pending.key for pending in backend.list_uploads()] == ["key"]


@pytest.mark.parametrize("operation", ["upload_part", "complete_upload"])
def test_d29_an_upload_that_nobody_could_carry_on_is_aborted(make_scenario, config, operation):
    """Without a checkpoint, too, a failure left its parts behind."""
    trace = make_scenario().run(
        ProcessScript((Fault(operation, FaultKind.PERMANENT),), config=config(), resume="never")
    )

    assert isinstance(trace.error, UploadFailed)
    assert trace.after.pending == {}


def test_d30_a_record_outlives_an_abort_that_failed(backend, store):
    """The record was deleted first, or another one's name was worked out; then nothing was aborted."""
    dying = FaultPlan([Fault("upload_part", FaultKind.CRASH_BEFORE, 3)])
    source = BytesSource(pseudo_random_bytes(30))
    with dying, pytest.raises(SimulatedCrash):
        simulated(FaultyBackend(backend.handle(), dying), store).upload(source, "key")
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
def test_d09_an_error_that_stays_is_not_asked_for_again_and_again(make_scenario, config, kind, at_most, concurrency):
    """After a 403 on one part, all other parts were tried, three times over."""
    trace = make_scenario().run(ProcessScript((Fault("upload_part", kind),), config=config(concurrency=concurrency)))

    assert len(sent(trace)) <= at_most - 1 + concurrency


def mutated(data: bytes, draw) -> bytes:
    begin = draw(st.integers(0, len(data)))
    end = draw(st.integers(begin, min(len(data), begin + 20)))
    return data[:begin] + draw(st.binary(max_size=12)) + data[end:]


@given(data=st.data())
def test_d23_no_edit_of_a_checkpoint_crashes_an_upload_or_deceives_it(tmp_path_factory, data):
    """Records were trusted: a division by zero, an index out of bounds, a dead id that was kept."""
    directory = tmp_path_factory.mktemp("checkpoints")
    source, backend = BytesSource(pseudo_random_bytes(30)), MemoryBackend(limits=SMALL)
    dying = FaultPlan([Fault("append_part", FaultKind.CRASH_AFTER, 2)])
    with FileCheckpointStore(directory) as store, dying, pytest.raises(SimulatedCrash):
        simulated(backend.handle(), FaultyCheckpointStore(store, dying)).upload(source, "key")
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
def test_d23_plain_data_that_is_no_checkpoint_is_refused_by_one_error(checkpoint, field, value):
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


def test_d31_a_cancel_while_nothing_is_in_flight_is_heard(backend, store):
    """It notified nobody, and the upload waited for ever."""
    failing = FaultyBackend(backend, FaultPlan(Fault("upload_part", FaultKind.BEFORE, n) for n in range(1, 50)))
    patient = TransferConfig(part_size=PART, multipart_threshold=0, retry_base=10_000, retry_max=10_000)

    task = Uploader(failing, store=store, config=patient).start(BytesSource(pseudo_random_bytes(30)), "key")
    while backend.calls["initiate_upload"] == 0:
        time.sleep(0.001)
    task.cancel()

    with pytest.raises(UploadCancelled):
        task.result(timeout=60)


def test_d32_no_thread_outlives_a_call_in_which_every_part_fails(backend, store):
    """The second worker that failed waited for ever to be heard."""
    before = set(threading.enumerate())
    refusing = FaultyBackend(backend, FaultPlan(Fault("upload_part", FaultKind.PERMANENT, n) for n in range(1, 9)))
    config = TransferConfig(part_size=PART, multipart_threshold=0, concurrency=4)

    with pytest.raises(UploadFailed):
        Uploader(refusing, store=store, config=config).upload(BytesSource(pseudo_random_bytes(8 * PART)), "key")

    assert set(threading.enumerate()) == before


def test_d33_what_arrives_while_an_upload_ends_is_recorded(make_scenario, config):
    """It returned with parts in flight, which arrived later, and were sent again by the next run."""
    scenario = make_scenario()
    # Two parts are on the storage when the first answer comes, and somebody asks for a pause.
    both = (0, 0, 0, 0, 1, 1, 1, 1, 0)
    pause = ScheduledEvent("append_part", Event.PAUSE)

    trace = scenario.run(ProcessScript(events=(pause,), choices=both, config=config(concurrency=2)))

    assert isinstance(trace.error, UploadPaused)
    assert {part.part_number for part in trace.after.checkpoint.parts} == {1, 2}


def test_d34_cancelling_one_upload_touches_no_other(backend, store):
    """The flag was the client's, and so was its being reset."""
    slow = threading.Event()

    class Waiting(io.BytesIO):
        def read(self, size=-1):
            slow.wait(60)
            return super().read(size)

    uploader = Uploader(backend, store=store, config=TransferConfig(part_size=PART, multipart_threshold=0))
    one = uploader.start(StreamSource(Waiting(pseudo_random_bytes(30)), name="one"), "one")
    two = uploader.start(StreamSource(Waiting(pseudo_random_bytes(30)), name="two"), "two")
    one.cancel()
    slow.set()

    with pytest.raises(UploadCancelled):
        one.result(timeout=60)
    assert two.result(timeout=60).size == 30
    assert backend.keys() == ["two"]


def test_d40_bounds_are_checked_before_anything_is_asked(backend, store):
    """More than 64 workers crashed, in the middle of an upload."""
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


def test_d41_a_directory_without_a_slash_at_its_end_is_that_directory(tmp_path, backend):
    """Checkpoints went to the directory above, and could be read by all."""
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
    """All fifty parts were in memory while the first one was under way."""
    scenario = make_scenario(SimulatedStream(pseudo_random_bytes(50 * PART)))

    trace = scenario.run(ProcessScript(config=config(concurrency=concurrency)))

    assert trace.most_bodies <= concurrency + 2


def test_d46_a_resume_reads_only_what_it_sends(make_scenario, config):
    """The whole file was read again after every part."""
    scenario = make_scenario()
    scenario.run(crash_after_part(3, config=config()))

    trace = scenario.run(ProcessScript(config=config()))

    assert sum(call.operation == "read" for call in trace.calls) == 1


def test_d48_a_record_costs_the_same_however_many_there_are(tmp_path):
    """The whole checkpoint was written after each part, and a kill in the middle of that lost all of it."""
    plan = plan_parts(2_000 * PART, SMALL, PART)
    sizes = []
    with FileCheckpointStore(tmp_path) as store, MemoryBackend(limits=SMALL) as backend:
        simulated(backend, store).upload(
            BytesSource(pseudo_random_bytes(200 * PART)),
            "key",
            progress=lambda _: sizes.append(sum(path.stat().st_size for path in tmp_path.glob("*.ucp"))),
        )
    growth = [after - before for before, after in pairwise(sizes[:-1])]

    assert plan.parts_total == 2_000
    assert max(growth[-50:]) <= max(growth[:50]) + 4


def test_d49_a_part_is_never_in_memory_as_a_whole(tmp_path):
    """Each worker held a whole part, and thousands of closures waited."""
    path = tmp_path / "source"
    with path.open("wb") as file:
        file.truncate(64 * MIB)

    pieces = [(len(chunk), id(chunk.obj)) for chunk in FileSource(path).body(0, 64 * MIB).chunks()]

    assert max(size for size, _ in pieces) <= 4 * MIB
    assert len({buffer for _, buffer in pieces}) == 1


# --- telling what is not so ------------------------------------------------------------------------------------------


def test_d35_an_error_keeps_what_the_storage_said(backend, store):
    """A missing bucket was 'abort', without code or request id."""

    class NoBucket(FaultyBackend):
        def upload_part(self, key, upload_id, part_number, body):
            raise BucketNotFound("no bucket", code="NoSuchBucket", status=404, request_id="5C3D", ec="0015-00000101")

    with pytest.raises(UploadFailed) as failed:
        simulated(NoBucket(backend, FaultPlan()), store).upload(BytesSource(pseudo_random_bytes(30)), "key")

    cause = failed.value.__cause__
    assert isinstance(cause, BucketNotFound)
    assert (cause.code, cause.status, cause.request_id, cause.ec) == ("NoSuchBucket", 404, "5C3D", "0015-00000101")
    assert "part 1" in "".join(cause.__notes__)


def test_d36_the_end_is_told_when_the_object_is_there(backend, store):
    """100 % before complete was even sent."""
    reports = []
    source = BytesSource(pseudo_random_bytes(30))

    simulated(backend, store).upload(source, "key", progress=lambda p: reports.append((p, backend.keys())))

    assert [(p.fraction == 1.0, p.completed, keys) for p, keys in reports[:-1]] == [(False, False, [])] * (
        len(reports) - 1
    )
    assert (reports[-1][0].fraction, reports[-1][1]) == (1.0, ["key"])


def test_d37_progress_never_goes_backwards_whatever_the_order(make_scenario, config):
    """50 % and then 42 %, and more than 100 %."""
    retried = Fault("upload_part", FaultKind.HALFWAY, 2)

    trace = make_scenario().run(
        ProcessScript(
            (retried,), choices=(1, 2, 0, 1, 1, 2, 0, 2, 1) * 9, config=config(concurrency=3, progress_interval=0.001)
        )
    )

    done = [told.progress.bytes_done for told in trace.reports]
    assert done == sorted(done)
    assert len(done) > PARTS


def test_d38_a_record_that_vanished_fails_nothing(backend, tmp_path):
    """The object was complete, and the call failed because there was nothing to delete."""

    def vanish(progress):
        for path in tmp_path.glob("*.ucp"):
            path.unlink()

    with FileCheckpointStore(tmp_path) as store:
        result = simulated(backend, store).upload(BytesSource(pseudo_random_bytes(30)), "key", progress=vanish)

    assert backend.read("key") == pseudo_random_bytes(30)
    assert result.warnings


def test_d39_a_record_that_can_not_be_written_hides_no_error_of_the_upload(make_scenario, config):
    faults = (Fault("append_part", FaultKind.DISK_FULL), Fault("upload_part", FaultKind.PERMANENT, 2))

    trace = make_scenario().run(ProcessScript(faults, config=config()))

    assert isinstance(trace.error, UploadFailed)
    assert isinstance(trace.error.__cause__, AccessDenied)
    assert any("could not be recorded" in warning for warning in trace.error.warnings)


def test_d45_a_limit_on_traffic_goes_with_every_part(backend, store):
    """It was taken, and not applied."""
    bound = []

    class Binding(FaultyBackend):
        def with_request_options(self, options):
            bound.append(options.traffic_limit)
            return self

    simulated(Binding(backend, FaultPlan()), store).upload(
        BytesSource(pseudo_random_bytes(30)), "key", options=ObjectOptions(traffic_limit=1_000_000)
    )

    assert bound == [1_000_000]


def test_d45_an_option_that_is_not_honoured_is_refused_before_anything_is_sent(store):
    backend = MemoryBackend(limits=SMALL, capabilities=evolve(DEFAULT_CAPABILITIES, options=()))

    with pytest.raises(UnsupportedOption, match="traffic_limit"):
        simulated(backend, store).upload(
            BytesSource(pseudo_random_bytes(30)), "key", options=ObjectOptions(traffic_limit=1_000_000)
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


def test_d21_expired_credentials_are_renewed_once_for_all_workers(store):
    """The time of the renewal was noted before the new token was there, and requests went out with the old one."""
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


def test_d24_a_203_is_a_failed_callback_and_not_a_success(store):
    """It was counted as a success, since it begins with a 2."""
    options = ObjectOptions(callback=Callback("http://127.0.0.1:1/nobody-listens", "object=${object}"))
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
    """An uploader in a scenario of its own, with small parts."""
    config = TransferConfig(**{"part_size": PART, "multipart_threshold": 0, "concurrency": 1, **changes})
    return Simulation().uploader(backend, store, config)
