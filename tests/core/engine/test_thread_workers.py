"""Parts sent by own threads: how many are started, how many work at a time, and how they stop."""

from __future__ import annotations

import threading
import time

import pytest

from partwise._engine.thread_workers import CpuSaturation, ThreadWorkers, WorkerSlots
from partwise._engine.throttle import TransferStopped
from partwise._engine.workers import Outcome, PartJob
from partwise.bodies import bytes_body
from partwise.checksums import crc64
from partwise.clock import SystemClock
from partwise.errors import ConnectionFailed
from partwise.model import UploadedPart

DATA = b"0123456789"


class FakeBackend:
    """A backend with `upload_part` only, which raises `error` if there is one."""

    def __init__(self, error=None):
        self.error = error
        self.threads = []

    def upload_part(self, key, upload_id, part_number, body):
        self.threads.append(threading.current_thread())
        list(body.chunks())
        if self.error is not None:
            raise self.error
        return UploadedPart(part_number, len(body), f"E{part_number}")


def job(number=1, backend=None):
    return PartJob(backend or FakeBackend(), "key", "ID", number, bytes_body(DATA))


class BlockingBackend(FakeBackend):
    """A backend that blocks each part until the test sets `proceed`."""

    def __init__(self):
        super().__init__()
        self.started = threading.Semaphore(0)
        self.proceed = threading.Event()

    def upload_part(self, key, upload_id, part_number, body):
        self.started.release()
        assert self.proceed.wait(30)
        return super().upload_part(key, upload_id, part_number, body)


class FrozenClock:
    """A clock that stands still, so that nothing switches the mode."""

    def monotonic(self):
        return 1000.0


@pytest.fixture
def make_workers():
    """Makes workers with up to this number of threads, and closes them."""
    made = []

    def make(count, clock=None, processors=None):
        made.append(ThreadWorkers(count, clock or SystemClock(), processors=processors))
        return made[-1]

    yield make
    for workers in made:
        workers.close()
        assert not any(thread.is_alive() for thread in workers._threads)


# --- sending ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 9])
def test_threads_send_parts(make_workers, count):
    workers = make_workers(count)
    for number in range(1, 6):
        workers.submit(job(number))
    outcomes = [workers.next_outcome(30) for _ in range(5)]

    assert {outcome.part_number for outcome in outcomes} == {1, 2, 3, 4, 5}
    assert all(outcome.part.checksum == crc64(DATA) for outcome in outcomes)
    assert len(workers._threads) == min(count, 5)


def test_no_more_threads_are_started_than_parts_are_in_flight(make_workers):
    workers = make_workers(9)
    for number in range(1, 6):
        workers.submit(job(number))
        workers.next_outcome(30)

    assert len(workers._threads) == 1


def test_a_thread_is_started_for_each_part_in_flight_after_earlier_parts_were_done(make_workers):
    workers, backend = make_workers(3), BlockingBackend()
    for number in (1, 2):
        workers.submit(job(number))
        assert workers.next_outcome(30).part_number == number
        workers.wake()
        assert workers.next_outcome(30) is None
    for number in (3, 4, 5):
        workers.submit(job(number, backend))
    started = [backend.started.acquire(timeout=5) for _ in range(3)]
    backend.proceed.set()

    assert started == [True] * 3


def test_next_outcome_waits_with_nothing_in_flight(make_workers):
    workers = make_workers(1)
    started = time.monotonic()

    assert workers.next_outcome(0.02) is None
    assert time.monotonic() - started >= 0.015


def test_a_thread_may_store_its_cpu_time_while_the_total_is_computed(make_workers):
    """Simulated by a value that stores another one while it is added."""
    workers = make_workers(1)

    class Storing(float):
        def __radd__(self, other):
            workers._cpu_seconds["another"] = 2.0
            return other + float(self)

    workers._cpu_seconds["one"] = Storing(1.0)

    assert workers._total_cpu() == 1.0
    assert workers._total_cpu() == 3.0


def test_threads_do_not_keep_the_program_from_ending(make_workers):
    workers = make_workers(1)
    workers.submit(job(1))
    workers.next_outcome(30)

    assert all(thread.daemon for thread in workers._threads)


@pytest.mark.parametrize("error", [ConnectionFailed("x"), KeyboardInterrupt(), SystemExit()])
def test_whatever_an_attempt_raises_is_its_outcome(make_workers, error):
    workers = make_workers(1)
    workers.submit(job(1, FakeBackend(error)))

    assert workers.next_outcome(30) == Outcome(1, error=error)


def test_next_outcome_returns_none_before_a_part_is_done(make_workers):
    workers, backend = make_workers(1), BlockingBackend()
    workers.submit(job(1, backend))

    assert workers.next_outcome(0.0) is None
    backend.proceed.set()
    assert workers.next_outcome(30).part_number == 1


