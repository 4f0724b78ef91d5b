"""Run the state machines of the suites. Needs hypothesis."""

from __future__ import annotations

import sys
import time

from hypothesis import HealthCheck, reject, settings
from hypothesis.control import current_build_context
from hypothesis.errors import HypothesisException
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

__all__ = ["run_machine"]


def run_machine(
    machine: type[RuleBasedStateMachine], examples: int, *, steps: int = 25, shrink_seconds: float = 45.0
) -> None:
    """
    Run a state machine on `examples` sequences of calls, without a deadline.

    Args:
        machine: the class of the machine, such as `backend_machine` returns, or a subclass of `ResumeMachine`.
        examples: the number of sequences.
        steps: the most calls of a sequence.
        shrink_seconds: how long a failing sequence is shortened, in seconds. With large parts each attempt takes long,
            and hypothesis itself stops only after five minutes.

    Raises:
        AssertionError: subject and model differ; the output has the sequence of calls after which they do.
    """
    run_state_machine_as_test(
        _with_deadline(machine, shrink_seconds),
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def _with_deadline(machine: type[RuleBasedStateMachine], shrink_seconds: float) -> type[RuleBasedStateMachine]:
    """Return a subclass that rejects every sequence once the time for shrinking is over."""
    first_failure: list[float] = []

    class Bounded(machine):  # type: ignore[misc, valid-type]  # a subclass of the given machine
        def __init__(self) -> None:
            # The last sequence, which is reported, is run again at the end, and has to fail again.
            is_over = first_failure and time.monotonic() - first_failure[0] > shrink_seconds
            if is_over and not current_build_context().is_final:
                reject()
            super().__init__()

        def teardown(self) -> None:
            # Called in a `finally`, so that the failure of a step is the current exception.
            failure = sys.exc_info()[1]
            if isinstance(failure, Exception) and not isinstance(failure, HypothesisException):
                first_failure.append(time.monotonic())
            try:
                super().teardown()
            except Exception:
                first_failure.append(time.monotonic())
                raise

    Bounded.__name__ = machine.__name__
    Bounded.__qualname__ = machine.__qualname__
    return Bounded
