"""``partwise upload``: one upload, from the line that asks for it to its exit code."""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

from attrs import asdict, define, evolve

from partwise._engine.context import ResumeMode
from partwise.cli.formatting import amount, columns, count, numbers, shown, span
from partwise.cli.output import Output
from partwise.cli.progress_display import Kind, meter_for
from partwise.cli.reporting import DONE, progress_of, success
from partwise.cli.signals import Signals, Stopped
from partwise.cli.stdin import STANDARD_INPUT, standard_input
from partwise.cli.style import Colour, Line, Painted
from partwise.cli.targets import BackendChoice, StoreChoice
from partwise.config import TransferConfig
from partwise.errors import CallbackError, UploadPaused
from partwise.explain import Explanation, PlannedPart
from partwise.model import ObjectOptions
from partwise.results import Progress, UploadResult
from partwise.task import UploadTask
from partwise.uploader import Uploader

# Between two looks at whether a signal came, in seconds: on Windows nothing interrupts a wait.
_LOOK = 0.2


@define(frozen=True)
class UploadOrder:
    """
    What one line asks for.

    Args:
        file: a path, or ``-`` for standard input.
        target: where to.
        store: where progress is recorded.
        config: how to transfer.
        options: what the object shall be like.
        resume: "auto", "require" or "never".
        command: the line itself, to be shown where it is to be run again.
        meter: how progress is shown.
        interval: seconds between two lines or objects of progress; None: what suits them.
        url: the whole URL of the object, for people.
        expected_size: bytes that the source must have; None: any number.
        expected_crc64: the CRC-64/XZ that it must have; None: any.
    """

    file: str
    target: BackendChoice
    store: StoreChoice
    config: TransferConfig
    options: ObjectOptions
    resume: ResumeMode
    command: str
    meter: Kind = "auto"
    interval: float | None = None
    url: str = ""
    expected_size: int | None = None
    expected_crc64: int | None = None

    def __str__(self) -> str:
        return f"{self.source} to {shown(self.url or self.target.url)}"

    @property
    def expected(self) -> dict[str, int | None]:
        """What the library calls what the source must be like."""
        return {"expected_size": self.expected_size, "expected_crc64": self.expected_crc64}

    @property
    def source(self) -> str:
        """The source, as people call it."""
        return "standard input" if self.file == STANDARD_INPUT else shown(self.file)


def upload(order: UploadOrder, output: Output) -> int:
    """
    Upload, showing how far it is, and tell what came of it.

    Raises:
        Stopped: a signal asked for a stop; the message says what is kept and how to go on.
        PartwiseError: as `Uploader.upload` says.
    """
    with order.target.open_object(order.file) as (backend, key, url), order.store.open() as store:
        order = evolve(order, url=url)
        uploader = Uploader(backend, store=store, config=order.config)
        began = time.monotonic()
        try:
            result = _perform(uploader, key, order, output)
        except CallbackError as error:
            if isinstance(error.result, UploadResult):
                output.note(*in_words(order, error.result, time.monotonic() - began))
            raise
        output.say(*in_words(order, result, time.monotonic() - began))
        output.record({**success(result), "url": url})
        return DONE


def _perform(uploader: Uploader, key: str, order: UploadOrder, output: Output) -> UploadResult:
    stop = threading.Event()
    source = standard_input(stop) if order.file == STANDARD_INPUT else order.file
    name = order.source if order.file == STANDARD_INPUT else Path(order.file).name
    meter = meter_for(output, name, str(order), order.meter, order.interval)
    task: UploadTask | None = None

    def ask_to_stop(number: int) -> None:
        if task is None:
            raise Stopped(number, "stopped before anything was sent")
        stop.set()
        task.pause()
        output.note("stopping; once more stops at once")

    with Signals(ask_to_stop, meter.restore_screen) as signals, meter:
        task = uploader.start(source, key, options=order.options, progress=meter, resume=order.resume, **order.expected)
        try:
            return _result_of(task)
        except UploadPaused as paused:
            raise _stopped(signals.received or signal.SIGINT, order, paused) from paused
        except Stopped as stopped:
            # No thread could be started, so the upload ran in this one before there was a task to be paused.
            until = _paused_at(task.progress, key, resumable=order.resume != "never")
            raise _stopped(stopped.signal, order, until) from until


def _result_of(task: UploadTask) -> UploadResult:
    while not task.done():
        with suppress(TimeoutError):
            return task.result(_LOOK)
    return task.result()


def _paused_at(progress: Progress, key: str, *, resumable: bool) -> UploadPaused:
    return UploadPaused(
        f"the upload of {key} was paused",
        key=key,
        resumable=resumable,
        bytes_done=progress.bytes_acknowledged,
        bytes_total=progress.bytes_total,
        parts_done=progress.parts_done,
        parts_total=progress.parts_total,
    )


def _stopped(number: int, order: UploadOrder, paused: UploadPaused) -> Stopped:
    if not paused.resumable:
        return Stopped(number, "stopped. Nothing is kept.", advice="To start again:", command=order.command)
    piped = ", pipe in the same bytes from their start" if order.file == STANDARD_INPUT else ""
    kept = f"stopped. Kept: {progress_of(paused)}."
    return Stopped(number, kept, advice=f"To carry on{piped}:", command=order.command)


