"""A listening socket, and a thread for each client."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from typing import Any

# How often the accepting thread checks whether to stop, in seconds. Each test that stops a server waits this long.
_POLL_SECONDS = 0.005


class Listener(socketserver.TCPServer):
    """
    Accepts connections, and keeps track of open ones and their threads.

    `serve_client` serves one connection and closes it. Above `max_connections`, further ones are closed at once.
    """

    # On Windows this would let a second server listen on the same port.
    allow_reuse_address = os.name == "posix"
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        serve_client: Callable[[socket.socket], None],
        max_connections: Callable[[], int],
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._serve_client = serve_client
        self._max_connections = max_connections
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, socket.socket] = {}
        self._accepting = threading.Thread(target=self.serve_forever, args=(_POLL_SECONDS,), daemon=True)
        super().__init__(address, socketserver.BaseRequestHandler)

    @property
    def address(self) -> tuple[str, int]:
        """The host and port that it listens on."""
        host, port = self.socket.getsockname()[:2]
        return host, port

    def start(self) -> None:
        """Start to accept connections; raise OSError if no thread can be started."""
        try:
            self._accepting.start()
        except RuntimeError as error:
            self.server_close()
            raise OSError(errno.EAGAIN, f"{os.strerror(errno.EAGAIN)}: {error}") from error

    def stop(self) -> None:
        """Accept no more connections, shut down the open ones, and wait for the threads."""
        self.shutdown()
        self._accepting.join()
        self.server_close()
        with self._lock:
            serving = dict(self._open)
        for connection in serving.values():
            shut_down(connection)
        for thread in serving:
            thread.join()

    def get_request(self) -> tuple[socket.socket, Any]:
        """
        Accept a connection.

        After a failure, such as too many open files, wait before the next attempt.
        """
        try:
            return super().get_request()
        except OSError:
            time.sleep(_POLL_SECONDS)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 -- the base class's signature
        """Serve one client in its own thread, unless too many are connected."""
        thread = threading.Thread(target=self._serve, args=(request,), daemon=True)
        with self._lock:
            if len(self._open) >= self._max_connections():
                request.close()
                return
            self._open[thread] = request
        try:
            thread.start()
        except RuntimeError:  # no more threads can be started
            with self._lock:
                del self._open[thread]
            request.close()

    def _serve(self, connection: socket.socket) -> None:
        try:
            self._serve_client(connection)
        finally:
            with self._lock:
                del self._open[threading.current_thread()]


def shut_down(connection: socket.socket) -> None:
    """
    End a connection, which wakes a thread that waits for it.

    It is not an error if the connection has already ended.
    """
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
