"""
What one run is doing: retries, parts in flight, whether the storage fails.

The scheduler and what retries write it; progress reports and the result read it. All of that happens in the upload's
thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from attrs import define, field

from partwise.errors import BackendError, ConnectionFailed, PartwiseError, Throttled
from partwise.results import Waiting

_URL = re.compile(r"https?://([^\s/;,]*[^\s/;,:])/?")

#: A failure of fewer seconds is not shown: it is common, and a retry or two fix it.
_SHOWN_AFTER = 2.0


def _ignore(_: object) -> None:
    return None


@define(eq=False)
class RunStatus:
    """
    The status of one run.

    Attributes:
        on_failing: called once in an outage, when it has lasted two seconds.
        on_recovered: called at the end of such an outage, with the seconds that it lasted.
        retries: the number of transient errors after which the run tried again.
        parts_in_flight: the number of parts that are being sent.
        concurrency_reached: the highest number of parts in flight so far.
        reason: why nothing moves, in a few words, as in "no connection to HOST"; None while the storage does not fail.
        failing_since: when it began to fail, on the monotonic clock; None while it does not fail.
        gives_up_at: when the run gives up, if it goes on failing; None while it does not fail, or if no time is set.
    """

    on_failing: Callable[[Waiting], object] = field(default=_ignore, repr=False)
    on_recovered: Callable[[float], object] = field(default=_ignore, repr=False)
    retries: int = field(default=0, init=False)
    parts_in_flight: int = field(default=0, init=False)
    concurrency_reached: int = field(default=0, init=False)
    reason: str | None = field(default=None, init=False)
    failing_since: float | None = field(default=None, init=False)
    gives_up_at: float | None = field(default=None, init=False)
    _announced: bool = field(default=False, init=False)

    def set_in_flight(self, count: int) -> None:
        """Set the number of parts in flight."""
        self.parts_in_flight = count
        self.concurrency_reached = max(self.concurrency_reached, count)

    def failing(self, since: float, reason: str, gives_up_at: float | None) -> None:
        """
        Note that nothing moves.

        Args:
            since: the time of the first failure, on the monotonic clock.
            reason: why, in a few words.
            gives_up_at: when the run gives up, on the monotonic clock; None if no time is set.
        """
        self.failing_since, self.reason, self.gives_up_at = since, reason, gives_up_at

    def recovered(self, now: float) -> None:
        """Note that something moved: the storage does not fail, or no longer."""
        since, announced = self.failing_since, self._announced
        self.failing_since = self.reason = self.gives_up_at = None
        self._announced = False
        if since is not None and announced:
            self.on_recovered(now - since)

    def waiting(self, now: float) -> Waiting | None:
        """
        Return what the run waits for; None unless the storage keeps failing.

        A failure of a moment does not count.
        """
        if self.failing_since is None or self.reason is None or now - self.failing_since < _SHOWN_AFTER:
            return None
        gives_up_in = None if self.gives_up_at is None else max(0.0, self.gives_up_at - now)
        return Waiting(self.reason, now - self.failing_since, gives_up_in)

    def announce(self, now: float) -> None:
        """Call `on_failing`, if it is time to."""
        waiting = self.waiting(now)
        if waiting is not None and not self._announced:
            self._announced = True
            self.on_failing(waiting)


def outage_reason(error: BaseException) -> str:
    """Return in a few words why nothing moves, by the error of the latest attempt."""
    if isinstance(error, Throttled):
        return "the storage throttles requests"
    message = error.message if isinstance(error, PartwiseError) else str(error)
    if isinstance(error, BackendError) and error.status is not None:
        return f"the storage responds {error.status}{f' ({error.code})' if error.code else ''}"
    if isinstance(error, ConnectionFailed):
        # Without the cause, which changes from one attempt to the next, and what it may mean.
        first, host = message.partition(": ")[0].partition("; ")[0], _URL.search(message)
        message = first if host is None or first.startswith("no connection") else f"no response from {host[1]}"
    return _URL.sub(r"\1", message) or type(error).__name__
