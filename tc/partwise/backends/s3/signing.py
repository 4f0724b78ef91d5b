"""
Signature Version 4 of AWS, in the form of a header. Pure.

The functions that return the text to sign are public, so that a rejected signature can be compared with the text that
the service reports. Times are in seconds since 1970.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache

from attrs import define

from partwise.backends._http.credentials import Credentials
from partwise.backends._http.signatures import (
    UNSIGNED_PAYLOAD,
    PreparedSignature,
    Query,
    basic_time,
    encoded_query,
    keyed_hmac,
)

ALGORITHM = "AWS4-HMAC-SHA256"

#: The header with the SHA-256 of the body, or with a word that says why there is none.
PAYLOAD_HEADER = "x-amz-content-sha256"

EMPTY_PAYLOAD = hashlib.sha256(b"").hexdigest()

_SCOPE_END = "aws4_request"


@define(frozen=True)
class PathRequest:
    """The parts of a request that a signature covers."""

    method: str
    path: str  # percent-encoded, as it is sent: S3 does not normalise it
    query: Query  # (name, value) pairs, not encoded
    headers: Mapping[str, str]  # all headers to sign, Host included; names in any case

    def with_headers(self, added: Mapping[str, str]) -> PathRequest:
        """Return the same request with more headers."""
        return PathRequest(self.method, self.path, self.query, {**self.headers, **added})


def canonical_query(query: Query) -> str:
    """
    Return a query as it is signed.

    It is as it is sent, but has a "=" also where there is no value.
    """
    text = encoded_query(query)
    return "&".join(pair if "=" in pair else f"{pair}=" for pair in text.split("&")) if text else ""


def canonical_request(request: PathRequest, payload: str) -> str:
    """
    Return the canonical request.

    Args:
        request: the request; all of its headers are signed.
        payload: the value of `PAYLOAD_HEADER`.
    """
    # White space around a value is cut, and white space in it becomes one space.
    signed = sorted((name.lower(), " ".join(value.split())) for name, value in request.headers.items())
    lines = "".join([f"{name}:{value}\n" for name, value in signed])
    names = ";".join([name for name, _ in signed])
    return f"{request.method}\n{request.path}\n{canonical_query(request.query)}\n{lines}\n{names}\n{payload}"


def scope(time: float, region: str, service: str = "s3") -> str:
    """Return the scope in which a signature is valid: a day, a region, a service."""
    return _scope(basic_time(int(time))[:8], region, service)


@lru_cache(maxsize=32)
def _scope(day: str, region: str, service: str) -> str:
    return f"{day}/{region}/{service}/{_SCOPE_END}"


def string_to_sign(canonical: str, time: float, region: str, service: str = "s3") -> str:
    """Return the text that is signed."""
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return f"{ALGORITHM}\n{basic_time(int(time))}\n{scope(time, region, service)}\n{digest}"


def prepare(
    credentials: Credentials,
    request: PathRequest,
    time: float,
    *,
    region: str,
    service: str = "s3",
    digest: str | None = None,
) -> PreparedSignature:
    """
    Prepare a signature, whose text is the canonical request.

    S3 tolerates a `time` that is 15 minutes wrong.

    Args:
        credentials: the access key.
        request: the request. If it has no `PAYLOAD_HEADER`, its body is not signed, and the header says so.
        time: the time of the request.
        region: the region of the bucket.
        service: ``s3``, ``s3-outposts``, or another service of AWS.
        digest: the SHA-256 of the body, for services other than S3: it is signed, and no header has it.
    """
    date = basic_time(int(time))
    stated = next((value for name, value in request.headers.items() if name.lower() == PAYLOAD_HEADER), None)
    payload = digest or stated or UNSIGNED_PAYLOAD
    added = {"x-amz-date": date}
    if payload is UNSIGNED_PAYLOAD:
        added[PAYLOAD_HEADER] = payload
    if credentials.security_token is not None:
        added["x-amz-security-token"] = credentials.security_token
    request = request.with_headers(added)
    canonical = canonical_request(request, payload)
    keyed = keyed_hmac(f"AWS4{credentials.access_key_secret}", date[:8], region, service, _SCOPE_END)

    def sign(canonical_request: str) -> str:
        signature = keyed.copy()
        signature.update(string_to_sign(canonical_request, time, region, service).encode())
        return signature.hexdigest()

    names = ";".join(sorted(name.lower() for name in request.headers))
    credential = f"{credentials.access_key_id}/{scope(time, region, service)}"
    authorization = f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature="
    return PreparedSignature(added, authorization, canonical, sign)
