"""IP addresses and names of this machine, as hosts of URLs."""

from __future__ import annotations

import ipaddress


def is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself, so that what is sent to it does not leave it."""
    name = host.lower().removesuffix(".")
    return (
        name == "localhost" or name.endswith(".localhost") or (is_ip(name) and ipaddress.ip_address(name).is_loopback)
    )
