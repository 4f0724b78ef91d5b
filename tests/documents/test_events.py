"""The events are documented, each with its fields."""

from __future__ import annotations

import attrs

from partwise import events


def test_each_event_is_in_the_table_with_its_fields(section, tables, names) -> None:
    [table] = tables(section("observability", "The events"))
    documented = {names(row["event"])[0]: names(row["fields"]) for row in table}
    kinds = {name: getattr(events, name) for name in events.__all__ if name not in {"UploadEvent", "EventCallback"}}
    common = {field.name for field in attrs.fields(events.UploadEvent)}

    assert documented == {
        name: [field.name for field in attrs.fields(kind) if field.name not in common] for name, kind in kinds.items()
    }


def test_each_outcome_is_documented(section) -> None:
    text = section("observability", "The events")

    assert [outcome for outcome in ("completed", "paused", "cancelled", "failed") if f'"{outcome}"' not in text] == []
