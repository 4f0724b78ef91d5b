"""``partwise serve`` and ``partwise demo``: the server on loopback, and the show."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from partwise.cli.demo import _Demo
from partwise.cli.output import Output
from partwise.errors import PartwiseError
from partwise.model import ObjectOptions
from partwise.testing import OSSServer

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


@pytest.mark.parametrize("line", [["serve", "buckets"], ["demo", "--size", "1MiB"]], ids=["serve", "demo"])
def test_what_the_server_needs_is_told(
    partwise: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, line: list[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith(("partwise.testing.oss_server", "h11"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("partwise.testing.oss_server", raising=False)
    monkeypatch.setitem(sys.modules, "h11", None)
    ended = partwise(*line)
    assert (ended.code, ended.err) == (2, 'partwise: the server needs h11: pip install "partwise[testing]"\n')


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
    assert ended.code == 2
    assert ended.err == "partwise: small.bin is no directory; serve takes one, in which each folder is a bucket\n"


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
    assert "stopped" in ended.out
    assert "equal, byte for byte; no checkpoint and no upload is left behind" in ended.out
    assert "resuming backup.tar to oss://demo/backup.tar at " in ended.err
    assert list(temporary.iterdir()) == []


def test_the_show_takes_a_file_of_yours(child: Start, temporary: Path, large: Path) -> None:
    before = large.read_bytes()
    ended = child("demo", str(large)).end()
    assert ended.code == 0, ended.err
    assert f"$ partwise upload {large} oss://demo/large.bin" in ended.out
    assert large.read_bytes() == before
    assert list(temporary.iterdir()) == []


@pytest.fixture
def shown(place: Path) -> Iterator[Any]:
    """The show after its second run: the file, and the object, which is the same."""
    (place / "buckets" / "demo").mkdir(parents=True)
    (place / "backup.tar").write_bytes(b"the same")
    (place / "buckets" / "demo" / "backup.tar").write_bytes(b"the same")
    with OSSServer(directory=place / "buckets") as server:
        yield _Demo(place, place / "backup.tar", server, Output(quiet=True))


def test_the_show_ends_well_only_if_the_object_is_the_file(shown: Any, place: Path) -> None:
    shown._compared(kept=4, first=4, second=4)
    (place / "buckets" / "demo" / "backup.tar").write_bytes(b"the sane")
    with pytest.raises(PartwiseError, match="differs"):
        shown._compared(kept=4, first=4, second=4)


def test_the_show_ends_well_only_if_nothing_is_left(shown: Any) -> None:
    shown.server.backend("demo").initiate_upload("backup.tar", ObjectOptions())
    with pytest.raises(PartwiseError, match="left behind: 1 upload and 0 checkpoints"):
        shown._compared(kept=4, first=4, second=4)


def test_the_show_needs_room(partwise: Callable[..., Any], temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1024))
    ended = partwise("demo", "--size", "1MiB")
    assert (ended.code, "the demo needs 3.0 MiB in" in ended.err) == (1, True)
    assert list(temporary.iterdir()) == []


def test_a_file_that_is_too_small_for_the_show_is_told(child: Start, temporary: Path, small: Path) -> None:
    ended = child("demo", "small.bin").end()
    assert (ended.code, "too small" in ended.err) == (1, True)


@posix
def test_the_show_can_be_stopped_and_leaves_nothing(child: Start, temporary: Path) -> None:
    show = child("demo", "--size", "64MiB")
    show.read_until("$ partwise upload")
    assert show.send(signal.SIGTERM).code == 143
    assert list(temporary.iterdir()) == []
