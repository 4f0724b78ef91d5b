"""
A bucket in the memory of this process, for testing programs that upload.

It is as strict as a real storage, so that a test against it is meaningful: it refuses parts below the minimum size,
outdated parts, a wrong order, unsupported options, and the id of an upload that has ended. `snapshot` copies the
storage at one instant, which is what the next process finds after a crash. `read`, `keys`, `describe`, `uploads` and
`calls` inspect the storage without the protocol.
"""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NoReturn, TypeVar
from urllib.parse import quote, unquote

from attrs import define, evolve, field, fields

from partwise._closing import Closing
from partwise._validation import brief, brief_url, check_callable, check_string, check_type, is_integer
from partwise.backends._argument_checks import (
    check_call,
    check_part,
    check_parts,
    check_put,
    reject_settings,
)
from partwise.backends.oss.options import OSSOptions, callback_of
from partwise.bodies import exact_chunks
from partwise.errors import (
    BackendClosed,
    BackendError,
    CallbackError,
    InvalidInput,
    InvalidKey,
    ObjectExists,
    PreconditionFailed,
    UnsupportedOption,
    UploadNotFound,
    UploadUnusable,
)
from partwise.model import KIB, Capabilities, ObjectOptions, PartLimits, PendingUpload, StoredObject, UploadedPart, utc
from partwise.protocols import Body

#: The limits of Alibaba Cloud OSS, which are stricter than those of most storages.
DEFAULT_LIMITS = PartLimits(min_part_size=100 * KIB)

#: Every option of any storage and of OSS, except a callback, which needs a server to call. As in OSS, some act late.
DEFAULT_CAPABILITIES = Capabilities(
    options=frozenset(f.name for f in fields(OSSOptions)) - {"callback"},
    late_options=frozenset(("acl", "forbid_overwrite", "if_match", "traffic_limit", "request_payer")),
    option_type=OSSOptions,
    part_checksums=True,
    object_checksums=True,
)

_KEY_BYTES_MAX = 1023

_Entry = TypeVar("_Entry")


@define(frozen=True)
class MemoryUpload:
    """
    A pending upload.

    Args:
        key: the key of the object.
        upload_id: the upload id.
        initiated: when it was initiated, by the backend's clock.
        options: the options given to `initiate_upload`.
        parts: the stored parts, by number.
    """

    key: str
    upload_id: str
    initiated: datetime
    options: ObjectOptions
    parts: Mapping[int, UploadedPart]


@define(frozen=True)
class _StoredPart:
    data: bytes
    md5: bytes
    part: UploadedPart


@define(frozen=True)
class _Object:
    data: bytes
    stored: StoredObject
    options: ObjectOptions


@define
class _Upload:
    key: str
    upload_id: str
    initiated: datetime
    options: ObjectOptions
    parts: dict[int, _StoredPart] = field(factory=dict)
    receiving: int = 0  # parts that are arriving now

    def copy(self) -> _Upload:
        return evolve(self, parts=dict(self.parts), receiving=0)

    def uploaded_parts(self) -> dict[int, UploadedPart]:
        return {number: self.parts[number].part for number in sorted(self.parts)}


