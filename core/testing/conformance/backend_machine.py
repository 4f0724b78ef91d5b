"""
Any sequence of calls on a backend, beside a model that is nothing but dicts (41).

Hypothesis draws the calls, and cuts a sequence that fails down to a short one. Needs hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeVar

from attrs import define, field
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from partwise.errors import ConnectionFailed, UploadNotFound
from partwise.model import UploadedPart
from partwise.protocols import MultipartBackend
from partwise.testing.conformance.backend_harness import (
    BackendHarness,
    Upload,
    listed_parts,
    pending_ids,
    put,
)
from partwise.testing.conformance.suite import must_raise
from partwise.testing.fakes import pseudo_random_bytes
from partwise.testing.faults import Fault, FaultKind, FaultPlan
from partwise.testing.faulty import FaultyBackend

_Answer = TypeVar("_Answer")

_NAMES = ("a", "ab", "c/d")
_names = st.sampled_from(_NAMES)
_handles = st.integers(0, 1)
# Few of each, so that calls meet: the same part sent again, with other bytes or the same.
_numbers = st.integers(1, 2)
_versions = st.integers(0, 1)
_UPLOADS_MAX = 3
_losses = st.sampled_from((None, FaultKind.BEFORE, FaultKind.AFTER))


@define
class _Pending:
    """An upload in the model: the bytes and the receipt of each part, and receipts that are not good any more."""

    upload: Upload
    parts: dict[int, tuple[bytes, UploadedPart]] = field(factory=dict)
    stale: dict[int, UploadedPart] = field(factory=dict)

    @property
    def receipts(self) -> list[UploadedPart]:
        return [self.parts[number][1] for number in sorted(self.parts)]

    @property
    def data(self) -> bytes:
        return b"".join(self.parts[number][0] for number in sorted(self.parts))

    def wrong(self, part_size: int) -> list[list[UploadedPart]]:
        """Lists of receipts that can't be completed with."""
        right = self.receipts
        stale = [self.stale.get(part.part_number, part) for part in right]
        missing = [*right, UploadedPart(9, part_size, "no-such-etag")]
        return [parts for parts in (stale, missing, right[::-1]) if parts != right]


