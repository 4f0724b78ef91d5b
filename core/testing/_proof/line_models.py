"""
Models of lines: TCP connections that share a bottleneck.

The controllers of the parts in flight and of second copies run against them.

Each connection follows CUBIC (RFC 9438) in steps of a fifth of a round trip: slow start, then growth by the time since
the last loss; a loss takes 30 % of the window. The bottleneck has a queue of one round trip, and drops what exceeds it.
Compared with the kernel's TCP over an emulated line, the best number of parts in flight is the same, and the throughput
is within 15 %.
"""

from __future__ import annotations

import random
from statistics import median

from attrs import define

from partwise._engine.concurrency import Concurrency
from partwise._engine.tail import LateParts

_PACKET = 1448
_BUFFER_MIN = 64 * 1024
_GRANULE = 128 * 1024  # bytes count as sent in pieces of this size
_RESPONSE_SECONDS = 0.01  # that the storage takes


@define(kw_only=True, frozen=True)
class Line:
    """A line, and the storage at its end. Sizes are in bytes, times in seconds."""

    round_trip: float
    rate: float  # bytes per second
    loss: float = 0.0  # of packets, a probability
    connection_rate: float | None = None  # the maximum of one connection
    accepted: int | None = None  # parts in flight that the storage accepts; it refuses further ones
    retry_after: float = 1.0  # what it asks for then
    changes: tuple[tuple[float, float], ...] = ()  # times, and the rate from then on

    def rate_at(self, now: float) -> float:
        """Return the rate at a time."""
        return next((rate for start, rate in reversed(self.changes) if now >= start), self.rate)

    @property
    def latency(self) -> float:
        """The time of a first request, with the connection."""
        return 2 * self.round_trip


