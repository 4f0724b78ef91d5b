"""
Measure uploads over long lines: with delay, loss, a limited rate, and a rate that changes on the way.

    python tests/benchmarks/long_lines.py [--only LINE,...] [--peers PEER,...] [--grid N,...xMIB,...] [--reps N]
                                          [--smoke] [--json FILE] [--plot FILE] [--document FILE]

The lines are between two network namespaces of this machine (line.py), with its real TCP at both ends, and a storage
that discards the parts (sink.py) at the far end. That needs root, /dev/net/tun, ip, nsenter and gcc. Uploads take
turns, each in a new process and over a new line. The main figure is the share of the line: the seconds that the line
needs for the file, over those that the upload took.

Each peer uploads with its own defaults; partwise also with each setting of the grid. obstore and boto3 take part if
they are installed. `--document` writes the table of all lines into a document, between the comments that mark its
place; a plot needs matplotlib.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from attrs import define, field
from line import SERVER, Line, Shape, build, missing
from run import HERE, MIB, installed, print_table, versions

Figures = dict[str, float]

_M = 1e6
_PORT = 9000

#: As many as partwise has at most, and some for requests that follow each other closely.
_CONNECTIONS = 160

#: An upload is ended after this multiple of the time that the line needs.
_PATIENCE = 25


@define(frozen=True)
class Case:
    """A line, and the size of the file."""

    shape: Shape
    mebibytes: int


CASES = {
    "lan": Case(Shape(0.001, 1000 * _M), 512),
    "metro": Case(Shape(0.020, 500 * _M), 256),
    "far": Case(Shape(0.100, 1000 * _M), 1024),
    "farther": Case(Shape(0.250, 300 * _M), 384),
    "lossy": Case(Shape(0.100, 300 * _M, 0.001), 256),
    "poor": Case(Shape(0.080, 20 * _M, 0.005), 32),
    "changing": Case(Shape(0.050, 200 * _M, 0.0, ((6, 40 * _M), (14, 400 * _M))), 512),
}
_SMOKE = {"smoke": Case(Shape(0.004, 200 * _M, 0.0, ((0.05, 400 * _M),)), 8)}

#: The lines of the plot, if they are measured.
_PLOTTED = ("far", "lossy", "changing")


@define(frozen=True)
class Setting:
    """What uploads, and how; zeros are its defaults."""

    peer: str
    at_once: int = 0
    part_size: int = 0

    def __str__(self) -> str:
        if not self.at_once:
            return self.peer
        return f"{self.peer}, {self.at_once} x {self.part_size // MIB} MiB"


@define
class Run:
    """What was measured of one upload."""

    figures: Figures
    arrived: list[tuple[float, float]] = field(factory=list)  # seconds, bytes
    in_flight: list[tuple[float, int]] = field(factory=list)  # seconds, parts


def upload(program: Path, directory: Path, case: Case, setting: Setting) -> Run:
    """Measure one upload, over a new line."""
    file = source(directory, case.mebibytes)
    trace = directory / "in-flight.json"
    command: list[object] = [
        sys.executable, HERE / "peers.py", setting.peer, "--file", file, "--endpoint", f"http://{SERVER}:{_PORT}",
        "--part", setting.part_size, "--at-once", setting.at_once, "--state", tempfile.mkdtemp(dir=directory),
        "--warm-up", 1, "--in-flight", trace,
    ]  # fmt: skip
    needed = case.shape.seconds_for(file.stat().st_size)
    with Line(program, case.shape) as line:
        sink = subprocess.Popen(
            line.at_server(
                [sys.executable, HERE / "sink.py", file, setting.part_size or 8 * MIB, SERVER, _PORT, _CONNECTIONS]
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert sink.stdout is not None
            if sink.stdout.readline() != "ready\n":
                sys.exit("the storage did not start")
            client = subprocess.Popen(
                line.at_client(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_environment()
            )
            try:
                assert client.stdout is not None
                client.stdout.readline()
                began = line.start_changes()
                try:
                    output, errors = client.communicate(timeout=needed * _PATIENCE + 20)
                except subprocess.TimeoutExpired:
                    return Run({"wall": needed * _PATIENCE, "share": 1 / _PATIENCE, "ended": 1})
            finally:
                client.kill()
                client.wait()
        finally:
            assert sink.stdin is not None
            sink.stdin.close()
            sink.wait()
    if client.returncode:
        sys.exit(f"{setting} failed:\n{errors[-3000:]}")
    figures: Figures = json.loads(output.splitlines()[-1])
    arrived = [(at - began, float(size)) for at, size in line.arrived]
    on_line = arrived[-1][1] - max((size for at, size in arrived if at <= 0), default=0.0)
    figures |= {"share": needed / figures["wall"], "bytes": on_line / file.stat().st_size}
    in_flight = json.loads(trace.read_text()) if trace.exists() else []
    trace.unlink(missing_ok=True)
    return Run(figures, arrived, [(at - began, parts) for at, parts in in_flight])


def source(directory: Path, mebibytes: int) -> Path:
    """Return a file of this many random mebibytes."""
    path = directory / f"source-{mebibytes}"
    if not path.exists():
        with path.open("wb") as file:
            for _ in range(mebibytes):
                file.write(os.urandom(MIB))
    return path


def _environment() -> dict[str, str]:
    """Return the environment without proxies, which can't be reached over the line."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


