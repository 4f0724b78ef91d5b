"""
The help pages: flags under headings, examples as they are to be typed.

Written here rather than by typer, whose pages differ from version to version and cost a tenth of a second.
"""

from __future__ import annotations

import inspect
import os
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

#: The widest that text runs, in columns, however wide the terminal.
WIDTH_MAX = 100

_LEFT_MAX = 34


class Command(TyperCommand):
    """A command whose `rich_help_panel` values are headings, and whose epilog is shown line by line."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the whole page."""
        _write_page(self, ctx, formatter)


class Group(TyperGroup):
    """The same for the program as a whole, with its commands in the order in which they are told of."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # the signature of groups
        """The names of all commands, in the order of the code."""
        return list(self.commands)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the whole page."""
        _write_page(self, ctx, formatter)


def _write_page(command: Any, ctx: Any, formatter: Any) -> None:
    parameters = command.get_params(ctx)
    arguments = [parameter for parameter in parameters if parameter.param_type_name == "argument"]
    usage = ["[OPTIONS]", *(parameter.metavar for parameter in arguments)]
    formatter.write_usage(ctx.command_path, " ".join([*usage, *(["COMMAND ..."] if _commands(command) else [])]))
    formatter.write_paragraph()
    formatter.write_text(inspect.cleandoc(command.help or ""))
    _write_section(formatter, "Commands", _commands(command))
    _write_section(formatter, "Arguments", [(_argument_name(one), one.help or "") for one in arguments])
    for heading, options in _by_heading(parameters).items():
        _write_section(formatter, heading, [(_option_name(one), one.help or "") for one in options])
    if command.epilog:
        formatter.write("\n" + _emphasised_headings(command.epilog) + "\n")


def _commands(command: Any) -> list[tuple[str, str]]:
    commands = getattr(command, "commands", {})
    return [(name, one.short_help or "") for name, one in commands.items()]


def _by_heading(parameters: list[Any]) -> dict[str, list[Any]]:
    """The options by heading, in the order in which headings first come."""
    found: dict[str, list[Any]] = {}
    for parameter in parameters:
        if parameter.param_type_name == "option" and not parameter.hidden:
            heading = getattr(parameter, "rich_help_panel", None) or "Options"
            found.setdefault(heading, []).append(parameter)
    return found


def _argument_name(parameter: Any) -> str:
    return _styled(parameter.metavar.strip("[]"), fg="cyan")


def _option_name(parameter: Any) -> str:
    value = "" if parameter.is_flag or not parameter.metavar else f" {parameter.metavar}"
    return _styled(", ".join(sorted(parameter.opts, key=len)), fg="cyan") + value


def _write_section(formatter: Any, heading: str, rows: list[tuple[str, str]]) -> None:
    if rows:
        with formatter.section(_styled(heading, bold=True)):
            formatter.write_dl(rows, col_max=_LEFT_MAX)


def _emphasised_headings(text: str) -> str:
    return "\n".join(
        _styled(line, bold=True) if line and not line.startswith(" ") else line for line in text.split("\n")
    )


def _styled(text: str, **style: Any) -> str:
    # What goes to a file or a pipe is stripped of it by typer; not so for those who asked for no colour.
    plain = os.name == "nt" or "NO_COLOR" in os.environ or not sys.stdout.isatty()
    return text if plain else typer.style(text, **style)
