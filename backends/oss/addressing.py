"""
Resolve an endpoint, a region and an addressing style to scheme, host and path.

Pure. An endpoint is the host of a region, a custom domain for one bucket, or a test server. The region is required for
V4 signatures; it is derived from the endpoint's name where possible.
"""

from __future__ import annotations

import re

from attrs import define

from partwise._validation import brief, check_string, without_password
from partwise.backends._http.addresses import DEFAULT_PORTS, authority, is_ip, parse_endpoint
from partwise.backends._http.signatures import Query, encoded_key, encoded_query
from partwise.errors import InvalidInput, InvalidKey

ADDRESSING_STYLES = ("virtual", "path", "cname")

KEY_BYTES_MAX = 1023

_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[a-z0-9][a-z0-9-]*")

# Every region id begins with two letters and a hyphen; other first labels, such as "oss-accelerate", do not.
_PUBLIC = re.compile(r"oss-(?P<region>[a-z]{2}-[a-z0-9-]+?)(-internal)?\.aliyuncs\.com")
_DUAL_STACK = re.compile(r"(?P<region>[a-z]{2}-[a-z0-9-]+)\.oss\.aliyuncs\.com")
_ACCELERATED = re.compile(r"oss-accelerate(-overseas)?\.aliyuncs\.com")

_EXAMPLE = "https://oss-cn-hangzhou.aliyuncs.com"

ENDPOINT_HINT = "Pass {region} or {endpoint}, or set OSS_REGION or OSS_ENDPOINT"


@define(frozen=True)
class Address:
    """How to reach a bucket."""

    bucket: str
    region: str | None  # the region's id, such as ``cn-hangzhou``; None with V1, which does not need it
    scheme: str
    host: str  # the host to connect to, without brackets if it is an IPv6 address
    port: int
    path: str  # the prefix of every path: ``/`` or ``/BUCKET/``
    location: str  # a URL of the bucket that does not depend on the endpoint

    @property
    def authority(self) -> str:
        """
        The host as in a URL and in the Host header.

        It has the port, unless that is the scheme's default.
        """
        return authority(self.host, None if self.port == DEFAULT_PORTS[self.scheme] else self.port)

    def target(self, key: str | None, query: Query) -> str:
        """
        Return the request target: path and query, encoded.

        Dot segments and repeated slashes of the key are kept: normalising them would name another object.
        """
        path = self.path if key is None else self.path + encoded_key(key)
        return f"{path}?{encoded_query(query)}" if query else path


def resolve(
    bucket: str,
    *,
    endpoint: str | None,
    region: str | None,
    addressing_style: str = "virtual",
    region_needed: bool = True,
) -> Address:
    """
    Resolve the address of a bucket.

    Args:
        bucket: the bucket's name.
        endpoint: the region's host, a custom domain (style ``cname``), or a test server; with or without scheme (then
            https) and port. None means the public endpoint of `region`.
        region: the region's id; None derives it from the endpoint.
        addressing_style: ``virtual``: the bucket is part of the host; ``path``: it is the first segment of the path,
            which an IP address and localhost imply; ``cname``: the endpoint is the bucket's own.
        region_needed: whether a region is required to sign requests.

    Raises:
        InvalidInput: an argument is invalid, or the region is unknown.
    """
    if not _BUCKET.fullmatch(check_string("bucket", bucket)):
        raise InvalidInput(
            f"{brief(without_password(bucket))} is not a valid bucket name: it has 3 to 63 lower-case letters, "
            "digits and hyphens, and begins and ends with a letter or digit"
        )
    if addressing_style not in ADDRESSING_STYLES:
        raise InvalidInput(
            f"the addressing style must be one of {', '.join(ADDRESSING_STYLES)}, not {brief(addressing_style)}"
        )
    region = None if region is None else checked_region(region)
    if endpoint is None:
        if region is None:
            raise InvalidInput(f"neither the region nor the endpoint of bucket {bucket} is known", hint=ENDPOINT_HINT)
        if addressing_style == "cname":
            raise InvalidInput(
                "the addressing style cname requires an endpoint", hint="Pass {endpoint} with the custom domain"
            )
        endpoint = f"https://oss-{region}.aliyuncs.com"
    scheme, host, port = _parsed(endpoint)
    if addressing_style == "virtual" and host.startswith(f"{bucket}."):
        raise InvalidInput(
            f"the endpoint {endpoint} includes the bucket, which is prepended automatically: the endpoint is "
            f"{host.removeprefix(f'{bucket}.')}",
            hint="Pass that {endpoint}, or {addressing_style=cname} if it is a custom domain",
        )
    region = region or _region_of(host)
    if region is None and region_needed:
        raise InvalidInput(
            f"the region of the endpoint {endpoint} is unknown, and required to sign requests",
            hint="Pass {region} or set OSS_REGION, such as cn-hangzhou",
        )
    in_path = addressing_style == "path" or (addressing_style == "virtual" and (host == "localhost" or is_ip(host)))
    in_host = addressing_style == "virtual" and not in_path
    return Address(
        bucket=bucket,
        region=region,
        scheme=scheme,
        host=f"{bucket}.{host}" if in_host else host,
        port=port,
        path=f"/{bucket}/" if in_path else "/",
        location=f"oss://{bucket}@{_stable_host(scheme, host, port, region)}",
    )


