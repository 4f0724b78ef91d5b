"""
TCP connections to a name with several addresses ("happy eyeballs", RFC 8305).

The addresses are tried one after the other, a quarter of a second apart, without giving up the earlier ones; the first
that answers wins. So an address that does not answer, such as one of IPv6 on a network without IPv6, costs a quarter of
a second once, and nothing after that: the address that worked is tried first the next time.

If it is known that many connections will be needed, they are started ahead, without waiting for them: by the time a
request needs one, the kernel has made it.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from itertools import chain, zip_longest
from typing import Any

from partwise.backends._http.cutting import Cutter

#: Seconds after which the next address is tried, too: the Connection Attempt Delay of RFC 8305, section 5.
_NEXT_ADDRESS_AFTER = 0.25

#: A connection that was started ahead is not used after these seconds: the server may have closed it.
_AHEAD_SECONDS = 5.0

#: Seconds between two looks at whether the request was cut.
_LOOK_INTERVAL = 1.0

#: What `connect_ex` returns while the connection is being made; the last one on Windows.
_IN_PROGRESS = frozenset({0, errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", 0)})

#: Seconds without traffic after which the kernel asks the peer whether it still exists, seconds between two questions,
#: and how many may have no answer. A NAT or a firewall that has forgotten a connection is noticed by that.
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPALIVE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))

_Address = tuple[socket.AddressFamily, socket.SocketKind, int, Any]


class Dialer:
    """Connects to names, and remembers which address worked. Thread-safe."""

    def __init__(self) -> None:
        self._worked: Any = None
        self._count_for: Callable[[float], int] | None = None
        # Connections that were started ahead: when, where to, and the socket. The append and the pop of a list are
        # atomic.
        self._ahead: list[tuple[float, tuple[str, int], socket.socket]] = []
        weakref.finalize(self, _close_ahead, self._ahead)

    def connect(self, host: str, port: int, timeout: float, cutter: Cutter | None = None) -> socket.socket:
        """
        Return a connected socket, whose timeout is `timeout`.

        Args:
            host: a name or an address.
            port: the port.
            timeout: seconds, for all addresses together.
            cutter: ends the attempt from another thread.

        Raises:
            socket.gaierror: the name can't be resolved.
            OSError: no address could be connected to; the error is that of the last one.
            ConnectionAbortedError: it was cut.
        """
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = _in_turns([(family, kind, protocol, where) for family, kind, protocol, _, where in found])
        addresses.sort(key=lambda address: address[3] != self._worked)  # stable: only that one is moved
        before = time.monotonic()
        sock = _first_connected(addresses, timeout, cutter, self._take_ahead(host, port, before))
        with suppress(OSError):
            self._worked = sock.getpeername()
            self._start_ahead(sock, host, port, time.monotonic() - before)
        return sock

    def connect_ahead(self, count_for: Callable[[float], int]) -> None:
        """
        Start connections for later calls of `connect` when the next one is made.

        Calls that follow within five seconds use them.

        Args:
            count_for: returns how many, from the seconds that the next one took; called at most once.
        """
        self._count_for = count_for

    def close(self) -> None:
        """Close the connections that were started ahead, and were not used."""
        self._count_for = None
        _close_ahead(self._ahead)

    def _start_ahead(self, sock: socket.socket, host: str, port: int, seconds: float) -> None:
        count_for, self._count_for = self._count_for, None
        if count_for is None:
            return
        address = (sock.family, sock.type, sock.proto, sock.getpeername())
        for _ in range(count_for(seconds)):  # if one can't be started, such as for want of files, no more are
            self._ahead.append((time.monotonic(), (host, port), _start(address)))

    def _take_ahead(self, host: str, port: int, now: float) -> socket.socket | None:
        while self._ahead:
            try:
                started, where, sock = self._ahead.pop()
            except IndexError:  # another thread took it
                break
            if where == (host, port) and now - started < _AHEAD_SECONDS:
                return sock
            sock.close()
        return None


def set_keepalive(sock: socket.socket, timeout: float) -> None:
    """
    Make the kernel notice a connection that was lost silently.

    Args:
        sock: a connected socket.
        timeout: seconds for which sent data may not be acknowledged, where the kernel can limit that.
    """
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (*_KEEPALIVE, ("TCP_USER_TIMEOUT", max(1, round(timeout * 1000)))):
            option = getattr(socket, name, None)
            if option is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _in_turns(addresses: list[_Address]) -> list[_Address]:
    """
    Return the addresses with the families in turns.

    Otherwise they are in the order of the system.
    """
    first = [address for address in addresses if address[0] == addresses[0][0]]
    others = [address for address in addresses if address[0] != addresses[0][0]]
    return [address for address in chain(*zip_longest(first, others)) if address is not None]


def _close_ahead(ahead: list[tuple[float, tuple[str, int], socket.socket]]) -> None:
    while ahead:
        with suppress(IndexError):  # another thread took it
            ahead.pop()[2].close()


def _first_connected(
    addresses: list[_Address], timeout: float, cutter: Cutter | None, started: socket.socket | None
) -> socket.socket:
    """
    Return the first socket that is connected.

    That is the one that was started ahead, or one to an address.
    """
    now = time.monotonic()
    deadline, next_at = now + timeout, now
    waiting, error = deque(addresses), OSError("its name has no address")
    with selectors.DefaultSelector() as selector:
        sockets: set[socket.socket] = set()
        try:
            if started is not None:
                sockets.add(started)
                selector.register(started, selectors.EVENT_WRITE)
                next_at = now + _NEXT_ADDRESS_AFTER
            while sockets or waiting:
                now = time.monotonic()
                if now >= deadline:
                    raise TimeoutError("no address answered")
                if cutter is not None and cutter.reason is not None:
                    raise ConnectionAbortedError("the request was cut")
                if waiting and (now >= next_at or not sockets):
                    next_at = now + _NEXT_ADDRESS_AFTER
                    try:
                        sock = _start(waiting.popleft())
                    except OSError as failure:
                        error = failure
                        continue
                    sockets.add(sock)
                    selector.register(sock, selectors.EVENT_WRITE)
                limit = min(deadline, next_at if waiting else deadline) - now
                for key, _ in selector.select(max(0.0, min(limit, _LOOK_INTERVAL))):
                    sock = key.fileobj  # type: ignore[assignment]  # what was registered
                    selector.unregister(sock)
                    sockets.discard(sock)
                    failed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if not failed:
                        sock.settimeout(timeout)
                        return sock
                    error = OSError(failed, os.strerror(failed))
                    sock.close()
        finally:
            for other in sockets:
                other.close()
    raise error


def _start(address: _Address) -> socket.socket:
    """Start to connect, and return the socket; raise OSError if that failed at once."""
    family, kind, protocol, where = address
    sock = socket.socket(family, kind, protocol)
    with ExitStack() as on_error:
        on_error.callback(sock.close)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        failed = sock.connect_ex(where)
        if failed not in _IN_PROGRESS:
            raise OSError(failed, os.strerror(failed))
        on_error.pop_all()
    return sock
