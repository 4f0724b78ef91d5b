"""
Signed requests to one bucket.

They are signed and sent, secrets in their responses are masked, and failures are translated.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping

from attrs import define

from partwise.backends._http.client import HTTPClient
from partwise.backends._http.http1 import Response
from partwise.backends.oss.addressing import Address
from partwise.backends.oss.clock import ServerClock
from partwise.backends.oss.credentials import CachedCredentials, Credentials, CredentialsCache
from partwise.backends.oss.errors import ErrorDetails, error_for, parse_error, server_time
from partwise.backends.oss.request_template import PartRequestTemplate
from partwise.backends.oss.responses import is_plain, redact_response
from partwise.backends.oss.signing import PreparedSignature, Query, Signable, prepare_v1, prepare_v4
from partwise.errors import BackendError, ClockSkewed, CredentialsExpired

#: Headers to sign in addition to those that V4 always signs. With the host, a captured request is useless elsewhere.
_ADDITIONAL_HEADERS = ("host",)

_SIGNATURE = re.compile(rb"\r\nAuthorization: (?:OSS4.*Signature=|OSS .*:)(.+)\r\n")

_REGION_HINT = "Pass the bucket's own {region}, or set OSS_REGION"

_log = logging.getLogger("partwise.backends.oss")


@define(frozen=True)
class OSSRequest:
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


@define
class _TemplateCache:
    """
    The latest template of part requests and what it is valid for.

    Replaced as a whole, so it needs no lock.
    """

    latest: tuple[tuple[str, str, int, int], PartRequestTemplate] | None = None


class OSSClient:
    """Sends signed requests to one bucket. Thread-safe."""

    def __init__(
        self,
        address: Address,
        http: HTTPClient,
        credentials: CredentialsCache,
        clock: ServerClock,
        *,
        v4: bool,
        part_headers: Mapping[str, str] | None = None,
    ) -> None:
        self._address = address
        self._http = http
        self._credentials = credentials
        self._clock = clock
        self._v4 = v4
        self._part_headers = part_headers or {}
        self._templates = _TemplateCache()

    def with_part_headers(self, part_headers: Mapping[str, str]) -> OSSClient:
        """Return a client that differs only in the headers of parts."""
        return OSSClient(
            self._address, self._http, self._credentials, self._clock, v4=self._v4, part_headers=part_headers
        )

    def close(self) -> None:
        """Close the idle connections; those in use are closed when their request ends."""
        self._http.close()

    # --- requests ----------------------------------------------------------------------------------------------------

    def send(self, request: OSSRequest, expected: tuple[int, ...] = (200,)) -> tuple[Response, SigningContext]:
        """
        Send a request and return the response, and what the request was signed with.

        Raises:
            BackendError: the response has another status, or the connection failed.
        """
        cached, (now, offset) = self._credentials.current(), self._clock.reading()
        signable = Signable(request.method, self._address.bucket, request.key, request.query, request.headers)
        signature = self._prepare_signature(signable, cached.credentials, now).signed()
        target = self._address.target(request.key, request.query)
        head = self._http.head(request.method, target, {**request.headers, **signature}, request.length)
        receive = self._http.start(request.method, head, request.chunks)
        context = SigningContext(cached, offset, head)
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
    ) -> Callable[[], Response]:
        """
        Send a part, and return a function that waits for the response.

        `cut` with the same `owner` ends it.

        Raises:
            BackendError: from either step: the response is an error, or the connection failed.
        """
        cached, (now, offset) = self._credentials.current(), self._clock.reading()
        head = self._part_template(key, upload_id, cached, now).head(part_number, size)
        receive = self._http.start("PUT", head, chunks, owner, size)

        def wait() -> Response:
            response = receive()
            if is_plain(response) and not _log.isEnabledFor(logging.DEBUG):
                return response
            context = SigningContext(cached, offset, head)
            extra = {"key": key, "upload_id": upload_id, "part_number": part_number}
            return self._raise_for_status(response, operation, context, (200,), extra)

        return wait

    def cut(self, owner: object, reason: str) -> None:
        """End the request of this owner; see `HTTPClient.cut`."""
        self._http.cut(owner, reason)

    def error_details(self, response: Response, context: SigningContext) -> ErrorDetails:
        """Return what a failed response says, with secrets masked."""
        return parse_error(response, self._secrets(context))

    # --- signatures --------------------------------------------------------------------------------------------------

    def _prepare_signature(self, request: Signable, credentials: Credentials, now: float) -> PreparedSignature:
        if not self._v4:
            return prepare_v1(credentials, request, now)
        address = self._address
        assert address.region is not None  # required by `resolve`
        # The HTTP client adds this header to every request.
        request = request.with_headers({"Host": address.authority})
        return prepare_v4(credentials, request, now, region=address.region, additional_headers=_ADDITIONAL_HEADERS)

    def _part_template(self, key: str, upload_id: str, cached: CachedCredentials, now: float) -> PartRequestTemplate:
        valid_for = (key, upload_id, cached.generation, int(now))
        latest = self._templates.latest
        if latest is not None and latest[0] == valid_for:
            return latest[1]
        headers, bucket = self._part_headers, self._address.bucket
        template = PartRequestTemplate(
            query=lambda number: (("partNumber", number), ("uploadId", upload_id)),
            prepare=lambda query: self._prepare_signature(
                Signable("PUT", bucket, key, query, headers), cached.credentials, now
            ),
            build=lambda query, added: self._http.head(
                "PUT", self._address.target(key, query), {**headers, **added}, None
            ),
        )
        self._templates.latest = valid_for, template
        return template

    # --- responses ---------------------------------------------------------------------------------------------------

    def _raise_for_status(
        self,
        response: Response,
        operation: str,
        context: SigningContext,
        expected: tuple[int, ...],
        extra: Mapping[str, object],
    ) -> Response:
        redacted = redact_response(response, self._secrets(context))
        request_id = redacted.headers.get("x-oss-request-id")
        _log.debug("%s: %d (request %s)", operation, redacted.status, request_id, extra=extra)
        if redacted.status in expected:
            return redacted
        raise self._error(redacted, operation, context)

    def _secrets(self, context: SigningContext) -> tuple[str, ...]:
        """Return what a response may repeat and must not be shown."""
        signature = _SIGNATURE.search(context.head)
        own = () if signature is None else (signature[1].decode("latin-1"),)
        proxy = self._http.endpoint.proxy
        return (*context.cached.credentials.secrets, *(() if proxy is None else proxy.secrets), *own)

    def _error(self, response: Response, operation: str, context: SigningContext) -> BackendError:
        details = self.error_details(response, context)
        error = error_for(response, operation, details)
        if isinstance(error, ClockSkewed):
            self._correct_clock(error, server_time(response, details), context)
        elif response.status == 407:
            proxy = self._http.endpoint.proxy
            error.hint_template = (
                "A gateway between this machine and OSS requires credentials" if proxy is None else proxy.sign_in_hint
            )
        elif self._v4 and details.is_wrong_region:
            _explain(error, f"requests are signed for the region {self._address.region}", _REGION_HINT)
        elif self._v4 and details.code == "SignatureDoesNotMatch":
            _explain(
                error,
                f"requests are signed for the region {self._address.region}",
                f"Check the access key secret. {_REGION_HINT}. No proxy or gateway may change the Host header",
            )
        elif isinstance(error, CredentialsExpired):
            error.retryable = self._credentials.renew(context.cached)
        elif details.code == "InvalidAccessKeyId" and self._credentials.renew(context.cached):
            # OSS reports a key that was rotated away as unknown; there is a new one now.
            error = CredentialsExpired(
                error.message,
                code=error.code,
                status=error.status,
                request_id=error.request_id,
                details=error.details,
                hint=error.hint_template,
            )
        return error

    def _correct_clock(self, error: ClockSkewed, server_time: float | None, context: SigningContext) -> None:
        if server_time is None:
            error.retryable = False
            return
        error.retryable = self._clock.correct(server_time, context.offset)
        if error.retryable:
            return
        ahead = self._clock.difference(server_time)
        side = "ahead of" if ahead > 0 else "behind"
        hint = "Set the clock of this machine"
        if self._clock.would_correct_if_authenticated(server_time):
            hint += ", or pass {endpoint} with https://"
        _explain(
            error,
            f"the clock of OSS is {abs(ahead):.0f} seconds {side} this machine's, too much to trust this response",
            hint,
        )


def _explain(error: BackendError, fact: str, hint: str) -> None:
    error.args = (f"{error.message}; {fact}",)
    error.hint_template = hint
