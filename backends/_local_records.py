"""The small JSON files of a directory's books, and object options as plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from partwise._durable import sync
from partwise.backends._local_files import write_all
from partwise.model import ObjectOptions

_VERSION = 1


def write_record(path: Path, fields: Mapping[str, Any]) -> None:
    """Write a record that stays; its name is durable once its directory is."""
    with path.open("xb", buffering=0) as file:
        write_all(file, json.dumps({"version": _VERSION, **fields}, ensure_ascii=False).encode())
        sync(file)


def read_record(path: Path) -> dict[str, Any] | None:
    """The fields of a record; None where there is none, or none that this version can read."""
    try:
        data = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return data if isinstance(data, dict) and data.get("version") == _VERSION else None


def options_to_data(options: ObjectOptions) -> dict[str, Any]:
    """Those of the options that were asked for, by name."""
    values = {name: getattr(options, name) for name in sorted(options.given())}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}


def options_from_data(data: Mapping[str, Any]) -> ObjectOptions:
    """
    The options that `options_to_data` made plain.

    Raises:
        TypeError: it names an option that this version does not know.
    """
    return ObjectOptions(**data)
