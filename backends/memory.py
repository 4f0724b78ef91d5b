"""
A bucket in this process's memory: the fake on which programs that upload are tested.

It is strict where a real storage is strict, so that a test that passes here has shown something: parts below the
minimum, stale receipts, wrong order, options that are not honoured, an id that is dead. What a real storage leaves to
chance, it leaves open to tests: `snapshot` copies the storage at an instant, which is what the next process finds
after a crash, and the back doors (`read`, `keys`, `describe`, `uploads`, `calls`) look inside without going through the
protocol.
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
from types import TracebackType
from typing import NoReturn, Self, TypeVar
from urllib.parse import quote, unquote

from attrs import define, evolve, field, fields

from partwise._validation import brief, check_callable, check_text, check_type, is_whole
from partwise.backends._argument_checks import check_call, check_part, check_parts, check_put, exact_chunks
from partwise.checksums import crc64
from partwise.errors import (
    BackendClosed,
    CallbackError,
    InvalidInput,
    InvalidKey,
    ObjectExists,
    UnsupportedOption,
    UploadNotFound,
)
from partwise.model import (
    KIB,
    Capabilities,
    ObjectOptions,
    PartLimits,
    PendingUpload,
    StoredObject,
    UploadedPart,
    utc,
)
from partwise.protocols import Body

#: Those of Alibaba Cloud OSS: what fits them fits nearly everywhere.
DEFAULT_LIMITS = PartLimits(min_part_size=100 * KIB)

#: All that an object can be asked for, but a callback, for which somebody must be there to call.
DEFAULT_CAPABILITIES = Capabilities(
    options=frozenset(f.name for f in fields(ObjectOptions)) - {"callback"},
    part_checksums=True,
    object_checksums=True,
)

_KEY_BYTES_MAX = 1023

_Entry = TypeVar("_Entry")


@define(frozen=True)
class MemoryUpload:
    """
    A pending upload, as a test sees it.

    Args:
        key: the object it is for.
        upload_id: its id.
        initiated: when, by the backend's clock.
        options: what was asked for at its start.
        parts: the receipts of the parts that are held, by number.
    """

    key: str
    upload_id: str
    initiated: datetime
    options: ObjectOptions
    parts: Mapping[int, UploadedPart]


@define(frozen=True)
class _Part:
    data: bytes
    md5: bytes
    receipt: UploadedPart


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
    parts: dict[int, _Part] = field(factory=dict)

    def copy(self) -> _Upload:
        return evolve(self, parts=dict(self.parts))

    def receipts(self) -> dict[int, UploadedPart]:
        return {number: self.parts[number].receipt for number in sorted(self.parts)}


class _Storage:
    """What all handles on one bucket share. Whoever reads or changes it holds `lock`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.Lock()
        self.objects: dict[str, _Object] = {}
        self.uploads: dict[str, _Upload] = {}
        self.initiated = 0
        self.calls: Counter[str] = Counter()

    def copy(self) -> _Storage:
        copy = _Storage(self.name)
        with self.lock:
            copy.objects = dict(self.objects)
            copy.uploads = {upload_id: upload.copy() for upload_id, upload in self.uploads.items()}
            copy.initiated = self.initiated
        return copy

    def new_upload_id(self) -> str:
        # Drawn from the name and a count: the same from run to run for a bucket of a given name, so that a failure
        # replays, and never that of an upload in another bucket.
        self.initiated += 1
        return hashlib.sha256(f"{self.name}\n{self.initiated}".encode()).hexdigest()[:32].upper()

    def upload(self, key: str, upload_id: str) -> _Upload:
        upload = self.uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise UploadNotFound(
                f"memory://{self.name} has no upload {upload_id} of {key!r}: it was completed or aborted, or never was",
                code="NoSuchUpload",
            )
        return upload


