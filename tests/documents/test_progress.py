"""The page on progress has every field of a report, and says which can be None."""

from __future__ import annotations

from typing import get_args, get_type_hints

from partwise import Progress

HINTS = {name: hint for name, hint in get_type_hints(Progress).items() if not name.startswith("_")} | {
    name: get_type_hints(value.fget)["return"] for name, value in vars(Progress).items() if isinstance(value, property)
}


def test_every_field_is_in_the_table(section, tables, names) -> None:
    [table] = tables(section("progress", "A callback"))

    assert {name for row in table for name in names(row["field of `Progress`"])} == HINTS.keys()


def test_what_can_be_none_is_said(section, tables, names) -> None:
    [table] = tables(section("progress", "A callback"))
    optional = {name for name, hint in HINTS.items() if type(None) in get_args(hint)}

    assert len(optional) >= 6
    for row in table:
        assert ("None" in row["meaning"]) == bool(optional & {*names(row["field of `Progress`"])}), row
