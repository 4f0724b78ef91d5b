"""
Authentication of requests: signatures V1 and V4, in a header or in the query.

This is a second, independent implementation of the specification. It shares no code with the signer of the client, so
that a mistake in one of them is detected. `_parse_claim` reads what the request claims about its signature; then time,
security token and signature of the claim are checked.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Literal
from urllib.parse import quote

from attrs import define

from partwise.http_errors import parse_http_date
from partwise.server.authentication import derived_key, equal_secrets
from partwise.server.errors import ServiceError, bad_argument
from partwise.server.messages import RequestTarget, ServerRequest, to_bytes
from partwise.server.settings import AccessKey, ServerSettings
from partwise.server.times import parse_basic_time, xml_time

#: The maximum difference between the date of a request and the server's clock, in seconds.
SKEW_MAX = 900

#: The maximum validity of a presigned V4 URL, in seconds.
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

#: The query parameters that V1 signs, besides all x-oss-* parameters.
SUBRESOURCES = frozenset(_SUBRESOURCE_NAMES.split())


@define(frozen=True)
class _Claim:
    """What a request claims about its signature."""

    version: Literal["v1", "v4"]
    presigned: bool
    access_key_id: str
    signature: str
    token: str | None
    date: str
    """The date line of the string to sign; for a presigned V1 URL the second at which it expires."""
    scope: str = ""
    additional: tuple[str, ...] = ()
    expires: str = ""


def authenticate(
    request: ServerRequest, target: RequestTarget, settings: ServerSettings, now: float
) -> AccessKey | None:
    """
    Return the access key that signed; None for an allowed unsigned request.

    Bucket and key are signed independently of the style of the URL.

    Raises:
        ServiceError: the signature is missing, malformed, expired, made by an unknown key, or wrong.
    """
    claim = _parse_claim(request)
    if claim is None:
        if settings.allow_anonymous:
            return None
        raise ServiceError("AccessDenied", "Anonymous access is forbidden for this operation.")
    if claim.version == "v1" and not settings.accept_v1:
        raise _refusal("AccessDenied", "0002-00000080", "Signature version 1 is not accepted: use V4.")
    access_key = settings.access_key(claim.access_key_id)
    if access_key is None:
        raise ServiceError("InvalidAccessKeyId", elements={"OSSAccessKeyId": claim.access_key_id})
    if claim.version == "v4":
        _check_scope(claim, settings.region)
    _check_time(claim, now)
    _check_token(claim, access_key, settings, now)
    _check_signature(claim, request, target, access_key)
    return access_key


# --- parsing the claim -----------------------------------------------------------------------------------------------


def _parse_claim(request: ServerRequest) -> _Claim | None:
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
        raise ServiceError("InvalidRequest", "The security token of a presigned URL must be in its query.")
    return _v4_query(request) if in_query[0].startswith("x-oss-") else _v1_query(request)


def _v1_header(request: ServerRequest, header: str) -> _Claim:
    scheme, _, rest = header.partition(" ")
    access_key_id, colon, signature = rest.strip().rpartition(":")
    if scheme != "OSS" or not colon or not access_key_id:
        raise bad_argument("Authorization", scheme, "Authorization header is invalid.")
    date = request.header("x-oss-date") or request.header("date") or ""
    return _Claim("v1", False, access_key_id, signature, request.header("x-oss-security-token"), date)


def _v1_query(request: ServerRequest) -> _Claim:
    return _Claim(
        "v1",
        True,
        _required(request, "OSSAccessKeyId"),
        _required(request, "Signature"),
        request.param("security-token"),
        _required(request, "Expires"),
    )


def _v4_header(request: ServerRequest, header: str) -> _Claim:
    fields: dict[str, str] = {}
    for field in header[len(_V4) :].split(","):
        name, equals, value = field.strip().partition("=")
        if not equals or name not in ("Credential", "AdditionalHeaders", "Signature") or name in fields:
            raise bad_argument("Authorization", name, "Authorization header is invalid.")
        fields[name] = value
    if not {"Credential", "Signature"} <= fields.keys():
        raise bad_argument("Authorization", "", "Authorization header is invalid.")
    if fields.get("AdditionalHeaders") == "":
        raise _refusal("InvalidArgument", "0002-00000209", "AdditionalHeaders in Authorization header is empty.")
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


def _v4_query(request: ServerRequest) -> _Claim:
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


def _required(request: ServerRequest, name: str) -> str:
    value = request.param(name)
    if not value:
        raise bad_argument(name, "", f"The query of a presigned URL must have {name}.")
    return value


def _credential(text: str) -> tuple[str, str]:
    fields = text.rsplit("/", 4)
    if len(fields) != 5 or not all(fields):
        raise bad_argument("Credential", text, "The credential must be an id and a scope.")
    return fields[0], "/".join(fields[1:])


def _header_names(text: str) -> tuple[str, ...]:
    return tuple(sorted({name.strip().lower() for name in text.split(";") if name.strip()}))


# --- scope, time and token -------------------------------------------------------------------------------------------


def _check_scope(claim: _Claim, region: str) -> None:
    date, claimed_region, product, terminator = claim.scope.split("/")
    if claimed_region != region:
        raise _refusal("InvalidArgument", "0002-00000226", "Invalid signing region in Authorization header.")
    if product != "oss":
        raise _refusal("InvalidArgument", "0002-00000227", "Invalid signing product in Authorization header.")
    if terminator != _TERMINATOR or date != claim.date[:8]:
        raise bad_argument("Credential", claim.scope, "Invalid signing date or terminator in the scope.")


def _check_time(claim: _Claim, now: float) -> None:
    if claim.presigned:
        _check_validity(claim, now)
        return
    moment = _signing_time(claim.version, claim.date)
    if abs(now - moment) > SKEW_MAX:
        raise ServiceError(
            "RequestTimeTooSkewed",
            elements={
                "RequestTime": xml_time(moment),
                "ServerTime": xml_time(now),
                "MaxAllowedSkewMilliseconds": str(SKEW_MAX * 1000),
            },
        )


def _check_validity(claim: _Claim, now: float) -> None:
    if claim.version == "v1":
        begin, end = float("-inf"), float(_integer("Expires", claim.date))
    else:
        seconds = _integer("x-oss-expires", claim.expires)
        if not 1 <= seconds <= PRESIGNED_MAX:
            raise _refusal(
                "InvalidArgument", "0002-00000232", f"x-oss-expires must be from 1 to {PRESIGNED_MAX} seconds."
            )
        moment = _signing_time(claim.version, claim.date)
        begin, end = moment - SKEW_MAX, moment + seconds
    if now < begin:
        raise ServiceError("AccessDenied", "Request is not valid yet.", elements={"ServerTime": xml_time(now)})
    if now > end:
        elements = {"Expires": xml_time(end), "ServerTime": xml_time(now)}
        raise ServiceError("AccessDenied", "Request has expired.", elements=elements)


def _integer(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise bad_argument(name, text, f"{name} is not a number of seconds.")
    return int(text)


def _signing_time(version: str, date: str) -> float:
    moment = parse_basic_time(date) if version == "v4" else parse_http_date(date)
    if moment is None:
        raise ServiceError("AccessDenied", "OSS authentication requires a valid Date.")
    return moment


def _check_token(claim: _Claim, access_key: AccessKey, settings: ServerSettings, now: float) -> None:
    elements = {"OSSAccessKeyId": claim.access_key_id}
    if claim.token is None:
        if access_key.security_token is not None:
            raise _refusal("InvalidAccessKeyId", "0002-00000003", elements=elements)
        return
    if access_key.security_token is None:
        raise _refusal("InvalidAccessKeyId", "0002-00000002", elements=elements)
    if not equal_secrets(claim.token, access_key.security_token):
        tokens = {key.security_token for key in settings.access_keys}
        raise ServiceError("AccessKeyIdAndSecurityTokenNotMatch" if claim.token in tokens else "InvalidSecurityToken")
    if access_key.expiration is not None and now >= access_key.expiration:
        raise ServiceError("SecurityTokenExpired")


# --- the signature ---------------------------------------------------------------------------------------------------


def _check_signature(claim: _Claim, request: ServerRequest, target: RequestTarget, access_key: AccessKey) -> None:
    elements = {"OSSAccessKeyId": claim.access_key_id, "SignatureProvided": claim.signature}
    if claim.version == "v1":
        string_to_sign = _v1_string_to_sign(claim, request, target)
        expected = _v1_signature(access_key.access_key_secret, string_to_sign)
    else:
        canonical_request = _v4_canonical_request(claim, request, target)
        string_to_sign = _v4_string_to_sign(claim, canonical_request)
        expected = _v4_signature(access_key.access_key_secret, claim.scope, string_to_sign)
        elements["CanonicalRequest"] = canonical_request.decode("utf-8", "replace")
    if not equal_secrets(expected, claim.signature):
        elements["StringToSign"] = string_to_sign.decode("utf-8", "replace")
        elements["StringToSignBytes"] = string_to_sign.hex(" ").upper()
        raise ServiceError("SignatureDoesNotMatch", elements=elements)


def _v1_string_to_sign(claim: _Claim, request: ServerRequest, target: RequestTarget) -> bytes:
    signed_headers = _header_lines(request, {name for name, _ in request.headers if name.startswith("x-oss-")})
    lines = [request.method, request.header("content-md5") or "", request.header("content-type") or "", claim.date]
    return to_bytes("\n".join(lines) + "\n" + signed_headers + _v1_resource(request, target))


def _v1_resource(request: ServerRequest, target: RequestTarget) -> str:
    path = "/" if target.bucket is None else f"/{target.bucket}/{target.key or ''}"
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


def _v4_canonical_request(claim: _Claim, request: ServerRequest, target: RequestTarget) -> bytes:
    path = "/" if target.bucket is None else f"/{target.bucket}/{target.key or ''}"
    query = sorted(
        (_encoded(name), _encoded(value))
        for name, value in request.query
        if not (claim.presigned and name == "x-oss-signature")
    )
    sent = {name for name, _ in request.headers}
    always = {name for name in sent if name.startswith("x-oss-") or name in ("content-type", "content-md5")}
    # Headers that were not sent, or that are always signed, do not count as additional ones.
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


def _header_lines(request: ServerRequest, names: Iterable[str]) -> str:
    return "".join(f"{name}:{(request.header(name) or '').strip()}\n" for name in sorted(names))


def _v4_string_to_sign(claim: _Claim, canonical_request: bytes) -> bytes:
    digest = hashlib.sha256(canonical_request).hexdigest()
    return to_bytes(f"{_V4}\n{claim.date}\n{claim.scope}\n{digest}")


def _v4_signature(secret: str, scope: str, string_to_sign: bytes) -> str:
    return hmac.digest(derived_key("aliyun_v4", secret, scope), string_to_sign, "sha256").hex()


def _refusal(code: str, ec: str, message: str | None = None, elements: Mapping[str, str] | None = None) -> ServiceError:
    return ServiceError(code, message, elements={**(elements or {}), "EC": ec})
