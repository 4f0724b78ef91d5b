"""
Run a command line and return its exit code.

Every error ends here: as text, as an object and as a code.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from partwise.cli.style import use_color

if TYPE_CHECKING:
    from partwise.cli.output import Output
    from partwise.cli.reporting import ErrorReport


def invoke(command: click.Command, arguments: list[str]) -> int:
    """
    Parse a command line, run its command, and return the exit code.

    Commands get the command line, without the program's name, as the `obj` of their context.
    """
    try:
        code = command.main(
            args=arguments,
            prog_name="partwise",
            standalone_mode=False,
            complete_var="",  # by none: `completion.complete` has answered, or there is nothing to answer
            obj=arguments,
            color=True if use_color(sys.stdout) else None,
        )
    except click.UsageError as error:
        return _usage_error(error, arguments)
    return code if isinstance(code, int) else 0


# Newer versions of click have suggestions of their own after it.
_UNKNOWN_COMMAND = re.compile(r"No such command '(.*?)'")
_JSON = re.compile(r"(?:^|\0)--(?:json|progress[=\0]json)(?:\0|$)", re.IGNORECASE)


def _usage_error(error: click.UsageError, arguments: list[str]) -> int:
    from partwise.cli.output import Output
    from partwise.cli.reporting import WRONG_USAGE

    # The command line could not be parsed, so it is a guess whether it requests JSON.
    output = Output(json=_JSON.search("\0".join(arguments)) is not None)
    report = _format_usage_error(error)
    output.error(report)
    # An invalid value has the type of the library's error; other usage errors exist only here.
    kind = "InvalidInput" if type(error) is click.BadParameter else "UsageError"
    payload = {"type": kind, "message": report.one_line(), "retryable": False, "resumable": False}
    output.record({"ok": False, "error": payload, "exit_code": WRONG_USAGE})
    return WRONG_USAGE


def _format_usage_error(error: click.UsageError) -> ErrorReport:
    """Describe a command line that could not be parsed."""
    from partwise.cli.reporting import ErrorReport, hint_as_flags
    from partwise.errors import PartwiseError

    cause, hint = error.__cause__, ""
    match error:
        case click.NoSuchOption():
            message = f"no such option: {error.option_name}"
            name = error.option_name
            is_file = os.path.lexists(name)  # `Path.exists` raises for a name that is too long
            hint = _similar(error) or (f"Write a file of that name as ./{name}" if is_file else "")
        case click.BadParameter() if error.message and error.param is not None:
            message = f"{_name(error.param)}: {error.message}"
            hint = hint_as_flags(cause) if isinstance(cause, PartwiseError) else ""
        case _:
            text = error.format_message()
            if (unknown := _UNKNOWN_COMMAND.match(text)) is not None:
                text, hint = unknown[0], _similar_command(error, unknown[1])
            message = text[:1].lower() + text[1:]
    if not hint:
        hint = f"See '{error.ctx.command_path if error.ctx else 'partwise'} --help'"
    return ErrorReport(message.rstrip("."), hint=hint)


def _name(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len)
    return (getattr(parameter, "metavar", None) or "").strip("[]")


def _similar_command(error: click.UsageError, name: str) -> str:
    from difflib import get_close_matches

    known = error.ctx.command if error.ctx else None
    similar = get_close_matches(name, known.commands, 1) if isinstance(known, click.Group) else ()
    return f"Did you mean {similar[0]}?" if similar else ""


def _similar(error: click.NoSuchOption) -> str:
    from difflib import get_close_matches

    # Only names that differ by a letter or two: click's own suggestions are less similar.
    similar = get_close_matches(error.option_name, error.possibilities or (), 1, 0.8)
    return f"Did you mean {similar[0]}?" if similar else ""


def run_command(
    work: Callable[[Output], int | None],
    *,
    json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
    subject: str = "",
    events: bool = False,
    scheme: str = "",
    source: str | None = None,
) -> int:
    """
    Run a command and return its exit code; None from `work` is 0.

    An error is printed, and written as an object if JSON was requested. The flags are those of `Output`; the subject is
    what the command works on, for messages; the object of an error names the source.
    """
    from partwise.cli.output import Output
    from partwise.cli.reporting import exit_code, failure, format_error

    output = Output(json=json or events, quiet=quiet and not verbose, verbose=verbose, events=events)
    with output.logging(scheme):
        try:
            return work(output) or 0
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # a defect is reported, too
            output.error(format_error(error, subject, scheme), error)
            output.record(failure(error, subject, scheme) | ({} if source is None else {"source": source}))
            return exit_code(error)
