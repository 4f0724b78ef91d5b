"""
Generate the reference of the command line: ``python docs/options.py``.

docs/reference/command-line.md is written by hand up to the mark. A test compares the rest with the program.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import click

from partwise.cli.app import app
from partwise.cli.help_pages import Argument, by_heading

PAGE = Path(__file__).parent / "reference" / "command-line.md"
MARK = "<!-- what follows is written by docs/options.py -->\n"


def reference() -> str:
    """Return the reference of all commands, with their arguments and options."""
    return "\n".join(_command(name, command) for name, command in app.commands.items())


def _command(name: str, command: click.Command) -> str:
    arguments = [(one.metavar or "", one.explanation) for one in command.params if isinstance(one, Argument)]
    lines = [
        f"## partwise {name}\n",
        f"```text\npartwise {' '.join([name, '[OPTIONS]', *(metavar for metavar, _ in arguments)])}\n```\n",
        inspect.cleandoc(command.help or "") + "\n",
    ]
    if arguments:
        lines += _table("Arguments", [(metavar.strip("[]"), explanation) for metavar, explanation in arguments])
    for heading, options in by_heading(command.params).items():
        lines += _table(heading, [(_flags(option), option.help or "") for option in options])
    return "\n".join(lines)


def _flags(option: click.Option) -> str:
    return "`, `".join(option.opts) + ("" if option.is_flag else f" {option.metavar}")


def _table(heading: str, rows: list[tuple[str, str]]) -> list[str]:
    return [f"| {heading} | |", "|---|---|", *(f"| `{name}` | {_text(text)} |" for name, text in rows), ""]


def _text(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    by_hand, mark, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    PAGE.write_text(by_hand + mark + "\n" + reference(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
