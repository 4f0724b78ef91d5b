"""
Requests to one host over pooled connections.

Each call makes one attempt: there are no retries and no redirects. A connection returns to the pool only if the
exchange left it in a known state; otherwise it is closed, so that a failure can't affect the next request.
"""

from __future__ import annotations

import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import chain
from socket import socket
from types import GeneratorType

from partwise._units import format_seconds
from partwise.backends._http.connecting import Dialer
from partwise.backends._http.connections import (
    ENDPOINT_HINT,
    Connection,
    Endpoint,
    open_connection,
    receiver,
)
from partwise.backends._http.cutting import Cutter
from partwise.backends._http.http1 import (
    NotHTTP,
    ProtocolError,
    Response,
    ResponseTooLarge,
    read_response,
    request_head,
)
from partwise.backends._http.timeouts import TIMEOUT_ERRORS, TooSlow, max_send_size, send_all
from partwise.backends._http.tls_pump import TLSSocket
from partwise.errors import BackendClosed, BackendError, ConnectionFailed
from partwise.model import KIB

#: A connection that was idle for longer is not reused. Servers close idle connections after a minute or so, and a NAT
#: or a firewall may drop one silently, which would be noticed only when no response arrives.
_IDLE_SECONDS_MAX = 50.0

#: A connection that was idle for less is reused without a check that it is still open: the check is a system call, and
#: a chance to lose the GIL. Two exceptions: a POST, since a lost response leaves its effect unknown; and every request
#: after a connection has failed, since a proxy or gateway may be closing connections without announcing it, and then
#: every other request would be lost.
_RECENT_SECONDS = 1.0

#: A request of at least these bytes and seconds shows how fast its connection is. A connection that is less than half
#: as fast as the median of the last ones is not reused: it has lost packets, TCP lets it recover slowly, and a new
#: connection is faster.
_LARGE_BODY, _LONG_REQUEST = 256 * KIB, 1.0
_RATES = 16

#: The server closes the connection after these, or is about to.
_CLOSING_STATUSES = frozenset({400, 408})

#: A whole response may take this many read timeouts. Without this limit, a server that sends one byte per minute could
#: block a thread for weeks. With a read timeout of 60 seconds, the longest response (a list page of 4 MiB) is in time
#: at 17 KiB per second; nearly all others fit into one packet.
_READ_TIMEOUTS_PER_RESPONSE = 4

#: With TLS 1.3 a server rejects a missing client certificate only after the handshake, in place of the first response.
_CLIENT_CERTIFICATE_REQUIRED = "TLSV13_ALERT_CERTIFICATE_REQUIRED"

#: The first bytes of a TLS alert and of a TLS handshake record, as `NotHTTP` shows them.
_TLS_RECORDS = ("\\x15\\x03", "\\x16\\x03")


