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