def measure(program: Path, directory: Path, case: Case, settings: list[Setting], reps: int) -> dict[Setting, list[Run]]:
    """Measure all settings on one line. They take turns; what was ended once is not repeated."""
    runs: dict[Setting, list[Run]] = {setting: [] for setting in settings}
    for rep in range(reps):
        turn = rep % len(settings)
        for setting in settings[turn:] + settings[:turn]:
            if not any("ended" in run.figures for run in runs[setting]):
                runs[setting].append(upload(program, directory, case, setting))
    return runs


def medians(runs: list[Run]) -> Figures:
    """Return the medians of the figures, and the range of the shares."""
    middle = {name: statistics.median(run.figures.get(name, 0.0) for run in runs) for name in runs[0].figures}
    shares = [run.figures["share"] for run in runs]
    return {**middle, "share_min": min(shares), "share_max": max(shares), "runs": len(runs)}


# --- output ----------------------------------------------------------------------------------------------------------


def described(name: str, case: Case) -> str:
    """Return a line and its file in words."""
    shape = case.shape
    rates = " to ".join(f"{rate / _M:g}" for rate in (shape.rate, *(rate for _, rate in shape.changes)))
    loss = f", {shape.loss:.1%} loss" if shape.loss else ""
    return f"{name}: {shape.round_trip * 1000:g} ms, {rates} Mbit/s{loss}, {case.mebibytes} MiB"


def show(figures: dict[Setting, Figures]) -> None:
    """Print the figures of one line."""
    rows: list[list[object]] = [
        [
            setting,
            ("over " if "ended" in f else "") + f"{f['wall']:.1f}",
            f"{f['share']:.2f}",
            f"{f['share_min']:.2f}..{f['share_max']:.2f}",
            f.get("cpu"),
            f.get("rss"),
            f.get("bytes"),
        ]
        for setting, f in figures.items()
    ]
    print_table(["upload", "s", "share of the line", "min..max", "CPU s", "peak MiB", "bytes on the line / file"], rows)


