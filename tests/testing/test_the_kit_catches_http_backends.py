"""
What authors of HTTP backends get wrong, and which check shows it.

A small storage speaks HTTP in this process. One backend of it is correct; both are in tests/shared/tiny_storage.py.
Each of the others has one of the mistakes that were found in backends of S3; the checks catch all of them if the
harness gives all hooks. A harness of `open` and `read` alone catches fewer; the number in docs/reference/testing.md is
counted here.
"""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from attrs import define, evolve
from shared.tiny_storage import (
    PAGE_MAX,
    SECRET,
    HTTPBackend,
    KeepsPartsInTheProcess,
    Opener,
    ProcessInLocation,
    Response,
    Server,
    Storage,
)

from partwise.errors import (
    AccessDenied,
    BackendClosed,
    BackendError,
    BucketNotFound,
    ClockSkewed,
    ConnectionFailed,
    CredentialsExpired,
    InvalidInput,
    ObjectExists,
    PartRejected,
    PartwiseError,
    ServerFailed,
    Throttled,
    UploadNotFound,
)
from partwise.model import MIB, ObjectOptions, PendingUpload, StoredObject, UploadedPart, utc
from partwise.protocols import Body
from partwise.testing import BACKEND_CHECKS, BackendHarness, NotApplicable, backend_machine, run_machine
from partwise.testing.conformance import backend_transfers


@pytest.fixture(autouse=True)
def _smaller_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Halve the largest body, to save time: a backend that holds all of it in memory does so with any."""
    monkeypatch.setattr(backend_transfers, "_LARGE", 4 * MIB)


class BareHarness(BackendHarness):
    """What the guide's first example gives: `open` and `read`."""

    subject: ClassVar[type[HTTPBackend]] = HTTPBackend
    # The page of this storage, as the default is that of most real ones, so that the tests are fast.
    page_size = PAGE_MAX
    examples = 10

    def __init__(self) -> None:
        self.storage = Storage()
        self.server = Server(self.storage)

    def open(self) -> HTTPBackend:
        return self.subject(self.server.endpoint)

    def read(self, key: str) -> bytes | None:
        return self.storage.objects.get(key, (None, {}))[0]

    def close(self) -> None:
        self.server.stop()


class FullHarness(BareHarness):
    """All hooks."""

    secrets = (SECRET,)
    # A response to HEAD has no code.
    unseen_by_head = frozenset({BucketNotFound, ClockSkewed, CredentialsExpired, Throttled})

    def options(self, key: str) -> Mapping[str, object]:
        stored = self.storage.objects[key][1]
        return {name: stored.get(name) for name in ("content_type", "cache_control")} | {
            "metadata": stored.get("metadata", {})
        }

    def open_with_page_size(self, page_size: int) -> HTTPBackend:
        return self.subject(self.server.endpoint, page_size=page_size)

    def open_failing(self, error: type[BackendError], *, retry_after: float | None = None) -> HTTPBackend:
        if error is BucketNotFound:
            return self.subject(self.server.endpoint, bucket="other")
        if error is AccessDenied:
            return self.subject(self.server.endpoint, "wrong")
        if error is ConnectionFailed:
            return self.subject("127.0.0.1:1")
        backend = self.open()
        responses = {
            ServerFailed: (500, "InternalError"),
            Throttled: (429, "SlowDown"),
            CredentialsExpired: (403, "ExpiredToken"),
            ClockSkewed: (403, "RequestTimeTooSkewed"),
        }
        self.failure = (*responses[error], retry_after)
        backend.close = self.succeed  # type: ignore[method-assign]  # the switch of the storage is set back
        return backend

    def start_failing(self, backend: object) -> None:
        self.storage.fails, self.failure = getattr(self, "failure", None), None

    def succeed(self) -> None:
        self.storage.fails = None
        self.storage.damages = self.storage.fails_in_body = False

    def open_damaging(self) -> HTTPBackend:
        self.storage.damages = True
        backend = self.open()
        backend.close = self.succeed  # type: ignore[method-assign]
        return backend

    def open_failing_in_body(self) -> HTTPBackend:
        self.storage.fails_in_body = True
        backend = self.open()
        backend.close = self.succeed  # type: ignore[method-assign]
        return backend

    def requests(self) -> int:
        return self.storage.requests

    def elsewhere(self) -> Callable[[], HTTPBackend]:
        return Opener(self.subject, self.server.endpoint)


