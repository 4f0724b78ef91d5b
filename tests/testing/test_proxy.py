"""The proxy that breaks connections: what is forwarded, what is lost, and what is counted."""

from __future__ import annotations

import contextlib
import errno
import math
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import pytest

from partwise.errors import InvalidInput
from partwise.model import MIB
from partwise.testing import FaultyProxy, LinkConditions, LinkFault

QUIET = LinkConditions(sent_between=None, received_between=None)


class Echo(socketserver.StreamRequestHandler):
    """Echoes what it receives, and records how the connection ended."""

    def handle(self) -> None:
        received = 0
        end = "in order"
        try:
            while data := self.request.recv(65536):
                received += len(data)
                self.request.sendall(data)
        except OSError:
            end = "reset"
        self.server.seen.append((received, end))  # type: ignore[attr-defined]  # of the fixture


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Echo)
        self.seen: list[tuple[int, str]] = []
        self.timeout = 0
        self.idle = False
        self.thread = threading.Thread(target=self.serve_forever, args=(0.005,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def end(self) -> None:
        """Wait until every connection has ended, including those not accepted yet."""
        self.shutdown()
        self.thread.join()
        while not self.idle:
            self.handle_request()
        self.server_close()

    def handle_timeout(self) -> None:
        self.idle = True


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    server = EchoServer()
    server.thread.start()
    yield server
    if server.thread.is_alive():
        server.end()


def connected(proxy: FaultyProxy) -> socket.socket:
    parts = urlsplit(proxy.endpoint)
    assert parts.hostname is not None
    assert parts.port is not None
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


def sent_and_received(proxy: FaultyProxy, data: bytes) -> tuple[bytes, str]:
    """Return what was received, and how the connection ended."""
    received = bytearray()
    ends = set()

    def send(connection: socket.socket) -> None:
        # Only the side that notices a reset first sees it.
        try:
            connection.sendall(data)
        except OSError:
            ends.add("reset")
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)

    try:
        connection = connected(proxy)
    except ConnectionResetError:
        return b"", "reset"  # on a busy machine it comes before the connection was noticed
    with connection:
        sender = threading.Thread(target=send, args=(connection,))
        sender.start()
        try:
            while piece := connection.recv(65536):
                received += piece
        except OSError:
            ends.add("reset")
        sender.join()
    return bytes(received), "reset" if ends else "in order"


DATA = bytes(range(256)) * 4096 * 3


def test_without_faults_all_bytes_are_forwarded_in_both_directions(echo: EchoServer) -> None:
    with FaultyProxy(echo.url, QUIET) as proxy:
        assert sent_and_received(proxy, DATA) == (DATA, "in order")
        assert sent_and_received(proxy, b"") == (b"", "in order")
        assert proxy.connections == 2
        assert sum(proxy.injected.values()) == 0


@pytest.mark.parametrize("kind", [LinkFault.DELAY, LinkFault.THROTTLE])
def test_faults_that_only_delay_lose_nothing(echo: EchoServer, kind: LinkFault) -> None:
    slow = LinkConditions(
        kinds=(kind,), sent_between=MIB, received_between=MIB, delay=0.01, throttle_rate=MIB, throttle_bytes=1000
    )
    with FaultyProxy(echo.url, slow) as proxy:
        assert sent_and_received(proxy, DATA) == (DATA, "in order")
        assert proxy.injected[kind] == sum(proxy.injected.values()) > 0
    assert not kind.breaks


@pytest.mark.parametrize("kind", [kind for kind in LinkFault if kind.breaks])
def test_a_fault_in_received_bytes_happens_at_the_drawn_byte(echo: EchoServer, kind: LinkFault) -> None:
    broken = LinkConditions(seed=3, kinds=(kind,), sent_between=None, received_between=100_000, stall=0.05)
    at, _ = next(broken.faults(1, "received"))
    with FaultyProxy(echo.url, broken) as proxy:
        received, end = sent_and_received(proxy, DATA[:at])
        assert proxy.injected == {**dict.fromkeys(LinkFault, 0), kind: 1}
    assert end == ("in order" if kind is LinkFault.TRUNCATE else "reset")
    # A reset may overtake what was sent before it.
    assert DATA.startswith(received)
    assert len(received) == at or end == "reset"


@pytest.mark.parametrize("kind", [kind for kind in LinkFault if kind.breaks])
def test_a_fault_in_sent_bytes_happens_at_the_drawn_byte(echo: EchoServer, kind: LinkFault) -> None:
    broken = LinkConditions(seed=4, kinds=(kind,), sent_between=100_000, received_between=None, stall=0.05)
    at, _ = next(broken.faults(1, "sent"))
    with FaultyProxy(echo.url, broken) as proxy:
        received, _ = sent_and_received(proxy, DATA)
        assert proxy.injected[kind] == 1
    echo.end()
    [(arrived, end)] = echo.seen
    assert len(received) <= arrived <= at
    assert arrived == at or end == "reset"


def test_faults_depend_on_seed_connection_and_direction_only() -> None:
    def drawn(seed: int, connection: int, direction: str) -> list[tuple[int, LinkFault]]:
        return list(islice(LinkConditions(seed=seed).faults(connection, direction), 5))  # type: ignore[arg-type]

    scripts = [drawn(s, c, d) for s in (0, 1) for c in (1, 2) for d in ("sent", "received")]
    assert scripts == [drawn(s, c, d) for s in (0, 1) for c in (1, 2) for d in ("sent", "received")]
    assert len({tuple(script) for script in scripts}) == len(scripts)


def test_faults_are_as_frequent_as_configured() -> None:
    faults = list(islice(LinkConditions(sent_between=1000).faults(1, "sent"), 2000))
    assert 900 < faults[-1][0] / len(faults) < 1100
    assert {kind for _, kind in faults} == set(LinkFault)
    positions = [position for position, _ in faults]
    assert positions == sorted(set(positions))


@pytest.mark.parametrize("nothing", [LinkConditions(sent_between=None), LinkConditions(kinds=())])
def test_without_configured_faults_there_are_none(nothing: LinkConditions) -> None:
    assert list(nothing.faults(1, "sent")) == []


@pytest.mark.parametrize(
    "name", ["sent_between", "received_between", "delay", "stall", "throttle_rate", "throttle_bytes"]
)
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf], ids=str)
def test_an_invalid_number_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=name):
        LinkConditions(**{name: value})


