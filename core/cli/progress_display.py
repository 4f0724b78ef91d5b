"""
How far an upload is: on standard error a bar on a terminal, and lines now and then elsewhere; for programs, one object
a line on standard output.

A meter is a context manager; while it is entered it is called with each report of progress, from the thread that
uploads.
"""

from __future__ import annotations

import sys
from collections import deque
from contextlib import AbstractContextManager, redirect_stderr
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from partwise._engine.workers import lacks_resources
from partwise.cli.formatting import amount, count, percent, share, shortened, shown, span, timer
from partwise.cli.output import AboveTheBar, Output, show_cursor
from partwise.cli.style import can_move_the_cursor, wanted
from partwise.results import Progress

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text

Kind = Literal["auto", "lines", "json", "none"]


class Meter(AbstractContextManager["Meter"], Protocol):
    """Shows progress."""

    def __call__(self, progress: Progress, /) -> None:
        """Show how far it is now."""

    def restore_screen(self) -> None:
        """Leave the screen as it should be, since the process is about to end. Safe at any moment."""


def meter_for(output: Output, name: str, subject: str, kind: Kind = "auto", interval: float | None = None) -> Meter:
    """
    What shows progress.

    Args:
        output: how much to say.
        name: what is uploaded, in a word or two.
        subject: what is uploaded where.
        kind: "auto" is what suits standard error.
        interval: seconds between two lines, or two objects; None: what suits them.
    """
    if kind == "json":
        return Events(output, 1.0 if interval is None else interval)
    if output.quiet or kind == "none":
        return Silence()
    if kind == "auto" and can_move_the_cursor(sys.stderr):
        return Bar(name, subject, output)
    return Lines(subject, output, interval)


def beginning(subject: str, progress: Progress) -> str:
    """The first report in words: what there is to do, and what an earlier run has done of it."""
    if not progress.bytes_resumed:
        size = "" if progress.bytes_total is None else f": {amount(progress.bytes_total)}"
        parts = "" if progress.parts_total is None else f" in {count(progress.parts_total, 'part')}"
        return f"uploading {subject}{size}{parts}"
    parts = count(progress.parts_done if progress.parts_total is None else progress.parts_total, "part")
    of = "" if progress.parts_total is None else f"{progress.parts_done:,} of "
    done = share(progress.bytes_resumed, progress.bytes_total)
    return f"resuming {subject} at {done} ({of}{parts})"


class Pace:
    """
    How fast bytes went of late.

    Args:
        window: how many seconds count.
    """

    def __init__(self, window: float = 8.0) -> None:
        self._window = window
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, progress: Progress) -> None:
        """Take one report into account. What an earlier run had sent does not count as moved."""
        moved = progress.bytes_done - progress.bytes_resumed
        if self._seen and progress.elapsed <= self._seen[-1][0]:
            return
        self._seen.append((progress.elapsed, moved))
        while len(self._seen) > 2 and self._seen[1][0] <= progress.elapsed - self._window:
            self._seen.popleft()

    @property
    def rate(self) -> float:
        """Bytes a second; 0 while that can't be said."""
        if len(self._seen) < 2:
            return 0.0
        (began, before), (ended, after) = self._seen[0], self._seen[-1]
        return max(0.0, (after - before) / (ended - began))

    def left(self, progress: Progress) -> float | None:
        """Seconds that are left at this rate; None while that can't be said."""
        if progress.bytes_total is None or self.rate <= 0:
            return None
        return (progress.bytes_total - progress.bytes_done) / self.rate


