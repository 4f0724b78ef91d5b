"""
HTTP/1.1 on one socket: h11 implements the protocol, this moves the bytes.

The request target is passed on exactly as sent, connections are kept alive, and the body of a refused request is read
to its end, because many clients read no response before they have sent everything.
"""

from __future__ import annotations

import contextlib
import http
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator

import h11

from partwise.model import KIB
from partwise.server.body import RequestBody
from partwise.server.errors import ServiceError
from partwise.server.messages import DropConnection, ServerRequest, ServerResponse, to_bytes, to_text

_RECEIVE_BYTES = 256 * KIB

# Bytes per second. A body that is slower than this on average, after the idle timeout, is given up. Clients on slow
# links are faster; a client that sends one byte per minute would occupy a thread for ever.
_RATE_MIN = KIB

_STATUSES_WITHOUT_BODY = (204, 304)

_REASONS = {status.value: status.phrase for status in http.HTTPStatus}

# Callback, callback variables and metadata may have 5, 5 and 8 KB.
_HEAD_BYTES_MAX = 64 * KIB

# Each of them is searched several times.
_FIELDS_MAX = 256

#: Responds to a request; raises DropConnection to send no response.
Responder = Callable[[ServerRequest, RequestBody], ServerResponse]

#: Responds to input that is not a valid request.
Refuser = Callable[[ServiceError], ServerResponse]


