"""Connections of the backend: failures, reuse, other processes, TLS, proxies, slow responses."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from partwise.backends._http import client, connecting, connections, tls_pump
from partwise.backends._http.proxies import Proxy
from partwise.backends.oss import Credentials, OSSBackend, OSSOptions
from partwise.bodies import BodyWrapper
from partwise.config import TransferConfig
from partwise.errors import (
    AccessDenied,
    BackendClosed,
    BackendError,
    ConnectionFailed,
    HostNotFound,
    IntegrityError,
    InvalidInput,
    SourceChanged,
)
from partwise.model import MIB, ObjectOptions
from partwise.stores.memory import MemoryCheckpointStore
from partwise.uploader import Uploader

PART = ("key", "ID", 1)


# --- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 102_400, 3_000_000])
@pytest.mark.parametrize("chunk_size", [4096, 10_000_000])
def test_a_body_arrives_unchanged_with_a_content_length(server, oss, body, size, chunk_size):
    data = os.urandom(size)
    part = oss.upload_part(*PART, body(data, chunk_size))
    request = server.requests[0]
    assert (request.body, request.header("content-length")) == (data, str(size))
    assert request.header("transfer-encoding") is None
    assert part.size == size


def test_a_body_is_sent_without_sendmsg_too(server, oss, body, monkeypatch):
    """Sockets on Windows do not have it."""

    class WithoutSendmsg:
        def __init__(self, sock):
            self._sock = sock

        def __getattr__(self, name):
            if name == "sendmsg":
                raise AttributeError(name)
            return getattr(self._sock, name)

    send = client._send
    monkeypatch.setattr(client, "_send", lambda sock, head, chunks: send(WithoutSendmsg(sock), head, chunks))
    data = os.urandom(100_000)
    oss.upload_part(*PART, body(data))
    assert server.requests[0].body == data


@pytest.mark.parametrize("accepted", [1, 50, 5000])
def test_after_a_partial_sendmsg_the_rest_is_sent(accepted):
    """As with a full send buffer."""

    class Slow:
        def __init__(self):
            self.got = b""

        def gettimeout(self):
            return None

        def sendmsg(self, buffers):
            self.got += b"".join(bytes(buffer) for buffer in buffers)[:accepted]
            return len(self.got)

        def send(self, data):
            self.got += bytes(data)
            return len(data)

    sock = Slow()
    assert client._send(sock, b"h" * 100, [memoryview(b"b" * 10_000), memoryview(b"c")]) is None
    assert sock.got == b"h" * 100 + b"b" * 10_000 + b"c"


@pytest.mark.parametrize("chunks", [[], [b"a"], [b"a", b"b"]])
@pytest.mark.parametrize("breaks_at", [0, 1])
def test_a_send_error_is_returned_and_the_body_is_not_read_further(chunks, breaks_at):
    broken, sent, read = BrokenPipeError("gone"), [], []

    class Breaking:
        def gettimeout(self):
            return None

        def send(self, data):
            if len(sent) == breaks_at:
                raise broken
            sent.append(bytes(data))
            return len(data)

    def body():
        for chunk in chunks:
            read.append(chunk)
            yield memoryview(chunk)

    returned = client._send(Breaking(), b"head", body())
    calls = max(1, len(chunks) + 1)
    assert returned is (broken if breaks_at < calls else None)
    assert len(read) <= max(1, breaks_at)


def test_an_interrupt_while_connecting_propagates(server, oss, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(connections.Connection, "connect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        oss.head_object("key")


def wait_for_a_request(server):
    """Wait until the server has read all of a request that the client gave up."""
    deadline = time.monotonic() + 10
    while not server.requests and time.monotonic() < deadline:
        time.sleep(0.005)


def test_a_body_that_is_too_short_is_an_error_and_the_request_stays_incomplete(server, oss, body):
    short = body(b"x" * 5000, claimed=5001)
    with pytest.raises(IntegrityError, match=r"5000 .*5001"):
        oss.upload_part(*PART, short)
    assert short.closed
    wait_for_a_request(server)
    assert [(request.whole, len(request.body)) for request in server.requests] == [(False, 5000)]


def test_a_body_that_is_too_long_is_an_error_and_the_request_stays_incomplete(server, oss, body):
    with pytest.raises(IntegrityError, match="5000"):
        oss.upload_part(*PART, body(b"x" * 9000, claimed=5000))
    wait_for_a_request(server)
    assert [(request.whole, len(request.body) <= 5000) for request in server.requests] == [(False, True)]


@pytest.mark.parametrize(
    "failure", [SourceChanged("it shrank"), OSError("disk"), KeyboardInterrupt(), ZeroDivisionError()]
)
@pytest.mark.parametrize("after", [0, 8192])
def test_an_exception_of_the_body_propagates_unchanged(server, oss, body, failure, after):
    broken = body(b"x" * 20_000, fails_after=after, failure=failure)
    with pytest.raises(type(failure)) as raised:
        oss.upload_part(*PART, broken)
    assert raised.value is failure
    assert broken.closed
    oss.upload_part(*PART, body(b"y"))
    assert [request.body for request in server.requests if request.whole] == [b"y"]


def test_a_body_is_closed_when_the_connection_breaks(server, oss, body, kit):
    server.reply(kit.hang_up)
    sent = body(b"x" * 100)
    with pytest.raises(ConnectionFailed) as raised:
        oss.upload_part(*PART, sent)
    assert raised.value.__traceback__ is not None
    assert sent.closed


# --- failures --------------------------------------------------------------------------------------------------------


def test_a_refused_connection_is_retryable(connect):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionFailed, match=f"no connection to http://127.0.0.1:{port}: .*refused") as raised:
        connect(endpoint=f"http://127.0.0.1:{port}").head_object("key")
    assert raised.value.retryable


def test_a_name_that_can_not_be_resolved_is_retryable(connect, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(HostNotFound, match="can't be resolved") as raised:
        connect(endpoint="http://nowhere.invalid").head_object("key")
    assert raised.value.retryable
    assert raised.value.hint == "Check the name in endpoint=, or the region="


def test_connecting_times_out(connect):
    # If its backlog is full, a listener ignores further connections.
    with socket.socket() as full, contextlib.ExitStack() as held:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        backend = connect(endpoint=f"http://127.0.0.1:{full.getsockname()[1]}", connect_timeout=0.2, read_timeout=0.2)
        with pytest.raises(ConnectionFailed, match=r"timed out|did not respond"):
            backend.head_object("key")


def test_a_lost_response_means_that_the_request_may_have_taken_effect(server, oss, kit):
    server.reply(kit.hang_up)
    with pytest.raises(
        ConnectionFailed, match="closed without a response; the request may have taken effect"
    ) as raised:
        oss.initiate_upload("key", ObjectOptions())
    assert (raised.value.retryable, len(server.requests)) == (True, 1)


@pytest.mark.parametrize("cut", [1, 20, 100, -1])
def test_a_truncated_response_is_lost(server, oss, kit, cut):
    whole = kit.initiated()

    def truncate(_, sock):
        sock.sendall(whole[:cut])

    server.reply(truncate)
    with pytest.raises(ConnectionFailed, match="was lost"):
        oss.initiate_upload("key", ObjectOptions())


def test_a_server_that_sends_nothing_times_out(server, connect):
    release = threading.Event()

    def silent(_, __):
        release.wait(10)

    server.reply(silent)
    with pytest.raises(ConnectionFailed, match=r"did not respond within 0.1 seconds"):
        connect(read_timeout=0.1).head_object("key")
    release.set()


def test_a_server_that_accepts_nothing_times_out(connect, body):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        backend = connect(endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}", read_timeout=0.2)
        with pytest.raises(ConnectionFailed, match=r"accepted no more of the request for 0.2 seconds"):
            backend.upload_part(*PART, body(b"x" * 50_000_000, 1_000_000))


def test_a_server_that_accepts_too_slowly_is_an_error(monkeypatch, server, oss, body):
    monkeypatch.setattr(client, "_send", lambda *_: client.TooSlow("less than 1024 bytes per second were accepted"))
    with pytest.raises(
        ConnectionFailed, match="accepted the request too slowly: less than 1024 bytes per second"
    ) as raised:
        oss.upload_part(*PART, body(b""))
    assert raised.value.retryable


def respond_early(reply: bytes):
    """A server that responds after the head, and closes the connection without reading the body."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(reply)
            connection.shutdown(socket.SHUT_WR)
            # Read for a while, as servers do so that their response arrives.
            connection.settimeout(0.5)
            with contextlib.suppress(OSError):
                for _ in range(3):
                    connection.recv(1000)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return listener, thread


