"""TLS over a socket: everything is encrypted, the server is verified, and the methods behave like those of a socket."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import ssl
import threading
from queue import SimpleQueue

import pytest

from partwise.backends._http.connecting import Dialer
from partwise.backends._http.connections import Endpoint, open_connection
from partwise.backends._http.timeouts import TIMEOUT_ERRORS, set_timeout
from partwise.backends._http.tls_pump import TLSSocket, lazy_tls_context, tls_context
from partwise.errors import InvalidInput

pytestmark = pytest.mark.filterwarnings("error")


class Server:
    """
    The other end of a connection, in a thread; the result of its script is in `outcome`.

    Args:
        certificate: its certificate and key.
        talk: its script, called with its TLS socket, or with the plain socket without a certificate.
    """

    def __init__(self, certificate, talk):
        self._certificate = certificate
        self._talk = talk
        self.outcome = SimpleQueue()
        self.ours, self._theirs = socket.socketpair()
        self.ours.settimeout(30)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        sock = self._theirs
        try:
            if self._certificate is not None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(*self._certificate)
                sock = context.wrap_socket(sock, server_side=True)
            with sock:
                self.outcome.put(self._talk(sock))
        except (OSError, AssertionError) as error:
            self._theirs.close()
            self.outcome.put(error)

    def close(self):
        self.ours.close()
        self._thread.join(30)
        assert not self._thread.is_alive()
        with contextlib.suppress(OSError):
            self._theirs.close()


@pytest.fixture
def serve(certificate):
    """A function that starts a server with a script."""
    made = []

    def make(talk, certificate=certificate):
        made.append(Server(certificate, talk))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def trusting(certificate):
    """A context that trusts the certificate of the server."""
    return tls_context(str(certificate[0]))


def read_all(sock, size):
    data = b""
    while len(data) < size:
        piece = sock.recv(65536)
        assert piece, "the connection ended"
        data += piece
    return data


@pytest.mark.usefixtures("fast_collection")
def test_with_many_connections_only_8_encrypt_large_batches(serve, trusting):
    """Each socket keeps the memory of its largest batch, also while it is idle."""
    data = os.urandom(1 << 20)

    def largest_flush():
        server = serve(lambda sock: read_all(sock, len(data)))
        counted = CountingSocket(server.ours)
        sock = TLSSocket(counted, trusting, "127.0.0.1")
        sock.sendall(data)
        assert server.outcome.get(timeout=30) == data
        return sock, max(counted.sizes)

    gc.collect()
    opened = [largest_flush() for _ in range(10)]
    assert [size > 1 << 18 for _, size in opened] == [True] * 8 + [False] * 2
    assert opened[-1][1] < 40 * 1024

    opened[0][0].close()
    assert largest_flush()[1] > 1 << 18


class CountingSocket:
    """Records the size of each send."""

    def __init__(self, sock):
        self._sock = sock
        self.sizes = []

    def __getattr__(self, name):
        return getattr(self._sock, name)

    def sendall(self, data):
        self.sizes.append(len(data))
        self._sock.sendall(data)


@pytest.mark.parametrize("sizes", [[1], [0, 5, 0], [100, 16_384], [3_000_000], [700, 1 << 19, 1, (1 << 20) + 1]])
def test_data_arrives_in_both_directions(serve, trusting, sizes):
    buffers = [os.urandom(size) for size in sizes]

    def echo(sock):
        data = read_all(sock, sum(sizes))
        sock.sendall(data)
        return data

    server = serve(echo)
    tls = TLSSocket(server.ours, trusting, "127.0.0.1")

    assert tls.sendmsg([memoryview(buffer) for buffer in buffers]) == sum(sizes)
    assert read_all(tls, sum(sizes)) == b"".join(buffers) == server.outcome.get(timeout=30)


def test_everything_is_encrypted(serve, trusting):
    """The wire is recorded; and the methods of a socket that would send plain data do not exist."""
    secret, wire = b"a secret of thirty-two characters", []

    class Tapped:
        def __init__(self, sock):
            self._sock = sock

        def gettimeout(self):
            return 30.0

        def sendall(self, data):
            wire.append(bytes(data))
            self._sock.sendall(data)

        def recv(self, size):
            return self._sock.recv(size)

    server = serve(lambda sock: read_all(sock, 3 * len(secret)))
    tls = TLSSocket(Tapped(server.ours), trusting, "127.0.0.1")
    tls.sendall(secret)
    tls.sendmsg([secret, memoryview(secret)])

    assert server.outcome.get(timeout=30) == 3 * secret
    assert len(wire) == 4, "two steps of the handshake, and one for each call that sends"
    assert not any(secret[:8] in piece for piece in wire)
    assert not any(hasattr(tls, name) for name in ("send", "sendto", "sendfile", "makefile", "recv_into", "dup"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1."])
def test_a_certificate_for_the_host_is_accepted(serve, trusting, host):
    TLSSocket(serve(lambda sock: sock.recv(1)).ours, trusting, host).close()


@pytest.mark.parametrize("host", ["127.0.0.2", "localhost", "examplebucket.oss-cn-hangzhou.aliyuncs.com"])
def test_a_certificate_for_another_host_is_refused_with_an_alert(serve, trusting, host):
    server = serve(lambda sock: sock.recv(1))
    with pytest.raises(ssl.SSLCertVerificationError):
        TLSSocket(server.ours, trusting, host)

    assert "alert" in str(server.outcome.get(timeout=30)).lower()


def test_a_certificate_of_an_unknown_authority_is_refused(serve):
    with pytest.raises(ssl.SSLCertVerificationError):
        TLSSocket(serve(lambda sock: sock.recv(1)).ours, tls_context(None), "127.0.0.1")


def test_certificates_of_the_system_that_can_not_be_read_are_named(monkeypatch):
    """As on Windows, if one of them is damaged. Another endpoint would not help."""

    def damaged():
        raise ssl.SSLError(1, "[ASN1: NOT_ENOUGH_DATA] not enough data")

    monkeypatch.setattr(ssl, "create_default_context", damaged)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        endpoint = Endpoint("https", "127.0.0.1", port, f"127.0.0.1:{port}", 5.0, 5.0, lazy_tls_context(None))
        with pytest.raises(InvalidInput, match=r"the certificates of the system can't be used: .*not enough") as caught:
            open_connection(endpoint, Dialer())

    assert "ca_bundle" in str(caught.value)


def test_ipv6_addresses_match_with_and_without_brackets(serve, make_certificate, tmp_path):
    certificate = make_certificate(tmp_path, "IP:::1")
    for host in ("::1", "[::1]"):
        server = serve(lambda sock: sock.recv(1), certificate)
        TLSSocket(server.ours, tls_context(str(certificate[0])), host).close()


def test_http_1_1_is_negotiated(serve, trusting, certificate):
    """Some servers choose HTTP/2 otherwise."""
    seen = SimpleQueue()

    def hello(sock):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        context.set_alpn_protocols(["h2", "http/1.1"])
        with context.wrap_socket(sock, server_side=True) as tls:
            seen.put(tls.selected_alpn_protocol())
            tls.recv(1)

    TLSSocket(serve(hello, None).ours, trusting, "127.0.0.1").close()

    assert seen.get(timeout=30) == "http/1.1"


@pytest.mark.parametrize("announced", [True, False], ids=["with close_notify", "without"])
def test_the_end_of_a_connection_is_the_end_of_the_data(serve, trusting, announced):
    def farewell(sock):
        sock.sendall(b"the last words")
        if announced:
            with contextlib.suppress(OSError):
                sock.unwrap()

    tls = TLSSocket(serve(farewell).ours, trusting, "127.0.0.1")

    assert read_all(tls, 14) == b"the last words"
    assert [tls.recv(100), tls.recv(100)] == [b"", b""]


def test_modified_data_is_an_error(serve, trusting):
    def respond(sock):
        sock.sendall(b"a response")
        return sock.recv(1)

    class Tampering:
        def __init__(self, sock):
            self._sock = sock
            self.after = False

        def gettimeout(self):
            return 30.0

        def sendall(self, data):
            self._sock.sendall(data)

        def recv(self, size):
            data = bytearray(self._sock.recv(size))
            if self.after:
                data[-1] ^= 1
            return bytes(data)

    sock = Tampering(serve(respond).ours)
    tls = TLSSocket(sock, trusting, "127.0.0.1")
    sock.after = True

    with pytest.raises(ssl.SSLError):
        tls.recv(100)


@pytest.mark.parametrize("response", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_server_that_does_not_speak_tls_is_an_error(serve, trusting, response):
    server = serve(lambda sock: response and sock.sendall(response), None)
    with pytest.raises(OSError, match=r"EOF|WRONG_VERSION|reset|Broken"):
        TLSSocket(server.ours, trusting, "127.0.0.1")


def test_a_handshake_times_out(serve, trusting):
    quiet = threading.Event()
    server = serve(lambda sock: quiet.wait(30), None)
    server.ours.settimeout(0.05)
    with pytest.raises(TimeoutError):
        TLSSocket(server.ours, trusting, "127.0.0.1")
    quiet.set()


def test_timeouts_apply_as_to_any_socket(serve, trusting):
    quiet = threading.Event()
    tls = TLSSocket(serve(lambda sock: quiet.wait(30)).ours, trusting, "127.0.0.1")
    set_timeout(tls, 0.05)

    with pytest.raises(TIMEOUT_ERRORS):
        tls.recv(1)
    with pytest.raises(TIMEOUT_ERRORS):
        tls.sendall(bytes(50_000_000))
    quiet.set()
