"""
Which proxy requests go through: the one that was given, or the environment's, read as curl reads it. Pure.

Only plain HTTP proxies are supported. Another kind is refused: to connect without it would go a way that was not meant.
"""

from __future__ import annotations

import ipaddress
import re
from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from attrs import define, field

from partwise.backends._http.addresses import is_loopback
from partwise.errors import InvalidInput

#: What curl takes where a proxy's URL has no port.
_DEFAULT_PORT = 1080

_HOST = re.compile(r"[A-Za-z0-9_.-]+|[0-9A-Fa-f:.]+")

#: Beside these there is ``HTTP_PROXY``, which curl does not read: a web server sets it from a header of its client.
_VARIABLES = {"https": ("https_proxy", "HTTPS_PROXY"), "http": ("http_proxy",)}
_VARIABLES_FOR_ALL = ("all_proxy", "ALL_PROXY")
_EXCEPTIONS = ("no_proxy", "NO_PROXY")


@define(frozen=True)
class Proxy:
    """
    An HTTP proxy.

    Args:
        host: its host.
        port: its port.
        authorization: the value of Proxy-Authorization; a secret.
        password: the password in it, to be kept out of messages.
        source: where the proxy was named: ``proxy=`` or a variable of the environment.
    """

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    source: str = "proxy="

    @classmethod
    def parse(cls, url: str, source: str = "proxy=") -> Proxy:
        """
        The proxy of a URL like ``http://user:password@host:3128``, or of ``host:3128``.

        Raises:
            InvalidInput: it is not one. The message does not show the URL, which may hold a password.
        """
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            host, port = parts.hostname or "", parts.port
        except ValueError:
            # Raised below: this error holds the URL, and would be the context of one that is raised here.
            parts, host, port = urlsplit(""), "", None
        if parts.scheme != "http" and re.fullmatch(r"https|socks[45]?[ah]?", parts.scheme):
            raise _unusable(source, f"; proxies of the kind {parts.scheme}:// are not supported")
        if parts.scheme != "http" or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise _unusable(source)
        if (
            re.search(r"[\x00- \x7f]", url)
            or not _HOST.fullmatch(host)
            or port == 0
            or (port is None and "://" not in url)
        ):
            raise _unusable(source)
        authorization = password = None
        if parts.username is not None:
            password = unquote(parts.password or "")
            user = f"{unquote(parts.username)}:{password}".encode("utf-8", "surrogateescape")
            authorization = f"Basic {b64encode(user).decode()}"
        return cls(host, port or _DEFAULT_PORT, authorization, password, source)

    @property
    def headers(self) -> dict[str, str]:
        """What the proxy itself is sent."""
        return {} if self.authorization is None else {"Proxy-Authorization": self.authorization}

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown."""
        written = None if self.authorization is None else self.authorization.removeprefix("Basic ")
        return tuple(secret for secret in (self.password, written) if secret)

    @property
    def authority(self) -> str:
        """Host and port, for people."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def environment_proxy(scheme: str, host: str, environment: Mapping[str, str]) -> Proxy | None:
    """
    The proxy that the environment names for a host, as curl takes it; None to connect without one.

    `https_proxy`, `http_proxy` or `all_proxy`, less the hosts in `no_proxy`; each in upper case, too, but for
    `HTTP_PROXY`. The lower case is looked at first. This machine itself is always reached without a proxy.

    Args:
        scheme: ``http`` or ``https``.
        host: the host to connect to.
        environment: the variables.

    Raises:
        InvalidInput: the variable holds what can't be a proxy. The message names the variable, and not its value.
    """
    name = next((name for name in (*_VARIABLES[scheme], *_VARIABLES_FOR_ALL) if environment.get(name)), None)
    if name is None or is_loopback(host):
        return None
    exceptions = next((environment[name] for name in _EXCEPTIONS if environment.get(name)), "")
    return None if _is_exception(host, exceptions) else Proxy.parse(environment[name], name)


def _is_exception(host: str, exceptions: str) -> bool:
    if exceptions.strip() == "*":
        return True
    listed = [entry for entry in re.split(r"[,\s]+", exceptions) if entry]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.lower().removesuffix(".")
        names = [entry.lower().removeprefix(".").removesuffix(".") for entry in listed]
        return any(name == other or name.endswith(f".{other}") for other in names if other)
    return any(network is not None and address in network for network in map(_network, listed))


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text.replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        return None


def _unusable(source: str, why: str = "") -> InvalidInput:
    how = "http://host:port or http://user:password@host:port"
    return InvalidInput(f"{source} can't be used: a proxy is given as {how}{why}")