class MemoryBackend:
    """
    A bucket in memory, with the manners of a real one.

    Args:
        name: makes up `location`, which is ``memory://NAME``; None takes one that no other bucket has. Two backends of
            one name are two buckets all the same: a second handle on the same storage comes from `handle`.
        limits: what it accepts; by default what Alibaba Cloud OSS does (parts from 100 KiB to 5 GiB, 10,000 of them).
        capabilities: what it can do; by default all but callbacks. Give fewer to play a poorer storage.
        page_size: how many entries `list_parts` and `list_uploads` take from the storage at a time.
        clock: the storage's clock, in seconds since 1970.
        callback: plays the application server of the option of that name: it is called with the stored object, and what
            it returns is the `callback_response`. If it raises, the object stays, and `CallbackError` has it as its
            cause. Without it the option is not honoured.

    Raises:
        InvalidInput: the name is empty, `page_size` is below 1, or `capabilities` promise callbacks that nobody plays.
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
            raise InvalidInput("the name of a bucket in memory is not empty; leave it out for one of its own")
        if name is not None:
            check_text("the name of a bucket in memory", name)
        if not is_whole(page_size) or page_size < 1:
            raise InvalidInput(f"page_size must be a whole number, at least 1, not {brief(page_size)}")
        if limits is not None:
            check_type("limits", limits, PartLimits, "PartLimits or None")
        if capabilities is not None:
            check_type("capabilities", capabilities, Capabilities, "Capabilities or None")
        check_callable("clock", clock)
        if callback is not None:
            check_callable("callback", callback)
        if capabilities is None:
            extra = frozenset() if callback is None else frozenset({"callback"})
            capabilities = evolve(DEFAULT_CAPABILITIES, options=DEFAULT_CAPABILITIES.options | extra)
        elif "callback" in capabilities.options and callback is None:
            raise InvalidInput("the capabilities promise callbacks: give `callback`, which plays the server called")
        self._limits = limits or DEFAULT_LIMITS
        self._capabilities = capabilities
        self._page_size = page_size
        self._clock = clock
        self._callback = callback
        self._storage = _Storage(name or uuid.uuid4().hex)
        self._closed = False

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def location(self) -> str:
        """``memory://NAME``, the same for every handle and every snapshot of this bucket."""
        return f"memory://{quote(self._storage.name, safe='')}"

    @property
    def limits(self) -> PartLimits:
        """As they were given."""
        return self._limits

    @property
    def capabilities(self) -> Capabilities:
        """As they were given."""
        return self._capabilities

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.location}{' closed' if self._closed else ''}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a MemoryBackend can't be pickled: its bytes live in this process alone, so use threads")

    def close(self) -> None:
        """Close this handle; others on the same storage go on. Closing twice is fine."""
        self._closed = True

    # --- a multipart upload ------------------------------------------------------------------------------------------

    def initiate_upload(self, key: str, options: ObjectOptions) -> str:
        """Begin a multipart upload; see `MultipartBackend.initiate_upload`."""
        self._begin("initiate_upload", key=key, options=options)
        options.require_supported_by(self._capabilities, self.location)
        with self._storage.lock:
            self._check_overwrite(key, options)
            upload = _Upload(key, self._storage.new_upload_id(), utc(self._clock()), options)
            self._storage.uploads[upload.upload_id] = upload
            return upload.upload_id

    def upload_part(self, key: str, upload_id: str, part_number: int, body: Body) -> UploadedPart:
        """
        Store one part; see `MultipartBackend.upload_part`.

        Raises:
            InvalidInput: the part number or the size is beyond `limits`.
        """
        self._begin("upload_part", key=key, upload_id=upload_id, part_number=part_number, body=body)
        check_part(part_number, len(body), self._limits)
        with self._storage.lock:
            self._storage.upload(key, upload_id)
        data = _copied(exact_chunks(body, f"part {part_number} of {key!r}"))
        md5 = _md5(data)
        receipt = UploadedPart(
            part_number, len(data), md5.hex().upper(), crc64(data) if self._capabilities.part_checksums else None
        )
        with self._storage.lock:
            # Asked again: the upload may have been aborted or completed while the body was read.
            self._storage.upload(key, upload_id).parts[part_number] = _Part(data, md5, receipt)
        return receipt

    def list_parts(self, key: str, upload_id: str) -> Iterable[UploadedPart]:
        """List the parts held, a page at a time; see `MultipartBackend.list_parts`."""
        self._begin("list_parts", key=key, upload_id=upload_id)
        if not self._capabilities.lists_parts:
            raise UnsupportedOption(f"{self.location} does not list the parts of an upload")

        def following(after: UploadedPart | None) -> list[UploadedPart]:
            self._check_open()
            with self._storage.lock:
                held = self._storage.upload(key, upload_id).receipts()
            marker = 0 if after is None else after.part_number
            return [receipt for number, receipt in held.items() if number > marker]

        return _paged(following, self._page_size)

    def complete_upload(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], options: ObjectOptions
    ) -> StoredObject:
        """Make the object of the parts named; see `MultipartBackend.complete_upload`."""
        self._begin("complete_upload", key=key, upload_id=upload_id, parts=parts, options=options)
        options.require_supported_by(self._capabilities, self.location)
        with self._storage.lock:
            upload = self._storage.upload(key, upload_id)
            self._check_overwrite(key, options)
            check_parts(
                key,
                parts,
                upload.receipts(),
                self._limits,
                equal_part_sizes=self._capabilities.equal_part_sizes,
            )
            held = [upload.parts[part.part_number] for part in parts]
            etag = f"{_etag(b''.join(part.md5 for part in held))}-{len(held)}"
            stored = self._store(key, b"".join(part.data for part in held), etag, _made_with(upload.options, options))
            del self._storage.uploads[upload_id]
        return self._call_back(stored, options)

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Drop an upload and its parts; see `MultipartBackend.abort_upload`."""
        self._begin("abort_upload", key=key, upload_id=upload_id)
        with self._storage.lock:
            upload = self._storage.uploads.get(upload_id)
            if upload is not None and upload.key == key:
                del self._storage.uploads[upload_id]

    def list_uploads(self, prefix: str = "") -> Iterable[PendingUpload]:
        """List the pending uploads, a page at a time; see `MultipartBackend.list_uploads`."""
        self._begin("list_uploads", prefix=prefix)

        def following(after: PendingUpload | None) -> list[PendingUpload]:
            self._check_open()
            with self._storage.lock:
                pending = sorted(
                    (
                        PendingUpload(upload.key, upload.upload_id, upload.initiated)
                        for upload in self._storage.uploads.values()
                        if upload.key.startswith(prefix)
                    ),
                    key=_place,
                )
            start = 0 if after is None else bisect_right(pending, _place(after), key=_place)
            return pending[start:]

        return _paged(following, self._page_size)

    # --- objects -----------------------------------------------------------------------------------------------------

    def put_object(self, key: str, body: Body, options: ObjectOptions) -> StoredObject:
        """
        Store a whole object; see `MultipartBackend.put_object`.

        Raises:
            InvalidInput: the body is larger than `limits.max_put_size`.
        """
        self._begin("put_object", key=key, body=body, options=options)
        options.require_supported_by(self._capabilities, self.location)
        check_put(key, len(body), self._limits)
        data = _copied(exact_chunks(body, repr(key)))
        with self._storage.lock:
            self._check_overwrite(key, options)
            stored = self._store(key, data, _etag(data), options)
        return self._call_back(stored, options)

    def head_object(self, key: str) -> StoredObject | None:
        """Describe an object; see `MultipartBackend.head_object`."""
        self._begin("head_object", key=key)
        with self._storage.lock:
            found = self._storage.objects.get(key)
        return None if found is None else evolve(found.stored, metadata=found.options.metadata)

    # --- back doors --------------------------------------------------------------------------------------------------

    def handle(self) -> MemoryBackend:
        """A second handle on the same storage, as another process would hold it; it is closed by itself."""
        return self._on(self._storage)

    def snapshot(self) -> MemoryBackend:
        """
        A copy of the storage as it is at this instant, under the same `location`.

        Neither can change the other: carry on with the copy to see what a process finds that starts after a crash.
        """
        return self._on(self._storage.copy())

    def read(self, key: str) -> bytes:
        """
        The bytes of an object.

        Raises:
            KeyError: there is none.
        """
        with self._storage.lock:
            return self._storage.objects[key].data

    def keys(self) -> list[str]:
        """The keys of all objects, sorted."""
        with self._storage.lock:
            return sorted(self._storage.objects)

    def describe(self, key: str) -> ObjectOptions | None:
        """The options that an object was stored with, or None where there is none."""
        with self._storage.lock:
            found = self._storage.objects.get(key)
        return None if found is None else found.options

    @property
    def uploads(self) -> dict[str, MemoryUpload]:
        """The pending uploads by id, as they are now."""
        with self._storage.lock:
            return {
                upload_id: MemoryUpload(upload.key, upload_id, upload.initiated, upload.options, upload.receipts())
                for upload_id, upload in self._storage.uploads.items()
            }

    @property
    def calls(self) -> Counter[str]:
        """
        How often each method of the protocol was called, by name, on any handle; refused calls count.

        It is the live counter: ``backend.calls.clear()`` starts counting anew.
        """
        return self._storage.calls

    # --- inside ------------------------------------------------------------------------------------------------------

    def _on(self, storage: _Storage) -> MemoryBackend:
        other = MemoryBackend(
            limits=self._limits,
            capabilities=self._capabilities,
            page_size=self._page_size,
            clock=self._clock,
            callback=self._callback,
        )
        other._storage = storage
        return other

    def _begin(self, operation: str, **given: object) -> None:
        self._check_open()
        with self._storage.lock:
            self._storage.calls[operation] += 1
        check_call(**given)
        key = given.get("key")
        if isinstance(key, str):
            _check_key(key)

    def _check_open(self) -> None:
        if self._closed:
            raise BackendClosed(f"{self.location} was closed; open it again to go on")

    def _check_overwrite(self, key: str, options: ObjectOptions) -> None:
        if options.forbid_overwrite and key in self._storage.objects:
            raise ObjectExists(
                f"{self.location} has an object {key!r} already, and overwriting was forbidden",
                code="FileAlreadyExists",
            )

    def _store(self, key: str, data: bytes, etag: str, options: ObjectOptions) -> StoredObject:
        # The checksum is taken from the bytes as they lie in the object, not combined from those of the parts: a test
        # that compares it with the engine's combination then compares two different things.
        stored = StoredObject(key, len(data), etag, crc64(data) if self._capabilities.object_checksums else None)
        self._storage.objects[key] = _Object(data, stored, options)
        return stored

    def _call_back(self, stored: StoredObject, options: ObjectOptions) -> StoredObject:
        if options.callback is None or self._callback is None:
            return stored
        try:
            response = self._callback(stored)
        except Exception as error:
            raise CallbackError(
                f"{stored.key!r} is stored, but its callback to {options.callback.url} failed: {error}",
                result=stored,
                code="CallbackFailed",
            ) from error
        return evolve(stored, callback_response=response)


def _paged(fetch: Callable[[_Entry | None], list[_Entry]], page_size: int) -> Iterator[_Entry]:
    """
    Entries in pages, as a storage gives them: the first is taken now, each further one when it is reached.

    `fetch` gives what follows an entry (None: the start) at the time it is called, so that what appears or vanishes
    meanwhile neither repeats nor hides any other entry.
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


def _place(pending: PendingUpload) -> tuple[str, str]:
    return pending.key, pending.upload_id


def _copied(chunks: Iterator[memoryview]) -> bytes:
    # A chunk is valid until the next one is asked for, and join asks for all of them first.
    return b"".join(bytes(chunk) for chunk in chunks)


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _etag(data: bytes) -> str:
    return _md5(data).hex().upper()


def _made_with(initiated: ObjectOptions, completed: ObjectOptions) -> ObjectOptions:
    """The options of an object: what was fixed when its upload began, and what acts late as it was asked for last."""
    late = completed.explicitly_set() - completed.fixed_at_initiate().explicitly_set()
    return evolve(initiated.fixed_at_initiate(), **{name: getattr(completed, name) for name in late})


def _check_key(key: str) -> None:
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise InvalidKey(f"{key!r} can't be a key: it can't be written as UTF-8") from error
    if not 1 <= size <= _KEY_BYTES_MAX:
        raise InvalidKey(f"a key has from 1 to {_KEY_BYTES_MAX} bytes of UTF-8; {key!r:.60} has {size}")


# --- by URL ----------------------------------------------------------------------------------------------------------

_opened: dict[str, MemoryBackend] = {}
_opened_lock = threading.Lock()


def open_url(url: str, **settings: object) -> tuple[MemoryBackend, str]:
    """
    Open ``memory://name/key``.

    Within one process a name stands for one storage; each call gives a handle of its own on it.

    Args:
        url: the key is all that follows the name, as it stands there; it may be empty.
        settings: `timeout` is accepted, though there is nothing to wait for.

    Returns:
        The backend, and the key.

    Raises:
        InvalidInput: the URL has no name, or there is a setting that means nothing here.
    """
    if settings.keys() - {"timeout"}:
        unknown = ", ".join(sorted(settings.keys() - {"timeout"}))
        raise InvalidInput(f"a bucket in memory has no setting {unknown}")
    scheme, _, rest = url.partition("://")
    quoted, _, key = rest.partition("/")
    name = unquote(quoted)
    if scheme.lower() != "memory" or not name:
        raise InvalidInput(f"{url!r} names no bucket in memory: write memory://name/key")
    with _opened_lock:
        first = _opened.setdefault(name, MemoryBackend(name))
    return first.handle(), key
