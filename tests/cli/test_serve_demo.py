"""``partwise serve`` and ``partwise demo``."""

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
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked
import pytest
from attrs import evolve

from partwise.backends.oss import Credentials, OSSBackend
from partwise.bodies import bytes_body
from partwise.cli.demo import _DeferrableSignals, _Demo, _temporary_directory, server_module
from partwise.cli.output import Output
from partwise.cli.signals import SignalReceived
from partwise.cli.streams import steady_streams
from partwise.errors import PartwiseError
from partwise.model import ObjectOptions
from partwise.testing import OSSServer

Start = Callable[..., Any]

posix = pytest.mark.skipif(os.name == "nt", reason="there are no such signals")


@posix
def test_a_directory_is_served_until_a_signal_arrives(child: Start, place: Path, small: Path) -> None:
    (place / "buckets" / "examplebucket").mkdir(parents=True)
    server = child("serve", "buckets", "--json")
    address = json.loads(server.process.stdout.readline())
    assert sorted(address) == ["access_key_id", "access_key_secret", "endpoint", "region"]
    assert address["endpoint"].startswith("http://127.0.0.1:")
    environment = {
        **os.environ,
        "OSS_ENDPOINT": address["endpoint"],
        "OSS_REGION": address["region"],
        "OSS_ACCESS_KEY_ID": address["access_key_id"],
        "OSS_ACCESS_KEY_SECRET": address["access_key_secret"],
    }
    uploaded = child("upload", "small.bin", "oss://examplebucket/a/b", "--json", env=environment).end()
    assert (uploaded.code, uploaded.last["verified"]) == (0, True)
    assert (place / "buckets" / "examplebucket" / "a" / "b").read_bytes() == small.read_bytes()
    ended = server.send(signal.SIGINT)
    assert (ended.code, ended.err) == (0, "stopped\n")


@posix
def test_a_directory_is_served_as_s3(child: Start, place: Path) -> None:
    import boto3

    (place / "buckets" / "examplebucket").mkdir(parents=True)
    server = child("serve", "buckets", "--dialect", "s3", "--json")
    address = json.loads(server.process.stdout.readline())
    client = boto3.client(
        "s3",
        endpoint_url=address["endpoint"],
        region_name=address["region"],
        aws_access_key_id=address["access_key_id"],
        aws_secret_access_key=address["access_key_secret"],
    )
    client.put_object(Bucket="examplebucket", Key="a/b", Body=b"data")
    client.close()

    assert (place / "buckets" / "examplebucket" / "a" / "b").read_bytes() == b"data"
    assert server.send(signal.SIGINT).code == 0


