"""What the service does with files, without a browser and mostly without HTTP."""

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
    """A bucket that holds back what comes after so many parts, until it is let go."""

    def __init__(self, inner, parts):
        self._inner, self._parts = inner, parts
        self.reached, self.let_go = threading.Event(), threading.Event()

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def upload_part(self, key, upload_id, part_number, body):
        if part_number > self._parts:
            self.reached.set()
            assert self.let_go.wait(SOON)
        return self._inner.upload_part(key, upload_id, part_number, body)


@pytest.fixture
def bucket():
    return MemoryBackend("bucket")


@pytest.fixture
def held(bucket):
    held = Held(bucket, parts=4)
    yield held
    held.let_go.set()


@pytest.fixture
def serve(example, tmp_path):
    """One life of a service, always on the same spool directory."""
    from uploads import Uploads

    @asynccontextmanager
    async def live(backend):
        uploads = Uploads(tmp_path, backend, "incoming/", CONFIG)
        async with uploads.running():
            yield uploads

    return live


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


def test_a_file_is_received_sent_and_gone_from_the_spool(serve, bucket, tmp_path):
    async def main():
        async with serve(bucket) as uploads:
            await uploads.receive("file.bin", len(DATA), chunks(DATA))
            await until(lambda: state_of(uploads) == "stored")
            [entry] = uploads.report()
            assert (entry["done"], entry["size"], entry["kept"]) == (len(DATA), len(DATA), 0)

    asyncio.run(main())
    assert bucket.read("incoming/file.bin") == DATA
    assert spooled(tmp_path) == []


def test_a_file_is_on_the_disk_while_it_is_received_and_not_in_memory(serve, bucket, tmp_path):
    async def main():
        async with serve(bucket) as uploads:

            async def observed():
                async for chunk in chunks(DATA):
                    yield chunk
                    [half] = (tmp_path / "receiving").iterdir()
                    [entry] = uploads.report()
                    assert entry["state"] == "receiving"
                    assert entry["done"] - half.stat().st_size < 2 * 64 * 1024

            await uploads.receive("file.bin", len(DATA), observed())
            await until(lambda: state_of(uploads) == "stored")

    asyncio.run(main())
    assert bucket.read("incoming/file.bin") == DATA


def test_a_file_has_its_name_only_once_it_is_on_the_disk(serve, bucket, tmp_path, monkeypatch):
    """Else the loss of power could leave a file that looks whole and is not."""
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


def test_half_a_file_is_never_sent_and_leaves_nothing(serve, bucket, tmp_path):
    async def broken():
        yield DATA[:PART]
        raise ConnectionError("the sender has gone")

    async def main():
        async with serve(bucket) as uploads:
            with pytest.raises(ConnectionError):
                await uploads.receive("file.bin", len(DATA), broken())
            assert uploads.report() == []
            assert spooled(tmp_path) == []

    asyncio.run(main())
    assert (bucket.keys(), bucket.uploads) == ([], {})


def test_what_a_dead_service_had_half_received_goes_once_nobody_writes_to_it(serve, bucket, tmp_path):
    receiving = tmp_path / "receiving"
    receiving.mkdir()
    for name, age in (("forsaken", 7200), ("of-another-service", 10)):
        (receiving / name).write_bytes(b"half a fi")
        os.utime(receiving / name, (time.time() - age,) * 2)

    async def main():
        async with serve(bucket) as uploads:
            assert uploads.report() == []

    asyncio.run(main())
    assert spooled(tmp_path) == ["receiving/of-another-service"]


def test_a_service_that_ends_pauses_and_the_next_one_carries_on(serve, bucket, held, tmp_path):
    async def first():
        async with serve(held) as uploads:
            await uploads.receive("file.bin", len(DATA), chunks(DATA))
            await until(held.reached.is_set)
            held.let_go.set()

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


