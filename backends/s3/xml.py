"""The XML documents of S3, as far as they differ from those of services like it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import unquote, unquote_plus

from partwise.backends._http.xml import BadDocument, completed_texts, parse_etag, root_name
from partwise.backends._http.xml import parse_parts as _parse_parts
from partwise.backends._http.xml import parse_uploads as _parse_uploads
from partwise.checksums import Checksum
from partwise.model import PendingUpload, UploadedPart
from partwise.paging import ResultPage

#: The names of algorithms in headers and documents.
ALGORITHM_NAMES: Mapping[str, str] = {"crc64nvme": "CRC64NVME", "crc32c": "CRC32C"}

_FULL_OBJECT = "FULL_OBJECT"


def is_error(data: bytes) -> bool:
    """
    Return whether a document says that the request failed.

    S3 begins its response to a long request, with status 200, before it knows the outcome.
    """
    return root_name(data) == "Error"


def parse_completed(data: bytes, checksum: Checksum | None) -> tuple[str | None, int | None]:
    """Return the ETag and the checksum of the object that was completed."""
    children = completed_texts(data)
    return parse_etag(children.get("ETag", "")), _checksum(children, checksum)


def parse_parts(data: bytes, checksum: Checksum | None) -> ResultPage[UploadedPart, int]:
    """
    Return one page of parts; the marker is a part number.

    S3 always says whether a page is the last. Servers that leave out what is false, such as rclone, do not; the SDKs of
    AWS take that for the last page. So does this, unless the page has a marker, which would contradict it.
    """
    return _parse_parts(data, lambda children: _checksum(children, checksum), always_says_whether_last=False)


def parse_uploads(data: bytes, *, plus_is_space: bool) -> ResultPage[PendingUpload, tuple[str, str]]:
    """
    Return one page of pending uploads; the marker is a key and an upload id.

    One that does not say whether it is the last is taken as in `parse_parts`.
    """
    decode: Callable[..., str] = unquote_plus if plus_is_space else unquote
    return _parse_uploads(data, decode, always_says_whether_last=False)


def parse_checksum(text: str | None, checksum: Checksum) -> int | None:
    """
    Return a checksum in base64; None if there is none.

    One that is composed of those of the parts, such as ``AAAAAA==-3``, does not count: it is not that of the bytes.
    """
    text = (text or "").strip()
    if not text or "-" in text:
        return None
    try:
        return checksum.from_base64(text)
    except ValueError as error:
        raise BadDocument(f"its checksum is not a {checksum.name}") from error


def _checksum(children: Mapping[str, str], checksum: Checksum | None) -> int | None:
    if checksum is None or children.get("ChecksumType", _FULL_OBJECT).strip() != _FULL_OBJECT:
        return None
    return parse_checksum(children.get(f"Checksum{ALGORITHM_NAMES[checksum.name]}"), checksum)
