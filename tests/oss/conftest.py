"""Backends of OSS that connect to a scripted HTTP server on the loopback, which shares no code with them."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastcrc.crc64 import xz
from shared import scripted
from shared.scripted import Bytes, Received

from partwise.backends.oss import Credentials, OSSBackend

DATA = Path(__file__).parents[1] / "data" / "oss"


class ScriptedServer(scripted.ScriptedServer):
    """Stores everything once the replies are used up."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(stored, context)


REPLIES = scripted.Replies(
    "AliyunOSS", {"x-oss-request-id": "67CD4A3A0000000000000001"}, host_id="examplebucket.example.com"
)


def stored(received: Received, _: socket.socket | None = None) -> bytes:
    """The response of OSS to a part or an object that it stored."""
    md5 = hashlib.md5(received.body).digest()
    return REPLIES.response(
        ETag=f'"{md5.hex().upper()}"',
        x_oss_hash_crc64ecma=str(xz(received.body, 0)),
        Content_MD5=base64.b64encode(md5).decode(),
    )


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server on plain HTTP."""
    scripted = ScriptedServer()
    yield scripted
    scripted.close()


@pytest.fixture
def connect(server: ScriptedServer) -> Iterator[Callable[..., OSSBackend]]:
    """A function that opens backends on the server; they are closed at the end."""
    credentials = Credentials("testid0000EXAMPLE", "testsecret0000EXAMPLE")
    with scripted.opened(OSSBackend, server, region="cn-hangzhou", credentials=credentials) as make:
        yield make


@pytest.fixture
def oss(connect: Callable[..., OSSBackend]) -> OSSBackend:
    """A backend on the server."""
    return connect()


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


class Kit:
    """The helpers of this file, which test modules can't import."""

    NOW = scripted.NOW
    DATA = DATA
    ScriptedServer = ScriptedServer
    response = staticmethod(REPLIES.response)
    error = staticmethod(REPLIES.error)
    stored = staticmethod(stored)
    initiated = staticmethod(REPLIES.initiated)
    hang_up = staticmethod(scripted.hang_up)
    make_certificate = staticmethod(scripted.make_certificate)
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
    return scripted.make_certificate(tmp_path_factory.mktemp("tls"), "IP:127.0.0.1")
