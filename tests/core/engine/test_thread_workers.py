"""Parts sent by threads of our own, and by the loop itself where they are quick."""

from __future__ import annotations

import threading
import time

import pytest

from partwise._engine.thread_workers import Load, Places, Tempo, ThreadWorkers
from partwise._engine.throttle import TransferStopped
from partwise._engine.workers import Outcome, PartJob
from partwise.checksums import crc64
from partwise.clock import SystemClock
from partwise.errors import ConnectionFailed
from partwise.model import UploadedPart
from partwise.sources import BytesBody

DATA = b"0123456789"


class Answering:
    """A backend of which only `upload_part` is there; it raises this error, if there is one."""

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
    return PartJob(backend or Answering(), "key", "ID", number, BytesBody(DATA))


class Held(Answering):
    """A backend that keeps each part until the test lets it go."""

    def __init__(self):
        super().__init__()
        self.begun = threading.Semaphore(0)
        self.let_go = threading.Event()

    def upload_part(self, key, upload_id, part_number, body):
        self.begun.release()
        assert self.let_go.wait(30)
        return super().upload_part(key, upload_id, part_number, body)


@pytest.fixture
def threads():
    """Makes transports of so many threads, and looks after their end."""
    made = []

    def make(workers, clock=None, processors=None):
        made.append(ThreadWorkers(workers, clock or SystemClock(), processors=processors))
        return made[-1]

    yield make
    for transport in made:
        transport.close()
        assert not any(thread.is_alive() for thread in transport._threads)


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_threads_of_our_own_send_parts(threads, workers):
    transport = threads(workers)
    for number in range(1, 6):
        transport.submit(job(number))
    outcomes = [transport.next_outcome(30) for _ in range(5)]

    assert {outcome.part_number for outcome in outcomes} == {1, 2, 3, 4, 5}
    assert all(outcome.part.crc64 == crc64(DATA) for outcome in outcomes)
    assert len(transport._threads) == min(workers, 5)


def test_no_more_threads_are_started_than_there_are_parts_under_way(threads):
    transport = threads(9)
    for number in range(1, 6):
        transport.submit(job(number))
        transport.next_outcome(30)

    assert len(transport._threads) == 1


def test_a_thread_is_started_for_each_part_under_way_whatever_came_before(threads):
    transport, backend = threads(3), Held()
    for number in (1, 2):
        transport.submit(job(number))
        assert transport.next_outcome(30).part_number == number
        transport.wake()
        assert transport.next_outcome(30) is None
    for number in (3, 4, 5):
        transport.submit(job(number, backend))
    begun = [backend.begun.acquire(timeout=5) for _ in range(3)]
    backend.let_go.set()

    assert begun == [True] * 3


def test_with_nothing_under_way_the_loop_waits(threads):
    transport = threads(1)
    began = time.monotonic()

    assert transport.next_outcome(0.02) is None
    assert time.monotonic() - began >= 0.015


def test_a_thread_that_notes_its_time_while_all_is_added_up_does_no_harm(threads):
    """Played by a time that notes another just as it is added up."""
    transport = threads(1)

    class Noting(float):
        def __radd__(self, other):
            transport._used["another"] = 2.0
            return other + float(self)

    transport._used["one"] = Noting(1.0)

    assert transport._used_in_all() == 1.0
    assert transport._used_in_all() == 3.0


def test_threads_of_our_own_do_not_keep_a_program_from_ending(threads):
    transport = threads(1)
    transport.submit(job(1))
    transport.next_outcome(30)

    assert all(thread.daemon for thread in transport._threads)


@pytest.mark.parametrize("error", [ConnectionFailed("x"), KeyboardInterrupt(), SystemExit()])
def test_a_thread_of_our_own_hands_over_whatever_the_attempt_raised(threads, error):
    transport = threads(1)
    transport.submit(job(1, Answering(error)))

    assert transport.next_outcome(30) == Outcome(1, error=error)


def test_nothing_comes_from_threads_before_its_time(threads):
    transport, backend = threads(1), Held()
    transport.submit(job(1, backend))

    assert transport.next_outcome(0.0) is None
    backend.let_go.set()
    assert transport.next_outcome(30).part_number == 1


