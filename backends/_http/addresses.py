"""Endpoints and URLs, and which hosts are IP addresses, or this machine."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from urllib.parse import urlsplit

from attrs import define

from partwise._validation import check_string
from partwise.errors import InvalidInput

DEFAULT_PORTS = {"http": 80, "https": 443}

_HOST = re.compile(r"[a-z0-9]([a-z0-9_.-]*[a-z0-9])?")
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_URL = re.compile(r"(?P<server>https?://[^/?#]+)(?P<target>([/?][^#]*)?)", re.IGNORECASE)


@define(frozen=True)
class ServerAddress:
    """Scheme, host and port of a server, and the path of its service."""

    scheme: str
    host: str  # without brackets if it is an IPv6 address
    port: int
    path: str  # without a slash at its end

    @property
    def port_shown(self) -> int | None:
        """The port, None if it is the scheme's default."""
        return None if self.port == DEFAULT_PORTS[self.scheme] else self.port


def parse_endpoint(endpoint: object, example: str) -> ServerAddress:
    """
    Parse an endpoint with or without scheme (then https), port and path.

    Raises:
        InvalidInput: it is not one, unlike `example`. The message does not contain the password of a user in it.
    """
    text = check_string("endpoint", endpoint).strip()
    wrong = InvalidInput(f"{without_user(text)!r} is not a valid endpoint, such as {example}")
    try:
        url = urlsplit(text if "://" in text else f"https://{text}")
        host, port = url.hostname or "", url.port
    except ValueError:
        # The error is raised below: this one may contain a password, and would be its context.
        url, host, port = urlsplit(""), "", None
    path = url.path.rstrip("/")
    if not text.isprintable() or url.scheme not in DEFAULT_PORTS or url.username is not None:
        raise wrong
    if url.query or url.fragment or port == 0 or not (is_ip(host) or _HOST.fullmatch(host)):
        raise wrong
    if not _PATH.fullmatch(path) or any(segment in (".", "..") for segment in path.split("/")):
        raise wrong
    return ServerAddress(url.scheme, host, port or DEFAULT_PORTS[url.scheme], path)


def check_configured(origin: str, check: Callable[[str], object], value: str) -> None:
    """
    Check a setting that the caller did not pass.

    Args:
        origin: where it comes from, such as a variable of the environment.
        check: raises InvalidInput for an invalid value.
        value: the setting.

    Raises:
        InvalidInput: it is invalid. The message names its origin.
    """
    try:
        check(value)
    except InvalidInput as error:
        raise InvalidInput(f"{origin}: {error.message}", hint=error.hint_template) from None


def split_url(url: str, what: str) -> tuple[ServerAddress, str]:
    """
    Return the server of a URL, without a path, and the request target.

    Raises:
        InvalidInput: it is not the URL of `what`. The message does not contain the password of a user in it.
    """
    found = _URL.fullmatch(url) if url.isascii() and url.isprintable() and " " not in url else None
    wrong = InvalidInput(f"{without_user(url)!r:.80} is not the URL of {what}")
    if found is None:
        raise wrong
    try:
        return parse_endpoint(found["server"], ""), f"/{found['target'].removeprefix('/')}"
    except InvalidInput:
        raise wrong from None


def without_user(url: str) -> str:
    """Return a URL, which may be invalid, without the user and the password in it."""
    return re.sub(r"(//|^).*@", r"\1", url, flags=re.DOTALL)


def authority(host: str, port: int | None) -> str:
    """Return a host as in a URL and in the Host header, with the port if given."""
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


def is_ip(host: str) -> bool:
    """Return whether a host is an IP address, as opposed to a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """
    Return whether a host is this machine itself.

    Requests to it do not leave the machine, so they may be unsigned and unencrypted. A name below ``localhost`` does
    not count: a resolver may return any address for it, such as that of another container.
    """
    name = _plain_name(host)
    return name == "localhost" or (is_ip(name) and ipaddress.ip_address(name).is_loopback)


def is_local_name(host: str) -> bool:
    """
    Return whether a host is ``localhost`` or a name below it.

    Another machine would not resolve it to the same address.
    """
    return f".{_plain_name(host)}".endswith(".localhost")


def _plain_name(host: str) -> str:
    return host.lower().removesuffix(".")
