"""Leaving a block by an exception never makes an object, whatever the block is of; and what was sent is kept."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack, contextmanager

import pytest

from partwise import CheckpointBusy, ObjectOptions, TransferConfig, Uploader, UploadFailed, UploadPaused
from partwise.backends.local import LocalBackend
from partwise.backends.memory import MemoryBackend
from partwise.backends.oss import Credentials, OSSBackend
from partwise.bodies import bytes_body
from partwise.errors import BackendClosed, StoreClosed
from partwise.model import KIB
from partwise.stores.file import FileCheckpointStore
from partwise.stores.memory import MemoryCheckpointStore
from partwise.stores.sqlite import SQLiteCheckpointStore
from partwise.testing import OSSServer
from partwise.testing.fakes import pseudo_random_bytes

SOON = 30  # seconds
PART = 100 * KIB
DATA = pseudo_random_bytes(3 * PART)
CONFIG = TransferConfig(part_size=PART, multipart_threshold=0, concurrency=1)


class Failed(Exception):
    """What a block is left by."""


@pytest.fixture(params=["local", "memory", "oss"])
def storage(request, tmp_path):
    """Opens one storage again and again."""
    with ExitStack() as stack:
        if request.param == "local":
            yield lambda: LocalBackend(tmp_path / "bucket")
        elif request.param == "memory":
            bucket = MemoryBackend("bucket")
            yield lambda: _Handle(bucket)
        else:
            server = stack.enter_context(OSSServer())
            key = Credentials(server.access_key_id, server.access_key_secret)
            yield lambda: OSSBackend("examplebucket", endpoint=server.endpoint, region=server.region, credentials=key)


class _Handle:
    """A handle on a bucket in memory, whose end is not that of the bucket."""

    def __init__(self, bucket):
        self._bucket, self._closed = bucket, False
        self.location, self.limits, self.capabilities = bucket.location, bucket.limits, bucket.capabilities

    def __getattr__(self, name):
        if self._closed:
            raise BackendClosed("the handle was closed")
        return getattr(self._bucket, name)

    def close(self):
        self._closed = True

    # What a `MemoryBackend` does for itself.
    __enter__, __exit__ = lambda self: self, lambda self, *exception: self.close()


@pytest.fixture(params=["file", "one file", "beside", "sqlite", "memory"])
def remember(request, tmp_path):
    """Opens one store again and again; one in memory stays open, since what it holds is gone with it."""
    memory = MemoryCheckpointStore()
    return {
        "file": lambda: FileCheckpointStore(tmp_path / "checkpoints"),
        "one file": lambda: FileCheckpointStore.for_file(tmp_path / "one.checkpoint"),
        "beside": lambda: _left_open(FileCheckpointStore.beside_source()),
        "sqlite": lambda: SQLiteCheckpointStore(tmp_path / "uploads.db"),
        "memory": lambda: _left_open(memory),
    }[request.param]


@contextmanager
def _left_open(store):
    yield store


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(DATA)
    return path


def test_a_backend_that_is_left_with_every_part_sent_makes_no_object(storage):
    with pytest.raises(Failed), storage() as backend:  # noqa: PT012
        upload_id = backend.initiate_upload("key", ObjectOptions())
        for number in (1, 2, 3):
            backend.upload_part("key", upload_id, number, bytes_body(DATA[(number - 1) * PART : number * PART]))
        raise Failed

    with storage() as backend:
        assert backend.head_object("key") is None
        assert [part.part_number for part in backend.list_parts("key", upload_id)] == [1, 2, 3]


def test_a_backend_that_is_left_under_a_running_upload_ends_it_without_an_object(storage, path):
    """Closing the backend during an upload does not stop it cleanly, but it is still resumable."""
    reached, left = threading.Event(), threading.Event()
    store = MemoryCheckpointStore()

    def hold(progress):
        if progress.parts_done == 2:
            reached.set()
            assert left.wait(SOON)

    with pytest.raises(Failed), storage() as backend:  # noqa: PT012
        task = Uploader(backend, store=store, config=CONFIG).start(path, "key", progress=hold)
        assert reached.wait(SOON)
        raise Failed
    left.set()
    with pytest.raises(UploadFailed) as failed:
        task.result(SOON)

    assert isinstance(failed.value.__cause__, BackendClosed)
    with storage() as backend:
        assert backend.head_object("key") is None
        assert Uploader(backend, store=store, config=CONFIG).upload(path, "key").parts_resumed == 2


def test_a_store_that_is_left_keeps_the_checkpoint_of_what_is_unfinished(remember, path):
    bucket = MemoryBackend()

    def fail(progress):
        if progress.parts_done == 2:
            raise Failed

    with pytest.raises(Failed), remember() as store:
        Uploader(bucket, store=store, config=CONFIG).upload(path, "key", progress=fail)

    assert bucket.keys() == []
    with remember() as store:
        assert Uploader(bucket, store=store, config=CONFIG).upload(path, "key").parts_resumed == 2


def test_a_claim_that_is_left_is_free_and_what_it_was_held_for_is_still_there(remember, path):
    bucket = MemoryBackend()
    with (
        remember() as store,
        Uploader(bucket, store=store, config=CONFIG).start(path, "key", progress=_pause_at_2) as task,
    ):
        with pytest.raises(Failed):
            task.result(SOON)
        bound = store(str(path)) if callable(store) else store
        [checkpoint] = [bound.load(name) for name in _names(bucket, path)]
        with pytest.raises(Failed), bound.claim(checkpoint.name):
            raise Failed
        with bound.claim(checkpoint.name), pytest.raises(CheckpointBusy), bound.claim(checkpoint.name):
            pass

        assert bound.load(checkpoint.name) == checkpoint
    assert bucket.keys() == []


def _pause_at_2(progress):
    if progress.parts_done == 2:
        raise Failed


def _names(bucket, path):
    from partwise.checkpoint import checkpoint_name

    return [checkpoint_name(bucket.location, "key", str(path))]


@pytest.mark.parametrize("way", ["with", "async with"])
def test_a_task_that_is_left_with_every_part_sent_makes_no_object(storage, path, way):
    """The last moment at which it can be stopped: all that is missing is the request to complete."""
    store = MemoryCheckpointStore()
    reached, left = threading.Event(), threading.Event()

    class Holding(_Handle):
        def upload_part(self, key, upload_id, part_number, body):
            part = self._bucket.upload_part(key, upload_id, part_number, body)
            if part_number == 3:
                reached.set()
                assert left.wait(SOON)
            return part

    def fail():
        assert reached.wait(SOON)
        threading.Timer(0.02, left.set).start()  # by then it was asked to pause
        raise Failed

    def leave_a_block(backend):
        with Uploader(backend, store=store, config=CONFIG).start(path, "key"):
            fail()

    async def leave_an_asynchronous_block(backend):
        async with Uploader(backend, store=store, config=CONFIG).start(path, "key"):
            fail()

    leave = {"with": leave_a_block, "async with": lambda backend: asyncio.run(leave_an_asynchronous_block(backend))}
    with storage() as backend:
        with pytest.raises(Failed):
            leave[way](Holding(backend))

        assert backend.head_object("key") is None
        assert Uploader(backend, store=store, config=CONFIG).upload(path, "key").parts_resumed == 3


def test_nested_blocks_that_are_left_at_once_end_in_order(remember, storage, path):
    """As programs write them: the task, which is innermost, has paused before what it needs is closed."""
    reached = threading.Event()
    with pytest.raises(Failed), storage() as backend, remember() as store:  # noqa: PT012
        config = TransferConfig(part_size=PART, multipart_threshold=0, concurrency=1, bandwidth_limit=PART * 10)
        with Uploader(backend, store=store, config=config).start(
            path, "key", progress=lambda p: p.parts_done and reached.set()
        ) as task:
            assert reached.wait(SOON)
            raise Failed
    with pytest.raises(UploadPaused) as paused:
        task.result()

    assert paused.value.warnings == ()
    with storage() as backend, remember() as store:
        assert backend.head_object("key") is None
        result = Uploader(backend, store=store, config=CONFIG).upload(path, "key")
        assert result.parts_resumed == paused.value.parts_done >= 1


@pytest.mark.parametrize("make", [MemoryBackend, MemoryCheckpointStore])
def test_what_was_left_is_closed(make):
    with pytest.raises(Failed), make() as thing:
        raise Failed
    with pytest.raises((BackendClosed, StoreClosed)):
        list(thing.list_uploads() if make is MemoryBackend else thing.scan())
