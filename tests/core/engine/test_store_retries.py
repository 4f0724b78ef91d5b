"""Transient errors of the store are retried like those of the storage, and a part is recorded with the next one."""

from __future__ import annotations

import logging
import queue
from contextlib import contextmanager

import pytest

from partwise._engine.record import CheckpointRecord
from partwise.errors import (
    CheckpointBusy,
    CheckpointError,
    CheckpointUnwritable,
    ClaimLost,
    UploadCancelled,
    UploadFailed,
    UploadPaused,
)
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing.fakes import LeasedCheckpointStore
from partwise.testing.faults import Fault, FaultKind


def unreachable(operation, *occurrences, part_number=None):
    return [Fault(operation, FaultKind.UNREACHABLE, number, part_number=part_number) for number in occurrences]


class Down(MemoryCheckpointStore):
    """A store that can't be reached while `down`, for the methods that are named."""

    def __init__(self, *methods):
        super().__init__()
        self.down, self.methods, self.calls = True, methods, []

    def _answer(self, method):
        self.calls.append(method)
        if self.down and method in self.methods:
            raise CheckpointUnwritable(f"{method}: no connection to the database", retryable=True)

    @contextmanager
    def claim(self, name):
        self._answer("claim")
        with super().claim(name):
            yield

    def load(self, name):
        self._answer("load")
        return super().load(name)

    def save(self, checkpoint):
        self._answer("save")
        super().save(checkpoint)

    def append_part(self, name, upload_id, part):
        self._answer(f"append_part {part.part_number}")
        super().append_part(name, upload_id, part)

    def delete(self, name, upload_id):
        self._answer("delete")
        super().delete(name, upload_id)


# --- calls that are retried ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["claim", "load", "save", "delete"])
def test_a_call_that_fails_for_a_moment_is_made_again(faulty, source, store, backend, operation):
    result = faulty(*unreachable(operation, 1, 2)).upload(source, "key")

    assert result.retries == 2
    assert result.warnings == ()
    assert backend.read("key") == source.data
    assert list(store.scan()) == []


def test_a_check_of_the_claim_that_fails_for_a_moment_is_made_again(faulty, source):
    result = faulty(*unreachable("check_claim", 1, 3), store=LeasedCheckpointStore()).upload(source, "key")

    assert (result.retries, result.warnings) == (2, ())


def test_a_check_of_the_claim_before_a_small_object_is_attempted_as_often_as_any_other_call(faulty, source):
    """Both the check and the request are retried, and not one within the other."""
    faults = unreachable("check_claim", 2, 3, 4)  # the first one is before the record of an earlier upload is deleted
    made = faulty(*faults, store=LeasedCheckpointStore(), max_attempts=3, multipart_threshold=100)
    with pytest.raises(CheckpointError):
        made.upload(source, "key")

    assert [call.operation for call in made.store.plan.calls].count("check_claim") == 4


def test_an_abort_retries_the_store(faulty, interrupted, source, store, backend):
    interrupted(source)
    faults = [fault for operation in ("claim", "load", "delete") for fault in unreachable(operation, 1)]
    assert faulty(*faults).abort(source, "key")

    assert list(store.scan()) == []
    assert backend.uploads == {}


@pytest.mark.parametrize("operation", ["claim", "load", "save"])
def test_the_run_gives_up_when_its_patience_ends(uploader, source, clock, backend, operation):
    before = clock.monotonic()
    with pytest.raises(CheckpointUnwritable, match=f"{operation}: no connection") as caught:
        uploader(store=Down(operation), give_up_after=30).upload(source, "key")

    assert 30 <= clock.monotonic() - before < 31
    assert caught.value.retryable
    assert "give_up_after" in caught.value.hint
    assert backend.calls["initiate_upload"] == 0


def test_a_checkpoint_that_can_t_be_deleted_costs_ten_seconds_and_a_warning(uploader, source, clock):
    before = clock.monotonic()
    result = uploader(store=Down("delete"), give_up_after=300).upload(source, "key")

    assert 10 <= clock.monotonic() - before < 11
    assert result.verified
    assert len(result.warnings) == 1
    assert result.warnings[0].startswith("the checkpoint could not be deleted: delete: no connection to the database")


@pytest.mark.parametrize("operation", ["claim", "load"])
@pytest.mark.parametrize("request_stop", ["pause", "cancel"])
def test_a_stop_that_is_requested_before_the_checkpoint_is_loaded_keeps_what_an_earlier_run_has_sent(
    uploader, source, clock, operation, request_stop
):
    tasks = queue.SimpleQueue()

    def stop():
        getattr(tasks.get(timeout=30), request_stop)()

    clock.meanwhile = stop
    tasks.put(task := uploader(store=Down(operation)).start(source, "key"))
    error = {"pause": UploadPaused, "cancel": UploadCancelled}[request_stop]
    with pytest.raises(error, match="What an earlier run has sent is kept"):
        task.result(30)


