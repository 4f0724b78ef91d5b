"""``partwise status``: list the unfinished uploads that have a checkpoint here."""

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
from partwise.cli.formatting import (
    columns,
    escape_control,
    format_age,
    format_percent,
    format_size,
    format_time,
    pluralize,
)
from partwise.cli.output import Output
from partwise.cli.reporting import FAILED
from partwise.cli.retries import Retries
from partwise.cli.style import Color, Line, Styled
from partwise.cli.targets import StoreSpec, url_of
from partwise.config import TransferConfig
from partwise.errors import CheckpointBusy, PartwiseError
from partwise.protocols import CheckpointStore

#: Seconds for which `status` repeats a scan of a store that can't be reached.
_SCAN_SECONDS = 10.0

_STATES = {True: "running", False: "stopped", None: "unknown"}
_COLORS: dict[str, Color] = {"running": "green", "stopped": "yellow", "unknown": "grey", "unreadable": "red"}
_HEADINGS = ("DONE", "SIZE", "AGE", "STATE", "UPLOAD")
_STATE = _HEADINGS.index("STATE")

_T = TypeVar("_T")
_F = TypeVar("_F")


@define(frozen=True)
class StatusRow:
    """One unfinished upload."""

    checkpoint: Checkpoint
    running: bool | None  # whether it is running now; None if that is not known
    age: float  # seconds since it started: negative if that is in the future, not a number if the date is invalid

    @property
    def parts_total(self) -> int | None:
        """The number of its parts; None for a stream, whose size is not known."""
        checkpoint = self.checkpoint
        return PartPlan(checkpoint.part_size, checkpoint.fingerprint.size, checkpoint.parts_per_doubling).parts_total

    def figures(self) -> list[str]:
        """
        Return progress, size, age and state.

        What can't be computed is a question mark.
        """
        found = [_or_else(None, get) for get in (self._done, self._size, lambda: format_age(self.age))]
        state = "unreadable" if None in found else _STATES[self.running]
        return [*("?" if one is None else one for one in found), state]

    def _done(self) -> str:
        done, total = self.checkpoint.bytes_done, self.checkpoint.fingerprint.size
        return format_size(done) if total is None else format_percent(done, total)

    def _size(self) -> str:
        total = self.checkpoint.fingerprint.size
        return "?" if total is None else format_size(total)

    def endpoints(self) -> tuple[str, str]:
        """Return the source and the target."""
        source = "standard input" if self.checkpoint.source == "-" else self.checkpoint.source
        url = _or_else("?", lambda: url_of(self.checkpoint))
        return escape_control(str(source)), f"-> {escape_control(url)}"

    def as_data(self) -> dict[str, Any]:
        """Return the upload as an object. What can't be computed is None."""
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
            "created": _or_else(None, lambda: format_time(checkpoint.created)),
            "age": _or_else(None, lambda: round(self.age, 1)),
            "running": self.running,
            "name": _or_else(None, lambda: checkpoint.name),
        }

    def _fraction(self) -> float | None:
        total = self.checkpoint.fingerprint.size
        return round(self.checkpoint.bytes_done / total, 6) if total else None


def _or_else(fallback: _F, get: Callable[[], _T]) -> _T | _F:
    """
    Return what `get` returns.

    A store may contain anything, and an invalid checkpoint must not hide the others.
    """
    try:
        return get()
    except Exception:  # noqa: BLE001  # see above
        return fallback


def status(spec: StoreSpec, output: Output) -> int:
    """Print the unfinished uploads of a store; raise CheckpointError if unreadable."""
    spec.require_existing()
    with spec.open() as store:
        checkpoints, unreadable = scan(store)
        uploads = sorted(_rows(store, checkpoints), key=lambda one: (isnan(one.age), -one.age))
    for one in uploads:
        output.record(one.as_data())
    if not uploads and unreadable:
        output.note(f"no unfinished upload that can be read is recorded in {spec}")
        if spec.file:
            return FAILED  # it is the only checkpoint that was requested
    elif not uploads and spec.file and not os.path.lexists(spec.file):
        output.note(f"there is no file {spec.file}: its upload has not started, or is finished")
    elif not uploads:
        output.note(f"no unfinished uploads are recorded in {spec}")
    elif not output.json:
        output.say(*table(uploads, get_terminal_size().columns if sys.stdout.isatty() else None))
        found = pluralize(len(uploads), "unfinished upload")
        output.note(f"{found}: run its command again to resume it, or 'partwise abort' to drop it")
    return output.list_exit_code()


def table(uploads: Sequence[StatusRow], width: int | None) -> list[Line]:
    """
    Format the uploads as lines, under headings.

    Paths are never truncated, so that they can be copied: if source and target do not fit one line, each gets its own.
    Without a width, in columns, each upload is one line, however long, for other programs.
    """
    rows = [list(_HEADINGS), *([*one.figures(), "  ".join(one.endpoints())] for one in uploads)]
    lines = columns(rows, right={0, 1})
    if width is not None and max(map(len, lines)) > width:
        rows[1:] = [row for one in uploads for row in _two_rows(one)]
        lines = columns(rows, right={0, 1})
    colored = [_colored(line, row) for line, row in zip(lines[1:], rows[1:], strict=True)]
    return [Styled(lines[0], "bold"), *colored]


def _two_rows(one: StatusRow) -> list[list[str]]:
    source, target = one.endpoints()
    figures = one.figures()
    return [[*figures, source], [*("" for _ in figures), target]]


def _colored(line: str, row: Sequence[str]) -> Line:
    state = row[_STATE]
    if state not in _COLORS:
        return line
    before, _, after = line.partition(f" {state} ")
    return (f"{before} ", Styled(state, _COLORS[state]), f" {after}")


class _CountWarnings(logging.Handler):
    """Counts the checkpoints that a store skips: it logs a warning for each."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002  # the signature of handlers
        self.count += 1


def scan(store: CheckpointStore, retries: Retries | None = None) -> tuple[list[Checkpoint], int]:
    """
    Return the checkpoints of a store, and the number of unreadable ones.

    Transient errors of the store are retried, without `retries` for ten seconds.
    """
    retries = retries or Retries(TransferConfig(give_up_after=_SCAN_SECONDS))
    logger, counter = logging.getLogger("partwise.stores"), _CountWarnings()

    def read() -> list[Checkpoint]:
        counter.count = 0
        return list(store.scan())

    logger.addHandler(counter)
    try:
        return retries.call(read, "reading the checkpoints"), counter.count
    finally:
        logger.removeHandler(counter)


def _rows(store: CheckpointStore, checkpoints: Sequence[Checkpoint]) -> Iterator[StatusRow]:
    now = time.time()
    for checkpoint in checkpoints:
        started = _or_else(nan, lambda one=checkpoint: float(one.created))  # type: ignore[misc]  # bound here
        yield StatusRow(checkpoint, is_running(store, checkpoint), now - started)


def is_running(store: CheckpointStore, checkpoint: Checkpoint) -> bool | None:
    """Return whether the upload is running now; None if that is not known."""
    # A run claims its checkpoint, and a claim ends with its process. Our own claim is released at once. A store whose
    # claims can be lost is asked instead: a claim of ours would end a run that has lost its connection for a moment.
    try:
        if (is_claimed := getattr(store, "is_claimed", None)) is not None:
            return bool(is_claimed(checkpoint.name))
        with store.claim(checkpoint.name):
            return False
    except CheckpointBusy:
        return True
    except PartwiseError:
        return None
