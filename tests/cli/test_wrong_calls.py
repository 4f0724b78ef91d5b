"""Invalid numbers, and a deleted working directory: exit code 2, and an error that names the flag or the path."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "Ended"]  # noqa: F821  # of conftest, which can't be imported

NUMBERS = ["nan", "inf", "1e20", "-1", "True", "", "abc", "9" * 5000, "1.5.5", "٣", "--", "0x", "\udcff", "1_000"]
FLAGS = [
    *("--part-size", "--multipart-threshold", "--concurrency", "--max-attempts", "--bandwidth-limit", "--timeout"),
    *("--progress-interval", "--traffic-limit", "--expect-size", "--expect-crc64"),
]


@pytest.mark.parametrize("flag", FLAGS)
def test_every_flag_refuses_invalid_numbers(partwise: Run, place: Path, flag: str) -> None:
    (place / "file").write_bytes(b"x")
    for number in NUMBERS:
        ended = partwise("upload", "file", f"{place.as_uri()}/bucket/key", f"{flag}={number}")
        assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 2), number
        assert ended.err.startswith(f"error: {flag}: ")
    assert not (place / "bucket").exists()


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        (["serve", "."], "--port"),
        (["demo"], "--size"),
        (["gc", "URL"], "--older-than"),
        (["gc", "URL"], "--max-attempts"),
        (["uploads", "URL"], "--max-attempts"),
        (["abort", "file", "URL"], "--max-attempts"),
    ],
    ids=" ".join,
)
def test_other_commands_refuse_invalid_numbers(partwise: Run, place: Path, line: list[str], flag: str) -> None:
    for number in NUMBERS:
        ended = partwise(*(f"{place.as_uri()}/bucket/" if word == "URL" else word for word in line), f"{flag}={number}")
        assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 2), number
        assert ended.err.startswith(f"error: {flag}: ")


@pytest.mark.skipif(sys.platform == "win32", reason="a working directory can't be removed there")
@pytest.mark.parametrize(
    "line",
    [
        *(["upload", "file", "URL"], ["abort", "file", "URL"], ["demo", "file"], ["serve", "."], ["serve", "a"]),
        *(["upload", "FILE", "URL", *kept] for kept in (["--checkpoint", "c.ucp"], ["--checkpoint-dir", "c"])),
        ["upload", "FILE", "URL", "--store", "sqlite:///u.db"],
    ],
    ids=" ".join,
)
def test_a_deleted_working_directory_is_wrong_usage(
    *, partwise: Run, place: Path, monkeypatch: pytest.MonkeyPatch, line: list[str]
) -> None:
    (place / "file").write_bytes(b"x")
    (place / "gone").mkdir()
    monkeypatch.chdir(place / "gone")
    (place / "gone").rmdir()
    words = {"URL": f"{place.as_uri()}/bucket/key", "FILE": str(place / "file")}

    ended = partwise(*(words.get(word, word) for word in line))

    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: ")
    assert "working directory" in ended.err
    assert "removed" in ended.err


@pytest.mark.skipif(sys.platform == "win32", reason="a working directory can't be removed there")
def test_a_name_needs_no_working_directory(partwise: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "gone").mkdir()
    monkeypatch.chdir(place / "gone")
    (place / "gone").rmdir()

    ended = partwise("abort", "deadbeef")

    assert (ended.code, "'deadbeef' is not the name of an unfinished upload" in ended.err) == (2, True)
