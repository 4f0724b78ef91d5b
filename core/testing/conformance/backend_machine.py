"""
Random calls of a backend, compared with a model of dicts (41).

Hypothesis draws the calls, and shrinks a failing sequence. Needs hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeVar

from attrs import define, field
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from partwise.errors import ConnectionFailed, UploadNotFound
from partwise.model import UploadedPart
from partwise.protocols import MultipartBackend
from partwise.testing.conformance.backend_harness import (
    BackendHarness,
    Upload,
    listed_parts,
    must_be_stored,
    pending_ids,
    put,
)
from partwise.testing.conformance.machines import BoundedMachine
from partwise.testing.conformance.suite import must_raise
from partwise.testing.fakes import pseudo_random_bytes
from partwise.testing.faults import Fault, FaultKind, FaultPlan
from partwise.testing.faulty import FaultyBackend

__all__ = ["backend_machine"]

_Result = TypeVar("_Result")

_NAMES = ("a", "ab", "c/d")
_names = st.sampled_from(_NAMES)
_handles = st.integers(0, 1)
# Few values, so that parts are sent again, with the same bytes or others.
_numbers = st.integers(1, 2)
_versions = st.integers(0, 1)
_UPLOADS_MAX = 3
_losses = st.sampled_from((None, FaultKind.BEFORE, FaultKind.AFTER))


@define
class _Pending:
    """An upload in the model: its parts by number, and those that were replaced."""

    upload: Upload
    parts: dict[int, tuple[bytes, UploadedPart]] = field(factory=dict)
    stale: dict[int, UploadedPart] = field(factory=dict)

    @property
    def current(self) -> list[UploadedPart]:
        return [self.parts[number][1] for number in sorted(self.parts)]

    @property
    def data(self) -> bytes:
        return b"".join(self.parts[number][0] for number in sorted(self.parts))

    def wrong(self, part_size: int) -> dict[str, list[UploadedPart]]:
        """Return lists of parts that complete must refuse, by the name of the check."""
        right = self.current
        lists = {
            "stale_part": [self.stale.get(part.part_number, part) for part in right],
            "missing_part": [*right, UploadedPart(9, part_size, "no-such-etag")],
            "wrong_order": right[::-1],
        }
        return {name: parts for name, parts in lists.items() if parts != right}


class BackendMachine(BoundedMachine):
    """
    Each rule calls one of two handles; a first call may fail or lose its response.

    After each step the objects are read without the backend, and uploads and parts are listed through a third handle.
    """

    make_harness: ClassVar[Callable[[], BackendHarness]]

    def __init__(self) -> None:
        super().__init__()
        self.harness = type(self).make_harness()
        self.handles = [self.harness.open_for_test(), self.harness.open_for_test()]
        self.reader = self.harness.open_for_test()
        self.part_size = self.harness.part_size(self.reader)
        self.can = self.reader.capabilities
        # What a check is declared to deviate in, the machine does not do.
        deviates = self.harness.machine_deviates
        self.refuses = {name: not deviates(name) for name in ("stale_part", "missing_part", "wrong_order")}
        self.knows_finished_ids = not deviates("unknown_ids")
        self.replaces_parts = self.can.replaces_parts and not deviates("part_replaced")
        self.sends_again = not deviates("part_sent_again")
        self.separates_uploads = not deviates("two_uploads_of_one_key")
        self.loses_responses = not deviates("lost_responses")
        self.aborts = not deviates("abort")
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, _Pending] = {}
        self.finished: dict[str, Upload] = {}

    def teardown(self) -> None:
        self.harness.__exit__(None, None, None)

    def _repeated(
        self, handle: int, operation: str, loss: FaultKind | None, action: Callable[[MultipartBackend], _Result]
    ) -> _Result:
        """Call the action with this handle; if a loss is drawn, first with that fault."""
        backend = self.handles[handle]
        if loss is not None and self.loses_responses:
            faulty = FaultyBackend(backend, FaultPlan([Fault(operation, loss)]))
            must_raise(ConnectionFailed, "a fault was planned", action, faulty)
        return action(backend)

    def _drawn(self, data: st.DataObject, handle: int) -> _Pending:
        # In the order of their start, since their ids may be random.
        pending = list(self.uploads.values())[data.draw(st.integers(0, len(self.uploads) - 1), label="upload")]
        pending.upload.backend = self.handles[handle]
        return pending

    def _finish(self, upload: Upload) -> None:
        del self.uploads[upload.upload_id]
        self.finished[upload.upload_id] = upload

    def _end_others(self, key: str) -> None:
        """End the pending uploads of a key in the model, if the storage does so."""
        if self.can.one_upload_per_key:
            for pending in [pending for pending in self.uploads.values() if pending.upload.key == key]:
                self._finish(pending.upload)

    # --- rules -------------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.uploads) < _UPLOADS_MAX)
    @rule(name=_names, handle=_handles, lost=st.booleans(), versions=st.lists(_versions, max_size=2))
    def initiate(self, name: str, handle: int, lost: bool, versions: list[int]) -> None:
        backend = self.handles[handle]
        key = self.harness.key(name)
        if not self.separates_uploads and any(pending.upload.key == key for pending in self.uploads.values()):
            return
        if lost and self.loses_responses and self.can.lists_uploads and self.can.aborts and self.aborts:
            faulty = FaultyBackend(backend, FaultPlan([Fault("initiate_upload", FaultKind.AFTER)]))
            must_raise(ConnectionFailed, "a fault was planned", self.harness.begin, faulty, name)
            self._end_others(key)
            orphans = set(pending_ids(self.reader, key)) - self.uploads.keys()
            assert len(orphans) == 1, "an upload whose id was lost is found by list_uploads"
            self.reader.abort_upload(key, orphans.pop())
        pending = _Pending(self.harness.begin(backend, name))
        self._end_others(key)
        known = self.uploads.keys() | self.finished.keys()
        assert pending.upload.upload_id not in known, "every upload has a unique id"
        self.uploads[pending.upload.upload_id] = pending
        for number, version in enumerate(versions, start=1):
            self._send(pending, handle, number, version, None)

    @precondition(lambda self: bool(self.uploads))
    @rule(data=st.data(), handle=_handles, number=_numbers, version=_versions, loss=_losses)
    def send(self, data: st.DataObject, handle: int, number: int, version: int, loss: FaultKind | None) -> None:
        self._send(self._drawn(data, handle), handle, number, version, loss)

    @precondition(lambda self: self.replaces_parts and any(pending.parts for pending in self.uploads.values()))
    @rule(data=st.data(), handle=_handles, loss=_losses)
    def send_other_bytes(self, data: st.DataObject, handle: int, loss: FaultKind | None) -> None:
        pending = self._drawn(data, handle)
        if pending.parts:
            number, (content, _) = list(pending.parts.items())[-1]
            version = next(
                version for version in (0, 1) if pseudo_random_bytes(self.part_size, (number, version)) != content
            )
            self._send(pending, handle, number, version, loss)

    def _send(self, pending: _Pending, handle: int, number: int, version: int, loss: FaultKind | None) -> None:
        if self.can.sequential:  # the last part again, or the next one
            last = max(pending.parts, default=0)
            number = min(max(number, last, 1), last + 1)
        if not self.sends_again:
            if number in pending.parts:
                return
            loss = None  # after which the part is sent again
        content = pseudo_random_bytes(self.part_size, (number, version))
        if number in pending.parts and not self.replaces_parts:
            content = pending.parts[number][0]

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
        upload, parts = pending.upload, pending.current
        if listed and self.reader.capabilities.lists_parts:
            parts = listed_parts(self.reader, upload.key, upload.upload_id)

        def complete(backend: MultipartBackend) -> object:
            upload.backend = backend
            return upload.complete(parts)

        try:
            self._repeated(handle, "complete_upload", loss, complete)
        except UploadNotFound:
            assert loss is FaultKind.AFTER, "an upload that is pending is found"
        self.objects[upload.key] = pending.data
        self._finish(upload)
        self._end_others(upload.key)

    @precondition(lambda self: bool(self.uploads))
    @rule(data=st.data(), handle=_handles)
    def complete_wrongly(self, data: st.DataObject, handle: int) -> None:
        # All wrong lists, since states with several of them are rare.
        pending = self._drawn(data, handle)
        for check, wrong in pending.wrong(self.part_size).items():
            if self.refuses[check]:
                pending.upload.must_refuse(wrong, f"these are not the current parts in order ({check})")

    @precondition(lambda self: self.aborts and bool(self.uploads))
    @rule(data=st.data(), handle=_handles, loss=_losses)
    def abort(self, data: st.DataObject, handle: int, loss: FaultKind | None) -> None:
        upload = self._drawn(data, handle).upload
        self._repeated(handle, "abort_upload", loss, lambda backend: backend.abort_upload(upload.key, upload.upload_id))
        if self.can.aborts:
            self._finish(upload)

    @precondition(lambda self: self.knows_finished_ids and bool(self.finished))
    @rule(data=st.data(), handle=_handles)
    def use_a_finished_id(self, data: st.DataObject, handle: int) -> None:
        upload = list(self.finished.values())[data.draw(st.integers(0, len(self.finished) - 1), label="upload")]
        upload.backend = self.handles[handle]
        upload.must_not_be_found("is completed or aborted")
        upload.abort()

    @rule(name=_names, handle=_handles, version=_versions, loss=_losses)
    def put(self, name: str, handle: int, version: int, loss: FaultKind | None) -> None:
        content = pseudo_random_bytes(version * 10, version)
        self._repeated(handle, "put_object", loss, lambda backend: put(self.harness, backend, name, content))
        self.objects[self.harness.key(name)] = content
        self._end_others(self.harness.key(name))

    @rule(handle=_handles)
    def reopen(self, handle: int) -> None:
        self.handles[handle].close()
        self.handles[handle] = self.harness.open_for_test()

    # --- invariants --------------------------------------------------------------------------------------------------

    @invariant()
    def objects_are_as_in_the_model(self) -> None:
        for key in map(self.harness.key, _NAMES):
            expected = self.objects.get(key)
            must_be_stored(self.harness, key, expected, f"the object {key!r} is what was stored last")
            found = self.reader.head_object(key)
            assert (found is None) == (expected is None), f"head_object shows whether {key!r} exists"
            assert found is None or found.size == len(expected or b""), f"head_object returns the size of {key!r}"

    @invariant()
    def uploads_are_as_in_the_model(self) -> None:
        for pending in self.uploads.values():
            pending.upload.backend = self.reader
            pending.upload.must_hold(pending.current, "list_parts lists the parts that were sent last")
        if not self.can.lists_uploads:
            return
        listed = {pending.upload_id: pending.key for pending in self.reader.list_uploads(self.harness.prefix)}
        expected = {upload_id: pending.upload.key for upload_id, pending in self.uploads.items()}
        assert listed == expected, "list_uploads lists the uploads that are pending"


def backend_machine(make_harness: Callable[[], BackendHarness]) -> type[BackendMachine]:
    """Return a state machine for the backend of this harness."""
    return type("BackendMachine", (BackendMachine,), {"make_harness": staticmethod(make_harness)})
