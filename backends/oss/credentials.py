"""
Who signs: access keys, where they come from, and how the threads of one process share those that expire.

A provider is asked for credentials by `fetch`; that is all it does. `Keyring` stands between providers and requests: it
knows which credentials are in use, asks for new ones before they expire, and lets one thread ask for all.

No secret leaves this module but in `Credentials` themselves, whose repr does not show it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol, runtime_checkable

from attrs import define, evolve, field

from partwise.errors import CredentialsExpired, InvalidInput, PartwiseError

HOW_TO_GIVE_CREDENTIALS = (
    "give credentials=Credentials(...), set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET (and OSS_SESSION_TOKEN for "
    "temporary ones), or write them to ~/.ossutilconfig"
)

#: Asked for again so many seconds before they expire, at the latest: a part that was signed just before can be under
#: way for as long, and a provider that fails for a while has the time to recover.
_RENEW_SECONDS_BEFORE = 300.0

#: ... and no sooner than in the last fifth of their life, for those that live shorter than that.
_RENEW_SHARE_OF_LIFE = 0.2

#: A provider that failed to renew credentials that are still good is left alone for so many seconds.
_PAUSE_AFTER_FAILURE = 10.0

#: A provider that refreshes inside and does not say until when is asked again after so many seconds. Asking costs it a
#: lock and a comparison; at thousands of requests a second that is still better not done each time.
_HOLD_SECONDS = 30.0


def _to_time(value: datetime | float | None) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidInput(f"the expiration of credentials is a time or a number, not {type(value).__name__}")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError) as error:
        # Which of the three depends on the number and on the platform.
        raise InvalidInput(
            "the expiration of credentials is a time in seconds since 1970, and no such number: is it in milliseconds?"
        ) from error


def _what_is_wrong(value: object) -> str | None:
    if not isinstance(value, str) or not value:
        return f"is empty: {HOW_TO_GIVE_CREDENTIALS}"
    if not (value.isascii() and value.isprintable()) or " " in value:
        return "holds a space or another character that no access key has"
    return None


def _none_if_empty(value: str | None) -> str | None:
    return value or None


@define(frozen=True, repr=False)
class Credentials:
    """
    What a request is signed with.

    Args:
        access_key_id: the id, which is sent with every request and is no secret.
        access_key_secret: the secret, which is never sent.
        security_token: the token that belongs to temporary credentials; it is a secret too.
        expiration: when they stop being good: a time with a time zone, or seconds since 1970; None: never, or unknown.

    Raises:
        InvalidInput: the id or the secret is empty, one of the three can't go into a header, or the expiration has no
            time zone or can't be a time.
    """

    access_key_id: str
    access_key_secret: str
    security_token: str | None = field(default=None, converter=_none_if_empty)
    expiration: datetime | None = field(default=None, converter=_to_time)

    def __attrs_post_init__(self) -> None:
        for name in ("access_key_id", "access_key_secret", "security_token"):
            if name == "security_token" and self.security_token is None:
                continue
            # The value is not shown, and is not in this frame either: it may be the secret, in the place of the id.
            wrong = _what_is_wrong(getattr(self, name))
            if wrong is not None:
                raise InvalidInput(f"the {name} {wrong}")
        if self.expiration is not None and self.expiration.tzinfo is None:
            raise InvalidInput(f"the expiration of credentials needs a time zone, and {self.expiration} has none")

    def __repr__(self) -> str:
        token = "" if self.security_token is None else ", security_token=***"
        until = "" if self.expiration is None else f", expiration={self.expiration.isoformat()}"
        return f"Credentials(access_key_id='***{self.access_key_id[-4:]}', access_key_secret=***{token}{until})"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown."""
        return tuple(secret for secret in (self.access_key_secret, self.security_token) if secret)


# --- where they come from --------------------------------------------------------------------------------------------


@runtime_checkable
class CredentialsProvider(Protocol):
    """Something that can be asked for credentials, from any thread, but by one thread at a time."""

    #: Whether asking again may give others.
    renewable: bool

    #: For credentials without an expiration: ask again after so many seconds; None: they are good until refused.
    hold_seconds: float | None

    def fetch(self) -> Credentials:
        """The credentials to use from now on. Whatever it raises is taken for a failure that may pass."""