def test_a_store_that_is_defective_when_it_loads_keeps_what_an_earlier_run_has_sent(uploader, source):
    class Defective(MemoryCheckpointStore):
        def load(self, name):
            raise KeyError(name)

    with pytest.raises(UploadFailed, match="What an earlier run has sent is kept") as caught:
        uploader(store=Defective()).upload(source, "key")
    assert isinstance(caught.value.__cause__, KeyError)


def test_the_error_of_a_callback_during_that_propagates(uploader, source):
    class CallbackBroke(Exception):
        pass

    def report(progress):
        assert progress.waiting.reason == "claim: no connection to the database"
        raise CallbackBroke

    with pytest.raises(CallbackBroke):
        uploader(store=Down("claim")).upload(source, "key", progress=report)


@pytest.mark.parametrize("kind", [CheckpointBusy, ClaimLost])
def test_a_claim_is_never_waited_for(uploader, source, clock, kind):
    """Not even if the store says that a retry may help."""

    class Busy(MemoryCheckpointStore):
        @contextmanager
        def claim(self, name):
            raise kind("taken", retryable=True)
            yield

    with pytest.raises(CheckpointBusy):
        uploader(store=Busy()).upload(source, "key")
    assert clock.waits == []


def test_each_attempt_to_claim_enters_another_context(uploader, source, clock):
    """Those of a generator can be entered once."""
    store = Down("claim")
    clock.meanwhile = lambda: setattr(store, "down", False)

    assert uploader(store=store).upload(source, "key").verified
    assert store.calls[:3] == ["claim", "claim", "load"]


# --- parts that are recorded later -----------------------------------------------------------------------------------


def test_a_part_that_can_t_be_recorded_for_a_moment_is_recorded_with_the_next_one(uploader, source, backend):
    store = Down("append_part 1", "append_part 2")
    states = []

    def report(progress):
        store.down = progress.parts_done < 3
        states.append([part.part_number for one in MemoryCheckpointStore.scan(store) for part in one.parts])

    result = uploader(store=store).upload(source, "key", progress=report)

    assert result.warnings == ()
    appended = [call for call in store.calls if call.startswith("append_part")]
    assert appended == [f"append_part {number}" for number in (1, 1, 1, 1, 2, 3, 4, 5)]
    assert [1, 2, 3, 4] in states


def test_while_parts_can_t_be_recorded_the_store_is_called_once_for_each(uploader, source):
    """A call may take long, and the parts in flight wait for it."""
    store = Down(*(f"append_part {number}" for number in range(1, 6)))
    result = uploader(store=store).upload(source, "key")

    appended = [call for call in store.calls if call.startswith("append_part")]
    assert appended == ["append_part 1"] * 6, "one for each part, and one before the object is made"
    assert len(result.warnings) == 1
    assert result.warnings[0].startswith("progress could not be recorded: append_part 1: no connection")


def then(store, action):
    """Let the store be reachable again after its first failure, and call `action` then."""
    original = store.append_part

    def append_part(*args):
        try:
            original(*args)
        except CheckpointError:
            store.down = False
            action()
            raise

    store.append_part = append_part
    return store


def test_a_part_that_was_not_recorded_is_recorded_before_the_object_is_made(uploader, source):
    store = then(Down("append_part 5"), lambda: None)
    result = uploader(store=store).upload(source, "key")

    assert result.warnings == ()
    assert store.calls[-3:] == ["append_part 5", "append_part 5", "delete"]


def test_parts_that_were_not_recorded_are_forgotten_with_the_upload_that_the_storage_lost(faulty, source, backend):
    """The record is that of the next upload by then, so the store would refuse them as those of another run."""
    store, fault = Down("append_part 1"), Fault("upload_part", FaultKind.FORGOTTEN_UPLOAD, part_number=2)
    save = store.save

    def reachable_again(checkpoint):
        store.down = not any(call.startswith("append_part") for call in store.calls)
        save(checkpoint)

    store.save = reachable_again
    result = faulty(fault, store=store).upload(source, "key")

    assert (backend.read("key"), result.parts_sent) == (source.data, 5)


def test_a_part_that_was_not_recorded_is_recorded_when_the_run_fails(faulty, source):
    store = then(Down("append_part 2"), lambda: None)
    with pytest.raises(UploadFailed) as caught:
        faulty(Fault("upload_part", FaultKind.PERMANENT, part_number=3), store=store).upload(source, "key")

    [checkpoint] = store.scan()
    assert [part.part_number for part in checkpoint.parts] == [1, 2]
    assert caught.value.warnings == ()


def test_a_part_that_was_not_recorded_is_recorded_when_the_run_is_paused(uploader, source):
    tasks = queue.SimpleQueue()
    store = then(Down("append_part 2"), lambda: tasks.get(timeout=30).pause())
    tasks.put(task := uploader(store=store).start(source, "key"))
    with pytest.raises(UploadPaused) as caught:
        task.result(30)

    [checkpoint] = store.scan()
    assert [part.part_number for part in checkpoint.parts] == [1, 2]
    assert caught.value.warnings == ()


