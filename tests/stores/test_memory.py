"""The store in memory: what only it has."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attrs import evolve

from partwise.errors import CheckpointBusy, InvalidInput
from partwise.model import Checkpoint, UploadedPart
from partwise.stores.memory import MemoryCheckpointStore, open_url

MakeCheckpoint = Callable[..., Checkpoint]
MakePart = Callable[..., UploadedPart]


def test_a_snapshot_has_what_was_there_and_shares_nothing(checkpoint: MakeCheckpoint, part: MakePart) -> None:
    saved = checkpoint()
    store = MemoryCheckpointStore()
    store.save(saved)
    snapshot = store.snapshot()
    store.append_part(saved.name, part(1))
    snapshot.append_part(saved.name, part(2))
    assert store.load(saved.name) == evolve(saved, parts=(part(1),))
    assert snapshot.load(saved.name) == evolve(saved, parts=(part(2),))


def test_nobody_holds_a_claim_in_a_snapshot(checkpoint: MakeCheckpoint) -> None:
    store = MemoryCheckpointStore()
    with store.claim("name"):
        with store.snapshot().claim("name"):
            pass
        with pytest.raises(CheckpointBusy):
            store.claim("name").__enter__()


def test_handles_share_the_memory_and_close_each_for_itself(checkpoint: MakeCheckpoint) -> None:
    store = MemoryCheckpointStore()
    handle = store.handle()
    handle.save(checkpoint())
    handle.close()
    assert store.load(checkpoint().name) == checkpoint()


def test_a_carried_checkpoint_is_put_in_and_taken_out_as_plain_data(checkpoint: MakeCheckpoint, part: MakePart) -> None:
    row = checkpoint(parts=(part(1),)).to_data()
    store = MemoryCheckpointStore()
    store.save(Checkpoint.from_data(row))
    store.append_part(checkpoint().name, part(2))
    taken = store.load(checkpoint().name)
    assert taken is not None
    assert taken.to_data() == checkpoint(parts=(part(1), part(2))).to_data()


def test_a_url_of_one_name_stands_for_one_memory(checkpoint: MakeCheckpoint) -> None:
    with open_url("memory://of this test") as one, open_url("memory://of%20this%20test") as other:
        one.save(checkpoint())
        assert other.load(checkpoint().name) == checkpoint()
    with open_url("MEMORY:") as nameless:
        assert nameless.load(checkpoint().name) is None


@pytest.mark.parametrize(
    "url", ["memory:name", "memory://name/more", "memory://name?x", "memory://name#x", "file:", ""]
)
def test_a_url_that_says_more_than_a_name_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="memory://NAME"):
        open_url(url)


def test_the_repr_says_how_many_there_are(checkpoint: MakeCheckpoint) -> None:
    store = MemoryCheckpointStore()
    store.save(checkpoint())
    assert repr(store) == "<MemoryCheckpointStore of 1>"
