"""
Progress callbacks that return awaitables, called from the thread of an upload.

An event loop awaits what a callback returns, and the upload waits for that. It stops waiting when it is to stop, when
the loop is closed, and when the loop itself waits for the upload.
"""

from __future__ import annotations

import inspect
import logging
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from partwise._validation import check_callable
from partwise.errors import InvalidInput, UploadPaused

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

    from partwise.events import EventCallback
    from partwise.progress import ProgressCallback
    from partwise.results import Progress

_log = logging.getLogger("partwise.progress")

#: Seconds after which a pending call is checked again: nothing is signalled when an event loop is closed.
_POLL_SECONDS = 0.5

#: The tasks of all pending calls. An event loop has only weak references to its tasks.
_tasks: set[asyncio.Future[object]] = set()


class CallbackRunner:
    """
    Calls a progress callback from an upload's thread, and awaits what it returns.

    Args:
        callback: what to call.
        loop: the event loop that awaits what the callback returns; None refuses awaitables.
    """

    def __init__(self, callback: ProgressCallback, loop: asyncio.AbstractEventLoop | None) -> None:
        self.callback = callback
        self.loop = loop
        self._wakeup = threading.Event()
        self._stopping = False
        self._blocked = False

    def stop_waiting(self) -> None:
        """
        Stop waiting for the pending call, and submit no further ones.

        Called when the upload is to stop. The thread that waits for that may be the one that runs the loop.
        """
        self._stopping = True
        self._wakeup.set()

    def mark_loop_blocked(self) -> None:
        """Report that the loop waits for the upload, and so can't run the callback."""
        self._blocked = True
        self._wakeup.set()

    def __call__(self, progress: Progress) -> None:
        returned = self.callback(progress)
        if returned is None or not inspect.isawaitable(returned):
            return
        if self._stopping:
            _close_if_not_started(returned)
        elif not self._await_in_loop(returned) and not progress.completed:
            raise _paused(progress)

    def _await_in_loop(self, awaitable: Awaitable[object]) -> bool:
        """
        Have the loop await it; False if the loop ended first.

        Raises:
            InvalidInput: there is no loop, or it can't run anything meanwhile.
            BaseException: what the callback raised.
        """
        try:
            loop = self._free_loop()
            self._wakeup.clear()
            outcome = _submit_to_loop(awaitable, loop, self._wakeup.set)
        except InvalidInput:
            _close_if_not_started(awaitable)
            raise
        except RuntimeError:  # the loop is closed
            _close_if_not_started(awaitable)
            return False
        try:
            while not outcome.done():
                if self._stopping:
                    outcome.add_done_callback(_log_failure)
                    return True
                if self._blocked:
                    raise InvalidInput(
                        "result() blocks the event loop that runs the progress callback", hint="Await the task instead"
                    )
                if loop.is_closed():
                    return False
                self._wakeup.wait(_POLL_SECONDS)
                self._wakeup.clear()
            return outcome.result()
        finally:
            if outcome.cancel() or outcome.done() or loop.is_closed():
                _close_if_not_started(awaitable)

    def _free_loop(self) -> asyncio.AbstractEventLoop:
        if self.loop is None:
            raise _no_event_loop()
        if self.loop is running_loop():
            raise InvalidInput(
                "the upload blocks the event loop that runs its progress callback",
                hint="Use Uploader.start, and await the task",
            )
        return self.loop


def _submit_to_loop(
    awaitable: Awaitable[object], loop: asyncio.AbstractEventLoop, on_done: Callable[[], None]
) -> Future[bool]:
    """
    Have an event loop await something.

    The future of `asyncio.run_coroutine_threadsafe` would not do: it is not marked as running, so cancelling it stops a
    call that has started. Here, `cancel` stops a call that the loop has not started, and leaves no task; it has no
    effect on one that has started.

    Returns:
        the outcome: True, or what was raised; False if the loop cancelled it, as a loop does that ends.

    Raises:
        RuntimeError: the loop is closed.
    """
    import asyncio
    from concurrent.futures import Future

    outcome: Future[bool] = Future()

    def start() -> None:
        if not outcome.set_running_or_notify_cancel():
            return
        try:
            task = asyncio.ensure_future(awaitable, loop=loop)
        except Exception as error:  # noqa: BLE001  # a future of another loop; the upload raises it
            outcome.set_exception(error)
            on_done()
            return
        _tasks.add(task)
        task.add_done_callback(finish)

    def finish(task: asyncio.Future[object]) -> None:
        _tasks.discard(task)
        if task.cancelled():
            outcome.set_result(False)
        elif (error := task.exception()) is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(True)
        on_done()

    loop.call_soon_threadsafe(start)
    return outcome


def bind_callback(callback: ProgressCallback, loop: asyncio.AbstractEventLoop | None) -> CallbackRunner:
    """
    Make a runner of the callback for one upload.

    `loop` awaits what the callback returns. A callback from `for_event_loop` keeps its own loop, and may be shared by
    several uploads: each gets its own runner.

    Raises:
        InvalidInput: the callback is a coroutine function, and there is no loop.
    """
    if isinstance(callback, CallbackRunner):
        return CallbackRunner(callback.callback, callback.loop)
    if loop is None and is_coroutine_function(callback):
        raise _no_event_loop()
    return CallbackRunner(callback, loop)


def check_event_callback(on_event: EventCallback | None) -> None:
    """Refuse an event callback that can't be called, or is a coroutine function."""
    if on_event is None:
        return
    check_callable("on_event", on_event)
    if is_coroutine_function(on_event):
        raise InvalidInput(
            "on_event is a coroutine function, and is called in the thread of the upload",
            hint="Pass a function that hands the event to the loop, such as by loop.call_soon_threadsafe",
        )


def is_coroutine_function(callback: Callable[..., object]) -> bool:
    """Return whether calls of this callable only make coroutines."""
    return any(map(inspect.iscoroutinefunction, (callback, type(callback).__call__)))


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, if there is one."""
    if "asyncio" not in sys.modules:
        return None  # without asyncio there is no loop, and the program should not pay for its import
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _no_event_loop() -> InvalidInput:
    return InvalidInput(
        "a progress callback that is a coroutine function needs a running event loop",
        hint="Call Uploader.start in one, and await the task",
    )


def _close_if_not_started(awaitable: object) -> None:
    """Close a coroutine that will never run, so that Python does not warn of it."""
    if inspect.iscoroutine(awaitable) and inspect.getcoroutinestate(awaitable) == inspect.CORO_CREATED:
        awaitable.close()


def _log_failure(outcome: Future[bool]) -> None:
    if not outcome.cancelled() and (error := outcome.exception()) is not None:
        _log.warning("a progress callback failed after its upload had stopped: %r", error)


def _paused(progress: Progress) -> UploadPaused:
    checkpoint = progress.checkpoint
    return UploadPaused(
        "the upload was paused",
        reason="its progress can't be reported, because the event loop has ended or the call was cancelled",
        kept="" if checkpoint is None else "The same call resumes it",
        key="" if checkpoint is None else checkpoint.key,
        upload_id=None if checkpoint is None else checkpoint.upload_id,
        resumable=checkpoint is not None,
        bytes_done=progress.bytes_acknowledged,
        bytes_total=progress.bytes_total,
        parts_done=progress.parts_done,
        parts_total=progress.parts_total,
    )
