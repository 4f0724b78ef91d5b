"""Make small requests for credentials."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from partwise.errors import CredentialsExpired
from partwise.model import KIB

#: Bytes of a response. Credentials have some two thousand.
_RESPONSE_MAX = 256 * KIB


class Fetch(Protocol):
    """Makes a request."""

    def __call__(
        self, url: str, *, method: str = "GET", headers: Mapping[str, str], body: bytes = b"", seconds: float
    ) -> str:
        """Return the text of the response; raise CredentialsExpired if there is none."""


def fetch_text(url: str, *, method: str = "GET", headers: Mapping[str, str], body: bytes = b"", seconds: float) -> str:
    """
    Make one request, and return the text of its response.

    There are no retries and no redirects, and proxies are not used: the services are near.

    Args:
        url: the address.
        method: the method.
        headers: the headers; they may contain secrets, and are in no error.
        body: the body.
        seconds: for the connection, and for each read.

    Raises:
        CredentialsExpired: the service can't be reached, or refuses. Retryable.
    """
    import urllib3

    host = urllib3.util.parse_url(url).host
    try:
        with urllib3.PoolManager(retries=False, timeout=seconds) as pool:
            response = pool.request(
                method, url, headers=dict(headers), body=body or None, redirect=False, preload_content=False
            )
            data = response.read(_RESPONSE_MAX, decode_content=False)
            response.close()
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise CredentialsExpired(f"no credentials: {host} can't be reached ({type(error).__name__})") from error
    if response.status != 200:
        raise CredentialsExpired(f"no credentials: {host} answered with the status {response.status}")
    return data.decode("utf-8", "replace")


def fetch_json(url: str, *, headers: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """Make one request, and return the JSON object in its response; see `fetch_text`."""
    try:
        value = json.loads(fetch_text(url, headers=headers, seconds=seconds))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise CredentialsExpired("no credentials: the answer is not a JSON object")
    return value
