"""Small JSON files in the metadata directory, and object options as plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from partwise import _durable
from partwise._durable import Untrusted, sync
from partwise.backends.local.directories import Directory
from partwise.errors import InvalidInput
from partwise.model import ObjectOptions

_VERSION = 1

#: Options whose name was another one in version 0.1.0.
_OLD_NAMES = {"tagging": "tags"}

#: A record holds a key, options and a few numbers. A larger file was not written by partwise.
RECORD_BYTES_MAX = 1024 * 1024


def encode_record(fields: Mapping[str, Any]) -> bytes:
    """
    Encode a record.

    Raises:
        InvalidInput: it would be larger than `read_record` accepts, or can't be encoded as UTF-8.
    """
    try:
        encoded = json.dumps({"version": _VERSION, **fields}, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"the options of {fields.get('key')!r:.300} can't be stored: they contain"
            f" {error.object[error.start : error.end]!r:.20}, which can't be encoded as UTF-8. Nothing was stored"
        ) from error
    if len(encoded) > RECORD_BYTES_MAX:
        raise InvalidInput(
            f"the options of {fields.get('key')!r:.300} take {len(encoded)} bytes, and a directory stores at most"
            f" {RECORD_BYTES_MAX}. Nothing was stored",
            hint="Pass less {metadata}",
        )
    return encoded


def write_record(directory: Directory, name: str, fields: Mapping[str, Any]) -> None:
    """Write a record; its bytes are durable, but not its name."""
    encoded = encode_record(fields)
    file, _ = directory.create(name)
    with file:
        _durable.write(file.fileno(), encoded)
        sync(file)


def read_record(directory: Directory, name: str) -> dict[str, Any] | None:
    """Return the fields; None if missing, damaged, untrusted or of another version."""
    try:
        with directory.open_trusted_file(name) as file:
            encoded = file.read(RECORD_BYTES_MAX + 1)
        if len(encoded) > RECORD_BYTES_MAX:
            return None
        data = json.loads(encoded)
    # Deeply nested lists raise RecursionError.
    except (FileNotFoundError, Untrusted, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) and data.get("version") == _VERSION else None


def options_to_data(options: ObjectOptions) -> dict[str, Any]:
    """Convert the options that were set explicitly to plain data, by name."""
    values = {name: getattr(options, name) for name in sorted(options.explicitly_set())}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}


def options_from_data(data: object) -> ObjectOptions:
    """Convert back; raise ValueError for another shape or an unknown option."""
    if not isinstance(data, dict):
        raise ValueError(f"options must be a mapping, not {type(data).__name__}")  # noqa: TRY004  # as below
    values: dict[str, Any] = {_OLD_NAMES.get(str(name), str(name)): value for name, value in data.items()}
    for name, value in values.items():
        is_mapping = name in {"metadata", "tags"} and isinstance(value, dict)
        texts = [*value, *value.values()] if is_mapping else [value]
        is_flag = name == "forbid_overwrite" and value is True
        if not is_flag and not all(isinstance(text, str) for text in texts):
            raise ValueError(f"the option {name!r:.100} can't be {value!r:.100}")
    try:
        return ObjectOptions(**values)
    except TypeError as error:
        raise ValueError(str(error)) from error
