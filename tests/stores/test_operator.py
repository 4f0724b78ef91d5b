"""An operator of a scheduler: a worker that is killed, and another one that resumes its upload."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import forked
import pytest

from partwise import TransferConfig, UploadFailed
from partwise.backends.memory import MemoryBackend
from partwise.model import KIB, MIB
from partwise.registry import open_checkpoint_store
from partwise.testing import OSSServer
from partwise.testing.fakes import pseudo_random_bytes

PAGE = Path(__file__).parent.parent.parent / "docs" / "containers-and-cron.md"
PART = 128 * KIB
PARTS = 16

WORKER = """
import json, sys
from operator_of_the_page import UploadOperator
import partwise

source, target, store, bandwidth = sys.argv[1:]
config = partwise.TransferConfig(
    part_size=131072, multipart_threshold=0, concurrency=1, bandwidth_limit=int(bandwidth) or None
)
print(json.dumps(UploadOperator(source, target, store, config=config).execute({"try_number": 1})))
"""


def code_of_the_page():
    """Return the block with the operator."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    [code] = [block for block in blocks if "class UploadOperator" in block]
    return code


@pytest.fixture
def operator():
    """The class of the page."""
    names = {}
    exec(code_of_the_page(), names)
    return names["UploadOperator"]


class CountingBucket(MemoryBackend):
    """A bucket that counts how often each part arrived."""

    def __init__(self):
        super().__init__()
        self.arrived = Counter()

    def upload_part(self, key, upload_id, part_number, body):
        part = super().upload_part(key, upload_id, part_number, body)
        self.arrived[part_number] += 1
        return part


@pytest.fixture
def bucket():
    return CountingBucket()


@pytest.fixture
def server(bucket):
    with OSSServer(buckets={"examplebucket": bucket}) as server:
        yield server


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "backup.tar"
    path.write_bytes(pseudo_random_bytes(PARTS * PART - 5))
    return path


@pytest.fixture
def start_worker(tmp_path, server, source):
    """Start a worker, a process in a directory of its own."""
    modules = (
        "partwise.backends.oss",
        "partwise.stores.sqlite",
        "partwise.stores.postgres",
        "partwise.stores._postgres",
    )
    workers = []

    def start(store_url, *, bandwidth=0):
        home = tmp_path / f"worker {len(workers)}"
        home.mkdir()
        (home / "operator_of_the_page.py").write_text(code_of_the_page())
        environment = {
            **os.environ,
            "HOME": str(home),
            "XDG_STATE_HOME": str(home),
            "OSS_ENDPOINT": server.endpoint,
            "OSS_REGION": server.region,
            "OSS_ACCESS_KEY_ID": server.access_key_id,
            "OSS_ACCESS_KEY_SECRET": server.access_key_secret,
        }
        arguments = (source, "oss://examplebucket/backup.tar", store_url, str(bandwidth))
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        worker = forked.start_code(WORKER, *arguments, modules=modules, cwd=home, env=environment, **streams)
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        worker.kill()
        worker.communicate()


def recorded(store_url):
    """Return the numbers of the parts that are recorded."""
    store = open_checkpoint_store(store_url)
    try:
        return {part.part_number for checkpoint in store.scan() for part in checkpoint.parts}
    finally:
        store.close()


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request, tmp_path):
    """The place of the checkpoints, which both workers reach."""
    if request.param == "sqlite":
        (tmp_path / "volume").mkdir(mode=0o700)
        yield f"sqlite:///{tmp_path}/volume/uploads.db"
    else:
        postgres = request.getfixturevalue("postgres")
        with postgres.new_schema() as schema:
            yield postgres.url(schema=schema)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
def test_another_worker_resumes_after_kill_9_and_sends_no_part_twice(start_worker, bucket, source, store_url):
    first = start_worker(store_url, bandwidth=MIB)
    wait_until(lambda: sum(bucket.arrived.values()) >= 3 or first.poll() is not None)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL, first.communicate()[1]
    kept = recorded(store_url)
    assert len(kept) >= 2

    for _ in range(20):
        second = start_worker(store_url)
        out, err = second.communicate(timeout=60)
        if "CheckpointBusy" not in err:  # the database has not noticed yet that the first one is gone: a retry
            break
        time.sleep(0.05)

    assert second.returncode == 0, err
    assert bucket.read("backup.tar") == source.read_bytes()
    result = json.loads(out)
    assert result["verified"]
    assert result["bytes_resumed"] >= len(kept) * PART
    assert set(bucket.arrived) == set(range(1, PARTS + 1))
    # A part that had arrived and was not recorded yet is found in the list of the storage. One that was in flight when
    # the worker was killed may have been cut anywhere.
    assert {number for number in kept if bucket.arrived[number] > 1} == set()
    assert bucket.arrived.total() <= PARTS + 1
    assert recorded(store_url) == set()


def test_a_permanent_error_is_not_retried_and_a_transient_one_is(operator, tmp_path, source):
    class NoRetry(Exception):
        """As AirflowFailException."""

    store = f"sqlite:///{tmp_path}/uploads.db"
    with pytest.raises(NoRetry, match="missing"):
        operator(tmp_path / "missing", f"file://{tmp_path}/bucket/key", store, permanent=NoRetry).execute({})

    config = TransferConfig(max_attempts=1)
    nowhere = operator(source, "oss://examplebucket/key", store, config=config, permanent=NoRetry)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "OSS_ENDPOINT": "http://127.0.0.1:9",
            "OSS_REGION": "cn-hangzhou",
            "OSS_ACCESS_KEY_ID": "x",
            "OSS_ACCESS_KEY_SECRET": "y",
        }.items():
            environment.setenv(name, value)
        with pytest.raises(UploadFailed) as caught:
            nowhere.execute({})
    assert caught.value.retryable


def test_the_operator_returns_plain_data_and_needs_nothing_of_the_context(operator, tmp_path, source):
    store = f"sqlite:///{tmp_path}/uploads.db"
    result = operator(source, f"file://{tmp_path}/bucket/key", store).execute({})

    assert json.loads(json.dumps(result)) == result
    assert (result["size"], result["verified"]) == (source.stat().st_size, True)
