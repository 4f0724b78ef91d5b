"""``partwise status``: the unfinished uploads that are recorded here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from attrs import define

from partwise.cli.opening import StoreChoice, url_of
from partwise.cli.outcomes import DONE
from partwise.cli.output import Output
from partwise.cli.wording import count, percent, share, span
from partwise.errors import CheckpointBusy, CheckpointError
from partwise.model import Checkpoint, utc
from partwise.planning import PartPlan
from partwise.protocols import CheckpointStore


@define(frozen=True)
class Known:
    """
    One unfinished upload.

    Args:
        checkpoint: what is recorded of it.
        running: whether an uploader is at it now; None where that can't be found out.
        age: seconds since it began.
    """

    checkpoint: Checkpoint
    running: bool | None
    age: float

    @property
    def parts_total(self) -> int | None:
        """The number of its parts; None for a stream, whose end is not known."""
        checkpoint = self.checkpoint
        return PartPlan(checkpoint.part_size, checkpoint.fingerprint.size, checkpoint.doubling_every).parts_total

    def lines(self) -> list[str]:
        """For people: what goes where, then how far it is. Paths are never cut, so that they can be copied."""
        checkpoint, total = self.checkpoint, self.checkpoint.fingerprint.size
        of = "" if self.parts_total is None else f"{len(checkpoint.parts):,} of "
        parts = of + count(len(checkpoint.parts) if self.parts_total is None else self.parts_total, "part")
        state = {True: "running now", False: "not running", None: "can't tell whether it runs"}[self.running]
        figures = [
            f"{percent(checkpoint.bytes_done, total):>5}",
            share(checkpoint.bytes_done, total),
            parts,
            f"begun {span(self.age)} ago",
            state,
        ]
        return [f"{checkpoint.source}  ->  {url_of(checkpoint)}", "  " + "  ".join(figures)]

    def as_data(self) -> dict[str, Any]:
        """For programs."""
        checkpoint, total = self.checkpoint, self.checkpoint.fingerprint.size
        return {
            "source": checkpoint.source,
            "location": checkpoint.location,
            "key": checkpoint.key,
            "upload_id": checkpoint.upload_id,
            "bytes_done": checkpoint.bytes_done,
            "bytes_total": total,
            "parts_done": len(checkpoint.parts),
            "parts_total": self.parts_total,
            "part_size": checkpoint.part_size,
            "created": utc(checkpoint.created).isoformat(),
            "age": round(self.age, 1),
            "running": self.running,
            "name": checkpoint.name,
        }


def status(choice: StoreChoice, output: Output) -> int:
    """
    Tell the unfinished uploads of a store, the oldest first.

    Raises:
        CheckpointError: the store can't be read.
    """
    with choice.open() as store:
        known = sorted(_known(store), key=lambda one: -one.age)
    for one in known:
        output.record(one.as_data())
        if not output.json:
            for line in one.lines():
                output.say(line)
    if not known:
        output.note(f"no unfinished uploads are recorded in {choice}")
    elif not output.json:
        output.note("To carry one on, run its upload again; 'partwise abort FILE URL' drops it.")
    return DONE


def _known(store: CheckpointStore) -> Iterator[Known]:
    now = time.time()
    for checkpoint in list(store.scan()):
        yield Known(checkpoint, _is_running(store, checkpoint.name), max(0.0, now - checkpoint.created))


def _is_running(store: CheckpointStore, name: str) -> bool | None:
    # Only a claim tells: it is held while an uploader lives, and by no dead one. Ours is let go of at once.
    try:
        with store.claim(name):
            return False
    except CheckpointBusy:
        return True
    except CheckpointError:
        return None
