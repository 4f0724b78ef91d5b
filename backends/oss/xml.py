"""
The XML documents of the protocol: written, and read with suspicion.

Elements are found by their local name, since the service writes its namespace on some documents and not on others. A
document type declaration is refused: no document of the protocol has one, and all attacks by entities need it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Generic, TypeVar
from urllib.parse import unquote
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from attrs import define

from partwise.model import PendingUpload, UploadedPart

_CRC64_MAX = 2**64 - 1

#: Entries of one page: what the protocol allows, however few were asked for.
_ENTRIES_MAX = 1000

#: Elements of one document, and how deep they stand in each other. A page of uploads has five thousand, four deep at
#: most; what is tiny on the wire takes a hundred bytes of memory each.
_ELEMENTS_MAX = 50_000
_DEPTH_MAX = 16

#: Characters of one tag, and how many tags may have attributes. The service writes a namespace, and no more.
_TAG_MAX = 4096
_WITH_ATTRIBUTES_MAX = 16

#: Characters of an upload id or an ETag (the service's have 32), bytes of a key (1023). They are kept, and sent again.
NAME_MAX = 1024

_PART_NUMBER_MAX = 10_000

#: In bytes: more than any object can have.
_SIZE_MAX = 10**15

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
    upload_id = _name(_children(_root(data, "InitiateMultipartUploadResult")), "UploadId")
    if not upload_id:
        raise BadDocument("it has no upload id")
    return upload_id


def parse_completed(data: bytes) -> str | None:
    """The ETag of the object that was made, if the document says it."""
    return bare_etag(_name(_children(_root(data, "CompleteMultipartUploadResult")), "ETag"))


def parse_parts(data: bytes) -> Page[UploadedPart, int]:
    """One page of parts; its marker is a part number."""
    root = _root(data, "ListPartsResult")
    page = _children(root)
    parts = tuple([_part(_children(element)) for element in _all(root, "Part")])
    if not _truncated(page):
        return Page(parts, None)
    return Page(parts, _number(page, "NextPartNumberMarker", _PART_NUMBER_MAX))


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
        return Page(uploads, (_key(decoded(page.get("NextKeyMarker", ""))), _name(page, "NextUploadIdMarker")))
    except UnicodeDecodeError as error:
        raise BadDocument("a key in it is not UTF-8") from error


def parse_error(data: bytes) -> dict[str, str]:
    """All that an error document says, by element name."""
    return {name: text.strip() for name, text in _children(_root(data, "Error")).items()}


def bare_etag(etag: str) -> str | None:
    """
    An ETag without the quotes that some answers have around it; None for an empty one.

    What compresses or caches on the way may have marked it as a weak one, ``W/"..."``. The service knows it without.
    """
    etag = etag.strip()
    if etag[:3] in ('W/"', 'w/"'):
        etag = etag[2:]
    return etag.strip('"') or None


def crc64_of(text: str | None) -> int | None:
    """A CRC-64 as the protocol writes it, in decimal; None where there is none."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and (value := int(text)) <= _CRC64_MAX):
        raise BadDocument("its checksum is not a CRC-64")
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
    if text.count("<") > 2 * _ELEMENTS_MAX or _LONG_TAG.search(text):
        raise BadDocument(f"it has more than {_ELEMENTS_MAX} elements, or a tag of more than {_TAG_MAX} characters")
    if len(_ATTRIBUTES.findall(text)) > _WITH_ATTRIBUTES_MAX:
        raise BadDocument(f"more than {_WITH_ATTRIBUTES_MAX} of its elements have attributes")
    try:
        root = ET.fromstring(text)  # noqa: S314  # what makes it unsafe was refused above
    except ET.ParseError as error:
        raise BadDocument(f"it is not XML ({error.code} at {error.position})") from error
    except ValueError as error:
        raise BadDocument("it is not XML") from error
    level, depth = [root], 0
    while level:
        depth += 1
        if depth > _DEPTH_MAX:
            raise BadDocument(f"its elements are nested more than {_DEPTH_MAX} deep")
        level = [child for element in level for child in element]
    if _local(root.tag) != name:
        raise BadDocument(f"its root is not {name!r}")
    return root


# Neither looks beyond the next tag, so that both are linear.
_LONG_TAG = re.compile(f"<[^<>]{{{_TAG_MAX}}}")
_ATTRIBUTES = re.compile("<[^<>]*=")


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _all(root: ET.Element, name: str) -> list[ET.Element]:
    found = [element for element in root if _local(element.tag) == name]
    if len(found) > _ENTRIES_MAX:
        raise BadDocument(f"it has more than {_ENTRIES_MAX} entries, and no page has")
    return found


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


def _name(children: dict[str, str], name: str) -> str:
    """A text that is sent again as it is."""
    text = _text(children, name)
    if len(text) > NAME_MAX:
        raise BadDocument(f"its {name} has more than {NAME_MAX} characters")
    return text


def _key(key: str) -> str:
    if len(key.encode("utf-8", "surrogatepass")) > NAME_MAX:
        raise BadDocument(f"a key in it has more than {NAME_MAX} bytes")
    return key


def _number(children: dict[str, str], name: str, most: int) -> int:
    text = _text(children, name)
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) <= most):
        raise BadDocument(f"its {name} is not a number up to {most}")
    return int(text)


def _part(children: dict[str, str]) -> UploadedPart:
    number, etag = _number(children, "PartNumber", _PART_NUMBER_MAX), bare_etag(_name(children, "ETag"))
    if number < 1 or etag is None:
        raise BadDocument("a part in it has no number or no ETag")
    return UploadedPart(number, _number(children, "Size", _SIZE_MAX), etag, crc64_of(_text(children, "HashCrc64ecma")))


def _upload(children: dict[str, str], decoded: Callable[[str], str]) -> PendingUpload:
    # White space belongs to a key, so it is not stripped.
    key, upload_id = _key(decoded(children.get("Key", ""))), _name(children, "UploadId")
    try:
        initiated = datetime.fromisoformat(_text(children, "Initiated"))
    except ValueError as error:
        raise BadDocument("an upload in it has no time") from error
    if not key or not upload_id or initiated.tzinfo is None:
        raise BadDocument("an upload in it has no key, no id or no time zone")
    return PendingUpload(key, upload_id, initiated)
