"""
Throttle, count and stop the bytes in flight.

The scheduler and the workers of one upload share a `TransferState`, and nothing else: a worker gets everything that it
needs with its job, and returns everything else in its outcome.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from partwise.bodies import ChecksummedBody
from partwise.checksums import CRC64_XZ, Checksum
from partwise.clock import Clock, SystemClock
from partwise.errors import PartwiseError
from partwise.model import KIB
from partwise.protocols import SourceBody

# With a limit, each chunk takes at most 1/8 of a second to send, so that a slow transfer is smooth and stops soon.
_CHUNKS_PER_SECOND = 8
_MIN_CHUNK_SIZE = 4096

# On a line where a chunk takes longer than this to send, chunks are sent in pieces of this size, so that what moves can
# be seen. Where they do not, pieces would only cost processor time.
_SLOW_SECONDS, _SLOW_PIECE = 0.05, 64 * KIB


class TransferStopped(PartwiseError):
    """The upload is stopping, so a part is not sent. It never reaches the caller."""


class BandwidthLimit:
    """
    A limit on bytes per second, shared by all workers of this process.

    Each `acquire` reserves the time that its bytes take at the limit, after all earlier reservations. Idle time is not
    saved up: there are no bursts after it.
    """

    def __init__(self, rate: float, clock: Clock) -> None:
        self.rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._reserved_until = 0.0

    @property
    def chunk_size(self) -> int:
        """The maximum number of bytes to acquire at a time."""
        return max(_MIN_CHUNK_SIZE, int(self.rate / _CHUNKS_PER_SECOND))

    def is_binding(self) -> bool:
        """Return whether bytes are waiting because of the limit."""
        return self._reserved_until > self._clock.monotonic()

    def acquire(self, count: int, stop: threading.Event) -> None:
        """Wait until `count` more bytes may be sent, or until `stop` is set. Thread-safe."""
        with self._lock:
            now = self._clock.monotonic()
            start = max(now, self._reserved_until)
            self._reserved_until = start + count / self.rate
        if start > now:
            self._clock.wait(stop, start - now)


class TransferState:
    """
    The state that the scheduler and the workers of one upload share.

    Args:
        limit: the bandwidth limit, if there is one.
        shares: the number of equal shares into which the limit is divided when parts are sent by other processes, which
            can't see each other's bytes.
        monotonic: the clock in seconds.

    Attributes:
        stop: set to make all workers stop sending.
        slow: whether the line is slow, as the last attempt that has ended or waited found; the next ones start with
            small pieces.
        cut: the numbers of parts whose attempt is to stop, negative for the second copy of a part.
    """

    def __init__(
        self,
        limit: BandwidthLimit | None = None,
        shares: int = 1,
        monotonic: Callable[[], float] = SystemClock.monotonic,
    ) -> None:
        self.limit = limit
        self.shares = shares
        self.monotonic = monotonic
        self.slow = False
        self.stop = threading.Event()
        self.cut: set[int] = set()
        self._sent: dict[int, int] = {}

    def set_sent(self, part_number: int, count: int) -> None:
        """Set the bytes that the current attempt has sent. Called by its worker only."""
        self._sent[part_number] = count

    def sent(self, part_number: int) -> int:
        """Return the bytes that the current attempt has sent; 0 if there is none."""
        return self._sent.get(part_number, 0)

    def sent_if_started(self, part_number: int) -> int | None:
        """
        Return the bytes that the current attempt has sent; None if it has not started.

        It has started once its first byte is read in this process.
        """
        return self._sent.get(part_number)

    def in_flight_bytes(self) -> int:
        """Return the bytes that were sent of all parts in flight."""
        # A second copy of a part does not count, nor does an attempt at a part of which a copy was acknowledged. Nearly
        # always there are none, and this is called for each part.
        sent = self._sent.copy()
        if not self.cut and min(sent, default=0) >= 0:
            return sum(sent.values())
        return sum(count for number, count in sent.items() if number > 0 and number not in self.cut)

    def bytes_on_the_line(self) -> int:
        """Return the bytes sent by all attempts in flight, second copies included."""
        return sum(list(self._sent.values()))

    def remove_part(self, part_number: int) -> int:
        """Remove a part whose attempt has ended, and return the bytes it has sent."""
        self.cut.discard(part_number)
        return self._sent.pop(part_number, 0)


class ThrottledBody(ChecksummedBody):
    """
    A body whose bytes are limited and counted, and which stops with the upload.

    Bytes count as sent once the backend asks for the next chunk. Pickling leaves the shared state behind: in another
    process the body only keeps to its share of the limit.

    Args:
        source_body: the bytes.
        part_number: the number under which they count; negative for the second copy of a part.
        state: the limit, the counts, and the request to stop.
        checksum: the algorithm of the checksum.
        offset: the place of the first byte in the object, from 0.
        is_last: whether these are known to be the last bytes of the object.
    """

    def __init__(
        self,
        source_body: SourceBody,
        part_number: int,
        state: TransferState,
        checksum: Checksum = CRC64_XZ,
        *,
        offset: int = 0,
        is_last: bool = False,
    ) -> None:
        super().__init__(source_body, checksum, offset=offset, is_last=is_last)
        self._part_number = part_number
        self._state = state

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        limit = self._state.limit
        rate = None if limit is None else limit.rate / self._state.shares
        return _unpickle, (self._source_body, rate, self._algorithm, self.offset, self.is_last)

    def chunks(self, *, counted: bool = True) -> Iterator[memoryview]:
        """
        Yield the chunks of the source.

        Where there is a limit or a slow line, they are smaller.

        Raises:
            TransferStopped: the upload is stopping.
        """
        return self._counted_chunks() if counted else self._uncounted_chunks()

    def _uncounted_chunks(self) -> Iterator[memoryview]:
        for chunk in super().chunks():
            self._check_not_stopped()
            yield chunk

    def _check_not_stopped(self) -> None:
        if self._state.stop.is_set():
            raise TransferStopped("the upload is stopping")
        if self._part_number in self._state.cut:
            raise TransferStopped("the storage acknowledged another copy of the part")

    def _counted_chunks(self) -> Iterator[memoryview]:
        state, number, sent = self._state, self._part_number, 0
        stop, cut = state.stop, state.cut
        state.set_sent(number, 0)
        monotonic, slow, was_slow = state.monotonic, False, state.slow
        for large in super().chunks():
            pieces: Iterable[memoryview] = (large,)
            if state.limit is not None:
                pieces = self._limited(large, state.limit)
            elif (slow or was_slow) and len(large) > _SLOW_PIECE:
                pieces = _cut(large, _SLOW_PIECE)
            for chunk in pieces:
                if stop.is_set() or number in cut:
                    self._check_not_stopped()
                started = monotonic()
                yield chunk
                if monotonic() - started > _SLOW_SECONDS:
                    slow = state.slow = True
                sent += len(chunk)
                state.set_sent(number, sent)
        state.slow = slow

    def _limited(self, large: memoryview, limit: BandwidthLimit) -> Iterator[memoryview]:
        for chunk in _cut(large, limit.chunk_size):
            limit.acquire(len(chunk), self._state.stop)
            yield chunk


def _cut(large: memoryview, step: int) -> Iterator[memoryview]:
    for start in range(0, len(large), step):
        yield large[start : start + step]


def _unpickle(
    source_body: SourceBody, rate: float | None, checksum: Checksum, offset: int, is_last: bool
) -> ChecksummedBody:
    if rate is None:
        return ChecksummedBody(source_body, checksum, offset=offset, is_last=is_last)
    state = TransferState(BandwidthLimit(rate, SystemClock()))
    return ThrottledBody(source_body, 1, state, checksum, offset=offset, is_last=is_last)
