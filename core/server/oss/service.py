"""
The way of a request through all rooms: where it goes, what it asks, what strikes it, who signed it, what is done.

There is no socket here: a request and its body come in, a response goes out.
"""

from __future__ import annotations

import base64
import itertools
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial

from attrs import evolve

from partwise.errors import PartwiseError
from partwise.model import MIB
from partwise.server.body import RequestBody
from partwise.server.exchange import Exchange, ReceivedRequest, received
from partwise.server.faults import ServerFault, ServerFaultPlan
from partwise.server.hosts import check_hosts
from partwise.server.messages import DropConnection, EarlyResponse, Request, ServerResponse, is_text
from partwise.server.oss.addressing import place_of
from partwise.server.oss.buckets import Buckets
from partwise.server.oss.errors import OSSError, bad_argument, refusal_of
from partwise.server.oss.objects import http_date
from partwise.server.oss.operations import HANDLERS
from partwise.server.oss.routing import operation_of
from partwise.server.oss.signatures import authenticate
from partwise.server.oss.xml import error_document
from partwise.server.recent import Recent
from partwise.server.settings import ServerSettings

#: The most that the requests which are kept may take in memory, as estimated.
_RECEIVED_BYTES_MAX = 32 * MIB

_log = logging.getLogger("partwise.server")


class Service:
    """
    What answers.

    Args:
        settings: what it is like; may be replaced at any time.
        buckets: the buckets.
        faults: what shall go wrong.
        wait: waits so many seconds; raises DropConnection if the server stops meanwhile.
        listens_on: the address that requests come in by.
    """

    def __init__(
        self,
        settings: ServerSettings,
        buckets: Buckets,
        faults: Iterable[ServerFault],
        wait: Callable[[float], None],
        *,
        listens_on: str,
    ) -> None:
        self.settings = settings
        self.buckets = buckets
        self.plan = ServerFaultPlan(faults)
        self._wait = wait
        self._listens_on = listens_on
        self._lock = threading.Lock()
        self._received: Recent[int, ReceivedRequest] = Recent(sys.maxsize, _RECEIVED_BYTES_MAX)
        self._answered = itertools.count(1)
        self._numbers = itertools.count(1)

    @property
    def received(self) -> tuple[ReceivedRequest, ...]:
        """The newest requests, in the order they were answered."""
        with self._lock:
            return self._received.values()

    def respond(self, request: Request, body: RequestBody) -> ServerResponse:
        """
        Answer a request.

        Raises:
            DropConnection: there shall be no response.
        """
        begun = time.monotonic()
        exchange = Exchange(request, body, self.settings, self.buckets, self._wait, self._new_request_id())
        response = None
        try:
            response = self._dressed(exchange, self._respond(exchange), begun)
            body.drain(seconds=exchange.settings.silence)
        except DropConnection as drop:
            if response is not None:
                response.close()
                response = None
            elif not drop.reset:
                # Bytes that nobody read would turn the orderly end into a reset.
                body.drain(seconds=exchange.settings.silence)
            raise
        finally:
            # Before the response is sent: whoever has it finds the request on record.
            self._record(exchange, response)
        return response

    def refuse(self, error: OSSError) -> ServerResponse:
        """The response to what is no request."""
        request_id = self._new_request_id()
        body = error_document(error, request_id, "")
        headers = (
            ("Server", "AliyunOSS"),
            ("Date", http_date(self.settings.now())),
            ("x-oss-request-id", request_id),
            ("Content-Type", "application/xml"),
        )
        return ServerResponse(error.status, headers, body, code=error.code)

    # --- on the way --------------------------------------------------------------------------------------------------

    def _respond(self, exchange: Exchange) -> ServerResponse:
        response = _guarded(exchange, self._perform)
        for fault in exchange.faults:
            response = _altered(exchange, fault, response)
        return response

    def _perform(self, exchange: Exchange) -> ServerResponse:
        check_hosts(exchange.request, exchange.settings, self._listens_on)
        exchange.place = place_of(exchange.request, exchange.settings)
        exchange.operation = operation_of(exchange.request, exchange.place)
        exchange.faults = self.plan.due(exchange)
        for fault in exchange.faults:
            fault.effect.before(exchange)
        authenticate(exchange.request, exchange.place, exchange.settings, exchange.now)
        for name, value in exchange.request.query:
            # They were signed as bytes; from here on they are texts.
            if not is_text(name + value):
                raise bad_argument(name, value, "The query is not UTF-8.")
        return HANDLERS[exchange.operation](exchange)

    def _dressed(self, exchange: Exchange, response: ServerResponse, begun: float) -> ServerResponse:
        """The response with the headers that every response of the service has."""
        if response.foreign:
            return response
        headers = (
            ("Server", "AliyunOSS"),
            ("Date", http_date(exchange.now)),
            ("x-oss-request-id", exchange.request_id),
            ("x-oss-server-time", str(round((time.monotonic() - begun) * 1000))),
        )
        return evolve(response, headers=(*headers, *response.headers))

    def _new_request_id(self) -> str:
        return f"{int(self.settings.now()):08X}{next(self._numbers):016X}"

    def _record(self, exchange: Exchange, response: ServerResponse | None) -> None:
        with self._lock:
            number = next(self._answered)
            if exchange.settings.kept_requests:
                request = received(exchange, response, number)
                self._received.put(number, request, request.size)
            self._received.shrink(exchange.settings.kept_requests)


def _guarded(exchange: Exchange, act: Callable[[Exchange], ServerResponse]) -> ServerResponse:
    """What `act` answers, or the response that what it raises is."""
    try:
        return act(exchange)
    except DropConnection:
        raise
    except EarlyResponse as instead:
        return instead.response
    except OSSError as error:
        return _refused(exchange, error)
    except PartwiseError as error:
        return _refused(exchange, refusal_of(error))
    except PermissionError:
        return _refused(exchange, OSSError("AccessDenied", "The server may not do that in the directory it serves."))
    except Exception as error:  # noqa: BLE001 -- a defect, in the backend or here: the client is told, and the log why
        _log.exception("%s %s failed", exchange.request.method, exchange.request.target)
        return _refused(exchange, OSSError("InternalError", f"{type(error).__name__}: {error}"))


def _altered(exchange: Exchange, fault: ServerFault, response: ServerResponse) -> ServerResponse:
    """What the fault makes of a response; the file behind one that is not sent is closed."""
    altered = None
    try:
        altered = _guarded(exchange, partial(fault.effect.after, response=response))
    finally:
        if altered is None or altered.body is not response.body:
            response.close()
    return altered


def _refused(exchange: Exchange, error: OSSError) -> ServerResponse:
    document = error_document(error, exchange.request_id, exchange.place.host)
    ec = (("x-oss-ec", error.ec),) if error.ec else ()
    headers = (*error.headers, *ec)
    if error.status == 304:
        return ServerResponse(304, headers, code=error.code)
    if exchange.request.method == "HEAD":
        # There is no body to put it in.
        encoded = base64.b64encode(document).decode()
        return ServerResponse(error.status, (*headers, ("x-oss-err", encoded)), length=0, code=error.code)
    return ServerResponse(error.status, (("Content-Type", "application/xml"), *headers), document, code=error.code)
