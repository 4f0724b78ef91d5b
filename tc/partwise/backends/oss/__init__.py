"""
Alibaba Cloud OSS, implemented from its HTTP API on urllib3's connections.

Submodules are imported when one of their names is first used: the options and the flags of the command line are light,
and the backend is not.
"""

from importlib import import_module
from typing import TYPE_CHECKING

_HOMES = {
    **dict.fromkeys(("OSSBackend",), "backend"),
    **dict.fromkeys(("Callback", "OSSOptions"), "options"),
    **dict.fromkeys(("Credentials", "CredentialsProvider", "CallableCredentials", "ClientCredentials"), "credentials"),
    **dict.fromkeys(("EnvironmentCredentials", "StaticCredentials"), "credentials"),
    **dict.fromkeys(("open_url",), "urls"),
}

if TYPE_CHECKING:
    from partwise.backends.oss.backend import OSSBackend
    from partwise.backends.oss.credentials import (
        CallableCredentials,
        ClientCredentials,
        Credentials,
        CredentialsProvider,
        EnvironmentCredentials,
        StaticCredentials,
    )
    from partwise.backends.oss.options import Callback, OSSOptions
    from partwise.backends.oss.urls import open_url
else:  # a type checker would accept any name

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = ["OSSBackend", "open_url"]
__all__ += ["OSSOptions", "Callback"]
__all__ += ["Credentials", "CredentialsProvider"]
__all__ += ["CallableCredentials", "ClientCredentials", "EnvironmentCredentials", "StaticCredentials"]
