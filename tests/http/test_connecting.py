"""Connecting to names with several addresses, of which some do not answer."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time

import pytest

from partwise.backends._http import connecting
from partwise.backends._http.connecting import Dialer, set_keepalive
from partwise.backends._http.cutting import Cutter

STREAM = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")


def ipv4(address, port):
    return (socket.AF_INET, *STREAM, (address, port))


def ipv6(address, port):
    return (socket.AF_INET6, *STREAM, (address, port, 0, 0))


class Network:
    """Names, listeners on addresses of the loopback, and addresses that do not answer."""

    def __init__(self, monkeypatch):
        self.found = []
        self.tried = []
        self._silent = []
        self._open = contextlib.ExitStack()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: list(self.found))
        start = connecting._start

        def recorded(address):
            self.tried.append(address[3][0])
            return start(address)

        monkeypatch.setattr(connecting, "_start", recorded)

    def listening(self, address):
        """Return the address information of a server."""
        server = self._open.enter_context(socket.create_server((address, 0)))
        return ipv4(*server.getsockname())

    def refusing(self, address):
        """Return the address information of a port that nothing listens on."""
        with socket.create_server((address, 0)) as server:
            return ipv4(*server.getsockname())

    def silent(self, address):
        """Return the address information of a server whose queue is full, so that it does not answer."""
        server = self._open.enter_context(socket.create_server((address, 0), backlog=0))
        for _ in range(3):
            filling = self._open.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(server.getsockname())
        return ipv4(*server.getsockname())

    def close(self):
        self._open.close()


@pytest.fixture
def network(monkeypatch):
    made = Network(monkeypatch)
    yield made
    made.close()


def connect(dialer, timeout=5.0, cutter=None):
    """Connect, and return the address that was connected to, and the seconds that it took."""
    started = time.monotonic()
    with dialer.connect("storage.example", 80, timeout, cutter) as sock:
        assert sock.gettimeout() == timeout
        return sock.getpeername()[0], time.monotonic() - started


def test_an_address_that_does_not_answer_costs_a_quarter_of_a_second_once(network):
    network.found = [network.silent("127.0.0.2"), network.listening("127.0.0.3")]
    dialer = Dialer()
    address, seconds = connect(dialer)

    assert address == "127.0.0.3"
    assert 0.2 < seconds < 3

    network.tried.clear()
    assert connect(dialer)[0] == "127.0.0.3"
    assert network.tried == ["127.0.0.3"], "the one that worked is tried first, and alone"


def test_an_address_that_refuses_costs_nothing(network, monkeypatch):
    monkeypatch.setattr(connecting, "_NEXT_ADDRESS_AFTER", 60.0)
    network.found = [network.refusing("127.0.0.2"), network.listening("127.0.0.3")]

    assert connect(Dialer())[0] == "127.0.0.3"


def test_an_address_without_a_route_costs_nothing(network, monkeypatch):
    """As IPv6 on most machines without IPv6."""
    monkeypatch.setattr(connecting, "_NEXT_ADDRESS_AFTER", 60.0)
    network.found = [ipv6("2001:db8::1", 80), network.listening("127.0.0.3")]
    start = connecting._start

    def unreachable(address):
        if address[0] == socket.AF_INET6:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        return start(address)

    monkeypatch.setattr(connecting, "_start", unreachable)
    assert connect(Dialer())[0] == "127.0.0.3"


def test_when_the_address_that_worked_refuses_the_others_are_tried(network):
    first, second = network.listening("127.0.0.2"), network.listening("127.0.0.3")
    network.found = [first, second]
    dialer = Dialer()
    assert connect(dialer)[0] == "127.0.0.2"
    network.found = [network.refusing("127.0.0.2"), second]

    assert connect(dialer)[0] == "127.0.0.3"


def accepted(server):
    """Accept what is waiting, and return how many connections that are."""
    server.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError), contextlib.ExitStack() as opened:
        while True:
            opened.enter_context(server.accept()[0])
            count += 1
    return count


@pytest.fixture
def listener(network):
    server = socket.create_server(("127.0.0.2", 0))
    network.found = [ipv4(*server.getsockname())]
    with server:
        yield server


def test_connections_that_are_started_ahead_are_those_of_the_next_calls(network, listener):
    dialer, asked = Dialer(), []
    dialer.connect_ahead(lambda seconds: asked.append(seconds) or 3)

    for _ in range(4):
        assert connect(dialer)[0] == "127.0.0.2"

    assert len(asked) == 1
    assert 0 <= asked[0] < 5
    assert len(network.tried) == 4, "the first one, and three ahead"
    assert accepted(listener) == 4
    assert connect(dialer)[0] == "127.0.0.2", "another one is made as before"
    assert len(network.tried) == 5


def test_none_is_started_ahead_where_none_is_needed(network, listener):
    dialer = Dialer()
    dialer.connect_ahead(lambda _seconds: 0)
    connect(dialer)

    assert len(network.tried) == accepted(listener) == 1


@pytest.mark.parametrize("broken", ["refusing", "silent"])
def test_a_connection_that_was_started_ahead_and_fails_is_made_as_usual(network, listener, monkeypatch, broken):
    dialer, start = Dialer(), connecting._start
    family, kind, protocol, _, where = getattr(network, broken)("127.0.0.2")
    dialer.connect_ahead(lambda _seconds: 1)
    monkeypatch.setattr(
        connecting, "_start", lambda address: start((family, kind, protocol, where) if network.tried else address)
    )
    connect(dialer)
    monkeypatch.setattr(connecting, "_start", start)

    assert connect(dialer)[0] == "127.0.0.2"
    assert accepted(listener) == 2


def test_connections_that_can_not_be_started_ahead_are_made_later(network, listener, monkeypatch):
    dialer, start, left = Dialer(), connecting._start, [2]

    def limited(address):
        if not left[0]:
            raise OSError(errno.EMFILE, "Too many open files")
        left[0] -= 1
        return start(address)

    monkeypatch.setattr(connecting, "_start", limited)
    dialer.connect_ahead(lambda _seconds: 50)
    connect(dialer)
    monkeypatch.setattr(connecting, "_start", start)

    assert [connect(dialer)[0] for _ in range(3)] == ["127.0.0.2"] * 3


@pytest.mark.parametrize("end", [Dialer.close, lambda _dialer: None])
def test_connections_that_no_call_has_used_are_closed(network, listener, end):
    dialer = Dialer()
    dialer.connect_ahead(lambda _seconds: 5)
    connect(dialer)
    started = [sock for _, _, sock in dialer._ahead]
    end(dialer)
    del dialer

    assert len(started) == 5
    assert {sock.fileno() for sock in started} == {-1}


@pytest.mark.parametrize(("host", "later"), [("storage.example", 10.0), ("another.example", 0.0)])
def test_a_connection_that_is_old_or_of_another_server_is_not_used(network, listener, monkeypatch, host, later):
    dialer, now = Dialer(), time.monotonic
    dialer.connect_ahead(lambda _seconds: 2)
    connect(dialer)
    network.tried.clear()
    monkeypatch.setattr(connecting.time, "monotonic", lambda: now() + later)

    dialer.connect(host, 80, 5.0).close()

    assert len(network.tried) == 1
    assert dialer._ahead == []


def test_the_families_are_tried_in_turns(monkeypatch):
    """If one of them does not work at all, its addresses do not delay the other one's much."""
    six = [ipv6(f"2001:db8::{number}", 80) for number in range(4)]
    four = [ipv4(f"192.0.2.{number}", 80) for number in range(2)]
    tried = []

    def refused(address):
        tried.append(address[3][0])
        raise OSError(errno.ECONNREFUSED, "Connection refused")

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: six + four)
    monkeypatch.setattr(connecting, "_start", refused)
    with pytest.raises(ConnectionRefusedError):
        Dialer().connect("storage.example", 80, 5.0)

    assert tried == ["2001:db8::0", "192.0.2.0", "2001:db8::1", "192.0.2.1", "2001:db8::2", "2001:db8::3"]


