"""``partwise status``: the unfinished uploads that are recorded here."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from math import isnan, nan
from shutil import get_terminal_size
from typing import Any, TypeVar

from attrs import define

from partwise._engine.plan import PartPlan
from partwise.checkpoint import Checkpoint
from partwise.cli.formatting import age, amount, columns, moment, percent, shown
from partwise.cli.output import Output
from partwise.cli.reporting import FAILED
from partwise.cli.style import Colour, Line, Painted
from partwise.cli.targets import StoreChoice, url_of
from partwise.errors import CheckpointBusy, PartwiseError
from partwise.protocols import CheckpointStore

_STATES = {True: "running", False: "stopped", None: "unknown"}
_COLOURS: dict[str, Colour] = {"running": "green", "stopped": "yellow", "unknown": "grey", "unreadable": "red"}
_HEADINGS = ("DONE", "SIZE", "AGE", "STATE", "UPLOAD")
_STATE = _HEADINGS.index("STATE")

_T = TypeVar("_T")
_F = TypeVar("_F")


@define(frozen=True)
class Known:
    """
    One unfinished upload.

    Args:
        checkpoint: what is recorded of it.
        running: whether an uploader is at it now; None where that can't be found out.
        age: seconds since it began; negative if that is dated in the future, not a number if the date is invalid.
    """

    checkpoint: Checkpoint
    running: bool | None
    age: float

    @property
    def parts_total(self) -> int | None:
        """The number of its parts; None for a stream, whose end is not known."""
        checkpoint = self.checkpoint
        return PartPlan(checkpoint.part_size, checkpoint.fingerprint.size, checkpoint.parts_per_doubling).parts_total

    def figures(self) -> list[str]:
        """How far it is, in short: done, size, age, state. What can't be computed is a question mark."""
        found = [_or_else(None, get) for get in (self._done, self._size, lambda: age(self.age))]
        state = "unreadable" if None in found else _STATES[self.running]
        return [*("?" if one is None else one for one in found), state]

    def _done(self) -> str:
        done, total = self.checkpoint.bytes_done, self.checkpoint.fingerprint.size
        return amount(done) if total is None else percent(done, total)

    def _size(self) -> str:
        total = self.checkpoint.fingerprint.size
        return "?" if total is None else amount(total)

    def places(self) -> tuple[str, str]:
        """From where to where."""
        source = "standard input" if self.checkpoint.source == "-" else self.checkpoint.source
        url = _or_else("?", lambda: url_of(self.checkpoint))
        return shown(str(source)), f"-> {shown(url)}"

    def as_data(self) -> dict[str, Any]:
        """For programs. What can't be computed is None."""
        checkpoint = self.checkpoint
        return {
            "source": checkpoint.source,
            "url": _or_else(None, lambda: url_of(checkpoint)),
            "location": checkpoint.location,
            "key": checkpoint.key,
            "upload_id": checkpoint.upload_id,
            "bytes_done": _or_else(None, lambda: checkpoint.bytes_done),
            "bytes_total": _or_else(None, lambda: checkpoint.fingerprint.size),
            "fraction": _or_else(None, self._fraction),
            "parts_done": _or_else(None, lambda: len(checkpoint.parts)),
            "parts_total": _or_else(None, lambda: self.parts_total),
            "part_size": checkpoint.part_size,
            "created": _or_else(None, lambda: moment(checkpoint.created)),
            "age": _or_else(None, lambda: round(self.age, 1)),
            "running": self.running,
            "name": _or_else(None, lambda: checkpoint.name),
        }

    def _fraction(self) -> float | None:
        total = self.checkpoint.fingerprint.size
        return round(self.checkpoint.bytes_done / total, 6) if total else None


def _or_else(fallback: _F, get: Callable[[], _T]) -> _T | _F:
    """What `get` returns. A store may hold anything, and one odd entry must not hide the others."""
    try:
        return get()
    except Exception:  # noqa: BLE001  # see above
        return fallback


def status(choice: StoreChoice, output: Output) -> int:
    """
    Tell the unfinished uploads of a store, the oldest first.

    Raises:
        CheckpointError: the store can't be read.
    """
    choice.check_that_it_is_there()
    with choice.open() as store:
        checkpoints, unreadable = scanned(store)
        known = sorted(_known(store, checkpoints), key=lambda one: (isnan(one.age), -one.age))
    for one in known:
        output.record(one.as_data())
    if not known and unreadable:
        output.note(f"no unfinished upload that can be read is recorded in {choice}")
        if choice.file:
            return FAILED  # the only one that was asked for
    elif not known and choice.file and not os.path.lexists(choice.file):
        output.note(f"there is no file {choice.file}: its upload has not begun, or it is finished")
    elif not known:
        output.note(f"no unfinished uploads are recorded in {choice}")
    elif not output.json:
        output.say(*table(known, get_terminal_size().columns if sys.stdout.isatty() else None))
        output.note(f"{len(known):,} unfinished: to carry one on, run its line again; to drop it, 'partwise abort'")
    return output.listed()


def table(known: Sequence[Known], width: int | None) -> list[Line]:
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
    return [Painted(lines[0], "bold"), *coloured]


def _in_two(one: Known) -> list[list[str]]:
    source, target = one.places()
    figures = one.figures()
    return [[*figures, source], [*("" for _ in figures), target]]


def _coloured(line: str, row: Sequence[str]) -> Line:
    state = row[_STATE]
    if state not in _COLOURS:
        return line
    before, _, after = line.partition(f" {state} ")
    return (f"{before} ", Painted(state, _COLOURS[state]), f" {after}")


class _Unreadable(logging.Handler):
    """Counts the checkpoints that a store leaves out: each is logged as a warning."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002  # the signature of handlers
        self.count += 1


def scanned(store: CheckpointStore) -> tuple[list[Checkpoint], int]:
    """The checkpoints of a store, and the number of those that can't be read."""
    logger, counting = logging.getLogger("partwise.stores"), _Unreadable()
    logger.addHandler(counting)
    try:
        return list(store.scan()), counting.count
    finally:
        logger.removeHandler(counting)


def _known(store: CheckpointStore, checkpoints: Sequence[Checkpoint]) -> Iterator[Known]:
    now = time.time()
    for checkpoint in checkpoints:
        began = _or_else(nan, lambda one=checkpoint: float(one.created))  # type: ignore[misc]  # its own, not the last
        yield Known(checkpoint, is_running(store, checkpoint), now - began)


def is_running(store: CheckpointStore, checkpoint: Checkpoint) -> bool | None:
    """Whether an uploader is at it now; None where that can't be found out."""
    # Only a claim tells: it is held while an uploader lives, and by no dead one. Ours is released at once.
    try:
        with store.claim(checkpoint.name):
            return False
    except CheckpointBusy:
        return True
    except PartwiseError:
        return None
