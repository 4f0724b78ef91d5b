"""The XML that goes out, and the one document that comes in."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from urllib.parse import quote
from xml.etree import ElementTree as ET

from partwise.testing.oss_server.errors import OSSError, bad_argument

#: An element: its name, and its text or its children.
Node = tuple[str, "str | Sequence[Node]"]

_LAST_SECOND = 253_402_300_799  # of the year 9999
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
    How keys are written in an answer.

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
    # An entity that names itself twice, many levels deep, fills the memory. No client sends a document type.
    if b"<!DOCTYPE" in body:
        raise OSSError("MalformedXML", "A document type is not allowed.")
    try:
        root = ET.fromstring(body)  # noqa: S314 -- without a document type there are no entities to expand
        parts = [_part(child) for child in root if _local(child.tag) == "Part"]
    except (ET.ParseError, KeyError, ValueError) as error:
        raise OSSError("MalformedXML") from error
    if _local(root.tag) != "CompleteMultipartUpload" or not parts:
        raise OSSError("MalformedXML")
    return parts


def _part(element: ET.Element) -> tuple[int, str]:
    fields = {_local(child.tag): (child.text or "").strip() for child in element}
    return int(fields["PartNumber"]), fields["ETag"].strip('"')


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
