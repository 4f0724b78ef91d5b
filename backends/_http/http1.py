"""
One exchange of HTTP/1.1 over a connected socket: a request's head as bytes, and an answer read with limits on all
of it.

urllib3 makes the connections; see `transport`. The exchange is done here because of what it costs: for a part of
100 KiB, urllib3's request path takes some 170 to 260 microseconds of processor time, http.client's some 80 to 110, this
one some 30, and with four threads, which wait for each other's turns in the interpreter, the rates are 4,000, 10,000
and 30,000 parts a second. What is left out is what the protocol of OSS has no use for: redirects, cookies, compressed
and pipelined answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from attrs import define

HEAD_BYTES_MAX = 64 * 1024

#: The service sends some fifteen.
HEADERS_MAX = 256

#: The longest documents are pages of a thousand uploads whose keys are long and percent-encoded: some 4 MiB.
BODY_BYTES_MAX = 8 * 1024 * 1024

#: Statuses of the server's own failures that the next request will meet with, too: it does not know what was asked, or
#: the version of HTTP.
LASTING_FAILURES = frozenset({501, 505})

_RECEIVE = 64 * 1024
_INTERIM_MAX = 8


class BadAnswer(Exception):
    """What came back is no HTTP, or not all of it; the message says what is wrong."""


class NotHTTP(BadAnswer):
    """The first bytes that came back are not those of an HTTP answer: something else is spoken there."""


class TooLong(BadAnswer):
    """The answer is longer than any that the protocol knows."""


@define(frozen=True)
class Answer:
    """
    What a server answered.

    Args:
        status: the HTTP status.
        headers: by lower-case name; the values of a name that occurs twice are joined by a comma.
        body: the body, b"" where there is none.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


def request_head(method: str, target: str, fixed: str, headers: Mapping[str, str], length: int | None) -> bytes:
    """
    A request up to its body.

    Args:
        method: the HTTP method.
        target: what is asked for, fully encoded; it goes out as it is.
        fixed: header lines that are the same each time, each with its line end.
        headers: the others.
        length: of the body in bytes; None for a request that has none.

    Raises:
        ValueError: a line end, or a character beyond latin-1, got into a value. Nothing was sent.
    """
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    framing = "" if length is None else f"Content-Length: {length}\r\n"
    # A value with a line end would be a header of its own, or a request of its own.
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or not target.isprintable():
        raise ValueError("a header or the target holds a line end or another control character")
    return f"{method} {target} HTTP/1.1\r\n{fixed}{lines}{framing}\r\n".encode("latin-1")


def read_answer(receive: Callable[[int], bytes], method: str) -> tuple[Answer, bool]:
    """
    Read an answer from a connection.

    Args:
        receive: gives up to N bytes, b"" at the end of the connection. What it raises is not caught.
        method: of the request that is being answered. After an answer to CONNECT that is a success, the connection is
            the tunnel's.

    Returns:
        The answer, and whether the connection can be used for another request.

    Raises:
        TooLong: it is longer than any that the protocol knows.
        NotHTTP: it does not begin as an HTTP answer does.
        BadAnswer: it is not valid HTTP, or the connection ended before it did.
    """
    reader = _Reader(receive)
    reader.check_start(b"HTTP/")
    for _ in range(_INTERIM_MAX):
        version, status, headers = _parsed_head(reader.until(b"\r\n\r\n", HEAD_BYTES_MAX))
        if status >= 200:
            break
    else:
        raise BadAnswer("there is no end of interim answers")
    if method == "CONNECT" and status < 300:
        return Answer(status, headers, b""), reader.spent
    body, framed = _body(reader, method, status, headers)
    options = _options(headers.get("connection", ""))
    stays = "close" not in options and (version == "1.1" or "keep-alive" in options)
    return Answer(status, headers, body), framed and stays and reader.spent


@lru_cache(maxsize=8)
def _options(connection: str) -> frozenset[str]:
    return frozenset(option.strip().lower() for option in connection.split(","))


