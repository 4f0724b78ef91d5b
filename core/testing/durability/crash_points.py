"""
The death of a process between two calls of the operating system.

What a store promises about files must hold wherever the process dies. This lets it die at each step in turn, in this
process: the calls that change files are counted, one of them is cut short, and none has an effect from then on, so that
no cleaning up after the "death" can hide what a real one would leave.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ParamSpec
from unittest import mock

from partwise.testing.faults import SimulatedCrash

_P = ParamSpec("_P")

#: The calls that change what is on a disk. Closing is not among them: the operating system closes for the dead.
_CHANGING = (
    "open",
    "write",
    "pwrite",
    "fsync",
    "ftruncate",
    "truncate",
    "replace",
    "rename",
    "link",
    "unlink",
    "remove",
    "mkdir",
    "rmdir",
)


@contextmanager
def crash_at(step: int) -> Iterator[None]:
    """
    In the block, the calling thread dies at its `step`-th call of the `os` module that changes files, counting from 1.
    To open a file changes something only where it makes or empties one.

    A write that it dies at gets half of its bytes to the file. Calls that do not go through the `os` module, such as
    those of a database's library, are not seen. Other threads are left alone.

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
                raise SimulatedCrash(f"died at step {step}, os.{name}")
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
    """Do something, and die at this step of it: True if it did, False if it came to its end in fewer steps."""
    try:
        with crash_at(step):
            action(*args, **kwargs)
    except SimulatedCrash:
        return True
    return False
