"""``partwise status`` and ``partwise abort``."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve

from partwise.backends.local import LocalBackend
from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.cli.abort import _RecordedSource
from partwise.cli.status import StatusRow, names_of, owner_of, table
from partwise.cli.targets import StoreSpec, url_of
from partwise.clock import SystemClock
from partwise.errors import (
    AccessDenied,
    CheckpointError,
    CheckpointUnwritable,
    ClaimLost,
    ConnectionFailed,
    SourceUnreadable,
)
from partwise.model import MIB, Capabilities, ClaimOwner, ObjectOptions, UploadedPart
from partwise.registry import open_backend, open_checkpoint_store, register_checkpoint_store
from partwise.stores.file import FileCheckpointStore
from partwise.stores.memory import MemoryCheckpointStore

Run = Callable[..., Any]
HERE = ("--checkpoint-dir", "checkpoints")


@pytest.fixture
def store(place: Path) -> FileCheckpointStore:
    return FileCheckpointStore(place / "checkpoints")


def a_checkpoint(location: str, source: Path | str, **changes: Any) -> Checkpoint:
    """Return the checkpoint of an upload of 4 MiB, half done, started an hour and five minutes ago."""
    checkpoint = Checkpoint(
        location=location,
        key="copy",
        source=str(source),
        fingerprint=Fingerprint(size=4 * MIB),
        part_size=MIB,
        upload_id="U1",
        parts=(UploadedPart(1, MIB, "a"), UploadedPart(2, MIB, "b")),
        created=time.time() - 3900,
    )
    return evolve(checkpoint, **changes)


# --- status ---


def test_an_empty_store_is_reported(partwise: Run, place: Path) -> None:
    (place / "checkpoints").mkdir()
    ended = partwise("status", *HERE)
    where = place / "checkpoints"
    assert (ended.code, ended.out, ended.err) == (0, "", f"no unfinished uploads are recorded in {where}\n")


def test_an_empty_store_has_no_objects(partwise: Run) -> None:
    assert partwise("status", "--json").out == ""


def test_each_unfinished_upload_is_a_row(partwise: Run, store: FileCheckpointStore, place: Path) -> None:
    store.save(a_checkpoint("oss://b@r", place / "f"))
    ended = partwise("status", *HERE)
    (checkpoint,) = store.scan()
    assert ended.out.splitlines() == [
        "NAME      DONE     SIZE  AGE        STATE    UPLOAD",
        f"{checkpoint.name[:8]}  50 %  4.0 MiB  1 h 5 min  stopped  {place / 'f'}  -> oss://b/copy",
    ]
    assert ended.err == (
        f"1 unfinished upload in {place / 'checkpoints'}\n"
        "run the command of one again to resume it, or 'partwise abort NAME' to drop it\n"
    )


def test_an_unfinished_stream_has_no_size(partwise: Run, store: FileCheckpointStore, place: Path) -> None:
    store.save(a_checkpoint("oss://b@r", "-", fingerprint=Fingerprint(), parts_per_doubling=1000))
    row = partwise("status", *HERE).out.splitlines()[1]
    assert row[10:] == "2.0 MiB     ?  1 h 5 min  stopped  standard input  -> oss://b/copy"


def test_a_narrow_terminal_has_source_and_target_in_two_lines() -> None:
    known = [
        StatusRow(
            a_checkpoint("oss://b@r", "/srv/backups/of/the/shop/backup.tar", key="2026/backup.tar"),
            False,
            3900.0,
            "0123abcd",
        ),
        StatusRow(a_checkpoint("oss://b@r", "/f", key="f"), True, 1.0, "fedc9876", ClaimOwner("backup-1", 4711)),
    ]
    assert ["".join(line) for line in table(known, 80)] == [
        "NAME      DONE     SIZE  AGE        STATE    UPLOAD",
        "0123abcd  50 %  4.0 MiB  1 h 5 min  stopped  /srv/backups/of/the/shop/backup.tar",
        "                                             -> oss://b/2026/backup.tar",
        "fedc9876  50 %  4.0 MiB  1.0 s      running  /f",
        "                                             -> oss://b/f",
        "                                             process 4711 on backup-1",
    ]
    assert ["".join(line) for line in table(known, 50)] == [
        "NAME      DONE     SIZE  AGE        STATE",
        "0123abcd  50 %  4.0 MiB  1 h 5 min  stopped",
        "  /srv/backups/of/the/shop/backup.tar",
        "  -> oss://b/2026/backup.tar",
        "fedc9876  50 %  4.0 MiB  1.0 s      running",
        "  /f",
        "  -> oss://b/f",
        "  process 4711 on backup-1",
    ]
    assert len(table(known, 120)) == 3
    wide = max(len("".join(line)) for line in table(known, None))
    assert [len(table(known, width)) for width in (wide, wide - 1)] == [3, 6]


def test_as_many_characters_of_a_name_are_shown_as_tell_it_from_the_others() -> None:
    """All are the names of checkpoints; these have eight characters in common."""

    @define
    class Named:
        name: str

    names = ["00000000aa", "00000000ab", "00000000b", "1" * 32, "11", "2" * 32]
    shown = names_of([Named(name) for name in names])  # type: ignore[misc]  # it uses only the name
    assert shown == {
        "00000000aa": "00000000aa",
        "00000000ab": "00000000ab",
        "00000000b": "00000000b",
        "1" * 32: "1" * 8,
        "11": "11",
        "2" * 32: "2" * 8,
    }


def test_uploads_that_differ_only_in_their_region_or_endpoint_show_it(
    partwise: Run, store: FileCheckpointStore, place: Path
) -> None:
    for location in ("s3://b@amazonaws.com", "s3://b@s3.example.com:9000", "s3://other@amazonaws.com"):
        store.save(a_checkpoint(location, "/f"))
    rows = partwise("status", *HERE).out.splitlines()[1:]
    assert sorted(row[45:] for row in rows) == [
        "/f  -> s3://b/copy at amazonaws.com",
        "/f  -> s3://b/copy at s3.example.com:9000",
        "/f  -> s3://other/copy",
    ]
    found = partwise("status", *HERE, "--json").objects
    assert {one["endpoint"] for one in found} == {"amazonaws.com", "s3.example.com:9000"}


def test_a_running_upload_names_its_process(partwise: Run, store: FileCheckpointStore, place: Path) -> None:
    checkpoint = a_checkpoint("oss://b@r", "/f")
    store.save(checkpoint)
    with store.claim(checkpoint.name):
        shown, found = partwise("status", *HERE).out, partwise("status", *HERE, "--json").last
        owner = store.claim_owner(checkpoint.name)
        assert shown.splitlines()[1].endswith(f"  -> oss://b/copy  process {os.getpid()} on {owner.host}")
        assert found["owner"] == {"host": owner.host, "process": os.getpid()}
    assert partwise("status", *HERE, "--json").last["owner"] is None


@pytest.mark.parametrize(
    ("store", "where"),
    [
        (("--checkpoint-dir", "checkpoints"), "{place}/checkpoints"),
        (("--store", "sqlite:///uploads.db"), "{place}/uploads.db"),
        ((), "{place}/home/partwise/checkpoints"),
    ],
    ids=str,
)
@pytest.mark.skipif(os.name == "nt", reason="the state directory has another name there")
def test_the_place_of_the_store_is_named(partwise: Run, place: Path, store: tuple[str, ...], where: str) -> None:
    match store:
        case ("--store", url):
            kept: Any = open_checkpoint_store(url)
        case _:
            kept = FileCheckpointStore(*store[1:])
    kept.save(a_checkpoint("oss://b@r", "/f"))
    assert f" in {where.format(place=place)}\n" in partwise("status", *store).err
    assert partwise("status", *store, "--json").last["store"] == where.format(place=place)


def test_a_store_of_another_package_is_named_by_its_url_without_the_password(partwise: Run) -> None:
    register_checkpoint_store("elsewhere", lambda url: MemoryCheckpointStore())
    ended = partwise("status", "--store", "elsewhere://me:secret@host/name")
    assert ended.err == "no unfinished uploads are recorded in elsewhere://me:***@host/name\n"


def test_a_name_with_a_line_break_is_one_line(partwise: Run, store: FileCheckpointStore) -> None:
    store.save(a_checkpoint("oss://b@r", "/a\nb\x1b[2J"))
    assert partwise("status", *HERE).out.splitlines()[1].endswith("  /a\\nb\\x1b[2J  -> oss://b/copy")


@pytest.mark.parametrize(
    ("location", "key", "url"),
    [
        ("oss://b@cn-hangzhou", "a b%2B+?#ü", "oss://b/a b%2B+?#ü"),
        ("file:///mnt/my%20backups", "a/b c%", "file:///mnt/my%20backups/a%2Fb%20c%25"),
    ],
)
def test_the_target_is_shown_as_it_can_be_typed(location: str, key: str, url: str) -> None:
    assert url_of(a_checkpoint(location, "/f", key=key)) == url


def test_each_unfinished_upload_is_an_object(partwise: Run, store: FileCheckpointStore, place: Path) -> None:
    store.save(a_checkpoint("oss://b@r", place / "young", created=time.time()))
    store.save(a_checkpoint("oss://b@r", place / "old"))
    old, young = partwise("status", *HERE, "--json").objects
    assert (old["source"], young["source"]) == (str(place / "old"), str(place / "young"))
    for changing in ("created", "age", "name", "store"):
        assert old.pop(changing)
    assert old == {
        "source": str(place / "old"),
        "url": "oss://b/copy",
        "location": "oss://b@r",
        "key": "copy",
        "upload_id": "U1",
        "bytes_done": 2 * MIB,
        "bytes_total": 4 * MIB,
        "fraction": 0.5,
        "parts_done": 2,
        "parts_total": 4,
        "part_size": MIB,
        "running": False,
        "endpoint": "r",
        "owner": None,
    }


def test_an_upload_that_is_running_is_shown_as_running(partwise: Run, store: FileCheckpointStore, place: Path) -> None:
    checkpoint = a_checkpoint("oss://b@r", place / "f")
    store.save(checkpoint)
    with store.claim(checkpoint.name):
        assert partwise("status", *HERE, "--json").last["running"] is True
        assert partwise("status", *HERE).out.splitlines()[1].split()[9] == "running"


def test_status_leaves_no_files(partwise: Run, store: FileCheckpointStore, place: Path) -> None:
    store.save(a_checkpoint("oss://b@r", place / "f"))
    before = sorted(path.name for path in (place / "checkpoints").iterdir())
    partwise("status", *HERE)
    assert sorted(path.name for path in (place / "checkpoints").iterdir()) == before


class ReadOnly(MemoryCheckpointStore):
    """A store in which nothing can be claimed."""

    @contextmanager
    def claim(self, name: str) -> Any:
        raise CheckpointUnwritable("read-only")
        yield


def test_without_claims_the_state_is_unknown(partwise: Run, place: Path) -> None:
    store = ReadOnly()
    store.save(a_checkpoint("oss://b@r", place / "f"))
    register_checkpoint_store("readonly", lambda url: store.handle())
    assert partwise("status", "--store", "readonly:", "--json").last["running"] is None
    assert partwise("status", "--store", "readonly:").out.splitlines()[1].split()[9] == "unknown"


def test_a_damaged_checkpoint_is_skipped_with_a_warning(partwise: Run, store: FileCheckpointStore, place: Path) -> None:
    store.save(a_checkpoint("oss://b@r", place / "f"))
    (recorded,) = (place / "checkpoints").glob("*.ucp")
    recorded.write_bytes(recorded.read_bytes().replace(b"copy", b"kopy"))
    ended = partwise("status", *HERE)
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.startswith("warning: ")


def test_an_unreadable_checkpoint_file_is_an_error(partwise: Run, place: Path) -> None:
    (place / "letter.txt").write_text("Dear reader,")
    (place / "link").symlink_to("letter.txt")
    for name in ("letter.txt", "link"):
        ended = partwise("status", "--checkpoint", name)
        assert (ended.code, ended.out) == (1, "")
        assert ended.err.endswith(f"no unfinished upload that can be read is recorded in {place / name}\n")


@pytest.mark.parametrize("command", ["status", "gc"])
def test_a_scan_that_fails_for_a_moment_is_repeated(
    partwise: Run, place: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """It starts again, and so does the count of what can't be read."""

    class Restarting(MemoryCheckpointStore):
        scans = 0

        def scan(self):
            Restarting.scans += 1
            logging.getLogger("partwise.stores.restarting").warning("one is left out")
            yield from super().scan()
            if Restarting.scans <= 2:
                raise CheckpointError("the database restarts", retryable=True)

    waited: list[float] = []
    monkeypatch.setattr(SystemClock, "wait", lambda clock, event, seconds: waited.append(seconds))
    register_checkpoint_store("restarting", lambda url: Restarting())
    (place / "bucket").mkdir()
    target = ["--older-than", "1d", (place / "bucket").as_uri() + "/"] if command == "gc" else []
    ended = partwise(command, "--store", "restarting:", *target)

    assert ended.code == 0, ended.err
    assert Restarting.scans >= 3
    assert len(waited) == 2


