"""The package that the guide for authors of backends shows: it is built, installed, and used by its URL."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import pytest

pytest.importorskip("setuptools", "77", reason="it builds the package, without a package index")

GUIDE = "write-a-backend"
SERVER = Path(__file__).parents[2] / "docs" / "examples" / "depot.py"


@pytest.fixture
def depot() -> Any:
    """The server of the guide."""
    spec = importlib.util.spec_from_file_location("depot", SERVER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.Depot() as depot:
        yield depot


@pytest.fixture
def installed(page: Callable[[str], str], tmp_path: Path) -> Path:
    """A directory for PYTHONPATH into which the package was installed as pip installs any, without an index."""
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", page(GUIDE), re.MULTILINE | re.DOTALL)
    module = [text for language, text in blocks if language == "python" and text.startswith("# partwise_depot.py\n")]
    [project] = [text for language, text in blocks if language == "toml"]
    assert len(module) == 2
    source, target = tmp_path / "partwise-depot", tmp_path / "site"
    source.mkdir()
    (source / "partwise_depot.py").write_text("\n".join(module), encoding="utf-8")
    (source / "pyproject.toml").write_text(project, encoding="utf-8")
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr
    return target


def upload(source: Path, url: str, *, path: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command, which finds packages in `path`, too."""
    script = source.parent / "script.py"
    found = [] if path is None else [str(path)]
    script.write_text(f"import sys\nfrom partwise.cli import main\nsys.path += {found}\nsys.exit(main())\n")
    env = {**os.environ, "XDG_STATE_HOME": str(source.parent / "state"), **environment}
    line = ("upload", str(source), url, "--json", "--meta", "origin=here")
    output: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with forked.start_script(str(script), *line, env=env, **output) as process:
        out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(line, process.returncode, out, err)


def test_the_package_of_the_guide_can_be_installed_and_offers_its_url(
    depot: Any, installed: Path, tmp_path: Path
) -> None:
    source, url = tmp_path / "some.txt", f"{depot.url.replace('http', 'depot')}/some.txt"
    source.write_bytes(b"some bytes" * 1000)

    unknown = upload(source, url)
    without_token = upload(source, url, path=installed)
    ran = upload(source, url, path=installed, DEPOT_TOKEN="the-token")
    denied = upload(source, url, path=installed, DEPOT_TOKEN="another")

    assert ran.returncode == 0, ran.stdout + ran.stderr
    result = json.loads(ran.stdout.splitlines()[-1])
    assert (result["ok"], result["verified"]) == (True, True)
    stored = depot.objects["some.txt"]
    assert (stored.data, stored.headers["Content-Type"]) == (source.read_bytes(), "text/plain")
    assert "origin=here" in stored.headers["Depot-Metadata"]
    assert (unknown.returncode, without_token.returncode, denied.returncode) == (2, 2, 1)
    assert "DEPOT_TOKEN" in without_token.stdout
    assert "WrongToken" in json.loads(denied.stdout.splitlines()[-1])["error"]["message"]
