"""
Show the progress of an upload.

It is shown on standard error: as a bar on a terminal, as occasional lines elsewhere. For programs, it is printed on
standard output as JSON objects. A meter is a context manager. While it is entered, it is called with each progress
report, from the uploading thread.
"""

from __future__ import annotations

import sys
from collections import deque
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from attrs import asdict

from partwise.cli.formatting import (
    format_duration,
    format_percent,
    format_ratio,
    format_size,
    format_timer,
    pluralize,
)
from partwise.cli.output import Output
from partwise.cli.style import can_move_the_cursor
from partwise.results import Progress, Waiting

Kind = Literal["auto", "lines", "json", "none"]

#: What happens to a source. Only an upload has parts.
Activity = Literal["uploading", "comparing"]


class Meter(AbstractContextManager["Meter"], Protocol):
    """Shows progress."""

    def __call__(self, progress: Progress, /) -> None:
        """Show this report, if it is time to."""

    def restore_screen(self) -> None:
        """Restore the screen just before the process ends. It can be called at any time."""


def meter_for(
    output: Output,
    name: str,
    subject: str,
    kind: Kind = "auto",
    interval: float | None = None,
    *,
    activity: Activity = "uploading",
    source: str | None = None,
) -> Meter:
    """
    Return the meter for a form of progress.

    Args:
        output: where to print, and how much.
        name: the name of the source.
        subject: source and target, as they follow the activity.
        kind: the form; "auto" is a bar on a terminal, and lines elsewhere.
        interval: seconds between two lines or objects; None: the default of the form.
        activity: what happens to the source.
        source: one of several sources, one after the other: objects name it, and of a source that is sent from its
            start before it is time for a line of progress, no line says that it started. None: there is only one.
    """
    if kind == "json":
        return Events(output, 1.0 if interval is None else interval, source)
    if output.quiet or kind == "none":
        return NullMeter()
    if kind == "auto" and can_move_the_cursor(sys.stderr):
        from partwise.cli.progress_bar import Bar

        return Bar(name, subject, output, activity=activity, announces=source is None)
    return Lines(subject, output, interval, activity=activity, announces=source is None)


def format_start(subject: str, progress: Progress, activity: Activity = "uploading") -> str:
    """Describe the first report: what is to be sent, what an earlier run has sent."""
    if not progress.bytes_resumed:
        size = "" if progress.bytes_total is None else f": {format_size(progress.bytes_total)}"
        parts = "" if progress.parts_total is None else f" in {pluralize(progress.parts_total, 'part')}"
        return f"{activity} {subject}{size}{parts}"
    parts = pluralize(progress.parts_done if progress.parts_total is None else progress.parts_total, "part")
    of = "" if progress.parts_total is None else f"{progress.parts_done:,} of "
    done = format_ratio(progress.bytes_resumed, progress.bytes_total)
    return f"resuming {subject} at {done} ({of}{parts})"


class RateEstimator:
    """
    Estimates the current upload rate.

    It is averaged over `window` seconds without outages.
    """

    def __init__(self, window: float = 8.0) -> None:
        self._window = window
        self._reports: deque[tuple[float, int]] = deque()
        self._stalled = False

    def add(self, progress: Progress) -> None:
        """Take a report into account. Bytes of an earlier run do not count."""
        sent = progress.bytes_done - progress.bytes_resumed
        if self._reports and progress.elapsed <= self._reports[-1][0]:
            return
        # After an outage, nothing is gained until what it cut off has been sent again.
        if progress.waiting is not None:
            self._stalled = True
        elif self._reports and sent > self._reports[-1][1]:
            self._stalled = False
        if self._stalled:
            self._reports.clear()
        self._reports.append((progress.elapsed, sent))
        while len(self._reports) > 2 and self._reports[1][0] <= progress.elapsed - self._window:
            self._reports.popleft()

    @property
    def rate(self) -> float:
        """Bytes per second; 0 as long as it is not known."""
        if len(self._reports) < 2:
            return 0.0
        (start, before), (end, after) = self._reports[0], self._reports[-1]
        return max(0.0, (after - before) / (end - start))

    def time_left(self, progress: Progress) -> float | None:
        """Return the seconds left at this rate; None as long as it is not known."""
        if progress.bytes_total is None or self.rate <= 0:
            return None
        return (progress.bytes_total - progress.bytes_done) / self.rate


def format_waiting(waiting: Waiting, since: float = 0.0) -> tuple[str, str]:
    """
    Describe what an upload waits for, in two pieces.

    They are such as ``retrying: no connection to HOST`` and `` for 12 s, giving up in 4:48``.

    Args:
        waiting: as reported.
        since: seconds since that report.
    """
    seconds = int(waiting.seconds + since)
    after = f" for {seconds} s" if seconds < 60 else f" for {format_duration(seconds)}"
    if waiting.gives_up_in is not None:
        after += f", giving up in {format_timer(waiting.gives_up_in - since)}"
    return f"retrying: {waiting.reason}", after


class Outages:
    """Notices the end of an outage."""

    def __init__(self) -> None:
        self._began: float | None = None

    def add(self, progress: Progress) -> str | None:
        """Take a report into account; return what to print if an outage has ended."""
        began, waiting = self._began, progress.waiting
        self._began = None if waiting is None else progress.elapsed - waiting.seconds
        if began is None or waiting is not None:
            return None
        return f"recovered after {format_duration(progress.elapsed - began)}"