def test_waking_makes_a_loop_that_waits_for_threads_look_up(threads):
    transport, backend = threads(1), Held()
    transport.submit(job(1, backend))
    transport.wake()

    assert transport.next_outcome(None) is None
    backend.let_go.set()
    assert transport.next_outcome(30).part_number == 1


def test_recalling_takes_back_what_no_thread_has_begun(threads):
    transport, backend = threads(1), Held()
    for number in (1, 2, 3):
        transport.submit(job(number, backend))
    assert backend.begun.acquire(timeout=30)
    transport.cancel_pending()
    backend.let_go.set()
    outcomes = {outcome.part_number: outcome for outcome in (transport.next_outcome(30) for _ in range(3))}

    assert outcomes[1].part is not None
    assert {type(outcomes[number].error) for number in (2, 3)} == {TransferStopped}


def test_once_recalled_threads_are_waited_for_but_not_for_what_an_interrupt_swallowed(threads):
    transport, backend = threads(2), Held()
    transport.submit(job(1))
    assert transport._finished.get(timeout=30).part_number == 1
    transport.submit(job(2, backend))
    assert backend.begun.acquire(timeout=30)
    transport.cancel_pending()
    transport.wake()
    assert not transport.idle
    backend.let_go.set()

    outcomes = []
    while not transport.idle:
        outcomes.append(transport.next_outcome(None))
    assert [outcome.part_number for outcome in outcomes if outcome] == [2]
    assert transport.next_outcome(None) is None


def test_threads_that_were_told_to_end_are_replaced_when_there_is_more_to_send(threads):
    transport = threads(2)
    transport.submit(job(1))
    transport.cancel_pending()
    while not transport.idle:
        transport.next_outcome(None)
    transport.submit(job(2))

    assert transport.next_outcome(30).part_number == 2


# --- where threads are scarce ----------------------------------------------------------------------------------------


@pytest.fixture
def scarce(monkeypatch):
    """Lets only a limited number of threads be started."""

    def allow(count, error=None):
        error = error or RuntimeError("can't start new thread")
        start, left = threading.Thread.start, count

        def starting(thread):
            nonlocal left
            left -= 1
            if left < 0:
                raise error
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", starting)

    return allow


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_threads_that_there_are_send_all_parts_or_else_the_loop_does(threads, scarce, caplog, count, error):
    scarce(count, error)
    transport, backend = threads(4), Answering()
    for number in range(1, 10):
        transport.submit(job(number, backend))
    outcomes = {transport.next_outcome(30).part_number for _ in range(9)}

    assert outcomes == set(range(1, 10))
    assert len(transport._threads) == count
    assert (threading.current_thread() in backend.threads) is (count == 0)
    assert [record.getMessage() for record in caplog.records] == [
        f"no more threads can be started: {error}; parts are sent by {max(1, count)}"
    ]


def test_threads_do_not_take_the_last_of_a_small_address_space(threads, monkeypatch, caplog):
    """Each of them has room for its stack, but the parts would then fail for want of memory."""
    monkeypatch.setattr("partwise._engine.thread_workers._SPARE", 1 << 60)
    transport = threads(4)
    for number in range(1, 10):
        transport.submit(job(number, Answering()))
    outcomes = {transport.next_outcome(30).part_number for _ in range(9)}

    assert outcomes == set(range(1, 10))
    assert len(transport._threads) == 1
    assert "no memory for a further thread; parts are sent by 1" in caplog.text


def test_what_the_loop_sends_for_want_of_threads_can_be_taken_back(threads, scarce):
    scarce(0)
    transport = threads(2)
    for number in (1, 2):
        transport.submit(job(number))
    transport.cancel_pending()
    outcomes = [transport.next_outcome(None) for _ in range(2)]

    assert {type(outcome.error) for outcome in outcomes} == {TransferStopped}
    assert transport.idle


