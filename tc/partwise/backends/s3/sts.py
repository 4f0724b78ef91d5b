"""
Temporary credentials from AWS's token service (STS).

https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html describes the requests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import quote, urlencode, urlsplit
from xml.etree import ElementTree as ET

from partwise.backends._http.credentials import Credentials
from partwise.backends.s3.metadata import fetch_text
from partwise.backends.s3.signing import PathRequest, prepare
from partwise.errors import CredentialsExpired, InvalidInput

_VERSION = "2011-06-15"
_SECONDS = 10.0
_CONTENT_TYPE = "application/x-www-form-urlencoded; charset=utf-8"


def assume_role(
    credentials: Credentials,
    parameters: Mapping[str, str],
    *,
    region: str | None = None,
    endpoint: str | None = None,
    now: float,
) -> Credentials:
    """
    Return the credentials of a role that others may assume.

    Args:
        credentials: those that may assume the role.
        parameters: of the request, such as RoleArn and RoleSessionName.
        region: the region of the service; None: the global one.
        endpoint: its URL; None: AWS's.
        now: seconds since 1970.

    Raises:
        CredentialsExpired: the service can't be reached, or refuses. Retryable.
    """
    url, body = _request("AssumeRole", parameters, region, endpoint)
    headers = _signed_headers(credentials, url, body, region or "us-east-1", now)
    text = fetch_text(url, method="POST", headers=headers, body=body, seconds=_SECONDS)
    return _credentials_in(text)


def assume_role_with_web_identity(
    parameters: Mapping[str, str], *, region: str | None = None, endpoint: str | None = None
) -> Credentials:
    """
    Return the credentials of a role that a token of an identity provider assumes.

    Args:
        parameters: of the request, WebIdentityToken among them.
        region: the region of the service; None: the global one.
        endpoint: its URL; None: AWS's.

    Raises:
        CredentialsExpired: the service can't be reached, or refuses. Retryable.
    """
    url, body = _request("AssumeRoleWithWebIdentity", parameters, region, endpoint)
    text = fetch_text(url, method="POST", headers={"Content-Type": _CONTENT_TYPE}, body=body, seconds=_SECONDS)
    return _credentials_in(text)


def _request(action: str, parameters: Mapping[str, str], region: str | None, endpoint: str | None) -> tuple[str, bytes]:
    host = "sts.amazonaws.com" if region is None else f"sts.{region}.amazonaws.com"
    if region is not None and region.startswith("cn-"):
        host += ".cn"
    url = endpoint or f"https://{host}"
    if not urlsplit(url).hostname:
        raise InvalidInput(f"{url!r:.80} is not the URL of a token service")
    fields = {"Action": action, "Version": _VERSION, **parameters}
    return url.rstrip("/") + "/", urlencode(fields, quote_via=quote).encode()


def _signed_headers(credentials: Credentials, url: str, body: bytes, region: str, now: float) -> dict[str, str]:
    parts = urlsplit(url)
    headers = {"content-type": _CONTENT_TYPE, "host": parts.netloc}
    request = PathRequest("POST", quote(parts.path, safe="/-_.~"), (), headers)
    digest = hashlib.sha256(body).hexdigest()
    return headers | prepare(credentials, request, now, region=region, service="sts", digest=digest).signed()


def _credentials_in(text: str) -> Credentials:
    if "<!DOCTYPE" in text.upper():  # nested entities can expand until memory is exhausted
        raise CredentialsExpired("the answer of the token service is not valid")
    try:
        root = ET.fromstring(text)  # noqa: S314  # it declares no entities, and its size is bounded
    except ET.ParseError:
        raise CredentialsExpired("the answer of the token service is not XML") from None
    values = {element.tag.rpartition("}")[2]: (element.text or "").strip() for element in root.iter()}
    try:
        expiration = datetime.fromisoformat(values["Expiration"])
        return Credentials(values["AccessKeyId"], values["SecretAccessKey"], values["SessionToken"], expiration)
    except (KeyError, ValueError):
        raise CredentialsExpired("the answer of the token service has no credentials") from None
