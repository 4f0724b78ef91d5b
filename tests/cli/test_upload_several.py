"""``partwise upload`` of several files."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from partwise.backends.memory import MemoryBackend
from partwise.cli import upload
from partwise.cli.formatting import without_passwords, without_words
from partwise.cli.reporting import worst_exit_code
from partwise.errors import AccessDenied, HostNotFound, ServerFailed, UploadFailed
from partwise.protocols import Body
from partwise.registry import register_backend
from partwise.task import UploadTask

Run = Callable[..., Any]

PARTS = ("--part-size", "100K", "--multipart-threshold", "0", "--concurrency", "1", "--max-attempts", "1")


class Picky(MemoryBackend):
    """A storage that fails the second part of a key, or is interrupted there."""

    def __init__(self) -> None:
        super().__init__("spy")
        self.errors: dict[str, Exception | int] = {}
        self.openings = 0
        self.waited_for = threading.Event()  # set while the command waits for an upload
        self.paused = threading.Event()  # set once a signal has paused the upload

    def close(self) -> None:
        """Keep what is stored."""

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> Any:
        error = self.errors.get(key) if part_number == 2 else None
        if isinstance(error, int):
            assert self.waited_for.wait(60)
            os.kill(os.getpid(), error)
            assert self.paused.wait(60)
        elif error is not None:
            raise error
        return super().upload_part(key, upload_id, part_number, body)

    def keys(self) -> list[str]:
        """The keys of the files that are stored."""
        return [key for key in ("d/a.bin", "d/b.bin", "d/c.bin") if self.head_object(key) is not None]


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Picky:
    """What the scheme ``spy:`` opens."""
    backend = Picky()
    pause, perform, wait = UploadTask.pause, upload._perform, upload._result_of

    def pause_and_say_so(task: UploadTask) -> None:
        pause(task)
        backend.paused.set()

    def forget_and_perform(*arguments: Any) -> Any:
        backend.waited_for.clear()
        return perform(*arguments)

    def say_so_and_wait(task: UploadTask) -> Any:
        backend.waited_for.set()
        return wait(task)

    monkeypatch.setattr(UploadTask, "pause", pause_and_say_so)
    monkeypatch.setattr(upload, "_perform", forget_and_perform)
    monkeypatch.setattr(upload, "_result_of", say_so_and_wait)

    def open_url(url: str, **_: object) -> tuple[MemoryBackend, str]:
        backend.openings += 1
        return backend, url.removeprefix("spy:")

    register_backend("spy", open_url)
    return backend


@pytest.fixture
def three(place: Path) -> tuple[str, str, str]:
    """Three files of three parts each."""
    for name in "abc":
        (place / f"{name}.bin").write_bytes(name.encode() * 300_000)
    return "a.bin", "b.bin", "c.bin"


def test_each_file_is_stored_under_its_name_and_has_one_line(
    partwise: Run, three: tuple[str, ...], bucket: Path
) -> None:
    ended = partwise("upload", *three, f"{bucket.as_uri()}/", *PARTS)
    lines = [f"stored {name} as {bucket.as_uri()}/{name}: 293.0 KiB, checksum verified" for name in three]
    assert (ended.code, ended.out.splitlines()) == (0, [*lines, "3 of 3 files uploaded"])
    assert ended.err == ""
    assert [(bucket / name).read_bytes()[:1] for name in three] == [b"a", b"b", b"c"]


def test_verbose_says_what_was_sent_of_each(partwise: Run, three: tuple[str, ...], bucket: Path) -> None:
    assert partwise("upload", *three, f"{bucket.as_uri()}/", *PARTS, "-v").out.count("  sent 293.0 KiB in 3 parts") == 3


def test_files_of_several_directories_may_be_given_before_and_after_options(
    partwise: Run, three: tuple[str, ...], place: Path, storage: Picky
) -> None:
    (place / "sub").mkdir()
    (place / "a.bin").rename(place / "sub" / "a.bin")
    assert partwise("upload", "sub/a.bin", "--meta", "x=1", "b.bin", "--", "c.bin", "spy:d/").code == 0
    assert storage.keys() == ["d/a.bin", "d/b.bin", "d/c.bin"]
    assert storage.openings == 1, "one backend has the connections of all"


def test_the_result_of_each_is_an_object_that_names_its_source(
    partwise: Run, three: tuple[str, ...], place: Path, storage: Picky
) -> None:
    (place / "b.bin").unlink()
    ended = partwise("upload", *three, "spy:d/", "--json", *PARTS)
    assert [(one["ok"], one["source"], one["url"]) for one in ended.objects] == [
        (True, "a.bin", "spy:d/a.bin"),
        (False, "b.bin", "spy:d/b.bin"),
        (True, "c.bin", "spy:d/c.bin"),
    ]
    assert (ended.code, ended.objects[1]["exit_code"], ended.objects[1]["error"]["type"]) == (1, 1, "SourceUnreadable")
    assert "2 of 3 files uploaded" in ended.err


def test_an_error_of_a_single_file_names_its_source(partwise: Run, place: Path, storage: Picky) -> None:
    assert partwise("upload", "missing.bin", "spy:k", "--json").last["source"] == "missing.bin"


def test_objects_of_progress_name_the_source(partwise: Run, three: tuple[str, ...], storage: Picky) -> None:
    objects = partwise("upload", *three, "spy:d/", "--progress", "json", "--progress-interval", "0", *PARTS).objects
    assert all("source" in one for one in objects)
    assert {one["source"] for one in objects if one.get("event") == "progress"} == set(three)


def test_a_line_of_progress_comes_after_one_that_names_the_file(
    partwise: Run, three: tuple[str, ...], storage: Picky
) -> None:
    err = partwise("upload", *three, "spy:d/", "--progress", "lines", "--progress-interval", "0", *PARTS).err
    starts = [line for line in err.splitlines() if line.startswith("uploading")]
    assert starts == [f"uploading {name} to spy:d/{name}: 293.0 KiB in 3 parts" for name in three]


def test_a_dry_run_explains_each_and_sends_nothing(partwise: Run, three: tuple[str, ...], storage: Picky) -> None:
    ended = partwise("upload", "-n", *three, "spy:d/", *PARTS)
    assert [line for line in ended.out.splitlines() if not line.startswith(" ")] == [
        f"{name} to spy:d/{name} would be sent from the start" for name in three
    ]
    objects = partwise("upload", "-n", "--json", *three, "spy:d/", *PARTS).objects
    assert [(one["dry_run"], one["source"]) for one in objects] == [(True, name) for name in three]
    assert storage.keys() == []


# --- failures ---


def test_a_permanent_error_of_one_does_not_stop_the_others(
    partwise: Run, three: tuple[str, ...], storage: Picky
) -> None:
    storage.errors["d/a.bin"] = AccessDenied("not yours")
    ended = partwise("upload", *three, "spy:d/", *PARTS)
    assert (ended.code, storage.keys()) == (1, ["d/b.bin", "d/c.bin"])
    assert ended.out.splitlines()[-1] == "2 of 3 files uploaded"
    assert ended.err.splitlines() == [
        "error: a.bin to spy:d/a.bin could not be uploaded",
        "cause: not yours",
        "kept: 100.0 of 293.0 KiB (1 of 3 parts)",
        "To upload the rest:",
        f"  partwise upload a.bin spy:d/ {' '.join(PARTS)}",
    ]


def test_each_file_has_a_checkpoint_of_its_own_and_the_rest_is_resumed(
    partwise: Run, three: tuple[str, ...], place: Path, storage: Picky
) -> None:
    storage.errors |= {"d/a.bin": ServerFailed("down"), "d/c.bin": ServerFailed("down")}
    ended = partwise("upload", *three, "spy:d/", *PARTS, "--checkpoint-dir", "checkpoints")
    assert (ended.code, len(list((place / "checkpoints").glob("*.ucp")))) == (75, 2)
    storage.errors.clear()
    ended = partwise("upload", "a.bin", "c.bin", "spy:d/", *PARTS, "--checkpoint-dir", "checkpoints")
    assert (ended.code, ended.err.count("resuming ")) == (0, 2)
    assert storage.read("d/c.bin") == b"c" * 300_000


def test_a_directory_among_the_files_is_refused_and_the_others_are_uploaded(
    partwise: Run, three: tuple[str, ...], place: Path, storage: Picky
) -> None:
    (place / "sub").mkdir()
    ended = partwise("upload", *three, "sub", "spy:d/")
    assert (ended.code, storage.keys()) == (1, ["d/a.bin", "d/b.bin", "d/c.bin"])
    assert "error: sub is a directory, not a file\nhint: Upload its files: partwise upload DIR/* URL/" in ended.err


@pytest.mark.skipif(os.name == "nt", reason="there are no such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_stops_all_and_says_how_to_go_on(
    *, partwise: Run, three: tuple[str, ...], storage: Picky, number: int, code: int
) -> None:
    storage.errors["d/b.bin"] = number
    ended = partwise("upload", *three, "spy:d/", *PARTS)
    assert (ended.code, storage.keys()) == (code, ["d/a.bin"])
    assert ended.out.splitlines()[-1] == "1 of 3 files uploaded"
    *_, kept, hint, command = ended.err.splitlines()
    # The part that is in flight may still end.
    assert re.fullmatch(r"kept: [12]00\.0 of 293\.0 KiB \([12] of 3 parts\)", kept)
    assert [hint, command] == [
        "hint: To resume:",
        f"  partwise upload b.bin c.bin spy:d/ {' '.join(PARTS)}",
    ]


def test_an_interrupt_between_two_files_stops_all(
    partwise: Run, three: tuple[str, ...], storage: Picky, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("partwise.cli.upload_several.upload_to", interrupt)
    ended = partwise("upload", *three, "spy:d/", "--json")
    assert (ended.code, len(ended.objects), ended.last["exit_code"]) == (130, 1, 130)
    assert "hint: To upload the rest:\n  partwise upload a.bin b.bin c.bin spy:d/" in ended.err


def test_an_interrupt_of_a_dry_run_has_nothing_to_go_on_with(
    partwise: Run, three: tuple[str, ...], storage: Picky, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("partwise.cli.upload_several.explain_to", interrupt)
    ended = partwise("upload", "-n", *three, "spy:d/")
    assert (ended.code, ended.err) == (130, "error: interrupted\n")


def lasting() -> UploadFailed:
    """The failure of an upload whose host was never found, which is not retryable."""
    error = UploadFailed("x", reason="not found")
    error.__cause__ = HostNotFound("not found", retryable=False)
    return error


@pytest.mark.parametrize(("error", "code"), [(ServerFailed("down"), 75), (lasting(), 1)], ids=["passing", "lasting"])
def test_after_an_outage_the_next_files_are_tried_for_a_short_time(
    *,
    partwise: Run,
    three: tuple[str, ...],
    storage: Picky,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: int,
) -> None:
    seen = []

    def fail(backend: object, store: object, key: str, command: Any, output: object) -> None:
        seen.append(command.config.give_up_after)
        if key != "d/b.bin":
            raise error

    monkeypatch.setattr("partwise.cli.upload_several.upload_to", fail)
    assert partwise("upload", *three, "spy:d/").code == code
    assert seen == [300.0, 10.0, 300.0]
    seen.clear()
    partwise("upload", *three, "spy:d/", "--give-up-after", "2s")
    assert seen == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("codes", "worst"),
    [
        ([0, 0], 0),
        ([0, 3, 0], 3),
        ([3, 75, 0], 75),
        ([75, 1, 3], 1),
        ([0, 2], 1),
        ([2, 75], 1),
        ([2, 2], 2),
    ],
)
def test_the_exit_code_is_that_of_the_worst(codes: list[int], worst: int) -> None:
    assert worst_exit_code(codes) == worst


# --- what is refused before anything is sent ---


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (["a.bin", "b.bin", "spy:d"], "names one object, and there are 2 files"),
        (["a.bin", "sub/a.bin", "spy:d/"], "would both be stored as spy:d/a.bin"),
        (["a.bin", "./a.bin", "spy:d/"], "would both be stored"),
        (["a.bin", "-", "spy:d/"], "standard input can't be one of several sources"),
        (["a.bin", "", "spy:d/"], "the name of a file is empty"),
        (["a.bin", "/", "spy:d/"], "has no name to add"),
        (["a.bin", "b.bin", "spy:d/", "--if-match", "E"], "--if-match is for one file, and there are 2"),
        (["a.bin", "b.bin", "spy:d/", "--set", "if_match=E"], "--set if_match is for one file"),
        (["a.bin", "b.bin", "spy:d/", "--checkpoint", "c.ucp"], "--checkpoint is for one file"),
        (["a.bin", "b.bin", "spy:d/", "--expect-size", "0"], "--expect-size is for one file"),
        (["a.bin", "b.bin", "spy:d/", "--expect-crc64", "0"], "--expect-crc64 is for one file"),
        (["a.bin", "b.bin", "spy:d/", "--set", "colour=red"], "does not support --set colour"),
        (["a.bin", "spy:d/", "b.bin"], "'b.bin' is not a URL"),
        (["a.bin", "oss://bucket/d/", "b.bin"], "the URL has to be the last argument"),
        (["a.bin", "b.bin"], "'b.bin' is not a URL"),
    ],
    ids=" ".join,
)
def test_nothing_is_sent_if_the_files_do_not_fit_together(
    *, partwise: Run, three: tuple[str, ...], storage: Picky, line: list[str], names: str
) -> None:
    ended = partwise("upload", *line)
    assert (ended.code, ended.out, storage.keys()) == (2, "", [])
    assert names in ended.err
    assert ended.err.count("error: ") == 1


def test_a_directory_as_the_target_needs_its_slash(partwise: Run, three: tuple[str, ...], bucket: Path) -> None:
    bucket.mkdir()
    ended = partwise("upload", *three, bucket.as_uri())
    assert (ended.code, "To upload into it, end the URL with a slash" in ended.err) == (2, True)


# --- the command line for the rest ---


def test_only_files_that_are_done_are_left_out_of_the_command_line() -> None:
    line = ["upload", "upload", "--meta", "a", "a", "-q", "--acl=a", "b", "--", "-a", "--meta", "c", "oss://b/"]
    assert without_words(line, {"upload", "a", "-a"}, {"--meta"}) == [
        *("upload", "--meta", "a", "-q", "--acl=a", "b", "--", "--meta", "c", "oss://b/"),
    ]
    assert without_words(["upload", "-", "u:", "--meta"], {"u"}, {"--meta"}) == ["upload", "-", "u:", "--meta", ""]


def test_a_command_line_is_shown_without_passwords() -> None:
    line = [
        *("upload", "a:b@c", "--proxy", "http://ann:secret@proxy:3128", "--proxy=ann:secret@proxy:3128"),
        *("--store", "postgresql://ann:secret@db/x?password=secret&a=b", "--proxy", "proxy:3128", "http://x:y@z/"),
        *("--proxy", "http://ann:se/cr@et@proxy:3128", "--store", "sqlite:////home/ann@office/u.db"),
        *("--store", "postgresql://ann@db:secret@db/x"),
    ]
    assert without_passwords(line) == [
        *("upload", "a:b@c", "--proxy", "http://ann:***@proxy:3128", "--proxy=ann:***@proxy:3128"),
        *("--store", "postgresql://ann:***@db/x?password=***&a=b", "--proxy", "proxy:3128", "http://x:y@z/"),
        *("--proxy", "http://ann:***@proxy:3128", "--store", "sqlite:////home/ann@office/u.db"),
        *("--store", "postgresql://ann@db:***@db/x"),
    ]


@pytest.mark.skipif(os.name == "nt", reason="there are no such signals")
def test_a_stopped_upload_does_not_print_the_password_of_a_proxy(
    partwise: Run, three: tuple[str, ...], storage: Picky
) -> None:
    storage.errors["k"] = signal.SIGINT
    ended = partwise("upload", "a.bin", "spy:k", *PARTS, "--proxy", "http://ann:geheim@127.0.0.1:1")
    assert (ended.code, "geheim" in ended.err + ended.out) == (130, False)
    assert "--proxy 'http://ann:***@127.0.0.1:1'" in ended.err