def test_a_defect_of_a_thread_that_is_started_is_none_of_scarcity(threads, scarce):
    scarce(0, RuntimeError("cannot be started at interpreter shutdown"))
    transport = threads(1)

    with pytest.raises(RuntimeError, match="interpreter shutdown"):
        transport.submit(job(1))


# --- by the loop itself ----------------------------------------------------------------------------------------------


class Hand:
    """A clock of which the test owns the hand."""

    def __init__(self):
        self.time = 1000.0

    def monotonic(self):
        return self.time


def test_what_the_loop_keeps_is_sent_by_the_loop(threads):
    transport, backend = threads(2, Hand()), Answering()
    transport._tempo.alone = True
    for number in (1, 2):
        transport.submit(job(number, backend))

    assert [transport.next_outcome(30).part_number for _ in range(2)] == [1, 2]
    assert set(backend.threads) == {threading.current_thread()}


def test_what_the_loop_kept_goes_to_threads_when_they_are_faster(threads):
    transport, backend = threads(2, Hand()), Answering()
    transport._tempo.alone = True
    for number in (1, 2, 3):
        transport.submit(job(number, backend))
    transport._tempo.part_done = lambda now: setattr(transport._tempo, "alone", False)

    assert {transport.next_outcome(30).part_number for _ in range(3)} == {1, 2, 3}
    assert backend.threads[0] is threading.current_thread()
    assert threading.current_thread() not in backend.threads[1:]


class Beginning(Answering):
    """A backend that can begin parts; `log` has what happened, in order. Parts of `dead` fail in that step."""

    def __init__(self, dead=None):
        super().__init__()
        self.dead = dead or {}
        self.log = []

    def begin_part(self, key, upload_id, part_number, body):
        self._step("begin", part_number)
        list(body.chunks())

        def answer():
            self._step("answer", part_number)
            return UploadedPart(part_number, len(body), f"E{part_number}")

        return answer

    def _step(self, step, part_number):
        assert threading.current_thread() is threading.main_thread()
        self.log.append(f"{step} {part_number}")
        if self.dead.get(part_number) == step:
            raise ConnectionFailed(f"{step} {part_number}")


def kept(threads, backend, parts, workers=9):
    """A transport that keeps these parts for the loop itself."""
    transport = threads(workers, Hand())
    transport._tempo.alone = True
    for number in parts:
        transport.submit(job(number, backend))
    return transport


def test_the_loop_has_further_parts_on_their_way_while_it_waits_for_an_answer(threads):
    backend = Beginning()
    transport = kept(threads, backend, range(1, 6))
    outcomes = [transport.next_outcome(30) for _ in range(5)]

    assert [(outcome.part_number, outcome.part.etag) for outcome in outcomes] == [(n, f"E{n}") for n in range(1, 6)]
    assert backend.log[:4] == ["begin 1", "begin 2", "begin 3", "answer 1"]
    assert backend.log[4:] == ["begin 4", "answer 2", "begin 5", "answer 3", "answer 4", "answer 5"]


@pytest.mark.parametrize("step", ["begin", "answer"])
def test_a_part_that_fails_on_its_way_takes_no_other_with_it(threads, step):
    transport = kept(threads, Beginning({2: step}), (1, 2, 3))
    outcomes = {outcome.part_number: outcome for outcome in (transport.next_outcome(30) for _ in range(3))}

    assert str(outcomes[2].error) == f"{step} 2"
    assert [outcomes[n].part.part_number for n in (1, 3)] == [1, 3]


def test_what_is_on_its_way_is_answered_though_the_rest_is_taken_back(threads):
    backend = Beginning()
    transport = kept(threads, backend, range(1, 6))
    outcomes = [transport.next_outcome(30)]
    transport.cancel_pending()
    assert not transport.idle
    outcomes += [transport.next_outcome(30) for _ in range(4)]

    assert transport.idle
    assert {outcome.part_number for outcome in outcomes if outcome.part} == {1, 2, 3}
    assert {outcome.part_number for outcome in outcomes if isinstance(outcome.error, TransferStopped)} == {4, 5}
    assert transport.next_outcome(None) is None


