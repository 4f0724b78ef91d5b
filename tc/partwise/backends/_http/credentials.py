"""
Access keys, the providers they come from, and the cache of those in use.

All threads of a process share the cache. A provider only returns credentials, by `fetch`. `CredentialsCache` keeps
those in use, fetches new ones before they expire, and lets one thread fetch for all.

Secrets leave this module only inside `Credentials`, whose repr does not show them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import ClassVar, Protocol, runtime_checkable

from attrs import define, evolve, field

from partwise.errors import CredentialsExpired, InvalidInput, PartwiseError

#: Seconds before the expiration at which new credentials are fetched: a part that was signed just before may be in
#: flight for that long, and a provider with a temporary failure has time to recover.
_RENEW_SECONDS_BEFORE = 300.0

#: ... but not before this last share of the validity, for credentials that are valid for a short time only.
_RENEW_SHARE = 0.2

#: Seconds to wait after a provider failed, if the credentials in use are still valid.
_PAUSE_AFTER_FAILURE = 10.0


def _to_time(value: datetime | float | None) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidInput(f"the expiration of credentials must be a datetime or a number, not {type(value).__name__}")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError) as error:
        # Which of the three depends on the number and on the platform.
        raise InvalidInput(
            "the expiration of credentials is out of range: it is in seconds since 1970",
            hint="Divide it by 1000 if it is in milliseconds",
        ) from error


def _problem(value: object) -> str | None:
    if not isinstance(value, str) or not value:
        return "is empty"
    if not (value.isascii() and value.isprintable()) or " " in value:
        return "contains a space or another character that access keys never contain"
    return None


def _none_if_empty(value: str | None) -> str | None:
    return value or None


@define(frozen=True, repr=False)
class Credentials:
    """
    An access key.

    Args:
        access_key_id: the id, which is sent with every request and is not secret.
        access_key_secret: the secret, which is never sent.
        security_token: the token of temporary credentials; it is secret, too.
        expiration: when they expire: a datetime with a time zone, or seconds since 1970; None: never, or unknown.

    Raises:
        InvalidInput: the id or the secret is empty, a value can't be sent in a header, or the expiration is out of
            range or has no time zone.
    """

    access_key_id: str
    access_key_secret: str
    security_token: str | None = field(default=None, converter=_none_if_empty)
    expiration: datetime | None = field(default=None, converter=_to_time)

    def __attrs_post_init__(self) -> None:
        for name in ("access_key_id", "access_key_secret", "security_token"):
            if name == "security_token" and self.security_token is None:
                continue
            # The value is neither shown nor a local variable here: id and secret may have been swapped.
            problem = _problem(getattr(self, name))
            if problem is not None:
                raise InvalidInput(f"the {name} {problem}", hint="Check where the credentials come from")
        if self.expiration is not None and self.expiration.tzinfo is None:
            raise InvalidInput(f"the expiration of credentials requires a time zone, and {self.expiration} has none")

    def __repr__(self) -> str:
        token = "" if self.security_token is None else ", security_token=***"
        expiration = "" if self.expiration is None else f", expiration={self.expiration.isoformat()}"
        return f"Credentials(access_key_id='***{self.access_key_id[-4:]}', access_key_secret=***{token}{expiration})"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values that must not appear in any output."""
        return tuple(secret for secret in (self.access_key_secret, self.security_token) if secret)


# --- providers -------------------------------------------------------------------------------------------------------


@runtime_checkable
class CredentialsProvider(Protocol):
    """A source of credentials. It is called from any thread, by one thread at a time."""

    #: Whether another call may return other credentials.
    renewable: bool

    #: For credentials without an expiration: seconds after which to fetch again; None: when they are refused.
    hold_seconds: float | None

    def fetch(self) -> Credentials:
        """
        Return the credentials to use from now on.

        Any exception counts as a transient failure.
        """


class StaticCredentials:
    """
    Credentials that never change.

    Args:
        credentials: the credentials.
    """

    renewable = False
    hold_seconds: float | None = None

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def __repr__(self) -> str:
        return f"StaticCredentials({self._credentials!r})"

    def fetch(self) -> Credentials:
        return self._credentials


class VariableCredentials:
    """
    Credentials from environment variables, read again after a refusal.

    The first family whose access key id is set counts; families are never mixed.

    Args:
        environment: the variables; None means those of the process.

    Attributes:
        families: names of the variables for id, secret and token.
        hint: what to do if none is set.
    """

    families: ClassVar[tuple[tuple[str, str, str], ...]]
    hint: ClassVar[str]

    renewable = True
    hold_seconds: float | None = None

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        # That of the process can't be pickled, and is that of the other process there.
        self._environment = None if environment is os.environ else environment

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @property
    def present(self) -> bool:
        """Whether the variables are set."""
        return self._family() is not None

    def fetch(self) -> Credentials:
        """Return the credentials; raise InvalidInput if they are not set, or half."""
        family = self._family()
        if family is None:
            raise InvalidInput("no credentials are configured", hint=self.hint)
        variables = self._variables()
        key_id, secret, token = family
        if not variables.get(secret):
            raise InvalidInput(f"{key_id} is set, but {secret} is not")
        return Credentials(variables[key_id], variables[secret], variables.get(token))

    def _family(self) -> tuple[str, str, str] | None:
        variables = self._variables()
        return next((family for family in self.families if variables.get(family[0])), None)

    def _variables(self) -> Mapping[str, str]:
        return os.environ if self._environment is None else self._environment


