"""
Does a backend keep the promises of `MultipartBackend`?

An author writes a harness of some ten lines and a test class of two:

    class MineHarness(BackendHarness):
        def __init__(self):
            self.directory = tempfile.mkdtemp()

        def open(self):
            return MyBackend(self.directory)

        def read(self, key):
            path = Path(self.directory, key)
            return path.read_bytes() if path.exists() else None

    class TestMyBackend(BackendConformance):
        harness = MineHarness

Every check is also a plain function, ``check_...(harness)``, and `BACKEND_CHECKS` has them all. To see that keys behave
alike below a prefix (33), run the class again with a harness whose `prefix` is not empty.

The behaviours, by number:

    contract    1 protocol, repr    2 two handles    3 capabilities    5 close    6 pickle
    an upload   7 complete    8 no part, no byte    9 sizes at the edges    10 order of sending    11 at the same time
                12 a part again    13 a part missing    14 bad receipts    15 invisible until complete    16 replacing
                17 abort    18 abort what is gone    19 complete twice    20 two uploads of one key    21 dead ids
    resuming    22 parts listed    23 pages    24 listed at once    25 a fresh handle    26 listed receipts
    data        27 buffers    28 bodies    29 wrong length    30 bodies that fail    31 checksums
    objects     32 strange keys    33 prefix    34 metadata    35 limits
    failing     36 errors    37 retryable or not    38 cancelled    39 lost replies    40 delays
    41 any sequence of calls: `partwise.testing.stateful.backend_machine`
"""

from __future__ import annotations

import pickle
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

from attrs import asdict, evolve, fields

from partwise.errors import (
    AccessDenied,
    BackendClosed,
    BackendError,
    BucketNotFound,
    ClockSkewed,
    ConnectionFailed,
    CredentialsExpired,
    InvalidKey,
    ObjectExists,
    PartRejected,
    PartwiseError,
    ServerFailed,
    SourceChanged,
    Throttled,
    UnsupportedOption,
    UploadNotFound,
)
from partwise.model import (
    MIB,
    Callback,
    Capabilities,
    ObjectOptions,
    PartLimits,
    PendingUpload,
    StoredObject,
    UploadedPart,
)
from partwise.protocols import MultipartBackend
from partwise.testing.bodies import PiecesBody, TrickyBody, filler
from partwise.testing.checks import Harness, NotApplicable, Suite, must_raise
from partwise.testing.faults import BACKEND_OPERATIONS, Fault, FaultKind, FaultPlan
from partwise.testing.faulty import FaultyBackend
from partwise.testing.witnesses import slow_crc64

_NO_OPTIONS = ObjectOptions()


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

    def refuses(self, key: str) -> bool:  # noqa: ARG002  # for harnesses that do
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
        """The size of an ordinary part in the checks: small, and within the limits."""
        return max(backend.limits.min_part_size, min(64, backend.limits.max_part_size))


#: Every check of a backend.
BACKEND_CHECKS: Suite[BackendHarness] = Suite(
    left_out={
        4: "errors are classes with fields: there are no predicates that could be asked about a success",
        33: "it is the suite run again with a harness that has a prefix",
        41: "a state machine, which needs hypothesis: see partwise.testing.stateful.backend_machine",
    }
)
_covers = BACKEND_CHECKS.covers


# --- the contract as such --------------------------------------------------------------------------------------------


@_covers(1)
def check_protocol(harness: BackendHarness) -> None:
    """The backend has the protocol's methods and properties, and a repr that names its class and shows no secret (1)."""
    backend = harness.opened()
    assert isinstance(backend, MultipartBackend), "a backend has all methods and properties of MultipartBackend"
    assert isinstance(backend.location, str), "location is a str"
    assert "://" in backend.location, f"location is a URL, not {backend.location!r}"
    assert isinstance(backend.limits, PartLimits), "limits is a PartLimits"
    assert isinstance(backend.capabilities, Capabilities), "capabilities is a Capabilities"
    unknown = backend.capabilities.options - {a.name for a in fields(ObjectOptions)}
    assert not unknown, f"capabilities.options names fields of ObjectOptions; there is no {sorted(unknown)}"
    assert type(backend).__name__ in repr(backend), f"repr names the class {type(backend).__name__}: {backend!r}"
    error = must_raise(
        UploadNotFound, lambda: backend.upload_part(harness.key("k"), "none", 1, TrickyBody(b"x")), "an unknown id"
    )
    shown = {"repr": repr(backend), "location": backend.location, "an error": f"{error!r} {error} {vars(error)}"}
    for where, text in shown.items():
        leaked = [secret for secret in harness.secrets if secret in text]
        assert not leaked, f"{where} must not show a secret, and shows {len(leaked)}"


@_covers(2, 24)
def check_handles_see_each_other(harness: BackendHarness) -> None:
    """What is done by one handle is there for another at once (2, 24), which outlives the first."""
    one, other = harness.opened(), harness.opened()
    assert one.location == other.location, "location is the same for every handle on one storage"
    assert one.limits == other.limits, "limits are constant"
    assert one.capabilities == other.capabilities, "capabilities are constant"
    key, data = harness.key("shared"), filler(harness.part_size(one), "shared")
    upload_id = one.initiate_upload(key, _NO_OPTIONS)
    assert upload_id in _pending_ids(other, key), "an upload is listed as soon as initiate_upload returns"
    receipt = _send(one, key, upload_id, 1, data)
    assert _listed(other, key, upload_id) in (None, [receipt]), "a part is listed as soon as upload_part returns"
    one.complete_upload(key, upload_id, [receipt], _NO_OPTIONS)
    one.close()
    assert _stored_size(other, key) == len(data), "an object is there as soon as complete_upload returns"
    other.put_object(key, TrickyBody(b"more"), _NO_OPTIONS)
    assert harness.read(key) == b"more", "closing one handle leaves the others open"


@_covers(3)
def check_listing_is_as_declared(harness: BackendHarness) -> None:
    """`list_parts` works, or raises UnsupportedOption where the capabilities say that it does not (3)."""
    backend = harness.opened()
    key = harness.key("listing")
    upload_id = backend.initiate_upload(key, _NO_OPTIONS)
    if backend.capabilities.lists_parts:
        assert list(backend.list_parts(key, upload_id)) == [], "an upload without parts has an empty list"
    else:
        must_raise(
            UnsupportedOption,
            lambda: list(backend.list_parts(key, upload_id)),
            "capabilities.lists_parts is False, and list_parts was called",
        )


@_covers(3, 36)
def check_options_beyond_the_capabilities_are_refused(harness: BackendHarness) -> None:
    """An option that is not honoured is refused, and never dropped (3, 36)."""
    backend = harness.opened()
    size = harness.part_size(backend)
    refused = {name: _sample(name) for name in _SAMPLES if name not in backend.capabilities.options}
    if not refused:
        raise NotApplicable("the backend honours every option there is")
    for name, options in refused.items():
        key = harness.key(f"refused-{name}")
        duty = f"{name} is not among capabilities.options"

        def initiate(key: str = key, options: ObjectOptions = options) -> object:
            return backend.initiate_upload(key, options)

        def put(key: str = key, options: ObjectOptions = options) -> object:
            return backend.put_object(key, TrickyBody(b"x"), options)

        must_raise(UnsupportedOption, initiate, duty)
        must_raise(UnsupportedOption, put, duty)
        assert not _pending_ids(backend, key), f"{duty}: nothing was to be begun"
        assert harness.read(key) is None, f"{duty}: nothing was to be stored"
        upload_id, receipts = _begin(backend, key, [filler(size)])

        def complete(
            key: str = key,
            options: ObjectOptions = options,
            upload_id: str = upload_id,
            receipts: Sequence[UploadedPart] = receipts,
        ) -> object:
            return backend.complete_upload(key, upload_id, receipts, options)

        must_raise(UnsupportedOption, complete, duty)
        assert harness.read(key) is None, f"{duty}: nothing was to be completed"
        backend.complete_upload(key, upload_id, receipts, _NO_OPTIONS)