def test_a_response_before_the_whole_body_was_sent_is_read(connect, kit, body):
    listener, thread = respond_early(kit.error(403, "AccessDenied", headers={"Connection": "close"}))
    with listener:
        backend = connect(endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(BackendError) as raised:
            backend.upload_part(*PART, body(b"x" * 30_000_000, 1_000_000))
    thread.join(10)
    # The reset of the connection discards what has arrived, but not on Linux.
    survives = sys.platform == "linux"
    assert raised.value.code == "AccessDenied" or (not survives and isinstance(raised.value, ConnectionFailed))


def test_an_error_response_is_read_although_the_server_stops_receiving(connect, kit, body):
    ended = threading.Event()

    def refuse(listener):
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(kit.error(403, "AccessDenied"))
            ended.wait(10)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuse, args=(listener,), daemon=True)
        thread.start()
        backend = connect(endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}", read_timeout=0.2)
        with pytest.raises(AccessDenied):
            backend.upload_part(*PART, body(b"x" * 50_000_000, 1_000_000))
        ended.set()
        thread.join(10)


def test_a_success_before_the_whole_body_was_sent_is_an_error(monkeypatch, server, oss, body):
    monkeypatch.setattr(client, "_send", lambda sock, head, _: sock.sendall(head) or BrokenPipeError("gone"))
    server.reply(b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(ConnectionFailed, match="did not receive completely"):
        oss.put_object("key", body(b""), ObjectOptions())


def test_an_error_response_before_the_whole_body_was_sent_is_raised(monkeypatch, server, oss, body, kit):
    monkeypatch.setattr(client, "_send", lambda sock, head, _: sock.sendall(head) or BrokenPipeError("gone"))
    server.reply(kit.error(404, "NoSuchUpload"))
    with pytest.raises(BackendError) as raised:
        oss.upload_part(*PART, body(b""))
    assert raised.value.code == "NoSuchUpload"


def test_without_a_response_the_send_error_is_the_reason(monkeypatch, server, oss, body, kit):
    monkeypatch.setattr(client, "_send", lambda sock, head, _: sock.sendall(head) or ConnectionResetError("reset"))
    server.reply(kit.hang_up)
    with pytest.raises(ConnectionFailed, match="broke while the request was sent: reset") as raised:
        oss.put_object("key", body(b""), ObjectOptions())
    assert isinstance(raised.value.__cause__, ConnectionResetError)


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"])
def test_an_invalid_response_counts_as_lost(server, oss, data):
    server.reply(data)
    with pytest.raises(ConnectionFailed, match="was lost"):
        oss.abort_upload("key", "ID")


def test_a_response_that_exceeds_the_limits_is_not_retryable(server, oss):
    server.reply(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
    with pytest.raises(BackendError, match="exceeds the limits of this client") as raised:
        oss.initiate_upload("key", ObjectOptions())
    assert not raised.value.retryable


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(server, oss, kit, status):
    server.reply(kit.response(status, Location=f"{server.endpoint}/elsewhere"))
    with pytest.raises(BackendError, match="not sent to another host") as raised:
        oss.initiate_upload("key", ObjectOptions())
    assert (len(server.requests), raised.value.retryable) == (1, False)


# --- reuse -----------------------------------------------------------------------------------------------------------


def test_a_connection_is_reused(server, oss, body):
    for _ in range(5):
        oss.upload_part(*PART, body(b"x"))
    assert {request.connection for request in server.requests} == {1}


def test_a_connection_is_reused_after_an_error_response(server, oss, kit, body):
    server.reply(kit.error(404, "NoSuchUpload"))
    with pytest.raises(BackendError):
        oss.upload_part(*PART, body(b"x"))
    oss.upload_part(*PART, body(b"x"))
    assert {request.connection for request in server.requests} == {1}


@pytest.mark.parametrize(
    "refusal",
    [(400, "RequestTimeout"), (400, "IncompleteBody"), (500, "InternalError"), (503, "X"), (408, "X")],
)
def test_a_connection_is_closed_after_a_server_failure_or_a_timeout(server, oss, kit, body, refusal):
    server.reply(kit.error(*refusal))
    with pytest.raises(BackendError):
        oss.upload_part(*PART, body(b"x"))
    oss.upload_part(*PART, body(b"x"))
    assert [request.connection for request in server.requests] == [1, 2]


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nETag: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nETag: x\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: 0\r\n\r\nsurplus",
    ],
)
def test_a_connection_is_not_reused_after_close_or_surplus_data(server, oss, body, reply):
    server.reply(reply)
    oss.upload_part(*PART, body(b"x"))
    oss.upload_part(*PART, body(b"x"))
    assert [request.connection for request in server.requests] == [1, 2]


def test_a_connection_that_the_server_closed_is_detected(server, oss, body, monkeypatch):
    monkeypatch.setattr(client, "_RECENT_SECONDS", -1.0)
    oss.upload_part(*PART, body(b"x"))
    server.drop_connections()
    oss.upload_part(*PART, body(b"x"))
    assert [request.connection for request in server.requests] == [1, 2]


def test_a_post_always_checks_the_connection(server, oss, body, kit):
    oss.upload_part(*PART, body(b"x"))
    server.drop_connections()
    server.reply(kit.initiated())
    assert oss.initiate_upload("key", ObjectOptions()) == "UPLOADID"
    assert [request.connection for request in server.requests] == [1, 2]


def test_a_recent_connection_that_was_closed_is_a_retryable_failure(server, oss, body):
    oss.upload_part(*PART, body(b"x"))
    server.drop_connections()
    with pytest.raises(ConnectionFailed) as raised:
        oss.upload_part(*PART, body(b"x"))
    assert raised.value.retryable
    oss.upload_part(*PART, body(b"x"))


