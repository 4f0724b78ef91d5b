"""
Signed requests to one bucket, whatever the service.

They are signed and sent, secrets in their responses are masked, and failures are translated. What differs between
services (the signature, the address, the table of errors) is in subclasses.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Self

from attrs import define

from partwise._units import format_seconds
from partwise.backends._http.client import HTTPClient
from partwise.backends._http.clock import ServerClock
from partwise.backends._http.credentials import CachedCredentials, Credentials, CredentialsCache
from partwise.backends._http.error_documents import ErrorDetails, server_time
from partwise.backends._http.http1 import Response
from partwise.backends._http.request_template import PartRequestTemplate
from partwise.backends._http.responses import ResponseReader
from partwise.backends._http.signatures import PreparedSignature, Query
from partwise.errors import BackendError, ClockSkewed, CredentialsExpired, PartwiseError


@define(frozen=True)
class RequestHead:
    """What a signature covers; names and values are not encoded."""

    method: str
    key: str | None  # the key; None for a request to the bucket
    query: Query
    headers: Mapping[str, str]  # the headers, without those of the signature


@define(frozen=True)
class SignedRequest:
    """A request before it is signed."""

    operation: str  # what is done to which object, for messages
    method: str
    key: str | None  # the key; None for a request to the bucket
    query: Query
    headers: Mapping[str, str]  # the headers, without those of the signature
    chunks: Iterable[bytes | memoryview] = ()
    length: int | None = 0  # the length of the body in bytes; None for a request without a body


@define(frozen=True)
class SigningContext:
    """
    What a request was signed with.

    Credentials and clock may have changed when its response arrives.
    """

    cached: CachedCredentials
    offset: float  # the correction of the clock
    head: bytes  # the head of the request, which contains the signature
    method: str


@define
class _TemplateCache:
    """
    The latest template of part requests and what it is valid for.

    Replaced as a whole, so it needs no lock.
    """

    latest: tuple[tuple[str, str, int, int], PartRequestTemplate] | None = None


class SignedClient(ABC):
    """Sends signed requests to one bucket. Thread-safe."""

    #: Reads the responses of the service, and names it.
    reader: ClassVar[ResponseReader]
    log: ClassVar[logging.Logger]

    #: The error code of a key that the service does not know.
    unknown_key_code = "InvalidAccessKeyId"

    def __init__(
        self,
        http: HTTPClient,
        credentials: CredentialsCache,
        clock: ServerClock,
        *,
        part_headers: Mapping[str, str] | None = None,
    ) -> None:
        self._http = http
        self._credentials = credentials
        self._clock = clock
        self._part_headers = part_headers or {}
        self._templates = _TemplateCache()

    def with_part_headers(self, part_headers: Mapping[str, str]) -> Self:
        """Return a client that differs only in the headers of parts."""
        client = object.__new__(type(self))
        client.__dict__.update(self.__dict__)
        client._part_headers = part_headers
        client._templates = _TemplateCache()
        return client

    def close(self) -> None:
        """Close the idle connections; those in use are closed when their request ends."""
        self._http.close()

    # --- what differs between services -------------------------------------------------------------------------------

    @abstractmethod
    def prepare_signature(self, request: RequestHead, credentials: Credentials, now: float) -> PreparedSignature:
        """Prepare the signature of a request."""

    @abstractmethod
    def target(self, key: str | None, query: Query) -> str:
        """Return the request target: path and query, encoded."""

    @abstractmethod
    def secrets_in(self, head: bytes) -> tuple[str, ...]:
        """
        Return what the head of a request contains and must not be shown.

        It is the signature, or a key.
        """

    @abstractmethod
    def parse_error(self, response: Response, secrets: tuple[str, ...]) -> ErrorDetails:
        """Return what a failed response says, with secrets masked."""

    @abstractmethod
    def error_for(
        self, response: Response, operation: str, details: ErrorDetails, context: SigningContext
    ) -> BackendError:
        """Return the error for a failed response."""

    # --- requests ----------------------------------------------------------------------------------------------------

    def send(
        self, request: SignedRequest, expected: tuple[int, ...] = (200,), *, response_seconds: float | None = None
    ) -> tuple[Response, SigningContext]:
        """
        Send a request and return the response, and what the request was signed with.

        Args:
            request: the request.
            expected: the statuses of success.
            response_seconds: see `HTTPClient.start`.

        Raises:
            BackendError: the response has another status, or the connection failed.
        """
        cached, (now, offset) = self._credentials.current(), self._clock.reading()
        unsigned = RequestHead(request.method, request.key, request.query, request.headers)
        signature = self.prepare_signature(unsigned, cached.credentials, now).signed()
        target = self.target(request.key, request.query)
        head = self._http.head(request.method, target, {**request.headers, **signature}, request.length)
        receive = self._http.start(request.method, head, request.chunks, response_seconds=response_seconds)
        context = SigningContext(cached, offset, head, request.method)
        upload_id = dict(request.query).get("uploadId")
        extra = {"key": request.key, "upload_id": upload_id, "part_number": None}
        return self._raise_for_status(receive(), request.operation, context, expected, extra), context

    def start_part(
        self,
        key: str,
        upload_id: str,
        part_number: int,
        *,
        size: int,
        chunks: Iterable[bytes | memoryview],
        operation: str,
        owner: object,
        headers: Mapping[str, str] | None = None,
    ) -> Callable[[], Response]:
        """
        Send a part, and return a function that waits for the response.

        `cut` with the same `owner` ends it. `headers` are those of this part alone, in addition to those of all parts.

        Raises:
            BackendError: from either step: the response is an error, or the connection failed.
        """
        cached, (now, offset) = self._credentials.current(), self._clock.reading()
        if headers:
            query = (("partNumber", str(part_number)), ("uploadId", upload_id))
            unsigned = RequestHead("PUT", key, query, {**self._part_headers, **headers})
            signature = self.prepare_signature(unsigned, cached.credentials, now).signed()
            head = self._http.head("PUT", self.target(key, query), {**unsigned.headers, **signature}, size)
        else:
            head = self._part_template(key, upload_id, cached, now).head(part_number, size)
        receive = self._http.start("PUT", head, chunks, owner, size)

        def wait() -> Response:
            response = receive()
            if self.reader.is_plain(response) and not self.log.isEnabledFor(logging.DEBUG):
                return response
            context = SigningContext(cached, offset, head, "PUT")
            extra = {"key": key, "upload_id": upload_id, "part_number": part_number}
            return self._raise_for_status(response, operation, context, (200,), extra)

        return wait

    def cut(self, owner: object, reason: str) -> None:
        """End the request of this owner; see `HTTPClient.cut`."""
        self._http.cut(owner, reason)

    def connect_ahead(self, count_for: Callable[[float], int]) -> None:
        """Make connections during the next request; see `HTTPClient.connect_ahead`."""
        self._http.connect_ahead(count_for)

    def error_details(self, response: Response, context: SigningContext) -> ErrorDetails:
        """Return what a failed response says, with secrets masked."""
        return self.parse_error(response, self._secrets(context))

    def _part_template(self, key: str, upload_id: str, cached: CachedCredentials, now: float) -> PartRequestTemplate:
        valid_for = (key, upload_id, cached.generation, int(now))
        latest = self._templates.latest
        if latest is not None and latest[0] == valid_for:
            return latest[1]
        headers = self._part_headers
        template = PartRequestTemplate(
            query=lambda number: (("partNumber", number), ("uploadId", upload_id)),
            prepare=lambda query: self.prepare_signature(
                RequestHead("PUT", key, query, headers), cached.credentials, now
            ),
            build=lambda query, added: self._http.head("PUT", self.target(key, query), {**headers, **added}, None),
        )
        self._templates.latest = valid_for, template
        return template

    # --- responses ---------------------------------------------------------------------------------------------------

    def failure(self, response: Response, operation: str, context: SigningContext) -> BackendError:
        """
        Return the error for a failed response, and learn from it.

        The clock is corrected, or new credentials are fetched; the error then says whether a retry can help.
        """
        details = self.error_details(response, context)
        error = self.error_for(response, operation, details, context)
        if isinstance(error, ClockSkewed):
            self._correct_clock(error, server_time(response, details), context)
        elif response.status == 407:
            proxy = self._http.endpoint.proxy
            error.hint_template = (
                f"A gateway between this machine and {self.reader.service} requires credentials"
                if proxy is None
                else proxy.sign_in_hint
            )
        elif isinstance(error, CredentialsExpired):
            error.retryable = self._renew_credentials(error, context)
        elif details.code == self.unknown_key_code and self._renew_credentials(error, context):
            # A key that was rotated away is reported as unknown; another one may be accepted.
            cause = error.__cause__
            error = CredentialsExpired(
                error.message,
                code=error.code,
                status=error.status,
                request_id=error.request_id,
                details=error.details,
                hint=error.hint_template,
            )
            error.__cause__ = cause
        return error

    def _renew_credentials(self, error: BackendError, context: SigningContext) -> bool:
        """
        Fetch new credentials, and return whether a retry can help.

        If the provider fails, its error is added to that of the service, which says what was refused.
        """
        try:
            return self._credentials.renew(context.cached)
        except PartwiseError as failed:
            explain(error, failed.message, failed.hint_template or error.hint_template)
            error.__cause__ = failed
            return isinstance(failed, BackendError) and failed.retryable

    def _raise_for_status(
        self,
        response: Response,
        operation: str,
        context: SigningContext,
        expected: tuple[int, ...],
        extra: Mapping[str, object],
    ) -> Response:
        redacted = self.reader.redact(response, self._secrets(context))
        request_id = self.reader.request_id(redacted)
        self.log.debug("%s: %d (request %s)", operation, redacted.status, request_id, extra=extra)
        if redacted.status in expected:
            return redacted
        raise self.failure(redacted, operation, context)

    def _secrets(self, context: SigningContext) -> tuple[str, ...]:
        """Return what a response may repeat and must not be shown."""
        proxy, own = self._http.endpoint.proxy, self.secrets_in(context.head)
        return (*context.cached.credentials.secrets, *(() if proxy is None else proxy.secrets), *own)

    def _correct_clock(self, error: ClockSkewed, stated: float | None, context: SigningContext) -> None:
        if stated is None:
            error.retryable = False
            return
        error.retryable = self._clock.correct(stated, context.offset)
        if error.retryable:
            return
        ahead = self._clock.difference(stated)
        side = "ahead of" if ahead > 0 else "behind"
        hint = "Set the clock of this machine"
        if self._clock.would_correct_if_authenticated(stated):
            hint += ", or pass {endpoint} with https://"
        explain(
            error,
            f"the clock of {self.reader.service} is {format_seconds(round(abs(ahead)))} {side} this machine's, too much"
            " to trust this response",
            hint,
        )


def explain(error: BackendError, fact: str, hint: str) -> None:
    """Add a fact to the message of an error, and say what to do next."""
    error.args = (f"{error.message}; {fact}",)
    error.hint_template = hint
