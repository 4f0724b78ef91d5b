"""The number of parts in flight follows what the line shows."""

from itertools import pairwise
from statistics import median

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from partwise._engine.concurrency import CONCURRENCY_MIN, AutoConcurrency, FixedConcurrency
from partwise._engine.tail import LateParts
from partwise.model import KIB, MIB
from partwise.testing._proof.line_models import Line, SimulatedTransfer

MBIT = 1_000_000 / 8

METRO = Line(round_trip=0.02, rate=500 * MBIT)
FAR = Line(round_trip=0.1, rate=1000 * MBIT)
FARTHER = Line(round_trip=0.25, rate=300 * MBIT)
LOSSY = Line(round_trip=0.1, rate=300 * MBIT, loss=0.001)
POOR = Line(round_trip=0.08, rate=20 * MBIT, loss=0.005)
CAPPED = Line(round_trip=0.02, rate=500 * MBIT, connection_rate=1_000_000)
THROTTLING = Line(round_trip=0.02, rate=1000 * MBIT, connection_rate=2_000_000, accepted=8)


def seconds(line, size, number, *, part_size=MIB):
    return SimulatedTransfer(line, size, part_size, FixedConcurrency(number)).run().seconds


def auto(line, size, *, part_size=MIB, maximum=128, **arguments):
    controller = AutoConcurrency(maximum, line.latency, size)
    return SimulatedTransfer(line, size, part_size, controller, LateParts(latency=line.latency), **arguments).run()


@pytest.mark.parametrize(
    ("line", "mib"),
    [
        pytest.param(METRO, 256, id="metro"),
        pytest.param(FAR, 1024, id="far"),
        pytest.param(FARTHER, 384, id="farther"),
        pytest.param(LOSSY, 256, id="lossy"),
        pytest.param(POOR, 32, id="poor"),
        pytest.param(Line(round_trip=0.03, rate=300 * MBIT, loss=0.001), 192, id="30 ms, 0.1 % loss"),
        pytest.param(Line(round_trip=0.15, rate=50 * MBIT), 128, id="150 ms, 50 Mbit/s"),
        pytest.param(Line(round_trip=0.3, rate=10 * MBIT, loss=0.01), 32, id="300 ms, 1 % loss"),
        pytest.param(Line(round_trip=0.1, rate=1000 * MBIT, loss=0.005), 600, id="1 Gbit/s, 0.5 % loss"),
        pytest.param(Line(round_trip=0.02, rate=1000 * MBIT, loss=0.0005), 600, id="1 Gbit/s, 0.05 % loss"),
        pytest.param(Line(round_trip=0.05, rate=20 * MBIT, loss=0.0005), 16, id="few parts over a slow line"),
        pytest.param(CAPPED, 512, id="a server that limits each connection"),
    ],
)
def test_it_is_nearly_as_fast_as_the_best_number(line, mib):
    best = min(seconds(line, mib * MIB, number) for number in (4, 16, 64, 128))

    assert auto(line, mib * MIB).seconds <= best / 0.9


def test_second_copies_of_late_parts_shorten_the_tail():
    line = Line(round_trip=0.2, rate=1000 * MBIT, loss=0.001)
    alone = SimulatedTransfer(line, 512 * MIB, MIB, AutoConcurrency(128, line.latency)).run()

    assert auto(line, 512 * MIB).seconds < 0.95 * alone.seconds


def test_it_grows_when_the_line_becomes_faster_in_the_middle():
    line = Line(round_trip=0.1, rate=20 * MBIT, loss=0.001, changes=((10.0, 300 * MBIT),))

    run = auto(line, 256 * MIB)

    best = min(seconds(line, 256 * MIB, number) for number in (16, 64, 128))
    assert run.seconds <= best / 0.9


def test_it_does_not_collapse_when_the_line_becomes_slower_in_the_middle():
    line = Line(round_trip=0.1, rate=300 * MBIT, loss=0.001, changes=((4.0, 20 * MBIT),))

    best = min(seconds(line, 256 * MIB, number) for number in (16, 64, 128))
    assert auto(line, 256 * MIB).seconds <= best / 0.9


def test_a_storage_that_accepts_few_parts_is_used_fully_and_rarely_refuses():
    run = auto(THROTTLING, 256 * MIB, count_from=2.0)

    assert run.seconds <= seconds(THROTTLING, 256 * MIB, 8) / 0.9
    assert run.refused < 0.05 * run.requests


def test_it_starts_like_a_lan_if_the_latency_is_not_known():
    assert AutoConcurrency(128).target == CONCURRENCY_MIN
    assert AutoConcurrency(2).target == 2


def test_it_starts_with_more_parts_on_a_longer_line():
    targets = [AutoConcurrency(128, latency).target for latency in (0.001, 0.05, 0.2, 0.5, 10.0)]

    assert targets == sorted(targets)
    assert targets[0] == CONCURRENCY_MIN
    assert targets[-1] <= 64