class CallableCredentials:
    """
    Credentials from a function.

    It is called again before they expire, and when they are refused.

    Args:
        function: returns `Credentials`, preferably with an expiration. It may block; one thread at a time calls it.
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
            raise InvalidInput(f"the credentials function must return Credentials, not {type(credentials).__name__}")
        return credentials


# --- the cache -------------------------------------------------------------------------------------------------------


@define(frozen=True)
class CachedCredentials:
    """Credentials in use."""

    credentials: Credentials
    # a number that changes with the credentials, so that a thread whose credentials were refused can see whether
    # another thread has fetched new ones since
    generation: int
    renew_at: float | None  # when to fetch new ones, in seconds since 1970; None: when these are refused
    expires_at: float | None  # when they expire, in seconds since 1970; None: never, or unknown


class CredentialsCache:
    """
    The credentials that the threads of one process share.

    One thread fetches new ones from the provider. The others continue with the old ones while these are valid, and wait
    otherwise. When credentials are refused, new ones are fetched once, regardless of how many threads were refused.
    """

    def __init__(self, provider: CredentialsProvider, clock: Callable[[], float]) -> None:
        self.provider = provider
        self._clock = clock
        self._cached: CachedCredentials | None = None
        self._fetch_lock = threading.Lock()
        self._pid = os.getpid()

    def current(self) -> CachedCredentials:
        """
        Return the credentials to sign the next request with.

        Raises:
            CredentialsExpired: there are no valid credentials, and the provider failed. Retryable.
            InvalidInput: the provider reports that none are configured.
        """
        cached = self._cached
        if cached is not None:
            if cached.renew_at is None or (now := self._clock()) < cached.renew_at:
                return cached
            if cached.expires_at is None or now < cached.expires_at:
                return self._renew_early(cached)
        with self._lock():
            # Another thread may have fetched while this one waited.
            if self._cached is not None and self._cached is not cached:
                return self._cached
            return self._fetch(refused=False)

    def renew(self, refused: CachedCredentials) -> bool:
        """
        Fetch new credentials after a refusal, unless another thread has done it.

        Returns:
            Whether there are other credentials now, so that a retry can help.

        Raises:
            CredentialsExpired: the provider failed. Retryable.
        """
        if not self.provider.renewable:
            return False
        with self._lock():
            current = self._cached
            if current is None or current.generation == refused.generation:
                current = self._fetch(refused=True)
            return current.credentials != refused.credentials

    def _renew_early(self, cached: CachedCredentials) -> CachedCredentials:
        lock = self._lock()
        if not lock.acquire(blocking=False):
            return cached
        try:
            if self._cached is not cached:
                return self._cached or cached
            return self._fetch(refused=False)
        except PartwiseError:
            # The old ones are still valid, so continue with them. The pause ends when they expire, at the latest.
            resume_at = self._clock() + _PAUSE_AFTER_FAILURE
            renew_at = resume_at if cached.expires_at is None else min(resume_at, cached.expires_at)
            self._cached = evolve(cached, renew_at=renew_at)
            return self._cached
        finally:
            lock.release()

    def _fetch(self, *, refused: bool) -> CachedCredentials:
        try:
            credentials = self.provider.fetch()
        except PartwiseError:
            raise
        except Exception as error:
            # The message of the provider's exception may contain secrets, so it is only in the cause.
            raise CredentialsExpired(
                f"no new credentials: the credentials provider raised {type(error).__name__}"
            ) from error
        previous = self._cached
        generation = 0
        if previous is not None:
            generation = previous.generation + (refused or credentials != previous.credentials)
        expires_at = None if credentials.expiration is None else credentials.expiration.timestamp()
        self._cached = CachedCredentials(credentials, generation, self._renew_at(expires_at), expires_at)
        return self._cached

    def _renew_at(self, expires_at: float | None) -> float | None:
        if not self.provider.renewable:
            return None
        now = self._clock()
        if expires_at is not None:
            return expires_at - min(_RENEW_SECONDS_BEFORE, max(0.0, expires_at - now) * _RENEW_SHARE)
        hold = self.provider.hold_seconds
        return None if hold is None else now + hold

    def _lock(self) -> threading.Lock:
        # After a fork, the child has a copy of the lock, which a thread that it does not have may hold.
        if self._pid != os.getpid():
            self._fetch_lock = threading.Lock()
            self._pid = os.getpid()
        return self._fetch_lock
