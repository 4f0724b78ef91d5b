"""
Print results to standard output, and everything else to standard error.

With ``--json``, standard output is for programs, and all text for people goes to standard error.

Everything that is printed goes through this module, which escapes every character that is not printable. File names,
keys, upload ids, checkpoints, responses of servers and error messages may contain anything: none of it can start a new
line or control the terminal.
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
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any, TextIO

from attrs import define

from partwise.cli.formatting import collapse_lines, escape_control
from partwise.cli.reporting import ErrorReport, with_hint_as_flags
from partwise.cli.style import Color, Line, Styled, styled
from partwise.errors import PartwiseError

if TYPE_CHECKING:
    from rich.console import Console

_SHOW_CURSOR = b"\x1b[?25h\n"


@define(frozen=True)
class Output:
    """
    The output of a command.

    It is written in lines. A line is text, or a tuple of texts, of which some may be `Styled`; a line break within a
    line is escaped like any other control character.
    """

    json: bool = False  # write objects to standard output
    quiet: bool = False
    verbose: bool = False  # print the library's log, and tracebacks
    events: bool = False  # write events as objects, too

    def say(self, *lines: Line) -> None:
        """Print the result of the command."""
        if not self.quiet:
            _write(sys.stderr if self.json else sys.stdout, *lines)

    def verbatim(self, text: str) -> None:
        """
        Print a program for a shell without escaping it.

        It must contain nothing from outside.
        """
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
        sys.stdout.flush()

    def list_exit_code(self) -> int:
        """
        Return the exit code of a command that prints a list.

        It is 1 if standard output could not take the list, as on a full disk. A reader that closed the pipe early, such
        as `head`, has what it wanted: that is 0.
        """
        failure = getattr(sys.stdout, "failure", None) if getattr(sys.stdout, "is_cut_short", False) else None
        if failure is None:
            return 0
        reason = getattr(failure, "strerror", None) or str(failure)
        self.error(ErrorReport("standard output could not be written", reason))
        return 1

    def note(self, *lines: Line) -> None:
        """Print information beside the result: progress, what to do next."""
        if not self.quiet:
            _write(sys.stderr, *lines)

    def warning(self, text: str) -> None:
        """Print a warning."""
        if not self.quiet:
            _write(sys.stderr, *_labelled("warning", text, "yellow"))

    def error(self, report: ErrorReport, error: BaseException | None = None) -> None:
        """
        Print an error, each part of it on a separate line that begins with its name.

        If the output is verbose, the traceback of the exception is printed, too.
        """
        lines: list[Line] = []
        if self.verbose and isinstance(error, Exception):
            # Indented, so that no line of a message looks like one of ours.
            written = "".join(traceback.format_exception(error)).rstrip()
            lines += [f"  {line}" for line in written.split("\n")]
        lines += _labelled("error", collapse_lines(report.message), "red")
        for label, text in (("cause", report.cause), ("kept", report.kept), ("hint", report.hint)):
            if text:
                lines += _labelled(label, collapse_lines(text), "cyan")
        if report.command:
            lines.append(f"  {report.command}")
        _write(sys.stderr, *lines)

    def record(self, data: Mapping[str, Any]) -> None:
        """Write an object to standard output, in a line, if JSON was asked for."""
        if self.json:
            _write(sys.stdout, as_json(data))

    def event(self, kind: str, **facts: Any) -> None:
        """Write an event as an object, if events were asked for."""
        if self.events:
            self.record({"event": kind, **facts})

    def can_ask(self) -> bool:
        """Return whether standard input is a terminal, and a question can be seen on one."""
        try:
            return sys.stdin is not None and sys.stdin.isatty() and _for_questions().isatty()
        except (OSError, ValueError):  # ValueError: it was closed
            return False

    def ask(self, question: str) -> bool:
        """
        Ask for confirmation.

        Anything but a clear yes, such as the end of the input, is a no.
        """
        stream = _for_questions()
        stream.write(f"{_rendered(question, stream)} [y/N] ")
        stream.flush()
        try:
            response = sys.stdin.readline()
        except (OSError, ValueError):  # ValueError: it is not text
            response = ""
        if not response.endswith("\n"):
            _write(stream, "")  # the cursor is still on the line of the question
        return response.strip().lower() in ("y", "yes")

    @contextmanager
    def logging(self, scheme: str = "") -> Iterator[None]:
        """
        Print what the library logs.

        By default these are warnings; with ``--verbose`` everything, with ``--quiet`` nothing.

        Args:
            scheme: that of the URL, on which depends where credentials come from.
        """
        logger = logging.getLogger("partwise")
        handler = _Handler(self, scheme=scheme)
        level, propagate, last_resort = logger.level, logger.propagate, logging.lastResort
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG if self.verbose else logging.WARNING)
        logger.propagate = False  # handlers of the root logger would print it a second time
        # Python would print warnings of other libraries, which may quote a server, without escaping them.
        logging.lastResort = _Handler(self, logging.WARNING)
        try:
            yield
        finally:
            logging.lastResort = last_resort
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


class _Handler(logging.Handler):
    """Writes to the current standard error, which is replaced while there is a bar."""

    def __init__(self, output: Output, level: int = logging.NOTSET, scheme: str = "") -> None:
        super().__init__(level)
        self._output = output
        self._scheme = scheme

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self._text(record)
        except Exception:  # noqa: BLE001  # arguments that do not fit the message must not stop the upload
            text = str(record.msg)
        level = record.levelname.lower()
        if record.levelno >= logging.WARNING:
            self._output.event("warning", message=text)
        if self._output.verbose:
            _write(sys.stderr, f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {level}: {text}")
        elif not self._output.quiet:
            _write(sys.stderr, *_labelled(level, text, "yellow"))

    def _text(self, record: logging.LogRecord) -> str:
        """Return the message; errors in it have hints that name flags."""
        if not isinstance(record.args, tuple) or not record.args:
            return record.getMessage()
        shown = (
            with_hint_as_flags(one, self._scheme) if isinstance(one, PartwiseError) else one for one in record.args
        )
        return str(record.msg) % tuple(shown)


def as_json(data: Mapping[str, Any]) -> str:
    """
    Return an object as JSON in printable ASCII.

    NaN and infinity become null, unknown types become text.
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


