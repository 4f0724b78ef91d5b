"""
Models of lines, to run the controller of the parts in flight against: TCP connections that share a bottleneck.

Each connection follows CUBIC (RFC 9438) in steps of a fifth of a round trip: slow start, then growth by the time since
the last loss; a loss takes 30 % of the window. The bottleneck has a queue of one round trip, and drops what exceeds it.
Compared with the kernel's TCP over an emulated line, the best number of parts in flight is the same, and the throughput
is within 15 %.
"""

from __future__ import annotations

import random
from statistics import median

from attrs import define, field

MIB = 1024 * 1024

_PACKET = 1448
_BUFFER_MIN = 64 * 1024
_GRANULE = 128 * 1024  # bytes count as sent in pieces of this size


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
    limit: float | None = None  # our own bandwidth limit

    def rate_at(self, now):
        """Return the rate at a time."""
        return next((rate for start, rate in reversed(self.changes) if now >= start), self.rate)

    @property
    def latency(self):
        """The time of a first request, with the connection."""
        return 2 * self.round_trip


@define(eq=False)
class Connection:
    """A connection, and the part that is sent over it."""

    window: float = 10.0  # packets
    slow_start_until: float = 1e9  # packets
    window_before_loss: float = 0.0
    lost_at: float = -1.0
    number: int = -1
    size: float = 0.0
    left: float = 0.0  # bytes that have not arrived
    busy_until: float = 0.0  # it is being opened, or waits for a response
    waits: bool = False  # for the response
    refused: bool = False
    started: float = 0.0

    @property
    def sent(self):
        """The bytes that were passed to the kernel."""
        arrived = self.size - self.left
        buffered = max(_BUFFER_MIN, 2 * self.window * _PACKET) if arrived and not self.waits else 0
        return min(self.size, (arrived + buffered) // _GRANULE * _GRANULE)

    def lose(self, now):
        """Shrink the window, once per loss event."""
        self.lost_at, self.window_before_loss = now, self.window
        self.window = self.slow_start_until = max(2.0, 0.7 * self.window)

    def grow(self, now, step, round_trip, packets):
        """Let the window grow."""
        if self.window < self.slow_start_until:
            self.window += packets
            return
        since = now - self.lost_at
        k = (self.window_before_loss * 0.3 / 0.4) ** (1 / 3)
        cubic = 0.4 * (since - k) ** 3 + self.window_before_loss
        reno = 0.7 * self.window_before_loss + 0.53 * since / round_trip
        self.window = max(self.window, min(max(cubic, reno), self.window * (1 + step / round_trip / 2)))


@define
class Run:
    """What became of an upload."""

    seconds: float = 0.0
    requests: int = 0
    refused: int = 0
    targets: list[tuple[float, int]] = field(factory=list)  # each change, and when
    most_in_flight: int = 0


@define
class Simulation:
    """One upload over a line."""

    line: Line
    size: int
    part_size: int
    concurrency: object
    late_parts: object = None  # which parts are sent a second time; None: none
    seed: int = 1
    refusals_from: float = 0.0  # refusals are counted from this time on

    def run(self):
        """Send all parts, and return what became of them."""
        line, rng, run = self.line, random.Random(self.seed), Run()
        step = max(0.005, line.round_trip / 5)
        parts = [min(self.part_size, self.size - at) for at in range(0, self.size, self.part_size)]
        waiting, retries = list(range(len(parts)))[::-1], []
        busy, idle, rates = [], [], []
        now = queue = arrived = hold = sample_at = 0.0
        open_parts = len(parts)
        while open_parts:
            while len(busy) < self.concurrency.target and now >= hold:
                number = self._next_part(waiting, retries, now, len(busy))
                if number is None and not waiting and not retries:
                    number = self._late_part(busy, now)
                if number is None:
                    break
                connection = idle.pop() if idle else Connection(busy_until=now + line.round_trip)
                connection.number, connection.size, connection.left = number, parts[number], parts[number]
                connection.started, connection.waits, connection.refused = now, False, False
                busy.append(connection)
                if self.late_parts is not None:
                    self.late_parts.started(len(busy))
                run.requests += now >= self.refusals_from
                run.most_in_flight = max(run.most_in_flight, len(busy))
                if line.accepted is not None and len(busy) > line.accepted:
                    connection.refused = connection.waits = True
                    connection.busy_until = now + line.round_trip + 0.002
            queue = self._move(busy, now, step, queue, rng)
            now += step
            for connection in [one for one in busy if one.waits and one.busy_until <= now]:
                if connection not in busy:
                    continue  # it was cut
                busy.remove(connection)
                for copy in [one for one in busy if one.number == connection.number and not connection.refused]:
                    busy.remove(copy)
                if self.late_parts is not None and not connection.refused:
                    self.late_parts.acknowledged(now - connection.started)
                if connection.refused:
                    run.refused += now >= self.refusals_from
                    retries.append((now + line.retry_after, connection.number))
                    if self.concurrency.throttled(now):
                        hold = now + line.retry_after
                else:
                    open_parts -= 1
                    arrived += connection.size
                    self.concurrency.acknowledged()
                rates.append(connection.size / (now - connection.started))
                # The client does not reuse a connection that has become slow.
                if now - connection.started < 1 or len(rates) < 16 or rates[-1] >= median(rates[-16:]) / 2:
                    idle.append(connection)
                connection.size = connection.left = 0.0
            if self.concurrency.interval is not None and now >= sample_at:
                sample_at = now + self.concurrency.interval
                moved = int(arrived + sum(one.sent for one in busy if not one.refused))
                self.concurrency.sample(now, moved, len(busy), saturated=line.limit is not None)
            if not run.targets or run.targets[-1][1] != self.concurrency.target:
                run.targets.append((now, self.concurrency.target))
        run.seconds = now
        return run

    def _next_part(self, waiting, retries, now, busy):
        due = next((retry for retry in retries if retry[0] <= now), None)
        if due is not None:
            retries.remove(due)
            return due[1]
        return waiting.pop() if waiting and busy + len(retries) < self.concurrency.target else None

    def _late_part(self, busy, now):
        if self.late_parts is None:
            return None
        numbers = [one.number for one in busy]
        candidates = [(one.number, one.started) for one in busy if numbers.count(one.number) == 1]
        due = self.late_parts.due(candidates, len(set(numbers)))
        if due is None or due[1] > now:
            return None
        self.late_parts.copied()
        return due[0]

    def _move(self, busy, now, step, queue, rng):
        """Let bytes arrive for one step, and return how many are in the queue after it."""
        line = self.line
        rate = line.rate_at(now)
        round_trip = line.round_trip + queue / rate
        active = [one for one in busy if not one.waits and one.busy_until <= now]
        most = min(line.connection_rate or rate, rate) * step
        wanted = [min(one.left, most, one.window * _PACKET * step / round_trip) for one in active]
        if line.limit is not None and sum(wanted) > line.limit * step:
            factor = line.limit * step / sum(wanted)
            wanted = [factor * size for size in wanted]
        total, room = sum(wanted), rate * max(line.round_trip, 0.02)
        filled = queue + total - rate * step
        overflow = max(0.0, filled - room)
        dropped = min(1.0, overflow / total) if total else 0.0
        for connection, size in zip(active, wanted, strict=True):
            packets = size / _PACKET
            connection.left -= size * (1 - dropped)
            lost = rng.random() > ((1 - line.loss) * (1 - dropped)) ** packets
            if lost and now - connection.lost_at > round_trip:
                connection.lose(now)
            else:
                connection.grow(now, step, round_trip, packets)
            if connection.left < 1:
                connection.left, connection.waits = 0, True
                connection.busy_until = now + round_trip + 0.01
        return max(0.0, min(room, filled))
