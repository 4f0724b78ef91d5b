"""HTTP as such: connections, framing, large bodies, and clients that misbehave."""

from __future__ import annotations

import http.client
import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import evolve

from partwise.backends.memory import MemoryBackend
from partwise.server import OSSServer, ServerSettings


def _connect(server: OSSServer) -> socket.socket:
    host, port = server.endpoint.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def _read_all(connection: socket.socket) -> bytes:
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


@pytest.fixture
def anybody() -> Iterator[OSSServer]:
    """A server that asks for no signature."""
    with OSSServer(settings=ServerSettings(allow_anonymous=True)) as server:
        yield server


def test_a_connection_serves_many_requests(anybody: OSSServer) -> None:
    connection = http.client.HTTPConnection(anybody.endpoint.removeprefix("http://"), timeout=20)
    sockets = set()
    for method, path, body in [
        ("PUT", "/examplebucket/a", b"1"),
        ("HEAD", "/examplebucket/a", None),
        ("HEAD", "/examplebucket/missing", None),
        ("PUT", "/nothing/a", b"2" * 300_000),
        ("GET", "/examplebucket/a", None),
        ("DELETE", "/examplebucket/a", None),
        ("GET", "/examplebucket/a", None),
    ]:
        connection.request(method, path, body)
        sockets.add(connection.sock)
        connection.getresponse().read()
    connection.close()
    assert len(sockets) == 1
    assert [request.status for request in anybody.requests] == [200, 200, 404, 404, 200, 204, 404]


def test_a_body_may_be_chunked(anybody: OSSServer) -> None:
    connection = http.client.HTTPConnection(anybody.endpoint.removeprefix("http://"), timeout=20)
    connection.request("PUT", "/examplebucket/key", iter([b"one", b"two" * 100_000]), encode_chunked=True)
    assert connection.getresponse().read() == b""
    connection.request("GET", "/examplebucket/key")
    assert connection.getresponse().read() == b"one" + b"two" * 100_000
    connection.close()


def test_a_body_without_any_framing_is_refused(anybody: OSSServer) -> None:
    with _connect(anybody) as connection:
        connection.sendall(b"PUT /examplebucket/key HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = _read_all(connection)
    assert answer.startswith(b"HTTP/1.1 411 ")
    assert b"<Code>MissingContentLength</Code>" in answer


def test_a_client_that_asks_first_is_told_to_go_on(anybody: OSSServer) -> None:
    with _connect(anybody) as connection:
        connection.sendall(
            b"PUT /examplebucket/key HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
            b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"data")
        assert _read_all(connection).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_asks_first_is_refused_before_it_sends(anybody: OSSServer) -> None:
    with _connect(anybody) as connection:
        connection.sendall(
            b"PUT /nothing/key HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        )
        answer = _read_all(connection)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"connection: close" in answer.lower()


def test_a_body_that_ends_early_stores_nothing(anybody: OSSServer) -> None:
    with _connect(anybody) as connection:
        connection.sendall(b"PUT /examplebucket/key HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf")
        connection.shutdown(socket.SHUT_WR)
        answer = _read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"<Code>IncompleteBody</Code>" in answer
    assert anybody.backend().head_object("key") is None


def test_a_body_that_stops_coming_times_out(anybody: OSSServer) -> None:
    anybody.settings = evolve(anybody.settings, idle_timeout=0.05)
    with _connect(anybody) as connection:
        connection.sendall(b"PUT /examplebucket/key HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf")
        answer = _read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"<Code>RequestTimeout</Code>" in answer


def test_an_idle_connection_is_closed_without_a_word(anybody: OSSServer) -> None:
    anybody.settings = evolve(anybody.settings, idle_timeout=0.05)
    with _connect(anybody) as connection:
        assert _read_all(connection) == b""


def test_what_is_no_http_is_refused(anybody: OSSServer) -> None:
    with _connect(anybody) as connection:
        connection.sendall(b"hello\r\n\r\n")
        answer = _read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"<Code>BadRequest</Code>" in answer
    assert anybody.requests == ()


def _break_off(server: OSSServer, begun: bytes) -> None:
    """Send the beginning of a request, reset the connection, and wait until the server has seen it."""
    before = len(server.requests)
    connection = _connect(server)
    connection.sendall(begun)
    linger = struct.pack("ii" if os.name == "posix" else "hh", 1, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()
    deadline = time.monotonic() + 20
    while len(server.requests) == before and time.monotonic() < deadline:
        time.sleep(0.002)


def test_a_client_that_goes_away_in_the_middle_is_on_record(anybody: OSSServer) -> None:
    _break_off(anybody, b"PUT /examplebucket/key HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\nhalf")
    assert [request.status for request in anybody.requests] == [None]
    assert anybody.backend().head_object("key") is None


def test_a_client_that_goes_away_before_it_has_sent_all_gets_no_object(anybody: OSSServer) -> None:
    """A request to read may have a body too; whoever breaks it off does not get an answer."""
    connection = http.client.HTTPConnection(anybody.endpoint.removeprefix("http://"), timeout=20)
    connection.request("PUT", "/examplebucket/key", b"data")
    connection.getresponse().read()
    connection.close()
    _break_off(anybody, b"GET /examplebucket/key HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\nhalf")
    assert [request.status for request in anybody.requests] == [200, None]


def test_a_large_body_is_never_held_whole(tmp_path: Any) -> None:
    """The backend sees pieces of a bounded size, as they come."""
    sizes: list[int] = []

    class Counting(MemoryBackend):
        def put_object(self, key: str, body: Any, options: Any) -> Any:
            sizes.extend(len(chunk) for chunk in body.chunks())
            return super().put_object(key, _Empty(), options)

    with OSSServer({"bucket": Counting()}, settings=ServerSettings(allow_anonymous=True)) as server:
        connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"), timeout=20)
        connection.request("PUT", "/bucket/key", bytes(20_000_000))
        assert connection.getresponse().status == 200
        connection.close()
    assert sum(sizes) == 20_000_000
    assert max(sizes) <= 256 * 1024


class _Empty:
    crc64 = None

    def __len__(self) -> int:
        return 0

    def chunks(self) -> Iterator[memoryview]:
        return iter(())


def test_an_object_that_shrinks_while_it_is_read_breaks_the_connection(
    anybody: OSSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = anybody.backend()
    assert isinstance(backend, MemoryBackend)
    connection = http.client.HTTPConnection(anybody.endpoint.removeprefix("http://"), timeout=20)
    connection.request("PUT", "/examplebucket/key", b"data")
    connection.getresponse().read()
    monkeypatch.setattr(backend, "read", lambda key: b"d")
    connection.request("GET", "/examplebucket/key")
    with pytest.raises(http.client.IncompleteRead):
        connection.getresponse().read()
    connection.close()


def test_an_object_that_vanishes_before_it_is_read_is_missing(
    anybody: OSSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = anybody.backend()
    assert isinstance(backend, MemoryBackend)
    connection = http.client.HTTPConnection(anybody.endpoint.removeprefix("http://"), timeout=20)
    connection.request("PUT", "/examplebucket/key", b"data")
    connection.getresponse().read()
    monkeypatch.setattr(backend, "read", {}.__getitem__)
    connection.request("GET", "/examplebucket/key")
    assert connection.getresponse().status == 404
    connection.close()
