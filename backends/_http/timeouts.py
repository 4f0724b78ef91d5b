"""
How long the other side of a connection may be silent, or refuse to take more.

Python's own timeout puts a call to wait before every call to send or to receive. Among threads each of the two is a
turn in the interpreter that others wait for: with four of them, parts of 100 KiB cost a tenth more processor time for
it. So the timeout is left to the kernel where that has one, and is Python's everywhere else.
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

#: What a call raises that waited in vain: by the kernel's timeout, one that would block.
SILENCE = (TimeoutError, BlockingIOError)


class TooSlow(TimeoutError):
    """The other side takes bytes, but so slowly that a part would not be sent within any sensible time."""


#: Python's timeout is for all that one call has to send, so that it must not be much: at the slowest rate that OSS can
#: be asked for, 1 MiB takes some ten seconds.
_SENT_IN_TIME = MIB

#: Bytes a second that the other side has to take, on average over what one call sends and beyond one time of silence.
#: One that takes a byte now and then is never silent, and would hold a thread for ever. OSS can be asked for no rate
#: as slow as this.
_RATE_MIN = KIB


def limit_silence(sock: socket.socket | TLSSocket, seconds: float) -> None:
    """Have every call to send or to receive end as one of SILENCE that moves no byte for so long (above 0)."""
    if not _limited_by_kernel(sock, seconds):
        sock.settimeout(seconds)


def longest_send(sock: socket.socket | TLSSocket) -> int:
    """How many bytes to give to one call to send, so that it is not taken for a silence that it takes long."""
    return sys.maxsize if sock.gettimeout() is None else _SENT_IN_TIME


def send_all(sock: socket.socket, data: bytes | memoryview) -> None:
    """
    Send all of it, as `sendall` does, by a socket whose silence is limited.

    Raises:
        TooSlow: the other side takes less than 1 KiB a second.
        OSError: one of SILENCE where it takes nothing; any other failure of the connection.
    """
    if sock.gettimeout() is not None:
        sock.sendall(data)  # Python's timeout is for all of it
        return
    begun = time.monotonic()
    sent = sock.send(data)
    # Nearly always that was all: what the kernel did not take before its timeout ended, or a signal came, is the rest.
    while sent < len(data):
        if sent < (time.monotonic() - begun - _kernel_limit(sock)) * _RATE_MIN:
            raise TooSlow(f"less than {_RATE_MIN} bytes a second were taken")
        sent += sock.send(memoryview(data)[sent:])


def _kernel_limit(sock: socket.socket) -> float:
    """Seconds of silence after which a call to send ends."""
    seconds, microseconds = struct.unpack("ll", sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL_BYTES))
    return float(seconds) + float(microseconds) / 1_000_000


_TIMEVAL_BYTES = struct.calcsize("ll")


def _limited_by_kernel(sock: socket.socket | TLSSocket, seconds: float) -> bool:
    if sys.platform == "win32":
        return False  # there the options have another form
    microseconds = max(1, round(seconds * 1_000_000))
    timeval = struct.pack("ll", *divmod(microseconds, 1_000_000))
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
        sock.settimeout(None)
        # It counts for descriptors that block, which those of gevent and its like never do.
        return os.get_blocking(sock.fileno())
    except (OSError, AttributeError):
        return False
