"""What the tests of the core share: a clock that only moves when somebody waits, and uploads in one thread."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from partwise.backends.memory import MemoryBackend
from partwise.config import TransferConfig
from partwise.model import PartLimits
from partwise.stores.memory import MemoryCheckpointStore
from partwise.transport import InlineTransport
from partwise.uploader import Uploader


class FakeClock:
    """Time that passes only in `wait`, and all at once; `waits` are the seconds that were asked for."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.waits: list[float] = []
        #: Called at each wait, as whatever may happen meanwhile.
        self.meanwhile: Callable[[], object] = lambda: None

    def monotonic(self) -> float:
        return self.time

    def now(self) -> float:
        return 1_700_000_000 + self.time

    def wait(self, event, seconds):
        self.waits.append(seconds)
        self.meanwhile()
        if not event.is_set():
            self.time += seconds
        return event.is_set()


class Longest:
    """No chance at all: each draw is the largest there is."""

    def uniform(self, a, b, /):
        return b


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def longest():
    return Longest()


@pytest.fixture
def backend():
    """A bucket that takes parts of any size."""
    return MemoryBackend("bucket", limits=PartLimits())


@pytest.fixture
def store():
    return MemoryCheckpointStore()


@pytest.fixture
def uploader(backend, store, clock):
    """Makes an uploader that sends parts of 10 bytes one by one, in this thread."""

    def make(*, backend=backend, store=store, executor=None, transport=None, **config):
        return Uploader(
            backend,
            store,
            TransferConfig(**{"part_size": 10, "multipart_threshold": 0, **config}),
            executor,
            clock=clock,
            chance=Longest(),
            transport=transport or (None if executor else lambda: InlineTransport(clock)),
        )

    return make