def harness_of(base: type[BareHarness], mutant: type[HTTPBackend]) -> type[BareHarness]:
    return type("MutantHarness", (base,), {"subject": mutant})


# --- mistakes: listings ----------------------------------------------------------------------------------------------


class FirstPageOfParts(HTTPBackend):
    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        query = {"id": upload_id, "after": "0", "max": str(self.page_size)}
        return [UploadedPart(*entry) for entry in self.call("GET", key, query).document["entries"]]


class FirstPageOfUploads(HTTPBackend):
    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        query = {"prefix": prefix, "after": "", "id": "", "max": str(self.page_size)}
        found = self.call("GET", "", query).document["entries"]
        return [PendingUpload(key, upload_id, utc(when)) for key, upload_id, when in found]


class PagesOfUploadsByKey(HTTPBackend):
    """Loses the uploads of a key that continue on the next page."""

    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        after, more = "", True
        while more:
            query = {"prefix": prefix, "after": after, "id": "~", "max": str(self.page_size)}
            found = self.call("GET", "", query).document
            for key, upload_id, when in found["entries"]:
                after = key
                yield PendingUpload(key, upload_id, utc(when))
            more = found["more"]


class NaiveDatetimes(HTTPBackend):
    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        return [evolve(each, initiated=each.initiated.replace(tzinfo=None)) for each in super().list_uploads(prefix)]


class AnyErrorOfAListIsUploadNotFound(HTTPBackend):
    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        try:
            return super().list_parts(key, upload_id)
        except BackendClosed:
            raise
        except BackendError as error:
            raise UploadNotFound("there is no such upload") from error


# --- mistakes: tags, ids and keys ------------------------------------------------------------------------------------


class QuotesOnOneSide(HTTPBackend):
    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        part = super().upload_part(key, upload_id, part_number, body)
        return evolve(part, etag=f'"{part.etag}"')

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        plain = [evolve(part, etag=part.etag.strip('"')) for part in parts]
        return super().complete_upload(key, upload_id, plain, options)


class HeadETagInQuotes(HTTPBackend):
    def head_object(self, key: str) -> StoredObject | None:
        found = super().head_object(key)
        return None if found is None else evolve(found, etag=f'"{found.etag}"')


class AbortOfADeadIdRaises(HTTPBackend):
    def abort_upload(self, key: str, upload_id: str) -> None:
        self.call("DELETE", key, {"id": upload_id})


class SortsParts(HTTPBackend):
    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        ordered = sorted(parts, key=lambda part: part.part_number)
        return super().complete_upload(key, upload_id, ordered, options)


class CutsLeadingSlashes(HTTPBackend):
    def request(self, method: str, key: str, query: Mapping[str, str], **given: Any) -> Response:
        return super().request(method, key.lstrip("/"), query, **given)


class BeginsTwoNowAndThen(HTTPBackend):
    count = 0

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        type(self).count += 1
        if type(self).count % 20 == 0:
            super().initiate_upload(key, options)
        return super().initiate_upload(key, options)


# --- mistakes: errors ------------------------------------------------------------------------------------------------


class TakesAnErrorForDone(HTTPBackend):
    """The status of the response is 200, and its body is an error."""

    def check_document(self, response: Response, what: str) -> None:
        pass

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        named = json.dumps([[part.part_number, part.etag] for part in parts]).encode()
        options.require_supported_by(self.capabilities, self.location)
        found = self.call("POST", key, {"id": upload_id}, options=options, document=named).document
        return StoredObject(key, sum(part.size for part in parts), found.get("etag", ""))


class RetriesInside(HTTPBackend):
    def request(self, method: str, key: str, query: Mapping[str, str], **given: Any) -> Response:
        for _ in range(3):
            response = super().request(method, key, query, **given)
            if response.status < 500 and response.status != 429:
                return response
        return super().request(method, key, query, **given)


class ThrottledIsPermanent(HTTPBackend):
    def error(self, response: Response, code: str | None, what: str) -> BackendError:
        error = super().error(response, code, what)
        error.retryable = error.retryable and not isinstance(error, Throttled)
        return error


class ThrottledIsServerFailed(HTTPBackend):
    def error(self, response: Response, code: str | None, what: str) -> BackendError:
        error = super().error(response, code, what)
        return ServerFailed(str(error), retry_after=error.retry_after) if isinstance(error, Throttled) else error


