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
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from socket import socket
from types import GeneratorType

from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
)

from partwise.backends._http.http1 import (
    LASTING_FAILURES,
    Answer,
    BadAnswer,
    NotHTTP,
    TooLong,
    read_answer,
    request_head,
)
from partwise.backends._http.proxies import Proxy
from partwise.backends._http.timeouts import SILENCE, TooSlow, limit_silence, longest_send, send_all
from partwise.backends._http.tls_pump import TLSSocket
from partwise.errors import BackendClosed, BackendError, ConnectionFailed

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

#: An answer may take four times as long as a silence, from the end of the request to its own end. Without a limit, one
#: of a byte a minute would hold a thread for weeks. With silences of 60 seconds the longest answer, a page of 4 MiB,
#: arrives in time at 17 KiB a second; nearly all others are shorter than a packet.
_SILENCES_PER_ANSWER = 4

#: Failures of TLS that may not happen again: bytes were damaged, or the other side has trouble of its own. All others
#: say that the two sides will not agree next time either.
_TRANSIENT_TLS = frozenset(
    {
        None,
        "DECRYPTION_FAILED_OR_BAD_RECORD_MAC",
        "SSLV3_ALERT_BAD_RECORD_MAC",
        "SSLV3_ALERT_CLOSE_NOTIFY",
        "TLSV1_ALERT_INTERNAL_ERROR",
        "TLSV1_ALERT_USER_CANCELLED",
        "UNEXPECTED_EOF_WHILE_READING",
    }
)

#: The other side says so only after its part of the handshake, in place of the first answer.
_NO_CERTIFICATE_OF_OURS = "TLSV13_ALERT_CERTIFICATE_REQUIRED"

#: How an answer of TLS begins: an alert, or a handshake.
_TLS_RECORDS = ("\\x15\\x03", "\\x16\\x03")


class _Connection(HTTPConnection):
    """A connection, and whether an answer came over it already."""

    used = False


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
        self._answer_timeout = _SILENCES_PER_ANSWER * read_timeout
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
        self._idle: list[tuple[_Connection, float]] = []
        self._pid = os.getpid()
        # Nobody closes what was unpickled to send one part in another process.
        weakref.finalize(self, _close_all, self._idle)

    def head(self, method: str, target: str, headers: Mapping[str, str], length: int | None) -> bytes:
        """
        A request up to its body.

        Args:
            method: the HTTP method.
            target: path and query, fully encoded.
            headers: all but Host, User-Agent, Accept-Encoding and Content-Length.
            length: of the body in bytes, None for a request that has none.

        Raises:
            ValueError: a line end, or a character beyond latin-1, got into a value.
        """
        if self._forwarded:
            target = self._where + target
        return request_head(method, target, self._fixed, headers, length)

    def begin(self, method: str, head: bytes, body: Iterable[bytes | memoryview] = ()) -> Callable[[], Answer]:
        """
        Send a request whose head is written already. What is returned is to be called once: it waits for the answer,
        and returns it whatever its status.

        Args:
            method: the HTTP method.
            head: what `head` gave.
            body: pieces that make up the body, as long as the head says. What it raises is not caught, and the server
                gets no whole request.

        Raises:
            ConnectionFailed: by either step: there is no answer, or not all of it; the message says how far it got.
            BackendClosed: the transport was closed.
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

    def _sent(self, connection: _Connection, head: bytes, body: Iterable[bytes | memoryview]) -> OSError | None:
        broken = _send(connection.sock, head, body)
        if isinstance(broken, SILENCE) and connection.is_connected:  # which says, too, that there is nothing to be read
            raise ConnectionFailed(f"{self._where} {self._why(broken)}") from broken
        return broken

    def _answer(self, connection: _Connection, method: str, broken: OSError | None) -> Answer:
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

    def _read(self, connection: _Connection, method: str, broken: OSError | None) -> tuple[Answer, bool]:
        deadline = time.monotonic() + self._answer_timeout
        try:
            # A server that refuses a request may answer before it has read all of it, and read no more.
            answer, reusable = read_answer(_receiving(connection.sock, deadline), method)
        except TooLong as error:
            raise BackendError(f"the answer of {self._where} can't be meant for us: {error}") from error
        except (BadAnswer, OSError) as error:
            certain = isinstance(error, NotHTTP) and not connection.used
            certain = certain or getattr(error, "reason", None) == _NO_CERTIFICATE_OF_OURS
            if broken is not None and not certain:
                raise ConnectionFailed(
                    f"the connection to {self._where} broke while the request was sent: {self._why(broken)}"
                ) from broken
            if isinstance(error, SILENCE):
                late = time.monotonic() > deadline
                how = "end its answer" if late else "answer"
                seconds = self._answer_timeout if late else self._read_timeout
                raise ConnectionFailed(
                    f"{self._where} did not {how} within {seconds:g} seconds; the request may have taken effect"
                ) from error
            raise ConnectionFailed(
                f"the answer of {self._where} was lost: {error}; {self._hint(error) or _MAYBE}", retryable=not certain
            ) from error
        if broken is not None and answer.status < 300:
            raise ConnectionFailed(
                f"{self._where} answered {answer.status} to a request that it did not get all of: {self._why(broken)}"
            ) from broken
        connection.used = True
        worn = broken is not None or answer.status >= 500 or answer.status in _WORN_STATUSES
        return answer, reusable and not worn

    def _why(self, broken: OSError) -> str:
        if isinstance(broken, TooSlow):
            return f"took the request too slowly: {broken}"
        if isinstance(broken, SILENCE):
            return f"took no more of the request for {self._read_timeout:g} seconds"
        return str(broken)

    # --- connections -------------------------------------------------------------------------------------------------

    def _take(self, *, repeatable: bool) -> _Connection:
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

    def _give_up(self, connection: _Connection, error: BaseException) -> None:
        self._trusting = self._trusting and not isinstance(error, ConnectionFailed)
        connection.close()

    def _give_back(self, connection: _Connection) -> None:
        if len(self._idle) >= self._max_connections:
            connection.close()
            return
        self._idle.append((connection, time.monotonic()))
        if self._closed:
            _close_all(self._idle)

    def _connect(self) -> _Connection:
        proxy = self._proxy
        host, port = (self._host, self._port) if proxy is None else (proxy.host, proxy.port)
        connection = _Connection(host, port, timeout=self._connect_timeout)
        try:
            connection.connect()
            deadline = time.monotonic() + self._connect_timeout
            if proxy is not None and not self._forwarded:
                self._open_tunnel(connection.sock, proxy, deadline)
            if self._context is not None:
                connection.sock = TLSSocket(connection.sock, self._context, self._host, deadline=deadline)
            limit_silence(connection.sock, self._read_timeout)
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise ConnectionFailed(
                f"{self._where} can't be trusted: its certificate does not verify ({error}); if it is your own, name "
                "its authority by ca_bundle=",
                retryable=False,
            ) from error
        except (OSError, HTTPError, BadAnswer, ValueError) as error:
            connection.close()
            certain = _is_certain(error)
            hint = f"; {_CHECK}" if certain else ""
            raise ConnectionFailed(
                f"no connection to {self._way}: {_reason(error)}{hint}", retryable=not certain
            ) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_tunnel(self, sock: socket, proxy: Proxy, deadline: float) -> None:
        host = f"[{self._host}]" if ":" in self._host else self._host
        target = f"{host}:{self._port}"
        sock.sendall(request_head("CONNECT", target, f"Host: {target}\r\n", proxy.headers, None))
        answer, in_order = read_answer(_receiving(sock, deadline), "CONNECT")
        if answer.status < 300 and in_order:
            return
        if answer.status == 407:
            why = (
                f"the proxy asks for a user and a password, or refuses those that it got (407); {how_to_sign_on(proxy)}"
            )
        elif answer.status < 300:
            why = "the proxy sent more than the answer that opens a tunnel"
        else:
            why = f"the proxy answered {answer.status}; check that it allows {target}"
        # What the proxy does not allow it will not allow the next time; its own trouble is transient.
        lasting = answer.status < 500 or answer.status in LASTING_FAILURES
        transient = not lasting or answer.status in (408, 429)
        raise ConnectionFailed(f"no connection to {self._way}: {why}", status=answer.status, retryable=transient)

    def _hint(self, error: Exception) -> str | None:
        """What to check where the two sides do not speak the same protocol."""
        if not isinstance(error, NotHTTP):
            return None
        if self._context is None and any(record in str(error) for record in _TLS_RECORDS):
            return "TLS is spoken there: write https:// in the endpoint"
        return _CHECK

    @property
    def _way(self) -> str:
        if self._proxy is None:
            return self._where
        return f"{self._where} by way of the proxy {self._proxy.authority}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What a proxy is sent that must not be shown."""
        return () if self._proxy is None else self._proxy.secrets

    @property
    def proxy(self) -> Proxy | None:
        """The proxy that requests go through."""
        return self._proxy


