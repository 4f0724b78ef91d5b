"""The simulated world itself: what decides decides, and nothing else does."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise import BytesSource, InvalidInput, TransferConfig
from partwise.backends.memory import MemoryBackend
from partwise.model import PartLimits
from partwise.pacing import Flow, TransferStopped
from partwise.testing.bodies import filler
from partwise.testing.faults import Fault, FaultKind, FaultPlan, SimulatedDeath
from partwise.testing.faulty import FaultyBackend
from partwise.testing.simulation import Choices, SimulatedChance, SimulatedClock, SimulatedTransport, Simulation
from partwise.testing.worlds import (
    Happening,
    Incident,
    Life,
    MemoryHarness,
    MemoryStoreHarness,
    SimulatedFile,
    World,
)
from partwise.transport import PartJob

PART = 8


@pytest.fixture
def backend():
    with MemoryBackend("bucket", limits=PartLimits(min_part_size=1)) as backend:
        yield backend


@pytest.fixture
def jobs(backend):
    """Makes jobs for parts, over a backend that was struck by these faults."""
    upload_id = backend.initiate_upload("key", Life().options)
    source = BytesSource(filler(10 * PART))

    def make(*numbers, faults=()):
        struck = FaultyBackend(backend, FaultPlan(faults))
        flow = Flow()
        return [PartJob(struck, "key", upload_id, n, flow.paced(n, source.body((n - 1) * PART, PART))) for n in numbers]

    return make


def outcomes(transport, count):
    return [transport.next_outcome(None) for _ in range(count)]


def test_time_passes_only_when_somebody_waits():
    clock = SimulatedClock(now=100.0)
    assert not clock.wait(threading.Event(), 7.0)
    assert (clock.now(), clock.monotonic()) == (107.0, 107.0)


def test_nobody_waits_for_what_has_happened():
    clock, happened = SimulatedClock(now=100.0), threading.Event()
    happened.set()
    assert clock.wait(happened, 7.0)
    assert clock.now() == 100.0


def test_after_the_last_choice_it_is_always_the_first_possibility():
    choices = Choices([5, 1])
    assert [choices.below(3), choices.below(3), choices.below(3)] == [2, 1, 0]


def test_what_is_no_choice_uses_none_up():
    choices = Choices([1])
    assert [choices.below(1), choices.below(2)] == [0, 1]


def test_chance_is_the_least_the_middle_or_the_most():
    chance = SimulatedChance(Choices([0, 1, 2]))
    assert [chance.uniform(2.0, 6.0) for _ in range(3)] == [2.0, 4.0, 6.0]


@pytest.mark.parametrize(
    ("choices", "order"), [((), [1, 2, 3]), ((2,) * 5 + (1,) * 5, [3, 2, 1]), ((1,) * 5 + (0,) * 5, [2, 1, 3])]
)
def test_the_choices_say_which_part_finishes_next(jobs, choices, order):
    transport = SimulatedTransport(Choices(choices), SimulatedClock())
    for job in jobs(1, 2, 3):
        transport.submit(job)

    assert [outcome.part_number for outcome in outcomes(transport, 3)] == order
    assert (transport.most_under_way, transport.under_way) == (3, 0)


def test_a_part_can_be_on_the_storage_before_its_answer_comes(jobs, backend):
    transport = SimulatedTransport(Choices((1,) * 4 + (0,) * 9), SimulatedClock())
    for job in jobs(1, 2):
        transport.submit(job)

    first = transport.next_outcome(None)

    [upload] = backend.uploads.values()
    assert first.part_number == 1
    assert upload.parts.keys() == {1, 2}


def test_parts_that_were_not_begun_can_be_taken_back(jobs, backend):
    transport = SimulatedTransport(Choices((0,)), SimulatedClock())
    for job in jobs(1, 2):
        transport.submit(job)
    transport.next_outcome(None)
    transport.recall()

    assert isinstance(transport.next_outcome(None).error, TransferStopped)
    assert backend.calls["upload_part"] == 1


def test_a_tick_comes_when_the_choices_say_that_no_part_is_done_in_time(jobs):
    clock = SimulatedClock(now=0.0)
    transport = SimulatedTransport(Choices((1,)), clock)
    [job] = jobs(1)
    transport.submit(job)

    assert transport.next_outcome(5.0) is None
    assert clock.now() == 5.0
    assert transport.next_outcome(5.0).part_number == 1


def test_a_wake_ends_a_wait(jobs):
    transport = SimulatedTransport(Choices(), SimulatedClock())
    transport.wake()
    assert transport.next_outcome(None) is None


def test_a_loop_that_would_wait_for_ever_is_told_so():
    with pytest.raises(AssertionError, match="PROGRESS"):
        SimulatedTransport(Choices(), SimulatedClock()).next_outcome(None)


def test_what_is_dead_stays_dead(jobs):
    transport = SimulatedTransport(Choices(), SimulatedClock())
    for job in jobs(1, 2, faults=[Fault("upload_part", FaultKind.DEATH_BEFORE)]):
        transport.submit(job)
    for _ in range(2):
        with pytest.raises(SimulatedDeath):
            transport.next_outcome(None)


@given(choices=st.lists(st.integers(0, 9), max_size=60), concurrency=st.integers(1, 4))
def test_the_same_choices_give_the_same_run(choices, concurrency):
    def calls():
        backend = MemoryBackend("bucket", limits=PartLimits(min_part_size=1))
        plan = FaultPlan([Fault("upload_part", FaultKind.BEFORE, 2)])
        config = TransferConfig(part_size=PART, multipart_threshold=0, concurrency=concurrency)
        Simulation(choices).uploader(FaultyBackend(backend, plan), None, config).upload(
            BytesSource(filler(5 * PART)), "key", resume="never"
        )
        return plan.calls

    assert calls() == calls()


def test_a_world_goes_on_after_the_death_of_a_process():
    world = World(MemoryHarness(), MemoryStoreHarness(), SimulatedFile(filler(4 * PART)))
    config = TransferConfig(part_size=PART, multipart_threshold=0)

    dead = world.live(Life((Fault("append_part", FaultKind.DEATH_AFTER, 2),), config=config))
    done = world.live(Life(config=config))
    world.close()

    assert (dead.died, dead.result, len(dead.after.record.parts)) == (True, None, 2)
    assert (done.result.parts_resumed, done.after.record, done.after.pending) == (2, None, {})


def test_a_broken_promise_is_told_by_its_name_with_the_life_that_broke_it(monkeypatch):
    monkeypatch.setattr("partwise.ledger._change", lambda old, new: None)
    world = World(MemoryHarness(), MemoryStoreHarness(), SimulatedFile(filler(4 * PART)))
    config = TransferConfig(part_size=PART, multipart_threshold=0)
    world.live(Life((Fault("append_part", FaultKind.DEATH_AFTER, 2),), config=config))
    world.change(Happening.REWRITE)

    with pytest.raises(AssertionError, match=r"(?s)^EXACT: .*process 2:.*complete_upload '\S+': returned"):
        world.live(Life(config=config))
    world.close()


@pytest.mark.parametrize(
    ("operation", "what"), [("no_such_operation", Happening.PAUSE), ("upload_part", Happening.RAISE)]
)
def test_an_incident_that_can_not_be_is_refused(operation, what):
    with pytest.raises(InvalidInput):
        Incident(operation, what)
