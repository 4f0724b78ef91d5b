"""
The values that the engine exchanges with backends.

All of them are immutable. Sizes are in bytes, times in seconds unless a name says otherwise, part numbers count from 1.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from attrs import AttrsInstance, define, field, fields, has

from partwise._validation import (
    boolean,
    brief,
    integer,
    of_type,
    optional_string,
    outline,
    stored_integer,
    string,
    string_mapping,
    string_set,
)
from partwise.checksums import CRC64_XZ, WIDTH_MAX, Checksum
from partwise.errors import CheckpointDamaged, InvalidInput, UnsupportedOption

__all__ = ["Capabilities", "ClaimOwner", "ObjectOptions", "PartLimits", "PendingUpload", "StoredObject", "UploadedPart"]

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB


#: The highest part number, and so the most parts. Storages allow up to 50,000.
PART_NUMBER_MAX = 100_000

_CHECKSUM_MAX = 2**WIDTH_MAX - 1


# --- properties of a backend -----------------------------------------------------------------------------------------


@define(frozen=True)
class PartLimits:
    """
    What a storage accepts, in bytes and counts.

    Args:
        min_part_size: the smallest part, except for the last one.
        max_part_size: the largest part.
        max_parts: the number of parts, and the highest part number; up to 100,000.
        max_object_size: the largest object made of parts.
        max_put_size: the largest object stored by one `put_object`.
    """

    min_part_size: int = field(default=1, validator=stored_integer(1))
    max_part_size: int = field(default=5 * GIB, validator=stored_integer(1))
    max_parts: int = field(default=10_000, validator=integer(1, PART_NUMBER_MAX))
    max_object_size: int = field(default=10_000 * 5 * GIB, validator=integer(0))
    max_put_size: int = field(default=5 * GIB, validator=integer(0))

    def __attrs_post_init__(self) -> None:
        if self.min_part_size > self.max_part_size:
            raise InvalidInput(f"min_part_size {self.min_part_size} is above max_part_size {self.max_part_size}")


@define(frozen=True)
class Capabilities:
    """
    What a backend can do, as far as the engine needs to know.

    The engine reads it once, before anything is sent.

    Args:
        options: the names of the fields of `option_type` that it honours. An upload that asks for any other is refused.
        late_options: those of `options` that act when the object is created, or on each request, so that a resumed
            upload can have other values. All others are fixed when the upload is initiated: a run that requests
            another value starts again.
        option_type: the class of options with all that the backend honours, `ObjectOptions` or a subclass.
        lists_parts: `list_parts` works. Otherwise a resume relies on the parts in the checkpoint.
        checksum: the algorithm of every checksum of a part or an object. The engine computes it while it reads.
        part_checksums: `UploadedPart.checksum` comes from the storage, for each part, from `upload_part` and from
            `list_parts`. If the storage reports it to `upload_part` alone, this is False: the backend compares it with
            that of the body, and raises IntegrityError if they differ.
        object_checksums: `StoredObject.checksum` comes from the storage, from `complete_upload` and from `head_object`.
            It is that of all bytes, so the algorithm must be one that can be combined.
        equal_part_sizes: all parts but the last must be of one size.
        types_by_name: the storage itself derives the content type of an object from the ending of its key, so the
            engine guesses none.
        sequential: parts must arrive in ascending order, one at a time. The engine then sends them so, whatever
            `TransferConfig.concurrency` says.
        replaces_parts: a part can be sent again with other bytes. Otherwise the engine sends a part that the storage
            has never again with other bytes: it starts again. The same bytes may be sent again in any case.
        one_upload_per_key: initiating an upload, completing one, or storing an object ends all other pending uploads
            of its key.
        lists_uploads: `list_uploads` works. Otherwise nothing finds an upload that no checkpoint knows.
        aborts: `abort_upload` deletes the upload. Otherwise it has no effect, and the storage itself deletes the parts
            some time later.
    """

    options: frozenset[str] = field(default=frozenset(), converter=string_set)
    late_options: frozenset[str] = field(default=frozenset(), converter=string_set, kw_only=True)
    option_type: type[ObjectOptions] = field(factory=lambda: ObjectOptions, kw_only=True)
    lists_parts: bool = field(default=True, validator=boolean)
    checksum: Checksum = field(default=CRC64_XZ, validator=of_type(Checksum))
    part_checksums: bool = field(default=False, validator=boolean)
    object_checksums: bool = field(default=False, validator=boolean)
    equal_part_sizes: bool = field(default=False, validator=boolean)
    types_by_name: bool = field(default=False, validator=boolean)
    sequential: bool = field(default=False, validator=boolean)
    replaces_parts: bool = field(default=True, validator=boolean)
    one_upload_per_key: bool = field(default=False, validator=boolean)
    lists_uploads: bool = field(default=True, validator=boolean)
    aborts: bool = field(default=True, validator=boolean)

    def __attrs_post_init__(self) -> None:
        if self.object_checksums and not self.checksum.is_combinable:
            raise InvalidInput(
                f"object_checksums requires an algorithm that can be combined, and {self.checksum.name} can't"
            )
        if unknown := self.late_options - self.options:
            raise InvalidInput(f"Capabilities.late_options has names that are not in options: {sorted(unknown)}")
        option_type: object = self.option_type
        if not (isinstance(option_type, type) and issubclass(option_type, ObjectOptions)):
            expected = "ObjectOptions or a subclass of it"
            raise InvalidInput(f"Capabilities.option_type must be {expected}, not {brief(option_type)}")


# --- properties of an object -----------------------------------------------------------------------------------------


@define(frozen=True)
class ObjectOptions:
    """
    The properties of an object, in words that all storages share.

    An option that the backend does not support is refused before anything is sent. Options of one storage alone are
    fields of a subclass that its backend brings along, such as `partwise.backends.oss.OSSOptions`. Any backend accepts
    any subclass, and refuses the fields that are set and that it does not support, by name.

    For access rules, storage classes and encryption, backends translate the words below to those of their storage, and
    refuse what it does not have. The storage's own words are passed on unchanged.

    Args:
        content_type: the MIME type; None guesses it from the ending of the key, or else of the source's name, if the
            backend stores types (`partwise.content_types.guess_content_type`). A compressed file has the type of its
            compression.
        acl: the access rule: ``"private"``, ``"public-read"``, ``"public-read-write"``, or a word of the storage.
        metadata: custom values, stored with the object; names are case-insensitive ASCII.
        storage_class: ``"standard"``, ``"infrequent-access"``, ``"archive"``, ``"deep-archive"``, or a word of the
            storage.
        tags: tags of the object, by name.
        forbid_overwrite: fail with `ObjectExists` rather than replace an object.
        if_match: replace only the object that has this ETag; fail with `PreconditionFailed` if there is another one, or
            none. Excludes `forbid_overwrite`.
        encryption: server-side encryption: ``"AES256"`` with a key of the storage, ``"KMS"`` with one of its key
            management service, or a word of the storage.
        kms_key_id: the key under KMS.
        cache_control: the header of this name in downloads of the object.
        content_disposition: the same for this header.
        content_encoding: the same for this header.
        content_language: the same for this header.
        expires: the same for this header; an HTTP date.
    """

    content_type: str | None = field(default=None, validator=optional_string)
    acl: str | None = field(default=None, validator=optional_string)
    metadata: Mapping[str, str] = field(factory=dict, converter=string_mapping)
    storage_class: str | None = field(default=None, validator=optional_string)
    tags: Mapping[str, str] = field(factory=dict, converter=string_mapping)
    forbid_overwrite: bool = field(default=False, validator=boolean)
    if_match: str | None = field(default=None, validator=optional_string)
    encryption: str | None = field(default=None, validator=optional_string)
    kms_key_id: str | None = field(default=None, validator=optional_string)
    cache_control: str | None = field(default=None, validator=optional_string)
    content_disposition: str | None = field(default=None, validator=optional_string)
    content_encoding: str | None = field(default=None, validator=optional_string)
    content_language: str | None = field(default=None, validator=optional_string)
    expires: str | None = field(default=None, validator=optional_string)

    def explicitly_set(self) -> frozenset[str]:
        """Return the names of the options that differ from their default."""
        return frozenset(_set_fields(self))

    def require_supported_by(self, capabilities: Capabilities, location: str) -> None:
        """
        Refuse options that a backend does not support, before anything is sent.

        Args:
            capabilities: those of the backend.
            location: the backend's location, for the message.

        Raises:
            UnsupportedOption: an option is set that is not in `capabilities.options`.
        """
        unsupported = self.explicitly_set() - capabilities.options
        if unsupported:
            raise UnsupportedOption(f"{location} does not support {', '.join(sorted(unsupported))}. Nothing was sent")

    def fixed_data(self, late_options: Collection[str]) -> dict[str, Any]:
        """
        Return the options that are fixed at initiate, as plain data for JSON.

        An option with its default value is left out. This is what a checkpoint records: an upload is resumed only if
        the same values are requested again.

        Args:
            late_options: the names of those that act later, and are left out: `Capabilities.late_options`.

        Raises:
            InvalidInput: an option has a value that is not made of texts, numbers, booleans, mappings and lists.
        """
        fixed = {name: value for name, value in _set_fields(self).items() if name not in late_options}
        return {name: _to_plain(value, f"{type(self).__name__}.{name}") for name, value in fixed.items()}


def _set_fields(value: AttrsInstance) -> dict[str, Any]:
    """Return the fields that differ from their default, by name."""
    return {name: own for name, default in _defaults(type(value)) if (own := getattr(value, name)) != default}


@cache
def _defaults(kind: type[AttrsInstance]) -> tuple[tuple[str, object], ...]:
    """Return the default of each field, by name."""
    # A field without a default is never equal to NOTHING.
    factories = ((a, getattr(a.default, "factory", None)) for a in fields(kind))
    return tuple((a.name, a.default if factory is None else factory()) for a, factory in factories)


def _to_plain(value: Any, name: str) -> Any:
    """Return a value as JSON has it; a nested one without its defaults."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if has(type(value)):
        return {inner: _to_plain(own, name) for inner, own in _set_fields(value).items()}
    if isinstance(value, Mapping):
        return {key: _to_plain(own, name) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(own, name) for own in value]
    raise InvalidInput(f"{name} can't be recorded in a checkpoint: {brief(value)} is not plain data")