def test_the_transport_is_not_idle_while_an_answer_is_due(threads):
    transport = kept(threads, Beginning(), (1, 2))
    assert transport.next_outcome(30).part_number == 1
    transport.cancel_pending()

    assert not transport.idle
    assert transport.next_outcome(30).part_number == 2
    assert transport.idle


def test_what_is_on_its_way_is_answered_to_the_loop_though_threads_are_faster(threads):
    backend = Beginning()
    transport = kept(threads, backend, range(1, 6))
    transport._tempo.part_done = lambda now: setattr(transport._tempo, "alone", False)
    outcomes = [transport.next_outcome(30) for _ in range(5)]

    assert {outcome.part.part_number for outcome in outcomes} == {1, 2, 3, 4, 5}
    assert {entry for entry in backend.log if "answer" in entry} == {"answer 1", "answer 2", "answer 3"}
    assert len(backend.threads) == 2
    assert threading.current_thread() not in backend.threads


def test_the_loop_looks_up_when_it_is_woken_though_answers_are_due(threads):
    transport = kept(threads, Beginning(), (1, 2))
    assert transport.next_outcome(30).part_number == 1
    transport.wake()

    assert transport.next_outcome(30) is None
    assert transport.next_outcome(30).part_number == 2


def test_what_the_loop_kept_can_be_taken_back(threads):
    transport = threads(2, Hand())
    transport._tempo.alone = True
    transport.submit(job(1))
    transport.submit(job(2))
    transport.cancel_pending()
    outcomes = [transport.next_outcome(30), transport.next_outcome(30)]

    assert {outcome.part_number for outcome in outcomes} == {1, 2}
    assert {type(outcome.error) for outcome in outcomes} == {TransferStopped}


def test_the_loop_looks_up_when_it_is_woken_though_it_has_parts_to_send(threads):
    transport = threads(2, Hand())
    transport._tempo.alone = True
    transport.submit(job(1))
    transport.wake()

    assert transport.next_outcome(30) is None
    assert transport.next_outcome(30).part_number == 1


# --- when it does ----------------------------------------------------------------------------------------------------


class Timed:
    """A tempo that is told of parts, each of which takes so many seconds."""

    def __init__(self):
        self.time = 1000.0
        self.tempo = Tempo(self.time)

    def parts(self, count, seconds):
        """What `alone` was after each of so many parts."""
        seen = []
        for _ in range(count):
            self.time += seconds
            self.tempo.part_done(self.time)
            seen.append(self.tempo.alone)
        return seen


@pytest.fixture
def timed():
    return Timed()


def test_threads_send_the_first_parts(timed):
    assert timed.parts(32, 0.0001) == [False] * 31 + [True]


def test_parts_that_take_less_than_a_millisecond_are_tried_by_the_loop(timed):
    assert timed.parts(32, 0.0009)[-1]


def test_parts_that_take_their_time_are_left_to_threads(timed):
    assert not any(timed.parts(1000, 0.0011))


def test_the_loop_goes_on_alone_while_it_is_not_much_slower_than_threads_were(timed):
    timed.parts(32, 0.0004)

    assert all(timed.parts(1000, 0.0004 * 1.24))


def test_parts_that_are_just_quick_enough_are_tried_by_the_loop(timed):
    assert timed.parts(32, 0.00099)[-1]


@pytest.mark.parametrize(("slower", "goes_on"), [(1.24, True), (1.26, False)])
def test_the_loop_may_be_slower_by_a_quarter_and_no_more(timed, slower, goes_on):
    timed.parts(32, 0.0004)
    timed.parts(8, 0.0004)

    assert timed.parts(32, 0.0004 * slower)[-1] is goes_on


def test_the_ninth_part_of_a_try_is_the_first_that_is_timed(timed):
    timed.parts(32, 0.0004)

    assert timed.parts(8, 1.0) == [True] * 8
    assert timed.parts(1, 1.0) == [False]


def test_the_loop_is_not_timed_while_threads_finish_the_last_of_theirs(timed):
    timed.parts(32, 0.0004)

    assert all(timed.parts(8, 5.0))
    assert all(timed.parts(100, 0.0004))


