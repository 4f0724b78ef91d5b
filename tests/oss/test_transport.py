"""Connections: what breaks, what is used again, what is never trusted."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import socket
import ssl
import subprocess
import threading
import time
from types import SimpleNamespace

import pytest

from partwise.backends._http import tls_pump as tls
from partwise.backends.oss import Credentials, OSSBackend, transport
from partwise.backends.oss.transport import Proxy
from partwise.errors import (
    AccessDenied,
    BackendClosed,
    BackendError,
    ConnectionFailed,
    IntegrityError,
    InvalidInput,
    SourceChanged,
)
from partwise.model import ObjectOptions

PART = ("key", "ID", 1)


# --- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 102_400, 3_000_000])
@pytest.mark.parametrize("piece", [4096, 10_000_000])
def test_a_body_arrives_as_it_is_with_its_length_said(server, oss, body, size, piece):
    data = os.urandom(size)
    receipt = oss.upload_part(*PART, body(data, piece))
    request = server.requests[0]
    assert (request.body, request.header("content-length")) == (data, str(size))
    assert request.header("transfer-encoding") is None
    assert receipt.size == size


def test_a_body_without_sendmsg_arrives_too(server, oss, body, monkeypatch):
    """As on Windows, where sockets do not have it."""

    class Bare:
        def __init__(self, sock):
            self._sock = sock

        def __getattr__(self, name):
            if name == "sendmsg":
                raise AttributeError(name)
            return getattr(self._sock, name)

    send = transport._send
    monkeypatch.setattr(transport, "_send", lambda sock, head, pieces: send(Bare(sock), head, pieces))
    data = os.urandom(100_000)
    oss.upload_part(*PART, body(data))
    assert server.requests[0].body == data


@pytest.mark.parametrize("taken", [1, 50, 5000])
def test_a_socket_that_takes_only_some_of_the_first_piece_is_given_the_rest(taken):
    """A full send buffer, played by a socket that stops at a byte of its choice."""

    class Slow:
        def __init__(self):
            self.got = b""

        def gettimeout(self):
            return None

        def sendmsg(self, pieces):
            self.got += b"".join(bytes(piece) for piece in pieces)[:taken]
            return len(self.got)

        def send(self, data):
            self.got += bytes(data)
            return len(data)

    sock = Slow()
    assert transport._send(sock, b"h" * 100, [memoryview(b"b" * 10_000), memoryview(b"c")]) is None
    assert sock.got == b"h" * 100 + b"b" * 10_000 + b"c"


@pytest.mark.parametrize("pieces", [[], [b"a"], [b"a", b"b"]])
@pytest.mark.parametrize("breaks_at", [0, 1])
def test_a_break_while_sending_is_given_back_and_no_more_is_read_from_the_body(pieces, breaks_at):
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
        for piece in pieces:
            read.append(piece)
            yield memoryview(piece)

    found = transport._send(Breaking(), b"head", body())
    calls = max(1, len(pieces) + 1)
    assert found is (broken if breaks_at < calls else None)
    assert len(read) <= max(1, breaks_at)


def test_an_interrupt_while_connecting_comes_out(server, oss, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(transport.HTTPConnection, "connect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        oss.head_object("key")


def test_a_body_that_comes_short_is_an_error_and_no_whole_request(server, oss, body):
    short = body(b"x" * 5000, claimed=5001)
    with pytest.raises(IntegrityError, match=r"5000 .*5001"):
        oss.upload_part(*PART, short)
    assert short.closed
    server.close()
    assert [(request.whole, len(request.body)) for request in server.requests] in ([(False, 5000)], [])


def test_a_body_that_is_longer_than_it_said_is_an_error_and_no_whole_request(server, oss, body):
    with pytest.raises(IntegrityError, match="5000"):
        oss.upload_part(*PART, body(b"x" * 9000, claimed=5000))
    server.close()
    assert not any(request.whole for request in server.requests)


@pytest.mark.parametrize(
    "failure", [SourceChanged("it shrank"), OSError("disk"), KeyboardInterrupt(), ZeroDivisionError()]
)
@pytest.mark.parametrize("after", [0, 8192])
def test_what_a_body_raises_passes_through_unchanged(server, oss, body, failure, after):
    broken = body(b"x" * 20_000, fails_after=after, failure=failure)
    with pytest.raises(type(failure)) as raised:
        oss.upload_part(*PART, broken)
    assert raised.value is failure
    assert broken.closed
    oss.upload_part(*PART, body(b"y"))
    assert [request.body for request in server.requests if request.whole] == [b"y"]


def test_a_body_is_let_go_of_when_the_connection_breaks(server, oss, body, kit):
    server.reply(kit.hang_up)
    sent = body(b"x" * 100)
    with pytest.raises(ConnectionFailed) as raised:
        oss.upload_part(*PART, sent)
    assert raised.value.__traceback__ is not None
    assert sent.closed


# --- what breaks -----------------------------------------------------------------------------------------------------


def test_a_server_that_is_not_there(connect):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(ConnectionFailed, match=f"no connection to http://127.0.0.1:{port}: .*refused") as raised:
        connect(endpoint=f"http://127.0.0.1:{port}").head_object("key")
    assert raised.value.retryable


def test_a_name_that_does_not_exist(connect, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConnectionFailed, match="can't be resolved") as raised:
        connect(endpoint="http://nowhere.invalid").head_object("key")
    assert raised.value.retryable


def test_a_server_that_takes_no_connection_in_time(connect):
    # A listener whose queue is full answers no further knock.
    with socket.socket() as full, contextlib.ExitStack() as held:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            knock = held.enter_context(socket.socket())
            knock.setblocking(False)
            knock.connect_ex(full.getsockname())
        backend = connect(endpoint=f"http://127.0.0.1:{full.getsockname()[1]}", connect_timeout=0.2, read_timeout=0.2)
        with pytest.raises(ConnectionFailed, match=r"took too long|did not answer"):
            backend.head_object("key")


def test_a_lost_answer_says_that_the_request_may_have_taken_effect(server, oss, kit):
    server.reply(kit.hang_up)
    with pytest.raises(ConnectionFailed, match="closed without an answer; the request may have taken effect") as raised:
        oss.initiate_upload("key", ObjectOptions())
    assert (raised.value.retryable, len(server.requests)) == (True, 1)


@pytest.mark.parametrize("cut", [1, 20, 100, -1])
def test_an_answer_that_is_cut_short_is_lost(server, oss, kit, cut):
    whole = kit.initiated()

    def cut_short(_, sock):
        sock.sendall(whole[:cut])

    server.reply(cut_short)
    with pytest.raises(ConnectionFailed, match="was lost"):
        oss.initiate_upload("key", ObjectOptions())


def test_a_silent_server_is_given_up_on(server, connect):
    release = threading.Event()

    def silent(_, __):
        release.wait(10)

    server.reply(silent)
    with pytest.raises(ConnectionFailed, match=r"did not answer within 0.1 seconds"):
        connect(read_timeout=0.1).head_object("key")
    release.set()


def test_a_server_that_stops_taking_bytes_is_given_up_on(connect, body):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        backend = connect(endpoint=f"http://127.0.0.1:{deaf.getsockname()[1]}", read_timeout=0.2)
        with pytest.raises(ConnectionFailed, match=r"took no more of the request for 0.2 seconds"):
            backend.upload_part(*PART, body(b"x" * 50_000_000, 1_000_000))


def test_a_server_that_takes_bytes_too_slowly_is_given_up_on(monkeypatch, server, oss, body):
    monkeypatch.setattr(transport, "_send", lambda *_: transport.TooSlow("less than 1024 bytes a second were taken"))
    with pytest.raises(ConnectionFailed, match="took the request too slowly: less than 1024 bytes a second") as raised:
        oss.upload_part(*PART, body(b""))
    assert raised.value.retryable


def answering_early(reply: bytes):
    """A server that answers after the head, and closes the connection with the body unread."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(reply)
            connection.shutdown(socket.SHUT_WR)
            # Read on for a while, as a server does that wants its answer to arrive.
            connection.settimeout(0.5)
            with contextlib.suppress(OSError):
                for _ in range(3):
                    connection.recv(1000)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return listener, thread


