"""Signed requests to one bucket of S3."""

from __future__ import annotations

import logging
import re

from attrs import define, evolve

from partwise.backends._http.client import HTTPClient
from partwise.backends._http.clock import ServerClock
from partwise.backends._http.credentials import Credentials, CredentialsCache
from partwise.backends._http.error_documents import ErrorDetails
from partwise.backends._http.http1 import Response
from partwise.backends._http.signatures import PreparedSignature, Query
from partwise.backends._http.signed_client import RequestHead, SignedClient, SignedRequest, SigningContext
from partwise.backends.s3.addressing import S3Address
from partwise.backends.s3.errors import RequestFacts, error_for, is_checksum_required, parse_error
from partwise.backends.s3.responses import READER
from partwise.backends.s3.signing import EMPTY_PAYLOAD, PAYLOAD_HEADER, PathRequest, prepare
from partwise.errors import BackendError

_SIGNATURE = re.compile(rb", Signature=([^\r]+)\r\n")
_CUSTOMER_KEY = re.compile(rb"\r\nx-amz-server-side-encryption-customer-key(?:-md5)?: ([^\r]+)")
_IF_MATCH = re.compile(rb"\r\nIf-Match: ")
_HAS_CHECKSUM = re.compile(rb"\r\n(?:x-amz-checksum-[a-z0-9]+|Content-MD5): ")


@define
class LearnedFacts:
    """What a storage has said about itself; shared by all handles of a backend."""

    parts_need_checksums: bool = False


class S3Client(SignedClient):
    """Sends signed requests to one bucket. Thread-safe."""

    reader = READER
    log = logging.getLogger("partwise.backends.s3")

    def __init__(
        self,
        address: S3Address,
        http: HTTPClient,
        credentials: CredentialsCache,
        clock: ServerClock,
        learned: LearnedFacts,
    ) -> None:
        super().__init__(http, credentials, clock)
        self._address = address
        self._learned = learned

    def send(
        self, request: SignedRequest, expected: tuple[int, ...] = (200,), *, response_seconds: float | None = None
    ) -> tuple[Response, SigningContext]:
        """Send a request and return the response; see `SignedClient.send`."""
        if not request.length:
            request = evolve(request, headers={**request.headers, PAYLOAD_HEADER: EMPTY_PAYLOAD})
        return super().send(request, expected, response_seconds=response_seconds)

    def prepare_signature(self, request: RequestHead, credentials: Credentials, now: float) -> PreparedSignature:
        """Prepare the signature of a request."""
        address = self._address
        # The HTTP client adds this header to every request. Those that proxies change are not signed.
        headers = {**request.headers, "Host": address.authority}
        signed = PathRequest(request.method, address.path_of(request.key), request.query, headers)
        return prepare(credentials, signed, now, region=address.region, service=address.service)

    def target(self, key: str | None, query: Query) -> str:
        """Return the request target: path and query, encoded."""
        return self._address.target(key, query)

    def secrets_in(self, head: bytes) -> tuple[str, ...]:
        """Return the signature and the customer's key in the head of a request."""
        return tuple(found.decode("latin-1") for found in (*_SIGNATURE.findall(head), *_CUSTOMER_KEY.findall(head)))

    def parse_error(self, response: Response, secrets: tuple[str, ...]) -> ErrorDetails:
        """Return what a failed response says, with secrets masked."""
        return parse_error(response, secrets)

    def error_for(
        self, response: Response, operation: str, details: ErrorDetails, context: SigningContext
    ) -> BackendError:
        """
        Return the error for a failed response.

        A storage that turns out to require checksums gets them from then on.
        """
        head = context.head
        request = RequestFacts(
            is_head=context.method == "HEAD",
            is_complete=context.method == "POST" and b"uploadId=" in head.partition(b"\r\n")[0],
            if_match=_IF_MATCH.search(head) is not None,
        )
        error = error_for(response, operation, details, request)
        if context.method == "PUT" and is_checksum_required(details) and not _HAS_CHECKSUM.search(head):
            self._learned.parts_need_checksums = True
            error.retryable = True
        return error
