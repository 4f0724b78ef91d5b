"""Signed requests to one bucket of OSS."""

from __future__ import annotations

import logging
import re

from partwise.backends._http.client import HTTPClient
from partwise.backends._http.clock import ServerClock
from partwise.backends._http.credentials import Credentials, CredentialsCache
from partwise.backends._http.error_documents import ErrorDetails
from partwise.backends._http.http1 import Response
from partwise.backends._http.signatures import PreparedSignature, Query
from partwise.backends._http.signed_client import RequestHead, SignedClient, SigningContext, explain
from partwise.backends.oss.addressing import Address
from partwise.backends.oss.errors import error_for, is_wrong_region, parse_error
from partwise.backends.oss.responses import READER
from partwise.backends.oss.signing import Signable, prepare_v1, prepare_v4
from partwise.errors import BackendError, ClockSkewed

#: Headers to sign in addition to those that V4 always signs. With the host, a captured request is useless elsewhere.
_ADDITIONAL_HEADERS = ("host",)

_SIGNATURE = re.compile(rb"\r\nAuthorization: (?:OSS4.*Signature=|OSS .*:)(.+)\r\n")

_REGION_HINT = "Pass the bucket's own {region}, or set OSS_REGION"


class OSSClient(SignedClient):
    """Sends signed requests to one bucket. Thread-safe."""

    reader = READER
    log = logging.getLogger("partwise.backends.oss")

    def __init__(
        self, address: Address, http: HTTPClient, credentials: CredentialsCache, clock: ServerClock, *, v4: bool
    ) -> None:
        super().__init__(http, credentials, clock)
        self._address = address
        self._v4 = v4

    def prepare_signature(self, request: RequestHead, credentials: Credentials, now: float) -> PreparedSignature:
        """Prepare the signature of a request."""
        address = self._address
        signable = Signable(request.method, address.bucket, request.key, request.query, request.headers)
        if not self._v4:
            return prepare_v1(credentials, signable, now)
        assert address.region is not None  # required by `resolve`
        # The HTTP client adds this header to every request.
        signable = signable.with_headers({"Host": address.authority})
        return prepare_v4(credentials, signable, now, region=address.region, additional_headers=_ADDITIONAL_HEADERS)

    def target(self, key: str | None, query: Query) -> str:
        """Return the request target: path and query, encoded."""
        return self._address.target(key, query)

    def secrets_in(self, head: bytes) -> tuple[str, ...]:
        """Return the signature in the head of a request."""
        signature = _SIGNATURE.search(head)
        return () if signature is None else (signature[1].decode("latin-1"),)

    def parse_error(self, response: Response, secrets: tuple[str, ...]) -> ErrorDetails:
        """Return what a failed response says, with secrets masked."""
        return parse_error(response, secrets)

    def error_for(
        self,
        response: Response,
        operation: str,
        details: ErrorDetails,
        context: SigningContext,  # noqa: ARG002  # OSS says what is wrong in the response to a HEAD, too
    ) -> BackendError:
        """Return the error for a failed response."""
        error = error_for(response, operation, details)
        if isinstance(error, ClockSkewed) or response.status == 407 or not self._v4:
            return error
        fact = f"requests are signed for the region {self._address.region}"
        if is_wrong_region(details):
            explain(error, fact, _REGION_HINT)
        elif details.code == "SignatureDoesNotMatch":
            hint = f"Check the access key secret. {_REGION_HINT}. No proxy or gateway may change the Host header"
            explain(error, fact, hint)
        return error
