"""``partwise uploads`` and ``partwise gc``."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from partwise.backends.local import LocalBackend
from partwise.backends.memory import MemoryBackend
from partwise.bodies import bytes_body
from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.cli.streams import SteadyStream
from partwise.clock import SystemClock
from partwise.errors import AccessDenied, CheckpointError, ClockSkewed, ConnectionFailed, HostNotFound, ServerFailed
from partwise.model import ObjectOptions, PendingUpload
from partwise.registry import register_backend
from partwise.server import Fail, ServerFault, SkewClock
from partwise.stores.file import FileCheckpointStore
from partwise.testing import OSSServer

Run = Callable[..., Any]
HERE = ("--checkpoint-dir", "checkpoints")
DAY = 86_400


@pytest.fixture
def backend(bucket: Path) -> LocalBackend:
    return LocalBackend(bucket)


@pytest.fixture
def url(bucket: Path, store: FileCheckpointStore) -> str:
    """The URL of an existing bucket; the directory of checkpoints exists, too."""
    bucket.mkdir(exist_ok=True)
    return f"{bucket.as_uri()}/"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record waits instead of waiting. No other time passes."""
    waited: list[float] = []
    monkeypatch.setattr(SystemClock, "wait", lambda clock, event, seconds: waited.append(seconds))
    monkeypatch.setattr(SystemClock, "monotonic", staticmethod(lambda: sum(waited)))
    return waited


@pytest.fixture
def store(place: Path) -> FileCheckpointStore:
    (place / "checkpoints").mkdir()
    return FileCheckpointStore(place / "checkpoints")


def initiate(backend: LocalBackend, key: str, *, days_ago: float = 0) -> str:
    import time

    then = LocalBackend(backend.directory, clock=lambda: time.time() - days_ago * DAY)
    return then.initiate_upload(key, ObjectOptions())


def own(store: FileCheckpointStore, location: str, upload_id: str | None, *abandoned: str) -> None:
    store.save(
        Checkpoint(
            location=location,
            key="k",
            source="/f",
            fingerprint=Fingerprint(size=1),
            part_size=1,
            upload_id=upload_id,
            abandoned=abandoned,
        )
    )


def pending(backend: LocalBackend) -> set[str]:
    return {one.upload_id for one in backend.list_uploads()}


def limit(monkeypatch: pytest.MonkeyPatch, backend: LocalBackend, **capabilities: bool) -> None:
    """Let the storage do less."""
    monkeypatch.setattr(LocalBackend, "capabilities", evolve(backend.capabilities, **capabilities))


# --- uploads ---


def test_pending_uploads_are_listed(partwise: Run, backend: LocalBackend, url: str) -> None:
    first, second = initiate(backend, "a", days_ago=2), initiate(backend, "b")
    ended = partwise("uploads", url)
    head, *rows = ended.out.splitlines()
    assert head == "AGE          CHECKPOINT  KEY, UPLOAD ID"
    assert rows[0] == f"2 d          -           a  {first}"
    assert rows[1].endswith(f" s        -           b  {second}")
    assert ended.err == f"2 pending uploads at {url}\n"


def test_the_key_of_a_pending_upload_can_not_control_the_terminal(
    partwise: Run, backend: LocalBackend, url: str
) -> None:
    initiate(backend, "a\x1b[2Jb", days_ago=8)
    for command in ("uploads", "gc"):
        ended = partwise(command, url)
        assert "a\\x1b[2Jb" in ended.out
        assert "\x1b" not in ended.out


def test_each_pending_upload_is_an_object(partwise: Run, backend: LocalBackend, url: str) -> None:
    upload_id = initiate(backend, "a", days_ago=2)
    (payload,) = partwise("uploads", url, "--json").objects
    assert (payload["key"], payload["upload_id"], payload["initiated"][-6:]) == ("a", upload_id, "+00:00")
    assert payload["age"] >= 2 * DAY


def test_a_prefix_narrows_the_list(partwise: Run, backend: LocalBackend, url: str) -> None:
    initiate(backend, "a"), initiate(backend, "ab"), initiate(backend, "b")
    assert [one["key"] for one in partwise("uploads", f"{url}a", "--json").objects] == ["a", "ab"]


