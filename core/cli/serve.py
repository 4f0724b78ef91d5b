"""
``partwise serve``: an OSS-protocol server on loopback, for tests in any language.

Other users of the machine can connect to it, too. What keeps them out is the access key, which is made anew for each
run, or comes from the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from partwise._validation import check_path
from partwise.cli.formatting import one_line
from partwise.cli.output import Output
from partwise.cli.signals import Signals, stop_here
from partwise.errors import InvalidInput, PartwiseError

if TYPE_CHECKING:
    from types import ModuleType

    from partwise.server import AccessKey, OSSServer

# Not the variables that clients read: those may hold the keys of a real account, and serve prints its key.
_ID = "PARTWISE_SERVE_ACCESS_KEY_ID"
_SECRET = "PARTWISE_SERVE_ACCESS_KEY_SECRET"  # noqa: S105  # a name
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_SECRET_LENGTH_MIN = 16
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def server_module() -> ModuleType:
    """
    The server, which belongs to another extra.

    Raises:
        InvalidInput: what it needs is not installed.
    """
    try:
        from partwise import server
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("partwise"):
            raise
        raise InvalidInput(f'the server needs {error.name}: pip install "partwise[server]"') from error
    return server


def serve(directory: str, port: int, hosts: Sequence[str], output: Output) -> int:
    """
    Serve a directory, a bucket per folder, until a signal comes.

    Args:
        directory: where the buckets are.
        port: 0 takes a free one.
        hosts: host names that requests may name, besides those of loopback.
        output: where to.

    Raises:
        InvalidInput: what the server needs is not installed, or the directory, a host or the access key can't be one.
        PartwiseError: the directory or the port can't be had.
    """
    if not directory:
        raise InvalidInput("the directory is empty, perhaps an unset variable; '.' serves the current one")
    check_path("the directory", directory)  # a relative one may lead nowhere
    module = server_module()
    given = _given_key(module, os.environ)
    # Nothing looks at the requests here.
    settings = module.ServerSettings(
        access_keys=[given or module.AccessKey.new()], hosts=map(_host, hosts), max_recorded_requests=0
    )

    def announce(server: OSSServer) -> None:
        output.record(server.announcement())
        if not output.json:
            for line in _in_words(server, directory, f"${_SECRET}" if given else server.access_key_secret):
                output.say(line)

    try:
        with Signals(stop_here):
            if Path(directory).exists() and not Path(directory).is_dir():
                raise InvalidInput(f"{directory} is not a directory; serve takes one, in which each folder is a bucket")
            module.serve_directory(directory, port=port, settings=settings, started=announce)
    except KeyboardInterrupt:
        output.note("stopped")
    except OSError as error:
        raise PartwiseError(f"{directory} can't be served on port {port}: {one_line(str(error))}") from error
    return 0


def _given_key(module: ModuleType, environment: Mapping[str, str]) -> AccessKey | None:
    """The access key of the environment, which other users can't read, unlike a command line."""
    access_key_id, secret = environment.get(_ID, ""), environment.get(_SECRET, "")
    if not access_key_id and not secret:
        return None
    if not access_key_id or not secret:
        raise InvalidInput(f"{_ID} and {_SECRET} go together: set both, or neither for a key that is made")
    if not _KEY_ID.fullmatch(access_key_id):
        raise InvalidInput(f"{_ID} has from 1 to 128 letters, digits, '.', '_' and '-'")
    if len(secret) < _SECRET_LENGTH_MIN or not (secret.isascii() and secret.isprintable()) or " " in secret:
        raise InvalidInput(
            f"{_SECRET} has {_SECRET_LENGTH_MIN} or more characters of ASCII and no spaces; try: openssl rand -hex 20"
        )
    key: AccessKey = module.AccessKey(access_key_id, secret)
    return key


def _host(name: str) -> str:
    if not _HOST.fullmatch(name):
        raise InvalidInput(f"--allow-host: {name!r} is not a host name; give it without scheme and port: oss.local")
    return name


def _in_words(server: OSSServer, directory: str, secret: str) -> list[str]:
    buckets = ", ".join(server.bucket_names) or "none yet; make a folder for each"
    return [
        f"serving {directory} as OSS at {server.endpoint}; buckets: {buckets}",
        f"  export OSS_ENDPOINT={server.endpoint}",
        f"  export OSS_REGION={server.region}",
        f"  export OSS_ACCESS_KEY_ID={server.access_key_id}",
        f"  export OSS_ACCESS_KEY_SECRET={secret}",
        "Ctrl-C ends it",
    ]
