"""``partwise upload``, and ``--dry-run``."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

from attrs import asdict, define, evolve, field

from partwise._engine.context import ResumeMode
from partwise.cli.formatting import columns, escape_control, format_duration, format_range, format_size, pluralize
from partwise.cli.object_options import RequestedOptions
from partwise.cli.output import Output
from partwise.cli.parsing import require_at_most_one
from partwise.cli.progress_display import Kind, meter_for
from partwise.cli.reporting import DONE, SENT_BY_EARLIER_RUN, progress_of, success
from partwise.cli.signals import SignalReceived, Signals
from partwise.cli.stdin import STANDARD_INPUT, source_of
from partwise.cli.style import Color, Line, Styled
from partwise.cli.targets import BackendSpec, StoreSpec
from partwise.config import TransferConfig
from partwise.errors import KEPT_BY_EARLIER_RUN, CallbackError, UploadPaused
from partwise.explain import Explanation, PlannedPart
from partwise.protocols import CheckpointStore, MultipartBackend
from partwise.results import Progress, UploadResult
from partwise.task import UploadTask
from partwise.uploader import Uploader

# Seconds between two checks for a signal: on Windows, signals do not interrupt a wait.
_POLL = 0.2


@define(frozen=True)
class UploadCommand:
    """An upload as the command line describes it."""

    file: str  # a path, or ``-`` for standard input
    target: BackendSpec  # the URL, with its connection settings
    store: StoreSpec  # where the checkpoint is
    config: TransferConfig
    options: RequestedOptions
    resume: ResumeMode
    command: str  # the command line, to be shown if it should be run again
    progress: Kind = "auto"  # the form in which progress is shown
    interval: float | None = None  # seconds between two lines or objects of progress; None: the default of the form
    url: str = ""  # the URL of the object, for messages
    expected: Mapping[str, int] = field(factory=dict)  # `expected_size` and `expected_crc64`, as far as they were given
    is_one_of_several: bool = False  # whether the result is one line, and progress names the source

    def __str__(self) -> str:
        return f"{self.source} to {escape_control(self.url or self.target.url)}"

    @property
    def source(self) -> str:
        """The source, for messages."""
        return "standard input" if self.file == STANDARD_INPUT else escape_control(self.file)


def resume_mode(*, no_resume: bool, require_resume: bool) -> ResumeMode:
    """Return the resume mode of the flags; raise InvalidInput if both were given."""
    require_at_most_one(no_resume=no_resume, require_resume=require_resume)
    return "never" if no_resume else "require" if require_resume else "auto"


def upload(command: UploadCommand, output: Output) -> int:
    """
    Upload, show progress, and print the result.

    Raises:
        SignalReceived: a signal stopped the upload; it says what is kept and how to resume.
        PartwiseError: as `Uploader.upload` does.
    """
    with _opened(command) as (backend, store, key, with_url):
        upload_to(backend, store, key, with_url, output)
    return DONE


@contextmanager
def _opened(
    command: UploadCommand,
) -> Iterator[tuple[MultipartBackend, CheckpointStore, str, UploadCommand]]:
    """
    Open the backend and the store for one file.

    Yields them, the key of the object, and the command with the URL of the object.
    """
    command.store.require_other_than(command.file)
    with command.target.open_object(command.file) as (backend, key, url), command.store.open() as store:
        yield backend, store, key, evolve(command, url=url)


def upload_to(
    backend: MultipartBackend, store: CheckpointStore, key: str, command: UploadCommand, output: Output
) -> None:
    """
    Upload with an open backend and store; otherwise as `upload`.

    The command has the URL of the object.
    """
    uploader = Uploader(backend, store=store, config=command.config)
    started = time.monotonic()
    try:
        result = _perform(uploader, backend, key, command, output)
    except CallbackError as error:
        if isinstance(error.result, UploadResult):
            output.note(*format_result(command, error.result, time.monotonic() - started))
        raise
    lines = format_result(command, result, time.monotonic() - started)
    output.say(*(lines[:1] if command.is_one_of_several and not output.verbose else lines))
    output.record({**success(result), "url": command.url, "source": command.file})


def _perform(
    uploader: Uploader, backend: MultipartBackend, key: str, command: UploadCommand, output: Output
) -> UploadResult:
    stop = threading.Event()
    source = source_of(command.file, stop, "upload")
    name = command.source if command.file == STANDARD_INPUT else Path(command.file).name
    meter = meter_for(
        output,
        name,
        str(command),
        command.progress,
        command.interval,
        source=command.file if command.is_one_of_several else None,
    )
    task: UploadTask | None = None

    def pause(number: int) -> None:
        if task is None:
            raise SignalReceived(number, "stopped before anything was sent")
        if task._runs_in_caller:  # noqa: SLF001  # of this package
            raise SignalReceived(number)
        stop.set()
        task.pause()
        output.note("Stopping… press Ctrl-C again to quit immediately")

    with Signals(pause, meter.restore_screen) as signals, meter:
        task = uploader._task(  # noqa: SLF001  # of this package
            source,
            key,
            options=command.options.for_backend(backend),
            progress=meter,
            resume=command.resume,
            expected_size=command.expected.get("expected_size"),
            expected_crc64=command.expected.get("expected_crc64"),
        )
        try:
            task._start()  # noqa: SLF001  # a signal may come meanwhile
            return _result_of(task)
        except UploadPaused as paused:
            raise _stopped(signals.received or signal.SIGINT, command, paused) from paused
        except SignalReceived as received:
            # No thread could be started, so that the upload ran in this one, which the signal interrupted.
            state = _paused_at(task.progress, key, resumable=command.resume != "never")
            raise _stopped(received.signal, command, state) from state


def _result_of(task: UploadTask) -> UploadResult:
    while not task.done():
        with suppress(TimeoutError):
            return task.result(_POLL)
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


def _stopped(number: int, command: UploadCommand, paused: UploadPaused) -> SignalReceived:
    kept, hint = progress_of(paused), "To resume"
    if paused.kept == KEPT_BY_EARLIER_RUN:
        kept = SENT_BY_EARLIER_RUN
    elif not paused.resumable:
        return SignalReceived(number, "stopped", kept="nothing", hint="To start again:", command=command.command)
    if command.file == STANDARD_INPUT:
        hint += ", pipe in the same bytes from the start"
    return SignalReceived(number, "stopped", kept=kept, hint=f"{hint}:", command=command.command)


def format_result(command: UploadCommand, result: UploadResult, seconds: float) -> list[str]:
    """Describe a finished upload in two lines: what is stored, and what was sent."""
    checksum = "checksum verified" if result.verified else "the storage reports no checksum"
    rate = f" ({format_size(result.bytes_sent / seconds)}/s)" if seconds > 0 and result.bytes_sent else ""
    sent = f"sent {format_size(result.bytes_sent)} in {pluralize(result.parts_sent, 'part')}"
    details = f"  {sent}, {format_duration(seconds)}{rate}"
    if result.bytes_resumed:
        details += f"; resumed {format_size(result.bytes_resumed)} in {pluralize(result.parts_resumed, 'part')}"
    if result.retries:
        details += f"; {result.retries:,} {'retry' if result.retries == 1 else 'retries'}"
    url = command.url or command.target.url
    return [f"stored {command.source} as {url}: {format_size(result.size)}, {checksum}", details]


# --- dry run ---------------------------------------------------------------------------------------------------------


def explain(command: UploadCommand, output: Output) -> int:
    """
    Print for each part what an upload would do.

    It raises what `Uploader.plan` raises.
    """
    with _opened(command) as (backend, store, key, with_url):
        explain_to(backend, store, key, with_url, output)
    return DONE


def explain_to(
    backend: MultipartBackend, store: CheckpointStore, key: str, command: UploadCommand, output: Output
) -> None:
    """
    Explain with an open backend and store; otherwise as `explain`.

    The command has the URL of the object.
    """
    source = source_of(command.file, threading.Event(), "upload")
    explanation = Uploader(backend, store=store, config=command.config).plan(
        source, key, options=command.options.for_backend(backend), resume=command.resume, **command.expected
    )
    width = get_terminal_size().columns if sys.stdout.isatty() else None
    output.say(*format_plan(command, explanation, all_numbers=output.verbose, width=width))
    output.record({**as_data(explanation), "url": command.url, "source": command.file})


_HEADLINES = {
    "put": "would be sent in a single request",
    "start": "would be sent from the start",
    "resume": "would be resumed",
    "done": "is stored already: nothing would be sent",
    "unknown": "can't be decided: an upload would fail here",
}

# Above this number of lines, parts are grouped by action and reason instead of listed in order.
_RUNS_MAX = 20

# Part number ranges per line, unless all are asked for.
_RANGES_MAX = 12

# As in the bar: cyan is stored already, green is sent.
_COLORS: dict[str, Color] = {"keep": "cyan", "adopt": "cyan", "send": "green"}


def format_plan(
    command: UploadCommand, explanation: Explanation, *, all_numbers: bool = False, width: int | None = None
) -> list[Line]:
    """
    Describe what an upload would do, in lines.

    Neighbouring parts with the same action and reason share a line. If there are too many lines, all parts with the
    same action and reason do.

    Args:
        command: what was asked for.
        explanation: what would be done.
        all_numbers: leave out no part number, however many there are.
        width: columns of the terminal; None: fold no lines.
    """
    reason = f" ({explanation.reason})" if explanation.reason else ""
    lines: list[Line] = [f"{command} {_HEADLINES[explanation.action]}{reason}"]
    runs = runs_of_parts(explanation.parts)
    if len(runs) <= _RUNS_MAX:
        rows = [_row([run], format_range(run[0].part_number, run[-1].part_number)) for run in runs]
    else:
        groups: dict[tuple[str, str], list[list[PlannedPart]]] = {}
        for run in runs:
            groups.setdefault((run[0].action, run[0].why), []).append(run)
        rows = [_row(group, _ranges(group, None if all_numbers else _RANGES_MAX)) for group in groups.values()]
    if rows:
        # A folded row continues in lines without an action.
        for line in columns(rows, right={2}, width=None if width is None else width - 2):
            action = line.partition(" ")[0]
            lines.append(("  ", Styled(action, _COLORS.get(action, "cyan")), line.removeprefix(action)))
        kept, sent = _bytes(explanation.parts, sent=False), _bytes(explanation.parts, sent=True)
        parts = pluralize(len(explanation.parts), "part")
        lines.append(f"  {parts}: {format_size(kept)} kept, {format_size(sent)} to send")
    return lines


def _row(runs: list[list[PlannedPart]], ranges: str) -> list[str]:
    parts = [part for run in runs for part in run]
    size, why = format_size(sum(part.size for part in parts)), parts[0].why
    if len(runs) > 1:
        return [parts[0].action, pluralize(len(parts), "part"), size, f"{why}: {ranges}"]
    return [parts[0].action, f"{'part' if len(parts) == 1 else 'parts'} {ranges}", size, why]


def _ranges(runs: list[list[PlannedPart]], maximum: int | None) -> str:
    shown = [format_range(run[0].part_number, run[-1].part_number) for run in runs[:maximum]]
    left = len(runs) - len(shown)
    return ", ".join(shown) + (f" and {pluralize(left, 'more range')} (--verbose shows all)" if left else "")


def _bytes(parts: tuple[PlannedPart, ...], *, sent: bool) -> int:
    return sum(part.size for part in parts if (part.action == "send") == sent)


def runs_of_parts(parts: tuple[PlannedPart, ...]) -> list[list[PlannedPart]]:
    """Group neighbouring parts with the same action and reason."""
    return [list(run) for _, run in groupby(parts, key=lambda part: (part.action, part.why))]


def as_data(explanation: Explanation) -> dict[str, Any]:
    """Return an explanation as an object."""
    return {
        "ok": True,
        "dry_run": True,
        "bytes_to_keep": _bytes(explanation.parts, sent=False),
        "bytes_to_send": _bytes(explanation.parts, sent=True),
        **asdict(explanation),
    }
