"""
Tell exceptions raised by a signal handler from those of a failed operation.

The time limits of task queues are such exceptions. Private to partwise. It imports no other module of partwise.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from functools import cache, partial
from inspect import CO_OPTIMIZED, CO_VARARGS
from itertools import pairwise
from types import CodeType, FrameType
from typing import Any


class ignored:  # noqa: N801  # it is used as contextlib.suppress is
    """
    Suppress exceptions, except one that a signal handler raised.

    That one propagates, whatever its class; otherwise this is `contextlib.suppress`. A time limit is often a
    TimeoutError, which is an OSError. It must not be lost where an OSError is ignored.
    """

    def __init__(self, *kinds: type[Exception]) -> None:
        self._kinds = kinds

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, self._kinds) and raised_by_signal(error) is None


def raised_by_signal(error: BaseException, handled: BaseException | None = None) -> BaseException | None:
    """
    Return the exception that a signal handler raised, if there is one.

    It is the given error, or one of its causes and contexts.

    Args:
        error: the exception.
        handled: an exception that was being handled before. It is not searched.

    Returns:
        the exception, or None. It can only be found in the main thread, since no other one runs signal handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        return None
    installed = _installed()
    seen = {id(handled), id(None)}
    found: list[BaseException | None] = [error]
    while found:
        one = found.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        trace = one.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code in installed or _is_signal_handler(trace.tb_frame):
                return one
            trace = trace.tb_next
        found += (one.__context__, one.__cause__)
    return None


def _is_signal_handler(frame: FrameType) -> bool:
    """
    Return whether this is the call of a signal handler.

    A handler is called with a number and the interrupted frame, which is also its caller. `signal.getsignal` alone
    would not do: a handler may have been replaced since, even by itself.
    """
    code, caller = frame.f_code, frame.f_back
    if not code.co_flags & CO_OPTIMIZED or caller is None:
        return False  # the body of a module or a class, not a function
    takes_any = bool(code.co_flags & CO_VARARGS)
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + takes_any]
    if len(names) < 2 and not takes_any:
        return False  # it can't be called with two arguments
    values = frame.f_locals
    given: list[object] = []
    for name in names:
        value = values.get(name)
        if isinstance(value, tuple):
            given += value
        else:
            given.append(value)
    if isinstance(values, dict):
        # Before Python 3.13 it is a copy that the frame keeps. With an exception among its values, that is a reference
        # cycle: what the frame references, such as the bytes of a part, would stay until the garbage collector runs.
        values.clear()
    for number, interrupted in pairwise(given):  # noqa: SIM110  # not by `any`: this is called for each frame
        if interrupted is caller and isinstance(number, int):
            return True
    return False


#: That of the interpreter, which `signal.getsignal` calls and then looks for an enum of each result: most of the time.
_getsignal: Callable[[int], Any] = getattr(sys.modules.get("_signal"), "getsignal", signal.getsignal)


@cache
def _valid_signals() -> tuple[int, ...]:
    """Return the signals of the system, found out once."""
    return tuple(signal.valid_signals())


def _installed() -> set[CodeType]:
    """
    Return the code of the installed handlers.

    One that has deleted its arguments is recognised only by this.
    """
    found = set()
    for number in _valid_signals():
        handler: Any = _getsignal(number)
        if handler is None or isinstance(handler, int):  # not installed by Python, or the default
            continue
        while isinstance(handler, partial):
            handler = handler.func
        code = getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
        if isinstance(code, CodeType):
            found.add(code)
    return found
