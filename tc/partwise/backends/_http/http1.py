"""
Build the heads of HTTP/1.1 requests, and read responses.

Every length that is read has a limit. urllib3 only makes the connections; see `client`. Its request path costs too much
for small parts: for a part of 100 KiB it takes some 170 to 260 microseconds of CPU time, that of http.client some 80 to
110, this module some 30. With four threads, which compete for the GIL, the rates are 4,000, 10,000 and 30,000 parts per
second. Not supported, because object storage does not need it: redirects, cookies, compressed responses, pipelining on
one connection.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from attrs import define

HEAD_BYTES_MAX = 64 * 1024

#: A storage service sends some fifteen.
HEADERS_MAX = 256

#: The longest document is a page of 1,000 uploads with long, percent-encoded keys: some 4 MiB.
BODY_BYTES_MAX = 8 * 1024 * 1024

_RECEIVE = 64 * 1024
_INTERIM_MAX = 8


class ProtocolError(Exception):
    """The response is not valid HTTP, or incomplete; the message says why."""


class NotHTTP(ProtocolError):
    """The first bytes received are not HTTP: the peer speaks another protocol."""


class ResponseTooLarge(ProtocolError):
    """The response exceeds a limit."""


@define(frozen=True)
class Response:
    """An HTTP response."""

    status: int
    headers: Mapping[str, str]  # by lower-case name; the values of a repeated name are joined by a comma
    body: bytes  # the body, b"" if there is none


def request_head(method: str, target: str, fixed: str, headers: Mapping[str, str], length: int | None) -> bytes:
    """
    Build the request line and the headers of a request.

    Args:
        method: the HTTP method.
        target: the request target, fully encoded; it is sent unchanged.
        fixed: header lines that are the same for every request, each with its line end.
        headers: the other headers.
        length: the length of the body in bytes; None for a request without a body.

    Raises:
        ValueError: a value contains a line end or a character outside latin-1.
    """
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    framing = "" if length is None else f"Content-Length: {length}\r\n"
    # A line end in a value would inject a header, or a second request.
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or not target.isprintable():
        raise ValueError("a header or the target holds a line end or another control character")
    return f"{method} {target} HTTP/1.1\r\n{fixed}{lines}{framing}\r\n".encode("latin-1")


def read_response(receive: Callable[[int], bytes], method: str) -> tuple[Response, bool]:
    """
    Read a response from a connection.

    Args:
        receive: returns up to N bytes, b"" at the end of the connection. Its exceptions propagate.
        method: the method of the request. After a successful CONNECT, the connection is the tunnel's.

    Returns:
        The response, and whether the connection can be used for another request.

    Raises:
        ResponseTooLarge: the response exceeds a limit.
        NotHTTP: the first bytes are not those of an HTTP response.
        ProtocolError: the response is not valid HTTP, or the connection ended too early.
    """
    reader = _Reader(receive)
    reader.check_start(b"HTTP/")
    for _ in range(_INTERIM_MAX):
        version, status, headers = _parse_head(reader.read_until(b"\r\n\r\n", HEAD_BYTES_MAX))
        if status >= 200:
            break
    else:
        raise ProtocolError("too many 1xx responses")
    if method == "CONNECT" and status < 300:
        return Response(status, headers, b""), reader.is_drained
    body, framed = _read_body(reader, method, status, headers)
    options = _connection_options(headers.get("connection", ""))
    persistent = "close" not in options and (version == "1.1" or "keep-alive" in options)
    return Response(status, headers, body), framed and persistent and reader.is_drained


@lru_cache(maxsize=8)
def _connection_options(value: str) -> frozenset[str]:
    return frozenset(option.strip().lower() for option in value.split(","))


class _Reader:
    """Read from a connection with a buffer."""

    __slots__ = ("_buffer", "_position", "_receive")

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive
        self._buffer = b""
        self._position = 0  # of the first unread byte in the buffer

    @property
    def is_drained(self) -> bool:
        """Whether everything that was received has been read."""
        return self._position == len(self._buffer)

    def check_start(self, expected: bytes) -> None:
        """Receive until the first bytes are known to be `expected`; consume none."""
        while not self._buffer.startswith(expected):
            if not expected.startswith(self._buffer):
                raise NotHTTP(f"it begins with {self._buffer[:_SHOWN]!r}, which is not HTTP")
            self._buffer += self._receive_some()

    def read_until(self, separator: bytes, limit: int) -> bytes:
        """Read the bytes before `separator`, and skip the separator."""
        searched = self._position
        while (found := self._buffer.find(separator, searched)) < 0:
            held = len(self._buffer) - self._position
            if held > limit:
                raise ResponseTooLarge(f"a line or a head in it has more than {limit} bytes")
            received = self._receive_some()
            self._buffer = self._buffer[self._position :] + received
            self._position = 0
            searched = max(0, held - len(separator) + 1)
        data = self._buffer[self._position : found]
        self._position = found + len(separator)
        return data

    def read_exactly(self, size: int) -> bytes:
        """Read the next `size` bytes."""
        end = self._position + size
        if end <= len(self._buffer):
            data = self._buffer[self._position : end]
            self._position = end
            return data
        # One growing buffer: a list of the pieces received would take up to fifty times the memory if they are tiny.
        gathered = self._take_buffer()
        while missing := size - len(gathered):
            received = self._receive(min(missing, _RECEIVE))
            if not received:
                raise ProtocolError(f"the connection was closed {missing} bytes before the end of the response")
            gathered += received
        return bytes(gathered)

    def read_all(self, limit: int) -> bytes:
        """Read until the end of the connection."""
        gathered = self._take_buffer()
        while received := self._receive(_RECEIVE):
            gathered += received
            if len(gathered) > limit:
                raise _body_too_large()
        return bytes(gathered)

    def _take_buffer(self) -> bytearray:
        gathered = bytearray(self._buffer[self._position :])
        self._buffer, self._position = b"", 0
        return gathered

    def _receive_some(self) -> bytes:
        received = self._receive(_RECEIVE)
        if not received:
            raise ProtocolError(
                "the connection was closed in the middle of the response"
                if self._buffer
                else "the connection was closed without a response"
            )
        return received


#: How much of an unexpected response a message shows: enough to recognise a protocol, too little to contain a secret.
_SHOWN = 8


# Names are approximately the tokens of RFC 9110. A bare CR or LF in a line is refused: another reader would see the
# start of the next header there (response splitting).
_HEAD = re.compile(r"HTTP/(1\.[01]) ([0-9]{3})(?: [^\r\n]*)?\r\n((?:[!-9;-~]+:[^\r\n]*\r\n)*)")
_HEADER = re.compile(r"([!-9;-~]+):[ \t]*([^\r\n]*)")


def _parse_head(head: bytes) -> tuple[str, int, dict[str, str]]:
    text = head.decode("latin-1") + "\r\n"
    parsed = _HEAD.fullmatch(text)
    if parsed is None:
        raise ProtocolError(_head_problem(text))
    version, code, lines = parsed.groups()
    fields = _HEADER.findall(lines)
    if len(fields) > HEADERS_MAX:
        raise ResponseTooLarge(f"it has more than {HEADERS_MAX} headers")
    if " \r" in lines or "\t\r" in lines:
        fields = [(name, value.rstrip(" \t")) for name, value in fields]
    headers = {name.lower(): value for name, value in fields}
    if len(headers) < len(fields):
        headers = _join_repeated(fields)
    return version, int(code), headers


def _join_repeated(fields: list[tuple[str, str]]) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for name, value in fields:
        values.setdefault(name.lower(), []).append(value)
    return {name: ", ".join(found) for name, found in values.items()}


def _head_problem(text: str) -> str:
    """Describe why a head is invalid."""
    status_line, *lines = text.split("\r\n")[:-1]
    if not _HEAD.fullmatch(f"{status_line}\r\n"):
        return f"its first line begins with {status_line[:_SHOWN]!r}, and is not a status line"
    number = next(n for n, line in enumerate(lines, 2) if not _HEAD.fullmatch(f"HTTP/1.1 200\r\n{line}\r\n"))
    return f"line {number} of its head is not a header"


def _read_body(reader: _Reader, method: str, status: int, headers: Mapping[str, str]) -> tuple[bytes, bool]:
    """
    Read the body; also return whether its end was marked.

    A body without such a mark ends with the connection.
    """
    if method == "HEAD" or status in (204, 304):
        return b"", True
    coding = headers.get("transfer-encoding")
    length = headers.get("content-length")
    if coding is not None:
        if length is not None:
            raise ProtocolError("ambiguous framing: it has both Transfer-Encoding and Content-Length")
        if coding.lower() != "chunked":
            raise ProtocolError("its Transfer-Encoding is not supported")
        return _read_chunked(reader), True
    if length is None:
        return reader.read_all(BODY_BYTES_MAX), False
    if not (length.isascii() and length.isdigit()):
        raise ProtocolError("its Content-Length is not a number")
    if len(length) > 12 or int(length) > BODY_BYTES_MAX:
        raise _body_too_large()
    return reader.read_exactly(int(length)), True


def _read_chunked(reader: _Reader) -> bytes:
    # The framing counts against the limit, too: it may be many times larger than the data.
    body, framing = bytearray(), 0
    while True:
        line = reader.read_until(b"\r\n", HEAD_BYTES_MAX)
        framing += len(line) + 4
        size = _chunk_size(line)
        if size == 0:
            break
        if len(body) + size + framing > BODY_BYTES_MAX:
            raise _body_too_large()
        body += reader.read_exactly(size)
        if reader.read_exactly(2) != b"\r\n":
            raise ProtocolError("a chunk is longer than its declared length")
    trailer = 0
    while line := reader.read_until(b"\r\n", HEAD_BYTES_MAX):
        trailer += len(line)
        if trailer > HEAD_BYTES_MAX:
            raise ResponseTooLarge(f"its trailer has more than {HEAD_BYTES_MAX} bytes")
    return bytes(body)


# int() alone would accept a sign, underscores and any length.
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")


def _chunk_size(line: bytes) -> int:
    text = line.partition(b";")[0].strip()
    if not _CHUNK_SIZE.fullmatch(text):
        raise ProtocolError("the length of a chunk is not a number")
    return int(text, 16)


def _body_too_large() -> ResponseTooLarge:
    return ResponseTooLarge(f"it has more than {BODY_BYTES_MAX} bytes")
