"""The server as a whole: start and stop, its attributes, and `serve_directory`."""

from __future__ import annotations

import http.client
import math
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from partwise.backends.memory import MemoryBackend
from partwise.errors import BackendClosed, InvalidInput
from partwise.server import AccessKey, OSSServer, ServerSettings, serve_directory


def test_no_thread_and_no_connection_is_left_after_stop() -> None:
    before = set(threading.enumerate())
    with OSSServer() as server:
        host, port = server.endpoint.removeprefix("http://").split(":")
        idle = [socket.create_connection((host, int(port))) for _ in range(3)]
        busy = http.client.HTTPConnection(host, int(port))
        busy.request("GET", "/")
        busy.getresponse().read()
    assert set(threading.enumerate()) <= before
    for connection in idle:
        assert connection.recv(1) == b""
        connection.close()
    busy.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))


def test_a_server_can_be_started_once() -> None:
    server = OSSServer()
    with pytest.raises(RuntimeError, match="not started"):
        _ = server.endpoint
    with server, pytest.raises(RuntimeError, match="started or stopped before"):
        server.start()
    server.stop()
    with pytest.raises(RuntimeError, match="started or stopped before"):
        server.start()


def test_a_server_that_was_not_started_can_be_stopped() -> None:
    server = OSSServer()
    server.stop()
    assert repr(server) == "<OSSServer stopped>"
    with pytest.raises(RuntimeError, match="stopped before"):
        server.start()


def test_the_attributes_have_what_a_client_needs() -> None:
    with OSSServer() as server:
        assert server.announcement() == {
            "endpoint": server.endpoint,
            "access_key_id": server.access_key_id,
            "access_key_secret": server.access_key_secret,
            "region": "cn-hangzhou",
        }
        assert server.endpoint.startswith("http://127.0.0.1:")
        assert server.security_token is None
        assert repr(server) == f"<OSSServer {server.endpoint}>"


def test_the_security_token_of_a_temporary_key_is_shown() -> None:
    settings = ServerSettings(region="eu-central-1", access_keys=[AccessKey("STS.id", "secret", "token")])
    with OSSServer(settings=settings) as server:
        assert (server.region, server.access_key_id, server.security_token) == ("eu-central-1", "STS.id", "token")
        assert server.access_key_secret == "secret"
    assert repr(OSSServer()) == "<OSSServer not started>"


def test_given_backends_stay_open() -> None:
    backend = MemoryBackend()
    with OSSServer({"bucket": backend}) as server:
        assert server.backend("bucket") is backend
        assert server.bucket_names == ["bucket"]
    assert backend.head_object("key") is None


def test_backends_created_by_the_server_are_closed(client_of: Any, tmp_path: Path) -> None:
    with OSSServer() as server:
        own = server.backend()
        client_of(server)("PUT", None, bucket="made")
        made = server.backend("made")
    with OSSServer(directory=tmp_path) as server:
        client_of(server)("PUT", None, bucket="folder")
        folder = server.backend("folder")
    for backend in (own, made, folder):
        with pytest.raises(BackendClosed):
            backend.head_object("key")


def test_the_backend_of_a_missing_bucket_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        OSSServer().backend("nothing")


def test_buckets_and_a_directory_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        OSSServer({}, directory=tmp_path)


@pytest.mark.parametrize("port", [-1, 65_536])
def test_an_invalid_port_is_refused(port: int) -> None:
    with pytest.raises(InvalidInput):
        OSSServer(port=port)


@pytest.mark.parametrize(
    "changes",
    [
        *({"page_limit": 0}, {"page_limit": 1001}, {"access_keys": []}),
        *({"idle_timeout": seconds} for seconds in (0, -1, math.nan, math.inf)),
    ],
    ids=str,
)
def test_invalid_settings_are_refused(changes: Any) -> None:
    with pytest.raises(InvalidInput):
        ServerSettings(**changes)


def test_an_invalid_expiration_is_refused() -> None:
    with pytest.raises(InvalidInput):
        AccessKey("id", "secret", "token", expiration=math.nan)


