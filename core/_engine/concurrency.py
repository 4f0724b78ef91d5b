"""
How many parts are in flight at a time.

More parts in flight bring more throughput where one connection can't fill the line: on a long line, where each
connection starts slowly and waits for a round trip after each part; on a line that loses packets, where TCP slows each
connection down; at a storage that limits the rate of a connection. Beyond that they bring nothing. A storage that
throttles refuses them, and where parts wait for the processor they compete for it.

`AutoConcurrency` finds the number by measuring the throughput at one number, then at another. It is a pure controller:
samples in, target out. It has no clock and no thread, so that a simulation can run it against models of lines.
"""

from __future__ import annotations

from typing import Protocol

from partwise.model import KIB

#: Parts in flight at first. Over a loopback or a LAN, more gain nothing.
CONCURRENCY_MIN = 4

#: A connection starts with some 10 packets per round trip, however long that takes. On a longer line, more connections
#: make up for it: they start with as many bytes per second as 4 do where a request takes 10 ms, up to the maximum.
_STARTS_PER_SECOND = CONCURRENCY_MIN / 0.01
_INITIAL_MAX = 64

#: The length of a measurement: at least these seconds, and at least this multiple of the time of a small request. And
#: at least these bytes for each part in flight: bytes count as sent when the kernel has them, which takes many at once
#: when a part starts, and at first all parts start at the same time.
_MEASURE_SECONDS = 0.2
_MEASURE_LATENCIES = 1.5
_MEASURE_BYTES = 256 * KIB

#: While it grows, the number doubles after each measurement that shows a gain by this factor over the best one before.
#: It stops at the second measurement in a row that does not: one alone may be noise, or the first losses of packets.
_GAIN = 1.1
_STALLS_MAX = 2

#: It doubles up to this number only. A higher one is kept only after a trial: at the start of an upload every
#: measurement shows a gain, and on a fast line without losses, 128 connections were slower than 64.
_DOUBLES_TO = 64

#: The measurements at such a number before the first trial of a higher one, and the seconds that the rest of the upload
#: must take at least. The new connections of a trial push others out of the queue of the line: on a line of 100 ms and
#: 1 Gbit/s, a trial in the middle of an upload of 10 seconds made it slower by up to a second.
_TRIAL_BEYOND_AFTER = 4
_TRIAL_BEYOND_SECONDS = 10.0

#: A trial starts only after two measurements that differ by less than this share: during the first seconds of an upload
#: and after a loss of packets the throughput rises by itself, which would be taken for a gain.
_STEADY = 0.2

#: Then other numbers are tried from time to time: with more in flight there must be a gain by the first factor, with
#: fewer no loss beyond the last one. The number of measurements before a trial starts at the first value, and doubles
#: with each trial that changes nothing, up to the second one. Beyond the number to which it doubles, the gain must be
#: half of what connections that don't share a line would bring: many connections share it unevenly, and the last parts
#: of the upload wait for the slowest ones.
_TRIAL_UP, _TRIAL_DOWN = 1.5, 0.75
_TRIAL_GAIN, _TRIAL_GAIN_BEYOND, _TRIAL_LOSS = 1.08, 1.25, 0.98
_TRIAL_AFTER, _TRIAL_AFTER_MAX = 2, 32

#: While the target is held, a measurement takes longer than while it grows, by this factor, to show small differences.
_HELD_LONGER = 2

#: A throughput that differs by this factor from what was measured before is another line, if that many measurements in
#: a row show it: grow again. One alone may be many parts that start at the same time and fill the kernel's buffers.
_CHANGED, _CHANGED_MEASUREMENTS = 1.6, 2

#: Seconds after which one more part than the storage accepted is tried. Each refusal of it doubles them, up to the
#: maximum.
_REFUSED_SECONDS, _REFUSED_SECONDS_MAX = 5.0, 300.0


class Concurrency(Protocol):
    """
    Decides how many parts are in flight.

    All methods are called by the scheduler's thread.
    """

    target: int  # the maximum number of parts in flight now
    interval: float | None  # seconds between two samples; None: none are needed

    def sample(self, now: float, moved: int, in_flight: int, *, saturated: bool) -> None:
        """
        Take a measurement into account.

        Args:
            now: the time in seconds.
            moved: bytes of parts that were sent so far, those of attempts in flight included.
            in_flight: the number of parts in flight.
            saturated: parts wait for the processors or for the bandwidth limit, not for the network.
        """

    def acknowledged(self) -> None:
        """Take into account that the storage acknowledged a part."""

    def throttled(self, now: float) -> bool:
        """
        Take into account that the storage refused a part because of too many requests.

        Returns:
            whether all parts must wait as long as the storage asks for, and not only the refused one.
        """


