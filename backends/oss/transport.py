"""
Requests over pooled connections: the one place that does I/O.

urllib3 makes the connections: names, timeouts, tunnels through a proxy. One attempt is made per call; nothing is
retried or redirected. A connection goes back to the pool if the exchange left it in order, and is closed otherwise, so
that whatever went wrong ends with it.
"""

from __future__ import annotations

import os
import ssl
import time
import weakref
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from http.client import HTTPException
from socket import socket
from types import GeneratorType
from urllib.parse import unquote, urlsplit

from attrs import define, field
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError
from urllib3.util import Url

from partwise.backends.oss.http1 import Answer, BadAnswer, TooLong, read_answer, request_head
from partwise.backends.oss.silence import SILENCE, limit_silence, longest_send
from partwise.backends.oss.tls import TLSSocket
from partwise.errors import BackendClosed, BackendError, ConnectionFailed, InvalidInput

#: Connections that were idle for longer are not used again. The service closes them after a minute or so, and what lies
#: between may forget them without a word, which would be noticed only when the answer does not come.
_IDLE_SECONDS_MAX = 50.0

#: ... and those that were idle for less are used without looking whether they are still there, which takes a system
#: call, and a turn in the interpreter, for each request. Not so for requests that begin or complete an upload:
#: where one of those is lost, nobody knows whether it took effect. Nor once a connection broke: what lies on the way
#: may close each one after its answer without saying so, and then every other request would be lost.
_RECENT_SECONDS = 1.0

#: The service may have closed the connection, or is about to: bad requests, time-outs, its own failures.
_WORN_STATUSES = frozenset({400, 408})


