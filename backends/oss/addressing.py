"""
Where a bucket is: from an endpoint, a region and a style to scheme, host and path. Pure.

An endpoint is the host that serves a region, a custom domain that stands for one bucket, or a test server. The
region is needed beside it since V4 signs it; it is taken from the endpoint's name where that says it.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from attrs import define

from partwise._validation import brief, check_text
from partwise.backends._http.addresses import is_ip
from partwise.backends.oss.signing import Query, encoded_key, encoded_query
from partwise.errors import InvalidInput, InvalidKey

ADDRESSING_STYLES = ("virtual", "path", "cname")

KEY_BYTES_MAX = 1023

_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[a-z0-9][a-z0-9-]*")
_HOST = re.compile(r"[a-z0-9]([a-z0-9_.-]*[a-z0-9])?")

# Two letters and a hyphen begin every region's id, and no other first label, such as "oss-accelerate".
_PUBLIC = re.compile(r"oss-(?P<region>[a-z]{2}-[a-z0-9-]+?)(-internal)?\.aliyuncs\.com")
_DUAL_STACK = re.compile(r"(?P<region>[a-z]{2}-[a-z0-9-]+)\.oss\.aliyuncs\.com")
_ACCELERATED = re.compile(r"oss-accelerate(-overseas)?\.aliyuncs\.com")

_DEFAULT_PORTS = {"http": 80, "https": 443}

HOW_TO_GIVE_ENDPOINT = "give region= or endpoint=, or set OSS_REGION or OSS_ENDPOINT"


@define(frozen=True)
class Address:
    """
    A bucket's place on the network.

    Args:
        bucket: the bucket's name.
        region: the region's id, such as ``cn-hangzhou``; None where V1 does without.
        scheme: ``http`` or ``https``.
        host: the host to connect to, without brackets if it is an IPv6 address.
        port: the port to connect to.
        path: what a path begins with: ``/`` or ``/BUCKET/``.
        location: a URL that names the bucket however it is reached.
    """

    bucket: str
    region: str | None
    scheme: str
    host: str
    port: int
    path: str
    location: str

    @property
    def authority(self) -> str:
        """The host as it stands in a URL and in the Host header, with the port unless it is the scheme's own."""
        return _authority(self.host, None if self.port == _DEFAULT_PORTS[self.scheme] else self.port)

    def target(self, key: str | None, query: Query) -> str:
        """
        The request's target: path and query, as they go on the wire.

        The key is sent as it is, dot segments and doubled slashes included: they are part of its name, and whoever
        tidies them up writes another object.
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
    Find a bucket.

    Args:
        bucket: its name.
        endpoint: the region's host, a custom domain (style ``cname``), or a test server; with or without scheme (https
            then) and port. None takes the public one of `region`.
        region: the region's id; None takes it from the endpoint.
        addressing_style: ``virtual``: the bucket is part of the host; ``path``: it is the first part of the path, which
            is taken for an IP address and for localhost by itself; ``cname``: the endpoint stands for the bucket.
        region_needed: whether requests can't be signed without a region.

    Raises:
        InvalidInput: one of them is impossible, or the region can't be known.
    """
    if not _BUCKET.fullmatch(check_text("bucket", bucket)):
        raise InvalidInput(
            f"{brief(bucket)} can't be a bucket: its name has 3 to 63 lower-case letters, digits and hyphens, and "
            "begins and ends with a letter or digit"
        )
    if addressing_style not in ADDRESSING_STYLES:
        raise InvalidInput(f"addressing_style is one of {', '.join(ADDRESSING_STYLES)}, not {brief(addressing_style)}")
    region = None if region is None else _checked_region(region)
    if endpoint is None:
        if region is None:
            raise InvalidInput(f"neither a region nor an endpoint is known for bucket {bucket}: {HOW_TO_GIVE_ENDPOINT}")
        if addressing_style == "cname":
            raise InvalidInput("addressing_style 'cname' needs the custom domain: give endpoint=")
        endpoint = f"https://oss-{region}.aliyuncs.com"
    scheme, host, port = _parsed(endpoint)
    if addressing_style == "virtual" and host.startswith(f"{bucket}."):
        raise InvalidInput(
            f"the endpoint {endpoint} names the bucket, which is put there by itself: give "
            f"{host.removeprefix(f'{bucket}.')}, or addressing_style='cname' if it is a custom domain"
        )
    region = region or _region_of(host)
    if region is None and region_needed:
        raise InvalidInput(
            f"the endpoint {endpoint} does not tell its region, which requests are signed with: give region= or set "
            "OSS_REGION, such as cn-hangzhou"
        )
    in_path = addressing_style == "path" or (addressing_style == "virtual" and _is_address(host))
    in_host = addressing_style == "virtual" and not in_path
    return Address(
        bucket=bucket,
        region=region,
        scheme=scheme,
        host=f"{bucket}.{host}" if in_host else host,
        port=port,
        path=f"/{bucket}/" if in_path else "/",
        location=f"oss://{bucket}@{_lasting_name(scheme, host, port, region)}",
    )