class Silence:
    """No word at all."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def __call__(self, progress: Progress, /) -> None:
        """Nothing is shown."""

    def restore_screen(self) -> None:
        """The screen was never touched."""


class Lines(Silence):
    """
    A line at each tenth of the way, but not more than one every other second, and at least one a minute: few in a short
    log, enough in a long one for a watcher to see that it lives.

    Args:
        subject: what is uploaded where.
        output: where to.
        interval: seconds between two lines instead, whatever the way; None: as above.
    """

    _SECONDS_MIN = 2.0
    _SECONDS_MAX = 60.0

    def __init__(self, subject: str, output: Output, interval: float | None = None) -> None:
        self._interval = interval
        self._subject = subject
        self._output = output
        self._pace = Pace()
        self._said_at = 0.0
        self._tenth = 0
        self._begun = False

    def __call__(self, progress: Progress, /) -> None:
        """Say it, if it is time to."""
        self._pace.note(progress)
        if progress.completed:
            return
        if not self._begun:
            self._begun = True
            self._tenth = _tenth(progress)
            self._output.note(beginning(self._subject, progress))
        if self._is_time(progress):
            self._said_at = progress.elapsed
            self._tenth = _tenth(progress)
            self._output.note(self._line(progress))

    def _is_time(self, progress: Progress) -> bool:
        since = progress.elapsed - self._said_at
        if self._interval is not None:
            return since >= self._interval
        return since >= self._SECONDS_MAX or (since >= self._SECONDS_MIN and _tenth(progress) > self._tenth)

    def _line(self, progress: Progress) -> str:
        words = [] if progress.bytes_total is None else [f"{percent(progress.bytes_done, progress.bytes_total):>5}"]
        words.append(share(progress.bytes_done, progress.bytes_total))
        words.append(f"{amount(self._pace.rate)}/s")
        left = self._pace.left(progress)
        if left is not None:
            words.append(f"{span(left)} left")
        return "  ".join(words)


def _tenth(progress: Progress) -> int:
    return 10 * progress.bytes_done // progress.bytes_total if progress.bytes_total else 0


class Events(Silence):
    """
    Objects for programs, one a line: the first report, then one now and then, and the last.

    Args:
        output: where to.
        interval: seconds between two of them.
    """

    def __init__(self, output: Output, interval: float) -> None:
        self._output = output
        self._interval = interval
        self._pace = Pace()
        self._said_at: float | None = None

    def __call__(self, progress: Progress, /) -> None:
        """Tell it, if it is time to."""
        self._pace.note(progress)
        at = progress.elapsed
        if self._said_at is None or progress.completed or at - self._said_at >= self._interval:
            self._said_at = at
            self._output.event("progress", **as_data(progress, self._pace))


def as_data(progress: Progress, pace: Pace) -> dict[str, Any]:
    """
    A report for programs.

    Args:
        progress: the report.
        pace: what the rate and the time left are taken from.
    """
    left = 0.0 if progress.completed else pace.left(progress)
    return {
        "bytes_done": progress.bytes_done,
        "bytes_total": progress.bytes_total,
        "bytes_resumed": progress.bytes_resumed,
        "bytes_acknowledged": progress.bytes_acknowledged,
        "parts_done": progress.parts_done,
        "parts_total": progress.parts_total,
        "fraction": None if progress.fraction is None else round(progress.fraction, 6),
        "elapsed": round(progress.elapsed, 3),
        "rate": round(pace.rate),
        "eta": None if left is None else round(left, 1),
    }


#: Seconds between two pictures of the bar.
_REDRAWN = 0.1


class Bar:
    """
    One line at the bottom of a terminal that is drawn anew several times a second, and gone in the end.

    Args:
        name: what is uploaded, in a word or two.
        subject: what is uploaded where.
        output: where other words go, which appear above the bar.
    """

    def __init__(self, name: str, subject: str, output: Output) -> None:
        from rich.console import Console
        from rich.live import Live

        self._name = shown(name)
        self._subject = subject
        self._output = output
        self._pace = Pace()
        self._progress: Progress | None = None
        self._drawn_at = 0.0  # where there is no thread for it
        self._screen = screen = sys.stderr
        self._console = Console(file=screen, no_color=not wanted(screen))
        self._live = Live(
            self,
            console=self._console,
            refresh_per_second=1 / _REDRAWN,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._words = redirect_stderr(AboveTheBar(self._console, screen))

    def __enter__(self) -> Self:
        try:
            self._live.start()
        except (RuntimeError, MemoryError) as error:
            if not lacks_resources(error):
                raise
            # No thread can be started to draw it. It is drawn with each report then.
            self._live.auto_refresh = False
        self._words.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._words.__exit__(kind, error, trace)
        self._live.stop()

    def __call__(self, progress: Progress, /) -> None:
        """Remember it; the screen is drawn by a thread of its own, where there can be one."""
        if self._progress is None and not progress.completed:
            self._output.note(beginning(self._subject, progress))
        self._pace.note(progress)
        self._progress = progress
        if not self._live.auto_refresh and (progress.completed or progress.elapsed >= self._drawn_at + _REDRAWN):
            self._drawn_at = progress.elapsed
            self._live.refresh()

    def restore_screen(self) -> None:
        """Show the cursor again."""
        show_cursor()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """One line, short of the edge by the two columns that a terminal echoes a Ctrl-C in."""
        colours = console.color_system is not None and not console.no_color
        yield self._line(options.max_width - 3, blocks=not options.ascii_only, colours=colours)

    def _line(self, width: int, *, blocks: bool, colours: bool) -> Text:
        from rich.cells import cell_len
        from rich.text import Text

        progress = self._progress
        if progress is None:
            return Text(_fitting(self._name, width), no_wrap=True)
        figures = self._figures(progress)
        name = _fitting(self._name, max(10, min(30, width // 5)))
        least = 0 if progress.bytes_total is None else 20 if width > 70 else 10
        # What matters least goes first where there is no room.
        while len(figures) > 1 and width - cell_len(name) - len("  ".join(figures)) - 3 < least:
            figures.pop()
        if progress.bytes_total is None:
            return Text(f"{name}  {'  '.join(figures)}", no_wrap=True, overflow="crop")
        room = max(4, width - cell_len(name) - len("  ".join(figures)) - 3)
        line = Text(f"{name} ", no_wrap=True, overflow="crop")
        line.append_text(bar(room, progress, blocks=blocks, colours=colours))
        return line.append(f"  {'  '.join(figures)}")

    def _figures(self, progress: Progress) -> list[str]:
        """In the order in which they matter, each of a width that changes little."""
        rate = f"{amount(self._pace.rate)}/s"
        done = share(progress.bytes_done, progress.bytes_total, between="/")
        if progress.bytes_total is not None:
            done = done.rjust(len(share(progress.bytes_total, progress.bytes_total, between="/")))
        parts = f"{progress.parts_done}{'' if progress.parts_total is None else f'/{progress.parts_total}'} parts"
        if progress.bytes_total is None:
            return [done, f"{rate:>10}", f"{timer(progress.elapsed)} so far", parts]
        reached = f"{100 * progress.bytes_done // max(1, progress.bytes_total):3}%"
        return [reached, done, f"{rate:>10}", f"{timer(self._pace.left(progress))} left", parts]


def _fitting(text: str, cells: int) -> str:
    """The text in at most so many columns of a terminal, of which some signs take two."""
    from rich.cells import cell_len

    width = cells
    while cell_len(shortened(text, width)) > cells and width > 4:
        width -= 1
    return shortened(text, width)


#: By whether signs beyond ASCII and whether colours can be shown: resumed, sent, half of a sign sent, left.
_SIGNS = {
    (True, True): ("━", "━", "╸", "━"),
    (True, False): ("═", "━", "╸", "╌"),
    (False, True): ("=", "=", "-", "-"),
    (False, False): ("#", "=", "-", "-"),
}


def bar(width: int, progress: Progress, *, blocks: bool, colours: bool) -> Text:
    """
    What an earlier run had sent, what this one has, and what is left, told apart by colour, or else by sign.

    Args:
        width: in columns.
        progress: with a known size.
        blocks: signs beyond ASCII can be shown.
        colours: colours can be shown.
    """
    from rich.text import Text

    resumed_sign, sent_sign, half_sign, left_sign = _SIGNS[blocks, colours]
    total = max(1, progress.bytes_total or 0)
    done, half = divmod(2 * width * progress.bytes_done // total, 2)
    # However little it is, it is shown.
    resumed = min(done, -(-width * progress.bytes_resumed // total))
    return Text.assemble(
        (resumed_sign * resumed, "cyan"),
        (sent_sign * (done - resumed) + half_sign * half, "green"),
        (left_sign * (width - done - half), "bright_black"),
    )
