"""Which errors are tried again, how often, and how long between; and the clock that the waiting is done by."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from attrs import define, field

from partwise.clock import Random, default_random
from partwise.config import TransferConfig
from partwise.errors import BackendError, SourceError

# The longest wait that a storage is granted, in seconds.
_ASKED_MAX = 86_400.0

_T = TypeVar("_T")


@define(frozen=True)
class RetryPolicy:
    """
    Exponential backoff with full jitter: the wait is drawn evenly from zero up to a bound that doubles each time, so
    that clients which failed together do not come back together.

    Args:
        max_attempts: attempts in a row, the first one included.
        base: seconds; the bound before the second attempt.
        longest: seconds; where the bound stops doubling.
        chance: where the draw comes from.
    """

    max_attempts: int
    base: float
    longest: float
    chance: Random = field(factory=default_random, repr=False)

    @classmethod
    def from_config(cls, config: TransferConfig, chance: Random) -> RetryPolicy:
        """The policy that a configuration asks for."""
        return cls(config.max_attempts, config.retry_base, config.retry_max, chance)

    def delay(self, failures: int, error: BaseException) -> float | None:
        """
        Seconds to wait after the `failures`-th failure in a row, or None to give up.

        A wait that the storage asks for (`retry_after`) is never undercut. One of more than a day is not waited for: a
        later run will do, and it may be a defect, or malice.
        """
        if not is_retryable(error) or failures >= self.max_attempts:
            return None
        asked = getattr(error, "retry_after", None) or 0.0
        if asked > _ASKED_MAX:
            return None
        bound = min(self.longest, self.base * 2.0 ** min(failures - 1, 60))
        drawn = self.chance.uniform(0.0, bound)
        return max(drawn, asked)  # in this order: what is not a number is above nothing


def is_retryable(error: BaseException) -> bool:
    """Whether the same operation may succeed if it is tried again: the backend's or the source's word for it."""
    return isinstance(error, BackendError | SourceError) and error.retryable


def call_with_retries(
    attempt: Callable[[], _T],
    policy: RetryPolicy,
    wait: Callable[[float], object],
    on_retry: Callable[[BackendError | SourceError, float], object],
) -> _T:
    """
    Call `attempt`, retrying retryable errors according to the retry policy.

    Args:
        attempt: one operation of a backend or of a source.
        policy: how often, and how long to wait in between.
        wait: wait for some seconds. What it raises ends the retrying.
        on_retry: called before each wait, with the error and the seconds.

    Raises:
        BackendError, SourceError: that of the last attempt.
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