def in_words(order: UploadOrder, result: UploadResult, seconds: float) -> list[str]:
    """A finished upload, in two lines: what there is now, and what it took."""
    checksum = "checksum verified" if result.verified else "the storage reports no checksum"
    rate = f" ({amount(result.bytes_sent / seconds)}/s)" if seconds > 0 and result.bytes_sent else ""
    took = f"sent {amount(result.bytes_sent)} in {count(result.parts_sent, 'part')}, {span(seconds)}{rate}"
    if result.bytes_resumed:
        took += f"; resumed {amount(result.bytes_resumed)} in {count(result.parts_resumed, 'part')}"
    return [f"stored {order.source} as {order.url or order.target.url}: {amount(result.size)}, {checksum}", f"  {took}"]


# --- asking first ----------------------------------------------------------------------------------------------------


def explain(order: UploadOrder, output: Output) -> int:
    """
    Tell what an upload would do, part by part, without doing it.

    Raises:
        PartwiseError: as `Uploader.plan` says.
    """
    with order.target.open_object(order.file) as (backend, key, url), order.store.open() as store:
        order = evolve(order, url=url)
        source = standard_input(threading.Event()) if order.file == STANDARD_INPUT else order.file
        explanation = Uploader(backend, store=store, config=order.config).plan(
            source, key, options=order.options, resume=order.resume, **order.expected
        )
    width = get_terminal_size().columns if sys.stdout.isatty() else None
    output.say(*explained(order, explanation, all_of_it=output.verbose, width=width))
    output.record({**as_data(explanation), "url": url})
    return DONE


_HEADLINES = {
    "put": "would be sent in one piece",
    "start": "would be sent from the start",
    "resume": "would be resumed",
    "done": "is there already: nothing would be sent",
    "unknown": "can't be decided: an upload would stop here",
}

# With more lines than this, what happens to the parts can't be taken in one after the other.
_RUNS_MAX = 20

# Of the numbers of parts in a line, where they are not asked for in full.
_RANGES_MAX = 12


def explained(
    order: UploadOrder, explanation: Explanation, *, all_of_it: bool = False, width: int | None = None
) -> list[Line]:
    """
    An explanation in lines: what happens to each part, from the first to the last, with neighbours that fare alike in
    one line; or, where that would be many lines, from each fate to its parts.

    Args:
        order: what was asked for.
        explanation: what would be done.
        all_of_it: leave out no number, however many there are.
        width: columns of the terminal; None elsewhere, where no line is folded.
    """
    reason = f" ({explanation.reason})" if explanation.reason else ""
    lines: list[Line] = [f"{order} {_HEADLINES[explanation.action]}{reason}"]
    runs = alike(explanation.parts)
    if len(runs) <= _RUNS_MAX:
        rows = [_row([run], numbers(run[0].part_number, run[-1].part_number)) for run in runs]
    else:
        fates: dict[tuple[str, str], list[list[PlannedPart]]] = {}
        for run in runs:
            fates.setdefault((run[0].action, run[0].why), []).append(run)
        rows = [_row(same, _ranges(same, None if all_of_it else _RANGES_MAX)) for same in fates.values()]
    if rows:
        # A row that is folded has lines without an action.
        for line in columns(rows, right={2}, width=None if width is None else width - 2):
            action = line.partition(" ")[0]
            lines.append(("  ", Painted(action, _COLOURS.get(action, "cyan")), line.removeprefix(action)))
        kept, sent = _bytes(explanation.parts, sent=False), _bytes(explanation.parts, sent=True)
        lines.append(f"  {count(len(explanation.parts), 'part')}: {amount(kept)} kept, {amount(sent)} to send")
    return lines


# As in the bar: what is there, and what is sent.
_COLOURS: dict[str, Colour] = {"keep": "cyan", "adopt": "cyan", "send": "green"}


def _row(runs: list[list[PlannedPart]], which: str) -> list[str]:
    parts = [part for run in runs for part in run]
    size = amount(sum(part.size for part in parts))
    many = len(runs) > 1
    named = f"{count(len(parts), 'part')}" if many else f"{'part' if len(parts) == 1 else 'parts'} {which}"
    return [parts[0].action, named, size, f"{parts[0].why}: {which}" if many else parts[0].why]


def _ranges(runs: list[list[PlannedPart]], most: int | None) -> str:
    told = [numbers(run[0].part_number, run[-1].part_number) for run in runs[:most]]
    left = len(runs) - len(told)
    return ", ".join(told) + (f" and {left:,} more such runs (--verbose has all)" if left else "")


def _bytes(parts: tuple[PlannedPart, ...], *, sent: bool) -> int:
    return sum(part.size for part in parts if (part.action == "send") == sent)


def alike(parts: tuple[PlannedPart, ...]) -> list[list[PlannedPart]]:
    """The parts in runs of neighbours for which the same is done for the same reason."""
    runs: list[list[PlannedPart]] = []
    for part in parts:
        if runs and (runs[-1][0].action, runs[-1][0].why) == (part.action, part.why):
            runs[-1].append(part)
        else:
            runs.append([part])
    return runs


def as_data(explanation: Explanation) -> dict[str, Any]:
    """An explanation as one object."""
    return {
        "ok": True,
        "dry_run": True,
        "bytes_to_keep": _bytes(explanation.parts, sent=False),
        "bytes_to_send": _bytes(explanation.parts, sent=True),
        **asdict(explanation),
    }
