"""
A crash of the process at any point: no object is torn, and nothing that was acknowledged is lost.

Each scenario runs once to count its file system calls, then twice for each of them: with a crash just before the call,
and with a crash just after it. After the crash every call fails, so no clean-up runs; a new backend on the same
directory is the next process.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from partwise.backends.local.backend import ABANDONED_AFTER, LocalBackend
from partwise.backends.local.upload_folder import UploadFolder
from partwise.checksums import crc64
from partwise.errors import ObjectExists, UploadNotFound
from partwise.model import ObjectOptions

NO_OPTIONS = ObjectOptions()
OLD = ObjectOptions(metadata={"version": "old"})
NEW = ObjectOptions(metadata={"version": "new"})
NEW_ONCE = ObjectOptions(metadata={"version": "new"}, forbid_overwrite=True)

CALLS = ["open", "write", "fchmod", "mkdir", "rename", "replace", "link", "unlink", "rmdir", "fsync", "copy_file_range"]


class Crashed(BaseException):
    """The process was killed here."""


class CrashingProcess:
    """
    Crashes at one of its file system calls.

    Args:
        at: the number of the call, from 0; None never.
        after: crash after the call has taken effect, not before.
    """

    def __init__(self, at=None, *, after=False):
        self.count = 0
        self._at = at
        self._after = after
        self._crashed = False

    def step(self, effect=lambda: None, undo=lambda result: None):
        if self._crashed:
            raise Crashed
        number = self.count
        self.count += 1
        self._crashed = number == self._at
        if self._crashed and not self._after:
            raise Crashed
        try:
            result = effect()
        except OSError:
            if self._crashed:
                raise Crashed from None
            raise
        if self._crashed:
            undo(result)
            raise Crashed
        return result

    def chunk(self, given):
        """To be called before each chunk of a body: a crash between two writes."""
        self.step()

    @contextlib.contextmanager
    def running(self):
        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                if hasattr(os, name):
                    patch.setattr(os, name, self._crashing(getattr(os, name), os.close if name == "open" else None))
            yield

    def _crashing(self, original, undo):
        # Syncing is slow and has no effect on these tests.
        effect = (lambda *args: None) if original is os.fsync else original

        def call(*args, **kwargs):
            # Opening an existing file or directory changes nothing.
            if original.__name__ == "open" and not args[1] & os.O_CREAT and not self._crashed:
                return original(*args, **kwargs)
            return self.step(lambda: effect(*args, **kwargs), undo or (lambda result: None))

        return call


def crashes(scenario, root):
    """Run `scenario(process, directory)` with a crash at each call, each time in a new directory, and yield that."""
    counting = CrashingProcess()
    (root / "count").mkdir()
    scenario(counting, root / "count")
    assert counting.count > 5
    for at in range(counting.count):
        for after in (False, True):
            directory = root / f"{at}-{after}"
            directory.mkdir()
            with pytest.raises(Crashed):
                scenario(CrashingProcess(at, after=after), directory)
            yield directory


def later(directory):
    return LocalBackend(directory, clock=lambda: time.time() + ABANDONED_AFTER + 60)


def assert_whole(directory, body, versions):
    """Check that the object is one of the versions, with the head of that version; return its name."""
    backend = LocalBackend(directory)
    head = backend.head_object("a/key")
    if head is None:
        assert None in versions
        return None
    data = (directory / "a" / "key").read_bytes()
    [name] = [name for name, expected in versions.items() if expected == data]
    assert (head.size, head.checksum, head.metadata["version"]) == (len(data), crc64(data), name)
    return name


def assert_clean(directory, body):
    """Check that a later process removes everything that is left."""
    later(directory).put_object("sweep", body(b""), NO_OPTIONS)
    meta_dir = directory / ".partwise"
    assert [*meta_dir.glob("temp/*"), *meta_dir.glob("trash/*"), *meta_dir.glob("uploads/*")] == []


@pytest.mark.parametrize("options", [NEW, NEW_ONCE], ids=["replacing an object", "a new object"])
def test_a_put_stores_the_whole_object_or_leaves_the_old_one(tmp_path, body, options):
    before = None if options.forbid_overwrite else b"old" * 900

    def put(process, directory):
        if before is not None:
            LocalBackend(directory).put_object("a/key", body(before), OLD)
        backend = LocalBackend(directory)
        with process.running():
            backend.put_object("a/key", body(b"new!" * 900, before=process.chunk), options)

    seen = set()
    for directory in crashes(put, tmp_path):
        seen.add(assert_whole(directory, body, {"old": b"old" * 900, "new": b"new!" * 900, None: None}))
        LocalBackend(directory).put_object("a/key", body(b"new!" * 900), NEW)
        assert assert_whole(directory, body, {"new": b"new!" * 900}) == "new"
        assert_clean(directory, body)
    assert seen == {None if before is None else "old", "new"}


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("options", [NEW, NEW_ONCE], ids=["replacing an object", "a new object"])
def test_a_complete_makes_the_object_or_leaves_the_upload_as_it_was(tmp_path, body, options, links, monkeypatch):
    """And never both: an upload whose object was made has ended, so it can't make a second one."""
    if not links:
        monkeypatch.delattr(os, "link")
    whole = b"one" * 900 + b"two" * 500
    before = None if options.forbid_overwrite else "old"
    made = {}

    def complete(process, directory):
        backend = LocalBackend(directory)
        if before is not None:
            backend.put_object("a/key", body(b"old" * 900), OLD)
        upload_id = backend.initiate_upload("a/key", NEW)
        parts = [
            backend.upload_part("a/key", upload_id, n, body(data))
            for n, data in enumerate([b"one" * 900, b"two" * 500], 1)
        ]
        made[directory] = (upload_id, parts)
        with process.running():
            backend.complete_upload("a/key", upload_id, parts, options)

    seen = set()
    for directory in crashes(complete, tmp_path):
        upload_id, parts = made[directory]
        name = assert_whole(directory, body, {"old": b"old" * 900, "new": whole, None: None})
        seen.add(name)
        backend = LocalBackend(directory)
        if name == "new":
            backend.put_object("a/key", body(b"old" * 900), OLD)
            assert list(backend.list_uploads()) == []
            with pytest.raises(UploadNotFound):
                list(backend.list_parts("a/key", upload_id))
            with pytest.raises(UploadNotFound):
                backend.complete_upload("a/key", upload_id, parts, NO_OPTIONS)
            backend.abort_upload("a/key", upload_id)
            assert assert_whole(directory, body, {"old": b"old" * 900}) == "old"
        else:
            assert [upload.upload_id for upload in backend.list_uploads()] == [upload_id]
            assert list(backend.list_parts("a/key", upload_id)) == parts
            backend.complete_upload("a/key", upload_id, parts, options)
            assert assert_whole(directory, body, {"new": whole}) == "new"
        assert_clean(directory, body)
    assert seen == {before, "new"}


