"""
The XML documents of the protocol: written, and read with suspicion.

Elements are found by their local name, since the service writes its namespace on some documents and not on others. A
document type declaration is refused: no document of the protocol has one, and all attacks by entities need it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Generic, TypeVar
from urllib.parse import unquote
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from attrs import define

from partwise.model import PendingUpload, UploadedPart

_CRC64_MAX = 2**64 - 1

_PIECE_BYTES = 64 * 1024


Entry = TypeVar("Entry")
Marker = TypeVar("Marker", int, tuple[str, str])


class BadDocument(Exception):
    """A document is not what it should be; the message says why."""


@define(frozen=True)
class Page(Generic[Entry, Marker]):
    """
    One page of a list.

    Args:
        entries: what is on it.
        next_marker: what to go on after, None on the last page. It only ever grows.
    """

    entries: tuple[Entry, ...]
    next_marker: Marker | None


# --- written ---------------------------------------------------------------------------------------------------------


class CompleteDocument:
    """
    The list of parts that an object shall be made of, piece by piece as it is iterated over.

    Of 10,000 parts it is a megabyte: more than all else that is remembered of them. So it is written twice, once for
    its length and its MD5, and once to be sent.

    Args:
        parts: the parts.
    """

    def __init__(self, parts: Sequence[UploadedPart]) -> None:
        self._parts = parts
        md5, length = hashlib.md5(usedforsecurity=False), 0
        for piece in self:
            md5.update(piece)
            length += len(piece)
        #: In bytes.
        self.length = length
        #: As a header has it.
        self.md5 = base64.b64encode(md5.digest()).decode()

    def __iter__(self) -> Iterator[bytes]:
        piece = bytearray(b"<CompleteMultipartUpload>")
        for part in self._parts:
            listed = f'<Part><PartNumber>{part.part_number}</PartNumber><ETag>"{escape(part.etag)}"</ETag></Part>'
            piece += listed.encode()
            if len(piece) > _PIECE_BYTES:
                yield bytes(piece)
                piece.clear()
        yield bytes(piece + b"</CompleteMultipartUpload>")


# --- read ------------------------------------------------------------------------------------------------------------


def parse_initiated(data: bytes) -> str:
    """The id of the upload that was begun."""
    upload_id = _text(_children(_root(data, "InitiateMultipartUploadResult")), "UploadId")
    if not upload_id:
        raise BadDocument("it names no upload id")
    return upload_id


def parse_completed(data: bytes) -> str | None:
    """The ETag of the object that was made, if the document says it."""
    return bare_etag(_text(_children(_root(data, "CompleteMultipartUploadResult")), "ETag"))


def parse_parts(data: bytes) -> Page[UploadedPart, int]:
    """One page of parts; its marker is a part number."""
    root = _root(data, "ListPartsResult")
    page = _children(root)
    parts = tuple([_part(_children(element)) for element in _all(root, "Part")])
    if not _truncated(page):
        return Page(parts, None)
    return Page(parts, _number(page, "NextPartNumberMarker"))


def parse_uploads(data: bytes) -> Page[PendingUpload, tuple[str, str]]:
    """One page of pending uploads; its marker is a key and an upload id."""
    root = _root(data, "ListMultipartUploadsResult")
    page = _children(root)
    encoded = _text(page, "EncodingType") == "url"

    def decoded(text: str) -> str:
        return unquote(text, errors="strict") if encoded else text

    try:
        uploads = tuple([_upload(_children(element), decoded) for element in _all(root, "Upload")])
        if not _truncated(page):
            return Page(uploads, None)
        # A missing marker is read as an empty one, which does not advance: the reader of pages notices that.
        return Page(uploads, (decoded(page.get("NextKeyMarker", "")), _text(page, "NextUploadIdMarker")))
    except UnicodeDecodeError as error:
        raise BadDocument("a key in it is not UTF-8") from error


def parse_error(data: bytes) -> dict[str, str]:
    """All that an error document says, by element name."""
    return {name: text.strip() for name, text in _children(_root(data, "Error")).items()}


def bare_etag(etag: str) -> str | None:
    """An ETag without the quotes that some answers have around it; None for an empty one."""
    return etag.strip().strip('"') or None


def crc64_of(text: str | None) -> int | None:
    """A CRC-64 as the protocol writes it, in decimal; None where there is none."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and (value := int(text)) <= _CRC64_MAX):
        raise BadDocument(f"{text!r:.40} is no CRC-64")
    return value


def _root(data: bytes, name: str) -> ET.Element:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadDocument("it is not UTF-8") from error
    if "\0" in text or "<!DOCTYPE" in text or "<!ENTITY" in text:
        # A zero is how UTF-16 gives itself away, which the parser recognises whatever it is told, and in which a
        # declaration looks different.
        raise BadDocument("it has a document type declaration")
    try:
        root = ET.fromstring(text)  # noqa: S314  # what makes it unsafe was refused above
    except (ET.ParseError, ValueError) as error:
        raise BadDocument(f"it is no XML ({error})") from error
    if _local(root.tag) != name:
        raise BadDocument(f"its root is {_local(root.tag)[:60]!r}, not {name!r}")
    return root


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _all(root: ET.Element, name: str) -> Iterator[ET.Element]:
    return (element for element in root if _local(element.tag) == name)


def _children(element: ET.Element) -> dict[str, str]:
    return {_local(child.tag): child.text or "" for child in element}


def _text(children: dict[str, str], name: str) -> str:
    return children.get(name, "").strip()


def _truncated(page: dict[str, str]) -> bool:
    said = _text(page, "IsTruncated").lower()
    if said not in ("true", "false"):
        # To take a list for whole that is not would be to send parts that are there, or to miss uploads.
        raise BadDocument("it does not say whether it is the last page")
    return said == "true"


def _number(children: dict[str, str], name: str) -> int:
    text = _text(children, name)
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise BadDocument(f"its {name} is {text!r:.40}, which is no number")
    return int(text)


def _part(children: dict[str, str]) -> UploadedPart:
    number, etag = _number(children, "PartNumber"), bare_etag(_text(children, "ETag"))
    if number < 1 or etag is None:
        raise BadDocument("a part in it has no number or no ETag")
    return UploadedPart(number, _number(children, "Size"), etag, crc64_of(_text(children, "HashCrc64ecma")))


def _upload(children: dict[str, str], decoded: Callable[[str], str]) -> PendingUpload:
    # White space belongs to a key, so it is not stripped.
    key, upload_id = decoded(children.get("Key", "")), _text(children, "UploadId")
    try:
        initiated = datetime.fromisoformat(_text(children, "Initiated"))
    except ValueError as error:
        raise BadDocument("an upload in it has no time") from error
    if not key or not upload_id or initiated.tzinfo is None:
        raise BadDocument("an upload in it has no key, no id or no time zone")
    return PendingUpload(key, upload_id, initiated)
