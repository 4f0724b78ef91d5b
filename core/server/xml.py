"""Write XML documents, and read lists of parts and of objects in requests."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from xml.parsers import expat
from xml.sax.saxutils import escape

from partwise.server.errors import ServiceError, bad_argument
from partwise.server.messages import ServerRequest

#: An element: its name, and its text or its children.
Node = tuple[str, "str | Sequence[Node]"]

# 10,000 parts have some 30,000 elements, three levels deep.
_ELEMENTS_MAX = 100_000
_DEPTH_MAX = 8
_FIELD_LENGTH_MAX = 1024
_NUMBER_DIGITS_MAX = 9

# The texts that a boolean can have in XML Schema.
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(root: str, content: str | Sequence[Node]) -> bytes:
    """
    Return an XML document.

    Characters that XML does not allow are replaced by U+FFFD; clients avoid that by ``encoding-type=url``.
    """
    text = _NOT_XML.sub("\ufffd", _element(root, content))
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()


def _element(name: str, content: str | Sequence[Node]) -> str:
    if isinstance(content, str):
        inner = escape(content, {"\r": "&#13;"})  # a parser reads one that is not escaped as a line feed
    else:
        inner = "".join([_element(*child) for child in content])
    return f"<{name}>{inner}</{name}>" if inner else f"<{name} />"


def boolean(*, value: bool) -> str:
    """Return a boolean in the format of XML documents."""
    return "true" if value else "false"


def key_encoder(request: ServerRequest, quote: Callable[[str], str]) -> Callable[[str], str]:
    """
    Return the function that encodes keys for a response.

    It is `quote`, that of the dialect, if the request has an ``encoding-type``.

    Raises:
        ServiceError: InvalidArgument: the encoding type is not ``url``.
    """
    encoding_type = request.param("encoding-type")
    if encoding_type not in (None, "", "url"):
        raise bad_argument("encoding-type", encoding_type, "Invalid Encoding Method specified in Request.")
    return quote if encoding_type else (lambda key: key)


def encoding_node(request: ServerRequest) -> tuple[Node, ...]:
    """Return the element that names the encoding of keys, if the request has one."""
    encoding_type = request.param("encoding-type")
    return (("EncodingType", encoding_type),) if encoding_type else ()


def parse_part_list(body: bytes) -> list[tuple[int, str]]:
    """
    Return the part numbers and ETags of a CompleteMultipartUpload document.

    They are in document order. The ETags have no quotes.

    Raises:
        ServiceError: MalformedXML.
    """
    return [number_and_etag(part) for part in parse_parts(body)]


def number_and_etag(part: Mapping[str, str]) -> tuple[int, str]:
    """
    Return the number of a part of `parse_parts`, and its ETag without quotes.

    Raises:
        ServiceError: MalformedXML: it has no number.
    """
    return _part_number(part["PartNumber"]), part["ETag"].strip().strip('"')


def parse_parts(body: bytes) -> list[Mapping[str, str]]:
    """
    Return the parts of a CompleteMultipartUpload document, in document order.

    Each is a mapping from the names of its elements to their texts. It has a PartNumber and an ETag.

    Raises:
        ServiceError: MalformedXML.
    """
    return _read_list(body, "CompleteMultipartUpload", "Part", {"PartNumber", "ETag"}).entries


def parse_deletion(body: bytes) -> tuple[list[str], bool]:
    """
    Return the keys of a DeleteObjects document, and whether it is quiet.

    The keys are in document order. The response to a quiet one lists only what could not be deleted.

    Raises:
        ServiceError: MalformedXML.
    """
    document = _read_list(body, "Delete", "Object", {"Key"})
    quiet = _BOOLEANS.get(document.settings.get("Quiet", "false").strip())
    if quiet is None:
        raise ServiceError("MalformedXML")
    return [entry["Key"] for entry in document.entries], quiet


def _read_list(body: bytes, root: str, name: str, required: set[str]) -> _ListReader:
    reader = _ListReader(root, name)
    try:
        reader.read(body)
    except (expat.ExpatError, LookupError, ValueError) as error:  # LookupError and ValueError: an unknown encoding
        raise ServiceError("MalformedXML") from error
    if not reader.entries or not all(entry.keys() >= required for entry in reader.entries):
        raise ServiceError("MalformedXML")
    return reader


def _part_number(text: str) -> int:
    """Return a part number; raise a MalformedXML error if it is none."""
    number = text.strip()
    if not (number.isascii() and number.isdigit() and len(number) <= _NUMBER_DIGITS_MAX):
        raise ServiceError("MalformedXML")
    return int(number)


class _ListReader:
    """
    Reads a document that is a list, as a stream of events.

    It builds no tree, however deep the nesting. Its entries are the elements called `name` in the one called `root`,
    and its settings the other elements there.
    """

    def __init__(self, root: str, name: str) -> None:
        self.entries: list[Mapping[str, str]] = []
        self.settings: dict[str, str] = {}
        self._root = root
        self._name = name
        self._path: list[str] = []
        self._elements = 0
        self._fields: dict[str, str] = {}

    def read(self, body: bytes) -> None:
        parser = expat.ParserCreate(namespace_separator="}")
        # Nested entities can expand until memory is exhausted. No client sends a document type declaration.
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._begin
        parser.CharacterDataHandler = self._text
        parser.EndElementHandler = self._end
        parser.Parse(body, True)

    def _refuse(self, *_: object) -> None:
        raise ServiceError("MalformedXML", "A document type declaration is not allowed.")

    def _begin(self, tag: str, _: object) -> None:
        self._elements += 1
        self._path.append(tag.rpartition("}")[2])
        if self._elements > _ELEMENTS_MAX or len(self._path) > _DEPTH_MAX:
            raise ServiceError("MalformedXML", "The document has too many elements, or is nested too deeply.")
        if len(self._path) == 1 and self._path != [self._root]:
            raise ServiceError("MalformedXML")
        fields = self._fields_here()
        if fields is not None:
            fields[self._path[-1]] = ""

    def _text(self, text: str) -> None:
        fields = self._fields_here()
        if fields is not None:
            fields[self._path[-1]] += text
            if len(fields[self._path[-1]]) > _FIELD_LENGTH_MAX:
                raise ServiceError("MalformedXML", "The text of an element is too long.")

    def _end(self, _: object) -> None:
        if self._path[1:] == [self._name]:
            self.entries.append(self._fields)
            self._fields = {}
        self._path.pop()

    def _fields_here(self) -> dict[str, str] | None:
        """Return the mapping that has the text of the current element, or None."""
        in_entry = self._path[1:2] == [self._name]
        if len(self._path) == 3 and in_entry:
            return self._fields
        return self.settings if len(self._path) == 2 and not in_entry else None