def test_a_scan_that_fails_for_long_can_be_repeated_later(partwise: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Down(MemoryCheckpointStore):
        def scan(self):
            raise CheckpointError("no connection to the database", retryable=True)

    waited: list[float] = []
    monkeypatch.setattr(SystemClock, "wait", lambda clock, event, seconds: waited.append(seconds))
    monkeypatch.setattr(SystemClock, "monotonic", staticmethod(lambda: sum(waited)))
    register_checkpoint_store("down", lambda url: Down())
    ended = partwise("status", "--store", "down:")

    assert ended.code == 75
    assert "no connection to the database" in ended.err
    assert 10 <= sum(waited) < 11
    assert "--give-up-after" not in ended.err, "the command has no such flag"


@pytest.mark.parametrize("line", [("deadbeef",), ("--upload-id", "1", "URL")], ids=["name", "id"])
def test_abort_scans_for_as_long_as_its_flag_says(
    partwise: Run, place: Path, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...]
) -> None:
    class Down(MemoryCheckpointStore):
        def scan(self):
            raise CheckpointError("no connection to the database", retryable=True)

    waited: list[float] = []
    monkeypatch.setattr(SystemClock, "wait", lambda clock, event, seconds: waited.append(seconds))
    monkeypatch.setattr(SystemClock, "monotonic", staticmethod(lambda: sum(waited)))
    register_checkpoint_store("down", lambda url: Down())
    (place / "bucket").mkdir()
    words = [(place / "bucket").as_uri() + "/key" if word == "URL" else word for word in line]
    ended = partwise("abort", *words, "--store", "down:", "--give-up-after", "20s")

    assert ended.code == 75
    assert 20 <= sum(waited) < 21
    assert "raise --give-up-after" in ended.err