def steady(controller, rate, seconds, *, now=0.0, moved=0, saturated=False):
    """Run the controller at a throughput that does not depend on the target; return the targets, time and bytes."""
    targets = []
    for _ in range(int(seconds / controller.interval)):
        now += controller.interval
        moved += int(rate * controller.interval)
        controller.sample(now, moved, controller.target, saturated=saturated)
        targets.append(controller.target)
    return targets, now, moved


def test_it_does_not_oscillate_where_more_parts_bring_nothing():
    controller = AutoConcurrency(128)

    targets, now, moved = steady(controller, 10_000_000, 30)
    later, _, _ = steady(controller, 10_000_000, 60, now=now, moved=moved)

    assert max(targets) <= 4 * CONCURRENCY_MIN
    assert max(later) <= 2 * CONCURRENCY_MIN
    changes = sum(one != other for one, other in pairwise(later))
    assert changes <= 12


@pytest.mark.parametrize("maximum", [50, 100])
def test_it_stops_at_the_maximum_while_more_parts_bring_more(maximum):
    controller, now, moved, targets = AutoConcurrency(maximum), 0.0, 0, []
    for _ in range(600):
        now += controller.interval
        moved += int(controller.target * 1_000_000 * controller.interval)
        controller.sample(now, moved, controller.target, saturated=False)
        targets.append(controller.target)

    assert max(targets) == maximum
    assert targets[-1] >= 0.96 * maximum


def test_it_comes_back_down_when_fewer_parts_are_as_fast():
    controller, now, moved = AutoConcurrency(128), 0.0, 0
    while controller.target < 64:  # as long as more parts bring more
        now += controller.interval
        moved += int(controller.target * 1_000_000 * controller.interval)
        controller.sample(now, moved, controller.target, saturated=False)

    targets, _, _ = steady(controller, 20_000_000, 120, now=now, moved=moved)

    assert targets[-1] <= 16


def run_for(controller, seconds, rate_of):
    """Run a controller that is full at a throughput that depends on time and target; return the targets."""
    now, moved, targets = 0.0, 0, []
    while now < seconds:
        now += controller.interval
        moved += int(rate_of(now, controller.target) * controller.interval)
        controller.sample(now, moved, controller.target, saturated=False)
        targets.append(controller.target)
    return targets


def test_a_throughput_that_rises_by_itself_is_not_a_gain_of_more_parts():
    controller = AutoConcurrency(128, 0.2)

    targets = run_for(controller, 8, lambda now, _target: 20_000_000 * 1.35**now)

    assert set(targets) == {64}


@pytest.mark.parametrize(("gain", "is_kept"), [(1.2, False), (1.3, True)])
def test_many_parts_must_bring_half_of_what_they_would_bring_alone(gain, is_kept):
    controller = AutoConcurrency(128, 0.2)

    targets = run_for(controller, 60, lambda _now, target: 50_000_000 * (gain if target > 64 else 1))

    assert (targets[-1] > 64) is is_kept


@pytest.mark.parametrize(("seconds", "is_tried"), [(12, False), (40, True)])
def test_many_parts_are_tried_only_while_enough_is_left_to_gain_by_them(seconds, is_tried):
    controller = AutoConcurrency(128, 0.2, size=seconds * 50_000_000)

    targets = run_for(controller, seconds, lambda _now, _target: 50_000_000)

    assert (max(targets) > 64) is is_tried


def test_parts_that_start_together_and_fill_the_buffers_are_not_mistaken_for_a_change():
    controller, now, moved = AutoConcurrency(128, 0.1), 0.0, 0

    for step in range(400):  # each second, the kernel takes 200 KiB of each of 40 parts at once
        now += controller.interval
        moved += 40 * 200 * KIB if step % 13 == 0 else 0
        controller.sample(now, moved, controller.target, saturated=False)

    assert controller.target == 40


@pytest.mark.parametrize("rate", [10_000_000, 1_000_000_000])
def test_it_does_not_grow_while_parts_wait_for_the_processors(rate):
    saturated, _, _ = steady(AutoConcurrency(128), rate, 10, saturated=True)
    waiting, _, _ = steady(AutoConcurrency(128), rate, 10)

    assert set(saturated) == {CONCURRENCY_MIN}
    assert max(waiting) > CONCURRENCY_MIN


@pytest.mark.parametrize("per_second", [0, 1_000_000], ids=["the last parts", "a slow source"])
def test_parts_that_run_out_are_not_mistaken_for_a_slower_line(per_second):
    controller, now, moved = AutoConcurrency(128), 0.0, 0
    while now < 10:
        now, moved = now + 0.25, moved + 1_000_000 * controller.target
        controller.sample(now, moved, controller.target, saturated=False)
    grown = controller.target

    for _ in range(400):  # one part, which is sent as fast as its connection alone can be
        now, moved = now + 0.25, moved + per_second // 4
        controller.sample(now, moved, 1, saturated=False)

    assert controller.target == grown >= 64


def test_each_refused_part_reduces_the_target_by_one():
    controller = AutoConcurrency(128, 0.2)
    before = controller.target

    for _ in range(before - 8):
        controller.throttled(1.0)

    assert controller.target == 8


