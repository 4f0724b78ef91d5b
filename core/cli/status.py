"""``partwise status``: the unfinished uploads that are recorded here."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from shutil import get_terminal_size
from typing import Any

from attrs import define

from partwise.cli.colours import Colour, painted
from partwise.cli.opening import StoreChoice, url_of
from partwise.cli.outcomes import DONE
from partwise.cli.output import Output
from partwise.cli.wording import amount, columns, percent, shown, span
from partwise.errors import CheckpointBusy, CheckpointError
from partwise.model import Checkpoint, utc
from partwise.planning import PartPlan
from partwise.protocols import CheckpointStore

_STATES = {True: "running", False: "stopped", None: "unknown"}
_COLOURS: dict[bool | None, Colour] = {True: "green", False: "yellow", None: "grey"}
_HEADINGS = ("DONE", "SIZE", "AGE", "STATE", "UPLOAD")
_STATE = _HEADINGS.index("STATE")


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

    def figures(self) -> list[str]:
        """How far it is, in short: done, size, age, state."""
        done, total = self.checkpoint.bytes_done, self.checkpoint.fingerprint.size
        share = amount(done) if total is None else percent(done, total)
        return [share, "?" if total is None else amount(total), span(self.age), _STATES[self.running]]

    def places(self) -> tuple[str, str]:
        """From where to where."""
        source = "standard input" if self.checkpoint.source == "-" else self.checkpoint.source
        return shown(source), f"-> {shown(url_of(self.checkpoint))}"

    def as_data(self) -> dict[str, Any]:
        """For programs."""
        checkpoint, total = self.checkpoint, self.checkpoint.fingerprint.size
        return {
            "source": checkpoint.source,
            "url": url_of(checkpoint),
            "location": checkpoint.location,
            "key": checkpoint.key,
            "upload_id": checkpoint.upload_id,
            "bytes_done": checkpoint.bytes_done,
            "bytes_total": total,
            "fraction": round(checkpoint.bytes_done / total, 6) if total else None,
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
    if not known:
        output.note(f"no unfinished uploads are recorded in {choice}")
    elif not output.json:
        for line in table(known, get_terminal_size().columns if sys.stdout.isatty() else None):
            output.say(line)
        output.note(f"{len(known):,} unfinished: to carry one on, run its line again; to drop it, 'partwise abort'")
    return DONE


def table(known: Sequence[Known], width: int | None) -> list[str]:
    """
    The uploads in lines, under headings.

    Paths are never cut, so that they can be copied: where one line has no room for both, each has a line of its own.

    Args:
        known: the uploads.
        width: columns of the terminal; None elsewhere, where an upload is one line, however long, for other programs.
    """
    rows = [list(_HEADINGS), *([*one.figures(), "  ".join(one.places())] for one in known)]
    lines = columns(rows, right={0, 1})
    if width is not None and max(map(len, lines)) > width:
        rows[1:] = [row for one in known for row in _in_two(one)]
        lines = columns(rows, right={0, 1})
    coloured = [_coloured(line, row) for line, row in zip(lines[1:], rows[1:], strict=True)]
    return [painted(lines[0], "bold", sys.stdout), *coloured]


def _in_two(one: Known) -> list[list[str]]:
    source, target = one.places()
    figures = one.figures()
    return [[*figures, source], [*("" for _ in figures), target]]


def _coloured(line: str, row: Sequence[str]) -> str:
    for running, state in _STATES.items():
        if row[_STATE] == state:
            return line.replace(f" {state} ", f" {painted(state, _COLOURS[running], sys.stdout)} ", 1)
    return line


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
