"""
The local backend beside other programs and users: what they plant in the bucket, and what they change during a call.

"At each step" means: just before the first system call that a backend makes, in the next round before the second one,
and so on until the call ends before that step.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import stat
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from partwise import TransferConfig, Uploader
from partwise.backends.local import LocalBackend
from partwise.backends.local import backend as local
from partwise.backends.local import directories as _local_directories
from partwise.backends.local import metadata_dir as _local_metadata_dir
from partwise.backends.local.records import options_from_data
from partwise.backends.local.target import Target
from partwise.backends.local.walk import _TRIES_MAX, make_and_use
from partwise.bodies import BodyWrapper, bytes_body
from partwise.checksums import crc64
from partwise.errors import (
    AccessDenied,
    BackendError,
    BucketNotFound,
    InvalidInput,
    InvalidKey,
    ObjectExists,
    PartwiseError,
    UploadNotFound,
)
from partwise.model import ObjectOptions
from partwise.sources import BytesSource
from partwise.stores.file import FileCheckpointStore

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has neither descriptors of directories nor modes")

NO_OPTIONS = ObjectOptions()
ONCE = ObjectOptions(forbid_overwrite=True)
RICH = ObjectOptions(metadata={"a": "1"})
UNIQUE = "0123456789abcdef"
MARKED = "fedcba9876543210"


@pytest.fixture(autouse=True)
def _no_waiting_for_disks(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def backend(directory):
    return LocalBackend(directory)


@pytest.fixture
def meta_dir(directory):
    return directory / ".partwise"


@pytest.fixture
def victim(tmp_path):
    """A directory outside the bucket, with names that partwise generates."""
    victim = tmp_path / "Documents"
    names = [
        "letter.txt",
        UNIQUE,
        "upload.json",
        f"staged-{UNIQUE}",
        f"commit-{UNIQUE}",
        "00001",
        f"00001.{UNIQUE}.new",
        "parts/00001",
        f"parts/00002.{UNIQUE}.new",
        f"{MARKED}/upload.json",
        f"{MARKED}/parts/00001",
        "objects/0/1-2-3.json",
        "uploads/one/upload.json",
        f"temp/{UNIQUE}",
        f"trash/{UNIQUE}/parts/00001",
        "1-2-3.json",
    ]
    for name in names:
        (victim / name).parent.mkdir(parents=True, exist_ok=True)
        (victim / name).write_bytes(b"mine")
        os.utime(victim / name, (1, 1))
    return victim


def all_in(folder):
    return {path.relative_to(folder): path.lstat()[:7] for path in [folder, *folder.rglob("*")]}


def start_upload(backend, *datas, key="key", options=NO_OPTIONS):
    upload_id = backend.initiate_upload(key, options)
    return upload_id, [backend.upload_part(key, upload_id, n, bytes_body(data)) for n, data in enumerate(datas, 1)]


class Steps:
    """
    Calls `action` just before one of the calls of the `os` module in the block.

    Args:
        number: the number of that call, from 1.
        action: what to call.
    """

    NAMES = ("open", "stat", "lstat", "mkdir", "rename", "replace", "link", "unlink", "rmdir", "listdir", "write")

    def __init__(self, number, action):
        self._number = number
        self._action = action
        self._count = 0

    def __enter__(self):
        self._patch = pytest.MonkeyPatch()
        for name in self.NAMES:
            self._patch.setattr(os, name, self._stepping(getattr(os, name)))
        return self

    def __exit__(self, *exception):
        self._patch.undo()

    def _stepping(self, original):
        def call(*args, **kwargs):
            self._count += 1
            if self._count == self._number:
                self._action()
            return original(*args, **kwargs)

        return call

    @property
    def reached(self):
        return self._count >= self._number


def at_each_step(make, act, *, every=1):
    """
    Call `act(case)` once for each of its steps.

    Args:
        make: makes a case for a number, and returns it with the action to call at the step.
        act: what is disturbed.
        every: 1 tests every step, 2 every other one, and so on.

    Yields:
        the case, and what `act` returned, or the partwise error that it raised.
    """
    number = 1
    while True:
        case, action = make(number)
        steps = Steps(number, action)
        try:
            with steps:
                outcome = act(case)
        except PartwiseError as error:
            outcome = error
        if not steps.reached:
            assert number > 5
            return
        yield case, outcome
        number += every


# --- links in the metadata directory ---------------------------------------------------------------------------------


def put(backend, upload_id, parts):
    backend.put_object("other", bytes_body(b"x"), RICH)


CALLS = {
    "put": put,
    "initiate": lambda backend, upload_id, parts: backend.initiate_upload("other", NO_OPTIONS),
    "part": lambda backend, upload_id, parts: backend.upload_part("key", upload_id, 1, bytes_body(b"x")),
    "list_parts": lambda backend, upload_id, parts: backend.list_parts("key", upload_id),
    "complete": lambda backend, upload_id, parts: backend.complete_upload("key", upload_id, parts, NO_OPTIONS),
    "abort": lambda backend, upload_id, parts: backend.abort_upload("key", upload_id),
    "list_uploads": lambda backend, upload_id, parts: backend.list_uploads(),
    "head": lambda backend, upload_id, parts: backend.head_object("object"),
    "describe": lambda backend, upload_id, parts: backend.describe("object"),
    "delete": lambda backend, upload_id, parts: backend.delete_object("object"),
}


def plant(place, victim):
    """Replace a metadata directory by a link to a directory outside the bucket."""
    if place.is_dir():
        shutil.rmtree(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(victim)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", ["", "uploads", "objects", "temp", "trash"])
def test_every_call_refuses_a_link_in_place_of_a_metadata_directory(directory, meta_dir, victim, name, call):
    LocalBackend(directory).put_object("object", bytes_body(b"object"), RICH)
    upload_id, parts = start_upload(LocalBackend(directory), b"one")
    plant(meta_dir / name if name else meta_dir, victim)
    before = all_in(directory), all_in(victim)

    with pytest.raises(AccessDenied) as caught:
        CALLS[call](LocalBackend(directory, clock=lambda: 1e10), upload_id, parts)

    assert f"{meta_dir / name if name else meta_dir} is a symbolic link" in caught.value.message
    assert "Nothing was changed" in caught.value.message
    assert "store objects in a directory that only you use" in caught.value.hint
    assert "chmod" not in str(caught.value), "it would change the target of the link"
    assert not caught.value.retryable
    assert (all_in(directory), all_in(victim)) == before


@pytest.mark.parametrize("call", ["part", "list_parts", "complete", "abort", "list_uploads"])
def test_calls_for_an_upload_refuse_a_link_in_its_place(directory, meta_dir, victim, call):
    upload_id, parts = start_upload(LocalBackend(directory), b"one")
    plant(meta_dir / "uploads" / upload_id, victim)
    before = all_in(victim)

    with pytest.raises(AccessDenied, match="is a symbolic link"):
        CALLS[call](LocalBackend(directory, clock=lambda: 1e10), upload_id, parts)

    assert all_in(victim) == before


@pytest.mark.parametrize("call", ["part", "list_parts", "complete"])
def test_calls_for_parts_refuse_a_link_in_place_of_their_directory(directory, meta_dir, victim, call):
    upload_id, parts = start_upload(LocalBackend(directory), b"one")
    plant(meta_dir / "uploads" / upload_id / "parts", victim)
    before = all_in(victim)

    with pytest.raises(AccessDenied, match="is a symbolic link"):
        CALLS[call](LocalBackend(directory, clock=lambda: 1e10), upload_id, parts)

    assert all_in(victim) == before


@pytest.mark.parametrize("call", ["put", "head", "describe"])
def test_calls_for_a_key_refuse_a_link_in_place_of_its_metadata(directory, meta_dir, victim, call):
    LocalBackend(directory).put_object("object", bytes_body(b"object"), RICH)
    LocalBackend(directory).put_object("other", bytes_body(b"other"), RICH)
    for folder in list((meta_dir / "objects").iterdir()):
        plant(folder, victim)
    before = all_in(victim)

    with pytest.raises(AccessDenied, match="is a symbolic link"):
        CALLS[call](LocalBackend(directory, clock=lambda: 1e10), "", [])

    assert all_in(victim) == before
    assert (directory / "other").read_bytes() == b"other"


@pytest.mark.parametrize(
    "place",
    [
        f"trash/{UNIQUE}",
        f"trash/{UNIQUE}/parts",
        f"trash/{UNIQUE}/staged-{UNIQUE}",
        f"temp/{UNIQUE}",
        f"temp/{UNIQUE}/parts",
        "uploads/ended",
        "uploads/ended/parts",
        "uploads/ended/commit-0123456789abcdef",
        "uploads/ID/parts",
        "uploads/ID/staged-0123456789abcdef",
        "objects/0123456789abcdef0123456789abcdef",
    ],
)
def test_the_target_of_a_link_among_abandoned_files_is_never_removed(directory, meta_dir, victim, place):
    upload_id, _ = start_upload(LocalBackend(directory), b"one")
    (meta_dir / "uploads" / "ended" / "parts").mkdir(parents=True)
    plant(meta_dir / place.replace("ID", upload_id), victim)
    before = all_in(victim)

    later = LocalBackend(directory, clock=lambda: 1e10)
    later.put_object("other", bytes_body(b"x"), RICH)
    with contextlib.suppress(AccessDenied):
        later.abort_upload("key", upload_id)
    later.put_object("other", bytes_body(b"x"), NO_OPTIONS)

    assert all_in(victim) == before


@pytest.mark.parametrize(("mode", "why"), [(0o770, "mode 0770"), (0o707, "mode 0707"), (0o722, "mode 0722")])
@pytest.mark.parametrize("name", ["", "uploads", "objects", "temp", "trash"])
def test_a_metadata_directory_that_others_may_write_to_is_refused(directory, meta_dir, name, mode, why):
    LocalBackend(directory).put_object("object", bytes_body(b"object"), RICH)
    start_upload(LocalBackend(directory), b"one")
    place = meta_dir / name if name else meta_dir
    place.mkdir(exist_ok=True)
    place.chmod(mode)

    with pytest.raises(AccessDenied, match=f"{place} .*{why}.*run chmod go-w on it;"):
        LocalBackend(directory).put_object("other", bytes_body(b"x"), NO_OPTIONS)
    with pytest.raises(AccessDenied, match=why):
        LocalBackend(directory).head_object("object")
    with pytest.raises(AccessDenied, match=why):
        LocalBackend(directory).list_uploads()

    assert not (directory / "other").exists()


@pytest.mark.parametrize("name", ["", "uploads", "objects", "temp", "trash"])
@pytest.mark.parametrize("kind", ["a pipe", "a file", "a socket"])
def test_something_else_in_place_of_a_metadata_directory_is_refused(directory, meta_dir, name, kind):
    (meta_dir if name else directory).mkdir(parents=True)
    place = meta_dir / name if name else meta_dir
    create_entry(place, kind)

    for call in ("put", "initiate", "head", "list_uploads"):
        with pytest.raises(AccessDenied, match="is not a directory"):
            CALLS[call](LocalBackend(directory), "", [])

    assert place.exists()


def create_entry(path, kind):
    """Create an entry of this kind."""
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as opened, contextlib.chdir(path.parent):
            opened.bind(path.name)
    elif kind == "a file":
        path.write_bytes(b"file")
    elif kind == "a directory":
        path.mkdir()
    elif kind == "a link":
        path.symlink_to("/nowhere")
    else:
        assert kind == "a device"
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))


# --- directories that become links during a call ---------------------------------------------------------------------

SECRET = b"secret"


def swapping(tmp_path, level):
    """Makes buckets in which ``deep`` (or ``deep/er``) becomes a link that leads out at a step."""

    def make(number):
        directory, outside = tmp_path / f"{number}" / "bucket", tmp_path / f"{number}" / "outside"
        for place in (outside, outside / "er"):
            place.mkdir(parents=True)
            (place / "key").write_bytes(SECRET)
        backend = LocalBackend(directory)
        backend.put_object("deep/er/key", bytes_body(b"object"), RICH)
        swapped = directory / level

        def swap():
            swapped.rename(directory / "moved")
            swapped.symlink_to(outside if level == "deep" else outside / "er")

        return (backend, outside), swap

    return make


def complete_in(backend, key):
    upload_id, parts = start_upload(backend, b"new", key=key)
    backend.complete_upload(key, upload_id, parts, NO_OPTIONS)


WRITES = {
    "put": lambda backend: backend.put_object("deep/er/key", bytes_body(b"new"), NO_OPTIONS),
    "put with options": lambda backend: backend.put_object("deep/er/key", bytes_body(b"new"), RICH),
    "put a new one": lambda backend: backend.put_object("deep/er/new", bytes_body(b"new"), ONCE),
    "put in a new directory": lambda backend: backend.put_object("deep/er/new/key", bytes_body(b"new"), NO_OPTIONS),
    "complete": lambda backend: complete_in(backend, "deep/er/key"),
    "delete": lambda backend: backend.delete_object("deep/er/key"),
}


# An upload has many steps, and few of them resolve a key.
EVERY = dict.fromkeys(WRITES, 1) | {"complete": 4}


@pytest.mark.parametrize("level", ["deep", "deep/er"])
@pytest.mark.parametrize("write", WRITES)
def test_no_write_leaves_the_bucket_if_a_directory_becomes_a_link_at_any_step(tmp_path, level, write):
    count = 0
    for (_, outside), outcome in at_each_step(
        swapping(tmp_path, level), lambda case: WRITES[write](case[0]), every=EVERY[write]
    ):
        count += 1
        files = {
            path.relative_to(outside).as_posix(): path.read_bytes() for path in outside.rglob("*") if path.is_file()
        }
        assert files == {"key": SECRET, "er/key": SECRET}
        assert not isinstance(outcome, PartwiseError) or isinstance(outcome, BackendError | InvalidKey)
    assert count > 10


def read_whole(backend, key):
    with contextlib.suppress(KeyError), backend.open_object(key) as file:
        return file.read()
    return None


def checksum_of(backend, key):
    found = backend.head_object(key)
    return None if found is None else found.checksum


READS = {
    "head": lambda backend: checksum_of(backend, "deep/er/key"),
    "open": lambda backend: read_whole(backend, "deep/er/key"),
}


@pytest.mark.parametrize("level", ["deep", "deep/er"])
@pytest.mark.parametrize("read", READS)
def test_no_read_leaves_the_bucket_if_a_directory_becomes_a_link_at_any_step(tmp_path, level, read):
    of_object = {"head": crc64(b"object"), "open": b"object"}[read]
    returned = []
    for _, outcome in at_each_step(swapping(tmp_path, level), lambda case: READS[read](case[0])):
        assert outcome in (None, of_object) or isinstance(outcome, BackendError | InvalidKey)
        returned.append(outcome)
    assert of_object in returned, "a read ends well if the directory becomes a link after it was opened"


@pytest.mark.parametrize("read", READS)
def test_no_read_leaves_the_bucket_if_an_object_becomes_a_link_at_any_step(tmp_path, read):
    def make(number):
        directory, secret = tmp_path / f"{number}" / "bucket", tmp_path / f"{number}" / "secret"
        backend = LocalBackend(directory)
        backend.put_object("deep/er/key", bytes_body(b"object"), NO_OPTIONS)
        secret.write_bytes(SECRET)

        def swap():
            (directory / "deep" / "er" / "key").unlink()
            (directory / "deep" / "er" / "key").symlink_to(secret)

        return backend, swap

    for _, outcome in at_each_step(make, READS[read]):
        assert outcome not in (SECRET, crc64(SECRET))


def test_a_bucket_that_becomes_a_link_is_refused(directory, tmp_path, backend):
    backend.put_object("key", bytes_body(b"x"), NO_OPTIONS)
    (tmp_path / "outside").mkdir()
    directory.rename(tmp_path / "moved")
    directory.symlink_to(tmp_path / "outside")

    with pytest.raises(BucketNotFound, match="not a directory"):
        backend.put_object("key", bytes_body(b"x"), NO_OPTIONS)

    assert list((tmp_path / "outside").iterdir()) == []


def test_no_object_leaves_the_bucket_while_a_program_swaps_a_directory_all_the_time(tmp_path):
    directory, outside = tmp_path / "bucket", tmp_path / "outside"
    (directory / "deep").mkdir(parents=True)
    outside.mkdir()
    done = threading.Event()

    def swap():
        number = 0
        while not done.is_set():
            number += 1
            with contextlib.suppress(OSError):
                (directory / "deep").rename(directory / f"moved-{number}")
                (directory / "deep").symlink_to(outside)
                (directory / "deep").unlink()

    swapper = threading.Thread(target=swap)
    swapper.start()
    backend, stored = LocalBackend(directory), 0
    try:
        for number in range(150):
            with contextlib.suppress(BackendError, InvalidKey):
                backend.put_object(f"deep/{number}", bytes_body(b"x"), NO_OPTIONS)
                stored += 1
    finally:
        done.set()
        swapper.join()

    assert list(outside.iterdir()) == []
    assert stored == len([path for path in directory.glob("*/*") if path.is_file()])


@pytest.mark.parametrize("target", ["real", "sub/../real", "ABSOLUTE"])
def test_a_link_that_stays_inside_is_followed(backend, directory, target):
    (directory / "real" / "deep").mkdir(parents=True)
    (directory / "sub").mkdir()
    (directory / "link").symlink_to(str(directory / "real") if target == "ABSOLUTE" else target)

    backend.put_object("link/deep/key", bytes_body(b"x"), RICH)

    assert (directory / "real" / "deep" / "key").read_bytes() == b"x"
    assert backend.head_object("link/deep/key").metadata == RICH.metadata
    assert read_whole(backend, "link/deep/key") == b"x"


def test_a_link_to_an_object_is_read_and_replaced(backend, directory):
    backend.put_object("real", bytes_body(b"real"), NO_OPTIONS)
    (directory / "link").symlink_to("real")
    seen = backend.head_object("link").checksum

    backend.put_object("link", bytes_body(b"new"), NO_OPTIONS)

    assert seen == crc64(b"real")
    assert (directory / "real").read_bytes() == b"real"
    assert (directory / "link").read_bytes() == b"new"
    assert not (directory / "link").is_symlink()


# --- other processes at the same time --------------------------------------------------------------------------------

MEANWHILE = {
    "put": lambda backend, key: backend.put_object(key, bytes_body(b"new"), NO_OPTIONS),
    "put with options": lambda backend, key: backend.put_object(key, bytes_body(b"new"), RICH),
    "upload": complete_in,
}


@pytest.mark.parametrize("call", MEANWHILE)
def test_directories_that_another_process_creates_at_any_step_are_used(tmp_path, call):
    def make(number):
        directory = tmp_path / f"{number}"
        return LocalBackend(directory), lambda: (directory / "deep" / "er").mkdir(parents=True, exist_ok=True)

    for backend, outcome in at_each_step(make, lambda backend: MEANWHILE[call](backend, "deep/er/key"), every=2):
        assert not isinstance(outcome, PartwiseError)
        assert (backend.directory / "deep" / "er" / "key").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("call", "other", "every"),
    [("put", "put", 1), ("put with options", "put with options", 1), ("put", "upload", 4), ("upload", "put", 4)],
)
def test_metadata_directories_that_another_process_removes_are_created_again(tmp_path, call, other, every):
    def make(number):
        directory = tmp_path / f"{number}"
        return LocalBackend(directory), lambda: MEANWHILE[other](LocalBackend(directory), "other")

    for backend, outcome in at_each_step(make, lambda backend: MEANWHILE[call](backend, "deep/er/key"), every=every):
        assert not isinstance(outcome, PartwiseError)
        assert (backend.directory / "deep" / "er" / "key").read_bytes() == b"new"
        assert (backend.directory / "other").read_bytes() == b"new"


def test_many_threads_can_store_into_a_directory_that_does_not_exist_yet(tmp_path):
    failures = []

    def store(backend, start, key):
        start.wait()
        try:
            backend.put_object(key, bytes_body(b"x"), NO_OPTIONS)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    for attempt in range(10):
        backend, start = LocalBackend(tmp_path / str(attempt)), threading.Barrier(8)
        threads = [threading.Thread(target=store, args=(backend, start, f"deep/er/{n}")) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not (tmp_path / str(attempt) / ".partwise").exists()
    assert failures == []


def test_a_part_of_an_upload_that_was_dropped_meanwhile_is_not_acknowledged(backend, directory, monkeypatch):
    """The folder is open, so the file can be renamed within it even after the folder was moved."""
    upload_id, _ = start_upload(backend)
    monkeypatch.setattr(_local_metadata_dir, "remove_upload_folder", lambda *args: None)

    class Aborting(BodyWrapper):
        def chunks(self, *, counted=True):
            LocalBackend(directory).abort_upload("key", upload_id)
            yield from super().chunks(counted=counted)

    with pytest.raises(UploadNotFound):
        backend.upload_part("key", upload_id, 1, Aborting(bytes_body(b"one")))


# --- removal of the metadata directory -------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["put", "upload"])
def test_an_object_without_options_leaves_no_metadata_directory(backend, meta_dir, call):
    MEANWHILE[call](backend, "a/key")

    assert not meta_dir.exists()
    assert backend.head_object("a/key").checksum == crc64(b"new")


def test_the_metadata_directory_is_kept_while_it_is_needed(backend, meta_dir):
    upload_id, _ = start_upload(backend, b"one")
    backend.put_object("plain", bytes_body(b"x"), NO_OPTIONS)
    while_pending = sorted(path.name for path in meta_dir.iterdir())
    backend.put_object("described", bytes_body(b"x"), RICH)
    backend.abort_upload("key", upload_id)
    while_described = sorted(path.name for path in meta_dir.iterdir())
    backend.delete_object("described")

    assert (while_pending, while_described) == (["uploads"], ["objects"])
    assert not meta_dir.exists()


def test_a_failed_call_leaves_no_metadata_directory(backend, meta_dir, directory):
    (directory / "key").mkdir(parents=True)

    with pytest.raises(BackendError):
        backend.put_object("key", bytes_body(b"x"), NO_OPTIONS)
    with pytest.raises(BackendError):
        backend.initiate_upload("key", NO_OPTIONS)

    assert not meta_dir.exists()


def test_an_upload_leaves_only_the_object(tmp_path, directory, meta_dir):
    source = tmp_path / "note.txt"
    source.write_bytes(b"note")
    for config in (TransferConfig(), TransferConfig(multipart_threshold=0)):
        Uploader(LocalBackend(directory), config=config).upload(source, "note.txt", resume="never")

        assert [path.name for path in directory.iterdir()] == ["note.txt"]


def test_a_run_that_finds_its_object_completed_removes_the_rest_of_the_upload(
    tmp_path, directory, meta_dir, monkeypatch
):
    """The process that made it crashed before it removed the parts; the next run has nothing left to write."""
    source = tmp_path / "note.txt"
    source.write_bytes(b"note")
    config = TransferConfig(multipart_threshold=0, retry_base=0, max_attempts=1)
    store = FileCheckpointStore(tmp_path / "state")

    def die(*args):
        raise Crashed

    monkeypatch.setattr(local, "drop_upload", die)
    with pytest.raises(Crashed):
        Uploader(LocalBackend(directory), store=store, config=config).upload(source, "note.txt")
    monkeypatch.undo()
    left = meta_dir.exists()

    result = Uploader(LocalBackend(directory), store=store, config=config).upload(source, "note.txt")

    assert left
    assert (result.parts_sent, result.parts_resumed, result.verified) == (0, 1, True)
    assert [path.name for path in directory.iterdir()] == ["note.txt"]


# --- entries that change between two system calls --------------------------------------------------------------------


@pytest.fixture
def opened(tmp_path):
    with _local_directories.Directory.open(str(tmp_path)) as opened:
        yield opened


@pytest.mark.parametrize(
    ("then", "number"), [("directory", errno.EAGAIN), ("file", errno.ENOTDIR), ("nothing", errno.ENOTDIR)]
)
def test_an_entry_that_was_no_directory_is_looked_at_again(opened, tmp_path, monkeypatch, then, number):
    """If it has become one since, the error is transient."""
    place = tmp_path / "entry"
    place.write_bytes(b"")
    status = _local_directories.Directory.status

    def changed(self, name):
        if then != "file":
            place.unlink()
        if then == "directory":
            place.mkdir()
        return status(self, name)

    monkeypatch.setattr(_local_directories.Directory, "status", changed)
    with pytest.raises(OSError, match=r"entry") as caught:
        opened.enter("entry")
    assert (caught.value.errno, caught.value.filename) == (number, str(place))
    assert repr(opened) == f"<Directory {tmp_path}>"


def test_a_file_whose_permissions_can_not_be_set_is_not_left_behind(opened, tmp_path, monkeypatch):
    def fail(file, permissions):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(_local_directories, "change_permissions", fail)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        opened.create("entry", 0o644)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_removed_again_and_again_is_not_made_for_ever(opened):
    calls = []

    def removed(directory):
        calls.append(directory.path)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    with pytest.raises(FileNotFoundError):
        make_and_use(opened, ("a", "b"), removed)
    assert len(calls) == _TRIES_MAX


@pytest.mark.parametrize("forbid", [False, True])
def test_a_link_to_nothing_is_an_entry_that_is_replaced_unless_that_is_forbidden(backend, directory, forbid):
    directory.mkdir()
    (directory / "key").symlink_to("missing")
    options = ObjectOptions(forbid_overwrite=forbid)
    with pytest.raises(ObjectExists) if forbid else contextlib.nullcontext():
        backend.put_object("key", bytes_body(b"new"), options)
    assert (directory / "key").is_symlink() is forbid
    assert not (directory / "missing").exists()


def test_a_parent_that_has_become_an_object_since_the_check_is_reported(backend, directory, monkeypatch):
    backend.put_object("a", bytes_body(b"object"), NO_OPTIONS)
    monkeypatch.setattr(Target, "check", lambda self: None)
    with pytest.raises(PartwiseError, match="'a' is an object, so it can't be a directory as well"):
        backend.put_object("a/b", bytes_body(b"x"), NO_OPTIONS)
    assert (directory / "a").read_bytes() == b"object"


def test_an_unknown_option_in_a_record_is_refused():
    with pytest.raises(ValueError, match="nonsense"):
        options_from_data({"nonsense": "text"})


class Crashed(BaseException):
    """The process was killed here."""


# --- modes -----------------------------------------------------------------------------------------------------------


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(params=["put", "upload"])
def store_file(request, directory):
    """Uploads a file, in a single request or in parts, with a new backend each time."""

    def store(source, key="key"):
        config = TransferConfig(multipart_threshold=10**9 if request.param == "put" else 0)
        Uploader(LocalBackend(directory), config=config).upload(source, key, resume="never")
        return directory / key

    return store


@pytest.fixture
def umask():
    """Sets the umask of the process until the end of the test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize(
    "case",
    [
        (0o600, 0o022, 0o600),
        (0o640, 0o022, 0o640),
        (0o644, 0o022, 0o644),
        (0o666, 0o022, 0o644),
        (0o755, 0o022, 0o755),
        (0o644, 0o077, 0o600),
        (0o777, 0o000, 0o777),
        (0o4755, 0o022, 0o755),
        (0o2755, 0o022, 0o755),
        (0o1644, 0o022, 0o644),
        (0o400, 0o022, 0o400),
    ],
)
def test_a_new_object_has_the_permissions_of_its_source_within_the_umask(tmp_path, store_file, umask, case):
    permissions, mask, expected = case
    source = tmp_path / "source"
    source.write_bytes(b"x")
    source.chmod(permissions)
    umask(mask)

    assert mode(store_file(source)) == expected


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_an_object_without_a_source_file_has_the_default_permissions_of_the_umask(store_file, umask, mask, expected):
    umask(mask)

    assert mode(store_file(BytesSource(b"x"))) == expected


