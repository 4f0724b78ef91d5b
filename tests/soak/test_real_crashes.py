"""
Real crashes: the real command over real sockets, killed at random instants and restarted until it succeeds.

Nothing is simulated. The command is a process, killed by the operating system (SIGKILL, or TerminateProcess), the
server emulates OSS on the loopback interface, and a proxy in between breaks connections at random bytes. The same
command is run repeatedly, as a timer would. Then the object, the store, the storage and the requests that the server
recorded are checked against the promises.
"""

from __future__ import annotations

import filecmp
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import forked
import pytest
from attrs import define, evolve, field

from partwise.model import KIB, MIB
from partwise.testing import FaultyProxy, LinkConditions, LinkFault, OSSServer

PART = 512 * KIB
CONCURRENCY = 4

#: The stages at which a kill is aimed. The actual stage depends on timing, and is counted.
STAGES = ("start-up", "beginning", "parts", "completing", "cleaning up")

#: Seconds after which a run that neither ends nor reaches its stage has hung.
HANG_SECONDS = 100.0

KILLED = 1 if os.name == "nt" else -9
TRY_AGAIN = 75

BUCKET = "examplebucket"


# --- where it goes ---------------------------------------------------------------------------------------------------


class Folder:
    """A directory with parts and the object, inspected from outside while other processes change it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.object = folder / "copy"
        self._uploads = folder / ".partwise" / "uploads"

    def uploads(self) -> dict[str, dict[int, tuple[int, int]]]:
        """Return what identifies each stored part, by upload id and part number."""
        return {upload: self._parts(upload) for upload in _names(self._uploads)}

    def parts(self) -> int:
        """Return the number of parts of all uploads."""
        return sum(len(parts) for parts in self.uploads().values())

    def trash(self) -> list[str]:
        """Return the names of what is being removed."""
        return _names(self.folder / ".partwise" / "trash")

    def _parts(self, upload: str) -> dict[int, tuple[int, int]]:
        parts = {}
        for name in _names(self._uploads / upload / "parts"):
            if name.isdecimal():
                try:
                    status = (self._uploads / upload / "parts" / name).stat()
                except OSError:
                    continue  # it was moved at this instant
                parts[int(name)] = (status.st_ino, status.st_mtime_ns)
        return parts


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208  # called a thousand times per second
    except OSError:
        return []


@define
class Target:
    """
    The target of uploads, and what can be observed there.

    Args:
        folder: the directory with objects and parts.
        url: the target URL of the command.
        environment: its environment variables.
        flags: its flags.
        server: the server, if there is one.
        proxy: the proxy in front of it.
    """

    folder: Folder
    url: str
    environment: dict[str, str] = field(factory=dict)
    flags: tuple[str, ...] = ()
    server: OSSServer | None = None
    proxy: FaultyProxy | None = None

    def seen(self) -> int:
        """Return the number of requests to the server; without a server, the number of uploads."""
        return len(self.folder.uploads()) if self.server is None else len(self.server.requests)

    def broken(self) -> int:
        """Return the number of broken connections."""
        return 0 if self.proxy is None else sum(count for kind, count in self.proxy.injected.items() if kind.breaks)


@pytest.fixture
def oss(tmp_path: Path) -> Iterator[Callable[[LinkConditions], Target]]:
    """Create a server as a target, behind a proxy with these conditions."""
    running: list[OSSServer | FaultyProxy] = []

    def start(conditions: LinkConditions) -> Target:
        folder = tmp_path / f"buckets-{len(running)}" / BUCKET
        folder.mkdir(parents=True)
        server = OSSServer(directory=folder.parent)
        server.start()
        running.append(server)
        proxy = FaultyProxy(server.endpoint, conditions)
        proxy.start()
        running.append(proxy)
        environment = {
            "OSS_ENDPOINT": proxy.endpoint,
            "OSS_REGION": server.region,
            "OSS_ACCESS_KEY_ID": server.access_key_id,
            "OSS_ACCESS_KEY_SECRET": server.access_key_secret,
            "OSS_SESSION_TOKEN": "",
        }
        return Target(Folder(folder), f"oss://{BUCKET}/copy", environment, ("--timeout", str(TIMEOUT)), server, proxy)

    yield start
    for one in reversed(running):
        one.stop()


@pytest.fixture
def directory(tmp_path: Path) -> Callable[[], Target]:
    """Create a directory as a target."""
    made: list[Path] = []

    def make() -> Target:
        made.append(tmp_path / f"bucket-{len(made)}")
        folder = Folder(made[-1])
        # Slow enough for a kill to find parts in flight.
        return Target(folder, f"{folder.folder.as_uri()}/copy", {}, ("--bandwidth-limit", "24MiB"))

    return make


# --- checkpoint stores -----------------------------------------------------------------------------------------------


@define(frozen=True)
class Record:
    """
    A kind of checkpoint store, for uploads that run in a directory.

    Args:
        name: its name.
        flags: the flags that select it.
        left: returns what the store has in a directory, without using the store; nothing once an upload is done.
    """

    name: str
    flags: tuple[str, ...]
    left: Callable[[Path], list[str]]

    def __str__(self) -> str:
        return self.name


def _in_database(place: Path) -> list[str]:
    rows = []
    if (place / "uploads.db").exists():
        with closing(sqlite3.connect(place / "uploads.db")) as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            rows = [str(row) for table in tables for row in database.execute(f"SELECT * FROM {table}")]
    return [*rows, *_names(place / "uploads.db.claims"), *map(str, place.glob("uploads.db.damaged*"))]


RECORDS = (
    Record("directory", ("--checkpoint-dir", "checkpoints"), lambda place: _names(place / "checkpoints")),
    Record("explicit file", ("--checkpoint", "state.ucp"), lambda place: [p.name for p in place.glob("state.ucp*")]),
    Record("sqlite", ("--store", "sqlite:///uploads.db"), _in_database),
)


# --- kills -----------------------------------------------------------------------------------------------------------

#: The timeout of the command, in seconds; a stall is longer, a delay shorter.
TIMEOUT = 5


@define
class Figures:
    """The counts of all uploads of one test."""

    uploads: int = 0
    runs: int = 0
    kills: Counter[str] = field(factory=Counter)
    requests: int = 0
    parts: int = 0
    sent_again: int = 0
    bytes: int = 0
    bytes_again: int = 0
    ended_75: int = 0
    too_late: int = 0
    orphans: int = 0
    faults: Counter[LinkFault] = field(factory=Counter)

    def __str__(self) -> str:
        kills = ", ".join(f"{self.kills[stage]} {stage}" for stage in STAGES)
        faults = ", ".join(f"{self.faults[kind]} {kind.name}" for kind in LinkFault)
        return (
            f"{self.uploads} uploads, {self.runs} runs; {self.kills.total()} kills ({kills}), {self.too_late} of them"
            f" when everything was done; {self.ended_75} exited with 75; {self.requests} requests; {self.parts} parts,"
            f" {self.sent_again} sent again ({self.bytes_again} of {self.bytes} bytes); {self.orphans} orphans;"
            f" {self.faults.total()} connection faults ({faults})"
        )


@define
class KilledUpload:
    """
    One upload that is killed repeatedly.

    Args:
        source: the file.
        target: its target.
        record: its checkpoint store.
        place: the working directory.
        random: the random numbers.
        figures: the counts.
    """

    source: Path
    target: Target
    record: Record
    place: Path
    random: Random
    figures: Figures
    log: list[str] = field(factory=list)
    held: dict[str, dict[int, tuple[int, int]]] = field(factory=dict)
    parts_sent_again: int = 0
    stops: int = 0
    done: bool = False
    foreign: set[str] = field(factory=set)
    used: set[str] = field(factory=set)

    @property
    def line(self) -> list[str]:
        """The command, the same each time."""
        sizes = ("--part-size", str(PART), "--concurrency", str(CONCURRENCY), "--multipart-threshold", "0")
        return ["upload", str(self.source), self.target.url, *self.record.flags, *sizes, *self.target.flags, "--json"]

    @property
    def parts(self) -> int:
        """The number of parts of the source."""
        return -(-self.source.stat().st_size // PART)

    def run(self, stages: list[str]) -> None:
        """Kill it at each of these stages, unless it is done before; then run it to the end, and check the promises."""
        self.figures.uploads += 1
        self.foreign = set(self.record.left(self.place))
        ends = False
        for stage in [*stages, *([None] * 20)]:
            ends = self._run(stage)
            if ends:
                break
        assert ends, self.describe()
        self._count()
        self._check()

    def describe(self) -> str:
        """Return what happened, for the message of a failure."""
        return "\n".join([f"uploading with {self.record} to {self.target.url}", *self.log])

    # --- one run -----------------------------------------------------------------------------------------------------

    def _run(self, stage: str | None) -> bool:
        """Run the command once; return whether the upload is done."""
        self.figures.runs += 1
        number = len(self.log)
        out, err = self.place / f"{number}.out", self.place / f"{number}.err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = self._start(self.line, stdout=stdout, stderr=stderr, imported=stage != "start-up")
            try:
                reached = self._await(process, stage)
            finally:
                process.kill()
                process.wait()
        output = err.read_text(errors="replace")
        code = process.returncode
        self.log.append(f"{number}. aimed at {stage}, reached {reached}, ended {code}: {output[-400:]}")
        assert "Traceback" not in output, self.describe()
        if code == 0:
            self._succeeded(json.loads(out.read_text().splitlines()[-1]))
            return True
        assert code == TRY_AGAIN or (code == KILLED and stage is not None), self.describe()
        self.stops += 1
        if code == TRY_AGAIN:
            self.figures.ended_75 += 1
        else:
            self.figures.kills[reached] += 1
        self._look()
        if self.target.folder.object.exists() and self._forgotten():
            # It was killed after it had finished. The next run can't know that there is nothing left to do.
            self.figures.too_late += 1
            return True
        return False

    def _start(self, arguments: list[str], *, imported: bool = True, **streams: Any) -> subprocess.Popen[Any]:
        """
        Start the command in a process of its own.

        Args:
            arguments: its arguments.
            imported: whether the process may be forked from one that has imported what the command needs, which saves
                most of the time that it takes to start. A kill at the start-up is to hit the imports, too.
            streams: its streams, as for `subprocess.Popen`.
        """
        options = {"cwd": self.place, "env": {**os.environ, **self.target.environment}, **streams}
        if imported and forked.can_start(options):
            return forked.ForkedCommand(arguments, **options)
        return subprocess.Popen([sys.executable, "-m", "partwise", *arguments], **options)

    def _forgotten(self) -> bool:
        """
        Return whether there is no checkpoint.

        A process that is killed at its end may leave its lock file, and the record that it holds the lock.
        """
        return all(name.endswith((".lock", ".owner")) for name in self._left())

    def _left(self) -> set[str]:
        """Return what the store has of this upload."""
        return set(self.record.left(self.place)) - self.foreign

    def _await(self, process: subprocess.Popen[bytes], stage: str | None) -> str:
        """Wait for the instant of the kill, or for the end of the process; return the stage that it had reached."""
        seen, parts = self.target.seen(), self.target.folder.parts()
        enough = parts + self.random.randint(1, max(1, self.parts - parts))
        delay = self.random.uniform(0.0, {"start-up": 0.8, "parts": 0.02, "completing": 0.06}.get(stage or "", 0.01))
        reached: dict[str | None, Callable[[], bool]] = {
            "start-up": lambda: True,
            "beginning": lambda: self.target.seen() > seen,
            "parts": lambda: self.target.folder.parts() >= enough,
            "completing": lambda: self.target.folder.parts() >= self.parts,
            "cleaning up": self.target.folder.object.exists,
            None: lambda: False,
        }
        limit = time.monotonic() + HANG_SECONDS
        while process.poll() is None and not reached[stage]():
            assert time.monotonic() < limit, self.describe()
            time.sleep(0.001)
        limit = time.monotonic() + delay
        while process.poll() is None and time.monotonic() < limit:
            time.sleep(0.001)
        return self._stage(seen, parts)

    def _stage(self, seen: int, parts: int) -> str:
        """Return the stage that a run has reached, given the requests and parts at its start."""
        if self.target.folder.object.exists():
            return "cleaning up"
        if self.target.folder.parts() >= self.parts:
            return "completing"
        if self.target.folder.parts() > parts:
            return "parts"
        return "beginning" if self.target.seen() > seen else "start-up"

    def _look(self) -> None:
        """Record which parts the storage has after a kill, and which were sent again since the last one."""
        now = self.target.folder.uploads()
        for upload, parts in now.items():
            if parts:
                self.used.add(upload)
            before = self.held.get(upload, {})
            self.parts_sent_again += sum(parts[number] != before[number] for number in parts.keys() & before.keys())
        self.held = now

    # --- what must hold ----------------------------------------------------------------------------------------------

    def _succeeded(self, result: dict[str, object]) -> None:
        self.done = True
        assert result["ok"], self.describe()
        assert result["verified"], self.describe()
        assert (result["size"], result["key"]) == (self.source.stat().st_size, "copy"), self.describe()
        warnings = result["warnings"]
        assert isinstance(warnings, list)
        assert not [warning for warning in warnings if "lost" not in warning], f"{warnings}\n{self.describe()}"
        # Parts on the storage at the start of the last run are kept, even if their records were lost in the kill.
        held = max((len(parts) for parts in self.held.values()), default=0)
        assert int(str(result["parts_resumed"])) >= held, f"{held} parts were stored: {result}\n{self.describe()}"

    def _count(self) -> None:
        self.figures.parts += self.parts
        self.figures.bytes += self.source.stat().st_size
        if self.target.server is None:
            self.figures.sent_again += self.parts_sent_again
            self.figures.bytes_again += self.parts_sent_again * PART
            return
        assert self.target.proxy is not None
        self.figures.requests += len(self.target.server.requests)
        self.figures.faults.update(self.target.proxy.injected)
        sendings = self.target.server.requests_of("UploadPart")
        self.figures.sent_again += len(sendings) - self.parts
        self.figures.bytes_again += sum(r.body_length for r in sendings) - self.source.stat().st_size

    def _check(self) -> None:
        assert filecmp.cmp(self.source, self.target.folder.object, shallow=False), self.describe()
        assert self._left() == set() or (not self.done and self._forgotten()), f"{self._left()}\n{self.describe()}"
        if self.target.server is not None:
            self._check_requests(self.target.server)
        else:
            # No response is ever lost here, so no part has to be sent again.
            assert self.parts_sent_again == 0, self.describe()
        assert len(self.used) <= 1, f"parts went to the uploads {self.used}\n{self.describe()}"
        # An upload whose id was lost, because the process was killed or the connection broke before the response to
        # initiate, is an orphan without parts, which gc aborts.
        left = self._left_when_the_server_is_idle()
        assert not left & self.used, self.describe()
        assert self.target.folder.trash() == [], self.describe()
        assert len(left) <= self.stops + self.target.broken(), self.describe()
        self.figures.orphans += len(left)
        if left:
            self._collect_garbage()
            assert self.target.folder.uploads() == {}, self.describe()

    def _left_when_the_server_is_idle(self) -> set[str]:
        """Return the uploads that are left once the server has finished the requests of killed processes."""
        limit = time.monotonic() + HANG_SECONDS
        while time.monotonic() < limit:
            left = set(self.target.folder.uploads())
            if not left & self.used and not self.target.folder.trash():
                break
            time.sleep(0.01)
        return left

    def _check_requests(self, server: OSSServer) -> None:
        sendings = server.requests_of("UploadPart")
        self.used |= {request.query["uploadId"] for request in sendings}
        self.used |= {request.query["uploadId"] for request in server.requests_of("CompleteMultipartUpload")}
        assert {request.part_number for request in sendings} == set(range(1, self.parts + 1)), self.describe()
        # A kill costs at most the parts in flight; a broken connection costs the request on it.
        bound = CONCURRENCY * self.stops + self.target.broken()
        assert len(sendings) - self.parts <= bound, f"{len(sendings)} sendings of {self.parts} parts\n{self.describe()}"
        assert {request.operation for request in server.requests} <= EXPECTED, self.describe()
        # A run that finds the object complete aborts the upload, in case parts are left. No other upload is aborted.
        completing = {request.query["uploadId"] for request in server.requests_of("CompleteMultipartUpload")}
        aborted = {request.query["uploadId"] for request in server.requests_of("AbortMultipartUpload")}
        assert aborted <= completing, self.describe()
        assert not aborted or "an earlier run completed the upload" in self.describe(), self.describe()

    def _collect_garbage(self) -> None:
        url = self.target.url.removesuffix("copy")
        again = ("--timeout", str(TIMEOUT)) if self.target.server is not None else ()
        # A single checkpoint file is deleted when its upload is done, and gc refuses a missing file.
        one_file = self.record.flags[:1] == ("--checkpoint",) and not (self.place / self.record.flags[1]).exists()
        record = ("--checkpoint-dir", ".") if one_file else self.record.flags
        for _ in range(5):
            line = ["gc", url, *record, "--older-than", "0s", *again]
            with self._start(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
                errors = process.communicate()[1]
            if process.returncode == 0:
                return
        pytest.fail(f"gc: {process.returncode} {errors.decode(errors='replace')}\n{self.describe()}")


EXPECTED = {
    "InitiateMultipartUpload",
    "UploadPart",
    "ListParts",
    "CompleteMultipartUpload",
    "AbortMultipartUpload",
    "HeadObject",
    "GetObjectMeta",
}


# --- many uploads ----------------------------------------------------------------------------------------------------


def random_file(path: Path, size: int, random: Random) -> Path:
    path.write_bytes(random.randbytes(size))
    return path


def kill_uploads(
    kills: int,
    target: Callable[[int], Target],
    record: Callable[[int], Record],
    place: Path,
    seed: str,
    *,
    aims: Callable[[Random, Figures], list[str]],
    stages: tuple[str, ...] = (),
    bytes_max: int = 60 * MIB,
) -> Figures:
    """
    Upload one file after the other until `kills` processes were killed, at least one at each of `stages`.

    The stage of a kill depends on timing: on a busy machine it may come too late, and on a bad connection the process
    may give up before. A stage that was missed is tried again with another upload.
    """
    random, figures = Random(seed), Figures()
    while figures.kills.total() < kills or not figures.kills.keys() >= set(stages):
        assert figures.uploads < kills, f"the kills miss their stages: {figures}"
        number = figures.uploads
        source = random_file(place / f"source-{number}", random.randint(20 * MIB, bytes_max), random)
        KilledUpload(source, target(number), record(number), place, random, figures).run(aims(random, figures))
        source.unlink()
    return figures


# --- the short run ---------------------------------------------------------------------------------------------------

#: Few faults, all of them short.
UNRELIABLE = LinkConditions(
    sent_between=6 * MIB,
    received_between=12 * KIB,
    kinds=(LinkFault.RESET, LinkFault.TRUNCATE, LinkFault.DELAY),
)


@pytest.mark.parametrize("record", RECORDS, ids=str)
def test_an_upload_resumes_after_three_kills(
    oss: Callable[[LinkConditions], Target], record: Record, tmp_path: Path, tell: Callable[[object], None]
) -> None:
    figures = kill_uploads(
        3,
        lambda number: oss(evolve(UNRELIABLE, seed=1 + number)),
        lambda number: record,
        tmp_path,
        f"short {record}",
        aims=lambda random, figures: ["beginning", "parts", "completing"],
        bytes_max=21 * MIB,
    )
    tell(figures)


def test_an_upload_to_a_directory_resumes_after_three_kills(
    directory: Callable[[], Target], tmp_path: Path, tell: Callable[[object], None]
) -> None:
    figures = kill_uploads(
        3,
        lambda number: directory(),
        lambda number: RECORDS[0],
        tmp_path,
        "short",
        aims=lambda random, figures: ["start-up", "parts", "cleaning up"],
        bytes_max=21 * MIB,
    )
    tell(figures)


# --- the long run ----------------------------------------------------------------------------------------------------

#: All kinds of faults.
VERY_UNRELIABLE = LinkConditions(sent_between=6 * MIB, received_between=12 * KIB, stall=TIMEOUT + 1.0)


def drawn_stages(random: Random, figures: Figures) -> list[str]:
    """Return some kills during the upload and one or two at its end; first early stages that were missed so far."""
    # In a directory only the start of a new upload can be observed.
    missed = [stage for stage in STAGES[:2] if stage not in figures.kills]
    early = random.choices(STAGES[:3], weights=(1, 1, 3), k=random.randint(1, 6))
    return [*missed, *early, *random.choice((["completing"], ["cleaning up"], ["completing", "cleaning up"]))]


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("record", RECORDS, ids=str)
def test_uploads_resume_after_many_kills(
    oss: Callable[[LinkConditions], Target], record: Record, tmp_path: Path, tell: Callable[[object], None]
) -> None:
    figures = kill_uploads(
        50,
        lambda number: oss(evolve(VERY_UNRELIABLE, seed=number)),
        lambda number: record,
        tmp_path,
        f"long {record}",
        aims=drawn_stages,
        stages=STAGES,
    )
    tell(figures)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_uploads_to_a_directory_resume_after_many_kills(
    directory: Callable[[], Target], tmp_path: Path, tell: Callable[[object], None]
) -> None:
    figures = kill_uploads(
        50,
        lambda number: directory(),
        lambda number: RECORDS[number % len(RECORDS)],
        tmp_path,
        "long, to a directory",
        aims=drawn_stages,
        stages=STAGES,
    )
    tell(figures)
