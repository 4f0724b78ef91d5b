"""The seam between the loop that decides and the workers that send."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import signal
import threading
import time
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from partwise._engine.throttle import BandwidthLimit, TransferState, TransferStopped
from partwise._engine.workers import ExecutorWorkers, InlineWorkers, Outcome, PartJob
from partwise.backends.local import LocalBackend
from partwise.backends.memory import MemoryBackend
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
from partwise.model import ObjectOptions, UploadedPart
from partwise.sources import BytesBody, FileBody

DATA = b"0123456789"


class Answering:
    """A backend of which only `upload_part` is there; it reads the body, unless told otherwise, and answers this."""

    def __init__(self, answer=None, *, reads=True):
        self.answer = answer
        self.reads = reads

    def upload_part(self, key, upload_id, part_number, body):
        if self.reads:
            list(body.chunks())
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer or UploadedPart(part_number, len(body), f"E{part_number}")


def job(number=1, backend=None, body=None):
    return PartJob(backend or Answering(), "key", "ID", number, body or BytesBody(DATA))


# --- one attempt -----------------------------------------------------------------------------------------------------


def test_the_receipt_has_the_checksum_of_what_was_read_here():
    assert job(3).run() == UploadedPart(3, 10, "E3", crc64(DATA))


def test_a_checksum_that_the_storage_reports_must_be_ours():
    assert job(backend=Answering(UploadedPart(1, 10, "E", crc64(DATA)))).run().crc64 == crc64(DATA)

    with pytest.raises(
        IntegrityError, match=r"part 1 of key did not arrive as it was sent: .*storage has 10 with 7"
    ) as e:
        job(backend=Answering(UploadedPart(1, 10, "E", 7))).run()
    assert e.value.retryable


def test_a_size_that_the_storage_reports_must_be_ours():
    with pytest.raises(IntegrityError, match=r"10 bytes .* the storage has 9"):
        job(backend=Answering(UploadedPart(1, 9, "E"))).run()


def test_a_receipt_for_bytes_that_were_never_read_is_not_believed():
    with pytest.raises(IntegrityError, match="with CRC-64 None were read here"):
        job(backend=Answering(reads=False)).run()


def test_a_receipt_for_another_part_is_not_believed():
    with pytest.raises(IntegrityError, match="part 1 of key was stored as part 2"):
        job(backend=Answering(UploadedPart(2, 10, "E"))).run()


@pytest.mark.parametrize("error", [ConnectionFailed("x"), SourceChanged("x"), TransferStopped("x")])
def test_errors_of_the_tree_pass_as_they_are(error):
    with pytest.raises(PartwiseError) as caught:
        job(backend=Answering(error)).run()

    assert caught.value is error


def test_any_other_exception_is_a_defect_and_permanent():
    with pytest.raises(BackendError, match=r"part 1 of key met a defect .*: ZeroDivisionError: oh") as caught:
        job(backend=Answering(ZeroDivisionError("oh"))).run()

    assert not caught.value.retryable
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


# --- in two steps ----------------------------------------------------------------------------------------------------


class Noting(Answering):
    """It notes the threads that it is called by."""

    def __init__(self):
        super().__init__()
        self.threads = []

    def upload_part(self, *arguments):
        self.threads.append(threading.current_thread())
        return super().upload_part(*arguments)


class Beginning(Answering):
    """It can begin parts, too; each step raises what it is told to."""

    def __init__(self, answer=None, *, begins=None):
        super().__init__(answer)
        self.begins = begins

    def upload_part(self, key, upload_id, part_number, body):
        return super().upload_part(key, upload_id, part_number, body)

    def begin_part(self, key, upload_id, part_number, body):
        if self.begins is not None:
            raise self.begins
        list(body.chunks())
        return lambda: Answering(self.answer, reads=False).upload_part(key, upload_id, part_number, body)


class SendsByItself(Beginning):
    """One that counts its parts, say, and knows nothing of two steps."""

    def upload_part(self, key, upload_id, part_number, body):
        return super().upload_part(key, upload_id, part_number, body)


class BeginsByItself(SendsByItself):
    def begin_part(self, key, upload_id, part_number, body):
        return super().begin_part(key, upload_id, part_number, body)


class Passing:
    """It passes on what it does not do itself, as many a wrapper does."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def upload_part(self, key, upload_id, part_number, body):
        return self._inner.upload_part(key, upload_id, part_number, body)