@pytest.mark.parametrize("host", ["0.0.0.0", "example.com"])
def test_listening_on_other_addresses_than_loopback_warns(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("partwise.server.server.Listener", lambda *_: _NoListener())
    server = OSSServer(host=host)
    with pytest.warns(UserWarning, match="clients that can reach it"):
        server.start()
    server.stop()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_a_server_that_allows_anonymous_requests_listens_on_loopback_only(host: str) -> None:
    with pytest.raises(InvalidInput, match="loopback"):
        OSSServer(host=host, settings=ServerSettings(allow_anonymous=True))
    server = OSSServer(host=host)
    with pytest.raises(InvalidInput, match="loopback"):
        server.settings = evolve(server.settings, allow_anonymous=True)
    assert not server.settings.allow_anonymous
    server.stop()


class _NoListener:
    def start(self) -> None:
        """Does not listen."""

    stop = start


def test_localhost_is_loopback() -> None:
    with OSSServer(host="localhost") as server:
        assert server.endpoint.startswith("http://127.0.0.1:")


def test_the_loopback_of_ipv6_works() -> None:
    try:
        probe = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    probe.close()
    with OSSServer(host="::1", settings=ServerSettings(allow_anonymous=True)) as server:
        assert server.endpoint.startswith("http://[::1]:")
        connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"), timeout=20)
        connection.request("PUT", "/examplebucket/key", b"x")
        assert connection.getresponse().status == 200
        connection.close()


def test_recorded_requests_have_no_secrets(client_of: Any) -> None:
    settings = ServerSettings(access_keys=[AccessKey("STS.id", "secret", "token")])
    with OSSServer(settings=settings) as server:
        client = client_of(server)
        upload_id = client.begin("dir/key", {"x-oss-meta-a": "b"})
        client.part("dir/key", upload_id, 7, b"12345")
    initiated, part = server.requests
    assert (initiated.number, initiated.operation, initiated.method, initiated.bucket, initiated.key) == (
        1,
        "InitiateMultipartUpload",
        "POST",
        "examplebucket",
        "dir/key",
    )
    assert initiated.path == "/examplebucket/dir/key"
    assert initiated.headers["x-oss-meta-a"] == "b"
    assert (part.query, part.part_number, part.body_length, part.status) == (
        {"partNumber": "7", "uploadId": upload_id},
        7,
        5,
        200,
    )
    assert initiated.part_number is None
    assert server.requests_of("UploadPart") == (part,)
    shown = f"{initiated!r} {dict(initiated.headers)} {dict(initiated.query)}"
    assert "token" not in shown
    assert "Signature" not in shown


def test_many_clients_are_served_in_parallel(client_of: Any) -> None:
    with OSSServer() as server:
        client = client_of(server)
        upload_id = client.begin("key")
        data = [bytes([number]) * 100 * 1024 for number in range(1, 17)]
        threads = [
            threading.Thread(target=client.part, args=("key", upload_id, number, data[number - 1]))
            for number in range(1, 17)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client("POST", "key", {"uploadId": upload_id}, {"x-oss-complete-all": "yes"}, b"").status == 200
        assert client("GET", "key").body == b"".join(data)


# --- serve_directory -------------------------------------------------------------------------------------------------


def test_a_directory_is_served_until_the_server_is_stopped(tmp_path: Path, client_of: Any) -> None:
    statuses: list[int] = []

    def started(server: OSSServer) -> None:
        def use() -> None:
            client = client_of(server)
            statuses.append(client("PUT", None, bucket="bucket").status)
            statuses.append(client("PUT", "key", bucket="bucket", body=b"x").status)
            server.stop()

        threading.Thread(target=use).start()

    serve_directory(tmp_path / "data", started=started)
    assert statuses == [200, 200]
    assert (tmp_path / "data" / "bucket" / "key").read_bytes() == b"x"


def test_an_interrupt_ends_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []

    def interrupted(_: threading.Event, timeout: float | None = None) -> bool:
        waits.append(timeout)
        if len(waits) == 2:
            raise KeyboardInterrupt
        return False

    server = OSSServer(directory=tmp_path)
    monkeypatch.setattr(type(server._stopping), "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        server.wait()
    assert None not in waits


def test_the_started_callback_is_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OSSServer, "wait", OSSServer.stop)
    serve_directory(tmp_path / "data")
    assert (tmp_path / "data").is_dir()


def test_an_interrupt_stops_the_server(tmp_path: Path) -> None:
    seen: list[OSSServer] = []

    def interrupted(server: OSSServer) -> None:
        seen.append(server)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        serve_directory(tmp_path, started=interrupted)
    assert repr(seen[0]) == "<OSSServer stopped>"
