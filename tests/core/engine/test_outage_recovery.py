"""Outages of the storage, ridden out in one run, in simulated time."""

from __future__ import annotations

import random

import pytest

from partwise._engine.context import Runtime
from partwise._engine.workers import Outcome, never_cut
from partwise.backends.memory import MemoryBackend
from partwise.config import TransferConfig
from partwise.errors import ConnectionFailed, HostNotFound, PartwiseError, ServerFailed, UploadFailed
from partwise.model import PartLimits
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing._proof.simulation import SimulatedClock
from partwise.testing.fakes import ChangingSource, pseudo_random_bytes
from partwise.uploader import Uploader

LATENCY = 0.05  # seconds that a request takes
CONNECT_TIMEOUT = 10.0  # seconds after which a connection that hangs fails
READ_TIMEOUT = 60.0  # seconds after which a request without a response fails
PARTS = 60
REQUESTS = PARTS + 2  # and those to initiate and to complete
AT_FULL_SPEED = 0.6  # seconds of an upload of 8 parts at a time


class Line:
    """
    A storage that can't be reached for some time, behind a line on which each request takes the same time.

    Args:
        starts_with: the number of the request with which the outage starts, counting from 1; None: there is none.
        seconds: how long it lasts.
        takes_effect: whether that request takes effect, and only its response is lost.
        hangs: whether packets are dropped, so that a connection hangs; "after connecting": it is made, and no response
            arrives; otherwise connections are refused.
        error: makes the error of a request during the outage.
    """

    def __init__(self, starts_with=None, *, seconds=60.0, takes_effect=False, hangs=False, error=ConnectionFailed):
        self.clock = SimulatedClock()
        self.backend = MemoryBackend("bucket", limits=PartLimits())
        self.starts_with, self.seconds, self.hangs, self.error = starts_with, seconds, hangs, error
        self.takes_effect = takes_effect
        self.start = self.end = None
        self.requests = []  # (time, operation, part number)
        self.acknowledged = []

    @property
    def is_down(self):
        return self.start is not None and self.start <= self.clock.now() < self.end

    def begin(self, operation, part_number=None):
        """Note a request; return how long it takes, its error, and whether it takes effect."""
        if len(self.requests) + 1 == self.starts_with:
            self.start = self.clock.now()
            self.end = self.start + self.seconds
        first = self.is_down and self.start == self.clock.now() and self.takes_effect
        self.requests.append((self.clock.now(), operation, part_number))
        if not self.is_down:
            return LATENCY, None, True
        if self.hangs == "after connecting":
            return READ_TIMEOUT, self.error("there was no response"), False
        if self.hangs:
            # TCP asks for a connection again after these times; the last one is too late for the timeout.
            waits = [seconds for seconds in (1.0, 3.0, 7.0) if self.clock.now() + seconds >= self.end]
            if waits:
                return waits[0] + LATENCY, None, True
            return CONNECT_TIMEOUT, self.error("the connection timed out"), False
        return 0.001, self.error(f"no connection for request {len(self.requests)}"), first

    def count(self, begin, end):
        return sum(begin <= at < end for at, *_ in self.requests)


class SlowBackend:
    """The storage for requests other than parts: they take time in the calling thread."""

    def __init__(self, line):
        self._line = line

    def __getattr__(self, name):
        method = getattr(self._line.backend, name)
        if name not in ("initiate_upload", "complete_upload", "head_object", "list_parts", "abort_upload"):
            return method

        def call(*arguments):
            seconds, error, takes_effect = self._line.begin(name)
            result = method(*arguments) if takes_effect else None
            self._line.clock.advance(seconds)
            if error is not None:
                raise error
            return result

        return call


