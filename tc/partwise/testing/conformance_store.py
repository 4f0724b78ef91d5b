"""
Test whether a checkpoint store keeps the contract of `CheckpointStore`.

Write a harness of about ten lines and a test class of two. The hooks of the harness are optional; a run says which of
them are not given, and what is not checked without them:

    class MineHarness(StoreHarness):
        claim_outlives_its_process = 2.0  # a lease; leave it out for a lock of the system or of a database session
        secrets = ("the password",)

        def __init__(self):
            self.url = new_database("the password")

        def open(self):
            return MyStore(self.url, lease=2.0)

        def elsewhere(self):
            return functools.partial(MyStore, self.url, lease=2.0)

        def lose_claim(self, store, name):
            store.stop_renewing(name)
            time.sleep(2.0)
            return True

    class TestMyStore(CheckpointStoreConformance):
        harness = MineHarness

Each check is also a plain function, ``check_...(harness)``; `STORE_CHECKS` has all of them.

The behaviours, by number:

    1 empty store    2 round trip    3 saving again    4 delete    5 scan    6 uploads of one source
    7 unusual names    8 two handles    9 reopening    10 atomic writes    11 damage    12 other versions
    13 deleting during a scan    14 unwritable    15 concurrency    16 claims    17 no shared state
    18 no secret    19 close, repr    20 any sequence of calls: `store_machine`, and `agreement_machine` to compare
    several stores    21 fencing by the upload id    22 a lost claim    23 the cost of an append    24 long values
    25 records that expire
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from partwise.testing.conformance import store_claims, store_failures, store_records
from partwise.testing.conformance.store_harness import StoreHarness
from partwise.testing.conformance.suite import Suite, record_missing_hooks

__all__ = ["STORE_CHECKS", "CheckpointStoreConformance", "StoreHarness"]

#: Every check of a checkpoint store.
STORE_CHECKS: Suite[StoreHarness] = Suite(
    store_records.CHECKS,
    store_claims.CHECKS,
    store_failures.CHECKS,
    left_out={
        12: "Checkpoint.from_data refuses other versions",
        20: "it is a state machine, which needs hypothesis, and has a separate test",
    },
)


class CheckpointStoreConformance:
    """
    The suite for pytest: subclass it as ``Test...``, and set `harness`.

    It has a test method for each check, and one for the state machine, which needs hypothesis.
    """

    harness: ClassVar[Callable[[], StoreHarness]]
    """Creates a harness with an empty store: the harness class, or a function."""

    def test_any_sequence_of_calls(self) -> None:
        """Hypothesis searches for calls after which store and model differ (20)."""
        from partwise.testing.conformance.machines import run_machine
        from partwise.testing.conformance.store_machine import store_machine

        make = type(self).harness
        with make() as harness:
            examples = harness.examples
        run_machine(store_machine(make), examples)

    def test_declared_deviations_name_checks(self) -> None:
        """Each declared deviation names a check."""
        with type(self).harness() as harness:
            STORE_CHECKS.check_declarations(harness)

    def test_hooks_that_are_not_given(self, record_property: Callable[[str, object], None]) -> None:
        """Hooks that the harness does not give are listed in the summary of the run."""
        with type(self).harness() as harness:
            record_missing_hooks(harness, harness.missing_hooks(), record_property)


STORE_CHECKS.add_tests(CheckpointStoreConformance)
