"""The harness that describes a backend, and what the checks do with it."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import ClassVar

from attrs import asdict

from partwise.errors import BackendError, InvalidInput, PartRejected, PartwiseError, UploadNotFound
from partwise.model import ObjectOptions, StoredObject, UploadedPart
from partwise.protocols import MultipartBackend
from partwise.testing.conformance.suite import Harness, NotApplicable, must_raise, must_return
from partwise.testing.fakes import StrictBody, pseudo_random_bytes

NO_OPTIONS = ObjectOptions()

#: The checks without which the machine can do, if they are declared to deviate.
MACHINE_BEHAVIOURS = (
    *("stale_part", "missing_part", "wrong_order", "unknown_ids", "part_replaced", "two_uploads_of_one_key"),
    *("part_sent_again", "lost_responses", "abort"),
)


class BackendHarness(Harness[MultipartBackend]):
    """
    Describes a backend to the suite.

    Implement `open` and `read`; override the rest if the defaults do not apply.

    The hooks are optional, and each lets the suite check what it can't check otherwise. A run lists those that are
    missing. If the storage can't offer one, name it in `hooks_left_out` with the reason.

    - `secrets`: no credential is in a repr, a location, a log record or an error.
    - `options`: the options that an object was stored with are those that were requested.
    - `open_with_page_size`: listings are complete while entries come and go between pages.
    - `open_failing`: each failure of the storage is the right error, with `retry_after`.
    - `open_damaging`: bytes that are damaged on their way are a retryable `IntegrityError`.
    - `open_failing_in_body`: a response of status 200 with an error in its body is not taken for success.
    - `requests`: a call that fails is not repeated by the backend.
    - `elsewhere`: `location` is the same in another process, and an upload is resumed there.
    """

    hooks: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "secrets": "whether a credential is shown in a repr, a location, a log record or an error",
            "options": "whether an object has the options that were requested",
            "open_with_page_size": "listings in pages, while entries come and go",
            "open_failing": "which error each failure of the storage becomes, and whether retry_after is kept",
            "open_damaging": "whether bytes that are damaged on their way are noticed, and sent again",
            "open_failing_in_body": "whether a response of status 200 with an error in its body is taken for success",
            "requests": "whether a call that fails is repeated by the backend, instead of by the engine",
            "elsewhere": "whether the location is the same in another process, so that uploads are found again",
        }
    )

    prefix: ClassVar[str] = ""
    """
    The prefix of every key in the checks. If the storage is not empty at first, such as a shared bucket, set a unique
    one on each instance.
    """

    picklable: ClassVar[bool] = True
    """Whether handles can be pickled. If not, pickling must raise TypeError."""

    completes_without_parts: ClassVar[bool] = False
    """Whether completing without parts makes an empty object; otherwise it is a `PartRejected`."""

    page_size: ClassVar[int | None] = 1000
    """
    The number of entries of one page of the storage's listings, if a handle does not choose it. A listing of one more
    entry is checked, for which that many parts of one byte are sent. None skips that, for a storage that charges or is
    slow.
    """

    unseen_by_head: ClassVar[frozenset[type[BackendError]]] = frozenset()
    """
    Failures that `head_object` can't tell, as a response to HEAD has no body. It then raises any `BackendError`, or
    returns None for `BucketNotFound`.
    """

    own_options: ClassVar[Mapping[str, ObjectOptions]] = MappingProxyType({})
    """
    Options of the backend's own class, by the name of the field that each sets. A backend that does not support such an
    option has to refuse it.
    """

    inspected_options: ClassVar[Collection[str]] = ()
    """
    The options that `options` returns of each object that has them: one that it omits was not stored. An option that is
    not named here and that it omits is not checked, and the run reports that.
    """

    secrets: ClassVar[Sequence[str]] = ()
    """Credentials that a handle holds: no repr, location, log record or error may contain them."""

    @abstractmethod
    def read(self, key: str) -> bytes | None:
        """Return the bytes of an object without the backend; None if it does not exist."""

    def refuses(self, key: str) -> bool:  # noqa: ARG002  # for overrides
        """
        Return whether the backend refuses this key with `InvalidKey`.

        The default is that it refuses none.
        """
        return False

    def options(self, key: str) -> Mapping[str, object]:  # noqa: ARG002  # for overrides
        """
        Return the stored options of an object by name, without using the backend.

        Values are those of `ObjectOptions`, such as ``"infrequent-access"``, not the storage's words for them. Omit
        options that can't be inspected: the checks then only test that the option is accepted, and the run reports
        it. Return None for an option that the object does not have, or name it in `inspected_options`.
        """
        return {}

    def open_with_page_size(self, page_size: int) -> MultipartBackend | None:  # noqa: ARG002  # for overrides
        """Open a handle whose listings have such pages; None if that is impossible."""
        return None

    def open_failing(
        self,
        error: type[BackendError],  # noqa: ARG002  # for overrides
        *,
        retry_after: float | None = None,  # noqa: ARG002
    ) -> MultipartBackend | None:
        """
        Open a handle to a storage that fails in this way; None if that is impossible.

        One handle is open at a time: it is opened, used and closed before the next one is opened, and no other handle
        is used meanwhile. So one switch of a proxy or a test server is enough; set it back when the handle is closed,
        or in the next call. The calls have to fail from `start_failing` on; before that they may work.

        Args:
            error: what the failure has to become: the storage denies access, throttles, fails, and so on.
            retry_after: if not None, the whole seconds that the storage asks to wait; return None if that is
                impossible.
        """
        return None

    def start_failing(self, backend: MultipartBackend) -> None:
        """
        Make the calls of a handle of `open_failing` fail from now on.

        Override it if such a handle must work at first, as one that opens a session. The default does nothing.
        """

    def open_damaging(self) -> MultipartBackend | None:
        """
        Open a handle whose bodies arrive with a flipped bit; None if impossible.

        The storage, or a proxy before it, changes a byte, and the length stays. The storage does what it does then:
        it refuses the body, as S3 does with ``BadDigest``, or stores it and reports another checksum.
        """
        return None

    def open_failing_in_body(self) -> MultipartBackend | None:
        """
        Open a handle whose `complete_upload` gets status 200 and an error.

        Return None if that is impossible.

        The object is not created, and the upload stays. The error in the body is one that a retry may fix, such as
        ``InternalError``. S3 responds so, since it sends the status before it has joined the parts.
        """
        return None

    def requests(self) -> int | None:
        """Return the number of requests that the storage has received; None if unknown."""
        return None

    def elsewhere(self) -> Callable[[], MultipartBackend] | None:
        """
        Return a picklable function that opens a handle in another process, or None.

        That process imports the module of the function, and reaches the same storage.
        """
        return None

    def drop_upload(self, key: str, upload_id: str) -> bool:
        """
        Make the storage drop an upload as one that expires; return whether it did.

        The default aborts the upload, which can't be done where `capabilities.aborts` is False.
        """
        backend = self.open_for_test()
        backend.abort_upload(key, upload_id)
        return backend.capabilities.aborts

    # --- for checks --------------------------------------------------------------------------------------------------

    def key(self, name: str) -> str:
        """Return the key for this name, with the prefix."""
        return self.prefix + name

    def part_size(self, backend: MultipartBackend) -> int:
        """Return the usual part size: small, and four parts are within the limits."""
        limits = backend.limits
        return max(limits.min_part_size, min(64, limits.max_part_size, limits.max_object_size // 4))

    def begin_with_part(self, name: str) -> tuple[Upload, UploadedPart]:
        """Initiate an upload by another handle, and send one part."""
        upload = self.begin(self.open_for_test(), name)
        return upload, upload.send(1, b"x", is_last=True)

    def begin(self, backend: MultipartBackend, name: str, options: ObjectOptions = NO_OPTIONS) -> Upload:
        """Initiate an upload to the key for this name."""
        return Upload(self, backend, self.key(name), options)


class Upload:
    """A multipart upload of a check: operations and assertions."""

    def __init__(self, harness: BackendHarness, backend: MultipartBackend, key: str, options: ObjectOptions) -> None:
        self.harness = harness
        self.backend = backend
        self.key = key
        self.options = options
        self.part_size = harness.part_size(backend)
        self.upload_id = backend.initiate_upload(key, options)

    def send(self, number: int, data: bytes, *, offset: int | None = None, is_last: bool | None = None) -> UploadedPart:
        """
        Send one part.

        Args:
            number: its number.
            data: its bytes.
            offset: its place in the object; None: that of parts of the usual size.
            is_last: whether it is known to be the last part; None: a part below the usual size is.
        """
        if offset is None:
            offset = (number - 1) * self.part_size
        if is_last is None:
            is_last = len(data) < self.part_size
        body = body_of(self.backend, data, offset=offset, is_last=is_last)
        return self.backend.upload_part(self.key, self.upload_id, number, body)

    def send_all(self, contents: Iterable[bytes]) -> list[UploadedPart]:
        """Send these parts of an object, numbered from 1."""
        contents = list(contents)
        parts, offset = [], 0
        for number, data in enumerate(contents, start=1):
            parts.append(self.send(number, data, offset=offset, is_last=number == len(contents)))
            offset += len(data)
        return parts

    def complete(self, parts: Sequence[UploadedPart], options: ObjectOptions | None = None) -> StoredObject:
        """Complete it with these parts, by default with the options of its start."""
        return self.backend.complete_upload(self.key, self.upload_id, parts, options or self.options)

    def complete_again(
        self, parts: Sequence[UploadedPart], options: ObjectOptions | None = None
    ) -> StoredObject | None:
        """Complete it again; return the object, or None for UploadNotFound."""
        try:
            return self.complete(parts, options)
        except UploadNotFound:
            return None

    def abort(self) -> None:
        """Abort it."""
        self.backend.abort_upload(self.key, self.upload_id)

    def must_be_pending(self, duty: str, backend: MultipartBackend | None = None) -> None:
        """Assert that it is listed as pending, if the backend lists uploads."""
        backend = backend or self.backend
        if backend.capabilities.lists_uploads:
            assert pending_ids(backend, self.key).count(self.upload_id) == 1, f"{duty}: it is listed as pending, once"

    def must_not_be_pending(self, duty: str) -> None:
        """Assert that it is not listed as pending, if the backend lists uploads."""
        if self.backend.capabilities.lists_uploads:
            assert self.upload_id not in pending_ids(self.backend, self.key), f"{duty}: it is not listed as pending"

    def must_be_the_only_one(self, duty: str, backend: MultipartBackend | None = None) -> None:
        """Assert that it is the only listed upload of its key, if uploads are listed."""
        backend = backend or self.backend
        if backend.capabilities.lists_uploads:
            found = pending_ids(backend, self.key)
            assert found == [self.upload_id], f"{duty}: expected {[self.upload_id]}, and {found} are listed"

    def must_hold(self, parts: Sequence[UploadedPart], duty: str) -> None:
        """Assert that it has exactly these parts, if the backend lists parts."""
        if self.backend.capabilities.lists_parts:
            listed = listed_parts(self.backend, self.key, self.upload_id)
            assert listed == list(parts), f"{duty}: expected the parts {list(parts)}, but got {listed}"

    def must_refuse(self, parts: Sequence[UploadedPart], duty: str) -> None:
        """Assert that completing with these parts is refused, and changes nothing."""
        before = self.harness.read(self.key)
        must_raise(PartRejected, duty, self.complete, parts)
        must_be_stored(self.harness, self.key, before, f"{duty}: no object may be stored")

    def must_complete(
        self, parts: Sequence[UploadedPart], data: bytes, after: str, options: ObjectOptions | None = None
    ) -> None:
        """Assert that completing with these parts makes an object of this data."""
        duty = f"after {after} the upload is still usable"
        must_return(duty, self.complete, parts, options)
        must_be_stored(self.harness, self.key, data, f"{duty}, and its object has the right bytes")

    def must_not_be_found(self, why: str, parts: Sequence[UploadedPart] | None = None) -> None:
        """Assert that every method raises UploadNotFound; complete only with parts."""
        must_not_be_found(self.backend, self.key, self.upload_id, why, parts)


def body_of(
    backend: MultipartBackend,
    data: bytes,
    *,
    declared: int | None = None,
    chunk_size: int = 16 * 1024,
    error: BaseException | None = None,
    offset: int = 0,
    is_last: bool = True,
) -> StrictBody:
    """Return a body for this backend, with the checksum of its storage."""
    return StrictBody(
        data,
        declared=declared,
        chunk_size=chunk_size,
        error=error,
        checksum=backend.capabilities.checksum,
        offset=offset,
        is_last=is_last,
    )


def must_not_be_found(
    backend: MultipartBackend,
    key: str,
    upload_id: str,
    why: str,
    parts: Sequence[UploadedPart] | None = None,
    *,
    malformed: bool = False,
) -> None:
    """
    Assert that every method raises UploadNotFound; complete only with parts.

    A malformed id, which the storage may refuse as such, may also be InvalidInput or another permanent error.
    """
    duty = f"the id {upload_id!r:.40} {why}"
    expected: type[PartwiseError] | tuple[type[PartwiseError], ...] = UploadNotFound
    if malformed:
        expected = (InvalidInput, BackendError)
    errors = [must_raise(expected, duty, backend.upload_part, key, upload_id, 1, body_of(backend, b"x"))]
    if backend.capabilities.lists_parts:
        errors.append(must_raise(expected, duty, listed_parts, backend, key, upload_id))
    if parts is not None:
        errors.append(must_raise(expected, duty, backend.complete_upload, key, upload_id, parts, NO_OPTIONS))
    for error in errors:
        is_permanent = not getattr(error, "retryable", False)
        assert is_permanent, f"{duty}: the error, {type(error).__name__}, is permanent"


def must_be_stored(harness: BackendHarness, key: str, expected: bytes | None, duty: str) -> None:
    """
    Assert that an object has these bytes; None: that there is none.

    The message says where the bytes differ. It does not show them: an assertion that compares two MiB of bytes keeps a
    test runner that shows differences busy for minutes.
    """
    found = harness.read(key)
    if found != expected:
        raise AssertionError(f"{duty}: {_difference(found, expected)}")


def _difference(found: bytes | None, expected: bytes | None) -> str:
    if found is None or expected is None:
        return f"expected {_size(expected)}, and found {_size(found)}"
    common = min(len(found), len(expected))
    first = next((at for at in range(common) if found[at] != expected[at]), common)
    return f"expected {_size(expected)}, and found {_size(found)}, which differs from byte {first} on"


def _size(data: bytes | None) -> str:
    return "no object" if data is None else f"an object of {len(data)} bytes"


def must_succeed_or_refuse(what: str, call: Callable[..., object], *args: object) -> None:
    """Assert that a call returns, or raises a permanent error."""
    raised: Exception | None = None
    try:
        call(*args)
    except (InvalidInput, BackendError) as error:
        raised = error
    assert not getattr(raised, "retryable", False), f"{what} succeeds or raises a permanent error, not {raised!r}"


def calls_of_every_method(
    backend: MultipartBackend, upload: Upload, part: UploadedPart
) -> dict[str, Callable[[], object]]:
    """
    Return a call of each method that the backend offers, by name.

    Args:
        backend: the handle to call.
        upload: a pending one, since a backend may refuse an invented id or ETag before it sends a request.
        part: its only part.
    """
    key, upload_id = upload.key, upload.upload_id
    calls: dict[str, Callable[[], object]] = {
        "initiate_upload": lambda: backend.initiate_upload(key, NO_OPTIONS),
        "upload_part": lambda: backend.upload_part(key, upload_id, 1, body_of(backend, b"x")),
        "list_parts": lambda: listed_parts(backend, key, upload_id),
        "complete_upload": lambda: backend.complete_upload(key, upload_id, [part], NO_OPTIONS),
        "abort_upload": lambda: backend.abort_upload(key, upload_id),
        "list_uploads": lambda: list(backend.list_uploads()),
        "put_object": lambda: backend.put_object(key, body_of(backend, b"x"), NO_OPTIONS),
        "head_object": lambda: backend.head_object(key),
    }
    if not backend.capabilities.aborts:
        del calls["abort_upload"]
    if not backend.capabilities.lists_parts:
        del calls["list_parts"]
    if not backend.capabilities.lists_uploads:
        del calls["list_uploads"]
    return calls


def listed_parts(backend: MultipartBackend, key: str, upload_id: str) -> list[UploadedPart]:
    """Return all listed parts of an upload."""
    return list(backend.list_parts(key, upload_id))


def pending_ids(backend: MultipartBackend, key: str) -> list[str]:
    """Return the ids of the pending uploads of this key."""
    return [pending.upload_id for pending in backend.list_uploads(key) if pending.key == key]


def stored_size(backend: MultipartBackend, key: str) -> int | None:
    """Return the size of an object by `head_object`; None if it does not exist."""
    found = backend.head_object(key)
    return None if found is None else found.size


def skip_unless_lists_parts(backend: MultipartBackend) -> None:
    """Skip the check for a backend that does not list parts."""
    if not backend.capabilities.lists_parts:
        raise NotApplicable("the backend does not list parts, as declared")


def skip_unless_lists_uploads(backend: MultipartBackend) -> None:
    """Skip the check for a backend that does not list uploads."""
    if not backend.capabilities.lists_uploads:
        raise NotApplicable("the backend does not list uploads, as declared")


def skip_if_sequential(backend: MultipartBackend) -> None:
    """Skip the check for a backend that takes parts in order only."""
    if backend.capabilities.sequential:
        raise NotApplicable("parts are sent in order, as declared")


def skip_unless_replaces_parts(backend: MultipartBackend) -> None:
    """Skip the check for a backend that takes no other bytes for a part."""
    if not backend.capabilities.replaces_parts:
        raise NotApplicable("parts are never replaced, as declared")


def skip_unless_supports(backend: MultipartBackend, name: str) -> None:
    """Skip the check for a backend that does not support this option."""
    if name not in backend.capabilities.options:
        raise NotApplicable(f"the backend does not support {name}, as declared")


@contextmanager
def frequent_switches() -> Iterator[None]:
    """Switch threads as often as possible, so that a race shows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def part_contents(part_size: int, count: int, seed: object) -> list[bytes]:
    """Return the contents of `count` parts of one size, the last one shorter."""
    whole = [pseudo_random_bytes(part_size, (seed, number)) for number in range(1, count)]
    return [*whole, pseudo_random_bytes(max(1, part_size // 3), (seed, count))]


def store_by_parts(
    harness: BackendHarness, backend: MultipartBackend, name: str, data: bytes, options: ObjectOptions = NO_OPTIONS
) -> StoredObject:
    """Store an object by a multipart upload of one or two parts."""
    size = max(backend.limits.min_part_size, len(data) // 2 + 1)
    upload = harness.begin(backend, name, options)
    return upload.complete(upload.send_all(data[at : at + size] for at in range(0, len(data), size)), options)


def put(
    harness: BackendHarness, backend: MultipartBackend, name: str, data: bytes, options: ObjectOptions = NO_OPTIONS
) -> StoredObject:
    """Store an object by `put_object`."""
    return backend.put_object(harness.key(name), body_of(backend, data), options)


#: The two ways to store an object, by name.
WAYS = {"parts": store_by_parts, "put": put}


def shown_options(options: ObjectOptions | None) -> dict[str, object]:
    """Return options as `BackendHarness.options` has to, from an `ObjectOptions`."""
    return {} if options is None else asdict(options, recurse=False)
