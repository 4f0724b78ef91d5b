"""The benchmarks run to their end. No test asserts a time."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")
LONG_LINES = Path(__file__).with_name("long_lines.py")

#: Runs the benchmarks. Clients that send the parts by threads are forked, since to start each takes most of its time.
FORKING = """
import json, os, runpy, sys
import partwise.backends.oss.backend, partwise.stores.file
import run

def fork(script, *arguments):
    if script.name != "peers.py" or arguments[0] not in ("raw", "partwise"):
        return start(script, *arguments)
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.dup2(writing, 1)
            sys.argv = [str(script), *map(str, arguments)]
            runpy.run_path(str(script), run_name="__main__")
            sys.stdout.flush()
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading) as printed:
        lines = printed.read().splitlines()
    if os.waitpid(pid, 0)[1]:
        sys.exit(f"{arguments[0]} failed")
    return json.loads(lines[-1])

start, run._python = run._python, fork
run.main()
"""
LINES = (LONG_LINES, "--smoke", "--peers", "partwise")


@pytest.mark.skipif(sys.platform != "linux", reason="the storage of the benchmark needs Linux")
def test_every_case_runs_and_its_figures_are_written(tmp_path):
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-c", FORKING, "--smoke", "--json", str(figures)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(RUN.parent), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    written = json.loads(figures.read_text())
    assert set(written) >= {"parts", "concurrency", "growth", "memory", "resume", "engine", "stores", "startup"}
    assert all(peer["cpu_per_gib"] > 0 for peer in written["parts"]["1 MiB"].values())
    assert written["resume"]["partwise"]["requests"] <= 15


# --- long lines ------------------------------------------------------------------------------------------------------


@pytest.fixture
def long_lines(monkeypatch):
    """The module, which imports its neighbours."""
    monkeypatch.syspath_prepend(RUN.parent)
    yield importlib.import_module("long_lines")
    for name in ("long_lines", "line", "run", "sink"):
        del sys.modules[name]


def processes_of(session):
    """Return the ids of the processes of a session. A namespace without a name exists as long as its processes do."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(ProcessLookupError):
                found += [entry.name] * (os.getsid(int(entry.name)) == session)
    return found


@pytest.mark.soak
def test_an_upload_over_a_line_is_measured(tmp_path):
    figures = tmp_path / "figures.json"
    document = tmp_path / "document.md"
    document.write_text("before\n<!-- long lines: begin -->\n<!-- long lines: end -->\nafter\n")
    done = subprocess.run(
        [sys.executable, *LINES, "--grid", "2x1", "--json", figures, "--document", document],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    if done.stdout.startswith("skipped: "):
        pytest.skip(done.stdout.strip())
    written = json.loads(figures.read_text())["smoke"]
    assert set(written) == {"partwise", "partwise, 2 x 1 MiB"}
    assert all(0 < upload["share"] < 1 < upload["bytes"] for upload in written.values())
    assert document.read_text().count("\n| smoke: 4 ms, ") == 1


@pytest.mark.soak
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_line_that_was_interrupted(how):
    with subprocess.Popen(
        [sys.executable, *LINES],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as running:
        if running.stdout.readline().startswith("skipped: "):
            pytest.skip("no lines can be made here")
        # The compiler has ended, and both ends of the line, the storage and its processes have started.
        while len(processes_of(running.pid)) < 10 and running.poll() is None:
            time.sleep(0.01)
        running.send_signal(how)
        assert running.wait() != 0
    deadline = time.monotonic() + 60
    while processes_of(running.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(running.pid) == []


def test_what_is_missing_for_a_line_is_said(long_lines, monkeypatch, capsys):
    monkeypatch.setattr(long_lines, "missing", lambda: "needs root")
    monkeypatch.setattr(sys, "argv", ["long_lines.py"])
    long_lines.main()
    assert capsys.readouterr().out == "skipped: needs root\n"


def test_a_line_needs_longer_while_its_rate_is_low(long_lines):
    shape = long_lines.Shape(0.1, 8000, 0, ((2, 4000), (4, 16000)))
    assert [shape.seconds_for(size) for size in (0, 1000, 2000, 2500, 3000, 5000)] == [0, 1, 2, 3, 4, 5]
    assert [shape.rate_at(seconds) for seconds in (0, 2, 5)] == [8000, 4000, 16000]


def test_the_table_replaces_the_one_in_the_document(long_lines):
    setting = long_lines.Setting
    figures = {setting("partwise"): {"share": 0.9}, setting("partwise", 4, 1 << 20): {"share": 0.8}}
    text = long_lines.summary({"poor": figures})
    assert text.splitlines()[2] == "| poor: 80 ms, 20 Mbit/s, 0.5% loss, 32 MiB | 0.90 | 0.80 (4 x 1 MiB) |"
    document = "a\n<!-- long lines: begin -->\nold\n<!-- long lines: end -->\nb\n"
    written = long_lines.write_into(document, text)
    assert written == f"a\n<!-- long lines: begin -->\n\n{text}\n<!-- long lines: end -->\nb\n"
    assert long_lines.write_into(written, text) == written
    with pytest.raises(ValueError, match="exactly one place"):
        long_lines.write_into("a", text)
