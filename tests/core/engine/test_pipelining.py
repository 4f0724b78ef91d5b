"""Small parts: sent by the scheduler's thread, several in flight at a time, where that is faster than threads."""

from __future__ import annotations

import threading

import pytest

from partwise._engine.pipelining import InlineSwitch, begin, supports_pipelining
from partwise._engine.thread_workers import ThreadWorkers
from partwise._engine.throttle import TransferStopped
from partwise._engine.workers import PartJob
from partwise.bodies import bytes_body
from partwise.checksums import crc64
from partwise.errors import BackendError, ConnectionFailed, IntegrityError
from partwise.model import Capabilities, UploadedPart

DATA = b"0123456789"


class PlainBackend:
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


class PipeliningBackend(PlainBackend):
    """A backend that implements `begin_part`. The first step raises `begin_error`, the second one `result`."""

    def __init__(self, result=None, *, begin_error=None):
        super().__init__(result)
        self.begin_error = begin_error

    def upload_part(self, key, upload_id, part_number, body):
        return super().upload_part(key, upload_id, part_number, body)

    def begin_part(self, key, upload_id, part_number, body):
        if self.begin_error is not None:
            raise self.begin_error
        list(body.chunks())
        return lambda: PlainBackend(self.result, reads=False).upload_part(key, upload_id, part_number, body)


class OverridesUploadPart(PipeliningBackend):
    """A subclass that counts its parts, for instance, and was written without pipelining in mind."""

    def upload_part(self, key, upload_id, part_number, body):
        return super().upload_part(key, upload_id, part_number, body)


class OverridesBeginPart(OverridesUploadPart):
    def begin_part(self, key, upload_id, part_number, body):
        return super().begin_part(key, upload_id, part_number, body)