class LosesRetryAfter(HTTPBackend):
    def error(self, response: Response, code: str | None, what: str) -> BackendError:
        error = super().error(response, code, what)
        error.retry_after = None
        return error


class DamageIsPermanent(HTTPBackend):
    def error(self, response: Response, code: str | None, what: str) -> BackendError:
        if code == "BadDigest":
            return BackendError(f"{what}: BadDigest", code=code, status=response.status)
        return super().error(response, code, what)


class LosesCodes(HTTPBackend):
    def error(self, response: Response, code: str | None, what: str) -> BackendError:
        return super().error(response, None, what)


class HeadOfAnyErrorIsNone(HTTPBackend):
    def head_object(self, key: str) -> StoredObject | None:
        try:
            return super().head_object(key)
        except BackendClosed:
            raise
        except BackendError:
            return None


class NativeErrors(HTTPBackend):
    def io(self, call: Callable[..., Any], *given: Any) -> Any:
        return call(*given)


# --- mistakes: bytes -------------------------------------------------------------------------------------------------


class WholeBodyInMemory(HTTPBackend):
    def send_body(self, connection: http.client.HTTPConnection, body: Body) -> None:
        data = b"".join(bytes(chunk) for chunk in self.exactly(body))
        self.io(connection.send, data)


class SendsShortBodies(HTTPBackend):
    """Sends a body that is too short with the length that it has."""

    def length(self, body: Body) -> int:
        return sum(len(chunk) for chunk in body.chunks(counted=False))

    def exactly(self, body: Body) -> Iterator[memoryview]:
        yield from body.chunks()


def read_as_if_sent(body: Body) -> None:
    for _ in body.chunks():
        pass


class CountsPartsTwice(HTTPBackend):
    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        read_as_if_sent(body)
        return super().upload_part(key, upload_id, part_number, body)


class CountsObjectsTwice(HTTPBackend):
    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        read_as_if_sent(body)
        return super().put_object(key, body, options)


class WholeObjectInMemory(HTTPBackend):
    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        data = b"".join(bytes(chunk) for chunk in body.chunks(counted=False))
        stored = super().put_object(key, body, options)
        return evolve(stored, size=len(data))


class WholePartInMemory(HTTPBackend):
    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        data = b"".join(bytes(chunk) for chunk in body.chunks(counted=False))
        part = super().upload_part(key, upload_id, part_number, body)
        return evolve(part, size=len(data))


class SendsNoDigest(HTTPBackend):
    """Nothing notices a flipped bit: the storage reports no checksum, either."""

    def send_head(
        self, connection: http.client.HTTPConnection, method: str, target: str, headers: Mapping[str, str]
    ) -> None:
        super().send_head(connection, method, target, {n: v for n, v in headers.items() if n != "X-Digest"})


class DigestOfPartsOnly(SendsNoDigest):
    def send_head(
        self, connection: http.client.HTTPConnection, method: str, target: str, headers: Mapping[str, str]
    ) -> None:
        own = HTTPBackend if "part=" in target else SendsNoDigest
        own.send_head(self, connection, method, target, headers)


class EchoesTheChecksum(SendsNoDigest):
    """Reports the checksum of the body as that of the storage."""

    capabilities = evolve(HTTPBackend.capabilities, part_checksums=True)

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        return evolve(super().upload_part(key, upload_id, part_number, body), checksum=body.checksum)


class DamageEndsTheUpload(HTTPBackend):
    def error(self, response: Response, code: str | None, what: str) -> BackendError:
        error = super().error(response, code, what)
        error.retryable = error.retryable and code != "BadDigest"
        return error


class ErrorInABodyIsPermanent(HTTPBackend):
    def check_document(self, response: Response, what: str) -> None:
        if (code := response.document.get("code")) is not None:
            raise BackendError(f"{what} failed", code=code)


class SharedBuffer(HTTPBackend):
    """One buffer for all threads, in which the body of a small part is assembled."""

    buffer = bytearray(MIB)

    def send_body(self, connection: http.client.HTTPConnection, body: Body) -> None:
        if len(body) > len(self.buffer):
            super().send_body(connection, body)
            return
        end = 0
        for chunk in self.exactly(body):
            self.buffer[end : end + len(chunk)] = chunk
            end += len(chunk)
        self.io(connection.send, memoryview(self.buffer)[:end])

    def digest(self, body: Body) -> str:
        return "absent"

    def send_head(
        self, connection: http.client.HTTPConnection, method: str, target: str, headers: Mapping[str, str]
    ) -> None:
        super().send_head(connection, method, target, {n: v for n, v in headers.items() if n != "X-Digest"})


