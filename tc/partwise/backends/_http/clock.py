"""The local clock, corrected by what the service reports."""

from __future__ import annotations

from collections.abc import Callable

#: Seconds. A smaller difference does not explain a refusal: services tolerate fifteen minutes.
_CORRECTION_MIN = 60.0

#: Seconds. No time zone explains a larger difference, and a request that is signed for another day could be replayed on
#: that day by anyone who captured it.
_CORRECTION_MAX = 86_400.0

#: Seconds, if any machine in between could have written the response: the window in which a service accepts a
#: signature. A
#: correction within it signs for no time at which the request would not have been valid anyway.
_UNAUTHENTICATED_CORRECTION_MAX = 900.0

#: Seconds between two corrections. If a service rejects a clock that was just corrected by its own, another correction
#: does not help.
_CORRECTION_INTERVAL = 60.0


class ServerClock:
    """
    The local clock with a correction.

    Thread-safe without a lock: its state is one value, replaced as a whole.

    Args:
        clock: the local clock, in seconds since 1970.
        authenticated: whether responses are known to be from the service: by TLS, or because they do not leave this
            machine.
    """

    def __init__(self, clock: Callable[[], float], *, authenticated: bool = True) -> None:
        self._clock = clock
        self._limit = _CORRECTION_MAX if authenticated else _UNAUTHENTICATED_CORRECTION_MAX
        self._correction: tuple[float, float | None] = (0.0, None)  # the offset, and when it was set by the local clock

    def __call__(self) -> float:
        """Return the time of the service, in seconds since 1970."""
        return self._clock() + self._correction[0]

    def reading(self) -> tuple[float, float]:
        """
        Return the time of the service, and the `offset` that is included in it.

        The two are consistent in spite of other threads.
        """
        offset = self._correction[0]
        return self._clock() + offset, offset

    @property
    def offset(self) -> float:
        """The seconds that are added to the local clock."""
        return self._correction[0]

    def difference(self, server_time: float) -> float:
        """Return by how many seconds the service is ahead of the uncorrected local clock."""
        return server_time - self._clock()

    def would_correct_if_authenticated(self, server_time: float) -> bool:
        """
        Return whether only unauthenticated responses prevent a correction.

        With authenticated ones, this time would be accepted.
        """
        return self._limit < abs(self.difference(server_time)) <= _CORRECTION_MAX

    def correct(self, server_time: float, offset_used: float) -> bool:
        """
        Adopt the time of the service, unless it differs too much from the local clock.

        A time that differs too much can't be trusted.

        Args:
            server_time: the time of the service, in seconds since 1970.
            offset_used: the `offset` that was included in the time of the rejected request.

        Returns:
            Whether the next request will be signed with another time, so that a retry can help.
        """
        offset, corrected_at = self._correction
        if abs(offset_used - offset) >= _CORRECTION_MIN:
            return True  # another thread has corrected it since
        now = self._clock()
        if corrected_at is not None and abs(now - corrected_at) < _CORRECTION_INTERVAL:
            return False
        if abs(server_time - now - offset) < _CORRECTION_MIN:
            return False
        # Written with `not`, so that it also refuses NaN.
        if not abs(server_time - now) <= self._limit:
            return False
        self._correction = (server_time - now, now)
        return True
