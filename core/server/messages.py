"""
HTTP requests and responses as values, without sockets.

Header values and keys are text in which every byte survives: UTF-8, with invalid bytes as lone surrogates. Signatures
are computed over bytes, so the text must convert back to exactly the bytes that were sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

from attrs import Factory, define, field

from partwise.model import KIB

_CHUNK_BYTES = 256 * KIB


def to_text(raw: bytes) -> str:
    """Decode bytes from the network; `to_bytes` restores the same bytes."""
    return raw.decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    """Restore the bytes that `to_text` decoded."""
    return text.encode("utf-8", "surrogateescape")


def is_utf8(text: str) -> bool:
    """Return whether the bytes behind the text were valid UTF-8."""
    return text.isascii() or not any(0xD800 <= ord(character) <= 0xDFFF for character in text)


@define(frozen=True)
class ServerRequest:
    """The head of a request."""

    method: str  # in upper case
    raw_target: str  # path and query, exactly as sent
    headers: tuple[tuple[str, str], ...]  # names in lower case, in the order sent
    path: str  # the path, percent-decoded once
    # the decoded query parameters, in the order sent. A parameter without a value has the value ``""``.
    query: tuple[tuple[str, str], ...]
    # the values of the headers by name. An operation looks for dozens of headers that most requests do not have.
    _values: Mapping[str, str] = field(
        default=Factory(lambda self: _joined(self.headers), takes_self=True), init=False, eq=False, repr=False
    )

    @classmethod
    def parsed(cls, method: str, raw_target: str, headers: Sequence[tuple[str, str]]) -> ServerRequest:
        """Parse a request target in origin form."""
        raw_path, _, raw_query = raw_target.partition("?")
        pairs = (parameter.partition("=") for parameter in raw_query.split("&") if parameter)
        query = tuple((_form_decoded(name), _form_decoded(value)) for name, _, value in pairs)
        path = to_text(unquote_to_bytes(raw_path))
        return cls(method, raw_target, tuple((name.lower(), value) for name, value in headers), path, query)

    def header(self, name: str) -> str | None:
        """
        Return the value of a header (name in lower case), or None.

        Repeated headers are joined by commas.
        """
        return self._values.get(name)

    def headers_with(self, prefix: str) -> dict[str, str]:
        """
        Return the headers whose names begin with `prefix`, by the rest of the name.

        Repeated headers are joined by commas.
        """
        return {name.removeprefix(prefix): value for name, value in self._values.items() if name.startswith(prefix)}

    def param(self, name: str) -> str | None:
        """
        Return the first value of a query parameter; None if it is absent.

        A parameter without a value has the value ``""``.
        """
        return next((value for given, value in self.query if given == name), None)

    def has_param(self, name: str) -> bool:
        """Return whether the query has this parameter, with or without a value."""
        return self.param(name) is not None


def _joined(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in headers:
        values[name] = f"{values[name]},{value}" if name in values else value
    return values


def _form_decoded(text: str) -> str:
    # In a query a plus is a space: oss2 encodes spaces like that. In a path it is a plus.
    return to_text(unquote_to_bytes(text.replace("+", " ")))


@define(frozen=True)
class RequestTarget:
    """What a request is addressed to."""

    host: str = ""  # the host without its port, in lower case
    bucket: str | None = None  # None for a request to the service
    key: str | None = None  # None for a request to a bucket
    upload_id: str | None = None  # None if the request names no upload
    part_number: int | None = None  # None if the request names no part


@define(frozen=True)
class FileSlice:
    """A range of bytes of an open file, as the body of a response."""

    file: BinaryIO
    offset: int
    length: int

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes; raise EOFError if the file became shorter."""
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
    A response, before it is sent.

    Args:
        status: the HTTP status.
        headers: all headers but Content-Length, which is derived from the body.
        body: the bytes, or the part of a file to send.
        length: the Content-Length if it is not the length of the body, as in the response to HEAD.
        code: the error code of a refusal, for the recorded request.
        foreign: the response does not come from the service, and gets none of its common headers.
        cut_after: bytes of the raw response, head included, after which the connection ends; None: all is sent.
        reset: end a cut connection by a reset instead of an orderly close.
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
        """Yield the body."""
        if isinstance(self.body, FileSlice):
            yield from self.body.chunks()
        elif self.body:
            yield self.body

    def close(self) -> None:
        """Close the file behind the body, if there is one."""
        if isinstance(self.body, FileSlice):
            self.body.file.close()


class DropConnection(Exception):
    """Send no response: close the connection, by a reset if `reset`."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__()
        self.reset = reset


class EarlyResponse(Exception):
    """Send this response instead of running the operation."""

    def __init__(self, response: ServerResponse) -> None:
        super().__init__()
        self.response = response
