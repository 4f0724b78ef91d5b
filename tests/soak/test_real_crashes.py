"""
Real deaths: the real command over real sockets, killed at drawn instants and started again until it is done.

Nothing is played. The command is a process of its own, the kill is the system's (SIGKILL, or TerminateProcess), the
server speaks the protocol of OSS on loopback, and a proxy in between breaks connections at drawn bytes. The same line
is started again and again, as a timer would; then the object, the store, the storage and the server's own record of
requests tell whether what was promised holds.
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

import pytest
from attrs import define, evolve, field

from partwise.model import KIB, MIB
from partwise.testing import FaultyProxy, LinkConditions, LinkFault, OSSServer

PART = 512 * KIB
CONCURRENCY = 4

#: Where a death is aimed at. Where it strikes is a matter of the machine's timing, and is counted.
STAGES = ("start-up", "beginning", "parts", "completing", "cleaning up")

#: Seconds after which a run that was to be killed, or to end, is taken for hung.
PATIENCE = 100.0

KILLED = 1 if os.name == "nt" else -9
TRY_AGAIN = 75

BUCKET = "examplebucket"


# --- where it goes ---------------------------------------------------------------------------------------------------


class Folder:
    """A directory that parts and the object lie in, looked at from outside while others work there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.object = folder / "copy"
        self._uploads = folder / ".partwise" / "uploads"

    def uploads(self) -> dict[str, dict[int, tuple[int, int]]]:
        """By upload id and part number, what tells one sending of a part from another."""
        return {upload: self._parts(upload) for upload in _names(self._uploads)}

    def parts(self) -> int:
        """How many parts there are, of all uploads."""
        return sum(len(parts) for parts in self.uploads().values())

    def trash(self) -> list[str]:
        """What is being removed."""
        return _names(self.folder / ".partwise" / "trash")

    def _parts(self, upload: str) -> dict[int, tuple[int, int]]:
        parts = {}
        for name in _names(self._uploads / upload / "parts"):
            if name.isdecimal():
                try:
                    status = (self._uploads / upload / "parts" / name).stat()
                except OSError:
                    continue  # it was moved away in this instant
                parts[int(name)] = (status.st_ino, status.st_mtime_ns)
        return parts


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208  # asked for a thousand times a second
    except OSError:
        return []


@define
class Target:
    """
    Where uploads go, and what was seen there.

    Args:
        folder: where objects and parts lie in the end.
        url: what the command is given.
        environment: what it needs to know beside.
        flags: likewise.
        server: what it talks to, if that is a server.
        proxy: what lies between.
    """

    folder: Folder
    url: str
    environment: dict[str, str] = field(factory=dict)
    flags: tuple[str, ...] = ()
    server: OSSServer | None = None
    proxy: FaultyProxy | None = None

    def seen(self) -> int:
        """How many requests the server has answered; without a server, how many uploads have begun."""
        return len(self.folder.uploads()) if self.server is None else len(self.server.requests)

    def broken(self) -> int:
        """How many connections were broken on the way."""
        return 0 if self.proxy is None else sum(count for kind, count in self.proxy.injected.items() if kind.breaks)


@pytest.fixture
def oss(tmp_path: Path) -> Iterator[Callable[[LinkConditions], Target]]:
    """Makes the target of an upload by way of a server, and a proxy in such conditions."""
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
    """Makes the target of an upload to a directory."""
    made: list[Path] = []

    def make() -> Target:
        made.append(tmp_path / f"bucket-{len(made)}")
        folder = Folder(made[-1])
        # Slow enough for a death to find parts under way.
        return Target(folder, f"{folder.folder.as_uri()}/copy", {}, ("--bandwidth-limit", "24MiB"))

    return make


# --- where progress is recorded --------------------------------------------------------------------------------------


