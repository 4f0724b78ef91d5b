"""What the stages of a run share."""

from __future__ import annotations

import io
import logging

import pytest

from partwise._engine.context import Runtime, UploadContext, UploadRequest
from partwise._engine.control import CallbackRaised, Control, StopRequested
from partwise._engine.ledger import Ledger
from partwise._engine.plan import PartPlan
from partwise._engine.workers import InlineWorkers
from partwise.checkpoint import Checkpoint, checkpoint_name
from partwise.config import TransferConfig
from partwise.errors import AccessDenied, CheckpointUnwritable, ConnectionFailed, InvalidInput, SourceChanged, Throttled
from partwise.model import ObjectOptions, UploadedPart
from partwise.results import Waiting
from partwise.sources import StreamSource


@pytest.fixture
def run(backend, store, source, clock, longest):
    """Makes a run that has looked at its source."""

    def make(*, source=source, store=store, options=None, resume="auto", on_progress=None, backend=backend, **config):
        request = UploadRequest(
            backend,
            store,
            source,
            "key",
            options or ObjectOptions(),
            TransferConfig(**{"part_size": 10, **config}),
            resume,
            on_progress,
        )
        made = UploadContext(request, Runtime(lambda: InlineWorkers(clock), clock, longest, lambda: "TOKEN"), Control())
        made.fingerprint_source()
        return made

    return make


@pytest.fixture
def started_run(run):
    """A run with an upload in flight, of which part 2 was resumed."""

    def make(**settings):
        made = run(**settings)
        checkpoint = Checkpoint(
            "memory://bucket",
            "key",
            "/a/file",
            made.fingerprint,
            10,
            upload_id="ID",
            parts=(UploadedPart(2, 10, "E2"),),
        )
        made.adopt_checkpoint(checkpoint, made.plan)
        made.is_decided = True
        return made

    return make


# --- what is to be uploaded ------------------------------------------------------------------------------------------


def test_looking_at_the_source_plans_its_parts(run, source):
    made = run()

    assert made.fingerprint == source.fingerprint()
    assert made.plan == PartPlan(10, 45)


def test_the_checkpoint_of_a_fresh_upload_has_only_what_is_fixed(run, clock, source):
    wanted = run(options=ObjectOptions(content_type="a/b", acl="private")).new_checkpoint()

    assert wanted == Checkpoint(
        "memory://bucket",
        "key",
        "/a/file",
        source.fingerprint(),
        10,
        options={"content_type": "a/b"},
        created=clock.now(),
    )


def test_the_checkpoint_of_a_stream_says_how_its_parts_grow(run):
    assert run(source=StreamSource(io.BytesIO(), name="dump")).new_checkpoint().parts_per_doubling == 1000


def test_a_run_has_the_name_of_its_checkpoint(run):
    made = run()

    assert made.name == made.new_checkpoint().name == checkpoint_name("memory://bucket", "key", "/a/file")


def test_a_run_has_a_description(run):
    assert run().description == "/a/file to key in memory://bucket"
    assert run(source=StreamSource(io.BytesIO())).description == "the stream to key in memory://bucket"


@pytest.mark.parametrize(
    "settings", [{"resume": "never"}, {"store": None}, {"source": StreamSource(io.BytesIO())}], ids=str
)
def test_what_can_not_be_resumed_has_no_store(run, settings):
    made = run(**settings)

    assert made.store is None
    assert not made.is_resumable


def test_an_impossible_part_size_is_reported_at_once(run):
    with pytest.raises(InvalidInput):
        run(part_size=2**60)


# --- the upload in flight --------------------------------------------------------------------------------------------


def test_what_is_adopted_counts_as_resumed(started_run):
    made = started_run()

    assert (made.ledger.parts_resumed, made.ledger.bytes_resumed) == (1, 10)
    assert made.upload_id == "ID"
    assert made.is_resumable


def test_a_snapshot_has_the_parts_of_this_instant(started_run):
    made = started_run()
    made.ledger.add(UploadedPart(1, 10, "E1"))

    assert [part.part_number for part in made.snapshot().parts] == [1, 2]


