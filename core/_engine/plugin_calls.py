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
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from partwise._signals import raised_by_signal
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


def call_plugin_unwrapped(call: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
    """
    Call a plug-in outside the stages of an upload, where a defect propagates as it was raised.

    Raises:
        BaseException: what the plug-in or a signal handler raised.
    """
    try:
        return call_plugin(call, *args)
    except PluginDefect as defect:
        raise defect.__cause__ or defect  # noqa: B904  # as it was