class TimedWorkers:
    """Workers in simulated time: the part that is done first is delivered first, and the clock advances to then."""

    saturated = False
    can_cut = staticmethod(never_cut)

    def __init__(self, line):
        self._line = line
        self._attempts = []  # (when it ends, part number, its outcome)
        self.in_flight = []  # (time, how many)

    def submit(self, job):
        seconds, error, takes_effect = self._line.begin("upload_part", job.part_number)
        part = job.run() if takes_effect else None
        outcome = Outcome(job.part_number, part) if error is None else Outcome(job.part_number, error=error)
        self._attempts.append((self._line.clock.now() + seconds, len(self._line.requests), outcome))
        self.in_flight.append((self._line.clock.now(), len(self._attempts)))

    def next_outcome(self, timeout):
        now = self._line.clock.now()
        ends, *_, outcome = done = min(self._attempts, default=(float("inf"), None))
        if timeout is not None and ends > now + timeout:
            self._line.clock.advance(timeout)
            return None
        assert outcome is not None, "the scheduler waits for ever"
        self._line.clock.advance(ends - now)
        self._attempts.remove(done)
        if outcome.part is not None:
            self._line.acknowledged.append((ends, outcome.part_number))
        return outcome

    def cancel_pending(self):
        pass

    @property
    def idle(self):
        return not self._attempts

    def wake(self):
        pass


class Run:
    """One upload over a line."""

    def __init__(self, line, *, size=10 * PARTS, **config):
        self.line, self.pools = line, []
        runtime = Runtime(self._new_workers, line.clock, random.Random(1))
        settings = TransferConfig(**{"part_size": 10, "multipart_threshold": 0, "concurrency": 8, **config})
        self.store = MemoryCheckpointStore()
        uploader = Uploader._with_runtime(runtime, SlowBackend(line), store=self.store, config=settings)
        self.began, self.error, self.result = line.clock.now(), None, None
        try:
            self.result = uploader.upload(ChangingSource(pseudo_random_bytes(size)), "key")
        except PartwiseError as error:
            self.error = error
        self.seconds = line.clock.now() - self.began

    def _new_workers(self):
        self.pools.append(TimedWorkers(self.line))
        return self.pools[-1]


def test_without_an_outage_each_request_is_made_once():
    line = Line()
    run = Run(line)

    assert run.result.verified
    assert len(line.requests) == REQUESTS
    assert run.seconds < AT_FULL_SPEED


# --- one run rides it out --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("takes_effect", [False, True], ids=["refused", "response lost"])
@pytest.mark.parametrize("number", range(1, REQUESTS + 1))
def test_an_outage_of_a_minute_at_any_request_is_ridden_out(number, takes_effect):
    line = Line(number, seconds=60.0, takes_effect=takes_effect)
    run = Run(line)

    assert run.result is not None, run.error
    assert run.result.verified
    assert len(line.acknowledged) == PARTS, "no part that was acknowledged is sent again"
    assert run.seconds < 60.0 + 5.0 + AT_FULL_SPEED


