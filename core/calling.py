"""
Calls of plug-ins (a backend, a store, a source), and what comes out of them.

Three kinds of exceptions leave such a call. An error of the tree is the plug-in's answer. An exception of another class
is a defect of the plug-in; it becomes a `PluginDefect`, so that the engine can report it with what is kept. The third
kind is foreign: a signal handler raised it, as time limits of task queues do, while the plug-in happened to run. It
leaves as it was, even if the plug-in has translated it: a time limit that is a TimeoutError, raised while a socket was
read, is not a broken connection.

Whatever is raised in the engine outside of such a call is foreign, too, and nothing in the engine handles it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from inspect import CO_VARARGS
from itertools import pairwise
from types import FrameType
from typing import TypeVar, TypeVarTuple

from partwise.errors import PartwiseError

_Ts = TypeVarTuple("_Ts")
_T = TypeVar("_T")


class PluginDefect(PartwiseError):
    """A plug-in raised what it should not, the `__cause__`. Never seen by a caller."""


def call_plugin(call: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
    """
    Call a plug-in.

    Raises:
        PluginDefect: it raised an exception outside the tree.
        PartwiseError: what it raised.
        BaseException: what a signal handler raised meanwhile.
    """
    handled = sys.exception()  # by our caller: it is in the context of whatever is raised here, and not of this call
    try:
        return call(*args)
    except Exception as error:
        foreign = raised_by_signal(error, handled)
        if foreign is error or (foreign is None and isinstance(error, PartwiseError)):
            raise
        if foreign is None:
            raise PluginDefect(f"{type(error).__name__}: {error}") from error
    raise foreign  # here, where its context stays as it was


def raised_by_signal(error: BaseException, handled: BaseException | None = None) -> BaseException | None:
    """
    Find the exception that a signal handler raised, among an exception and those that led to it.

    Args:
        error: the exception.
        handled: an exception that was being handled before, and is not looked at.

    Returns:
        the exception, or None. A program that has one is in its main thread: no other runs signal handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        return None
    seen = {id(handled), id(None)}
    found: list[BaseException | None] = [error]
    while found:
        one = found.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        trace = one.__traceback__
        while trace is not None:
            if _is_signal_handler(trace.tb_frame):
                return one
            trace = trace.tb_next
        found += (one.__context__, one.__cause__)
    return None


def _is_signal_handler(frame: FrameType) -> bool:
    """
    Whether this is the call of a signal handler.

    It is called with a number and the frame that it interrupts, which then is its caller. `signal.getsignal` could not
    tell: a handler may have been replaced since, even by itself.
    """
    code, values = frame.f_code, frame.f_locals
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & CO_VARARGS)]
    given: list[object] = []
    for name in names:
        value = values.get(name)
        given.extend(value if isinstance(value, tuple) else (value,))
    return any(
        isinstance(number, int) and interrupted is frame.f_back
        for number, interrupted in pairwise(given)
        if interrupted is not None
    )
