"""
Where the access keys of OSS come from.

`partwise.backends._http.credentials` keeps those in use, and fetches new ones before they expire.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from partwise.backends._http.credentials import (
    CallableCredentials,
    Credentials,
    CredentialsProvider,
    StaticCredentials,
    VariableCredentials,
)
from partwise.errors import InvalidInput

__all__ = ["CREDENTIALS_HINT", "Credentials", "CredentialsProvider", "as_provider"]
__all__ += ["CallableCredentials", "ClientCredentials", "EnvironmentCredentials", "StaticCredentials"]

CREDENTIALS_HINT = (
    "Set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET, write them to ~/.ossutilconfig, or pass Credentials in Python"
)

#: Seconds after which a client that refreshes by itself, and does not report an expiration, is called again. The call
#: takes a lock and a comparison, too much for each of thousands of requests per second.
_HOLD_SECONDS = 30.0


class EnvironmentCredentials(VariableCredentials):
    """
    Credentials from environment variables, read again after a refusal.

    `OSS_ACCESS_KEY_ID`, `OSS_ACCESS_KEY_SECRET` and `OSS_SESSION_TOKEN`; if the first is not set,
    `ALIBABA_CLOUD_ACCESS_KEY_ID`, `ALIBABA_CLOUD_ACCESS_KEY_SECRET` and `ALIBABA_CLOUD_SECURITY_TOKEN`. The two
    families are never mixed.

    Args:
        environment: the variables; None means those of the process.
    """

    families = (
        ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"),
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN"),
    )
    hint = CREDENTIALS_HINT


class ClientCredentials:
    """
    Credentials from a client that refreshes them by itself.

    It is an object with `get_credential()`, as in the package alibabacloud-credentials, or with `get_credentials()`, as
    the providers of the official SDKs.

    Args:
        client: returns objects with `access_key_id`, `access_key_secret` and optionally `security_token` and
            `expiration`, as attributes or by methods `get_access_key_id()` and so on.
    """

    renewable = True
    hold_seconds: float | None = _HOLD_SECONDS

    def __init__(self, client: Any) -> None:
        self._client = client

    def __repr__(self) -> str:
        return f"ClientCredentials({type(self._client).__name__})"

    def fetch(self) -> Credentials:
        # One call for all values: separate calls could return values of two access keys.
        get = getattr(self._client, "get_credential", None) or self._client.get_credentials
        result = get()
        if isinstance(result, Credentials):
            return result
        expiration = _member(result, "expiration")
        return Credentials(
            _member(result, "access_key_id") or "",
            _member(result, "access_key_secret") or "",
            _member(result, "security_token"),
            expiration if isinstance(expiration, datetime) and expiration.tzinfo else None,
        )


def _member(value: object, name: str) -> Any:
    member = getattr(value, name, None)
    if member is None:
        getter = getattr(value, f"get_{name}", None)
        member = getter() if callable(getter) else None
    return member


def as_provider(credentials: object) -> CredentialsProvider:
    """
    Return a provider for what the caller passed as credentials.

    Args:
        credentials: `Credentials`, a provider, a client as for `ClientCredentials`, a function that returns
            `Credentials`, or None for the environment.

    Raises:
        InvalidInput: it is something else.
    """
    if credentials is None:
        return EnvironmentCredentials()
    if isinstance(credentials, Credentials):
        return StaticCredentials(credentials)
    if isinstance(credentials, CredentialsProvider):
        return credentials
    if any(callable(getattr(credentials, name, None)) for name in ("get_credential", "get_credentials")):
        return ClientCredentials(credentials)
    if callable(credentials):
        return CallableCredentials(credentials)
    raise InvalidInput(
        "credentials must be Credentials, a function that returns them, or a client with get_credential(), not "
        f"{type(credentials).__name__}"
    )