def test_a_complete_that_is_refused_at_the_rename_leaves_the_upload_as_it_was(tmp_path, body, monkeypatch):
    made = {}
    original = UploadFolder.mark_committing

    def complete(process, directory):
        backend = LocalBackend(directory)
        upload_id = backend.initiate_upload("a/key", NEW)
        made[directory] = (upload_id, [backend.upload_part("a/key", upload_id, 1, body(b"new!"))])
        (directory / "a").mkdir()

        def stored_meanwhile(self, staged):
            original(self, staged)
            (directory / "a" / "key").touch()

        monkeypatch.setattr(UploadFolder, "mark_committing", stored_meanwhile)
        with process.running(), contextlib.suppress(ObjectExists):
            backend.complete_upload("a/key", *made[directory], NEW_ONCE)

    for directory in crashes(complete, tmp_path):
        monkeypatch.setattr(UploadFolder, "mark_committing", original)
        upload_id, parts = made[directory]
        backend = LocalBackend(directory)
        assert list(backend.list_parts("a/key", upload_id)) == parts
        backend.complete_upload("a/key", upload_id, parts, NO_OPTIONS)
        assert assert_whole(directory, body, {"new": b"new!"}) == "new"
        assert_clean(directory, body)


def test_a_part_that_is_replaced_is_the_old_one_or_the_new_one(tmp_path, body):
    ids = {}
    contents = {(2700, crc64(b"old" * 900)): b"old" * 900, (3600, crc64(b"new!" * 900)): b"new!" * 900}

    def send(process, directory):
        backend = LocalBackend(directory)
        ids[directory] = upload_id = backend.initiate_upload("a/key", NEW)
        backend.upload_part("a/key", upload_id, 1, body(b"old" * 900))
        with process.running():
            backend.upload_part("a/key", upload_id, 1, body(b"new!" * 900, before=process.chunk))

    seen = set()
    for directory in crashes(send, tmp_path):
        backend = later(directory)
        backend.initiate_upload("other", NO_OPTIONS)
        [part] = backend.list_parts("a/key", ids[directory])
        data = contents[part.size, part.checksum]
        seen.add(data)
        assert [path.name for path in directory.glob(f".partwise/uploads/{ids[directory]}/parts/*")] == ["00001"]
        backend.complete_upload("a/key", ids[directory], [part], NO_OPTIONS)
        assert assert_whole(directory, body, {"new": data}) == "new"
    assert seen == set(contents.values())


