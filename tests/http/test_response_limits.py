"""The documented limits of a response, tested at both sides: sizes, counts and digits."""

from __future__ import annotations

import io
import re

import pytest

from partwise.backends._http.http1 import ProtocolError, Response, ResponseTooLarge, read_response

OK = b"HTTP/1.1 200 OK\r\n"


def read(data: bytes, method: str = "PUT", piece: int = 65536) -> tuple[Response, bool]:
    wire = io.BytesIO(data)
    return read_response(lambda size: wire.read(min(size, piece)), method)


def by_length(body: bytes) -> bytes:
    return OK + b"Content-Length: %d\r\n\r\n" % len(body) + body


def in_two_chunks(body: bytes) -> bytes:
    first, second = body[:5000], body[5000:]
    chunks = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(first), first, len(second), second)
    return OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunks


def to_the_end(body: bytes) -> bytes:
    return OK + b"\r\n" + body


def test_a_chunked_body_is_limited_to_8_mib_including_its_framing():
    response, _ = read_response(io.BytesIO(in_two_chunks(bytes(8_388_608 - 1024))).read, "GET")
    assert len(response.body) == 8_388_608 - 1024

    with pytest.raises(ResponseTooLarge, match="more than 8388608 bytes"):
        read_response(io.BytesIO(in_two_chunks(bytes(8_388_609))).read, "GET")


@pytest.mark.parametrize("framed", [by_length, to_the_end])
def test_a_body_is_limited_to_8_mib(framed):
    response, _ = read_response(io.BytesIO(framed(bytes(8_388_608))).read, "GET")
    assert len(response.body) == 8_388_608

    with pytest.raises(ResponseTooLarge, match="more than 8388608 bytes"):
        read_response(io.BytesIO(framed(bytes(8_388_609))).read, "GET")


def test_a_head_is_limited_to_64_kib():
    fixed = OK + b"Content-Length: 0\r\na: "
    response, _ = read(fixed + b"x" * (65_536 - len(fixed)) + b"\r\n\r\n", piece=1024)
    assert response.status == 200

    with pytest.raises(ResponseTooLarge, match="more than 65536 bytes"):
        read(fixed + b"x" * (65_536 + 1024 - len(fixed)) + b"\r\n\r\n", piece=1024)


def test_at_most_64_kib_are_received_at_a_time():
    sizes = []
    wire = io.BytesIO(in_two_chunks(bytes(200_000)))
    read_response(lambda size: sizes.append(size) or wire.read(size), "GET")
    assert max(sizes) == 65_536


def test_a_trailer_is_limited_to_64_kib():
    last_chunk = OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
    lines = (b"a: " + b"x" * 1021 + b"\r\n") * 64
    assert read(last_chunk + lines + b"\r\n", "GET", 1024)[1]

    with pytest.raises(ResponseTooLarge, match="trailer has more than 65536 bytes"):
        read(last_chunk + lines + b"x\r\n\r\n", "GET", 1024)


def test_white_space_around_a_value_or_a_chunk_length_is_ignored():
    lines = b"X-A: \t1 \t\r\nX-B: 2\t\r\nX-C: a \tb\r\n"
    response, _ = read(OK + lines + b"Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n1 ;x=y\r\nd\r\n0\r\n\r\n", "GET")
    assert (response.headers["x-a"], response.headers["x-b"], response.headers["x-c"]) == ("1", "2", "a \tb")
    assert response.body == b"abcd"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "it begins with"),
        (b"HTTP/1.1 200 OK\r\na: b\r\nc d\r\ne: f\r\n\r\n", "head"),
        (b"HTTP/1.1 200 OK\r\n", "the connection was closed in the middle of the response"),
        (b"", "the connection was closed without a response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "closed 2 bytes before the end of the response"),
    ],
)
def test_the_message_says_what_is_wrong_with_a_response(data, why):
    with pytest.raises(ProtocolError, match=re.escape(why)):
        read(data)


def test_a_length_with_more_digits_than_int_accepts_is_too_large():
    with pytest.raises(ResponseTooLarge):
        read(OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", "GET")


def test_seven_1xx_responses_are_accepted_and_eight_are_not():
    final = OK + b"Content-Length: 1\r\n\r\nx"
    assert read(b"HTTP/1.1 199 Interim\r\n\r\n" * 7 + final)[0].body == b"x"

    with pytest.raises(ProtocolError, match="too many 1xx"):
        read(b"HTTP/1.1 199 Interim\r\n\r\n" * 8 + final)


def test_a_chunk_length_has_at_most_sixteen_digits():
    start = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    assert read(start + b"0000000000000003\r\nabc\r\n0\r\n\r\n", "GET")[0].body == b"abc"

    with pytest.raises(ProtocolError, match="length of a chunk"):
        read(start + b"00000000000000003\r\nabc\r\n0\r\n\r\n", "GET")
