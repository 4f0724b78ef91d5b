"""What programs call: `Uploader`, `UploadTask` and `upload`."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

import partwise
from partwise._engine.context import Runtime
from partwise._engine.plan import PartPlan
from partwise._engine.reconcile import Start
from partwise._engine.workers import InlineWorkers
from partwise.backends.local import LocalBackend
from partwise.backends.memory import MemoryBackend, open_url
from partwise.checkpoint import Checkpoint
from partwise.clock import default_random
from partwise.config import TransferConfig
from partwise.errors import (
    AccessDenied,
    BackendClosed,
    CannotResume,
    CheckpointBusy,
    CheckpointDamaged,
    InvalidInput,
    SourceChanged,
    UnknownScheme,
    UploadCancelled,
    UploadFailed,
    UploadPaused,
)
from partwise.explain import Explanation, PlannedPart, explain
from partwise.model import MIB, ObjectOptions, PartLimits
from partwise.registry import register_checkpoint_store
from partwise.results import Progress
from partwise.sources import StreamSource
from partwise.stores.file import FileCheckpointStore
from partwise.stores.memory import MemoryCheckpointStore
from partwise.stores.sqlite import SQLiteCheckpointStore
from partwise.testing.fakes import ChangingSource, pseudo_random_bytes
from partwise.testing.faults import Fault, FaultKind, FaultPlan
from partwise.testing.faulty import FaultyBackend
from partwise.uploader import Uploader, upload

SOON = 30  # seconds: what takes longer hangs


class Gate:
    """A bucket that holds back a part until it is opened, so that a test can act in mid-upload."""

    def __init__(self, inner, part_number=3):
        self._inner = inner
        self._part_number = part_number
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def upload_part(self, key, upload_id, part_number, body):
        if part_number == self._part_number:
            self.reached.set()
            assert self.opened.wait(SOON)
        return self._inner.upload_part(key, upload_id, part_number, body)


@pytest.fixture
def gate(backend):
    gate = Gate(backend)
    yield gate
    gate.opened.set()


@pytest.fixture
def threaded(store):
    """Makes an uploader with threads and the machine's clock."""

    def make(backend, **config):
        settings = {"part_size": 10, "multipart_threshold": 0, "concurrency": 1, "progress_interval": 0.005, **config}
        return Uploader(backend, store=store, config=TransferConfig(**settings))

    return make


# --- in the background -----------------------------------------------------------------------------------------------


def test_a_task_gives_the_result(threaded, backend, source):
    task = threaded(backend).start(source, "key")

    assert task.result(SOON).parts_sent == 5
    assert task.result() == task.result()
    assert task.done()
    assert repr(task) == "<UploadTask 'key' ended>"
    assert (task.progress.completed, task.progress.bytes_done) == (True, 45)
    assert backend.read("key") == source.data


def test_a_task_gives_what_upload_would_raise(threaded, backend):
    task = threaded(backend).start("/no/such/file", "key")

    with pytest.raises(partwise.SourceUnreadable):
        task.result(SOON)
    assert task.done()


def test_a_task_runs_while_its_caller_continues(threaded, gate, source):
    task = threaded(gate).start(source, "key")
    assert gate.reached.wait(SOON)

    assert not task.done()
    assert repr(task) == "<UploadTask 'key' running>"
    assert (task.progress.bytes_total, task.progress.parts_done) == (45, 2)
    with pytest.raises(TimeoutError, match=r"the upload is still running after 0.001 seconds"):
        task.result(0.001)

    gate.opened.set()
    assert task.result(SOON).verified


def test_a_timeout_of_the_callers_callback_is_not_mistaken_for_one_of_partwise(threaded, backend, source):
    def refuse(at):
        raise TimeoutError("my own")

    task = threaded(backend).start(source, "key", progress=refuse)

    with pytest.raises(TimeoutError, match="my own"):
        task.result(SOON)


def test_a_task_can_be_paused_and_resumed(threaded, gate, backend, source):
    task = threaded(gate).start(source, "key")
    assert gate.reached.wait(SOON)
    task.pause()
    gate.opened.set()
    with pytest.raises(UploadPaused) as caught:
        task.result(SOON)

    assert caught.value.resumable
    assert caught.value.parts_done == 2
    assert threaded(backend).start(source, "key").result(SOON).parts_resumed == 2


def test_a_task_can_be_cancelled(threaded, gate, source, left_behind):
    task = threaded(gate).start(source, "key")
    assert gate.reached.wait(SOON)
    task.cancel()
    gate.opened.set()
    with pytest.raises(UploadCancelled):
        task.result(SOON)

    assert left_behind() == []


