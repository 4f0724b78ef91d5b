"""The behaviour of every kind of store, beyond the public suite."""

from __future__ import annotations

import gc
import pickle
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings

from partwise.checkpoint import Checkpoint
from partwise.errors import CheckpointBusy, CheckpointError, ClaimLost, InvalidInput, StoreClosed
from partwise.model import UploadedPart
from partwise.stores.memory import MemoryCheckpointStore
from partwise.testing import strategies

MakeCheckpoint = Callable[..., Checkpoint]
MakePart = Callable[..., UploadedPart]

# The store is shared by all examples, as it is by all runs.
_KEEPS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_KEEPS
@given(saved=strategies.checkpoints())
def test_a_saved_checkpoint_is_loaded_with_every_field_and_in_order(all_roomy, saved: Checkpoint) -> None:
    for form in all_roomy:
        with form.open() as store:
            store.save(saved)
            assert store.load(saved.name) == saved, form.name


@_KEEPS
@given(saved=strategies.checkpoints(), part=strategies.uploaded_parts())
def test_an_appended_part_comes_last_or_replaces_the_part_of_its_number(all_roomy, saved, part) -> None:
    saved = evolve(saved, upload_id="UPLOAD")
    numbers = {**{held.part_number: held for held in saved.parts}, part.part_number: part}
    for form in all_roomy:
        with form.open() as store:
            store.save(saved)
            store.append_part(saved.name, "UPLOAD", part)
            assert store.load(saved.name) == evolve(saved, parts=numbers.values()), form.name


def test_parts_are_loaded_in_the_order_of_appending(form, checkpoint: MakeCheckpoint, part: MakePart) -> None:
    saved = checkpoint(parts=(part(5), part(2)))
    with form.open() as store, store.claim(saved.name):
        store.save(saved)
        for number in (9, 1, 5):
            store.append_part(saved.name, "UPLOAD", part(number, 2))
        assert store.load(saved.name).parts == (part(5, 2), part(2), part(9, 2), part(1, 2))


@pytest.mark.parametrize("name", ["", None, 5, b"bytes"], ids=repr)
def test_a_name_must_be_a_text_that_is_not_empty(form, name: object, part: MakePart) -> None:
    with form.open() as store:
        for call in (
            lambda: store.claim(name).__enter__(),
            lambda: store.load(name),
            lambda: store.append_part(name, "UPLOAD", part(1)),
            lambda: store.delete(name, "UPLOAD"),
        ):
            with pytest.raises(InvalidInput, match="name of a checkpoint"):
                call()


def test_names_of_any_characters_are_claimed_independently(roomy) -> None:
    names = ["a", "A", "a/b", "a\0", "..", "\ud800", "\ud83d\ude00", "\U0001f600", "n" * 10_000, "0" * 32, "0" * 64]
    with roomy.open() as store:
        claims = [store.claim(name) for name in names]
        for claim in claims:
            claim.__enter__()
        for name in names:
            with pytest.raises(CheckpointBusy):
                store.claim(name).__enter__()
        for claim in claims:
            claim.__exit__(None, None, None)


def test_the_error_of_a_second_claim_names_the_upload_and_has_a_hint(form, checkpoint: MakeCheckpoint) -> None:
    saved = checkpoint()
    with form.open() as store, form.open() as other, store.claim(saved.name):
        store.save(saved)
        with pytest.raises(CheckpointBusy) as caught:
            other.claim(saved.name).__enter__()
    assert caught.value.name == saved.name
    for word in (saved.key, saved.source, saved.location, "this process", "Wait"):
        assert word in str(caught.value)


def test_a_second_claim_is_refused_before_there_is_a_checkpoint(form, checkpoint: MakeCheckpoint) -> None:
    name = checkpoint().name
    with form.open() as store, store.claim(name), pytest.raises(CheckpointBusy, match=name):
        store.claim(name).__enter__()


def test_a_refused_claim_does_not_affect_the_first_one(form, checkpoint: MakeCheckpoint) -> None:
    name = checkpoint().name
    with form.open() as store, store.claim(name):
        for _ in range(3):
            with pytest.raises(CheckpointBusy):
                store.claim(name).__enter__()


def test_a_claim_can_be_released_by_another_thread(form, checkpoint: MakeCheckpoint) -> None:
    name = checkpoint().name
    with form.open() as store:
        claim = store.claim(name)
        claim.__enter__()
        thread = threading.Thread(target=claim.__exit__, args=(None, None, None))
        thread.start()
        thread.join()
        with store.claim(name):
            assert store.load(name) is None


def test_a_claim_lasts_after_the_store_is_closed(form, checkpoint: MakeCheckpoint, part: MakePart) -> None:
    saved = checkpoint()
    store, other = form.open(), form.open()
    with store.claim(saved.name):
        store.save(saved)
        store.append_part(saved.name, "UPLOAD", part(1))
        store.close()
        with pytest.raises(CheckpointBusy):
            other.claim(saved.name).__enter__()
    with other.claim(saved.name):
        assert other.load(saved.name).parts == (part(1),)
    other.close()


def test_scan_after_close_raises_before_it_is_iterated_over(form) -> None:
    store = form.open()
    store.close()
    with pytest.raises(StoreClosed, match=type(store).__name__):
        store.scan()


def test_the_repr_shows_that_a_store_is_closed(form) -> None:
    store = form.open()
    assert "closed" not in repr(store)
    store.close()
    assert "closed" in repr(store)


