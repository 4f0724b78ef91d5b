"""Files on their way through a service: received into a spool directory, and sent from there to a storage."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterable, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from anyio import open_file
from attrs import define, field

from partwise import CheckpointBusy, MultipartBackend, PartwiseError, TransferConfig, Uploader, UploadTask
from partwise.stores.file import FileCheckpointStore

PARTS_AT_ONCE = 8  # of all uploads together
NAME_BYTES_MAX = 200
LISTED_MAX = 100  # of those that are stored; the others are all listed
BUSY_RETRY = 2.0  # seconds
FORSAKEN = 3600.0  # seconds without a byte, after which half a file is known to be of a service that died


class Refused(Exception):
    """What was asked for can't be done; the text says why."""


@define
class Upload:
    """One file; its name is that of the object, too."""

    name: str
    path: Path
    size: int | None
    state: Literal["receiving", "sending", "waiting", "paused", "failed", "stored"] = "receiving"
    received: int = 0
    error: str = ""
    task: UploadTask | None = None
    runner: asyncio.Task[None] | None = field(default=None, repr=False)

    def report(self) -> dict[str, Any]:
        """How far it is, for a page to show."""
        done, kept, rate = self.received, 0, 0.0
        if self.task is not None:
            progress = self.task.progress
            running = self.state in {"sending", "stored"}
            done = progress.bytes_done if running else progress.bytes_acknowledged
            kept, rate = progress.bytes_resumed, progress.rate if self.state == "sending" else 0.0
        told = {"name": self.name, "state": self.state, "size": self.size, "error": self.error}
        return told | {"done": done, "kept": kept, "rate": rate}

    def stop(self) -> None:
        """Pause it, and have its runner end."""
        if self.runner is not None and not self.runner.cancelling():
            if self.task is not None:
                self.task.pause()
            self.runner.cancel()


class Uploads:
    """
    All uploads of a service.

    What is in ``received/`` was received whole and is not stored yet. That, and the checkpoints beside it, are all that
    has to outlive the service.
    """

    def __init__(self, spool: Path, backend: MultipartBackend, prefix: str, config: TransferConfig | None) -> None:
        self._receiving, self._received = spool / "receiving", spool / "received"
        store = FileCheckpointStore(spool / "checkpoints")
        self._uploader = Uploader(backend, store=store, config=config, executor=ThreadPoolExecutor(PARTS_AT_ONCE))
        self._prefix = prefix
        self._uploads: dict[str, Upload] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Carry on what an earlier service has left; at the end, pause what is on its way."""
        for directory in (self._receiving, self._received):
            directory.mkdir(parents=True, exist_ok=True)
        for half in self._receiving.iterdir():
            if time.time() - half.stat().st_mtime > FORSAKEN:
                half.unlink()
        async with asyncio.TaskGroup() as self._runners:
            for path in sorted(self._received.iterdir()):
                self._uploads[path.name] = Upload(path.name, path, path.stat().st_size)
                self.resume(path.name)
            yield
            for upload in self._uploads.values():
                upload.stop()

    def report(self) -> list[dict[str, Any]]:
        """How far each is."""
        return [upload.report() for upload in self._uploads.values()]

    async def receive(self, name: str, size: int | None, chunks: AsyncIterable[bytes]) -> None:
        """Take in a file, a chunk at a time; once it is whole, begin to send it."""
        if not _is_name(name):
            raise Refused(f"{name!r} can't be the name of a file here")
        if name in self._uploads and self._uploads[name].state != "stored":
            raise Refused(f"a file named {name} is on its way already")
        upload = self._uploads[name] = Upload(name, self._received / name, size)
        half = self._receiving / uuid4().hex
        try:
            async with await open_file(half, "xb") as file:
                async for chunk in chunks:
                    await file.write(chunk)
                    upload.received += len(chunk)
                await file.flush()
                await asyncio.to_thread(os.fsync, file.wrapped.fileno())
            half.rename(upload.path)  # after it is on the disk, so that whatever has its name is whole
        except BaseException:  # whoever sent it has gone, or the disk is full
            half.unlink(missing_ok=True)
            del self._uploads[name]
            raise
        upload.size = upload.received
        self.resume(name)

    def pause(self, name: str) -> None:
        """Stop sending. What the storage has is kept."""
        self._upload(name).stop()

    def resume(self, name: str) -> None:
        """Send what is missing."""
        upload = self._upload(name)
        if upload.runner is None and upload.path.exists():
            upload.runner = self._runners.create_task(self._run(upload))

    async def drop(self, name: str) -> None:
        """Stop sending, and leave nothing behind. Of a file that is stored, only the entry goes."""
        upload = self._upload(name)
        if upload.state == "receiving":
            raise Refused(f"{name} is still being received")
        if upload.runner is not None:
            upload.stop()
            await asyncio.wait([upload.runner])
        if upload.state != "stored":
            try:
                await asyncio.to_thread(self._uploader.abort, upload.path, self._prefix + name)
            except PartwiseError as error:
                upload.state, upload.error = "failed", str(error)
                return
            upload.path.unlink(missing_ok=True)
        del self._uploads[name]

    async def _run(self, upload: Upload) -> None:
        try:
            await self._send(upload)
            upload.path.unlink()
            upload.state = "stored"
            self._forget_the_oldest()
        except asyncio.CancelledError:
            upload.state = "paused"
            raise
        except PartwiseError as error:
            upload.state, upload.error = "failed", str(error.__cause__ or error)  # the cause names no path of ours
        finally:
            upload.runner = None

    async def _send(self, upload: Upload) -> None:
        while True:
            upload.state, upload.error = "sending", ""
            try:
                # By whatever way this block is left before the end: the upload is paused, and that is waited for.
                async with self._uploader.start(upload.path, self._prefix + upload.name) as upload.task:
                    await upload.task
                    return
            except CheckpointBusy:
                upload.state = "waiting"  # for a service that this one replaces, and that has not quite ended
                await asyncio.sleep(BUSY_RETRY)

    def _forget_the_oldest(self) -> None:
        stored = [upload.name for upload in self._uploads.values() if upload.state == "stored"]
        for name in stored[:-LISTED_MAX]:
            del self._uploads[name]

    def _upload(self, name: str) -> Upload:
        if name not in self._uploads:
            raise Refused(f"there is no file named {name}")
        return self._uploads[name]


def _is_name(name: str) -> bool:
    """Whether it names a file in a directory, and nothing else."""
    plain = name == Path(name).name and name.isprintable() and not name.startswith(".")
    return plain and 0 < len(name.encode()) <= NAME_BYTES_MAX