def _close_all(idle: list[tuple[_Connection, float]]) -> None:
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
    send = sock.sendall if isinstance(sock, TLSSocket) else partial(send_all, sock)
    for chunk in body:
        data = memoryview(chunk)
        for begin in range(0, len(data), longest):
            piece = data[begin : begin + longest]
            try:
                if pending is None:
                    send(piece)
                else:
                    _send_both(sock, send, pending, piece)
                    pending = None
            except OSError as error:
                return error
    if pending is not None:
        try:
            send(pending)
        except OSError as error:
            return error
    return None


def _send_both(
    sock: socket | TLSSocket, send: Callable[[bytes | memoryview], None], head: bytes, piece: memoryview
) -> None:
    # In one call where there is one: a packet less, and a turn in the interpreter less among threads.
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


_MAYBE = "the request may have taken effect"
_CHECK = "check the scheme and the port of the endpoint, and what lies on the way"


def how_to_sign_on(proxy: Proxy) -> str:
    """What to do where a proxy does not accept us."""
    where = "" if proxy.source == "proxy=" else f"; it was named by {proxy.source}"
    return f"give proxy=http://user:password@host:port{where}"


def _receiving(sock: socket | TLSSocket, deadline: float) -> Callable[[int], bytes]:
    """Receive from a socket until a deadline, however little arrives at a time."""
    if isinstance(sock, TLSSocket):
        sock.deadline = deadline
        return sock.recv

    def receive(size: int) -> bytes:
        received = sock.recv(size)
        if time.monotonic() > deadline:
            raise TimeoutError("an answer took too long to arrive")
        return received

    return receive


def _is_certain(error: Exception) -> bool:
    """Whether the next connection would fail in the same way."""
    if isinstance(error, ssl.SSLError):
        ended = isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError))
        return not ended and error.reason not in _TRANSIENT_TLS
    # The last two: a host that can't be one, by its letters or its length.
    return isinstance(error, (NotHTTP, LocationParseError, ValueError))


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
