"""Objects as files in a local directory."""

from partwise.backends.local.backend import LocalBackend, open_url

__all__ = ["LocalBackend", "open_url"]
