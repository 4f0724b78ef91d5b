"""
Does a checkpoint store keep the promises of `CheckpointStore`?

An author writes a harness of some ten lines and a test class of two:

    class MineHarness(StoreHarness):
        def __init__(self):
            self.path = tempfile.mkdtemp()

        def open(self):
            return MyStore(self.path)

        def elsewhere(self):
            return functools.partial(MyStore, self.path)

    class TestMyStore(CheckpointStoreConformance):
        harness = MineHarness

Every check is also a plain function, ``check_...(harness)``, and `STORE_CHECKS` has them all.

The behaviours, by number:

    1 nothing there    2 round trip    3 saving again    4 delete    5 scan    6 uploads of one source
    7 strange names    8 two handles    9 reopening    10 whole or not at all    11 damage    12 other versions
    13 vanishing under a scan    14 unwritable    15 at the same time    16 claims    17 no shared state
    18 no secret    19 close, repr    20 any sequence of calls: `store_machine`, and `agreement_machine` for several
    stores side by side
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from partwise.testing.conformance import store_failures, store_records
from partwise.testing.conformance.store_harness import StoreHarness
from partwise.testing.conformance.suite import Suite

__all__ = ["STORE_CHECKS", "CheckpointStoreConformance", "StoreHarness"]

#: Every check of a checkpoint store.
STORE_CHECKS: Suite[StoreHarness] = Suite(
    store_records.CHECKS,
    store_failures.CHECKS,
    left_out={
        12: "the plain form of a checkpoint is the library's affair: Checkpoint.from_data refuses other versions",
        18: "a checkpoint has no field for a secret, and a store is given nothing else",
        20: "it is a state machine, which needs hypothesis, and is a test of its own beside the checks",
    },
)


class CheckpointStoreConformance:
    """
    The suite for pytest: subclass it under a name that begins with ``Test``, and set `harness`.

    There is a test method for each check, and one for the state machine, which needs hypothesis.
    """

    harness: ClassVar[Callable[[], StoreHarness]]
    """What makes a harness with an empty store: the harness class itself, or any function."""

    def test_any_sequence_of_calls(self) -> None:
        """Hypothesis looks for a sequence of calls after which the store and a model of it differ (20)."""
        from partwise.testing.conformance.machines import run_machine
        from partwise.testing.conformance.store_machine import store_machine

        make = type(self).harness
        with make() as harness:
            examples = harness.examples
        run_machine(store_machine(make), examples)

    def test_declared_deviations_are_of_checks(self) -> None:
        """Each declared deviation is of a check that there is."""
        with type(self).harness() as harness:
            STORE_CHECKS.check_declarations(harness)


STORE_CHECKS.add_tests(CheckpointStoreConformance)
