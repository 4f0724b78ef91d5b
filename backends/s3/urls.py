"""
``s3://bucket/key``: open a backend by URL.

Settings come from the environment and from profiles, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from partwise._validation import brief_url
from partwise.backends._http.addresses import check_configured
from partwise.backends.s3.addressing import checked_region, host_of
from partwise.backends.s3.backend import S3Backend
from partwise.backends.s3.credentials import as_provider
from partwise.backends.s3.profiles import Settings, read_settings, read_shared_files
from partwise.errors import InvalidInput

SETTINGS = frozenset(
    """
    credentials region endpoint dialect addressing_style dual_stack accelerate sign_payload timeout connect_timeout
    read_timeout ca_bundle proxy max_connections page_size user_agent profile
    """.split()  # noqa: SIM905  # thirty quotes would hide the names
)

_ARN = re.compile(r"arn:[^/]+:(?:outpost[/:][^/:]+[/:])?accesspoint[/:][^/]+")


def open_url(url: str, **settings: Any) -> tuple[S3Backend, str]:
    """
    Open ``s3://bucket/key``, or ``s3://ARN/key`` with the ARN of an access point.

    The key is everything after the bucket's slash, unchanged, as in the command line of AWS: nothing is decoded, and
    ``?``, ``#`` and ``%`` have no special meaning. It may be empty.

    Missing settings are taken from the environment and from a profile in ``~/.aws``, as the tools of AWS find them:
    endpoint, region, addressing style, dual-stack, acceleration, certificate authorities, and credentials.

    Args:
        url: the URL.
        settings: the arguments of `S3Backend`, by name, and the following; None counts as missing.
            `timeout`: seconds, for both `connect_timeout` and `read_timeout`.
            `profile`: a profile of ``~/.aws/config`` and ``~/.aws/credentials``.

    Returns:
        The backend, and the key.

    Raises:
        InvalidInput: the URL has no bucket, or a setting is unknown or invalid.
    """
    bucket, key, given = parse_url(url, settings)
    return S3Backend(bucket, **given), key


def parse_url(url: str, settings: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """
    Return the bucket, the key, and the settings for the backend of a URL.

    Those of environment and profile are among them; see `open_url`, also for the errors.
    """
    unknown = sorted(settings.keys() - SETTINGS)
    if unknown:
        known = ", ".join(sorted(SETTINGS))
        raise InvalidInput(f"unknown setting for an s3:// URL: {', '.join(unknown)}; the settings are {known}")
    given = {name: value for name, value in settings.items() if value is not None}
    scheme, _, rest = url.partition("://")
    bucket, key = split_path(rest)
    if scheme.lower() != "s3" or not bucket:
        raise InvalidInput(f"{brief_url(url)} is not the URL of an object in S3: s3://bucket/key")
    profile = given.pop("profile", None)
    files = read_shared_files(os.environ)  # once, since a file may be a pipe
    _add_configured(given, read_settings(profile=profile, files=files))
    if profile is not None or "credentials" not in given:
        given["credentials"] = as_provider(given.get("credentials"), profile=profile, files=files)
    timeout = given.pop("timeout", None)
    if timeout is not None:
        given.setdefault("connect_timeout", timeout)
        given.setdefault("read_timeout", timeout)
    return bucket, key, given


def split_path(path: str) -> tuple[str, str]:
    """
    Return the bucket and the key of ``bucket/key`` or ``ARN/key``.

    Either may be empty.
    """
    arn = _ARN.match(path)
    bucket = arn[0] if arn else path.partition("/")[0]
    return bucket, path[len(bucket) :].removeprefix("/")


def _add_configured(given: dict[str, Any], configured: Settings) -> None:
    """Add the settings of environment and profile to those that the caller gave."""
    if "region" not in given and configured.region is not None:
        check_configured(configured.origins["region"], checked_region, configured.region)
    for name in ("region", "addressing_style", "ca_bundle"):
        given.setdefault(name, getattr(configured, name))
    if not (given.get("dual_stack") or given.get("accelerate")):
        if "endpoint" not in given and configured.endpoint is not None:
            check_configured(configured.origins["endpoint"], host_of, configured.endpoint)
        given.setdefault("endpoint", configured.endpoint)
    if given.get("endpoint") is None:
        given.setdefault("dual_stack", configured.dualstack)
        given.setdefault("accelerate", configured.accelerate)
    if given["addressing_style"] is None:
        del given["addressing_style"]
