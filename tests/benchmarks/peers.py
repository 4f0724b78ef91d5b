"""
Measure one upload by one peer, in this process. Imports and a small warm-up upload are not measured. Prints "started"
when the upload that is measured starts, and one line of JSON at the end.

    python peers.py PEER --file FILE --endpoint URL --part BYTES --at-once N --state DIRECTORY [--ca FILE] [--resume]
                    [--in-flight FILE] [--warm-up PARTS]
"""

from __future__ import annotations

import argparse
import gc
import json
import mmap
import os
import resource
import socket
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from urllib.parse import urlsplit

from attrs import define, evolve

WARM_UP = "warm-up"


@define(frozen=True)
class Task:
    """The upload to measure."""

    file: Path
    endpoint: str
    part_size: int  # 0: the default of the peer
    at_once: int  # 0: the default of the peer
    state: Path
    ca: Path | None
    key: str
    in_flight: Path | None = None  # where the times and the numbers of parts in flight are written


# --- the reference ---------------------------------------------------------------------------------------------------


class _Connection:
    """A connection that sends the minimum that HTTP/1.1 allows."""

    def __init__(self, task: Task) -> None:
        url = urlsplit(task.endpoint)
        self._sock: socket.socket = socket.create_connection((url.hostname or "", url.port or 0))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if task.ca is not None:
            self._sock = ssl.create_default_context(cafile=task.ca).wrap_socket(
                self._sock, server_hostname=url.hostname
            )
        self._host = url.netloc

    def request(self, method: str, target: str, chunks: Iterator[memoryview | bytes], length: int) -> bytes:
        """Send a request and return its response, head and body."""
        self._sock.sendall(
            f"{method} {target} HTTP/1.1\r\nHost: {self._host}\r\nContent-Length: {length}\r\n"
            "Date: Thu, 01 Oct 2026 00:00:00 GMT\r\nAuthorization: OSS id:0123456789012345678901234567\r\n\r\n".encode()
        )
        for chunk in chunks:
            self._sock.sendall(chunk)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._sock.recv(65536)
        head, _, body = answer.partition(b"\r\n\r\n")
        missing = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) - len(body)
        while missing > 0:
            more = self._sock.recv(65536)
            answer += more
            missing -= len(more)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer[:200].decode("latin-1"))
        return answer