@pytest.mark.parametrize("number", [1, 2, PARTS // 2, REQUESTS])
def test_an_outage_of_ten_minutes_is_ridden_out_with_more_patience(number):
    run = Run(Line(number, seconds=600.0), give_up_after=900.0)

    assert run.result is not None, run.error
    assert run.seconds < 600.0 + 5.0 + AT_FULL_SPEED


@pytest.mark.parametrize("number", [1, 2, PARTS // 2, REQUESTS])
def test_an_outage_that_is_longer_than_the_patience_ends_the_run(number):
    line = Line(number, seconds=600.0)
    run = Run(line)

    assert isinstance(run.error, UploadFailed)
    assert run.error.retryable
    assert run.error.reason.endswith("; nothing has moved for 300 s")
    assert run.error.hint == "To keep trying for longer, raise give_up_after="
    assert line.clock.now() == pytest.approx(line.start + 300.0, abs=LATENCY + 1.0)


@pytest.mark.parametrize("number", [1, 2, PARTS // 2, REQUESTS])
def test_without_patience_the_first_failure_ends_the_run(number):
    line = Line(number)
    run = Run(line, give_up_after=0.0)

    assert isinstance(run.error, UploadFailed)
    assert line.clock.now() < line.start + 1.0


# --- a storage that fails some requests ------------------------------------------------------------------------------


class UnreliableLine(Line):
    """A storage that fails every n-th request for a part."""

    def __init__(self, every):
        super().__init__(error=ServerFailed)
        self.every = every

    def begin(self, operation, part_number=None):
        self.requests.append((self.clock.now(), operation, part_number))
        if part_number is not None and len(self.requests) % self.every == 0:
            return LATENCY, ServerFailed("500"), False
        return LATENCY, None, True


@pytest.mark.parametrize("concurrency", [8, 64, "auto"])
def test_a_storage_that_fails_half_of_all_requests_is_not_hammered(concurrency):
    line = UnreliableLine(2)
    run = Run(line, concurrency=concurrency, size=10_000)
    late = line.count(run.began + run.seconds / 2, run.began + run.seconds)

    assert run.result.parts_sent == 1000
    assert late / (run.seconds / 2) < 4.0, "requests in a second, once the budget is used up"


@pytest.mark.parametrize("every", [6, 20])
def test_a_storage_that_fails_some_requests_is_not_spared(every):
    run = Run(UnreliableLine(every), concurrency=64, size=10_000)

    assert run.result.parts_sent == 1000
    assert run.seconds < 30.0


# --- what the storage sees of it -------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 8, 64, "auto"])
@pytest.mark.parametrize("error", [ConnectionFailed, ServerFailed])
def test_during_an_outage_one_request_at_a_time_is_made(concurrency, error):
    line = Line(12, error=error)
    run = Run(line, concurrency=concurrency)
    at_first = len(run.pools[0].in_flight) if concurrency == "auto" else concurrency

    assert run.result is not None, run.error
    assert line.count(line.start + 1.0, line.end) <= 60, "about one probe in a second and a half"
    assert line.count(line.start, line.start + 1.0) <= at_first + 5


@pytest.mark.parametrize("concurrency", [1, 8, 64])
@pytest.mark.parametrize("hangs", [False, True], ids=["refused", "black hole"])
def test_after_an_outage_it_is_at_full_speed_within_five_seconds(concurrency, hangs):
    line = Line(1 + PARTS // 2, hangs=hangs)
    run = Run(line, concurrency=concurrency)

    assert run.result is not None, run.error
    assert run.seconds < 60.0 + 5.0 + AT_FULL_SPEED * 8 / min(8, concurrency)


@pytest.mark.parametrize("number", [1, 2, PARTS // 2, REQUESTS])
def test_an_outage_is_logged_when_it_starts_and_when_it_ends(number, caplog):
    caplog.set_level("INFO", logger="partwise")
    Run(Line(number))
    failing = [record for record in caplog.records if "giving up in" in record.message]
    back = [record for record in caplog.records if "recovered" in record.message]

    assert [(record.levelname) for record in failing + back] == ["WARNING", "INFO"]
    assert "no connection for request" in failing[0].message
    assert 60.0 <= float(back[0].message.split()[-2]) < 65.0


def test_an_unlucky_request_is_not_reported_as_an_outage(caplog):
    caplog.set_level("WARNING", logger="partwise")
    Run(Line(12, seconds=0.01))

    assert caplog.records == []


def test_a_probe_that_hangs_does_not_hold_the_next_one():
    """The outage ends 40 seconds after the first requests have timed out. The last probes hang for some time after."""
    line = Line(1 + PARTS // 2, seconds=READ_TIMEOUT + 40.0, hangs="after connecting")
    run = Run(line, concurrency=64)
    first_success = min(at for at, number in line.acknowledged if at > line.end)

    assert run.result is not None, run.error
    assert first_success < line.end + 5.0
    assert line.count(line.start + READ_TIMEOUT, line.end) <= 25


@pytest.mark.parametrize("number", [5, 12, 25, 40])
def test_after_an_outage_no_part_waits_for_a_backoff_of_before(number):
    """The first failure is not known to be one of an outage, so its backoff may be long."""
    run = Run(Line(number, seconds=4.0), retry_base=30.0)

    assert run.result is not None, run.error
    assert run.seconds < 4.0 + 5.0 + AT_FULL_SPEED


@pytest.mark.parametrize("number", [1, REQUESTS])
def test_a_request_other_than_a_part_is_made_soon_after_an_outage_in_which_connections_hang(number):
    for seconds in (57.0, 58.0, 59.0, 60.0, 61.0, 62.0):
        line = Line(number, seconds=seconds, hangs=True)
        run = Run(line)

        assert run.result is not None, run.error
        assert run.seconds < seconds + 5.0 + AT_FULL_SPEED


def test_a_name_that_is_never_resolved_fails_for_good():
    run = Run(Line(1, seconds=1e6, error=HostNotFound))

    assert isinstance(run.error, UploadFailed)
    assert not run.error.retryable


def test_a_name_that_is_not_resolved_any_more_may_be_resolved_later():
    run = Run(Line(9, seconds=1e6, error=HostNotFound))

    assert isinstance(run.error, UploadFailed)
    assert run.error.retryable
