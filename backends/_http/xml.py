"""
The XML documents of S3 and of services like it, with limits.

The part list is written, the others are parsed. Elements are found by their local name, since some services declare a
namespace in some documents only. A document type declaration is refused: no document of a service has one, and all
entity attacks need it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from urllib.parse import unquote
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from partwise.model import PendingUpload, UploadedPart
from partwise.paging import ResultPage

#: Entries of one page: the limit of the protocol, even if fewer were requested.
_ENTRIES_MAX = 1000

#: Elements of one document, and their nesting. A page of uploads has 5,000, up to four deep. In memory an element takes
#: a hundred bytes, however small it is in the document.
_ELEMENTS_MAX = 50_000
_DEPTH_MAX = 16

#: Characters of one tag, and how many tags may have attributes. Services declare a namespace, and nothing else.
_TAG_MAX = 4096
_WITH_ATTRIBUTES_MAX = 16

#: Characters of an upload id or an ETag (those of OSS have 32), bytes of a key (up to 1,024): they are kept and sent
#: again.
NAME_MAX = 1024

_PART_NUMBER_MAX = 10_000

#: Bytes; no object is larger.
_SIZE_MAX = 10**15

_CHUNK_BYTES = 64 * 1024


class BadDocument(Exception):
    """A document is invalid; the message says why."""


# --- writing ---------------------------------------------------------------------------------------------------------


class CompleteDocument:
    """
    The part list of a complete request; iterating yields it in chunks.

    With 10,000 parts it has a megabyte, more than all other state of the upload. So it is generated twice rather than
    kept: once for its `length` and its `md5`, in base64 as a header has it, and once to be sent.
    """

    def __init__(self, parts: Sequence[UploadedPart]) -> None:
        self._parts = parts
        md5, length = hashlib.md5(usedforsecurity=False), 0
        for chunk in self:
            md5.update(chunk)
            length += len(chunk)
        self.length = length
        self.md5 = base64.b64encode(md5.digest()).decode()

    def __iter__(self) -> Iterator[bytes]:
        chunk = bytearray(b"<CompleteMultipartUpload>")
        for part in self._parts:
            element = f'<Part><PartNumber>{part.part_number}</PartNumber><ETag>"{escape(part.etag)}"</ETag></Part>'
            chunk += element.encode()
            if len(chunk) > _CHUNK_BYTES:
                yield bytes(chunk)
                chunk.clear()
        yield bytes(chunk + b"</CompleteMultipartUpload>")


# --- parsing ---------------------------------------------------------------------------------------------------------


def parse_initiated(data: bytes) -> str:
    """Return the id of the upload that was initiated."""
    upload_id = _name(_children(_root(data, "InitiateMultipartUploadResult")), "UploadId")
    if not upload_id:
        raise BadDocument("it has no upload id")
    return upload_id


def parse_completed(data: bytes) -> str | None:
    """Return the ETag of the object that was completed, if the document has it."""
    return parse_etag(completed_texts(data).get("ETag", ""))


def completed_texts(data: bytes) -> dict[str, str]:
    """Return the texts of the document about a completed object, by element name."""
    texts = _children(_root(data, "CompleteMultipartUploadResult"))
    _name(texts, "ETag")
    return texts


def root_name(data: bytes) -> str:
    """Return the name of the root element, "" if it is not a document."""
    found = _ROOT.match(data)
    return "" if found is None else found[1].decode("latin-1")


def parse_parts(
    data: bytes, checksum: Callable[[Mapping[str, str]], int | None], *, always_says_whether_last: bool = True
) -> ResultPage[UploadedPart, int]:
    """
    Return one page of parts; the marker is a part number.

    `checksum` returns that of a part, from the texts of its elements by name. With `always_says_whether_last`, a
    document without IsTruncated is invalid; otherwise it is the last page if it has no marker.
    """
    root = _root(data, "ListPartsResult")
    page = _children(root)
    parts = tuple([_part(_children(element), checksum) for element in _all(root, "Part")])
    # "0" is before the first part: not a marker of a next page.
    marked = _text(page, "NextPartNumberMarker") not in ("", "0")
    if not _truncated(page, optional=not (always_says_whether_last or marked)):
        return ResultPage(parts, None)
    return ResultPage(parts, _number(page, "NextPartNumberMarker", _PART_NUMBER_MAX))


def parse_uploads(
    data: bytes, decode: Callable[..., str] = unquote, *, always_says_whether_last: bool = True
) -> ResultPage[PendingUpload, tuple[str, str]]:
    """
    Return one page of pending uploads; the marker is a key and an upload id.

    `decode` decodes what the service has encoded as in a URL: `unquote`, or `unquote_plus`. For
    `always_says_whether_last`, see `parse_parts`.
    """
    root = _root(data, "ListMultipartUploadsResult")
    page = _children(root)
    encoded = _text(page, "EncodingType") == "url"

    def decoded(text: str) -> str:
        return decode(text, errors="strict") if encoded else text

    try:
        uploads = tuple([_upload(_children(element), decoded) for element in _all(root, "Upload")])
        marked = page.get("NextKeyMarker", "") != "" or _text(page, "NextUploadIdMarker") != ""
        if not _truncated(page, optional=not (always_says_whether_last or marked)):
            return ResultPage(uploads, None)
        # A missing marker becomes an empty one, which does not advance: `list_pages` notices that.
        return ResultPage(uploads, (_key(decoded(page.get("NextKeyMarker", ""))), _name(page, "NextUploadIdMarker")))
    except UnicodeDecodeError as error:
        raise BadDocument("a key in it is not UTF-8") from error


def parse_versions(data: bytes) -> list[tuple[str, str]]:
    """Return the keys and ids on a page of versions and delete markers."""
    root = _root(data, "ListVersionsResult")
    found = [_children(element) for name in ("Version", "DeleteMarker") for element in _all(root, name)]
    return [(_key(one.get("Key", "")), _name(one, "VersionId")) for one in found]


def parse_error_document(data: bytes) -> dict[str, str]:
    """Return the texts of an error document, by element name."""
    return {name: text.strip() for name, text in _children(_root(data, "Error")).items()}


def all_texts(data: bytes) -> dict[str, str]:
    """
    Return the texts of all elements of a document, however deep, by element name.

    Of several elements of one name, it is that of the last.
    """
    return {_local(element.tag): (element.text or "").strip() for element in _root(data, None).iter()}


def parse_etag(text: str) -> str | None:
    """
    Return an ETag without quotes; None if it is empty.

    A proxy that compresses or caches may have turned it into a weak one, ``W/"..."``. Services expect it without that
    mark.
    """
    text = text.strip()
    if text[:3] in ('W/"', 'w/"'):
        text = text[2:]
    return text.strip('"') or None


def _root(data: bytes, name: str | None) -> ET.Element:
    """Parse a document, within limits; with None, its root may have any name."""
    try:
        # A service that keeps a connection alive while it works sends white space, perhaps before the declaration.
        text = data.decode("utf-8-sig").lstrip()
    except UnicodeDecodeError as error:
        raise BadDocument("it is not UTF-8") from error
    if "\0" in text or "<!DOCTYPE" in text or "<!ENTITY" in text:
        # The parser detects UTF-16 even in a str, and a declaration in UTF-16 would pass this check. It contains zeros.
        raise BadDocument("it has a document type declaration")
    if text.count("<") > 2 * _ELEMENTS_MAX or _LONG_TAG.search(text):
        raise BadDocument(f"it has more than {_ELEMENTS_MAX} elements, or a tag of more than {_TAG_MAX} characters")
    if len(_ATTRIBUTES.findall(text)) > _WITH_ATTRIBUTES_MAX:
        raise BadDocument(f"more than {_WITH_ATTRIBUTES_MAX} of its elements have attributes")
    try:
        root = ET.fromstring(text)  # noqa: S314  # entity attacks need a declaration, see above
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
    if name is not None and _local(root.tag) not in (name, _OTHER_ROOTS.get(name)):
        raise BadDocument(f"its root is not {name!r}")
    return root


#: What servers that emulate S3 call the root of a document: rclone and gofakes3, and moto.
_OTHER_ROOTS = {"InitiateMultipartUploadResult": "InitiateMultipartUpload", "ListPartsResult": "ListPartsResponse"}

_ROOT = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?[^>]*\?>)?\s*<(?:[A-Za-z0-9]+:)?([A-Za-z0-9]+)")

# Neither pattern matches beyond the next tag, so both take linear time.
_LONG_TAG = re.compile(f"<[^<>]{{{_TAG_MAX}}}")
_ATTRIBUTES = re.compile("<[^<>]*=")


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _all(root: ET.Element, name: str) -> list[ET.Element]:
    found = [element for element in root if _local(element.tag) == name]
    if len(found) > _ENTRIES_MAX:
        raise BadDocument(f"it has more than {_ENTRIES_MAX} entries")
    return found


def _children(element: ET.Element) -> dict[str, str]:
    return {_local(child.tag): child.text or "" for child in element}


def _text(children: dict[str, str], name: str) -> str:
    return children.get(name, "").strip()


def _truncated(page: dict[str, str], *, optional: bool) -> bool:
    """
    Return whether more pages follow.

    With `optional`, a page that does not say so is the last.
    """
    if optional and "IsTruncated" not in page:
        return False
    truncated = _text(page, "IsTruncated").lower()
    if truncated not in ("true", "false"):
        # A default would be wrong: if an incomplete list counts as complete, parts are sent again, uploads are missed.
        raise BadDocument("it does not say whether it is the last page")
    return truncated == "true"


def _name(children: dict[str, str], name: str) -> str:
    """Return a text that is kept, shown and sent again."""
    text = _text(children, name)
    if len(text) > NAME_MAX:
        raise BadDocument(f"its {name} has more than {NAME_MAX} characters")
    if not text.isprintable():
        raise BadDocument(f"its {name} contains a control character")
    return text


def _key(key: str) -> str:
    if len(key.encode("utf-8", "surrogatepass")) > NAME_MAX:
        raise BadDocument(f"a key in it has more than {NAME_MAX} bytes")
    return key


def _number(children: dict[str, str], name: str, maximum: int) -> int:
    text = _text(children, name)
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) <= maximum):
        raise BadDocument(f"its {name} is not a number up to {maximum}")
    return int(text)


def _part(children: dict[str, str], checksum: Callable[[Mapping[str, str]], int | None]) -> UploadedPart:
    number, etag = _number(children, "PartNumber", _PART_NUMBER_MAX), parse_etag(_name(children, "ETag"))
    if number < 1 or etag is None:
        raise BadDocument("a part in it has no number or no ETag")
    return UploadedPart(number, _number(children, "Size", _SIZE_MAX), etag, checksum(children))


def _upload(children: dict[str, str], decoded: Callable[[str], str]) -> PendingUpload:
    # Not stripped: white space is part of a key.
    key, upload_id = _key(decoded(children.get("Key", ""))), _name(children, "UploadId")
    try:
        initiated = datetime.fromisoformat(_text(children, "Initiated"))
    except ValueError as error:
        raise BadDocument("an upload in it has no time") from error
    if not key or not upload_id or initiated.tzinfo is None:
        raise BadDocument("an upload in it has no key, no id or no time zone")
    return PendingUpload(key, upload_id, initiated)
