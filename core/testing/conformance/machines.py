"""Run the state machines of the suites. Needs hypothesis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import engine
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

__all__ = ["run_machine"]


#: How long a failing sequence is shortened, in seconds.
SHRINK_SECONDS = 45.0


class BoundedMachine(RuleBasedStateMachine):
    """
    The base of the machines of the kit, whose `TestCase` ends in time.

    It shortens a failing sequence for as long as `run_machine` does, and not for five minutes.
    """

    @classmethod
    @lru_cache
    def _to_test_case(cls) -> Any:
        case = super()._to_test_case()
        run = case.runTest

        @wraps(run)
        def run_in_time(self: Any) -> None:
            with _shrinking_for(SHRINK_SECONDS):
                run(self)

        case.runTest = run_in_time  # type: ignore[method-assign]
        return case


def run_machine(
    machine: type[RuleBasedStateMachine], examples: int, *, steps: int = 25, shrink_seconds: float = SHRINK_SECONDS
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
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
    )
    with _shrinking_for(shrink_seconds):
        run_state_machine_as_test(machine, settings=chosen)


@contextmanager
def _shrinking_for(seconds: float) -> Iterator[None]:
    """Limit the time that hypothesis shortens a failing sequence."""
    limits = vars(engine)
    before = limits.get("MAX_SHRINKING_SECONDS")
    if before is None:  # a release of hypothesis that keeps its limit elsewhere
        yield
        return
    limits["MAX_SHRINKING_SECONDS"] = seconds
    try:
        yield
    finally:
        limits["MAX_SHRINKING_SECONDS"] = before
