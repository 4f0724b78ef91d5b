"""Requests that another thread cuts: what is waiting fails at once, and nothing else is affected."""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time

import pytest

from partwise.backends._http.cutting import Cutter
from partwise.backends._http.timeouts import set_timeout
from partwise.backends._http.tls_pump import TLSSocket, tls_context


@pytest.fixture
def pair():
    """Two connected sockets, of which the first one has a timeout that fails the test."""
    listener = socket.create_server(("127.0.0.1", 0))
    ours = socket.create_connection(listener.getsockname())
    theirs, _ = listener.accept()
    set_timeout(ours, 20.0)
    with listener, ours, theirs:
        yield ours, theirs


def in_thread(call):
    """Start a call, and return a function that waits for what it raised."""
    raised = []

    def run():
        try:
            call()
        except OSError as error:
            raised.append(error)
        else:
            raised.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def wait():
        thread.join(10)
        assert raised, "it is still waiting"
        return raised[0]

    return wait


def wait_until_full(sock):
    """Wait until the kernel has accepted nothing for a while, so that a send waits."""
    deadline, looks = time.monotonic() + 10, 0
    while looks < 50:  # in a row: the kernel enlarges its buffers, and then accepts more
        looks = 0 if select.select([], [sock], [], 0)[1] else looks + 1
        assert time.monotonic() < deadline, "it accepts everything"
        time.sleep(0.001)


def test_a_send_that_waits_fails_at_once(pair):
    ours, _ = pair
    cutter = Cutter()
    cutter.attach(ours)
    wait = in_thread(lambda: ours.sendall(bytes(50_000_000)))
    wait_until_full(ours)
    cutter.cut("too slow")

    assert isinstance(wait(), OSError)
    assert cutter.reason == "too slow"


def test_a_receive_that_waits_ends_at_once(pair):
    ours, _ = pair
    received, started = [], threading.Event()
    cutter = Cutter()
    cutter.attach(ours)
    wait = in_thread(lambda: (started.set(), received.append(ours.recv(1))))
    started.wait(10)
    time.sleep(0.05)  # the call of the system follows, and nothing shows when
    cutter.cut("too slow")

    assert wait() is None
    assert received == [b""]


def test_what_has_arrived_before_can_still_be_received(pair):
    ours, theirs = pair
    cutter = Cutter()
    cutter.attach(ours)
    theirs.sendall(b"response")
    while ours.recv(8, socket.MSG_PEEK) != b"response":
        pass
    cutter.cut("too slow")

    assert ours.recv(100) == b"response"
    assert ours.recv(100) == b""


def test_a_tls_connection_is_cut_too(certificate, pair):
    ours, theirs = pair
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    accepted = []
    serving = in_thread(lambda: accepted.append(context.wrap_socket(theirs, server_side=True)))
    secure = TLSSocket(ours, tls_context(str(certificate[0])), "127.0.0.1")
    assert serving() is None
    cutter = Cutter()
    cutter.attach(secure)
    wait = in_thread(lambda: secure.sendall(bytes(50_000_000)))
    wait_until_full(ours)
    cutter.cut("too slow")

    assert isinstance(wait(), OSError)
    accepted[0].close()


def test_a_socket_that_is_attached_after_the_cut_is_shut_down(pair):
    """As when the request is cut while it connects."""
    ours, _ = pair
    cutter = Cutter()
    cutter.cut("too slow")
    cutter.attach(ours)

    assert ours.recv(1) == b""


def test_a_socket_that_was_detached_is_left_alone(pair):
    """It may belong to the next request."""
    ours, theirs = pair
    cutter = Cutter()
    cutter.attach(ours)
    assert cutter.detach()
    cutter.cut("too late")
    theirs.sendall(b"x")

    assert ours.recv(1) == b"x"


def test_detaching_says_whether_the_connection_was_cut(pair):
    cutter = Cutter()
    cutter.attach(pair[0])
    cutter.cut("too slow")

    assert not cutter.detach()


def test_the_first_reason_is_kept_and_a_closed_socket_is_no_problem(pair):
    ours, _ = pair
    cutter = Cutter()
    cutter.attach(ours)
    ours.close()
    cutter.cut("first")
    cutter.cut("second")

    assert cutter.reason == "first"
