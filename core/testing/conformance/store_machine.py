"""
Any sequence of calls on one store or on several, beside a model that is nothing but a dict (20).

Hypothesis draws the calls, and cuts a sequence that fails down to a short one. Needs hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import ClassVar

from attrs import evolve
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from partwise.checkpoint import Checkpoint
from partwise.errors import CheckpointBusy, CheckpointError
from partwise.model import UploadedPart
from partwise.testing.conformance.store_harness import (
    StoreHarness,
    append,
    close,
    delete,
    enter_claim,
    sample,
    save,
)
from partwise.testing.conformance.suite import must_raise
from partwise.testing.oracles import in_order
from partwise.testing.strategies import checkpoints, uploaded_parts

_numbers = st.integers(1, 3)


class StoreMachine(RuleBasedStateMachine):
    """
    The rules are the methods; each is done to all stores, which must agree with the model, and so with each other.

    After each step every checkpoint is loaded, and all are scanned, by handles that took no part.
    """

    make_harnesses: ClassVar[Sequence[Callable[[], StoreHarness]]]

    def __init__(self) -> None:
        super().__init__()
        self.open = ExitStack()
        self.harnesses = [self.open.enter_context(make()) for make in self.make_harnesses]
        self.stores = [harness.open_for_test() for harness in self.harnesses]
        self.witnesses = [harness.open_for_test() for harness in self.harnesses]
        self.holds_one = any(harness.holds_one for harness in self.harnesses)
        self.model: dict[str, Checkpoint] = {}

    def teardown(self) -> None:
        self.open.close()

    def _upload(self, number: int) -> Checkpoint:
        return sample(1 if self.holds_one else number)

    # --- what can be done --------------------------------------------------------------------------------------------

    @rule(number=_numbers, drawn=checkpoints())
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
        for store in self.stores:
            if checkpoint is None:
                must_raise(CheckpointError, "there is no checkpoint of this name", append, store, name, *parts)
            else:
                append(store, name, *parts)
        if checkpoint is not None:
            held = {part.part_number: part for part in (*checkpoint.parts, *parts)}
            self.model[name] = evolve(checkpoint, parts=held.values())

    @rule(number=_numbers)
    def delete(self, number: int) -> None:
        name = self._upload(number).name
        for store in self.stores:
            delete(store, name)
        self.model.pop(name, None)

    @rule(number=_numbers)
    def claim_twice(self, number: int) -> None:
        name = self._upload(number).name
        for store, witness in zip(self.stores, self.witnesses, strict=True):
            with store.claim(name):
                must_raise(CheckpointBusy, "the claim is held", enter_claim, witness, name)

    @rule()
    def reopen(self) -> None:
        for index, harness in enumerate(self.harnesses):
            if harness.durable:
                close(self.stores[index])
                self.stores[index] = harness.open_for_test()

    # --- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def checkpoints_are_as_in_the_model(self) -> None:
        expected = {name: in_order(checkpoint) for name, checkpoint in self.model.items()}
        names = {self._upload(number).name for number in (1, 2, 3)}
        for witness in self.witnesses:
            for name in names:
                found = witness.load(name)
                loaded = None if found is None else in_order(found)
                assert loaded == expected.get(name), f"{witness!r} loads another checkpoint than was saved last"
            scanned = [in_order(found) for found in witness.scan()]
            assert len(scanned) == len(expected), f"{witness!r} scans each checkpoint once"
            assert {found.name: found for found in scanned} == expected, f"{witness!r} scans what was saved last"


def store_machine(make_harness: Callable[[], StoreHarness]) -> type[StoreMachine]:
    """
    A state machine for the store of this harness.

    Args:
        make_harness: makes a harness with an empty store, for each sequence of calls.
    """
    return agreement_machine([make_harness])


def agreement_machine(make_harnesses: Sequence[Callable[[], StoreHarness]]) -> type[StoreMachine]:
    """
    A state machine that does the same to several stores, which must agree.

    Args:
        make_harnesses: each makes a harness with an empty store, for each sequence of calls.
    """
    return type("StoreMachine", (StoreMachine,), {"make_harnesses": tuple(make_harnesses)})
