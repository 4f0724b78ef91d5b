"""
`Checkpoint`, `Fingerprint`, and their plain form.

The plain form is what stores write, and what callers may keep themselves. Plain data is not trusted: no value is
coerced, unknown fields are refused, numbers have bounds, and anything wrong is a `CheckpointDamaged`. Version 2 is
written; versions 1 and 2 are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import Attribute, define, field

from partwise._validation import (
    STORED_INTEGER_MAX,
    field_name,
    integer,
    number,
    of_type,
    optional_string,
    outline,
    printable,
    stored_integer,
    string,
    to_tuple,
    tuple_of,
)
from partwise.checksums import CRC64_XZ
from partwise.errors import CheckpointDamaged, InvalidInput
from partwise.model import UploadedPart

if TYPE_CHECKING:
    from cattrs import Converter

__all__ = ["Checkpoint", "Fingerprint"]

#: The version of the plain form that is written. Raised by a change that an older reader would get wrong.
VERSION = 2

#: The fields that version 2 renamed: the object that contains the field ("" is the checkpoint itself), its name in
#: version 1, and its name in version 2. Everything else is the same in both versions.
_RENAMED_SINCE_1 = (
    ("", "doubling_every", "parts_per_doubling"),
    ("fingerprint", "content", "crc64"),
    ("options", "tagging", "tags"),
)

#: The last second of the year 9999, the end of `datetime`.
_SECONDS_MAX = 253_402_300_799

#: Of the options: levels of mappings and lists, values and names, and characters of all texts together. The file store
#: and the local backend accept no larger options, either.
OPTIONS_DEPTH_MAX = 8
OPTIONS_VALUES_MAX = 20_000
OPTIONS_TEXT_MAX = 1024 * 1024

_REASON_MAX = 300

#: What wrong data raises. The last two come from numbers that are too large and from values that are nested too deeply.
_WRONG = (
    *(ExceptionGroup, CheckpointDamaged, InvalidInput, ValueError, TypeError, KeyError, AttributeError),
    *(OverflowError, RecursionError),
)

_T = TypeVar("_T")


@define(frozen=True)
class Fingerprint:
    """
    Tells one version of a source from another without reading it.

    Args:
        size: in bytes; None where it is known only after reading to the end.
        mtime_ns: time of the last modification, in nanoseconds since 1970.
        identity: a value that a replacement changes even if size and time are the same, such as a file's inode.
        crc64: the CRC-64/XZ of all bytes, where it is known without reading a file or stream, whatever checksum the
            backend uses.
    """

    size: int | None = field(default=None, validator=stored_integer(0, None))
    mtime_ns: int | None = field(default=None, validator=integer(-STORED_INTEGER_MAX, STORED_INTEGER_MAX, None))
    identity: str | None = field(default=None, validator=optional_string)
    crc64: int | None = field(default=None, validator=integer(0, STORED_INTEGER_MAX, None))


def _copy_options(options: object) -> dict[str, Any]:
    """
    Copy options that are plain data.

    Raises:
        InvalidInput: they are not, or exceed a bound.
    """
    if not isinstance(options, Mapping):
        raise InvalidInput(f"Checkpoint.options must be a mapping of plain data, not {outline(options)}")
    if not options:
        return {}
    values = characters = 0

    def copy(value: object, depth: int) -> Any:
        nonlocal values, characters
        values += 1
        characters += len(value) if isinstance(value, str) else 0
        if values > OPTIONS_VALUES_MAX or characters > OPTIONS_TEXT_MAX or depth > OPTIONS_DEPTH_MAX:
            raise InvalidInput(
                f"Checkpoint.options exceed {OPTIONS_VALUES_MAX} values, {OPTIONS_TEXT_MAX} characters or"
                f" {OPTIONS_DEPTH_MAX} levels"
            )
        if isinstance(value, Mapping):
            if not all(isinstance(name, str) for name in value):
                raise InvalidInput(f"Checkpoint.options has a name that is not a text: {outline(value)}")
            return {copy(name, depth): copy(one, depth + 1) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [copy(one, depth + 1) for one in value]
        # NaN is not in the range.
        if isinstance(value, int | float) and not -STORED_INTEGER_MAX <= value <= STORED_INTEGER_MAX:
            raise InvalidInput(f"Checkpoint.options has a number that is out of range: {outline(value)}")
        if value is not None and not isinstance(value, str | int | float):
            raise InvalidInput(f"Checkpoint.options has a value that is not plain data: {outline(value)}")
        return value

    copied: dict[str, Any] = copy(options, 1)
    return copied


_of_parts = tuple_of(UploadedPart)


def _distinct_parts(instance: object, attribute: Attribute[Any], value: tuple[UploadedPart, ...]) -> None:
    """Validate parts, none of which has the number of another."""
    _of_parts(instance, attribute, value)
    if len({part.part_number for part in value}) != len(value):
        raise InvalidInput(f"{field_name(instance, attribute)} must contain each part number only once")


@define(frozen=True)
class Checkpoint:
    """
    All that is needed to resume an upload. It holds no credentials.

    `to_data` makes plain data of it, to keep in a database row or in the payload of a job; `from_data` is the inverse.

    Args:
        location: the backend's `location`.
        key: the object's key.
        source: the source's name, a path for a file.
        fingerprint: the version of the source that the parts were read from.
        part_size: the size of a part in bytes (of the first one, where sizes grow).
        parts_per_doubling: for a source of unknown size: the number of parts after which the part size doubles. None:
            all parts have the same size.
        options: the options that were fixed when the upload was initiated and differ from their default, as plain data
            (`ObjectOptions.fixed_data`). It must not be changed.
        upload_id: None until the upload was initiated.
        parts: the acknowledged parts, each part number once, in no particular order.
        checksum: the name of the algorithm of the parts' checksums.
        token: a random value in the object's metadata that identifies the object if the backend has no checksums of
            objects.
        abandoned: ids of earlier uploads of this name that still have to be aborted.
        created: when the upload was started, in seconds since 1970.
    """

    location: str = field(validator=string)
    key: str = field(validator=string)
    source: str = field(validator=string)
    fingerprint: Fingerprint = field(validator=of_type(Fingerprint))
    part_size: int = field(validator=stored_integer(1))
    parts_per_doubling: int | None = field(default=None, validator=stored_integer(1, None))
    options: Mapping[str, Any] = field(factory=dict, converter=_copy_options)
    upload_id: str | None = field(default=None, validator=optional_string)
    parts: tuple[UploadedPart, ...] = field(default=(), converter=to_tuple, validator=_distinct_parts)
    checksum: str = field(default=CRC64_XZ.name, validator=string)
    token: str | None = field(default=None, validator=optional_string)
    abandoned: tuple[str, ...] = field(default=(), converter=to_tuple, validator=tuple_of(str))
    created: float = field(default=0.0, validator=number(0, _SECONDS_MAX, "seconds since 1970, up to the year 9999"))

    @property
    def name(self) -> str:
        """The checkpoint's name in a store, made of the backend, the key and the source."""
        return checkpoint_name(self.location, self.key, self.source)

    @property
    def bytes_done(self) -> int:
        """The bytes of the parts that were acknowledged."""
        return sum(part.size for part in self.parts)

    def to_data(self) -> dict[str, Any]:
        """Return this checkpoint as dicts, lists, strings, numbers and None, for JSON."""
        return {"version": VERSION, **_converter().unstructure(self)}

    @classmethod
    def from_data(cls, data: object) -> Checkpoint:
        """
        Make a checkpoint of what `to_data` of this or an earlier version returned.

        Raises:
            CheckpointDamaged: the data is not a checkpoint, is of a version or has a field that this version does not
                know, or contradicts itself.
        """
        if not isinstance(data, dict):
            raise CheckpointDamaged(f"a checkpoint is a dict of named fields, not a {type(data).__name__}")
        fields = _current_fields(data)
        try:
            return _converter().structure(fields, cls)
        except _WRONG as error:
            raise CheckpointDamaged(f"the checkpoint can't be read: {_first_reason(error)}") from error