class Proxy:
    """A wrapper that delegates all attributes that it does not define."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def upload_part(self, key, upload_id, part_number, body):
        return self._inner.upload_part(key, upload_id, part_number, body)


def patched(backend):
    """Replace the method of one instance, as monkeypatch does."""
    backend.upload_part = PlainBackend().upload_part
    return backend


def job(number=1, backend=None):
    return PartJob(backend or PlainBackend(), "key", "ID", number, bytes_body(DATA))


# --- one part in two steps -------------------------------------------------------------------------------------------


def test_a_part_is_sent_before_its_response_is_awaited():
    part = job(3, PipeliningBackend())
    read_response = begin(part)

    assert part.body.checksum == crc64(DATA), "the body was read"
    assert read_response() == UploadedPart(3, 10, "E3", crc64(DATA))


def test_without_pipelining_support_the_second_step_does_everything():
    part = job(3)
    read_response = begin(part)

    assert part.body.checksum is None
    assert read_response() == UploadedPart(3, 10, "E3", crc64(DATA))


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        (PipeliningBackend(), True),
        (OverridesBeginPart(), True),
        (PlainBackend(), False),
        (OverridesUploadPart(), False),
        (Proxy(PipeliningBackend()), False),
        (object(), False),
        (patched(PipeliningBackend()), False),
    ],
    ids=[
        "implements it",
        "overrides it",
        "lacks it",
        "only inherits it",
        "only delegates it",
        "has neither",
        "is patched",
    ],
)
def test_an_upload_part_that_overrides_an_inherited_begin_part_is_used(backend, expected):
    assert supports_pipelining(backend) is expected


def test_a_pipelined_part_is_verified_like_any_other():
    with pytest.raises(IntegrityError, match="the storage reports 10 bytes with the checksum 7"):
        begin(job(backend=PipeliningBackend(UploadedPart(1, 10, "E", 7))))()


@pytest.mark.parametrize("error", [ConnectionFailed("x"), ZeroDivisionError("x")])
def test_errors_of_both_steps_are_translated_like_those_of_one(error):
    expected = ConnectionFailed if isinstance(error, ConnectionFailed) else BackendError

    with pytest.raises(expected):
        begin(job(backend=PipeliningBackend(begin_error=error)))
    read_response = begin(job(backend=PipeliningBackend(error)))
    with pytest.raises(expected):
        read_response()


# --- several parts in flight -----------------------------------------------------------------------------------------


class FrozenClock:
    """A clock that stands still, so that nothing switches the mode."""

    def monotonic(self):
        return 1000.0


class LoggedBackend:
    """
    A pipelining backend. `log` has its steps in order; the step of a part in `failing` fails.

    An exception in place of the step is raised as the response is read.
    """

    def __init__(self, failing=None):
        self.failing = failing or {}
        self.log = []
        self.threads = []  # those that called upload_part

    def upload_part(self, key, upload_id, part_number, body):
        self.threads.append(threading.current_thread())
        list(body.chunks())
        return UploadedPart(part_number, len(body), f"E{part_number}")

    def begin_part(self, key, upload_id, part_number, body):
        self._step("begin", part_number)
        list(body.chunks())

        def read_response():
            self._step("response", part_number)
            return UploadedPart(part_number, len(body), f"E{part_number}")

        return read_response

    def _step(self, step, part_number):
        assert threading.current_thread() is threading.main_thread()
        self.log.append(f"{step} {part_number}")
        failing = self.failing.get(part_number)
        if isinstance(failing, BaseException) and step == "response":
            raise failing
        if failing == step:
            raise ConnectionFailed(f"{step} {part_number}")


@pytest.fixture
def inline():
    """Makes workers in inline mode, to which these parts were submitted, and closes them."""
    made = []

    def make(backend, numbers):
        workers = ThreadWorkers(9, FrozenClock())
        made.append(workers)
        workers._switch.inline = True
        for number in numbers:
            workers.submit(job(number, backend))
        return workers

    yield make
    for workers in made:
        workers.close()


def test_two_further_parts_are_in_flight_while_a_response_is_awaited(inline):
    backend = LoggedBackend()
    workers = inline(backend, range(1, 6))
    outcomes = [workers.next_outcome(30) for _ in range(5)]

    assert [(outcome.part_number, outcome.part.etag) for outcome in outcomes] == [(n, f"E{n}") for n in range(1, 6)]
    assert backend.log[:4] == ["begin 1", "begin 2", "begin 3", "response 1"]
    assert backend.log[4:] == ["begin 4", "response 2", "begin 5", "response 3", "response 4", "response 5"]


@pytest.mark.parametrize("step", ["begin", "response"])
def test_a_part_that_fails_does_not_affect_others_in_flight(inline, step):
    workers = inline(LoggedBackend({2: step}), (1, 2, 3))
    outcomes = {outcome.part_number: outcome for outcome in (workers.next_outcome(30) for _ in range(3))}

    assert str(outcomes[2].error) == f"{step} 2"
    assert [outcomes[n].part.part_number for n in (1, 3)] == [1, 3]


def test_responses_of_parts_in_flight_are_read_after_the_others_were_cancelled(inline):
    backend = LoggedBackend()
    workers = inline(backend, range(1, 6))
    outcomes = [workers.next_outcome(30)]
    workers.cancel_pending()
    assert not workers.idle
    outcomes += [workers.next_outcome(30) for _ in range(4)]

    assert workers.idle
    assert {outcome.part_number for outcome in outcomes if outcome.part} == {1, 2, 3}
    assert {outcome.part_number for outcome in outcomes if isinstance(outcome.error, TransferStopped)} == {4, 5}
    assert workers.next_outcome(None) is None


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit(0)])
def test_an_interrupt_while_responses_are_read_is_raised_though_the_upload_stops(inline, interrupt):
    """The scheduler ignores the errors of parts then."""
    workers = inline(LoggedBackend({2: interrupt}), range(1, 4))
    assert workers.next_outcome(30).part_number == 1
    workers.cancel_pending()
    with pytest.raises(type(interrupt)) as caught:
        workers.next_outcome(30)

    assert caught.value is interrupt
    assert workers.next_outcome(30).part_number == 3
    assert workers.idle


def test_workers_are_not_idle_while_a_response_is_pending(inline):
    workers = inline(LoggedBackend(), (1, 2))
    assert workers.next_outcome(30).part_number == 1
    workers.cancel_pending()

    assert not workers.idle
    assert workers.next_outcome(30).part_number == 2
    assert workers.idle


def test_responses_of_parts_in_flight_are_read_inline_after_a_switch_to_threads(inline):
    backend = LoggedBackend()
    workers = inline(backend, range(1, 6))
    workers._switch.part_done = lambda now: setattr(workers._switch, "inline", False)
    outcomes = [workers.next_outcome(30) for _ in range(5)]

    assert {outcome.part.part_number for outcome in outcomes} == {1, 2, 3, 4, 5}
    assert {entry for entry in backend.log if "response" in entry} == {"response 1", "response 2", "response 3"}
    assert len(backend.threads) == 2
    assert threading.current_thread() not in backend.threads


def test_wake_takes_effect_before_pending_responses_are_read(inline):
    workers = inline(LoggedBackend(), (1, 2))
    assert workers.next_outcome(30).part_number == 1
    workers.wake()

    assert workers.next_outcome(30) is None
    assert workers.next_outcome(30).part_number == 2


# --- the switch between threads and inline mode ----------------------------------------------------------------------


class TimedSwitch:
    """A switch, and a clock that advances with each part."""

    def __init__(self):
        self.time = 1000.0
        self.switch = InlineSwitch(self.time)

    @property
    def inline(self):
        return self.switch.inline

    def parts(self, count, seconds):
        """Let `count` parts be done, `seconds` after each other; return `inline` after each of them."""
        modes = []
        for _ in range(count):
            self.time += seconds
            self.switch.part_done(self.time)
            modes.append(self.inline)
        return modes


@pytest.fixture
def timed():
    return TimedSwitch()


def test_threads_send_the_first_parts(timed):
    assert timed.parts(32, 0.0001) == [False] * 31 + [True]


@pytest.mark.parametrize("seconds", [0.0009, 0.00099])
def test_inline_mode_is_tried_for_parts_of_less_than_a_millisecond(timed, seconds):
    assert timed.parts(32, seconds)[-1]


def test_slower_parts_are_left_to_threads(timed):
    assert not any(timed.parts(1000, 0.0011))


def test_inline_mode_lasts_while_it_is_not_much_slower_than_threads_were(timed):
    timed.parts(32, 0.0004)

    assert all(timed.parts(1000, 0.0004 * 1.24))


@pytest.mark.parametrize(("slower", "continues"), [(1.24, True), (1.26, False)])
def test_inline_mode_may_be_slower_by_a_quarter_and_no_more(timed, slower, continues):
    timed.parts(32, 0.0004)
    timed.parts(8, 0.0004)

    assert timed.parts(32, 0.0004 * slower)[-1] is continues


def test_the_ninth_part_of_a_trial_is_the_first_that_is_timed(timed):
    timed.parts(32, 0.0004)

    assert timed.parts(8, 1.0) == [True] * 8
    assert timed.parts(1, 1.0) == [False]


def test_inline_mode_is_not_timed_while_threads_finish_their_last_parts(timed):
    timed.parts(32, 0.0004)

    assert all(timed.parts(8, 5.0))
    assert all(timed.parts(100, 0.0004))


def test_a_slower_trial_ends_at_once(timed):
    """It does not wait for a full window, since each part of it may take seconds."""
    timed.parts(32, 0.0004)
    timed.parts(8, 0.0004)

    assert timed.parts(1, 0.017) == [False]


def test_parts_go_back_to_threads_when_the_network_becomes_slower(timed):
    timed.parts(32, 0.0004)
    timed.parts(1000, 0.0004)

    assert False in timed.parts(40, 0.001)


def test_the_wait_for_the_next_trial_doubles_after_each_failed_one(timed):
    waits = []
    for _ in range(5):
        before = timed.time
        while not timed.inline:
            timed.parts(1, 0.0004)
        waits.append(round((timed.time - before) / 0.0004 / 32))
        timed.parts(8, 0.0004)
        timed.parts(1, 1.0)

    assert waits == [1, 3, 5, 9, 17]


def test_an_occasional_slow_part_does_not_delay_the_next_trial(timed):
    for _ in range(20):
        while not timed.inline:
            timed.parts(1, 0.0004)
        timed.parts(8 + 64, 0.0004)
        assert timed.parts(1, 1.0) == [False]

    assert True in timed.parts(3 * 32, 0.0004)


def test_failed_trials_cost_next_to_nothing_over_ten_thousand_parts(timed):
    """Four threads, and a storage that takes 3 ms for a part: 0.75 ms per part, if threads send it."""
    for _ in range(10_000):
        timed.parts(1, 0.003 if timed.inline else 0.00075)

    assert timed.time - 1000.0 < 10_000 * 0.00075 * 1.06
