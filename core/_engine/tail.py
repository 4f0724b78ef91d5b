"""
Which parts are sent a second time at the end of an upload.

When no new parts are left, the slowest connection decides when the upload ends, while others are idle. So a late part
is sent a second time over an idle connection. A part has one number and one content, whichever copy of it the storage
keeps; the first copy that it acknowledges counts, and the other one is cut off.

Measured on lines with delay and loss (docs/performance.md), the last parts of an upload take up to a third of its time
without this, since a connection that has lost packets early stays slow for seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from statistics import median

#: Seconds that a part must have been in flight, at least. Over a LAN the whole tail is shorter.
SECOND_COPY_AFTER = 0.5

#: How many of the last parts show how long a part takes.
_RECENT = 64

#: A part is late after this share of the time that a part usually takes: the last ones must be sent again early, since
#: the copy takes its time, too.
_LATE = 0.7

#: While the most parts in flight exceed those that are left by less than this factor, the line is still busy: copies
#: would slow the others down.
_TAIL = 1.5

#: The share of an upload's parts that may be sent twice; the first number in any case.
_COPIES_MIN, _COPIES_SHARE = 8, 8


class LateParts:
    """
    Chooses the parts that are sent a second time.

    It has no clock: the times are given. It has no clock: the times are given.

    Args:
        after: seconds that a part must have been in flight, at least.
    """

    def __init__(self, after: float = SECOND_COPY_AFTER) -> None:
        self._after = after
        self._durations: deque[float] = deque(maxlen=_RECENT)
        self._parts = 0
        self._copies = 0
        self._most_in_flight = 0

    def acknowledged(self, seconds: float) -> None:
        """Take into account how long a part took."""
        self._durations.append(seconds)
        self._parts += 1

    def started(self, in_flight: int) -> None:
        """Take into account that so many parts are in flight."""
        self._most_in_flight = max(self._most_in_flight, in_flight)

    def due(self, parts: Iterable[tuple[int, float]], in_flight: int) -> tuple[int, float] | None:
        """
        Return the next part to send a second time, and when; None if there is none.

        Args:
            in_flight: the number of parts in flight.
            parts: the parts in flight that were not sent a second time yet: the number, and when it was started.
        """
        if in_flight * _TAIL > self._most_in_flight or self._copies >= max(_COPIES_MIN, self._parts // _COPIES_SHARE):
            return None
        oldest = min(parts, key=lambda part: part[1], default=None)
        if oldest is None or not self._durations:
            return None
        return oldest[0], oldest[1] + max(self._after, _LATE * median(self._durations))

    def copied(self) -> None:
        """Count a part that is sent a second time."""
        self._copies += 1
