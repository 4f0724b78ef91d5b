"""`UploadTask`: an upload that runs in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Self

from partwise._engine.async_callbacks import CallbackRunner, running_loop
from partwise._engine.context import logger
from partwise._engine.upload import UploadRun
from partwise._engine.workers import lacks_resources
from partwise._signals import raised_by_signal
from partwise._units import format_seconds
from partwise._validation import check_number
from partwise.results import Progress, UploadResult

if TYPE_CHECKING:
    import asyncio

    from partwise._engine.control import Control
    from partwise.progress import ProgressCallback

__all__ = ["UploadTask"]


class UploadTask:
    """
    An upload that runs in the background. `Uploader.start` creates it.

    `result` waits for the upload, and so does ``await``, in any event loop. To stop waiting, by a timeout or because
    the awaiting task is cancelled, does not stop the upload. `pause` and `cancel` stop it; they affect no other upload.

    As a context manager, by ``with`` or ``async with``, it pauses an upload that is still running on exit, and waits
    for that; ``async with`` does not block the event loop meanwhile. Leaving the context never completes an upload.
    """

    def __init__(
        self,
        prepare: Callable[[ProgressCallback], AbstractContextManager[UploadRun]],
        control: Control,
        key: str,
        callback: CallbackRunner | None = None,
    ) -> None:
        from concurrent.futures import Future

        self._control = control
        self._future: Future[UploadResult] = Future()
        # Mark it as running: then cancelling what waits for it does not cancel the future.
        self._future.set_running_or_notify_cancel()
        self._progress = Progress(0, None)
        self._prepare = prepare
        self._callback = callback
        # A daemon thread, so that a program can exit: for the upload that is like any other crash, and it is resumable.
        self._thread = threading.Thread(target=self._run, name=f"partwise upload of {key}", daemon=True)
        self._key = key
        self._runs_in_caller = False

    def __repr__(self) -> str:
        return f"<UploadTask {self._key!r} {'ended' if self.done() else 'running'}>"

    def _start(self) -> None:
        """Start the thread; without a thread, upload in this one."""
        try:
            self._thread.start()
        except (RuntimeError, MemoryError) as error:
            if not lacks_resources(error):
                raise
            name = self._key
            logger.warning("no thread can be started: %s; the upload of %s runs in the calling thread", error, name)
            callback = self._callback
            if callback is not None and callback.loop is not None:
                callback.stop_waiting()  # this thread blocks the event loop, which could await nothing
            self._runs_in_caller = True
            self._run()

    def _run(self) -> None:
        try:
            with self._prepare(self._report) as upload:
                result = upload.run()
        except StopIteration as error:
            # From a callback. A coroutine that awaits the future would take it for its own end.
            stopped = RuntimeError("a callback raised StopIteration")
            stopped.__cause__ = error
            self._future.set_exception(stopped)
        except BaseException as error:  # noqa: BLE001  # raised by result()
            self._future.set_exception(error)
        else:
            self._future.set_result(result)

    def _report(self, progress: Progress) -> None:
        self._progress = progress
        if self._callback is not None:
            self._callback(progress)

    def result(self, timeout: float | None = None) -> UploadResult:
        """
        Wait for the upload; return or raise what `Uploader.upload` returns or raises.

        A KeyboardInterrupt while waiting pauses the upload, waits for that, and propagates. So does any other exception
        raised by a signal handler, such as SystemExit or the time limit of a task queue.

        Args:
            timeout: seconds to wait at most; None: no limit.

        Raises:
            TimeoutError: the upload is still running.
            InvalidInput: `timeout` is not a number. The upload keeps running.
            InvalidInput: `progress` is a coroutine function, and waiting here blocks the event loop that runs it. Await
                the task instead. The upload is paused.
        """
        if timeout is not None:
            check_number("timeout", timeout)
            timeout = min(timeout, threading.TIMEOUT_MAX)
        elif self._callback is not None and self._callback.loop is running_loop():
            self._callback.mark_loop_blocked()
        try:
            return self._future.result(timeout)
        except BaseException as error:
            if self._future.done():
                raise  # the upload's own error
            if timeout is not None and isinstance(error, TimeoutError) and raised_by_signal(error) is None:
                raise TimeoutError(f"the upload is still running after {format_seconds(timeout)}") from None
            # An interrupt, an exit, or a time limit of the waiting thread.
            self.pause()
            self._join()
            raise

    def pause(self) -> None:
        """
        Stop, and keep the upload and its checkpoint: the same call resumes it.

        Returns at once; `result` raises UploadPaused once no worker is running any more. Has no effect on an upload
        that has ended.
        """
        self._control.pause()

    def cancel(self) -> None:
        """
        Stop, abort the upload and delete its checkpoint.

        Returns at once; `result` raises UploadCancelled once that is done. Has no effect on an upload that has ended.
        """
        self._control.cancel()

    @property
    def progress(self) -> Progress:
        """The last progress report."""
        return self._progress

    def done(self) -> bool:
        """Return whether the upload has ended, with a result or an error."""
        return self._future.done()

    def __await__(self) -> Generator[Any, None, UploadResult]:
        import asyncio

        return asyncio.wrap_future(self._future).__await__()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.pause()
        self._join()

    def _join(self) -> None:
        if self._thread.ident is not None:
            self._thread.join()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        import asyncio

        self.pause()
        ended = asyncio.wrap_future(self._future)
        ended.add_done_callback(_mark_retrieved)
        await asyncio.wait([ended])


def _mark_retrieved(ended: asyncio.Future[UploadResult]) -> None:
    """
    Retrieve the exception, so that asyncio does not log it as never retrieved.

    `result` raises it.
    """
    if not ended.cancelled():
        ended.exception()
