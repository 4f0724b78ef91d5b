"""Uploads of a web service: files are received into a spool directory, and uploaded from there to a storage."""

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

PARALLEL_PARTS = 8  # of all uploads together
NAME_BYTES_MAX = 200
LISTED_MAX = 100  # stored files in the list; it has all others
BUSY_RETRY_SECONDS = 2.0
ABANDONED_SECONDS = 3600.0  # without a byte, after which an incomplete file is from a killed service


class Refused(Exception):
    """The request can't be fulfilled; the message says why."""


@define
class Upload:
    """One file; the object has the same name."""

    name: str
    path: Path
    size: int | None
    state: Literal["receiving", "sending", "waiting", "paused", "failed", "stored"] = "receiving"
    received: int = 0
    error: str = ""
    task: UploadTask | None = None
    runner: asyncio.Task[None] | None = field(default=None, repr=False)

    def report(self) -> dict[str, Any]:
        """Return the progress of the upload, for the page."""
        done, kept, rate = self.received, 0, 0.0
        if self.task is not None:
            progress = self.task.progress
            running = self.state in {"sending", "stored"}
            done = progress.bytes_done if running else progress.bytes_acknowledged
            kept, rate = progress.bytes_resumed, progress.rate if self.state == "sending" else 0.0
        report = {"name": self.name, "state": self.state, "size": self.size, "error": self.error}
        return report | {"done": done, "kept": kept, "rate": rate}

    def stop(self) -> None:
        """Pause the upload, and end its runner."""
        if self.runner is not None and not self.runner.cancelling():
            if self.task is not None:
                self.task.pause()
            self.runner.cancel()


class Uploads:
    """
    All uploads of a service.

    The files in ``received/`` are complete and not stored yet. They and their checkpoints are the only state that must
    survive the service.
    """

    def __init__(self, spool: Path, backend: MultipartBackend, prefix: str, config: TransferConfig | None) -> None:
        self._receiving, self._received = spool / "receiving", spool / "received"
        store = FileCheckpointStore(spool / "checkpoints")
        self._uploader = Uploader(backend, store=store, config=config, executor=ThreadPoolExecutor(PARALLEL_PARTS))
        self._prefix = prefix
        self._uploads: dict[str, Upload] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Resume the uploads of an earlier service; at the end, pause all uploads."""
        for directory in (self._receiving, self._received):
            directory.mkdir(parents=True, exist_ok=True)
        for partial in self._receiving.iterdir():
            if time.time() - partial.stat().st_mtime > ABANDONED_SECONDS:
                partial.unlink()
        async with asyncio.TaskGroup() as self._runners:
            for path in sorted(self._received.iterdir()):
                self._uploads[path.name] = Upload(path.name, path, path.stat().st_size)
                self.resume(path.name)
            yield
            for upload in self._uploads.values():
                upload.stop()

    def report(self) -> list[dict[str, Any]]:
        """Return the progress of all uploads."""
        return [upload.report() for upload in self._uploads.values()]

    async def receive(self, name: str, size: int | None, chunks: AsyncIterable[bytes]) -> None:
        """Receive a file in chunks, and start to upload it when it is complete."""
        if not _is_name(name):
            raise Refused(f"{name!r} is not a valid file name")
        if name in self._uploads and self._uploads[name].state != "stored":
            raise Refused(f"a file named {name} is already being uploaded")
        upload = self._uploads[name] = Upload(name, self._received / name, size)
        partial = self._receiving / uuid4().hex
        try:
            async with await open_file(partial, "xb") as file:
                async for chunk in chunks:
                    await file.write(chunk)
                    upload.received += len(chunk)
                await file.flush()
                await asyncio.to_thread(os.fsync, file.wrapped.fileno())
            partial.rename(upload.path)  # after the sync, so that a file with this name is always complete
        except BaseException:  # the client disconnected, or the disk is full
            partial.unlink(missing_ok=True)
            del self._uploads[name]
            raise
        upload.size = upload.received
        self.resume(name)

    def pause(self, name: str) -> None:
        """Pause an upload. The storage keeps the uploaded parts."""
        self._upload(name).stop()

    def resume(self, name: str) -> None:
        """Upload the missing parts."""
        upload = self._upload(name)
        if upload.runner is None and upload.path.exists():
            upload.runner = self._runners.create_task(self._run(upload))

    async def drop(self, name: str) -> None:
        """Cancel an upload and remove its file and parts. Of a stored file, only the entry in the list is removed."""
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
            self._drop_oldest_entries()
        except asyncio.CancelledError:
            upload.state = "paused"
            raise
        except PartwiseError as error:
            upload.state, upload.error = (
                "failed",
                str(error.__cause__ or error),
            )  # the cause does not show the path of the spool directory
        finally:
            upload.runner = None

    async def _send(self, upload: Upload) -> None:
        while True:
            upload.state, upload.error = "sending", ""
            try:
                # If this block is left early, for any reason, it pauses the upload and waits until it is paused.
                async with self._uploader.start(upload.path, self._prefix + upload.name) as upload.task:
                    await upload.task
                    return
            except CheckpointBusy:
                upload.state = "waiting"  # until the service that this one replaces has ended
                await asyncio.sleep(BUSY_RETRY_SECONDS)

    def _drop_oldest_entries(self) -> None:
        stored = [upload.name for upload in self._uploads.values() if upload.state == "stored"]
        for name in stored[:-LISTED_MAX]:
            del self._uploads[name]

    def _upload(self, name: str) -> Upload:
        if name not in self._uploads:
            raise Refused(f"no file is named {name}")
        return self._uploads[name]


def _is_name(name: str) -> bool:
    """Return whether the name is that of a file within a directory."""
    plain = name == Path(name).name and name.isprintable() and not name.startswith(".")
    return plain and 0 < len(name.encode()) <= NAME_BYTES_MAX
