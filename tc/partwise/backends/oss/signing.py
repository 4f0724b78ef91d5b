"""
The signatures of Alibaba Cloud OSS, V4 and the older V1. Pure.

A signature is a function of the credentials, the request and the time. The functions that return the text to sign are
public, so that a rejected signature can be compared with the text that OSS reports.

Times are in seconds since 1970.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from email.utils import formatdate
from functools import lru_cache, partial

from attrs import define

from partwise.backends._http.credentials import Credentials
from partwise.backends._http.signatures import (
    UNSIGNED_PAYLOAD,
    PreparedSignature,
    Query,
    basic_time,
    encoded_key,
    encoded_query,
    keyed_hmac,
)

ALGORITHM_V4 = "OSS4-HMAC-SHA256"

_SCOPE_END = "aliyun_v4_request"

#: The query parameters that V1 signs, in addition to those that begin with ``x-oss-`` or ``response-``.
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
    """The parts of a request that a signature covers."""

    method: str
    # the bucket, which is signed even if the URL does not contain it; None for requests without a bucket
    bucket: str | None
    key: str | None  # the key; None for requests to the bucket
    query: Query  # (name, value) pairs, not encoded; with a value of None or "" only the name is sent
    headers: Mapping[str, str]  # the headers, at least those that are signed; names in any case

    def with_headers(self, added: Mapping[str, str]) -> Signable:
        """Return the same request with more headers."""
        return Signable(self.method, self.bucket, self.key, self.query, {**self.headers, **added})


@lru_cache(maxsize=8)
def http_date(seconds: int) -> str:
    """Return a time in the format of V1 and HTTP: ``Sun, 09 Mar 2025 08:07:06 GMT``."""
    return formatdate(seconds, usegmt=True)


# --- V4 --------------------------------------------------------------------------------------------------------------


def scope_v4(time: float, region: str, product: str = "oss") -> str:
    """Return the scope in which a V4 signature is valid: a day, a region, a product."""
    return _scope_v4(basic_time(int(time))[:8], region, product)


@lru_cache(maxsize=32)
def _scope_v4(day: str, region: str, product: str) -> str:
    return f"{day}/{region}/{product}/{_SCOPE_END}"


def canonical_request_v4(request: Signable, additional_headers: Iterable[str] = ()) -> str:
    """
    Return the canonical request of V4.

    Args:
        request: the request; a presigned URL is signed with all its parameters but the signature.
        additional_headers: names of headers to sign in addition to those that V4 always signs; those that the request
            does not have are ignored.
    """
    resource = f"/{request.bucket}/{encoded_key(request.key or '')}" if request.bucket else "/"
    additional = _additional_names(request.headers, additional_headers)
    named = [(name.lower(), value) for name, value in request.headers.items()]
    signed = sorted([(name, value.strip()) for name, value in named if _always_signed(name) or name in additional])
    lines = "".join([f"{name}:{value}\n" for name, value in signed])
    return (
        f"{request.method}\n{resource}\n{encoded_query(request.query)}\n{lines}\n{';'.join(additional)}\n"
        f"{UNSIGNED_PAYLOAD}"
    )


def string_to_sign_v4(canonical_request: str, time: float, region: str, product: str = "oss") -> str:
    """Return the text that V4 signs."""
    digest = hashlib.sha256(canonical_request.encode()).hexdigest()
    return f"{ALGORITHM_V4}\n{basic_time(int(time))}\n{scope_v4(time, region, product)}\n{digest}"


def prepare_v4(
    credentials: Credentials,
    request: Signable,
    time: float,
    *,
    region: str,
    product: str = "oss",
    additional_headers: Iterable[str] = (),
) -> PreparedSignature:
    """
    Prepare a V4 signature, whose text is the canonical request.

    OSS tolerates a `time` that is 15 minutes wrong. The region's id is without ``oss-``; the product is ``oss``, except
    on a cloud box. For the additional headers see `canonical_request_v4`.
    """
    added = {"x-oss-date": basic_time(int(time)), "x-oss-content-sha256": UNSIGNED_PAYLOAD}
    if credentials.security_token is not None:
        added["x-oss-security-token"] = credentials.security_token
    additional = _additional_names(request.headers, additional_headers)
    canonical = canonical_request_v4(request.with_headers(added), additional)
    # The field is omitted if it would be empty.
    named = f"AdditionalHeaders={';'.join(additional)}," if additional else ""
    scope = scope_v4(time, region, product)
    empty = keyed_hmac(
        f"aliyun_v4{credentials.access_key_secret}", basic_time(int(time))[:8], region, product, _SCOPE_END
    )

    def sign(canonical_request: str) -> str:
        signature = empty.copy()
        signature.update(string_to_sign_v4(canonical_request, time, region, product).encode())
        return signature.hexdigest()

    authorization = f"{ALGORITHM_V4} Credential={credentials.access_key_id}/{scope},{named}Signature="
    return PreparedSignature(added, authorization, canonical, sign)


def _always_signed(lower_name: str) -> bool:
    return lower_name.startswith("x-oss-") or lower_name in ("content-type", "content-md5")


def _additional_names(headers: Mapping[str, str], additional_headers: Iterable[str]) -> list[str]:
    requested = {name.lower() for name in additional_headers}
    if not requested:
        return []
    return sorted(name for name in requested & {name.lower() for name in headers} if not _always_signed(name))


# --- V1 --------------------------------------------------------------------------------------------------------------


def string_to_sign_v1(request: Signable, date: str) -> str:
    """
    Return the text that V1 signs.

    Args:
        request: the request; V1 signs only some parameters of the query.
        date: the `x-oss-date` header if it is sent, otherwise `Date`; for a presigned URL the second when it expires.
    """
    headers = {name.lower(): value.strip() for name, value in request.headers.items()}
    lines = "".join([f"{name}:{value}\n" for name, value in sorted(headers.items()) if name.startswith("x-oss-")])
    resource = f"/{request.bucket}/{request.key or ''}" if request.bucket else "/"
    also = ("x-oss-", "response-")
    query = [(name, value or "") for name, value in request.query if name in _SIGNED_BY_V1 or name.startswith(also)]
    if query:
        resource += "?" + "&".join([f"{name}={value}" if value else name for name, value in sorted(query)])
    return (
        f"{request.method}\n{headers.get('content-md5', '')}\n{headers.get('content-type', '')}\n{date}\n"
        f"{lines}{resource}"
    )


def signature_v1(secret: str, string_to_sign: str) -> str:
    """Return the V1 signature of a text, in base64."""
    return base64.b64encode(hmac.digest(secret.encode(), string_to_sign.encode(), "sha1")).decode()


def prepare_v1(credentials: Credentials, request: Signable, time: float) -> PreparedSignature:
    """Prepare a V1 signature, whose text is the string to sign."""
    date = http_date(int(time))
    added = {"Date": date}
    if credentials.security_token is not None:
        added["x-oss-security-token"] = credentials.security_token
    return PreparedSignature(
        added,
        f"OSS {credentials.access_key_id}:",
        string_to_sign_v1(request.with_headers(added), date),
        partial(signature_v1, credentials.access_key_secret),
    )
