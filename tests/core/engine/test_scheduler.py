"""The scheduler of parts, over scripted workers and a clock that the test advances."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise._engine.concurrency import FixedConcurrency
from partwise._engine.control import CallbackRaised, Control, StopRequested
from partwise._engine.patience import Patience
from partwise._engine.plugin_calls import PluginDefect
from partwise._engine.scheduler import PartScheduler
from partwise._engine.status import RunStatus
from partwise._engine.throttle import BandwidthLimit, TransferState, TransferStopped
from partwise._engine.workers import Outcome, PartJob, never_cut
from partwise.errors import (
    AccessDenied,
    BackendError,
    CheckpointError,
    ConnectionFailed,
    ServerFailed,
    SourceChanged,
    Throttled,
    UploadNotFound,
)
from partwise.model import UploadedPart
from partwise.sources import BytesBody


class ScriptedWorkers:
    """
    Workers that finish one attempt at each call of `next_outcome`, as a script says.

    Args:
        clock: advanced by the waits.
        state: where the script sets how many bytes of a part were sent.
        script: by part number, the result of each attempt: an error, or (bytes sent, error); success after that.
        choose: the index of the attempt in flight that finishes next, given their number.
    """

    saturated = False

    def __init__(self, clock, state, script=None, choose=lambda count: 0):
        self.clock = clock
        self.state = state
        self.script = {number: list(steps) for number, steps in (script or {}).items()}
        self.choose = choose
        self.in_flight = []
        self.submitted = []
        self.most_in_flight = 0
        self.timeouts = []
        self.cancelled = False
        self.wake_calls = 0
        #: Called before each outcome, to simulate other events.
        self.meanwhile = lambda: None

    can_cut = staticmethod(never_cut)

    def submit(self, job):
        assert self.state.sent(job.part_number) == 0
        self.in_flight.append(job)
        self.submitted.append((self.clock.time, job.part_number))
        self.most_in_flight = max(self.most_in_flight, len(self.in_flight))

    def next_outcome(self, timeout):
        self.timeouts.append(timeout)
        self.meanwhile()
        if not self.in_flight:
            assert timeout is not None or self.cancelled, "this wait would never end"
            self.clock.time += timeout or 0.0
            return None
        job = self.in_flight.pop(self.choose(len(self.in_flight)))
        steps = self.script.get(job.part_number)
        sent, error = len(job.body), None
        if steps:
            step = steps.pop(0)
            sent, error = step if isinstance(step, tuple) else (0, step)
        self.state.set_sent(job.part_number, sent)
        return Outcome(job.part_number, part_of(job) if error is None else None, error, second=job.second)

    def cancel_pending(self):
        self.cancelled = True

    @property
    def idle(self):
        return not self.in_flight

    def wake(self):
        self.wake_calls += 1


def part_of(job):
    return UploadedPart(job.part_number, len(job.body), f"E{job.part_number}")


class Scenario:
    """A scheduler and everything that it needs, and a record of what it did."""

    def __init__(
        self,
        clock,
        script=None,
        *,
        parts=3,
        size=80,
        concurrency=2,
        tick_interval=None,
        attempts=3,
        give_up_after=300.0,
        **workers,
    ):
        self.backend = None
        self.clock = clock
        self.state = TransferState()
        self.control = Control()
        self.workers = ScriptedWorkers(clock, self.state, script, **workers)
        self.uploaded = []
        self.ticks = []
        self.retries = []
        self.taken = 0
        self.parts = parts
        self.size = size
        self.scheduler = PartScheduler(
            workers=self.workers,
            state=self.state,
            patience=Patience(give_up_after, attempts, 1.0, 4.0, MaxRandom()),
            clock=clock,
            control=self.control,
            concurrency=FixedConcurrency(concurrency),
            tick_interval=tick_interval,
            make_job=self.make_job,
            on_part_uploaded=lambda *part: self.on_part_uploaded(*part),  # noqa: PLW0108  # tests replace it
            on_tick=lambda: self.on_tick(),  # noqa: PLW0108
            on_retry=lambda *retry: self.retries.append(retry),
        )

    def make_job(self, number, body, second):
        return PartJob(self.backend, "key", "ID", number, body, second)

    def part_bodies(self):
        """Yield the parts, and count those that the scheduler has taken."""
        for number in range(1, self.parts + 1):
            self.taken += 1
            yield number, BytesBody(bytes(self.size))

    def on_part_uploaded(self, part, seconds, second):
        self.uploaded.append(part.part_number)

    def on_tick(self):
        self.ticks.append(self.clock.time)

    def run(self):
        self.scheduler.run(self.part_bodies())

    @property
    def times(self):
        """The times at which attempts were submitted, by part number, in seconds from the start."""
        times = {}
        for at, number in self.workers.submitted:
            times.setdefault(number, []).append(at - 1000.0)
        return times


class MaxRandom:
    """Randomness that always returns the upper bound."""

    def uniform(self, a, b, /):
        return b


@pytest.fixture
def make_scenario(clock):
    return lambda *args, **settings: Scenario(clock, *args, **settings)


LOST = ConnectionFailed("lost")


# --- sending ---------------------------------------------------------------------------------------------------------


def test_every_part_is_sent_and_reported(make_scenario):
    scenario = make_scenario()
    scenario.run()

    assert scenario.uploaded == [1, 2, 3]
    assert scenario.workers.timeouts == [None] * 3, "no timeout is needed"


def test_parts_are_reported_in_the_order_in_which_they_finish(make_scenario):
    scenario = make_scenario(choose=lambda count: count - 1)
    scenario.run()

    assert scenario.uploaded == [2, 3, 1]


def test_without_parts_it_returns_at_once(make_scenario):
    scenario = make_scenario(parts=0)
    scenario.run()

    assert scenario.workers.timeouts == []


@pytest.mark.parametrize("concurrency", [1, 2, 3, 9])
def test_no_more_parts_are_in_flight_than_concurrency_allows(make_scenario, concurrency):
    scenario = make_scenario(parts=7, concurrency=concurrency)
    scenario.run()

    assert scenario.workers.most_in_flight == min(concurrency, 7)


def test_a_part_is_taken_only_when_it_can_be_sent(make_scenario):
    """A part of a stream is in memory from then on."""
    scenario = make_scenario(parts=5)
    taken = []
    scenario.workers.meanwhile = lambda: taken.append(scenario.taken)
    scenario.run()

    assert taken == [2, 3, 4, 5, 5]


def test_bytes_of_finished_parts_are_not_in_flight(make_scenario):
    scenario = make_scenario()
    scenario.run()

    assert scenario.state.in_flight_bytes() == 0


# --- retries ---------------------------------------------------------------------------------------------------------


def test_attempts_are_counted_for_each_part_separately(make_scenario):
    scenario = make_scenario({1: [LOST] * 2, 2: [LOST] * 2, 3: [LOST] * 2}, attempts=3)
    scenario.run()

    assert sorted(scenario.uploaded) == [1, 2, 3]


def test_the_last_attempt_at_a_part_fails_the_upload(make_scenario):
    last = ConnectionFailed("the last")
    scenario = make_scenario({2: [LOST, LOST, last]}, attempts=3)
    with pytest.raises(ConnectionFailed) as caught:
        scenario.run()

    assert caught.value is last


def test_a_retry_backs_off_while_other_parts_are_sent(make_scenario):
    scenario = make_scenario({1: [LOST, LOST]}, parts=4)
    scenario.run()

    assert scenario.times == {1: [0.0, 1.0, 3.0], 2: [0.0], 3: [0.0], 4: [0.0]}


def test_a_part_that_waits_for_a_retry_counts_towards_concurrency(make_scenario):
    """Otherwise a stream would be read into memory while a storage fails."""
    scenario = make_scenario({number: [LOST] for number in range(1, 9)}, parts=8, concurrency=3)
    held = []
    scenario.workers.meanwhile = lambda: held.append(scenario.taken - len(scenario.uploaded))
    scenario.run()

    assert max(held) == 3


def test_a_retry_that_is_due_is_sent_before_new_parts(make_scenario):
    scenario = make_scenario({1: [Throttled(retry_after=0.0)]}, parts=4, concurrency=1)
    scenario.scheduler._patience = Patience(300.0, 3, 0.0, 0.0, MaxRandom())
    scenario.run()

    assert [number for _, number in scenario.workers.submitted] == [1, 1, 2, 3, 4]


def test_progress_resets_the_count_of_failures(make_scenario):
    """A large part on an unreliable network is retried while each attempt gets further by at least an eighth."""
    scenario = make_scenario({1: [(sent, LOST) for sent in (10, 20, 30, 40, 50, 60, 70)]}, parts=1, attempts=2)
    scenario.run()

    assert scenario.uploaded == [1]


def test_progress_of_less_than_an_eighth_does_not_count(make_scenario):
    scenario = make_scenario({1: [(9, LOST), (18, LOST)]}, parts=1, attempts=2)

    with pytest.raises(ConnectionFailed):
        scenario.run()


def test_getting_as_far_as_before_is_not_progress(make_scenario):
    scenario = make_scenario({1: [(40, LOST), (40, LOST)]}, parts=1, attempts=2)

    with pytest.raises(ConnectionFailed):
        scenario.run()


def test_the_same_bytes_do_not_count_as_progress_twice(make_scenario):
    scenario = make_scenario({1: [(40, LOST), (10, LOST), (40, LOST)]}, parts=1, attempts=3)

    with pytest.raises(ConnectionFailed):
        scenario.run()


def test_progress_resets_the_backoff(make_scenario):
    scenario = make_scenario({1: [LOST, LOST, (40, LOST)]}, parts=1, attempts=4)
    scenario.run()

    assert scenario.times == {1: [0.0, 1.0, 3.0, 4.0]}


def test_one_byte_is_progress_for_the_smallest_part(make_scenario):
    scenario = make_scenario({1: [LOST, (1, LOST)]}, parts=1, size=2, attempts=2)
    scenario.run()

    assert scenario.uploaded == [1]


def test_a_part_in_flight_that_gets_further_renews_the_patience_of_the_others(make_scenario, clock):
    """Part 1 is slow; part 2 fails for longer than the patience lasts."""
    scenario = make_scenario(parts=2, attempts=None, give_up_after=10.0)
    workers = scenario.workers

    def next_outcome(timeout):
        clock.time += 1.0 if timeout is None else min(1.0, timeout)
        if workers.cancelled:
            return Outcome(workers.in_flight.pop().part_number, error=TransferStopped())
        scenario.state.set_sent(1, min(60, int(clock.time - 1000.0)))
        if len(workers.in_flight) == 1:
            return None
        return Outcome(workers.in_flight.pop().part_number, error=LOST)

    workers.next_outcome = next_outcome
    with pytest.raises(ConnectionFailed):
        scenario.run()

    assert 70.0 <= clock.time - 1000.0 <= 74.0, "ten seconds after part 1 got no further"


def test_the_status_shows_that_a_part_gets_further(make_scenario, clock):
    """Before any part is acknowledged, which is noted elsewhere, too."""
    scenario = make_scenario({1: [LOST, LOST, (40, LOST)]}, parts=1, attempts=None)
    status, failing = RunStatus(), []
    scenario.scheduler._status = status

    def note_failure(*_):
        failing.append(status.failing_since)
        status.failing(clock.time, "lost", None)

    scenario.scheduler._on_retry = note_failure
    scenario.run()

    assert failing == [None, 1000.0, None]


def test_the_wait_for_a_stream_does_not_use_up_the_patience(make_scenario):
    scenario = make_scenario({1: [LOST, LOST]}, parts=2, attempts=None, give_up_after=10.0)

    def slow_stream():
        for part in scenario.part_bodies():
            yield part
            scenario.clock.time += 3600.0

    scenario.scheduler.run(slow_stream())

    assert scenario.uploaded == [2, 1]


@pytest.mark.parametrize(("attempts", "delay"), [(None, 1.0), (9, 4.0)])
def test_the_backoff_of_a_part_starts_again_after_an_outage_unless_its_attempts_are_limited(
    make_scenario, attempts, delay
):
    scenario = make_scenario({1: [LOST] * 4, 2: [LOST] * 2}, parts=2, attempts=attempts)
    scenario.run()

    assert scenario.uploaded == [2, 1], "the outage ends with part 2, and part 1 fails once more"
    assert (scenario.retries[-1][0], scenario.retries[-1][2:]) == (1, (delay, 4))


def test_retry_after_holds_all_parts(make_scenario):
    scenario = make_scenario({1: [Throttled(retry_after=60.0)]}, parts=4)
    scenario.run()

    assert scenario.times == {1: [0.0, 60.0], 2: [0.0], 3: [60.0], 4: [60.0]}


def test_backoff_holds_only_the_part_that_failed(make_scenario):
    scenario = make_scenario({1: [LOST]}, parts=4)
    scenario.run()

    assert scenario.times == {1: [0.0, 1.0], 2: [0.0], 3: [0.0], 4: [0.0]}


def test_a_part_that_is_throttled_without_a_time_to_wait_leaves_one_less_in_flight(make_scenario):
    scenario = make_scenario({1: [Throttled()]}, parts=4)
    scenario.run()

    assert scenario.times == {1: [0.0, 1.0], 2: [0.0], 3: [1.0], 4: [1.0]}


def test_a_retry_that_is_due_is_not_polled_for_while_no_part_can_be_sent(make_scenario):
    """One part less may be in flight, so that the retry waits for the other part, however long that takes."""
    scenario = make_scenario({1: [Throttled()]}, parts=2)
    scenario.run()

    assert scenario.workers.timeouts == [None, None, 1.0, None]


def test_the_longest_retry_after_counts(make_scenario):
    scenario = make_scenario({1: [Throttled(retry_after=60.0)], 2: [Throttled(retry_after=30.0)]}, parts=3)
    scenario.run()

    assert scenario.times == {1: [0.0, 60.0], 2: [0.0, 60.0], 3: [60.0]}


def test_a_retry_that_is_due_waits_for_the_end_of_a_hold(make_scenario):
    scenario = make_scenario({1: [LOST], 2: [Throttled(retry_after=60.0)]}, parts=2)
    scenario.run()

    assert scenario.times == {1: [0.0, 60.0], 2: [0.0, 60.0]}


def test_a_retried_error_keeps_nothing_in_memory(make_scenario):
    """The frames of its traceback, and of its causes, refer to the bytes of the part."""

    def send():
        try:
            open("/no/such/socket").close()  # noqa: PTH123  # any OSError will do
        except OSError as cause:
            raise ConnectionFailed("lost") from cause

    with pytest.raises(ConnectionFailed) as caught:
        send()
    lost = caught.value
    assert lost.__traceback__ is not None
    make_scenario({1: [lost]}, parts=1).run()

    assert (lost.__traceback__, lost.__cause__.__traceback__) == (None, None)


# --- ticks -----------------------------------------------------------------------------------------------------------


def test_it_ticks_while_no_part_finishes(make_scenario):
    scenario = make_scenario({1: [Throttled(retry_after=10.0)]}, parts=1, tick_interval=4.0)
    scenario.run()

    assert [at - 1000.0 for at in scenario.ticks] == [4.0, 8.0, 10.0]


def test_it_waits_for_a_tick_or_a_retry_whichever_comes_first(make_scenario):
    scenario = make_scenario({1: [LOST]}, parts=2, tick_interval=0.25)
    scenario.run()

    assert set(scenario.workers.timeouts) == {0.25}


def test_a_timeout_is_never_negative(make_scenario):
    scenario = make_scenario({1: [LOST], 2: [LOST]}, parts=2)

    def be_late():
        if scenario.workers.in_flight:
            scenario.clock.time += 100.0

    scenario.workers.meanwhile = be_late
    scenario.run()

    assert all(timeout is None or timeout >= 0 for timeout in scenario.workers.timeouts)


def test_an_error_in_on_tick_ends_the_run(make_scenario):
    scenario = make_scenario({1: [Throttled(retry_after=10.0)]}, parts=1)

    def refuse():
        raise CheckpointError("enough")

    scenario.on_tick = refuse
    with pytest.raises(CheckpointError, match="enough"):
        scenario.run()


# --- ending early ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [AccessDenied("no"), SourceChanged("other"), KeyboardInterrupt(), ValueError("x")])
def test_a_permanent_error_ends_the_run_at_once(make_scenario, error):
    scenario = make_scenario({1: [error]}, parts=9)
    with pytest.raises(type(error)) as caught:
        scenario.run()

    assert caught.value is error
    assert scenario.times == {1: [0.0], 2: [0.0]}


def test_an_error_names_its_part_in_a_note(make_scenario):
    error = AccessDenied("no")
    with pytest.raises(AccessDenied):
        make_scenario({2: [error]}).run()

    assert error.__notes__ == ["Raised while part 2 was being sent."]


def test_a_missing_upload_is_never_retried(make_scenario):
    scenario = make_scenario({1: [UploadNotFound(retryable=True)]})

    with pytest.raises(UploadNotFound):
        scenario.run()


def test_it_ends_only_when_no_worker_is_running(make_scenario):
    scenario = make_scenario({1: [AccessDenied()]}, parts=4, concurrency=4)
    with pytest.raises(AccessDenied):
        scenario.run()

    assert scenario.workers.in_flight == []
    assert scenario.state.stop.is_set(), "they were requested to stop"
    assert scenario.workers.cancelled, "and pending parts were cancelled"


class Cutting:
    """A backend that records what is cut, and when; the part then fails."""

    def __init__(self, scenario, *, fails=True):
        self.scenario = scenario
        self.fails = fails
        self.cuts = []

    def cut_part(self, body, reason):
        workers = self.scenario.workers
        number = next(job.part_number for job in workers.in_flight if job.body is body)
        self.cuts.append((round(workers.clock.time - 1000.0, 3), number))
        if self.fails:
            workers.hanging.discard(number)
            workers.script[number] = [ConnectionFailed(reason)]


class HangingWorkers(ScriptedWorkers):
    """Workers of which some parts do not finish."""

    hanging = frozenset()
    can_cut = staticmethod(lambda job: True)
    cut = staticmethod(lambda job, reason: job.backend.cut_part(job.body, reason))
    seconds = 0.0  # the time after which the next part finishes

    def next_outcome(self, timeout):
        self.timeouts.append(timeout)
        self.meanwhile()
        done = [job for job in self.in_flight if job.part_number not in self.hanging]
        if not done or (timeout is not None and timeout < self.seconds):
            assert timeout is not None, "this wait would never end"
            self.clock.time += timeout
            return None
        self.clock.time += self.seconds
        self.in_flight.remove(done[0])
        self.in_flight.insert(0, done[0])
        return super().next_outcome(timeout)


@pytest.fixture
def hanging(make_scenario):
    """A function that makes a scenario in which part 1 fails, and the parts with the given numbers hang."""

    def make(numbers, *, parts=4, **settings):
        scenario = make_scenario({1: [AccessDenied("no")]}, parts=parts, concurrency=parts)
        scenario.workers.__class__ = HangingWorkers
        scenario.workers.hanging = set(numbers)
        backend = Cutting(scenario, **settings)
        scenario.backend = backend
        return scenario, backend

    return make


def test_parts_that_hang_are_cut_2_seconds_after_the_last_one_that_finished(hanging):
    """Otherwise a pause waits until the operating system gives up on a connection, after a minute."""
    scenario, backend = hanging([2, 4])
    scenario.workers.seconds = 0.5
    with pytest.raises(AccessDenied):
        scenario.run()

    assert backend.cuts == [(3.0, 2), (3.0, 4)]
    assert scenario.uploaded == [3]


def test_while_parts_finish_the_others_are_waited_for_but_not_for_ever(hanging):
    """On a slow line, what was sent arrives little by little."""
    scenario, backend = hanging([2], parts=40)
    scenario.workers.seconds = 1.0
    with pytest.raises(AccessDenied):
        scenario.run()

    assert backend.cuts[0] == (11.0, 2)
    assert scenario.uploaded == list(range(3, 13))


def test_a_part_that_does_not_end_when_it_is_cut_is_cut_again(hanging):
    """It may have been about to connect, or trying one address of the server after the other."""
    scenario, backend = hanging([2], fails=False)

    def give_up(timeout, wait=scenario.workers.next_outcome):
        if len(backend.cuts) == 3:
            backend.fails = True
        return wait(timeout)

    scenario.workers.next_outcome = give_up
    with pytest.raises(AccessDenied):
        scenario.run()

    assert backend.cuts == [(2.0, 2), (4.0, 2), (6.0, 2), (8.0, 2)]


def test_a_backend_that_can_not_cut_is_waited_for(make_scenario):
    scenario = make_scenario({1: [AccessDenied()]}, parts=4, concurrency=4)
    with pytest.raises(AccessDenied):
        scenario.run()

    assert set(scenario.workers.timeouts) == {None}


# --- slow parts ------------------------------------------------------------------------------------------------------


class ScriptedLowSpeed:
    """Cuts the given parts, each at the given sample."""

    def __init__(self, cuts, *stalled):
        self.cuts = dict(cuts)
        self.stalled = list(stalled)
        self.samples = []
        self.acknowledgements = []

    def sample(self, now, parts):
        self.samples.append((round(now - 1000.0, 3), list(parts)))
        return self.cuts.pop(len(self.samples), [])

    def part_to_copy(self, now):
        return self.stalled.pop(0) if self.stalled else None

    def acknowledged(self, *arguments):
        self.acknowledgements.append(arguments)


def slow_scenario(make_scenario, hanging, low_speed, *, parts=3, **settings):
    scenario = make_scenario(parts=parts, concurrency=parts, **settings)
    scenario.workers.__class__ = HangingWorkers
    scenario.workers.hanging = set(hanging)
    scenario.scheduler._low_speed = low_speed
    backend = Cutting(scenario)
    scenario.backend = backend
    return scenario, backend


def test_a_part_that_is_cut_is_sent_again_at_once_and_has_not_failed(make_scenario):
    low_speed = ScriptedLowSpeed({4: [2]})
    scenario, backend = slow_scenario(make_scenario, [2], low_speed, attempts=1)
    scenario.run()

    assert backend.cuts == [(3.0, 2)]
    assert scenario.times[2] == [0.0, 3.0]
    assert scenario.uploaded == [1, 3, 2]
    assert [(number, str(error), delay) for number, error, delay, _ in scenario.retries] == [
        (2, "it was much slower than others", 0.0)
    ]


def test_a_part_that_is_cut_and_fails_otherwise_has_failed_and_so_has_its_next_attempt(make_scenario):
    scenario = make_scenario({1: [ServerFailed("busy"), LOST]}, parts=1, attempts=2)

    def cut():
        scenario.workers.meanwhile = lambda: None
        scenario.scheduler._in_flight[1].cut = True

    scenario.workers.meanwhile = cut
    with pytest.raises(ConnectionFailed, match="lost"):
        scenario.run()
    assert [(str(error), delay) for _, error, delay, _ in scenario.retries] == [("busy", 1.0)]


def test_the_speed_is_looked_at_once_a_second_and_ticks_come_as_they_did(make_scenario):
    low_speed = ScriptedLowSpeed({4: [2]})
    scenario, _ = slow_scenario(make_scenario, [2], low_speed, tick_interval=0.4)
    scenario.workers.meanwhile = lambda: scenario.state.set_sent(2, 40)
    scenario.run()

    assert [at for at, _ in low_speed.samples] == pytest.approx([0.0, 1.2, 2.4, 3.6])
    assert low_speed.samples[0][1] == [(2, 1000.0, 40, 80)], "parts that were not started are left out"
    assert len(scenario.ticks) == 9


def test_acknowledgements_are_reported_with_the_time_of_their_attempt(make_scenario):
    low_speed = ScriptedLowSpeed({3: [1]})
    scenario, _ = slow_scenario(make_scenario, [1], low_speed, parts=1)
    scenario.run()

    assert low_speed.acknowledgements == [(1, 80, 1003.0, 1003.0)]


def test_while_nothing_moves_a_part_is_sent_a_second_time(make_scenario):
    low_speed = ScriptedLowSpeed({}, 2)
    scenario, _ = slow_scenario(make_scenario, [2], low_speed)
    scenario.scheduler._read_again = lambda number: BytesBody(bytes(80))
    copies = []

    def submit(job, submit=scenario.workers.submit):
        if job.second:
            copies.append(job.part_number)
            scenario.workers.hanging.clear()
        submit(job)

    scenario.workers.submit = submit
    scenario.run()

    assert copies == [2]


def test_while_nothing_moves_a_part_is_not_sent_a_third_time(make_scenario):
    low_speed = ScriptedLowSpeed({}, 2, 2)
    scenario, _ = slow_scenario(make_scenario, [2], low_speed)
    scenario.scheduler._read_again = lambda number: BytesBody(bytes(80))
    workers, copies = scenario.workers, []
    submit, next_outcome = workers.submit, workers.next_outcome

    def note_copy(job):
        if job.second:
            copies.append(job)
        else:
            submit(job)

    def fail_copy(timeout):
        if copies and len(low_speed.samples) < 4:
            job = copies.pop()
            failed.append(job.part_number)
            return Outcome(job.part_number, error=LOST, second=True)
        if len(low_speed.samples) == 6:
            workers.hanging.clear()
        return next_outcome(timeout)

    failed = []
    workers.submit, workers.next_outcome = note_copy, fail_copy
    scenario.run()

    assert (failed, copies, low_speed.stalled) == ([2], [], [])


def test_idle_workers_release_their_buffers_after_the_last_part(make_scenario):
    """They are not needed while the upload is completed."""
    scenario = make_scenario()
    scenario.run()

    assert scenario.workers.cancelled


def test_parts_acknowledged_while_it_stops_are_reported(make_scenario):
    scenario = make_scenario({1: [AccessDenied()], 3: [TransferStopped()]}, parts=4, concurrency=4)
    with pytest.raises(AccessDenied):
        scenario.run()

    assert scenario.uploaded == [2, 4]
    assert scenario.state.in_flight_bytes() == 0


def test_the_first_error_propagates_whatever_happens_while_it_stops(make_scenario):
    scenario = make_scenario(
        {1: [AccessDenied("the first")], 2: [UploadNotFound("the second")]}, parts=4, concurrency=4
    )

    def refuse(part, *_):
        scenario.uploaded.append(part.part_number)
        raise SourceChanged("the third")

    scenario.on_part_uploaded = refuse
    with pytest.raises(AccessDenied, match="the first"):
        scenario.run()
    assert scenario.uploaded == [3, 4]


def test_it_waits_for_workers_that_stop_slowly(make_scenario):
    scenario = make_scenario({1: [AccessDenied()]}, concurrency=2)
    next_outcome = scenario.workers.next_outcome
    timeouts = []

    def slowly(timeout):
        timeouts.append(timeout)
        return None if len(timeouts) in {2, 3} else next_outcome(timeout)

    scenario.workers.next_outcome = slowly
    with pytest.raises(AccessDenied):
        scenario.run()

    assert scenario.uploaded == [2]
    assert timeouts == [None] * 4


def test_an_outcome_lost_to_an_interrupt_is_not_awaited(make_scenario):
    scenario = make_scenario(parts=4, concurrency=3)
    next_outcome = scenario.workers.next_outcome

    def interrupted(timeout):
        scenario.workers.next_outcome = next_outcome
        next_outcome(timeout)
        raise KeyboardInterrupt

    scenario.workers.next_outcome = interrupted
    with pytest.raises(KeyboardInterrupt):
        scenario.run()

    assert scenario.uploaded == [2, 3]


# --- the progress callback raises while the last parts finish --------------------------------------------------------


def raise_from_progress(scenario, *, at):
    """Let the progress callback raise once this number of parts is uploaded, and return the error."""
    error = CallbackRaised("progress")
    error.__cause__ = LookupError("enough")

    def on_part_uploaded(part, *_):
        scenario.uploaded.append(part.part_number)
        if len(scenario.uploaded) == at:
            raise error

    scenario.on_part_uploaded = on_part_uploaded
    return error


@pytest.mark.parametrize("mode", ["pause", "cancel"])
def test_a_progress_error_takes_precedence_over_a_stop_request(make_scenario, mode):
    scenario = make_scenario(parts=9, concurrency=3)
    error = raise_from_progress(scenario, at=2)
    scenario.workers.meanwhile = getattr(scenario.control, mode)
    with pytest.raises(CallbackRaised) as caught:
        scenario.run()

    assert caught.value is error
    assert scenario.uploaded == [1, 2, 3], "and later parts are reported, too"


@pytest.mark.parametrize("first", [AccessDenied("no"), SourceChanged("other"), PluginDefect("a bug")])
def test_a_progress_error_takes_precedence_over_a_failure(make_scenario, first):
    scenario = make_scenario({1: [first]}, parts=9, concurrency=3)
    error = raise_from_progress(scenario, at=1)
    with pytest.raises(CallbackRaised) as caught:
        scenario.run()

    assert caught.value is error
    assert scenario.uploaded == [2, 3]


@pytest.mark.parametrize("first", [KeyboardInterrupt(), SystemExit(0), ValueError("a time limit")])
def test_an_interrupt_takes_precedence_over_a_progress_error_and_refers_to_it(make_scenario, first):
    scenario = make_scenario({1: [first]}, parts=9, concurrency=3)
    error = raise_from_progress(scenario, at=1)
    with pytest.raises(type(first)) as caught:
        scenario.run()

    assert caught.value is first
    assert first.__context__ is error
    assert first.__notes__[-1] == "The progress callback also raised LookupError('enough')."
    assert scenario.uploaded == [2, 3]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit(0), ValueError("a time limit")])
def test_an_interrupt_while_the_last_parts_finish_is_raised_after_them(make_scenario, interrupt):
    scenario = make_scenario(parts=9, concurrency=3)
    error = raise_from_progress(scenario, at=2)
    next_outcome, calls = scenario.workers.next_outcome, 0

    def interrupted(timeout):
        nonlocal calls
        calls += 1
        if calls == 1:
            scenario.control.pause()
        if calls == 3:
            raise interrupt
        return next_outcome(timeout)

    scenario.workers.next_outcome = interrupted
    with pytest.raises(type(interrupt)) as caught:
        scenario.run()

    assert caught.value is interrupt
    assert interrupt.__context__ is error
    assert scenario.uploaded == [1, 2, 3]


def test_an_error_in_on_part_uploaded_ends_the_run(make_scenario):
    scenario = make_scenario(parts=4, concurrency=1)

    def refuse(part, *_):
        raise SourceChanged("other bytes")

    scenario.on_part_uploaded = refuse
    with pytest.raises(SourceChanged, match="other bytes"):
        scenario.run()
    assert scenario.times == {1: [0.0]}


def test_an_error_of_the_source_ends_the_run(make_scenario):
    scenario = make_scenario()

    def work():
        yield 1, BytesBody(b"x")
        raise SourceChanged("cut short")

    with pytest.raises(SourceChanged, match="cut short"):
        scenario.scheduler.run(work())
    assert scenario.uploaded == [1], "the part in flight is reported"


def test_an_executor_that_rejects_a_part_ends_the_run(make_scenario):
    scenario = make_scenario(parts=2)
    submit = scenario.workers.submit

    def refuse(job):
        if job.part_number == 2:
            raise RuntimeError("cannot schedule new futures after shutdown")
        submit(job)

    scenario.workers.submit = refuse
    with pytest.raises(BackendError, match="the executor rejected part 2, which was not sent: cannot") as caught:
        scenario.run()

    assert not caught.value.retryable
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert scenario.uploaded == [1], "and the rejected part is not awaited"


# --- stop requests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["pause", "cancel"])
def test_a_stop_request_ends_the_run(make_scenario, mode):
    scenario = make_scenario(parts=9)
    scenario.workers.meanwhile = getattr(scenario.control, mode)
    with pytest.raises(StopRequested) as caught:
        scenario.run()

    assert caught.value.mode == mode
    assert scenario.uploaded == [1, 2], "parts in flight are awaited"
    assert scenario.state.stop.is_set()
    assert scenario.workers.wake_calls == 2


def test_a_stop_request_ends_the_run_with_all_parts_in_flight(make_scenario):
    scenario = make_scenario(parts=2)
    scenario.workers.meanwhile = scenario.control.pause
    with pytest.raises(StopRequested):
        scenario.run()

    assert scenario.uploaded == [1, 2]


def test_after_a_stop_request_no_part_is_started(make_scenario):
    scenario = make_scenario()
    scenario.control.pause()
    with pytest.raises(StopRequested):
        scenario.run()

    assert scenario.workers.submitted == []
    assert scenario.state.stop.is_set()


def test_a_part_read_from_a_stream_after_the_request_is_not_sent(make_scenario):
    """The request came while the stream was being read."""
    scenario = make_scenario()

    def work():
        yield 1, BytesBody(b"x")
        scenario.control.cancel()
        yield 2, BytesBody(b"y")

    with pytest.raises(StopRequested):
        scenario.scheduler.run(work())
    assert scenario.times == {1: [0.0]}


def test_a_stopped_part_is_not_a_failure(make_scenario):
    """A worker may notice the request before the scheduler does."""
    scenario = make_scenario({1: [TransferStopped()]})

    with pytest.raises(TransferStopped):
        scenario.run()


class TestControl:
    def test_without_a_request_nothing_stops(self):
        control = Control()
        control.check()

        assert not control.cancelled
        assert not control.requested.is_set()

    @pytest.mark.parametrize("mode", ["pause", "cancel"])
    def test_a_request_is_raised_by_check(self, mode):
        control = Control()
        getattr(control, mode)()

        assert control.requested.is_set()
        assert control.cancelled == (mode == "cancel")
        with pytest.raises(StopRequested, match=mode):
            control.check()

    @pytest.mark.parametrize("modes", [("pause", "cancel"), ("cancel", "pause")])
    def test_a_cancel_overrides_a_pause(self, modes):
        control = Control()
        for mode in modes:
            getattr(control, mode)()

        with pytest.raises(StopRequested, match="cancel"):
            control.check()

    def test_callbacks_are_called_at_each_request(self):
        control, called = Control(), []
        control.on_request(lambda: called.append("a"))
        control.on_request(lambda: called.append("b"))
        assert called == []

        control.pause()
        assert called == ["a", "b"]

        control.cancel()
        assert called == ["a", "b", "a", "b"]

    def test_a_callback_registered_after_a_request_is_called_at_once(self):
        control, called = Control(), []
        control.pause()
        control.on_request(lambda: called.append("late"))

        assert called == ["late"]


# --- in any order ----------------------------------------------------------------------------------------------------


@given(
    parts=st.integers(0, 6),
    concurrency=st.integers(1, 4),
    failures=st.dictionaries(
        st.integers(1, 6),
        st.lists(st.sampled_from([LOST, Throttled(retry_after=2.0), (40, LOST)]), max_size=2),
    ),
    order=st.randoms(use_true_random=False),
)
def test_every_part_is_reported_once_in_whatever_order_parts_finish(parts, concurrency, failures, order):
    """Provided that there are fewer failures than attempts."""
    scenario = Scenario(ManualClock(), failures, parts=parts, concurrency=concurrency, choose=order.randrange)
    scenario.run()
    attempts = sum(len(failures.get(number, ())) + 1 for number in range(1, parts + 1))

    assert sorted(scenario.uploaded) == list(range(1, parts + 1))
    assert len(scenario.workers.submitted) == attempts
    assert scenario.workers.most_in_flight <= concurrency
    assert scenario.state.in_flight_bytes() == 0


@given(
    concurrency=st.integers(1, 4),
    steps=st.lists(st.sampled_from([None, LOST, AccessDenied(), TransferStopped()]), min_size=6, max_size=6),
    order=st.randoms(use_true_random=False),
    stop_at=st.none() | st.integers(1, 8),
)
def test_it_leaves_no_part_in_flight_however_it_ends(concurrency, steps, order, stop_at):
    script = {number: [step] for number, step in enumerate(steps, 1) if step is not None}
    scenario = Scenario(ManualClock(), script, parts=6, concurrency=concurrency, choose=order.randrange)
    scenario.workers.meanwhile = lambda: scenario.control.pause() if len(scenario.workers.timeouts) == stop_at else None
    try:
        scenario.run()
    except (AccessDenied, TransferStopped, StopRequested):
        completed = False
    else:
        completed = True

    assert scenario.workers.in_flight == []
    assert scenario.state.in_flight_bytes() == 0
    assert len(scenario.uploaded) == len(set(scenario.uploaded))
    assert (sorted(scenario.uploaded) == [1, 2, 3, 4, 5, 6]) >= completed


class ManualClock:
    """A clock that the test sets."""

    def __init__(self):
        self.time = 1000.0

    def monotonic(self):
        return self.time


# --- samples of the throughput ---------------------------------------------------------------------------------------


class RecordingConcurrency(FixedConcurrency):
    """Three parts in flight; keeps the samples."""

    def __init__(self):
        super().__init__(3)
        self.interval = 0.01
        self.samples = []

    def sample(self, now, moved, in_flight, *, saturated):
        self.samples.append((moved, in_flight, saturated))


def test_the_throughput_is_sampled_while_all_workers_have_a_part(make_scenario, clock):
    scenario = make_scenario(parts=9, concurrency=3)
    scenario.workers.saturated = False
    scenario.scheduler._concurrency = recording = RecordingConcurrency()
    scenario.workers.meanwhile = lambda: setattr(clock, "time", clock.time + 0.1)
    scenario.run()

    assert [in_flight for _, in_flight, _ in recording.samples[:7]] == [3] * 7
    moved = [moved for moved, _, _ in recording.samples]
    assert moved == sorted(moved)


@pytest.mark.parametrize(("saturated", "limited"), [(True, False), (False, True), (False, False)])
def test_a_sample_says_what_else_limits_the_throughput(make_scenario, clock, saturated, limited):
    scenario = make_scenario(parts=9, concurrency=3)
    scenario.workers.saturated = saturated
    scenario.scheduler._concurrency = recording = RecordingConcurrency()
    if limited:
        scenario.state.limit = BandwidthLimit(1.0, clock)
        scenario.state.limit.acquire(1_000_000, scenario.state.stop)
    scenario.run()

    assert {saturated for _, _, saturated in recording.samples} == {saturated or limited}


def test_parts_that_are_done_are_recorded_before_a_read_that_may_block(make_scenario):
    scenario = make_scenario(parts=9, concurrency=9)
    scenario.scheduler._reads_may_block = True
    reads = []

    def parts():
        for number, body in scenario.part_bodies():
            reads.append((number, len(scenario.uploaded)))
            yield number, body

    scenario.scheduler.run(parts())

    assert reads[:5] == [(1, 0), (2, 0), (3, 0), (4, 0), (5, 1)]
    assert len(scenario.uploaded) == 9


def test_a_stream_is_read_on_while_no_part_is_done(make_scenario):
    scenario = make_scenario(parts=9, concurrency=9)
    scenario.scheduler._reads_may_block = True
    next_outcome = scenario.workers.next_outcome
    scenario.workers.next_outcome = lambda timeout: None if timeout == 0.0 else next_outcome(timeout)
    scenario.run()

    assert scenario.workers.most_in_flight == 9
