"""
Ctrl-C, SIGTERM, and the terminal's going away (SIGHUP), as a wish to stop.

A signal is not turned into an exception wherever the program happens to be: it calls a function, which asks for a stop
and returns. A second signal ends the process at once, which an upload survives like any other death.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Self

# Windows has no terminals that hang up.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """
    The command was stopped from outside.

    Args:
        signal: the signal's number; the exit code is 128 more.
        message: what is kept, for people.
        advice: how to go on.
        command: the line to go on with, to be shown as it is.
    """

    def __init__(self, signal: int = signal.SIGINT, message: str = "", *, advice: str = "", command: str = "") -> None:
        super().__init__(message)
        self.signal = int(signal)
        self.advice = advice
        self.command = command


class Signals:
    """
    Hears the signals that ask a process to end, from entering the context to leaving it.

    A signal that the process was started to ignore, as in the background of a script, stays ignored. Outside the main
    thread, where no signals can be heard, nothing is done.

    Args:
        on_first: called for the first signal, with its number, in the main thread. What it raises comes out there.
        on_second: called for the next, just before the process ends.
    """

    def __init__(self, on_first: Callable[[int], object], on_second: Callable[[], object] | None = None) -> None:
        self._on_first = on_first
        self._on_second = on_second
        self._before: dict[int, object] = {}
        #: The first signal's number; None while there was none.
        self.received: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal gave

    def _heard(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  # the signature of handlers
        if self.received is None:
            self.received = number
            self._on_first(number)
            return
        if self._on_second is not None:
            self._on_second()
        with suppress(OSError):  # the terminal has gone
            sys.stderr.flush()
        os._exit(128 + number)


def stop_here(number: int) -> None:
    """
    For commands that can be left at any point.

    Raises:
        Stopped: always.
    """
    raise Stopped(number)
