"""``partwise upload``: one upload, from the line that asks for it to its exit code."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import asdict, define

from partwise.cli.meters import meter_for
from partwise.cli.opening import BackendChoice, StoreChoice
from partwise.cli.outcomes import DONE, progress_of, success
from partwise.cli.output import Output
from partwise.cli.piping import STANDARD_INPUT, standard_input
from partwise.cli.stopping import Signals, Stopped
from partwise.cli.wording import amount, count, numbers, span
from partwise.config import TransferConfig
from partwise.errors import CallbackError, UploadPaused
from partwise.model import ObjectOptions, UploadResult
from partwise.run import ResumeMode
from partwise.uploader import Explanation, PlannedPart, Uploader, UploadTask

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
    """

    file: str
    target: BackendChoice
    store: StoreChoice
    config: TransferConfig
    options: ObjectOptions
    resume: ResumeMode
    command: str

    def __str__(self) -> str:
        return f"{self.source} to {self.target.url}"

    @property
    def source(self) -> str:
        """The source, as people call it."""
        return "standard input" if self.file == STANDARD_INPUT else self.file


def upload(order: UploadOrder, output: Output) -> int:
    """
    Upload, showing how far it is, and tell what came of it.

    Raises:
        Stopped: a signal asked for a stop; the message says what is kept and how to go on.
        PartwiseError: as `Uploader.upload` says.
    """
    with order.target.open_object() as (backend, key), order.store.open() as store:
        uploader = Uploader(backend, store, order.config)
        began = time.monotonic()
        try:
            result = _perform(uploader, key, order, output)
        except CallbackError as error:
            if isinstance(error.result, UploadResult):
                output.note(in_words(order, error.result, time.monotonic() - began))
            raise
        output.say(in_words(order, result, time.monotonic() - began))
        output.record(success(result))
        return DONE


def _perform(uploader: Uploader, key: str, order: UploadOrder, output: Output) -> UploadResult:
    stop = threading.Event()
    source = standard_input(stop) if order.file == STANDARD_INPUT else order.file
    meter = meter_for(output, Path(order.source).name, str(order))
    task: UploadTask | None = None

    def ask_to_stop(number: int) -> None:
        if task is None:
            raise Stopped(number, "stopped before anything was sent")
        stop.set()
        task.pause()
        output.note("stopping; once more stops at once")

    with Signals(ask_to_stop, meter.restore_screen) as signals, meter:
        task = uploader.start(source, key, order.options, meter, order.resume)
        try:
            return _result_of(task)
        except UploadPaused as paused:
            raise Stopped(signals.received or signal.SIGINT, _how_to_go_on(order, paused)) from paused


def _result_of(task: UploadTask) -> UploadResult:
    while not task.done():
        with suppress(TimeoutError):
            return task.result(_LOOK)
    return task.result()


def _how_to_go_on(order: UploadOrder, paused: UploadPaused) -> str:
    if not paused.resumable:
        return f"stopped. Nothing is kept; start again with: {order.command}"
    piped = ", piping in the same bytes from their start," if order.file == STANDARD_INPUT else ""
    return f"stopped. Kept: {progress_of(paused)}. Go on{piped} with: {order.command}"


def in_words(order: UploadOrder, result: UploadResult, seconds: float) -> str:
    """A finished upload, in two lines: what there is now, and what it took."""
    checksum = "checksum verified" if result.verified else "the storage reports no checksum"
    rate = f" ({amount(result.bytes_sent / seconds)}/s)" if seconds > 0 and result.bytes_sent else ""
    took = f"sent {amount(result.bytes_sent)} in {count(result.parts_sent, 'part')}, {span(seconds)}{rate}"
    if result.bytes_resumed:
        took += f"; resumed {amount(result.bytes_resumed)} in {count(result.parts_resumed, 'part')}"
    return f"stored {order.source} as {order.target.url}: {amount(result.size)}, {checksum}\n  {took}"


# --- asking first ----------------------------------------------------------------------------------------------------


def explain(order: UploadOrder, output: Output) -> int:
    """
    Tell what an upload would do, part by part, without doing it.

    Raises:
        PartwiseError: as `Uploader.plan` says.
    """
    with order.target.open_object() as (backend, key), order.store.open() as store:
        source = standard_input(threading.Event()) if order.file == STANDARD_INPUT else order.file
        explanation = Uploader(backend, store, order.config).plan(source, key, order.options, order.resume)
    for line in explained(order, explanation):
        output.say(line)
    output.record(as_data(explanation))
    return DONE


_HEADLINES = {
    "put": "would be sent in one piece",
    "start": "would be sent from the start",
    "resume": "would be resumed",
    "done": "is there already: nothing would be sent",
    "unknown": "can't be decided: an upload would stop here",
}


def explained(order: UploadOrder, explanation: Explanation) -> list[str]:
    """An explanation in lines, with neighbours that fare alike told in one."""
    reason = f" ({explanation.reason})" if explanation.reason else ""
    lines = [f"{order} {_HEADLINES[explanation.action]}{reason}"]
    runs = alike(explanation.parts)
    labels = [numbers(run[0].part_number, run[-1].part_number) for run in runs]
    width = max(map(len, labels), default=0)
    for label, run in zip(labels, runs, strict=True):
        size = amount(sum(part.size for part in run))
        lines.append(f"  {label:<{width}}  {run[0].action:<5}  {size:>10}  {run[0].why}")
    return lines


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
    kept = sum(part.size for part in explanation.parts if part.action != "send")
    sent = sum(part.size for part in explanation.parts if part.action == "send")
    return {"ok": True, "dry_run": True, "bytes_to_keep": kept, "bytes_to_send": sent, **asdict(explanation)}
