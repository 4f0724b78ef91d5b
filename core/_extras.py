"""
What to say when a package of an extra is not installed.

A program learns the same from its exception as a person from the command line: what needs which package, and how to
install it.
"""

from __future__ import annotations

__all__ = ["install_hint", "missing_module"]


def install_hint(extra: str) -> str:
    """Return the command that installs an extra, as a hint."""
    return f'Run: pip install "partwise[{extra}]"'


def missing_module(what: str, error: ModuleNotFoundError, extra: str) -> ModuleNotFoundError:
    """
    Return the error for an import that lacks a package of `extra`.

    Args:
        what: what was imported, such as ``partwise.server``.
        error: names the package, which the returned error names, too (`name`).
        extra: the extra that installs it.
    """
    message = f"{what} needs {error.name}, which is not installed. {install_hint(extra)}"
    return ModuleNotFoundError(message, name=error.name, path=error.path)
