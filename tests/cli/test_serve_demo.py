"""``partwise serve`` and ``partwise demo``: the server on loopback, and the show."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Start = Callable[..., Any]

posix = pytest.mark.skipif(os.name == "nt", reason="there are no such signals")


@posix
def test_a_directory_is_served_until_a_signal_comes(child: Start, place: Path, small: Path) -> None:
    (place / "buckets" / "examplebucket").mkdir(parents=True)
    server = child("serve", "buckets", "--json")
    told = json.loads(server.process.stdout.readline())
    assert sorted(told) == ["access_key_id", "access_key_secret", "endpoint", "region"]
    assert told["endpoint"].startswith("http://127.0.0.1:")
    environment = {
        **os.environ,
        "OSS_ENDPOINT": told["endpoint"],
        "OSS_REGION": told["region"],
        "OSS_ACCESS_KEY_ID": told["access_key_id"],
        "OSS_ACCESS_KEY_SECRET": told["access_key_secret"],
    }
    uploaded = child("upload", "small.bin", "oss://examplebucket/a/b", "--json", env=environment).end()
    assert (uploaded.code, uploaded.last["verified"]) == (0, True)
    assert (place / "buckets" / "examplebucket" / "a" / "b").read_bytes() == small.read_bytes()
    ended = server.send(signal.SIGINT)
    assert (ended.code, ended.err) == (0, "stopped\n")


@posix
def test_people_are_told_what_to_set(child: Start, place: Path) -> None:
    (place / "buckets" / "examplebucket").mkdir(parents=True)
    server = child("serve", "buckets")
    lines = [server.process.stdout.readline().decode() for _ in range(6)]
    assert server.send(signal.SIGTERM).code == 0
    assert lines[0].startswith("serving buckets as OSS at http://127.0.0.1:")
    assert lines[0].endswith("; buckets: examplebucket\n")
    assert [line.split("=")[0] for line in lines[1:5]] == [
        "  export OSS_ENDPOINT",
        "  export OSS_REGION",
        "  export OSS_ACCESS_KEY_ID",
        "  export OSS_ACCESS_KEY_SECRET",
    ]


def test_a_port_that_is_taken_is_told(child: Start, place: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = child("serve", "buckets", "--port", str(port)).end()
    assert ended.code == 1
    assert ended.err.startswith(f"partwise: buckets can't be served on port {port}: ")


def test_a_directory_that_is_a_file_is_told(child: Start, small: Path) -> None:
    ended = child("serve", "small.bin").end()
    assert ended.code == 1
    assert ended.err.startswith("partwise: small.bin can't be served")


@pytest.fixture
def temporary(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    folder = place / "temporary"
    folder.mkdir()
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(folder))
    return folder


def test_the_show_ends_well_and_leaves_nothing(child: Start, temporary: Path) -> None:
    ended = child("demo", "--size", "12MiB").end()
    assert ended.code == 0, ended.err
    assert ended.out.count("$ partwise upload backup.tar oss://demo/backup.tar") == 2
    assert "not running" in ended.out
    assert "equal, byte for byte; no checkpoint and no upload is left behind" in ended.out
    assert "resuming backup.tar to oss://demo/backup.tar" in ended.err
    assert list(temporary.iterdir()) == []


def test_the_show_takes_a_file_of_yours(child: Start, temporary: Path, large: Path) -> None:
    before = large.read_bytes()
    ended = child("demo", str(large)).end()
    assert ended.code == 0, ended.err
    assert f"$ partwise upload {large} oss://demo/large.bin" in ended.out
    assert large.read_bytes() == before
    assert list(temporary.iterdir()) == []


def test_a_file_that_is_too_small_for_the_show_is_told(child: Start, temporary: Path, small: Path) -> None:
    ended = child("demo", "small.bin").end()
    assert (ended.code, "too small" in ended.err) == (1, True)


@posix
def test_the_show_can_be_stopped_and_leaves_nothing(child: Start, temporary: Path) -> None:
    show = child("demo", "--size", "64MiB")
    while b"$ partwise upload" not in show.process.stdout.readline():
        pass
    assert show.send(signal.SIGTERM).code == 143
    assert list(temporary.iterdir()) == []
