"""The small JSON files of a directory's bookkeeping, and object options as plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from partwise._durable import Untrusted, sync
from partwise.backends.local.directories import Directory
from partwise.backends.local.files import write_all
from partwise.errors import InvalidInput
from partwise.model import ObjectOptions

_VERSION = 1

#: A record holds a key, options and some numbers. What is larger was not written here.
RECORD_BYTES_MAX = 1024 * 1024


def encode_record(fields: Mapping[str, Any]) -> bytes:
    """
    A record as bytes.

    Raises:
        InvalidInput: it would be larger than what `read_record` reads, or can't be written as UTF-8.
    """
    try:
        encoded = json.dumps({"version": _VERSION, **fields}, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"the options of {fields.get('key')!r:.300} can't be kept: {error.object[error.start : error.end]!r:.20} in"
            " them can't be written as UTF-8. Nothing was stored; leave it out"
        ) from error
    if len(encoded) > RECORD_BYTES_MAX:
        raise InvalidInput(
            f"the options of {fields.get('key')!r:.300} take {len(encoded)} bytes, and a directory keeps"
            f" {RECORD_BYTES_MAX} at most. Nothing was stored; give it less metadata"
        )
    return encoded


def write_record(directory: Directory, name: str, fields: Mapping[str, Any]) -> None:
    """Write a record that stays; its name is durable once its directory is."""
    encoded = encode_record(fields)
    file, _ = directory.create(name)
    with file:
        write_all(file, encoded)
        sync(file)


def read_record(directory: Directory, name: str) -> dict[str, Any] | None:
    """The fields of a record; None where there is none, or none that this version can read and trust."""
    try:
        with directory.open_own_file(name) as file:
            encoded = file.read(RECORD_BYTES_MAX + 1)
        if len(encoded) > RECORD_BYTES_MAX:
            return None
        data = json.loads(encoded)
    # A list in a list in a list, and so on, is a RecursionError.
    except (FileNotFoundError, Untrusted, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) and data.get("version") == _VERSION else None


def options_to_data(options: ObjectOptions) -> dict[str, Any]:
    """Those of the options that were asked for, by name."""
    values = {name: getattr(options, name) for name in sorted(options.explicitly_set())}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}


def options_from_data(data: object) -> ObjectOptions:
    """
    The options that `options_to_data` made plain.

    Raises:
        ValueError: it is something else, or names an option that this version does not know.
    """
    if not isinstance(data, dict):
        raise ValueError(f"options are given by name, not as {type(data).__name__}")  # noqa: TRY004  # as all else
    for name, value in data.items():
        mapping = name in {"metadata", "tags"}
        texts = [*value, *value.values()] if mapping and isinstance(value, dict) else [value]
        if not all(isinstance(text, str) for text in texts) and not (name == "forbid_overwrite" and value is True):
            raise ValueError(f"the option {name!r:.100} can't be {value!r:.100}")
    try:
        return ObjectOptions(**data)
    except TypeError as error:
        raise ValueError(str(error)) from error
