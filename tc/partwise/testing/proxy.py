"""
A proxy that simulates a bad network: reset, cut, stalled, slow connections.

    with OSSServer() as server, FaultyProxy(server.endpoint, LinkConditions(seed=7)) as proxy:
        backend = OSSBackend("examplebucket", endpoint=proxy.endpoint, ...)
        ...
        print(proxy.injected)

The proxy does not interpret the protocol. It injects a fault at some byte in either direction: in the middle of a
header, a body, a response. Byte and fault are drawn from the seed, the number of the connection, and the direction.
"""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from enum import Enum
from random import Random
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from attrs import Attribute, define, field

from partwise.errors import InvalidInput
from partwise.model import KIB, MIB

__all__ = ["FaultyProxy", "LinkConditions", "LinkFault"]

_RECEIVE_BYTES = 64 * KIB

# How long a throttled connection waits between two chunks, in seconds.
_THROTTLE_INTERVAL = 0.02

# Each uses two file descriptors, and the limit is often 1,024.
_LINKS_MAX = 256

# How long the proxy stops accepting clients after accept failed, in seconds.
_PAUSE = 0.02

_CONNECT_SECONDS = 5.0

Direction = Literal["sent", "received"]
"""The direction of bytes, from the perspective of the client."""


class LinkFault(Enum):
    """What happens to a connection."""

    RESET = "is reset"
    TRUNCATE = "is closed in an orderly way, and the remaining bytes are lost"
    STALL = "stalls, and is reset in the end"
    DELAY = "pauses for a moment"
    THROTTLE = "is slow for a while"

    @property
    def breaks(self) -> bool:
        """Whether the fault ends the connection."""
        return self in {LinkFault.RESET, LinkFault.TRUNCATE, LinkFault.STALL}


