"""Fixtures of the core tests: a clock that only advances in `wait`, and uploads in one thread."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attrs import evolve

from partwise._engine.context import Runtime
from partwise._engine.workers import ExecutorWorkers, InlineWorkers
from partwise.backends.memory import DEFAULT_CAPABILITIES, MemoryBackend
from partwise.config import TransferConfig
from partwise.errors import UploadFailed
from partwise.model import PartLimits
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing.fakes import ChangingSource, pseudo_random_bytes
from partwise.testing.faults import Fault, FaultKind, FaultPlan
from partwise.testing.faulty import FaultyBackend, FaultyCheckpointStore
from partwise.uploader import Uploader


class FakeClock:
    """A clock that only advances in `wait`, without waiting; `waits` are the requested seconds."""

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
    """Randomness that always draws the maximum."""

    def uniform(self, a, b, /):
        return b


@pytest.fixture(scope="session")
def make_clock():
    return FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def longest():
    return Longest()


LATE = DEFAULT_CAPABILITIES.late_options | {"callback"}


@pytest.fixture
def make_backend():
    """Makes a bucket that takes parts of any size, with other capabilities or limits than the usual where given."""

    def make(*, limits=None, callback=None, **capabilities):
        if "options" in capabilities:
            capabilities = {"late_options": LATE & set(capabilities["options"]), **capabilities}
        given = evolve(DEFAULT_CAPABILITIES, **capabilities) if capabilities else None
        return MemoryBackend("bucket", limits=limits or PartLimits(), capabilities=given, callback=callback)

    return make


@pytest.fixture
def backend(make_backend):
    return make_backend()


@pytest.fixture
def store():
    return MemoryCheckpointStore()


@pytest.fixture
def left_behind(backend, store):
    """What an upload left behind: the ids of pending uploads, and checkpoints."""

    def look(backend=backend):
        return [*backend.uploads, *store.scan()]

    return look


@pytest.fixture
def data():
    """What is uploaded: four parts of 10 bytes and one of 5."""
    return pseudo_random_bytes(45)


@pytest.fixture
def source(data):
    return ChangingSource(data)


@pytest.fixture
def uploader(backend, store, clock):
    """Makes an uploader that sends parts of 10 bytes one by one, in this thread."""

    def make(*, backend=backend, store=store, executor=None, new_workers=None, **config):
        workers = new_workers or (lambda: ExecutorWorkers(executor) if executor else InlineWorkers(clock))
        settings = TransferConfig(**{"part_size": 10, "multipart_threshold": 0, "concurrency": 1, **config})
        return Uploader._with_runtime(Runtime(workers, clock, Longest()), backend, store=store, config=settings)

    return make


@pytest.fixture
def faulty(uploader, backend, store):
    """Makes an uploader whose backend and store inject these faults, each of which must be reached."""
    plans = []

    def make(*faults, backend=backend, store=store, **settings):
        plans.append(plan := FaultPlan(faults))
        return uploader(
            backend=FaultyBackend(backend, plan), store=store and FaultyCheckpointStore(store, plan), **settings
        )

    yield make
    for plan in plans:
        plan.assert_all_reached()


@pytest.fixture
def interrupted(faulty):
    """Begins an upload of this source as "key" that stops after two parts, and gives the error that it ended with."""

    def begin(source, options=None, **settings):
        fault = Fault("upload_part", FaultKind.PERMANENT, part_number=3)
        with pytest.raises(UploadFailed) as caught:
            faulty(fault, **settings).upload(source, "key", options=options)
        return caught.value

    return begin
