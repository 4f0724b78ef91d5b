"""
Three storage services in memory, each as strict as its model about the rules that matter for uploads.

They know nothing of partwise: names, codes and rules are those of Amazon S3, of block blobs in Azure, and of resumable
sessions such as those of Google Cloud Storage and tus.
`copy.deepcopy` takes a snapshot of one, and its `repr` is its state.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field
from awscrt.checksums import crc64nvme
from fastcrc.crc32 import iscsi

crc32c = iscsi

#: One request at a time. It is shared by all services, as a lock can't be copied.
_LOCK = threading.RLock()


class Refused(Exception):
    """A response that is an error; the argument is its code."""

    @property
    def code(self) -> str:
        """The code of the error."""
        return str(self.args[0])


@define(frozen=True)
class Stored:
    """An object: its bytes, its ETag, and the headers that it was stored with."""

    data: bytes
    etag: str
    headers: Mapping[str, Any]

    @property
    def metadata(self) -> Mapping[str, str]:
        """The metadata in the headers."""
        found: Mapping[str, str] = self.headers.get("metadata", {})
        return found


@define
class Bucket:
    """What the services share: objects by key, conditions, and a bit that flips on demand."""

    objects: dict[str, Stored] = field(factory=dict)
    flips: bool = False  # a bit of an object that is made of parts changes, after the parts were verified
    count: int = field(default=0, repr=False)  # of ids that were given

    def new_id(self) -> str:
        """Return an id that was never returned before."""
        with _LOCK:
            self.count += 1
            return hashlib.sha256(f"{self.count}".encode()).hexdigest()[:16]

    def check_conditions(self, key: str, headers: Mapping[str, Any]) -> None:
        """Refuse a request whose If-None-Match or If-Match is not met."""
        found = self.objects.get(key)
        if headers.get("If-None-Match") == "*" and found is not None:
            raise Refused("ObjectExists")
        if (wanted := headers.get("If-Match")) is not None and (found is None or found.etag != wanted):
            raise Refused("PreconditionFailed")

    def store(self, key: str, data: bytes, headers: Mapping[str, Any], etag: str | None = None) -> Stored:
        """Store an object, if the conditions in the headers are met."""
        with _LOCK:
            self.check_conditions(key, headers)
            etag = etag or f'"{hashlib.md5(data).hexdigest()}"'
            self.objects[key] = Stored(data, etag, self.without_conditions(headers))
            return self.objects[key]

    @staticmethod
    def without_conditions(headers: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the headers that are kept; a condition holds for one request."""
        return {name: value for name, value in headers.items() if not name.startswith("If-")}

    def flipped(self, data: bytes) -> bytes:
        """Return the bytes as the disks have them."""
        return bytes([data[0] ^ 1]) + data[1:] if self.flips else data


# --- Amazon S3 -------------------------------------------------------------------------------------------------------


@define
class Multipart:
    """A multipart upload; all headers but the conditions are fixed when it is created."""

    key: str
    headers: Mapping[str, Any]
    parts: dict[int, tuple[str, bytes]] = field(factory=dict)  # ETag and bytes, by part number
    initiated: float = field(factory=time.time, repr=False)  # not shown: two runs have the same state otherwise


@define
class S3(Bucket):
    """
    Multipart uploads: parts in any order, replaced by sending them again, a minimum size for all but the last.

    A storage of this protocol may demand equal parts, too. The conditions are those of the request to complete.
    """

    min_part_size: int = 4
    equal_part_sizes: bool = False
    conflicts: int = 0  # how many of the next uploads to be completed meet another request that writes their key
    conflicting: set[str] = field(factory=set)  # those that have met one
    uploads: dict[str, Multipart] = field(factory=dict)

    def create(self, key: str, headers: Mapping[str, Any]) -> str:
        upload_id = self.new_id()
        self.uploads[upload_id] = Multipart(key, self.without_conditions(headers))
        return upload_id

    def upload(self, key: str, upload_id: str) -> Multipart:
        found = self.uploads.get(upload_id)
        if found is None or found.key != key:
            raise Refused("NoSuchUpload")
        return found

    def abort(self, key: str, upload_id: str) -> None:
        with _LOCK:
            if upload_id in self.uploads and self.uploads[upload_id].key == key:
                del self.uploads[upload_id]

    def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> tuple[str, int]:
        etag = f'"{hashlib.md5(data).hexdigest()}"'
        self.upload(key, upload_id).parts[number] = (etag, data)
        return etag, crc64nvme(data)

    def complete(
        self, key: str, upload_id: str, parts: Sequence[tuple[int, str]], conditions: Mapping[str, Any]
    ) -> Stored:
        with _LOCK:
            upload, numbers = self.upload(key, upload_id), [number for number, _ in parts]
            if self.conflicts:
                self.conflicts -= 1
                self.conflicting.add(upload_id)
            if upload_id in self.conflicting:
                raise Refused("ConditionalRequestConflict")
            if not parts:
                raise Refused("MalformedXML")
            if numbers != sorted(set(numbers)):
                raise Refused("InvalidPartOrder")
            if any(upload.parts.get(number, ("", b""))[0] != etag for number, etag in parts):
                raise Refused("InvalidPart")
            pieces = [upload.parts[number][1] for number in numbers]
            if any(len(piece) < self.min_part_size for piece in pieces[:-1]):
                raise Refused("EntityTooSmall")
            if self.equal_part_sizes and any(len(piece) != len(pieces[0]) for piece in pieces[:-1]):
                raise Refused("InvalidPart")
            tag = hashlib.md5("".join(etag for _, etag in parts).encode()).hexdigest()
            headers = {**upload.headers, **conditions}
            stored = self.store(key, self.flipped(b"".join(pieces)), headers, f'"{tag}-{len(parts)}"')
            del self.uploads[upload_id]
            return stored