def test_without_an_upload_there_is_no_snapshot(run):
    assert run().snapshot() is None


def test_what_was_cleared_is_gone(started_run):
    made = started_run()
    made.clear()

    assert made.snapshot() is None
    assert (made.ledger.bytes_done, made.ledger.plan) == (0, made.plan)
    assert not made.is_resumable


def test_an_upload_that_was_not_initiated_is_not_resumable(run):
    made = run()
    made.checkpoint = made.new_checkpoint()

    assert not made.is_resumable


def test_a_limit_is_shared_by_as_many_workers_as_there_are(run):
    flow = run(bandwidth_limit=1000, concurrency=3).new_transfer_state()

    assert (flow.limit.rate, flow.shares) == (1000, 3)
    assert run().new_transfer_state().limit is None


# --- requests beside the parts ---------------------------------------------------------------------------------------


def failing(*errors):
    left = list(errors)

    def attempt():
        if left:
            raise left.pop(0)
        return "done"

    return attempt


def test_a_request_is_retried_until_it_succeeds(run, clock):
    assert run().retry("head_object", failing(ConnectionFailed(), Throttled(retry_after=20.0))) == "done"
    assert clock.waits == [0.5, 20.0]


def test_a_request_is_attempted_as_often_as_a_part(run, clock):
    errors = [ConnectionFailed(str(n)) for n in range(5)]
    with pytest.raises(ConnectionFailed) as caught:
        run(max_attempts=3).retry("head_object", failing(*errors))

    assert caught.value is errors[2]
    assert clock.waits == [0.5, 1.0]


def test_a_request_that_is_refused_is_not_retried(run, clock):
    with pytest.raises(AccessDenied):
        run().retry("head_object", failing(AccessDenied()))

    assert clock.waits == []


@pytest.mark.parametrize("mode", ["pause", "cancel"])
def test_a_stop_request_ends_the_wait(run, clock, mode):
    made = run()
    clock.meanwhile = getattr(made.control, mode)

    with pytest.raises(StopRequested, match=mode):
        made.retry("head_object", failing(ConnectionFailed()))


def test_the_source_is_compared_with_what_it_was(run, source):
    made = run()
    made.check_source()
    source.touch()

    with pytest.raises(SourceChanged, match="/a/file to key in memory://bucket changed during the upload") as caught:
        made.check_source()
    assert caught.value.source == "/a/file"


# --- records and warnings --------------------------------------------------------------------------------------------


def test_a_part_is_recorded(started_run, store):
    made = started_run()
    store.save(made.checkpoint)
    made.record.append_part(made.upload_id, UploadedPart(1, 10, "E1"))

    assert store.load(made.name).parts == (UploadedPart(1, 10, "E1"),)


def test_a_part_that_can_not_be_recorded_is_reported_once(started_run, store, monkeypatch):
    made = started_run()

    def refuse(name, upload_id, part):
        raise CheckpointUnwritable(f"disk full at part {part.part_number}")

    monkeypatch.setattr(store, "append_part", refuse)
    made.record.append_part(made.upload_id, UploadedPart(1, 10, "E1"))
    made.record.append_part(made.upload_id, UploadedPart(3, 10, "E3"))

    assert made.warnings == ["progress could not be recorded: disk full at part 1"]


def test_without_a_store_nothing_is_recorded(run):
    made = run(store=None)
    made.record.append_part("ID", UploadedPart(1, 10, "E1"))

    assert made.warnings == []


def test_warnings_are_logged_with_what_they_are_about(started_run, caplog):
    with caplog.at_level(logging.WARNING, "partwise"):
        started_run().warn("something is odd")
    [record] = caplog.records

    assert (record.getMessage(), record.key, record.upload_id) == ("key: something is odd", "key", "ID")


def test_before_initiate_the_log_names_no_upload(run):
    assert run().log_fields() == {"key": "key", "upload_id": None, "part_number": None}


