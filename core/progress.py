"""
Progress in the shapes that programs have already: callbacks written for another library, bars, coroutines.

Each function takes what you have and gives what `progress=` takes::

    upload(source, url, progress=for_boto3(my_callback))

Calls come one at a time, in order, and what a callback raises stops the upload as a pause does. Where a callback gives
something to be awaited, as a coroutine function does, the event loop in which `Uploader.start` was called awaits it,
and the next call comes only then; so it is behind each of these shapes, too.
"""

from __future__ import annotations

import inspect
import logging
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from partwise.errors import InvalidInput, UploadPaused
from partwise.model import Progress

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

__all__ = ["for_boto3", "for_oss2", "for_ali_oss", "for_android", "for_ios", "for_tqdm", "for_rich", "for_event_loop"]

ProgressCallback = Callable[[Progress], object]

_log = logging.getLogger("partwise.progress")

#: Seconds after which a call that is under way is looked after: an event loop that is closed tells nobody.
_LOOK_AFTER = 0.5

#: What event loops await for uploads. A loop itself holds what it runs but weakly.
_under_way: set[asyncio.Future[object]] = set()


def for_boto3(callback: Callable[[int], object]) -> ProgressCallback:
    """
    For ``callback(bytes_amount)``, as boto3 and s3transfer call it: the bytes since the last call.

    They add up to the size of the object; what an earlier run had sent comes with the first call.
    """
    seen = 0

    def report(progress: Progress) -> object:
        nonlocal seen
        amount, seen = progress.bytes_done - seen, progress.bytes_done
        return callback(amount) if amount else None

    return report


def for_oss2(callback: Callable[[int, int | None], object]) -> ProgressCallback:
    """For ``callback(consumed_bytes, total_bytes)``, as oss2 calls it; the total is None while it is not known."""
    return lambda progress: callback(progress.bytes_done, progress.bytes_total)


def for_ali_oss(callback: Callable[[float | None, dict[str, Any] | None], object]) -> ProgressCallback:
    """
    For ``callback(fraction, checkpoint)``, as ali-oss for Node.js calls it: from 0 to 1, which means completed.

    The checkpoint is plain data, or None; `Checkpoint.from_data` makes one of it again.
    """

    def report(progress: Progress) -> object:
        checkpoint = progress.checkpoint
        return callback(progress.fraction, None if checkpoint is None else checkpoint.to_data())

    return report


def for_android(callback: Callable[[int, int], object]) -> ProgressCallback:
    """For ``callback(current_size, total_size)``, as the Android SDK calls it, but for the request; -1 is not known."""
    return lambda progress: callback(progress.bytes_done, -1 if progress.bytes_total is None else progress.bytes_total)


def for_ios(callback: Callable[[int, int, int], object]) -> ProgressCallback:
    """
    For ``callback(bytes_sent, total_bytes_sent, total_bytes_expected_to_send)``, as the iOS SDK calls it: the bytes
    since the last call, all bytes so far, and the size of the object (-1: not known).
    """
    seen = 0

    def report(progress: Progress) -> object:
        nonlocal seen
        amount, seen = progress.bytes_done - seen, progress.bytes_done
        return callback(amount, seen, -1 if progress.bytes_total is None else progress.bytes_total)

    return report


class TqdmBar(Protocol):
    """What is needed of a bar of tqdm."""

    total: Any
    n: Any

    def refresh(self) -> object: ...


def for_tqdm(bar: TqdmBar) -> ProgressCallback:
    """For a bar of tqdm, best made with ``unit="B", unit_scale=True``; its total is set once it is known."""

    def report(progress: Progress) -> None:
        if progress.bytes_total is not None:
            bar.total = progress.bytes_total
        bar.n = progress.bytes_done
        bar.refresh()

    return report


class RichProgress(Protocol):
    """What is needed of a progress display of rich."""

    def update(self, task_id: Any, *, total: float | None = None, completed: float | None = None) -> None: ...


def for_rich(display: RichProgress, task_id: Any) -> ProgressCallback:
    """For a task of a `rich.progress.Progress`."""
    return lambda progress: display.update(task_id, total=progress.bytes_total, completed=progress.bytes_done)


def for_event_loop(
    callback: Callable[[Progress], Awaitable[object]], loop: asyncio.AbstractEventLoop
) -> ProgressCallback:
    """
    For a coroutine function that shall run in an event loop, while the upload runs in another thread.

    The upload waits for each call, so that they come one at a time; the loop must be free to run them. If the loop ends
    before the upload does, the upload is paused. `Uploader.start` does all this by itself for a coroutine function; for
    `Uploader.upload` in a thread of yours, it is done so.
    """
    return Called(callback, loop)


# --- what must be awaited --------------------------------------------------------------------------------------------