def test_an_answer_that_comes_before_the_body_was_sent_is_heard(connect, kit, body):
    listener, thread = answering_early(kit.error(403, "AccessDenied", headers={"Connection": "close"}))
    with listener:
        backend = connect(endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(BackendError) as raised:
            backend.upload_part(*PART, body(b"x" * 30_000_000, 1_000_000))
    thread.join(10)
    # Whether the answer survives the reset is the network's choice; that it ends at once is ours.
    assert raised.value.code == "AccessDenied" or isinstance(raised.value, ConnectionFailed)


def test_a_refusal_by_a_server_that_then_stops_taking_bytes_is_heard(connect, kit, body):
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


def test_success_that_comes_before_the_body_was_sent_is_not_believed(monkeypatch, server, oss, body):
    monkeypatch.setattr(transport, "_send", lambda sock, head, _: sock.sendall(head) or BrokenPipeError("gone"))
    server.reply(b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(ConnectionFailed, match="did not get all of"):
        oss.put_object("key", body(b""), ObjectOptions())


def test_a_refusal_that_comes_before_the_body_was_sent_is_believed(monkeypatch, server, oss, body, kit):
    monkeypatch.setattr(transport, "_send", lambda sock, head, _: sock.sendall(head) or BrokenPipeError("gone"))
    server.reply(kit.error(404, "NoSuchUpload"))
    with pytest.raises(BackendError) as raised:
        oss.upload_part(*PART, body(b""))
    assert raised.value.code == "NoSuchUpload"


def test_a_connection_that_breaks_while_sending_names_that_as_the_reason(monkeypatch, server, oss, body, kit):
    monkeypatch.setattr(transport, "_send", lambda sock, head, _: sock.sendall(head) or ConnectionResetError("reset"))
    server.reply(kit.hang_up)
    with pytest.raises(ConnectionFailed, match="broke while the request was sent: reset") as raised:
        oss.put_object("key", body(b""), ObjectOptions())
    assert isinstance(raised.value.__cause__, ConnectionResetError)


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"])
def test_what_is_no_http_is_a_lost_answer(server, oss, data):
    server.reply(data)
    with pytest.raises(ConnectionFailed, match="was lost"):
        oss.abort_upload("key", "ID")


def test_an_answer_beyond_all_bounds_is_refused_for_good(server, oss):
    server.reply(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
    with pytest.raises(BackendError, match="can't be meant for us") as raised:
        oss.initiate_upload("key", ObjectOptions())
    assert not raised.value.retryable


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(server, oss, kit, status):
    server.reply(kit.answer(status, Location=f"{server.endpoint}/elsewhere"))
    with pytest.raises(BackendError, match="not sent on") as raised:
        oss.initiate_upload("key", ObjectOptions())
    assert (len(server.requests), raised.value.retryable) == (1, False)


# --- connections that are used again ---------------------------------------------------------------------------------


def test_a_connection_is_used_again(server, oss, body):
    for _ in range(5):
        oss.upload_part(*PART, body(b"x"))
    assert {request.connection for request in server.requests} == {1}


def test_a_connection_is_used_again_after_a_plain_refusal(server, oss, kit, body):
    server.reply(kit.error(404, "NoSuchUpload"))
    with pytest.raises(BackendError):
        oss.upload_part(*PART, body(b"x"))
    oss.upload_part(*PART, body(b"x"))
    assert {request.connection for request in server.requests} == {1}


@pytest.mark.parametrize(
    "refusal",
    [(400, "RequestTimeout"), (400, "IncompleteBody"), (500, "InternalError"), (503, "X"), (408, "X")],
)
def test_trouble_is_left_behind_with_its_connection(server, oss, kit, body, refusal):
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
        b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: 0\r\n\r\nmore than was asked for",
    ],
)
def test_a_connection_is_not_used_again_when_the_answer_speaks_against_it(server, oss, body, reply):
    server.reply(reply)
    oss.upload_part(*PART, body(b"x"))
    oss.upload_part(*PART, body(b"x"))
    assert [request.connection for request in server.requests] == [1, 2]


def test_a_connection_that_the_service_closed_is_noticed(server, oss, body, monkeypatch):
    monkeypatch.setattr(transport, "_RECENT_SECONDS", -1.0)
    oss.upload_part(*PART, body(b"x"))
    server.drop_connections()
    oss.upload_part(*PART, body(b"x"))
    assert [request.connection for request in server.requests] == [1, 2]


def test_a_request_that_can_not_be_repeated_is_not_risked_on_a_closed_connection(server, oss, body, kit):
    oss.upload_part(*PART, body(b"x"))
    server.drop_connections()
    server.reply(kit.initiated())
    assert oss.initiate_upload("key", ObjectOptions()) == "UPLOADID"
    assert [request.connection for request in server.requests] == [1, 2]


def test_a_connection_that_was_closed_just_now_is_an_ordinary_failure(server, oss, body):
    oss.upload_part(*PART, body(b"x"))
    server.drop_connections()
    with pytest.raises(ConnectionFailed) as raised:
        oss.upload_part(*PART, body(b"x"))
    assert raised.value.retryable
    oss.upload_part(*PART, body(b"x"))


def test_a_server_that_closes_each_connection_after_its_answer_costs_one_failure_and_no_more(server, oss, body, kit):
    def last_words(received, connection):
        connection.sendall(kit.stored(received))

    server.reply(*[last_words] * 20)
    failures = 0
    for _ in range(20):
        try:
            oss.upload_part(*PART, body(b"x"))
        except ConnectionFailed:
            failures += 1
        server.drop_connections()
    assert failures == 1


def test_a_connection_that_was_idle_for_long_is_not_used_again(server, oss, body, monkeypatch):
    oss.upload_part(*PART, body(b"x"))
    later = time.monotonic() + 51
    monkeypatch.setattr(transport.time, "monotonic", lambda: later)
    oss.upload_part(*PART, body(b"x"))
    assert [request.connection for request in server.requests] == [1, 2]


@pytest.fixture
def hand(monkeypatch):
    """The hand of the clock by which connections are idle and answers are late, for the test to move."""
    hand = SimpleNamespace(at=1000.0)
    clock = SimpleNamespace(**{**vars(time), "monotonic": lambda: hand.at})
    for module in (transport, tls):
        monkeypatch.setattr(module, "time", clock)
    return hand


@pytest.mark.parametrize("idle", [49.9, 50.0, 50.1])
def test_a_connection_is_used_again_within_fifty_seconds(server, oss, body, hand, idle):
    oss.upload_part(*PART, body(b"x"))
    hand.at += idle
    oss.upload_part(*PART, body(b"x"))
    assert [request.connection for request in server.requests] == [1, 2 if idle > 50.0 else 1]


def test_a_connection_that_was_idle_for_a_second_is_looked_at_before_it_is_used(server, oss, body, hand):
    oss.upload_part(*PART, body(b"x"))
    server.drop_connections()
    hand.at += 1.0
    oss.upload_part(*PART, body(b"x"))
    assert [request.connection for request in server.requests] == [1, 2]


def test_a_connection_that_was_idle_for_less_is_not(server, oss, body, hand):
    oss.upload_part(*PART, body(b"x"))
    server.drop_connections()
    hand.at += 0.9
    with pytest.raises(ConnectionFailed):
        oss.upload_part(*PART, body(b"x"))


def test_requests_at_one_time_have_connections_of_their_own_and_only_so_many_are_kept(server, connect, kit, body):
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
    assert len(backend._transport._idle) == 2


# --- parts that are begun before others are answered -----------------------------------------------------------------


def begun(oss, body, *numbers):
    """What waits for the answer of each of these parts."""
    return [oss.begin_part("key", "ID", number, body(bytes([number]) * 5000)) for number in numbers]


def test_parts_that_are_begun_are_answered_in_any_order_by_connections_of_their_own(server, oss, body):
    first, second, third = begun(oss, body, 1, 2, 3)
    receipts = [second(), third(), first()]

    assert [receipt.part_number for receipt in receipts] == [2, 3, 1]
    assert {int(r.query["partNumber"]): (r.connection, r.body[:1]) for r in server.requests} == {
        n: (n, bytes([n])) for n in (1, 2, 3)
    }
    assert oss.upload_part(*PART, body(b"x")).size == 1
    assert server.connections == 3, "they are used again"


def test_a_begun_part_that_is_refused_takes_no_other_with_it(server, oss, body, kit):
    server.reply(*3 * [lambda r, _: kit.error(403, "AccessDenied") if r.query["partNumber"] == "1" else kit.stored(r)])
    waits = begun(oss, body, 1, 2, 3)

    with pytest.raises(AccessDenied):
        waits[0]()
    assert [wait().part_number for wait in waits[1:]] == [2, 3]


def test_a_begun_part_whose_answer_is_lost_is_a_failure_of_that_part(server, oss, body, kit):
    server.reply(kit.hang_up)
    lost = begun(oss, body, 1)[0]
    with pytest.raises(ConnectionFailed, match="may have taken effect"):
        lost()
    assert begun(oss, body, 1)[0]().part_number == 1


def test_a_begun_part_is_answered_though_the_backend_was_closed(oss, body):
    wait = begun(oss, body, 1)[0]
    oss.close()

    assert wait().part_number == 1
    assert oss._transport._idle == []


def test_a_body_is_let_go_of_when_its_part_was_sent(oss, body):
    """Its file, and its buffer, are free for the next one."""
    ended = []

    class Body(type(body(b""))):
        def chunks(self):
            try:
                yield from super().chunks()
            finally:
                ended.append(True)

    wait = oss.begin_part("key", "ID", 1, Body(b"x" * 5000))

    assert ended == [True]
    assert wait().size == 5000


# --- closing ---------------------------------------------------------------------------------------------------------


def test_closing_ends_the_connections_and_everything_after_is_refused(oss, body):
    oss.upload_part(*PART, body(b"x"))
    with oss:
        pass
    oss.close()
    assert oss._transport._idle == []
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


def test_a_request_under_way_ends_in_peace_when_the_backend_is_closed(server, oss, kit, body):
    def close_meanwhile(received, _):
        oss.close()
        return kit.stored(received)

    server.reply(close_meanwhile)
    assert oss.upload_part(*PART, body(b"x")).size == 1
    assert oss._transport._idle == []


def test_a_handle_with_request_options_shares_connections_and_ends_with_its_backend(server, oss, body):
    handle = oss.with_request_options(ObjectOptions(request_payer="requester"))
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


def test_a_pickled_backend_sends_by_connections_of_its_own(server, connect, body):
    backend = connect(clock=time.time, credentials=Credentials("id", "secret", "token"))
    backend.upload_part(*PART, body(b"x"))
    limited = backend.with_request_options(ObjectOptions(traffic_limit=819200))
    with pickle.loads(pickle.dumps(backend)) as plain, pickle.loads(pickle.dumps(limited)) as bound:
        plain.upload_part(*PART, body(b"y"))
        bound.upload_part(*PART, body(b"z"))
    assert [request.connection for request in server.requests] == [1, 2, 2]
    assert [request.header("x-oss-traffic-limit") for request in server.requests] == [None, None, "819200"]
    assert {request.header("x-oss-security-token") for request in server.requests} == {"token"}
    assert repr(backend) == repr(plain).replace(", closed", "")


def test_copies_of_a_backend_share_connections_though_each_is_closed(server, connect, body):
    backend = connect(clock=time.time)
    for _ in range(3):
        with pickle.loads(pickle.dumps(backend)) as copy:
            copy.upload_part(*PART, body(b"x"))
        with pytest.raises(BackendClosed):
            copy.head_object("key")
    again = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(backend))))
    again.upload_part(*PART, body(b"x"))
    other = pickle.loads(pickle.dumps(connect(clock=time.time)))
    other.upload_part(*PART, body(b"x"))
    assert [request.connection for request in server.requests] == [1, 1, 1, 1, 2]


