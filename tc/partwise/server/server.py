"""The server without its storage protocol: a listener in front of a `Service`."""

from __future__ import annotations

import os
import socket
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Self

from partwise.backends.memory import MemoryBackend
from partwise.errors import InvalidInput
from partwise.protocols import MultipartBackend
from partwise.server.buckets import Buckets, DirectoryBuckets, GivenBuckets
from partwise.server.connection import ClientConnection
from partwise.server.dialect import ServerDialect
from partwise.server.exchange import ReceivedRequest
from partwise.server.faults import ServerFault
from partwise.server.hosts import is_loopback
from partwise.server.listener import Listener
from partwise.server.messages import DropConnection
from partwise.server.service import Service
from partwise.server.settings import ServerSettings


class StorageServer:
    """
    An HTTP server that emulates an object storage over a `MultipartBackend`.

    `OSSServer` describes the arguments.
    """

    dialect: ClassVar[ServerDialect]
    """The storage protocol, supplied by a subclass."""

    default_settings: ClassVar[Callable[[], ServerSettings]] = ServerSettings
    """Makes the settings of a server that is given none."""

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
            raise InvalidInput("buckets and directory exclude each other; both were given")
        if not 0 <= port <= 65_535:
            raise InvalidInput(f"the port must be from 0 to 65535, not {port}")
        settings = settings or type(self).default_settings()
        _check_access(settings, host)
        self._own_backends: list[MultipartBackend] = []
        if directory is None and buckets is None:
            self._own_backends.append(MemoryBackend())
            buckets = {"examplebucket": self._own_backends[0]}
        served: Buckets
        if directory is not None:
            served = DirectoryBuckets(Path(directory))
        else:
            served = GivenBuckets(buckets or {}, settings.now())
        self._stopping = threading.Event()
        self._service = Service(self.dialect, settings, served, faults, self._wait_or_drop, listen_address=host)
        self._address = (host, port)
        self._listener: Listener | None = None

    # --- start and stop ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """
        Listen, and respond to requests from now on.

        Raises:
            RuntimeError: the server was started or stopped before. It can be started once.
            OSError: the address can't be used, or no thread can be started.
        """
        if self._listener is not None or self._stopping.is_set():
            raise RuntimeError("this server was started or stopped before; create another one")
        host, _ = self._address
        if not is_loopback(host):
            warnings.warn(
                f"this test server listens on {host}: clients that can reach it can read and store objects",
                stacklevel=2,
            )
        listener = Listener(self._address, self._serve_client, lambda: self.settings.max_connections)
        listener.start()
        self._listener = listener

    def stop(self) -> None:
        """
        End all connections, and wait for their threads. Idempotent.

        The backends that the server created are closed, too.
        """
        self._stopping.set()
        if self._listener is not None:
            self._listener.stop()
        self._service.buckets.close()
        for backend in self._own_backends:
            backend.close()

    def wait(self) -> None:
        """Wait until another thread has stopped the server; KeyboardInterrupt propagates."""
        # With a timeout, because on Windows a wait without one can't be interrupted.
        while not self._stopping.wait(timeout=0.5):
            pass

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        if self._stopping.is_set():
            return f"<{type(self).__name__} stopped>"
        return f"<{type(self).__name__} {'not started' if self._listener is None else self.endpoint}>"

    # --- what clients need -------------------------------------------------------------------------------------------

    @property
    def endpoint(self) -> str:
        """
        The URL to pass to a client as its endpoint.

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
        """The security token of the first access key; None if that key is not temporary."""
        return self.settings.access_keys[0].security_token

    #: What the environment variables of its clients are called; see `environment`.
    variables: ClassVar[Mapping[str, str]] = {}

    def environment(self) -> dict[str, str]:
        """Return the environment variables with which clients find the server."""
        announced = self.announcement()
        return {variable: announced[name] for name, variable in self.variables.items()}

    def announcement(self) -> dict[str, str]:
        """Return what a client needs, by name: endpoint, access key and region."""
        return {
            "endpoint": self.endpoint,
            "access_key_id": self.access_key_id,
            "access_key_secret": self.access_key_secret,
            "region": self.region,
        }

    # --- what tests set and read -------------------------------------------------------------------------------------

    @property
    def settings(self) -> ServerSettings:
        """
        The settings.

        Assign other ones, made by ``attrs.evolve``, to change them for the requests that follow.
        """
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
        Return the backend behind a bucket.

        Raises:
            KeyError: the bucket does not exist.
        """
        found = self._service.buckets.find(bucket)
        if found is None:
            raise KeyError(bucket)
        return found.backend

    def plan(self, *faults: ServerFault) -> None:
        """
        Plan more faults; each of them counts requests from now on.

        Raises:
            InvalidInput: a fault is for an operation that the server does not have.
        """
        self._service.plan.add(faults)

    @property
    def unreached_faults(self) -> tuple[ServerFault, ...]:
        """
        The planned faults that applied to no request so far.

        At the end of a test there should be none.
        """
        return self._service.plan.unreached()

    @property
    def requests(self) -> tuple[ReceivedRequest, ...]:
        """
        The requests so far, in the order of their responses.

        Only the newest are kept, see `ServerSettings.max_recorded_requests`. If the number of the first one is not 1,
        older ones were dropped.
        """
        return self._service.recorded

    def requests_of(self, operation: str) -> tuple[ReceivedRequest, ...]:
        """Return the requests of one operation, by its name in the API reference."""
        return tuple(request for request in self.requests if request.operation == operation)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _wait_or_drop(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise DropConnection

    def _serve_client(self, connection: socket.socket) -> None:
        service = self._service
        ClientConnection(connection, service.respond, service.refuse, self.settings.idle_timeout).serve()


def _check_access(settings: ServerSettings, host: str) -> None:
    if settings.allow_anonymous and not is_loopback(host):
        raise InvalidInput(f"a server that allows anonymous requests must listen on loopback, not on {host}")
