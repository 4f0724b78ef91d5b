"""
Adapters for progress callbacks that a program already has.

They may be those of another library, of a progress bar, or coroutines. Each function takes what the program has and
returns a callback for the argument `progress`::

    upload(source, url, progress=for_boto3(my_callback))

Calls come one at a time and in order. An exception raised by a callback stops the upload as a pause does. If a callback
returns an awaitable, as a coroutine function does, the event loop in which `Uploader.start` was called awaits it, and
the next call is made only after that. This holds for every form below.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from partwise._engine.async_callbacks import CallbackRunner
from partwise.results import Progress

if TYPE_CHECKING:
    import asyncio

__all__ = ["for_boto3", "for_oss2", "for_ali_oss", "for_android", "for_ios", "for_fsspec", "for_tqdm", "for_rich"]
__all__ += ["for_event_loop"]

ProgressCallback = Callable[[Progress], object]


def for_boto3(callback: Callable[[int], object]) -> ProgressCallback:
    """
    Adapt ``callback(bytes_amount)`` of boto3 and s3transfer.

    The argument is the number of bytes since the last call. The amounts add up to the size of the object; the first one
    includes what an earlier run has sent.
    """
    seen = 0

    def report(progress: Progress) -> object:
        nonlocal seen
        amount, seen = progress.bytes_done - seen, progress.bytes_done
        return callback(amount) if amount else None

    return report


def for_oss2(callback: Callable[[int, int | None], object]) -> ProgressCallback:
    """
    Adapt ``callback(consumed_bytes, total_bytes)`` of oss2.

    The total is None while it is not known.
    """
    return lambda progress: callback(progress.bytes_done, progress.bytes_total)


def for_ali_oss(callback: Callable[[float | None, dict[str, Any] | None], object]) -> ProgressCallback:
    """
    Adapt ``callback(fraction, checkpoint)`` of ali-oss for Node.js.

    The fraction goes from 0 to 1, which means completed. The checkpoint is plain data, or None; `Checkpoint.from_data`
    turns it back into a `Checkpoint`.
    """

    def report(progress: Progress) -> object:
        checkpoint = progress.checkpoint
        return callback(progress.fraction, None if checkpoint is None else checkpoint.to_data())

    return report


def for_android(callback: Callable[[int, int], object]) -> ProgressCallback:
    """
    Adapt ``callback(current_size, total_size)`` of the Android SDK.

    Its first argument, the request, is left out. A total of -1 means not known.
    """
    return lambda progress: callback(progress.bytes_done, -1 if progress.bytes_total is None else progress.bytes_total)


def for_ios(callback: Callable[[int, int, int], object]) -> ProgressCallback:
    """
    Adapt the callback of the iOS SDK, which has three numbers of bytes.

    It is ``callback(bytes_sent, total_bytes_sent, total_bytes_expected_to_send)``. These are the bytes since the last
    call, all bytes so far, and the size of the object (-1: not known).
    """
    seen = 0

    def report(progress: Progress) -> object:
        nonlocal seen
        amount, seen = progress.bytes_done - seen, progress.bytes_done
        return callback(amount, seen, -1 if progress.bytes_total is None else progress.bytes_total)

    return report


class FsspecCallback(Protocol):
    """The methods of an `fsspec.callbacks.Callback` that `for_fsspec` uses."""

    def set_size(self, size: int, /) -> object: ...

    def relative_update(self, inc: int = 1, /) -> object: ...

    def close(self) -> object: ...


def for_fsspec(callback: FsspecCallback) -> ProgressCallback:
    """
    Adapt an `fsspec.callbacks.Callback`, such as a `TqdmCallback`.

    Its size is set once it is known. Its value grows by the bytes since the last call and never goes back; the first
    call includes what an earlier run has sent. It is closed once the object is stored.
    """
    seen, size = 0, -1

    def report(progress: Progress) -> None:
        nonlocal seen, size
        if progress.bytes_total is not None and progress.bytes_total != size:
            size = progress.bytes_total
            callback.set_size(size)
        amount, seen = progress.bytes_done - seen, progress.bytes_done
        if amount:
            callback.relative_update(amount)
        if progress.completed:
            callback.close()

    return report


class TqdmBar(Protocol):
    """The members of a tqdm bar that `for_tqdm` uses."""

    total: Any
    n: Any
    initial: Any

    def refresh(self) -> object: ...

    def close(self) -> object: ...


def for_tqdm(bar: TqdmBar | None = None) -> ProgressCallback:
    """
    Update a bar of tqdm, best created with ``unit="B", unit_scale=True``.

    Its total is set once it is known, and it is closed once the object is stored. Its rate is that of this run: what an
    earlier run has sent is its `initial` value.

    Args:
        bar: the bar; None: the first report creates one by `tqdm.auto`, which suits a terminal and a notebook.
    """

    def report(progress: Progress) -> None:
        nonlocal bar
        if bar is None:
            bar = _automatic_bar()
        if progress.bytes_total is not None:
            bar.total = progress.bytes_total
        bar.n, bar.initial = progress.bytes_done, progress.bytes_resumed
        bar.refresh()
        if progress.completed:
            bar.close()

    return report


def _automatic_bar() -> TqdmBar:
    from importlib import import_module

    # By name, because tqdm has no types.
    created: TqdmBar = import_module("tqdm.auto").tqdm(unit="B", unit_scale=True, unit_divisor=1024)
    return created


class RichProgress(Protocol):
    """The method of a `rich.progress.Progress` that `for_rich` uses."""

    def update(self, task_id: Any, *, total: float | None = None, completed: float | None = None) -> None: ...


def for_rich(display: RichProgress, task_id: Any) -> ProgressCallback:
    """Update a task of a `rich.progress.Progress`."""
    return lambda progress: display.update(task_id, total=progress.bytes_total, completed=progress.bytes_done)


def for_event_loop(
    callback: Callable[[Progress], Awaitable[object]], loop: asyncio.AbstractEventLoop
) -> ProgressCallback:
    """
    Run a coroutine function in an event loop as the callback of `Uploader.upload`.

    The upload runs in another thread. The upload waits for each call, so that calls come one at a time; the loop must
    be free to run them. If the loop ends before the upload does, the upload is paused. `Uploader.start` does this by
    default.
    """
    return CallbackRunner(callback, loop)