@define(frozen=True)
class Record:
    """
    One form in which progress is recorded, for uploads that run in `place`.

    Args:
        name: its name.
        flags: what asks for it.
        left: what is in a directory of it and of what goes with it, by a way of its own; nothing once an upload is
            done.
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


# --- deaths ----------------------------------------------------------------------------------------------------------

#: Seconds after which the command gives up a connection that is silent; a stall lasts longer, a delay does not.
TIMEOUT = 5


@define
class Figures:
    """What happened, over all uploads of one test."""

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
            f" when all was done; {self.ended_75} ended 75; {self.requests} requests; {self.parts} parts,"
            f" {self.sent_again} sendings more ({self.bytes_again} of {self.bytes} bytes); {self.orphans} orphans;"
            f" {self.faults.total()} faults on the way ({faults})"
        )


@define
class Ordeal:
    """
    One upload that is killed again and again.

    Args:
        source: the file.
        target: where it goes.
        record: where progress is recorded.
        place: the working directory.
        chance: what is drawn is drawn from it.
        figures: what happens is counted there.
    """

    source: Path
    target: Target
    record: Record
    place: Path
    chance: Random
    figures: Figures
    log: list[str] = field(factory=list)
    held: dict[str, dict[int, tuple[int, int]]] = field(factory=dict)
    sent_anew: int = 0
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
        """How many parts there are to send."""
        return -(-self.source.stat().st_size // PART)

    def endure(self, stages: list[str]) -> None:
        """Be killed at each of these stages, or when all was done before that; then run to the end, and look."""
        self.figures.uploads += 1
        self.foreign = set(self.record.left(self.place))
        ends = False
        for stage in [*stages, *([None] * 20)]:
            ends = self._run(stage)
            if ends:
                break
        assert ends, self.told()
        self._count()
        self._hold()

    def told(self) -> str:
        """How it went, for the message of a failure."""
        return "\n".join([f"uploading by way of {self.record} to {self.target.url}", *self.log])

    # --- one run -----------------------------------------------------------------------------------------------------

    def _run(self, stage: str | None) -> bool:
        """Start the line once; whether the upload is done."""
        self.figures.runs += 1
        number = len(self.log)
        out, err = self.place / f"{number}.out", self.place / f"{number}.err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "partwise", *self.line],
                cwd=self.place,
                env={**os.environ, **self.target.environment},
                stdout=stdout,
                stderr=stderr,
            )
            try:
                reached = self._await(process, stage)
            finally:
                process.kill()
                process.wait()
        words = err.read_text(errors="replace")
        code = process.returncode
        self.log.append(f"{number}. aimed at {stage}, reached {reached}, ended {code}: {words[-400:]}")
        assert "Traceback" not in words, self.told()
        if code == 0:
            self._succeeded(json.loads(out.read_text().splitlines()[-1]))
            return True
        assert code == TRY_AGAIN or (code == KILLED and stage is not None), self.told()
        self.stops += 1
        if code == TRY_AGAIN:
            self.figures.ended_75 += 1
        else:
            self.figures.kills[reached] += 1
        self._look()
        if self.target.folder.object.exists() and self._forgotten():
            # It died on its way out. Nothing tells another run that there is nothing left to do.
            self.figures.too_late += 1
            return True
        return False

    def _forgotten(self) -> bool:
        """Whether there is no checkpoint; a process that dies on its way out may leave the lock that it held."""
        return all(name.endswith(".lock") for name in self._left())

    def _left(self) -> set[str]:
        """What is there of this upload."""
        return set(self.record.left(self.place)) - self.foreign

    def _await(self, process: subprocess.Popen[bytes], stage: str | None) -> str:
        """Wait for the instant of the death, or for the end of the process; say what it had come to."""
        seen, parts = self.target.seen(), self.target.folder.parts()
        enough = parts + self.chance.randint(1, max(1, self.parts - parts))
        delay = self.chance.uniform(0.0, {"start-up": 0.8, "parts": 0.02, "completing": 0.06}.get(stage or "", 0.01))
        reached: dict[str | None, Callable[[], bool]] = {
            "start-up": lambda: True,
            "beginning": lambda: self.target.seen() > seen,
            "parts": lambda: self.target.folder.parts() >= enough,
            "completing": lambda: self.target.folder.parts() >= self.parts,
            "cleaning up": self.target.folder.object.exists,
            None: lambda: False,
        }
        limit = time.monotonic() + PATIENCE
        while process.poll() is None and not reached[stage]():
            assert time.monotonic() < limit, self.told()
            time.sleep(0.001)
        limit = time.monotonic() + delay
        while process.poll() is None and time.monotonic() < limit:
            time.sleep(0.001)
        return self._stage(seen, parts)

    def _stage(self, seen: int, parts: int) -> str:
        """What a run has come to that began when so much was seen, and so many parts were there."""
        if self.target.folder.object.exists():
            return "cleaning up"
        if self.target.folder.parts() >= self.parts:
            return "completing"
        if self.target.folder.parts() > parts:
            return "parts"
        return "beginning" if self.target.seen() > seen else "start-up"

    def _look(self) -> None:
        """See what the storage holds after a death, and which of that was sent anew since the last one."""
        now = self.target.folder.uploads()
        for upload, parts in now.items():
            if parts:
                self.used.add(upload)
            before = self.held.get(upload, {})
            self.sent_anew += sum(parts[number] != before[number] for number in parts.keys() & before.keys())
        self.held = now

    # --- what must hold ----------------------------------------------------------------------------------------------

    def _succeeded(self, result: dict[str, object]) -> None:
        self.done = True
        assert result["ok"], self.told()
        assert result["verified"], self.told()
        assert (result["size"], result["key"]) == (self.source.stat().st_size, "copy"), self.told()
        warnings = result["warnings"]
        assert isinstance(warnings, list)
        assert not [warning for warning in warnings if "lost" not in warning], f"{warnings}\n{self.told()}"
        # What the storage held when the last run began is kept, whether or not its record outlived that death.
        held = max((len(parts) for parts in self.held.values()), default=0)
        assert int(str(result["parts_resumed"])) >= held, f"{held} parts were held: {result}\n{self.told()}"

    def _count(self) -> None:
        self.figures.parts += self.parts
        self.figures.bytes += self.source.stat().st_size
        if self.target.server is None:
            self.figures.sent_again += self.sent_anew
            self.figures.bytes_again += self.sent_anew * PART
            return
        assert self.target.proxy is not None
        self.figures.requests += len(self.target.server.requests)
        self.figures.faults.update(self.target.proxy.injected)
        sendings = self.target.server.requests_of("UploadPart")
        self.figures.sent_again += len(sendings) - self.parts
        self.figures.bytes_again += sum(r.body_length for r in sendings) - self.source.stat().st_size

    def _hold(self) -> None:
        assert filecmp.cmp(self.source, self.target.folder.object, shallow=False), self.told()
        assert self._left() == set() or (not self.done and self._forgotten()), f"{self._left()}\n{self.told()}"
        if self.target.server is not None:
            self._hold_requests(self.target.server)
        else:
            # Here no answer is ever lost, so what was there at a death is there for good.
            assert self.sent_anew == 0, self.told()
        assert len(self.used) <= 1, f"parts went to the uploads {self.used}\n{self.told()}"
        # An id that nobody learned, because the process died or the connection broke before the answer to its
        # beginning, may be left; no byte was ever sent under it, and the garbage collector takes it.
        left = self._after_the_server_is_done()
        assert not left & self.used, self.told()
        assert self.target.folder.trash() == [], self.told()
        assert len(left) <= self.stops + self.target.broken(), self.told()
        self.figures.orphans += len(left)
        if left:
            self._collect_garbage()
            assert self.target.folder.uploads() == {}, self.told()

    def _after_the_server_is_done(self) -> set[str]:
        """The uploads that are left, once a server that was asked by a process now dead has done what it was asked."""
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit:
            left = set(self.target.folder.uploads())
            if not left & self.used and not self.target.folder.trash():
                break
            time.sleep(0.01)
        return left

    def _hold_requests(self, server: OSSServer) -> None:
        sendings = server.requests_of("UploadPart")
        self.used |= {request.query["uploadId"] for request in sendings}
        self.used |= {request.query["uploadId"] for request in server.requests_of("CompleteMultipartUpload")}
        assert {request.part_number for request in sendings} == set(range(1, self.parts + 1)), self.told()
        # A stop costs no more than what was under way; a connection that breaks costs the request that it carried.
        bound = CONCURRENCY * self.stops + self.target.broken()
        assert len(sendings) - self.parts <= bound, f"{len(sendings)} sendings of {self.parts} parts\n{self.told()}"
        assert {request.operation for request in server.requests} <= EXPECTED, self.told()
        # A run that finds the object made has the storage remove what may be left of the upload. No other is aborted.
        completing = {request.query["uploadId"] for request in server.requests_of("CompleteMultipartUpload")}
        aborted = {request.query["uploadId"] for request in server.requests_of("AbortMultipartUpload")}
        assert aborted <= completing, self.told()
        assert not aborted or "an earlier run had completed the upload" in self.told(), self.told()

    def _collect_garbage(self) -> None:
        url = self.target.url.removesuffix("copy")
        again = ("--timeout", str(TIMEOUT)) if self.target.server is not None else ()
        # A checkpoint file of its own goes when its upload is done, and gc refuses to go by one that is not there.
        one_file = self.record.flags[:1] == ("--checkpoint",) and not (self.place / self.record.flags[1]).exists()
        record = ("--checkpoint-dir", ".") if one_file else self.record.flags
        for _ in range(5):
            ended = subprocess.run(
                [sys.executable, "-m", "partwise", "gc", url, *record, "--older-than", "0s", *again],
                cwd=self.place,
                env={**os.environ, **self.target.environment},
                capture_output=True,
                text=True,
                check=False,
            )
            if ended.returncode == 0:
                return
        pytest.fail(f"gc: {ended.returncode} {ended.stderr}\n{self.told()}")


EXPECTED = {
    "InitiateMultipartUpload",
    "UploadPart",
    "ListParts",
    "CompleteMultipartUpload",
    "AbortMultipartUpload",
    "HeadObject",
    "GetObjectMeta",
}


# --- many of them ----------------------------------------------------------------------------------------------------


def random_file(path: Path, size: int, chance: Random) -> Path:
    path.write_bytes(chance.randbytes(size))
    return path


def suffer(
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
    Upload one file after the other, until so many processes were killed, at each of these stages one at least.

    Where a kill strikes is a matter of luck: on a busy machine it may come too late, by a poor line the process may
    give up before. What was missed is aimed at again, in another upload.
    """
    chance, figures = Random(seed), Figures()
    while figures.kills.total() < kills or not figures.kills.keys() >= set(stages):
        assert figures.uploads < kills, f"the kills miss what they are aimed at: {figures}"
        number = figures.uploads
        source = random_file(place / f"source-{number}", chance.randint(20 * MIB, bytes_max), chance)
        Ordeal(source, target(number), record(number), place, chance, figures).endure(aims(chance, figures))
        source.unlink()
    return figures


