"""Make small requests for credentials, and read the responses."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from partwise.backends._http.addresses import authority, split_url
from partwise.backends._http.client import HTTPClient
from partwise.backends._http.connections import Endpoint
from partwise.backends._http.credentials import Credentials
from partwise.backends._http.error_documents import code_in
from partwise.backends._http.proxies import environment_proxy
from partwise.backends._http.tls_pump import lazy_tls_context
from partwise.errors import BackendError, CredentialsExpired, InvalidInput
from partwise.model import KIB

#: Bytes of a response. Credentials have some two thousand.
_RESPONSE_MAX = 256 * KIB

_USER_AGENT = "partwise"


# --- requests --------------------------------------------------------------------------------------------------------


class Fetch(Protocol):
    """Makes a request."""

    def __call__(
        self, url: str, *, method: str = "GET", headers: Mapping[str, str], body: bytes = b"", seconds: float
    ) -> str:
        """Return the text of the response; raise CredentialsExpired if there is none."""


def fetch_text(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str],
    body: bytes = b"",
    seconds: float,
    through_proxy: bool = False,
    ca_bundle: str | None = None,
) -> str:
    """
    Make one request, and return the text of its response.

    There are no retries and no redirects.

    Args:
        url: the address.
        method: the method.
        headers: the headers; they may contain secrets, and are in no error.
        body: the body.
        seconds: for the connection, and for each read; the whole response may take four times as long.
        through_proxy: whether to use the proxy of the environment. Metadata services are reached directly: they are
            near, and a proxy would be a machine with another role.
        ca_bundle: a file or directory of certificate authorities to trust; None: those of the system.

    Raises:
        CredentialsExpired: the service can't be reached, or refuses. Retryable.
        InvalidInput: the address, the proxy or the file of authorities is invalid, or a header can't be sent.
    """
    server, target = split_url(url, "a service that has credentials")
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise InvalidInput(
                f"no credentials: the header {name} for {server.host} would contain a character that can't be sent",
                hint="Check the token of the service, which is a single line",
            )
    endpoint = Endpoint(
        scheme=server.scheme,
        host=server.host,
        port=server.port,
        authority=authority(server.host, server.port_shown),
        connect_timeout=seconds,
        read_timeout=seconds,
        context=lazy_tls_context(ca_bundle) if server.scheme == "https" else None,
        proxy=environment_proxy(server.scheme, server.host, os.environ) if through_proxy else None,
    )
    http = HTTPClient(endpoint, user_agent=_USER_AGENT, max_connections=1)
    head = http.head(method, target, headers, None if method == "GET" else len(body))
    try:
        response = http.start(method, head, (body,) if body else ())()
    except BackendError as error:
        raise CredentialsExpired(f"no credentials: {error.message}") from error
    finally:
        http.close()
    if response.status != 200:
        code = code_in(response)
        raise CredentialsExpired(
            f"no credentials: {server.host} answered with the status {response.status}{f' ({code})' if code else ''}",
            code=code,
            status=response.status,
        )
    if len(response.body) > _RESPONSE_MAX:
        raise CredentialsExpired(f"no credentials: the response of {server.host} has more than {_RESPONSE_MAX} bytes")
    return response.body.decode("utf-8", "replace")


def fetch_json(
    url: str,
    *,
    headers: Mapping[str, str],
    seconds: float,
    through_proxy: bool = False,
    ca_bundle: str | None = None,
) -> dict[str, Any]:
    """Make one request, and return the JSON object in its response; see `fetch_text`."""
    text = fetch_text(url, headers=headers, seconds=seconds, through_proxy=through_proxy, ca_bundle=ca_bundle)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise CredentialsExpired("no credentials: the response is not a JSON object")
    return value


# --- responses -------------------------------------------------------------------------------------------------------


def read_credentials(values: Mapping[str, Any], key_id: str, secret: str, token: str, expiration: str) -> Credentials:
    """
    Return the credentials in a response, given the names of their members.

    Raises:
        CredentialsExpired: there are none in it. Retryable. The error contains no value of the response.
    """
    found = [values.get(name) for name in (key_id, secret, token)]
    if not isinstance(found[0], str) or not isinstance(found[1], str) or not isinstance(found[2], str | None):
        raise CredentialsExpired("the credentials have no access key")
    expires = read_time(values.get(expiration))
    try:
        return Credentials(found[0], found[1], found[2], expires)
    except InvalidInput as error:
        raise CredentialsExpired(f"the credentials can't be used: {error.message}") from None


def read_time(value: object) -> datetime | None:
    """
    Return a time, a text or seconds since 1970; None if there is none.

    Raises:
        CredentialsExpired: it is not a time. Retryable.
    """
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        if not isinstance(value, str) or not value:
            return None
        moment = datetime.fromisoformat(value.replace("UTC", "Z"))
    except (ValueError, OverflowError, OSError):  # which one depends on the number and on the platform
        raise CredentialsExpired("the expiration of the credentials is not a time") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
