"""
What the backend takes from successful responses of OSS, without secrets.

This is headers, checksums and documents. This module does no I/O.
"""

from __future__ import annotations

import re

from partwise.backends._http.http1 import Response
from partwise.backends._http.responses import ResponseReader
from partwise.backends._http.xml import BadDocument
from partwise.backends.oss.xml import parse_crc64
from partwise.protocols import Body

#: Reads what all services have in common.
READER = ResponseReader(
    "OSS",
    "x-oss-",
    usual_etag=re.compile('"[0-9A-F]{32}"'),
    usual_request_id=re.compile("[0-9A-F]{24}"),
)


def checksum_of(response: Response, operation: str) -> int | None:
    """
    Return the CRC-64 of what is stored, None if there is none.

    Raises ServerFailed if it is invalid.
    """
    try:
        return parse_crc64(response.headers.get("x-oss-hash-crc64ecma"))
    except BadDocument as error:
        raise READER.invalid(response, operation, str(error)) from error


def verified_checksum(response: Response, body: Body, operation: str, *, retryable: bool = True) -> int | None:
    """
    Return the CRC-64 of what is stored, None if there is none.

    Raises:
        IntegrityError: it is not that of the body.
        ServerFailed: it is invalid.
    """
    checksum = checksum_of(response, operation)
    READER.require_sent_bytes(checksum, body, response, operation, algorithm="CRC-64", retryable=retryable)
    return checksum
