"""Retry calls that may fail for a moment, within the patience of the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from partwise._engine.patience import Patience
from partwise.errors import BackendError, CheckpointError, PartwiseError, SourceError

_T = TypeVar("_T")

#: The hint of an error for which a run gave up for lack of time.
MORE_PATIENCE = "To keep trying for longer, raise {give_up_after}"


def call_with_retries(
    attempt: Callable[[], _T],
    patience: Patience,
    monotonic: Callable[[], float],
    wait: Callable[[float], object],
    on_retry: Callable[[BackendError | CheckpointError | SourceError, float, int], object],
    *,
    moves: bool,
) -> _T:
    """
    Call `attempt`, retrying transient errors for as long as `patience` allows.

    Before each `wait`, `on_retry` is called with the error, the seconds, and the number of attempts so far. What `wait`
    raises ends the retrying.

    Args:
        attempt: makes one attempt.
        patience: decides; each success and failure is reported to it.
        monotonic: the clock.
        wait: waits for some seconds.
        on_retry: called before each wait.
        moves: whether a success brings the upload forward. A question to the storage, a call of the store or a look at
            the source does not: it can succeed for ever while what the upload waits for fails.

    Raises:
        BackendError, CheckpointError, SourceError: the error of the last attempt.
    """
    failing_since, failures = patience.failing_since, 0
    while True:
        started = monotonic()
        try:
            result = attempt()
        except (BackendError, CheckpointError, SourceError) as error:
            failures += 1
            now = monotonic()
            delay = patience.next_delay(now, failures, error, now - started)
            if delay is None:
                add_hint(error, patience)
                raise
            on_retry(error, delay, failures)
            wait(delay)
        else:
            if moves:
                patience.moved(monotonic())
            elif failures:
                patience.restore(failing_since)
            return result


def after_failure(error: PartwiseError, attempt: Callable[[], _T]) -> Callable[[], _T]:
    """
    Return a call that first fails with this error, and then calls `attempt`.

    So a call that is made for each part and nearly never fails costs nothing more: only if it fails, it is retried by
    `call_with_retries`, and counts as the first attempt.
    """
    failures = [error]

    def next_attempt() -> _T:
        if failures:
            raise failures.pop()
        return attempt()

    return next_attempt


def add_hint(error: BaseException, patience: Patience) -> None:
    """
    Name the setting on the error of a run that gave up for lack of time.

    An error with a hint of its own keeps that.
    """
    if patience.gave_up_after is not None and isinstance(error, PartwiseError) and not error.hint_template:
        error.hint_template = MORE_PATIENCE
