"""The configuration of an `Uploader`."""

from __future__ import annotations

from typing import Literal

from attrs import define, field

from partwise._validation import choice, integer, number
from partwise.model import MIB

__all__ = ["TransferConfig"]

#: Each part in flight has its own thread, buffer and connection: a typo must not exhaust the machine.
CONCURRENCY_LIMIT = 1000

#: Some systems can't wait longer than 49 days in one call.
SECONDS_MAX = 30 * 86_400

_duration = number(0, SECONDS_MAX, "seconds from 0 to 30 days")


@define(frozen=True)
class TransferConfig:
    """
    The configuration of transfers. The defaults suit most programs.

    Args:
        part_size: bytes per part, or "auto": 8 MiB, or more if the size of the object requires it; on a long line less,
            but at least 1 MiB, so that there are up to 1,024 parts. A resumed upload keeps its part size.
        multipart_threshold: a source smaller than this number of bytes is sent in one request, without parts and
            checkpoint.
        concurrency: the number of parts in flight, up to 1000, or "auto": it follows the throughput, the storage's
            responses and the processors. While the storage refuses a number, there are fewer. Each uses 1 MiB of memory
            or less; for a stream, which can only be read once, a whole part (see `StreamSource`). A storage that takes
            parts in order gets one at a time, whatever this says.
        concurrency_max: the maximum that "auto" may reach, up to 1000. For a stream it is less, so that the parts in
            flight take at most 48 MiB at the size of the first part, while there are at least two.
        give_up_after: seconds; the upload fails when nothing at all has moved for this time, counted over all requests,
            from the first failure. It moves when a request succeeds, or when a part gets further than in its earlier
            attempts by an eighth of its size. 0: the first failure is final. Five minutes cover a server that restarts
            and a laptop that changes its network; see "How long it retries" in the guides.
        max_attempts: consecutive failures of a part, or of another request, before the upload fails, even if
            `give_up_after` has not passed; None: no limit.
        retry_base: seconds; the wait after the n-th consecutive failure is random, from 0 to
            ``retry_base * 2**(n - 1)``.
        retry_max: seconds; the maximum of such a wait. It is 3 seconds at most while no request succeeds at all. A
            longer wait requested by the storage is respected.
        bandwidth_limit: bytes per second for all parts together; None: no limit.
        verify_source: how a resume checks that earlier parts belong to the current source. "metadata": size,
            modification time and inode; if only the inode differs, which some file systems do not keep, also the bytes.
            "content": the bytes are always read again and compared by checksum.
        on_source_change: what a resume does if the source has changed. "restart": send all parts. "keep-matching": read
            the source, and keep the parts whose checksum still matches.
        progress_interval: seconds between two progress reports while no part is finished.
    """

    part_size: int | Literal["auto"] = field(default="auto", validator=integer(1, None, "auto"))
    multipart_threshold: int = field(default=10 * MIB, validator=integer(0))
    concurrency: int | Literal["auto"] = field(default="auto", validator=integer(1, CONCURRENCY_LIMIT, "auto"))
    concurrency_max: int = field(default=128, validator=integer(1, CONCURRENCY_LIMIT))
    give_up_after: float = field(default=300.0, validator=_duration)
    max_attempts: int | None = field(default=None, validator=integer(1, None, None))
    retry_base: float = field(default=0.5, validator=_duration)
    retry_max: float = field(default=30.0, validator=_duration)
    bandwidth_limit: int | None = field(default=None, validator=integer(1, None, None))
    verify_source: Literal["metadata", "content"] = field(default="metadata", validator=choice("metadata", "content"))
    on_source_change: Literal["restart", "keep-matching"] = field(
        default="restart", validator=choice("restart", "keep-matching")
    )
    progress_interval: float = field(default=0.2, validator=_duration)
