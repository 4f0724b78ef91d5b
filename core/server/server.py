"""The server: a listening socket, and a thread for each client."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import socketserver
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from partwise.backends.memory import MemoryBackend
from partwise.errors import InvalidInput
from partwise.protocols import MultipartBackend
from partwise.server.connection import ClientConnection
from partwise.server.exchange import ReceivedRequest
from partwise.server.faults import ServerFault
from partwise.server.hosts import is_loopback
from partwise.server.messages import DropConnection
from partwise.server.oss.buckets import Buckets, DirectoryBuckets, GivenBuckets
from partwise.server.oss.service import Service
from partwise.server.settings import ServerSettings

# How often the accepting thread looks whether it shall stop, in seconds: the most that a test waits at its end.
_POLL = 0.005


class OSSServer:
    """
    An HTTP server that clients of Alibaba Cloud OSS take for OSS, over any `MultipartBackend`.

        with OSSServer() as server:
            client = oss2.Bucket(auth, server.endpoint, "examplebucket", region=server.region)

    It checks what the service checks, signatures included, and plays the failures that are planned. By an address or as
    ``localhost`` it is asked in path style; of any other host name the first label is the bucket, as in
    ``examplebucket.localhost``. Names that are not loopback have to be given, by `ServerSettings.hosts`.

    Each server has an access key of its own, made at random, unless `settings` brings others.

    Args:
        buckets: the storage behind each bucket, which stays its owner's to close. None: ``examplebucket`` in memory,
            unless there is a `directory`.
        directory: every folder in it is a bucket, in place of `buckets`; it is made if it is missing.
        settings: what the server is like; see `ServerSettings`.
        faults: what shall go wrong; see `ServerFault`.
        host: the address to listen on. Any but a loopback address draws a warning.
        port: 0 takes a free one.

    Raises:
        InvalidInput: both `buckets` and `directory` are given, the port can't be one, or `settings` needs no signature
            and `host` is not loopback.
    """

    def __init__(
        self,
        buckets: Mapping[str, MultipartBackend] | None = None,
        *,
        directory: str | os.PathLike[str] | None = None,
        settings: ServerSettings | None = None,
        faults: Iterable[ServerFault] = (),
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        if buckets is not None and directory is not None:
            raise InvalidInput("give buckets or a directory of buckets, not both")
        if not 0 <= port <= 65_535:
            raise InvalidInput(f"a port is from 0 to 65535, not {port}")
        settings = settings or ServerSettings()
        _check_access(settings, host)
        self._own: list[MultipartBackend] = []
        if directory is None and buckets is None:
            self._own.append(MemoryBackend())
            buckets = {"examplebucket": self._own[0]}
        served: Buckets
        if directory is not None:
            served = DirectoryBuckets(Path(directory))
        else:
            served = GivenBuckets(buckets or {}, settings.now())
        self._stopping = threading.Event()
        self._service = Service(settings, served, faults, self._pause, listens_on=host)
        self._address = (host, port)
        self._listener: _Listener | None = None

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """
        Listen, and answer from now on.

        Raises:
            RuntimeError: it was started or stopped before: a server lives once.
            OSError: the address can't be used, or no thread can be started.
        """
        if self._listener is not None or self._stopping.is_set():
            raise RuntimeError("this server was started or stopped before; make another one")
        host, _ = self._address
        if not is_loopback(host):
            warnings.warn(f"this test server listens on {host}: who reaches it can store and read there", stacklevel=2)
        listener = _Listener(self._address, self._serve_client, lambda: self.settings.connections)
        listener.begin()
        self._listener = listener

    def stop(self) -> None:
        """End all connections, wait for the threads, close the backends that the server made itself. Twice is fine."""
        self._stopping.set()
        if self._listener is not None:
            self._listener.end()
        self._service.buckets.close()
        for backend in self._own:
            backend.close()

    def wait(self) -> None:
        """Return when another thread has stopped the server; an interrupt comes through."""
        # With a limit, since on Windows nothing interrupts a wait without one.
        while not self._stopping.wait(timeout=0.5):
            pass

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        if self._stopping.is_set():
            return f"<{type(self).__name__} stopped>"
        return f"<{type(self).__name__} {'not started' if self._listener is None else self.endpoint}>"

    # --- what clients need to know -----------------------------------------------------------------------------------

    @property
    def endpoint(self) -> str:
        """
        The URL to give to a client as its endpoint.

        Raises:
            RuntimeError: the server was not started.
        """
        if self._listener is None:
            raise RuntimeError("the server was not started: it has no address yet")
        host, port = self._listener.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def region(self) -> str:
        """The region id that V4 signatures must name."""
        return self.settings.region

    @property
    def access_key_id(self) -> str:
        """The id of the first access key."""
        return self.settings.access_keys[0].access_key_id

    @property
    def access_key_secret(self) -> str:
        """The secret of the first access key."""
        return self.settings.access_keys[0].access_key_secret

    @property
    def security_token(self) -> str | None:
        """The token of the first access key, if that is a temporary one."""
        return self.settings.access_keys[0].security_token

    def announcement(self) -> dict[str, str]:
        """What a client in another process has to know, by name: endpoint, access key, region."""
        return {
            "endpoint": self.endpoint,
            "access_key_id": self.access_key_id,
            "access_key_secret": self.access_key_secret,
            "region": self.region,
        }

    # --- what tests set and see --------------------------------------------------------------------------------------

    @property
    def settings(self) -> ServerSettings:
        """What the server is like. Replace it, by ``attrs.evolve``, to change that for the requests to come."""
        return self._service.settings

    @settings.setter
    def settings(self, settings: ServerSettings) -> None:
        _check_access(settings, self._address[0])
        self._service.settings = settings

    @property
    def bucket_names(self) -> list[str]:
        """The names of all buckets, sorted."""
        return self._service.buckets.names()

    def backend(self, bucket: str = "examplebucket") -> MultipartBackend:
        """
        The storage behind a bucket.

        Raises:
            KeyError: there is no such bucket.
        """
        found = self._service.buckets.find(bucket)
        if found is None:
            raise KeyError(bucket)
        return found.backend

    def plan(self, *faults: ServerFault) -> None:
        """Plan more faults; each counts requests from now on."""
        self._service.plan.add(faults)

    @property
    def unreached_faults(self) -> tuple[ServerFault, ...]:
        """The planned faults that struck no request so far. At its end a test should find none."""
        return self._service.plan.unreached()

    @property
    def requests(self) -> tuple[ReceivedRequest, ...]:
        """
        The requests so far, in the order they were answered.

        Only the newest ones are kept, see `ServerSettings.kept_requests`: where the first of them is not number 1,
        older ones were dropped.
        """
        return self._service.received

    def requests_of(self, operation: str) -> tuple[ReceivedRequest, ...]:
        """The requests of one operation, by its name in the API reference."""
        return tuple(request for request in self.requests if request.operation == operation)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _pause(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise DropConnection

    def _serve_client(self, connection: socket.socket) -> None:
        ClientConnection(connection, self._service.respond, self._service.refuse, self.settings.silence).serve()


def serve_directory(
    directory: str | os.PathLike[str],
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    settings: ServerSettings | None = None,
    started: Callable[[OSSServer], None] | None = None,
) -> None:
    """
    Serve a directory, a bucket per folder, until the process is interrupted.

    Args:
        directory: where the buckets are; it is made if it is missing. PutBucket makes a folder.
        port: 0 takes a free one.
        host: the address to listen on. Any but a loopback address draws a warning.
        settings: what the server is like.
        started: called once clients can connect, to tell them where; see `OSSServer.announcement`.

    Raises:
        KeyboardInterrupt: the process was interrupted. The server is stopped by then.
        OSError: the address or the directory can't be had.
    """
    with OSSServer(directory=directory, settings=settings, host=host, port=port) as server:
        if started is not None:
            started(server)
        server.wait()


def _check_access(settings: ServerSettings, host: str) -> None:
    if settings.allow_anonymous and not is_loopback(host):
        raise InvalidInput(f"a server that needs no signature listens on loopback only, not on {host}")


class _Listener(socketserver.TCPServer):
    """Accepts connections, and knows all that are open and all threads that serve them."""

    # On Windows this would let a second server take the same port.
    allow_reuse_address = os.name == "posix"
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        serve_client: Callable[[socket.socket], None],
        connections_max: Callable[[], int],
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._serve_client = serve_client
        self._connections_max = connections_max
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, socket.socket] = {}
        self._accepting = threading.Thread(target=self.serve_forever, args=(_POLL,), daemon=True)
        super().__init__(address, socketserver.BaseRequestHandler)

    @property
    def address(self) -> tuple[str, int]:
        """The host and port that it listens on."""
        host, port = self.socket.getsockname()[:2]
        return host, port

    def begin(self) -> None:
        """
        Accept connections from now on.

        Raises:
            OSError: no thread can be started.
        """
        try:
            self._accepting.start()
        except RuntimeError as error:
            self.server_close()
            raise OSError(errno.EAGAIN, f"{os.strerror(errno.EAGAIN)}: {error}") from error

    def end(self) -> None:
        """Accept no more, end those that are open, and wait for their threads."""
        self.shutdown()
        self._accepting.join()
        self.server_close()
        with self._lock:
            serving = dict(self._open)
        for connection in serving.values():
            _end(connection)
        for thread in serving:
            thread.join()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a client; where that fails for want of descriptors, don't try again at once."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(_POLL)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 -- the base class's signature
        """Serve one client in a thread of its own, unless there are too many already."""
        thread = threading.Thread(target=self._run, args=(request,), daemon=True)
        with self._lock:
            if len(self._open) >= self._connections_max():
                request.close()
                return
            self._open[thread] = request
        try:
            thread.start()
        except RuntimeError:  # no more threads can be started
            with self._lock:
                del self._open[thread]
            request.close()

    def _run(self, connection: socket.socket) -> None:
        try:
            self._serve_client(connection)
        finally:
            with self._lock:
                del self._open[threading.current_thread()]


def _end(connection: socket.socket) -> None:
    """Wake the thread that waits for this connection; it closes it."""
    # It may have ended by itself meanwhile.
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
