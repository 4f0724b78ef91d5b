"""
The two signatures of Alibaba Cloud OSS, V4 and the older V1, in a header and in a URL.

Nothing here knows the network or reads a clock: a signature is a function of the credentials, the request and a time.
The functions that give the text to be signed stand beside those that sign, so that a server can verify with the
same rules, and so that a refused signature can be compared with what the storage computed.

Times are in seconds since 1970.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time as _time
from collections.abc import Callable, Iterable, Mapping, Sequence
from email.utils import formatdate
from functools import lru_cache, partial
from typing import TypeAlias
from urllib.parse import quote

from attrs import define

from partwise.backends.oss.credentials import Credentials

Query: TypeAlias = Sequence[tuple[str, str | None]]

ALGORITHM_V4 = "OSS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"

#: The longest life of a presigned V4 URL, in seconds.
PRESIGN_V4_SECONDS_MAX = 604_800

_SCOPE_END = "aliyun_v4_request"

#: What V1 signs of a query, beside everything that begins with ``x-oss-`` or ``response-``.
_SIGNED_BY_V1 = frozenset(
    """
    acl append asyncFetch bucketInfo callback callback-var cname comp continuation-token cors delete encryption endTime
    group img inventory inventoryId lifecycle link live location logging metaQuery objectInfo objectMeta partNumber
    policy position qos qosInfo referer regionList replication replicationLocation replicationProgress requestPayment
    resourceGroup restore security-token sequential startTime stat status style styleName symlink tagging
    transferAcceleration uploadId uploads versionId versioning versions vod website worm wormExtend wormId
    """.split()  # noqa: SIM905  # eighty pairs of quotes would hide the names
)


@define(frozen=True)
class Signable:
    """
    A request, as far as it is signed.

    Args:
        method: the HTTP method.
        bucket: the bucket, which is signed even where the URL does not name it; None for the service as a whole.
        key: the object, None for the bucket as a whole.
        query: (name, value) pairs, not encoded; a value of None or "" is a name without value.
        headers: those that are sent, at least those that are signed; names may be in any case.
    """

    method: str
    bucket: str | None
    key: str | None
    query: Query
    headers: Mapping[str, str]

    def with_headers(self, added: Mapping[str, str]) -> Signable:
        """The same request with more headers."""
        return Signable(self.method, self.bucket, self.key, self.query, {**self.headers, **added})

    def with_query(self, query: Query) -> Signable:
        """The same request with another query."""
        return Signable(self.method, self.bucket, self.key, query, self.headers)


@define(frozen=True)
class Signing:
    """
    A request that is all but signed.

    Args:
        headers: what is sent beside the request's own headers; with `authorization` to come.
        authorization: what the Authorization header says before the signature, which is its end.
        text: what the signature is of.
        sign: gives the signature of such a text.
    """

    headers: dict[str, str]
    authorization: str
    text: str
    sign: Callable[[str], str]

    def signed(self) -> dict[str, str]:
        """The headers that make the request a signed one, to be sent beside its own."""
        return {**self.headers, "Authorization": self.authorization + self.sign(self.text)}


# --- what both share -------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def encoded_key(key: str) -> str:
    """A key as it goes into a path: percent-encoded UTF-8, with the slashes kept."""
    return quote(key, safe="/")


def encoded_query(query: Query) -> str:
    """A query as V4 signs it and as it is sent: percent-encoded, by name, a bare name where there is no value."""
    return _joined(tuple(query))


# Each query is asked for twice in a row: to be signed, and to be sent.
@lru_cache(maxsize=64)
def _joined(query: tuple[tuple[str, str | None], ...]) -> str:
    pairs = sorted([(_encoded(name), _encoded(value or "")) for name, value in query])
    return "&".join([f"{name}={value}" if value else name for name, value in pairs])


def _encoded(text: str) -> str:
    # Nearly all there is: names, numbers, ids.
    return text if text.isalnum() and text.isascii() else quote(text, safe="")


@lru_cache(maxsize=8)
def basic_time(seconds: int) -> str:
    """A time as V4 writes it: ``20250309T080706Z``."""
    return _time.strftime("%Y%m%dT%H%M%SZ", _time.gmtime(seconds))


@lru_cache(maxsize=8)
def http_date(seconds: int) -> str:
    """A time as V1 and HTTP write it: ``Sun, 09 Mar 2025 08:07:06 GMT``."""
    return formatdate(seconds, usegmt=True)


# --- V4 --------------------------------------------------------------------------------------------------------------


def scope_v4(time: float, region: str, product: str = "oss") -> str:
    """What a V4 signature is good for: one day, one region, one product."""
    return _scope_v4(basic_time(int(time))[:8], region, product)


@lru_cache(maxsize=32)
def _scope_v4(day: str, region: str, product: str) -> str:
    return f"{day}/{region}/{product}/{_SCOPE_END}"


def canonical_request_v4(request: Signable, additional_headers: Iterable[str] = ()) -> str:
    """
    The request as V4 hashes it.

    Args:
        request: the request; in a presigned URL its query holds everything but the signature itself.
        additional_headers: names of headers to sign beside those that always are; what is not sent is left out.
    """
    resource = f"/{request.bucket}/{encoded_key(request.key or '')}" if request.bucket else "/"
    additional = _really_additional(request.headers, additional_headers)
    named = [(name.lower(), value) for name, value in request.headers.items()]
    signed = sorted(
        [(name, value.strip()) for name, value in named if _always_signed(name) or name in additional],
    )
    lines = "".join([f"{name}:{value}\n" for name, value in signed])
    return (
        f"{request.method}\n{resource}\n{encoded_query(request.query)}\n{lines}\n{';'.join(additional)}\n"
        f"{UNSIGNED_PAYLOAD}"
    )


def string_to_sign_v4(canonical_request: str, time: float, region: str, product: str = "oss") -> str:
    """The text that a V4 signature is of."""
    return _before_digest_v4(time, region, product) + _digest_v4(canonical_request)


def _before_digest_v4(time: float, region: str, product: str) -> str:
    return f"{ALGORITHM_V4}\n{basic_time(int(time))}\n{scope_v4(time, region, product)}\n"


def _digest_v4(canonical_request: str) -> str:
    return hashlib.sha256(canonical_request.encode()).hexdigest()


def signature_v4(secret: str, string_to_sign: str, time: float, region: str, product: str = "oss") -> str:
    """The V4 signature of a text, in hexadecimal."""
    return _hexdigest(_signing_v4(secret, basic_time(int(time))[:8], region, product), string_to_sign)


def _hexdigest(empty: hmac.HMAC, text: str) -> str:
    signature = empty.copy()
    signature.update(text.encode())
    return signature.hexdigest()


def signing_v4(
    credentials: Credentials,
    request: Signable,
    time: float,
    *,
    region: str,
    product: str = "oss",
    additional_headers: Iterable[str] = (),
) -> Signing:
    """A request that is all but signed; its text is the canonical request. Arguments as for `sign_v4`."""
    added = {"x-oss-date": basic_time(int(time)), "x-oss-content-sha256": UNSIGNED_PAYLOAD}
    if credentials.security_token is not None:
        added["x-oss-security-token"] = credentials.security_token
    additional = _really_additional(request.headers, additional_headers)
    canonical = canonical_request_v4(request.with_headers(added), additional)
    # Where there are none, their name must not be there either.
    named = f"AdditionalHeaders={';'.join(additional)}," if additional else ""
    scope = scope_v4(time, region, product)
    before_digest = _before_digest_v4(time, region, product)
    empty = _signing_v4(credentials.access_key_secret, basic_time(int(time))[:8], region, product)
    return Signing(
        added,
        f"{ALGORITHM_V4} Credential={credentials.access_key_id}/{scope},{named}Signature=",
        canonical,
        lambda canonical_request: _hexdigest(empty, before_digest + _digest_v4(canonical_request)),
    )


def sign_v4(
    credentials: Credentials,
    request: Signable,
    time: float,
    *,
    region: str,
    product: str = "oss",
    additional_headers: Iterable[str] = (),
) -> dict[str, str]:
    """
    The headers that make a request a signed one, to be sent beside its own.

    Args:
        credentials: whose signature it is.
        request: what is sent anyway.
        time: the storage's time, within 15 minutes.
        region: the region's id, such as ``cn-hangzhou``, without ``oss-``.
        product: ``oss``; another on a cloud box.
        additional_headers: see `canonical_request_v4`.
    """
    return signing_v4(
        credentials, request, time, region=region, product=product, additional_headers=additional_headers
    ).signed()


def presign_v4(
    credentials: Credentials,
    request: Signable,
    time: float,
    *,
    expires_in: int,
    region: str,
    product: str = "oss",
    additional_headers: Iterable[str] = (),
) -> list[tuple[str, str | None]]:
    """
    The whole query of a URL that is good by itself for `expires_in` seconds (1 to 604800) from `time`.

    The headers that were signed must be sent with it as they are here.

    Raises:
        ValueError: `expires_in` is out of bounds.
    """
    if not 1 <= expires_in <= PRESIGN_V4_SECONDS_MAX:
        raise ValueError(f"a V4 URL is good for 1 to {PRESIGN_V4_SECONDS_MAX} seconds, not {expires_in}")
    additional = _really_additional(request.headers, additional_headers)
    query: list[tuple[str, str | None]] = [
        *request.query,
        ("x-oss-signature-version", ALGORITHM_V4),
        ("x-oss-credential", f"{credentials.access_key_id}/{scope_v4(time, region, product)}"),
        ("x-oss-date", basic_time(int(time))),
        ("x-oss-expires", str(expires_in)),
    ]
    if additional:
        query.append(("x-oss-additional-headers", ";".join(additional)))
    if credentials.security_token is not None:
        query.append(("x-oss-security-token", credentials.security_token))
    canonical = canonical_request_v4(request.with_query(query), additional)
    signature = signature_v4(
        credentials.access_key_secret, string_to_sign_v4(canonical, time, region, product), time, region, product
    )
    return [*query, ("x-oss-signature", signature)]


def _always_signed(lower_name: str) -> bool:
    return lower_name.startswith("x-oss-") or lower_name in ("content-type", "content-md5")


def _really_additional(headers: Mapping[str, str], wanted: Iterable[str]) -> list[str]:
    asked = {name.lower() for name in wanted}
    if not asked:
        return []
    return sorted(name for name in asked & {name.lower() for name in headers} if not _always_signed(name))


# A key is good for a day, and deriving it costs several times what the signature does. Few are in use at a time; the
# room is for programs that write to several regions, and for the turn of the day.
@lru_cache(maxsize=32)
def _signing_v4(secret: str, day: str, region: str, product: str) -> hmac.HMAC:
    """The signing of a text that is still empty, to be copied: to begin with the key again would take as long again."""
    key = f"aliyun_v4{secret}".encode()
    for link in (day, region, product, _SCOPE_END):
        key = hmac.digest(key, link.encode(), "sha256")
    return hmac.new(key, digestmod="sha256")


# --- V1 --------------------------------------------------------------------------------------------------------------


def string_to_sign_v1(request: Signable, date: str) -> str:
    """
    The text that a V1 signature is of.

    Args:
        request: the request; of its query only the part is signed that V1 knows of.
        date: the `x-oss-date` that is sent, otherwise the `Date`; in a presigned URL the second at which it expires.
    """
    headers = {name.lower(): value.strip() for name, value in request.headers.items()}
    lines = "".join([f"{name}:{value}\n" for name, value in sorted(headers.items()) if name.startswith("x-oss-")])
    resource = f"/{request.bucket}/{request.key or ''}" if request.bucket else "/"
    signed = sorted([(name, value or "") for name, value in request.query if _signed_by_v1(name)])
    if signed:
        resource += "?" + "&".join([f"{name}={value}" if value else name for name, value in signed])
    return (
        f"{request.method}\n{headers.get('content-md5', '')}\n{headers.get('content-type', '')}\n{date}\n"
        f"{lines}{resource}"
    )


def signature_v1(secret: str, string_to_sign: str) -> str:
    """The V1 signature of a text, in base64."""
    return base64.b64encode(hmac.digest(secret.encode(), string_to_sign.encode(), "sha1")).decode()


def signing_v1(credentials: Credentials, request: Signable, time: float) -> Signing:
    """A request that is all but signed; its text is the string to sign. Arguments as for `sign_v1`."""
    date = http_date(int(time))
    added = {"Date": date}
    if credentials.security_token is not None:
        added["x-oss-security-token"] = credentials.security_token
    return Signing(
        added,
        f"OSS {credentials.access_key_id}:",
        string_to_sign_v1(request.with_headers(added), date),
        partial(signature_v1, credentials.access_key_secret),
    )


def sign_v1(credentials: Credentials, request: Signable, time: float) -> dict[str, str]:
    """The headers that make a request a signed one, to be sent beside its own; see `sign_v4`."""
    return signing_v1(credentials, request, time).signed()


def presign_v1(
    credentials: Credentials, request: Signable, time: float, *, expires_in: int
) -> list[tuple[str, str | None]]:
    """
    The whole query of a URL that is good by itself until `expires_in` seconds after `time`.

    The headers that were signed must be sent with it as they are here.
    """
    expires = str(int(time) + expires_in)
    query = list(request.query)
    if credentials.security_token is not None:
        query.append(("security-token", credentials.security_token))
    signature = signature_v1(credentials.access_key_secret, string_to_sign_v1(request.with_query(query), expires))
    return [*query, ("OSSAccessKeyId", credentials.access_key_id), ("Expires", expires), ("Signature", signature)]


def _signed_by_v1(name: str) -> bool:
    return name in _SIGNED_BY_V1 or name.startswith(("x-oss-", "response-"))
