"""
The steps that every request goes through, from its target to its response.

There is no socket here: the input is a request with its body, the output is a response.
"""

from __future__ import annotations

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
from partwise.server.buckets import Buckets
from partwise.server.dialect import ServerDialect
from partwise.server.errors import ServiceError, bad_argument
from partwise.server.exchange import Exchange, ReceivedRequest, record_request
from partwise.server.faults import ServerFault, ServerFaultPlan
from partwise.server.hosts import check_hosts
from partwise.server.messages import (
    DropConnection,
    EarlyResponse,
    RequestTarget,
    ServerRequest,
    ServerResponse,
    is_utf8,
)
from partwise.server.recent import Recent
from partwise.server.settings import ServerSettings

#: The maximum memory of the recorded requests, as estimated.
_RECORDED_BYTES_MAX = 32 * MIB

_log = logging.getLogger("partwise.server")


class Service:
    """
    Responds to requests.

    The settings may be replaced at any time. `wait` waits this many seconds, and raises DropConnection if the server
    stops meanwhile.

    Raises:
        InvalidInput: a planned fault is for an operation that the dialect does not have.
    """

    def __init__(
        self,
        dialect: ServerDialect,
        settings: ServerSettings,
        buckets: Buckets,
        faults: Iterable[ServerFault],
        wait: Callable[[float], None],
        *,
        listen_address: str,
    ) -> None:
        self.settings = settings
        self.buckets = buckets
        self.plan = ServerFaultPlan(dialect.operations)
        self.plan.add(faults)
        self._dialect = dialect
        self._wait = wait
        self._listen_address = listen_address
        self._lock = threading.Lock()
        self._recorded: Recent[int, ReceivedRequest] = Recent(sys.maxsize, _RECORDED_BYTES_MAX)
        self._response_numbers = itertools.count(1)
        self._id_numbers = itertools.count(1)

    @property
    def recorded(self) -> tuple[ReceivedRequest, ...]:
        """The newest requests, in the order of their responses."""
        with self._lock:
            return self._recorded.values()

    def respond(self, request: ServerRequest, body: RequestBody) -> ServerResponse:
        """Respond to a request; raise DropConnection to send no response."""
        started = time.monotonic()
        exchange = Exchange(request, body, self.settings, self.buckets, self._wait, self._new_request_id())
        body.verify = partial(self._dialect.verify_body, request, body)
        response = None
        try:
            response = self._add_common_headers(exchange, self._run(exchange), started)
            body.drain(seconds=exchange.settings.idle_timeout)
        except DropConnection as drop:
            if response is not None:
                response.close()
                response = None
            elif not drop.reset:
                # Bytes that were received by the system but not read would turn an orderly close into a reset.
                body.drain(seconds=exchange.settings.idle_timeout)
            raise
        finally:
            # Before the response is sent, so that a client that has the response finds its request recorded.
            self._record(exchange, response)
        return response

    def refuse(self, error: ServiceError) -> ServerResponse:
        """Return the response to input that is not a valid request."""
        request_id = self._new_request_id()
        response = self._dialect.error_response(error, request_id, RequestTarget(), "")
        headers = self._dialect.common_headers(request_id, self.settings.now(), 0.0)
        return evolve(response, headers=(*headers, *response.headers))

    # --- steps -------------------------------------------------------------------------------------------------------

    def _run(self, exchange: Exchange) -> ServerResponse:
        response = self._respond_or_error(exchange, self._perform)
        for fault in exchange.faults:
            response = self._apply_fault(exchange, fault, response)
        return response

    def _perform(self, exchange: Exchange) -> ServerResponse:
        request, dialect = exchange.request, self._dialect
        check_hosts(request, exchange.settings, self._listen_address)
        exchange.target = dialect.parse_target(request, exchange.settings)
        exchange.operation = dialect.operation_of(request, exchange.target)
        exchange.faults = self.plan.due(exchange)
        for fault in exchange.faults:
            fault.effect.before(exchange)
        dialect.authenticate(exchange)
        for name, value in request.query:
            # Signatures are over bytes. The operations below handle text only.
            if not is_utf8(name + value):
                raise bad_argument(name, value, "The query is not UTF-8.")
        return dialect.perform(exchange)

    def _respond_or_error(self, exchange: Exchange, respond: Callable[[Exchange], ServerResponse]) -> ServerResponse:
        """Return what `respond` returns, or the response for the error that it raises."""
        try:
            return respond(exchange)
        except DropConnection:
            raise
        except EarlyResponse as early:
            return early.response
        except ServiceError as error:
            refusal = error
        except PartwiseError as error:
            refusal = self._dialect.error_for(error)
        except PermissionError:
            refusal = ServiceError("AccessDenied", "The server has no permission to do this in its directory.")
        except Exception as error:  # noqa: BLE001 -- a defect of the backend or of the server: log it, and respond
            _log.exception("%s %s failed", exchange.request.method, exchange.request.raw_target)
            refusal = ServiceError("InternalError", f"{type(error).__name__}: {error}")
        return self._dialect.error_response(refusal, exchange.request_id, exchange.target, exchange.request.method)

    def _apply_fault(self, exchange: Exchange, fault: ServerFault, response: ServerResponse) -> ServerResponse:
        """
        Return what the fault makes of the response.

        The file of a body that is not sent is closed.
        """
        changed = None
        try:
            changed = self._respond_or_error(exchange, lambda exchange: fault.effect.after(exchange, response))
        finally:
            if changed is None or changed.body is not response.body:
                response.close()
        return changed

    def _add_common_headers(self, exchange: Exchange, response: ServerResponse, started: float) -> ServerResponse:
        if response.foreign:
            return response
        headers = self._dialect.common_headers(exchange.request_id, exchange.now, time.monotonic() - started)
        return evolve(response, headers=(*headers, *response.headers))

    def _new_request_id(self) -> str:
        return f"{int(self.settings.now()):08X}{next(self._id_numbers):016X}"

    def _record(self, exchange: Exchange, response: ServerResponse | None) -> None:
        maximum = exchange.settings.max_recorded_requests
        with self._lock:
            number = next(self._response_numbers)
            if maximum:
                request = record_request(exchange, response, number, self._dialect.secrets)
                self._recorded.put(number, request, request.size)
            self._recorded.shrink(maximum)
