"""The life of an upload: initiated, sent, listed, completed or aborted (7 to 26)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from attrs import evolve

from partwise.errors import ObjectExists, SourceChanged, UploadNotFound
from partwise.model import MIB, ObjectOptions, UploadedPart
from partwise.protocols import MultipartBackend, SupportsPipelining
from partwise.testing.conformance.backend_harness import (
    NO_OPTIONS,
    WAYS,
    BackendHarness,
    listed_parts,
    must_not_be_found,
    part_contents,
    pending_ids,
    put,
    skip_unless_lists_parts,
    skip_unless_supports,
    stored_size,
)
from partwise.testing.conformance.suite import NotApplicable, Suite, must_raise, must_return
from partwise.testing.fakes import StrictBody, pseudo_random_bytes
from partwise.testing.oracles import slow_crc64

CHECKS: Suite[BackendHarness] = Suite()

#: Ids that were never given out, some of them such that they must not be taken for a path.
UNKNOWN_IDS = ("no-such-upload", "0" * 32, "../..", "a/b", "ä b", "x" * 300)


# --- making an object ------------------------------------------------------------------------------------------------


@CHECKS.covers(7)
def check_complete(harness: BackendHarness) -> None:
    """Initiate, send, complete: the object is the parts in a row, and what is returned describes it (7)."""
    backend = harness.open_for_test()
    pieces = part_contents(harness.part_size(backend), 3, "complete")
    upload = harness.begin(backend, "object")
    parts = upload.send_all(pieces)
    described = [(part.part_number, part.size) for part in parts]
    assert described == [(n, len(piece)) for n, piece in enumerate(pieces, 1)], "a receipt has the number and the size"
    stored = upload.complete(parts)
    assert harness.read(upload.key) == b"".join(pieces), "the object is its parts by ascending number"
    assert (stored.key, stored.size) == (upload.key, sum(map(len, pieces))), "what is returned describes the object"
    assert not upload.is_pending(), "a completed upload is not pending"


@CHECKS.covers(7, 16)
def check_put_object(harness: BackendHarness) -> None:
    """`put_object` stores a whole object in place of what stood there; an empty one is fine (7, 8, 16)."""
    backend = harness.open_for_test()
    key = harness.key("put")
    for data in (b"one", b"another that is longer", b""):
        stored = backend.put_object(key, StrictBody(data), NO_OPTIONS)
        assert (stored.key, stored.size) == (key, len(data)), "what is returned describes the object"
        assert harness.read(key) == data, "the object is the body, whole"


@CHECKS.covers(7)
def check_head_object(harness: BackendHarness) -> None:
    """`head_object` describes an object as the call did that stored it, and is None where there is none (7)."""
    backend = harness.open_for_test()
    assert backend.head_object(harness.key("nothing")) is None, "head_object is None where there is no object"
    data = pseudo_random_bytes(harness.part_size(backend) + 1)
    for way, store in WAYS.items():
        stored = store(harness, backend, way, data)
        found = backend.head_object(harness.key(way))
        assert found is not None, f"there is an object, stored by {way}"
        described = (found.key, found.size, found.etag)
        assert described == (stored.key, len(data), stored.etag), f"head_object agrees with what {way} returned"


@CHECKS.covers(8)
def check_complete_without_parts(harness: BackendHarness) -> None:
    """Completing with no part is refused and leaves the upload usable, or makes an empty object, as declared (8)."""
    backend = harness.open_for_test()
    data = pseudo_random_bytes(harness.part_size(backend))
    upload = harness.begin(backend, "no-parts")
    part = upload.send(1, data)
    if harness.completes_without_parts:
        assert upload.complete([]).size == 0, "an object of no part is empty"
        assert harness.read(upload.key) == b"", "an object of no part is empty"
    else:
        upload.must_refuse([], "no part is named")
        upload.must_complete([part], data, "no part was named")


@CHECKS.covers(9)
def check_sizes_at_the_edges(harness: BackendHarness) -> None:
    """One byte, a byte less than a part, a part, a byte more, for several part sizes, by parts and by put (9)."""
    backend = harness.open_for_test()
    least, most = harness.part_size(backend), backend.limits.max_part_size
    for part_size in sorted({least, min(least + 1, most), min(3 * least // 2, max(least, MIB), most)}):
        for size in sorted({1, part_size - 1, part_size, part_size + 1, 2 * part_size, 2 * part_size + 1} - {0}):
            data = pseudo_random_bytes(size, (part_size, size))
            what = f"{size} bytes in parts of {part_size}"
            upload = harness.begin(backend, f"edge-{part_size}-{size}")
            parts = upload.send_all(data[at : at + part_size] for at in range(0, size, part_size))
            assert upload.complete(parts).size == size, f"{what}: the object was said to have another size"
            assert harness.read(upload.key) == data, f"{what}: the object is another"
            assert put(harness, backend, "edge", data).size == size, f"{size} bytes at once: another size"
            assert harness.read(harness.key("edge")) == data, f"{size} bytes at once: the object is another"


# --- sending ---------------------------------------------------------------------------------------------------------


@CHECKS.covers(10)
def check_parts_in_any_order(harness: BackendHarness) -> None:
    """Parts are sent backwards, or with gaps that are filled later; the object goes by number (10)."""
    backend = harness.open_for_test()
    pieces = part_contents(harness.part_size(backend), 4, "order")
    for order in ((4, 3, 2, 1), (1, 3, 4, 2)):
        upload = harness.begin(backend, f"order-{order[0]}")
        parts = {number: upload.send(number, pieces[number - 1]) for number in order}
        upload.complete([parts[number] for number in (1, 2, 3, 4)])
        assert harness.read(upload.key) == b"".join(pieces), f"sent in the order {order}, the object goes by number"


@CHECKS.covers(11)
def check_many_threads(harness: BackendHarness) -> None:
    """Parts of several uploads are sent by many threads at once, and none is lost or mixed up (11)."""
    backend = harness.open_for_test()
    size = harness.part_size(backend)
    with ThreadPoolExecutor(max_workers=8) as pool:
        uploads = list(pool.map(lambda n: harness.begin(backend, f"thread-{n}"), range(4)))
        assert len({upload.upload_id for upload in uploads}) == len(uploads), "every upload has an id of its own"
        pieces = {upload.key: part_contents(size, 4, upload.key) for upload in uploads}
        # One part of each upload at a time, so that neighbours in time belong to different uploads.
        jobs = [(upload, number) for number in (4, 2, 1, 3) for upload in uploads]
        sent = pool.map(lambda job: job[0].send(job[1], pieces[job[0].key][job[1] - 1]), jobs)
        parts = {(upload.key, number): part for (upload, number), part in zip(jobs, sent, strict=True)}
        done = pool.map(lambda upload: upload.complete([parts[upload.key, n] for n in (1, 2, 3, 4)]), uploads)
        assert [stored.key for stored in done] == [upload.key for upload in uploads], "each upload makes its own object"
    for key, expected in pieces.items():
        assert harness.read(key) == b"".join(expected), "parts that are sent at once are kept apart"


@CHECKS.covers(11)
def check_pipelined_parts(harness: BackendHarness) -> None:
    """Where parts can be begun, each is answered as if it were sent alone, in whatever order it is asked for (11)."""
    backend = harness.open_for_test()
    if not isinstance(backend, SupportsPipelining):
        raise NotApplicable("the backend does not offer SupportsPipelining")
    pieces = part_contents(harness.part_size(backend), 4, "begun")
    upload = harness.begin(backend, "begun")
    bodies = [StrictBody(piece) for piece in pieces]
    answers = [backend.begin_part(upload.key, upload.upload_id, n, body) for n, body in enumerate(bodies, 1)]
    assert [body.crc64 for body in bodies] == list(map(slow_crc64, pieces)), "begin_part reads the body to its end"
    error = SourceChanged("it was cut short")
    failing = StrictBody(b"", declared=len(pieces[1]), error=error)
    raised = must_raise(SourceChanged, "the body failed", backend.begin_part, upload.key, upload.upload_id, 2, failing)
    assert raised is error, "begin_part lets through unchanged what the body raises"

    def send_to_nothing() -> UploadedPart:
        return backend.begin_part(upload.key, "no-such-upload", 1, StrictBody(b"x"))()

    must_raise(UploadNotFound, "a part was begun of an upload that never was", send_to_nothing)
    parts = {number: answers[number - 1]() for number in (3, 1, 4, 2)}
    described = {number: (part.part_number, part.size) for number, part in parts.items()}
    expected = {number: (number, len(piece)) for number, piece in enumerate(pieces, 1)}
    assert described == expected, "each answer is the receipt of the part that it waits for"
    upload.must_hold([parts[number] for number in (1, 2, 3, 4)], "a begun part is there once it was answered")
    upload.complete([parts[number] for number in (1, 2, 3, 4)])
    assert harness.read(upload.key) == b"".join(pieces), "parts that are begun at once are kept apart"


@CHECKS.covers(12)
def check_part_sent_again(harness: BackendHarness) -> None:
    """The same part again is harmless: it is one part, and its last receipt counts (12)."""
    backend = harness.open_for_test()
    data = pseudo_random_bytes(harness.part_size(backend))
    upload = harness.begin(backend, "again")
    upload.send(1, data)
    part = must_return("a part can be sent again", upload.send, 1, data)
    upload.must_hold([part], "a part that was sent twice is one part")
    upload.complete([part])
    assert harness.read(upload.key) == data, "the object is the part, once"


@CHECKS.covers(12)
def check_part_replaced(harness: BackendHarness) -> None:
    """Other bytes under the same number replace the part: the last one stands, be it shorter (12)."""
    backend = harness.open_for_test()
    first, last = pseudo_random_bytes(harness.part_size(backend), "first"), b"the last one"
    upload = harness.begin(backend, "replaced")
    upload.send(1, first)
    part = upload.send(1, last)
    upload.must_hold([part], "only the last one of a number is listed")
    upload.complete([part])
    assert harness.read(upload.key) == last, "the last one of a number is in the object"


# --- completing ------------------------------------------------------------------------------------------------------


@CHECKS.covers(13)
def check_missing_part(harness: BackendHarness) -> None:
    """Naming a part that was never sent is a PartRejected, and the upload stays usable (13)."""
    backend = harness.open_for_test()
    pieces = part_contents(harness.part_size(backend), 2, "missing")
    upload = harness.begin(backend, "missing")
    part = upload.send(1, pieces[0])
    upload.must_refuse([part, evolve(part, part_number=2)], "part 2 was never sent")
    second = must_return("after a part was missing an upload stays usable", upload.send, 2, pieces[1])
    upload.must_complete([part, second], b"".join(pieces), "a part was missing")


@CHECKS.covers(13)
def check_unnamed_parts_are_dropped(harness: BackendHarness) -> None:
    """Parts that `complete_upload` does not name are not in the object (13)."""
    backend = harness.open_for_test()
    pieces = part_contents(harness.part_size(backend), 3, "unnamed")
    upload = harness.begin(backend, "unnamed")
    upload.complete(upload.send_all(pieces)[:2])
    assert harness.read(upload.key) == b"".join(pieces[:2]), "the object is made of the parts that were named"


@CHECKS.covers(14)
def check_stale_part(harness: BackendHarness) -> None:
    """The receipt of a part that was replaced since is refused, and the upload stays usable (14)."""
    backend = harness.open_for_test()
    old, new = (pseudo_random_bytes(harness.part_size(backend), age) for age in ("old", "new"))
    upload = harness.begin(backend, "stale")
    stale, part = upload.send(1, old), upload.send(1, new)
    upload.must_refuse([stale], "the part was sent again with other bytes")
    upload.must_complete([part], new, "a receipt was stale")


@CHECKS.covers(14)
def check_foreign_part(harness: BackendHarness) -> None:
    """The receipt of another upload is refused, and the upload stays usable (14)."""
    backend = harness.open_for_test()
    theirs, ours = (pseudo_random_bytes(harness.part_size(backend), whose) for whose in ("theirs", "ours"))
    foreign = harness.begin(backend, "foreign").send(1, theirs)
    upload = harness.begin(backend, "foreign")
    part = upload.send(1, ours)
    upload.must_refuse([foreign], "the receipt is of another upload")
    upload.must_complete([part], ours, "a receipt was foreign")


@CHECKS.covers(14)
def check_wrong_order(harness: BackendHarness) -> None:
    """Parts that do not ascend, or that are named twice, are refused, and the upload stays usable (14)."""
    backend = harness.open_for_test()
    pieces = [pseudo_random_bytes(harness.part_size(backend), n) for n in (1, 2)]
    upload = harness.begin(backend, "wrong-order")
    one, two = upload.send_all(pieces)
    upload.must_refuse([two, one], "part 1 is named after part 2")
    upload.must_refuse([one, one, two], "part 1 is named twice")
    upload.must_complete([one, two], b"".join(pieces), "the order was wrong")


@CHECKS.covers(15)
def check_invisible_until_complete(harness: BackendHarness) -> None:
    """No object is seen before `complete_upload`; one that stood there stands until then (15)."""
    backend = harness.open_for_test()
    data = pseudo_random_bytes(harness.part_size(backend))
    for before in (None, b"the one before"):
        name = f"invisible-{before is None}"
        if before is not None:
            put(harness, backend, name, before)
        upload = harness.begin(backend, name)
        assert harness.read(upload.key) == before, "initiate_upload leaves the object as it is"
        part = upload.send(1, data)
        assert harness.read(upload.key) == before, "upload_part leaves the object as it is"
        assert stored_size(backend, upload.key) == (None if before is None else len(before)), "head_object agrees"
        upload.complete([part])
        assert harness.read(upload.key) == data, "complete_upload puts the new object in place of the old"


@CHECKS.covers(16)
def check_replaced_atomically(harness: BackendHarness) -> None:
    """Whoever looks while objects are replaced sees one of them whole, and never none (16)."""
    backend = harness.open_for_test()
    size = harness.part_size(backend)
    versions = [pseudo_random_bytes(size + n, ("version", n)) for n in range(6)]
    put(harness, backend, "watched", versions[0])
    seen: set[bytes | None] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.add(harness.read(harness.key("watched")))

    with ThreadPoolExecutor(max_workers=1) as pool:
        watching = pool.submit(watch)
        try:
            for version in versions:
                for store in WAYS.values():
                    store(harness, backend, "watched", version)
        finally:
            done.set()
        watching.result()
    assert None not in seen, "an object that is replaced is there all the time"
    assert seen <= set(versions), "an object that is replaced is seen whole: the old one or the new one"


@CHECKS.covers(16, 36)
def check_forbid_overwrite(harness: BackendHarness) -> None:
    """Where overwriting is forbidden, ObjectExists comes of each way to store, and the object stays (16, 36)."""
    backend = harness.open_for_test()
    skip_unless_supports(backend, "forbid_overwrite")
    forbid = ObjectOptions(forbid_overwrite=True)
    data = pseudo_random_bytes(harness.part_size(backend))
    upload = harness.begin(backend, "forbidden", forbid)
    part = upload.send(1, data)
    put(harness, backend, "forbidden", b"was first", forbid)
    duty = "overwriting is forbidden, and there is an object"
    must_raise(ObjectExists, duty, put, harness, backend, "forbidden", b"late", forbid)
    must_raise(ObjectExists, duty, harness.begin, backend, "forbidden", forbid)
    must_raise(ObjectExists, duty, upload.complete, [part], forbid)
    assert harness.read(upload.key) == b"was first", f"{duty}: it stays"
    assert pending_ids(backend, upload.key) == [upload.upload_id], f"{duty}: no other upload was to be begun"
    upload.must_complete([part], data, "overwriting was refused")


@CHECKS.covers(19)
def check_complete_twice(harness: BackendHarness) -> None:
    """Completing once more gives the same object again or UploadNotFound, and never a second object (19)."""
    backend = harness.open_for_test()
    upload = harness.begin(backend, "twice")
    parts = [upload.send(1, pseudo_random_bytes(harness.part_size(backend)))]
    stored = upload.complete(parts)
    again = upload.complete_again(parts)
    assert again is None or (again.size, again.etag) == (stored.size, stored.etag), "the second answer is the first"
    put(harness, backend, "twice", b"newer")
    upload.complete_again(parts)
    assert harness.read(upload.key) == b"newer", "completing once more brings back no object that was replaced"


@CHECKS.covers(20)
def check_two_uploads_of_one_key(harness: BackendHarness) -> None:
    """Two uploads of one key have their own ids and parts; the one that is completed last stands (20)."""
    backend = harness.open_for_test()
    one, other = (pseudo_random_bytes(harness.part_size(backend), which) for which in ("one", "other"))
    first, second = harness.begin(backend, "two"), harness.begin(backend, "two")
    assert first.upload_id != second.upload_id, "each upload has an id of its own"
    first_part = must_return("a second upload of a key leaves the first", first.send, 1, one)
    second_part = second.send(1, other)
    assert first.is_pending() and second.is_pending(), "both are pending"  # noqa: PT018  # one fact
    first.must_hold([first_part], "each upload has parts of its own")
    second.complete([second_part])
    assert harness.read(first.key) == other, "an upload that is completed makes its own object"
    must_return("an upload outlives the other one of its key", first.complete, [first_part])
    assert harness.read(first.key) == one, "the one that is completed last stands"


# --- ending otherwise ------------------------------------------------------------------------------------------------


@CHECKS.covers(17)
def check_abort(harness: BackendHarness) -> None:
    """An aborted upload is gone with its parts, and no object was touched (17)."""
    backend = harness.open_for_test()
    put(harness, backend, "aborted", b"the one before")
    upload = harness.begin(backend, "aborted")
    parts = [upload.send(1, pseudo_random_bytes(harness.part_size(backend)))]
    upload.abort()
    assert not upload.is_pending(), "an aborted upload is not pending"
    upload.must_not_be_found("is aborted", parts)
    assert harness.read(upload.key) == b"the one before", "abort_upload touches no object"


@CHECKS.covers(18)
def check_abort_what_is_gone(harness: BackendHarness) -> None:
    """Aborting twice, after complete, or an id that never was is fine, and touches nothing (18)."""
    backend = harness.open_for_test()
    data = pseudo_random_bytes(harness.part_size(backend))
    aborted = harness.begin(backend, "gone")
    aborted.abort()
    must_return("aborting twice is fine", aborted.abort)
    completed = harness.begin(backend, "gone")
    completed.complete([completed.send(1, data)])
    must_return("aborting a completed upload is fine", completed.abort)
    assert harness.read(completed.key) == data, "aborting a completed upload leaves its object"
    other = harness.begin(backend, "gone")
    for unknown in UNKNOWN_IDS:
        must_return("aborting an id that never was is fine", backend.abort_upload, other.key, unknown)
    assert other.is_pending(), "aborting an id that never was leaves the other uploads"


@CHECKS.covers(21, 37)
def check_dead_ids(harness: BackendHarness) -> None:
    """An id that never was, or is completed, gives a permanent UploadNotFound from every method (21, 37)."""
    backend = harness.open_for_test()
    upload = harness.begin(backend, "dead")
    parts = [upload.send(1, pseudo_random_bytes(harness.part_size(backend)))]
    for unknown in UNKNOWN_IDS:
        must_not_be_found(backend, upload.key, unknown, "was never there", parts)
    upload.complete(parts)
    # Completing is left out: the same object again is as good an answer, see check_complete_twice.
    upload.must_not_be_found("is completed")


# --- listing and resuming --------------------------------------------------------------------------------------------


@CHECKS.covers(22, 24)
def check_list_parts(harness: BackendHarness) -> None:
    """The parts of an upload are listed at once, by ascending number, with what their receipts say (22, 24)."""
    backend = harness.open_for_test()
    skip_unless_lists_parts(backend)
    size = harness.part_size(backend)
    upload = harness.begin(backend, "parts")
    upload.must_hold([], "an upload without parts has an empty list")
    sent: dict[int, UploadedPart] = {}
    for number in (10, 2, 9, 1):  # as texts, "10" comes before "2"
        if number <= backend.limits.max_parts:
            sent[number] = upload.send(number, pseudo_random_bytes(size, number))
            upload.must_hold([sent[n] for n in sorted(sent)], "parts are listed at once, by ascending number")


@CHECKS.covers(22)
def check_list_uploads(harness: BackendHarness) -> None:
    """Pending uploads are listed by key, then id, with a time that has a zone, and only those below the prefix (22)."""
    backend = harness.open_for_test()
    uploads = [harness.begin(backend, name) for name in ("list/b", "list/a", "list/ab", "list/b", "list-not")]
    begun = sorted((upload.key, upload.upload_id) for upload in uploads)
    for prefix in (harness.key("list/"), harness.key("list/a")):
        listed = list(backend.list_uploads(prefix))
        expected = [place for place in begun if place[0].startswith(prefix)]
        assert [(pending.key, pending.upload_id) for pending in listed] == expected, (
            f"the uploads of keys that start with {prefix!r} are listed, each once, by key and then by id"
        )
        assert all(pending.initiated.tzinfo is not None for pending in listed), "initiated has a time zone"
    everywhere = {(pending.key, pending.upload_id) for pending in backend.list_uploads()}
    assert everywhere >= set(begun), "without a prefix every upload is listed"
    for upload in uploads:
        upload.abort()
    assert list(backend.list_uploads(harness.key("list"))) == [], "what was aborted is not listed"


@CHECKS.covers(23)
def check_pages_of_uploads(harness: BackendHarness) -> None:
    """Uploads are listed whole and in order whatever the size of a page, even if some come and go meanwhile (23)."""
    for page_size in (1, 2, 4):
        backend = _opened_with_page_size(harness, page_size)
        a, b, c, d = (harness.begin(backend, f"pages-{page_size}/{name}") for name in "abcd")
        listing = iter(backend.list_uploads(harness.key(f"pages-{page_size}/")))
        found = [next(listing)]
        b.abort()
        harness.begin(backend, f"pages-{page_size}/e")
        found.extend(listing)
        ids = [pending.upload_id for pending in found]
        what = f"with pages of {page_size}, and uploads that come and go"
        assert {a.upload_id, c.upload_id, d.upload_id} <= set(ids), f"{what}, none that stays is missed"
        assert len(ids) == len(set(ids)), f"{what}, each is listed once"
        assert found == sorted(found, key=lambda pending: (pending.key, pending.upload_id)), (
            f"{what}, they are in order"
        )


@CHECKS.covers(23)
def check_pages_of_parts(harness: BackendHarness) -> None:
    """Parts are listed whole and in order whatever the size of a page, even if another one comes meanwhile (23)."""
    for page_size in (1, 2, 4):
        backend = _opened_with_page_size(harness, page_size)
        skip_unless_lists_parts(backend)
        size = harness.part_size(backend)
        upload = harness.begin(backend, "pages")
        parts = {number: upload.send(number, pseudo_random_bytes(size, number)) for number in (1, 2, 4, 5)}
        upload.must_hold(list(parts.values()), f"with pages of {page_size}, all parts are listed")
        listing = iter(backend.list_parts(upload.key, upload.upload_id))
        numbers = [next(listing).part_number]
        upload.send(3, pseudo_random_bytes(size, 3))
        numbers += [part.part_number for part in listing]
        assert numbers in ([1, 2, 4, 5], [1, 2, 3, 4, 5]), (
            f"with pages of {page_size}, a part that comes hides no other"
        )


@CHECKS.covers(25, 26)
def check_resume_from_the_id(harness: BackendHarness) -> None:
    """A fresh handle carries on from the id alone, and receipts from `list_parts` complete the upload (25, 26)."""
    first = harness.open_for_test()
    pieces = part_contents(harness.part_size(first), 2, "resumed")
    upload = harness.begin(first, "resumed")
    parts = [upload.send(1, pieces[0])]
    first.close()
    upload.backend = harness.open_for_test()
    parts.append(upload.send(2, pieces[1]))
    if upload.backend.capabilities.lists_parts:
        parts = listed_parts(upload.backend, upload.key, upload.upload_id)
    upload.complete(parts)
    assert harness.read(upload.key) == b"".join(pieces), (
        "an upload goes on by its id; listed receipts are good receipts"
    )


@CHECKS.covers(26)
def check_parts_with_a_checksum(harness: BackendHarness) -> None:
    """Receipts are known by number and ETag: those in which the engine has noted a checksum are as good (26)."""
    backend = harness.open_for_test()
    pieces = part_contents(harness.part_size(backend), 2, "noted")
    upload = harness.begin(backend, "noted")
    parts = [
        part if part.crc64 is not None else evolve(part, crc64=slow_crc64(piece))
        for part, piece in zip(upload.send_all(pieces), pieces, strict=True)
    ]
    must_return("receipts are known by number and ETag, whatever else is noted in them", upload.complete, parts)
    assert harness.read(upload.key) == b"".join(pieces), "receipts with a checksum are good receipts"


def _opened_with_page_size(harness: BackendHarness, page_size: int) -> MultipartBackend:
    backend = harness.open_with_page_size(page_size)
    if backend is None:
        raise NotApplicable("the size of a page can't be chosen: see BackendHarness.open_with_page_size")
    return backend
