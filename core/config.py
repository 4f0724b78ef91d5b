"""How to transfer: the one set of choices that an `Uploader` is made with."""

from __future__ import annotations

from typing import Literal

from attrs import define, field

from partwise._validation import choice, integer, number
from partwise.model import MIB

__all__ = ["TransferConfig"]

#: Each part at a time has a thread, a buffer and a connection of its own: a typo must not use up the machine.
CONCURRENCY_MAX = 1000

# Some systems can't wait for more than 49 days in one call.
_SECONDS_MAX = 30 * 86_400

_duration = number(0, _SECONDS_MAX, "seconds from 0 to 30 days")


@define(frozen=True)
class TransferConfig:
    """
    How to transfer. The defaults suit most programs.

    Args:
        part_size: bytes in a part, or "auto", which takes 8 MiB and more only where the size of the object demands
            it. An upload that is resumed keeps the part size that it began with.
        multipart_threshold: a source of fewer bytes than this is sent as one object, without parts or checkpoint.
        concurrency: the most parts in flight at once, up to 1000, and with it the memory used: 1 MiB for each. Of a
            stream, which can be read but once, a integer part for each; see `StreamSource`.
        max_attempts: how often one part, or one request beside the parts, is tried in a row before the upload fails.
        retry_base: seconds; the wait after the n-th failure in a row is drawn from 0 to ``retry_base * 2**(n - 1)``.
        retry_max: seconds; the longest such wait. A longer one that the storage asks for is granted.
        bandwidth_limit: bytes a second for all parts together; None: as fast as it goes.
        verify_source: how a resume makes sure that parts sent earlier are of the source as it is now. "metadata": size,
            modification time and inode; where only the inode differs, which on some file systems does not last, also
            the bytes. "content": the bytes are read again and compared by checksum in any case.
        on_source_change: what a resume does if the source has changed. "restart": send all parts. "keep-matching": read
            the source, and keep those parts whose checksum still holds.
        progress_interval: seconds between two reports of progress while no part is finished.
    """

    part_size: int | Literal["auto"] = field(default="auto", validator=integer(1, None, "auto"))
    multipart_threshold: int = field(default=10 * MIB, validator=integer(0))
    concurrency: int = field(default=4, validator=integer(1, CONCURRENCY_MAX))
    max_attempts: int = field(default=5, validator=integer(1))
    retry_base: float = field(default=0.5, validator=_duration)
    retry_max: float = field(default=30.0, validator=_duration)
    bandwidth_limit: int | None = field(default=None, validator=integer(1, None, None))
    verify_source: Literal["metadata", "content"] = field(default="metadata", validator=choice("metadata", "content"))
    on_source_change: Literal["restart", "keep-matching"] = field(
        default="restart", validator=choice("restart", "keep-matching")
    )
    progress_interval: float = field(default=0.2, validator=_duration)