class _Storage:
    """What all handles on one bucket share. Hold `lock` while reading or changing it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.Lock()
        self.objects: dict[str, _Object] = {}
        self.uploads: dict[str, _Upload] = {}
        self.initiated = 0
        self.calls: Counter[str] = Counter()

    @property
    def location(self) -> str:
        """The bucket as a URL."""
        return f"memory://{quote(self.name, safe='')}"

    def copy(self) -> _Storage:
        copy = _Storage(self.name)
        with self.lock:
            copy.objects = dict(self.objects)
            copy.uploads = {upload_id: upload.copy() for upload_id, upload in self.uploads.items()}
            copy.initiated = self.initiated
        return copy

    def new_upload_id(self) -> str:
        # Derived from the name and a count: reproducible for a bucket of a given name, so that a failure can be
        # replayed, and different from the ids in other buckets.
        self.initiated += 1
        return hashlib.sha256(f"{self.name}\n{self.initiated}".encode()).hexdigest()[:32].upper()

    def upload(self, key: str, upload_id: str) -> _Upload:
        upload = self.uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise UploadNotFound(
                f"{self.location} has no upload {upload_id} of {key!r}: it was completed or aborted, or never existed",
                code="NoSuchUpload",
            )
        return upload

    def end_uploads(self, key: str) -> None:
        """Drop every upload of a key."""
        self.uploads = {upload_id: upload for upload_id, upload in self.uploads.items() if upload.key != key}


class MemoryBackend(Closing):
    """
    A bucket in memory that behaves like a real one.

    Args:
        name: the name in `location`, which is ``memory://NAME``; None generates a unique one. Two backends of one name
            are two separate buckets: for a second handle on the same storage call `handle`.
        limits: its limits; by default those of Alibaba Cloud OSS (parts from 100 KiB to 5 GiB, 10,000 of them).
        capabilities: what it supports; by default everything except callbacks. Pass others to emulate another storage:
            it then lists and aborts nothing, refuses parts in another order or with other bytes, or ends the other
            uploads of a key, as they say.
        page_size: the number of entries in a page of `list_parts` and `list_uploads`.
        clock: the storage's clock, in seconds since 1970.
        callback: emulates the application server of the option `callback`: it is called with the stored object, and
            returns the `callback_response`. If it raises, the object stays stored, and a `CallbackError` is raised from
            its exception. Without it the option is not supported.

    Raises:
        InvalidInput: the name is empty, `page_size` is below 1, or `capabilities` include callbacks and there is no
            `callback`.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        limits: PartLimits | None = None,
        capabilities: Capabilities | None = None,
        page_size: int = 1000,
        clock: Callable[[], float] = time.time,
        callback: Callable[[StoredObject], bytes] | None = None,
    ) -> None:
        if name == "":
            raise InvalidInput(
                "the name of a bucket in memory must not be empty", hint="Pass no name to generate a unique one"
            )
        if name is not None:
            check_string("the name of a bucket in memory", name)
        if not is_integer(page_size) or page_size < 1:
            raise InvalidInput(f"page_size must be a positive integer, not {brief(page_size)}")
        if limits is not None:
            check_type("limits", limits, PartLimits, "PartLimits or None")
        if capabilities is not None:
            check_type("capabilities", capabilities, Capabilities, "Capabilities or None")
        check_callable("clock", clock)
        if callback is not None:
            check_callable("callback", callback)
        if capabilities is None:
            extra: frozenset[str] = frozenset() if callback is None else frozenset({"callback"})
            default = DEFAULT_CAPABILITIES
            capabilities = evolve(default, options=default.options | extra, late_options=default.late_options | extra)
        elif "callback" in capabilities.options and callback is None:
            raise InvalidInput(
                "the capabilities include callbacks, but no function emulates the server", hint="Pass {callback}"
            )
        self._limits = limits or DEFAULT_LIMITS
        self._capabilities = capabilities
        self._page_size = page_size
        self._clock = clock
        self._callback = callback
        self._storage = _Storage(name or uuid.uuid4().hex)
        self._closed = False

    # --- properties --------------------------------------------------------------------------------------------------

    @property
    def location(self) -> str:
        """``memory://NAME``, the same for every handle and every snapshot of this bucket."""
        return self._storage.location

    @property
    def limits(self) -> PartLimits:
        """As passed to the constructor."""
        return self._limits

    @property
    def capabilities(self) -> Capabilities:
        """As passed to the constructor."""
        return self._capabilities

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.location}{' closed' if self._closed else ''}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a MemoryBackend can't be pickled: its bytes are in the memory of this process, so use threads")

    def close(self) -> None:
        """Close this handle; others on the same storage stay open. Closing twice is fine."""
        self._closed = True

    # --- a multipart upload ------------------------------------------------------------------------------------------

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        """Start a multipart upload; see `MultipartBackend.initiate_upload`."""
        self._check_call("initiate_upload", key=key, options=options)
        with self._storage.lock:
            self._check_overwrite(key, options)
            self._end_other_uploads(key)
            upload = _Upload(key, self._storage.new_upload_id(), utc(self._clock()), options)
            self._storage.uploads[upload.upload_id] = upload
            return upload.upload_id

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        """
        Store one part; see `MultipartBackend.upload_part`.

        Raises:
            InvalidInput: the part number or the size exceeds `limits`.
            UploadUnusable: by `capabilities` the part can't follow those that are stored, or is stored with other bytes
                and can't be replaced. It is not stored.
            BackendError: another part is arriving, and by `capabilities` one arrives at a time.
        """
        self._check_call("upload_part", key=key, upload_id=upload_id, part_number=part_number, body=body)
        check_part(part_number, len(body), self._limits)
        with self._storage.lock:
            upload = self._storage.upload(key, upload_id)
            if self._capabilities.sequential:
                _check_sequence(upload, part_number)
            upload.receiving += 1
        try:
            data = _read_all(exact_chunks(body, f"part {part_number} of {key!r}"))
        finally:
            with self._storage.lock:
                upload.receiving -= 1
        md5 = _md5(data)
        checksum = self._capabilities.checksum.compute(data) if self._capabilities.part_checksums else None
        part = UploadedPart(part_number, len(data), md5.hex().upper(), checksum)
        with self._storage.lock:
            # Looked up again, because the upload may have been aborted or completed while the body was read.
            parts = self._storage.upload(key, upload_id).parts
            is_fixed = not self._capabilities.replaces_parts or (
                self._capabilities.sequential and part_number < max(parts, default=0)
            )
            if is_fixed and part_number in parts and parts[part_number].data != data:
                raise UploadUnusable(
                    f"part {part_number} of {key!r} is stored with other bytes, and can't be replaced any more",
                    code="PartExists",
                )
            parts[part_number] = _StoredPart(data, md5, part)
        return part

    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        """List the stored parts, page by page; see `MultipartBackend.list_parts`."""
        self._check_call("list_parts", key=key, upload_id=upload_id)
        if not self._capabilities.lists_parts:
            raise UnsupportedOption(f"{self.location} does not list the parts of an upload")

        def following(after: UploadedPart | None) -> list[UploadedPart]:
            self._check_open()
            with self._storage.lock:
                stored = self._storage.upload(key, upload_id).uploaded_parts()
            marker = 0 if after is None else after.part_number
            return [part for number, part in stored.items() if number > marker]

        return _paged(following, self._page_size)

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        """Make the object from these parts; see `MultipartBackend.complete_upload`."""
        self._check_call("complete_upload", key=key, upload_id=upload_id, parts=parts, options=options)
        with self._storage.lock:
            upload = self._storage.upload(key, upload_id)
            self._check_overwrite(key, options)
            check_parts(
                key, parts, upload.uploaded_parts(), self._limits, equal_part_sizes=self._capabilities.equal_part_sizes
            )
            stored_parts = [upload.parts[part.part_number] for part in parts]
            etag = f"{_etag(b''.join(part.md5 for part in stored_parts))}-{len(parts)}"
            data = b"".join(part.data for part in stored_parts)
            stored = self._store(key, data, etag, _final_options(upload.options, options, self._capabilities))
            del self._storage.uploads[upload_id]
            self._end_other_uploads(key)
        return self._call_back(stored, options)

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Drop an upload and its parts; see `MultipartBackend.abort_upload`."""
        self._check_call("abort_upload", key=key, upload_id=upload_id)
        if self._capabilities.aborts:
            self.drop_upload(key, upload_id)

    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        """List the pending uploads, page by page; see `MultipartBackend.list_uploads`."""
        self._check_call("list_uploads", prefix=prefix)
        if not self._capabilities.lists_uploads:
            raise UnsupportedOption(f"{self.location} does not list pending uploads")

        def following(after: PendingUpload | None) -> list[PendingUpload]:
            self._check_open()
            with self._storage.lock:
                pending = sorted(
                    (
                        PendingUpload(upload.key, upload.upload_id, upload.initiated)
                        for upload in self._storage.uploads.values()
                        if upload.key.startswith(prefix)
                    ),
                    key=_sort_key,
                )
            start = 0 if after is None else bisect_right(pending, _sort_key(after), key=_sort_key)
            return pending[start:]

        return _paged(following, self._page_size)

    # --- objects -----------------------------------------------------------------------------------------------------

    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        """
        Store a whole object; see `MultipartBackend.put_object`.

        Raises:
            InvalidInput: the body is larger than `limits.max_put_size`.
        """
        self._check_call("put_object", key=key, body=body, options=options)
        check_put(key, len(body), self._limits)
        data = _read_all(exact_chunks(body, repr(key)))
        with self._storage.lock:
            self._check_overwrite(key, options)
            stored = self._store(key, data, _etag(data), options)
            self._end_other_uploads(key)
        return self._call_back(stored, options)

    def head_object(self, key: str) -> StoredObject | None:
        """Describe an object; see `MultipartBackend.head_object`."""
        self._check_call("head_object", key=key)
        with self._storage.lock:
            found = self._storage.objects.get(key)
        return None if found is None else evolve(found.stored, metadata=found.options.metadata)

    # --- for tests ---------------------------------------------------------------------------------------------------

    def handle(self) -> MemoryBackend:
        """Return a second handle on the same storage, as another process would have."""
        return self._on(self._storage)

    def snapshot(self) -> MemoryBackend:
        """
        Return a copy of the storage at this instant, with the same `location`.

        Changes to one do not affect the other. Continue with the copy to test what a process finds after a crash.
        """
        return self._on(self._storage.copy())

    def drop_upload(self, key: str, upload_id: str) -> None:
        """
        Drop an upload and its parts, as the rule of a bucket does after some days.

        It is dropped whatever `capabilities` say of aborts. Nothing happens if there is no upload of this id.
        """
        with self._storage.lock:
            upload = self._storage.uploads.get(upload_id)
            if upload is not None and upload.key == key:
                del self._storage.uploads[upload_id]

    def read(self, key: str) -> bytes:
        """Return the bytes of an object; raise KeyError if there is none."""
        with self._storage.lock:
            return self._storage.objects[key].data

    def keys(self) -> list[str]:
        """Return the keys of all objects, sorted."""
        with self._storage.lock:
            return sorted(self._storage.objects)

    def describe(self, key: str) -> ObjectOptions | None:
        """Return the options of an object; None if there is no such object."""
        with self._storage.lock:
            found = self._storage.objects.get(key)
        return None if found is None else found.options

    @property
    def uploads(self) -> dict[str, MemoryUpload]:
        """The pending uploads, by id."""
        with self._storage.lock:
            return {
                upload_id: MemoryUpload(
                    upload.key, upload_id, upload.initiated, upload.options, upload.uploaded_parts()
                )
                for upload_id, upload in self._storage.uploads.items()
            }

    @property
    def calls(self) -> Counter[str]:
        """
        The number of calls of each method of the protocol, by name, on any handle.

        Refused calls count.

        This is the counter itself: ``backend.calls.clear()`` resets it.
        """
        return self._storage.calls

    # --- inside ------------------------------------------------------------------------------------------------------

    def _on(self, storage: _Storage) -> MemoryBackend:
        other = MemoryBackend.__new__(MemoryBackend)  # the constructor has checked these
        vars(other).update(vars(self), _storage=storage, _closed=False)
        return other

    def _check_call(self, operation: str, **given: object) -> None:
        self._check_open()
        with self._storage.lock:
            self._storage.calls[operation] += 1
        check_call(**given)
        if isinstance(key := given.get("key"), str):
            _check_key(key)
        if isinstance(options := given.get("options"), ObjectOptions):
            options.require_supported_by(self._capabilities, self.location)

    def _check_open(self) -> None:
        if self._closed:
            raise BackendClosed(f"{self.location} was closed", hint="Open it again to continue")

    def _check_overwrite(self, key: str, options: ObjectOptions) -> None:
        if options.forbid_overwrite and key in self._storage.objects:
            raise ObjectExists(
                f"{self.location} has an object {key!r} already, and overwriting is forbidden", code="FileAlreadyExists"
            )
        if options.if_match is not None:
            found = self._storage.objects.get(key)
            if found is None or found.stored.etag != options.if_match:
                now = "there is none" if found is None else f"it has {found.stored.etag}"
                raise PreconditionFailed(
                    f"{self.location} has no object {key!r} with the ETag {options.if_match:.100}: {now}. Nothing was"
                    " changed",
                    code="PreconditionFailed",
                )

    def _end_other_uploads(self, key: str) -> None:
        if self._capabilities.one_upload_per_key:
            self._storage.end_uploads(key)

    def _store(self, key: str, data: bytes, etag: str, options: ObjectOptions) -> StoredObject:
        # The checksum is computed from the bytes of the object, not combined from those of the parts, so that a test
        # can compare it with the engine's combination.
        checksum = self._capabilities.checksum.compute(data) if self._capabilities.object_checksums else None
        stored = StoredObject(key, len(data), etag, checksum)
        self._storage.objects[key] = _Object(data, stored, options)
        return stored

    def _call_back(self, stored: StoredObject, options: ObjectOptions) -> StoredObject:
        callback = callback_of(options)
        if callback is None or self._callback is None:
            return stored
        try:
            response = self._callback(stored)
        except Exception as error:
            raise CallbackError(
                f"{stored.key!r} is stored, but its callback to {callback.url} failed: {error}",
                result=stored,
                code="CallbackFailed",
            ) from error
        return evolve(stored, callback_response=response)


def _check_sequence(upload: _Upload, part_number: int) -> None:
    if upload.receiving:
        raise BackendError(
            f"part {part_number} of {upload.key!r} was sent while another one was arriving", code="InvalidPartOrder"
        )
    last = max(upload.parts, default=0)
    if part_number > last + 1:
        raise UploadUnusable(
            f"part {part_number} of {upload.key!r} was sent after part {last}", code="InvalidPartOrder"
        )


def _paged(fetch: Callable[[_Entry | None], list[_Entry]], page_size: int) -> Iterator[_Entry]:
    """
    Iterate over entries that a storage lists in pages.

    The first page is fetched now, the next ones when needed.

    `fetch` returns the entries that follow a given one (None: the start), as they are when it is called. So entries
    that are added or removed meanwhile neither repeat nor hide any other entry.
    """
    first = fetch(None)

    def entries() -> Iterator[_Entry]:
        rest = first
        while True:
            yield from rest[:page_size]
            if len(rest) <= page_size:
                return
            rest = fetch(rest[page_size - 1])

    return entries()


def _sort_key(pending: PendingUpload) -> tuple[str, str]:
    return pending.key, pending.upload_id


def _read_all(chunks: Iterator[memoryview]) -> bytes:
    # A chunk is only valid until the next one is requested, and join requests all of them first, so each is copied.
    return b"".join(bytes(chunk) for chunk in chunks)


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _etag(data: bytes) -> str:
    return _md5(data).hex().upper()


def _final_options(initiated: ObjectOptions, completed: ObjectOptions, capabilities: Capabilities) -> ObjectOptions:
    """
    The options of an object that is made from parts.

    Those that act late are those given to `complete_upload`; the others are fixed by `initiate_upload`.
    """
    late = capabilities.late_options
    values = {name: getattr(initiated, name) for name in initiated.explicitly_set() - late}
    values |= {name: getattr(completed, name) for name in completed.explicitly_set() & late}
    kinds = (type(initiated), type(completed), capabilities.option_type)
    # Not by `next`: what a signal handler raises while an abandoned generator is closed is lost.
    kind, *_ = [kind for kind in kinds if values.keys() <= {a.name for a in fields(kind)}]
    return kind(**values)


def _check_key(key: str) -> None:
    size = len(key.encode())
    if not 1 <= size <= _KEY_BYTES_MAX:
        raise InvalidKey(f"a key must have from 1 to {_KEY_BYTES_MAX} bytes of UTF-8; {key!r:.60} has {size}")


# --- by URL ----------------------------------------------------------------------------------------------------------

_opened: dict[str, MemoryBackend] = {}
_opened_lock = threading.Lock()


def open_url(url: str, **settings: object) -> tuple[MemoryBackend, str]:
    """
    Open ``memory://name/key``.

    Within one process a name refers to one storage; each call returns a new handle on it.

    Args:
        url: the URL. The key is everything after the name, not decoded; it may be empty.
        settings: only `timeout`, which has no effect.

    Returns:
        The backend and the key.

    Raises:
        InvalidInput: the URL has no name, or there is an unknown setting.
    """
    reject_settings("a bucket in memory", settings)
    scheme, _, rest = url.partition("://")
    quoted, _, key = rest.partition("/")
    name = unquote(quoted)
    if scheme.lower() != "memory" or not name:
        raise InvalidInput(f"{brief_url(url)} does not name a bucket in memory", hint="Write memory://name/key")
    with _opened_lock:
        first = _opened.setdefault(name, MemoryBackend(name))
    return first.handle(), key