def test_a_server_that_closes_every_connection_causes_only_one_failure(server, oss, body, kit):
    def respond(received, connection):
        connection.sendall(kit.stored(received))

    server.reply(*[respond] * 20)
    failures = 0
    for _ in range(20):
        try:
            oss.upload_part(*PART, body(b"x"))
        except ConnectionFailed:
            failures += 1
        server.drop_connections()
    assert failures == 1


def test_a_connection_that_was_idle_for_long_is_not_reused(server, oss, body, monkeypatch):
    oss.upload_part(*PART, body(b"x"))
    later = time.monotonic() + 51
    monkeypatch.setattr(client.time, "monotonic", lambda: later)
    oss.upload_part(*PART, body(b"x"))
    assert [request.connection for request in server.requests] == [1, 2]


@pytest.fixture
def clock(monkeypatch):
    """The clock of idle times and deadlines; a test advances `clock.now`."""
    clock = SimpleNamespace(now=1000.0)
    fake_time = SimpleNamespace(**{**vars(time), "monotonic": lambda: clock.now})
    for module in (client, connections, tls_pump):
        monkeypatch.setattr(module, "time", fake_time)
    return clock


@pytest.mark.parametrize("idle", [49.9, 50.0, 50.1])
def test_a_connection_is_reused_within_fifty_seconds(server, oss, body, clock, idle):
    oss.upload_part(*PART, body(b"x"))
    clock.now += idle
    oss.upload_part(*PART, body(b"x"))
    assert [request.connection for request in server.requests] == [1, 2 if idle > 50.0 else 1]


def test_a_connection_that_was_idle_for_a_second_is_checked(server, oss, body, clock):
    oss.upload_part(*PART, body(b"x"))
    server.drop_connections()
    clock.now += 1.0
    oss.upload_part(*PART, body(b"x"))
    assert [request.connection for request in server.requests] == [1, 2]


class WaitingBody(BodyWrapper):
    """A body that calls `wait` before its first chunk, as one does that waits for bandwidth."""

    def __init__(self, body, wait):
        super().__init__(body)
        self._wait = wait

    def chunks(self, *, counted=True):
        self._wait()
        yield from super().chunks()


def test_a_connection_that_the_server_closes_while_the_body_waits_is_replaced(server, oss, body, clock):
    """With a bandwidth limit, a part may wait long for its first byte; nothing was sent then, so nothing is lost."""
    oss.upload_part(*PART, body(b"x"))

    def wait():
        clock.now += 20
        server.drop_connections()

    part = oss.upload_part(*PART, WaitingBody(body(b"y" * 5000), wait))

    assert part.size == 5000
    assert [request.connection for request in server.requests] == [1, 2]


def test_a_connection_that_stays_open_while_the_body_waits_is_used(server, oss, body, clock):
    oss.upload_part(*PART, body(b"x"))

    def wait():
        clock.now += 20

    oss.upload_part(*PART, WaitingBody(body(b"y" * 5000), wait))

    assert server.connections == 1


@pytest.mark.parametrize("pause", [0.5, 20.0, 49.0, 51.0, 3600.0])
def test_after_a_pause_between_parts_no_attempt_is_lost(server, oss, body, clock, pause):
    """Whether or not the server has closed the connection, and announced it."""
    for number in range(4):
        oss.upload_part("key", "ID", number + 1, body(b"x" * 1000))
        clock.now += pause
        if pause > 1 and number % 2:
            server.drop_connections()

    assert [request.whole for request in server.requests] == [True] * 4


@pytest.mark.parametrize(
    ("size", "usual", "last", "expected"),
    [
        pytest.param(256 * 1024, 2.0, 4.1, 2, id="less than half as fast as the others"),
        pytest.param(256 * 1024, 2.0, 3.9, 1, id="more than half as fast"),
        pytest.param(256 * 1024, 0.1, 0.9, 1, id="less than a second"),
        pytest.param(256 * 1024 - 1, 2.0, 4.1, 1, id="a small part"),
    ],
)
def test_a_connection_that_was_much_slower_than_others_is_not_reused(
    server, oss, body, clock, *, size, usual, last, expected
):
    def send(seconds):
        def wait():
            clock.now += seconds

        oss.upload_part(*PART, WaitingBody(body(bytes(size)), wait))

    for seconds in [usual] * 15 + [last, usual]:
        send(seconds)

    assert [request.connection for request in server.requests] == [1] * 16 + [expected]


def test_a_connection_that_was_idle_for_less_is_not_checked(server, oss, body, clock):
    oss.upload_part(*PART, body(b"x"))
    server.drop_connections()
    clock.now += 0.9
    with pytest.raises(ConnectionFailed):
        oss.upload_part(*PART, body(b"x"))