def test_a_backend_that_nobody_closed_leaves_no_connection_open(server, connect, body):
    backend = OSSBackend(
        "examplebucket", endpoint=server.endpoint, region="cn-hangzhou", credentials=Credentials("id", "secret")
    )
    backend.upload_part(*PART, body(b"x"))
    idle = backend._transport._idle
    connection = idle[0][0]
    del backend
    gc.collect()
    assert (idle, connection.sock) == ([], None)


@pytest.mark.parametrize("settings", [{"credentials": lambda: None, "clock": time.time}, {"clock": lambda: 0.0}])
def test_a_backend_that_can_not_be_pickled_says_why(connect, settings):
    with pytest.raises(TypeError, match=r"can't be pickled, since its (credentials|clock) can't be"):
        pickle.dumps(connect(**settings))


def test_a_process_of_another_number_leaves_the_connections_of_its_parent_alone(server, oss, body, monkeypatch):
    """A fork, played: what a child finds is the same objects under another process id."""
    oss.upload_part(*PART, body(b"parent"))
    connection = oss._transport._idle[0][0]
    monkeypatch.setattr(transport.os, "getpid", lambda: -1)
    for _ in range(2):
        oss.upload_part(*PART, body(b"child"))
    assert connection.sock is None
    assert [request.connection for request in server.requests] == [1, 2, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_makes_connections_of_its_own(server, oss, body):
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


def test_a_certificate_of_nobody_we_know_is_refused_for_good(tls_server, connect, body):
    with pytest.raises(ConnectionFailed, match=r"does not verify.*ca_bundle=") as raised:
        connect(endpoint=tls_server.endpoint).upload_part(*PART, body(b"x"))
    assert not raised.value.retryable
    assert tls_server.requests == []


def test_a_certificate_whose_authority_is_named_is_accepted(tls_server, connect, certificate, body):
    backend = connect(endpoint=tls_server.endpoint, ca_bundle=str(certificate[0]))
    data = os.urandom(3_000_000)
    assert [backend.upload_part(*PART, body(data, 2_000_000)).size for _ in range(2)] == [len(data)] * 2
    assert [(request.body == data, request.connection) for request in tls_server.requests] == [(True, 1), (True, 1)]


def test_a_tls_connection_that_the_service_closed_is_noticed(tls_server, connect, certificate, body, kit):
    backend = connect(endpoint=tls_server.endpoint, ca_bundle=str(certificate[0]))
    backend.upload_part(*PART, body(b"x"))
    tls_server.drop_connections()
    tls_server.reply(kit.initiated())
    assert backend.initiate_upload("key", ObjectOptions()) == "UPLOADID"
    assert [request.connection for request in tls_server.requests] == [1, 2]


def test_parts_are_begun_over_tls_too(tls_server, connect, certificate, body):
    backend = connect(endpoint=tls_server.endpoint, ca_bundle=str(certificate[0]))
    first, second = begun(backend, body, 1, 2)
    assert [second().part_number, first().part_number] == [2, 1]
    assert {request.body for request in tls_server.requests} == {b"\x01" * 5000, b"\x02" * 5000}


def test_authorities_may_be_a_directory(tls_server, connect, certificate, tmp_path, body):
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


def test_a_server_that_speaks_no_tls(server, connect, body):
    endpoint = server.endpoint.replace("http:", "https:")
    with pytest.raises(ConnectionFailed, match="no connection to https"):
        connect(endpoint=endpoint, connect_timeout=0.3).upload_part(*PART, body(b"x"))


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_a_bundle_that_is_none_is_an_error_at_once(connect, tmp_path, content):
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"the certificates in .*bundle.pem can't be used"):
        connect(endpoint="https://127.0.0.1:1", ca_bundle=str(bundle))


