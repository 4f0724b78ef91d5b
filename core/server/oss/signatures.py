"""
Who signed a request, and whether the signature is right: V1 and V4, in a header or in the query.

This is the server's own reading of the rules. It shares no line with the client's signer, so that the two can't agree
on the same mistake. A claim is read off the request first (`_claim_of`); then its time, its token and its signature are
checked against what the server knows.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal
from urllib.parse import quote

from attrs import define

from partwise.server.messages import Request, to_bytes
from partwise.server.oss.addressing import Place
from partwise.server.oss.errors import OSSError, bad_argument
from partwise.server.oss.xml import xml_time
from partwise.server.settings import AccessKey, ServerSettings

#: How far the date of a request may be from the server's clock, in seconds.
SKEW_MAX = 900

#: How long a presigned V4 URL may hold, in seconds.
PRESIGNED_MAX = 604_800

_V4 = "OSS4-HMAC-SHA256"
_TERMINATOR = "aliyun_v4_request"
_UNSIGNED = "UNSIGNED-PAYLOAD"

_SUBRESOURCE_NAMES = """
    acl append asyncFetch bucketInfo callback callback-var cname comp continuation-token cors delete encryption endTime
    group img inventory inventoryId lifecycle link live location logging metaQuery objectInfo objectMeta partNumber
    policy position qos qosInfo referer regionList replication replicationLocation replicationProgress requestPayment
    resourceGroup restore security-token sequential startTime stat status style styleName symlink tagging
    transferAcceleration uploadId uploads versionId versioning versions vod website worm wormExtend wormId
    response-content-type response-content-language response-expires response-cache-control
    response-content-disposition response-content-encoding
"""

#: The query keys that V1 signs, besides every x-oss-* one.
SUBRESOURCES = frozenset(_SUBRESOURCE_NAMES.split())


@define(frozen=True)
class _Claim:
    """What a request says of its signature."""

    version: Literal["v1", "v4"]
    presigned: bool
    access_key_id: str
    signature: str
    token: str | None
    date: str
    """The date line of the string to sign; of a presigned V1 URL the second at which it ends."""
    scope: str = ""
    additional: tuple[str, ...] = ()
    expires: str = ""


def authenticate(request: Request, place: Place, settings: ServerSettings, now: float) -> AccessKey | None:
    """
    The access key that signed the request; None where there is no signature and none is needed.

    Args:
        request: the request.
        place: the bucket and key it is for, which are signed however they are addressed.
        settings: whom the server knows, and what it accepts.
        now: the server's clock, in seconds since 1970.

    Raises:
        OSSError: the signature is missing, malformed, out of its time, of an unknown key, or wrong.
    """
    claim = _claim_of(request)
    if claim is None:
        if settings.allow_anonymous:
            return None
        raise OSSError("AccessDenied", "Anonymous access is forbidden for this operation.")
    if claim.version == "v1" and not settings.accept_v1:
        raise OSSError("AccessDenied", "Signature version 1 is not accepted: use V4.", ec="0002-00000080")
    access_key = settings.access_key(claim.access_key_id)
    if access_key is None:
        raise OSSError("InvalidAccessKeyId", elements={"OSSAccessKeyId": claim.access_key_id})
    if claim.version == "v4":
        _check_scope(claim, settings.region)
    _check_time(claim, now)
    _check_token(claim, access_key, settings, now)
    _check_signature(claim, request, place, access_key)
    return access_key


# --- reading the claim -----------------------------------------------------------------------------------------------


def _claim_of(request: Request) -> _Claim | None:
    header = request.header("authorization")
    in_query = [name for name in ("OSSAccessKeyId", "Signature") if request.has_param(name)]
    in_query += [name for name in ("x-oss-signature-version", "x-oss-signature") if request.has_param(name)]
    if header is not None and in_query:
        raise bad_argument(in_query[0], "", "Only one of the header and the query may carry a signature.")
    if header is not None:
        return _v4_header(request, header) if header.startswith(_V4) else _v1_header(request, header)
    if not in_query:
        return None
    if request.header("x-oss-security-token") is not None:
        raise OSSError("InvalidRequest", "The token of a presigned URL belongs into its query.")
    return _v4_query(request) if in_query[0].startswith("x-oss-") else _v1_query(request)


def _v1_header(request: Request, header: str) -> _Claim:
    scheme, _, rest = header.partition(" ")
    access_key_id, colon, signature = rest.strip().rpartition(":")
    if scheme != "OSS" or not colon or not access_key_id:
        raise bad_argument("Authorization", scheme, "Authorization header is invalid.")
    date = request.header("x-oss-date") or request.header("date") or ""
    return _Claim("v1", False, access_key_id, signature, request.header("x-oss-security-token"), date)


def _v1_query(request: Request) -> _Claim:
    return _Claim(
        "v1",
        True,
        _required(request, "OSSAccessKeyId"),
        _required(request, "Signature"),
        request.param("security-token"),
        _required(request, "Expires"),
    )


def _v4_header(request: Request, header: str) -> _Claim:
    fields: dict[str, str] = {}
    for field in header[len(_V4) :].split(","):
        name, equals, value = field.strip().partition("=")
        if not equals or name not in ("Credential", "AdditionalHeaders", "Signature") or name in fields:
            raise bad_argument("Authorization", name, "Authorization header is invalid.")
        fields[name] = value
    if not {"Credential", "Signature"} <= fields.keys():
        raise bad_argument("Authorization", "", "Authorization header is invalid.")
    if fields.get("AdditionalHeaders") == "":
        raise OSSError("InvalidArgument", "AdditionalHeaders in Authorization header is empty.", ec="0002-00000209")
    if request.header("x-oss-content-sha256") is None:
        raise bad_argument("x-oss-content-sha256", "", "Missing x-oss-content-sha256 header.")
    access_key_id, scope = _credential(fields["Credential"])
    return _Claim(
        "v4",
        False,
        access_key_id,
        fields["Signature"],
        request.header("x-oss-security-token"),
        request.header("x-oss-date") or "",
        scope,
        _header_names(fields.get("AdditionalHeaders", "")),
    )


def _v4_query(request: Request) -> _Claim:
    version = _required(request, "x-oss-signature-version")
    if version != _V4:
        raise bad_argument("x-oss-signature-version", version, "The signature version is unknown.")
    access_key_id, scope = _credential(_required(request, "x-oss-credential"))
    return _Claim(
        "v4",
        True,
        access_key_id,
        _required(request, "x-oss-signature"),
        request.param("x-oss-security-token"),
        _required(request, "x-oss-date"),
        scope,
        _header_names(request.param("x-oss-additional-headers") or ""),
        _required(request, "x-oss-expires"),
    )


def _required(request: Request, name: str) -> str:
    value = request.param(name)
    if not value:
        raise bad_argument(name, "", f"The query of a presigned URL needs {name}.")
    return value


def _credential(text: str) -> tuple[str, str]:
    fields = text.rsplit("/", 4)
    if len(fields) != 5 or not all(fields):
        raise bad_argument("Credential", text, "The credential is not an id and a scope.")
    return fields[0], "/".join(fields[1:])


def _header_names(text: str) -> tuple[str, ...]:
    return tuple(sorted({name.strip().lower() for name in text.split(";") if name.strip()}))


# --- scope, time and token -------------------------------------------------------------------------------------------


def _check_scope(claim: _Claim, region: str) -> None:
    date, claimed_region, product, terminator = claim.scope.split("/")
    if claimed_region != region:
        raise OSSError("InvalidArgument", "Invalid signing region in Authorization header.", ec="0002-00000226")
    if product != "oss":
        raise OSSError("InvalidArgument", "Invalid signing product in Authorization header.", ec="0002-00000227")
    if terminator != _TERMINATOR or date != claim.date[:8]:
        raise bad_argument("Credential", claim.scope, "Invalid signing date or terminator in the scope.")


def _check_time(claim: _Claim, now: float) -> None:
    if claim.presigned:
        _check_validity(claim, now)
        return
    moment = _moment(claim)
    if abs(now - moment) > SKEW_MAX:
        raise OSSError(
            "RequestTimeTooSkewed",
            elements={
                "RequestTime": xml_time(moment),
                "ServerTime": xml_time(now),
                "MaxAllowedSkewMilliseconds": str(SKEW_MAX * 1000),
            },
        )


def _check_validity(claim: _Claim, now: float) -> None:
    if claim.version == "v1":
        begin, end = float("-inf"), float(_whole_number("Expires", claim.date))
    else:
        seconds = _whole_number("x-oss-expires", claim.expires)
        if not 1 <= seconds <= PRESIGNED_MAX:
            raise OSSError(
                "InvalidArgument", f"x-oss-expires is from 1 to {PRESIGNED_MAX} seconds.", ec="0002-00000232"
            )
        moment = _moment(claim)
        begin, end = moment - SKEW_MAX, moment + seconds
    if now < begin:
        raise OSSError("AccessDenied", "Request is not valid yet.", elements={"ServerTime": xml_time(now)})
    if now > end:
        elements = {"Expires": xml_time(end), "ServerTime": xml_time(now)}
        raise OSSError("AccessDenied", "Request has expired.", elements=elements)


def _whole_number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise bad_argument(name, text, f"{name} is not a number of seconds.")
    return int(text)


def _moment(claim: _Claim) -> float:
    try:
        if claim.version == "v4":
            return datetime.strptime(claim.date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        return parsedate_to_datetime(claim.date).timestamp()
    except ValueError:
        raise OSSError("AccessDenied", "OSS authentication requires a valid Date.") from None


def _check_token(claim: _Claim, access_key: AccessKey, settings: ServerSettings, now: float) -> None:
    elements = {"OSSAccessKeyId": claim.access_key_id}
    if claim.token is None:
        if access_key.security_token is not None:
            raise OSSError("InvalidAccessKeyId", ec="0002-00000003", elements=elements)
        return
    if access_key.security_token is None:
        raise OSSError("InvalidAccessKeyId", ec="0002-00000002", elements=elements)
    if not _equal(claim.token, access_key.security_token):
        tokens = {key.security_token for key in settings.access_keys}
        raise OSSError("AccessKeyIdAndSecurityTokenNotMatch" if claim.token in tokens else "InvalidSecurityToken")
    if access_key.expiration is not None and now >= access_key.expiration:
        raise OSSError("SecurityTokenExpired")


# --- the signature itself --------------------------------------------------------------------------------------------


def _check_signature(claim: _Claim, request: Request, place: Place, access_key: AccessKey) -> None:
    elements = {"OSSAccessKeyId": claim.access_key_id, "SignatureProvided": claim.signature}
    if claim.version == "v1":
        string_to_sign = _v1_string_to_sign(claim, request, place)
        expected = _v1_signature(access_key.access_key_secret, string_to_sign)
    else:
        canonical_request = _v4_canonical_request(claim, request, place)
        string_to_sign = _v4_string_to_sign(claim, canonical_request)
        expected = _v4_signature(access_key.access_key_secret, claim.scope, string_to_sign)
        elements["CanonicalRequest"] = canonical_request.decode("utf-8", "replace")
    if not _equal(expected, claim.signature):
        elements["StringToSign"] = string_to_sign.decode("utf-8", "replace")
        elements["StringToSignBytes"] = string_to_sign.hex(" ").upper()
        raise OSSError("SignatureDoesNotMatch", elements=elements)


def _equal(left: str, right: str) -> bool:
    return hmac.compare_digest(to_bytes(left), to_bytes(right))


def _v1_string_to_sign(claim: _Claim, request: Request, place: Place) -> bytes:
    signed_headers = _header_lines(request, {name for name, _ in request.headers if name.startswith("x-oss-")})
    lines = [request.method, request.header("content-md5") or "", request.header("content-type") or "", claim.date]
    return to_bytes("\n".join(lines) + "\n" + signed_headers + _v1_resource(request, place))


def _v1_resource(request: Request, place: Place) -> str:
    path = "/" if place.bucket is None else f"/{place.bucket}/{place.key or ''}"
    signed = sorted(
        (to_bytes(name), name, value)
        for name, value in request.query
        if name in SUBRESOURCES or name.startswith("x-oss-")
    )
    query = "&".join(f"{name}={value}" if value else name for _, name, value in signed)
    return f"{path}?{query}" if query else path


def _v1_signature(secret: str, string_to_sign: bytes) -> str:
    digest = hmac.new(to_bytes(secret), string_to_sign, "sha1").digest()
    return base64.b64encode(digest).decode()


def _v4_canonical_request(claim: _Claim, request: Request, place: Place) -> bytes:
    path = "/" if place.bucket is None else f"/{place.bucket}/{place.key or ''}"
    query = sorted(
        (_encoded(name), _encoded(value))
        for name, value in request.query
        if not (claim.presigned and name == "x-oss-signature")
    )
    sent = {name for name, _ in request.headers}
    always = {name for name in sent if name.startswith("x-oss-") or name in ("content-type", "content-md5")}
    # Only what was sent and is not signed anyway can be signed in addition.
    additional = [name for name in claim.additional if name in sent - always]
    return to_bytes(
        "\n".join(
            (
                request.method,
                quote(to_bytes(path), safe="/-_.~"),
                "&".join(f"{name}={value}" if value else name for name, value in query),
                _header_lines(request, always.union(additional)),
                ";".join(additional),
                request.header("x-oss-content-sha256") or _UNSIGNED,
            )
        )
    )


def _encoded(text: str) -> str:
    return quote(to_bytes(text), safe="-_.~")


def _header_lines(request: Request, names: Iterable[str]) -> str:
    return "".join(f"{name}:{(request.header(name) or '').strip()}\n" for name in sorted(names))


def _v4_string_to_sign(claim: _Claim, canonical_request: bytes) -> bytes:
    digest = hashlib.sha256(canonical_request).hexdigest()
    return to_bytes(f"{_V4}\n{claim.date}\n{claim.scope}\n{digest}")


def _v4_signature(secret: str, scope: str, string_to_sign: bytes) -> str:
    key = b"aliyun_v4" + to_bytes(secret)
    for step in scope.split("/"):
        key = hmac.digest(key, to_bytes(step), "sha256")
    return hmac.digest(key, string_to_sign, "sha256").hex()
