"""Time and randomness as the engine uses them; a test passes its own."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Time as the engine uses it. A test passes one that does not really wait."""

    def monotonic(self) -> float:
        """Return the seconds since an arbitrary moment. They never decrease."""

    def now(self) -> float:
        """Return the seconds since 1970."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until `event` is set, at most for `seconds`, and return whether it is set."""


class SystemClock:
    """The clock of the operating system."""

    monotonic = staticmethod(time.monotonic)
    now = staticmethod(time.time)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(min(seconds, threading.TIMEOUT_MAX))


class Random(Protocol):
    """Randomness as the engine uses it, for jitter; a `random.Random` is one."""

    def uniform(self, a: float, b: float, /) -> float:
        """Return a number between `a` and `b`."""


def default_random() -> Random:
    """Return a pseudo-random generator for jitter; not for secrets."""
    import random

    return random.Random()  # noqa: S311  # see above
