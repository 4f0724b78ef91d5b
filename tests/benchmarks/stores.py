"""
Measure claim, load, append and save of a store with many unfinished uploads. Prints one line of JSON: the median of
each operation in microseconds. The time of save includes the sync of the disk.

    python stores.py STORE UPLOADS ROUNDS      STORE: file, sqlite
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from partwise import Checkpoint, Fingerprint, UploadedPart
from partwise.stores import _journal
from partwise.stores.file import FileCheckpointStore
from partwise.stores.sqlite import SQLiteCheckpointStore


def checkpoint(number: int) -> Checkpoint:
    """Return the checkpoint of an upload with two parts."""
    parts = [UploadedPart(n, 8 << 20, "0123456789ABCDEF0123456789ABCDEF", 12345678901234567890) for n in (1, 2)]
    return Checkpoint(
        location="oss://bucket@oss-cn-hangzhou.aliyuncs.com",
        key=f"exampledir/{number}",
        source=f"/data/{number}",
        fingerprint=Fingerprint(1 << 30, 1_700_000_000_000_000_000, "4711"),
        part_size=8 << 20,
        upload_id="0123456789ABCDEF0123456789ABCDEF",
        parts=tuple(parts),
    )


def fill(store_name: str, place: Path, uploads: int) -> FileCheckpointStore | SQLiteCheckpointStore:
    """Return a store with this many uploads, written without a sync for each of them."""
    if store_name == "file":
        store = FileCheckpointStore(place / "checkpoints")
        (place / "checkpoints").mkdir()
        for number in range(uploads):
            made = checkpoint(number)
            store.path_for(made.name).write_bytes(_journal.encode(made))
        return store
    database = SQLiteCheckpointStore(place / "checkpoints.db")
    with database._database.keep_open(), database._database.use(create=True) as connection:
        assert connection is not None
        connection.execute("BEGIN")
        for number in range(uploads):
            made = checkpoint(number)
            header = _journal.header_text(made)
            connection.execute("INSERT INTO checkpoints VALUES (?, ?, ?)", (made.name, header, _sum(header, made.name)))
            for part in made.parts:
                text = _journal.part_text(part)
                connection.execute(
                    "INSERT INTO parts (name, part_number, record, checksum) VALUES (?, ?, ?, ?)",
                    (made.name, part.part_number, text, _sum(text, made.name, part.part_number)),
                )
        connection.execute("COMMIT")
    return database


def _sum(text: str, *fields: object) -> str:
    return _journal.checksum("".join(f"{item}\0" for item in fields).encode(), text.encode()).hex()


def microseconds(operation: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    began = time.perf_counter()
    operation()
    return (time.perf_counter() - began) * 1e6


def main() -> None:
    store_name, uploads, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    figures: dict[str, list[float]] = {"claim": [], "load": [], "append": [], "save": []}
    with tempfile.TemporaryDirectory() as directory:
        store = fill(store_name, Path(directory), uploads)
        os.sync()  # so that the measured syncs do not write these files
        for round_number in range(rounds):
            mine = checkpoint(round_number * 7919 % uploads)
            claim = store.claim(mine.name)
            figures["claim"].append(microseconds(claim.__enter__))
            loaded = store.load(mine.name)
            assert loaded == mine
            figures["load"].append(microseconds(partial(store.load, mine.name)))
            part = UploadedPart(3, 8 << 20, "0123456789ABCDEF0123456789ABCDEF", 1)
            store.append_part(mine.name, mine.upload_id, part)
            figures["append"].append(microseconds(partial(store.append_part, mine.name, mine.upload_id, part)))
            figures["save"].append(microseconds(partial(store.save, mine)))
            claim.__exit__(None, None, None)
        store.close()
    print(json.dumps({name: statistics.median(taken) for name, taken in figures.items()}))


if __name__ == "__main__":
    main()
