"""Packages that are imported when they are first used."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest


class LazyPackage:
    """A package that the first access to one of its names imports."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name), name)


def lazy_package(name: str) -> Any:
    """
    Return a package for a module of tests, and skip that module if the package is not installed.

    Each process that runs tests imports all modules of tests, and needs few of their packages. An SDK takes half a
    second.
    """
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed", allow_module_level=True)
    return LazyPackage(name)
