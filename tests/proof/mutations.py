"""
Break the code in one place at a time, and run the tests that have to detect it.

    python tests/proof/mutations.py                 all mutations
    python tests/proof/mutations.py claim record    those whose name contains one of these words
    python tests/proof/mutations.py --jobs 2        two at a time

Each mutation removes a check, reverses an order, or swallows a failure. It is applied to a copy of the tree, and the
tests are run on the copy until the first one fails. A mutation that no test detects is a promise that is not tested;
the exit code is 1 then.

A mutation contains the code that it replaces. If that code is not found exactly once, the script fails: update the
mutation.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for the package `mutated`

from mutated import (
    AREAS,  # noqa: F401  # for the test of the lists
    MUTATIONS,
    Mutation,
)

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 600
_PROFILE = "--hypothesis-profile=mutation"


def copy_tree(target: Path) -> None:
    """Copy the sources and the tests."""
    shutil.copytree(ROOT / "core", target / "core")
    for folder in ("backends", "stores", "tests", "docs"):  # some tests compare what a document says
        shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", target)


def make_package(target: Path) -> None:
    """Assemble the import package in a directory for `PYTHONPATH`, which precedes an installed one."""
    shutil.copytree(target / "core", target / "path" / "partwise", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("backends", "stores"):
        shutil.copytree(target / folder, target / "path" / "partwise" / folder)


def detected_by(mutation: Mutation | None, tests_to_run: tuple[str, ...]) -> str | None:
    """Return the first test that fails with the mutation (None: with the unchanged tree), or None."""
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory)
        copy_tree(tree)
        if mutation is not None:
            mutation.apply(tree)
        make_package(tree)
        for tests in tests_to_run:
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-x",
                "-n0",
                "-q",
                "-p",
                "no:cacheprovider",
                "--tb=line",
                _PROFILE,
                *shlex.split(tests),
            ]
            environment = {**os.environ, "PYTHONPATH": str(tree / "path"), "PYTHONDONTWRITEBYTECODE": "1"}
            try:
                ended = subprocess.run(  # this interpreter
                    command,
                    cwd=tree,
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=SECONDS_MAX,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return f"{tests} (timed out)"
            if ended.returncode:
                failed = re.search(r"^(?:FAILED|ERROR) (\S+)", ended.stdout, re.MULTILINE)
                return failed[1] if failed else f"{tests}: {ended.stdout[-300:]}{ended.stderr[-300:]}"
    return None


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description="Break the code in one place at a time, and run the tests that have to detect it."
    )
    parser.add_argument("words", nargs="*", help="run mutations whose name contains one of these words")
    parser.add_argument("--jobs", type=int, default=1, help="number of mutations to run in parallel")
    options = parser.parse_args(arguments)
    chosen = [m for m in MUTATIONS if not options.words or any(word in m.name for word in options.words)]
    needed = dict.fromkeys(tests for mutation in chosen for tests in mutation.tests)
    if (broken := detected_by(None, tuple(needed))) is not None:
        print(f"{broken} fails without a mutation: fix that first")
        return 2

    def run(mutation: Mutation) -> tuple[Mutation, str | None, float]:
        started = time.monotonic()
        return mutation, detected_by(mutation, mutation.tests), time.monotonic() - started

    survived = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for number, (mutation, test, seconds) in enumerate(pool.map(run, chosen), start=1):
            if test is None:
                survived.append(mutation.name)
            print(f"{number:>3}/{len(chosen)} {mutation.name:<72} {test or 'SURVIVED'} ({seconds:.0f} s)", flush=True)
    print(f"{len(chosen) - len(survived)} of {len(chosen)} mutations were detected")
    for name in survived:
        print(f"not detected: {name}")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
