"""Timeouts of a peer that sends or accepts nothing, by each mechanism of a platform."""

from __future__ import annotations

import os
import socket
import struct
import sys
from types import SimpleNamespace

import pytest

from partwise.backends._http import timeouts
from partwise.backends._http.timeouts import TIMEOUT_ERRORS, TooSlow, max_send_size, send_all, set_timeout


def _without_socket_options(monkeypatch):
    monkeypatch.delattr(socket, "SO_RCVTIMEO", raising=False)


def _on_windows(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")


def _with_non_blocking_descriptors(monkeypatch):
    monkeypatch.setattr(os, "get_blocking", lambda _: False)


@pytest.fixture(params=[None, _without_socket_options, _on_windows, _with_non_blocking_descriptors])
def platform(request, monkeypatch):
    if request.param is not None:
        request.param(monkeypatch)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("seconds", [0.05, 1e-9])
def test_a_peer_that_sends_nothing_times_out(platform, pair, seconds):
    ours, _ = pair
    set_timeout(ours, seconds)

    with pytest.raises(TIMEOUT_ERRORS):
        ours.recv(1)


def test_a_peer_that_accepts_nothing_times_out(platform, pair):
    ours, _ = pair
    set_timeout(ours, 0.05)

    with pytest.raises(TIMEOUT_ERRORS):
        ours.sendall(bytes(50_000_000))


def test_a_peer_that_responds_in_time_does_not_time_out(platform, pair):
    ours, theirs = pair
    set_timeout(ours, 30.0)
    ours.sendall(b"request")
    theirs.sendall(theirs.recv(100).upper())

    assert ours.recv(100) == b"REQUEST"


@pytest.mark.skipif(sys.platform == "win32", reason="only Python's timeout is available")
def test_with_a_kernel_timeout_the_socket_is_blocking(pair):
    ours, _ = pair
    set_timeout(ours, 30.0)

    assert ours.gettimeout() is None
    assert os.get_blocking(ours.fileno())


def test_one_send_is_limited_to_1_mib_where_the_timeout_covers_the_whole_call(pair, monkeypatch):
    """The kernel's timeout applies to each wait, Python's to the whole call."""
    ours, _ = pair
    set_timeout(ours, 30.0)
    assert (max_send_size(ours) > 2**40) == (ours.gettimeout() is None)

    _on_windows(monkeypatch)
    set_timeout(ours, 30.0)
    assert max_send_size(ours) == 2**20


class SlowSocket:
    """A socket with a kernel timeout of 60 seconds, that accepts `accepted` bytes in each of them."""

    def __init__(self, clock, accepted):
        self.clock, self.accepted, self.got = clock, accepted, b""

    def gettimeout(self):
        return None

    def getsockopt(self, level, option, size):
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_SNDTIMEO)
        return struct.pack("ll", 60, 0)

    def send(self, data):
        piece = bytes(data[: self.accepted])
        self.got += piece
        self.clock[0] += 60.0 if len(piece) < len(data) else 0.0
        return len(piece)


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(timeouts, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_a_peer_that_accepts_1_kib_per_second_is_fast_enough(clock):
    sock = SlowSocket(clock, 60 * 1024)
    send_all(sock, b"x" * 2**20)
    assert sock.got == b"x" * 2**20


@pytest.mark.parametrize("accepted", [1, 100, 20 * 1024])
def test_a_peer_that_never_times_out_but_accepts_less_is_too_slow(clock, accepted):
    """Otherwise a part of 8 MiB at one byte per second would take three months."""
    with pytest.raises(TooSlow, match="less than 1024 bytes per second"):
        send_all(SlowSocket(clock, accepted), b"x" * 2**20)
    assert isinstance(TooSlow(), TIMEOUT_ERRORS)
    assert clock[0] <= 60 + 1024


def test_a_pause_shorter_than_the_timeout_is_not_too_slow(clock):
    class Paused(SlowSocket):
        def send(self, data):
            self.clock[0] += 59.0 if not self.got else 0.0
            piece = bytes(data[:10] if not self.got else data)
            self.got += piece
            return len(piece)

    sock = Paused(clock, 0)
    send_all(sock, b"x" * 2**20)
    assert len(sock.got) == 2**20


@pytest.mark.skipif(sys.platform == "win32", reason="only Python's timeout is available")
def test_the_timeout_can_be_read_back_from_the_kernel(pair):
    ours, _ = pair
    set_timeout(ours, 12.5)
    assert timeouts._kernel_timeout(ours) == pytest.approx(12.5, abs=0.02)
