"""
Types of command line values, for click.

A command gets parsed values; an invalid value is wrong usage. The parsers are imported when the first value is parsed,
so that help pages and completion start fast.
"""

from __future__ import annotations

from typing import Any

import click


class Value(click.ParamType):  # type: ignore[type-arg]  # older versions of click have none
    """A value that a function of `partwise.cli.parsing` parses."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the text. A default may have its final type already."""
        if not isinstance(value, str):
            return value
        from partwise.cli import parsing
        from partwise.errors import InvalidInput

        try:
            return getattr(parsing, self.name)(value)
        except InvalidInput as error:
            raise click.BadParameter(error.message, ctx, param) from error


def unique_pairs(ctx: click.Context, param: click.Parameter, pairs: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """
    Return the pairs of an option as a dict; a callback of click.

    The same name twice is wrong usage.
    """
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise click.BadParameter(f"{name!r:.60} is given twice", ctx, param)
        found[name] = value
    return found
