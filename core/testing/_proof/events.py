"""
The witness: what really happened, written down where it happened.

Wrappers that stand directly on the storage, the store and the source note what took effect there, below every fault.
So it is known, without a word from the engine, which bytes of which version of the source were given out, which parts
the storage holds and who sent them, and what the store would still know after a death.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, TypeVar

from attrs import define, evolve, field

from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.errors import CallbackError
from partwise.model import Capabilities, ObjectOptions, PartLimits, PendingUpload, StoredObject, UploadedPart
from partwise.protocols import Body, CheckpointStore, MultipartBackend, Source, SupportsPerSource
from partwise.testing._proof.simulation import told

_T = TypeVar("_T")

# --- what was done ---------------------------------------------------------------------------------------------------


@define(frozen=True)
class Deed:
    """
    One call of a backend, and what came of it.

    Args:
        operation: the name of the method.
        upload_id: the multipart upload that it was about, or that it began.
        part_number: the part that it was about.
        data: the bytes that were read from the body.
        parts: what was to be completed.
        options: what was asked of the object.
        began: when, by the world's clock.
        ended: likewise.
        answer: what it returned.
        error: what it raised.
    """

    operation: str
    upload_id: str | None = None
    part_number: int | None = None
    data: bytes = b""
    parts: tuple[UploadedPart, ...] = ()
    options: ObjectOptions | None = None
    began: float = 0.0
    ended: float = 0.0
    answer: object = None
    error: BaseException | None = None


class NotingBackend:
    """
    A backend that writes down what it is asked, and what came of it.

    Args:
        backend: what does the work.
        note: is told of each call, once it has ended.
        clock: the time.
    """

    def __init__(self, backend: MultipartBackend, note: Callable[[Deed], None], clock: Callable[[], float]) -> None:
        self.inner = backend
        self._note = note
        self._clock = clock

    def __repr__(self) -> str:
        return f"NotingBackend({self.inner!r})"

    @property
    def location(self) -> str:
        """The wrapped backend's."""
        return self.inner.location

    @property
    def limits(self) -> PartLimits:
        """The wrapped backend's."""
        return self.inner.limits

    @property
    def capabilities(self) -> Capabilities:
        """The wrapped backend's."""
        return self.inner.capabilities

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        deed = Deed("initiate_upload", options=options)
        return self._noted(deed, lambda: self.inner.initiate_upload(key, options))

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        deed = Deed("upload_part", upload_id, part_number)
        noting = _NotingBody(body)
        return self._noted(deed, lambda: self.inner.upload_part(key, upload_id, part_number, noting), noting)

    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        return self._noted(Deed("list_parts", upload_id), lambda: list(self.inner.list_parts(key, upload_id)))

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        deed = Deed("complete_upload", upload_id, parts=tuple(parts), options=options)
        return self._noted(deed, lambda: self.inner.complete_upload(key, upload_id, parts, options))

    def abort_upload(self, key: str, upload_id: str) -> None:
        self._noted(Deed("abort_upload", upload_id), lambda: self.inner.abort_upload(key, upload_id))

    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        return self._noted(Deed("list_uploads"), lambda: list(self.inner.list_uploads(prefix)))

    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        noting = _NotingBody(body)
        deed = Deed("put_object", options=options)
        return self._noted(deed, lambda: self.inner.put_object(key, noting, options), noting)

    def head_object(self, key: str) -> StoredObject | None:
        return self._noted(Deed("head_object"), lambda: self.inner.head_object(key))

    def close(self) -> None:
        self.inner.close()

    def _noted(self, deed: Deed, action: Callable[[], _T], body: _NotingBody | None = None) -> _T:
        began = self._clock()
        try:
            answer = action()
        except BaseException as error:
            self._enter(deed, body, began, error=told(error))
            raise
        self._enter(deed, body, began, answer=answer)
        return answer

    def _enter(
        self,
        deed: Deed,
        body: _NotingBody | None,
        began: float,
        *,
        answer: object = None,
        error: BaseException | None = None,
    ) -> None:
        data = b"" if body is None else body.data
        self._note(evolve(deed, data=data, began=began, ended=self._clock(), answer=answer, error=error))


