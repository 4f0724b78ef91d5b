"""
The values that cross the protocols.

All of them are frozen: a value that was handed over never changes under its holder. Sizes are in bytes, times in
seconds unless a name says otherwise, part numbers count from 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import define, evolve, field, fields

from partwise._validation import (
    boolean,
    integer,
    of_type,
    optional_string,
    outline,
    string,
    string_mapping,
    string_set,
)
from partwise.errors import CheckpointDamaged, InvalidInput, UnsupportedOption

__all__ = ["Callback", "Capabilities", "ObjectOptions", "PartLimits", "PendingUpload", "StoredObject", "UploadedPart"]

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB


#: The highest part number that is read from plain data, and so the most parts. Storages allow up to 50,000.
PART_NUMBER_MAX = 100_000

_BITS64_MAX = 2**64 - 1


# --- what a backend is -----------------------------------------------------------------------------------------------


@define(frozen=True)
class PartLimits:
    """
    What a storage accepts, in bytes and counts.

    Args:
        min_part_size: the smallest part, the last one excepted.
        max_part_size: the largest part.
        max_parts: the number of parts, and the highest part number.
        max_object_size: the largest object that parts can make.
        max_put_size: the largest object that one `put_object` can make.
    """

    min_part_size: int = field(default=1, validator=integer(1))
    max_part_size: int = field(default=5 * GIB, validator=integer(1))
    max_parts: int = field(default=10_000, validator=integer(1))
    max_object_size: int = field(default=10_000 * 5 * GIB, validator=integer(0))
    max_put_size: int = field(default=5 * GIB, validator=integer(0))

    def __attrs_post_init__(self) -> None:
        if self.min_part_size > self.max_part_size:
            raise InvalidInput(f"min_part_size {self.min_part_size} is above max_part_size {self.max_part_size}")


@define(frozen=True)
class Capabilities:
    """
    What a backend can do, as far as the engine has to know; read once, before anything is sent.

    Args:
        options: the names of the `ObjectOptions` fields that it honours. An upload that asks for any other is refused.
        lists_parts: `list_parts` works. Where it does not, the checkpoint's own record is what a resume goes by.
        part_checksums: `UploadedPart.crc64` comes from the storage, for each part.
        object_checksums: `StoredObject.crc64` comes from the storage, from `complete_upload` and from `head_object`.
        equal_part_sizes: all parts but the last must be of one size.
        types_by_name: an object without a content type has the one that the ending of its key says, so that none is
            given where the caller asked for none.
    """

    options: frozenset[str] = field(default=frozenset(), converter=string_set)
    lists_parts: bool = field(default=True, validator=boolean)
    part_checksums: bool = field(default=False, validator=boolean)
    object_checksums: bool = field(default=False, validator=boolean)
    equal_part_sizes: bool = field(default=False, validator=boolean)
    types_by_name: bool = field(default=False, validator=boolean)


# --- what is asked of an object --------------------------------------------------------------------------------------


@define(frozen=True)
class Callback:
    """
    Ask the storage to tell an application server, by one HTTP POST, that the object is stored.

    Args:
        url: where to; up to five, separated by ``;``.
        body: what is posted, with the storage's variables such as ``bucket=${bucket}&object=${object}``.
        host: the Host header of that request; None takes it from `url`.
        body_type: ``application/x-www-form-urlencoded`` (the default) or ``application/json``.
        variables: values of your own, by a lower-case name that starts with ``x:``.
        sni: whether the storage sends the host's name when it makes a TLS connection to `url`.
    """

    url: str = field(validator=string)
    body: str = field(validator=string)
    host: str | None = field(default=None, validator=optional_string)
    body_type: str | None = field(default=None, validator=optional_string)
    variables: Mapping[str, str] = field(factory=dict, converter=string_mapping)
    sni: bool | None = field(default=None, validator=of_type(bool, type(None)))


#: These act when the object comes to be, or on requests; all others are fixed when the upload is initiated.
_LATE_OPTIONS = ("acl", "callback", "forbid_overwrite", "traffic_limit", "request_payer")


@define(frozen=True)
class ObjectOptions:
    """
    What the object shall be like. Each option that the backend does not honour is refused before anything is sent.

    Args:
        content_type: the MIME type; None lets the ending of the key, or else of the source's name, decide where the
            backend keeps types (`partwise.content_types.guess_content_type`). A compressed file is of the type of its
            compression.
        acl: the object's access rule, such as ``"private"`` or ``"public-read"``.
        metadata: values of your own, kept with the object; names are case-insensitive ASCII.
        storage_class: such as ``"Standard"``, ``"IA"``, ``"Archive"``.
        tags: tags of the object, by name.
        forbid_overwrite: fail with `ObjectExists` rather than replace an object.
        encryption: server-side encryption: ``"AES256"``, ``"KMS"`` or ``"SM4"``.
        data_encryption: the cipher under KMS: ``"SM4"``.
        kms_key_id: the key under KMS.
        cache_control: the header of that name, given back with the object.
        content_disposition: likewise.
        content_encoding: likewise.
        content_language: likewise.
        expires: likewise, as an HTTP date.
        traffic_limit: bits a second that the storage grants to each request.
        request_payer: ``"requester"`` where the requester pays.
        callback: tell an application server once the object is stored.
    """

    content_type: str | None = field(default=None, validator=optional_string)
    acl: str | None = field(default=None, validator=optional_string)
    metadata: Mapping[str, str] = field(factory=dict, converter=string_mapping)
    storage_class: str | None = field(default=None, validator=optional_string)
    tags: Mapping[str, str] = field(factory=dict, converter=string_mapping)
    forbid_overwrite: bool = field(default=False, validator=boolean)
    encryption: str | None = field(default=None, validator=optional_string)
    data_encryption: str | None = field(default=None, validator=optional_string)
    kms_key_id: str | None = field(default=None, validator=optional_string)
    cache_control: str | None = field(default=None, validator=optional_string)
    content_disposition: str | None = field(default=None, validator=optional_string)
    content_encoding: str | None = field(default=None, validator=optional_string)
    content_language: str | None = field(default=None, validator=optional_string)
    expires: str | None = field(default=None, validator=optional_string)
    traffic_limit: int | None = field(default=None, validator=integer(-_BITS64_MAX, _BITS64_MAX, None))
    request_payer: str | None = field(default=None, validator=optional_string)
    callback: Callback | None = field(default=None, validator=of_type(Callback, type(None)))

    def explicitly_set(self) -> frozenset[str]:
        """The names of the options that were asked for, which are those that differ from the default."""
        return frozenset(a.name for a in fields(type(self)) if getattr(self, a.name) != getattr(_NO_OPTIONS, a.name))

    def require_supported_by(self, capabilities: Capabilities, location: str) -> None:
        """
        Refuse what a backend does not honour, before anything is sent.

        Args:
            capabilities: those of the backend.
            location: which backend it is, for the message.

        Raises:
            UnsupportedOption: an option was asked for that is not among `capabilities.options`.
        """
        refused = self.explicitly_set() - capabilities.options
        if refused:
            raise UnsupportedOption(f"{location} does not honour {', '.join(sorted(refused))}. Nothing was sent")

    def fixed_at_initiate(self) -> ObjectOptions:
        """Only what is fixed when the upload is initiated; a change of these makes a resume impossible."""
        return evolve(self, **{name: getattr(_NO_OPTIONS, name) for name in _LATE_OPTIONS})


_NO_OPTIONS = ObjectOptions()


# --- what a backend answers ------------------------------------------------------------------------------------------


@define(frozen=True)
class UploadedPart:
    """
    A part that the storage has acknowledged.

    Args:
        part_number: 1 to the backend's `max_parts`.
        size: its length in bytes.
        etag: what the storage calls this version of the part; opaque, sent back unchanged.
        crc64: the CRC-64/XZ of its bytes, None where it is not known.
    """

    part_number: int = field(validator=integer(1))
    size: int = field(validator=integer(0))
    etag: str = field(validator=string)
    crc64: int | None = field(default=None, validator=integer(0, _BITS64_MAX, None))

    def to_data(self) -> list[Any]:
        """
        Return this part as the list ``[part_number, size, etag, crc64]``, fit for JSON.

        The checksum is a string of decimal digits or None, since not every JSON reader keeps integers of 64 bits.
        """
        return [self.part_number, self.size, self.etag, None if self.crc64 is None else str(self.crc64)]

    @classmethod
    def from_data(cls, data: object) -> UploadedPart:
        """
        Make a part of what `to_data` returned.

        Raises:
            CheckpointDamaged: the data is not a part, or a number in it is out of range.
        """
        match data:
            case [int(number), int(size), str(etag), (None | str()) as crc64] if not (
                isinstance(number, bool) or isinstance(size, bool)
            ):
                if number > PART_NUMBER_MAX or size > _BITS64_MAX:
                    raise CheckpointDamaged(f"not the number and size of a part: {outline(number)}, {outline(size)}")
                try:
                    return cls(number, size, etag, None if crc64 is None else _crc64_from_text(crc64))
                except InvalidInput as error:
                    raise CheckpointDamaged(str(error)) from error
        raise CheckpointDamaged(f"not an uploaded part: {outline(data)}")


def _crc64_from_text(digits: str) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 20 and int(digits) <= _BITS64_MAX):
        raise CheckpointDamaged(f"not a CRC-64: {outline(digits)}")
    return int(digits)


@define(frozen=True)
class PendingUpload:
    """
    A multipart upload that was initiated and neither completed nor aborted.

    Args:
        key: the object it is for.
        upload_id: its id.
        initiated: when, by the storage's clock, with a time zone.
    """

    key: str
    upload_id: str
    initiated: datetime


@define(frozen=True)
class StoredObject:
    """
    An object as the storage describes it.

    Args:
        key: its name.
        size: its length in bytes.
        etag: what the storage calls this version of it; opaque.
        crc64: the CRC-64/XZ of its bytes as the storage computed it, None where it does not.
        version_id: its version in a versioned bucket.
        request_id: the request that told us.
        callback_response: what the application server answered, where a callback was asked for.
        metadata: the values kept with it, where the backend keeps them and `head_object` was asked.
    """

    key: str
    size: int
    etag: str
    crc64: int | None = None
    version_id: str | None = None
    request_id: str | None = None
    callback_response: bytes | None = None
    metadata: Mapping[str, str] = field(factory=dict, converter=string_mapping)


def utc(seconds: float) -> datetime:
    """Seconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
