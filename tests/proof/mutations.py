"""
Does the proof notice when the engine is broken?

    python tests/proof/mutations.py                 all of them
    python tests/proof/mutations.py claim record    those whose name holds one of these words
    python tests/proof/mutations.py --jobs 2        so many at a time

Each mutation is one line of thought gone wrong: a check that is left out, an order that is turned round, a failure that
is swallowed. It is made in a copy of the tree, never in the tree itself, and the tests of the proof are run against the
copy until the first one fails. One that no test notices is a promise that nobody holds; the script then ends with 1.

A mutation names the code that it replaces. If that code is gone or is there twice, it says so and fails: mend the
mutation, not the check.
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

sys.path.insert(0, str(Path(__file__).parent))  # the lists are beside this script

from mutated import (
    AREAS,  # noqa: F401  # for the test of the lists
    MUTATIONS,
    Mutation,
)

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 600
_PROFILE = "--hypothesis-profile=mutation"


def copied(target: Path) -> None:
    """The tree as it ships, with its tests."""
    shutil.copytree(ROOT / "core", target / "core")
    for room in ("backends", "stores", "tests"):
        shutil.copytree(ROOT / room, target / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", target)


def mapped(target: Path) -> None:
    """The import package, made of the folders, where `PYTHONPATH` finds it before any installed one."""
    shutil.copytree(target / "core", target / "path" / "partwise", ignore=shutil.ignore_patterns("__pycache__"))
    for room in ("backends", "stores"):
        shutil.copytree(target / room, target / "path" / "partwise" / room)


def noticed_by(mutation: Mutation | None, tests_to_run: tuple[str, ...]) -> str | None:
    """The first test that fails because of the mutation (without one, at all), None where none does."""
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory)
        copied(tree)
        if mutation is not None:
            mutation.apply(tree)
        mapped(tree)
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
                run = subprocess.run(  # ourselves
                    command,
                    cwd=tree,
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=SECONDS_MAX,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return f"{tests} (it hung)"
            if run.returncode:
                failed = re.search(r"^(?:FAILED|ERROR) (\S+)", run.stdout, re.MULTILINE)
                return failed[1] if failed else f"{tests}: {run.stdout[-300:]}{run.stderr[-300:]}"
    return None


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Break the engine in one way after the other; see who notices.")
    parser.add_argument("words", nargs="*", help="take those whose name holds one of these words")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    wanted = parser.parse_args(arguments)
    chosen = [m for m in MUTATIONS if not wanted.words or any(word in m.name for word in wanted.words)]
    needed = dict.fromkeys(tests for mutation in chosen for tests in mutation.tests)
    if (broken := noticed_by(None, tuple(needed))) is not None:
        print(f"{broken} fails without any mutation: fix that first")
        return 2

    def judge(mutation: Mutation) -> tuple[Mutation, str | None, float]:
        began = time.monotonic()
        return mutation, noticed_by(mutation, mutation.tests), time.monotonic() - began

    survived = []
    with ThreadPoolExecutor(wanted.jobs) as pool:
        for number, (mutation, test, seconds) in enumerate(pool.map(judge, chosen), start=1):
            if test is None:
                survived.append(mutation.name)
            print(f"{number:>3}/{len(chosen)} {mutation.name:<72} {test or 'SURVIVED'} ({seconds:.0f} s)", flush=True)
    print(f"{len(chosen) - len(survived)} of {len(chosen)} mutations were noticed")
    for name in survived:
        print(f"nobody noticed: {name}")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