def test_the_log_names_an_upload_that_has_ended(started_run):
    """By the time that is logged there is no upload any more."""
    made = started_run()
    made.log_fields()
    made.clear()

    assert made.log_fields(3) == {"key": "key", "upload_id": "ID", "part_number": 3}


def test_a_checkpoint_that_can_not_be_written_is_one_warning_in_a_run(run):
    made = run()
    made.warn("a")
    for number in (1, 2):
        made.record.warn_unwritten(CheckpointUnwritable(f"disk full {number}"))
    made.warn("a")

    assert made.warnings == ["a", "progress could not be recorded: disk full 1", "a"]


# --- the bandwidth limit ---------------------------------------------------------------------------------------------


def test_all_that_one_run_sends_shares_one_limit(run):
    """Parts that are sent again after a refusal, too."""
    made = run(bandwidth_limit=100)

    assert made.new_transfer_state().limit is made.new_transfer_state().limit
    assert made.transfer.limit.rate == 100


def test_without_a_limit_there_is_none(run):
    assert run().new_transfer_state().limit is None


# --- progress --------------------------------------------------------------------------------------------------------


@pytest.fixture
def reporting(started_run):
    """A started run, and what it reports."""
    seen = []
    return started_run(on_progress=seen.append), seen


def test_bytes_in_flight_count_as_done_but_not_as_acknowledged(reporting):
    made, seen = reporting
    made.new_transfer_state().set_sent(1, 7)
    made.emit_progress()

    assert (seen[0].bytes_done, seen[0].bytes_acknowledged, seen[0].bytes_resumed) == (17, 10, 10)


def test_bytes_that_have_to_be_sent_again_do_not_reduce_progress(reporting):
    made, seen = reporting
    made.new_transfer_state().set_sent(1, 7)
    made.emit_progress()
    made.transfer.set_sent(1, 0)
    made.emit_progress()

    assert [at.bytes_done for at in seen] == [17, 17]


def test_100_percent_is_not_reported_before_it_is_stored(reporting):
    """All bytes may have left without having arrived."""
    made, seen = reporting
    made.new_transfer_state().set_sent(1, 35)
    made.emit_progress()

    assert [at.bytes_done for at in seen] == [10]

    for number, size in ((1, 10), (3, 10), (4, 10), (5, 5)):
        made.ledger.add(UploadedPart(number, size, "E"))
    made.transfer.remove_part(1)
    made.emit_progress()
    assert all(at.bytes_done < 45 for at in seen)

    made.emit_progress(completed=True)
    assert (seen[-1].bytes_done, seen[-1].completed) == (45, True)


def test_time_is_counted_from_the_beginning_of_the_run(reporting, clock):
    made, seen = reporting
    clock.time += 4.0
    made.emit_progress()

    assert seen[0].elapsed == 4.0


def test_what_the_callback_raises_is_distinguished(started_run):
    def refuse(at):
        raise LookupError("enough")

    with pytest.raises(CallbackRaised) as caught:
        started_run(on_progress=refuse).emit_progress()

    assert isinstance(caught.value.__cause__, LookupError)


# --- progress during a wait ------------------------------------------------------------------------------------------


def test_progress_is_reported_at_the_interval_during_a_wait(started_run, clock):
    seen = []
    made = started_run(on_progress=seen.append, progress_interval=0.5)
    made.retry("head_object", failing(ConnectionFailed(), Throttled(retry_after=1.75)))

    assert [(at.elapsed, at.retries) for at in seen] == [(0.5, 2), (1.0, 2), (1.5, 2)]
    assert {(at.bytes_done, at.parts_done, at.checkpoint.upload_id) for at in seen} == {(10, 1, "ID")}
    assert clock.time == 1002.25


def test_a_wait_is_as_long_as_it_is_if_the_callback_is_slow(started_run, clock):
    def report(at):
        clock.time += 0.4

    started_run(on_progress=report, progress_interval=0.5).wait(2.0)

    assert clock.time == pytest.approx(1002.0)