@define(eq=False)
class TCPConnection:
    """A connection, and the part that is sent over it."""

    window: float = 10.0  # packets
    slow_start_until: float = 1e9  # packets
    window_before_loss: float = 0.0
    seconds_to_before: float = 0.0  # K of RFC 9438: seconds after a loss until the window is as before
    lost_at: float = -1.0
    number: int = -1
    size: float = 0.0
    left: float = 0.0  # bytes that have not arrived
    busy_until: float = 0.0  # it is being opened, or waits for a response
    waits: bool = False  # for the response
    refused: bool = False
    started: float = 0.0

    def start(self, number: int, size: float, now: float) -> None:
        """Start to send a part."""
        self.number, self.size, self.left, self.started = number, size, size, now
        self.waits = self.refused = False

    @property
    def sent(self) -> float:
        """The bytes that were passed to the kernel."""
        arrived = self.size - self.left
        buffered = max(_BUFFER_MIN, 2 * self.window * _PACKET) if arrived and not self.waits else 0
        return min(self.size, (arrived + buffered) // _GRANULE * _GRANULE)

    def lose(self, now: float) -> None:
        """Shrink the window, once per loss event."""
        self.lost_at, self.window_before_loss = now, self.window
        self.seconds_to_before = (self.window * 0.3 / 0.4) ** (1 / 3)
        self.window = self.slow_start_until = max(2.0, 0.7 * self.window)

    def grow(self, now: float, round_trip: float, packets: float, factor_max: float) -> None:
        """Let the window grow."""
        window, before = self.window, self.window_before_loss
        if window < self.slow_start_until:
            self.window = window + packets
            return
        since = now - self.lost_at
        cubic = 0.4 * (since - self.seconds_to_before) ** 3 + before
        reno = 0.7 * before + 0.53 * since / round_trip
        self.window = max(window, min(max(cubic, reno), window * factor_max))


@define
class TransferCost:
    """The result of a simulated upload."""

    seconds: float = 0.0
    requests: int = 0
    refused: int = 0
    most_in_flight: int = 0


class SimulatedTransfer:
    """
    One upload over a line.

    Args:
        line: the line and the storage.
        size: bytes to upload.
        part_size: bytes in a part.
        concurrency: decides how many parts are in flight.
        late_parts: decides which parts are sent a second time; None: none are.
        count_from: requests and refusals are counted from this time on, in seconds.
    """

    def __init__(
        self,
        line: Line,
        size: int,
        part_size: int,
        concurrency: Concurrency,
        late_parts: LateParts | None = None,
        *,
        count_from: float = 0.0,
    ) -> None:
        self._line = line
        self._sizes = [min(part_size, size - at) for at in range(0, size, part_size)]
        self._concurrency = concurrency
        self._late_parts = late_parts
        self._count_from = count_from
        self._random = random.Random(1)  # noqa: S311  # not for secrets
        self._step = max(0.005, line.round_trip / 5)
        self._now = self._hold_until = self._sample_at = 0.0
        self._queue = 0.0  # bytes in front of the bottleneck
        self._ended = 0.0  # bytes sent by attempts that have ended
        self._waiting = list(range(len(self._sizes)))[::-1]
        self._retries: list[tuple[float, int]] = []
        self._done: set[int] = set()
        self._busy: list[TCPConnection] = []
        self._idle: list[TCPConnection] = []
        self._rates: list[float] = []
        self._cost = TransferCost()

    def run(self) -> TransferCost:
        """Send all parts, and return what it took."""
        while len(self._done) < len(self._sizes):
            while len(self._busy) < self._concurrency.target and self._now >= self._hold_until:
                number = self._next_part()
                if number is None:
                    break
                self._send(number)
            self._move()
            self._now += self._step
            self._sample()  # as the scheduler does it: before a part ends and the next one is sent
            for connection in [one for one in self._busy if one.waits and one.busy_until <= self._now]:
                if connection in self._busy:  # it was not cut
                    self._receive(connection)
        self._cost.seconds = self._now
        return self._cost

    def _next_part(self) -> int | None:
        due = next((retry for retry in self._retries if retry[0] <= self._now), None)
        if due is not None:
            self._retries.remove(due)
            return due[1]
        if self._waiting:
            room = len(self._busy) + len(self._retries) < self._concurrency.target
            return self._waiting.pop() if room else None
        if self._late_parts is None or self._retries:
            return None
        if self._late_parts.is_busy(self._now):
            return None
        numbers = [one.number for one in self._busy]
        late = self._late_parts.due((one.number, one.started) for one in self._busy if numbers.count(one.number) == 1)
        if late is None or late[1] > self._now:
            return None
        self._late_parts.copied()
        return late[0]

    def _send(self, number: int) -> None:
        line, now = self._line, self._now
        connection = self._idle.pop() if self._idle else TCPConnection(busy_until=now + line.round_trip)
        connection.start(number, self._sizes[number], now)
        self._busy.append(connection)
        self._cost.requests += now >= self._count_from
        self._cost.most_in_flight = max(self._cost.most_in_flight, len(self._busy))
        if line.accepted is not None and len(self._busy) > line.accepted:
            connection.refused = connection.waits = True
            connection.busy_until = now + line.round_trip

    def _receive(self, connection: TCPConnection) -> None:
        """Take the response of a part."""
        now, seconds = self._now, self._now - connection.started
        self._end(connection)
        if connection.refused:
            self._cost.refused += now >= self._count_from
            self._retries.append((now + self._line.retry_after, connection.number))
            if self._concurrency.throttled(now):
                self._hold_until = now + self._line.retry_after
            self._idle.append(connection)
            return
        self._done.add(connection.number)
        self._concurrency.acknowledged()
        if self._late_parts is not None:
            self._late_parts.acknowledged(seconds)
        for copy in [one for one in self._busy if one.number == connection.number]:
            self._end(copy)  # it is cut
        self._rates.append(connection.size / seconds)
        # The client does not reuse a connection that has become slow.
        if seconds < 1 or len(self._rates) < 16 or self._rates[-1] >= median(self._rates[-16:]) / 2:
            self._idle.append(connection)

    def _end(self, connection: TCPConnection) -> None:
        self._busy.remove(connection)
        self._ended += 0 if connection.refused else connection.sent

    def _sample(self) -> None:
        if self._concurrency.interval is None or self._now < self._sample_at:
            return
        self._sample_at = self._now + self._concurrency.interval
        sent = int(self._ended + sum(one.sent for one in self._busy if not one.refused))
        if self._late_parts is not None:
            self._late_parts.sample(self._now, sent, ending=not self._waiting)
        self._concurrency.sample(self._now, sent, len(self._busy), saturated=False)

    def _move(self) -> None:
        """Let bytes arrive for one step."""
        line, step, now = self._line, self._step, self._now
        rate = line.rate_at(now)
        round_trip = line.round_trip + self._queue / rate
        active = [one for one in self._busy if not one.waits and one.busy_until <= now]
        most = min(line.connection_rate or rate, rate) * step
        wanted = [min(one.left, most, one.window * _PACKET * step / round_trip) for one in active]
        total, room = sum(wanted), rate * max(line.round_trip, 0.02)
        filled = self._queue + total - rate * step
        dropped = min(1.0, max(0.0, filled - room) / total) if total else 0.0
        self._queue = max(0.0, min(room, filled))
        arriving = 1 - dropped
        kept, factor_max, random = (1 - line.loss) * arriving, 1 + step / round_trip / 2, self._random.random
        for connection, size in zip(active, wanted, strict=True):
            packets = size / _PACKET
            connection.left -= size * arriving
            if random() > kept**packets and now - connection.lost_at > round_trip:
                connection.lose(now)
            else:
                connection.grow(now, round_trip, packets, factor_max)
            if connection.left < 1:
                connection.left, connection.waits = 0, True
                connection.busy_until = now + round_trip + _RESPONSE_SECONDS
