"""Alibaba Cloud OSS, implemented from its HTTP API on urllib3's connections."""

from partwise.backends.oss.backend import OSSBackend
from partwise.backends.oss.credentials import (
    CallableCredentials,
    ClientCredentials,
    Credentials,
    CredentialsProvider,
    EnvironmentCredentials,
    StaticCredentials,
)
from partwise.backends.oss.urls import open_url

__all__ = ["OSSBackend", "open_url"]
__all__ += ["Credentials", "CredentialsProvider"]
__all__ += ["CallableCredentials", "ClientCredentials", "EnvironmentCredentials", "StaticCredentials"]