# --- proxies ---------------------------------------------------------------------------------------------------------


class Tunnel:
    """A proxy that connects whoever asks."""

    def __init__(self, status: str = "200 OK") -> None:
        self.status = status
        self.asked: list[str] = []
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
            self.asked.append(head.decode())
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
    assert tunnel.asked[0].startswith(f"CONNECT 127.0.0.1:{tls_server.port} HTTP/1.")
    assert "Proxy-Authorization: Basic dXNlcjpwQHNz" in tunnel.asked[0]
    assert tls_server.requests[0].body == b"x" * 5000
    assert tls_server.requests[0].target.startswith("/examplebucket/key?")
    assert tls_server.requests[0].header("proxy-authorization") is None


def test_a_proxy_that_refuses_is_named(tls_server, connect, certificate, body):
    with contextlib.closing(Tunnel("407 Proxy Authentication Required")) as tunnel:
        backend = connect(
            endpoint=tls_server.endpoint, ca_bundle=str(certificate[0]), proxy=f"http://127.0.0.1:{tunnel.port}"
        )
        with pytest.raises(ConnectionFailed, match=f"by way of the proxy 127.0.0.1:{tunnel.port}: .*407"):
            backend.upload_part(*PART, body(b"x"))


def test_http_is_handed_to_the_proxy_whole(server, connect, body):
    """The scripted server plays the proxy; the host that is asked for need not exist."""
    backend = connect(endpoint="http://oss.example.com", proxy=f"http://user:pass@127.0.0.1:{server.port}")
    backend.upload_part("a/../b", "ID", 1, body(b"x"))
    request = server.requests[0]
    assert request.target == "http://examplebucket.oss.example.com/a/../b?partNumber=1&uploadId=ID"
    assert request.header("host") == "examplebucket.oss.example.com"
    assert request.header("proxy-authorization") == "Basic dXNlcjpwYXNz"