def test_a_wait_ends_if_the_clock_does_not_advance(started_run, clock, monkeypatch):
    seen = []
    monkeypatch.setattr(clock, "wait", lambda event, seconds: False)
    started_run(on_progress=seen.append).wait(2.0)

    assert len(seen) == pytest.approx(10, abs=1)


def test_a_wait_without_an_interval_between_reports_ends(started_run, clock):
    seen = []
    started_run(on_progress=seen.append, progress_interval=0).wait(1.0)

    assert clock.time == pytest.approx(1001.0)
    assert len(seen) == pytest.approx(20, abs=1)


def test_without_a_callback_a_wait_is_one_wait(run, clock):
    run().wait(60.0)

    assert clock.waits == [60.0]


def test_a_stop_request_ends_a_wait_that_is_reported(started_run, clock):
    made = started_run(on_progress=lambda at: None)
    clock.meanwhile = made.control.pause

    with pytest.raises(StopRequested, match="pause"):
        made.wait(60.0)
    assert len(clock.waits) == 1


def test_what_the_callback_raises_ends_a_wait(started_run):
    def refuse(at):
        raise LookupError("enough")

    with pytest.raises(CallbackRaised):
        started_run(on_progress=refuse).wait(60.0)


def test_a_clean_up_does_not_report_its_waits(started_run, clock):
    """The callback could end it."""
    seen = []
    made = started_run(on_progress=seen.append)
    made.ignore_stop_requests()
    made.wait(60.0)

    assert (seen, clock.waits) == ([], [60.0])


def test_recorded_parts_are_not_reported_before_they_were_compared_with_the_storage(started_run, clock):
    seen = []
    made = started_run(on_progress=seen.append)
    made.is_decided = False
    made.wait(0.5)
    assert seen == [], "whether it is resumed is not known, and nothing is to be said"
    made.status.failing(clock.time - 2, "no connection to HOST", None)
    made.wait(0.5)

    assert {(at.bytes_done, at.bytes_total, at.parts_done, at.checkpoint) for at in seen} == {(0, 45, 0, None)}
    assert all(at.waiting for at in seen)


# --- an outage -------------------------------------------------------------------------------------------------------


def test_an_outage_is_in_the_report(reporting, clock):
    made, seen = reporting
    made.status.set_in_flight(3)
    made.status.failing(clock.time, "no connection to HOST", clock.time + 300)
    clock.time += 12
    made.emit_progress()
    made.status.recovered(clock.time)
    made.emit_progress()

    assert [at.waiting for at in seen] == [Waiting("no connection to HOST", 12.0, 288.0), None]
    assert [at.parts_in_flight for at in seen] == [3, 3]


def log_of(caplog):
    return [(record.levelname, record.getMessage().partition("bucket: ")[2]) for record in caplog.records]


def test_an_outage_is_logged_once_and_so_is_its_end(started_run, clock, caplog):
    made = started_run(retry_max=4.0)
    error = ConnectionFailed("no connection to HOST: refused")
    with caplog.at_level(logging.INFO, "partwise"):
        made.retry("head_object", failing(*[error] * 5))

    assert [entry for entry in log_of(caplog) if "retrying in" not in entry[1]] == [
        ("WARNING", "retrying: no connection to HOST, giving up in 296 s"),
        ("INFO", "recovered after 9.5 s"),
    ]
    assert {(record.key, record.upload_id) for record in caplog.records} == {("key", "ID")}


def test_an_outage_is_logged_in_time_if_progress_is_reported(started_run, clock, caplog):
    """The next attempt may be seconds away."""
    made = started_run(on_progress=lambda at: None)
    with caplog.at_level(logging.INFO, "partwise"):
        made.retry("head_object", failing(ConnectionFailed("no connection to HOST"), Throttled(retry_after=20.0)))

    assert [text for level, text in log_of(caplog) if level == "WARNING"] == [
        "retrying: the storage throttles requests, giving up in 298 s"
    ]


