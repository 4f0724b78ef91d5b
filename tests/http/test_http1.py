"""HTTP/1.1 messages: building the heads of requests, and reading responses with limits."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partwise.backends._http.http1 import (
    BODY_BYTES_MAX,
    HEAD_BYTES_MAX,
    HEADERS_MAX,
    NotHTTP,
    ProtocolError,
    Response,
    ResponseTooLarge,
    read_response,
    request_head,
)


class Wire:
    """A connection that returns its bytes in pieces, and then ends."""

    def __init__(self, data: bytes, piece: int = 65536) -> None:
        self.data, self.piece = data, piece

    def __call__(self, most: int) -> bytes:
        size = min(most, self.piece)
        taken, self.data = self.data[:size], self.data[size:]
        return taken


def read(data: bytes, method: str = "PUT", piece: int = 65536) -> tuple[Response, bool]:
    return read_response(Wire(data, piece), method)


OK = b"HTTP/1.1 200 OK\r\n"

# --- requests --------------------------------------------------------------------------------------------------------


def test_the_head_of_a_request_with_a_body():
    head = request_head("PUT", "/k?a=b", "Host: h\r\n", {"x-a": "1"}, 5)
    assert head == b"PUT /k?a=b HTTP/1.1\r\nHost: h\r\nx-a: 1\r\nContent-Length: 5\r\n\r\n"


def test_the_head_of_a_request_without_a_body():
    assert request_head("GET", "/", "Host: h\r\n", {}, None) == b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb"])
def test_a_line_end_in_a_value_is_refused(value):
    with pytest.raises(ValueError, match="line end"):
        request_head("GET", "/", "", {"x-a": value}, None)


@pytest.mark.parametrize("name", ["x\r\ny", "x\n"])
def test_a_line_end_in_a_name_is_refused(name):
    with pytest.raises(ValueError, match="line end"):
        request_head("GET", "/", "", {name: "a"}, None)


def test_a_line_end_in_the_target_is_refused():
    with pytest.raises(ValueError, match="line end"):
        request_head("GET", "/ HTTP/1.1\r\nx: y", "", {}, None)


# --- responses -------------------------------------------------------------------------------------------------------

GOOD = [
    (OK + b"Content-Length: 0\r\n\r\n", "PUT", b"", True),
    (OK + b"Content-Length: 3\r\n\r\nabc", "GET", b"abc", True),
    (OK + b"content-LENGTH:  3 \r\nX:\r\n\r\nabc", "GET", b"abc", True),
    (OK + b"Content-Length: 3\r\nConnection: close\r\n\r\nabc", "GET", b"abc", False),
    (OK + b"Content-Length: 3\r\nConnection: x, CLOSE\r\n\r\nabc", "GET", b"abc", False),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", "GET", b"abc", False),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc", "GET", b"abc", True),
    (OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n", "GET", b"abcd", True),
    (OK + b"Transfer-Encoding: Chunked\r\n\r\n0\r\nX-Trailer: 1\r\n\r\n", "GET", b"", True),
    (OK + b"Transfer-Encoding: chunked\r\n\r\n1A\r\n" + b"x" * 26 + b"\r\n0\r\n\r\n", "GET", b"x" * 26, True),
    (OK + b"\r\nto the end", "GET", b"to the end", False),
    (OK + b"Content-Length: 5000\r\n\r\n", "HEAD", b"", True),
    (OK + b"Transfer-Encoding: chunked\r\n\r\n", "HEAD", b"", True),
    (b"HTTP/1.1 204 No Content\r\n\r\n", "DELETE", b"", True),
    (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "GET", b"", True),
    (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", "GET", b"x", True),
    (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nx", "PUT", b"x", True),
    (b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" * 3 + OK + b"Content-Length: 1\r\n\r\nx", "PUT", b"x", True),
]


@pytest.mark.parametrize("piece", [1, 2, 7, 65536])
@pytest.mark.parametrize(("data", "method", "body", "reusable"), GOOD)
def test_a_response_is_read_whatever_the_size_of_the_pieces(data, method, body, reusable, piece):
    response, found_reusable = read(data, method, piece)
    assert (body, reusable) == (response.body, found_reusable)


def test_a_connection_with_surplus_data_is_not_reused():
    assert read(OK + b"Content-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n", "GET") == (
        Response(200, {"content-length": "3"}, b"abc"),
        False,
    )


def test_header_names_are_lower_case_and_repeated_values_are_joined():
    response, _ = read(OK + b'ETag: "x"\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n')
    assert response.headers == {"etag": '"x"', "x-a": "1, 2", "content-length": "0"}


def test_a_header_may_be_latin_1():
    response, _ = read(OK + b"x-oss-meta-a: \xfc\r\nContent-Length: 0\r\n\r\n")
    assert response.headers["x-oss-meta-a"] == "ü"


BAD = [
    b"",
    b"HTTP",
    OK,
    OK + b"Content-Length: 3\r\n\r\nab",
    OK + b"Content-Length: x\r\n\r\n",
    OK + b"Content-Length: -1\r\n\r\n",
    OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nab",
    OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n",
    OK + b"no header\r\n\r\n",
    OK + b": no name\r\n\r\n",
    OK + b"a: b\nc: d\r\n\r\n",
    OK + b"a: b\rc: d\r\n\r\n",
    OK + b"a: b\r\nc d\r\ne: f\r\n\r\n",
    OK + b"a : b\r\n\r\n",
    OK + b"a: b\r\n folded\r\n\r\n",
    b"HTTP/1.1 20x OK\r\n\r\n",
    b"HTTP/1.1 2000 OK\r\n\r\n",
    b"HTTP/2 200 OK\r\n\r\n",
    b"SSH-2.0-OpenSSH\r\n\r\n",
    b"\x15\x03\x01\x00\x02\x02\x16\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 9,
]


@pytest.mark.parametrize("piece", [1, 65536])
@pytest.mark.parametrize("data", BAD)
def test_an_invalid_response_is_refused(data, piece):
    with pytest.raises(ProtocolError):
        read(data, "GET", piece)


class Endless:
    """A connection that never ends."""

    def __init__(self, start: bytes, fill: bytes) -> None:
        self.waiting, self.fill, self.given = start, fill, 0

    def __call__(self, most: int) -> bytes:
        while len(self.waiting) < most:
            self.waiting += self.fill * (most // len(self.fill) + 1)
        data, self.waiting = self.waiting[:most], self.waiting[most:]
        self.given += len(data)
        return data


@pytest.mark.parametrize(
    ("start", "fill"),
    [
        (b"HTTP/1.1 200 ", b"x"),
        (OK, b"a: b\r\n"),
        (OK + b"\r\n", b"x"),
        (OK + b"Content-Length: 99999999999\r\n\r\n", b"x"),
        (OK + b"Content-Length: 9999999999999999999999\r\n\r\n", b"x"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"x" * 4096 + b"\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFF\r\n", b"x"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"y" * 10_000 + b"\r\nx\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n"),
    ],
)
def test_an_endless_response_is_refused_at_a_limit(start, fill):
    wire = Endless(start, fill)
    with pytest.raises(ResponseTooLarge):
        read_response(wire, "GET")
    assert wire.given <= BODY_BYTES_MAX + 16 * HEAD_BYTES_MAX


def test_endless_1xx_responses_are_refused():
    with pytest.raises(ProtocolError):
        read_response(Endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "PUT")


@given(st.binary(max_size=300), st.integers(1, 50))
def test_arbitrary_bytes_are_read_or_refused(data, piece):
    for method in ("HEAD", "GET"):
        for prefix in (b"", OK, OK + b"Transfer-Encoding: chunked\r\n\r\n"):
            try:
                response, _ = read(prefix + data, method, piece)
            except ProtocolError:
                continue
            assert isinstance(response.body, bytes)


@given(st.binary(max_size=2000), st.integers(1, 300), st.lists(st.integers(1, 400), max_size=8))
def test_a_body_is_read_unchanged_by_either_framing(body, piece, cuts):
    chunks, rest = [], body
    for cut in cuts:
        chunks.append(rest[:cut])
        rest = rest[cut:]
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in [*chunks, rest] if c) + b"0\r\n\r\n"
    for framed in (b"Content-Length: %d\r\n\r\n" % len(body) + body, b"Transfer-Encoding: chunked\r\n\r\n" + chunked):
        response, reusable = read(OK + framed, "GET", piece)
        assert (body, True) == (response.body, reusable)


@pytest.mark.parametrize(("count", "fits"), [(256, True), (257, False)])
def test_the_number_of_headers_is_limited(count, fits):
    assert HEADERS_MAX == 256
    data = OK + b"".join(b"x-%d: 1\r\n" % n for n in range(count - 1)) + b"Content-Length: 0\r\n\r\n"
    if fits:
        assert len(read(data)[0].headers) == count
        return
    with pytest.raises(ResponseTooLarge, match="headers"):
        read(data)


@pytest.mark.parametrize("start", [OK + b"Content-Length: 4000000\r\n\r\n", OK + b"\r\n"])
def test_memory_is_proportional_to_the_bytes_even_if_few_arrive_at_a_time(start):
    class Dripping:
        def __init__(self):
            self.pieces = iter([start])
            self.left = 20_000

        def __call__(self, most):
            piece = next(self.pieces, None)
            if piece is not None:
                return piece
            self.left -= 1
            # Two bytes: Python has each object of one byte only once, so many of them would take no memory.
            return bytes(bytearray(b"xx")) if self.left > 0 else b""

    tracemalloc.start()
    with contextlib.suppress(ProtocolError):
        read_response(Dripping(), "GET")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 500_000


@pytest.mark.parametrize("piece", [1, 65536])
@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x15\x03\x01\x00\x02\x02\x28", b"HTTPX", b"\r\n", b"h"])
def test_another_protocol_is_recognised_by_its_first_bytes(data, piece):
    """The blank line that ends a head may never come: other protocols do not send one."""
    with pytest.raises(NotHTTP, match="is not HTTP"):
        read(data, piece=piece)


@pytest.mark.parametrize("data", [b"H", b"HTTP", b"HTTP/", b"HTTP/1.1 200"])
def test_a_response_that_is_truncated_in_its_first_line_is_not_another_protocol(data):
    with pytest.raises(ProtocolError) as raised:
        read(data)
    assert not isinstance(raised.value, NotHTTP)


def test_messages_show_only_the_first_bytes_of_an_invalid_response():
    secret = b"hunter2-and-more-of-it"
    for data in (
        secret,
        b"HTTP/1.1 " + secret + b"\r\n\r\n",
        OK + secret + b"\r\n\r\n",
        OK + b"Content-Length: " + secret + b"\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + secret + b"\r\n",
        OK + b"Transfer-Encoding: " + secret + b"\r\n\r\n",
    ):
        with pytest.raises(ProtocolError) as raised:
            read(data, "GET")
        assert "hunter2-and" not in str(raised.value)


@pytest.mark.parametrize(("surplus", "drained"), [(b"", True), (b"x", False)])
def test_a_response_that_opens_a_tunnel_has_no_body_whatever_its_framing_headers(surplus, drained):
    opened = b"HTTP/1.1 200 Connection established\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert read(opened + surplus, "CONNECT") == (Response(200, {"transfer-encoding": "chunked"}, b""), drained)


def test_a_response_that_refuses_a_tunnel_has_a_body():
    assert read(b"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno", "CONNECT")[0].body == b"no"