def _labelled(label: str, text: str, color: Color) -> list[Line]:
    """
    Return ``label: text`` as lines.

    On a terminal they are folded, and indented after the first; elsewhere there is one line.
    """
    first, more = escape_control(text), list[str]()
    if sys.stderr.isatty():
        import textwrap

        width = max(40, _columns(sys.stderr)) - len(label) - 2
        first, *more = textwrap.wrap(first, width, break_long_words=False, break_on_hyphens=False) or [""]
    indent = " " * (len(label) + 2)
    return [(Styled(f"{label}:", color), f" {first}"), *(f"{indent}{line}" for line in more)]


def _columns(stream: TextIO) -> int:
    """Return the width of a terminal; COLUMNS overrides it."""
    if not os.environ.get("COLUMNS", "").isdecimal():
        # `get_terminal_size` asks standard output, which may be a file.
        with suppress(OSError, ValueError):
            return os.get_terminal_size(stream.fileno()).columns or 80
    return get_terminal_size().columns


def _rendered(line: Line, stream: TextIO) -> str:
    pieces = (line,) if isinstance(line, str) else line
    return "".join(
        styled(escape_control(piece), piece.color, stream) if isinstance(piece, Styled) else escape_control(piece)
        for piece in pieces
    )


def _for_questions() -> TextIO:
    return sys.stdout if sys.stdout.isatty() and not sys.stderr.isatty() else sys.stderr


def _write(stream: TextIO, *lines: Line) -> None:
    # One write, so that lines of two threads don't mix; flushed, so that the two streams come in order.
    stream.write("".join(f"{_rendered(line, stream)}\n" for line in lines))
    stream.flush()


# --- with a bar ------------------------------------------------------------------------------------------------------


class AboveTheBar(io.TextIOBase):
    """
    Standard error while there is a bar: prints complete lines above it.

    The lines are not folded, so that paths can be copied.
    """

    def __init__(self, console: Console, screen: TextIO) -> None:
        self._console = console
        self._screen = screen
        self._incomplete = ""

    def write(self, text: str, /) -> int:
        """Print the lines that are complete."""
        *lines, self._incomplete = (self._incomplete + text).split("\n")
        for line in lines:
            self._console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)
        return len(text)

    def fileno(self) -> int:
        """Return the descriptor of the screen."""
        return self._screen.fileno()

    def isatty(self) -> bool:
        """Return whether the screen is a terminal."""
        return self._screen.isatty()


def show_cursor() -> None:
    """
    Show the terminal's cursor again.

    It is a system call, since a signal handler calls it: locks may be held.
    """
    with suppress(OSError, ValueError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, _SHOW_CURSOR)
