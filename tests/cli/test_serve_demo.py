"""``partwise serve`` and ``partwise demo``: the server on loopback, and the show."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve

from partwise.backends.oss import Credentials, OSSBackend
from partwise.cli.demo import _Demo, _folder, _Stops
from partwise.cli.output import Output
from partwise.cli.signals import Stopped
from partwise.cli.streams import steady_streams
from partwise.errors import PartwiseError
from partwise.model import ObjectOptions
from partwise.sources import BytesBody
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


# --- who may use it --------------------------------------------------------------------------------------------------


def _as_another_user(act: Callable[[], Any]) -> Any:
    """What `act` returns in a process of a user who is neither root nor this one."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        result: Any = "the process failed"
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setgid(12345)
            os.setuid(12345)
            result = act()
        os.write(writing, json.dumps(result).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as results:
        result = json.loads(results.read())
    os.waitpid(child, 0)
    return result


def _announced(server: Any) -> dict[str, str]:
    return dict(json.loads(server.process.stdout.readline()))


def _backend(told: dict[str, str], **other: str) -> OSSBackend:
    told = {**told, **other}
    credentials = Credentials(told["access_key_id"], told["access_key_secret"])
    return OSSBackend("examplebucket", endpoint=told["endpoint"], region=told["region"], credentials=credentials)


def _outcome(act: Callable[[], object]) -> str:
    try:
        act()
    except Exception as error:  # noqa: BLE001 -- its kind is what is looked at
        return type(error).__name__
    return "done"


@posix
def test_another_user_can_do_nothing_through_the_server(child: Start, place: Path) -> None:
    """Over a folder that is private."""
    if os.getuid() != 0:
        pytest.skip("needs root: it becomes another user in a child process")
    bucket = place / "buckets" / "examplebucket"
    bucket.mkdir(parents=True)
    (place / "buckets").chmod(0o700)
    server = child("serve", "buckets", "--json")
    told = _announced(server)
    body = BytesBody(b"mine")
    with _backend(told) as backend:
        backend.put_object("key", body, ObjectOptions())
        assert backend.head_object("key")
    pid = server.process.pid

    def try_all() -> list[Any]:
        known = {"access_key_id": "partwise-test-id", "access_key_secret": "partwise-test-secret"}
        guessed = {"access_key_secret": "0" * 40}
        outcomes = []
        for other in (known, guessed):
            with _backend(told, **other) as backend:
                outcomes += [
                    _outcome(lambda: backend.head_object("key")),
                    _outcome(lambda: backend.put_object("key", BytesBody(b"theirs"), ObjectOptions())),
                    _outcome(lambda: list(backend.list_uploads())),
                    _outcome(lambda: backend.initiate_upload("key", ObjectOptions())),
                ]
        visible = Path(f"/proc/{pid}/cmdline").read_bytes() if Path("/proc").exists() else b""
        secret = told["access_key_secret"].encode()
        return [sorted(set(outcomes)), secret in visible, _outcome(Path(f"/proc/{pid}/environ").read_bytes)]

    # Here first, so that all modules are there: the other user may have no right to read them.
    assert try_all()[:2] == [["AccessDenied"], False]
    outcomes, is_visible, environment = _as_another_user(try_all)
    assert (outcomes, is_visible, environment) == (["AccessDenied"], False, "PermissionError")
    assert (bucket / "key").read_bytes() == b"mine"
    # Nor is the key in any file that was made.
    secret = told["access_key_secret"].encode()
    assert not any(secret in path.read_bytes() for path in place.rglob("*") if path.is_file())
    assert server.send(signal.SIGTERM).code == 0


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The server's settings, of `serve` in this process, which is interrupted at once."""
    served: list[Any] = []

    def serve(directory: str, *, port: int, settings: Any, started: Callable[[OSSServer], None]) -> None:
        served.append(settings)
        with OSSServer(directory=directory, settings=settings, port=port) as server:
            started(server)
        raise KeyboardInterrupt

    monkeypatch.setattr("partwise.server.serve_directory", serve)
    return served


_ID, _SECRET = "PARTWISE_SERVE_ACCESS_KEY_ID", "PARTWISE_SERVE_ACCESS_KEY_SECRET"


def test_each_run_has_a_key_of_its_own(partwise: Callable[..., Any], served: list[Any]) -> None:
    told = [json.loads(partwise("serve", "buckets", "--json").out) for _ in range(2)]
    assert [settings.access_keys[0].access_key_secret for settings in served] == [
        one["access_key_secret"] for one in told
    ]
    assert len({one["access_key_id"] for one in told} | {one["access_key_secret"] for one in told}) == 4


def test_serve_keeps_no_requests(partwise: Callable[..., Any], served: list[Any]) -> None:
    partwise("serve", "buckets")
    assert (served[0].max_recorded_requests, served[0].allow_anonymous) == (0, False)


def test_a_key_of_your_own_comes_from_the_environment(
    partwise: Callable[..., Any], served: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(_ID, "mine")
    monkeypatch.setenv(_SECRET, "s3cr3t-of-my-own")
    told = json.loads(partwise("serve", "buckets", "--json").out)
    assert (told["access_key_id"], told["access_key_secret"]) == ("mine", "s3cr3t-of-my-own")
    assert sorted(told) == ["access_key_id", "access_key_secret", "endpoint", "region"]
    in_words = partwise("serve", "buckets")
    assert "  export OSS_ACCESS_KEY_ID=mine\n" in in_words.out
    assert f"  export OSS_ACCESS_KEY_SECRET=${_SECRET}\n" in in_words.out
    assert "s3cr3t" not in in_words.out + in_words.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({_ID: "mine"}, "go together"),
        ({_SECRET: "s3cr3t-of-my-own"}, "go together"),
        ({_ID: "mine", _SECRET: "s3cr3t-of-my-ow"}, "16 or more"),
        ({_ID: "mine", _SECRET: "s3cr3t of my own"}, "no spaces"),
        ({_ID: "mine", _SECRET: "s3cr3t-\x1b-of-my-own"}, "ASCII"),
        ({_ID: "mine", _SECRET: "s3cr3t-of-my-own-é"}, "ASCII"),
        ({_ID: "mine\x1b[2J", _SECRET: "s3cr3t-of-my-own"}, "letters"),
        ({_ID: "m" * 129, _SECRET: "s3cr3t-of-my-own"}, "letters"),
    ],
)
def test_a_key_that_is_none_is_refused_without_being_shown(
    partwise: Callable[..., Any],
    served: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, str],
    said: str,
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    ended = partwise("serve", "buckets")
    assert (ended.code, said in ended.err, served) == (2, True, [])
    assert "s3cr3t" not in ended.err
    assert "\x1b" not in ended.err