class StaticCredentials:
    """
    Credentials that never change.

    Args:
        credentials: these.
    """

    renewable = False
    hold_seconds: float | None = None

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def __repr__(self) -> str:
        return f"StaticCredentials({self._credentials!r})"

    def fetch(self) -> Credentials:
        return self._credentials


class EnvironmentCredentials:
    """
    Credentials from environment variables, read again when those in use are refused.

    `OSS_ACCESS_KEY_ID`, `OSS_ACCESS_KEY_SECRET` and `OSS_SESSION_TOKEN`; where the first is not set,
    `ALIBABA_CLOUD_ACCESS_KEY_ID`, `ALIBABA_CLOUD_ACCESS_KEY_SECRET` and `ALIBABA_CLOUD_SECURITY_TOKEN`. The two
    families are never mixed.

    Args:
        environment: the variables; None takes those of the process.
    """

    renewable = True
    hold_seconds: float | None = None

    _FAMILIES = (
        ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"),
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN"),
    )

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = environment

    def __repr__(self) -> str:
        return "EnvironmentCredentials()"

    @property
    def present(self) -> bool:
        """Whether the variables are set."""
        return self._family() is not None

    def fetch(self) -> Credentials:
        """
        The credentials as they are now.

        Raises:
            InvalidInput: they are not set, or only the id is.
        """
        family = self._family()
        if family is None:
            raise InvalidInput(f"there are no credentials: {HOW_TO_GIVE_CREDENTIALS}")
        variables = self._variables()
        key_id, secret, token = family
        if not variables.get(secret):
            raise InvalidInput(f"{key_id} is set, but {secret} is not")
        return Credentials(variables[key_id], variables[secret], variables.get(token))

    def _family(self) -> tuple[str, str, str] | None:
        variables = self._variables()
        return next((family for family in self._FAMILIES if variables.get(family[0])), None)

    def _variables(self) -> Mapping[str, str]:
        return os.environ if self._environment is None else self._environment


class CallableCredentials:
    """
    Credentials from a function, which is called again before they expire, and when they are refused.

    Args:
        function: gives `Credentials`, best with an expiration. It may block; it is called by one thread at a time.
    """

    renewable = True
    hold_seconds: float | None = None

    def __init__(self, function: Callable[[], Credentials]) -> None:
        self._function = function

    def __repr__(self) -> str:
        return f"CallableCredentials({getattr(self._function, '__qualname__', type(self._function).__name__)})"

    def fetch(self) -> Credentials:
        credentials = self._function()
        if not isinstance(credentials, Credentials):
            raise InvalidInput(f"the function gave {type(credentials).__name__} for credentials, not Credentials")
        return credentials


class ClientCredentials:
    """
    Credentials from a client that refreshes them inside, known by its shape: `get_credential()`, as in the package
    alibabacloud-credentials, or `get_credentials()`, as in the providers of the official SDKs.

    Args:
        client: what it gives has `access_key_id`, `access_key_secret` and perhaps `security_token` and `expiration`, as
            attributes or by `get_access_key_id()` and so on.
    """

    renewable = True
    hold_seconds: float | None = _HOLD_SECONDS

    def __init__(self, client: Any) -> None:
        self._client = client

    def __repr__(self) -> str:
        return f"ClientCredentials({type(self._client).__name__})"

    def fetch(self) -> Credentials:
        # One call for all of them: asked for one by one they could be of two generations.
        ask = getattr(self._client, "get_credential", None) or self._client.get_credentials
        given = ask()
        if isinstance(given, Credentials):
            return given
        expiration = _member(given, "expiration")
        return Credentials(
            _member(given, "access_key_id") or "",
            _member(given, "access_key_secret") or "",
            _member(given, "security_token"),
            expiration if isinstance(expiration, datetime) and expiration.tzinfo else None,
        )


def _member(given: object, name: str) -> Any:
    value = getattr(given, name, None)
    if value is None:
        getter = getattr(given, f"get_{name}", None)
        value = getter() if callable(getter) else None
    return value


def as_provider(given: object) -> CredentialsProvider:
    """
    What a caller gave for credentials, as a provider.

    Args:
        given: `Credentials`, a provider, a client as `ClientCredentials` takes it, a function that returns
            `Credentials`, or None for the environment.

    Raises:
        InvalidInput: it is none of these.
    """
    if given is None:
        return EnvironmentCredentials()
    if isinstance(given, Credentials):
        return StaticCredentials(given)
    if isinstance(given, CredentialsProvider):
        return given
    if callable(getattr(given, "get_credential", None)) or callable(getattr(given, "get_credentials", None)):
        return ClientCredentials(given)
    if callable(given):
        return CallableCredentials(given)
    raise InvalidInput(
        f"credentials are Credentials, a function that returns them, or a client with get_credential(), "
        f"not {type(given).__name__}"
    )