# --- in short --------------------------------------------------------------------------------------------------------

#: A fault now and then, none of which lasts.
SHOWERS = LinkConditions(
    sent_between=6 * MIB,
    received_between=12 * KIB,
    kinds=(LinkFault.RESET, LinkFault.TRUNCATE, LinkFault.DELAY),
)


@pytest.mark.parametrize("record", RECORDS, ids=str)
def test_an_upload_that_is_killed_three_times_is_carried_on(
    oss: Callable[[LinkConditions], Target], record: Record, tmp_path: Path, tell: Callable[[object], None]
) -> None:
    figures = suffer(
        3,
        lambda number: oss(evolve(SHOWERS, seed=1 + number)),
        lambda number: record,
        tmp_path,
        f"short {record}",
        aims=lambda chance, figures: ["beginning", "parts", "completing"],
        bytes_max=21 * MIB,
    )
    tell(figures)


def test_an_upload_to_a_directory_that_is_killed_three_times_is_carried_on(
    directory: Callable[[], Target], tmp_path: Path, tell: Callable[[object], None]
) -> None:
    figures = suffer(
        3,
        lambda number: directory(),
        lambda number: RECORDS[0],
        tmp_path,
        "short",
        aims=lambda chance, figures: ["start-up", "parts", "cleaning up"],
        bytes_max=21 * MIB,
    )
    tell(figures)


