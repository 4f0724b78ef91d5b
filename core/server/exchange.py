"""One request on its way to its response, and what is kept of it afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from attrs import define, field

from partwise.server.body import RequestBody
from partwise.server.messages import Request, ServerResponse
from partwise.server.oss.addressing import Place
from partwise.server.oss.buckets import Bucket, Buckets
from partwise.server.oss.errors import OSSError
from partwise.server.settings import ServerSettings

if TYPE_CHECKING:
    from partwise.server.faults import ServerFault

_NUMBER_DIGITS_MAX = 9

# What a record takes besides its texts: the object, its two tables, its operation and ids.
_OWN_BYTES = 1024

_SECRET_HEADERS = frozenset({"authorization", "x-oss-security-token"})
_SECRET_PARAMETERS = frozenset({"Signature", "security-token", "x-oss-signature", "x-oss-security-token"})


@define
class Exchange:
    """
    A request that is being answered; what operations and planned faults work on.

    Args:
        request: what was asked.
        body: what came with it.
        settings: as they were when the request came.
        buckets: those of the server.
        wait: waits so many seconds; raises DropConnection if the server stops meanwhile.
        request_id: the server's name for it.
        place: the bucket and key it is for, once that is known.
        operation: its name in the API reference, once that is known.
        faults: the planned faults that strike it.
        clock_offset: seconds that the server's clock is off, for this request.
        checksums: whether CRC-64 values are reported in this response.
    """

    request: Request
    body: RequestBody
    settings: ServerSettings
    buckets: Buckets
    wait: Callable[[float], None]
    request_id: str
    place: Place = field(factory=lambda: Place("", None, None))
    operation: str = ""
    faults: tuple[ServerFault, ...] = ()
    clock_offset: float = 0.0
    checksums: bool = True

    @property
    def now(self) -> float:
        """The server's clock, in seconds since 1970."""
        return self.settings.now() + self.clock_offset

    @property
    def bucket(self) -> Bucket:
        """
        The bucket.

        Raises:
            OSSError: NoSuchBucket.
        """
        name = self.place.bucket or ""
        bucket = self.buckets.find(name)
        if bucket is None:
            raise OSSError("NoSuchBucket", elements={"BucketName": name})
        return bucket

    @property
    def key(self) -> str:
        """The key; empty for a request to the bucket."""
        return self.place.key or ""

    @property
    def encoding_type(self) -> str | None:
        """How the request wants keys to be written in the response."""
        return self.request.param("encoding-type")

    def checksum_headers(self, crc64: int | None) -> tuple[tuple[str, str], ...]:
        """The header that reports a CRC-64, where it is known and not held back."""
        if crc64 is None or not (self.checksums and self.settings.checksums):
            return ()
        return (("x-oss-hash-crc64ecma", str(crc64)),)


@define(frozen=True)
class ReceivedRequest:
    """
    What the server keeps of a request.

    Args:
        number: counts the requests of this server from 1, in the order they were answered.
        operation: its name in the API reference; empty where it could not be told.
        method: in upper case.
        path: the path as it was sent, still percent-encoded.
        bucket: None for a request to the service.
        key: None for a request to a bucket.
        query: the decoded query, without signature and token.
        headers: by lower-case name, without signature and token.
        body_length: bytes of the body that arrived.
        status: of the response; None where the connection was dropped instead.
        code: the error code of a refusal, else empty.
        request_id: the server's name for it.
        faults: the planned faults that struck it.
    """

    number: int
    operation: str
    method: str
    path: str
    bucket: str | None
    key: str | None
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    body_length: int
    status: int | None
    code: str
    request_id: str
    faults: tuple[ServerFault, ...] = ()

    @property
    def part_number(self) -> int | None:
        """The number of the part that the request was about, if it was about one."""
        text = self.query.get("partNumber", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) <= _NUMBER_DIGITS_MAX else None

    @property
    def size(self) -> int:
        """Roughly the bytes that it takes in memory."""
        texts = (self.path, self.key, *self.query, *self.query.values(), *self.headers, *self.headers.values())
        return _OWN_BYTES + sum(map(sys.getsizeof, texts))


def received(exchange: Exchange, response: ServerResponse | None, number: int) -> ReceivedRequest:
    """What is kept of this exchange, in which `response` was given, or none."""
    request = exchange.request
    return ReceivedRequest(
        number,
        exchange.operation,
        request.method,
        request.target.partition("?")[0],
        exchange.place.bucket,
        exchange.place.key,
        {name: value for name, value in request.query if name not in _SECRET_PARAMETERS},
        {name: value for name, value in request.headers if name not in _SECRET_HEADERS},
        exchange.body.received,
        None if response is None else response.status,
        "" if response is None else response.code,
        exchange.request_id,
        exchange.faults,
    )