def test_a_missing_checkpoint_file_is_reported(partwise: Run) -> None:
    ended = partwise("status", "--checkpoint", "one.ucp")
    assert ended.err == "there is no file one.ucp: its upload has not started, or is finished\n"


@pytest.fixture
def odd(place: Path) -> Callable[..., tuple[str, str]]:
    """Register a store with one normal checkpoint, and one with changed fields; returns the flags for it."""

    def register(**changes: Any) -> tuple[str, str]:
        plain, changed = (a_checkpoint("oss://b@r", place / name) for name in ("plain", "odd"))
        for name, value in changes.items():
            object.__setattr__(changed, name, value)

        class Odd(MemoryCheckpointStore):
            def scan(self) -> Any:
                return [changed, plain]

        store = Odd()
        register_checkpoint_store("odd", lambda url: store)
        return ("--store", "odd:")

    return register


@pytest.mark.parametrize(
    "created",
    [float("nan"), float("inf"), float("-inf"), 1e20, -1e300, "yesterday", None, 10**400],
    ids=lambda value: str(value)[:10],
)
def test_an_invalid_date_hides_no_upload(partwise: Run, odd: Any, place: Path, created: object) -> None:
    where = odd(created=created)
    ended = partwise("status", *where)
    assert ended.code == 0
    rows = ended.out.splitlines()[1:]
    assert len(rows) == 2
    assert any(f"{place / 'plain'}  -> oss://b/copy" in row and "1 h 5 min" in row for row in rows)
    assert any(f"{place / 'odd'}  -> oss://b/copy" in row for row in rows)
    payloads = {one["source"]: one for one in partwise("status", *where, "--json").objects}
    assert payloads[str(place / "odd")]["created"] is None
    assert payloads[str(place / "plain")]["created"] is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"part_size": 0},
        {"part_size": -1},
        {"part_size": "large"},
        {"parts": 5},
        {"parts": ("x",)},
        {"fingerprint": None},
        {"location": None},
        {"location": 5, "key": 7, "source": None},
    ],
    ids=str,
)
def test_an_invalid_checkpoint_does_not_hide_the_others(
    partwise: Run, odd: Any, place: Path, changes: dict[str, Any]
) -> None:
    where = odd(**changes)
    ended = partwise("status", *where)
    assert (ended.code, len(ended.out.splitlines())) == (0, 3)
    assert f"{place / 'plain'}  -> oss://b/copy" in ended.out
    ended = partwise("status", *where, "--json")
    assert (ended.code, len(ended.objects)) == (0, 2)


