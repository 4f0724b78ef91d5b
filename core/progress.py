"""
Progress in the shapes that programs have already: callbacks written for another library, bars, coroutines.

Each function takes what you have and gives what `progress=` takes::

    upload(source, url, progress=for_boto3(my_callback))

Calls come one at a time, in order, and what a callback raises stops the upload as a pause does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from partwise.model import Progress

if TYPE_CHECKING:
    import asyncio

ProgressCallback = Callable[[Progress], object]


def for_boto3(callback: Callable[[int], object]) -> ProgressCallback:
    """
    For ``callback(bytes_amount)``, as boto3 and s3transfer call it: the bytes since the last call.

    They add up to the size of the object; what an earlier run had sent comes with the first call.
    """
    seen = 0

    def report(progress: Progress) -> None:
        nonlocal seen
        amount, seen = progress.bytes_done - seen, progress.bytes_done
        if amount:
            callback(amount)

    return report


def for_oss2(callback: Callable[[int, int | None], object]) -> ProgressCallback:
    """For ``callback(consumed_bytes, total_bytes)``, as oss2 calls it; the total is None while it is not known."""
    return lambda progress: callback(progress.bytes_done, progress.bytes_total)


def for_ali_oss(callback: Callable[[float | None, dict[str, Any] | None], object]) -> ProgressCallback:
    """
    For ``callback(fraction, checkpoint)``, as ali-oss for Node.js calls it: from 0 to 1, which means completed.

    The checkpoint is plain data, or None; `Checkpoint.from_data` makes one of it again.
    """

    def report(progress: Progress) -> None:
        checkpoint = progress.checkpoint
        callback(progress.fraction, None if checkpoint is None else checkpoint.to_data())

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

    def report(progress: Progress) -> None:
        nonlocal seen
        amount, seen = progress.bytes_done - seen, progress.bytes_done
        callback(amount, seen, -1 if progress.bytes_total is None else progress.bytes_total)

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
    For a coroutine function that shall run in an event loop, while the upload runs in a thread.

    The upload waits for each call, so that they come one at a time; the loop must be free to run them. `Uploader.start`
    does this by itself for a coroutine function.
    """

    import asyncio

    async def call(progress: Progress) -> None:
        await callback(progress)

    def report(progress: Progress) -> None:
        asyncio.run_coroutine_threadsafe(call(progress), loop).result()

    return report
