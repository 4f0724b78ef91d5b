"""``partwise uploads`` and ``partwise gc``: the pending uploads that the storage holds, and those that nobody owns."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from math import isnan, nan
from typing import Any

from attrs import define, evolve

from partwise.checkpoint import Checkpoint
from partwise.cli.formatting import age, count, shown, span
from partwise.cli.output import Output
from partwise.cli.reporting import DONE, FAILED, exit_code, failure, sentence
from partwise.cli.retries import Retries
from partwise.cli.status import is_running, scanned
from partwise.cli.style import Colour, Line, Painted
from partwise.cli.targets import BackendChoice, StoreChoice
from partwise.config import TransferConfig
from partwise.errors import BackendError
from partwise.model import PendingUpload
from partwise.protocols import CheckpointStore, MultipartBackend

# Uploads that are younger than this, in seconds, may well be running.
_LIKELY_RUNNING = 3600.0


def uploads(target: BackendChoice, config: TransferConfig, output: Output) -> int:
    """
    List the pending multipart uploads of a bucket, or of the keys that begin as the URL says.

    Raises:
        InvalidInput: the URL names a directory that is not there, or keys of which nothing is there.
        BackendError: the storage can't be asked.
    """
    with target.open_prefix() as (backend, prefix):
        found = 0
        for pending in Retries(config).pending_uploads(backend, prefix):
            found += 1
            output.record(_as_data(pending))
            if not output.json:
                # A line at a time, since there may be many thousands, and what follows them is not known yet.
                if found == 1:
                    output.say(Painted(_line("AGE", "UPLOAD ID", "KEY"), "bold"))
                output.say(_line(age(_age(pending)), shown(pending.upload_id), pending.key))
        if not found:
            target.check_that_it_names_something(backend, prefix)
    output.note(
        f"{count(found, 'pending upload')} at {target.url}" if found else f"no uploads are pending at {target.url}"
    )
    return output.listed()


def _line(age: str, upload_id: str, key: str) -> str:
    return f"{age:<12}  {upload_id:<32}  {key}"


@define(frozen=True)
class Judged:
    """
    What `gc` does with one pending upload.

    Args:
        pending: the upload.
        orphan: whether it is to be dropped.
        why: in words.
    """

    pending: PendingUpload
    orphan: bool
    why: str


@define(frozen=True)
class Collection:
    """
    What one call of `gc` asks for.

    Args:
        target: where the uploads are.
        store: where the checkpoints are that own some of them.
        older_than: seconds; younger ones are kept.
        config: how often a request is made.
        dry_run: drop nothing.
        yes: ask nothing.
    """

    target: BackendChoice
    store: StoreChoice
    older_than: float
    config: TransferConfig
    dry_run: bool = False
    yes: bool = False


def collect(wanted: Collection, output: Output) -> int:
    """
    Drop the pending uploads that are old and that no checkpoint here owns.

    Where a person is at a terminal, the uploads are listed, and dropped only after a question.

    Raises:
        InvalidInput: the URL names a directory that is not there, or the store is not.
        BackendError: the storage can't be asked. One that only fails to drop an upload is reported, and the rest goes
            on.
        CheckpointError: the store can't be read, so that nothing is known of owners; nothing was dropped.
    """
    wanted.store.check_that_it_is_there(the_file_too=True)
    if wanted.older_than < _LIKELY_RUNNING:
        output.warning(
            f"an upload that is younger than {span(_LIKELY_RUNNING)} may well be running: those of other machines,"
            " users and stores look like orphans here"
        )
    with wanted.target.open_prefix() as (backend, prefix), wanted.store.open() as store:
        retries = Retries(wanted.config)
        judged = judge(backend, retries.pending_uploads(backend, prefix), store, wanted.older_than)
        if not judged:
            wanted.target.check_that_it_names_something(backend, prefix)
        orphans = sum(one.orphan for one in judged)
        asks = orphans > 0 and not wanted.dry_run and not wanted.yes and output.can_ask()
        if judged and (asks or not output.json):
            output.say(Painted(f"{'ACTION':<10}  {'AGE':<12}  {'WHY':<26}  KEY", "bold"))
        drop = not wanted.dry_run
        if asks:
            output.say(*(_told(one, "would drop" if one.orphan else "keep") for one in judged))
            drop = output.ask(f"drop {count(orphans, 'upload')} at {wanted.target.url} for good?")
            if drop:
                judged = _judged_again(judged, backend, store)  # the answer may have taken its time
        code = dropped = 0
        for one in judged:
            error = _drop(one.pending, backend, retries) if one.orphan and drop else None
            if error is not None:
                code = max(code, exit_code(error))
                _report(one.pending, error, output)
                continue
            dropped += one.orphan
            action = "keep" if not one.orphan else "dropped" if drop else "would drop"
            output.record({**_as_data(one.pending), "action": action, "why": one.why})
            if not output.json and not asks:
                output.say(_told(one, action))
    if asks and not drop:
        output.note("nothing was dropped")
        return FAILED
    output.note(f"{'dropped' if drop else 'would drop'} {count(dropped, 'upload')} at {wanted.target.url}")
    return code or _unless_unreadable(judged, wanted.store, output) or output.listed()


def _drop(pending: PendingUpload, backend: MultipartBackend, retries: Retries) -> BackendError | None:
    """Drop an upload. One that can't be dropped does not stop the others, so its error is returned."""
    try:
        retries.call(lambda: backend.abort_upload(pending.key, pending.upload_id), f"dropping {pending.upload_id}")
    except BackendError as error:
        return error
    return None


