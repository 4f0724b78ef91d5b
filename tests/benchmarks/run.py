"""
Measure what an upload by partwise costs, compared with plain sockets and with other upload clients, in one run.

    python tests/benchmarks/run.py [--only CASE,...] [--peers PEER,...] [--reps N] [--size MIB] [--quick | --smoke]
                                   [--json FILE] [--plot FILE]

The clients (peers) take turns, each upload in a new process, against one storage on loopback (sink.py). The main figure
is the CPU time of the client per GiB, kernel time included, because other load on the machine changes it least. All
figures are medians. partwise must be installed; oss2 and obstore take part if they are installed; a plot needs
matplotlib.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from attrs import define, evolve
from sink import Counts, Sink, Table

HERE = Path(__file__).resolve().parent
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

Figures = dict[str, float]

T = TypeVar("T")


@define(frozen=True)
class Plan:
    """The options of the run, and its working directory."""

    directory: Path
    peers: tuple[str, ...]
    reps: int
    size: int
    scale: str

    def pick(self, *, full: T, quick: T, smoke: T) -> T:
        """Return the value for the scale of this run."""
        return {"full": full, "quick": quick, "smoke": smoke}[self.scale]

    @property
    def small_parts(self) -> int:
        """One less than the maximum number of parts: with 10,000 parts other clients change the part size."""
        return self.pick(full=9_999, quick=9_999, smoke=60)


# --- uploads ---------------------------------------------------------------------------------------------------------


def source(plan: Plan, size: int) -> Path:
    """Return a file of this many random bytes."""
    path = plan.directory / f"source-{size}"
    if not path.exists():
        with path.open("wb") as file:
            for begin in range(0, size, 4 * MIB):
                file.write(os.urandom(min(4 * MIB, size - begin)))
    return path


def upload(
    plan: Plan,
    sink: Sink,
    peer: str,
    file: Path,
    *,
    part_size: int,
    at_once: int,
    ca: Path | None = None,
    resume: bool = False,
) -> Figures:
    """Measure one upload by one peer in a new process."""
    state = plan.directory / "state"
    if not resume:
        shutil.rmtree(state, ignore_errors=True)
    before = sink.counts()
    figures: Figures = _python(
        HERE / "peers.py", peer, "--file", file, "--endpoint", sink.endpoint, "--part", part_size,
        "--at-once", at_once, "--state", state, *(["--ca", ca] if ca else []), *(["--resume"] if resume else []),
    )  # fmt: skip
    after: Counts = sink.counts()
    gib = file.stat().st_size / GIB
    return {
        **figures,
        "cpu_per_gib": figures["cpu"] / gib,
        "mib_per_second": gib * 1024 / figures["wall"],
        "requests": after.requests - before.requests,
        "sink_cpu": after.cpu - before.cpu,
    }


def in_turns(
    plan: Plan,
    peers: Iterable[str],
    size: int,
    part_size: int,
    at_once: int,
    *,
    certificate: Path | None = None,
    slow: tuple[str, ...] = ("oss2",),
) -> dict[str, Figures]:
    """Return the medians of each peer. The peers take turns; slow peers run less often."""
    file = source(plan, size)
    with Sink(Table.of(file, part_size), certificate=certificate) as sink:
        return taking_turns(
            plan,
            {
                peer: partial(upload, plan, sink, peer, file, part_size=part_size, at_once=at_once, ca=certificate)
                for peer in peers
            },
            slow=slow,
        )


def taking_turns(
    plan: Plan, uploads: dict[str, Callable[[], Figures]], *, slow: tuple[str, ...] = ()
) -> dict[str, Figures]:
    """Return the medians of each upload by name. They take turns; slow ones run less often."""
    names = list(uploads)
    runs: dict[str, list[Figures]] = {name: [] for name in names}
    for rep in range(plan.reps):
        turn = rep % len(names)
        for name in names[turn:] + names[:turn]:
            if name not in slow or rep < max(1, plan.reps // 3):
                runs[name].append(uploads[name]())
    return {name: _medians(taken) for name, taken in runs.items()}


def _medians(runs: list[Figures]) -> Figures:
    middle = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    spread = sorted(run["cpu_per_gib"] for run in runs)
    return {**middle, "cpu_per_gib_min": spread[0], "cpu_per_gib_max": spread[-1], "runs": len(runs)}


def _python(script: Path, *arguments: object) -> Any:
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


# --- cases -----------------------------------------------------------------------------------------------------------

Case = Callable[[Plan], dict[str, Any]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


@case
def parts(plan: Plan) -> dict[str, Any]:
    """4 parts in parallel, of several sizes"""
    small = plan.pick(full=(100 * KIB, 256 * KIB), quick=(100 * KIB,), smoke=())
    large = plan.pick(full=(1, 2, 4, 8, 16, 32, 64), quick=(1, 8, 64), smoke=(1,))
    results = {}
    for part_size in (*small, *(size * MIB for size in large)):
        size = min(plan.size, plan.small_parts * part_size)
        # oss2 takes a minute for a GiB of the smallest parts.
        peers = [peer for peer in plan.peers if peer != "oss2" or part_size > 100 * KIB or plan.scale == "full"]
        results[_bytes(part_size)] = in_turns(plan, peers, size, part_size, 4)
    _show(results, "part size")
    return results


@case
def concurrency(plan: Plan) -> dict[str, Any]:
    """parts of 8 MiB, several in parallel"""
    peers = [peer for peer in plan.peers if peer != "oss2" and (peer != "raw" or plan.scale != "smoke")]
    numbers = plan.pick(full=(1, 2, 4, 8), quick=(1, 2, 4, 8), smoke=(2,))
    results = {f"{n} at once": in_turns(plan, peers, plan.size, 8 * MIB, n) for n in numbers}
    _show(results, "in flight")
    return results


@case
def growth(plan: Plan) -> dict[str, Any]:
    """more parts, larger files; microseconds of CPU time per part, and memory"""
    results: dict[str, Any] = {}
    for share in plan.pick(full=(10, 4, 2, 1), quick=(10, 4, 2, 1), smoke=(1,)):
        count = plan.small_parts // share
        figures = in_turns(plan, ["partwise"], count * 100 * KIB, 100 * KIB, 4)["partwise"]
        results[f"{count} parts of 100 KiB"] = {**figures, "part_us": figures["cpu"] / count * 1e6}
    for size in plan.pick(
        full=(plan.size // 4, plan.size, 4 * plan.size), quick=(plan.size // 4, plan.size), smoke=(plan.size,)
    ):
        figures = in_turns(plan, ["partwise"], size, 8 * MIB, 4)["partwise"]
        results[f"{_bytes(size)} in parts of 8 MiB"] = {**figures, "part_us": figures["cpu"] / (size / 8 / MIB) * 1e6}
    rows = [[name, f["part_us"], f["cpu_per_gib"], f["mib_per_second"], f["rss"]] for name, f in results.items()]
    print_table(["upload", "us CPU/part", "CPU s/GiB", "MiB/s", "peak MiB"], rows)
    return results


@case
def memory(plan: Plan) -> dict[str, Any]:
    """peak memory of the process, 8 parts in parallel"""
    results = {}
    cases = ((plan.size, 8 * MIB), (plan.size, 64 * MIB), (10 * plan.size, 64 * MIB))
    for size, part_size in plan.pick(full=cases, quick=cases, smoke=cases[2:]):
        one = evolve(plan, reps=1)
        figures = in_turns(one, ["partwise"], size, part_size, 8)["partwise"]
        results[f"{_bytes(size)} in parts of {_bytes(part_size)}"] = figures
        if size > plan.size:
            source(plan, size).unlink()
    print_table(["upload", "peak MiB"], [[name, figures["rss"]] for name, figures in results.items()])
    return results


@case
def tls(plan: Plan) -> dict[str, Any]:
    """over TLS, compared with a plain TLS socket"""
    certificate = _certificate(plan)
    if certificate is None:
        print("skipped: openssl is not installed, which makes the certificate")
        return {}
    cases = ((100 * KIB, 4), (MIB, 4), (8 * MIB, 1), (8 * MIB, 4))
    results = {
        f"{_bytes(size)}, {n} at once": _with_and_without_tls(plan, certificate, size, n)
        for size, n in plan.pick(full=cases, quick=cases, smoke=cases[1:2])
    }
    rows = [
        [parts, peer, f[peer]["cpu_per_gib"], f[over]["cpu_per_gib"], f[over]["cpu_per_gib"] - f[peer]["cpu_per_gib"]]
        for parts, f in results.items()
        for peer, over in (("raw", "raw over TLS"), ("partwise", "partwise over TLS"))
    ]
    print_table(["parts", "peer", "CPU s/GiB", "over TLS", "which adds"], rows)
    return results


def _with_and_without_tls(plan: Plan, certificate: Path, part_size: int, at_once: int) -> dict[str, Figures]:
    file = source(plan, min(plan.size, plan.small_parts * part_size))
    table = Table.of(file, part_size)
    with Sink(table) as clear, Sink(table, certificate=certificate) as covered:
        run = partial(upload, plan, file=file, part_size=part_size, at_once=at_once)
        return taking_turns(
            plan,
            {
                "raw": partial(run, clear, "raw"),
                "raw over TLS": partial(run, covered, "raw", ca=certificate),
                "partwise": partial(run, clear, "partwise"),
                "partwise over TLS": partial(run, covered, "partwise", ca=certificate),
            },
        )


@case
def processes(plan: Plan) -> dict[str, Any]:
    """by threads and by processes, over TLS, where CPU time is the bottleneck"""
    certificate = _certificate(plan)
    if certificate is None:
        print("skipped: openssl is not installed, which makes the certificate")
        return {}
    peers = ["partwise", "partwise-processes"]
    numbers = plan.pick(full=(1, 2, 4), quick=(1, 2, 4), smoke=(2,))
    results = {f"{n} at once": in_turns(plan, peers, plan.size, 8 * MIB, n, certificate=certificate) for n in numbers}
    _show(results, "in flight", reference="partwise")
    return results


@case
def resume(plan: Plan) -> dict[str, Any]:
    """9,999 parts of 100 KiB, of which one is missing, in a new process"""
    file, part_size, last = source(plan, plan.small_parts * 100 * KIB), 100 * KIB, plan.small_parts
    table = Table.of(file, part_size)
    results = {}
    for peer in [peer for peer in plan.peers if peer == "partwise" or (peer == "oss2" and plan.scale == "full")]:
        runs = []
        for _ in range(plan.reps if peer == "partwise" else 1):
            with Sink(table, refuse=last) as sink:
                port = sink.port
                subprocess.run(
                    [
                        sys.executable, HERE / "peers.py", peer, "--file", file, "--endpoint", sink.endpoint, "--part",
                        str(part_size), "--at-once", "4", "--state", plan.directory / "state", "--resume",
                    ],
                    check=False,
                    capture_output=True,
                    timeout=1200,
                )  # fmt: skip
            with Sink(table, port=port, missing=last) as sink:
                runs.append(upload(plan, sink, peer, file, part_size=part_size, at_once=4, resume=True))
            shutil.rmtree(plan.directory / "state")
        results[peer] = _medians(runs)
    rows = [[peer, f["wall"], f["cpu"], f["requests"]] for peer, f in results.items()]
    print_table(["peer", "s", "CPU s", "requests"], rows)
    return results


@case
def engine(plan: Plan) -> dict[str, Any]:
    """the engine with a store and no network: microseconds of CPU time per part"""
    count = plan.pick(full=10_000, quick=2000, smoke=100)
    names = ("none", "memory", "file", "sqlite")
    names = plan.pick(full=names, quick=names, smoke=names[::3])
    results = {name: _python(HERE / "engine.py", name, count) for name in names}
    rows = [[name, f["part"], f["first"], f["last"]] for name, f in results.items()]
    print_table(["store", f"all {count}", "first 1,000", "last 1,000"], rows)
    return results


@case
def stores(plan: Plan) -> dict[str, Any]:
    """stores with many unfinished uploads: microseconds per operation"""
    counts = plan.pick(full=(10, 100_000), quick=(10, 1000), smoke=(10,))
    rounds = plan.pick(full=300, quick=300, smoke=10)
    results = {
        f"{name}, {count} uploads": _python(HERE / "stores.py", name, count, rounds)
        for name in ("file", "sqlite")
        for count in counts
    }
    rows = [[name, f["claim"], f["load"], f["append"], f["save"]] for name, f in results.items()]
    print_table(["store", "claim", "load", "append", "save, with the disk's sync"], rows)
    return results


@case
def startup(plan: Plan) -> dict[str, Any]:
    """milliseconds to start, with compiled modules"""
    commands = {
        "python -c pass": ["-c", "pass"],
        "import partwise": ["-c", "import partwise"],
        "... the OSS backend and a store": ["-c", "import partwise.backends.oss, partwise.stores.file"],
        "partwise --help": ["-m", "partwise", "--help"],
    }
    environment = dict(os.environ)
    if plan.scale != "smoke":
        environment |= {"PYTHONPYCACHEPREFIX": str(plan.directory / "compiled"), "PYTHONDONTWRITEBYTECODE": ""}
    script = (
        "import subprocess, sys, time; began = time.perf_counter();"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); print(time.perf_counter() - began)"
    )
    taken: dict[str, list[float]] = {name: [] for name in commands}
    warm_up = plan.pick(full=2, quick=2, smoke=0)  # the first runs compile
    for rep in range(warm_up + plan.pick(full=40, quick=10, smoke=1)):
        for name, arguments in commands.items():
            timed = subprocess.run(
                [sys.executable, "-c", script, sys.executable, *arguments],
                env=environment,
                cwd=plan.directory,
                check=True,
                capture_output=True,
                text=True,
            )
            if rep >= warm_up:
                taken[name].append(float(timed.stdout) * 1000)
    results = {name: statistics.median(times) for name, times in taken.items()}
    bare = results["python -c pass"]
    print_table(["", "ms", "ms above python", "x python"], [[n, ms, ms - bare, ms / bare] for n, ms in results.items()])
    return results


def _certificate(plan: Plan) -> Path | None:
    both = plan.directory / "certificate.pem"
    if not both.exists():
        if shutil.which("openssl") is None:
            return None
        subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", plan.directory / "key.pem", "-out", plan.directory / "cert.pem", "-days", "2",
                "-subj", "/CN=sink", "-addext", "subjectAltName=IP:127.0.0.1",
            ],
            check=True,
            capture_output=True,
        )  # fmt: skip
        both.write_text((plan.directory / "cert.pem").read_text() + (plan.directory / "key.pem").read_text())
    return both


# --- output ----------------------------------------------------------------------------------------------------------


def _show(results: dict[str, dict[str, Figures]], what: str, *, reference: str = "raw") -> None:
    rows: list[list[object]] = []
    for name, peers in results.items():
        base = peers.get(reference, {}).get("cpu_per_gib")
        for peer, f in peers.items():
            rows.append(
                [
                    name,
                    peer,
                    f["cpu_per_gib"],
                    f"{f['cpu_per_gib_min']:.2f}..{f['cpu_per_gib_max']:.2f}",
                    f"{f['cpu_per_gib'] / base:.2f}" if base else "",
                    f["mib_per_second"],
                    f["rss"],
                ]
            )
    print_table([what, "peer", "CPU s/GiB", "min..max", f"x {reference}", "MiB/s", "peak MiB"], rows)


def print_table(heads: list[str], rows: list[list[object]]) -> None:
    cells = [heads, *[[_cell(value) for value in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    for row in cells:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    print(flush=True)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:.0f}"
    return "" if value is None else str(value)


def _bytes(count: int) -> str:
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count % unit == 0:
            return f"{count // unit} {name}"
    return f"{count} bytes"


def versions() -> dict[str, str]:
    found = {}
    for name in ("partwise", "fastcrc", "urllib3", "attrs", "oss2", "crcmod", "obstore", "boto3"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--only", default="", help=f"run these cases only: {', '.join(CASES)}")
    parser.add_argument("--peers", default="raw,partwise,oss2,obstore")
    parser.add_argument("--reps", type=int, default=5, help="runs of each peer; slow peers run a third of them")
    parser.add_argument("--size", type=int, default=1024, help="size of the uploaded file in MiB")
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--quick", dest="scale", action="store_const", const="quick", help="fewer sizes and runs")
    scale.add_argument(
        "--smoke", dest="scale", action="store_const", const="smoke", help="each case once, with tiny sizes, as a test"
    )
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--plot", type=Path, help="plot CPU time against part size to this file")
    given = parser.parse_args(arguments)
    selected = [name for name in given.only.split(",") if name] or list(CASES)
    if unknown := set(selected) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    peers = tuple(peer for peer in given.peers.split(",") if peer in ("raw", "partwise") or installed(peer))
    machine = {
        "when": f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC",
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
    }
    print(*machine.values(), versions(), sep=" | ", end="\n\n")
    results: dict[str, Any] = {"machine": machine, "versions": versions()}
    with tempfile.TemporaryDirectory(prefix="partwise-benchmark-") as directory:
        if given.scale == "smoke":
            plan = Plan(Path(directory), ("raw", "partwise"), 1, 4 * MIB, "smoke")
        else:
            reps = min(3, given.reps) if given.scale == "quick" else given.reps
            plan = Plan(Path(directory), peers, reps, given.size * MIB, given.scale or "full")
        for name in selected:
            print(f"{name}: {CASES[name].__doc__}")
            results[name] = CASES[name](plan)
            if given.json:
                given.json.write_text(json.dumps(results, indent=1))
    if given.plot:
        from plot import draw

        draw(results["parts"], given.plot)


def installed(peer: str) -> bool:
    return peer.isidentifier() and importlib.util.find_spec(peer) is not None


if __name__ == "__main__":
    main()