def test_only_refusals_without_a_success_between_them_hold_all_parts():
    controller = AutoConcurrency(128)

    assert not controller.throttled(1.0)
    assert controller.throttled(1.1)
    controller.acknowledged()
    assert not controller.throttled(1.2)


def test_a_refused_number_is_tried_again_ever_more_rarely():
    controller, now, moved, refused_at = AutoConcurrency(128, 0.2), 0.0, 0, []
    for _ in range(20_000):
        now += controller.interval
        moved += 1_000_000
        controller.acknowledged()
        controller.sample(now, moved, controller.target, saturated=False)
        if controller.target > 8:
            controller.throttled(now)
            refused_at.append(now)

    late = [time for time in refused_at if time > now / 2]
    assert controller.target in (8, 9)
    assert late
    assert len(late) <= now / 2 / 250


def test_a_fixed_number_stays_as_it_is_whatever_the_throughput():
    controller = FixedConcurrency(7)
    for second in range(60):
        controller.acknowledged()
        controller.sample(float(second), 1000 * second**3, 7, saturated=second % 2 == 1)

    assert controller.target == 7
    assert controller.interval is None


def test_a_fixed_number_is_reduced_by_each_refused_part_and_comes_back():
    controller = FixedConcurrency(7)
    for _ in range(4):
        assert controller.throttled(0.0)
    assert controller.target == 3

    for second in range(1, 120):
        controller.acknowledged()
        controller.sample(float(second), 1000 * second, controller.target, saturated=False)
        assert controller.target <= 7

    assert controller.target == 7


@pytest.mark.parametrize(
    ("controller", "most"), [(FixedConcurrency(64), 64), (AutoConcurrency(128, 0.2), 96)], ids=["fixed", "auto"]
)
def test_the_number_comes_back_soon_after_the_storage_refused_nearly_everything(controller, most):
    """As S3 does while it distributes the keys of a bucket to more servers."""
    for _ in range(60):
        controller.throttled(0.0)
    assert controller.target == 4

    now, targets = 0.0, []
    while now < 60:  # all parts are accepted, and more of them than before bring nothing
        now += 0.25
        for _ in range(controller.target):
            controller.acknowledged()
        controller.sample(now, int(now * 50_000_000), controller.target, saturated=False)
        targets.append(controller.target)

    assert targets[int(5 / 0.25) - 2] == 4
    assert targets[int(8 / 0.25)] == 64
    assert median(targets[int(8 / 0.25) :]) == 64
    assert max(targets) == most  # "auto" tries others from time to time, as before


def test_the_number_does_not_come_back_to_one_that_was_refused_while_it_was_tried():
    controller, now, moved = AutoConcurrency(128, 0.2), 0.0, 0

    def send(seconds):
        nonlocal now, moved
        end = now + seconds
        while now < end:
            now, moved = now + 0.25, moved + 10_000_000
            for _ in range(controller.target):
                controller.acknowledged()
            controller.sample(now, moved, controller.target, saturated=False)

    while controller.target <= 64:  # until more are tried
        send(0.25)
    for _ in range(3):
        controller.throttled(now)
    assert controller.target == 96 - 3

    send(6.0)
    assert controller.target == 64


@pytest.mark.parametrize("number", [16, 64])
def test_a_number_that_the_storage_refuses_is_as_fast_as_what_it_accepts(number):
    run = SimulatedTransfer(THROTTLING, 256 * MIB, MIB, FixedConcurrency(number), count_from=2.0).run()

    assert run.seconds <= seconds(THROTTLING, 256 * MIB, 8) / 0.8
    assert run.refused < 0.05 * run.requests


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("sample"), st.floats(0.0, 5.0), st.integers(0, 10**9), st.booleans()),
        st.tuples(st.just("throttled"), st.floats(0.0, 5.0)),
        st.tuples(st.just("acknowledged")),
    ),
    max_size=200,
)


@given(STEPS, st.integers(1, 1000), st.floats(0.0, 60.0))
@example([("throttled", 0.0)] * 50, 16, 0.0)
@settings(max_examples=200, deadline=None)
def test_the_target_is_always_within_its_bounds(steps, maximum, latency):
    controller, now, moved = AutoConcurrency(maximum, latency), 0.0, 0
    for step in steps:
        match step:
            case ("sample", passed, more, saturated):
                now, moved = now + passed, moved + more
                controller.sample(now, moved, controller.target, saturated=saturated)
            case ("throttled", passed):
                now += passed
                controller.throttled(now)
            case _:
                controller.acknowledged()
        assert 1 <= controller.target <= maximum


@given(st.integers(1, 128), st.floats(0.0, 1.0), st.floats(1.0, 10**9))
@settings(max_examples=50, deadline=None)
def test_it_does_not_starve_at_a_steady_throughput(maximum, latency, rate):
    controller = AutoConcurrency(maximum, latency)
    least = controller.target

    targets, _, _ = steady(controller, rate, 200 * controller.interval)

    assert min(targets) >= least
