"""
Click commands and options whose help pages have headings and examples.

Examples are printed line by line.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click

from partwise.cli.style import styled

#: The maximum width of help pages in columns, however wide the terminal is.
WIDTH_MAX = 100

_LEFT_MAX = 34

_F = TypeVar("_F", bound=Callable[..., Any])


class Argument(click.Argument):
    """
    An argument with an explanation on the help page.

    Not all versions of click have that.
    """

    def __init__(self, *args: Any, explanation: str, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.explanation = explanation


class Sources(Argument):
    """
    One or several sources, before a URL.

    A single word is the source, so that the URL is what is missing.
    """

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        """Refuse a command line without a source, or without a URL after the sources."""
        words, url = opts.get(self.name or ""), opts.get("url")
        # What is missing is None, or something of its own in newer versions of click.
        is_file = isinstance(url, str) and ":" not in url
        if not ctx.resilient_parsing:
            if not isinstance(words, tuple) or not words:
                raise click.MissingParameter(ctx=ctx, param=_url_parameter(ctx) if is_file else self)
            if is_file and any("://" in word for word in words):
                raise click.UsageError(f"the URL has to be the last argument, not {url!r:.200}", ctx)
        return super().handle_parse_result(ctx, opts, args)


def _url_parameter(ctx: click.Context) -> click.Parameter:
    return next(one for one in ctx.command.params if one.name == "url")


class Option(click.Option):
    """An option that is listed under a heading."""

    def __init__(self, *args: Any, heading: str = "Options", **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.heading = heading


def argument(name: str, metavar: str, explanation: str, **attributes: Any) -> Callable[[_F], _F]:
    """Declare an argument: a decorator."""
    return click.argument(name, **{"cls": Argument, **attributes}, metavar=metavar, explanation=explanation)


class OptionGroup:
    """
    Options of one heading, declared once.

    The group is a decorator for each command that has these options.
    """

    def __init__(self, heading: str) -> None:
        self._heading = heading
        self._decorators: list[Callable[[Any], Any]] = []
        self._names: list[str] = []
        #: The flag of each option, by the name of its value.
        self.usages: dict[str, str] = {}

    def option(self, usage: str, kind: Any, explanation: str, name: str = "", **attributes: Any) -> OptionGroup:
        """
        Add an option, and return the group.

        Args:
            usage: its flags and the name of its value, as on the help page: ``-s --size SIZE``.
            kind: the type of its value, for click.
            explanation: its text on the help page.
            name: the name of the value that commands get; by default that of the last flag.
            attributes: passed to `click.option`.
        """
        *flags, metavar = usage.split()
        return self._add(flags, name, type=kind, metavar=metavar, help=explanation, **attributes)

    def flag(self, usage: str, explanation: str, **attributes: Any) -> OptionGroup:
        """Add an option without a value, such as ``-q --quiet``, and return the group."""
        return self._add(usage.split(), "", is_flag=True, help=explanation, **attributes)

    def _add(self, flags: Sequence[str], name: str, **attributes: Any) -> OptionGroup:
        name = name or flags[-1].lstrip("-").replace("-", "_")
        self._names.append(name)
        self.usages[name] = flags[-1]
        self._decorators.append(click.option(name, *flags, cls=Option, heading=self._heading, **attributes))
        return self

    def values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the options of this group that were given."""
        return {name: given[name] for name in self._names if given[name] is not None}

    def values_present(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """
        Return the values that were given.

        The command need not have these options.
        """
        return {name: given[name] for name in self._names if given.get(name) is not None}

    def __call__(self, function: _F) -> _F:
        for decorate in reversed(self._decorators):
            function = decorate(function)
        return function


class Command(click.Command):
    """A command whose page lists its arguments, and its options under their headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write arguments and options."""
        parameters = self.get_params(ctx)
        _write_section(formatter, "Arguments", _arguments(parameters))
        for heading, options in by_heading(parameters).items():
            records = (option.get_help_record(ctx) for option in options)
            _write_section(formatter, heading, [record for record in records if record is not None])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's
        """Write the examples as they are."""
        if self.epilog:
            formatter.write("\n" + "\n".join(map(_bold_if_heading, self.epilog.split("\n"))) + "\n")


class Group(Command, click.Group):
    """The program, with its commands in the order of their definition."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Return the names of all commands."""
        return list(self.commands)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write commands, then options."""
        _write_section(formatter, "Commands", [(name, one.short_help or "") for name, one in self.commands.items()])
        super().format_options(ctx, formatter)


def by_heading(parameters: Iterable[click.Parameter]) -> dict[str, list[click.Option]]:
    """Return the options by heading, in the order in which the headings first occur."""
    found: dict[str, list[click.Option]] = {}
    for option in parameters:
        if isinstance(option, click.Option) and not option.hidden:
            found.setdefault(getattr(option, "heading", "Options"), []).append(option)
    return found


def _arguments(parameters: Iterable[click.Parameter]) -> list[tuple[str, str]]:
    return [((one.metavar or "").strip("[]"), one.explanation) for one in parameters if isinstance(one, Argument)]


def _write_section(formatter: click.HelpFormatter, heading: str, rows: list[tuple[str, str]]) -> None:
    if rows:
        with formatter.section(styled(heading, "bold", sys.stdout)):
            formatter.write_dl([(styled(name, "cyan", sys.stdout), text) for name, text in rows], col_max=_LEFT_MAX)


def _bold_if_heading(line: str) -> str:
    return styled(line, "bold", sys.stdout) if line and not line.startswith(" ") else line
