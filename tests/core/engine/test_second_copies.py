"""Parts that are sent a second time at the end of an upload, over scripted workers and a simulated clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise._engine.concurrency import FixedConcurrency
from partwise._engine.control import Control
from partwise._engine.patience import Patience
from partwise._engine.plugin_calls import PluginDefect
from partwise._engine.scheduler import PartScheduler
from partwise._engine.tail import LateParts
from partwise._engine.thread_workers import ThreadWorkers
from partwise._engine.throttle import TransferState, TransferStopped
from partwise._engine.workers import Outcome, PartJob
from partwise.backends.memory import MemoryBackend
from partwise.bodies import bytes_body
from partwise.clock import SystemClock
from partwise.config import TransferConfig
from partwise.errors import AccessDenied, ConnectionFailed, SourceUnreadable, Throttled, UploadNotFound
from partwise.model import ObjectOptions, PartLimits, UploadedPart
from partwise.sources import BytesBody, BytesSource
from partwise.testing._proof.simulation import Simulation

SIZE = 80
LOST = ConnectionFailed("lost")
NO_JITTER = type("NoJitter", (), {"uniform": lambda self, a, b: b})()


class ScriptedWorkers:
    """
    Workers whose attempts end as a script says.

    Args:
        clock: advanced by the waits.
        script: one step for each call of `next_outcome`: None lets its timeout expire; a number of seconds pass before
            it is woken up; (number, second, error) ends an attempt. After the script, the attempts in flight succeed,
            oldest first.
    """

    saturated = False

    def __init__(self, clock, state, script):
        self.clock = clock
        self.state = state
        self.script = list(script)
        self.in_flight = []
        self.submitted = []
        self.times = []  # of each of these
        self.cuts = []
        self.timeouts = []

    def submit(self, job):
        self.in_flight.append(job)
        self.submitted.append((job.part_number, job.second))
        self.times.append(self.clock.time - 1000.0)

    def next_outcome(self, timeout):
        self.timeouts.append(timeout)
        step = self.script.pop(0) if self.script else (self.in_flight[0].part_number, self.in_flight[0].second, None)
        if step is None:
            assert timeout is not None, "this wait would never end"
            self.clock.time += timeout
            return None
        if isinstance(step, float):
            self.clock.time += step
            return None
        number, second, error = step
        job = next(job for job in self.in_flight if (job.part_number, job.second) == (number, second))
        self.in_flight.remove(job)
        part = UploadedPart(number, SIZE, f"E{number}") if error is None else None
        return Outcome(number, part, error, second=second)

    def can_cut(self, job):
        return True

    def cut(self, job, reason):
        self.cuts.append((job.part_number, job.second))

    def cancel_pending(self):
        pass

    @property
    def idle(self):
        return not self.in_flight

    def wake(self):
        pass


class Scenario:
    """A scheduler over these workers, and a record of what it did."""

    def __init__(self, clock, script, *, parts, concurrency):
        self.state = TransferState()
        self.workers = ScriptedWorkers(clock, self.state, script)
        self.uploaded = []
        self.sent_when_uploaded = []
        self.were_second = []
        self.seconds = []
        self.parts = parts
        self.scheduler = PartScheduler(
            workers=self.workers,
            state=self.state,
            patience=Patience(300.0, 3, 1.0, 4.0, NO_JITTER),
            clock=clock,
            control=Control(),
            concurrency=FixedConcurrency(concurrency),
            tick_interval=None,
            make_job=self.make_job,
            on_part_uploaded=self.on_part_uploaded,
            on_tick=lambda: None,
            on_retry=lambda *retry: None,
            read_again=lambda number: BytesBody(bytes(SIZE)),
            late_parts=LateParts(measured=0.0),
        )
        self.scheduler._can_cut = False  # no looks at the speed of the parts, which would add waits

    def make_job(self, number, body, second):
        return PartJob(None, "key", "ID", number, body, second)

    def on_part_uploaded(self, part, seconds, second):
        self.uploaded.append(part.part_number)
        self.sent_when_uploaded.append(self.state.in_flight_bytes())
        self.were_second.append(second)
        self.seconds.append(seconds)

    def run(self):
        self.scheduler.run((number, BytesBody(bytes(SIZE))) for number in range(1, self.parts + 1))


@pytest.fixture
def make_scenario(clock):
    return lambda script, parts=3, concurrency=3: Scenario(clock, script, parts=parts, concurrency=concurrency)


#: Of three parts in flight, 2 and 3 are done, and part 1 becomes late, so that it is sent again.
PART_1_IS_LATE = ((2, False, None), (3, False, None), None)


# --- the scheduler ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [False, True])
def test_the_copy_that_is_acknowledged_first_counts_and_the_other_is_cut(make_scenario, first):
    scenario = make_scenario((*PART_1_IS_LATE, (1, first, None)))
    scenario.run()

    assert scenario.workers.submitted[3:] == [(1, True)]
    assert scenario.uploaded == [2, 3, 1]
    assert scenario.were_second == [False, False, first]
    assert scenario.workers.cuts == [(1, not first)]
    assert scenario.workers.idle


def test_a_failed_second_copy_is_not_retried(make_scenario):
    scenario = make_scenario((*PART_1_IS_LATE, (1, True, LOST)))
    scenario.run()

    assert scenario.workers.submitted[3:] == [(1, True)]
    assert scenario.uploaded == [2, 3, 1]


def test_an_interrupt_of_a_second_copy_ends_the_upload(make_scenario):
    """The scheduler's thread may send it, if threads have become slower than that since."""
    scenario = make_scenario((*PART_1_IS_LATE, (1, True, KeyboardInterrupt())))
    with pytest.raises(KeyboardInterrupt):
        scenario.run()

    assert scenario.workers.idle