class SharedPiece(SharedBuffer):
    """One buffer for all threads, for each piece on its way to the socket."""

    def send_body(self, connection: http.client.HTTPConnection, body: Body) -> None:
        for chunk in self.exactly(body):
            self.buffer[: len(chunk)] = chunk
            self.io(connection.send, memoryview(self.buffer)[: len(chunk)])


class CallIsKeptOnSelf(HTTPBackend):
    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        self.about = part_number, upload_id, key
        length = len(body)
        for _ in body.chunks(counted=False):
            time.sleep(0.001)
        number, now, place = self.about
        part = super().upload_part(place, now, number, body)
        return evolve(part, size=length)


# --- mistakes: objects and handles -----------------------------------------------------------------------------------


class HeadIsCached(HTTPBackend):
    def __init__(self, *given: Any, **settings: Any) -> None:
        super().__init__(*given, **settings)
        self.heads: dict[str, tuple[float, StoredObject | None]] = {}

    seconds = 30.0
    hits_only = False

    def head_object(self, key: str) -> StoredObject | None:
        then, found = self.heads.get(key, (-1e9, None))
        if time.monotonic() - then > self.seconds or self.closed:
            found = super().head_object(key)
            if found is not None or not self.hits_only:
                self.heads[key] = time.monotonic(), found
        return found


class HitsOfHeadAreCached(HeadIsCached):
    seconds = 1.0
    hits_only = True


class SecretInLocation(HTTPBackend):
    @property
    def location(self) -> str:
        return f"tiny://id:{self.secret}@{self.endpoint}/{self.bucket}"


class FoldsMetadata(HTTPBackend):
    def plain(self, options: ObjectOptions | None) -> dict[str, Any]:
        plain = super().plain(options)
        folded = {n: " ".join(v.lower().split()) for n, v in plain.get("metadata", {}).items()}
        return plain | ({"metadata": folded} if folded else {})


class PutLosesMetadata(HTTPBackend):
    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        return super().put_object(key, body, evolve(options, metadata={}))


class DropsCacheControl(HTTPBackend):
    def plain(self, options: ObjectOptions | None) -> dict[str, Any]:
        return {name: value for name, value in super().plain(options).items() if name != "cache_control"}


# --- no mistakes: what the contract allows ---------------------------------------------------------------------------


class RenewsNothing(HTTPBackend):
    """Can neither fetch new credentials nor correct its clock."""

    def error(self, response: Response, code: str | None, what: str) -> BackendError:
        error = super().error(response, code, what)
        error.retryable = error.retryable and not isinstance(error, CredentialsExpired | ClockSkewed)
        return error


class RefusesMalformedIds(HTTPBackend):
    def request(self, method: str, key: str, query: Mapping[str, str], **given: Any) -> Response:
        if not re.fullmatch(r"[a-z0-9-]{0,40}", query.get("id", "")):
            raise InvalidInput("this is not an upload id")
        return super().request(method, key, query, **given)


class MalformedIdsAreAnErrorOfTheStorage(HTTPBackend):
    def request(self, method: str, key: str, query: Mapping[str, str], **given: Any) -> Response:
        if not self.closed and not re.fullmatch(r"[a-z0-9-]{0,40}", query.get("id", "")):
            raise BackendError("InvalidArgument", code="InvalidArgument", status=400)
        return super().request(method, key, query, **given)


class ListsUploadsInAnyOrder(HTTPBackend):
    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        return sorted(super().list_uploads(prefix), key=lambda pending: pending.upload_id)


class LooksBeforeItBegins(HTTPBackend):
    """Makes two requests, as the storage looks at forbid_overwrite at the end only."""

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        if options.forbid_overwrite and self.head_object(key) is not None:
            raise ObjectExists("there is one")
        return super().initiate_upload(key, options)


class AbortsNothing(HTTPBackend):
    """Does nothing where it is to abort, as the storage deletes parts by itself."""

    capabilities = evolve(HTTPBackend.capabilities, aborts=False)

    def abort_upload(self, key: str, upload_id: str) -> None:
        if self.closed:
            raise BackendClosed(f"{self.location} was closed")


