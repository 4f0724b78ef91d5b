"""A connection that says nothing, or takes nothing, is given up on, by whatever the platform has for that."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from partwise.backends.oss.silence import SILENCE, limit_silence, longest_send


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