def test_a_missing_server_is_a_reset(echo: EchoServer) -> None:
    echo.end()
    with FaultyProxy(echo.url, QUIET) as proxy:
        assert sent_and_received(proxy, b"x") == (b"", "reset")


def test_stopping_ends_open_connections(echo: EchoServer) -> None:
    proxy = FaultyProxy(echo.url, QUIET)
    proxy.start()
    with connected(proxy) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        proxy.stop()
        proxy.stop()
        assert connection.recv(1) == b""
    with pytest.raises(RuntimeError, match="no endpoint"):
        _ = proxy.endpoint


def test_a_client_that_disconnects_disconnects_the_server(echo: EchoServer) -> None:
    with FaultyProxy(echo.url, QUIET) as proxy:
        with connected(proxy) as connection:
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
        echo.end()
    assert echo.seen == [(1, "in order")]


def test_a_proxy_can_be_started_once(echo: EchoServer) -> None:
    proxy = FaultyProxy(echo.url, QUIET)
    with pytest.raises(RuntimeError, match="not running"):
        _ = proxy.endpoint
    proxy.stop()
    with proxy, pytest.raises(RuntimeError, match="another one"):
        proxy.start()


def test_a_client_beyond_the_limit_waits(echo: EchoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("partwise.testing.proxy._LINKS_MAX", 1)
    with FaultyProxy(echo.url, QUIET) as proxy, connected(proxy) as first:
        first.sendall(b"1")
        assert first.recv(1) == b"1"
        with connected(proxy) as second:
            second.sendall(b"2")
            second.settimeout(0.05)
            with pytest.raises(TimeoutError):
                second.recv(1)
            assert proxy.connections == 1
            first.close()
            second.settimeout(30)
            assert second.recv(1) == b"2"


def test_a_proxy_without_file_descriptors_retries_after_a_pause(
    echo: EchoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    class Full(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            tried.append(1)
            if len(tried) <= 3:
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    def create_server(address: tuple[str, int], **_: object) -> socket.socket:
        listener = Full()
        listener.bind(address)
        listener.listen()
        return listener

    monkeypatch.setattr("partwise.testing.proxy.socket.create_server", create_server)
    started = time.monotonic()
    with FaultyProxy(echo.url, QUIET) as proxy:
        assert sent_and_received(proxy, b"x") == (b"x", "in order")
    assert len(tried) == 4
    assert time.monotonic() - started > 0.06


@pytest.mark.parametrize(
    "url", ["127.0.0.1:80", "http://host", "http://:80", "http://h:70000", "http://[", "http://h:x"]
)
def test_an_invalid_upstream_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="host and port"):
        FaultyProxy(url, QUIET)