@_covers(3, 34)
def check_options_are_kept(harness: BackendHarness) -> None:
    """Each option that is declared is accepted, and the back door finds it with the object (3, 34)."""
    backend = harness.opened()
    declared = [name for name in _SAMPLES if name in backend.capabilities.options and name not in _ACT_ON_REQUESTS]
    if not declared:
        raise NotApplicable("the backend honours no option that stays with an object")
    data = filler(harness.part_size(backend))
    for name in declared:
        options = _sample(name)
        if not options.given() <= backend.capabilities.options:
            continue
        for way, store in (("multipart", _upload), ("put", _put)):
            key = harness.key(f"kept-{name}-{way}")
            store(backend, key, data, options)
            kept = harness.options(key)
            if name in kept:
                assert kept[name] == getattr(options, name), f"{name} was asked for, by {way}, and is to be kept"


@_covers(34)
def check_metadata_comes_back(harness: BackendHarness) -> None:
    """`head_object` gives back the metadata, by multipart and by put (34)."""
    backend = harness.opened()
    if "metadata" not in backend.capabilities.options:
        raise NotApplicable("the backend does not honour metadata")
    options = ObjectOptions(metadata={"author": "somebody else", "purpose": "to be kept"})
    data = filler(harness.part_size(backend))
    for way, store in (("multipart", _upload), ("put", _put)):
        key = harness.key(f"metadata-{way}")
        store(backend, key, data, options)
        found = backend.head_object(key)
        assert found is not None, f"there is an object, stored by {way}"
        kept = {name.lower(): value for name, value in found.metadata.items()}
        assert kept == options.metadata, f"head_object gives the metadata of an object that was stored by {way}"


@_covers(5)
def check_close(harness: BackendHarness) -> None:
    """Closing twice is fine; every method after that raises BackendClosed (5)."""
    backend = harness.opened()
    key = harness.key("closed")
    upload_id = backend.initiate_upload(key, _NO_OPTIONS)
    backend.close()
    backend.close()
    for operation, call in _calls(backend, key, upload_id).items():
        must_raise(BackendClosed, call, f"{operation} after close")
    assert harness.read(key) is None, "nothing is stored after close"


@_covers(6)
def check_pickle(harness: BackendHarness) -> None:
    """A handle that was pickled is a handle on the same storage; one that can't be says so by a TypeError (6)."""
    backend = harness.opened()
    key, data = harness.key("pickled"), filler(harness.part_size(backend))
    upload_id = backend.initiate_upload(key, _NO_OPTIONS)
    if not harness.picklable:
        must_raise(TypeError, lambda: pickle.dumps(backend), "a backend that can't be pickled")
        return
    copy = pickle.loads(pickle.dumps(backend))  # noqa: S301  # our own bytes, of a moment ago
    try:
        assert copy.location == backend.location, "the copy has the same location"
        assert copy.limits == backend.limits, "the copy has the same limits"
        receipt = _send(copy, key, upload_id, 1, data)
    finally:
        copy.close()
    backend.complete_upload(key, upload_id, [receipt], _NO_OPTIONS)
    assert harness.read(key) == data, "a part that was sent through a copy is as good as any"


# --- the life of an upload -------------------------------------------------------------------------------------------


@_covers(7)
def check_complete(harness: BackendHarness) -> None:
    """Initiate, send, complete: the object is the parts in a row, and what is returned describes it (7)."""
    backend = harness.opened()
    key = harness.key("object")
    pieces = _pieces(harness.part_size(backend), 3, "complete")
    upload_id, receipts = _begin(backend, key, pieces)
    for number, (receipt, piece) in enumerate(zip(receipts, pieces, strict=True), start=1):
        assert (receipt.part_number, receipt.size) == (number, len(piece)), "a receipt has the part's number and size"
    stored = backend.complete_upload(key, upload_id, receipts, _NO_OPTIONS)
    assert harness.read(key) == b"".join(pieces), "the object is its parts by ascending number"
    assert (stored.key, stored.size) == (key, sum(map(len, pieces))), "what is returned describes the object"
    assert _pending_ids(backend, key) == [], "a completed upload is not pending"


@_covers(7)
def check_head_object(harness: BackendHarness) -> None:
    """`head_object` describes what stands under a key as the call that stored it did, and is None where nothing is (7)."""
    backend = harness.opened()
    assert backend.head_object(harness.key("nothing")) is None, "head_object is None where there is no object"
    data = filler(harness.part_size(backend) + 1)
    for way, store in (("multipart", _upload), ("put", _put)):
        key = harness.key(f"described-{way}")
        stored = store(backend, key, data, _NO_OPTIONS)
        found = backend.head_object(key)
        assert found is not None, f"there is an object, stored by {way}"
        described = (found.key, found.size, found.etag)
        assert described == (key, len(data), stored.etag), f"head_object agrees with what {way} returned"


@_covers(7, 16)
def check_put_object(harness: BackendHarness) -> None:
    """`put_object` stores a whole object in place of what stood there (7, 16)."""
    backend = harness.opened()
    key = harness.key("put")
    for data in (b"one", b"another that is longer", b""):
        stored = backend.put_object(key, TrickyBody(data), _NO_OPTIONS)
        assert (stored.key, stored.size) == (key, len(data)), "what is returned describes the object"
        assert harness.read(key) == data, "the object is the body; an empty one is fine"


@_covers(8)
def check_complete_without_parts(harness: BackendHarness) -> None:
    """Completing with no part is refused and leaves the upload usable, or makes an empty object, as declared (8)."""
    backend = harness.opened()
    key = harness.key("no-parts")
    upload_id, receipts = _begin(backend, key, [filler(harness.part_size(backend))])
    if harness.completes_without_parts:
        assert backend.complete_upload(key, upload_id, [], _NO_OPTIONS).size == 0, "an object of no part is empty"
        assert harness.read(key) == b"", "an object of no part is empty"
    else:
        must_raise(PartRejected, lambda: backend.complete_upload(key, upload_id, [], _NO_OPTIONS), "no part is named")
        _check_usable(harness, backend, key, upload_id, receipts, "no part was named")


