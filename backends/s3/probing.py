"""
Requests that find out what a storage can do.

`partwise.backends.s3.probe` says what follows from the responses.

Everything is stored under keys that begin with a random name below the prefix, and removed at the end, also after a
failure or an interrupt. No other key is read or written.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, unquote_plus

from attrs import define, evolve, field

from partwise.backends._http.http1 import Response
from partwise.backends._http.option_headers import RequestKind
from partwise.backends._http.signed_client import SignedRequest
from partwise.backends._http.xml import BadDocument, CompleteDocument, parse_initiated, parse_versions
from partwise.backends._http.xml import parse_uploads as parse_raw_uploads
from partwise.backends.s3.backend import S3Backend
from partwise.backends.s3.probe import ALGORITHMS, PART_SIZES, ChecksumFacts, Observations, Verdict, judge, table
from partwise.backends.s3.responses import READER, checksum_header
from partwise.backends.s3.signing import PAYLOAD_HEADER
from partwise.backends.s3.urls import parse_url
from partwise.backends.s3.xml import is_error, parse_parts
from partwise.checksums import CRC32C, Checksum
from partwise.errors import (
    BackendError,
    ClockSkewed,
    CredentialsExpired,
    InvalidInput,
    PartwiseError,
)
from partwise.model import KIB, ObjectOptions, UploadedPart

#: Calls a function with the retries of the program; the text says what it does.
Caller = Callable[[Callable[[], Any], str], Any]

#: Seconds that the response to a complete request may take.
_COMPLETE_SECONDS = 600.0

_CONTENT = b"partwise probe\n"
_TRANSIENT_4XX = frozenset({408, 425, 429})

#: More pages than that are not a list of three uploads.
_PAGES_MAX = 8


@define(frozen=True)
class Refusal:
    """A response that refuses a request for good."""

    error: BackendError

    @property
    def is_precondition(self) -> bool:
        """Whether a condition was not met."""
        return self.error.status in (409, 412) or self.error.code in (
            "PreconditionFailed",
            "ConditionalRequestConflict",
        )

    @property
    def says_nothing(self) -> bool:
        """Whether the request was denied, so that it shows nothing about the storage."""
        return self.error.status in (401, 403)


@define
class Leftovers:
    """What a probe has made, and what could not be removed."""

    keys: set[str] = field(factory=set)
    uploads: set[tuple[str, str]] = field(factory=set)
    remaining: list[str] = field(factory=list)  # descriptions, for messages


class LockedBucket(PartwiseError):
    """Objects in the bucket can't be deleted for some time, so nothing was stored."""