def _report(pending: PendingUpload, error: BackendError, output: Output) -> None:
    what = f"{shown(pending.key)} ({shown(pending.upload_id)})"
    output.problem(f"{what} was not dropped: {sentence(error)}", error)
    output.record({**_as_data(pending), "action": "failed", **failure(error)})


def _unless_unreadable(judged: Sequence[Judged], store: StoreChoice, output: Output) -> int:
    if not any(one.why == _UNREADABLE for one in judged):
        return DONE
    output.problem(
        f"some checkpoints in {store} can't be read, so it is not known which uploads they own, and none was taken for"
        " an orphan. The warnings name them: run their uploads again, or remove them, and then run gc again"
    )
    return FAILED


_COLOURS: dict[str, Colour] = {"keep": "cyan", "would drop": "yellow", "dropped": "green"}


def _told(judged: Judged, action: str) -> Line:
    padded = f"{action:<{max(map(len, _COLOURS))}}"
    rest = f"  {age(_age(judged.pending)):<12}  {judged.why:<26}  {judged.pending.key}"
    return (Painted(padded, _COLOURS[action]), rest)


def judge(
    backend: MultipartBackend, pending: Iterable[PendingUpload], store: CheckpointStore, older_than: float
) -> list[Judged]:
    """Which of the pending uploads are orphans, and why; the owners are looked up after the list was had."""
    judged = []
    for one in pending:
        seconds = _age(one)
        if isnan(seconds) or seconds <= -1:
            # Its age is not known. By the storage's clock, or after ours was set right, it may be young.
            judged.append(Judged(one, orphan=False, why="dated in the future"))
        elif seconds < older_than:
            judged.append(Judged(one, orphan=False, why=f"younger than {span(older_than)}"))
        else:
            judged.append(Judged(one, orphan=True, why="no checkpoint here owns it"))
    # In this order: what is on the list by now has had the time to be recorded.
    return _judged_again(judged, backend, store)


@define(frozen=True)
class Owners:
    """
    What the checkpoints of a store speak for.

    Args:
        upload_ids: uploads that they own.
        running: keys that an uploader is at right now.
        unreadable: how many checkpoints can't be read, so that no one knows what they own.
    """

    upload_ids: frozenset[str]
    running: frozenset[str]
    unreadable: int


def _scanned(store: CheckpointStore, location: str) -> tuple[list[Checkpoint], int]:
    """The checkpoints for one storage, and the number of those that can't be read."""
    checkpoints, unreadable = scanned(store)
    return [one for one in checkpoints if one.location == location], unreadable


def owners(backend: MultipartBackend, store: CheckpointStore, judged: Sequence[Judged]) -> Owners:
    """
    Who owns what now.

    An upload that has just begun may be on the storage before its id is in the checkpoint, whose claim is held by then.
    Claims are looked at first, and ids after that, so that an id that is recorded in between is seen.
    """
    keys = {one.pending.key for one in judged if one.orphan}
    first, unreadable = _scanned(store, backend.location)
    running = frozenset(one.key for one in first if one.key in keys and is_running(store, one))
    second = _scanned(store, backend.location)[0] if any(one.key in keys for one in first) else []
    ids = (upload_id for one in (*first, *second) for upload_id in (one.upload_id, *one.abandoned))
    return Owners(frozenset(upload_id for upload_id in ids if upload_id is not None), running, unreadable)


def _judged_again(judged: Sequence[Judged], backend: MultipartBackend, store: CheckpointStore) -> list[Judged]:
    found = owners(backend, store, judged)
    return [_judged(one, found) for one in judged]


def _judged(judged: Judged, found: Owners) -> Judged:
    if judged.pending.upload_id in found.upload_ids:
        return evolve(judged, orphan=False, why="a checkpoint here owns it")
    if judged.orphan and judged.pending.key in found.running:
        return evolve(judged, orphan=False, why="an upload is running here")
    if judged.orphan and found.unreadable:
        return evolve(judged, orphan=False, why=_UNREADABLE)
    return judged


# The upload may be that of a checkpoint that is damaged, or that belongs to another user.
_UNREADABLE = "a checkpoint is unreadable"


def _age(pending: PendingUpload) -> float:
    """Seconds since it began; negative if that is dated in the future, not a number if the date is invalid."""
    try:
        return time.time() - pending.initiated.timestamp()
    except (ValueError, OverflowError, OSError):
        return nan


def _as_data(pending: PendingUpload) -> dict[str, Any]:
    return {
        "key": pending.key,
        "upload_id": pending.upload_id,
        "initiated": pending.initiated.isoformat(),
        "age": round(_age(pending), 1),
    }
