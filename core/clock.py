"""Time and randomness, as the engine sees them; a simulation or a test gives its own."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Time, as the engine sees it. A test gives a clock of its own, and nothing waits."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary instant, never going backwards."""

    def now(self) -> float:
        """Seconds since 1970."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until `event` is set, for `seconds` at most, and say whether it is."""


class SystemClock:
    """The machine's clock."""

    monotonic = staticmethod(time.monotonic)
    now = staticmethod(time.time)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(min(seconds, threading.TIMEOUT_MAX))


class Random(Protocol):
    """Randomness, as the engine sees it; `random.Random` is one."""

    def uniform(self, a: float, b: float, /) -> float: ...


def default_random() -> Random:
    """Randomness that is good enough to spread retries; nothing secret."""
    import random

    return random.Random()  # noqa: S311  # see above
