"""Parts sent by the processes of a `ProcessPoolExecutor`, to OSS over HTTP."""

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


@pytest.fixture
def pool():
    """Makes pools; their processes are gone when the test ends."""
    made = []

    def make(workers):
        made.append(ProcessPoolExecutor(workers, get_context("spawn")))
        return made[-1]

    yield make
    for executor in made:
        executor.shutdown(cancel_futures=True)


def test_parts_are_read_and_sent_by_the_workers_and_receipts_come_home(pool, scene):
    executor = pool(2)
    result = scene.upload(executor)

    assert scene.stored() == scene.data
    assert (result.parts_sent, result.verified) == (12, True)
    assert scene.senders() <= set(executor._processes)
    assert scene.senders("CompleteMultipartUpload") == {os.getpid()}


def test_a_part_that_the_storage_failed_is_sent_again(pool, scene):
    scene.server.plan(ServerFault("UploadPart", Fail("InternalError"), occurrence=3))

    assert scene.upload(pool(2)).parts_sent == 12
    assert scene.stored() == scene.data


def test_a_worker_that_is_killed_takes_its_pool_along_and_the_next_run_carries_on_with_another(pool, scene, meanwhile):
    """`concurrent.futures` gives up a pool that lost a process; what had been acknowledged by then is kept."""
    held, executor = scene.hold(4), pool(1)

    def kill_in_mid_part():
        [worker] = held.wait_for()
        os.kill(worker, signal.SIGKILL)

    with meanwhile(kill_in_mid_part), pytest.raises(UploadFailed) as caught:
        scene.upload(executor)
    before = scene.answered()
    result = scene.upload(pool(2))

    assert (caught.value.resumable, caught.value.parts_done) == (True, 3)
    assert isinstance(caught.value.__cause__.__cause__, BrokenExecutor)
    assert (result.parts_resumed, result.parts_sent) == (3, 9)
    assert not set(before) & set(scene.answered()[3:]), "no part that was acknowledged is sent again"
    assert scene.stored() == scene.data


_POOL = (
    "from concurrent.futures import ProcessPoolExecutor; from multiprocessing import get_context; import signal;"
    " executor = ProcessPoolExecutor(2, get_context('spawn'), signal.signal, (signal.SIGINT, signal.SIG_IGN))"
)


def test_a_coordinator_that_is_killed_is_carried_on_by_the_next_one(pool, scene, coordinator):
    held = scene.hold(5, times=2)
    process = coordinator(_POOL)
    held.wait_for(2)
    process.kill()
    process.wait()
    before = scene.answered()
    result = scene.upload(pool(2))

    assert scene.stored() == scene.data
    assert len(before) == 4
    assert not set(before) & set(scene.answered()[4:]), "no part that was acknowledged is sent again"
    assert (result.parts_resumed, result.parts_sent) == (4, 8)


def test_a_ctrl_c_waits_for_the_parts_under_way_and_records_them(pool, scene, coordinator):
    """The whole group gets it, as from a terminal; the workers were told to leave it to the coordinator."""
    held = scene.hold(5, times=2)
    process = coordinator(_POOL)
    held.wait_for(2)
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout.readline() == b"interrupted\n"
    held.let_go()

    assert process.wait(60) == -signal.SIGINT
    before = scene.answered()
    assert sorted(before) == [1, 2, 3, 4, 5, 6]
    result = scene.upload(pool(1))
    assert result.parts_resumed == len(before)
    assert scene.stored() == scene.data


def test_a_pause_waits_for_the_parts_under_way_and_leaves_the_pool_usable(pool, scene):
    held, executor = scene.hold(1, times=2), pool(2)
    task = scene.start(executor)
    held.wait_for(2)
    task.pause()
    with pytest.raises(TimeoutError):
        task.result(0.2)
    held.let_go()
    with pytest.raises(UploadPaused) as caught:
        task.result(60)
    before = scene.answered()
    result = scene.upload(executor)

    assert caught.value.parts_done == len(before) >= 2
    assert (result.parts_resumed, result.parts_sent) == (len(before), 12 - len(before))
    assert scene.stored() == scene.data


def test_a_cancel_leaves_nothing_behind(pool, scene):
    held, executor = scene.hold(1, times=2), pool(2)
    task = scene.start(executor)
    held.wait_for(2)
    task.cancel()
    held.let_go()
    with pytest.raises(UploadCancelled):
        task.result(60)

    assert list(scene.backend.list_uploads()) == []


class Pickling(Executor):
    """Does at once what it is given, as it comes out of a pickle; what it was given stays to be looked at."""

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


def test_a_bandwidth_limit_is_shared_out_among_the_parts_that_may_be_under_way(scene):
    """Workers in other processes can't see each other's bytes, and keep to the limit together all the same."""
    executor = Pickling()
    scene.upload(executor, bandwidth_limit=10**9)
    rates = {job.body._state.limit.rate for _, (job, *_) in map(pickle.loads, executor.given)}

    assert rates == {10**9 / 4}


def test_what_travels_for_a_part_of_a_file_is_small(scene):
    """The path and the range, not the bytes."""
    executor = Pickling()
    scene.upload(executor)

    assert max(map(len, executor.given)) < 2048


def test_a_worker_that_sees_another_file_under_the_path_fails_the_upload_and_costs_nothing(scene):
    """As on a machine that does not share the file system."""

    class Elsewhere(Pickling):
        def submit(self, call, /, *arguments):
            if len(self.given) < 3:
                return super().submit(call, *arguments)
            status = scene.file.stat()
            os.utime(scene.file, ns=(0, 0))
            try:
                return super().submit(call, *arguments)
            finally:
                os.utime(scene.file, ns=(status.st_atime_ns, status.st_mtime_ns))

    with pytest.raises(UploadFailed, match="is not the file that the upload was begun with") as caught:
        scene.upload(Elsewhere())

    assert caught.value.resumable
    assert scene.answered() == [1, 2, 3]
    assert scene.upload(Pickling()).parts_resumed == 3
    assert scene.stored() == scene.data


def test_a_change_of_the_source_that_a_worker_sees_first_is_one(scene):
    class Late(Pickling):
        def submit(self, call, /, *arguments):
            if not self.given:
                os.utime(scene.file, ns=(0, 0))
            return super().submit(call, *arguments)

    with pytest.raises(SourceChanged):
        scene.upload(Late())

    assert list(scene.backend.list_uploads()) == []