class _Reader:
    """Bytes of a connection, as many as are asked for."""

    __slots__ = ("_at", "_buffer", "_receive")

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive
        self._buffer = b""
        self._at = 0  # what comes before was taken

    @property
    def spent(self) -> bool:
        """Whether all that was received was taken."""
        return self._at == len(self._buffer)

    def check_start(self, expected: bytes) -> None:
        """Receive until the first bytes are known to be the expected ones, which are not taken."""
        while not self._buffer.startswith(expected):
            if not expected.startswith(self._buffer):
                raise NotHTTP(f"it begins with {self._buffer[:_SHOWN]!r}, which is not HTTP")
            received = self._receive(_RECEIVE)
            if not received:
                raise BadAnswer("the connection was closed in the middle of the answer" if self._buffer else _NO_ANSWER)
            self._buffer += received

    def until(self, end: bytes, longest: int) -> bytes:
        """What comes before `end`, which is taken off too."""
        searched = self._at
        while (found := self._buffer.find(end, searched)) < 0:
            held = len(self._buffer) - self._at
            if held > longest:
                raise TooLong(f"a line or a head in it has more than {longest} bytes")
            received = self._receive(_RECEIVE)
            if not received:
                raise BadAnswer("the connection was closed in the middle of the answer" if self._buffer else _NO_ANSWER)
            self._buffer = self._buffer[self._at :] + received
            self._at = 0
            searched = max(0, held - len(end) + 1)
        taken = self._buffer[self._at : found]
        self._at = found + len(end)
        return taken

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes."""
        if self._at + size <= len(self._buffer):
            taken = self._buffer[self._at : self._at + size]
            self._at += size
            return taken
        # One buffer, whatever the size of what arrives: an object for each byte would take fifty times the memory.
        gathered = bytearray(self._buffer[self._at :])
        self._buffer, self._at = b"", 0
        while missing := size - len(gathered):
            received = self._receive(min(missing, _RECEIVE))
            if not received:
                raise BadAnswer(f"the connection was closed {missing} bytes before the end of the answer")
            gathered += received
        return bytes(gathered)

    def rest(self, longest: int) -> bytes:
        """Everything up to the end of the connection."""
        taken = bytearray(self._buffer[self._at :])
        self._buffer, self._at = b"", 0
        while received := self._receive(_RECEIVE):
            taken += received
            if len(taken) > longest:
                raise _too_long()
        return bytes(taken)


_NO_ANSWER = "the connection was closed without an answer"

#: Bytes of what was received that a message shows: enough to recognise a protocol by, too few to be a secret.
_SHOWN = 8


# Names are what RFC 9110 calls tokens, near enough. A line that holds a bare line end is none: one reader's value would
# be another's next header.
_HEAD = re.compile(r"HTTP/(1\.[01]) ([0-9]{3})(?: [^\r\n]*)?\r\n((?:[!-9;-~]+:[^\r\n]*\r\n)*)")
_HEADER = re.compile(r"([!-9;-~]+):[ \t]*([^\r\n]*)")


def _parsed_head(head: bytes) -> tuple[str, int, dict[str, str]]:
    text = head.decode("latin-1") + "\r\n"
    parsed = _HEAD.fullmatch(text)
    if parsed is None:
        raise BadAnswer(_misfit(text))
    version, code, lines = parsed.groups()
    fields = _HEADER.findall(lines)
    if len(fields) > HEADERS_MAX:
        raise TooLong(f"it has more than {HEADERS_MAX} headers")
    if " \r" in lines or "\t\r" in lines:
        fields = [(name, value.rstrip(" \t")) for name, value in fields]
    headers = {name.lower(): value for name, value in fields}
    if len(headers) < len(fields):
        headers = _joined(fields)
    return version, int(code), headers


def _joined(fields: list[tuple[str, str]]) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for name, value in fields:
        values.setdefault(name.lower(), []).append(value)
    return {name: ", ".join(found) for name, found in values.items()}


def _misfit(text: str) -> str:
    """What is wrong with a head that is none."""
    status_line, *lines = text.split("\r\n")[:-1]
    if not _HEAD.fullmatch(f"{status_line}\r\n"):
        return f"its first line begins with {status_line[:_SHOWN]!r}, and is not a status line"
    number = next(n for n, line in enumerate(lines, 2) if not _HEAD.fullmatch(f"HTTP/1.1 200\r\n{line}\r\n"))
    return f"line {number} of its head is not a header"


def _body(reader: _Reader, method: str, status: int, headers: Mapping[str, str]) -> tuple[bytes, bool]:
    """The body, and whether its end is known by other means than the end of the connection."""
    if method == "HEAD" or status in (204, 304):
        return b"", True
    coding = headers.get("transfer-encoding")
    length = headers.get("content-length")
    if coding is not None:
        if coding.lower() != "chunked" or length is not None:
            raise BadAnswer("it is framed in a way that can be read in two ways")
        return _chunked(reader), True
    if length is None:
        return reader.rest(BODY_BYTES_MAX), False
    if not _is_number(length):
        raise BadAnswer("its Content-Length is not a number")
    if len(length) > 12 or int(length) > BODY_BYTES_MAX:
        raise _too_long()
    return reader.exactly(int(length)), True


def _chunked(reader: _Reader) -> bytes:
    # What frames the chunks counts, too: it is received, and could be many times what it frames.
    body, framing = bytearray(), 0
    while True:
        line = reader.until(b"\r\n", HEAD_BYTES_MAX)
        framing += len(line) + 4
        size_text = line.partition(b";")[0].strip()
        try:
            size = int(size_text, 16) if size_text.isalnum() and len(size_text) <= 16 else -1
        except ValueError:
            size = -1
        if size < 0:
            raise BadAnswer("the length of a chunk is not a number")
        if size == 0:
            break
        if len(body) + size + framing > BODY_BYTES_MAX:
            raise _too_long()
        body += reader.exactly(size)
        if reader.exactly(2) != b"\r\n":
            raise BadAnswer("a chunk is longer than it says")
    trailer = 0
    while line := reader.until(b"\r\n", HEAD_BYTES_MAX):
        trailer += len(line)
        if trailer > HEAD_BYTES_MAX:
            raise TooLong(f"its trailer has more than {HEAD_BYTES_MAX} bytes")
    return bytes(body)


def _too_long() -> TooLong:
    return TooLong(f"it has more than {BODY_BYTES_MAX} bytes")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
