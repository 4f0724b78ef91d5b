"""The storage's clock, as far as we know it: ours, and what the storage found it to be off by."""

from __future__ import annotations

from collections.abc import Callable

#: Seconds. A correction by less than this explains no refusal: the storage allows for fifteen minutes.
_WORTH_CORRECTING = 60.0

#: Seconds. No time zone explains a clock that is off by more, and a request that is signed for another day can be sent
#: again on that day by anyone who captured it.
_CORRECTION_MAX = 86_400.0

#: ... and where any machine on the way could have written the answer: the window in which the storage accepts a
#: signature. A correction within it signs for no time at which the request would not have been good anyway.
_UNAUTHENTICATED_CORRECTION_MAX = 900.0

#: Seconds between two corrections. A storage that finds fault with a clock that was just set by its own is not
#: helped by setting it once more.
_BETWEEN_CORRECTIONS = 60.0


class ServerClock:
    """
    Our clock, corrected.

    Its state is one value that is replaced as a whole, so threads need no lock: two that correct at the same time
    do the same.

    Args:
        clock: ours, in seconds since 1970.
        authenticated: whether answers are known to be the storage's: they came over TLS, or did not leave this machine.
    """

    def __init__(self, clock: Callable[[], float], *, authenticated: bool = True) -> None:
        self._clock = clock
        self._limit = _CORRECTION_MAX if authenticated else _UNAUTHENTICATED_CORRECTION_MAX
        self._corrected: tuple[float, float | None] = (0.0, None)  # by how much, and when by our clock

    def __call__(self) -> float:
        """The storage's time, in seconds since 1970."""
        return self._clock() + self._corrected[0]

    def reading(self) -> tuple[float, float]:
        """The storage's time, and the `offset` that is in it: both from one instant, whatever other threads do."""
        offset = self._corrected[0]
        return self._clock() + offset, offset

    @property
    def offset(self) -> float:
        """What is added to our clock, in seconds."""
        return self._corrected[0]

    def difference(self, server_time: float) -> float:
        """Seconds by which the storage's time is ahead of ours, uncorrected."""
        return server_time - self._clock()

    def would_correct_if_authenticated(self, server_time: float) -> bool:
        """Whether it is only for want of an authenticated channel that this time is not taken over."""
        return self._limit < abs(self.difference(server_time)) <= _CORRECTION_MAX

    def correct(self, server_time: float, offset_used: float) -> bool:
        """
        Take over the storage's time, unless it is further from ours than its answer can be trusted for.

        Args:
            server_time: the storage's time, in seconds since 1970.
            offset_used: the `offset` with which the request was signed that the storage found fault with.

        Returns:
            Whether the next request will be signed with another time, so that it is worth sending.
        """
        offset, when = self._corrected
        if abs(offset_used - offset) >= _WORTH_CORRECTING:
            return True  # another thread has been here since
        now = self._clock()
        if when is not None and abs(now - when) < _BETWEEN_CORRECTIONS:
            return False
        if abs(server_time - now - offset) < _WORTH_CORRECTING:
            return False
        if not abs(server_time - now) <= self._limit:
            return False
        self._corrected = (server_time - now, now)
        return True
