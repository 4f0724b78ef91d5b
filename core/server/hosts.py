"""
Which hosts a request may name.

A web page can make a browser send requests to a server on loopback: by a host name of its own that resolves to
127.0.0.1 on the second lookup (DNS rebinding), or by a form that posts there. Such a request names the host of the
page, in its Host or Origin header, and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from partwise.server.errors import ServiceError
from partwise.server.messages import ServerRequest
from partwise.server.settings import ServerSettings


def host_of(header: str) -> str:
    """Return the host of a Host header, without its port, in lower case."""
    if header.startswith("[") and "]" in header:
        return header[1:].partition("]")[0].lower()
    # ali-oss sends ".127.0.0.1" for a request to the service: an empty bucket name before the endpoint.
    return header.partition(":")[0].lower().removeprefix(".")


# Each request asks several times, for one or two hosts.
@lru_cache(maxsize=16)
def is_address(host: str) -> bool:
    """Return whether the host is an IP address rather than a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=16)
def is_loopback(host: str) -> bool:
    """
    Return whether a host is reachable from this machine only.

    Such hosts are 127.0.0.0/8, ``::1`` and ``localhost``.
    """
    return host == "localhost" or (is_address(host) and ip_address(host).is_loopback)


def check_hosts(request: ServerRequest, settings: ServerSettings, listen_address: str) -> None:
    """
    Refuse a request that names a host which is neither loopback nor allowed.

    Its Host and Origin headers are checked. The address that the server listens on is allowed, too.

    Raises:
        ServiceError: AccessDenied.
    """
    for header, host in _named_hosts(request):
        if not _is_allowed(host, settings, listen_address):
            raise ServiceError(
                "AccessDenied",
                f"The {header} header names {host!r}, which is neither loopback nor an allowed host of this server. "
                "Use its endpoint as printed, or allow the host: partwise serve --allow-host, or "
                "ServerSettings(hosts=...).",
            )


def _named_hosts(request: ServerRequest) -> Iterator[tuple[str, str]]:
    yield "Host", host_of(request.header("host") or "")
    origin = request.header("origin")
    if origin is not None:
        try:
            yield "Origin", urlsplit(origin).hostname or ""
        except ValueError:
            yield "Origin", ""


def _is_allowed(host: str, settings: ServerSettings, listen_address: str) -> bool:
    if is_loopback(host) or host == listen_address or host in settings.cnames or host in settings.path_style_hosts:
        return True
    if _listens_everywhere(listen_address) and is_address(host):
        # An address can't be rebound by a name server. Which addresses this machine has is not known here.
        return True
    names = {"localhost", *settings.hosts}
    return host in names or host.partition(".")[2] in names


def _listens_everywhere(address: str) -> bool:
    return is_address(address) and ip_address(address).is_unspecified
