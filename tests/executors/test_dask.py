"""Parts sent by the worker processes of a `dask.distributed` cluster, to OSS over HTTP."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import time
from multiprocessing import active_children

import pytest
from distributed import Client, LocalCluster

from partwise import UploadPaused
from partwise._engine.workers import PartJob
from partwise.server.faults import Fail, ServerFault
from partwise.sources import FileBody

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are killed by signals here")


@pytest.fixture(scope="module")
def cluster(importable, tmp_path_factory):
    """Two workers, each a process with one thread, which a nanny starts anew if it dies."""
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",
        local_directory=str(tmp_path_factory.mktemp("dask")),
    ) as cluster:
        yield cluster
    assert active_children() == []


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)
        yield client


def worker_pids(client):
    return set(client.run(os.getpid).values())


def test_parts_are_read_and_sent_by_the_workers_and_receipts_come_home(client, scene):
    result = scene.upload(client.get_executor())

    assert scene.stored() == scene.data
    assert (result.parts_sent, result.verified) == (12, True)
    assert scene.senders() <= worker_pids(client)
    assert scene.senders("CompleteMultipartUpload") == {os.getpid()}


def task_names(cluster):
    return {transition.key for transition in cluster.scheduler.transition_log}


def test_a_part_that_the_storage_failed_is_sent_again_as_another_task(cluster, client, scene):
    """Dask takes equal calls for one, and may answer the second attempt with the failure of the first."""
    before = task_names(cluster)
    scene.server.plan(ServerFault("UploadPart", Fail("InternalError"), occurrence=3, times=3))

    assert scene.upload(client.get_executor()).parts_sent == 12
    assert scene.stored() == scene.data
    assert len(task_names(cluster) - before) == 15


def test_a_worker_that_is_killed_in_mid_part_costs_that_part_s_attempt_and_nothing_else(client, scene, meanwhile):
    """
    The cluster hands the part to another worker; the upload does not notice. What a worker keeps of its results until
    the cluster has let go of them would be made again: this one has none left when it dies.
    """
    held = scene.hold(4)

    def kill_in_mid_part():
        [worker] = held.wait_for()
        scene.wait_until_recorded(scene.answered(worker))
        [address] = [address for address, pid in client.run(os.getpid).items() if pid == worker]
        deadline = time.monotonic() + 30
        while client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.workers[address].has_what)):
            assert time.monotonic() < deadline
        os.kill(worker, signal.SIGKILL)

    with meanwhile(kill_in_mid_part):
        result = scene.upload(client.get_executor(), max_attempts=1)

    assert scene.stored() == scene.data
    assert (result.parts_sent, result.parts_resumed) == (12, 0)
    assert sorted(scene.answered()) == list(range(1, 13)), "every part was sent to its end once"


def test_a_coordinator_that_is_killed_is_carried_on_by_the_next_one(cluster, client, scene, coordinator):
    """The cluster outlives it."""
    held = scene.hold(5, times=2)
    process = coordinator(
        f"from distributed import Client; executor = Client({cluster.scheduler_address!r}).get_executor()"
    )
    held.wait_for(2)
    process.kill()
    process.wait()
    before = scene.answered()
    held.let_go()
    result = scene.upload(client.get_executor())

    assert scene.stored() == scene.data
    assert len(before) == 4
    assert not set(before) & set(scene.answered()[4:]), "no part that was acknowledged is sent again"
    assert result.parts_resumed >= 4


def test_a_pause_waits_for_the_parts_under_way_and_leaves_the_cluster_usable(client, scene):
    """A future of Dask's can be "cancelled" while a worker is at it, which would go on unseen."""
    held, executor = scene.hold(1, times=2), client.get_executor()
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

    assert sorted(before) == [1, 2, 3, 4]
    assert caught.value.parts_done == 4
    assert (result.parts_resumed, result.parts_sent) == (4, 8)
    assert scene.stored() == scene.data


def test_secrets_are_in_no_log_and_in_no_name_of_a_task(cluster, client, scene, tmp_path, caplog):
    """Not even where a part fails, and the worker writes down what it was about."""

    def log_everything(path):
        logging.basicConfig(filename=f"{path}/worker-{os.getpid()}.log", level=logging.DEBUG, force=True)

    def log_as_before(path):
        logging.basicConfig(level=logging.WARNING, force=True)

    scene.server.plan(ServerFault("UploadPart", Fail("InternalError"), occurrence=3))
    client.run(log_everything, tmp_path)
    with caplog.at_level(logging.DEBUG):
        scene.upload(client.get_executor())
    client.run(log_as_before, tmp_path)
    of_workers = "".join(path.read_text() for path in tmp_path.glob("worker-*.log"))
    kept = f"{client.get_worker_logs()}{client.get_worker_logs(nanny=True)}{client.get_scheduler_logs()}"
    names = task_names(cluster)
    job = PartJob(scene.backend, "key", "UPLOAD", 1, FileBody(str(scene.file), 0, 10))
    shown = f"{job} {scene.backend.__reduce__()}"

    assert scene.secret.encode() in pickle.dumps(job), "that is how it gets to a worker"
    assert "part 1 of 'key'" in of_workers
    assert "Compute Failed" in kept
    assert "begins" in caplog.text
    assert sum(name.startswith("send_part-") for name in names) >= 12
    for text in (of_workers, kept, caplog.text, shown, *names):
        assert scene.secret not in text
