"""How long failures are retried, and how soon."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from partwise._engine.patience import PROBE_INTERVAL, Patience, is_retryable
from partwise.config import TransferConfig
from partwise.errors import (
    AccessDenied,
    BackendError,
    ConnectionFailed,
    CredentialsExpired,
    HostNotFound,
    IntegrityError,
    ServerFailed,
    SourceChanged,
    SourceError,
    Throttled,
)

LOST = ConnectionFailed("lost")
DAMAGED = IntegrityError("damaged")


class MaxRandom:
    """Randomness that always returns the upper bound, and records the bounds."""

    def __init__(self):
        self.bounds = []

    def uniform(self, a, b, /):
        self.bounds.append((a, b))
        return b


def patience(give_up_after=300.0, max_attempts=None, **settings):
    return Patience(give_up_after, max_attempts, **{"random": MaxRandom(), **settings})


# --- which errors, how soon ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [AccessDenied(), SourceChanged(), OSError(), KeyboardInterrupt()])
def test_permanent_errors_are_not_retried(error):
    assert not is_retryable(error)
    assert patience().next_delay(0.0, 1, error) is None


def test_the_retryable_flag_counts_not_the_class():
    assert not is_retryable(ConnectionFailed(retryable=False))
    assert is_retryable(BackendError(retryable=True))


def test_the_bound_of_the_delay_doubles_up_to_the_maximum():
    max_random = MaxRandom()
    patient = patience(base=0.5, max_delay=10.0, random=max_random)

    assert [patient.next_delay(0.0, failures, DAMAGED) for failures in range(1, 8)] == [0.5, 1, 2, 4, 8, 10, 10]
    assert set(max_random.bounds) == {(0.0, bound) for bound in (0.5, 1.0, 2.0, 4.0, 8.0, 10.0)}


def test_a_number_of_attempts_is_a_limit():
    patient = patience(max_attempts=3)

    assert patient.next_delay(0.0, 2, LOST) is not None
    assert patient.next_delay(0.0, 3, LOST) is None
    assert patient.gave_up_after is None, "not for lack of time"


def test_with_one_attempt_there_are_no_retries():
    assert patience(max_attempts=1).next_delay(0.0, 1, LOST) is None


def test_the_delay_is_never_shorter_than_retry_after():
    assert patience().next_delay(0.0, 1, Throttled(retry_after=60.0)) == 60.0


def test_retry_after_does_not_shorten_the_backoff():
    assert patience(base=3.0).next_delay(0.0, 1, Throttled(retry_after=0.1)) == 3.0


@pytest.mark.parametrize("retry_after", [float("nan"), -5.0, float("-inf"), None])
def test_an_invalid_retry_after_is_ignored(retry_after):
    assert patience(base=3.0).next_delay(0.0, 1, Throttled(retry_after=retry_after)) == 3.0


@pytest.mark.parametrize("retry_after", [300.5, 86_401.0, 1e300, float("inf")])
def test_a_retry_after_beyond_the_patience_ends_it_at_once(retry_after):
    patient = patience()

    assert patient.next_delay(0.0, 1, Throttled(retry_after=retry_after)) is None
    assert patient.gave_up_after == 0.0


def test_a_retry_after_that_is_just_within_the_patience_is_respected():
    patient = patience()
    patient.next_delay(0.0, 1, LOST)

    assert patient.next_delay(100.0, 2, Throttled(retry_after=200.0)) == 200.0
    assert patient.next_delay(300.0, 3, Throttled(retry_after=1.0)) is None


def test_the_jitter_differs_between_clients():
    """Clients that failed together do not retry together."""
    delays = {patience(random=random.Random(seed)).next_delay(0.0, 1, LOST) for seed in range(20)}

    assert len(delays) == 20


def test_the_patience_of_a_run_is_made_from_its_configuration():
    max_random = MaxRandom()
    config = TransferConfig(give_up_after=40, max_attempts=7, retry_base=2, retry_max=11)
    made = Patience.from_config(config, max_random)

    assert (made.give_up_after, made.max_attempts, made.base, made.max_delay) == (40, 7, 2, 11)
    assert made.random is max_random


# --- how long --------------------------------------------------------------------------------------------------------


def test_the_patience_starts_with_the_first_failure_after_something_moved():
    patient = patience()
    patient.moved(100.0)
    patient.next_delay(1000.0, 1, LOST)

    assert (patient.failing_since, patient.gives_up_at) == (1000.0, 1300.0)
    assert patient.next_delay(1299.0, 2, LOST) == 1.0, "the last attempt is made at the deadline"
    assert patient.next_delay(1300.0, 3, LOST) is None
    assert patient.gave_up_after == 300.0


def test_the_patience_is_that_of_all_requests_together():
    patient = patience()
    patient.next_delay(0.0, 1, LOST)

    assert patient.next_delay(300.0, 1, ServerFailed()) is None, "the first failure of another request"


def test_what_moves_renews_the_patience():
    patient = patience()
    patient.next_delay(0.0, 1, LOST)
    patient.moved(299.0)

    assert (patient.failing_since, patient.gives_up_at) == (None, None)
    assert patient.next_delay(300.0, 9, LOST) is not None
    assert patient.gives_up_at == 600.0


def test_without_patience_the_first_failure_is_final():
    assert patience(0.0).next_delay(5.0, 1, LOST) is None


def test_a_shorter_patience_is_a_new_one():
    patient = patience(max_attempts=3, base=2.0)
    patient.next_delay(0.0, 1, LOST)
    shorter = patient.at_most(10.0)

    assert (shorter.give_up_after, shorter.max_attempts, shorter.base) == (10.0, 3, 2.0)
    assert shorter.failing_since is None
    assert patience(5.0).at_most(10.0).give_up_after == 5.0


# --- an outage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [LOST, ServerFailed(), HostNotFound()])
def test_two_failures_in_a_row_are_an_outage(error):
    patient = patience()
    patient.next_delay(0.0, 1, error)
    assert not patient.outage

    patient.next_delay(0.0, 1, error)
    assert patient.outage


@pytest.mark.parametrize(
    "error", [Throttled(), ServerFailed(retry_after=5.0), CredentialsExpired(), DAMAGED, SourceError(retryable=True)]
)
def test_other_failures_are_not_an_outage(error):
    patient = patience()
    for _ in range(5):
        patient.next_delay(0.0, 1, error)

    assert not patient.outage


def test_an_answer_shows_that_the_storage_can_be_reached():
    patient = patience()
    for error in (LOST, Throttled(), LOST):
        patient.next_delay(0.0, 1, error)

    assert not patient.outage


def test_a_failure_of_the_source_shows_nothing_about_the_storage():
    patient = patience()
    for error in (LOST, SourceError(retryable=True), LOST):
        patient.next_delay(0.0, 1, error)

    assert patient.outage


def test_during_an_outage_the_waits_are_short():
    """So that its end is noticed soon, whatever the maximum of the backoff is."""
    patient = patience(max_delay=30.0)
    delays = [patient.next_delay(0.0, failures, LOST) for failures in range(1, 10)]

    assert delays == [0.5, 1.0, 2.0, *[PROBE_INTERVAL] * 6]


def test_during_an_outage_the_time_of_the_attempt_is_a_part_of_the_wait():
    """Connections that hang are followed as soon as connections that are refused."""
    patient = patience()
    for _ in range(9):
        patient.next_delay(0.0, 9, LOST)

    assert patient.next_delay(10.0, 9, LOST, took=1.0) == PROBE_INTERVAL - 1.0
    assert patient.next_delay(20.0, 9, LOST, took=10.0) == 0.0
    assert patience().next_delay(0.0, 1, LOST, took=10.0) == 0.5, "a single failure"


def test_the_end_of_an_outage_is_reported_once():
    patient = patience()
    patient.next_delay(0.0, 1, LOST)
    patient.next_delay(0.5, 2, LOST)

    assert patient.moved(60.0)
    assert not patient.outage
    assert not patient.moved(61.0)


def test_failures_of_less_than_a_second_are_not_an_outage_that_ends():
    patient = patience()
    for _ in range(9):
        patient.next_delay(0.0, 1, LOST)

    assert not patient.moved(0.9)
    patient.next_delay(1.0, 1, LOST)
    assert not patient.moved(60.0), "a single failure"


# --- a name that can't be resolved -----------------------------------------------------------------------------------


def test_a_name_that_was_never_resolved_is_known():
    patient = patience()
    for now in (0.0, 150.0):
        patient.next_delay(now, 1, HostNotFound())
        assert not patient.host_never_found, "there is patience left"
    patient.next_delay(300.0, 1, HostNotFound())

    assert patient.host_never_found


@pytest.mark.parametrize("other", [ConnectionFailed(), AccessDenied(retryable=True)])
def test_a_name_that_was_resolved_once_is_not_wrong(other):
    patient = patience()
    patient.next_delay(0.0, 1, other)
    patient.next_delay(300.0, 1, HostNotFound())

    assert not patient.host_never_found


def test_a_name_is_not_wrong_if_anything_was_ever_sent():
    patient = patience()
    patient.moved(0.0)
    patient.next_delay(0.0, 1, HostNotFound())
    patient.next_delay(300.0, 1, HostNotFound())

    assert not patient.host_never_found


def test_a_single_failure_does_not_show_that_a_name_is_wrong():
    patient = patience(0.0)
    patient.next_delay(0.0, 1, HostNotFound())

    assert not patient.host_never_found


# --- the retry budget ------------------------------------------------------------------------------------------------


def spent(**settings):
    """Return a patience without budget."""
    patient = patience(**{"base": 0.0, **settings})
    assert any(patient.next_delay(0.0, 1, DAMAGED) for _ in range(1000))
    return patient


def test_a_burst_of_retries_is_not_delayed():
    """All connections can break at the same moment."""
    patient = patience(base=0.0)

    assert [patient.next_delay(0.0, 1, LOST) for _ in range(99)] == [0.0] * 99


@pytest.mark.parametrize(
    ("settings", "parts"), [({}, 128), ({"concurrency_max": 300}, 300), ({"concurrency": 500}, 500)], ids=repr
)
def test_the_budget_covers_all_parts_that_can_be_in_flight(settings, parts):
    patient = Patience.from_config(TransferConfig(retry_base=0.0, **settings), MaxRandom())

    assert [patient.next_delay(0.0, 1, Throttled()) for _ in range(parts)] == [0.0] * parts


def test_without_budget_retries_are_a_second_apart():
    patient = spent()

    assert [patient.next_delay(0.0, 1, DAMAGED) for _ in range(3)] == [2.0, 3.0, 4.0]
    assert patient.next_delay(10.0, 1, DAMAGED) == 0.0
    assert patient.next_delay(10.0, 1, DAMAGED) == 1.0


def test_four_successes_pay_for_one_retry():
    patient = spent()
    for _ in range(12):
        patient.moved(10.0)

    assert [patient.next_delay(10.0, 1, DAMAGED) for _ in range(4)] == [0.0, 0.0, 0.0, 1.0]


def test_a_wait_that_the_storage_asks_for_costs_nothing():
    patient = patience(base=0.0)
    for _ in range(500):
        patient.next_delay(0.0, 1, Throttled(retry_after=1.0))

    assert [patient.next_delay(0.0, 1, DAMAGED) for _ in range(99)] == [0.0] * 99


def test_the_end_of_an_outage_restores_the_budget():
    patient = spent()
    patient.next_delay(0.0, 1, LOST)
    patient.next_delay(0.0, 1, LOST)
    patient.moved(60.0)

    assert [patient.next_delay(60.0, 1, DAMAGED) for _ in range(99)] == [0.0] * 99


# --- properties ------------------------------------------------------------------------------------------------------

ERRORS = (LOST, DAMAGED, Throttled(), Throttled(retry_after=2.0), ServerFailed(), SourceError(retryable=True))
settings_of_patience = st.builds(
    Patience,
    give_up_after=st.sampled_from((0.0, 0.5, 10.0, 300.0)),
    base=st.sampled_from((0.0, 0.5, 100.0)),
    max_delay=st.sampled_from((0.0, 30.0)),
    random=st.integers().map(random.Random),
)


@given(settings_of_patience, st.lists(st.tuples(st.sampled_from(ERRORS), st.floats(0.0, 50.0)), min_size=1))
def test_it_never_waits_beyond_the_deadline(patient, failures):
    now = 1_000_000.0
    for number, (error, passed) in enumerate(failures, 1):
        now += passed
        delay = patient.next_delay(now, number, error)
        if delay is None:
            break
        assert delay >= 0.0
        assert now + delay <= patient.gives_up_at + 0.001


@given(settings_of_patience, st.lists(st.sampled_from(ERRORS), min_size=1))
@example(Patience(10.0, base=0.0, random=random.Random(0)), [LOST])
@example(Patience(300.0, base=0.0, random=random.Random(0)), [Throttled(retry_after=0.0)])
def test_it_always_gives_up_when_it_ends_and_no_later(patient, errors):
    """If attempts take no time and nothing moves, and whatever the errors are."""
    now, attempts = 1_000_000.0, 0
    while (delay := patient.next_delay(now, attempts + 1, errors[attempts % len(errors)])) is not None:
        now, attempts = now + delay, attempts + 1
        assert attempts < 2 * patient.give_up_after + 200, "the attempts are bounded"

    last = errors[attempts % len(errors)]
    early = (getattr(last, "retry_after", None) or 0.0) + 0.001
    assert patient.give_up_after - early <= now - 1_000_000.0 <= patient.give_up_after + 0.001


@given(settings_of_patience, st.lists(st.sampled_from(ERRORS), max_size=300))
def test_it_never_gives_up_while_something_moves(patient, errors):
    now = 1_000_000.0
    for error in errors:
        delay = patient.next_delay(now, 1, error)
        if delay is None:
            asked_for = getattr(error, "retry_after", None) or 0.0
            assert patient.give_up_after < max(asked_for, 0.001)
            delay = 0.0
        now += delay
        patient.moved(now)


@given(st.integers(1, 10_000), st.floats(0, 100), st.floats(0, 1000), st.integers())
def test_the_backoff_is_never_longer_than_the_maximum(failures, base, max_delay, seed):
    patient = Patience(1e9, None, base, max_delay, random.Random(seed))

    assert 0.0 <= patient.next_delay(0.0, failures, DAMAGED) <= max_delay