def raw(task: Task) -> None:
    """
    Upload by sockets and threads only, as the lower bound.

    The file is mapped, and the CRC-64 of each MiB is computed just before it is sent. There are no signatures,
    checkpoints and retries.
    """
    from fastcrc.crc64 import xz

    size = task.file.stat().st_size
    with task.file.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        view = memoryview(mapped)

        def chunks(begin: int, end: int) -> Iterator[memoryview]:
            checksum = 0
            for at in range(begin, end, 1 << 20):
                chunk = view[at : min(at + (1 << 20), end)]
                checksum = xz(chunk, checksum)
                yield chunk
                chunk.release()

        base = f"/bucket/{task.key}"
        answer = _Connection(task).request("POST", f"{base}?uploads", iter(()), 0)
        upload_id = answer.split(b"<UploadId>")[1].split(b"<")[0].decode()
        numbers, lock, etags = iter(range(1, -(-size // task.part_size) + 1)), threading.Lock(), {}

        def work() -> None:
            connection = _Connection(task)
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                begin = (number - 1) * task.part_size
                end = min(begin + task.part_size, size)
                target = f"{base}?partNumber={number}&uploadId={upload_id}"
                answer = connection.request("PUT", target, chunks(begin, end), end - begin)
                etags[number] = answer.split(b'ETag: "')[1].split(b'"')[0].decode()

        threads = [threading.Thread(target=work) for _ in range(task.at_once)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        view.release()
        document = "".join(
            f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>" for n, etag in sorted(etags.items())
        )
        body = f"<CompleteMultipartUpload>{document}</CompleteMultipartUpload>".encode()
        _Connection(task).request("POST", f"{base}?uploadId={upload_id}", iter([body]), len(body))
        if len(etags) != -(-size // task.part_size):
            raise RuntimeError("a part was not sent")


# --- partwise --------------------------------------------------------------------------------------------------------


def partwise(task: Task) -> None:
    """Upload with the defaults: V4 signatures, CRC-64 of parts and object, a checkpoint file, retries, progress."""
    _partwise(task, None)


def partwise_processes(task: Task) -> None:
    """Upload like `partwise`, with a process for each parallel part."""
    if not _executors:
        _executors.append(ProcessPoolExecutor(task.at_once, get_context("spawn")))
    _partwise(task, _executors[0])


#: Kept from the warm-up to the end: the start of a process is not part of the upload.
_executors: list[ProcessPoolExecutor] = []


def _partwise(task: Task, executor: Executor | None) -> None:
    from partwise import Progress, TransferConfig, Uploader
    from partwise.backends.oss import Credentials, OSSBackend
    from partwise.stores.file import FileCheckpointStore

    progress: deque[tuple[float, int]] = deque(maxlen=1 if task.in_flight is None else None)

    def report(state: Progress) -> None:
        progress.append((time.monotonic(), state.parts_in_flight))

    with OSSBackend(
        "bucket",
        endpoint=task.endpoint,
        region="cn-hangzhou",
        credentials=Credentials("id", "secret"),
        ca_bundle=None if task.ca is None else str(task.ca),
    ) as backend:
        config = TransferConfig(
            part_size=task.part_size or "auto", multipart_threshold=0, concurrency=task.at_once or "auto"
        )
        uploader = Uploader(backend, store=FileCheckpointStore(task.state), config=config, executor=executor)
        result = uploader.upload(task.file, task.key, progress=report)
    if task.key != WARM_UP and not result.verified:
        raise RuntimeError("the checksum of the object was not verified")
    if task.in_flight is not None:
        task.in_flight.write_text(json.dumps(list(progress)))


# --- others ----------------------------------------------------------------------------------------------------------


def oss2(task: Task) -> None:
    """Upload by oss2.resumable_upload with its defaults: CRC-64, and a checkpoint file."""
    import oss2 as sdk

    bucket = sdk.Bucket(sdk.Auth("id", "secret"), task.endpoint, "bucket", connect_timeout=60)
    sdk.resumable_upload(
        bucket,
        task.key,
        str(task.file),
        store=sdk.ResumableStore(root=str(task.state)),
        multipart_threshold=1,
        part_size=task.part_size or None,
        num_threads=task.at_once or 1,
    )


def obstore(task: Task) -> None:
    """Upload by obstore.put (in Rust) with unsigned payloads: no checksums, no checkpoint."""
    import obstore as sdk

    store = sdk.store.S3Store(
        "bucket",
        endpoint=task.endpoint,
        access_key_id="id",
        secret_access_key="secret",
        region="us-east-1",
        unsigned_payload=True,
        client_options={"allow_http": True},
        virtual_hosted_style_request=False,
    )
    settings = {"chunk_size": task.part_size, "max_concurrency": task.at_once}
    sdk.put(store, task.key, task.file, use_multipart=True, **{name: n for name, n in settings.items() if n})


def boto3(task: Task) -> None:
    """Upload by boto3.upload_file without checksums of its own: no checkpoint."""
    import boto3 as sdk
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config

    client = sdk.client(
        "s3",
        endpoint_url=task.endpoint,
        aws_access_key_id="id",
        aws_secret_access_key="secret",
        region_name="us-east-1",
        config=Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            max_pool_connections=max(10, task.at_once),
        ),
    )
    settings = {"multipart_chunksize": task.part_size, "max_concurrency": task.at_once}
    config = TransferConfig(multipart_threshold=1, **{name: n for name, n in settings.items() if n})
    client.upload_file(str(task.file), "bucket", task.key, Config=config)


PEERS: dict[str, Callable[[Task], None]] = {
    "raw": raw,
    "partwise": partwise,
    "partwise-processes": partwise_processes,
    "oss2": oss2,
    "obstore": obstore,
    "boto3": boto3,
}


# --- measuring -------------------------------------------------------------------------------------------------------


def _used() -> float:
    """Return the CPU seconds of this process and of its workers."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime + sum(_used_by(pid) for pool in _executors for pid in pool._processes)


def _used_by(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak() -> float:
    """Return the peak memory of this process in MiB. `ru_maxrss` includes the parent process before the exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=sorted(PEERS))
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--part", type=int, required=True)
    parser.add_argument("--at-once", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--ca", type=Path)
    parser.add_argument("--resume", action="store_true", help="keep the checkpoints, and do no warm-up")
    parser.add_argument("--warm-up", type=int, help="parts of the warm-up; default: one for each parallel part")
    parser.add_argument("--in-flight", type=Path, help="write the numbers of parts in flight here")
    given = parser.parse_args()
    # The modules in this directory must not hide packages of the same name.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]
    given.state.mkdir(parents=True, exist_ok=True)
    task = Task(given.file, given.endpoint, given.part, given.at_once, given.state, given.ca, "key")
    upload = PEERS[given.peer]
    if not given.resume:
        small = given.state / "warm-up.bin"
        # One part for each parallel part, so that all connections are opened and all processes started.
        small.write_bytes(os.urandom(100 * 1024 * (given.warm_up or max(1, given.at_once))))
        upload(evolve(task, file=small, part_size=100 * 1024, key=WARM_UP))
    gc.collect()
    task = evolve(task, in_flight=given.in_flight)
    print("started", flush=True)
    before, began = _used(), time.perf_counter()
    upload(task)
    wall = time.perf_counter() - began
    cpu = _used() - before
    for pool in _executors:
        pool.shutdown()
    print(json.dumps({"wall": wall, "cpu": cpu, "rss": _peak()}))


if __name__ == "__main__":
    main()
