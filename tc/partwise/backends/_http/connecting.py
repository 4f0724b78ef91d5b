"""
TCP connections to a name with several addresses ("happy eyeballs", RFC 8305).

The addresses are tried one after the other, a quarter of a second apart, without giving up the earlier ones; the first
that answers wins. So an address that does not answer, such as one of IPv6 on a network without IPv6, costs a quarter of
a second once, and nothing after that: the address that worked is tried first the next time.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections import deque
from contextlib import ExitStack, suppress
from itertools import chain, zip_longest
from typing import Any

from partwise.backends._http.cutting import Cutter

#: Seconds after which the next address is tried, too: the Connection Attempt Delay of RFC 8305, section 5.
_NEXT_ADDRESS_AFTER = 0.25

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
        sock = _first_connected(addresses, timeout, cutter)
        with suppress(OSError):
            self._worked = sock.getpeername()
        return sock


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


def _first_connected(addresses: list[_Address], timeout: float, cutter: Cutter | None) -> socket.socket:
    now = time.monotonic()
    deadline, next_at = now + timeout, now
    waiting, error = deque(addresses), OSError("its name has no address")
    with selectors.DefaultSelector() as selector:
        sockets: set[socket.socket] = set()
        try:
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
