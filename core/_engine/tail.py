"""
Which parts are sent a second time at the end of an upload.

When no new parts are left, the slowest connection decides when the upload ends, while others are idle. So once the
throughput falls, a late part is sent a second time over an idle connection. A part has one number and one content,
whichever copy of it the storage keeps; the first copy that it acknowledges counts, and the other one is cut off.

Over an emulated line of 250 ms and 300 Mbit/s, the last quarter of the parts took 7 of 20 seconds without this, since a
connection that has lost packets stays slow for seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from statistics import median

#: Seconds that a part must have been in flight, at least. Over a LAN the whole tail is shorter.
SECOND_COPY_AFTER = 0.5

#: Seconds over which the throughput is measured, and the number of such measurements that show what the line carries:
#: enough to span the noise, few enough to follow a line that has become slower.
MEASURED_SECONDS = 1.0
_MEASUREMENTS = 4

#: While the throughput exceeds this share of what the line carries, copies would only slow the others down.
_BUSY_ABOVE = 0.7

#: When the last bytes have been passed to the kernel, it takes a while until the line has carried them: what is
#: buffered is in proportion to the round trip. For this multiple of the time of a small request, the line may be busy.
_BUFFERED_LATENCIES = 1.0

#: How many of the last parts show how long a part usually takes, and the share of that after which a part is late: the
#: copy takes its time, too.
_RECENT = 64
_LATE = 0.7

#: The share of an upload's parts that may be sent twice; the first number in any case.
_COPIES_MIN, _COPIES_SHARE = 8, 8


class LateParts:
    """
    Chooses the parts that are sent a second time.

    It has no clock: the times are given.

    Args:
        after: seconds that a part must have been in flight, at least.
        measured: seconds over which the throughput is measured; 0: copies do not depend on it.
        latency: seconds that a small request takes; 0 if that is not known.
    """

    def __init__(
        self, after: float = SECOND_COPY_AFTER, measured: float = MEASURED_SECONDS, latency: float = 0.0
    ) -> None:
        self._after = after
        self._measured = measured
        self._latency = latency
        self._samples: deque[tuple[float, int]] = deque()  # time and bytes, of the last measurement's seconds
        self._rates: deque[float] = deque(maxlen=_MEASUREMENTS)
        self._rate = 0.0
        self._busy_at = 0.0  # the last time at which the throughput was as usual
        self._measure_at = 0.0
        self._durations: deque[float] = deque(maxlen=_RECENT)
        self._parts = 0
        self._copies = 0

    def sample(self, now: float, moved: int, *, ending: bool) -> None:
        """
        Take into account how many bytes were sent.

        Args:
            now: the time in seconds.
            moved: the bytes that were sent so far.
            ending: no new parts are left, so that a lower throughput than before does not show that the line is slower.
        """
        if not self._measured:
            return
        self._samples.append((now, moved))
        start, before = self._samples[0]
        if now - start < self._measured:
            return
        self._rate = (moved - before) / (now - start)
        if self._rate >= _BUSY_ABOVE * self._usual_rate():
            self._busy_at = now
        while self._samples[0][0] <= now - self._measured:
            self._samples.popleft()
        if now >= self._measure_at and (not ending or self._rate >= self._usual_rate()):
            self._measure_at = now + self._measured
            self._rates.append(self._rate)

    def acknowledged(self, seconds: float) -> None:
        """Take into account how long a part took."""
        self._durations.append(seconds)
        self._parts += 1

    def due(self, parts: Iterable[tuple[int, float]]) -> tuple[int, float] | None:
        """
        Return the next part to send a second time, and when; None if there is none.

        Args:
            parts: the parts in flight that were not sent a second time yet: the number, and when it was started.
        """
        if self._copies >= max(_COPIES_MIN, self._parts // _COPIES_SHARE):
            return None
        oldest = min(parts, key=lambda part: part[1], default=None)
        if oldest is None or not self._durations:
            return None
        return oldest[0], oldest[1] + max(self._after, _LATE * median(self._durations))

    def copied(self) -> None:
        """Count a part that is sent a second time."""
        self._copies += 1

    def is_busy(self, now: float) -> bool:
        """Return whether the line carries as much as before, as far as is known."""
        if not self._measured:
            return False
        usual = self._usual_rate()
        if self._rate >= _BUSY_ABOVE * usual:  # which is 0 if that is not known
            return True
        return now - self._busy_at < _BUFFERED_LATENCIES * self._latency

    def _usual_rate(self) -> float:
        highest = sorted(self._rates)[-2:]
        return highest[0] if highest else 0.0  # of the two: the highest may be noise