@pytest.mark.parametrize("permissions", [0o600, 0o640, 0o666, 0o444])
def test_an_object_that_is_replaced_keeps_its_permissions(tmp_path, store_file, umask, permissions):
    source = tmp_path / "source"
    source.write_bytes(b"x")
    source.chmod(0o755)
    umask(0o022)
    path = store_file(source)
    path.chmod(permissions | stat.S_ISUID)

    assert mode(store_file(source)) == permissions


def test_the_permissions_are_those_of_the_source_when_the_upload_was_initiated(tmp_path, directory, umask):
    source = tmp_path / "source"
    source.write_bytes(b"x")
    source.chmod(0o640)
    umask(0o022)
    upload_id, parts = start_upload(LocalBackend(directory).with_source_file(str(source)), b"one")
    source.unlink()

    LocalBackend(directory).complete_upload("key", upload_id, parts, NO_OPTIONS)

    assert mode(directory / "key") == 0o640


@pytest.mark.parametrize("permissions", [0o4777, -1, "0640", 6.5, True, None, [], 10**30])
def test_a_record_with_invalid_permissions_is_ignored(directory, meta_dir, permissions):
    upload_id, parts = start_upload(LocalBackend(directory), b"one")
    path = meta_dir / "uploads" / upload_id / "upload.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "permissions": permissions}))

    with contextlib.suppress(UploadNotFound):
        LocalBackend(directory).complete_upload("key", upload_id, parts, NO_OPTIONS)

    assert permissions is None or not (directory / "key").exists()