class ComparesPartsItself(HTTPBackend):
    """Refuses ETags and ids that the storage can't have issued, before it sends a request."""

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        if not re.fullmatch("[0-9a-f]{16}", upload_id):
            raise UploadNotFound(f"{upload_id!r:.40} is not an id of this storage")
        if not all(re.fullmatch("[0-9a-f]{32}", part.etag) for part in parts):
            raise PartRejected("not an ETag of this storage")
        return super().complete_upload(key, upload_id, parts, options)


#: Backends that do what the contract allows, with the checks that once were too strict for them.
ALLOWED: dict[type[HTTPBackend], tuple[str, ...]] = {
    RenewsNothing: ("failures_of_the_storage",),
    RefusesMalformedIds: ("unknown_ids", "abort_again", "lost_responses"),
    MalformedIdsAreAnErrorOfTheStorage: ("unknown_ids", "abort_again", "lost_responses"),
    ListsUploadsInAnyOrder: ("list_uploads", "pages_of_uploads", "more_uploads_than_a_page"),
    LooksBeforeItBegins: ("forbid_overwrite", "failures_are_not_retried"),
    AbortsNothing: ("close", "failures_of_the_storage", "retry_after", "failures_are_not_retried"),
    ComparesPartsItself: ("failures_of_the_storage", "retry_after", "failures_are_not_retried", "missing_part"),
}


@define(frozen=True)
class Catch:
    """The check that catches a mistake, and what its message says; whether it needs hooks for that."""

    check: str
    reason: str
    needs_hooks: bool = False


#: The mistakes of backends of S3 that a review has found, and which check shows them.
CAUGHT: dict[type[HTTPBackend], Catch] = {
    FirstPageOfParts: Catch("more_parts_than_a_page", "all 21 parts are listed, across pages of the storage, not 20"),
    FirstPageOfUploads: Catch("more_uploads_than_a_page", "list_uploads returns them all, not 20"),
    QuotesOnOneSide: Catch("list_parts", "parts are listed at once, in ascending order: expected the parts"),
    HeadETagInQuotes: Catch("head_object", "head_object agrees with the result of parts"),
    AbortOfADeadIdRaises: Catch("abort_again", "aborting twice is not an error, and UploadNotFound was raised"),
    TakesAnErrorForDone: Catch(
        "errors_in_the_body_of_a_response",
        "status 200 and an error in its body: expected BackendError, and the call returned",
        needs_hooks=True,
    ),
    RetriesInside: Catch(
        "failures_are_not_retried", "the backend makes one request and raises, not 4", needs_hooks=True
    ),
    WholeBodyInMemory: Catch("bodies_are_not_held_in_memory", "upload_part sends the chunks of a body one by one"),
    HeadIsCached: Catch("handles_see_each_other", "head_object returns the object as it is now"),
    HitsOfHeadAreCached: Catch("handles_see_each_other", "head_object returns the object as it is now"),
    SendsShortBodies: Catch(
        "body_too_short", "yields another number of bytes: expected PartwiseError, and the call returned"
    ),
    ThrottledIsPermanent: Catch("failures_of_the_storage", "fails by Throttled: retryable is True", needs_hooks=True),
    ThrottledIsServerFailed: Catch(
        "failures_of_the_storage",
        "fails by Throttled: expected Throttled, and ServerFailed was raised",
        needs_hooks=True,
    ),
    LosesRetryAfter: Catch("retry_after", "retry_after is 7, not None", needs_hooks=True),
    DamageIsPermanent: Catch(
        "damaged_bodies",
        "a part arrives with a flipped bit: expected IntegrityError, and BackendError was raised",
        needs_hooks=True,
    ),
    AnyErrorOfAListIsUploadNotFound: Catch(
        "failures_of_the_storage",
        "list_parts on a storage that fails by AccessDenied: expected AccessDenied, and UploadNotFound was",
        needs_hooks=True,
    ),
    HeadOfAnyErrorIsNone: Catch(
        "failures_of_the_storage",
        "head_object on a storage that fails by AccessDenied: expected AccessDenied, and the call returned None",
        needs_hooks=True,
    ),
    NativeErrors: Catch(
        "failures_of_the_storage",
        "expected ConnectionFailed, and ConnectionRefusedError was raised, which is not an error of partwise",
        needs_hooks=True,
    ),
    SecretInLocation: Catch(
        "secrets_are_not_exposed", "a secret is exposed in its repr, its location", needs_hooks=True
    ),
    ProcessInLocation: Catch("another_process", "location is the same in every process"),
    SharedBuffer: Catch("bodies_sent_at_the_same_time", "parts that are sent at the same time are not mixed up"),
    CallIsKeptOnSelf: Catch("many_threads", "parts that are sent concurrently are not mixed up"),
    PagesOfUploadsByKey: Catch("more_uploads_than_a_page", "list_uploads returns them all, not 20"),
    FoldsMetadata: Catch("metadata_is_returned", "is kept: 'Mixed CASE', and not 'mixed case'"),
    PutLosesMetadata: Catch("metadata_is_returned", "head_object returns the metadata of an object stored by put"),
    DropsCacheControl: Catch(
        "options_are_kept", "cache_control is stored by parts: expected 'no-cache'", needs_hooks=True
    ),
    NaiveDatetimes: Catch("list_uploads", "initiated has a time zone"),
    SortsParts: Catch("wrong_order", "part 1 comes after part 2: expected PartRejected, and the call returned"),
    CutsLeadingSlashes: Catch("strange_keys", "list_uploads returns '/begins-with' unchanged"),
    BeginsTwoNowAndThen: Catch(
        "more_uploads_than_a_page",
        "21 calls of initiate_upload make 21 uploads, and list_uploads returns them all, not 22",
    ),
    LosesCodes: Catch(
        "unknown_ids", "the id 'no-such-upload' does not exist: expected UploadNotFound, and BackendError was raised"
    ),
}