def check_key(key: str) -> str:
    """
    The key, if it can be one.

    Raises:
        InvalidKey: it is not 1 to 1023 bytes of UTF-8, or begins with a slash or a backslash.
    """
    size = len(_utf8(key))
    if not 1 <= size <= KEY_BYTES_MAX:
        raise InvalidKey(f"a key has from 1 to {KEY_BYTES_MAX} bytes of UTF-8; {key!r:.60} has {size}")
    if key[0] in "/\\":
        raise InvalidKey(f"a key can't begin with a slash or a backslash, as {key!r:.60} does")
    return key


def check_prefix(prefix: str) -> str:
    """
    The prefix, if a key can begin with it.

    Raises:
        InvalidKey: it can't be written as UTF-8.
    """
    _utf8(prefix)
    return prefix


def region_of(endpoint: str) -> str | None:
    """
    The region that an endpoint's name tells, None where it tells none.

    Raises:
        InvalidInput: it can't be an endpoint.
    """
    _, host, _ = _parsed(endpoint)
    return _region_of(host)


def _utf8(key: str) -> bytes:
    return check_text("a key", key, InvalidKey).encode()


def _checked_region(region: str) -> str:
    # The older "location" of a bucket is its region's id with this in front; the signature wants it without.
    check_text("region", region)
    region = region.strip().removeprefix("oss-")
    if not _REGION.fullmatch(region):
        raise InvalidInput(f"{region!r} can't be a region; an id is like cn-hangzhou")
    return region


def _parsed(endpoint: str) -> tuple[str, str, int]:
    text = check_text("endpoint", endpoint).strip()
    wrong = InvalidInput(
        f"{_without_user(text)!r} can't be an endpoint; one is like https://oss-cn-hangzhou.aliyuncs.com"
    )
    try:
        url = urlsplit(text if "://" in text else f"https://{text}")
        host, port = url.hostname or "", url.port
    except ValueError:
        # Raised below: this error may hold a password, and would be the context of one that is raised here.
        url, host, port = urlsplit(""), "", None
    if (
        not text.isprintable()
        or url.scheme not in _DEFAULT_PORTS
        or url.username is not None
        or url.path not in ("", "/")
    ):
        raise wrong
    if url.query or url.fragment or port == 0 or not (is_ip(host) or _HOST.fullmatch(host)):
        raise wrong
    return url.scheme, host, port or _DEFAULT_PORTS[url.scheme]


def _without_user(text: str) -> str:
    # Whoever writes a password into an endpoint does not want to read it in a log.
    return re.sub(r"(//|^).*@", r"\1", text)


def _is_address(host: str) -> bool:
    return host == "localhost" or is_ip(host)


def _region_of(host: str) -> str | None:
    found = _PUBLIC.fullmatch(host) or _DUAL_STACK.fullmatch(host)
    return found["region"] if found else None


def _lasting_name(scheme: str, host: str, port: int, region: str | None) -> str:
    # The public, the internal, the dual-stack and the accelerated endpoint of a region lead to the same bucket, by
    # whatever scheme: an upload that was begun from outside can be finished from inside. Custom domains and test
    # servers say nothing of the sort, so they stand for themselves; http and https on their own ports are one.
    if region is not None and any(name.fullmatch(host) for name in (_PUBLIC, _DUAL_STACK, _ACCELERATED)):
        return f"oss-{region}.aliyuncs.com"
    return _authority(host, None if port == _DEFAULT_PORTS[scheme] else port)


def _authority(host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"