def test_the_metadata_directory_is_private(backend, meta_dir, umask):
    umask(0o000)
    seen = {}

    class Looking(BodyWrapper):
        def chunks(self, *, counted=True):
            for path in [meta_dir, *meta_dir.rglob("*")]:
                seen[path.relative_to(meta_dir).as_posix()] = mode(path), path.is_dir()
            yield from super().chunks(counted=counted)

    upload_id = backend.initiate_upload("key", RICH)
    part = backend.upload_part("key", upload_id, 1, Looking(bytes_body(b"x")))
    backend.put_object("other", Looking(bytes_body(b"x")), RICH)
    mark_committing = local.UploadFolder.mark_committing
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            local.UploadFolder,
            "mark_committing",
            lambda self, staged: (mark_committing(self, staged), list(Looking(bytes_body(b"")).chunks())),
        )
        backend.complete_upload("key", upload_id, [part], NO_OPTIONS)

    # A complete staged file has the permissions of its object.
    private = {found for name, found in seen.items() if "staged-" not in name}
    assert private == {(0o700, True), (0o600, False)}
    assert any("staged-" in name for name in seen)
    assert any(name.endswith(".new") for name in seen)
    assert any(name.startswith("temp/") for name in seen)
    assert any(name.startswith("objects/") for name in seen)