@pytest.mark.parametrize(
    "url", ["hunter2", "socks5://hunter2@h:1", "http://", "http://u:hunter2@h:x", "http://h/hunter2"]
)
def test_what_can_be_no_proxy_is_refused_without_being_shown(url):
    with pytest.raises(InvalidInput, match="a proxy is given as") as raised:
        Proxy.parse(url)
    assert "hunter2" not in str(raised.value)


def test_no_password_of_a_proxy_is_in_a_repr(connect):
    backend = connect(proxy="http://user:hunter2@127.0.0.1:1")
    assert "hunter2" not in repr(backend) + repr(Proxy.parse("http://user:hunter2@127.0.0.1:1"))


def test_a_proxy_that_asks_for_a_password_is_final_and_says_where_to_give_one(tls_server, connect, certificate, body):
    with contextlib.closing(Tunnel("407 Proxy Authentication Required")) as tunnel:
        backend = connect(
            endpoint=tls_server.endpoint,
            ca_bundle=str(certificate[0]),
            proxy=f"http://u:hunter2@127.0.0.1:{tunnel.port}",
        )
        with pytest.raises(ConnectionFailed, match=r"407\); give proxy=http://user:password@host:port") as raised:
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
def test_a_proxy_that_opens_no_tunnel_is_final_unless_the_trouble_is_its_own(connect, body, status, transient):
    with contextlib.closing(Tunnel(f"{status} No")) as tunnel:
        backend = connect(endpoint="https://oss.example.com", proxy=f"http://127.0.0.1:{tunnel.port}")
        with pytest.raises(ConnectionFailed, match=f"the proxy answered {status}") as raised:
            backend.upload_part(*PART, body(b"x"))
    assert (raised.value.retryable, raised.value.status) == (transient, status)


