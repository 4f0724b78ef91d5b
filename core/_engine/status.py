"""
What one run is doing: retries, parts in flight, whether the storage responds.

The scheduler and what retries write it; progress reports and the result read it. All of that happens in the upload's
thread.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field


def _ignore(_: object) -> None:
    return None


@define(eq=False)
class RunStatus:
    """
    The status of one run.

    Attributes:
        on_failing: called with this status when the storage starts to fail; once in an outage.
        on_recovered: called when it is back, with the seconds that the outage lasted.
        retries: the number of transient errors that were answered with another attempt.
        parts_in_flight: the number of parts that are being sent.
        concurrency_reached: the highest number of parts in flight so far.
        reason: why nothing moves, in a few words, as in "no connection to HOST"; None while the storage is not failing.
        failing_since: when it started to fail, on the monotonic clock; None while it is not failing.
        gives_up_at: when the run gives up, if it goes on failing; None while it is not failing, or if no time is set.
    """

    on_failing: Callable[[RunStatus], object] = field(default=_ignore, repr=False)
    on_recovered: Callable[[float], object] = field(default=_ignore, repr=False)
    retries: int = field(default=0, init=False)
    parts_in_flight: int = field(default=0, init=False)
    concurrency_reached: int = field(default=0, init=False)
    reason: str | None = field(default=None, init=False)
    failing_since: float | None = field(default=None, init=False)
    gives_up_at: float | None = field(default=None, init=False)

    def set_in_flight(self, count: int) -> None:
        """Set the number of parts in flight."""
        self.parts_in_flight = count
        self.concurrency_reached = max(self.concurrency_reached, count)

    def failing(self, now: float, reason: str, gives_up_at: float | None) -> None:
        """
        Note that nothing moves, since now or since an earlier call.

        Args:
            now: the time on the monotonic clock.
            reason: why, in a few words.
            gives_up_at: when the run gives up, on the monotonic clock; None if no time is set.
        """
        started = self.failing_since is None
        if started:
            self.failing_since = now
        self.reason, self.gives_up_at = reason, gives_up_at
        if started:
            self.on_failing(self)

    def recovered(self, now: float) -> None:
        """Note that something moved: the storage is not failing, or no longer."""
        since, self.failing_since = self.failing_since, None
        self.reason = self.gives_up_at = None
        if since is not None:
            self.on_recovered(now - since)