def test_a_staged_object_is_private_until_it_is_complete(tmp_path, directory, meta_dir, umask, monkeypatch):
    umask(0o000)
    seen = []
    original = local.assemble

    def looking(*args):
        seen.extend(mode(path) for path in meta_dir.glob("uploads/*/staged-*"))
        return original(*args)

    monkeypatch.setattr(local, "assemble", looking)
    complete_in(LocalBackend(directory), "key")

    assert seen == [0o600]


def test_a_write_makes_the_metadata_directory_of_an_earlier_version_private(directory, meta_dir):
    upload_id, _ = start_upload(LocalBackend(directory), b"one")
    for path in [meta_dir, meta_dir / "uploads"]:
        path.chmod(0o755)

    LocalBackend(directory).list_uploads()
    read = [mode(meta_dir), mode(meta_dir / "uploads")]
    start_upload(LocalBackend(directory), b"two", key="other")

    assert read == [0o755, 0o755]
    assert [mode(meta_dir), mode(meta_dir / "uploads")] == [0o700, 0o700]
    assert list(LocalBackend(directory).list_parts("key", upload_id))


def test_objects_are_stored_where_permissions_can_not_be_changed(backend, directory, monkeypatch):
    def refuse(*args):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", refuse)

    for call in MEANWHILE.values():
        call(backend, "key")