def test_concurrent_requests_have_separate_connections_and_max_connections_are_kept(server, connect, kit, body):
    meeting = threading.Barrier(4)

    def together(received, _):
        meeting.wait(10)
        return kit.stored(received)

    server.reply(*[together] * 4)
    backend = connect(max_connections=2)
    threads = [threading.Thread(target=backend.upload_part, args=(*PART, body(b"x"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert {request.connection for request in server.requests} == {1, 2, 3, 4}
    assert len(backend._client._http._idle) == 2


def test_connections_that_are_made_ahead_are_used_by_the_next_requests(server, connect, kit, body):
    meeting = threading.Barrier(3)

    def together(received, _):
        meeting.wait(10)
        return kit.stored(received)

    backend, asked = connect(max_connections=3), []
    backend.connect_ahead(lambda seconds: asked.append(seconds) or 64)
    server.reply(kit.initiated(), *[together] * 3)
    upload_id = backend.initiate_upload("key", ObjectOptions())
    deadline = time.monotonic() + 10
    while server.connections < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.connections == 3, "one, and two ahead: no more than are kept"
    threads = [threading.Thread(target=backend.upload_part, args=("key", upload_id, 1, body(b"x"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert server.connections == 3
    assert {request.connection for request in server.requests} == {1, 2, 3}
    assert len(asked) == 1


@pytest.mark.parametrize("end", ["close", "fork"])
def test_connections_that_were_made_ahead_end_with_the_backend_and_are_not_those_of_a_child(connect, server, kit, end):
    backend = connect()
    backend.connect_ahead(lambda _seconds: 3)
    server.reply(kit.initiated(), kit.initiated())
    backend.initiate_upload("key", ObjectOptions())
    http = backend._client._http
    assert len(http._dialer._ahead) == 2
    if end == "close":
        backend.close()
    else:
        http._pid -= 1  # as in the child of a fork
        backend.initiate_upload("key", ObjectOptions())

    assert http._dialer._ahead == []


# --- pipelined parts -------------------------------------------------------------------------------------------------


def begin_parts(oss, body, *numbers):
    """Send these parts; return the functions that wait for their responses."""
    return [oss.begin_part("key", "ID", number, body(bytes([number]) * 5000)) for number in numbers]


def test_pipelined_parts_have_separate_connections_and_can_be_awaited_in_any_order(server, oss, body):
    first, second, third = begin_parts(oss, body, 1, 2, 3)
    parts = [second(), third(), first()]

    assert [part.part_number for part in parts] == [2, 3, 1]
    assert {int(r.query["partNumber"]): (r.connection, r.body[:1]) for r in server.requests} == {
        n: (n, bytes([n])) for n in (1, 2, 3)
    }
    assert oss.upload_part(*PART, body(b"x")).size == 1
    assert server.connections == 3, "the connections are reused"


def test_an_error_of_a_pipelined_part_does_not_affect_the_others(server, oss, body, kit):
    server.reply(*3 * [lambda r, _: kit.error(403, "AccessDenied") if r.query["partNumber"] == "1" else kit.stored(r)])
    waits = begin_parts(oss, body, 1, 2, 3)

    with pytest.raises(AccessDenied):
        waits[0]()
    assert [wait().part_number for wait in waits[1:]] == [2, 3]


def test_a_lost_response_to_a_pipelined_part_fails_that_part(server, oss, body, kit):
    server.reply(kit.hang_up)
    lost = begin_parts(oss, body, 1)[0]
    with pytest.raises(ConnectionFailed, match="may have taken effect"):
        lost()
    assert begin_parts(oss, body, 1)[0]().part_number == 1


def test_a_pipelined_part_finishes_after_the_backend_was_closed(oss, body):
    wait = begin_parts(oss, body, 1)[0]
    oss.close()

    assert wait().part_number == 1
    assert oss._client._http._idle == []


def test_a_body_is_closed_when_its_part_was_sent(oss, body):
    """Its file and its buffer are then free for the next part."""
    ended = []

    class Body(type(body(b""))):
        def chunks(self, *, counted=True):
            try:
                yield from super().chunks()
            finally:
                ended.append(True)

    wait = oss.begin_part("key", "ID", 1, Body(b"x" * 5000))

    assert ended == [True]
    assert wait().size == 5000


# --- cutting ---------------------------------------------------------------------------------------------------------


def test_a_part_that_is_cut_fails_without_waiting_for_the_response(server, oss, body):
    part = body(b"x")
    server.reply(lambda _, sock: oss.cut_part(part, "late") or sock.recv(1))
    with pytest.raises(ConnectionFailed):
        oss.upload_part(*PART, part)
    assert not oss._client._http._cutters


def test_a_connection_that_was_cut_when_the_response_had_arrived_is_not_reused(server, oss, body, monkeypatch):
    http, part = oss._client._http, body(b"x")
    receive = http._receive

    def receive_and_cut(*arguments):
        result = receive(*arguments)
        oss.cut_part(part, "late")
        return result

    monkeypatch.setattr(http, "_receive", receive_and_cut)
    oss.upload_part(*PART, part)
    assert http._idle == []
    oss.upload_part(*PART, body(b"y"))
    assert [request.connection for request in server.requests] == [1, 2]


def test_cutting_a_part_that_is_done_does_not_affect_the_next_one(server, oss, body):
    part = body(b"x")
    oss.upload_part(*PART, part)
    oss.cut_part(part, "late")
    oss.upload_part(*PART, body(b"y"))
    assert [request.connection for request in server.requests] == [1, 1]


# --- closing ---------------------------------------------------------------------------------------------------------


def test_closing_closes_the_connections_and_every_later_call_is_refused(oss, body):
    oss.upload_part(*PART, body(b"x"))
    with oss:
        pass
    oss.close()
    assert oss._client._http._idle == []
    for call in (
        lambda: oss.initiate_upload("key", ObjectOptions()),
        lambda: oss.upload_part(*PART, body(b"x")),
        lambda: oss.list_parts("key", "ID"),
        lambda: oss.complete_upload("key", "ID", [], ObjectOptions()),
        lambda: oss.abort_upload("key", "ID"),
        oss.list_uploads,
        lambda: oss.put_object("key", body(b"x"), ObjectOptions()),
        lambda: oss.head_object("key"),
        lambda: oss.with_request_options(ObjectOptions()),
    ):
        with pytest.raises(BackendClosed):
            call()


def test_a_request_in_flight_finishes_when_the_backend_is_closed(server, oss, kit, body):
    def close_meanwhile(received, _):
        oss.close()
        return kit.stored(received)

    server.reply(close_meanwhile)
    assert oss.upload_part(*PART, body(b"x")).size == 1
    assert oss._client._http._idle == []


def test_a_handle_with_request_options_shares_connections_and_is_closed_with_its_backend(server, oss, body):
    handle = oss.with_request_options(OSSOptions(request_payer="requester"))
    oss.upload_part(*PART, body(b"x"))
    handle.upload_part(*PART, body(b"x"))
    assert {request.connection for request in server.requests} == {1}
    handle.close()
    with pytest.raises(BackendClosed):
        handle.head_object("key")
    oss.upload_part(*PART, body(b"x"))
    other = oss.with_request_options(ObjectOptions())
    oss.close()
    with pytest.raises(BackendClosed):
        other.upload_part(*PART, body(b"x"))


# --- other processes -------------------------------------------------------------------------------------------------


def test_an_unpickled_backend_has_its_own_connections(server, connect, body):
    backend = connect(clock=time.time, credentials=Credentials("id", "secret", "token"))
    backend.upload_part(*PART, body(b"x"))
    limited = backend.with_request_options(OSSOptions(traffic_limit=819200))
    with pickle.loads(pickle.dumps(backend)) as plain, pickle.loads(pickle.dumps(limited)) as bound:
        plain.upload_part(*PART, body(b"y"))
        bound.upload_part(*PART, body(b"z"))
    assert [request.connection for request in server.requests] == [1, 2, 2]
    assert [request.header("x-oss-traffic-limit") for request in server.requests] == [None, None, "819200"]
    assert {request.header("x-oss-security-token") for request in server.requests} == {"token"}
    assert repr(backend) == repr(plain).replace(", closed", "")


def test_copies_of_a_backend_share_connections_even_if_each_is_closed(server, connect, body):
    backend = connect(clock=time.time)
    for _ in range(3):
        with pickle.loads(pickle.dumps(backend)) as copy:
            copy.upload_part(*PART, body(b"x"))
        with pytest.raises(BackendClosed):
            copy.head_object("key")
    second = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(backend))))
    second.upload_part(*PART, body(b"x"))
    other = pickle.loads(pickle.dumps(connect(clock=time.time)))
    other.upload_part(*PART, body(b"x"))
    assert [request.connection for request in server.requests] == [1, 1, 1, 1, 2]


@pytest.mark.usefixtures("fast_collection")
def test_a_garbage_collected_backend_leaves_no_connection_open(server, connect, body):
    backend = OSSBackend(
        "examplebucket", endpoint=server.endpoint, region="cn-hangzhou", credentials=Credentials("id", "secret")
    )
    backend.upload_part(*PART, body(b"x"))
    idle = backend._client._http._idle
    connection = idle[0][0]
    del backend
    gc.collect()
    assert (idle, connection.sock) == ([], None)


@pytest.mark.parametrize("settings", [{"credentials": lambda: None, "clock": time.time}, {"clock": lambda: 0.0}])
def test_the_error_says_why_a_backend_can_not_be_pickled(connect, settings):
    with pytest.raises(TypeError, match=r"can't be pickled, since its (credentials|clock) can't be"):
        pickle.dumps(connect(**settings))


def test_a_process_with_another_pid_does_not_use_the_connections(server, oss, body, monkeypatch):
    """A simulated fork: the child has the same objects and another process id."""
    oss.upload_part(*PART, body(b"parent"))
    connection = oss._client._http._idle[0][0]
    monkeypatch.setattr(client.os, "getpid", lambda: -1)
    for _ in range(2):
        oss.upload_part(*PART, body(b"child"))
    assert connection.sock is None
    assert [request.connection for request in server.requests] == [1, 2, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_makes_its_own_connections(server, oss, body):
    oss.upload_part(*PART, body(b"parent"))
    child = os.fork()
    if child == 0:  # pragma: no cover  # not seen by the parent's coverage
        status = 1
        with contextlib.suppress(BaseException):
            oss.upload_part(*PART, body(b"child"))
            status = 0
        os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    oss.upload_part(*PART, body(b"parent"))
    assert [(request.body, request.connection) for request in server.requests] == [
        (b"parent", 1),
        (b"child", 2),
        (b"parent", 1),
    ]


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tls_server(kit, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    scripted = kit.ScriptedServer(context)
    yield scripted
    scripted.close()


def test_a_certificate_of_an_unknown_authority_is_not_retryable(tls_server, connect, body):
    with pytest.raises(ConnectionFailed, match=r"does not verify.*pass ca_bundle=") as raised:
        connect(endpoint=tls_server.endpoint).upload_part(*PART, body(b"x"))
    assert not raised.value.retryable
    assert tls_server.requests == []


def test_a_certificate_of_an_authority_in_the_ca_bundle_is_accepted(tls_server, connect, certificate, body):
    backend = connect(endpoint=tls_server.endpoint, ca_bundle=str(certificate[0]))
    data = os.urandom(3_000_000)
    assert [backend.upload_part(*PART, body(data, 2_000_000)).size for _ in range(2)] == [len(data)] * 2
    assert [(request.body == data, request.connection) for request in tls_server.requests] == [(True, 1), (True, 1)]


def test_a_tls_connection_that_the_server_closed_is_detected(tls_server, connect, certificate, body, kit):
    backend = connect(endpoint=tls_server.endpoint, ca_bundle=str(certificate[0]))
    backend.upload_part(*PART, body(b"x"))
    tls_server.drop_connections()
    tls_server.reply(kit.initiated())
    assert backend.initiate_upload("key", ObjectOptions()) == "UPLOADID"
    assert [request.connection for request in tls_server.requests] == [1, 2]


def test_parts_are_pipelined_over_tls_too(tls_server, connect, certificate, body):
    backend = connect(endpoint=tls_server.endpoint, ca_bundle=str(certificate[0]))
    first, second = begin_parts(backend, body, 1, 2)
    assert [second().part_number, first().part_number] == [2, 1]
    assert {request.body for request in tls_server.requests} == {b"\x01" * 5000, b"\x02" * 5000}


def test_a_ca_bundle_may_be_a_directory(tls_server, connect, certificate, tmp_path, body):
    run = subprocess.run(["openssl", "x509", "-hash", "-noout", "-in", certificate[0]], check=True, capture_output=True)
    (tmp_path / f"{run.stdout.decode().strip()}.0").write_bytes(certificate[0].read_bytes())
    connect(endpoint=tls_server.endpoint, ca_bundle=str(tmp_path)).upload_part(*PART, body(b"x"))
    assert len(tls_server.requests) == 1


def test_a_certificate_for_another_name_is_refused(kit, connect, tmp_path, body):
    certificate, key = kit.make_certificate(tmp_path, "DNS:other.example.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    scripted = kit.ScriptedServer(context)
    with contextlib.closing(scripted), pytest.raises(ConnectionFailed, match="does not verify") as raised:
        connect(endpoint=scripted.endpoint, ca_bundle=str(certificate)).upload_part(*PART, body(b"x"))
    assert not raised.value.retryable


def test_a_server_that_does_not_speak_tls_is_an_error(server, connect, body):
    endpoint = server.endpoint.replace("http:", "https:")
    with pytest.raises(ConnectionFailed, match="no connection to https"):
        connect(endpoint=endpoint, connect_timeout=0.3).upload_part(*PART, body(b"x"))


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_an_invalid_ca_bundle_is_an_error_at_once(connect, tmp_path, content):
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"the certificates in .*bundle.pem can't be used"):
        connect(endpoint="https://127.0.0.1:1", ca_bundle=str(bundle))


# --- proxies ---------------------------------------------------------------------------------------------------------


class Tunnel:
    """A proxy that opens a tunnel to any host."""

    def __init__(self, status: str = "200 OK") -> None:
        self.status = status
        self.requests: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with client:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(1000)
            self.requests.append(head.decode())
            client.sendall(f"HTTP/1.1 {self.status}\r\n\r\n".encode())
            if not self.status.startswith("200"):
                return
            host, _, port = head.split(b" ")[1].decode().rpartition(":")
            with socket.create_connection((host, int(port))) as server:
                back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
                back.start()
                self._pump(client, server)
                back.join(5)

    def _pump(self, source, target) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._thread.join(5)
        self._listener.close()


def test_https_goes_through_a_tunnel(tls_server, connect, certificate, body):
    with contextlib.closing(Tunnel()) as tunnel:
        backend = connect(
            endpoint=tls_server.endpoint,
            ca_bundle=str(certificate[0]),
            proxy=f"http://user:p%40ss@127.0.0.1:{tunnel.port}",
        )
        backend.upload_part(*PART, body(b"x" * 5000))
        backend.close()
    assert tunnel.requests[0].startswith(f"CONNECT 127.0.0.1:{tls_server.port} HTTP/1.")
    assert "Proxy-Authorization: Basic dXNlcjpwQHNz" in tunnel.requests[0]
    assert tls_server.requests[0].body == b"x" * 5000
    assert tls_server.requests[0].target.startswith("/examplebucket/key?")
    assert tls_server.requests[0].header("proxy-authorization") is None


def test_an_error_of_a_proxy_contains_its_address(tls_server, connect, certificate, body):
    with contextlib.closing(Tunnel("407 Proxy Authentication Required")) as tunnel:
        backend = connect(
            endpoint=tls_server.endpoint, ca_bundle=str(certificate[0]), proxy=f"http://127.0.0.1:{tunnel.port}"
        )
        with pytest.raises(ConnectionFailed, match=f"through the proxy 127.0.0.1:{tunnel.port}: .*407"):
            backend.upload_part(*PART, body(b"x"))


def test_plain_http_is_forwarded_by_the_proxy(server, connect, body):
    """The scripted server is the proxy; the host of the endpoint need not exist."""
    backend = connect(endpoint="http://oss.example.com", proxy=f"http://user:pass@127.0.0.1:{server.port}")
    backend.upload_part("a/../b", "ID", 1, body(b"x"))
    request = server.requests[0]
    assert request.target == "http://examplebucket.oss.example.com/a/../b?partNumber=1&uploadId=ID"
    assert request.header("host") == "examplebucket.oss.example.com"
    assert request.header("proxy-authorization") == "Basic dXNlcjpwYXNz"


@pytest.mark.parametrize(
    "url", ["hunter2", "socks5://hunter2@h:1", "http://", "http://u:hunter2@h:x", "http://h/hunter2"]
)
def test_an_invalid_proxy_is_refused_and_not_shown(url):
    with pytest.raises(InvalidInput, match="the proxy is invalid") as raised:
        Proxy.parse(url)
    assert "hunter2" not in str(raised.value)


def test_a_repr_does_not_contain_the_password_of_a_proxy(connect):
    backend = connect(proxy="http://user:hunter2@127.0.0.1:1")
    assert "hunter2" not in repr(backend) + repr(Proxy.parse("http://user:hunter2@127.0.0.1:1"))


def test_a_proxy_that_requires_a_password_is_not_retryable_and_the_hint_says_what_to_pass(
    tls_server, connect, certificate, body
):
    with contextlib.closing(Tunnel("407 Proxy Authentication Required")) as tunnel:
        backend = connect(
            endpoint=tls_server.endpoint,
            ca_bundle=str(certificate[0]),
            proxy=f"http://u:hunter2@127.0.0.1:{tunnel.port}",
        )
        with pytest.raises(ConnectionFailed, match=r"407\). Pass proxy='http://user:password@host:port'") as raised:
            backend.upload_part(*PART, body(b"x"))
    assert (raised.value.retryable, raised.value.status) == (False, 407)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "transient"),
    [
        (302, False),
        (400, False),
        (403, False),
        (404, False),
        (405, False),
        (408, True),
        (429, True),
        (501, False),
        (505, False),
        (502, True),
    ],
)
def test_a_proxy_that_refuses_a_tunnel_is_retryable_only_for_a_transient_status(connect, body, status, transient):
    with contextlib.closing(Tunnel(f"{status} No")) as tunnel:
        backend = connect(endpoint="https://oss.example.com", proxy=f"http://127.0.0.1:{tunnel.port}")
        with pytest.raises(ConnectionFailed, match=f"the proxy responded {status}") as raised:
            backend.upload_part(*PART, body(b"x"))
    assert (raised.value.retryable, raised.value.status) == (transient, status)


def test_a_forwarding_proxy_that_requires_a_password_is_not_retryable_and_shows_no_secret(server, connect, body, kit):
    backend = connect(endpoint="http://oss.example.com", proxy=f"http://user:hunter2pass@127.0.0.1:{server.port}")
    server.reply(kit.response(407, "<html>hunter2pass dXNlcjpodW50ZXIycGFzcw==</html>"))
    with pytest.raises(ConnectionFailed, match=r"Pass proxy='http://user:password@host:port'") as raised:
        backend.upload_part(*PART, body(b"x"))
    assert not raised.value.retryable
    for secret in ("hunter2pass", "dXNlcjpodW50ZXIycGFzcw"):
        assert secret not in repr((raised.value.args, vars(raised.value)))


def test_a_proxy_that_speaks_another_protocol_is_not_retryable(tls_server, connect, certificate, body):
    with serving(lambda sock: sock.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")) as port:
        backend = connect(endpoint=tls_server.endpoint, ca_bundle=str(certificate[0]), proxy=f"http://127.0.0.1:{port}")
        with pytest.raises(ConnectionFailed, match="which is not HTTP") as raised:
            backend.upload_part(*PART, body(b"x"))
    assert not raised.value.retryable


def test_a_proxy_that_responds_byte_by_byte_times_out(tls_server, connect, certificate, body, clock):
    with serving(send_slowly(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 10_000, clock)) as port:
        backend = connect(
            endpoint=tls_server.endpoint,
            ca_bundle=str(certificate[0]),
            proxy=f"http://127.0.0.1:{port}",
            connect_timeout=20.0,
        )
        with pytest.raises(ConnectionFailed, match="it timed out"):
            backend.upload_part(*PART, body(b"x"))


def test_the_environment_names_a_proxy_and_an_empty_setting_disables_it(server, connect, body, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    connect(endpoint="http://oss.example.com").upload_part(*PART, body(b"x"))
    assert server.requests[0].target.startswith("http://examplebucket.oss.example.com/key")

    connect().upload_part(*PART, body(b"x"))
    assert server.requests[1].target.startswith("/examplebucket/key"), "this machine is reached directly"

    monkeypatch.setenv("http_proxy", "socks5://hunter2@127.0.0.1:1")
    with pytest.raises(InvalidInput, match="the proxy in the environment variable http_proxy is invalid") as raised:
        connect(endpoint="http://oss.example.com")
    assert "hunter2" not in str(raised.value)
    assert connect(endpoint="http://oss.example.com", proxy="")._client._http.endpoint.proxy is None


def test_the_hint_contains_the_variable_that_names_the_proxy(connect, body, monkeypatch):
    with contextlib.closing(Tunnel("407 No")) as tunnel:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{tunnel.port}")
        for name in ("https_proxy", "no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(ConnectionFailed, match="comes from the environment variable HTTPS_PROXY"):
            connect(endpoint="https://oss.example.com").upload_part(*PART, body(b"x"))
    assert tunnel.requests[0].startswith("CONNECT examplebucket.oss.example.com:443 HTTP/1.1\r\nHost: examplebucket.")


# --- slow responses --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(talk):
    """A server that runs `talk` on its first connection after receiving something."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                talk(connection)
                connection.settimeout(5)
                while connection.recv(65536):
                    pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
        thread.join(10)


def send_slowly(data, clock):
    """A script that sends three bytes at a time, every nine seconds by the clock of the test."""

    def talk(connection):
        for start in range(0, len(data), 3):
            connection.sendall(data[start : start + 3])
            time.sleep(0.002)
            clock.now += 9

    return talk


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "response",
    [
        OK + b"a: b\r\n" * 5000,
        OK + b"Content-Length: 100000\r\n\r\n" + b"x" * 50_000,
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 5000,
        OK + b"\r\n" + b"x" * 50_000,
        b"HTTP/1.1 100 Continue\r\n" + b"a: b\r\n" * 5000,
    ],
)
def test_a_slow_response_times_out_although_data_arrives(connect, clock, response):
    with serving(send_slowly(response, clock)) as port:
        backend = connect(endpoint=f"http://127.0.0.1:{port}", read_timeout=10.0)
        with pytest.raises(
            ConnectionFailed, match=r"did not finish its response within 40 seconds; .*may have taken"
        ) as raised:
            backend.initiate_upload("key", ObjectOptions())
        took = clock.now - 1000
    assert raised.value.retryable
    assert took < len(response), "it was received completely"


def test_a_response_may_take_longer_than_the_read_timeout(server, connect, kit, clock):
    response = kit.initiated()

    def slowly(_, sock):
        for start in range(0, len(response), 60):
            time.sleep(0.005)
            clock.now += 9 if clock.now < 1030 else 0
            sock.sendall(response[start : start + 60])

    server.reply(slowly)
    assert connect(read_timeout=10.0).initiate_upload("key", ObjectOptions()) == "UPLOADID"
    assert clock.now > 1010


def test_a_response_may_take_four_read_timeouts(connect):
    assert connect(read_timeout=60.0)._client._http._response_timeout == 240.0


def test_a_slow_tls_record_times_out(kit, connect, certificate, clock):
    """A record must be received completely before any of it can be decrypted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    scripted = kit.ScriptedServer(context)

    def respond_slowly(_, sock):
        # The header of a record of 16,000 bytes, and then its content byte by byte.
        raw = socket.socket(fileno=os.dup(sock.fileno()))
        with raw, contextlib.suppress(OSError):
            raw.sendall(b"\x17\x03\x03\x3e\x80")
            for _ in range(2000):
                raw.sendall(b"x")
                time.sleep(0.002)
                clock.now += 9

    scripted.reply(respond_slowly)
    with contextlib.closing(scripted):
        backend = connect(endpoint=scripted.endpoint, ca_bundle=str(certificate[0]), read_timeout=10.0)
        with pytest.raises(ConnectionFailed, match=r"did not finish its response within 40 seconds"):
            backend.head_object("key")


def test_a_slow_tls_handshake_times_out(connect, clock):
    record = b"\x16\x03\x03\x3e\x80" + b"\x02\x00\x3e\x7c" + b"\x03" * 16_000
    with serving(send_slowly(record, clock)) as port:
        backend = connect(endpoint=f"https://127.0.0.1:{port}", connect_timeout=20.0)
        with pytest.raises(ConnectionFailed, match="it timed out") as raised:
            backend.head_object("key")
    assert raised.value.retryable


# --- failures that a retry does not change ---------------------------------------------------------------------------


def test_https_to_a_plain_http_port_is_not_retryable(connect, body):
    with serving(lambda sock: sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")) as port:
        backend = connect(endpoint=f"https://127.0.0.1:{port}")
        with pytest.raises(ConnectionFailed, match=r"no connection to https.*Check the scheme and the port") as raised:
            backend.upload_part(*PART, body(b"x"))
    assert not raised.value.retryable


def test_https_to_the_test_server_is_not_retryable(connect, oss_server, body):
    with pytest.raises(ConnectionFailed, match="Check the scheme and the port") as raised:
        connect(endpoint=oss_server.endpoint.replace("http:", "https:")).upload_part(*PART, body(b"x"))
    assert not raised.value.retryable


@pytest.mark.parametrize("alert", [b"\x15\x03\x01\x00\x02\x02\x28", b"\x15\x03\x03\x00\x02\x02\x46"])
def test_http_to_a_tls_port_is_not_retryable_and_the_hint_says_https(connect, body, alert):
    hint = "The server speaks TLS: pass endpoint= with https://"
    with serving(lambda sock: sock.sendall(alert)) as port, pytest.raises(ConnectionFailed, match=hint) as raised:
        connect(endpoint=f"http://127.0.0.1:{port}").upload_part(*PART, body(b"x"))
    assert not raised.value.retryable


def test_another_protocol_is_not_retryable_and_recognised_at_once(connect, body):
    talk, hint = (
        (lambda sock: sock.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")),
        r"which is not HTTP\. Check the scheme and the port",
    )
    with serving(talk) as port, pytest.raises(ConnectionFailed, match=hint) as raised:
        connect(endpoint=f"http://127.0.0.1:{port}", read_timeout=30.0).upload_part(*PART, body(b"x"))
    assert not raised.value.retryable


def test_another_protocol_is_not_retryable_even_if_sending_times_out(connect, body):
    """The part is larger than the send buffer, so sending it fails first."""
    ended = threading.Event()

    def talk(sock):
        sock.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
        ended.wait(10)

    with serving(talk) as port:
        backend = connect(endpoint=f"http://127.0.0.1:{port}", read_timeout=0.1)
        with pytest.raises(ConnectionFailed, match=r"which is not HTTP\. Check") as raised:
            backend.upload_part(*PART, body(b"x" * 30_000_000, 1_000_000))
        ended.set()
    assert not raised.value.retryable


def test_an_invalid_response_on_a_used_connection_is_retryable(server, oss, body):
    oss.upload_part(*PART, body(b"x"))
    server.reply(b"nonsense\r\n\r\n")
    with pytest.raises(ConnectionFailed, match="was lost") as raised:
        oss.upload_part(*PART, body(b"x"))
    assert raised.value.retryable


def test_an_incompatible_tls_version_is_not_retryable(kit, connect, certificate, body):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    scripted = kit.ScriptedServer(context)
    with contextlib.closing(scripted):
        backend = connect(endpoint=scripted.endpoint, ca_bundle=str(certificate[0]))
        backend._client._http.endpoint.context().maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ConnectionFailed, match="no connection to https") as raised:
            backend.upload_part(*PART, body(b"x"))
    assert not raised.value.retryable


def test_the_certificates_of_the_system_are_read_once_and_not_before_there_is_a_connection(
    connect, certificate, tls_server, body, monkeypatch
):
    read = []

    def create_default_context():
        read.append(None)
        return original(cafile=str(certificate[0]))

    original = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", create_default_context)
    backend = connect(endpoint=tls_server.endpoint)
    assert read == []
    tls_server.replies = [b"HTTP/1.1 200 OK\r\nETag: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"]
    for _ in range(2):
        backend.upload_part(*PART, body(b"x"))
    assert (tls_server.connections, len(read)) == (2, 1)


@pytest.mark.parametrize(("reason", "permanent"), [("TLSV13_ALERT_CERTIFICATE_REQUIRED", True), ("BAD_RECORD", False)])
def test_a_server_that_requires_a_client_certificate_is_not_retryable(oss, body, monkeypatch, reason, permanent):
    """With TLS 1.3, the alert arrives in place of the first response."""
    refusal = ssl.SSLError(1, "alert")
    refusal.reason = reason

    def refused(_, __):
        raise refusal

    monkeypatch.setattr(client, "read_response", refused)
    with pytest.raises(ConnectionFailed, match="was lost") as raised:
        oss.upload_part(*PART, body(b"x"))
    assert raised.value.retryable is not permanent


@pytest.mark.parametrize(
    "talk", [lambda sock: sock.shutdown(socket.SHUT_RDWR), lambda sock: sock.sendall(b"\x15\x03\x03\x00\x02\x02\x50")]
)
def test_a_broken_handshake_or_an_internal_error_of_the_server_is_retryable(connect, body, talk):
    with serving(talk) as port, pytest.raises(ConnectionFailed) as raised:
        connect(endpoint=f"https://127.0.0.1:{port}").upload_part(*PART, body(b"x"))
    assert raised.value.retryable


def test_an_invalid_host_name_is_not_retryable(connect):
    with pytest.raises(ConnectionFailed) as raised:
        connect(endpoint="http://a..b.example.com", addressing_style="cname").head_object("key")
    assert not raised.value.retryable


# --- bodies of failed requests ---------------------------------------------------------------------------------------


def test_a_body_is_closed_when_the_connection_breaks_although_the_error_is_kept(oss, body, monkeypatch):
    """Otherwise its file would stay open for as long as the error is kept."""

    def breaking(sock, _, chunks):
        next(iter(chunks))
        sock.shutdown(socket.SHUT_RDWR)
        return BrokenPipeError("gone")

    monkeypatch.setattr(client, "_send", breaking)
    sent = body(b"x" * 20_000)
    wait = oss.begin_part(*PART, sent)
    assert sent.closed
    with pytest.raises(ConnectionFailed, match="broke while the request was sent"):
        wait()


def test_a_body_is_closed_when_sending_fails_although_the_traceback_is_kept(oss, body, monkeypatch):
    def failing(_, __, chunks):
        held = iter(chunks)
        next(held)
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "_send", failing)
    sent = body(b"x" * 20_000)
    with pytest.raises(KeyboardInterrupt) as raised:
        oss.upload_part(*PART, sent)
    assert raised.value.__traceback__ is not None
    assert sent.closed


# --- a reset in mid-part ---------------------------------------------------------------------------------------------


def test_a_connection_reset_in_mid_part_costs_the_bytes_of_that_part_only(connect, tmp_path):
    """Of 16 parts, one is received halfway: it is sent again, and nothing else."""
    (tmp_path / "file").write_bytes(os.urandom(16 * MIB))
    received, reset = [], []
    lock = threading.Lock()

    def serve(connection):
        with connection, contextlib.suppress(OSError):
            buffer = b""
            while True:
                while b"\r\n\r\n" not in buffer:
                    more = connection.recv(65536)
                    if not more:
                        return
                    buffer += more
                head, _, rest = buffer.partition(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                count, size = len(rest), int(length[1]) if length else 0
                breaks = b"partNumber=5&" in head and not reset
                while count < (size // 2 if breaks else size):
                    count += len(connection.recv(65536))
                if b"partNumber" in head:
                    with lock:
                        received.append(count)
                if breaks:
                    reset.append(count)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                body = b"<InitiateMultipartUploadResult><UploadId>ID</UploadId></InitiateMultipartUploadResult>"
                body = body if head.startswith(b"POST") and b"uploadId" not in head else b""
                connection.sendall(b'HTTP/1.1 200 OK\r\nETag: "E"\r\nContent-Length: %d\r\n\r\n%b' % (len(body), body))
                buffer = b""

    def accept(listener):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        backend = connect(endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}")
        config = TransferConfig(part_size=MIB, concurrency=4, multipart_threshold=0, retry_base=0.0)
        result = Uploader(backend, store=MemoryCheckpointStore(), config=config).upload(tmp_path / "file", "key")
        listener.shutdown(socket.SHUT_RDWR)

    assert reset
    assert reset[0] < MIB
    assert sum(received) == 16 * MIB + reset[0]
    assert result.size == 16 * MIB


# --- cut by another thread -------------------------------------------------------------------------------------------


class Hanging:
    """A server that accepts a connection, reads up to a number of bytes, and then does nothing."""

    def __init__(self, reads=0, context=None):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http{'s' * (context is not None)}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._reads, self._context = reads, context
        self.reached = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        connection, _ = self._listener.accept()
        if self._context is not None:
            connection = self._context.wrap_socket(connection, server_side=True)
        with connection:
            count = 0
            while count < self._reads:
                count += len(connection.recv(65536))
            self.reached.set()
            self._done.wait(20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._done.set()
        self._listener.close()
        self._thread.join(10)


def cut_when_it_hangs(hanging, backend, sent, *, cut_by=None):
    """Send a part, cut it once the server has read what it reads, and return what was raised."""
    raised = []

    def send():
        try:
            backend.upload_part(*PART, sent)
        except ConnectionFailed as error:
            raised.append(error)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    assert hanging.reached.wait(10)
    (cut_by or backend).cut_part(sent, "it is too slow")
    thread.join(10)
    assert not thread.is_alive(), "the part is still being sent"
    return raised[0]


@pytest.fixture(params=[False, True], ids=["http", "https"])
def hanging(request, certificate):
    """A server that reads the first 1,000 bytes of a part, and then hangs."""
    context = None
    if request.param:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    with Hanging(1000, context) as server:
        yield server


@pytest.mark.parametrize("size", [50_000_000, 1000], ids=["while sending", "while waiting for the response"])
def test_a_part_that_hangs_is_cut_by_another_thread(connect, body, certificate, hanging, size):
    backend = connect(endpoint=hanging.endpoint, read_timeout=60.0, ca_bundle=str(certificate[0]))
    error = cut_when_it_hangs(hanging, backend, body(b"x" * size, 65536))

    assert error.retryable
    assert str(error) == f"the connection to {hanging.endpoint} was cut: it is too slow"
    assert isinstance(error.__cause__, ConnectionFailed)


def test_a_part_is_cut_while_it_connects(connect, body, monkeypatch):
    """To a server that does not answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as filling:
        for _ in range(3):
            filler = filling.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        monkeypatch.setattr(connecting, "_LOOK_INTERVAL", 0.01)
        backend = connect(endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}", connect_timeout=20.0)
        sent = body(b"x")
        timer = threading.Timer(0.05, backend.cut_part, [sent, "it is too slow"])
        timer.start()
        with pytest.raises(ConnectionFailed, match="was cut: it is too slow"):
            backend.upload_part(*PART, sent)
        timer.join()


def test_a_name_with_several_addresses_is_tried_as_a_whole(server, connect, body, monkeypatch):
    """The first one refuses; the one that works is used for every connection after that."""
    with socket.create_server(("127.0.0.2", 0)) as unused:
        refusing = unused.getsockname()
    tried = []
    start = connecting._start
    monkeypatch.setattr(connecting, "_start", lambda address: tried.append(address[3]) or start(address))
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", where) for where in (refusing, ("127.0.0.1", server.port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    backend = connect(endpoint=f"http://storage.example:{server.port}", addressing_style="path", proxy="")
    waits = [backend.begin_part("key", "ID", number, body(b"x")) for number in (1, 2)]
    for wait in waits:
        wait()

    assert tried == [refusing, ("127.0.0.1", server.port), ("127.0.0.1", server.port)]


def test_a_cut_by_another_handle_reaches_the_part(connect, body, certificate, hanging):
    backend = connect(endpoint=hanging.endpoint, read_timeout=60.0, ca_bundle=str(certificate[0]))
    handle = backend.with_request_options(OSSOptions(traffic_limit=819_200))

    assert "cut" in str(cut_when_it_hangs(hanging, handle, body(b"x" * 1000), cut_by=backend))


def test_a_cut_affects_no_other_part_and_no_later_one(server, oss, body):
    first, second = body(b"x"), body(b"y")
    oss.upload_part(*PART, first)
    oss.cut_part(first, "too late")
    oss.cut_part(second, "too early")
    oss.upload_part(*PART, second)

    assert server.connections == 1, "the connection is used again"
    assert not oss._client._http._cutters


def test_a_part_that_has_its_response_when_it_is_cut_is_acknowledged(server, oss, body):
    sent = body(b"x" * 1000)
    receive = oss.begin_part(*PART, sent)
    while not server.requests:
        time.sleep(0.001)
    time.sleep(0.05)  # the response arrives
    oss.cut_part(sent, "too slow")

    assert receive().size == 1000
    oss.upload_part(*PART, body(b"y"))
    assert server.connections == 2, "the connection that was cut is not used again"
