"""``partwise uploads`` and ``partwise gc``: what the storage holds, and what of it nobody owns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from partwise.backends.local import LocalBackend
from partwise.errors import AccessDenied, CheckpointError, ConnectionFailed
from partwise.model import Checkpoint, Fingerprint, ObjectOptions
from partwise.stores.file import FileCheckpointStore

Run = Callable[..., Any]
HERE = ("--checkpoint-dir", "checkpoints")
DAY = 86_400


@pytest.fixture
def backend(bucket: Path) -> LocalBackend:
    return LocalBackend(bucket)


@pytest.fixture
def url(bucket: Path) -> str:
    return f"{bucket.as_uri()}/"


@pytest.fixture
def store(place: Path) -> FileCheckpointStore:
    return FileCheckpointStore(place / "checkpoints")


def begin(backend: LocalBackend, key: str, *, days_ago: float = 0) -> str:
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


# --- uploads ---


def test_pending_uploads_are_told(partwise: Run, backend: LocalBackend, url: str) -> None:
    first, second = begin(backend, "a", days_ago=2), begin(backend, "b")
    ended = partwise("uploads", url)
    head, *rows = ended.out.splitlines()
    assert head.split() == ["AGE", "UPLOAD", "ID", "KEY"]
    assert rows[0] == f"2 d           {first}  a"
    assert rows[1].endswith(f" s         {second}  b")
    assert ended.err == f"2 pending uploads at {url}\n"


def test_the_key_of_a_pending_upload_can_not_give_orders_to_the_terminal(
    partwise: Run, backend: LocalBackend, url: str
) -> None:
    begin(backend, "a\x1b[2Jb", days_ago=8)
    for command in ("uploads", "gc"):
        ended = partwise(command, url)
        assert "a\\x1b[2Jb" in ended.out
        assert "\x1b" not in ended.out


def test_each_pending_upload_is_an_object(partwise: Run, backend: LocalBackend, url: str) -> None:
    upload_id = begin(backend, "a", days_ago=2)
    (told,) = partwise("uploads", url, "--json").objects
    assert (told["key"], told["upload_id"], told["initiated"][-6:]) == ("a", upload_id, "+00:00")
    assert told["age"] >= 2 * DAY


def test_a_prefix_narrows_the_list(partwise: Run, backend: LocalBackend, url: str) -> None:
    begin(backend, "a"), begin(backend, "ab"), begin(backend, "b")
    assert [one["key"] for one in partwise("uploads", f"{url}a", "--json").objects] == ["a", "ab"]


def test_that_nothing_is_pending_is_said(partwise: Run, url: str) -> None:
    ended = partwise("uploads", url)
    assert (ended.code, ended.out, ended.err) == (0, "", f"no uploads are pending at {url}\n")


def test_a_storage_that_can_not_be_asked_for_now_may_be_asked_again(
    partwise: Run, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise ConnectionFailed("the line is dead")

    monkeypatch.setattr(LocalBackend, "list_uploads", fail)
    ended = partwise("uploads", url, "--json")
    assert (ended.code, ended.last["error"]["type"]) == (75, "ConnectionFailed")


# --- gc ---


def test_an_orphan_is_dropped(partwise: Run, backend: LocalBackend, url: str) -> None:
    begin(backend, "a", days_ago=8)
    ended = partwise("gc", url, *HERE)
    assert ended.code == 0
    assert ended.out.splitlines() == [
        "ACTION      AGE           WHY                         KEY",
        "dropped     8 d           no checkpoint here owns it  a",
    ]
    assert ended.err == f"dropped 1 upload at {url}\n"
    assert pending(backend) == set()


def test_a_dry_run_drops_nothing(partwise: Run, backend: LocalBackend, url: str) -> None:
    upload_id = begin(backend, "a", days_ago=8)
    ended = partwise("gc", url, *HERE, "--dry-run")
    assert ended.out.splitlines()[1] == "would drop  8 d           no checkpoint here owns it  a"
    assert pending(backend) == {upload_id}


def test_the_young_are_spared(partwise: Run, backend: LocalBackend, url: str) -> None:
    upload_id = begin(backend, "a", days_ago=2)
    ended = partwise("gc", url, *HERE)
    assert ended.out.splitlines()[1] == "keep        2 d           younger than 7 d            a"
    assert pending(backend) == {upload_id}


def test_how_young_can_be_said(partwise: Run, backend: LocalBackend, url: str) -> None:
    begin(backend, "a", days_ago=2)
    partwise("gc", url, *HERE, "--older-than", "1d")
    assert pending(backend) == set()


def test_what_a_checkpoint_owns_is_never_dropped(
    partwise: Run, backend: LocalBackend, store: FileCheckpointStore, url: str
) -> None:
    owned, abandoned, orphan = (begin(backend, key, days_ago=400) for key in "kka")
    own(store, backend.location, owned, abandoned)
    ended = partwise("gc", url, *HERE, "--json", "--older-than", "0s")
    assert {one["upload_id"]: one["action"] for one in ended.objects} == {
        owned: "keep",
        abandoned: "keep",
        orphan: "dropped",
    }
    assert pending(backend) == {owned, abandoned}


def test_a_checkpoint_of_another_bucket_owns_nothing_here(
    partwise: Run, backend: LocalBackend, store: FileCheckpointStore, url: str
) -> None:
    own(store, "oss://elsewhere", begin(backend, "k", days_ago=8))
    partwise("gc", url, *HERE)
    assert pending(backend) == set()


def test_a_prefix_spares_all_other_keys(partwise: Run, backend: LocalBackend, url: str) -> None:
    spared = begin(backend, "b", days_ago=8)
    begin(backend, "a", days_ago=8)
    partwise("gc", f"{url}a", *HERE)
    assert pending(backend) == {spared}


def test_one_that_can_not_be_dropped_does_not_stop_the_rest(
    partwise: Run, backend: LocalBackend, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubborn, other = begin(backend, "a", days_ago=8), begin(backend, "b", days_ago=8)
    abort = LocalBackend.abort_upload

    def sometimes(self: LocalBackend, key: str, upload_id: str) -> None:
        if upload_id == stubborn:
            raise AccessDenied("not yours")
        abort(self, key, upload_id)

    monkeypatch.setattr(LocalBackend, "abort_upload", sometimes)
    ended = partwise("gc", url, *HERE, "--json")
    assert ended.code == 1
    assert [(one["upload_id"], one["action"]) for one in ended.objects] == [(stubborn, "failed"), (other, "dropped")]
    assert f"partwise: a ({stubborn}) was not dropped: not yours" in ended.err


def test_nothing_is_dropped_where_nobody_can_tell_who_owns_what(
    partwise: Run, backend: LocalBackend, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = begin(backend, "a", days_ago=8)

    def fail(store: FileCheckpointStore) -> None:
        raise CheckpointError("the directory can't be listed")

    monkeypatch.setattr(FileCheckpointStore, "scan", fail)
    assert partwise("gc", url, *HERE).code == 1
    assert pending(backend) == {upload_id}
