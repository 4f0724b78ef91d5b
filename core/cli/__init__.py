"""
The command line: one module for each command, and what the commands share.

    app, common_options   the commands and their flags, for click
    vendors               the flags that the packages of storages declare
    object_options        the flags for options of objects, and those of one storage
    help_pages            commands and options whose help pages have headings
    completion            shell completion
    param_types, parsing  from text to sizes, rates, durations, pairs and URLs
    runner                from a command line to an exit code
    upload, upload_several, verify, status, abort, uploads, gc, probe, serve, demo
                          what the commands do
    progress_display      progress as a bar, as lines, or as objects
    formatting            from values to text
    reporting             from an error to text, an object and an exit code
    output                which text goes to which stream; everything printed is escaped there
    streams               standard output and error whose writes never fail
    style                 colors
    targets               from URLs and flags to backends and stores
    retries               requests that are retried as the engine's are
    signals               Ctrl-C, SIGTERM and SIGHUP
    stdin                 standard input as a source

Modules that a command needs are imported when it runs, so that ``--help`` and completion are fast.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from partwise._extras import install_hint
from partwise.cli.streams import steady_streams

__all__ = ["main"]

_EXTRA = {"click", "rich"}


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run one command and return its exit code.

    Args:
        arguments: the command line without the program's name; None: that of this process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    with steady_streams():
        try:
            from partwise.cli.app import run
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in _EXTRA:
                raise
            # Written directly: the modules that print errors need click, too.
            sys.stderr.write("error: the command line needs click and rich, which are not installed\n")
            sys.stderr.write(f"hint: {install_hint('cli')}\n")
            return 2
        return run(given)
