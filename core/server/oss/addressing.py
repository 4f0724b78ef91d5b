"""Which bucket and which key a request is for: by path, by the bucket's host, or by a host of one's own."""

from __future__ import annotations

import re
from ipaddress import ip_address

from attrs import define

from partwise.server.hosts import host_of
from partwise.server.messages import Request
from partwise.server.oss.errors import OSSError
from partwise.server.settings import ServerSettings

_ENDPOINT = re.compile(r"(s3\.)?oss-[a-z0-9-]+\.aliyuncs\.com|[a-z0-9-]+\.oss\.aliyuncs\.com")
_KEY_BYTES_MAX = 1023


@define(frozen=True)
class Place:
    """
    Where a request is addressed to.

    Args:
        host: the host without its port, in lower case.
        bucket: None for a request to the service itself.
        key: None for a request to the bucket.
    """

    host: str
    bucket: str | None
    key: str | None


def place_of(request: Request, settings: ServerSettings) -> Place:
    """
    The bucket and key that the request is for.

    Raises:
        OSSError: the path can't be one, the key can't be a key, or the bucket is in the path where it may not be.
    """
    if not request.path.startswith("/"):
        raise OSSError("InvalidURI")
    host = host_of(request.header("host") or "")
    rest = request.path[1:]
    if host in settings.cnames:
        return _checked(Place(host, settings.cnames[host], rest or None))
    if _is_path_style(host) or host in settings.path_style_hosts:
        bucket, _, key = rest.partition("/")
        return _checked(Place(host, bucket or None, key or None))
    if _ENDPOINT.fullmatch(host):
        if rest:
            raise OSSError("SecondLevelDomainForbidden")
        return Place(host, None, None)
    return _checked(Place(host, host.partition(".")[0], rest or None))


def _is_path_style(host: str) -> bool:
    if "." not in host and ":" not in host:
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _checked(place: Place) -> Place:
    if place.key is None:
        return place
    try:
        size = len(place.key.encode())
    except UnicodeEncodeError:
        raise OSSError("InvalidObjectName", "The object name is not UTF-8.") from None
    if size > _KEY_BYTES_MAX:
        raise OSSError("InvalidObjectName", "The length of the object name must be less than 1024.")
    if place.key.startswith(("/", "\\")):
        raise OSSError("InvalidObjectName")
    return place
