"""Limits of what a client can cost the server: memory, threads, time and disk."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Self

import pytest
from attrs import define, evolve, field

from partwise.backends.memory import MemoryBackend
from partwise.errors import InvalidInput
from partwise.model import KIB, MIB, ObjectOptions, PartLimits, StoredObject
from partwise.server import OSSServer, ServerSettings
from partwise.server.buckets import GivenBuckets, ObjectInfo
from partwise.server.connection import ClientConnection
from partwise.server.errors import ServiceError
from partwise.server.oss.dialect import OSSDialect
from partwise.server.recent import Recent
from partwise.server.service import Service
from partwise.server.xml import parse_part_list

# --- memory ----------------------------------------------------------------------------------------------------------


def test_the_oldest_entries_are_dropped_above_either_limit() -> None:
    recent: Recent[str, int] = Recent(3, 100)
    for number, key in enumerate("abcd"):
        recent.put(key, number, 10)
    assert recent.values() == (1, 2, 3)
    recent.put("e", 4, 80)
    assert recent.values() == (2, 3, 4)  # 100 bytes
    recent.put("f", 5, 1)
    assert recent.values() == (3, 4, 5)
    recent.put("g", 6, 101)
    assert recent.values() == ()


def test_an_entry_that_is_replaced_becomes_the_newest_and_counts_once() -> None:
    recent: Recent[str, int] = Recent(2, 20)
    for key in "abab":
        recent.put(key, 1, 10)
    recent.put("a", 2, 10)
    recent.put("c", 3, 10)
    assert (recent.get("a"), recent.get("b"), recent.get("c")) == (2, None, 3)
    recent.drop("a")
    recent.drop("a")
    recent.put("d", 4, 10)
    assert recent.values() == (3, 4)


def test_the_settings_limit_the_number_of_recorded_requests(client_of: Any) -> None:
    with OSSServer(settings=ServerSettings(max_recorded_requests=2)) as server:
        client = client_of(server)
        for key in ("a", "b", "c"):
            client("GET", key)
        assert [(request.number, request.key) for request in server.requests] == [(2, "b"), (3, "c")]
        server.settings = evolve(server.settings, max_recorded_requests=0)
        client("GET", "d")
        assert server.requests == ()
        server.settings = evolve(server.settings, max_recorded_requests=1)
        client("GET", "e")
        assert [(request.number, request.key) for request in server.requests] == [(5, "e")]


def test_fewer_requests_are_recorded_if_they_are_large(
    client: Any, server: OSSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client("GET", "key")
    small = server.requests[0].size
    client("GET", "key", headers={"X-Padding": "x" * 50_000})
    assert 0 < small < 8 * KIB
    assert server.requests[1].size > 50_000
    for _ in range(10):
        client("GET", "key", headers={"X-Padding": "x" * 50_000})
    assert len(server.requests) == 12
    monkeypatch.setattr(server._service._recorded, "_bytes_max", 200_000)
    client("GET", "key", headers={"X-Padding": "x" * 50_000})
    assert [request.number for request in server.requests] == [11, 12, 13]


def test_recorded_requests_take_at_most_32_mib_by_default() -> None:
    service = Service(
        OSSDialect(), ServerSettings(), GivenBuckets({}, 0), (), lambda _: None, listen_address="127.0.0.1"
    )
    assert service._recorded._bytes_max == 32 * 1024 * 1024
    assert ServerSettings().max_recorded_requests == 20_000


def test_what_is_remembered_of_objects_and_parts_is_limited(server: OSSServer) -> None:
    bucket = server._service.buckets.find("examplebucket")
    assert bucket is not None
    for number in range(40):
        stored = StoredObject(f"key{number}", 1, "etag")
        options = ObjectOptions(metadata={"a": "x" * 1_000_000})
        bucket.remember_object(ObjectInfo(stored, "etag", options, "Normal", 0.0))
    assert 10 < len(bucket.objects.values()) <= 16
    for number in range(100_010):
        bucket.part_times.put(("upload", number), 1.0, 1)
    assert len(bucket.part_times.values()) == 100_000


@pytest.mark.parametrize("changes", [{"max_recorded_requests": -1}, {"max_connections": 0}], ids=str)
def test_invalid_limits_are_refused(changes: Any) -> None:
    with pytest.raises(InvalidInput):
        ServerSettings(**changes)


# --- connections -----------------------------------------------------------------------------------------------------


def _connect(server: OSSServer) -> socket.socket:
    host, _, port = server.endpoint.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=20)


_REQUEST = b"GET /examplebucket/key HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_a_connection_above_the_maximum_is_closed() -> None:
    with OSSServer(settings=ServerSettings(max_connections=2)) as server:
        first, second = _connect(server), _connect(server)
        for connection in (first, second):
            connection.sendall(_REQUEST)
            assert connection.recv(9) == b"HTTP/1.1 "
        with _connect(server) as third:
            assert third.recv(1) == b""
        first.close()
        for _ in range(1000):  # until the server has noticed it
            with _connect(server) as fourth:
                fourth.sendall(_REQUEST)
                try:
                    if fourth.recv(9) == b"HTTP/1.1 ":
                        break
                except ConnectionError:
                    pass
            time.sleep(0.002)
        else:
            pytest.fail("the place of a client that went is not given to the next one")
        second.close()


def test_a_connection_is_closed_if_no_thread_can_be_started_and_the_server_continues(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with OSSServer() as server:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", _no_thread)
            with _connect(server) as connection:
                assert connection.recv(1) == b""
        with _connect(server) as connection:
            connection.sendall(_REQUEST)
            assert connection.recv(9) == b"HTTP/1.1 "


def test_a_connection_that_can_not_be_accepted_is_accepted_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """As while the process has too many open files. Until then the server does not try without a pause."""
    failures = [OSError(errno.EMFILE, os.strerror(errno.EMFILE))] * 3
    accept, pauses = socket.socket.accept, []

    def fail_at_first(listening: socket.socket) -> Any:
        if failures:
            raise failures.pop()
        return accept(listening)

    monkeypatch.setattr(socket.socket, "accept", fail_at_first)
    monkeypatch.setattr("partwise.server.listener.time", SimpleNamespace(sleep=pauses.append))
    with OSSServer() as server, _connect(server) as connection:
        connection.sendall(_REQUEST)
        assert connection.recv(9) == b"HTTP/1.1 "
    assert (failures, len(pauses)) == ([], 3)


def _no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@define
class TrickleSocket:
    """A socket that yields chunks of bytes, each after a number of seconds."""

    clock: Any
    pieces: Iterator[tuple[float, bytes]]
    sent: bytes = b""
    patience: float = 0.0
    patience_of_sends: list[float] = field(factory=list)

    def recv(self, _: int) -> bytes:
        seconds, data = next(self.pieces, (0.0, b""))
        if seconds >= self.patience:
            self.clock.now += self.patience
            raise TimeoutError
        self.clock.now += seconds
        return data

    def sendall(self, data: bytes) -> None:
        self.patience_of_sends.append(self.patience)
        self.sent += data

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0
        self.patience = seconds

    def setsockopt(self, *_: object) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A simulated clock, which only received data advances."""
    clock = SimpleNamespace(now=1000.0)
    fake = SimpleNamespace(monotonic=lambda: clock.now)
    monkeypatch.setattr("partwise.server.connection.time", fake)
    monkeypatch.setattr("partwise.server.body.time", fake)
    return clock


