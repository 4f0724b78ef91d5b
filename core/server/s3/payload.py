"""
The body of a request: its framing, and what it is compared with.

A body may be framed as ``aws-chunked``: chunks with a size and perhaps a signature each, and trailers. Its bytes are
compared with the digest that was signed, with Content-MD5, and with the checksum in a header or a trailer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import lru_cache

from partwise.checksums import CRC32, CRC32C, CRC64_NVME, MD5, SHA1, SHA256, Checksum
from partwise.model import KIB, MIB
from partwise.server.body import RequestBody
from partwise.server.errors import ServiceError
from partwise.server.messages import ServerRequest
from partwise.server.s3.signatures import UNSIGNED, SigningKey

#: The algorithms by their name in a request, and the header with a checksum.
ALGORITHMS: Mapping[str, Checksum] = {
    "CRC64NVME": CRC64_NVME,
    "CRC32C": CRC32C,
    "CRC32": CRC32,
    "SHA1": SHA1,
    "SHA256": SHA256,
}
_HEADERS: Mapping[Checksum, str] = {
    algorithm: f"x-amz-checksum-{name.lower()}" for name, algorithm in ALGORITHMS.items()
}

_STREAMING = "STREAMING-"
_SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_EMPTY = hashlib.sha256(b"").hexdigest()
_LINE_MAX = 4 * KIB
_CHUNK_MAX = 16 * MIB
_TRAILERS_MAX = 16


@lru_cache(maxsize=1)
def default_checksum() -> Checksum:
    """
    Return the algorithm for requests that name none: CRC-64/NVME, as S3 does.

    Without the package for it, it is CRC-32C.
    """
    return CRC64_NVME if CRC64_NVME.is_available else CRC32C


def name_of(algorithm: Checksum) -> str:
    """Return the name of an algorithm in requests and documents."""
    return next(name for name, value in ALGORITHMS.items() if value == algorithm)


def header_of(algorithm: Checksum) -> str:
    """Return the header with a checksum of this algorithm, in lower case."""
    return _HEADERS[algorithm]


def sent_checksum(request: ServerRequest) -> tuple[Checksum, str] | None:
    """
    Return the checksum in the headers of a request, in base64.

    Raises:
        ServiceError: there are two, or it is not a checksum.
    """
    found = [(algorithm, value) for algorithm, name in _HEADERS.items() if (value := request.header(name)) is not None]
    if len(found) > 1:
        raise ServiceError("InvalidRequest", "Expecting a single x-amz-checksum- header.")
    for algorithm, value in found:
        _parsed(algorithm, value)
        return algorithm, value
    return None


def announced_algorithm(request: ServerRequest) -> Checksum | None:
    """Return the algorithm of the checksum in a header or in a trailer of a request."""
    sent = sent_checksum(request)
    if sent is not None:
        return sent[0]
    trailer = (request.header("x-amz-trailer") or "").strip().lower()
    found = next((algorithm for algorithm, name in _HEADERS.items() if name == trailer), None)
    if found is None and trailer:
        raise ServiceError("InvalidRequest", "The value specified in the x-amz-trailer header is not supported")
    return found


def prepare_body(
    request: ServerRequest,
    body: RequestBody,
    key: SigningKey | None,
    seed: str,
    *,
    default: Checksum | None,
    of_body: bool,
) -> Payload:
    """
    Arrange that a body is decoded and that its checksums are computed.

    Args:
        request: the request.
        body: its body.
        key: the key that signs chunks; None for an unsigned request.
        seed: the signature of the head.
        default: an algorithm whose checksum is wanted in any case.
        of_body: whether a checksum in the headers is that of the body.

    Raises:
        ServiceError: the framing that the headers announce is not possible.
    """
    payload = Payload(request, key, seed, of_body=of_body)
    if payload.is_chunked:
        body.decode(payload.decode, payload.decoded_length())
    announced = announced_algorithm(request) if of_body else None
    signed = SHA256 if payload.signed_digest else None
    md5 = None if request.header("content-md5") is None else MD5
    for algorithm in (announced, default, signed, md5):
        if algorithm is not None:
            body.track(algorithm)
    return payload


class Payload:
    """What a request says about its body."""

    def __init__(self, request: ServerRequest, key: SigningKey | None, seed: str, *, of_body: bool) -> None:
        self._request = request
        self._of_body = of_body
        self._key = key
        self._signature = seed
        self._kind = request.header("x-amz-content-sha256") or UNSIGNED
        self._trailers: dict[str, str] = {}

    @property
    def is_chunked(self) -> bool:
        """Whether the body is framed as aws-chunked."""
        return self._kind.startswith(_STREAMING)

    @property
    def signed_digest(self) -> str | None:
        """The SHA-256 of the body that was signed; None if there is none."""
        return None if self.is_chunked or self._kind == UNSIGNED else self._kind

    def decoded_length(self) -> int:
        """
        Return the length of the body without its framing.

        Raises:
            ServiceError: it is not announced, or the framing is unknown.
        """
        if self._kind not in (_SIGNED_CHUNKS, _SIGNED_TRAILER, _UNSIGNED_TRAILER):
            raise ServiceError("InvalidArgument", f"x-amz-content-sha256 must not be {self._kind[:80]}")
        text = self._request.header("x-amz-decoded-content-length") or ""
        if not (text.isascii() and text.isdigit() and len(text) <= 15):
            raise ServiceError("MissingContentLength", "x-amz-decoded-content-length is missing, or is not a number.")
        return int(text)

    def decode(self, raw: Iterator[bytes | bytearray]) -> Iterator[bytes]:
        """
        Yield the bytes of an aws-chunked body.

        Raises:
            ServiceError: it is malformed, shorter than announced, or a signature of it is wrong.
        """
        reader = _Reader(raw)
        signed = self._kind != _UNSIGNED_TRAILER
        while True:
            size, _, extension = reader.line().partition(";")
            if not 0 < len(size) <= 8 or set(size) - set("0123456789abcdefABCDEF"):
                raise ServiceError("IncompleteBody", "A chunk has no size.")
            length = int(size, 16)
            if length > _CHUNK_MAX:
                raise ServiceError("InvalidRequest", "A chunk is too large.")
            data = reader.exactly(length)
            if signed:
                digest = hashlib.sha256(data).hexdigest()
                self._check("AWS4-HMAC-SHA256-PAYLOAD", (_EMPTY, digest), extension.removeprefix("chunk-signature="))
            if not length:
                break
            reader.end_of_line()
            yield data
        if self._kind != _SIGNED_CHUNKS:
            self._read_trailers(reader, signed=signed)

    def _read_trailers(self, reader: _Reader, *, signed: bool) -> None:
        signature, text, lines = "", "", 0
        while line := reader.line(last=True):
            lines += 1
            if lines > _TRAILERS_MAX:
                raise ServiceError("InvalidRequest", f"The body has more than {_TRAILERS_MAX} trailers.")
            name, _, value = line.partition(":")
            if name.lower() == "x-amz-trailer-signature":
                signature = value.strip()
            else:
                self._trailers[name.strip().lower()] = value.strip()
                text += f"{name.strip().lower()}:{value.strip()}\n"
        if signed:
            digest = hashlib.sha256(text.encode()).hexdigest()
            self._check("AWS4-HMAC-SHA256-TRAILER", (digest,), signature)

    def _check(self, algorithm: str, lines: tuple[str, ...], signature: str) -> None:
        if self._key is None:
            return
        expected = self._key.sign(algorithm, (self._signature, *lines))
        if signature != expected:
            raise ServiceError("SignatureDoesNotMatch", "The signature of a chunk of the body is wrong.")
        self._signature = expected

    def verify(self, body: RequestBody) -> None:
        """
        Compare a complete body with what the request says about it.

        Raises:
            ServiceError: they differ.
        """
        request = self._request
        md5 = request.header("content-md5")
        if md5 is not None and md5 != body.md5:
            raise ServiceError("BadDigest", "The Content-MD5 you specified did not match what we received.")
        if self.signed_digest is not None and self.signed_digest != SHA256.to_hex(body.tracked(SHA256)):
            raise ServiceError("XAmzContentSHA256Mismatch")
        sent = self._checksum() if self._of_body else None
        if sent is not None and sent[1] != sent[0].to_base64(body.tracked(sent[0])):
            raise ServiceError(
                "BadDigest", f"The {name_of(sent[0])} you specified did not match the calculated checksum."
            )

    def _checksum(self) -> tuple[Checksum, str] | None:
        """
        Return the checksum that the client sent, in base64; None if it sent none.

        Raises:
            ServiceError: it is not a checksum, or the announced trailer is missing.
        """
        sent = sent_checksum(self._request)
        if sent is not None:
            return sent
        algorithm = announced_algorithm(self._request)
        if algorithm is None:
            return None
        value = self._trailers.get(header_of(algorithm))
        if value is None:
            raise ServiceError("MalformedXML", "The trailer that x-amz-trailer announces is missing.", status=400)
        _parsed(algorithm, value)
        return algorithm, value


def _parsed(algorithm: Checksum, text: str) -> int:
    try:
        return algorithm.from_base64(text)
    except ValueError:
        raise ServiceError("InvalidRequest", f"Value for {header_of(algorithm)} header is invalid.") from None


class _Reader:
    """Reads lines and exact numbers of bytes from an iterator of chunks."""

    def __init__(self, chunks: Iterator[bytes | bytearray]) -> None:
        self._chunks = chunks
        self._buffer = bytearray()

    def line(self, *, last: bool = False) -> str:
        """Return the next line without its end; with `last`, "" at the end of all bytes."""
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > _LINE_MAX or not self._more(optional=last):
                if last and not self._buffer:
                    return ""
                raise ServiceError("IncompleteBody", "A line of the framing does not end.")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line.decode("latin-1")

    def exactly(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        while len(self._buffer) < size:
            self._more()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def end_of_line(self) -> None:
        """Skip the end of a line."""
        if self.exactly(2) != b"\r\n":
            raise ServiceError("IncompleteBody", "A chunk is longer than its size.")

    def _more(self, *, optional: bool = False) -> bool:
        chunk = next(self._chunks, None)
        if chunk is None:
            if optional:
                return False
            raise ServiceError("IncompleteBody")
        self._buffer += chunk
        return True
