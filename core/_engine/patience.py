"""
How long failures are retried, and how soon, decided without clock or I/O.

A run gives up when nothing has moved for `give_up_after` seconds, counted over all its requests: one part that has bad
luck does not end an upload whose other parts arrive. While nothing succeeds at all, an outage, the scheduler sends one
part at a time, and the waits are short, so that the end of the outage is noticed soon.
"""

from __future__ import annotations

from attrs import define, evolve, field

from partwise.clock import Random, default_random
from partwise.config import TransferConfig
from partwise.errors import (
    BackendError,
    CheckpointBusy,
    CheckpointError,
    ConnectionFailed,
    HostNotFound,
    ServerFailed,
    SourceError,
)

#: The longest wait in seconds during an outage, and the longest time that one attempt keeps the next from being made.
#: After an outage, an attempt is made within this time, and its success releases all others.
PROBE_INTERVAL = 3.0

#: This many failures in a row, of any requests, are an outage. A single one is common on a network that works.
_OUTAGE_FAILURES = 2

#: After a shorter outage, the parts keep their backoff, which is short, too.
_OUTAGE_SECONDS = 1.0

#: The retry budget: retries that may follow each other as fast as the backoff allows. It covers the parts in flight
#: when all connections break at the same moment, or when the storage refuses all of them, so it is larger than this
#: where more can be in flight.
_BUDGET = 100

#: What a success adds to the budget. A storage that fails more than a fifth of the requests, one for each four that
#: succeed, uses it up.
_REFILL = 0.25

#: Without budget, seconds from one retry to the next, over all requests.
_SPACING = 1.0

#: Fewer seconds than this count as none: rounding must not add attempts at the deadline.
_INSTANT = 0.001