# --- results of a backend --------------------------------------------------------------------------------------------


@define(frozen=True)
class UploadedPart:
    """
    A part that the storage has acknowledged.

    Args:
        part_number: from 1 to the backend's `max_parts`.
        size: its size in bytes.
        etag: the storage's tag of this version of the part; opaque, sent back unchanged.
        checksum: that of its bytes, by the algorithm in the backend's capabilities; None if it is not known.
    """

    part_number: int = field(validator=integer(1, PART_NUMBER_MAX))
    size: int = field(validator=stored_integer(0))
    etag: str = field(validator=string)
    checksum: int | None = field(default=None, validator=integer(0, _CHECKSUM_MAX, None))

    def to_data(self) -> list[Any]:
        """
        Return this part as the list ``[part_number, size, etag, checksum]``, for JSON.

        This is how a checkpoint store keeps a part: in a row, a line, or a list. Later versions read it, too. The
        checksum is a string of decimal digits or None, since not every JSON reader keeps integers of 64 bits. The
        checkpoint names its algorithm.
        """
        return [self.part_number, self.size, self.etag, None if self.checksum is None else str(self.checksum)]

    @classmethod
    def from_data(cls, data: object) -> UploadedPart:
        """
        Make a part of what `to_data` returned.

        Raises:
            CheckpointDamaged: the data is not a part, or a number in it is out of range.
        """
        match data:
            case [int(number), int(size), str(etag), (None | str()) as checksum] if not (
                isinstance(number, bool) or isinstance(size, bool)
            ):
                try:
                    return cls(number, size, etag, None if checksum is None else _checksum_from_text(checksum))
                except InvalidInput as error:
                    raise CheckpointDamaged(str(error)) from error
        raise CheckpointDamaged(f"not an uploaded part: {outline(data)}")