#: More mistakes, which only the checks of transfers show.
MORE: dict[type[HTTPBackend], Catch] = {
    SharedPiece: Catch("bodies_sent_at_the_same_time", "at the same time are not mixed up"),
    CountsPartsTwice: Catch("bodies_are_counted_once", "upload_part reads a body with counted=True once"),
    CountsObjectsTwice: Catch("bodies_are_counted_once", "put_object reads a body with counted=True once"),
    WholePartInMemory: Catch("bodies_are_not_held_in_memory", "upload_part sends the chunks of a body one by one"),
    WholeObjectInMemory: Catch("bodies_are_not_held_in_memory", "put_object sends the chunks of a body one by one"),
    SendsNoDigest: Catch(
        "damaged_bodies",
        "a part arrives with a flipped bit: it is an IntegrityError, or the result has the storage's checksum",
    ),
    DigestOfPartsOnly: Catch(
        "damaged_bodies", "an object arrives with a flipped bit: it is an IntegrityError, or the result has"
    ),
    EchoesTheChecksum: Catch(
        "damaged_bodies",
        "a part arrives with a flipped bit: it is an IntegrityError, or the result has the storage's checksum",
    ),
    DamageEndsTheUpload: Catch("damaged_bodies", "the IntegrityError is retryable: the part can be sent again"),
    ErrorInABodyIsPermanent: Catch(
        "errors_in_the_body_of_a_response", "an error in its body: BackendError is retryable"
    ),
    KeepsPartsInTheProcess: Catch("another_process", "a handle works in another process, and this was raised there"),
}


# --- the tests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [check.name for check in BACKEND_CHECKS])
def test_the_correct_backend_passes(name: str) -> None:
    """No check fails on it; those that do not apply are those of other capabilities."""
    try:
        BACKEND_CHECKS[name](FullHarness())
    except NotApplicable as reason:
        assert "as declared" in str(reason) or "SupportsPipelining" in str(reason)  # noqa: PT017


def test_the_machine_passes_on_the_correct_backend() -> None:
    run_machine(backend_machine(FullHarness), examples=5)


def test_every_check_of_transfers_has_a_mutant() -> None:
    checks = {check.name for check in backend_transfers.CHECKS} | {"retry_after"}
    assert checks <= {found.check for found in (*CAUGHT.values(), *MORE.values())}


def test_the_full_harness_gives_every_hook() -> None:
    with FullHarness() as harness:
        assert harness.missing_hooks() == {}


def test_the_bare_harness_gives_no_hook() -> None:
    with BareHarness() as harness:
        assert harness.missing_hooks() == BackendHarness.hooks


