"""
One connection: TCP, the tunnel through a proxy, TLS, and the timeouts.

urllib3 knows whether an idle connection is still open.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from socket import gaierror, socket

from attrs import define
from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
)

from partwise.backends._http.connecting import Dialer, set_keepalive
from partwise.backends._http.cutting import Cutter
from partwise.backends._http.http1 import NotHTTP, ProtocolError, read_response, request_head
from partwise.backends._http.proxies import Proxy
from partwise.backends._http.timeouts import set_timeout
from partwise.backends._http.tls_pump import TLSSocket
from partwise.errors import ConnectionFailed, HostNotFound, PartwiseError
from partwise.http_errors import is_transient_status

#: TLS failures that may not happen again: the data was damaged in transit, or the peer has an internal problem. After
#: any other one, the next handshake fails in the same way.
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

ENDPOINT_HINT = "Check the scheme and the port of {endpoint}, and any proxy or gateway in between"


@define(frozen=True)
class Endpoint:
    """A server, and how to connect to it."""

    scheme: str
    host: str
    port: int
    authority: str  # the value of the Host header
    connect_timeout: float  # seconds to make a connection
    read_timeout: float  # seconds for which a connection may send nothing, or accept nothing
    context: Callable[[], ssl.SSLContext] | None = None  # returns which certificates are valid; None for http
    proxy: Proxy | None = None  # the proxy to connect through; None connects directly

    @property
    def url(self) -> str:
        """Scheme and authority."""
        return f"{self.scheme}://{self.authority}"

    @property
    def route(self) -> str:
        """The URL and the proxy, for messages."""
        return self.url if self.proxy is None else f"{self.url} through the proxy {self.proxy.authority}"

    @property
    def forwarding_proxy(self) -> Proxy | None:
        """The proxy, if it forwards plain HTTP requests rather than opening a tunnel."""
        return self.proxy if self.scheme == "http" else None


class Connection(HTTPConnection):
    """A connection; `used` says whether a response has been received on it."""

    used = False
    started = 0.0
    dialer: Dialer
    cutter: Cutter | None = None

    def _new_conn(self) -> socket:
        try:
            self.host.encode("idna")
        except UnicodeError:
            raise LocationParseError(f"{self.host!r}, label empty or too long") from None
        timeout = self.timeout
        assert isinstance(timeout, float | int)
        try:
            return self.dialer.connect(self.host.strip("[]"), self.port, timeout, self.cutter)
        except gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"connecting to {self.host} timed out") from error
        except OSError as error:
            raise NewConnectionError(self, f"no connection to {self.host}: {error}") from error


def open_connection(endpoint: Endpoint, dialer: Dialer, cutter: Cutter | None = None) -> Connection:
    """
    Connect to an endpoint.

    Args:
        endpoint: the server, and how to connect to it.
        dialer: what makes TCP connections.
        cutter: ends the attempt from another thread.

    Raises:
        ConnectionFailed: there is no connection. Not retryable if the next attempt would fail in the same way.
        InvalidInput: the certificates of the system can't be read.
    """
    proxy = endpoint.proxy
    host, port = (endpoint.host, endpoint.port) if proxy is None else (proxy.host, proxy.port)
    connection = Connection(host, port, timeout=endpoint.connect_timeout)
    connection.dialer, connection.cutter = dialer, cutter
    try:
        connection.connect()
        connection.cutter = None
        set_keepalive(connection.sock, endpoint.read_timeout)
        if cutter is not None:
            cutter.attach(connection.sock)
        deadline = time.monotonic() + endpoint.connect_timeout
        if proxy is not None and endpoint.forwarding_proxy is None:
            _open_tunnel(connection.sock, endpoint, proxy, deadline)
        if endpoint.context is not None:
            connection.sock = TLSSocket(connection.sock, endpoint.context(), endpoint.host, deadline=deadline)
        set_timeout(connection.sock, endpoint.read_timeout)
    except BaseException as error:
        connection.close()
        # InvalidInput, which says that there are no usable certificates, is a ValueError, too.
        if isinstance(error, (OSError, HTTPError, ProtocolError, ValueError)) and not isinstance(error, PartwiseError):
            raise _connect_error(endpoint, error) from error
        raise
    return connection


def receiver(sock: socket | TLSSocket, deadline: float) -> Callable[[int], bytes]:
    """
    Return a function that receives from a socket until a deadline.

    The deadline is a time of `time.monotonic`; after it, the function raises TimeoutError.
    """
    if isinstance(sock, TLSSocket):
        sock.deadline = deadline
        return sock.recv

    def receive(size: int) -> bytes:
        received = sock.recv(size)
        # Checked for each piece: a peer that sends one byte now and then never times out.
        if time.monotonic() > deadline:
            raise TimeoutError("the response took too long to arrive")
        return received

    return receive


def _open_tunnel(sock: socket, endpoint: Endpoint, proxy: Proxy, deadline: float) -> None:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    target = f"{host}:{endpoint.port}"
    sock.sendall(request_head("CONNECT", target, f"Host: {target}\r\n", proxy.headers, None))
    response, drained = read_response(receiver(sock, deadline), "CONNECT")
    status = response.status
    if status < 300 and drained:
        return
    hint = ""
    if status == 407:
        why, hint = "the proxy requires other credentials (407)", proxy.sign_in_hint
    elif status < 300:
        why = "the proxy sent data before the tunnel was used"
    else:
        why, hint = (
            f"the proxy responded {status} to CONNECT {target}",
            "Check that the proxy allows this host and port",
        )
    # A 4xx is the proxy's policy, which a retry does not change; most of 5xx are its own transient problems.
    transient = is_transient_status(status)
    raise ConnectionFailed(f"no connection to {endpoint.route}: {why}", status=status, retryable=transient, hint=hint)


def _connect_error(endpoint: Endpoint, error: Exception) -> ConnectionFailed:
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectionFailed(
            f"{endpoint.url} can't be trusted: its certificate does not verify ({error.verify_message or error})",
            retryable=False,
            hint="If the certificate is your own, pass {ca_bundle} with the file of its certificate authority",
        )
    if isinstance(error, NameResolutionError):
        return HostNotFound(
            f"no connection to {endpoint.route}: its name can't be resolved",
            hint="Check the name in {proxy}" if endpoint.proxy else "Check the name in {endpoint}, or the {region}",
        )
    permanent = _is_permanent(error)
    return ConnectionFailed(
        f"no connection to {endpoint.route}: {_reason(error)}",
        retryable=not permanent,
        hint=ENDPOINT_HINT if permanent else "",
    )


def _is_permanent(error: Exception) -> bool:
    """Return whether the next connection would fail in the same way."""
    if isinstance(error, ssl.SSLError):
        ended = isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError))
        return not ended and error.reason not in _TRANSIENT_TLS
    # LocationParseError and ValueError: the host name is invalid, by its characters or its length.
    return isinstance(error, (NotHTTP, LocationParseError, ValueError))


def _reason(error: Exception) -> str:
    # In urllib3, NewConnectionError is a ConnectTimeoutError, whatever the reason.
    timed_out = isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError)
    if timed_out or isinstance(error, TimeoutError):
        return "it timed out"
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        return "the server does not speak TLS on this port"
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return str(getattr(cause, "strerror", None) or cause)
