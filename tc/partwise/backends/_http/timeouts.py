"""
How long a peer may send nothing, or accept nothing, before a call fails.

With a timeout of Python's `socket`, every send and every receive is preceded by a poll(). With several threads, each of
these calls can lose the GIL: with four threads, parts of 100 KiB took a tenth more CPU time. So the timeout is set in
the kernel where the kernel supports it (SO_RCVTIMEO, SO_SNDTIMEO), and in Python elsewhere.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING

from partwise.model import KIB, MIB

if TYPE_CHECKING:
    from partwise.backends._http.tls_pump import TLSSocket

#: What a call raises when it times out. When the kernel's timeout expires, the call fails with EAGAIN.
TIMEOUT_ERRORS = (TimeoutError, BlockingIOError)


class TooSlow(TimeoutError):
    """The peer accepts data, but below the minimum rate."""


#: Bytes per call where the timeout is Python's, since that one covers the whole call: at the lowest rate that OSS can
#: be asked for (its traffic limit), 1 MiB takes some ten seconds.
_SEND_BYTES_MAX = MIB

#: Bytes per second that the peer must accept, on average over one call and beyond one timeout. A peer that accepts one
#: byte now and then never times out, and would block a thread for weeks. No traffic limit of OSS is as low as this.
_RATE_MIN = KIB


def set_timeout(sock: socket.socket | TLSSocket, seconds: float) -> None:
    """
    Make a send or receive fail if it moves no byte for `seconds`, above 0.

    The error is one of TIMEOUT_ERRORS.
    """
    if not _set_kernel_timeout(sock, seconds):
        sock.settimeout(seconds)


def max_send_size(sock: socket.socket | TLSSocket) -> int:
    """
    Return how many bytes to pass to one send.

    With too many, a slow transfer would be mistaken for a timeout.
    """
    return sys.maxsize if sock.gettimeout() is None else _SEND_BYTES_MAX


def send_all(sock: socket.socket, data: bytes | memoryview) -> None:
    """
    Send all of `data`, as `socket.sendall` does.

    `set_timeout` must have been applied to the socket.

    Raises:
        TooSlow: the peer accepts less than 1 KiB per second.
        OSError: one of TIMEOUT_ERRORS if the peer accepts nothing; any other failure of the connection.
    """
    if sock.gettimeout() is not None:
        sock.sendall(data)  # Python's timeout covers the whole call
        return
    started = time.monotonic()
    sent = sock.send(data)
    # One call is nearly always enough. It sends less if the kernel's timeout expired or a signal arrived.
    while sent < len(data):
        if sent < (time.monotonic() - started - _kernel_timeout(sock)) * _RATE_MIN:
            raise TooSlow(f"less than {_RATE_MIN} bytes per second were accepted")
        sent += sock.send(memoryview(data)[sent:])


def _kernel_timeout(sock: socket.socket) -> float:
    seconds, microseconds = struct.unpack("ll", sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL_BYTES))
    return float(seconds) + float(microseconds) / 1_000_000


_TIMEVAL_BYTES = struct.calcsize("ll")


def _set_kernel_timeout(sock: socket.socket | TLSSocket, seconds: float) -> bool:
    if sys.platform == "win32":
        return False  # the options have another format there
    microseconds = max(1, round(seconds * 1_000_000))
    timeval = struct.pack("ll", *divmod(microseconds, 1_000_000))
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
        sock.settimeout(None)
        # The options apply to blocking descriptors only; those of gevent and similar libraries never block.
        return os.get_blocking(sock.fileno())
    except (OSError, AttributeError):
        return False
