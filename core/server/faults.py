"""
What shall go wrong, planned as values.

    ServerFault("UploadPart", LoseResponse(), occurrence=2)
    ServerFault("CompleteMultipartUpload", Fail("InternalError"), times=3)
    ServerFault(None, Delay(0.1), occurrence=1, times=None)

A fault says which requests it strikes; its effect says what happens to them. An effect has two places to act: before
the operation, and on the finished response, when the operation has had its effect. Several faults may strike one
request; they act in the order they were planned.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from typing import Protocol

from attrs import Attribute, define, evolve, field

from partwise.errors import InvalidInput
from partwise.server.exchange import Exchange
from partwise.server.messages import DropConnection, EarlyResponse, ServerResponse
from partwise.server.oss.errors import OSSError
from partwise.server.oss.routing import OPERATIONS

_CHECKSUM = "x-oss-hash-crc64ecma"


class Effect(Protocol):
    """What a fault does to a request."""

    def before(self, exchange: Exchange) -> None:
        """
        Act before the operation, which does not take place if this raises.

        Raises:
            OSSError: the response to send.
            DropConnection: there is no response.
        """

    def after(self, exchange: Exchange, response: ServerResponse) -> ServerResponse:
        """
        The response to send in place of `response`.

        Raises:
            DropConnection: none.
        """


class _Harmless:
    """The base of all effects here: each of them changes one of the two."""

    def before(self, exchange: Exchange) -> None:
        """Let the operation take place."""

    def after(self, exchange: Exchange, response: ServerResponse) -> ServerResponse:  # noqa: ARG002 -- what an effect may need
        """Let the response be."""
        return response


# --- answers that say no ---------------------------------------------------------------------------------------------


@define(frozen=True)
class Fail(_Harmless):
    """
    The service refuses.

    ``Fail("SecurityTokenExpired")`` is a token that ran out, ``Fail("QpsLimitExceeded", retry_after=2)`` throttling.

    Args:
        code: the error code.
        status: the HTTP status; None: the one that goes with the code, and 500 for a code of your own.
        message: None: the one that goes with the code.
        retry_after: seconds for the header of that name.
        after_effect: the operation takes place all the same.
    """

    code: str = "InternalError"
    status: int | None = None
    message: str | None = None
    retry_after: int | None = None
    after_effect: bool = False

    def before(self, exchange: Exchange) -> None:  # noqa: ARG002 -- it strikes whatever the request is
        """Refuse before the effect."""
        if not self.after_effect:
            raise self._refusal()

    def after(self, exchange: Exchange, response: ServerResponse) -> ServerResponse:  # noqa: ARG002 -- it takes any response's place
        """Refuse after the effect."""
        if self.after_effect:
            raise self._refusal()
        return response

    def _refusal(self) -> OSSError:
        headers = () if self.retry_after is None else (("Retry-After", str(self.retry_after)),)
        return OSSError(self.code, self.message, status=self.status, headers=headers)


@define(frozen=True)
class ForgetUpload(_Harmless):
    """The upload that the request is about is aborted first, as by a lifecycle rule."""

    def before(self, exchange: Exchange) -> None:
        """Abort the upload."""
        upload_id = exchange.request.param("uploadId")
        if upload_id:
            exchange.bucket.backend.abort_upload(exchange.key, upload_id)


@define(frozen=True)
class SkewClock(_Harmless):
    """
    The server's clock is off while it answers this request.

    Args:
        seconds: how far it is ahead.
    """

    seconds: float

    def before(self, exchange: Exchange) -> None:
        """Set the clock."""
        exchange.clock_offset += self.seconds


def _seconds(_: object, __: Attribute[float], value: float) -> None:
    if not 0 <= value < math.inf:  # which holds for no NaN
        raise InvalidInput(f"a delay is a number of seconds from 0 on, not {value}")


# --- answers that do not come, or late -------------------------------------------------------------------------------


@define(frozen=True)
class Delay(_Harmless):
    """
    The service is slow.

    Args:
        seconds: how long it waits.
        after_effect: it waits when the operation has taken place, rather than before.

    Raises:
        InvalidInput: `seconds` is below 0, or has no end.
    """

    seconds: float = field(validator=_seconds)
    after_effect: bool = False

    def before(self, exchange: Exchange) -> None:
        """Wait before the effect."""
        if not self.after_effect:
            exchange.wait(self.seconds)

    def after(self, exchange: Exchange, response: ServerResponse) -> ServerResponse:
        """Wait after the effect."""
        if self.after_effect:
            exchange.wait(self.seconds)
        return response


@define(frozen=True)
class ResetInRequest(_Harmless):
    """
    The connection is reset while the request's body is on its way; nothing takes place.

    Args:
        after_bytes: how much of the body is read first.
    """

    after_bytes: int = 0

    def before(self, exchange: Exchange) -> None:
        """Read so much, and reset."""
        if self.after_bytes:
            exchange.body.drain(self.after_bytes)
        raise DropConnection(reset=True)


@define(frozen=True)
class LoseResponse(_Harmless):
    """
    The operation takes place, but no byte of the response arrives.

    Args:
        reset: the connection ends by a reset rather than in order.
    """

    reset: bool = False

    def after(self, exchange: Exchange, response: ServerResponse) -> ServerResponse:  # noqa: ARG002 -- whatever it was
        """Drop the connection."""
        raise DropConnection(reset=self.reset)


@define(frozen=True)
class CutResponse(_Harmless):
    """
    The operation takes place, but the connection breaks within the response.

    Args:
        after_bytes: how much of the raw response is sent, its head included.
        reset: the connection ends by a reset rather than in order.
    """

    after_bytes: int = 20
    reset: bool = True

    def after(self, exchange: Exchange, response: ServerResponse) -> ServerResponse:  # noqa: ARG002 -- whatever it was
        """Cut the response."""
        return evolve(response, cut_after=self.after_bytes, reset=self.reset)


# --- answers that are not what they should be ------------------------------------------------------------------------


@define(frozen=True)
class ReplaceResponse(_Harmless):
    """
    Something between client and service answers in its place, such as a proxy with a page of HTML.

    Args:
        body: what it says.
        status: its HTTP status.
        content_type: its Content-Type.
        before_effect: the request never reaches the service.
    """

    body: bytes = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
    status: int = 502
    content_type: str = "text/html"
    before_effect: bool = False

    def before(self, exchange: Exchange) -> None:  # noqa: ARG002 -- it strikes whatever the request is
        """Answer before the effect."""
        if self.before_effect:
            raise EarlyResponse(self._response())

    def after(self, exchange: Exchange, response: ServerResponse) -> ServerResponse:  # noqa: ARG002 -- it takes any response's place
        """Answer after the effect."""
        return self._response()

    def _response(self) -> ServerResponse:
        return ServerResponse(self.status, (("Content-Type", self.content_type),), self.body, foreign=True)


@define(frozen=True)
class TruncateBody(_Harmless):
    """
    The response's document stops in the middle, though its framing is right.

    Args:
        keep: how many bytes of it are left.
    """

    keep: int = 60

    def after(self, exchange: Exchange, response: ServerResponse) -> ServerResponse:  # noqa: ARG002 -- whatever it was
        """Shorten the body."""
        return evolve(response, body=response.body[: self.keep]) if isinstance(response.body, bytes) else response


@define(frozen=True)
class WrongChecksum(_Harmless):
    """The header that reports the CRC-64 is wrong, though what is stored is right."""

    def after(self, exchange: Exchange, response: ServerResponse) -> ServerResponse:  # noqa: ARG002 -- whatever it was
        """Change the header."""
        headers = ((name, str(int(value) ^ 1) if name == _CHECKSUM else value) for name, value in response.headers)
        return evolve(response, headers=tuple(headers))


@define(frozen=True)
class NoChecksum(_Harmless):
    """No CRC-64 is reported, in headers or in lists."""

    def before(self, exchange: Exchange) -> None:
        """Hold them back."""
        exchange.checksums = False


@define(frozen=True)
class CorruptBody(_Harmless):
    """
    What is stored is not what was sent, as by a fault of memory; the CRC-64 reported is that of what is stored.

    Args:
        at: the offset of the byte that is changed.
    """

    at: int = 0

    def before(self, exchange: Exchange) -> None:
        """Change the byte when it comes."""
        exchange.body.corrupt_at = self.at


# --- which requests --------------------------------------------------------------------------------------------------


def _known_operation(_: object, __: Attribute[str | None], value: str | None) -> None:
    if value is not None and value not in OPERATIONS:
        raise InvalidInput(f"{value!r} is no operation of the server; it has {', '.join(sorted(OPERATIONS))}")


@define(frozen=True)
class ServerFault:
    """
    A planned fault.

    Args:
        operation: the name of the operation in the API reference; None: any.
        effect: what happens.
        occurrence: which of the requests that fit is the first to be struck, counted from 1 from when it was planned.
        times: how many in a row are struck; None: all from then on.
        key: only requests for this key; None: any.
        part_number: only requests for the part of this number; None: any.

    Raises:
        InvalidInput: the server has no such operation, or `occurrence` or `times` is below 1.
    """

    operation: str | None = field(validator=_known_operation)
    effect: Effect
    occurrence: int = 1
    times: int | None = 1
    key: str | None = None
    part_number: int | None = None

    def __attrs_post_init__(self) -> None:
        if self.occurrence < 1 or (self.times is not None and self.times < 1):
            raise InvalidInput("a fault strikes from the first request on, and once at least")

    def fits(self, exchange: Exchange) -> bool:
        """Whether the request is one of those that count."""
        return (
            self.operation in (None, exchange.operation)
            and self.key in (None, exchange.place.key)
            and (self.part_number is None or exchange.request.param("partNumber") == str(self.part_number))
        )

    def strikes(self, occurrence: int) -> bool:
        """Whether the request that fits as the `occurrence`-th is struck."""
        return self.occurrence <= occurrence and (self.times is None or occurrence < self.occurrence + self.times)


class ServerFaultPlan:
    """
    The faults that are planned, and how many requests fitted each.

    Args:
        faults: in the order in which they act where several strike one request.
    """

    def __init__(self, faults: Iterable[ServerFault] = ()) -> None:
        self._lock = threading.Lock()
        self._planned = [_Planned(fault) for fault in faults]

    def add(self, faults: Iterable[ServerFault]) -> None:
        """Plan more."""
        with self._lock:
            self._planned += [_Planned(fault) for fault in faults]

    def due(self, exchange: Exchange) -> tuple[ServerFault, ...]:
        """Those that strike this request, which is counted."""
        with self._lock:
            return tuple(planned.fault for planned in self._planned if planned.is_due(exchange))

    def unreached(self) -> tuple[ServerFault, ...]:
        """Those that struck nothing so far."""
        with self._lock:
            return tuple(planned.fault for planned in self._planned if planned.fitted < planned.fault.occurrence)


@define
class _Planned:
    fault: ServerFault
    fitted: int = 0

    def is_due(self, exchange: Exchange) -> bool:
        if not self.fault.fits(exchange):
            return False
        self.fitted += 1
        return self.fault.strikes(self.fitted)
