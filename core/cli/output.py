"""
Which words go where: what was asked for to standard output; progress, warnings and errors to standard error.

With ``--json`` standard output is for programs alone, and all words for people go to standard error.

All that is printed goes through this module, and every character that is not printable is escaped here. The names of
files, keys, upload ids and checkpoints, the answers of servers, and messages of errors may hold anything; none of it
begins a line of its own, or gives an order to a terminal.
"""

from __future__ import annotations

import io
import json
import logging
import math
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from attrs import define

from partwise.cli.formatting import shown
from partwise.cli.style import Line, Painted, painted

if TYPE_CHECKING:
    from rich.console import Console

_SHOW_CURSOR = b"\x1b[?25h\n"


@define(frozen=True)
class Output:
    """
    How much to say, and to whom.

    Output is written in lines. Each is text, or a tuple of texts, of which some may be `Painted`; a line break within
    one is escaped like any other control character.

    Args:
        json: standard output is for programs.
        quiet: nothing but errors.
        verbose: what the library logs, and tracebacks.
        events: what happens on the way is for programs too, one object a line.
    """

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    events: bool = False

    def say(self, *lines: Line) -> None:
        """What was asked for, in words."""
        if not self.quiet:
            _write(sys.stderr if self.json else sys.stdout, *lines)

    def listed(self) -> int:
        """
        The exit code of a command that was asked for a list: 1 if standard output did not take all of it, as on a full
        disk, where a reader still waits for the rest. One that has left early, as `head` does, has what it wanted.
        """
        failure = getattr(sys.stdout, "failure", None) if getattr(sys.stdout, "is_cut_short", False) else None
        if failure is None:
            return 0
        self.problem(f"standard output could not be written: {getattr(failure, 'strerror', None) or failure}")
        return 1

    def note(self, *lines: Line) -> None:
        """Words beside what was asked for: how far it is, what to do next."""
        if not self.quiet:
            _write(sys.stderr, *lines)

    def warning(self, text: str) -> None:
        """What may go wrong, in one line."""
        self.note((Painted("partwise: warning:", "yellow"), f" {text}"))

    def problem(self, text: str, error: BaseException | None = None, *more: Line) -> None:
        """An error, in one line, and what follows it; with its traceback where that was asked for."""
        trace: list[Line] = []
        if self.verbose and isinstance(error, Exception):
            # Indented, so that no line of a message looks like one that begins here.
            written = "".join(traceback.format_exception(error)).rstrip()
            trace = [f"  {line}" for line in written.split("\n")]
        _write(sys.stderr, *trace, (Painted("partwise:", "red"), f" {text}"), *more)

    def record(self, data: Mapping[str, Any]) -> None:
        """One object for programs, on a line of its own; nothing where it was not asked for."""
        if self.json:
            _write(sys.stdout, as_json(data))

    def event(self, kind: str, **facts: Any) -> None:
        """Something that happened on the way, as an object of its own; nothing where that was not asked for."""
        if self.events:
            self.record({"event": kind, **facts})

    def can_ask(self) -> bool:
        """Whether a person is there: what is typed comes from a terminal, and a question can be seen on one."""
        try:
            return sys.stdin is not None and sys.stdin.isatty() and _for_questions().isatty()
        except (OSError, ValueError):  # ValueError: it was closed
            return False

    def ask(self, question: str) -> bool:
        """Ask a question whose answer is yes or no. What is not a clear yes, such as the end of the input, is a no."""
        stream = _for_questions()
        stream.write(f"{_rendered(question, stream)} [y/N] ")
        stream.flush()
        try:
            answer = sys.stdin.readline()
        except (OSError, ValueError):  # ValueError: it is not text
            answer = ""
        if not answer.endswith("\n"):
            _write(stream, "")  # the cursor still stands behind the question
        return answer.strip().lower() in ("y", "yes")

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Show what the library logs: its warnings, with ``--verbose`` all of it, with ``--quiet`` nothing."""
        logger = logging.getLogger("partwise")
        handler = _Handler(self)
        level, propagate, last_resort = logger.level, logger.propagate, logging.lastResort
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG if self.verbose else logging.WARNING)
        logger.propagate = False  # whoever configured the root logger of this process would say it a second time
        # Warnings of other libraries, which may quote a server, would otherwise be printed as they are.
        logging.lastResort = _Handler(self, logging.WARNING)
        try:
            yield
        finally:
            logging.lastResort = last_resort
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


class _Handler(logging.Handler):
    """Writes to what standard error is at the time, since a bar on the screen takes its place for a while."""

    def __init__(self, output: Output, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001  # arguments that don't fit the message are a defect, but not of the upload
            text = str(record.msg)
        level = record.levelname.lower()
        if record.levelno >= logging.WARNING:
            self._output.event("warning", message=text)
        if self._output.verbose:
            _write(sys.stderr, f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {level}: {text}")
        elif not self._output.quiet:
            _write(sys.stderr, (Painted(f"partwise: {level}:", "yellow"), f" {text}"))


def as_json(data: Mapping[str, Any]) -> str:
    """
    An object as JSON in printable ASCII. What JSON has no form for is null (numbers without a value) or text.
    """
    try:
        return json.dumps(data, ensure_ascii=True, allow_nan=False, default=str)
    except ValueError:
        return json.dumps(_finite(data), ensure_ascii=True, default=str)


def _finite(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None
        case Mapping():
            return {name: _finite(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_finite(inner) for inner in value]
    return value


def _rendered(line: Line, stream: TextIO) -> str:
    pieces = (line,) if isinstance(line, str) else line
    return "".join(
        painted(shown(piece), piece.colour, stream) if isinstance(piece, Painted) else shown(piece) for piece in pieces
    )


def _for_questions() -> TextIO:
    return sys.stdout if sys.stdout.isatty() and not sys.stderr.isatty() else sys.stderr


def _write(stream: TextIO, *lines: Line) -> None:
    # One write, so that lines of two threads don't mix; flushed, so that the two streams come in order.
    stream.write("".join(f"{_rendered(line, stream)}\n" for line in lines))
    stream.flush()


# --- beside a bar ----------------------------------------------------------------------------------------------------


class AboveTheBar(io.TextIOBase):
    """
    Standard error while there is a bar: whole lines, above it, in one piece each, so that a path can be copied.

    Args:
        console: what draws the bar.
        screen: what standard error is otherwise.
    """

    def __init__(self, console: Console, screen: TextIO) -> None:
        self._console = console
        self._screen = screen
        self._rest = ""

    def write(self, text: str, /) -> int:
        """Show the lines that are whole by now."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)
        return len(text)

    def fileno(self) -> int:
        """That of the screen."""
        return self._screen.fileno()

    def isatty(self) -> bool:
        """Whether the screen is a terminal."""
        return self._screen.isatty()


def show_cursor() -> None:
    """Show the terminal's cursor again, whatever hid it; by a call of the system, since locks may be held."""
    with suppress(OSError, ValueError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, _SHOW_CURSOR)