@pytest.fixture
def trickle(clock: Any, server: OSSServer) -> Any:
    """Serve a client that sends these chunks after these seconds; return what was sent back."""
    server.settings = evolve(server.settings, allow_anonymous=True)

    def serve(pieces: Iterator[tuple[float, bytes]]) -> TrickleSocket:
        socket: Any = TrickleSocket(clock, pieces)
        ClientConnection(socket, server._service.respond, server._service.refuse, 60.0).serve()
        trickle: TrickleSocket = socket
        return trickle

    return serve


def _each(data: bytes, seconds: float, size: int = 1) -> Iterator[tuple[float, bytes]]:
    return ((seconds, data[begin : begin + size]) for begin in range(0, len(data), size))


def test_a_head_that_trickles_in_is_given_up_after_the_idle_timeout(trickle: Any, clock: Any) -> None:
    assert trickle(_each(_REQUEST, 10.0)).sent == b""
    assert clock.now == 1000.0 + 10 + 60


def test_a_slow_head_is_accepted(trickle: Any) -> None:
    assert trickle(_each(_REQUEST, 60.0 / len(_REQUEST))).sent.startswith(b"HTTP/1.1 404 ")


def test_a_client_may_be_idle_before_its_first_byte(trickle: Any) -> None:
    chunks = iter([(59.0, _REQUEST[:5]), (59.0, _REQUEST[5:])])
    assert trickle(chunks).sent.startswith(b"HTTP/1.1 404 ")
    assert trickle(iter([(60.0, _REQUEST)])).sent == b""


