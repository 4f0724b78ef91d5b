"""
``oss://bucket/key``: open a backend by URL.

Settings come from the environment and from ossutil's file, too.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache
from typing import Any

from partwise._validation import brief_url
from partwise.backends._http.addresses import check_configured
from partwise.backends.oss.addressing import ENDPOINT_HINT, checked_region, plain_region, region_of
from partwise.backends.oss.backend import OSSBackend
from partwise.backends.oss.credentials import CREDENTIALS_HINT, EnvironmentCredentials
from partwise.backends.oss.ossutil import DEFAULT_PATH, Configuration, read_configuration
from partwise.errors import InvalidInput

_log = logging.getLogger("partwise.backends.oss")

SETTINGS = frozenset(
    """
    credentials region endpoint addressing_style signature_version timeout connect_timeout read_timeout
    ca_bundle proxy max_connections page_size user_agent profile config_file
    """.split()  # noqa: SIM905  # thirty quotes would hide the names
)


def open_url(url: str, **settings: Any) -> tuple[OSSBackend, str]:
    """
    Open ``oss://bucket/key``.

    The key is everything after the bucket's slash, unchanged, as in ossutil: nothing is decoded, and ``?``, ``#`` and
    ``%`` have no special meaning. It may be empty.

    Missing settings are taken from the environment (`OSS_ENDPOINT`, `OSS_REGION`, `OSS_ACCESS_KEY_ID` and so on), then
    from ossutil's configuration file. A profile that is given by name takes precedence over the environment. The file
    is read only if a setting is missing. If the region is known and the file can't be read, it is ignored.

    Args:
        url: the URL.
        settings: the arguments of `OSSBackend`, by name, and the following; None counts as missing.
            `timeout`: seconds, for both `connect_timeout` and `read_timeout`.
            `profile`: a profile of ossutil's configuration file.
            `config_file`: a file to read instead of ``~/.ossutilconfig``.

    Returns:
        The backend, and the key.

    Raises:
        InvalidInput: the URL has no bucket, a setting is unknown, or no region or no credentials are configured.
    """
    unknown = sorted(settings.keys() - SETTINGS)
    if unknown:
        known = ", ".join(sorted(SETTINGS))
        raise InvalidInput(f"unknown setting for an oss:// URL: {', '.join(unknown)}; the settings are {known}")
    given = {name: value for name, value in settings.items() if value is not None}
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme.lower() != "oss" or not bucket:
        raise InvalidInput(f"{brief_url(url)} is not the URL of an object in OSS: oss://bucket/key")
    profile, path = given.pop("profile", None), given.pop("config_file", None)

    @cache
    def file() -> Configuration:
        # Read at most once, and only if it is needed.
        return read_configuration(bucket, path=path, profile=profile)

    where = _locate(given, file, by_name=profile is not None)
    if where.region is None and where.endpoint is None:
        raise InvalidInput(
            f"neither the region nor the endpoint of {brief_url(url)} is known",
            hint=f"{ENDPOINT_HINT}, or write one to {DEFAULT_PATH}",
        )
    timeout = given.pop("timeout", None)
    if timeout is not None:
        given.setdefault("connect_timeout", timeout)
        given.setdefault("read_timeout", timeout)
    credentials = given.pop("credentials", None) or _credentials(file, by_name=profile is not None)
    backend = OSSBackend(
        bucket,
        endpoint=where.endpoint,
        region=where.region,
        credentials=credentials,
        addressing_style=where.addressing_style or "virtual",
        **given,
    )
    return backend, key


def _locate(given: dict[str, Any], file: Callable[[], Configuration], *, by_name: bool) -> Configuration:
    """
    Find region, endpoint and addressing style.

    Region and endpoint may come from different sources and contradict each other; the source of higher precedence wins.
    """
    arguments = Configuration(
        region=given.pop("region", None),
        endpoint=given.pop("endpoint", None),
        addressing_style=given.pop("addressing_style", None),
    )
    if arguments.endpoint is not None and (arguments.region is not None or region_of(arguments.endpoint) is not None):
        return arguments
    above = [arguments, file()] if by_name else [arguments]
    levels = [*above, _from_environment(above)]
    if not by_name:
        levels.append(_from_file(file, levels))
    region, region_level = _first(levels, "region")
    endpoint, endpoint_level = _first(levels, "endpoint")
    if region is not None and endpoint is not None and region_of(endpoint) not in (None, plain_region(region)):
        if endpoint_level < region_level:
            region = None
        elif region_level < endpoint_level:
            endpoint = None
    style = arguments.addressing_style
    if style is None and endpoint is not None:
        style = levels[endpoint_level].addressing_style
    return Configuration(region=region, endpoint=endpoint, addressing_style=style)


def _from_environment(above: list[Configuration]) -> Configuration:
    """
    Return the settings of the environment that no level above it has.

    Raises:
        InvalidInput: one of them is invalid; the message names its variable.
    """
    region, endpoint = (
        (os.environ.get(variable) or None) if all(getattr(level, name) is None for level in above) else None
        for name, variable in (("region", "OSS_REGION"), ("endpoint", "OSS_ENDPOINT"))
    )
    if region is not None:
        check_configured("OSS_REGION", checked_region, region)
    if endpoint is not None:
        check_configured("OSS_ENDPOINT", region_of, endpoint)
    return Configuration(region=region, endpoint=endpoint)


def _from_file(file: Callable[[], Configuration], levels: list[Configuration]) -> Configuration:
    """
    Return the settings of the file, or none if it is not needed.

    It is not read if the levels above it have everything.
    """
    region, endpoint = _first(levels, "region")[0], _first(levels, "endpoint")[0]
    if endpoint is not None and (region is not None or region_of(endpoint) is not None):
        return Configuration()
    try:
        return file()
    except InvalidInput as error:
        if region is None:
            raise
        # The region alone is enough to access the bucket.
        _log.debug("continuing without the configuration file: %s", error)
        return Configuration()


def _first(levels: list[Configuration], name: str) -> tuple[str | None, int]:
    """Return the first value of a setting that is not None, and its level or -1."""
    return next(
        ((value, number) for number, level in enumerate(levels) if (value := getattr(level, name)) is not None),
        (None, -1),
    )


def _credentials(file: Callable[[], Configuration], *, by_name: bool) -> object:
    environment = EnvironmentCredentials()
    if environment.present and not (by_name and file().credentials):
        return environment
    configuration = file()
    if configuration.credentials is not None:
        return configuration.credentials
    why = ""
    if configuration.unsupported_mode is not None:
        why = f" (only ossutil supports those of mode {configuration.unsupported_mode!r} in the configuration file)"
    elif configuration.problem is not None:
        why = f" ({configuration.problem})"
    raise InvalidInput(f"no credentials are configured{why}", hint=CREDENTIALS_HINT)
