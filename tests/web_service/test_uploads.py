"""The handling of files by the service, without a browser and mostly without HTTP."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from partwise import TransferConfig
from partwise.backends.memory import MemoryBackend
from partwise.stores.file import FileCheckpointStore
from partwise.testing.fakes import pseudo_random_bytes

SOON = 30  # seconds
PART = 100 * 1024
DATA = pseudo_random_bytes(10 * PART)
CONFIG = TransferConfig(part_size=PART, multipart_threshold=0, concurrency=1)


class Held:
    """A bucket that holds back all parts after the first N, until it is released."""

    def __init__(self, inner, parts):
        self._inner, self._parts = inner, parts
        self.reached, self.released = threading.Event(), threading.Event()

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def upload_part(self, key, upload_id, part_number, body):
        if part_number > self._parts:
            self.reached.set()
            assert self.released.wait(SOON)
        return self._inner.upload_part(key, upload_id, part_number, body)


@pytest.fixture
def bucket():
    return MemoryBackend("bucket")


@pytest.fixture
def held(bucket):
    held = Held(bucket, parts=4)
    yield held
    held.released.set()


@pytest.fixture
def serve(example, tmp_path):
    """Runs a service; all of them use the same spool directory."""
    from uploads import Uploads

    @asynccontextmanager
    async def run(backend):
        uploads = Uploads(tmp_path, backend, "incoming/", CONFIG)
        async with uploads.running():
            yield uploads

    return run


async def chunks(data, size=64 * 1024):
    for begin in range(0, len(data), size):
        yield data[begin : begin + size]


async def until(condition):
    give_up = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < give_up
        await asyncio.sleep(0.005)


def state_of(uploads, name="file.bin"):
    return {entry["name"]: entry["state"] for entry in uploads.report()}.get(name)


def spooled(tmp_path):
    return sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())


def test_a_received_file_is_uploaded_and_removed_from_the_spool(serve, bucket, tmp_path):
    async def main():
        async with serve(bucket) as uploads:
            await uploads.receive("file.bin", len(DATA), chunks(DATA))
            await until(lambda: state_of(uploads) == "stored")
            [entry] = uploads.report()
            assert (entry["done"], entry["size"], entry["kept"]) == (len(DATA), len(DATA), 0)

    asyncio.run(main())
    assert bucket.read("incoming/file.bin") == DATA
    assert spooled(tmp_path) == []


def test_a_file_is_written_to_disk_while_it_is_received(serve, bucket, tmp_path):
    async def main():
        async with serve(bucket) as uploads:

            async def observed():
                async for chunk in chunks(DATA):
                    yield chunk
                    [partial] = (tmp_path / "receiving").iterdir()
                    [entry] = uploads.report()
                    assert entry["state"] == "receiving"
                    assert entry["done"] - partial.stat().st_size < 2 * 64 * 1024

            await uploads.receive("file.bin", len(DATA), observed())
            await until(lambda: state_of(uploads) == "stored")

    asyncio.run(main())
    assert bucket.read("incoming/file.bin") == DATA


def test_a_file_is_renamed_only_after_its_sync(serve, bucket, tmp_path, monkeypatch):
    """Otherwise a power failure could leave an incomplete file under its final name."""
    synced = []

    def sync(descriptor):
        synced.append((os.fstat(descriptor).st_size, spooled(tmp_path)[0].split("/")[0]))

    async def main():
        async with serve(bucket) as uploads:
            with monkeypatch.context() as patched:
                patched.setattr("uploads.os", SimpleNamespace(fsync=sync))
                await uploads.receive("file.bin", len(DATA), chunks(DATA))
            await until(lambda: state_of(uploads) == "stored")

    asyncio.run(main())
    assert synced == [(len(DATA), "receiving")]


def test_an_incomplete_file_is_not_uploaded_and_is_removed(serve, bucket, tmp_path):
    async def broken():
        yield DATA[:PART]
        raise ConnectionError("the client disconnected")

    async def main():
        async with serve(bucket) as uploads:
            with pytest.raises(ConnectionError):
                await uploads.receive("file.bin", len(DATA), broken())
            assert uploads.report() == []
            assert spooled(tmp_path) == []

    asyncio.run(main())
    assert (bucket.keys(), bucket.uploads) == ([], {})


def test_incomplete_files_of_a_killed_service_are_removed_after_an_hour_without_a_write(serve, bucket, tmp_path):
    receiving = tmp_path / "receiving"
    receiving.mkdir()
    for name, age in (("abandoned", 7200), ("of-another-service", 10)):
        (receiving / name).write_bytes(b"half a fi")
        os.utime(receiving / name, (time.time() - age,) * 2)

    async def main():
        async with serve(bucket) as uploads:
            assert uploads.report() == []

    asyncio.run(main())
    assert spooled(tmp_path) == ["receiving/of-another-service"]


def test_a_service_that_stops_pauses_its_uploads_and_the_next_one_resumes_them(serve, bucket, held, tmp_path):
    async def first():
        async with serve(held) as uploads:
            await uploads.receive("file.bin", len(DATA), chunks(DATA))
            await until(held.reached.is_set)
            held.released.set()

    async def second():
        async with serve(bucket) as uploads:
            await until(lambda: state_of(uploads) == "stored")
            return uploads.report()

    asyncio.run(first())
    assert bucket.keys() == []
    [checkpoint] = FileCheckpointStore(tmp_path / "checkpoints").scan()
    [entry] = asyncio.run(second())

    assert entry["kept"] == checkpoint.bytes_done >= 4 * PART
    assert bucket.read("incoming/file.bin") == DATA
    assert spooled(tmp_path) == []


def test_a_pause_keeps_the_uploaded_parts_for_the_resume(serve, bucket, held):
    async def main():
        async with serve(held) as uploads:
            await uploads.receive("file.bin", len(DATA), chunks(DATA))
            await until(held.reached.is_set)
            uploads.pause("file.bin")
            uploads.pause("file.bin")  # twice is fine
            held.released.set()
            await until(lambda: state_of(uploads) == "paused")
            [entry] = uploads.report()
            assert entry["done"] in (4 * PART, 5 * PART), "only acknowledged bytes count"
            uploads.resume("file.bin")
            uploads.resume("file.bin")
            await until(lambda: state_of(uploads) == "stored")
            assert uploads.report()[0]["kept"] == entry["done"]

    asyncio.run(main())
    assert bucket.read("incoming/file.bin") == DATA


@pytest.mark.parametrize("paused_first", [True, False])
def test_cancelling_leaves_no_file_and_no_upload(serve, bucket, held, tmp_path, paused_first):
    async def main():
        async with serve(held) as uploads:
            await uploads.receive("file.bin", len(DATA), chunks(DATA))
            await until(held.reached.is_set)
            if paused_first:
                uploads.pause("file.bin")
                await asyncio.sleep(0.01)  # it has started to pause
            asyncio.get_running_loop().call_later(0.05, held.released.set)
            await uploads.drop("file.bin")
            assert uploads.report() == []
            assert (bucket.keys(), bucket.uploads) == ([], {})
            assert spooled(tmp_path) == []

    asyncio.run(main())


def test_an_upload_waits_for_another_service_that_still_has_the_claim(serve, bucket, held, monkeypatch):
    """As while the old service shuts down and the new one has started."""
    import uploads as module

    monkeypatch.setattr(module, "BUSY_RETRY_SECONDS", 0.01)

    async def main():
        async with serve(held) as old:
            await old.receive("file.bin", len(DATA), chunks(DATA))
            await until(held.reached.is_set)
            async with serve(bucket) as new:
                await until(lambda: state_of(new) == "waiting")
                old.pause("file.bin")
                held.released.set()
                await until(lambda: state_of(new) == "stored")
                assert new.report()[0]["kept"] >= 4 * PART
                assert state_of(old) == "paused"

    asyncio.run(main())
    assert bucket.read("incoming/file.bin") == DATA


def test_a_failure_is_reported_and_keeps_the_file(serve, bucket, tmp_path):
    async def main():
        async with serve(bucket) as uploads:
            bucket.close()
            await uploads.receive("file.bin", len(DATA), chunks(DATA))
            await until(lambda: state_of(uploads) == "failed")
            assert "closed" in uploads.report()[0]["error"]
            assert spooled(tmp_path) == ["received/file.bin"], "the file must be kept"

    asyncio.run(main())


def test_a_name_can_be_uploaded_only_once_at_a_time(serve, bucket, held):
    from uploads import Refused

    async def main():
        async with serve(held) as uploads:
            await uploads.receive("file.bin", len(DATA), chunks(DATA))
            with pytest.raises(Refused, match="already being uploaded"):
                await uploads.receive("file.bin", 3, chunks(b"new"))
            held.released.set()
            await until(lambda: state_of(uploads) == "stored")
            await uploads.receive("file.bin", 3, chunks(b"new"))
            await until(lambda: bucket.read("incoming/file.bin") == b"new")

    asyncio.run(main())


@pytest.mark.parametrize("name", ["..", ".", ".hidden", "a/b", "/etc/passwd", "", "a\nb", "a\0b", "ü" * 101])
def test_an_invalid_name_is_refused_before_the_body_is_read(serve, bucket, tmp_path, name):
    from uploads import Refused

    async def unread():
        pytest.fail("the body was read")
        yield b""

    async def main():
        async with serve(bucket) as uploads:
            with pytest.raises(Refused, match="not a valid file name"):
                await uploads.receive(name, 1, unread())

    asyncio.run(main())
    assert spooled(tmp_path) == []


def test_the_list_keeps_a_limited_number_of_stored_files(serve, bucket, monkeypatch):
    import uploads as module

    monkeypatch.setattr(module, "LISTED_MAX", 2)

    async def main():
        async with serve(bucket) as uploads:
            for name in ("one", "two", "three"):
                await uploads.receive(name, 4, chunks(b"data"))
                await until(lambda name=name: state_of(uploads, name) == "stored")
            assert [entry["name"] for entry in uploads.report()] == ["two", "three"]

    asyncio.run(main())
