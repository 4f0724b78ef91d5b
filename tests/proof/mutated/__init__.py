"""The mutations that the tests must notice, one module for each area of the code."""

from __future__ import annotations

from mutated import (
    api,
    authors,
    checksums,
    cli,
    engine,
    events,
    filesystem,
    kit,
    local,
    oss,
    postgres,
    s3,
    s3_server,
    server,
    shapes,
    stores,
)
from mutated.mutation import Mutation

AREAS = (
    api,
    authors,
    checksums,
    cli,
    engine,
    events,
    filesystem,
    kit,
    local,
    oss,
    postgres,
    s3,
    s3_server,
    server,
    shapes,
    stores,
)
MUTATIONS = [mutation for area in AREAS for mutation in area.MUTATIONS]

__all__ = ["AREAS", "MUTATIONS", "Mutation"]
