"""
A poor way to a server: connections that are reset, end too soon, fall silent, or are slow.

    with OSSServer() as server, FaultyProxy(server.endpoint, LinkConditions(seed=7)) as proxy:
        backend = OSSBackend("examplebucket", endpoint=proxy.endpoint, ...)
        ...
        print(proxy.struck)

The proxy knows no protocol. What it does it does at some byte of what goes either way: in the middle of a head, of a
body, of an answer. Which byte, and what, is drawn from a seed, the number of the connection and the direction, and
from nothing else.
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
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from attrs import Attribute, define, field

from partwise.errors import InvalidInput
from partwise.model import KIB, MIB

_RECEIVE_BYTES = 64 * KIB

# How long a slow connection waits between two pieces, in seconds.
_DRIP = 0.02

# Each has two descriptors, of which a process often has 1,024.
_LINKS_MAX = 256

# How long no client is accepted after one could not be, in seconds.
_PAUSE = 0.02

_CONNECT_SECONDS = 5.0

Direction = Literal["sent", "received"]
"""Which way bytes go, as the client sees it."""


class LinkFault(Enum):
    """What befalls a connection."""

    RESET = "is reset"
    TRUNCATE = "ends in order, and what would have followed is lost"
    STALL = "falls silent, and is reset in the end"
    DELAY = "is silent for a moment"
    THROTTLE = "is slow for a while"

    @property
    def breaks(self) -> bool:
        """Whether the connection does not live on."""
        return self in {LinkFault.RESET, LinkFault.TRUNCATE, LinkFault.STALL}


def _positive(instance: object, attribute: Attribute[Any], value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:  # which holds for no NaN
        raise InvalidInput(f"{type(instance).__name__}.{attribute.name} must be a number above 0, not {value}")


@define(frozen=True)
class LinkConditions:
    """
    What befalls connections, and where.

    The bytes from one fault to the next are drawn so that no byte is more likely than another to be the next one
    struck. A connection that is kept for long meets as many faults as many short ones that carry the same.

    Args:
        seed: what is drawn from it is the same each time.
        sent_between: bytes from one fault to the next in what clients send, on average; None: no faults there.
        received_between: likewise in what they receive.
        kinds: what may happen, each as likely; one that is named twice is twice as likely.
        delay: seconds that a DELAY lasts.
        stall: seconds from a STALL to the reset, in which whoever waits is to lose patience.
        throttle_rate: bytes a second under THROTTLE.
        throttle_bytes: how many bytes it holds for.

    Raises:
        InvalidInput: a number is not above zero, or has no end.
    """

    seed: int = 0
    sent_between: float | None = field(default=4 * MIB, validator=_positive)
    received_between: float | None = field(default=16 * KIB, validator=_positive)
    kinds: tuple[LinkFault, ...] = tuple(LinkFault)
    delay: float = field(default=0.2, validator=_positive)
    stall: float = field(default=60.0, validator=_positive)
    throttle_rate: float = field(default=256 * KIB, validator=_positive)
    throttle_bytes: int = field(default=64 * KIB, validator=_positive)

    def strikes(self, connection: int, direction: Direction) -> Iterator[tuple[int, LinkFault]]:
        """
        The faults of one direction of one connection: after how many bytes, and what.

        Args:
            connection: its number, counting from 1.
            direction: which way the bytes go.
        """
        between = self.sent_between if direction == "sent" else self.received_between
        if between is None or not self.kinds:
            return
        drawn = Random(f"{self.seed} {connection} {direction}")  # noqa: S311  # nothing is kept secret by it
        position = 0
        while True:
            position += 1 + int(drawn.expovariate(1 / between))
            yield position, drawn.choice(self.kinds)


class FaultyProxy:
    """
    A proxy on loopback that hands bytes on, both ways, in such conditions.

    One thread moves all bytes, so that what befalls one connection is over before the next thing happens to it.

    Args:
        upstream: the URL of the server. Of it, host and port matter.
        conditions: what befalls connections.

    Raises:
        InvalidInput: `upstream` has no host, or no port.
    """

    def __init__(self, upstream: str, conditions: LinkConditions) -> None:
        try:
            parts = urlsplit(upstream)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or not port:
            raise InvalidInput(f"{upstream!r} is no URL with a host and a port, like http://127.0.0.1:8080")
        self._upstream = (host, port)
        self._scheme = parts.scheme
        self._conditions = conditions
        self._struck = dict.fromkeys(LinkFault, 0)
        self._connections = 0
        self._listens_from = 0.0
        self._listener: socket.socket | None = None
        self._bell: tuple[socket.socket, ...] = ()
        self._thread = threading.Thread(target=self._run, name="faulty proxy", daemon=True)

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """
        Listen, and hand on what comes from now on.

        Raises:
            RuntimeError: it was started before: a proxy lives once.
        """
        if self._listener is not None:
            raise RuntimeError("this proxy was started before; make another one")
        self._bell = socket.socketpair()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.setblocking(False)
        self._thread.start()

    def stop(self) -> None:
        """End all connections and wait for the thread. Twice is fine."""
        if not self._bell:
            return
        ours, theirs = self._bell
        ours.close()
        self._thread.join()
        theirs.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- what tests see ----------------------------------------------------------------------------------------------

    @property
    def endpoint(self) -> str:
        """
        The URL to give to a client in place of the server's.

        Raises:
            RuntimeError: the proxy is not running.
        """
        if self._listener is None or self._listener.fileno() < 0:
            raise RuntimeError("the proxy is not running: it has no address")
        return f"{self._scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def struck(self) -> Mapping[LinkFault, int]:
        """How many faults of each kind have struck so far."""
        return Counter(self._struck)

    @property
    def connections(self) -> int:
        """How many connections clients have made so far."""
        return self._connections

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        assert self._listener is not None
        links: list[_Link] = []
        _, bell = self._bell
        with selectors.DefaultSelector() as selector, self._listener:
            selector.register(bell, selectors.EVENT_READ)
            while True:
                now = time.monotonic()
                wakes = [wake for link in links if (wake := link.watch(selector, now)) is not None]
                wakes += self._listen(selector, now, len(links))
                ready = {key.fd for key, _ in selector.select(min(wakes) - now if wakes else None)}
                if bell.fileno() in ready:
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
        """Look for clients, unless there are enough, or there was no room for one a moment ago; when to look again."""
        assert self._listener is not None
        listens = links < _LINKS_MAX and now >= self._listens_from
        if listens != (self._listener in selector.get_map()):
            if listens:
                selector.register(self._listener, selectors.EVENT_READ)
            else:
                selector.unregister(self._listener)
        return [self._listens_from] if now < self._listens_from else []

    def _accepted(self) -> list[_Link]:
        assert self._listener is not None
        try:
            client, _ = self._listener.accept()
        except OSError:
            # It was gone before it was looked at, or there are no descriptors left, and will be none at once.
            self._listens_from = time.monotonic() + _PAUSE
            return []
        self._connections += 1
        try:
            # All other connections wait meanwhile.
            server = socket.create_connection(self._upstream, timeout=_CONNECT_SECONDS)
        except OSError:
            _close(client, reset=True)
            return []
        return [_Link(client, server, self._connections, self._conditions, self._struck)]


class _Link:
    """
    A client's connection and the one that is made for it to the server.

    `ended` is None while it lives, and then says how it ends: "reset" or "in order".
    """

    def __init__(
        self,
        client: socket.socket,
        server: socket.socket,
        number: int,
        conditions: LinkConditions,
        struck: dict[LinkFault, int],
    ) -> None:
        self._conditions = conditions
        self._struck = struck
        self._stalled_until: float | None = None
        self._sockets = (client, server)
        self._streams = (
            _Stream(client, server, conditions.strikes(number, "sent")),
            _Stream(server, client, conditions.strikes(number, "received")),
        )
        self._watched: dict[socket.socket, int] = {}
        self.ended: Literal["reset", "in order"] | None = None
        for end in self._sockets:
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def watch(self, selector: selectors.BaseSelector, now: float) -> float | None:
        """Have the selector look for what can be done next; the time at which to look again, whatever it sees."""
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
            self._look_for(selector, end, events)
        return min(wakes, default=None)

    def move(self, ready: set[int], now: float) -> None:
        """Move what can be moved."""
        if self._stalled_until is not None:
            if now >= self._stalled_until:
                self.ended = "reset"
            return
        try:
            for stream in self._streams:
                if self.ended is None and stream.held_until <= now:
                    self._move(stream, ready, now)
        except OSError:
            # One end is gone; the other one is told so in the same way.
            self.ended = "reset"
        if all(stream.over for stream in self._streams):
            self.ended = self.ended or "in order"

    def close(self, selector: selectors.BaseSelector) -> None:
        """Close both connections."""
        for end in self._sockets:
            self._look_for(selector, end, 0)
            _close(end, reset=self.ended == "reset")

    def _look_for(self, selector: selectors.BaseSelector, end: socket.socket, events: int) -> None:
        before, self._watched[end] = self._watched.get(end, 0), events
        if before and not events:
            selector.unregister(end)
        elif before and events != before:
            selector.modify(end, events)
        elif events and not before:
            selector.register(end, events)

    def _move(self, stream: _Stream, ready: set[int], now: float) -> None:
        if not stream.pending and stream.source.fileno() in ready and not stream.over:
            # The other direction may be what the selector saw.
            with contextlib.suppress(BlockingIOError):
                stream.receive()
        if stream.pending:
            with contextlib.suppress(BlockingIOError):
                fault = stream.send(now)
                if fault is not None:
                    self._strike(fault, stream, now)

    def _strike(self, fault: LinkFault, stream: _Stream, now: float) -> None:
        self._struck[fault] += 1
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
    """One direction of a link: what was received and not sent yet, and when the next fault strikes."""

    def __init__(self, source: socket.socket, target: socket.socket, strikes: Iterator[tuple[int, LinkFault]]) -> None:
        self.source = source
        self.target = target
        self.pending = memoryview(b"")
        self.held_until = 0.0
        self.over = False
        self._position = 0
        self._strikes = strikes
        self._next = next(strikes, None)
        self._rate = 0.0
        self._slow_bytes = 0

    def throttle(self, rate: float, count: int) -> None:
        """Send the next `count` bytes at `rate` bytes a second."""
        self._rate, self._slow_bytes = rate, count

    def receive(self) -> None:
        """Receive what is there; the end of it is handed on at once."""
        self.pending = memoryview(self.source.recv(_RECEIVE_BYTES))
        if not self.pending:
            self.over = True
            self.target.shutdown(socket.SHUT_WR)

    def send(self, now: float) -> LinkFault | None:
        """Send as much as may go, up to the byte at which a fault strikes; the fault, if that byte was reached."""
        most = len(self.pending)
        if self._next is not None:
            most = min(most, self._next[0] - self._position)
        if self._slow_bytes:
            most = min(most, self._slow_bytes, max(1, int(self._rate * _DRIP)))
        sent = self.target.send(self.pending[:most])
        self.pending = self.pending[sent:]
        self._position += sent
        if self._slow_bytes:
            self._slow_bytes -= sent
            self.held_until = now + sent / self._rate
        if self._next is None or self._position < self._next[0]:
            return None
        fault = self._next[1]
        self._next = next(self._strikes, None)
        return fault


def _close(connection: socket.socket, *, reset: bool) -> None:
    if reset:
        linger = struct.pack("ii" if os.name == "posix" else "hh", 1, 0)
        # The other side may have been quicker.
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()
