"""
Any sequence of failures, deaths and changes, drawn: no promise is broken.

The number of sequences is that of the profile (``--hypothesis-profile``); those that touch a disk get a fifth of it,
those over the wire a twentieth.
What was found in this way is kept in `test_counterexamples`, told as a short story.
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

from partwise import server as oss_server
from partwise.backends.local import LocalBackend
from partwise.backends.memory import DEFAULT_CAPABILITIES
from partwise.backends.oss import Credentials, OSSBackend
from partwise.stores.file import FileCheckpointStore
from partwise.stores.sqlite import SQLiteCheckpointStore
from partwise.testing import BackendHarness, Fault, FaultKind, ResumeMachine, StoreHarness
from partwise.testing._proof.scenario import Happening, Life, Lived, MemoryHarness, RealFile, SimulatedStream
from partwise.testing._proof.state_machine import Manner

FULL = DEFAULT_CAPABILITIES
#: Storages that offer less, and what they lack.
LACKING = {
    "lists of parts": evolve(FULL, lists_parts=False),
    "checksums of parts": evolve(FULL, part_checksums=False),
    "checksums of objects": evolve(FULL, object_checksums=False),
    "all of these": evolve(FULL, lists_parts=False, part_checksums=False, object_checksums=False),
    "checksums and metadata": evolve(
        FULL, part_checksums=False, object_checksums=False, options=FULL.options - {"metadata"}
    ),
    "room for unequal parts": evolve(FULL, equal_part_sizes=True),
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
    """A bucket behind a server that speaks the protocol of OSS."""

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
    """A file of its own directory."""

    def __init__(self, data: bytes) -> None:
        self._directory = tempfile.TemporaryDirectory()
        super().__init__(Path(self._directory.name, "source"), data)

    def change(self, what: Happening, size: int | None = None) -> None:
        # What has been replaced never gets its identity back.
        super().change(Happening.REWRITE if what is Happening.RESTORE else what, size)

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
    """Run the machine on as many sequences as the profile says, or on a share of that."""
    lived: Counter[str] = Counter()

    class Counting(machine):  # type: ignore[misc, valid-type]  # a machine like the one given
        def _live(self, life: Life) -> Lived:
            lived["lives"] += 1
            return super()._live(life)

        def teardown(self) -> None:
            lived["sequences"] += 1
            super().teardown()

    Counting.__qualname__ = Counting.__name__ = machine.__name__
    examples = max(1, settings().max_examples // share)
    run_state_machine_as_test(Counting, settings=settings(max_examples=examples, stateful_step_count=8))
    figure("sequences of lives, drawn by Hypothesis", lived["sequences"])
    figure("lives in them", lived["lives"])


def test_no_sequence_breaks_a_promise(figure):
    explore(ResumeMachine, figure)


@pytest.mark.parametrize("lacking", LACKING)
def test_no_sequence_breaks_a_promise_on_a_storage_without(lacking, figure):
    class Poor(ResumeMachine):
        backend = staticmethod(lambda: MemoryHarness(capabilities=LACKING[lacking]))

    explore(Poor, figure, share=3)


def test_no_sequence_breaks_a_promise_with_files_on_a_disk(figure):
    explore(OnDisk, figure, share=5)


def test_no_sequence_breaks_a_promise_with_checkpoints_in_a_database(figure):
    explore(InDatabase, figure, share=5)


def test_no_sequence_breaks_a_promise_over_the_wire(figure):
    explore(OnTheWire, figure, share=20)


@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_death_in_the_middle_of_a_record_costs_no_part(number):
    """The machine, led by hand: the record is torn, and the storage's own list has the part."""
    machine = OnDisk()
    machine.begin(source=0, parts=4, rest=1, verify="metadata")
    machine.struck((Fault("append_part", FaultKind.TORN_WRITE, number),), None, Manner(concurrency=1))
    machine.teardown()
    torn, done = machine.world.lives

    assert torn.died
    assert (done.result.parts_resumed, done.result.parts_sent) == (number, 5 - number)
