"""Parts sent to OSS by the worker processes of a `dask.distributed` cluster."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import time
from multiprocessing import active_children

import dask
import pytest
from distributed import Client, LocalCluster

from partwise import UploadPaused
from partwise._engine.workers import PartJob
from partwise.server.faults import Fail, ServerFault
from partwise.sources import FileBody

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are killed by signals here")


@pytest.fixture(scope="module")
def cluster(importable, tmp_path_factory):
    """
    Two workers, each a process with one thread, which a nanny restarts if it is killed.

    They are forked from a process that has imported Dask, which takes long.
    """
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            local_directory=str(tmp_path_factory.mktemp("dask")),
        ) as cluster,
    ):
        yield cluster
    assert active_children() == []


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)
        yield client


def worker_pids(client):
    return set(client.run(os.getpid).values())


def test_workers_read_and_send_the_parts_and_the_results_return(client, scenario):
    result = scenario.upload(client.get_executor())

    assert scenario.stored() == scenario.data
    assert (result.parts_sent, result.verified) == (12, True)
    assert scenario.senders() <= worker_pids(client)
    assert scenario.senders("CompleteMultipartUpload") == {os.getpid()}


def task_names(cluster):
    return {transition.key for transition in cluster.scheduler.transition_log}


def test_a_part_that_the_storage_failed_is_retried_as_another_task(cluster, client, scenario):
    """Dask treats equal calls as one task, and could return the failure of the first attempt for the second."""
    before = task_names(cluster)
    scenario.server.plan(ServerFault("UploadPart", Fail("InternalError"), occurrence=3, times=3))

    assert scenario.upload(client.get_executor()).parts_sent == 12
    assert scenario.stored() == scenario.data
    assert len(task_names(cluster) - before) == 15


def test_a_worker_killed_within_a_part_costs_one_attempt_of_that_part_only(client, scenario, meanwhile):
    """
    The cluster gives the part to another worker, and the upload does not notice. Dask would also recompute results that
    a killed worker still stores, so this one is killed when the cluster has released all of them.
    """
    held = scenario.hold(4)

    def kill_in_mid_part():
        [worker] = held.wait_for()
        scenario.wait_until_recorded(scenario.acknowledged(worker))
        [address] = [address for address, pid in client.run(os.getpid).items() if pid == worker]
        deadline = time.monotonic() + 30
        while client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.workers[address].has_what)):
            assert time.monotonic() < deadline
        os.kill(worker, signal.SIGKILL)

    with meanwhile(kill_in_mid_part):
        result = scenario.upload(client.get_executor(), max_attempts=1)

    assert scenario.stored() == scenario.data
    assert (result.parts_sent, result.parts_resumed) == (12, 0)
    assert sorted(scenario.acknowledged()) == list(range(1, 13)), "every part must be acknowledged once"


def test_the_next_coordinator_resumes_the_upload_of_a_killed_one(cluster, client, scenario, coordinator):
    """The cluster keeps running."""
    held = scenario.hold(5, times=2)
    process = coordinator(
        f"from distributed import Client; executor = Client({cluster.scheduler_address!r}).get_executor()"
    )
    held.wait_for(2)
    process.kill()
    process.wait()
    before = scenario.acknowledged()
    held.release()
    result = scenario.upload(client.get_executor())

    assert scenario.stored() == scenario.data
    assert len(before) == 4
    assert not set(before) & set(scenario.acknowledged()[4:]), "an acknowledged part was sent again"
    assert result.parts_resumed >= 4


def test_a_pause_waits_for_the_parts_in_flight_and_leaves_the_cluster_usable(client, scenario):
    """A Dask future can be cancelled while a worker runs its task, which then continues unnoticed."""
    held, executor = scenario.hold(1, times=2), client.get_executor()
    task = scenario.start(executor)
    held.wait_for(2)
    task.pause()
    with pytest.raises(TimeoutError):
        task.result(0.2)
    held.release()
    with pytest.raises(UploadPaused) as caught:
        task.result(60)
    before = scenario.acknowledged()
    result = scenario.upload(executor)

    assert sorted(before) == [1, 2, 3, 4]
    assert caught.value.parts_done == 4
    assert (result.parts_resumed, result.parts_sent) == (4, 8)
    assert scenario.stored() == scenario.data


def test_secrets_are_in_no_log_and_in_no_name_of_a_task(cluster, client, scenario, tmp_path, caplog):
    """Not even if a part fails, and the worker logs the failed task."""

    def log_everything(path):
        logging.basicConfig(filename=f"{path}/worker-{os.getpid()}.log", level=logging.DEBUG, force=True)

    def log_as_before(path):
        logging.basicConfig(level=logging.WARNING, force=True)

    scenario.server.plan(ServerFault("UploadPart", Fail("InternalError"), occurrence=3))
    client.run(log_everything, tmp_path)
    with caplog.at_level(logging.DEBUG):
        scenario.upload(client.get_executor())
    client.run(log_as_before, tmp_path)
    of_workers = "".join(path.read_text() for path in tmp_path.glob("worker-*.log"))
    kept = f"{client.get_worker_logs()}{client.get_worker_logs(nanny=True)}{client.get_scheduler_logs()}"
    names = task_names(cluster)
    job = PartJob(scenario.backend, "key", "UPLOAD", 1, FileBody(str(scenario.file), 0, 10))
    shown = f"{job} {scenario.backend.__reduce__()}"

    assert scenario.secret.encode() in pickle.dumps(job), "the worker needs the secret"
    assert "part 1 of 'key'" in of_workers
    assert "Compute Failed" in kept
    assert "started, as upload" in caplog.text
    assert sum(name.startswith("send_part-") for name in names) >= 12
    for text in (of_workers, kept, caplog.text, shown, *names):
        assert scenario.secret not in text
