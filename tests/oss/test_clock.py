"""The storage's clock, as far as we know it."""

from __future__ import annotations

import pytest

from partwise.backends.oss.clock import ServerClock


class Ours:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_it_is_ours_until_it_is_corrected():
    assert ServerClock(Ours(5.0))() == 5.0


def test_a_correction_holds_from_then_on():
    ours = Ours()
    clock = ServerClock(ours)
    assert clock.correct(1000.0 + 3600, clock.offset)
    ours.now += 10
    assert clock() == 1010.0 + 3600


def test_a_clock_that_is_right_already_is_not_corrected():
    clock = ServerClock(Ours())
    assert not clock.correct(1000.0 + 59, clock.offset)
    assert clock.offset == 0.0


def test_a_storage_that_finds_fault_with_its_own_time_is_not_humoured():
    ours = Ours()
    clock = ServerClock(ours)
    assert clock.correct(5000.0, clock.offset)
    assert not clock.correct(9000.0, clock.offset)
    assert clock() == 5000.0


def test_a_clock_may_drift_again_later():
    ours = Ours()
    clock = ServerClock(ours)
    assert clock.correct(5000.0, clock.offset)
    ours.now += 61
    assert clock.correct(9000.0, clock.offset)
    assert clock() == 9000.0


def test_all_that_were_signed_before_the_correction_are_worth_sending_again():
    clock = ServerClock(Ours())
    before = clock.offset
    assert clock.correct(5000.0, before)
    assert clock.correct(5000.0, before)
    assert clock() == 5000.0


@pytest.mark.parametrize(("authenticated", "most"), [(True, 86_400.0), (False, 900.0)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_correction_goes_as_far_as_the_answer_can_be_trusted_and_no_further(authenticated, most, sign):
    ours = Ours(1_000_000.0)
    clock = ServerClock(ours, authenticated=authenticated)
    assert not clock.correct(1_000_000.0 + sign * (most + 1), clock.offset)
    assert clock.offset == 0.0
    assert clock.correct(1_000_000.0 + sign * most, clock.offset)
    assert clock() == 1_000_000.0 + sign * most


def test_what_is_not_a_time_corrects_nothing():
    clock = ServerClock(Ours())
    for time in (float("nan"), float("inf"), -float("inf")):
        assert not clock.correct(time, clock.offset)
    assert clock.offset == 0.0


def test_a_reading_is_the_time_and_what_is_in_it():
    clock = ServerClock(Ours())
    assert clock.correct(5000.0, clock.offset)
    assert clock.reading() == (5000.0, 4000.0)


def test_how_far_the_storage_is_ahead_is_told_without_the_correction():
    clock = ServerClock(Ours())
    assert clock.correct(5000.0, clock.offset)
    assert clock.difference(1500.0) == 500.0


@pytest.mark.parametrize(("ahead", "corrected"), [(59, False), (60, True)])
def test_a_minute_is_worth_correcting(ahead, corrected):
    clock = ServerClock(Ours())
    assert clock.correct(1000.0 + ahead, clock.offset) is corrected


@pytest.mark.parametrize(("later", "corrected"), [(59, False), (60, True)])
def test_a_clock_is_corrected_once_a_minute_at_most(later, corrected):
    ours = Ours()
    clock = ServerClock(ours)
    assert clock.correct(5000.0, clock.offset)
    ours.now += later
    assert clock.correct(9000.0, clock.offset) is corrected
