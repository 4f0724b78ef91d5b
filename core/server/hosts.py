"""
Which hosts a request may name.

A web page can be made to send requests to a server on loopback: its own host name resolves to 127.0.0.1 when the
browser asks again (DNS rebinding), or a form on it posts there. Such a request names the host of the page, in its Host
header or in its Origin header, and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from partwise.server.messages import Request
from partwise.server.oss.errors import OSSError
from partwise.server.settings import ServerSettings


def host_of(header: str) -> str:
    """The host that a Host header names, without its port, in lower case."""
    if header.startswith("[") and "]" in header:
        return header[1:].partition("]")[0].lower()
    # ali-oss puts an empty bucket before the endpoint when it asks the service itself by an address.
    return header.partition(":")[0].lower().removeprefix(".")


def is_loopback(host: str) -> bool:
    """Whether the host is this machine, for this machine alone: 127.0.0.0/8, ``::1`` or ``localhost``."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def check_hosts(request: Request, settings: ServerSettings, listens_on: str) -> None:
    """
    Refuse a request that names a host which is neither loopback nor one that the server was given.

    Args:
        request: the request. What counts is its Host header, and its Origin header, which browsers add.
        settings: the hosts that were given.
        listens_on: the address that the server listens on, which counts as given.

    Raises:
        OSSError: AccessDenied.
    """
    for header, host in _named(request):
        if not _is_known(host, settings, listens_on):
            raise OSSError(
                "AccessDenied",
                f"The {header} header names {host!r}, which is neither loopback nor a host that this server was "
                "given. Use its endpoint as printed, or give it that host: partwise serve --allow-host, or "
                "ServerSettings(hosts=...).",
            )


def _named(request: Request) -> Iterator[tuple[str, str]]:
    yield "Host", host_of(request.header("host") or "")
    origin = request.header("origin")
    if origin is not None:
        try:
            yield "Origin", urlsplit(origin).hostname or ""
        except ValueError:
            yield "Origin", ""


def _is_known(host: str, settings: ServerSettings, listens_on: str) -> bool:
    if is_loopback(host) or host == listens_on or host in settings.cnames or host in settings.path_style_hosts:
        return True
    if _listens_everywhere(listens_on) and _is_address(host):
        # An address is resolved by no name server. Which addresses this machine has is not known here.
        return True
    names = {"localhost", *settings.hosts}
    return host in names or host.partition(".")[2] in names


def _listens_everywhere(address: str) -> bool:
    return _is_address(address) and ip_address(address).is_unspecified


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
