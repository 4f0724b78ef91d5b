"""One request while the server works on it, and the record that it leaves."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from attrs import define, field

from partwise.server.body import RequestBody
from partwise.server.buckets import Bucket, Buckets
from partwise.server.errors import ServiceError
from partwise.server.messages import RequestTarget, ServerRequest, ServerResponse
from partwise.server.settings import ServerSettings

if TYPE_CHECKING:  # the effects of a fault act on an exchange, and an exchange lists its faults: a cycle of types only
    from partwise.server.faults import ServerFault

# Memory of a recorded request besides its strings: the object, its two mappings, its operation and ids.
_FIXED_BYTES = 1024


@define
class Exchange:
    """
    A request that is being served. Operations and planned faults act on it.

    Args:
        request: the head of the request.
        body: the body of the request.
        settings: the settings when the request arrived.
        buckets: the buckets of the server.
        wait: waits this many seconds; raises DropConnection if the server stops meanwhile.
        request_id: the id that the server gave the request.
        target: what the request is addressed to; empty until it is parsed.
        operation: its name in the API reference; empty until it is known.
        faults: the planned faults that apply to it.
        clock_offset: seconds that a fault added to the server's clock for this request.
        report_checksums: False: a fault suppresses checksums in this response.
        corrupt_checksum: a fault makes the checksum header wrong.
    """

    request: ServerRequest
    body: RequestBody
    settings: ServerSettings
    buckets: Buckets
    wait: Callable[[float], None]
    request_id: str
    target: RequestTarget = field(factory=RequestTarget)
    operation: str = ""
    faults: tuple[ServerFault, ...] = ()
    clock_offset: float = 0.0
    report_checksums: bool = True
    corrupt_checksum: bool = False

    @property
    def now(self) -> float:
        """The server's clock, in seconds since 1970."""
        return self.settings.now() + self.clock_offset

    @property
    def bucket(self) -> Bucket:
        """The bucket of the request; raises ServiceError if it does not exist."""
        name = self.target.bucket or ""
        bucket = self.buckets.find(name)
        if bucket is None:
            raise ServiceError("NoSuchBucket", elements={"BucketName": name})
        return bucket

    @property
    def key(self) -> str:
        """The key; empty for a request to a bucket."""
        return self.target.key or ""

    @property
    def checksums(self) -> bool:
        """Whether the response reports checksums, by the settings and the planned faults."""
        return self.report_checksums and self.settings.checksums


@define(frozen=True)
class ReceivedRequest:
    """
    The record of a request that the server received.

    Args:
        number: counts the requests of this server from 1, in the order of their responses.
        operation: its name in the API reference; empty if the server does not know the operation.
        method: in upper case.
        path: the path as sent, still percent-encoded.
        bucket: None for a request to the service.
        key: None for a request to a bucket.
        query: the decoded query, without signature and security token.
        headers: by lower-case name, without signature and security token; repeated ones are joined by commas.
        body_length: bytes of the body that arrived.
        status: of the response; None if the connection was dropped instead.
        code: the error code of a refusal, else empty.
        request_id: the id that the server gave the request.
        faults: the planned faults that applied to it.
        part_number: None if the request named no part.
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
    part_number: int | None = None

    @property
    def size(self) -> int:
        """Its approximate size in memory, in bytes."""
        texts = (self.path, self.key, *self.query, *self.query.values(), *self.headers, *self.headers.values())
        return _FIXED_BYTES + sum(map(sys.getsizeof, texts))


def record_request(
    exchange: Exchange, response: ServerResponse | None, number: int, secrets: frozenset[str]
) -> ReceivedRequest:
    """
    Make the record of a request; its response is None if none was sent.

    The headers (in lower case) and query parameters called `secrets` are left out.
    """
    request, target = exchange.request, exchange.target
    return ReceivedRequest(
        number,
        exchange.operation,
        request.method,
        request.raw_target.partition("?")[0],
        target.bucket,
        target.key,
        {name: value for name, value in request.query if name not in secrets},
        {name: value for name, value in request.headers_with("").items() if name not in secrets},
        exchange.body.received,
        None if response is None else response.status,
        "" if response is None else response.code,
        exchange.request_id,
        exchange.faults,
        target.part_number,
    )
