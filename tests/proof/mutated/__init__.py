"""The mutations that the tests must notice, one module for each area of the code."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from mutated.mutation import Mutation

AREAS = tuple(import_module(f"mutated.{found.name}") for found in iter_modules(__path__) if found.name != "mutation")
MUTATIONS = [mutation for area in AREAS for mutation in area.MUTATIONS]

__all__ = ["AREAS", "MUTATIONS", "Mutation"]
