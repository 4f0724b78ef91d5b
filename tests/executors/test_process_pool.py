"""Parts sent to OSS by the processes of a `ProcessPoolExecutor`."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from partwise import SourceChanged, UploadCancelled, UploadFailed, UploadPaused
from partwise.server.faults import Fail, ServerFault

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are killed by signals here")


@pytest.fixture(scope="module")
def context(importable):
    """Starts processes by forks of one that has imported what they need; the coordinators below start their own."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["named_backend", "partwise._engine.workers"])
    return context


@pytest.fixture
def pool(context):
    """A pool of one process, for a test that kills it."""
    with ProcessPoolExecutor(1, context) as pool:
        yield pool


@pytest.fixture(scope="module")
def workers(context):
    """A pool of two processes, which all tests of this module use one after the other."""
    with ProcessPoolExecutor(2, context) as pool:
        yield pool


def test_workers_read_and_send_the_parts_and_the_results_return(workers, scenario):
    result = scenario.upload(workers)

    assert scenario.stored() == scenario.data
    assert (result.parts_sent, result.verified) == (12, True)
    assert scenario.senders() <= set(workers._processes)
    assert scenario.senders("CompleteMultipartUpload") == {os.getpid()}


def test_a_part_that_the_storage_failed_is_retried(workers, scenario):
    scenario.server.plan(ServerFault("UploadPart", Fail("InternalError"), occurrence=3))

    assert scenario.upload(workers).parts_sent == 12
    assert scenario.stored() == scenario.data


def test_a_killed_worker_breaks_its_pool_and_the_next_run_resumes_with_another_pool(pool, workers, scenario, meanwhile):
    """`concurrent.futures` gives up a pool that lost a process; the acknowledged parts are kept."""
    held = scenario.hold(4)

    def kill_in_mid_part():
        [worker] = held.wait_for()
        os.kill(worker, signal.SIGKILL)

    with meanwhile(kill_in_mid_part), pytest.raises(UploadFailed) as caught:
        scenario.upload(pool)
    before = scenario.acknowledged()
    result = scenario.upload(workers)

    assert (caught.value.resumable, caught.value.parts_done) == (True, 3)
    assert isinstance(caught.value.__cause__.__cause__, BrokenExecutor)
    assert (result.parts_resumed, result.parts_sent) == (3, 9)
    assert not set(before) & set(scenario.acknowledged()[3:]), "an acknowledged part was sent again"
    assert scenario.stored() == scenario.data


_POOL = (
    "from concurrent.futures import ProcessPoolExecutor; from multiprocessing import get_context; import signal;"
    " executor = ProcessPoolExecutor(2, get_context('spawn'), signal.signal, (signal.SIGINT, signal.SIG_IGN))"
)


def test_the_next_coordinator_resumes_the_upload_of_a_killed_one(workers, scenario, coordinator):
    held = scenario.hold(5, times=2)
    process = coordinator(_POOL)
    held.wait_for(2)
    process.kill()
    process.wait()
    before = scenario.acknowledged()
    result = scenario.upload(workers)

    assert scenario.stored() == scenario.data
    assert len(before) == 4
    assert not set(before) & set(scenario.acknowledged()[4:]), "an acknowledged part was sent again"
    assert (result.parts_resumed, result.parts_sent) == (4, 8)


def test_a_ctrl_c_waits_for_the_parts_in_flight_and_records_them(workers, scenario, coordinator):
    """The whole process group gets the signal, as from a terminal; the workers ignore it."""
    held = scenario.hold(5, times=2)
    process = coordinator(_POOL)
    held.wait_for(2)
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout.readline() == b"interrupted\n"
    held.release()

    assert process.wait(60) == -signal.SIGINT
    before = scenario.acknowledged()
    assert sorted(before) == [1, 2, 3, 4, 5, 6]
    result = scenario.upload(workers)
    assert result.parts_resumed == len(before)
    assert scenario.stored() == scenario.data


def test_a_pause_waits_for_the_parts_in_flight_and_leaves_the_pool_usable(workers, scenario):
    held = scenario.hold(1, times=2)
    task = scenario.start(workers)
    held.wait_for(2)
    task.pause()
    with pytest.raises(TimeoutError):
        task.result(0.2)
    held.release()
    with pytest.raises(UploadPaused) as caught:
        task.result(60)
    before = scenario.acknowledged()
    result = scenario.upload(workers)

    assert caught.value.parts_done == len(before) >= 2
    assert (result.parts_resumed, result.parts_sent) == (len(before), 12 - len(before))
    assert scenario.stored() == scenario.data


def test_a_cancel_leaves_no_upload_behind(workers, scenario):
    held = scenario.hold(1, times=2)
    task = scenario.start(workers)
    held.wait_for(2)
    task.cancel()
    held.release()
    with pytest.raises(UploadCancelled):
        task.result(60)

    assert list(scenario.backend.list_uploads()) == []


class Pickling(Executor):
    """Runs each call at once, after a round trip through pickle; keeps the pickles in `given`."""

    def __init__(self):
        self.given = []

    def submit(self, call, /, *arguments):
        self.given.append(pickle.dumps((call, arguments)))
        call, arguments = pickle.loads(self.given[-1])
        future = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(call(*arguments))
        except Exception as error:  # noqa: BLE001  # as executors do
            future.set_exception(error)
        return future


def test_a_bandwidth_limit_is_divided_among_the_parallel_parts(scenario):
    """Workers in other processes can't count each other's bytes, but must keep the limit together."""
    executor = Pickling()
    scenario.upload(executor, bandwidth_limit=10**9)
    rates = {job.body._state.limit.rate for _, (job, *_) in map(pickle.loads, executor.given)}

    assert rates == {10**9 / 4}


def test_the_pickle_of_a_part_of_a_file_is_small(scenario):
    """It has the path and the range, not the bytes."""
    executor = Pickling()
    scenario.upload(executor)

    assert max(map(len, executor.given)) < 2048


def test_a_worker_with_another_file_under_the_path_fails_the_upload_which_stays_resumable(scenario):
    """As on a machine that does not share the file system."""

    class Elsewhere(Pickling):
        def submit(self, call, /, *arguments):
            if len(self.given) < 3:
                return super().submit(call, *arguments)
            status = scenario.file.stat()
            os.utime(scenario.file, ns=(0, 0))
            try:
                return super().submit(call, *arguments)
            finally:
                os.utime(scenario.file, ns=(status.st_atime_ns, status.st_mtime_ns))

    with pytest.raises(UploadFailed, match="is not the file that is being uploaded") as caught:
        scenario.upload(Elsewhere())

    assert caught.value.resumable
    assert scenario.acknowledged() == [1, 2, 3]
    assert scenario.upload(Pickling()).parts_resumed == 3
    assert scenario.stored() == scenario.data


def test_a_source_change_that_only_a_worker_detects_is_a_source_change(scenario):
    class Late(Pickling):
        def submit(self, call, /, *arguments):
            if not self.given:
                os.utime(scenario.file, ns=(0, 0))
            return super().submit(call, *arguments)

    with pytest.raises(SourceChanged):
        scenario.upload(Late())

    assert list(scenario.backend.list_uploads()) == []
