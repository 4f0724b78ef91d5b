"""
Servers of S3 from other authors, each in a process of its own with one bucket.

They listen on this machine only, and keep their files in the directory that they are given.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attrs import define

from peers.s3 import BUCKET, command

KEY_ID, SECRET, REGION = "partwise-test-id", "partwise-test-secret", "us-east-1"
_SECONDS = 60.0


@define(frozen=True)
class Running:
    """A server that answers."""

    endpoint: str

    def client(self) -> Any:
        """Return a boto3 client that neither sends nor compares checksums by itself."""
        import boto3
        from botocore.config import Config

        session = boto3.Session(KEY_ID, SECRET, region_name=REGION)
        when = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
        return session.client("s3", endpoint_url=self.endpoint, config=Config(signature_version="s3v4", **when))


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _moto(directory: Path) -> tuple[list[str], int]:
    (port,) = _free_ports(1)
    return [str(command("moto_server")), "-H", "127.0.0.1", "-p", str(port)], port


def _seaweedfs(directory: Path) -> tuple[list[str], int]:
    ports = _free_ports(8)
    roles = ("master", "volume", "filer", "s3")
    where = [
        f"-{role}.port{kind}={port}"
        for (role, kind), port in zip([(role, kind) for role in roles for kind in ("", ".grpc")], ports, strict=True)
    ]
    keys = {"accessKey": KEY_ID, "secretKey": SECRET}
    identity = {"name": "test", "credentials": [keys], "actions": ["Admin", "Read", "List", "Tagging", "Write"]}
    (directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
    line = [str(command("weed")), "server", "-s3", "-filer", f"-dir={directory}", "-ip=127.0.0.1", *where]
    return [
        *line,
        f"-s3.config={directory / 's3.json'}",
        f"-filer.localSocket={directory / 'filer.sock'}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-volume.max=20",
        "-master.volumeSizeLimitMB=100",
    ], ports[6]


def _rclone(directory: Path) -> tuple[list[str], int]:
    (port,) = _free_ports(1)
    (directory / "buckets").mkdir()
    line = [str(command("rclone")), "serve", "s3", str(directory / "buckets"), "--addr", f"127.0.0.1:{port}"]
    return [*line, "--auth-key", f"{KEY_ID},{SECRET}", "--vfs-cache-mode", "full", "--config", "/dev/null"], port


#: By name: the command that it needs, and the function that returns its command line and its port.
SERVERS: dict[str, tuple[str, Callable[[Path], tuple[list[str], int]]]] = {
    "moto": ("moto_server", _moto),
    "seaweedfs": ("weed", _seaweedfs),
    "rclone": ("rclone", _rclone),
}


@contextlib.contextmanager
def running(name: str, directory: Path) -> Iterator[Running]:
    """Start a server, create the bucket, and stop the server at the end."""
    line, port = SERVERS[name][1](directory)
    environment = {**os.environ, "HOME": str(directory), "XDG_CACHE_HOME": str(directory / "cache")}
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(line, env=environment, cwd=directory, stdout=log, stderr=log)
        try:
            server = Running(f"http://127.0.0.1:{port}")
            _wait_for(server, process, directory / "log")
            yield server
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(server: Running, process: subprocess.Popen[bytes], log: Path) -> None:
    client = server.client()
    limit = time.monotonic() + _SECONDS
    while True:
        try:
            client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="is it ready?", Body=b"yes")
            client.delete_object(Bucket=BUCKET, Key="is it ready?")
        except Exception as error:  # whatever a server answers that is starting
            if process.poll() is not None or time.monotonic() > limit:
                text = log.read_text(errors="replace")[-2000:]
                raise AssertionError(f"the server did not start: {error}\n{text}") from error
            time.sleep(0.3)
        else:
            client.close()
            return


if __name__ == "__main__":  # try one by hand
    import tempfile

    with tempfile.TemporaryDirectory() as scratch, running(sys.argv[1], Path(scratch)) as server:
        print(server.endpoint, flush=True)
        sys.stdin.read()
