"""One attempt at a part, and the workers that make it: inline, or over an executor."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
import pickle
import signal
import threading
import time
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from partwise._engine.throttle import BandwidthLimit, ThrottledBody, TransferState, TransferStopped
from partwise._engine.workers import ExecutorWorkers, InlineWorkers, Outcome, PartJob, _superseded
from partwise.backends.local import LocalBackend
from partwise.backends.memory import MemoryBackend
from partwise.bodies import ChecksummedBody, bytes_body
from partwise.checksums import crc64
from partwise.clock import SystemClock
from partwise.errors import (
    BackendError,
    ConnectionFailed,
    IntegrityError,
    PartwiseError,
    SourceChanged,
    UploadNotFound,
)
from partwise.model import Capabilities, ObjectOptions, UploadedPart
from partwise.sources import FileBody

DATA = b"0123456789"


class FakeBackend:
    """A backend with `upload_part` only. It reads the body, then returns `result` or raises it."""

    capabilities = Capabilities()

    def __init__(self, result=None, *, reads=True):
        self.result = result
        self.reads = reads

    def upload_part(self, key, upload_id, part_number, body):
        if self.reads:
            list(body.chunks())
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result or UploadedPart(part_number, len(body), f"E{part_number}")


class ThreadRecordingBackend(FakeBackend):
    """A backend that records the threads that call it."""

    def __init__(self):
        super().__init__()
        self.threads = []

    def upload_part(self, *arguments):
        self.threads.append(threading.current_thread())
        return super().upload_part(*arguments)


def job(number=1, backend=None, body=None):
    return PartJob(backend or FakeBackend(), "key", "ID", number, body or bytes_body(DATA))


# --- one attempt -----------------------------------------------------------------------------------------------------


def test_the_part_has_the_checksum_of_the_bytes_that_were_read():
    assert job(3).run() == UploadedPart(3, 10, "E3", crc64(DATA))


def test_a_reported_checksum_must_match_the_bytes_that_were_read():
    assert job(backend=FakeBackend(UploadedPart(1, 10, "E", crc64(DATA)))).run().checksum == crc64(DATA)

    with pytest.raises(
        IntegrityError, match=r"part 1 of key does not match what was sent: .* reports 10 bytes with the checksum 7"
    ) as e:
        job(backend=FakeBackend(UploadedPart(1, 10, "E", 7))).run()
    assert e.value.retryable


def test_a_reported_size_must_match_the_bytes_that_were_read():
    with pytest.raises(IntegrityError, match=r"10 bytes .* the storage reports 9 bytes"):
        job(backend=FakeBackend(UploadedPart(1, 9, "E"))).run()


def test_a_part_whose_body_was_not_read_is_rejected():
    with pytest.raises(IntegrityError, match="with the checksum None were read here"):
        job(backend=FakeBackend(reads=False)).run()


def test_a_part_with_another_number_is_rejected():
    with pytest.raises(IntegrityError, match="part 1 of key was stored as part 2"):
        job(backend=FakeBackend(UploadedPart(2, 10, "E"))).run()


@pytest.mark.parametrize("error", [ConnectionFailed("x"), SourceChanged("x"), TransferStopped("x")])
def test_partwise_errors_propagate_unchanged(error):
    with pytest.raises(PartwiseError) as caught:
        job(backend=FakeBackend(error)).run()

    assert caught.value is error


def test_any_other_exception_is_a_defect_and_not_retryable():
    with pytest.raises(
        BackendError, match=r"part 1 of key failed because of a defect .*: ZeroDivisionError: oh"
    ) as caught:
        job(backend=FakeBackend(ZeroDivisionError("oh"))).run()

    assert not caught.value.retryable
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


# --- inline ----------------------------------------------------------------------------------------------------------


def test_inline_workers_send_each_part_when_its_outcome_is_requested(clock):
    workers = InlineWorkers(clock)
    workers.submit(job(2))
    workers.submit(job(1))

    assert workers.next_outcome(None) == Outcome(2, part=UploadedPart(2, 10, "E2", crc64(DATA)))
    assert workers.next_outcome(None).part_number == 1
    assert clock.waits == []


def test_inline_workers_wait_by_the_clock_with_nothing_to_send(clock):
    workers = InlineWorkers(clock)

    assert workers.next_outcome(5.0) is None
    assert workers.next_outcome(None) is None
    assert clock.waits == [5.0, 0.0]


def test_wake_ends_one_wait_of_inline_workers(clock):
    workers = InlineWorkers(clock)
    workers.wake()
    workers.next_outcome(5.0)
    workers.next_outcome(5.0)

    assert clock.time == 1005.0, "the first wait was cut short"


@pytest.mark.parametrize("error", [ConnectionFailed("x"), KeyboardInterrupt(), SystemExit()])
def test_whatever_an_attempt_raises_is_its_outcome(clock, error):
    """The scheduler waits for an outcome of each part that it submitted."""
    workers = InlineWorkers(clock)
    workers.submit(job(1, FakeBackend(error)))

    assert workers.next_outcome(None) == Outcome(1, error=error)


def test_inline_workers_cancel_what_was_not_started(clock):
    workers = InlineWorkers(clock)
    backend = FakeBackend(AssertionError("it was sent"))
    workers.submit(job(1, backend))
    workers.submit(job(2, backend))
    workers.cancel_pending()
    outcomes = [workers.next_outcome(None), workers.next_outcome(None)]

    assert [outcome.part_number for outcome in outcomes] == [1, 2]
    assert {type(outcome.error) for outcome in outcomes} == {TransferStopped}


# --- over an executor ------------------------------------------------------------------------------------------------


class ManualExecutor(Executor):
    """Returns futures whose results the test sets."""

    def __init__(self):
        self.calls = []
        self.futures = []

    def submit(self, fn, /, *args, **kwargs):
        self.calls.append((fn, *args))
        self.futures.append(Future())
        return self.futures[-1]


@pytest.fixture
def executor():
    return ManualExecutor()


def test_outcomes_come_in_the_order_in_which_parts_finish(executor):
    workers = ExecutorWorkers(executor)
    workers.submit(job(1))
    workers.submit(job(2))
    parts = [UploadedPart(1, 10, "E1"), UploadedPart(2, 10, "E2")]
    executor.futures[1].set_result(parts[1])
    executor.futures[0].set_result(parts[0])

    assert workers.next_outcome(None) == Outcome(2, part=parts[1])
    assert workers.next_outcome(None) == Outcome(1, part=parts[0])


def test_next_outcome_returns_none_before_a_part_is_done(executor):
    workers = ExecutorWorkers(executor)
    workers.submit(job(1))

    assert workers.next_outcome(0.0) is None
    assert workers.next_outcome(0.001) is None


def test_wake_makes_next_outcome_return_none(executor):
    workers = ExecutorWorkers(executor)
    workers.submit(job(1))
    waker = threading.Timer(0.01, workers.wake)
    waker.start()

    assert workers.next_outcome(None) is None
    waker.join()


def test_a_partwise_error_is_the_outcome(executor):
    workers = ExecutorWorkers(executor)
    workers.submit(job(1))
    error = SourceChanged("x")
    executor.futures[0].set_exception(error)

    assert workers.next_outcome(None) == Outcome(1, error=error)


@pytest.mark.parametrize("error", [BrokenExecutor("gone"), CancelledError(), RuntimeError("killed"), OSError("x")])
def test_any_other_exception_from_an_executor_is_a_lost_worker(executor, error):
    """Each executor uses other exceptions for it. The part is retried."""
    workers = ExecutorWorkers(executor)
    workers.submit(job(7))
    executor.futures[0].set_exception(error)
    outcome = workers.next_outcome(None)

    assert isinstance(outcome.error, ConnectionFailed)
    assert "the worker that was sending part 7 was lost" in str(outcome.error)
    assert outcome.error.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        pickle.PicklingError("no"),
        TypeError("cannot pickle"),
        AttributeError("Can't pickle local object"),
        ModuleNotFoundError("No module named 'mine'"),
    ],
)
def test_a_part_that_can_not_be_pickled_is_not_retried(executor, error):
    workers = ExecutorWorkers(executor)
    workers.submit(job(7))
    executor.futures[0].set_exception(error)
    outcome = workers.next_outcome(None)

    assert isinstance(outcome.error, BackendError)
    assert not outcome.error.retryable
    assert "part 7 can't be sent to a worker" in str(outcome.error)
    assert outcome.error.__cause__ is error


def test_a_keyboard_interrupt_in_a_worker_is_the_outcome(executor):
    workers = ExecutorWorkers(executor)
    workers.submit(job(1))
    error = KeyboardInterrupt()
    executor.futures[0].set_exception(error)

    assert workers.next_outcome(None) == Outcome(1, error=error)


def test_cancel_pending_cancels_what_no_worker_has_started(executor):
    workers = ExecutorWorkers(executor)
    workers.submit(job(1))
    workers.submit(job(2))
    executor.futures[0].set_running_or_notify_cancel()
    workers.cancel_pending()

    outcome = workers.next_outcome(None)
    assert outcome.part_number == 2
    assert isinstance(outcome.error.__cause__, CancelledError)
    assert workers.next_outcome(0.0) is None, "the first one stays in flight"


def test_after_cancel_pending_an_outcome_lost_to_an_interrupt_is_recovered(executor):
    workers = ExecutorWorkers(executor)
    workers.submit(job(1))
    workers.submit(job(2))
    executor.futures[0].set_result(UploadedPart(1, 10, "E1"))
    workers._finished.get(timeout=30)
    executor.futures[1].set_running_or_notify_cancel()
    workers.cancel_pending()

    assert workers.next_outcome(None).part_number == 1
    assert not workers.idle
    executor.futures[1].set_result(UploadedPart(2, 10, "E2"))
    assert workers.next_outcome(None).part_number == 2
    assert workers.idle
    assert workers.next_outcome(None) is None


def test_after_cancel_pending_next_outcome_does_not_wait_with_nothing_in_flight(executor):
    workers = ExecutorWorkers(executor)
    workers.cancel_pending()
    waiting = threading.Thread(target=workers.next_outcome, args=(30,), daemon=True)
    waiting.start()
    waiting.join(5)

    assert not waiting.is_alive()


def test_submit_ends_the_effect_of_cancel_pending(executor):
    workers = ExecutorWorkers(executor)
    workers.cancel_pending()
    workers.submit(job(1))
    executor.futures[0].set_result(UploadedPart(1, 10, "E1"))
    assert workers.next_outcome(30).part_number == 1

    started = time.monotonic()
    assert workers.next_outcome(0.02) is None
    assert time.monotonic() - started >= 0.015, "with nothing in flight it waits"


def test_futures_that_do_not_report_running_are_not_cancelled(executor):
    """The futures of some executors never report that they are running, and can be cancelled while they are."""
    workers = ExecutorWorkers(executor)
    workers.submit(job(1))
    workers.submit(job(2))
    workers.cancel_pending()

    assert workers.next_outcome(0.0) is None
    executor.futures[0].set_result(UploadedPart(1, 10, "E1"))
    assert workers.next_outcome(None).part == UploadedPart(1, 10, "E1")


def test_a_part_that_is_queued_behind_other_work_is_cancelled():
    done = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(done.wait, 30)
        workers = ExecutorWorkers(executor)
        workers.submit(job(1))
        workers.cancel_pending()

        assert isinstance(workers.next_outcome(10).error.__cause__, CancelledError)
        done.set()


def test_no_two_attempts_are_equal_calls(executor):
    """Otherwise an executor may return the result of the first one for the second."""
    attempt = job(1)
    for workers in (ExecutorWorkers(executor), ExecutorWorkers(executor)):
        workers.submit(attempt)
        workers.submit(attempt)

    assert len(set(map(repr, executor.calls))) == 4
    assert {name for _, _, name in executor.calls}.isdisjoint({None, ""})


def test_an_executor_that_was_shut_down_rejects_parts():
    executor = ThreadPoolExecutor(1)
    executor.shutdown()

    with pytest.raises(RuntimeError):
        ExecutorWorkers(executor).submit(job(1))


def test_a_thread_pool_sends_parts():
    with ThreadPoolExecutor(2) as executor:
        workers = ExecutorWorkers(executor)
        for number in (1, 2, 3):
            workers.submit(job(number))
        outcomes = [workers.next_outcome(30) for _ in range(3)]

    assert {outcome.part_number for outcome in outcomes} == {1, 2, 3}
    assert all(outcome.part.checksum == crc64(DATA) for outcome in outcomes)


class LimitedExecutor(Executor):
    """An executor that can start `count` threads. Like Python's, it leaves in its queue what it refuses."""

    def __init__(self, count, error):
        self._inner = ThreadPoolExecutor(count or 1)
        self._left = count
        self._error = error
        self.refused = []

    def submit(self, fn, /, *args, **kwargs):
        if self._left == 0:
            self.refused.append((fn, args))
            raise self._error
        self._left -= 1
        return self._inner.submit(fn, *args, **kwargs)

    def shutdown(self, wait=True, *, cancel_futures=False):
        self._inner.shutdown(wait)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("can't start new thread"), MemoryError(), BlockingIOError(errno.EAGAIN, "again"), OSError(12, "no")],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_scheduler_thread_sends_parts_for_which_no_thread_can_be_started(error, count, caplog):
    with LimitedExecutor(count, error) as executor:
        workers, backend = ExecutorWorkers(executor), ThreadRecordingBackend()
        for number in (1, 2, 3):
            workers.submit(job(number, backend))
        outcomes = [workers.next_outcome(30) for _ in range(3)]

    assert {outcome.part_number for outcome in outcomes if outcome.part} == {1, 2, 3}
    assert backend.threads.count(threading.current_thread()) == 3 - count
    assert workers.idle
    assert caplog.text.count("the executor can't start more workers") == 1