def test_a_pickled_store_has_the_same_location_and_no_claim(form, checkpoint: MakeCheckpoint) -> None:
    saved = checkpoint()
    with form.open() as store, store.claim(saved.name):
        if isinstance(store, MemoryCheckpointStore):
            with pytest.raises(TypeError, match="only in this process"):
                pickle.dumps(store)
            return
        store.save(saved)
        with pickle.loads(pickle.dumps(store)) as copy:
            assert copy.load(saved.name) == saved
            assert repr(copy) == repr(store)
            with pytest.raises(CheckpointBusy):
                copy.claim(saved.name).__enter__()


def test_a_store_that_is_collected_without_closing_causes_no_warning(form, checkpoint: MakeCheckpoint, part: MakePart):
    saved = checkpoint()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = form.open()
        with store.claim(saved.name):
            store.save(saved)
            store.append_part(saved.name, "UPLOAD", part(1))
        next(iter(store.scan()))
        del store
        gc.collect()
    assert form.open().load(saved.name) == evolve(saved, parts=(part(1),))


def test_uploads_in_many_threads_keep_every_part(roomy, checkpoint: MakeCheckpoint, part: MakePart) -> None:
    def upload(number: int) -> Checkpoint:
        saved = checkpoint(f"key {number}")
        with store.claim(saved.name):
            store.save(saved)
            for part_number in range(1, 31):
                store.append_part(saved.name, "UPLOAD", part(part_number, number))
        return evolve(saved, parts=tuple(part(part_number, number) for part_number in range(1, 31)))

    with roomy.open() as store, ThreadPoolExecutor(8) as pool:
        expected = {done.name: done for done in pool.map(upload, range(16))}
        assert {found.name: found for found in store.scan()} == expected


def test_of_concurrent_saves_one_is_kept_complete(form, checkpoint: MakeCheckpoint, part: MakePart) -> None:
    versions = [checkpoint(upload_id=str(n), parts=tuple(part(p, n) for p in range(1, 20))) for n in range(8)]
    with form.open() as store, ThreadPoolExecutor(8) as pool:
        list(pool.map(store.save, versions))
        assert store.load(versions[0].name) in versions


def test_handles_that_append_in_turn_keep_each_other_s_parts(form, checkpoint: MakeCheckpoint, part: MakePart):
    saved = checkpoint()
    with form.open() as one, form.open() as other:
        one.save(saved)
        with one.claim(saved.name):
            for number in range(1, 6, 2):
                one.append_part(saved.name, "UPLOAD", part(number))
                other.append_part(saved.name, "UPLOAD", part(number + 1))
        assert one.load(saved.name).parts == tuple(part(number) for number in range(1, 7))


def test_a_checkpoint_that_was_saved_again_by_another_handle_is_appended_to(
    form, checkpoint: MakeCheckpoint, part: MakePart
) -> None:
    saved = checkpoint()
    with form.open() as one, form.open() as other, one.claim(saved.name):
        one.save(saved)
        one.append_part(saved.name, "UPLOAD", part(1))
        other.save(evolve(saved, token="another"))
        one.append_part(saved.name, "UPLOAD", part(2))
        assert one.load(saved.name) == evolve(saved, token="another", parts=(part(2),))


@pytest.mark.parametrize("upload_id", ["another", None])
def test_the_checkpoint_of_another_upload_is_neither_appended_to_nor_deleted(
    form, checkpoint: MakeCheckpoint, part: MakePart, upload_id: str | None
) -> None:
    saved = checkpoint()
    with form.open() as one, form.open() as other, one.claim(saved.name):
        one.save(saved)
        one.append_part(saved.name, "UPLOAD", part(1))
        taken = evolve(saved, upload_id=upload_id, parts=(part(3),))
        other.save(taken)
        for call in (lambda: one.append_part(saved.name, "UPLOAD", part(2)), lambda: one.delete(saved.name, "UPLOAD")):
            with pytest.raises(ClaimLost, match=r"not to upload 'UPLOAD': another run") as caught:
                call()
            assert caught.value.name == saved.name
        assert one.load(saved.name) == taken
        one.delete(saved.name, upload_id)
        assert one.load(saved.name) is None


def test_without_an_upload_id_only_a_checkpoint_without_one_is_deleted(form, checkpoint: MakeCheckpoint) -> None:
    saved = checkpoint()
    with form.open() as store, store.claim(saved.name):
        store.save(saved)
        with pytest.raises(ClaimLost, match="not to an upload without an id"):
            store.delete(saved.name, None)
        assert store.load(saved.name) == saved


@pytest.mark.parametrize("upload_id", [5, b"UPLOAD"], ids=repr)
def test_an_upload_id_must_be_a_text(form, checkpoint: MakeCheckpoint, part: MakePart, upload_id: object) -> None:
    saved = checkpoint()
    with form.open() as store:
        store.save(saved)
        for call in (
            lambda: store.append_part(saved.name, upload_id, part(1)),
            lambda: store.append_part(saved.name, None, part(1)),
            lambda: store.delete(saved.name, upload_id),
        ):
            with pytest.raises(InvalidInput, match="upload id must be a string"):
                call()
        assert store.load(saved.name) == saved


def test_a_checkpoint_that_was_removed_by_another_handle_can_t_be_appended_to(
    form, checkpoint: MakeCheckpoint, part: MakePart
) -> None:
    saved = checkpoint()
    with form.open() as one, form.open() as other, one.claim(saved.name):
        one.save(saved)
        one.append_part(saved.name, "UPLOAD", part(1))
        other.delete(saved.name, "UPLOAD")
        with pytest.raises(CheckpointError, match="Save the checkpoint first"):
            one.append_part(saved.name, "UPLOAD", part(2))
        assert one.load(saved.name) is None