# --- entries that are not replaced -----------------------------------------------------------------------------------

needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root: to make a device, to be two users"
)
KINDS = ["a pipe", "a socket", pytest.param("a device", marks=needs_root)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["itself", "a link to it"])
def test_only_a_regular_file_is_replaced(backend, directory, kind, way):
    upload_id, parts = start_upload(backend, b"one")
    create_entry(directory / "special", kind)
    if way == "itself":
        (directory / "special").rename(directory / "key")
    else:
        (directory / "key").symlink_to("special")
    before = (directory / "key").lstat()
    named = {"a pipe": "a named pipe"}.get(kind, kind)

    with pytest.raises(BackendError, match=f"{named} of that name"):
        backend.put_object("key", bytes_body(b"x"), NO_OPTIONS)
    with pytest.raises(BackendError, match=f"{named} of that name"):
        backend.initiate_upload("key", NO_OPTIONS)
    with pytest.raises(BackendError, match=f"{named} of that name") as caught:
        backend.complete_upload("key", upload_id, parts, NO_OPTIONS)

    assert not caught.value.retryable
    assert (directory / "key").lstat() == before
    assert backend.head_object("key") is None
    with pytest.raises(KeyError):
        backend.open_object("key")
    backend.delete_object("special")
    assert list(backend.list_parts("key", upload_id)) == parts


@pytest.mark.parametrize("way", ["the same path", "a hard link", "a link", "a link in between", "another spelling"])
@pytest.mark.parametrize("threshold", [0, 10**9], ids=["in parts", "in a single request"])
def test_a_source_file_is_not_replaced_by_its_object(directory, meta_dir, tmp_path, way, threshold):
    (directory / "sub").mkdir(parents=True)
    source = directory / "sub" / "file"
    source.write_bytes(b"precious")
    key = "sub/file"
    if way == "a hard link":
        key = "second"
        os.link(source, directory / key)
    elif way == "a link":
        key = "link"
        (directory / key).symlink_to("sub/file")
    elif way == "a link in between":
        (directory / "way").symlink_to("sub")
        key = "way/file"
    elif way == "another spelling":
        source = directory / "sub" / ".." / "sub" / "file"
    before = all_in(directory)

    with pytest.raises(InvalidInput, match="is the source file of the upload") as caught:
        Uploader(LocalBackend(directory), config=TransferConfig(multipart_threshold=threshold)).upload(
            source, key, resume="never"
        )

    assert "Nothing was changed. Choose another key" in str(caught.value)
    assert all_in(directory) == before


# --- odd entries in the metadata directory ---------------------------------------------------------------------------

DEEP = b"[" * 200_000

