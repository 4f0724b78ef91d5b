"""
Amazon S3 and storages that speak S3.

It is implemented from the HTTP API on urllib3's connections. Submodules are imported when one of their names is first
used: the options are light, and the backend is not.
"""

from importlib import import_module
from typing import TYPE_CHECKING

_HOMES = {
    **dict.fromkeys(("S3Backend",), "backend"),
    **dict.fromkeys(("S3Options",), "options"),
    **dict.fromkeys(("Dialect", "DIALECTS"), "dialects"),
    **dict.fromkeys(("Credentials", "CredentialsProvider", "CallableCredentials"), "credentials"),
    **dict.fromkeys(("AWSEnvironmentCredentials", "StaticCredentials"), "credentials"),
    **dict.fromkeys(("open_url",), "urls"),
}

if TYPE_CHECKING:
    from partwise.backends.s3.backend import S3Backend
    from partwise.backends.s3.credentials import (
        AWSEnvironmentCredentials,
        CallableCredentials,
        Credentials,
        CredentialsProvider,
        StaticCredentials,
    )
    from partwise.backends.s3.dialects import DIALECTS, Dialect
    from partwise.backends.s3.options import S3Options
    from partwise.backends.s3.urls import open_url
else:  # a type checker would accept any name

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = ["S3Backend", "S3Options", "open_url"]
__all__ += ["DIALECTS", "Dialect"]
__all__ += ["Credentials", "CredentialsProvider"]
__all__ += ["AWSEnvironmentCredentials", "CallableCredentials", "StaticCredentials"]