def test_a_part_that_an_executor_refused_but_queued_is_sent_once():
    executor, backend = LimitedExecutor(0, RuntimeError("can't start new thread")), ThreadRecordingBackend()
    workers = ExecutorWorkers(executor)
    workers.submit(job(1, backend))
    workers.next_outcome(30)
    [(send, arguments)] = executor.refused

    with pytest.raises(TransferStopped):
        send(*arguments)
    assert len(backend.threads) == 1
    assert arguments[1] not in _superseded, "it takes no memory any more"


def test_a_part_that_an_executor_refused_and_dropped_takes_no_memory_once_it_is_sent():
    error = RuntimeError("can't start new thread")
    executor = LimitedExecutor(0, error)
    workers = ExecutorWorkers(executor)
    workers.submit(job(1))
    attempt_id = executor.refused[0][1][1]
    assert attempt_id in _superseded
    executor.refused.clear()
    workers.next_outcome(30)
    error.__traceback__ = None  # its frames have the part, and the log of the test has the error
    gc.collect()

    assert attempt_id not in _superseded


def test_a_part_that_waits_to_be_sent_inline_can_be_cancelled():
    workers = ExecutorWorkers(LimitedExecutor(0, RuntimeError("can't start new thread")))
    workers.submit(job(1))
    workers.cancel_pending()

    assert not workers.idle
    assert isinstance(workers.next_outcome(None).error, TransferStopped)
    assert workers.idle


