"""The loop that gets parts sent, over a transport that a script stands behind, by a clock that a test owns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise._engine.control import Control, ProgressRaised, StopRequested
from partwise._engine.plugin_calls import PluginDefect
from partwise._engine.retry import RetryPolicy
from partwise._engine.scheduler import PartScheduler
from partwise._engine.throttle import TransferState, TransferStopped
from partwise._engine.workers import Outcome, PartJob
from partwise.errors import (
    AccessDenied,
    BackendError,
    CheckpointError,
    ConnectionFailed,
    SourceChanged,
    Throttled,
    UploadNotFound,
)
from partwise.model import UploadedPart
from partwise.sources import BytesBody


class Scripted:
    """
    A transport that settles one attempt each time it is asked, as a script says.

    Args:
        clock: its waits make up the time that passes.
        flow: where the script notes how far a part got.
        script: by part number, what becomes of each attempt: an error, or (bytes moved, error); a receipt after that.
        choose: which of the attempts under way is next, of so many.
    """

    def __init__(self, clock, flow, script=None, choose=lambda count: 0):
        self.clock = clock
        self.flow = flow
        self.script = {number: list(steps) for number, steps in (script or {}).items()}
        self.choose = choose
        self.under_way = []
        self.submitted = []
        self.most_under_way = 0
        self.timeouts = []
        self.recalled = False
        self.woken = 0
        #: Called before each outcome, as whatever may happen meanwhile.
        self.meanwhile = lambda: None

    def submit(self, job):
        assert self.flow.sent(job.part_number) == 0
        self.under_way.append(job)
        self.submitted.append((self.clock.time, job.part_number))
        self.most_under_way = max(self.most_under_way, len(self.under_way))

    def next_outcome(self, timeout):
        self.timeouts.append(timeout)
        self.meanwhile()
        if not self.under_way:
            assert timeout is not None or self.recalled, "nothing would ever end this wait"
            self.clock.time += timeout or 0.0
            return None
        job = self.under_way.pop(self.choose(len(self.under_way)))
        steps = self.script.get(job.part_number)
        moved, error = len(job.body), None
        if steps:
            step = steps.pop(0)
            moved, error = step if isinstance(step, tuple) else (0, step)
        self.flow.set_sent(job.part_number, moved)
        return Outcome(job.part_number, error=error) if error is not None else Outcome(job.part_number, receipt_of(job))

    def cancel_pending(self):
        self.recalled = True

    @property
    def idle(self):
        return not self.under_way

    def wake(self):
        self.woken += 1


def receipt_of(job):
    return UploadedPart(job.part_number, len(job.body), f"E{job.part_number}")


class Scene:
    """A loop and all that it needs, with what came of it."""

    def __init__(self, clock, script=None, *, parts=3, size=80, concurrency=2, interval=None, attempts=3, **transport):
        self.clock = clock
        self.flow = TransferState()
        self.control = Control()
        self.transport = Scripted(clock, self.flow, script, **transport)
        self.accepted = []
        self.ticks = []
        self.retries = []
        self.asked = 0
        self.parts = parts
        self.size = size
        self.loop = PartScheduler(
            transport=self.transport,
            flow=self.flow,
            policy=RetryPolicy(attempts, 1.0, 4.0, _Longest()),
            clock=clock,
            control=self.control,
            concurrency=concurrency,
            interval=interval,
            make_job=lambda number, body: PartJob(None, "key", "ID", number, body),
            accept=self._accept,
            on_tick=self._on_tick,
            on_retry=lambda *retry: self.retries.append(retry),
        )

    def work(self):
        for number in range(1, self.parts + 1):
            self.asked += 1
            yield number, BytesBody(bytes(self.size))

    def accept(self, receipt):
        self.accepted.append(receipt.part_number)

    def on_tick(self):
        self.ticks.append(self.clock.time)

    def _accept(self, receipt):
        self.accept(receipt)

    def _on_tick(self):
        self.on_tick()

    def run(self):
        self.loop.run(self.work())

    @property
    def times(self):
        """When each attempt was submitted, by part number, in seconds from the start."""
        times = {}
        for at, number in self.transport.submitted:
            times.setdefault(number, []).append(at - 1000.0)
        return times


class _Longest:
    def uniform(self, a, b, /):
        return b


@pytest.fixture
def scene(clock):
    return lambda *args, **settings: Scene(clock, *args, **settings)


LOST = ConnectionFailed("lost")


# --- sending ---------------------------------------------------------------------------------------------------------


def test_every_part_is_sent_and_its_receipt_reported(scene):
    played = scene()
    played.run()

    assert played.accepted == [1, 2, 3]
    assert played.transport.timeouts == [None] * 3, "there is nothing else to wait for"


def test_receipts_are_reported_as_parts_finish(scene):
    played = scene(choose=lambda count: count - 1)
    played.run()

    assert played.accepted == [2, 3, 1]


def test_without_work_it_returns_at_once(scene):
    played = scene(parts=0)
    played.run()

    assert played.transport.timeouts == []


@pytest.mark.parametrize("concurrency", [1, 2, 3, 9])
def test_no_more_parts_are_under_way_than_were_asked_for(scene, concurrency):
    played = scene(parts=7, concurrency=concurrency)
    played.run()

    assert played.transport.most_under_way == min(concurrency, 7)


def test_work_is_asked_for_only_when_there_is_room(scene):
    """A part of a stream is held in memory from then on."""
    played = scene(parts=5)
    asked = []
    played.transport.meanwhile = lambda: asked.append(played.asked)
    played.run()

    assert asked == [2, 3, 4, 5, 5]


def test_bodies_go_through_the_flow(scene):
    """So that they are counted, slowed down, and stopped."""
    played = scene(parts=1)
    bodies = []
    played.transport.meanwhile = lambda: bodies.extend(job.body for job in played.transport.under_way)
    played.run()
    played.flow.stop.set()

    with pytest.raises(TransferStopped):
        list(bodies[0].chunks())


def test_what_has_arrived_is_no_longer_moving(scene):
    played = scene()
    played.run()

    assert played.flow.in_flight_bytes() == 0


# --- trying again ----------------------------------------------------------------------------------------------------


def test_each_part_has_attempts_of_its_own(scene):
    played = scene({1: [LOST] * 2, 2: [LOST] * 2, 3: [LOST] * 2}, attempts=3)
    played.run()

    assert sorted(played.accepted) == [1, 2, 3]


def test_a_part_that_fails_once_too_often_fails_the_upload(scene):
    last = ConnectionFailed("the last")
    played = scene({2: [LOST, LOST, last]}, attempts=3)
    with pytest.raises(ConnectionFailed) as caught:
        played.run()

    assert caught.value is last


def test_a_part_waits_for_its_next_attempt_and_others_do_not(scene):
    played = scene({1: [LOST, LOST]}, parts=4)
    played.run()

    assert played.times == {1: [0.0, 1.0, 3.0], 2: [0.0], 3: [0.0], 4: [0.0]}


def test_a_part_that_waits_keeps_its_place(scene):
    """While a storage fails, a stream is not read on and on into memory."""
    played = scene({number: [LOST] for number in range(1, 9)}, parts=8, concurrency=3)
    held = []
    played.transport.meanwhile = lambda: held.append(played.asked - len(played.accepted))
    played.run()

    assert max(held) == 3


def test_a_part_that_is_due_goes_before_new_ones(scene):
    played = scene({1: [Throttled(retry_after=0.0)]}, parts=4, concurrency=1)
    played.loop._policy = RetryPolicy(3, 0.0, 0.0, _Longest())
    played.run()

    assert [number for _, number in played.transport.submitted] == [1, 1, 2, 3, 4]


def test_headway_makes_the_attempts_start_anew(scene):
    """A large part on a poor line is not given up while each attempt gets further, by an eighth at least."""
    played = scene({1: [(moved, LOST) for moved in (10, 20, 30, 40, 50, 60, 70)]}, parts=1, attempts=2)
    played.run()

    assert played.accepted == [1]


def test_headway_of_less_than_an_eighth_does_not_count(scene):
    played = scene({1: [(9, LOST), (18, LOST)]}, parts=1, attempts=2)

    with pytest.raises(ConnectionFailed):
        played.run()


def test_getting_as_far_as_before_is_no_headway(scene):
    played = scene({1: [(40, LOST), (40, LOST)]}, parts=1, attempts=2)

    with pytest.raises(ConnectionFailed):
        played.run()


def test_falling_back_does_not_make_the_same_bytes_count_again(scene):
    played = scene({1: [(40, LOST), (10, LOST), (40, LOST)]}, parts=1, attempts=3)

    with pytest.raises(ConnectionFailed):
        played.run()


def test_headway_makes_the_wait_short_again(scene):
    played = scene({1: [LOST, LOST, (40, LOST)]}, parts=1, attempts=4)
    played.run()

    assert played.times == {1: [0.0, 1.0, 3.0, 4.0]}


def test_the_smallest_part_makes_headway_by_a_byte(scene):
    played = scene({1: [LOST, (1, LOST)]}, parts=1, size=2, attempts=2)
    played.run()

    assert played.accepted == [1]


def test_a_wait_that_the_storage_asks_for_holds_all_parts(scene):
    played = scene({1: [Throttled(retry_after=60.0)]}, parts=4)
    played.run()

    assert played.times == {1: [0.0, 60.0], 2: [0.0], 3: [60.0], 4: [60.0]}


def test_a_wait_of_our_own_holds_only_its_part(scene):
    played = scene({1: [Throttled()]}, parts=4)
    played.run()

    assert played.times == {1: [0.0, 1.0], 2: [0.0], 3: [0.0], 4: [0.0]}


def test_the_longest_wait_that_the_storage_asks_for_counts(scene):
    played = scene({1: [Throttled(retry_after=60.0)], 2: [Throttled(retry_after=30.0)]}, parts=3)
    played.run()

    assert played.times == {1: [0.0, 60.0], 2: [0.0, 60.0], 3: [60.0]}


def test_a_part_that_is_due_waits_until_the_storage_may_be_asked_again(scene):
    played = scene({1: [LOST], 2: [Throttled(retry_after=60.0)]}, parts=2)
    played.run()

    assert played.times == {1: [0.0, 60.0], 2: [0.0, 60.0]}


def test_an_error_that_was_dealt_with_holds_on_to_nothing(scene):
    """Its frames would keep the bytes of the part in memory, and those of whatever caused it as well."""

    def send():
        try:
            open("/no/such/socket").close()  # noqa: PTH123  # any error of the system's will do
        except OSError as cause:
            raise ConnectionFailed("lost") from cause

    with pytest.raises(ConnectionFailed) as caught:
        send()
    lost = caught.value
    assert lost.__traceback__ is not None
    scene({1: [lost]}, parts=1).run()

    assert (lost.__traceback__, lost.__cause__.__traceback__) == (None, None)


# --- looking up now and then -----------------------------------------------------------------------------------------


def test_it_looks_up_while_nothing_finishes(scene):
    played = scene({1: [Throttled(retry_after=10.0)]}, parts=1, interval=4.0)
    played.run()

    assert [at - 1000.0 for at in played.ticks] == [4.0, 8.0, 10.0]


def test_it_waits_for_whatever_comes_first(scene):
    played = scene({1: [LOST]}, parts=2, interval=0.25)
    played.run()

    assert set(played.transport.timeouts) == {0.25}


def test_it_never_waits_a_negative_time(scene):
    played = scene({1: [LOST], 2: [LOST]}, parts=2)

    def dawdle():
        if played.transport.under_way:
            played.clock.time += 100.0

    played.transport.meanwhile = dawdle
    played.run()

    assert all(timeout is None or timeout >= 0 for timeout in played.transport.timeouts)


def test_what_is_raised_on_looking_up_ends_the_loop(scene):
    played = scene({1: [Throttled(retry_after=10.0)]}, parts=1)

    def refuse():
        raise CheckpointError("enough")

    played.on_tick = refuse
    with pytest.raises(CheckpointError, match="enough"):
        played.run()


# --- ending early ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [AccessDenied("no"), SourceChanged("other"), KeyboardInterrupt(), ValueError("x")])
def test_a_permanent_error_ends_the_loop_at_once(scene, error):
    played = scene({1: [error]}, parts=9)
    with pytest.raises(type(error)) as caught:
        played.run()

    assert caught.value is error
    assert played.times == {1: [0.0], 2: [0.0]}


def test_an_error_says_which_part_it_met(scene):
    error = AccessDenied("no")
    with pytest.raises(AccessDenied):
        scene({2: [error]}).run()

    assert error.__notes__ == ["Met while part 2 was being sent."]


def test_an_upload_that_is_gone_is_never_tried_again(scene):
    played = scene({1: [UploadNotFound(retryable=True)]})

    with pytest.raises(UploadNotFound):
        played.run()


def test_it_ends_only_when_no_worker_is_running(scene):
    played = scene({1: [AccessDenied()]}, parts=4, concurrency=4)
    with pytest.raises(AccessDenied):
        played.run()

    assert played.transport.under_way == []
    assert played.flow.stop.is_set(), "they were told to stop"
    assert played.transport.recalled, "and those that had not begun were taken back"


def test_workers_let_go_of_what_they_hold_when_the_last_part_is_there(scene):
    """Their buffers need not be kept while the object is made."""
    played = scene()
    played.run()

    assert played.transport.recalled


def test_what_is_acknowledged_meanwhile_counts(scene):
    played = scene({1: [AccessDenied()], 3: [TransferStopped()]}, parts=4, concurrency=4)
    with pytest.raises(AccessDenied):
        played.run()

    assert played.accepted == [2, 4]
    assert played.flow.in_flight_bytes() == 0


def test_the_first_error_comes_out_whatever_happens_meanwhile(scene):
    played = scene({1: [AccessDenied("the first")], 2: [UploadNotFound("the second")]}, parts=4, concurrency=4)

    def refuse(receipt):
        played.accepted.append(receipt.part_number)
        raise SourceChanged("the third")

    played.accept = refuse
    with pytest.raises(AccessDenied, match="the first"):
        played.run()
    assert played.accepted == [3, 4]


def test_workers_that_take_their_time_to_end_are_waited_for(scene):
    played = scene({1: [AccessDenied()]}, concurrency=2)
    settle = played.transport.next_outcome
    answers = []

    def slowly(timeout):
        answers.append(timeout)
        return None if len(answers) in {2, 3} else settle(timeout)

    played.transport.next_outcome = slowly
    with pytest.raises(AccessDenied):
        played.run()

    assert played.accepted == [2]
    assert answers == [None] * 4


def test_an_outcome_that_an_interrupt_swallowed_is_not_waited_for(scene):
    played = scene(parts=4, concurrency=3)
    settle = played.transport.next_outcome

    def interrupted(timeout):
        played.transport.next_outcome = settle
        settle(timeout)
        raise KeyboardInterrupt

    played.transport.next_outcome = interrupted
    with pytest.raises(KeyboardInterrupt):
        played.run()

    assert played.accepted == [2, 3]


# --- the progress callback raises while the last parts are awaited ---------------------------------------------------


def raising(played, *, at):
    """Let the progress callback raise this error once this number of parts is accepted."""
    error = ProgressRaised("the progress callback raised")
    error.__cause__ = LookupError("enough")

    def accept(receipt):
        played.accepted.append(receipt.part_number)
        if len(played.accepted) == at:
            raise error

    played.accept = accept
    return error


@pytest.mark.parametrize("wish", ["pause", "cancel"])
def test_what_progress_raises_after_a_wish_comes_out(scene, wish):
    played = scene(parts=9, concurrency=3)
    error = raising(played, at=2)
    played.transport.meanwhile = getattr(played.control, wish)
    with pytest.raises(ProgressRaised) as caught:
        played.run()

    assert caught.value is error
    assert played.accepted == [1, 2, 3], "and what arrives after it is not forgotten"


@pytest.mark.parametrize("first", [AccessDenied("no"), SourceChanged("other"), PluginDefect("a bug")])
def test_what_progress_raises_after_a_failure_comes_out(scene, first):
    played = scene({1: [first]}, parts=9, concurrency=3)
    error = raising(played, at=1)
    with pytest.raises(ProgressRaised) as caught:
        played.run()

    assert caught.value is error
    assert played.accepted == [2, 3]


@pytest.mark.parametrize("first", [KeyboardInterrupt(), SystemExit(0), ValueError("a time limit")])
def test_an_interrupt_outranks_what_progress_raises_and_does_not_hide_it(scene, first):
    played = scene({1: [first]}, parts=9, concurrency=3)
    error = raising(played, at=1)
    with pytest.raises(type(first)) as caught:
        played.run()

    assert caught.value is first
    assert first.__context__ is error
    assert first.__notes__[-1] == "The progress callback raised, too: LookupError('enough')."
    assert played.accepted == [2, 3]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit(0), ValueError("a time limit")])
def test_an_interrupt_while_the_last_parts_are_awaited_comes_out_when_they_are_there(scene, interrupt):
    played = scene(parts=9, concurrency=3)
    error = raising(played, at=2)
    settle, calls = played.transport.next_outcome, 0

    def interrupted(timeout):
        nonlocal calls
        calls += 1
        if calls == 1:
            played.control.pause()
        if calls == 3:
            raise interrupt
        return settle(timeout)

    played.transport.next_outcome = interrupted
    with pytest.raises(type(interrupt)) as caught:
        played.run()

    assert caught.value is interrupt
    assert interrupt.__context__ is error
    assert played.accepted == [1, 2, 3]


def test_what_accepting_raises_ends_the_loop(scene):
    played = scene(parts=4, concurrency=1)

    def refuse(receipt):
        raise SourceChanged("other bytes")

    played.accept = refuse
    with pytest.raises(SourceChanged, match="other bytes"):
        played.run()
    assert played.times == {1: [0.0]}


def test_a_source_that_fails_ends_the_loop(scene):
    played = scene()

    def work():
        yield 1, BytesBody(b"x")
        raise SourceChanged("cut short")

    with pytest.raises(SourceChanged, match="cut short"):
        played.loop.run(work())
    assert played.accepted == [1], "what was under way is not forgotten"


def test_an_executor_that_refuses_work_ends_the_loop(scene):
    played = scene(parts=2)
    take = played.transport.submit

    def refuse(job):
        if job.part_number == 2:
            raise RuntimeError("cannot schedule new futures after shutdown")
        take(job)

    played.transport.submit = refuse
    with pytest.raises(BackendError, match="the executor takes no more work, so part 2 was not sent: cannot") as caught:
        played.run()

    assert not caught.value.retryable
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert played.accepted == [1], "and the part that was refused is not waited for"


# --- asked to end ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wish", ["pause", "cancel"])
def test_a_wish_ends_the_loop(scene, wish):
    played = scene(parts=9)
    played.transport.meanwhile = getattr(played.control, wish)
    with pytest.raises(StopRequested) as caught:
        played.run()

    assert caught.value.mode == wish
    assert played.accepted == [1, 2], "what was under way is waited for"
    assert played.flow.stop.is_set()
    assert played.transport.woken == 2


def test_a_wish_ends_the_loop_though_all_parts_are_under_way(scene):
    played = scene(parts=2)
    played.transport.meanwhile = played.control.pause
    with pytest.raises(StopRequested):
        played.run()

    assert played.accepted == [1, 2]


def test_a_wish_that_was_there_before_lets_nothing_begin(scene):
    played = scene()
    played.control.pause()
    with pytest.raises(StopRequested):
        played.run()

    assert played.transport.submitted == []
    assert played.flow.stop.is_set()


def test_a_part_that_a_stream_gives_after_the_wish_is_not_sent(scene):
    """Reading the stream kept the loop waiting."""
    played = scene()

    def work():
        yield 1, BytesBody(b"x")
        played.control.cancel()
        yield 2, BytesBody(b"y")

    with pytest.raises(StopRequested):
        played.loop.run(work())
    assert played.times == {1: [0.0]}


def test_a_part_that_was_stopped_is_no_failure_of_its_own(scene):
    """A worker may notice the wish before the loop does."""
    played = scene({1: [TransferStopped()]})

    with pytest.raises(TransferStopped):
        played.run()


class TestControl:
    def test_nobody_asked(self):
        control = Control()
        control.check()

        assert not control.cancelled
        assert not control.requested.is_set()

    @pytest.mark.parametrize("wish", ["pause", "cancel"])
    def test_a_wish_is_told(self, wish):
        control = Control()
        getattr(control, wish)()

        assert control.requested.is_set()
        assert control.cancelled == (wish == "cancel")
        with pytest.raises(StopRequested, match=wish):
            control.check()

    @pytest.mark.parametrize("wishes", [("pause", "cancel"), ("cancel", "pause")])
    def test_a_cancel_outranks_a_pause(self, wishes):
        control = Control()
        for wish in wishes:
            getattr(control, wish)()

        with pytest.raises(StopRequested, match="cancel"):
            control.check()

    def test_alarms_go_off_at_each_wish(self):
        control, rung = Control(), []
        control.on_request(lambda: rung.append("a"))
        control.on_request(lambda: rung.append("b"))
        assert rung == []

        control.pause()
        assert rung == ["a", "b"]

        control.cancel()
        assert rung == ["a", "b", "a", "b"]

    def test_an_alarm_that_comes_late_goes_off_at_once(self):
        control, rung = Control(), []
        control.pause()
        control.on_request(lambda: rung.append("late"))

        assert rung == ["late"]


# --- whatever happens ------------------------------------------------------------------------------------------------


@given(
    parts=st.integers(0, 6),
    concurrency=st.integers(1, 4),
    failures=st.dictionaries(
        st.integers(1, 6),
        st.lists(st.sampled_from([LOST, Throttled(retry_after=2.0), (40, LOST)]), max_size=2),
    ),
    order=st.randoms(use_true_random=False),
)
def test_every_part_is_sent_once_whatever_finishes_when(parts, concurrency, failures, order):
    """With fewer failures than attempts, that is."""
    played = Scene(_Clock(), failures, parts=parts, concurrency=concurrency, choose=order.randrange)
    played.run()
    attempts = sum(len(failures.get(number, ())) + 1 for number in range(1, parts + 1))

    assert sorted(played.accepted) == list(range(1, parts + 1))
    assert len(played.transport.submitted) == attempts
    assert played.transport.most_under_way <= concurrency
    assert played.flow.in_flight_bytes() == 0


@given(
    concurrency=st.integers(1, 4),
    steps=st.lists(st.sampled_from([None, LOST, AccessDenied(), TransferStopped()]), min_size=6, max_size=6),
    order=st.randoms(use_true_random=False),
    wish_at=st.none() | st.integers(1, 8),
)
def test_it_leaves_nothing_under_way_whatever_happens(concurrency, steps, order, wish_at):
    script = {number: [step] for number, step in enumerate(steps, 1) if step is not None}
    played = Scene(_Clock(), script, parts=6, concurrency=concurrency, choose=order.randrange)
    played.transport.meanwhile = lambda: played.control.pause() if len(played.transport.timeouts) == wish_at else None
    try:
        played.run()
    except (AccessDenied, TransferStopped, StopRequested):
        ended_well = False
    else:
        ended_well = True

    assert played.transport.under_way == []
    assert played.flow.in_flight_bytes() == 0
    assert len(played.accepted) == len(set(played.accepted))
    assert (sorted(played.accepted) == [1, 2, 3, 4, 5, 6]) >= ended_well


class _Clock:
    def __init__(self):
        self.time = 1000.0

    def monotonic(self):
        return self.time
