"""
TLS over a connected socket: encrypted in memory, and sent by as few calls as will do.

Python's own TLS socket has the kernel send each record of 16 KiB by itself, which wakes whoever waits at the other end
each time, and it looks before each call whether that would block. Here a piece of a body becomes records in memory
first, and one call sends them all: parts of 1 MiB cost a fifth less processor time for it. All that makes TLS secure,
the verification of certificates and names too, is done by OpenSSL behind `ssl.SSLObject`, as it is for asyncio.
"""

from __future__ import annotations

import contextlib
import math
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

from partwise.backends._http.timeouts import send_all
from partwise.errors import InvalidInput
from partwise.model import MIB

_RECEIVE = 64 * 1024

#: Encrypted at a time: so much is held twice, as records and on the way to the kernel.
_PIECE = MIB // 2

_T = TypeVar("_T")


def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """
    What a server has to prove: a valid certificate for its name.

    Args:
        ca_bundle: a file or directory of the authorities to trust; None trusts those of the system.

    Raises:
        InvalidInput: there is no such file, or no certificate in it.
    """
    try:
        if ca_bundle is None:
            context = ssl.create_default_context()
        elif Path(ca_bundle).is_dir():
            context = ssl.create_default_context(capath=ca_bundle)
        else:
            context = ssl.create_default_context(cafile=ca_bundle)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"the certificates in {ca_bundle} can't be used: {error}") from error
    context.set_alpn_protocols(["http/1.1"])
    return context


class TLSSocket:
    """
    A socket whose bytes go by TLS. Used by one thread at a time.

    What it has are the methods of a socket that are used here, and no more: there is no way past the encryption.

    Args:
        sock: a connected socket, whose timeout is that of each step of the handshake, too.
        context: what the server has to prove.
        host: whom it has to be: a host's name or address.
        deadline: until when the handshake may take, by `time.monotonic`.

    Raises:
        ssl.SSLCertVerificationError: the certificate is not valid, or is another's.
        OSError: there is no TLS to be had. `sock` is left open.
    """

    #: When `recv` gives up, by `time.monotonic`. It receives a record whole, however slowly that arrives, so that its
    #: caller can't look at the time itself.
    deadline = math.inf

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str, *, deadline: float = math.inf) -> None:
        self._sock = sock
        self._arrived, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        # As a certificate has them: an address without brackets, a name without the dot of the root.
        self._tls = context.wrap_bio(self._arrived, self._leaving, server_hostname=host.strip("[]").rstrip("."))
        try:
            self._done(self._tls.do_handshake, deadline)
        finally:
            with contextlib.suppress(OSError):
                self._flush()  # the end of the handshake, or why it failed

    # --- bytes -------------------------------------------------------------------------------------------------------

    def sendall(self, data: bytes | memoryview) -> None:
        """As a socket's."""
        self.sendmsg((data,))

    def sendmsg(self, buffers: Iterable[bytes | memoryview]) -> int:
        """As a socket's, but all of it is sent."""
        sent = 0
        for buffer in buffers:
            for begin in range(0, len(buffer), _PIECE):
                if self._leaving.pending >= _PIECE:
                    self._flush()
                piece = memoryview(buffer)[begin : begin + _PIECE]
                while piece:
                    written = self._done(partial(self._tls.write, piece))
                    piece = piece[written:]
                    sent += written
        self._flush()
        return sent

    def recv(self, size: int) -> bytes:
        """As a socket's: up to so many bytes, b"" at the end, be it said by TLS or not."""
        try:
            return self._done(partial(self._tls.read, size), self.deadline)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def _done(self, step: Callable[[], _T], deadline: float = math.inf) -> _T:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._flush()
                arrived = self._sock.recv(_RECEIVE)
                if time.monotonic() > deadline:
                    raise TimeoutError("what is sent by TLS took too long to arrive") from None
                if arrived:
                    self._arrived.write(arrived)
                else:
                    self._arrived.write_eof()

    def _flush(self) -> None:
        if self._leaving.pending:
            send_all(self._sock, self._leaving.read())

    # --- the socket beneath ------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """As a socket's."""
        return self._sock.fileno()

    def gettimeout(self) -> float | None:
        """As a socket's."""
        return self._sock.gettimeout()

    def settimeout(self, seconds: float | None) -> None:
        """As a socket's."""
        self._sock.settimeout(seconds)

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        """As a socket's."""
        self._sock.setsockopt(level, option, value)

    def close(self) -> None:
        """As a socket's. The other side is not told by TLS, which nobody waits for: each answer says how long it is."""
        self._sock.close()
