"""Each check of a backend passes on a correct one, and fails on one that breaks its rule."""

from __future__ import annotations

import hashlib
import logging
import pickle
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, ClassVar, NoReturn

import pytest
from attrs import define, evolve, field, fields
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from partwise.checksums import CRC32C
from partwise.errors import (
    AccessDenied,
    BackendClosed,
    BackendError,
    ConnectionFailed,
    IntegrityError,
    InvalidInput,
    InvalidKey,
    ObjectExists,
    PartRejected,
    PreconditionFailed,
    SourceError,
    Throttled,
    UnsupportedOption,
    UploadNotFound,
)
from partwise.model import Capabilities, ObjectOptions, PartLimits, PendingUpload, StoredObject, UploadedPart, utc
from partwise.protocols import Body
from partwise.testing import (
    BACKEND_CHECKS,
    BackendHarness,
    NotApplicable,
    StrictBody,
    backend_machine,
    run_machine,
    shown_options,
    slow_crc64,
)

SECRET = "not-to-be-exposed"

# --- a correct backend, which subclasses break -----------------------------------------------------------------------


@define
class Pending:
    key: str
    options: ObjectOptions
    parts: dict[int, tuple[bytes, UploadedPart]] = field(factory=dict)
    initiated: datetime = field(factory=lambda: datetime.now(UTC))


@define
class Bucket:
    """The state shared by all handles."""

    objects: dict[str, tuple[bytes, ObjectOptions]] = field(factory=dict)
    uploads: dict[str, Pending] = field(factory=dict)
    lock: threading.RLock = field(factory=threading.RLock)
    initiated: int = 0


BUCKETS: dict[int, Bucket] = {}


class Correct:
    """A correct backend in memory, based on dicts."""

    location = "tiny://bucket"
    limits = PartLimits(min_part_size=5, max_part_size=64, max_parts=20)
    capabilities = Capabilities(
        {"metadata", "content_type", "forbid_overwrite", "if_match"},
        part_checksums=True,
        object_checksums=True,
        late_options={"forbid_overwrite", "if_match"},
    )

    def __init__(self, bucket: Bucket, page_size: int = 1000, failure: type[BackendError] | None = None) -> None:
        self.bucket = bucket
        self.page_size = page_size
        self.failure = failure
        self.secret = SECRET
        self.closed = False

    def __reduce__(self) -> Any:
        BUCKETS[id(self.bucket)] = self.bucket
        return _reopened, (type(self), id(self.bucket))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.location}>"

    def close(self) -> None:
        self.closed = True

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        self.begin(key, options)
        self.check_overwrite(key, options)
        with self.bucket.lock:
            upload_id = self.new_id()
            self.bucket.uploads[upload_id] = Pending(key, options)
        return upload_id

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        self.begin(key)
        self.find(key, upload_id)
        data = self.read(body)
        part = self.described_part(part_number, data)
        self.find(key, upload_id).parts[part_number] = (data, part)
        return part

    def begin_part(self, key: str, upload_id: str, part_number: int, body: Body) -> Callable[[], UploadedPart]:
        part = Correct.upload_part(self, key, upload_id, part_number, body)
        return lambda: part

    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        self.begin(key)
        if not self.capabilities.lists_parts:
            raise UnsupportedOption("no lists")
        return self.pages(
            lambda: [part for _, (_, part) in sorted(self.find(key, upload_id).parts.items())],
            lambda part: part.part_number,
        )

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        self.begin(key, options)
        with self.bucket.lock:
            upload = self.find(key, upload_id)
            self.check_overwrite(key, options)
            self.check_parts(upload, parts)
            data = b"".join(upload.parts[part.part_number][0] for part in parts)
            del self.bucket.uploads[upload_id]
            self.store(key, data, upload.options)
        return self.describe(key, data)

    def abort_upload(self, key: str, upload_id: str) -> None:
        self.begin(key)
        self.bucket.uploads.pop(upload_id, None)

    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        self.begin()
        return self.pages(
            lambda: [
                PendingUpload(upload.key, upload_id, upload.initiated)
                for upload_id, upload in sorted(self.bucket.uploads.items(), key=lambda item: (item[1].key, item[0]))
                if upload.key.startswith(prefix)
            ],
            lambda pending: (pending.key, pending.upload_id),
        )

    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        self.begin(key, options)
        self.check_overwrite(key, options)
        data = self.read(body)
        with self.bucket.lock:
            self.check_overwrite(key, options)
            self.store(key, data, options)
        return self.describe(key, data)

    def head_object(self, key: str) -> StoredObject | None:
        self.begin(key)
        found = self.bucket.objects.get(key)
        return None if found is None else evolve(self.describe(key, found[0]), metadata=found[1].metadata)

    # --- where it can be broken --------------------------------------------------------------------------------------

    def begin(self, key: str = "-", options: ObjectOptions | None = None) -> None:
        if self.closed:
            raise BackendClosed("closed")
        if self.failure is ConnectionFailed:
            raise ConnectionFailed("lost") from OSError("reset")
        if self.failure is not None:
            raise self.failure("failing")
        if options is not None and not options.explicitly_set() <= self.capabilities.options:
            raise UnsupportedOption("not honoured")
        if "\n" in key:
            raise InvalidKey("no newlines")

    def new_id(self) -> str:
        self.bucket.initiated += 1
        return f"id-{self.bucket.initiated}"

    def find(self, key: str, upload_id: str) -> Pending:
        upload = self.bucket.uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise UploadNotFound("gone")
        return upload

    def read(self, body: Body) -> bytes:
        data = b"".join(bytes(chunk) for chunk in body.chunks())
        if len(data) != len(body):
            raise IntegrityError("another length")
        return data

    def described_part(self, number: int, data: bytes) -> UploadedPart:
        return UploadedPart(number, len(data), self.etag(data), slow_crc64(data))

    def etag(self, data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    def check_parts(self, upload: Pending, parts: Sequence[UploadedPart]) -> None:
        numbers = [part.part_number for part in parts]
        if not numbers or numbers != sorted(set(numbers)):
            raise PartRejected("order")
        for part in parts:
            if upload.parts.get(part.part_number, (b"", None))[1] != part:
                raise PartRejected("missing or stale")
        if any(part.size < self.limits.min_part_size for part in parts[:-1]):
            raise PartRejected("too small")

    def check_overwrite(self, key: str, options: ObjectOptions) -> None:
        if options.forbid_overwrite and key in self.bucket.objects:
            raise ObjectExists("there is one")
        if options.if_match is not None:
            found = self.bucket.objects.get(key)
            if found is None or self.etag(found[0]) != options.if_match:
                raise PreconditionFailed("there is another one, or none")

    def store(self, key: str, data: bytes, options: ObjectOptions) -> None:
        self.bucket.objects[key] = (data, options)

    def describe(self, key: str, data: bytes) -> StoredObject:
        return StoredObject(key, len(data), self.etag(data), slow_crc64(data))

    def pages(self, entries: Callable[[], list[Any]], place: Callable[[Any], Any]) -> Iterator[Any]:
        page = entries()[: self.page_size]
        return self.following(page, entries, place)

    def following(
        self, page: list[Any], entries: Callable[[], list[Any]], place: Callable[[Any], Any]
    ) -> Iterator[Any]:
        while page:
            yield from page
            last = place(page[-1])
            page = [entry for entry in entries() if place(entry) > last][: self.page_size]


def _reopened(kind: type[Correct], bucket: int) -> Correct:
    return kind(BUCKETS[bucket])


class Harness(BackendHarness):
    secrets = (SECRET,)
    subject: ClassVar[type[Correct]] = Correct

    def __init__(self) -> None:
        self.bucket = Bucket()

    def open(self) -> Correct:
        return self.subject(self.bucket)

    def read(self, key: str) -> bytes | None:
        found = self.bucket.objects.get(key)
        return None if found is None else found[0]

    def refuses(self, key: str) -> bool:
        return "\n" in key

    def options(self, key: str) -> Mapping[str, object]:
        return shown_options(self.bucket.objects[key][1])

    def open_with_page_size(self, page_size: int) -> Correct:
        return self.subject(self.bucket, page_size)

    def open_failing(self, error: type[BackendError]) -> Correct | None:
        return self.subject(self.bucket, failure=error)


def harness_of(mutant: type[Correct]) -> type[Harness]:
    return type("MutantHarness", (Harness,), {"subject": mutant})


# --- broken: the contract in general ---------------------------------------------------------------------------------


class NoRepr(Correct):
    def __repr__(self) -> str:
        return "a backend"


class LocationIsNoURL(Correct):
    location = "bucket"


class UnknownOption(Correct):
    capabilities = evolve(Correct.capabilities, options={"colour"}, late_options=())


class SecretInRepr(Correct):
    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.secret}>"


