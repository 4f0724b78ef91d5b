"""Which errors are retried, how often, and with which backoff; and the system clock."""

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


class MaxRandom:
    """Randomness that always returns the upper bound, and records the bounds."""

    def __init__(self):
        self.bounds = []

    def uniform(self, a, b, /):
        self.bounds.append((a, b))
        return b


def test_the_bound_of_the_delay_doubles_up_to_the_maximum():
    max_random = MaxRandom()
    policy = RetryPolicy(9, 0.5, 3.0, max_random)

    assert [policy.delay(failures, ConnectionFailed()) for failures in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert max_random.bounds == [(0.0, 0.5), (0.0, 1.0), (0.0, 2.0), (0.0, 3.0), (0.0, 3.0)]


def test_the_last_attempt_is_not_followed_by_another():
    policy = RetryPolicy(3, 0.5, 3.0, MaxRandom())

    assert policy.delay(2, ConnectionFailed()) is not None
    assert policy.delay(3, ConnectionFailed()) is None


def test_with_one_attempt_there_are_no_retries():
    assert RetryPolicy(1, 0.5, 3.0).delay(1, ConnectionFailed()) is None


@pytest.mark.parametrize("error", [AccessDenied(), SourceChanged(), OSError(), KeyboardInterrupt()])
def test_permanent_errors_are_not_retried(error):
    assert not is_retryable(error)
    assert RetryPolicy(9, 0.5, 3.0).delay(1, error) is None


def test_the_retryable_flag_counts_not_the_class():
    assert not is_retryable(ConnectionFailed(retryable=False))
    assert is_retryable(BackendError(retryable=True))


def test_the_delay_is_never_shorter_than_retry_after():
    assert RetryPolicy(9, 0.5, 3.0).delay(1, Throttled(retry_after=60.0)) == 60.0


def test_retry_after_does_not_shorten_the_backoff():
    assert RetryPolicy(9, 3.0, 3.0, MaxRandom()).delay(1, Throttled(retry_after=0.1)) == 3.0


@pytest.mark.parametrize("retry_after", [86_401.0, 1e300, float("inf")])
def test_a_retry_after_of_more_than_a_day_ends_the_retries(retry_after):
    assert RetryPolicy(9, 0.5, 3.0).delay(1, Throttled(retry_after=retry_after)) is None
    assert RetryPolicy(9, 0.5, 3.0).delay(1, Throttled(retry_after=86_400.0)) == 86_400.0


@pytest.mark.parametrize("retry_after", [float("nan"), -5.0, float("-inf"), None])
def test_an_invalid_retry_after_is_ignored(retry_after):
    assert RetryPolicy(9, 3.0, 3.0, MaxRandom()).delay(1, Throttled(retry_after=retry_after)) == 3.0


def test_an_operation_is_retried_with_the_delays_of_the_policy():
    errors = [ConnectionFailed("1"), Throttled("2", retry_after=20.0)]
    waits, retries, left = [], [], list(errors)

    def attempt():
        if left:
            raise left.pop(0)
        return "done"

    policy = RetryPolicy(3, 0.5, 3.0, MaxRandom())

    assert call_with_retries(attempt, policy, waits.append, lambda *retry: retries.append(retry)) == "done"
    assert waits == [0.5, 20.0]
    assert retries == list(zip(errors, waits, strict=True))


def test_an_error_in_wait_ends_the_retries():
    def interrupt(seconds):
        raise KeyboardInterrupt

    def attempt():
        raise ConnectionFailed

    with pytest.raises(KeyboardInterrupt):
        call_with_retries(attempt, RetryPolicy(3, 0.5, 3.0), interrupt, lambda error, delay: None)


@given(st.integers(1, 10_000), st.floats(0, 100), st.floats(0, 1000), st.integers())
def test_the_delay_is_never_longer_than_the_maximum(failures, base, max_delay, seed):
    delay = RetryPolicy(10_001, base, max_delay, random.Random(seed)).delay(failures, ConnectionFailed())

    assert 0.0 <= delay <= max_delay


def test_a_policy_is_made_from_a_configuration():
    max_random = MaxRandom()
    policy = RetryPolicy.from_config(TransferConfig(max_attempts=7, retry_base=2, retry_max=11), max_random)

    assert RetryPolicy(7, 2, 11, max_random) == policy


def test_the_jitter_differs_between_clients():
    """Clients that failed together do not retry together."""
    delays = {RetryPolicy(9, 1.0, 1.0, random.Random(seed)).delay(1, ConnectionFailed()) for seed in range(20)}

    assert len(delays) == 20


def test_the_system_clock_goes_forward():
    clock = SystemClock()

    assert clock.monotonic() <= clock.monotonic()
    assert clock.now() > 1_700_000_000


def test_a_wait_on_the_system_clock_ends_when_the_event_is_set():
    event = threading.Event()
    assert not SystemClock().wait(event, 0.0)

    event.set()
    assert SystemClock().wait(event, 60.0)
