"""
Choose the proxy for a request: the given one, or that of the environment.

The environment is read as curl reads it. This module does no I/O. Only plain HTTP proxies are supported. Another kind
is an error: connecting directly would bypass it.
"""

from __future__ import annotations

import ipaddress
import re
from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from attrs import define, field

from partwise.backends._http.addresses import is_local_name, is_loopback
from partwise.errors import InvalidInput

#: As in curl, for a proxy URL without a port.
_DEFAULT_PORT = 1080

_HOST = re.compile(r"[A-Za-z0-9_.-]+|[0-9A-Fa-f:.]+")

#: curl does not read HTTP_PROXY: a CGI server sets it from the client's Proxy header (CVE-2016-5385, "httpoxy").
_VARIABLES = {"https": ("https_proxy", "HTTPS_PROXY"), "http": ("http_proxy",)}
_VARIABLES_FOR_ALL = ("all_proxy", "ALL_PROXY")
_EXCEPTIONS = ("no_proxy", "NO_PROXY")


@define(frozen=True)
class Proxy:
    """An HTTP proxy."""

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)  # the value of Proxy-Authorization; a secret
    password: str | None = field(default=None, repr=False)  # the password in it, to keep it out of messages
    variable: str | None = None  # the environment variable that names the proxy; None if it was set by the caller

    @classmethod
    def parse(cls, url: str, variable: str | None = None) -> Proxy:
        """
        Parse a URL such as ``http://user:password@host:3128``, or ``host:3128``.

        Raises:
            InvalidInput: it is invalid. The message does not contain the URL, which may contain a password.
        """
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            host, port = parts.hostname or "", parts.port
        except ValueError:
            # The error is raised below: this one contains the URL, and would be its context.
            parts, host, port = urlsplit(""), "", None
        if re.fullmatch(r"https|socks[45]?[ah]?", parts.scheme):
            raise _invalid(variable, f": {parts.scheme}:// proxies are not supported")
        if parts.scheme != "http" or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise _invalid(variable)
        if re.search(r"[\x00- \x7f]", url) or not _HOST.fullmatch(host):
            raise _invalid(variable)
        if port == 0 or (port is None and "://" not in url):
            raise _invalid(variable)
        authorization = password = None
        if parts.username is not None:
            password = unquote(parts.password or "")
            user = f"{unquote(parts.username)}:{password}".encode("utf-8", "surrogateescape")
            authorization = f"Basic {b64encode(user).decode()}"
        return cls(host, port or _DEFAULT_PORT, authorization, password, variable)

    @property
    def headers(self) -> dict[str, str]:
        """The headers that are meant for the proxy."""
        return {} if self.authorization is None else {"Proxy-Authorization": self.authorization}

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values that must not appear in any output."""
        encoded = None if self.authorization is None else self.authorization.removeprefix("Basic ")
        return tuple(secret for secret in (self.password, encoded) if secret)

    @property
    def authority(self) -> str:
        """Host and port, as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def sign_in_hint(self) -> str:
        """The hint of an error that says that the proxy requires other credentials."""
        source = "" if self.variable is None else f". The proxy comes from the environment variable {self.variable}"
        return f"Pass {{proxy=http://user:password@host:port}}{source}"


def environment_proxy(scheme: str, host: str, environment: Mapping[str, str]) -> Proxy | None:
    """
    Return the environment's proxy for a host; None to connect directly.

    The environment is read as curl reads it. The variables are `https_proxy`, `http_proxy` and `all_proxy`, and
    `no_proxy` for exceptions, in lower case first, then in upper case; `HTTP_PROXY` is not read. This machine
    itself and names below ``localhost`` are always reached directly.

    Args:
        scheme: ``http`` or ``https``.
        host: the host to connect to.
        environment: the variables.

    Raises:
        InvalidInput: the variable's value is not a proxy. The message contains the variable's name, not its value.
    """
    name = next((name for name in (*_VARIABLES[scheme], *_VARIABLES_FOR_ALL) if environment.get(name)), None)
    if name is None or is_loopback(host) or is_local_name(host):
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


def _invalid(variable: str | None, why: str = "") -> InvalidInput:
    source = "" if variable is None else f" in the environment variable {variable}"
    return InvalidInput(
        f"the proxy{source} is invalid{why}",
        hint="Pass {proxy=http://host:port} or {proxy=http://user:password@host:port}",
    )