@posix
@pytest.mark.parametrize(
    ("dialect", "variables"),
    [
        ("oss", ["OSS_ENDPOINT", "OSS_REGION", "OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"]),
        ("s3", ["AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]),
    ],
)
def test_the_variables_of_its_clients_are_shown(child: Start, dialect: str, variables: list[str]) -> None:
    server = child("serve", "buckets", "--dialect", dialect)
    lines = [server.process.stdout.readline().decode() for _ in range(6)]
    server.send(signal.SIGINT)

    assert sorted(line.split()[1].partition("=")[0] for line in lines[1:5]) == sorted(variables)


@posix
def test_an_upload_survives_a_server_that_is_killed_and_started_again(
    child: Start, place: Path, small: Path, recorded: Callable[..., int]
) -> None:
    """It is down for two seconds in the middle; default settings ride that out, and no part is sent twice."""
    (place / "buckets" / "examplebucket").mkdir(parents=True)
    secret = "s" * 20
    key = {"PARTWISE_SERVE_ACCESS_KEY_ID": "id", "PARTWISE_SERVE_ACCESS_KEY_SECRET": secret}
    server = child("serve", "buckets", "--json", env={**os.environ, **key})
    address = _address(server)
    port = address["endpoint"].rpartition(":")[2]
    environment = {
        **os.environ,
        "OSS_ENDPOINT": address["endpoint"],
        "OSS_REGION": address["region"],
        "OSS_ACCESS_KEY_ID": "id",
        "OSS_ACCESS_KEY_SECRET": secret,
    }
    flags = ("--part-size", "100K", "--multipart-threshold", "0", "--concurrency", "1", "--bandwidth-limit", "150K")
    line = ("upload", "small.bin", "oss://examplebucket/a", "--json", *flags, "--checkpoint-dir", "checkpoints")
    upload = child(*line, env=environment)
    recorded(1)
    server.process.kill()
    server.process.wait()
    time.sleep(2.0)
    again = child("serve", "buckets", "--json", "--port", port, env={**os.environ, **key})
    assert _address(again)["endpoint"] == address["endpoint"]
    ended = upload.end()
    assert (ended.code, ended.last["verified"], ended.last["parts_sent"]) == (0, True, 3), ended.err
    assert (place / "buckets" / "examplebucket" / "a").read_bytes() == small.read_bytes()


@posix
def test_the_variables_to_set_are_printed(child: Start, place: Path) -> None:
    (place / "buckets" / "examplebucket").mkdir(parents=True)
    server = child("serve", "buckets")
    lines = [server.process.stdout.readline().decode() for _ in range(6)]
    assert server.send(signal.SIGTERM).code == 0
    assert lines[0].startswith("serving buckets at http://127.0.0.1:")
    assert lines[0].endswith("; buckets: examplebucket\n")
    assert [line.split("=")[0] for line in lines[1:5]] == [
        "  export OSS_ENDPOINT",
        "  export OSS_REGION",
        "  export OSS_ACCESS_KEY_ID",
        "  export OSS_ACCESS_KEY_SECRET",
    ]


# --- access ----------------------------------------------------------------------------------------------------------


def _as_another_user(act: Callable[[], Any]) -> Any:
    """Return the result of `act` in a process of another user, who is not root."""
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


def _address(server: Any) -> dict[str, str]:
    return dict(json.loads(server.process.stdout.readline()))


def _backend(address: dict[str, str], **other: str) -> OSSBackend:
    address = {**address, **other}
    credentials = Credentials(address["access_key_id"], address["access_key_secret"])
    return OSSBackend("examplebucket", endpoint=address["endpoint"], region=address["region"], credentials=credentials)


def _outcome(act: Callable[[], object]) -> str:
    try:
        act()
    except Exception as error:  # noqa: BLE001 -- its kind is what is looked at
        return type(error).__name__
    return "done"


@posix
def test_another_user_is_denied_by_the_server(child: Start, place: Path) -> None:
    """The directory is private."""
    if os.getuid() != 0:
        pytest.skip("needs root: it becomes another user in a child process")
    bucket = place / "buckets" / "examplebucket"
    bucket.mkdir(parents=True)
    (place / "buckets").chmod(0o700)
    server = child("serve", "buckets", "--json")
    address = _address(server)
    body = bytes_body(b"mine")
    with _backend(address) as backend:
        backend.put_object("key", body, ObjectOptions())
        assert backend.head_object("key")
    pid = server.process.pid

    def try_all() -> list[Any]:
        known = {"access_key_id": "partwise-test-id", "access_key_secret": "partwise-test-secret"}
        guessed = {"access_key_secret": "0" * 40}
        outcomes = []
        for other in (known, guessed):
            with _backend(address, **other) as backend:
                outcomes += [
                    _outcome(lambda: backend.head_object("key")),
                    _outcome(lambda: backend.put_object("key", bytes_body(b"theirs"), ObjectOptions())),
                    _outcome(lambda: list(backend.list_uploads())),
                    _outcome(lambda: backend.initiate_upload("key", ObjectOptions())),
                ]
        visible = Path(f"/proc/{pid}/cmdline").read_bytes() if Path("/proc").exists() else b""
        secret = address["access_key_secret"].encode()
        return [sorted(set(outcomes)), secret in visible, _outcome(Path(f"/proc/{pid}/environ").read_bytes)]

    # Here first, so that all modules are imported: the other user may not be able to read them.
    assert try_all()[:2] == [["AccessDenied"], False]
    outcomes, is_visible, environment = _as_another_user(try_all)
    assert (outcomes, is_visible, environment) == (["AccessDenied"], False, "PermissionError")
    assert (bucket / "key").read_bytes() == b"mine"
    # The key is in no file, either.
    secret = address["access_key_secret"].encode()
    assert not any(secret in path.read_bytes() for path in place.rglob("*") if path.is_file())
    assert server.send(signal.SIGTERM).code == 0


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Record the settings of `serve`, which runs in this process, and interrupt it at once."""
    served: list[Any] = []

    def serve(directory: str, *, dialect: str, port: int, settings: Any, started: Callable[[OSSServer], None]) -> None:
        assert dialect == "oss"
        served.append(settings)
        with OSSServer(directory=directory, settings=settings, port=port) as server:
            started(server)
        raise KeyboardInterrupt

    monkeypatch.setattr("partwise.server.serve_directory", serve)
    return served


_ID, _SECRET = "PARTWISE_SERVE_ACCESS_KEY_ID", "PARTWISE_SERVE_ACCESS_KEY_SECRET"


def test_each_run_has_another_access_key(partwise: Callable[..., Any], served: list[Any]) -> None:
    addresses = [json.loads(partwise("serve", "buckets", "--json").out) for _ in range(2)]
    assert [settings.access_keys[0].access_key_secret for settings in served] == [
        one["access_key_secret"] for one in addresses
    ]
    assert len({one["access_key_id"] for one in addresses} | {one["access_key_secret"] for one in addresses}) == 4


def test_serve_records_no_requests(partwise: Callable[..., Any], served: list[Any]) -> None:
    partwise("serve", "buckets")
    assert (served[0].max_recorded_requests, served[0].allow_anonymous) == (0, False)


def test_an_access_key_can_be_set_in_the_environment(
    partwise: Callable[..., Any], served: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(_ID, "mine")
    monkeypatch.setenv(_SECRET, "s3cr3t-of-my-own")
    address = json.loads(partwise("serve", "buckets", "--json").out)
    assert (address["access_key_id"], address["access_key_secret"]) == ("mine", "s3cr3t-of-my-own")
    assert sorted(address) == ["access_key_id", "access_key_secret", "endpoint", "region"]
    ended = partwise("serve", "buckets")
    assert "  export OSS_ACCESS_KEY_ID=mine\n" in ended.out
    assert f"  export OSS_ACCESS_KEY_SECRET=${_SECRET}\n" in ended.out
    assert "s3cr3t" not in ended.out + ended.err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({_ID: "mine"}, "only one of"),
        ({_SECRET: "s3cr3t-of-my-own"}, "only one of"),
        ({_ID: "mine", _SECRET: "s3cr3t-of-my-ow"}, "at least 16"),
        ({_ID: "mine", _SECRET: "s3cr3t of my own"}, "without spaces"),
        ({_ID: "mine", _SECRET: "s3cr3t-\x1b-of-my-own"}, "ASCII"),
        ({_ID: "mine", _SECRET: "s3cr3t-of-my-own-é"}, "ASCII"),
        ({_ID: "mine\x1b[2J", _SECRET: "s3cr3t-of-my-own"}, "letters"),
        ({_ID: "m" * 129, _SECRET: "s3cr3t-of-my-own"}, "letters"),
    ],
)
def test_an_invalid_access_key_is_refused_without_being_shown(
    partwise: Callable[..., Any],
    served: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, str],
    message: str,
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    ended = partwise("serve", "buckets")
    assert (ended.code, message in ended.err, served) == (2, True, [])
    assert "s3cr3t" not in ended.err
    assert "\x1b" not in ended.err


def test_allowed_hosts_are_passed_to_the_server(partwise: Callable[..., Any], served: list[Any]) -> None:
    partwise("serve", "buckets", "--allow-host", "oss.local", "--allow-host", "Other.Local")
    assert served[0].hosts == {"oss.local", "other.local"}


@pytest.mark.parametrize("name", ["", "http://oss.local", "oss.local:80", "*", ".local", "a b", "oss.local."])
def test_an_invalid_host_is_refused(partwise: Callable[..., Any], served: list[Any], name: str) -> None:
    ended = partwise("serve", "buckets", "--allow-host", name)
    assert (ended.code, "is not a host name" in ended.err, served) == (2, True, [])


def test_an_empty_directory_name_is_refused(partwise: Callable[..., Any], served: list[Any]) -> None:
    """As in ``partwise serve "$UNSET"``."""
    ended = partwise("serve", "")
    assert (ended.code, "directory is empty" in ended.err, served) == (2, True, [])


def test_the_name_of_a_directory_can_not_control_the_terminal(partwise: Callable[..., Any], served: list[Any]) -> None:
    ended = partwise("serve", "buck\x1b[2Jets")
    assert "serving buck\\x1b[2Jets at http" in ended.out
    assert "\x1b" not in ended.out + ended.err


def test_a_directory_created_by_serve_is_private(partwise: Callable[..., Any], served: list[Any], place: Path) -> None:
    partwise("serve", "buckets")
    if os.name == "posix":
        assert (place / "buckets").stat().st_mode & 0o777 == 0o700


@posix
def test_serve_continues_if_its_reader_exits(child: Start, place: Path) -> None:
    """As ``partwise serve --json DIR | head -1`` does."""
    (place / "buckets" / "examplebucket").mkdir(parents=True)
    server = child("serve", "buckets", "--json")
    address = _address(server)
    server.process.stdout.close()
    server.process.stderr.close()
    with _backend(address) as backend:
        assert backend.head_object("key") is None
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [["serve", "buckets"], ["demo", "--size", "1MiB"]], ids=["serve", "demo"])
def test_a_missing_package_is_named(
    partwise: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, line: list[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith(("partwise.server", "h11"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("partwise.server", raising=False)
    monkeypatch.setitem(sys.modules, "h11", None)
    ended = partwise(*line)
    assert ended.code == 2
    assert ended.err == (
        'error: the server needs h11, which is not installed\nhint: Run: pip install "partwise[server]"\n'
    )


def test_a_port_in_use_is_an_error(child: Start, place: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = child("serve", "buckets", "--port", str(port)).end()
    assert ended.code == 1
    assert ended.err.startswith(f"error: buckets can't be served on port {port}: ")


def test_a_directory_that_can_not_be_created_is_named_without_the_port(child: Start, place: Path, small: Path) -> None:
    ended = child("serve", "small.bin/buckets").end()
    assert ended.code == 1
    assert ended.err.startswith("error: small.bin/buckets can't be served: ")
    assert ended.err.count("\n") == 1


def test_a_file_is_not_a_directory_to_serve(child: Start, small: Path) -> None:
    ended = child("serve", "small.bin").end()
    assert ended.code == 2
    assert ended.err == "error: small.bin is not a directory\n"


@pytest.fixture
def temporary(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary directories are created."""
    folder = place / "temporary"
    folder.mkdir()
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(folder))
    return folder


def test_the_demo_succeeds_and_leaves_nothing(child: Start, temporary: Path) -> None:
    ended = child("demo", "--size", "12MiB").end()
    assert ended.code == 0, ended.err
    assert ended.out.count("$ partwise upload backup.tar oss://demo/backup.tar") == 2
    assert "stopped" in ended.out
    assert "equals the file byte for byte; no checkpoint and no upload is left" in ended.out
    assert "resuming backup.tar to oss://demo/backup.tar at " in ended.err
    assert list(temporary.iterdir()) == []


def test_the_demo_takes_a_file(
    partwise: Callable[..., Any], temporary: Path, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs here, and its commands are forked; above, interpreters are started for all of them."""

    def start(command: list[str], **options: Any) -> forked.ForkedCommand:
        assert command[:3] == [sys.executable, "-m", "partwise"]
        return forked.ForkedCommand(command[3:], **options)

    monkeypatch.setattr("partwise.cli.demo.subprocess", SimpleNamespace(Popen=start))
    before = large.read_bytes()
    ended = partwise("demo", str(large))
    assert ended.code == 0, ended.err
    assert f"$ partwise upload {large} oss://demo/large.bin" in ended.out
    assert large.read_bytes() == before
    assert list(temporary.iterdir()) == []


@pytest.fixture
def demo_run(place: Path) -> Iterator[Any]:
    """A demo after its second run: the object equals the file."""
    (place / "buckets" / "demo").mkdir(parents=True)
    (place / "backup.tar").write_bytes(b"the same")
    (place / "buckets" / "demo" / "backup.tar").write_bytes(b"the same")
    with OSSServer(directory=place / "buckets") as server:
        yield _Demo(place, place / "backup.tar", server, Output(quiet=True), _DeferrableSignals())


def test_the_demo_fails_if_the_object_differs(demo_run: Any, place: Path) -> None:
    demo_run._compare(kept=4, first=4, second=4)
    (place / "buckets" / "demo" / "backup.tar").write_bytes(b"the sane")
    with pytest.raises(PartwiseError, match="differs"):
        demo_run._compare(kept=4, first=4, second=4)


def test_the_demo_fails_if_something_is_left(demo_run: Any) -> None:
    demo_run.server.backend("demo").initiate_upload("backup.tar", ObjectOptions())
    with pytest.raises(PartwiseError, match="left over: 1 upload and 0 checkpoints"):
        demo_run._compare(kept=4, first=4, second=4)


def test_the_demo_fails_if_a_command_of_it_fails(demo_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = SimpleNamespace(poll=lambda: 5, wait=lambda: 5, returncode=5)
    monkeypatch.setattr(_Demo, "_start", lambda *_: ended)
    demo_run.size = 4
    with pytest.raises(PartwiseError, match="the upload ended before it was killed, with exit code 5"):
        demo_run._kill_half_way()
    with pytest.raises(PartwiseError, match="the command ended with exit code 5"):
        demo_run._resume()


def test_a_module_of_the_server_that_is_missing_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("partwise.server", raising=False)
    monkeypatch.setitem(sys.modules, "partwise.server", None)
    with pytest.raises(ModuleNotFoundError, match=r"partwise\.server"):
        server_module()


def test_the_demo_needs_space(partwise: Callable[..., Any], temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1024))
    ended = partwise("demo", "--size", "1MiB")
    assert (ended.code, "the demo needs 3.0 MiB in" in ended.err) == (1, True)
    assert list(temporary.iterdir()) == []


def test_the_demo_reports_missing_resources(
    partwise: Callable[..., Any], temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        ended = partwise("demo", "--size", "1MiB")
    assert (ended.code, "the demo can't run here" in ended.err, "defect" in ended.err) == (1, True, False)
    assert list(temporary.iterdir()) == []

    def no_folder(**_: Any) -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("partwise.cli.demo.tempfile.mkdtemp", no_folder)
    ended = partwise("demo", "--size", "1MiB")
    assert (ended.code, "No usable temporary directory" in ended.err, "defect" in ended.err) == (1, True, False)


def test_serve_reports_missing_threads(
    partwise: Callable[..., Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    ended = partwise("serve", "buckets")
    assert (ended.code, "can't be served on port 0" in ended.err, "thread" in ended.err) == (1, True, True)


def test_a_small_file_is_refused_by_the_demo(child: Start, temporary: Path, small: Path) -> None:
    ended = child("demo", "small.bin").end()
    assert (ended.code, "too small" in ended.err) == (1, True)


class _Gone(io.TextIOBase):
    """Standard output whose reader has exited."""

    def write(self, _: str) -> int:
        raise BrokenPipeError

    def fileno(self) -> int:
        raise OSError("no descriptor")


def test_the_demo_continues_if_its_reader_exits(demo_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", _Gone())
    with steady_streams():
        evolve(demo_run, output=Output())._compare(kept=4, first=4, second=4)


def test_a_signal_during_the_demo_s_cleanup_leaves_nothing(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signals, removed = _DeferrableSignals(), []

    def remove(folder: str, **options: Any) -> None:
        signals.handle(signal.SIGTERM)
        removed.append(folder)
        rmtree(folder, **options)

    rmtree = shutil.rmtree
    monkeypatch.setattr("partwise.cli.demo.shutil.rmtree", remove)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with pytest.raises(SignalReceived) as stopped, _temporary_directory(signals) as folder:
        assert folder.is_dir()
    assert (stopped.value.signal, len(removed), list(temporary.iterdir())) == (15, 1, [])


def test_a_signal_during_the_setup_of_the_demo_leaves_nothing(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signals, make = _DeferrableSignals(), tempfile.mkdtemp

    def made(**options: Any) -> str:
        folder = make(**options)
        signals.handle(signal.SIGTERM)
        return folder

    monkeypatch.setattr("partwise.cli.demo.tempfile.mkdtemp", made)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with pytest.raises(SignalReceived), _temporary_directory(signals):
        pytest.fail("the demo continued")
    assert list(temporary.iterdir()) == []


def test_a_signal_during_the_start_of_an_upload_ends_the_upload(demo_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the process would continue without the demo."""
    ended: list[str] = []

    class Process:
        def __init__(self, *_: Any, **__: Any) -> None:
            demo_run.signals.handle(signal.SIGTERM)

        def kill(self) -> None:
            ended.append("killed")

        def wait(self) -> None:
            ended.append("waited for")

    monkeypatch.setattr("partwise.cli.demo.subprocess.Popen", Process)
    with pytest.raises(SignalReceived):
        demo_run.run()
    assert ended == ["killed", "waited for"]


def test_any_other_signal_stops_the_demo_at_once() -> None:
    signals = _DeferrableSignals()
    with signals.deferred():
        pass
    with pytest.raises(SignalReceived) as stopped:
        signals.handle(signal.SIGINT)
    assert stopped.value.signal == 2


@posix
def test_the_demo_can_be_stopped_and_leaves_nothing(child: Start, temporary: Path) -> None:
    demo = child("demo", "--size", "16MiB")
    demo.read_until("$ partwise upload")
    assert demo.send(signal.SIGTERM).code == 143
    assert list(temporary.iterdir()) == []
