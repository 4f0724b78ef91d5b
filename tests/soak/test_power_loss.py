"""
Power loss at any instant: unsynced changes are lost, completely or partially, and the same upload is run again.

An upload is recorded once: a process that crashes, and one that resumes. Then, for every change of a file and every way
in which a file system may treat unsynced changes (`partwise.testing.durability.power_loss`), the directory is put into
the state after the loss, and the upload is run again. EXACT and CLEAN must hold afterwards, and INTENT before: no part
was ever sent with an upload id that no checkpoint has.

SQLite syncs its files itself, which can't be recorded; the test only verifies that syncs are requested.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from partwise import TransferConfig, Uploader, _durable
from partwise.backends.local import LocalBackend
from partwise.backends.local import directories as _local_directories
from partwise.backends.local import records as _local_records
from partwise.backends.local import target as _local_target
from partwise.backends.memory import MemoryBackend
from partwise.bodies import bytes_body
from partwise.checkpoint import Checkpoint, Fingerprint, checkpoint_name
from partwise.checksums import crc64
from partwise.errors import BucketNotFound, CheckpointDamaged
from partwise.model import ObjectOptions, PartLimits, StoredObject, UploadedPart
from partwise.protocols import Body, CheckpointStore, MultipartBackend
from partwise.stores.file import FileCheckpointStore
from partwise.stores.sqlite import SQLiteCheckpointStore
from partwise.testing import (
    Fault,
    FaultKind,
    FaultPlan,
    FaultyBackend,
    FaultyCheckpointStore,
    PowerLoss,
    RecordedDisk,
    SimulatedCrash,
    Survival,
    pseudo_random_bytes,
)
from partwise.testing._proof.simulation import Simulation

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows can't sync directories")

PART = 600
SOURCE = pseudo_random_bytes(2 * PART + 123)
PARTS = 3
OLD = ObjectOptions(metadata={"version": "old"})
NEW = ObjectOptions(metadata={"version": "new"}, content_type="text/plain")
NEW_ONCE = ObjectOptions(metadata={"version": "new"}, content_type="text/plain", forbid_overwrite=True)
PLAIN = ObjectOptions()
CONFIG = TransferConfig(part_size=PART, multipart_threshold=0, concurrency=1, retry_base=0)

Tell = Callable[[object], None]


@pytest.fixture(autouse=True)
def _no_waiting_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make fsync a no-op: uploads after a loss need not be durable."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return the directory that is affected by the loss."""
    place = tmp_path / "place"
    place.mkdir()
    return place


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a file that is durable."""
    path = tmp_path / "source"
    path.write_bytes(SOURCE)
    return path


FORMS: dict[str, Callable[[Path], FileCheckpointStore]] = {
    "directory": lambda place: FileCheckpointStore(place / "state" / "checkpoints"),
    "explicit file": lambda place: FileCheckpointStore.for_file(place / "state.ucp"),
}


def recorded_ids(store: FileCheckpointStore, name: str) -> set[str | None]:
    """Return the upload ids in a checkpoint, even if it is damaged."""
    try:
        found = store.load(name)
    except CheckpointDamaged as damaged:
        return {damaged.upload_id}
    return set() if found is None else {found.upload_id, *found.abandoned}


def sent_ids(loss: PowerLoss) -> set[Hashable]:
    """Return the upload ids with which a part was sent."""
    return {note[1] for note in loss.notes if isinstance(note, tuple) and note[0] == "sends"}


def uploader(backend: MultipartBackend, store: CheckpointStore) -> Uploader:
    """Return an uploader without threads: one part is sent at a time, and hundreds of uploads are made."""
    return Simulation().uploader(backend, store, CONFIG)


def upload_in_two_processes(backend: MultipartBackend, store: FileCheckpointStore, source: Path, key: str) -> None:
    """Upload in a process that crashes before it has recorded its second part, and in one that resumes."""
    plan = FaultPlan([Fault("upload_part", FaultKind.CRASH_AFTER, occurrence=2)])
    crashing = uploader(FaultyBackend(backend, plan), FaultyCheckpointStore(store, plan))
    with plan, pytest.raises(SimulatedCrash):
        crashing.upload(source, key, options=NEW)
    uploader(backend, store).upload(source, key, options=NEW)


# --- a remote storage ------------------------------------------------------------------------------------------------


class RemoteStorage:
    """
    A storage that is not affected by the loss. Its state at each instant is recorded.

    Args:
        disk: gets the notes ("sends", upload id) before a part is sent, and ("holds", number) after a change.
    """

    def __init__(self, disk: RecordedDisk) -> None:
        self._disk = disk
        self._backend = MemoryBackend("bucket", limits=PartLimits(min_part_size=1))
        self._snapshots = [self._backend.snapshot()]

    def __getattr__(self, name: str) -> object:
        return getattr(self._backend, name)

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        upload_id = self._backend.initiate_upload(key, options)
        self._changed()
        return upload_id

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        self._disk.note(("sends", upload_id))
        part = self._backend.upload_part(key, upload_id, part_number, body)
        self._changed()
        return part

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        stored = self._backend.complete_upload(key, upload_id, parts, options)
        self._changed()
        return stored

    def at(self, loss: PowerLoss) -> MemoryBackend:
        """Return the storage as it was at this instant."""
        held = [note[1] for note in loss.notes if isinstance(note, tuple) and note[0] == "holds"]
        return self._snapshots[max(held, default=0)].snapshot()

    def _changed(self) -> None:
        self._snapshots.append(self._backend.snapshot())
        self._disk.note(("holds", len(self._snapshots) - 1))


def upload_to_remote_storage(form: str, place: Path, source: Path) -> tuple[RecordedDisk, RemoteStorage]:
    """Upload, and record the changes of the checkpoint."""
    disk = RecordedDisk(place)
    storage = RemoteStorage(disk)
    with disk.recording(), FORMS[form](place) as store:
        upload_in_two_processes(storage, store, source, "key")
    return disk, storage


def check_after_loss(loss: PowerLoss, storage: MemoryBackend, store: FileCheckpointStore, source: Path) -> bool:
    """Upload again after a loss, check the promises, and return whether the checkpoint was damaged."""
    name = checkpoint_name(storage.location, "key", str(source))
    done, used = storage.head_object("key") is not None, sent_ids(loss)
    known = recorded_ids(store, name)
    assert done or used <= known, f"INTENT {loss}: parts were sent with {used}, and the checkpoint has {known}"
    held = {number for upload in storage.uploads.values() for number in upload.parts}
    result = uploader(storage, store).upload(source, "key", options=NEW)
    assert storage.read("key") == SOURCE, f"EXACT {loss}"
    assert result.verified, f"EXACT {loss}"
    damaged = any("damaged" in warning for warning in result.warnings)
    assert damaged or done or result.parts_sent == PARTS - len(held), f"BOUNDED {loss}: {result}, stored {held}"
    assert not used & {upload.upload_id for upload in storage.list_uploads()}, f"CLEAN {loss}"
    return damaged


@pytest.mark.parametrize("form", FORMS)
def test_an_upload_to_a_remote_storage_resumes_after_any_loss(form: str, place: Path, source: Path, tell: Tell) -> None:
    """The list of the storage has the parts that the checkpoint lost. Only one with a hole starts the upload again."""
    disk, storage = upload_to_remote_storage(form, place, source)
    losses = damaged = 0
    for loss in disk.losses():
        losses += 1
        loss.apply()
        with FORMS[form](place) as store:
            was_damaged = check_after_loss(loss, storage.at(loss), store, source)
        assert not was_damaged or loss.survival is Survival.HOLE, f"{loss}: the checkpoint was damaged"
        damaged += was_damaged
        assert_no_file_is_left(place, loss)
    tell(f"{disk.instants} instants, {losses} different states of the disk, {damaged} with a hole in the checkpoint")
    assert losses > disk.instants


def assert_no_file_is_left(place: Path, loss: PowerLoss) -> None:
    left = [path for path in place.rglob("*") if path.is_file()]
    assert left == [], f"CLEAN {loss}: {left}"


@pytest.mark.parametrize("function", ["sync", "sync_directory"])
def test_a_store_that_does_not_sync_is_detected(
    function: str, place: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(_durable, function, lambda anything: None)
        disk, storage = upload_to_remote_storage("directory", place, source)

    def check_all() -> None:
        for loss in disk.losses():
            loss.apply()
            with FORMS["directory"](place) as store:
                check_after_loss(loss, storage.at(loss), store, source)

    with pytest.raises(AssertionError, match=r"^(INTENT|BOUNDED)"):
        check_all()


# --- everything on one disk ------------------------------------------------------------------------------------------


class NotedBackend(LocalBackend):
    """A directory that notes when a part is about to be stored, and when an object is stored."""

    disk: RecordedDisk

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        self.disk.note(("sends", upload_id))
        return super().upload_part(key, upload_id, part_number, body)

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        stored = super().complete_upload(key, upload_id, parts, options)
        self.disk.note("stored")
        return stored

    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        stored = super().put_object(key, body, options)
        self.disk.note("stored")
        return stored


@pytest.fixture
def noting(place: Path) -> NotedBackend:
    """Return a bucket in the directory that is affected by the loss."""
    backend = NotedBackend(place / "bucket")
    backend.disk = RecordedDisk(place)
    return backend


def apply(loss: PowerLoss, place: Path) -> None:
    """
    Apply the loss.

    The metadata of objects is found by inode number. Restored files have other inode numbers, unlike on a real disk, so
    the metadata files are renamed.
    """
    inodes = loss.apply()
    moved = []
    for record in place.rglob(".partwise/objects/*/*.json"):
        inode, _, rest = record.name.partition("-")
        if int(inode, 16) in inodes:
            moved.append((record.rename(record.with_suffix(".moved")), f"{inodes[int(inode, 16)]:x}-{rest}"))
    for record, name in moved:
        record.rename(record.with_name(name))


def test_an_upload_within_one_disk_resumes_after_any_loss(
    noting: NotedBackend, place: Path, source: Path, tell: Tell
) -> None:
    name = checkpoint_name(noting.location, "a/key", str(source))
    with noting.disk.recording(), FORMS["directory"](place) as store:
        upload_in_two_processes(noting, store, source, "a/key")

    losses = 0
    path = place / "bucket" / "a" / "key"
    for loss in noting.disk.losses():
        losses += 1
        apply(loss, place)
        used = sent_ids(loss)
        with LocalBackend(place / "bucket") as backend, FORMS["directory"](place) as store:
            known = recorded_ids(store, name)
            assert path.exists() or used <= known, (
                f"INTENT {loss}: parts were sent with {used}, the checkpoint has {known}"
            )
            result = uploader(backend, store).upload(source, "a/key", options=NEW)
            assert path.read_bytes() == SOURCE, f"EXACT {loss}"
            assert (result.verified, backend.describe("a/key")) == (True, NEW), f"EXACT {loss}"
            assert not used & {upload.upload_id for upload in backend.list_uploads()}, f"CLEAN {loss}"
        assert_no_file_is_left(place / "state", loss)
    tell(f"{noting.disk.instants} instants, {losses} different states of the disk")
    assert losses > noting.disk.instants


# --- objects ---------------------------------------------------------------------------------------------------------


def put(backend: LocalBackend, options: ObjectOptions) -> None:
    backend.put_object("a/key", bytes_body(SOURCE), options)


def complete(backend: LocalBackend, options: ObjectOptions) -> None:
    upload_id = backend.initiate_upload("a/key", options)
    parts = [
        backend.upload_part("a/key", upload_id, number, bytes_body(SOURCE[begin : begin + PART]))
        for number, begin in enumerate(range(0, len(SOURCE), PART), start=1)
    ]
    backend.complete_upload("a/key", upload_id, parts, options)


def check_object(loss: PowerLoss, place: Path, options: ObjectOptions, old: bytes | None) -> bytes | None:
    """
    Check that an object is complete and its upload gone, and that an object that was reported as stored exists.

    Returns:
        the bytes of the object.
    """
    path = place / "bucket" / "a" / "key"
    with LocalBackend(place / "bucket") as backend:
        found = path.read_bytes() if path.exists() else None
        assert found == SOURCE or ("stored" not in loss.notes and found == old), f"{loss}: the object is {found!r:.50}"
        assert found != SOURCE or list(backend.list_uploads()) == [], f"{loss}: a second object could be completed"
        described = {SOURCE: options, old: OLD, None: None}[found]
        assert backend.describe("a/key") == described, f"{loss}: its metadata is lost"
        head = backend.head_object("a/key")
        assert (None if head is None else head.checksum) == (None if found is None else crc64(found)), loss
    return found


@pytest.mark.parametrize(
    "options", [NEW, NEW_ONCE, PLAIN], ids=["replacing an object", "new object", "without options"]
)
@pytest.mark.parametrize("store_it", [put, complete])
def test_a_stored_object_exists_after_any_loss(
    store_it: Callable[[LocalBackend, ObjectOptions], None], options: ObjectOptions, place: Path, tell: Tell
) -> None:
    old = None if options.forbid_overwrite else b"old" * 300
    if old is not None:
        LocalBackend(place / "bucket").put_object("a/key", bytes_body(old), OLD)
    backend = NotedBackend(place / "bucket")
    backend.disk = RecordedDisk(place)
    with backend.disk.recording():
        store_it(backend, options)
    found = []
    for loss in backend.disk.losses():
        apply(loss, place)
        found.append(check_object(loss, place, options, old))
    tell(f"{backend.disk.instants} instants, {len(found)} different states of the disk")
    assert set(found) == {old, SOURCE}


def test_an_initiated_upload_is_listed_after_any_loss(noting: NotedBackend, place: Path) -> None:
    with noting.disk.recording():
        upload_id = noting.initiate_upload("a/key", NEW)
        noting.disk.note("initiated")
    found = set()
    for loss in noting.disk.losses():
        loss.apply()
        pending = []
        # The directory itself may be lost.
        with LocalBackend(place / "bucket") as backend, suppress(BucketNotFound):
            pending = [(upload.key, upload.upload_id) for upload in backend.list_uploads()]
        assert pending == [("a/key", upload_id)] or ("initiated" not in loss.notes and pending == []), loss
        found.add(len(pending))
    assert found == {0, 1}


@pytest.mark.parametrize("function", ["sync", "sync_directory"])
def test_a_bucket_that_does_not_sync_is_detected(
    function: str, noting: NotedBackend, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        for module in (_durable, _local_target, _local_directories, _local_records):
            broken.setattr(module, function, lambda anything: None, raising=False)
        with noting.disk.recording():
            put(noting, NEW)

    def check_all() -> None:
        for loss in noting.disk.losses():
            apply(loss, place)
            check_object(loss, place, NEW, None)

    with pytest.raises(AssertionError, match="the object is"):
        check_all()


# --- SQLite ----------------------------------------------------------------------------------------------------------


def test_sqlite_syncs_a_checkpoint_and_does_not_wait_for_a_part(place: Path) -> None:
    checkpoint = Checkpoint("memory://bucket", "key", "source", Fingerprint(), part_size=1, upload_id="id")
    statements: list[str] = []
    with SQLiteCheckpointStore(place / "uploads.db") as store, store.claim(checkpoint.name):
        with store._database.use(create=True) as connection:
            assert connection is not None
            pragmas = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "fullfsync")]
            connection.set_trace_callback(statements.append)
        store.save(checkpoint)
        store.append_part(checkpoint.name, checkpoint.upload_id, UploadedPart(1, 1, "etag"))
    assert pragmas == [b"wal", 1]
    synchronous, transactions = "NORMAL", []
    for statement in statements:
        if statement.startswith("PRAGMA synchronous ="):
            synchronous = statement.split()[-1]
        elif statement.split()[0] in {"INSERT", "COMMIT"}:
            transactions.append((statement.split(" (")[0].split(" VALUES")[0], synchronous))
    assert transactions == [
        ("INSERT OR REPLACE INTO checkpoints", "EXTRA"),
        ("COMMIT", "EXTRA"),
        ("INSERT INTO parts", "NORMAL"),
    ]