class _ProbeBackend(S3Backend):
    """A backend that sends single requests, and returns refusals as values."""

    def ask(
        self,
        operation: str,
        method: str,
        key: str | None,
        *,
        query: Sequence[tuple[str, str | None]] = (),
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Response | Refusal:
        """
        Send a request.

        Raises:
            BackendError: it failed, and may succeed later; or the storage could not be reached.
        """
        sent = {**self._request_headers(RequestKind.OTHER), **(headers or {})}
        if body is not None:
            sent[PAYLOAD_HEADER] = hashlib.sha256(body).hexdigest()
        chunks, length = ((), None) if body is None else ((body,), len(body))
        request = SignedRequest(operation, method, key, tuple(query), sent, chunks, length)
        try:
            seconds = _COMPLETE_SECONDS if method == "POST" else None
            response, context = self._client.send(request, (200, 204), response_seconds=seconds)
            if is_error(response.body):
                raise self._client.failure(response, operation, context)
        except (ClockSkewed, CredentialsExpired):
            raise
        except BackendError as error:
            status = error.status or 0
            refused = 400 <= status < 500 and status not in _TRANSIENT_4XX
            if refused or status == 501 or (status == 200 and not error.retryable):
                return Refusal(error)
            raise
        return response


class Prober:
    """
    Probes the storage behind the URL of a bucket or prefix.

    Args:
        url: ``s3://bucket/prefix``. The prefix is that of a folder: a slash is added.
        settings: as for `partwise.backends.s3.open_url`.
        call: makes requests with retries.
        report: is called with what is tried next.
    """

    def __init__(self, url: str, settings: Mapping[str, Any], call: Caller, report: Callable[[str], None]) -> None:
        bucket, prefix, given = parse_url(url, settings)
        self._opened = self._backend = _ProbeBackend(bucket, **given)
        self._call = call
        self._report = report
        self._token = f"partwise-probe-{secrets.token_hex(8)}"
        self._folder = f"{prefix.rstrip('/')}/{self._token}/".lstrip("/")
        self._made = Leftovers()
        self._versioned: bool | None = None
        #: Whether objects have version ids; where keeping versions was suspended, it is "null".
        self._has_version_ids: bool | None = None
        #: How many requests were sent, and how many bytes in their bodies.
        self.requests = self.bytes_sent = 0

    @property
    def backend(self) -> S3Backend:
        """The backend that the URL and the settings name."""
        return self._backend

    def bind(self, options: ObjectOptions) -> None:
        """Send the options of every request, such as who pays for it, from now on."""
        self._backend = self._opened.with_request_options(options)

    def close(self) -> None:
        """Close the connections."""
        self._opened.close()

    # --- the probe ---------------------------------------------------------------------------------------------------

    def check_lock(self) -> None:
        """
        Refuse a bucket that keeps its objects for some time.

        Raises:
            LockedBucket: the bucket has a default retention. Nothing was stored.
            BackendError: the bucket can't be asked.
        """
        asked = self._ask("reading the object lock of the bucket", "GET", None, [("object-lock", None)])
        if isinstance(asked, Response) and b"<DefaultRetention>" in asked.body:
            raise LockedBucket(
                f"{self._backend.location} has a default retention: what a probe stores there can't be deleted before"
                " it ends; nothing was stored",
                hint="Use another bucket of the same storage, or {yes} to leave some ten objects of a few bytes, and"
                " one of 10 MiB",
            )

    def run(self) -> Observations:
        """
        Make all requests, and return what they show.

        Call `remove` afterwards in any case.

        Raises:
            BackendError: the storage can't be reached, or refuses what every upload needs.
        """
        self._report("objects")
        etag, etag_is_md5, goog = self._object()
        self._report("checksums")
        checksums = {}
        for algorithm in ALGORITHMS:
            with suppress(InvalidInput):  # the package for it is not installed
                checksums[algorithm.name] = self._checksums(algorithm, *_right_and_wrong(algorithm))
        self._report("conditions")
        put, complete = self._put_conditions(etag), self._complete_conditions()
        self._report("sizes of parts")
        smallest, equal = self._sizes()
        self._report("lists and aborts")
        return Observations(
            checksums=checksums,
            reports_goog_hash=goog,
            put_conditions=put,
            complete_conditions=complete,
            min_part_size=smallest,
            equal_part_sizes=equal,
            etag_is_md5=etag_is_md5,
            versioned=self._versioned,
            **self._lists(),
        )

    def remove(self) -> list[str]:
        """
        Abort the uploads and delete the objects of the probe.

        Return what could not be removed, as text for people.
        """
        made = self._made
        if not made.keys:
            return []
        for key in sorted(made.keys):
            with suppress(BackendError, BadDocument):
                made.uploads |= {(key, upload_id) for upload_id in self._uploads_of(key)}
        for key, upload_id in sorted(made.uploads):
            self._remove(f"the upload {upload_id} of {key}", key, [("uploadId", upload_id)])
        # Where versions are kept, deleting a key adds a mark, and deletes nothing.
        versions = [] if self._has_version_ids is False else self._versions()
        for key, version in versions:
            self._remove(f"the version {version} of {key}", key, [("versionId", version)])
        if not self._has_version_ids and not versions:
            for key in sorted(made.keys):
                self._remove(key, key, ())
        return made.remaining

    def _remove(self, what: str, key: str, query: Sequence[tuple[str, str | None]]) -> None:
        try:
            removed = self._ask(f"removing {what}", "DELETE", key, query)
        except BackendError:
            self._made.remaining.append(what)
            return
        if isinstance(removed, Refusal) and removed.error.status != 404:
            self._made.remaining.append(what)

    def _versions(self) -> list[tuple[str, str]]:
        """
        Return the versions of the objects of the probe.

        If they can't be listed, they remain.
        """
        try:
            listed = self._ask("listing versions", "GET", None, [("versions", None), ("prefix", self._folder)])
            found = [] if isinstance(listed, Refusal) else parse_versions(listed.body)
        except (BackendError, BadDocument):
            found = []
        own = [(key, version) for key, version in found if key in self._made.keys and version]
        if not own and self._has_version_ids:
            self._made.remaining.append(f"old versions of the objects below {self._folder}")
        return own

    def judge(self, observed: Observations) -> Verdict:
        """Return which dialect fits what was observed."""
        return judge(observed, self._backend.dialect.name)

    def table(self, observed: Observations) -> Sequence[tuple[str, str]]:
        """Return the observations as rows of text."""
        return table(observed)

    # --- requests ----------------------------------------------------------------------------------------------------

    def _ask(self, operation: str, method: str, key: str | None, query: Any = (), **more: Any) -> Response | Refusal:
        def attempt() -> Response | Refusal:
            self.requests += 1
            self.bytes_sent += len(more.get("body") or b"")
            return self._backend.ask(f"{operation} (probe)", method, key, query=query, **more)

        response: Response | Refusal = self._call(attempt, operation)
        return response

    def _key(self, name: str) -> str:
        key = f"{self._folder}{name}"
        self._made.keys.add(key)  # before anything is stored, since a response may be lost
        return key

    def _put(self, key: str, headers: Mapping[str, str], body: bytes = _CONTENT) -> Response | Refusal:
        return self._ask(f"storing {key}", "PUT", key, headers=headers, body=body)

    def _head(self, key: str) -> Mapping[str, str]:
        found = self._ask(f"looking up {key}", "HEAD", key, headers={"x-amz-checksum-mode": "ENABLED"})
        return {} if isinstance(found, Refusal) else found.headers

    def _initiate(self, key: str, headers: Mapping[str, str] | None = None) -> str | Refusal:
        begun = self._ask(f"initiating {key}", "POST", key, [("uploads", None)], headers=headers, body=b"")
        if isinstance(begun, Refusal):
            return begun
        upload_id = READER.parse(begun, parse_initiated, f"initiating {key}")
        self._made.uploads.add((key, upload_id))
        return upload_id

    def _begin(self, key: str) -> str:
        """
        Initiate an upload without further headers.

        If the storage refuses that, its error is raised.
        """
        begun = self._initiate(key)
        if isinstance(begun, Refusal):
            raise begun.error
        return begun

    def _part(
        self, key: str, upload_id: str, number: int, headers: Mapping[str, str], body: bytes = _CONTENT
    ) -> Response | Refusal:
        query = [("partNumber", str(number)), ("uploadId", upload_id)]
        return self._ask(f"part {number} of {key}", "PUT", key, query, headers=headers, body=body)

    def _send_part(self, key: str, upload_id: str, number: int, body: bytes = _CONTENT) -> UploadedPart:
        """Send a part that any storage accepts; raise its error if it does not."""
        sent = self._part(key, upload_id, number, {"Content-MD5": _md5(body)}, body)
        if isinstance(sent, Refusal):
            raise sent.error
        return UploadedPart(number, len(body), READER.etag(sent, f"part {number} of {key}"))

    def _complete(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], headers: Mapping[str, str] | None = None
    ) -> Response | Refusal:
        document = b"".join(CompleteDocument(parts))
        given = {"Content-Type": "application/xml", **(headers or {})}
        done = self._ask(f"completing {key}", "POST", key, [("uploadId", upload_id)], headers=given, body=document)
        if isinstance(done, Response):
            self._made.uploads.discard((key, upload_id))
        return done

    # --- objects -----------------------------------------------------------------------------------------------------

    def _object(self) -> tuple[str, bool, bool]:
        """
        Store an object, delete it, and store it again.

        Return its ETag, whether that is its MD5, and whether a CRC-32C was reported as ``x-goog-hash``.
        """
        key = self._key("object")
        stored = self._put(key, {"Content-MD5": _md5(_CONTENT)})
        if isinstance(stored, Refusal):
            self._made.keys.clear()  # nothing was stored
            raise stored.error
        version = stored.headers.get("x-amz-version-id", "")
        self._versioned, self._has_version_ids = version not in ("", "null"), version != ""
        # Without the permission to delete, as little as possible is left behind.
        if not self._has_version_ids:
            removed = self._ask(f"deleting {key}", "DELETE", key)
            if isinstance(removed, Refusal):
                raise removed.error
            stored = self._put(key, {"Content-MD5": _md5(_CONTENT)})
            if isinstance(stored, Refusal):
                raise stored.error
        etag = READER.etag(stored, f"storing {key}")
        expected = f"crc32c={CRC32C.to_base64(CRC32C.compute(_CONTENT))}"
        goog = expected in f"{stored.headers.get('x-goog-hash', '')},{self._head(key).get('x-goog-hash', '')}"
        return etag, etag == hashlib.md5(_CONTENT, usedforsecurity=False).hexdigest(), goog

    # --- checksums ---------------------------------------------------------------------------------------------------

    def _checksums(self, algorithm: Checksum, right: str, wrong: str) -> ChecksumFacts:
        header = checksum_header(algorithm)
        key = self._key(f"checksum-{algorithm.name}")
        stored = self._put(key, {header: right})
        reports = None
        if isinstance(stored, Response):
            reports = right in (self._head(key).get(header), stored.headers.get(header))
        elif not stored.says_nothing:
            reports = False
        refuses = _refuses(self._put(key, {header: wrong})) if isinstance(stored, Response) else reports
        return self._part_checksums(
            algorithm, right, wrong, ChecksumFacts(refuses_wrong_object=refuses, reports_object=reports)
        )

    def _part_checksums(self, algorithm: Checksum, right: str, wrong: str, facts: ChecksumFacts) -> ChecksumFacts:
        """Return the facts with those about an upload of one part."""
        header, kind = checksum_header(algorithm), {"x-amz-checksum-type": "FULL_OBJECT"}
        key = self._key(f"checksum-{algorithm.name}-parts")
        announced = {"x-amz-checksum-algorithm": algorithm.name.upper(), **kind}
        upload_id = self._initiate(key, announced)
        if isinstance(upload_id, Refusal):
            known = None if upload_id.says_nothing else False
            return _with(facts, reports_whole=known)
        bare = self._part(key, upload_id, 1, {})
        refuses = _refuses(self._part(key, upload_id, 1, {header: wrong}))
        sent = self._part(key, upload_id, 1, {header: right})
        needs = None if isinstance(sent, Refusal) else _refuses(bare)
        if isinstance(sent, Refusal):
            return _with(facts, refuses_wrong_part=None, reports_part=False, reports_whole=False)
        part = UploadedPart(1, len(_CONTENT), READER.etag(sent, f"part 1 of {key}"))
        lists = self._lists_checksum(key, upload_id, algorithm, right)
        done = self._complete(key, upload_id, [part], {header: wrong, **kind})
        refuses_whole = _refuses(done)
        if isinstance(done, Refusal):
            done = self._complete(key, upload_id, [part], {header: right, **kind})
        if isinstance(done, Refusal):
            done = self._complete(key, upload_id, [part])  # it refuses every checksum here
            refuses_whole = False if isinstance(done, Response) else None
        whole = None
        if isinstance(done, Response):
            found = self._head(key)
            whole = found.get(header) == right and found.get("x-amz-checksum-type", "FULL_OBJECT") == "FULL_OBJECT"
        return _with(
            facts,
            refuses_wrong_part=refuses,
            reports_part=sent.headers.get(header) == right,
            lists_parts=lists,
            refuses_wrong_whole=refuses_whole,
            reports_whole=whole,
            needs_part=needs,
        )

    def _lists_checksum(self, key: str, upload_id: str, algorithm: Checksum, right: str) -> bool | None:
        listed = self._ask(f"listing the parts of {key}", "GET", key, [("uploadId", upload_id)])
        if isinstance(listed, Refusal):
            return None
        name = f"Checksum{algorithm.name.upper()}"
        return f"<{name}>{right}</{name}>".encode() in listed.body

    # --- conditions --------------------------------------------------------------------------------------------------

    def _put_conditions(self, etag: str) -> dict[str, bool | None]:
        key = self._key("object")
        digest = {"Content-MD5": _md5(_CONTENT)}
        forbid = _honoured(self._put(key, {**digest, "If-None-Match": "*"}))
        match = _honoured(self._put(key, {**digest, "If-Match": '"00000000000000000000000000000000"'}))
        if match:
            match = isinstance(self._put(key, {**digest, "If-Match": f'"{etag}"'}), Response)
        return {"forbid_overwrite": forbid, "if_match": match}

    def _complete_conditions(self) -> dict[str, bool | None]:
        key = self._key("condition")
        found: dict[str, bool | None] = {}
        stored = self._put(key, {"Content-MD5": _md5(_CONTENT)})
        if isinstance(stored, Refusal):
            return {}
        wrong = {"If-None-Match": "*"}, {"If-Match": '"00000000000000000000000000000000"'}
        for option, headers in zip(("forbid_overwrite", "if_match"), wrong, strict=True):
            upload_id = self._begin(key)
            part = self._send_part(key, upload_id, 1)
            found[option] = _honoured(self._complete(key, upload_id, [part], headers))
            if option == "if_match" and found[option]:
                right = {"If-Match": f'"{READER.etag(stored, f"storing {key}")}"'}
                found[option] = isinstance(self._complete(key, upload_id, [part], right), Response)
        return found

    # --- sizes -------------------------------------------------------------------------------------------------------

    def _sizes(self) -> tuple[int | None, bool | None]:
        """
        Return the smallest size of parts, and whether they must be equal.

        Each size is tried with a second part that is larger, and if that is refused, with one that is equal.
        """
        key = self._key("sizes")
        for size in PART_SIZES:
            for second in (size + KIB, size):
                upload_id = self._begin(key)
                done = self._complete(key, upload_id, list(self._parts_of(key, upload_id, (size, second, KIB))))
                if isinstance(done, Response):
                    return size, second == size
                if done.error.code == "EntityTooSmall":
                    break
        return None, None

    def _parts_of(self, key: str, upload_id: str, sizes: Sequence[int]) -> Iterator[UploadedPart]:
        for number, size in enumerate(sizes, 1):
            try:
                yield self._send_part(key, upload_id, number, bytes(size))
            except BackendError as error:
                if error.status is None or not 400 <= error.status < 500:
                    raise
                return  # a storage may look at the size when the part arrives; without this part, complete shows it

    # --- lists -------------------------------------------------------------------------------------------------------

    def _lists(self) -> dict[str, Any]:
        keys = [self._key(name) for name in ("list-b", "list-a", "list +c")]
        uploads = {key: self._begin(key) for key in keys}
        found = self._raw_keys([("prefix", f"{self._folder}list"), ("encoding-type", "url")])
        exact = found or self._raw_keys([("prefix", keys[2]), ("encoding-type", "url")])
        plus = _encodes_plus(exact or [])
        decoded = [(unquote_plus if plus else unquote)(key) for key in found or []]
        lists = None if found is None else set(decoded) == set(keys)
        key = keys[1]
        for number in (1, 2):
            self._send_part(key, uploads[key], number)
        return {
            "lists_uploads": lists,
            "uploads_ordered": decoded == sorted(decoded) if lists else None,
            "uploads_paged": self._uploads_paged(keys) if lists else None,
            "plus_is_space": plus,
            "parts_paged": self._parts_paged(key, uploads[key]),
            "aborts": self._aborts(key, uploads[key]),
        }

    def _raw_keys(self, query: list[tuple[str, str]]) -> list[str] | None:
        """
        Return the keys of a list of uploads as they are encoded.

        It is None if the list was denied.
        """
        listed = self._ask("listing uploads", "GET", None, [("uploads", None), *query])
        if isinstance(listed, Refusal):
            return None if listed.says_nothing else []
        try:
            page = parse_raw_uploads(listed.body, lambda text, errors: text)  # noqa: ARG005  # not decoded
        except BadDocument:
            return []
        return [one.key for one in page.entries if self._token in one.key]

    def _uploads_of(self, key: str) -> list[str]:
        listed = self._ask("listing uploads", "GET", None, [("uploads", None), ("prefix", key)])
        if isinstance(listed, Refusal):
            return []
        return [one.upload_id for one in parse_raw_uploads(listed.body).entries if one.key == key]

    def _uploads_paged(self, keys: Sequence[str]) -> bool | None:
        seen: list[str] = []
        marker: tuple[str, str] = ("", "")
        for _ in range(_PAGES_MAX):
            query = [("uploads", None), ("prefix", f"{self._folder}list"), ("max-uploads", "1")]
            query += [
                (name, value) for name, value in zip(("key-marker", "upload-id-marker"), marker, strict=True) if value
            ]
            listed = self._ask("listing uploads", "GET", None, query)
            if isinstance(listed, Refusal):
                return None
            try:
                page = parse_raw_uploads(listed.body)
            except BadDocument:
                return False
            seen += [one.key for one in page.entries]
            if page.next_marker is None:
                break
            marker = page.next_marker
        return sorted(seen) == sorted(keys)

    def _parts_paged(self, key: str, upload_id: str) -> bool | None:
        seen: list[int] = []
        marker = 0
        for _ in range(_PAGES_MAX):
            query = [("uploadId", upload_id), ("max-parts", "1"), ("part-number-marker", str(marker))]
            listed = self._ask(f"listing the parts of {key}", "GET", key, query)
            if isinstance(listed, Refusal):
                return None
            try:
                page = parse_parts(listed.body, None)
            except BadDocument:
                return False
            seen += [part.part_number for part in page.entries]
            if page.next_marker is None:
                break
            marker = page.next_marker
        return seen == [1, 2]

    def _aborts(self, key: str, upload_id: str) -> bool | None:
        aborted = self._ask(f"aborting {key}", "DELETE", key, [("uploadId", upload_id)])
        if isinstance(aborted, Refusal) and aborted.error.status != 404:
            return None if aborted.says_nothing else False
        listed = self._ask(f"listing the parts of {key}", "GET", key, [("uploadId", upload_id)])
        if not isinstance(listed, Refusal):
            return False
        if listed.error.status != 404:
            return None
        self._made.uploads.discard((key, upload_id))
        return True


