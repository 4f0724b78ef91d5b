"""The simulation itself: the choices take every decision, and nothing else does."""

from __future__ import annotations

import itertools
import threading
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise import BytesSource, InvalidInput, TransferConfig
from partwise._engine.throttle import ThrottledBody, TransferState, TransferStopped
from partwise._engine.workers import PartJob
from partwise.backends.memory import MemoryBackend
from partwise.model import PartLimits
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing._proof.events import Event, ProcessScript, ScheduledEvent
from partwise.testing._proof.invariants import check
from partwise.testing._proof.recording import RecordingStore
from partwise.testing._proof.scenario import MemoryHarness, MemoryStoreHarness, Scenario
from partwise.testing._proof.simulation import Choices, ScriptedRandom, SimulatedClock, SimulatedWorkers, Simulation
from partwise.testing._proof.sources import RealFile, SimulatedFile
from partwise.testing._proof.state_machine import ResumeMachine, RunParameters
from partwise.testing.fakes import pseudo_random_bytes
from partwise.testing.faults import Fault, FaultKind, FaultPlan, SimulatedCrash
from partwise.testing.faulty import FaultyBackend

PART = 8


@pytest.fixture
def backend():
    with MemoryBackend("bucket", limits=PartLimits(min_part_size=1)) as backend:
        yield backend


@pytest.fixture
def jobs(backend):
    """Create jobs for parts, over a backend with these faults."""
    upload_id = backend.initiate_upload("key", ProcessScript().options)
    source = BytesSource(pseudo_random_bytes(10 * PART))

    def make(*numbers, faults=()):
        faulty = FaultyBackend(backend, FaultPlan(faults))
        flow = TransferState()
        return [
            PartJob(faulty, "key", upload_id, n, ThrottledBody(source.body((n - 1) * PART, PART), n, flow))
            for n in numbers
        ]

    return make


def outcomes(workers, count):
    return [workers.next_outcome(None) for _ in range(count)]


def test_time_passes_only_in_a_wait():
    clock = SimulatedClock(now=100.0)
    assert not clock.wait(threading.Event(), 7.0)
    assert (clock.now(), clock.monotonic()) == (107.0, 107.0)


def test_a_wait_for_an_event_that_is_set_takes_no_time():
    clock, event = SimulatedClock(now=100.0), threading.Event()
    event.set()
    assert clock.wait(event, 7.0)
    assert clock.now() == 100.0


def test_after_the_last_choice_it_is_always_the_first_possibility():
    choices = Choices([5, 1])
    assert [choices.below(3), choices.below(3), choices.below(3)] == [2, 1, 0]


def test_a_single_possibility_uses_no_choice():
    choices = Choices([1])
    assert [choices.below(1), choices.below(2)] == [0, 1]


def test_random_numbers_are_the_minimum_the_middle_or_the_maximum():
    chance = ScriptedRandom(Choices([0, 1, 2]))
    assert [chance.uniform(2.0, 6.0) for _ in range(3)] == [2.0, 4.0, 6.0]


@pytest.mark.parametrize(
    ("choices", "order"), [((), [1, 2, 3]), ((2,) * 5 + (1,) * 5, [3, 2, 1]), ((1,) * 5 + (0,) * 5, [2, 1, 3])]
)
def test_the_choices_say_which_part_finishes_next(jobs, choices, order):
    workers = SimulatedWorkers(Choices(choices), SimulatedClock())
    for job in jobs(1, 2, 3):
        workers.submit(job)

    assert [outcome.part_number for outcome in outcomes(workers, 3)] == order
    assert (workers.most_in_flight, workers.in_flight) == (3, 0)


def test_a_part_can_be_stored_before_its_response_arrives(jobs, backend):
    workers = SimulatedWorkers(Choices((1,) * 4 + (0,) * 9), SimulatedClock())
    for job in jobs(1, 2):
        workers.submit(job)

    first = workers.next_outcome(None)

    [upload] = backend.uploads.values()
    assert first.part_number == 1
    assert upload.parts.keys() == {1, 2}


