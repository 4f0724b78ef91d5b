"""Run the state machines of the suites. Needs hypothesis."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

__all__ = ["run_machine"]


def run_machine(machine: type[RuleBasedStateMachine], examples: int) -> None:
    """
    Run a state machine on `examples` sequences of calls, without a deadline.

    Raises:
        AssertionError: subject and model differ; the output has the sequence of calls after which they do.
    """
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
