"""A scripted HTTP server on the loopback, and what else the tests of HTTP backends share."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote

from attrs import define, field

from partwise.backends._bucket_backend import BucketBackend
from partwise.checksums import CRC64_XZ, Checksum


@define
class Received:
    """One request as it was received."""

    connection: int
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    whole: bool

    @property
    def path(self) -> str:
        """The path, decoded once."""
        return unquote(self.target.partition("?")[0])

    @property
    def query(self) -> dict[str, str]:
        """The query, decoded."""
        text = self.target.partition("?")[2]
        pairs = (pair.partition("=") for pair in text.split("&") if pair)
        return {unquote(name): unquote(value) for name, _, value in pairs}

    def header(self, name: str) -> str | None:
        """A header that may occur at most once."""
        found = [value for given, value in self.headers if given.lower() == name.lower()]
        assert len(found) <= 1, f"{name} was sent {len(found)} times"
        return found[0] if found else None

    def service_headers(self, prefix: str) -> dict[str, str]:
        """The headers of the service, without those that every signed request has."""
        signing = {f"{prefix}{name}" for name in ("date", "content-sha256", "security-token")}
        return {n.lower(): v for n, v in self.headers if n.lower().startswith(prefix) and n.lower() not in signing}


#: The clock of all vectors and recordings: 2025-03-09T08:07:06Z.
NOW = 1741507626.0

Reply = bytes | Callable[[Received, socket.socket], bytes | None]


@define(frozen=True)
class Replies:
    """The replies of a service, as bytes."""

    server: str
    ids: Mapping[str, str]  # the headers that identify a request
    host_id: str  # in error documents

    def response(self, status: int = 200, body: bytes | str = b"", **headers: str) -> bytes:
        """A response; header names are written with underscores."""
        data = body.encode() if isinstance(body, str) else body
        lines = {"Server": self.server, "Date": "Sun, 09 Mar 2025 08:07:06 GMT", "Content-Length": str(len(data))}
        lines |= {**self.ids, **{name.replace("_", "-"): value for name, value in headers.items()}}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode() + data

    def error_document(self, code: str, message: str = "Something.", **more: str) -> str:
        """An error document."""
        elements = {"Code": code, "Message": message, "RequestId": "REQ1", "HostId": self.host_id, **more}
        document = "".join(f"<{name}>{value}</{name}>" for name, value in elements.items())
        return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{document}</Error>'

    def error(
        self, status: int, code: str, message: str = "Something.", headers: dict[str, str] | None = None, **more: str
    ) -> bytes:
        """An error response."""
        body = self.error_document(code, message, **more)
        return self.response(status, body, Content_Type="application/xml", **(headers or {}))

    def initiated(self, upload_id: str = "UPLOADID") -> bytes:
        """The response to initiate."""
        document = f"<UploadId>{upload_id}</UploadId>"
        return self.response(body=f"<InitiateMultipartUploadResult>{document}</InitiateMultipartUploadResult>")


def hang_up(_: Received, __: socket.socket) -> None:
    """Close the connection without a response."""


class ScriptedServer:
    """Sends the scripted replies in order, and then the usual one."""

    def __init__(self, usual: Reply, context: ssl.SSLContext | None = None) -> None:
        self._usual = usual
        self.replies: list[Reply] = []
        self.requests: list[Received] = []
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def endpoint(self) -> str:
        return f"{'http' if self._context is None else 'https'}://127.0.0.1:{self.port}"

    def reply(self, *replies: Reply) -> None:
        self.replies += replies

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(5)
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive(), "a connection of the scripted server did not end"

    def drop_connections(self) -> None:
        """Close every open connection, as servers do with idle ones."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                number = self.connections
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection, number), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket, number: int) -> None:
        connection = plain
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(plain, server_side=True)
                self._open.append(connection)  # instead of the plain one, which is detached now
            while (received := self._read(connection, number)) is not None:
                with self._lock:
                    self.requests.append(received)
                    if not received.whole:
                        return
                    reply = self.replies.pop(0) if self.replies else self._usual
                data = reply if isinstance(reply, bytes) else reply(received, connection)
                if data is None:
                    return
                connection.sendall(data)
                if b"connection: close" in data.partition(b"\r\n\r\n")[0].lower():
                    return
        except OSError:
            pass
        finally:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
            plain.close()

    def _read(self, connection: socket.socket, number: int) -> Received | None:
        buffer = b""
        while b"\r\n\r\n" not in buffer:
            more = connection.recv(65536)
            if not more:
                return None
            buffer += more
        head, _, body = buffer.partition(b"\r\n\r\n")
        request_line, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = request_line.split(" ")
        headers = [(line.partition(":")[0], line.partition(":")[2].strip()) for line in lines]
        length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
        while len(body) < length:
            more = connection.recv(65536)
            if not more:
                return Received(number, method, target, headers, body, whole=False)
            body += more
        return Received(number, method, target, headers, body, whole=True)


@define
class Bytes:
    """A body with a chunk size, and with a failure at a position."""

    data: bytes
    chunk_size: int = 4096
    claimed: int | None = None
    fails_after: int | None = None
    failure: BaseException | None = None
    algorithm: Checksum = CRC64_XZ
    checksum: int | None = field(default=None, init=False)
    readings: list[bool] = field(factory=list, init=False)  # for each reading, whether it was counted
    offset: int = 0
    is_last: bool = True
    closed: bool = field(default=False, init=False)

    def __len__(self) -> int:
        return len(self.data) if self.claimed is None else self.claimed

    def chunks(self, *, counted: bool = True) -> Iterator[memoryview]:
        self.checksum = None
        self.readings.append(counted)
        try:
            for start in range(0, len(self.data), self.chunk_size):
                if self.fails_after is not None and start >= self.fails_after:
                    assert self.failure is not None
                    raise self.failure
                # A new buffer per chunk; real bodies reuse one.
                yield memoryview(bytearray(self.data[start : start + self.chunk_size]))
            self.checksum = self.algorithm.compute(self.data)
        finally:
            self.closed = True


def make_certificate(directory, name: str):
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=partwise test"]
    command += ["-addext", f"subjectAltName={name}", "-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


_Backend = TypeVar("_Backend", bound=BucketBackend)


@contextlib.contextmanager
def opened(kind: type[_Backend], server: ScriptedServer, **usual: Any) -> Iterator[Callable[..., _Backend]]:
    """Yield a function that opens backends on a server, with the usual settings; they are closed at the end."""
    backends: list[_Backend] = []

    def make(**settings: Any) -> _Backend:
        settings = {"endpoint": server.endpoint, "read_timeout": 5.0, "clock": lambda: NOW, **usual, **settings}
        backend = kind(settings.pop("bucket", "examplebucket"), **settings)
        backends.append(backend)
        return backend

    yield make
    for backend in backends:
        backend.close()