def test_a_cancel_outranks_a_pause(threaded, gate, source, left_behind):
    task = threaded(gate).start(source, "key")
    assert gate.reached.wait(SOON)
    task.cancel()
    task.pause()
    gate.opened.set()
    with pytest.raises(UploadCancelled):
        task.result(SOON)

    assert left_behind() == []


def test_cancelling_one_task_touches_no_other(threaded, gate, backend, data):
    uploader = threaded(gate)
    one = uploader.start(ChangingSource(data, name="/one"), "one")
    other = uploader.start(ChangingSource(data, name="/other"), "other")
    assert gate.reached.wait(SOON)
    one.cancel()
    gate.opened.set()
    with pytest.raises(UploadCancelled):
        one.result(SOON)

    assert other.result(SOON).verified
    assert backend.keys() == ["other"]


@pytest.mark.parametrize("mode", ["pause", "cancel"])
def test_a_task_that_has_ended_can_not_be_stopped(threaded, backend, source, mode):
    task = threaded(backend).start(source, "key")
    task.result(SOON)
    getattr(task, mode)()

    assert task.result().verified
    assert backend.read("key") == source.data


def test_a_task_that_is_left_early_is_paused(threaded, gate, store, source):
    with threaded(gate).start(source, "key") as task:
        assert gate.reached.wait(SOON)
        threading.Timer(0.01, gate.opened.set).start()

    assert task.done()
    with pytest.raises(UploadPaused):
        task.result()
    assert len(list(store.scan())) == 1


def test_a_task_that_has_ended_is_left_as_it_is(threaded, backend, source):
    with threaded(backend).start(source, "key") as task:
        task.result(SOON)

    assert task.result().verified


def test_a_tasks_progress_reaches_the_callback_too(threaded, backend, source):
    seen = []
    task = threaded(backend).start(source, "key", progress=seen.append)
    task.result(SOON)

    assert seen[-1] is task.progress


def test_a_task_that_has_not_started_has_no_progress(threaded, gate, source):
    class Slow(ChangingSource):
        def fingerprint(self):
            assert gate.opened.wait(SOON)
            return super().fingerprint()

    task = threaded(gate).start(Slow(source.data), "key")
    before = task.progress
    gate.opened.set()
    task.result(SOON)

    assert before == Progress(0, None)


def test_an_interrupt_while_waiting_pauses_the_upload_and_waits_for_it(threaded, gate, source, monkeypatch):
    task = threaded(gate).start(source, "key")
    assert gate.reached.wait(SOON)
    wait = task._future.result

    def interrupted(timeout):
        monkeypatch.setattr(task._future, "result", wait)
        gate.opened.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(task._future, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        task.result(SOON)

    assert task.done()
    with pytest.raises(UploadPaused):
        task.result()


def test_a_program_can_end_while_a_task_runs(threaded, gate, source):
    """For the upload this is like any other crash, and it is resumable."""
    task = threaded(gate).start(source, "key")

    assert task._thread.daemon
    gate.opened.set()
    task.result(SOON)


# --- awaited ---------------------------------------------------------------------------------------------------------


def test_a_task_can_be_awaited(threaded, backend, source):
    async def main():
        return await threaded(backend).start(source, "key")

    assert asyncio.run(main()).verified


def test_a_task_can_be_awaited_by_many(threaded, backend, source):
    async def main():
        task = threaded(backend).start(source, "key")
        return await asyncio.gather(_wait(task), _wait(task))

    one, other = asyncio.run(main())
    assert one is other


async def _wait(task):
    return await task


def test_a_task_that_is_awaited_raises_what_upload_would(threaded, backend):
    async def main():
        await threaded(backend).start("/no/such/file", "key")

    with pytest.raises(partwise.SourceUnreadable):
        asyncio.run(main())


def test_giving_up_waiting_does_not_stop_the_upload(threaded, gate, source):
    async def main():
        task = threaded(gate).start(source, "key")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_wait(task), 0.01)
        assert not task.done()
        gate.opened.set()
        return await task

    assert asyncio.run(main()).verified


# --- in the foreground -----------------------------------------------------------------------------------------------


def test_one_uploader_serves_many_threads(threaded, backend, data):
    uploader = threaded(backend, concurrency=2)
    with ThreadPoolExecutor(4) as callers:
        results = list(
            callers.map(lambda n: uploader.upload(ChangingSource(data, name=f"/{n}"), f"key-{n}"), range(12))
        )

    assert all(result.verified for result in results)
    assert len(backend.keys()) == 12


def test_the_same_upload_twice_at_once_is_refused(threaded, gate, source):
    task = threaded(gate).start(source, "key")
    assert gate.reached.wait(SOON)
    with pytest.raises(CheckpointBusy):
        threaded(gate).upload(source, "key")

    gate.opened.set()
    task.result(SOON)


