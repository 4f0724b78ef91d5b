"""
Checkpoints to plain data and back, by cattrs; and receipts, which are written thousands of times, by hand.

The plain form is what the stores write and what users may carry themselves, so it is read with suspicion: nothing is
coerced, unknown fields are refused, numbers have bounds, and whatever is wrong comes out as one error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from reprlib import Repr
from typing import Any, TypeVar

from cattrs import BaseValidationError, Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn

from partwise.errors import CheckpointDamaged, InvalidInput
from partwise.model import Callback, Checkpoint, Fingerprint, ObjectOptions, UploadedPart

#: The version of the plain form. A reader refuses any other; a change that an older reader would get wrong raises it.
VERSION = 1

#: The highest part number that is read, and so the most parts. The storages that allow the most have 50,000.
PART_NUMBER_MAX = 100_000

#: Sizes and times in nanoseconds are numbers that systems keep in 64 bits.
_INTEGER_MAX = 2**64 - 1
_CRC64_MAX = 2**64 - 1

#: Unlike `repr` it goes neither deep nor far into a value.
_brief = Repr()
_brief.maxlevel, _brief.maxother = 2, 60

_REASON_MAX = 300

#: What wrong data raises; the last two by numbers and nesting that are too large.
_WRONG = (InvalidInput, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)

_T = TypeVar("_T")


def checkpoint_to_data(checkpoint: Checkpoint) -> dict[str, Any]:
    """The checkpoint as plain data, its version included."""
    return {"version": VERSION, **_converter().unstructure(checkpoint)}


def checkpoint_from_data(data: object) -> Checkpoint:
    """
    The checkpoint that `checkpoint_to_data` made.

    Raises:
        CheckpointDamaged: it is not one, or not one of this version, or contradicts itself.
    """
    if not isinstance(data, dict):
        raise CheckpointDamaged(f"a checkpoint is an object of named fields, not a {type(data).__name__}")
    if data.get("version") != VERSION or isinstance(data.get("version"), bool):
        raise CheckpointDamaged(
            f"the checkpoint is of version {_shown(data.get('version'))}; this version of partwise reads {VERSION}"
        )
    fields = {name: value for name, value in data.items() if name != "version"}
    try:
        checkpoint = _converter().structure(fields, Checkpoint)
    except (*_WRONG, BaseValidationError) as error:
        raise CheckpointDamaged(f"the checkpoint can't be read: {_first_reason(error)}") from error
    numbers = {part.part_number for part in checkpoint.parts}
    if len(numbers) != len(checkpoint.parts):
        raise CheckpointDamaged("the checkpoint names a part twice")
    return checkpoint


def part_to_data(part: UploadedPart) -> list[Any]:
    """A receipt as a short list. The checksum is a string, since not every reader of JSON keeps 64 bits."""
    return [part.part_number, part.size, part.etag, None if part.crc64 is None else str(part.crc64)]


def part_from_data(data: object) -> UploadedPart:
    """
    The receipt that `part_to_data` made.

    Raises:
        ValueError: it is not one.
    """
    match data:
        case [int(number), int(size), str(etag), (None | str()) as crc64] if not (
            isinstance(number, bool) or isinstance(size, bool)
        ):
            if number > PART_NUMBER_MAX or size > _INTEGER_MAX:
                raise ValueError(f"not the number and size of a part: {_shown(number)}, {_shown(size)}")
            return UploadedPart(number, size, etag, None if crc64 is None else _crc64_from_text(crc64))
    raise ValueError(f"not the receipt of a part: {_shown(data)}")


def _crc64_from_text(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) <= _CRC64_MAX):
        raise ValueError(f"not a CRC-64: {text!r:.40}")
    return int(text)


@lru_cache(maxsize=1)
def _converter() -> Converter:
    converter = Converter(forbid_extra_keys=True)
    for scalar in (str, int, bool, float):
        converter.register_structure_hook(scalar, _exactly)
    converter.register_structure_hook_func(lambda kind: kind == Mapping[str, str], _mapping)
    converter.register_structure_hook_func(lambda kind: kind == tuple[str, ...], lambda data, _: _list_of(data, _text))
    converter.register_structure_hook_func(
        lambda kind: kind == tuple[UploadedPart, ...], lambda data, _: _list_of(data, part_from_data)
    )
    converter.register_unstructure_hook(UploadedPart, part_to_data)
    for value in (Callback, ObjectOptions, Fingerprint, Checkpoint):
        converter.register_structure_hook(value, make_dict_structure_fn(value, converter))
        converter.register_unstructure_hook(
            value, make_dict_unstructure_fn(value, converter, _cattrs_omit_if_default=True)
        )
    return converter


def _exactly(value: object, kind: type) -> object:
    # A float may be written without a fraction; apart from that nothing is taken for what it is not: no "5" for 5, no
    # True for 1.
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, found {_shown(value)}")
    if type(value) is int and abs(value) > _INTEGER_MAX:
        raise ValueError(f"{_shown(value)} is out of range")
    return value


def _text(value: object) -> str:
    return str(_exactly(value, str))


def _list_of(value: object, item: Callable[[object], _T]) -> tuple[_T, ...]:
    if type(value) is not list:
        raise TypeError(f"expected a list, found {_shown(value)}")
    return tuple(map(item, value))


def _mapping(value: object, _: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(type(k) is str and type(v) is str for k, v in value.items()):
        raise TypeError(f"expected names and texts, found {_shown(value)}")
    return dict(value)


def _shown(value: object) -> str:
    try:
        return _brief.repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return f"a huge {type(value).__name__}"


def _first_reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    try:
        reason = str(error)
    except TypeError:  # that of cattrs about names that are not texts
        reason = "a name is not a text"
    return f"{type(error).__name__}: {reason}"[:_REASON_MAX]
