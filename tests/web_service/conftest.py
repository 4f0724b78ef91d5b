"""The web service of the documentation, as a program and as a module."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent.parent / "docs" / "examples" / "web_service"
SOON = 30  # seconds; anything that takes longer hangs

PROGRAM = """
import sys
from pathlib import Path

import uvicorn
from service import create_app

from partwise import TransferConfig

spool, target, port, bandwidth_limit = sys.argv[1:]
config = TransferConfig(
    part_size=256 * 1024, multipart_threshold=0, concurrency=2, bandwidth_limit=int(bandwidth_limit) or None
)
uvicorn.run(
    create_app(Path(spool), target, config), host="127.0.0.1", port=int(port), log_level="warning",
    timeout_graceful_shutdown=5,
)
"""


@pytest.fixture
def example(monkeypatch):
    """Makes the modules of the example importable."""
    monkeypatch.syspath_prepend(EXAMPLE)
    yield
    for name in ("service", "uploads"):
        sys.modules.pop(name, None)


class Service:
    """The service as a process, which can be killed and restarted at the same address."""

    def __init__(self, spool: Path, target: str, environment: dict[str, str]) -> None:
        self.spool = spool
        self._target = target
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._limit = 0
        # Bound, but not listening: the port stays reserved while the service is down, and connections are refused.
        self._address = socket.socket()
        self._address.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._address.bind(("127.0.0.1", 0))
        self._port = self._address.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}/"

    def start(self, *, bandwidth_limit: int = 0) -> None:
        """Start the service, and wait until it responds. `bandwidth_limit` is in bytes per second; 0: unlimited."""
        self._limit = bandwidth_limit
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(self.spool), self._target, str(self._port), str(bandwidth_limit)],
            env={**os.environ, **self._environment, "PYTHONPATH": str(EXAMPLE)},
        )
        give_up = time.monotonic() + SOON
        while True:
            assert self._process.poll() is None, "the service exited"
            with suppress(OSError), urllib.request.urlopen(self.url + "uploads", timeout=SOON):
                return
            assert time.monotonic() < give_up, "the service does not respond"
            time.sleep(0.02)

    def ensure_running(self, *, bandwidth_limit: int = 0) -> None:
        """Start the service, or restart it with this limit, unless it runs with it."""
        if self._process is not None and self._process.poll() is None:
            if self._limit == bandwidth_limit:
                return
            self.stop()
        self.start(bandwidth_limit=bandwidth_limit)

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """Send a signal to the service, and return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal_number)
        return self._process.wait(SOON)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop(signal.SIGKILL)
        self._address.close()


@pytest.fixture(scope="module")
def make_service(tmp_path_factory) -> Iterator[Callable[..., Service]]:
    """Makes a service with a new spool directory; it is not started yet."""
    made: list[Service] = []

    def make(target: str, **environment: str) -> Service:
        made.append(Service(tmp_path_factory.mktemp("service") / "spool", target, environment))
        return made[-1]

    yield make
    for service in made:
        service.close()
