"""
HTTP/1.1 on one socket: h11 knows the protocol, the loop here moves bytes.

The request target is used as it was sent, connections are kept, and what a client still sends when it is refused is
read to its end, since many clients look at no response before they have sent all.
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
from partwise.server.messages import DropConnection, Request, ServerResponse, to_bytes, to_text
from partwise.server.oss.errors import OSSError

_RECEIVE_BYTES = 256 * KIB

# Bytes a second: a body that comes slower on average, over more than the time of silence, is given up. Clients of slow
# lines are faster; one that sends a byte a minute would hold a thread for ever.
_RATE_MIN = KIB

_WITHOUT_BODY = (204, 304)

# Callback, its variables and the metadata may be 5, 5 and 8 KB.
_HEAD_BYTES_MAX = 64 * KIB

# Signatures and options are looked for in each of them several times.
_FIELDS_MAX = 256

#: Answers a request; raises DropConnection where there shall be no response.
Responder = Callable[[Request, RequestBody], ServerResponse]

#: Answers what is no HTTP, or not HTTP as it should be.
Refuser = Callable[[OSSError], ServerResponse]


class ClientConnection:
    """
    One client.

    Args:
        connection: its socket; closed by `serve`.
        respond: gives the answers.
        refuse: gives the response to what is no request.
        silence: seconds without a byte after which the client is given up. A head must be whole in this time, and each
            piece of a response must be taken in it.
    """

    def __init__(self, connection: socket.socket, respond: Responder, refuse: Refuser, silence: float) -> None:
        self._socket = connection
        self._respond = respond
        self._refuse = refuse
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES_MAX)
        self._silence = silence
        self._is_head = False

    def serve(self) -> None:
        """Answer requests until the client goes, or the connection can't be used any more; then close it."""
        # Three things are not failures of the server: a client that goes away, an object that vanishes while it is
        # sent, and one whose description can't stand in a header.
        with self._socket, contextlib.suppress(OSError, EOFError, h11.LocalProtocolError):
            # A head and a body that are sent one after the other must not wait for each other.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while self._serve_one():
                pass

    def _serve_one(self) -> bool:
        """Answer the next request; whether another may follow."""
        try:
            event = self._next_head()
            if not isinstance(event, h11.Request):
                return False
            request = _request_of(event)
        except h11.RemoteProtocolError as error:
            self._send(self._refuse(OSSError("BadRequest", str(error), status=error.error_status_hint)))
            return False
        except OSSError as error:
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
        """The next event, which is a request or the end; from its first byte it is whole in the time of silence."""
        patience = self._silence
        end = None
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._receive(_HEAD_BYTES_MAX, patience)
            end = end or time.monotonic() + self._silence
            patience = end - time.monotonic()
        return event

    def _receive(self, limit: int, patience: float) -> float:
        """Receive something, or the end; return the seconds that it took."""
        begun = time.monotonic()
        if patience <= 0:
            raise TimeoutError
        self._socket.settimeout(patience)
        self._http.receive_data(self._socket.recv(limit))
        return time.monotonic() - begun

    def _body_of(self, request: Request) -> RequestBody:
        chunked = request.header("transfer-encoding") is not None
        return RequestBody(
            self._pieces(),
            length=None if chunked else int(request.header("content-length") or 0),  # h11 takes 20 digits at most
            md5=request.header("content-md5"),
            crc64=request.header("x-oss-hash-crc64ecma"),
            held_back=self._http.they_are_waiting_for_100_continue,
        )

    def _pieces(self) -> Iterator[bytes | bytearray]:
        try:
            if self._http.they_are_waiting_for_100_continue:
                self._socket.sendall(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            # What the backend takes for itself is not the client's.
            waited, received = 0.0, 0
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    left = self._silence + received / _RATE_MIN - waited
                    waited += self._receive(_RECEIVE_BYTES, min(self._silence, left))
                elif isinstance(event, h11.Data):
                    received += len(event.data)
                    yield event.data
                else:
                    return
        except TimeoutError:
            raise OSSError("RequestTimeout") from None
        except h11.RemoteProtocolError as error:
            raise OSSError("IncompleteBody", str(error)) from error
        except OSError:
            # The client is gone: there is nobody to answer.
            raise DropConnection from None

    # --- sending -----------------------------------------------------------------------------------------------------

    def _send(self, response: ServerResponse) -> bool:
        """Send the response; whether the connection can be used on."""
        # That of one `sendall`, however few bytes are taken at a time.
        self._socket.settimeout(self._silence)
        raw = self._raw(response)
        if response.cut_after is not None:
            left = response.cut_after
            for piece in raw:
                self._socket.sendall(piece[:left])
                left -= len(piece)
                if left <= 0:
                    break
            self._close(reset=response.reset)
            return False
        for piece in raw:
            self._socket.sendall(piece)
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    def _raw(self, response: ServerResponse) -> Iterator[bytes]:
        """The bytes of the response; small ones in one piece."""
        headers = [(name.encode(), to_bytes(value)) for name, value in response.headers]
        if response.status not in _WITHOUT_BODY:
            length = response.body_length if response.length is None else response.length
            headers.append((b"Content-Length", str(length).encode()))
        if self._http.their_state is not h11.DONE:
            # What the client did not send now may still come; nothing tells it from a next request.
            headers.append((b"Connection", b"close"))
        reason = http.HTTPStatus(response.status).phrase if response.status in set(http.HTTPStatus) else ""
        raw = self._http.send(h11.Response(status_code=response.status, headers=headers, reason=reason)) or b""
        if not self._is_head and response.status not in _WITHOUT_BODY:
            for piece in response.chunks():
                yield raw + (self._http.send(h11.Data(data=piece)) or b"")
                raw = b""
        raw += self._http.send(h11.EndOfMessage()) or b""
        if raw:
            yield raw

    def _close(self, *, reset: bool) -> None:
        if reset:
            linger = struct.pack("ii" if os.name == "posix" else "hh", 1, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._socket.close()


def _request_of(event: h11.Request) -> Request:
    """
    The request of this head.

    Raises:
        OSSError: the head is larger than any client's.
    """
    size = len(event.target) + sum(len(name) + len(value) for name, value in event.headers)
    if size > _HEAD_BYTES_MAX:
        raise OSSError("BadRequest", f"The head has more than {_HEAD_BYTES_MAX} bytes.", status=431)
    if len(event.headers) > _FIELDS_MAX or event.target.count(b"&") > _FIELDS_MAX:
        raise OSSError("BadRequest", f"There are more than {_FIELDS_MAX} headers or parameters.", status=431)
    headers = [(to_text(name), to_text(value)) for name, value in event.headers]
    return Request.parsed(event.method.decode(), event.target.decode(), headers)