def test_a_part_that_can_t_be_recorded_at_all_is_a_warning_and_is_not_tried_again(faulty, source):
    plan_faults = [Fault("append_part", FaultKind.BEFORE, part_number=2)]
    result = faulty(*plan_faults).upload(source, "key")

    assert len(result.warnings) == 1
    assert result.warnings[0].startswith("progress could not be recorded: InjectedFault")


# --- what is not known -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FaultKind.BEFORE, FaultKind.AFTER])
@pytest.mark.parametrize("occurrence", [1, 2])
def test_after_a_save_that_failed_nothing_is_left_whether_or_not_it_took_effect(
    faulty, source, left_behind, kind, occurrence
):
    with pytest.raises(CheckpointError):
        faulty(Fault("save", kind, occurrence)).upload(source, "key")

    left = left_behind()
    # The first save is that of an upload that does not exist yet: its record says so, and the next run replaces it.
    assert left == [] or (occurrence, kind) == (1, FaultKind.AFTER)


@pytest.mark.parametrize(
    ("error", "shown"),
    [(CheckpointError("the connection broke"), "the connection broke"), (KeyError("row"), "KeyError: 'row'")],
    ids=["an error", "a defect"],
)
def test_a_claim_that_can_t_be_released_does_not_change_the_outcome(uploader, source, caplog, error, shown):
    """The object is stored, and is not uploaded again for it."""

    class Unreleased(MemoryCheckpointStore):
        @contextmanager
        def claim(self, name):
            yield
            raise error

    with caplog.at_level(logging.WARNING, "partwise"):
        result = uploader(store=Unreleased()).upload(source, "key")

    assert result.verified
    assert f"its claim could not be released: {shown}" in caplog.text


class RaisesAgain(MemoryCheckpointStore):
    """A store whose claim raises what ended the run."""

    def claim(self, name):
        class Claim:
            def __enter__(self):
                pass

            def __exit__(self, kind, error, trace):
                if error is not None:
                    raise error

        return Claim()


def test_the_error_of_a_run_that_the_claim_raises_again_is_no_failure_to_release_it(uploader, source, caplog):
    class Unreadable(RaisesAgain):
        def load(self, name):
            raise CheckpointError("it can't be read", retryable=False)

    with caplog.at_level(logging.WARNING, "partwise"), pytest.raises(CheckpointError, match="it can't be read"):
        uploader(store=Unreadable()).upload(source, "key")

    assert "could not be released" not in caplog.text


def test_the_error_of_a_callback_that_the_claim_raises_again_is_no_failure_to_release_it(uploader, source, caplog):
    def broken(progress):
        raise ValueError("the callback's own")

    with caplog.at_level(logging.WARNING, "partwise"), pytest.raises(ValueError, match="the callback's own"):
        uploader(store=RaisesAgain()).upload(source, "key", progress=broken)

    assert "could not be released" not in caplog.text


def test_a_claim_that_can_t_be_released_does_not_hide_the_error_of_the_run(faulty, source):
    class Unreleased(MemoryCheckpointStore):
        @contextmanager
        def claim(self, name):
            try:
                yield
            finally:
                raise CheckpointError("the connection broke")

    with pytest.raises(UploadFailed):
        faulty(Fault("upload_part", FaultKind.PERMANENT), store=Unreleased()).upload(source, "key")


# --- which record is deleted -----------------------------------------------------------------------------------------


class OtherRecord(MemoryCheckpointStore):
    """A store with the record of another run, which this run still claims, or no longer does."""

    def __init__(self, *, is_lost):
        super().__init__()
        self.is_lost, self.deleted = is_lost, []

    def delete(self, name, upload_id):
        self.deleted.append(upload_id)
        if upload_id == "ID":
            raise ClaimLost("it has another record")

    def check_claim(self, name):
        if self.is_lost and self.deleted:
            raise ClaimLost("another run holds it")


def a_record(store):
    record = CheckpointRecord(
        store, "name", retry=lambda _, attempt, **__: attempt(), warn=lambda _: None, log_delay=lambda _: None
    )
    record.upload_ids = ("ID", None)  # after a save that failed
    return record


def test_after_a_save_that_failed_the_record_is_deleted_whichever_it_is():
    store = OtherRecord(is_lost=False)
    record = a_record(store)
    record.delete()

    assert (store.deleted, record.upload_ids) == (["ID", None], (None,))


def test_the_claim_is_checked_before_the_record_is_deleted_by_another_id():
    """That of an upload that was not initiated yet may be the record of the run that holds the claim now."""
    store = OtherRecord(is_lost=True)
    with pytest.raises(ClaimLost, match="another run holds it"):
        a_record(store).delete()

    assert store.deleted == ["ID"]