class HTTPClient:
    """
    Connections to one endpoint. Thread-safe.

    A request uses one connection exclusively. There are as many connections as concurrent requests; up to
    `max_connections` idle ones are kept.
    """

    def __init__(self, endpoint: Endpoint, *, user_agent: str, max_connections: int) -> None:
        self._endpoint = endpoint
        self._url = endpoint.url
        self._response_timeout = _READ_TIMEOUTS_PER_RESPONSE * endpoint.read_timeout
        self._max_connections = max_connections
        forwarding_proxy = endpoint.forwarding_proxy
        proxy_headers = {} if forwarding_proxy is None else forwarding_proxy.headers
        self._fixed_headers = "".join(
            [
                f"Host: {endpoint.authority}\r\nUser-Agent: {user_agent}\r\nAccept-Encoding: identity\r\n",
                *(f"{name}: {value}\r\n" for name, value in proxy_headers.items()),
            ]
        )
        # A proxy that forwards needs the whole URL as the request target (RFC 9112, absolute-form).
        self._target_prefix = "" if forwarding_proxy is None else self._url
        self._closed = False
        self._skip_liveness_check = True
        # Last in, first out, so that surplus connections become idle. The append and the pop of a list are atomic.
        self._idle: list[tuple[Connection, float]] = []
        # What can cut a request, by the id of its owner. A cutter lives as long as its request; it is removed when that
        # ends; one that is abandoned leaves a dead reference. A WeakValueDictionary costs 2 us more for each request.
        self._cutters: dict[int, weakref.ref[Cutter]] = {}
        self._rates: deque[float] = deque(maxlen=_RATES)  # of the last long requests
        self._dialer = Dialer()
        self._pid = os.getpid()
        # A client that was unpickled in a worker process is never closed explicitly.
        weakref.finalize(self, _close_all, self._idle)

    @property
    def endpoint(self) -> Endpoint:
        """The server, and how to connect to it."""
        return self._endpoint

    def close(self) -> None:
        """Close the idle connections; those in use are closed when their request ends."""
        self._closed = True
        self._dialer.close()
        _close_all(self._idle)

    # --- a request, from top to bottom -------------------------------------------------------------------------------

    def head(self, method: str, target: str, headers: Mapping[str, str], length: int | None) -> bytes:
        """
        Build the request line and the headers of a request; see `http1.request_head`.

        `headers` are all but Host, User-Agent, Accept-Encoding and Content-Length.
        """
        return request_head(method, self._target_prefix + target, self._fixed_headers, headers, length)

    def start(
        self,
        method: str,
        head: bytes,
        chunks: Iterable[bytes | memoryview] = (),
        owner: object = None,
        size: int = 0,
        *,
        response_seconds: float | None = None,
    ) -> Callable[[], Response]:
        """
        Send a request, and return a function that waits for its response.

        The response may have any status. Call the function once.

        Args:
            method: the HTTP method.
            head: the result of `head`.
            chunks: the body, of the length that the head declares. Its exceptions propagate, and the server then has
                an incomplete request.
            owner: identifies the request for `cut`, and exists until the response was read; None: it can't be cut.
            size: the length of the body in bytes, to measure the connection; 0: it is not measured.
            response_seconds: how long the whole response may take, as long as the server sends something within each
                read timeout; None: four read timeouts.

        Raises:
            ConnectionFailed: from either step: there is no complete response; the message says how far the exchange
                got.
            BackendClosed: the client is closed.
            InvalidInput: the certificates of the system can't be read.
        """
        cutter = Cutter(None if owner is None else id(owner))
        if cutter.owner is not None:
            self._cutters[cutter.owner] = weakref.ref(cutter)
        connection = self._acquire(cutter, repeatable=method != "POST")
        acquired = time.monotonic()
        connection.started = acquired
        cutter.attach(connection.sock)
        try:
            pieces = iter(chunks)
            first = next(pieces, b"")
            if time.monotonic() - acquired > _RECENT_SECONDS and not connection.is_connected:
                # The body has waited for bandwidth, and the server has closed the connection meanwhile.
                connection.close()
                connection = self._acquire(cutter, repeatable=method != "POST")
                connection.started = time.monotonic()
                cutter.attach(connection.sock)
            send_error = self._send_request(connection, head, chain((first,), pieces))
        except BaseException as error:
            self._discard(connection, error, cutter)
            raise
        finally:
            # A suspended generator would keep its file open for as long as a traceback refers to this frame.
            if isinstance(chunks, GeneratorType):
                chunks.close()
        return partial(
            self._finish, connection, method, send_error, cutter, size=size, response_seconds=response_seconds
        )

    def cut(self, owner: object, reason: str) -> None:
        """
        End the request of this owner, if there is one.

        It fails with ConnectionFailed, which names the reason; a request that has its response already
        succeeds. Thread-safe.
        """
        reference = self._cutters.get(id(owner))
        cutter = None if reference is None else reference()
        if cutter is not None:
            cutter.cut(reason)

    def connect_ahead(self, count_for: Callable[[float], int]) -> None:
        """
        Make connections for later requests as soon as the next one has its own.

        They are made in the background. Those that no request takes within five seconds are not used.

        Args:
            count_for: returns how many connections will be in use at a time, from the seconds that one took; called at
                most once, by the next request that makes a connection.
        """
        self._dialer.connect_ahead(lambda seconds: min(count_for(seconds), self._max_connections) - 1)

    def _send_request(
        self, connection: Connection, head: bytes, chunks: Iterable[bytes | memoryview]
    ) -> OSError | None:
        send_error = _send(connection.sock, head, chunks)
        # `is_connected` also means that there is nothing to read, so no response explains the timeout.
        if isinstance(send_error, TIMEOUT_ERRORS) and connection.is_connected:
            raise ConnectionFailed(f"{self._url} {self._describe(send_error)}") from send_error
        return send_error

    def _finish(
        self,
        connection: Connection,
        method: str,
        send_error: OSError | None,
        cutter: Cutter,
        *,
        size: int,
        response_seconds: float | None,
    ) -> Response:
        try:
            response, reusable = self._receive(connection, method, send_error, response_seconds)
        except BaseException as error:
            self._discard(connection, error, cutter)
            raise
        if self._end(cutter) and reusable and not (size >= _LARGE_BODY and self._is_slow(connection, size)):
            self._release(connection)
        else:
            connection.close()
        return response

    def _is_slow(self, connection: Connection, size: int) -> bool:
        seconds = time.monotonic() - connection.started
        if seconds < _LONG_REQUEST:
            return False
        rate = size / seconds
        self._rates.append(rate)
        return len(self._rates) == _RATES and rate < sorted(self._rates)[_RATES // 2] / 2

    def _receive(
        self, connection: Connection, method: str, send_error: OSError | None, response_seconds: float | None
    ) -> tuple[Response, bool]:
        timeout = max(self._response_timeout, response_seconds or 0.0)
        deadline = time.monotonic() + timeout
        try:
            # Also after a send error: a server that rejects a request may respond before it has read the whole body,
            # and close the connection. The response then says why.
            response, reusable = read_response(receiver(connection.sock, deadline), method)
        except ResponseTooLarge as error:
            raise BackendError(f"the response of {self._url} exceeds the limits of this client: {error}") from error
        except (ProtocolError, OSError) as error:
            permanent = _is_permanent(error, connection)
            if send_error is not None and not permanent:
                raise ConnectionFailed(
                    f"the connection to {self._url} broke while the request was sent: {self._describe(send_error)}"
                ) from send_error
            late = timeout if time.monotonic() > deadline else None
            raise self._response_lost(error, late=late, permanent=permanent) from error
        if send_error is not None and response.status < 300:
            raise ConnectionFailed(
                f"{self._url} responded {response.status} to a request that it did not receive completely: "
                f"{self._describe(send_error)}"
            ) from send_error
        connection.used = True
        must_close = send_error is not None or response.status >= 500 or response.status in _CLOSING_STATUSES
        return response, reusable and not must_close

    def _response_lost(self, error: Exception, *, late: float | None, permanent: bool) -> ConnectionFailed:
        maybe = "the request may have taken effect"
        if isinstance(error, TIMEOUT_ERRORS):
            what, seconds = "respond", self._endpoint.read_timeout
            if late is not None:
                what, seconds = "finish its response", late
            return ConnectionFailed(f"{self._url} did not {what} within {format_seconds(seconds)}; {maybe}")
        if not isinstance(error, NotHTTP):
            return ConnectionFailed(f"the response of {self._url} was lost: {error}; {maybe}", retryable=not permanent)
        hint = ENDPOINT_HINT
        if self._endpoint.context is None and any(record in str(error) for record in _TLS_RECORDS):
            hint = "The server speaks TLS: pass {endpoint} with https://"
        return ConnectionFailed(f"the response of {self._url} was lost: {error}", retryable=not permanent, hint=hint)

    def _describe(self, send_error: OSError) -> str:
        if isinstance(send_error, TooSlow):
            return f"accepted the request too slowly: {send_error}"
        if isinstance(send_error, TIMEOUT_ERRORS):
            return f"accepted no more of the request for {format_seconds(self._endpoint.read_timeout)}"
        return str(send_error)

    # --- the pool ----------------------------------------------------------------------------------------------------

    def _acquire(self, cutter: Cutter, *, repeatable: bool) -> Connection:
        if self._closed:
            self._end(cutter)
            raise BackendClosed(f"the backend for {self._url} is closed", hint="Open a new one")
        if self._pid != os.getpid():
            # After a fork, the parent keeps using these connections. Close them before recording the new pid, so that
            # no other thread of the child gets one.
            self._dialer.close()
            _close_all(self._idle)
            self._pid = os.getpid()
        now = time.monotonic()
        unchecked_after = now - _RECENT_SECONDS if repeatable and self._skip_liveness_check else now
        oldest = now - _IDLE_SECONDS_MAX
        while True:
            try:
                connection, idle_since = self._idle.pop()
            except IndexError:
                return self._connect(cutter)
            if idle_since > unchecked_after or (idle_since >= oldest and connection.is_connected):
                return connection
            connection.close()

    def _connect(self, cutter: Cutter) -> Connection:
        try:
            return open_connection(self._endpoint, self._dialer, cutter)
        except BaseException as error:
            if self._end(cutter) or not isinstance(error, ConnectionFailed):
                raise
            raise ConnectionFailed(f"the connection to {self._url} was cut: {cutter.reason}") from error

    def _end(self, cutter: Cutter) -> bool:
        """Note that a request can't be cut any more; return whether it was not."""
        if cutter.owner is not None:
            self._cutters.pop(cutter.owner, None)
        return cutter.detach()

    def _release(self, connection: Connection) -> None:
        if len(self._idle) >= self._max_connections:
            connection.close()
            return
        self._idle.append((connection, time.monotonic()))
        if self._closed:  # by another thread, meanwhile
            _close_all(self._idle)

    def _discard(self, connection: Connection, error: BaseException, cutter: Cutter) -> None:
        """
        Close a connection that failed.

        Raises:
            ConnectionFailed: the request was cut, which explains the failure.
        """
        intact = self._end(cutter)
        connection.close()
        if isinstance(error, ConnectionFailed):
            if not intact:
                raise ConnectionFailed(f"the connection to {self._url} was cut: {cutter.reason}") from error
            self._skip_liveness_check = False


def _close_all(idle: list[tuple[Connection, float]]) -> None:
    while True:
        try:
            connection, _ = idle.pop()
        except IndexError:
            return
        connection.close()


def _is_permanent(error: Exception, connection: Connection) -> bool:
    """Return whether a retry would get the same response."""
    first_response = isinstance(error, NotHTTP) and not connection.used
    return first_response or getattr(error, "reason", None) == _CLIENT_CERTIFICATE_REQUIRED


def _send(sock: socket | TLSSocket, head: bytes, chunks: Iterable[bytes | memoryview]) -> OSError | None:
    """
    Send a request.

    A failure of the connection is returned, not raised, since a response may have arrived nevertheless. Exceptions of
    `chunks` are raised, an OSError of a file included.
    """
    unsent_head: bytes | None = head
    size_max = max_send_size(sock)
    send = sock.sendall if isinstance(sock, TLSSocket) else partial(send_all, sock)
    for chunk in chunks:
        view = memoryview(chunk)
        for start in range(0, len(view), size_max):
            piece = view[start : start + size_max]
            try:
                if unsent_head is None:
                    send(piece)
                else:
                    _send_together(sock, send, unsent_head, piece)
                    unsent_head = None
            except OSError as error:
                return error
    if unsent_head is not None:
        try:
            send(unsent_head)
        except OSError as error:
            return error
    return None


def _send_together(
    sock: socket | TLSSocket, send: Callable[[bytes | memoryview], None], head: bytes, piece: memoryview
) -> None:
    # One system call and one packet less. Windows has no sendmsg.
    sendmsg = getattr(sock, "sendmsg", None)
    if sendmsg is None:
        send(head)
        send(piece)
        return
    sent = sendmsg((head, piece))
    if sent < len(head):
        send(head[sent:])
        sent = len(head)
    if sent < len(head) + len(piece):
        send(piece[sent - len(head) :])
