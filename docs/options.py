"""
The reference of the command line, from the program itself: ``python docs/options.py`` writes it anew.

What stands in docs/reference/command-line.md up to the mark is written by hand; a test compares the rest with the
program.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import typer

from partwise.cli.app import app

PAGE = Path(__file__).parent / "reference" / "command-line.md"
MARK = "<!-- what follows is written by docs/options.py -->\n"


def reference() -> str:
    """All commands, with their arguments and options."""
    program = typer.main.get_command(app)
    return "\n".join(_command(name, one) for name, one in program.commands.items())  # type: ignore[attr-defined]


def _command(name: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options: dict[str, list[Any]] = {}
    for one in command.params:
        if one.param_type_name == "option":
            options.setdefault(getattr(one, "rich_help_panel", None) or "Options", []).append(one)
    lines = [
        f"## partwise {name}\n",
        f"```text\npartwise {' '.join([name, '[OPTIONS]', *(one.metavar for one in arguments)])}\n```\n",
        inspect.cleandoc(command.help) + "\n",
    ]
    if arguments:
        lines += _table("argument", [(one.metavar.strip("[]"), one.help) for one in arguments])
    for heading, ones in options.items():
        lines += _table(heading, [(_written(one), one.help) for one in ones])
    return "\n".join(lines)


def _written(option: Any) -> str:
    value = "" if option.is_flag else f" {option.metavar}"
    return "`, `".join(sorted(option.opts, key=len)) + value


def _table(heading: str, rows: list[tuple[str, str]]) -> list[str]:
    return [f"| {heading} | |", "|---|---|", *(f"| `{name}` | {_text(told)} |" for name, told in rows), ""]


def _text(told: str) -> str:
    return told.replace("|", "\\|")


if __name__ == "__main__":
    by_hand, mark, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    PAGE.write_text(by_hand + mark + "\n" + reference(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