@define(frozen=True)
class Proxy:
    """An HTTP proxy."""

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """
        The proxy of a URL like ``http://user:password@host:3128``.

        Raises:
            InvalidInput: it is not one. The message does not show the URL, which may hold a password.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or parts.scheme != "http" or parts.path not in ("", "/") or parts.query:
            raise InvalidInput("a proxy is given as http://host:port or http://user:password@host:port") from None
        authorization = None
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = f"Basic {b64encode(user.encode()).decode()}"
        return cls(host, port or 80, authorization)

    @property
    def headers(self) -> dict[str, str]:
        """What the proxy itself is told."""
        return {} if self.authorization is None else {"Proxy-Authorization": self.authorization}


class Transport:
    """
    Connections to one host.

    It is safe to use from many threads: each request has a connection of its own while it lasts. There are as many as
    requests at one time; up to `max_connections` are kept for the next.

    Args:
        scheme: ``http`` or ``https``.
        host: the host.
        port: its port.
        authority: what the Host header says.
        user_agent: what the User-Agent header says.
        connect_timeout: seconds that making a connection may take.
        read_timeout: seconds for which a connection may be silent, or refuse to take more.
        max_connections: how many idle connections are kept.
        context: what a server on https has to prove.
        proxy: a proxy to go through.
    """

    def __init__(
        self,
        *,
        scheme: str,
        host: str,
        port: int,
        authority: str,
        user_agent: str,
        connect_timeout: float,
        read_timeout: float,
        max_connections: int,
        context: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        self._scheme = scheme
        self._host = host
        self._port = port
        self._where = f"{scheme}://{authority}"
        self._fixed = f"Host: {authority}\r\nUser-Agent: {user_agent}\r\nAccept-Encoding: identity\r\n"
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._max_connections = max_connections
        self._context = context
        self._proxy = proxy
        # A proxy is sent the whole URL of what goes through it in the clear, and only then.
        self._forwarded = proxy is not None and scheme == "http"
        if self._forwarded:
            assert proxy is not None
            self._fixed += "".join([f"{name}: {value}\r\n" for name, value in proxy.headers.items()])
        self._closed = False
        self._trusting = True  # that a connection which was used just now is still there
        # The last one used is the first to be used again. A list's append and pop are atomic.
        self._idle: list[tuple[HTTPConnection, float]] = []
        self._pid = os.getpid()
        # Nobody closes what was unpickled to send one part in another process.
        weakref.finalize(self, _close_all, self._idle)

    def send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: Iterable[bytes | memoryview] = (),
        length: int | None = None,
    ) -> Answer:
        """
        Send a request and return the answer, whatever its status.

        Args:
            method: the HTTP method.
            target: path and query, fully encoded.
            headers: all but Host, User-Agent, Accept-Encoding and Content-Length.
            body: pieces that make up the body. What it raises passes through, and the server gets no whole request.
            length: of the body in bytes, None for a request that has none. `body` vouches for it.

        Raises:
            ConnectionFailed: there is no answer, or not all of it; the message says how far it got.
            BackendClosed: the transport was closed.
        """
        return self.begin(method, self.head(method, target, headers, length), body)()

    def head(self, method: str, target: str, headers: Mapping[str, str], length: int | None) -> bytes:
        """
        A request up to its body. Arguments as for `send`.

        Raises:
            ValueError: a line end, or a character beyond latin-1, got into a value.
        """
        if self._forwarded:
            target = self._where + target
        return request_head(method, target, self._fixed, headers, length)

    def begin(self, method: str, head: bytes, body: Iterable[bytes | memoryview] = ()) -> Callable[[], Answer]:
        """
        Send a request whose head is written already. What is returned waits for the answer, and is to be called once.

        Either step raises what `send` does.
        """
        connection = self._take(repeatable=method != "POST")
        try:
            broken = self._sent(connection, head, body)
        except BaseException as error:
            self._give_up(connection, error)
            raise
        finally:
            # Suspended, it would keep its file open for as long as the error lives that holds this frame.
            if isinstance(body, GeneratorType):
                body.close()
        return partial(self._answer, connection, method, broken)

    def close(self) -> None:
        """Close the idle connections; those in use are closed when their request ends."""
        self._closed = True
        _close_all(self._idle)

    # --- one exchange ------------------------------------------------------------------------------------------------

    def _sent(self, connection: HTTPConnection, head: bytes, body: Iterable[bytes | memoryview]) -> OSError | None:
        broken = _send(connection.sock, head, body)
        if isinstance(broken, SILENCE) and connection.is_connected:  # which says, too, that there is nothing to be read
            raise ConnectionFailed(
                f"{self._where} took no more of the request for {self._read_timeout:g} seconds"
            ) from broken
        return broken

    def _answer(self, connection: HTTPConnection, method: str, broken: OSError | None) -> Answer:
        try:
            answer, reusable = self._read(connection, method, broken)
        except BaseException as error:
            self._give_up(connection, error)
            raise
        if reusable:
            self._give_back(connection)
        else:
            connection.close()
        return answer

    def _read(self, connection: HTTPConnection, method: str, broken: OSError | None) -> tuple[Answer, bool]:
        try:
            # A server that refuses a request may answer before it has read all of it, and read no more.
            answer, reusable = read_answer(connection.sock.recv, method)
        except TooLong as error:
            raise BackendError(f"the answer of {self._where} can't be meant for us: {error}") from error
        except (BadAnswer, OSError) as error:
            if broken is not None:
                raise ConnectionFailed(
                    f"the connection to {self._where} broke while the request was sent: {broken}"
                ) from broken
            if isinstance(error, SILENCE):
                raise ConnectionFailed(
                    f"{self._where} did not answer within {self._read_timeout:g} seconds; the request may have taken "
                    "effect"
                ) from error
            raise ConnectionFailed(
                f"the answer of {self._where} was lost: {error}; the request may have taken effect"
            ) from error
        if broken is not None and answer.status < 300:
            raise ConnectionFailed(
                f"{self._where} answered {answer.status} to a request that it did not get all of: {broken}"
            ) from broken
        worn = broken is not None or answer.status >= 500 or answer.status in _WORN_STATUSES
        return answer, reusable and not worn

    # --- connections -------------------------------------------------------------------------------------------------

    def _take(self, *, repeatable: bool) -> HTTPConnection:
        if self._closed:
            raise BackendClosed(f"the backend for {self._where} was closed; open it again to go on")
        if self._pid != os.getpid():
            # After a fork the connections are the parent's, which goes on talking over them. They are closed before the
            # child is noted, so that no thread of it gets one meanwhile.
            _close_all(self._idle)
            self._pid = os.getpid()
        now = time.monotonic()
        recent, oldest = now - _RECENT_SECONDS if repeatable and self._trusting else now, now - _IDLE_SECONDS_MAX
        while True:
            try:
                connection, since = self._idle.pop()
            except IndexError:
                return self._connect()
            if since > recent or (since >= oldest and connection.is_connected):
                return connection
            connection.close()

    def _give_up(self, connection: HTTPConnection, error: BaseException) -> None:
        self._trusting = self._trusting and not isinstance(error, ConnectionFailed)
        connection.close()

    def _give_back(self, connection: HTTPConnection) -> None:
        if len(self._idle) >= self._max_connections:
            connection.close()
            return
        self._idle.append((connection, time.monotonic()))
        if self._closed:
            _close_all(self._idle)

    def _connect(self) -> HTTPConnection:
        connection = self._new_connection()
        try:
            connection.connect()
            if self._context is not None:
                connection.sock = TLSSocket(connection.sock, self._context, self._host)
            limit_silence(connection.sock, self._read_timeout)
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise ConnectionFailed(
                f"{self._where} can't be trusted: its certificate does not verify ({error}); if it is your own, name "
                "its authority by ca_bundle=",
                retryable=False,
            ) from error
        except (OSError, HTTPError, HTTPException, ValueError) as error:
            connection.close()
            raise ConnectionFailed(f"no connection to {self._way}: {_reason(error)}") from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _new_connection(self) -> HTTPConnection:
        proxy = self._proxy
        host, port = (self._host, self._port) if proxy is None else (proxy.host, proxy.port)
        proxy_url = None if proxy is None else Url("http", host=proxy.host, port=proxy.port)
        connection = HTTPConnection(host, port, timeout=self._connect_timeout, proxy=proxy_url)
        if proxy is not None and not self._forwarded:
            connection.set_tunnel(self._host, self._port, headers=proxy.headers, scheme="http")
        return connection

    @property
    def _way(self) -> str:
        if self._proxy is None:
            return self._where
        return f"{self._where} by way of the proxy {self._proxy.host}:{self._proxy.port}"


def _close_all(idle: list[tuple[HTTPConnection, float]]) -> None:
    while True:
        try:
            connection, _ = idle.pop()
        except IndexError:
            return
        connection.close()


def _send(sock: socket | TLSSocket, head: bytes, body: Iterable[bytes | memoryview]) -> OSError | None:
    """
    Send it all. The failure of the connection is returned, since an answer may be there all the same; what `body`
    raises is raised.
    """
    pending: bytes | None = head
    longest = longest_send(sock)
    for chunk in body:
        data = memoryview(chunk)
        for begin in range(0, len(data), longest):
            piece = data[begin : begin + longest]
            try:
                if pending is None:
                    sock.sendall(piece)
                else:
                    _send_both(sock, pending, piece)
                    pending = None
            except OSError as error:
                return error
    if pending is not None:
        try:
            sock.sendall(pending)
        except OSError as error:
            return error
    return None


def _send_both(sock: socket | TLSSocket, head: bytes, piece: memoryview) -> None:
    # In one call where there is one: a packet less, and a turn in the interpreter less among threads.
    sendmsg = getattr(sock, "sendmsg", None)
    if sendmsg is None:
        sock.sendall(head)
        sock.sendall(piece)
        return
    sent = sendmsg((head, piece))
    if sent < len(head):
        sock.sendall(head[sent:])
        sent = len(head)
    if sent < len(head) + len(piece):
        sock.sendall(piece[sent - len(head) :])


def _reason(error: Exception) -> str:
    if isinstance(error, NameResolutionError):
        return "its name can't be resolved"
    # In urllib3 every connection that could not be made is one that took too long.
    if isinstance(error, TimeoutError) or (
        isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError)
    ):
        return "it took too long"
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return str(getattr(cause, "strerror", None) or cause)
