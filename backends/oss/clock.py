"""The storage's clock, as far as we know it: ours, and what the storage found it to be off by."""

from __future__ import annotations

import threading
from collections.abc import Callable

#: Seconds. A correction by less than this explains no refusal: the storage allows for fifteen minutes.
_WORTH_CORRECTING = 60.0

#: Seconds between two corrections. A storage that finds fault with a clock that was just set by its own is not helped by
#: setting it once more.
_BETWEEN_CORRECTIONS = 60.0


class ServerClock:
    """
    Our clock, corrected.

    Args:
        clock: ours, in seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._offset = 0.0
        self._corrected: float | None = None
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """The storage's time, in seconds since 1970."""
        return self._clock() + self._offset

    @property
    def offset(self) -> float:
        """What is added to our clock, in seconds."""
        return self._offset

    def correct(self, server_time: float, offset_used: float) -> bool:
        """
        Take over the storage's time.

        Args:
            server_time: the storage's time, in seconds since 1970.
            offset_used: the `offset` with which the request was signed that the storage found fault with.

        Returns:
            Whether the next request will be signed with another time, so that it is worth sending.
        """
        with self._lock:
            if abs(offset_used - self._offset) >= _WORTH_CORRECTING:
                return True  # another thread has been here since
            now = self._clock()
            if self._corrected is not None and abs(now - self._corrected) < _BETWEEN_CORRECTIONS:
                return False
            if abs(server_time - now - self._offset) < _WORTH_CORRECTING:
                return False
            self._offset = server_time - now
            self._corrected = now
            return True