def test_hosts_that_are_allowed_are_handed_on(partwise: Callable[..., Any], served: list[Any]) -> None:
    partwise("serve", "buckets", "--allow-host", "oss.local", "--allow-host", "Other.Local")
    assert served[0].hosts == {"oss.local", "other.local"}


@pytest.mark.parametrize("name", ["", "http://oss.local", "oss.local:80", "*", ".local", "a b", "oss.local."])
def test_a_host_that_is_none_is_refused(partwise: Callable[..., Any], served: list[Any], name: str) -> None:
    ended = partwise("serve", "buckets", "--allow-host", name)
    assert (ended.code, "is not a host name" in ended.err, served) == (2, True, [])


def test_no_directory_is_not_the_current_one(partwise: Callable[..., Any], served: list[Any]) -> None:
    """As ``partwise serve "$UNSET"`` would be."""
    ended = partwise("serve", "")
    assert (ended.code, "directory is empty" in ended.err, served) == (2, True, [])


def test_a_directory_gives_no_orders_to_the_terminal(partwise: Callable[..., Any], served: list[Any]) -> None:
    ended = partwise("serve", "buck\x1b[2Jets")
    assert "serving buck\\x1b[2Jets as OSS" in ended.out
    assert "\x1b" not in ended.out + ended.err


def test_the_folder_that_serve_makes_is_private(partwise: Callable[..., Any], served: list[Any], place: Path) -> None:
    partwise("serve", "buckets")
    if os.name == "posix":
        assert (place / "buckets").stat().st_mode & 0o777 == 0o700


@posix
def test_it_serves_on_when_its_reader_has_gone(child: Start, place: Path) -> None:
    """As ``partwise serve --json DIR | head -1`` does."""
    (place / "buckets" / "examplebucket").mkdir(parents=True)
    server = child("serve", "buckets", "--json")
    told = _announced(server)
    server.process.stdout.close()
    server.process.stderr.close()
    with _backend(told) as backend:
        assert backend.head_object("key") is None
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0


