"""The XML that goes out, and the one document that comes in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import quote
from xml.etree import ElementTree as ET
from xml.parsers import expat

from partwise.server.oss.errors import OSSError, bad_argument

#: An element: its name, and its text or its children.
Node = tuple[str, "str | Sequence[Node]"]

_LAST_SECOND = 253_402_300_799  # of the year 9999
# 10,000 parts have some 30,000 elements, three levels deep.
_ELEMENTS_MAX = 100_000
_DEPTH_MAX = 8
_FIELD_LENGTH_MAX = 1024
_NUMBER_DIGITS_MAX = 9

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(root: str, content: str | Sequence[Node]) -> bytes:
    """An XML document. Characters that XML can't hold become U+FFFD, which is what ``encoding-type=url`` is for."""
    text = ET.tostring(_element(root, content), encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()


def _element(name: str, content: str | Sequence[Node]) -> ET.Element:
    element = ET.Element(name)
    if isinstance(content, str):
        element.text = _NOT_XML.sub("\ufffd", content)
    else:
        element.extend(_element(*child) for child in content)
    return element


def error_document(error: OSSError, request_id: str, host: str) -> bytes:
    """The document that says why a request was refused."""
    children: list[Node] = [
        ("Code", error.code),
        ("Message", error.message),
        ("RequestId", request_id),
        ("HostId", host),
        *error.elements.items(),
    ]
    if error.ec:
        children += [("EC", error.ec), ("RecommendDoc", f"https://api.aliyun.com/troubleshoot?q={error.ec}")]
    return document("Error", children)


def xml_time(seconds: float) -> str:
    """Seconds since 1970 as XML documents have them: whole seconds, written as thousandths, as clients expect."""
    # What a client sends may lie outside of what a date can be on every platform; then the nearest one is shown.
    moment = datetime.fromtimestamp(min(max(seconds, 0), _LAST_SECOND), UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.000Z"


def boolean(*, value: bool) -> str:
    """A truth as XML documents have it."""
    return "true" if value else "false"


def key_encoder(encoding_type: str | None) -> Callable[[str], str]:
    """
    How keys are written in a response.

    Args:
        encoding_type: the request's ``encoding-type``, of which ``url`` alone means something.

    Raises:
        OSSError: InvalidArgument: it is anything else.
    """
    if encoding_type not in (None, "", "url"):
        raise bad_argument("encoding-type", encoding_type, "Invalid Encoding Method specified in Request.")
    return (lambda key: quote(key, safe="")) if encoding_type else (lambda key: key)


def encoding_node(encoding_type: str | None) -> tuple[Node, ...]:
    """The element that says how keys are written, where they are."""
    return (("EncodingType", encoding_type),) if encoding_type else ()


def listed_parts(body: bytes) -> list[tuple[int, str]]:
    """
    The part numbers and ETags (without quotes) of a CompleteMultipartUpload document, in its order.

    Raises:
        OSSError: MalformedXML.
    """
    reader = _PartsReader()
    try:
        reader.read(body)
    except (expat.ExpatError, LookupError, ValueError) as error:  # the last two: an unknown encoding
        raise OSSError("MalformedXML") from error
    if not reader.parts:
        raise OSSError("MalformedXML")
    return reader.parts


class _PartsReader:
    """Reads a CompleteMultipartUpload document piece by piece; no tree of it is made, however it is nested."""

    def __init__(self) -> None:
        self.parts: list[tuple[int, str]] = []
        self._path: list[str] = []
        self._elements = 0
        self._fields: dict[str, str] = {}

    def read(self, body: bytes) -> None:
        parser = expat.ParserCreate(namespace_separator="}")
        # An entity that names itself twice, many levels deep, fills the memory. No client sends a document type.
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._begin
        parser.CharacterDataHandler = self._text
        parser.EndElementHandler = self._end
        parser.Parse(body, True)

    def _refuse(self, *_: object) -> None:
        raise OSSError("MalformedXML", "A document type is not allowed.")

    def _begin(self, tag: str, _: object) -> None:
        self._elements += 1
        self._path.append(tag.rpartition("}")[2])
        if self._elements > _ELEMENTS_MAX or len(self._path) > _DEPTH_MAX:
            raise OSSError("MalformedXML", "The document has too many elements, or they are nested too deep.")
        if len(self._path) == 1 and self._path != ["CompleteMultipartUpload"]:
            raise OSSError("MalformedXML")
        if self._is_field():
            self._fields[self._path[-1]] = ""

    def _text(self, text: str) -> None:
        if self._is_field():
            self._fields[self._path[-1]] += text
            if len(self._fields[self._path[-1]]) > _FIELD_LENGTH_MAX:
                raise OSSError("MalformedXML", "A part number or an ETag is too long.")

    def _end(self, _: object) -> None:
        if self._path[1:] == ["Part"]:
            self.parts.append(_part(self._fields))
            self._fields = {}
        self._path.pop()

    def _is_field(self) -> bool:
        return len(self._path) == 3 and self._path[1] == "Part"


def _part(fields: Mapping[str, str]) -> tuple[int, str]:
    number, etag = fields["PartNumber"].strip(), fields["ETag"].strip()
    if not (number.isascii() and number.isdigit() and len(number) <= _NUMBER_DIGITS_MAX):
        raise OSSError("MalformedXML")
    return int(number), etag.strip('"')