@_covers(9)
def check_sizes_at_the_edges(harness: BackendHarness) -> None:
    """One byte, a byte less than a part, a part, a byte more, for several part sizes, by multipart and by put (9)."""
    backend = harness.opened()
    least = harness.part_size(backend)
    for part_size in sorted({least, min(least + 1, backend.limits.max_part_size), min(3 * least // 2, MIB)}):
        if not backend.limits.min_part_size <= part_size <= backend.limits.max_part_size:
            continue
        for size in sorted({1, part_size - 1, part_size, part_size + 1, 2 * part_size, 2 * part_size + 1} - {0}):
            data = filler(size, (part_size, size))
            for way in ("multipart", "put"):
                key = harness.key(f"edge-{part_size}-{size}-{way}")
                if way == "put":
                    stored = _put(backend, key, data, _NO_OPTIONS)
                else:
                    stored = _upload(backend, key, data, _NO_OPTIONS, part_size)
                what = f"{size} bytes by {way}, in parts of {part_size}"
                assert stored.size == size, f"{what}: the object was said to have {stored.size} bytes"
                assert harness.read(key) == data, f"{what}: the object is another"


@_covers(10)
def check_parts_in_any_order(harness: BackendHarness) -> None:
    """Parts are sent backwards, or with gaps that are filled later; the object goes by number (10)."""
    backend = harness.opened()
    pieces = _pieces(harness.part_size(backend), 4, "order")
    for order in ((4, 3, 2, 1), (1, 3, 4, 2)):
        key = harness.key(f"order-{order[0]}")
        upload_id = backend.initiate_upload(key, _NO_OPTIONS)
        receipts = {number: _send(backend, key, upload_id, number, pieces[number - 1]) for number in order}
        backend.complete_upload(key, upload_id, [receipts[number] for number in (1, 2, 3, 4)], _NO_OPTIONS)
        assert harness.read(key) == b"".join(pieces), f"sent in the order {order}, the object goes by number"


@_covers(11)
def check_many_threads(harness: BackendHarness) -> None:
    """Parts of several uploads are sent by many threads at once, and none is lost or mixed up (11)."""
    backend = harness.opened()
    size = harness.part_size(backend)
    uploads = {harness.key(f"thread-{n}"): _pieces(size, 4, ("thread", n)) for n in range(4)}

    with ThreadPoolExecutor(max_workers=8) as pool:
        ids = dict(zip(uploads, pool.map(lambda key: backend.initiate_upload(key, _NO_OPTIONS), uploads), strict=True))
        assert len(set(ids.values())) == len(ids), "every upload has an id of its own"
        # One part of each upload at a time, so that neighbours in time belong to different uploads.
        jobs = [(key, number) for number in (4, 2, 1, 3) for key in uploads]
        sent = pool.map(lambda job: _send(backend, job[0], ids[job[0]], job[1], uploads[job[0]][job[1] - 1]), jobs)
        receipts = dict(zip(jobs, sent, strict=True))
        list(
            pool.map(
                lambda key: backend.complete_upload(
                    key, ids[key], [receipts[key, number] for number in (1, 2, 3, 4)], _NO_OPTIONS
                ),
                uploads,
            )
        )
    for key, pieces in uploads.items():
        assert harness.read(key) == b"".join(pieces), "parts that are sent at once are kept apart"


@_covers(12)
def check_part_sent_again(harness: BackendHarness) -> None:
    """The same part again is harmless: one part, and the receipt of either sending completes (12)."""
    backend = harness.opened()
    key, data = harness.key("again"), filler(harness.part_size(backend))
    upload_id, [first] = _begin(backend, key, [data])
    second = _send(backend, key, upload_id, 1, data)
    assert _listed(backend, key, upload_id) in (None, [second]), "a part that was sent twice is one part"
    assert (first.etag, first.size) == (second.etag, second.size), "the same bytes have the same receipt"
    backend.complete_upload(key, upload_id, [second], _NO_OPTIONS)
    assert harness.read(key) == data, "the object is the part, once"


@_covers(12)
def check_part_replaced(harness: BackendHarness) -> None:
    """Other bytes under the same number replace the part: the last one stands (12)."""
    backend = harness.opened()
    size = harness.part_size(backend)
    key = harness.key("replaced")
    first, last = filler(size, "first"), filler(size + 1, "last")
    if len(last) > backend.limits.max_part_size:
        last = filler(size, "last")
    upload_id, _ = _begin(backend, key, [first])
    receipt = _send(backend, key, upload_id, 1, last)
    assert _listed(backend, key, upload_id) in (None, [receipt]), "only the last one of a number is listed"
    backend.complete_upload(key, upload_id, [receipt], _NO_OPTIONS)
    assert harness.read(key) == last, "the last one of a number is in the object"


@_covers(13)
def check_missing_part(harness: BackendHarness) -> None:
    """Naming a part that was never sent is a PartRejected, and the upload stays usable (13)."""
    backend = harness.opened()
    key = harness.key("missing")
    first, second = _pieces(harness.part_size(backend), 2, "missing")
    upload_id, [receipt] = _begin(backend, key, [first])
    never_sent = evolve(receipt, part_number=2)
    must_raise(
        PartRejected,
        lambda: backend.complete_upload(key, upload_id, [receipt, never_sent], _NO_OPTIONS),
        "part 2 was never sent",
    )
    assert harness.read(key) is None, "part 2 was never sent: no object was to be made"
    receipts = [receipt, _send(backend, key, upload_id, 2, second)]
    _check_usable(harness, backend, key, upload_id, receipts, "a part was missing")


@_covers(13)
def check_unnamed_parts_are_dropped(harness: BackendHarness) -> None:
    """Parts that `complete_upload` does not name are not in the object (13)."""
    backend = harness.opened()
    key = harness.key("unnamed")
    pieces = _pieces(harness.part_size(backend), 3, "unnamed")
    upload_id, receipts = _begin(backend, key, pieces)
    backend.complete_upload(key, upload_id, receipts[:2], _NO_OPTIONS)
    assert harness.read(key) == b"".join(pieces[:2]), "the object is made of the parts that were named"


@_covers(14)
def check_stale_receipt(harness: BackendHarness) -> None:
    """The receipt of a part that was replaced since is refused, and the upload stays usable (14)."""
    backend = harness.opened()
    size = harness.part_size(backend)
    key = harness.key("stale")
    upload_id, [stale] = _begin(backend, key, [filler(size, "old")])
    receipt = _send(backend, key, upload_id, 1, filler(size, "new"))
    must_raise(
        PartRejected,
        lambda: backend.complete_upload(key, upload_id, [stale], _NO_OPTIONS),
        "the part was sent again with other bytes",
    )
    assert harness.read(key) is None, "a stale receipt makes no object"
    _check_usable(harness, backend, key, upload_id, [receipt], "a receipt was stale")


@_covers(14)
def check_foreign_receipt(harness: BackendHarness) -> None:
    """The receipt of another upload is refused, and the upload stays usable (14)."""
    backend = harness.opened()
    size = harness.part_size(backend)
    key = harness.key("foreign")
    _, [foreign] = _begin(backend, key, [filler(size, "theirs")])
    upload_id, [receipt] = _begin(backend, key, [filler(size, "ours")])
    must_raise(
        PartRejected,
        lambda: backend.complete_upload(key, upload_id, [foreign], _NO_OPTIONS),
        "the receipt is of another upload",
    )
    assert harness.read(key) is None, "a foreign receipt makes no object"
    _check_usable(harness, backend, key, upload_id, [receipt], "a receipt was foreign")


@_covers(14)
def check_wrong_order(harness: BackendHarness) -> None:
    """Parts that do not ascend, or that are named twice, are refused, and the upload stays usable (14)."""
    backend = harness.opened()
    size = harness.part_size(backend)
    key = harness.key("wrong-order")
    upload_id, receipts = _begin(backend, key, [filler(size, 1), filler(size, 2)])
    for wrong in (receipts[::-1], [receipts[0], receipts[0], receipts[1]]):
        numbers = [part.part_number for part in wrong]

        def complete(wrong: Sequence[UploadedPart] = wrong) -> object:
            return backend.complete_upload(key, upload_id, wrong, _NO_OPTIONS)

        must_raise(PartRejected, complete, f"the parts are named in the order {numbers}")
        assert harness.read(key) is None, f"parts in the order {numbers} make no object"
    _check_usable(harness, backend, key, upload_id, receipts, "the order was wrong")


@_covers(15)
def check_invisible_until_complete(harness: BackendHarness) -> None:
    """No object is seen before `complete_upload`; one that stood there stands until then (15)."""
    backend = harness.opened()
    data = filler(harness.part_size(backend))
    for before in (None, b"the one before"):
        key = harness.key(f"invisible-{before is None}")
        if before is not None:
            backend.put_object(key, TrickyBody(before), _NO_OPTIONS)
        upload_id = backend.initiate_upload(key, _NO_OPTIONS)
        assert harness.read(key) == before, "initiate_upload leaves the object as it is"
        receipt = _send(backend, key, upload_id, 1, data)
        assert harness.read(key) == before, "upload_part leaves the object as it is"
        assert _stored_size(backend, key) == (None if before is None else len(before)), "head_object agrees"
        backend.complete_upload(key, upload_id, [receipt], _NO_OPTIONS)
        assert harness.read(key) == data, "complete_upload puts the new object in place of the old"


@_covers(16)
def check_replaced_at_once(harness: BackendHarness) -> None:
    """Whoever looks while objects are replaced sees one of them whole, and never none (16)."""
    backend = harness.opened()
    size = harness.part_size(backend)
    key = harness.key("replaced-at-once")
    versions = [filler(size + 1 + n, ("version", n)) for n in range(6)]
    backend.put_object(key, TrickyBody(versions[0]), _NO_OPTIONS)
    seen: set[bytes | None] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.add(harness.read(key))

    with ThreadPoolExecutor(max_workers=1) as pool:
        watching = pool.submit(watch)
        try:
            for number, version in enumerate(versions):
                store = _upload if number % 2 else _put
                store(backend, key, version, _NO_OPTIONS)
        finally:
            done.set()
        watching.result()
    assert None not in seen, "an object that is replaced is there all the time"
    assert seen <= set(versions), "an object that is replaced is seen whole: the old one or the new one"


@_covers(16, 36)
def check_forbid_overwrite(harness: BackendHarness) -> None:
    """Where overwriting is forbidden, ObjectExists comes of each way to store, and the object stays (16, 36)."""
    backend = harness.opened()
    if "forbid_overwrite" not in backend.capabilities.options:
        raise NotApplicable("the backend does not honour forbid_overwrite")
    forbid = ObjectOptions(forbid_overwrite=True)
    key = harness.key("forbidden")
    data = filler(harness.part_size(backend))
    upload_id = backend.initiate_upload(key, forbid)
    receipt = _send(backend, key, upload_id, 1, data)
    backend.put_object(key, TrickyBody(b"was first"), forbid)

    must_raise(ObjectExists, lambda: backend.put_object(key, TrickyBody(b"late"), forbid), "put_object overwrites")
    must_raise(ObjectExists, lambda: backend.initiate_upload(key, forbid), "an upload that would overwrite")
    must_raise(
        ObjectExists,
        lambda: backend.complete_upload(key, upload_id, [receipt], forbid),
        "complete_upload overwrites an object that came meanwhile",
    )
    assert harness.read(key) == b"was first", "the object that was first stays"
    assert _pending_ids(backend, key) == [upload_id], "the upload that was refused is kept, and no other was begun"
    _check_usable(harness, backend, key, upload_id, [receipt], "the object existed")


@_covers(17)
def check_abort(harness: BackendHarness) -> None:
    """An aborted upload is gone with its parts, and no object was touched (17)."""
    backend = harness.opened()
    key = harness.key("aborted")
    backend.put_object(key, TrickyBody(b"the one before"), _NO_OPTIONS)
    upload_id, receipts = _begin(backend, key, [filler(harness.part_size(backend))])
    backend.abort_upload(key, upload_id)
    assert _pending_ids(backend, key) == [], "an aborted upload is not pending"
    _check_dead(backend, key, upload_id, receipts, "aborted")
    assert harness.read(key) == b"the one before", "abort_upload touches no object"


@_covers(18)
def check_abort_what_is_gone(harness: BackendHarness) -> None:
    """Aborting twice, after complete, or an id that never was is fine, and touches nothing (18)."""
    backend = harness.opened()
    data = filler(harness.part_size(backend))
    key = harness.key("gone")
    upload_id, _ = _begin(backend, key, [data])
    backend.abort_upload(key, upload_id)
    backend.abort_upload(key, upload_id)

    upload_id, receipts = _begin(backend, key, [data])
    backend.complete_upload(key, upload_id, receipts, _NO_OPTIONS)
    backend.abort_upload(key, upload_id)
    assert harness.read(key) == data, "aborting a completed upload leaves its object"

    other_id, receipts = _begin(backend, key, [data])
    for unknown in _UNKNOWN_IDS:
        backend.abort_upload(key, unknown)
    assert _pending_ids(backend, key) == [other_id], "aborting an id that never was leaves the other uploads"


@_covers(19)
def check_complete_twice(harness: BackendHarness) -> None:
    """Completing once more gives the same object again or UploadNotFound, and never a second object (19)."""
    backend = harness.opened()
    key = harness.key("twice")
    upload_id, receipts = _begin(backend, key, [filler(harness.part_size(backend))])
    stored = backend.complete_upload(key, upload_id, receipts, _NO_OPTIONS)
    again = _complete_or_none(backend, key, upload_id, receipts)
    assert again is None or (again.size, again.etag) == (stored.size, stored.etag), "the second answer is the first"
    backend.put_object(key, TrickyBody(b"newer"), _NO_OPTIONS)
    _complete_or_none(backend, key, upload_id, receipts)
    assert harness.read(key) == b"newer", "completing once more does not bring back an object that was replaced"


@_covers(20)
def check_two_uploads_of_one_key(harness: BackendHarness) -> None:
    """Two uploads of one key have their own ids and parts; the one that is completed last stands (20)."""
    backend = harness.opened()
    size = harness.part_size(backend)
    key = harness.key("two")
    one, other = filler(size, "one"), filler(size, "other")
    one_id = backend.initiate_upload(key, _NO_OPTIONS)
    other_id = backend.initiate_upload(key, _NO_OPTIONS)
    assert one_id != other_id, "each upload has an id of its own"
    one_receipt = _send(backend, key, one_id, 1, one)
    other_receipt = _send(backend, key, other_id, 1, other)
    assert sorted(_pending_ids(backend, key)) == sorted([one_id, other_id]), "both are pending"
    assert _listed(backend, key, one_id) in (None, [one_receipt]), "each upload has parts of its own"
    backend.complete_upload(key, other_id, [other_receipt], _NO_OPTIONS)
    assert harness.read(key) == other, "an upload that is completed makes its own object"
    backend.complete_upload(key, one_id, [one_receipt], _NO_OPTIONS)
    assert harness.read(key) == one, "the one that is completed last stands"


@_covers(21, 37)
def check_dead_ids(harness: BackendHarness) -> None:
    """An id that never was, or is completed, gives a permanent UploadNotFound from every method (21, 37)."""
    backend = harness.opened()
    key = harness.key("dead")
    upload_id, receipts = _begin(backend, key, [filler(harness.part_size(backend))])
    for unknown in _UNKNOWN_IDS:
        _check_dead(backend, key, unknown, receipts, f"never there ({unknown:.20})")
    backend.complete_upload(key, upload_id, receipts, _NO_OPTIONS)
    # Completing is left out: the same object again is as good an answer, see check_complete_twice.
    _check_dead(backend, key, upload_id, None, "completed")


# --- listing and resuming --------------------------------------------------------------------------------------------


@_covers(22, 24)
def check_list_parts(harness: BackendHarness) -> None:
    """The parts of an upload are listed at once, by ascending number, with what their receipts say (22, 24)."""
    backend = harness.opened()
    _need_list_parts(backend)
    key = harness.key("parts")
    upload_id = backend.initiate_upload(key, _NO_OPTIONS)
    assert _listed(backend, key, upload_id) == [], "an upload without parts has an empty list"
    size = harness.part_size(backend)
    receipts = {}
    for number in (10, 2, 9, 1):  # as texts, "10" comes before "2"
        if number <= backend.limits.max_parts:
            receipts[number] = _send(backend, key, upload_id, number, filler(size, number))
            listed = _listed(backend, key, upload_id) or []
            assert [part.part_number for part in listed] == sorted(receipts), "parts are listed at once, ascending"
    for part in _listed(backend, key, upload_id) or []:
        receipt = receipts[part.part_number]
        assert (part.size, part.etag) == (receipt.size, receipt.etag), "a listed part is what its receipt says"


@_covers(22)
def check_list_uploads(harness: BackendHarness) -> None:
    """Pending uploads are listed by key, then id, with a time that has a zone, and only those below the prefix (22)."""
    backend = harness.opened()
    keys = [harness.key(name) for name in ("list/b", "list/a", "list/ab", "list/b", "elsewhere")]
    begun = [(key, backend.initiate_upload(key, _NO_OPTIONS)) for key in keys]
    prefix = harness.key("list/")
    listed = list(backend.list_uploads(prefix))
    places = [(pending.key, pending.upload_id) for pending in listed]
    assert places == sorted(place for place in begun if place[0].startswith(prefix)), (
        "uploads of keys with the prefix are listed, each once, by key and then by id"
    )
    assert all(pending.initiated.tzinfo is not None for pending in listed), "initiated has a time zone"
    everywhere = {(pending.key, pending.upload_id) for pending in backend.list_uploads()}
    assert everywhere >= set(begun), "without a prefix every upload is listed"
    for key, upload_id in begun:
        backend.abort_upload(key, upload_id)
    assert list(backend.list_uploads(prefix)) == [], "what was aborted is not listed"


@_covers(23)
def check_pages(harness: BackendHarness) -> None:
    """Listings are whole and in order whatever the size of a page, even if entries come and go between pages (23)."""
    pages = {page_size: _opened_with_page_size(harness, page_size) for page_size in (1, 2, 4)}
    for page_size, backend in pages.items():
        size = harness.part_size(backend)
        what = f"with pages of {page_size}"
        prefix = harness.key(f"pages-{page_size}/")
        begun = [(prefix + name, backend.initiate_upload(prefix + name, _NO_OPTIONS)) for name in "abcd"]
        listing = iter(backend.list_uploads(prefix))
        first = next(listing)
        backend.abort_upload(*begun[1])
        backend.initiate_upload(prefix + "e", _NO_OPTIONS)
        places = [(pending.key, pending.upload_id) for pending in (first, *listing)]
        assert places == sorted(set(places)), f"{what}, each upload is listed once, in order"
        assert set(places) >= {begun[0], begun[2], begun[3]}, f"{what}, no upload that is there all the time is missed"

        if not backend.capabilities.lists_parts:
            continue
        key, upload_id = begun[0]
        for number in (1, 2, 4, 5):
            _send(backend, key, upload_id, number, filler(size, number))
        assert _numbers(backend.list_parts(key, upload_id)) == [1, 2, 4, 5], f"{what}, all parts are listed"
        parts = iter(backend.list_parts(key, upload_id))
        numbers = [next(parts).part_number]
        _send(backend, key, upload_id, 3, filler(size, 3))
        numbers += _numbers(parts)
        assert numbers in ([1, 2, 4, 5], [1, 2, 3, 4, 5]), f"{what}, a part that comes meanwhile disturbs no other"


@_covers(25, 26)
def check_resume_from_the_id(harness: BackendHarness) -> None:
    """A fresh handle carries on from the id alone, and receipts from `list_parts` complete the upload (25, 26)."""
    first = harness.opened()
    key = harness.key("resumed")
    pieces = _pieces(harness.part_size(first), 2, "resumed")
    upload_id, [receipt] = _begin(first, key, pieces[:1])
    first.close()
    second = harness.opened()
    second_receipt = _send(second, key, upload_id, 2, pieces[1])
    listed = _listed(second, key, upload_id)
    receipts = [receipt, second_receipt] if listed is None else listed
    second.complete_upload(key, upload_id, receipts, _NO_OPTIONS)
    assert harness.read(key) == b"".join(pieces), "an upload goes on by its id, and listed receipts are good receipts"


# --- data ------------------------------------------------------------------------------------------------------------


@_covers(27)
def check_buffers_of_every_kind(harness: BackendHarness) -> None:
    """Pieces may be views of bytes, of a bytearray, of a part of either, and of any length (27)."""
    backend = harness.opened()
    data = filler(harness.part_size(backend), "buffers")
    padded = bytearray(b"(" + data + b")")
    bodies = {
        "bytes": PiecesBody(memoryview(data)),
        "a bytearray": PiecesBody(memoryview(bytearray(data))),
        "a slice": PiecesBody(memoryview(padded)[1:-1]),
        "a read-only view": PiecesBody(memoryview(padded)[1:-1].toreadonly()),
        "uneven pieces": PiecesBody(memoryview(data)[:1], memoryview(data)[1:3], memoryview(data)[3:]),
    }
    for name, body in bodies.items():
        key = harness.key(f"buffer-{name.replace(' ', '-')}")
        upload_id = backend.initiate_upload(key, _NO_OPTIONS)
        receipt = backend.upload_part(key, upload_id, 1, body)
        backend.complete_upload(key, upload_id, [receipt], _NO_OPTIONS)
        assert harness.read(key) == data, f"a part whose pieces are {name}"
        backend.put_object(key + "-put", body, _NO_OPTIONS)
        assert harness.read(key + "-put") == data, f"an object whose pieces are {name}"


@_covers(27, 28)
def check_pieces_are_not_kept(harness: BackendHarness) -> None:
    """A piece is valid until the next one is asked for; a body is read again from its start (27, 28)."""
    backend = harness.opened()
    data = filler(harness.part_size(backend), "pieces")
    body = TrickyBody(data, chunk_size=max(1, len(data) // 7))
    key = harness.key("pieces")
    upload_id = backend.initiate_upload(key, _NO_OPTIONS)
    backend.upload_part(key, upload_id, 1, body)
    receipt = backend.upload_part(key, upload_id, 1, body)
    backend.complete_upload(key, upload_id, [receipt], _NO_OPTIONS)
    assert harness.read(key) == data, "a piece is sent or copied before the next one is asked for"
    backend.put_object(key, body, _NO_OPTIONS)
    backend.put_object(key, body, _NO_OPTIONS)
    assert harness.read(key) == data, "put_object sends or copies a piece before it asks for the next"


@_covers(29)
def check_body_too_short(harness: BackendHarness) -> None:
    """A body that ends before its length is an error, and nothing is stored (29)."""
    _check_wrong_length(harness, -1)


@_covers(29)
def check_body_too_long(harness: BackendHarness) -> None:
    """A body that goes on beyond its length is an error, and nothing is stored (29)."""
    _check_wrong_length(harness, 1)


@_covers(30, 38)
def check_bodies_that_fail(harness: BackendHarness) -> None:
    """What a body raises passes through unchanged, be it at once or half-way, and nothing is stored (30, 38)."""
    backend = harness.opened()
    size = harness.part_size(backend)
    before = filler(size, "before")
    key = harness.key("failing-body")
    upload_id, receipts = _begin(backend, key, [before])
    for error in (SourceChanged("it was cut short"), _NotOfTheTree("a defect"), _Cancelled("stop")):
        for given in (b"", filler(size // 2, "half")):
            for operation in ("upload_part", "put_object"):
                body = TrickyBody(given, declared=size, error=error)
                duty = f"the body of {operation} raised {type(error).__name__} after {len(given)} of {size} bytes"
                try:
                    if operation == "upload_part":
                        backend.upload_part(key, upload_id, 1, body)
                    else:
                        backend.put_object(key, body, _NO_OPTIONS)
                except BaseException as raised:
                    assert raised is error, f"{duty}: it is to pass through unchanged, and {raised!r} came"
                else:
                    raise AssertionError(f"{duty}: it is to pass through, and the call returned")
                assert harness.read(key) is None, f"{duty}: no object was to be made"
                assert _listed(backend, key, upload_id) in (None, receipts), f"{duty}: the part before is to stand"
    _check_usable(harness, backend, key, upload_id, receipts, "bodies failed")
    assert harness.read(key) == before, "the part that was there before the bodies failed stands"


@_covers(31)
def check_checksums(harness: BackendHarness) -> None:
    """Where checksums are declared, they are the CRC-64/XZ of what is stored; elsewhere they are None (31)."""
    backend = harness.opened()
    capabilities = backend.capabilities
    key = harness.key("checksums")
    pieces = [filler(harness.part_size(backend), "checksums"), b"the last part"]
    upload_id, receipts = _begin(backend, key, pieces)
    for part in (*receipts, *(_listed(backend, key, upload_id) or [])):
        expected = slow_crc64(pieces[part.part_number - 1]) if capabilities.part_checksums else None
        assert part.crc64 == expected, f"part {part.part_number} has the checksum {part.crc64}, not {expected}"
    stored = backend.complete_upload(key, upload_id, receipts, _NO_OPTIONS)
    found = backend.head_object(key)
    expected = slow_crc64(b"".join(pieces)) if capabilities.object_checksums else None
    for what, described in (("complete_upload", stored), ("head_object", found)):
        assert described is not None, "there is an object"
        assert described.crc64 == expected, f"{what} gives the checksum {described.crc64}, not {expected}"
    stored = backend.put_object(key, TrickyBody(b"at once"), _NO_OPTIONS)
    assert stored.crc64 in (None, slow_crc64(b"at once")), "put_object gives the checksum of the object, or None"
    assert stored.crc64 is None or capabilities.object_checksums, "checksums of objects are not declared"


# --- keys and limits -------------------------------------------------------------------------------------------------


@_covers(32)
def check_strange_keys(harness: BackendHarness) -> None:
    """Strange keys name objects of their own, or are refused with InvalidKey as declared (32)."""
    backend = harness.opened()
    size = harness.part_size(backend)
    kept = {}
    for number, name in enumerate(_STRANGE_NAMES):
        key, data = harness.key(name), filler(size, number)
        if harness.refuses(key):
            for operation, call in _calls(backend, key, "none").items():
                if operation in {"initiate_upload", "put_object"}:
                    must_raise(InvalidKey, call, f"{operation} of {key!r}, which the backend is declared to refuse")
            continue
        upload_id, receipts = _begin(backend, key, [data])
        assert upload_id in _pending_ids(backend, key), f"{key!r} comes back as it was from list_uploads"
        stored = backend.complete_upload(key, upload_id, receipts, _NO_OPTIONS)
        assert stored.key == key, f"{key!r} comes back as it was from complete_upload, not {stored.key!r}"
        kept[key] = data
    for key, data in kept.items():
        assert harness.read(key) == data, f"{key!r} names an object of its own"
        found = backend.head_object(key)
        assert found is not None and found.key == key, f"{key!r} comes back as it was from head_object"  # noqa: PT018  # one fact
        backend.put_object(key, TrickyBody(key.encode()), _NO_OPTIONS)
    for key in kept:
        assert harness.read(key) == key.encode(), f"{key!r} names an object of its own for put_object too"


@_covers(35)
def check_part_too_small(harness: BackendHarness) -> None:
    """A part below `min_part_size` that is not the last is refused, and the upload stays usable (35)."""
    backend = harness.opened()
    least = backend.limits.min_part_size
    if least == 1:
        raise NotApplicable("no part is too small")
    key = harness.key("small")
    upload_id, receipts = _begin(backend, key, [filler(least - 1), filler(least)])
    must_raise(
        PartRejected,
        lambda: backend.complete_upload(key, upload_id, receipts, _NO_OPTIONS),
        f"part 1 has {least - 1} bytes, and min_part_size is {least}",
    )
    assert harness.read(key) is None, "a part that is too small makes no object"
    receipts[0] = _send(backend, key, upload_id, 1, filler(least))
    _check_usable(harness, backend, key, upload_id, receipts, "a part was too small")


@_covers(35)
def check_limits_are_within_reach(harness: BackendHarness) -> None:
    """The smallest and the largest part, and the highest part number, are accepted (35)."""
    backend = harness.opened()
    limits = backend.limits
    key = harness.key("limits")
    upload_id = backend.initiate_upload(key, _NO_OPTIONS)
    sizes = [size for size in (limits.min_part_size, limits.max_part_size) if size <= MIB]
    for size in sizes or [harness.part_size(backend)]:
        receipt = _send(backend, key, upload_id, limits.max_parts, filler(size))
        assert (receipt.part_number, receipt.size) == (limits.max_parts, size), "a part at the limits is a part"
        assert _listed(backend, key, upload_id) in (None, [receipt]), "a part at the limits is listed"


# --- failing ---------------------------------------------------------------------------------------------------------


@_covers(36, 37)
def check_failures_of_the_storage(harness: BackendHarness) -> None:
    """Each way in which the storage fails is the error of the tree that stands for it, from every method (36, 37)."""
    failing = {kind: backend for kind in _FAILURES if (backend := harness.open_failing(kind)) is not None}
    if not failing:
        raise NotApplicable("the harness can't make its storage fail: see BackendHarness.open_failing")
    for kind, backend in failing.items():
        try:
            for operation, call in _calls(backend, harness.key("failing"), "none").items():
                error = must_raise(kind, call, f"{operation} on a storage that fails by {kind.__name__}")
                assert error.retryable == kind.default_retryable, (
                    f"{kind.__name__} from {operation} is {'' if kind.default_retryable else 'not '}worth a retry"
                )
                if kind is ConnectionFailed:
                    assert error.__cause__ is not None, f"ConnectionFailed from {operation} has its cause"
        finally:
            backend.close()


@_covers(37)
def check_refusals_are_permanent(harness: BackendHarness) -> None:
    """What trying again can't mend is not retryable (37)."""
    backend = harness.opened()
    key = harness.key("permanent")
    upload_id = backend.initiate_upload(key, _NO_OPTIONS)
    never_sent = UploadedPart(1, harness.part_size(backend), "no-such-etag")
    errors: list[BackendError] = [
        must_raise(
            PartRejected,
            lambda: backend.complete_upload(key, upload_id, [never_sent], _NO_OPTIONS),
            "the part was never sent",
        ),
        must_raise(
            UploadNotFound,
            lambda: backend.upload_part(key, "no-such-upload", 1, TrickyBody(b"x")),
            "the id never was",
        ),
    ]
    if "forbid_overwrite" in backend.capabilities.options:
        backend.put_object(key, TrickyBody(b"x"), _NO_OPTIONS)
        forbid = ObjectOptions(forbid_overwrite=True)
        errors.append(
            must_raise(ObjectExists, lambda: backend.put_object(key, TrickyBody(b"y"), forbid), "there is an object")
        )
    for error in errors:
        assert not error.retryable, f"{type(error).__name__} is permanent: trying again can't mend it"


@_covers(39)
def check_lost_replies(harness: BackendHarness) -> None:
    """An operation took effect and its answer was lost: doing it again comes to the same end (39)."""
    backend = harness.opened()
    key, data = harness.key("lost"), filler(harness.part_size(backend), "lost")
    lost = FaultPlan([Fault(operation, FaultKind.AFTER) for operation in _CHANGING])
    faulty = FaultyBackend(backend, lost)

    def twice(action: Callable[[], object], operation: str) -> None:
        must_raise(ConnectionFailed, action, f"the first answer to {operation} is lost")
        action()

    with lost:
        must_raise(ConnectionFailed, lambda: faulty.initiate_upload(key, _NO_OPTIONS), "the answer is lost")
        orphans = _pending_ids(backend, key)
        assert len(orphans) == 1, "list_uploads finds an upload whose id nobody learned"
        upload_id = faulty.initiate_upload(key, _NO_OPTIONS)
        twice(lambda: faulty.abort_upload(key, orphans[0]), "abort_upload")
        assert _pending_ids(backend, key) == [upload_id], "aborting once more is fine, and touches no other upload"
        twice(lambda: faulty.upload_part(key, upload_id, 1, TrickyBody(data)), "upload_part")
        receipt = _send(backend, key, upload_id, 1, data)
        assert _listed(backend, key, upload_id) in (None, [receipt]), "sending a part once more leaves one part"
        must_raise(
            ConnectionFailed,
            lambda: faulty.complete_upload(key, upload_id, [receipt], _NO_OPTIONS),
            "the answer is lost",
        )
        _complete_or_none(faulty, key, upload_id, [receipt])
        assert harness.read(key) == data, "completing once more leaves the object"
        assert _stored_size(backend, key) == len(data), "head_object tells that the object was made"
        twice(lambda: faulty.put_object(key, TrickyBody(b"put"), _NO_OPTIONS), "put_object")
        assert harness.read(key) == b"put", "putting once more leaves the object"


@_covers(40)
def check_delays_change_nothing(harness: BackendHarness) -> None:
    """Through a wrapper that delays each call, everything is as without it (40)."""
    waited: list[float] = []
    plan = FaultPlan(
        [Fault(operation, FaultKind.DELAY, seconds=1.0) for operation in BACKEND_OPERATIONS], sleep=waited.append
    )
    backend = harness.opened()
    delayed = FaultyBackend(backend, plan)
    key, data = harness.key("delayed"), filler(harness.part_size(backend), "delayed")
    with plan:
        upload_id, receipts = _begin(delayed, key, [data])
        assert _listed(delayed, key, upload_id) in (None, receipts), "parts are listed"
        assert _pending_ids(delayed, key) == [upload_id], "uploads are listed"
        delayed.complete_upload(key, upload_id, receipts, _NO_OPTIONS)
        assert harness.read(key) == data, "the object is there"
        delayed.put_object(key, TrickyBody(b"put"), _NO_OPTIONS)
        assert _stored_size(delayed, key) == 3, "the object was replaced"
        delayed.abort_upload(key, upload_id)
        if not backend.capabilities.lists_parts:
            must_raise(UnsupportedOption, lambda: delayed.list_parts(key, upload_id), "list_parts is not supported")
    assert len(waited) == len(BACKEND_OPERATIONS), "each operation was delayed once"


# --- the suite as a test class ---------------------------------------------------------------------------------------


class BackendConformance:
    """
    The suite for pytest: subclass it under a name that begins with ``Test``, and set `harness`.

    There is a test method for each check, and one for the state machine, which needs hypothesis.
    """

    harness: ClassVar[Callable[[], BackendHarness]]
    """What makes a harness with an empty storage: the harness class itself, or any function."""

    def test_any_sequence_of_calls(self) -> None:
        """Hypothesis looks for a sequence of calls after which the backend and a model of it differ (41)."""
        from partwise.testing.stateful import backend_machine, run_machine

        make = type(self).harness
        with make() as harness:
            examples = harness.examples
        run_machine(backend_machine(make), examples)

    def test_declared_deviations_are_of_checks(self) -> None:
        """Each declared deviation is of a check that there is."""
        with type(self).harness() as harness:
            BACKEND_CHECKS.check_declarations(harness)


BACKEND_CHECKS.add_tests(BackendConformance)


# --- inside ----------------------------------------------------------------------------------------------------------

_CHANGING = ("initiate_upload", "upload_part", "complete_upload", "abort_upload", "put_object")
_FAILURES = (
    AccessDenied,
    BucketNotFound,
    ClockSkewed,
    ConnectionFailed,
    CredentialsExpired,
    ServerFailed,
    Throttled,
)
_UNKNOWN_IDS = ("no-such-upload", "0" * 32, "../..", "a/b", "ä b", "x" * 300)
_STRANGE_NAMES = (
    "plain.txt",
    "UPPER.txt",
    "upper.txt",
    "deep/er/and/deep/er",
    "slashes//doubled",
    "slashes/ends-with/",
    "/begins-with",
    "dots/./one",
    "dots/../two",
    "dots/..hidden",
    "back\\slash",
    "space s/ led and trailed ",
    "quotes'\"`",
    "percent%20%2F",
    "plus+and&=?#;:,@!$*()[]{}<>|^~",
    "umlaut/\u00e4\u00f6\u00fc",
    "umlaut/a\u0308o\u0308u\u0308",  # the same to the eye, other characters
    "\u6587\u4ef6/\U0001f4e6",
    "control/\x01\x7f",
    "line\nbreak\ttab",
    "long/" + "n" * 200,
)
_ACT_ON_REQUESTS = frozenset({"callback", "forbid_overwrite", "traffic_limit", "request_payer"})
_SAMPLES: Mapping[str, ObjectOptions] = {
    "content_type": ObjectOptions(content_type="text/x-sample"),
    "acl": ObjectOptions(acl="private"),
    "metadata": ObjectOptions(metadata={"sample": "value"}),
    "storage_class": ObjectOptions(storage_class="IA"),
    "tagging": ObjectOptions(tagging={"sample": "value"}),
    "forbid_overwrite": ObjectOptions(forbid_overwrite=True),
    "encryption": ObjectOptions(encryption="AES256"),
    "data_encryption": ObjectOptions(encryption="KMS", data_encryption="SM4"),
    "kms_key_id": ObjectOptions(encryption="KMS", kms_key_id="sample-key"),
    "cache_control": ObjectOptions(cache_control="no-cache"),
    "content_disposition": ObjectOptions(content_disposition='attachment; filename="sample"'),
    "content_encoding": ObjectOptions(content_encoding="gzip"),
    "content_language": ObjectOptions(content_language="en-GB"),
    "expires": ObjectOptions(expires="Thu, 01 Jan 2032 00:00:00 GMT"),
    "traffic_limit": ObjectOptions(traffic_limit=838_860_800),
    "request_payer": ObjectOptions(request_payer="requester"),
    "callback": ObjectOptions(callback=Callback(url="http://127.0.0.1:9/", body="key=${object}")),
}


class _NotOfTheTree(Exception):
    """What a defect in a source raises."""


class _Cancelled(BaseException):
    """What an event loop or a signal raises in the middle of anything."""


def _sample(name: str) -> ObjectOptions:
    return _SAMPLES[name]


def _pieces(part_size: int, count: int, seed: object) -> list[bytes]:
    """Parts of one size each but for the last, which is short."""
    whole = [filler(part_size, (seed, number)) for number in range(1, count)]
    return [*whole, filler(max(1, part_size // 3), (seed, count))]


def _send(backend: MultipartBackend, key: str, upload_id: str, number: int, data: bytes) -> UploadedPart:
    return backend.upload_part(key, upload_id, number, TrickyBody(data))


def _begin(backend: MultipartBackend, key: str, pieces: Sequence[bytes]) -> tuple[str, list[UploadedPart]]:
    """An upload with these parts."""
    upload_id = backend.initiate_upload(key, _NO_OPTIONS)
    return upload_id, [_send(backend, key, upload_id, number, data) for number, data in enumerate(pieces, start=1)]


def _upload(
    backend: MultipartBackend, key: str, data: bytes, options: ObjectOptions, part_size: int | None = None
) -> StoredObject:
    part_size = part_size or max(backend.limits.min_part_size, len(data) // 2 + 1)
    upload_id = backend.initiate_upload(key, options)
    receipts = [
        _send(backend, key, upload_id, number, data[begin : begin + part_size])
        for number, begin in enumerate(range(0, len(data), part_size), start=1)
    ]
    return backend.complete_upload(key, upload_id, receipts, options)


def _put(backend: MultipartBackend, key: str, data: bytes, options: ObjectOptions) -> StoredObject:
    return backend.put_object(key, TrickyBody(data), options)


def _listed(backend: MultipartBackend, key: str, upload_id: str) -> list[UploadedPart] | None:
    """The listed parts; None where the backend does not list parts."""
    return list(backend.list_parts(key, upload_id)) if backend.capabilities.lists_parts else None


def _numbers(parts: Iterator[UploadedPart] | Sequence[UploadedPart]) -> list[int]:
    return [part.part_number for part in parts]


def _pending_ids(backend: MultipartBackend, key: str) -> list[str]:
    pending: Iterator[PendingUpload] = iter(backend.list_uploads(key))
    return [upload.upload_id for upload in pending if upload.key == key]


def _stored_size(backend: MultipartBackend, key: str) -> int | None:
    found = backend.head_object(key)
    return None if found is None else found.size


def _need_list_parts(backend: MultipartBackend) -> None:
    if not backend.capabilities.lists_parts:
        raise NotApplicable("the backend does not list parts, as declared")


def _opened_with_page_size(harness: BackendHarness, page_size: int) -> MultipartBackend:
    backend = harness.open_with_page_size(page_size)
    if backend is None:
        raise NotApplicable("the size of a page can't be chosen: see BackendHarness.open_with_page_size")
    return backend


def _complete_or_none(
    backend: MultipartBackend, key: str, upload_id: str, receipts: Sequence[UploadedPart]
) -> StoredObject | None:
    try:
        return backend.complete_upload(key, upload_id, receipts, _NO_OPTIONS)
    except UploadNotFound:
        return None


def _check_usable(
    harness: BackendHarness,
    backend: MultipartBackend,
    key: str,
    upload_id: str,
    receipts: Sequence[UploadedPart],
    after: str,
) -> None:
    """Complete with the right receipts, which must still be possible after a refusal."""
    try:
        stored = backend.complete_upload(key, upload_id, receipts, _NO_OPTIONS)
    except PartwiseError as error:
        raise AssertionError(f"{after}: the upload is to stay usable, and completing it gave {error!r}") from error
    assert stored.size == sum(part.size for part in receipts), f"{after}: the upload is to stay usable"
    assert len(harness.read(key) or b"") == stored.size, f"{after}: the upload is to stay usable"


def _check_dead(
    backend: MultipartBackend, key: str, upload_id: str, receipts: Sequence[UploadedPart] | None, state: str
) -> None:
    """Every method takes the id for dead; completing is tried where there are receipts to try it with."""
    duty = f"the id is {state}"
    calls: list[Callable[[], object]] = [lambda: backend.upload_part(key, upload_id, 1, TrickyBody(b"x"))]
    if backend.capabilities.lists_parts:
        calls.append(lambda: list(backend.list_parts(key, upload_id)))
    if receipts is not None:
        calls.append(lambda: backend.complete_upload(key, upload_id, receipts, _NO_OPTIONS))
    for call in calls:
        error = must_raise(UploadNotFound, call, duty)
        assert not error.retryable, f"{duty}: UploadNotFound is permanent"


def _check_wrong_length(harness: BackendHarness, by: int) -> None:
    backend = harness.opened()
    size = harness.part_size(backend)
    before = filler(size, "before")
    key = harness.key("wrong-length")
    upload_id, receipts = _begin(backend, key, [before])
    declared = size - 1 if by > 0 else size
    body = TrickyBody(filler(declared + by, "wrong"), declared=declared)
    duty = f"a body of {declared} bytes gave {declared + by}"
    must_raise(PartwiseError, lambda: backend.upload_part(key, upload_id, 1, body), duty)
    assert _listed(backend, key, upload_id) in (None, receipts), f"{duty}: the part before is to stand"
    must_raise(PartwiseError, lambda: backend.put_object(key, body, _NO_OPTIONS), duty)
    assert harness.read(key) is None, f"{duty}: no object was to be made"
    _check_usable(harness, backend, key, upload_id, receipts, duty)
    assert harness.read(key) == before, f"{duty}: the part before is to stand"


def _calls(backend: MultipartBackend, key: str, upload_id: str) -> dict[str, Callable[[], object]]:
    """One call of each method, by name."""
    part = UploadedPart(1, 1, "etag")
    calls: dict[str, Callable[[], object]] = {
        "initiate_upload": lambda: backend.initiate_upload(key, _NO_OPTIONS),
        "upload_part": lambda: backend.upload_part(key, upload_id, 1, TrickyBody(b"x")),
        "list_parts": lambda: list(backend.list_parts(key, upload_id)),
        "complete_upload": lambda: backend.complete_upload(key, upload_id, [part], _NO_OPTIONS),
        "abort_upload": lambda: backend.abort_upload(key, upload_id),
        "list_uploads": lambda: list(backend.list_uploads()),
        "put_object": lambda: backend.put_object(key, TrickyBody(b"x"), _NO_OPTIONS),
        "head_object": lambda: backend.head_object(key),
    }
    if not backend.capabilities.lists_parts:
        del calls["list_parts"]
    return calls


def shown_options(options: ObjectOptions | None) -> dict[str, object]:
    """Options as `BackendHarness.options` gives them, for a back door that has an `ObjectOptions` to show."""
    return {} if options is None else asdict(options, recurse=False)