def replaced(backend):
    """As a test replaces a method of one instance."""
    backend.upload_part = Answering().upload_part
    return backend


def test_a_part_is_on_its_way_before_its_answer_is_waited_for():
    begun = job(3, Beginning())
    receipt = begun.begin()

    assert begun.pipelined
    assert begun.body.crc64 == crc64(DATA), "it was read"
    assert receipt() == UploadedPart(3, 10, "E3", crc64(DATA))


def test_without_two_steps_all_is_done_in_the_second():
    whole = job(3)
    receipt = whole.begin()

    assert not whole.pipelined
    assert whole.body.crc64 is None
    assert receipt() == UploadedPart(3, 10, "E3", crc64(DATA))


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        (Beginning(), True),
        (BeginsByItself(), True),
        (Answering(), False),
        (SendsByItself(), False),
        (Passing(Beginning()), False),
        (replaced(Beginning()), False),
    ],
    ids=["offers it", "offers it again", "does not", "inherits it only", "passes it on only", "replaced"],
)
def test_whoever_has_a_way_to_send_parts_of_its_own_is_sent_them_by_that(backend, expected):
    assert job(backend=backend).pipelined is expected


def test_a_receipt_that_is_waited_for_is_believed_as_little_as_any():
    with pytest.raises(IntegrityError, match="the storage has 10 with 7"):
        job(backend=Beginning(UploadedPart(1, 10, "E", 7))).begin()()


@pytest.mark.parametrize("error", [ConnectionFailed("x"), ZeroDivisionError("x")])
def test_errors_of_both_steps_are_those_of_one(error):
    expected = ConnectionFailed if isinstance(error, ConnectionFailed) else BackendError

    with pytest.raises(expected):
        job(backend=Beginning(begins=error)).begin()
    receipt = job(backend=Beginning(error)).begin()
    with pytest.raises(expected):
        receipt()


# --- inline ----------------------------------------------------------------------------------------------------------


def test_inline_sends_each_part_when_its_outcome_is_asked_for(clock):
    transport = InlineWorkers(clock)
    transport.submit(job(2))
    transport.submit(job(1))

    assert transport.next_outcome(None) == Outcome(2, part=UploadedPart(2, 10, "E2", crc64(DATA)))
    assert transport.next_outcome(None).part_number == 1
    assert clock.waits == []


def test_inline_waits_by_the_clock_with_nothing_to_send(clock):
    transport = InlineWorkers(clock)

    assert transport.next_outcome(5.0) is None
    assert transport.next_outcome(None) is None
    assert clock.waits == [5.0, 0.0]


def test_inline_is_woken_once(clock):
    transport = InlineWorkers(clock)
    transport.wake()
    transport.next_outcome(5.0)
    transport.next_outcome(5.0)

    assert clock.time == 1005.0, "the first wait was cut short"


@pytest.mark.parametrize("error", [ConnectionFailed("x"), KeyboardInterrupt(), SystemExit()])
def test_inline_hands_over_whatever_the_attempt_raised(clock, error):
    """It must: the loop waits for an outcome of each part that it submitted."""
    transport = InlineWorkers(clock)
    transport.submit(job(1, Answering(error)))

    assert transport.next_outcome(None) == Outcome(1, error=error)