class SecretInErrors(Correct):
    def find(self, key: str, upload_id: str) -> Pending:
        if upload_id not in self.bucket.uploads:
            raise UploadNotFound("gone", details={"signed with": self.secret})
        return super().find(key, upload_id)


class SecretInTheCause(Correct):
    def find(self, key: str, upload_id: str) -> Pending:
        try:
            return super().find(key, upload_id)
        except UploadNotFound as error:
            raise error from OSError(f"GET tiny://id:{self.secret}@bucket")


class SecretInTheLog(Correct):
    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        logging.getLogger("tiny").debug("signed with %s", self.secret)
        return super().put_object(key, body, options)


class SeparateHandles(Correct):
    def __init__(self, bucket: Bucket, page_size: int = 1000, failure: type[BackendError] | None = None) -> None:
        super().__init__(bucket, page_size, failure)
        self.bucket = Bucket()


class ClosesOthers(Correct):
    def close(self) -> None:
        self.bucket.uploads.clear()
        self.bucket.objects.clear()


class ListsThoughDeclaredNot(Correct):
    capabilities = evolve(Correct.capabilities, lists_parts=False)

    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        return []


class ListsUploadsThoughDeclaredNot(Correct):
    capabilities = evolve(Correct.capabilities, lists_uploads=False)


class SecondCloseFails(Correct):
    def close(self) -> None:
        if self.closed:
            raise BackendClosed("twice")
        super().close()


class UsableAfterClose(Correct):
    def head_object(self, key: str) -> StoredObject | None:
        return None


class CopyHasOtherCapabilities(Correct):
    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.capabilities = evolve(self.capabilities, part_checksums=False)

    def __reduce__(self) -> Any:
        return (*super().__reduce__(), {})


class CopyUsesOtherStorage(Correct):
    def __reduce__(self) -> Any:
        elsewhere = Bucket()
        BUCKETS[id(elsewhere)] = elsewhere
        return _reopened, (type(self), id(elsewhere))


class RaisesAnotherFailure(Correct):
    def begin(self, key: str = "-", options: ObjectOptions | None = None) -> None:
        try:
            super().begin(key, options)
        except AccessDenied as error:
            raise ConnectionFailed("denied") from error


class ThrottledIsPermanent(Correct):
    def begin(self, key: str = "-", options: ObjectOptions | None = None) -> None:
        try:
            super().begin(key, options)
        except Throttled as error:
            raise Throttled("slow down", retryable=False) from error


class NoCause(Correct):
    def begin(self, key: str = "-", options: ObjectOptions | None = None) -> None:
        if self.failure is ConnectionFailed:
            raise ConnectionFailed("lost")
        super().begin(key, options)


class RefusalIsRetryable(Correct):
    def check_parts(self, upload: Pending, parts: Sequence[UploadedPart]) -> None:
        try:
            super().check_parts(upload, parts)
        except PartRejected as error:
            raise PartRejected("missing", retryable=True) from error


class CompletesEmptyTheSecondTime(Correct):
    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        try:
            return super().complete_upload(key, upload_id, parts, options)
        except UploadNotFound:
            self.store(key, b"", options)
            return self.describe(key, b"")


class AbortsAnyUpload(Correct):
    def abort_upload(self, key: str, upload_id: str) -> None:
        self.begin(key)
        if upload_id not in self.bucket.uploads:
            self.bucket.uploads.clear()
        self.bucket.uploads.pop(upload_id, None)


class KnowsItsBodies(Correct):
    def read(self, body: Body) -> bytes:
        return super().read(body) if isinstance(body, StrictBody) else b""


# --- broken: uploads -------------------------------------------------------------------------------------------------


class PlacesByNumber(Correct):
    """Places the bytes of a part by its number and its length, and not by its offset."""

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        upload = self.find(key, upload_id)
        stored = super().complete_upload(key, upload_id, parts, options)
        data = bytearray(stored.size)
        for part in parts:
            place = (part.part_number - 1) * part.size
            data[place : place + part.size] = upload.parts[part.part_number][0]
        self.store(key, bytes(data), upload.options)
        return stored


class WaitsForTheLastPart(Correct):
    """Completes only once a part was known to be the last one."""

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        part = super().upload_part(key, upload_id, part_number, body)
        self.ended = self.__dict__.get("ended", set()) | ({upload_id} if body.is_last else set())
        return part

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        if upload_id in self.bucket.uploads and upload_id not in self.ended:
            raise PartRejected("the last part is missing")
        return super().complete_upload(key, upload_id, parts, options)


