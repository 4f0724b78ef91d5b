"""
pytest fixtures for programs that use partwise; a summary of conformance tests.

The summary lists the hooks that a harness does not give, and what is not checked without them.

pytest loads this module in every session of an environment with partwise. It imports nothing else of partwise before a
fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

# The value of `partwise.testing.conformance.suite.HOOKS_PROPERTY`, which is not imported: see above.
_HOOKS_PROPERTY = "partwise_hooks_not_given"

if TYPE_CHECKING:
    from partwise.backends.memory import MemoryBackend
    from partwise.server import OSSServer, S3Server
    from partwise.server.server import StorageServer
    from partwise.stores.memory import MemoryCheckpointStore


@pytest.fixture
def memory_backend() -> Iterator[MemoryBackend]:
    """An empty bucket in memory."""
    from partwise.backends.memory import MemoryBackend

    with MemoryBackend() as backend:
        yield backend


@pytest.fixture
def memory_store() -> Iterator[MemoryCheckpointStore]:
    """An empty checkpoint store in memory."""
    from partwise.stores.memory import MemoryCheckpointStore

    with MemoryCheckpointStore() as store:
        yield store


@pytest.fixture
def oss_server(memory_backend: MemoryBackend) -> Iterator[OSSServer]:
    """
    A server on loopback that emulates OSS over `memory_backend`.

    Its bucket is ``examplebucket``.

    Connect to `endpoint` in `region`, with the generated `access_key_id` and `access_key_secret`.

    The test fails at its end if a planned fault was never reached, since it did not test that fault.
    """
    from partwise.server import OSSServer

    with OSSServer({"examplebucket": memory_backend}) as server:
        yield server
        _check_faults(server)


@pytest.fixture
def s3_server(memory_backend: MemoryBackend) -> Iterator[S3Server]:
    """
    A server on loopback that emulates S3 over `memory_backend`.

    Its bucket is ``examplebucket``. It is used like `oss_server`.
    """
    from partwise.server import S3Server

    with S3Server({"examplebucket": memory_backend}) as server:
        yield server
        _check_faults(server)


def _check_faults(server: StorageServer) -> None:
    unreached = server.unreached_faults
    if unreached:
        pytest.fail(f"planned faults that no request reached: {', '.join(map(repr, unreached))}", pytrace=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the hooks that the harnesses of conformance tests do not give."""
    missing: dict[tuple[str, str], list[str]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == _HOOKS_PROPERTY:
                    harness, hook, unchecked = value
                    missing.setdefault((hook, unchecked), []).append(harness)
    if missing:
        terminalreporter.section("partwise: NOT CHECKED, since hooks are not given", yellow=True)
        for (hook, unchecked), harnesses in missing.items():
            terminalreporter.write_line(f"{hook}: {unchecked}")
            terminalreporter.write_line(f"    not given by {', '.join(sorted(set(harnesses)))}")