# --- at length -------------------------------------------------------------------------------------------------------

#: All of them, and more often.
STORM = LinkConditions(sent_between=6 * MIB, received_between=12 * KIB, stall=TIMEOUT + 1.0)


def drawn_stages(chance: Random, figures: Figures) -> list[str]:
    """Some deaths on the way, and one or two at the end; first those that come early and were never met so far."""
    # A directory shows only of a new upload that it begins.
    missed = [stage for stage in STAGES[:2] if stage not in figures.kills]
    early = chance.choices(STAGES[:3], weights=(1, 1, 3), k=chance.randint(1, 6))
    return [*missed, *early, *chance.choice((["completing"], ["cleaning up"], ["completing", "cleaning up"]))]


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("record", RECORDS, ids=str)
def test_uploads_that_are_killed_at_length_are_carried_on(
    oss: Callable[[LinkConditions], Target], record: Record, tmp_path: Path, tell: Callable[[object], None]
) -> None:
    figures = suffer(
        50,
        lambda number: oss(evolve(STORM, seed=number)),
        lambda number: record,
        tmp_path,
        f"long {record}",
        aims=drawn_stages,
        stages=STAGES,
    )
    tell(figures)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_uploads_to_a_directory_that_are_killed_at_length_are_carried_on(
    directory: Callable[[], Target], tmp_path: Path, tell: Callable[[object], None]
) -> None:
    figures = suffer(
        50,
        lambda number: directory(),
        lambda number: RECORDS[number % len(RECORDS)],
        tmp_path,
        "long, to a directory",
        aims=drawn_stages,
        stages=STAGES,
    )
    tell(figures)
