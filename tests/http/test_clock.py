"""The local clock, corrected by what the service reports."""

from __future__ import annotations

import pytest

from partwise.backends._http.clock import ServerClock


class LocalClock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_without_a_correction_it_is_the_local_clock():
    assert ServerClock(LocalClock(5.0))() == 5.0


def test_a_correction_applies_from_then_on():
    local = LocalClock()
    clock = ServerClock(local)
    assert clock.correct(1000.0 + 3600, clock.offset)
    local.now += 10
    assert clock() == 1010.0 + 3600


def test_a_difference_below_a_minute_is_not_corrected():
    clock = ServerClock(LocalClock())
    assert not clock.correct(1000.0 + 59, clock.offset)
    assert clock.offset == 0.0


def test_a_second_correction_right_after_the_first_is_refused():
    local = LocalClock()
    clock = ServerClock(local)
    assert clock.correct(5000.0, clock.offset)
    assert not clock.correct(9000.0, clock.offset)
    assert clock() == 5000.0


def test_a_later_correction_is_accepted():
    local = LocalClock()
    clock = ServerClock(local)
    assert clock.correct(5000.0, clock.offset)
    local.now += 61
    assert clock.correct(9000.0, clock.offset)
    assert clock() == 9000.0


def test_requests_signed_before_the_correction_are_worth_a_retry():
    clock = ServerClock(LocalClock())
    before = clock.offset
    assert clock.correct(5000.0, before)
    assert clock.correct(5000.0, before)
    assert clock() == 5000.0


@pytest.mark.parametrize(("authenticated", "limit"), [(True, 86_400.0), (False, 900.0)])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_limit_of_a_correction_depends_on_authentication(authenticated, limit, sign):
    local = LocalClock(1_000_000.0)
    clock = ServerClock(local, authenticated=authenticated)
    assert not clock.correct(1_000_000.0 + sign * (limit + 1), clock.offset)
    assert clock.offset == 0.0
    assert clock.correct(1_000_000.0 + sign * limit, clock.offset)
    assert clock() == 1_000_000.0 + sign * limit


def test_an_infinite_or_undefined_time_is_refused():
    clock = ServerClock(LocalClock())
    for time in (float("nan"), float("inf"), -float("inf")):
        assert not clock.correct(time, clock.offset)
    assert clock.offset == 0.0


def test_a_reading_is_the_time_and_the_offset_in_it():
    clock = ServerClock(LocalClock())
    assert clock.correct(5000.0, clock.offset)
    assert clock.reading() == (5000.0, 4000.0)


def test_the_difference_is_relative_to_the_uncorrected_clock():
    clock = ServerClock(LocalClock())
    assert clock.correct(5000.0, clock.offset)
    assert clock.difference(1500.0) == 500.0


@pytest.mark.parametrize(("ahead", "corrected"), [(59, False), (60, True)])
def test_a_difference_of_a_minute_is_corrected(ahead, corrected):
    clock = ServerClock(LocalClock())
    assert clock.correct(1000.0 + ahead, clock.offset) is corrected


@pytest.mark.parametrize(("later", "corrected"), [(59, False), (60, True)])
def test_the_clock_is_corrected_at_most_once_per_minute(later, corrected):
    local = LocalClock()
    clock = ServerClock(local)
    assert clock.correct(5000.0, clock.offset)
    local.now += later
    assert clock.correct(9000.0, clock.offset) is corrected
