"""
What the backend takes from successful responses, without secrets.

This is headers, checksums and documents. This module does no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from partwise.backends._http.http1 import Response
from partwise.backends._http.redaction import contains, redact
from partwise.backends.oss.options import METADATA_PREFIX
from partwise.backends.oss.xml import NAME_MAX, BadDocument, parse_crc64, parse_etag
from partwise.errors import IntegrityError, ServerFailed
from partwise.protocols import Body

#: Bodies up to this size are searched for parts of secrets, too; a longer one is a page of a list.
_PARTIAL_SEARCH_BYTES_MAX = 4096

#: The headers whose values are kept, in addition to metadata.
_KEPT_HEADERS = frozenset({"etag", "x-oss-request-id", "x-oss-version-id"})

# The usual values of the two headers that are kept of a part's response.
_PLAIN_ETAG = re.compile('"[0-9A-F]{32}"')
_PLAIN_REQUEST_ID = re.compile("[0-9A-F]{24}")

#: The size of the largest object has fourteen digits.
_SIZE_DIGITS_MAX = 18

_Parsed = TypeVar("_Parsed")


def is_plain(response: Response) -> bool:
    """
    Return whether this is the usual response to a part.

    What is kept of such a response can't contain a secret.
    """
    headers = response.headers
    return (
        response.status == 200
        and _PLAIN_ETAG.fullmatch(headers.get("etag", "")) is not None
        and _PLAIN_REQUEST_ID.fullmatch(headers.get("x-oss-request-id", "")) is not None
    )


def redact_response(response: Response, secrets: tuple[str, ...]) -> Response:
    """
    Mask secrets in what is kept of a response.

    Errors are built by `parse_error`, which masks everything that it reads.
    """
    headers = {}
    for name, value in response.headers.items():
        is_metadata = name.startswith(METADATA_PREFIX)
        kept = redact(value, secrets) if is_metadata or name in _KEPT_HEADERS else value
        headers[redact(name, secrets) if is_metadata else name] = kept
    body = response.body
    if len(body) <= _PARTIAL_SEARCH_BYTES_MAX or contains(body, secrets):
        body = redact(body.decode("latin-1"), secrets).encode("latin-1")
    return Response(response.status, headers, body)


def ids_of(response: Response) -> dict[str, Any]:
    """Return the object's version id and the request id, for `StoredObject`."""
    return {
        "version_id": response.headers.get("x-oss-version-id"),
        "request_id": response.headers.get("x-oss-request-id"),
    }


def etag_of(response: Response, operation: str) -> str:
    """Return the ETag header. Raises ServerFailed if there is none."""
    etag = parse_etag(response.headers.get("etag", ""))
    if etag is None:
        raise invalid_response(response, operation, "it has no ETag")
    if len(etag) > NAME_MAX:
        raise invalid_response(response, operation, f"its ETag has more than {NAME_MAX} characters")
    return etag


def size_of(response: Response, operation: str) -> int:
    """
    Return the size of the object that a HEAD request describes.

    Raises ServerFailed if there is none.
    """
    length = response.headers.get("content-length", "")
    if not (length.isascii() and length.isdigit() and len(length) <= _SIZE_DIGITS_MAX):
        raise invalid_response(response, operation, "it does not contain the size of the object")
    return int(length)


def checksum_of(response: Response, operation: str) -> int | None:
    """
    Return the CRC-64 of what is stored, None if there is none.

    Raises ServerFailed if it is invalid.
    """
    try:
        return parse_crc64(response.headers.get("x-oss-hash-crc64ecma"))
    except BadDocument as error:
        raise invalid_response(response, operation, str(error)) from error


def verified_checksum(response: Response, body: Body, operation: str, *, retryable: bool = True) -> int | None:
    """
    Return the CRC-64 of what is stored, None if there is none.

    Raises:
        IntegrityError: it is not that of the body. The error has the request id, which OSS asks for.
        ServerFailed: it is invalid.
    """
    checksum = checksum_of(response, operation)
    if checksum is not None and body.checksum is not None and checksum != body.checksum:
        raise IntegrityError(
            f"{operation}: OSS stored bytes with the CRC-64 {checksum}, but {body.checksum} was sent",
            status=response.status,
            request_id=response.headers.get("x-oss-request-id"),
            retryable=retryable,
        )
    return checksum


def parse_body(response: Response, parse: Callable[[bytes], _Parsed], operation: str) -> _Parsed:
    """Parse the document in the body. Raises ServerFailed if it is invalid."""
    try:
        return parse(response.body)
    except BadDocument as error:
        raise invalid_response(response, operation, str(error)) from error


def invalid_response(response: Response, operation: str, why: str) -> ServerFailed:
    """
    Return the error for a response that can't be used.

    Retryable, since it may have been truncated on the way.
    """
    return ServerFailed(
        f"{operation}: invalid response: {why}",
        status=response.status,
        request_id=response.headers.get("x-oss-request-id"),
    )
