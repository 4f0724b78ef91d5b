"""Serve a directory, by the protocol of a name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Literal

from partwise.server.oss.server import OSSServer
from partwise.server.s3.server import S3Server
from partwise.server.server import StorageServer
from partwise.server.settings import ServerSettings

DialectName = Literal["oss", "s3"]

#: The server of each protocol.
SERVERS: Mapping[DialectName, type[StorageServer]] = {"oss": OSSServer, "s3": S3Server}


def serve_directory(
    directory: str | os.PathLike[str],
    *,
    dialect: DialectName = "oss",
    port: int = 0,
    host: str = "127.0.0.1",
    settings: ServerSettings | None = None,
    started: Callable[[StorageServer], None] | None = None,
) -> None:
    """
    Serve a directory, with a bucket per folder, until the process is interrupted.

    Args:
        directory: the folder of the buckets. It is created if it does not exist. A request that creates a bucket
            creates a folder in it.
        dialect: the protocol.
        port: 0: any free port.
        host: the address to listen on. An address that is not loopback causes a warning.
        settings: see `ServerSettings`; None: those of the protocol.
        started: called with the server once clients can connect; see `StorageServer.announcement`.

    Raises:
        KeyboardInterrupt: the process was interrupted. The server is stopped by then.
        OSError: the address or the directory can't be used.
    """
    with SERVERS[dialect](directory=directory, settings=settings, host=host, port=port) as server:
        if started is not None:
            started(server)
        server.wait()
