"""Calls that are repeated while the patience lasts; and the system clock."""

from __future__ import annotations

import threading

import pytest

from partwise._engine.patience import Patience
from partwise._engine.retry import after_failure, call_with_retries
from partwise.clock import SystemClock
from partwise.errors import AccessDenied, ConnectionFailed, ServerFailed, Throttled


class Calls:
    """A scripted attempt and everything that `call_with_retries` needs, and a record of what it did."""

    def __init__(self, clock, *errors, longest, **settings):
        self.errors, self.clock, self.retries, self.attempts = list(errors), clock, [], 0
        self.patience = Patience(**{"give_up_after": 300.0, "random": longest, **settings})

    def attempt(self):
        self.attempts += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    def run(self, *, moves=True, wait=None):
        event = threading.Event()
        return call_with_retries(
            self.attempt,
            self.patience,
            self.clock.monotonic,
            wait or (lambda seconds: self.clock.wait(event, seconds)),
            lambda *retry: self.retries.append(retry),
            moves=moves,
        )


@pytest.fixture
def make_calls(clock, longest):
    return lambda *errors, **settings: Calls(clock, *errors, longest=longest, **settings)


def test_an_operation_is_retried_with_the_delays_of_the_patience(make_calls, clock):
    errors = [ConnectionFailed("1"), Throttled("2", retry_after=20.0)]
    calls = make_calls(*errors)

    assert calls.run() == "done"
    assert clock.waits == [0.5, 20.0]
    assert calls.retries == list(zip(errors, clock.waits, [1, 2], strict=True)), "with the number of the attempt"


def test_a_permanent_error_is_raised_at_once(make_calls, clock):
    with pytest.raises(AccessDenied):
        make_calls(AccessDenied()).run()

    assert clock.waits == []


def test_the_error_of_the_last_attempt_is_raised_when_the_patience_ends(make_calls, clock):
    errors = [ConnectionFailed(str(number)) for number in range(999)]
    calls = make_calls(*errors, give_up_after=60.0)
    with pytest.raises(ConnectionFailed) as caught:
        calls.run()

    assert caught.value is errors[calls.attempts - 1]
    assert clock.time == 1060.0, "the last attempt is made at the deadline"


def test_an_error_that_ends_the_patience_names_the_setting(make_calls):
    with pytest.raises(ConnectionFailed) as caught:
        make_calls(ConnectionFailed(), give_up_after=0.0).run()

    assert caught.value.hint == "To keep trying for longer, raise give_up_after="


def test_an_error_keeps_its_own_hint(make_calls):
    with pytest.raises(ConnectionFailed) as caught:
        make_calls(ConnectionFailed(hint="Check the cable"), give_up_after=0.0).run()

    assert caught.value.hint == "Check the cable"


def test_an_error_after_the_last_of_the_attempts_has_no_hint(make_calls):
    with pytest.raises(ConnectionFailed) as caught:
        make_calls(ConnectionFailed(), max_attempts=1).run()

    assert caught.value.hint == ""


def test_an_error_in_wait_ends_the_retries(make_calls):
    def interrupt(seconds):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_calls(ConnectionFailed()).run(wait=interrupt)


def test_a_success_that_moves_the_upload_renews_the_patience(make_calls):
    calls = make_calls(ConnectionFailed())
    calls.run()

    assert calls.patience.failing_since is None


@pytest.mark.parametrize("failures", [0, 1])
def test_a_success_that_does_not_move_the_upload_leaves_the_patience_as_it_was(make_calls, failures):
    """Otherwise a storage that answers questions, and fails at what matters, would be asked for ever."""
    calls = make_calls(*[ConnectionFailed()] * failures)
    calls.patience.next_delay(900.0, 1, ServerFailed("complete"))
    calls.run(moves=False)

    assert calls.patience.failing_since == 900.0


def test_the_failures_of_a_question_are_over_when_it_was_answered(make_calls):
    """Otherwise a failure an hour later would be the last one."""
    calls = make_calls(ConnectionFailed(), ConnectionFailed())
    calls.run(moves=False)

    assert calls.patience.failing_since is None
    assert not calls.patience.outage


def test_after_the_patience_has_ended_every_further_request_is_made_once(make_calls):
    calls = make_calls(*[ConnectionFailed()] * 9, give_up_after=0.0)
    for _ in range(3):
        with pytest.raises(ConnectionFailed):
            calls.run()

    assert calls.attempts == 3


def test_a_call_that_has_failed_counts_as_the_first_attempt(make_calls):
    """A call for each part is made without all this, and retried only if it fails."""
    first = ConnectionFailed("the first")
    calls = make_calls(ConnectionFailed("the second"))
    attempt = after_failure(first, calls.attempt)

    with pytest.raises(ConnectionFailed, match="the first"):
        attempt()
    with pytest.raises(ConnectionFailed, match="the second"):
        attempt()
    attempt()
    assert calls.attempts == 2


def test_the_system_clock_goes_forward():
    clock = SystemClock()

    assert clock.monotonic() <= clock.monotonic()
    assert clock.now() > 1_700_000_000


def test_a_wait_on_the_system_clock_ends_when_the_event_is_set():
    event = threading.Event()
    assert not SystemClock().wait(event, 0.0)

    event.set()
    assert SystemClock().wait(event, 60.0)
