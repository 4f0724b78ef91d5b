"""
Record what really happened, at the place where it happened.

Wrappers directly around the storage, the store and the source record what took effect there, below every fault. So the
tests know, without asking the engine, which bytes of which version of the source were read, which parts the storage has
and which process sent them, and what the store would still have after a crash.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import TypeVar

from attrs import evolve

from partwise._supports import supports_claim_check
from partwise.bodies import BodyWrapper, SourceBodyWrapper
from partwise.checkpoint import Checkpoint, Fingerprint, with_parts
from partwise.errors import CallbackError
from partwise.model import Capabilities, ObjectOptions, PendingUpload, StoredObject, UploadedPart
from partwise.protocols import Body, CheckpointStore, MultipartBackend, Source, SourceBody
from partwise.testing._proof.events import ActualUpload, BackendCall, HeldPart
from partwise.testing._proof.simulation import without_frames
from partwise.testing.faulty import BackendWrapper

_T = TypeVar("_T")


def checkpoint_ids(checkpoint: Checkpoint | None) -> set[str]:
    """Return the ids that a checkpoint knows: its own, and those still to abort."""
    if checkpoint is None:
        return set()
    return {*checkpoint.abandoned, *([] if checkpoint.upload_id is None else [checkpoint.upload_id])}


# --- the storage -----------------------------------------------------------------------------------------------------


class RecordingBackend(BackendWrapper):
    """A backend that records each call and its outcome."""

    def __init__(
        self, backend: MultipartBackend, record: Callable[[BackendCall], None], clock: Callable[[], float]
    ) -> None:
        super().__init__(backend)
        self._record = record
        self._clock = clock

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        return self._recorded("initiate_upload", lambda: self.inner.initiate_upload(key, options), options=options)

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        recording = _RecordingBody(body)
        return self._recorded(
            "upload_part",
            lambda: self.inner.upload_part(key, upload_id, part_number, recording),
            upload_id=upload_id,
            part_number=part_number,
            body=recording,
        )

    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        return self._recorded("list_parts", lambda: list(self.inner.list_parts(key, upload_id)), upload_id=upload_id)

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        return self._recorded(
            "complete_upload",
            lambda: self.inner.complete_upload(key, upload_id, parts, options),
            upload_id=upload_id,
            parts=tuple(parts),
            options=options,
        )

    def abort_upload(self, key: str, upload_id: str) -> None:
        self._recorded("abort_upload", lambda: self.inner.abort_upload(key, upload_id), upload_id=upload_id)

    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        return self._recorded("list_uploads", lambda: list(self.inner.list_uploads(prefix)))

    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        recording = _RecordingBody(body)
        return self._recorded(
            "put_object", lambda: self.inner.put_object(key, recording, options), options=options, body=recording
        )

    def head_object(self, key: str) -> StoredObject | None:
        return self._recorded("head_object", lambda: self.inner.head_object(key))

    def _recorded(
        self,
        operation: str,
        action: Callable[[], _T],
        *,
        upload_id: str | None = None,
        part_number: int | None = None,
        parts: tuple[UploadedPart, ...] = (),
        options: ObjectOptions | None = None,
        body: _RecordingBody | None = None,
    ) -> _T:
        started = self._clock()

        def record(returned: object, error: BaseException | None) -> None:
            data = b"" if body is None else body.data
            about = (operation, upload_id, part_number, data, parts, options)
            self._record(BackendCall(*about, started, self._clock(), returned, error))

        try:
            returned = action()
        except BaseException as error:
            record(None, without_frames(error))
            raise
        record(returned, None)
        return returned


class _RecordingBody(BodyWrapper):
    data = b""

    def chunks(self, *, counted: bool = True) -> Iterator[memoryview]:
        self.data = b""
        for chunk in super().chunks(counted=counted):
            self.data += chunk
            yield chunk


# --- history ---------------------------------------------------------------------------------------------------------


class History:
    """What took effect on storage and store, over many processes."""

    def __init__(self, capabilities: Capabilities | None = None) -> None:
        self.capabilities = capabilities or Capabilities()  # of the storage
        self.process = 0  # the number of the current process
        self.uploads: dict[str, ActualUpload] = {}  # every upload that the storage ever initiated, by id
        self.checkpoint: Checkpoint | None = None  # the checkpoint that the store has durably
        self.foreign: list[bytes] = []  # objects that others stored under the key
        self.effects: list[BackendCall] = []  # every call that took effect on the storage, in order
        self.claimed = False  # whether the claim is held
        self.checkpointed: set[str] = set()  # the ids of all uploads that were ever in a durable checkpoint
        self.problems: list[str] = []
        """Promises that the current process was seen to break, recorded at the call that broke them."""
        self._keeps_checkpoint = False
        self._appended: int | None = None

    def fork(self) -> History:
        """Return a copy, for another continuation of the same beginning."""
        forked = copy(self)
        forked.uploads = {
            upload_id: evolve(upload, parts=dict(upload.parts)) for upload_id, upload in self.uploads.items()
        }
        forked.foreign, forked.effects = list(self.foreign), list(self.effects)
        forked.checkpointed, forked.problems = set(self.checkpointed), list(self.problems)
        return forked

    def start_process(self, *, keeps_checkpoint: bool) -> None:
        """Start a new process."""
        self.process += 1
        self.problems = []
        self._keeps_checkpoint = keeps_checkpoint

    def pending(self) -> dict[str, dict[int, HeldPart]]:
        """Return the parts of each pending upload."""
        return {upload.upload_id: dict(upload.parts) for upload in self.uploads.values() if upload.state == "pending"}

    def checkpoint_saved(self, checkpoint: Checkpoint) -> None:
        """Record that the store has made this checkpoint durable."""
        self.checkpoint = checkpoint
        self.checkpointed |= checkpoint_ids(checkpoint)

    def part_appended(self, part: UploadedPart) -> None:
        """Record that the store has made this part durable."""
        assert self.checkpoint is not None
        parts = {known.part_number: known for known in self.checkpoint.parts}
        self.checkpoint = with_parts(self.checkpoint, tuple({**parts, part.part_number: part}.values()))
        self._appended = part.part_number

    def part_torn(self) -> None:
        """Record that the part that the store wrote last is lost."""
        assert self.checkpoint is not None
        assert self._appended is not None
        kept = [part for part in self.checkpoint.parts if part.part_number != self._appended]
        self.checkpoint = with_parts(self.checkpoint, tuple(kept))

    def call_ended(self, call: BackendCall) -> None:
        """Record a call of the storage itself, if it took effect."""
        if call.error is not None and not isinstance(call.error, CallbackError):
            return
        self.effects.append(call)
        match call:
            case BackendCall("initiate_upload", returned=str(upload_id)):
                self._other_uploads_ended()
                self.uploads[upload_id] = ActualUpload(upload_id, self.process)
                self._expect_checkpoint(None, "an upload was initiated")
            case BackendCall("upload_part", str(upload_id), number, data, returned=UploadedPart(etag=etag)):
                held = self.uploads[upload_id].parts
                if number in held and not self.capabilities.replaces_parts:
                    data = held[number].data  # whatever was sent, the storage has these
                held[number or 0] = HeldPart(data, etag, self.process)
                self._expect_checkpoint(upload_id, f"part {number} was sent")
            case BackendCall("complete_upload", str(upload_id)):
                self.uploads[upload_id].state = "completed"
                self._other_uploads_ended()
            case BackendCall("put_object"):
                self._other_uploads_ended()
            case BackendCall("abort_upload", str(upload_id)) if self.capabilities.aborts:
                self.upload_ended(upload_id)

    def upload_ended(self, upload_id: str) -> None:
        """Record that the storage has dropped an upload, if it had it."""
        upload = self.uploads.get(upload_id)
        if upload is not None and upload.state == "pending":
            upload.state = "aborted"

    def object_stored(self) -> None:
        """Record that another program has stored an object under the key."""
        self._other_uploads_ended()

    def _other_uploads_ended(self) -> None:
        if self.capabilities.one_upload_per_key:
            for upload_id in self.uploads:
                self.upload_ended(upload_id)

    def _expect_checkpoint(self, upload_id: str | None, action: str) -> None:
        if not self._keeps_checkpoint:
            return
        if self.checkpoint is None:
            self.problems.append(f"INTENT: {action}, and no checkpoint was durable")
        elif self.checkpoint.upload_id != upload_id:
            self.problems.append(f"INTENT: {action}, and the checkpoint was of the upload {self.checkpoint.upload_id}")

    def allow_orphans(self, upload_ids: Iterable[str], reason: str) -> None:
        """Note that no checkpoint has to know these uploads, and why."""
        for upload_id in upload_ids:
            upload = self.uploads[upload_id]
            upload.orphan_reason = upload.orphan_reason or reason


# --- the store -------------------------------------------------------------------------------------------------------


class RecordingStore:
    """A checkpoint store that records what it made durable."""

    def __init__(self, store: CheckpointStore, history: History) -> None:
        self.inner = store
        self._claims = store if supports_claim_check(store) else None
        self._history = history

    def __repr__(self) -> str:
        return f"RecordingStore({self.inner!r})"

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        with self.inner.claim(name):
            assert not self._history.claimed, "ONE-OWNER: the store granted a claim that is held"
            self._history.claimed = True
            try:
                yield
            finally:
                self._history.claimed = False

    def load(self, name: str) -> Checkpoint | None:
        return self.inner.load(name)

    def save(self, checkpoint: Checkpoint) -> None:
        self.inner.save(checkpoint)
        self._history.checkpoint_saved(checkpoint)

    def append_part(self, name: str, upload_id: str, part: UploadedPart) -> None:
        self.inner.append_part(name, upload_id, part)
        self._history.part_appended(part)

    def delete(self, name: str, upload_id: str | None) -> None:
        self.inner.delete(name, upload_id)
        self._history.checkpoint = None

    def check_claim(self, name: str) -> None:
        if self._claims is not None:
            self._claims.check_claim(name)

    def scan(self) -> Iterable[Checkpoint]:
        return self.inner.scan()


# --- the source ------------------------------------------------------------------------------------------------------


class CountingSource:
    """
    A source that counts its live bodies, and tells when a chunk is to be read.

    Args:
        source: the source to read.
        before_chunk: called before each chunk.
        allowed: how many bodies may be alive. Before more are counted, those that are only in reference cycles are
            freed: when the garbage collector runs by itself depends on what else the process does.
    """

    def __init__(self, source: Source, before_chunk: Callable[[], None], allowed: int) -> None:
        self.inner = source
        self.name = source.name
        self._before_chunk = before_chunk
        self._allowed = allowed
        self._alive: weakref.WeakSet[_CountedBody] = weakref.WeakSet()
        self.most_bodies = 0  # the maximum number of bodies that were alive at the same time

    def fingerprint(self) -> Fingerprint:
        return self.inner.fingerprint()

    def body(self, offset: int, size: int) -> SourceBody:
        body = _CountedBody(self.inner.body(offset, size), self._before_chunk)
        self._alive.add(body)
        if len(self._alive) > self._allowed:
            gc.collect()
        self.most_bodies = max(self.most_bodies, len(self._alive))
        return body

    def close(self) -> None:
        self.inner.close()


class _CountedBody(SourceBodyWrapper):
    def __init__(self, body: SourceBody, before_chunk: Callable[[], None]) -> None:
        super().__init__(body)
        self._before_chunk = before_chunk

    def chunks(self) -> Iterator[memoryview]:
        chunks = super().chunks()
        while True:
            self._before_chunk()
            chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk
