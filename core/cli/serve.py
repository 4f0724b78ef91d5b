"""
``partwise serve``: a server on loopback that emulates OSS or S3, for tests.

The tests can be written in any language. Other users of the machine can connect to it, too. They are kept out by the
access key, which is generated for each run, or comes from the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve

from partwise._extras import install_hint
from partwise._validation import check_path
from partwise.cli.formatting import collapse_lines
from partwise.cli.output import Output
from partwise.cli.signals import Signals, raise_signal
from partwise.errors import InvalidInput, PartwiseError

if TYPE_CHECKING:
    from types import ModuleType

    from partwise.server import AccessKey
    from partwise.server.server import StorageServer

# Not the variables that clients read: those may contain the key of a real account, and serve prints its key.
_ID = "PARTWISE_SERVE_ACCESS_KEY_ID"
_SECRET = "PARTWISE_SERVE_ACCESS_KEY_SECRET"  # noqa: S105  # a name
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_SECRET_LENGTH_MIN = 16
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def server_module() -> ModuleType:
    """Import the server; raise InvalidInput if a package for it is missing."""
    try:
        from partwise import server
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("partwise"):
            raise
        raise InvalidInput(
            f"the server needs {error.name}, which is not installed", hint=install_hint("server")
        ) from error
    return server


def serve(directory: str, dialect: str, port: int, hosts: Sequence[str], output: Output) -> int:
    """
    Serve a directory, in which each directory is a bucket, until a signal arrives.

    The dialect is oss or s3. Port 0 takes a free one. The hosts are accepted in requests, besides those of loopback.

    Raises:
        InvalidInput: a package is missing, or the directory, a host or the access key is invalid.
        PartwiseError: the directory can't be read, or the port is in use.
    """
    if not directory:
        raise InvalidInput("the name of the directory is empty", hint="Write . for the current directory")
    check_path("the directory", directory)  # a relative one may lead nowhere
    module = server_module()
    given = _given_key(module, os.environ)
    # No test inspects the requests here.
    settings = evolve(
        module.SERVERS[dialect].default_settings(),
        access_keys=[given or module.AccessKey.new()],
        hosts=map(_host, hosts),
        max_recorded_requests=0,
    )

    def print_address(server: StorageServer) -> None:
        output.record(server.announcement())
        if not output.json:
            for line in _describe(server, directory, f"${_SECRET}" if given else server.access_key_secret):
                output.say(line)

    try:
        with Signals(raise_signal):
            if Path(directory).exists() and not Path(directory).is_dir():
                raise InvalidInput(f"{directory} is not a directory")
            module.serve_directory(directory, dialect=dialect, port=port, settings=settings, started=print_address)
    except KeyboardInterrupt:
        output.note("stopped")
    except OSError as error:
        where = f" on port {port}" if error.filename is None else ""  # it is that of the directory, or of a file in it
        reason = error.strerror or collapse_lines(str(error))
        raise PartwiseError(f"{directory} can't be served{where}: {reason}") from error
    return 0


def _given_key(module: ModuleType, environment: Mapping[str, str]) -> AccessKey | None:
    """
    Return the access key from the environment.

    Other users can't read that, unlike a command line.
    """
    access_key_id, secret = environment.get(_ID, ""), environment.get(_SECRET, "")
    if not access_key_id and not secret:
        return None
    if not access_key_id or not secret:
        raise InvalidInput(f"only one of {_ID} and {_SECRET} is set", hint="Set both, or none to have a key generated")
    if not _KEY_ID.fullmatch(access_key_id):
        raise InvalidInput(f"{_ID} must be 1 to 128 letters, digits, '.', '_' and '-'")
    if len(secret) < _SECRET_LENGTH_MIN or not (secret.isascii() and secret.isprintable()) or " " in secret:
        raise InvalidInput(
            f"{_SECRET} must be at least {_SECRET_LENGTH_MIN} printable ASCII characters without spaces",
            hint="Generate one: openssl rand -hex 20",
        )
    key: AccessKey = module.AccessKey(access_key_id, secret)
    return key


def _host(name: str) -> str:
    if not _HOST.fullmatch(name):
        raise InvalidInput(
            f"--allow-host: {name!r} is not a host name", hint="Write it without scheme and port, as in oss.local"
        )
    return name


def _describe(server: StorageServer, directory: str, secret: str) -> list[str]:
    buckets = ", ".join(server.bucket_names) or "none yet; create a directory for each"
    shown = server.environment() | {server.variables["access_key_secret"]: secret}
    return [
        f"serving {directory} at {server.endpoint}; buckets: {buckets}",
        *(f"  export {name}={value}" for name, value in shown.items()),
        "press Ctrl-C to stop",
    ]