def test_gc_orders_by_key_then_id(
    partwise: Run, url: str, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A storage may list them in any order."""
    old = datetime(2020, 1, 1, tzinfo=UTC)
    listed = [PendingUpload(key, upload_id, old) for key, upload_id in ("b2", "a9", "c1", "b1", "a3")]
    monkeypatch.setattr(LocalBackend, "list_uploads", lambda backend, prefix="": iter(listed))
    found = [(one["key"], one["upload_id"]) for one in partwise("gc", url, *HERE, "--dry-run", "--json").objects]
    assert found == [("a", "3"), ("a", "9"), ("b", "1"), ("b", "2"), ("c", "1")]


def test_uploads_are_printed_while_they_are_listed(
    partwise: Run, url: str, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Any number of them takes little memory, and the order is that of the storage."""
    old = datetime(2020, 1, 1, tzinfo=UTC)
    printed = []

    def listed(backend: LocalBackend, prefix: str = "") -> Iterator[PendingUpload]:
        for key in "bca":
            yield PendingUpload(key, f"upload-{key}", old)
            printed.append(capfd.readouterr().out)

    monkeypatch.setattr(LocalBackend, "list_uploads", listed)
    assert partwise("uploads", url).code == 0
    assert [f"upload-{key}" in text for key, text in zip("bca", printed, strict=True)] == [True] * 3


def test_a_storage_that_lists_no_uploads_is_told_from_one_without_any(
    partwise: Run, backend: LocalBackend, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = initiate(backend, "a", days_ago=8)
    limit(monkeypatch, backend, lists_uploads=False)
    for command, hint in ((("uploads", url), "'partwise status'"), (("gc", url, *HERE), "'partwise abort'")):
        ended = partwise(*command)
        assert (ended.code, ended.out) == (2, "")
        assert "does not list pending uploads, so those without a checkpoint can't be found" in ended.err
        assert hint in ended.err
    assert pending(backend) == {upload_id}


def test_gc_says_that_a_storage_can_not_abort_uploads(
    partwise: Run, backend: LocalBackend, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = initiate(backend, "a", days_ago=8)
    limit(monkeypatch, backend, aborts=False)
    for more in ((), ("--dry-run",)):
        ended = partwise("gc", url, *HERE, *more)
        assert (ended.code, ended.out) == (2, "")
        assert "can't abort uploads: their parts expire by themselves; nothing was changed" in ended.err
    assert pending(backend) == {upload_id}


def test_an_empty_list_is_reported(partwise: Run, url: str) -> None:
    ended = partwise("uploads", url)
    assert (ended.code, ended.out, ended.err) == (0, "", f"no uploads are pending at {url}\n")


def test_a_connection_failure_is_retryable(partwise: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise ConnectionFailed("connection reset")

    monkeypatch.setattr(LocalBackend, "list_uploads", fail)
    ended = partwise("uploads", url, "--json", "--max-attempts", "1")
    assert (ended.code, ended.last["error"]["type"]) == (75, "ConnectionFailed")


def test_a_directory_without_its_slash_is_not_a_prefix(
    partwise: Run, bucket: Path, backend: LocalBackend, url: str
) -> None:
    initiate(backend, "a", days_ago=8)
    for command in ("uploads", "gc"):
        ended = partwise(command, bucket.as_uri())
        assert (ended.code, ended.out) == (2, "")
        assert ended.err == (
            f"error: '{bucket.as_uri()}' is a directory\nhint: To select what is in it, end the URL with a slash\n"
        )


def test_a_missing_directory_is_wrong_usage(partwise: Run, place: Path) -> None:
    for command in ("uploads", "gc"):
        ended = partwise(command, f"{(place / 'typo').as_uri()}/", "--json")
        assert (ended.code, ended.last["ok"]) == (2, False)
        assert f"there is no directory {place / 'typo'}; nothing was changed" in ended.err
        assert not (place / "typo").exists()


def test_a_prefix_that_no_name_matches_is_wrong_usage(
    partwise: Run, bucket: Path, backend: LocalBackend, url: str
) -> None:
    initiate(backend, "ab", days_ago=8)
    (bucket / "there.tar").touch()
    for command in (("uploads",), ("gc", "--dry-run")):
        for prefix, code in {"typo": 2, "there": 0, "a": 0, "typo/a": 2}.items():
            ended = partwise(*command, f"{url}{prefix}")
            assert (ended.code, "no name in" in ended.err or "no directory" in ended.err) == (
                code,
                code == 2,
            ), (command, prefix)


def test_an_upload_from_the_future_has_a_negative_age(partwise: Run, backend: LocalBackend, url: str) -> None:
    initiate(backend, "a", days_ago=-1.5)
    assert partwise("uploads", url).out.splitlines()[1].startswith("-1 d 12 h  ")
    assert partwise("uploads", url, "--json").last["age"] < 0


# --- uploads: parts, checkpoints, age ---


def upload_parts(backend: LocalBackend, key: str, *sizes: int, days_ago: float = 0) -> str:
    upload_id = initiate(backend, key, days_ago=days_ago)
    for number, size in enumerate(sizes, start=1):
        backend.upload_part(key, upload_id, number, bytes_body(bytes(size)))
    return upload_id


def test_parts_and_bytes_are_shown_if_requested(
    partwise: Run, backend: LocalBackend, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = upload_parts(backend, "a", 102_400, 51_200), initiate(backend, "b", days_ago=2)
    ended = partwise("uploads", "--parts", url)
    assert [line[13:] for line in ended.out.splitlines()] == [
        "CHECKPOINT   PARTS        SIZE  KEY, UPLOAD ID",
        f"-                2   150.0 KiB  a  {first}",
        f"-                0         0 B  b  {second}",
    ]
    assert ended.err == f"2 pending uploads, 150.0 KiB in 2 parts, at {url}\n"
    found = partwise("uploads", "--parts", url, "--json").objects
    assert [(one["parts"], one["bytes"]) for one in found] == [(2, 153_600), (0, 0)]
    monkeypatch.setattr(LocalBackend, "list_parts", lambda *arguments: pytest.fail("the parts were listed"))
    assert "parts" not in partwise("uploads", url, "--json").last


def test_an_upload_that_ends_while_its_parts_are_listed_is_left_out(
    partwise: Run, backend: LocalBackend, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    initiate(backend, "a")
    listed = list(backend.list_uploads())
    backend.abort_upload("a", listed[0].upload_id)
    monkeypatch.setattr(LocalBackend, "list_uploads", lambda backend, prefix="": iter(listed))
    ended = partwise("uploads", "--parts", url)
    assert (ended.code, ended.out) == (0, "")


def test_a_storage_that_lists_no_parts_is_refused(
    partwise: Run, backend: LocalBackend, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, backend, lists_parts=False)
    ended = partwise("uploads", "--parts", url)
    assert (ended.code, "does not list the parts of uploads" in ended.err) == (2, True)
    assert partwise("uploads", url).code == 0


def test_the_checkpoint_of_an_upload_is_shown(
    partwise: Run, store: FileCheckpointStore, backend: LocalBackend, url: str
) -> None:
    owned, abandoned, orphan = (initiate(backend, key) for key in "abc")
    own(store, backend.location, owned, abandoned)
    (checkpoint,) = store.scan()
    store.save(evolve(checkpoint, location="oss://elsewhere", upload_id=orphan, abandoned=()))
    rows = partwise("uploads", url, *HERE).out.splitlines()[1:]
    assert [row.split()[-3:] for row in rows] == [
        [checkpoint.name[:8], "a", owned],
        [checkpoint.name[:8], "b", abandoned],
        ["-", "c", orphan],
    ]
    found = partwise("uploads", url, *HERE, "--json").objects
    assert [(one["checkpoint"], one["has_checkpoint"]) for one in found] == [
        (checkpoint.name, True),
        (checkpoint.name, True),
        (None, False),
    ]


def test_an_unreadable_checkpoint_may_be_that_of_any_upload(
    partwise: Run, store: FileCheckpointStore, backend: LocalBackend, url: str, place: Path
) -> None:
    owned, other = initiate(backend, "a"), initiate(backend, "b")
    own(store, backend.location, owned)
    (place / "checkpoints" / f"{'0' * 32}.ucp").write_text("damaged")
    first, second = partwise("uploads", url, *HERE, "--json").objects
    assert (first["has_checkpoint"], second["has_checkpoint"]) == (True, None)
    assert f"?           b  {other}" in partwise("uploads", url, *HERE).out


@pytest.mark.skipif(os.name == "nt", reason="every user has a home there")
def test_a_store_that_can_not_be_read_is_a_warning(
    partwise: Run, backend: LocalBackend, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(store: FileCheckpointStore) -> None:
        raise CheckpointError("the disk is on fire")

    upload_id = initiate(backend, "a")
    monkeypatch.setattr(FileCheckpointStore, "scan", fail)
    ended = partwise("uploads", url)
    assert (ended.code, ended.out.splitlines()[1].split()[-3:]) == (0, ["?", "a", upload_id])
    assert "warning: it is not known which uploads have a checkpoint here: the disk is on fire\n" in ended.err


def test_a_store_that_does_not_exist_is_wrong_usage(partwise: Run, backend: LocalBackend, url: str) -> None:
    ended = partwise("uploads", url, "--checkpoint-dir", "typo")
    assert (ended.code, "there is no directory typo" in ended.err) == (2, True)


def test_younger_uploads_can_be_left_out(
    partwise: Run, backend: LocalBackend, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = initiate(backend, "a", days_ago=8)
    initiate(backend, "b"), initiate(backend, "c", days_ago=-1)
    found = partwise("uploads", "--older-than", "7d", url, "--json")
    assert [one["upload_id"] for one in found.objects] == [old]
    ended = partwise("uploads", "--older-than", "9d", url)
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == f"none of 3 pending uploads is old enough at {url}\n"
    assert partwise("uploads", "--older-than", "7", url).code == 2


@pytest.mark.parametrize(("columns", "lines"), [(140, 2), (80, 3)])
def test_a_long_upload_id_gets_its_own_line_on_a_terminal(
    *, partwise: Run, url: str, monkeypatch: pytest.MonkeyPatch, columns: int, lines: int
) -> None:
    pending = PendingUpload("backups/shop.tar", "u" * 90, datetime(2020, 1, 1, tzinfo=UTC))
    monkeypatch.setattr(LocalBackend, "list_uploads", lambda backend, prefix="": [pending])
    monkeypatch.setenv("COLUMNS", str(columns))
    assert len(partwise("uploads", url).out.splitlines()) == 2
    monkeypatch.setattr(SteadyStream, "isatty", lambda stream: True)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", partwise("uploads", url).out).splitlines()
    assert len(shown) == lines
    assert shown[-1].endswith("u" * 90)
    if lines == 3:
        assert shown[-1] == f"{' ' * 25}{'u' * 90}"


# --- transient failures ---


class Flaky(MemoryBackend):
    """Raises these errors for one kind of request, then succeeds; each page has one upload."""

    def __init__(self, **errors: list[Exception]) -> None:
        super().__init__("flaky")
        self.errors = errors
        register_backend("flaky", lambda url, **settings: (self, ""))
        for key in "abc":
            self.initiate_upload(key, ObjectOptions())

    def close(self) -> None:
        """Do nothing: more than one command uses it."""

    def list_uploads(self, prefix: str = "") -> Any:
        for pending in list(super().list_uploads(prefix)):
            if self.errors.get("list"):
                raise self.errors["list"].pop(0)
            yield evolve(pending, initiated=pending.initiated.replace(year=2020))

    def abort_upload(self, key: str, upload_id: str) -> None:
        if self.errors.get("abort"):
            raise self.errors["abort"].pop(0)
        super().abort_upload(key, upload_id)


@pytest.mark.parametrize(
    "errors", [[ServerFailed("503")], [ClockSkewed("an hour off")], [ConnectionFailed("reset")] * 4], ids=repr
)
def test_uploads_retries_transient_failures(partwise: Run, waits: list[float], errors: list[Exception]) -> None:
    Flaky(list=list(errors))
    ended = partwise("uploads", "flaky:", "--json")
    assert (ended.code, [one["key"] for one in ended.objects]) == (0, ["a", "b", "c"])
    assert len(waits) == len(errors)


def test_a_list_that_fails_in_the_middle_continues(
    partwise: Run, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """New uploads reset the number of attempts, and none is listed twice."""
    backend = Flaky()
    whole = list(backend.list_uploads())
    lengths = iter([1, 2, 3])

    def in_parts(prefix: str = "") -> Any:
        length = next(lengths)
        yield from whole[:length]
        if length < 3:
            raise ConnectionFailed("reset")

    monkeypatch.setattr(backend, "list_uploads", in_parts)
    ended = partwise("uploads", "flaky:", "--json", "--max-attempts", "2")
    assert (ended.code, [one["key"] for one in ended.objects]) == (0, ["a", "b", "c"])


def test_uploads_gives_up_after_the_maximum_of_attempts(partwise: Run, waits: list[float]) -> None:
    backend = Flaky(list=[ServerFailed("503")] * 9)
    assert partwise("uploads", "flaky:", "--max-attempts", "5").code == 75
    assert (len(backend.errors["list"]), len(waits)) == (4, 4)
    assert partwise("uploads", "flaky:", "--max-attempts", "2").code == 75
    assert (len(backend.errors["list"]), len(waits)) == (2, 5)


def test_uploads_gives_up_after_a_minute(partwise: Run, waits: list[float]) -> None:
    Flaky(list=[ServerFailed("503")] * 999)
    ended = partwise("uploads", "flaky:")
    assert (ended.code, ended.err) == (75, "error: 503\nhint: To keep trying for longer, raise --give-up-after\n")
    assert sum(waits) == pytest.approx(60.0, abs=0.001)


@pytest.mark.parametrize(("flag", "seconds"), [("2m", 120.0), ("0", 0.0)])
def test_the_patience_of_uploads_is_a_flag(partwise: Run, waits: list[float], flag: str, seconds: float) -> None:
    Flaky(list=[ServerFailed("503")] * 999)
    assert partwise("uploads", "flaky:", "--give-up-after", flag).code == 75
    assert sum(waits) == pytest.approx(seconds, abs=0.001)


def test_a_name_that_can_not_be_resolved_is_no_reason_to_try_again_later(partwise: Run, waits: list[float]) -> None:
    Flaky(list=[HostNotFound("its name can't be resolved")] * 999)
    assert partwise("uploads", "flaky:").code == 1


def test_retry_after_is_honoured(partwise: Run, waits: list[float]) -> None:
    Flaky(list=[ServerFailed("503", retry_after=40.0)])
    assert partwise("uploads", "flaky:").code == 0
    assert waits == [40.0]


def test_a_permanent_failure_is_not_retried(partwise: Run, waits: list[float]) -> None:
    Flaky(list=[AccessDenied("not yours")])
    assert (partwise("uploads", "flaky:").code, waits) == (1, [])


def test_ctrl_c_ends_a_backoff(partwise: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SystemClock, "wait", interrupt)
    Flaky(list=[ServerFailed("503")])
    ended = partwise("uploads", "flaky:")
    assert (ended.code, ended.err) == (130, "error: interrupted\n")


def test_gc_retries_transient_failures(partwise: Run, store: FileCheckpointStore, waits: list[float]) -> None:
    backend = Flaky(list=[ServerFailed("503")], abort=[ClockSkewed("an hour off"), ConnectionFailed("reset")])
    ended = partwise("gc", "flaky:", *HERE, "--json")
    assert (ended.code, [one["action"] for one in ended.objects]) == (0, ["dropped"] * 3)
    assert list(backend.list_uploads()) == []


def test_gc_does_not_back_off_for_each_orphan_while_the_storage_is_down(
    partwise: Run, store: FileCheckpointStore, waits: list[float]
) -> None:
    backend = Flaky(abort=[ServerFailed("503")] * 6)
    ended = partwise("gc", "flaky:", *HERE, "--json", "--max-attempts", "5")
    assert (ended.code, [one["action"] for one in ended.objects]) == (75, ["failed", "failed", "dropped"])
    assert (len(waits), backend.errors["abort"]) == (4, [])


def test_abort_retries_transient_failures(
    partwise: Run, store: FileCheckpointStore, small: Path, waits: list[float]
) -> None:
    backend = Flaky(abort=[ServerFailed("503")] * 3)
    register_backend("flaky", lambda url, **settings: (backend, "a"))
    (upload_id, *_) = [one.upload_id for one in backend.list_uploads()]
    store.save(Checkpoint(backend.location, "a", str(small), Fingerprint(size=1), 1, upload_id=upload_id))
    line = ("abort", "small.bin", "flaky:a", *HERE, "--json")
    assert partwise(*line, "--max-attempts", "2").code == 75
    assert (partwise(*line).last["dropped"], len(waits)) == (True, 2)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OSSServer]:
    """An OSS server with a pending upload, and the environment variables to use it."""
    backend = MemoryBackend()
    backend.initiate_upload("k", ObjectOptions())
    with OSSServer(buckets={"examplebucket": backend}) as server:
        for name, value in {
            "ENDPOINT": server.endpoint,
            "REGION": server.region,
            "ACCESS_KEY_ID": server.access_key_id,
            "ACCESS_KEY_SECRET": server.access_key_secret,
        }.items():
            monkeypatch.setenv(f"OSS_{name}", value)
        yield server


@pytest.mark.parametrize(
    "fault",
    [
        ServerFault(None, Fail("ServiceUnavailable"), times=1),
        ServerFault(None, SkewClock(3600), times=None),
        ServerFault(None, SkewClock(-3600), times=None),
    ],
    ids=["503", "an hour ahead", "an hour behind"],
)
def test_every_command_survives_a_failure_and_a_wrong_clock(
    *, partwise: Run, store: FileCheckpointStore, small: Path, server: OSSServer, waits: list[float], fault: ServerFault
) -> None:
    for line in (
        ("uploads", "oss://examplebucket"),
        ("gc", "oss://examplebucket", *HERE, "--dry-run"),
        ("gc", "oss://examplebucket", *HERE, "--older-than", "0s"),
        ("upload", "small.bin", "oss://examplebucket/copy", *HERE, "--dry-run"),
        ("upload", "small.bin", "oss://examplebucket/copy", *HERE, "--multipart-threshold", "0"),
    ):
        if fault.times is not None or not server.requests:
            server.plan(fault)
        ended = partwise(*line)
        assert ended.code == 0, (line, ended.err)


# --- gc ---


class Typed(io.StringIO):
    """Standard input at a terminal, on which this is typed."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make standard input and standard error a terminal, on which this is typed."""

    def at_a_terminal(answer: str) -> None:
        monkeypatch.setattr("sys.stdin", Typed(answer))
        monkeypatch.setattr(SteadyStream, "isatty", lambda stream: stream is sys.stderr)
        monkeypatch.setenv("TERM", "dumb")

    return at_a_terminal


@pytest.mark.parametrize("answer", ["y\n", " YES \n", "y"])
def test_on_a_terminal_orphans_are_dropped_after_a_yes(
    partwise: Run, backend: LocalBackend, url: str, at_a_terminal: Any, answer: str
) -> None:
    initiate(backend, "a", days_ago=8), initiate(backend, "b", days_ago=1)
    at_a_terminal(answer)
    ended = partwise("gc", url, *HERE)
    assert ended.out.splitlines() == [
        "ACTION      AGE           WHY                         KEY",
        "would drop  8 d           no checkpoint here owns it  a",
        "keep        1 d           younger than 7 d            b",
    ]
    assert ended.err.replace("\n", "").startswith(f"drop 1 upload at {url} for good? [y/N] ")
    assert ended.err.endswith(f"dropped 1 upload at {url}\n")
    assert (ended.code, [one.key for one in backend.list_uploads()]) == (0, ["b"])


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "yesterday\n", "yes no\n"])
def test_anything_but_a_yes_drops_nothing(
    partwise: Run, backend: LocalBackend, url: str, at_a_terminal: Any, answer: str
) -> None:
    upload_id = initiate(backend, "a", days_ago=8)
    at_a_terminal(answer)
    ended = partwise("gc", url, *HERE)
    assert (ended.code, ended.err.splitlines()[-1][-19:]) == (1, "nothing was dropped")
    assert pending(backend) == {upload_id}


def test_an_interrupted_question_drops_nothing(
    partwise: Run, backend: LocalBackend, url: str, at_a_terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(stream: object) -> str:
        raise KeyboardInterrupt

    upload_id = initiate(backend, "a", days_ago=8)
    at_a_terminal("")
    monkeypatch.setattr(Typed, "readline", interrupt)
    assert partwise("gc", url, *HERE).code == 130
    assert pending(backend) == {upload_id}


def test_json_shows_the_outcome_of_the_question(
    partwise: Run, backend: LocalBackend, url: str, at_a_terminal: Any
) -> None:
    initiate(backend, "a", days_ago=8)
    at_a_terminal("n\n")
    ended = partwise("gc", url, *HERE, "--json")
    assert (ended.code, ended.last["action"], "would drop  8 d" in ended.err) == (1, "would drop", True)
    at_a_terminal("y\n")
    ended = partwise("gc", url, *HERE, "--json")
    assert (ended.code, ended.last["action"]) == (0, "dropped")


def test_an_upload_that_is_recorded_during_the_question_is_kept(
    *,
    partwise: Run,
    backend: LocalBackend,
    store: FileCheckpointStore,
    url: str,
    at_a_terminal: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adopted, _ = initiate(backend, "a", days_ago=8), initiate(backend, "b", days_ago=8)

    def answer(stream: object) -> str:
        own(store, backend.location, adopted)
        return "y\n"

    at_a_terminal("")
    monkeypatch.setattr(Typed, "readline", answer)
    assert partwise("gc", url, *HERE).code == 0
    assert pending(backend) == {adopted}


@pytest.mark.parametrize("flag", ["--yes", "-y", "--dry-run"])
def test_yes_and_dry_run_ask_nothing(
    partwise: Run, backend: LocalBackend, url: str, at_a_terminal: Any, flag: str
) -> None:
    upload_id = initiate(backend, "a", days_ago=8)
    at_a_terminal("")
    ended = partwise("gc", url, *HERE, flag)
    assert (ended.code, "[y/N]" in ended.err) == (0, False)
    assert pending(backend) == ({upload_id} if flag == "--dry-run" else set())


def test_the_question_goes_to_standard_output_if_standard_error_is_a_file(
    partwise: Run, backend: LocalBackend, url: str, at_a_terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    initiate(backend, "a", days_ago=8)
    at_a_terminal("n\n")
    monkeypatch.setattr(SteadyStream, "isatty", lambda stream: stream is sys.stdout)
    ended = partwise("gc", url, *HERE)
    assert (ended.code, ended.out[-6:], pending(backend) == set()) == (1, "[y/N] ", False)


def test_a_key_that_does_not_fit_gets_its_own_line_on_a_terminal(
    partwise: Run, backend: LocalBackend, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ["a", "long/" * 10 + "key"]
    for key in keys:
        initiate(backend, key, days_ago=8)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(SteadyStream, "isatty", lambda stream: stream is sys.stdout)
    lines = partwise("gc", "--dry-run", url, *HERE).out.splitlines()
    (first,) = (line for line in lines if line.endswith("  a"))
    assert "would drop" in first
    assert f"  {keys[1]}" in lines
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in lines) <= 80


def test_gc_asks_nothing_without_a_terminal(
    partwise: Run, backend: LocalBackend, url: str, at_a_terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a script whose output goes to a log, and in a cron job, it drops without a question."""
    closed = io.StringIO()
    closed.close()
    at_a_terminal("")
    for stdin, is_terminal in ((Typed(""), False), (io.StringIO(), True), (None, True), (closed, True)):
        initiate(backend, "a", days_ago=8)
        monkeypatch.setattr("sys.stdin", stdin)
        monkeypatch.setattr(SteadyStream, "isatty", lambda stream, answer=is_terminal: answer)
        ended = partwise("gc", url, *HERE)
        assert (ended.code, "[y/N]" in ended.out + ended.err, pending(backend)) == (0, False, set())


def test_gc_asks_nothing_without_orphans(partwise: Run, backend: LocalBackend, url: str, at_a_terminal: Any) -> None:
    initiate(backend, "a", days_ago=1)
    at_a_terminal("")
    ended = partwise("gc", url, *HERE)
    assert (ended.code, ended.err) == (0, f"dropped 0 uploads at {url}\n")


@pytest.mark.parametrize(("age", "warns"), [("59m", True), ("3599s", True), ("0s", True), ("1h", False), ("7d", False)])
def test_an_age_below_an_hour_is_warned_about(partwise: Run, url: str, age: str, *, warns: bool) -> None:
    ended = partwise("gc", url, *HERE, "--older-than", age)
    assert (ended.code, "warning: an upload that is younger than 1 h may" in ended.err) == (0, warns)


def test_a_running_upload_is_never_dropped(
    partwise: Run, backend: LocalBackend, store: FileCheckpointStore, url: str
) -> None:
    """The storage may list its id before the checkpoint has it; by then, the checkpoint is claimed."""
    starting, _ = initiate(backend, "k", days_ago=8), initiate(backend, "other", days_ago=8)
    own(store, backend.location, None)
    (recorded,) = store.scan()
    with store.claim(recorded.name):
        ended = partwise("gc", url, *HERE, "--json", "--older-than", "0s")
    assert [(one["action"], one["why"]) for one in ended.objects] == [
        ("keep", "an upload is running here"),
        ("dropped", "no checkpoint here owns it"),
    ]
    assert pending(backend) == {starting}


def test_an_id_that_is_recorded_during_the_check_of_claims_is_seen(
    partwise: Run, backend: LocalBackend, store: FileCheckpointStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = initiate(backend, "k", days_ago=8)
    own(store, backend.location, None)

    def recorded_just_now(*arguments: object) -> bool:
        own(store, backend.location, upload_id)
        return False

    monkeypatch.setattr("partwise.cli.gc.is_running", recorded_just_now)
    assert partwise("gc", url, *HERE).code == 0
    assert pending(backend) == {upload_id}


def test_nothing_is_an_orphan_if_a_checkpoint_is_unreadable(
    partwise: Run, backend: LocalBackend, store: FileCheckpointStore, url: str, place: Path
) -> None:
    """It may be damaged, or of another user, and any upload may belong to it."""
    upload_id = initiate(backend, "k", days_ago=8)
    own(store, backend.location, upload_id)
    (recorded,) = (place / "checkpoints").glob("*.ucp")
    recorded.write_bytes(recorded.read_bytes().replace(b"bucket", b"bakery"))
    ended = partwise("gc", url, *HERE, "--json")
    assert (ended.code, ended.last["action"], ended.last["why"]) == (1, "keep", "a checkpoint is unreadable")
    assert ended.err.count(f"{recorded.name} is left out") == 1
    assert ended.err.splitlines()[-3] == "error: some checkpoints in checkpoints can't be read"
    assert pending(backend) == {upload_id}
    recorded.unlink()
    assert (partwise("gc", url, *HERE).code, pending(backend)) == (0, set())


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="needs root: the checkpoint is another user's")
def test_the_upload_of_another_user_is_not_an_orphan(
    partwise: Run, backend: LocalBackend, store: FileCheckpointStore, url: str, place: Path
) -> None:
    """The checkpoint of another user is not trusted, but its upload is kept."""
    upload_id = initiate(backend, "k", days_ago=8)
    own(store, backend.location, upload_id)
    (recorded,) = (place / "checkpoints").glob("*.ucp")
    os.chown(recorded, 12345, 12345)
    assert (partwise("gc", url, *HERE).code, pending(backend)) == (1, {upload_id})


def test_the_store_is_read_once_for_all_uploads(
    partwise: Run, backend: LocalBackend, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, scans = FileCheckpointStore.scan, []
    monkeypatch.setattr(FileCheckpointStore, "scan", lambda store: scans.append(store) or scan(store))
    for key in "abcdef":
        initiate(backend, key, days_ago=8)
    assert partwise("gc", url, *HERE).code == 0
    assert len(scans) == 1


def test_an_upload_from_the_future_is_kept(partwise: Run, backend: LocalBackend, url: str) -> None:
    """A clock is wrong, so that its age is not known."""
    upload_id = initiate(backend, "a", days_ago=-1)
    ended = partwise("gc", url, *HERE, "--older-than", "0s")
    assert ended.out.splitlines()[1] == "keep        -1 d          dated in the future         a"
    assert pending(backend) == {upload_id}


def test_an_upload_with_an_invalid_date_is_kept(
    partwise: Run, backend: LocalBackend, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = PendingUpload("a", "U", datetime.min)  # noqa: DTZ901  # as a third-party backend may return it
    monkeypatch.setattr(LocalBackend, "list_uploads", lambda backend, prefix="": [odd])
    ended = partwise("gc", url, *HERE, "--json")
    assert (ended.code, ended.last["action"], ended.last["age"]) == (0, "keep", None)
    assert partwise("uploads", url).out.splitlines()[1].split() == ["?", "-", "a", "U"]


@pytest.mark.parametrize("where", ["--checkpoint-dir=typo", "--checkpoint=checkpoints/typo.ucp"])
def test_nothing_is_dropped_if_the_store_does_not_exist(
    partwise: Run, backend: LocalBackend, url: str, where: str
) -> None:
    """Otherwise every upload would look like an orphan after a typing error."""
    upload_id = initiate(backend, "a", days_ago=8)
    assert partwise("gc", url, where).code == 2
    assert pending(backend) == {upload_id}


def test_an_orphan_is_dropped(partwise: Run, backend: LocalBackend, url: str) -> None:
    initiate(backend, "a", days_ago=8)
    ended = partwise("gc", url, *HERE)
    assert ended.code == 0
    assert ended.out.splitlines() == [
        "ACTION      AGE           WHY                         KEY",
        "dropped     8 d           no checkpoint here owns it  a",
    ]
    assert ended.err == f"dropped 1 upload at {url}\n"
    assert pending(backend) == set()


def test_a_dry_run_drops_nothing(partwise: Run, backend: LocalBackend, url: str) -> None:
    upload_id = initiate(backend, "a", days_ago=8)
    ended = partwise("gc", url, *HERE, "--dry-run")
    assert ended.out.splitlines()[1] == "would drop  8 d           no checkpoint here owns it  a"
    assert pending(backend) == {upload_id}


def test_young_uploads_are_kept(partwise: Run, backend: LocalBackend, url: str) -> None:
    upload_id = initiate(backend, "a", days_ago=2)
    ended = partwise("gc", url, *HERE)
    assert ended.out.splitlines()[1] == "keep        2 d           younger than 7 d            a"
    assert pending(backend) == {upload_id}


def test_the_minimum_age_can_be_set(partwise: Run, backend: LocalBackend, url: str) -> None:
    initiate(backend, "a", days_ago=2)
    partwise("gc", url, *HERE, "--older-than", "1d")
    assert pending(backend) == set()


def test_the_minimum_age_is_inclusive(
    partwise: Run, backend: LocalBackend, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = datetime(2026, 1, 1, tzinfo=UTC)
    uploads = [
        PendingUpload(key, key, started + timedelta(seconds=seconds))
        for key, seconds in {"a": -1, "b": 0, "c": 1}.items()
    ]
    monkeypatch.setattr(LocalBackend, "list_uploads", lambda backend, prefix="": uploads)
    monkeypatch.setattr("time.time", lambda: started.timestamp() + 7 * DAY)
    payloads = partwise("gc", url, *HERE, "--dry-run", "--json").objects
    assert [one["action"] for one in payloads] == ["would drop", "would drop", "keep"]


def test_an_orphan_with_the_key_of_a_stopped_upload_is_dropped(
    partwise: Run, backend: LocalBackend, store: FileCheckpointStore, url: str
) -> None:
    owned, _ = initiate(backend, "k", days_ago=8), initiate(backend, "k", days_ago=8)
    own(store, backend.location, owned)
    assert partwise("gc", url, *HERE).code == 0
    assert pending(backend) == {owned}


def test_an_empty_list_has_no_table(partwise: Run, backend: LocalBackend, url: str) -> None:
    ended = partwise("gc", url, *HERE)
    assert (ended.out, ended.err) == ("", f"dropped 0 uploads at {url}\n")
    initiate(backend, "a", days_ago=8)
    assert "ACTION" not in partwise("gc", url, *HERE, "--json").err


def test_uploads_of_a_checkpoint_are_never_dropped(
    partwise: Run, backend: LocalBackend, store: FileCheckpointStore, url: str
) -> None:
    owned, abandoned, orphan = (initiate(backend, key, days_ago=400) for key in "kka")
    own(store, backend.location, owned, abandoned)
    ended = partwise("gc", url, *HERE, "--json", "--older-than", "0s")
    assert {one["upload_id"]: one["action"] for one in ended.objects} == {
        owned: "keep",
        abandoned: "keep",
        orphan: "dropped",
    }
    assert pending(backend) == {owned, abandoned}


def test_checkpoints_of_another_bucket_do_not_count(
    partwise: Run, backend: LocalBackend, store: FileCheckpointStore, url: str
) -> None:
    own(store, "oss://elsewhere", initiate(backend, "k", days_ago=8))
    partwise("gc", url, *HERE)
    assert pending(backend) == set()


def test_a_prefix_keeps_all_other_keys(partwise: Run, backend: LocalBackend, url: str) -> None:
    kept = initiate(backend, "b", days_ago=8)
    initiate(backend, "a", days_ago=8)
    partwise("gc", f"{url}a", *HERE)
    assert pending(backend) == {kept}


def test_a_failed_abort_does_not_stop_gc(
    partwise: Run, backend: LocalBackend, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubborn, other = initiate(backend, "a", days_ago=8), initiate(backend, "b", days_ago=8)
    abort = LocalBackend.abort_upload

    def sometimes(self: LocalBackend, key: str, upload_id: str) -> None:
        if upload_id == stubborn:
            raise AccessDenied("not yours")
        abort(self, key, upload_id)

    monkeypatch.setattr(LocalBackend, "abort_upload", sometimes)
    ended = partwise("gc", url, *HERE, "--json")
    assert ended.code == 1
    assert [(one["upload_id"], one["action"]) for one in ended.objects] == [(stubborn, "failed"), (other, "dropped")]
    assert f"error: a ({stubborn}) was not dropped\ncause: not yours\n" in ended.err


@pytest.mark.parametrize("denied", ["a", "b"])
def test_a_failure_that_has_to_be_fixed_is_the_worse_of_two(
    partwise: Run, backend: LocalBackend, url: str, monkeypatch: pytest.MonkeyPatch, denied: str
) -> None:
    """75 means that running it again is all that is needed."""
    for key in ("a", "b"):
        initiate(backend, key, days_ago=8)

    def fail(self: LocalBackend, key: str, upload_id: str) -> None:
        raise AccessDenied("not yours") if key == denied else ConnectionFailed("connection reset")

    monkeypatch.setattr(LocalBackend, "abort_upload", fail)
    ended = partwise("gc", url, *HERE, "--json", "--max-attempts", "1")
    assert [one["exit_code"] for one in ended.objects] == ([1, 75] if denied == "a" else [75, 1])
    assert ended.code == 1


def test_nothing_is_dropped_if_the_store_can_not_be_read(
    partwise: Run, backend: LocalBackend, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = initiate(backend, "a", days_ago=8)

    def fail(store: FileCheckpointStore) -> None:
        raise CheckpointError("the directory can't be listed")

    monkeypatch.setattr(FileCheckpointStore, "scan", fail)
    assert partwise("gc", url, *HERE).code == 1
    assert pending(backend) == {upload_id}