def test_the_default_store_is_opened_when_it_is_needed(backend, source, monkeypatch):
    opened = []
    monkeypatch.setattr(partwise.registry, "_registered", {})
    register_checkpoint_store("file", lambda url: opened.append(url) or MemoryCheckpointStore())
    uploader = Uploader(backend)
    assert opened == []

    uploader.upload(source, "key", resume="never")
    assert opened == []

    uploader.upload(source, "key")
    uploader.upload(source, "key")
    assert opened == ["file:"]


def test_a_store_can_be_given_by_its_url(backend, tmp_path):
    uploader = Uploader(backend, store=f"file://{tmp_path}/checkpoints")

    assert repr(uploader.store) == repr(FileCheckpointStore(tmp_path / "checkpoints"))
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("store", ["uploads.db", "nothing://here", "", "sqlite:", "file://elsewhere/dir"])
def test_the_url_of_a_store_is_checked_when_the_uploader_is_created(backend, store):
    with pytest.raises(InvalidInput):
        Uploader(backend, store=store)


def test_a_store_can_be_given_by_the_name_of_the_source(backend, store, source):
    names = []

    def store_of(name):
        names.append(name)
        return store

    uploader = Uploader(backend, store=store_of, config=TransferConfig(part_size=10, multipart_threshold=0))
    assert uploader.upload(source, "key").verified
    assert uploader.plan(source, "key").action == "start"
    assert not uploader.abort(source, "key")
    assert names == ["/a/file"] * 3
    assert uploader.store is store_of


def test_a_source_without_a_name_or_a_run_without_resume_needs_no_store(backend, source):
    uploader = Uploader(backend, store=lambda name: pytest.fail("no checkpoint is needed"))

    assert uploader.upload(io.BytesIO(b"bytes"), "key").verified
    assert uploader.upload(source, "key", resume="never").verified
    with pytest.raises(InvalidInput, match="has no name"):
        uploader.abort(io.BytesIO(b"bytes"), "key")


