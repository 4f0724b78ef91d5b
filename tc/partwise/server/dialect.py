"""
What distinguishes one storage protocol from another.

Everything else in this package is the same for all of them.
"""

from __future__ import annotations

from typing import Protocol

from partwise.errors import PartwiseError
from partwise.server.body import RequestBody
from partwise.server.errors import ServiceError
from partwise.server.exchange import Exchange
from partwise.server.messages import RequestTarget, ServerRequest, ServerResponse
from partwise.server.settings import ServerSettings


class ServerDialect(Protocol):
    """
    A storage protocol.

    `Service` calls the methods in this order for each request: `parse_target`, `operation_of`, `authenticate`,
    `perform`, `common_headers`. The first four may raise `ServiceError`, which `error_response` turns into a response.
    """

    @property
    def operations(self) -> frozenset[str]:
        """The names of all operations, for planned faults."""

    @property
    def secrets(self) -> frozenset[str]:
        """Headers (in lower case) and query parameters that are not recorded."""

    def parse_target(self, request: ServerRequest, settings: ServerSettings) -> RequestTarget:
        """Return what the request is addressed to."""

    def operation_of(self, request: ServerRequest, target: RequestTarget) -> str:
        """Return the name of the operation."""

    def authenticate(self, exchange: Exchange) -> None:
        """Check who signed the request, and the signature."""

    def perform(self, exchange: Exchange) -> ServerResponse:
        """Run the operation."""

    def verify_body(self, request: ServerRequest, body: RequestBody) -> None:
        """
        Compare a complete body with the digests in its request.

        Raises ServiceError on a mismatch.
        """

    def error_for(self, error: PartwiseError) -> ServiceError:
        """Translate the error of a backend."""

    def error_response(
        self, error: ServiceError, request_id: str, target: RequestTarget, method: str
    ) -> ServerResponse:
        """Return the response that refuses a request."""

    def common_headers(self, request_id: str, now: float, seconds: float) -> tuple[tuple[str, str], ...]:
        """Return the headers of every response, for a request that took `seconds`."""
