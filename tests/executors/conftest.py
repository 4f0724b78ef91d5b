"""An OSS over HTTP, a file on its way there, and coordinators that can be killed."""

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
PATIENCE = 30.0


@pytest.fixture(scope="module")
def importable():
    """What workers import by name lies beside the tests; processes that are spawned inherit the path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)
        yield


class Hold:
    """An effect that keeps requests waiting before their body is taken, until they are let go."""

    def __init__(self):
        self._reached = SimpleQueue()
        self._let_go = Event()

    def before(self, exchange):
        self._reached.put(int(exchange.request.header("user-agent") or 0))
        assert self._let_go.wait(PATIENCE)

    def after(self, exchange, answer):
        return answer

    def wait_for(self, requests=1):
        """Wait until so many more requests are being held; the processes that sent them."""
        return [self._reached.get(timeout=PATIENCE) for _ in range(requests)]

    def let_go(self):
        self._let_go.set()


class Scene:
    """A file that is uploaded over HTTP, its parts sent by some executor."""

    def __init__(self, place, server, storage):
        from named_backend import NamedBackend

        self.server = server
        self.secret = SECRET
        self.data = pseudo_random_bytes(PART * PARTS)
        self.file = place / "backup.tar"
        self.file.write_bytes(self.data)
        self.checkpoints = place / "checkpoints"
        self._storage = storage
        self._held = []
        self.backend = NamedBackend(
            "examplebucket",
            endpoint=server.endpoint,
            region=server.region,
            credentials=Credentials(server.access_key_id, SECRET),
        )

    def uploader(self, executor, **config):
        """Sends four parts of 100 KiB at once by `executor`."""
        config = TransferConfig(part_size=PART, multipart_threshold=0, concurrency=4, retry_base=0.01, **config)
        return Uploader(self.backend, FileCheckpointStore(self.checkpoints), config, executor)

    def upload(self, executor, **config):
        """Upload the file."""
        return self.uploader(executor, **config).upload(self.file, "key")

    def start(self, executor):
        """Upload the file in the background."""
        return self.uploader(executor).start(self.file, "key")

    def stored(self):
        """What the storage has under the key."""
        return self._storage.read("key")

    def senders(self, operation="UploadPart"):
        """The processes that requests of this kind came from."""
        return {int(request.headers["user-agent"]) for request in self.server.requests_of(operation)}

    def answered(self, sender=None):
        """The numbers of the parts (that this process sent) that were answered with success, in that order."""
        return [
            request.part_number
            for request in self.server.requests_of("UploadPart")
            if request.status == 200 and sender in (None, int(request.headers["user-agent"]))
        ]

    def wait_until_recorded(self, numbers):
        """Wait until the receipts of these parts are in the checkpoint."""
        store, deadline = FileCheckpointStore(self.checkpoints), time.monotonic() + PATIENCE
        while not set(numbers) <= {part.part_number for checkpoint in store.scan() for part in checkpoint.parts}:
            assert time.monotonic() < deadline, "they never were"
            time.sleep(0.01)

    def hold(self, occurrence, times=1):
        """Hold so many parts, beginning with this one of those to come."""
        self._held.append(Hold())
        self.server.plan(ServerFault("UploadPart", self._held[-1], occurrence=occurrence, times=times))
        return self._held[-1]

    def close(self):
        for held in self._held:
            held.let_go()
        self.backend.close()


@pytest.fixture
def scene(importable, tmp_path):
    storage = MemoryBackend()
    settings = ServerSettings(access_keys=(AccessKey("id", SECRET),))
    with OSSServer(buckets={"examplebucket": storage}, settings=settings) as server:
        scene = Scene(tmp_path, server, storage)
        try:
            yield scene
        finally:
            scene.close()


@pytest.fixture
def meanwhile():
    """Does something in another thread; what goes wrong there comes out."""

    @contextmanager
    def run(action):
        with ThreadPoolExecutor(1) as thread:
            done = thread.submit(action)
            yield
            done.result(PATIENCE)

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
    SETTING_UP
    Uploader(backend, FileCheckpointStore(checkpoints), config, executor).upload(file, "key")
"""


@pytest.fixture
def coordinator(scene, tmp_path):
    """
    Starts the same upload, two parts at once, in a process of its own, by an executor that it is told how to make. It
    leads a group of processes; what it started itself is gone when the test ends, too. It says when it is interrupted.
    """
    started = []

    def start(setting_up):
        script = tmp_path / "coordinator.py"
        script.write_text(_COORDINATOR.replace("SETTING_UP", setting_up))
        path = os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")])
        process = subprocess.Popen(
            [sys.executable, script, scene.server.endpoint, scene.server.region, SECRET, scene.file, scene.checkpoints],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it dies by what the test does to it
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
