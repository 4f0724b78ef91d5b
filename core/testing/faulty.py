"""
Wrappers that inject the faults of a `FaultPlan` into what they wrap.

Each has the protocol of what it wraps, forwards every method, and is thread-safe. All wrappers of one process share one
plan: a crash affects all of them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from attrs import evolve

from partwise._supports import supports_claim_check
from partwise.bodies import BodyWrapper, SourceBodyWrapper
from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.errors import (
    AccessDenied,
    CheckpointDamaged,
    CheckpointError,
    CheckpointUnwritable,
    ClaimLost,
    ConnectionFailed,
    InvalidInput,
    SourceChanged,
    SourceUnreadable,
    Throttled,
    UploadUnusable,
)
from partwise.model import ObjectOptions, PendingUpload, StoredObject, UploadedPart
from partwise.protocols import (
    Body,
    CheckpointStore,
    MultipartBackend,
    Source,
    SourceBody,
    SupportsRequestOptions,
    SupportsSourceFile,
)
from partwise.testing.faults import INJECTED, Fault, FaultKind, FaultPlan

__all__ = ["FaultyBackend", "FaultyCheckpointStore", "FaultySource"]

_Result = TypeVar("_Result")
_Described = TypeVar("_Described", UploadedPart, StoredObject)


# --- a backend -------------------------------------------------------------------------------------------------------


class BackendWrapper:
    """What the wrappers of a backend forward unchanged."""

    def __init__(self, backend: MultipartBackend) -> None:
        self.inner = backend
        self.location = backend.location
        self.limits = backend.limits
        self.capabilities = backend.capabilities

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r})"

    def close(self) -> None:
        """Close the wrapped backend, even after a crash, as the system does."""
        self.inner.close()


class FaultyBackend(BackendWrapper):
    """
    A backend that fails as planned.

    All pages of a listing are read within the call, so that a fault affects the listing as a whole.

    Args:
        backend: the backend to wrap.
        plan: the faults to inject.
        forget: called with the key and the id of an upload that the storage is to drop; None: the upload is aborted.
    """

    def __init__(
        self, backend: MultipartBackend, plan: FaultPlan, *, forget: Callable[[str, str], object] | None = None
    ) -> None:
        super().__init__(backend)
        self.plan = plan
        self._forget = forget or backend.abort_upload
        self._unusable: set[str] = set()

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        with self.plan.call("initiate_upload", key) as faults:
            return self._injected(faults, lambda: self.inner.initiate_upload(key, options))

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        with self.plan.call("upload_part", key, upload_id=upload_id, part_number=part_number) as faults:
            self._forget_upload(faults, key, upload_id)
            self._refuse_unusable(faults, upload_id)
            faulty = _InjectedBody(body, self.plan, faults)
            part = self._injected(faults, lambda: self.inner.upload_part(key, upload_id, part_number, faulty))
            return _with_wrong_checksum(faults, part)

    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        with self.plan.call("list_parts", key, upload_id=upload_id) as faults:
            self._forget_upload(faults, key, upload_id)
            parts = self._injected(faults, lambda: list(self.inner.list_parts(key, upload_id)))
            return parts[1::2] if _of_kind(faults, FaultKind.SHORT_LIST) else parts

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        with self.plan.call("complete_upload", key, upload_id=upload_id) as faults:
            self._forget_upload(faults, key, upload_id)
            self._refuse_unusable(faults, upload_id)
            stored = self._injected(faults, lambda: self.inner.complete_upload(key, upload_id, parts, options))
            return _with_wrong_checksum(faults, stored)

    def abort_upload(self, key: str, upload_id: str) -> None:
        with self.plan.call("abort_upload", key, upload_id=upload_id) as faults:
            self._injected(faults, lambda: self.inner.abort_upload(key, upload_id))

    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        with self.plan.call("list_uploads", prefix) as faults:
            return self._injected(faults, lambda: list(self.inner.list_uploads(prefix)))

    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        with self.plan.call("put_object", key) as faults:
            faulty = _InjectedBody(body, self.plan, faults)
            stored = self._injected(faults, lambda: self.inner.put_object(key, faulty, options))
            return _with_wrong_checksum(faults, stored)

    def head_object(self, key: str) -> StoredObject | None:
        with self.plan.call("head_object", key) as faults:
            stored = self._injected(faults, lambda: self.inner.head_object(key))
            return None if stored is None else _with_wrong_checksum(faults, stored)

    def with_request_options(self, options: ObjectOptions) -> MultipartBackend:
        """Return a wrapped handle with the same plan; this one if not supported."""
        if isinstance(self.inner, SupportsRequestOptions):
            return self._wrapping(self.inner.with_request_options(options))
        return self

    def with_source_file(self, path: str) -> MultipartBackend:
        """Return a wrapped handle with the same plan; this one if not supported."""
        if isinstance(self.inner, SupportsSourceFile):
            return self._wrapping(self.inner.with_source_file(path))
        return self

    def _wrapping(self, backend: MultipartBackend) -> FaultyBackend:
        wrapper = FaultyBackend(backend, self.plan, forget=self._forget)
        wrapper._unusable = self._unusable  # of the same class
        return wrapper

    def _injected(self, faults: Sequence[Fault], action: Callable[[], _Result]) -> _Result:
        for fault in faults:
            match fault.kind:
                case FaultKind.BEFORE:
                    raise ConnectionFailed(f"no connection: {fault}", code=INJECTED)
                case FaultKind.THROTTLED:
                    raise Throttled(f"too many requests: {fault}", code=INJECTED, retry_after=fault.seconds)
                case FaultKind.PERMANENT:
                    raise AccessDenied(f"not allowed: {fault}", code=INJECTED)
        result = action()
        if lost := _of_kind(faults, FaultKind.AFTER):
            raise ConnectionFailed(f"the response was lost: {lost}", code=INJECTED)
        return result

    def _forget_upload(self, faults: Sequence[Fault], key: str, upload_id: str) -> None:
        if _of_kind(faults, FaultKind.FORGOTTEN_UPLOAD):
            self._forget(key, upload_id)

    def _refuse_unusable(self, faults: Sequence[Fault], upload_id: str) -> None:
        if _of_kind(faults, FaultKind.UNUSABLE):
            self._unusable.add(upload_id)
        if upload_id in self._unusable:
            raise UploadUnusable(f"the upload {upload_id} can never be completed", code=INJECTED)


class _InjectedBody(BodyWrapper):
    """A body that fails half-way as planned, and stops when the process has crashed."""

    def __init__(self, body: Body, plan: FaultPlan, faults: Sequence[Fault]) -> None:
        super().__init__(body)
        self._plan = plan
        self._halfway = _of_kind(faults, FaultKind.HALFWAY)

    def chunks(self, *, counted: bool = True) -> Iterator[memoryview]:
        chunks = super().chunks(counted=counted)
        if self._halfway:
            lost = ConnectionFailed(f"the connection broke: {self._halfway}", code=INJECTED)
            chunks = _half(chunks, len(self), lost)
        for chunk in chunks:
            self._plan.check_alive()
            yield chunk
        self._plan.check_alive()


def _half(chunks: Iterable[memoryview], size: int, error: Exception) -> Iterator[memoryview]:
    """Yield the first half of `size` bytes, then raise the error."""
    left = size // 2
    for chunk in chunks:
        if left:
            yield chunk[:left]
        left -= min(left, len(chunk))
        if not left:
            break
    raise error


def _with_wrong_checksum(faults: Sequence[Fault], value: _Described) -> _Described:
    if _of_kind(faults, FaultKind.WRONG_CHECKSUM):
        return evolve(value, checksum=(value.checksum or 0) ^ 1)
    return value


# --- a checkpoint store ----------------------------------------------------------------------------------------------


class FaultyCheckpointStore:
    """
    A checkpoint store that fails as planned.

    Args:
        store: the store to wrap.
        plan: the faults to inject.
        tear: called with the name of a checkpoint, to cut off the end of its record, as a crash in the middle of
            writing does. Only a store that appends to its records can have torn writes; TORN_WRITE needs it.

    Raises:
        InvalidInput: the plan has a TORN_WRITE, and `tear` is missing.
    """

    def __init__(self, store: CheckpointStore, plan: FaultPlan, *, tear: Callable[[str], None] | None = None) -> None:
        if tear is None and _of_kind(plan.faults, FaultKind.TORN_WRITE):
            raise InvalidInput("a TORN_WRITE is planned: pass `tear`, which cuts off the end of a record of this store")
        self.inner = store
        self.plan = plan
        self._tear = tear
        self._claims = store if supports_claim_check(store) else None

    def __repr__(self) -> str:
        return f"FaultyCheckpointStore({self.inner!r})"

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        """Claim it in the wrapped store; a crash releases the claim, like any lock."""
        with ExitStack() as held:
            with self.plan.call("claim", name) as faults:
                self._refuse(faults, "claim", name)
                held.enter_context(self.inner.claim(name))
            yield

    def load(self, name: str) -> Checkpoint | None:
        with self.plan.call("load", name) as faults:
            self._refuse(faults, "load", name)
            checkpoint = self.inner.load(name)
            if damaged := _of_kind(faults, FaultKind.DAMAGED):
                upload_id = None if checkpoint is None else checkpoint.upload_id
                raise CheckpointDamaged(f"{INJECTED}: {damaged}", name=name, upload_id=upload_id)
            if _of_kind(faults, FaultKind.OLD_RECORD) and checkpoint is not None:
                return one_step_older(checkpoint)
            return checkpoint

    def save(self, checkpoint: Checkpoint) -> None:
        self._write("save", checkpoint.name, lambda: self.inner.save(checkpoint))

    def append_part(self, name: str, upload_id: str, part: UploadedPart) -> None:
        self._write("append_part", name, lambda: self.inner.append_part(name, upload_id, part), part.part_number)

    def delete(self, name: str, upload_id: str | None) -> None:
        self._write("delete", name, lambda: self.inner.delete(name, upload_id))

    def check_claim(self, name: str) -> None:
        """Check the claim, if the wrapped store can."""
        if self._claims is not None:
            with self.plan.call("check_claim", name) as faults:
                self._refuse(faults, "check_claim", name)
                self._claims.check_claim(name)

    def scan(self) -> Iterable[Checkpoint]:
        with self.plan.call("scan", "") as faults:
            self._refuse(faults, "scan", "")
            return list(self.inner.scan())

    def _write(self, operation: str, name: str, action: Callable[[], None], part_number: int | None = None) -> None:
        with self.plan.call(operation, name, part_number=part_number) as faults:
            self._refuse(faults, operation, name)
            if _of_kind(faults, FaultKind.LOST_WRITE):
                return
            action()
            if torn := _of_kind(faults, FaultKind.TORN_WRITE):
                assert self._tear is not None
                self._tear(name)
                self.plan.crash(str(torn))
            if lost := _of_kind(faults, FaultKind.AFTER):
                raise CheckpointUnwritable(f"{INJECTED}: {lost}", name=name)

    def _refuse(self, faults: Sequence[Fault], operation: str, name: str) -> None:
        if self.plan.reached:
            self._refuse_by_earlier_faults(operation, name)
        refused = CheckpointError if operation in {"load", "scan", "check_claim"} else CheckpointUnwritable
        if fault := _of_kind(faults, FaultKind.UNREACHABLE):
            raise refused(f"{INJECTED}: {fault}", name=name, retryable=True)
        if fault := _of_kind(faults, FaultKind.BEFORE):
            raise refused(f"{INJECTED}: {fault}", name=name)

    def _refuse_by_earlier_faults(self, operation: str, name: str) -> None:
        for kind, number in _LASTING.items():
            if kind.applies_to(operation) and self.plan.has_injected(kind):
                cause = OSError(number, os.strerror(number))
                raise CheckpointUnwritable(f"{INJECTED}: {cause.strerror}", name=name) from cause
        if FaultKind.CLAIM_LOST.applies_to(operation) and self.plan.has_injected(FaultKind.CLAIM_LOST):
            raise ClaimLost(f"{INJECTED}: the claim was lost", name=name)


_LASTING: Mapping[FaultKind, int] = {FaultKind.DISK_FULL: errno.ENOSPC, FaultKind.READ_ONLY: errno.EROFS}


def one_step_older(checkpoint: Checkpoint) -> Checkpoint | None:
    """Return the state before the last write: a part fewer, no upload id, nothing."""
    if checkpoint.parts:
        return evolve(checkpoint, parts=checkpoint.parts[:-1])
    if checkpoint.upload_id is not None:
        return evolve(checkpoint, upload_id=None)
    return None


# --- a source --------------------------------------------------------------------------------------------------------


class FaultySource:
    """
    A source that fails as planned.

    The operation ``"body"`` is the call of `body`; ``"read"`` is one reading of the chunks of a body.

    Args:
        source: the source to wrap.
        plan: the faults to inject.
    """

    def __init__(self, source: Source, plan: FaultPlan) -> None:
        self.inner = source
        self.name = source.name
        self.plan = plan

    def __repr__(self) -> str:
        return f"FaultySource({self.inner!r})"

    def fingerprint(self) -> Fingerprint:
        with self.plan.call("fingerprint", self.name) as faults:
            _refuse_source(faults, self.name)
            fingerprint = self.inner.fingerprint()
            if self.plan.faults and self.plan.has_injected(FaultKind.CHANGED):
                return evolve(fingerprint, mtime_ns=(fingerprint.mtime_ns or 0) + 1)
            return fingerprint

    def body(self, offset: int, size: int) -> SourceBody:
        with self.plan.call("body", self.name) as faults:
            _refuse_source(faults, self.name)
            return _FaultyBody(self.inner.body(offset, size), self.plan, self.name)

    def close(self) -> None:
        """Close the wrapped source, even after a crash, as the system does."""
        self.inner.close()


class _FaultyBody(SourceBodyWrapper):
    def __init__(self, body: SourceBody, plan: FaultPlan, name: str) -> None:
        super().__init__(body)
        self._plan = plan
        self._name = name

    def chunks(self) -> Iterator[memoryview]:
        with self._plan.call("read", self._name) as faults:
            _refuse_source(faults, self._name)
            chunks = super().chunks()
            if halfway := _of_kind(faults, FaultKind.HALFWAY):
                cut = SourceChanged(f"{INJECTED}: {halfway}", source=self._name)
                chunks = _half(chunks, len(self), cut)
            yield from chunks


def _refuse_source(faults: Sequence[Fault], name: str) -> None:
    if fault := _of_kind(faults, FaultKind.BEFORE):
        raise SourceUnreadable(f"{INJECTED}: {fault}", source=name)


def _of_kind(faults: Sequence[Fault], kind: FaultKind) -> Fault | None:
    for fault in faults:  # mostly there are none
        if fault.kind is kind:
            return fault
    return None
