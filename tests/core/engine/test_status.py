"""The status of one run."""

from __future__ import annotations

import pytest

from partwise._engine.status import RunStatus, outage_reason
from partwise.errors import ConnectionFailed, HostNotFound, ServerFailed, SourceError, Throttled
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
    status.failing(10.0, "the storage throttles requests", 320.0)
    assert status.waiting(15.0) == Waiting("the storage throttles requests", 5.0, 305.0)
    status.recovered(17.0)
    assert status.waiting(17.0) is None
    status.failing(20.0, "no connection to HOST", None)
    assert status.waiting(22.0) == Waiting("no connection to HOST", 2.0, None)


def test_a_time_to_give_up_that_has_passed_is_now(status):
    status.failing(10.0, "no connection to HOST", 11.0)
    assert status.waiting(12.0) == Waiting("no connection to HOST", 2.0, 0.0)


def test_an_outage_is_announced_once_when_it_has_lasted_two_seconds(status, reported):
    status.failing(10.0, "no connection to HOST", 310.0)
    status.announce(11.9)
    assert (reported, status.waiting(11.9)) == ([], None)
    for time in (12.0, 13.0):
        status.failing(10.0, "no connection to HOST", 310.0)
        status.announce(time)
    assert reported == [Waiting("no connection to HOST", 2.0, 298.0)]
    status.recovered(17.0)
    status.recovered(18.0)
    assert reported[1:] == [7.0]


def test_a_failure_that_was_not_announced_ends_without_a_word(status, reported):
    status.failing(10.0, "no connection to HOST", 310.0)
    status.recovered(11.0)
    status.announce(19.0)
    assert reported == []


def test_the_next_outage_is_announced_again(status, reported):
    for start in (10.0, 20.0):
        status.failing(start, "no connection to HOST", None)
        status.announce(start + 2)
        status.recovered(start + 3)
    assert reported == [Waiting("no connection to HOST", 2.0), 3.0] * 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionFailed("no connection to localhost:9: Connection refused"), "no connection to localhost:9"),
        (ConnectionFailed("no connection to https://h: Connection refused"), "no connection to h"),
        (ConnectionFailed("the connection to http://[::1]:9 broke in the request"), "no response from [::1]:9"),
        (ConnectionFailed("the response of https://h.example.com was lost: reset"), "no response from h.example.com"),
        (ConnectionFailed("connection reset"), "connection reset"),
        (HostNotFound("no connection to h:9: its name can't be resolved"), "no connection to h:9"),
        (
            ConnectionFailed("https://h:9 did not respond within 60 seconds; maybe it took effect"),
            "no response from h:9",
        ),
        (ConnectionFailed(), "ConnectionFailed"),
        (ServerFailed("part 3: InternalError", status=500, code="Internal"), "the storage responds 500 (Internal)"),
        (ServerFailed("part 3: 503", status=503), "the storage responds 503"),
        (ServerFailed("the disk is full: no space"), "the disk is full: no space"),
        (Throttled("part 3: SlowDown", status=503, code="SlowDown"), "the storage throttles requests"),
        (SourceError("f: input/output error"), "f: input/output error"),
        (ValueError("odd"), "odd"),
    ],
)  # fmt: skip
def test_the_reason_for_an_outage_is_short(error, reason):
    assert outage_reason(error) == reason
