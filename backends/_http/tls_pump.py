"""
TLS over a connected socket, encrypted in memory.

Many TLS records go to the kernel in one call. Python's own TLS socket sends each record of 16 KiB with a separate
system call, which wakes the receiver each time, and calls poll() before each of them. Here a piece of the body is
encrypted into memory first and sent by one call: parts of 1 MiB cost a fifth less CPU time. All that makes TLS secure,
certificate and host name verification included, is done by OpenSSL behind `ssl.SSLObject`, as in asyncio.
"""

from __future__ import annotations

import contextlib
import math
import socket
import ssl
import time
import weakref
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

from partwise.backends._http.timeouts import send_all
from partwise.errors import InvalidInput
from partwise.model import KIB, MIB

_RECEIVE = 64 * 1024

#: Bytes to encrypt before they are sent. Memory holds them twice: plain and encrypted. An encryption buffer keeps its
#: largest size, also while its connection is idle, so only the first sockets of a process have large batches: with 128,
#: each of them gets little of the line.
_BATCH_BYTES, _SMALL_BATCH_BYTES = MIB // 2, 32 * KIB
_LARGE_BATCHES_MAX = 8

_T = TypeVar("_T")


def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """
    Return a context that requires a valid certificate for the server's name.

    Args:
        ca_bundle: a file or directory of certificate authorities to trust; None trusts those of the system.

    Raises:
        InvalidInput: the file does not exist or contains no certificate, or those of the system can't be read.
    """
    try:
        if ca_bundle is None:
            context = ssl.create_default_context()
        elif Path(ca_bundle).is_dir():
            context = ssl.create_default_context(capath=ca_bundle)
        else:
            context = ssl.create_default_context(cafile=ca_bundle)
    except (OSError, ValueError) as error:
        of_whom = "of the system" if ca_bundle is None else f"in {ca_bundle}"
        raise InvalidInput(
            f"the certificates {of_whom} can't be used: {getattr(error, 'strerror', None) or error}",
            hint="Pass {ca_bundle} with a PEM file, or a directory that was prepared with `openssl rehash`",
        ) from error
    context.set_alpn_protocols(["http/1.1"])
    return context


def lazy_tls_context(ca_bundle: str | None) -> Callable[[], ssl.SSLContext]:
    """
    Return a function that returns the context of `tls_context`, always the same.

    A file that can't be used is refused here. The certificates of the system are read when the function is called
    first: to read them takes longer than everything else that makes a backend, and many make no connection.

    Raises:
        InvalidInput: the file does not exist or contains no certificate.
    """
    if ca_bundle is None:
        return cache(partial(tls_context, None))
    context = tls_context(ca_bundle)
    return lambda: context


class TLSSocket:
    """
    A socket that sends and receives by TLS. One thread at a time may use it.

    It has the few methods of a socket that are used here; none of them bypasses the encryption.

    Args:
        sock: a connected socket; its timeout applies to each step of the handshake.
        context: which certificates are valid.
        host: the name or address that the certificate must be for.
        deadline: when the handshake must be done, by `time.monotonic`.

    Raises:
        ssl.SSLCertVerificationError: the certificate is invalid or for another host.
        OSError: the handshake failed. `sock` is left open.
    """

    #: When `recv` gives up, by `time.monotonic`. One call may wait for many packets, until a TLS record is complete, so
    #: the caller can't check the time between them.
    deadline = math.inf

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str, *, deadline: float = math.inf) -> None:
        self._sock = sock
        self._batch_bytes = _SMALL_BATCH_BYTES
        if len(_with_large_batches) < _LARGE_BATCHES_MAX:
            self._batch_bytes = _BATCH_BYTES
            _with_large_batches.add(self)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        # As in certificates: an address without brackets, a name without a trailing dot.
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host.strip("[]").rstrip("."))
        try:
            self._run(self._tls.do_handshake, deadline)
        finally:
            with contextlib.suppress(OSError):
                self._flush()  # the last handshake message, or the alert that says why it failed

    # --- bytes -------------------------------------------------------------------------------------------------------

    def sendall(self, data: bytes | memoryview) -> None:
        """Send all of `data`, as `socket.sendall` does."""
        self.sendmsg((data,))

    def sendmsg(self, buffers: Iterable[bytes | memoryview]) -> int:
        """Send all buffers, as `socket.sendmsg` does, but completely."""
        sent, batch = 0, self._batch_bytes
        for buffer in buffers:
            for start in range(0, len(buffer), batch):
                if self._outgoing.pending >= batch:
                    self._flush()
                piece = memoryview(buffer)[start : start + batch]
                while piece:
                    written = self._run(partial(self._tls.write, piece))
                    piece = piece[written:]
                    sent += written
        self._flush()
        return sent

    def recv(self, size: int) -> bytes:
        """
        Receive up to `size` bytes; b"" at the end.

        The end may be announced by TLS, or the connection just closed.
        """
        try:
            return self._run(partial(self._tls.read, size), self.deadline)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def _run(self, step: Callable[[], _T], deadline: float = math.inf) -> _T:
        """
        Run a step of OpenSSL until it needs no more data.

        Data is moved between its buffers and the socket.
        """
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._flush()
                received = self._sock.recv(_RECEIVE)
                if time.monotonic() > deadline:
                    raise TimeoutError("the TLS data took too long to arrive") from None
                if received:
                    self._incoming.write(received)
                else:
                    self._incoming.write_eof()

    def _flush(self) -> None:
        if self._outgoing.pending:
            send_all(self._sock, self._outgoing.read())

    # --- the underlying socket ---------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Return the file descriptor of the socket."""
        return self._sock.fileno()

    def gettimeout(self) -> float | None:
        """Return the timeout of the socket."""
        return self._sock.gettimeout()

    def settimeout(self, seconds: float | None) -> None:
        """Set the timeout of the socket."""
        self._sock.settimeout(seconds)

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        """Set an option of the socket."""
        self._sock.setsockopt(level, option, value)

    def shutdown(self, how: int) -> None:
        """Shut down the connection beneath at once; calls in other threads fail."""
        self._sock.shutdown(how)

    def close(self) -> None:
        """
        Close the socket without a TLS close_notify.

        The length of each response is known, so none is needed.
        """
        _with_large_batches.discard(self)
        self._sock.close()


_with_large_batches: weakref.WeakSet[TLSSocket] = weakref.WeakSet()