def summary(results: dict[str, dict[Setting, Figures]]) -> str:
    """Return the shares of all lines, as a table in Markdown."""
    peers = list(dict.fromkeys(s.peer for figures in results.values() for s in figures if not s.at_once))
    with_grid = any(setting.at_once for figures in results.values() for setting in figures)
    heads = ["line", *peers, *(["partwise, best fixed setting"] if with_grid else [])]
    rows = []
    for name, figures in results.items():
        cells = [described(name, CASES.get(name) or _SMOKE[name])]
        cells += [f"{figures[Setting(peer)]['share']:.2f}" if Setting(peer) in figures else "" for peer in peers]
        fixed = {setting: f["share"] for setting, f in figures.items() if setting.at_once}
        if fixed:
            best = max(fixed, key=lambda setting: fixed[setting])
            cells.append(f"{fixed[best]:.2f} ({best.at_once} x {best.part_size // MIB} MiB)")
        elif with_grid:
            cells.append("")
        rows.append(cells)
    marks = ["---", *["---:"] * (len(heads) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in [heads, marks, *rows])


def section(results: dict[str, dict[Setting, Figures]], reps: int, picture: str | None) -> str:
    """Return what a document says of the results, in Markdown."""
    packages = ", ".join(f"{name} {number}" for name, number in versions().items() if name in ("obstore", "boto3"))
    system = f"Linux {platform.release()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    measured = f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, {', '.join(filter(None, (system, packages)))}"
    runs = "one upload each" if reps == 1 else f"medians of {reps}"
    text = (
        f"The seconds that the line needs for the file, over those that the upload took: {runs}, in turns,\n"
        "each client with its defaults. More than 0.96 is not possible, since packets have headers.\n"
        f"Measured on {measured}.\n\n{summary(results)}"
    )
    if picture:
        text += f"\n![What arrives, and the number of parts in flight, over time, for each of three lines]({picture})\n"
    return text


def write_into(document: str, text: str) -> str:
    """Return the document with this text in the place that is marked for it."""
    place = re.compile(r"(?<=<!-- long lines: begin -->\n).*?(?=<!-- long lines: end -->)", re.DOTALL)
    replaced, count = place.subn(lambda _: f"\n{text}\n", document)
    if count != 1:
        raise ValueError("the document does not have exactly one place for the table")
    return replaced


def parse_grid(text: str) -> list[Setting]:
    """Return the settings of a grid such as "4,16x1,8": 4 or 16 parts in flight, of 1 or 8 MiB."""
    if not text:
        return []
    numbers, sizes = ([int(value) for value in values.split(",")] for values in text.split("x"))
    return [Setting("partwise", number, size * MIB) for number in numbers for size in sizes]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--only", default="", help=f"these lines only: {', '.join(CASES)}")
    parser.add_argument("--peers", default="partwise,obstore,boto3")
    parser.add_argument("--grid", default="", help="settings of partwise, such as 4,16,64,128x1,2,8: N in flight x MiB")
    parser.add_argument("--reps", type=int, default=3, help="uploads of each")
    parser.add_argument("--smoke", action="store_true", help="one short line and one upload of each, as a test")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--plot", type=Path, help="plot rate and parts in flight over time to this file")
    parser.add_argument("--document", type=Path, help="write the table of all lines into this document")
    given = parser.parse_args()
    cases = _SMOKE if given.smoke else CASES
    selected = [name for name in given.only.split(",") if name] or list(cases)
    if unknown := set(selected) - set(cases):
        parser.error(f"no such line: {', '.join(sorted(unknown))}")
    if (reason := missing()) is not None:
        print(f"skipped: {reason}", flush=True)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    settings = [Setting(peer) for peer in given.peers.split(",") if peer == "partwise" or installed(peer)]
    settings += parse_grid(given.grid)
    results: dict[str, dict[Setting, Figures]] = {}
    plotted: dict[str, Run] = {}
    with tempfile.TemporaryDirectory(prefix="partwise-benchmark-") as name:
        directory = Path(name)
        program = build(directory)
        for line in selected:
            case = cases[line]
            print(f"{described(line, case)}; it needs {case.shape.seconds_for(case.mebibytes * MIB):.1f} s", flush=True)
            runs = measure(program, directory, case, settings, 1 if given.smoke else given.reps)
            results[line] = {setting: medians(taken) for setting, taken in runs.items()}
            plotted[line] = next(iter(runs.get(Setting("partwise"), [])), Run({}))
            show(results[line])
            if given.json:
                data = {line: {str(s): f for s, f in figures.items()} for line, figures in results.items()}
                given.json.write_text(json.dumps(data, indent=1))
    print(summary(results))
    if given.document:
        picture = given.plot and os.path.relpath(given.plot, given.document.parent)
        text = section(results, given.reps, picture)
        given.document.write_text(write_into(given.document.read_text(), text))
    if given.plot:
        from plot import draw_lines

        traced = [name for name, run in plotted.items() if run.in_flight]
        chosen = [name for name in traced if name in _PLOTTED] or traced[: len(_PLOTTED)]
        draw_lines(
            {described(name, cases[name]): as_plotted(cases[name], plotted[name]) for name in chosen}, given.plot
        )


def as_plotted(case: Case, run: Run) -> dict[str, Any]:
    """Return what is plotted of one upload."""
    rates = [
        (later, (size - before) * 8 / (later - earlier) / _M)
        for (earlier, before), (later, size) in zip(run.arrived, run.arrived[1:], strict=False)
        if 0 <= later <= run.figures["wall"] + 0.5
    ]
    return {
        "line": [(at, case.shape.rate_at(at) / _M) for at, _ in rates],
        "rate": rates,
        "in_flight": run.in_flight,
    }


if __name__ == "__main__":
    main()
