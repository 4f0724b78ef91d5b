"""A scripted HTTP server on the loopback, and backends that connect to it. The server shares no code with them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from attrs import define, field
from fastcrc.crc64 import xz

from partwise.backends.oss import Credentials, OSSBackend

DATA = Path(__file__).parents[1] / "data" / "oss"

#: The clock of all vectors and recordings: 2025-03-09T08:07:06Z.
NOW = 1741507626.0


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

    def oss_headers(self) -> dict[str, str]:
        """The x-oss-* headers, without those that every signed request has."""
        signing = {"x-oss-date", "x-oss-content-sha256", "x-oss-security-token"}
        return {n.lower(): v for n, v in self.headers if n.lower().startswith("x-oss-") and n.lower() not in signing}


Reply = bytes | Callable[[Received, socket.socket], bytes | None]


def make_response(status: int = 200, body: bytes | str = b"", **headers: str) -> bytes:
    """A response as bytes; header names are written with underscores."""
    data = body.encode() if isinstance(body, str) else body
    lines = {"Server": "AliyunOSS", "Date": "Sun, 09 Mar 2025 08:07:06 GMT", "Content-Length": str(len(data))}
    lines["x-oss-request-id"] = "67CD4A3A0000000000000001"
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode() + data


def error(
    status: int, code: str, message: str = "Something.", headers: dict[str, str] | None = None, **more: str
) -> bytes:
    """An error response of OSS."""
    elements = {"Code": code, "Message": message, "RequestId": "REQ1", "HostId": "examplebucket.example.com", **more}
    document = "".join(f"<{name}>{value}</{name}>" for name, value in elements.items())
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{document}</Error>'
    return make_response(status, body, Content_Type="application/xml", **(headers or {}))


def stored(received: Received, _: socket.socket | None = None) -> bytes:
    """The response of OSS to a part or an object that it stored."""
    md5 = hashlib.md5(received.body).digest()
    return make_response(
        ETag=f'"{md5.hex().upper()}"',
        x_oss_hash_crc64ecma=str(xz(received.body, 0)),
        Content_MD5=base64.b64encode(md5).decode(),
    )


def initiated(upload_id: str = "UPLOADID") -> bytes:
    """The response to initiate."""
    return make_response(
        body=f"<InitiateMultipartUploadResult><UploadId>{upload_id}</UploadId></InitiateMultipartUploadResult>"
    )


def hang_up(_: Received, __: socket.socket) -> None:
    """Close the connection without a response."""


class ScriptedServer:
    """Sends the scripted replies in order, and then stores everything."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
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
                    reply = self.replies.pop(0) if self.replies else stored
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


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server on plain HTTP."""
    scripted = ScriptedServer()
    yield scripted
    scripted.close()


@pytest.fixture
def connect(server: ScriptedServer) -> Iterator[Callable[..., OSSBackend]]:
    """A function that opens backends on the server; they are closed at the end."""
    opened: list[OSSBackend] = []

    def make(**settings: Any) -> OSSBackend:
        settings = {
            "endpoint": server.endpoint,
            "region": "cn-hangzhou",
            "credentials": Credentials("testid0000EXAMPLE", "testsecret0000EXAMPLE"),
            "read_timeout": 5.0,
            "clock": lambda: NOW,
            **settings,
        }
        backend = OSSBackend(settings.pop("bucket", "examplebucket"), **settings)
        opened.append(backend)
        return backend

    yield make
    for backend in opened:
        backend.close()


@pytest.fixture
def oss(connect: Callable[..., OSSBackend]) -> OSSBackend:
    """A backend on the server."""
    return connect()


@define
class Bytes:
    """A body with a chunk size, and with a failure at a position."""

    data: bytes
    chunk_size: int = 4096
    claimed: int | None = None
    fails_after: int | None = None
    failure: BaseException | None = None
    checksum: int | None = field(default=None, init=False)
    offset: int = 0
    is_last: bool = True
    closed: bool = field(default=False, init=False)

    def __len__(self) -> int:
        return len(self.data) if self.claimed is None else self.claimed

    def chunks(self, *, counted: bool = True) -> Iterator[memoryview]:
        self.checksum = None
        try:
            for start in range(0, len(self.data), self.chunk_size):
                if self.fails_after is not None and start >= self.fails_after:
                    assert self.failure is not None
                    raise self.failure
                # A new buffer per chunk; real bodies reuse one.
                yield memoryview(bytearray(self.data[start : start + self.chunk_size]))
            self.checksum = xz(self.data, 0)
        finally:
            self.closed = True


@pytest.fixture
def body() -> type[Bytes]:
    """The class of bodies."""
    return Bytes


def generated(recipe: dict[str, Any]) -> bytes:
    """The bytes of a generator in the vectors, as `byte_generators` in crc64.json describes them."""
    match recipe["kind"]:
        case "hex":
            return bytes.fromhex(recipe["hex"])
        case "ascii" | "utf8":
            return recipe["text"].encode()
        case "repeat":
            return bytes.fromhex(recipe["unit_hex"]) * recipe["count"]
        case "counter":
            return bytes((recipe["start"] + i * recipe["step"]) % 256 for i in range(recipe["length"]))
        case "sha256-stream":
            blocks = range(-(-recipe["length"] // 32))
            seed = recipe["seed"].encode()
            data = b"".join(hashlib.sha256(seed + block.to_bytes(8, "big")).digest() for block in blocks)
            return data[: recipe["length"]]
        case "concat":
            return b"".join(generated(part) for part in recipe["parts"])
        case other:
            raise AssertionError(f"no generator {other}")


def recording(name: str) -> dict[str, Any]:
    """A recorded exchange of an official client."""
    return json.loads((DATA / "wire" / f"{name}.http.json").read_text(encoding="utf-8"))


def recorded_response(response: dict[str, Any]) -> bytes:
    """The bytes of a recorded response."""
    data = response.get("body_text", "").encode()
    head = "".join(f"{name}: {value}\r\n" for name, value in response["headers"])
    return f"HTTP/1.1 {response['status']} Recorded\r\n{head}\r\n".encode() + data


def make_certificate(directory, name: str):
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=partwise test"]
    command += ["-addext", f"subjectAltName={name}", "-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


class Kit:
    """The helpers of this file, which test modules can't import."""

    NOW = NOW
    DATA = DATA
    ScriptedServer = ScriptedServer
    response = staticmethod(make_response)
    error = staticmethod(error)
    stored = staticmethod(stored)
    initiated = staticmethod(initiated)
    hang_up = staticmethod(hang_up)
    make_certificate = staticmethod(make_certificate)
    generated = staticmethod(generated)
    recording = staticmethod(recording)
    recorded_response = staticmethod(recorded_response)


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    """The helpers of this file."""
    return Kit


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1, and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"), "IP:127.0.0.1")
