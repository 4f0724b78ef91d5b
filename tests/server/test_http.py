"""HTTP: connections, framing, large bodies, and clients that misbehave."""

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
from partwise.server import OSSServer, S3Server, ServerSettings


def _connect(server: OSSServer) -> socket.socket:
    host, port = server.endpoint.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def _read_all(connection: socket.socket) -> bytes:
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


@pytest.fixture
def open_server() -> Iterator[OSSServer]:
    """A server that allows anonymous requests."""
    with OSSServer(settings=ServerSettings(allow_anonymous=True)) as server:
        yield server


def test_a_connection_serves_many_requests(open_server: OSSServer) -> None:
    connection = http.client.HTTPConnection(open_server.endpoint.removeprefix("http://"), timeout=20)
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
    assert [request.status for request in open_server.requests] == [200, 200, 404, 404, 200, 204, 404]


@pytest.mark.parametrize(("server_class", "prefix"), [(OSSServer, "x-oss-meta-"), (S3Server, "x-amz-meta-")])
def test_repeated_headers_are_one_with_commas(server_class: type[OSSServer | S3Server], prefix: str) -> None:
    with server_class(settings=ServerSettings(allow_anonymous=True)) as server:
        connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"), timeout=20)
        connection.putrequest("PUT", "/examplebucket/a")
        for name, value in (("Content-Length", "0"), (f"{prefix}a", "1"), (f"{prefix.title()}A", "2")):
            connection.putheader(name, value)
        connection.endheaders()
        assert connection.getresponse().status == 200
        connection.close()
        head = http.client.HTTPConnection(server.endpoint.removeprefix("http://"), timeout=20)
        head.request("HEAD", "/examplebucket/a")
        assert head.getresponse().headers[f"{prefix}a"] == "1,2"
        head.close()
        assert server.requests[0].headers[f"{prefix}a"] == "1,2"


def test_a_chunked_body_is_accepted(open_server: OSSServer) -> None:
    connection = http.client.HTTPConnection(open_server.endpoint.removeprefix("http://"), timeout=20)
    connection.request("PUT", "/examplebucket/key", iter([b"one", b"two" * 100_000]), encode_chunked=True)
    assert connection.getresponse().read() == b""
    connection.request("GET", "/examplebucket/key")
    assert connection.getresponse().read() == b"one" + b"two" * 100_000
    connection.close()


def test_a_body_without_any_framing_is_refused(open_server: OSSServer) -> None:
    with _connect(open_server) as connection:
        connection.sendall(b"PUT /examplebucket/key HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = _read_all(connection)
    assert answer.startswith(b"HTTP/1.1 411 ")
    assert b"<Code>MissingContentLength</Code>" in answer


def test_a_client_that_expects_100_continue_gets_it(open_server: OSSServer) -> None:
    with _connect(open_server) as connection:
        connection.sendall(
            b"PUT /examplebucket/key HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
            b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"data")
        assert _read_all(connection).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_expects_100_continue_is_refused_before_it_sends_the_body(open_server: OSSServer) -> None:
    with _connect(open_server) as connection:
        connection.sendall(
            b"PUT /nothing/key HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        )
        answer = _read_all(connection)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"connection: close" in answer.lower()


def test_a_body_that_ends_early_stores_nothing(open_server: OSSServer) -> None:
    with _connect(open_server) as connection:
        connection.sendall(b"PUT /examplebucket/key HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf")
        connection.shutdown(socket.SHUT_WR)
        answer = _read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"<Code>IncompleteBody</Code>" in answer
    assert open_server.backend().head_object("key") is None


def test_a_stalled_body_times_out(open_server: OSSServer) -> None:
    open_server.settings = evolve(open_server.settings, idle_timeout=0.05)
    with _connect(open_server) as connection:
        connection.sendall(b"PUT /examplebucket/key HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf")
        answer = _read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"<Code>RequestTimeout</Code>" in answer


def test_an_idle_connection_is_closed_without_a_response(open_server: OSSServer) -> None:
    open_server.settings = evolve(open_server.settings, idle_timeout=0.05)
    with _connect(open_server) as connection:
        assert _read_all(connection) == b""


def test_input_that_is_not_http_is_refused(open_server: OSSServer) -> None:
    with _connect(open_server) as connection:
        connection.sendall(b"hello\r\n\r\n")
        answer = _read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"<Code>BadRequest</Code>" in answer
    assert open_server.requests == ()


def _break_off(server: OSSServer, start: bytes) -> None:
    """Send the start of a request, reset the connection, and wait until the server has noticed."""
    before = len(server.requests)
    connection = _connect(server)
    connection.sendall(start)
    linger = struct.pack("ii" if os.name == "posix" else "hh", 1, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()
    deadline = time.monotonic() + 20
    while len(server.requests) == before and time.monotonic() < deadline:
        time.sleep(0.002)


def test_a_request_whose_client_disconnects_is_recorded(open_server: OSSServer) -> None:
    _break_off(open_server, b"PUT /examplebucket/key HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\nhalf")
    assert [request.status for request in open_server.requests] == [None]
    assert open_server.backend().head_object("key") is None


def test_a_client_that_disconnects_within_its_body_gets_no_response(open_server: OSSServer) -> None:
    """A GET request can have a body, too; without its end there is no response."""
    connection = http.client.HTTPConnection(open_server.endpoint.removeprefix("http://"), timeout=20)
    connection.request("PUT", "/examplebucket/key", b"data")
    connection.getresponse().read()
    connection.close()
    _break_off(open_server, b"GET /examplebucket/key HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\nhalf")
    assert [request.status for request in open_server.requests] == [200, None]


def test_a_large_body_is_never_in_memory_as_a_whole(tmp_path: Any) -> None:
    """The backend gets chunks of limited size, as they arrive."""
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
    checksum = None

    def __len__(self) -> int:
        return 0

    def chunks(self, *, counted: bool = True) -> Iterator[memoryview]:
        return iter(())


def test_an_object_truncated_while_it_is_sent_ends_the_connection(
    open_server: OSSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = open_server.backend()
    assert isinstance(backend, MemoryBackend)
    connection = http.client.HTTPConnection(open_server.endpoint.removeprefix("http://"), timeout=20)
    connection.request("PUT", "/examplebucket/key", b"data")
    connection.getresponse().read()
    monkeypatch.setattr(backend, "read", lambda key: b"d")
    connection.request("GET", "/examplebucket/key")
    with pytest.raises(http.client.IncompleteRead):
        connection.getresponse().read()
    connection.close()


def test_an_object_deleted_before_it_is_opened_is_not_found(
    open_server: OSSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = open_server.backend()
    assert isinstance(backend, MemoryBackend)
    connection = http.client.HTTPConnection(open_server.endpoint.removeprefix("http://"), timeout=20)
    connection.request("PUT", "/examplebucket/key", b"data")
    connection.getresponse().read()
    monkeypatch.setattr(backend, "read", {}.__getitem__)
    connection.request("GET", "/examplebucket/key")
    assert connection.getresponse().status == 404
    connection.close()