def test_a_failed_first_attempt_is_not_retried_once_its_copy_is_acknowledged(make_scenario):
    scenario = make_scenario((*PART_1_IS_LATE, (1, False, LOST), (1, True, None)))
    scenario.run()

    assert scenario.workers.submitted[3:] == [(1, True)]
    assert scenario.uploaded == [2, 3, 1]


def test_the_bytes_of_a_part_are_not_counted_twice_once_its_copy_is_acknowledged(make_scenario):
    scenario = make_scenario((*PART_1_IS_LATE, (1, True, None)))
    scenario.state.set_sent(1, SIZE // 2)
    scenario.run()
    assert scenario.sent_when_uploaded == [SIZE // 2, SIZE // 2, 0]

    state = TransferState()
    state.set_sent(1, 40)
    state.set_sent(2, 30)
    state.cut.add(1)
    assert state.in_flight_bytes() == 30
    state.remove_part(1)
    state.set_sent(1, 20)
    assert state.in_flight_bytes() == 50


@pytest.mark.parametrize("ended_by", [None, AccessDenied("no")])
def test_a_second_copy_has_taken_the_seconds_since_it_was_started(make_scenario, ended_by):
    """While the upload stops, too."""
    stop = () if ended_by is None else ((4, False, ended_by),)
    scenario = make_scenario((*PART_1_IS_LATE, 3.0, *stop, (1, True, None)), parts=3 + len(stop), concurrency=4)
    low_speed = scenario.scheduler._low_speed = RecordingLowSpeed()
    if ended_by is None:
        scenario.run()
        assert low_speed.acknowledged_since[-1] == (-1, 1000.5)
    else:
        with pytest.raises(AccessDenied):
            scenario.run()

    assert scenario.seconds[scenario.uploaded.index(1)] == 3.0


class RecordingLowSpeed:
    """Cuts nothing, and records what it is asked about."""

    def __init__(self):
        self.sampled = []
        self.acknowledged_since = []

    def sample(self, now, parts):
        self.sampled.append([number for number, *_ in parts])
        return []

    def part_to_copy(self, now):
        return None

    def acknowledged(self, number, size, started, now):
        self.acknowledged_since.append((number, started))


def test_the_speed_of_a_copy_that_was_cut_since_the_other_one_was_acknowledged_does_not_matter(make_scenario):
    scenario = make_scenario((*PART_1_IS_LATE, 1.0, (1, True, None), None, None, (1, False, LOST)))
    low_speed = scenario.scheduler._low_speed = RecordingLowSpeed()
    scenario.scheduler._can_cut, scenario.scheduler._shortest_interval = True, 1.0
    scenario.state.set_sent(1, 40)
    scenario.run()

    assert low_speed.sampled == [[1], [1], [], []]


def test_the_end_of_a_second_copy_is_not_that_of_the_probe(make_scenario):
    """Part 1 is sent again during an outage, while its second copy is still in flight, and part 2 waits for that."""
    fails = (2, False, LOST), (1, False, LOST)
    scenario = make_scenario(((3, False, None), None, *fails, None, (1, True, LOST), None))
    scenario.run()

    assert scenario.workers.submitted[3:] == [(1, True), (1, False), (2, False)]
    assert scenario.workers.times[3:] == [0.5, 1.5, 2.5]


def test_a_late_part_waits_for_the_end_of_a_hold_without_polling(make_scenario):
    """The part that was throttled, and so held all others, is acknowledged by its copy: no retry waits any more."""
    # Part 2 is started after part 1, since it fails once. Part 1 is sent again, its first attempt is throttled, and its
    # copy is acknowledged. Then part 2 is late.
    done = tuple((number, False, None) for number in range(3, 7))
    throttled = (1, False, Throttled("slow down", retry_after=60.0))
    scenario = make_scenario((*done, (2, False, LOST), None, throttled, (1, True, None), None), parts=6, concurrency=6)
    scenario.run()

    assert scenario.workers.submitted[6:] == [(2, False), (1, True), (2, True)]
    assert scenario.workers.timeouts[-3:] == [60.0, None, None]


# --- the workers -----------------------------------------------------------------------------------------------------


class CuttingBackend(MemoryBackend):
    """A backend that supports cutting."""

    def cut_part(self, body, reason):
        """Do nothing: the parts are stored at once."""


def second_copy(backend):
    upload_id = backend.initiate_upload("key", ObjectOptions())
    return PartJob(backend, "key", upload_id, 1, bytes_body(b"x" * 10), second=True)


@pytest.mark.parametrize("mode", ["threads", "inline"])
@pytest.mark.parametrize("fails", [False, True])
def test_the_outcome_of_a_second_copy_says_so(mode, fails):
    workers = ThreadWorkers(2, SystemClock())
    workers._switch.inline = mode == "inline"
    backend = CuttingBackend()
    job = second_copy(backend)
    if fails:
        backend.abort_upload("key", job.upload_id)
    try:
        workers.submit(job)
        outcome = workers.next_outcome(30)
    finally:
        workers.close()

    assert (outcome.second, outcome.part is None, type(outcome.error)) == (
        (True, True, UploadNotFound) if fails else (True, False, type(None))
    )


def test_the_outcome_of_a_cancelled_second_copy_says_so():
    workers = ThreadWorkers(2, SystemClock())
    workers._switch.inline = True
    try:
        workers.submit(second_copy(CuttingBackend()))
        workers.cancel_pending()
        outcome = workers.next_outcome(30)
    finally:
        workers.close()

    assert outcome.second
    assert isinstance(outcome.error, TransferStopped)


def test_nothing_is_sent_again_in_inline_mode():
    workers = ThreadWorkers(2, SystemClock())
    job = second_copy(CuttingBackend())
    try:
        assert not workers.can_cut(job), "there is no thread"
        workers.submit(job)
        assert workers.next_outcome(30) is not None
        assert workers.can_cut(job)
        workers._switch.inline = True
        assert not workers.can_cut(job), "a copy would wait for the first attempt"
    finally:
        workers.close()


@pytest.mark.parametrize("error", [SourceUnreadable("gone"), PluginDefect("ValueError: seek")], ids=repr)
def test_a_part_that_can_not_be_read_again_is_left_to_its_first_attempt(make_scenario, error):
    def fail(number):
        raise error

    scenario = make_scenario((*PART_1_IS_LATE, (1, False, None)))
    scenario.scheduler._read_again = fail
    scenario.run()

    assert scenario.uploaded == [2, 3, 1]
    assert [second for _, second in scenario.workers.submitted] == [False] * 3


# --- whole uploads ---------------------------------------------------------------------------------------------------


@given(st.binary(min_size=30, max_size=60))
def test_an_upload_ends_whichever_copy_is_faster(choices):
    backend = MemoryBackend(limits=PartLimits(min_part_size=1))
    config = TransferConfig(part_size=100, multipart_threshold=0, concurrency=3)
    simulation = Simulation(choices)
    result = simulation.uploader(backend, None, config).upload(BytesSource(bytes(300)), "key", resume="never")

    assert result.size == 300
    assert all(workers.idle for workers in simulation.worker_pools)


class ReadOnceSource(BytesSource):
    """A source with a defect: each part can be read once."""

    def __init__(self, data):
        super().__init__(data)
        self.reads = []

    def body(self, offset, size):
        self.reads.append(offset)
        if self.reads.count(offset) > 1:
            raise ValueError("seek")
        return super().body(offset, size)


def test_a_defect_of_the_source_does_not_end_an_upload_whose_part_is_late():
    backend = MemoryBackend(limits=PartLimits(min_part_size=1))
    config = TransferConfig(part_size=100, multipart_threshold=0, concurrency=2)
    source = ReadOnceSource(bytes(200))
    # Part 1 is done in five steps, then the wait for part 2 expires until it is late.
    simulation = Simulation([0] * 5 + [1] * 40)
    result = simulation.uploader(backend, None, config).upload(source, "key", resume="never")

    assert result.size == 200
    assert source.reads == [0, 100, 100]


def test_late_parts_are_those_that_take_longer_than_most():
    late = LateParts(after=0.5)
    assert late.due([(7, 100.0), (8, 101.0)]) is None, "it is not known how long a part takes"

    late.acknowledged(1.0)

    assert late.due([(7, 100.0), (8, 101.0)]) == (7, 100.7)


def test_the_line_is_busy_until_the_throughput_falls():
    late = LateParts(measured=1.0, latency=1.5)
    assert late.is_busy(0.0)

    for second in range(5):
        late.sample(float(second), 1_000_000 * second, ending=False)
    assert late.is_busy(4.0)

    late.sample(5.0, 4_200_000, ending=False)
    assert late.is_busy(5.4), "what the kernel has is still on the line"
    assert not late.is_busy(5.6)


def test_a_long_tail_does_not_count_as_what_the_line_carries():
    late, moved = LateParts(measured=1.0), 0
    for second in range(20):
        moved += 1_000_000 if second < 10 else 100_000
        late.sample(float(second), moved, ending=second >= 10)

    assert not late.is_busy(19.0)


def test_a_line_that_became_slower_is_busy_again():
    late, moved = LateParts(measured=1.0), 0
    for second in range(20):
        moved += 1_000_000 if second < 10 else 100_000
        late.sample(float(second), moved, ending=False)

    assert late.is_busy(19.0)


def test_only_a_share_of_the_parts_is_sent_twice():
    late = LateParts(after=0.5)
    for _ in range(160):
        late.acknowledged(1.0)

    for _ in range(20):
        assert late.due([(7, 100.0)]) is not None
        late.copied()
    assert late.due([(7, 100.0)]) is None