def detects(check: str, harness: type[BareHarness]) -> bool:
    """Return whether the check fails, or the backend raises an error of its library."""
    try:
        BACKEND_CHECKS[check](harness())
    except (AssertionError, PartwiseError, OSError, http.client.HTTPException):
        return True
    except NotApplicable:
        return False
    return False


def must_catch(found: Catch, harness: type[BareHarness]) -> None:
    """Assert that the check fails for its reason, and not since it fails on anything else that the mutant does."""
    with pytest.raises(AssertionError, match=re.escape(found.reason)):
        BACKEND_CHECKS[found.check](harness())


@pytest.mark.parametrize(("mutant", "found"), [*CAUGHT.items(), *MORE.items()])
def test_each_mistake_is_caught_with_all_hooks(mutant: type[HTTPBackend], found: Catch) -> None:
    must_catch(found, harness_of(FullHarness, mutant))


@pytest.mark.parametrize(
    ("subject", "check"), [(subject, check) for subject, checks in ALLOWED.items() for check in checks]
)
def test_what_the_contract_allows_passes(subject: type[HTTPBackend], check: str) -> None:
    BACKEND_CHECKS[check](harness_of(FullHarness, subject)())


def test_a_head_that_can_not_tell_an_error_has_to_be_declared() -> None:
    undeclared = type("Undeclared", (FullHarness,), {"unseen_by_head": frozenset()})

    with pytest.raises(AssertionError, match=r"head_object on a storage that fails by"):
        BACKEND_CHECKS["failures_of_the_storage"](undeclared())


def test_a_count_of_requests_that_stays_is_a_mistake_of_the_harness() -> None:
    """Otherwise no backend repeats a call, as it seems."""
    uncounted = type("Uncounted", (FullHarness,), {"requests": lambda _: 0})

    with pytest.raises(AssertionError, match="the hook `requests` counts the requests"):
        BACKEND_CHECKS["failures_are_not_retried"](uncounted())


def test_one_failure_can_be_declared_to_deviate() -> None:
    declared: type[BareHarness] = type(
        "Declared",
        (FullHarness,),
        {"subject": ThrottledIsPermanent, "deviations": {"failures_of_the_storage: Throttled": "it is so"}},
    )

    BACKEND_CHECKS["failures_of_the_storage"](declared())


@pytest.mark.parametrize("mutant", [mutant for mutant, found in CAUGHT.items() if not found.needs_hooks])
def test_most_mistakes_are_caught_without_hooks(mutant: type[HTTPBackend]) -> None:
    must_catch(CAUGHT[mutant], harness_of(BareHarness, mutant))


#: The mistakes that need hooks. None of them changes what another one does, so that one backend can make them all.
OTHERS = [mutant for mutant, found in CAUGHT.items() if found.needs_hooks]
AllOthers: type[HTTPBackend] = type("AllOthers", tuple(OTHERS), {})


def test_the_other_mistakes_need_hooks() -> None:
    """No check shows them without hooks, so that the documented number is not too low."""
    checks = [check.name for check in BACKEND_CHECKS if check.name != "another_process"]  # see below
    harness = harness_of(BareHarness, AllOthers)

    assert [name for name in checks if detects(name, harness)] == []


@pytest.mark.parametrize("mutant", OTHERS)
def test_the_other_mistakes_are_made_together(mutant: type[HTTPBackend]) -> None:
    """With all hooks, the check that catches the mistake catches the backend that makes all of them, too."""
    assert detects(CAUGHT[mutant].check, harness_of(FullHarness, AllOthers))


@pytest.mark.soak
@pytest.mark.parametrize("mutant", OTHERS)
def test_each_of_the_other_mistakes_needs_hooks(mutant: type[HTTPBackend]) -> None:
    """Alone, and in another process, which takes a third of the time of all tests in this file to start."""
    harness = harness_of(BareHarness, mutant)

    assert [check.name for check in BACKEND_CHECKS if detects(check.name, harness)] == []


def test_the_documentation_says_how_many_mistakes_are_caught() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "reference", "testing.md").read_text()
    bare = sum(not found.needs_hooks for found in CAUGHT.values())

    assert re.findall(r"of (\d+) mistakes .*? catches (\d+), and .*? hooks all (\d+)", " ".join(page.split())) == [
        (str(len(CAUGHT)), str(bare), str(len(CAUGHT)))
    ]