class RefusesOptionsAtComplete(Correct):
    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        if options.content_type is not None:
            raise UnsupportedOption("the content type is fixed at initiate")
        return super().complete_upload(key, upload_id, parts, options)


class SeveralUploadsThoughDeclaredNot(Correct):
    capabilities = evolve(Correct.capabilities, one_upload_per_key=True)


class PutKeepsUploadsThoughDeclaredNot(SeveralUploadsThoughDeclaredNot):
    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        upload_id = super().initiate_upload(key, options)
        for other in [i for i, upload in self.bucket.uploads.items() if upload.key == key and i != upload_id]:
            del self.bucket.uploads[other]
        return upload_id


class AbortsThoughDeclaredNot(Correct):
    capabilities = evolve(Correct.capabilities, aborts=False)


class JoinsBackwards(Correct):
    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        upload = self.find(key, upload_id)
        stored = super().complete_upload(key, upload_id, parts, options)
        self.store(key, b"".join(upload.parts[part.part_number][0] for part in parts[::-1]), upload.options)
        return stored


class JoinsInOrderOfSending(Correct):
    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        upload = self.find(key, upload_id)
        stored = super().complete_upload(key, upload_id, parts, options)
        named = {part.part_number for part in parts}
        self.store(key, b"".join(data for n, (data, _) in upload.parts.items() if n in named), upload.options)
        return stored


class JoinsAllParts(Correct):
    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        upload = self.find(key, upload_id)
        stored = super().complete_upload(key, upload_id, parts, options)
        self.store(key, b"".join(data for _, (data, _) in sorted(upload.parts.items())), upload.options)
        return stored


class StaysPending(Correct):
    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        upload = self.find(key, upload_id)
        stored = super().complete_upload(key, upload_id, parts, options)
        self.bucket.uploads[upload_id] = upload
        return stored


class KeepsTheLongerPart(Correct):
    def store(self, key: str, data: bytes, options: ObjectOptions) -> None:
        before, _ = self.bucket.objects.get(key, (b"", None))
        super().store(key, data + before[len(data) :], options)


class HeadOfNothing(Correct):
    def head_object(self, key: str) -> StoredObject | None:
        return super().head_object(key) or StoredObject(key, 0, "none")


class HeadOfAnotherVersion(Correct):
    def head_object(self, key: str) -> StoredObject | None:
        found = super().head_object(key)
        return None if found is None else evolve(found, etag=found.etag.upper() + "-")


class CompletesWithNothing(Correct):
    def check_parts(self, upload: Pending, parts: Sequence[UploadedPart]) -> None:
        if parts:
            super().check_parts(upload, parts)


class LosesTheLastByte(Correct):
    def read(self, body: Body) -> bytes:
        data = super().read(body)
        return data[:-1] if len(data) == self.limits.max_part_size + 1 else data


class ReusesIds(Correct):
    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        self.begin(key, options)
        upload_id = f"id-{self.bucket.initiated + 1}"
        time.sleep(0.01)
        self.bucket.initiated += 1
        self.bucket.uploads[upload_id] = Pending(key, options)
        return upload_id


class SharesABuffer(Correct):
    """Reads the bodies of all threads into one buffer."""

    def read(self, body: Body) -> bytes:
        self.buffer = super().read(body)
        time.sleep(0.01)  # the request
        return self.buffer


class RespondsInOrderOfSending(Correct):
    def begin_part(self, key: str, upload_id: str, part_number: int, body: Body) -> Callable[[], UploadedPart]:
        queue: list[UploadedPart] = self.__dict__.setdefault("queue", [])
        queue.append(self.upload_part(key, upload_id, part_number, body))
        return lambda: queue.pop(0)


class ReadsBodyLate(Correct):
    def begin_part(self, key: str, upload_id: str, part_number: int, body: Body) -> Callable[[], UploadedPart]:
        return lambda: self.upload_part(key, upload_id, part_number, body)


class InitiateEndsOtherUploads(Correct):
    def begin_part(self, key: str, upload_id: str, part_number: int, body: Body) -> Callable[[], UploadedPart]:
        answer = super().begin_part(key, upload_id, part_number, body)
        self.bucket.uploads[upload_id].parts = {part_number: self.bucket.uploads[upload_id].parts[part_number]}
        return answer


class AppendsToThePart(Correct):
    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        before, _ = self.find(key, upload_id).parts.get(part_number, (b"", None))
        part = super().upload_part(key, upload_id, part_number, body)
        self.find(key, upload_id).parts[part_number] = (before + self.read(body), part)
        return part


class SendsOnce(Correct):
    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        if part_number in self.find(key, upload_id).parts:
            raise PartRejected("it is there")
        return super().upload_part(key, upload_id, part_number, body)


class KeepsTheFirstPart(Correct):
    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        before = self.find(key, upload_id).parts.get(part_number)
        part = super().upload_part(key, upload_id, part_number, body)
        if before is not None:
            self.find(key, upload_id).parts[part_number] = (before[0], part)
        return part


class RefusalEndsTheUpload(Correct):
    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        try:
            return super().complete_upload(key, upload_id, parts, options)
        except PartRejected:
            self.bucket.uploads.pop(upload_id)
            raise


class SkipsMissingParts(Correct):
    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        here = self.find(key, upload_id).parts
        parts = [part for part in parts if part.part_number in here]
        return super().complete_upload(key, upload_id, parts, options)


class AcceptsAnyPart(Correct):
    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        here = self.find(key, upload_id).parts
        parts = [here[part.part_number][1] if part.part_number in here else part for part in parts]
        return super().complete_upload(key, upload_id, parts, options)


class ComparesAllFields(Correct):
    capabilities = evolve(Correct.capabilities, part_checksums=False)

    def described_part(self, number: int, data: bytes) -> UploadedPart:
        return evolve(super().described_part(number, data), checksum=None)


class AcceptsAnyOrder(Correct):
    def check_parts(self, upload: Pending, parts: Sequence[UploadedPart]) -> None:
        super().check_parts(upload, sorted(parts, key=lambda part: part.part_number))


class AcceptsRepeatedParts(Correct):
    def check_parts(self, upload: Pending, parts: Sequence[UploadedPart]) -> None:
        super().check_parts(upload, list(dict.fromkeys(parts)))


class InitiateTruncates(Correct):
    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        upload_id = super().initiate_upload(key, options)
        self.bucket.objects.pop(key, None)
        return upload_id


class PartsAreSeen(Correct):
    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        part = super().upload_part(key, upload_id, part_number, body)
        self.store(key, self.find(key, upload_id).parts[part_number][0], ObjectOptions())
        return part


