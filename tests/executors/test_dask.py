"""Parts sent by the worker processes of a `dask.distributed` cluster, to OSS over HTTP."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from partwise import UploadFailed
from partwise.testing.oss_server.faults import Fail, ServerFault

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are killed by signals here")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two workers, each a process with one thread, which a nanny starts anew if it dies."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        local_directory=str(tmp_path_factory.mktemp("dask")),
        env={"PYTHONPATH": path},
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)
        yield client


def workers(client):
    return {info["pid"]: address for address, info in client.run(lambda: {"pid": os.getpid()}).items()}


def test_parts_are_read_and_sent_by_the_workers_and_receipts_come_home(client, scene):
    result = scene.upload(client.get_executor())

    assert scene.stored() == scene.data
    assert (result.parts_sent, result.verified) == (12, True)
    assert scene.senders() <= set(workers(client))
    assert scene.senders("CompleteMultipartUpload") == {os.getpid()}


def test_a_worker_that_is_killed_in_mid_part_costs_that_part_s_attempt_and_nothing_else(client, scene, meanwhile):
    """The cluster hands the part to another worker; the upload does not notice."""
    held = scene.hold(4)

    def kill_in_mid_part():
        held.wait_for()
        [victim] = {pid for pid, address in workers_busy(client) if address}
        os.kill(victim, signal.SIGKILL)

    with meanwhile(kill_in_mid_part):
        result = scene.upload(client.get_executor())

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