class Called:
    """
    A callback, as it is called from the thread that uploads; what it gives to be awaited, an event loop awaits.

    Args:
        callback: what to call.
        loop: what awaits; None: nothing does, and a callback that asks for it is refused.
    """

    def __init__(self, callback: Callable[[Progress], object], loop: asyncio.AbstractEventLoop | None) -> None:
        self.callback = callback
        self.loop = loop
        self._news = threading.Event()
        self._abandoned = False
        self._blocked = False

    def abandon(self) -> None:
        """
        Wait for no call any more, and begin none that would have to be awaited. Called when the upload is to stop.

        Whoever waits for the upload to stop may be the very thread that would have to run the loop.
        """
        self._abandoned = True
        self._news.set()

    def loop_is_blocked(self) -> None:
        """The loop waits for the upload, and so can run nothing that the upload waits for."""
        self._blocked = True
        self._news.set()

    def __call__(self, progress: Progress) -> None:
        answer = self.callback(progress)
        if answer is None or not inspect.isawaitable(answer):
            return
        if self._abandoned:
            _discard_if_not_begun(answer)
        elif not self._awaited(answer) and not progress.completed:
            raise _paused(progress)

    def _awaited(self, answer: Awaitable[object]) -> bool:
        """
        Have the loop await it; False if the loop has ended first.

        Raises:
            InvalidInput: there is no loop that could.
            BaseException: what the callback raised.
        """
        try:
            loop = self._free_loop()
            self._news.clear()
            outcome = _begun(answer, loop, self._news.set)
        except InvalidInput:
            _discard_if_not_begun(answer)
            raise
        except RuntimeError:  # the loop is closed
            _discard_if_not_begun(answer)
            return False
        try:
            while not outcome.done():
                if self._abandoned:
                    outcome.add_done_callback(_tell_failure)
                    return True
                if self._blocked:
                    raise InvalidInput("result() blocks the event loop that runs the progress callback: await the task")
                if loop.is_closed():
                    return False
                self._news.wait(_LOOK_AFTER)
                self._news.clear()
            return outcome.result()
        finally:
            if outcome.cancel() or outcome.done() or loop.is_closed():
                _discard_if_not_begun(answer)

    def _free_loop(self) -> asyncio.AbstractEventLoop:
        if self.loop is None:
            raise no_event_loop()
        if self.loop is running_loop():
            raise InvalidInput("an upload can't wait for the event loop that it blocks itself: use start, and await it")
        return self.loop


def _begun(answer: Awaitable[object], loop: asyncio.AbstractEventLoop, then: Callable[[], None]) -> Future[bool]:
    """
    Have a loop await something.

    Unlike `asyncio.run_coroutine_threadsafe`, it leaves nothing in a loop that has not come to it when it is cancelled.

    Args:
        answer: what to await.
        loop: what awaits it.
        then: called when the outcome is there.

    Returns:
        the outcome: True, or what was raised; False if it was cancelled by the loop, as one that ends does.

    Raises:
        RuntimeError: the loop is closed.
    """
    import asyncio
    from concurrent.futures import Future

    outcome: Future[bool] = Future()

    def begin() -> None:
        if outcome.set_running_or_notify_cancel():
            task = asyncio.ensure_future(answer, loop=loop)
            _under_way.add(task)
            task.add_done_callback(end)

    def end(task: asyncio.Future[object]) -> None:
        _under_way.discard(task)
        if task.cancelled():
            outcome.set_result(False)
        elif (error := task.exception()) is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(True)
        then()

    loop.call_soon_threadsafe(begin)
    return outcome


def called_from_a_thread(callback: ProgressCallback, loop: asyncio.AbstractEventLoop | None) -> Called:
    """
    The callback, fit to be called from one upload's thread, while `loop` awaits what it gives to be awaited.

    One from `for_event_loop` keeps its own loop, and may be shared by several uploads: each gets what it can abandon.

    Raises:
        InvalidInput: it is a coroutine function, and there is no loop.
    """
    if isinstance(callback, Called):
        return Called(callback.callback, callback.loop)
    if loop is None and any(map(inspect.iscoroutinefunction, (callback, type(callback).__call__))):
        raise no_event_loop()
    return Called(callback, loop)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread, if there is one."""
    if "asyncio" not in sys.modules:
        return None  # a program that has not imported it runs no loop of it, and need not pay for the import
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def no_event_loop() -> InvalidInput:
    """The error for a coroutine function that nothing would run."""
    return InvalidInput(
        "a coroutine function can report progress only to an event loop: call start within one, and await the task"
    )


def _discard_if_not_begun(answer: object) -> None:
    """What is not begun by now never will be, and Python need not warn of that."""
    if inspect.iscoroutine(answer) and inspect.getcoroutinestate(answer) == inspect.CORO_CREATED:
        answer.close()


def _tell_failure(outcome: Future[bool]) -> None:
    if not outcome.cancelled() and (error := outcome.exception()) is not None:
        _log.warning("a progress callback failed after its upload had stopped: %r", error)


def _paused(progress: Progress) -> UploadPaused:
    checkpoint = progress.checkpoint
    return UploadPaused(
        "the upload was paused, since its progress can't be told: the event loop has ended, or the call was cancelled"
        + ("" if checkpoint is None else "; the same call carries on"),
        key="" if checkpoint is None else checkpoint.key,
        upload_id=None if checkpoint is None else checkpoint.upload_id,
        resumable=checkpoint is not None,
        bytes_done=progress.bytes_acknowledged,
        bytes_total=progress.bytes_total,
        parts_done=progress.parts_done,
        parts_total=progress.parts_total,
    )