def _positive(instance: object, attribute: Attribute[Any], value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:  # False for NaN
        raise InvalidInput(f"{type(instance).__name__}.{attribute.name} must be a number above 0, not {value}")


@define(frozen=True)
class LinkConditions:
    """
    The faults of connections, and how often they happen.

    Faults are distributed so that each byte is equally likely to be the next fault: one long connection meets as many
    faults as many short ones that transfer the same number of bytes.

    Args:
        seed: the seed of the random numbers.
        sent_between: the average number of bytes from one fault to the next in what clients send; None: no faults.
        received_between: the same in what clients receive.
        kinds: the possible faults, equally likely; one that is listed twice is twice as likely.
        delay: the duration of a DELAY, in seconds.
        stall: seconds from a STALL to the reset; longer than the timeouts of client and server.
        throttle_rate: bytes per second during THROTTLE.
        throttle_bytes: the number of bytes that a THROTTLE lasts.

    Raises:
        InvalidInput: a number is not above zero, or is infinite.
    """

    seed: int = 0
    sent_between: float | None = field(default=4 * MIB, validator=_positive)
    received_between: float | None = field(default=16 * KIB, validator=_positive)
    kinds: tuple[LinkFault, ...] = tuple(LinkFault)
    delay: float = field(default=0.2, validator=_positive)
    stall: float = field(default=60.0, validator=_positive)
    throttle_rate: float = field(default=256 * KIB, validator=_positive)
    throttle_bytes: int = field(default=64 * KIB, validator=_positive)

    def faults(self, connection: int, direction: Direction) -> Iterator[tuple[int, LinkFault]]:
        """
        Yield the faults of one direction of a connection: after which byte, and kind.

        Args:
            connection: the number of the connection, counting from 1.
            direction: the direction of the bytes.
        """
        between = self.sent_between if direction == "sent" else self.received_between
        if between is None or not self.kinds:
            return
        drawn = Random(f"{self.seed} {connection} {direction}")  # noqa: S311  # not used for security
        position = 0
        while True:
            position += 1 + int(drawn.expovariate(1 / between))
            yield position, drawn.choice(self.kinds)


class FaultyProxy:
    """
    A proxy on loopback that forwards bytes under the given conditions.

    One thread forwards all bytes.

    Args:
        upstream: the URL of the server; only host and port are used.
        conditions: the faults of connections.

    Raises:
        InvalidInput: `upstream` has no host or no port.
    """

    def __init__(self, upstream: str, conditions: LinkConditions) -> None:
        try:
            parts = urlsplit(upstream)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or not port:
            raise InvalidInput(f"{upstream!r} is not a URL with host and port, such as http://127.0.0.1:8080")
        self._upstream = (host, port)
        self._scheme = parts.scheme
        self._conditions = conditions
        self._injected = dict.fromkeys(LinkFault, 0)
        self._connections = 0
        self._accepts_from = 0.0
        self._listener: socket.socket | None = None
        self._stop_signal: tuple[socket.socket, ...] = ()
        self._thread = threading.Thread(target=self._run, name="faulty proxy", daemon=True)

    # --- starting and stopping ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """
        Start to accept and forward connections.

        Raises:
            RuntimeError: it was started before; a proxy can be started once.
        """
        if self._listener is not None:
            raise RuntimeError("this proxy was started before; create another one")
        self._stop_signal = socket.socketpair()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.setblocking(False)
        self._thread.start()

    def stop(self) -> None:
        """Close all connections and wait for the thread. Idempotent."""
        if not self._stop_signal:
            return
        ours, theirs = self._stop_signal
        ours.close()
        self._thread.join()
        theirs.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    # --- for tests ---------------------------------------------------------------------------------------------------

    @property
    def endpoint(self) -> str:
        """
        The URL to pass to a client instead of that of the server.

        Raises:
            RuntimeError: the proxy is not running.
        """
        if self._listener is None or self._listener.fileno() < 0:
            raise RuntimeError("the proxy is not running: it has no endpoint")
        return f"{self._scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def injected(self) -> Mapping[LinkFault, int]:
        """The number of injected faults so far, by kind."""
        return Counter(self._injected)

    @property
    def connections(self) -> int:
        """The number of connections of clients so far."""
        return self._connections

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        assert self._listener is not None
        links: list[_Link] = []
        _, stop_signal = self._stop_signal
        with selectors.DefaultSelector() as selector, self._listener:
            selector.register(stop_signal, selectors.EVENT_READ)
            while True:
                now = time.monotonic()
                wakes = [wake for link in links if (wake := link.watch(selector, now)) is not None]
                wakes += self._listen(selector, now, len(links))
                ready = {key.fd for key, _ in selector.select(min(wakes) - now if wakes else None)}
                if stop_signal.fileno() in ready:
                    break
                now = time.monotonic()
                for link in links:
                    link.move(ready, now)
                if self._listener.fileno() in ready:
                    links += self._accepted()
                for link in links:
                    if link.ended is not None:
                        link.close(selector)
                links = [link for link in links if link.ended is None]
            for link in links:
                link.close(selector)

    def _listen(self, selector: selectors.BaseSelector, now: float, links: int) -> list[float]:
        """Listen unless there are too many links or failures; return when to recheck."""
        assert self._listener is not None
        listens = links < _LINKS_MAX and now >= self._accepts_from
        if listens != (self._listener in selector.get_map()):
            if listens:
                selector.register(self._listener, selectors.EVENT_READ)
            else:
                selector.unregister(self._listener)
        return [self._accepts_from] if now < self._accepts_from else []

    def _accepted(self) -> list[_Link]:
        assert self._listener is not None
        try:
            client, _ = self._listener.accept()
        except OSError:
            # The client has disconnected, or the process has no file descriptors left.
            self._accepts_from = time.monotonic() + _PAUSE
            return []
        self._connections += 1
        try:
            # All other connections wait during this.
            server = socket.create_connection(self._upstream, timeout=_CONNECT_SECONDS)
        except OSError:
            _close(client, reset=True)
            return []
        return [_Link(client, server, self._connections, self._conditions, self._injected)]


class _Link:
    """
    The connection of a client and the corresponding one to the server.

    `ended` is None while both are open, and then says how to close them: "reset" or "in order".
    """

    def __init__(
        self,
        client: socket.socket,
        server: socket.socket,
        number: int,
        conditions: LinkConditions,
        injected: dict[LinkFault, int],
    ) -> None:
        self._conditions = conditions
        self._injected = injected
        self._stalled_until: float | None = None
        self._sockets = (client, server)
        self._streams = (
            _Stream(client, server, conditions.faults(number, "sent")),
            _Stream(server, client, conditions.faults(number, "received")),
        )
        self._watched: dict[socket.socket, int] = {}
        self.ended: Literal["reset", "in order"] | None = None
        for end in self._sockets:
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def watch(self, selector: selectors.BaseSelector, now: float) -> float | None:
        """Register what the link waits for; return when to move it at the latest."""
        wanted = dict.fromkeys(self._sockets, 0)
        wakes = []
        if self._stalled_until is not None:
            wakes.append(self._stalled_until)
        else:
            for stream in self._streams:
                if stream.held_until > now:
                    wakes.append(stream.held_until)
                elif stream.pending:
                    wanted[stream.target] |= selectors.EVENT_WRITE
                elif not stream.over:
                    wanted[stream.source] |= selectors.EVENT_READ
        for end, events in wanted.items():
            self._register(selector, end, events)
        return min(wakes, default=None)

    def move(self, ready: set[int], now: float) -> None:
        """Forward what can be forwarded."""
        if self._stalled_until is not None:
            if now >= self._stalled_until:
                self.ended = "reset"
            return
        try:
            for stream in self._streams:
                if self.ended is None and stream.held_until <= now:
                    self._move(stream, ready, now)
        except OSError:
            # One side has disconnected: reset the other one, too.
            self.ended = "reset"
        if all(stream.over for stream in self._streams):
            self.ended = self.ended or "in order"

    def close(self, selector: selectors.BaseSelector) -> None:
        """Close both connections."""
        for end in self._sockets:
            self._register(selector, end, 0)
            _close(end, reset=self.ended == "reset")

    def _register(self, selector: selectors.BaseSelector, end: socket.socket, events: int) -> None:
        before, self._watched[end] = self._watched.get(end, 0), events
        if before and not events:
            selector.unregister(end)
        elif before and events != before:
            selector.modify(end, events)
        elif events and not before:
            selector.register(end, events)

    def _move(self, stream: _Stream, ready: set[int], now: float) -> None:
        if not stream.pending and stream.source.fileno() in ready and not stream.over:
            # The socket may be ready for the other direction only.
            with contextlib.suppress(BlockingIOError):
                stream.receive()
        if stream.pending:
            with contextlib.suppress(BlockingIOError):
                fault = stream.send(now)
                if fault is not None:
                    self._inject(fault, stream, now)

    def _inject(self, fault: LinkFault, stream: _Stream, now: float) -> None:
        self._injected[fault] += 1
        match fault:
            case LinkFault.RESET:
                self.ended = "reset"
            case LinkFault.TRUNCATE:
                self.ended = "in order"
            case LinkFault.STALL:
                self._stalled_until = now + self._conditions.stall
            case LinkFault.DELAY:
                stream.held_until = now + self._conditions.delay
            case LinkFault.THROTTLE:
                stream.throttle(self._conditions.throttle_rate, self._conditions.throttle_bytes)


class _Stream:
    """One direction of a link: bytes received and not sent, and the next fault."""

    def __init__(self, source: socket.socket, target: socket.socket, faults: Iterator[tuple[int, LinkFault]]) -> None:
        self.source = source
        self.target = target
        self.pending = memoryview(b"")
        self.held_until = 0.0
        self.over = False
        self._position = 0
        self._faults = faults
        self._next = next(faults, None)
        self._rate = 0.0
        self._slow_bytes = 0

    def throttle(self, rate: float, count: int) -> None:
        """Send the next `count` bytes at `rate` bytes per second."""
        self._rate, self._slow_bytes = rate, count

    def receive(self) -> None:
        """Receive what is available; forward the end of the stream at once."""
        self.pending = memoryview(self.source.recv(_RECEIVE_BYTES))
        if not self.pending:
            self.over = True
            self.target.shutdown(socket.SHUT_WR)

    def send(self, now: float) -> LinkFault | None:
        """Send up to the byte of the next fault; return the fault if it was reached."""
        most = len(self.pending)
        if self._next is not None:
            most = min(most, self._next[0] - self._position)
        if self._slow_bytes:
            most = min(most, self._slow_bytes, max(1, int(self._rate * _THROTTLE_INTERVAL)))
        sent = self.target.send(self.pending[:most])
        self.pending = self.pending[sent:]
        self._position += sent
        if self._slow_bytes:
            self._slow_bytes -= sent
            self.held_until = now + sent / self._rate
        if self._next is None or self._position < self._next[0]:
            return None
        fault = self._next[1]
        self._next = next(self._faults, None)
        return fault


def _close(connection: socket.socket, *, reset: bool) -> None:
    if reset:
        linger = struct.pack("ii" if os.name == "posix" else "hh", 1, 0)
        # The other side may have closed it already.
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()
