"""
The command line: ``partwise upload``, ``status``, ``abort``, ``uploads``, ``gc``, ``serve`` and ``demo``.

    app, flags  the commands and their flags, for typer; each hands what was asked to a module of its own
    helping     the help pages
    completing  what shells complete
    running     from a command's work to its exit code
    upload, status, abort, pending, serve, demo
                what the commands do
    meters      how far an upload is, as a bar, as lines, or as objects
    asking, values
                what people write (sizes, spans of time, NAME=VALUE, flags) -> values
    wording     values -> what people read
    outcomes    an error -> one line, one JSON object, one exit code
    output      which words go to which stream; all that is printed is escaped there
    streams     standard output and error, to which writing never fails
    colours     what is coloured
    opening     URLs and flags -> backends and stores
    retries     requests to the storage, made again as the engine makes them
    stopping    Ctrl-C, SIGTERM and SIGHUP
    piping      standard input as a source

Nothing heavy is imported before the command that needs it is known, so that ``--help`` and completion answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from partwise.cli.streams import steady_streams

__all__ = ["main"]

_EXTRA = {"typer", "rich", "click"}  # click came with typer before typer had its own


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run one command, and return its exit code.

    Args:
        arguments: what follows the program's name; None takes this process's.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    with steady_streams():
        try:
            from partwise.cli.app import run
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in _EXTRA:
                raise
            from partwise.cli.output import Output

            Output().problem('the command line needs typer and rich: pip install "partwise[cli]"')
            return 2
        return run(given)
