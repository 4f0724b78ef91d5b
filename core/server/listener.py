"""A listening socket, and a thread for each client."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable

#: How many connections may wait to be accepted.
_BACKLOG = 128

#: The pause after a connection could not be accepted, as with too many open files, in seconds.
_PAUSE_SECONDS = 0.005


class Listener:
    """
    Accepts connections, and keeps track of open ones and their threads.

    `serve_client` serves one connection and closes it. Above `max_connections`, further ones are closed at once.
    """

    def __init__(
        self,
        address: tuple[str, int],
        serve_client: Callable[[socket.socket], None],
        max_connections: Callable[[], int],
    ) -> None:
        self._serve_client = serve_client
        self._max_connections = max_connections
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, socket.socket] = {}
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._socket = _listen(address)
        # A byte ends the accepting thread, which waits without a timeout.
        self._end, self._ended = socket.socketpair()

    @property
    def address(self) -> tuple[str, int]:
        """The host and port that it listens on."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    def start(self) -> None:
        """Start to accept connections; raise OSError if no thread can be started."""
        try:
            self._accepting.start()
        except RuntimeError as error:
            self._close()
            raise OSError(errno.EAGAIN, f"{os.strerror(errno.EAGAIN)}: {error}") from error

    def stop(self) -> None:
        """Accept no more connections, shut down the open ones, and wait for the threads."""
        with contextlib.suppress(OSError):  # stopped before
            self._end.send(b"\0")
        self._accepting.join()
        self._close()
        with self._lock:
            serving = dict(self._open)
        for connection in serving.values():
            shut_down(connection)
        for thread in serving:
            thread.join()

    def _close(self) -> None:
        for opened in (self._socket, self._end, self._ended):
            opened.close()

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            for watched in (self._socket, self._ended):
                selector.register(watched, selectors.EVENT_READ)
            while all(key.fileobj is not self._ended for key, _ in selector.select()):
                try:
                    connection, _ = self._socket.accept()
                except OSError:
                    time.sleep(_PAUSE_SECONDS)
                else:
                    connection.setblocking(True)
                    self._start(connection)

    def _start(self, connection: socket.socket) -> None:
        """Serve one client in its own thread, unless too many are connected."""
        thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
        with self._lock:
            if len(self._open) >= self._max_connections():
                connection.close()
                return
            self._open[thread] = connection
        try:
            thread.start()
        except RuntimeError:  # no more threads can be started
            with self._lock:
                del self._open[thread]
            connection.close()

    def _serve(self, connection: socket.socket) -> None:
        try:
            self._serve_client(connection)
        finally:
            with self._lock:
                del self._open[threading.current_thread()]


def _listen(address: tuple[str, int]) -> socket.socket:
    """Return a socket that listens; raise OSError if the address can't be used."""
    listening = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    try:
        # On Windows this would let a second server listen on the same port.
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
        listening.setblocking(False)  # a client may be gone before it is accepted
    except BaseException:
        listening.close()
        raise
    return listening


def shut_down(connection: socket.socket) -> None:
    """
    End a connection, which wakes a thread that waits for it.

    It is not an error if the connection has already ended.
    """
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
