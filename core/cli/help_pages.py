"""
The help pages: flags under headings, examples as they are to be typed.

Written here rather than by typer, whose pages differ from version to version and cost a tenth of a second.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any

from typer.core import TyperCommand, TyperGroup

from partwise.cli.style import painted

#: The widest that text runs, in columns, however wide the terminal.
WIDTH_MAX = 100

_LEFT_MAX = 34


class Command(TyperCommand):
    """A command whose `rich_help_panel` values are headings, and whose epilog is shown line by line."""

    def get_params(self, ctx: Any) -> list[Any]:
        """All parameters, ``--help`` too."""
        return _as_they_stand(super().get_params(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the whole page."""
        _write_page(self, ctx, formatter)


class Group(TyperGroup):
    """The same for the program as a whole, with its commands in the order in which they are told of."""

    def get_params(self, ctx: Any) -> list[Any]:
        """All parameters, ``--help`` too."""
        return _as_they_stand(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # the signature of groups
        """The names of all commands, in the order of the code."""
        return list(self.commands)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the whole page."""
        _write_page(self, ctx, formatter)


class _AsItStands:
    def coerce(self, value: Any, **_: Any) -> Any:
        return list(value) if isinstance(value, tuple) else value


def _as_they_stand(parameters: list[Any]) -> list[Any]:
    """
    Have typer make nothing of what was given: our parameters are switches and text, and `asking` reads the text.

    Some versions of it would have another library validate that text is text, whose import takes longer than all the
    rest of a help page. Where there is no such thing to be left out, nothing is lost.
    """
    for parameter in parameters:
        if hasattr(parameter, "_runtime_param"):
            parameter._runtime_param = _AsItStands()  # noqa: SLF001  # there is no public way
    return parameters


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
    return painted(parameter.metavar.strip("[]"), "cyan", sys.stdout)


def _option_name(parameter: Any) -> str:
    value = "" if parameter.is_flag or not parameter.metavar else f" {parameter.metavar}"
    return painted(", ".join(sorted(parameter.opts, key=len)), "cyan", sys.stdout) + value


def _write_section(formatter: Any, heading: str, rows: list[tuple[str, str]]) -> None:
    if rows:
        with formatter.section(painted(heading, "bold", sys.stdout)):
            formatter.write_dl(rows, col_max=_LEFT_MAX)


def _emphasised_headings(text: str) -> str:
    return "\n".join(
        painted(line, "bold", sys.stdout) if line and not line.startswith(" ") else line for line in text.split("\n")
    )
