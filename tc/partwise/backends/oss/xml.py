"""
The XML documents of OSS, as far as they differ from those of S3.

`partwise.backends._http.xml` writes and parses what they have in common.
"""

from __future__ import annotations

from collections.abc import Mapping

from partwise.backends._http.xml import (
    NAME_MAX,
    BadDocument,
    CompleteDocument,
    parse_completed,
    parse_error_document,
    parse_etag,
    parse_initiated,
    parse_uploads,
)
from partwise.backends._http.xml import parse_parts as _parse_parts
from partwise.model import UploadedPart
from partwise.paging import ResultPage

__all__ = ["NAME_MAX", "BadDocument", "CompleteDocument"]
__all__ += ["parse_completed", "parse_crc64", "parse_error_document", "parse_etag", "parse_initiated"]
__all__ += ["parse_parts", "parse_uploads"]

_CRC64_MAX = 2**64 - 1


def parse_parts(data: bytes) -> ResultPage[UploadedPart, int]:
    """Return one page of parts; the marker is a part number."""
    return _parse_parts(data, _checksum)


def parse_crc64(text: str | None) -> int | None:
    """Return a CRC-64, which OSS writes in decimal; None if there is none."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and (value := int(text)) <= _CRC64_MAX):
        raise BadDocument("its checksum is not a CRC-64")
    return value


def _checksum(children: Mapping[str, str]) -> int | None:
    return parse_crc64(children.get("HashCrc64ecma", "").strip())
