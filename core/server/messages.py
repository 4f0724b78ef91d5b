"""
A request as it was sent and a response as it will be, without sockets.

Header values and keys are text in which every byte survives: UTF-8, and what is not UTF-8 as lone surrogates.
Signatures are over bytes, so that the way back must give what was sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

from attrs import define

from partwise.model import KIB

_CHUNK_BYTES = 256 * KIB


def to_text(raw: bytes) -> str:
    """Bytes of the wire as text; `to_bytes` gives the same bytes back."""
    return raw.decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    """The bytes that `to_text` made `text` of."""
    return text.encode("utf-8", "surrogateescape")


def is_text(text: str) -> bool:
    """Whether the text is one that UTF-8 can hold, with no bytes in it that are not."""
    return not any(0xD800 <= ord(sign) <= 0xDFFF for sign in text)


@define(frozen=True)
class Request:
    """
    What came before the body.

    Args:
        method: in upper case.
        target: the request target, exactly as it was sent.
        headers: names in lower case, in the order they came.
        path: the path of the target, percent-decoded once.
        query: the query of the target, decoded, in the order it came; an absent value and an empty one are the same.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    path: str
    query: tuple[tuple[str, str], ...]

    @classmethod
    def parsed(cls, method: str, target: str, headers: Sequence[tuple[str, str]]) -> Request:
        """The request of this method and target, which is in origin form."""
        raw_path, _, raw_query = target.partition("?")
        pairs = (field.partition("=") for field in raw_query.split("&") if field)
        query = tuple((_form_decoded(name), _form_decoded(value)) for name, _, value in pairs)
        path = to_text(unquote_to_bytes(raw_path))
        return cls(method, target, tuple((name.lower(), value) for name, value in headers), path, query)

    def header(self, name: str) -> str | None:
        """The value of this header, in lower case; several are joined by a comma, None where there is none."""
        values = [value for given, value in self.headers if given == name]
        return ",".join(values) if values else None

    def param(self, name: str) -> str | None:
        """The first value of this query parameter, empty where it stands bare; None where there is none."""
        return next((value for given, value in self.query if given == name), None)

    def has_param(self, name: str) -> bool:
        """Whether the query has this parameter, bare or not."""
        return self.param(name) is not None


def _form_decoded(field: str) -> str:
    # In a query a plus is a space: that is how oss2 sends one. In a path it is a plus.
    return to_text(unquote_to_bytes(field.replace("+", " ")))


@define(frozen=True)
class FileSlice:
    """A run of bytes of an open file, as the body of a response."""

    file: BinaryIO
    offset: int
    length: int

    def chunks(self) -> Iterator[bytes]:
        """
        The bytes, piece by piece.

        Raises:
            EOFError: the file has become shorter.
        """
        self.file.seek(self.offset)
        left = self.length
        while left:
            chunk = self.file.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise EOFError(f"the object ended {left} bytes early")
            left -= len(chunk)
            yield chunk


@define(frozen=True)
class ServerResponse:
    """
    What is sent back.

    Args:
        status: the HTTP status.
        headers: all but Content-Length, which follows from the body.
        body: the bytes themselves, or where to read them.
        length: what Content-Length says in place of the body's length, as in the response to HEAD.
        code: the error code where it is a refusal, for the record.
        foreign: it does not come from the service, and has none of its usual headers.
        cut_after: bytes of the raw response, its head included, after which the connection breaks; None: it does not.
        reset: it breaks by a reset rather than by an orderly end.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | FileSlice = b""
    length: int | None = None
    code: str = ""
    foreign: bool = False
    cut_after: int | None = None
    reset: bool = False

    @property
    def body_length(self) -> int:
        """The length of the body in bytes."""
        return self.body.length if isinstance(self.body, FileSlice) else len(self.body)

    def chunks(self) -> Iterator[bytes]:
        """The body, piece by piece."""
        if isinstance(self.body, FileSlice):
            yield from self.body.chunks()
        elif self.body:
            yield self.body

    def close(self) -> None:
        """Let go of the file behind the body, if there is one."""
        if isinstance(self.body, FileSlice):
            self.body.file.close()


class DropConnection(Exception):
    """No response: the connection ends here, by a reset if `reset`."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__()
        self.reset = reset


class EarlyResponse(Exception):
    """This response is sent, and the operation does not take place."""

    def __init__(self, response: ServerResponse) -> None:
        super().__init__()
        self.response = response