def _put(length: int) -> bytes:
    return b"PUT /examplebucket/key HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % length


def _after_a_head(head: bytes, pieces: Iterator[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    yield 0.0, head
    yield from pieces


def test_a_body_that_trickles_in_is_given_up(trickle: Any, clock: Any, server: OSSServer) -> None:
    answer = trickle(_after_a_head(_put(100_000), _each(bytes(100_000), 10.0)))
    assert b"<Code>RequestTimeout</Code>" in answer.sent
    assert clock.now < 1000 + 2 * 60
    assert server.backend().head_object("key") is None


def test_a_slow_body_is_accepted(trickle: Any, clock: Any, server: OSSServer) -> None:
    """Slightly faster than 1 KiB per second, with a pause."""
    body = bytes(500 * KIB)
    pieces = _after_a_head(_put(len(body)), _each(body, 0.99, KIB))
    assert trickle(pieces).sent.startswith(b"HTTP/1.1 200 ")
    assert clock.now > 1000 + 490
    paused = _after_a_head(_put(3), iter([(20.0, b"1"), (20.0, b"2"), (19.0, b"3")]))
    assert trickle(paused).sent.startswith(b"HTTP/1.1 200 ")


def test_a_stalled_body_is_given_up_after_the_idle_timeout_however_much_arrived_before(
    trickle: Any, clock: Any
) -> None:
    pieces = _after_a_head(_put(10 * MIB), iter([(0.0, bytes(9 * MIB)), (61.0, bytes(MIB))]))
    assert b"<Code>RequestTimeout</Code>" in trickle(pieces).sent
    assert clock.now == 1000 + 60


def test_a_refused_client_that_sends_without_end_is_disconnected(trickle: Any, clock: Any, server: OSSServer) -> None:
    server.settings = evolve(server.settings, allow_anonymous=False)
    answer = trickle(_after_a_head(_put(10**15), ((1.0, bytes(64 * KIB)) for _ in iter(int, 1))))
    assert answer.sent.startswith(b"HTTP/1.1 403 ")
    assert b"Connection: close" in answer.sent
    assert clock.now == 1000 + 61


def test_each_chunk_of_a_response_must_be_received_within_the_idle_timeout(trickle: Any) -> None:
    """The timeout of a socket is that of one `sendall`, each of which has a limited size."""
    answer = trickle(iter([(0.0, _REQUEST[:9]), (30.0, _REQUEST[9:20]), (20.0, _REQUEST[20:])]))
    assert answer.patience_of_sends == [60.0]


def test_a_body_slower_than_1_kib_per_second_is_given_up(trickle: Any) -> None:
    body = bytes(2000 * KIB)
    answer = trickle(_after_a_head(_put(len(body)), _each(body, 1.1, KIB)))
    assert b"<Code>RequestTimeout</Code>" in answer.sent


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /examplebucket/key?" + b"a" * 60_000, 404),
        (b"GET /examplebucket/key?" + b"a" * 70_000, 431),
        (b"GET /examplebucket/key?a&" + b"b&" * 255, 404),
        (b"GET /examplebucket/key?a&" + b"b&" * 256, 431),
    ],
    ids=["60,000 bytes", "70,000 bytes", "256 parameters", "257 parameters"],
)
def test_the_size_of_the_request_line_is_limited(trickle: Any, request_: bytes, status: int) -> None:
    answer = trickle(iter([(0.0, request_ + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")]))
    assert answer.sent.startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"a: b\r\n" * 255, 404),
        (b"a: b\r\n" * 256, 431),
        (b"a: " + b"b" * 60_000 + b"\r\n", 404),
        (b"a: " + b"b" * 70_000 + b"\r\n", 431),
        (b"a: " + b"b" * 1_000_000 + b"\r\n", 431),
    ],
    ids=["256 headers", "257 headers", "60,000 bytes", "70,000 bytes", "1 MB"],
)
def test_number_and_size_of_headers_are_limited(trickle: Any, headers: bytes, status: int) -> None:
    """Whatever the size of the chunks in which they arrive."""
    head = b"GET /examplebucket/key HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n"
    for size in (len(head), 60_000):
        answer = trickle(_each(head, 0.0, size))
        assert answer.sent.startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize("length", ["-1", "9" * 21, "9" * 4400, "0x1", "1,2", "+1", "1_0"])
def test_an_invalid_content_length_is_refused(trickle: Any, length: str) -> None:
    head = b"PUT /examplebucket/key HTTP/1.1\r\nHost: localhost\r\nContent-Length: %s\r\n\r\n" % length.encode()
    assert trickle(iter([(0.0, head)])).sent.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("module", ["oss.multipart", "oss.objects", "body"])
def test_a_body_larger_than_the_maximum_is_refused(
    server: OSSServer, client: Any, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    upload_id = client.begin("key")
    query = {"partNumber": "1", "uploadId": upload_id} if module == "oss.multipart" else {}
    monkeypatch.setattr(f"partwise.server.{module}.BODY_BYTES_MAX", 10)

    def send(size: int) -> Any:
        if module != "body":
            return client("PUT", "key", query, body=bytes(size))
        return client("PUT", "key", query, {"Transfer-Encoding": "chunked"}, iter([bytes(size)]), encode_chunked=True)

    assert send(10).status == 200
    reply = send(11)
    assert (reply.status, reply.code in ("EntityTooLarge", "InvalidArgument")) == (400, True)
    stored = server.backend().head_object("key")
    assert stored is None or stored.size == 10


def test_the_maximum_body_is_5_gib() -> None:
    from partwise.server.body import BODY_BYTES_MAX

    assert BODY_BYTES_MAX == 5 * 1024**3


# --- documents -------------------------------------------------------------------------------------------------------


def _document(*parts: str) -> str:
    return f"<CompleteMultipartUpload>{''.join(parts)}</CompleteMultipartUpload>"


_PART = "<Part><PartNumber>1</PartNumber><ETag>etag</ETag></Part>"

_LAUGHS = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_document_type_declaration_is_refused_in_any_encoding(encoding: str) -> None:
    head = f'<?xml version="1.0" encoding="{encoding}"?>'
    with pytest.raises(ServiceError, match="document type"):
        parse_part_list((head + _LAUGHS + _document(_PART)).encode(encoding))
    assert parse_part_list((head + _document(_PART)).encode(encoding)) == [(1, "etag")]


@pytest.mark.parametrize(
    "document",
    [
        _document(_PART, "<a>" * 100_000, "</a>" * 100_000),
        _document(_PART, "<a>" * 8, "</a>" * 8),
        _document(_PART, "<a/>" * 100_000),
        _document("<Part><PartNumber>1</PartNumber><ETag>", "e" * 1025, "</ETag></Part>"),
        _document("<Part><PartNumber>", "1" * 4400, "</PartNumber><ETag>e</ETag></Part>"),
        _document("<Part><PartNumber>-1</PartNumber><ETag>e</ETag></Part>"),
        _document("<Part><PartNumber>1_0</PartNumber><ETag>e</ETag></Part>"),
        _document("<Part><PartNumber>\uff11</PartNumber><ETag>e</ETag></Part>"),
    ],
    ids=["deep", "deeper than 8", "long", "long ETag", "long number", "-1", "1_0", "wide 1"],
)
def test_an_excessive_document_is_refused(document: str) -> None:
    with pytest.raises(ServiceError) as caught:
        parse_part_list(document.encode())
    assert caught.value.code == "MalformedXML"


def test_a_document_with_the_maximum_number_of_parts_is_read() -> None:
    parts = [
        f"<Part><PartNumber> {n} </PartNumber><ETag>&quot;{'E' * 32}&quot;</ETag></Part>" for n in range(1, 10_001)
    ]
    read = parse_part_list(_document(*parts).encode())
    assert (len(read), read[-1]) == (10_000, (10_000, "E" * 32))


def test_unknown_elements_are_ignored() -> None:
    space = 'xmlns="http://doc.oss-cn-hangzhou.aliyuncs.com"'
    odd = "<Part><ETag>a</ETag><x><y><z/></y></x><PartNumber>2</PartNumber></Part>"
    document = f"<CompleteMultipartUpload {space}><Other><Part/></Other>{_PART}{odd}</CompleteMultipartUpload>"
    assert parse_part_list(document.encode()) == [(1, "etag"), (2, "a")]


# --- limits of the service, on both sides ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-oss-tagging": "&".join(f"k{i}=v" for i in range(10))}, 200),
        ({"x-oss-tagging": "&".join(f"k{i}=v" for i in range(11))}, 400),
        ({"x-oss-meta-a": "x" * 8191}, 200),
        ({"x-oss-meta-a": "x" * 8192}, 400),
        ({"x-oss-traffic-limit": "838860800"}, 200),
        ({"x-oss-traffic-limit": "838860801"}, 400),
        ({"x-oss-traffic-limit": "819200"}, 200),
        ({"x-oss-traffic-limit": "0819200"}, 200),
        ({"x-oss-traffic-limit": "0000819200"}, 400),
    ],
    ids=str,
)
def test_metadata_and_tags_of_an_object_are_limited(client: Any, headers: dict[str, str], status: int) -> None:
    assert client("PUT", "key", headers=headers, body=b"x").status == status


