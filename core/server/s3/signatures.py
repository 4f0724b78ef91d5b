"""
Authentication of requests by Signature Version 4, in a header or in the query.

This is a second, independent implementation of the specification. It shares no code with the signer of the client, so
that a mistake in one of them is detected.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from urllib.parse import quote

from attrs import define

from partwise.http_errors import parse_http_date
from partwise.server.authentication import derived_key, equal_secrets
from partwise.server.errors import ServiceError
from partwise.server.messages import ServerRequest, to_bytes
from partwise.server.settings import AccessKey, ServerSettings
from partwise.server.times import basic_time, parse_basic_time, xml_time

#: The maximum difference between the date of a request and the server's clock, in seconds.
SKEW_MAX = 900

#: The maximum validity of a presigned URL, in seconds.
PRESIGNED_MAX = 604_800

UNSIGNED = "UNSIGNED-PAYLOAD"
_ALGORITHM = "AWS4-HMAC-SHA256"
_TERMINATOR = "aws4_request"
_DIGITS_MAX = 9
_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


@define(frozen=True)
class SignatureClaim:
    """What a request claims about its signature."""

    presigned: bool
    access_key_id: str
    scope: str  # date, region, service and terminator, separated by slashes
    signed_headers: tuple[str, ...]
    signature: str
    date: str  # as in the string to sign
    token: str | None
    expires: str = ""  # seconds for which a presigned URL is valid


@define(frozen=True)
class SigningKey:
    """A key of one day, region and service, which signs the chunks of a body."""

    key: bytes
    date: str
    scope: str

    def sign(self, algorithm: str, lines: Iterable[str]) -> str:
        """Return the signature of a string to sign, without its first three lines."""
        text = "\n".join((algorithm, self.date, self.scope, *lines))
        return hmac.digest(self.key, to_bytes(text), "sha256").hex()


def authenticate(
    request: ServerRequest, settings: ServerSettings, now: float
) -> tuple[SignatureClaim, SigningKey] | None:
    """
    Check who signed the request, and the signature of its head.

    Returns:
        what the request claims, and the key that signs its body; None for an allowed unsigned request.

    Raises:
        ServiceError: the signature is missing, malformed, expired, made by an unknown key, or wrong.
    """
    claim = _parse_claim(request)
    if claim is None:
        if settings.allow_anonymous:
            return None
        raise ServiceError("AccessDenied")
    access_key = settings.access_key(claim.access_key_id)
    if access_key is None:
        raise ServiceError("InvalidAccessKeyId", elements={"AWSAccessKeyId": claim.access_key_id})
    _check_scope(claim, settings.region)
    _check_time(claim, now)
    _check_token(claim, access_key, now)
    return claim, _check_signature(claim, request, access_key)


# --- parsing the claim -----------------------------------------------------------------------------------------------


def _parse_claim(request: ServerRequest) -> SignatureClaim | None:
    header = request.header("authorization")
    presigned = request.has_param("X-Amz-Signature") or request.has_param("X-Amz-Algorithm")
    if header is not None and presigned:
        raise ServiceError("InvalidArgument", "Only one auth mechanism allowed.")
    if header is not None:
        return _claim_in_header(request, header)
    return _claim_in_query(request) if presigned else None


def _claim_in_header(request: ServerRequest, header: str) -> SignatureClaim:
    algorithm, _, rest = header.partition(" ")
    if algorithm != _ALGORITHM:
        raise ServiceError(
            "InvalidRequest", f"The authorization mechanism you have provided is not supported. Use {_ALGORITHM}."
        )
    fields: dict[str, str] = {}
    for field in rest.split(","):
        name, equals, value = field.strip().partition("=")
        if not equals or name not in ("Credential", "SignedHeaders", "Signature") or name in fields:
            raise ServiceError("AuthorizationHeaderMalformed", f"The field {name!r} of the header is not valid.")
        fields[name] = value
    if len(fields) < 3 or not all(fields.values()):
        raise ServiceError("AuthorizationHeaderMalformed")
    if request.header("x-amz-content-sha256") is None:
        raise ServiceError(
            "MissingSecurityHeader",
            "Missing required header for this request: x-amz-content-sha256",
            elements={"MissingHeaderName": "x-amz-content-sha256"},
        )
    access_key_id, scope = _credential(fields["Credential"], "AuthorizationHeaderMalformed")
    return SignatureClaim(
        False,
        access_key_id,
        scope,
        _header_names(fields["SignedHeaders"]),
        fields["Signature"],
        request.header("x-amz-date") or _date_of(request),
        request.header("x-amz-security-token"),
    )


def _claim_in_query(request: ServerRequest) -> SignatureClaim:
    names = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")
    values = [request.param(f"X-Amz-{name}") or "" for name in names]
    if not all(values) or values[0] != _ALGORITHM:
        raise ServiceError(
            "AuthorizationQueryParametersError",
            f"A presigned URL has the parameters {', '.join(f'X-Amz-{name}' for name in names)}.",
        )
    _, credential, date, expires, signed, signature = values
    access_key_id, scope = _credential(credential, "AuthorizationQueryParametersError")
    token = request.param("X-Amz-Security-Token")
    return SignatureClaim(True, access_key_id, scope, _header_names(signed), signature, date, token, expires)


def _credential(text: str, code: str) -> tuple[str, str]:
    fields = text.rsplit("/", 4)
    if len(fields) != 5 or not all(fields):
        raise ServiceError(code, "The credential must be an id and a scope.")
    return fields[0], "/".join(fields[1:])


def _header_names(text: str) -> tuple[str, ...]:
    return tuple(text.lower().split(";"))


def _date_of(request: ServerRequest) -> str:
    if (moment := parse_http_date(request.header("date") or "")) is None:
        raise _no_valid_date()
    return basic_time(moment)


def _no_valid_date() -> ServiceError:
    return ServiceError("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")


# --- scope, time and token -------------------------------------------------------------------------------------------


def _check_scope(claim: SignatureClaim, region: str) -> None:
    date, claimed_region, service, terminator = claim.scope.split("/")
    code = "AuthorizationQueryParametersError" if claim.presigned else "AuthorizationHeaderMalformed"
    if claimed_region != region:
        raise ServiceError(
            code, f"The region '{claimed_region}' is wrong; expecting '{region}'", elements={"Region": region}
        )
    if service != "s3" or terminator != _TERMINATOR or date != claim.date[:8]:
        raise ServiceError(code, "The scope of the credential is not valid.")


def _check_time(claim: SignatureClaim, now: float) -> None:
    moment = _signing_time(claim.date)
    if not claim.presigned:
        if abs(now - moment) > SKEW_MAX:
            raise ServiceError(
                "RequestTimeTooSkewed",
                elements={
                    "RequestTime": claim.date,
                    "ServerTime": xml_time(now),
                    "MaxAllowedSkewMilliseconds": str(SKEW_MAX * 1000),
                },
            )
        return
    is_number = claim.expires.isascii() and claim.expires.isdigit() and len(claim.expires) <= _DIGITS_MAX
    if not (is_number and 1 <= int(claim.expires) <= PRESIGNED_MAX):
        raise ServiceError(
            "AuthorizationQueryParametersError", f"X-Amz-Expires must be from 1 to {PRESIGNED_MAX} seconds"
        )
    if now < moment - SKEW_MAX:
        raise ServiceError("AccessDenied", "Request is not valid yet")
    if now > moment + int(claim.expires):
        elements = {"Expires": xml_time(moment + int(claim.expires)), "ServerTime": xml_time(now)}
        raise ServiceError("AccessDenied", "Request has expired", elements=elements)


def _signing_time(date: str) -> float:
    if (moment := parse_basic_time(date)) is None:
        raise _no_valid_date()
    return moment


def _check_token(claim: SignatureClaim, access_key: AccessKey, now: float) -> None:
    expected = access_key.security_token
    if (claim.token is None) != (expected is None) or (
        claim.token is not None and expected is not None and not equal_secrets(claim.token, expected)
    ):
        raise ServiceError("InvalidToken" if expected is not None or claim.token is not None else "AccessDenied")
    if access_key.expiration is not None and now >= access_key.expiration:
        raise ServiceError("ExpiredToken")


# --- the signature ---------------------------------------------------------------------------------------------------


def _check_signature(claim: SignatureClaim, request: ServerRequest, access_key: AccessKey) -> SigningKey:
    sent = {name for name, _ in request.headers}
    unsigned = sorted(name for name in sent - set(claim.signed_headers) if name.startswith("x-amz-") or name == "host")
    if unsigned:
        raise ServiceError(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            elements={"HeadersNotSigned": ", ".join(unsigned)},
        )
    canonical = _canonical_request(claim, request)
    signing_key = SigningKey(derived_key("AWS4", access_key.access_key_secret, claim.scope), claim.date, claim.scope)
    digest = hashlib.sha256(canonical).hexdigest()
    if not equal_secrets(signing_key.sign(_ALGORITHM, (digest,)), claim.signature):
        raise ServiceError(
            "SignatureDoesNotMatch",
            elements={
                "AWSAccessKeyId": claim.access_key_id,
                "StringToSign": f"{_ALGORITHM}\n{claim.date}\n{claim.scope}\n{digest}",
                "SignatureProvided": claim.signature,
                "CanonicalRequest": canonical.decode("utf-8", "replace"),
            },
        )
    return signing_key


def _canonical_request(claim: SignatureClaim, request: ServerRequest) -> bytes:
    query = sorted((_encoded(name), _encoded(value)) for name, value in request.query if name != "X-Amz-Signature")
    headers = "".join(f"{name}:{_folded(request.header(name) or '')}\n" for name in claim.signed_headers)
    payload = request.header("x-amz-content-sha256")
    return to_bytes(
        "\n".join(
            (
                request.method,
                quote(to_bytes(request.path), safe="/-_.~"),
                "&".join(f"{name}={value}" for name, value in query),
                headers,
                ";".join(claim.signed_headers),
                payload or (UNSIGNED if claim.presigned else _EMPTY_SHA256),
            )
        )
    )


def _encoded(text: str) -> str:
    return quote(to_bytes(text), safe="-_.~")


def _folded(value: str) -> str:
    return " ".join(value.split())
