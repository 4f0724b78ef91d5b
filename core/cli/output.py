"""
Which words go where: what was asked for to standard output; progress, warnings and errors to standard error.

With ``--json`` standard output is for programs alone, and all words for people go to standard error.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from attrs import define

from partwise.cli.colours import painted


@define(frozen=True)
class Output:
    """
    How much to say, and to whom.

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

    def say(self, text: str) -> None:
        """What was asked for, in words."""
        if not self.quiet:
            _write(sys.stderr if self.json else sys.stdout, text)

    def note(self, text: str) -> None:
        """Words beside what was asked for: how far it is, what to do next."""
        if not self.quiet:
            _write(sys.stderr, text)

    def problem(self, text: str, error: BaseException | None = None) -> None:
        """An error, in one line; with its traceback where that was asked for."""
        if self.verbose and isinstance(error, Exception):
            _write(sys.stderr, "".join(traceback.format_exception(error)).rstrip())
        _write(sys.stderr, f"{painted('partwise:', 'red', sys.stderr)} {text}")

    def record(self, data: Mapping[str, Any]) -> None:
        """One object for programs, on a line of its own; nothing where it was not asked for."""
        if self.json:
            _write(sys.stdout, json.dumps(data))

    def event(self, kind: str, **facts: Any) -> None:
        """Something that happened on the way, as an object of its own; nothing where that was not asked for."""
        if self.events:
            self.record({"event": kind, **facts})

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Show what the library logs: its warnings, with ``--verbose`` all of it, with ``--quiet`` nothing."""
        logger = logging.getLogger("partwise")
        handler = _Handler(self)
        level, propagate = logger.level, logger.propagate
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG if self.verbose else logging.WARNING)
        logger.propagate = False  # whoever configured the root logger of this process would say it a second time
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


class _Handler(logging.Handler):
    """Writes to what standard error is at the time, since a bar on the screen takes its place for a while."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        text, level = record.getMessage(), record.levelname.lower()
        if record.levelno >= logging.WARNING:
            self._output.event("warning", message=text)
        if self._output.verbose:
            _write(sys.stderr, f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {level}: {text}")
        elif not self._output.quiet:
            _write(sys.stderr, f"{painted(f'partwise: {level}:', 'yellow', sys.stderr)} {text}")


def _write(stream: TextIO, text: str) -> None:
    # One write, so that lines of two threads don't mix; flushed, so that the two streams come in order.
    try:
        try:
            stream.write(text + "\n")
        except UnicodeEncodeError:
            stream.write(text.encode("ascii", "backslashreplace").decode() + "\n")
        stream.flush()
    except OSError:
        # Whoever listened has gone, as `head` does, or the terminal has. The work goes on, and what is still in the
        # buffer must not fail once more at exit.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
