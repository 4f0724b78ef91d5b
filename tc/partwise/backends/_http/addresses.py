"""Which hosts are IP addresses, and which are this machine."""

from __future__ import annotations

import ipaddress


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

    Requests to it do not leave the machine.
    """
    name = host.lower().removesuffix(".")
    return (
        name == "localhost" or name.endswith(".localhost") or (is_ip(name) and ipaddress.ip_address(name).is_loopback)
    )
