"""Running state machines. Needs hypothesis."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test


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
