"""The progress bar on a terminal, drawn by rich; imported only if there is one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr
from types import TracebackType
from typing import Self

from attrs import define
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.constrain import Constrain
from rich.measure import Measurement
from rich.progress import Progress as RichProgress
from rich.progress import ProgressColumn, Task
from rich.table import Column
from rich.text import Text

from partwise._engine.workers import lacks_resources
from partwise.cli.formatting import escape_control, format_ratio, format_size, format_timer
from partwise.cli.output import AboveTheBar, Output, show_cursor
from partwise.cli.progress_display import Activity, NullMeter, Outages, RateEstimator, format_start, format_waiting
from partwise.cli.style import use_color
from partwise.results import Progress, Waiting

#: Seconds between two drawings.
_REDRAW = 0.1

# The last columns stay empty: a terminal echoes Ctrl-C as two characters, which must not begin a new line.
_MARGIN = 3


class Bar(NullMeter):
    """
    A line at the bottom of the terminal, redrawn ten times a second.

    It is cleared at the end. During an outage, a second line says what the upload waits for; when the outage has ended,
    a line above the bar says so.

    Args:
        name: the name of the source.
        subject: source and target.
        output: where other text is printed, which appears above the bar.
        console: where to draw; None: standard error.
        clock: returns seconds that never decrease.
        activity: what happens to the source.
        announces: whether a line above the bar says what is uploaded, even if nothing is resumed.
    """

    def __init__(
        self,
        name: str,
        subject: str,
        output: Output,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        activity: Activity = "uploading",
        announces: bool = True,
    ) -> None:
        self._activity: Activity = activity
        self._announces = announces
        self._subject = subject
        self._output = output
        self._rate = RateEstimator()
        self._outages = Outages()
        self._started = False
        self._drawn_at = 0.0  # only used if no thread could be started
        self._display = _Display(escape_control(name), self._rate, console, clock, has_parts=activity == "uploading")
        self._above = redirect_stderr(AboveTheBar(self._display.console, sys.stderr))

    def __enter__(self) -> Self:
        try:
            self._display.start()
        except (RuntimeError, MemoryError) as error:
            if not lacks_resources(error):
                raise
            self._display.live.auto_refresh = False  # no thread could be started: each report redraws the bar
        self._above.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._above.__exit__(kind, error, trace)
        self._display.stop()

    def __call__(self, progress: Progress, /) -> None:
        """Keep the report, for the thread that draws."""
        if recovered := self._outages.add(progress):
            self._output.note(recovered)
        if progress.waiting is None:
            is_first = not self._started and not progress.completed
            if is_first and (self._announces or progress.bytes_resumed):
                self._output.note(format_start(self._subject, progress, self._activity))
            self._started = True
        self._rate.add(progress)
        self._display.show(progress)
        if not self._display.live.auto_refresh and (progress.completed or progress.elapsed >= self._drawn_at + _REDRAW):
            self._drawn_at = progress.elapsed
            self._display.refresh()

    def __rich__(self) -> RenderableType:
        return self._display.get_renderable()

    def restore_screen(self) -> None:
        """Show the cursor again."""
        show_cursor()


class _Display(RichProgress):
    """
    Draws the last report in one line, or two.

    A narrow terminal gets fewer columns.
    """

    def __init__(
        self,
        name: str,
        rate: RateEstimator,
        console: Console | None,
        clock: Callable[[], float],
        *,
        has_parts: bool,
    ) -> None:
        self._has_parts = has_parts
        self.report: Progress | None = None
        self._clock = clock
        self._shown_at = 0.0
        self._rate = rate
        self._name = name
        self._screen = console or Console(file=sys.stderr, no_color=not use_color(sys.stderr))
        super().__init__(
            console=self._screen,
            refresh_per_second=1 / _REDRAW,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.add_task(name, total=None)

    def show(self, report: Progress) -> None:
        """Keep the report, to draw it next."""
        self.report, self._shown_at = report, self._clock()

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the lines, without the margin."""
        width = self._screen.width - _MARGIN
        self.columns = tuple(self._columns(width))
        self.expand = self.report is not None and self.report.bytes_total is not None
        yield Constrain(self.make_tasks_table(self.tasks), width)
        if self.report is not None and self.report.waiting is not None:
            # The seconds run on while an attempt hangs, and nothing is reported.
            yield _outage_line(self.report.waiting, self._clock() - self._shown_at, width)

    def _columns(self, width: int) -> Iterable[ProgressColumn]:
        yield _TextColumn(self._name, Column(max_width=max(10, min(30, width // 5)), overflow="ellipsis"))
        report = self.report
        if report is None:
            return
        if report.bytes_total is None:
            figures = [self._done, self._speed, self._elapsed]
        else:
            yield _BarColumn(report)
            figures = [self._percentage, self._done, self._speed, self._time_left]
        if self._has_parts:
            figures += [self._parts, self._in_flight]
        for figure, minimum in zip(figures, _MINIMUM_WIDTHS, strict=False):
            if width >= minimum and not (report.waiting and figure in (self._speed, self._time_left)):
                yield _TextColumn(f" {figure(report)}", Column(justify="right"))

    def _percentage(self, report: Progress) -> str:
        return f"{100 * report.bytes_done // max(1, report.bytes_total or 0):3}%"

    def _done(self, report: Progress) -> str:
        # Of constant width, so that the bar does not change its own.
        done = format_ratio(report.bytes_done, report.bytes_total, separator="/")
        return done.rjust(len(format_ratio(report.bytes_total or 0, report.bytes_total, separator="/")))

    def _speed(self, report: Progress) -> str:  # noqa: ARG002  # all figures have one signature
        return f"{format_size(self._rate.rate)}/s".rjust(10)

    def _time_left(self, report: Progress) -> str:
        return f"{format_timer(self._rate.time_left(report))} left"

    def _elapsed(self, report: Progress) -> str:
        return f"{format_timer(report.elapsed)} so far"

    def _parts(self, report: Progress) -> str:
        total = "" if report.parts_total is None else f"/{report.parts_total}"
        return f"{report.parts_done}{total} parts"

    def _in_flight(self, report: Progress) -> str:
        return f"{report.parts_in_flight:3} in flight"


# The first figures are the most important: the width from which on there is room for the first, the second, ...
_MINIMUM_WIDTHS = (0, 44, 56, 67, 90, 105)


def _outage_line(waiting: Waiting, since: float, width: int) -> Text:
    reason, after = format_waiting(waiting, since)
    text = Text(escape_control(reason), "yellow", no_wrap=True)
    text.truncate(max(0, width - len(after)), overflow="ellipsis")
    text.append(after)
    text.truncate(width, overflow="ellipsis")
    return text


class _TextColumn(ProgressColumn):
    def __init__(self, text: str, column: Column) -> None:
        column.no_wrap = True
        super().__init__(column)
        self._text = text

    def render(self, task: Task) -> Text:  # noqa: ARG002  # rich's signature
        return Text(self._text)


class _BarColumn(ProgressColumn):
    def __init__(self, report: Progress) -> None:
        super().__init__(Column(ratio=1))
        self._report = report

    def render(self, task: Task) -> _TwoColorBar:  # noqa: ARG002  # rich's signature
        return _TwoColorBar(self._report)


@define(frozen=True)
class _TwoColorBar:
    report: Progress

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        colors = console.color_system is not None and not console.no_color
        yield bar(options.max_width, self.report, blocks=not options.ascii_only, colors=colors)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(4, options.max_width)


#: Characters by whether they may be beyond ASCII, and whether there are colors: resumed, sent, half a sent one, left.
_CHARACTERS = {
    (True, True): ("━", "━", "╸", "━"),
    (True, False): ("═", "━", "╸", "╌"),
    (False, True): ("=", "=", "-", "-"),
    (False, False): ("#", "=", "-", "-"),
}


def bar(width: int, progress: Progress, *, blocks: bool, colors: bool) -> Text:
    """
    Draw what an earlier run has sent, what this run has sent, and what is left.

    Args:
        width: in columns.
        progress: a report with a known size.
        blocks: characters beyond ASCII can be shown.
        colors: colors can be shown; otherwise, different characters are used.
    """
    resumed_character, sent_character, half_character, left_character = _CHARACTERS[blocks, colors]
    total = max(1, progress.bytes_total or 0)
    done, half = divmod(2 * width * progress.bytes_done // total, 2)
    resumed = min(done, -(-width * progress.bytes_resumed // total))  # at least one column
    return Text.assemble(
        (resumed_character * resumed, "cyan"),
        (sent_character * (done - resumed) + half_character * half, "green"),
        (left_character * (width - done - half), "bright_black"),
    )
