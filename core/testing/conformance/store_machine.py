"""
Random calls of one or several stores, compared with a model (20).

Hypothesis draws the calls, and shrinks a failing sequence. Needs hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import ClassVar

from attrs import evolve
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from partwise.checkpoint import Checkpoint
from partwise.errors import CheckpointBusy, CheckpointError, ClaimLost
from partwise.model import UploadedPart
from partwise.testing.conformance.machines import BoundedMachine
from partwise.testing.conformance.store_harness import StoreHarness, append, close, delete, enter_claim, sample, save
from partwise.testing.conformance.suite import must_raise
from partwise.testing.oracles import in_order
from partwise.testing.strategies import checkpoints_of_one_upload, uploaded_parts

__all__ = ["agreement_machine", "store_machine"]

_numbers = st.integers(1, 3)


class StoreMachine(BoundedMachine):
    """
    Each rule calls all stores, which have to agree with the model.

    After each step every checkpoint is loaded, and all are scanned, through separate handles.
    """

    make_harnesses: ClassVar[Sequence[Callable[[], StoreHarness]]]

    def __init__(self) -> None:
        super().__init__()
        self.open = ExitStack()
        self.harnesses = [self.open.enter_context(make()) for make in self.make_harnesses]
        self.stores = [harness.open_for_test() for harness in self.harnesses]
        self.readers = [harness.open_for_test() for harness in self.harnesses]
        self.holds_one = any(harness.holds_one for harness in self.harnesses)
        self.names = {self._upload(number).name for number in (1, 2, 3)}
        self.model: dict[str, Checkpoint] = {}

    def teardown(self) -> None:
        self.open.close()

    def _upload(self, number: int) -> Checkpoint:
        return sample(1 if self.holds_one else number)

    # --- rules -------------------------------------------------------------------------------------------------------

    @rule(number=_numbers, drawn=checkpoints_of_one_upload())
    def save(self, number: int, drawn: Checkpoint) -> None:
        upload = self._upload(number)
        checkpoint = evolve(drawn, location=upload.location, key=upload.key, source=upload.source)
        for store in self.stores:
            save(store, checkpoint)
        self.model[checkpoint.name] = checkpoint

    @rule(number=_numbers, parts=st.lists(uploaded_parts(), min_size=1, max_size=3))
    def append(self, number: int, parts: list[UploadedPart]) -> None:
        name = self._upload(number).name
        checkpoint = self.model.get(name)
        upload_id = "upload" if checkpoint is None else checkpoint.upload_id
        for store in self.stores:
            if checkpoint is None:
                must_raise(CheckpointError, "there is no checkpoint of this name", append, store, name, *parts)
            elif upload_id is None:
                must_raise(ClaimLost, "the checkpoint has no upload id", append, store, name, *parts)
            else:
                append(store, name, *parts, upload_id=upload_id)
        if checkpoint is not None and upload_id is not None:
            held = {part.part_number: part for part in (*checkpoint.parts, *parts)}
            self.model[name] = evolve(checkpoint, parts=held.values())

    @rule(number=_numbers)
    def delete(self, number: int) -> None:
        name = self._upload(number).name
        checkpoint = self.model.pop(name, None)
        for store in self.stores:
            delete(store, name, None if checkpoint is None else checkpoint.upload_id)

    @rule(number=_numbers, upload_id=st.none() | st.just("of another run"), part=uploaded_parts())
    def change_as_another_run(self, number: int, upload_id: str | None, part: UploadedPart) -> None:
        checkpoint = self.model.get(self._upload(number).name)
        if checkpoint is None or checkpoint.upload_id == upload_id:
            return
        name, duty = checkpoint.name, "the checkpoint is that of another upload"
        for store in self.stores:
            must_raise(ClaimLost, duty, delete, store, name, upload_id)
            if upload_id is not None:
                must_raise(ClaimLost, duty, append, store, name, part, upload_id=upload_id)

    @rule(number=_numbers)
    def claim_twice(self, number: int) -> None:
        name = self._upload(number).name
        for store, reader in zip(self.stores, self.readers, strict=True):
            with store.claim(name):
                must_raise(CheckpointBusy, "the claim is held", enter_claim, reader, name)

    @rule()
    def reopen(self) -> None:
        for index, harness in enumerate(self.harnesses):
            if harness.durable:
                close(self.stores[index])
                self.stores[index] = harness.open_for_test()

    # --- invariants --------------------------------------------------------------------------------------------------

    @invariant()
    def checkpoints_are_as_in_the_model(self) -> None:
        expected = {name: in_order(checkpoint) for name, checkpoint in self.model.items()}
        for reader in self.readers:
            for name in self.names:
                found = reader.load(name)
                loaded = None if found is None else in_order(found)
                assert loaded == expected.get(name), f"{reader!r} loads what was saved last"
            scanned = [in_order(found) for found in reader.scan()]
            assert len(scanned) == len(expected), f"{reader!r} scans each checkpoint once"
            assert {found.name: found for found in scanned} == expected, f"{reader!r} scans what was saved last"


def store_machine(make_harness: Callable[[], StoreHarness]) -> type[StoreMachine]:
    """Return a state machine for the store of this harness."""
    return agreement_machine([make_harness])


def agreement_machine(make_harnesses: Sequence[Callable[[], StoreHarness]]) -> type[StoreMachine]:
    """
    Return a state machine that calls several stores, which have to agree.

    Args:
        make_harnesses: each creates a harness with an empty store, for each sequence of calls.
    """
    return type("StoreMachine", (StoreMachine,), {"make_harnesses": tuple(make_harnesses)})
