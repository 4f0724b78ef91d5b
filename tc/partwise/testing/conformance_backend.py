"""
Test whether a backend keeps the contract of `MultipartBackend`.

Write a harness of about ten lines and a test class of two:

    class MineHarness(BackendHarness):
        def __init__(self):
            self.directory = tempfile.mkdtemp()

        def open(self):
            return MyBackend(self.directory)

        def read(self, key):
            path = Path(self.directory, key)
            return path.read_bytes() if path.exists() else None

    class TestMyBackend(BackendConformance):
        harness = MineHarness

Each check is also a plain function, ``check_...(harness)``; `BACKEND_CHECKS` has all of them. To test keys with a
prefix (33), run the class again with a harness whose `prefix` is not empty.

The behaviours, by number:

    contract    1 protocol, repr    2 two handles    3 capabilities    5 close    6 pickle
    an upload   7 complete    8 no part, no byte    9 sizes at the edges    10 order of sending    11 concurrency
                12 a part again    13 a missing part    14 wrong parts    15 invisible until complete    16 replacing
                17 abort    18 abort again    19 complete twice    20 two uploads of one key    21 unknown ids
    resuming    22 listings    23 pages    24 listed at once    25 a new handle    26 listed parts
    data        27 buffers    28 bodies    29 wrong length    30 failing bodies    31 checksums
    objects     32 unusual keys    33 prefix    34 options, metadata    35 limits
    failures    36 errors    37 retryable or not    38 cancelled    39 lost responses    40 delays
    41 any sequence of calls: `backend_machine`
    transfers   42 memory    43 bodies sent at the same time    44 one attempt    45 another process
                46 damaged bodies    47 an error in the body of a response    49 counted once
    48 what the capabilities declare
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from partwise.testing.conformance import backend_contract, backend_data, backend_transfers, backend_uploads
from partwise.testing.conformance.backend_harness import MACHINE_BEHAVIOURS, BackendHarness, shown_options
from partwise.testing.conformance.suite import Suite, record_missing_hooks

__all__ = ["BACKEND_CHECKS", "BackendConformance", "BackendHarness", "shown_options"]

#: Every check of a backend.
BACKEND_CHECKS: Suite[BackendHarness] = Suite(
    backend_contract.CHECKS,
    backend_uploads.CHECKS,
    backend_data.CHECKS,
    backend_transfers.CHECKS,
    left_out={
        4: "errors are classes with fields: there are no predicates to test on a success",
        33: "run the suite again with a harness that has a prefix",
        41: "it is a state machine, which needs hypothesis, and has a separate test",
    },
    machine_behaviours=MACHINE_BEHAVIOURS,
)


class BackendConformance:
    """
    The suite for pytest: subclass it as ``Test...``, and set `harness`.

    It has a test method for each check, and one for the state machine, which needs hypothesis.
    """

    harness: ClassVar[Callable[[], BackendHarness]]
    """Creates a harness with an empty storage: the harness class, or a function."""

    def test_any_sequence_of_calls(self) -> None:
        """Hypothesis searches for calls after which backend and model differ (41)."""
        from partwise.testing.conformance.backend_machine import backend_machine
        from partwise.testing.conformance.machines import run_machine

        make = type(self).harness
        with make() as harness:
            examples = harness.examples
            harness.skip_machine_if_declared()
        run_machine(backend_machine(make), examples)

    def test_declared_deviations_name_checks(self) -> None:
        """Each declared deviation names a check."""
        with type(self).harness() as harness:
            BACKEND_CHECKS.check_declarations(harness)

    def test_hooks_that_are_not_given(self, record_property: Callable[[str, object], None]) -> None:
        """Hooks that the harness does not give are listed in the summary of the run."""
        with type(self).harness() as harness:
            record_missing_hooks(harness, harness.missing_hooks(), record_property)


BACKEND_CHECKS.add_tests(BackendConformance)