# --- block blobs in Azure --------------------------------------------------------------------------------------------


@define
class BlockBlobs(Bucket):
    """
    Each blob has one list of uncommitted blocks; ids of blocks have one length.

    Committing a list, or putting the blob, drops every uncommitted block of it, and nothing else does, until they
    expire. What the blob is stored with comes with that request. Blocks have names and sizes, and no more.
    """

    uncommitted: dict[str, dict[str, bytes]] = field(factory=dict)  # by key, then by the id of the block

    def put_block(self, key: str, block_id: str, data: bytes, crc64: int) -> None:
        if crc64nvme(data) != crc64:
            raise Refused("Crc64Mismatch")
        with _LOCK:
            blocks = self.uncommitted.setdefault(key, {})
            if any(len(other) != len(block_id) for other in blocks) or len(block_id) > 64:
                raise Refused("InvalidBlobOrBlock")
            blocks[block_id] = data

    def blocks(self, key: str) -> dict[str, int]:
        """Return the size of each uncommitted block, by id, in no particular order."""
        with _LOCK:
            return {block_id: len(data) for block_id, data in sorted(self.uncommitted.get(key, {}).items())}

    def commit(self, key: str, block_ids: Sequence[str], headers: Mapping[str, Any]) -> Stored:
        with _LOCK:
            blocks = self.uncommitted.get(key, {})
            if any(block_id not in blocks for block_id in block_ids):
                raise Refused("InvalidBlockList")
            data = b"".join(blocks[block_id] for block_id in block_ids)
            stored = self.store(key, self.flipped(data), headers, f'"0x{self.new_id()}"')
            self.uncommitted.pop(key, None)
            return stored

    def put(self, key: str, data: bytes, headers: Mapping[str, Any]) -> Stored:
        with _LOCK:
            stored = self.store(key, data, headers, f'"0x{self.new_id()}"')
            self.uncommitted.pop(key, None)
            return stored


# --- sessions --------------------------------------------------------------------------------------------------------


@define
class Session:
    """A resumable upload: all that can be asked is how far it is, and the checksum of the bytes so far."""

    key: str
    headers: Mapping[str, Any]
    data: bytes = b""


@define
class Sessions(Bucket):
    """
    Bytes are appended, at the current offset only; the size is said at the end, and must be that of what was sent.

    Sessions are not listed, and what was appended can't be changed.
    """

    sessions: dict[str, Session] = field(factory=dict)

    def create(self, key: str, headers: Mapping[str, Any]) -> str:
        session_id = self.new_id()
        self.sessions[session_id] = Session(key, self.without_conditions(headers))
        return session_id

    def session(self, key: str, session_id: str) -> Session:
        found = self.sessions.get(session_id)
        if found is None or found.key != key:
            raise Refused("Gone")
        return found

    def offset(self, key: str, session_id: str) -> tuple[int, int]:
        """Return how many bytes the session has, and their CRC-32C."""
        data = self.session(key, session_id).data
        return len(data), crc32c(data)

    def append(self, key: str, session_id: str, offset: int, data: bytes, checksum: int) -> None:
        with _LOCK:
            session = self.session(key, session_id)
            if offset != len(session.data):
                raise Refused("Conflict")
            if crc32c(data) != checksum:
                raise Refused("ChecksumMismatch")
            session.data += data

    def finish(self, key: str, session_id: str, size: int, conditions: Mapping[str, Any]) -> Stored:
        with _LOCK:
            session = self.session(key, session_id)
            if size != len(session.data):
                raise Refused("Conflict")
            stored = self.store(key, self.flipped(session.data), {**session.headers, **conditions})
            del self.sessions[session_id]
            return stored

    def abort(self, key: str, session_id: str) -> None:
        with _LOCK:
            if session_id in self.sessions and self.sessions[session_id].key == key:
                del self.sessions[session_id]