def test_the_timeout_is_for_all_addresses_together(network):
    network.found = [network.silent("127.0.0.2"), network.silent("127.0.0.3"), network.silent("127.0.0.4")]
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        connect(Dialer(), timeout=0.6)

    assert time.monotonic() - started < 5
    assert network.tried == ["127.0.0.2", "127.0.0.3", "127.0.0.4"]


def test_if_no_address_works_the_last_error_is_raised(network):
    network.found = [network.refusing("127.0.0.2"), network.refusing("127.0.0.3")]
    with pytest.raises(ConnectionRefusedError):
        connect(Dialer())


def test_a_request_is_cut_while_it_connects(network, monkeypatch):
    monkeypatch.setattr(connecting, "_LOOK_INTERVAL", 0.01)
    network.found = [network.silent("127.0.0.2")]
    cutter = Cutter()
    timer = threading.Timer(0.05, cutter.cut, ["too slow"])
    timer.start()
    with pytest.raises(ConnectionAbortedError):
        connect(Dialer(), timeout=20.0, cutter=cutter)
    timer.join()


def test_no_socket_stays_open(network, recwarn):
    network.found = [network.silent("127.0.0.2"), network.refusing("127.0.0.3"), network.listening("127.0.0.4")]
    connect(Dialer())

    assert [warning for warning in recwarn if warning.category is ResourceWarning] == []


# --- keepalive -------------------------------------------------------------------------------------------------------


def test_a_connection_that_was_lost_silently_is_noticed_by_the_kernel():
    with socket.socket() as sock:
        set_keepalive(sock, 60.0)

        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        for name, value in {
            "TCP_KEEPIDLE": 30,
            "TCP_KEEPINTVL": 10,
            "TCP_KEEPCNT": 3,
            "TCP_USER_TIMEOUT": 60_000,
        }.items():
            if hasattr(socket, name):
                assert sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value


def test_without_these_options_nothing_fails(monkeypatch):
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT"):
        monkeypatch.delattr(socket, name, raising=False)
    with socket.socket() as sock:
        set_keepalive(sock, 60.0)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    set_keepalive(sock, 60.0)  # of a closed one, neither
