"""The status of one run."""

from __future__ import annotations

import pytest

from partwise._engine.status import RunStatus
from partwise.results import Waiting


@pytest.fixture
def reported():
    return []


@pytest.fixture
def status(reported):
    return RunStatus(reported.append, reported.append)


def test_highest_number_of_parts_in_flight_is_kept(status):
    for count in (1, 3, 2):
        status.set_in_flight(count)
    assert (status.parts_in_flight, status.concurrency_reached) == (2, 3)


def test_an_outage_lasts_from_its_first_failure_to_the_next_success(status):
    assert status.waiting(5.0) is None
    status.failing(10.0, "no connection to HOST", 310.0)
    status.failing(12.0, "the storage throttles", 320.0)
    assert status.waiting(15.0) == Waiting("the storage throttles", 5.0, 305.0)
    status.recovered(17.0)
    assert status.waiting(17.0) is None
    status.failing(20.0, "no connection to HOST", None)
    assert status.waiting(20.0) == Waiting("no connection to HOST", 0.0, None)


def test_a_time_to_give_up_that_has_passed_is_now(status):
    status.failing(10.0, "no connection to HOST", 11.0)
    assert status.waiting(12.0) == Waiting("no connection to HOST", 2.0, 0.0)


def test_an_outage_is_announced_once_when_it_has_lasted_a_second(status, reported):
    status.failing(10.0, "no connection to HOST", 310.0)
    status.failing(10.9, "no connection to HOST", 310.0)
    assert reported == []
    for time in (11.0, 12.0):
        status.failing(time, "no connection to HOST", 310.0)
        status.announce(time)
    assert reported == [Waiting("no connection to HOST", 1.0, 299.0)]
    status.recovered(17.0)
    status.recovered(18.0)
    assert reported[1:] == [7.0]


def test_an_outage_is_announced_between_two_failures(status, reported):
    status.failing(10.0, "no connection to HOST", None)
    status.announce(11.0)
    assert reported == [Waiting("no connection to HOST", 1.0, None)]


def test_a_short_failure_is_not_announced_and_neither_is_its_end(status, reported):
    status.failing(10.0, "no connection to HOST", 310.0)
    status.recovered(19.0)
    status.announce(19.0)
    assert reported == []


def test_the_next_outage_is_announced_again(status, reported):
    for start in (10.0, 20.0):
        status.failing(start, "no connection to HOST", None)
        status.announce(start + 1)
        status.recovered(start + 2)
    assert reported == [Waiting("no connection to HOST", 1.0), 2.0] * 2
