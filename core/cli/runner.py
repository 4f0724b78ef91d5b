"""From a command's work to its exit code: every end that it can have is told here, and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from partwise.cli import style

if TYPE_CHECKING:
    from partwise.cli.output import Output

# The root of what typer raises for a line that it can't make sense of. It comes from click, or from a copy of click in
# typer, by version; only this way to it is public in both.
_WrongLine: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def invoke(command: Any, arguments: list[str]) -> int:
    """
    Have typer read the line and call the function of its command, and return what that returns.

    Args:
        command: what typer made of the app.
        arguments: the line, without the program's name. Commands find it as their context's `obj`.
    """
    try:
        code = command.main(
            args=arguments,
            prog_name="partwise",
            standalone_mode=False,
            obj=arguments,
            color=True if style.wanted(sys.stdout) else None,
        )
    except _WrongLine as error:
        return _wrong_line(error, arguments)
    except (OSError, RuntimeError) as error:
        # Only typer's own work comes here, such as installing completion without a home, or into one that is read-only.
        from partwise.cli.output import Output
        from partwise.cli.reporting import FAILED

        Output().problem(f"that can't be done here: {error}")
        return FAILED
    return code if isinstance(code, int) else 0


def _wrong_line(error: Any, arguments: list[str]) -> int:
    from partwise.cli.formatting import one_line, shown
    from partwise.cli.output import Output
    from partwise.cli.reporting import WRONG_USAGE

    message = shown(one_line(_no_such_flag(error) or error.format_message()))
    path = getattr(getattr(error, "ctx", None), "command_path", "partwise")
    # The line could not be read, so whether it asks for JSON is a guess, and one that harms nobody.
    output = Output(json="--json" in arguments)
    see = f"see '{path} --help'{_if_it_was_a_file(error)}"
    output.problem(f"{message.rstrip('.')}{'' if message.endswith('?') else ';'} {see}")
    told = {"type": "UsageError", "message": message, "retryable": False, "resumable": False}
    output.record({"ok": False, "error": told, "exit_code": WRONG_USAGE})
    return WRONG_USAGE


def _no_such_flag(error: Any) -> str:
    """In our words, since typer's differ from version to version; "" for any other error."""
    if not hasattr(error, "option_name") or not hasattr(error, "possibilities"):
        return ""
    from difflib import get_close_matches

    # Those that differ by a letter or two, if there are any: the others would only distract.
    possible = sorted(error.possibilities or ())
    similar = " or ".join(sorted(get_close_matches(error.option_name, possible, cutoff=0.8)) or possible)
    return f"No such option: {error.option_name}.{f' Did you mean {similar}?' if similar else ''}"


def _if_it_was_a_file(error: Any) -> str:
    """What to type where a file's name was taken for a flag."""
    name = str(getattr(error, "option_name", None) or "")
    from pathlib import Path

    return f"; a file of that name is written ./{name}" if name and Path(name).exists() else ""


def carry_out(
    work: Callable[[Output], int],
    *,
    json: bool,
    quiet: bool,
    verbose: bool,
    subject: str = "",
    events: bool = False,
) -> int:
    """
    Do the work of a command; tell an error in one line, and as one object where that was asked for.

    Args:
        work: is given the output, and returns the exit code.
        json: objects on standard output.
        quiet: nothing but errors.
        verbose: what the library logs, and tracebacks.
        subject: what the command is about, for messages.
        events: objects on standard output, for what happens on the way too.
    """
    from partwise.cli.output import Output
    from partwise.cli.reporting import exit_code, failure, sentence
    from partwise.cli.signals import Stopped

    output = Output(json=json or events, quiet=quiet and not verbose, verbose=verbose, events=events)
    with output.logging():
        try:
            return work(output)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # a defect, too, ends in one line
            text, again = sentence(error, subject), []
            if isinstance(error, Stopped) and error.command:
                # A line to be typed is shown as it is, since spaces in it count.
                text, again = f"{text} {error.advice}", [f"  {error.command}"]
            output.problem(text, error, *again)
            output.record(failure(error, subject))
            return exit_code(error)