def test_an_abort_ends_the_upload_or_leaves_it_complete(tmp_path, body):
    made = {}

    def abort(process, directory):
        backend = LocalBackend(directory)
        backend.put_object("a/key", body(b"old" * 900), OLD)
        upload_id = backend.initiate_upload("a/key", NEW)
        made[directory] = (upload_id, [backend.upload_part("a/key", upload_id, n, body(b"x")) for n in (1, 2, 3)])
        with process.running():
            backend.abort_upload("a/key", upload_id)

    seen = set()
    for directory in crashes(abort, tmp_path):
        upload_id, parts = made[directory]
        backend = LocalBackend(directory)
        try:
            assert list(backend.list_parts("a/key", upload_id)) == parts
            seen.add("complete")
        except UploadNotFound:
            assert list(backend.list_uploads()) == []
            seen.add("dropped")
        backend.abort_upload("a/key", upload_id)
        assert list(backend.list_uploads()) == []
        assert assert_whole(directory, body, {"old": b"old" * 900}) == "old"
        assert_clean(directory, body)
    assert seen == {"complete", "dropped"}


def test_an_initiated_upload_exists_completely_or_not_at_all(tmp_path, body):
    def initiate(process, directory):
        with process.running():
            LocalBackend(directory).initiate_upload("a/key", NEW)

    seen = set()
    for directory in crashes(initiate, tmp_path):
        backend = LocalBackend(directory)
        pending = list(backend.list_uploads())
        seen.add(len(pending))
        for upload in pending:
            part = backend.upload_part("a/key", upload.upload_id, 1, body(b"x"))
            backend.complete_upload("a/key", upload.upload_id, [part], NO_OPTIONS)
            assert backend.describe("a/key") == NEW
        assert_clean(directory, body)
    assert seen == {0, 1}


# --- real processes --------------------------------------------------------------------------------------------------

WRITER = """
import sys
from itertools import count
from partwise.backends.local import LocalBackend
from partwise.model import ObjectOptions

class Body:
    checksum = None
    def __init__(self, data): self.data = data
    def __len__(self): return len(self.data)
    def chunks(self, *, counted=True):
        for start in range(0, len(self.data), 10_000):
            yield memoryview(self.data)[start:start + 10_000]

backend = LocalBackend(sys.argv[1])
for version in count():
    data = b"%08d" % version * 12_500
    options = ObjectOptions(metadata={"version": str(version)})
    if version % 2:
        backend.put_object("key", Body(data), options)
    else:
        upload_id = backend.initiate_upload("key", options)
        parts = [backend.upload_part("key", upload_id, n, Body(data[start:start + 40_000]))
                 for n, start in enumerate(range(0, 100_000, 40_000), 1)]
        backend.complete_upload("key", upload_id, parts, ObjectOptions())
    if version == 0:
        print("stored", flush=True)
"""


def test_readers_see_whole_objects_whenever_a_writer_is_killed(directory, body):
    backend = LocalBackend(directory)

    def observe():
        data = (directory / "key").read_bytes()
        assert data == data[:8] * 12_500
        head = backend.head_object("key")
        assert head.checksum == crc64(b"%08d" % int(head.metadata["version"]) * 12_500)
        return head.metadata["version"]

    versions = set()
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(directory)], stdout=subprocess.PIPE) as writer:
            try:
                assert writer.stdout.readline() == b"stored" + os.linesep.encode()
                looks, seen = 0, set()
                while looks < 150 or len(seen) < 5:  # however slow the writer is
                    seen.add(observe())
                    looks += 1
                versions |= seen
            finally:
                writer.kill()
        versions.add(observe())

    assert len(versions) >= 5
    for upload in backend.list_uploads():
        backend.abort_upload(upload.key, upload.upload_id)
    assert_clean(directory, body)
    assert Path(directory / "key").stat().st_size == 100_000
