"""
Fixtures for those who test their own programs with pytest.

pytest loads this module in every session where partwise is installed, so that it imports nothing of partwise until a
fixture is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from partwise.backends.memory import MemoryBackend
    from partwise.server import OSSServer
    from partwise.stores.memory import MemoryCheckpointStore


@pytest.fixture
def memory_backend() -> Iterator[MemoryBackend]:
    """A bucket in memory, empty."""
    from partwise.backends.memory import MemoryBackend

    with MemoryBackend() as backend:
        yield backend


@pytest.fixture
def memory_store() -> Iterator[MemoryCheckpointStore]:
    """A checkpoint store in memory, empty."""
    from partwise.stores.memory import MemoryCheckpointStore

    with MemoryCheckpointStore() as store:
        yield store


@pytest.fixture
def oss_server(memory_backend: MemoryBackend) -> Iterator[OSSServer]:
    """
    An OSS-protocol server on the loopback interface; its bucket ``examplebucket`` is `memory_backend`.

    It answers to an access key that is made for it: `access_key_id` and `access_key_secret`, in `region`, at
    `endpoint`.

    A test that planned faults of which one was never reached fails at its end: it did not test what it meant to.
    """
    from partwise.server import OSSServer

    with OSSServer({"examplebucket": memory_backend}) as server:
        yield server
        unreached = server.unreached_faults
    if unreached:
        pytest.fail(f"planned faults that no request reached: {', '.join(map(repr, unreached))}", pytrace=False)
