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

from partwise.backends.oss.tls import TLSSocket
from partwise.model import MIB

#: What a call raises that waited in vain: by the kernel's timeout, one that would block.
SILENCE = (TimeoutError, BlockingIOError)

#: Python's timeout is for all that one call has to send, so that it must not be much: at the slowest rate that OSS can
#: be asked for, 1 MiB takes some ten seconds.
_SENT_IN_TIME = MIB


def limit_silence(sock: socket.socket | TLSSocket, seconds: float) -> None:
    """Have every call to send or to receive end as one of SILENCE that moves no byte for so long (above 0)."""
    if not _limited_by_kernel(sock, seconds):
        sock.settimeout(seconds)


def longest_send(sock: socket.socket | TLSSocket) -> int:
    """How many bytes to give to one call to send, so that it is not taken for a silence that it takes long."""
    return sys.maxsize if sock.gettimeout() is None else _SENT_IN_TIME


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
