"""
Measure what the engine and a checkpoint store cost, by uploads to a backend that only reads the bodies. Prints one line
of JSON: microseconds of CPU time per part, for all parts, the first thousand and the last thousand.

    python engine.py STORE PARTS      STORE: none, memory, file, sqlite
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from partwise import Body, Capabilities, ObjectOptions, PartLimits, StoredObject, TransferConfig, UploadedPart, Uploader
from partwise.protocols import CheckpointStore
from partwise.stores.file import FileCheckpointStore
from partwise.stores.memory import MemoryCheckpointStore
from partwise.stores.sqlite import SQLiteCheckpointStore

_PART_SIZE = 64
_STRETCH = 1000


class NullBackend:
    """A backend that reads the bodies and stores nothing. It records the CPU time at every thousandth part."""

    location = "nowhere://"
    limits = PartLimits()
    capabilities = Capabilities()

    def __init__(self) -> None:
        self.marks: dict[int, float] = {}

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        self.marks[0] = time.process_time()
        return "0123456789ABCDEF0123456789ABCDEF"

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        for _ in body.chunks():
            pass
        if part_number % _STRETCH == 0:
            self.marks[part_number] = time.process_time()
        return UploadedPart(part_number, len(body), "0123456789ABCDEF0123456789ABCDEF", body.checksum)

    def complete_upload(
        self, key: str, upload_id: str, parts: tuple[UploadedPart, ...], options: ObjectOptions
    ) -> StoredObject:
        return StoredObject(key, sum(part.size for part in parts), "etag")

    def list_parts(self, key: str, upload_id: str) -> list[UploadedPart]:
        return []

    def abort_upload(self, key: str, upload_id: str) -> None:
        return None


STORES: dict[str, Callable[[Path], CheckpointStore | None]] = {
    "none": lambda place: None,
    "memory": lambda place: MemoryCheckpointStore(),
    "file": lambda place: FileCheckpointStore(place / "checkpoints"),
    "sqlite": lambda place: SQLiteCheckpointStore(place / "checkpoints.db"),
}


def main() -> None:
    store_name, parts = sys.argv[1], int(sys.argv[2])
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        with (place / "source").open("wb") as source:
            source.truncate(parts * _PART_SIZE)
        backend = NullBackend()
        config = TransferConfig(part_size=_PART_SIZE, multipart_threshold=0)
        uploader = Uploader(backend, store=STORES[store_name](place), config=config)  # type: ignore[arg-type]  # has all that is called
        runs = []
        for _ in range(4):
            began = time.process_time()
            uploader.upload(place / "source", "key", resume="never" if store_name == "none" else "auto")
            runs.append((time.process_time() - began, sorted(backend.marks.items())))
    # The first run is a warm-up.
    stretches = [
        [(later - earlier) / _STRETCH for (_, earlier), (_, later) in pairwise(marks)] for _, marks in runs[1:]
    ]
    print(
        json.dumps(
            {
                "part": statistics.median(cpu for cpu, _ in runs[1:]) / parts * 1e6,
                "first": statistics.median(s[0] for s in stretches) * 1e6 if stretches[0] else None,
                "last": statistics.median(s[-1] for s in stretches) * 1e6 if stretches[0] else None,
            }
        )
    )


if __name__ == "__main__":
    main()
