"""Signatures: the published test vectors, and refusals."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from attrs import evolve

from partwise.server import AccessKey, OSSServer, ServerSettings
from partwise.server.errors import ServiceError
from partwise.server.messages import ServerRequest
from partwise.server.oss import signatures
from partwise.server.oss.addressing import parse_target
from partwise.server.oss.errors import error_response
from partwise.server.oss.signatures import authenticate

_CONTENT = json.loads((Path(__file__).parent.parent / "data" / "oss" / "signing.json").read_text("utf-8"))
_VECTORS: list[dict[str, Any]] = _CONTENT["vectors"]
_QUIRKS: list[dict[str, Any]] = _CONTENT["quirks"]


def _request(vector: dict[str, Any]) -> ServerRequest:
    headers = {name.lower(): value for name, value in {**vector["headers"], **_added(vector)}.items()}
    headers.setdefault(
        "host", f"{vector['bucket']}.example.com" if vector["bucket"] else "oss-cn-hangzhou.aliyuncs.com"
    )
    if vector["mode"] == "presign":
        target = vector["expected"]["url"].removeprefix("http://").partition("/")[2]
        return ServerRequest.parsed(vector["method"], f"/{target}", list(headers.items()))
    headers["authorization"] = vector["expected"]["authorization"]
    fields = [
        quote(name, safe="") + ("" if value is None else f"={quote(value, safe='')}") for name, value in vector["query"]
    ]
    target = "/" + quote(vector["key"] or "", safe="") + ("?" + "&".join(fields) if fields else "")
    return ServerRequest.parsed(vector["method"], target, list(headers.items()))


def _added(vector: dict[str, Any]) -> dict[str, str]:
    added = vector["expected"].get("headers_added", {})
    assert isinstance(added, dict)
    return added


def _refusal(error: ServiceError) -> tuple[str, int, str | None]:
    """The code, the HTTP status and the EC code of a refusal, as a client sees them."""
    response = error_response(error, "id", "host", is_head=False)
    return response.code, response.status, dict(response.headers).get("x-oss-ec")


def _authenticate(vector: dict[str, Any], **changes: Any) -> AccessKey | None:
    key = AccessKey(**{**vector["credentials"], **changes})
    settings = ServerSettings(region=vector.get("region") or "cn-hangzhou", access_keys=[key])
    request = _request(vector)
    return authenticate(request, parse_target(request, settings), settings, vector["unix_time"])


@pytest.mark.parametrize("vector", _VECTORS, ids=lambda vector: vector["id"])
def test_a_published_signature_is_accepted(vector: dict[str, Any]) -> None:
    accepted = _authenticate(vector)
    assert accepted is not None
    assert accepted.access_key_id == vector["credentials"]["access_key_id"]


@pytest.mark.parametrize("vector", _VECTORS, ids=lambda vector: vector["id"])
def test_a_refusal_shows_the_expected_string_to_sign(vector: dict[str, Any]) -> None:
    with pytest.raises(ServiceError) as caught:
        _authenticate(vector, access_key_secret="another")
    assert caught.value.code == "SignatureDoesNotMatch"
    assert caught.value.elements["StringToSign"] == vector["expected"]["string_to_sign"]
    assert bytes.fromhex(caught.value.elements["StringToSignBytes"]).decode() == vector["expected"]["string_to_sign"]
    assert caught.value.elements.get("CanonicalRequest") == vector["expected"].get("canonical_request")


@pytest.mark.parametrize("vector", _QUIRKS, ids=lambda vector: vector["id"])
def test_a_signature_that_violates_the_specification_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(ServiceError) as caught:
        _authenticate(vector)
    # A security token in an undocumented header is ignored.
    expected = "InvalidAccessKeyId" if vector["disagrees_in"] == ["token-header"] else "SignatureDoesNotMatch"
    assert caught.value.code == expected


# --- refusals --------------------------------------------------------------------------------------------------------

_BY_ID = {vector["id"]: vector for vector in _VECTORS}
_V1, _V4 = _BY_ID["oss2-v1-header-key00-get"], _BY_ID["v2-v4-header-key00-get"]
_V1_URL, _V4_URL = _BY_ID["oss2-v1-presign-key00-get"], _BY_ID["v2-v4-presign-key00-get"]
_STS = next(v for v in _VECTORS if v["mode"] == "header" and "security_token" in v["credentials"])
_STS_URL = next(v for v in _VECTORS if v["mode"] == "presign" and "security_token" in v["credentials"])


def _code(request: ServerRequest, settings: ServerSettings, now: float) -> str:
    with pytest.raises(ServiceError) as caught:
        authenticate(request, parse_target(request, settings), settings, now)
    return caught.value.code


def _settings(vector: dict[str, Any], **changes: Any) -> ServerSettings:
    return ServerSettings(access_keys=[AccessKey(**vector["credentials"])], **changes)


def _with_headers(request: ServerRequest, **headers: str) -> ServerRequest:
    changed = {name.replace("_", "-"): value for name, value in headers.items()}
    kept = tuple((name, value) for name, value in request.headers if name not in changed)
    return evolve(request, headers=(*kept, *changed.items()))


@pytest.mark.parametrize("vector", [_V1, _V4], ids=["v1", "v4"])
@pytest.mark.parametrize("skew", [-900, 900])
def test_a_clock_skew_of_15_minutes_is_accepted(vector: dict[str, Any], skew: int) -> None:
    request, settings = _request(vector), _settings(vector)
    accepted = authenticate(request, parse_target(request, settings), settings, vector["unix_time"] + skew)
    assert accepted is not None


@pytest.mark.parametrize("vector", [_V1, _V4], ids=["v1", "v4"])
@pytest.mark.parametrize("skew", [-901, 901])
def test_the_refusal_of_a_larger_clock_skew_shows_both_times(vector: dict[str, Any], skew: int) -> None:
    request, settings = _request(vector), _settings(vector)
    with pytest.raises(ServiceError) as caught:
        authenticate(request, parse_target(request, settings), settings, vector["unix_time"] + skew)
    assert _refusal(caught.value) == ("RequestTimeTooSkewed", 403, "0002-00000504")
    assert caught.value.elements["RequestTime"] == "2025-03-09T08:07:06.000Z"
    assert caught.value.elements["ServerTime"] in ("2025-03-09T07:52:05.000Z", "2025-03-09T08:22:07.000Z")
    assert caught.value.elements["MaxAllowedSkewMilliseconds"] == "900000"


@pytest.mark.parametrize("vector", [_V1_URL, _V4_URL], ids=["v1", "v4"])
def test_a_presigned_url_is_valid_until_its_last_second(vector: dict[str, Any]) -> None:
    request, settings = _request(vector), _settings(vector)
    end = vector["unix_time"] + vector["expires_seconds"]
    assert authenticate(request, parse_target(request, settings), settings, end) is not None
    with pytest.raises(ServiceError, match="Request has expired") as caught:
        authenticate(request, parse_target(request, settings), settings, end + 1)
    assert _refusal(caught.value)[:2] == ("AccessDenied", 403)


def test_a_presigned_v4_url_is_valid_from_15_minutes_before_its_date() -> None:
    request, settings, date = _request(_V4_URL), _settings(_V4_URL), _V4_URL["unix_time"]
    assert authenticate(request, parse_target(request, settings), settings, date - 900) is not None
    with pytest.raises(ServiceError, match="not valid yet"):
        authenticate(request, parse_target(request, settings), settings, date - 901)


@pytest.mark.parametrize("seconds", ["0", "604801", "-1", "soon", "9" * 30])
def test_a_presigned_v4_url_is_valid_for_at_most_a_week(seconds: str) -> None:
    request = _request(_V4_URL)
    query = tuple((name, seconds if name == "x-oss-expires" else value) for name, value in request.query)
    changed = evolve(request, query=query)
    assert _code(changed, _settings(_V4_URL), _V4_URL["unix_time"]) == "InvalidArgument"


@pytest.mark.parametrize("vector", [_V1, _V4], ids=["v1", "v4"])
@pytest.mark.parametrize("date", ["", "yesterday", "2025-03-09"])
def test_an_invalid_date_is_refused(vector: dict[str, Any], date: str) -> None:
    name = "date" if vector is _V1 else "x_oss_date"
    request = _with_headers(_request(vector), **{name: date})
    expected = "AccessDenied" if vector is _V1 or date == "" else "InvalidArgument"
    if vector is _V4 and date == "":
        expected = "InvalidArgument"  # the scope has another date
    assert _code(request, _settings(vector), vector["unix_time"]) == expected


def test_the_refusal_names_an_unknown_access_key() -> None:
    request = _request(_V4)
    with pytest.raises(ServiceError) as caught:
        authenticate(request, parse_target(request, ServerSettings()), ServerSettings(), _V4["unix_time"])
    assert caught.value.code == "InvalidAccessKeyId"
    assert caught.value.elements == {"OSSAccessKeyId": "testid0000EXAMPLE"}


def test_any_of_several_access_keys_can_sign() -> None:
    request = _request(_V4)
    settings = ServerSettings(access_keys=[AccessKey("other", "secret"), AccessKey(**_V4["credentials"])])
    accepted = authenticate(request, parse_target(request, settings), settings, _V4["unix_time"])
    assert accepted == settings.access_keys[1]


def test_an_unsigned_request_is_refused_unless_the_settings_allow_it() -> None:
    request = ServerRequest.parsed("GET", "/key", [("host", "examplebucket.example.com")])
    assert _code(request, ServerSettings(), 0) == "AccessDenied"
    settings = ServerSettings(allow_anonymous=True)
    assert authenticate(request, parse_target(request, settings), settings, 0) is None


def test_v1_can_be_switched_off() -> None:
    request, settings = _request(_V1), _settings(_V1, accept_v1=False)
    with pytest.raises(ServiceError) as caught:
        authenticate(request, parse_target(request, settings), settings, _V1["unix_time"])
    assert _refusal(caught.value)[1:] == (403, "0002-00000080")


def test_a_signature_for_another_region_is_refused() -> None:
    request, settings = _request(_V4), _settings(_V4, region="cn-beijing")
    with pytest.raises(ServiceError) as caught:
        authenticate(request, parse_target(request, settings), settings, _V4["unix_time"])
    assert _refusal(caught.value) == ("InvalidArgument", 400, "0002-00000226")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/oss/", "/oss-cloudbox/"),
        ("aliyun_v4_request", "aws4_request"),
        ("20250309", "20250308"),
        ("/cn-hangzhou", ""),
        ("Credential=", "Credentials="),
        ("Credential=testid0000EXAMPLE/20250309/cn-hangzhou/oss/aliyun_v4_request,", ""),
        ("Signature=", "AdditionalHeaders=,Signature="),
        ("Signature=", "Signature"),
        (",Signature=", ",Signature=1,Signature="),
        ("OSS4-HMAC-SHA256 ", "OSS4-HMAC-SHA1 "),
    ],
)
def test_a_malformed_v4_authorization_is_refused(old: str, new: str) -> None:
    header = _V4["expected"]["authorization"]
    assert old in header
    request = _with_headers(_request(_V4), authorization=header.replace(old, new))
    assert _code(request, _settings(_V4), _V4["unix_time"]) == "InvalidArgument"


def test_an_unknown_version_of_a_presigned_url_is_refused() -> None:
    request = _request(_V4_URL)
    query = tuple((name, value.replace("SHA256", "SHA1")) for name, value in request.query)
    assert _code(evolve(request, query=query), _settings(_V4_URL), _V4_URL["unix_time"]) == "InvalidArgument"


@pytest.mark.parametrize("header", ["OSS", "OSS nothing", "OSS :signature", "Basic a:b"])
def test_a_malformed_v1_authorization_is_refused(header: str) -> None:
    request = _with_headers(_request(_V1), authorization=header)
    assert _code(request, _settings(_V1), _V1["unix_time"]) == "InvalidArgument"


def test_the_fields_of_a_v4_authorization_can_have_any_order() -> None:
    credential, signature = _V4["expected"]["authorization"].removeprefix("OSS4-HMAC-SHA256 ").split(",")
    request = _with_headers(_request(_V4), authorization=f"OSS4-HMAC-SHA256 {signature} , {credential}")
    settings = _settings(_V4)
    assert authenticate(request, parse_target(request, settings), settings, _V4["unix_time"]) is not None


def test_a_v4_signature_in_a_header_requires_the_payload_header() -> None:
    request = _request(_V4)
    headers = tuple(pair for pair in request.headers if pair[0] != "x-oss-content-sha256")
    assert _code(evolve(request, headers=headers), _settings(_V4), _V4["unix_time"]) == "InvalidArgument"


@pytest.mark.parametrize("vector", [_V1_URL, _V4_URL], ids=["v1", "v4"])
def test_a_signature_in_header_and_query_is_refused(vector: dict[str, Any]) -> None:
    request = _with_headers(_request(vector), authorization="OSS id:signature")
    assert _code(request, _settings(vector), vector["unix_time"]) == "InvalidArgument"


@pytest.mark.parametrize("vector", [_V1_URL, _V4_URL], ids=["v1", "v4"])
def test_a_presigned_url_without_one_of_its_parameters_is_refused(vector: dict[str, Any]) -> None:
    request = _request(vector)
    for left_out in {name for name, _ in request.query}:
        query = tuple(pair for pair in request.query if pair[0] != left_out)
        code = _code(evolve(request, query=query), _settings(vector), vector["unix_time"])
        assert code == "InvalidArgument", left_out


def test_a_security_token_in_a_header_of_a_presigned_url_is_refused() -> None:
    request = _with_headers(_request(_V1_URL), x_oss_security_token="token")
    assert _code(request, _settings(_V1_URL), _V1_URL["unix_time"]) == "InvalidRequest"


@pytest.mark.parametrize("vector", [_STS, _STS_URL], ids=["header", "query"])
def test_a_temporary_key_requires_its_own_security_token(vector: dict[str, Any]) -> None:
    request, now = _request(vector), vector["unix_time"]
    temporary = AccessKey(**vector["credentials"])

    def code(*keys: AccessKey) -> str:
        return _code(request, ServerSettings(access_keys=keys), now)

    assert code(evolve(temporary, security_token="another")) == "InvalidSecurityToken"
    assert code(evolve(temporary, security_token=None)) == "InvalidAccessKeyId"
    other = AccessKey("other", "secret", temporary.security_token)
    assert code(evolve(temporary, security_token="another"), other) == "AccessKeyIdAndSecurityTokenNotMatch"


def test_a_temporary_key_expires() -> None:
    request, now = _request(_STS), _STS["unix_time"]
    ending = evolve(AccessKey(**_STS["credentials"]), expiration=now + 1)
    settings = ServerSettings(access_keys=[ending])
    assert authenticate(request, parse_target(request, settings), settings, now) == ending
    assert _code(request, ServerSettings(access_keys=[evolve(ending, expiration=now)]), now) == "SecurityTokenExpired"


def test_the_repr_of_an_access_key_has_no_secrets() -> None:
    shown = repr(ServerSettings(access_keys=[AccessKey("id", "the secret", "the token")]))
    assert "the secret" not in shown
    assert "the token" not in shown


# --- over HTTP -------------------------------------------------------------------------------------------------------


def test_the_refusal_of_a_wrong_signature_shows_the_string_to_sign(server: OSSServer, client: Any) -> None:
    client.access_key_secret = "wrong"
    reply = client("PUT", "key", body=b"data")
    assert (reply.status, reply.code) == (403, "SignatureDoesNotMatch")
    assert reply.text("OSSAccessKeyId") == server.access_key_id
    assert reply.text("StringToSign").startswith("OSS4-HMAC-SHA256\n")
    assert reply.text("CanonicalRequest").startswith("PUT\n/examplebucket/key\n")
    assert reply.headers["x-oss-ec"] == "0002-00000040"
    assert server.requests[0].body_length == 4


def test_a_v1_url_needs_no_headers(server: OSSServer, client: Any) -> None:
    client("PUT", "key", body=b"data")
    expires = int(time.time()) + 60
    text = f"GET\n\n\n{expires}\n/examplebucket/key?response-content-type=text/x"
    mac = hmac.new(server.access_key_secret.encode(), text.encode(), hashlib.sha1).digest()
    fields = {
        "OSSAccessKeyId": server.access_key_id,
        "Expires": str(expires),
        "Signature": base64.b64encode(mac).decode(),
        "response-content-type": "text/x",
    }
    reply = client("GET", "key", fields, signed=False)
    assert (reply.status, reply.body, reply.headers["Content-Type"]) == (200, b"data", "text/x")
    assert "Signature" not in server.requests[-1].query


def test_bytes_that_are_not_ascii_are_signed_as_sent(client: Any) -> None:
    reply = client("PUT", "ключ/中 +%", headers={"x-oss-meta-note": "é 中".encode()}, body=b"")
    assert reply.status == 200
    assert client("HEAD", "ключ/中 +%").headers["x-oss-meta-note"].encode("latin-1") == "é 中".encode()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone can't be changed here")
def test_a_date_with_the_zone_0000_is_in_utc_wherever_the_server_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 5322: the zone -0000 says that nothing is known of the local zone, and the time is in UTC."""
    monkeypatch.setenv("TZ", "CST-8")
    time.tzset()
    try:
        assert signatures._signing_time("v1", "Sun, 09 Mar 2025 08:07:06 -0000") == 1741507626
    finally:
        monkeypatch.undo()
        time.tzset()