def test_a_store_opened_from_a_url_is_closed_with_the_uploader(backend, tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(SQLiteCheckpointStore, "close", lambda store: closed.append(type(store)))
    uploader = Uploader(backend, store=f"sqlite:///{tmp_path}/uploads.db")

    assert closed == []
    del uploader
    assert closed == [SQLiteCheckpointStore]


@pytest.mark.parametrize("returned", [None, "sqlite:///uploads.db", MemoryCheckpointStore])
def test_what_the_function_for_stores_returns_is_checked(backend, source, returned):
    with pytest.raises(InvalidInput, match="not a CheckpointStore"):
        Uploader(backend, store=lambda name: returned).upload(source, "key")


def test_the_class_of_a_store_is_not_a_function_that_returns_one(backend):
    with pytest.raises(InvalidInput, match="store must be a CheckpointStore"):
        Uploader(backend, store=FileCheckpointStore)


@pytest.mark.parametrize("method", ["upload", "start", "plan"])
def test_arguments_after_the_key_are_given_by_name(backend, method):
    with pytest.raises(TypeError):
        getattr(Uploader(backend), method)(b"x", "key", None)
    with pytest.raises(TypeError):
        Uploader(backend, None)


@pytest.mark.parametrize("wrong", [{"options": {}}, {"progress": 5}, {"options": 0}], ids=repr)
def test_start_refuses_arguments_of_the_wrong_type_at_the_call(backend, wrong):
    with pytest.raises(InvalidInput):
        Uploader(backend).start(b"x", "key", **wrong)


def test_the_repr_of_an_uploader_has_its_arguments(backend, store):
    shown = f"Uploader({backend!r}, store={store!r}, config={TransferConfig()!r})"
    assert repr(Uploader(backend, store=store)) == shown


def test_an_executor_sends_the_parts_and_is_not_shut_down(uploader, backend, source):
    with ThreadPoolExecutor(2) as executor:
        names = []
        upload_part = backend.upload_part

        def noting(*arguments):
            names.append(threading.current_thread().name)
            return upload_part(*arguments)

        backend.upload_part = noting
        uploader(executor=executor, concurrency=2).upload(source, "key")

        assert executor.submit(lambda: "alive").result() == "alive"
    assert all(name.startswith("ThreadPoolExecutor") for name in names)


def test_parts_can_be_sent_from_other_processes(store, tmp_path, data):
    backend = LocalBackend(tmp_path / "bucket")
    (tmp_path / "file").write_bytes(data)
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        config = TransferConfig(part_size=10, multipart_threshold=0, concurrency=2, bandwidth_limit=10**9)
        result = Uploader(backend, store=store, config=config, executor=executor).upload(tmp_path / "file", "key")

    assert (tmp_path / "bucket" / "key").read_bytes() == data
    assert result.parts_sent == 5


def test_an_executor_that_was_shut_down_fails_the_upload_and_keeps_it(uploader, source):
    class Tired(Executor):
        def __init__(self):
            self._inner = ThreadPoolExecutor(1)
            self._left = 2

        def submit(self, fn, /, *args, **kwargs):
            self._left -= 1
            if self._left < 0:
                self._inner.shutdown()
            return self._inner.submit(fn, *args, **kwargs)

    with pytest.raises(UploadFailed, match="the executor rejected part 3, which was not sent") as caught:
        uploader(executor=Tired()).upload(source, "key")

    assert (caught.value.resumable, caught.value.bytes_done) == (True, 20)


@pytest.fixture
def no_threads(monkeypatch):
    """No thread can be started."""

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_an_upload_works_without_any_thread(threaded, backend, source, no_threads):
    seen = []
    result = threaded(backend, concurrency=4).upload(source, "key", progress=seen.append)

    assert (result.parts_sent, seen[-1].completed) == (5, True)


def test_without_any_thread_a_pool_is_not_missed(backend, store, source, no_threads):
    config = TransferConfig(part_size=10, multipart_threshold=0, concurrency=2)
    with ThreadPoolExecutor(2) as executor:
        result = Uploader(backend, store=store, config=config, executor=executor).upload(source, "key")

    assert result.parts_sent == backend.calls["upload_part"] == 5


def test_without_threads_a_task_is_done_when_it_is_returned(threaded, backend, source, no_threads, caplog):
    seen = []
    with threaded(backend).start(source, "key", progress=seen.append) as task:
        assert task.done()

    assert task.result().verified
    assert seen[-1].completed
    assert (
        "no thread can be started: can't start new thread; the upload of key runs in the calling thread" in caplog.text
    )


def test_without_any_thread_a_task_in_an_event_loop_continues_without_its_coroutines(
    threaded, backend, source, no_threads
):
    started = []

    async def report(progress):
        started.append(progress)

    async def main():
        return await threaded(backend).start(source, "key", progress=report)

    assert asyncio.run(main()).verified
    assert started == []


def test_no_thread_is_left_behind(threaded, backend, source):
    before = set(threading.enumerate())  # threads of other tests may be ending
    threaded(backend, concurrency=4).upload(source, "key")

    assert set(threading.enumerate()) <= before


def test_threads_serve_until_the_upload_has_ended(threaded, backend, source):
    """Parts that turn out not to be on the storage are sent by those that sent the others."""
    complete = backend.complete_upload

    def lose_once(key, upload_id, parts, options):
        backend.complete_upload = complete
        del backend._storage.uploads[upload_id].parts[2]
        return complete(key, upload_id, parts, options)

    backend.complete_upload = lose_once
    threaded(backend).upload(source, "key")

    assert backend.read("key") == source.data


def test_a_single_put_starts_no_thread(threaded, backend, source, monkeypatch):
    monkeypatch.setattr("threading.Thread.start", None)

    assert threaded(backend, multipart_threshold=50).upload(source, "key").verified


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_permanent_failure_stops_the_other_parts(threaded, backend, concurrency):
    """Whatever they had sent by then is kept."""

    def refuse(key, upload_id, part_number, body):
        raise AccessDenied("no")

    backend.upload_part = refuse
    with pytest.raises(UploadFailed) as caught:
        threaded(backend, concurrency=concurrency).upload(ChangingSource(pseudo_random_bytes(400)), "key")

    assert (caught.value.resumable, caught.value.bytes_done) == (True, 0)


def test_a_bandwidth_limit_is_kept_to(uploader, backend, clock):
    """By the clock of the test: three pieces, of which the last takes its own time."""
    data = pseudo_random_bytes(3 * 4096)
    uploader(part_size=4096, bandwidth_limit=1024).upload(data, "key")

    assert clock.time == 1000.0 + 2 * 4
    assert backend.read("key") == data


def test_a_bandwidth_limit_applies_to_a_single_put_too(uploader, clock):
    uploader(multipart_threshold=2**20, bandwidth_limit=1024).upload(pseudo_random_bytes(3 * 4096), "key")

    assert clock.time == 1000.0 + 2 * 4


# --- progress --------------------------------------------------------------------------------------------------------


def test_progress_goes_from_zero_to_the_total(uploader, source):
    seen = []
    uploader().upload(source, "key", progress=seen.append)

    assert [at.bytes_done for at in seen] == [0, 10, 20, 30, 40, 45]
    assert {at.bytes_total for at in seen} == {45}
    assert [at.parts_done for at in seen] == [0, 1, 2, 3, 4, 5]
    assert {at.parts_total for at in seen} == {5}
    assert [at.completed for at in seen] == [False] * 5 + [True]
    assert [at.fraction for at in seen][-2:] == [40 / 45, 1.0]


def test_progress_begins_with_what_was_resumed(uploader, source, interrupted):
    interrupted(source)
    seen = []
    uploader().upload(source, "key", progress=seen.append)

    assert [(at.bytes_done, at.bytes_resumed) for at in seen] == [(20, 20), (30, 20), (40, 20), (45, 20)]


def test_completed_is_reported_only_once_the_object_is_stored(uploader, backend, source):
    there = []
    uploader().upload(source, "key", progress=lambda at: there.append((at.completed, bool(backend.keys()))))

    assert there == [(False, False)] * 5 + [(True, True)]


def test_completed_is_not_reported_for_an_object_with_wrong_bytes(faulty, source):
    seen = []
    with pytest.raises(UploadFailed):
        faulty(Fault("complete_upload", FaultKind.WRONG_CHECKSUM)).upload(source, "key", progress=seen.append)

    assert not any(at.completed for at in seen)


def test_a_single_put_is_reported_once_it_is_stored(uploader, source):
    seen = []
    uploader(multipart_threshold=50).upload(source, "key", progress=seen.append)

    assert [(at.bytes_done, at.bytes_total, at.completed) for at in seen] == [(45, 45, True)]


def test_the_progress_of_a_stream_has_a_total_once_its_end_was_seen(uploader, data):
    seen = []
    uploader().upload(io.BytesIO(data), "key", progress=seen.append)

    assert [at.bytes_total for at in seen] == [None] * 5 + [45]
    assert [at.fraction for at in seen] == [None] * 5 + [1.0]


def test_progress_has_the_elapsed_time(uploader, source, clock):
    class Taking(InlineWorkers):
        def next_outcome(self, timeout):
            clock.time += 2.0
            return super().next_outcome(timeout)

    seen = []
    uploader(new_workers=lambda: Taking(clock)).upload(source, "key", progress=seen.append)

    assert [at.elapsed for at in seen] == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    assert [at.rate for at in seen] == [0.0, 5.0, 5.0, 5.0, 5.0, 4.5]


def test_progress_is_reported_while_a_part_is_in_flight(threaded, gate, source):
    """From the bytes that the backend has taken."""
    ticked = threading.Event()

    def watch(at):
        if gate.reached.is_set():
            ticked.set()

    task = threaded(gate).start(source, "key", progress=watch)
    assert gate.reached.wait(SOON)

    assert ticked.wait(SOON)
    gate.opened.set()
    task.result(SOON)


@given(
    size=st.integers(1, 200),
    concurrency=st.integers(1, 5),
    faults=st.lists(
        st.builds(
            Fault,
            st.just("upload_part"),
            st.sampled_from([FaultKind.BEFORE, FaultKind.HALFWAY, FaultKind.AFTER, FaultKind.WRONG_CHECKSUM]),
            occurrence=st.integers(1, 12),
        ),
        max_size=4,
    ),
    stream=st.booleans(),
)
def test_progress_keeps_its_promises_whatever_fails(make_clock, size, concurrency, faults, stream):
    clock = make_clock()
    uploader = Uploader._with_runtime(
        Runtime(lambda: InlineWorkers(clock), clock, default_random()),
        FaultyBackend(MemoryBackend(limits=PartLimits()), FaultPlan(faults)),
        store=MemoryCheckpointStore(),
        config=TransferConfig(part_size=10, multipart_threshold=0, concurrency=concurrency),
    )
    seen = []
    source = (
        io.BytesIO(pseudo_random_bytes(size)) if stream else ChangingSource(pseudo_random_bytes(size), chunk_size=3)
    )
    uploader.upload(source, "key", progress=seen.append)
    done = [at.bytes_done for at in seen]

    assert done == sorted(done)
    assert all(at.bytes_total is None or at.bytes_done <= at.bytes_total for at in seen)
    assert [at.bytes_done == at.bytes_total for at in seen] == [at.completed for at in seen]
    assert [at.completed for at in seen] == [False] * (len(seen) - 1) + [True]


# --- the checkpoint in progress --------------------------------------------------------------------------------------


def test_a_checkpoint_can_be_carried_elsewhere(uploader, backend, source, data):
    """As in a database row or a job's payload: another process takes it from there."""
    rows = []
    uploader(concurrency=2).upload(source, "key", progress=lambda at: rows.append(_row(backend, at)))

    for row, storage, parts in rows:
        if row is None:
            continue
        store = MemoryCheckpointStore()
        store.save(Checkpoint.from_data(json.loads(row)))
        result = uploader(backend=storage, store=store).upload(source, "key")
        assert storage.read("key") == data
        assert result.parts_resumed == parts
    assert [row is None for row, *_ in rows] == [False] * 5 + [True]


def _row(backend, at):
    checkpoint = at.checkpoint
    return checkpoint and json.dumps(checkpoint.to_data()), backend.snapshot(), at.parts_done


def test_a_checkpoint_is_that_of_its_progress_whenever_it_is_requested(uploader, source):
    seen = []
    uploader().upload(source, "key", progress=seen.append)

    assert [len(at.checkpoint.parts) for at in seen[:-1]] == [0, 1, 2, 3, 4]
    assert [at.checkpoint.bytes_done for at in seen[:-1]] == [at.bytes_acknowledged for at in seen[:-1]]


def test_a_checkpoint_in_progress_is_the_one_in_the_store(uploader, store, source):
    same = []

    def compare(at):
        if at.checkpoint is not None:
            [stored] = store.scan()
            same.append(stored == at.checkpoint)

    uploader().upload(source, "key", progress=compare)

    assert same == [True] * 5


@pytest.mark.parametrize("how", ["never", "unnamed"])
def test_what_can_not_be_resumed_has_no_checkpoint(uploader, source, data, how):
    seen = []
    if how == "never":
        uploader().upload(source, "key", progress=seen.append, resume="never")
    else:
        uploader().upload(io.BytesIO(data), "key", progress=seen.append)

    assert {at.checkpoint for at in seen} == {None}


def test_a_finished_upload_has_no_checkpoint(uploader, source):
    seen = []
    uploader().upload(source, "key", progress=seen.append)

    assert seen[-1].checkpoint is None


# --- what would be done ----------------------------------------------------------------------------------------------


def sends(source, why="it was not sent yet"):
    plan = PartPlan(10, len(source.data))
    parts = [plan.part(number) for number in range(1, plan.parts_total + 1)]
    return tuple(PlannedPart(part.part_number, part.offset, part.size, "send", why) for part in parts)


def test_a_plan_of_a_fresh_upload(uploader, backend, source, left_behind):
    assert uploader().plan(source, "key") == Explanation("start", "", sends(source))
    assert backend.calls == {}
    assert left_behind() == []


@pytest.mark.parametrize(
    ("size", "threshold", "action"), [(0, 0, "put"), (19, 20, "put"), (20, 20, "start"), (12, 20, "put")]
)
def test_a_plan_says_what_is_a_single_put(uploader, size, threshold, action):
    assert uploader(multipart_threshold=threshold).plan(pseudo_random_bytes(size), "key").action == action


def test_a_plan_refuses_what_is_too_large_for_a_single_put(uploader, make_backend):
    backend = make_backend(limits=PartLimits(max_put_size=12))

    assert uploader(backend=backend, multipart_threshold=20).plan(pseudo_random_bytes(12), "key").action == "put"
    assert uploader(backend=backend, multipart_threshold=20).plan(pseudo_random_bytes(13), "key").action == "start"


def test_a_plan_of_a_resume_says_of_each_part_what_and_why(uploader, backend, source, interrupted):
    interrupted(source)
    before = backend.calls.copy()
    plan = uploader().plan(source, "key")

    assert (plan.action, plan.reason) == ("resume", "")
    assert plan.parts[2:] == sends(source)[2:]
    assert plan.parts[0] == PlannedPart(1, 0, 10, "keep", "recorded, and on the storage")
    assert backend.calls - before == {"list_parts": 1}


def test_a_plan_says_why_it_would_start_again(uploader, source, interrupted, left_behind):
    interrupted(source)
    source.touch()
    before = left_behind()
    plan = uploader().plan(source, "key")

    assert (plan.action, plan.reason) == ("start", "the source changed: it was modified")
    assert left_behind() == before


@pytest.mark.parametrize(
    ("mebibytes", "part_size", "reason"),
    [
        (100, "auto", "part size auto: parts of 1 MiB on a long line, where a request takes 30 ms or more"),
        (3000, "auto", "part size auto: parts of 3 MiB on a long line, where a request takes 30 ms or more"),
        (8 * 1024, "auto", ""),
        (1, "auto", ""),
        (100, 8 * MIB, ""),
    ],
)
def test_a_plan_says_that_parts_are_smaller_on_a_long_line(uploader, tmp_path, mebibytes, part_size, reason):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(mebibytes * MIB)
    plan = uploader(part_size=part_size).plan(tmp_path / "sparse", "key")

    assert (plan.action, plan.reason, plan.parts[0].size) == ("start", reason, min(8, mebibytes) * MIB)


@pytest.mark.parametrize(("seconds", "part_size", "parts"), [(0.02, "auto", 1), (0.05, "auto", 3), (0.05, 2 * MIB, 2)])
def test_parts_are_smaller_if_the_storage_responds_slowly(uploader, clock, seconds, part_size, parts):
    class Slow(MemoryBackend):
        def initiate_upload(self, key, options):
            clock.time += seconds
            return super().initiate_upload(key, options)

    seen = []
    uploader(backend=Slow("bucket"), part_size=part_size).upload(bytes(3 * MIB), "key", progress=seen.append)

    assert (seen[0].parts_total, seen[-1].parts_done) == (parts, parts)


def test_a_plan_to_start_again_has_both_reasons():
    plan = explain(Start("changed"), PartPlan(8 * MIB, 10 * MIB), limits=PartLimits(), config=TransferConfig())

    assert plan.reason == (
        "changed; part size auto: parts of 1 MiB on a long line, where a request takes 30 ms or more"
    )


def test_a_plan_reports_that_the_object_is_stored(faulty, uploader, source):
    with pytest.raises(UploadFailed):
        faulty(Fault("complete_upload", FaultKind.AFTER), Fault("head_object", FaultKind.PERMANENT)).upload(
            source, "key"
        )

    assert uploader().plan(source, "key").action == "done"


def test_a_plan_reports_an_unknown_outcome(faulty, make_backend, source):
    backend = make_backend(object_checksums=False, options=frozenset())
    with pytest.raises(UploadFailed):
        faulty(
            Fault("complete_upload", FaultKind.AFTER), Fault("head_object", FaultKind.PERMANENT), backend=backend
        ).upload(source, "key")

    assert faulty(backend=backend).plan(source, "key").action == "unknown"


def test_a_plan_of_a_stream_does_not_read_it(uploader, data):
    stream = io.BytesIO(data)

    assert uploader().plan(stream, "key") == Explanation("start", "", ())
    assert stream.tell() == 0


def test_a_plan_of_a_started_stream_has_the_number_of_its_parts(uploader, interrupted, data):
    interrupted(StreamSource(io.BytesIO(data), name="dump"))
    plan = uploader().plan(StreamSource(io.BytesIO(data), name="dump"), "key")

    assert (plan.action, plan.parts) == ("resume", ())
    assert "up to 2 parts are not sent again" in plan.reason


def test_a_plan_closes_its_source(uploader, data):
    closed = []

    class Closing(ChangingSource):
        def close(self):
            closed.append(self)

    uploader().plan(Closing(data), "key")

    assert len(closed) == 1


def test_a_defect_of_the_store_after_an_abort_propagates_as_it_was(uploader, store, source, interrupted, monkeypatch):
    """The store is asked once more for a damaged checkpoint, which it may have failed to remove."""
    interrupted(source)
    [saved] = store.scan()
    answers = [CheckpointDamaged("damaged", upload_id=saved.upload_id), LookupError("defective")]

    def load(name):
        raise answers.pop(0)

    monkeypatch.setattr(store, "load", load)
    with pytest.raises(LookupError, match="defective"):
        uploader().abort(source, "key")


def test_a_plan_takes_no_claim(uploader, store, source):
    with store.claim(_name(uploader(), source)):
        assert uploader().plan(source, "key").action == "start"


def test_a_plan_can_require_a_resume(uploader, source):
    with pytest.raises(CannotResume):
        uploader().plan(source, "key", resume="require")


def test_a_plan_refuses_what_an_upload_would(uploader, source):
    with pytest.raises(InvalidInput):
        uploader().plan(source, "")


def test_a_plan_that_reads_notices_a_change(uploader, source, interrupted):
    interrupted(source)
    changing = ChangingSource(source.data, changes={1: ChangingSource.touch}, chunk_size=3)

    with pytest.raises(SourceChanged):
        uploader(verify_source="content").plan(changing, "key")


# --- aborting unfinished uploads -------------------------------------------------------------------------------------


def _name(uploader, source):
    return partwise.checkpoint.checkpoint_name(uploader.backend.location, "key", source.name)


def test_an_unfinished_upload_can_be_aborted(uploader, source, interrupted, left_behind):
    interrupted(source)

    assert uploader().abort(source, "key")
    assert left_behind() == []


def test_only_the_upload_of_a_given_id_is_aborted(uploader, store, source, interrupted, left_behind):
    """Another run may have replaced it since its id was read."""
    upload_id = interrupted(source).upload_id
    before = left_behind()

    assert not uploader().abort(source, "key", upload_id="of an earlier upload")
    assert left_behind() == before != []
    assert uploader().abort(source, "key", upload_id=upload_id)
    assert left_behind() == []


def test_an_upload_that_is_not_there_can_not_be_aborted(uploader, backend, source):
    assert not uploader().abort(source, "key")
    assert backend.calls == {}


def test_an_upload_of_a_source_that_is_gone_can_be_aborted(uploader, tmp_path, data, interrupted, left_behind):
    path = tmp_path / "file"
    path.write_bytes(data)
    interrupted(path)
    path.unlink()

    assert uploader().abort(path, "key")
    assert left_behind() == []


def test_an_upload_that_the_storage_forgot_can_be_aborted(uploader, backend, source, interrupted, left_behind):
    backend.abort_upload("key", interrupted(source).upload_id)

    assert uploader().abort(source, "key")
    assert left_behind() == []


def test_an_upload_that_was_never_initiated_can_be_aborted(uploader, store, source, interrupted, left_behind):
    interrupted(source)
    [checkpoint] = store.scan()
    store.save(evolve(checkpoint, upload_id=None, parts=(), abandoned=(checkpoint.upload_id,)))

    assert uploader().abort(source, "key")
    assert left_behind() == []


def test_an_upload_whose_checkpoint_is_damaged_can_be_aborted(faulty, source, interrupted, left_behind):
    interrupted(source)

    assert faulty(Fault("load", FaultKind.DAMAGED)).abort(source, "key")
    assert left_behind() == []


def test_an_upload_that_the_storage_does_not_abort_is_kept(faulty, source, interrupted, left_behind):
    interrupted(source)
    before = left_behind()
    with pytest.raises(UploadFailed, match=r"could not be aborted.*Its checkpoint is kept") as caught:
        faulty(Fault("abort_upload", FaultKind.PERMANENT)).abort(source, "key")

    assert caught.value.resumable
    assert "could not be aborted" in caught.value.warnings[0]
    assert left_behind() == before


def test_an_upload_that_runs_is_not_aborted(uploader, store, source, interrupted, left_behind):
    interrupted(source)
    before = left_behind()
    with store.claim(_name(uploader(), source)), pytest.raises(CheckpointBusy):
        uploader().abort(source, "key")

    assert left_behind() == before


def test_an_upload_that_was_never_recorded_can_not_be_aborted(uploader):
    with pytest.raises(InvalidInput, match="was never recorded, since its source has no name"):
        uploader().abort(io.BytesIO(), "key")


# --- by URL ----------------------------------------------------------------------------------------------------------


def test_a_file_is_uploaded_to_a_url(tmp_path, store, data):
    (tmp_path / "file").write_bytes(data)
    target = tmp_path / "bucket" / "copy"
    result = upload(tmp_path / "file", target.as_uri(), store=store)

    assert target.read_bytes() == data
    assert (result.key, result.size) == ("copy", 45)


def test_all_arguments_are_passed_on(store, source, data):
    seen = []
    upload(
        source,
        "memory://uploader/key",
        store=store,
        config=TransferConfig(part_size=100 * 1024, multipart_threshold=0),
        options=ObjectOptions(content_type="a/b"),
        progress=seen.append,
        resume="never",
    )
    backend, _ = open_url("memory://uploader/key")

    assert backend.read("key") == data
    assert backend.describe("key").content_type == "a/b"
    assert seen[-1].completed


@pytest.mark.parametrize("url", ["memory://uploader", "memory://uploader/"])
def test_a_url_without_a_key_is_refused(store, url):
    with pytest.raises(InvalidInput, match="has no key after the bucket"):
        upload(b"", url, store=store)


def test_an_unknown_url_is_refused(store):
    with pytest.raises(UnknownScheme):
        upload(b"", "gopher://box/key", store=store)


@pytest.mark.parametrize("url", ["things:key", "things:"])
def test_the_backend_is_closed_however_it_ends(backend, store, monkeypatch, url):
    monkeypatch.setattr(partwise.registry, "_registered", {})
    partwise.register_backend("things", lambda url, **settings: (backend, url.partition(":")[2]))
    with suppress(InvalidInput):
        upload(b"", url, store=store)

    with pytest.raises(BackendClosed):
        backend.head_object("key")


def test_an_abort_that_the_storage_fails_tells_why_and_that_it_may_pass():
    class Unreachable(MemoryBackend):
        def abort_upload(self, key, upload_id):
            raise partwise.ConnectionFailed("no way there", hint="Pass {proxy}")

    backend, store = Unreachable(), MemoryCheckpointStore()
    config = TransferConfig(part_size=100 * 1024, multipart_threshold=0, max_attempts=1)
    uploader = Uploader(backend, store=store, config=config)

    def enough(progress):
        raise LookupError("enough")

    with pytest.raises(LookupError):
        uploader.upload(bytes(300 * 1024), "key", progress=enough)
    with pytest.raises(partwise.UploadFailed) as caught:
        uploader.abort(bytes(300 * 1024), "key")
    assert caught.value.retryable
    assert (caught.value.reason, caught.value.hint) == ("no way there", "Pass proxy=")
    assert len(list(store.scan())) == 1
