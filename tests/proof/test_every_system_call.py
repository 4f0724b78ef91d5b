"""
Every system call at which a process can crash, with files on a real disk.

Storage, store and source are directories. The process crashes at its first call that changes a file, then at its
second, and so on until it succeeds; a write at which it crashes writes half of its bytes. Then another process runs.
"""

from __future__ import annotations

import gc
import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from partwise import TransferConfig
from partwise.backends.local import LocalBackend
from partwise.stores.file import FileCheckpointStore
from partwise.testing._proof.simulation import Simulation
from partwise.testing.durability.crash_points import crash_at
from partwise.testing.fakes import pseudo_random_bytes
from partwise.testing.faults import SimulatedCrash

PART = 1000
KEY = "exampledir/object"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Skip syncs, which matter only for power losses; exclude earlier objects from garbage collection."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    gc.collect()
    gc.freeze()  # for good: to unfreeze would include everything that `conftest.py` of all tests has excluded


class Disk:
    """A source, a bucket and checkpoints, each in a separate directory."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.source, self.bucket, self.checkpoints = path / "source", path / "bucket", path / "checkpoints"
        self.source.parent.mkdir(parents=True)
        self.source.write_bytes(data)

    def upload(self, **changes):
        config = TransferConfig(**{"part_size": PART, "multipart_threshold": 0, "concurrency": 1, **changes})
        with LocalBackend(self.bucket) as backend, FileCheckpointStore(self.checkpoints) as store:
            return Simulation().uploader(backend, store, config).upload(self.source, KEY)

    def crashes(self, step, **changes):
        """Whether the process crashed at this step."""
        try:
            with crash_at(step):
                self.upload(**changes)
        except SimulatedCrash:
            crashed = True
        else:
            crashed = False
        # The system closes the files of a crashed process and releases its locks; here garbage collection does.
        gc.collect()
        return crashed

    def stored(self):
        path = self.bucket / KEY
        return path.read_bytes() if path.exists() else None

    def records(self):
        return sorted(path.name for path in self.checkpoints.glob("*.ucp"))

    def pending(self):
        with LocalBackend(self.bucket) as backend:
            return list(backend.list_uploads())


@contextmanager
def disks(tmp_path):
    """Makes a new disk for each crash."""
    count = 0

    def make(data):
        nonlocal count
        count += 1
        return Disk(tmp_path / str(count), data)

    yield make


@pytest.mark.parametrize(
    ("parts", "changes"),
    [(1, {"multipart_threshold": PART}), (1, {}), (3, {}), (3, {"concurrency": 2})],
    ids=["single request", "1 part", "3 parts", "3 parts, 2 in parallel"],
)
def test_the_next_run_recovers_from_a_crash_at_any_system_call(tmp_path, figure, parts, changes):
    data = pseudo_random_bytes(parts * PART - 100)
    step, orphans = 0, 0
    with disks(tmp_path) as make:
        while True:
            step += 1
            disk = make(data)
            crashed = disk.crashes(step, **changes)
            assert disk.stored() in {None, data}, f"EXACT: crashed at step {step}"
            result = disk.upload(**changes)
            assert disk.stored() == data, f"EXACT: crashed at step {step}"
            assert result.verified, f"EXACT: crashed at step {step}"
            assert disk.records() == [], f"CLEAN: crashed at step {step}"
            orphans += len(disk.pending())
            if not crashed:
                break
    # A crash before the id is saved leaves an orphan, which `list_uploads` finds; few steps do.
    assert orphans <= step // 4
    figure("system calls at which a process crashed, each followed by a run that succeeds", step - 1)


def test_the_next_run_recovers_from_a_crash_at_any_system_call_of_a_recovery(tmp_path, figure):
    data = pseudo_random_bytes(2 * PART)
    count = 0
    with disks(tmp_path) as make:
        first = 0
        while make(data).crashes(first := first + 7):
            second = 0
            while True:
                disk = make(data)
                assert disk.crashes(first)
                second += 4
                if not disk.crashes(second):
                    break
                count += 1
                assert disk.stored() in {None, data}, f"EXACT: crashed at steps {first} and {second}"
                disk.upload()
                assert disk.stored() == data, f"EXACT: crashed at steps {first} and {second}"
                assert disk.records() == [], f"CLEAN: crashed at steps {first} and {second}"
    figure("pairs of system calls at which two processes crashed, followed by a run that succeeds", count)
