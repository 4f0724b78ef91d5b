"""The documents about the command line agree with it."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from partwise.backends.memory import MemoryBackend
from partwise.errors import ConnectionFailed
from partwise.registry import register_backend
from partwise.server import S3Server

Run = Callable[..., Any]

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "reference" / "command-line.md"


def program(name: str) -> ModuleType:
    """One of the programs that write what the documents show."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_reference_lists_all_options() -> None:
    """If this fails: python docs/options.py."""
    options = program("options")
    _, mark, written = PAGE.read_text(encoding="utf-8").partition(options.MARK)
    assert mark
    assert written.strip() == options.reference().strip()


def words(svg: str) -> list[str]:
    """What is to be read in a picture: how it is drawn may differ from version to version of what draws it."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


@pytest.mark.parametrize("name", ["resumed", "status", "dry-run", "wrong", "outage"])
def test_a_picture_shows_what_the_program_says(name: str) -> None:
    """If this fails: python docs/pictures.py."""
    pictures = program("pictures")
    assert words(pictures.drawn(name)) == words((DOCS / "pictures" / f"{name}.svg").read_text(encoding="utf-8"))


def test_every_picture_is_checked_and_shown() -> None:
    linked = set(re.findall(r"pictures/([\w-]+)\.svg", (DOCS / "command-line.md").read_text(encoding="utf-8")))
    assert linked == {path.stem for path in (DOCS / "pictures").glob("*.svg")} == set(program("pictures").PICTURES)


# --- objects ---


def documented(heading: str) -> list[dict[str, Any]]:
    """The objects under a heading of the reference."""
    section = PAGE.read_text(encoding="utf-8").partition(f"### {heading}\n")[2].partition("\n#")[0]
    found = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", section, re.DOTALL)]
    assert found, f"no object under {heading!r}"
    return found


@pytest.fixture
def done(partwise: Run, small: Path, url: str) -> list[dict[str, Any]]:
    """What an upload prints."""
    line = ("--part-size", "100K", "--multipart-threshold", "0", "--progress", "json")
    return list(partwise("upload", "small.bin", url, *line).objects)


def test_the_result_is_as_documented(done: list[dict[str, Any]]) -> None:
    (documented_object,) = documented("The result of an upload")
    assert done[-1].keys() == documented_object.keys()


def test_progress_is_as_documented(done: list[dict[str, Any]]) -> None:
    progress, warning = documented("Progress")
    assert done[0].keys() == progress.keys()
    assert warning.keys() == {"event", "message"}


def test_an_error_is_as_documented(partwise: Run, small: Path) -> None:
    class Dead(MemoryBackend):
        def upload_part(self, *arguments: object) -> Any:
            raise ConnectionFailed("connection reset")

    register_backend("dead", lambda url, **settings: (Dead(), "k"))
    line = ("--part-size", "100K", "--multipart-threshold", "0", "--max-attempts", "1")
    error = partwise("upload", "small.bin", "dead:k", *line, "--json").last
    (documented_object,) = documented("An error")
    assert error.keys() == documented_object.keys()
    # What is empty is left out.
    assert documented_object["error"].keys() <= error["error"].keys() | {"bytes_done", "parts_done"}
    assert documented_object["error"]["cause"].keys() <= error["error"]["cause"].keys()


def test_a_dry_run_is_as_documented(partwise: Run, small: Path, url: str) -> None:
    line = ("--part-size", "100K", "--multipart-threshold", "0")
    plan = partwise("upload", "-n", "small.bin", url, *line, "--json").last
    (documented_object,) = documented("A dry run")
    assert plan.keys() == documented_object.keys()
    assert plan["parts"][0].keys() == documented_object["parts"][0].keys()


def test_a_comparison_is_as_documented(partwise: Run, small: Path, url: str) -> None:
    assert partwise("upload", "small.bin", url, "-q").code == 0
    (comparison,) = documented("A comparison")
    for target in (url, f"{url}-2"):
        found = partwise("verify", "small.bin", target, "--json").last
        assert found.keys() == comparison.keys()
        assert found["stored"] is None or found["stored"].keys() == comparison["stored"].keys()


def test_what_is_recorded_pending_and_dropped_is_as_documented(partwise: Run, place: Path, small: Path) -> None:
    from partwise.backends.local import LocalBackend
    from partwise.checkpoint import Checkpoint, Fingerprint
    from partwise.model import ObjectOptions
    from partwise.stores.file import FileCheckpointStore

    backend = LocalBackend(place / "bucket")
    upload_id = backend.initiate_upload("k", ObjectOptions())
    FileCheckpointStore(place / "checkpoints").save(
        Checkpoint(backend.location, "k", str(small), Fingerprint(size=300_000), 102_400, upload_id=upload_id)
    )
    here = ("--checkpoint-dir", "checkpoints", "--json")
    bucket = f"{(place / 'bucket').as_uri()}/"
    (recorded,) = documented("A recorded upload")
    assert partwise("status", *here).last.keys() == recorded.keys()
    (pending,) = documented("A pending upload")
    assert partwise("uploads", bucket, "--json").last.keys() == pending.keys()
    assert partwise("uploads", bucket, "--json", "--parts").last.keys() == pending.keys() | {"parts", "bytes"}
    listed = pending.keys() - {"checkpoint", "has_checkpoint"}
    assert partwise("gc", bucket, *here).last.keys() == listed | {"action", "why"}
    (dropped,) = documented("What was dropped")
    assert partwise("abort", "small.bin", f"{bucket}k", *here).last.keys() == dropped.keys()


def test_a_probe_is_as_documented(partwise: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("awscrt")
    with S3Server() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        found = partwise("probe", "s3://examplebucket", "--json").last
    (documented_object,) = documented("A probe")
    assert found.keys() == documented_object.keys()
    assert found["observed"].keys() == documented_object["observed"].keys()
    facts = documented_object["observed"]["checksums"]["crc64nvme"]
    assert found["observed"]["checksums"]["crc64nvme"].keys() == facts.keys()


@pytest.mark.parametrize(("command", "without"), [("upload", {4}), ("verify", {3})])
def test_help_pages_list_the_exit_codes(partwise: Run, command: str, without: set[int]) -> None:
    documented_codes = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE.read_text("utf-8"), re.MULTILINE)}
    _, title, listed = partwise(command, "--help").out.partition("Exit codes:")
    assert title
    assert {int(code) for code in re.findall(r"\b\d+(?=  |:)", listed)} == documented_codes - without