def test_inline_takes_back_what_was_not_begun(clock):
    transport = InlineWorkers(clock)
    backend = Answering(AssertionError("it was sent"))
    transport.submit(job(1, backend))
    transport.submit(job(2, backend))
    transport.cancel_pending()
    outcomes = [transport.next_outcome(None), transport.next_outcome(None)]

    assert [outcome.part_number for outcome in outcomes] == [1, 2]
    assert {type(outcome.error) for outcome in outcomes} == {TransferStopped}


# --- over an executor ------------------------------------------------------------------------------------------------


class ByHand(Executor):
    """Hands out futures that the test settles."""

    def __init__(self):
        self.calls = []
        self.futures = []

    def submit(self, fn, /, *args, **kwargs):
        self.calls.append((fn, *args))
        self.futures.append(Future())
        return self.futures[-1]


@pytest.fixture
def by_hand():
    return ByHand()


def test_outcomes_come_as_they_finish(by_hand):
    transport = ExecutorWorkers(by_hand)
    transport.submit(job(1))
    transport.submit(job(2))
    receipts = [UploadedPart(1, 10, "E1"), UploadedPart(2, 10, "E2")]
    by_hand.futures[1].set_result(receipts[1])
    by_hand.futures[0].set_result(receipts[0])

    assert transport.next_outcome(None) == Outcome(2, part=receipts[1])
    assert transport.next_outcome(None) == Outcome(1, part=receipts[0])


def test_nothing_comes_before_its_time(by_hand):
    transport = ExecutorWorkers(by_hand)
    transport.submit(job(1))

    assert transport.next_outcome(0.0) is None
    assert transport.next_outcome(0.001) is None


def test_waking_makes_a_waiting_loop_look_up(by_hand):
    transport = ExecutorWorkers(by_hand)
    transport.submit(job(1))
    waker = threading.Timer(0.01, transport.wake)
    waker.start()

    assert transport.next_outcome(None) is None
    waker.join()


def test_errors_of_the_tree_are_the_outcome(by_hand):
    transport = ExecutorWorkers(by_hand)
    transport.submit(job(1))
    error = SourceChanged("x")
    by_hand.futures[0].set_exception(error)

    assert transport.next_outcome(None) == Outcome(1, error=error)


@pytest.mark.parametrize("error", [BrokenExecutor("gone"), CancelledError(), RuntimeError("killed"), OSError("x")])
def test_whatever_else_an_executor_says_is_a_lost_worker(by_hand, error):
    """Executors differ in their words. The part is tried again."""
    transport = ExecutorWorkers(by_hand)
    transport.submit(job(7))
    by_hand.futures[0].set_exception(error)
    outcome = transport.next_outcome(None)

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
def test_a_part_that_can_not_be_handed_to_a_worker_is_not_tried_again(by_hand, error):
    transport = ExecutorWorkers(by_hand)
    transport.submit(job(7))
    by_hand.futures[0].set_exception(error)
    outcome = transport.next_outcome(None)

    assert isinstance(outcome.error, BackendError)
    assert not outcome.error.retryable
    assert "part 7 can't be handed to a worker" in str(outcome.error)
    assert outcome.error.__cause__ is error


def test_an_end_of_the_program_is_the_outcome(by_hand):
    transport = ExecutorWorkers(by_hand)
    transport.submit(job(1))
    error = KeyboardInterrupt()
    by_hand.futures[0].set_exception(error)

    assert transport.next_outcome(None) == Outcome(1, error=error)


def test_recalling_takes_back_what_no_worker_has_begun(by_hand):
    transport = ExecutorWorkers(by_hand)
    transport.submit(job(1))
    transport.submit(job(2))
    by_hand.futures[0].set_running_or_notify_cancel()
    transport.cancel_pending()

    outcome = transport.next_outcome(None)
    assert outcome.part_number == 2
    assert isinstance(outcome.error.__cause__, CancelledError)
    assert transport.next_outcome(0.0) is None, "the first is under way, and stays so"


def test_once_recalled_an_outcome_that_an_interrupt_swallowed_is_had_all_the_same(by_hand):
    transport = ExecutorWorkers(by_hand)
    transport.submit(job(1))
    transport.submit(job(2))
    by_hand.futures[0].set_result(UploadedPart(1, 10, "E1"))
    transport._finished.get(timeout=30)
    by_hand.futures[1].set_running_or_notify_cancel()
    transport.cancel_pending()

    assert transport.next_outcome(None).part_number == 1
    assert not transport.idle
    by_hand.futures[1].set_result(UploadedPart(2, 10, "E2"))
    assert transport.next_outcome(None).part_number == 2
    assert transport.idle
    assert transport.next_outcome(None) is None


def test_once_recalled_with_nothing_under_way_there_is_nothing_to_wait_for(by_hand):
    transport = ExecutorWorkers(by_hand)
    transport.cancel_pending()
    asking = threading.Thread(target=transport.next_outcome, args=(30,), daemon=True)
    asking.start()
    asking.join(5)

    assert not asking.is_alive()


def test_what_is_submitted_after_a_recall_is_waited_for_as_before(by_hand):
    transport = ExecutorWorkers(by_hand)
    transport.cancel_pending()
    transport.submit(job(1))
    by_hand.futures[0].set_result(UploadedPart(1, 10, "E1"))
    assert transport.next_outcome(30).part_number == 1

    began = time.monotonic()
    assert transport.next_outcome(0.02) is None
    assert time.monotonic() - began >= 0.015, "with nothing under way it waits"


def test_what_may_have_been_begun_is_waited_for(by_hand):
    """The futures of some executors never say that they are running, and let themselves be cancelled while they are."""
    transport = ExecutorWorkers(by_hand)
    transport.submit(job(1))
    transport.submit(job(2))
    transport.cancel_pending()

    assert transport.next_outcome(0.0) is None
    by_hand.futures[0].set_result(UploadedPart(1, 10, "E1"))
    assert transport.next_outcome(None).part == UploadedPart(1, 10, "E1")


def test_what_waits_behind_the_work_of_others_is_taken_back():
    done = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(done.wait, 30)
        transport = ExecutorWorkers(executor)
        transport.submit(job(1))
        transport.cancel_pending()

        assert isinstance(transport.next_outcome(10).error.__cause__, CancelledError)
        done.set()


def test_no_two_attempts_are_the_same_call(by_hand):
    """Otherwise an executor may answer the second with what became of the first."""
    again = job(1)
    for transport in (ExecutorWorkers(by_hand), ExecutorWorkers(by_hand)):
        transport.submit(again)
        transport.submit(again)

    assert len(set(map(repr, by_hand.calls))) == 4
    assert {name for _, _, name in by_hand.calls}.isdisjoint({None, ""})


def test_an_executor_that_was_shut_down_refuses():
    executor = ThreadPoolExecutor(1)
    executor.shutdown()

    with pytest.raises(RuntimeError):
        ExecutorWorkers(executor).submit(job(1))


def test_threads_send_parts():
    with ThreadPoolExecutor(2) as executor:
        transport = ExecutorWorkers(executor)
        for number in (1, 2, 3):
            transport.submit(job(number))
        outcomes = [transport.next_outcome(30) for _ in range(3)]

    assert {outcome.part_number for outcome in outcomes} == {1, 2, 3}
    assert all(outcome.part.crc64 == crc64(DATA) for outcome in outcomes)


class Scarce(Executor):
    """An executor that can start only a few threads; like Python's, it keeps in its queue what it refuses."""

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
def test_the_loop_sends_what_an_executor_has_no_thread_for(error, count, caplog):
    with Scarce(count, error) as executor:
        transport, backend = ExecutorWorkers(executor), Noting()
        for number in (1, 2, 3):
            transport.submit(job(number, backend))
        outcomes = [transport.next_outcome(30) for _ in range(3)]

    assert {outcome.part_number for outcome in outcomes if outcome.part} == {1, 2, 3}
    assert backend.threads.count(threading.current_thread()) == 3 - count
    assert transport.idle
    assert caplog.text.count("the executor can't start more workers") == 1


def test_what_an_executor_refuses_and_keeps_is_not_sent_twice():
    executor, backend = Scarce(0, RuntimeError("can't start new thread")), Noting()
    transport = ExecutorWorkers(executor)
    transport.submit(job(1, backend))
    transport.next_outcome(30)
    [(send, arguments)] = executor.refused

    with pytest.raises(TransferStopped):
        send(*arguments)
    assert len(backend.threads) == 1


def test_what_the_loop_sends_for_an_executor_can_be_taken_back():
    transport = ExecutorWorkers(Scarce(0, RuntimeError("can't start new thread")))
    transport.submit(job(1))
    transport.cancel_pending()

    assert not transport.idle
    assert isinstance(transport.next_outcome(None).error, TransferStopped)
    assert transport.idle


def test_what_is_submitted_after_a_recall_is_sent():
    transport = ExecutorWorkers(Scarce(0, RuntimeError("can't start new thread")))
    transport.cancel_pending()
    transport.submit(job(1))

    assert transport.next_outcome(30).part is not None


# --- in other processes ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        yield executor


def test_a_process_sends_a_part_and_its_receipt_comes_home(processes, tmp_path):
    backend = LocalBackend(tmp_path / "bucket")
    upload_id = backend.initiate_upload("key", ObjectOptions())
    (tmp_path / "file").write_bytes(DATA)
    body = TransferState(BandwidthLimit(10**9, SystemClock()), shares=2).throttled(
        1, FileBody(str(tmp_path / "file"), 2, 5)
    )
    transport = ExecutorWorkers(processes)
    transport.submit(PartJob(backend, "key", upload_id, 1, body))
    outcome = transport.next_outcome(60)

    assert outcome.part.crc64 == crc64(DATA[2:7])
    assert [part.size for part in backend.list_parts("key", upload_id)] == [5]


def test_an_error_comes_home_from_a_process(processes, tmp_path):
    transport = ExecutorWorkers(processes)
    transport.submit(PartJob(LocalBackend(tmp_path / "bucket"), "key", "UNKNOWN", 1, BytesBody(DATA)))

    assert isinstance(transport.next_outcome(60).error, UploadNotFound)


def test_a_backend_that_can_not_go_to_a_process_says_so(processes):
    transport = ExecutorWorkers(processes)
    transport.submit(PartJob(MemoryBackend(), "key", "ID", 1, BytesBody(DATA)))
    outcome = transport.next_outcome(60)

    assert not outcome.error.retryable
    assert "a MemoryBackend can't be pickled" in str(outcome.error)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this platform has no FIFOs to wait at, nor SIGKILL")
def test_a_worker_that_was_killed_is_a_lost_worker(tmp_path):
    os.mkfifo(tmp_path / "fifo")  # nobody writes to it: whoever opens it waits
    backend = LocalBackend(tmp_path / "bucket")
    upload_id = backend.initiate_upload("key", ObjectOptions())
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        transport = ExecutorWorkers(executor)
        transport.submit(PartJob(backend, "key", upload_id, 1, FileBody(str(tmp_path / "fifo"), 0, 10)))
        for pid in list(executor._processes):
            os.kill(pid, signal.SIGKILL)
        outcome = transport.next_outcome(60)

        assert isinstance(outcome.error, ConnectionFailed)
        assert "the worker that was sending part 1 was lost" in str(outcome.error)
        with pytest.raises(BrokenExecutor):
            transport.submit(job(2))


def test_a_part_for_which_there_is_no_memory_is_tried_again(uploader, backend, source, monkeypatch):
    """As where a process has a small address space, and threads have taken most of it."""
    upload_part, scarce = backend.upload_part, iter([True, False, True])

    def hungry(*arguments):
        if next(scarce, False):
            raise MemoryError
        return upload_part(*arguments)

    monkeypatch.setattr(backend, "upload_part", hungry)

    assert uploader().upload(source, "key").verified
