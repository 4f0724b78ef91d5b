"""The settings of a server: access keys, limits, deviations from the service."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterable, Mapping

from attrs import Attribute, define, field

from partwise._validation import integer
from partwise.errors import InvalidInput
from partwise.model import KIB

#: The maximum number of entries on one page of a list.
PAGE_LIMIT_MAX = 1000


def _not_nan(_: object, attribute: Attribute[float | None], value: float | None) -> None:
    if value is not None and math.isnan(value):
        raise InvalidInput(f"{attribute.name} must be a number of seconds, not {value}")


@define(frozen=True)
class AccessKey:
    """
    An access key that the server accepts.

    It is temporary if it has a security token.

    Args:
        access_key_id: the public half.
        access_key_secret: the secret half.
        security_token: every request that is signed by a temporary key must carry it.
        expiration: when a temporary key expires, in seconds since 1970 by the server's clock; None: never.
    """

    access_key_id: str
    access_key_secret: str = field(repr=False)
    security_token: str | None = field(default=None, repr=False)
    expiration: float | None = field(default=None, validator=_not_nan)

    @classmethod
    def new(cls) -> AccessKey:
        """Make a random access key that no other process can guess."""
        return cls(f"partwise-{secrets.token_hex(8)}", secrets.token_hex(20))


# Functions, because type checkers can't infer the result type of `tuple` and `frozenset` as converters.
def _access_keys(keys: Iterable[AccessKey]) -> tuple[AccessKey, ...]:
    return tuple(keys)


def _host_names(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.lower() for name in names)


def _positive(_: object, attribute: Attribute[float], value: float) -> None:
    if not 0 < value < math.inf:  # false for NaN, too
        raise InvalidInput(f"{attribute.name} must be a finite number of seconds above 0, not {value}")


def _at_least_one_key(_: object, __: Attribute[tuple[AccessKey, ...]], value: tuple[AccessKey, ...]) -> None:
    if not value:
        raise InvalidInput("access_keys is empty; a server needs at least one access key")


@define(frozen=True)
class ServerSettings:
    """
    The settings of a server.

    A test may replace them (by ``attrs.evolve``) while the server runs.

    Args:
        region: the region id that V4 signatures must name, without ``oss-``.
        access_keys: the access keys that may sign. The server's attributes show the first one. Default: one random key.
        allow_anonymous: accept requests without a signature, too. Any user and any web page on this machine can then
            store and read objects.
        accept_v1: accept requests signed by V1, which the service is phasing out.
        page_limit: the maximum number of entries on one page of any list, from 1 to 1000. 1 reveals clients that do not
            request further pages.
        min_part_size: the minimum size in bytes of every part but the last at complete. A higher minimum of the backend
            takes precedence.
        checksums: report CRC-64 values at all.
        list_checksums: report them in lists of parts, too, as the service does although it is not documented.
        require_digests: refuse parts and objects without Content-MD5 or a checksum, as S3 does in a bucket with object
            lock.
        multipart_etag: changes the ETag of an object that is made of parts, so that no client comes to depend on how
            the ETag is computed; None: the ETag of the backend.
        cnames: host name -> bucket, for requests to a host that stands for a bucket.
        hosts: host names that requests may name besides loopback hosts, the address that the server listens on,
            `cnames` and `path_style_hosts`. ``example.com`` also allows ``examplebucket.example.com``.
        path_style_hosts: host names, besides addresses and ``localhost``, whose requests have the path ``/bucket/key``.
        idle_timeout: seconds without a byte after which a request in flight ends in RequestTimeout and an idle
            connection is closed. A client that is far slower than 1 KiB per second is given up, too.
        max_connections: the maximum number of open connections. Further ones are closed at once.
        max_recorded_requests: how many of the newest requests the server keeps for `OSSServer.requests`; 0: none. It
            keeps fewer if they take more than about 32 MiB in all.
        clock: the server's clock, in seconds since 1970.
        clock_offset: seconds that are added to `clock`, to simulate a client with a wrong clock.
    """

    region: str = "cn-hangzhou"
    access_keys: tuple[AccessKey, ...] = field(
        factory=lambda: (AccessKey.new(),), converter=_access_keys, validator=_at_least_one_key
    )
    allow_anonymous: bool = False
    accept_v1: bool = True
    page_limit: int = field(default=PAGE_LIMIT_MAX, validator=integer(1, PAGE_LIMIT_MAX))
    min_part_size: int = 100 * KIB
    checksums: bool = True
    list_checksums: bool = True
    require_digests: bool = False
    multipart_etag: Callable[[str], str] | None = None
    cnames: Mapping[str, str] = field(factory=dict)
    hosts: frozenset[str] = field(default=frozenset(), converter=_host_names)
    path_style_hosts: frozenset[str] = field(default=frozenset(), converter=_host_names)
    idle_timeout: float = field(default=60.0, validator=_positive)
    max_connections: int = field(default=512, validator=integer(1))
    max_recorded_requests: int = field(default=20_000, validator=integer(0))
    clock: Callable[[], float] = time.time
    clock_offset: float = 0.0

    def access_key(self, access_key_id: str) -> AccessKey | None:
        """Return the access key with this id, or None."""
        return next((key for key in self.access_keys if key.access_key_id == access_key_id), None)

    def now(self) -> float:
        """Return the time of the server's clock, in seconds since 1970."""
        return self.clock() + self.clock_offset
