"""An OSS server, a file to upload, and coordinator processes that can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Event

import pytest

from partwise import TransferConfig, Uploader
from partwise.backends.memory import MemoryBackend
from partwise.backends.oss import Credentials
from partwise.model import KIB
from partwise.server.faults import ServerFault
from partwise.server.settings import AccessKey, ServerSettings
from partwise.stores.file import FileCheckpointStore
from partwise.testing import OSSServer, pseudo_random_bytes

HERE = str(Path(__file__).parent)
PART = 100 * KIB
PARTS = 12
SECRET = "hunter2-of-this-test"
TIMEOUT = 30.0


@pytest.fixture(scope="module")
def importable():
    """Let worker processes import the modules next to the tests; spawned processes inherit the path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)
        yield


class Hold:
    """An effect that holds requests back before their body is read, until they are released."""

    def __init__(self):
        self._reached = SimpleQueue()
        self._released = Event()

    def before(self, exchange):
        self._reached.put(int(exchange.request.header("user-agent") or 0))
        assert self._released.wait(TIMEOUT)

    def after(self, exchange, response):
        return response

    def wait_for(self, requests=1):
        """Wait until this many more requests are held; return the ids of the processes that sent them."""
        return [self._reached.get(timeout=TIMEOUT) for _ in range(requests)]

    def release(self):
        self._released.set()


class Scenario:
    """A file that is uploaded over HTTP, with an executor that sends its parts."""

    def __init__(self, directory, server, storage):
        from named_backend import NamedBackend

        self.server = server
        self.secret = SECRET
        self.data = pseudo_random_bytes(PART * PARTS)
        self.file = directory / "backup.tar"
        self.file.write_bytes(self.data)
        self.checkpoints = directory / "checkpoints"
        self._storage = storage
        self._held = []
        self.backend = NamedBackend(
            "examplebucket",
            endpoint=server.endpoint,
            region=server.region,
            credentials=Credentials(server.access_key_id, SECRET),
        )

    def uploader(self, executor, **config):
        """Return an uploader that sends four parts of 100 KiB in parallel by `executor`."""
        config = TransferConfig(part_size=PART, multipart_threshold=0, concurrency=4, retry_base=0.01, **config)
        return Uploader(self.backend, store=FileCheckpointStore(self.checkpoints), config=config, executor=executor)

    def upload(self, executor, **config):
        """Upload the file."""
        return self.uploader(executor, **config).upload(self.file, "key")

    def start(self, executor):
        """Upload the file in the background."""
        return self.uploader(executor).start(self.file, "key")

    def stored(self):
        """Return the stored object."""
        return self._storage.read("key")

    def senders(self, operation="UploadPart"):
        """Return the ids of the processes that sent requests of this operation."""
        return {int(request.headers["user-agent"]) for request in self.server.requests_of(operation)}

    def acknowledged(self, sender=None):
        """Return the numbers of the acknowledged parts (sent by this process), in the order of the responses."""
        return [
            request.part_number
            for request in self.server.requests_of("UploadPart")
            if request.status == 200 and sender in (None, int(request.headers["user-agent"]))
        ]

    def wait_until_recorded(self, numbers):
        """Wait until these parts are in the checkpoint."""
        store, deadline = FileCheckpointStore(self.checkpoints), time.monotonic() + TIMEOUT
        while not set(numbers) <= {part.part_number for checkpoint in store.scan() for part in checkpoint.parts}:
            assert time.monotonic() < deadline, "the parts were not recorded in time"
            time.sleep(0.01)

    def hold(self, occurrence, times=1):
        """Hold this many parts, from this occurrence of UploadPart on."""
        self._held.append(Hold())
        self.server.plan(ServerFault("UploadPart", self._held[-1], occurrence=occurrence, times=times))
        return self._held[-1]

    def close(self):
        for held in self._held:
            held.release()
        self.backend.close()


@pytest.fixture
def scenario(importable, tmp_path):
    storage = MemoryBackend()
    settings = ServerSettings(access_keys=(AccessKey("id", SECRET),))
    with OSSServer(buckets={"examplebucket": storage}, settings=settings) as server:
        scenario = Scenario(tmp_path, server, storage)
        try:
            yield scenario
        finally:
            scenario.close()


@pytest.fixture
def meanwhile():
    """Run a function in another thread; its exception propagates."""

    @contextmanager
    def run(action):
        with ThreadPoolExecutor(1) as thread:
            done = thread.submit(action)
            yield
            done.result(TIMEOUT)

    return run


_COORDINATOR = f"""
import signal
import sys
from partwise import TransferConfig, Uploader
from partwise.backends.oss import Credentials
from partwise.stores.file import FileCheckpointStore
from named_backend import NamedBackend

def interrupt(*_):
    print("interrupted", flush=True)
    raise KeyboardInterrupt

if __name__ == "__main__":
    signal.signal(signal.SIGINT, interrupt)
    endpoint, region, secret, file, checkpoints = sys.argv[1:]
    backend = NamedBackend(
        "examplebucket", endpoint=endpoint, region=region, credentials=Credentials("id", secret)
    )
    config = TransferConfig(part_size={PART}, multipart_threshold=0, concurrency=2)
    MAKE_EXECUTOR
    store = FileCheckpointStore(checkpoints)
    Uploader(backend, store=store, config=config, executor=executor).upload(file, "key")
"""


@pytest.fixture
def coordinator(scenario, tmp_path):
    """
    Start the same upload, with two parts in parallel, in another process. `make_executor` is the code that makes its
    executor. The process leads a process group, which is killed when the test ends. It reports an interrupt on stdout.
    """
    started, server = [], scenario.server

    def start(make_executor):
        script = tmp_path / "coordinator.py"
        script.write_text(_COORDINATOR.replace("MAKE_EXECUTOR", make_executor))
        path = os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")])
        process = subprocess.Popen(
            [
                sys.executable,
                script,
                server.endpoint,
                server.region,
                SECRET,
                scenario.file,
                scenario.checkpoints,
            ],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the test kills it
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        finally:
            process.wait()
            process.stdout.close()