class _AcceptedParts:
    """
    Follow how many parts the storage accepts, once it has refused one.

    Each refused part takes one away. After a while without refusals, one more is tried. When the storage has accepted
    as many parts as are in flight, twice as many more are tried, until the number is what it was before.

    Args:
        target: the maximum number of parts in flight at first.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self._throttled = False  # fewer parts are in flight than before the storage has refused one
        self._target_before = target
        self._accepted_since = True  # a part was acknowledged since the last refusal
        self._accepted = 0  # parts that were acknowledged since the target has changed
        self._step = 1  # what is added to the target next
        self._more_at = 0.0  # when the first step is made
        self._wait = self._next_wait = _REFUSED_SECONDS  # seconds after the last refusal, and after the next one

    def acknowledged(self) -> None:
        """Take an acknowledged part into account; see `Concurrency`."""
        self._accepted_since = True
        self._accepted += 1

    def throttled(self, now: float) -> bool:
        """Reduce the target by the refused part; see `Concurrency`."""
        again = not self._accepted_since
        if not self._throttled:
            self._throttled, self._target_before = True, self.target
        self._accepted_since = False
        self.target = max(1, self.target - 1)
        if not again:  # refusals without a success between them are one
            self._wait = self._next_wait
            self._next_wait = min(_REFUSED_SECONDS_MAX, 2 * self._wait)
        self._step, self._more_at = 1, now + self._wait
        return again

    def _recover(self, now: float, in_flight: int) -> None:
        """Increase the target, if the storage may accept more."""
        if in_flight < self.target:
            return
        is_due = self._accepted >= self.target if self._step > 1 else now >= self._more_at
        if not is_due:
            return
        if self.target >= self._target_before:
            self.target = self._target_before
            self._throttled, self._next_wait = False, _REFUSED_SECONDS
            return
        self.target = min(self._target_before, self.target + self._step)
        self._step *= 2
        self._accepted = 0


class FixedConcurrency(_AcceptedParts):
    """
    Keep the number of the caller, unless the storage refuses that many.

    A storage that accepts 8 parts refuses 56 of 64. If all of these were sent again and again, each would wait longer
    after each refusal, so that in the end nothing would be in flight most of the time.

    Args:
        number: the maximum number of parts in flight.
    """

    interval: float | None = None

    def __init__(self, number: int) -> None:
        super().__init__(number)

    def sample(self, now: float, moved: int, in_flight: int, *, saturated: bool) -> None:  # noqa: ARG002  # as declared
        """Return to the number from time to time, if the storage has refused it."""
        if self._throttled:
            self._recover(now, in_flight)

    def throttled(self, now: float) -> bool:
        """
        Reduce the target by the refused part; see `Concurrency`.

        Returns:
            True.
        """
        super().throttled(now)
        return True


class AutoConcurrency(_AcceptedParts):
    """
    Follow the throughput.

    Args:
        maximum: the most parts in flight.
        latency: seconds that a small request took, perhaps with the connection; 0 if that is not known.
        size: bytes that are to be sent; None if that is not known.

    Attributes:
        target: the maximum number of parts in flight now.
        interval: seconds between two samples.
    """

    def __init__(self, maximum: int, latency: float = 0.0, size: int | None = None) -> None:
        self._maximum, self._size = maximum, size
        initial = min(_INITIAL_MAX, max(CONCURRENCY_MIN, round(_STARTS_PER_SECOND * latency)))
        super().__init__(min(maximum, initial))
        self._minimum = self.target
        self._measure_seconds = max(_MEASURE_SECONDS, _MEASURE_LATENCIES * latency)
        self.interval: float | None = self._measure_seconds / 2
        self._mark: tuple[float, int] | None = None  # time and bytes at the start of the measurement
        self._settling = False  # the measurement that runs is the first after a change, and does not count
        self._growing = True
        self._stalls = 0  # measurements without a gain, in a row
        self._best = 0.0  # the highest throughput so far while growing; at the target while holding
        self._before: tuple[int, float] | None = None  # during a trial: the number before, and its throughput
        self._trial_after = _TRIAL_AFTER
        self._until_trial = _TRIAL_AFTER
        self._until_beyond = _TRIAL_BEYOND_AFTER
        self._doubles_to = _DOUBLES_TO
        self._confirmed = False  # a measurement since it has grown showed about the same throughput
        self._changed = 0  # measurements in a row that show a faster line; negative: a slower one
        self._trial_up = False

    def sample(self, now: float, moved: int, in_flight: int, *, saturated: bool) -> None:
        """Take a measurement into account; see `Concurrency`."""
        if self._throttled:  # the storage decides, not the throughput
            self._recover(now, in_flight)
            self._mark, self._before = None, None
            return
        if in_flight < self.target or saturated:
            self._mark = None  # what limits the throughput is not the target: the end, a slow source, the processors
            return
        if self._mark is None:
            self._mark = now, moved
            return
        started, before = self._mark
        long_enough = self._measure_seconds * (1 if self._growing else _HELD_LONGER)
        if now - started < long_enough or moved - before < _MEASURE_BYTES * in_flight:
            return
        self._mark = now, moved
        if self._settling:
            self._settling = False
            return
        rate = (moved - before) / (now - started)
        if self._growing:
            self._grow(rate)
        elif self._before is not None:
            self._judge_trial(*self._before, rate)
        else:
            self._hold(rate, moved)

    def throttled(self, now: float) -> bool:
        """Reduce the target by the refused part; see `Concurrency`."""
        again = super().throttled(now)
        if self._before is not None:  # the number of a trial is not one to return to
            (self._target_before, _), self._before = self._before, None
        return again

    def _grow(self, rate: float) -> None:
        gained = rate >= self._best * _GAIN
        self._best = max(self._best, rate)
        self._stalls = 0 if gained else self._stalls + 1
        most = min(self._maximum, max(self._doubles_to, self.target))
        if self._stalls >= _STALLS_MAX or self.target == most:
            self._growing = False
            self._best = rate
            self._trial_after = _TRIAL_AFTER
            self._until_trial = _TRIAL_AFTER
            self._until_beyond = _TRIAL_BEYOND_AFTER
            self._trial_up = not gained or self.target >= _DOUBLES_TO  # the first trial is the other way
        elif gained:
            self.target = min(most, 2 * self.target)

    def _hold(self, rate: float, moved: int) -> None:
        if not self._best / _CHANGED <= rate <= self._best * _CHANGED:
            direction = 1 if rate > self._best else -1
            self._changed = self._changed + direction if self._changed * direction > 0 else direction
            if not self._confirmed or abs(self._changed) >= _CHANGED_MEASUREMENTS:
                self._grow_again(rate)
            return
        self._confirmed, self._changed = True, 0
        steady = abs(rate - self._best) < _STEADY * self._best
        self._best += (rate - self._best) / 2
        if not steady:
            return
        self._until_beyond -= 1
        self._until_trial -= 1
        if self._until_trial > 0:
            return
        self._trial_up = not self._trial_up
        factor = _TRIAL_UP if self._trial_up else _TRIAL_DOWN
        target = max(self._minimum, min(self._maximum, round(self.target * factor)))
        self._until_trial = self._trial_after
        if target > max(_DOUBLES_TO, self.target) and not self._may_try_beyond(moved):
            return
        if target != self.target:
            self._before = self.target, max(rate, self._best) if self._trial_up else self._best
            self.target = target
            self._settling = True

    def _may_try_beyond(self, moved: int) -> bool:
        if self._until_beyond > 0:
            return False
        if self._size is None or self.target > _DOUBLES_TO:  # more have helped before
            return True
        return self._size - moved >= _TRIAL_BEYOND_SECONDS * self._best

    def _grow_again(self, rate: float) -> None:
        # What changes after it was confirmed is the line, and no longer the start of the upload.
        self._doubles_to = self._maximum if self._confirmed else _DOUBLES_TO
        self._growing, self._stalls, self._best = True, 0, rate
        self._confirmed, self._changed = False, 0

    def _judge_trial(self, before: int, rate_before: float, rate: float) -> None:
        self._before = None
        if rate >= rate_before * self._factor_needed(before):
            self._best = rate
            self._trial_after = _TRIAL_AFTER
            self._trial_up = not self._trial_up  # what has helped is tried again
        else:
            self.target = before
            self._settling = True
            self._trial_after = min(_TRIAL_AFTER_MAX, 2 * self._trial_after)
        self._until_trial = self._trial_after

    def _factor_needed(self, before: int) -> float:
        if self.target < before:
            return _TRIAL_LOSS
        return _TRIAL_GAIN_BEYOND if self.target > _DOUBLES_TO else _TRIAL_GAIN