def test_pausing_keeps_what_is_there_and_resuming_carries_on(serve, bucket, held):
    async def main():
        async with serve(held) as uploads:
            await uploads.receive("file.bin", len(DATA), chunks(DATA))
            await until(held.reached.is_set)
            uploads.pause("file.bin")
            uploads.pause("file.bin")  # twice is fine
            held.let_go.set()
            await until(lambda: state_of(uploads) == "paused")
            [entry] = uploads.report()
            assert entry["done"] in (4 * PART, 5 * PART), "only what the storage has acknowledged"
            uploads.resume("file.bin")
            uploads.resume("file.bin")
            await until(lambda: state_of(uploads) == "stored")
            assert uploads.report()[0]["kept"] == entry["done"]

    asyncio.run(main())
    assert bucket.read("incoming/file.bin") == DATA


@pytest.mark.parametrize("paused_first", [True, False])
def test_dropping_leaves_nothing_behind(serve, bucket, held, tmp_path, paused_first):
    async def main():
        async with serve(held) as uploads:
            await uploads.receive("file.bin", len(DATA), chunks(DATA))
            await until(held.reached.is_set)
            if paused_first:
                uploads.pause("file.bin")
                await asyncio.sleep(0.01)  # it has begun to pause
            asyncio.get_running_loop().call_later(0.05, held.let_go.set)
            await uploads.drop("file.bin")
            assert uploads.report() == []
            assert (bucket.keys(), bucket.uploads) == ([], {})
            assert spooled(tmp_path) == []

    asyncio.run(main())


def test_an_upload_that_another_service_still_holds_is_waited_for(serve, bucket, held, monkeypatch):
    """As while the old service ends and the new one has begun."""
    import uploads as module

    monkeypatch.setattr(module, "BUSY_RETRY", 0.01)

    async def main():
        async with serve(held) as old:
            await old.receive("file.bin", len(DATA), chunks(DATA))
            await until(held.reached.is_set)
            async with serve(bucket) as new:
                await until(lambda: state_of(new) == "waiting")
                old.pause("file.bin")
                held.let_go.set()
                await until(lambda: state_of(new) == "stored")
                assert new.report()[0]["kept"] >= 4 * PART
                assert state_of(old) == "paused"

    asyncio.run(main())
    assert bucket.read("incoming/file.bin") == DATA


def test_a_failure_is_told_and_can_be_tried_again(serve, bucket, tmp_path):
    async def main():
        async with serve(bucket) as uploads:
            bucket.close()
            await uploads.receive("file.bin", len(DATA), chunks(DATA))
            await until(lambda: state_of(uploads) == "failed")
            assert "closed" in uploads.report()[0]["error"]
            assert spooled(tmp_path) == ["received/file.bin"], "nothing is lost by it"

    asyncio.run(main())


def test_a_name_is_on_its_way_but_once(serve, bucket, held):
    from uploads import Refused

    async def main():
        async with serve(held) as uploads:
            await uploads.receive("file.bin", len(DATA), chunks(DATA))
            with pytest.raises(Refused, match="on its way already"):
                await uploads.receive("file.bin", 3, chunks(b"new"))
            held.let_go.set()
            await until(lambda: state_of(uploads) == "stored")
            await uploads.receive("file.bin", 3, chunks(b"new"))
            await until(lambda: bucket.read("incoming/file.bin") == b"new")

    asyncio.run(main())


@pytest.mark.parametrize("name", ["..", ".", ".hidden", "a/b", "/etc/passwd", "", "a\nb", "a\0b", "ü" * 101])
def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_read(serve, bucket, tmp_path, name):
    from uploads import Refused

    async def unread():
        pytest.fail("it was read")
        yield b""

    async def main():
        async with serve(bucket) as uploads:
            with pytest.raises(Refused, match="can't be the name"):
                await uploads.receive(name, 1, unread())

    asyncio.run(main())
    assert spooled(tmp_path) == []


def test_only_so_many_that_are_stored_are_remembered(serve, bucket, monkeypatch):
    import uploads as module

    monkeypatch.setattr(module, "LISTED_MAX", 2)

    async def main():
        async with serve(bucket) as uploads:
            for name in ("one", "two", "three"):
                await uploads.receive(name, 4, chunks(b"data"))
                await until(lambda name=name: state_of(uploads, name) == "stored")
            assert [entry["name"] for entry in uploads.report()] == ["two", "three"]

    asyncio.run(main())