class _NotingBody:
    def __init__(self, body: Body) -> None:
        self._body = body
        self.data = b""

    @property
    def crc64(self) -> int | None:
        return self._body.crc64

    def __len__(self) -> int:
        return len(self._body)

    def chunks(self) -> Iterator[memoryview]:
        self.data = b""
        for chunk in self._body.chunks():
            self.data += chunk
            yield chunk


# --- what stands -----------------------------------------------------------------------------------------------------


@define(frozen=True)
class HeldPart:
    """
    A part as the storage holds it.

    Args:
        data: its bytes.
        etag: what the storage calls it.
        process: the number of the process that sent it.
    """

    data: bytes
    etag: str
    process: int


@define
class TrueUpload:
    """
    A multipart upload as the storage has it.

    Args:
        upload_id: its id.
        process: the number of the process that began it.
        state: what became of it.
        excused: why no process need know of it, such as a lost answer; "" where one must.
        parts: what is held.
    """

    upload_id: str
    process: int
    state: Literal["pending", "completed", "aborted"] = "pending"
    excused: str = ""
    parts: dict[int, HeldPart] = field(factory=dict)


@define(frozen=True)
class Situation:
    """
    How things stand at one instant, by the witness's own account.

    Args:
        record: what the store would give to the next process.
        pending: the parts that the storage holds, by number, for each pending upload.
        stored: the bytes of the object, None where there is none.
        version: the number of the source's present version.
    """

    record: Checkpoint | None
    pending: dict[str, dict[int, HeldPart]]
    stored: bytes | None
    version: int


class History:
    """What took effect, over the lives of many processes."""

    def __init__(self) -> None:
        self.process = 0
        """The number of the present process."""
        self.uploads: dict[str, TrueUpload] = {}
        """Every upload that the storage ever began, by id."""
        self.record: Checkpoint | None = None
        """What the store holds durably."""
        self.foreign: list[bytes] = []
        """Objects that others stored under the key."""
        self.effects: list[Deed] = []
        """Every call that took effect on the storage, in order."""
        self.claimed = False
        """Whether somebody holds the claim."""
        self.recorded: set[str] = set()
        """The ids of all uploads that a durable record ever spoke of."""
        self.problems: list[str] = []
        """Promises that were seen broken at the moment of the deed, by the present process."""
        self._recording = False
        self._appended: int | None = None

    def begin(self, *, recording: bool) -> None:
        """
        A new process begins.

        Args:
            recording: whether it is to keep a checkpoint.
        """
        self.process += 1
        self.problems = []
        self._recording = recording

    def pending(self) -> dict[str, dict[int, HeldPart]]:
        """The pending uploads and what they hold."""
        return {upload.upload_id: dict(upload.parts) for upload in self.uploads.values() if upload.state == "pending"}

    def enter(self, record: Checkpoint) -> None:
        """The store has made this durable."""
        self.record = record
        self.recorded |= {*record.abandoned, *([] if record.upload_id is None else [record.upload_id])}

    def tear(self) -> None:
        """The receipt that the store wrote last is lost."""
        assert self.record is not None
        assert self._appended is not None
        self.record = evolve(
            self.record, parts=[part for part in self.record.parts if part.part_number != self._appended]
        )

    def append(self, part: UploadedPart) -> None:
        """The store has made this receipt durable, too."""
        assert self.record is not None
        parts = {known.part_number: known for known in self.record.parts}
        self.record = evolve(self.record, parts={**parts, part.part_number: part}.values())
        self._appended = part.part_number

    def took_effect(self, deed: Deed) -> None:
        """Enter a call as the storage itself answered it."""
        if deed.error is not None and not isinstance(deed.error, CallbackError):
            return
        self.effects.append(deed)
        match deed:
            case Deed("initiate_upload", answer=str(upload_id)):
                self.uploads[upload_id] = TrueUpload(upload_id, self.process)
                self._expect_record(None, "an upload was begun")
            case Deed("upload_part", upload_id, part_number, data, answer=UploadedPart(etag=etag)) if upload_id:
                self.uploads[upload_id].parts[part_number or 0] = HeldPart(data, etag, self.process)
                self._expect_record(upload_id, f"part {part_number} was sent")
            case Deed("complete_upload", upload_id) if upload_id:
                self.uploads[upload_id].state = "completed"
            case Deed("abort_upload", upload_id) if upload_id in self.uploads:
                upload = self.uploads[upload_id]
                upload.state = "aborted" if upload.state == "pending" else upload.state

    def _expect_record(self, upload_id: str | None, deed: str) -> None:
        if not self._recording:
            return
        if self.record is None:
            self.problems.append(f"INTENT: {deed}, and no checkpoint was durable")
        elif self.record.upload_id != upload_id:
            self.problems.append(f"INTENT: {deed}, and the checkpoint was of the upload {self.record.upload_id}")

    def excuse(self, upload_ids: Iterable[str], reason: str) -> None:
        """No process need know of these uploads, and here is why."""
        for upload_id in upload_ids:
            self.uploads[upload_id].excused = self.uploads[upload_id].excused or reason