def test_a_try_that_is_slower_is_given_up_at_once(timed):
    """Not only when as many parts are done as took threads that long: each of them may take seconds."""
    timed.parts(32, 0.0004)
    timed.parts(8, 0.0004)

    assert timed.parts(1, 0.017) == [False]


def test_a_line_that_becomes_slower_is_handed_back_to_threads(timed):
    timed.parts(32, 0.0004)
    timed.parts(1000, 0.0004)

    assert False in timed.parts(40, 0.001)


def test_a_try_that_failed_is_made_again_after_twice_as_many_parts(timed):
    pauses = []
    for _ in range(5):
        before = timed.time
        while not timed.tempo.alone:
            timed.parts(1, 0.0004)
        pauses.append(round((timed.time - before) / 0.0004 / 32))
        timed.parts(8, 0.0004)
        timed.parts(1, 1.0)

    assert pauses == [1, 3, 5, 9, 17]


def test_a_part_that_is_held_up_now_and_then_does_not_put_off_the_next_try(timed):
    for _ in range(20):
        while not timed.tempo.alone:
            timed.parts(1, 0.0004)
        timed.parts(8 + 64, 0.0004)
        assert timed.parts(1, 1.0) == [False]

    assert True in timed.parts(3 * 32, 0.0004)


def test_ten_thousand_parts_cost_hardly_more_for_tries_that_fail(timed):
    """Four threads, and a storage that takes 3 ms for a part: 0.75 ms from one part to the next, if threads send it."""
    for _ in range(10_000):
        timed.parts(1, 0.003 if timed.tempo.alone else 0.00075)

    assert timed.time - 1000.0 < 10_000 * 0.00075 * 1.06


# --- how busy the processors are -------------------------------------------------------------------------------------


class Watched:
    """A look at the processors after each of some parts, of which each took so long and used so much."""

    def __init__(self, processors):
        self.load = Load(processors)
        self.now = self.used = 0.0

    def parts(self, count, seconds, used):
        for _ in range(count):
            self.now += seconds
            self.used += used
            self.load.part_done(self.now, lambda: self.used)
        return self.load.busy


@pytest.mark.parametrize(
    ("processors", "used", "busy"),
    [(1, 0.9, True), (2, 0.9, True), (2, 1.2, True), (4, 0.9, False), (4, 2.4, True), (2, 0.3, False), (1, 0.0, False)],
)
def test_processors_are_busy_when_threads_use_a_good_share_of_their_time(processors, used, busy):
    assert Watched(processors).parts(5, seconds=1.0, used=used) is busy


@pytest.mark.parametrize(("used", "busy"), [(0.79, False), (0.81, True)])
def test_two_fifths_of_all_processors_time_is_busy(used, busy):
    assert Watched(2).parts(5, seconds=1.0, used=used) is busy


@pytest.mark.parametrize(("used", "busy"), [(0.49, False), (0.51, True)])
def test_a_quarter_of_all_processors_time_is_at_leisure(used, busy):
    watched = Watched(2)
    watched.parts(5, seconds=1.0, used=1.8)

    assert watched.parts(4, seconds=1.0, used=used) is busy


def test_the_processors_are_looked_at_with_every_fourth_part():
    watched = Watched(1)

    assert [watched.parts(1, seconds=1.0, used=0.9) for _ in range(5)] == [False, False, False, False, True]
    assert [watched.parts(1, seconds=1.0, used=0.0) for _ in range(4)] == [True, True, True, False]


def test_parts_that_take_no_time_at_all_are_judged_too():
    """Two parts may be done between two ticks of the clock."""
    assert Watched(1).parts(5, seconds=0.0, used=0.1)


def test_the_processors_are_not_judged_by_what_comes_before_the_first_part():
    """Connections are made and records are synced meanwhile."""
    watched = Watched(2)
    watched.now = 1000.0

    assert watched.parts(5, seconds=0.001, used=0.0018)


def test_a_line_that_becomes_slower_leaves_the_processors_at_leisure():
    watched = Watched(2)

    assert watched.parts(5, seconds=1.0, used=1.8)
    assert watched.parts(4, seconds=1.0, used=0.7), "nearly as busy as before"
    assert not watched.parts(4, seconds=1.0, used=0.4)
    assert not watched.parts(4, seconds=1.0, used=0.7), "not busy enough for a change"


def test_there_are_as_many_places_as_was_said_last():
    places = Places(4)
    for _ in range(3):
        places.take()
    places.limit(2)  # one is free, and goes; one of the three that are taken is too many
    keeping = threading.Thread(target=places.keep, daemon=True)
    keeping.start()
    keeping.join(0.05)
    waits = keeping.is_alive()
    places.limit(3)
    keeping.join(30)

    assert (waits, keeping.is_alive()) == (True, False)


def test_a_place_that_is_not_one_too_many_is_kept():
    places = Places(2)
    places.take()
    places.keep()
    places.keep()
    places.take()
    places.limit(1)
    places.give_back()  # the one too many
    places.keep()


class Said:
    """What the processors are said to be."""

    def __init__(self, busy):
        self.busy = busy

    def part_done(self, now, used):
        assert used() >= 0.0


class Counting:
    """Counts the calls for parts."""

    busy = False

    def __init__(self):
        self.parts = 0

    def part_done(self, now, used):
        self.parts += 1


@pytest.mark.parametrize(("processors", "looks"), [(1, 5), (2, 5), (3, 0), (4, 0)])
def test_the_processors_are_watched_where_there_are_fewer_than_threads(threads, processors, looks):
    transport, load = threads(3, Hand(), processors=processors), Counting()
    transport._load, transport._tempo = load, Never()
    send(transport, Answering(), range(1, 6), 1)

    assert load.parts == looks


def test_the_processors_are_not_watched_while_the_loop_sends(threads):
    transport, load = threads(3, Hand(), processors=1), Counting()
    transport._load = load
    transport._tempo.alone = True
    send(transport, Answering(), range(1, 6), 1)

    assert load.parts == 0


class Never:
    """The loop sends nothing itself."""

    alone = False

    def part_done(self, now):
        pass


class Crowded(Answering):
    """A backend that knows how many threads are in it at most; `together` of them go on together."""

    def __init__(self):
        super().__init__()
        self.inside = self.most = 0
        self.lock = threading.Lock()
        self.together = threading.Barrier(1)

    def upload_part(self, key, upload_id, part_number, body):
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            self.together.wait(30)
            time.sleep(0.002)  # others come in meanwhile, if they may
            return super().upload_part(key, upload_id, part_number, body)
        finally:
            with self.lock:
                self.inside -= 1


def send(transport, backend, numbers, at_once):
    under_way = 0
    for number in numbers:
        transport.submit(job(number, backend))
        under_way += 1
        if under_way == at_once:
            assert transport.next_outcome(30).part is not None
            under_way -= 1
    for _ in range(under_way):
        assert transport.next_outcome(30).part is not None


@pytest.fixture
def busy(threads):
    """Threads of which no more work than there are processors, namely one."""
    transport, backend = threads(6, processors=1), Crowded()
    transport._load, transport._tempo = Said(busy=True), Never()
    backend.together = threading.Barrier(6)  # so that all of them are there
    send(transport, backend, range(1, 7), 6)
    backend.together = threading.Barrier(1)
    send(transport, backend, range(7, 30), 6)
    return transport, backend


def test_no_more_threads_work_at_a_time_than_there_are_processors_where_those_are_busy(busy):
    transport, backend = busy
    backend.most = 0
    send(transport, backend, range(60, 80), 6)

    assert len(transport._threads) == 6
    assert backend.most == 1


def test_all_threads_work_again_when_the_processors_are_at_leisure(busy):
    transport, backend = busy
    transport._load.busy = False
    send(transport, backend, [60], 1)
    backend.together = threading.Barrier(6)
    backend.most = 0
    send(transport, backend, range(61, 67), 6)

    assert backend.most == 6


def test_threads_that_wait_for_a_place_end_with_the_others(busy):
    transport, _ = busy
    transport.close()

    assert not any(thread.is_alive() for thread in transport._threads)