class BackendMachine(RuleBasedStateMachine):
    """
    The rules are the methods, by one of two handles, with a first answer that may get lost.

    After each step the objects are read by the back door, and uploads and parts are listed by a handle that took no
    part.
    """

    make_harness: ClassVar[Callable[[], BackendHarness]]

    def __init__(self) -> None:
        super().__init__()
        self.harness = type(self).make_harness()
        self.handles = [self.harness.open_for_test(), self.harness.open_for_test()]
        self.witness = self.harness.open_for_test()
        self.part_size = self.harness.part_size(self.witness)
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, _Pending] = {}
        self.dead: dict[str, Upload] = {}

    def teardown(self) -> None:
        self.harness.__exit__(None, None, None)

    def _repeated(
        self, handle: int, operation: str, loss: FaultKind | None, action: Callable[[MultipartBackend], _Answer]
    ) -> _Answer:
        """Do it by this handle; where a loss is drawn, a first time with a fault, and then once more."""
        backend = self.handles[handle]
        if loss is not None:
            faulty = FaultyBackend(backend, FaultPlan([Fault(operation, loss)]))
            must_raise(ConnectionFailed, "a fault was planned", action, faulty)
        return action(backend)

    def _drawn(self, data: st.DataObject, handle: int) -> _Pending:
        # By the order in which they began, since their ids may be random.
        pending = list(self.uploads.values())[data.draw(st.integers(0, len(self.uploads) - 1), label="upload")]
        pending.upload.backend = self.handles[handle]
        return pending

    def _died(self, upload: Upload) -> None:
        del self.uploads[upload.upload_id]
        self.dead[upload.upload_id] = upload

    # --- what can be done --------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.uploads) < _UPLOADS_MAX)
    @rule(name=_names, handle=_handles, lost=st.booleans(), versions=st.lists(_versions, max_size=2))
    def initiate(self, name: str, handle: int, lost: bool, versions: list[int]) -> None:
        backend = self.handles[handle]
        if lost:
            faulty = FaultyBackend(backend, FaultPlan([Fault("initiate_upload", FaultKind.AFTER)]))
            must_raise(ConnectionFailed, "a fault was planned", self.harness.begin, faulty, name)
            key = self.harness.key(name)
            orphans = set(pending_ids(self.witness, key)) - self.uploads.keys()
            assert len(orphans) == 1, "an upload whose id was lost is found by list_uploads"
            self.witness.abort_upload(key, orphans.pop())
        pending = _Pending(self.harness.begin(backend, name))
        known = self.uploads.keys() | self.dead.keys()
        assert pending.upload.upload_id not in known, "every upload has an id of its own"
        self.uploads[pending.upload.upload_id] = pending
        for number, version in enumerate(versions, start=1):
            self._send(pending, handle, number, version, None)

    @precondition(lambda self: bool(self.uploads))
    @rule(data=st.data(), handle=_handles, number=_numbers, version=_versions, loss=_losses)
    def send(self, data: st.DataObject, handle: int, number: int, version: int, loss: FaultKind | None) -> None:
        self._send(self._drawn(data, handle), handle, number, version, loss)

    @precondition(lambda self: any(pending.parts for pending in self.uploads.values()))
    @rule(data=st.data(), handle=_handles, loss=_losses)
    def send_other_bytes(self, data: st.DataObject, handle: int, loss: FaultKind | None) -> None:
        pending = self._drawn(data, handle)
        if pending.parts:
            number, (content, _) = next(iter(pending.parts.items()))
            version = next(
                version for version in (0, 1) if pseudo_random_bytes(self.part_size, (number, version)) != content
            )
            self._send(pending, handle, number, version, loss)

    def _send(self, pending: _Pending, handle: int, number: int, version: int, loss: FaultKind | None) -> None:
        content = pseudo_random_bytes(self.part_size, (number, version))

        def send(backend: MultipartBackend) -> UploadedPart:
            pending.upload.backend = backend
            return pending.upload.send(number, content)

        part = self._repeated(handle, "upload_part", loss, send)
        pending.stale.pop(number, None)
        if number in pending.parts and pending.parts[number][0] != content:
            pending.stale[number] = pending.parts[number][1]
        pending.parts[number] = (content, part)

    @precondition(lambda self: any(pending.parts for pending in self.uploads.values()))
    @rule(data=st.data(), handle=_handles, listed=st.booleans(), loss=_losses)
    def complete(self, data: st.DataObject, handle: int, listed: bool, loss: FaultKind | None) -> None:
        pending = self._drawn(data, handle)
        if not pending.parts:
            return
        upload, receipts = pending.upload, pending.receipts
        if listed and self.witness.capabilities.lists_parts:
            receipts = listed_parts(self.witness, upload.key, upload.upload_id)

        def complete(backend: MultipartBackend) -> object:
            upload.backend = backend
            return upload.complete(receipts)

        try:
            self._repeated(handle, "complete_upload", loss, complete)
        except UploadNotFound:
            assert loss is FaultKind.AFTER, "an upload that is pending is found"
        self.objects[upload.key] = pending.data
        self._died(upload)

    @precondition(lambda self: bool(self.uploads))
    @rule(data=st.data(), handle=_handles)
    def complete_wrongly(self, data: st.DataObject, handle: int) -> None:
        # Each way to be wrong, since the state in which there are several is the rare one.
        pending = self._drawn(data, handle)
        for wrong in pending.wrong(self.part_size):
            pending.upload.must_refuse(wrong, "the receipts are not those of the parts, in order")

    @precondition(lambda self: bool(self.uploads))
    @rule(data=st.data(), handle=_handles, loss=_losses)
    def abort(self, data: st.DataObject, handle: int, loss: FaultKind | None) -> None:
        upload = self._drawn(data, handle).upload
        self._repeated(handle, "abort_upload", loss, lambda backend: backend.abort_upload(upload.key, upload.upload_id))
        self._died(upload)

    @precondition(lambda self: bool(self.dead))
    @rule(data=st.data(), handle=_handles)
    def use_a_finished_id(self, data: st.DataObject, handle: int) -> None:
        upload = list(self.dead.values())[data.draw(st.integers(0, len(self.dead) - 1), label="upload")]
        upload.backend = self.handles[handle]
        upload.must_not_be_found("is dead")
        upload.abort()

    @rule(name=_names, handle=_handles, version=_versions, loss=_losses)
    def put(self, name: str, handle: int, version: int, loss: FaultKind | None) -> None:
        content = pseudo_random_bytes(version * 10, version)
        self._repeated(handle, "put_object", loss, lambda backend: put(self.harness, backend, name, content))
        self.objects[self.harness.key(name)] = content

    @rule(handle=_handles)
    def reopen(self, handle: int) -> None:
        self.handles[handle].close()
        self.handles[handle] = self.harness.open_for_test()

    # --- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def objects_are_as_in_the_model(self) -> None:
        for key in map(self.harness.key, _NAMES):
            expected = self.objects.get(key)
            assert self.harness.read(key) == expected, f"the object {key!r} is another than was stored last"
            found = self.witness.head_object(key)
            assert (found is None) == (expected is None), f"head_object tells whether there is an object {key!r}"
            assert found is None or found.size == len(expected or b""), f"head_object tells the size of {key!r}"

    @invariant()
    def uploads_are_as_in_the_model(self) -> None:
        listed = {pending.upload_id: pending.key for pending in self.witness.list_uploads(self.harness.prefix)}
        expected = {upload_id: pending.upload.key for upload_id, pending in self.uploads.items()}
        assert listed == expected, "list_uploads lists the uploads that are pending"
        for pending in self.uploads.values():
            pending.upload.backend = self.witness
            pending.upload.must_hold(pending.receipts, "list_parts lists the parts that were sent last")


def backend_machine(make_harness: Callable[[], BackendHarness]) -> type[BackendMachine]:
    """
    A state machine for the backend of this harness.

    Args:
        make_harness: makes a harness with an empty storage, for each sequence of calls.
    """
    return type("BackendMachine", (BackendMachine,), {"make_harness": staticmethod(make_harness)})
