"""
Temporary credentials from AWS's token service (STS).

https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html describes the requests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from partwise.backends._http.addresses import authority, split_url
from partwise.backends._http.credentials import Credentials
from partwise.backends._http.xml import BadDocument, all_texts
from partwise.backends.s3.addressing import regional_host
from partwise.backends.s3.metadata import fetch_text, read_credentials
from partwise.backends.s3.signing import PathRequest, prepare
from partwise.errors import CredentialsExpired

_VERSION = "2011-06-15"
_SECONDS = 10.0
_CONTENT_TYPE = "application/x-www-form-urlencoded; charset=utf-8"


def assume_role(
    credentials: Credentials,
    parameters: Mapping[str, str],
    *,
    region: str | None = None,
    endpoint: str | None = None,
    ca_bundle: str | None = None,
    now: float,
) -> Credentials:
    """
    Return the credentials of a role that others may assume.

    Args:
        credentials: those that may assume the role.
        parameters: of the request, such as RoleArn and RoleSessionName.
        region: the region of the service; None: the global one.
        endpoint: its URL; None: AWS's.
        ca_bundle: see `fetch_text`.
        now: seconds since 1970.

    Raises:
        CredentialsExpired: the service can't be reached, or refuses. Retryable.
    """
    url, body = _request("AssumeRole", parameters, region, endpoint)
    headers = _signed_headers(credentials, url, body, region or "us-east-1", now)
    return _ask(url, headers, body, ca_bundle)


def assume_role_with_web_identity(
    parameters: Mapping[str, str],
    *,
    region: str | None = None,
    endpoint: str | None = None,
    ca_bundle: str | None = None,
) -> Credentials:
    """
    Return the credentials of a role that a token of an identity provider assumes.

    Args:
        parameters: of the request, WebIdentityToken among them.
        region: the region of the service; None: the global one.
        endpoint: its URL; None: AWS's.
        ca_bundle: see `fetch_text`.

    Raises:
        CredentialsExpired: the service can't be reached, or refuses. Retryable.
    """
    url, body = _request("AssumeRoleWithWebIdentity", parameters, region, endpoint)
    return _ask(url, {"Content-Type": _CONTENT_TYPE}, body, ca_bundle)


def _request(action: str, parameters: Mapping[str, str], region: str | None, endpoint: str | None) -> tuple[str, bytes]:
    url = endpoint or f"https://{'sts.amazonaws.com' if region is None else regional_host('sts', region)}"
    split_url(url, "a token service")
    fields = {"Action": action, "Version": _VERSION, **parameters}
    return url.rstrip("/") + "/", urlencode(fields, quote_via=quote).encode()


def _signed_headers(credentials: Credentials, url: str, body: bytes, region: str, now: float) -> dict[str, str]:
    server, target = split_url(url, "a token service")
    headers = {"content-type": _CONTENT_TYPE}
    # The HTTP client adds this header to every request.
    signed = {**headers, "host": authority(server.host, server.port_shown)}
    request = PathRequest("POST", quote(target, safe="/-_.~"), (), signed)
    digest = hashlib.sha256(body).hexdigest()
    return headers | prepare(credentials, request, now, region=region, service="sts", digest=digest).signed()


def _ask(url: str, headers: Mapping[str, str], body: bytes, ca_bundle: str | None) -> Credentials:
    text = fetch_text(
        url, method="POST", headers=headers, body=body, seconds=_SECONDS, through_proxy=True, ca_bundle=ca_bundle
    )
    try:
        values = all_texts(text.encode())
    except BadDocument as error:
        raise CredentialsExpired(f"the response of the token service is not valid: {error}") from None
    return read_credentials(values, "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