def _with(facts: ChecksumFacts, **more: bool | None) -> ChecksumFacts:
    return evolve(facts, **more)


def _refuses(response: Response | Refusal) -> bool | None:
    """Return whether a request that is wrong was refused."""
    if isinstance(response, Response):
        return False
    return None if response.says_nothing else True


def _honoured(response: Response | Refusal) -> bool | None:
    """Return whether a request whose condition is not met was refused for that."""
    if isinstance(response, Response):
        return False
    return None if response.says_nothing else response.is_precondition


def _encodes_plus(keys: Sequence[str]) -> bool | None:
    """
    Return whether a plus in a list stands for a space.

    It is None if no plus shows that: both are percent-encoded, or there is no such key.
    """
    names = {key.rpartition("list")[2].lower() for key in keys}
    return True if "+%2bc" in names else False if "%20+c" in names else None


def _md5(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def _right_and_wrong(algorithm: Checksum) -> tuple[str, str]:
    value = algorithm.compute(_CONTENT)
    return algorithm.to_base64(value), algorithm.to_base64(value ^ 1)


def open_prober(url: str, settings: Mapping[str, Any], call: Caller, report: Callable[[str], None]) -> Prober:
    """Return a prober for a URL; for its arguments and errors see `Prober`."""
    return Prober(url, settings, call, report)
