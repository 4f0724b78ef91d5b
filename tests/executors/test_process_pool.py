"""Parts sent by the processes of a `ProcessPoolExecutor`, to OSS over HTTP."""

from __future__ import annotations

import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from partwise import UploadFailed

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


def test_a_worker_that_is_killed_takes_its_pool_along_and_the_next_run_carries_on_with_another(pool, scene, meanwhile):
    """`concurrent.futures` gives up a pool that lost a process; what had been acknowledged by then is kept."""
    held, executor = scene.hold(4), pool(1)

    def kill_in_mid_part():
        held.wait_for()
        [worker] = executor._processes
        os.kill(worker, signal.SIGKILL)

    with meanwhile(kill_in_mid_part), pytest.raises(UploadFailed) as caught:
        scene.upload(executor)
    before = scene.answered()
    result = scene.upload(pool(2))

    assert (caught.value.resumable, caught.value.parts_done) == (True, 3)
    assert "the executor takes no more work" in str(caught.value)
    assert (result.parts_resumed, result.parts_sent) == (3, 9)
    assert not set(before) & set(scene.answered()[3:]), "no part that was acknowledged is sent again"
    assert scene.stored() == scene.data


def test_a_coordinator_that_is_killed_is_carried_on_by_the_next_one(pool, scene, coordinator):
    held = scene.hold(5, times=2)
    process = coordinator(
        "from concurrent.futures import ProcessPoolExecutor; from multiprocessing import get_context;"
        " executor = ProcessPoolExecutor(2, get_context('spawn'))"
    )
    held.wait_for(2)
    process.kill()
    process.wait()
    before = scene.answered()
    result = scene.upload(pool(2))

    assert scene.stored() == scene.data
    assert len(before) == 4
    assert not set(before) & set(scene.answered()[4:]), "no part that was acknowledged is sent again"
    assert (result.parts_resumed, result.parts_sent) == (4, 8)
