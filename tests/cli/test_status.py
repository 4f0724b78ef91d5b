"""``partwise status`` and ``partwise abort``: what was begun, and what is to be dropped."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from partwise.backends.local import LocalBackend
from partwise.errors import CheckpointUnwritable, ConnectionFailed
from partwise.model import MIB, Checkpoint, Fingerprint, ObjectOptions, UploadedPart
from partwise.plugins import register_checkpoint_store
from partwise.stores.file import FileCheckpointStore
from partwise.stores.memory import MemoryCheckpointStore

Run = Callable[..., Any]
HERE = ("--checkpoint-dir", "checkpoints")


@pytest.fixture
def store(place: Path) -> FileCheckpointStore:
    return FileCheckpointStore(place / "checkpoints")


def a_checkpoint(location: str, source: Path | str, **changes: Any) -> Checkpoint:
    """Of an upload of 4 MiB of which half is there, begun an hour and five minutes ago."""
    checkpoint = Checkpoint(
        location=location,
        key="copy",
        source=str(source),
        fingerprint=Fingerprint(size=4 * MIB),
        part_size=MIB,
        upload_id="U1",
        parts=(UploadedPart(1, MIB, "a"), UploadedPart(2, MIB, "b")),
        created=time.time() - 3900,
    )
    return evolve(checkpoint, **changes)


# --- status ---


def test_that_there_is_nothing_is_said(partwise: Run) -> None:
    ended = partwise("status", *HERE)
    assert (ended.code, ended.out, ended.err) == (0, "", "no unfinished uploads are recorded in checkpoints\n")


def test_nothing_is_no_object(partwise: Run) -> None:
    assert partwise("status", "--json").out == ""


def test_an_unfinished_upload_is_told_in_two_lines(partwise: Run, store: FileCheckpointStore, place: Path) -> None:
    store.save(a_checkpoint("oss://b@r", place / "f"))
    ended = partwise("status", *HERE)
    assert ended.out.splitlines() == [
        f"{place / 'f'}  ->  oss://b@r/copy",
        "   50 %  2.0 of 4.0 MiB  2 of 4 parts  begun 1 h 5 min ago  not running",
    ]
    assert "run its upload again" in ended.err


def test_an_unfinished_stream_has_no_end_in_sight(partwise: Run, store: FileCheckpointStore, place: Path) -> None:
    store.save(a_checkpoint("oss://b@r", "-", fingerprint=Fingerprint(), doubling_every=1000))
    assert partwise("status", *HERE).out.splitlines()[1].startswith("      ?  2.0 MiB  2 parts  begun")


def test_each_unfinished_upload_is_an_object(partwise: Run, store: FileCheckpointStore, place: Path) -> None:
    store.save(a_checkpoint("oss://b@r", place / "young", created=time.time()))
    store.save(a_checkpoint("oss://b@r", place / "old"))
    old, young = partwise("status", *HERE, "--json").objects
    assert (old["source"], young["source"]) == (str(place / "old"), str(place / "young"))
    for changing in ("created", "age", "name"):
        assert old.pop(changing)
    assert old == {
        "source": str(place / "old"),
        "location": "oss://b@r",
        "key": "copy",
        "upload_id": "U1",
        "bytes_done": 2 * MIB,
        "bytes_total": 4 * MIB,
        "parts_done": 2,
        "parts_total": 4,
        "part_size": MIB,
        "running": False,
    }


def test_an_upload_that_runs_now_is_told_as_such(partwise: Run, store: FileCheckpointStore, place: Path) -> None:
    checkpoint = a_checkpoint("oss://b@r", place / "f")
    store.save(checkpoint)
    with store.claim(checkpoint.name):
        assert partwise("status", *HERE, "--json").last["running"] is True
        assert partwise("status", *HERE).out.endswith("running now\n")


def test_asking_leaves_nothing_behind(partwise: Run, store: FileCheckpointStore, place: Path) -> None:
    store.save(a_checkpoint("oss://b@r", place / "f"))
    before = sorted(path.name for path in (place / "checkpoints").iterdir())
    partwise("status", *HERE)
    assert sorted(path.name for path in (place / "checkpoints").iterdir()) == before


class ReadOnly(MemoryCheckpointStore):
    """A place where nothing can be locked."""

    @contextmanager
    def claim(self, name: str) -> Any:
        raise CheckpointUnwritable("read-only")
        yield


def test_where_nothing_can_be_claimed_nobody_can_tell_who_runs(partwise: Run, place: Path) -> None:
    store = ReadOnly()
    store.save(a_checkpoint("oss://b@r", place / "f"))
    register_checkpoint_store("readonly", lambda url: store.handle())
    assert partwise("status", "--store", "readonly:", "--json").last["running"] is None
    assert partwise("status", "--store", "readonly:").out.endswith("can't tell whether it runs\n")


def test_a_damaged_checkpoint_is_left_out_with_a_warning(
    partwise: Run, store: FileCheckpointStore, place: Path
) -> None:
    store.save(a_checkpoint("oss://b@r", place / "f"))
    (recorded,) = (place / "checkpoints").glob("*.ucp")
    recorded.write_bytes(recorded.read_bytes().replace(b"copy", b"kopy"))
    ended = partwise("status", *HERE)
    assert (ended.code, ended.out) == (0, "")
    assert "partwise: warning: " in ended.err


# --- abort ---


@pytest.fixture
def begun(store: FileCheckpointStore, small: Path, bucket: Path) -> Checkpoint:
    """The unfinished upload of the small file: one part is on the storage, and recorded."""
    from partwise.sources import FileSource

    backend = LocalBackend(bucket)
    upload_id = backend.initiate_upload("copy", ObjectOptions())
    part = backend.upload_part("copy", upload_id, 1, FileSource(small).body(0, 102_400))
    checkpoint = Checkpoint(
        location=backend.location,
        key="copy",
        source=str(small),
        fingerprint=FileSource(small).fingerprint(),
        part_size=102_400,
        upload_id=upload_id,
        parts=(part,),
        created=time.time(),
    )
    store.save(checkpoint)
    return checkpoint


def test_an_upload_is_dropped_here_and_on_the_storage(
    partwise: Run, store: FileCheckpointStore, begun: Checkpoint, bucket: Path, url: str
) -> None:
    ended = partwise("abort", "small.bin", url, *HERE)
    assert ended.code == 0
    assert ended.out == (
        f"dropped the upload of small.bin to {url}: 100.0 of 293.0 KiB in 1 part on the storage, and its checkpoint\n"
    )
    assert list(store.scan()) == []
    assert list(LocalBackend(bucket).list_uploads()) == []


def test_an_upload_is_dropped_though_its_file_is_gone(
    partwise: Run, store: FileCheckpointStore, begun: Checkpoint, small: Path, url: str
) -> None:
    small.unlink()
    told = partwise("abort", "small.bin", url, *HERE, "--json").last
    assert told == {"ok": True, "dropped": True, "upload_id": begun.upload_id, "bytes_dropped": 102_400}
    assert list(store.scan()) == []


def test_that_there_is_nothing_to_drop_is_fine(partwise: Run, small: Path, url: str) -> None:
    ended = partwise("abort", "small.bin", url, "--json")
    assert (ended.code, ended.last) == (0, {"ok": True, "dropped": False, "upload_id": None, "bytes_dropped": 0})
    assert "nothing was done" in ended.err


def test_an_upload_that_runs_now_is_not_dropped(
    partwise: Run, store: FileCheckpointStore, begun: Checkpoint, url: str
) -> None:
    with store.claim(begun.name):
        assert partwise("abort", "small.bin", url, *HERE).code == 3
    assert list(store.scan()) != []


def test_a_damaged_checkpoint_is_dropped_too(
    partwise: Run, store: FileCheckpointStore, begun: Checkpoint, place: Path, url: str
) -> None:
    (recorded,) = (place / "checkpoints").glob("*.ucp")
    recorded.write_bytes(recorded.read_bytes() + b"nonsense\nmore\n")
    ended = partwise("abort", "small.bin", url, *HERE, "--json")
    assert (ended.code, ended.last["dropped"]) == (0, True)
    assert list((place / "checkpoints").iterdir()) == []


def test_an_upload_that_the_storage_does_not_let_go_of_is_kept(
    partwise: Run, store: FileCheckpointStore, begun: Checkpoint, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise ConnectionFailed("the line is dead", retryable=False)

    monkeypatch.setattr(LocalBackend, "abort_upload", fail)
    ended = partwise("abort", "small.bin", url, *HERE)
    assert ended.code == 1
    assert "the line is dead" in ended.err
    assert list(store.scan()) == [begun]


def test_the_upload_of_standard_input_can_be_dropped(
    partwise: Run, store: FileCheckpointStore, begun: Checkpoint, url: str
) -> None:
    store.delete(begun.name)
    store.save(evolve(begun, source="-", fingerprint=Fingerprint()))
    assert partwise("abort", "-", url, *HERE, "--json").last["dropped"] is True