def test_wake_makes_next_outcome_return_none(make_workers):
    workers, backend = make_workers(1), BlockingBackend()
    workers.submit(job(1, backend))
    workers.wake()

    assert workers.next_outcome(None) is None
    backend.proceed.set()
    assert workers.next_outcome(30).part_number == 1


def test_cancel_pending_cancels_the_parts_that_no_thread_has_started(make_workers):
    workers, backend = make_workers(1), BlockingBackend()
    for number in (1, 2, 3):
        workers.submit(job(number, backend))
    assert backend.started.acquire(timeout=30)
    workers.cancel_pending()
    backend.proceed.set()
    outcomes = {outcome.part_number: outcome for outcome in (workers.next_outcome(30) for _ in range(3))}

    assert outcomes[1].part is not None
    assert {type(outcomes[number].error) for number in (2, 3)} == {TransferStopped}


def test_after_cancel_pending_an_outcome_lost_to_an_interrupt_is_not_awaited(make_workers):
    workers, backend = make_workers(2), BlockingBackend()
    workers.submit(job(1))
    assert workers._finished.get(timeout=30).part_number == 1, "taken from the queue, as if interrupted then"
    workers.submit(job(2, backend))
    assert backend.started.acquire(timeout=30)
    workers.cancel_pending()
    workers.wake()
    assert not workers.idle
    backend.proceed.set()

    outcomes = []
    while not workers.idle:
        outcomes.append(workers.next_outcome(None))
    assert [outcome.part_number for outcome in outcomes if outcome] == [2]
    assert workers.next_outcome(None) is None


def test_parts_can_be_cancelled_again_though_none_was_submitted_since(make_workers):
    """As after a completion that is repeated, and for which no part has to be sent."""
    workers = make_workers(1)
    workers.submit(job(1))
    workers.cancel_pending()
    while not workers.idle:
        workers.next_outcome(None)
    workers.cancel_pending()

    assert workers.next_outcome(None) is None
    workers.close()


def test_stopped_threads_are_replaced_when_another_part_is_submitted(make_workers):
    workers = make_workers(2)
    workers.submit(job(1))
    workers.cancel_pending()
    while not workers.idle:
        workers.next_outcome(None)
    workers.submit(job(2))

    assert workers.next_outcome(30).part_number == 2


def test_the_threads_that_replace_stopped_ones_are_measured_anew(make_workers):
    """The time in which nothing was sent would count, and all of the new threads may work."""
    workers = make_workers(2)
    workers._saturation.saturated = True
    workers._cpu_seconds["partwise-1"] = 100.0
    workers.cancel_pending()
    workers.submit(job(1))

    assert not workers.saturated
    assert workers.next_outcome(30).part_number == 1
    assert workers._total_cpu() < 100.0


# --- where threads can't be started ----------------------------------------------------------------------------------


@pytest.fixture
def limit_threads(monkeypatch):
    """Lets only this number of threads be started; after that `Thread.start` raises `error`."""

    def limit(count, error=None):
        error = error or RuntimeError("can't start new thread")
        start, left = threading.Thread.start, count

        def limited_start(thread):
            nonlocal left
            left -= 1
            if left < 0:
                raise error
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", limited_start)

    return limit


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_parts_are_sent_by_the_threads_there_are_or_else_inline(make_workers, limit_threads, caplog, count, error):
    limit_threads(count, error)
    workers, backend = make_workers(4), FakeBackend()
    for number in range(1, 10):
        workers.submit(job(number, backend))
    outcomes = {workers.next_outcome(30).part_number for _ in range(9)}

    assert outcomes == set(range(1, 10))
    assert len(workers._threads) == count
    assert (threading.current_thread() in backend.threads) is (count == 0)
    assert [record.getMessage() for record in caplog.records] == [
        f"can't start more threads: {error}; sending parts by {max(1, count)}"
    ]


def test_no_thread_is_started_that_would_take_the_last_of_the_address_space(make_workers, monkeypatch, caplog):
    """There may be space for its stack, but then parts would fail for lack of memory."""
    monkeypatch.setattr("partwise._engine.thread_workers._THREAD_HEADROOM", 1 << 60)
    workers = make_workers(4)
    for number in range(1, 10):
        workers.submit(job(number, FakeBackend()))
    outcomes = {workers.next_outcome(30).part_number for _ in range(9)}

    assert outcomes == set(range(1, 10))
    assert len(workers._threads) == 1
    assert "no memory for another thread; sending parts by 1" in caplog.text


def test_parts_that_wait_to_be_sent_inline_for_lack_of_threads_can_be_cancelled(make_workers, limit_threads):
    limit_threads(0)
    workers = make_workers(2)
    for number in (1, 2):
        workers.submit(job(number))
    workers.cancel_pending()
    outcomes = [workers.next_outcome(None) for _ in range(2)]

    assert {type(outcome.error) for outcome in outcomes} == {TransferStopped}
    assert workers.idle