def _checksum_from_text(digits: str) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 155 and int(digits) <= _CHECKSUM_MAX):
        raise CheckpointDamaged(f"not a checksum: {outline(digits)}")
    return int(digits)


@define(frozen=True)
class PendingUpload:
    """
    A multipart upload that was initiated and neither completed nor aborted.

    Args:
        key: the key of its object.
        upload_id: its id.
        initiated: the time of its start by the storage's clock, with a time zone.
    """

    key: str
    upload_id: str
    initiated: datetime


@define(frozen=True)
class ClaimOwner:
    """
    The process that holds the claim of a checkpoint, for people.

    Args:
        host: the name of its host.
        process: its process id on that host.
    """

    host: str
    process: int


@define(frozen=True)
class StoredObject:
    """
    An object as the storage describes it.

    Args:
        key: its key.
        size: its size in bytes.
        etag: the storage's tag of this version of the object; opaque.
        checksum: that of its bytes as computed by the storage, by the algorithm in the backend's capabilities; None if
            it computes none.
        version_id: its version in a versioned bucket.
        request_id: the storage's id of the request that returned this.
        callback_response: the response of the application server, if there was a callback.
        metadata: the values stored with it; only from `head_object`, if the backend stores metadata.
    """

    key: str
    size: int
    etag: str
    checksum: int | None = None
    version_id: str | None = None
    request_id: str | None = None
    callback_response: bytes | None = None
    metadata: Mapping[str, str] = field(factory=dict, converter=string_mapping)


def utc(seconds: float) -> datetime:
    """Return seconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