def test_an_invalid_checkpoint_is_shown_as_unreadable(partwise: Run, odd: Any) -> None:
    rows = partwise("status", *odd(fingerprint=None)).out.splitlines()[1:]
    (row,) = (row for row in rows if "unreadable" in row)
    assert row.split()[1:3] == ["?", "?"]


def test_an_upload_from_the_future_has_a_negative_age(partwise: Run, store: FileCheckpointStore, place: Path) -> None:
    """The clock was set back."""
    store.save(a_checkpoint("oss://b@r", place / "f", created=time.time() + 7530))
    assert "-2 h 5 min" in partwise("status", *HERE).out
    assert partwise("status", *HERE, "--json").last["age"] < -7500


def test_a_missing_directory_of_checkpoints_is_wrong_usage(partwise: Run, place: Path) -> None:
    (place / "there").mkdir()
    for where, code in {
        "--checkpoint-dir=typo": 2,
        "--checkpoint-dir=there": 0,
        "--checkpoint=typo/one.ucp": 2,
        "--checkpoint=there/one.ucp": 0,  # it is deleted with its upload
        "--checkpoint=one.ucp": 0,
    }.items():
        ended = partwise("status", where)
        assert (ended.code, "there is no directory" in ended.err) == (code, code == 2), where
        if "=one" in where or "=there/" in where:
            name = where.partition("=")[2]
            assert ended.err == f"there is no file {name}: its upload has not started, or is finished\n"
            ended = partwise("abort", "small.bin", "file:///bucket/copy", where)
            missing = f"is recorded in {place / name}, which does not exist; nothing"
            assert (ended.code, missing in ended.out) == (0, True)


@pytest.mark.parametrize("line", [("status",), ("gc", "file:bucket/"), ("abort", "small.bin", "file:bucket/copy")])
def test_a_directory_as_checkpoint_file_is_wrong_usage(partwise: Run, place: Path, line: tuple[str, ...]) -> None:
    (place / "bucket").mkdir()
    words = [word.replace("file:bucket", (place / "bucket").as_uri()) for word in line]
    ended = partwise(*words, "--checkpoint=bucket")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "error: --checkpoint: bucket is a directory: use --checkpoint-dir; nothing was changed\n"


@pytest.mark.parametrize("command", [("status",), ("abort", "small.bin", "file:///bucket/copy")])
@pytest.mark.parametrize("url", ["sqlite:///typo.db", "file:{place}/typo", "sqlite:///missing/typo.db"])
def test_a_missing_store_is_wrong_usage(partwise: Run, place: Path, command: tuple[str, ...], url: str) -> None:
    url = url.format(place=place)
    before = sorted(place.rglob("*"))
    ended = partwise(*command, "--store", url)
    assert ended.code == 2
    assert f"--store: {url} does not exist; nothing was changed" in ended.err
    assert sorted(place.rglob("*")) == before


def test_an_existing_empty_store_is_empty(partwise: Run, place: Path) -> None:
    (place / "directory").mkdir()
    (place / "empty.db").touch()
    for url in (f"file:{place}/directory", "sqlite:///empty.db", "file:"):
        ended = partwise("status", "--store", url)
        assert (ended.code, ended.out) == (0, "")
    assert not (place / "typo").exists()


@pytest.mark.parametrize("where", ["--checkpoint=one.ucp", "--store=sqlite:///one.db"])
def test_a_deleted_working_directory_is_wrong_usage(partwise: Run, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def gone() -> str:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("os.getcwd", gone)
    ended = partwise("status", where)
    assert (ended.code, "the working directory was removed" in ended.err) == (2, True)


@pytest.mark.skipif(os.name == "nt", reason="every user has a home there")
@pytest.mark.parametrize("line", [("status",), ("upload", "small.bin", "URL", "--multipart-threshold", "0")], ids=str)
def test_a_user_without_a_home_gets_a_hint(
    partwise: Run, small: Path, url: str, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...]
) -> None:
    without_a_home(monkeypatch)
    ended = partwise(*(url if word == "URL" else word for word in line))
    assert ended.code == 1
    assert ended.err.startswith("error: this user has no home directory")
    assert ended.err.endswith(" --checkpoint-dir names another place, --no-resume uses none\n")


