"""``partwise uploads`` and ``partwise gc``: the pending uploads that the storage holds, and those that nobody owns."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

from attrs import define

from partwise.cli.colours import Colour, painted
from partwise.cli.opening import BackendChoice, StoreChoice
from partwise.cli.outcomes import DONE, exit_code, failure, sentence
from partwise.cli.output import Output
from partwise.cli.wording import count, shown, span
from partwise.errors import BackendError
from partwise.model import PendingUpload
from partwise.protocols import CheckpointStore, MultipartBackend


def uploads(target: BackendChoice, output: Output) -> int:
    """
    Tell the pending multipart uploads of a bucket, or of the keys that begin as the URL says.

    Raises:
        BackendError: the storage can't be asked.
    """
    with target.open() as (backend, prefix):
        found = 0
        for pending in backend.list_uploads(prefix):
            found += 1
            output.record(_as_data(pending))
            if not output.json:
                # A line at a time, since there may be many thousands, and what follows them is not known yet.
                if found == 1:
                    output.say(painted(_line("AGE", "UPLOAD ID", "KEY"), "bold", sys.stdout))
                output.say(_line(span(_age(pending)), pending.upload_id, shown(pending.key)))
    output.note(
        f"{count(found, 'pending upload')} at {target.url}" if found else f"no uploads are pending at {target.url}"
    )
    return DONE


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


def collect(target: BackendChoice, choice: StoreChoice, older_than: float, output: Output, *, dry_run: bool) -> int:
    """
    Drop the pending uploads that are older than so many seconds and that no checkpoint here owns.

    Raises:
        BackendError: the storage can't be asked. One that only fails to drop an upload is told, and the rest goes on.
        CheckpointError: the store can't be read, so that nothing is known of owners; nothing was dropped.
    """
    code = dropped = 0
    with target.open() as (backend, prefix), choice.open() as store:
        for number, judged in enumerate(judge(backend, prefix, store, older_than)):
            if number == 0 and not output.json:
                output.say(painted(f"{'ACTION':<10}  {'AGE':<12}  {'WHY':<26}  KEY", "bold", sys.stdout))
            pending, action = judged.pending, "keep"
            if judged.orphan:
                action = "would drop" if dry_run else "dropped"
                try:
                    if not dry_run:
                        backend.abort_upload(pending.key, pending.upload_id)
                    dropped += 1
                except BackendError as error:
                    action, code = "failed", max(code, exit_code(error))
                    output.problem(
                        f"{shown(pending.key)} ({pending.upload_id}) was not dropped: {sentence(error)}", error
                    )
                    output.record({**_as_data(pending), "action": action, **failure(error)})
                    continue
            output.record({**_as_data(pending), "action": action, "why": judged.why})
            if not output.json:
                output.say(_told(judged, action))
    output.note(f"{'would drop' if dry_run else 'dropped'} {count(dropped, 'upload')} at {target.url}")
    return code


_COLOURS: dict[str, Colour] = {"keep": "cyan", "would drop": "yellow", "dropped": "green"}


def _told(judged: Judged, action: str) -> str:
    padded = f"{action:<{max(map(len, _COLOURS))}}"
    age = f"{span(_age(judged.pending)):<12}"
    return f"{painted(padded, _COLOURS[action], sys.stdout)}  {age}  {judged.why:<26}  {shown(judged.pending.key)}"


def judge(backend: MultipartBackend, prefix: str, store: CheckpointStore, older_than: float) -> Iterator[Judged]:
    """Which of the pending uploads are orphans, and why; the owners are looked up after the list was had."""
    # In this order: what is on the list by now has had the time to be recorded.
    listed = list(backend.list_uploads(prefix))
    owned = {
        upload_id
        for checkpoint in store.scan()
        if checkpoint.location == backend.location
        for upload_id in (checkpoint.upload_id, *checkpoint.abandoned)
    }
    for pending in listed:
        age = _age(pending)
        if pending.upload_id in owned:
            yield Judged(pending, orphan=False, why="a checkpoint here owns it")
        elif age < older_than:
            yield Judged(pending, orphan=False, why=f"younger than {span(older_than)}")
        else:
            yield Judged(pending, orphan=True, why="no checkpoint here owns it")


def _age(pending: PendingUpload) -> float:
    return max(0.0, time.time() - pending.initiated.timestamp())


def _as_data(pending: PendingUpload) -> dict[str, Any]:
    return {
        "key": pending.key,
        "upload_id": pending.upload_id,
        "initiated": pending.initiated.isoformat(),
        "age": round(_age(pending), 1),
    }