def test_parts_that_were_not_started_can_be_cancelled(jobs, backend):
    workers = SimulatedWorkers(Choices((0,)), SimulatedClock())
    for job in jobs(1, 2):
        workers.submit(job)
    workers.next_outcome(None)
    workers.cancel_pending()

    assert isinstance(workers.next_outcome(None).error, TransferStopped)
    assert backend.calls["upload_part"] == 1


def test_a_wait_times_out_when_the_choices_say_so(jobs):
    clock = SimulatedClock(now=0.0)
    workers = SimulatedWorkers(Choices((1,)), clock)
    [job] = jobs(1)
    workers.submit(job)

    assert workers.next_outcome(5.0) is None
    assert clock.now() == 5.0
    assert workers.next_outcome(5.0).part_number == 1


def test_a_wake_ends_a_wait(jobs):
    workers = SimulatedWorkers(Choices(), SimulatedClock())
    workers.wake()
    assert workers.next_outcome(None) is None


def test_a_scheduler_that_would_wait_forever_gets_an_assertion_error():
    with pytest.raises(AssertionError, match="PROGRESS"):
        SimulatedWorkers(Choices(), SimulatedClock()).next_outcome(None)


def test_a_crashed_process_stays_crashed(jobs):
    workers = SimulatedWorkers(Choices(), SimulatedClock())
    for job in jobs(1, 2, faults=[Fault("upload_part", FaultKind.CRASH_BEFORE)]):
        workers.submit(job)
    for _ in range(2):
        with pytest.raises(SimulatedCrash):
            workers.next_outcome(None)


@given(choices=st.binary(max_size=60), concurrency=st.integers(1, 4))
def test_the_same_choices_give_the_same_run(choices, concurrency):
    def calls():
        backend = MemoryBackend("bucket", limits=PartLimits(min_part_size=1))
        plan = FaultPlan([Fault("upload_part", FaultKind.BEFORE, 2)])
        config = TransferConfig(part_size=PART, multipart_threshold=0, concurrency=concurrency)
        Simulation(choices).uploader(FaultyBackend(backend, plan), None, config).upload(
            BytesSource(pseudo_random_bytes(5 * PART)), "key", resume="never"
        )
        return plan.calls

    assert calls() == calls()


def test_a_scenario_continues_after_the_crash_of_a_process():
    scenario = Scenario(
        MemoryHarness(), MemoryStoreHarness(), SimulatedFile(pseudo_random_bytes(4 * PART)), check=check
    )
    config = TransferConfig(part_size=PART, multipart_threshold=0)

    dead = scenario.run(ProcessScript((Fault("append_part", FaultKind.CRASH_AFTER, 2),), config=config))
    done = scenario.run(ProcessScript(config=config))
    scenario.close()

    assert (dead.crashed, dead.result, len(dead.after.checkpoint.parts)) == (True, None, 2)
    assert (done.result.parts_resumed, done.after.checkpoint, done.after.pending) == (2, None, {})


def test_a_broken_promise_is_reported_by_its_name_with_the_trace(monkeypatch):
    monkeypatch.setattr("partwise._engine.reconcile._describe_change", lambda old, new: None)
    scenario = Scenario(
        MemoryHarness(), MemoryStoreHarness(), SimulatedFile(pseudo_random_bytes(4 * PART)), check=check
    )
    config = TransferConfig(part_size=PART, multipart_threshold=0)
    scenario.run(ProcessScript((Fault("append_part", FaultKind.CRASH_AFTER, 2),), config=config))
    scenario.change(Event.REWRITE)

    with pytest.raises(AssertionError, match=r"(?s)^EXACT: .*process 2:.*complete_upload '\S+': returned"):
        scenario.run(ProcessScript(config=config))
    scenario.close()


@pytest.fixture
def four_parts():
    scenario = Scenario(
        MemoryHarness(), MemoryStoreHarness(), SimulatedFile(pseudo_random_bytes(4 * PART)), check=check
    )
    yield scenario
    scenario.close()


SMALL_PARTS = TransferConfig(part_size=PART, multipart_threshold=0)