@pytest.mark.skipif(os.name == "nt", reason="every user has a home there")
def test_a_relative_state_directory_is_refused(partwise: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    without_a_home(monkeypatch)
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    ended = partwise("status")
    assert ended.code == 1
    assert "checkpoints in, and XDG_STATE_HOME, 'state', is not an absolute path" in ended.err


@pytest.mark.skipif(os.name == "nt", reason="every user has a home there")
@pytest.mark.parametrize("where", ["--no-resume", "--checkpoint-dir=c", "--checkpoint=c", "--store=sqlite:///c", ""])
def test_no_home_is_needed_if_a_store_is_named(
    *, partwise: Run, small: Path, place: Path, url: str, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    without_a_home(monkeypatch)
    if not where:
        monkeypatch.setenv("XDG_STATE_HOME", str(place / "state"))
    line = ["upload", "small.bin", url, "--part-size", "100K", "--multipart-threshold", "0", where]
    assert partwise(*filter(None, line)).code == 0
    if where != "--no-resume":
        assert partwise(*filter(None, ["status", where])).code == 0


def without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the home directory, as in a container whose user has no entry in the user database."""

    def no_entry(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", no_entry)
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name)


def test_an_owner_that_can_t_be_asked_for_is_not_known() -> None:
    class Failing(MemoryCheckpointStore):
        def claim_owner(self, name: str) -> ClaimOwner | None:
            raise CheckpointError("no answer")

    checkpoint = a_checkpoint("oss://b@r", "/f")
    assert owner_of(Failing(), checkpoint) is None
    assert owner_of(MemoryCheckpointStore(), checkpoint) is None


def test_a_checkpoint_file_that_does_not_exist_is_named_as_such(place: Path) -> None:
    missing = StoreSpec(file=str(place / "f.ucp"))
    assert str(missing) == f"{place / 'f.ucp'}, which does not exist"
    (place / "f.ucp").touch()
    assert str(missing) == str(place / "f.ucp")


# --- abort ---


@pytest.fixture
def unfinished(store: FileCheckpointStore, small: Path, bucket: Path) -> Checkpoint:
    """The unfinished upload of the small file: the storage and the checkpoint have one part."""
    from partwise.bodies import ChecksummedBody
    from partwise.sources import FileSource

    backend = LocalBackend(bucket)
    upload_id = backend.initiate_upload("copy", ObjectOptions())
    part = backend.upload_part("copy", upload_id, 1, ChecksummedBody(FileSource(small).body(0, 102_400)))
    checkpoint = Checkpoint(
        location=backend.location,
        key="copy",
        source=str(small),
        fingerprint=FileSource(small).fingerprint(),
        part_size=102_400,
        upload_id=upload_id,
        parts=(part,),
        created=time.time(),
    )
    store.save(checkpoint)
    return checkpoint


def test_abort_deletes_the_upload_and_its_checkpoint(
    partwise: Run, store: FileCheckpointStore, unfinished: Checkpoint, bucket: Path, url: str
) -> None:
    ended = partwise("abort", "small.bin", url, *HERE)
    assert ended.code == 0
    assert ended.out == (
        f"dropped the upload of small.bin to {url}: 100.0 of 293.0 KiB in 1 part on the storage, and its checkpoint\n"
    )
    assert list(store.scan()) == []
    assert list(LocalBackend(bucket).list_uploads()) == []


def test_abort_does_not_need_the_file(
    partwise: Run, store: FileCheckpointStore, unfinished: Checkpoint, small: Path, url: str
) -> None:
    small.unlink()
    payload = partwise("abort", "small.bin", url, *HERE, "--json").last
    assert payload == {"ok": True, "dropped": True, "upload_id": unfinished.upload_id, "bytes_dropped": 102_400}
    assert list(store.scan()) == []


def test_nothing_to_abort_is_not_an_error(partwise: Run, small: Path, url: str) -> None:
    ended = partwise("abort", "small.bin", url, "--json")
    assert (ended.code, ended.last) == (0, {"ok": True, "dropped": False, "upload_id": None, "bytes_dropped": 0})
    where = FileCheckpointStore().where
    assert f"no unfinished upload of small.bin to {url} is recorded in {where}; nothing was" in ended.err


def test_a_running_upload_is_not_aborted(
    partwise: Run, store: FileCheckpointStore, unfinished: Checkpoint, url: str
) -> None:
    with store.claim(unfinished.name):
        assert partwise("abort", "small.bin", url, *HERE).code == 3
    assert list(store.scan()) != []


def test_an_owner_that_is_not_known_is_not_named(
    partwise: Run, store: FileCheckpointStore, unfinished: Checkpoint, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FileCheckpointStore, "claim_owner", lambda *_: None)
    with store.claim(unfinished.name):
        ended = partwise("abort", "small.bin", url, *HERE)
    assert (ended.code, "right now. Nothing was aborted" in ended.err) == (3, True)
    assert "Wait until process" not in ended.err


def test_a_claim_that_is_lost_while_aborting_names_no_owner_to_wait_for(
    partwise: Run, store: FileCheckpointStore, unfinished: Checkpoint, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(self: FileCheckpointStore, name: str, upload_id: str | None) -> None:
        raise ClaimLost("another run has claimed the checkpoint", name=name)

    monkeypatch.setattr(FileCheckpointStore, "delete", lose)
    ended = partwise("abort", "small.bin", url, *HERE)
    assert (ended.code, "another run has claimed the checkpoint" in ended.err) == (3, True)
    assert "Wait until process" not in ended.err


def test_a_checkpoint_that_can_t_be_read_at_first_is_aborted_without_its_size(
    partwise: Run, store: FileCheckpointStore, unfinished: Checkpoint, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is loaded for the messages may fail; what the abort itself loads decides."""
    load, failures = FileCheckpointStore.load, [CheckpointError("no answer")]

    def fail_once(self: FileCheckpointStore, name: str) -> Checkpoint | None:
        if failures:
            raise failures.pop()
        return load(self, name)

    monkeypatch.setattr(FileCheckpointStore, "load", fail_once)
    ended = partwise("abort", "small.bin", url, *HERE)
    assert (ended.code, ended.out) == (0, f"dropped the upload of small.bin to {url}, and its checkpoint\n")
    assert (list(store.scan()), failures) == ([], [])


def test_the_recorded_source_of_an_abort_is_never_read() -> None:
    checkpoint = a_checkpoint("oss://b@r", "/f")
    source = _RecordedSource(checkpoint)
    assert (source.name, source.fingerprint()) == ("/f", checkpoint.fingerprint)
    with pytest.raises(SourceUnreadable, match="/f is not read here"):
        source.body(0, 1)


def test_abort_deletes_a_damaged_checkpoint(
    partwise: Run, store: FileCheckpointStore, unfinished: Checkpoint, place: Path, url: str
) -> None:
    (recorded,) = (place / "checkpoints").glob("*.ucp")
    recorded.write_bytes(recorded.read_bytes() + b"nonsense\nmore\n")
    ended = partwise("abort", "small.bin", url, *HERE, "--json")
    assert (ended.code, ended.last["dropped"]) == (0, True)
    assert list((place / "checkpoints").iterdir()) == []


def test_abort_does_not_claim_to_drop_an_unknown_upload(
    partwise: Run, store: FileCheckpointStore, unfinished: Checkpoint, place: Path, url: str
) -> None:
    (recorded,) = (place / "checkpoints").glob("*.ucp")
    recorded.write_bytes(recorded.read_bytes().replace(b"small", b"smell"))
    ended = partwise("abort", "small.bin", url, *HERE)
    assert ended.code == 0
    assert "deleted the damaged checkpoint of small.bin" in ended.out
    assert "'partwise gc' drops it" in ended.out


def test_abort_does_not_claim_to_drop_what_the_storage_can_not_abort(
    partwise: Run, store: FileCheckpointStore, unfinished: Checkpoint, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalBackend, "capabilities", Capabilities(aborts=False))
    for more in ((), ("--json",)):
        store.save(unfinished)
        ended = partwise("abort", "small.bin", url, *HERE, *more)
        assert (ended.code, list(store.scan())) == (0, [])
        if more:
            payload = {"ok": True, "dropped": False, "upload_id": unfinished.upload_id, "bytes_dropped": 0}
            assert ended.last == payload
        else:
            assert ended.out == (
                f"deleted the checkpoint of small.bin to {url}; the storage can't abort its upload, whose parts expire"
                " by themselves\n"
            )
    assert [one.upload_id for one in open_backend(url)[0].list_uploads()] == [unfinished.upload_id]


def test_a_failed_abort_keeps_the_checkpoint(
    partwise: Run, store: FileCheckpointStore, unfinished: Checkpoint, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise ConnectionFailed("connection reset", retryable=False)

    monkeypatch.setattr(LocalBackend, "abort_upload", fail)
    ended = partwise("abort", "small.bin", url, *HERE)
    assert ended.code == 1
    assert "connection reset" in ended.err
    assert list(store.scan()) == [unfinished]


def test_an_upload_of_standard_input_can_be_aborted(
    partwise: Run, store: FileCheckpointStore, unfinished: Checkpoint, url: str
) -> None:
    store.delete(unfinished.name, unfinished.upload_id)
    store.save(evolve(unfinished, source="-", fingerprint=Fingerprint()))
    assert partwise("abort", "-", url, *HERE, "--json").last["dropped"] is True


# --- abort by name ---


def test_abort_takes_a_name_or_its_beginning(
    *, partwise: Run, store: FileCheckpointStore, unfinished: Checkpoint, bucket: Path, url: str, small: Path
) -> None:
    shown = partwise("status", *HERE).out.splitlines()[1].split()[0]
    assert shown == unfinished.name[:8]
    small.unlink()
    for name in (unfinished.name, shown.upper(), unfinished.name[:4]):
        store.save(unfinished)
        ended = partwise("abort", name, *HERE)
        assert ended.code == 0
        assert ended.out.startswith(f"dropped the upload of {small} to {url}: 100.0 of 293.0 KiB in 1 part")
        assert (list(store.scan()), list(LocalBackend(bucket).list_uploads())) == ([], [])
    ended = partwise("abort", shown, *HERE, "--json")
    assert (ended.code, ended.last["ok"]) == (2, False)


@pytest.mark.parametrize("key", ["a b%2B+?#ü", "-x", "x\ny", "{endpoint}"])
def test_a_name_leads_to_any_key_and_source(
    partwise: Run, store: FileCheckpointStore, unfinished: Checkpoint, bucket: Path, key: str
) -> None:
    backend = LocalBackend(bucket)
    upload_id = backend.initiate_upload(key, ObjectOptions())
    odd = evolve(unfinished, key=key, source=f"s3://elsewhere/{key}", upload_id=upload_id, parts=())
    store.save(odd)
    assert partwise("abort", odd.name, *HERE, "--json").last["upload_id"] == upload_id
    assert [one.upload_id for one in backend.list_uploads()] == [unfinished.upload_id]


def test_a_beginning_of_several_names_lists_them(
    partwise: Run, store: FileCheckpointStore, unfinished: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two names rarely begin with four equal digits, so there are some more uploads here."""
    seen: dict[str, Checkpoint] = {}
    number = 0
    while True:
        number += 1
        one = evolve(unfinished, key=f"copy{number}", upload_id=f"U{number}")
        if one.name[:4] in seen:
            break
        seen[one.name[:4]] = one
    both = (seen[one.name[:4]], one)
    for each in both:
        store.save(each)
    ended = partwise("abort", one.name[:4], *HERE)
    assert (ended.code, ended.out) == (2, "")
    assert f"error: '{one.name[:4]}' is the beginning of 2 names in {store.where}; nothing was changed\n" in ended.err
    assert "hint: Write more of one: " in ended.err
    for each in both:
        assert f"{each.name[:8]} ({each.source} -> {url_of(each)})" in ended.err
    assert len(list(store.scan())) == 3


@pytest.mark.parametrize("word", ["backup.tar", "01g", "xyz0123456789", "oss://b/k", "a/../b", "x" * 300])
def test_what_is_no_name_is_refused_with_what_to_write(
    partwise: Run, store: FileCheckpointStore, unfinished: Checkpoint, word: str
) -> None:
    ended = partwise("abort", word, *HERE)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        f"error: {word!r:.200} is not the name of an unfinished upload in {store.where}; nothing was changed\n"
        "hint: 'partwise status' shows the names. Or write FILE and URL, or --upload-id ID and URL\n"
    )
    assert list(store.scan()) == [unfinished]


def test_too_few_characters_of_a_name_are_refused(
    partwise: Run, store: FileCheckpointStore, unfinished: Checkpoint
) -> None:
    ended = partwise("abort", unfinished.name[:3], *HERE)
    assert (ended.code, "hint: Write at least 4 characters of a name\n" in ended.err) == (2, True)
    assert list(store.scan()) == [unfinished]


def test_a_file_or_a_url_alone_lists_the_uploads_that_may_be_meant(
    partwise: Run, store: FileCheckpointStore, unfinished: Checkpoint, small: Path, url: str
) -> None:
    for word in ("small.bin", str(small), url):
        ended = partwise("abort", word, *HERE)
        assert ended.code == 2
        assert f"hint: Write FILE and URL, or a name: {unfinished.name[:8]} ({small} -> {url})\n" in ended.err
    assert list(store.scan()) == [unfinished]


def test_a_running_upload_is_not_aborted_by_its_name(
    partwise: Run, store: FileCheckpointStore, unfinished: Checkpoint
) -> None:
    with store.claim(unfinished.name):
        ended = partwise("abort", unfinished.name, *HERE)
        owner = store.claim_owner(unfinished.name)
        assert (ended.code, owner.process) == (3, os.getpid())
        assert f"hint: Wait until process {owner.process} on {owner.host} has finished, or stop it first\n" in ended.err
    assert list(store.scan()) == [unfinished]


def test_settings_that_lead_to_another_bucket_are_refused(
    partwise: Run, store: FileCheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"):
        monkeypatch.setenv(name, "dummy")
    checkpoint = a_checkpoint("oss://bucket@oss-cn-hangzhou.aliyuncs.com", "/f")
    store.save(checkpoint)
    ended = partwise("abort", checkpoint.name, *HERE, "--region", "cn-beijing")
    assert (ended.code, ended.out) == (2, "")
    places = f"{checkpoint.location}, and oss://bucket/copy is at oss://bucket@oss-cn-beijing.aliyuncs.com now"
    assert f"is at {places}; nothing was changed" in ended.err
    assert "hint: Give the same --endpoint, --region and --profile as for its upload\n" in ended.err
    assert list(store.scan()) == [checkpoint]


def test_abort_needs_to_know_what(partwise: Run) -> None:
    for line, message in {
        ("abort",): "missing argument 'FILE|NAME'",
        ("abort", "--upload-id", "U"): "missing argument 'URL'",
        ("abort", "--upload-id", "U", "f", "file:///bucket/k"): "--upload-id excludes a file, and 'f' is one",
        ("abort", "--upload-id", "U", "f"): "'f' is not a URL",
        ("abort", "--upload-id", "", "file:///bucket/k"): "--upload-id: it is empty",
    }.items():
        ended = partwise(*line)
        assert (ended.code, ended.err.splitlines()[0]) == (2, f"error: {message}")


# --- abort by upload id ---


def test_abort_takes_an_upload_id_without_a_checkpoint(partwise: Run, bucket: Path, url: str) -> None:
    backend = LocalBackend(bucket)
    upload_id, other = (backend.initiate_upload("copy", ObjectOptions()) for _ in range(2))
    ended = partwise("abort", "--upload-id", upload_id, url)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"dropped the upload {upload_id} to {url}, of which there was no checkpoint\n"
    assert [one.upload_id for one in backend.list_uploads()] == [other]
    payload = partwise("abort", url, "--upload-id", other, "--json").last
    assert payload == {"ok": True, "dropped": True, "upload_id": other, "bytes_dropped": None}
    assert list(backend.list_uploads()) == []


@pytest.mark.parametrize("upload_id", ["unknown", "../x", "\x1b[2J"])
def test_an_unknown_upload_id_changes_nothing(
    *, partwise: Run, store: FileCheckpointStore, unfinished: Checkpoint, bucket: Path, url: str, upload_id: str
) -> None:
    ended = partwise("abort", "--upload-id", upload_id, url, *HERE)
    assert (ended.code, "is pending; nothing was changed" in ended.out) == (0, True)
    assert "\x1b" not in ended.out
    assert partwise("abort", "--upload-id", unfinished.upload_id, f"{url}2", *HERE, "--json").last["dropped"] is False
    assert list(store.scan()) == [unfinished]
    assert [one.upload_id for one in LocalBackend(bucket).list_uploads()] == [unfinished.upload_id]


def test_an_upload_id_with_a_checkpoint_takes_the_checkpoint_along(
    partwise: Run, store: FileCheckpointStore, unfinished: Checkpoint, bucket: Path, url: str
) -> None:
    with store.claim(unfinished.name):
        assert partwise("abort", "--upload-id", unfinished.upload_id, url, *HERE).code == 3
    ended = partwise("abort", "--upload-id", unfinished.upload_id, url, *HERE)
    assert "100.0 of 293.0 KiB in 1 part on the storage, and its checkpoint" in ended.out
    assert (list(store.scan()), list(LocalBackend(bucket).list_uploads())) == ([], [])


def test_an_upload_that_has_replaced_that_of_the_id_meanwhile_is_not_aborted(
    *,
    partwise: Run,
    store: FileCheckpointStore,
    unfinished: Checkpoint,
    bucket: Path,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    newer = evolve(unfinished, upload_id=LocalBackend(bucket).initiate_upload("copy", ObjectOptions()), parts=())

    def find(*_: object) -> Checkpoint:
        store.save(newer)  # by another run, after the checkpoint was found
        return unfinished

    monkeypatch.setattr("partwise.cli.abort._checkpoint_of", find)
    ended = partwise("abort", "--upload-id", unfinished.upload_id, url, *HERE)
    assert (ended.code, "nothing was changed" in ended.out) == (0, True)
    assert list(store.scan()) == [newer]
    assert newer.upload_id in {one.upload_id for one in LocalBackend(bucket).list_uploads()}


def test_an_upload_that_is_beginning_here_may_have_the_id(
    partwise: Run, store: FileCheckpointStore, unfinished: Checkpoint, bucket: Path, url: str
) -> None:
    beginning = evolve(unfinished, source="/other", upload_id=None, parts=())
    store.save(beginning)
    orphan = LocalBackend(bucket).initiate_upload("copy", ObjectOptions())
    line = ("abort", "--upload-id", orphan, url, *HERE)
    with store.claim(beginning.name):
        ended = partwise(*line)
        assert (ended.code, f"{orphan} may be its id. Nothing was changed" in ended.err) == (3, True)
    assert orphan in {one.upload_id for one in LocalBackend(bucket).list_uploads()}
    assert (partwise(*line).code, len(list(store.scan()))) == (0, 2)
    assert orphan not in {one.upload_id for one in LocalBackend(bucket).list_uploads()}


@pytest.mark.parametrize("is_its_own", [True, False], ids=["the id", "another id"])
def test_an_id_that_a_beginning_upload_has_got_meanwhile_is_looked_at_again(  # noqa: PLR0917  # fixtures
    partwise: Run,
    store: FileCheckpointStore,
    unfinished: Checkpoint,
    bucket: Path,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_its_own: bool,
) -> None:
    beginning = evolve(unfinished, source="/other", upload_id=None, parts=())
    store.save(beginning)
    orphan = LocalBackend(bucket).initiate_upload("copy", ObjectOptions())
    begun = evolve(beginning, upload_id=orphan if is_its_own else "another")
    load = FileCheckpointStore.load
    monkeypatch.setattr(
        FileCheckpointStore, "load", lambda self, name: begun if name == begun.name else load(self, name)
    )
    with store.claim(beginning.name):
        ended = partwise("abort", "--upload-id", orphan, url, *HERE)
    is_pending = orphan in {one.upload_id for one in LocalBackend(bucket).list_uploads()}
    assert (ended.code, is_pending) == ((3, True) if is_its_own else (0, False)), ended.err
    assert ("right now. Nothing was aborted" in ended.err) == is_its_own


def test_an_id_is_aborted_on_a_storage_that_lists_no_uploads(
    partwise: Run, bucket: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = LocalBackend(bucket).initiate_upload("copy", ObjectOptions())
    with monkeypatch.context() as patch:
        patch.setattr(LocalBackend, "capabilities", Capabilities(lists_uploads=False))
        ended = partwise("abort", "--upload-id", upload_id, url)
    assert (ended.code, "if there was one; the storage does not list uploads" in ended.out) == (0, True)
    assert list(LocalBackend(bucket).list_uploads()) == []


def test_an_id_is_aborted_where_uploads_can_not_be_listed(
    partwise: Run, bucket: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = LocalBackend(bucket).initiate_upload("copy", ObjectOptions())
    listed = LocalBackend.list_uploads

    def denied(*arguments: object) -> None:
        raise AccessDenied("not allowed")

    monkeypatch.setattr(LocalBackend, "list_uploads", denied)
    ended = partwise("abort", "--upload-id", upload_id, url)
    assert (ended.code, "if there was one" in ended.out) == (0, True)
    monkeypatch.setattr(LocalBackend, "list_uploads", listed)
    assert list(LocalBackend(bucket).list_uploads()) == []


def test_an_id_is_not_aborted_where_nothing_can_be(
    partwise: Run, bucket: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = LocalBackend(bucket).initiate_upload("copy", ObjectOptions())
    monkeypatch.setattr(LocalBackend, "capabilities", Capabilities(aborts=False))
    ended = partwise("abort", "--upload-id", upload_id, url)
    assert (ended.code, ended.out) == (2, "")
    assert "can't abort uploads: their parts expire by themselves; nothing was changed" in ended.err


def test_an_id_needs_the_whole_key(partwise: Run, bucket: Path) -> None:
    bucket.mkdir()
    ended = partwise("abort", "--upload-id", "U", f"{bucket.as_uri()}/")
    assert (ended.code, "names no object" in ended.err) == (2, True)