def with_parts(checkpoint: Checkpoint, parts: tuple[UploadedPart, ...]) -> Checkpoint:
    """
    Return a copy of the checkpoint with other parts.

    Nothing is validated again, nor are the options copied, as `evolve` does: it is called for each part.
    """
    copied = object.__new__(type(checkpoint))
    for name in _FIELDS:
        object.__setattr__(copied, name, getattr(checkpoint, name))
    object.__setattr__(copied, "parts", parts)
    return copied


_FIELDS = tuple(Checkpoint.__annotations__)


@lru_cache(maxsize=16)  # a run asks for it each time that it saves its checkpoint
def checkpoint_name(location: str, key: str, source: str) -> str:
    """
    Return the name of this upload's checkpoint in a store: 32 hexadecimal digits.

    It depends on all three, so that uploads of one file to two keys, or of two files to one key, have two names.
    """
    import hashlib
    import json

    identity = json.dumps([location, key, source], separators=(",", ":"))
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


# --- plain data ------------------------------------------------------------------------------------------------------


def _current_fields(data: dict[str, Any]) -> dict[str, Any]:
    """
    Return the fields of a checkpoint by their names in the version written.

    The version itself is not one of them.

    Raises:
        CheckpointDamaged: the version is not read, or has no field of this name.
    """
    version = data.get("version")
    if type(version) is not int or version not in (1, VERSION):
        raise CheckpointDamaged(
            f"the checkpoint is of version {outline(version)}, and this version of partwise reads versions 1 to"
            f" {VERSION}",
            hint="Resume the upload with the version of partwise that wrote the checkpoint, or start the upload again",
        )
    fields = {name: value for name, value in data.items() if name != "version"}
    if version == VERSION:
        return fields
    for place, old, new in _RENAMED_SINCE_1:
        inner = fields.get(place) if place else fields
        if not isinstance(inner, dict):
            continue  # omitted, or of a wrong type, which is refused later
        if new in inner:
            raise CheckpointDamaged(f"version 1 of a checkpoint has no field {new}", hint="Start the upload again")
        renamed = {new if name == old else name: value for name, value in inner.items()}
        fields = {**fields, place: renamed} if place else renamed
    return fields


