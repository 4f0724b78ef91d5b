"""
The bytes of parts on their way: how fast they may go, how far they are, and when they must stop.

The loop that owns an upload and the workers that send its parts share one `TransferState`. It is the only thing they share; all
else a worker needs is handed to it, and all else it has to say it hands back.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from partwise.clock import Clock, SystemClock
from partwise.errors import PartwiseError
from partwise.protocols import Body

# With a limit, bytes go in pieces of at most this share of a second's worth, so that a slow transfer is even, and stops
# soon when it is told to.
_PIECES_A_SECOND = 8
_SMALLEST_PIECE = 4096


class TransferStopped(PartwiseError):
    """The upload is ending, so this part is not sent on. Never seen by a caller."""


class BandwidthLimit:
    """
    A limit on bytes a second, shared by all workers of this process.

    Each piece books the time that it takes at the limit, after what was booked before it; bytes that were not sent in
    the past can't be made up for later.

    Args:
        rate: bytes a second.
        clock: what to wait by.
    """

    def __init__(self, rate: float, clock: Clock) -> None:
        self.rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._booked_until = 0.0

    @property
    def piece_size(self) -> int:
        """Bytes that are to be taken at a time at the most."""
        return max(_SMALLEST_PIECE, int(self.rate / _PIECES_A_SECOND))

    def acquire(self, count: int, stop: threading.Event) -> None:
        """Wait until `count` more bytes may go, or until `stop` is set."""
        with self._lock:
            now = self._clock.monotonic()
            begin = max(now, self._booked_until)
            self._booked_until = begin + count / self.rate
        if begin > now:
            self._clock.wait(stop, begin - now)


class TransferState:
    """
    What the loop and the workers of one upload share.

    Args:
        limit: the limit on bytes a second, if there is one.
        shares: into how many equal shares the limit falls when parts are sent by other processes, which can't see each
            other's bytes.
    """

    def __init__(self, limit: BandwidthLimit | None = None, shares: int = 1) -> None:
        self.limit = limit
        self.shares = shares
        self.stop = threading.Event()
        self._sent: dict[int, int] = {}

    def throttled(self, part_number: int, body: Body) -> ThrottledBody:
        """The body, held to this flow."""
        return ThrottledBody(self, part_number, body)

    def sent(self, part_number: int) -> int:
        """Bytes of this part that its present attempt has handed to the backend."""
        return self._sent.get(part_number, 0)

    def in_flight_bytes(self) -> int:
        """Bytes of all parts under way that were handed to the backend."""
        return sum(list(self._sent.values()))

    def set_sent(self, part_number: int, moved: int) -> None:
        """Remember how far a part is. Called by the one worker that sends it."""
        self._sent[part_number] = moved

    def remove_part(self, part_number: int) -> int:
        """The part is no longer under way; how far it was."""
        return self._sent.pop(part_number, 0)


class ThrottledBody:
    """
    A body whose bytes are counted, slowed down, and stopped as its flow says.

    In another process there is no flow to share: what arrives there is the body, held to its share of the limit.
    """

    def __init__(self, flow: TransferState, part_number: int, body: Body) -> None:
        self._flow = flow
        self._part_number = part_number
        self._body = body
        self._size = len(body)

    @property
    def crc64(self) -> int | None:
        return self._body.crc64

    def __len__(self) -> int:
        return self._size

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        limit = self._flow.limit
        return _arrived, (self._body, None if limit is None else limit.rate / self._flow.shares)

    def chunks(self) -> Iterator[memoryview]:
        flow, number, moved = self._flow, self._part_number, 0
        flow.set_sent(number, 0)
        for chunk in self._body.chunks():
            for piece in (chunk,) if flow.limit is None else self._pieces(flow.limit, chunk):
                if flow.stop.is_set():
                    raise TransferStopped("the upload is ending")
                yield piece
                moved += len(piece)
                flow.set_sent(number, moved)

    def _pieces(self, limit: BandwidthLimit, chunk: memoryview) -> Iterator[memoryview]:
        step = limit.piece_size
        for begin in range(0, len(chunk), step):
            piece = chunk[begin : begin + step]
            limit.acquire(len(piece), self._flow.stop)
            yield piece


def _arrived(body: Body, rate: float | None) -> Body:
    return body if rate is None else TransferState(BandwidthLimit(rate, SystemClock())).throttled(1, body)