@pytest.mark.parametrize(("save", "message"), [(1, "no checkpoint was durable"), (2, "was of the upload None")])
def test_what_is_sent_before_it_is_recorded_is_reported(four_parts, monkeypatch, save, message):
    """The first save records the intent, the second one the upload id."""
    saves = itertools.count(1)
    original_save = RecordingStore.save

    def forgetful(store, checkpoint):
        if next(saves) != save:
            original_save(store, checkpoint)

    monkeypatch.setattr(RecordingStore, "save", forgetful)

    with pytest.raises(AssertionError, match=f"INTENT: .*{message}"):
        four_parts.run(ProcessScript(config=SMALL_PARTS))


@pytest.mark.parametrize("outcome", ["it uploads", "it fails in another way"])
def test_a_second_uploader_that_is_not_refused_is_reported(four_parts, monkeypatch, outcome):
    claims = itertools.count(1)

    @contextmanager
    def claim(store, name):
        if next(claims) > 1 and outcome == "it fails in another way":
            raise OSError("no lock")
        yield

    monkeypatch.setattr(MemoryCheckpointStore, "claim", claim)
    second = ScheduledEvent("upload_part", Event.SECOND_UPLOADER, 2)

    with pytest.raises(AssertionError, match="ONE-OWNER: a second uploader was not refused at once"):
        four_parts.run(ProcessScript(events=(second,), config=SMALL_PARTS))


def test_a_second_uploader_does_not_start_while_no_claim_is_held(four_parts):
    early = ScheduledEvent("fingerprint", Event.SECOND_UPLOADER)

    trace = four_parts.run(ProcessScript(events=(early,), config=SMALL_PARTS))

    assert trace.occurred == (early,)
    assert len(trace.after.stored) == 4 * PART


def test_a_dry_run_predicts_what_the_next_process_does():
    """The rules are called directly: first there is an upload to resume, then one that is already complete."""
    machine = ResumeMachine()
    machine.begin(source=0, parts=4, rest=1, verify="metadata")
    machine.killed(Fault("append_part", FaultKind.CRASH_AFTER, 2), RunParameters())
    machine.explain(RunParameters())
    machine.killed(Fault("complete_upload", FaultKind.CRASH_AFTER), RunParameters())
    machine.explain(RunParameters())
    resumed, _, found = machine.scenario.traces[1:]
    machine.teardown()

    assert (resumed.result.parts_resumed, resumed.result.parts_sent) == (2, 3)
    # The upload is complete; aborting it removes what the storage may not have removed yet.
    last = [call.operation for call in found.backend_calls[-2:]]
    assert (found.result.parts_sent, last) == (0, ["head_object", "abort_upload"])


def test_a_real_file_changes_like_a_simulated_one(tmp_path):
    source = RealFile(tmp_path / "source", b"first")
    seen = [source.open().fingerprint()]
    for event in (Event.REWRITE, Event.REPLACE, Event.TOUCH, Event.FORGE):
        source.change(event)
        seen.append(source.open().fingerprint())
        assert (tmp_path / "source").read_bytes() == source.version.data
    first, rewritten, replaced, touched, forged = seen

    assert first.mtime_ns != rewritten.mtime_ns == replaced.mtime_ns != touched.mtime_ns
    assert rewritten.identity != replaced.identity
    assert touched == forged
    with pytest.raises(InvalidInput):
        source.change(Event.RESTORE)


def test_the_parts_of_a_scenario_have_a_repr(four_parts):
    clock = SimulatedClock()
    clock.advance(1.5)

    assert repr(clock) == "<SimulatedClock at 1.500>"
    assert repr(RecordingStore(MemoryCheckpointStore(), four_parts.history)).startswith(
        "RecordingStore(<MemoryCheckpoint"
    )
    assert repr(four_parts._recorded(four_parts._storage)).startswith("RecordingBackend(<MemoryBackend")


@pytest.mark.parametrize(("operation", "what"), [("no_such_operation", Event.PAUSE), ("upload_part", Event.RAISE)])
def test_an_event_at_an_impossible_hook_point_is_refused(operation, what):
    with pytest.raises(InvalidInput):
        ScheduledEvent(operation, what)
