"""What the clients of the toy services share: a handle that can be closed, errors, bodies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

from partwise import errors
from partwise.model import Capabilities, ObjectOptions, StoredObject
from partwise.protocols import Body
from toys.services import Refused, Stored

_ERRORS = {
    **dict.fromkeys(("MalformedXML", "InvalidPartOrder", "InvalidPart", "EntityTooSmall"), errors.PartRejected),
    **dict.fromkeys(("Crc64Mismatch", "ChecksumMismatch"), errors.IntegrityError),
    **dict.fromkeys(("NoSuchUpload", "Gone"), errors.UploadNotFound),
    "InvalidBlockList": errors.PartRejected,
    **dict.fromkeys(("ConditionalRequestConflict", "Conflict"), errors.UploadUnusable),
    "ObjectExists": errors.ObjectExists,
    "PreconditionFailed": errors.PreconditionFailed,
}


class Client:
    """A handle on a service in the memory of this process."""

    location: ClassVar[str]
    capabilities: Capabilities

    def __init__(self) -> None:
        self._closed = False

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self.location} is in the memory of this process")

    def close(self) -> None:
        """Close this handle."""
        self._closed = True

    def request(self, operation: Callable[..., Any], *arguments: object) -> Any:
        """Make one request; translate the code of an error."""
        if self._closed:
            raise errors.BackendClosed(f"{self.location} was closed")
        try:
            return operation(*arguments)
        except Refused as error:
            kind = _ERRORS.get(error.code, errors.BackendError)
            raise kind(f"{self.location} refused the request: {error.code}", code=error.code) from error

    def headers(self, options: ObjectOptions, **others: object) -> dict[str, Any]:
        """Return the options that all services have as headers, and others that are set."""
        options.require_supported_by(self.capabilities, self.location)
        headers = {
            "Content-Type": options.content_type,
            "metadata": {name.lower(): value for name, value in options.metadata.items()},
            "If-None-Match": "*" if options.forbid_overwrite else None,
            "If-Match": options.if_match,
            **others,
        }
        return {name: value for name, value in headers.items() if value}

    def describe(self, key: str, stored: Stored, checksum: Callable[[bytes], int]) -> StoredObject:
        """Return an object of the service as the protocol describes it."""
        value = checksum(stored.data) if self.capabilities.object_checksums else None
        return StoredObject(key, len(stored.data), stored.etag, value, metadata=stored.metadata)


def read(body: Body) -> bytes:
    """Return all bytes of a body; raise IntegrityError if it has another number of them than it says."""
    data = b"".join(bytes(chunk) for chunk in body.chunks())
    if len(data) != len(body):
        raise errors.IntegrityError(f"the body has {len(data)} bytes instead of {len(body)}; nothing was stored")
    return data
