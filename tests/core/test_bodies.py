"""The bodies that backends get, and those that wrap another body."""

from __future__ import annotations

import hashlib
import pickle

import pytest

from partwise.bodies import BodyWrapper, ChecksummedBody, SourceBodyWrapper, bytes_body
from partwise.checksums import CRC32, CRC32C, CRC64_NVME, CRC64_XZ, MD5, SHA256
from partwise.model import MIB
from partwise.protocols import Body, SourceBody
from partwise.sources import BytesBody
from partwise.testing.fakes import pseudo_random_bytes


def wrapped():
    return BodyWrapper(bytes_body(b"123456789"))


def test_a_wrapper_has_the_length_and_the_chunks_of_the_wrapped_body():
    assert len(wrapped()) == 9
    assert b"".join(wrapped().chunks()) == b"123456789"


def test_a_wrapper_has_the_checksum_once_its_chunks_are_exhausted():
    body = wrapped()
    assert body.checksum is None

    for _ in body.chunks():
        pass

    assert body.checksum == 0x995DC9BBDF1939FA


def test_a_wrapper_is_a_body():
    assert isinstance(wrapped(), Body)


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB])
@pytest.mark.parametrize("checksum", [CRC64_XZ, CRC64_NVME, CRC32C, CRC32, MD5, SHA256], ids=lambda kind: kind.name)
def test_a_body_has_the_checksum_of_the_requested_algorithm(checksum, size):
    data = pseudo_random_bytes(size)
    body = bytes_body(data, checksum)

    assert (len(body), body.checksum) == (size, None)
    assert b"".join(body.chunks()) == data
    assert body.checksum == checksum.compute(data)


def test_a_body_has_its_checksum_when_its_last_chunk_is_yielded():
    """A backend that counts bytes may stop asking once it has them all."""
    data = pseudo_random_bytes(2 * MIB)
    body = bytes_body(data, SHA256)
    chunks, left = body.chunks(), len(data)
    while left:
        assert body.checksum is None
        left -= len(next(chunks))

    assert body.checksum == int.from_bytes(hashlib.sha256(data).digest(), "big")


def test_a_body_has_no_checksum_while_it_is_read_again():
    body = bytes_body(bytes(2 * MIB))
    list(body.chunks())
    next(body.chunks())

    assert body.checksum is None


def test_a_body_that_is_read_for_a_digest_has_its_checksum_too():
    body = bytes_body(b"123456789")

    assert b"".join(body.chunks(counted=False)) == b"123456789"
    assert body.checksum == 0x995DC9BBDF1939FA


def test_a_body_knows_its_place_in_the_object():
    body = BodyWrapper(bytes_body(b"abc", offset=7, is_last=False))

    assert (body.offset, body.is_last) == (7, False)
    assert (bytes_body(b"abc").offset, bytes_body(b"abc").is_last) == (0, True)


def test_a_body_can_be_pickled():
    body = pickle.loads(pickle.dumps(bytes_body(b"abc", CRC32C, offset=7, is_last=False)))
    list(body.chunks())

    assert (body.checksum, body.offset, body.is_last) == (CRC32C.compute(b"abc"), 7, False)


def test_a_range_of_a_source_can_be_wrapped():
    wrapper = SourceBodyWrapper(BytesBody(b"abc"))

    assert isinstance(wrapper, SourceBody)
    assert (len(wrapper), b"".join(wrapper.chunks())) == (3, b"abc")
    assert b"".join(ChecksummedBody(wrapper).chunks()) == b"abc"