class RemovesThenStores(Correct):
    def store(self, key: str, data: bytes, options: ObjectOptions) -> None:
        self.bucket.objects.pop(key, None)
        time.sleep(0.01)
        super().store(key, data, options)


class StoresInTwoSteps(Correct):
    def store(self, key: str, data: bytes, options: ObjectOptions) -> None:
        super().store(key, data[: len(data) // 2], options)
        time.sleep(0.01)
        super().store(key, data, options)


class OverwritesByPut(Correct):
    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        return super().put_object(key, body, evolve(options, forbid_overwrite=False))


class OverwritesByComplete(Correct):
    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        return super().complete_upload(key, upload_id, parts, evolve(options, forbid_overwrite=False))


class LooksThenStores(Correct):
    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        self.check_overwrite(key, options)
        time.sleep(0.02)  # the request
        return super().put_object(key, body, evolve(options, forbid_overwrite=False))


class ReplacesAnyByPut(Correct):
    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        return super().put_object(key, body, evolve(options, if_match=None))


class ReplacesAnyByComplete(Correct):
    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        return super().complete_upload(key, upload_id, parts, evolve(options, if_match=None))


class MatchesNothing(Correct):
    def check_overwrite(self, key: str, options: ObjectOptions) -> None:
        if options.if_match is not None and key not in self.bucket.objects:
            return
        super().check_overwrite(key, options)


class FixesIfMatch(Correct):
    """Correct, too: if_match is that of the beginning, and acts at the end."""

    capabilities = evolve(Correct.capabilities, late_options={"forbid_overwrite"})

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        if upload_id in self.bucket.uploads:
            options = evolve(options, if_match=self.fixed(self.bucket.uploads[upload_id].options))
        return super().complete_upload(key, upload_id, parts, options)

    def fixed(self, options: ObjectOptions) -> str | None:
        return options.if_match


class ForgetsTheFixedIfMatch(FixesIfMatch):
    def fixed(self, options: ObjectOptions) -> str | None:
        return None


class DropsOptionsOfOtherStorages(Correct):
    def begin(self, key: str = "-", options: ObjectOptions | None = None) -> None:
        known = {a.name for a in fields(ObjectOptions)} & (options or ObjectOptions()).explicitly_set()
        super().begin(key, options and ObjectOptions(**{name: getattr(options, name) for name in known}))


class OneUploadAKey(Correct):
    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        upload_id = super().initiate_upload(key, options)
        for other in [i for i, upload in self.bucket.uploads.items() if upload.key == key and i != upload_id]:
            del self.bucket.uploads[other]
        return upload_id


class LateOptions(Correct):
    """The content type is fixed at initiate, though it is declared to act late."""

    capabilities = evolve(Correct.capabilities, late_options={"content_type", "forbid_overwrite"})


class LateForbidIsIgnored(Correct):
    """Looks at forbid_overwrite at initiate alone, though it is declared to act late."""

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        begun = self.find(key, upload_id).options
        late = evolve(options, forbid_overwrite=begun.forbid_overwrite)
        return super().complete_upload(key, upload_id, parts, late)


class KeepsTheFirstObject(Correct):
    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        before = self.bucket.objects.get(key)
        stored = super().complete_upload(key, upload_id, parts, options)
        if before is not None:
            self.bucket.objects[key] = before
        return stored


class AbortKeepsParts(Correct):
    def abort_upload(self, key: str, upload_id: str) -> None:
        self.begin(key)


class AbortRemovesTheObject(Correct):
    def abort_upload(self, key: str, upload_id: str) -> None:
        super().abort_upload(key, upload_id)
        self.bucket.objects.pop(key, None)


class AbortOfUnknownFails(Correct):
    def abort_upload(self, key: str, upload_id: str) -> None:
        self.find(key, upload_id)
        super().abort_upload(key, upload_id)


class UnknownIdsListNothing(Correct):
    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        return super().list_parts(key, upload_id) if upload_id in self.bucket.uploads else []


class ReusesFinishedIds(Correct):
    def find(self, key: str, upload_id: str) -> Pending:
        if upload_id not in self.bucket.uploads:
            raise UploadNotFound("gone", retryable=True)
        return super().find(key, upload_id)


class PathsAreIds(Correct):
    def find(self, key: str, upload_id: str) -> Pending:
        if ".." in upload_id:
            return next(iter(self.bucket.uploads.values()))
        return super().find(key, upload_id)


class ListsAsText(Correct):
    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        return sorted(super().list_parts(key, upload_id), key=lambda part: str(part.part_number))


class ListsLate(Correct):
    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        return list(super().list_parts(key, upload_id))[:-1]


class ListsOtherParts(Correct):
    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        return [evolve(part, etag=f'"{part.etag}"') for part in super().list_parts(key, upload_id)]


class ListsOneUploadOfAKey(Correct):
    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        return {pending.key: pending for pending in super().list_uploads(prefix)}.values()


class PrefixIsAFolder(Correct):
    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        return super().list_uploads(prefix.rpartition("/")[0])


class TimeWithoutZone(Correct):
    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        return [evolve(found, initiated=found.initiated.replace(tzinfo=None)) for found in super().list_uploads(prefix)]


class TimeOfNothing(Correct):
    """As a backend returns whose storage does not say when."""

    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        return [evolve(found, initiated=utc(0)) for found in super().list_uploads(prefix)]


class LocalTimeAsUTC(Correct):
    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        return [evolve(found, initiated=found.initiated + timedelta(hours=8)) for found in super().list_uploads(prefix)]


class OnePage(Correct):
    def following(
        self, page: list[Any], entries: Callable[[], list[Any]], place: Callable[[Any], Any]
    ) -> Iterator[Any]:
        yield from page


class PagesByCount(Correct):
    def following(
        self, page: list[Any], entries: Callable[[], list[Any]], place: Callable[[Any], Any]
    ) -> Iterator[Any]:
        count = 0
        while page:
            yield from page
            count += len(page)
            page = entries()[count : count + self.page_size]


class PagesRepeatTheLast(Correct):
    def following(
        self, page: list[Any], entries: Callable[[], list[Any]], place: Callable[[Any], Any]
    ) -> Iterator[Any]:
        while page:
            yield from page
            last = place(page[-1])
            page = [entry for entry in entries() if place(entry) >= last][: self.page_size + 1]
            if page and place(page[-1]) == last:
                return


class ListsAsManyAsThereWere(Correct):
    """Ends a list after the number of entries that there were when it began."""

    def following(
        self, page: list[Any], entries: Callable[[], list[Any]], place: Callable[[Any], Any]
    ) -> Iterator[Any]:
        return islice(super().following(page, entries, place), len(entries()))


class PartsAreLostOnClose(Correct):
    def close(self) -> None:
        super().close()
        for upload in self.bucket.uploads.values():
            upload.parts.clear()


# --- broken: data ----------------------------------------------------------------------------------------------------


class BytesOnly(Correct):
    def read(self, body: Body) -> bytes:
        data = b"".join(chunk.obj for chunk in body.chunks() if isinstance(chunk.obj, bytes))
        return data if len(data) == len(body) else super().read(body)[::-1]


class WholeBuffers(Correct):
    def read(self, body: Body) -> bytes:
        chunks = [bytes(chunk.obj) if isinstance(chunk.obj, bytearray) else bytes(chunk) for chunk in body.chunks()]
        return b"".join(chunks)[: len(body)]


class KeepsChunks(Correct):
    def read(self, body: Body) -> bytes:
        return b"".join(list(body.chunks()))


class ReadsOnce(Correct):
    def read(self, body: Body) -> bytes:
        return super().read(body) if body.checksum is None else b"\0" * len(body)


class TakesShortBodies(Correct):
    def read(self, body: Body) -> bytes:
        return b"".join(bytes(chunk) for chunk in body.chunks())[: len(body)]


class PadsShortBodies(Correct):
    def read(self, body: Body) -> bytes:
        data = b"".join(bytes(chunk) for chunk in body.chunks())
        if len(data) > len(body):
            raise IntegrityError("too long")
        return data.ljust(len(body), b"\0")


class CutsLongBodies(Correct):
    def read(self, body: Body) -> bytes:
        data = b"".join(bytes(chunk) for chunk in body.chunks())
        if len(data) < len(body):
            raise IntegrityError("too short")
        return data[: len(body)]


class WrapsBodyErrors(Correct):
    def read(self, body: Body) -> bytes:
        try:
            return super().read(body)
        except SourceError as error:
            raise ConnectionFailed("the body failed") from error


class StoresHalfOfFailingBodies(Correct):
    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        try:
            return super().put_object(key, body, options)
        except SourceError:
            self.store(key, b"half", options)
            raise


class DropsThePreviousPart(Correct):
    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        self.find(key, upload_id).parts.pop(part_number, None)
        return super().upload_part(key, upload_id, part_number, body)


class SwallowsCancellation(Correct):
    def read(self, body: Body) -> bytes:
        try:
            return super().read(body)
        except Exception:
            raise
        except BaseException as error:
            raise ConnectionFailed("stopped") from error


class OtherChecksum(Correct):
    def described_part(self, number: int, data: bytes) -> UploadedPart:
        return evolve(super().described_part(number, data), checksum=slow_crc64(data) ^ 1)


class ChecksumThoughDeclaredNot(Correct):
    capabilities = evolve(Correct.capabilities, object_checksums=False)


class ChecksumOfTheLastPart(Correct):
    def describe(self, key: str, data: bytes) -> StoredObject:
        return evolve(super().describe(key, data), checksum=slow_crc64(data[-13:]))


class DeclaresAnotherChecksum(Correct):
    capabilities = evolve(Correct.capabilities, checksum=CRC32C)


class KeysOfOneCase(Correct):
    def store(self, key: str, data: bytes, options: ObjectOptions) -> None:
        super().store(key.lower(), data, options)
        super().store(key, data, options)


class NormalisesKeys(Correct):
    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        return [evolve(found, key=found.key.replace("//", "/")) for found in super().list_uploads(prefix)]


class AcceptsDeclaredRefusals(Correct):
    def begin(self, key: str = "-", options: ObjectOptions | None = None) -> None:
        super().begin("-", options)


class AcceptsSmallParts(Correct):
    def check_parts(self, upload: Pending, parts: Sequence[UploadedPart]) -> None:
        super().check_parts(upload, [evolve(part, size=max(part.size, 5)) for part in parts if part.size >= 5])


class HighestNumberIsTooHigh(Correct):
    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        if part_number >= self.limits.max_parts:
            raise InvalidInput("too high")
        return super().upload_part(key, upload_id, part_number, body)


class LargestPartIsTooLarge(Correct):
    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        if len(body) >= self.limits.max_part_size:
            raise InvalidInput("too large")
        return super().upload_part(key, upload_id, part_number, body)


class DropsOptions(Correct):
    def begin(self, key: str = "-", options: ObjectOptions | None = None) -> None:
        super().begin(key)


class RemembersOptions(Correct):
    """Makes the object with the options that this handle initiated the upload with."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.initiated: set[str] = set()

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        upload_id = super().initiate_upload(key, options)
        self.initiated.add(upload_id)
        return upload_id

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        if upload_id in self.bucket.uploads and upload_id not in self.initiated:
            self.bucket.uploads[upload_id].options = ObjectOptions()
        return super().complete_upload(key, upload_id, parts, options)


class PutDropsOptions(Correct):
    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        return super().put_object(key, body, evolve(options, content_type=None))


class MultipartDropsMetadata(Correct):
    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        return super().initiate_upload(key, evolve(options, metadata={}))


class HeadHasNoMetadata(Correct):
    def head_object(self, key: str) -> StoredObject | None:
        found = super().head_object(key)
        return None if found is None else evolve(found, metadata={})


#: The mutants of each check, with what the message says by which it has to catch them.
MUTANTS: dict[str, dict[type[Correct], str]] = {
    "protocol": {
        NoRepr: "repr names the class NoRepr",
        LocationIsNoURL: "location is a URL",
        UnknownOption: "but not ['colour']",
    },
    "secrets_are_not_exposed": {
        SecretInRepr: "exposed in its repr",
        SecretInErrors: "exposed in UploadNotFound",
        SecretInTheCause: "exposed in UploadNotFound",
        SecretInTheLog: "exposed in 1 of 1 log records",
    },
    "handles_see_each_other": {
        SeparateHandles: "an upload is listed as soon as initiate_upload returns",
        ClosesOthers: "closing a handle does not close the others",
    },
    "listing_is_as_declared": {
        ListsThoughDeclaredNot: "capabilities.lists_parts is False: expected UnsupportedOption",
        ListsUploadsThoughDeclaredNot: "capabilities.lists_uploads is False: expected UnsupportedOption",
    },
    "close": {
        SecondCloseFails: "closing twice is not an error",
        UsableAfterClose: "head_object after close: expected BackendClosed",
    },
    "pickle": {
        CopyUsesOtherStorage: "an upload is continued by an unpickled handle",
        CopyHasOtherCapabilities: "the copy has the same capabilities",
    },
    "failures_of_the_storage": {
        RaisesAnotherFailure: "expected AccessDenied, and ConnectionFailed was raised",
        ThrottledIsPermanent: "fails by Throttled: retryable is True",
        NoCause: "fails by ConnectionFailed: the error has its cause",
    },
    "refusals_are_permanent": {
        RefusalIsRetryable: "PartRejected is permanent",
        ReusesFinishedIds: "UploadNotFound is permanent",
    },
    "lost_responses": {
        CompletesEmptyTheSecondTime: "completing again does not change the object",
        AbortsAnyUpload: "aborting again does not affect other uploads",
        AbortOfUnknownFails: "aborting again is not an error",
    },
    "delays_change_nothing": {KnowsItsBodies: "the object exists: expected an object of 64 bytes"},
    "complete": {
        JoinsBackwards: "the object is its parts in ascending order",
        StaysPending: "the upload is completed: it is not listed as pending",
        PlacesByNumber: "the object is its parts in ascending order",
    },
    "put_object": {KeepsTheLongerPart: "the object has the bytes of the body"},
    "head_object": {
        HeadOfNothing: "head_object returns None if there is no object",
        HeadOfAnotherVersion: "head_object agrees with the result of parts",
    },
    "complete_without_parts": {
        CompletesWithNothing: "there are no parts: expected PartRejected",
        RefusalEndsTheUpload: "after complete without parts the upload is still usable",
    },
    "sizes_at_the_edges": {LosesTheLastByte: "65 bytes by put: right size"},
    "parts_in_any_order": {JoinsInOrderOfSending: "sent in the order (4, 3, 2, 1), ascending in the object"},
    "last_part_that_is_not_known": {WaitsForTheLastPart: "the last part of a stream has is_last=False"},
    "many_threads": {
        ReusesIds: "every upload has a unique id",
        SharesABuffer: "parts that are sent concurrently are not mixed up",
    },
    "pipelined_parts": {
        RespondsInOrderOfSending: "each response is that of its own part",
        ReadsBodyLate: "begin_part reads the whole body",
        InitiateEndsOtherUploads: "a part is stored once its response was read",
    },
    "part_sent_again": {
        AppendsToThePart: "the object has the part once",
        SendsOnce: "a part can be sent again",
    },
    "part_replaced": {KeepsTheFirstPart: "the last part with a number is in the object"},
    "missing_part": {
        SkipsMissingParts: "part 2 was never sent: expected PartRejected, and the call returned",
        RefusalEndsTheUpload: "after a part was missing the upload is still usable",
    },
    "other_parts_are_dropped": {JoinsAllParts: "the object has the parts passed to complete_upload only"},
    "stale_part": {
        AcceptsAnyPart: "the part was sent again with other bytes: expected PartRejected, and the call returned",
        RefusalEndsTheUpload: "after a part was stale the upload is still usable",
    },
    "foreign_part": {
        AcceptsAnyPart: "the part is of another upload: expected PartRejected, and the call returned",
        RefusalEndsTheUpload: "after a part was foreign the upload is still usable",
    },
    "wrong_order": {
        AcceptsAnyOrder: "part 1 comes after part 2: expected PartRejected, and the call returned",
        AcceptsRepeatedParts: "part 1 is repeated: expected PartRejected, and the call returned",
        RefusalEndsTheUpload: "part 1 is repeated: expected PartRejected, and UploadNotFound was raised",
    },
    "invisible_until_complete": {
        InitiateTruncates: "initiate_upload does not change the object",
        PartsAreSeen: "upload_part does not change the object",
    },
    "replaced_atomically": {
        RemovesThenStores: "an object that is replaced exists at any time",
        StoresInTwoSteps: "an object that is replaced is read as the old one or the new one",
    },
    "forbid_overwrite": {
        OverwritesByPut: "key='forbidden', size=4",
        OverwritesByComplete: "key='forbidden', size=64",
    },
    "forbid_overwrite_at_once": {
        LooksThenStores: "4 calls of put_object with forbid_overwrite at once: one succeeds, not 4",
        OverwritesByPut: "4 calls of put_object with forbid_overwrite at once: one succeeds, not 4",
    },
    "if_match": {
        ReplacesAnyByPut: "key='matched', size=4",
        ReplacesAnyByComplete: "key='matched', size=64",
        MatchesNothing: "there is no object: expected PreconditionFailed",
        ForgetsTheFixedIfMatch: "key='matched', size=64",
    },
    "complete_twice": {
        CompletesEmptyTheSecondTime: "the second result equals the first",
        StaysPending: "complete again does not restore an object that was replaced",
    },
    "two_uploads_of_one_key": {
        OneUploadAKey: "a second upload of a key does not affect the first",
        KeepsTheFirstObject: "the last upload completed is stored",
    },
    "abort": {
        AbortKeepsParts: "the upload is aborted: it is not listed as pending",
        AbortRemovesTheObject: "abort_upload does not change the object",
    },
    "abort_again": {
        AbortOfUnknownFails: "aborting twice is not an error",
        AbortRemovesTheObject: "aborting a completed upload does not change its object",
        AbortsAnyUpload: "aborting an unknown id does not affect other uploads",
    },
    "unknown_ids": {
        UnknownIdsListNothing: "'no-such-upload' does not exist: expected UploadNotFound, and the call returned []",
        ReusesFinishedIds: "'no-such-upload' does not exist: the error, UploadNotFound, is permanent",
        PathsAreIds: "'../..' does not exist",
        StaysPending: "'id-1' is completed: expected UploadNotFound",
    },
    "list_parts": {
        ListsAsText: "parts are listed at once, in ascending order",
        ListsLate: "parts are listed at once, in ascending order",
    },
    "list_uploads": {
        ListsOneUploadOfAKey: "also several of one key",
        PrefixIsAFolder: "the uploads of keys that start with 'list/' are listed",
        TimeWithoutZone: "initiated has a time zone",
        TimeOfNothing: "initiated is the time when the upload was initiated, not 1970-",
        LocalTimeAsUTC: "initiated is the time when the upload was initiated",
        AbortKeepsParts: "aborted uploads are not listed",
    },
    "pages_of_uploads": {
        OnePage: "with pages of 1, while other uploads start and end, no pending upload is missed",
        PagesByCount: "with pages of 2, while other uploads start and end, no pending upload is missed",
        PagesRepeatTheLast: "with pages of 1, while other uploads start and end, each is listed once",
    },
    "pages_of_parts": {
        OnePage: "with pages of 1, all parts are listed",
        PagesRepeatTheLast: "with pages of 1, all parts are listed",
        ListsAsManyAsThereWere: "a part that is sent meanwhile hides no other",
    },
    "resume_from_the_id": {
        PartsAreLostOnClose: "completed with listed parts: expected an object of 85 bytes",
        ListsOtherParts: "completed with listed parts, and PartRejected was raised",
    },
    "parts_with_a_checksum": {ComparesAllFields: "whatever their checksum, and PartRejected was raised"},
    "buffers_of_every_kind": {
        BytesOnly: "upload_part accepts chunks that are a bytearray",
        WholeBuffers: "upload_part accepts chunks that are a slice",
    },
    "chunks_are_not_kept": {
        KeepsChunks: "upload_part sends or copies a chunk before it reads the next",
        ReadsOnce: "and reads a body from its start",
    },
    "body_too_short": {
        TakesShortBodies: "<StrictBody of 64 bytes> yields another number of bytes: expected PartwiseError",
        PadsShortBodies: "<StrictBody of 64 bytes> yields another number of bytes: expected PartwiseError",
    },
    "body_too_long": {
        TakesShortBodies: "<StrictBody of 63 bytes> yields another number of bytes: expected PartwiseError",
        CutsLongBodies: "<StrictBody of 63 bytes> yields another number of bytes: expected PartwiseError",
    },
    "bodies_that_fail": {
        WrapsBodyErrors: "expected SourceChanged, and ConnectionFailed was raised",
        StoresHalfOfFailingBodies: "the body raised SourceChanged after 0 of 64 bytes: no object may be stored",
        DropsThePreviousPart: "the previous part is unchanged",
        SwallowsCancellation: "expected _Cancelled, and ConnectionFailed was raised",
    },
    "checksums": {
        OtherChecksum: "upload_part returns the crc64xz of the part",
        ChecksumThoughDeclaredNot: "complete_upload returns the checksum of the object, if declared",
        ChecksumOfTheLastPart: "complete_upload returns the checksum of the object, if declared",
        DeclaresAnotherChecksum: "upload_part returns the crc32c of the part",
    },
    "strange_keys": {
        KeysOfOneCase: "'upper.txt' is distinct from all other keys",
        NormalisesKeys: "list_uploads returns 'slashes//doubled' unchanged",
        AcceptsDeclaredRefusals: "is declared to be refused: expected InvalidKey, and the call returned",
    },
    "one_upload_per_key": {
        SeveralUploadsThoughDeclaredNot: "was ended by initiating another upload of its key: expected UploadNotFound",
        PutKeepsUploadsThoughDeclaredNot: "was ended by storing an object of its key: expected UploadNotFound",
    },
    "abort_without_effect": {AbortsThoughDeclaredNot: "capabilities.aborts is False"},
    "part_too_small": {
        AcceptsSmallParts: "part 1 has 4 bytes, and min_part_size is 5: expected PartRejected, and the call returned",
        RefusalEndsTheUpload: "after a part was too small the upload is still usable",
    },
    "limits_are_accepted": {
        HighestNumberIsTooHigh: "a part no. 20 of 5 bytes is within the limits, and InvalidInput was raised",
        LargestPartIsTooLarge: "a part no. 20 of 64 bytes is within the limits, and InvalidInput was raised",
    },
    "other_options_are_refused": {
        DropsOptions: "acl is not in capabilities.options: expected UnsupportedOption",
        DropsOptionsOfOtherStorages: "option_of_another_storage is not in capabilities.options",
    },
    "late_options": {
        LateOptions: "content_type is in capabilities.late_options: complete_upload decides",
        LateForbidIsIgnored: "forbid_overwrite is in capabilities.late_options: complete_upload refuses",
    },
    "options_are_kept": {
        PutDropsOptions: "content_type is stored by put: expected 'text/x-sample'",
        MultipartDropsMetadata: "metadata is stored by parts: expected {'sample': 'value'}",
        RefusesOptionsAtComplete: "content_type is in capabilities.options, and accepted by parts",
        RemembersOptions: "content_type is stored by parts of two handles: expected 'text/x-sample'",
    },
    "metadata_is_returned": {
        HeadHasNoMetadata: "head_object returns the metadata of an object stored by parts",
        MultipartDropsMetadata: "head_object returns the metadata of an object stored by parts",
    },
}


#: The checks whose mutants speak HTTP, in test_the_kit_catches_http_backends.py.
OVER_HTTP = {
    *("bodies_are_not_held_in_memory", "bodies_are_counted_once", "bodies_sent_at_the_same_time", "another_process"),
    *("more_parts_than_a_page", "more_uploads_than_a_page", "failures_are_not_retried", "retry_after"),
    *("damaged_bodies", "errors_in_the_body_of_a_response"),
}

#: The checks of what the correct backend does not declare.
OF_OTHER_CAPABILITIES = {"one_upload_per_key", "abort_without_effect"}


# --- the tests -------------------------------------------------------------------------------------------------------


def test_every_check_has_a_mutant() -> None:
    assert {check.name for check in BACKEND_CHECKS} == MUTANTS.keys() | OVER_HTTP
    assert not MUTANTS.keys() & OVER_HTTP


def test_every_behaviour_is_covered_or_left_out_with_a_reason() -> None:
    assert BACKEND_CHECKS.covered | BACKEND_CHECKS.left_out.keys() == set(range(1, 50))
    assert not BACKEND_CHECKS.covered & BACKEND_CHECKS.left_out.keys()


@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in OF_OTHER_CAPABILITIES])
def test_the_correct_backend_passes(name: str) -> None:
    """No check fails on it, and none is skipped."""
    BACKEND_CHECKS[name](Harness())


@pytest.mark.parametrize(
    ("name", "mutant", "reason"),
    [
        pytest.param(name, mutant, reason, id=f"{name}-{mutant.__name__}")
        for name, mutants in MUTANTS.items()
        for mutant, reason in mutants.items()
    ],
)
def test_the_check_detects(name: str, mutant: type[Correct], reason: str) -> None:
    """For this reason, and not since it fails on anything else that the mutant does."""
    with pytest.raises(AssertionError, match=re.escape(reason)):
        BACKEND_CHECKS[name](harness_of(mutant)())


def test_the_machine_passes_on_the_correct_backend() -> None:
    run_machine(backend_machine(Harness), examples=10)


@pytest.mark.parametrize(
    ("mutant", "error", "reason"),
    [
        (AcceptsAnyPart, AssertionError, "not the current parts in order .*: expected PartRejected"),
        (AbortRemovesTheObject, AssertionError, "the object '.*' is what was stored last: .* found no object"),
        (KeepsTheFirstPart, AssertionError, "the object '.*' is what was stored last: .* found an object of"),
        (StaysPending, AssertionError, "list_uploads lists the uploads that are pending"),
        (OneUploadAKey, UploadNotFound, "gone"),
    ],
)
def test_the_machine_detects(mutant: type[Correct], error: type[Exception], reason: str) -> None:
    """Within a hundred sequences of calls, derandomised and without shrinking, to save time."""
    quick = settings(
        max_examples=100,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    with pytest.raises(error, match=reason):
        run_state_machine_as_test(backend_machine(harness_of(mutant)), settings=quick)


def test_if_match_may_be_fixed_when_an_upload_is_initiated() -> None:
    BACKEND_CHECKS["if_match"](harness_of(FixesIfMatch)())


class ChecksumsOfObjects(Correct):
    """Has checksums of objects and of no parts; `damages` flips a bit of each body."""

    capabilities = evolve(Correct.capabilities, part_checksums=False)
    damages = False

    def described_part(self, number: int, data: bytes) -> UploadedPart:
        return UploadedPart(number, len(data), self.etag(data))

    def check_parts(self, upload: Pending, parts: Sequence[UploadedPart]) -> None:
        super().check_parts(upload, [evolve(part, checksum=None) for part in parts])

    def read(self, body: Body) -> bytes:
        data = super().read(body)
        return bytes([data[0] ^ 1]) + data[1:] if self.damages else data


class ReportsWhatWasSent(ChecksumsOfObjects):
    """The checksum of its objects comes from the parts that it was given, and not from the storage."""

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        stored = super().complete_upload(key, upload_id, parts, options)
        runs = [(part.checksum, part.size) for part in parts if part.checksum is not None]
        return evolve(stored, checksum=self.capabilities.checksum.fold(runs)) if runs else stored


class DamagingHarness(Harness):
    subject = ChecksumsOfObjects

    def open_damaging(self) -> Correct:
        backend = self.open()
        backend.damages = True  # type: ignore[attr-defined]
        return backend


def test_the_checksum_of_the_object_may_be_what_shows_a_damaged_part() -> None:
    BACKEND_CHECKS["damaged_bodies"](DamagingHarness())
    fooled = type("FooledHarness", (DamagingHarness,), {"subject": ReportsWhatWasSent})
    with pytest.raises(AssertionError, match="a flipped bit, and the upload is completed"):
        BACKEND_CHECKS["damaged_bodies"](fooled())


class FailsByAnotherClass(Correct):
    def head_object(self, key: str) -> StoredObject | None:
        if self.failure is not None:
            raise KeyError("ETag")
        return super().head_object(key)


def test_an_error_that_is_none_of_partwise_is_reported_with_the_call_that_raised_it() -> None:
    with pytest.raises(
        AssertionError, match=r"head_object on a storage that fails by .* KeyError was raised, which is"
    ):
        BACKEND_CHECKS["failures_of_the_storage"](harness_of(FailsByAnotherClass)())


# --- declarations ----------------------------------------------------------------------------------------------------


class NotPicklable(Correct):
    def __reduce__(self) -> NoReturn:
        raise TypeError("not to be pickled")


def test_a_backend_that_is_declared_not_picklable_must_raise_type_error() -> None:
    honest = type("NotPicklableHarness", (Harness,), {"picklable": False, "subject": NotPicklable})
    BACKEND_CHECKS["pickle"](honest())
    with pytest.raises(TypeError):
        pickle.dumps(NotPicklable(Bucket()))
    pickles_after_all = type("PicklableHarness", (Harness,), {"picklable": False})
    with pytest.raises(AssertionError, match="expected TypeError"):
        BACKEND_CHECKS["pickle"](pickles_after_all())


def test_a_backend_may_be_declared_to_complete_without_parts() -> None:
    lenient = type("LenientHarness", (Harness,), {"completes_without_parts": True, "subject": CompletesWithNothing})
    BACKEND_CHECKS["complete_without_parts"](lenient())


def test_a_declared_deviation_is_reported_as_not_applicable() -> None:
    class Declared(Harness):
        subject = AcceptsAnyPart
        deviations: ClassVar = {"stale_part": "this storage has no versions of parts"}

    with pytest.raises(NotApplicable, match="has no versions of parts"):
        BACKEND_CHECKS["stale_part"](Declared())


def test_a_declared_deviation_whose_check_passes_fails() -> None:
    class Declared(Harness):
        deviations: ClassVar = {"stale_part": "this storage has no versions of parts"}

    with pytest.raises(AssertionError, match="remove the declaration"):
        BACKEND_CHECKS["stale_part"](Declared())


def test_an_error_of_closing_a_handle_does_not_hide_a_declared_deviation() -> None:
    """The handle is closed once more when the check has ended, which fails, too."""

    class Declared(Harness):
        subject = SecondCloseFails
        deviations: ClassVar = {"close": "its session ends once"}

    with pytest.raises(NotApplicable, match="its session ends once") as caught:
        BACKEND_CHECKS["close"](Declared())
    assert caught.value.__notes__ == ["Closing a handle at the end of the check raised BackendClosed('twice')"]


def test_an_error_of_closing_a_handle_after_a_check_that_passed_is_raised() -> None:
    class ClosesWithAnError(Correct):
        def close(self) -> None:
            raise ConnectionFailed("reset")

    with pytest.raises(ConnectionFailed, match="reset"):
        BACKEND_CHECKS["put_object"](harness_of(ClosesWithAnError)())


def test_a_deviation_that_names_no_check_is_refused() -> None:
    class Declared(Harness):
        deviations: ClassVar = {"stale_receits": "a slip of the pen"}

    with pytest.raises(InvalidInput, match="stale_receits"):
        BACKEND_CHECKS.check_declarations(Declared())


def test_a_declared_deviation_does_not_make_a_check_applicable() -> None:
    class Declared(Harness):
        secrets = ()
        deviations: ClassVar = {"secrets_are_not_exposed": "it shows them all"}

    with pytest.raises(NotApplicable, match=r"does not give secrets"):
        BACKEND_CHECKS["secrets_are_not_exposed"](Declared())


class Generous(Correct):
    capabilities = evolve(Correct.capabilities, options={a.name for a in fields(ObjectOptions)})


def test_a_backend_that_supports_every_option_refuses_those_of_other_storages() -> None:
    BACKEND_CHECKS["other_options_are_refused"](harness_of(Generous)())
    BACKEND_CHECKS["options_are_kept"](harness_of(Generous)())


def test_a_check_that_a_harness_does_not_support_is_not_applicable() -> None:
    class Blind(Harness):
        secrets = ()

        def options(self, key: str) -> Mapping[str, object]:
            return BackendHarness.options(self, key)

        def open_with_page_size(self, page_size: int) -> None:
            return None

        def open_failing(self, error: type[BackendError]) -> None:
            return None

    for name in ("secrets_are_not_exposed", "pages_of_parts", "pages_of_uploads", "failures_of_the_storage"):
        with pytest.raises(NotApplicable):
            BACKEND_CHECKS[name](Blind())
    BACKEND_CHECKS["options_are_kept"](Blind())
