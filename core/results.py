"""The values that report on an upload: its result and its progress."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import define, field, fields

from partwise.checkpoint import Checkpoint
from partwise.checksums import CRC64_XZ
from partwise.model import StoredObject

__all__ = ["Progress", "UploadResult", "Verification", "Waiting"]


@define(frozen=True)
class UploadResult:
    """
    The result of a completed upload.

    Args:
        key: the object's key.
        size: its size in bytes.
        etag: the ETag of this version of the object.
        checksum: that of the bytes that were sent, by the algorithm of the backend; None if it is not known.
        checksum_algorithm: its name, such as ``"crc64xz"``.
        version_id: its version in a versioned bucket.
        request_id: the storage's id of the request that created the object.
        callback_response: the response of the application server, if there was a callback.
        bytes_sent: bytes of the parts that this run sent; `bytes_sent` + `bytes_resumed` = `size`.
        bytes_resumed: bytes of the parts that earlier runs sent.
        parts_sent: the number of parts that this run sent.
        parts_resumed: the number of parts that earlier runs sent.
        verified: the storage reported a checksum of the whole object, and it equals that of the bytes that were read
            (for parts of earlier runs, the one in the checkpoint). If they differ, `IntegrityError` is raised; False
            means that the storage reported none.
        warnings: what went wrong without harm to the object, such as a checkpoint that could not be written, or an
            old upload that could not be aborted.
        retries: the number of transient errors after which this run tried again.
        concurrency_reached: the highest number of parts that this run had in flight at a time.
    """

    key: str
    size: int
    etag: str
    checksum: int | None = None
    checksum_algorithm: str = CRC64_XZ.name
    version_id: str | None = None
    request_id: str | None = None
    callback_response: bytes | None = None
    bytes_sent: int = 0
    bytes_resumed: int = 0
    parts_sent: int = 0
    parts_resumed: int = 0
    verified: bool = False
    warnings: tuple[str, ...] = ()
    retries: int = 0
    concurrency_reached: int = 0


@define(frozen=True)
class Verification:
    """
    Whether a source is what the storage has under a key.

    Args:
        key: the object's key.
        equal: True: size and checksum are equal. False: they differ, or there is no object. None: this is not
            known, since the storage reports no checksum of the object, and the sizes are equal.
        reason: what was compared, and what differs, for people.
        size: the size of the source in bytes; None for a stream that was not read to its end.
        checksum: that of the source, by the algorithm of the backend; None if the source was not read.
        checksum_algorithm: its name, such as ``"crc64xz"``.
        stored: the object as the storage described it; None if there is none.
    """

    key: str
    equal: bool | None
    reason: str
    size: int | None
    checksum: int | None
    checksum_algorithm: str
    stored: StoredObject | None


def _no_checkpoint() -> Checkpoint | None:
    return None


def _same(checkpoint: Checkpoint | None) -> Checkpoint | None:
    return checkpoint


@define(frozen=True)
class Waiting:
    """
    Why nothing of an upload moves.

    The storage can't be reached, or refuses everything.

    Args:
        reason: in a few words, such as "no connection to bucket.oss-cn-hangzhou.aliyuncs.com".
        seconds: for how long it has been so.
        gives_up_in: seconds after which the upload fails if it stays so; None if no time is set.
    """

    reason: str
    seconds: float
    gives_up_in: float | None = None


@define(frozen=True)
class Progress:
    """
    The state of an upload at one instant.

    `bytes_done` never decreases, never exceeds `bytes_total`, and equals it only once the object is stored. The bytes
    of a part that is sent again count once.

    Args:
        bytes_done: bytes uploaded, including those of earlier runs and of parts in flight.
        bytes_total: the size of the source; None for a stream until its end was read.
        bytes_resumed: the bytes in `bytes_done` that earlier runs sent.
        bytes_acknowledged: the bytes in `bytes_done` that the storage has confirmed. They are kept if this run dies.
        parts_done: the number of parts that the storage has confirmed.
        parts_total: the number of all parts; None until it is known.
        elapsed: seconds since the start of this run.
        completed: the object is stored. True in the last report only.
        parts_in_flight: the number of parts that are being sent.
        retries: the number of transient errors after which this run tried again.
        waiting: what the upload waits for, if nothing has moved for two seconds because the storage fails; else None.
    """

    bytes_done: int
    bytes_total: int | None
    bytes_resumed: int = 0
    bytes_acknowledged: int = 0
    parts_done: int = 0
    parts_total: int | None = None
    elapsed: float = 0.0
    completed: bool = False
    _checkpoint: Callable[[], Checkpoint | None] = field(default=_no_checkpoint, repr=False, eq=False)
    parts_in_flight: int = 0
    retries: int = 0
    waiting: Waiting | None = None

    @property
    def fraction(self) -> float | None:
        """
        The share from 0.0 to 1.0; None while the size is not known.

        1.0 is reached only once the object is stored.
        """
        if self.completed:
            return 1.0
        if self.bytes_total is None:
            return None
        return self.bytes_done / self.bytes_total if self.bytes_total else 0.0

    @property
    def rate(self) -> float:
        """Bytes per second in this run, without what was resumed."""
        return (self.bytes_done - self.bytes_resumed) / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds left at this rate; None while that is not known."""
        if self.bytes_total is None or self.rate <= 0:
            return None
        return (self.bytes_total - self.bytes_done) / self.rate

    @property
    def checkpoint(self) -> Checkpoint | None:
        """
        The checkpoint of the upload at this instant; None if it is not resumable.

        To resume later, keep `checkpoint.to_data()`. Before the next upload, save the checkpoint made from it into a
        `MemoryCheckpointStore`.
        """
        return self._checkpoint()

    def __reduce__(self) -> tuple[Any, ...]:
        # The function that makes the checkpoint refers to the run, so a copy has what it makes now.
        checkpoint = partial(_same, self.checkpoint)
        values = (checkpoint if one.name == "_checkpoint" else getattr(self, one.name) for one in fields(Progress))
        return type(self), tuple(values)