class NotingStore:
    """
    A checkpoint store that writes down what it made durable.

    Args:
        store: what does the work.
        history: where to.
    """

    def __init__(self, store: CheckpointStore, history: History) -> None:
        self.inner = store
        self._history = history

    def __repr__(self) -> str:
        return f"NotingStore({self.inner!r})"

    def claim(self, name: str) -> AbstractContextManager[None]:
        return self._claim(name)

    @contextmanager
    def _claim(self, name: str) -> Iterator[None]:
        with self.inner.claim(name):
            assert not self._history.claimed, "ONE-OWNER: the store gave a claim that somebody holds"
            self._history.claimed = True
            try:
                yield
            finally:
                self._history.claimed = False

    def load(self, name: str) -> Checkpoint | None:
        return self.inner.load(name)

    def save(self, checkpoint: Checkpoint) -> None:
        self.inner.save(checkpoint)
        self._history.enter(checkpoint)

    def append_part(self, name: str, part: UploadedPart) -> None:
        self.inner.append_part(name, part)
        self._history.append(part)

    def delete(self, name: str) -> None:
        self.inner.delete(name)
        self._history.record = None

    def scan(self) -> Iterable[Checkpoint]:
        return self.inner.scan()

    def for_source(self, source: str) -> CheckpointStore:
        if isinstance(self.inner, SupportsPerSource):
            return NotingStore(self.inner.for_source(source), self._history)
        return self


# --- the source ------------------------------------------------------------------------------------------------------


class WatchedSource:
    """
    A source whose bodies are counted while they live, and which tells of each chunk that is about to be read.

    Args:
        source: what has the bytes.
        before_chunk: is called before each chunk is read.
    """

    def __init__(self, source: Source, before_chunk: Callable[[], None]) -> None:
        self.inner = source
        self._before_chunk = before_chunk
        self._alive: weakref.WeakSet[_WatchedBody] = weakref.WeakSet()
        self.most_bodies = 0
        """The most bodies that were held at one time."""

    @property
    def name(self) -> str:
        """The wrapped source's."""
        return self.inner.name

    def fingerprint(self) -> Fingerprint:
        return self.inner.fingerprint()

    def body(self, offset: int, size: int) -> Body:
        body = _WatchedBody(self.inner.body(offset, size), self._before_chunk)
        self._alive.add(body)
        self.most_bodies = max(self.most_bodies, len(self._alive))
        return body

    def close(self) -> None:
        self.inner.close()


class _WatchedBody:
    def __init__(self, body: Body, before_chunk: Callable[[], None]) -> None:
        self._body = body
        self._before_chunk = before_chunk

    @property
    def crc64(self) -> int | None:
        return self._body.crc64

    def __len__(self) -> int:
        return len(self._body)

    def chunks(self) -> Iterator[memoryview]:
        chunks = self._body.chunks()
        while True:
            self._before_chunk()
            chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk
