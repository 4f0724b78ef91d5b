"""The store in memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from attrs import evolve

from partwise.checkpoint import Checkpoint
from partwise.errors import CheckpointBusy, CheckpointError, InvalidInput
from partwise.model import UploadedPart
from partwise.stores.memory import MemoryCheckpointStore, open_url

MakeCheckpoint = Callable[..., Checkpoint]
MakePart = Callable[..., UploadedPart]


def test_a_snapshot_is_an_independent_copy(checkpoint: MakeCheckpoint, part: MakePart) -> None:
    saved = checkpoint()
    store = MemoryCheckpointStore()
    store.save(saved)
    snapshot = store.snapshot()
    store.append_part(saved.name, "UPLOAD", part(1))
    snapshot.append_part(saved.name, "UPLOAD", part(2))
    assert store.load(saved.name) == evolve(saved, parts=(part(1),))
    assert snapshot.load(saved.name) == evolve(saved, parts=(part(2),))


def test_the_store_shares_no_mapping_with_its_callers(checkpoint: MakeCheckpoint) -> None:
    metadata = {"a": "1"}
    saved = checkpoint(options={"metadata": metadata})
    store = MemoryCheckpointStore()
    store.save(saved)
    kept = saved.options["metadata"]
    for mapping in (metadata, kept):
        mapping["a"] = "changed"  # type: ignore[index]  # frozen by convention only
    first = store.load(saved.name)
    assert first is not None
    assert first.options["metadata"] == {"a": "1"}
    first.options["metadata"]["a"] = "changed"  # frozen by convention only
    [scanned] = store.scan()
    assert scanned.options["metadata"] == {"a": "1"}


@pytest.mark.parametrize("ends", [None, KeyError(), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_a_claim_is_released_however_its_block_ends(ends: BaseException | None) -> None:
    store = MemoryCheckpointStore()
    with suppress(BaseException), store.claim("name"):
        if ends is not None:
            raise ends
    with store.claim("name"):
        pass


def test_a_deleted_checkpoint_can_be_deleted_again_but_not_appended_to(
    part: MakePart, checkpoint: MakeCheckpoint
) -> None:
    store = MemoryCheckpointStore()
    store.save(checkpoint())
    for _ in range(2):
        store.delete(checkpoint().name, "UPLOAD")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        store.append_part(checkpoint().name, "UPLOAD", part(1))


def test_a_closed_handle_refuses_everything(part: MakePart, checkpoint: MakeCheckpoint) -> None:
    store = MemoryCheckpointStore()
    handle = store.handle()
    store.close()
    store.close()
    calls: list[Callable[[], object]] = [
        lambda: store.claim("name").__enter__(),
        lambda: store.load("name"),
        lambda: store.save(checkpoint()),
        lambda: store.append_part("name", "UPLOAD", part(1)),
        lambda: store.delete("name", "UPLOAD"),
        store.scan,
        store.handle,
        store.snapshot,
    ]
    for call in calls:
        with pytest.raises(CheckpointError, match="closed"):
            call()
    assert list(handle.scan()) == []


def test_no_claim_is_held_in_a_snapshot(checkpoint: MakeCheckpoint) -> None:
    store = MemoryCheckpointStore()
    with store.claim("name"):
        with store.snapshot().claim("name"):
            pass
        with pytest.raises(CheckpointBusy):
            store.claim("name").__enter__()


def test_handles_share_the_memory_and_are_closed_separately(checkpoint: MakeCheckpoint) -> None:
    store = MemoryCheckpointStore()
    handle = store.handle()
    handle.save(checkpoint())
    handle.close()
    assert store.load(checkpoint().name) == checkpoint()


def test_a_claim_holds_through_every_handle() -> None:
    store = MemoryCheckpointStore()
    handle = store.handle()
    with store.claim("name"), pytest.raises(CheckpointBusy):
        handle.claim("name").__enter__()
    with handle.claim("name"), store.claim("another"):
        pass


def test_a_checkpoint_kept_as_plain_data_is_saved_and_loaded_again(checkpoint: MakeCheckpoint, part: MakePart) -> None:
    row = checkpoint(parts=(part(1),)).to_data()
    store = MemoryCheckpointStore()
    store.save(Checkpoint.from_data(row))
    store.append_part(checkpoint().name, "UPLOAD", part(2))
    taken = store.load(checkpoint().name)
    assert taken is not None
    assert taken.to_data() == checkpoint(parts=(part(1), part(2))).to_data()


def test_urls_with_the_same_name_share_one_memory(checkpoint: MakeCheckpoint) -> None:
    with open_url("memory://of this test") as one, open_url("memory://of%20this%20test") as other:
        one.save(checkpoint())
        assert other.load(checkpoint().name) == checkpoint()
    with open_url("MEMORY:") as nameless:
        assert nameless.load(checkpoint().name) is None


@pytest.mark.parametrize(
    "url", ["memory:name", "memory://name/more", "memory://name?x", "memory://name#x", "file:", ""]
)
def test_a_url_with_more_than_a_name_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="memory://NAME"):
        open_url(url)


def test_the_repr_shows_the_number_of_checkpoints(checkpoint: MakeCheckpoint) -> None:
    store = MemoryCheckpointStore()
    store.save(checkpoint())
    assert repr(store) == "<MemoryCheckpointStore of 1>"
