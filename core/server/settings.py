"""What an `OSSServer` is like: whom it knows, and where it may differ from the real service."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterable, Mapping

from attrs import Attribute, define, field

from partwise.errors import InvalidInput
from partwise.model import KIB

#: The most entries that OSS puts into one page of a list.
PAGE_LIMIT_MAX = 1000


def _not_nan(_: object, attribute: Attribute[float | None], value: float | None) -> None:
    if value is not None and math.isnan(value):
        raise InvalidInput(f"{attribute.name} is a number of seconds, not {value}")


@define(frozen=True)
class AccessKey:
    """
    One pair of id and secret that the server knows, temporary if it has a token.

    Args:
        access_key_id: the public half.
        access_key_secret: the secret half.
        security_token: must come with every request signed by a temporary key.
        expiration: when a temporary key ends, in seconds since 1970 by the server's clock; None: never.
    """

    access_key_id: str
    access_key_secret: str = field(repr=False)
    security_token: str | None = field(default=None, repr=False)
    expiration: float | None = field(default=None, validator=_not_nan)

    @classmethod
    def new(cls) -> AccessKey:
        """Make a pair that no other process can guess."""
        return cls(f"partwise-{secrets.token_hex(8)}", secrets.token_hex(20))


def _new_access_keys() -> tuple[AccessKey, ...]:
    return (AccessKey.new(),)


# Written out, since a type checker can't tell what `tuple` and `frozenset` make of their argument.
def _access_keys(keys: Iterable[AccessKey]) -> tuple[AccessKey, ...]:
    return tuple(keys)


def _host_names(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.lower() for name in names)


def _page_limit(_: object, __: Attribute[int], value: int) -> None:
    if not 1 <= value <= PAGE_LIMIT_MAX:
        raise InvalidInput(f"page_limit is from 1 to {PAGE_LIMIT_MAX}, not {value}")


def _positive(_: object, attribute: Attribute[float], value: float) -> None:
    if not 0 < value < math.inf:  # which holds for no NaN
        raise InvalidInput(f"{attribute.name} is a number of seconds above 0, not {value}")


def _not_negative(_: object, attribute: Attribute[int], value: int) -> None:
    if value < 0:
        raise InvalidInput(f"{attribute.name} is 0 or more, not {value}")


def _at_least_one(_: object, attribute: Attribute[int], value: int) -> None:
    if value < 1:
        raise InvalidInput(f"{attribute.name} is 1 or more, not {value}")


def _at_least_one_key(_: object, __: Attribute[tuple[AccessKey, ...]], value: tuple[AccessKey, ...]) -> None:
    if not value:
        raise InvalidInput("a server without an access key can't be signed for: give at least one")


@define(frozen=True)
class ServerSettings:
    """
    All that can be set about an `OSSServer`; a test may replace it (by ``attrs.evolve``) while the server runs.

    Args:
        region: the region id that V4 signatures must name, without ``oss-``.
        access_keys: who may sign; the first is the one that the server's own attributes show. By default one pair
            that is made for these settings, at random.
        allow_anonymous: answer requests without a signature too. Any user and any web page of this machine can then
            store and read.
        accept_v1: answer requests signed by V1, which the service is withdrawing.
        page_limit: the most entries in one page of any list, from 1 to 1000; 1 shows who does not page on.
        min_part_size: bytes that every part but the last listed must have at complete. A backend that asks for more
            gets more.
        checksums: report CRC-64 values at all.
        list_checksums: report them in lists of parts too, as the service does though its reference does not say so.
        multipart_etag: what becomes of a backend's ETag when an object is made of parts, so that no client comes to
            depend on how it is worked out; None: nothing.
        cnames: host name -> bucket, for requests whose URL has the bucket nowhere.
        hosts: host names that requests may name besides loopback ones, the address that the server listens on,
            `cnames` and `path_style_hosts`. ``example.com`` lets in ``examplebucket.example.com``, too.
        path_style_hosts: host names, besides addresses and ``localhost``, that are asked as ``/bucket/key``.
        silence: seconds without a byte after which a request under way ends in RequestTimeout and an idle connection
            is closed. A client that is far slower than 1 KiB a second is given up, too.
        connections: how many clients may be connected at once; further ones are hung up on.
        kept_requests: how many of the newest requests the server keeps for `OSSServer.requests`; 0 keeps none. Where
            they are very large it keeps fewer: all together take no more than some 32 MiB.
        clock: the server's clock, in seconds since 1970.
        clock_offset: seconds that are added to `clock`, to play a client whose own is off.
    """

    region: str = "cn-hangzhou"
    access_keys: tuple[AccessKey, ...] = field(
        factory=_new_access_keys, converter=_access_keys, validator=_at_least_one_key
    )
    allow_anonymous: bool = False
    accept_v1: bool = True
    page_limit: int = field(default=PAGE_LIMIT_MAX, validator=_page_limit)
    min_part_size: int = 100 * KIB
    checksums: bool = True
    list_checksums: bool = True
    multipart_etag: Callable[[str], str] | None = None
    cnames: Mapping[str, str] = field(factory=dict)
    hosts: frozenset[str] = field(default=frozenset(), converter=_host_names)
    path_style_hosts: frozenset[str] = field(default=frozenset(), converter=_host_names)
    silence: float = field(default=60.0, validator=_positive)
    connections: int = field(default=512, validator=_at_least_one)
    kept_requests: int = field(default=20_000, validator=_not_negative)
    clock: Callable[[], float] = time.time
    clock_offset: float = 0.0

    def access_key(self, access_key_id: str) -> AccessKey | None:
        """The access key of this id, if there is one."""
        return next((key for key in self.access_keys if key.access_key_id == access_key_id), None)

    def now(self) -> float:
        """The time as the server has it, in seconds since 1970."""
        return self.clock() + self.clock_offset