def test_other_errors_while_a_thread_is_started_propagate(make_workers, limit_threads):
    limit_threads(0, RuntimeError("cannot be started at interpreter shutdown"))
    workers = make_workers(1)

    with pytest.raises(RuntimeError, match="interpreter shutdown"):
        workers.submit(job(1))


# --- inline mode -----------------------------------------------------------------------------------------------------


def test_in_inline_mode_the_scheduler_thread_sends_parts(make_workers):
    workers, backend = make_workers(2, FrozenClock()), FakeBackend()
    workers._switch.inline = True
    for number in (1, 2):
        workers.submit(job(number, backend))

    assert [workers.next_outcome(30).part_number for _ in range(2)] == [1, 2]
    assert set(backend.threads) == {threading.current_thread()}


def test_parts_that_wait_to_be_sent_inline_go_to_threads_after_a_switch(make_workers):
    workers, backend = make_workers(2, FrozenClock()), FakeBackend()
    workers._switch.inline = True
    for number in (1, 2, 3):
        workers.submit(job(number, backend))
    workers._switch.part_done = lambda now: setattr(workers._switch, "inline", False)

    assert {workers.next_outcome(30).part_number for _ in range(3)} == {1, 2, 3}
    assert backend.threads[0] is threading.current_thread()
    assert threading.current_thread() not in backend.threads[1:]


def test_parts_that_wait_to_be_sent_inline_can_be_cancelled(make_workers):
    workers = make_workers(2, FrozenClock())
    workers._switch.inline = True
    workers.submit(job(1))
    workers.submit(job(2))
    workers.cancel_pending()
    outcomes = [workers.next_outcome(30), workers.next_outcome(30)]

    assert {outcome.part_number for outcome in outcomes} == {1, 2}
    assert {type(outcome.error) for outcome in outcomes} == {TransferStopped}


def test_wake_takes_effect_before_the_next_inline_part(make_workers):
    workers = make_workers(2, FrozenClock())
    workers._switch.inline = True
    workers.submit(job(1))
    workers.wake()

    assert workers.next_outcome(30) is None
    assert workers.next_outcome(30).part_number == 1


# --- CPU saturation --------------------------------------------------------------------------------------------------


class SampledCpu:
    """A `CpuSaturation`, and counters of elapsed and processor time that advance with each part."""

    def __init__(self, processors):
        self.saturation = CpuSaturation(processors)
        self.now = self.used = 0.0

    def parts(self, count, seconds, used):
        """Let `count` parts be done, each after `seconds` that took `used` seconds of processor time."""
        for _ in range(count):
            self.now += seconds
            self.used += used
            self.saturation.part_done(self.now, lambda: self.used)
        return self.saturation.saturated


@pytest.mark.parametrize(
    ("processors", "used", "saturated"),
    [(1, 0.9, True), (2, 0.9, True), (2, 1.2, True), (4, 0.9, False), (4, 2.4, True), (2, 0.3, False), (1, 0.0, False)],
)
def test_processors_are_saturated_when_threads_use_a_large_share_of_their_time(processors, used, saturated):
    assert SampledCpu(processors).parts(5, seconds=1.0, used=used) is saturated


@pytest.mark.parametrize(("used", "saturated"), [(0.79, False), (0.81, True)])
def test_processors_become_saturated_at_two_fifths_of_their_time(used, saturated):
    assert SampledCpu(2).parts(5, seconds=1.0, used=used) is saturated


@pytest.mark.parametrize(("used", "saturated"), [(0.49, False), (0.51, True)])
def test_saturation_ends_below_a_quarter_of_the_time(used, saturated):
    cpu = SampledCpu(2)
    cpu.parts(5, seconds=1.0, used=1.8)

    assert cpu.parts(4, seconds=1.0, used=used) is saturated


def test_processor_time_is_sampled_at_every_fourth_part():
    cpu = SampledCpu(1)

    assert [cpu.parts(1, seconds=1.0, used=0.9) for _ in range(5)] == [False, False, False, False, True]
    assert [cpu.parts(1, seconds=1.0, used=0.0) for _ in range(4)] == [True, True, True, False]


def test_parts_that_are_done_at_the_same_clock_tick_are_measured():
    assert SampledCpu(1).parts(5, seconds=0.0, used=0.1)


def test_the_time_before_the_first_part_is_not_measured():
    """Connections are made and checkpoints are synced in it."""
    cpu = SampledCpu(2)
    cpu.now = 1000.0

    assert cpu.parts(5, seconds=0.001, used=0.0018)


