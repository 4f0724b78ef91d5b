"""
Simulated crashes between two system calls.

What a store promises about files must hold wherever the process crashes. `crash_at` counts the calls that change files
and simulates a crash at one of them: from then on no call has an effect, so that ``finally`` blocks can't clean up what
a real crash would leave behind.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ParamSpec
from unittest import mock

from partwise.testing.faults import SimulatedCrash

__all__ = ["crash_at", "crashes_at"]

_P = ParamSpec("_P")

#: The calls that change files. `close` is not one of them: the operating system closes the files of a crashed process.
_CHANGING = "open write pwrite fsync ftruncate truncate replace rename link unlink remove mkdir rmdir".split()  # noqa: SIM905


@contextmanager
def crash_at(step: int) -> Iterator[None]:
    """
    Crash the calling thread at its `step`-th call of `os` that changes files.

    The calls are counted from 1.

    Opening a file counts only if it creates or truncates the file. A write at which the thread crashes writes half of
    its bytes. Calls that do not go through the `os` module, such as those of a database library, are not counted. Other
    threads are not affected.

    Raises:
        SimulatedCrash: the step was reached.
    """
    me = threading.get_ident()
    steps = 0

    def guarded(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal steps
            if threading.get_ident() != me or (name == "open" and steps < step and not _changes(*args, **kwargs)):
                return real(*args, **kwargs)
            steps += 1
            if steps == step and name in {"write", "pwrite"}:
                file, data, *rest = args
                real(file, memoryview(data)[: len(data) // 2], *rest)
            if steps >= step:
                raise SimulatedCrash(f"crashed at step {step}, os.{name}")
            return real(*args, **kwargs)

        return call

    with ExitStack() as patched:
        for name in _CHANGING:
            if hasattr(os, name):
                patched.enter_context(mock.patch.object(os, name, guarded(name, getattr(os, name))))
        yield


def _changes(path: object, flags: int, *_: object, **__: object) -> bool:  # noqa: ARG001  # as os.open is called
    return bool(flags & (os.O_CREAT | os.O_TRUNC))


def crashes_at(step: int, action: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs) -> bool:
    """Call `action` and crash at this step; return False if it has fewer steps."""
    try:
        with crash_at(step):
            action(*args, **kwargs)
    except SimulatedCrash:
        return True
    return False
