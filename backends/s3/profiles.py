"""
The files that AWS tools share, and the settings for S3 in them.

They are `~/.aws/config` and `~/.aws/credentials`.

Environment variables take precedence, by the names that all AWS tools read. Files are bounded, and neither an error nor
its cause contains a line of them.
"""

from __future__ import annotations

import configparser
import errno
import os
import select
import stat
import time
from collections.abc import Mapping
from pathlib import Path

from attrs import define, field

from partwise.errors import InvalidInput
from partwise.model import MIB

#: A file with a thousand profiles has a tenth of this.
_SIZE_MAX = 4 * MIB

#: Seconds for which what a pipe contains is waited for: as long as for a credential process.
_PIPE_SECONDS = 60.0

CONFIG_FILE, CREDENTIALS_FILE = "~/.aws/config", "~/.aws/credentials"


@define(frozen=True)
class Profile:
    """
    One profile, from both files.

    Args:
        name: its name.
        values: its settings by lower-case name. Those of the credentials file take precedence.
        nested: groups of settings within it, such as ``s3``, by name.
    """

    name: str
    values: Mapping[str, str] = field(factory=dict, repr=False)
    nested: Mapping[str, Mapping[str, str]] = field(factory=dict, repr=False)

    def get(self, name: str) -> str | None:
        """Return a setting; None if it is not set or empty."""
        return self.values.get(name) or None


@define(frozen=True)
class SharedFiles:
    """
    What both files contain.

    Args:
        profiles: the profiles by name.
        sso_sessions: the sections ``sso-session`` by name.
        services: the sections ``services`` by name, with the settings of each service.
    """

    profiles: Mapping[str, Profile] = field(factory=dict)
    sso_sessions: Mapping[str, Mapping[str, str]] = field(factory=dict, repr=False)
    services: Mapping[str, Mapping[str, Mapping[str, str]]] = field(factory=dict, repr=False)

    def profile(self, name: str) -> Profile:
        """Return a profile; raise InvalidInput if neither file has it."""
        found = self.profiles.get(name)
        if found is None:
            raise InvalidInput(
                f"the profile {name!r:.80} is neither in the config file nor in the credentials file of AWS",
                hint="Pass the name of another {profile}",
            )
        return found


def read_shared_files(environment: Mapping[str, str]) -> SharedFiles:
    """
    Read both files. A file that does not exist is empty.

    Args:
        environment: ``AWS_CONFIG_FILE`` and ``AWS_SHARED_CREDENTIALS_FILE`` name other files.

    Raises:
        InvalidInput: a file can't be read, is too large, or is malformed.
    """
    config = _sections(environment.get("AWS_CONFIG_FILE") or CONFIG_FILE)
    credentials = _sections(environment.get("AWS_SHARED_CREDENTIALS_FILE") or CREDENTIALS_FILE)
    profiles: dict[str, dict[str, str]] = {}
    sso_sessions: dict[str, Mapping[str, str]] = {}
    services: dict[str, Mapping[str, Mapping[str, str]]] = {}
    for section, values in config.items():
        kind, _, name = section.partition(" ")
        name = name.strip()
        if section == "default" or (kind == "profile" and name):
            profiles.setdefault(name or "default", {}).update(values)
        elif kind == "sso-session" and name:
            sso_sessions[name] = values
        elif kind == "services" and name:
            services[name] = _nested(values)
    for name, values in credentials.items():
        profiles.setdefault(name, {}).update(values)
    return SharedFiles(
        {name: Profile(name, values, _nested(values)) for name, values in profiles.items()}, sso_sessions, services
    )