# --- what it says when it can't --------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [["serve", "buckets"], ["demo", "--size", "1MiB"]], ids=["serve", "demo"])
def test_what_the_server_needs_is_told(
    partwise: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, line: list[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith(("partwise.server", "h11"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("partwise.server", raising=False)
    monkeypatch.setitem(sys.modules, "h11", None)
    ended = partwise(*line)
    assert (ended.code, ended.err) == (2, 'partwise: the server needs h11: pip install "partwise[server]"\n')


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
    assert ended.err == "partwise: small.bin is not a directory; serve takes one, in which each folder is a bucket\n"


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
        yield _Demo(place, place / "backup.tar", server, Output(quiet=True), _Stops())


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


def test_the_show_says_what_this_machine_lacks(
    partwise: Callable[..., Any], temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        ended = partwise("demo", "--size", "1MiB")
    assert (ended.code, "the demo can't be shown here" in ended.err, "defect" in ended.err) == (1, True, False)
    assert list(temporary.iterdir()) == []

    def no_folder(**_: Any) -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("partwise.cli.demo.tempfile.mkdtemp", no_folder)
    ended = partwise("demo", "--size", "1MiB")
    assert (ended.code, "No usable temporary directory" in ended.err, "defect" in ended.err) == (1, True, False)


def test_serve_says_that_there_are_no_threads(
    partwise: Callable[..., Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    ended = partwise("serve", "buckets")
    assert (ended.code, "can't be served on port 0" in ended.err, "thread" in ended.err) == (1, True, True)


def test_a_file_that_is_too_small_for_the_show_is_told(child: Start, temporary: Path, small: Path) -> None:
    ended = child("demo", "small.bin").end()
    assert (ended.code, "too small" in ended.err) == (1, True)


class _Gone(io.TextIOBase):
    """Standard output whose reader has gone."""

    def write(self, _: str) -> int:
        raise BrokenPipeError

    def fileno(self) -> int:
        raise OSError("it has none")


def test_the_show_goes_on_when_its_reader_has_gone(shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", _Gone())
    with steady_streams():
        evolve(shown, output=Output())._compared(kept=4, first=4, second=4)


def test_a_signal_while_the_show_cleans_up_leaves_nothing(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stops, removed = _Stops(), []

    def remove(folder: str, **options: Any) -> None:
        stops.heard(signal.SIGTERM)
        removed.append(folder)
        rmtree(folder, **options)

    rmtree = shutil.rmtree
    monkeypatch.setattr("partwise.cli.demo.shutil.rmtree", remove)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with pytest.raises(Stopped) as stopped, _folder(stops) as folder:
        assert folder.is_dir()
    assert (stopped.value.signal, len(removed), list(temporary.iterdir())) == (15, 1, [])


def test_a_signal_while_the_show_makes_its_folder_leaves_nothing(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stops, make = _Stops(), tempfile.mkdtemp

    def made(**options: Any) -> str:
        folder = make(**options)
        stops.heard(signal.SIGTERM)
        return folder

    monkeypatch.setattr("partwise.cli.demo.tempfile.mkdtemp", made)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with pytest.raises(Stopped), _folder(stops):
        pytest.fail("the show went on")
    assert list(temporary.iterdir()) == []


def test_a_signal_while_the_show_starts_an_upload_ends_that_too(shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was begun and not noted would be left to itself."""
    ended: list[str] = []

    class Process:
        def __init__(self, *_: Any, **__: Any) -> None:
            shown.stops.heard(signal.SIGTERM)

        def kill(self) -> None:
            ended.append("killed")

        def wait(self) -> None:
            ended.append("waited for")

    monkeypatch.setattr("partwise.cli.demo.subprocess.Popen", Process)
    with pytest.raises(Stopped):
        shown.run()
    assert ended == ["killed", "waited for"]


def test_a_signal_at_any_other_time_stops_at_once() -> None:
    stops = _Stops()
    with stops.held():
        pass
    with pytest.raises(Stopped) as stopped:
        stops.heard(signal.SIGINT)
    assert stopped.value.signal == 2


@posix
def test_the_show_can_be_stopped_and_leaves_nothing(child: Start, temporary: Path) -> None:
    show = child("demo", "--size", "64MiB")
    show.read_until("$ partwise upload")
    assert show.send(signal.SIGTERM).code == 143
    assert list(temporary.iterdir()) == []
