"""What an author tells the suite about a backend, and what the checks do with it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from attrs import asdict

from partwise.errors import BackendError, PartRejected, UploadNotFound
from partwise.model import ObjectOptions, StoredObject, UploadedPart
from partwise.protocols import MultipartBackend
from partwise.testing.conformance.suite import Harness, NotApplicable, must_raise, must_return
from partwise.testing.fakes import StrictBody, pseudo_random_bytes

NO_OPTIONS = ObjectOptions()


class BackendHarness(Harness[MultipartBackend]):
    """
    What the suite has to know about a backend. `open` and `read` must be given; the rest declares what is special.
    """

    prefix: ClassVar[str] = ""
    """
    What every key of the checks begins with. Where the storage is not empty at first, such as a bucket that is shared,
    set one on each instance that no other has.
    """

    picklable: ClassVar[bool] = True
    """Whether handles can be pickled. Those that can't must say so by a TypeError."""

    completes_without_parts: ClassVar[bool] = False
    """Whether completing with no part makes an empty object; otherwise it is a `PartRejected`."""

    secrets: ClassVar[Sequence[str]] = ()
    """Credentials that the handle holds: they must not show in a repr, a location, or an error."""

    @abstractmethod
    def read(self, key: str) -> bytes | None:
        """The bytes of an object, or None where there is none: by a back door, and never through the backend."""

    def refuses(self, key: str) -> bool:  # noqa: ARG002  # for harnesses that look at it
        """Whether the backend refuses this key with `InvalidKey`. The default refuses none."""
        return False

    def options(self, key: str) -> Mapping[str, object]:  # noqa: ARG002  # likewise
        """
        The options that the storage keeps with an object, by field name of `ObjectOptions`, by a back door.

        Leave out what can't be seen: then the checks only see that the option is accepted.
        """
        return {}

    def open_with_page_size(self, page_size: int) -> MultipartBackend | None:  # noqa: ARG002  # likewise
        """A handle whose listings come in pages of so many entries; None where that can't be chosen."""
        return None

    def open_failing(self, error: type[BackendError]) -> MultipartBackend | None:  # noqa: ARG002  # likewise
        """A handle each of whose calls meets a storage that fails in this way; None where it can't be made to."""
        return None

    # --- for checks --------------------------------------------------------------------------------------------------

    def key(self, name: str) -> str:
        """The key of this name below the prefix."""
        return self.prefix + name

    def part_size(self, backend: MultipartBackend) -> int:
        """The size of an ordinary part in the checks: small, and such that four of them are within the limits."""
        limits = backend.limits
        return max(limits.min_part_size, min(64, limits.max_part_size, limits.max_object_size // 4))

    def begin(self, backend: MultipartBackend, name: str, options: ObjectOptions = NO_OPTIONS) -> Upload:
        """Initiate an upload of the key of this name."""
        return Upload(self, backend, self.key(name), options)


class Upload:
    """A multipart upload of a check, what can be done with it, and what must hold for it."""

    def __init__(self, harness: BackendHarness, backend: MultipartBackend, key: str, options: ObjectOptions) -> None:
        self.harness = harness
        self.backend = backend
        self.key = key
        self.upload_id = backend.initiate_upload(key, options)

    def send(self, number: int, data: bytes) -> UploadedPart:
        """Send one part."""
        return self.backend.upload_part(self.key, self.upload_id, number, StrictBody(data))

    def send_all(self, pieces: Iterable[bytes]) -> list[UploadedPart]:
        """Send parts from 1 on."""
        return [self.send(number, data) for number, data in enumerate(pieces, start=1)]

    def complete(self, parts: Sequence[UploadedPart], options: ObjectOptions = NO_OPTIONS) -> StoredObject:
        """Complete it with these receipts."""
        return self.backend.complete_upload(self.key, self.upload_id, parts, options)

    def complete_again(self, parts: Sequence[UploadedPart], options: ObjectOptions = NO_OPTIONS) -> StoredObject | None:
        """Complete it once more: the same object again, or None for UploadNotFound, are both right."""
        try:
            return self.complete(parts, options)
        except UploadNotFound:
            return None

    def abort(self) -> None:
        """Abort it."""
        self.backend.abort_upload(self.key, self.upload_id)

    def is_pending(self) -> bool:
        """Whether it is listed among the pending uploads."""
        return self.upload_id in pending_ids(self.backend, self.key)

    def must_hold(self, parts: Sequence[UploadedPart], duty: str) -> None:
        """Its parts are these, as far as the backend lists parts."""
        if self.backend.capabilities.lists_parts:
            listed = listed_parts(self.backend, self.key, self.upload_id)
            assert listed == list(parts), f"{duty}: expected the parts {list(parts)}, and listed are {listed}"

    def must_refuse(self, parts: Sequence[UploadedPart], duty: str) -> None:
        """It can't be completed with these receipts, and the object stays what it is."""
        before = self.harness.read(self.key)
        must_raise(PartRejected, duty, self.complete, parts)
        assert self.harness.read(self.key) == before, f"{duty}: no object was to be made"

    def must_complete(self, parts: Sequence[UploadedPart], data: bytes, after: str) -> None:
        """It is still usable after something was refused: these receipts make the object of this data."""
        duty = f"after {after} an upload stays usable"
        must_return(duty, self.complete, parts)
        assert self.harness.read(self.key) == data, f"{duty}, and its object is another"

    def must_be_dead(self, why: str, parts: Sequence[UploadedPart] | None = None) -> None:
        """Every method takes its id for dead; completing is tried where there are receipts to try it with."""
        must_be_dead(self.backend, self.key, self.upload_id, why, parts)


def must_be_dead(
    backend: MultipartBackend, key: str, upload_id: str, why: str, parts: Sequence[UploadedPart] | None = None
) -> None:
    """Every method takes this id for dead; completing is tried where there are receipts to try it with."""
    duty = f"the id {upload_id!r:.40} {why}"
    errors = [must_raise(UploadNotFound, duty, backend.upload_part, key, upload_id, 1, StrictBody(b"x"))]
    if backend.capabilities.lists_parts:
        errors.append(must_raise(UploadNotFound, duty, listed_parts, backend, key, upload_id))
    if parts is not None:
        errors.append(must_raise(UploadNotFound, duty, backend.complete_upload, key, upload_id, parts, NO_OPTIONS))
    assert not any(error.retryable for error in errors), f"{duty}: UploadNotFound is permanent"


def listed_parts(backend: MultipartBackend, key: str, upload_id: str) -> list[UploadedPart]:
    """All parts of an upload, as they are listed."""
    return list(backend.list_parts(key, upload_id))


def pending_ids(backend: MultipartBackend, key: str) -> list[str]:
    """The ids of the pending uploads of this key."""
    return [pending.upload_id for pending in backend.list_uploads(key) if pending.key == key]


def stored_size(backend: MultipartBackend, key: str) -> int | None:
    """The size of an object as `head_object` has it; None where there is none."""
    found = backend.head_object(key)
    return None if found is None else found.size


def need_list_parts(backend: MultipartBackend) -> None:
    """Go no further with a backend that does not list parts."""
    if not backend.capabilities.lists_parts:
        raise NotApplicable("the backend does not list parts, as declared")


def need_option(backend: MultipartBackend, name: str) -> None:
    """Go no further with a backend that does not honour this option."""
    if name not in backend.capabilities.options:
        raise NotApplicable(f"the backend does not honour {name}, as declared")


def pieces_of(part_size: int, count: int, seed: object) -> list[bytes]:
    """Parts of one size each but for the last, which is short."""
    whole = [pseudo_random_bytes(part_size, (seed, number)) for number in range(1, count)]
    return [*whole, pseudo_random_bytes(max(1, part_size // 3), (seed, count))]


def store_by_parts(
    harness: BackendHarness, backend: MultipartBackend, name: str, data: bytes, options: ObjectOptions = NO_OPTIONS
) -> StoredObject:
    """Store an object of one or two parts."""
    size = max(backend.limits.min_part_size, len(data) // 2 + 1)
    upload = harness.begin(backend, name, options)
    return upload.complete(upload.send_all(data[at : at + size] for at in range(0, len(data), size)), options)


def put(
    harness: BackendHarness, backend: MultipartBackend, name: str, data: bytes, options: ObjectOptions = NO_OPTIONS
) -> StoredObject:
    """Store an object by `put_object`."""
    return backend.put_object(harness.key(name), StrictBody(data), options)


#: The two ways to store an object, by name.
WAYS = {"parts": store_by_parts, "put": put}


def shown_options(options: ObjectOptions | None) -> dict[str, object]:
    """Options as `BackendHarness.options` gives them, for a back door that has an `ObjectOptions` to show."""
    return {} if options is None else asdict(options, recurse=False)
