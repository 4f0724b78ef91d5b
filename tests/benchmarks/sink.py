"""
A storage that discards the parts, against which upload clients are measured. Needs Linux.

It implements what the clients use of the protocols of OSS and S3, without state: every response is derived from the
request and from a table of checksums of the one file that is uploaded, which is computed before the measurement. So
several processes can serve as one storage, and checksums in responses cost this machine nothing, as with a remote one.
Received bytes are counted, but not verified; without TLS they are not even copied out of the kernel. The tests of the
project verify what clients send.

Each process serves one connection at a time, so that connections do not share an interpreter. There is a process for
each possible connection.

    python sink.py FILE PART_SIZE HOST PORT CONNECTIONS

serves until its standard input is closed.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import socket
import ssl
import sys
import time
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs

from attrs import define
from fastcrc.crc64 import xz

#: The key of the warm-up upload, whose parts are not in the table.
WARM_UP = "warm-up"

UPLOAD_ID = "0123456789ABCDEF0123456789ABCDEF"
_ETAG = "0123456789ABCDEF0123456789ABCDEF"
_DATE = "Thu, 01 Oct 2026 00:00:00 GMT"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_EXPECTS = re.compile(rb"\r\nexpect: *100-continue", re.IGNORECASE)


@define(frozen=True)
class Table:
    """The checksums of a file: of each part, and of the object."""

    size: int
    part_size: int
    parts: tuple[int, ...]
    whole: int

    @classmethod
    def of(cls, path: Path, part_size: int) -> Table:
        """Read the file, which also loads it into the page cache. Parts of another size get no checksums."""
        parts, whole = [], 0
        with path.open("rb") as file:
            while part := file.read(part_size):
                parts.append(xz(part))
                whole = xz(part, whole)
        return cls(path.stat().st_size, part_size, tuple(parts), whole)

    def size_of(self, number: int) -> int:
        """Return the length of a part in bytes."""
        return min(self.part_size, self.size - (number - 1) * self.part_size)


@define(frozen=True)
class Counts:
    """The requests and bytes that a sink received, and its CPU time."""

    requests: int
    received: int
    cpu: float


class Sink:
    """
    The storage.

    Args:
        table: the checksums of the file.
        host: the address, by default that of the loopback interface.
        port: the port; 0: any free port.
        connections: the most connections at a time.
        refuse: the number of a part that is refused with a permanent error; 0: none.
        missing: the number of the part that is missing in the list of parts; 0: the list is empty.
        certificate: certificate and key in one file, for TLS.
    """

    def __init__(
        self,
        table: Table,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        connections: int = 24,
        refuse: int = 0,
        missing: int = 0,
        certificate: Path | None = None,
    ) -> None:
        self._table = table
        self._refuse = refuse
        self._missing = missing
        self._context = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)
        self._listener = socket.create_server((host, port), backlog=max(128, connections))
        self.port: int = self._listener.getsockname()[1]
        self.endpoint = f"{'http' if certificate is None else 'https'}://{host}:{self.port}"
        self._counts = RawArray("d", 3 * connections)
        fork = multiprocessing.get_context("fork")
        self._processes = [fork.Process(target=self._serve, args=(n,)) for n in range(connections)]
        for process in self._processes:
            process.start()
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()

    def counts(self) -> Counts:
        """What was seen so far."""
        return Counts(
            int(sum(self._counts[0::3])),
            int(sum(self._counts[1::3])),
            sum(self._counts[2::3]),
        )

    # --- in one of the processes -------------------------------------------------------------------------------------

    def _serve(self, number: int) -> None:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while True:
            connection, _ = self._listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                if self._context is not None:
                    connection = self._context.wrap_socket(connection, server_side=True)
                with connection:
                    self._converse(connection, number)
            except OSError:
                continue

    def _converse(self, connection: socket.socket, number: int) -> None:
        counts, base = self._counts, 3 * number
        scrap = memoryview(bytearray(1 << 20))
        flags = 0 if self._context is not None else getattr(socket, "MSG_TRUNC", 0)
        held = b""
        while True:
            while (end := held.find(b"\r\n\r\n")) < 0:
                received = connection.recv(65536)
                if not received:
                    return
                held += received
            head, held = held[:end], held[end + 4 :]
            found = _LENGTH.search(head)
            length = int(found[1]) if found else 0
            method, target, _ = head[: head.index(b"\r\n")].decode("latin-1").split(" ", 2)
            if _EXPECTS.search(head):
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            left = length - len(held)
            if method == "PUT":
                while left > 0:
                    dropped = connection.recv_into(scrap, min(left, len(scrap)), flags)
                    if not dropped:
                        return
                    left -= dropped
                held = b"" if left >= 0 else held[length:]
            else:
                while len(held) < length:
                    held += connection.recv(65536)
                held = held[length:]
            connection.sendall(self._answer(method, target, length))
            counts[base] += 1
            counts[base + 1] += length
            counts[base + 2] = time.process_time()

    def _answer(self, method: str, target: str, length: int) -> bytes:
        path, _, text = target.partition("?")
        query = parse_qs(text, keep_blank_values=True)
        known = not path.endswith(WARM_UP)
        match method:
            case "PUT" if "partNumber" in query:
                answer = self._part(int(query["partNumber"][0]), length, known=known)
            case "PUT":
                answer = _response(200, f'ETag: "{_ETAG}"\r\n')
            case "POST" if "uploads" in query:
                answer = _document("InitiateMultipartUploadResult", f"<UploadId>{UPLOAD_ID}</UploadId>")
            case "POST":
                checksum = f"x-oss-hash-crc64ecma: {self._table.whole}\r\n" if known else ""
                answer = _document("CompleteMultipartUploadResult", f'<ETag>"{_ETAG}-1"</ETag>', checksum)
            case "GET":
                answer = self._page(int(query["max-parts"][0]), int(query.get("part-number-marker", ["0"])[0]))
            case _:
                answer = _response(204 if method == "DELETE" else 404)
        return answer

    def _part(self, number: int, length: int, *, known: bool) -> bytes:
        table = self._table
        if number == self._refuse:
            error = b"<Error><Code>AccessDenied</Code><Message>as it was asked to</Message></Error>"
            return _response(403, body=error)
        checksum = ""
        if known and number <= len(table.parts) and length == table.size_of(number):
            checksum = f"x-oss-hash-crc64ecma: {table.parts[number - 1]}\r\n"
        return _response(200, f'ETag: "{_ETAG}"\r\n{checksum}')

    def _page(self, most: int, marker: int) -> bytes:
        table = self._table
        held = [n for n in range(marker + 1, len(table.parts) + 1) if self._missing and n != self._missing]
        listed = "".join(
            f"<Part><PartNumber>{n}</PartNumber><LastModified>2026-10-01T00:00:00.000Z</LastModified>"
            f'<ETag>"{_ETAG}"</ETag><HashCrc64ecma>{table.parts[n - 1]}</HashCrc64ecma><Size>{table.size_of(n)}</Size>'
            "</Part>"
            for n in held[:most]
        )
        more = str(len(held) > most).lower()
        last = held[:most][-1] if held else 0
        return _document(
            "ListPartsResult",
            f"<NextPartNumberMarker>{last}</NextPartNumberMarker><MaxParts>{most}</MaxParts>"
            f"<IsTruncated>{more}</IsTruncated>{listed}",
        )


def _document(root: str, content: str, headers: str = "") -> bytes:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}>{content}</{root}>'.encode()
    return _response(200, f"Content-Type: application/xml\r\n{headers}", body)


def _response(status: int, headers: str = "", body: bytes = b"") -> bytes:
    return (
        f"HTTP/1.1 {status} {'OK' if status == 200 else 'Other'}\r\nServer: sink\r\nDate: {_DATE}\r\n"
        f"x-oss-request-id: 5C3D9175B6FC201293AD0000\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def main() -> None:
    file, part_size, host, port, connections = sys.argv[1:]
    with Sink(Table.of(Path(file), int(part_size)), host=host, port=int(port), connections=int(connections)):
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