def test_a_part_submitted_after_cancel_pending_is_sent_inline():
    workers = ExecutorWorkers(LimitedExecutor(0, RuntimeError("can't start new thread")))
    workers.cancel_pending()
    workers.submit(job(1))

    assert workers.next_outcome(30).part is not None


# --- in other processes ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        yield executor


def test_a_process_sends_a_part_and_returns_it(processes, tmp_path):
    backend = LocalBackend(tmp_path / "bucket")
    upload_id = backend.initiate_upload("key", ObjectOptions())
    (tmp_path / "file").write_bytes(DATA)
    body = ThrottledBody(
        FileBody(str(tmp_path / "file"), 2, 5), 1, TransferState(BandwidthLimit(10**9, SystemClock()), shares=2)
    )
    workers = ExecutorWorkers(processes)
    workers.submit(PartJob(backend, "key", upload_id, 1, body))
    outcome = workers.next_outcome(60)

    assert outcome.part.checksum == crc64(DATA[2:7])
    assert [part.size for part in backend.list_parts("key", upload_id)] == [5]


def test_an_error_is_returned_from_a_process(processes, tmp_path):
    workers = ExecutorWorkers(processes)
    workers.submit(PartJob(LocalBackend(tmp_path / "bucket"), "key", "UNKNOWN", 1, bytes_body(DATA)))

    assert isinstance(workers.next_outcome(60).error, UploadNotFound)


