"""
Randomly drawn sequences of failures, crashes and changes: no promise is broken.

The number of sequences is the `max_examples` of the profile (``--hypothesis-profile``); machines on a disk run a fifth
of it, those that use a network a twentieth. Sequences that once broke a promise are kept in `test_counterexamples`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from toys.harnesses import SHAPES

from partwise import server as oss_server
from partwise.backends.local import LocalBackend
from partwise.backends.memory import DEFAULT_CAPABILITIES
from partwise.backends.oss import Credentials, OSSBackend
from partwise.stores.file import FileCheckpointStore
from partwise.stores.sqlite import SQLiteCheckpointStore
from partwise.testing import BackendHarness, Fault, FaultKind, ResumeMachine, StoreHarness
from partwise.testing._proof.events import Event, ProcessScript, ProcessTrace
from partwise.testing._proof.scenario import MemoryHarness
from partwise.testing._proof.sources import RealFile, SimulatedStream
from partwise.testing._proof.state_machine import RunParameters

pytestmark = pytest.mark.usefixtures("level_of_scenarios")

FULL = DEFAULT_CAPABILITIES
#: Capabilities of storages that lack something, by what they lack.
LACKING = {
    "lists of parts": evolve(FULL, lists_parts=False),
    "checksums of parts": evolve(FULL, part_checksums=False),
    "checksums of objects": evolve(FULL, object_checksums=False),
    "all of these": evolve(FULL, lists_parts=False, part_checksums=False, object_checksums=False),
    "checksums and metadata": evolve(
        FULL, part_checksums=False, object_checksums=False, options=FULL.options - {"metadata"}
    ),
    "parts of unequal sizes": evolve(FULL, equal_part_sizes=True),
    "aborts": evolve(FULL, aborts=False, lists_uploads=False),
    "other bytes for a part": evolve(FULL, replaces_parts=False, part_checksums=False, object_checksums=False),
    "parts in any order": evolve(FULL, sequential=True),
    "parts in any order, lists of them, and other bytes": evolve(
        FULL, sequential=True, lists_parts=False, replaces_parts=False, part_checksums=False
    ),
}


class Directory(BackendHarness):
    """A directory as a bucket."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp())

    def open(self) -> LocalBackend:
        return LocalBackend(self.path)

    def read(self, key: str) -> bytes | None:
        path = self.path / key
        return path.read_bytes() if path.exists() else None

    def part_size(self, backend: object) -> int:
        return 8

    def close(self) -> None:
        shutil.rmtree(self.path)


class Files(StoreHarness):
    """Checkpoints in files."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp())

    def open(self) -> FileCheckpointStore:
        return FileCheckpointStore(self.path)

    def read_record(self, name: str) -> bytes:
        return FileCheckpointStore(self.path).path_for(name).read_bytes()

    def write_record(self, name: str, data: bytes) -> None:
        FileCheckpointStore(self.path).path_for(name).write_bytes(data)

    def close(self) -> None:
        shutil.rmtree(self.path)


class Database(StoreHarness):
    """Checkpoints in a database."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp())

    def open(self) -> SQLiteCheckpointStore:
        return SQLiteCheckpointStore(self.path / "uploads.db")

    def close(self) -> None:
        shutil.rmtree(self.path)


class OverTheWire(BackendHarness):
    """A bucket on a server that emulates OSS."""

    def __init__(self) -> None:
        super().__init__()
        self.server = oss_server.OSSServer()
        self.secrets = (self.server.access_key_secret,)
        self.server.start()

    def open(self) -> OSSBackend:
        return OSSBackend(
            "examplebucket",
            endpoint=self.server.endpoint,
            region=self.server.region,
            addressing_style="path",
            credentials=Credentials(self.server.access_key_id, self.server.access_key_secret),
        )

    def read(self, key: str) -> bytes | None:
        storage = self.server.backend()
        return storage.read(key) if storage.head_object(key) else None

    def close(self) -> None:
        self.server.stop()


class FileOnDisk(RealFile):
    """A file in a temporary directory."""

    def __init__(self, data: bytes) -> None:
        self._directory = tempfile.TemporaryDirectory()
        super().__init__(Path(self._directory.name, "source"), data)

    def change(self, event: Event, size: int | None = None) -> None:
        # A file that was replaced can't get its inode back.
        super().change(Event.REWRITE if event is Event.RESTORE else event, size)

    def close(self) -> None:
        self._directory.cleanup()


class OnDisk(ResumeMachine):
    backend = Directory
    store = Files
    sources = (FileOnDisk, SimulatedStream)
    torn_writes = True


class InDatabase(ResumeMachine):
    store = Database


class OnTheWire(ResumeMachine):
    backend = OverTheWire


def explore(machine: type[ResumeMachine], figure: object, *, share: int = 1) -> None:
    """Run the machine on as many sequences as the profile says, or on one of `share` of them."""
    counts: Counter[str] = Counter()

    class Counting(machine):  # type: ignore[misc, valid-type]  # a subclass of the given machine
        def _run(self, script: ProcessScript) -> ProcessTrace:
            counts["processes"] += 1
            return super()._run(script)

        def teardown(self) -> None:
            counts["sequences"] += 1
            super().teardown()

    Counting.__qualname__ = Counting.__name__ = machine.__name__
    examples = max(1, settings().max_examples // share)
    run_state_machine_as_test(Counting, settings=settings(max_examples=examples, stateful_step_count=8))
    figure("sequences of processes, drawn by Hypothesis", counts["sequences"])
    figure("processes in them", counts["processes"])


def test_no_sequence_breaks_a_promise(figure):
    explore(ResumeMachine, figure)


@pytest.mark.parametrize("lacking", LACKING)
def test_no_sequence_breaks_a_promise_on_a_storage_without(lacking, figure):
    class Poor(ResumeMachine):
        backend = staticmethod(lambda: MemoryHarness(capabilities=LACKING[lacking]))

    explore(Poor, figure, share=3)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_sequence_breaks_a_promise_on_a_storage(shape, figure):
    class Shaped(ResumeMachine):
        backend = SHAPES[shape]

    explore(Shaped, figure, share=5)


def test_no_sequence_breaks_a_promise_with_files_on_a_disk(figure):
    explore(OnDisk, figure, share=5)


def test_no_sequence_breaks_a_promise_with_checkpoints_in_a_database(figure):
    explore(InDatabase, figure, share=5)


def test_no_sequence_breaks_a_promise_over_the_wire(figure):
    explore(OnTheWire, figure, share=20)


@pytest.mark.parametrize("number", [1, 2, 5])
def test_no_part_is_lost_when_its_record_is_torn_by_a_crash(number):
    """The rules are called directly: the record is torn, and the part is found in the list of the storage."""
    machine = OnDisk()
    machine.begin(source=0, parts=4, rest=1, verify="metadata")
    machine.failing((Fault("append_part", FaultKind.TORN_WRITE, number),), None, RunParameters(concurrency=1))
    machine.teardown()
    torn, done = machine.scenario.traces

    assert torn.crashed
    assert (done.result.parts_resumed, done.result.parts_sent) == (number, 5 - number)