def test_a_proxy_for_http_that_asks_for_a_password_is_final_and_shows_none(server, connect, body, kit):
    backend = connect(endpoint="http://oss.example.com", proxy=f"http://user:hunter2pass@127.0.0.1:{server.port}")
    server.reply(kit.answer(407, "<html>hunter2pass dXNlcjpodW50ZXIycGFzcw==</html>"))
    with pytest.raises(ConnectionFailed, match=r"give proxy=http://user:password@host:port") as raised:
        backend.upload_part(*PART, body(b"x"))
    assert not raised.value.retryable
    for secret in ("hunter2pass", "dXNlcjpodW50ZXIycGFzcw"):
        assert secret not in repr((raised.value.args, vars(raised.value)))


def test_a_proxy_that_speaks_something_else_is_final(tls_server, connect, certificate, body):
    with serving(lambda sock: sock.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")) as port:
        backend = connect(endpoint=tls_server.endpoint, ca_bundle=str(certificate[0]), proxy=f"http://127.0.0.1:{port}")
        with pytest.raises(ConnectionFailed, match="which is not HTTP") as raised:
            backend.upload_part(*PART, body(b"x"))
    assert not raised.value.retryable


def test_a_proxy_whose_answer_drips_is_given_up_on(tls_server, connect, certificate, body, hand):
    with serving(dripping(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 10_000, hand)) as port:
        backend = connect(
            endpoint=tls_server.endpoint,
            ca_bundle=str(certificate[0]),
            proxy=f"http://127.0.0.1:{port}",
            connect_timeout=20.0,
        )
        with pytest.raises(ConnectionFailed, match="took too long"):
            backend.upload_part(*PART, body(b"x"))


def test_the_environment_names_a_proxy_and_an_empty_setting_none(server, connect, body, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    connect(endpoint="http://oss.example.com").upload_part(*PART, body(b"x"))
    assert server.requests[0].target.startswith("http://examplebucket.oss.example.com/key")

    connect().upload_part(*PART, body(b"x"))
    assert server.requests[1].target.startswith("/examplebucket/key"), "this machine is reached without it"

    monkeypatch.setenv("http_proxy", "socks5://hunter2@127.0.0.1:1")
    with pytest.raises(InvalidInput, match="http_proxy can't be used") as raised:
        connect(endpoint="http://oss.example.com")
    assert "hunter2" not in str(raised.value)
    assert connect(endpoint="http://oss.example.com", proxy="")._transport.proxy is None


def test_a_refusal_names_the_variable_that_named_the_proxy(connect, body, monkeypatch):
    with contextlib.closing(Tunnel("407 No")) as tunnel:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{tunnel.port}")
        for name in ("https_proxy", "no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(ConnectionFailed, match="it was named by HTTPS_PROXY"):
            connect(endpoint="https://oss.example.com").upload_part(*PART, body(b"x"))
    assert tunnel.asked[0].startswith("CONNECT examplebucket.oss.example.com:443 HTTP/1.1\r\nHost: examplebucket.")


# --- answers that take too long --------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(talk):
    """A server that does as `talk` does with its first connection, whatever comes in."""
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


def dripping(data, hand):
    """Sends this a few bytes at a time, with nine seconds between them by the clock of the test."""

    def talk(connection):
        for begin in range(0, len(data), 3):
            connection.sendall(data[begin : begin + 3])
            time.sleep(0.002)
            hand.at += 9

    return talk


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"a: b\r\n" * 5000,
        OK + b"Content-Length: 100000\r\n\r\n" + b"x" * 50_000,
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 5000,
        OK + b"\r\n" + b"x" * 50_000,
        b"HTTP/1.1 100 Continue\r\n" + b"a: b\r\n" * 5000,
    ],
)
def test_an_answer_that_drips_is_given_up_on_though_it_is_never_silent(connect, hand, answer):
    with serving(dripping(answer, hand)) as port:
        backend = connect(endpoint=f"http://127.0.0.1:{port}", read_timeout=10.0)
        with pytest.raises(
            ConnectionFailed, match=r"did not end its answer within 40 seconds; .*may have taken"
        ) as raised:
            backend.initiate_upload("key", ObjectOptions())
        took = hand.at - 1000
    assert raised.value.retryable
    assert took < len(answer), "it was received to its end"


def test_an_answer_may_take_longer_than_a_silence_in_all(server, connect, kit, hand):
    answer = kit.initiated()

    def slowly(_, sock):
        for begin in range(0, len(answer), 60):
            time.sleep(0.005)
            hand.at += 9 if hand.at < 1030 else 0
            sock.sendall(answer[begin : begin + 60])

    server.reply(slowly)
    assert connect(read_timeout=10.0).initiate_upload("key", ObjectOptions()) == "UPLOADID"
    assert hand.at > 1010


def test_an_answer_may_take_four_times_as_long_as_a_silence(connect):
    assert connect(read_timeout=60.0)._transport._answer_timeout == 240.0


def test_a_tls_record_that_drips_is_given_up_on(kit, connect, certificate, hand):
    """It is received whole before there is anything to be read of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    scripted = kit.ScriptedServer(context)

    def drip(_, sock):
        # The head of a record of 16,000 bytes, and then its content, byte by byte.
        raw = socket.socket(fileno=os.dup(sock.fileno()))
        with raw, contextlib.suppress(OSError):
            raw.sendall(b"\x17\x03\x03\x3e\x80")
            for _ in range(2000):
                raw.sendall(b"x")
                time.sleep(0.002)
                hand.at += 9

    scripted.reply(drip)
    with contextlib.closing(scripted):
        backend = connect(endpoint=scripted.endpoint, ca_bundle=str(certificate[0]), read_timeout=10.0)
        with pytest.raises(ConnectionFailed, match=r"did not end its answer within 40 seconds"):
            backend.head_object("key")


def test_a_tls_handshake_that_drips_is_given_up_on(connect, hand):
    record = b"\x16\x03\x03\x3e\x80" + b"\x02\x00\x3e\x7c" + b"\x03" * 16_000
    with serving(dripping(record, hand)) as port:
        backend = connect(endpoint=f"https://127.0.0.1:{port}", connect_timeout=20.0)
        with pytest.raises(ConnectionFailed, match="took too long") as raised:
            backend.head_object("key")
    assert raised.value.retryable


# --- certain failures ------------------------------------------------------------------------------------------------


def test_https_to_a_port_that_speaks_plain_http_is_final(connect, body):
    with serving(lambda sock: sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")) as port:
        backend = connect(endpoint=f"https://127.0.0.1:{port}")
        with pytest.raises(ConnectionFailed, match=r"no connection to https.*check the scheme and the port") as raised:
            backend.upload_part(*PART, body(b"x"))
    assert not raised.value.retryable


def test_https_to_the_server_of_the_test_kit_by_http_is_final(connect, oss_server, body):
    with pytest.raises(ConnectionFailed, match="check the scheme and the port") as raised:
        connect(endpoint=oss_server.endpoint.replace("http:", "https:")).upload_part(*PART, body(b"x"))
    assert not raised.value.retryable


@pytest.mark.parametrize("alert", [b"\x15\x03\x01\x00\x02\x02\x28", b"\x15\x03\x03\x00\x02\x02\x46"])
def test_http_to_a_port_that_speaks_tls_is_final_and_says_so(connect, body, alert):
    hint = "TLS is spoken there: write https:// in the endpoint"
    with serving(lambda sock: sock.sendall(alert)) as port, pytest.raises(ConnectionFailed, match=hint) as raised:
        connect(endpoint=f"http://127.0.0.1:{port}").upload_part(*PART, body(b"x"))
    assert not raised.value.retryable


def test_another_protocol_is_final_without_waiting_for_more_of_it(connect, body):
    talk, hint = (
        (lambda sock: sock.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")),
        "which is not HTTP; check the scheme and the port",
    )
    with serving(talk) as port, pytest.raises(ConnectionFailed, match=hint) as raised:
        connect(endpoint=f"http://127.0.0.1:{port}", read_timeout=30.0).upload_part(*PART, body(b"x"))
    assert not raised.value.retryable


def test_another_protocol_is_final_though_it_takes_no_request(connect, body):
    """A part is larger than what the connection takes, so that sending it ends first."""
    ended = threading.Event()

    def talk(sock):
        sock.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
        ended.wait(10)

    with serving(talk) as port:
        backend = connect(endpoint=f"http://127.0.0.1:{port}", read_timeout=0.1)
        with pytest.raises(ConnectionFailed, match="which is not HTTP; check") as raised:
            backend.upload_part(*PART, body(b"x" * 30_000_000, 1_000_000))
        ended.set()
    assert not raised.value.retryable


def test_nonsense_on_a_connection_that_was_in_order_before_is_transient(server, oss, body):
    oss.upload_part(*PART, body(b"x"))
    server.reply(b"nonsense\r\n\r\n")
    with pytest.raises(ConnectionFailed, match="was lost") as raised:
        oss.upload_part(*PART, body(b"x"))
    assert raised.value.retryable


def test_a_server_of_another_version_of_tls_is_final(kit, connect, certificate, body):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    scripted = kit.ScriptedServer(context)
    with contextlib.closing(scripted):
        backend = connect(endpoint=scripted.endpoint, ca_bundle=str(certificate[0]))
        backend._transport._context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ConnectionFailed, match="no connection to https") as raised:
            backend.upload_part(*PART, body(b"x"))
    assert not raised.value.retryable


@pytest.mark.parametrize(("reason", "certain"), [("TLSV13_ALERT_CERTIFICATE_REQUIRED", True), ("BAD_RECORD", False)])
def test_a_server_that_wants_a_certificate_of_ours_is_final(oss, body, monkeypatch, reason, certain):
    """It says so where its first answer would be."""
    refusal = ssl.SSLError(1, "alert")
    refusal.reason = reason

    def refused(_, __):
        raise refusal

    monkeypatch.setattr(transport, "read_answer", refused)
    with pytest.raises(ConnectionFailed, match="was lost") as raised:
        oss.upload_part(*PART, body(b"x"))
    assert raised.value.retryable is not certain


@pytest.mark.parametrize(
    "talk", [lambda sock: sock.shutdown(socket.SHUT_RDWR), lambda sock: sock.sendall(b"\x15\x03\x03\x00\x02\x02\x50")]
)
def test_a_handshake_that_breaks_or_a_server_in_trouble_is_transient(connect, body, talk):
    with serving(talk) as port, pytest.raises(ConnectionFailed) as raised:
        connect(endpoint=f"https://127.0.0.1:{port}").upload_part(*PART, body(b"x"))
    assert raised.value.retryable


def test_a_name_that_can_not_be_one_is_final(connect):
    with pytest.raises(ConnectionFailed) as raised:
        connect(endpoint="http://a..b.example.com", addressing_style="cname").head_object("key")
    assert not raised.value.retryable


# --- bodies of what fails --------------------------------------------------------------------------------------------


def test_a_body_is_closed_when_the_connection_breaks_in_the_middle_of_it_though_the_error_is_kept(
    oss, body, monkeypatch
):
    """Its file would stay open for as long as the error is kept, which may be for hours."""

    def breaking(sock, _, pieces):
        next(iter(pieces))
        sock.shutdown(socket.SHUT_RDWR)
        return BrokenPipeError("gone")

    monkeypatch.setattr(transport, "_send", breaking)
    sent = body(b"x" * 20_000)
    wait = oss.begin_part(*PART, sent)
    assert sent.closed
    with pytest.raises(ConnectionFailed, match="broke while the request was sent"):
        wait()


def test_a_body_is_closed_when_sending_fails_though_the_traceback_is_kept(oss, body, monkeypatch):
    def failing(_, __, pieces):
        held = iter(pieces)
        next(held)
        raise KeyboardInterrupt

    monkeypatch.setattr(transport, "_send", failing)
    sent = body(b"x" * 20_000)
    with pytest.raises(KeyboardInterrupt) as raised:
        oss.upload_part(*PART, sent)
    assert raised.value.__traceback__ is not None
    assert sent.closed
