"""The benchmark runs to its end. No test asserts a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")


@pytest.mark.skipif(sys.platform != "linux", reason="the storage of the benchmark needs Linux")
def test_every_case_runs_and_its_figures_are_written(tmp_path):
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, str(RUN), "--smoke", "--json", str(figures)],
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