ODD = {
    "a pipe": getattr(os, "mkfifo", None),  # Windows has none
    "a socket": lambda path: create_entry(path, "a socket"),
    "a directory": lambda path: path.mkdir(),
    "a link": lambda path: path.symlink_to("/etc/hostname"),
    "deeply nested": lambda path: path.write_bytes(DEEP),
    "deeply nested in a record": lambda path: path.write_bytes(b'{"version": 1, "key": ' + DEEP),
    "huge and sparse": lambda path: (path.touch(), os.truncate(path, 2**40)),
    "a very long number": lambda path: path.write_bytes(b'{"version": 1, "initiated": ' + b"1" * 9000 + b"}"),
    "writable by others": lambda path: (path.write_bytes(b"{}"), path.chmod(0o666)),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", ["upload.json", "parts/00001", "parts/00002", "parts", ".", "staged", "commit"])
def test_an_odd_entry_in_an_upload_does_not_affect_other_uploads(directory, meta_dir, name, odd):
    upload_id, parts = start_upload(LocalBackend(directory), b"one")
    other_id, _ = start_upload(LocalBackend(directory), b"one", key="other")
    place = meta_dir / "uploads" / other_id / (f"{name}-{UNIQUE}" if name in {"staged", "commit"} else name)
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    ODD[odd](place)
    later = LocalBackend(directory, clock=lambda: 1e10)

    later.put_object("new", bytes_body(b"new"), RICH)
    with contextlib.suppress(AccessDenied):  # a link, which is refused with its path
        assert {upload.key for upload in later.list_uploads()} - {"other"} == {"key"}
    for call in (later.list_parts, later.abort_upload):
        with contextlib.suppress(UploadNotFound, AccessDenied):
            call("other", other_id)
    later.complete_upload("key", upload_id, parts, NO_OPTIONS)

    assert (directory / "key").read_bytes() == b"one"


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_entry_in_place_of_metadata_is_ignored(backend, meta_dir, odd):
    backend.put_object("key", bytes_body(b"object"), RICH)
    [record] = meta_dir.glob("objects/*/*")
    record.unlink()
    ODD[odd](record)

    head = backend.head_object("key")

    assert (head.checksum, head.metadata) == (crc64(b"object"), {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(["metadata", "content_type", "tags", "forbid_overwrite", "callback", "acl", "traffic_limit"])
RECORDS = st.fixed_dictionaries(
    {"version": st.just(1) | JSON},
    optional={
        "key": st.just("key") | JSON,
        "initiated": st.floats() | st.integers() | JSON,
        "permissions": st.integers(-1, 0o10000) | JSON,
        "crc64": st.from_regex("[0-9A-Fa-f_x+-]{0,17}", fullmatch=True) | JSON,
        "options": st.dictionaries(NAMES, JSON, max_size=2) | JSON,
    },
)


@settings(max_examples=20, deadline=None)
@given(record=RECORDS | JSON)
@example(record={"version": 1, "key": "key", "initiated": 0, "options": {}})
@example(record={"version": 1, "key": "key", "initiated": float("nan"), "options": {}})
@example(record={"version": 1, "key": "key", "initiated": float("inf"), "options": {}})
@example(record={"version": 1, "key": "key", "initiated": 1e300, "options": {}})
@example(record={"version": 1, "key": "key", "initiated": 10**400, "options": {}})
@example(record={"version": 1, "key": "key", "initiated": -1e18, "options": {}})
@example(record={"version": 1, "key": ["key"], "initiated": 1, "options": {}})
@example(record={"version": 1, "key": "key", "initiated": 1, "options": [["metadata", "x"]]})
@example(record={"version": 1, "key": "key", "crc64": "-000000000000001", "options": {}})
@example(record={"version": 1, "key": "key", "crc64": "F" * 40, "options": {}})
@example(record={"version": 1, "key": "key", "crc64": "0000000000000001", "options": {"metadata": {"a": 1}}})
def test_no_content_of_a_record_makes_a_call_fail(tmp_path_factory, record):
    directory = tmp_path_factory.mktemp("fuzz") / "bucket"
    upload_id, _ = start_upload(LocalBackend(directory), b"one")
    LocalBackend(directory).put_object("key", bytes_body(b"object"), RICH)
    encoded = json.dumps(record).encode()
    for path in [*directory.glob(".partwise/objects/*/*"), *directory.glob(".partwise/uploads/*/upload.json")]:
        path.write_bytes(encoded)
    later = LocalBackend(directory, clock=lambda: 1e10)

    for upload in later.list_uploads():
        assert upload.initiated.tzinfo is not None
    with contextlib.suppress(UploadNotFound):
        list(later.list_parts("key", upload_id))
    head = later.head_object("key")
    assert head.size == 6
    assert 0 <= head.checksum < 2**64
    assert all(isinstance(value, str) for pair in head.metadata.items() for value in pair)
    later.put_object("key", bytes_body(b"new"), NO_OPTIONS)
    shutil.rmtree(directory.parent)


@pytest.mark.parametrize(
    ("initiated", "listed"),
    [(0, ["key"]), (253_402_300_799, ["key"]), (253_402_300_800, []), (-0.5, []), (1e300, []), (True, [])],
)
def test_an_upload_is_listed_if_the_time_in_its_record_is_one(directory, initiated, listed):
    start_upload(LocalBackend(directory), b"one")
    [path] = directory.glob(".partwise/uploads/*/upload.json")
    path.write_text(json.dumps({"version": 1, "key": "key", "initiated": initiated, "options": {}}))

    found = list(LocalBackend(directory).list_uploads())

    assert [upload.key for upload in found] == listed
    assert [upload.initiated.timestamp() for upload in found] == [initiated] * len(listed)


def test_options_too_large_for_a_record_are_refused_before_anything_is_stored(backend, directory):
    large = ObjectOptions(metadata={"a": "x" * 2**20})

    with pytest.raises(InvalidInput, match=r"options of .* bytes.*Pass less metadata="):
        backend.put_object("key", bytes_body(b"x"), large)
    with pytest.raises(InvalidInput, match=r"options of .* bytes.*Pass less metadata="):
        backend.initiate_upload("key", large)

    assert not directory.exists() or list(directory.iterdir()) == []


@pytest.mark.parametrize("call", ["put_object", "initiate_upload"])
@pytest.mark.parametrize(
    "options", [{"content_type": "a\udcff"}, {"metadata": {"a": "\ud800"}}, {"tags": {"\udcff": "a"}}]
)
def test_options_that_are_not_utf8_are_refused_before_anything_is_stored(backend, directory, call, options):
    body = (bytes_body(b"x"),) if call == "put_object" else ()

    with pytest.raises(InvalidInput, match=r"can't be encoded as UTF-8. Nothing was stored"):
        getattr(backend, call)("key", *body, ObjectOptions(**options))

    assert not directory.exists() or not list(directory.iterdir())


@pytest.mark.parametrize("name", ["00000", "10001", "99999", "٠٠٠٠١", "1", "000001"])  # noqa: RUF001
def test_a_part_with_an_invalid_number_is_ignored(directory, meta_dir, name):
    upload_id, parts = start_upload(LocalBackend(directory), b"one")
    folder = meta_dir / "uploads" / upload_id / "parts"
    shutil.copy(folder / "00001", folder / name)

    assert list(LocalBackend(directory).list_parts("key", upload_id)) == parts


# --- messages of late failures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("call", MEANWHILE)
def test_a_failure_after_the_rename_says_that_the_object_is_stored(backend, directory, monkeypatch, call, number):
    def fail(file):
        if (directory / "key").exists():
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(_local_directories, "sync_directory", fail)
    with pytest.raises(BackendError) as caught:
        MEANWHILE[call](backend, "key")

    assert "the object is stored, whole" in caught.value.message
    assert "no object was changed" not in caught.value.message
    assert (directory / "key").read_bytes() == b"new"


@pytest.mark.parametrize("call", MEANWHILE)
def test_a_failure_before_the_rename_says_that_no_object_was_changed(backend, directory, monkeypatch, call):
    def fail(*args, **kwargs):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "replace", fail)
    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(AccessDenied, match="no object was changed"):
        MEANWHILE[call](backend, "key")

    assert not (directory / "key").exists()


def test_a_directory_that_can_not_be_synced_is_not_a_failure(backend, directory, monkeypatch):
    def refuse(file):
        if stat.S_ISDIR(os.fstat(file if isinstance(file, int) else file.fileno()).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", refuse)
    for call in MEANWHILE.values():
        call(backend, "key")


# --- the order of syncs ----------------------------------------------------------------------------------------------


@pytest.fixture
def order(monkeypatch):
    """What was synced and renamed, in order."""
    order = []

    def fsync(file):
        descriptor = file if isinstance(file, int) else file.fileno()
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        order.append(("sync", path.name))

    def recorded(name, original):
        def call(source, target, **kwargs):
            original(source, target, **kwargs)
            order.append((name, Path(target).name))

        return call

    monkeypatch.setattr(os, "fsync", fsync)
    for name in ("replace", "rename", "link"):
        monkeypatch.setattr(os, name, recorded(name, getattr(os, name)))
    return order


on_linux = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not name open files")


@on_linux
@pytest.mark.parametrize("options", [NO_OPTIONS, RICH, ONCE], ids=["plain", "with options", "once"])
def test_the_bytes_of_an_object_are_synced_before_the_rename_and_its_name_after(backend, order, options):
    backend.put_object("a/key", bytes_body(b"x"), options)

    named = order.index(("link" if options is ONCE else "replace", "key"))
    staged = [name for what, name in order[:named] if what == "sync" and len(name) == 16]
    assert len(staged) == 1
    assert order[named + 1] == ("sync", "a")
    if options is RICH:
        folders = [name for what, name in order[:named] if what == "sync"]
        record = next(name for name in folders if name.endswith(".json"))
        assert folders[folders.index(record) + 1 :][1:] == ["objects", ".partwise", "bucket"]


@on_linux
@pytest.mark.parametrize("error", [OSError(errno.EIO, "stumbles"), KeyboardInterrupt()])
def test_an_upload_whose_id_is_not_returned_is_removed(directory, monkeypatch, error):
    """`initiate_upload` fails, or is interrupted, after the rename."""
    backend, sync = LocalBackend(directory), _local_directories.Directory.sync

    def failing(self):
        if (directory / ".partwise" / "uploads").is_dir() and any((directory / ".partwise" / "uploads").iterdir()):
            monkeypatch.undo()
            raise error
        sync(self)

    monkeypatch.setattr(_local_directories.Directory, "sync", failing)
    with pytest.raises((BackendError, KeyboardInterrupt)):
        backend.initiate_upload("key", ObjectOptions())

    assert list(backend.list_uploads()) == []
    assert list(directory.iterdir()) == [], "nothing else is left either"


def test_an_upload_is_synced_before_the_rename_and_its_name_after(backend, order):
    upload_id = backend.initiate_upload("a/key", NO_OPTIONS)

    named = order.index(("rename", upload_id))
    assert [name if len(name) != 16 else "temporary" for what, name in order[:named] if what == "sync"][-2:] == [
        "upload.json",
        "temporary",
    ]
    assert order[named + 1 :] == [("sync", "uploads"), ("sync", ".partwise"), ("sync", "bucket")]


@on_linux
def test_an_object_of_parts_is_synced_and_marked_before_the_rename(backend, order):
    upload_id, parts = start_upload(backend, b"one", key="a/key")
    order.clear()
    backend.complete_upload("a/key", upload_id, parts, NO_OPTIONS)

    named = order.index(("replace", "key"))
    before = [name for what, name in order[:named] if what == "sync"]
    assert [name.split("-")[0] for name in before if name != "bucket"] == ["staged", upload_id]
    assert order[named + 1] == ("sync", "a")


@on_linux
def test_each_new_directory_in_the_path_of_a_key_is_synced(backend, order):
    backend.put_object("a/b/c/key", bytes_body(b"x"), NO_OPTIONS)

    names = [name for what, name in order if what == "sync"]
    assert names[0] == backend.directory.parent.name
    assert [name for name in names if name in {"bucket", "a", "b", "c"}] == ["bucket", "a", "b", "c"]


@on_linux
@pytest.mark.parametrize("level", ["the bucket", "a directory in it"])
def test_a_directory_that_another_process_creates_meanwhile_is_synced_too(backend, order, monkeypatch, level):
    """That process may not have done it yet, and then a power loss would remove the directory with the object in it."""
    place = backend.directory if level == "the bucket" else backend.directory / "a"
    mkdir = os.mkdir

    def created_meanwhile(path, *args, **kwargs):
        if Path(path).name == place.name:
            mkdir(place)
        mkdir(path, *args, **kwargs)

    monkeypatch.setattr(os, "mkdir", created_meanwhile)
    backend.put_object("a/key", bytes_body(b"x"), NO_OPTIONS)

    named = order.index(("replace", "key"))
    assert ("sync", place.parent.name) in order[:named]


# --- two users -------------------------------------------------------------------------------------------------------

ALICE, BOB = 12345, 12346


@pytest.fixture
def shared():
    """A directory in which every user has every permission."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o777)
        yield Path(path)


def as_user(uid, action):
    """Call `action` as another user in a child process; return its exit code and the result as a string."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            os.write(write, str(action()).encode())
            status = 0
        except BaseException as error:  # noqa: BLE001
            os.write(write, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        said = answer.read().decode()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), said


@needs_root
def test_a_metadata_directory_of_another_user_is_refused_and_the_owner_named(shared):
    bucket = shared / "bucket"
    bucket.mkdir()
    bucket.chmod(0o777)
    assert as_user(ALICE, (bucket / ".partwise").mkdir)[0] == 0

    for uid in (0, BOB):
        code, said = as_user(uid, lambda: LocalBackend(bucket).put_object("key", bytes_body(b"x"), NO_OPTIONS))
        assert code == 1
        assert f".partwise belongs to another user (uid {ALICE})" in said
    assert not (bucket / "key").exists()


@needs_root
def test_two_users_share_a_bucket_in_turns_and_the_second_is_refused_meanwhile(shared):
    bucket = shared / "bucket"
    bucket.mkdir()
    bucket.chmod(0o777)

    def in_turns():
        LocalBackend(bucket).put_object(f"of-{os.getuid()}", bytes_body(b"x"), NO_OPTIONS)

    def begins():
        return LocalBackend(bucket).initiate_upload("key", NO_OPTIONS)

    turns = [as_user(uid, in_turns) for uid in (ALICE, BOB, ALICE)]
    code, upload_id = as_user(ALICE, begins)
    refused = [
        as_user(BOB, in_turns),
        as_user(BOB, begins),
        as_user(BOB, lambda: LocalBackend(bucket).list_uploads()),
        as_user(BOB, lambda: LocalBackend(bucket).abort_upload("key", upload_id)),
        as_user(BOB, lambda: LocalBackend(bucket).head_object(f"of-{ALICE}")),
    ]
    ended = as_user(ALICE, lambda: LocalBackend(bucket).abort_upload("key", upload_id))

    assert [code for code, _ in turns] == [0, 0, 0]
    assert code == 0
    for code, said in refused:
        assert code == 1
        assert said.startswith("AccessDenied")
        assert f"{bucket}/.partwise belongs to another user (uid {ALICE})" in said
        assert "store objects in a directory that only you use" in said
    assert ended[0] == 0
    assert as_user(BOB, in_turns)[0] == 0


@needs_root
@pytest.mark.parametrize("level", [".partwise/trash", ".partwise/temp", ".partwise/uploads", ".partwise/objects"])
def test_the_target_of_a_link_that_another_user_planted_in_a_bucket_of_root_is_kept(shared, victim, level):
    """As if the metadata directory had once been writable by others."""
    bucket = shared / "bucket"
    (bucket / ".partwise").mkdir(parents=True)
    (bucket / ".partwise").chmod(0o777)
    assert as_user(ALICE, lambda: (bucket / level).symlink_to(victim))[0] == 0
    before = all_in(victim)

    with pytest.raises(AccessDenied):
        LocalBackend(bucket).put_object("key", bytes_body(b"x"), NO_OPTIONS)
    (bucket / ".partwise").chmod(0o700)
    with pytest.raises(AccessDenied):
        LocalBackend(bucket).put_object("key", bytes_body(b"x"), NO_OPTIONS)

    assert all_in(victim) == before


@needs_root
def test_parts_that_another_user_planted_are_ignored(shared):
    """Otherwise they could determine the bytes of the object."""
    bucket = shared / "bucket"
    upload_id, parts = start_upload(LocalBackend(bucket), b"one")
    planted = bucket / ".partwise" / "uploads" / upload_id / "parts" / "00001"
    os.chown(planted, ALICE, ALICE)

    assert list(LocalBackend(bucket).list_parts("key", upload_id)) == []
    with pytest.raises(PartwiseError):
        LocalBackend(bucket).complete_upload("key", upload_id, parts, NO_OPTIONS)


@needs_root
def test_another_user_can_not_read_an_object_of_a_private_file_nor_its_parts(shared):
    source, bucket = shared / "source", shared / "bucket"
    source.write_bytes(b"secret")
    source.chmod(0o600)
    for number in (0, 1, 0):
        config = TransferConfig(multipart_threshold=10 * number)
        Uploader(LocalBackend(bucket), config=config).upload(source, "key", resume="never")
        assert as_user(ALICE, (bucket / "key").read_bytes)[1].startswith("PermissionError")
    start_upload(LocalBackend(bucket), b"secret", key="other")
    assert as_user(ALICE, lambda: list((bucket / ".partwise").iterdir()))[1].startswith("PermissionError")


@needs_root
@pytest.mark.parametrize("key", ["key", "sub/key"])
def test_a_writable_directory_that_is_not_readable_is_refused_before_anything_is_written(shared, key):
    box = shared / "box"
    place = (box / key).parent
    place.mkdir(parents=True)
    for path in {box, place}:
        os.chown(path, ALICE, ALICE)
    place.chmod(0o333)

    for call in MEANWHILE.values():
        code, said = as_user(ALICE, lambda call=call: call(LocalBackend(box), key))
        assert code == 1
        assert said.startswith("AccessDenied")
        assert "no object was changed" in said
        assert "permission to read, write and enter" in said
    assert [path for path in box.rglob("*") if path != place] == []


@needs_root
def test_a_directory_without_write_permission_is_refused(shared):
    (shared / "bucket").mkdir(mode=0o755)

    code, said = as_user(ALICE, lambda: LocalBackend(shared / "bucket").put_object("key", bytes_body(b"x"), NO_OPTIONS))

    assert (code, said.split(":")[0]) == (1, "AccessDenied")


@needs_root
@pytest.mark.parametrize("key", ["sub/key", "sub/deep/er/key"])
def test_a_key_in_a_directory_without_write_permission_is_refused_before_anything_is_sent(shared, key):
    """Completing would fail after all parts were sent, and the pending upload would lock out other users."""
    bucket = shared / "bucket"
    (bucket / "sub").mkdir(parents=True)
    bucket.chmod(0o777)

    for call in (*MEANWHILE.values(), lambda backend, key: backend.initiate_upload(key, NO_OPTIONS)):
        code, said = as_user(ALICE, lambda call=call: call(LocalBackend(bucket), key))
        assert code == 1
        assert said.startswith("AccessDenied")
        assert f"Permission denied ({bucket / 'sub'}); no object was changed" in said
    assert list(bucket.iterdir()) == [bucket / "sub"]


@needs_root
def test_in_a_sticky_directory_an_object_of_another_user_is_refused_before_anything_is_sent(shared):
    bucket = shared / "bucket"
    bucket.mkdir()
    bucket.chmod(0o1777)
    assert as_user(ALICE, lambda: LocalBackend(bucket).put_object("key", bytes_body(b"x"), NO_OPTIONS))[0] == 0

    refused = as_user(BOB, lambda: LocalBackend(bucket).initiate_upload("key", NO_OPTIONS))
    others = [as_user(uid, lambda: complete_in(LocalBackend(bucket), "key")) for uid in (ALICE, 0)]
    another = as_user(BOB, lambda: complete_in(LocalBackend(bucket), "other"))

    assert refused[0] == 1
    assert refused[1].startswith("AccessDenied")
    assert "only the owner of a file may replace it" in refused[1]
    assert [code for code, _ in (*others, another)] == [0, 0, 0]


@needs_root
def test_a_metadata_directory_of_root_is_refused_for_other_users_and_the_owner_named(shared):
    bucket = shared / "bucket"
    start_upload(LocalBackend(bucket))
    bucket.chmod(0o777)

    code, said = as_user(ALICE, lambda: LocalBackend(bucket).put_object("other", bytes_body(b"x"), NO_OPTIONS))

    assert code == 1
    assert said.startswith("AccessDenied")
    assert ".partwise belongs to another user (uid 0), and no other user may enter it" in said
    assert "unfinished uploads" in said
