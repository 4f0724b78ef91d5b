"""
A long line on this machine: two network namespaces, and line.c between them. Needs Linux, root, /dev/net/tun, ip,
nsenter and gcc.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from attrs import define

HERE = Path(__file__).resolve().parent

#: The addresses of both ends (TEST-NET-1, for documentation).
CLIENT, SERVER = "192.0.2.1", "192.0.2.2"

#: A queue of one round trip is usual. On a short line it has to hold what the kernel sends at once.
_QUEUE_SECONDS_MIN = 0.02


@define(frozen=True)
class Shape:
    """
    What a line is like.

    Args:
        round_trip: seconds.
        rate: bits per second from client to server, of packets with their headers; the way back has no limit.
        loss: the share of packets that are lost.
        changes: seconds after which the rate changes, and the new one; in order of time.
    """

    round_trip: float
    rate: float
    loss: float = 0.0
    changes: tuple[tuple[float, float], ...] = ()

    def seconds_for(self, size: int) -> float:
        """Return the seconds that the line needs for this number of bytes at least."""
        left, since, rate = size * 8.0, 0.0, self.rate
        for at, changed in self.changes:
            if rate * (at - since) >= left:
                break
            left, since, rate = left - rate * (at - since), at, changed
        return since + left / rate

    def rate_at(self, seconds: float) -> float:
        """Return the bits per second at a time."""
        return [self.rate, *(rate for at, rate in self.changes if at <= seconds)][-1]


def missing() -> str | None:
    """Return what is missing here to make a line, in a few words; None: nothing is."""
    if sys.platform != "linux":
        return "needs Linux"
    if os.geteuid() != 0:
        return "needs root"
    if not Path("/dev/net/tun").exists():
        return "needs /dev/net/tun"
    programs = [name for name in ("ip", "nsenter", "gcc") if shutil.which(name) is None]
    return f"needs {', '.join(programs)}" if programs else None


def build(directory: Path) -> Path:
    """Compile line.c in this directory, and return the program."""
    program = directory / "line"
    subprocess.run(["gcc", "-O2", "-o", program, HERE / "line.c"], check=True)
    return program


class Line:
    """
    A line between a client and a server. It and its namespaces disappear when it is closed, or when this process ends.

    Args:
        program: what `build` returned.
        shape: what it is like.

    Attributes:
        arrived: the time on the monotonic clock, and the bytes that have arrived at the server until then, with the
            headers of packets; each 100 ms.
    """

    def __init__(self, program: Path, shape: Shape) -> None:
        self._shape = shape
        self.arrived: list[tuple[float, int]] = []
        queue = shape.rate / 8 * max(_QUEUE_SECONDS_MIN, shape.round_trip)
        parameters = (shape.round_trip / 2, shape.rate / 8, shape.loss, queue)
        self._process = subprocess.Popen(
            [program, *map(str, parameters)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._timers: list[threading.Timer] = []
        try:
            self._client, self._server = self._configure()
        except BaseException:
            self.close()
            raise
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._reader.join()

    def at_client(self, command: Iterable[object]) -> list[str]:
        """Return the command that runs a command at the client's end."""
        return self._in_namespace(self._client, command)

    def at_server(self, command: Iterable[object]) -> list[str]:
        """Return the command that runs a command at the server's end."""
        return self._in_namespace(self._server, command)

    def start_changes(self) -> float:
        """Start the time of the changes of the rate, and return it on the monotonic clock."""
        for seconds, rate in self._shape.changes:
            timer = threading.Timer(seconds, self._set_rate, [rate])
            self._timers.append(timer)
            timer.start()
        return time.monotonic()

    def close(self) -> None:
        """End the line."""
        for timer in self._timers:
            timer.cancel()
            timer.join()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _configure(self) -> Sequence[int]:
        assert self._process.stdout is not None
        ends = [int(process) for process in self._process.stdout.readline().split()]
        if not ends:
            raise OSError("the line did not start; its error is above")
        for end, address in zip(ends, (CLIENT, SERVER), strict=True):
            for command in (
                ("ip", "address", "add", f"{address}/24", "dev", "line"),
                ("ip", "link", "set", "line", "mtu", "1500", "txqueuelen", "10000", "up"),
            ):
                subprocess.run(self._in_namespace(end, command), check=True)
        return ends

    def _set_rate(self, rate: float) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{rate / 8}\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for report in self._process.stdout:
            at, size = report.split()
            self.arrived.append((float(at), int(size)))

    @staticmethod
    def _in_namespace(process: int, command: Iterable[object]) -> list[str]:
        return ["nsenter", f"--net=/proc/{process}/ns/net", *map(str, command)]
