"""Which errors are retried, how often, and with which backoff."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from attrs import define, field

from partwise.clock import Random, default_random
from partwise.config import TransferConfig
from partwise.errors import BackendError, SourceError

#: The longest wait in seconds that a storage may request.
_MAX_RETRY_AFTER = 86_400.0

_T = TypeVar("_T")


@define(frozen=True)
class RetryPolicy:
    """
    Exponential backoff with full jitter.

    The delay is drawn evenly from zero up to a bound that doubles with each failure, so that clients that failed
    together do not retry together.
    """

    max_attempts: int  # consecutive attempts, the first one included
    base: float  # the bound in seconds before the second attempt
    max_delay: float  # the maximum of the bound in seconds
    random: Random = field(factory=default_random, repr=False)

    @classmethod
    def from_config(cls, config: TransferConfig, random: Random) -> RetryPolicy:
        """Make the policy of a configuration."""
        return cls(config.max_attempts, config.retry_base, config.retry_max, random)

    def delay(self, failures: int, error: BaseException) -> float | None:
        """
        Return the seconds to wait before the next attempt, or None to give up.

        The delay is never shorter than the storage asks for (`retry_after`). If it asks for more than a day, give up: a
        later run can retry, and the value may be a defect or malicious.

        Args:
            failures: the number of consecutive failures.
            error: the last one.
        """
        if not is_retryable(error) or failures >= self.max_attempts:
            return None
        retry_after = getattr(error, "retry_after", None) or 0.0
        if retry_after > _MAX_RETRY_AFTER:
            return None
        bound = min(self.max_delay, self.base * 2.0 ** min(failures - 1, 60))
        jittered = self.random.uniform(0.0, bound)
        return max(jittered, retry_after)  # in this order, max ignores a NaN from the storage


def is_retryable(error: BaseException) -> bool:
    """Return whether the error is transient, so that a retry may succeed."""
    return isinstance(error, BackendError | SourceError) and error.retryable


def call_with_retries(
    attempt: Callable[[], _T],
    policy: RetryPolicy,
    wait: Callable[[float], object],
    on_retry: Callable[[BackendError | SourceError, float], object],
) -> _T:
    """
    Call `attempt`, retrying retryable errors according to the retry policy.

    Before each `wait`, `on_retry` is called with the error and the seconds. What `wait` raises ends the retrying.

    Raises:
        BackendError, SourceError: the error of the last attempt.
    """
    failures = 0
    while True:
        try:
            return attempt()
        except (BackendError, SourceError) as error:
            failures += 1
            delay = policy.delay(failures, error)
            if delay is None:
                raise
            on_retry(error, delay)
            wait(delay)
