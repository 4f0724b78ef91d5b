"""A connection that says nothing, or takes nothing, is given up on, by whatever the platform has for that."""

from __future__ import annotations

import os
import socket
import struct
import sys
from types import SimpleNamespace

import pytest

from partwise.backends._http import timeouts as silence
from partwise.backends._http.timeouts import SILENCE, TooSlow, limit_silence, longest_send, send_all


def _without_the_options(monkeypatch):
    monkeypatch.delattr(socket, "SO_RCVTIMEO", raising=False)


def _on_windows(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")


def _with_descriptors_that_never_block(monkeypatch):
    monkeypatch.setattr(os, "get_blocking", lambda _: False)


@pytest.fixture(params=[None, _without_the_options, _on_windows, _with_descriptors_that_never_block])
def platform(request, monkeypatch):
    if request.param is not None:
        request.param(monkeypatch)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("seconds", [0.05, 1e-9])
def test_a_silent_peer_is_given_up_on(platform, pair, seconds):
    ours, _ = pair
    limit_silence(ours, seconds)

    with pytest.raises(SILENCE):
        ours.recv(1)


def test_a_peer_that_takes_nothing_is_given_up_on(platform, pair):
    ours, _ = pair
    limit_silence(ours, 0.05)

    with pytest.raises(SILENCE):
        ours.sendall(bytes(50_000_000))


def test_a_peer_that_talks_in_time_is_heard(platform, pair):
    ours, theirs = pair
    limit_silence(ours, 30.0)
    ours.sendall(b"how do you do")
    theirs.sendall(theirs.recv(100).upper())

    assert ours.recv(100) == b"HOW DO YOU DO"


@pytest.mark.skipif(sys.platform == "win32", reason="Python's own timeout is what there is")
def test_where_the_kernel_limits_silence_python_does_not_look_before_each_call(pair):
    ours, _ = pair
    limit_silence(ours, 30.0)

    assert ours.gettimeout() is None
    assert os.get_blocking(ours.fileno())


def test_one_call_sends_no_more_than_can_go_in_time_where_the_time_is_that_of_the_call(pair, monkeypatch):
    """The kernel's timeout is for a wait, Python's for all of a call."""
    ours, _ = pair
    limit_silence(ours, 30.0)
    assert (longest_send(ours) > 2**40) == (ours.gettimeout() is None)

    _on_windows(monkeypatch)
    limit_silence(ours, 30.0)
    assert longest_send(ours) == 2**20


class Reluctant:
    """A socket limited by the kernel to a silence of 60 seconds, that takes so much in each of them."""

    def __init__(self, clock, taken):
        self.clock, self.taken, self.got = clock, taken, b""

    def gettimeout(self):
        return None

    def getsockopt(self, level, option, size):
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_SNDTIMEO)
        return struct.pack("ll", 60, 0)

    def send(self, data):
        took = bytes(data[: self.taken])
        self.got += took
        self.clock[0] += 60.0 if len(took) < len(data) else 0.0
        return len(took)


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(silence, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_a_peer_that_takes_a_kibibyte_a_second_is_slow_enough(clock):
    sock = Reluctant(clock, 60 * 1024)
    send_all(sock, b"x" * 2**20)
    assert sock.got == b"x" * 2**20


@pytest.mark.parametrize("taken", [1, 100, 20 * 1024])
def test_a_peer_that_is_never_silent_and_takes_less_is_given_up_on(clock, taken):
    """Nothing else would end it: a part of 8 MiB at a byte a second takes three months."""
    with pytest.raises(TooSlow, match="less than 1024 bytes a second"):
        send_all(Reluctant(clock, taken), b"x" * 2**20)
    assert isinstance(TooSlow(), SILENCE)
    assert clock[0] <= 60 + 1024


def test_a_peer_that_pauses_once_within_the_time_of_silence_is_not_too_slow(clock):
    class Paused(Reluctant):
        def send(self, data):
            self.clock[0] += 59.0 if not self.got else 0.0
            took = bytes(data[:10] if not self.got else data)
            self.got += took
            return len(took)

    sock = Paused(clock, 0)
    send_all(sock, b"x" * 2**20)
    assert len(sock.got) == 2**20


@pytest.mark.skipif(sys.platform == "win32", reason="Python's own timeout is what there is")
def test_the_time_of_silence_is_read_back_from_the_kernel(pair):
    ours, _ = pair
    limit_silence(ours, 12.5)
    assert silence._kernel_limit(ours) == pytest.approx(12.5, abs=0.02)
