"""An OSS over HTTP, a file on its way there, and coordinators that can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from partwise import TransferConfig, Uploader
from partwise.backends.memory import MemoryBackend
from partwise.backends.oss import Credentials
from partwise.model import KIB
from partwise.stores.file import FileCheckpointStore
from partwise.testing import OSSServer, filler
from partwise.testing.oss_server.faults import ServerFault
from partwise.testing.oss_server.settings import AccessKey, ServerSettings

PART = 100 * KIB
PARTS = 12
SECRET = "hunter2-of-this-test"
PATIENCE = 60.0


class Hold:
    """An effect that keeps requests waiting before their body is taken, until they are let go."""

    def __init__(self):
        self._reached = threading.Semaphore(0)
        self._let_go = threading.Event()

    def before(self, exchange):
        self._reached.release()
        assert self._let_go.wait(PATIENCE)

    def after(self, exchange, answer):
        return answer

    def wait_for(self, requests=1):
        """Wait until so many more requests are being held."""
        for _ in range(requests):
            assert self._reached.acquire(timeout=PATIENCE), "no such request came"

    def let_go(self):
        self._let_go.set()


class Scene:
    """A file that is uploaded over HTTP, its parts sent by some executor."""

    def __init__(self, place, server, storage):
        from signing_backend import SigningBackend

        self.server = server
        self.data = filler(PART * PARTS)
        self.file = place / "backup.tar"
        self.file.write_bytes(self.data)
        self.checkpoints = place / "checkpoints"
        self._storage = storage
        self._held = []
        self.backend = SigningBackend(
            "examplebucket",
            endpoint=server.endpoint,
            region=server.region,
            credentials=Credentials(server.access_key_id, SECRET),
        )

    def upload(self, executor, **config):
        """Upload the file; its parts are sent by `executor`."""
        config = TransferConfig(part_size=PART, multipart_threshold=0, concurrency=4, retry_base=0.01, **config)
        return Uploader(self.backend, FileCheckpointStore(self.checkpoints), config, executor).upload(self.file, "key")

    def stored(self):
        """What the storage has under the key."""
        return self._storage.read("key")

    def senders(self, operation="UploadPart"):
        """The processes that requests of this kind came from."""
        return {int(request.headers["user-agent"]) for request in self.server.requests_of(operation)}

    def answered(self):
        """The numbers of the parts that were answered with success, in that order."""
        return [r.part_number for r in self.server.requests_of("UploadPart") if r.status == 200]

    def hold(self, occurrence, times=1):
        """Hold so many parts from now on, beginning with this one."""
        self._held.append(Hold())
        self.server.plan(ServerFault("UploadPart", self._held[-1], occurrence=occurrence, times=times))
        return self._held[-1]

    def close(self):
        for held in self._held:
            held.let_go()
        self.backend.close()


@pytest.fixture
def scene(tmp_path, monkeypatch):
    # What workers import by name lies beside the tests; processes that are spawned inherit the path.
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
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
import sys
from partwise import TransferConfig, Uploader
from partwise.backends.oss import Credentials
from partwise.stores.file import FileCheckpointStore
from signing_backend import SigningBackend

if __name__ == "__main__":
    endpoint, region, secret, file, checkpoints = sys.argv[1:]
    backend = SigningBackend(
        "examplebucket", endpoint=endpoint, region=region, credentials=Credentials("id", secret)
    )
    config = TransferConfig(part_size={PART}, multipart_threshold=0, concurrency=2)
    SETTING_UP
    Uploader(backend, FileCheckpointStore(checkpoints), config, executor).upload(file, "key")
"""


@pytest.fixture
def coordinator(scene, tmp_path):
    """
    Starts the same upload in a process of its own, by an executor that it is told how to make. What it started itself
    is gone when the test ends, too.
    """
    started = []

    def start(setting_up):
        script = tmp_path / "coordinator.py"
        script.write_text(_COORDINATOR.replace("SETTING_UP", setting_up))
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        process = subprocess.Popen(
            [sys.executable, script, scene.server.endpoint, scene.server.region, SECRET, scene.file, scene.checkpoints],
            env={**os.environ, "PYTHONPATH": path},
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
