"""
State machines: any sequence of calls on a backend or on stores, beside a model that is nothing but dicts.

Hypothesis draws the calls, and cuts a sequence that fails down to a short one. Needs hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from attrs import define, evolve, field
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from partwise.errors import (
    CheckpointBusy,
    CheckpointError,
    ConnectionFailed,
    PartRejected,
    UploadNotFound,
)
from partwise.model import Checkpoint, Fingerprint, ObjectOptions, UploadedPart
from partwise.protocols import MultipartBackend
from partwise.testing.bodies import TrickyBody, filler
from partwise.testing.checks import must_raise
from partwise.testing.conformance_backend import BackendHarness
from partwise.testing.conformance_store import StoreHarness
from partwise.testing.faults import Fault, FaultKind, FaultPlan
from partwise.testing.faulty import FaultyBackend
from partwise.testing.strategies import fingerprints, object_options, uploaded_parts
from partwise.testing.witnesses import in_order

_NO_OPTIONS = ObjectOptions()


def run_machine(machine: type[RuleBasedStateMachine], examples: int) -> None:
    """
    Run a state machine on so many sequences of calls, however slow each of them is.

    Raises:
        AssertionError: the subject and the model differ; the output has the sequence of calls that shows it.
    """
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


# --- a backend -------------------------------------------------------------------------------------------------------


@define
class _ModelPart:
    data: bytes
    receipt: UploadedPart
    stale: UploadedPart | None


@define
class _ModelUpload:
    key: str
    parts: dict[int, _ModelPart] = field(factory=dict)


_keys = st.sampled_from(("a", "b", "b/c"))
_numbers = st.integers(min_value=1, max_value=3)
_lost = st.sampled_from((None, FaultKind.BEFORE, FaultKind.AFTER))


def backend_machine(make_harness: Callable[[], BackendHarness]) -> type[RuleBasedStateMachine]:
    """
    A state machine for the backend of this harness.

    Its rules are the methods, by a handle that is drawn, with an answer that may get lost; after each step the objects
    are read by the back door, and uploads and parts are listed by a handle that took no part.

    Args:
        make_harness: makes a harness with an empty storage, for each sequence of calls.
    """

    class BackendMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.harness = make_harness()
            self.handles = [self.harness.opened(), self.harness.opened()]
            self.witness = self.harness.opened()
            self.limits = self.witness.limits
            self.part_size = self.harness.part_size(self.witness)
            self.objects: dict[str, bytes] = {}
            self.uploads: dict[str, _ModelUpload] = {}
            self.dead: dict[str, str] = {}

        def teardown(self) -> None:
            self.harness.__exit__(None, None, None)

        def call(
            self, handle: int, operation: str, lost: FaultKind | None, action: Callable[[MultipartBackend], object]
        ) -> object:
            """Do it by a handle, with the first answer lost where drawn, and then once more; the last answer."""
            backend = self.handles[handle]
            if lost is not None:
                plan = FaultPlan([Fault(operation, lost)])
                must_raise(ConnectionFailed, lambda: action(FaultyBackend(backend, plan)), "a planned fault")
            return action(backend)

        @rule(name=_keys, handle=st.integers(0, 1), lost=st.booleans())
        def initiate(self, name: str, handle: int, lost: bool) -> None:
            key = self.harness.key(name)
            before = set(self.uploads)
            if lost:
                plan = FaultPlan([Fault("initiate_upload", FaultKind.AFTER)])
                faulty = FaultyBackend(self.handles[handle], plan)
                must_raise(ConnectionFailed, lambda: faulty.initiate_upload(key, _NO_OPTIONS), "a planned fault")
                mine = {pending.upload_id for pending in self.witness.list_uploads(key) if pending.key == key} - before
                assert len(mine) == 1, "an upload whose id was lost is found by list_uploads"
                upload_id = mine.pop()
            else:
                upload_id = self.handles[handle].initiate_upload(key, _NO_OPTIONS)
            assert upload_id not in before, "every upload has an id of its own"
            assert upload_id not in self.dead, "every upload has an id of its own"
            self.uploads[upload_id] = _ModelUpload(key)

        @precondition(lambda self: bool(self.uploads))
        @rule(data=st.data(), number=_numbers, handle=st.integers(0, 1), version=st.integers(0, 2), lost=_lost)
        def send(self, data: st.DataObject, number: int, handle: int, version: int, lost: FaultKind | None) -> None:
            upload_id = data.draw(st.sampled_from(sorted(self.uploads)))
            upload = self.uploads[upload_id]
            content = filler(self.part_size, (number, version))
            receipt = self.call(
                handle,
                "upload_part",
                lost,
                lambda backend: backend.upload_part(upload.key, upload_id, number, TrickyBody(content)),
            )
            assert isinstance(receipt, UploadedPart), "upload_part returns a receipt"
            before = upload.parts.get(number)
            stale = before.receipt if before is not None and before.data != content else None
            upload.parts[number] = _ModelPart(content, receipt, stale)

        @precondition(lambda self: bool(self.uploads))
        @rule(data=st.data(), handle=st.integers(0, 1), listed=st.booleans(), lost=_lost)
        def complete(self, data: st.DataObject, handle: int, listed: bool, lost: FaultKind | None) -> None:
            upload_id = data.draw(st.sampled_from(sorted(self.uploads)))
            upload = self.uploads[upload_id]
            if not upload.parts:
                return
            receipts = [upload.parts[number].receipt for number in sorted(upload.parts)]
            if listed and self.witness.capabilities.lists_parts:
                receipts = list(self.witness.list_parts(upload.key, upload_id))
            try:
                self.call(
                    handle,
                    "complete_upload",
                    lost,
                    lambda backend: backend.complete_upload(upload.key, upload_id, receipts, _NO_OPTIONS),
                )
            except UploadNotFound:
                assert lost is FaultKind.AFTER, "an upload that is pending is found"
            self.objects[upload.key] = b"".join(upload.parts[number].data for number in sorted(upload.parts))
            del self.uploads[upload_id]
            self.dead[upload_id] = upload.key

        @precondition(lambda self: bool(self.uploads))
        @rule(data=st.data(), handle=st.integers(0, 1))
        def complete_wrongly(self, data: st.DataObject, handle: int) -> None:
            upload_id = data.draw(st.sampled_from(sorted(self.uploads)))
            upload = self.uploads[upload_id]
            right = [upload.parts[number].receipt for number in sorted(upload.parts)]
            stale = [part.stale or part.receipt for _, part in sorted(upload.parts.items())]
            missing = [*right, UploadedPart(4, self.part_size, "no-such-etag")]
            wrong = data.draw(st.sampled_from([parts for parts in (stale, missing, right[::-1]) if parts != right]))
            must_raise(
                PartRejected,
                lambda: self.handles[handle].complete_upload(upload.key, upload_id, wrong, _NO_OPTIONS),
                "the receipts are not those of the parts, in order",
            )

        @precondition(lambda self: bool(self.uploads))
        @rule(data=st.data(), handle=st.integers(0, 1), lost=_lost)
        def abort(self, data: st.DataObject, handle: int, lost: FaultKind | None) -> None:
            upload_id = data.draw(st.sampled_from(sorted(self.uploads)))
            key = self.uploads.pop(upload_id).key
            self.call(handle, "abort_upload", lost, lambda backend: backend.abort_upload(key, upload_id))
            self.dead[upload_id] = key

        @precondition(lambda self: bool(self.dead))
        @rule(data=st.data(), handle=st.integers(0, 1))
        def use_a_dead_id(self, data: st.DataObject, handle: int) -> None:
            upload_id = data.draw(st.sampled_from(sorted(self.dead)))
            key, backend = self.dead[upload_id], self.handles[handle]
            must_raise(
                UploadNotFound, lambda: backend.upload_part(key, upload_id, 1, TrickyBody(b"late")), "the id is dead"
            )
            backend.abort_upload(key, upload_id)

        @rule(name=_keys, handle=st.integers(0, 1), version=st.integers(0, 2), lost=_lost)
        def put(self, name: str, handle: int, version: int, lost: FaultKind | None) -> None:
            key, content = self.harness.key(name), filler(version * 10, version)
            self.call(
                handle,
                "put_object",
                lost,
                lambda backend: backend.put_object(key, TrickyBody(content), _NO_OPTIONS),
            )
            self.objects[key] = content

        @rule(handle=st.integers(0, 1))
        def reopen(self, handle: int) -> None:
            self.handles[handle].close()
            self.handles[handle] = self.harness.opened()

        @invariant()
        def objects_are_as_in_the_model(self) -> None:
            for name in ("a", "b", "b/c"):
                key = self.harness.key(name)
                expected = self.objects.get(key)
                assert self.harness.read(key) == expected, f"the object {key!r} is another, or there is none"
                found = self.witness.head_object(key)
                size = None if found is None else found.size
                assert size == (None if expected is None else len(expected)), f"head_object of {key!r}"

        @invariant()
        def uploads_are_as_in_the_model(self) -> None:
            listed = {pending.upload_id: pending.key for pending in self.witness.list_uploads(self.harness.prefix)}
            expected = {upload_id: upload.key for upload_id, upload in self.uploads.items()}
            assert listed == expected, "list_uploads lists the uploads that are pending"
            if self.witness.capabilities.lists_parts:
                for upload_id, upload in self.uploads.items():
                    parts = list(self.witness.list_parts(upload.key, upload_id))
                    receipts = [upload.parts[number].receipt for number in sorted(upload.parts)]
                    assert parts == receipts, "list_parts lists the parts that were sent last, ascending"

    return BackendMachine


# --- stores ----------------------------------------------------------------------------------------------------------


def store_machine(make_harness: Callable[[], StoreHarness]) -> type[RuleBasedStateMachine]:
    """
    A state machine for the store of this harness, beside a model of it.

    Args:
        make_harness: makes a harness with an empty store, for each sequence of calls.
    """
    return agreement_machine([make_harness])


def agreement_machine(make_harnesses: Sequence[Callable[[], StoreHarness]]) -> type[RuleBasedStateMachine]:
    """
    A state machine that does the same to several stores, which must agree with one model, and so with each other.

    After each step every checkpoint is loaded, and all are scanned, by handles that took no part.

    Args:
        make_harnesses: each makes a harness with an empty store, for each sequence of calls.
    """

    class StoreMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.stack = ExitStack()
            self.harnesses = [self.stack.enter_context(make()) for make in make_harnesses]
            self.stores = [harness.opened() for harness in self.harnesses]
            self.witnesses = [harness.opened() for harness in self.harnesses]
            uploads = 1 if any(harness.holds_one for harness in self.harnesses) else 3
            self.names = [_checkpoint_of(number).name for number in range(uploads)]
            self.model: dict[str, Checkpoint] = {}

        def teardown(self) -> None:
            self.stack.close()

        def draw_upload(self, data: st.DataObject) -> int:
            return data.draw(st.integers(0, len(self.names) - 1), label="upload")

        @rule(
            data=st.data(),
            upload_id=st.none() | st.text(max_size=5),
            fingerprint=fingerprints(),
            options=object_options(),
            parts=st.lists(uploaded_parts(), max_size=3, unique_by=lambda part: part.part_number),
        )
        def save(
            self,
            data: st.DataObject,
            upload_id: str | None,
            fingerprint: Fingerprint,
            options: ObjectOptions,
            parts: list[UploadedPart],
        ) -> None:
            checkpoint = evolve(
                _checkpoint_of(self.draw_upload(data)),
                upload_id=upload_id,
                fingerprint=fingerprint,
                options=options,
                parts=parts,
            )
            for store in self.stores:
                with store.claim(checkpoint.name):
                    store.save(checkpoint)
            self.model[checkpoint.name] = checkpoint

        @rule(data=st.data(), parts=st.lists(uploaded_parts(), min_size=1, max_size=3))
        def append(self, data: st.DataObject, parts: list[UploadedPart]) -> None:
            name = self.names[self.draw_upload(data)]
            checkpoint = self.model.get(name)
            for store in self.stores:
                with store.claim(name):
                    for part in parts:
                        if checkpoint is None:
                            must_raise(CheckpointError, lambda: store.append_part(name, part), "there is no checkpoint")
                        else:
                            store.append_part(name, part)
            if checkpoint is not None:
                held = {part.part_number: part for part in (*checkpoint.parts, *parts)}
                self.model[name] = evolve(checkpoint, parts=held.values())

        @rule(data=st.data())
        def delete(self, data: st.DataObject) -> None:
            name = self.names[self.draw_upload(data)]
            for store in self.stores:
                with store.claim(name):
                    store.delete(name)
            self.model.pop(name, None)

        @rule(data=st.data())
        def claim_twice(self, data: st.DataObject) -> None:
            name = self.names[self.draw_upload(data)]
            for store, witness in zip(self.stores, self.witnesses, strict=True):
                with store.claim(name):
                    must_raise(CheckpointBusy, lambda: witness.claim(name).__enter__(), "the claim is held")

        @rule()
        def reopen(self) -> None:
            for index, (harness, store) in enumerate(zip(self.harnesses, self.stores, strict=True)):
                if harness.durable:
                    if callable(close := getattr(store, "close", None)):
                        close()
                    self.stores[index] = harness.opened()

        @invariant()
        def checkpoints_are_as_in_the_model(self) -> None:
            expected = {name: in_order(checkpoint) for name, checkpoint in self.model.items()}
            for witness in self.witnesses:
                for name in self.names if len(self.names) > 1 else self.model:
                    found = witness.load(name)
                    loaded = None if found is None else in_order(found)
                    assert loaded == expected.get(name), f"{witness!r} loads another checkpoint than was saved"
                scanned = [in_order(found) for found in witness.scan()]
                assert len(scanned) == len(expected), f"{witness!r} scans each checkpoint once"
                assert {found.name: found for found in scanned} == expected, f"{witness!r} scans what was saved"

    return StoreMachine


def _checkpoint_of(upload: int) -> Checkpoint:
    return Checkpoint("memory://bucket", f"key-{upload}", "/a/source", Fingerprint(), part_size=1)
