"""Which errors are tried again, how often, and how long between."""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise._engine.retry import RetryPolicy, call_with_retries, is_retryable
from partwise.clock import SystemClock
from partwise.config import TransferConfig
from partwise.errors import AccessDenied, BackendError, ConnectionFailed, SourceChanged, Throttled


class Drawn:
    """Notes the bounds of each draw, and draws the upper one."""

    def __init__(self):
        self.bounds = []

    def uniform(self, a, b, /):
        self.bounds.append((a, b))
        return b


def test_the_bound_of_the_wait_doubles_up_to_the_longest():
    chance = Drawn()
    policy = RetryPolicy(9, 0.5, 3.0, chance)

    assert [policy.delay(failures, ConnectionFailed()) for failures in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert chance.bounds == [(0.0, 0.5), (0.0, 1.0), (0.0, 2.0), (0.0, 3.0), (0.0, 3.0)]


def test_the_last_attempt_is_followed_by_none():
    policy = RetryPolicy(3, 0.5, 3.0, Drawn())

    assert policy.delay(2, ConnectionFailed()) is not None
    assert policy.delay(3, ConnectionFailed()) is None


def test_one_attempt_means_no_second():
    assert RetryPolicy(1, 0.5, 3.0).delay(1, ConnectionFailed()) is None


@pytest.mark.parametrize("error", [AccessDenied(), SourceChanged(), OSError(), KeyboardInterrupt()])
def test_what_is_permanent_is_not_tried_again(error):
    assert not is_retryable(error)
    assert RetryPolicy(9, 0.5, 3.0).delay(1, error) is None


def test_the_errors_word_counts_not_its_class():
    assert not is_retryable(ConnectionFailed(retryable=False))
    assert is_retryable(BackendError(retryable=True))


def test_a_wait_that_the_storage_asks_for_is_never_undercut():
    assert RetryPolicy(9, 0.5, 3.0).delay(1, Throttled(retry_after=60.0)) == 60.0


def test_a_wait_that_the_storage_asks_for_does_not_shorten_ours():
    assert RetryPolicy(9, 3.0, 3.0, Drawn()).delay(1, Throttled(retry_after=0.1)) == 3.0


@pytest.mark.parametrize("asked", [86_401.0, 1e300, float("inf")])
def test_a_wait_of_more_than_a_day_is_not_waited_for(asked):
    assert RetryPolicy(9, 0.5, 3.0).delay(1, Throttled(retry_after=asked)) is None
    assert RetryPolicy(9, 0.5, 3.0).delay(1, Throttled(retry_after=86_400.0)) == 86_400.0


@pytest.mark.parametrize("asked", [float("nan"), -5.0, float("-inf"), None])
def test_a_wait_that_is_no_span_of_time_is_not_asked_for(asked):
    assert RetryPolicy(9, 3.0, 3.0, Drawn()).delay(1, Throttled(retry_after=asked)) == 3.0


def test_an_operation_is_retried_with_the_waits_of_the_policy():
    errors = [ConnectionFailed("1"), Throttled("2", retry_after=20.0)]
    waits, noted, left = [], [], list(errors)

    def attempt():
        if left:
            raise left.pop(0)
        return "done"

    policy = RetryPolicy(3, 0.5, 3.0, Drawn())

    assert call_with_retries(attempt, policy, waits.append, lambda *retry: noted.append(retry)) == "done"
    assert waits == [0.5, 20.0]
    assert noted == list(zip(errors, waits, strict=True))


def test_what_the_wait_raises_ends_the_retrying():
    def interrupt(seconds):
        raise KeyboardInterrupt

    def attempt():
        raise ConnectionFailed

    with pytest.raises(KeyboardInterrupt):
        call_with_retries(attempt, RetryPolicy(3, 0.5, 3.0), interrupt, lambda error, delay: None)


@given(st.integers(1, 10_000), st.floats(0, 100), st.floats(0, 1000), st.integers())
def test_a_wait_is_never_longer_than_the_longest(failures, base, longest, seed):
    delay = RetryPolicy(10_001, base, longest, random.Random(seed)).delay(failures, ConnectionFailed())

    assert 0.0 <= delay <= longest


def test_a_configuration_becomes_a_policy():
    chance = Drawn()
    policy = RetryPolicy.from_config(TransferConfig(max_attempts=7, retry_base=2, retry_max=11), chance)

    assert RetryPolicy(7, 2, 11, chance) == policy


def test_the_draw_differs_from_client_to_client():
    """Clients that failed together do not come back together."""
    delays = {RetryPolicy(9, 1.0, 1.0, random.Random(seed)).delay(1, ConnectionFailed()) for seed in range(20)}

    assert len(delays) == 20


def test_the_machines_clock_goes_forward():
    clock = SystemClock()

    assert clock.monotonic() <= clock.monotonic()
    assert clock.now() > 1_700_000_000


def test_waiting_by_the_machines_clock_ends_with_the_event():
    event = threading.Event()
    assert not SystemClock().wait(event, 0.0)

    event.set()
    assert SystemClock().wait(event, 60.0)
