"""
Calls of plug-ins (backends, stores, sources), and the exceptions they raise.

There are three kinds. A `PartwiseError` is part of the plug-in's contract, and propagates. Any other exception is a
defect of the plug-in; it becomes a `PluginDefect`, so that the engine can report it along with what is kept. The third
kind was raised by a signal handler that interrupted the plug-in, such as the time limit of a task queue. It propagates
unchanged, even if the plug-in has translated it: a time limit that is a TimeoutError, raised while a socket was read,
is not a failed connection.

An exception that is raised in the engine outside of such a call is of the third kind, too. The engine never handles it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from partwise._signals import raised_by_signal
from partwise.errors import PartwiseError

_Ts = TypeVarTuple("_Ts")
_T = TypeVar("_T")


class PluginDefect(PartwiseError):
    """A plug-in raised the `__cause__`, which is not a `PartwiseError`."""


def call_plugin(call: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
    """
    Call a plug-in.

    Raises:
        PluginDefect: it raised an exception that is not a `PartwiseError`.
        PartwiseError: what it raised.
        BaseException: what a signal handler raised during the call.
    """
    handled = sys.exception()  # an error that the caller is handling is in the context of what is raised here
    try:
        return call(*args)
    except Exception as error:
        from_signal = raised_by_signal(error, handled)
        if from_signal is error or (from_signal is None and isinstance(error, PartwiseError)):
            raise
        if from_signal is None:
            raise PluginDefect(f"{type(error).__name__}: {error}") from error
    raise from_signal  # outside of the except block, which would set its __context__


def call_plugin_unwrapped(call: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
    """Call a plug-in outside the stages of an upload, where defects propagate."""
    try:
        return call_plugin(call, *args)
    except PluginDefect as defect:
        raise defect.__cause__ or defect  # noqa: B904  # as it was
