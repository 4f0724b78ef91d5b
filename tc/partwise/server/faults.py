"""
Planned faults: what goes wrong on the server, as values.

    ServerFault("UploadPart", LoseResponse(), occurrence=2)
    ServerFault("CompleteMultipartUpload", Fail("InternalError"), times=3)
    ServerFault(None, Delay(0.1), occurrence=1, times=None)

A `ServerFault` selects requests; its effect says what happens to them. An effect can act before the operation, and on
the finished response, when the operation has had its effect. If several faults apply to one request, they act in the
order in which they were planned.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from typing import Protocol

from attrs import Attribute, define, evolve, field

from partwise.errors import InvalidInput
from partwise.server.errors import ServiceError
from partwise.server.exchange import Exchange
from partwise.server.messages import DropConnection, EarlyResponse, ServerResponse


class Effect(Protocol):
    """What a fault does to a request."""

    def before(self, exchange: Exchange) -> None:
        """
        Act before the operation. If this raises, the operation does not run.

        Raises:
            ServiceError: the refusal to send.
            EarlyResponse: the response to send.
            DropConnection: no response is sent.
        """

    def after(self, exchange: Exchange, response: ServerResponse) -> ServerResponse:
        """
        Return the response to send instead of `response`.

        Raises:
            ServiceError: the refusal to send instead.
            DropConnection: no response is sent.
        """


class _NoEffect:
    """The base of the effects below, each of which overrides one of the two methods."""

    def before(self, exchange: Exchange) -> None:
        """Do nothing."""

    def after(self, exchange: Exchange, response: ServerResponse) -> ServerResponse:  # noqa: ARG002 -- for subclasses
        """Return the response unchanged."""
        return response


# --- refusals --------------------------------------------------------------------------------------------------------


@define(frozen=True)
class Fail(_NoEffect):
    """
    Refuse the request.

    ``Fail("SecurityTokenExpired")`` is an expired token, ``Fail("QpsLimitExceeded", retry_after=2)`` is throttling.

    Args:
        code: the error code.
        status: the HTTP status; None: the usual status for the code, and 500 for a code that the service does not have.
        message: None: the usual message for the code.
        retry_after: seconds for the Retry-After header.
        after_effect: run the operation before it is refused.
    """

    code: str = "InternalError"
    status: int | None = None
    message: str | None = None
    retry_after: int | None = None
    after_effect: bool = False

    def before(self, exchange: Exchange) -> None:  # noqa: ARG002 -- applies to any request
        if not self.after_effect:
            raise self._error()

    def after(self, exchange: Exchange, response: ServerResponse) -> ServerResponse:  # noqa: ARG002 -- any request
        if self.after_effect:
            raise self._error()
        return response

    def _error(self) -> ServiceError:
        headers = () if self.retry_after is None else (("Retry-After", str(self.retry_after)),)
        return ServiceError(self.code, self.message, status=self.status, headers=headers)


@define(frozen=True)
class ForgetUpload(_NoEffect):
    """
    Abort the upload that the request names, as a lifecycle rule does.

    This happens before the operation runs.
    """

    def before(self, exchange: Exchange) -> None:
        if exchange.target.upload_id:
            exchange.bucket.backend.abort_upload(exchange.key, exchange.target.upload_id)


@define(frozen=True)
class SkewClock(_NoEffect):
    """
    Make the server's clock wrong for this request.

    Args:
        seconds: how far the clock is ahead.
    """

    seconds: float

    def before(self, exchange: Exchange) -> None:
        exchange.clock_offset += self.seconds


def _finite_seconds(_: object, __: Attribute[float], value: float) -> None:
    if not 0 <= value < math.inf:  # false for NaN, too
        raise InvalidInput(f"a delay must be a finite number of seconds from 0 on, not {value}")


# --- late, lost and cut responses ------------------------------------------------------------------------------------


@define(frozen=True)
class Delay(_NoEffect):
    """
    Wait.

    Args:
        seconds: how long.
        after_effect: wait after the operation instead of before it.

    Raises:
        InvalidInput: `seconds` is negative or not finite.
    """

    seconds: float = field(validator=_finite_seconds)
    after_effect: bool = False

    def before(self, exchange: Exchange) -> None:
        if not self.after_effect:
            exchange.wait(self.seconds)

    def after(self, exchange: Exchange, response: ServerResponse) -> ServerResponse:
        if self.after_effect:
            exchange.wait(self.seconds)
        return response


@define(frozen=True)
class ResetInRequest(_NoEffect):
    """
    Reset the connection while the body of the request is being sent.

    The operation does not run.

    Args:
        after_bytes: bytes of the body to receive first.
    """

    after_bytes: int = 0

    def before(self, exchange: Exchange) -> None:
        if self.after_bytes:
            exchange.body.drain(self.after_bytes)
        raise DropConnection(reset=True)


@define(frozen=True)
class LoseResponse(_NoEffect):
    """
    Run the operation, and close the connection without a byte of the response.

    Args:
        reset: close the connection by a reset instead of in order.
    """

    reset: bool = False

    def after(self, exchange: Exchange, response: ServerResponse) -> ServerResponse:  # noqa: ARG002 -- any request
        raise DropConnection(reset=self.reset)


@define(frozen=True)
class CutResponse(_NoEffect):
    """
    Run the operation, and close the connection within the response.

    Args:
        after_bytes: bytes of the raw response to send, head included.
        reset: close the connection by a reset instead of in order.
    """

    after_bytes: int = 20
    reset: bool = True

    def after(self, exchange: Exchange, response: ServerResponse) -> ServerResponse:  # noqa: ARG002 -- any request
        return evolve(response, cut_after=self.after_bytes, reset=self.reset)


# --- wrong responses and wrong data ----------------------------------------------------------------------------------


@define(frozen=True)
class ReplaceResponse(_NoEffect):
    """
    Send another response, such as the HTML page of a proxy.

    It is the response of something between client and service.

    Args:
        body: its body.
        status: its HTTP status.
        content_type: its Content-Type.
        before_effect: send it instead of running the operation.
    """

    body: bytes = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
    status: int = 502
    content_type: str = "text/html"
    before_effect: bool = False

    def before(self, exchange: Exchange) -> None:  # noqa: ARG002 -- applies to any request
        if self.before_effect:
            raise EarlyResponse(self._replacement())

    def after(self, exchange: Exchange, response: ServerResponse) -> ServerResponse:  # noqa: ARG002 -- any request
        return self._replacement()

    def _replacement(self) -> ServerResponse:
        return ServerResponse(self.status, (("Content-Type", self.content_type),), self.body, foreign=True)


@define(frozen=True)
class TruncateBody(_NoEffect):
    """
    Truncate the document in the response, with correct framing.

    Args:
        keep: bytes of the document to keep.
    """

    keep: int = 60

    def after(self, exchange: Exchange, response: ServerResponse) -> ServerResponse:  # noqa: ARG002 -- any request
        return evolve(response, body=response.body[: self.keep]) if isinstance(response.body, bytes) else response


@define(frozen=True)
class WrongChecksum(_NoEffect):
    """
    Report a wrong checksum in the header of the response.

    What is stored is correct.
    """

    def before(self, exchange: Exchange) -> None:
        exchange.corrupt_checksum = True


@define(frozen=True)
class NoChecksum(_NoEffect):
    """Report no checksum, neither in headers nor in lists."""

    def before(self, exchange: Exchange) -> None:
        exchange.report_checksums = False


@define(frozen=True)
class CorruptBody(_NoEffect):
    """
    Store other data than was sent, as with faulty memory.

    The reported checksum is that of the stored data.

    Args:
        at: the offset of the byte that is changed.
    """

    at: int = 0

    def before(self, exchange: Exchange) -> None:
        exchange.body.corrupt_at = self.at


# --- which requests --------------------------------------------------------------------------------------------------


@define(frozen=True)
class ServerFault:
    """
    A planned fault.

    Args:
        operation: the name of the operation in the API reference; None: any. A name that the server does not have is
            refused when the fault is planned.
        effect: what happens.
        occurrence: the first of the matching requests to which it applies, counted from 1 from when it was planned.
        times: to how many consecutive ones it applies; None: to all from the first on.
        key: match only requests for this key; None: any.
        part_number: match only requests for the part of this number; None: any.

    Raises:
        InvalidInput: `occurrence` or `times` is below 1.
    """

    operation: str | None
    effect: Effect
    occurrence: int = 1
    times: int | None = 1
    key: str | None = None
    part_number: int | None = None

    def __attrs_post_init__(self) -> None:
        if self.occurrence < 1 or (self.times is not None and self.times < 1):
            raise InvalidInput(
                f"occurrence ({self.occurrence}) and times ({self.times}) of a fault are counted from 1: it applies to "
                "one request at least"
            )

    def matches(self, exchange: Exchange) -> bool:
        """Return whether the request is one of those that count."""
        return (
            self.operation in (None, exchange.operation)
            and self.key in (None, exchange.target.key)
            and self.part_number in (None, exchange.target.part_number)
        )

    def applies_to(self, occurrence: int) -> bool:
        """
        Return whether it applies to this occurrence, counting from 1.

        An occurrence is a matching request.
        """
        return self.occurrence <= occurrence and (self.times is None or occurrence < self.occurrence + self.times)


class ServerFaultPlan:
    """The planned faults, and how many requests matched each. It is thread-safe."""

    def __init__(self, operations: frozenset[str]) -> None:
        self._operations = operations
        self._lock = threading.Lock()
        self._planned: list[_Planned] = []

    def add(self, faults: Iterable[ServerFault]) -> None:
        """Plan more faults; raise InvalidInput for one of an unknown operation."""
        planned = [_Planned(fault) for fault in faults]
        for name in (entry.fault.operation for entry in planned):
            if name is not None and name not in self._operations:
                known = ", ".join(sorted(self._operations))
                raise InvalidInput(f"the server has no operation {name!r}; it has {known}")
        with self._lock:
            self._planned += planned

    def due(self, exchange: Exchange) -> tuple[ServerFault, ...]:
        """Count this request, and return the faults that apply to it."""
        with self._lock:
            return tuple(planned.fault for planned in self._planned if planned.is_due(exchange))

    def unreached(self) -> tuple[ServerFault, ...]:
        """Return the faults that applied to no request so far."""
        with self._lock:
            return tuple(planned.fault for planned in self._planned if planned.matched < planned.fault.occurrence)


@define
class _Planned:
    fault: ServerFault
    matched: int = 0

    def is_due(self, exchange: Exchange) -> bool:
        if not self.fault.matches(exchange):
            return False
        self.matched += 1
        return self.fault.applies_to(self.matched)
