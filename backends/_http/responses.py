"""
What a backend takes from successful responses, without secrets.

This is headers and documents. This module does no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from attrs import define

from partwise.backends._http.error_documents import WORD_MAX, without_controls
from partwise.backends._http.http1 import Response
from partwise.backends._http.redaction import contains, redact
from partwise.backends._http.xml import NAME_MAX, BadDocument, parse_etag
from partwise.errors import IntegrityError, ServerFailed
from partwise.protocols import Body

#: Bodies up to this size are searched for parts of secrets, too; a longer one is a page of a list.
_PARTIAL_SEARCH_BYTES_MAX = 4096

#: The size of the largest object has fourteen digits.
_SIZE_DIGITS_MAX = 18

_Parsed = TypeVar("_Parsed")


@define(frozen=True)
class ResponseReader:
    """
    Reads the responses of one service.

    Args:
        service: its name, for messages, such as ``"OSS"``.
        prefix: that of its headers, such as ``"x-oss-"``.
        usual_etag: matches the header with the ETag of a part.
        usual_request_id: matches the header with the id of a request.
    """

    service: str
    prefix: str
    usual_etag: re.Pattern[str]
    usual_request_id: re.Pattern[str]

    @property
    def metadata_prefix(self) -> str:
        """The prefix of the headers that carry metadata."""
        return f"{self.prefix}meta-"

    def is_plain(self, response: Response) -> bool:
        """
        Return whether this is the usual response to a part.

        What is kept of such a response can't contain a secret.
        """
        headers = response.headers
        return (
            response.status == 200
            and self.usual_etag.fullmatch(headers.get("etag", "")) is not None
            and self.usual_request_id.fullmatch(headers.get(f"{self.prefix}request-id", "")) is not None
        )

    def redact(self, response: Response, secrets: tuple[str, ...]) -> Response:
        """
        Mask secrets in what is kept of a response.

        Errors are built by `parse_error`, which masks everything that it reads.
        """
        # The headers whose values are kept, in addition to metadata.
        kept_headers = {"etag", f"{self.prefix}request-id", f"{self.prefix}version-id"}
        headers = {}
        for name, value in response.headers.items():
            is_metadata = name.startswith(self.metadata_prefix)
            kept = redact(value, secrets) if is_metadata or name in kept_headers else value
            headers[redact(name, secrets) if is_metadata else name] = kept
        body = response.body
        if len(body) <= _PARTIAL_SEARCH_BYTES_MAX or contains(body, secrets):
            body = redact(body.decode("latin-1"), secrets).encode("latin-1")
        return Response(response.status, headers, body)

    def request_id(self, response: Response) -> str | None:
        """Return the service's id of the request, as far as it can be shown."""
        return without_controls(response.headers.get(f"{self.prefix}request-id", ""))[:WORD_MAX] or None

    def ids(self, response: Response) -> dict[str, Any]:
        """Return the object's version id and the request id, for `StoredObject`."""
        return {
            "version_id": response.headers.get(f"{self.prefix}version-id"),
            "request_id": self.request_id(response),
        }

    def metadata(self, response: Response) -> dict[str, str]:
        """Return the metadata in the headers."""
        prefix = self.metadata_prefix
        return {name.removeprefix(prefix): value for name, value in response.headers.items() if name.startswith(prefix)}

    def etag(self, response: Response, operation: str) -> str:
        """Return the ETag header. Raises ServerFailed if there is none."""
        etag = parse_etag(response.headers.get("etag", ""))
        if etag is None:
            raise self.invalid(response, operation, "it has no ETag")
        if len(etag) > NAME_MAX:
            raise self.invalid(response, operation, f"its ETag has more than {NAME_MAX} characters")
        if not etag.isprintable():  # no list of parts could contain it
            raise self.invalid(response, operation, "its ETag contains a control character")
        return etag

    def size(self, response: Response, operation: str) -> int:
        """
        Return the size of the object that a HEAD request describes.

        Raises ServerFailed if there is none.
        """
        length = response.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit() and len(length) <= _SIZE_DIGITS_MAX):
            raise self.invalid(response, operation, "it does not contain the size of the object")
        return int(length)

    def parse(self, response: Response, parse: Callable[[bytes], _Parsed], operation: str) -> _Parsed:
        """Parse the document in the body. Raises ServerFailed if it is invalid."""
        try:
            return parse(response.body)
        except BadDocument as error:
            raise self.invalid(response, operation, str(error)) from error

    def require_sent_bytes(
        self,
        checksum: int | None,
        body: Body,
        response: Response,
        operation: str,
        *,
        algorithm: str,
        retryable: bool = True,
    ) -> None:
        """
        Compare the checksum of the service with that of the body, if both are known.

        Raises:
            IntegrityError: they differ. The error has the request id, which the service asks for.
        """
        if checksum is not None and body.checksum is not None and checksum != body.checksum:
            raise IntegrityError(
                f"{operation}: {self.service} stored bytes with the {algorithm} {checksum}, but {body.checksum} was "
                "sent",
                status=response.status,
                request_id=self.request_id(response),
                retryable=retryable,
            )

    def invalid(self, response: Response, operation: str, why: str) -> ServerFailed:
        """
        Return the error for a response that can't be used.

        Retryable, since it may have been truncated on the way.
        """
        return ServerFailed(
            f"{operation}: invalid response: {why}",
            status=response.status,
            request_id=self.request_id(response),
        )