# --- how they are shared ---------------------------------------------------------------------------------------------


@define(frozen=True)
class Issued:
    """
    Credentials in use.

    Args:
        credentials: what to sign with.
        generation: tells a thread whose credentials were refused whether others came meanwhile.
        renew_at: when to ask for others, in seconds since 1970; None: not before these are refused.
        good_until: when they expire, likewise; None: never, or unknown.
    """

    credentials: Credentials
    generation: int
    renew_at: float | None
    good_until: float | None


class Keyring:
    """
    The credentials that the threads of one process share.

    One thread asks the provider for new ones; the others go on with the old while those still hold, and wait where
    there are none. Credentials that the storage refused are asked for again once, however many threads saw the
    refusal.

    Args:
        provider: where credentials come from.
        clock: the storage's time, in seconds since 1970.
    """

    def __init__(self, provider: CredentialsProvider, clock: Callable[[], float]) -> None:
        self.provider = provider
        self._clock = clock
        self._issued: Issued | None = None
        self._fetching = threading.Lock()
        self._pid = os.getpid()

    def current(self) -> Issued:
        """
        What to sign the next request with.

        Raises:
            CredentialsExpired: there are none that hold, and the provider can't be had. Retryable.
            InvalidInput: the provider says that it has none.
        """
        issued = self._issued
        if issued is not None:
            if issued.renew_at is None or (now := self._clock()) < issued.renew_at:
                return issued
            if issued.good_until is None or now < issued.good_until:
                return self._renewed_early(issued)
        with self._lock():
            # Another thread may have been here while this one waited.
            if self._issued is not None and self._issued is not issued:
                return self._issued
            return self._fetch(refused=False)

    def renew(self, refused: Issued) -> bool:
        """
        Get others than those that the storage refused, unless another thread has done so already.

        Returns:
            Whether there are others now; the same again are as good as none.

        Raises:
            CredentialsExpired: the provider can't be had. Retryable.
        """
        if not self.provider.renewable:
            return False
        with self._lock():
            current = self._issued
            if current is None or current.generation == refused.generation:
                current = self._fetch(refused=True)
            return current.credentials != refused.credentials

    def _renewed_early(self, issued: Issued) -> Issued:
        lock = self._lock()
        if not lock.acquire(blocking=False):
            return issued
        try:
            if self._issued is not issued:
                return self._issued or issued
            return self._fetch(refused=False)
        except PartwiseError:
            # The old ones still hold, so nothing is lost yet. Once they have expired, the pause must not keep them.
            paused = self._clock() + _PAUSE_AFTER_FAILURE
            renew_at = paused if issued.good_until is None else min(paused, issued.good_until)
            self._issued = evolve(issued, renew_at=renew_at)
            return self._issued
        finally:
            lock.release()

    def _fetch(self, *, refused: bool) -> Issued:
        try:
            credentials = self.provider.fetch()
        except PartwiseError:
            raise
        except Exception as error:
            # The provider's own words may hold what it knows; they are in the cause, for those who look for it.
            raise CredentialsExpired(
                f"new credentials can't be had: the provider failed with {type(error).__name__}"
            ) from error
        before = self._issued
        generation = 0
        if before is not None:
            generation = before.generation + (refused or credentials != before.credentials)
        good_until = None if credentials.expiration is None else credentials.expiration.timestamp()
        self._issued = Issued(credentials, generation, self._renew_at(good_until), good_until)
        return self._issued

    def _renew_at(self, good_until: float | None) -> float | None:
        if not self.provider.renewable:
            return None
        now = self._clock()
        if good_until is not None:
            return good_until - min(_RENEW_SECONDS_BEFORE, max(0.0, good_until - now) * _RENEW_SHARE_OF_LIFE)
        hold = self.provider.hold_seconds
        return None if hold is None else now + hold

    def _lock(self) -> threading.Lock:
        # A child of a fork inherits the lock as it was at that instant, perhaps held by a thread it does not have.
        if self._pid != os.getpid():
            self._fetching = threading.Lock()
            self._pid = os.getpid()
        return self._fetching
