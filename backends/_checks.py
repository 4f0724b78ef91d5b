"""What backends that keep the bytes themselves have to check, in one place, so that they refuse alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from partwise._validation import brief, check_methods, check_text, check_type, is_whole
from partwise.errors import IntegrityError, InvalidInput, InvalidKey, PartRejected
from partwise.model import ObjectOptions, PartLimits, UploadedPart
from partwise.protocols import Body


def _check_receipts(parts: Any) -> None:
    is_list = isinstance(parts, Sequence) and not isinstance(parts, str | bytes)
    if not (is_list and all(issubclass(kind, UploadedPart) for kind in set(map(type, parts)))):
        raise InvalidInput(f"the parts of an upload are a list of receipts (UploadedPart), not {brief(parts)}")


#: How each argument of the methods of a backend is checked, by its name.
_ARGUMENTS: Mapping[str, Callable[[object], object]] = {
    "key": lambda key: check_text("a key", key, InvalidKey),
    "upload_id": lambda upload_id: check_text("an upload id", upload_id),
    "part_number": lambda number: check_type("a part number", number, int, "a whole number"),
    "body": lambda body: check_methods("a body", body, ("chunks", "__len__"), "something with a length and chunks()"),
    "parts": _check_receipts,
    "options": lambda options: check_type("options", options, ObjectOptions, "ObjectOptions"),
    "prefix": lambda prefix: check_text("the prefix of keys", prefix, InvalidKey),
}


def check_call(**given: object) -> None:
    """
    Refuse arguments of a wrong type, before anything is done with them.

    Args:
        given: the arguments of a backend's method, by name.

    Raises:
        InvalidInput: one of them is of another type than the protocol says (InvalidKey for a key or a prefix).
    """
    for name, value in given.items():
        _ARGUMENTS[name](value)


def check_part(part_number: int, size: int, limits: PartLimits) -> None:
    """
    Refuse a part that can't be one by its number or its size.

    Raises:
        InvalidInput: the number is not from 1 to `max_parts`, or the part is larger than `max_part_size`.
    """
    if not is_whole(part_number) or not 1 <= part_number <= limits.max_parts:
        raise InvalidInput(f"a part number is from 1 to {limits.max_parts} here, not {brief(part_number)}")
    if size > limits.max_part_size:
        raise InvalidInput(f"part {part_number} has {size} bytes; {limits.max_part_size} is the most here")


def check_put(key: str, size: int, limits: PartLimits) -> None:
    """
    Refuse an object that is too large to be stored at once.

    Raises:
        InvalidInput: it is larger than `max_put_size`.
    """
    if size > limits.max_put_size:
        raise InvalidInput(
            f"{key!r} has {size} bytes; {limits.max_put_size} is the most at once here: send it in parts"
        )


def check_parts(
    key: str,
    parts: Sequence[UploadedPart],
    held: Mapping[int, UploadedPart],
    limits: PartLimits,
    *,
    equal_part_sizes: bool = False,
) -> None:
    """
    Compare the parts that are to make an object with those that are held, by number.

    Args:
        key: the object, for the message.
        parts: the receipts, as the caller has them.
        held: the receipts of the parts that are here.
        limits: what an object may be made of.
        equal_part_sizes: all parts but the last must be of one size.

    Raises:
        PartRejected: the object can't be made of these parts; the message names the first reason.
    """

    why = _misorder(parts) or _mismatch(parts, held) or _missize(parts, limits, equal_part_sizes=equal_part_sizes)
    if why is not None:
        code, reason = why
        raise PartRejected(f"{key!r} can't be completed: {reason}; the upload and its parts are kept", code=code)


def _misorder(parts: Sequence[UploadedPart]) -> tuple[str, str] | None:
    if not parts:
        return "MalformedXML", "no part was named"
    for before, after in pairwise(part.part_number for part in parts):
        if before >= after:
            return "InvalidPartOrder", f"part {after} was named after part {before}"
    return None


def _mismatch(parts: Sequence[UploadedPart], held: Mapping[int, UploadedPart]) -> tuple[str, str] | None:
    for part in parts:
        here = held.get(part.part_number)
        if here is None:
            return "InvalidPart", f"there is no part {part.part_number}"
        if (here.etag, here.size) != (part.etag, part.size):
            return "InvalidPart", (
                f"part {part.part_number} is {here.etag} of {here.size} bytes here, not {part.etag} of {part.size}"
            )
    return None


def _missize(parts: Sequence[UploadedPart], limits: PartLimits, *, equal_part_sizes: bool) -> tuple[str, str] | None:
    for part in parts[:-1]:
        if part.size < limits.min_part_size:
            return "EntityTooSmall", (
                f"part {part.part_number} has {part.size} bytes, and only the last may have fewer than "
                f"{limits.min_part_size}"
            )
        if equal_part_sizes and part.size != parts[0].size:
            return "InvalidPart", (
                f"part {part.part_number} has {part.size} bytes and part {parts[0].part_number} has {parts[0].size}, "
                "and only the last may differ"
            )
    total = sum(part.size for part in parts)
    if total > limits.max_object_size:
        return "EntityTooLarge", f"it would have {total} bytes, and {limits.max_object_size} is the most"
    return None


def exact_chunks(body: Body, what: str) -> Iterator[memoryview]:
    """
    The body's chunks, and the certainty that they were as many bytes as the body said.

    Args:
        body: what to read. Whatever it raises passes through.
        what: what the bytes are for, as the message names it.

    Raises:
        IntegrityError: there were fewer bytes, or more. Retryable, since the body can be read again.
    """
    expected = len(body)
    received = 0
    for chunk in body.chunks():
        received += len(chunk)
        if received > expected:
            break
        yield chunk
    if received != expected:
        count = f"{received} bytes" if received < expected else f"more than {expected} bytes"
        raise IntegrityError(f"the body of {what} gave {count} where it promised {expected}; nothing was stored")
