"""Checks of arguments and part lists, which all backends here share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from partwise._units import format_bytes
from partwise._validation import brief, check_methods, check_string, check_type, is_integer
from partwise.errors import InvalidInput, InvalidKey, PartRejected
from partwise.model import ObjectOptions, PartLimits, UploadedPart


def _check_part_list(parts: Any) -> None:
    is_list = isinstance(parts, Sequence) and not isinstance(parts, str | bytes)
    if not (is_list and all(issubclass(kind, UploadedPart) for kind in set(map(type, parts)))):
        raise InvalidInput(f"the parts of an upload must be a list of UploadedPart, not {brief(parts)}")


#: The check of each argument of the methods of a backend, by its name.
_ARGUMENTS: Mapping[str, Callable[[object], object]] = {
    "key": lambda key: check_string("a key", key, InvalidKey),
    "upload_id": lambda upload_id: check_string("an upload id", upload_id),
    "part_number": lambda number: check_type("a part number", number, int, "a whole number"),
    "body": lambda body: check_methods("a body", body, ("chunks", "__len__"), "an object with a length and chunks()"),
    "parts": _check_part_list,
    "options": lambda options: check_type("options", options, ObjectOptions, "ObjectOptions"),
    "prefix": lambda prefix: check_string("the prefix of keys", prefix, InvalidKey),
}


def check_call(**given: object) -> None:
    """
    Refuse arguments of a wrong type, by name, before any of them is used.

    Raises:
        InvalidInput: an argument has another type than the protocol says (InvalidKey for a key or a prefix).
    """
    for name, value in given.items():
        _ARGUMENTS[name](value)


def reject_settings(what: str, settings: Mapping[str, object]) -> None:
    """Raise InvalidInput for any setting of `open_url` but `timeout`."""
    unknown = sorted(settings.keys() - {"timeout"})
    if unknown:
        raise InvalidInput(f"{what} has no setting {', '.join(unknown)}")


def check_part(part_number: int, size: int, limits: PartLimits) -> None:
    """Raise InvalidInput if a part number or a part size exceeds the limits."""
    if not is_integer(part_number) or not 1 <= part_number <= limits.max_parts:
        raise InvalidInput(f"a part number must be from 1 to {limits.max_parts}, not {brief(part_number)}")
    if size > limits.max_part_size:
        raise InvalidInput(
            f"part {part_number} has {format_bytes(size)}; the maximum is {format_bytes(limits.max_part_size)}"
        )


def check_put(key: str, size: int, limits: PartLimits) -> None:
    """Raise InvalidInput if an object is larger than `max_put_size`."""
    if size > limits.max_put_size:
        raise InvalidInput(
            f"{key!r} has {format_bytes(size)}; the maximum for a single request is"
            f" {format_bytes(limits.max_put_size)}",
            hint="Upload it in parts",
        )


def check_parts(
    key: str,
    parts: Sequence[UploadedPart],
    stored: Mapping[int, UploadedPart],
    limits: PartLimits,
    *,
    equal_part_sizes: bool = False,
) -> None:
    """Raise PartRejected unless an object can be made from these parts."""
    problem = (
        _order_error(parts)
        or _match_error(parts, stored)
        or _size_error(parts, limits, equal_part_sizes=equal_part_sizes)
    )
    if problem is not None:
        code, reason = problem
        raise PartRejected(f"{key!r} can't be completed: {reason}; the upload and its parts are kept", code=code)


def _order_error(parts: Sequence[UploadedPart]) -> tuple[str, str] | None:
    if not parts:
        return "MalformedXML", "the part list is empty"
    for before, after in pairwise(part.part_number for part in parts):
        if before >= after:
            return "InvalidPartOrder", f"part {after} is listed after part {before}"
    return None


def _match_error(parts: Sequence[UploadedPart], stored: Mapping[int, UploadedPart]) -> tuple[str, str] | None:
    for part in parts:
        found = stored.get(part.part_number)
        if found is None:
            return "InvalidPart", f"part {part.part_number} is not stored"
        if (found.etag, found.size) != (part.etag, part.size):
            return "InvalidPart", (
                f"the stored part {part.part_number} has ETag {found.etag} and {found.size} bytes, not {part.etag} and"
                f" {part.size} bytes"
            )
    return None


def _size_error(parts: Sequence[UploadedPart], limits: PartLimits, *, equal_part_sizes: bool) -> tuple[str, str] | None:
    for part in parts[:-1]:
        if part.size < limits.min_part_size:
            return "EntityTooSmall", (
                f"part {part.part_number} has {format_bytes(part.size)}, and only the last part may have fewer than "
                f"{format_bytes(limits.min_part_size)}"
            )
        if equal_part_sizes and part.size != parts[0].size:
            return "InvalidPart", (
                f"part {part.part_number} has {format_bytes(part.size)} and part {parts[0].part_number} has"
                f" {format_bytes(parts[0].size)}, "
                "and only the last part may have another size"
            )
    total = sum(part.size for part in parts)
    if total > limits.max_object_size:
        return "EntityTooLarge", (
            f"the object would have {format_bytes(total)}, and the maximum is {format_bytes(limits.max_object_size)}"
        )
    return None
