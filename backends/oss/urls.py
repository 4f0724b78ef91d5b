"""``oss://bucket/key``: from a URL and what lies around it in the environment to a backend and a key."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache
from typing import Any

from partwise.backends.oss.addressing import HOW_TO_GIVE_ENDPOINT, region_of
from partwise.backends.oss.backend import OSSBackend
from partwise.backends.oss.credentials import HOW_TO_GIVE_CREDENTIALS, EnvironmentCredentials
from partwise.backends.oss.ossutil import DEFAULT_PATH, Configuration, read_configuration
from partwise.errors import InvalidInput

_log = logging.getLogger("partwise.backends.oss")

#: Handed to the backend as they are.
_PASSED_ON = (
    "signature_version",
    "connect_timeout",
    "read_timeout",
    "ca_bundle",
    "proxy",
    "max_connections",
    "page_size",
    "user_agent",
)

SETTINGS = ("credentials", "region", "endpoint", "addressing_style", "timeout", "profile", "config_file", *_PASSED_ON)


def open_url(url: str, **settings: Any) -> tuple[OSSBackend, str]:
    """
    Open ``oss://bucket/key``.

    The key is all that follows the bucket's slash, letter for letter, as ossutil takes it: nothing is decoded, and
    ``?``, ``#`` and ``%`` are characters like any other. It may be empty.

    What `settings` leave out is looked for in the environment (`OSS_ENDPOINT`, `OSS_REGION`, `OSS_ACCESS_KEY_ID` and so
    on), then in ossutil's configuration file. A profile that is asked for by name goes before the environment. The file
    is read only for what is found nowhere else. Where it could only add an endpoint to a region that is known, and
    can't be read, it adds nothing.

    Args:
        url: the URL.
        settings: the arguments of `OSSBackend`, by name, and these; one that is None counts as left out.
            `timeout`: seconds, for `connect_timeout` and `read_timeout` both.
            `profile`: a profile of ossutil's configuration file.
            `config_file`: another file than ``~/.ossutilconfig``.

    Returns:
        The backend, and the key.

    Raises:
        InvalidInput: the URL has no bucket, a setting is unknown, or region or credentials are found nowhere.
    """
    unknown = sorted(settings.keys() - set(SETTINGS))
    if unknown:
        known = ", ".join(sorted(SETTINGS))
        raise InvalidInput(f"an oss:// URL has no setting {', '.join(unknown)}; there are {known}")
    given = {name: value for name, value in settings.items() if value is not None}
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme.lower() != "oss" or not bucket:
        raise InvalidInput(f"{url!r:.200} names no object in OSS: write oss://bucket/key")
    profile, path = given.pop("profile", None), given.pop("config_file", None)

    @cache
    def file() -> Configuration:
        # Read only when it is needed.
        return read_configuration(bucket, path=path, profile=profile)

    place = _place(given, file, by_name=profile is not None)
    if place.region is None and place.endpoint is None:
        raise InvalidInput(
            f"neither a region nor an endpoint is known for {url!r:.200}: {HOW_TO_GIVE_ENDPOINT}, or write one to "
            f"{DEFAULT_PATH}"
        )
    timeout = given.pop("timeout", None)
    if timeout is not None:
        given.setdefault("connect_timeout", timeout)
        given.setdefault("read_timeout", timeout)
    credentials = given.pop("credentials", None) or _credentials(file, by_name=profile is not None)
    backend = OSSBackend(
        bucket,
        endpoint=place.endpoint,
        region=place.region,
        credentials=credentials,
        addressing_style=place.addressing_style or "virtual",
        **given,
    )
    return backend, key


def _place(given: dict[str, Any], file: Callable[[], Configuration], *, by_name: bool) -> Configuration:
    """
    Where the bucket is, from what was said most closely.

    Region and endpoint may come from two places, and then contradict each other; whatever was said more closely holds.
    """
    asked = Configuration(
        region=given.pop("region", None),
        endpoint=given.pop("endpoint", None),
        addressing_style=given.pop("addressing_style", None),
    )
    if asked.endpoint is not None and (asked.region is not None or region_of(asked.endpoint) is not None):
        return asked
    around = Configuration(region=os.environ.get("OSS_REGION") or None, endpoint=os.environ.get("OSS_ENDPOINT") or None)
    levels = [asked, file(), around] if by_name else [asked, around]
    if not by_name:
        levels.append(_from_file(file, levels))
    region, region_level = _first(levels, "region")
    endpoint, endpoint_level = _first(levels, "endpoint")
    if region is not None and endpoint is not None and region_of(endpoint) not in (None, region):
        if endpoint_level < region_level:
            region = None
        elif region_level < endpoint_level:
            endpoint = None
    style = asked.addressing_style
    if style is None and endpoint is not None:
        style = levels[endpoint_level].addressing_style
    return Configuration(region=region, endpoint=endpoint, addressing_style=style)


def _from_file(file: Callable[[], Configuration], levels: list[Configuration]) -> Configuration:
    """What the file adds to what was said more closely; nothing where that is all there is to say."""
    region, endpoint = _first(levels, "region")[0], _first(levels, "endpoint")[0]
    if endpoint is not None and (region is not None or region_of(endpoint) is not None):
        return Configuration()
    try:
        return file()
    except InvalidInput as error:
        if region is None:
            raise
        # The region is enough to find the bucket by.
        _log.debug("without the configuration file: %s", error)
        return Configuration()


def _first(levels: list[Configuration], name: str) -> tuple[str | None, int]:
    return next(
        ((value, level) for level, said in enumerate(levels) if (value := getattr(said, name)) is not None), (None, -1)
    )


def _credentials(file: Callable[[], Configuration], *, by_name: bool) -> object:
    environment = EnvironmentCredentials()
    if environment.present and not (by_name and file().credentials):
        return environment
    if file().credentials is None:
        only, wrong = file().only_ossutil, file().wrong
        why = f" ({wrong})" if wrong else ""
        if only is not None:
            why = f" (those of mode {only!r} in the configuration file are for ossutil alone)"
        raise InvalidInput(f"there are no credentials{why}: {HOW_TO_GIVE_CREDENTIALS}")
    return file().credentials
