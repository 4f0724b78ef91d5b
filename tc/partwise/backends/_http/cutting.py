"""End a request from another thread, by shutting its connection down."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from partwise.backends._http.tls_pump import TLSSocket


class Cutter:
    """
    Ends one request from another thread. Thread-safe; nothing here blocks.

    The thread of the request attaches the socket that it uses, and detaches it before the socket can be used by another
    request or its file descriptor by another file. A cut is final: a socket that is attached later is shut down, too.

    Args:
        owner: identifies the request; None: it can't be cut.

    Attributes:
        owner: as given.
        reason: why the request was cut, for messages; None if it was not.
    """

    def __init__(self, owner: int | None = None) -> None:
        self.owner = owner
        self.reason: str | None = None
        self._lock = threading.Lock()
        self._sock: socket.socket | TLSSocket | None = None

    def cut(self, reason: str) -> None:
        """Shut the connection down: a send or a receive that is waiting fails at once."""
        with self._lock:
            if self.reason is None:
                self.reason = reason
            self._shut_down()

    def attach(self, sock: socket.socket | TLSSocket) -> None:
        """Set the socket that the request uses from now on."""
        with self._lock:
            self._sock = sock
            if self.reason is not None:
                self._shut_down()

    def detach(self) -> bool:
        """Forget the socket, and return whether it is as it was, not shut down."""
        with self._lock:
            self._sock = None
            return self.reason is None

    def _shut_down(self) -> None:
        if self._sock is not None:
            with contextlib.suppress(OSError):  # it has failed already, or is not connected yet
                self._sock.shutdown(socket.SHUT_RDWR)
