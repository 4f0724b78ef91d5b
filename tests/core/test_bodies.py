"""Bodies that wrap another body."""

from __future__ import annotations

from partwise.bodies import BodyWrapper
from partwise.protocols import Body
from partwise.sources import BytesSource


def wrapped():
    return BodyWrapper(BytesSource(b"123456789").body(0, 9))


def test_a_wrapper_has_the_length_and_the_chunks_of_the_wrapped_body():
    assert len(wrapped()) == 9
    assert b"".join(wrapped().chunks()) == b"123456789"


def test_a_wrapper_has_the_checksum_once_its_chunks_are_exhausted():
    body = wrapped()
    assert body.crc64 is None

    for _ in body.chunks():
        pass

    assert body.crc64 == 0x995DC9BBDF1939FA


def test_a_wrapper_is_a_body():
    assert isinstance(wrapped(), Body)