class NullMeter:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def __call__(self, progress: Progress, /) -> None:
        """Show nothing."""

    def restore_screen(self) -> None:
        """Do nothing: the screen was not changed."""


class Lines(NullMeter):
    """
    Prints a line at each tenth of the size.

    It prints one at most every two seconds, and at least once a minute. Of an outage, it prints one after 10, 20, 40
    and 80 seconds, then once a minute, and one at the end.

    Args:
        subject: source and target.
        output: where to print.
        interval: seconds between two lines instead; None: as above.
        activity: what happens to the source.
        announces: whether the first line is printed at once, even if nothing is resumed.
    """

    _SECONDS_MIN = 2.0
    _SECONDS_MAX = 60.0
    _OUTAGE_SECONDS = 10.0

    def __init__(
        self,
        subject: str,
        output: Output,
        interval: float | None = None,
        *,
        activity: Activity = "uploading",
        announces: bool = True,
    ) -> None:
        self._activity: Activity = activity
        self._announces = announces
        self._first_line = ""  # as long as it was not printed
        self._interval = interval
        self._subject = subject
        self._output = output
        self._rate = RateEstimator()
        self._printed_at = 0.0
        self._tenth = 0
        self._started = False
        self._outages = Outages()
        self._outage_line_at = self._OUTAGE_SECONDS  # seconds of an outage after which its next line is printed

    def __call__(self, progress: Progress, /) -> None:
        """Print a line, if it is time to."""
        self._rate.add(progress)
        if recovered := self._outages.add(progress):
            self._output.note(recovered)
            self._outage_line_at = self._OUTAGE_SECONDS
        if progress.completed:
            return
        if not self._started and progress.waiting is None:
            self._started = True
            self._tenth = _tenth(progress)
            self._first_line = format_start(self._subject, progress, self._activity)
            if self._announces or progress.bytes_resumed:
                self._announce()
        if self._is_time(progress):
            self._announce()
            self._printed_at = progress.elapsed
            self._tenth = _tenth(progress)
            self._output.note(self._line(progress))

    def _announce(self) -> None:
        if self._first_line:
            self._output.note(self._first_line)
            self._first_line = ""

    def _is_time(self, progress: Progress) -> bool:
        since = progress.elapsed - self._printed_at
        if self._interval is not None:
            return since >= self._interval
        if progress.waiting is not None:
            if progress.waiting.seconds < self._outage_line_at:
                return False
            while self._outage_line_at <= progress.waiting.seconds:  # several, after an attempt that hung
                self._outage_line_at += min(self._outage_line_at, self._SECONDS_MAX)
            return True
        return since >= self._SECONDS_MAX or (since >= self._SECONDS_MIN and _tenth(progress) > self._tenth)

    def _line(self, progress: Progress) -> str:
        if progress.waiting is not None:
            return "".join(format_waiting(progress.waiting))
        fields = (
            [] if progress.bytes_total is None else [f"{format_percent(progress.bytes_done, progress.bytes_total):>5}"]
        )
        fields.append(format_ratio(progress.bytes_done, progress.bytes_total))
        fields.append(f"{format_size(self._rate.rate)}/s")
        left = self._rate.time_left(progress)
        if left is not None:
            fields.append(f"{format_duration(left)} left")
        return "  ".join(fields)


def _tenth(progress: Progress) -> int:
    return 10 * progress.bytes_done // progress.bytes_total if progress.bytes_total else 0


class Events(NullMeter):
    """
    Writes objects: for the first report, then one per interval, and for the last.

    Another one is written when an outage begins, and when it ends.

    Args:
        output: where to write.
        interval: seconds between two objects.
        source: named in each object; None: not named, since there is only one.
    """

    def __init__(self, output: Output, interval: float, source: str | None = None) -> None:
        self._source = {} if source is None else {"source": source}
        self._output = output
        self._interval = interval
        self._rate = RateEstimator()
        self._printed_at: float | None = None
        self._waiting = False

    def __call__(self, progress: Progress, /) -> None:
        """Write an object, if it is time to."""
        self._rate.add(progress)
        at, waiting = progress.elapsed, progress.waiting is not None
        changed, self._waiting = waiting != self._waiting, waiting
        if self._printed_at is None or changed or progress.completed or at - self._printed_at >= self._interval:
            self._printed_at = at
            self._output.event("progress", **self._source, **as_data(progress, self._rate))


def as_data(progress: Progress, rate: RateEstimator) -> dict[str, Any]:
    """Return a report as an object."""
    left = 0.0 if progress.completed else rate.time_left(progress)
    waiting = progress.waiting
    return {
        "bytes_done": progress.bytes_done,
        "bytes_total": progress.bytes_total,
        "bytes_resumed": progress.bytes_resumed,
        "bytes_acknowledged": progress.bytes_acknowledged,
        "parts_done": progress.parts_done,
        "parts_total": progress.parts_total,
        "fraction": None if progress.fraction is None else round(progress.fraction, 6),
        "elapsed": round(progress.elapsed, 3),
        "rate": round(rate.rate),
        "eta": None if left is None else round(left, 1),
        "parts_in_flight": progress.parts_in_flight,
        "retries": progress.retries,
        "waiting": None if waiting is None else {name: _rounded(value) for name, value in asdict(waiting).items()},
    }


def _rounded(value: object) -> object:
    return round(value, 1) if isinstance(value, float) else value