def _sections(path: str) -> dict[str, dict[str, str]]:
    try:
        file = Path(path).expanduser()
    except RuntimeError:
        return {}  # there is no home directory
    try:
        data = read_beginning(file, _SIZE_MAX + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name is not valid"
        raise InvalidInput(f"{path} can't be read: {reason}") from None
    if len(data) > _SIZE_MAX:
        raise InvalidInput(f"{path} has more than {_SIZE_MAX} bytes")
    parser = configparser.RawConfigParser(
        default_section="", interpolation=None, strict=False, comment_prefixes=("#", ";")
    )
    try:
        parser.read_string(data.decode("utf-8-sig"))
    except (configparser.Error, UnicodeDecodeError):
        # The error quotes lines of the file.
        raise InvalidInput(f"{path} is not a valid configuration file of AWS") from None
    return {name.strip(): dict(parser[name]) for name in parser.sections()}


def read_beginning(path: Path, size: int) -> bytes:
    """
    Return the first bytes of a file.

    It may be a pipe, as of a process substitution.

    Raises:
        OSError: it can't be read, or it is a pipe whose content does not arrive within a minute.
        ValueError: the name is not valid.
    """

    def without_blocking(name: str, flags: int) -> int:
        # A named pipe that no process writes to could not even be opened otherwise.
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    with open(path, "rb", opener=without_blocking) as file:
        if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
            return _read_pipe(file.fileno(), size)
        data: bytes | None = file.read(size)
    if data is None:  # a terminal, for example
        raise BlockingIOError(errno.EAGAIN, "it has no content yet")
    return data


def _read_pipe(descriptor: int, size: int) -> bytes:
    data, deadline = b"", time.monotonic() + _PIPE_SECONDS
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while len(data) < size:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError(errno.ETIMEDOUT, f"what is written to it does not end within {_PIPE_SECONDS:g} seconds")
        received = os.read(descriptor, size - len(data))
        if not received:
            break
        data += received
    return data


def _nested(values: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the groups: values that consist of indented lines with settings."""
    groups = {}
    for name, value in values.items():
        if not value.startswith("\n"):
            continue
        pairs = (line.partition("=") for line in value.splitlines() if "=" in line)
        groups[name] = {key.strip().lower(): text.strip() for key, _, text in pairs}
    return groups


# --- settings --------------------------------------------------------------------------------------------------------


@define(frozen=True)
class Settings:
    """The settings for S3, from the environment and a profile; None: not set."""

    region: str | None = None
    endpoint: str | None = None
    addressing_style: str | None = None  # "auto", "path" or "virtual"
    dualstack: bool = False
    accelerate: bool = False
    ca_bundle: str | None = None
    #: Where region and endpoint come from, for messages: a variable, or a setting of the profile.
    origins: Mapping[str, str] = field(factory=dict, eq=False)


def profile_name(environment: Mapping[str, str]) -> str | None:
    """Return the name of the profile in the environment; None if it names none."""
    return environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE") or None


def read_settings(
    environment: Mapping[str, str] | None = None, *, profile: str | None = None, files: SharedFiles | None = None
) -> Settings:
    """
    Return the settings for S3.

    Args:
        environment: the variables; None: those of the process.
        profile: the name of the profile; None: that of the environment, or ``default`` if there is such a profile.
        files: the files; None: they are read.

    Raises:
        InvalidInput: a file is not valid, the profile does not exist, or a setting has an impossible value.
    """
    variables = os.environ if environment is None else environment
    shared = read_shared_files(variables) if files is None else files
    name = profile or profile_name(variables)
    chosen = shared.profiles.get("default", Profile("default")) if name is None else shared.profile(name)
    s3 = chosen.nested.get("s3", {})
    region, region_origin = _first(
        *((name, variables.get(name)) for name in ("AWS_REGION", "AWS_DEFAULT_REGION")),
        ("the region of the profile", chosen.get("region")),
    )
    endpoint, endpoint_origin = _endpoint_and_origin("s3", variables, chosen, shared)
    return Settings(
        region=region,
        endpoint=endpoint,
        addressing_style=_addressing_style(s3.get("addressing_style")),
        dualstack=_boolean(
            ("AWS_USE_DUALSTACK_ENDPOINT", variables.get("AWS_USE_DUALSTACK_ENDPOINT")),
            (
                "the use_dualstack_endpoint of the profile",
                chosen.get("use_dualstack_endpoint") or s3.get("use_dualstack_endpoint"),
            ),
        ),
        accelerate=_boolean(("the use_accelerate_endpoint of the profile", s3.get("use_accelerate_endpoint"))),
        ca_bundle=configured_ca_bundle(variables, chosen),
        origins={"region": region_origin, "endpoint": endpoint_origin},
    )


def service_endpoint(service: str, environment: Mapping[str, str], profile: Profile, files: SharedFiles) -> str | None:
    """Return the URL that environment and profile set for a service; None: AWS's."""
    return _endpoint_and_origin(service, environment, profile, files)[0]


def _endpoint_and_origin(
    service: str, environment: Mapping[str, str], profile: Profile, files: SharedFiles
) -> tuple[str | None, str]:
    """Return the URL of a service, or None, and where it is set."""
    if _boolean(
        ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")),
        ("the ignore_configured_endpoint_urls of the profile", profile.get("ignore_configured_endpoint_urls")),
    ):
        return None, ""
    group = files.services.get(profile.get("services") or "", {})
    return _first(
        *((name, environment.get(name)) for name in (f"AWS_ENDPOINT_URL_{service.upper()}", "AWS_ENDPOINT_URL")),
        ("the endpoint_url of the profile", group.get(service, {}).get("endpoint_url") or profile.get("endpoint_url")),
    )


def configured_ca_bundle(environment: Mapping[str, str], profile: Profile) -> str | None:
    """Return the certificate authorities for all services; None: the system's."""
    return environment.get("AWS_CA_BUNDLE") or profile.get("ca_bundle")


def _first(*candidates: tuple[str, str | None]) -> tuple[str | None, str]:
    """Return the first value that is set and not empty, or None, and its origin."""
    return next(((value, origin) for origin, value in candidates if value), (None, ""))


def _addressing_style(text: str | None) -> str | None:
    if text is not None and text not in ("auto", "path", "virtual"):
        raise InvalidInput(f"the addressing_style of the profile must be auto, path or virtual, not {text!r:.40}")
    return text


def _boolean(*candidates: tuple[str, str | None]) -> bool:
    text, origin = _first(*candidates)
    if text is None or text.lower() == "false":
        return False
    if text.lower() == "true":
        return True
    raise InvalidInput(f"{origin} must be true or false, not {text!r:.40}")
