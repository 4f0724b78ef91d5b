"""
The events of a run, for metrics, traces and audit logs.

    upload(source, url, on_event=print)

The event callback is called in the thread that uploads, one call at a time, in the order in which things happened. The
first event of a run is `RunStarted`, the last one is `RunEnded`, and there is one of each. What is refused before the
run begins, such as an argument of the wrong type, has no events.

The parts that count are those that are done after the last `UploadStarted`: another one means that the upload has
started again. Among them, each part is done once, unless a `PartLost` comes between. When a run has completed the
upload, their sizes add up to that of the object.

The upload waits for each call, so a callback has to return soon: what takes long belongs in a queue. If it raises, it
is not called again, and the upload stops as by a pause: the exception propagates. If another error ends the run first,
that one propagates, with a note. The object is stored if only `RunEnded` was left, and a note says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from attrs import define

from partwise.results import UploadResult, Waiting

__all__ = [
    "UploadEvent",
    "RunStarted",
    "UploadStarted",
    "PartDone",
    "PartLost",
    "RetryScheduled",
    "OutageStarted",
    "OutageEnded",
    "CompletionStarted",
    "RunEnded",
    "EventCallback",
]


@define(frozen=True, kw_only=True)
class UploadEvent:
    """
    The base class of all events.

    Args:
        key: the object's key.
        elapsed: seconds since the start of this run.
    """

    key: str
    elapsed: float


@define(frozen=True, kw_only=True)
class RunStarted(UploadEvent):
    """
    A run has started.

    Nothing was read or sent yet.

    Args:
        source: the name of the source; empty for one without a name.
        location: that of the backend, such as ``"file:///mnt/backups"``.
    """

    source: str
    location: str


@define(frozen=True, kw_only=True)
class UploadStarted(UploadEvent):
    """
    An upload has started, or is resumed, and its missing parts are sent now.

    If the storage loses the upload, or can't complete it, there is another such event in the same run: what was done
    before does not count any more.

    Args:
        upload_id: the storage's name for the upload; None for an object that is sent with one request.
        resumed: it is the upload of an earlier run.
        reason: why it starts again, although there was an upload; else empty.
        size: the size of the source in bytes; None for a stream.
        part_size: the size of a part in bytes; that of the first ones of a stream.
        parts_total: the number of all parts; None for a stream.
        parts_resumed: the number of parts that earlier runs sent. A `PartDone` for each of them follows. For a stream
            it is 0, and those events come as the stream is read.
        bytes_resumed: their bytes.
    """

    upload_id: str | None
    resumed: bool
    reason: str
    size: int | None
    part_size: int
    parts_total: int | None
    parts_resumed: int
    bytes_resumed: int


@define(frozen=True, kw_only=True)
class PartDone(UploadEvent):
    """
    The storage has acknowledged a part, and it is recorded in the checkpoint.

    An object that is sent with one request is part 1, unless it is empty.

    Args:
        part_number: from 1.
        size: its bytes.
        seconds: how long its last attempt took; 0.0 for a part of an earlier run.
        second_copy: it was late, was sent a second time, and that copy was the first to be acknowledged.
        resumed: an earlier run sent it.
    """

    part_number: int
    size: int
    seconds: float
    second_copy: bool = False
    resumed: bool = False


@define(frozen=True, kw_only=True)
class PartLost(UploadEvent):
    """
    The storage does not hold a part as it was acknowledged; it is sent again.

    Args:
        part_number: from 1.
        size: its bytes.
    """

    part_number: int
    size: int


@define(frozen=True, kw_only=True)
class RetryScheduled(UploadEvent):
    """
    An attempt failed, and another one follows.

    `UploadResult.retries` is the number of these events.

    Args:
        operation: what failed, as the method of the backend, the store or the source is called: ``"upload_part"``,
            ``"complete_upload"``, ``"save"``, ``"body"``.
        attempt: which attempt at this part or request it was, from 1.
        error: its error. To keep its message, keep ``str(error)``: the error may refer to what was being sent.
        delay: seconds until the next attempt at the earliest.
        part_number: that of the part, if a part was sent; else None.
    """

    operation: str
    attempt: int
    error: BaseException
    delay: float
    part_number: int | None = None


@define(frozen=True, kw_only=True)
class OutageStarted(UploadEvent):
    """
    Nothing has moved for two seconds.

    The storage can't be reached, or refuses everything.

    Args:
        waiting: why, for how long, and when the upload gives up: what `Progress.waiting` is from now on.
    """

    waiting: Waiting


@define(frozen=True, kw_only=True)
class OutageEnded(UploadEvent):
    """
    Something moves again.

    An outage that lasts to the end of the run has no such event.

    Args:
        seconds: how long the outage lasted.
    """

    seconds: float


@define(frozen=True, kw_only=True)
class CompletionStarted(UploadEvent):
    """
    All parts are on the storage.

    After the last checks, it is asked to make the object of them.

    Args:
        parts: the number of parts.
        size: their bytes.
    """

    parts: int
    size: int


@define(frozen=True, kw_only=True)
class RunEnded(UploadEvent):
    """
    The run has ended.

    Args:
        outcome: "completed": the object is stored. "paused": by a request, by an interrupt, or by an exception of a
            callback. "cancelled": by a request. "failed": by any other error.
        result: what the upload returns; None unless the object is stored.
        error: what the upload raises; None if it returns. With "completed" there is one if the callback to the
            application server failed, or the caller's progress callback at the end.
    """

    outcome: Literal["completed", "paused", "cancelled", "failed"]
    result: UploadResult | None
    error: BaseException | None


EventCallback = Callable[[UploadEvent], object]