def test_a_failure_of_a_moment_is_not_logged_as_an_outage(started_run, caplog):
    with caplog.at_level(logging.INFO, "partwise"):
        started_run().retry("head_object", failing(ConnectionFailed(), ConnectionFailed()))

    assert [level for level, _ in log_of(caplog)] == ["INFO", "INFO"]


def test_a_part_that_fails_while_others_are_in_flight_is_not_an_outage(started_run, clock):
    made = started_run()
    made.status.set_in_flight(3)
    for _ in range(2):
        made.patience.next_delay(clock.time, 1, Throttled())
        made.report_retry("upload_part", Throttled(), 1.0, 1, 3)
        clock.time += 3
    assert made.status.waiting(clock.time) is None
    made.status.set_in_flight(0)
    made.report_retry("upload_part", Throttled(), 1.0, 1, 3)

    assert made.status.waiting(clock.time) is not None


def test_many_parts_that_fail_in_a_row_are_an_outage(started_run, clock):
    made = started_run()
    made.status.set_in_flight(3)
    for _ in range(2):
        made.patience.next_delay(clock.time, 1, ConnectionFailed())
        made.report_retry("upload_part", ConnectionFailed(), 1.0, 1, 3)
    clock.time += 3

    assert made.status.waiting(clock.time) is not None


@pytest.mark.parametrize("moves", [True, False])
def test_an_outage_ends_with_a_response(started_run, moves):
    """To a question, too, if nothing but the question had failed."""
    made = started_run()
    made.retry("head_object", failing(*[ConnectionFailed()] * 5), moves=moves)

    assert made.status.reason is None


def test_an_outage_does_not_end_with_a_response_to_a_question(started_run, clock):
    """While what the upload waits for fails."""
    made = started_run()
    made.patience.next_delay(clock.time, 1, ConnectionFailed())
    made.report_retry("complete_upload", ConnectionFailed("no connection to HOST"), 1.0, 1)
    made.retry("head_object", failing(ConnectionFailed()), moves=False)

    assert made.status.reason is not None


def test_an_outage_without_a_time_to_give_up_is_logged_without(started_run, clock, caplog):
    made = started_run()
    made.status.failing(clock.time, "no connection to HOST", None)
    made.status.announce(clock.time + 3)

    assert log_of(caplog) == [("WARNING", "retrying: no connection to HOST")]


def test_an_outage_after_the_last_part_is_reported_and_100_percent_is_not(reporting, clock):
    made, seen = reporting
    for number, size in ((1, 10), (3, 10), (4, 10), (5, 5)):
        made.ledger.add(UploadedPart(number, size, "E"))
    made.emit_progress()
    assert seen == []
    made.status.failing(clock.time - 2, "no connection to HOST", None)
    made.emit_progress()

    [at] = seen
    assert (at.bytes_done, at.bytes_total, at.bytes_acknowledged, at.parts_done) == (44, 45, 44, 5)
    assert at.waiting is not None


def test_an_outage_is_reported_of_a_stream_whose_bytes_were_all_reported(run, clock):
    seen = []
    made = run(source=StreamSource(io.BytesIO(), name="dump"), on_progress=seen.append)
    made.ledger = Ledger(made.plan)
    made.ledger.add(UploadedPart(1, 10, "E"))
    made.emit_progress()
    made.ledger.plan = PartPlan(10, 10)
    made.status.failing(clock.time - 2, "no connection to HOST", None)
    made.emit_progress()
    made.emit_progress(completed=True)

    assert [(at.bytes_done, at.bytes_total, at.parts_total) for at in seen] == [
        (10, None, None),
        (10, None, None),
        (10, 10, 1),
    ]


def test_the_end_has_neither_an_outage_nor_parts_in_flight(reporting, clock):
    made, seen = reporting
    made.status.set_in_flight(2)
    made.status.failing(clock.time - 10, "no connection to HOST", None)
    made.emit_progress(completed=True)

    assert (seen[0].waiting, seen[0].parts_in_flight) == (None, 0)