def check_key(key: str) -> str:
    """
    Return the key if it is valid.

    Raises:
        InvalidKey: it is not 1 to 1,023 bytes of UTF-8, or begins with a slash or a backslash.
    """
    size = len(check_string("a key", key, InvalidKey).encode())
    if not 1 <= size <= KEY_BYTES_MAX:
        raise InvalidKey(f"a key has 1 to {KEY_BYTES_MAX} bytes of UTF-8; {key!r:.60} has {size}")
    if key[0] in "/\\":
        raise InvalidKey(f"a key can't begin with a slash or a backslash, as {key!r:.60} does")
    return key


def plain_region(region: str) -> str:
    """
    Return a region's id without ``oss-`` and white space around it, unchecked.

    OSS reports the "location" of a bucket with this prefix; signatures require the id without.
    """
    return check_string("region", region).strip().removeprefix("oss-")


def region_of(endpoint: str) -> str | None:
    """
    Return the region in an endpoint's name; raise InvalidInput if invalid.

    It is None if the name contains no region.
    """
    _, host, _ = _parsed(endpoint)
    return _region_of(host)


def checked_region(region: str) -> str:
    """Return a region id without ``oss-``; raise InvalidInput if it is invalid."""
    region = plain_region(region)
    if not _REGION.fullmatch(region):
        raise InvalidInput(f"{region!r} is not a valid region id, such as cn-hangzhou")
    return region


def _parsed(endpoint: str) -> tuple[str, str, int]:
    found = parse_endpoint(endpoint, _EXAMPLE)
    if found.path:
        raise InvalidInput(f"{endpoint!r} is not a valid endpoint, such as {_EXAMPLE}: it has a path")
    return found.scheme, found.host, found.port


def _region_of(host: str) -> str | None:
    found = _PUBLIC.fullmatch(host) or _DUAL_STACK.fullmatch(host)
    return found["region"] if found else None


def _stable_host(scheme: str, host: str, port: int, region: str | None) -> str:
    # All endpoints of a region (public, internal, dual-stack, accelerated; http or https) reach the same bucket: an
    # upload that was started from outside can be resumed from inside. That is unknown for custom domains and test
    # servers, so they are identified by host and port; http and https on their default ports are the same.
    if region is not None and any(name.fullmatch(host) for name in (_PUBLIC, _DUAL_STACK, _ACCELERATED)):
        return f"oss-{region}.aliyuncs.com"
    return authority(host, None if port == DEFAULT_PORTS[scheme] else port)