def test_saturation_ends_when_the_network_becomes_slower():
    cpu = SampledCpu(2)

    assert cpu.parts(5, seconds=1.0, used=1.8)
    assert cpu.parts(4, seconds=1.0, used=0.7), "below the upper threshold, above the lower one"
    assert not cpu.parts(4, seconds=1.0, used=0.4)
    assert not cpu.parts(4, seconds=1.0, used=0.7), "above the lower threshold, below the upper one"


# --- worker slots ----------------------------------------------------------------------------------------------------


def test_resizing_changes_the_number_of_slots():
    slots = WorkerSlots(4)
    for _ in range(3):
        slots.acquire()
    slots.resize(2)  # the free one is removed; one of the three that are held is surplus
    keeping = threading.Thread(target=slots.keep, daemon=True)
    keeping.start()
    keeping.join(0.05)
    waits = keeping.is_alive()
    slots.resize(3)
    keeping.join(30)

    assert (waits, keeping.is_alive()) == (True, False)


def test_a_slot_that_is_not_surplus_is_kept():
    slots = WorkerSlots(2)
    slots.acquire()
    slots.keep()
    slots.keep()
    slots.acquire()
    slots.resize(1)
    slots.release()  # the surplus one
    slots.keep()


class FixedSaturation:
    """A `CpuSaturation` whose result the test sets."""

    def __init__(self, saturated):
        self.saturated = saturated

    def part_done(self, now, total_cpu):
        assert total_cpu() >= 0.0


class CountingSaturation:
    """Counts the parts that it is called for."""

    saturated = False

    def __init__(self):
        self.parts = 0

    def part_done(self, now, total_cpu):
        self.parts += 1


class NeverInline:
    """An `InlineSwitch` that always leaves parts to threads."""

    inline = False

    def part_done(self, now):
        pass


@pytest.mark.parametrize(("processors", "samples"), [(1, 5), (2, 5), (3, 0), (4, 0)])
def test_saturation_is_measured_where_there_are_fewer_processors_than_threads(make_workers, processors, samples):
    workers, saturation = make_workers(3, FrozenClock(), processors=processors), CountingSaturation()
    workers._saturation, workers._switch = saturation, NeverInline()
    send(workers, FakeBackend(), range(1, 6), 1)

    assert saturation.parts == samples


def test_saturation_is_not_measured_in_inline_mode(make_workers):
    workers, saturation = make_workers(3, FrozenClock(), processors=1), CountingSaturation()
    workers._saturation = saturation
    workers._switch.inline = True
    send(workers, FakeBackend(), range(1, 6), 1)

    assert saturation.parts == 0


class ConcurrencyCountingBackend(FakeBackend):
    """A backend that records the `most` threads in it at a time. It holds each at `barrier` until enough have come."""

    def __init__(self):
        super().__init__()
        self.inside = self.most = 0
        self.lock = threading.Lock()
        self.barrier = threading.Barrier(1)

    def upload_part(self, key, upload_id, part_number, body):
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            self.barrier.wait(30)
            time.sleep(0.002)  # other threads enter meanwhile, if they may
            return super().upload_part(key, upload_id, part_number, body)
        finally:
            with self.lock:
                self.inside -= 1


def send(workers, backend, numbers, in_flight):
    """Send these parts, `in_flight` at a time."""
    submitted = 0
    for number in numbers:
        workers.submit(job(number, backend))
        submitted += 1
        if submitted == in_flight:
            assert workers.next_outcome(30).part is not None
            submitted -= 1
    for _ in range(submitted):
        assert workers.next_outcome(30).part is not None


@pytest.fixture
def saturated(make_workers):
    """Six threads on one saturated processor, which has already limited them, and their backend."""
    workers, backend = make_workers(6, processors=1), ConcurrencyCountingBackend()
    workers._saturation, workers._switch = FixedSaturation(saturated=True), NeverInline()
    backend.barrier = threading.Barrier(6)  # so that all of them are started
    send(workers, backend, range(1, 7), 6)
    backend.barrier = threading.Barrier(1)
    send(workers, backend, range(7, 30), 6)
    return workers, backend


def test_no_more_threads_work_at_a_time_than_there_are_saturated_processors(saturated):
    workers, backend = saturated
    backend.most = 0
    send(workers, backend, range(60, 80), 6)

    assert len(workers._threads) == 6
    assert backend.most == 1


def test_all_threads_work_again_after_saturation(saturated):
    workers, backend = saturated
    workers._saturation.saturated = False
    send(workers, backend, [60], 1)
    backend.barrier = threading.Barrier(6)
    backend.most = 0
    send(workers, backend, range(61, 67), 6)

    assert backend.most == 6


def test_threads_that_wait_for_a_slot_exit_with_the_others(saturated):
    workers, _ = saturated
    workers.close()

    assert not any(thread.is_alive() for thread in workers._threads)