@define(eq=False)
class Patience:
    """
    Decides when a request is sent again, and when a run gives up.

    One instance is shared by all requests of a run. The backoff is exponential with full jitter: evenly from zero up to
    a bound that doubles with each failure of the request, so that clients that failed together do not retry together.

    Args:
        give_up_after: seconds without any movement, from the first failure, after which a failure is final.
        max_attempts: consecutive attempts at one request, the first one included; None: no limit.
        base: the bound of the backoff in seconds after the first failure.
        max_delay: the maximum of the bound in seconds.
        random: the randomness of the jitter.
        budget: retries that may follow each other as fast as the backoff allows.

    Attributes:
        failing_since: when the first request failed since something moved; None if none did.
        gave_up_after: seconds without movement when `next_delay` gave up for lack of time; None if it did not.
    """

    give_up_after: float
    max_attempts: int | None = None
    base: float = 0.5
    max_delay: float = 30.0
    random: Random = field(factory=default_random, repr=False)
    budget: float = _BUDGET

    failing_since: float | None = field(default=None, init=False)
    gave_up_after: float | None = field(default=None, init=False)
    _unavailable: int = field(default=0, init=False)  # failures in a row, of any requests, that are those of an outage
    _resolved: bool = field(default=False, init=False)  # whether any request got further than the name of the host
    _budget_left: float = field(init=False)
    _next_slot: float = field(default=0.0, init=False)  # when the next retry without budget may be sent

    @_budget_left.default
    def _whole_budget(self) -> float:
        return self.budget

    @classmethod
    def from_config(cls, config: TransferConfig, random: Random) -> Patience:
        """Make the patience of a run."""
        parts = config.concurrency_max if config.concurrency == "auto" else config.concurrency
        budget = max(_BUDGET, parts + 1)
        return cls(config.give_up_after, config.max_attempts, config.retry_base, config.retry_max, random, budget)

    def at_most(self, seconds: float) -> Patience:
        """Return a new instance that gives up after `seconds` at the latest."""
        return evolve(self, give_up_after=min(self.give_up_after, seconds))

    @property
    def outage(self) -> bool:
        """Whether nothing can be sent at present, as far as the latest failures show."""
        return self._unavailable >= _OUTAGE_FAILURES

    @property
    def gives_up_at(self) -> float | None:
        """When the run gives up unless something moves before; None while nothing fails."""
        return None if self.failing_since is None else self.failing_since + self.give_up_after

    @property
    def host_never_found(self) -> bool:
        """Whether it gave up on a host whose name could not be resolved even once."""
        return not self._resolved and (self.gave_up_after or 0.0) > 0.0

    def moved(self, now: float) -> bool:
        """
        Note that the upload moved.

        A request succeeded, or a part got further than in all earlier attempts.

        Returns:
            whether this is the end of an outage, so that what waits for a retry should be sent now.
        """
        outage_is_over = self.outage and self.failing_since is not None and now - self.failing_since >= _OUTAGE_SECONDS
        self.restore(None)
        self.succeeded()
        if outage_is_over:
            self._budget_left = self.budget
        return outage_is_over

    def succeeded(self) -> None:
        """Note that a request succeeded while nothing fails."""
        self._resolved = True
        if self._budget_left < self.budget:
            self._budget_left = min(self.budget, self._budget_left + _REFILL)

    def restore(self, failing_since: float | None) -> None:
        """
        Note that a request succeeded which does not move the upload.

        Args:
            failing_since: the value before this request failed.
        """
        self.failing_since = failing_since
        self.gave_up_after = None
        self._unavailable = 0

    def next_delay(self, now: float, failures: int, error: BaseException, took: float = 0.0) -> float | None:
        """
        Return the seconds to wait before the next attempt, or None to give up.

        The delay is never shorter than the storage asks for (`retry_after`). The last attempt is made when the patience
        ends, and every failure after that is final, until something succeeds.

        Args:
            now: the time of the failure.
            failures: the number of consecutive failures of this request.
            error: the last one.
            took: seconds that the attempt took. During an outage the wait starts with the attempt, so that the end of
                the outage is noticed as soon where connections hang as where they are refused.
        """
        if not is_retryable(error):
            return None
        if self.failing_since is None:
            self.failing_since = now
        self._note_kind(error)
        if self.max_attempts is not None and failures >= self.max_attempts:
            return None
        elapsed = now - self.failing_since
        left = self.give_up_after - elapsed
        retry_after = getattr(error, "retry_after", None) or 0.0
        if left < _INSTANT or retry_after > left:
            self.gave_up_after = elapsed
            return None
        jittered = self.random.uniform(0.0, self._bound(failures, elapsed))
        if self.outage:
            jittered = max(0.0, jittered - took)
        delay = max(jittered, retry_after)  # in this order, max ignores a NaN from the storage
        if not retry_after > 0.0:
            delay = max(delay, self._spend(now))
        return min(delay, left)

    def _note_kind(self, error: BaseException) -> None:
        if not isinstance(error, BackendError):
            return
        retry_after = getattr(error, "retry_after", None) or 0.0
        is_unavailable = isinstance(error, ConnectionFailed | ServerFailed) and not retry_after > 0.0
        self._unavailable = self._unavailable + 1 if is_unavailable else 0
        self._resolved = self._resolved or not isinstance(error, HostNotFound)

    def _bound(self, failures: int, elapsed: float) -> float:
        backoff = self.base * 2.0 ** min(failures - 1, 60)
        if self.outage:  # of any request, so the time that it has lasted counts
            return min(self.max_delay, PROBE_INTERVAL, max(backoff, elapsed))
        return min(self.max_delay, backoff)

    def _spend(self, now: float) -> float:
        """Take one retry from the budget; return the seconds until it may be sent."""
        self._budget_left = max(0.0, self._budget_left - 1.0)
        if self._budget_left > 0.0:
            return 0.0
        slot = max(now, self._next_slot)
        self._next_slot = slot + _SPACING
        return slot - now


def is_retryable(error: BaseException) -> bool:
    """Return whether the error is transient, so that a retry may succeed."""
    if isinstance(error, CheckpointBusy):
        return False  # a claim is never waited for
    return isinstance(error, BackendError | CheckpointError | SourceError) and error.retryable