@pytest.mark.parametrize(("number", "status"), [("10000", 200), ("10001", 400), ("1", 200), ("0", 400)])
def test_the_maximum_part_number_is_10000(client: Any, number: str, status: int) -> None:
    upload_id = client.begin("key")
    assert client("PUT", "key", {"partNumber": number, "uploadId": upload_id}, body=b"x").status == status


@pytest.mark.parametrize("name", ["max-keys", "max-uploads", "max-parts"])
@pytest.mark.parametrize(("limit", "status"), [("1000", 200), ("1001", 400), ("1", 200), ("0", 400)])
def test_a_list_has_at_most_1000_entries(client: Any, name: str, limit: str, status: int) -> None:
    queries = {"max-keys": {}, "max-uploads": {"uploads": ""}, "max-parts": {"uploadId": client.begin("key")}}
    key = "key" if name == "max-parts" else None
    reply = client("GET", key, {**queries[name], name: limit})
    assert reply.status == status
    if status == 200:
        assert reply.text("".join(word.title() for word in name.split("-"))) == limit


def test_a_document_has_at_most_4_mib(client: Any) -> None:
    upload_id = client.begin("key")
    etag = client.part("key", upload_id, 1, b"x").headers["ETag"]
    document = _document(f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>")
    query = {"uploadId": upload_id}
    too_large = document.ljust(4 * MIB + 1).encode()
    assert client("POST", "key", query, body=too_large).code == "MalformedXML"
    assert client("POST", "key", query, body=document.ljust(4 * MIB).encode()).status == 200


@pytest.mark.parametrize(("size", "status"), [(100 * KIB, 200), (100 * KIB - 1, 400)])
def test_every_part_but_the_last_has_at_least_100_kib(client: Any, size: int, status: int) -> None:
    assert client.upload("key", [bytes(size), b"x"]).status == status


def test_the_backend_limits_the_size_of_an_object(client_of: Any) -> None:
    limits = PartLimits(min_part_size=1, max_part_size=10, max_object_size=20)
    for last, status in ((b"x" * 10, 200), (b"x" * 10 + b"y", 400)):
        with OSSServer(
            {"examplebucket": MemoryBackend(limits=limits)}, settings=ServerSettings(min_part_size=1)
        ) as server:
            client = client_of(server)
            upload_id = client.begin("key")
            parts = [(1, bytes(10)), (2, last[:10]), (3, last[10:])]
            parts_done = [(n, client.part("key", upload_id, n, data).headers["ETag"]) for n, data in parts if data]
            assert client.complete("key", upload_id, parts_done).status == status


def test_the_default_maximum_is_512_connections() -> None:
    """Each has a file descriptor, and may have a file open; the limit of a process is often 1,024."""
    assert ServerSettings().max_connections == 512