def test_a_backend_that_can_not_be_pickled_is_named_in_the_error(processes):
    workers = ExecutorWorkers(processes)
    workers.submit(PartJob(MemoryBackend(), "key", "ID", 1, bytes_body(DATA)))
    outcome = workers.next_outcome(60)

    assert not outcome.error.retryable
    assert "a MemoryBackend can't be pickled" in str(outcome.error)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this platform has no FIFO to block on, nor SIGKILL")
def test_a_killed_worker_is_a_lost_worker(tmp_path):
    os.mkfifo(tmp_path / "fifo")  # opening it blocks, since it has no writer
    backend = LocalBackend(tmp_path / "bucket")
    upload_id = backend.initiate_upload("key", ObjectOptions())
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        workers = ExecutorWorkers(executor)
        workers.submit(PartJob(backend, "key", upload_id, 1, ChecksummedBody(FileBody(str(tmp_path / "fifo"), 0, 10))))
        for pid in list(executor._processes):
            os.kill(pid, signal.SIGKILL)
        outcome = workers.next_outcome(60)

        assert isinstance(outcome.error, ConnectionFailed)
        assert "the worker that was sending part 1 was lost" in str(outcome.error)
        with pytest.raises(BrokenExecutor):
            workers.submit(job(2))


def test_a_part_that_runs_out_of_memory_is_retried(uploader, backend, source, monkeypatch):
    """As in a process with a small address space, most of which its threads have taken."""
    upload_part, fails = backend.upload_part, iter([True, False, True])

    def out_of_memory(*arguments):
        if next(fails, False):
            raise MemoryError
        return upload_part(*arguments)

    monkeypatch.setattr(backend, "upload_part", out_of_memory)

    assert uploader().upload(source, "key").verified