@lru_cache(maxsize=1)
def _converter() -> Converter:
    # Imported on first use: cattrs takes longer to import than all of partwise.
    from cattrs import Converter
    from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn

    converter = Converter(forbid_extra_keys=True)
    for scalar in (str, int, bool, float):
        converter.register_structure_hook(scalar, _strict)
    # The options are checked by their field's converter.
    converter.register_structure_hook_func(lambda kind: kind == Mapping[str, Any], lambda data, _: data)
    converter.register_unstructure_hook_func(lambda kind: kind == Mapping[str, Any], _copy_options)
    converter.register_structure_hook_func(lambda kind: kind == tuple[str, ...], lambda data, _: _list_of(data, _text))
    converter.register_structure_hook_func(
        lambda kind: kind == tuple[UploadedPart, ...], lambda data, _: _list_of(data, UploadedPart.from_data)
    )
    converter.register_unstructure_hook(UploadedPart, UploadedPart.to_data)
    for value in (Fingerprint, Checkpoint):
        converter.register_structure_hook(value, make_dict_structure_fn(value, converter))
        converter.register_unstructure_hook(
            value, make_dict_unstructure_fn(value, converter, _cattrs_omit_if_default=True)
        )
    return converter


def _strict(value: object, kind: type) -> object:
    # A float may be written without a fraction. Nothing else is converted: "5" is not 5, and True is not 1.
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, found {outline(value)}")
    if type(value) is int and abs(value) > STORED_INTEGER_MAX:
        raise ValueError(f"{outline(value)} is out of range")
    return value


def _text(value: object) -> str:
    return str(_strict(value, str))


def _list_of(value: object, item: Callable[[object], _T]) -> tuple[_T, ...]:
    if type(value) is not list:
        raise TypeError(f"expected a list, found {outline(value)}")
    return tuple(map(item, value))


def _first_reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    if isinstance(error, CheckpointDamaged):
        return str(error)[:_REASON_MAX]
    try:
        reason = str(error)
    except TypeError:  # raised by cattrs' own message, about names that are not texts
        reason = "a name is not a text"
    # That of cattrs has unknown names as they are.
    return printable(f"{type(error).__name__}: {reason}"[:_REASON_MAX])
