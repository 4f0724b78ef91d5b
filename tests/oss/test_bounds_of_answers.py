"""The bounds of an answer by their documented values, from both sides: sizes, counts and digits."""

from __future__ import annotations

import io
import re

import pytest

from partwise.backends._http.http1 import Answer, BadAnswer, TooLong, read_answer

OK = b"HTTP/1.1 200 OK\r\n"


def read(data: bytes, method: str = "PUT", piece: int = 65536) -> tuple[Answer, bool]:
    wire = io.BytesIO(data)
    return read_answer(lambda most: wire.read(min(most, piece)), method)


def by_length(body: bytes) -> bytes:
    return OK + b"Content-Length: %d\r\n\r\n" % len(body) + body


def in_two_chunks(body: bytes) -> bytes:
    first, second = body[:5000], body[5000:]
    chunks = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(first), first, len(second), second)
    return OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunks


def to_the_end(body: bytes) -> bytes:
    return OK + b"\r\n" + body


def test_a_body_in_chunks_has_8_mib_with_what_frames_it():
    answer, _ = read_answer(io.BytesIO(in_two_chunks(bytes(8_388_608 - 1024))).read, "GET")
    assert len(answer.body) == 8_388_608 - 1024

    with pytest.raises(TooLong, match="more than 8388608 bytes"):
        read_answer(io.BytesIO(in_two_chunks(bytes(8_388_609))).read, "GET")


@pytest.mark.parametrize("framed", [by_length, to_the_end])
def test_a_body_has_8_mib_and_not_a_byte_more(framed):
    answer, _ = read_answer(io.BytesIO(framed(bytes(8_388_608))).read, "GET")
    assert len(answer.body) == 8_388_608

    with pytest.raises(TooLong, match="more than 8388608 bytes"):
        read_answer(io.BytesIO(framed(bytes(8_388_609))).read, "GET")


def test_a_head_has_64_kib_and_no_more():
    fixed = OK + b"Content-Length: 0\r\na: "
    answer, _ = read(fixed + b"x" * (65_536 - len(fixed)) + b"\r\n\r\n", piece=1024)
    assert answer.status == 200

    with pytest.raises(TooLong, match="more than 65536 bytes"):
        read(fixed + b"x" * (65_536 + 1024 - len(fixed)) + b"\r\n\r\n", piece=1024)


def test_no_more_than_64_kib_are_asked_for_at_a_time():
    asked = []
    wire = io.BytesIO(in_two_chunks(bytes(200_000)))
    read_answer(lambda most: asked.append(most) or wire.read(most), "GET")
    assert max(asked) == 65_536


def test_a_trailer_has_64_kib_and_no_more():
    last_chunk = OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
    lines = (b"a: " + b"x" * 1021 + b"\r\n") * 64
    assert read(last_chunk + lines + b"\r\n", "GET", 1024)[1]

    with pytest.raises(TooLong, match="trailer has more than 65536 bytes"):
        read(last_chunk + lines + b"x\r\n\r\n", "GET", 1024)


def test_white_space_around_a_value_and_the_length_of_a_chunk_is_left_out():
    lines = b"X-A: \t1 \t\r\nX-B: 2\t\r\nX-C: a \tb\r\n"
    answer, _ = read(OK + lines + b"Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n1 ;x=y\r\nd\r\n0\r\n\r\n", "GET")
    assert (answer.headers["x-a"], answer.headers["x-b"], answer.headers["x-c"]) == ("1", "2", "a \tb")
    assert answer.body == b"abcd"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "it begins with"),
        (b"HTTP/1.1 200 OK\r\na: b\r\nc d\r\ne: f\r\n\r\n", "head"),
        (b"HTTP/1.1 200 OK\r\n", "the connection was closed in the middle of the answer"),
        (b"", "the connection was closed without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "closed 2 bytes before the end of the answer"),
    ],
)
def test_what_is_wrong_with_an_answer_is_named(data, why):
    with pytest.raises(BadAnswer, match=re.escape(why)):
        read(data)


def test_a_length_of_more_digits_than_python_reads_is_too_long():
    with pytest.raises(TooLong):
        read(OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", "GET")


def test_seven_interim_answers_are_borne_and_eight_are_not():
    final = OK + b"Content-Length: 1\r\n\r\nx"
    assert read(b"HTTP/1.1 199 Interim\r\n\r\n" * 7 + final)[0].body == b"x"

    with pytest.raises(BadAnswer, match="interim"):
        read(b"HTTP/1.1 199 Interim\r\n\r\n" * 8 + final)


def test_the_length_of_a_chunk_has_sixteen_digits_at_most():
    start = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    assert read(start + b"0000000000000003\r\nabc\r\n0\r\n\r\n", "GET")[0].body == b"abc"

    with pytest.raises(BadAnswer, match="length of a chunk"):
        read(start + b"00000000000000003\r\nabc\r\n0\r\n\r\n", "GET")
