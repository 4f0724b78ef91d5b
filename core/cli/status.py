"""``partwise status``: list the unfinished uploads that have a checkpoint here."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import isnan, nan
from shutil import get_terminal_size
from typing import Any, TypeVar

from attrs import define

from partwise._engine.plan import PartPlan
from partwise._engine.retry import MORE_PATIENCE
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
from partwise.errors import CheckpointBusy, CheckpointError, PartwiseError
from partwise.model import ClaimOwner
from partwise.protocols import CheckpointStore

#: Seconds for which `status` repeats a scan of a store that can't be reached.
_SCAN_SECONDS = 10.0

_STATES = {True: "running", False: "stopped", None: "unknown"}
_COLORS: dict[str, Color] = {"running": "green", "stopped": "yellow", "unknown": "grey", "unreadable": "red"}
_HEADINGS = ("NAME", "DONE", "SIZE", "AGE", "STATE", "UPLOAD")
_STATE = _HEADINGS.index("STATE")
_RIGHT = {_HEADINGS.index("DONE"), _HEADINGS.index("SIZE")}

#: Characters of a checkpoint's name that are shown, unless more are needed to tell two apart.
_NAME_MIN = 8

_T = TypeVar("_T")
_F = TypeVar("_F")


@define(frozen=True)
class StatusRow:
    """One unfinished upload."""

    checkpoint: Checkpoint
    running: bool | None  # whether it is running now; None if that is not known
    age: float  # seconds since it started: negative if that is in the future, not a number if the date is invalid
    name: str = "?"  # as many characters of the checkpoint's name as are shown
    owner: ClaimOwner | None = None  # the process that is running it; None if that is not known
    where: str = ""  # the place of its store
    shows_endpoint: bool = False  # whether another row would look the same without the endpoint

    @property
    def parts_total(self) -> int | None:
        """The number of its parts; None for a stream, whose size is not known."""
        checkpoint = self.checkpoint
        return PartPlan(checkpoint.part_size, checkpoint.fingerprint.size, checkpoint.parts_per_doubling).parts_total

    def figures(self) -> list[str]:
        """
        Return name, progress, size, age and state.

        What can't be computed is a question mark.
        """
        found = [_or_else(None, get) for get in (self._done, self._size, lambda: format_age(self.age))]
        state = "unreadable" if None in found else _STATES[self.running]
        return [escape_control(self.name), *("?" if one is None else one for one in found), state]

    def _done(self) -> str:
        done, total = self.checkpoint.bytes_done, self.checkpoint.fingerprint.size
        return format_size(done) if total is None else format_percent(done, total)

    def _size(self) -> str:
        total = self.checkpoint.fingerprint.size
        return "?" if total is None else format_size(total)

    def upload(self) -> list[str]:
        """Return source, target, and the process that is running it if that is known."""
        source = "standard input" if self.checkpoint.source == "-" else self.checkpoint.source
        target = f"-> {_or_else('?', lambda: url_of(self.checkpoint))}"
        if self.shows_endpoint:
            target += f" at {self._endpoint()}"
        process = [] if self.owner is None else [f"process {self.owner.process} on {self.owner.host}"]
        return [escape_control(str(one)) for one in (source, target, *process)]

    def _endpoint(self) -> str | None:
        """Return the region or host in the location; None if it has none."""
        return self.checkpoint.location.partition("://")[2].partition("@")[2].rstrip("/") or None

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
            "endpoint": _or_else(None, self._endpoint),
            "store": self.where,
            "owner": None if self.owner is None else {"host": self.owner.host, "process": self.owner.process},
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
        try:
            checkpoints, unreadable = scan(store, Retries(TransferConfig(give_up_after=_SCAN_SECONDS)))
        except CheckpointError as error:
            if error.hint_template == MORE_PATIENCE:
                error.hint_template = ""  # this command has no flag for it
            raise
        where = spec.place(store)
        uploads = sorted(_rows(store, checkpoints, where), key=lambda one: (isnan(one.age), -one.age))
    for one in uploads:
        output.record(one.as_data())
    if not uploads and unreadable:
        output.note(f"no unfinished upload that can be read is recorded in {where}")
        if spec.file:
            return FAILED  # it is the only checkpoint that was requested
    elif not uploads and spec.file and not os.path.lexists(spec.file):
        output.note(f"there is no file {spec.file}: its upload has not started, or is finished")
    elif not uploads:
        output.note(f"no unfinished uploads are recorded in {where}")
    elif not output.json:
        output.say(*table(uploads, get_terminal_size().columns if sys.stdout.isatty() else None))
        output.note(
            f"{pluralize(len(uploads), 'unfinished upload')} in {where}",
            "run the command of one again to resume it, or 'partwise abort NAME' to drop it",
        )
    return output.list_exit_code()


def table(uploads: Sequence[StatusRow], width: int | None) -> list[Line]:
    """
    Format the uploads as lines, under headings.

    Paths are never truncated, so that they can be copied: if source and target do not fit one line, each gets its own.
    So does the process that is running the upload. If they do not fit beside the figures, they are below them. Without
    a width, in columns, each upload is one line, however long, for other programs.
    """
    rows = [list(_HEADINGS), *([*one.figures(), "  ".join(one.upload())] for one in uploads)]
    lines = columns(rows, right=_RIGHT)
    if width is not None and max(map(len, lines)) > width:
        rows[1:] = [row for one in uploads for row in _several_rows(one)]
        lines = columns(rows, right=_RIGHT)
        if max(map(len, lines)) > width:
            return _blocks(uploads)
    colored = [_colored(line, row) for line, row in zip(lines[1:], rows[1:], strict=True)]
    return [Styled(lines[0], "bold"), *colored]


def _blocks(uploads: Sequence[StatusRow]) -> list[Line]:
    figures = [one.figures() for one in uploads]
    heading, *lines = columns([list(_HEADINGS[:-1]), *figures], right=_RIGHT)
    blocks: list[Line] = [Styled(heading, "bold")]
    for one, line, (*_, state) in zip(uploads, lines, figures, strict=True):
        blocks += [(line.removesuffix(state), Styled(state, _COLORS[state])), *(f"  {text}" for text in one.upload())]
    return blocks


def _several_rows(one: StatusRow) -> list[list[str]]:
    source, *further = one.upload()
    figures = one.figures()
    return [[*figures, source], *([*("" for _ in figures), text] for text in further)]


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


def scan(store: CheckpointStore, retries: Retries) -> tuple[list[Checkpoint], int]:
    """
    Return the checkpoints of a store, and the number of unreadable ones.

    Transient errors of the store are retried.
    """
    logger, counter = logging.getLogger("partwise.stores"), _CountWarnings()

    def read() -> list[Checkpoint]:
        counter.count = 0
        return list(store.scan())

    logger.addHandler(counter)
    try:
        return retries.call(read, "reading the checkpoints"), counter.count
    finally:
        logger.removeHandler(counter)


def _rows(store: CheckpointStore, checkpoints: Sequence[Checkpoint], where: str) -> Iterator[StatusRow]:
    now = time.time()
    names = names_of(checkpoints)
    uploads = Counter(map(_upload_of, checkpoints))
    for checkpoint in checkpoints:
        started = _or_else(nan, lambda one=checkpoint: float(one.created))  # type: ignore[misc]  # bound here
        running = is_running(store, checkpoint)
        yield StatusRow(
            checkpoint,
            running,
            now - started,
            names.get(_name_of(checkpoint), "?"),
            owner_of(store, checkpoint) if running else None,
            where,
            shows_endpoint=uploads[_upload_of(checkpoint)] > 1,
        )


def _name_of(checkpoint: Checkpoint) -> str:
    return _or_else("", lambda: checkpoint.name)


def _upload_of(checkpoint: Checkpoint) -> tuple[str, str]:
    """Return the source and the URL, which do not say where the bucket is."""
    return str(checkpoint.source), _or_else("?", lambda: url_of(checkpoint))


def names_of(checkpoints: Iterable[Checkpoint]) -> Mapping[str, str]:
    """
    Return the first characters of each checkpoint's name, by its name.

    They are enough to tell it from the others.
    """
    names = sorted({_name_of(one) for one in checkpoints} - {""})
    short = {}
    for before, name, after in zip(["", *names], names, [*names[1:], ""], strict=False):
        needed = 1 + max(_common(name, before), _common(name, after))
        short[name] = name[: max(_NAME_MIN, needed)]
    return short


def _common(one: str, other: str) -> int:
    """Return the number of characters with which both begin."""
    differs = (index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differs, min(len(one), len(other)))


def owner_of(store: CheckpointStore, checkpoint: Checkpoint) -> ClaimOwner | None:
    """Return the process that claims a checkpoint, if the store can say it."""
    claim_owner = getattr(store, "claim_owner", None)
    try:
        owner = None if claim_owner is None else claim_owner(checkpoint.name)
    except PartwiseError:
        return None
    return owner if isinstance(owner, ClaimOwner) else None


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
