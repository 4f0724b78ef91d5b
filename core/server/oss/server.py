"""The OSS server: the one module that puts the server and the dialect together."""

from __future__ import annotations

import os
from collections.abc import Callable

from partwise.server.oss.dialect import OSSDialect
from partwise.server.server import StorageServer
from partwise.server.settings import ServerSettings


class OSSServer(StorageServer):
    """
    An HTTP server that emulates Alibaba Cloud OSS, over any `MultipartBackend`.

        with OSSServer() as server:
            client = oss2.Bucket(auth, server.endpoint, "examplebucket", region=server.region)

    It checks requests as the service does, signatures included, and injects planned faults. Requests to an IP address
    or to ``localhost`` are path-style. For any other host name, the first label is the bucket, as in
    ``examplebucket.localhost``. Host names that are not loopback must be allowed by `ServerSettings.hosts`.

    Each server has its own random access key, unless `settings` has access keys.

    Args:
        buckets: the backend of each bucket, by name; the caller closes them. None: ``examplebucket`` in memory, unless
            a `directory` is given.
        directory: every folder in it is a bucket. It is created if it does not exist. Excludes `buckets`.
        settings: see `ServerSettings`.
        faults: the planned faults; see `ServerFault`.
        host: the address to listen on. An address that is not loopback causes a warning.
        port: 0: any free port.

    Raises:
        InvalidInput: both `buckets` and `directory` are given, the port is out of range, `settings` allows anonymous
            requests and `host` is not loopback, or a fault is for an operation that the server does not have.
    """

    dialect = OSSDialect()


def serve_directory(
    directory: str | os.PathLike[str],
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    settings: ServerSettings | None = None,
    started: Callable[[OSSServer], None] | None = None,
) -> None:
    """
    Serve a directory, with a bucket per folder, until the process is interrupted.

    Args:
        directory: the folder of the buckets. It is created if it does not exist. PutBucket creates a folder in it.
        port: 0: any free port.
        host: the address to listen on. An address that is not loopback causes a warning.
        settings: see `ServerSettings`.
        started: called with the server once clients can connect; see `OSSServer.announcement`.

    Raises:
        KeyboardInterrupt: the process was interrupted. The server is stopped by then.
        OSError: the address or the directory can't be used.
    """
    with OSSServer(directory=directory, settings=settings, host=host, port=port) as server:
        if started is not None:
            started(server)
        server.wait()
