"""``partwise serve``: an OSS-protocol server on loopback, for tests in any language."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from partwise.cli.output import Output
from partwise.cli.stopping import Signals, stop_here
from partwise.cli.wording import one_line
from partwise.errors import InvalidInput, PartwiseError

if TYPE_CHECKING:
    from types import ModuleType

    from partwise.testing.oss_server import OSSServer


def server_module() -> ModuleType:
    """
    The server, which belongs to another extra.

    Raises:
        InvalidInput: what it needs is not installed.
    """
    try:
        from partwise.testing import oss_server
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("partwise"):
            raise
        raise InvalidInput(f'the server needs {error.name}: pip install "partwise[testing]"') from error
    return oss_server


def serve(directory: str, port: int, output: Output) -> int:
    """
    Serve a directory, a bucket per folder, until a signal comes.

    Raises:
        InvalidInput: what the server needs is not installed.
        PartwiseError: the directory or the port can't be had.
    """
    module = server_module()
    if Path(directory).exists() and not Path(directory).is_dir():
        raise InvalidInput(f"{directory} is no directory; serve takes one, in which each folder is a bucket")

    def announce(server: OSSServer) -> None:
        output.record(server.announcement())
        if not output.json:
            for line in _in_words(server, directory):
                output.say(line)

    with Signals(stop_here):
        try:
            module.serve_directory(directory, port=port, started=announce)
        except KeyboardInterrupt:
            output.note("stopped")
        except OSError as error:
            raise PartwiseError(f"{directory} can't be served on port {port}: {one_line(str(error))}") from error
    return 0


def _in_words(server: OSSServer, directory: str) -> list[str]:
    buckets = ", ".join(server.bucket_names) or "none yet; make a folder for each"
    return [
        f"serving {directory} as OSS at {server.endpoint}; buckets: {buckets}",
        f"  export OSS_ENDPOINT={server.endpoint}",
        f"  export OSS_REGION={server.region}",
        f"  export OSS_ACCESS_KEY_ID={server.access_key_id}",
        f"  export OSS_ACCESS_KEY_SECRET={server.access_key_secret}",
        "Ctrl-C ends it",
    ]