class ClientConnection:
    """
    One client.

    Its socket is closed by `serve`. A client is given up after `idle_timeout` seconds without a byte; a head must be
    complete within this time, and each `sendall` of a response must finish within it.
    """

    def __init__(self, connection: socket.socket, respond: Responder, refuse: Refuser, idle_timeout: float) -> None:
        self._socket = connection
        self._respond = respond
        self._refuse = refuse
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES_MAX)
        self._idle_timeout = idle_timeout
        self._timeout: float | None = None  # that of the socket
        self._is_head = False

    def serve(self) -> None:
        """Respond to requests until the connection ends or can't be reused; close it."""
        # Three things are not failures of the server: a client that disconnects, an object that is truncated while it
        # is sent, and an object with metadata that is not allowed in a header.
        with self._socket, contextlib.suppress(OSError, EOFError, h11.LocalProtocolError):
            # Without this, a head and a body that are sent one after the other wait for each other.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while self._serve_one():
                pass

    def _serve_one(self) -> bool:
        """Respond to the next request; return whether another one may follow."""
        try:
            event = self._next_head()
            if not isinstance(event, h11.Request):
                return False
            request = _parse_request(event)
        except h11.RemoteProtocolError as error:
            self._send(self._refuse(ServiceError("BadRequest", str(error), status=error.error_status_hint)))
            return False
        except ServiceError as error:
            self._send(self._refuse(error))
            return False
        self._is_head = request.method == "HEAD"
        with self._body_of(request) as body:
            try:
                response = self._respond(request, body)
            except DropConnection as drop:
                self._close(reset=drop.reset)
                return False
            with contextlib.closing(response):
                return self._send(response)

    # --- receiving ---------------------------------------------------------------------------------------------------

    def _next_head(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        """
        Return the next event: a request or the end.

        The idle timeout bounds the time from its first byte on.
        """
        timeout = self._idle_timeout
        end = None
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._receive(_HEAD_BYTES_MAX, timeout)
            end = end or time.monotonic() + self._idle_timeout
            timeout = end - time.monotonic()
        return event

    def _receive(self, limit: int, timeout: float) -> float:
        """Receive some bytes, or the end of the connection; return the seconds it took."""
        started = time.monotonic()
        if timeout <= 0:
            raise TimeoutError
        self._set_timeout(timeout)
        self._http.receive_data(self._socket.recv(limit))
        return time.monotonic() - started

    def _body_of(self, request: ServerRequest) -> RequestBody:
        chunked = request.header("transfer-encoding") is not None
        return RequestBody(
            self._body_chunks(),
            length=None if chunked else int(request.header("content-length") or 0),  # h11 accepts at most 20 digits
            awaits_continue=self._http.they_are_waiting_for_100_continue,
        )

    def _body_chunks(self) -> Iterator[bytes | bytearray]:
        try:
            if self._http.they_are_waiting_for_100_continue:
                self._socket.sendall(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            # Only the time spent receiving counts against the client, not the time that the backend takes.
            waited, received = 0.0, 0
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    left = self._idle_timeout + received / _RATE_MIN - waited
                    waited += self._receive(_RECEIVE_BYTES, min(self._idle_timeout, left))
                elif isinstance(event, h11.Data):
                    received += len(event.data)
                    yield event.data
                else:
                    return
        except TimeoutError:
            raise ServiceError("RequestTimeout") from None
        except h11.RemoteProtocolError as error:
            raise ServiceError("IncompleteBody", str(error)) from error
        except OSError:
            # The client disconnected: there is no peer to respond to.
            raise DropConnection from None

    # --- sending -----------------------------------------------------------------------------------------------------

    def _send(self, response: ServerResponse) -> bool:
        """Send the response; return whether the connection can be reused."""
        # The timeout of one `sendall`, however few bytes the client reads at a time.
        self._set_timeout(self._idle_timeout)
        raw = self._raw(response)
        if response.cut_after is not None:
            left = response.cut_after
            for chunk in raw:
                self._socket.sendall(chunk[:left])
                left -= len(chunk)
                if left <= 0:
                    break
            self._close(reset=response.reset)
            return False
        for chunk in raw:
            self._socket.sendall(chunk)
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    def _raw(self, response: ServerResponse) -> Iterator[bytes]:
        """Yield the bytes of the response. A small response is a single chunk."""
        headers = [(name.encode(), to_bytes(value)) for name, value in response.headers]
        if response.status not in _STATUSES_WITHOUT_BODY:
            length = response.body_length if response.length is None else response.length
            headers.append((b"Content-Length", str(length).encode()))
        if self._http.their_state is not h11.DONE:
            # The rest of the request may still arrive, and can't be distinguished from a next request.
            headers.append((b"Connection", b"close"))
        reason = _REASONS.get(response.status, "")
        raw = self._http.send(h11.Response(status_code=response.status, headers=headers, reason=reason)) or b""
        if not self._is_head and response.status not in _STATUSES_WITHOUT_BODY:
            for chunk in response.chunks():
                yield raw + (self._http.send(h11.Data(data=chunk)) or b"")
                raw = b""
        raw += self._http.send(h11.EndOfMessage()) or b""
        if raw:
            yield raw

    def _set_timeout(self, seconds: float) -> None:
        # Most requests need one timeout only, and each change is a system call, and an occasion to lose the GIL.
        if seconds != self._timeout:
            self._socket.settimeout(seconds)
            self._timeout = seconds

    def _close(self, *, reset: bool) -> None:
        if reset:
            linger = struct.pack("ii" if os.name == "posix" else "hh", 1, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._socket.close()


def _parse_request(event: h11.Request) -> ServerRequest:
    """Convert h11's event; raise ServiceError if the head is too large."""
    size = len(event.target) + sum(len(name) + len(value) for name, value in event.headers)
    if size > _HEAD_BYTES_MAX:
        raise ServiceError("BadRequest", f"The head has more than {_HEAD_BYTES_MAX} bytes.", status=431)
    if len(event.headers) > _FIELDS_MAX or event.target.count(b"&") > _FIELDS_MAX:
        raise ServiceError("BadRequest", f"There are more than {_FIELDS_MAX} headers or parameters.", status=431)
    headers = [(to_text(name), to_text(value)) for name, value in event.headers]
    return ServerRequest.parsed(event.method.decode(), event.target.decode(), headers)
