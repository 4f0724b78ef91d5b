"""
Handle SIGINT (Ctrl-C), SIGTERM and SIGHUP (the terminal was closed).

A first signal does not raise an exception at an arbitrary point: it calls a function, which asks for a stop and
returns. A second signal ends the process at once; an upload survives that like a kill.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Self

# Windows has no SIGHUP.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class SignalReceived(KeyboardInterrupt):
    """
    A signal stopped the command.

    Args:
        signal: the signal's number; the exit code is 128 more.
        message: what was stopped.
        kept: what a later run can use.
        hint: what to do next.
        command: the command line for that, to be printed exactly as it is.
    """

    def __init__(
        self, signal: int = signal.SIGINT, message: str = "", *, kept: str = "", hint: str = "", command: str = ""
    ) -> None:
        super().__init__(message)
        self.signal = int(signal)
        self.kept = kept
        self.hint = hint
        self.command = command


class Signals:
    """
    Handle the signals that ask a process to end, while the context is entered.

    A signal that the process ignored from its start, like the background jobs of a script, stays ignored. Outside the
    main thread nothing is done, since Python delivers signals only there.

    Args:
        on_first: called for the first signal, with its number, in the main thread. An exception from it propagates.
        on_second: called for the second signal, just before the process ends.
    """

    def __init__(self, on_first: Callable[[int], object], on_second: Callable[[], object] | None = None) -> None:
        self._on_first = on_first
        self._on_second = on_second
        self._before: dict[int, object] = {}
        #: The number of the first signal; None if there was none.
        self.received: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  # the signature of handlers
        if self.received is None:
            self.received = number
            self._on_first(number)
            return
        if self._on_second is not None:
            self._on_second()
        with suppress(OSError):  # the terminal was closed
            sys.stderr.flush()
        os._exit(128 + number)


def raise_signal(number: int) -> None:
    """Raise SignalReceived at any point: for commands that need no cleanup."""
    raise SignalReceived(number)
