"""
What the backend takes from successful responses of S3, without secrets.

This is headers and checksums. This module does no I/O.
"""

from __future__ import annotations

import re

from partwise.backends._http.http1 import Response
from partwise.backends._http.responses import ResponseReader
from partwise.backends._http.xml import BadDocument
from partwise.backends.s3.dialects import Dialect
from partwise.backends.s3.xml import parse_checksum
from partwise.checksums import Checksum
from partwise.protocols import Body

#: Reads what all services have in common.
READER = ResponseReader(
    "S3",
    "x-amz-",
    usual_etag=re.compile('"[0-9A-Fa-f]{32}"'),
    # of S3, and of servers that count
    usual_request_id=re.compile("[0-9A-Z]{16}|[0-9A-F]{24}|[0-9]{1,11}"),
)


def checksum_header(checksum: Checksum) -> str:
    """Return the header with a checksum of this algorithm."""
    return f"x-amz-checksum-{checksum.name}"


def checksum_of(response: Response, dialect: Dialect, operation: str) -> int | None:
    """
    Return the checksum of what is stored, None if there is none.

    Raises ServerFailed if it is invalid.
    """
    checksum = dialect.checksum
    if checksum is None:
        return None
    headers = response.headers
    if dialect.reads_checksums_of == "goog":
        values = dict(item.strip().partition("=")[::2] for item in headers.get("x-goog-hash", "").split(","))
        text = values.get(checksum.name)
    elif headers.get("x-amz-checksum-type", "FULL_OBJECT") != "FULL_OBJECT":
        return None
    else:
        text = headers.get(checksum_header(checksum))
    try:
        return parse_checksum(text, checksum)
    except BadDocument as error:
        raise READER.invalid(response, operation, str(error)) from error


def verified_checksum(
    response: Response, body: Body, dialect: Dialect, operation: str, *, retryable: bool = True
) -> int | None:
    """
    Return the checksum of what is stored, None if there is none.

    Raises:
        IntegrityError: it is not that of the body.
        ServerFailed: it is invalid.
    """
    stored = checksum_of(response, dialect, operation)
    if stored is not None and dialect.checksum is not None:
        READER.require_sent_bytes(
            stored, body, response, operation, algorithm=dialect.checksum.name, retryable=retryable
        )
    return stored
