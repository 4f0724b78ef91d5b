"""``partwise status`` and ``partwise abort``: what was begun, and what is to be dropped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from partwise.backends.local import LocalBackend
from partwise.checkpoint import Checkpoint, Fingerprint
from partwise.cli.status import Known, table
from partwise.cli.targets import url_of
from partwise.errors import CheckpointUnwritable, ConnectionFailed
from partwise.model import MIB, ObjectOptions, UploadedPart
from partwise.registry import register_checkpoint_store
from partwise.stores.file import FileCheckpointStore
from partwise.stores.memory import MemoryCheckpointStore

Run = Callable[..., Any]
HERE = ("--checkpoint-dir", "checkpoints")


@pytest.fixture
def store(place: Path) -> FileCheckpointStore:
    return FileCheckpointStore(place / "checkpoints")


def a_checkpoint(location: str, source: Path | str, **changes: Any) -> Checkpoint:
    """Of an upload of 4 MiB of which half is there, begun an hour and five minutes ago."""
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


def test_that_there_is_nothing_is_said(partwise: Run, place: Path) -> None:
    (place / "checkpoints").mkdir()
    ended = partwise("status", *HERE)
    assert (ended.code, ended.out, ended.err) == (0, "", "no unfinished uploads are recorded in checkpoints\n")


def test_nothing_is_no_object(partwise: Run) -> None:
    assert partwise("status", "--json").out == ""


def test_an_unfinished_upload_is_a_line_of_a_table(partwise: Run, store: FileCheckpointStore, place: Path) -> None:
    store.save(a_checkpoint("oss://b@r", place / "f"))
    ended = partwise("status", *HERE)
    assert ended.out.splitlines() == [
        "DONE     SIZE  AGE        STATE    UPLOAD",
        f"50 %  4.0 MiB  1 h 5 min  stopped  {place / 'f'}  -> oss://b/copy",
    ]
    assert ended.err.startswith("1 unfinished: to carry one on, run its line again")


def test_an_unfinished_stream_has_no_end_in_sight(partwise: Run, store: FileCheckpointStore, place: Path) -> None:
    store.save(a_checkpoint("oss://b@r", "-", fingerprint=Fingerprint(), parts_per_doubling=1000))
    row = partwise("status", *HERE).out.splitlines()[1]
    assert row == "2.0 MiB     ?  1 h 5 min  stopped  standard input  -> oss://b/copy"


def test_a_narrow_terminal_has_a_line_for_each_place_and_cuts_none() -> None:
    known = [
        Known(a_checkpoint("oss://b@r", "/srv/backups/of/the/shop/backup.tar", key="2026/backup.tar"), False, 3900.0),
        Known(a_checkpoint("oss://b@r", "/f", key="f"), True, 1.0),
    ]
    assert ["".join(line) for line in table(known, 60)] == [
        "DONE     SIZE  AGE        STATE    UPLOAD",
        "50 %  4.0 MiB  1 h 5 min  stopped  /srv/backups/of/the/shop/backup.tar",
        "                                   -> oss://b/2026/backup.tar",
        "50 %  4.0 MiB  1.0 s      running  /f",
        "                                   -> oss://b/f",
    ]
    assert len(table(known, 120)) == 3
    wide = max(len("".join(line)) for line in table(known, None))
    assert [len(table(known, width)) for width in (wide, wide - 1)] == [3, 5]


def test_a_name_with_a_line_break_is_still_one_line(partwise: Run, store: FileCheckpointStore) -> None:
    store.save(a_checkpoint("oss://b@r", "/a\nb\x1b[2J"))
    assert partwise("status", *HERE).out.splitlines()[1].endswith("  /a\\nb\\x1b[2J  -> oss://b/copy")


@pytest.mark.parametrize(
    ("location", "key", "url"),
    [
        ("oss://b@cn-hangzhou", "a b%2B+?#ü", "oss://b/a b%2B+?#ü"),
        ("file:///mnt/my%20backups", "a/b c%", "file:///mnt/my%20backups/a%2Fb%20c%25"),
    ],
)
def test_where_it_goes_is_told_as_it_can_be_typed(location: str, key: str, url: str) -> None:
    assert url_of(a_checkpoint(location, "/f", key=key)) == url


def test_each_unfinished_upload_is_an_object(partwise: Run, store: FileCheckpointStore, place: Path) -> None:
    store.save(a_checkpoint("oss://b@r", place / "young", created=time.time()))
    store.save(a_checkpoint("oss://b@r", place / "old"))
    old, young = partwise("status", *HERE, "--json").objects
    assert (old["source"], young["source"]) == (str(place / "old"), str(place / "young"))
    for changing in ("created", "age", "name"):
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
    }


def test_an_upload_that_runs_now_is_told_as_such(partwise: Run, store: FileCheckpointStore, place: Path) -> None:
    checkpoint = a_checkpoint("oss://b@r", place / "f")
    store.save(checkpoint)
    with store.claim(checkpoint.name):
        assert partwise("status", *HERE, "--json").last["running"] is True
        assert partwise("status", *HERE).out.splitlines()[1].split()[8] == "running"


def test_asking_leaves_nothing_behind(partwise: Run, store: FileCheckpointStore, place: Path) -> None:
    store.save(a_checkpoint("oss://b@r", place / "f"))
    before = sorted(path.name for path in (place / "checkpoints").iterdir())
    partwise("status", *HERE)
    assert sorted(path.name for path in (place / "checkpoints").iterdir()) == before


class ReadOnly(MemoryCheckpointStore):
    """A place where nothing can be locked."""

    @contextmanager
    def claim(self, name: str) -> Any:
        raise CheckpointUnwritable("read-only")
        yield


def test_where_nothing_can_be_claimed_nobody_can_tell_who_runs(partwise: Run, place: Path) -> None:
    store = ReadOnly()
    store.save(a_checkpoint("oss://b@r", place / "f"))
    register_checkpoint_store("readonly", lambda url: store.handle())
    assert partwise("status", "--store", "readonly:", "--json").last["running"] is None
    assert partwise("status", "--store", "readonly:").out.splitlines()[1].split()[8] == "unknown"


def test_a_damaged_checkpoint_is_left_out_with_a_warning(
    partwise: Run, store: FileCheckpointStore, place: Path
) -> None:
    store.save(a_checkpoint("oss://b@r", place / "f"))
    (recorded,) = (place / "checkpoints").glob("*.ucp")
    recorded.write_bytes(recorded.read_bytes().replace(b"copy", b"kopy"))
    ended = partwise("status", *HERE)
    assert (ended.code, ended.out) == (0, "")
    assert "partwise: warning: " in ended.err


def test_the_one_file_that_was_named_and_can_not_be_read_is_not_an_empty_place(partwise: Run, place: Path) -> None:
    (place / "letter.txt").write_text("Dear reader,")
    (place / "link").symlink_to("letter.txt")
    for name in ("letter.txt", "link"):
        ended = partwise("status", "--checkpoint", name)
        assert (ended.code, ended.out) == (1, "")
        assert ended.err.endswith(f"no unfinished upload that can be read is recorded in {name}\n")


def test_that_the_one_file_is_not_there_is_said(partwise: Run) -> None:
    ended = partwise("status", "--checkpoint", "one.ucp")
    assert ended.err == "there is no file one.ucp: its upload has not begun, or it is finished\n"


@pytest.fixture
def odd(place: Path) -> Callable[..., tuple[str, str]]:
    """Register a store that holds one plain checkpoint and one that has this about it; returns how to name it."""

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
def test_a_date_that_is_none_hides_nothing(partwise: Run, odd: Any, place: Path, created: object) -> None:
    where = odd(created=created)
    ended = partwise("status", *where)
    assert ended.code == 0
    rows = ended.out.splitlines()[1:]
    assert len(rows) == 2
    assert any(f"{place / 'plain'}  -> oss://b/copy" in row and "1 h 5 min" in row for row in rows)
    assert any(f"{place / 'odd'}  -> oss://b/copy" in row for row in rows)
    told = {one["source"]: one for one in partwise("status", *where, "--json").objects}
    assert told[str(place / "odd")]["created"] is None
    assert told[str(place / "plain")]["created"] is not None


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
def test_an_entry_that_can_not_be_shown_is_marked_and_the_rest_is_shown(
    partwise: Run, odd: Any, place: Path, changes: dict[str, Any]
) -> None:
    where = odd(**changes)
    ended = partwise("status", *where)
    assert (ended.code, len(ended.out.splitlines())) == (0, 3)
    assert f"{place / 'plain'}  -> oss://b/copy" in ended.out
    ended = partwise("status", *where, "--json")
    assert (ended.code, len(ended.objects)) == (0, 2)


def test_an_entry_without_figures_is_unreadable(partwise: Run, odd: Any) -> None:
    rows = partwise("status", *odd(fingerprint=None)).out.splitlines()[1:]
    (row,) = (row for row in rows if "unreadable" in row)
    assert row.split()[:2] == ["?", "?"]


def test_an_upload_that_began_in_the_future_has_a_negative_age(
    partwise: Run, store: FileCheckpointStore, place: Path
) -> None:
    """The clock was set back."""
    store.save(a_checkpoint("oss://b@r", place / "f", created=time.time() + 7530))
    assert "-2 h 5 min" in partwise("status", *HERE).out
    assert partwise("status", *HERE, "--json").last["age"] < -7500


def test_a_place_for_checkpoints_that_does_not_exist_is_not_an_empty_one(partwise: Run, place: Path) -> None:
    (place / "there").mkdir()
    for where, code in {
        "--checkpoint-dir=typo": 2,
        "--checkpoint-dir=there": 0,
        "--checkpoint=typo/one.ucp": 2,
        "--checkpoint=there/one.ucp": 0,  # it goes with its upload
        "--checkpoint=one.ucp": 0,
    }.items():
        ended = partwise("status", where)
        assert (ended.code, "there is no directory" in ended.err) == (code, code == 2), where
        if "=one" in where or "=there/" in where:
            name = where.partition("=")[2]
            assert ended.err == f"there is no file {name}: its upload has not begun, or it is finished\n"
            ended = partwise("abort", "small.bin", "file:///bucket/copy", where)
            assert (ended.code, f"is recorded in {name}, which does not exist; nothing" in ended.out) == (0, True)


@pytest.mark.parametrize("line", [("status",), ("gc", "file:bucket/"), ("abort", "small.bin", "file:bucket/copy")])
def test_a_directory_in_place_of_a_file_for_one_upload_is_told(
    partwise: Run, place: Path, line: tuple[str, ...]
) -> None:
    (place / "bucket").mkdir()
    words = [word.replace("file:bucket", (place / "bucket").as_uri()) for word in line]
    ended = partwise(*words, "--checkpoint=bucket")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(
        "partwise: --checkpoint: bucket is a directory, which --checkpoint-dir takes, so nothing"
    )


@pytest.mark.parametrize("command", [("status",), ("abort", "small.bin", "file:///bucket/copy")])
@pytest.mark.parametrize("url", ["sqlite:///typo.db", "file:{place}/typo", "sqlite:///missing/typo.db"])
def test_a_store_that_was_named_by_a_url_and_does_not_exist_is_not_an_empty_one(
    partwise: Run, place: Path, command: tuple[str, ...], url: str
) -> None:
    url = url.format(place=place)
    before = sorted(place.rglob("*"))
    ended = partwise(*command, "--store", url)
    assert ended.code == 2
    assert f"--store: {url} does not exist, so nothing is recorded there; nothing was done" in ended.err
    assert sorted(place.rglob("*")) == before


def test_a_store_that_is_there_and_empty_is_an_empty_one(partwise: Run, place: Path) -> None:
    (place / "directory").mkdir()
    (place / "empty.db").touch()
    for url in (f"file:{place}/directory", "sqlite:///empty.db", "file:"):
        ended = partwise("status", "--store", url)
        assert (ended.code, ended.out) == (0, "")
    assert not (place / "typo").exists()


@pytest.mark.parametrize("where", ["--checkpoint=one.ucp", "--store=sqlite:///one.db"])
def test_a_working_directory_that_was_removed_is_told(
    partwise: Run, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def gone() -> str:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("os.getcwd", gone)
    ended = partwise("status", where)
    assert (ended.code, "the working directory was removed: write the path from the root" in ended.err) == (2, True)


@pytest.mark.skipif(os.name == "nt", reason="every user has a home there")
@pytest.mark.parametrize("line", [("status",), ("upload", "small.bin", "URL", "--multipart-threshold", "0")], ids=str)
def test_a_user_without_a_home_is_told_what_to_name(
    partwise: Run, small: Path, url: str, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...]
) -> None:
    without_a_home(monkeypatch)
    ended = partwise(*(url if word == "URL" else word for word in line))
    assert ended.code == 1
    assert ended.err == (
        "partwise: this user has no home directory to keep checkpoints in. Nothing was done. Name a directory"
        " for checkpoints, or set XDG_STATE_HOME to one (--checkpoint, --checkpoint-dir or --store; --no-resume does"
        " without)\n"
    )


@pytest.mark.skipif(os.name == "nt", reason="every user has a home there")
def test_a_relative_state_directory_that_does_not_count_is_named(
    partwise: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_a_home(monkeypatch)
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    ended = partwise("status")
    assert ended.code == 1
    assert "checkpoints in, and XDG_STATE_HOME, 'state', is not an absolute path. Nothing was done. Name a" in ended.err


@pytest.mark.skipif(os.name == "nt", reason="every user has a home there")
@pytest.mark.parametrize("where", ["--no-resume", "--checkpoint-dir=c", "--checkpoint=c", "--store=sqlite:///c", ""])
def test_a_user_without_a_home_needs_none_who_names_a_place(
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
    """As in a container whose user has no entry among the users."""

    def no_entry(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", no_entry)
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name)


# --- abort ---


@pytest.fixture
def begun(store: FileCheckpointStore, small: Path, bucket: Path) -> Checkpoint:
    """The unfinished upload of the small file: one part is on the storage, and recorded."""
    from partwise.sources import FileSource

    backend = LocalBackend(bucket)
    upload_id = backend.initiate_upload("copy", ObjectOptions())
    part = backend.upload_part("copy", upload_id, 1, FileSource(small).body(0, 102_400))
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


def test_an_upload_is_dropped_here_and_on_the_storage(
    partwise: Run, store: FileCheckpointStore, begun: Checkpoint, bucket: Path, url: str
) -> None:
    ended = partwise("abort", "small.bin", url, *HERE)
    assert ended.code == 0
    assert ended.out == (
        f"dropped the upload of small.bin to {url}: 100.0 of 293.0 KiB in 1 part on the storage, and its checkpoint\n"
    )
    assert list(store.scan()) == []
    assert list(LocalBackend(bucket).list_uploads()) == []


def test_an_upload_is_dropped_though_its_file_is_gone(
    partwise: Run, store: FileCheckpointStore, begun: Checkpoint, small: Path, url: str
) -> None:
    small.unlink()
    told = partwise("abort", "small.bin", url, *HERE, "--json").last
    assert told == {"ok": True, "dropped": True, "upload_id": begun.upload_id, "bytes_dropped": 102_400}
    assert list(store.scan()) == []


def test_that_there_is_nothing_to_drop_is_said_and_no_error(partwise: Run, small: Path, url: str) -> None:
    ended = partwise("abort", "small.bin", url, "--json")
    assert (ended.code, ended.last) == (0, {"ok": True, "dropped": False, "upload_id": None, "bytes_dropped": 0})
    assert f"no unfinished upload of small.bin to {url} is recorded in your state directory; nothing was" in ended.err


def test_an_upload_that_runs_now_is_not_dropped(
    partwise: Run, store: FileCheckpointStore, begun: Checkpoint, url: str
) -> None:
    with store.claim(begun.name):
        assert partwise("abort", "small.bin", url, *HERE).code == 3
    assert list(store.scan()) != []


def test_a_damaged_checkpoint_is_dropped_too(
    partwise: Run, store: FileCheckpointStore, begun: Checkpoint, place: Path, url: str
) -> None:
    (recorded,) = (place / "checkpoints").glob("*.ucp")
    recorded.write_bytes(recorded.read_bytes() + b"nonsense\nmore\n")
    ended = partwise("abort", "small.bin", url, *HERE, "--json")
    assert (ended.code, ended.last["dropped"]) == (0, True)
    assert list((place / "checkpoints").iterdir()) == []


def test_of_a_checkpoint_that_can_not_be_read_it_is_not_said_that_its_upload_was_dropped(
    partwise: Run, store: FileCheckpointStore, begun: Checkpoint, place: Path, url: str
) -> None:
    (recorded,) = (place / "checkpoints").glob("*.ucp")
    recorded.write_bytes(recorded.read_bytes().replace(b"small", b"smell"))
    ended = partwise("abort", "small.bin", url, *HERE)
    assert ended.code == 0
    assert "dropped the damaged checkpoint of small.bin" in ended.out
    assert "'partwise gc' drops it" in ended.out


def test_an_upload_that_the_storage_does_not_let_go_of_is_kept(
    partwise: Run, store: FileCheckpointStore, begun: Checkpoint, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise ConnectionFailed("the line is dead", retryable=False)

    monkeypatch.setattr(LocalBackend, "abort_upload", fail)
    ended = partwise("abort", "small.bin", url, *HERE)
    assert ended.code == 1
    assert "the line is dead" in ended.err
    assert list(store.scan()) == [begun]


def test_the_upload_of_standard_input_can_be_dropped(
    partwise: Run, store: FileCheckpointStore, begun: Checkpoint, url: str
) -> None:
    store.delete(begun.name)
    store.save(evolve(begun, source="-", fingerprint=Fingerprint()))
    assert partwise("abort", "-", url, *HERE, "--json").last["dropped"] is True
